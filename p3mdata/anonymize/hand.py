"""Hand-drawn masks: what of a file counts as drawn, and doubts about it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.records import Doubt, Mask

# Greys this near to a white area are its smoothed edge; lossy formats leave traces within a block of 8 px.
_EDGE_SHARE, _EDGE_LEAST, _EDGE_MOST = 0.02, 3, 16
# A mask of this share of a picture is no mask of faces; less is, unless it reaches three corners as what surrounds a
# face does.
_NEARLY_ALL, _MOST, _CORNERS = 0.8, 0.5, 3


def drawn_area(mask: NDArray[Any]) -> Mask:
    """What was drawn: all white areas, and every other area that is not the smoothed edge of a white one.

    Tools for labels number areas from 1, and a file may hold both 65535 and 255: whatever is not black was drawn.

    Args:
        mask: HxW, uint8 or uint16.
    """
    white = np.asarray(mask > np.iinfo(mask.dtype).max // 2)
    drawn = np.asarray(mask > 0)
    faint = drawn & ~white
    if not faint.any() or not white.any():
        return drawn
    reach = int(np.clip(_EDGE_SHARE * min(mask.shape), _EDGE_LEAST, _EDGE_MOST))
    square = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    beyond = faint & (cv2.dilate(white.view(np.uint8), square) == 0)
    if not beyond.any():
        return white
    _, labels = cv2.connectedComponents(faint.view(np.uint8), connectivity=8)
    return np.asarray(white | (np.isin(labels, np.unique(labels[beyond])) & faint))


def hand_doubts(hand: Mask) -> list[Doubt]:
    """Doubts about a mask that covers most of a picture: where white stands for 'keep', the face alone stays bare."""
    share = float(hand.mean())
    corners = int(hand[0, 0]) + int(hand[0, -1]) + int(hand[-1, 0]) + int(hand[-1, -1])
    if share <= _MOST or (share <= _NEARLY_ALL and corners < _CORNERS):
        return []
    return [
        Doubt(
            "hand_mask_covers_most",
            f"the hand-drawn mask covers {share:.0%} of the picture: white is what gets obfuscated. Invert it if black "
            "was meant, or confirm it in the review",
        )
    ]
