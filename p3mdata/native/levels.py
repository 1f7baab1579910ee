"""How often each level occurs in a picture."""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from p3mdata.native.library import library

_LEVELS, _MOST_CHANNELS = 256, 4


def levels(pixels: NDArray[np.uint8]) -> NDArray[np.int64] | None:
    """How many of a picture's values have each level, int64 (256,).

    Args:
        pixels: HxW or HxWxC.

    Returns:
        None without the library, or where the values of a pixel do not lie side by side or are more than four.

    Raises:
        ValueError: Of another type.
    """
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
        raise ValueError(f"expected pixels of bytes, got {pixels.dtype} {pixels.shape}")
    native, channels = library(), pixels.shape[2] if pixels.ndim == 3 else 1
    if native is None or channels > _MOST_CHANNELS or (pixels.ndim == 3 and pixels.strides[2] != 1):
        return None
    found = np.zeros(_LEVELS, np.int64)
    native.functions.p3m_levels(
        *(native.level, ctypes.c_void_p(pixels.ctypes.data)),
        *(ctypes.c_ssize_t(pixels.strides[0]), ctypes.c_ssize_t(pixels.strides[1]), *pixels.shape[:2], channels),
        ctypes.c_void_p(found.ctypes.data),
    )
    return found
