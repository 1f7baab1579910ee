"""Pixels into quantised coefficients, as libjpeg does it but with the same result on every machine."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.imaging.jpeg.coefficients import MAX_AC, MAX_DC, MIN_DC
from p3mdata.imaging.jpeg.structure import BLOCK, COEFS, COLOUR, GREY, Component
from p3mdata.native.blocks import Transform, coefficients

Plane = NDArray[np.float32]
Chosen = NDArray[np.bool_]

_BAND = 64  # rows of pixels computed at once, or a few more, so that the working set stays in the cache

# libjpeg's fixed-point weights of R, G, B and its offset, for Y, Cb, Cr. All sums of 8-bit values times these are
# integers below 2**24, so float32 holds them exactly, in whatever order they are added.
_YCC_BITS = 16
_YCC = np.array(
    [
        (19595, 38470, 7471, 1 << 15),
        (-11059, -21709, 32768, (128 << 16) + (1 << 15) - 1),
        (32768, -27439, -5329, (128 << 16) + (1 << 15) - 1),
    ],
    np.float32,
)

# The two-dimensional transform as one 64x64 matrix of integers. Every product and sum of it is an integer
# below 2**53, so float64 holds them exactly and no processor or BLAS can round differently.
_DCT_BITS = 13
_K = np.arange(BLOCK)
_DCT_1D = np.rint(
    np.cos((2 * _K[None, :] + 1) * _K[:, None] * np.pi / 16)
    * np.where(_K == 0, np.sqrt(1 / 8), 0.5)[:, None]
    * (1 << _DCT_BITS)
)
_DCT_2D = np.kron(_DCT_1D, _DCT_1D).T.copy()


_LOWEST, _HIGHEST = (
    np.array([dc] + [ac] * (COEFS - 1), np.float64) for dc, ac in ((MIN_DC, -MAX_AC), (MAX_DC, MAX_AC))
)
_COMPILED = Transform(
    _YCC.astype(np.int32), np.ascontiguousarray(_DCT_1D.T, np.int16), _LOWEST, _HIGHEST, float(1 << 2 * _DCT_BITS)
)


def quantised(
    pixels: NDArray[np.uint8], components: Sequence[Component], chosen: Sequence[Chosen]
) -> list[NDArray[np.int16]]:
    """The coefficients [n, 64] of the chosen blocks of each component, row after row.

    Args:
        pixels: uint8 RGB [height, width, 3], or [height, width] for a grey file.
        components: of the file.
        chosen: bool [block rows, block columns] for each component.
    """
    # Compiled code walks along rows.
    if pixels.strides[1:] != ((1,) if pixels.ndim == GREY + 1 else (COLOUR, 1)):
        pixels = pixels.copy()
    compiled = [
        coefficients(pixels, number, part.step, part.table, np.argwhere(which).astype(np.int32), _COMPILED)
        for number, (part, which) in enumerate(zip(components, chosen, strict=True))
    ]
    if all(blocks is not None for blocks in compiled):
        return [blocks for blocks in compiled if blocks is not None]
    return _banded(pixels, components, chosen)


def _banded(
    pixels: NDArray[np.uint8], components: Sequence[Component], chosen: Sequence[Chosen]
) -> list[NDArray[np.int16]]:
    """`quantised` without compiled code, in bands that fit the cache."""
    made: list[list[NDArray[np.int16]]] = [[] for _ in components]
    tall, wide = (math.lcm(*(part.footprint[axis] for part in components)) for axis in (0, 1))
    height = -(-_BAND // tall) * tall
    for top in range(0, len(pixels), height):
        parts = [
            which[top // part.footprint[0] : (top + height) // part.footprint[0]]
            for which, part in zip(chosen, components, strict=True)
        ]
        held = [np.flatnonzero(part.any(axis=0)) * c.footprint[1] for part, c in zip(parts, components, strict=True)]
        columns = np.concatenate(held) // wide
        if not len(columns):
            continue
        left, right = int(columns.min()) * wide, (int(columns.max()) + 1) * wide
        planes = _planes(pixels[top : top + height, left:right], (tall, wide))
        for new, plane, part, which in zip(made, planes, components, parts, strict=True):
            first, last = left // part.footprint[1], right // part.footprint[1]
            here = which[:, first:last]
            blocks = _blocks(_sampled(plane, part.step))[: here.shape[0], : here.shape[1]]
            new.append(_quantised(blocks[here].reshape(-1, COEFS), part.table))
    return [np.concatenate([np.zeros((0, COEFS), np.int16), *parts]) for parts in made]


def _planes(pixels: NDArray[np.uint8], unit: tuple[int, int]) -> Sequence[Plane]:
    """The components' values at full resolution, filled up to whole blocks by repeating the border, as encoders do."""
    down, across = (-side % size for side, size in zip(pixels.shape, unit, strict=False))
    if down or across:
        pixels = np.asarray(cv2.copyMakeBorder(pixels, 0, down, 0, across, cv2.BORDER_REPLICATE), np.uint8)
    values = pixels.astype(np.float32)
    if values.ndim == GREY + 1:
        return [values]
    values = np.asarray(cv2.transform(values, _YCC), np.float32)
    values *= 2.0**-_YCC_BITS
    return [np.asarray(plane, np.float32) for plane in cv2.split(np.floor(values, out=values))]


def _sampled(plane: Plane, step: tuple[int, int]) -> Plane:
    """Means of `step` (vertical, horizontal) pixels, rounded to the nearest integer, halves up."""
    count = step[0] * step[1]
    if count == 1:
        return plane
    total = sum(plane[y :: step[0], x :: step[1]] for y in range(step[0]) for x in range(step[1]))
    return np.asarray(np.floor((total + np.float32(count // 2)) / np.float32(count)), np.float32)


def _blocks(plane: Plane) -> Plane:
    """View a plane as [block rows, block columns, 8, 8]."""
    down, across = (side // BLOCK for side in plane.shape)
    return plane.reshape(down, BLOCK, across, BLOCK).swapaxes(1, 2)


def _quantised(samples: Plane, table: NDArray[np.uint16]) -> NDArray[np.int16]:
    """Quantised coefficients [n, 64] of samples [n, 64]."""
    divisor = table.astype(np.float64) * (1 << 2 * _DCT_BITS)
    sums = (samples - 128.0).astype(np.float64) @ _DCT_2D
    # Rounds halves away from zero, since the conversion to integers truncates. Both operands are integers below 2**44,
    # so that the quotient cannot round up to the next integer.
    sums += np.copysign(divisor / 2, sums)
    sums /= divisor
    return np.clip(sums, _LOWEST, _HIGHEST, out=sums).astype(np.int16)
