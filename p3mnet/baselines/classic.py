"""Trimap-based methods without training: those of pymatting, and four of our own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.dataset.foregrounds import load_pymatting
from p3mdata.errors import BrokenInput
from p3mdata.imaging.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from p3mnet.baselines import Alpha, Image, Method
from p3mnet.baselines.comprehensive import comprehensive_matting
from p3mnet.baselines.information_flow import information_flow_matting
from p3mnet.baselines.robust import robust_matting
from p3mnet.baselines.sampling import global_matting
from p3mnet.baselines.solving import solver_limits

# Names of pymatting's `estimate_alpha_*`.
_PYMATTING = {
    "closed-form": "cf",
    "knn": "knn",
    "learning-based": "lbdm",
    "large-kernel": "lkm",
    "random-walk": "rw",
    "shared": "sm",
}
# Our own; the version counts up when their results change.
_OWN: Mapping[str, tuple[Callable[[Image, Image], NDArray[Any]], str]] = {
    "global": (global_matting, "1"),
    "robust": (robust_matting, "1"),
    "comprehensive": (comprehensive_matting, "1"),
    "information-flow": (information_flow_matting, "1"),
}


class Classic(Method):
    """A classic method on pictures of a capped size.

    A picture with a longer side than `max_side` is solved smaller and its alpha enlarged; where the trimap knows, it
    speaks at full size. These methods take time and memory that grow faster than the number of pixels.

    Args:
        name: One of ours or of pymatting's, see the catalogue.
        max_side: Pixels.
    """

    def __init__(self, name: str, max_side: int) -> None:
        self.max_side = max_side
        self.solve: Callable[[Image, Image], NDArray[Any]]
        if name in _OWN:
            self.solve, version = _OWN[name]
        else:
            self.solve, version = _pymatting(_PYMATTING[name]), metadata.version("pymatting")
        self.identity: Mapping[str, Any] = {"method": name, "version": version, "max_side": max_side}

    def predict(self, image: Image, trimap: Image | None) -> Alpha:
        """See `Method.predict`."""
        assert trimap is not None
        return solve_small(self.solve, image, trimap, self.max_side)


def solve_small(solve: Callable[[Image, Image], NDArray[Any]], image: Image, trimap: Image, max_side: int) -> Alpha:
    """Alpha by a function of image and trimap that sees both with no side longer than `max_side`.

    Args:
        solve: Gives HxW in 0..1 for HxWx3 and HxW, which has known foreground, background and something unknown.
        image: RGB, HxWx3.
        trimap: HxW of 0, 128, 255.
        max_side: Pixels.

    Raises:
        BrokenInput: The trimap knows no foreground, or no background.
    """
    height, width = trimap.shape
    scale = min(1.0, max_side / max(height, width))
    small, areas = image, trimap
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        areas = np.asarray(cv2.resize(trimap, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
    known: NDArray[np.float32] = (trimap == FOREGROUND).astype(np.float32)
    if not (areas == UNKNOWN).any():
        return known
    for value, name in ((FOREGROUND, "foreground"), (BACKGROUND, "background")):
        if not (areas == value).any():
            raise BrokenInput("one_sided_trimap", f"has a trimap without known {name}, which this method needs.")
    alpha = np.asarray(solve(small, areas), np.float32)
    if scale < 1:
        alpha = np.asarray(cv2.resize(alpha, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    return np.where(trimap == UNKNOWN, np.clip(alpha, 0, 1), known).astype(np.float32)


def _pymatting(name: str) -> Callable[[Image, Image], NDArray[Any]]:
    estimate = getattr(load_pymatting(), f"estimate_alpha_{name}")

    def solve(image: Image, trimap: Image) -> NDArray[Any]:
        areas = np.where(trimap == UNKNOWN, 0.5, (trimap == FOREGROUND).astype(np.float64))
        with solver_limits():
            alpha: NDArray[Any] = estimate(image / 255, areas)
        return alpha

    return solve
