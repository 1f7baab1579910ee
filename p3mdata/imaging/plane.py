"""Pixels of plain PNG files in grey, as mattes and facemasks are, in a fraction of the time that libpng takes."""

from __future__ import annotations

import contextlib
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p3mdata.native.png import unfiltered

try:
    import deflate
except ImportError:
    # On machines that only train; pictures are read by others then.
    _INFLATES = False
else:
    _INFLATES = True

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Beside what each file has: nothing that has a say in what its pixels are or how they are turned.
_HARMLESS = frozenset((b"pHYs", b"tIME", b"gAMA", b"sRGB", b"cHRM"))
_GREY = 0
# Deflate packs no more than that many bytes into one, so no header can ask for memory that its file does not fill.
_MOST_OF_A_BYTE = 1032
# Of more pixels a second copy would be felt.
_MOST_PIXELS = 1 << 26


def plane_of(data: bytes) -> NDArray[Any] | None:
    """Pixels of an intact PNG file of one grey channel and nothing else, HxW, uint8 or uint16.

    None leaves the file to others: it is damaged, or of another kind, or what this needs is not there. Each checksum
    is looked at.
    """
    if not _INFLATES or not data.startswith(_SIGNATURE):
        return None
    with contextlib.suppress(struct.error, ValueError, deflate.DeflateError):
        return _plane(memoryview(data))
    return None


def _plane(data: memoryview) -> NDArray[Any] | None:
    place, head, parts, ended = len(_SIGNATURE), b"", [], False
    while not ended:
        (size,) = struct.unpack_from(">I", data, place)
        kind, content = bytes(data[place + 4 : place + 8]), data[place + 8 : place + 8 + size]
        (told,) = struct.unpack_from(">I", data, place + 8 + size)
        place += 12 + size
        if zlib.crc32(content, zlib.crc32(kind)) != told:
            return None
        if bool(head) is (kind == b"IHDR"):
            # The header comes first, and once.
            return None
        if kind == b"IHDR":
            head = bytes(content)
        elif kind == b"IDAT":
            parts.append(content)
        elif kind == b"IEND":
            ended = True
        elif kind not in _HARMLESS or parts:
            return None
    width, height, depth, colour, *others = struct.unpack(">IIBBBBB", head)
    if place != len(data) or colour != _GREY or depth not in (8, 16) or any(others) or not width or not height:
        return None
    step = depth // 8
    filled, packed = height * (1 + width * step), b"".join(parts)
    if filled > _MOST_OF_A_BYTE * len(packed) or width * height > _MOST_PIXELS:
        return None
    filtered = np.frombuffer(deflate.zlib_decompress(packed, filled), np.uint8)
    pixels = unfiltered(filtered, height, step) if filtered.size == filled else None
    if pixels is None or step == 1:
        return pixels
    return pixels.view(">u2").astype(np.uint16)
