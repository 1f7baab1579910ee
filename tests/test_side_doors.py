"""No face by a side door: what else than the colours of a file can show one."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from p3mdata.anonymize.hand import drawn_area
from p3mdata.anonymize.inputs import Inputs
from p3mdata.anonymize.masks import bare_parts, patch_of
from p3mdata.anonymize.opacity import is_picture, shows_face, shows_picture
from p3mdata.anonymize.pipeline import Anonymized, anonymize
from p3mdata.anonymize.proofs import redetect
from p3mdata.config import Settings
from p3mdata.faces.detectors import Box
from p3mdata.faces.ensemble import FaceFinder
from p3mdata.faces.turned import turned_back
from p3mdata.imaging import Picture, decode, encode_grey
from p3mdata.imaging.draw import fit
from p3mdata.imaging.metadata import walk
from p3mdata.records import Outcome, Sample
from tests.factories import astronaut, astronaut_face, encoded, matte, texture

RGB, MATTE = astronaut(), matte()
GREY = np.asarray(Image.fromarray(RGB).convert("L"))
# In a scanner's fourth channel, and as faint as a picture can be and still be seen.
INFRARED, FAINT = GREY, (192 + GREY // 4).astype(np.uint8)
RGBI = np.dstack([RGB, INFRARED])


def run(models: FaceFinder, photo: bytes, alpha: Any = None, hand: Any = None, **settings: Any) -> Anonymized:
    alpha, hand = (None if array is None else encode_grey(array) for array in (alpha, hand))
    sample = Sample(0, "0123456789ab", "a.png", "0" * 64)
    return anonymize(sample, Inputs(photo, alpha=alpha, mask=hand), Settings(**settings), models)


def deep(array: NDArray[np.uint8], suffix: str) -> bytes:
    wide = array.astype(np.uint16) * 257
    order = [2, 1, 0, 3] if array.ndim == 3 else ...
    return cv2.imencode(suffix, wide[..., order])[1].tobytes()


FOUR_CHANNELS = {
    "png": encoded(RGBI, "PNG"),
    "png faint": encoded(np.dstack([RGB, FAINT]), "PNG"),
    "png grey": encoded(np.dstack([GREY, INFRARED]), "PNG"),
    "png 16 bit": deep(RGBI, ".png"),
    "webp": encoded(RGBI, "WEBP", lossless=True, exact=True),
    "tiff": encoded(RGBI, "TIFF"),
    "tiff 16 bit": deep(RGBI, ".tiff"),
}


def detail(plane: NDArray[Any], inside: NDArray[np.bool_]) -> float:
    """Standard deviation of what is finer than 12 px inside a mask."""
    values = plane.astype(np.float32)
    inner = cv2.erode(inside.astype(np.uint8), np.ones((25, 25), np.uint8)) > 0
    assert inner.sum() > 500
    return float((values - cv2.GaussianBlur(values, (0, 0), 12))[inner].std())


@pytest.mark.parametrize(("name", "method"), [*((name, "blur") for name in FOUR_CHANNELS), ("png", "zero")])
def test_a_picture_in_the_fourth_channel_is_obfuscated(name: str, method: str, models: FaceFinder) -> None:
    before = decode(FOUR_CHANNELS[name])
    done = run(models, FOUR_CHANNELS[name], method=method)
    assert done.result.outcome is Outcome.ANONYMIZED and "opacity obfuscated" in str(done.result.encoding)
    after, facemask = (decode(done.files[kind][1]) for kind in ("images", "facemasks"))
    inside = facemask.pixels > 0
    assert before.opacity is not None and after.opacity is not None and after.opacity.dtype == before.opacity.dtype
    assert np.array_equal(after.opacity[~inside], before.opacity[~inside])
    assert detail(after.opacity, inside) < 0.2 * detail(before.opacity, inside)
    if method == "zero":
        assert (after.opacity[inside] == 255).all()


def test_a_mosaic_of_the_fourth_channel_has_the_cells_of_the_colours(models: FaceFinder) -> None:
    done = run(models, FOUR_CHANNELS["png"], method="mosaic")
    after, facemask = (decode(done.files[kind][1]) for kind in ("images", "facemasks"))
    assert after.opacity is not None and len(np.unique(after.opacity[facemask.pixels > 0])) < 60


def test_brightness_is_told_alike_in_both_ways() -> None:
    for seed, top in enumerate((3, 17, 200, 256)):
        pixels = np.random.default_rng(seed).integers(0, top, (300, 400, 3), np.uint8)
        tall = Picture(pixels.astype(np.uint16), None, "PNG", None, 1)
        assert Picture(pixels, None, "PNG", None, 1)._bright == pytest.approx(tall._bright * 65535 / 255)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_outline_of_a_cut_out_stays(dtype: Any, models: FaceFinder) -> None:
    cut = np.dstack([RGB, MATTE])
    photo = encoded(cut, "PNG") if dtype == np.uint8 else deep(cut, ".png")
    done = run(models, photo)
    assert done.result.outcome is Outcome.ANONYMIZED and "opacity" not in str(done.result.encoding)
    assert np.array_equal(decode(done.files["images"][1]).opacity, decode(photo).opacity)


def test_a_fourth_channel_that_was_left_alone_is_found_by_the_proofs(
    models: FaceFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p3mdata.anonymize.pipeline.hide_opacity", lambda *args: False)
    done = run(models, FOUR_CHANNELS["png"])
    assert (done.result.outcome, done.result.reason, done.files) == (Outcome.NEEDS_REVIEW, "not_obfuscated", {})


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_colour_channel_that_was_left_alone_is_found_by_the_proofs(
    channel: int, models: FaceFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from p3mdata.anonymize.obfuscate import obfuscate

    def careless(pixels: NDArray[Any], *args: Any) -> None:
        kept = pixels[..., channel].copy()
        obfuscate(pixels, *args)
        pixels[..., channel] = kept

    monkeypatch.setattr("p3mdata.anonymize.recompose.obfuscate", careless)
    assert run(models, encoded(RGB, "PNG")).result.reason == "not_obfuscated"


def test_a_channel_that_is_black_everywhere_is_no_fault(models: FaceFinder) -> None:
    yellow = RGB.copy()
    yellow[..., 2] = 0
    assert run(models, encoded(yellow, "PNG")).result.outcome is Outcome.ANONYMIZED


def test_a_face_that_only_the_fourth_channel_shows_is_found(models: FaceFinder) -> None:
    plain = texture(512, 512)
    done = run(models, encoded(np.dstack([plain, INFRARED]), "PNG"))
    assert done.result.outcome is not Outcome.NO_FACE_CONFIRMED and len(done.result.faces) == 1
    assert run(models, encoded(np.dstack([plain, INFRARED]), "PNG"), trust_no_face=True).result.faces


def test_the_fourth_channel_is_looked_at_again(models: FaceFinder) -> None:
    nothing = np.zeros(MATTE.shape, bool)

    def missed(opacity: NDArray[np.uint8]) -> int:
        picture = Picture(texture(512, 512), opacity, "PNG", None, 1)
        return redetect(picture, picture, nothing, models)[1]

    assert missed(INFRARED) == 1 and missed(MATTE) == 0


def test_an_outline_and_a_picture_are_told_apart() -> None:
    face = astronaut_face()
    region = patch_of(np.pad(np.ones((90, 70), bool), ((60, 362), (190, 252))))
    for plane in (MATTE, MATTE.astype(np.uint16) * 257, np.full_like(MATTE, 255), np.zeros_like(MATTE)):
        assert not shows_picture(plane, region, face.width) and not is_picture(plane)
    for plane in (INFRARED, FAINT, INFRARED.astype(np.uint16) * 257):
        assert shows_picture(plane, region, face.width) and is_picture(plane)
    # Black and white alone can show a face as well.
    assert shows_picture(np.where(GREY > 150, 255, 0).astype(np.uint8), region, face.width)


def test_a_matte_that_is_a_picture_is_not_published(models: FaceFinder) -> None:
    hand = np.zeros_like(MATTE)
    hand[60:200, 170:300] = 255
    for settings in ({}, {"trust_no_face": True}):
        done = run(models, encoded(RGB, "JPEG"), alpha=GREY, hand=hand if not settings else None, **settings)
        assert (done.result.outcome, done.result.reason, done.files) == (Outcome.NEEDS_REVIEW, "matte_is_picture", {})


def _with_a_face(levels: int, deep: bool = False) -> NDArray[Any]:
    """The portrait's matte; around the face its inside has that many levels from full downwards, by brightness."""
    top = 65535 if deep else 255
    plane = MATTE.astype(np.int64) * (top // 255)
    near = np.zeros(MATTE.shape, bool)
    near[50:210, 170:300] = True
    shown = top - (levels - 1) + GREY.astype(np.int64) * levels // 256
    return np.where(near & (MATTE == 255), shown, plane).astype(np.uint16 if deep else np.uint8)


@pytest.mark.parametrize(("levels", "deep"), [(2, False), (4, False), (16, False), (100, False), (16, True)])
def test_a_matte_that_shows_the_face_in_faint_levels_is_not_published(
    levels: int, deep: bool, models: FaceFinder
) -> None:
    """Nobody sees 254 beside 255, until it is stretched; elsewhere such a matte is an outline like any other."""
    alpha = _with_a_face(levels, deep)
    assert not is_picture(alpha) and shows_face(alpha, astronaut_face().box)
    assert not shows_face(MATTE, astronaut_face().box)
    hand = np.zeros_like(MATTE)
    hand[60:200, 170:300] = 255
    for mask in (None, hand):
        done = run(models, encoded(RGB, "JPEG"), alpha=alpha, hand=mask)
        assert (done.result.outcome, done.result.reason, done.files) == (Outcome.NEEDS_REVIEW, "matte_is_picture", {})


def test_a_matte_of_other_levels_shows_no_face() -> None:
    """Opaque at 254 everywhere, a soft edge through the face, nothing at all, and a box beyond the border."""
    box = astronaut_face().box
    soft = np.tile(np.clip((np.arange(512) - 220) * 16, 0, 255), (512, 1)).astype(np.uint8)
    for alpha in (np.minimum(MATTE, 254), soft, np.zeros_like(MATTE)):
        assert not shows_face(alpha, box)
    assert not shows_face(MATTE, (600.0, 600.0, 700.0, 700.0))


@pytest.mark.parametrize("value", [3, 200])
def test_a_translucent_picture_is_told_what_is_wrong_with_it(value: int, models: FaceFinder) -> None:
    photo = encoded(np.dstack([RGB, np.full(RGB.shape[:2], value, np.uint8)]), "PNG")
    done = run(models, photo)
    assert (done.result.outcome, done.result.reason, done.files) == (Outcome.NEEDS_REVIEW, "not_obfuscated", {})
    assert f"its opacity is {value} of 255 all over the mask" in (done.result.detail or "")
    assert "Save the picture opaque" in (done.result.detail or "")
    # As told.
    assert run(models, encoded(RGB, "PNG")).result.outcome is Outcome.ANONYMIZED


def test_a_palette_leaves_no_unused_colours(models: FaceFinder) -> None:
    small = Image.fromarray(RGB).quantize(200)
    palette = bytes(small.getpalette() or b"")[:600] + bytes(range(168))
    small.putpalette(palette)
    sink = io.BytesIO()
    small.save(sink, "PNG")
    done = run(models, sink.getvalue())
    assert done.result.outcome is Outcome.ANONYMIZED
    assert "PLTE" not in {part.name for part in walk(done.files["images"][1])}


def two_areas(first: int, second: int, dtype: Any = np.uint8) -> NDArray[Any]:
    mask = np.zeros(MATTE.shape, dtype)
    mask[60:200, 170:300], mask[400:470, 50:120] = first, second
    return mask


@pytest.mark.parametrize(
    "mask",
    [
        two_areas(255, 1),
        two_areas(255, 127),
        two_areas(200, 100),
        two_areas(1, 2),
        two_areas(65535, 255, np.uint16),
        two_areas(255, 254, np.uint16),
    ],
    ids=["255 and 1", "255 and 127", "greys", "labels", "16 bit", "8 bits in 16"],
)
def test_every_area_of_a_hand_drawn_mask_counts(mask: NDArray[Any], models: FaceFinder) -> None:
    assert np.array_equal(drawn_area(mask), mask > 0)
    done = run(models, encoded(RGB, "PNG"), hand=mask)
    assert done.result.outcome is Outcome.MASKED_BY_HAND
    assert np.array_equal(decode(done.files["facemasks"][1]).pixels > 0, mask > 0)


def test_the_smoothed_edge_of_a_hand_drawn_mask_is_no_area() -> None:
    mask = np.zeros((400, 600), np.uint8)
    cv2.circle(mask, (300, 200), 80, 255, -1, cv2.LINE_AA)
    smooth = cv2.GaussianBlur(mask, (5, 5), 0)
    assert np.array_equal(drawn_area(mask), mask > 127) and np.array_equal(drawn_area(smooth), smooth > 127)
    lossy = decode(encoded(mask, "JPEG", quality=80)).pixels
    assert len(np.unique(lossy)) > 20 and np.array_equal(drawn_area(lossy), lossy > 127)
    # What is drawn softly counts as far as it reaches.
    soft = cv2.GaussianBlur(mask, (0, 0), 30)
    assert np.array_equal(drawn_area(soft), soft > 0)


def test_a_mask_of_all_but_the_face_is_a_doubt(models: FaceFinder) -> None:
    around = np.full(MATTE.shape, 255, np.uint8)
    around[60:200, 170:300] = 0
    # Nobody finds this face, which is why a mask was drawn.
    photo = encoded(texture(512, 512), "PNG")
    sink = io.BytesIO()
    Image.fromarray(around > 0).save(sink, "TIFF")
    done = anonymize(
        Sample(0, "0123456789ab", "a.png", "0" * 64), Inputs(photo, mask=sink.getvalue()), Settings(), models
    )
    assert (done.result.outcome, done.result.reason) == (Outcome.NEEDS_REVIEW, "hand_mask_covers_most")
    assert "covers 93%" in str(done.result.detail)
    assert run(models, photo, hand=255 - around).result.outcome is Outcome.MASKED_BY_HAND


@pytest.mark.parametrize("bits", [8, 9, 10, 12, 13, 14])
def test_a_face_in_the_low_bits_of_16_is_found(bits: int, models: FaceFinder) -> None:
    low = (RGB.astype(np.uint32) * ((1 << bits) - 1) // 255).astype(np.uint16)
    photo = cv2.imencode(".png", low[..., ::-1])[1].tobytes()
    done = run(models, photo, trust_no_face=True)
    assert done.result.outcome is Outcome.ANONYMIZED and len(done.result.faces) == 1
    after, facemask = (decode(done.files[kind][1]) for kind in ("images", "facemasks"))
    assert np.array_equal(after.pixels[facemask.pixels == 0], low[facemask.pixels == 0])
    assert bare_parts(astronaut_face(), facemask.pixels > 0) == []


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_no_flag_releases_a_picture_that_is_nearly_black(dtype: Any, models: FaceFinder) -> None:
    plain = (texture(300, 420) // (16 if dtype == np.uint8 else 1)).astype(dtype)
    plain[:10, :10] = np.iinfo(dtype).max
    photo = encoded(plain, "PNG") if dtype == np.uint8 else cv2.imencode(".png", plain)[1].tobytes()
    done = run(models, photo, trust_no_face=True)
    assert (done.result.outcome, done.result.reason, done.files) == (Outcome.NEEDS_REVIEW, "nearly_black", {})


def test_a_viewer_sees_stretched_levels_and_values_stay() -> None:
    low = RGB.astype(np.uint16)
    picture = decode(cv2.imencode(".png", low[..., ::-1])[1].tobytes())
    assert picture.nearly_black and not picture.rgb8().any() and np.array_equal(picture.pixels, low)
    assert np.abs(picture.seen8().astype(int) - RGB).max() < 12
    assert np.abs(fit(picture, 512, 512).astype(int) - RGB).max() < 12
    usual = decode(encoded(RGB, "PNG"))
    assert not usual.nearly_black and np.array_equal(usual.seen8(), usual.rgb8())


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turned_face_beside_an_upright_one_is_covered(quarters: int, models: FaceFinder) -> None:
    pair = np.hstack([RGB, np.ascontiguousarray(np.rot90(RGB, quarters))])
    done = run(models, encoded(pair, "PNG"))
    assert done.result.outcome is Outcome.ANONYMIZED and len(done.result.faces) == 2
    facemask = decode(done.files["facemasks"][1]).pixels > 0
    for half, turned in ((facemask[:, :512], 0), (np.rot90(facemask[:, 512:], -quarters), quarters)):
        # Of a box without landmarks the corners of the face are hidden as well; eyes, nose and mouth always.
        assert bare_parts(astronaut_face(), np.ascontiguousarray(half)) == [], turned


def test_boxes_and_points_are_turned_back() -> None:
    """A white square with a mark of its corners, found in the turned picture, lies where it was."""
    picture = np.zeros((90, 130, 3), np.uint8)
    picture[20:40, 70:110] = 255
    for quarters in (1, 2, 3):
        rows, cols = np.nonzero(np.rot90(picture, quarters)[..., 0])
        five = np.array([[cols.min(), rows.min()]] * 5, np.float32)
        found = Box((cols.min(), rows.min(), cols.max() + 1, rows.max() + 1), 0.9, five, "libfacedetection")
        back = turned_back(found, quarters, (90, 130))
        assert back.xyxy == (70, 20, 110, 40) and back.points is not None
        assert tuple(back.points[0]) in {(70, 20), (110, 20), (110, 40), (70, 40)}
