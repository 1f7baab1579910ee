"""Images at other sizes: the same bytes with and without the C library, and what they stand for."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from p3mdata.faces import sampling
from p3mdata.native import LEVELS
from p3mdata.native.sampling import ONE, Taps, sampled
from tests.native_levels import use

SIDES = (1, 2, 3, 4, 5, 9, 10, 11, 17, 64, 130)


@pytest.mark.parametrize("level", LEVELS)
def test_resized_images_are_those_of_opencv(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, level)
    rng = np.random.default_rng(0)
    for _ in range(150):
        height, width, rows, columns = rng.choice(SIDES, 4).tolist()
        # Rows lie apart, as those of a window of a larger image do.
        image = rng.choice([0, 1, 127, 254, 255], (height, width + 2, 3)).astype(np.uint8)[:, 1:-1]
        expected = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_LINEAR_EXACT)
        assert np.array_equal(sampling.resized(image, rows, columns), expected), (height, width, rows, columns)
        part = slice(rows // 3, rows), slice(0, columns // 2 + 1)
        assert np.array_equal(sampling.window_of_resized(image, (rows, columns), part), expected[part])


@pytest.mark.parametrize("level", LEVELS)
def test_crops_are_the_same_with_and_without(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    for _ in range(60):
        height, width = rng.choice(SIDES, 2).tolist()
        image = rng.choice([0, 255, 60], (height, width, 3)).astype(np.uint8)
        corner = tuple(rng.uniform(-1.5, 1.2, 2) * 100)
        step, side = float(rng.choice([0.3, 1, 1.4, 2])), int(rng.choice([1, 9, 37]))
        use(monkeypatch, "off")
        expected = sampling.crop(image, corner, step, side)
        assert expected.flags.c_contiguous
        use(monkeypatch, level)
        assert np.array_equal(sampling.crop(image, corner, step, side), expected)


@pytest.mark.parametrize("step", [1.0, 1.5, 2.0])
def test_a_pixel_of_a_crop_is_the_mean_of_what_it_covers(step: float) -> None:
    image = np.random.default_rng(2).integers(0, 256, (60, 60, 3), np.uint8)
    whole = image[6:54, 6:54].astype(np.uint8)
    size = round(48 / step)
    expected = cv2.resize(whole, (size, size), interpolation=cv2.INTER_AREA).astype(int)
    found = sampling.crop(image, (6, 6), step, size).astype(int)
    assert np.abs(found - expected).max() <= 1
    # Half a pixel further, and beyond the end, which is repeated.
    beyond = sampling.crop(image, (59.5, 70), step, 3)
    assert (beyond == image[-1, -1]).all()


def test_what_lies_at_no_place_is_no_crop() -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    assert sampling.crop(image, (1e30, -1e30), 1.0, 4).shape == (4, 4, 3)
    with pytest.raises(ValueError), np.errstate(invalid="ignore"):
        sampling.crop(image, (float("nan"), 0), 1.0, 4)


def test_taps_stay_within_their_image() -> None:
    first, weights = np.array([0, 8], np.int32), np.array([[ONE, 0], [128, 128]], np.int16)
    taps = Taps(10, first, weights)
    assert len(taps.part(1, 2).first) == 1
    for wrong in (first - 1, first + 1):
        with pytest.raises(ValueError, match="beyond"):
            Taps(10, wrong, weights)
    for other in (weights + np.int16(1), weights * np.int16(-1)):
        with pytest.raises(ValueError, match="add up"):
            Taps(10, first, other)
    with pytest.raises(ValueError, match="expected int32"):
        Taps(10, first.astype(np.int64), weights)
    with pytest.raises(ValueError, match="not those of an image of 9x10"):
        sampled(np.zeros((10, 9, 3), np.uint8), taps, taps)
