"""A decoded image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[Any]


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
    """

    pixels: Pixels
    opacity: Pixels | None
    format: str
    icc: bytes | None
    orientation: int
    tables: tuple[dict[int, list[int]], int] | None = None
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def rgb8(self) -> NDArray[np.uint8]:
        """HxWx3 8-bit view of the colours for detection; transparency is ignored, so nothing hides under it."""
        pixels = self.pixels if self.pixels.dtype == np.uint8 else (self.pixels >> 8).astype(np.uint8)
        return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)

    def over_grey(self) -> NDArray[np.uint8] | None:
        """What a viewer shows of a transparent image, over mid-grey; None when it is opaque."""
        if self.opacity is None:
            return None
        opacity = self.opacity.astype(np.float32)[:, :, None] / np.iinfo(self.opacity.dtype).max
        return (self.rgb8() * opacity + 127 * (1 - opacity)).astype(np.uint8)


def orient(array: Pixels, orientation: int) -> Pixels:
    """Turn stored pixels into displayed ones, for EXIF orientation 1-8."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return np.ascontiguousarray(array)
