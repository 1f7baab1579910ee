"""Trimap-based methods without training: those of pymatting, and global sampling of our own."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.errors import BrokenInput
from p3mdata.imaging.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from p3mnet.baselines import Alpha, Image, Method
from p3mnet.baselines.sampling import global_matting

# Names of pymatting's `estimate_alpha_*`.
_PYMATTING = {
    "closed-form": "cf",
    "knn": "knn",
    "learning-based": "lbdm",
    "large-kernel": "lkm",
    "random-walk": "rw",
    "shared": "sm",
}
_NOT_SOLVED = "did not converge"


class Classic(Method):
    """A classic method on pictures of a capped size.

    A picture with a longer side than `max_side` is solved smaller and its alpha enlarged; where the trimap knows, it
    speaks at full size. These methods take time and memory that grow faster than the number of pixels.

    Args:
        name: "global" or one of pymatting's, see the catalogue.
        max_side: Pixels.
    """

    def __init__(self, name: str, max_side: int) -> None:
        self.max_side = max_side
        self.solve: Callable[[Image, Image], NDArray[Any]]
        if name == "global":
            self.solve, version = global_matting, "1"
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
    # It tells of its own compilation.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        import pymatting
    estimate = getattr(pymatting, f"estimate_alpha_{name}")

    def solve(image: Image, trimap: Image) -> NDArray[Any]:
        areas = np.where(trimap == UNKNOWN, 0.5, (trimap == FOREGROUND).astype(np.float64))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                alpha: NDArray[Any] = estimate(image / 255, areas)
                return alpha
        except ValueError as exc:
            if _NOT_SOLVED in str(exc):
                raise BrokenInput("not_solved", "leads to equations that were not solved within their limit.") from exc
            raise

    return solve
