"""Files as cameras, scanners and studios write them: what is read, what is noted, and what is refused, and why."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import jpeglib
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms, PngImagePlugin

from p3mdata.anonymize.inputs import Inputs, load
from p3mdata.anonymize.masked import _jpeg_blocks
from p3mdata.base.jsonl import read_json, read_rows
from p3mdata.config import Execution, Job, Settings
from p3mdata.errors import BrokenInput
from p3mdata.faces.ensemble import FaceFinder
from p3mdata.imaging import decode, decode_matte, encode, encode_grey, orient
from p3mdata.imaging.listing import PassedOver, passed_over
from p3mdata.imaging.metadata import leftovers
from p3mdata.imaging.metadata.made_profile import made_grey_profile
from p3mdata.native.library import VARIABLE
from p3mdata.run.job import anonymize_job
from p3mdata.run.layout import LEDGER, MANIFEST, PASSED_OVER
from p3mdata.run.plan import make_plan
from p3mnet.evaluate import Task, evaluate_one
from tests.factories import astronaut, cut_out, encoded, matte, texture

RGB, MATTE = astronaut(256), matte(256)
GREY = np.asarray(Image.fromarray(RGB).convert("L"))
LINEAR = np.where(RGB / 255 <= 0.04045, RGB / 255 / 12.92, ((RGB / 255 + 0.055) / 1.055) ** 2.4)


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def with_chunk(png: bytes, kind: bytes, body: bytes) -> bytes:
    return png[:33] + struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) + png[33:]


def shown(picture: Any) -> NDArray[np.uint8]:
    """What a viewer with colour management shows, in sRGB."""
    image = Image.fromarray(picture.rgb8())
    if picture.icc is None:
        return np.asarray(image)
    profile = ImageCms.ImageCmsProfile(io.BytesIO(picture.icc))
    if picture.pixels.ndim == 2:
        image = image.convert("L")
    out = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    return np.asarray(out)


def refused(data: bytes) -> str:
    with pytest.raises(BrokenInput) as caught:
        decode(data)
    return caught.value.sentence


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.4])
@pytest.mark.parametrize("grey", [False, True])
def test_the_gamma_of_a_png_stays(gamma: float, grey: bool) -> None:
    linear = LINEAR[..., 1] if grey else LINEAR
    values = np.rint(linear ** (1 / gamma) * 255).astype(np.uint8)
    data = with_chunk(encoded(values, "PNG"), b"gAMA", struct.pack(">I", round(100_000 / gamma)))
    for picture in (decode(data), decode(encode(decode(data), "PNG")[0]), decode(encode(decode(data), "WEBP")[0])):
        plane = picture.pixels if picture.pixels.ndim == values.ndim else picture.pixels[..., 0]
        assert np.array_equal(plane, values) and picture.icc is not None
        right = GREY * 0 + RGB[..., 1] if grey else RGB
        gap = np.abs(shown(picture).astype(int) - (np.dstack([right] * 3) if grey else right))
        # Eight bits of linear light are coarse in the dark.
        assert gap.mean() < (3 if gamma == 1 else 1)


@pytest.mark.parametrize("gamma", [45455, 45000, 46000])
def test_a_gamma_that_stands_for_srgb_needs_no_profile(gamma: int) -> None:
    corners = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
    data = with_chunk(with_chunk(encoded(RGB, "PNG"), b"gAMA", struct.pack(">I", gamma)), b"cHRM", corners)
    assert decode(data).icc is None
    linear = with_chunk(encoded(RGB, "PNG"), b"gAMA", struct.pack(">I", 100_000))
    assert decode(with_chunk(linear, b"sRGB", b"\0")).icc is None


def test_codes_of_a_png_go_before_all_else() -> None:
    png = with_chunk(encoded(RGB, "PNG"), b"gAMA", struct.pack(">I", 100_000))
    assert decode(with_chunk(png, b"cICP", bytes((1, 13, 0, 1)))).icc is None
    wide = decode(with_chunk(png, b"cICP", bytes((12, 13, 0, 1))))
    p3 = shown(wide)
    # A red of P3 is beyond sRGB: it is shown as a stronger one than its values say.
    assert wide.icc is not None and np.array_equal(wide.pixels, RGB)
    assert p3[..., 0].astype(int).sum() > RGB[..., 0].astype(int).sum()
    for code, name in ((16, "PQ"), (18, "HLG")):
        assert f"HDR picture ({name})" in refused(with_chunk(png, b"cICP", bytes((9, code, 0, 1))))
    assert "coded as video" in refused(with_chunk(png, b"cICP", bytes((1, 13, 0, 0))))


def test_impossible_gamma_and_primaries_are_refused() -> None:
    assert "gamma" in refused(with_chunk(encoded(RGB, "PNG"), b"gAMA", struct.pack(">I", 1)))
    line = struct.pack(">8I", 31270, 32900, 60000, 30000, 30000, 30000, 15000, 30000)
    assert "primaries" in refused(with_chunk(encoded(RGB, "PNG"), b"cHRM", line))


@pytest.mark.parametrize("form", ["HEIF", "AVIF"])
def test_codes_of_heic_and_avif_stay(form: str) -> None:
    if form == "HEIF":
        pytest.importorskip("pillow_heif")
    sink = io.BytesIO()
    Image.fromarray(RGB).save(sink, form, quality=90)
    data = sink.getvalue()
    at = data.index(b"colrnclx") + 8
    assert decode(data).icc is None
    assert decode(data[:at] + struct.pack(">HH", 12, 13) + data[at + 4 :]).icc is not None
    assert "HDR picture (PQ)" in refused(data[:at] + struct.pack(">HH", 9, 16) + data[at + 4 :])
    assert f"{form} written as PNG" in decode(data).notes


@pytest.mark.parametrize("name", ["WEBP", "PNG"])
def test_a_profile_of_grey_in_a_file_of_colours_becomes_one_of_colours(name: str) -> None:
    icc = made_grey_profile((1.4,))
    picture = decode(encoded(GREY, "PNG", icc_profile=icc))
    if name == "PNG":
        wide, opacity = (plane.astype(np.uint16) * 257 for plane in (GREY, MATTE))
        picture = replace(picture, pixels=wide, opacity=opacity)
    before = shown(picture)
    out = decode(encode(picture, name)[0])
    assert out.icc is not None and out.icc[16:20] == b"RGB " and leftovers(encode(picture, name)[0]) == []
    assert np.abs(shown(out).astype(int) - before).max() <= 2


def test_orientation_counts_only_in_exif() -> None:
    names = ' xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"'
    inner = f'<rdf:RDF{names}><rdf:Description tiff:Orientation="6"/></rdf:RDF>'
    xmp = f'<x:xmpmeta xmlns:x="adobe:ns:meta/">{inner}</x:xmpmeta>'.encode()
    text = PngImagePlugin.PngInfo()
    raw = exif(6).tobytes()
    text.add_text("Raw profile type exif", f"\nexif\n{len(raw):8}\n{raw.hex()}\n")
    plain = [
        encoded(RGB, "JPEG", xmp=xmp),
        encoded(RGB, "WEBP", xmp=xmp, lossless=True),
        encoded(RGB, "PNG", pnginfo=text),
    ]
    assert [decode(data).orientation for data in plain] == [1, 1, 1]
    assert decode(encoded(RGB, "PNG", exif=exif(6))).orientation == 6


@pytest.mark.parametrize("orientation", [2, 3, 4, 5, 6, 7, 8])
def test_a_matte_turned_as_the_file_is_stored_is_turned_by_the_edges(orientation: int) -> None:
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    stored, stored_matte = orient(cut_out(256), inverse), orient(MATTE, inverse)
    photo = decode(encoded(stored, "JPEG", quality=95, exif=exif(orientation)))
    assert np.array_equal(decode_matte(encode_grey(stored_matte), photo, "alpha"), MATTE)
    assert np.array_equal(decode_matte(encode_grey(MATTE), photo, "alpha"), MATTE)
    # The orientation that a matte has itself is the one that counts.
    assert np.array_equal(decode_matte(encoded(stored_matte, "PNG", exif=exif(orientation)), photo, "alpha"), MATTE)


def test_a_matte_that_may_lie_either_way_is_not_guessed_at() -> None:
    photo = decode(encoded(texture(256, 256), "JPEG", exif=exif(3)))
    with pytest.raises(BrokenInput, match="may be turned") as caught:
        decode_matte(encode_grey(MATTE), photo, "alpha")
    assert caught.value.code == "alpha_turn_unclear"


def test_a_grey_matte_of_lossy_webp_is_one_channel() -> None:
    photo = decode(encoded(RGB, "PNG"))
    lossy = decode_matte(encoded(np.dstack([MATTE] * 3), "WEBP", quality=80), photo, "alpha")
    assert lossy.ndim == 2 and np.abs(lossy.astype(int) - MATTE).mean() < 3
    with pytest.raises(BrokenInput, match="in colour"):
        decode_matte(encoded(RGB, "PNG"), photo, "alpha")
    with pytest.raises(BrokenInput, match="transparency of the cut-out"):
        decode_matte(encoded(np.dstack([RGB, MATTE]), "PNG"), photo, "alpha")


@pytest.mark.parametrize("extra", ["unspecified", "unassalpha", None])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_extra_sample_is_treated_alike_at_both_depths(extra: str | None, dtype: Any) -> None:
    four = np.dstack([RGB, MATTE]).astype(dtype) * (257 if dtype == np.uint16 else 1)
    if extra is None:
        data = cv2.imencode(".tiff", four[..., [2, 1, 0, 3]])[1].tobytes()
        assert tifffile.TiffFile(io.BytesIO(data)).pages[0].tags.get(338) is None
    else:
        sink = io.BytesIO()
        tifffile.imwrite(sink, four, photometric="rgb", extrasamples=[extra], metadata=None)
        data = sink.getvalue()
    picture = decode(data)
    assert np.array_equal(picture.pixels, four[..., :3])
    if extra == "unspecified":
        assert picture.opacity is None and "a channel of no stated meaning left out" in picture.notes
    else:
        assert picture.opacity is not None and np.array_equal(picture.opacity, four[..., 3])


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((20, 30, 3), np.float32), "32-bit floating-point"),
        (np.zeros((20, 30), np.float32), "32-bit floating-point"),
        (np.zeros((20, 30, 5), np.uint8), "5 channels"),
        (np.zeros((20, 30, 6), np.uint16), "6 channels"),
        (np.zeros((20, 30), np.int16), "with a sign"),
        (np.zeros((20, 30), np.uint32), "32-bit values"),
    ],
)
def test_a_tiff_that_is_not_used_is_told_what_it_is(array: NDArray[Any], words: str) -> None:
    sink = io.BytesIO()
    tifffile.imwrite(sink, array, photometric="rgb" if array.ndim == 3 else "minisblack", metadata=None)
    assert words in refused(sink.getvalue())


def test_thumbnail_pages_of_a_tiff_are_left_out_and_pictures_are_not() -> None:
    for subfile, used in ((1, True), (0, False)):
        sink = io.BytesIO()
        with tifffile.TiffWriter(sink) as writer:
            writer.write(RGB, photometric="rgb", metadata=None)
            writer.write(RGB[::4, ::4], photometric="rgb", subfiletype=subfile, metadata=None)
        if used:
            picture = decode(sink.getvalue())
            assert np.array_equal(picture.pixels, RGB) and "a thumbnail page left out" in picture.notes
            assert leftovers(encode(picture, "TIFF")[0]) == []
        else:
            assert "2 pictures or pages" in refused(sink.getvalue())


def test_a_white_is_zero_matte_is_not_inverted() -> None:
    wide = MATTE.astype(np.uint16) * 257
    sink = io.BytesIO()
    tifffile.imwrite(sink, 65535 - wide, photometric="miniswhite", metadata=None)
    assert np.array_equal(decode_matte(sink.getvalue(), decode(encoded(RGB, "PNG")), "alpha"), wide)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_lacks_only_its_end_marker_is_used(progressive: bool) -> None:
    whole = encoded(RGB, "JPEG", quality=92, progressive=progressive)
    short = decode(whole[:-2])
    assert np.array_equal(short.pixels, decode(whole).pixels) and "missing end marker added" in short.notes
    blocks, note = _jpeg_blocks(load(Inputs(whole[:-2]), Settings()), Settings())
    assert blocks is not None and note is None
    for cut in (3, 40, 400, len(whole) // 2):
        assert "truncated" in refused(whole[:-cut])


@pytest.mark.parametrize("way", ["auto", "off"])
def test_a_rare_sampling_without_an_end_is_used_with_the_c_library_and_without(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, way)
    made = jpeglib.from_spatial(texture(40, 50))
    made.samp_factor = np.array([(2, 4), (1, 1), (1, 1)])
    made.write_spatial(str(tmp_path / "x.jpg"), qt=80)
    rare = (tmp_path / "x.jpg").read_bytes()
    for coefficients in (False, True):
        assert "missing end marker added" in decode(rare[:-2], coefficients=coefficients).notes
    assert "truncated" in refused(rare[:-40])


# 24x24 grey, arithmetic-coded, as libjpeg-turbo's `cjpeg -arithmetic` writes it.
ARITHMETIC = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNSMj5aYVpQYEpR"
    "Uk//yQALCAAYABgBAREA/8wABgAQEAX/2gAIAQEAAD8A0oyXCvNdUoHBpZ2uSvJGrDJ5Nrz/ALDsIOZ2kz5vWoyHFvgGyZFUtmeomla57hKnIsNkBncG"
    "IP/Z"
)


def test_a_jpeg_without_an_end_is_refused_where_its_coding_does_not_tell_that_nothing_is_lacking() -> None:
    """Decoders go on with zeros where arithmetic coding ends, and with coarse values where scans are lacking."""
    assert decode(ARITHMETIC).size == (24, 24)
    for cut in (2, 12, 30):
        assert "truncated" in refused(ARITHMETIC[:-cut])
    progressive = encoded(RGB, "JPEG", progressive=True)
    adobe = struct.pack(">HH5sHHHB", 0xFFEE, 14, b"Adobe", 100, 0, 0, 0)
    stored = progressive[:2] + adobe + progressive[20:]
    assert decode(stored[:-2]).size == decode(stored).size
    assert "truncated" in refused(stored[: stored.rindex(b"\xff\xda")])


def test_jfif_goes_before_the_marker_of_adobe() -> None:
    whole = encoded(RGB, "JPEG", quality=92)
    adobe = struct.pack(">HH5sHHHB", 0xFFEE, 14, b"Adobe", 100, 0, 0, 0)
    data = whole[:20] + adobe + whole[20:]
    assert np.array_equal(decode(data).pixels, decode(whole).pixels)
    loaded = load(Inputs(data), Settings())
    blocks, note = _jpeg_blocks(loaded, Settings())
    assert blocks is not None and note is None
    nothing = np.zeros((256, 256), bool)
    same = blocks.rewrite(loaded.picture.pixels, blocks.reach(nothing, None))
    assert np.array_equal(decode(same).pixels, loaded.picture.pixels)


def test_a_jpeg_of_12_bits_is_told_what_it_is() -> None:
    whole = encoded(RGB, "JPEG")
    at = whole.index(b"\xff\xc0") + 4
    assert "12 bits per sample" in refused(whole[:at] + b"\x0c" + whole[at + 1 :])


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_jpeg_2000_of_many_bits_is_read_at_full_depth(bits: int) -> None:
    top = (1 << bits) - 1
    wide = (np.arange(64 * 64).reshape(64, 64) * top // 4095).astype(np.uint16)
    # OpenCV writes 16 bits, as distances from the middle grey; the header says how many count, so where that lies.
    levels = wide + np.uint16((1 << 15) - (1 << bits - 1))
    data = cv2.imencode(".jp2", levels, [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])[1].tobytes()
    at = data.index(b"\xff\x4f\xff\x51") + 42
    assert data[at] == 15
    picture = decode(data[:at] + bytes((bits - 1,)) + data[at + 1 :])
    assert picture.pixels.dtype == np.uint16 and int(picture.pixels.max()) == 65535
    right = (wide.astype(int) * 65535 + top // 2) // top
    # One step of the file's own at most.
    assert np.abs(picture.pixels.astype(int) - right).max() <= 65535 // top + (bits < 16)
    assert (f"{bits} bits scaled to 16" in picture.notes) == (bits < 16)


def bitmap(told: int | None = None) -> bytes:
    """A bitmap of odd width, so that its rows are filled up, whose header tells another size of the file."""
    data = encoded(RGB[:, :-1], "BMP")
    return data if told is None else data[:2] + struct.pack("<I", told) + data[6:]


def turned_over(data: bytes) -> bytes:
    return data[:22] + struct.pack("<i", -struct.unpack_from("<i", data, 22)[0]) + data[26:]


LONELY = {
    "gif": encoded(GREY, "GIF"),
    "gif with a comment": encoded(GREY, "GIF", comment=b"x;" * 300),
    "bmp": bitmap(),
    "bmp, no size told": bitmap(0),
    "bmp, all of a longer file told": bitmap(1 << 30),
    "bmp, top row first": turned_over(bitmap()),
    "bmp, palette": encoded(GREY, "BMP"),
    "bmp, filled up": bitmap() + bytes(2),
    "ppm": encoded(RGB, "PPM"),
    "pgm": encoded(GREY, "PPM"),
    "ppm with comments": b"P6 # one\n# two\n256 256 #three\n255\n" + RGB.tobytes(),
    "ppm of 16 bits": b"P6\n256 256\n65535\n" + (RGB.astype(">u2") * 257).tobytes() + b"\n",
}


@pytest.mark.parametrize("kind", LONELY)
def test_what_hangs_on_behind_pictures_that_become_png_is_noted(kind: str) -> None:
    note, data = "data behind the picture left out", LONELY[kind]
    assert note not in decode(data).notes
    for more in (b"maker's bytes", data):
        picture = decode(data + more)
        assert note in picture.notes
        assert more not in encode(picture, "PNG")[0]


def test_other_pictures_in_a_file_are_noted() -> None:
    sink = io.BytesIO()
    Image.fromarray(RGB).save(sink, "MPO", save_all=True, append_images=[Image.fromarray(RGB[::2, ::2])])
    picture = decode(sink.getvalue())
    assert "a second picture or gain map left out" in picture.notes
    blocks, note = _jpeg_blocks(load(Inputs(sink.getvalue()), Settings()), Settings())
    assert blocks is not None and note is None


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_what_hangs_on_behind_a_picture_is_noted(form: str) -> None:
    """Films, maker's data, and whole pictures with an end of their own."""
    note, data = "data behind the picture left out", encoded(RGB, form)
    assert note not in decode(data).notes
    for more in (b"maker's bytes", encoded(RGB[::2, ::2], form)):
        picture = decode(data + more)
        assert note in picture.notes
        assert more not in encode(picture, form)[0]
    if form == "JPEG":
        # The thumbnail in EXIF has an end as well.
        thumbnail = b"Exif\0\0" + encoded(RGB[::8, ::8], form)
        within = data[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + data[2:]
        assert note not in decode(within).notes


def test_pictures_deeper_in_a_tiff() -> None:
    """Noted where the page is the picture; a page that is their thumbnail is not taken for it, as RAW files have it."""
    for subfile, used in ((0, True), (1, False)):
        sink = io.BytesIO()
        with tifffile.TiffWriter(sink) as writer:
            writer.write(RGB, photometric="rgb", subifds=1, subfiletype=subfile, metadata=None)
            writer.write(RGB[::2], photometric="rgb", metadata=None)
        if used:
            assert "pictures inside the page left out" in decode(sink.getvalue()).notes
        else:
            assert "shows a small copy" in refused(sink.getvalue())


@pytest.mark.parametrize("colours", [True, False])
@pytest.mark.parametrize("top", [255, 256, 1023, 65535])
def test_portable_maps_keep_their_depth(top: int, colours: bool) -> None:
    values = np.random.default_rng(top).integers(0, top + 1, (20, 30, 3) if colours else (20, 30))
    values.flat[:2] = 0, top
    header = b"P%d\n# 9 9 9\n30 20\n%d\n" % (6 if colours else 5, top)
    picture = decode(header + values.astype(np.uint8 if top < 256 else ">u2").tobytes())
    white = 255 if top < 256 else 65535
    assert np.array_equal(picture.pixels, (values * white + top // 2) // top)
    assert (f"values up to {top} scaled to 16 bits" in picture.notes) == (255 < top < 65535)


def test_portable_maps_keep_their_depth_whatever_zeros_lead_the_white_value() -> None:
    picture = decode(b"P6\n2 1\n001023\n" + np.array([0, 1, 2, 511, 512, 1023], ">u2").tobytes())
    assert picture.pixels.dtype == np.uint16 and picture.pixels[0, 1].tolist() == [32735, 32800, 65535]


def test_what_is_passed_over_is_counted_with_examples(tmp_path: Path) -> None:
    source = tmp_path / "src"
    (source / "sub").mkdir(parents=True)
    for name in ("a.jpg", "b.HIF", "c.jxl", "sub/d.jxl", "e.cr2", "f", "g.jpg_large", ".hidden", "Jane.Example"):
        (source / name).write_bytes(b"x")
    (source / "link").symlink_to(tmp_path)
    found = passed_over(source, recursive=True)
    assert {kind: number for kind, (number, _) in found.endings.items()} == {
        ".jxl": 2, ".cr2": 1, "no ending": 1, ".jpg_large": 1, "linked folder": 1, ".example": 1
    }  # fmt: skip
    sentence = found.sentence()
    assert "2 .jxl (such as c.jxl), 1 .cr2 (such as e.cr2)" in sentence and "Save RAW files" in sentence
    assert PassedOver.from_json(found.to_json()) == found
    assert found.public()["other endings"] == 1 and ".example" not in found.public()
    assert passed_over(source / "sub", recursive=False).endings == {".jxl": (1, "d.jxl")}
    make_plan(Job(source=source, out=tmp_path / "out"))
    assert read_json(tmp_path / "out" / PASSED_OVER) == found.to_json()


def test_notes_reach_ledger_manifest_and_report(tmp_path: Path, kept_models: FaceFinder) -> None:
    source = tmp_path / "src"
    source.mkdir()
    wide = RGB.astype(np.uint16) * 257
    (source / "a.png").write_bytes(cv2.imencode(".png", wide[..., ::-1])[1].tobytes())
    (source / "b.jpg").write_bytes(encoded(RGB, "JPEG", quality=92)[:-2])
    (source / "c.cr2").write_bytes(b"x")
    job = Job(source=source, out=tmp_path / "run", settings=Settings(format="webp"), execution=Execution(workers=1))
    assert anonymize_job(job).released == 2
    rows = {row["source"]: row for row in read_rows(job.out / LEDGER)}
    assert rows["a.png"]["notes"] == ["16 bits reduced to 8"]
    assert rows["b.jpg"]["notes"] == ["missing end marker added"]
    assert sorted(row["notes"][0] for row in read_rows(job.out / MANIFEST)) == sorted(
        note for row in rows.values() for note in row["notes"]
    )
    report = (job.out / "report.html").read_text()
    assert "16 bits reduced to 8" in report and "missing end marker added" in report and ".cr2" in report


@pytest.mark.parametrize("form", ["HEIF", "AVIF"])
def test_damaged_boxes_end_as_broken_or_as_a_picture(form: str) -> None:
    if form == "HEIF":
        pytest.importorskip("pillow_heif")
    sink = io.BytesIO()
    Image.fromarray(RGB[::4, ::4]).save(sink, form)
    data, rng = sink.getvalue(), np.random.default_rng(0)
    start = data.index(b"iprp")
    for _ in range(60):
        damaged = bytearray(data)
        damaged[start + int(rng.integers(120))] = int(rng.integers(256))
        try:
            assert decode(bytes(damaged)).pixels.size
        except BrokenInput as exc:
            assert exc.sentence


def test_predictions_of_0_and_1_are_not_evaluated(tmp_path: Path) -> None:
    alpha, pred = tmp_path / "alpha.png", tmp_path / "pred.png"
    alpha.write_bytes(encode_grey(MATTE))
    for values, right in (((MATTE > 127).astype(np.uint8), False), (MATTE.astype(np.uint16), False), (MATTE, True)):
        pred.write_bytes(encode_grey(values))
        row = evaluate_one(Task("P", "a", pred, alpha, None, None), corrected=False)
        assert bool(row.values) is right and (right or "largest value is" in str(row.problem))
