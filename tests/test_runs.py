"""Facemask files: every decoder reads what was meant, and their bytes are the same everywhere."""

from __future__ import annotations

import hashlib
import io
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from p3mdata.imaging.encode import encode_facemask, encode_mask
from p3mdata.imaging.metadata import leftovers
from p3mdata.imaging.runs import encode_runs

THREE = np.array([0, 64, 255], np.uint8)


def check(array: NDArray[np.uint8]) -> bytes:
    """A file that OpenCV, Pillow and zlib, which compares the checksum, read as the array."""
    data = encode_runs(array)
    assert data is not None and leftovers(data) == []
    assert np.array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED), array)
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "L" and np.array_equal(np.asarray(image), array)
    size = int.from_bytes(data[33:37], "big")
    raw = np.frombuffer(zlib.decompress(data[41 : 41 + size]), np.uint8).reshape(len(array), -1)
    assert np.array_equal(raw[:, 1:], array) and not raw[:, 0].any()
    return data


@pytest.mark.parametrize("value", THREE.tolist())
def test_runs_of_every_length(value: int) -> None:
    """Repeats of 3 to 258 have 29 symbols; what is left of longer runs may be 0, 1 or 2."""
    rows = np.zeros((800, 801), np.uint8)
    rows[np.tri(800, 801, dtype=bool)] = value
    check(rows)


@pytest.mark.parametrize("seed", range(12))
def test_any_facemask(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(12):
        small = rng.choice(THREE, rng.integers(1, 40, 2), p=rng.dirichlet((1, 1, 1)))
        array = small.repeat(rng.integers(1, 9), 0).repeat(rng.integers(1, 300), 1)
        data = check(array)
        rows, cols = (slice(*sorted(rng.integers(0, side + 1, 2).tolist())) for side in array.shape)
        cut = np.zeros_like(array)
        cut[rows, cols] = array[rows, cols]
        assert encode_facemask(array[rows, cols], (rows.start, cols.start), array.shape) == encode_facemask(cut)
        assert encode_facemask(array, (0, 0), array.shape) == data


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 1), (64, 64)])
def test_one_value_alone(shape: tuple[int, int]) -> None:
    for value in THREE:
        check(np.full(shape, value, np.uint8))


def test_the_checksum_does_not_follow_from_what_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in the packing is found by whoever unpacks."""
    from p3mdata.imaging import runs

    tokens = runs._tokens

    def wrong(values: Any, lengths: Any) -> Any:
        lengths = lengths.copy()
        lengths[0], lengths[1] = lengths[0] + 1, lengths[1] - 1
        return tokens(values, lengths)

    monkeypatch.setattr(runs, "_tokens", wrong)
    array = np.zeros((40, 40), np.uint8)
    array[10:20, 10:20] = 255
    data = encode_runs(array)
    assert data is not None
    with pytest.raises(zlib.error, match="incorrect data check"):
        zlib.decompress(data[41 : 41 + int.from_bytes(data[33:37], "big")])


def test_other_values_go_the_usual_way() -> None:
    array = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert encode_runs(array) is None
    assert np.array_equal(cv2.imdecode(np.frombuffer(encode_facemask(array), np.uint8), cv2.IMREAD_UNCHANGED), array)


def test_bytes_are_the_same_on_every_machine() -> None:
    y, x = np.mgrid[:301, :403]
    disc = (x - 170) ** 2 + (y - 140) ** 2 < 9000
    assert (
        hashlib.sha256(encode_mask(disc)).hexdigest()
        == "d4ffbc8a5bb5cffa6cb37662e9d3fea1f8c3c18bc32394e73412c743dea0bb8f"
    )
