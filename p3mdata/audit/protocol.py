"""How attackers are tested: people are split so that nobody is in training and test; pure functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p3mdata.audit.measures import People, Vectors
from p3mdata.base.intervals import Rate, rate_of, wilson
from p3mdata.run.attackers import Score

# False accept rates for TAR, strictest first; one that so few pairs cannot show is not claimed.
_FARS = (1e-3, 1e-2, 1e-1)
# A rate needs as many impostor pairs as put ten beyond the threshold.
_BEYOND = 10
MOST_FOLDS, LEAST_PEOPLE = 3, 4


@dataclass(frozen=True)
class Fold:
    """Numbers of the photographs to learn from and to test on; nobody is on both sides."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]


def folds(people: People, seed: int) -> list[Fold]:
    """Folds over people, which `seed` deals out; every photograph is in one test set, with at least two people.

    Raises:
        ValueError: Fewer than LEAST_PEOPLE people.
    """
    names = np.unique(people)
    if len(names) < LEAST_PEOPLE:
        raise ValueError(f"{len(names)} people")
    number = min(MOST_FOLDS, len(names) // 2)
    dealt = np.random.default_rng(seed).permutation(names)
    tests = [np.flatnonzero(np.isin(people, dealt[i::number])) for i in range(number)]
    return [Fold(np.setdiff1d(np.arange(len(people)), test), test) for test in tests]


# Vectors of the test photographs as probes and as gallery, for a fold.
Attacker = Callable[[Fold], tuple[Vectors, Vectors]]


def score(
    attacker: Attacker, parts: Sequence[Fold], people: People, groups: Sequence[str | None] | None = None
) -> Score:
    """Test an attacker on every fold: each photograph against all others of its test set."""
    hits = np.zeros(len(people))
    own: list[tuple[int, NDArray[np.float64]]] = []
    others: list[NDArray[np.float64]] = []
    for fold in parts:
        probes, gallery = attacker(fold)
        here = people[fold.test]
        distance = cosine(probes, gallery)
        same, itself = here[:, None] == here[None, :], np.eye(len(here), dtype=bool)
        away = np.where(itself, np.inf, distance)
        nearest = away == away.min(axis=1, keepdims=True)
        hits[fold.test] = (nearest & same).sum(axis=1) / nearest.sum(axis=1)
        # Networks of two folds have scales of their own.
        scale = max(float(np.median(distance[~same])), 1e-9)
        others.append(distance[~same] / scale)
        own += [(int(p), distance[(here == p)[:, None] & same & ~itself] / scale) for p in np.unique(here)]
    rates = {int(p): float(hits[people == p].mean()) for p in np.unique(people)}
    tar, far = _true_accepts([d for _, d in own], np.concatenate(others))
    return Score(
        rank1=_over_people(list(rates.values())),
        tar=tar,
        far=far,
        worst_person=round(max(rates.values()), 4),
        often=round(float(np.mean([rate > 0.5 for rate in rates.values()])), 4),
        groups=_by_group(hits, people, groups),
        by_person=tuple(rates.values()),
    )


def difference(one: Score, other: Score) -> tuple[float, float, float]:
    """How much more often `one` finds people than `other` in the same folds.

    Returns:
        Mean of the differences of single people in [-1, 1], and the ends of its 95 % interval: a bootstrap over people,
        5000 times with a fixed seed.
    """
    gaps = np.subtract(one.by_person, other.by_person)
    drawn = np.random.default_rng(0).integers(0, len(gaps), (5000, len(gaps)))
    low, high = np.quantile(gaps[drawn].mean(axis=1), (0.025, 0.975))
    return round(float(gaps.mean()), 4), round(float(low), 4), round(float(high), 4)


def guessing(parts: Sequence[Fold], people: People) -> float:
    """Rank-1 rate of picking any other photograph of the test set, mean over people."""
    rates = []
    for fold in parts:
        here = people[fold.test]
        rates += [((here == p).sum() - 1) / (len(here) - 1) for p in np.unique(here)]
    return round(float(np.mean(rates)), 4)


def cosine(probes: Vectors, gallery: Vectors) -> NDArray[np.float64]:
    """Cosine distances in [0, 2], probes x gallery, without the last bits, in which equal faces can differ."""
    a, b = (
        v.astype(np.float64) / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-12) for v in (probes, gallery)
    )
    return np.asarray(np.round(1 - a @ b.T, 6))


def _over_people(rates: Sequence[float]) -> Rate:
    """Mean of single people's rates; Wilson's interval for as many observations as people: rather too long."""
    return wilson(float(np.sum(rates)), len(rates))


def _by_group(hits: NDArray[np.float64], people: People, groups: Sequence[str | None] | None) -> dict[str, Rate]:
    if groups is None:
        return {}
    found = {}
    for name in sorted({group for group in groups if group is not None}):
        mine = np.array([group == name for group in groups])
        found[name] = _over_people([float(hits[mine & (people == p)].mean()) for p in np.unique(people[mine])])
    return found


def _true_accepts(own: list[NDArray[np.float64]], others: NDArray[np.float64]) -> tuple[Rate | None, float | None]:
    """TAR at the strictest rate that the pairs can show, with a bootstrap over people."""
    far = next((rate for rate in _FARS if len(others) / 2 * rate >= _BEYOND), None)
    if far is None:
        return None, None
    threshold = np.partition(others, int(far * len(others)))[int(far * len(others))]
    hits = np.array([(pairs < threshold).sum() for pairs in own], float)
    trials = np.array([pairs.size for pairs in own], float)
    drawn = np.random.default_rng(0).integers(0, len(own), (2000, len(own)))
    low, high = np.quantile(hits[drawn].sum(1) / np.maximum(trials[drawn].sum(1), 1), (0.025, 0.975))
    return rate_of(hits.sum() / trials.sum(), low, high, int(trials.sum())), far
