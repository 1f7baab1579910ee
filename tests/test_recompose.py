"""Recomposition: the face's layer is gone up to the silhouette, the matte and the other layer are as they were."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.mattes import Shot, coverage, detail_left, layer_shares
from p3mdata.anonymize import recompose
from p3mdata.anonymize.areas import _holds, mask
from p3mdata.anonymize.doubts import coverage_doubts
from p3mdata.anonymize.inputs import Inputs, load
from p3mdata.anonymize.masked import Masked
from p3mdata.anonymize.masks import Patch, Region, bare_parts, patch_of
from p3mdata.anonymize.noise import Noise
from p3mdata.anonymize.pipeline import anonymize, as_made, promised, render
from p3mdata.anonymize.proofs import _composite, proof_doubts, prove
from p3mdata.anonymize.recompose import hide
from p3mdata.config import TOLERANCE, Method, Settings
from p3mdata.errors import SettingsError
from p3mdata.faces.ensemble import Detection, FaceFinder, _doubts
from p3mdata.faces.landmarks import PARTS
from p3mdata.imaging import decode, encode_grey
from p3mdata.imaging.facemask import RECOMPOSED, REPLACED, facemask_of, is_facemask, replaced
from p3mdata.imaging.trimap import UNKNOWN, kernel_side, transition_area, trimap_of
from p3mdata.records import Action, Decision, Face, ImageResult, Outcome, Sample
from tests.factories import astronaut, astronaut_face, encoded, face_at, matte, texture

Pixels = NDArray[Any]
SIDE = 160
MATTE = matte()
PHOTO = astronaut()
FACE = astronaut_face()
SAMPLE = Sample(0, "0123456789ab", "a.png", "0" * 64)
# A band so wide that the paper's rule leaves nothing of the face covered.
WIDE = 0.2


@pytest.fixture(scope="module")
def finder() -> Iterator[FaceFinder]:
    with FaceFinder() as made:
        yield made


def scene(dtype: Any = np.uint8) -> tuple[Pixels, Pixels, Pixels, Pixels]:
    """Picture, matte, foreground with fine stripes ('features'), smooth background: an exact composite."""
    top = np.iinfo(dtype).max
    x, y = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    alpha = np.clip((100 - x + 6 * np.sin(y / 9)) / 12, 0, 1)
    front = np.stack([0.6 + 0.25 * np.sin(x / 2) * np.sin(y / 3), 0.45 + 0 * x, 0.35 + 0 * x], 2)
    back = np.stack([0.1 + 0 * x, 0.2 + 0.2 * y / SIDE, 0.7 + 0 * x], 2)
    image = alpha[..., None] * front + (1 - alpha[..., None]) * back
    pixels = np.rint(image * top).astype(dtype)
    return pixels, np.rint(alpha * top).astype(dtype), front * top, back * top


def region_of(share: Pixels) -> Region:
    area = np.zeros(share.shape, bool)
    area[30:130, 50:125] = True
    return Region(patch_of(area & (share > 0)), 80.0, share)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("method", Method)
@pytest.mark.parametrize("behind", [False, True])
def test_only_the_layer_changes_and_by_no_more_than_its_share(method: Method, dtype: Any, behind: bool) -> None:
    pixels, alpha, *_ = scene(dtype)
    top = int(np.iinfo(dtype).max)
    share = top - alpha if behind else alpha
    region = region_of(share)
    out = hide(pixels, [region], method, 0.25, Noise(1.0, 16, b"a secret"))
    gap = np.abs(out.astype(np.int64) - pixels).max(axis=2)
    area = np.zeros(alpha.shape, bool)
    region.patch.paint(area)
    assert out.dtype == dtype and not gap[~area].any() and not gap[share == 0].any()
    assert (gap <= np.ceil(share / top * top) + 1).all() and (gap[area] > 0).mean() > 0.5


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_result_is_a_composite_of_the_same_matte(dtype: Any) -> None:
    pixels, alpha, front, back = scene(dtype)
    top = np.iinfo(dtype).max
    region = region_of(alpha)
    out = hide(pixels, [region], Method.BLUR, 0.25).astype(np.float64)
    soft = region.patch.mask & (alpha[region.patch.window] > 0.6 * top) & (alpha[region.patch.window] < 0.95 * top)
    share = (alpha[region.patch.window] / top)[soft][:, None]
    made = (out[region.patch.window][soft] - (1 - share) * back[region.patch.window][soft]) / share
    # What stands for the foreground now is flat: the stripes of a quarter of the range are gone.
    before = front[region.patch.window][soft][:, 0].std()
    assert soft.sum() > 200 and made[:, 0].std() < 0.35 * before
    assert np.abs(made.mean(axis=0) - front[region.patch.window][soft].mean(axis=0)).max() < 0.06 * top


def test_the_bytes_do_not_depend_on_threads_or_on_what_lies_far_away() -> None:
    pixels, alpha, *_ = scene()
    threads = cv2.getNumThreads()
    try:
        found = []
        for number in (1, 4):
            cv2.setNumThreads(number)
            found.append(hide(pixels, [region_of(alpha)], Method.BLUR, 0.25))
    finally:
        cv2.setNumThreads(threads)
    assert np.array_equal(*found)
    wide, matte_ = (np.pad(a, ((200, 0), (300, 0), (0, 0))[: a.ndim]) for a in (pixels, alpha))
    inner = region_of(alpha)
    moved = replace(inner, patch=Patch(inner.patch.top + 200, inner.patch.left + 300, inner.patch.mask), share=matte_)
    # Beyond the border of the small picture there was nothing, in the large one there is no foreground.
    assert np.array_equal(hide(wide, [moved], Method.BLUR, 0.25)[200:, 300:][:, 70:], found[0][:, 70:])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_bytes_do_not_depend_on_strips(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, alpha, *_ = scene(dtype)
    for picture in (pixels, pixels[:, :, 0]):
        whole = hide(picture, [region_of(alpha)], Method.BLUR, 0.25)
        with monkeypatch.context() as patch:
            patch.setattr(recompose, "_STRIP", 17)
            assert np.array_equal(hide(picture, [region_of(alpha)], Method.BLUR, 0.25), whole)
        assert not np.array_equal(picture, whole)


def detection() -> Detection:
    return Detection((FACE,), ())


def done(photo: bytes, finder: FaceFinder, **settings: Any) -> Any:
    return anonymize(SAMPLE, Inputs(photo, encode_grey(MATTE)), Settings(**settings), finder, detection())


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_auto_recomposes_what_the_paper_would_leave_bare(kind: str, finder: FaceFinder) -> None:
    photo = encoded(PHOTO, kind, **({"quality": 92} if kind == "JPEG" else {}))
    before = decode(photo).pixels
    held = done(photo, finder, transition_width=WIDE, boundary="paper").result
    assert (held.outcome, held.reason) == (Outcome.NEEDS_REVIEW, "mask_too_small")
    made = done(photo, finder, transition_width=WIDE)
    assert made.result.outcome is Outcome.ANONYMIZED and made.result.recomposed == 1
    name, data = made.files["images"]
    facemask = decode(made.files["facemasks"][1]).pixels
    gap = np.abs(decode(data).pixels.astype(int) - before).max(axis=2)
    assert name == "png" and is_facemask(facemask) and not gap[facemask == 0].any()
    assert not gap[MATTE == 0].any() and (facemask == RECOMPOSED).any()
    side = kernel_side(MATTE.shape, WIDE)
    assert not replaced(facemask)[transition_area(MATTE, side, TOLERANCE)].any()
    assert bare_parts(FACE, facemask > 0) == []


def test_the_paper_s_areas_stay_where_they_hide_the_face(finder: FaceFinder) -> None:
    photo = encoded(PHOTO, "PNG")
    auto, paper = (done(photo, finder, boundary=boundary) for boundary in ("auto", "paper"))
    assert auto.files.keys() >= {"images", "facemasks"} and auto.result.recomposed == 0
    assert auto.files == paper.files


def test_auto_leaves_no_rim_of_an_eye(finder: FaceFinder) -> None:
    """Landmarks are off by a few pixels: an eye that is hidden but for its lashes is one that the paper leaves bare."""
    mesh = FACE.mesh()
    assert mesh is not None
    left, top = mesh[list(PARTS["right eye"])].min(0)
    right = mesh[list(PARTS["right eye"])][:, 0].max()
    alpha = np.full(MATTE.shape, 255, np.uint8)
    alpha[int(top) - 2 : int(top) + 1, int(left) : int(right)] = 200
    settings = Settings(transition_width=0)
    loaded = load(Inputs(encoded(PHOTO, "PNG"), encode_grey(alpha)), settings)
    paper = mask(loaded, detection(), Settings(boundary="paper", transition_width=0))
    assert not bare_parts(FACE, paper.covered) and bare_parts(FACE, paper.covered, margin=0.03) == ["right eye"]
    auto = mask(loaded, detection(), settings)
    assert auto.recomposed is not None and not bare_parts(FACE, auto.covered, margin=0.03)
    # What was made before is proved as it was made.
    row = ImageResult("id", "a.png", Outcome.ANONYMIZED, encoding="png")
    before = mask(as_made(loaded, row), detection(), settings)
    assert before.recomposed is None and np.array_equal(before.facemask, paper.facemask)
    made = anonymize(SAMPLE, Inputs(loaded.photo, encode_grey(alpha)), settings, finder, detection()).result
    again = mask(as_made(loaded, ImageResult.from_json(made.to_json())), detection(), settings)
    assert np.array_equal(again.facemask, auto.facemask) and again.recomposed is not None


def test_a_face_behind_the_person_takes_nothing_of_the_person() -> None:
    """A loose box beside the person reaches over hair or a microphone; what is all person cannot be that face."""
    lone = replace(FACE, landmarks=None, seen_by=("centerface",), score=0.5)
    left, _, right, _ = FACE.box
    photo = encoded(PHOTO, "PNG")

    def covered(face: Face, edge: float, areas: int) -> tuple[int, Masked]:
        alpha = np.zeros(MATTE.shape, np.uint8)
        alpha[:, round(edge) :] = 255
        loaded = replace(load(Inputs(photo, encode_grey(alpha)), Settings()), areas=areas)
        masked = mask(loaded, Detection((face,), ()), Settings(boundary="paper"))
        return int(masked.covered[alpha == 255].sum()), masked

    beside = right - 0.05 * (right - left)
    was, _ = covered(lone, beside, 0)
    now, masked = covered(lone, beside, 1)
    assert was > 300 and now == 0 and not bare_parts(lone, masked.covered)
    # Where the matte runs over an eye it may be the matte that is wrong: all of the face is masked.
    across = left + 0.62 * (right - left)
    for face in (lone, FACE):
        assert covered(face, across, 1)[0] == covered(face, across, 0)[0] > 500


@pytest.mark.parametrize("behind", [False, True])
def test_a_pixel_hides_its_face_by_two_thirds_and_is_replaced_where_all_is_its_layer(behind: bool) -> None:
    """Below two thirds what is composed may still show the face; the matte stays true wherever it may be uncertain."""
    height, width = MATTE.shape
    # From nothing to all of the person, across the face and beyond.
    level = np.linspace(FACE.box[0] + 5, FACE.box[2] + 60, 256)
    alpha = np.tile(np.clip(np.interp(np.arange(width), level, np.arange(256)).round(), 0, 255), (height, 1))
    alpha = (255 - alpha if behind else alpha).astype(np.uint8)
    loaded = load(Inputs(encoded(PHOTO, "PNG"), encode_grey(alpha)), Settings(transition_width=0))
    settings = Settings(boundary="recomposite", transition_width=0)
    found = mask(loaded, detection(), settings)
    private, own = np.zeros((height, width), bool), found.regions[0].share
    found.private[0].paint(private)
    assert own is not None and found.recomposed is not None
    assert own[private].min() < 150 and own[private].max() == 255
    assert np.array_equal(found.facemask, private & (own > 0))
    assert np.array_equal(found.covered, private & (own >= 170))
    assert np.array_equal(found.recomposed, private & (own > 0) & ((own < 250) | found.transition))


def test_jpeg_blocks_that_were_asked_for_keep_all_else_and_tell_how_far_the_background_moved(
    finder: FaceFinder,
) -> None:
    photo = encoded(PHOTO, "JPEG", quality=92)
    # A silhouette that runs through the cheek.
    edge = FACE.box[0] + 0.1 * FACE.width
    alpha = np.tile(np.clip((np.arange(MATTE.shape[1]) - edge) * 25 + 128, 0, 255).astype(np.uint8), (len(MATTE), 1))
    settings = Settings(transition_width=0, boundary="recomposite", format="jpg")
    made = anonymize(SAMPLE, Inputs(photo, encode_grey(alpha)), settings, finder, detection())
    facemask = decode(made.files["facemasks"][1]).pixels
    gap = np.abs(decode(made.files["images"][1]).pixels.astype(int) - decode(photo).pixels).max(axis=2)
    proofs = made.result.proofs
    assert made.files["images"][0] == "jpg" and made.result.encoding == "jpeg exact, fine edges"
    assert proofs.exact and not gap[facemask == 0].any()
    assert 1 < gap[(facemask == RECOMPOSED) & (alpha == 0)].max() <= proofs.largest_beside


def test_compressing_blocks_again_moves_pixels_of_small_shares_as_those_of_none() -> None:
    """A pixel of 1 % moves by as much as its neighbour of 0 %: told by how much, and held back above the same bound."""
    share = np.array([[0, 0, 3, 3, 255]], np.uint8)
    every = np.ones(share.shape, bool)
    gap = np.array([[2, 5, 3, 40, 200]], np.uint8)
    png, jpeg = (_composite(gap, every, share, 255, 1, compressed) for compressed in (False, True))
    assert (png["not_composite"], png["largest_beside"]) == (1, 5)
    assert (jpeg["not_composite"], jpeg["largest_beside"]) == (0, 36)
    assert jpeg["beside"] == png["beside"] == 2 and jpeg["recomposed"] == 3


def test_a_renderer_that_changes_too_much_is_found_by_the_proofs(finder: FaceFinder) -> None:
    photo = encoded(PHOTO, "PNG")
    settings = Settings(boundary="recomposite", transition_width=WIDE)
    loaded = load(Inputs(photo, encode_grey(MATTE)), settings)
    # Of this matte every pixel of the face is soft.
    loaded = replace(loaded, alpha=np.where(MATTE > 200, 140, MATTE).astype(np.uint8))
    masked = mask(loaded, detection(), settings)
    data, name, how = render(loaded, masked, settings)
    promise = promised(masked, name, how)
    good = prove(loaded.picture, data, promise, finder)
    assert good.recomposed > 1000 and good.not_composite == 0
    bad = decode(data).pixels.copy()
    bad[masked.facemask] = 255 - loaded.picture.pixels[masked.facemask]
    found = prove(loaded.picture, encoded(bad, "PNG"), promise, finder)
    assert found.not_composite > 0 and "not_composite" in {doubt.code for doubt in proof_doubts(found)}


def test_a_drawn_area_is_of_the_faces_whose_middle_it_holds() -> None:
    patch = Patch(100, 40, np.ones((20, 30), bool))
    around = [
        (x, y, x + 10.0, y + 40.0) for x, y in ((50.0, 90.0), (34.0, 90.0), (66.0, 90.0), (50.0, 79.0), (50.0, 101.0))
    ]
    assert [_holds(patch, box) for box in around] == [True, False, False, False, False]


def test_a_part_that_lies_beside_the_matte_stays_a_doubt() -> None:
    face = face_at((100, 100, 200, 230))
    covered = np.zeros((300, 300), bool)
    beside = np.ones((300, 300), bool)
    assert coverage_doubts([face], covered, {0: beside})
    # A little over the silhouette is none.
    beside[:, :195], covered[:, :195] = False, True
    assert not coverage_doubts([face], covered, {0: beside})


def test_a_decision_may_change_settings_of_its_picture_and_no_others() -> None:
    decided = Decision(Action.ACCEPT, settings={"boundary": "recomposite"})
    assert Settings().decided(decided).boundary.value == "recomposite"
    for wrong, words in (({"seed": 3}, "'seed' cannot be set"), ({"boundary": "none"}, "'boundary' cannot be 'none'")):
        with pytest.raises(SettingsError, match=words):
            Settings().decided(Decision(Action.ACCEPT, settings=wrong))


def test_replaced_pixels_are_cut_out_of_the_unknown_area() -> None:
    facemask = np.zeros(MATTE.shape, np.uint8)
    facemask[100:300] = REPLACED
    facemask[300:400] = RECOMPOSED
    plain, cut = trimap_of(MATTE), trimap_of(MATTE, facemask=facemask)
    assert not (cut[100:300] == UNKNOWN).any() and np.array_equal(cut[300:], plain[300:])
    known = cut[100:300] != plain[100:300]
    assert known.any() and ((cut[100:300] == 255) == (MATTE[100:300] > 127))[known].all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tolerance_frees_nearly_pure_parts_and_width_0_is_the_matte_s_own_band(dtype: Any) -> None:
    alpha = np.zeros((60, 60), np.uint8)
    alpha[:, :20], alpha[:, 20:25], alpha[:, 40:] = 252, 128, 3
    alpha = alpha.astype(dtype) * (257 if dtype == np.uint16 else 1)
    assert kernel_side(alpha.shape, 0) == 1
    strict, tolerant = transition_area(alpha, 1), transition_area(alpha, 1, TOLERANCE)
    assert strict.sum() == 60 * 45 and tolerant.sum() == 60 * 5 and tolerant[:, 20:25].all()


def test_facemasks_of_two_kinds() -> None:
    changed, kept = np.zeros((9, 9), bool), np.zeros((9, 9), bool)
    changed[2:7], kept[4:9] = True, True
    facemask = facemask_of(changed, kept)
    assert is_facemask(facemask) and set(np.unique(facemask)) == {0, RECOMPOSED, REPLACED}
    assert (replaced(facemask) == (changed & ~kept)).all() and ((facemask > 0) == changed).all()
    assert not is_facemask(texture(9, 9, channels=1))


def doubted(*faces: Any) -> list[str]:
    return [doubt.code for doubt in _doubts(faces, (600, 800))]


def test_single_hits_are_asked_about_only_where_they_may_be_the_main_face() -> None:
    agreed = face_at((300, 100, 420, 250))
    lone = replace(agreed, seen_by=("centerface",), landmarks=None, score=0.7)
    small, large = replace(lone, box=(20.0, 30.0, 90.0, 120.0)), replace(lone, box=(10.0, 100.0, 210.0, 360.0))
    assert doubted(lone) == ["detectors_disagree"]
    assert doubted(agreed, small) == [] and doubted(agreed, large) == ["detectors_disagree"]


def test_a_face_that_the_border_cuts_may_have_any_shape() -> None:
    both = replace(face_at((300, 100, 420, 250)), landmarks=None, seen_by=("centerface", "libfacedetection"))
    assert doubted(replace(both, box=(300.0, 100.0, 350.0, 300.0))) == ["implausible_size"]
    assert doubted(replace(both, box=(0.0, 100.0, 50.0, 300.0))) == []


def test_the_check_apart_sees_what_is_bare_and_what_is_still_shown() -> None:
    """`benchmarks.mattes`: coverage by facemask and matte, detail by pixels alone."""
    top, left, height = 96, 190, 40
    eyes = np.zeros(MATTE.shape, bool)
    eyes[top : top + 20, left : left + 70] = True
    facemask, alpha = np.zeros(MATTE.shape, np.uint8), np.full(MATTE.shape, 255, int)
    facemask[top - 10 : top + height, left - 10 : left + 80] = 255
    before = PHOTO.astype(int)
    hidden = before.copy()
    hidden[facemask > 0] = cv2.GaussianBlur(PHOTO, (0, 0), 22)[facemask > 0]

    def told(after: Pixels, facemask: Pixels, alpha: Pixels) -> tuple[float, float]:
        shot = Shot("a.png", before, after, facemask, alpha)
        share = layer_shares(shot)
        return coverage(eyes, shot, share), detail_left(eyes, shot, share, 88)

    covered, left_over = told(hidden, facemask, alpha)
    assert covered == 1 and abs(left_over) < 0.2
    assert told(before, facemask, alpha)[1] == pytest.approx(1)
    half = hidden.copy()
    half[:, left + 35 :] = before[:, left + 35 :]
    assert 0.3 < told(half, facemask, alpha)[1] < 0.9
    facemask[:, left + 35 :] = 0
    assert told(half, facemask, alpha)[0] == 0.5
    # A recomposed pixel hides from two thirds of its layer on.
    facemask[top - 10 : top + height, left - 10 : left + 80] = RECOMPOSED
    for value, hides in ((180, 1.0), (160, 0.0)):
        alpha[eyes] = value
        assert told(hidden, facemask, alpha)[0] == hides
