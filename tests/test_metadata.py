"""The metadata walker names everything that is not needed to decode the pixels, and nothing else."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from p3mdata.imaging.metadata import Part, leftovers, walk, with_icc
from tests.byte_files import (
    PAGE_END,
    PIXELS,
    chunk,
    cv2_encode,
    display_p3,
    encode,
    long,
    names,
    page,
    riff,
    riff_chunk,
    segment,
    short,
    srgb,
    tiff,
)

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
