"""An output beside its source: where they can differ, and what each of them shows there.

Most outputs are decoded as a whole. Of a JPEG file of which only blocks were to change, coefficients tell where it
differs from its source, and only that part becomes pixels: a file whose size, sampling and tables are those of another
one, and whose coefficients are equal to its beside a rectangle, decodes to equal pixels there, whoever decodes both.
That is a proof about the files' bytes, and takes no second picture in memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.imaging import Picture, decode
from p3mdata.imaging.jpeg import JpegBlocks, UnsupportedJpeg
from p3mdata.records import Mask

# Rows and columns.
Window = tuple[slice, slice]


class Output(Protocol):
    """An output beside its source."""

    @property
    def compressed(self) -> bool:
        """Whether it is a JPEG file."""

    @property
    def opacity(self) -> NDArray[Any] | None:
        """Of the output, as `Picture.opacity`."""

    def compared(self, facemask: Mask, exact: bool) -> tuple[Window, NDArray[Any], NDArray[Any]]:
        """A rectangle that holds the facemask and every difference, and the pixels of source and output in it.

        Args:
            facemask: HxW.
            exact: Whether nothing is meant to differ beside it; else the rectangle may be the whole picture at once.
        """

    def shown(self) -> contextlib.AbstractContextManager[tuple[Picture, Callable[[], object]]]:
        """The output as a picture while the block runs, and what to call in it before the source is looked at."""


def opened(source: Picture, output: bytes, edited: bool) -> Output:
    """An output of a decoded source.

    Args:
        source: The decoded source.
        output: The file.
        edited: Whether nothing but some blocks of a JPEG file was to change, and the file carries nothing else that may
            have a say in how it is shown.

    Raises:
        BrokenInput: It cannot be decoded.
        ValueError: It is of another size than the source.
    """
    return (_Edited.of(source, output) if edited else None) or _Whole.of(source, output)


def around(mask: Mask) -> Window:
    """The rectangle around a mask; the first pixel of an empty one."""
    x, y, across, down = cv2.boundingRect(mask.view(np.uint8))
    return slice(y, max(y + down, 1)), slice(x, max(x + across, 1))


def as_8_bit(pixels: NDArray[Any]) -> NDArray[Any]:
    """Values of any depth as bytes."""
    return (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels


@dataclass(frozen=True)
class _Whole:
    """An output that is decoded as a whole.

    Attributes:
        picture: The output.
        before, after: Pixels of the source and of the output, of one shape and type.
    """

    picture: Picture
    before: NDArray[Any]
    after: NDArray[Any]

    @classmethod
    def of(cls, source: Picture, output: bytes) -> _Whole:
        picture = decode(output, max_pixels=max(1, source.pixels.size))
        before, after = source.pixels, picture.pixels
        if after.dtype != before.dtype:
            before, after = as_8_bit(before), as_8_bit(after)
        if after.shape != before.shape:
            # A grey picture in a colour container has three equal channels; anything else is another size.
            if after.shape[:2] != before.shape[:2] or after.ndim == before.ndim:
                raise ValueError(f"the output is {after.shape}, the source {before.shape}")
            before, after = (np.dstack([a] * 3) if a.ndim == 2 else a for a in (before, after))
        return cls(picture, before, after)

    @property
    def compressed(self) -> bool:
        return self.picture.format == "JPEG"

    @property
    def opacity(self) -> NDArray[Any] | None:
        return self.picture.opacity

    def compared(self, facemask: Mask, exact: bool) -> tuple[Window, NDArray[Any], NDArray[Any]]:
        # A picture that was encoded as a whole differs everywhere, which need not be asked.
        everything = slice(0, facemask.shape[0]), slice(0, facemask.shape[1])
        window = _beside_which_equal(self.before, self.after, facemask) if exact else everything
        return window, self.before[window], self.after[window]

    @contextlib.contextmanager
    def shown(self) -> Iterator[tuple[Picture, Callable[[], object]]]:
        yield self.picture, lambda: None


def _beside_which_equal(before: NDArray[Any], after: NDArray[Any], facemask: Mask) -> Window:
    """The rectangle around a facemask, or the whole picture where pixels beside that rectangle differ."""
    height, width = facemask.shape
    rows, columns = around(facemask)
    beside = (
        (slice(0, rows.start), slice(0, width)),
        (slice(rows.stop, height), slice(0, width)),
        (rows, slice(0, columns.start)),
        (rows, slice(columns.stop, width)),
    )
    if any(before[part].size and cv2.norm(before[part], after[part], cv2.NORM_INF) for part in beside):
        return slice(0, height), slice(0, width)
    return rows, columns


@dataclass(frozen=True)
class _Edited:
    """A JPEG file that differs from its source in blocks.

    Attributes:
        source: The decoded source.
        window: The rectangle that holds all pixels in which they differ; empty where there are none.
        rows: The output's pixels in the rows of that rectangle, as wide as the picture.
    """

    source: Picture
    window: Window
    rows: NDArray[np.uint8]
    compressed = True
    opacity = None

    @classmethod
    def of(cls, source: Picture, output: bytes) -> _Edited | None:
        """None where it has to be decoded as a whole to tell."""
        if source.blocks is None or source.orientation != 1:
            return None
        try:
            blocks = JpegBlocks.read(output, to_write=False)
        except UnsupportedJpeg:
            return None
        window = source.blocks.where_differing(blocks)
        if window is None:
            return None
        rows = blocks.pixels(window[0]) if window[0].stop else source.pixels[:0]
        return None if rows is None else cls(source, window, rows)

    def compared(self, facemask: Mask, exact: bool) -> tuple[Window, NDArray[Any], NDArray[Any]]:
        window = around(facemask)
        if len(self.rows):
            rows, columns = (
                slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(self.window, window, strict=True)
            )
            window = rows, columns
        before = self.source.pixels[window]
        after, first = before.copy(), self.window[0].start - window[0].start
        if len(self.rows):
            after[first : first + len(self.rows)] = self.rows[:, window[1]]
        return window, before, after

    @contextlib.contextmanager
    def shown(self) -> Iterator[tuple[Picture, Callable[[], object]]]:
        """In the source's own memory, where the rows are exchanged until the source is looked at or the block ends."""
        place = self.source.pixels[self.window[0]]
        kept = place.copy()

        def put_back() -> None:
            place[...] = kept

        place[...] = self.rows
        try:
            yield Picture(self.source.pixels, None, "JPEG", self.source.icc, 1), put_back
        finally:
            put_back()
