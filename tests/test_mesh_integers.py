"""The face mesh counted in integers: the same bytes with and without C, beside the file's floats; its bounds."""

from __future__ import annotations

import contextlib
import io
import zipfile
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from p3mdata.cli.sample import portrait
from p3mdata.faces import weights
from p3mdata.faces.inference import session
from p3mdata.faces.mesh_integers import MOST, MOST_OF_SPREAD, MeshNetwork, by_numpy, in_integers, told
from p3mdata.faces.tflite import as_onnx
from p3mdata.native import LEVELS
from p3mdata.native.mesh import SIDE, Mesh, Program
from tests.native_levels import use
from tools import mesh_ranges

Image = NDArray[np.uint8]


@pytest.fixture(scope="module")
def data() -> bytes:
    with zipfile.ZipFile(io.BytesIO(weights.load("face_landmarker"))) as task:
        return task.read("face_landmarks_detector.tflite")


@pytest.fixture(scope="module")
def mesh(data: bytes) -> Mesh:
    return in_integers(data, weights.load("mesh_ranges"))


def face(turned: float, side: float, alpha: float = 1.0) -> Image:
    """The portrait's face in a square of so many of its pixels."""
    matrix = cv2.getRotationMatrix2D(mesh_ranges.FACE[0], turned, SIDE / side)
    matrix[:, 2] += SIDE / 2 - np.array(mesh_ranges.FACE[0])
    cut = cv2.warpAffine(portrait(), matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.convertScaleAbs(cut, alpha=alpha), np.uint8)


@pytest.mark.parametrize("level", LEVELS)
def test_c_gives_the_bytes_of_numpy(level: str, mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, level)
    program = Program(mesh)
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    for picture in (face(10, 150), noise, np.full_like(noise, 255), face(0, 150)[:, ::-1].copy()[::-1]):
        out = program(picture)
        assert out is not None and out.tobytes() == by_numpy(mesh, picture).tobytes()


def test_without_the_library_numpy_counts(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "off")
    network = MeshNetwork(data, weights.load("mesh_ranges"))
    present, points = network(face(0, 150))
    assert present > 10 and points.shape == (478, 3)
    out = by_numpy(network.mesh, face(0, 150))
    assert present == out[0] and np.array_equal(points.ravel(), out[1:])


@pytest.mark.parametrize(("turned", "side", "alpha"), [(0, 150, 1), (25, 130, 0.4), (-15, 180, 1.5), (4, 120, 1)])
def test_points_lie_where_the_floats_of_the_file_have_them(
    turned: float, side: float, alpha: float, data: bytes, mesh: Mesh
) -> None:
    model, names = as_onnx(data)
    shown = face(turned, side, alpha)
    image = np.ascontiguousarray(shown.transpose(2, 0, 1)[None], np.float32) / 255
    _, present, points = session(model).run(names, {"image": image})
    out = Program(mesh)(shown)
    out = by_numpy(mesh, shown) if out is None else out
    assert abs(out[0] - present.item()) < 1.0
    assert np.abs(out[1:].reshape(478, 3) - points.reshape(478, 3))[:, :2].max() < 0.5


def test_no_sum_is_too_large(mesh: Mesh) -> None:
    def largest(layer: Any, most: int) -> int:
        return int((np.abs(layer.weights.astype(np.int64)).sum(0) * most + np.abs(layer.biases.astype(np.int64))).max())

    assert largest(mesh.stem, 255) < 2**31 and largest(mesh.head, MOST) < 2**31
    for block in mesh.blocks:
        assert largest(block.first, MOST) < 2**31 and largest(block.last, MOST) < 2**31
        # Floats of 32 bits hold these exactly.
        assert largest(block.spread, MOST_OF_SPREAD) < 2**24


def test_another_network_is_refused(data: bytes, mesh: Mesh) -> None:
    table = weights.load("mesh_ranges")
    with pytest.raises(ValueError, match="belongs to another network"):
        in_integers(data, table[:-1])
    with zipfile.ZipFile(io.BytesIO(weights.load("face_landmarker"))) as task, pytest.raises(ValueError):
        in_integers(task.read("face_detector.tflite"), table)
    with pytest.raises(ValueError, match="another network"):
        Program(replace(mesh, blocks=mesh.blocks[:-6]))
    wide = replace(mesh.blocks[0], inverse=np.ones(32, np.float32))
    with pytest.raises(ValueError, match="another network"):
        Program(replace(mesh, blocks=(wide, *mesh.blocks[1:])))
    # A row of the picture's half, times 16 channels, is what it has memory for.
    first, spread, last = (getattr(mesh.blocks[0], name) for name in ("first", "spread", "last"))
    for middle, fits in ((16, True), (32, False), (80, False)):
        many = {name: np.zeros(middle, np.float32) for name in ("positive", "negative")}
        wider = replace(
            mesh.blocks[0],
            first=replace(first, weights=np.zeros((16, middle), np.int16), biases=np.zeros(middle, np.int32), **many),
            spread=replace(spread, weights=np.zeros((9, middle), np.int16), biases=np.zeros(middle, np.int32), **many),
            last=replace(last, weights=np.zeros((middle, 16), np.int16)),
        )
        with contextlib.nullcontext() if fits else pytest.raises(ValueError, match="another network"):
            Program(replace(mesh, blocks=(wider, *mesh.blocks[1:])))
    # More is left for the last layer than the library has memory for.
    count, few = (SIDE // 2) ** 2 * 16, np.zeros(16, np.float32)
    head = replace(mesh.head, weights=np.zeros((count, 16), np.int16), biases=np.zeros(16, np.int32), positive=few)
    with pytest.raises(ValueError, match="another network"):
        Program(replace(mesh, blocks=(), head=replace(head, outputs=16)))


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((SIDE, SIDE, 3), np.float32),
        np.zeros((SIDE, SIDE - 1, 3), np.uint8),
        np.zeros((SIDE, SIDE, 6), np.uint8)[:, :, ::2],
    ],
)
def test_a_picture_of_another_kind_is_refused(wrong: NDArray[Any], mesh: Mesh) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        Program(mesh)(wrong)


def test_the_table_is_told_anew_by_its_tool(data: bytes) -> None:
    counts = [channels for _, channels in told(data)]
    table = np.frombuffer(weights.load("mesh_ranges"), np.uint8)
    some = np.frombuffer(mesh_ranges.ranges(mesh_ranges.squares(6, 1)), np.uint8)
    assert len(some) == len(table) == sum(counts)
    # Fewer pictures show no larger values; a quarter of an octave is left to how floats are summed.
    assert (some <= table.astype(int) + 1).all() and np.mean(table.astype(int) - some) < 6
