"""The fourth channel: an outline that stays as it is, or a picture that hides a face like the colours do.

Scanners store infrared and cameras store depth where a cut-out has its opacity. An outline is solid, fully opaque or
fully transparent, but for a band along its edge; a picture is solid nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.anonymize.masks import Patch, Region, grown
from p3mdata.anonymize.noise import Noise
from p3mdata.anonymize.obfuscate import obfuscate
from p3mdata.config import Method
from p3mdata.records import XYXY, Mask

# What lies nearer than this share of a face's width to another value is of the edge.
_EDGE = 0.03
# Mattes of portraits leave up to 0.13 of the area of a face to its edge; infrared pictures all of it, and thresholded
# or overexposed ones 0.2 to 1 (35 faces were measured). Where an outline is taken for a picture, its edge is blurred
# inside the facemask, and no more.
_MOST_EDGE = 0.2
# As above, of a whole matte: hair in the wind.
_MOST_EDGE_OF_A_MATTE = 0.5
# Levels of 255 within which a matte is nearly solid; nobody sees a face in them, and anybody can stretch them.
_NEARLY = 20
# Of 43 faces in mattes of networks up to 0.13 of a box is nearly solid and yet not of one level (along the edge), and
# 0.21 of a narrower box; up to 0.28 is not of one level, whichever. Faces in two levels have 0.2 and more.
_MOST_TEXTURE, _MOST_TEXTURE_OF_SMALL, _MOST_LEVELS, _WIDE = 0.17, 0.25, 0.5, 48


def unsolid(plane: NDArray[Any], side: int = 3) -> Mask:
    """Where a channel is neither 0 nor full in the whole side x side square around a pixel.

    Args:
        plane: HxW, uint8 or uint16.
        side: Of the square, in pixels, odd.
    """
    square, top = np.ones((side, side), np.uint8), np.iinfo(plane.dtype).max
    full = cv2.erode((plane == top).view(np.uint8), square)
    none = cv2.erode((plane == 0).view(np.uint8), square)
    return np.asarray(cv2.bitwise_or(full, none) == 0)


def is_picture(plane: NDArray[Any]) -> bool:
    """Whether a whole channel is no outline: more than half of it is edge."""
    return bool(unsolid(plane).mean() > _MOST_EDGE_OF_A_MATTE)


def shows_face(matte: NDArray[Any], box: XYXY) -> bool:
    """Whether a matte has the face of a box in its levels, be they as near to each other as 254 and 255.

    Args:
        matte: HxW, uint8 or uint16.
        box: Of the face, in pixels; what lies outside the matte does not count.
    """
    left, top, right, bottom = (max(0, round(value)) for value in box)
    part = np.ascontiguousarray(matte[top:bottom, left:right])
    if not part.size:
        return False
    side = max(3, round(_EDGE * (right - left)) | 1)
    square, full = np.ones((side, side), np.uint8), np.iinfo(part.dtype).max
    most, least, near = cv2.dilate(part, square), cv2.erode(part, square), _NEARLY * full // 255
    differ = most != least
    wide = right - left >= _WIDE
    if wide and differ.mean() > _MOST_LEVELS:
        return True
    texture = (differ & ((least >= full - near) | (most <= near))).mean()
    return bool(texture > (_MOST_TEXTURE if wide else _MOST_TEXTURE_OF_SMALL))


def shows_picture(plane: NDArray[Any], region: Patch, width: float) -> bool:
    """Whether a channel shows more than an outline inside a region.

    Args:
        plane: HxW, uint8 or uint16.
        region: The area of one face.
        width: Of that face, in pixels.
    """
    total = np.count_nonzero(region.mask)
    if not total:
        return False
    side = max(3, round(_EDGE * width) | 1)
    rows, cols = (grown(part, side) for part in region.window)
    edge = unsolid(np.ascontiguousarray(plane[rows, cols]), side)
    inner = edge[region.top - rows.start :, region.left - cols.start :][: region.mask.shape[0], : region.mask.shape[1]]
    return bool(np.count_nonzero(inner & region.mask) > _MOST_EDGE * total)


def hide(
    opacity: NDArray[Any], regions: Iterable[Region], method: Method, strength: float, noise: Noise | None = None
) -> bool:
    """Obfuscate a fourth channel in place, in the regions in which it shows a picture; tells whether there are any.

    Where colours become black, it becomes opaque: the mask shall show as one.
    """
    any_hidden = False
    for region in regions:
        patch = region.patch
        if shows_picture(opacity, patch, region.width):
            any_hidden = True
            if method is Method.ZERO:
                opacity[patch.window][patch.mask] = np.iinfo(opacity.dtype).max
            else:
                obfuscate(opacity, patch, method, strength, region.width, noise)
    return any_hidden
