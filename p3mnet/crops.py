"""Parts of a random crop: where its centre lies, its trimap, its planes at the samples' size, its colours."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from p3mdata.imaging.facemask import replaced
from p3mdata.imaging.trimap import FOREGROUND, transition_area, trimap_of
from p3mnet.image_files import Array

# Random pixels that are asked whether they lie in the transition area, before it is computed as a whole.
_PROBES = 256


def transition_pixel(
    alpha: Array, kernel: int, generator: torch.Generator, facemask: Array | None = None
) -> tuple[int, int] | None:
    """Row and column of a pixel of the trimap's transition area, all equally likely; None if there is none.

    Random pixels are tried one by one, each by its own neighbourhood: that is much cheaper than the whole trimap, which
    is computed only if none of them hits.

    Args:
        alpha: HxW.
        kernel: Side of the trimap's kernel.
        generator: Random numbers.
        facemask: HxW; replaced pixels are in no transition area.
    """
    obfuscated = None if facemask is None else replaced(facemask)
    height, width = alpha.shape
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (kernel, kernel)) > 0
    places = torch.rand(_PROBES, 2, generator=generator, dtype=torch.float64) * torch.tensor([height, width])
    for row, column in places.long().tolist():
        top, left = row - kernel // 2, column - kernel // 2
        near = alpha[max(top, 0) : top + kernel, max(left, 0) : left + kernel]
        under = element[max(-top, 0) :, max(-left, 0) :][: near.shape[0], : near.shape[1]]
        values = near[under]
        if values.any() and values.min() < FOREGROUND and (obfuscated is None or not obfuscated[row, column]):
            return row, column
    area = transition_area(alpha, kernel)
    rows, columns = np.nonzero(area if obfuscated is None else area & ~obfuscated)
    if not len(rows):
        return None
    chosen = int(torch.randint(len(rows), (), generator=generator))
    return int(rows[chosen]), int(columns[chosen])


def trimap_of_window(alpha: Array, kernel: int, window: tuple[slice, slice], facemask: Array | None = None) -> Array:
    """`trimap_of(alpha, kernel, facemask)[window]`, computed only there: it grows by what the kernel can see."""
    grown = tuple(slice(max(part.start - kernel, 0), part.stop + kernel) for part in window)
    inside = tuple(
        slice(part.start - wide.start, part.stop - wide.start) for part, wide in zip(window, grown, strict=True)
    )
    mask = None if facemask is None else facemask[grown]
    return trimap_of(np.ascontiguousarray(alpha[grown]), kernel, mask)[inside]


def reduced(plane: Array, longest: int, labels: bool) -> Array:
    """A plane whose longer side is at most `longest`; never a view of a larger one."""
    factor = min(1.0, longest / max(plane.shape[:2]))
    size = max(1, round(plane.shape[1] * factor)), max(1, round(plane.shape[0] * factor))
    how = cv2.INTER_NEAREST_EXACT if labels else cv2.INTER_AREA
    return np.asarray(cv2.resize(plane, size, interpolation=how), np.uint8)


def fitted(plane: Array, size: int, labels: bool, flipped: bool) -> Array:
    """A square resized to `size`, labels by their nearest neighbour, then flipped; never a view of its source."""
    side = plane.shape[0]
    # More than halved, bilinear interpolation would skip pixels.
    smooth = cv2.INTER_AREA if side > 2 * size else cv2.INTER_LINEAR
    resized = plane
    if side != size:
        how = cv2.INTER_NEAREST_EXACT if labels else smooth
        resized = np.asarray(cv2.resize(np.ascontiguousarray(plane), (size, size), interpolation=how), np.uint8)
    return np.array(resized[:, ::-1] if flipped else resized, order="C")


def estimate_colours(image: Array, alpha: Array) -> tuple[Array, Array]:
    """Foreground and background of a crop by blurring twice, coarse then fine (Forte, 'Approximate Fast Foreground
    Colour Estimation', ICIP 2021): quick, and less exact than the files that build-split can make.

    Args:
        image: HxWx3 RGB.
        alpha: HxW.

    Returns:
        Both HxWx3 RGB uint8.
    """
    colours = image.astype(np.float32) / 255
    opacity = (alpha.astype(np.float32) / 255)[..., None]
    sides = [colours, colours]
    for window in (91, 7):
        shares = (opacity, 1 - opacity)
        means = [_weighted_mean(side, share, window) for side, share in zip(sides, shares, strict=True)]
        rest = colours - sum(share * mean for share, mean in zip(shares, means, strict=True))
        sides = [np.clip(mean + share * rest, 0, 1) for share, mean in zip(shares, means, strict=True)]
    foreground, background = (np.rint(255 * side).astype(np.uint8) for side in sides)
    return foreground, background


def _weighted_mean(colours: NDArray[Any], weight: NDArray[Any], window: int) -> NDArray[Any]:
    """Mean colour [H, W, 3] around each pixel, weighted by [H, W, 1]."""
    mean: NDArray[Any] = cv2.blur(colours * weight, (window, window)) / (
        cv2.blur(weight, (window, window))[..., None] + 1e-5
    )
    return mean
