"""The face mesh of runs: MediaPipe's networks in onnxruntime, held against MediaPipe itself."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from p3mdata.cli.checkup import _landmarks
from p3mdata.cli.sample import portrait
from p3mdata.faces import weights
from p3mdata.faces.face_mesh import FaceMesh
from p3mdata.faces.landmarks import LandmarkModel, MediaPipeLandmarks
from p3mdata.faces.tflite import as_onnx

# Pixels of a crop of 256: a quarter of what separates neighbouring points of an eyelid.
APART = 1.0


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


def test_doctor_compares_both() -> None:
    found = _landmarks()
    assert found.ok and found.needed and "px apart" in found.finding


def test_an_operation_that_is_not_known_is_refused() -> None:
    with zipfile.ZipFile(io.BytesIO(weights.load("face_landmarker"))) as task:
        blendshapes = task.read("face_blendshapes.tflite")
    with pytest.raises(ValueError, match=r"operation \d+ is not known"):
        as_onnx(blendshapes)
