"""Images at other sizes: each pixel a weighted mean of some that lie side by side."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p3mdata.native.images import size_of
from p3mdata.native.library import library

# What the weights of one pixel add up to.
ONE = 256
# How many numbers C may read beyond the last of a row.
_ROOM = 8


@dataclass(frozen=True, eq=False)
class Taps:
    """What the rows or the columns of an image are made of.

    Attributes:
        side: Rows or columns of the image that they are taken from.
        first: The first one that each is made of, int32 (n,).
        weights: Those of it and of what follows, 0 to `ONE` and `ONE` together, int16 (n, 2) or (n, 4).

    Raises:
        ValueError: They do not fit each other.
    """

    side: int
    first: NDArray[np.int32]
    weights: NDArray[np.int16]

    def __post_init__(self) -> None:
        count, taps = self.weights.shape
        wrong = self.first.dtype != np.int32 or self.weights.dtype != np.int16 or self.first.shape != (count,)
        if wrong or taps not in (2, 4) or not self.first.flags.c_contiguous or not self.weights.flags.c_contiguous:
            raise ValueError(f"expected int32 (n,) and int16 (n, 2 or 4), got {self.first.shape} {self.weights.shape}")
        if not count or self.first.min() < 0 or self.first.max() + taps > self.side:
            raise ValueError(f"a row or column lies beyond the {self.side} that there are")
        if self.weights.min() < 0 or (self.weights.sum(1) != ONE).any():
            raise ValueError(f"weights do not add up to {ONE}")

    def part(self, begin: int, end: int) -> Taps:
        """Those of some of the rows or columns."""
        return Taps(self.side, self.first[begin:end], self.weights[begin:end])


def sampled(rgb: NDArray[np.uint8], rows: Taps, columns: Taps) -> NDArray[np.uint8] | None:
    """An image at another size, HxWx3: means are rounded once, to the nearest integer, halves up.

    Args:
        rgb: HxWx3; pixels of a row must lie side by side.
        rows, columns: What those of the result are made of.

    Returns:
        None if there is no library.

    Raises:
        ValueError: The image is of another size or layout.
    """
    if size_of(rgb) != (rows.side, columns.side) or rows.weights.shape[1] != columns.weights.shape[1]:
        raise ValueError(f"rows and columns are not those of an image of {rgb.shape[1]}x{rgb.shape[0]}")
    if (native := library()) is None:
        return None
    taps = columns.weights.shape[1]
    begin, end = int(columns.first.min()), int(columns.first.max()) + taps
    out = np.empty((len(rows.first), len(columns.first), 3), np.uint8)
    line, place = np.empty(3 * (end - begin) + _ROOM, np.int16), np.empty(len(columns.first), np.int32)
    tables = (rows.first, rows.weights, columns.first, columns.weights)
    native.functions.p3m_sampled(
        *(native.level, ctypes.c_void_p(rgb.ctypes.data), ctypes.c_ssize_t(rgb.strides[0])),
        *(ctypes.c_void_p(out.ctypes.data), out.shape[0], out.shape[1], taps),
        *(ctypes.c_void_p(table.ctypes.data) for table in tables),
        *(begin, end, ctypes.c_void_p(line.ctypes.data), ctypes.c_void_p(place.ctypes.data)),
    )
    return out
