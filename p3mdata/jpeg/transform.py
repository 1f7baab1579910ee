"""Pixels into quantised coefficients, as libjpeg does it but with the same result on every machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from p3mdata.jpeg.coefficients import MAX_AC, MAX_DC, MIN_DC, Coefs
from p3mdata.jpeg.structure import BLOCK, COEFS, Component

CHUNK = 1 << 13  # blocks computed at once, so that the working set stays near the cache

# libjpeg's fixed-point weights of R, G, B and its offset, all times 2**16, for Y, Cb, Cr.
_YCC_BITS = 16
_YCC = (
    (19595, 38470, 7471, 1 << 15),
    (-11059, -21709, 32768, (128 << 16) + (1 << 15) - 1),
    (32768, -27439, -5329, (128 << 16) + (1 << 15) - 1),
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


def requantised(
    coefs: Coefs, pixels: NDArray[np.uint8], number: int, part: Component, chosen: NDArray[np.bool_]
) -> Coefs:
    """Copy the coefficients of component `number`, with the chosen blocks taken from the pixels instead."""
    rows, cols = np.nonzero(chosen)
    if not len(rows):
        return coefs
    top, left = int(rows.min()), int(cols.min())
    box = _as_blocks(pixels, part.footprint, (top, int(rows.max()) + 1), (left, int(cols.max()) + 1))
    divisor = part.table.astype(np.float64) * (1 << 2 * _DCT_BITS)
    coefs = coefs.copy()
    for start in range(0, len(rows), CHUNK):
        y, x = rows[start : start + CHUNK], cols[start : start + CHUNK]
        samples = _samples(box[y - top, x - left], number, part.step).reshape(-1, COEFS)
        sums = (samples - 128.0) @ _DCT_2D
        # Both operands are integers below 2**44, so the quotient cannot round up to the next integer.
        new = np.copysign(np.floor((np.abs(sums) + divisor / 2) / divisor), sums)
        np.clip(new[:, 1:], -MAX_AC, MAX_AC, out=new[:, 1:])
        np.clip(new[:, 0], MIN_DC, MAX_DC, out=new[:, 0])
        coefs[y, x] = new.astype(np.int16)
    return coefs


def _as_blocks(
    pixels: NDArray[np.uint8], footprint: tuple[int, int], rows: tuple[int, int], cols: tuple[int, int]
) -> NDArray[np.uint8]:
    """Arrange a range of block rows and columns as [rows, columns, height, width, channels] of blocks."""
    tall, wide = footprint
    area = pixels[rows[0] * tall : rows[1] * tall, cols[0] * wide : cols[1] * wide]
    down, across = rows[1] - rows[0], cols[1] - cols[0]
    # Encoders fill the blocks beyond the border by repeating it.
    missing = [(0, down * tall - area.shape[0]), (0, across * wide - area.shape[1]), (0, 0)]
    area = np.pad(area, missing[: area.ndim], mode="edge")
    return area.reshape(down, tall, across, wide, -1).transpose(0, 2, 1, 3, 4)


def _samples(blocks: NDArray[np.uint8], number: int, step: tuple[int, int]) -> NDArray[np.int32]:
    """Turn pixel blocks [n, 8 * step, 8 * step, channels] into samples [n, 8, 8] of component `number`."""
    if blocks.shape[-1] == 1:
        return blocks[..., 0].astype(np.int32)
    red, green, blue, offset = _YCC[number]
    plane = np.multiply(blocks[..., 0], red, dtype=np.int32)
    plane += np.multiply(blocks[..., 1], green, dtype=np.int32)
    plane += np.multiply(blocks[..., 2], blue, dtype=np.int32)
    plane += offset
    plane >>= _YCC_BITS
    if step == (1, 1):
        return plane
    count = step[0] * step[1]
    total = np.full((len(plane), BLOCK, BLOCK), count // 2, np.int32)
    for y in range(step[0]):
        for x in range(step[1]):
            total += plane[:, y :: step[0], x :: step[1]]
    return total // np.int32(count)
