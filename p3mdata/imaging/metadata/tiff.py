"""The parts of a TIFF file: its directories (IFDs), their values, the image data, and the gaps between."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from p3mdata.imaging.metadata.jpeg import walk_jpeg
from p3mdata.imaging.metadata.parts import Walk, inflated

Span = tuple[int, int]  # offset, length
Fields = dict[int, tuple[int, int, int]]  # by tag: type, count, and offset of the values

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_UNSIGNED = {1: "B", 3: "H", 4: "I", 13: "I"}
_BYTE, _RATIONAL, _UNDEFINED = 1, 5, 7
_WIDTH, _LENGTH, _BITS, _COMPRESSION, _ORIENTATION, _SAMPLES, _PLANAR = 256, 257, 258, 259, 274, 277, 284
_STRIPS, _TILES, _THUMBNAIL = (273, 279), (324, 325), (513, 514)  # the tags of their offsets and lengths
_TILE_WIDTH, _TILE_LENGTH, _JPEG_TABLES, _ICC = 322, 323, 347, 34675
_PLAIN, _JPEG, _DEFLATE = 1, 7, (8, 32946)  # values of _COMPRESSION
_MANY = 1 << 32
# Tag: name and the most values it may have, so that a structural tag cannot carry a long text instead.
_ALLOWED: dict[int, tuple[str, int]] = {
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
_OTHER = {
    270: "ImageDescription", 271: "Make", 272: "Model", 285: "PageName", 297: "PageNumber", 305: "Software",
    306: "DateTime", 315: "Artist", 316: "HostComputer", 330: "SubIFDs", 513: "JPEG thumbnail",
    700: "XMP", 33432: "Copyright", 33723: "IPTC", 34377: "Photoshop", 34665: "Exif IFD",
    34853: "GPS IFD", 37500: "MakerNote", 37510: "UserComment", 40965: "Interop IFD",
}  # fmt: skip
_POINTERS = {330: "SubIFD", 34665: "Exif", 34853: "GPS", 40965: "Interop"}


def walk_tiff(walk: Walk) -> None:
    """Walk a classic TIFF file; the parts end up in the order of their offsets."""
    _Tiff(walk).run()


class _Tiff:
    """The walk over one TIFF file."""

    def __init__(self, walk: Walk) -> None:
        self.walk, self.data = walk, walk.data
        self.order = "<" if self.data[:2] == b"II" else ">"
        self.spans: set[Span] = set()
        self.claimed = 0

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
            for tag, name in _POINTERS.items():
                queue += [(at, name) for at in self.numbers(fields, tag) if at]
            if len(queue) > self.walk.most:
                raise ValueError("The TIFF file is damaged: it points to more IFDs than it can hold.")
            if follow and label in (f"IFD{chain}", "SubIFD"):
                chain += label != "SubIFD"
                queue.append((follow, f"IFD{chain}" if label != "SubIFD" else label))
            self.pixels(label, fields)
        self.gaps()
        self.walk.parts.sort(key=lambda part: part.offset)

    def claim(self, offset: int, length: int) -> None:
        """Note that something refers to these bytes."""
        self.walk.need(offset, length)
        self.claimed += length
        # Structures that share bytes without end would cost time that grows with the square of the file.
        if self.claimed > 2 * len(self.data) + 1024 or len(self.spans) > 4 * self.walk.most:
            raise ValueError("The TIFF file is damaged: its parts lie over each other.")
        if length:
            self.spans.add((offset, length))

    def unpack(self, form: str, offset: int) -> tuple[int, ...]:
        return struct.unpack_from(self.order + form, self.data, offset)

    def numbers(self, fields: Fields, tag: int) -> tuple[int, ...]:
        """The values of a tag; none if it is absent."""
        kind, count, offset = fields.get(tag, (_BYTE, 0, 0))
        if kind not in _UNSIGNED or count > self.walk.most:
            raise ValueError("The TIFF file is damaged: a tag holds no usable numbers.")
        return self.unpack(f"{count}{_UNSIGNED[kind]}", offset)

    def directory(self, offset: int, label: str) -> tuple[int, Fields]:
        """Walk one IFD; gives the offset of the next one, and where the values of this one are."""
        self.walk.need(offset, 2)
        (entries,) = self.unpack("H", offset)
        self.claim(offset, 2 + 12 * entries + 4)
        self.walk.add(label, offset, 2 + 12 * entries + 4, label == "IFD0")
        fields: Fields = {}
        for at in range(offset + 2, offset + 2 + 12 * entries, 12):
            tag, kind, count, where = self.unpack("HHII", at)
            length = _SIZES.get(kind, 0) * count
            if length > 4:
                self.claim(where, length)
            else:
                where = at + 8
            known = _ALLOWED.get(tag) if label.startswith(("IFD", "SubIFD")) else None
            name, most = known or ("" if label == "GPS" else _OTHER.get(tag, ""), 0)
            opaque = kind == _UNDEFINED and tag in (_JPEG_TABLES, _ICC)
            allowed = count <= most and (kind in (1, 3, 4, _RATIONAL) or opaque) and tag not in fields
            fields.setdefault(tag, (kind, count, where))
            if tag == _ORIENTATION and allowed:
                allowed = kind != _RATIONAL and self.numbers(fields, tag) == (1,)
            self.walk.add(_labelled(label, f"tag {tag} {name}".rstrip()), where, length, allowed)
        return self.unpack("I", offset + 2 + 12 * entries)[0], fields

    def pixels(self, label: str, fields: Fields) -> None:
        """Claim the strips, tiles and thumbnail of one IFD."""
        shown: list[Span] = []
        for tags in (_STRIPS, _TILES, _THUMBNAIL):
            starts, lengths = (self.numbers(fields, tag) for tag in tags)
            if len(starts) != len(lengths):
                raise ValueError("The TIFF file is damaged: the places and sizes of its image data disagree.")
            chunks = list(zip(starts, lengths, strict=True))
            for chunk in chunks:
                self.walk.need(*chunk)
            name = _labelled(label, "thumbnail" if tags == _THUMBNAIL else "image data")
            # Strips and tiles at once show only one of them.
            allowed = label == "IFD0" and tags != _THUMBNAIL and not shown
            for run in _runs(chunks):
                self.claim(*run)
                self.walk.add(name, *run, allowed)
            shown += chunks if tags != _THUMBNAIL else ()
        if label == "IFD0":
            if not shown:
                raise ValueError("The TIFF file is damaged: it holds no image.")
            self.streams(shown, fields)

    def streams(self, chunks: list[Span], fields: Fields) -> None:
        """Look into the strips or tiles for bytes that no decoder shows."""

        def one(tag: int, otherwise: int) -> int:
            return (*self.numbers(fields, tag), otherwise)[0]

        method = one(_COMPRESSION, _PLAIN)
        tables = [(fields[_JPEG_TABLES][2], fields[_JPEG_TABLES][1])] if _JPEG_TABLES in fields else []
        if method == _JPEG:
            for start, length in tables + chunks:
                self.jpeg(start, length)
        elif tables:
            self.walk.add("JPEGTables of an image that is not JPEG", *tables[0], False)
        width, height, samples = one(_WIDTH, 0), one(_LENGTH, 0), one(_SAMPLES, 1)
        if _TILES[0] in fields:
            across, down = max(1, one(_TILE_WIDTH, 1)), max(1, one(_TILE_LENGTH, 1))
            width, height = -(-width // across) * across, -(-height // down) * down
        depth = max(self.numbers(fields, _BITS), default=1)
        planes = samples if one(_PLANAR, 1) == 2 else 1
        room, size, spare = height * planes * -(-width * depth * samples // planes // 8), 0, 0
        for start, length in chunks:
            plain, rest = length, 0
            if method in _DEFLATE:
                plain, rest = inflated([memoryview(self.data)[start : start + length]], room)
            size, spare = size + plain, spare + rest
        if spare or (method in (_PLAIN, *_DEFLATE) and size > room):
            self.walk.add("surplus image data", *chunks[-1], False)

    def jpeg(self, start: int, length: int) -> None:
        inner = Walk(self.data[start : start + length])
        if inner.data[:2] != b"\xff\xd8":
            raise ValueError("The TIFF file is damaged: its JPEG data cannot be read.")
        walk_jpeg(inner, whole=False)
        for part in inner.parts:
            if not part.allowed:
                self.walk.add(f"image data: {part.name}", start + part.offset, part.length, False)

    def gaps(self) -> None:
        """Name the bytes that nothing refers to, and those that two things do."""
        end = 0
        for start, length in [*sorted(self.spans), (len(self.data), 0)]:
            if start > end and (start - end > 3 or any(self.data[end:start])):
                self.walk.add("unreferenced bytes", end, start - end, False)
            elif start < end:
                self.walk.add("overlapping bytes", start, min(end - start, length), False)
            end = max(end, start + length)


def _labelled(label: str, name: str) -> str:
    return name if label == "IFD0" else f"{label} {name}"


def _runs(chunks: Iterable[Span]) -> Iterator[Span]:
    """Join the pieces that follow each other, and leave out what is empty."""
    start = length = 0
    for at, size in chunks:
        if at != start + length:
            if length:
                yield start, length
            start, length = at, 0
        length += size
    if length:
        yield start, length
