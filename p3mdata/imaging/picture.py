"""A decoded image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.imaging.jpeg import JpegBlocks
from p3mdata.native.levels import levels

Pixels = NDArray[Any]
# Shares of the range of values: a quarter is 14 bits in a file of 16, a sixteenth 12 bits.
_DARK, _NEARLY_BLACK = 1 / 4, 1 / 16
_SAMPLED = 100_000


@dataclass(frozen=True)
class Picture:
    """A decoded image.

    Attributes:
        pixels: HxW (grey) or HxWx3 (RGB), uint8 or uint16, displayed orientation.
        opacity: HxW of the same dtype, or None for opaque images.
        format: 'JPEG', 'PNG', 'WEBP' or 'TIFF': what it is written back as; other formats become 'PNG'.
        icc: ICC profile that the pixels need to be read right, or None.
        orientation: EXIF orientation (1-8) that was applied.
        tables: JPEG quantisation tables and subsampling of the source, for re-encoding at equal quality.
        notes: What had to be converted, in words.
        blocks: The coefficients of a JPEG file as it is stored, where they came along with the pixels.
    """

    pixels: Pixels
    opacity: Pixels | None
    format: str
    icc: bytes | None
    orientation: int
    tables: tuple[dict[int, list[int]], int] | None = None
    notes: tuple[str, ...] = ()
    blocks: JpegBlocks | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def rgb8(self) -> NDArray[np.uint8]:
        """HxWx3 8-bit view of the colours; transparency is ignored, so nothing hides under it."""
        pixels = self.pixels if self.pixels.dtype == np.uint8 else (self.pixels >> 8).astype(np.uint8)
        return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)

    @cached_property
    def _bright(self) -> float:
        """What 99 % of the values are not above, as a share of their range; the rest may be lamps, or a stamp."""
        # Every n-th row and column: levels need no more.
        step = max(1, int((self.pixels.size / _SAMPLED) ** 0.5))
        values = self.pixels[::step, ::step]
        at = int(0.99 * (values.size - 1))
        if values.dtype == np.uint8:
            # What a partition finds, of few values in a fraction of its time.
            if (counts := levels(values)) is None:
                of_floats = cv2.calcHist([values.reshape(1, -1)], [0], None, [256], [0, 256])
                # Their sums beyond 2^24 were off.
                counts = of_floats.astype(np.int64)
            found = int(np.searchsorted(np.cumsum(counts), at, side="right"))
        else:
            found = int(np.partition(values, at, axis=None)[at])
        return found / int(np.iinfo(values.dtype).max)

    @property
    def nearly_black(self) -> bool:
        """Whether a viewer shows next to nothing, such as 8 to 12 bits in a file of 16."""
        return self._bright < _NEARLY_BLACK

    def seen8(self) -> NDArray[np.uint8]:
        """`rgb8` for eyes and detectors: levels are stretched where they fill less than a quarter of their range."""
        if not 0 < self._bright < _DARK:
            return self.rgb8()
        top = np.iinfo(self.pixels.dtype).max
        table = np.clip(np.rint(np.arange(top + 1) * (255 / (top * self._bright))), 0, 255).astype(np.uint8)
        stretched = table[self.pixels]
        return stretched if stretched.ndim == 3 else np.repeat(stretched[:, :, None], 3, axis=2)

    def over_grey(self) -> NDArray[np.uint8] | None:
        """What a viewer shows of a transparent image, over mid-grey; None when it is opaque."""
        if self.opacity is None:
            return None
        opacity = self.opacity.astype(np.float32)[:, :, None] / np.iinfo(self.opacity.dtype).max
        return (self.seen8() * opacity + 127 * (1 - opacity)).astype(np.uint8)


def orient(array: Pixels, orientation: int) -> Pixels:
    """Turn stored pixels into displayed ones, for EXIF orientation 1-8."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return np.ascontiguousarray(array)
