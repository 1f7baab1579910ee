"""The parts of a JPEG file: its marker segments and the entropy-coded data between them."""

from __future__ import annotations

import re

from p3mdata.imaging.metadata.parts import Walk

_FILL = re.compile(rb"\xff+")
_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7]")
_DHT, _DAC, _EOI, _SOS, _DQT, _DRI = 0xC4, 0xCC, 0xD9, 0xDA, 0xDB, 0xDD
_NEEDED = {code: f"SOF{code - 0xC0}" for code in range(0xC0, 0xD0) if code != 0xC8}
_NEEDED |= {_DHT: "DHT", _DAC: "DAC", _SOS: "SOS", _DQT: "DQT", _DRI: "DRI"}
_OTHER = {0xC8: "JPG", 0xDC: "DNL", 0xDE: "DHP", 0xDF: "EXP", 0xFE: "COM"}
_APPS = (
    (0xE0, b"JFXX\0", "APP0 JFXX"),
    (0xE1, b"Exif\0", "APP1 Exif"),
    (0xE1, b"http://ns.adobe.com/xap/1.0/\0", "APP1 XMP"),
    (0xE1, b"http://ns.adobe.com/xmp/extension/\0", "APP1 extended XMP"),
    (0xE2, b"MPF\0", "APP2 MPF"),
    (0xEB, b"JP", "APP11 JUMBF/C2PA"),
    (0xED, b"Photoshop 3.0\0", "APP13 Photoshop/IPTC"),
)


def walk_jpeg(walk: Walk, whole: bool = True) -> None:
    """Walk a JPEG stream from SOI on; one inside a TIFF file need not be `whole`."""
    data, pos, in_scan = walk.data, 2, False
    seen: set[str] = set()
    walk.add("SOI", 0, 2, True)
    while True:
        fill = _FILL.match(data, pos)
        if fill is None or fill.end() == len(data):
            raise ValueError("The JPEG file is damaged: a marker or the end of the image is missing.")
        if fill.end() - 1 > pos:
            walk.add("fill bytes", pos, fill.end() - 1 - pos, False)
        pos, code = fill.end() - 1, data[fill.end()]
        if code == _EOI:
            break
        if 0xD0 <= code <= 0xD7 and in_scan:
            pass  # Fill bytes stood before a restart marker; the scan goes on.
        elif code == 0x01:
            walk.add("TEM", pos, 2, False)
            pos += 2
            continue
        elif code < 0xC0 or 0xD0 <= code <= 0xD8:
            raise ValueError("The JPEG file is damaged: a marker stands where none can be.")
        else:
            pos = _walk_segment(walk, pos, code, seen)
            in_scan = code == _SOS
        if in_scan:
            end = _SCAN_END.search(data, pos)
            if end is None:
                raise ValueError("The JPEG file is damaged: the end of the image is missing.")
            walk.add("entropy data", pos, end.start() - pos, True)
            pos = end.start()
            seen.add("scan")
    if whole and not {"SOF", "scan"} <= seen:
        raise ValueError("The JPEG file is damaged: it holds no image.")
    walk.add("EOI", pos, 2, True)
    walk.trailing(pos + 2)


def _walk_segment(walk: Walk, pos: int, code: int, seen: set[str]) -> int:
    """Walk a segment with a length, adding its kind to those that were seen; gives where the next marker stands."""
    walk.need(pos, 4)
    length = 2 + int.from_bytes(walk.data[pos + 2 : pos + 4], "big")
    if length < 4:
        raise ValueError("The JPEG file is damaged: a segment has an impossible length.")
    walk.need(pos, length)
    name, allowed = _judged(code, walk.data[pos + 4 : pos + length])
    kind = "SOF" if name.startswith("SOF") else name
    if kind in seen and kind in ("APP0 JFIF", "APP14 Adobe", "SOF"):
        name, allowed = f"repeated {name}", False
    seen.add(kind)
    walk.add(name, pos, length, allowed)
    return pos + length


def _judged(code: int, body: bytes) -> tuple[str, bool]:
    """Name a segment, and tell whether it may stay."""
    if 0xE0 <= code <= 0xEF:
        return _judged_app(code, body)
    if code not in _NEEDED:
        return _OTHER.get(code, f"JPG{code - 0xF0}"), False
    name, exact = _NEEDED[code], _is_exact(code, body)
    return (name if exact else f"{name} of the wrong size"), exact


def _judged_app(code: int, body: bytes) -> tuple[str, bool]:
    if code == 0xE0 and body.startswith(b"JFIF\0"):
        plain = len(body) == 14 and body[12:] == b"\0\0"
        return ("APP0 JFIF" if plain else "APP0 JFIF thumbnail"), plain
    if code == 0xE2 and body.startswith(b"ICC_PROFILE\0"):
        return "APP2 ICC", len(body) > 14
    if code == 0xEE and body.startswith(b"Adobe"):
        return "APP14 Adobe", len(body) == 12
    known = (name for app, start, name in _APPS if code == app and body.startswith(start))
    return next(known, f"APP{code - 0xE0}"), False


def _is_exact(code: int, body: bytes) -> bool:
    """Whether a segment ends where what it has to say does, so that nothing hides behind."""
    if code in (_DHT, _DQT):
        pos = 0
        while pos < len(body):
            pos += 1 + (64 << (body[pos] >> 4 & 1) if code == _DQT else 16 + sum(body[pos + 1 : pos + 17]))
        return pos == len(body)
    if code == _DAC:
        return len(body) % 2 == 0 and len(body) <= 64
    if code == _DRI:
        return len(body) == 2
    if code == _SOS:
        return len(body) > 0 and len(body) == 4 + 2 * body[0]
    return len(body) > 5 and len(body) == 6 + 3 * body[5]  # SOF
