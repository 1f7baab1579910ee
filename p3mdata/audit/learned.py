"""What an attacker learns from other people's faces without a network: linear maps, in closed form."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.audit.measures import People, Vectors

_PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)
_GRID = 12


def coarse(faces: NDArray[np.uint8]) -> Vectors:
    """What a mosaic or blur leaves is coarse: n x 432 mean colours of aligned faces (n x side x side x 3), centred."""
    small = [
        cv2.resize(face, (_GRID, _GRID), interpolation=cv2.INTER_AREA).astype(np.float32).ravel() for face in faces
    ]
    cells = np.stack(small) / 255
    return np.asarray(cells - cells.mean(axis=1, keepdims=True), np.float32)


def joined(*parts: Vectors) -> Vectors:
    """Features side by side, each kind with the same weight."""
    return np.hstack([part / max(float(np.sqrt((part**2).sum(axis=1).mean())), 1e-9) for part in parts])


class Mapping:
    """From features of obfuscated faces to those of the same photographs when clear: ridge regression.

    It needs pairs of any people, who need not even be told apart: whoever has the tool makes as many as they like.

    Args:
        hidden, clear: n x d and n x e.
        people: (n,); the penalty is chosen by holding people out.
    """

    def __init__(self, hidden: Vectors, clear: Vectors, people: People) -> None:
        self._from, self._to = hidden.mean(axis=0), clear.mean(axis=0)
        x, y = hidden - self._from, clear - self._to
        held = np.isin(people, np.unique(people)[::2])
        errors = {}
        for penalty in _PENALTIES:
            tries = [(held, ~held), (~held, held)]
            gaps = [((x[b] @ _ridge(x[a], y[a], penalty) - y[b]) ** 2).sum() for a, b in tries if a.any() and b.any()]
            errors[penalty] = float(np.sum(gaps))
        self._weights = _ridge(x, y, min(errors, key=lambda penalty: (errors[penalty], penalty)))

    def __call__(self, hidden: Vectors) -> Vectors:
        return np.asarray((hidden - self._from) @ self._weights, np.float32)

    def centred(self, clear: Vectors) -> Vectors:
        """Clear features where mapped ones lie."""
        return np.asarray(clear - self._to, np.float32)


def _ridge(x: NDArray[np.floating], y: NDArray[np.floating], penalty: float) -> NDArray[np.float64]:
    """Weights d x e; solved over the photographs, which are fewer than the features."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    gram = x @ x.T
    ridge = penalty * max(float(np.trace(gram)) / len(x), 1e-12)
    return np.asarray(x.T @ np.linalg.solve(gram + ridge * np.eye(len(x)), y))


class Metric:
    """Distances in which a person's own photographs differ little: whitened by the variation within persons.

    Args:
        faces: n x d features of obfuscated faces of people who are not in the test.
        people: (n,).
    """

    def __init__(self, faces: Vectors, people: People) -> None:
        wide = faces.astype(np.float64)
        self._mean = wide.mean(axis=0)
        centred = wide - self._mean
        # As many directions as the photographs span.
        _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
        axes = axes[: max(1, int((sizes > 1e-3 * sizes[0]).sum()))]
        low = centred @ axes.T
        within = low - np.stack([low[people == p].mean(axis=0) for p in people])
        scatter = within.T @ within / len(within)
        scatter += 0.1 * max(float(np.trace(scatter)) / len(scatter), 1e-12) * np.eye(len(scatter))
        values, vectors = np.linalg.eigh(scatter)
        self._axes = axes.T @ vectors / np.sqrt(values)

    def __call__(self, faces: Vectors) -> Vectors:
        return np.asarray((faces - self._mean) @ self._axes, np.float32)
