"""Sequential JPEG files of one scan: what is coded in them, as libjpeg-turbo writes it."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from p3mdata.native.decoder import Scan
from p3mdata.native.library import library

_COEFS = 64
_LONGEST, _SYMBOLS, _NO_CODE = 16, 256, 128
# A file with the standard Huffman tables is seldom larger than its source by more.
_ROOM = 1 << 16
_ORDER = 1 << 15


class _Part(ctypes.Structure):
    """As in encoder.c."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("tall", "wide", "rows", "columns")),
        *(("coefs", ctypes.c_void_p), ("stride", ctypes.c_int64)),
        *((name, ctypes.c_void_p) for name in ("dc", "ac")),
    ]


class _Job(ctypes.Structure):
    """As in encoder.c."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("height", "width", "parts")),
        *(("out", ctypes.c_void_p), ("size", ctypes.c_int64)),
        *(("memory", ctypes.c_void_p), ("room", ctypes.c_int64)),
        ("part", _Part * 3),
    ]


@functools.lru_cache(8)
def _codes(code: bytes) -> NDArray[np.uint32]:
    """Of each symbol its code, and below that how many bits it has."""
    # Not even no code has no bits.
    made, following, place = np.full(_SYMBOLS, _NO_CODE | 1, np.uint32), 0, _LONGEST
    for length, count in enumerate(code[:_LONGEST], 1):
        for symbol in code[place : place + count]:
            made[symbol] = following << 8 | length
            following += 1
        place += count
        following <<= 1
    return made


def encoded(scan: Scan, planes: Sequence[NDArray[np.int16]]) -> bytes | None:
    """What is coded in a file of some coefficients, without restart markers.

    Args:
        scan: The file, of which its own data does not count.
        planes: The coefficients of each component [block rows, block columns, 64].

    Returns:
        None where compiled code has no way for it, or a coefficient has no code.

    Raises:
        ValueError: Coefficients of another shape, type or layout.
    """
    if (native := library()) is None or not native.functions.p3m_encodes(native.level) or not scan.known:
        return None
    shapes = [(*grid, _COEFS) for grid in scan.grids]
    if [plane.shape for plane in planes] != shapes or any(
        plane.dtype != np.int16 or not plane.flags.c_contiguous for plane in planes
    ):
        raise ValueError(f"expected coefficients int16 of {shapes}")
    job, tables = _Job(height=scan.size[0], width=scan.size[1], parts=len(planes)), []
    for number, (factor, grid, plane, of) in enumerate(zip(scan.factors, scan.grids, planes, scan.chosen, strict=True)):
        part = job.part[number]
        (part.tall, part.wide), (part.rows, part.columns) = factor, grid
        part.coefs, part.stride = plane.ctypes.data, plane.strides[0]
        tables += [_codes(scan.codes[kind, of[kind]]) for kind in (0, 1)]
        part.dc, part.ac = (table.ctypes.data for table in tables[-2:])
    memory = np.empty(_ORDER, np.uint8)
    job.memory, job.room = memory.ctypes.data, memory.size
    native.functions.p3m_encode.restype = ctypes.c_int64
    for times in (1, 4, 16):
        out = np.empty(len(scan.data) * 5 // 4 * times + _ROOM, np.uint8)
        job.out, job.size = out.ctypes.data, out.size
        size = native.functions.p3m_encode(native.level, ctypes.byref(job))
        if size >= 0:
            return out[:size].tobytes().replace(b"\xff", b"\xff\0")
    return None
