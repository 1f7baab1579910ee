"""What an attacker learns from other people's faces without a network: linear maps, in closed form."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.audit.measures import People, Vectors

_PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)
GRIDS = (6, 8, 12)
SHRINKAGES = (0.1, 1e-2, 1e-3, 1e-4, 1e-5)
_LEAST_DIRECTION = 1e-6


def coarse(faces: NDArray[np.uint8], grid: int = GRIDS[-1]) -> Vectors:
    """What a mosaic or blur leaves is coarse: mean colours of aligned faces, centred.

    Args:
        faces: n x side x side x 3.
        grid: Cells along a side.

    Returns:
        n x 3 grid².
    """
    size = (grid, grid)
    small = [cv2.resize(face, size, interpolation=cv2.INTER_AREA).astype(np.float32).ravel() for face in faces]
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

    What a blur or a mosaic leaves of a face lies in directions that vary little. How far these count is the shrinkage:
    the variation that every direction is taken to have, as a share of the mean one. A large one sees coarse light and
    tone alone.

    Args:
        faces: n x d features of obfuscated faces of people who are not in the test.
        people: (n,).
    """

    def __init__(self, faces: Vectors, people: People) -> None:
        wide = faces.astype(np.float64)
        self._mean = wide.mean(axis=0)
        # As many directions as the photographs span.
        _, sizes, axes = np.linalg.svd(wide - self._mean, full_matrices=False)
        axes = axes[: max(1, int((sizes > _LEAST_DIRECTION * sizes[0]).sum()))]
        low = (wide - self._mean) @ axes.T
        names, number = np.unique(people, return_inverse=True)
        within = low - np.stack([low[number == i].mean(axis=0) for i in range(len(names))])[number]
        self._values, vectors = np.linalg.eigh(within.T @ within / max(1, len(within) - len(names)))
        self._axes = axes.T @ vectors

    def __call__(self, faces: Vectors, shrinkage: float = 0.1) -> Vectors:
        spread = np.maximum(self._values, 0) + shrinkage * max(float(self._values.mean()), 1e-12)
        return np.asarray((faces - self._mean) @ (self._axes / np.sqrt(spread)), np.float32)

    def pictures(self, faces: Vectors, shrinkage: float) -> NDArray[np.float32]:
        """Coarse colours (n x 3 grid²) as pictures again (n x grid x grid x 3), in which all varies alike."""
        grid = round(float(np.sqrt(faces.shape[1] / 3)))
        return np.asarray(self(faces, shrinkage) @ self._axes.T, np.float32).reshape(len(faces), grid, grid, 3)
