"""Where a picture ends in its file, told from its headers: what lies behind is no part of it, and is not published."""

from __future__ import annotations

import contextlib
import re
import struct

from p3mdata.imaging.jpeg.segments import EOI, UnsupportedJpeg, end_of, number_of

_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
# Grey or colours as bytes; width, height and the largest value, with comments between them.
_MAP = re.compile(rb"P([56])" + rb"(?:\s|#[^\n]*\n)+(\d{1,9})" * 3 + rb"\s")
_GIF_TRAILER, _GIF_EXTENSION, _GIF_IMAGE = 0x3B, 0x21, 0x2C
_UNCOMPRESSED, _BIT_FIELDS = 0, 3
# Headers of bitmaps: the oldest has short sizes, the newest may have a colour profile behind the pixels.
_BMP_OLDEST, _BMP_NEWEST = 12, 124


def goes_on(form: str | None, data: bytes) -> bool:
    """Whether a file has bytes behind its picture, such as a film, another picture or what a phone keeps of it.

    Args:
        form: The picture's format, by Pillow's name.
        data: The whole file.
    """
    if form == "PNG":
        return 0 <= data.find(_PNG_END) < len(data) - len(_PNG_END)
    if form == "WEBP":
        size = int.from_bytes(data[4:8], "little")
        return 8 + size + size % 2 < len(data)
    if form == "JPEG":
        return _jpeg_goes_on(data)
    if form in _ENDS:
        with contextlib.suppress(IndexError, struct.error):
            end = _ENDS[form](data)
            # Programs fill files up to whole words or lines.
            return end is not None and bool(data[end:].strip(b"\0\r\n"))
    return False


def _jpeg_goes_on(data: bytes) -> bool:
    # A thumbnail in EXIF has an end of its own, and so has a whole picture behind the picture.
    if number_of(EOI, data) >= 2:
        with contextlib.suppress(UnsupportedJpeg):
            return end_of(data) < len(data)
    return not data.endswith(bytes((0xFF, EOI)))


def _gif_end(data: bytes) -> int | None:
    """None where no trailer tells it."""
    at = 13 + _gif_table(data[10])
    while data[at] != _GIF_TRAILER:
        if data[at] == _GIF_EXTENSION:
            at += 2
        elif data[at] == _GIF_IMAGE:
            at += 11 + _gif_table(data[at + 9])
        else:
            return None
        while size := data[at]:
            at += 1 + size
        at += 1
    return at + 1


def _gif_table(flags: int) -> int:
    """Bytes of the colours that follow a block with these flags."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _bmp_end(data: bytes) -> int | None:
    """By its size in pixels; where that does not tell, by the file's own word."""
    end: int
    told: int
    told, pixels, header = struct.unpack_from("<2xI4xII", data)
    if header == _BMP_OLDEST:
        width, height, bits = struct.unpack_from("<HH2xH", data, 18)
        packed = _UNCOMPRESSED
    else:
        width, height, bits, packed = struct.unpack_from("<ii2xHI", data, 18)
    if packed not in (_UNCOMPRESSED, _BIT_FIELDS):
        return told or None
    end = pixels + (width * bits + 31) // 32 * 4 * abs(height)
    return max(end, told) if header >= _BMP_NEWEST else end


def _map_end(data: bytes) -> int | None:
    """None where the values are text."""
    header = _MAP.match(data)
    if header is None:
        return None
    kind, width, height, top = (int(value) for value in header.groups())
    return header.end() + width * height * (3 if kind == 6 else 1) * (2 if top > 255 else 1)


_ENDS = {"GIF": _gif_end, "BMP": _bmp_end, "PPM": _map_end}
