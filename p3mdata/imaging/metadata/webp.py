"""The parts of a WebP file: its RIFF chunks."""

from __future__ import annotations

import re
import struct

from p3mdata.imaging.metadata.parts import Walk


def walk_webp(walk: Walk) -> None:
    """Walk a WebP file."""
    data, pos = walk.data, 12
    end = 8 + int.from_bytes(data[4:8], "little")
    seen: set[str] = set()
    walk.need(0, end)
    walk.add("RIFF header", 0, 12, True)
    while pos < end:
        kind, length = data[pos : pos + 4], int.from_bytes(data[pos + 4 : pos + 8], "little")
        padded = length + length % 2
        if pos + 8 + padded > end:
            raise ValueError("The WebP file is damaged: a chunk reaches past the end.")
        name = kind.decode("ascii").rstrip() if re.fullmatch(rb"[\w ]{4}", kind) else f"chunk {kind.hex()}"
        allowed = name in ("VP8", "VP8L", "VP8X", "ALPH", "ICCP") and name not in seen
        if name in ("VP8", "VP8L"):
            image_size(name, data[pos + 8 : pos + 18])
            allowed = allowed and not seen & {"VP8", "VP8L"}
        seen.add(name)
        if name == "VP8X":
            flags = data[pos + 8] if length else 0
            for bit, what in ((8, "EXIF"), (4, "XMP"), (2, "animation"), (0xC1, "unknown")):
                if flags & bit:
                    name, allowed = f"{name} with {what} flag", False
            allowed = allowed and length == 10 and data[pos + 9 : pos + 12] == b"\0\0\0"
        if padded > length and data[pos + 8 + length]:
            name, allowed = f"{name} with a padding byte in use", False
        walk.add(name, pos, 8 + padded, allowed)
        pos += 8 + padded
    if not seen & {"VP8", "VP8L", "ANMF"}:
        raise ValueError("The WebP file is damaged: it holds no image.")
    walk.trailing(end)


def image_size(name: str, body: bytes) -> tuple[int, int, bool]:
    """Width, height and alpha of a VP8 or VP8L chunk."""
    if name == "VP8" and len(body) >= 10 and not body[0] & 1 and body[3:6] == b"\x9d\x01\x2a":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", body, 6))
        if width and height:
            return width, height, False
    if name == "VP8L" and len(body) >= 5 and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1)
    raise ValueError("The WebP file is damaged: its image data cannot be read.")
