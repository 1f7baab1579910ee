"""One image at the sizes that detectors and the landmark model ask for."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.faces import sampling

# Rows and columns of an image.
Window = tuple[slice, slice]


class Pyramid:
    """An image halved again and again, each half made once; other sizes are interpolated from the next larger half.

    Averages over exact pairs of pixels are several times as fast as over other shares.

    Args:
        rgb: HxWx3, uint8.
    """

    def __init__(self, rgb: NDArray[np.uint8]) -> None:
        # Compiled code walks along rows; a turned view has none.
        self._levels = [rgb if rgb.strides[1:] == (3, 1) else rgb.copy()]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image in pixels."""
        return self._levels[0].shape[0], self._levels[0].shape[1]

    def at(self, long_side: int) -> tuple[NDArray[np.uint8], float]:
        """The image at `long_side` pixels of its longer side, and the factor that was applied."""
        height, width = self.size_at(long_side)
        return sampling.resized(self._level(height, width)[0], height, width), long_side / max(self.size)

    def size_at(self, long_side: int) -> tuple[int, int]:
        """Height and width of the image at `long_side` pixels of its longer side."""
        factor = long_side / max(self.size)
        return max(1, round(self.size[0] * factor)), max(1, round(self.size[1] * factor))

    def part(self, long_side: int, window: Window) -> NDArray[np.uint8]:
        """What `at` has in a window (rows and columns), made alone."""
        size = self.size_at(long_side)
        return sampling.window_of_resized(self._level(*size)[0], size, window)

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
        return sampling.crop(rgb, (x0 / halved, y0 / halved), extent / side / halved, side), to_image

    def shows(self, rgb: NDArray[np.uint8]) -> bool:
        """Whether it was made of this very array."""
        return self._levels[0] is rgb

    def exchanged(self, rgb: NDArray[np.uint8], window: Window) -> Pyramid:
        """The pyramid of an image of this one's size that differs from it in a window (rows and columns) at most.

        It takes the halves over, and makes those parts of them anew which the window has a share in; this one makes its
        own again where it is asked for them. The array may be the one that this pyramid was made of, changed since.
        """
        other = Pyramid(rgb)
        if other.size != self.size:
            raise ValueError(f"an image of {rgb.shape} in place of one of {self._levels[0].shape}")
        halves, self._levels = self._levels[1:], self._levels[:1]
        for level in halves:
            window = _halved(window[0], level.shape[0]), _halved(window[1], level.shape[1])
            rows, columns = (slice(2 * part.start, 2 * part.stop) for part in window)
            part = level[window]
            if part.size:
                source = other._levels[-1][rows, columns]
                part[...] = cv2.resize(source, part.shape[1::-1], interpolation=cv2.INTER_AREA)
            other._levels.append(level)
        return other

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


def _halved(part: slice, side: int) -> slice:
    """The rows or columns of a half, `side` of them, that are made of some of the whole."""
    return slice(min(part.start // 2, side), min(-(-part.stop // 2), side))
