"""Blocks of 8x8 samples made of pixels, transformed and quantised."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p3mdata.native.library import library

_COEFS = 64
_MOST = 4


@dataclass(frozen=True)
class Transform:
    """How samples become coefficients.

    Attributes:
        cosines: int32 [8, 8].
        divisors: float64 [64]: what sums of samples times two cosines each are divided by.
        lowest, highest: float64 [64]: bounds of the results.
    """

    cosines: NDArray[np.int32]
    divisors: NDArray[np.float64]
    lowest: NDArray[np.float64]
    highest: NDArray[np.float64]


def quantise(
    pixels: NDArray[np.uint8],
    weights: NDArray[np.int32],
    step: tuple[int, int],
    chosen: NDArray[np.bool_],
    transform: Transform,
) -> NDArray[np.int16] | None:
    """Quantised coefficients [n, 64] of the chosen blocks of one component, row after row.

    Args:
        pixels: uint8 RGB [height, width, 3], or [height, width] of a grey picture; those of a row lie side by side.
        weights: int32 [4]: of a pixel's bytes, and an offset, in units of 2**-16; unused for a grey picture.
        step: Pixels down and across that make a sample, at most 4.
        chosen: bool [block rows, block columns].
        transform: How samples become coefficients.

    Returns:
        None if there is no library.

    Raises:
        ValueError: A shape, type or layout is another one.
    """
    if (native := library()) is None:
        return None
    values = 3 if pixels.ndim == 3 else 1
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)) or not pixels.size:
        raise ValueError(f"expected uint8 pixels, grey or RGB, got {pixels.dtype} {pixels.shape}")
    if pixels.strides[1:] != ((3, 1) if values == 3 else (1,)):
        raise ValueError("pixels of a row do not lie side by side")
    if not all(1 <= side <= _MOST for side in step) or chosen.dtype != np.bool_ or chosen.ndim != 2:
        raise ValueError(f"expected a bool for each block of samples, got {step} and {chosen.dtype} {chosen.shape}")
    for array in (weights, transform.cosines):
        _check(array, np.int32, 4 if array is weights else _COEFS)
    for bounds in (transform.divisors, transform.lowest, transform.highest):
        _check(bounds, np.float64, _COEFS)
    chosen = np.ascontiguousarray(chosen)
    out = np.empty((np.count_nonzero(chosen), _COEFS), np.int16)
    native.functions.p3m_quantise(
        native.level,
        *(ctypes.c_void_p(pixels.ctypes.data), ctypes.c_ssize_t(pixels.strides[0]), *pixels.shape[:2], values),
        *(ctypes.c_void_p(weights.ctypes.data), *step, *chosen.shape, ctypes.c_void_p(chosen.ctypes.data)),
        *(
            ctypes.c_void_p(array.ctypes.data)
            for array in (transform.cosines, transform.divisors, transform.lowest, transform.highest, out)
        ),
    )
    return out


def exchange(plane: NDArray[np.int16], chosen: NDArray[np.bool_], others: NDArray[np.int16]) -> bool:
    """Exchange the chosen blocks of a plane [rows, columns, 64] with others [n, 64], row after row, both in place.

    Returns:
        False if there is no library, or the blocks of a row do not lie side by side: nothing was changed.

    Raises:
        ValueError: A shape or type is another one, or one of them cannot be written to.
    """
    if (native := library()) is None or plane.strides[1:] != (_COEFS * 2, 2):
        return False
    number = np.count_nonzero(chosen)
    for array, shape in ((plane, (*chosen.shape, _COEFS)), (others, (number, _COEFS))):
        if array.dtype != np.int16 or array.shape != shape or not array.flags.writeable:
            raise ValueError(f"expected int16 {shape} to write to, got {array.dtype} {array.shape}")
    if chosen.dtype != np.bool_ or not others.flags.c_contiguous:
        raise ValueError(f"expected bool and contiguous blocks, got {chosen.dtype} and {others.strides}")
    chosen = np.ascontiguousarray(chosen)
    native.functions.p3m_exchange(
        native.level,
        *(ctypes.c_void_p(plane.ctypes.data), ctypes.c_ssize_t(plane.strides[0]), *chosen.shape),
        *(ctypes.c_void_p(chosen.ctypes.data), ctypes.c_void_p(others.ctypes.data)),
    )
    return True


def _check(array: NDArray[Any], kind: type, size: int) -> None:
    if array.dtype != kind or array.size != size or not array.flags.c_contiguous:
        raise ValueError(f"expected {size} contiguous {np.dtype(kind)}, got {array.dtype} {array.shape}")
