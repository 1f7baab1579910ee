"""Parts of an image for a detector of small faces: overlapping halves, or windows; each hit belongs to one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p3mdata.faces.detectors import Box
from p3mdata.faces.pyramid import Pyramid, Window

# Halves, relative to the largest face that is looked for in them: how much they overlap, so that a face is seen with
# what is around it, and how near to a cut a hit is the other half's; a little less than half of the overlap, since both
# do not place it alike.
_OVERLAP, _CUT = 3, 1.375
# How near to the cut of a window, relative to its extent, a hit is no one's: such a face is cut in two.
_CUT_OF_WINDOW = 0.6


@dataclass(frozen=True)
class Piece:
    """A part of an image that begins at (across, down), which need not be whole pixels.

    Attributes:
        rgb: Its pixels, HxWx3.
        across: Where its first column lies.
        down: Where its first row lies.
        cut: How near to its left, upper, right and lower end it owns no hits, in pixels.
        relative: Whether that is told in extents of a hit instead.
    """

    rgb: NDArray[np.uint8]
    across: float = 0
    down: float = 0
    cut: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    relative: bool = False

    def owns(self, hit: Box) -> bool:
        """Whether the centre of a hit (in pixels of the piece) is far enough from where the image was cut."""
        left, top, right, bottom = hit.xyxy
        x, y, (height, width) = (left + right) / 2, (top + bottom) / 2, self.rgb.shape[:2]
        near = (x, y, width - x, height - y)
        unit = hit.extent if self.relative else 1.0
        return all(not margin or distance >= margin * unit for distance, margin in zip(near, self.cut, strict=True))


def halves(image: NDArray[np.uint8], largest: float) -> list[Piece]:
    """An image, or two overlapping halves of it where only faces up to `largest` pixels are looked for.

    The first layers of a network take the most memory, in proportion to what they are shown. A face that a cut goes
    through is seen whole in the other half.
    """
    height, width = image.shape[:2]
    overlap = _OVERLAP * largest
    if overlap >= max(height, width):
        return [Piece(image)]
    size, cut = (max(height, width) + int(overlap)) // 2, _CUT * largest
    if height >= width:
        upper = Piece(image[:size], cut=(0, 0, 0, cut))
        return [upper, Piece(image[height - size :], down=height - size, cut=(0, cut, 0, 0))]
    left = Piece(image[:, :size], cut=(0, 0, cut, 0))
    return [left, Piece(image[:, width - size :], across=width - size, cut=(cut, 0, 0, 0))]


def parts(image: Pyramid, side: int, windows: Sequence[Window]) -> list[Piece]:
    """Windows of an image at `side` pixels of its longer side."""
    height, width = image.size_at(side)
    pieces = []
    for rows, cols in windows:
        pixels = image.part(side, (rows, cols))
        ends = cols.start > 0, rows.start > 0, cols.stop < width, rows.stop < height
        left, top, right, bottom = (_CUT_OF_WINDOW * inside for inside in ends)
        pieces.append(Piece(pixels, cols.start, rows.start, (left, top, right, bottom), relative=True))
    return pieces
