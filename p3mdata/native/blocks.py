"""Quantised JPEG coefficients of some blocks of a picture."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p3mdata.native.library import library

_BLOCK, _COEFS, _MOST_STEP = 8, 64, 4


@dataclass(frozen=True, eq=False)
class Transform:
    """What makes coefficients of pixels, the same for all pictures.

    Attributes:
        colours: int32 (3, 4): weights of R, G and B and what is added, in parts of 65536, of Y, Cb and Cr.
        cosines: int16 (8, 8): row by sample, column by frequency.
        lowest, highest: float64 (64): what coefficients are kept to.
        unit: What a sum of the transform is divided by beside the table.
    """

    colours: NDArray[np.int32]
    cosines: NDArray[np.int16]
    lowest: NDArray[np.float64]
    highest: NDArray[np.float64]
    unit: float

    def __post_init__(self) -> None:
        expected = {
            "colours": ((3, 4), np.int32), "cosines": ((_BLOCK, _BLOCK), np.int16),
            "lowest": ((_COEFS,), np.float64), "highest": ((_COEFS,), np.float64),
        }  # fmt: skip
        for name, (shape, kind) in expected.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != kind or not array.flags.c_contiguous:
                raise ValueError(f"{name} must be {np.dtype(kind)} {shape}")


def coefficients(
    pixels: NDArray[np.uint8],
    component: int,
    step: tuple[int, int],
    table: NDArray[np.uint16],
    places: NDArray[np.int32],
    transform: Transform,
) -> NDArray[np.int16] | None:
    """Coefficients (n, 64) of blocks of one component; None if there is no library.

    Args:
        pixels: HxWx3, or HxW of which there is one component; pixels of a row must lie side by side. Beyond them their
            last row and column are repeated.
        component: 0, 1 or 2.
        step: Pixels down and across, 1 to 4, that a sample is the mean of.
        table: Of quantisation, (64,), none 0.
        places: Rows and columns of the blocks, (n, 2).
        transform: How.

    Raises:
        ValueError: A shape, type or layout is another one, or a block begins beyond the pixels.
    """
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    # An empty picture has no steps.
    whole = not pixels.size or pixels.strides[1:] == ((3, 1) if pixels.ndim == 3 else (1,))
    if pixels.dtype != np.uint8 or not whole or channels not in (1, 3):
        raise ValueError(f"expected uint8 (h, w) or (h, w, 3) with whole rows, got {pixels.dtype} {pixels.shape}")
    if not all(1 <= length <= _MOST_STEP for length in step) or component not in range(3):
        raise ValueError(f"no component {component} of {step}")
    if table.shape != (_COEFS,) or not table.all() or places.dtype != np.int32 or places.shape[1:] != (2,):
        raise ValueError("expected a table of 64 and int32 (n, 2)")
    if len(places) and (places.min() < 0 or (places.max(0) * step * _BLOCK >= pixels.shape[:2]).any()):
        raise ValueError("a block begins beyond the pixels")
    if (native := library()) is None:
        return None
    places = np.ascontiguousarray(places)
    divisors = table.astype(np.float64) * transform.unit
    out = np.empty((len(places), _COEFS), np.int16)
    constants = (transform.colours[component], transform.cosines, divisors, transform.lowest, transform.highest)
    native.functions.p3m_blocks(
        *(native.level, ctypes.c_void_p(pixels.ctypes.data), ctypes.c_ssize_t(pixels.strides[0])),
        *(pixels.shape[0], pixels.shape[1], channels, *step),
        *(ctypes.c_void_p(array.ctypes.data) for array in (*constants, places)),
        *(ctypes.c_ssize_t(len(places)), ctypes.c_void_p(out.ctypes.data)),
    )
    return out
