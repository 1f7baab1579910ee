"""Where the trimaps of a network that needs them come from, picture by picture: a folder, or another network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p3mdata.errors import SettingsError
from p3mnet.model import MattingNetwork, folded
from p3mnet.predict import open_network, predict_trimap
from p3mnet.trimap_files import trimap_of_picture

# Gives the trimap of a picture, by its name below the folder and its colours; None for networks that need none.
TrimapFinder = Callable[[str, NDArray[np.uint8]], NDArray[np.uint8] | None]


def trimap_finder(
    model: MattingNetwork, images: Path, trimaps: Path | None, network: Path | None, max_side: int
) -> TrimapFinder:
    """What finds the trimaps of a network.

    Args:
        model: The network that is to see pictures.
        images: Folder of the pictures.
        trimaps: Folder of trimaps (0, 128, 255) of the pictures' names.
        network: Instead, weights of a network that finds trimaps itself.
        max_side: Longest side that this one sees.

    Raises:
        SettingsError: It needs trimaps and there are none, or there are and it needs none.
    """
    given = [option for option, value in (("--trimaps", trimaps), ("--trimap-network", network)) if value is not None]
    name = model.config.name
    if not model.needs_trimap:
        if given:
            raise SettingsError(f"{name} needs no trimap: leave {given[0]} out.")
        return lambda path, rgb: None
    if len(given) != 1:
        raise SettingsError(f"{name} needs a trimap of each picture: give --trimaps FOLDER, or --trimap-network FILE.")
    if network is not None:
        finder = folded(open_network(network)).to(next(model.parameters()).device)
        if finder.one_alpha:
            raise SettingsError(f"--trimap-network: {finder.config.name} tells no trimap; P3M-Net and GFM do.")
        return lambda path, rgb: predict_trimap(finder, rgb, max_side)
    assert trimaps is not None
    if not trimaps.is_dir():
        raise SettingsError(f"{trimaps}: is no folder. Give a folder of trimaps.")
    return lambda path, rgb: trimap_of_picture(trimaps, path, rgb.shape[:2])
