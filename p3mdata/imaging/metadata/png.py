"""The parts of a PNG file: its chunks, and pixel data that is not shown."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace

from p3mdata.imaging.metadata.parts import Walk, inflated

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
# Beside IDAT, each of these chunks may appear once, with one of these lengths.
_ONCE = {
    "IHDR": range(13, 14),
    "PLTE": range(3, 769, 3),
    "IEND": range(1),
    "tRNS": range(1, 257),
    "sRGB": range(1, 2),
    "iCCP": range(1 << 32),
    "gAMA": range(4, 5),
    "cHRM": range(32, 33),
    "sBIT": range(1, 5),
}


def walk_png(walk: Walk) -> None:
    """Walk a PNG file, and inflate its pixels to see that they are all shown."""
    data, view, pos, name = walk.data, memoryview(walk.data), 8, ""
    seen: set[str] = set()
    pixels: list[memoryview] = []
    last = expected = 0
    walk.add("PNG signature", 0, 8, True)
    while name != "IEND":
        walk.need(pos, 12)
        length = int.from_bytes(data[pos : pos + 4], "big")
        walk.need(pos, 12 + length)
        kind, body = data[pos + 4 : pos + 8], view[pos + 8 : pos + 8 + length]
        if not kind.isalpha() or (pos == 8) != (kind == b"IHDR"):
            raise ValueError("The PNG file is damaged: a chunk is out of place.")
        checksum = int.from_bytes(view[pos + 8 + length : pos + 12 + length], "big")
        if zlib.crc32(view[pos + 4 : pos + 8 + length]) != checksum:
            raise ValueError("The PNG file is damaged: the checksum of a chunk is wrong.")
        name = kind.decode("ascii")
        allowed = name == "IDAT" or (name not in seen and length in _ONCE.get(name, ()))
        if name == "IHDR":
            expected = _image_size(bytes(body))
        elif name == "IDAT":
            pixels.append(body)
            last = len(walk.parts)
        elif name == "iCCP":
            allowed = allowed and _profile_fits(bytes(body))
        seen.add(name)
        walk.add(name, pos, 12 + length, allowed)
        pos += 12 + length
    size, spare = inflated(pixels, expected)
    if size < expected:
        raise ValueError("The PNG file is damaged: rows of the image are missing.")
    if size > expected or spare:
        # Pixels of an earlier, larger picture can survive behind the ones that decoders show.
        walk.parts[last] = replace(walk.parts[last], name="IDAT with surplus data", allowed=False)
    walk.trailing(pos)


def _image_size(header: bytes) -> int:
    """How many bytes of filtered pixel rows an IHDR asks for."""
    if len(header) != 13:
        raise ValueError("The PNG file is damaged: its header has the wrong size.")
    width, height, depth, kind, methods, laced = struct.unpack(">IIBBHB", header)
    known = depth in (1, 2, 4, 8, 16) and kind in _CHANNELS and not methods and laced <= 1
    if not width or not height or not known:
        raise ValueError("The PNG file is damaged: its header makes no sense.")
    total = 0
    for x, y, dx, dy in _ADAM7 if laced else ((0, 0, 1, 1),):
        across, down = (width - x + dx - 1) // dx, (height - y + dy - 1) // dy
        total += down * (1 + (across * depth * _CHANNELS[kind] + 7) // 8) if across > 0 else 0
    return total


def _profile_fits(body: bytes) -> bool:
    """Whether an iCCP chunk holds a plain name and one deflated stream."""
    name, end, stream = body[:81].partition(b"\0")[0], body.find(b"\0", 0, 80), memoryview(body)
    if end < 1 or len(body) < end + 2 or body[end + 1] or any(c < 32 or 126 < c < 161 for c in name):
        return False
    try:
        return inflated([stream[end + 2 :]], 1 << 26)[1] == 0
    except ValueError:
        return False  # The pixels do not depend on it, so this is a part too many, not a damaged image.
