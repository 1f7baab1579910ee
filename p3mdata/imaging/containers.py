"""What a file holds beside the picture that is used, and why some files cannot be used: told from their headers."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterator
from typing import Any

from PIL import Image, TiffImagePlugin

from p3mdata.imaging.ends import goes_on
from p3mdata.imaging.jpeg.segments import EOI, SOS, UnsupportedJpeg, split

_SUBFILE_TAG, _REDUCED, _SUB_IFDS_TAG = 254, 1, 330
_BITS_TAG, _SAMPLES_TAG, _EXTRA_TAG, _KIND_TAG = 258, 277, 338, 339
_FLOAT, _SIGNED = 3, 2
_FRAME = re.compile(rb"\xff([\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf])..(.)", re.DOTALL)
_MOST_CHANNELS = 4
# Grey or colours as bytes or as text; width, height and the largest value, with comments between them.
_MAP_HEADER = re.compile(rb"P[2356]" + rb"(?:\s|#[^\n]*\n)+\d+" * 2 + rb"(?:\s|#[^\n]*\n)+(\d{1,10})")


def with_end(data: bytes) -> tuple[bytes, bool]:
    """A JPEG file with the end marker that some cameras and downloads leave out, and whether it lacked it."""
    end = bytes((0xFF, EOI))
    if data[-2:] == end or data[:3] != b"\xff\xd8\xff" or data.rfind(end) > data.rfind(bytes((0xFF, SOS))):
        return data, False
    return data + end, True


def dropped_pages(image: Image.Image) -> int | None:
    """Further pages of a TIFF that are marked as small copies of the first; None when one is a picture of its own."""
    frames = getattr(image, "n_frames", 1)
    try:
        for page in range(1, frames):
            image.seek(page)
            if not int(image.tag_v2.get(_SUBFILE_TAG, 0)) & _REDUCED:  # type: ignore[attr-defined]
                return None
    finally:
        image.seek(0)
    return frames - 1


def left_out(image: Image.Image, data: bytes) -> Iterator[str]:
    """Notes about what else a file holds; it is not published."""
    frames = getattr(image, "n_frames", 1)
    if image.format == "MPO" and frames > 1:
        further = "a second picture or gain map" if frames == 2 else f"{frames - 1} further pictures or gain maps"
        yield f"{further} left out"
    elif goes_on(image.format, data):
        yield "data behind the picture left out"
    elif image.format == "TIFF":
        if frames > 1:
            yield "a thumbnail page left out" if frames == 2 else f"{frames - 1} thumbnail pages left out"
        if _SUB_IFDS_TAG in image.tag_v2:  # type: ignore[attr-defined]
            yield "pictures inside the page left out"
    elif image.format == "HEIF":
        more = len(image.info.get("depth_images") or ()) + sum(map(len, (image.info.get("aux") or {}).values()))
        if more:
            yield "a depth map, gain map or other second picture left out"


def is_small_copy(image: Image.Image) -> bool:
    """Whether the first page of a TIFF is a thumbnail of a picture that lies deeper in the file, as in RAW files."""
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    return bool(int(tags.get(_SUBFILE_TAG, 0)) & _REDUCED and _SUB_IFDS_TAG in tags)


def tiff_channels(image: Image.Image) -> tuple[int, tuple[int, ...]]:
    """Samples per pixel of a TIFF, and what its extra ones are: 0 nothing that is said, 1 and 2 opacity."""
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    extra = tags.get(_EXTRA_TAG, ())
    return int(tags.get(_SAMPLES_TAG, 1)), extra if isinstance(extra, tuple) else (extra,)


def jp2_bits(data: bytes) -> int:
    """Bits per sample of a JPEG 2000 file, from the SIZ marker of its code stream; 8 when there is none."""
    at = data.find(b"\xff\x4f\xff\x51")
    return (data[at + 42] & 0x7F) + 1 if at >= 0 and len(data) > at + 42 else 8


def map_top(data: bytes) -> int:
    """The value that stands for white in a PGM or PPM file, from its header; 255 when there is none."""
    header = _MAP_HEADER.match(data)
    return int(header[1]) if header else 255


def why_not(data: bytes) -> str | None:
    """What is unusual about a JPEG or TIFF file that is read by nobody here; None when nothing is known."""
    if data[:3] == b"\xff\xd8\xff":
        with contextlib.suppress(UnsupportedJpeg):
            list(split(data))
        frame = _FRAME.search(data)
        bits = frame[2][0] if frame else 8
        return f"is a JPEG of {bits} bits per sample. Save it as a 16-bit PNG." if bits != 8 else None
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return None
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
        source = io.BytesIO(data)
        source.seek(tags.next or 0)
        tags.load(source)
        return unusual_tiff(tags)
    return None


def unusual_tiff(tags: Any) -> str | None:
    """Why a TIFF of these tags is not used; None when nothing is unusual about it."""

    def first(tag: int, default: int) -> int:
        value = tags.get(tag, default)
        return int(value[0] if isinstance(value, tuple) else value)

    bits, samples, kind = first(_BITS_TAG, 1), first(_SAMPLES_TAG, 1), first(_KIND_TAG, 1)
    if kind == _FLOAT:
        return f"has {bits}-bit floating-point values. Save it as a 16-bit PNG."
    if kind == _SIGNED:
        return f"has {bits}-bit values with a sign. Save it as a 16-bit PNG."
    if samples > _MOST_CHANNELS:
        return f"has {samples} channels; at most 3 colours and opacity are used. Save these as a PNG."
    if bits > 16 or bits not in (1, 2, 4, 8, 16):
        return f"has {bits}-bit values. Save it as a 16-bit PNG."
    return None
