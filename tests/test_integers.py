"""Networks in integers: what they find beside their files' floats, their bounds, and how their steps are made."""

from __future__ import annotations

import cv2
import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from p3mdata.faces import weights
from p3mdata.faces.detectors import CenterFace, LibFaceDetection, iou
from p3mdata.faces.engine import Engine
from p3mdata.faces.inference import session
from p3mdata.faces.integers import IMAGE, STEPS, Counted, Layer, encoded, in_integers, told
from p3mdata.native import LEVELS
from p3mdata.native.network import network
from tests.factories import astronaut
from tests.native_levels import use
from tools import ranges
from tools.ranges import NETWORKS, in_floats, planes

Image = NDArray[np.uint8]


def _layers(name: str) -> list[Layer]:
    return NETWORKS[name][0](weights.load(name))


def _counted(name: str) -> list[Counted]:
    return in_integers(_layers(name), weights.load(f"{name}_ranges"))


@pytest.fixture(scope="module")
def floats() -> onnxruntime.InferenceSession:
    """CenterFace's own network, in floats."""
    return session(in_floats(_layers("centerface")))


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
    cells = floats.run(["cells"], {IMAGE: planes(scene)})[0][0]
    heat, log_size, offset, points = 1 / (1 + np.exp(-cells[:1])), cells[1:3], cells[3:5], cells[5:]
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


def test_integers_score_as_floats_do_at_every_level_of_libfacedetection() -> None:
    scene = _crowd((576, 672), 0.5)
    whole = LibFaceDetection()._network(scene)
    names = [layer.name for layer in _layers("libfacedetection") if layer.output]
    exact = session(in_floats(_layers("libfacedetection"))).run(names, {IMAGE: planes(scene)})
    sure = 0
    for ours, floats in zip(whole, (values[0] for values in exact), strict=True):
        here, there = (1 / np.sqrt((1 + np.exp(-c[0])) * (1 + np.exp(-c[1]))) for c in (ours, floats))
        at = there > 0.5
        sure += np.count_nonzero(at)
        assert np.abs(here - there)[at].max(initial=0) < 0.12
        assert np.abs(ours[2:] - floats[2:])[:, at].mean() < 0.06 if at.any() else True
    assert sure > 20


@pytest.mark.parametrize("name", NETWORKS)
def test_sums_are_exact_in_floats_and_weights_fit(name: str) -> None:
    counted = _counted(name)
    high = {IMAGE: 255, **{layer.name: max(layer.high, -layer.low) for layer in counted}}
    most = 0
    for layer in counted:
        if layer.weights is None or layer.biases is None:
            continue
        (source,) = layer.sources
        kernel = np.abs(layer.weights.astype(np.int64))
        most = max(most, int((kernel.sum((1, 2, 3)) * high[source] + np.abs(layer.biases.astype(np.int64))).max()))
        if high[source] <= 255 and source != IMAGE and layer.kind != "depthwise":
            assert kernel.max() <= 127
    assert 1 << 23 < most < 1 << 24
    limits = {(layer.low, layer.high) for layer in counted if not layer.output}
    assert limits <= {(0, 255), (-127, 127), (0, 4095), (-4095, 4095)}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_library_and_onnxruntime_give_the_same_bytes(
    name: str, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, level)
    counted = _counted(name)
    compiled = network(counted)
    # Where the library would be slower it is not used.
    assert compiled is not None and (Engine(counted)._native is None) == (level == "generic")
    monkeypatch.setenv("P3MDATA_NATIVE", "off")
    plain = Engine(counted)
    assert plain._native is None
    noise = np.random.default_rng(4).integers(0, 256, (101, 150, 3), np.uint8)
    for picture in (noise, astronaut(96), np.zeros((3, 5, 3), np.uint8)):
        for ours, theirs in zip(compiled(picture, 32), plain(picture), strict=True):
            assert ours.dtype == np.float32 and np.array_equal(ours, theirs)


@pytest.mark.parametrize(("cut", "more"), [(0, b"\0"), (1, b""), (0, bytes(40))])
def test_a_table_of_another_network_is_refused(cut: int, more: bytes) -> None:
    table = weights.load("libfacedetection_ranges")
    with pytest.raises(ValueError, match="another network"):
        in_integers(_layers("libfacedetection"), table[: len(table) - cut] + more)


def test_ranges_are_rounded_up_to_a_quarter_of_an_octave() -> None:
    values = np.random.default_rng(0).uniform(0.01, 90, 500)
    kept = STEPS[np.frombuffer(encoded(values), np.uint8)]
    assert (kept >= values).all() and (kept < 1.1893 * values).all()
    assert encoded(np.array([0.0, 1e9])) == bytes((0, len(STEPS) - 1))


def test_pictures_may_exceed_what_was_seen_by_as_much_again() -> None:
    """And a channel that was hardly used is told no finer than an eighth of the layer's largest."""
    kernel = np.array([[0.1, 0.2, 0.3], [0.03, 0.02, 0.01]])[:, :, None, None]
    first = Layer("first", "conv", (IMAGE,), kernel, np.zeros(2), relu=True)
    last = Layer("last", "conv", ("first",), np.ones((1, 2, 1, 1)), np.zeros(1), output=True)
    counted = in_integers([first, last], encoded(np.array([64.0, 0.5])))[0]
    assert counted.weights is not None and counted.scales is not None
    steps = kernel / (counted.weights * counted.scales[:, None, None, None])
    assert np.allclose(steps[:, :, 0, 0], np.array([[64.0], [8.0]]) * 2 / 255, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_the_table_is_made_anew(name: str) -> None:
    layers, side = _layers(name), NETWORKS[name][1]
    made = np.frombuffer(ranges.ranges(layers, ranges.pictures(side, 20, 20, 1)), np.uint8).astype(int)
    kept = np.frombuffer(weights.load(f"{name}_ranges"), np.uint8)
    assert len(told(layers)) > 10
    # Another processor may round a sum otherwise, and so a range that lies at the border of two quarters.
    assert made.shape == kept.shape and np.abs(made - kept).max() <= 1
    assert np.count_nonzero(made != kept) < len(kept) / 100
