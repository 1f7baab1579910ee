"""What matched copy-and-paste chooses a source by: pose and tone of each face that facemasks were made of.

FACES/traits.jsonl has a row for each pair: facemask, pose (yaw, pitch, roll in degrees, or null where no landmarks are
found) and tone (mean of L*, a*, b* inside the facemask, and L* of its right half less that of its left one).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.base.jsonl import append_row, read_json, read_rows
from p3mdata.base.progress import Progress, silent
from p3mdata.celebamask.driver import PAIRS, SETTINGS
from p3mdata.errors import BrokenInput, RunFolderError
from p3mdata.faces.models import Models
from p3mdata.faces.pose import head_pose
from p3mdata.imaging import decode

TRAITS = "traits.jsonl"


def tone_of(rgb: NDArray[np.uint8], mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """Mean L*, a*, b* inside a mask, and by how much L* is higher in its right half than in its left one.

    A blurred face has nearly the same ones as the clear one, so that obfuscated targets need no record of them.

    Args:
        rgb: HxWx3.
        mask: HxW, with something in it.
    """
    rows, columns = np.nonzero(mask)
    window = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
    lab = cv2.cvtColor(rgb[window].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[mask[window]]
    right = columns - columns.min() >= (columns.max() - columns.min() + 1) / 2
    light = lab[right, 0].mean() - lab[~right, 0].mean() if right.any() and not right.all() else 0.0
    lightness, a, b = (float(value) for value in lab.mean(0))
    return lightness, a, b, float(light)


@dataclass(frozen=True)
class _Traits:
    """Of a face: rounded angles or None without landmarks, rounded tone or None where it cannot be read."""

    facemask: str
    pose: list[float] | None
    tone: list[float] | None


def write_traits(faces: Path, progress: Progress | None = None) -> dict[str, int]:
    """Write FACES/traits.jsonl, or go on with it.

    Args:
        faces: Folder of `p3mdata celeba-facemask`.
        progress: Gets the number of pairs; gives a function to call after each.

    Returns:
        Numbers of pairs, of faces with a pose, and of pictures that cannot be read.

    Raises:
        RunFolderError: The folder is not one of facemasks.
    """
    if not (faces / PAIRS).is_file():
        raise RunFolderError(f"{faces}: is no folder of facemasks. Give the one that celeba-facemask wrote.")
    settings = read_json(faces / SETTINGS).get("settings", {})
    images, path = Path(str(settings.get("source", ""))), faces / TRAITS
    rows = read_rows(path, torn_tail=True, needs=("facemask", "pose", "tone"))
    done = {row["facemask"]: _Traits(row["facemask"], row["pose"], row["tone"]) for row in rows}
    pairs = list(read_rows(faces / PAIRS))
    step = (progress or silent)(len(pairs))
    models = Models()
    try:
        for pair in pairs:
            if pair["facemask"] not in done:
                traits = _traits(models, images / pair["image"], faces / pair["facemask"], pair["facemask"])
                append_row(path, vars(traits))
                done[pair["facemask"]] = traits
            step()
    finally:
        models.close()
    found = [done[pair["facemask"]] for pair in pairs]
    return {
        "pairs": len(found),
        "with_pose": sum(traits.pose is not None for traits in found),
        "unreadable": sum(traits.tone is None for traits in found),
    }


def _traits(models: Models, image: Path, facemask: Path, name: str) -> _Traits:
    nothing = _Traits(name, None, None)
    try:
        rgb = decode(image.read_bytes()).rgb8()
        mask = decode(facemask.read_bytes()).pixels
    except (BrokenInput, OSError):
        return nothing
    grey = mask if mask.ndim == 2 else mask[..., 0]
    whole = cv2.resize(grey, rgb.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT) > 127
    if not whole.any():
        return nothing
    rows, columns = np.nonzero(whole)
    meshes = list(_meshes(models, rgb))
    pose = None
    if meshes:
        mesh = min(meshes, key=lambda points: float(np.hypot(*(points.mean(0) - (columns.mean(), rows.mean())))))
        pose = [round(angle, 1) for angle in head_pose(mesh)]
    return _Traits(name, pose, [round(value, 2) for value in tone_of(rgb, whole)])


def _meshes(models: Models, rgb: NDArray[np.uint8]) -> Iterator[NDArray[np.float64]]:
    for face in models().find(rgb).faces:
        mesh = face.mesh()
        if mesh is not None:
            yield mesh
