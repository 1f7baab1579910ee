"""Where the look for small faces is worth its time: windows, the network that proposes them, and how it is made."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from p3mdata.anonymize.masks import Region, private_area
from p3mdata.anonymize.proofs import redetect
from p3mdata.anonymize.recompose import hide
from p3mdata.config import Method
from p3mdata.faces import proposals, weights
from p3mdata.faces.detectors import Box, iou
from p3mdata.faces.ensemble import LOOKS, FaceFinder
from p3mdata.faces.integers import IMAGE
from p3mdata.faces.pieces import parts
from p3mdata.faces.proposals import CELL, LOGITS, SIDE, _joined, _windows
from p3mdata.faces.pyramid import Pyramid
from p3mdata.imaging import Picture
from p3mdata.native import LEVELS
from tests.factories import astronaut, texture
from tests.native_levels import use
from tools.proposals.people import Painter, Person, canonical_mesh

Image = NDArray[np.uint8]
SHAPE = (1024, 1536)


def _cells(*places: tuple[int, int]) -> NDArray[np.bool_]:
    cells = np.zeros((64, 96), bool)
    for place in places:
        cells[place] = True
    return cells


@pytest.fixture(scope="module")
def people() -> list[Person]:
    rng = np.random.default_rng(3)
    painter = Painter(canonical_mesh())
    return [painter.person(rng) for _ in range(12)]


@pytest.fixture(scope="module")
def crowd(people: list[Person]) -> tuple[Image, list[tuple[float, ...]]]:
    """Drawn bystanders of 26 px in a picture of 1920 x 1280, and their boxes."""
    scene = cv2.resize(texture(160, 240, 1), (1920, 1280), interpolation=cv2.INTER_CUBIC)
    boxes = []
    for number, person in enumerate(people):
        left, top, right, bottom = person.box
        factor = 26 / max(right - left, bottom - top)
        side = round(len(person.rgb) * factor)
        rgb, alpha = (cv2.resize(a, (side, side), interpolation=cv2.INTER_AREA) for a in (person.rgb, person.alpha))
        x, y = 60 + number % 4 * 160, 80 + number // 4 * 200
        part = scene[y : y + side, x : x + side]
        part[:] = np.where(alpha[..., None] > 127, rgb, part)
        boxes.append(tuple(v * factor + shift for v, shift in zip(person.box, (x, y, x, y), strict=True)))
    return np.asarray(scene, np.uint8), boxes


def test_nothing_is_looked_at_where_nothing_is_proposed() -> None:
    assert _windows(_cells(), 16, SHAPE) == []


@pytest.mark.parametrize("place", [(0, 0), (63, 95), (30, 50), (5, 90)])
def test_a_window_holds_the_largest_small_face_at_a_proposed_place(place: tuple[int, int]) -> None:
    ((rows, cols),) = _windows(_cells(place), 16, SHAPE) or []
    for at, part, length in zip(place, (rows, cols), SHAPE, strict=True):
        assert (part.stop - part.start) % 32 == 0 and 0 <= part.start < part.stop <= length
        least, most = at * 16 - LOOKS[-1].largest / 2, at * 16 + 16 + LOOKS[-1].largest / 2
        assert part.start <= max(0, least) and part.stop >= min(length, most)
    # Any face centred in the proposed cell belongs to the window.
    (piece,) = parts(Pyramid(np.zeros((*SHAPE, 3), np.uint8)), max(SHAPE), [(rows, cols)])
    assert (piece.down, piece.across) == (rows.start, cols.start)
    for y in (place[0] * 16, place[0] * 16 + 15):
        for x in (place[1] * 16, place[1] * 16 + 15):
            here = x - cols.start, y - rows.start
            assert piece.owns(Box((here[0] - 8, here[1] - 8, here[0] + 8, here[1] + 8), 0.9, None, "x"))


@pytest.mark.parametrize("level", ["off", *LEVELS])
@pytest.mark.parametrize("size", [(1280, 1920), (963, 611)])
def test_a_window_is_the_part_of_the_picture_that_it_stands_for(
    size: tuple[int, int], level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, level)
    image = Pyramid(texture(*size))
    for long_side in (700, size[1]):
        whole, _ = image.at(long_side)
        for rows, cols in ((slice(96, 250), slice(31, 400)), (slice(0, whole.shape[0]), slice(0, whole.shape[1]))):
            assert np.array_equal(image.part(long_side, (rows, cols)), whole[rows, cols])


def test_places_near_each_other_share_a_window_and_far_ones_do_not() -> None:
    assert len(_windows(_cells((10, 10), (10, 14)), 16, SHAPE) or []) == 1
    assert len(_windows(_cells((10, 10), (50, 80)), 16, SHAPE) or []) == 2


def test_joined_rectangles_cover_what_they_join() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        corner, size = rng.integers(0, 60, (8, 2)), rng.integers(1, 15, (8, 2))
        one = [(int(x), int(y), int(x + w), int(y + h)) for (x, y), (w, h) in zip(corner, size, strict=True)]
        joined = _joined(one)
        for left, top, right, bottom in one:
            assert any(j[0] <= left and j[1] <= top and j[2] >= right and j[3] >= bottom for j in joined)
        assert sum(map(proposals._price, joined)) <= sum(map(proposals._price, one)) and _joined(joined) == joined


def test_the_whole_picture_is_looked_at_where_proposals_are_everywhere() -> None:
    half = _cells()
    half[:, :50] = True
    assert _windows(half, 16, SHAPE) is None
    # So many windows cost more than they save.
    many = np.zeros((256, 384), bool)
    many[4::32, 4::32] = True
    assert _windows(many, 16, (4096, 6144)) is None


def test_bystanders_are_found_in_windows_as_in_the_whole_picture(
    crowd: tuple[Image, list[tuple[float, ...]]], models: FaceFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, faces = crowd

    def seen() -> int:
        hits = np.array([hit.xyxy for group in models.boxes(Pyramid(scene)) for hit in group]).reshape(-1, 4)
        return sum(bool((iou(np.array(face), hits) > 0.3).any()) for face in faces)

    shown: list[int] = []
    detector = models._detectors[LOOKS[-1].detector]
    detect = detector.detect
    monkeypatch.setattr(detector, "detect", lambda rgb: (shown.append(rgb.shape[0] * rgb.shape[1]), detect(rgb))[1])
    in_windows = seen()
    assert shown and sum(shown) < 0.5 * SHAPE[0] * SHAPE[1]
    monkeypatch.setattr(models, "_proposals", None)
    assert in_windows >= seen() >= 9


def test_without_the_network_the_scores_alone_would_not_do(
    crowd: tuple[Image, list[tuple[float, ...]]], models: FaceFinder
) -> None:
    scene, faces = crowd
    found = models._proposals.windows(Pyramid(scene), np.zeros((54, 80), np.float32), SHAPE)
    centres = [((top + bottom) / 2 * 0.8, (left + right) / 2 * 0.8) for left, top, right, bottom in faces]
    inside = [any(r.start < y < r.stop and c.start < x < c.stop for r, c in found) for y, x in centres]
    assert sum(inside) >= 11


def test_what_the_look_before_saw_is_looked_at_too(models: FaceFinder) -> None:
    blank = Pyramid(np.full((1280, 1920, 3), 90, np.uint8))
    scores = np.zeros((54, 80), np.float32)
    assert models._proposals.windows(blank, scores, SHAPE) == []
    scores[20, 30] = 0.06
    ((rows, cols),) = models._proposals.windows(blank, scores, SHAPE)
    assert rows.start < 20.5 * 19.2 < rows.stop and cols.start < 30.5 * 19.2 < cols.stop


def test_the_network_is_the_one_of_the_manifest() -> None:
    row = weights.known("proposals")
    data = weights.locate("proposals").read_bytes()
    card = (Path(__file__).resolve().parents[1] / "manifests" / "proposals.md").read_text()
    assert hashlib.sha256(data).hexdigest() == row.sha256 and len(data) == row.size < 60_000
    assert row.sha256 in card and "proposals" in weights.hashes()


@pytest.mark.slow
def test_the_way_to_make_the_network_makes_one() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("skimage")
    from tools.proposals.__main__ import samples
    from tools.proposals.train import exported, train

    drawn = samples(people=3, scenes=16, seed=1)
    again = samples(people=3, scenes=3, seed=1)
    assert all((a.rgb == b.rgb).all() and (a.target == b.target).all() for a, b in zip(drawn, again, strict=False))
    assert sum(sample.target.sum() for sample in drawn) > 0
    threads = torch.get_num_threads()
    try:
        net = train(drawn, 2, 1, lambda line: None)
    finally:
        torch.set_num_threads(threads)
    rgb = drawn[0].rgb.transpose(2, 0, 1)[None].astype(np.float32)
    session = onnxruntime.InferenceSession(exported(net), providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        wanted = net(torch.from_numpy(rgb) / 64).numpy()
    got = session.run([LOGITS], {IMAGE: rgb})[0]
    assert got.shape == (1, 1, rgb.shape[2] // CELL, rgb.shape[3] // CELL)
    np.testing.assert_allclose(got, wanted, atol=1e-4)
    # The same kind of file as the one that is used.
    shipped = onnxruntime.InferenceSession(weights.load("proposals"), providers=["CPUExecutionProvider"])
    assert shipped.run([LOGITS], {IMAGE: rgb})[0].shape == got.shape
    assert SIDE % CELL == 0


@pytest.fixture(scope="module")
def portrait(models: FaceFinder) -> Iterator[tuple[Image, Region]]:
    pixels = astronaut(900)
    (face,) = models.find(pixels).faces
    yield pixels, Region(private_area(face, (900, 900)), face.width)


@pytest.mark.parametrize(
    ("fault", "missed"),
    [("none", 0), ("missing mask", 1), ("shifted", 1), ("half", 1), ("blur of 3 %", 1), ("blur of 5 %", 1)],
)
def test_faults_of_outputs_are_seen_when_they_are_looked_at_again(
    fault: str, missed: int, portrait: tuple[Image, Region], models: FaceFinder
) -> None:
    pixels, region = portrait
    patch = region.patch
    if fault == "shifted":
        patch = type(patch)(patch.top, patch.left + int(0.6 * region.width), patch.mask)
    elif fault == "half":
        left = patch.mask.copy()
        left[:, : left.shape[1] // 2] = False
        patch = type(patch)(patch.top, patch.left, left)
    strength = {"blur of 3 %": 0.03, "blur of 5 %": 0.05}.get(fault, 0.25)
    regions = [] if fault == "missing mask" else [Region(patch, region.width)]
    output = hide(pixels, regions, Method.BLUR, strength)
    facemask = np.zeros(pixels.shape[:2], bool)
    # A weak blur is a fault of the pixels: what is asked is whether the face is seen at all.
    for hidden in regions if strength == 0.25 else ():
        hidden.patch.paint(facemask)
    source, released = (Picture(p, None, "PNG", None, 1) for p in (pixels, output))
    assert redetect(source, released, facemask, models)[1] == missed
