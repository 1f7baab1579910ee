"""Quantised coefficients in and out of JPEG data: where `library` holds them, else through jpeglib's C binding.

jpeglib works on files and talks to the terminal. The bytes of a photograph stay in memory where the
system allows it (anonymous memory files on Linux); elsewhere the library is handed a file in a private
folder that is removed at once. Its warnings are muted.
"""

from __future__ import annotations

import ctypes
import io
import os
import platform
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from p3mdata.errors import SetupError
from p3mdata.imaging.jpeg.library import Coefs, GaveUp, Opened, opened
from p3mdata.imaging.jpeg.scan import OneScan
from p3mdata.imaging.jpeg.segments import APP0, DHT, DQT, FRAMES, SOS, Segment, UnsupportedJpeg, join, split
from p3mdata.imaging.jpeg.structure import COEFS, COLOUR, GREY, ZIGZAG, Component, Structure

MAX_AC, MIN_DC, MAX_DC = 1023, -1024, 1023  # what 8-bit Huffman coding can express, DC differences included


_WIDEST_BYTE = 255
_JFIF = Segment(APP0, b"JFIF\0" + bytes((1, 1, 0, 0, 1, 0, 1, 0, 0)))


def read_coefficients(
    structure: Structure, to_write: bool = True, with_pixels: bool = False, by_libjpeg: bool = False
) -> tuple[list[Coefs], Opened | OneScan | None]:
    """Decode the entropy coding of a file whose headers are in order.

    Args:
        structure: of the file.
        to_write: whether coefficients that nobody could write again are refused.
        with_pixels: whether pixels of the whole picture will be asked for.
        by_libjpeg: whether code of our own is not to read it.

    Returns:
        The coefficients, not to be written to, and the file they lie in where `rewrite` can be used.

    Raises:
        UnsupportedJpeg: the library gives up on the data, or the coefficients are refused.
    """
    file: Opened | OneScan | None = None if by_libjpeg else OneScan.of(structure, with_pixels)
    if file is None and structure.plain:
        file = opened(structure.stream, [c.grid for c in structure.components])
    coefs = _copied(structure) if file is None else file.coefs
    # AC values of `OneScan` are within bounds.
    looked_at = [c[..., 0] for c in coefs] if isinstance(file, OneScan) else coefs
    if to_write and not all(_expressible(c) for c in looked_at):
        raise UnsupportedJpeg("coefficients out of range")
    return coefs, file


def _copied(structure: Structure) -> list[Coefs]:
    """`read_coefficients` by jpeglib."""
    coefs = [np.zeros((*c.grid, COEFS), np.int16) for c in structure.components]
    with _scratch(structure.stream) as path, _muted():
        status = _library().read_jpeg_dct(os.fsencode(path), *_four(coefs), None, None)
    if status == 0:
        raise UnsupportedJpeg("damaged image data")
    return coefs


def _expressible(coefs: Coefs) -> bool:
    low, high = coefs.min(), coefs.max()
    if low < -MAX_AC:  # as only a DC value may be
        return bool(low >= MIN_DC and high <= MAX_DC and (coefs.ndim < 3 or coefs[..., 1:].min() >= -MAX_AC))
    return bool(high <= MAX_DC)


def rewrite(
    file: Opened | OneScan,
    size: tuple[int, int],
    components: list[Component],
    chosen: Sequence[NDArray[np.bool_]],
    blocks: Sequence[NDArray[np.int16]],
) -> bytes | None:
    """What `write_coefficients` gives for the coefficients of a file with some blocks exchanged; None if it cannot.

    Args:
        file: the file.
        size, components: as for `write_coefficients`.
        chosen: bool [block rows, block columns] of each component.
        blocks: [n, 64] of each component, row after row.
    """
    if isinstance(file, OneScan):
        return _of_one_scan(file, size, components, chosen, blocks)
    try:
        return _headed(file.rewritten(chosen, blocks), size, components)
    except (GaveUp, UnsupportedJpeg):
        return None


def _headed(written: bytes, size: tuple[int, int], components: list[Component]) -> bytes:
    """A file that libjpeg wrote, with the headers that all files get."""
    tables, slots = _tables(components)
    return join([_JFIF, *_quantisation(tables), *_about(list(split(written)), size, components, slots)])


def _of_one_scan(
    file: OneScan,
    size: tuple[int, int],
    components: list[Component],
    chosen: Sequence[NDArray[np.bool_]],
    blocks: Sequence[NDArray[np.int16]],
) -> bytes | None:
    """`rewrite`, of which nothing is written by libjpeg."""
    # Grey has those of brightness alone.
    huffman = _standard_tables()[: 2 * min(2, len(components))]
    scan = file.rewritten(chosen, blocks, huffman)
    return None if scan is None else join([_JFIF, *_sequential(size, components, huffman, scan)])


def _sequential(
    size: tuple[int, int], components: list[Component], huffman: list[Segment], data: bytes
) -> Iterator[Segment]:
    """The segments of a file of one scan, but for what goes before them."""
    tables, slots = _tables(components)
    yield from _quantisation(tables)
    yield _frame(0xC1 if any(table.max() > _WIDEST_BYTE for table in tables) else 0xC0, size, components, slots)
    yield from huffman
    numbers = zip(range(1, 1 + len(components)), (0x00, 0x11, 0x11), strict=False)
    head = bytes((len(components), *(value for pair in numbers for value in pair), 0, COEFS - 1, 0))
    yield Segment(SOS, head, data)


def _filled(size: tuple[int, int], components: list[Component], coefs: list[Coefs]) -> bytes | None:
    """`write_coefficients` where the library can be called: into a file of that size without image data."""
    stream = join(_sequential(size, components, _standard_tables(), b""))
    file = opened(stream, [c.grid for c in components], blank=True)
    try:
        return None if file is None else _headed(file.filled(coefs), size, components)
    except (GaveUp, UnsupportedJpeg):
        return None


@cache
def _standard_tables() -> list[Segment]:
    """The Huffman tables that libjpeg writes when it is told none."""
    sink = io.BytesIO()
    Image.new("RGB", (1, 1)).save(sink, "JPEG")
    return [segment for segment in split(sink.getvalue()) if segment.marker == DHT]


def _frame(marker: int, size: tuple[int, int], components: list[Component], slots: list[int]) -> Segment:
    parts = ((i + 1, part.factor[1] << 4 | part.factor[0], slots[i]) for i, part in enumerate(components))
    head = bytes((8, *size[0].to_bytes(2, "big"), *size[1].to_bytes(2, "big"), len(components)))
    return Segment(marker, head + bytes(value for part in parts for value in part))


def _quantisation(tables: list[NDArray[np.uint16]]) -> Iterator[Segment]:
    for slot, table in enumerate(tables):
        wide = bool(table.max() > _WIDEST_BYTE)
        values = table[ZIGZAG].astype(">u2" if wide else "u1")
        yield Segment(DQT, bytes((wide << 4 | slot,)) + values.tobytes())


def _about(
    written: list[Segment], size: tuple[int, int], components: list[Component], slots: list[int]
) -> Iterator[Segment]:
    """The frame, the Huffman tables and the scan that libjpeg wrote, told in our own numbers."""
    for segment in written:
        if segment.marker in FRAMES:
            yield _frame(segment.marker, size, components, slots)
        elif segment.marker == SOS:
            yield _renumbered(segment)
        elif segment.marker == DHT:
            yield segment


def _tables(components: list[Component]) -> tuple[list[NDArray[np.uint16]], list[int]]:
    """Quantisation tables, equal ones once, and the number of that of each component."""
    tables: list[NDArray[np.uint16]] = []
    slots = []
    for part in components:
        same = [i for i, table in enumerate(tables) if np.array_equal(table, part.table)]
        slots.append(same[0] if same else len(tables))
        if not same:
            tables.append(part.table)
    return tables, slots


def write_coefficients(size: tuple[int, int], components: list[Component], coefs: list[Coefs]) -> bytes:
    """Encode coefficients as a sequential file with the standard Huffman tables and a JFIF header.

    Tables of its own would take a second pass over the coefficients, and make a file 2 to 4 % smaller.

    Args:
        size: height and width of the image in pixels.
        components: of the file; their tables are written, equal ones once.
        coefs: of each component.
    """
    if (written := _filled(size, components, coefs)) is not None:
        return written
    return _written(size, components, coefs)


def _written(size: tuple[int, int], components: list[Component], coefs: list[Coefs]) -> bytes:
    """`write_coefficients` by jpeglib."""
    tables, numbers = _tables(components)
    slots = np.full(4, -1, np.int16)
    slots[: len(numbers)] = numbers
    quant = np.zeros((4, COEFS), np.uint16)
    quant[: len(tables)] = tables
    dims = np.array(size, np.int32)
    grids = np.array([c.grid for c in components], np.int32)
    factors = np.array([c.factor for c in components], np.int32)
    contiguous = [np.ascontiguousarray(c) for c in coefs]
    with _scratch() as path, _muted():
        status = _library().write_jpeg_dct(
            None,
            os.fsencode(path),
            *_four(contiguous),
            *[a.ctypes.data for a in (dims, grids, factors)],
            COLOUR if len(components) == COLOUR else GREY,
            len(components),
            quant.ctypes.data,
            -1,
            slots.ctypes.data,
            *(0, None, None, None),
            *_jpeglib().dct_jpeg.CJpegLib.flags_to_mask(["-OPTIMIZE_CODING"]),
        )
        written = path.read_bytes()
    if status == 0:
        raise OSError("the JPEG file could not be encoded")
    return join(_renumbered(segment) for segment in split(written))


def _four(arrays: list[Coefs]) -> list[int | None]:
    """The addresses that the library takes, one for each component that a file could have."""
    return [a.ctypes.data for a in arrays] + [None] * (4 - len(arrays))


def _renumbered(segment: Segment) -> Segment:
    """Name the components 1, 2, 3 as JFIF demands; the library names them 0, 1, 2."""
    payload = bytearray(segment.payload)
    if segment.marker in FRAMES:
        payload[6::3] = bytes(range(1, 1 + payload[5]))
    elif segment.marker == SOS:
        payload[1 : 1 + 2 * payload[0] : 2] = bytes(range(1, 1 + payload[0]))
    return segment._replace(payload=bytes(payload))


def _jpeglib() -> Any:
    """The binding; who only reads pictures, as training does, gets on without it.

    Raises:
        SetupError: It is not installed.
    """
    try:
        import jpeglib
    except ImportError as exc:
        raise SetupError("JPEG files cannot be changed without jpeglib: run 'pip install p3mdata'.") from exc
    return jpeglib


@cache
def _library() -> Any:
    """Bind the two functions in use, without changing the version that other users of jpeglib see."""
    jpeglib = _jpeglib()
    fastest = "turbo210"
    if fastest in jpeglib.version.versions():
        with jpeglib.version(fastest):
            library = jpeglib.version._get_lib()
    else:
        library = jpeglib.version._get_lib()
    text, pointer, number, mask = ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint
    library.read_jpeg_dct.argtypes = [text, *[pointer] * 6]
    library.write_jpeg_dct.argtypes = [
        *(text, text, *[pointer] * 7, number, number, pointer, ctypes.c_short, pointer),
        *(number, pointer, pointer, pointer, mask, mask),
    ]
    return library


@contextmanager
def _scratch(content: bytes = b"") -> Iterator[Path]:
    """Offer content under a path that the library can read from or write to."""
    if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):
        with open(os.memfd_create("jpeg"), "wb") as file:
            file.write(content)
            file.flush()
            yield Path(f"/proc/self/fd/{file.fileno()}")
        return
    with tempfile.TemporaryDirectory() as folder:  # created with access for this user only
        path = Path(folder, "jpeg")
        path.write_bytes(content)
        yield path


class _Muted:
    """State of `_muted`: how many calls are under way."""

    lock = threading.Lock()
    calls = 0


@contextmanager
def _muted() -> Iterator[None]:
    """Keep libjpeg's warnings about damaged data off the terminal; Python's own stderr is not affected."""
    found = _c_stderr()
    if found is None:
        yield
        return
    variable, terminal, nowhere = found
    with _Muted.lock:
        _Muted.calls += 1
        variable.value = nowhere
    try:
        yield
    finally:
        with _Muted.lock:
            _Muted.calls -= 1
            if _Muted.calls == 0:
                variable.value = terminal


@cache
def _c_stderr() -> tuple[ctypes.c_void_p, int | None, int] | None:
    """The C variable `stderr`, its value, and a stream to nowhere; only glibc lets one assign to it."""
    if platform.libc_ver()[0] != "glibc":
        return None
    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    nowhere = libc.fopen(b"/dev/null", b"w")
    variable = ctypes.c_void_p.in_dll(libc, "stderr")
    return (variable, variable.value, nowhere) if nowhere else None
