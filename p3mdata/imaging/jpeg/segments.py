"""A JPEG file as a sequence of marker segments: cut apart and put together."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable
from typing import NamedTuple

import numpy as np

from p3mdata.native.markers import count, scan_end

DHT, SOI, EOI, SOS, DQT, DRI, APP0, APP14 = 0xC4, 0xD8, 0xD9, 0xDA, 0xDB, 0xDD, 0xE0, 0xEE
PROGRESSIVE = 0xC2
FRAMES = {0xC0, 0xC1, PROGRESSIVE}
BARE = {0x01, *range(0xD0, 0xD8)}  # markers without a payload

_MARKER = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
_SCAN_END = re.compile(rb"\xff\xff*[^\x00\xd0-\xd7\xff]", re.DOTALL)  # finds 0xFF faster than \xff+ does


class UnsupportedJpeg(ValueError):
    """The file cannot be edited block by block; the message says why in a few words."""


class Segment(NamedTuple):
    """A marker with its payload and, after SOS only, the entropy-coded data that follows."""

    marker: int
    payload: bytes
    scan: bytes = b""


def number_of(marker: int, data: bytes) -> int:
    """How often a marker's two bytes occur in a file, wherever that is: at least as often as it has the marker."""
    if (counted := count(marker, data)) is not None:
        return counted
    values = np.frombuffer(data, np.uint8)
    return int(np.count_nonzero(values[1:][np.flatnonzero(values[:-1] == 0xFF)] == marker))


def split(data: bytes) -> Generator[Segment, None, int]:
    """Walk through a file from SOI to EOI; what it returns is where the file goes on behind that."""
    if data[:2] != bytes((0xFF, SOI)):
        raise UnsupportedJpeg("not a JPEG file")
    at = 2
    while True:
        found = _MARKER.match(data, at)
        if found is None:
            raise UnsupportedJpeg("truncated file" if at + 1 >= len(data) else "damaged file: no marker")
        marker, at = found[1][0], found.end()
        if marker == EOI:
            return at
        if marker in BARE:
            continue
        size = int.from_bytes(data[at : at + 2], "big")
        payload, at = data[at + 2 : at + size], at + size
        if size < 2 or len(payload) != size - 2:
            raise UnsupportedJpeg("truncated file")
        scan = b""
        if marker == SOS:
            end = _scan_end(data, at)
            scan, at = data[at:end], end
        yield Segment(marker, payload, scan)


def _scan_end(data: bytes, at: int) -> int:
    """Where entropy-coded data ends that goes on at a place."""
    if (end := scan_end(data, min(at, len(data)))) is None:
        found = _SCAN_END.search(data, at)
        end = len(data) if found is None else found.start()
    if end == len(data):
        raise UnsupportedJpeg("truncated file")
    return end


def end_of(data: bytes) -> int:
    """Where a file's picture ends, and what other programs hang on begins.

    Raises:
        UnsupportedJpeg: It is damaged.
    """
    walk = split(data)
    while True:
        try:
            next(walk)
        except StopIteration as end:
            return int(end.value)


def join(segments: Iterable[Segment]) -> bytes:
    """Make a file of segments, with SOI before and EOI behind them."""
    parts = [bytes((0xFF, SOI))]
    for marker, payload, scan in segments:
        parts += [bytes((0xFF, marker)), (len(payload) + 2).to_bytes(2, "big"), payload, scan]
    return b"".join([*parts, bytes((0xFF, EOI))])
