"""What the values of a file mean where no ICC profile says so: PNG's own chunks, and the codes of HEIC and AVIF.

What they say is kept as an ICC profile, so that values stay as they are and every viewer shows the same colours.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from p3mdata.errors import BrokenInput
from p3mdata.imaging.metadata.made_profile import D65, SRGB, SRGB_CURVE, XY, made_grey_profile, made_profile

_P3: tuple[XY, XY, XY] = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
# Codes of ITU-T H.273, tables 2 and 3. Pictures whose code is one of television's curves are shown with sRGB's.
_PRIMARIES: dict[int, tuple[tuple[XY, XY, XY], XY]] = {
    1: (SRGB, D65), 2: (SRGB, D65),
    4: (((0.67, 0.33), (0.21, 0.71), (0.14, 0.08)), (0.310, 0.316)),
    5: (((0.64, 0.33), (0.29, 0.60), (0.15, 0.06)), D65),
    6: (((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)), D65),
    7: (((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)), D65),
    9: (((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)), D65),
    11: (_P3, (0.314, 0.351)), 12: (_P3, D65),
}  # fmt: skip
_CURVES: dict[int, tuple[float, ...]] = {
    **dict.fromkeys((1, 2, 6, 13, 14, 15), SRGB_CURVE),
    4: (2.2,),
    5: (2.8,),
    8: (1.0,),
}
_HDR = {16: "PQ", 18: "HLG"}
# A PNG's gamma within this share of 1/2.2 stands for sRGB: programs write it for want of the sRGB chunk.
_SRGB_GAMMA, _SRGB_GAMMA_SHARE = 0.45455, 0.05
_SRGB_CHROMATICITIES: tuple[float, ...] = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)


def declared_profile(data: bytes, form: str, grey: bool) -> bytes | None:
    """The ICC profile of what a file without one says about its colours; None for sRGB.

    Args:
        data: The file.
        form: 'PNG', 'HEIF' or 'AVIF'; others say nothing.
        grey: Whether its pixels are.

    Raises:
        BrokenInput: They are HDR, or coded in a way that is not known.
    """
    if form == "PNG":
        return _of_png(data, grey)
    if form in ("HEIF", "AVIF"):
        codes = _nclx(data)
        return None if codes is None else _coded(codes[0], codes[1], grey)
    return None


def hides_profile(data: bytes, form: str) -> bool:
    """Whether a PNG says its colours in a chunk that goes before its ICC profile."""
    return form == "PNG" and any(kind == b"cICP" for kind, _ in _chunks(data))


def _coded(primaries: int, transfer: int, grey: bool) -> bytes | None:
    if transfer in _HDR:
        raise BrokenInput(
            "hdr", f"is an HDR picture ({_HDR[transfer]}), which needs another display. Save it as an SDR picture."
        )
    if primaries not in _PRIMARIES or transfer not in _CURVES:
        raise BrokenInput(
            "unsupported_colours", f"has colours of code {primaries}/{transfer} (H.273). Save it in sRGB."
        )
    curve, (corners, white) = _CURVES[transfer], _PRIMARIES[primaries]
    if curve == SRGB_CURVE and (grey or corners == SRGB):
        return None
    return made_grey_profile(curve) if grey else made_profile(curve, corners, white)


def _of_png(data: bytes, grey: bool) -> bytes | None:
    chunks = dict(_chunks(data))
    if len(codes := chunks.get(b"cICP", b"")) == 4:
        if codes[2] or not codes[3]:
            raise BrokenInput("unsupported_colours", "has colours coded as video (cICP). Save it in sRGB.")
        return _coded(codes[0], codes[1], grey)
    if b"sRGB" in chunks:
        return None
    gamma = int.from_bytes(chunks.get(b"gAMA", b""), "big") / 100_000 or _SRGB_GAMMA
    corners = _SRGB_CHROMATICITIES
    if len(said := chunks.get(b"cHRM", b"")) == 32:
        corners = tuple(value / 100_000 for value in struct.unpack(">8I", said))
    usual = abs(gamma / _SRGB_GAMMA - 1) <= _SRGB_GAMMA_SHARE
    curve = SRGB_CURVE if usual else (1 / gamma,)
    near = max(abs(a - b) for a, b in zip(corners, _SRGB_CHROMATICITIES, strict=True)) <= 0.001
    if usual and (near or grey):
        return None
    if not 0.1 <= gamma <= 10:
        raise BrokenInput("unsupported_colours", f"has a gamma (gAMA) of {gamma:g}. Save it in sRGB.")
    if grey:
        return made_grey_profile(curve)
    white, red, green, blue = (corners[i : i + 2] for i in (0, 2, 4, 6))
    try:
        return made_profile(curve, (red, green, blue), white)  # type: ignore[arg-type]
    except ValueError:
        raise BrokenInput("unsupported_colours", "has impossible primaries (cHRM). Save it in sRGB.") from None


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Chunks of a PNG before its pixels."""
    at = 8
    while at + 8 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if kind == b"IDAT":
            return
        yield kind, data[at + 8 : at + 8 + length]
        at += 12 + length


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, beginning and end of the content of the boxes of an ISO media file."""
    while at + 8 <= end:
        size, kind, head = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        stop = end if size == 0 else at + size
        if size not in (0,) and (size < head or stop > end):
            return
        yield kind, at + head, stop
        at = stop


def media_bits(data: bytes, form: str) -> int:
    """Bits per sample of the main picture of a HEIC or AVIF file; 8 where it does not say."""
    if form not in ("HEIF", "AVIF"):
        return 8
    at = next((at for kind, at in _properties(data) if kind == b"pixi"), None)
    return 8 if at is None or at + 5 >= len(data) or not data[at + 4] else data[at + 5]


def _nclx(data: bytes) -> tuple[int, int] | None:
    """Codes of primaries and transfer of the main picture of a HEIC or AVIF file."""
    for kind, at in _properties(data):
        if kind == b"colr" and data[at : at + 4] == b"nclx":
            primaries, transfer = struct.unpack_from(">HH", data, at + 4)
            return int(primaries), int(transfer)
    return None


def _properties(data: bytes) -> list[tuple[bytes, int]]:
    """Kinds of the properties of the main picture, and where their content begins."""
    meta = next(((at + 4, end) for kind, at, end in _boxes(data, 0, len(data)) if kind == b"meta"), None)
    if meta is None:
        return []
    inner = {kind: (at, end) for kind, at, end in _boxes(data, *meta)}
    if b"pitm" not in inner or b"iprp" not in inner:
        return []
    at = inner[b"pitm"][0]
    main = int.from_bytes(data[at + 4 : at + (8 if data[at] else 6)], "big")
    parts = {kind: (at, end) for kind, at, end in _boxes(data, *inner[b"iprp"])}
    if b"ipco" not in parts or b"ipma" not in parts:
        return []
    every = [(kind, at) for kind, at, _ in _boxes(data, *parts[b"ipco"])]
    wanted = _associated(data, parts[b"ipma"][0], main)
    return [every[index - 1] for index in wanted if 0 < index <= len(every)]


def _associated(data: bytes, at: int, item: int) -> list[int]:
    """Numbers of an item's properties, from an ipma box."""
    version, wide = data[at], data[at + 3] & 1
    count = int.from_bytes(data[at + 4 : at + 8], "big")
    at += 8
    for _ in range(min(count, 1 << 16)):
        size = 4 if version else 2
        owner, number = int.from_bytes(data[at : at + size], "big"), data[at + size] if at + size < len(data) else 0
        at += size + 1
        each = 2 if wide else 1
        found = [
            int.from_bytes(data[i : i + each], "big") & (0x7FFF if wide else 0x7F)
            for i in range(at, at + number * each, each)
        ]
        if owner == item:
            return found
        at += number * each
    return []
