"""An output beside its source: where they can differ, and what each of them shows there.

Most outputs are decoded as a whole. Of a JPEG file of which only blocks were to change, coefficients tell where it
differs from its source, and only that part becomes pixels: a file whose size, sampling and tables are those of another
one, and whose coefficients are equal to its beside a rectangle, decodes to equal pixels there, whoever decodes both.
That is a proof about the files' bytes, and takes no second picture in memory. Outputs are read by libjpeg, as everybody
else reads them, and never by the code that wrote them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.errors import SetupError
from p3mdata.imaging import Picture, decode
from p3mdata.imaging.jpeg import JpegBlocks, UnsupportedJpeg

# Rows and columns.
Window = tuple[slice, slice]


class Output(Protocol):
    """An output beside its source.

    Attributes:
        window: A rectangle that holds the facemask and every pixel in which they differ.
        before, after: Pixels of source and output in it, of one shape and type.
        compressed: Whether the output is a JPEG file.
        opacity: Of the output, as `Picture.opacity`.
    """

    @property
    def window(self) -> Window: ...
    @property
    def before(self) -> NDArray[Any]: ...
    @property
    def after(self) -> NDArray[Any]: ...
    @property
    def compressed(self) -> bool: ...
    @property
    def opacity(self) -> NDArray[Any] | None: ...

    def shown(self) -> contextlib.AbstractContextManager[tuple[Picture, Callable[[], object]]]:
        """The output as a picture while the block runs, and what to call in it before the source is looked at."""


def opened(source: Picture, output: bytes, place: Window, exact: bool, bare: bool) -> Output:
    """An output of a decoded source.

    Args:
        source: The decoded source.
        output: The file.
        place: The rectangle around the facemask.
        exact: Whether nothing is meant to differ beside it; else the window is the whole picture.
        bare: Whether the file carries nothing that may have a say in how it is shown.

    Raises:
        BrokenInput: It cannot be decoded.
        ValueError: It is of another size than the source.
    """
    return (_Edited.of(source, output, place) if exact and bare else None) or _Whole.of(source, output, place, exact)


def as_8_bit(pixels: NDArray[Any]) -> NDArray[Any]:
    """Values of any depth as bytes."""
    return (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels


@dataclass(frozen=True)
class _Whole:
    """An output that is decoded as a whole."""

    picture: Picture
    window: Window
    before: NDArray[Any]
    after: NDArray[Any]

    @classmethod
    def of(cls, source: Picture, output: bytes, place: Window, exact: bool) -> _Whole:
        picture = decode(output, max_pixels=max(1, source.pixels.size), by_libjpeg=True)
        before, after = source.pixels, picture.pixels
        if after.dtype != before.dtype:
            before, after = as_8_bit(before), as_8_bit(after)
        if after.shape != before.shape:
            # A grey picture in a colour container has three equal channels; anything else is another size.
            if after.shape[:2] != before.shape[:2] or after.ndim == before.ndim:
                raise ValueError(f"the output is {after.shape}, the source {before.shape}")
            before, after = (np.dstack([a] * 3) if a.ndim == 2 else a for a in (before, after))
        # A picture that was encoded as a whole differs everywhere, which need not be asked.
        window = slice(0, before.shape[0]), slice(0, before.shape[1])
        if exact:
            window = _beside_which_equal(before, after, place)
        return cls(picture, window, before[window], after[window])

    @property
    def compressed(self) -> bool:
        return self.picture.format == "JPEG"

    @property
    def opacity(self) -> NDArray[Any] | None:
        return self.picture.opacity

    @contextlib.contextmanager
    def shown(self) -> Iterator[tuple[Picture, Callable[[], object]]]:
        yield self.picture, lambda: None


def _beside_which_equal(before: NDArray[Any], after: NDArray[Any], place: Window) -> Window:
    """A rectangle, or the whole picture where pixels beside it differ."""
    height, width = before.shape[:2]
    rows, columns = place
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
    """A JPEG file that differs from its source in blocks."""

    source: Picture
    window: Window
    after: NDArray[Any]
    compressed = True
    opacity = None

    @classmethod
    def of(cls, source: Picture, output: bytes, place: Window) -> _Edited | None:
        """None where it has to be decoded as a whole to tell."""
        if source.blocks is None or source.orientation != 1:
            return None
        try:
            blocks = JpegBlocks.read(output, to_write=False, by_libjpeg=True)
        except (UnsupportedJpeg, SetupError):
            return None
        differing = source.blocks.where_differing(blocks)
        if differing is None:
            return None
        rows, columns = place
        if differing[0].stop:
            rows, columns = (
                slice(min(a.start, b.start), max(a.stop, b.stop))
                for a, b in zip((rows, columns), differing, strict=True)
            )
        shown = blocks.pixels(rows, columns)
        return None if shown is None else cls(source, (rows, columns), shown)

    @property
    def before(self) -> NDArray[Any]:
        return self.source.pixels[self.window]

    @contextlib.contextmanager
    def shown(self) -> Iterator[tuple[Picture, Callable[[], object]]]:
        """In the source's own memory, where its pixels are exchanged until it is looked at or the block ends."""
        place = self.before
        kept = place.copy()

        def put_back() -> None:
            place[...] = kept

        place[...] = self.after
        try:
            yield Picture(self.source.pixels, None, "JPEG", self.source.icc, 1), put_back
        finally:
            put_back()
