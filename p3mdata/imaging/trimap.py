"""Trimaps by the paper's rule."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.records import Mask

BACKGROUND, UNKNOWN, FOREGROUND = 0, 128, 255
# Training draws a kernel of 15 to 30 px for each picture; published trimaps and the metrics use one within that range.
KERNEL = 25


def trimap_of(alpha: NDArray[Any], kernel: int = KERNEL) -> NDArray[np.uint8]:
    """Trimap of a matte: unknown where dilate(alpha != 0) - erode(alpha == max), elliptic kernel (paper, section 5).

    Args:
        alpha: HxW, uint8 or uint16.
        kernel: Side of the kernel in pixels.

    Returns:
        HxW uint8 of 0 (background), 128 (unknown), 255 (foreground).
    """
    top = np.iinfo(alpha.dtype).max
    trimap = np.where(alpha == top, FOREGROUND, BACKGROUND).astype(np.uint8)
    trimap[transition_area(alpha, kernel)] = UNKNOWN
    return trimap


def read_grey(data: bytes) -> NDArray[Any] | None:
    """A one-channel picture as it is stored, HxW; None when it is none."""
    array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    return array if array is not None and array.ndim == 2 else None


def kernel_side(shape: tuple[int, int], width: float) -> int:
    """Side in pixels (odd) of the transition kernel: `width` is a share of the image's shorter side."""
    return max(3, round(width * min(shape)) | 1)


def transition_area(alpha: NDArray[Any], side: int) -> Mask:
    """Unknown band of a matte: dilate(alpha > 0) - erode(alpha == max), elliptic kernel.

    Args:
        alpha: HxW matte, uint8 or uint16.
        side: Kernel side in pixels.
    """
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    top = np.iinfo(alpha.dtype).max
    some = cv2.dilate((alpha > 0).astype(np.uint8), kernel)
    full = cv2.erode((alpha == top).astype(np.uint8), kernel)
    return np.asarray(some > full)
