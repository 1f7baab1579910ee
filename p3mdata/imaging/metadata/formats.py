"""Any supported file: choose the walker, and list what a released file must not have."""

from __future__ import annotations

import zlib

from p3mdata.imaging.metadata.jpeg import walk_jpeg
from p3mdata.imaging.metadata.parts import Part, Walk
from p3mdata.imaging.metadata.png import PNG_SIGNATURE, walk_png
from p3mdata.imaging.metadata.profile import private_parts
from p3mdata.imaging.metadata.tiff import walk_tiff
from p3mdata.imaging.metadata.webp import walk_webp

_MOST_OF_A_PROFILE = 1 << 26


def walk(data: bytes) -> list[Part]:
    """Take an encoded image apart; the format is told from the signature.

    In JPEG, PNG and WebP the parts cover the file without gap or overlap. In TIFF they come in the order
    of their offsets, and short values lie inside the IFD that holds them.

    Args:
        data: A whole JPEG, PNG, WebP or classic TIFF file.

    Returns:
        Every part of the file, in order.

    Raises:
        ValueError: If the format is unknown or the structure is damaged.
    """
    state = Walk(data)
    if data[:3] == b"\xff\xd8\xff":
        walk_jpeg(state)
    elif data[:8] == PNG_SIGNATURE:
        walk_png(state)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        walk_webp(state)
    elif data[:4] in (b"II*\0", b"MM\0*"):
        walk_tiff(state)
    elif data[:4] in (b"II+\0", b"MM\0+"):
        raise ValueError("BigTIFF files are not supported.")
    else:
        raise ValueError("The file is not a JPEG, PNG, WebP or TIFF image.")
    return state.parts


def leftovers(data: bytes) -> list[str]:
    """Name the parts of an encoded image that a released file must not have.

    Args:
        data: A whole JPEG, PNG, WebP or classic TIFF file.

    Returns:
        Names with sizes, such as ``APP1 Exif (1204 bytes)``; empty for a clean file.

    Raises:
        ValueError: If the format is unknown or the structure is damaged.
    """
    parts = walk(data)
    found = [(part.name, part.length) for part in parts if not part.allowed]
    inside = private_parts(profile) if (profile := _profile(data, parts)) else []
    return [
        *(f"{name} ({size}{'' if name.endswith('bytes') else ' bytes'})" for name, size in found),
        *(f"ICC profile: {name}" for name in inside),
    ]


def _profile(data: bytes, parts: list[Part]) -> bytes:
    """The ICC profile of a file; empty without one."""
    out = b""
    for part in parts:
        body = data[part.offset : part.offset + part.length]
        if part.name == "APP2 ICC":
            out += body[18:]
        elif part.name == "iCCP" and part.allowed:
            packed = body[8:-4].partition(b"\0")[2][1:]
            out += zlib.decompressobj().decompress(packed, _MOST_OF_A_PROFILE)
        elif part.name == "ICCP":
            out += body[8 : 8 + int.from_bytes(body[4:8], "little")]
        elif part.name == "tag 34675 ICC profile":
            out += body
    return out
