"""Robust matting (Wang and Cohen, 'Optimized Color Sampling for Robust Matting', CVPR 2007).

Each unknown pixel takes 20 foreground and 20 background samples along the border of the known areas (section 3.1),
looks at all 400 pairs, and believes the three best; how good they are is its confidence. A graph of the matting
Laplacian's weights then joins alpha between pixels, where a confident pixel keeps its own (section 4).

Published: numbers of samples and pairs, the confidence with sigma 0.1, the weights of the graph with gamma 0.1. Decided
here: samples follow the traced border to both sides of the nearest border pixel, `_SPACING` apart.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.imaging.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from p3mnet.baselines.solving import Floats, laplacian, solve_alpha

_SAMPLES, _BEST = 20, 3
_SPACING = 5
_SIGMA, _GAMMA = 0.1, 0.1
# Unknown pixels whose pairs are looked at together; bounds memory (400 pairs each).
_CHUNK = 4096
_TINY = 1e-6
_MOST = 8.0


def robust_matting(image: NDArray[np.uint8], trimap: NDArray[np.uint8]) -> Floats:
    """Alpha by robust matting.

    Args:
        image: RGB, HxWx3.
        trimap: HxW of 0, 128, 255 with some of each.

    Returns:
        HxW in 0..1; 0 and 1 where the trimap knows, within the solver's precision.
    """
    estimate, confidence = sampled(image, trimap)
    # To the foreground and to the background: by the estimate if it is trusted, else by the side that it is on.
    towards = _GAMMA * (confidence * estimate + (1 - confidence) * (estimate > 0.5))
    return solve_alpha(laplacian(image, trimap), trimap, towards / _GAMMA, np.full(trimap.shape, _GAMMA))


def sampled(image: NDArray[np.uint8], trimap: NDArray[np.uint8]) -> tuple[Floats, Floats]:
    """Alpha by the three best pairs of each unknown pixel, and how far it can be trusted; both HxW in 0..1."""
    unknown = trimap == UNKNOWN
    places = np.argwhere(unknown)
    colours = image[unknown] / 255
    sides = [_along(border(trimap, side), places) for side in (FOREGROUND, BACKGROUND)]
    alpha, confidence = np.zeros(len(places)), np.zeros(len(places))
    for start in range(0, len(places), _CHUNK):
        part = slice(start, start + _CHUNK)
        fore, back = (image[tuple(np.moveaxis(side[part], 2, 0))] / 255 for side in sides)
        alpha[part], confidence[part] = _judged(colours[part], fore, back)
    found = np.zeros((2, *trimap.shape))
    found[0][unknown], found[1][unknown] = alpha, confidence
    return found[0], found[1]


def border(trimap: NDArray[np.uint8], side: int) -> NDArray[np.int64]:
    """Rows and columns [S, 2] of the known pixels of one side that touch the unknown area, in traced order."""
    known = (trimap == side).astype(np.uint8)
    near = cv2.dilate((trimap == UNKNOWN).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    traced, _ = cv2.findContours(known, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    places = [line[:, 0, ::-1].astype(np.int64) for line in traced]
    places = [line[near[line[:, 0], line[:, 1]]] for line in places]
    found = np.concatenate(places) if places else np.empty((0, 2), np.int64)
    return found if len(found) else np.argwhere(known)


def _along(line: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Samples [U, 20, 2] on both sides of the border pixel that is nearest to each place."""
    from scipy.spatial import KDTree

    _, nearest = KDTree(line).query(places)
    steps = (np.arange(_SAMPLES) - _SAMPLES // 2) * _SPACING
    found: NDArray[np.int64] = line[(nearest[:, None] + steps) % len(line)]
    return found


def _judged(colour: Floats, fore: Floats, back: Floats) -> tuple[Floats, Floats]:
    """Colours [U, 3] and samples [U, 20, 3] of both sides -> alpha and confidence [U]."""
    axis = fore[:, :, None] - back[:, None]
    length = np.square(axis).sum(3)
    offset = colour[:, None, None] - back[:, None]
    alpha = np.clip((offset * axis).sum(3) / np.maximum(length, _TINY), 0, 1)
    misfit = np.square(offset - alpha[..., None] * axis).sum(3) / np.maximum(length, _TINY)
    far_fore, far_back = (_remoteness(colour, side) for side in (fore, back))
    confidence = np.exp(-misfit * far_fore[:, :, None] * far_back[:, None] / _SIGMA**2)
    flat = confidence.reshape(len(colour), -1)
    best = np.argsort(-flat, 1, kind="stable")[:, :_BEST]
    chosen = np.take_along_axis(alpha.reshape(len(colour), -1), best, 1)
    return chosen.mean(1), np.take_along_axis(flat, best, 1).mean(1)


def _remoteness(colour: Floats, side: Floats) -> Floats:
    """1 for the sample of the most similar colour, more for others; [U, 20]."""
    distance = np.square(side - colour[:, None]).sum(2)
    far: Floats = np.exp(np.minimum(distance / np.maximum(distance.min(1, keepdims=True), _TINY) - 1, _MOST))
    return far
