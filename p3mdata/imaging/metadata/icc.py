"""ICC profiles: whether an image needs the one it came with, and putting it into a clean file."""

from __future__ import annotations

import contextlib
import io
import itertools
import struct
import zlib
from functools import cache, lru_cache

from PIL import Image, ImageChops, ImageCms

from p3mdata.errors import BrokenInput
from p3mdata.imaging.metadata.formats import walk
from p3mdata.imaging.metadata.parts import Part
from p3mdata.imaging.metadata.profile import rebuilt
from p3mdata.imaging.metadata.webp import image_size

_SPACES = {1: ("GRAY", "L"), 3: ("RGB", "RGB"), 4: ("CMYK", "CMYK")}
_MOST_IN_SEGMENT = 65519  # bytes of profile in one JPEG segment


def needed_icc(icc: bytes | None, channels: int = 3) -> bytes | None:
    """Tell whether pixels would be misread without their ICC profile.

    Args:
        icc: The profile, or None.
        channels: Colour channels of the image without alpha: 1 for grey, 3 for RGB, 4 for CMYK.

    Returns:
        The profile, rebuilt from its colour tags, or None if it is absent, unreadable, meant for other channels, or
        turns no colour into another than sRGB does.

    Raises:
        BrokenInput: What it does to colours cannot be told from its colour tags alone.
    """
    return _needed_icc(icc, channels) if icc else None


@lru_cache(maxsize=8)
def _needed_icc(icc: bytes, channels: int) -> bytes | None:
    if len(icc) < 132 or icc[36:40] != b"acsp" or channels not in _SPACES:
        return None
    if icc[12:16] not in (b"scnr", b"mntr", b"prtr", b"spac"):
        return None  # Links and named colours do not say what pixels mean.
    icc = icc[: int.from_bytes(icc[:4], "big")]
    space, mode = _SPACES[channels]
    _, plain = _probe(mode)
    try:
        shown = _shown(icc, space, mode)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None  # A profile that nobody can read changes nothing for whoever opens the file.
    # Two levels, for makers of sRGB profiles round its curve and primaries differently.
    if shown is None or (plain is not None and max(ImageChops.difference(shown, plain).tobytes()) <= 2):
        return None
    with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
        clean = rebuilt(icc)
        again = _shown(clean, space, mode)
        if again is not None and max(ImageChops.difference(shown, again).tobytes()) <= 1:
            return clean
    raise BrokenInput(
        "unusual_profile", "has a colour profile of an unusual kind. Convert the picture to sRGB and save it anew."
    )


def _shown(icc: bytes, space: str, mode: str) -> Image.Image | None:
    """The colours of `_probe` in sRGB as the profile has them; None when it is for other channels."""
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    if profile.profile.xcolor_space.strip() != space:
        return None
    to_srgb = ImageCms.buildTransform(
        profile, ImageCms.createProfile("sRGB"), mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC
    )
    return to_srgb.apply(_probe(mode)[0])


@cache
def _probe(mode: str) -> tuple[Image.Image, Image.Image | None]:
    """Colours to try a profile with, and what they look like without it; None if nobody can tell."""
    if mode == "CMYK":
        return Image.new(mode, (1, 1)), None
    if mode == "L":
        ramp = Image.frombytes(mode, (256, 1), bytes(range(256)))
        return ramp, ramp.convert("RGB")
    # All shades of each primary, of each sum of them and of grey, and a coarse cube of all colours.
    ramps = [[v if mask >> c & 1 else 0 for c in range(3)] for mask in range(1, 8) for v in range(256)]
    colours = [*ramps, *itertools.product(range(0, 256, 51), repeat=3)]
    image = Image.frombytes(mode, (len(colours), 1), bytes(itertools.chain(*colours)))
    return image, image


def with_icc(data: bytes, icc: bytes | None) -> bytes:
    """Put an ICC profile into an encoded JPEG, PNG or WebP image, in place of one that it has.

    Args:
        data: The encoded image.
        icc: The profile; with None or nothing in it, `data` comes back unchanged.

    Returns:
        The encoded image with the profile; the pixels are not encoded again.

    Raises:
        ValueError: If the file is damaged or of another format, or the profile is too large for it.
    """
    if not icc:
        return data
    parts = walk(data)
    form = parts[0].name
    if form == "SOI":
        return _into_jpeg(data, parts, icc)
    if form == "PNG signature":
        return _into_png(data, parts, icc)
    if form == "RIFF header":
        return _into_webp(data, parts, icc)
    raise ValueError("An ICC profile can only be put into a JPEG, PNG or WebP file.")


def _into_jpeg(data: bytes, parts: list[Part], icc: bytes) -> bytes:
    pieces = [icc[at : at + _MOST_IN_SEGMENT] for at in range(0, len(icc), _MOST_IN_SEGMENT)]
    if len(pieces) > 255:
        raise ValueError("The ICC profile is too large for a JPEG file.")
    new = b"".join(
        struct.pack(">HH12sBB", 0xFFE2, 16 + len(piece), b"ICC_PROFILE\0", number, len(pieces)) + piece
        for number, piece in enumerate(pieces, 1)
    )
    after = 1 if parts[1].name.startswith("APP0 JFIF") else 0
    return _spliced(data, parts, after, new, {"APP2 ICC"})


def _into_png(data: bytes, parts: list[Part], icc: bytes) -> bytes:
    body = b"iCCPICC\0\0" + zlib.compress(icc, 9)
    new = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return _spliced(data, parts, 1, new, {"iCCP", "sRGB"})  # A file must not have both of these.


def _into_webp(data: bytes, parts: list[Part], icc: bytes) -> bytes:
    chunk = b"ICCP" + struct.pack("<I", len(icc)) + icc + b"\0" * (len(icc) % 2)
    old = parts[1]
    if old.name.startswith("VP8X"):
        head = bytearray(data[old.offset : old.offset + old.length])
        if len(head) < 18:
            raise ValueError("The WebP file is damaged: its header is too short.")
        head[8] |= 0x20
        data = data[: old.offset] + head + data[old.offset + old.length :]
        out = _spliced(data, parts, 1, chunk, {"ICCP"})
    else:
        width, height, alpha = image_size(old.name, data[20:30])
        size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        flags = 0x20 | (0x10 if alpha else 0)
        out = _spliced(data, parts, 0, b"VP8X\x0a\0\0\0" + bytes((flags, 0, 0, 0)) + size + chunk, {"ICCP"})
    length = int.from_bytes(data[4:8], "little") + len(out) - len(data)
    return out[:4] + length.to_bytes(4, "little") + out[8:]


def _spliced(data: bytes, parts: list[Part], after: int, new: bytes, without: set[str]) -> bytes:
    """The file with `new` behind the part of that index and without the parts of those names."""
    out = []
    for index, part in enumerate(parts):
        if part.name not in without:
            out.append(data[part.offset : part.offset + part.length])
        if index == after:
            out.append(new)
    return b"".join(out)
