"""A determined attacker: tries everything on people of their own, and puts together what finds most there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from p3mdata.audit.measures import People, Vectors
from p3mdata.audit.protocol import LEAST_PEOPLE, Fold, cosine, folds

# Vectors of a fold's test photographs as probes and as gallery, of attackers of one kind.
Try = Callable[[Fold], Iterator[tuple[Vectors, Vectors]]]
# One more attacker must put the right person so much nearer to the first place.
_GAIN = 0.002
# Photographs by which attackers are chosen, at most: it takes memory for all pairs of them.
_ENOUGH = 1500


class Determined:
    """Chooses among attackers by people who are not in the test; of these it knows nothing.

    The people to learn from are split again as the test splits all: every attacker learns from some and is tried on
    the others. Where they are too few for that, the first attacker is taken.

    Args:
        tries: What is tried, in an order that is the same for every fold.
        people: (n,) of all photographs.
        seed: Deals people out.
        most: How many attackers may be put together: their distances are added.
    """

    def __init__(self, tries: Sequence[Try], people: People, seed: int, most: int) -> None:
        self._tries, self._people, self._seed, self._most = tries, people, seed, most

    def __call__(self, fold: Fold) -> tuple[Vectors, Vectors]:
        taken = self._chosen(fold.train)
        found = {number: made for number, made in enumerate(self._all(fold)) if number in taken}
        probes, gallery = zip(*(found[number] for number in taken), strict=True)
        return np.hstack([_unit(part) for part in probes]), np.hstack([_unit(part) for part in gallery])

    def _all(self, fold: Fold) -> Iterator[tuple[Vectors, Vectors]]:
        for tried in self._tries:
            yield from tried(fold)

    def _chosen(self, known: NDArray[np.int64]) -> list[int]:
        """Numbers of the attackers, in the order in which they were taken."""
        known = self._some(known)
        people = self._people[known]
        if len(np.unique(people)) < LEAST_PEOPLE:
            return [0]
        inner = folds(people, self._seed)
        # By fold and attacker, the likeness of probes and gallery.
        likeness = [
            [_likeness(probes, gallery) for probes, gallery in self._all(Fold(known[part.train], known[part.test]))]
            for part in inner
        ]

        def worth(numbers: Sequence[int]) -> float:
            ranks = [
                _reciprocal_ranks(np.sum([alike[number] for number in numbers], axis=0), people[part.test])
                for part, alike in zip(inner, likeness, strict=True)
            ]
            return float(np.mean(np.concatenate(ranks)))

        taken: list[int] = []
        reached = -1.0
        while len(taken) < min(self._most, len(likeness[0])):
            values = {number: worth([*taken, number]) for number in range(len(likeness[0])) if number not in taken}
            best = max(values, key=lambda number: (values[number], -number))
            if values[best] < reached + _GAIN:
                break
            taken.append(best)
            reached = values[best]
        return taken

    def _some(self, known: NDArray[np.int64]) -> NDArray[np.int64]:
        """The photographs of as many people as it takes to choose by: all, where they are not very many."""
        dealt = np.random.default_rng(self._seed).permutation(np.unique(self._people[known]))
        numbers = np.cumsum([(self._people[known] == person).sum() for person in dealt])
        return known[np.isin(self._people[known], dealt[numbers <= max(_ENOUGH, int(numbers[0]))])]


def _likeness(probes: Vectors, gallery: Vectors) -> NDArray[np.float32]:
    return np.asarray(1 - cosine(probes, gallery), np.float32)


def _unit(vectors: Vectors) -> Vectors:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), np.float32)


def _reciprocal_ranks(likeness: NDArray[np.float32], people: People) -> NDArray[np.float64]:
    """Of each person, the mean of 1 / rank of the nearest photograph of the same person; ties count half."""
    same = people[:, None] == people[None, :]
    right = np.where(same & ~np.eye(len(people), dtype=bool), likeness, -np.inf).max(axis=1)
    others = np.where(same, -np.inf, likeness)
    rank = 1 + (others > right[:, None]).sum(axis=1) + 0.5 * (others == right[:, None]).sum(axis=1)
    return np.array([(1 / rank[people == person]).mean() for person in np.unique(people)])
