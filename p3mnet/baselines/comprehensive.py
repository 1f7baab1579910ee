"""Comprehensive sampling (Shahrian, Rajan, Price, Cohen, 'Improving Image Matting Using Comprehensive Sampling Sets',
CVPR 2013).

Samples are not pixels but clusters of colour: the known areas are divided by their distance to the unknown one, wider
for pixels that lie deeper in it, and each part gives its clusters. A pair is judged by how well it explains the
colour, how near it lies, and how little the two clusters overlap (section 3.3, objective K S C). The best pair gives
alpha and confidence, and the matting Laplacian the rest.

Published: sets by distance, clusters in colour and then in place, the three factors, refinement by confidence. Decided
here: three parts (near the border, a band, everything), up to 12 clusters of colour by k-means from fixed seeds, each
divided in up to 3 of place, overlap as the distance of the means in units of their deviation, a distance that counts
four times, and a refinement that trusts an estimate a tenth as much as published (0.01 instead of 0.1, falling with
confidence): clusters of few samples are surer than they should be. On portraits the method is before all other classic
ones, as in the paper's table 2; on composites whose silhouettes are filled with any photograph it is 2 % behind
closed-form, since colours at such an edge are none that the inside knows (benchmarks/RESULTS.md).
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.imaging.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from p3mnet.baselines.solving import Floats, laplacian, solve_alpha

_COLOURS, _PLACES = 12, 3
# Widths of the parts as shares of the unknown area's depth; the last one is everything.
_WIDTHS = (0.5, 2.0)
# Weight of an estimate that is sure, and how fast it falls with confidence; of a sample's distance.
_GAMMA, _SURE, _NEAR = 0.01, 4, 4
_ROUNDS = 8
_MOST_PIXELS = 20_000
_CHUNK = 2048
_TINY = 1e-6


class Clusters(NamedTuple):
    """Samples of one side: mean colours [S, 3] in 0..1, mean places [S, 2], variances of the colour [S]."""

    colours: Floats
    places: Floats
    spread: Floats


def comprehensive_matting(image: NDArray[np.uint8], trimap: NDArray[np.uint8]) -> Floats:
    """Alpha by comprehensive sampling.

    Args:
        image: RGB, HxWx3.
        trimap: HxW of 0, 128, 255 with some of each.

    Returns:
        HxW in 0..1; 0 and 1 where the trimap knows, within the solver's precision.
    """
    unknown = trimap == UNKNOWN
    inside = cv2.distanceTransform(unknown.astype(np.uint8), cv2.DIST_L2, 5)
    deepest = float(inside.max())
    estimate, confidence = np.zeros(trimap.shape), np.zeros(trimap.shape)
    limits = (0.0, deepest / 3, 2 * deepest / 3, np.inf)
    for number, (low, high) in enumerate(itertools.pairwise(limits)):
        mine = unknown & (inside > low) & (inside <= high)
        if not mine.any():
            continue
        width = deepest * _WIDTHS[number] if number < len(_WIDTHS) else np.inf
        sides = [_clusters(image, _part(trimap, side, width)) for side in (FOREGROUND, BACKGROUND)]
        places, colours = np.argwhere(mine).astype(np.float64), image[mine] / 255
        found = [
            _judged(colours[k : k + _CHUNK], places[k : k + _CHUNK], *sides) for k in range(0, len(places), _CHUNK)
        ]
        estimate[mine], confidence[mine] = (np.concatenate(values) for values in zip(*found, strict=True))
    return solve_alpha(laplacian(image, trimap), trimap, estimate, _GAMMA * confidence**_SURE)


def _part(trimap: NDArray[np.uint8], side: int, width: float) -> NDArray[np.bool_]:
    """What is known of one side within some pixels of the unknown area; the nearest pixels if there is nothing."""
    away = cv2.distanceTransform((trimap != UNKNOWN).astype(np.uint8), cv2.DIST_L2, 5)
    known = trimap == side
    return np.asarray(known & (away <= max(width, float(away[known].min()) + 1)))


def _clusters(image: NDArray[np.uint8], where: NDArray[np.bool_]) -> Clusters:
    places = np.argwhere(where)
    # Evenly spread over the area: enough for means.
    places = places[:: max(1, len(places) // _MOST_PIXELS)]
    colours = image[places[:, 0], places[:, 1]] / 255
    rows = []
    for members in _grouped(colours, _COLOURS):
        for inner in _grouped(places[members].astype(np.float64), _PLACES):
            own = members[inner]
            rows.append((colours[own].mean(0), places[own].mean(0), colours[own].var(0).sum()))
    return Clusters(*(np.array(column) for column in zip(*rows, strict=True)))


def _grouped(points: Floats, most: int) -> list[NDArray[np.int64]]:
    """Up to `most` groups by k-means from evenly spread seeds along the direction of largest variance."""
    count = min(most, len(np.unique(points, axis=0)))
    offset = points - points.mean(0)
    _, _, axes = np.linalg.svd(offset.T @ offset)
    order = np.argsort(offset @ axes[0], kind="stable")
    centres = points[order[(np.arange(count) * len(points) + len(points) // 2) // count]]
    labels = np.zeros(len(points), np.int64)
    for _ in range(_ROUNDS):
        labels = np.square(points[:, None] - centres).sum(2).argmin(1)
        centres = np.stack([points[labels == k].mean(0) if (labels == k).any() else centres[k] for k in range(count)])
    return [found for k in range(count) if len(found := np.flatnonzero(labels == k))]


def _judged(colour: Floats, place: Floats, fore: Clusters, back: Clusters) -> tuple[Floats, Floats]:
    """Alpha and confidence [U] by the best pair."""
    axis = fore.colours[:, None] - back.colours
    length = np.square(axis).sum(2)
    offset = colour[:, None] - back.colours
    alpha = np.clip(np.einsum("ubc,fbc->ufb", offset, axis) / np.maximum(length, _TINY), 0, 1)
    misfit = np.linalg.norm(offset[:, None] - alpha[..., None] * axis, axis=3)
    explained = np.exp(-misfit * 255 / 10)
    near = _near(place, fore.places)[:, :, None] * _near(place, back.places)[:, None]
    apart = np.sqrt(length / np.maximum((fore.spread[:, None] + back.spread) / 2, 1e-3))
    score = (explained * near * (1 - np.exp(-apart))).reshape(len(colour), -1)
    best = score.argmax(1)
    rows = np.arange(len(colour))
    return alpha.reshape(len(colour), -1)[rows, best], explained.reshape(len(colour), -1)[rows, best]


def _near(place: Floats, samples: Floats) -> Floats:
    distance = np.linalg.norm(place[:, None] - samples, axis=2)
    near: Floats = np.exp(-_NEAR * distance / np.maximum(distance.mean(1, keepdims=True), _TINY))
    return near
