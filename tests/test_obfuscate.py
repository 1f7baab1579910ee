"""Obfuscation: nothing outside the region changes, nothing outside contributes, and enough is lost inside."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from p3mdata.anonymize.masks import Patch, patch_of
from p3mdata.anonymize.noise import Noise
from p3mdata.anonymize.obfuscate import _weighted_rows, obfuscate
from p3mdata.config import Method
from p3mdata.records import Mask

Pixels = NDArray[Any]
NOISE = Noise(1.0, 16, b"a secret")


def noise(height: int, width: int, channels: int = 3, dtype: type = np.uint8, seed: int = 0) -> Pixels:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype)


def applied(pixels: Pixels, mask: Mask, method: Method, strength: float = 0.25, width: float | None = None) -> Pixels:
    out = pixels.copy()
    patch = patch_of(mask)
    obfuscate(out, patch, method, strength, patch.mask.shape[1] if width is None else width, NOISE)
    return out


@st.composite
def cases(draw: st.DrawFn) -> tuple[Pixels, Mask, Method, float, float]:
    """A random picture of any kind, and a random region that may touch borders and corners or be one pixel."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    dtype, channels = draw(st.sampled_from([np.uint8, np.uint16])), draw(st.sampled_from([1, 3]))
    seed = draw(st.integers(0, 2**16))
    pixels = noise(height, width, channels, dtype, seed)
    mask = np.zeros((height, width), bool)
    rows, cols = (sorted((draw(st.integers(0, n - 1)), draw(st.integers(0, n - 1)))) for n in (height, width))
    inner = mask[rows[0] : rows[1] + 1, cols[0] : cols[1] + 1]
    share = draw(st.sampled_from([0.1, 0.5, 1.0]))
    inner[:] = np.random.default_rng(seed + 1).random(inner.shape) < share
    return pixels, mask, draw(st.sampled_from(Method)), draw(st.sampled_from([0.02, 0.1, 0.25, 1.0])), 40.0


@settings(deadline=None)
@given(cases())
def test_nothing_outside_changes_and_the_kind_of_pixels_stays(
    case: tuple[Pixels, Mask, Method, float, float],
) -> None:
    pixels, mask, *how = case
    out = applied(pixels, mask, *how)
    assert out.dtype == pixels.dtype and out.shape == pixels.shape
    assert np.array_equal(out[~mask], pixels[~mask])


@settings(deadline=None)
@given(cases())
def test_nothing_outside_contributes(case: tuple[Pixels, Mask, Method, float, float]) -> None:
    pixels, mask, *how = case
    other = pixels.copy()
    other[~mask] = np.iinfo(pixels.dtype).max - other[~mask]
    assert np.array_equal(applied(pixels, mask, *how)[mask], applied(other, mask, *how)[mask])


@settings(deadline=None)
@given(cases())
def test_values_stay_within_those_of_the_region(case: tuple[Pixels, Mask, Method, float, float]) -> None:
    pixels, mask, method, *how = case
    if mask.any() and method not in (Method.ZERO, Method.DP_PIX):
        out = applied(pixels, mask, method, *how)[mask]
        assert out.min() >= pixels[mask].min() and out.max() <= pixels[mask].max()


@settings(deadline=None)
@given(cases())
def test_deterministic(case: tuple[Pixels, Mask, Method, float, float]) -> None:
    pixels, mask, *how = case
    assert np.array_equal(applied(pixels, mask, *how), applied(np.asfortranarray(pixels), mask, *how))


@pytest.mark.parametrize("method", Method)
def test_faces_do_not_bleed_into_each_other(method: Method) -> None:
    pixels = noise(60, 100)
    left, right = np.zeros((2, 60, 100), bool)
    left[10:50, 10:50], right[10:50, 50:90] = True, True
    both = applied(applied(pixels, left, method), right, method)
    assert np.array_equal(both, applied(applied(pixels, right, method), left, method))
    assert np.array_equal(both[left], applied(pixels, left, method)[left])


@pytest.mark.parametrize("method", [Method.BLUR, Method.MOSAIC, Method.FLAT, Method.PIXELISE_THEN_BLUR])
def test_a_face_of_one_colour_keeps_it_beside_any_background(method: Method) -> None:
    pixels = np.zeros((50, 50, 3), np.uint8)
    mask = np.zeros((50, 50), bool)
    mask[10:40, 15:45] = True
    pixels[mask] = (200, 150, 120)
    assert np.array_equal(applied(pixels, mask, method), pixels)


@pytest.mark.parametrize("method", Method)
def test_the_last_row_and_column_are_obfuscated(method: Method) -> None:
    pixels = noise(64, 80)
    pixels[-1], pixels[:, -1] = 255, 255
    pixels[-1, ::2], pixels[::2, -1] = 0, 0
    out = applied(pixels, np.ones((64, 80), bool), method).astype(int)
    for line in (out[-1], out[:, -1], out[0], out[:, 0]):
        assert np.median(np.abs(np.diff(line, axis=0))) <= 2


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("corner", [(0, 0), (0, -1), (-1, 0), (-1, -1)])
def test_a_region_of_one_pixel(corner: tuple[int, int], dtype: type) -> None:
    pixels = noise(9, 9, dtype=dtype)
    mask = np.zeros((9, 9), bool)
    mask[corner] = True
    for method in (Method.BLUR, Method.MOSAIC, Method.FLAT, Method.PIXELISE_THEN_BLUR):
        assert np.array_equal(applied(pixels, mask, method), pixels)
    assert not applied(pixels, mask, Method.ZERO)[corner].any()


def test_an_empty_region_changes_nothing() -> None:
    pixels = noise(9, 9)
    for method in Method:
        assert np.array_equal(applied(pixels, np.zeros((9, 9), bool), method), pixels)


def gaussian(pixels: Pixels, mask: Mask, sigma: float) -> NDArray[np.float64]:
    """Normalised convolution in floats: every pixel of the region weighs with its distance."""
    down, across = (np.exp(-0.5 * ((np.arange(n)[:, None] - np.arange(n)) / sigma) ** 2) for n in mask.shape)
    weight = down @ mask.astype(float) @ across
    sums = np.stack([down @ (pixels[..., c] * mask) @ across for c in range(pixels.shape[2])], axis=2)
    return sums / np.maximum(weight, 1e-300)[:, :, None]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("sigma", [1.0, 3.3, 7.9, 8.0, 15.9, 16.0, 30.0, 75.0])
@pytest.mark.parametrize("shape", ["rectangle", "ellipse", "specks"])
def test_blur_is_a_gaussian_over_the_region(sigma: float, shape: str, dtype: type) -> None:
    height, width = int(4.3 * sigma) + 12, int(3.1 * sigma) + 12
    patches = noise(8, 8, dtype=dtype, seed=3)
    pixels = cv2.resize(patches, (width, height), interpolation=cv2.INTER_NEAREST)
    mask = np.ones((height, width), bool)
    if shape != "rectangle":
        canvas = np.zeros((height, width), np.uint8)
        mask = cv2.ellipse(canvas, (width // 2, height // 2), (width // 2, height // 2), 0, 0, 360, 1, -1) > 0
    if shape == "specks":
        mask &= np.random.default_rng(4).random(mask.shape) < 0.3
    out = applied(pixels, mask, Method.BLUR, strength=1.0, width=sigma)
    error = np.abs(out - gaussian(pixels, mask, sigma))[mask] * (255 / np.iinfo(dtype).max)
    assert error.max() <= 2
    assert error.mean() <= 0.5


def test_sums_do_not_depend_on_their_order() -> None:
    rng = np.random.default_rng(5)
    matrix = rng.integers(0, 1 << 14, (60, 60)).astype(float)
    plane = rng.integers(0, 1 << 40, (60, 4)).astype(float) / 3
    shuffled = rng.permutation(60)
    assert np.array_equal(_weighted_rows(matrix, plane), _weighted_rows(matrix[:, shuffled], plane[shuffled]))
    assert np.allclose(_weighted_rows(matrix, plane), matrix @ plane, rtol=1e-6)


def detail_left(pixels: Pixels, out: Pixels, mask: Mask, width: int) -> float:
    """Share of the structure finer than a sixth of the face that survives."""

    def fine(image: Pixels) -> float:
        grey = image.astype(np.float32).mean(axis=2)
        return float((grey - cv2.GaussianBlur(grey, (0, 0), width / 6))[mask].var())

    return fine(out) / fine(pixels)


@pytest.mark.parametrize(
    ("method", "strength"),
    [
        (Method.BLUR, 0.25),
        (Method.BLUR, 0.1),
        (Method.MOSAIC, 0.2),
        (Method.PIXELISE_THEN_BLUR, 0.33),
    ],
)
def test_a_small_and_a_large_face_in_one_picture_lose_alike(method: Method, strength: float) -> None:
    shares = []
    pixels = np.full((1000, 1000, 3), 128, np.uint8)
    small, large = np.zeros((2, 1000, 1000), bool)
    face = cv2.resize(noise(20, 20, seed=6), (800, 800), interpolation=cv2.INTER_CUBIC)
    large[150:950, 150:950], small[20:60, 20:60] = True, True
    pixels[large] = face.reshape(-1, 3)
    pixels[small] = cv2.resize(face, (40, 40), interpolation=cv2.INTER_AREA).reshape(-1, 3)
    out = pixels.copy()
    for mask, width in ((small, 40), (large, 800)):
        obfuscate(out, patch_of(mask), method, strength, width)
    for mask, width in ((small, 40), (large, 800)):
        window = patch_of(mask).window
        shares.append(detail_left(pixels[window], out[window], mask[window], width))
    limit = 0.02 if method is Method.BLUR and strength > 0.2 else 0.12
    assert max(shares) < limit
    assert max(shares) < 3 * min(shares)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 50), st.integers(1, 50), st.sampled_from([1, 2, 7, 10, 60]), st.integers(0, 2**16))
def test_mosaic_cells_are_means_of_their_masked_pixels(height: int, width: int, cell: int, seed: int) -> None:
    pixels = noise(height, width, seed=seed)
    mask = np.random.default_rng(seed).random((height, width)) < 0.7
    mask[0, 0] = mask[-1, -1] = True
    out = applied(pixels, mask, Method.MOSAIC, strength=1.0, width=cell)
    for top in range(0, height, cell):
        for left in range(0, width, cell):
            square = slice(top, top + cell), slice(left, left + cell)
            if mask[square].any():
                mean = pixels[square][mask[square]].mean(axis=0)
                assert (np.abs(out[square][mask[square]] - mean) <= 0.5 + 1e-9).all()


@pytest.mark.parametrize("width", [40, 97, 800])
def test_mosaic_shows_few_columns(width: int) -> None:
    out = applied(noise(width, width), np.ones((width, width), bool), Method.MOSAIC, strength=0.2)
    assert 5 <= np.unique(out, axis=1).shape[1] <= 6
    assert 5 <= np.unique(out, axis=0).shape[0] <= 6


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_flat_is_the_mean_of_the_region(channels: int, dtype: type) -> None:
    pixels, mask = noise(37, 90, channels, dtype), np.zeros((37, 90), bool)
    mask[3:30, 11:80] = np.random.default_rng(2).random((27, 69)) < 0.6
    found = np.unique(applied(pixels, mask, Method.FLAT)[mask].reshape(mask.sum(), -1), axis=0)
    assert len(found) == 1 and (np.abs(found[0] - pixels[mask].reshape(mask.sum(), -1).mean(axis=0)) <= 0.5).all()


def test_pixelise_then_blur_shows_what_the_mosaic_does_and_no_edge() -> None:
    pixels, mask = noise(120, 120, seed=4), np.ones((120, 120), bool)
    mosaic = applied(pixels, mask, Method.MOSAIC, 0.25)
    blurred = applied(pixels, mask, Method.PIXELISE_THEN_BLUR, 0.25)
    assert np.array_equal(applied(mosaic, mask, Method.PIXELISE_THEN_BLUR, 0.25), blurred), "a function of the mosaic"
    steps = [int(np.abs(np.diff(made.astype(int), axis=1)).max()) for made in (mosaic, blurred)]
    assert steps[1] <= max(3, steps[0] / 4)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_zero_is_zero(channels: int, dtype: type) -> None:
    mask = np.zeros((20, 20), bool)
    mask[3:9, 11:] = True
    assert not applied(noise(20, 20, channels, dtype), mask, Method.ZERO)[mask].any()


def test_only_the_patch_is_touched_where_it_lies() -> None:
    pixels = noise(30, 30)
    out = pixels.copy()
    obfuscate(out, Patch(5, 7, np.ones((4, 6), bool)), Method.ZERO, 1.0, 6)
    changed = (out != pixels).any(axis=2)
    assert not out[5:9, 7:13].any()
    changed[5:9, 7:13] = False
    assert not changed.any()
