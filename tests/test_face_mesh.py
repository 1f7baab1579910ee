"""The face mesh of runs: MediaPipe's networks in onnxruntime, held against MediaPipe itself."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from p3mdata.cli.checkup import _landmarks
from p3mdata.cli.sample import portrait
from p3mdata.faces import weights
from p3mdata.faces.detectors import REGISTRY, Box, Detector
from p3mdata.faces.ensemble import FaceFinder
from p3mdata.faces.face_mesh import FaceMesh
from p3mdata.faces.landmarks import LandmarkModel, MediaPipeLandmarks
from p3mdata.faces.pyramid import Pyramid
from p3mdata.faces.tflite import as_onnx

# Pixels of a crop of 256: a quarter of what separates neighbouring points of an eyelid.
APART = 1.0
# What a face is placed by may move its points by so much; another crop for the first network moves them by 2.4.
PLACED_APART = 4.0


@pytest.fixture(scope="module")
def models() -> Iterator[tuple[LandmarkModel, LandmarkModel]]:
    """Ours and MediaPipe's."""
    with MediaPipeLandmarks() as theirs:
        yield FaceMesh(), theirs


def crop(turned: float, larger: float, across: float = 0.0) -> NDArray[np.uint8]:
    """The sample portrait's face, turned by degrees, so much larger and so many pixels to the left."""
    matrix = cv2.getRotationMatrix2D((224 + across, 134), turned, larger)
    matrix[:, 2] += 128 - np.array([224 + across, 134])
    return np.asarray(cv2.warpAffine(portrait(), matrix, (256, 256), borderMode=cv2.BORDER_REPLICATE), np.uint8)


@pytest.mark.parametrize(
    ("turned", "larger", "across"), [(0, 1, 0), (0, 1.6, 0), (25, 1.2, 0), (-70, 1, 0), (0, 0.6, 60), (0, 2, -40)]
)
def test_points_lie_where_mediapipe_sees_them(
    models: tuple[LandmarkModel, LandmarkModel], turned: float, larger: float, across: float
) -> None:
    ours, theirs = (model.locate(crop(turned, larger, across)) for model in models)
    assert ours is not None and theirs is not None
    assert ours.shape == (478, 2) and ours.dtype == np.float32
    assert np.abs(ours - theirs).max() < APART


@pytest.mark.parametrize("picture", ["blank", "noise", "shoulder", "upside down"])
def test_both_see_no_face_where_there_is_none(models: tuple[LandmarkModel, LandmarkModel], picture: str) -> None:
    shown = {
        "blank": np.full((256, 256, 3), 90, np.uint8),
        "noise": np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8),
        "shoulder": np.ascontiguousarray(portrait()[256:, 256:]),
        "upside down": crop(180, 1),
    }[picture]
    ours, theirs = (model.locate(shown) for model in models)
    assert (ours is None) == (theirs is None)
    assert picture == "upside down" or ours is None


def test_a_crop_need_not_be_square_nor_a_block_of_memory(models: tuple[LandmarkModel, LandmarkModel]) -> None:
    wide = crop(0, 1.2)[30:230, 8:248]  # its rows lie apart
    ours, theirs = (model.locate(wide) for model in models)
    assert ours is not None and theirs is not None
    assert np.abs(ours - theirs).max() < APART


@pytest.fixture(scope="module")
def detectors() -> dict[str, Detector]:
    return {name: make() for name, make in REGISTRY.items()}


def seen(rgb: NDArray[np.uint8], detectors: dict[str, Detector]) -> list[Box]:
    """The strongest hit of each detector."""
    return [max(detector.detect(rgb), key=lambda hit: hit.score) for detector in detectors.values()]


@pytest.mark.parametrize(("turned", "side"), [(0, 256), (20, 256), (-25, 256), (0, 700), (0, 90)])
def test_a_face_that_both_detectors_see_is_placed_by_their_points(
    turned: float, side: int, detectors: dict[str, Detector]
) -> None:
    mesh, shown = FaceMesh(), crop(turned, 1.1)
    found = mesh.locate(shown)
    hits = [hit.placed(0, 0, side / 256) for hit in seen(shown, detectors)]
    placed = mesh.place(Pyramid(np.asarray(cv2.resize(shown, (side, side), interpolation=cv2.INTER_CUBIC))), hits)
    assert found is not None and placed is not None and placed.shape == (478, 2) and placed.dtype == np.float32
    assert np.abs(placed * (256 / side) - found).max() < PLACED_APART


@pytest.mark.parametrize("wrong", ["turned", "moved", "one point", "hidden"])
def test_a_mesh_that_contradicts_the_detectors_is_not_taken(wrong: str, detectors: dict[str, Detector]) -> None:
    shown = crop(0, 1.1)
    hits = seen(shown, detectors)
    if wrong == "hidden":
        shown = cv2.blur(shown, (61, 61))
    else:
        for number, hit in enumerate(hits):
            assert hit.points is not None
            points = hit.points.copy()
            if wrong == "turned":
                points[[0, 3]] += (0, 16)
                points[[1, 4]] -= (0, 16)
            points += {"turned": (0, 0), "moved": (30, 0), "one point": np.eye(5, 1, -2) * 40}[wrong]
            hits[number] = replace(hit, points=points.astype(np.float32))
    assert FaceMesh().place(Pyramid(np.asarray(shown, np.uint8)), hits) is None


@pytest.mark.parametrize("side", [0.0, float("nan")])
def test_boxes_without_a_size_place_no_mesh(side: float) -> None:
    hits = [Box((9, 9, 9, 9), 0.9, np.full((5, 2), 9, np.float32), name) for name in REGISTRY]
    hits[0] = replace(hits[0], xyxy=(9, 9, 9 + side, 9 + side))
    assert FaceMesh().place(Pyramid(crop(0, 1.1)), hits) is None


def test_a_box_without_a_size_stays_a_face() -> None:
    hits = [Box((9, 9, 9, 9), 0.9, np.full((5, 2), 9, np.float32), name) for name in REGISTRY]
    with FaceFinder() as finder:
        face = finder.look_closer(Pyramid(crop(0, 1.1)), hits)
    assert face.box == (9, 9, 9, 9) and len(face.seen_by) == len(REGISTRY) and face.landmarks is None


@pytest.mark.parametrize("wrong", ["logit", "a point", "points"])
def test_what_is_no_number_is_no_mesh(wrong: str, detectors: dict[str, Detector]) -> None:
    shown, model = crop(0, 1.1), FaceMesh()
    hits, network = seen(shown, detectors), model._mesh
    assert model.locate(shown) is not None and model.place(Pyramid(shown), hits) is not None

    def broken(rgb: NDArray[np.uint8]) -> tuple[float, NDArray[np.float32]]:
        present, points = network(rgb)
        points[: {"logit": 0, "a point": 1, "points": len(points)}[wrong]] = np.nan
        return float("nan") if wrong == "logit" else present, points

    vars(model)["_mesh"] = broken
    assert model.locate(shown) is None and model.place(Pyramid(shown), hits) is None


def test_only_what_both_see_needs_no_third_opinion(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    locate = FaceMesh.locate
    monkeypatch.setattr(FaceMesh, "locate", lambda self, rgb: looked.append(1) or locate(self, rgb))
    with FaceFinder() as finder:
        image = Pyramid(crop(0, 1.1))
        (group,) = finder.boxes(image)
        both = finder.look_closer(image, group)
        assert both.landmarks is not None and not looked
        for name in REGISTRY:
            assert finder.look_closer(image, [hit for hit in group if hit.detector == name]).landmarks is not None
    assert len(looked) == len(REGISTRY)


def test_doctor_compares_both() -> None:
    found = _landmarks()
    assert found.ok and found.needed and "px apart" in found.finding


def test_an_operation_that_is_not_known_is_refused() -> None:
    with zipfile.ZipFile(io.BytesIO(weights.load("face_landmarker"))) as task:
        blendshapes = task.read("face_blendshapes.tflite")
    with pytest.raises(ValueError, match=r"operation \d+ is not known"):
        as_onnx(blendshapes)
