"""The headers of a JPEG file: all of them checked, for an error in one would crash the C library."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from p3mdata.imaging.jpeg.segments import (
    APP0,
    APP14,
    DHT,
    DQT,
    DRI,
    FRAMES,
    PROGRESSIVE,
    SOS,
    Segment,
    UnsupportedJpeg,
    join,
    split,
)

BLOCK = 8
COEFS = BLOCK * BLOCK
GREY, COLOUR = 1, 3  # numbers of components, and libjpeg's codes of the two colour spaces
MAX_SIDE = 65500  # libjpeg's own limit
MAX_PIXELS = 200_000_000  # the coefficients of one file take up to 12 bytes per pixel
MAX_SCANS = 256  # every scan costs a pass over all blocks, however few bytes it has
MAX_MCU_BLOCKS = 10  # of one interleaved scan, which is what gets written
MAX_QUANT = 32767
# With the table (0xCC) that only arithmetic coding has.
OTHER_FRAMES = {
    **dict.fromkeys((0xC9, 0xCA, 0xCC, 0xCD, 0xCE), "arithmetic coding"),
    **dict.fromkeys((0xC3, 0xC7, 0xC8, 0xCB, 0xCF), "lossless coding"),
    **dict.fromkeys((0xC5, 0xC6), "hierarchical coding"),
}

_DNL, _COM = 0xDC, 0xFE
# What decoders pass over; they give up on other markers that are not the picture's, which must not be hidden from them.
_PASSED_OVER = frozenset((*range(APP0, APP0 + 16), _DNL, _COM))

Table = NDArray[np.uint16]

# Along the anti-diagonals, the even ones upwards.
ZIGZAG = sorted(
    range(COEFS),
    key=lambda i: (sum(divmod(i, BLOCK)), divmod(i, BLOCK)[(i // BLOCK + i % BLOCK + 1) % 2]),
)


@dataclass(frozen=True)
class Component:
    """One colour plane; `step` is its pixels per sample, `table` its quantisation, as (64,) integers."""

    factor: tuple[int, int]  # vertical, horizontal
    step: tuple[int, int]
    grid: tuple[int, int]
    table: Table

    @property
    def footprint(self) -> tuple[int, int]:
        """Height and width in pixels of one block."""
        return BLOCK * self.step[0], BLOCK * self.step[1]


@dataclass(frozen=True)
class Structure:
    """What the headers say, and the file reduced to what its image needs.

    `plain` says that libjpeg can write a file from what it reads: tables do not change between the scans, and the names
    of the components do not look like another colour space than the headers, which are left out, say.
    """

    height: int
    width: int
    components: list[Component]
    kept: list[Segment]
    plain: bool

    @cached_property
    def stream(self) -> bytes:
        """A file of what the image needs."""
        return join(self.kept)


@dataclass(frozen=True)
class _Frame:
    """The frame header (SOF)."""

    progressive: bool
    height: int
    width: int
    ids: tuple[int, ...]
    factors: tuple[tuple[int, int], ...]  # vertical, horizontal
    slots: tuple[int, ...]  # quantisation table slot of each component


def inspect(data: bytes) -> Structure:
    """Read and check the headers of a whole file.

    Raises:
        UnsupportedJpeg: as `JpegBlocks.read` describes.
    """
    headers = _Headers()
    for segment in split(data):
        headers.read(segment)
    frame = headers.checked_frame()
    components, size = _components(frame, headers.tables), sum(len(s.payload) + len(s.scan) for s in headers.kept)
    if 8 * size < sum(c.grid[0] * c.grid[1] for c in components):
        # Each block takes a bit at least: a size without data must not make us allocate memory.
        raise UnsupportedJpeg("too little image data")
    return Structure(frame.height, frame.width, components, headers.kept, headers.plain)


def tells_all(data: bytes) -> bool:
    """Whether a file's scans tell every bit of every coefficient, and the lack of some of their data would be noticed.

    Of arithmetic coding it would not: where data ends, decoders go on with zeros and say nothing.
    """
    headers = _Headers()
    try:
        for segment in split(data):
            headers.read(segment)
    except UnsupportedJpeg:
        return False
    return headers.complete


class _Headers:
    """What the segments say, one after another.

    Attributes:
        tables: Quantisation table of each component that has been in a scan.
        kept: Segments that the image needs.
    """

    def __init__(self) -> None:
        self.tables: dict[int, Table] = {}
        self.kept: list[Segment] = []
        self._frame: _Frame | None = None
        self._slots: dict[int, Table] = {}
        self._missing_bits = np.full((COLOUR, COEFS), -1)
        self._jfif, self._adobe, self._scans = False, -1, 0
        self._late_tables = False

    @property
    def plain(self) -> bool:
        """As `Structure.plain`."""
        return not self._late_tables and self._frame is not None and bytes(self._frame.ids) != b"RGB"

    @property
    def complete(self) -> bool:
        """Whether no bits of coefficients are yet to come."""
        return self._frame is not None and not self._missing_bits[: len(self._frame.ids)].any()

    def read(self, segment: Segment) -> None:
        """Take one segment."""
        marker, payload, _ = segment
        if marker in OTHER_FRAMES:
            raise UnsupportedJpeg(OTHER_FRAMES[marker])
        if marker in FRAMES:
            if self._frame is not None:
                raise UnsupportedJpeg("damaged file: two frames")
            self._frame = _parse_frame(marker, payload)
        elif marker in (APP0, APP14):
            self._read_colours(marker, payload)
        elif marker == DQT:
            self._slots.update(_parse_tables(payload))
            self._late_tables |= self._scans > 0
        elif marker == DHT:
            _check_huffman(payload)
        elif marker == DRI and len(payload) != 2:
            raise UnsupportedJpeg("damaged file: restart interval")
        elif marker == SOS:
            self._read_scan(payload)
        elif marker not in _PASSED_OVER and marker != DRI:
            raise UnsupportedJpeg("damaged file: unknown marker")
        if marker in FRAMES or marker in (DQT, DHT, DRI, SOS):
            self.kept.append(segment)

    def _read_colours(self, marker: int, payload: bytes) -> None:
        """Segments that tell the colour space; decoders heed those before the first scan."""
        if self._scans:
            return
        if marker == APP0 and payload.startswith(b"JFIF\0"):
            self._jfif = self._jfif or len(payload) >= 14
        elif marker == APP14 and payload.startswith(b"Adobe") and len(payload) >= 12:
            self._adobe = payload[11]

    def _read_scan(self, payload: bytes) -> None:
        if self._frame is None:
            raise UnsupportedJpeg("damaged file: scan without a frame")
        self._scans += 1
        for number in _parse_scan(payload, self._frame, self._missing_bits):
            slot = self._frame.slots[number]
            if slot not in self._slots:
                raise UnsupportedJpeg("damaged file: no quantisation table")
            # Later redefinitions do not count: decoders use the table of a component's first scan.
            self.tables.setdefault(number, self._slots[slot])

    def checked_frame(self) -> _Frame:
        """The frame, once all segments are read: of a whole image in grey or YCbCr."""
        frame = self._frame
        if frame is None or not 0 < self._scans <= MAX_SCANS:
            raise UnsupportedJpeg("too many scans" if self._scans else "damaged file: no image")
        spelt_rgb = not self._jfif and self._adobe < 0 and bytes(frame.ids) == b"RGB"
        # JFIF goes before Adobe's marker, in libjpeg and in viewers.
        if len(frame.ids) == COLOUR and ((self._adobe == 0 and not self._jfif) or spelt_rgb):
            raise UnsupportedJpeg("RGB colour")
        if not self.complete:
            # Decoders smooth over what a progressive file has not sent; written out, that would be lost.
            raise UnsupportedJpeg("incomplete scans")
        return frame


def _parse_frame(marker: int, payload: bytes) -> _Frame:
    count = payload[5] if len(payload) > 5 else 0
    if count == 0 or len(payload) != 6 + 3 * count:
        raise UnsupportedJpeg("damaged file: frame header")
    if payload[0] != 8:
        raise UnsupportedJpeg(f"{payload[0]}-bit samples")
    if count not in (GREY, COLOUR):
        raise UnsupportedJpeg("CMYK colour" if count == 4 else f"{count} components")
    height, width = int.from_bytes(payload[1:3], "big"), int.from_bytes(payload[3:5], "big")
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise UnsupportedJpeg("damaged file: image size")
    if height * width > MAX_PIXELS:
        raise UnsupportedJpeg("too many pixels")
    ids, slots = tuple(payload[6::3]), tuple(payload[8::3])
    factors = tuple((byte & 15, byte >> 4) for byte in payload[7::3])
    if len(set(ids)) != count or not all(1 <= f <= 4 for pair in factors for f in pair):
        raise UnsupportedJpeg("damaged file: frame header")
    return _Frame(marker == PROGRESSIVE, height, width, ids, factors, slots)


def _parse_tables(payload: bytes) -> Iterator[tuple[int, Table]]:
    """Yield slot and table, in row-major order, of a DQT segment."""
    at = 0
    while at < len(payload):
        wide, slot = divmod(payload[at], 16)
        raw = payload[at + 1 : at + 1 + COEFS * (wide + 1)]
        if wide > 1 or slot > 3 or len(raw) != COEFS * (wide + 1):
            raise UnsupportedJpeg("damaged file: quantisation table")
        table = np.zeros(COEFS, np.uint16)
        table[ZIGZAG] = np.frombuffer(raw, ">u2" if wide else "u1")
        if table.min() == 0 or table.max() > MAX_QUANT:
            raise UnsupportedJpeg("quantisation table out of range")
        yield slot, table
        at += 1 + len(raw)


def _check_huffman(payload: bytes) -> None:
    """Refuse a DHT segment that libjpeg would stumble over while it reads the headers."""
    at = 0
    while at < len(payload):
        counts = payload[at + 1 : at + 17]
        if payload[at] & ~0x13 or len(counts) != 16 or sum(counts) > 256:
            raise UnsupportedJpeg("damaged file: Huffman table")
        at += 17 + sum(counts)
    if at != len(payload):
        raise UnsupportedJpeg("damaged file: Huffman table")


def _parse_scan(payload: bytes, frame: _Frame, missing_bits: NDArray[np.int_]) -> list[int]:
    """Return the components of a scan, and note per coefficient how many low bits are yet to come."""
    count = payload[0] if payload else 0
    if not 1 <= count <= len(frame.ids) or len(payload) != 4 + 2 * count:
        raise UnsupportedJpeg("damaged file: scan header")
    chosen = payload[1 : 1 + 2 * count : 2]
    if len(set(chosen)) != count or not set(chosen) <= set(frame.ids):
        raise UnsupportedJpeg("damaged file: scan header")
    numbers = [frame.ids.index(i) for i in chosen]
    first, last, bits = payload[-3], payload[-2], payload[-1] & 15
    if not frame.progressive:
        first, last, bits = 0, COEFS - 1, 0  # decoders ignore the fields of a sequential file
    missing_bits[numbers, first : last + 1] = bits
    return numbers


def _components(frame: _Frame, tables: dict[int, Table]) -> list[Component]:
    """Lay out the block grids; refuse subsampling that does not divide evenly."""
    tallest, widest = (max(f[axis] for f in frame.factors) for axis in (0, 1))
    if frame.factors[0] != (tallest, widest):
        raise UnsupportedJpeg("subsampled luma")
    if len(frame.factors) > 1 and sum(v * h for v, h in frame.factors) > MAX_MCU_BLOCKS:
        raise UnsupportedJpeg("sampling factors too large")
    components = []
    for number, (v, h) in enumerate(frame.factors):
        if tallest % v or widest % h:
            raise UnsupportedJpeg("fractional chroma subsampling")
        step = tallest // v, widest // h
        grid = -(-frame.height // (BLOCK * step[0])), -(-frame.width // (BLOCK * step[1]))
        components.append(Component((v, h), step, grid, tables[number]))
    return components
