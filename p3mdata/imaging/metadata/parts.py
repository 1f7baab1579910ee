"""What every walker needs: the list of parts, and checks that keep a hostile file within bounds."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """One piece of an encoded image file.

    Attributes:
        name: What the piece is, such as ``APP1 Exif``, ``tEXt`` or ``trailing bytes``.
        offset: Where it begins in the file.
        length: How many bytes it takes, with its own header and checksum.
        allowed: Whether it is on the list of pieces that a released file may have.
    """

    name: str
    offset: int
    length: int
    allowed: bool


class Walk:
    """The file and the parts found so far."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.parts: list[Part] = []
        # A part costs some 200 bytes of memory but only 4 bytes of a hostile file.
        self.most = 100_000 + len(data) // 64

    def add(self, name: str, offset: int, length: int, allowed: bool) -> None:
        """Note a part."""
        if len(self.parts) >= self.most:
            raise ValueError("The file is cut into more pieces than a real image has.")
        self.parts.append(Part(name, offset, length, allowed))

    def need(self, offset: int, length: int) -> None:
        """Refuse a file that ends before these bytes do."""
        if offset + length > len(self.data):
            raise ValueError("The file is damaged: a part of it reaches past its end.")

    def trailing(self, offset: int) -> None:
        """Note what follows the end of the image."""
        if offset < len(self.data):
            self.add("trailing bytes", offset, len(self.data) - offset, False)


def inflated(pieces: Iterable[memoryview], most: int) -> tuple[int, int]:
    """Size of a deflated stream and of the bytes that follow it; stops just past `most`, keeps no output."""
    engine, size, spare = zlib.decompressobj(), 0, 0
    # Small slices, because zlib copies the unread rest of its input on every call.
    slices = (bytes(piece[at : at + 16384]) for piece in pieces for at in range(0, len(piece), 16384))
    try:
        for block in slices:
            if engine.eof:
                spare += len(block)
            todo = block
            while todo and not engine.eof and size <= most:
                size += len(engine.decompress(todo, 1 << 18))
                todo = engine.unconsumed_tail
                spare += len(engine.unused_data)
    except zlib.error:
        raise ValueError("The file is damaged: a compressed stream cannot be read.") from None
    if not engine.eof and size <= most:
        raise ValueError("The file is damaged: a compressed stream stops short.")
    return size, spare
