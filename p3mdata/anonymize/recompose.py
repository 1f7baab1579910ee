"""Hide a face up to its silhouette while the matte stays true.

A photograph is I = a F + (1 - a) B, with a the matte. Where a face reaches the silhouette only its own layer is
obfuscated: I' = I + a (F' - F) for a face of the matte's person, I' = I + (1 - a) (B' - B) for one behind. The result
is a composite of the same matte, and where the layer has no share nothing changes.

All sums are over integers that 64-bit floats hold exactly, so the result is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.anonymize.masks import Patch, Region
from p3mdata.anonymize.noise import Noise
from p3mdata.anonymize.obfuscate import obfuscate, obfuscated
from p3mdata.config import Method

Pixels = NDArray[Any]
Plane = NDArray[np.float64]
_TOP = np.iinfo(np.uint16).max
# Radii over which a layer's colour is gathered, as shares of the face's width: coarse, then fine.
_COARSE, _FINE = 0.25, 0.02
_MOST_REACH, _LEAST_REACH = 90, 8
_LEAST_FINE = 2
# Rows that are computed at a time; those around them, which colours are gathered from, are computed again.
_STRIP = 1024


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
    top = float(np.iinfo(region.share.dtype).max)
    scale = _TOP // np.iinfo(source.dtype).max
    pixels, view = (a if a.ndim == 3 else a[:, :, None] for a in (source, out[patch.window]))
    channels = pixels.shape[2]
    # One strip and channel after another: floats of all of them at once would be most of a worker's memory.
    strips = [slice(start, start + _STRIP) for start in range(0, len(patch.mask), _STRIP)]
    layer = np.empty((*patch.mask.shape, channels), np.uint16)
    for rows in strips:
        window, inner = _grown(_strip(patch, rows), source.shape[:2], reach + fine)
        share = region.share[window].astype(np.float64)
        gathered = [_Gathered.of(share, top, radius) for radius in (reach, fine)]
        for channel in range(channels):
            image = pixels[window][:, :, channel].astype(np.float64) * scale
            layer[rows, :, channel] = _layer(image, share, top, gathered, inner)
    # Eight bits are plenty for weights, and leave room for exact sums.
    weights = np.maximum(region.share[patch.window].astype(np.int64) * 255 // int(top), 1)
    weights *= patch.mask & (region.share[patch.window] > 0)
    hidden = obfuscated(layer, weights, method, strength, region.width, noise)
    for rows in strips:
        window = _strip(patch, rows).window
        share = region.share[window].astype(np.float64) / top
        for channel in range(channels):
            image = pixels[window][:, :, channel].astype(np.float64) * scale
            gap = hidden[rows, :, channel].astype(np.float64) - layer[rows, :, channel]
            made = np.clip(np.rint((image + share * gap) / scale), 0, np.iinfo(out.dtype).max)
            np.copyto(view[rows, :, channel], made.astype(out.dtype), where=weights[rows] > 0)


def _strip(patch: Patch, rows: slice) -> Patch:
    """Some rows of a patch."""
    return Patch(patch.top + rows.start, patch.left, patch.mask[rows])


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


@dataclass(frozen=True)
class _Gathered:
    """How much of both layers lies in the square around each pixel, hxw.

    Attributes:
        reach: Radius of the squares in pixels.
        near, far: Sums of the shares of this layer and of the other one.
    """

    reach: int
    near: Plane
    far: Plane

    @classmethod
    def of(cls, share: Plane, top: float, reach: int) -> _Gathered:
        return cls(reach, _sums(share, reach), _sums(top - share, reach))


def _layer(image: Plane, share: Plane, top: float, gathered: Sequence[_Gathered], inner: tuple[slice, slice]) -> Plane:
    """Colours of a layer, by gathering those of both layers from around each pixel, coarse then fine (Forte 2021).

    What the gathered colours do not explain of a pixel is split between the layers by least squares, so that both
    compose to the pixel exactly: of a pixel that is 80 % face, 94 % of the detail goes with the face.
    Kept to what leaves the other layer a colour that exists, so that no composite of it is out of range.

    Args:
        image: hxw of integers up to `_TOP`, one channel.
        share: hxw of integers up to `top`.
        top: The share of a pixel that is all of this layer.
        gathered: The squares over which colours are gathered, coarse first.
        inner: The part to give; what is around it is gathered from alone.
    """
    near, far = image, image
    part = share / top
    for around in gathered:
        near = _mean(near, share, around.near, around.reach)
        far = _mean(far, top - share, around.far, around.reach)
        rest = image - part * near
        rest -= (1 - part) * far
        rest /= part**2 + (1 - part) ** 2
        near += part * rest
        far += (1 - part) * rest
        for layer in (near, far):
            np.rint(np.clip(layer, 0, _TOP, out=layer), out=layer)
    image, part, near = image[inner], part[inner], near[inner]
    some = np.maximum(part, 1 / top)
    lowest, highest = (image - (1 - part) * _TOP) / some, image / some
    kept = np.clip(near, np.maximum(lowest, 0), np.minimum(highest, _TOP))
    return np.rint(np.where(part == 1, image, kept))


def _mean(colours: Plane, weight: Plane, weights: Plane, reach: int) -> Plane:
    """Means over squares, weighted, where the squares' weights are summed; the plain value where nothing has one."""
    return np.where(weights > 0, _sums(colours * weight, reach) / np.maximum(weights, 1), colours)


def _sums(plane: Plane, reach: int) -> Plane:
    """Sums over squares; beyond the border everything is 0."""
    side = (2 * reach + 1, 2 * reach + 1)
    summed = cv2.boxFilter(plane, cv2.CV_64F, side, normalize=False, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(summed, np.float64)
