"""Clusters of pictures that are copies of each other, found without comparing every pair.

Pictures become points whose coordinates hardly move under a crop, an encoding or a mirroring. The points are halved
again and again; those within half a tolerance of a cut go to both sides, so that two points within the tolerance of
each other always meet in some leaf. There the few pairs that look alike coarsely are compared by `distances`.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from p3mdata.base.disjoint import DisjointSets
from p3mdata.base.disk_backed import LazyMap
from p3mdata.curation.fingerprints import NEAR, SIDE, Fingerprint, Floats, Thumb, distances

Indices = NDArray[np.intp]

_COARSE = 8
# Largest change of each coefficient (down, across) of the unit vector of 8 x 8 coefficients between two copies of one
# photograph, as measured on 74 photographs in 14 copies each; those that tell photographs apart best.
_LARGEST = {
    (0, 1): 0.115, (0, 2): 0.170, (0, 4): 0.123, (1, 0): 0.105, (1, 1): 0.074, (1, 2): 0.075, (1, 4): 0.075,
    (2, 0): 0.107, (2, 1): 0.065, (2, 2): 0.096, (2, 4): 0.101, (3, 0): 0.099, (3, 2): 0.072, (4, 2): 0.075,
}  # fmt: skip
_ALLOWANCE = 1.15
# Correlation of the coefficients of two copies: 0.955 or more was measured, for opposite crops of one photograph.
_ALIKE = 0.94
# Two copies at half size differ by 0.157 at most, of the energy, outside the directions in which a copy may differ.
_PLAUSIBLE = 0.2
_LEAF = 256
# A cut that leaves this share of the points on one side is none.
_HARDLY_CUT = 0.9
_SAMPLE = 1000
_BATCH = 1024
_ROWS = 32
_MOST_WAITING = 4_000_000
_DIGEST_BYTES = 16


def _basis() -> Floats:
    """First rows of the cosine transform, _COARSE x SIDE."""
    rows, at = np.arange(_COARSE)[:, None], np.arange(SIDE)[None]
    return np.cos(np.pi * rows * (2 * at + 1) / (2 * SIDE)).astype(np.float32) * np.where(rows, np.sqrt(2), 1)


def _halves(thumbs: NDArray[np.floating]) -> Floats:
    """N x 16 x 16 thumbnails of half size."""
    halves: Floats = np.asarray(thumbs, np.float32).reshape(-1, SIDE // 2, 2, SIDE // 2, 2).mean(axis=(2, 4))
    return halves


def _coefficients(thumbs: NDArray[np.floating]) -> Floats:
    """N x 8 x 8 cosine coefficients of thumbnails, each a unit vector, without the mean."""
    basis = _basis().astype(np.float32)
    out = basis @ np.asarray(thumbs, np.float32) @ basis.T
    out[:, 0, 0] = 0
    out /= np.linalg.norm(out, axis=(1, 2), keepdims=True) + 1e-12
    return np.asarray(out, np.float32)


def _inner(halves: Floats) -> Floats:
    """N x 196: thumbnails at half size (N x 16 x 16) without their border."""
    return np.ascontiguousarray(halves[:, 1:-1, 1:-1]).reshape(len(halves), -1)


def _directions(half: Floats) -> Floats:
    """196 x 7, orthonormal: what small shifts, stretches and changes of tone add to a thumbnail of half size."""
    at = np.linspace(-1, 1, len(half), dtype=np.float32)
    down, across = np.gradient(half)
    ways = (across, across * at, down, down * at[:, None], np.ones_like(half), half, half**2)
    return np.asarray(np.linalg.qr(_inner(np.stack(ways)).T)[0], np.float32)


class _Points:
    """Pictures as points: mirrored pictures share one, for mirroring only turns the sign of odd coefficients.

    In memory are 312 bytes of each; thumbnails are asked for when they are compared.
    """

    def __init__(self, thumbs: Sequence[Thumb], distance: float) -> None:
        self._thumbs, self._distance = thumbs, distance
        self.at = np.empty((len(thumbs), len(_LARGEST)), np.float32)
        self._even, self._odd = (np.empty((len(thumbs), _COARSE * _COARSE // 2), np.float32) for _ in range(2))
        for start in range(0, len(thumbs), _BATCH):
            block = slice(start, start + _BATCH)
            coefficients = _coefficients(np.stack(list(thumbs[block])))
            for axis, ((down, across), most) in enumerate(_LARGEST.items()):
                turned = (np.abs if across % 2 else np.positive)(coefficients[:, down, across])
                self.at[block, axis] = turned / (_ALLOWANCE * most)
            self._even[block] = coefficients[:, :, ::2].reshape(len(coefficients), -1)
            self._odd[block] = coefficients[:, :, 1::2].reshape(len(coefficients), -1)

    def _pictures(self, indices: Indices) -> NDArray[np.floating]:
        """Their thumbnails."""
        return np.stack([self._thumbs[i] for i in indices.tolist()])

    def _leaves(self) -> Iterator[Indices]:
        """Groups of points; two points that differ by 1 at most in every coordinate meet in at least one."""
        todo = [np.arange(len(self.at))]
        while todo:
            group = todo.pop()
            if len(group) <= _LEAF:
                yield group
                continue
            some = self.at[group[:: -(-len(group) // _SAMPLE)]]
            middle = np.median(some, axis=0)
            axis = int((np.abs(some - middle) <= 0.5).sum(axis=0).argmin())
            along = self.at[group, axis] - middle[axis]
            sides = group[along <= 0.5], group[along >= -0.5]
            if max(map(len, sides)) > _HARDLY_CUT * len(group):
                yield group
            else:
                todo += sides

    def _alike(self, some: Indices, others: Indices) -> NDArray[np.bool_]:
        """len(some) x len(others): pairs that may be copies by their coefficients."""
        found = np.empty((len(some), len(others)), bool)
        even, odd = self._even[others].T, self._odd[others].T
        # In products so small that the library keeps to one thread: threads that wait for a busy core cost the most.
        for start in range(0, len(some), _ROWS):
            rows = some[start : start + _ROWS]
            found[start : start + _ROWS] = self._even[rows] @ even + np.abs(self._odd[rows] @ odd) >= _ALIKE
        return found

    def _plausible(self, one: Thumb, pictures: Floats) -> NDArray[np.bool_]:
        """Leaves out, at little cost, what `distances` would not call near: crowds before one backdrop."""
        half = _halves(one[None])
        found = np.zeros(len(pictures), bool)
        for turned in (half, half[:, :, ::-1]):
            base = _inner(turned)
            apart = pictures - base
            along = apart @ _directions(turned[0])
            left = (apart**2).sum(axis=1) - (along**2).sum(axis=1)
            found |= left <= _PLAUSIBLE**2 * base.var() * base.size
        return found

    def _candidates(self, leaf: Indices) -> NDArray[np.int64]:
        """Pairs of a leaf that may be copies, each as high * count + low."""
        one, other = leaf[np.stack(np.nonzero(np.triu(self._alike(leaf, leaf), 1)))]
        close = (np.abs(self.at[one] - self.at[other]) <= 1).all(axis=1)
        pairs: NDArray[np.int64] = np.maximum(one, other)[close] * len(self.at) + np.minimum(one, other)[close]
        return pairs

    def _join_pairs(self, pairs: NDArray[np.int64], union: DisjointSets) -> None:
        """Join the copies among pairs. Each picture's first pair comes first: it often saves the others."""
        first = np.unique(pairs // len(self.at), return_index=True)[1]
        for some in (pairs[first], np.delete(pairs, first)):
            for start in range(0, len(some), _BATCH):
                block = np.stack(np.divmod(some[start : start + _BATCH], len(self.at)), axis=1)
                open_ = np.array([not union.same(*pair) for pair in block.tolist()])
                one, other = block[open_].T
                if len(one):
                    near = distances(self._pictures(one), self._pictures(other)) <= self._distance
                    for pair in block[open_][near].tolist():
                        union.join(*pair)

    def _near(self, one: int, others: Indices, crowd: Indices, halves: Floats) -> Indices:
        """Those of a crowd that are copies of one picture; `halves` are the thumbnails of all of it, at half size."""
        others = others[self._alike(np.array([one]), others)[0]]
        others = others[(np.abs(self.at[others] - self.at[one]) <= 1).all(axis=1)]
        if len(others):
            mine = self._thumbs[one]
            others = others[self._plausible(mine, halves[np.searchsorted(crowd, others)])]
        if not len(others):
            return others
        apart = distances(np.broadcast_to(mine, (len(others), SIDE, SIDE)), self._pictures(others))
        return others[apart <= self._distance]

    def _join_crowd(self, crowd: Indices, union: DisjointSets) -> None:
        """A leaf that cannot be cut: whoever is joined is not compared with again, so that copies cost one look."""
        blocks = (crowd[start : start + _BATCH] for start in range(0, len(crowd), _BATCH))
        halves = np.concatenate([_inner(_halves(self._pictures(block))) for block in blocks])
        rest = crowd
        while len(rest):
            queue, rest = [int(rest[0])], rest[1:]
            while queue and len(rest):
                one = queue.pop()
                joined = self._near(one, rest, crowd, halves)
                for other in joined.tolist():
                    union.join(one, other)
                queue += joined.tolist()
                rest = np.setdiff1d(rest, joined, assume_unique=True)

    def join(self, union: DisjointSets) -> None:
        """Join all copies."""
        found = [np.empty(0, np.int64)]
        waiting = 0
        for leaf in self._leaves():
            if len(leaf) > _LEAF:
                self._join_crowd(leaf, union)
                continue
            found.append(self._candidates(leaf))
            waiting += len(found[-1])
            # Pairs meet in several leaves.
            if waiting > _MOST_WAITING:
                found, waiting = [np.unique(np.concatenate(found))], 0
        self._join_pairs(np.unique(np.concatenate(found)), union)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()


def _join_equal(items: array[int], digests: bytearray, union: DisjointSets) -> array[int]:
    """Join items of equal digests; returns the first one of each digest, in order."""
    kinds = np.frombuffer(digests, f"S{_DIGEST_BYTES}")
    _, first, which = np.unique(kinds, return_index=True, return_inverse=True)
    for k in np.flatnonzero(first[which] < np.arange(len(items))).tolist():
        union.join(items[first[which[k]]], items[k])
    return array("q", map(items.__getitem__, np.sort(first)))


def cluster(fingerprints: Sequence[Fingerprint | None], distance: float | None = NEAR) -> list[list[int]]:
    """Indices of pictures that are copies of each other, exact or near.

    Two pictures are joined when their files are equal or when `distances` gives `distance` or less; clusters are what
    hangs together by such pairs, so that the ends of a chain may be further apart. Flat pictures have exact copies
    only. Neither the order of the input nor that of the search changes what is joined.

    Args:
        fingerprints: One per picture; None for one that has no copies.
        distance: Up to which two pictures are near copies, see `fingerprints.NEAR`; None joins equal files only.

    Returns:
        Clusters of two and more, each sorted, sorted by their smallest index.
    """
    union = DisjointSets(len(fingerprints))
    read, shown = array("q"), array("q")
    files, looks = bytearray(), bytearray()
    for i, mark in enumerate(fingerprints):
        if mark is not None:
            read.append(i)
            files += _digest(mark.sha256.encode())
            if distance is not None and not mark.flat:
                shown.append(i)
                looks += _digest(mark.thumb.tobytes())
    if read:
        _join_equal(read, files, union)
    if distance is not None and shown:
        chosen = _join_equal(shown, looks, union)

        def thumb_of(i: int) -> Thumb:
            mark = fingerprints[i]
            assert mark is not None
            return mark.thumb

        points, seen = _Points(LazyMap(thumb_of, chosen), distance), DisjointSets(len(chosen))
        points.join(seen)
        for members in seen.sets():
            for member in members[1:]:
                union.join(chosen[members[0]], chosen[member])
    return union.sets()
