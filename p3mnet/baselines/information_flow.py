"""Information-flow matting (Aksoy, Aydin, Pollefeys, 'Designing Effective Inter-Pixel Information Flow', CVPR 2017).

Four flows of opacity between pixels, each with the published numbers of neighbours and weights:

    colour mixture (section 3.1)    an unknown pixel is a mixture of its 20 nearest pixels in colour and place
    known to unknown (3.2)          it is a mixture of 7 foreground and 7 background pixels: their share is a guess
    intra-unknown (3.3)             5 unknown pixels of like colour have like opacity
    local (3.4)                     the closed-form Laplacian

Left out, as they serve other pictures than portraits: the choice of an energy without known-to-unknown flow for highly
transparent objects, and the trimming of trimaps before.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from p3mdata.imaging.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from p3mnet.baselines.solving import Floats, laplacian, solve_alpha

_MIXED, _KNOWN, _AMONG = 20, 7, 5
_GUESS, _LIKE = 0.05, 0.01
# Scale of the coordinates, normalised to 0..1, beside colours in 0..1.
_PLACE_MIXED, _PLACE_KNOWN, _PLACE_AMONG = 1.0, 10.0, 1 / 20
# Keeps the weights of a mixture finite where neighbours have one colour.
_RIDGE = 1e-3


def information_flow_matting(image: NDArray[np.uint8], trimap: NDArray[np.uint8]) -> Floats:
    """Alpha by information flow.

    Args:
        image: RGB, HxWx3.
        trimap: HxW of 0, 128, 255 with some of each.

    Returns:
        HxW in 0..1; 0 and 1 where the trimap knows, within the solver's precision.
    """
    import scipy.sparse

    height, width = trimap.shape
    colours = image.reshape(-1, 3) / 255
    rows, columns = np.divmod(np.arange(height * width), width)
    places = np.stack([columns / max(1, width - 1), rows / max(1, height - 1)], 1)
    areas = trimap.ravel()
    unknown = np.flatnonzero(areas == UNKNOWN)
    everything = np.arange(len(areas))

    features = _features(colours, places, _PLACE_MIXED)
    near = _nearest(features, everything, unknown, _MIXED, skip_itself=True)
    shares = mixture(features[unknown], features[near])
    flow = _rows(unknown, near, shares, len(areas))
    mask = scipy.sparse.diags((areas == UNKNOWN).astype(float))
    residual = mask - flow
    system = residual.T @ residual

    features = _features(colours, places, _PLACE_AMONG)
    count = min(_AMONG, len(unknown) - 1)
    if count > 0:
        near = _nearest(features, unknown, unknown, count, skip_itself=True)
        likeness = np.maximum(1 - np.abs(features[unknown, None] - features[near]).sum(2), 0)
        system = system + _LIKE * _graph(_rows(unknown, near, likeness, len(areas)))

    guess, trust = _from_known(colours, _features(colours, places, _PLACE_KNOWN), areas, unknown)
    estimate, weight = np.zeros(len(areas)), np.zeros(len(areas))
    estimate[unknown], weight[unknown] = guess, _GUESS * trust
    system = system + laplacian(image, trimap)
    return solve_alpha(system, trimap, estimate.reshape(trimap.shape), weight.reshape(trimap.shape))


def mixture(targets: Floats, neighbours: Floats) -> Floats:
    """Weights that mix neighbours to their target (locally linear embedding), summing to 1.

    Args:
        targets: [U, F].
        neighbours: [U, K, F].

    Returns:
        [U, K].
    """
    offsets = neighbours - targets[:, None]
    gram = np.einsum("ukf,ulf->ukl", offsets, offsets)
    count = gram.shape[1]
    gram += np.eye(count) * (_RIDGE * np.trace(gram, axis1=1, axis2=2)[:, None, None] / count + 1e-9)
    weights = np.linalg.solve(gram, np.ones((len(gram), count, 1)))[..., 0]
    shares: Floats = weights / weights.sum(1, keepdims=True)
    return shares


def _features(colours: Floats, places: Floats, scale: float) -> Floats:
    return np.concatenate([colours, scale * places], 1)


def _nearest(
    features: Floats, among: NDArray[np.int64], asking: NDArray[np.int64], count: int, *, skip_itself: bool = False
) -> NDArray[np.int64]:
    """Numbers [U, count] of the nearest pixels among some."""
    from scipy.spatial import KDTree

    _, numbers = KDTree(features[among]).query(features[asking], count + skip_itself)
    found: NDArray[np.int64] = among[numbers.reshape(len(asking), -1)]
    if not skip_itself:
        return found
    # Pixels that are equal in all may come before the asking one: it goes out wherever it stands, else the last.
    itself = found == asking[:, None]
    itself[~itself.any(1), -1] = True
    others: NDArray[np.int64] = found[~itself]
    return others.reshape(len(asking), count)


def _rows(where: NDArray[np.int64], to: NDArray[np.int64], values: Floats, size: int) -> Any:
    import scipy.sparse

    rows = np.repeat(where, to.shape[1])
    return scipy.sparse.csr_matrix((values.ravel(), (rows, to.ravel())), (size, size))


def _graph(weights: Any) -> Any:
    """Laplacian of a graph whose edges have the larger of both directions' weights."""
    import scipy.sparse

    both = weights.maximum(weights.T)
    return scipy.sparse.diags(np.asarray(both.sum(1)).ravel()) - both


def _from_known(
    colours: Floats, features: Floats, areas: NDArray[np.uint8], unknown: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """Share of foreground in the mixture of known pixels, and how far the two mixed colours lie apart; both [U]."""
    sides = [np.flatnonzero(areas == value) for value in (FOREGROUND, BACKGROUND)]
    counts = [min(_KNOWN, len(side)) for side in sides]
    near = [_nearest(features, side, unknown, count) for side, count in zip(sides, counts, strict=True)]
    both = np.concatenate(near, 1)
    shares = mixture(colours[unknown], colours[both])
    split = counts[0]
    weights = shares[:, :split], shares[:, split:]
    mixed = [_weighted(colours[found], share) for found, share in zip(near, weights, strict=True)]
    apart = np.square(mixed[0] - mixed[1]).sum(1) / 3
    return np.clip(weights[0].sum(1), 0, 1), np.clip(apart, 0, 1)


def _weighted(colours: Floats, share: Floats) -> Floats:
    total = share.sum(1)
    even = np.full_like(share, 1 / share.shape[1])
    shares = np.where(np.abs(total)[:, None] > 1e-2, share / np.where(total == 0, 1, total)[:, None], even)
    mixed: Floats = np.einsum("uk,ukc->uc", shares, colours)
    return mixed
