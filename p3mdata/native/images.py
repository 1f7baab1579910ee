"""Images as networks take them."""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from p3mdata.native.library import library


def planes(rgb: NDArray[np.uint8], out: NDArray[np.float32], *, reverse: bool = False) -> bool:
    """The channels of an image, one after another, as floats in 0..255.

    Args:
        rgb: HxWx3; pixels of a row must lie side by side.
        out: (3, rows, columns), contiguous, at least as large; what the image does not cover becomes 0.
        reverse: Whether blue comes first.

    Returns:
        False if there is no library: nothing was written.

    Raises:
        ValueError: A shape, type or layout is another one.
    """
    height, width = size_of(rgb)
    if out.dtype != np.float32 or out.ndim != 3 or out.shape[0] != 3 or not out.flags.c_contiguous:
        raise ValueError(f"expected contiguous float32 (3, rows, columns), got {out.dtype} {out.shape}")
    rows, columns = out.shape[1:]
    if rows < height or columns < width:
        raise ValueError(f"an image of {width}x{height} does not fit into {columns}x{rows}")
    if (native := library()) is None:
        return False
    native.functions.p3m_planes(
        *(native.level, ctypes.c_void_p(rgb.ctypes.data), ctypes.c_ssize_t(rgb.strides[0]), height, width),
        *(ctypes.c_void_p(out.ctypes.data), rows, columns, int(reverse)),
    )
    return True


def size_of(rgb: NDArray[np.uint8]) -> tuple[int, int]:
    """Height and width of an image (h, w, 3) whose rows C can walk through.

    Raises:
        ValueError: Shape, type or layout is another one.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.strides[1:] != (3, 1):
        raise ValueError(f"expected uint8 (h, w, 3) with whole rows, got {rgb.dtype} {rgb.shape} {rgb.strides}")
    return rgb.shape[0], rgb.shape[1]
