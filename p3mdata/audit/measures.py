"""How often a recogniser is right, and how sure that number is; pure functions on embeddings and counts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from p3mdata.base.intervals import DIGITS, Rate, rate_of, wilson
from p3mdata.run.audit import Threshold

Vectors = NDArray[np.float32]
People = NDArray[np.int64]
_RESAMPLED = 2000
# Probes compared with the gallery at a time.
_ROWS = 512


def _distances(probes: Vectors, gallery: Vectors) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Euclidean distances, some rows at a time: (rows of the probes, rows x gallery)."""
    wide = gallery.astype(np.float64)
    squares = (wide**2).sum(axis=1)
    for start in range(0, len(probes), _ROWS):
        part = probes[start : start + _ROWS].astype(np.float64)
        squared = (part**2).sum(axis=1)[:, None] + squares[None, :] - 2 * part @ wide.T
        # Without the last bits, in which equal faces can differ.
        yield slice(start, start + len(part)), np.round(np.sqrt(np.maximum(squared, 0)), 6)


def rank1(probes: Vectors, gallery: Vectors, people: People) -> Rate:
    """How often the nearest photograph of the gallery shows the probe's person; leave-one-out.

    Row i of probes and gallery belongs to photograph i, which is never compared with itself. Photographs at the
    same distance share the hit.

    Args:
        probes: n x d.
        gallery: n x d.
        people: (n,) numbers of the persons.
    """
    hits = 0.0
    for rows, distance in _distances(probes, gallery):
        own = np.arange(len(people))[rows]
        distance[np.arange(len(own)), own] = np.inf
        nearest = distance == distance.min(axis=1, keepdims=True)
        right = people[own][:, None] == people[None, :]
        hits += float(((nearest & right).sum(axis=1) / nearest.sum(axis=1)).sum())
    return wilson(hits, len(people))


def chance(people: People) -> float:
    """Rank-1 rate of a recogniser that picks any other photograph."""
    n = len(people)
    counts = np.unique(people, return_counts=True)[1]
    return round(float((counts * (counts - 1)).sum()) / (n * (n - 1)), DIGITS) if n > 1 else 0.0


def calibrate(faces: Vectors, people: People, far: float) -> Threshold:
    """The threshold that accepts a share `far` of the pairs of different persons among these photographs, n x d.

    With fewer than 1 / far pairs it accepts one of them: the smallest rate above zero that they can show.
    """
    counts = np.unique(people, return_counts=True)[1]
    pairs = (len(people) ** 2 - int((counts**2).sum())) // 2
    kept = max(1, int(far * pairs + 1e-9))
    smallest = np.empty(0)
    for rows, distance in _distances(faces, faces):
        own = np.arange(len(people))[rows]
        impostor = (people[own][:, None] != people[None, :]) & (own[:, None] < np.arange(len(people))[None, :])
        smallest = np.concatenate([smallest, distance[impostor]])
        if len(smallest) > kept:
            smallest = np.partition(smallest, kept - 1)[:kept]
    if not len(smallest):
        return Threshold(0.0, 0.0, 0, far)
    return Threshold(float(smallest.max()), round(kept / pairs, 8), pairs, far)


def true_accepts(probes: Vectors, gallery: Vectors, people: People, threshold: Threshold, seed: int = 0) -> Rate:
    """TAR: share of pairs (probe, another photograph of the same person) within the threshold.

    The interval is a bootstrap over persons, 2000 times with a fixed seed: pairs of one person are not independent.
    The threshold stays as it is.
    """
    accepted, pairs = [], []
    for person in np.unique(people):
        mine = np.flatnonzero(people == person)
        others = ~np.eye(len(mine), dtype=bool)
        within = np.concatenate([d <= threshold.distance for _, d in _distances(probes[mine], gallery[mine])])
        accepted.append(int((within & others).sum()))
        pairs.append(int(others.sum()))
    hits, trials = np.array(accepted), np.array(pairs)
    if not trials.sum():
        return Rate(0.0, 0.0, 1.0, 0)
    drawn = np.random.default_rng(seed).integers(0, len(hits), (_RESAMPLED, len(hits)))
    low, high = np.quantile(hits[drawn].sum(axis=1) / np.maximum(trials[drawn].sum(axis=1), 1), (0.025, 0.975))
    return rate_of(hits.sum() / trials.sum(), low, high, int(trials.sum()))


def false_accepts(probes: Vectors, gallery: Vectors, people: People, threshold: Threshold) -> float:
    """Share of pairs (probe, photograph of somebody else) within the threshold.

    Anonymized faces look alike: where this is large, a large TAR tells nothing.
    """
    accepted = pairs = 0
    for rows, distance in _distances(probes, gallery):
        impostor = people[rows][:, None] != people[None, :]
        accepted += int(((distance <= threshold.distance) & impostor).sum())
        pairs += int(impostor.sum())
    return round(accepted / pairs, DIGITS) if pairs else 0.0
