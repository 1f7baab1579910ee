"""Hide a face up to its silhouette while the matte stays true.

A photograph is I = a F + (1 - a) B, with a the matte. Where a face reaches the silhouette only its own layer is
obfuscated: I' = I + a (F' - F) for a face of the matte's person, I' = I + (1 - a) (B' - B) for one behind. The result
is a composite of the same matte, and where the layer has no share nothing changes.

All sums are over integers that 64-bit floats hold exactly, so the result is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.anonymize.masks import Patch, Region
from p3mdata.anonymize.noise import Noise
from p3mdata.anonymize.obfuscate import obfuscate, obfuscated
from p3mdata.config import Method

Pixels = NDArray[Any]
_TOP = np.iinfo(np.uint16).max
# Radii over which a layer's colour is gathered, as shares of the face's width: coarse, then fine.
_COARSE, _FINE = 0.25, 0.02
_MOST_REACH, _LEAST_REACH = 90, 8
_LEAST_FINE = 2


def hide(
    pixels: Pixels, regions: Sequence[Region], method: Method, strength: float, noise: Noise | None = None
) -> Pixels:
    """A copy of a picture with all regions obfuscated.

    Args:
        pixels: HxW or HxWx3, uint8 or uint16.
        regions: Disjoint.
        method: How.
        strength: Share of each face's width.
        noise: For dp-pix.
    """
    out = pixels.copy()
    for region in regions:
        if region.share is None:
            obfuscate(out, region.patch, method, strength, region.width, noise)
        else:
            recompose(pixels, out, region, method, strength, noise)
    return out


def recompose(
    source: Pixels, out: Pixels, region: Region, method: Method, strength: float, noise: Noise | None = None
) -> None:
    """Obfuscate the layer that a region's face belongs to, in place.

    Args:
        source: HxW or HxWx3, uint8 or uint16; the photograph, whose colours around the region are read as well.
        out: Of the same shape; changed inside the region only, and only where its layer has a share.
        region: Where; its `share` is the layer's part of each pixel.
        method, strength, noise: As for `obfuscate`.
    """
    patch = region.patch
    if not patch.mask.any() or region.share is None:
        return
    reach = int(np.clip(round(_COARSE * region.width), _LEAST_REACH, _MOST_REACH))
    fine = max(_LEAST_FINE, round(_FINE * region.width))
    window, inner = _grown(patch, source.shape[:2], reach + fine)
    block = source[window]
    block = block if block.ndim == 3 else block[:, :, None]
    top = float(np.iinfo(region.share.dtype).max)
    scale = _TOP // np.iinfo(source.dtype).max
    image = block.astype(np.float64) * scale
    share = region.share[window].astype(np.float64)[:, :, None]
    layer = _layer(image, share, top, reach, fine)[inner]
    image, share = image[inner], share[inner] / top
    # Eight bits are plenty for weights, and leave room for exact sums.
    weights = np.maximum(region.share[patch.window].astype(np.int64) * 255 // int(top), 1)
    weights *= patch.mask & (region.share[patch.window] > 0)
    hidden = obfuscated(layer.astype(np.uint16), weights, method, strength, region.width, noise).astype(np.float64)
    made = np.rint((image + share * (hidden - layer)) / scale)
    view = out[patch.window]
    view = view if view.ndim == 3 else view[:, :, None]
    np.copyto(view, np.clip(made, 0, np.iinfo(out.dtype).max).astype(out.dtype), where=weights[:, :, None] > 0)


def _grown(patch: Patch, shape: tuple[int, ...], by: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """A patch's window grown inside an image, and the patch's place in it."""
    (rows, cols), (height, width) = patch.window, shape[:2]
    tall = slice(max(0, rows.start - by), min(height, rows.stop + by))
    wide = slice(max(0, cols.start - by), min(width, cols.stop + by))
    inner = (
        slice(rows.start - tall.start, rows.stop - tall.start),
        slice(cols.start - wide.start, cols.stop - wide.start),
    )
    return (tall, wide), inner


def _layer(image: NDArray[np.float64], share: NDArray[np.float64], top: float, *reaches: int) -> NDArray[np.float64]:
    """Colours of a layer, by gathering those of both layers from around each pixel, coarse then fine (Forte 2021).

    What the gathered colours do not explain of a pixel is split between the layers by least squares, so that both
    compose to the pixel exactly: of a pixel that is 80 % face, 94 % of the detail goes with the face.
    Kept to what leaves the other layer a colour that exists, so that no composite of it is out of range.

    Args:
        image: hxwxc of integers up to `_TOP`.
        share: hxwx1 of integers up to `top`.
        top: The share of a pixel that is all of this layer.
        reaches: Radii in pixels.
    """
    near, far = image, image
    part = share / top
    for reach in reaches:
        near, far = _mean(near, share, reach), _mean(far, top - share, reach)
        rest = (image - part * near - (1 - part) * far) / (part**2 + (1 - part) ** 2)
        near = np.rint(np.clip(near + part * rest, 0, _TOP))
        far = np.rint(np.clip(far + (1 - part) * rest, 0, _TOP))
    some = np.maximum(part, 1 / top)
    lowest, highest = (image - (1 - part) * _TOP) / some, image / some
    kept = np.clip(near, np.maximum(lowest, 0), np.minimum(highest, _TOP))
    return np.rint(np.where(part == 1, image, kept))


def _mean(colours: NDArray[np.float64], weight: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """Means over squares, weighted; the plain value where nothing has a weight."""
    total, weights = (_sums(plane, reach) for plane in (colours * weight, weight))
    return np.where(weights > 0, total / np.maximum(weights, 1), colours)


def _sums(plane: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """Sums over squares; beyond the border everything is 0."""
    side = (2 * reach + 1, 2 * reach + 1)
    summed = cv2.boxFilter(plane, cv2.CV_64F, side, normalize=False, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(summed, np.float64).reshape(plane.shape)
