"""One image through all stages: bytes in, bytes and one outcome out."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from p3mdata.anonymize.areas import mask
from p3mdata.anonymize.inputs import Inputs, load
from p3mdata.anonymize.masks import around, bare_parts, private_area
from p3mdata.anonymize.outputs import _beside_which_equal
from p3mdata.anonymize.pipeline import Anonymized, anonymize, as_made, detect, render
from p3mdata.base.files import sha256
from p3mdata.config import TOLERANCE, Settings
from p3mdata.faces.ensemble import Detection, FaceFinder
from p3mdata.imaging import decode, encode_grey, orient
from p3mdata.imaging.metadata import leftovers
from p3mdata.imaging.trimap import kernel_side, transition_area
from p3mdata.records import ImageResult, Mask, Outcome, Sample
from tests.factories import astronaut, astronaut_face, cut_out, encoded, matte, texture

SAMPLE = Sample(0, "0123456789ab", "a/b.jpg", "0" * 64)
RGB = astronaut()
GREY = np.asarray(Image.fromarray(RGB).convert("L"))
SIDE = len(RGB)
MATTE = matte()
CUT_OUT = cut_out()
JPEG = encoded(RGB, "JPEG", quality=92)
NO_FACE = encoded(texture(300, 420), "JPEG", quality=92)


@pytest.fixture(scope="module")
def finder() -> Iterator[FaceFinder]:
    with FaceFinder() as made:
        yield made


Run = Any


@pytest.fixture
def run(finder: FaceFinder) -> Run:
    """anonymize() with settings by keyword."""

    def one(photo: bytes, *, alpha: Any = None, trimap: Any = None, hand: Any = None, **settings: Any) -> Anonymized:
        alpha, trimap, hand = (None if x is None else encode_grey(x) for x in (alpha, trimap, hand))
        return anonymize(SAMPLE, Inputs(photo, alpha, trimap, hand), Settings(**settings), finder)

    return one


def released(done: Anonymized) -> tuple[NDArray[Any], Mask]:
    """Pixels and facemask of the released files."""
    image, facemask = (decode(done.files[kind][1]) for kind in ("images", "facemasks"))
    assert np.isin(facemask.pixels, (0, 255)).all()
    return image.pixels, facemask.pixels > 0


def distance(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.int64]:
    gap = np.abs(a.astype(int) - b.astype(int))
    return gap if gap.ndim == 2 else gap.max(axis=2)


PHOTOS = {
    "jpeg 4:2:0": encoded(RGB, "JPEG", quality=92, subsampling=2),
    "jpeg 4:2:2": encoded(RGB, "JPEG", quality=92, subsampling=1),
    "jpeg 4:4:4": encoded(RGB, "JPEG", quality=92, subsampling=0),
    "jpeg grey": encoded(GREY, "JPEG", quality=92),
    "jpeg progressive": encoded(RGB, "JPEG", quality=92, progressive=True),
    "jpeg odd size": encoded(np.ascontiguousarray(RGB[:509, :507]), "JPEG", quality=92),
    "png": encoded(RGB, "PNG"),
    "png grey": encoded(GREY, "PNG"),
    "png 16 bit": cv2.imencode(".png", RGB[..., ::-1].astype(np.uint16) * 257)[1].tobytes(),
    "png transparent": encoded(np.dstack([RGB, MATTE]), "PNG"),
    "webp": encoded(RGB, "WEBP", lossless=True),
    "tiff": encoded(RGB, "TIFF"),
}


@pytest.mark.parametrize("with_matte", [False, True])
@pytest.mark.parametrize("name", PHOTOS)
def test_the_face_is_gone_and_all_else_is_untouched(name: str, with_matte: bool, run: Run) -> None:
    before = decode(PHOTOS[name])
    height, width = before.size
    alpha = np.ascontiguousarray(MATTE[:height, :width])
    done = run(PHOTOS[name], alpha=alpha if with_matte else None)
    result = done.result
    assert result.outcome is Outcome.ANONYMIZED and result.reason is None
    assert (result.width, result.height) == (width, height)
    after, facemask = released(done)
    assert after.dtype == before.pixels.dtype and facemask.shape == before.size
    gap = distance(before.pixels, after)
    assert not gap[~facemask].any()
    if with_matte:
        transition = transition_area(alpha, kernel_side(before.size, 0.02), TOLERANCE)
        assert not facemask[transition].any() and not gap[transition].any()
    assert bare_parts(astronaut_face(), facemask) == []
    assert abs(facemask.mean() - result.masked_share) < 1e-6 and 0.01 < result.masked_share < 0.06
    assert np.median(gap[facemask]) > 4 * (np.iinfo(after.dtype).max // 255)
    assert leftovers(done.files["images"][1]) == []
    assert result.proofs is not None and result.proofs.exact and result.proofs.changed_outside == 0


@pytest.mark.parametrize("photo", ["jpeg 4:2:0", "png"])
def test_no_feature_of_the_face_is_left(photo: str, run: Run) -> None:
    after, _ = released(run(PHOTOS[photo]))
    private = np.zeros(MATTE.shape, bool)
    private_area(astronaut_face(), MATTE.shape).paint(private)
    inner = cv2.erode(private.astype(np.uint8), np.ones((25, 25), np.uint8)) > 0

    def fine(pixels: NDArray[Any]) -> float:
        grey = pixels.astype(np.float32).mean(axis=2)
        return float((grey - cv2.GaussianBlur(grey, (0, 0), 12))[inner].std())

    assert inner.sum() > 1500 and fine(after) < 0.1 * fine(RGB)


def test_files_are_named_hashed_and_complete(run: Run) -> None:
    done = run(JPEG, alpha=MATTE)
    extensions = {kind: ext for kind, (ext, _) in done.files.items()}
    assert extensions == {"images": "jpg", "facemasks": "png", "alphas": "png"}
    for kind, (ext, data) in done.files.items():
        assert done.result.files[kind] == (f"{SAMPLE.id}.{ext}", sha256(data))
    assert np.array_equal(decode(done.files["alphas"][1]).pixels, MATTE)
    assert set(run(JPEG).files) == {"images", "facemasks"}


def test_the_same_input_gives_the_same_bytes(run: Run) -> None:
    first = run(JPEG, alpha=MATTE)
    run(PHOTOS["png"])
    assert run(JPEG, alpha=MATTE) == first


def test_the_staged_functions_give_the_same_bytes(run: Run, finder: FaceFinder) -> None:
    settings, inputs = Settings(), Inputs(JPEG, encode_grey(MATTE))
    loaded = load(inputs, settings)
    detection = detect(loaded, finder)
    data, _, _ = render(loaded, mask(loaded, detection, settings), settings)
    done = anonymize(SAMPLE, inputs, settings, finder, detection=detection)
    assert done == run(JPEG, alpha=MATTE) and done.files["images"][1] == data


@pytest.mark.parametrize("wrong", ["metadata_left", "changed_outside"])
def test_an_image_whose_proof_fails_is_held_back(wrong: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(*args: Any) -> tuple[bytes, str, str]:
        data, name, how = render(*args)
        if wrong == "metadata_left":
            return data + b"hidden behind the end", name, how
        return encoded(np.roll(decode(data).pixels, 1, axis=0), "PNG"), name, how

    monkeypatch.setattr("p3mdata.anonymize.pipeline.render", faulty)
    done = run(PHOTOS["png"])
    assert (done.result.outcome, done.result.reason, done.files) == (Outcome.NEEDS_REVIEW, wrong, {})


def test_a_renderer_that_does_nothing_is_found_by_the_proofs(finder: FaceFinder, monkeypatch: Any) -> None:
    monkeypatch.setattr("p3mdata.anonymize.recompose.obfuscate", lambda *args: None)
    done = anonymize(SAMPLE, Inputs(PHOTOS["jpeg 4:2:0"]), Settings(), finder)
    assert (done.result.outcome, done.result.reason) == (Outcome.NEEDS_REVIEW, "not_obfuscated")
    assert done.files == {}


def narrow_matte() -> NDArray[np.uint8]:
    """A person whose outline runs through the middle of the face."""
    alpha = MATTE.copy()
    alpha[:, : int(np.mean(astronaut_face().box[::2]))] = 0
    return alpha


@pytest.mark.parametrize("photo", ["jpeg 4:2:0", "png"])
def test_a_face_that_the_transition_lays_bare_is_held_back(photo: str, run: Run) -> None:
    done = run(PHOTOS[photo], alpha=narrow_matte(), transition_width=0.08)
    assert done.result.outcome is Outcome.NEEDS_REVIEW and done.result.reason == "mask_too_small"
    assert done.files == {} and done.result.files == {}
    assert "nose" in done.result.detail


def test_a_face_outside_the_matte_is_held_back(run: Run) -> None:
    assert run(JPEG, alpha=np.zeros_like(MATTE)).result.reason == "matte_without_person"
    assert run(JPEG, alpha=np.roll(MATTE, 300, axis=1)).result.reason == "face_outside_matte"


def test_the_unknown_of_a_trimap_is_the_transition(run: Run) -> None:
    trimap = np.where(MATTE > 127, 255, 0).astype(np.uint8)
    band = np.zeros(MATTE.shape, bool)
    band[120:150, 183:195] = True
    trimap[band] = 128
    after, facemask = released(run(PHOTOS["png"], trimap=trimap, alpha=MATTE))
    assert not facemask[band].any() and np.array_equal(after[band], RGB[band])
    assert facemask[135, 200] and facemask[155, 225]


def test_an_image_without_a_face_waits_for_a_person(run: Run) -> None:
    done = run(NO_FACE)
    assert (done.result.outcome, done.result.reason) == (Outcome.NEEDS_REVIEW, "no_face_found")
    assert done.files == {}


@pytest.mark.parametrize(
    "photo", [NO_FACE, encoded(texture(301, 423), "JPEG", progressive=True), encoded(texture(300, 420), "PNG")]
)
def test_an_image_without_a_face_is_released_unchanged_on_request(photo: bytes, run: Run) -> None:
    done = run(photo, trust_no_face=True)
    assert (done.result.outcome, done.result.reason) == (Outcome.NO_FACE_CONFIRMED, None)
    after, facemask = released(done)
    assert np.array_equal(after, decode(photo).pixels) and not facemask.any()


def test_trust_does_not_release_an_image_with_a_doubtful_face(run: Run) -> None:
    done = run(PHOTOS["png"], alpha=narrow_matte(), transition_width=0.08, trust_no_face=True)
    assert done.result.outcome is Outcome.NEEDS_REVIEW


def drawn(face: bool, elsewhere: bool = False) -> NDArray[np.uint8]:
    hand = np.zeros(MATTE.shape, np.uint8)
    if face:
        private_area(astronaut_face(), hand.shape).paint(hand.view(bool))
        hand *= 255
    if elsewhere:
        hand[350:400, 60:120] = 255
    return hand


@pytest.mark.parametrize("photo", ["jpeg 4:2:0", "png"])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_hand_drawn_mask_takes_the_place_of_the_detected(photo: str, elsewhere: bool, run: Run) -> None:
    hand = drawn(face=True, elsewhere=elsewhere)
    done = run(PHOTOS[photo], hand=hand)
    assert done.result.outcome is Outcome.MASKED_BY_HAND
    after, facemask = released(done)
    before = decode(PHOTOS[photo]).pixels
    assert facemask[hand > 0].all() and np.array_equal(after[~facemask], before[~facemask])
    if photo == "png":
        assert np.array_equal(facemask, hand > 0)
        assert (distance(after, before)[hand > 0] > 0).mean() > 0.9


def test_a_hand_drawn_mask_in_an_image_without_a_face(run: Run) -> None:
    hand = np.zeros((300, 420), np.uint8)
    hand[100:150, 200:230] = 255
    assert run(NO_FACE, hand=hand).result.outcome is Outcome.MASKED_BY_HAND


@pytest.mark.parametrize(
    ("hand", "reason"),
    [
        (drawn(face=False, elsewhere=True), "hand_mask_leaves_face"),
        (drawn(face=False), "hand_mask_empty"),
    ],
    ids=["forgets the face", "empty"],
)
def test_a_hand_drawn_mask_that_does_not_do_is_held_back(hand: NDArray[np.uint8], reason: str, run: Run) -> None:
    done = run(JPEG, hand=hand)
    assert (done.result.outcome, done.result.reason, done.files) == (Outcome.NEEDS_REVIEW, reason, {})


def test_a_hand_drawn_mask_is_kept_out_of_the_transition(run: Run) -> None:
    hand = drawn(face=True)
    hand[60:480, 60:440] = 255
    after, facemask = released(run(PHOTOS["png"], hand=hand, alpha=MATTE))
    transition = transition_area(MATTE, kernel_side(MATTE.shape, 0.02), TOLERANCE)
    assert np.array_equal(facemask, (hand > 0) & ~transition)
    assert np.array_equal(after[transition], RGB[transition])


def test_strength_of_a_narrow_hand_mask_follows_its_height(run: Run) -> None:
    """As for a detected head turned aside: a strip must not be blurred by its width alone."""
    stripes = np.where(np.arange(300)[:, None] % 40 < 20, 0, 255).astype(np.uint8).repeat(420, axis=1)
    hand = np.zeros_like(stripes)
    hand[50:250, 200:212] = 255
    after, facemask = released(run(encoded(stripes, "PNG"), hand=hand))
    assert after[80:220][facemask[80:220]].std() < 2


def test_small_images_are_excluded(run: Run) -> None:
    done = run(JPEG, min_side=SIDE + 1)
    assert (done.result.outcome, done.result.reason, done.files) == (Outcome.EXCLUDED, "too_small", {})
    assert run(JPEG, min_side=SIDE).result.outcome is Outcome.ANONYMIZED


@pytest.mark.parametrize(
    ("photo", "alpha", "reason"),
    [
        (JPEG[:-300], None, "cannot_decode"),
        (b"", None, "empty_file"),
        (JPEG, b"", "alpha_empty_file"),
        (JPEG, encoded(MATTE[1:], "PNG"), "alpha_other_size"),
    ],
)
def test_broken_files_have_their_reason(photo: bytes, alpha: bytes | None, reason: str, finder: FaceFinder) -> None:
    done = anonymize(SAMPLE, Inputs(photo, alpha), Settings(), finder)
    assert (done.result.outcome, done.result.reason, done.files) == (Outcome.BROKEN, reason, {})
    assert done.result.detail


@pytest.mark.parametrize("photo", ["jpeg 4:2:0", "png 16 bit", "jpeg grey", "png transparent"])
@pytest.mark.parametrize("wanted", ["jpg", "png", "webp"])
def test_conversion_to_another_format(photo: str, wanted: str, run: Run) -> None:
    done = run(PHOTOS[photo], format=wanted)
    if photo == "png transparent" and wanted == "jpg":
        assert (done.result.outcome, done.result.reason) == (Outcome.BROKEN, "no_transparency")
        return
    assert done.result.outcome is Outcome.ANONYMIZED
    assert done.files["images"][0] == wanted
    before = decode(PHOTOS[photo])
    after, facemask = released(done)
    shown, expected = decode(done.files["images"][1]).rgb8(), before.rgb8()
    worst = distance(shown, expected)[~facemask].max()
    assert worst == 0 or (wanted == "jpg" and worst < 40 and "reencoded" in done.result.encoding)
    assert leftovers(done.files["images"][1]) == []


@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
@pytest.mark.parametrize("name", ["JPEG", "PNG"])
def test_a_stored_orientation_is_applied_to_all_files(name: str, orientation: int, run: Run) -> None:
    back = {6: 8, 8: 6}.get(orientation, orientation)
    tags = Image.Exif()
    tags[0x0112] = orientation
    photo = encoded(orient(CUT_OUT, back), name, exif=tags)
    done = run(photo, alpha=MATTE)
    assert done.result.outcome is Outcome.ANONYMIZED
    after, facemask = released(done)
    assert bare_parts(astronaut_face(), facemask) == []
    assert np.median(distance(after, CUT_OUT)[~facemask]) <= 4
    assert np.array_equal(decode(done.files["alphas"][1]).pixels, MATTE)
    assert decode(done.files["images"][1]).orientation == 1


def dirty_jpeg() -> bytes:
    tags = Image.Exif()
    tags[0x010F] = "a camera that could identify its owner"
    tags.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0)})
    sink = io.BytesIO()
    Image.fromarray(RGB).save(sink, "JPEG", exif=tags, comment=b"taken by me", xmp=b"<x:xmpmeta>me</x:xmpmeta>")
    return sink.getvalue() + b"trailing secret"


@pytest.mark.parametrize("settings", [{}, {"jpeg": "reencode"}, {"format": "png"}, {"format": "webp"}])
def test_metadata_is_gone(settings: dict[str, str], run: Run) -> None:
    photo = dirty_jpeg()
    assert len(leftovers(photo)) >= 4
    done = run(photo, **settings)
    assert done.result.outcome is Outcome.ANONYMIZED
    for _, data in done.files.values():
        assert leftovers(data) == []
        assert b"taken by me" not in data and b"secret" not in data and b"camera" not in data


def test_a_face_under_transparency_is_found_and_covered(run: Run) -> None:
    """Full transparency hides a face from viewers, not from those who drop the channel."""
    hidden = encoded(np.dstack([RGB, np.zeros_like(MATTE)]), "PNG")
    done = run(hidden)
    assert done.result.outcome is Outcome.ANONYMIZED
    assert bare_parts(astronaut_face(), released(done)[1]) == []


def test_a_face_that_shows_through_transparency_alone_is_found(run: Run) -> None:
    """White all over; its opacity draws the face of a small cut-out for whoever lays it over another colour."""
    opacity = np.full((400, 400), 255, np.uint8)
    opacity[-256:, :256] = np.asarray(Image.fromarray(astronaut(256)).convert("L"))
    done = run(encoded(np.dstack([np.full((400, 400, 3), 255, np.uint8), opacity]), "PNG"), trust_no_face=True)
    assert len(done.result.faces) == 1
    assert (done.result.outcome, done.files) == (Outcome.NEEDS_REVIEW, {})


@pytest.mark.parametrize(("settings", "words"), [({"method": "zero"}, "zero 1"), ({"preset": "yang"}, "blur 0.1")])
def test_the_record_says_how(settings: dict[str, str], words: str, run: Run) -> None:
    done = run(PHOTOS["png"], **settings)
    assert done.result.method == words
    after, facemask = released(done)
    if words.startswith("zero"):
        assert not after[facemask].any()


def test_two_faces_are_both_covered(run: Run) -> None:
    pair = np.full((600, 900, 3), 90, np.uint8)
    pair[:512, :512], pair[300:556, 600:856] = RGB, astronaut(256)
    done = run(encoded(pair, "JPEG", quality=92))
    assert done.result.outcome is Outcome.ANONYMIZED and len(done.result.faces) == 2
    _, facemask = released(done)
    assert bare_parts(astronaut_face(), facemask) == []
    small = replace(
        astronaut_face(256),
        box=tuple(np.add(astronaut_face(256).box, (600, 300, 600, 300))),
        landmarks=tuple((astronaut_face(256).mesh() + (600, 300)).ravel()),
    )
    assert bare_parts(small, facemask) == []


@pytest.mark.parametrize("kind", ["jpeg 4:2:0", "jpeg 4:2:2", "jpeg 4:4:4", "jpeg grey"])
@pytest.mark.parametrize("side", [200, 512])
def test_jpeg_blocks_keep_what_lies_beside_a_face(kind: str, side: int, finder: FaceFinder) -> None:
    array = GREY if kind == "jpeg grey" else RGB
    array = cv2.resize(array, (side, side), interpolation=cv2.INTER_AREA)
    sampling = {"jpeg 4:2:0": 2, "jpeg 4:2:2": 1}.get(kind, 0)
    photo = encoded(array, "JPEG", quality=92, **({} if array.ndim == 2 else {"subsampling": sampling}))
    before = decode(photo).pixels
    fine = load(Inputs(photo), Settings())
    found = detect(fine, finder)
    masked = mask(fine, found, Settings())
    data, name, how = render(fine, masked, Settings())
    after = decode(data).pixels
    assert (name, how) == ("JPEG", "jpeg exact, fine edges") and masked.rim is not None
    gap = distance(before, after)
    assert gap[~masked.facemask].max() == 0
    # Everything private is hidden, with nothing of its detail; beside it there is little but rounding.
    private = np.zeros_like(masked.facemask)
    for patch in masked.private:
        patch.paint(private)
    assert np.array_equal(private, masked.covered) and np.array_equal(masked.rim, masked.facemask & ~private)
    assert gap[masked.rim].mean() < 6
    # As it was in 0.4, a rim that shows the colours of the face, and its row says so.
    whole = replace(fine, whole_blocks=True)
    masked_whole = mask(whole, found, Settings())
    data, _, how = render(whole, masked_whole, Settings())
    assert how == "jpeg exact" and np.array_equal(masked_whole.facemask, masked.facemask)
    assert distance(before, decode(data).pixels)[masked.rim].mean() > 3 * gap[masked.rim].mean()
    row = ImageResult("id", "a.jpg", Outcome.ANONYMIZED, encoding=how)
    assert as_made(fine, row).whole_blocks
    assert not as_made(fine, replace(row, encoding="jpeg exact, fine edges")).whole_blocks


@pytest.mark.parametrize("lines", [slice(0, None, 16), slice(0, SIDE // 5, 16)])
def test_what_blocks_must_leave_does_not_count_as_hidden(lines: slice) -> None:
    """Thin lines of transition keep JPEG blocks from being changed, and with them the rest of an eye."""
    trimap = np.full((SIDE, SIDE), 255, np.uint8)
    trimap[lines] = 128
    settings = Settings(boundary="paper")
    masked = mask(
        load(Inputs(JPEG, trimap=encode_grey(trimap)), settings), Detection((astronaut_face(),), ()), settings
    )
    assert masked.blocks is not None
    assert not (masked.covered & ~masked.blocks[1].luma).any()
    assert not (masked.covered & ~masked.facemask).any()
    assert masked.doubts, "an eye that nobody hides was let through"


@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_one_pixel_anywhere_beside_the_facemask_is_looked_at(kind: Any, channels: tuple[int, ...]) -> None:
    picture = np.random.default_rng(3).integers(0, 255, (24, 31, *channels)).astype(kind)
    for area in (
        (slice(5, 11), slice(8, 20)),
        (slice(0, 24), slice(0, 2)),
        (slice(20, 24), slice(28, 31)),
        (slice(0),) * 2,
    ):
        facemask = np.zeros((24, 31), bool)
        facemask[area] = True
        rows, columns = _beside_which_equal(picture, picture.copy(), around(facemask))
        window = np.zeros((24, 31), bool)
        window[rows, columns] = True
        assert not (facemask & ~window).any() and window.any()
        for y, x in zip(*np.nonzero(~window), strict=True):
            changed = picture.copy()
            changed[y, x] ^= 1
            assert _beside_which_equal(picture, changed, around(facemask)) == (slice(0, 24), slice(0, 31))
