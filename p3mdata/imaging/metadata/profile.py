"""Inside ICC profiles: what says how colours look, and what says whose they are (ICC.1:2022, chapters 7 to 10).

A profile made by calibrating a display names the display, its serial number, a day, often a person. What colours need
is a header, curves, matrices and tables; `rebuilt` keeps these and nothing else, and `private_parts` names what is not.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

import numpy as np

_HEADER, _ENTRY = 128, 12
_XYZ, _CURVE, _MATRIX, _TABLE, _CODES = "XYZ", "curve", "matrix", "table", "codes"
# Tags that colours need, and what they hold.
_TAGS: dict[bytes, str] = {
    **dict.fromkeys((b"rXYZ", b"gXYZ", b"bXYZ", b"wtpt", b"bkpt"), _XYZ),
    **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC", b"kTRC"), _CURVE),
    **dict.fromkeys((b"A2B0", b"A2B1", b"A2B2", b"B2A0", b"B2A1", b"B2A2", b"gamt"), _TABLE),
    b"chad": _MATRIX,
    b"cicp": _CODES,
}
_D50 = bytes.fromhex("0000f6d6000100000000d32d")
_DATE = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)
_PARAMETERS = (1, 3, 4, 5, 7)
_TEXT = {b"desc": "colours of the picture", b"cprt": "no rights reserved"}
# Fields of the header that may say who, when and with what, and what they hold when they do not.
_NEUTRAL = (
    ("colour engine", 4, bytes(4)), ("date", 24, _DATE), ("platform", 40, bytes(4)), ("flags", 44, bytes(4)),
    ("manufacturer", 48, bytes(4)), ("model", 52, bytes(4)), ("attributes", 56, bytes(8)), ("illuminant", 68, _D50),
    ("creator, id and reserved bytes", 80, bytes(48)),
)  # fmt: skip


def rebuilt(icc: bytes) -> bytes:
    """A profile of the same colours with neutral texts, date and creator, and without all other tags.

    Raises:
        ValueError: It is damaged.
    """
    kept = {name: _body(data) for name, data in _tags(icc) if _size(name, data) is not None}
    kept = {name: data[: _size(name, data)] for name, data in kept.items()}
    kept |= {name: _text(name, icc[8]) for name in _TEXT}
    header = bytearray(icc[:_HEADER])
    for _, at, value in _NEUTRAL:
        header[at : at + len(value)] = value
    table, body, places = b"", b"", dict[bytes, int]()
    start = _HEADER + 4 + _ENTRY * len(kept)
    for name, data in sorted(kept.items()):
        # Equal curves share their bytes, as in most profiles.
        if data not in places:
            places[data] = start + len(body)
            body += data + bytes(-len(data) % 4)
        table += struct.pack(">4sII", name, places[data], len(data))
    header[:4] = struct.pack(">I", start + len(body))
    return bytes(header) + struct.pack(">I", len(kept)) + table + body


def private_parts(icc: bytes) -> list[str]:
    """Names of what a published profile must not hold; empty for one that only says how colours look."""
    try:
        tags = list(_tags(icc))
    except ValueError:
        return ["damaged profile"]
    found = [f"header {name}" for name, at, value in _NEUTRAL if icc[at : at + len(value)] != value]
    hidden = np.frombuffer(icc, np.uint8).copy()
    hidden[: _HEADER + 4 + _ENTRY * len(tags)] = 0
    for number, (name, data) in enumerate(tags):
        label = name.decode("ascii", "backslashreplace")
        if name in _TEXT:
            if data != _text(name, icc[8]):
                found.append(f"text '{label}'")
        elif _size(name, data) != len(data) or any(data[4:8]):
            found.append(f"tag '{label}'")
        at = int.from_bytes(icc[_HEADER + 8 + _ENTRY * number : _HEADER + 12 + _ENTRY * number], "big")
        hidden[at : at + len(data)] = 0
    if hidden.any():
        found.append("bytes of no tag")
    return found


def _tags(icc: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names and bytes of the tags of a profile, in its order."""
    if len(icc) < _HEADER + 4:
        raise ValueError("The profile is damaged: it ends within its header.")
    count = int.from_bytes(icc[_HEADER : _HEADER + 4], "big")
    if count > 200 or len(icc) < _HEADER + 4 + _ENTRY * count:
        raise ValueError("The profile is damaged: it ends within its list of tags.")
    for at in range(_HEADER + 4, _HEADER + 4 + _ENTRY * count, _ENTRY):
        name, offset, size = struct.unpack_from(">4sII", icc, at)
        if offset + size > len(icc) or size < 8:
            raise ValueError("The profile is damaged: a tag reaches past its end.")
        yield name, icc[offset : offset + size]


def _body(data: bytes) -> bytes:
    return data[:4] + bytes(4) + data[8:]


def _text(name: bytes, version: int) -> bytes:
    """The neutral text of a tag, in the form of the profile's version."""
    text = _TEXT[name]
    if version >= 4:
        raw = text.encode("utf-16-be")
        return b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(raw), 28) + raw
    raw = text.encode("ascii") + b"\0"
    return b"text\0\0\0\0" + raw if name == b"cprt" else b"desc\0\0\0\0" + struct.pack(">I", len(raw)) + raw + bytes(78)


def _size(name: bytes, data: bytes) -> int | None:
    """Bytes that a colour tag takes by what it declares; None for any other tag and for a damaged one."""
    what, kind = _TAGS.get(name), data[:4]
    size: int | None = None
    if what == _XYZ and kind == b"XYZ ":
        size = 20
    elif what == _MATRIX and kind == b"sf32":
        size = 44
    elif what == _CODES and kind == b"cicp":
        size = 12
    elif what == _CURVE:
        size = _curve_size(data)
    elif what == _TABLE:
        size = _table_size(data)
    return size if size is not None and size <= len(data) else None


def _curve_size(data: bytes) -> int | None:
    if len(data) < 12:
        return None
    if data[:4] == b"curv":
        return 12 + 2 * int.from_bytes(data[8:12], "big")
    form = int.from_bytes(data[8:10], "big")
    if data[:4] != b"para" or form >= len(_PARAMETERS) or any(data[10:12]):
        return None
    return 12 + 4 * _PARAMETERS[form]


def _table_size(data: bytes) -> int | None:
    if len(data) < 32:
        return None
    ins, outs, grid = data[8], data[9], data[10]
    if data[:4] == b"mft1":
        return 48 + 256 * ins + grid**ins * outs + 256 * outs if ins <= 4 else None
    if data[:4] == b"mft2" and len(data) >= 52 and ins <= 4:
        first, last = struct.unpack_from(">HH", data, 48)
        return int(52 + 2 * (first * ins + grid**ins * outs + last * outs))
    return _modern_table_size(data) if data[:4] in (b"mAB ", b"mBA ") else None


def _modern_table_size(data: bytes) -> int | None:
    """Of curves, matrix, curves, grid and curves, each at a place of its own; None when bytes lie between them."""
    ins, outs = data[8], data[9]
    if any(data[10:12]):
        return None
    b, matrix, m, grid, a = struct.unpack_from(">5I", data, 12)
    # The matrix works between B and M curves, on the side of the connection space.
    pcs, device = (outs, ins) if data[:4] == b"mAB " else (ins, outs)
    spans = [(0, 32)]
    for begin, count in ((b, pcs), (m, pcs), (a, device)):
        at = begin
        for _ in range(count if begin else 0):
            size = _curve_size(data[at:])
            if size is None:
                return None
            spans.append((at, at + size))
            at += size + -size % 4
    if matrix:
        spans.append((matrix, matrix + 48))
    if grid:
        if len(data) < grid + 20 or data[grid + 16] not in (1, 2) or any(data[grid + 17 : grid + 20]):
            return None
        sides = data[grid : grid + 16]
        if any(sides[ins:]):
            return None
        spans.append((grid, grid + 20 + math.prod(sides[:ins]) * outs * data[grid + 16]))
    end = 0
    for start, stop in sorted(spans):
        if start > end and (start - end > 3 or any(data[end:start])):
            return None
        end = max(end, stop)
    return end
