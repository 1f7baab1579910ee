"""Markers in JPEG files."""

from __future__ import annotations

import ctypes

from p3mdata.native.library import library


def scan_end(data: bytes, at: int) -> int | None:
    """Where entropy-coded data ends that goes on at a place: at the first of the bytes of 255 of a marker that is no
    restart marker. The file's size where there is none, None without the library.

    Raises:
        ValueError: The place is beyond the file.
    """
    if not 0 <= at <= len(data):
        raise ValueError(f"{at} is no place in {len(data)} bytes")
    if (native := library()) is None:
        return None
    native.functions.p3m_scan_end.restype = ctypes.c_int64
    places = ctypes.c_int64(len(data)), ctypes.c_int64(at)
    return int(native.functions.p3m_scan_end(native.level, ctypes.c_char_p(data), *places))


def count(marker: int, data: bytes) -> int | None:
    """How often a marker's two bytes occur, wherever that is; None without the library."""
    if (native := library()) is None:
        return None
    native.functions.p3m_markers.restype = ctypes.c_int64
    size = ctypes.c_int64(len(data))
    return int(native.functions.p3m_markers(native.level, ctypes.c_char_p(data), size, marker))
