"""Prove that an encoded image carries no metadata, and put an ICC profile back.

The walker reads the bytes of the file itself and judges every segment, chunk or tag against a strict
allow-list: what is not known to be needed for decoding the pixels is named. It asks no image library,
so it does not share the blind spots of the code that wrote the file.
"""

from __future__ import annotations

import io
import itertools
import re
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

from PIL import Image, ImageCms


@dataclass(frozen=True)
class Part:
    """One piece of an encoded image file.

    Attributes:
        name: What the piece is, such as ``APP1 Exif``, ``tEXt`` or ``trailing bytes``.
        offset: Where it begins in the file.
        length: How many bytes it takes, with its own header and checksum.
        allowed: Whether it is on the list of pieces that a released file may have.
    """

    name: str
    offset: int
    length: int
    allowed: bool


class _Walk:
    """The file and the parts found so far, with the checks that keep a hostile file within bounds."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.parts: list[Part] = []
        # A part costs some 200 bytes of memory but only 4 bytes of a hostile file.
        self.most = 100_000 + len(data) // 64

    def add(self, name: str, offset: int, length: int, allowed: bool) -> None:
        if len(self.parts) >= self.most:
            raise ValueError("The file is cut into more pieces than a real image has.")
        self.parts.append(Part(name, offset, length, allowed))

    def need(self, offset: int, length: int) -> None:
        if offset + length > len(self.data):
            raise ValueError("The file is damaged: a part of it reaches past its end.")

    def trailing(self, offset: int) -> None:
        if offset < len(self.data):
            self.add("trailing bytes", offset, len(self.data) - offset, False)


def _inflated(pieces: Iterable[memoryview], most: int) -> tuple[int, int]:
    """Size of a deflated stream and of the bytes that follow it; stops just past `most`, keeps no output."""
    engine, size, spare = zlib.decompressobj(), 0, 0
    # Small slices, because zlib copies the unread rest of its input on every call.
    slices = (bytes(piece[at : at + 16384]) for piece in pieces for at in range(0, len(piece), 16384))
    try:
        for todo in slices:
            if engine.eof:
                spare += len(todo)
            while todo and not engine.eof and size <= most:
                size += len(engine.decompress(todo, 1 << 18))
                todo = engine.unconsumed_tail
                spare += len(engine.unused_data)
    except zlib.error:
        raise ValueError("The file is damaged: a compressed stream cannot be read.") from None
    if not engine.eof and size <= most:
        raise ValueError("The file is damaged: a compressed stream stops short.")
    return size, spare


# --- JPEG ---------------------------------------------------------------------------------------------

_FILL = re.compile(rb"\xff+")
_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7]")
_APP_NAMES: tuple[tuple[int, bytes, str], ...] = (
    (0xE0, b"JFXX\0", "APP0 JFXX"),
    (0xE1, b"Exif\0", "APP1 Exif"),
    (0xE1, b"http://ns.adobe.com/xap/1.0/\0", "APP1 XMP"),
    (0xE1, b"http://ns.adobe.com/xmp/extension/\0", "APP1 extended XMP"),
    (0xE2, b"MPF\0", "APP2 MPF"),
    (0xEB, b"JP", "APP11 JUMBF/C2PA"),
    (0xED, b"Photoshop 3.0\0", "APP13 Photoshop/IPTC"),
)
_JPEG_NAMES = {0xC4: "DHT", 0xCC: "DAC", 0xDA: "SOS", 0xDB: "DQT", 0xDD: "DRI"}
_OTHER_JPEG_NAMES = {0xC8: "JPG", 0xDC: "DNL", 0xDE: "DHP", 0xDF: "EXP", 0xFE: "COM"}


def _tables_end(code: int, body: bytes) -> int:
    """Where the tables in a DQT or DHT segment end, which is short of its end if it hides something."""
    pos = 0
    while pos < len(body):
        pos += 1 + (64 << (body[pos] >> 4 & 1) if code == 0xDB else 16 + sum(body[pos + 1 : pos + 17]))
    return pos


def _jpeg_segment(code: int, body: bytes) -> tuple[str, bool]:
    if code == 0xE0 and body.startswith(b"JFIF\0"):
        plain = len(body) == 14 and body[12:] == b"\0\0"
        return ("APP0 JFIF" if plain else "APP0 JFIF thumbnail"), plain
    if code == 0xE2 and body.startswith(b"ICC_PROFILE\0"):
        return "APP2 ICC", len(body) > 14
    if code == 0xEE and body.startswith(b"Adobe"):
        return "APP14 Adobe", len(body) == 12
    if 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
        name, exact = f"SOF{code - 0xC0}", len(body) > 5 and len(body) == 6 + 3 * body[5]
    elif code in _JPEG_NAMES:
        name, exact = _JPEG_NAMES[code], True
        if code in (0xC4, 0xDB):
            exact = _tables_end(code, body) == len(body)
        elif code == 0xDA:
            exact = len(body) > 0 and len(body) == 4 + 2 * body[0]
        else:
            exact = len(body) == 2 if code == 0xDD else len(body) % 2 == 0 and len(body) <= 64
    else:
        for app, start, name in _APP_NAMES:
            if code == app and body.startswith(start):
                return name, False
        if 0xE0 <= code <= 0xEF:
            return f"APP{code - 0xE0}", False
        return _OTHER_JPEG_NAMES.get(code, f"JPG{code - 0xF0}"), False
    return (name if exact else f"{name} of the wrong size"), exact


def _jpeg(walk: _Walk, whole: bool = True) -> None:
    """Walk a JPEG stream; one inside a TIFF file need not be `whole`."""
    data, pos, in_scan = walk.data, 2, False
    seen: set[str] = set()
    walk.need(0, 2)
    walk.add("SOI", 0, 2, True)
    while True:
        fill = _FILL.match(data, pos)
        if fill is None or fill.end() == len(data):
            raise ValueError("The JPEG file is damaged: a marker or the end of the image is missing.")
        if fill.end() - 1 > pos:
            walk.add("fill bytes", pos, fill.end() - 1 - pos, False)
        pos, code = fill.end() - 1, data[fill.end()]
        if code == 0xD9:
            break
        if 0xD0 <= code <= 0xD7 and in_scan:
            pass  # Fill bytes stood before a restart marker; the scan goes on.
        elif code == 0x01:
            walk.add("TEM", pos, 2, False)
            pos += 2
            continue
        elif code < 0xC0 or 0xD0 <= code <= 0xD8 or code == 0xFF:
            raise ValueError("The JPEG file is damaged: a marker stands where none can be.")
        else:
            walk.need(pos, 4)
            length = 2 + int.from_bytes(data[pos + 2 : pos + 4], "big")
            if length < 4:
                raise ValueError("The JPEG file is damaged: a segment has an impossible length.")
            walk.need(pos, length)
            name, allowed = _jpeg_segment(code, data[pos + 4 : pos + length])
            kind = "SOF" if name.startswith("SOF") else name
            if kind in seen and kind in ("APP0 JFIF", "APP14 Adobe", "SOF"):
                name, allowed = f"repeated {name}", False
            seen.add(kind)
            walk.add(name, pos, length, allowed)
            pos += length
            in_scan = code == 0xDA
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


# --- PNG ----------------------------------------------------------------------------------------------

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_PNG_ONCE = {"IHDR", "PLTE", "IEND", "tRNS", "sRGB", "iCCP", "gAMA", "cHRM", "sBIT"}


def _png_image_size(header: bytes) -> int:
    """How many bytes of filtered pixel rows an IHDR asks for."""
    if len(header) != 13:
        raise ValueError("The PNG file is damaged: its header has the wrong size.")
    width, height, depth, kind, methods, laced = struct.unpack(">IIBBHB", header)
    known = depth in (1, 2, 4, 8, 16) and kind in _PNG_CHANNELS and not methods and laced <= 1
    if not width or not height or not known:
        raise ValueError("The PNG file is damaged: its header makes no sense.")
    total = 0
    for x, y, dx, dy in _ADAM7 if laced else ((0, 0, 1, 1),):
        across, down = (width - x + dx - 1) // dx, (height - y + dy - 1) // dy
        total += down * (1 + (across * depth * _PNG_CHANNELS[kind] + 7) // 8) if across > 0 else 0
    return total


def _png_profile_fits(body: bytes) -> bool:
    name, end, stream = body[:81].partition(b"\0")[0], body.find(b"\0", 0, 80), memoryview(body)
    if end < 1 or len(body) < end + 2 or body[end + 1] or any(c < 32 or 126 < c < 161 for c in name):
        return False
    try:
        return _inflated([stream[end + 2 :]], 1 << 26)[1] == 0
    except ValueError:
        return False  # The pixels do not depend on it, so this is a part too many, not a damaged image.


def _png(walk: _Walk) -> None:
    data, pos, name = walk.data, 8, ""
    view = memoryview(data)
    seen: set[str] = set()
    pixels: list[memoryview] = []
    last = expected = 0
    sizes = {"IEND": range(1), "sRGB": range(1, 2), "gAMA": range(4, 5), "cHRM": range(32, 33)}
    sizes |= {"tRNS": range(1, 257), "sBIT": range(1, 5), "PLTE": range(3, 769, 3), "IHDR": range(13, 14)}
    walk.add("PNG signature", 0, 8, True)
    while name != "IEND":
        walk.need(pos, 12)
        length = int.from_bytes(data[pos : pos + 4], "big")
        walk.need(pos, 12 + length)
        kind, body = data[pos + 4 : pos + 8], view[pos + 8 : pos + 8 + length]
        if not kind.isalpha() or (pos == 8) != (kind == b"IHDR"):
            raise ValueError("The PNG file is damaged: a chunk is out of place.")
        checksum = int.from_bytes(view[pos + 8 + length : pos + 12 + length], "big")
        if zlib.crc32(view[pos + 4 : pos + 8 + length]) != checksum:
            raise ValueError("The PNG file is damaged: the checksum of a chunk is wrong.")
        name = kind.decode("ascii")
        allowed = name == "IDAT" or (name in _PNG_ONCE and name not in seen)
        if name == "IHDR":
            expected = _png_image_size(bytes(body))
        elif name == "IDAT":
            pixels.append(body)
            last = len(walk.parts)
        elif name == "iCCP":
            allowed = allowed and _png_profile_fits(bytes(body))
        allowed = allowed and length in sizes.get(name, (length,))
        seen.add(name)
        walk.add(name, pos, 12 + length, allowed)
        pos += 12 + length
    size, spare = _inflated(pixels, expected)
    if size < expected:
        raise ValueError("The PNG file is damaged: rows of the image are missing.")
    if size > expected or spare:
        # Pixels of an earlier, larger picture can survive behind the ones that decoders show.
        walk.parts[last] = replace(walk.parts[last], name="IDAT with surplus data", allowed=False)
    walk.trailing(pos)


# --- WebP ---------------------------------------------------------------------------------------------


def _webp_size(name: str, body: bytes) -> tuple[int, int, bool]:
    """Width, height and alpha of a VP8 or VP8L chunk."""
    if name == "VP8" and len(body) >= 10 and not body[0] & 1 and body[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", body, 6)
        return width & 0x3FFF, height & 0x3FFF, False
    if name == "VP8L" and len(body) >= 5 and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1)
    raise ValueError("The WebP file is damaged: its image data cannot be read.")


def _webp(walk: _Walk) -> None:
    data, pos = walk.data, 12
    end = 8 + int.from_bytes(data[4:8], "little")
    seen: set[str] = set()
    walk.need(0, max(12, end))
    walk.add("RIFF header", 0, 12, True)
    while pos < end:
        kind, length = data[pos : pos + 4], int.from_bytes(data[pos + 4 : pos + 8], "little")
        padded = length + length % 2
        if pos + 8 + padded > end:
            raise ValueError("The WebP file is damaged: a chunk reaches past the end.")
        name = kind.decode("ascii").rstrip() if re.fullmatch(rb"[\w ]{4}", kind) else f"chunk {kind.hex()}"
        allowed = name in ("VP8", "VP8L", "VP8X", "ALPH", "ICCP") and name not in seen
        if name in ("VP8", "VP8L"):
            _webp_size(name, data[pos + 8 : pos + 18])
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


# --- TIFF ---------------------------------------------------------------------------------------------

_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_MANY = 1 << 32
# Tag: name and the most values it may have, so that a structural tag cannot carry a long text instead.
_TIFF_ALLOWED: dict[int, tuple[str, int]] = {
    254: ("NewSubfileType", 1), 256: ("ImageWidth", 1), 257: ("ImageLength", 1), 258: ("BitsPerSample", 8),
    259: ("Compression", 1), 262: ("Photometric", 1), 266: ("FillOrder", 1), 273: ("StripOffsets", _MANY),
    274: ("Orientation", 1), 277: ("SamplesPerPixel", 1), 278: ("RowsPerStrip", 1),
    279: ("StripByteCounts", _MANY), 280: ("MinSampleValue", 8), 281: ("MaxSampleValue", 8),
    282: ("XResolution", 1), 283: ("YResolution", 1), 284: ("PlanarConfiguration", 1),
    296: ("ResolutionUnit", 1), 317: ("Predictor", 1), 320: ("ColorMap", 3 << 16), 322: ("TileWidth", 1),
    323: ("TileLength", 1), 324: ("TileOffsets", _MANY), 325: ("TileByteCounts", _MANY),
    338: ("ExtraSamples", 8), 339: ("SampleFormat", 8), 347: ("JPEGTables", _MANY),
    530: ("YCbCrSubSampling", 2), 531: ("YCbCrPositioning", 1), 532: ("ReferenceBlackWhite", 6),
    34675: ("ICC profile", _MANY),
}  # fmt: skip
_TIFF_OTHER = {
    270: "ImageDescription", 271: "Make", 272: "Model", 285: "PageName", 297: "PageNumber", 305: "Software",
    306: "DateTime", 315: "Artist", 316: "HostComputer", 330: "SubIFDs", 513: "JPEG thumbnail",
    700: "XMP", 33432: "Copyright", 33723: "IPTC", 34377: "Photoshop", 34665: "Exif IFD",
    34853: "GPS IFD", 37500: "MakerNote", 37510: "UserComment", 40965: "Interop IFD",
}  # fmt: skip
_TIFF_POINTERS = {330: "SubIFD", 34665: "Exif", 34853: "GPS", 40965: "Interop"}


class _Tiff:
    """The walk over one TIFF file."""

    def __init__(self, walk: _Walk) -> None:
        self.walk, self.data = walk, walk.data
        self.order = "<" if self.data[:2] == b"II" else ">"
        self.spans: set[tuple[int, int]] = set()
        self.claimed = 0

    def claim(self, offset: int, length: int) -> None:
        self.walk.need(offset, length)
        self.claimed += length
        # Structures that share bytes without end would cost time that grows with the square of the file.
        if self.claimed > 2 * len(self.data) + 1024 or len(self.spans) > 4 * self.walk.most:
            raise ValueError("The TIFF file is damaged: its parts lie over each other.")
        if length:
            self.spans.add((offset, offset + length))

    def run(self) -> None:
        self.walk.need(0, 8)
        self.claim(0, 8)
        self.walk.add("TIFF header", 0, 8, True)
        queue, seen, chain = [(self.unpack("I", 4)[0], "IFD0")], set(), 0
        while queue:
            offset, label = queue.pop()
            if offset in seen:
                continue
            seen.add(offset)
            follow, fields = self.directory(offset, label)
            for tag, name in _TIFF_POINTERS.items():
                queue += [(at, name) for at in self.numbers(fields.get(tag)) if at]
            if len(queue) > self.walk.most:
                raise ValueError("The TIFF file is damaged: it points to more IFDs than it can hold.")
            if follow and label in (f"IFD{chain}", "SubIFD"):
                chain += label != "SubIFD"
                queue.append((follow, f"IFD{chain}" if label != "SubIFD" else label))
            self.pixels(label, fields)
        self.gaps()
        self.walk.parts.sort(key=lambda part: part.offset)

    def unpack(self, form: str, offset: int) -> tuple[int, ...]:
        return struct.unpack_from(self.order + form, self.data, offset)

    def numbers(self, field: tuple[int, int, int] | None) -> tuple[int, ...]:
        kind, count, offset = field or (1, 0, 0)
        if kind not in (1, 3, 4, 13) or count > self.walk.most:
            raise ValueError("The TIFF file is damaged: a tag holds no usable numbers.")
        return self.unpack(f"{count}{'_B_HI'[kind] if kind < 5 else 'I'}", offset)

    def directory(self, offset: int, label: str) -> tuple[int, dict[int, tuple[int, int, int]]]:
        """Walk one IFD; gives the offset of the next one and where its values are: type, count, offset."""
        self.walk.need(offset, 2)
        (entries,) = self.unpack("H", offset)
        self.claim(offset, 2 + 12 * entries + 4)
        self.walk.add(label, offset, 2 + 12 * entries + 4, label == "IFD0")
        fields: dict[int, tuple[int, int, int]] = {}
        for at in range(offset + 2, offset + 2 + 12 * entries, 12):
            tag, kind, count, where = self.unpack("HHII", at)
            length = _TIFF_SIZES.get(kind, 0) * count
            if length > 4:
                self.claim(where, length)
            else:
                where = at + 8
            known = _TIFF_ALLOWED.get(tag) if label.startswith(("IFD", "SubIFD")) else None
            name, most = known or ("" if label == "GPS" else _TIFF_OTHER.get(tag, ""), 0)
            opaque = kind == 7 and tag in (347, 34675)
            allowed = count <= most and (kind in (1, 3, 4, 5) or opaque) and tag not in fields
            fields.setdefault(tag, (kind, count, where))
            if tag == 274 and allowed:
                allowed = kind != 5 and self.numbers(fields[tag]) == (1,)
            prefix = "" if label == "IFD0" else f"{label} "
            self.walk.add(f"{prefix}tag {tag} {name}".rstrip(), where, length, allowed)
        return self.unpack("I", offset + 2 + 12 * entries)[0], fields

    def pixels(self, label: str, fields: dict[int, tuple[int, int, int]]) -> None:
        """Claim the strips, tiles and thumbnail of one IFD."""
        kept, prefix = label == "IFD0", "" if label == "IFD0" else f"{label} "
        chunks: list[tuple[int, int]] = []
        for where, counts in ((273, 279), (324, 325), (513, 514)):
            starts, lengths = self.numbers(fields.get(where)), self.numbers(fields.get(counts))
            if len(starts) != len(lengths):
                raise ValueError("The TIFF file is damaged: the places and sizes of its image data disagree.")
            name, run = f"{prefix}thumbnail" if where == 513 else f"{prefix}image data", (0, 0)
            allowed = kept and where != 513 and not chunks  # Strips and tiles at once show only one of them.
            for start, length in zip(starts, lengths, strict=True):
                self.walk.need(start, length)
                if start != sum(run):
                    self.strip_run(name, run, allowed)
                    run = (start, 0)
                run = (run[0], run[1] + length)
            self.strip_run(name, run, allowed)
            chunks += zip(starts, lengths, strict=True) if where != 513 else ()
        if kept and not chunks:
            raise ValueError("The TIFF file is damaged: it holds no image.")
        if kept:
            self.streams(chunks, fields)

    def strip_run(self, name: str, run: tuple[int, int], allowed: bool) -> None:
        if run[1]:
            self.claim(*run)
            self.walk.add(name, *run, allowed)

    def streams(self, chunks: list[tuple[int, int]], fields: dict[int, tuple[int, int, int]]) -> None:
        """Look into the strips or tiles for bytes that no decoder shows."""

        def one(tag: int, otherwise: int) -> int:
            return (*self.numbers(fields.get(tag)), otherwise)[0]

        tables = [(fields[347][2], fields[347][1])] if 347 in fields else []
        if one(259, 1) == 7:
            for start, length in tables + chunks:
                self.jpeg(start, length)
        elif tables:
            self.walk.add("JPEGTables of an image that is not JPEG", *tables[0], False)
        width, height, samples = one(256, 0), one(257, 0), one(277, 1)
        if 324 in fields:
            across, down = max(1, one(322, 1)), max(1, one(323, 1))
            width, height = -(-width // across) * across, -(-height // down) * down
        depth = max(self.numbers(fields.get(258)), default=1)
        planes = samples if one(284, 1) == 2 else 1
        room, shown, spare = height * planes * -(-width * depth * samples // planes // 8), 0, 0
        for start, length in chunks:
            size, rest = length, 0
            if one(259, 1) in (8, 32946):
                size, rest = _inflated([memoryview(self.data)[start : start + length]], room)
            shown, spare = shown + size, spare + rest
        if spare or (one(259, 1) in (1, 8, 32946) and shown > room):
            self.walk.add("surplus image data", *chunks[-1], False)

    def jpeg(self, start: int, length: int) -> None:
        inner = _Walk(self.data[start : start + length])
        if inner.data[:2] != b"\xff\xd8":
            raise ValueError("The TIFF file is damaged: its JPEG data cannot be read.")
        _jpeg(inner, whole=False)
        for part in inner.parts:
            if not part.allowed:
                self.walk.add(f"image data: {part.name}", start + part.offset, part.length, False)

    def gaps(self) -> None:
        end = 0
        for start, stop in [*sorted(self.spans), (len(self.data), len(self.data))]:
            if start > end and (start - end > 3 or any(self.data[end:start])):
                self.walk.add("unreferenced bytes", end, start - end, False)
            elif start < end:
                self.walk.add("overlapping bytes", start, min(end, stop) - start, False)
            end = max(end, stop)


# --- public -------------------------------------------------------------------------------------------


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
    state = _Walk(data)
    if data[:3] == b"\xff\xd8\xff":
        _jpeg(state)
    elif data[:8] == _PNG_SIGNATURE:
        _png(state)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        _webp(state)
    elif data[:4] in (b"II*\0", b"MM\0*"):
        _Tiff(state).run()
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
        pieces = [icc[at : at + 65519] for at in range(0, len(icc), 65519)]
        if len(pieces) > 255:
            raise ValueError("The ICC profile is too large for a JPEG file.")
        new = b"".join(
            struct.pack(">HH12sBB", 0xFFE2, 16 + len(piece), b"ICC_PROFILE\0", number, len(pieces)) + piece
            for number, piece in enumerate(pieces, 1)
        )
        after = 1 if parts[1].name.startswith("APP0 JFIF") else 0
        return _spliced(data, parts, after, new, {"APP2 ICC"})
    if form == "PNG signature":
        body = b"iCCPICC\0\0" + zlib.compress(icc, 9)
        new = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        return _spliced(data, parts, 1, new, {"iCCP", "sRGB"})  # A file must not have both of these.
    if form != "RIFF header":
        raise ValueError("An ICC profile can only be put into a JPEG, PNG or WebP file.")
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
        width, height, alpha = _webp_size(old.name, data[20:30])
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


_SPACES = {1: ("GRAY", "L"), 3: ("RGB", "RGB"), 4: ("CMYK", "CMYK")}


def needed_icc(icc: bytes | None, channels: int = 3) -> bytes | None:
    """Tell whether pixels would be misread without their ICC profile.

    Args:
        icc: The profile, or None.
        channels: Colour channels of the image without alpha: 1 for grey, 3 for RGB, 4 for CMYK.

    Returns:
        The profile, cut to the length that it declares, or None if it is absent, unreadable, meant for
        other channels, or turns no colour into another than sRGB does.
    """
    if not icc or len(icc) < 132 or icc[36:40] != b"acsp" or channels not in _SPACES:
        return None
    if icc[12:16] not in (b"scnr", b"mntr", b"prtr", b"spac"):
        return None  # Links and named colours do not say what pixels mean.
    icc = icc[: int.from_bytes(icc[:4], "big")]
    space, mode = _SPACES[channels]
    ramps = [[v if mask >> c & 1 else 0 for c in range(3)] for mask in range(1, 8) for v in range(256)]
    cube = [list(colour) for colour in itertools.product(range(0, 256, 51), repeat=3)]
    plain = bytes(itertools.chain(*ramps[-256:] if channels == 1 else ramps + cube))
    # One byte in three of the grey ramp is the same ramp; what CMYK is tried with does not matter.
    probe = plain[::3] if channels == 1 else plain[: len(plain) // channels * channels]
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        if profile.profile.xcolor_space.strip() != space:
            return None
        to_srgb = ImageCms.buildTransform(
            profile, ImageCms.createProfile("sRGB"), mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC
        )
        image = Image.frombytes(mode, (len(probe) // channels, 1), probe)
        shown = ImageCms.applyTransform(image, to_srgb)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None  # A profile that nobody can read changes nothing for whoever opens the file.
    if shown is None or channels == 4:
        return icc
    # Two levels, for makers of sRGB profiles round its curve and primaries differently.
    differs = any(abs(a - b) > 2 for a, b in zip(shown.tobytes(), plain, strict=True))
    return icc if differs else None
