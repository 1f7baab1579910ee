"""CenterFace counted in integers: what it finds beside its file's floats, its bounds, and how its steps are made."""

from __future__ import annotations

import cv2
import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from p3mdata.faces import weights
from p3mdata.faces.detectors import CenterFace, iou
from p3mdata.faces.inference import session
from p3mdata.faces.integers import (
    _MIDDLE,
    _MOST_WEIGHT,
    _ROOM,
    _TOP,
    CELLS,
    FLOATS,
    IMAGE,
    STEPS,
    encoded,
    in_integers,
    layers,
    told,
)
from p3mdata.faces.onnx_graph import floats_of, read_model, set_shape
from tests.factories import astronaut
from tools import ranges

Image = NDArray[np.uint8]
# Outputs of CenterFace's own network: heat map, log size, offset, points.
OUTPUTS = ("537", "538", "539", "540")


@pytest.fixture(scope="module")
def floats() -> onnxruntime.InferenceSession:
    """The network of the file, seeing pictures of any size."""
    model = read_model(weights.load("centerface"))
    del model.graph.input[:]
    set_shape(model.graph.input.add(name=FLOATS), (1, 3, "h", "w"))
    for output in model.graph.output:
        set_shape(output, (1, "c", "oh", "ow"))
    return session(model.SerializeToString())


def _crowd(shape: tuple[int, int], dim: float) -> Image:
    """Portraits of several sizes, some of them hardly lit."""
    scene = np.full((*shape, 3), 70, np.uint8)
    for number, (x, y, side) in enumerate(
        ((0, 0, 256), (300, 20, 192), (520, 40, 128), (40, 300, 300), (400, 330, 224))
    ):
        place = scene[y : y + side, x : x + side]
        face = cv2.convertScaleAbs(astronaut(side), alpha=dim if number % 2 else 1.0)
        place[...] = face[: place.shape[0], : place.shape[1]]
    return scene


@pytest.mark.parametrize("dim", [1.0, 0.25])
def test_integers_find_what_the_files_floats_find(dim: float, floats: onnxruntime.InferenceSession) -> None:
    scene = _crowd((576, 672), dim)
    blob = scene.transpose(2, 0, 1)[None].astype(np.float32)
    heat, log_size, offset, points = (out[0] for out in floats.run(OUTPUTS, {FLOATS: blob}))
    found = CenterFace().detect(scene)
    assert len(found) >= 4
    boxes = np.array([hit.xyxy for hit in found])
    for row, col in np.argwhere(heat[0] == cv2.dilate(heat[0], np.ones((9, 9)))):
        if heat[0, row, col] < 0.4:
            continue
        size = 4 * np.exp(log_size[:, row, col])
        middle = 4 * (np.array([row, col]) + offset[:, row, col] + 0.5)
        corners = middle - size / 2
        truth = np.array([*corners[::-1], *(corners + size)[::-1]], np.float64)
        near = iou(truth, boxes)
        best = found[int(near.argmax())]
        five = (points[:, row, col].reshape(5, 2) * size + corners)[:, ::-1]
        assert near.max() > 0.8 and abs(best.score - heat[0, row, col]) < 0.1
        assert best.points is not None and np.abs(best.points - five).max() < 0.08 * size.max()


def test_any_size_is_looked_at() -> None:
    assert CenterFace().detect(np.zeros((5, 3, 3), np.uint8)) == []
    wide = np.full((140, 700, 3), 90, np.uint8)
    wide[6:134, 550:678] = astronaut(128)
    (hit,) = CenterFace().detect(wide[:, ::1])
    assert 550 < hit.xyxy[0] < hit.xyxy[2] < 678
    (same,) = CenterFace().detect(wide[:, 11:])
    assert abs(same.xyxy[0] + 11 - hit.xyxy[0]) < 6


def test_two_products_fit_into_sixteen_bits() -> None:
    graph = read_model(in_integers(weights.load("centerface"), weights.load("centerface_ranges"))).graph
    kernels = [np.frombuffer(t.raw_data, np.int8) for t in graph.initializer if t.data_type == 3]
    assert len(kernels) > 80
    largest = max(int(np.abs(kernel.astype(int)).max()) for kernel in kernels)
    assert largest == _MOST_WEIGHT
    for within in (_TOP / _ROOM, _MIDDLE + _MIDDLE / _ROOM):
        assert 2 * largest * within < 1 << 15


def test_no_weight_of_the_layers_that_stay_floats_is_changed() -> None:
    data = weights.load("centerface")
    graph = read_model(in_integers(data, weights.load("centerface_ranges"))).graph
    kept, given = floats_of(graph), layers(data)
    stem = given[0]
    assert np.array_equal(kept[f"{stem.name}.linear.weights"], stem.kernel.astype(np.float32))
    heads = np.concatenate([layer.kernel for layer in given if layer.name in ("536", "538", "539", "540")])
    assert np.array_equal(kept[f"{CELLS}.weights"], heads.astype(np.float32))
    assert [value.name for value in graph.input] == [IMAGE]


def test_a_table_of_another_network_is_refused() -> None:
    table = weights.load("centerface_ranges")
    with pytest.raises(ValueError, match="another network"):
        in_integers(weights.load("centerface"), table + b"\0")


def test_ranges_are_rounded_up_to_a_quarter_of_an_octave() -> None:
    values = np.random.default_rng(0).uniform(0.01, 90, 500)
    kept = STEPS[np.frombuffer(encoded(values), np.uint8)]
    assert (kept >= values).all() and (kept < 1.1893 * values).all()
    assert encoded(np.array([0.0, 1e9])) == bytes((0, len(STEPS) - 1))


@pytest.mark.slow
def test_the_table_is_made_anew() -> None:
    made = np.frombuffer(ranges.ranges(ranges.pictures(20, 20, 1)), np.uint8).astype(int)
    kept = np.frombuffer(weights.load("centerface_ranges"), np.uint8)
    assert len(told(layers(weights.load("centerface")))) > 50
    # Another processor may round a sum otherwise, and so a range that lies at the border of two quarters.
    assert made.shape == kept.shape and np.abs(made - kept).max() <= 1
    assert np.count_nonzero(made != kept) < len(kept) / 100
