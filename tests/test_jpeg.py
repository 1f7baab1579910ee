"""Block-exact JPEG editing: properties of the output on real files of all supported kinds."""

from __future__ import annotations

import io
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import jpeglib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from p3mdata.imaging.jpeg import JpegBlocks, UnsupportedJpeg, coefficients, library
from p3mdata.native import VARIABLE

SIZES = [(77, 123), (9, 17), (1, 1), (8, 8), (40, 3), (64, 96)]
CV_SAMPLING = {
    "444": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    "422": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    "420": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    "440": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440,
    "411": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411,
}
KINDS = ["grey", *CV_SAMPLING]


def picture(height: int, width: int, seed: int, noise: float = 12.0) -> NDArray[np.uint8]:
    """Draw smooth waves with noise, RGB."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / rng.uniform(5, 40) + k) * np.cos(y / rng.uniform(5, 40)) for k in range(3)]
    image = 128 + 90 * np.stack(waves, axis=-1) + rng.normal(0, noise, (height, width, 3))
    return image.clip(0, 255).astype(np.uint8)


def encode(image: NDArray[np.uint8], kind: str, quality: int = 75, **options: int) -> bytes:
    """Encode RGB as a JPEG; options are named as in OpenCV, such as progressive."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality]
    for name, value in options.items():
        settings += [getattr(cv2, f"IMWRITE_JPEG_{name.upper()}"), value]
    if kind == "grey":
        image = image[..., 1]
    else:
        settings += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, CV_SAMPLING[kind]]
        image = image[..., ::-1]
    done, data = cv2.imencode(".jpg", image, settings)
    assert done
    return bytes(data)


def decode(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def masks(height: int, width: int, seed: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Draw a few rectangles that are wanted, and a few others that are forbidden."""
    rng = np.random.default_rng(seed)
    wanted, forbidden = np.zeros((2, height, width), bool)
    for mask, count in ((wanted, 4), (forbidden, 3)):
        for _ in range(rng.integers(0, count + 1)):
            top, left = rng.integers(0, height), rng.integers(0, width)
            mask[top : top + rng.integers(1, 30), left : left + rng.integers(1, 30)] = True
    return wanted, forbidden & ~wanted


def dct(data: bytes) -> Any:
    """Read a file's coefficients by another route than the module's."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.jpg")
        path.write_bytes(data)
        found = jpeglib.read_dct(str(path))
        found.load()
    return found


def tables(data: bytes) -> list[list[int]]:
    found = dct(data)
    return [found.get_component_qt(i).ravel().tolist() for i in range(found.num_components)]


def markers(data: bytes) -> list[int]:
    """List the marker codes of a file up to the first scan."""
    codes: list[int] = []
    at = 2
    while not codes or codes[-1] != 0xDA:
        assert data[at] == 0xFF
        codes.append(data[at + 1])
        at += 2 + int(struct.unpack(">H", data[at + 2 : at + 4])[0])
    return codes


def check_edit(data: bytes, seed: int) -> None:
    """Edit a file with random masks and hold the result against everything promised."""
    before = decode(data)
    height, width = before.shape[:2]
    wanted, forbidden = masks(height, width, seed)
    target = picture(height, width, seed + 1)
    if before.ndim == 2:
        target = target[..., 0]
    blocks = JpegBlocks.read(data)
    assert (blocks.height, blocks.width) == (height, width)
    reach = blocks.reach(wanted, forbidden)
    rows, cols = (np.flatnonzero(wanted.any(axis)) for axis in (1, 0))
    around = (slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)) if len(rows) else (slice(0, 0), slice(0, 0))
    known = blocks.reach(wanted, forbidden, around)
    assert all(np.array_equal(a, b) for a, b in zip(reach.blocks, known.blocks, strict=True))
    assert np.array_equal(reach.changed, known.changed) and np.array_equal(reach.luma, known.luma)
    out = blocks.rewrite(target, reach)
    after = decode(out)

    assert after.shape == before.shape
    assert np.array_equal(after[~reach.changed], before[~reach.changed])
    assert not (reach.changed & forbidden).any()
    assert not (reach.luma & ~reach.changed).any()
    near = cv2.dilate(forbidden.astype(np.uint8), np.ones((35, 35), np.uint8)).astype(bool)
    assert reach.luma[wanted & ~near].all()
    assert tables(out) == tables(data)
    assert np.array_equal(dct(out).samp_factor, dct(data).samp_factor)
    assert markers(out)[0] == 0xE0
    assert not {*range(0xE1, 0xF0), 0xFE} & set(markers(out))
    assert out.endswith(b"\xff\xd9")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("quality", [30, 75, 95])
def test_pixels_outside_the_reach_are_untouched(kind: str, size: tuple[int, int], quality: int) -> None:
    for seed in range(4):
        check_edit(encode(picture(*size, seed), kind, quality), seed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options",
    [{"progressive": 1}, {"optimize": 1}, {"rst_interval": 2}, {"progressive": 1, "rst_interval": 1}],
)
def test_every_entropy_coding(kind: str, options: dict[str, int]) -> None:
    for seed in range(3):
        check_edit(encode(picture(77, 123, seed), kind, 85, **options), seed)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    quality=st.integers(5, 100),
    seed=st.integers(0, 2**31),
)
def test_any_size_and_quality(kind: str, height: int, width: int, quality: int, seed: int) -> None:
    check_edit(encode(picture(height, width, seed, noise=40), kind, quality), seed)


@pytest.mark.parametrize("kind", ["422", "420", "440"])
def test_the_ring_is_no_wider_than_needed(kind: str) -> None:
    """A strong change of one chroma block shows in the outermost pixels of its reach."""
    source = np.full((96, 96, 3), 128, np.uint8)
    blocks = JpegBlocks.read(data := encode(source, kind, 95))
    wanted = np.zeros((96, 96), bool)
    wanted[40, 40] = True
    reach = blocks.reach(wanted)
    target = np.full_like(source, 128)
    target[..., 0] = 255
    differs = (decode(blocks.rewrite(target, reach)) != decode(data)).any(axis=2)
    assert np.array_equal(differs, reach.changed)


@pytest.mark.parametrize("kind", KINDS)
def test_the_obfuscated_image_arrives(kind: str) -> None:
    source, target = picture(120, 160, 1), picture(120, 160, 2, noise=0)
    blocks = JpegBlocks.read(encode(source, kind, 95))
    wanted = np.zeros((120, 160), bool)
    wanted[20:90, 30:130] = True
    reach = blocks.reach(wanted)
    shown = target if kind != "grey" else target[..., 0]
    after = decode(blocks.rewrite(shown, reach)).astype(int)
    inner = np.zeros_like(wanted)
    inner[22:88, 34:126] = True
    assert np.abs(after - shown)[inner].mean() < 3
    everywhere = decode(blocks.rewrite(shown, blocks.reach(np.ones_like(wanted)))).astype(int)
    reference = decode(encode(np.dstack([shown] * 3) if kind == "grey" else target, kind, 95)).astype(int)
    assert np.abs(everywhere - reference).max() <= 6
    assert np.abs(everywhere - reference).mean() < 1  # libjpeg averages chroma with alternating bias


@pytest.mark.parametrize("options", [{}, {"progressive": 1}])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_selected_keeps_all_coefficients(kind: str, options: dict[str, int]) -> None:
    data = encode(picture(77, 123, 5), kind, 80, **options)
    blocks = JpegBlocks.read(data)
    none = np.zeros((77, 123), bool)
    reach = blocks.reach(none)
    assert not reach.changed.any()
    pixels = np.zeros((77, 123) if kind == "grey" else (77, 123, 3), np.uint8)
    old, new = dct(data), dct(blocks.rewrite(pixels, reach))
    for name in ("Y", "Cb", "Cr"):
        assert np.array_equal(getattr(old, name), getattr(new, name)), name


def test_forbidden_everywhere_selects_nothing() -> None:
    blocks = JpegBlocks.read(encode(picture(40, 40, 1), "420"))
    everywhere = np.ones((40, 40), bool)
    assert not blocks.reach(everywhere, everywhere).changed.any()


def test_equal_arguments_give_equal_bytes_and_leave_the_source_alone() -> None:
    data = encode(picture(77, 123, 5), "420")
    blocks = JpegBlocks.read(data)
    pixels = picture(77, 123, 6)
    reach = blocks.reach(np.ones((77, 123), bool))
    first = blocks.rewrite(pixels, reach)
    assert first == blocks.rewrite(pixels, reach)
    assert first == JpegBlocks.read(data).rewrite(pixels, reach)
    none = blocks.reach(np.zeros((77, 123), bool))
    assert np.array_equal(decode(blocks.rewrite(pixels, none)), decode(data))


def test_metadata_and_trailing_bytes_are_dropped() -> None:
    exif = Image.Exif()
    exif[0x010E] = "SECRET"
    stream = io.BytesIO()
    Image.fromarray(picture(50, 60, 1)).save(
        stream, "JPEG", exif=exif, comment=b"SECRET", icc_profile=b"SECRET" * 30, dpi=(300, 300)
    )
    data = stream.getvalue() + b"SECRET" + encode(picture(8, 8, 1), "420")
    assert b"SECRET" in data
    check_edit(data, 3)
    out = JpegBlocks.read(data).rewrite(picture(50, 60, 2), JpegBlocks.read(data).reach(np.zeros((50, 60), bool)))
    assert b"SECRET" not in out
    assert out.count(b"\xff\xd9") == 1


def replaced_header(data: bytes, header: bytes, ids: bytes | None = None) -> bytes:
    """Replace the JFIF segment, and rename the components in frame and scan."""
    out = bytearray(data[:2] + header + data[20:])
    if ids is not None:
        frame, scan = out.index(b"\xff\xc0"), out.index(b"\xff\xda")
        for i, name in enumerate(ids):
            out[frame + 10 + 3 * i] = out[scan + 5 + 2 * i] = name
    return bytes(out)


def adobe(transform: int) -> bytes:
    return b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([transform])


@pytest.mark.parametrize("ids", [None, b"\x00\x01\x02", b"\x05\x07\x02"])
@pytest.mark.parametrize("header", [b"", adobe(1)])
def test_files_without_jfif_keep_their_colours(header: bytes, ids: bytes | None) -> None:
    data = replaced_header(encode(picture(77, 123, 5), "420"), header, ids)
    assert b"JFIF" not in data
    for seed in range(3):
        check_edit(data, seed)


def test_a_jfif_header_outweighs_suspicious_names() -> None:
    check_edit(replaced_header(COLOUR, COLOUR[2:20], b"RGB"), 1)


@pytest.mark.parametrize("luma", [(1, 4), (2, 4), (4, 1), (4, 2), (1, 3), (3, 1)])
def test_rare_subsampling(luma: tuple[int, int], tmp_path: Path) -> None:
    """Ratios that decoders do not interpolate, as (vertical, horizontal)."""
    for seed in range(6):
        made = jpeglib.from_spatial(picture(77, 123, seed))
        made.samp_factor = np.array([luma, (1, 1), (1, 1)])
        made.write_spatial(str(tmp_path / "x.jpg"), qt=80)
        data = (tmp_path / "x.jpg").read_bytes()
        assert tuple(dct(data).samp_factor[0]) == luma
        check_edit(data, seed)


def test_two_different_chroma_tables_survive() -> None:
    stream = io.BytesIO()
    quant = [[5] * 64, list(range(3, 67)), [200 - i for i in range(64)]]
    image = Image.fromarray(picture(50, 60, 1))
    image.save(stream, "JPEG", qtables=quant)
    check_edit(stream.getvalue(), 1)
    stream = io.BytesIO()
    image.save(stream, "JPEG", qtables=[list(range(3, 67))])
    check_edit(stream.getvalue(), 2)


def edited(data: bytes, marker: bytes, offset: int, value: int) -> bytes:
    """Set one byte of the payload of the first segment of a kind."""
    out = bytearray(data)
    out[out.index(marker) + 4 + offset] = value
    return bytes(out)


def two_components() -> bytes:
    frame = b"\xff\xc0\x00\x0e\x08\x00\x28\x00\x28\x02" + bytes((1, 0x11, 0, 2, 0x11, 0))
    return COLOUR[: COLOUR.index(SOF)] + frame + COLOUR[COLOUR.index(b"\xff\xda") :]


def cmyk() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture(20, 20, 1)).convert("CMYK").save(stream, "JPEG")
    return stream.getvalue()


COLOUR = encode(picture(40, 40, 1), "420")
SOF = b"\xff\xc0"
UNSUPPORTED: dict[str, tuple[Callable[[], bytes], str]] = {
    "cmyk": (cmyk, "CMYK"),
    "rgb by Adobe": (lambda: replaced_header(COLOUR, adobe(0)), "RGB"),
    "rgb by names": (lambda: replaced_header(COLOUR, b"", b"RGB"), "RGB"),
    "12-bit": (lambda: edited(COLOUR, SOF, 0, 12), "12-bit"),
    "arithmetic": (lambda: COLOUR.replace(SOF, b"\xff\xc9", 1), "arithmetic"),
    "table of arithmetic coding": (lambda: COLOUR[:2] + b"\xff\xcc\0\4\0\x10" + COLOUR[2:], "arithmetic"),
    "segment that decoders refuse": (lambda: COLOUR[:2] + b"\xff\xf0\0\4ab" + COLOUR[2:], "unknown marker"),
    "lossless": (lambda: COLOUR.replace(SOF, b"\xff\xc3", 1), "lossless"),
    "fractional": (lambda: edited(edited(COLOUR, SOF, 7, 0x31), SOF, 10, 0x21), "fractional"),
    "subsampled luma": (lambda: edited(edited(COLOUR, SOF, 7, 0x11), SOF, 10, 0x22), "luma"),
    "two components": (two_components, "2 components"),
    "huge": (lambda: edited(edited(COLOUR, SOF, 1, 255), SOF, 2, 255), "size"),
    "too many pixels": (lambda: edited(edited(COLOUR, SOF, 1, 250), SOF, 3, 250), "pixels"),
    "no data for its size": (lambda: edited(edited(COLOUR, SOF, 1, 40), SOF, 3, 40), "too little"),
    "empty": (lambda: b"", "not a JPEG"),
    "another format": (lambda: b"\x89PNG\r\n" * 9, "not a JPEG"),
    "only a start": (lambda: b"\xff\xd8", "truncated"),
    "no end": (lambda: COLOUR[:-2], "truncated"),
    "cut in the scan": (lambda: COLOUR[:-300], "truncated"),
    "cut in the header": (lambda: COLOUR[:100], "truncated"),
    "no image": (lambda: b"\xff\xd8\xff\xd9", "no image"),
    "no tables": (lambda: COLOUR.replace(b"\xff\xdb", b"\xff\xe5"), "quantisation"),
    "zero in a table": (lambda: edited(COLOUR, b"\xff\xdb", 5, 0), "range"),
    "broken Huffman table": (lambda: edited(COLOUR, b"\xff\xc4", 3, 255), "Huffman"),
    "restart interval of a wrong length": (lambda: COLOUR.replace(b"\xff\xc4", b"\xff\xdd", 1), "restart"),
    "unusable Huffman table": (
        lambda: edited(edited(COLOUR, b"\xff\xc4", 1, 9), b"\xff\xc4", 5, 0),
        "damaged",
    ),
}


@pytest.fixture(params=["in memory", "by jpeglib"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Coefficients in the library's own memory, and where that cannot be."""
    if request.param == "by jpeglib":
        monkeypatch.setattr(library, "_usable", lambda: None)
        monkeypatch.setenv(VARIABLE, "off")


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", UNSUPPORTED)
def test_unsupported_files_are_refused_with_the_reason(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    make, reason = UNSUPPORTED[name]
    with pytest.raises(UnsupportedJpeg, match=reason):
        JpegBlocks.read(make())
    assert capfd.readouterr() == ("", "")


def test_progressive_files_with_scans_missing_are_refused() -> None:
    data = encode(picture(40, 40, 1), "420", progressive=1)
    last = data.rindex(b"\xff\xda")
    with pytest.raises(UnsupportedJpeg, match="incomplete"):
        JpegBlocks.read(data[:last] + b"\xff\xd9")


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("progressive", [0, 1])
def test_damage_never_ends_the_process(progressive: int, capfd: pytest.CaptureFixture[str]) -> None:
    """Flip bytes anywhere: the file is refused, or read and written in silence."""
    data = encode(picture(60, 70, 1), "420", progressive=progressive)
    rng = np.random.default_rng(progressive)
    for number in range(300):
        if number % 15 == 0:
            # A file that the library gives up on closes its memory, and keeps a thread: open again, but not each time.
            library._Guard.closed = False
        broken = bytearray(data)
        for _ in range(rng.integers(1, 5)):
            broken[rng.integers(2, len(data))] = rng.integers(0, 256)
        try:
            blocks = JpegBlocks.read(bytes(broken))
        except UnsupportedJpeg:
            continue
        mask = np.zeros((blocks.height, blocks.width), bool)
        mask[0, 0] = True
        blocks.rewrite(np.zeros((*mask.shape, 3), np.uint8), blocks.reach(mask))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_of_a_window_give_the_bytes_that_those_of_the_picture_give(kind: str) -> None:
    data = encode(picture(157, 203, 5), kind)
    blocks = JpegBlocks.read(data)
    wanted = np.zeros((157, 203), bool)
    wanted[70:157, 41:90] = True
    reach = blocks.reach(wanted)
    pixels = picture(157, 203, 6)
    pixels = pixels[..., 0].copy() if kind == "grey" else pixels
    rows, cols = blocks.whole_blocks((slice(70, 157), slice(41, 90)))
    assert 38 <= rows.start <= 70 and rows.stop == 157 and 9 <= cols.start <= 41 and 90 <= cols.stop <= 122
    assert blocks.rewrite(pixels[rows, cols], reach, (rows, cols)) == blocks.rewrite(pixels, reach)
    with pytest.raises(ValueError, match="beside the window"):
        blocks.rewrite(pixels[rows.start + 32 :, cols], reach, (slice(rows.start + 32, 157), cols))
    with pytest.raises(ValueError, match="whole blocks"):
        blocks.rewrite(pixels[71:, 41:90], reach, (slice(71, 157), slice(41, 90)))


def test_wrong_arguments_are_refused() -> None:
    blocks = JpegBlocks.read(COLOUR)
    mask = np.zeros((40, 40), bool)
    with pytest.raises(ValueError, match="mask"):
        blocks.reach(mask[1:])
    with pytest.raises(ValueError, match="mask"):
        blocks.reach(mask, mask.astype(np.uint8))
    with pytest.raises(ValueError, match="pixels"):
        blocks.rewrite(np.zeros((40, 40), np.uint8), blocks.reach(mask))
    other = JpegBlocks.read(encode(picture(40, 60, 1), "420")).reach(np.zeros((40, 60), bool))
    with pytest.raises(ValueError, match="another file"):
        blocks.rewrite(np.zeros((40, 40, 3), np.uint8), other)


def test_jpeglib_keeps_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_usable", lambda: None)
    monkeypatch.setenv(VARIABLE, "off")
    # As if it were asked for the first time.
    coefficients._library.cache_clear()
    with jpeglib.version("6b"):
        blocks = JpegBlocks.read(COLOUR)
        blocks.rewrite(np.zeros((40, 40, 3), np.uint8), blocks.reach(np.ones((40, 40), bool)))
        assert coefficients._library.cache_info().misses == 1 and jpeglib.version.get() == "6b"


def test_without_memory_files_a_private_folder_is_used_and_removed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = JpegBlocks.read(COLOUR)
    reach = expected.reach(np.ones((40, 40), bool))
    pixels = picture(40, 40, 9)
    # Where the library can be called directly, no file is made at all.
    monkeypatch.setattr(library, "_usable", lambda: None)
    monkeypatch.setenv(VARIABLE, "off")
    monkeypatch.delattr("os.memfd_create", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen: list[tuple[Path, int]] = []
    write = Path.write_bytes

    def noted(path: Path, data: bytes) -> int:
        seen.append((path.parent.parent, path.parent.stat().st_mode & 0o777))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", noted)
    blocks = JpegBlocks.read(COLOUR)
    assert blocks.rewrite(pixels, reach) == JpegBlocks.read(COLOUR).rewrite(pixels, reach)
    assert np.array_equal(decode(blocks.rewrite(pixels, reach)), decode(expected.rewrite(pixels, reach)))
    assert set(seen) == {(tmp_path, 0o700)} and not list(tmp_path.iterdir())
