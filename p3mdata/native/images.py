"""Images that C walks through."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def size_of(rgb: NDArray[np.uint8]) -> tuple[int, int]:
    """Height and width of an image (h, w, 3) whose rows C can walk through.

    Raises:
        ValueError: Shape, type or layout is another one.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.strides[1:] != (3, 1):
        raise ValueError(f"expected uint8 (h, w, 3) with whole rows, got {rgb.dtype} {rgb.shape} {rgb.strides}")
    return rgb.shape[0], rgb.shape[1]
