"""Images at other sizes, with the same bytes on every machine: weights are integers, and each mean is rounded once.

Whole images are interpolated as OpenCV's INTER_LINEAR_EXACT does it; windows of them have the pixels that the whole
would have there. Crops are means over what each of their pixels covers.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.native.library import library
from p3mdata.native.sampling import ONE, Taps, sampled

Pixels = NDArray[np.uint8]
# Of rows or columns that a pixel of a crop is made of.
_MOST_TAPS = 4


def resized(rgb: Pixels, height: int, width: int) -> Pixels:
    """An image (HxWx3) at another size, interpolated; itself where it has that size."""
    if rgb.shape[:2] == (height, width):
        return rgb
    # A single row or column cannot be interpolated; without special instructions OpenCV is as fast.
    if min(rgb.shape[:2]) > 1 and (native := library()) is not None and native.level:
        made = sampled(rgb, _between(rgb.shape[0], height), _between(rgb.shape[1], width))
        if made is not None:
            return made
    return np.asarray(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_LINEAR_EXACT), np.uint8)


def window_of_resized(rgb: Pixels, size: tuple[int, int], window: tuple[slice, slice]) -> Pixels:
    """What `resized` has in a window, made alone.

    Args:
        rgb: HxWx3.
        size: Height and width of the image at the other size.
        window: Rows and columns of it.
    """
    if rgb.shape[:2] == size or min(rgb.shape[:2]) == 1:
        return resized(rgb, *size)[window]
    rows, columns = (
        _between(side, length).part(part.start, part.stop)
        for side, length, part in zip(rgb.shape[:2], size, window, strict=True)
    )
    return _sampled(rgb, rows, columns)


def crop(rgb: Pixels, corner: tuple[float, float], step: float, side: int) -> Pixels:
    """A square of an image, side x side x 3; beyond the image its border is repeated.

    Args:
        rgb: HxWx3.
        corner: Where it begins, across and down, in pixels of the image.
        step: Pixels of the image that a pixel of the crop is wide, a little over 2 at most; it is a mean over these, or
            interpolated where it is less than 1.
        side: Pixels of the crop.
    """
    down, across = (max(0, _MOST_TAPS - length) for length in rgb.shape[:2])
    if down or across:
        rgb = np.asarray(cv2.copyMakeBorder(rgb, 0, down, 0, across, cv2.BORDER_REPLICATE), np.uint8)
    rows, columns = (
        _over(length, start, step, side) for length, start in zip(rgb.shape[:2], reversed(corner), strict=True)
    )
    return _sampled(rgb, rows, columns)


def _sampled(rgb: Pixels, rows: Taps, columns: Taps) -> Pixels:
    made = sampled(rgb, rows, columns)
    if made is not None:
        return made
    taps = range(rows.weights.shape[1])
    # 16 bits hold 255 * 256, and 32 what it comes to with the second weights.
    lines = sum(rgb[rows.first + k] * rows.weights[:, k, None, None].astype(np.uint16) for k in taps)
    line = np.asarray(lines, np.int32)
    sums = sum(line[:, columns.first + k] * columns.weights[None, :, k, None].astype(np.int32) for k in taps)
    return np.ascontiguousarray((np.asarray(sums) + ONE * ONE // 2) // (ONE * ONE), np.uint8)


@lru_cache(256)
def _between(side: int, size: int) -> Taps:
    """For an image interpolated to `size` rows or columns; the outermost are repeated."""
    # Multiplied as OpenCV does it: a division would round otherwise.
    place = np.maximum((np.arange(size) + 0.5) * (1 / (size / side)) - 0.5, 0)
    first = np.minimum(np.floor(place), side - 2).astype(np.int32)
    share = np.rint(np.minimum(place - first, 1) * ONE).astype(np.int16)
    return Taps(side, first, np.stack([ONE - share, share], 1))


def _over(side: int, start: float, step: float, size: int) -> Taps:
    """For means over `step` rows or columns each, or interpolation where that is less than one."""
    wide = max(1.0, step)
    begin = start + (np.arange(size) + 0.5) * step - wide / 2
    first = np.clip(np.floor(begin), -_MOST_TAPS, side)
    # What is covered up to the end of each pixel, rounded together so that nothing is lost.
    covered = (first[:, None] + np.arange(1, _MOST_TAPS + 1) - begin[:, None]) / wide
    covered = np.rint(np.clip(covered, 0, 1) * ONE)
    covered[:, -1] = ONE
    weights = np.diff(covered, axis=1, prepend=0).astype(np.int16)
    inside = np.clip(first, 0, side - _MOST_TAPS).astype(np.int32)
    over = (first - inside).astype(int)
    if over.any():
        moved = np.zeros_like(weights)
        at = np.clip(over[:, None] + np.arange(_MOST_TAPS), 0, _MOST_TAPS - 1)
        np.add.at(moved, (np.arange(size)[:, None], at), weights)
        weights = moved
    return Taps(side, inside, weights)
