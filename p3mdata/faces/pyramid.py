"""One image at the sizes that detectors and the landmark model ask for."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

# Rows and columns of an image.
Window = tuple[slice, slice]


class Pyramid:
    """An image halved again and again, each half made once; other sizes are interpolated from the next larger half.

    Averages over exact pairs of pixels are several times as fast as over other shares.

    Args:
        rgb: HxWx3, uint8.
    """

    def __init__(self, rgb: NDArray[np.uint8]) -> None:
        self._levels = [rgb]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image in pixels."""
        return self._levels[0].shape[0], self._levels[0].shape[1]

    def at(self, long_side: int) -> tuple[NDArray[np.uint8], float]:
        """The image at `long_side` pixels of its longer side, and the factor that was applied."""
        height, width = self.size_at(long_side)
        level, _ = self._level(height, width)
        small = cv2.resize(level, (width, height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(small, np.uint8), long_side / max(self.size)

    def size_at(self, long_side: int) -> tuple[int, int]:
        """Height and width of the image at `long_side` pixels of its longer side."""
        factor = long_side / max(self.size)
        return max(1, round(self.size[0] * factor)), max(1, round(self.size[1] * factor))

    def part(self, long_side: int, window: Window) -> tuple[NDArray[np.uint8], tuple[float, float]]:
        """A window of the image at `long_side` pixels, interpolated alone, and where it begins there.

        It begins at a pixel of the half that it is made from, which is at or up to a pixel before the window's own.

        Args:
            long_side: Pixels of the image's longer side.
            window: Rows and columns of the image at that size.

        Returns:
            Its pixels, and its first row and column in the image at that size.
        """
        level, _ = self._level(*self.size_at(long_side))
        scales = [long / side for long, side in zip(level.shape[:2], self.size_at(long_side), strict=True)]
        begin = [int(part.start * scale) for part, scale in zip(window, scales, strict=True)]
        end = [
            min(side, math.ceil(part.stop * scale))
            for part, scale, side in zip(window, scales, level.shape[:2], strict=True)
        ]
        source = level[begin[0] : end[0], begin[1] : end[1]]
        pixels = cv2.resize(source, None, fx=1 / scales[1], fy=1 / scales[0], interpolation=cv2.INTER_LINEAR)
        return np.asarray(pixels, np.uint8), (begin[0] / scales[0], begin[1] / scales[1])

    def at_least(self, factor: float) -> tuple[NDArray[np.uint8], int]:
        """The smallest half in which the image has at least `factor` of its size, else itself; how much smaller it is.

        The middle of its pixel (i, j) lies at (i, j) * n + (n - 1) / 2 in the image, n being how much smaller it is.
        """
        return self._level(*(max(1, round(side * min(factor, 1))) for side in self.size))

    def crop(
        self, box: tuple[float, float, float, float], enlarge: float, side: int = 256
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """Square crop around a box, resampled to `side` pixels; beyond the image its border is repeated.

        Args:
            box: Left, top, right, bottom in pixels of the image.
            enlarge: Side of the square, relative to the longer side of the box.
            side: Pixels of the crop.

        Returns:
            The crop (side x side x 3) and the 2x3 matrix that maps crop pixels to image pixels.
        """
        left, top, right, bottom = box
        extent = max(right - left, bottom - top) * enlarge
        x0, y0 = (left + right - extent) / 2, (top + bottom - extent) / 2
        to_image = np.array([[extent / side, 0, x0], [0, extent / side, y0]])
        rgb, halved = self._level(*(max(1, round(length * side / max(side, extent))) for length in self.size))
        scale, x0, y0, extent = (value / halved for value in (extent / side, x0, y0, extent))
        inner = np.array([[scale, 0, x0], [0, scale, y0]])
        if scale > 1:
            # Warping alone would alias when a large face shrinks: average first, over the crop's own pixels.
            (xa, xb), (ya, yb) = (
                _pixels(start, start + extent, length) for start, length in ((x0, rgb.shape[1]), (y0, rgb.shape[0]))
            )
            part = rgb[ya:yb, xa:xb]
            size = max(1, round(part.shape[1] / scale)), max(1, round(part.shape[0] / scale))
            rgb = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)
            inner = np.array([[1, 0, (x0 - xa) / scale], [0, 1, (y0 - ya) / scale]])
        crop = cv2.warpAffine(
            rgb, inner, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
        )
        return np.asarray(crop, np.uint8), to_image

    def _level(self, height: int, width: int) -> tuple[NDArray[np.uint8], int]:
        """The smallest half that is not smaller than a size, or the image itself; and how much smaller it is."""
        number = 0
        while True:
            level = self._levels[number]
            half = level.shape[0] // 2, level.shape[1] // 2
            if half[0] < height or half[1] < width:
                return level, 1 << number
            number += 1
            if number == len(self._levels):
                even = level[: 2 * half[0], : 2 * half[1]]
                self._levels.append(np.asarray(cv2.resize(even, half[::-1], interpolation=cv2.INTER_AREA), np.uint8))


def _pixels(start: float, stop: float, side: int) -> tuple[int, int]:
    """The pixels of a row or column of `side` between two places; the nearest one where there are none."""
    first = min(max(0, int(np.floor(start))), side - 1)
    return first, max(first + 1, min(side, int(np.ceil(stop))))
