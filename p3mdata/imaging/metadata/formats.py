"""Any supported file: choose the walker, and list what a released file must not have."""

from __future__ import annotations

from p3mdata.imaging.metadata.jpeg import walk_jpeg
from p3mdata.imaging.metadata.parts import Part, Walk
from p3mdata.imaging.metadata.png import PNG_SIGNATURE, walk_png
from p3mdata.imaging.metadata.tiff import walk_tiff
from p3mdata.imaging.metadata.webp import walk_webp


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
    found = [(part.name, part.length) for part in walk(data) if not part.allowed]
    return [f"{name} ({size}{'' if name.endswith('bytes') else ' bytes'})" for name, size in found]
