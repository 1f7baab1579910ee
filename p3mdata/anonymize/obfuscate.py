"""Obfuscations inside one region: pure functions, exact sums, same result on every machine.

Only pixels of the region contribute to what is written into it, so no colour crosses its edge or comes from
another face.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.anonymize.masks import Patch
from p3mdata.anonymize.noise import Noise
from p3mdata.config import Method

Pixels = NDArray[Any]
# A blur is computed on cells of this share of its standard deviation: coarser shows, finer only costs.
_CELLS_PER_SIGMA = 8
# Integer weights of this many bits, and sums below 2^53: there floats are exact, in whatever order they are added.
_WEIGHT_BITS, _EXACT_BITS = 14, 53
# OpenCV's masks go with up to four.
_MOST_CHANNELS = 4
# Standard deviation of the blur over a mosaic, as a share of a cell's side: the edges between cells are gone.
_BLUR_OF_A_CELL = 0.5


def obfuscate(
    pixels: Pixels, region: Patch, method: Method, strength: float, face_width: float, noise: Noise | None = None
) -> None:
    """Make a region unrecognisable, in place.

    Args:
        pixels: HxW or HxWx3, uint8 or uint16; changed inside the region only.
        region: Where.
        method: How.
        strength: Share of the face's width: standard deviation of the Gaussian, or side of a mosaic cell.
        face_width: Width of this face in pixels.
        noise: For dp-pix.

    Raises:
        ValueError: dp-pix without noise.
    """
    if not region.mask.any():
        return
    view = pixels[region.window]
    if method is Method.ZERO:
        view[region.mask] = 0
        return
    block = view if view.ndim == 3 else view[:, :, None]
    filled = obfuscated(block, region.mask, method, strength, face_width, noise)
    _copied(filled, region.mask, block)


def _copied(source: Pixels, mask: NDArray[np.bool_], into: Pixels) -> None:
    """Copy the pixels of a mask; OpenCV does in a tenth of numpy's time."""
    if source.shape[2] > _MOST_CHANNELS:
        np.copyto(into, source, where=mask[:, :, None])
    else:
        cv2.copyTo(source, mask.view(np.uint8), into)


def obfuscated(
    block: Pixels,
    weights: NDArray[Any],
    method: Method,
    strength: float,
    face_width: float,
    noise: Noise | None = None,
) -> Pixels:
    """What a block's pixels are replaced with, hxwxc; only pixels with a weight contribute.

    Args:
        block: hxwxc, uint8 or uint16.
        weights: hxw bool, or integers up to 255.
        method, strength, face_width, noise: As for `obfuscate`.
    """
    if method is Method.ZERO:
        return np.zeros_like(block)
    if method is Method.BLUR:
        return _blur(block, weights, max(1.0, strength * face_width))
    if method is Method.FLAT:
        return _mosaic(block, weights, max(weights.shape))
    cell = max(1, round(strength * face_width))
    if method is Method.MOSAIC:
        return _mosaic(block, weights, cell)
    if method is Method.PIXELISE_THEN_BLUR:
        return _blur(_mosaic(block, weights, cell), weights, max(1.0, _BLUR_OF_A_CELL * cell))
    if noise is None:
        raise ValueError("dp-pix needs noise")
    return _noisy_mosaic(block, weights, cell, face_width, noise)


def _cell_sums(block: Pixels, weights: NDArray[Any], cell: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Weighted sums of the pixels (rows, cols, channels) and of the weights (rows, cols, 1) per cell x cell square."""
    height, width = weights.shape
    rows, cols = -(-height // cell), -(-width // cell)
    plain = weights.dtype == np.bool_
    padded = np.zeros((rows * cell, cols * cell, block.shape[2]), block.dtype if plain else np.uint32)
    counted = np.zeros((rows * cell, cols * cell, 1), np.uint8)
    if plain:
        _copied(block, weights, padded[:height, :width])
    else:
        padded[:height, :width] = block.astype(np.uint32) * weights[:, :, None].astype(np.uint32)
    counted[:height, :width, 0] = weights

    def summed(values: NDArray[Any]) -> NDArray[np.int64]:
        # Rows first: whole lines are added at a time, and 32 bits hold 65535 values of 16 bits.
        lines = values.reshape(rows, cell, -1).sum(axis=1, dtype=np.uint32 if plain else np.uint64)
        sums: NDArray[np.int64] = lines.reshape(rows, cols, cell, -1).sum(axis=2, dtype=np.int64)
        return sums

    return summed(padded), summed(counted)


def _mosaic(block: Pixels, weights: NDArray[Any], cell: int) -> Pixels:
    sums, counts = _cell_sums(block, weights, cell)
    means = ((sums + counts // 2) // np.maximum(counts, 1)).astype(block.dtype)
    return _spread_out(means, weights, cell)


def _spread_out(means: Pixels, weights: NDArray[Any], cell: int) -> Pixels:
    height, width = weights.shape
    return means.repeat(cell, 0).repeat(cell, 1)[:height, :width]


def _noisy_mosaic(block: Pixels, weights: NDArray[Any], cell: int, face_width: float, noise: Noise) -> Pixels:
    """Differentially private pixelisation (Fan 2018): cell means with Laplace noise, rounded to levels that exist.

    A cell that the region cuts has fewer pixels, and so more noise. Where pixels have weights, the one with the largest
    weight moves its cell's mean most.
    """
    sums, counts = _cell_sums(block, weights, cell)
    top, most = int(np.iinfo(block.dtype).max), max(1, int(weights.max()))
    scales = noise.scales(counts / most, face_width, block.shape[2], top)
    drawn = noise.draw(sums, counts, (cell, most, face_width, block.dtype.name))
    noisy = sums / np.maximum(counts, 1) + scales * drawn
    return _spread_out(np.clip(np.rint(noisy), 0, top).astype(block.dtype), weights, cell)


def _gaussian_matrix(size: int, sigma: float) -> NDArray[np.float64]:
    """Row i holds the weights of all cells for cell i; normalisation follows from the mask's own blur."""
    distance = np.arange(size)[:, None] - np.arange(size)[None, :]
    return np.asarray(np.rint(np.exp(-0.5 * (distance / sigma) ** 2) * (1 << _WEIGHT_BITS)))


def _weighted_rows(matrix: NDArray[np.float64], plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """matrix @ plane without rounding in the sums; the plane is rounded to the bits that leave room for them."""
    room = _EXACT_BITS - int(np.frexp(plane.max() * matrix.sum(axis=1).max())[1])
    scale = 2.0 ** min(room, 0)
    return np.asarray(matrix @ np.rint(plane * scale) / scale)


def _blur(block: Pixels, weights: NDArray[Any], sigma: float) -> Pixels:
    """Normalised Gaussian: blur(pixels * weights) / blur(weights), on averaged cells, then bilinear to full size."""
    cell = max(1, int(sigma / _CELLS_PER_SIGMA))
    sums, counts = _cell_sums(block, weights, cell)
    rows, cols = counts.shape[:2]
    # Averaging over cells and interpolating between them already blur: together a variance of about cell^2 / 4.
    rest = max(sigma**2 - (cell**2 / 4 if cell > 1 else 0), 0.25)
    down, across = _gaussian_matrix(rows, rest**0.5 / cell), _gaussian_matrix(cols, rest**0.5 / cell)
    planes = np.concatenate([sums, counts], axis=2).astype(np.float64).transpose(2, 0, 1)
    blurred = np.stack([_weighted_rows(across, _weighted_rows(down, plane).T).T for plane in planes], axis=2)
    small = blurred[:, :, :-1] / np.maximum(blurred[:, :, -1:], 1e-12)
    small = np.clip(np.rint(small), 0, np.iinfo(block.dtype).max).astype(block.dtype)
    height, width = weights.shape
    if cell == 1:
        return np.asarray(small)
    full = cv2.resize(small, (cols * cell, rows * cell), interpolation=cv2.INTER_LINEAR_EXACT)
    return np.asarray(full).reshape(rows * cell, cols * cell, -1)[:height, :width]
