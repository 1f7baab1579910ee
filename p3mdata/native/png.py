"""Rows of PNG files."""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from p3mdata.native.library import library


def unfiltered(filtered: NDArray[np.uint8], rows: int, step: int) -> NDArray[np.uint8] | None:
    """Pixels' bytes of rows as PNG files hold them, each behind a byte that names its filter.

    Args:
        filtered: All bytes of the rows.
        rows: How many they are.
        step: Bytes of a pixel.

    Returns:
        rows x (bytes of a row) uint8; None if there is no library, or a filter is unknown.

    Raises:
        ValueError: That many bytes are not that many rows of whole pixels.
    """
    if (native := library()) is None:
        return None
    size = filtered.size // rows - 1 if rows > 0 else 0
    if size < 1 or step < 1 or size % step or filtered.size != rows * (1 + size) or not filtered.flags.c_contiguous:
        raise ValueError(f"{filtered.size} bytes are not {rows} rows of pixels of {step} bytes")
    pixels, zeros = np.empty((rows, size), np.uint8), np.zeros(size, np.uint8)
    done: int = native.functions.p3m_unfilter(
        native.level,
        ctypes.c_void_p(filtered.ctypes.data),
        *(ctypes.c_ssize_t(rows), ctypes.c_ssize_t(size), step),
        *(ctypes.c_void_p(zeros.ctypes.data), ctypes.c_void_p(pixels.ctypes.data)),
    )
    return pixels if done == rows else None
