"""Files of one sequential scan, as nearly all photographs are: decoded and written by compiled code of our own.

It takes three quarters of the time that libjpeg-turbo needs, to the same coefficients, pixels and bytes, and takes only
what encoders write: on any other data it gives up, and libjpeg, which knows what to make of damage, is asked. What
it wrote is read back by libjpeg for its proofs (`by_libjpeg`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from p3mdata.imaging.jpeg.library import Coefs, exchanged
from p3mdata.imaging.jpeg.segments import DHT, DRI, FRAMES, PROGRESSIVE, SOS, Segment
from p3mdata.imaging.jpeg.structure import COEFS, GREY, Structure
from p3mdata.native.decoder import Scan, decoded, shown
from p3mdata.native.encoder import encoded

_WHOLE_SPECTRUM = bytes((0, COEFS - 1, 0))


def scan_of(structure: Structure) -> Scan | None:
    """The one scan of a file whose headers are in order; None where it has others."""
    codes: dict[tuple[int, int], bytes] = {}
    interval, names, scan = 0, b"", None
    for segment in structure.kept:
        if scan is not None or segment.marker == PROGRESSIVE:
            return None
        if segment.marker in FRAMES:
            names = segment.payload[6::3]
        elif segment.marker == DHT:
            codes.update(_codes(segment.payload))
        elif segment.marker == DRI:
            interval = int.from_bytes(segment.payload, "big")
        elif segment.marker == SOS:
            scan = segment
    count = len(structure.components)
    if scan is None or not structure.plain or scan.payload[-3:] != _WHOLE_SPECTRUM:
        return None
    if scan.payload[0] != count or scan.payload[1 : 1 + 2 * count : 2] != names:
        return None
    # A scan of one component has units of one block.
    factors = ((1, 1),) if count == GREY else tuple(part.factor for part in structure.components)
    chosen = tuple(divmod(byte, 16) for byte in scan.payload[2 : 2 + 2 * count : 2])
    tables = tuple(part.table for part in structure.components)
    return Scan((structure.height, structure.width), factors, tables, codes, chosen, interval, scan.scan)


def _codes(payload: bytes) -> Iterator[tuple[tuple[int, int], bytes]]:
    """The Huffman tables of a DHT segment that is in order."""
    at = 0
    while at < len(payload):
        end = at + 17 + sum(payload[at + 1 : at + 17])
        kind, number = divmod(payload[at], 16)
        yield (kind, number), payload[at + 1 : end]
        at = end


def pixels_of(structure: Structure) -> NDArray[np.uint8] | None:
    """Pixels of a file whose headers are in order, uint8 RGB [height, width, 3], or [height, width] of a grey one; None
    where it is left to others."""
    if (scan := scan_of(structure)) is None:
        return None
    both = decoded(scan, False, slice(0, structure.height), slice(0, structure.width))
    return None if both is None else both[1]


class OneScan:
    """A file of one scan whose coefficients are decoded.

    Attributes:
        coefs: Of each component; they cannot be written to.
    """

    coefs: list[Coefs]

    def __init__(self, scan: Scan, planes: list[Coefs], whole: NDArray[np.uint8] | None) -> None:
        self._scan, self._planes, self._whole = scan, planes, whole
        self.coefs = [plane.view() for plane in planes]
        for plane in self.coefs:
            plane.flags.writeable = False

    @classmethod
    def of(cls, structure: Structure, with_pixels: bool) -> OneScan | None:
        """A file whose headers are in order; None where it is left to others."""
        if (scan := scan_of(structure)) is None:
            return None
        whole = (slice(0, structure.height), slice(0, structure.width)) if with_pixels else ()
        both = decoded(scan, True, *whole)
        return None if both is None else cls(scan, *both)

    def pixels(self, size: tuple[int, int], rows: slice, columns: slice) -> NDArray[np.uint8] | None:
        """A part of the picture, as `Opened.pixels`; what was decoded with the coefficients is given once."""
        if size != self._scan.size:
            return None
        if self._whole is not None and (rows, columns) == tuple(slice(0, side) for side in size):
            whole, self._whole = self._whole, None
            return whole
        return shown(self._scan, self._planes, rows, columns)

    def rewritten(
        self, chosen: Sequence[NDArray[np.bool_]], blocks: Sequence[Coefs], tables: Sequence[Segment]
    ) -> bytes | None:
        """What is coded in the file with other coefficients, without restart markers; None where it has to be written
        by others.

        Args:
            chosen, blocks: As for `Opened.rewritten`.
            tables: The Huffman tables to code it by; the first one is that of brightness.
        """
        codes = dict(pair for segment in tables for pair in _codes(segment.payload))
        numbers = tuple((min(1, number),) * 2 for number in range(len(self._planes)))
        others = [np.array(new) for new in blocks]
        exchanged(self._planes, chosen, others)
        try:
            return encoded(replace(self._scan, codes=codes, chosen=numbers), self._planes)
        finally:
            exchanged(self._planes, chosen, others)
