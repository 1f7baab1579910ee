"""Block-exact editing of JPEG files.

Re-encoding a whole photograph to hide one face damages every other pixel a little. Here the quantised
DCT coefficients of the source are carried over bit for bit, and only the 8x8 blocks that have to change
are computed anew, with the file's own quantisation tables and chroma subsampling.

The bytes of a photograph stay in memory where the system allows it (anonymous memory files on Linux).
Elsewhere the coefficient library is handed a file in a private folder that is removed at once.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jpeglib
import numpy as np
from numpy.typing import NDArray

__all__ = ["JpegBlocks", "Reach", "UnsupportedJpeg"]

BoolArray = NDArray[np.bool_]
Segment = tuple[int, bytes, bytes]  # marker code, payload, entropy-coded data (after SOS only)

BLOCK = 8
COEFS = BLOCK * BLOCK
MAX_SIDE = 65500  # libjpeg's own limit
MAX_PIXELS = 200_000_000  # the coefficients of one file take up to 12 bytes per pixel
MAX_SCANS = 256  # every scan costs a pass over all blocks, however few bytes it has
MAX_MCU_BLOCKS = 10  # of one interleaved scan, which is what gets written
MAX_AC, MIN_DC, MAX_DC = 1023, -1024, 1023  # what 8-bit Huffman coding can express, DC differences included
MAX_QUANT = 32767
CHUNK = 1 << 13  # blocks computed at once, so that the working set stays near the cache

DHT, SOI, EOI, SOS, DQT, DRI, APP0, APP14 = 0xC4, 0xD8, 0xD9, 0xDA, 0xDB, 0xDD, 0xE0, 0xEE
PROGRESSIVE = 0xC2
FRAMES = {0xC0, 0xC1, PROGRESSIVE}
OTHER_FRAMES = {
    **dict.fromkeys((0xC9, 0xCA, 0xCD, 0xCE), "arithmetic coding"),
    **dict.fromkeys((0xC3, 0xC7, 0xC8, 0xCB, 0xCF), "lossless coding"),
    **dict.fromkeys((0xC5, 0xC6), "hierarchical coding"),
}
BARE = {0x01, *range(0xD0, 0xD8)}  # markers without a payload
GREY, COLOUR = 1, 3  # numbers of components, and libjpeg's codes of the two colour spaces

_MARKER = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
_SCAN_END = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]", re.DOTALL)
_ZIGZAG = sorted(
    range(COEFS),
    key=lambda i: (sum(divmod(i, BLOCK)), divmod(i, BLOCK)[(i // BLOCK + i % BLOCK + 1) % 2]),
)

# libjpeg's fixed-point weights of R, G, B and its offset, all times 2**16, for Y, Cb, Cr.
_YCC_BITS = 16
_YCC = (
    (19595, 38470, 7471, 1 << 15),
    (-11059, -21709, 32768, (128 << 16) + (1 << 15) - 1),
    (32768, -27439, -5329, (128 << 16) + (1 << 15) - 1),
)

# The two-dimensional transform as one 64x64 matrix of integers. Every product and sum of it is an integer
# below 2**53, so float64 holds them exactly and no processor or BLAS can round differently.
_DCT_BITS = 13
_K = np.arange(BLOCK)
_DCT_1D = np.rint(
    np.cos((2 * _K[None, :] + 1) * _K[:, None] * np.pi / 16)
    * np.where(_K == 0, np.sqrt(1 / 8), 0.5)[:, None]
    * (1 << _DCT_BITS)
)
_DCT_2D = np.kron(_DCT_1D, _DCT_1D).T.copy()


class UnsupportedJpeg(ValueError):
    """The file cannot be edited block by block; the message says why in a few words."""


@dataclass(frozen=True)
class Reach:
    """What an edit touches, as computed by `JpegBlocks.reach`.

    Attributes:
        blocks: per component a bool array [block rows, block columns]: the blocks to compute anew.
        changed: bool array [height, width]: every pixel whose decoded value may differ from the source.
        luma: bool array [height, width]: the pixels whose brightness comes from the obfuscated image.
    """

    blocks: tuple[BoolArray, ...]
    changed: BoolArray
    luma: BoolArray


@dataclass(frozen=True)
class _Component:
    """One colour plane; `step` is its pixels per sample, `table` its quantisation, as (64,) integers."""

    factor: tuple[int, int]  # vertical, horizontal
    step: tuple[int, int]
    grid: tuple[int, int]
    table: NDArray[np.uint16]

    @property
    def footprint(self) -> tuple[int, int]:
        return BLOCK * self.step[0], BLOCK * self.step[1]

    @property
    def ring(self) -> tuple[int, int]:
        # libjpeg-turbo interpolates 2:1 subsampling (h2v1, h1v2, h2v2) from the nearest neighbour, and
        # merely repeats the sample for all other ratios.
        smooth = max(self.step) == 2
        return int(smooth and self.step[0] == 2), int(smooth and self.step[1] == 2)


@dataclass(frozen=True)
class _Frame:
    """The frame header (SOF)."""

    progressive: bool
    height: int
    width: int
    ids: tuple[int, ...]
    factors: tuple[tuple[int, int], ...]  # vertical, horizontal
    slots: tuple[int, ...]  # quantisation table slot of each component


class JpegBlocks:
    """The quantised coefficients of one JPEG file.

    Attributes:
        width: pixels per row, in the stored orientation.
        height: number of rows, in the stored orientation.
    """

    width: int
    height: int

    def __init__(
        self, size: tuple[int, int], components: list[_Component], coefs: list[NDArray[np.int16]]
    ) -> None:
        self.height, self.width = size
        self._components = components
        self._coefs = coefs

    @classmethod
    def read(cls, data: bytes) -> JpegBlocks:
        """Read the coefficients of a JPEG file.

        All headers are checked before the coefficient library sees them, for an error in one would crash it.
        Entropy-coded data that is damaged but well framed is read as libjpeg repairs it; a caller who wants
        such files refused must decode them strictly first.

        Args:
            data: the whole file. Bytes after the end-of-image marker are ignored.

        Raises:
            UnsupportedJpeg: anything but an intact 8-bit Huffman-coded grey or YCbCr file with luma at full
                resolution and chroma at an integral fraction of it.
        """
        frame, tables, stream = _inspect(data)
        components = _components(frame, tables)
        if 8 * len(stream) < sum(c.grid[0] * c.grid[1] for c in components):
            # Each block takes a bit at least: a size without data must not make us allocate memory.
            raise UnsupportedJpeg("too little image data")
        coefs = [np.zeros((*c.grid, COEFS), np.int16) for c in components]
        with _scratch(stream) as (path, _), _muted():
            pointers = [c.ctypes.data for c in coefs] + [None] * (4 - len(coefs))
            status = _library().read_jpeg_dct(path, *pointers, None, None)
        if status == 0:
            raise UnsupportedJpeg("damaged image data")
        if not all(_expressible(c) for c in coefs):
            raise UnsupportedJpeg("coefficients out of range")
        return cls((frame.height, frame.width), components, coefs)

    def reach(self, wanted: BoolArray, forbidden: BoolArray | None = None) -> Reach:
        """Select the blocks to change, and say which pixels that affects.

        A block of any component is selected if its footprint holds a wanted pixel and if no pixel its samples
        have a part in is forbidden. With subsampled chroma these are the footprint and one more pixel on
        each side, because decoders interpolate.

        Args:
            wanted: bool array [height, width]: pixels to obfuscate.
            forbidden: bool array [height, width]: pixels that must decode as they do now.

        Raises:
            ValueError: a mask of another shape or type.
        """
        for mask in (wanted,) if forbidden is None else (wanted, forbidden):
            if mask.shape != (self.height, self.width) or mask.dtype != np.bool_:
                raise ValueError(f"a mask must be bool of shape {(self.height, self.width)}")
        changed = np.zeros_like(wanted)
        luma = np.zeros_like(wanted)
        blocks: list[BoolArray] = []
        for number, part in enumerate(self._components):
            if number and part.step == self._components[number - 1].step:
                blocks.append(blocks[-1])  # Cb and Cr as a rule
                continue
            chosen = _any_in_blocks(wanted, part.footprint)
            if forbidden is not None:
                chosen &= ~_any_in_blocks(_grown(forbidden, part.ring), part.footprint)
            area = chosen.repeat(part.footprint[0], axis=0)[: self.height]
            area = area.repeat(part.footprint[1], axis=1)[:, : self.width]
            if number == 0:
                luma |= area
            changed |= _grown(area, part.ring)
            blocks.append(chosen)
        return Reach(tuple(blocks), changed, luma)

    def rewrite(self, pixels: NDArray[np.uint8], reach: Reach) -> bytes:
        """Write the file with the selected blocks taken from another image.

        The result is sequential, Huffman-optimised, and has no metadata but a JFIF header: no EXIF, XMP,
        colour profile, comments, or bytes after the end. Equal arguments give equal bytes on every machine.

        Args:
            pixels: uint8 RGB [height, width, 3], or [height, width] for a grey file: the whole obfuscated
                image in the stored orientation.
            reach: of this file's `reach`.

        Raises:
            ValueError: pixels or blocks of another shape or type than this file's.
        """
        shape = (self.height, self.width, 3) if len(self._components) == COLOUR else (self.height, self.width)
        if pixels.shape != shape or pixels.dtype != np.uint8:
            raise ValueError(f"pixels must be uint8 of shape {shape}")
        if [b.shape for b in reach.blocks] != [c.grid for c in self._components]:
            raise ValueError("the reach belongs to another file")
        coefs = []
        for number, (part, old) in enumerate(zip(self._components, self._coefs, strict=True)):
            new = old
            if reach.blocks[number].any():
                new = old.copy()
                _requantise(new, pixels, number, part, reach.blocks[number])
            coefs.append(new)
        return _write((self.height, self.width), self._components, coefs)


def _inspect(data: bytes) -> tuple[_Frame, list[NDArray[np.uint16]], bytes]:
    """Check all headers; return the frame, each component's table, and the file reduced to image data."""
    frame: _Frame | None = None
    slots: dict[int, NDArray[np.uint16]] = {}
    tables: dict[int, NDArray[np.uint16]] = {}
    missing_bits = np.full((COLOUR, COEFS), -1)
    jfif, adobe, scans = False, -1, 0
    kept: list[Segment] = []
    for segment in _segments(data):
        marker, payload, _ = segment
        if marker in OTHER_FRAMES:
            raise UnsupportedJpeg(OTHER_FRAMES[marker])
        if marker in FRAMES:
            if frame is not None:
                raise UnsupportedJpeg("damaged file: two frames")
            frame = _parse_frame(marker, payload)
        elif marker == APP0 and payload.startswith(b"JFIF\0"):
            jfif = jfif or (not scans and len(payload) >= 14)
        elif marker == APP14 and payload.startswith(b"Adobe") and len(payload) >= 12 and not scans:
            adobe = payload[11]
        elif marker == DQT:
            slots.update(_parse_tables(payload))
        elif marker == DHT:
            _check_huffman(payload)
        elif marker == DRI and len(payload) != 2:
            raise UnsupportedJpeg("damaged file: restart interval")
        elif marker == SOS:
            if frame is None:
                raise UnsupportedJpeg("damaged file: scan without a frame")
            scans += 1
            for number in _parse_scan(payload, frame, missing_bits):
                if frame.slots[number] not in slots:
                    raise UnsupportedJpeg("damaged file: no quantisation table")
                # Later redefinitions do not count: decoders use the table of a component's first scan.
                tables.setdefault(number, slots[frame.slots[number]])
        if marker in FRAMES or marker in (DQT, DHT, DRI, SOS):
            kept.append(segment)
    if frame is None or scans == 0 or scans > MAX_SCANS:
        raise UnsupportedJpeg("too many scans" if scans else "damaged file: no image")
    spelt_rgb = not jfif and adobe < 0 and bytes(frame.ids) == b"RGB"
    if len(frame.ids) == COLOUR and (adobe == 0 or spelt_rgb):
        raise UnsupportedJpeg("RGB colour")
    if missing_bits[: len(frame.ids)].any():
        # Decoders smooth over what a progressive file has not sent; written out, that would be lost.
        raise UnsupportedJpeg("incomplete scans")
    return frame, [tables[number] for number in range(len(frame.ids))], _join(kept)


def _segments(data: bytes) -> Iterator[Segment]:
    """Walk through a file from SOI to EOI."""
    if data[:2] != bytes((0xFF, SOI)):
        raise UnsupportedJpeg("not a JPEG file")
    at = 2
    while True:
        found = _MARKER.match(data, at)
        if found is None:
            raise UnsupportedJpeg("truncated file" if at + 1 >= len(data) else "damaged file: no marker")
        marker, at = found[1][0], found.end()
        if marker == EOI:
            return
        if marker in BARE:
            continue
        size = int.from_bytes(data[at : at + 2], "big")
        payload, at = data[at + 2 : at + size], at + size
        if size < 2 or len(payload) != size - 2:
            raise UnsupportedJpeg("truncated file")
        scan = b""
        if marker == SOS:
            end = _SCAN_END.search(data, at)
            if end is None:
                raise UnsupportedJpeg("truncated file")
            scan, at = data[at : end.start()], end.start()
        yield marker, payload, scan


def _join(segments: list[Segment]) -> bytes:
    """Make a file of segments."""
    parts = [bytes((0xFF, SOI))]
    for marker, payload, scan in segments:
        parts += [bytes((0xFF, marker)), (len(payload) + 2).to_bytes(2, "big"), payload, scan]
    return b"".join([*parts, bytes((0xFF, EOI))])


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


def _parse_tables(payload: bytes) -> Iterator[tuple[int, NDArray[np.uint16]]]:
    """Yield slot and table, in row-major order, of a DQT segment."""
    at = 0
    while at < len(payload):
        wide, slot = divmod(payload[at], 16)
        raw = payload[at + 1 : at + 1 + COEFS * (wide + 1)]
        if wide > 1 or slot > 3 or len(raw) != COEFS * (wide + 1):
            raise UnsupportedJpeg("damaged file: quantisation table")
        table = np.zeros(COEFS, np.uint16)
        table[_ZIGZAG] = np.frombuffer(raw, ">u2" if wide else "u1")
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


def _parse_scan(payload: bytes, frame: _Frame, missing_bits: NDArray[Any]) -> list[int]:
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


def _components(frame: _Frame, tables: list[NDArray[np.uint16]]) -> list[_Component]:
    """Lay out the block grids; refuse subsampling that does not divide evenly."""
    tallest, widest = (max(f[axis] for f in frame.factors) for axis in (0, 1))
    if frame.factors[0] != (tallest, widest):
        raise UnsupportedJpeg("subsampled luma")
    if len(frame.factors) > 1 and sum(v * h for v, h in frame.factors) > MAX_MCU_BLOCKS:
        raise UnsupportedJpeg("sampling factors too large")
    parts = []
    for (v, h), table in zip(frame.factors, tables, strict=True):
        if tallest % v or widest % h:
            raise UnsupportedJpeg("fractional chroma subsampling")
        step = tallest // v, widest // h
        grid = -(-frame.height // (BLOCK * step[0])), -(-frame.width // (BLOCK * step[1]))
        parts.append(_Component((v, h), step, grid, table))
    return parts


def _expressible(coefs: NDArray[np.int16]) -> bool:
    dc, ac = coefs[..., 0], coefs[..., 1:]
    return bool(dc.min() >= MIN_DC and dc.max() <= MAX_DC and ac.min() >= -MAX_AC and ac.max() <= MAX_AC)


def _any_in_blocks(mask: BoolArray, footprint: tuple[int, int]) -> BoolArray:
    """Tell for each block of the grid whether any of its pixels is set."""
    rows, cols = (-(-side // size) for side, size in zip(mask.shape, footprint, strict=True))
    padded = np.zeros((rows * footprint[0], cols * footprint[1]), np.bool_)
    padded[: mask.shape[0], : mask.shape[1]] = mask
    strips = np.logical_or.reduce(padded.reshape(rows, footprint[0], -1), axis=1)
    return np.asarray(strips.reshape(rows, cols, footprint[1]).any(axis=2))


def _grown(mask: BoolArray, ring: tuple[int, int]) -> BoolArray:
    """Grow a mask by one pixel up and down, left and right, or both with the corners."""
    if ring[0]:
        source, mask = mask, mask.copy()
        mask[1:] |= source[:-1]
        mask[:-1] |= source[1:]
    if ring[1]:
        source, mask = mask, mask.copy()
        mask[:, 1:] |= source[:, :-1]
        mask[:, :-1] |= source[:, 1:]
    return mask


def _requantise(
    coefs: NDArray[np.int16], pixels: NDArray[np.uint8], number: int, part: _Component, chosen: BoolArray
) -> None:
    """Overwrite the chosen blocks of component `number` with the quantised transform of the pixels."""
    tall, wide = part.footprint
    rows, cols = np.nonzero(chosen)
    # Pad only what is needed, and only by repeating the border, as encoders do.
    size = part.grid[0] * tall, part.grid[1] * wide
    extra = [(0, size[0] - pixels.shape[0]), (0, size[1] - pixels.shape[1]), (0, 0)]
    padded = np.pad(pixels, extra[: pixels.ndim], mode="edge")
    grid = padded.reshape(part.grid[0], tall, part.grid[1], wide, -1).transpose(0, 2, 1, 3, 4)
    divisor = part.table.astype(np.float64) * (1 << 2 * _DCT_BITS)
    for start in range(0, len(rows), CHUNK):
        where = rows[start : start + CHUNK], cols[start : start + CHUNK]
        samples = _samples(grid[where], number, part.step).reshape(-1, COEFS)
        sums = (samples - 128.0) @ _DCT_2D
        # Both operands are integers below 2**44, so the quotient cannot round up to the next integer.
        new = np.copysign(np.floor((np.abs(sums) + divisor / 2) / divisor), sums)
        np.clip(new[:, 1:], -MAX_AC, MAX_AC, out=new[:, 1:])
        np.clip(new[:, 0], MIN_DC, MAX_DC, out=new[:, 0])
        coefs[where] = new.astype(np.int16)


def _samples(blocks: NDArray[np.uint8], number: int, step: tuple[int, int]) -> NDArray[np.int32]:
    """Turn pixel blocks [n, 8 * step, 8 * step, channels] into samples [n, 8, 8] of component `number`."""
    if blocks.shape[-1] == 1:
        return blocks[..., 0].astype(np.int32)
    red, green, blue, offset = _YCC[number]
    plane = np.multiply(blocks[..., 0], red, dtype=np.int32)
    plane += np.multiply(blocks[..., 1], green, dtype=np.int32)
    plane += np.multiply(blocks[..., 2], blue, dtype=np.int32)
    plane += offset
    plane >>= _YCC_BITS
    if step == (1, 1):
        return plane
    count = step[0] * step[1]
    total = np.full((len(plane), BLOCK, BLOCK), count // 2, np.int32)
    for y in range(step[0]):
        for x in range(step[1]):
            total += plane[:, y :: step[0], x :: step[1]]
    return total // np.int32(count)


def _write(size: tuple[int, int], components: list[_Component], coefs: list[NDArray[np.int16]]) -> bytes:
    """Encode coefficients as a sequential file with JFIF header."""
    tables: list[NDArray[np.uint16]] = []
    slots = np.full(4, -1, np.int16)
    for number, part in enumerate(components):
        same = [i for i, table in enumerate(tables) if np.array_equal(table, part.table)]
        slots[number] = same[0] if same else len(tables)
        if not same:
            tables.append(part.table)
    quant = np.zeros((4, COEFS), np.uint16)
    quant[: len(tables)] = tables
    dims = np.array(size, np.int32)
    grids = np.array([c.grid for c in components], np.int32)
    factors = np.array([c.factor for c in components], np.int32)
    count = len(components)
    flags = jpeglib.dct_jpeg.CJpegLib.flags_to_mask(["OPTIMIZE_CODING"])
    pointers = [np.ascontiguousarray(c) for c in coefs]
    with _scratch(b"") as (path, read_back), _muted():
        status = _library().write_jpeg_dct(
            None,
            path,
            *[c.ctypes.data for c in pointers] + [None] * (4 - count),
            *[a.ctypes.data for a in (dims, grids, factors)],
            COLOUR if count == COLOUR else GREY,
            count,
            quant.ctypes.data,
            -1,
            slots.ctypes.data,
            *(0, None, None, None),
            *flags,
        )
        written = read_back()
    if status == 0:
        raise OSError("the JPEG file could not be encoded")
    return _join([_renumbered(s) for s in _segments(written)])


def _renumbered(segment: Segment) -> Segment:
    """Name the components 1, 2, 3 as JFIF demands; the library names them 0, 1, 2."""
    marker, payload, scan = segment
    edited = bytearray(payload)
    if marker in FRAMES:
        edited[6::3] = bytes(range(1, 1 + payload[5]))
    elif marker == SOS:
        edited[1 : 1 + 2 * payload[0] : 2] = bytes(range(1, 1 + payload[0]))
    return marker, bytes(edited), scan


@cache
def _library() -> Any:
    """Bind the two functions in use, without changing the version that other users of jpeglib see."""
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
def _scratch(content: bytes) -> Iterator[tuple[bytes, Any]]:
    """Offer content under a path, and a function that reads back what the library wrote there."""
    if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):
        with open(os.memfd_create("jpeg"), "w+b") as file:
            file.write(content)
            file.seek(0)
            yield f"/proc/self/fd/{file.fileno()}".encode(), file.read
        return
    with tempfile.TemporaryDirectory() as folder:  # created with access for this user only
        path = Path(folder, "jpeg")
        path.write_bytes(content)
        yield os.fsencode(path), path.read_bytes


class _Muted:
    """State of `_muted`: how many calls are under way, and the stream to restore after the last."""

    lock = threading.Lock()
    depth = 0
    saved: int | None = None


@cache
def _c_stderr() -> tuple[ctypes.c_void_p, int] | None:
    """Find the C variable `stderr` and open a stream to nowhere; only glibc lets one assign to it."""
    if platform.libc_ver()[0] != "glibc":
        return None
    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    nowhere = libc.fopen(b"/dev/null", b"w")
    return (ctypes.c_void_p.in_dll(libc, "stderr"), nowhere) if nowhere else None


@contextmanager
def _muted() -> Iterator[None]:
    """Keep libjpeg's warnings about damaged data off the terminal; Python's own stderr is not affected."""
    stream = _c_stderr()
    if stream is None:
        yield
        return
    variable, nowhere = stream
    with _Muted.lock:
        if _Muted.depth == 0:
            _Muted.saved, variable.value = variable.value, nowhere
        _Muted.depth += 1
    try:
        yield
    finally:
        with _Muted.lock:
            _Muted.depth -= 1
            if _Muted.depth == 0:
                variable.value = _Muted.saved
