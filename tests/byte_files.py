"""Image files put together byte by byte, for tests of what hides in them."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageCms

from p3mdata.imaging.metadata import walk

_RNG = np.random.default_rng(7)
PIXELS = cv2.GaussianBlur(_RNG.integers(0, 256, (61, 83, 4), dtype=np.uint8), (0, 0), 2)


def encode(form: str, mode: str = "RGB", **options: Any) -> bytes:
    if mode == "I;16":
        image = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)
    else:
        image = Image.fromarray(PIXELS).convert(mode)
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def cv2_encode(ext: str, array: np.ndarray, *options: int) -> bytes:
    done, out = cv2.imencode(ext, np.ascontiguousarray(array), list(options))
    assert done
    return out.tobytes()


def names(data: bytes) -> list[str]:
    return [part.name for part in walk(data) if not part.allowed]


def segment(code: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, code, len(body) + 2) + body


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def riff_chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def riff(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tiff(
    ifds: list[list[tuple[int, int, int, bytes]]], chain: bool = True, order: str = "<", tail: bytes = b""
) -> bytes:
    """A TIFF of IFDs whose entries are (tag, type, count, value); a short value stands in the entry.

    IFD number n begins at 8 + 1000 * n, its long values 500 bytes behind that.
    """
    out = bytearray((b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8))
    for number, entries in enumerate(ifds):
        start = 8 + 1000 * number
        out += b"\0" * (start - len(out))
        values, table = b"", struct.pack(order + "H", len(entries))
        for tag, kind, count, value in entries:
            place = value.ljust(4, b"\0")
            if len(value) > 4:
                place = struct.pack(order + "I", start + 2 + 12 * len(entries) + 4 + len(values))
                values += value + b"\0" * (len(value) % 2)
            table += struct.pack(order + "HHI", tag, kind, count) + place
        follow = start + 1000 if chain and number + 1 < len(ifds) else 0
        out += table + struct.pack(order + "I", follow) + values
    return bytes(out) + tail


def short(value: int, order: str = "<") -> bytes:
    return struct.pack(order + "H", value)


def long(value: int, order: str = "<") -> bytes:
    return struct.pack(order + "I", value)


def page(where: int, order: str = "<") -> list[tuple[int, int, int, bytes]]:
    """The entries of a 4 by 4 grey picture whose 16 bytes lie at `where`."""
    tags = [(256, 4), (257, 4), (258, 8), (259, 1), (262, 1), (277, 1), (278, 4)]
    entries = [(tag, 3, 1, short(value, order)) for tag, value in tags]
    entries += [(273, 4, 1, long(where, order)), (279, 4, 1, long(16, order))]
    return sorted(entries)


PAGE_END = 8 + 2 + 9 * 12 + 4


def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def icc_tag(profile: bytes, name: bytes) -> tuple[int, int]:
    for at in range(132, 132 + 12 * int.from_bytes(profile[128:132], "big"), 12):
        if profile[at : at + 4] == name:
            return struct.unpack_from(">II", profile, at + 4)
    raise AssertionError(name)


def display_p3() -> bytes:
    """An sRGB profile with the primaries of Display P3."""
    out = bytearray(srgb())
    primaries = {b"rXYZ": (33754, 15808, -69), b"gXYZ": (19161, 45365, 2746), b"bXYZ": (10300, 4363, 51380)}
    for name, values in primaries.items():
        struct.pack_into(">iii", out, icc_tag(bytes(out), name)[0] + 8, *values)
    return bytes(out)


def grey_profile(curve: bytes) -> bytes:
    white = b"XYZ \0\0\0\0" + struct.pack(">iii", 63190, 65536, 54061)
    table = struct.pack(">I", 2)
    table += b"wtpt" + struct.pack(">II", 156, 20) + b"kTRC" + struct.pack(">II", 176, len(curve))
    body = table + white + curve
    head = struct.pack(">I4sI4s4s4s12s4s", 128 + len(body), b"lcms", 0x02100000, b"mntr", b"GRAY", b"XYZ ",
                       b"\x07\xe0\0\x01\0\x01" + b"\0" * 6, b"acsp")  # fmt: skip
    head += b"\0" * 28 + struct.pack(">iii", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + body


def gamma_curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"


def srgb_curve() -> bytes:
    at, size = icc_tag(srgb(), b"rTRC")
    return srgb()[at : at + size]
