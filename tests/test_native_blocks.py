"""Blocks of JPEG files made by the C library: the same coefficients as without it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from p3mdata.imaging.jpeg.structure import Component
from p3mdata.imaging.jpeg.transform import _COMPILED, quantised
from p3mdata.native import LEVELS
from p3mdata.native.blocks import coefficients
from tests.native_levels import use

STEPS = [(1, 1), (2, 2), (1, 2), (2, 1), (4, 1), (1, 4), (4, 2), (3, 1), (1, 3)]


def components(height: int, width: int, grey: bool, step: tuple[int, int], top: int) -> list[Component]:
    tables = np.random.default_rng(height).integers(1, top, (3, 64)).astype(np.uint16)
    steps = [(1, 1)] if grey else [(1, 1), step, step]
    grids = [(-(-height // (8 * tall)), -(-width // (8 * wide))) for tall, wide in steps]
    return [
        Component(step if step != one and not grey else (1, 1), one, grid, table)
        for one, grid, table in zip(steps, grids, tables, strict=False)
    ]


@pytest.mark.parametrize("level", LEVELS)
def test_coefficients_are_the_same_with_and_without(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for number in range(54):
        height, width = (int(side) for side in rng.choice([1, 2, 7, 8, 9, 16, 31, 64, 97, 560], 2))
        grey = number % 5 == 0
        shape = (height, width + 2) if grey else (height, width + 2, 3)
        # Rows lie apart; extreme values reach the limits of coefficients.
        values = [0, 255] if number % 2 else [3, 90, 91, 200, 254]
        pixels = rng.choice(values, shape).astype(np.uint8)[:, 1:-1]
        parts = components(height, width, grey, STEPS[number % len(STEPS)], (2, 30, 32000)[number % 3])
        chosen = [rng.random(part.grid) < 0.7 for part in parts]
        use(monkeypatch, "off")
        expected = quantised(pixels, parts, chosen)
        use(monkeypatch, level)
        for found, wanted in zip(quantised(pixels, parts, chosen), expected, strict=True):
            assert found.dtype == np.int16 and np.array_equal(found, wanted)


def test_what_cannot_be_walked_through_is_refused() -> None:
    pixels, table = np.zeros((16, 16, 3), np.uint8), np.ones(64, np.uint16)
    places = np.array([[0, 0], [1, 1]], np.int32)
    for wrong in (pixels[:, ::2], pixels.astype(np.int8), pixels[:, :, :2]):
        with pytest.raises(ValueError, match="whole rows"):
            coefficients(wrong, 0, (1, 1), table, places, _COMPILED)
    with pytest.raises(ValueError, match="beyond"):
        coefficients(pixels, 1, (2, 2), table, places, _COMPILED)
    with pytest.raises(ValueError, match="beyond"):
        coefficients(pixels, 0, (1, 1), table, places - np.int32(1), _COMPILED)
    with pytest.raises(ValueError, match="beyond"):
        coefficients(pixels[:0], 0, (1, 1), table, places, _COMPILED)
    nothing = coefficients(np.zeros((0, 0, 3), np.uint8), 0, (1, 1), table, places[:0], _COMPILED)
    assert nothing is None or nothing.shape == (0, 64)
    for step in ((0, 1), (5, 1)):
        with pytest.raises(ValueError, match="no component"):
            coefficients(pixels, 0, step, table, places, _COMPILED)
    with pytest.raises(ValueError, match="table of 64"):
        coefficients(pixels, 0, (1, 1), np.zeros(64, np.uint16), places, _COMPILED)
    with pytest.raises(ValueError, match="cosines must be"):
        dataclasses.replace(_COMPILED, cosines=_COMPILED.cosines[::-1])
