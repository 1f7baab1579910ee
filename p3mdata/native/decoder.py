"""Sequential JPEG files of one scan: coefficients and pixels as libjpeg-turbo decodes them."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p3mdata.native.library import Library, library

_COEFS, _BLOCK = 64, 8
_MOST_SIDE = 65500
_MOST_TABLE = 255
_CODES, _LONGEST, _SYMBOLS = 2, 16, 256
# Blocks of a unit, down and across, of grey and of colours.
_GREY = ((1, 1),)
_COLOURS = tuple((luma, (1, 1), (1, 1)) for luma in ((1, 1), (1, 2), (2, 2)))
# Of fewer pixels, libjpeg does not interpolate.
_LEAST_WIDTH = 8


@dataclass(frozen=True, eq=False)
class Scan:
    """A file of one scan, as its headers tell it.

    Attributes:
        size: Height and width of the picture.
        factors: Of each component, blocks of a unit, down and across.
        tables: Their quantisation, uint16 (64,), row by row.
        codes: Huffman tables by 0 for DC or 1 for AC and a number: how many codes have 1 to 16 bits, and their symbols.
        chosen: Of each component, the numbers of its tables of DC and AC.
        interval: Units from one restart marker to the next; 0 without.
        data: What is coded.
    """

    size: tuple[int, int]
    factors: tuple[tuple[int, int], ...]
    tables: tuple[NDArray[np.uint16], ...]
    codes: Mapping[tuple[int, int], bytes]
    chosen: tuple[tuple[int, int], ...]
    interval: int
    data: bytes

    @property
    def units(self) -> tuple[int, int]:
        """Rows and columns of units."""
        down, across = (-(-side // (_BLOCK * by)) for side, by in zip(self.size, self.factors[0], strict=True))
        return down, across

    @property
    def grids(self) -> list[tuple[int, int]]:
        """Of each component, rows and columns of the blocks that show a part of the picture."""
        most, (height, width) = self.factors[0], self.size
        return [
            (-(-height * tall // (_BLOCK * most[0])), -(-width * wide // (_BLOCK * most[1])))
            for tall, wide in self.factors
        ]

    @property
    def known(self) -> bool:
        """Whether compiled code has a way for it."""
        shapes = [table.shape == (_COEFS,) and table.min() > 0 and table.max() <= _MOST_TABLE for table in self.tables]
        numbers = [(kind, of[kind]) for of in self.chosen for kind in (0, 1)]
        return (
            (self.factors == _GREY or self.factors in _COLOURS)
            and len(self.factors) == len(self.tables) == len(self.chosen)
            and all(shapes)
            and all(number in self.codes and number[1] < _CODES for number in numbers)
            and all(_LONGEST <= len(code) <= _LONGEST + _SYMBOLS for code in self.codes.values())
            and all(len(code) == _LONGEST + sum(code[:_LONGEST]) for code in self.codes.values())
            and 0 < self.size[0] <= _MOST_SIDE
            and _LEAST_WIDTH <= self.size[1] <= _MOST_SIDE
            and self.interval >= 0
        )


class _Code(ctypes.Structure):
    """As in decoder.c."""

    _fields_ = [("counts", ctypes.c_uint8 * _LONGEST), ("symbols", ctypes.c_uint8 * _SYMBOLS)]


class _Part(ctypes.Structure):
    """As in decoder.c."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("tall", "wide", "rows", "columns")),
        *(("coefs", ctypes.c_void_p), ("stride", ctypes.c_int64), ("table", ctypes.c_void_p)),
        *((name, ctypes.c_int32) for name in ("dc", "ac")),
    ]


class _Job(ctypes.Structure):
    """As in decoder.c."""

    _fields_ = [
        *(("data", ctypes.c_char_p), ("size", ctypes.c_int64)),
        *((name, ctypes.c_int32) for name in ("interval", "height", "width", "parts")),
        ("codes", ctypes.c_void_p * (2 * _CODES)),
        *((name, ctypes.c_int32) for name in ("top", "bottom", "left", "right")),
        *(("out", ctypes.c_void_p), ("out_stride", ctypes.c_int64)),
        *(("memory", ctypes.c_void_p), ("room", ctypes.c_int64)),
        ("part", _Part * 3),
    ]


def decodes() -> Library | None:
    """The library, where it decodes faster than libjpeg."""
    native = library()
    return native if native is not None and native.functions.p3m_decodes(native.level) else None


def decoded(
    scan: Scan, coefficients: bool, rows: slice | None = None, columns: slice | None = None
) -> tuple[list[NDArray[np.int16]], NDArray[np.uint8] | None] | None:
    """Coefficients and pixels of a file, in one pass.

    Args:
        scan: The file.
        coefficients: Whether these are wanted.
        rows, columns: Which pixels are; None for none.

    Returns:
        The coefficients of each component [block rows, block columns, 64], and uint8 RGB [rows, columns, 3], or [rows,
        columns] of a grey file. None where compiled code has no way for the file, or its data is not as encoders write
        it: libjpeg may know what to make of it.

    Raises:
        ValueError: Rows or columns are beyond the picture.
    """
    if (native := decodes()) is None or not scan.known:
        return None
    planes = [np.empty((*grid, _COEFS), np.int16) for grid in scan.grids] if coefficients else []
    shown = None if rows is None or columns is None else _empty(scan, rows, columns)
    return (planes, shown) if _run(native, scan, planes, shown, rows, columns, True) else None


def shown(scan: Scan, planes: Sequence[NDArray[np.int16]], rows: slice, columns: slice) -> NDArray[np.uint8] | None:
    """Pixels of coefficients that `decoded` gave for a file; otherwise as that.

    Raises:
        ValueError: Rows or columns are beyond the picture, or coefficients of another shape, type or layout.
    """
    if (native := decodes()) is None or not scan.known:
        return None
    shapes = [(*grid, _COEFS) for grid in scan.grids]
    if [plane.shape for plane in planes] != shapes or any(
        plane.dtype != np.int16 or not plane.flags.c_contiguous for plane in planes
    ):
        raise ValueError(f"expected coefficients int16 of {shapes}")
    made = _empty(scan, rows, columns)
    return made if _run(native, scan, planes, made, rows, columns, False) else None


def _empty(scan: Scan, rows: slice, columns: slice) -> NDArray[np.uint8]:
    if not all(0 <= part.start < part.stop <= side for part, side in zip((rows, columns), scan.size, strict=True)):
        raise ValueError(f"no rows {rows} and columns {columns} in a picture of {scan.size}")
    sides = rows.stop - rows.start, columns.stop - columns.start
    return np.empty(sides if len(scan.factors) == 1 else (*sides, len(scan.factors)), np.uint8)


def _run(
    native: Library,
    scan: Scan,
    planes: Sequence[NDArray[np.int16]],
    shown: NDArray[np.uint8] | None,
    rows: slice | None,
    columns: slice | None,
    from_data: bool,
) -> bool:
    job = _Job(height=scan.size[0], width=scan.size[1], parts=len(scan.factors), interval=scan.interval)
    if from_data:
        job.data, job.size = scan.data, len(scan.data)
    codes = {
        number: _Code.from_buffer_copy(code.ljust(_LONGEST + _SYMBOLS, b"\0")) for number, code in scan.codes.items()
    }
    for (kind, number), code in codes.items():
        if number < _CODES:
            job.codes[kind * _CODES + number] = ctypes.addressof(code)
    tables = [np.ascontiguousarray(table, np.uint16) for table in scan.tables]
    for number, (factor, grid, table, of) in enumerate(zip(scan.factors, scan.grids, tables, scan.chosen, strict=True)):
        part = job.part[number]
        (part.tall, part.wide), (part.rows, part.columns), (part.dc, part.ac) = factor, grid, of
        part.table = table.ctypes.data
        if planes:
            part.coefs, part.stride = planes[number].ctypes.data, planes[number].strides[0]
    if shown is not None and rows is not None and columns is not None:
        job.top, job.bottom, job.left, job.right = rows.start, rows.stop, columns.start, columns.stop
        job.out, job.out_stride = shown.ctypes.data, shown.strides[0]
    down, across = scan.units
    # Rows of units of samples and of coefficients, what is coded, and tables.
    intervals = down * across // scan.interval + 2 if scan.interval else 2
    wide = across * _BLOCK * scan.factors[0][1]
    memory = np.empty(200 * wide + 8 * intervals + len(scan.data) + (1 << 17), np.uint8)
    job.memory, job.room = memory.ctypes.data, memory.size
    return bool(native.functions.p3m_decode(native.level, ctypes.byref(job)))
