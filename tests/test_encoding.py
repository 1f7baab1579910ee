"""Pictures out: formats, depth, profiles, quality, the views for detection, mattes, and files that appear whole."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from p3mdata.base import system
from p3mdata.base.files import RELEASED_AT, sha256, write_atomic, write_released_together
from p3mdata.errors import BrokenInput
from p3mdata.imaging import Picture, decode, decode_matte, encode, encode_grey, extension, orient, target_format
from p3mdata.imaging.metadata import leftovers
from p3mdata.imaging.metadata.profile import rebuilt
from tests.factories import encoded
from tests.test_images import ALPHA, GREY, JPEG, RGB, SIXTEEN, SRGB, Pixels, exif, saved, several, tiff

PICTURES = {
    "grey": Picture(GREY, None, "PNG", None, 1),
    "rgb": Picture(RGB, None, "PNG", None, 1),
    "rgba": Picture(RGB, ALPHA, "PNG", None, 1),
    "grey+alpha": Picture(GREY, ALPHA, "PNG", None, 1),
    "16 bit grey": Picture(SIXTEEN[..., 0].copy(), None, "PNG", None, 1),
    "16 bit rgb": Picture(SIXTEEN[..., :3].copy(), None, "PNG", None, 1),
    "16 bit rgba": Picture(SIXTEEN[..., :3].copy(), SIXTEEN[..., 3].copy(), "PNG", None, 1),
    "16 bit grey+alpha": Picture(SIXTEEN[..., 0].copy(), SIXTEEN[..., 1].copy(), "PNG", None, 1),
}


def as_colour(pixels: Pixels) -> Pixels:
    return pixels if pixels.ndim == 3 else pixels[:, :, None].repeat(3, axis=2)


LOSSLESS = [(name, kind) for name in ("PNG", "WEBP", "TIFF") for kind in PICTURES]
# No such picture comes out of a TIFF.
LOSSLESS.remove(("TIFF", "16 bit grey+alpha"))


@pytest.mark.parametrize(("name", "kind"), LOSSLESS)
def test_lossless_formats_give_back_what_was_written(name: str, kind: str) -> None:
    picture = PICTURES[kind]
    data, how = encode(picture, name)
    back = decode(data)
    shift = 8 if name == "WEBP" and picture.pixels.dtype == np.uint16 else 0
    assert np.array_equal(as_colour(back.pixels), as_colour(picture.pixels >> shift))
    if picture.opacity is None:
        assert back.opacity is None
    else:
        assert np.array_equal(back.opacity, picture.opacity >> shift)
    assert back.format == name and back.notes == ()
    assert leftovers(data) == []
    assert how.startswith(name.lower())


@pytest.mark.parametrize("array", [GREY, SIXTEEN[..., 0]], ids=["8 bit", "16 bit"])
def test_encode_grey_is_lossless_and_clean(array: Pixels) -> None:
    data = encode_grey(np.ascontiguousarray(array))
    assert np.array_equal(decode(data).pixels, array) and leftovers(data) == []


def test_fully_transparent_pixels_keep_their_colour() -> None:
    hidden = Picture(RGB, np.zeros_like(ALPHA), "WEBP", None, 1)
    for name in ("PNG", "WEBP", "TIFF"):
        assert np.array_equal(decode(encode(hidden, name)[0]).pixels, RGB)
    assert np.array_equal(hidden.rgb8(), RGB)
    assert (hidden.over_grey() == 127).all()


def other_profile() -> bytes:
    """sRGB with red and blue exchanged: every colour but grey is shown as another one."""
    profile = bytearray(SRGB)
    tags = {profile[at : at + 4].hex(): at for at in range(132, 132 + 12 * int.from_bytes(profile[128:132], "big"), 12)}
    red, blue = tags[b"rXYZ".hex()], tags[b"bXYZ".hex()]
    profile[red + 4 : red + 12], profile[blue + 4 : blue + 12] = (
        profile[blue + 4 : blue + 12],
        profile[red + 4 : red + 12],
    )
    return bytes(profile)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_profile_stays_where_the_colours_need_it(name: str) -> None:
    assert decode(encoded(RGB, name, icc_profile=SRGB)).icc is None
    picture = decode(encoded(RGB, name, icc_profile=other_profile()))
    needed = rebuilt(other_profile())
    data, _ = encode(picture, name)
    assert decode(data).icc == needed
    assert leftovers(data) == []
    with Image.open(io.BytesIO(data)) as image:
        assert image.info["icc_profile"] == needed


def test_a_16_bit_tiff_keeps_depth_and_profile_as_a_png() -> None:
    picture = decode(tiff(SIXTEEN[..., :3], photometric="rgb", iccprofile=other_profile()))
    assert picture.format == "PNG" and "profile" in picture.notes[-1]
    back = decode(encode(picture, picture.format)[0])
    assert np.array_equal(back.pixels, SIXTEEN[..., :3]) and back.icc == rebuilt(other_profile())


def test_dirty_files_come_out_clean() -> None:
    tags = exif(6)
    tags[0x010F] = "a camera"
    tags.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0)})
    dirt = {"exif": tags, "comment": b"by me", "xmp": b"<x:xmpmeta/>"}
    for name in ("JPEG", "PNG", "WEBP", "TIFF"):
        data = encoded(RGB, name, **{k: v for k, v in dirt.items() if name != "TIFF" or k == "exif"})
        assert leftovers(data)
        assert leftovers(encode(decode(data), name)[0]) == []


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("sampling", [0, 1, 2])
def test_reencoded_jpeg_keeps_the_tables_of_its_source(sampling: int, orientation: int) -> None:
    data = encoded(RGB, "JPEG", quality=61, subsampling=sampling, exif=exif(orientation))
    again, how = encode(decode(data), "JPEG")
    assert "source tables" in how
    before, after = decode(data).tables, decode(again).tables
    turn = (lambda table: np.reshape(table, (8, 8)).T.ravel().tolist()) if orientation > 4 else list
    assert {k: turn(v) for k, v in before[0].items()} == after[0]
    if orientation == 1 or sampling != 1:
        assert after[1] == sampling


def test_tables_numbered_with_gaps_can_be_written() -> None:
    picture = decode(encoded(GREY, "JPEG", quality=61))
    assert picture.tables is not None
    table = picture.tables[0][0]
    data, _ = encode(replace(picture, tables=({1: table}, -1)), "JPEG")
    assert decode(data).tables[0] == {0: table}


def test_jpeg_quality_and_its_absence() -> None:
    picture = PICTURES["rgb"]
    sizes = [len(encode(picture, "JPEG", quality)[0]) for quality in (30, 80, None)]
    assert sizes == sorted(sizes) and "quality 95" in encode(picture, "JPEG")[1]


def test_what_a_format_cannot_hold_is_refused() -> None:
    with pytest.raises(BrokenInput, match="transparent"):
        encode(PICTURES["rgba"], "JPEG")
    wide = Picture(np.zeros((1, 16384, 3), np.uint8), None, "PNG", None, 1)
    with pytest.raises(BrokenInput, match="16383"):
        encode(wide, "WEBP")


@pytest.mark.parametrize(("wanted", "name"), [("keep", "TIFF"), ("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP")])
def test_target_format(wanted: str, name: str) -> None:
    assert target_format(replace(PICTURES["rgb"], format="TIFF"), wanted) == name
    assert extension(name) == {"TIFF": "tif", "JPEG": "jpg"}.get(name, name.lower())


def test_the_views_for_detection() -> None:
    assert np.array_equal(PICTURES["16 bit rgb"].rgb8(), SIXTEEN[..., :3] // 256)
    assert np.array_equal(PICTURES["grey"].rgb8(), as_colour(GREY))
    opaque = replace(PICTURES["rgba"], opacity=np.full_like(ALPHA, 255))
    assert np.array_equal(opaque.over_grey(), RGB)
    assert PICTURES["rgb"].over_grey() is None


PHOTO = decode(JPEG)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encoded(GREY, "PNG"), GREY),
        (encoded(as_colour(GREY), "PNG"), GREY),
        (encoded(np.dstack([as_colour(GREY), np.full_like(GREY, 255)]), "PNG"), GREY),
        (encoded(np.dstack([GREY, np.full_like(GREY, 255)]), "PNG"), GREY),
        (encode_grey(SIXTEEN[..., 0].copy()), SIXTEEN[..., 0]),
        (saved(Image.fromarray(GREY).convert("P"), "PNG"), GREY),
        (encoded(GREY, "TIFF"), GREY),
        (saved(Image.fromarray(GREY > 127), "PNG"), (GREY > 127) * np.uint8(255)),
    ],
    ids=["grey", "rgb", "rgba", "la", "16 bit", "grey palette", "tiff", "1 bit"],
)
def test_matte_of_one_channel(data: bytes, expected: Pixels) -> None:
    matte = decode_matte(data, PHOTO, "alpha")
    assert matte.dtype == expected.dtype and np.array_equal(matte, expected)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (encoded(RGB, "PNG"), "alpha_has_colours"),
        (encoded(np.dstack([as_colour(GREY), ALPHA]), "PNG"), "alpha_is_transparent"),
        (encoded(GREY[1:], "PNG"), "alpha_other_size"),
        (encoded(np.ascontiguousarray(GREY.T), "PNG"), "alpha_other_size"),
        (b"", "alpha_empty_file"),
        (encoded(GREY, "PNG")[:-100], "alpha_cannot_decode"),
        (several("TIFF"), "alpha_several_pictures"),
    ],
)
def test_unusable_mattes_say_whose_fault_it_is(data: bytes, code: str) -> None:
    with pytest.raises(BrokenInput, match="alpha") as caught:
        decode_matte(data, PHOTO, "alpha")
    assert caught.value.code == code


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("name", ["JPEG", "TIFF"])
def test_a_matte_of_the_stored_size_is_turned_like_its_photo(name: str, orientation: int) -> None:
    photo = decode(encoded(RGB, name, exif=exif(orientation)))
    upright = orient(GREY, orientation)
    for matte in (encoded(GREY, "PNG"), encoded(upright, "PNG"), encoded(GREY, "PNG", exif=exif(orientation))):
        assert np.array_equal(decode_matte(matte, photo, "alpha"), upright)


def test_write_atomic_writes_replaces_and_makes_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.png"
    for content in (b"first", b"second, longer"):
        write_atomic(path, content)
        assert path.read_bytes() == content
    write_atomic(path, b"private", mode=0o600)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["c.png"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_write_atomic_leaves_no_trace_when_it_fails(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(b"old")

    def fail(*args: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["x.png"]


@pytest.mark.parametrize("step", ["fsync", "replace", "set_time"])
def test_files_written_together_leave_no_trace_when_they_fail(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [(tmp_path / "a" / "x.png", b"new"), (tmp_path / "b" / "y.jpg", b"newer")]
    write_released_together([(path, b"old") for path, _ in files])
    place = system if step == "set_time" else os
    really, calls = getattr(place, step), []

    def fail_second(*args: Any) -> None:
        calls.append(args)
        if len(calls) == (1 if step == "replace" else 2):
            raise OSError("disk full")
        really(*args)

    with monkeypatch.context() as patched:
        patched.setattr(place, step, fail_second)
        with pytest.raises(OSError, match="disk full"):
            write_released_together(files)
    assert [path.read_bytes() for path, _ in files] == [b"old", b"old"]
    write_released_together(files)
    assert [path.read_bytes() for path, _ in files] == [b"new", b"newer"]
    assert {path.stat().st_mtime for path, _ in files} == {RELEASED_AT}
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "x.png", "y.jpg"]


def test_sha256_is_the_usual_one() -> None:
    assert sha256(b"abc").startswith("ba7816bf8f01cfea")
