"""The coefficients of a JPEG file where libjpeg-turbo keeps them, by calling the library that Pillow brings along.

No copy of them is made, so that reading and writing take as long as the entropy coding does. What a build of the
library looks like inside is public (libjpeg's interface of version 6.2, 64 bits) and tried once, on a small file; where
it is another one, or cannot be called, `opened` gives None, and `coefficients` goes by jpeglib, to the same bytes.

libjpeg takes for granted that a fatal error does not return. `p3mdata.native` jumps out of it where it is compiled, and
gives pixels along with coefficients. A Python function cannot jump out of C code: without that, calls run in a thread
of their own, which stays where it is for ever when the library gives up. That costs the memory of one picture and
happens once: afterwards this way is closed for the process. A file of which a picture was decoded does not come to it.
"""

from __future__ import annotations

import ctypes
import io
import json
import sys
import threading
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, _imaging, features

from p3mdata.imaging.jpeg.structure import inspect
from p3mdata.native.jpeg import CannotRead, JpegFile, coefficients_at, exchange, free, usable

Coefs = NDArray[np.int16]  # [block rows, block columns, 64]

_VERSION = 62
_DECOMPRESS, _COMPRESS, _ERRORS = 632, 520, 168  # sizes of the library's structures; it refuses others
_MEMORY = 1  # the memory manager's place in them, in pointers
_WARNINGS = 128  # the place of their number in the error handler, in bytes
_ERROR_EXIT, _OUTPUT_MESSAGE, _ACCESS = 0, 2, 8  # places of functions in the error handler and in the memory manager
_COEFS = 64

T = TypeVar("T")
_Handler = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_Access = ctypes.CFUNCTYPE(ctypes.c_void_p, *[ctypes.c_void_p] * 2, ctypes.c_uint, ctypes.c_uint, ctypes.c_int)
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "jpeg_std_error": (ctypes.c_void_p,),
    "jpeg_CreateDecompress": (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t),
    "jpeg_CreateCompress": (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t),
    "jpeg_mem_src": (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_ulong),
    "jpeg_mem_dest": (ctypes.c_void_p,) * 3,
    "jpeg_read_header": (ctypes.c_void_p, ctypes.c_int),
    "jpeg_read_coefficients": (ctypes.c_void_p,),
    "jpeg_copy_critical_parameters": (ctypes.c_void_p,) * 2,
    "jpeg_write_coefficients": (ctypes.c_void_p,) * 2,
    "jpeg_finish_compress": (ctypes.c_void_p,),
    "jpeg_destroy_compress": (ctypes.c_void_p,),
    "jpeg_destroy_decompress": (ctypes.c_void_p,),
}


class GaveUp(Exception):
    """The library met an error, or remarks on damage."""


class _Guard:
    """Runs calls so that a fatal error of the library ends them, and nothing else."""

    # Whether the library gave up once in this process.
    closed = False

    def __init__(self) -> None:
        self._over, self.failed = threading.Event(), False
        self._fatal, self._silent = _Handler(self._stay), _Handler(lambda common: None)

    def _stay(self, common: int) -> None:
        """The library must not come back from this."""
        self.failed = _Guard.closed = True
        self._over.set()
        threading.Event().wait()

    def attach(self, errors: int) -> None:
        """Have the library tell this object about its errors, and nobody of its warnings."""
        for place, handler in ((_ERROR_EXIT, self._fatal), (_OUTPUT_MESSAGE, self._silent)):
            _pointers(errors)[place] = ctypes.cast(handler, ctypes.c_void_p).value or 0

    def run(self, work: Callable[[], T]) -> T:
        """The result of some work.

        Raises:
            GaveUp: The library gave up; whatever the work held is lost.
        """
        results: list[T] = []
        raised: list[BaseException] = []

        def worked() -> None:
            try:
                results.append(work())
            except BaseException as exc:
                raised.append(exc)
            self._over.set()

        self._over.clear()
        threading.Thread(target=worked, daemon=True).start()
        self._over.wait()
        if self.failed:
            raise GaveUp
        if raised:
            raise raised[0]
        return results[0]


def _pointers(address: int) -> Any:
    return ctypes.cast(address, ctypes.POINTER(ctypes.c_void_p))


class _File:
    """A file in the library, from its decoding on; its memory is freed with this object."""

    def __init__(self, library: ctypes.CDLL, stream: bytes, rows: Sequence[int], blank: bool) -> None:
        self._library, self._guard, self._blank = library, _Guard(), blank
        self._errors, self._info = ctypes.create_string_buffer(_ERRORS), ctypes.create_string_buffer(_DECOMPRESS)
        self._created, self._arrays = False, 0
        self.addresses = self._guard.run(lambda: self._decode(stream, rows))

    def _start(self, info: Any, create: str, size: int) -> int:
        """The address of a buffer in which an object of the library was made."""
        address = ctypes.addressof(info)
        errors = self._library.jpeg_std_error(ctypes.addressof(self._errors))
        self._guard.attach(errors)
        _pointers(address)[0] = errors
        getattr(self._library, create)(address, _VERSION, size)
        return address

    def _decode(self, stream: bytes, rows: Sequence[int]) -> list[list[int]]:
        """Where the rows of blocks of each component begin."""
        info = self._start(self._info, "jpeg_CreateDecompress", _DECOMPRESS)
        self._created = True
        self._library.jpeg_mem_src(info, stream, len(stream))
        self._library.jpeg_read_header(info, 1)
        self._arrays = self._library.jpeg_read_coefficients(info)
        if not self._blank and ctypes.c_long.from_buffer(self._errors, _WARNINGS).value:
            # How damage is repaired is up to the version.
            raise GaveUp
        access, arrays = _Access(_pointers(_pointers(info)[_MEMORY])[_ACCESS]), _pointers(self._arrays)
        return [[_pointers(access(info, arrays[i], y, 1, 0))[0] for y in range(n)] for i, n in enumerate(rows)]

    def encoded(self) -> bytes:
        """A sequential file of the coefficients as they are now."""
        return self._guard.run(self._encode)

    def _encode(self) -> bytes:
        made, size, buffer = ctypes.c_void_p(), ctypes.c_ulong(), ctypes.create_string_buffer(_COMPRESS)
        info = self._start(buffer, "jpeg_CreateCompress", _COMPRESS)
        self._library.jpeg_mem_dest(info, ctypes.byref(made), ctypes.byref(size))
        self._library.jpeg_copy_critical_parameters(ctypes.addressof(self._info), info)
        self._library.jpeg_write_coefficients(info, self._arrays)
        self._library.jpeg_finish_compress(info)
        data = ctypes.string_at(made.value or 0, size.value)
        self._library.jpeg_destroy_compress(info)
        free(made)
        return data

    def __del__(self) -> None:
        if self._created and not self._guard.failed:
            self._library.jpeg_destroy_decompress(ctypes.addressof(self._info))


class _Coded(Protocol):
    def encoded(self) -> bytes: ...


class Opened:
    """A file whose entropy coding is decoded.

    Attributes:
        coefs: Of each component, in the library's memory; they cannot be written to.
    """

    coefs: list[Coefs]

    def __init__(
        self, library: ctypes.CDLL, stream: bytes, grids: Sequence[tuple[int, int]], blank: bool = False
    ) -> None:
        """Raises GaveUp where the library gives up, or remarks on damage."""
        self._file: _Coded
        if usable() is not None:
            try:
                file = JpegFile(library, stream, grids, blank)
            except CannotRead as exc:
                raise GaveUp from exc
            self._file, self._planes = file, [file.plane(i) for i in range(len(grids))]
        elif _Guard.closed:
            raise GaveUp
        else:
            guarded = _File(library, stream, [rows for rows, _ in grids], blank)
            self._planes = [_plane(guarded, *each) for each in zip(guarded.addresses, grids, strict=True)]
            self._file = guarded
        self.coefs = [plane.view() for plane in self._planes]
        for plane in self.coefs:
            plane.flags.writeable = False

    def pixels(self, size: tuple[int, int], rows: slice, columns: slice) -> NDArray[np.uint8] | None:
        """A part of a picture of that height and width, uint8 RGB [rows, columns, 3], or [rows, columns] of a grey one.

        None where it cannot be had, or the library remarks on something; also once some columns were asked for alone.
        """
        if not isinstance(self._file, JpegFile):
            return None
        try:
            return self._file.pixels(size, rows, columns, _skips())
        except CannotRead:
            return None

    def rewritten(self, chosen: Sequence[NDArray[np.bool_]], blocks: Sequence[NDArray[np.int16]]) -> bytes:
        """The file with other coefficients: sequential, with the standard Huffman tables.

        Args:
            chosen: bool [block rows, block columns] of each component.
            blocks: int16 [n, 64] of each component: what comes to these places, row after row.

        Raises:
            GaveUp: It cannot be encoded.
        """
        others = [np.array(new) for new in blocks]
        exchanged(self._planes, chosen, others)
        try:
            return self._encoded()
        finally:
            exchanged(self._planes, chosen, others)

    def _encoded(self) -> bytes:
        try:
            return self._file.encoded()
        except CannotRead as exc:
            raise GaveUp from exc

    def filled(self, coefs: Sequence[Coefs]) -> bytes:
        """The file with the coefficients of another one of its size, as `rewritten`.

        Raises:
            GaveUp: It cannot be encoded.
        """
        for plane, new in zip(self._planes, coefs, strict=True):
            plane[...] = new
        return self._encoded()

    def of_pixels(self, pixels: NDArray[np.uint8]) -> bytes | None:
        """A file of other pixels, uint8 RGB or grey as this one is, with its tables and sampling; None where it cannot
        be had."""
        if not isinstance(self._file, JpegFile):
            return None
        try:
            return self._file.of_pixels(pixels)
        except CannotRead:
            return None


def exchanged(planes: Sequence[Coefs], chosen: Sequence[NDArray[np.bool_]], others: Sequence[Coefs]) -> None:
    """Have blocks of planes and others change places."""
    for plane, which, other in zip(planes, chosen, others, strict=True):
        if not exchange(plane, which, other):
            kept = plane[which]
            plane[which] = other
            other[...] = kept


def _plane(file: _File, addresses: Sequence[int], grid: tuple[int, int]) -> Coefs:
    """The coefficients of a component, given where its rows begin.

    Raises:
        GaveUp: The rows do not lie one after another.
    """
    steps = set(np.diff(np.array(addresses, np.int64)).tolist())
    if len(steps) > 1:
        raise GaveUp
    return coefficients_at(file, addresses[0], grid, steps.pop() if steps else grid[1] * _COEFS * 2)


def opened(stream: bytes, grids: Sequence[tuple[int, int]], blank: bool = False) -> Opened | None:
    """A file in the library; None where this way is closed, or does not take the file.

    Args:
        stream: The whole file, whose headers are known to be in order.
        grids: Rows and columns of blocks of each component.
        blank: Headers without image data, to be `filled`.
    """
    library = _usable()
    if library is None:
        return None
    try:
        return Opened(library, stream, grids, blank)
    except GaveUp:
        return None


def encoded(pixels: NDArray[np.uint8], **options: Any) -> bytes | None:
    """The file that Pillow makes of pixels, without a copy of them; None where that cannot be had.

    Args:
        pixels: HxW (grey) or HxWx3 (RGB).
        options: `qtables`, `quality` and `subsampling`, as Pillow has them.
    """
    return _as_pillow(pixels, options) if usable() is not None and _encodes() else None


def _as_pillow(pixels: NDArray[np.uint8], options: dict[str, Any]) -> bytes | None:
    mode = "RGB" if pixels.ndim == 3 else "L"
    if (library := _usable()) is None or not pixels.flags.c_contiguous:
        return None
    # Tables and sampling are taken from a small file.
    small, grids = _small(mode, json.dumps(options))
    try:
        return Opened(library, small, grids).of_pixels(pixels)
    except (GaveUp, ValueError):
        # Pillow has words for what no file can hold.
        return None


@lru_cache(8)
def _small(mode: str, options: str) -> tuple[bytes, list[tuple[int, int]]]:
    """A file that Pillow makes, and rows and columns of blocks of its components; many photographs have its tables."""
    sink = io.BytesIO()
    Image.new(mode, (_COEFS, _COEFS)).save(sink, "JPEG", **json.loads(options))
    return sink.getvalue(), [part.grid for part in inspect(sink.getvalue()).components]


@cache
def _encodes() -> bool:
    """Whether small pictures become the files that Pillow makes of them."""
    ramp = np.arange(24 * 17 * 3, dtype=np.uint8)
    for pixels, sampling in ((ramp.reshape(17, 24, 3), 2), (ramp.reshape(17, 24, 3), 0), (ramp[: 17 * 24], 0)):
        picture, sink = pixels.reshape(17, 24, *pixels.shape[2:]), io.BytesIO()
        options = {"qtables": [[3] * _COEFS, [5] * _COEFS], "subsampling": sampling}
        Image.fromarray(picture).save(sink, "JPEG", **options)
        if _as_pillow(picture, options) != sink.getvalue():
            return False
    return True


@cache
def _skips() -> bool:
    """Whether the library leaves out rows of a file whose coefficients it keeps, which older ones did not know."""
    version = features.version_feature("libjpeg_turbo") or ""
    numbers = [int(part) for part in version.split(".") if part.isdigit()]
    return numbers >= [3, 0]


@cache
def _usable() -> ctypes.CDLL | None:
    """The library, or None where it cannot be called or does not do what it should."""
    if sys.maxsize <= 1 << 32:
        return None
    try:
        library = ctypes.CDLL(_imaging.__file__)
        for name, arguments in _SIGNATURES.items():
            getattr(library, name).argtypes = arguments
        library.jpeg_std_error.restype = library.jpeg_read_coefficients.restype = ctypes.c_void_p
        return library if _tried(library) else None
    except (OSError, AttributeError, GaveUp):
        return None


def _tried(library: ctypes.CDLL) -> bool:
    """Whether a small file comes out of the library as it should."""
    picture, sink = Image.new("L", (16, 8), 128), io.BytesIO()
    picture.paste(192, (8, 0, 16, 8))
    picture.save(sink, "JPEG", qtables=[[8] * 64])
    file = Opened(library, sink.getvalue(), [(1, 2)])
    wanted = np.zeros((1, 2, _COEFS), np.int16)
    wanted[0, 1, 0] = 64  # the mean of 64 values, times 8, quantised by 8
    if not np.array_equal(file.coefs[0], wanted):
        return False
    shown = file.pixels((8, 16), slice(0, 8), slice(0, 16))
    if shown is not None and not np.array_equal(shown, np.asarray(picture)):
        return False
    chosen, blocks = np.array([[True, False]]), wanted[:, 1]
    with Image.open(io.BytesIO(file.rewritten([chosen], [blocks]))) as written:
        return written.size == (16, 8) and written.getextrema() == (192, 192)
