"""Trimaps of a folder, by the names of their pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p3mdata.errors import BrokenInput
from p3mdata.imaging.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from p3mnet.image_files import BadFile, read_grey


def trimap_of_picture(folder: Path, name: str, size: tuple[int, ...]) -> NDArray[np.uint8]:
    """The trimap of a picture: its name with the ending .png in place of its own, or behind it.

    Args:
        folder: Of trimaps.
        name: Of the picture, relative to its folder.
        size: Height and width of the picture.

    Returns:
        HxW of 0 (background), 128 (unknown), 255 (foreground).

    Raises:
        BrokenInput: There is none, or it has other values or another size.
    """
    wanted = folder / name
    path = next((file for file in (wanted.with_suffix(".png"), Path(f"{wanted}.png")) if file.is_file()), None)
    if path is None:
        raise BrokenInput("no_trimap", f"has no trimap {Path(name).with_suffix('.png')} in {folder}.")
    try:
        found = read_grey(path)
    except BadFile as exc:
        raise BrokenInput("bad_trimap", f"has a trimap that cannot be used: {exc}") from exc
    if found.shape != size:
        raise BrokenInput("trimap_size", f"has a trimap of {found.shape[1]}x{found.shape[0]} pixels, not its own size.")
    if not np.isin(found, (BACKGROUND, UNKNOWN, FOREGROUND)).all():
        raise BrokenInput("trimap_values", "has a trimap with other values than 0, 128 and 255.")
    return found
