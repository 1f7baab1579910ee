"""How near known places are: what FBA's network sees besides picture and trimap (Forte and Pitie 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

# Three for known background, three for known foreground.
PLANES = 6
# Of the Gaussians of the distance, as shares of a side of 320 px, the size of the published training.
_SPREADS = tuple(share * 320 for share in (0.02, 0.08, 0.16))


def nearness(known: Sequence[NDArray[np.bool_]]) -> NDArray[np.float32]:
    """exp(-d^2 / 2 s^2) for three spreads s, of each pixel's distance d in pixels to what is known.

    Args:
        known: HxW, where background is known; HxW, where foreground is.

    Returns:
        [6, H, W] in 0..1: background's three, smallest spread first, foreground's three; 0 where there is none.
    """
    found = np.zeros((PLANES, *known[0].shape), np.float32)
    for planes, here in zip((found[:3], found[3:]), known, strict=True):
        if not here.any():
            continue
        distance = cv2.distanceTransform((~here).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        for plane, spread in zip(planes, _SPREADS, strict=True):
            plane[:] = np.exp(-(distance**2) / (2 * spread**2))
    return found
