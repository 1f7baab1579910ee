"""Pictures in and out: every format and mode, every orientation, every kind of damage, and nothing lost on the way."""

from __future__ import annotations

import io
import random
import struct
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile, ImageOps

from p3mdata.errors import BrokenInput
from p3mdata.imaging import decode, encode_grey, orient
from p3mdata.imaging.jpeg.segments import SOS, join, split
from tests.factories import encoded, texture

Pixels = NDArray[Any]
HEIGHT, WIDTH = 40, 56
RGB = texture(HEIGHT, WIDTH)
GREY = np.ascontiguousarray(RGB[..., 0])
ALPHA = np.ascontiguousarray(texture(HEIGHT, WIDTH, seed=9)[..., 1])
RGBA, LA = np.dstack([RGB, ALPHA]), np.dstack([GREY, ALPHA])
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SIXTEEN = np.random.default_rng(1).integers(0, 1 << 16, (HEIGHT, WIDTH, 4), np.uint16)


def saved(image: Image.Image, name: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    image.save(sink, name, **options)
    return sink.getvalue()


def tiff(array: Pixels, **options: Any) -> bytes:
    sink = io.BytesIO()
    tifffile.imwrite(sink, array, metadata=None, **options)
    return sink.getvalue()


def png(rows: Pixels, kind: int, depth: int, size: tuple[int, int] | None = None, extra: bytes = b"") -> bytes:
    """A PNG written byte by byte; `rows` holds big-endian samples or packed bits."""
    height, width = size or rows.shape[:2]
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(raw))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + pixels + chunk(b"IEND", b"")


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def by_pillow(data: bytes, mode: str = "RGB") -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert(mode))


def bits(depth: int) -> tuple[bytes, Pixels]:
    """A grey PNG of 1, 2 or 4 bits with all its values, and what it shows."""
    values = np.tile(np.arange(1 << depth, dtype=np.uint8), (6, 16 // depth))
    packed = np.packbits(np.unpackbits(values[..., None], axis=2)[..., 8 - depth :].reshape(6, -1), axis=1)
    return png(packed, 0, depth, values.shape), values * (255 // ((1 << depth) - 1))


SAMPLES: dict[str, tuple[bytes, Pixels, Pixels | None]] = {
    "png grey": (encoded(GREY, "PNG"), GREY, None),
    "png rgb": (encoded(RGB, "PNG"), RGB, None),
    "png rgba": (encoded(RGBA, "PNG"), RGB, ALPHA),
    "png grey+alpha": (encoded(LA, "PNG"), GREY, ALPHA),
    "png 1 bit": (*bits(1), None),
    "png 2 bit": (*bits(2), None),
    "png 4 bit": (*bits(4), None),
    "png 16 bit grey": (encode_grey(SIXTEEN[..., 0]), SIXTEEN[..., 0], None),
    "png 16 bit rgb": (png(SIXTEEN[..., :3].astype(">u2"), 2, 16), SIXTEEN[..., :3], None),
    "png 16 bit rgba": (png(SIXTEEN.astype(">u2"), 6, 16), SIXTEEN[..., :3], SIXTEEN[..., 3]),
    "png 16 bit grey+alpha": (
        png(SIXTEEN[..., :2].astype(">u2"), 4, 16),
        SIXTEEN[..., [0, 0, 0]],
        SIXTEEN[..., 1],
    ),
    "webp lossless": (encoded(RGB, "WEBP", lossless=True), RGB, None),
    "webp lossless alpha": (encoded(RGBA, "WEBP", lossless=True, exact=True), RGB, ALPHA),
    "tiff": (encoded(RGB, "TIFF"), RGB, None),
    "tiff grey": (encoded(GREY, "TIFF"), GREY, None),
    "tiff rgba": (encoded(RGBA, "TIFF"), RGB, ALPHA),
    "tiff lzw": (encoded(RGB, "TIFF", compression="tiff_lzw"), RGB, None),
    "tiff deflate": (encoded(RGB, "TIFF", compression="tiff_adobe_deflate"), RGB, None),
    "tiff packbits": (encoded(RGB, "TIFF", compression="packbits"), RGB, None),
    "tiff white is zero": (tiff(GREY, photometric="miniswhite"), 255 - GREY, None),
    "tiff planar": (tiff(np.moveaxis(RGB, 2, 0), photometric="rgb", planarconfig="separate"), RGB, None),
    "tiff 16 bit grey": (tiff(SIXTEEN[..., 0]), SIXTEEN[..., 0], None),
    "tiff 16 bit white is zero": (tiff(SIXTEEN[..., 0], photometric="miniswhite"), ~SIXTEEN[..., 0], None),
    "tiff 16 bit rgb": (tiff(SIXTEEN[..., :3], photometric="rgb"), SIXTEEN[..., :3], None),
    "tiff 16 bit big-endian": (tiff(SIXTEEN[..., :3], photometric="rgb", byteorder=">"), SIXTEEN[..., :3], None),
    "tiff 16 bit tiled": (tiff(SIXTEEN[..., :3], photometric="rgb", tile=(16, 32)), SIXTEEN[..., :3], None),
    "tiff 16 bit deflate": (tiff(SIXTEEN[..., :3], photometric="rgb", compression="zlib"), SIXTEEN[..., :3], None),
    "tiff 16 bit rgba": (
        tiff(SIXTEEN, photometric="rgb", extrasamples=["unassalpha"]),
        SIXTEEN[..., :3],
        SIXTEEN[..., 3],
    ),
    "bmp": (encoded(RGB, "BMP"), RGB, None),
    "ppm": (encoded(RGB, "PPM"), RGB, None),
    "pgm": (encoded(GREY, "PPM"), GREY, None),
    "jpeg 2000": (encoded(RGB, "JPEG2000"), RGB, None),
    "avif lossless": (encoded(RGB, "AVIF", quality=100, subsampling="4:4:4"), None, None),
    "heic": (encoded(RGB, "HEIF", quality=95), None, None),
    "gif": (saved(Image.fromarray(RGB).quantize(64), "GIF"), None, None),
    "palette": (saved(Image.fromarray(RGB).quantize(64), "PNG"), None, None),
    "jpeg": (encoded(RGB, "JPEG", quality=90), None, None),
    "jpeg 4:4:4": (encoded(RGB, "JPEG", subsampling=0), None, None),
    "jpeg grey": (encoded(GREY, "JPEG"), by_pillow(encoded(GREY, "JPEG"), "L"), None),
    "jpeg progressive": (encoded(RGB, "JPEG", progressive=True), None, None),
    "mpo": (saved(Image.fromarray(RGB), "MPO", save_all=True, append_images=[Image.fromarray(RGB)]), None, None),
    "webp lossy": (encoded(RGB, "WEBP", quality=80), None, None),
}  # fmt: skip
WRITTEN_AS = {"jpeg": "JPEG", "mpo": "JPEG", "webp": "WEBP", "tiff": "TIFF"}


@pytest.mark.parametrize("name", SAMPLES)
def test_every_format_and_mode_shows_its_pixels(name: str) -> None:
    data, pixels, opacity = SAMPLES[name]
    if pixels is None:
        pixels = by_pillow(data)
    picture = decode(data)
    assert picture.pixels.dtype == pixels.dtype
    assert np.array_equal(picture.pixels, pixels)
    assert (picture.opacity is None) == (opacity is None)
    assert opacity is None or np.array_equal(picture.opacity, opacity)
    wanted = "PNG" if name == "jpeg 2000" else WRITTEN_AS.get(name.split(maxsplit=1)[0], "PNG")
    assert picture.format == wanted
    assert picture.orientation == 1 and picture.icc is None
    if name.split(maxsplit=1)[0] in ("bmp", "ppm", "pgm", "gif", "heic", "avif", "palette"):
        assert picture.notes


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_the_transparent_value_of_a_grey_png(depth: int) -> None:
    key = chunk(b"tRNS", struct.pack(">H", 1))
    values = np.array([[0, 1, 0, 1] if depth == 1 else [0, 1, 2, 3]], ">u2" if depth == 16 else np.uint8)
    rows = values
    if depth < 8:
        rows = np.packbits(np.unpackbits(values[..., None], axis=2)[..., 8 - depth :]).reshape(1, -1)
    picture = decode(png(rows, 0, depth, (1, 4), key))
    assert picture.opacity.dtype == picture.pixels.dtype
    assert np.array_equal(picture.opacity == 0, values == 1)


@pytest.mark.parametrize("depth", [8, 16])
def test_the_transparent_colour_of_an_rgb_png(depth: int) -> None:
    pixels = np.array([[[1, 2, 3], [1, 2, 4]]], ">u2" if depth == 16 else np.uint8)
    picture = decode(png(pixels, 2, depth, None, chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3))))
    assert np.array_equal(picture.pixels, pixels)
    assert picture.opacity.tolist() == [[0, (1 << depth) - 1]]


@pytest.mark.parametrize("name", ["PNG", "GIF"])
def test_a_palette_with_transparency(name: str) -> None:
    image = Image.fromarray(RGB).quantize(16)
    data = saved(image, name, transparency=3)
    picture = decode(data)
    assert np.array_equal(picture.pixels, np.asarray(image.convert("RGB")))
    assert np.array_equal(picture.opacity == 0, np.asarray(image) == 3)


def test_interlaced_png() -> None:
    """Adam7 of a 1x1 picture is its first pass; larger ones come from OpenCV's and Pillow's own readers alike."""
    for depth, sample in ((8, np.uint8(77)), (16, np.array(7777, ">u2"))):
        header = struct.pack(">IIBBBBB", 1, 1, depth, 0, 0, 0, 1)
        data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
        data += chunk(b"IDAT", zlib.compress(b"\0" + sample.tobytes())) + chunk(b"IEND", b"")
        assert decode(data).pixels.tolist() == [[int(sample)]]


@pytest.mark.parametrize("adobe", [True, False])
def test_cmyk_jpeg_with_and_without_adobe_marker(adobe: bool) -> None:
    data = saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    if not adobe:
        # The marker says that the values are inverted; without it they are read as they stand: no magenta, no yellow.
        at = data.index(b"\xff\xee")
        data = data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]
    picture = decode(data)
    assert picture.pixels.shape == (16, 16, 3) and "CMYK" in picture.notes[0]
    assert picture.format == "JPEG" and picture.tables is None
    assert np.abs(picture.pixels[8, 8].astype(int) - ((255, 0, 0) if adobe else (0, 0, 0))).max() < 12


def test_cmyk_tiff() -> None:
    cmyk = np.asarray(Image.fromarray(RGB).convert("CMYK"))
    picture = decode(tiff(cmyk, photometric="separated"))
    assert np.array_equal(picture.pixels, RGB)


@pytest.mark.parametrize("profile", [b"not a profile", SRGB], ids=["no profile", "of RGB"])
def test_cmyk_with_an_unusable_profile_is_converted_plainly(profile: bytes) -> None:
    cmyk = Image.fromarray(RGB).convert("CMYK")
    with_profile, without = (decode(saved(cmyk, "JPEG", **options)) for options in ({"icc_profile": profile}, {}))
    assert np.array_equal(with_profile.pixels, without.pixels) and with_profile.icc is None


def cmyk_profile() -> bytes:
    """A printer that knows one colour, light green, whatever the inks."""
    table = (
        b"mft1"
        + bytes((0, 0, 0, 0, 4, 3, 2, 0))
        + struct.pack(">9i", *(65536 * v for v in (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    )
    table += bytes(range(256)) * 4 + bytes((200, 60, 160)) * 16 + bytes(range(256)) * 3
    head = struct.pack(">I4sI4s4s4s", 0, b"lcms", 0x02400000, b"prtr", b"CMYK", b"Lab ").ljust(36, b"\0") + b"acsp"
    head = head.ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061)
    body = head.ljust(128, b"\0") + struct.pack(">I4sII", 1, b"A2B0", 144, len(table)) + table
    return struct.pack(">I", len(body)) + body[4:]


def test_cmyk_with_a_profile_is_converted_by_it() -> None:
    picture = decode(saved(Image.fromarray(RGB).convert("CMYK"), "JPEG", icc_profile=cmyk_profile()))
    red, green, blue = picture.pixels.reshape(-1, 3).T.astype(int)
    assert picture.icc is None and (green > red + 40).all() and (green > blue + 40).all()


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_applied(name: str, orientation: int) -> None:
    data = encoded(RGB, name, exif=exif(orientation))
    picture = decode(data)
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(picture.pixels, np.asarray(ImageOps.exif_transpose(image)))
    assert picture.orientation == orientation
    assert picture.pixels.flags.c_contiguous


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_16_bit_and_of_opacity(orientation: int) -> None:
    turned = orient(SIXTEEN, orientation)
    tags = [(0x0112, "H", 1, orientation, True)]
    body = exif(orientation).tobytes().removeprefix(b"Exif\0\0")
    for data in (
        tiff(SIXTEEN, photometric="rgb", extrasamples=["unassalpha"], extratags=tags),
        png(SIXTEEN.astype(">u2"), 6, 16, extra=chunk(b"eXIf", body)),
    ):
        picture = decode(data)
        assert np.array_equal(picture.pixels, turned[..., :3])
        assert np.array_equal(picture.opacity, turned[..., 3])
        assert picture.orientation == orientation


@pytest.mark.parametrize("value", [0, 9, 77, 65535])
def test_an_impossible_orientation_is_none(value: int) -> None:
    assert decode(encoded(RGB, "JPEG", exif=exif(value))).orientation == 1


def several(name: str) -> bytes:
    frames = [Image.fromarray(RGB), Image.fromarray(RGB[::-1])]
    return saved(frames[0], name, save_all=True, append_images=frames[1:])


def eps() -> bytes:
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"


def damaged_second_page() -> bytes:
    data = bytearray(several("TIFF"))
    first = int.from_bytes(data[4:8], "little")
    link = first + 2 + 12 * int.from_bytes(data[first : first + 2], "little")
    second = int.from_bytes(data[link : link + 4], "little")
    data[second : second + 2] = b"\0\0"
    return bytes(data)


JPEG = encoded(RGB, "JPEG")
BROKEN: dict[str, tuple[bytes, str]] = {
    "zero bytes": (b"", "empty_file"),
    "text": (b"Dear Sir or Madam,\n" * 20, "not_an_image"),
    "half a header": (JPEG[:10], "not_an_image"),
    "eps": (eps(), "not_an_image"),
    "truncated jpeg": (JPEG[:-200], "cannot_decode"),
    "truncated png": (encoded(RGB, "PNG")[:-200], "cannot_decode"),
    "damaged png": (encoded(RGB, "PNG").replace(b"IDAT", b"IDAT\1\2\3", 1), "cannot_decode"),
    "pages": (several("TIFF"), "several_pictures"),
    "animated gif": (several("GIF"), "several_pictures"),
    "animated webp": (several("WEBP"), "several_pictures"),
    "animated png": (several("PNG"), "several_pictures"),
    "float tiff": (tiff(RGB[..., 0].astype(np.float32)), "unsupported_colours"),
    "32 bit tiff": (tiff(RGB[..., 0].astype(np.uint32)), "unsupported_colours"),
    "16 bit signed tiff": (tiff(RGB[..., 0].astype(np.int16)), "unsupported_colours"),
    "16 bit cmyk tiff": (tiff(SIXTEEN, photometric="separated"), "unsupported_colours"),
    "16 bit premultiplied tiff": (tiff(SIXTEEN, photometric="rgb", extrasamples=["assocalpha"]), "unsupported_colours"),
    "16 bit planar tiff": (
        tiff(np.moveaxis(SIXTEEN[..., :3], 2, 0), photometric="rgb", planarconfig="separate"),
        "unsupported_colours",
    ),
    "lab tiff": (saved(Image.new("LAB", (8, 8)), "TIFF"), "unsupported_colours"),
    "tiff whose second page is damaged": (damaged_second_page(), "cannot_decode"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_unusable_files_are_refused_with_one_sentence(name: str) -> None:
    data, code = BROKEN[name]
    with pytest.raises(BrokenInput) as caught:
        decode(data)
    assert caught.value.code == code
    sentence = caught.value.sentence
    assert sentence[0].islower() and sentence.endswith(".") and "\n" not in sentence and len(sentence) < 260


def test_a_bomb_is_refused_before_memory_is_used() -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1 << 20))) + chunk(b"IEND", b"")
    tracemalloc.start()
    try:
        with pytest.raises(BrokenInput, match="60000x60000") as caught:
            decode(bomb)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert caught.value.code == "too_large"


def test_the_pixel_limit_is_the_last_size_allowed() -> None:
    assert decode(JPEG, max_pixels=HEIGHT * WIDTH).size == (HEIGHT, WIDTH)
    with pytest.raises(BrokenInput, match="--max-pixels"):
        decode(JPEG, max_pixels=HEIGHT * WIDTH - 1)


def test_truncated_files_are_never_completed() -> None:
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    rng = random.Random(0)
    for name in ("jpeg", "jpeg progressive", "png rgb", "webp lossy", "webp lossless", "tiff deflate", "gif", "heic"):
        data = SAMPLES[name][0]
        for _ in range(25):
            # The last bytes of some formats are padding that no decoder reads.
            with pytest.raises(BrokenInput):
                decode(data[: rng.randrange(len(data) - 16)])


INTACT = [
    saved(Image.fromarray(array), "JPEG", quality=85, **options)
    for array in (texture(61, 47), texture(48, 64)[..., 1], texture(3, 7))
    for options in ({}, {"subsampling": 0}, {"subsampling": 1, "restart_marker_blocks": 3}, {"progressive": True})
]


def test_intact_jpegs_take_the_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("Pillow decoded it"))
    for data in INTACT:
        decode(data)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
@given(
    st.sampled_from(INTACT), st.randoms(use_true_random=False), st.sampled_from(["flip", "cut", "end", "lose", "add"])
)
def test_a_jpeg_decodes_as_pillow_decodes_it(intact: bytes, rng: random.Random, damage: str) -> None:
    data, at = bytearray(intact), rng.randrange(2, len(intact))
    if damage == "flip":
        data[at] ^= 1 << rng.randrange(8)
    elif damage == "add":
        data[at:at] = rng.randbytes(rng.randint(1, 40))
    else:
        data[at : at + 20 if damage == "lose" else None] = b"\xff\xd9" if damage == "end" else b""
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            expected = np.asarray(image)
        assume(image.mode in ("L", "RGB"))
    except (OSError, SyntaxError, ValueError, TypeError):
        try:
            found = decode(bytes(data))
        except BrokenInput:
            return
        # Only the end marker may be missing: nothing of the picture was lost.
        assert "missing end marker added" in found.notes
        assert np.array_equal(found.pixels, decode(intact).pixels)
    else:
        assert np.array_equal(decode(bytes(data)).pixels, expected)


def test_damage_that_decoders_mend_is_told() -> None:
    word = "damaged image data shown as decoders mend it"
    for data in INTACT[:4]:
        assert word not in decode(data).notes and word not in decode(data, coefficients=True).notes
        # Nothing but the segment's version is odd: no word about the picture.
        assert word not in decode(data.replace(b"JFIF\0\1", b"JFIF\0\2", 1)).notes
        half = data[: (data.rindex(b"\xff\xda") + len(data)) // 2] + b"\xff\xd9"
        assert word in decode(half).notes and word in decode(half, coefficients=True).notes


FUZZ = {**{name: sample[0] for name, sample in SAMPLES.items()}, **{k: v for k, (v, _) in BROKEN.items() if v}}


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    data = bytearray(FUZZ[draw(st.sampled_from(sorted(FUZZ)))])
    edits = st.tuples(st.integers(0, 1 << 20), st.sampled_from([0, 1, 2, 127, 255]) | st.integers(0, 255))
    head = draw(st.sampled_from([64, 200, 1 << 20]))
    for place, value in draw(st.lists(edits, min_size=1, max_size=5)):
        data[place % min(head, len(data))] = value
    return bytes(data[: draw(st.sampled_from([len(data)] * 3 + list(range(1, len(data), 97))))])


@settings(max_examples=800, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
@given(mutations() | st.binary(max_size=300))
@example(several("GIF")[:-1] + b"\x21\xf9\x00")
def test_hostile_bytes_end_as_broken_or_as_a_picture(data: bytes) -> None:
    try:
        picture = decode(data, max_pixels=1 << 20)
    except BrokenInput as exc:
        assert "\n" not in exc.sentence
    else:
        assert picture.pixels.shape[:2] == picture.size and picture.pixels.dtype in (np.uint8, np.uint16)


@pytest.mark.parametrize("damaged", [False, True])
def test_a_jpeg_of_endless_scans_is_refused_before_it_is_decoded(
    damaged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments = list(split(encoded(texture(40, 56), progressive=True)))
    scan = min((segment for segment in segments if segment.scan), key=lambda segment: len(segment.scan))
    decode(join([*segments, *[scan] * 200]))
    decode(join(segments) + bytes((0xFF, SOS)) * 300)
    many = join([*segments, *[scan] * 300])
    monkeypatch.setattr(Image.Image, "load", lambda image: pytest.fail("decoded"))
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded"))
    monkeypatch.setattr("simplejpeg.decode_jpeg", lambda *args, **options: pytest.fail("decoded"))
    with pytest.raises(BrokenInput, match="more than 256 scans"):
        decode(many[:-2] if damaged else many)
