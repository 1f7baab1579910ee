"""Undoing a blur whose strength is known: Wiener deconvolution inside the mask; pure functions."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.anonymize.masks import Patch
from p3mdata.records import Mask

Pixels = NDArray[np.uint8]
Plane = NDArray[np.float64]

# Cells across one standard deviation on which the inverse is computed: finer detail is gone for good.
_CELLS_PER_SIGMA = 6
# Least noise in a cell's mean, and step from cell to cell in a clear face, in 8-bit levels; only their ratio matters.
# Rounding to 8 bits leaves 0.2 (measured); what a file's compression adds is measured per face.
_LEAST_NOISE, _STEP = 0.2, 10.0
# Standard deviations after which a Gaussian's weights (4e-6) are left away.
_REACH = 5
_MOST_ROUNDS = 300
_ENOUGH = 1e-6


def deconvolve(pixels: Pixels, region: Patch, covered: Mask, sigma: float) -> Pixels:
    """Estimate what was in a blurred region: the Wiener (least mean square error) estimate with known sigma.

    The blur is the tool's own: a Gaussian normalised by the mask, B(m x) / B(m). Because of the mask it is no plain
    convolution, so that the estimate is found by conjugate gradients and not by one division of spectra. The prior is
    that of natural images, whose power falls with the square of the frequency. The noise power is taken from the
    picture: what a first estimate cannot explain is noise.

    Args:
        pixels: HxWx3, 8-bit RGB; not changed.
        region: The pixels that went into the blur; an attacker has them from the published facemask.
        covered: HxW, True where the picture shows the blur and nothing else.
        sigma: Standard deviation of the blur in pixels.

    Returns:
        A copy of the picture with the estimate inside the region.
    """
    out = pixels.copy()
    block = out[region.window]
    cell = max(1, round(sigma / _CELLS_PER_SIGMA))
    share = _cell_means(block, region.mask, cell)[1]
    seen, trust = _cell_means(block, region.mask & _shrunk(covered)[region.window], cell)
    if not trust.any():
        return out
    inside = share[:, :, 0] > 0
    certain = trust[:, :, 0] > 0.5 * trust.max()
    level = seen[certain].mean(axis=0)
    total = np.maximum(_gaussian(share, sigma / cell), 1e-12)

    def blurred(x: Plane) -> Plane:
        return _gaussian(share * x, sigma / cell) / total

    def transposed(y: Plane) -> Plane:
        return share * _gaussian(y / total, sigma / cell)

    def estimate(noise: float) -> Plane:
        def equation(x: Plane) -> Plane:
            return transposed(trust * blurred(x)) + (noise / _STEP) ** 2 * _roughness(x, inside)

        return _conjugate_gradients(equation, transposed(trust * (seen - level)))

    unexplained = (seen - level - blurred(estimate(_LEAST_NOISE)))[certain]
    found = estimate(max(_LEAST_NOISE, float(np.sqrt((unexplained**2).mean())))) + level
    size = inside.shape[1] * cell, inside.shape[0] * cell
    full = cv2.resize(found, size, interpolation=cv2.INTER_CUBIC)[: region.mask.shape[0], : region.mask.shape[1]]
    block[region.mask] = np.clip(np.rint(full[region.mask]), 0, 255).astype(np.uint8)
    return out


def _shrunk(area: Mask) -> Mask:
    """Without the pixels beside its edge, which decoders mix with what lies outside."""
    return np.asarray(cv2.erode(area.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0)


def _cell_means(block: Pixels, mask: Mask, cell: int) -> tuple[Plane, Plane]:
    """Means of the masked pixels per cell x cell square (rows, cols, 3); share that is masked (rows, cols, 1)."""
    height, width = mask.shape
    rows, cols = -(-height // cell), -(-width // cell)
    padded = np.zeros((rows * cell, cols * cell, 4))
    padded[:height, :width, :3] = block * mask[:, :, None]
    padded[:height, :width, 3] = mask
    sums = padded.reshape(rows, cell, cols, cell, 4).sum(axis=(1, 3))
    return sums[:, :, :3] / np.maximum(sums[:, :, 3:], 1), sums[:, :, 3:] / cell**2


def _gaussian(planes: Plane, sigma: float) -> Plane:
    """Gaussian of every channel (rows, cols, channels), not normalised; beyond the border everything is 0.

    It is its own transpose.
    """
    reach = math.ceil(_REACH * sigma)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    done = cv2.sepFilter2D(planes, -1, kernel, kernel, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(done, np.float64).reshape(planes.shape)


def _roughness(x: Plane, inside: Mask) -> Plane:
    """Gradient of half the squared differences between neighbouring cells of the mask."""
    out = np.zeros_like(x)
    for a, b in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        gap = (x[a] - x[b]) * (inside[a] & inside[b])[:, :, None]
        out[a] += gap
        out[b] -= gap
    return out


def _conjugate_gradients(equation: Callable[[Plane], Plane], wanted: Plane) -> Plane:
    """Solution x of equation(x) = wanted for a symmetric positive operator, all channels at once."""
    x = np.zeros_like(wanted)
    rest = wanted.copy()
    direction = rest.copy()
    power = start = float((rest**2).sum())
    for _ in range(_MOST_ROUNDS):
        if power <= _ENOUGH**2 * start:
            break
        image = equation(direction)
        length = power / float((direction * image).sum())
        x += length * direction
        rest -= length * image
        power, before = float((rest**2).sum()), power
        direction = rest + power / before * direction
    return x
