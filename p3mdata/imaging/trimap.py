"""The transition of a matte, defined here for all: what anonymization keeps, what trimaps call unknown.

Facemasks are cut out of the unknown area (paper, section 3.4.1): no network is asked about pixels that were replaced.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.imaging.facemask import replaced
from p3mdata.imaging.plane import plane_of
from p3mdata.records import Mask

BACKGROUND, UNKNOWN, FOREGROUND = 0, 128, 255
# Training draws a kernel of 15 to 30 px for each picture; published trimaps and the metrics use one within that range.
KERNEL = 25


def pure(alpha: NDArray[Any], tolerance: int = 0) -> tuple[Mask, Mask]:
    """Where a matte is background, and where it is foreground.

    Args:
        alpha: HxW, uint8 or uint16.
        tolerance: Levels of 255 that it may lack to either.
    """
    top = int(np.iinfo(alpha.dtype).max)
    slack = tolerance * (top // 255)
    return np.asarray(alpha <= slack), np.asarray(alpha >= top - slack)


def trimap_of(alpha: NDArray[Any], kernel: int = KERNEL, facemask: NDArray[Any] | None = None) -> NDArray[np.uint8]:
    """Trimap of a matte: unknown where dilate(alpha != 0) - erode(alpha == max), elliptic kernel (paper, section 5).

    Args:
        alpha: HxW, uint8 or uint16.
        kernel: Side of the kernel in pixels.
        facemask: HxW uint8 of an obfuscated picture: replaced pixels are not unknown, but what the matte is nearer to.

    Returns:
        HxW uint8 of 0 (background), 128 (unknown), 255 (foreground).
    """
    top = np.iinfo(alpha.dtype).max
    trimap = np.where(alpha == top, FOREGROUND, BACKGROUND).astype(np.uint8)
    trimap[transition_area(alpha, kernel)] = UNKNOWN
    if facemask is not None:
        cut = replaced(facemask) & (trimap == UNKNOWN)
        trimap[cut] = np.where(alpha[cut] > top // 2, FOREGROUND, BACKGROUND)
    return trimap


def stored_plane(data: bytes, flags: int = cv2.IMREAD_UNCHANGED) -> NDArray[Any] | None:
    """A one-channel picture as it is stored, or as `flags` of OpenCV make it one, HxW; None when it is none."""
    if flags == cv2.IMREAD_UNCHANGED and (plane := plane_of(data)) is not None:
        return plane
    try:
        array = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        # Of an empty file, and of one with more pixels than OpenCV takes.
        return None
    return array if array is not None and array.ndim == 2 else None


def kernel_side(shape: tuple[int, int], width: float) -> int:
    """Side in pixels (odd) of the transition kernel: `width` is a share of the image's shorter side.

    0 gives 1: the matte's own unknown pixels and no band around them.
    """
    return max(3, round(width * min(shape)) | 1) if width else 1


def transition_area(alpha: NDArray[Any], side: int, tolerance: int = 0) -> Mask:
    """Unknown band of a matte: dilate(alpha > 0) - erode(alpha == max), elliptic kernel.

    Args:
        alpha: HxW matte, uint8 or uint16.
        side: Kernel side in pixels.
        tolerance: Levels of 255 that count as none, or as all.
    """
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    none, all_of_it = pure(alpha, tolerance)
    some = cv2.dilate((~none).view(np.uint8), kernel)
    full = cv2.erode(all_of_it.view(np.uint8), kernel)
    return np.asarray(some > full)
