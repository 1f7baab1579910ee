"""e to the power of numbers, computed by the C library."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p3mdata.native.library import library

# Beyond it a float has no full precision.
MOST = 87.0


def exponentials(values: NDArray[Any]) -> NDArray[Any] | None:
    """Of float32 or float64 of any shape, -MOST to MOST, in the same type; None without the library.

    Raises:
        ValueError: They have another type, or are larger.
    """
    if values.dtype not in (np.float32, np.float64) or not (np.abs(values) <= MOST).all():
        raise ValueError(f"expected float32 or float64 up to {MOST}, got {values.dtype}")
    if (native := library()) is None:
        return None
    given = np.ascontiguousarray(values)
    out = np.empty_like(given)
    functions = native.functions
    function = functions.p3m_exponentials if given.dtype == np.float32 else functions.p3m_exponentials_of_doubles
    function(
        native.level,
        ctypes.c_void_p(given.ctypes.data),
        ctypes.c_ssize_t(given.size),
        ctypes.c_void_p(out.ctypes.data),
    )
    return out.reshape(values.shape)
