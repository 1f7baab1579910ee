"""The metadata walker names everything that is not needed to decode the pixels, and nothing else."""

from __future__ import annotations

import io
import struct
import sys
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from p3mdata.errors import BrokenInput
from p3mdata.imaging.metadata import Part, leftovers, needed_icc, parts, walk, with_icc
from p3mdata.imaging.metadata.profile import private_parts, rebuilt

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


# --- what a camera and an editor leave ------------------------------------------------------------------


def exif_block() -> bytes:
    """Exif with a GPS IFD behind a pointer and a thumbnail in IFD1."""
    gps = [(1, 2, 2, b"N\0"), (2, 5, 3, struct.pack("<6I", 52, 1, 30, 1, 0, 1))]
    thumb = encode("JPEG")
    first = [(271, 2, 6, b"Maker\0"), (34853, 4, 1, long(2008))]
    second = [(513, 4, 1, long(3008)), (514, 4, 1, long(len(thumb)))]
    block = tiff([first, second, gps])
    # The GPS IFD must not follow IFD1 in the chain.
    block = block[: 1008 + 2 + 24] + b"\0\0\0\0" + block[1008 + 2 + 28 :]
    return block.ljust(3008, b"\0") + thumb


def loaded_jpeg() -> tuple[bytes, list[str]]:
    clean = with_icc(encode("JPEG"), display_p3())
    sixteen = bytes(16)
    extra = [
        ("APP0 JFXX", segment(0xE0, b"JFXX\0\x10" + encode("JPEG", quality=5))),
        ("APP1 Exif", segment(0xE1, b"Exif\0\0" + exif_block())),
        ("APP1 XMP", segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>")),
        ("APP1 extended XMP", segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + sixteen * 3)),
        ("APP2 MPF", segment(0xE2, b"MPF\0II*\0\x08\0\0\0" + bytes(6))),
        ("APP11 JUMBF/C2PA", segment(0xEB, b"JP\0\x01\0\0\0\x01\0\0\0\x20jumb\0\0\0\x18jumdc2pa" + sixteen)),
        ("APP13 Photoshop/IPTC", segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\0")),
        ("APP5", segment(0xE5, b"private")),
        ("COM", segment(0xFE, b"taken at home")),
    ]
    place = 20  # right behind JFIF, before the profile
    data = clean[:place] + b"".join(body for _, body in extra) + clean[place:]
    return data + b"\xff\xd8tail of a motion photo", [name for name, _ in extra] + ["trailing bytes"]


def loaded_png() -> tuple[bytes, list[str]]:
    clean = with_icc(encode("PNG"), display_p3())
    kinds = {
        b"tEXt": b"Author\0me",
        b"zTXt": b"Comment\0\0" + zlib.compress(b"words"),
        b"iTXt": b"XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta/>",
        b"eXIf": exif_block(),
        b"tIME": b"\x07\xe8\1\1\1\1\1",
        b"pHYs": bytes(9),
        b"bKGD": bytes(6),
        b"prVt": b"anything",
    }
    extra = b"".join(chunk(kind, body) for kind, body in kinds.items())
    data = clean[:33] + extra + clean[33:] + b"the cropped part"
    return data, [kind.decode() for kind in kinds] + ["trailing bytes"]


def loaded_webp() -> tuple[bytes, list[str]]:
    clean = with_icc(encode("WEBP", "RGBA"), display_p3())
    chunks = clean[12:]
    flagged = chunks[:8] + bytes((chunks[8] | 0x0C,)) + chunks[9:]
    extra = riff_chunk(b"EXIF", exif_block()) + riff_chunk(b"XMP ", b"<x/>") + riff_chunk(b"priv", b"1")
    data = riff(flagged, extra)
    flags = "VP8X with EXIF flag with XMP flag"
    return data + b"more", [flags, "EXIF", "XMP", "priv", "trailing bytes"]


def loaded_tiff(order: str = "<") -> tuple[bytes, list[str]]:
    """Picture, second page, Exif, GPS and Interop, with their pixels behind them."""
    text = b"words of a person\0"
    base = 8 + 5 * 1000
    first = page(base, order)
    first += [(270, 2, len(text), text), (315, 2, len(text), text), (700, 1, 40, b"<x:xmpmeta/>".ljust(40))]
    first += [(33723, 7, 20, b"\x1c\x02\x50".ljust(20)), (34665, 4, 1, long(2008, order))]
    first += [(34853, 4, 1, long(3008, order)), (34675, 7, len(display_p3()), display_p3())]
    exif = [(36867, 2, 20, b"2024:01:01 10:00:00\0"), (40965, 4, 1, long(4008, order))]
    gps = [(1, 2, 2, b"N\0"), (2, 5, 3, struct.pack(order + "6I", 52, 1, 30, 1, 0, 1))]
    interop = [(1, 2, 4, b"R98\0")]
    data = bytearray(tiff([sorted(first), page(base + 16, order), exif, gps, interop], True, order))
    # Only the second page is in the chain; the others hang on pointers.
    for number, entries in ((1, 9), (2, 2), (3, 2), (4, 1)):
        at = 8 + 1000 * number + 2 + 12 * entries
        data[at : at + 4] = b"\0\0\0\0"
    data = data.ljust(base, b"\0") + bytes(range(32)) + b"appended"
    expected = ["tag 270 ImageDescription", "tag 315 Artist", "tag 700 XMP", "tag 33723 IPTC"]
    expected += ["tag 34665 Exif IFD", "tag 34853 GPS IFD", "IFD1", "IFD1 image data", "Exif"]
    expected += ["Exif tag 36867", "Exif tag 40965 Interop IFD", "GPS", "GPS tag 1", "GPS tag 2"]
    expected += ["Interop", "Interop tag 1"]
    return bytes(data), expected


@pytest.mark.filterwarnings("ignore:Image appears to be a malformed MPO", "ignore:Corrupt EXIF")
@pytest.mark.parametrize("build", [loaded_jpeg, loaded_png, loaded_webp])
def test_every_metadata_part_is_named_and_nothing_else(build: Any) -> None:
    data, expected = build()
    assert names(data) == expected
    parts = walk(data)
    assert [p.offset for p in parts] == [sum(q.length for q in parts[:i]) for i in range(len(parts))]
    assert sum(p.length for p in parts) == len(data)
    Image.open(io.BytesIO(data)).load()


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_metadata_is_named_and_nothing_else(order: str) -> None:
    data, expected = loaded_tiff(order)
    found = names(data)
    # The helper spreads its IFDs out, so the gaps between them are zero bytes that nothing refers to.
    assert sorted(name for name in found if name != "unreferenced bytes") == sorted(expected)
    last = walk(data)[-1]
    assert last == Part("unreferenced bytes", len(data) - 8, 8, False)
    Image.open(io.BytesIO(data)).load()


def test_pillow_tiff_with_metadata() -> None:
    exif = Image.Exif()
    exif[270], exif[315] = "words", "me"
    second = Image.fromarray(PIXELS[..., 0])
    found = names(encode("TIFF", exif=exif, save_all=True, append_images=[second]) + b"appended")
    expected = {"tag 270 ImageDescription", "tag 315 Artist"}
    expected |= {"IFD1", "IFD1 image data", "unreferenced bytes"}
    assert expected <= set(found)


def test_leftovers_give_sizes() -> None:
    data = encode("JPEG")
    data = data[:20] + segment(0xE1, b"Exif\0\0" + bytes(1194)) + data[20:] + bytes(17)
    assert leftovers(data) == ["APP1 Exif (1204 bytes)", "trailing bytes (17)"]


def test_metadata_that_pillow_writes() -> None:
    exif = Image.Exif()
    exif[271] = "Maker"
    exif.get_ifd(34853)[1] = "N"
    assert names(encode("JPEG", exif=exif, comment="hello", dpi=(300, 300))) == ["APP1 Exif", "COM"]


# --- things that hide in parts that are allowed as such -------------------------------------------------


def test_jpeg_parts_that_carry_more_than_they_should() -> None:
    data = encode("JPEG")
    jfif = segment(0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\x01\x01abc")
    assert names(data[:2] + jfif + data[20:]) == ["APP0 JFIF thumbnail"]
    assert names(data[:20] + data[2:20] + data[20:]) == ["repeated APP0 JFIF"]
    assert names(data[:20] + segment(0xEE, b"Adobe\0\x64\0\0\0\0\0and more") + data[20:]) == ["APP14 Adobe"]
    assert names(data[:20] + b"\xff\xff\xff" + data[20:]) == ["fill bytes"]
    dqt = data.index(b"\xff\xdb")
    length = int.from_bytes(data[dqt + 2 : dqt + 4], "big")
    longer = segment(0xDB, data[dqt + 4 : dqt + 2 + length] + b"hidden")
    assert names(data[:dqt] + longer + data[dqt + 2 + length :]) == ["DQT of the wrong size"]
    assert names(data[:20] + segment(0xDD, b"\0\0hidden") + data[20:]) == ["DRI of the wrong size"]


def test_png_surplus_pixels_and_odd_profile_names() -> None:
    data = encode("PNG")
    at = data.index(b"IDAT") - 4
    raw = zlib.decompress(data[at + 8 : -16])
    surplus = [zlib.compress(raw + b"rows of the original"), zlib.compress(raw) + b"hidden"]
    for stream in surplus:
        assert names(data[:at] + chunk(b"IDAT", stream) + data[-12:]) == ["IDAT with surplus data"]
    with pytest.raises(ValueError, match="rows"):
        walk(data[:at] + chunk(b"IDAT", zlib.compress(raw[:-1])) + data[-12:])
    profile = zlib.compress(srgb())
    for body, fine in (
        (b"x" * 79 + b"\0\0" + profile, True),
        (b"x" * 80 + b"\0\0" + profile, False),
        (b"\0\0" + profile, False),
        (b"a\nb\0\0" + profile, False),
        (b"ICC\0\0" + profile + b"hidden", False),
        (b"ICC\0\0not deflated", False),
    ):
        assert names(data[:33] + chunk(b"iCCP", body) + data[33:]) == ([] if fine else ["iCCP"])
    assert names(data[:33] + chunk(b"gAMA", b"\0\0\xb1\x8f" + b"hidden") + data[33:]) == ["gAMA"]
    assert names(data[:33] + chunk(b"sRGB", b"\0") * 2 + data[33:]) == ["sRGB"]


def test_webp_padding_and_repeated_images() -> None:
    image = encode("WEBP")[12:]
    odd = b"ICCP\x03\0\0\0abcX"
    assert names(riff(image, odd)) == ["ICCP with a padding byte in use"]
    assert names(riff(image, image)) == ["VP8"]
    animation = encode("WEBP", save_all=True, append_images=[Image.fromarray(PIXELS[::-1])])
    assert set(names(animation)) == {"VP8X with animation flag", "ANIM", "ANMF"}


def test_tiff_details() -> None:
    pixels = bytes(range(1, 17))
    plain = tiff([page(PAGE_END)], tail=pixels)
    assert names(plain) == []
    end = PAGE_END + 12
    for entry, found in (
        ((274, 3, 1, short(1)), []),
        ((274, 3, 1, short(6)), ["tag 274 Orientation"]),
        ((262, 2, 4, b"abc\0"), ["tag 262 Photometric"]),
        ((65000, 7, 4, b"abcd"), ["tag 65000"]),
        ((65000, 99, 9, b"abcd"), ["tag 65000"]),
    ):
        entries = sorted([*(e for e in page(end) if e[0] != entry[0]), entry])
        shift = 12 if len(entries) == 10 else 0
        entries = [e if e[0] != 273 else (273, 4, 1, long(PAGE_END + shift)) for e in entries]
        data = tiff([entries], tail=pixels)
        assert names(data) == found
    assert names(tiff([page(PAGE_END - 8)], tail=pixels[:8])) == ["overlapping bytes"]
    assert names(plain + b"\0\0\0") == []
    assert names(plain + b"\0\0\0\0") == ["unreferenced bytes"]
    assert names(plain + b"x") == ["unreferenced bytes"]


def test_tiff_surplus_pixels() -> None:
    def build(method: int, strip: bytes) -> bytes:
        changed = {259: (259, 3, 1, short(method)), 279: (279, 4, 1, long(len(strip)))}
        return tiff([[changed.get(entry[0], entry) for entry in page(PAGE_END)]], tail=strip)

    assert names(build(8, zlib.compress(bytes(16)))) == []
    deflated = [zlib.compress(bytes(17)), zlib.compress(bytes(16)) + b"hidden"]
    for method, strip in ((1, bytes(17)), (8, deflated[0]), (8, deflated[1])):
        assert names(build(method, strip)) == ["surplus image data"]
    tables = sorted([*page(PAGE_END + 12), (347, 7, 4, b"text")])
    assert names(tiff([tables], tail=bytes(16))) == ["JPEGTables of an image that is not JPEG"]


def test_tiff_sub_ifds_and_cycles() -> None:
    both = sorted([*page(2008), (330, 4, 2, struct.pack("<II", 1008, 8))])
    data = bytearray(tiff([both, page(2024)], chain=False).ljust(2008, b"\0") + bytes(range(32)))
    struct.pack_into("<I", data, 8 + 2 + 12 * len(both), 8)  # the next IFD is the first one
    found = [name for name in names(bytes(data)) if name != "unreferenced bytes"]
    assert found == ["tag 330 SubIFDs", "SubIFD", "SubIFD image data"]


def test_comment_in_the_jpeg_of_a_tiff() -> None:
    inner = encode("JPEG", "L")
    inner = inner[:20] + segment(0xFE, b"hello") + inner[20:]
    entries = [(256, 83), (257, 61), (258, 8), (259, 7), (262, 1), (277, 1), (278, 61)]
    table = [(tag, 3, 1, short(value)) for tag, value in entries]
    table += [(273, 4, 1, long(PAGE_END)), (279, 4, 1, long(len(inner)))]
    assert names(tiff([sorted(table)], tail=inner)) == ["image data: COM"]


# --- clean files ----------------------------------------------------------------------------------------

PILLOW: list[tuple[str, str, dict[str, Any]]] = [
    *(("JPEG", mode, options)
      for mode in ("RGB", "L", "CMYK")
      for options in ({}, {"progressive": True}, {"restart_marker_rows": 1}, {"optimize": True})),
    *(("PNG", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    ("PNG", "RGB", {"interlace": 1}),
    *(("WEBP", mode, {"lossless": lossless}) for mode in ("RGB", "RGBA") for lossless in (False, True)),
    *(("TIFF", mode, {"compression": method})
      for mode in ("L", "RGB", "RGBA", "I;16", "P", "1")
      for method in (None, "tiff_adobe_deflate", "tiff_lzw")),
    ("TIFF", "RGB", {"compression": "jpeg"}),
]  # fmt: skip


@pytest.mark.parametrize(("form", "mode", "options"), PILLOW)
def test_clean_pillow_files(form: str, mode: str, options: dict[str, Any]) -> None:
    assert leftovers(encode(form, mode, **options)) == []


@pytest.mark.parametrize(
    ("ext", "options"),
    [
        (".jpg", ()),
        (".jpg", (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
        (".jpg", (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)),
        (".png", ()),
        (".webp", (cv2.IMWRITE_WEBP_QUALITY, 80)),
        (".webp", (cv2.IMWRITE_WEBP_QUALITY, 101)),
        (".tiff", (cv2.IMWRITE_TIFF_COMPRESSION, 1)),
        (".tiff", (cv2.IMWRITE_TIFF_COMPRESSION, 8)),
    ],
)
def test_clean_cv2_files(ext: str, options: tuple[int, ...]) -> None:
    arrays = [PIXELS[..., 0], PIXELS[..., :3], PIXELS]
    if ext in (".png", ".tiff"):
        arrays += [array.astype(np.uint16) * 257 for array in arrays]
    for array in arrays:
        assert leftovers(cv2_encode(ext, array, *options)) == []


def test_fill_bytes_before_a_restart_marker() -> None:
    data = encode("JPEG", restart_marker_rows=1)
    at = data.index(b"\xff\xd0")
    data = data[:at] + b"\xff" + data[at:]
    assert names(data) == ["fill bytes"]


# --- damage ---------------------------------------------------------------------------------------------


def test_damaged_files_are_refused() -> None:
    jpeg, png, webp, tif = encode("JPEG"), encode("PNG"), encode("WEBP"), encode("TIFF")
    broken = [b"", b"GIF89a", b"II+\0" + bytes(20), b"\xff\xd8\xff"]
    broken += [jpeg[:-2], jpeg[:2] + b"\xff\xd9", jpeg[:30], jpeg[:2] + b"\xff\xd8" + jpeg[2:]]
    broken += [png[:-12], png[:33] + png[-12:], png[:8] + png[33:], png[:50] + b"\0\xff" + png[52:]]
    broken += [webp[:-1], webp[:12], riff(), riff(riff_chunk(b"VP8 ", b"no picture")), tif[:9], tif[:-1]]
    broken += [tiff([page(1 << 31)]), tiff([[(256, 3, 1, short(4))]]), tiff([page(PAGE_END)])]
    for data in broken:
        with pytest.raises(ValueError, match=r"^[A-Z][^\n]+\.$"):
            walk(data)


def hostile(size: int) -> list[bytes]:
    """Files of about four times `size` bytes that are cut into as many pieces as they can be."""
    tables = struct.pack("<H", size // 2) + struct.pack("<HHII", 65000, 1, 4 * size, 0) * (size // 2) + bytes(4)
    # An image of one byte, so that the directories it points to are looked at.
    entries = [(273, 4, 1, 8), (279, 4, 1, 1), (330, 4, size, 50)]
    pointers = struct.pack("<H", 3) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    shared = range(50 + 4 * size, 50 + 4 * size + 3000)
    ihdr = struct.pack(">IIBBBBB", 1 << 30, 1 << 30, 16, 6, 0, 0, 0)
    bomb = chunk(b"IDAT", zlib.compress(bytes(400 * size))) + chunk(b"IEND", b"")
    return [
        b"\xff\xd8" + b"\xff\xe1\0\x02" * size,
        b"\xff\xd8" + b"\xff" * (9 * size),
        b"\xff\xd8\xff\xda\0\x02" + b"\xff\x00" * (5 * size),
        encode("PNG")[:33] + chunk(b"prVt", b"") * size,
        b"RIFF" + struct.pack("<I", 4 + 8 * size) + b"WEBP" + b"priv\0\0\0\0" * size,
        b"II*\0\x08\0\0\0" + tables,
        b"II*\0\x08\0\0\0" + pointers + struct.pack(f"<{size}I", *range(50, 50 + size)) + bytes(5 * size),
        # Three thousand directories of 257 entries each that lie over each other; none has a next one.
        b"II*\0\x08\0\0\0"
        + pointers
        + struct.pack(f"<{size}I", *[0] * (size - len(shared)), *shared)
        + b"\1" * 3086
        + bytes(5 * size),
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + bomb,
    ]


@pytest.mark.slow
def test_hostile_files_cost_little_memory() -> None:
    for data in hostile(115_000):
        tracemalloc.start()
        try:
            leftovers(data)
        except ValueError:
            pass
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 40_000_000 + 4 * len(data)


def test_hostile_files_cost_little_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls, copied bytes and what is handed to zlib grow no faster than the file."""
    engine = zlib.decompressobj
    monkeypatch.setattr(parts.zlib, "decompressobj", lambda: SmallBites(engine()))
    for data in hostile(6_000):
        with suppress(ValueError), counted_calls(most=10 * len(data) + 20_000):
            leftovers(Cut(data, most=2 * len(data) + 2_000))
    # Its stream is 48 kB long and comes to 50 MB.
    with counted_calls(most=20_000), suppress(ValueError):
        leftovers(hostile(125_000)[-1])


class TooMuchWork(Exception):
    """Raised at the step that is one too many, so that a slow reader fails at once."""


class Cut(bytes):
    """A file that counts the bytes that are copied out of it."""

    def __new__(cls, data: bytes, most: int) -> Cut:
        made = super().__new__(cls, data)
        made.left = most
        return made

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        self.left -= len(found) if isinstance(found, bytes) else 1
        if self.left < 0:
            raise TooMuchWork("bytes are copied again and again")
        return found


class SmallBites:
    """zlib copies what it has not read of its input at every call: no call may be handed much."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def decompress(self, data: bytes, most: int) -> bytes:
        if len(data) > 1 << 15 or not 0 < most <= 1 << 20:
            raise TooMuchWork("much is handed to zlib at once")
        return self._engine.decompress(data, most)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


@contextmanager
def counted_calls(most: int) -> Iterator[None]:
    """Counts the calls of functions, built-in ones too."""
    left = [most]

    def watch(frame: Any, event: str, arg: Any) -> None:
        left[0] -= event in ("call", "c_call")
        if left[0] < 0:
            sys.setprofile(None)
            raise TooMuchWork(f"more than {most} calls")

    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(None)


SEEDS = [encode("JPEG"), encode("JPEG", progressive=True), encode("PNG", "P"), encode("WEBP", "RGBA"),
         encode("WEBP", lossless=True), encode("TIFF"), cv2_encode(".tiff", PIXELS), loaded_jpeg()[0],
         loaded_png()[0], loaded_webp()[0], loaded_tiff()[0], loaded_tiff(">")[0]]  # fmt: skip
MAGIC = [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x40\0\0\0WEBP"]
MAGIC += [b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]


def only_value_error(data: bytes) -> None:
    for call in (leftovers, lambda d: with_icc(d, b"profile")):
        try:
            call(data)
        except ValueError as error:
            assert str(error).endswith(".")


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(MAGIC), st.binary(max_size=300))
def test_arbitrary_bytes_raise_only_value_error(magic: bytes, rest: bytes) -> None:
    only_value_error(magic + rest)


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4)), max_size=4),
    st.one_of(st.none(), st.floats(0, 1)),
    st.integers(1, 400),
)
def test_mutations_raise_only_value_error(
    seed: bytes, edits: list[tuple[float, bytes]], cut: float | None, near: int
) -> None:
    data = bytearray(seed)
    for index, (place, value) in enumerate(edits):
        # Every other edit goes to the front, where the structures are.
        at = int(place * (len(data) if index % 2 else min(near, len(data))))
        data[at : at + len(value)] = value
    only_value_error(bytes(data if cut is None else data[: int(cut * len(data))]))


def test_every_truncation_of_small_files() -> None:
    for seed in SEEDS[3:5] + SEEDS[-2:]:
        for end in range(0, len(seed), 1 + len(seed) // 700):
            only_value_error(seed[:end])


# --- profiles -------------------------------------------------------------------------------------------

CARRIERS: list[tuple[str, str, dict[str, Any]]] = [
    ("JPEG", "RGB", {}), ("JPEG", "L", {"progressive": True}), ("JPEG", "CMYK", {}), ("PNG", "RGB", {}),
    ("PNG", "P", {}), ("PNG", "LA", {}), ("WEBP", "RGB", {}), ("WEBP", "RGBA", {}),
    ("WEBP", "RGB", {"lossless": True}), ("WEBP", "RGBA", {"lossless": True}),
]  # fmt: skip


@pytest.mark.parametrize(("form", "mode", "options"), CARRIERS)
@pytest.mark.parametrize("size", [3, 3144, 65519, 65520, 200_001])
def test_with_icc(form: str, mode: str, options: dict[str, Any], size: int) -> None:
    icc = (display_p3() * (size // len(display_p3()) + 1))[:size]
    data = encode(form, mode, **options)
    done = with_icc(data, icc)
    before, after = Image.open(io.BytesIO(data)), Image.open(io.BytesIO(done))
    assert after.info["icc_profile"] == icc
    assert (after.mode, after.size) == (before.mode, before.size)
    assert after.tobytes() == before.tobytes()
    assert [name for name in leftovers(done) if not name.startswith("ICC profile: ")] == []
    assert with_icc(data, icc) == done
    assert with_icc(done, icc) == done
    clean = rebuilt(srgb())
    replaced = with_icc(done, clean)
    assert Image.open(io.BytesIO(replaced)).info["icc_profile"] == clean
    assert leftovers(replaced) == []
    tagged = cv2.imdecode(np.frombuffer(done, np.uint8), cv2.IMREAD_UNCHANGED)
    plain = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert tagged is not None and plain is not None
    assert np.array_equal(tagged, plain)


def test_with_icc_places_and_refusals() -> None:
    icc = display_p3()
    for data in (encode("JPEG"), encode("PNG"), encode("WEBP"), encode("TIFF"), b"anything"):
        assert with_icc(data, None) is data
        assert with_icc(data, b"") is data
    jpeg, png = walk(with_icc(encode("JPEG"), bytes(65520))), walk(with_icc(encode("PNG", "P"), icc))
    assert [p.name for p in jpeg][:5] == ["SOI", "APP0 JFIF", "APP2 ICC", "APP2 ICC", "DQT"]
    assert [p.name for p in png][:4] == ["PNG signature", "IHDR", "iCCP", "PLTE"]
    tagged = encode("PNG")
    tagged = tagged[:33] + chunk(b"sRGB", b"\0") + tagged[33:]
    assert "sRGB" not in [p.name for p in walk(with_icc(tagged, icc))]
    with pytest.raises(ValueError, match="JPEG, PNG or WebP"):
        with_icc(encode("TIFF"), icc)
    with pytest.raises(ValueError, match="too large"):
        with_icc(encode("JPEG"), bytes(65519 * 255 + 1))
    # It does not clean anything up on the way.
    assert names(with_icc(encode("WEBP") + b"tail", icc)) == ["trailing bytes"]


def test_needed_icc_for_colour() -> None:
    p3 = display_p3()
    assert needed_icc(None) is None
    assert needed_icc(b"") is None
    assert needed_icc(srgb()) is None
    assert needed_icc(p3) == rebuilt(p3)
    assert needed_icc(p3 + b"hidden behind the profile") == rebuilt(p3)
    assert needed_icc(p3, 1) is None
    assert needed_icc(p3, 4) is None
    assert needed_icc(p3, 2) is None


def test_needed_icc_for_grey() -> None:
    other = grey_profile(gamma_curve(1.8))
    assert needed_icc(other, 1) == rebuilt(other)
    assert needed_icc(other, 3) is None
    assert needed_icc(grey_profile(srgb_curve()), 1) is None
    assert needed_icc(srgb(), 1) is None


def test_needed_icc_survives_garbage() -> None:
    p3 = display_p3()
    for garbage in (b"x", b"x" * 500, p3[:200], p3[:128], p3[:40] + bytes(300), bytes(128) + b"acsp"):
        for channels in (1, 3, 4):
            assert needed_icc(garbage, channels) is None
    link = p3[:12] + b"link" + p3[16:]
    assert needed_icc(link) is None


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 600), st.binary(min_size=1, max_size=4)), min_size=1, max_size=3),
       st.sampled_from([1, 3, 4]))  # fmt: skip
def test_needed_icc_gives_a_clean_profile_or_refuses(edits: list[tuple[int, bytes]], channels: int) -> None:
    data = bytearray(display_p3())
    for at, value in edits:
        data[at : at + len(value)] = value
    with suppress(BrokenInput):
        found = needed_icc(bytes(data), channels)
        assert found is None or private_parts(found) == []


def with_tags(profile: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A profile with other tags added or in the place of its own."""
    count = int.from_bytes(profile[128:132], "big")
    entries = [struct.unpack_from(">4sII", profile, 132 + 12 * i) for i in range(count)]
    every = {name: profile[at : at + size] for name, at, size in entries} | tags
    table, body = b"", b""
    for name, data in every.items():
        table += struct.pack(">4sII", name, 132 + 12 * len(every) + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    out = profile[:128] + struct.pack(">I", len(every)) + table + body
    return struct.pack(">I", len(out)) + out[4:]


def mluc(text: str) -> bytes:
    raw = text.encode("utf-16-be")
    return b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(raw), 28) + raw


def calibrated() -> bytes:
    """A profile as calibration programs write them: it names a person, a display and a day."""
    profile = with_tags(
        display_p3(),
        {
            b"desc": mluc("Display of Jane Example, serial C02XX0000"),
            b"cprt": mluc("jane@example.org 2024-05-06"),
            b"mmod": b"mmod\0\0\0\0" + b"EXAMPLE-SERIAL-0000" + b"\0",
            b"rTRC": dict(tags_of(display_p3()))[b"rTRC"] + b"hidden behind a curve",
        },
    )
    return profile[:24] + struct.pack(">6H", 2024, 5, 6, 7, 8, 9) + profile[36:80] + b"JANE" + b"ID" * 8 + profile[100:]


def shown_by(icc: bytes) -> bytes:
    ramp = Image.frombytes("RGB", (4096, 1), np.random.default_rng(0).bytes(3 * 4096))
    made = ImageCms.profileToProfile(ramp, ImageCms.ImageCmsProfile(io.BytesIO(icc)), ImageCms.createProfile("sRGB"))
    assert made is not None
    return made.tobytes()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_profile_that_names_a_person_is_rebuilt(form: str) -> None:
    source = calibrated()
    found = {"header date", "header creator, id and reserved bytes", "text 'desc'", "text 'cprt'", "tag 'mmod'"}
    assert found | {"tag 'rTRC'"} <= set(private_parts(source))
    clean = needed_icc(source)
    assert clean is not None and private_parts(clean) == [] and shown_by(clean) == shown_by(source)
    for secret in ("Jane", "jane", "C02XX", "SERIAL", "hidden", "JANE"):
        assert secret.encode() not in clean and secret.encode("utf-16-be") not in clean
    # The proof looks inside the profile of every format, and of one cut into several segments.
    image = Image.fromarray(np.zeros((20, 30, 3), np.uint8))
    for profile in (source, with_tags(source, {b"mmod": b"mmod" + b"secret" * 20_000})):
        sink = io.BytesIO()
        image.save(sink, form, icc_profile=profile)
        assert "ICC profile: text 'desc'" in leftovers(sink.getvalue())
    sink = io.BytesIO()
    image.save(sink, form, icc_profile=clean)
    assert leftovers(sink.getvalue()) == []


def test_bytes_between_the_tags_of_a_profile_are_named() -> None:
    clean = rebuilt(display_p3())
    longer = clean + b"secret"
    assert private_parts(struct.pack(">I", len(longer)) + longer[4:]) == ["bytes of no tag"]
    assert private_parts(clean[:140]) == ["damaged profile"]


def test_tables_and_versions_of_a_profile_are_kept() -> None:
    for name in ("grey", "v2 text"):
        source = grey_profile(gamma_curve(1.8)) if name == "grey" else display_p3()
        clean = rebuilt(source[:8] + bytes((4 if name == "grey" else 2,)) + source[9:])
        assert private_parts(clean) == [] and ImageCms.ImageCmsProfile(io.BytesIO(clean)).profile is not None
    # An 8-bit and a 16-bit table: identity curves around a grid of two points a side.
    grid = np.indices((2, 2, 2)).reshape(3, -1).T.ravel()
    identity = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    small = b"mft1\0\0\0\0" + bytes((3, 3, 2, 0)) + identity + bytes(range(256)) * 3
    small += (grid * 255).astype(np.uint8).tobytes() + bytes(range(256)) * 3
    wide = (
        b"mft2\0\0\0\0"
        + bytes((3, 3, 2, 0))
        + identity
        + struct.pack(">2H", 2, 2)
        + struct.pack(">6H", *(0, 65535) * 3)
    )
    wide += (grid * 65535).astype(">u2").tobytes() + struct.pack(">6H", *(0, 65535) * 3)
    # mBA: curves of the connection space, then a grid.
    curve, cells = b"curv" + bytes(8), (grid * 255).astype(np.uint8).tobytes()
    modern = b"mAB \0\0\0\0" + bytes((3, 3, 0, 0)) + struct.pack(">5I", 32, 0, 0, 68, 112) + curve * 3
    modern += bytes((2, 2, 2)) + bytes(13) + b"\1\0\0\0" + cells + curve * 3
    for data in (small, wide, modern):
        source = with_tags(display_p3(), {b"A2B0": data})
        assert private_parts(rebuilt(source)) == []
        assert dict(tags_of(rebuilt(source)))[b"A2B0"] == data
        # Nothing can be hung on.
        assert dict(tags_of(rebuilt(with_tags(display_p3(), {b"A2B0": data + b"secret"}))))[b"A2B0"] == data
    gap = modern[:24] + struct.pack(">2I", 88, 132) + modern[32:68] + b"twenty secret bytes." + modern[68:]
    assert b"A2B0" not in dict(tags_of(rebuilt(with_tags(display_p3(), {b"A2B0": gap}))))


def tags_of(profile: bytes) -> list[tuple[bytes, bytes]]:
    count = int.from_bytes(profile[128:132], "big")
    entries = (struct.unpack_from(">4sII", profile, 132 + 12 * i) for i in range(count))
    return [(name, profile[at : at + size]) for name, at, size in entries]


@pytest.mark.parametrize("at", [26, 28])
def test_webp_without_width_or_height(at: int) -> None:
    data = bytearray(encode("WEBP"))
    data[at : at + 2] = b"\0\0"
    with pytest.raises(ValueError, match="image data cannot be read"):
        walk(bytes(data))
    with pytest.raises(ValueError, match="image data cannot be read"):
        with_icc(bytes(data), srgb())
