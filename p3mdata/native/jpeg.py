"""JPEG files in libjpeg, called from C: a fatal error of it ends the call, and nothing else."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p3mdata.native.library import Library, library

# Of libjpeg, in the order of `Functions` in jpeg.c.
FUNCTIONS = (
    *("jpeg_std_error", "jpeg_CreateDecompress", "jpeg_mem_src", "jpeg_read_header", "jpeg_start_decompress"),
    *("jpeg_consume_input", "jpeg_read_coefficients", "jpeg_start_output", "jpeg_read_scanlines"),
    *("jpeg_skip_scanlines", "jpeg_crop_scanline", "jpeg_finish_output", "jpeg_destroy_decompress"),
    *("jpeg_CreateCompress", "jpeg_mem_dest", "jpeg_copy_critical_parameters", "jpeg_write_coefficients"),
    *("jpeg_finish_compress", "jpeg_destroy_compress"),
    *("jpeg_start_compress", "jpeg_write_scanlines"),
)
_COEFS = 64
_MOST_SIDE = 65500
# Pixels beyond columns that are asked for: more than a block of coarse colour reaches.
_MARGIN = 32
# A file with the standard Huffman tables is seldom larger than its source by more.
_ROOM = 1 << 16


class CannotRead(Exception):
    """libjpeg gives up on a file, or remarks on damage."""


class JpegFile:
    """A file whose entropy coding is decoded; its memory is freed with this object.

    Args:
        libjpeg: The loaded library.
        stream: The whole file, whose headers are known to be in order.
        grids: Rows and columns of blocks of each component.
        blank: The file lacks its image data: all coefficients are 0.

    Raises:
        CannotRead: The library gives up, or remarks on damage; or nothing is compiled here.
    """

    def __init__(
        self, libjpeg: ctypes.CDLL, stream: bytes, grids: Sequence[tuple[int, int]], blank: bool = False
    ) -> None:
        native = usable()
        if native is None:
            raise CannotRead
        if not 1 <= len(grids) <= 3 or not all(0 < side <= _MOST_SIDE for grid in grids for side in grid):
            raise ValueError(f"expected one to three components of a picture, got {grids}")
        self._native, self._stream, self._grids = native, stream, grids
        self._functions = _addresses(libjpeg)
        self._file = ctypes.create_string_buffer(native.functions.p3m_jpeg_size(native.level))
        self._begin, self._strides = (ctypes.c_void_p * 3)(), (ctypes.c_ssize_t * 3)()
        rows = (ctypes.c_int * 3)(*[rows for rows, _ in grids])
        self._call(
            "p3m_jpeg_open", ctypes.c_char_p(stream), ctypes.c_size_t(len(stream)), int(blank), len(grids), rows,
            self._begin, self._strides,
        )  # fmt: skip
        # Of another size than the headers were taken to tell: arrays would reach beyond its memory.
        least = [columns * _COEFS * 2 for _, columns in grids]
        if any(stride and stride < length for stride, length in zip(self._strides, least, strict=False)):
            raise CannotRead

    def _call(self, name: str, *arguments: Any) -> None:
        if not getattr(self._native.functions, name)(self._native.level, self._functions, self._file, *arguments):
            raise CannotRead

    def plane(self, number: int) -> NDArray[np.int16]:
        """Coefficients of a component [block rows, block columns, 64], where the library keeps them."""
        rows, columns = self._grids[number]
        stride = self._strides[number] or columns * _COEFS * 2
        return coefficients_at(self, self._begin[number] or 0, (rows, columns), stride)

    def pixels(self, size: tuple[int, int], rows: slice, columns: slice, skip: bool = True) -> NDArray[np.uint8]:
        """Pixels of a part of the picture, [rows, columns, 3] or of a grey one [rows, columns].

        Args:
            size: Height and width of the picture.
            rows, columns: Which.
            skip: Whether what is above and beside is left out; else it is decoded as well. Where something beside is,
                no more pixels can be had afterwards.

        Raises:
            CannotRead: The library gives up, or remarks on something.
        """
        height, width = size
        values = len(self._grids)
        if values == 2 or not all(
            0 <= part.start < part.stop <= side <= _MOST_SIDE for part, side in ((rows, height), (columns, width))
        ):
            raise ValueError(f"no rows {rows} and columns {columns} in a picture of {size}")
        # What is beside is interpolated from other samples at the border of what is decoded.
        first, last = max(0, columns.start - _MARGIN), min(width, columns.stop + _MARGIN)
        left, decoded = ctypes.c_uint(first), ctypes.c_uint(last - first)
        out = np.empty((rows.stop - rows.start, width, values), np.uint8)
        self._call(
            "p3m_jpeg_pixels", rows.start, len(out), values, int(skip), ctypes.byref(left), ctypes.byref(decoded),
            ctypes.c_void_p(out.ctypes.data), ctypes.c_ssize_t(width * values),
        )  # fmt: skip
        begin = left.value if skip and last - first < width else 0
        shown = out[:, columns.start - begin : columns.stop - begin]
        return shown if values > 1 else shown[:, :, 0]

    def encoded(self) -> bytes:
        """A sequential file of the coefficients as they are now, with the standard Huffman tables.

        Raises:
            CannotRead: The library gives up.
        """
        return self._written("p3m_jpeg_encode", len(self._stream) * 5 // 4)

    def of_pixels(self, pixels: NDArray[np.uint8]) -> bytes:
        """A sequential file of other pixels, with this one's tables and sampling and the standard Huffman tables.

        Args:
            pixels: HxWx3 (RGB) where this file has three components, HxW (grey) where it has one; those of a row must
                lie side by side.

        Raises:
            CannotRead: The library gives up.
            ValueError: Another shape, type or layout.
        """
        values = len(self._grids)
        shape, steps = ((values,), (values, 1)) if values > 1 else ((), (1,))
        fits = pixels.dtype == np.uint8 and pixels.ndim == 2 + len(shape) and pixels.shape[2:] == shape
        if values == 2 or not fits or pixels.strides[1:] != steps:
            raise ValueError(f"expected whole rows of {values} bytes a pixel, got {pixels.dtype} {pixels.shape}")
        height, width = pixels.shape[:2]
        if not (0 < height <= _MOST_SIDE and 0 < width <= _MOST_SIDE):
            raise ValueError(f"a file cannot hold {width}x{height} pixels")
        of_them = ctypes.c_void_p(pixels.ctypes.data), ctypes.c_ssize_t(pixels.strides[0]), height, width, values
        return self._written("p3m_jpeg_write", pixels.size // 4, *of_them)

    def _written(self, name: str, expected: int, *arguments: Any) -> bytes:
        room = np.empty(expected + _ROOM, np.uint8)
        made, size = ctypes.c_void_p(room.ctypes.data), ctypes.c_ulong(len(room))
        self._call(name, *arguments, ctypes.byref(made), ctypes.byref(size))
        if made.value == room.ctypes.data:
            return room[: size.value].tobytes()
        data = ctypes.string_at(made.value or 0, size.value)
        free(made)
        return data

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._native.functions.p3m_jpeg_close(self._native.level, self._functions, self._file)


class _Memory:
    """Tells numpy where an array lies; the array keeps this, and with it the file."""

    def __init__(self, file: object, address: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self._file = file
        kind = np.dtype(np.int16).str
        self.__array_interface__ = {
            "version": 3, "typestr": kind, "data": (address, False), "shape": shape, "strides": strides,
        }  # fmt: skip


def coefficients_at(file: object, address: int, grid: tuple[int, int], stride: int) -> NDArray[np.int16]:
    """Coefficients [block rows, block columns, 64] in memory that lasts as long as `file`; rows are `stride` bytes
    apart."""
    return np.asarray(_Memory(file, address, (*grid, _COEFS), (stride, _COEFS * 2, 2)))


def free(address: ctypes.c_void_p) -> None:
    """Give back memory that libjpeg allocated.

    By the process, whose allocator may be another one (LD_PRELOAD) than that of what libjpeg was linked with.
    """
    ctypes.CDLL(None).free(address)


def usable() -> Library | None:
    """The compiled library, where it can call libjpeg."""
    native = library()
    if native is None:
        return None
    native.functions.p3m_jpeg_size.restype = ctypes.c_size_t
    return native if native.functions.p3m_jpeg_size(native.level) else None


def _addresses(libjpeg: ctypes.CDLL) -> ctypes.Array[ctypes.c_void_p]:
    found = [ctypes.cast(getattr(libjpeg, name), ctypes.c_void_p).value for name in FUNCTIONS]
    return (ctypes.c_void_p * len(found))(*found)


def differing(one: NDArray[np.int16], other: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Which blocks of two planes [rows, columns, 64] differ, bool [rows, columns].

    Raises:
        ValueError: A shape, type or layout is another one.
    """
    for plane in (one, other):
        if plane.shape != one.shape or plane.ndim != 3 or plane.dtype != np.int16 or plane.shape[2] != _COEFS:
            raise ValueError(f"expected int16 [rows, columns, 64], got {plane.dtype} {plane.shape}")
    native = library()
    whole = all(plane.strides[1:] == (2 * _COEFS, 2) for plane in (one, other))
    if native is None or not whole:
        return np.asarray((one != other).any(axis=2))
    out = np.empty(one.shape[:2], np.bool_)
    native.functions.p3m_blocks_differ(
        native.level,
        *(ctypes.c_void_p(one.ctypes.data), ctypes.c_ssize_t(one.strides[0])),
        *(ctypes.c_void_p(other.ctypes.data), ctypes.c_ssize_t(other.strides[0])),
        *(*one.shape[:2], ctypes.c_void_p(out.ctypes.data)),
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
