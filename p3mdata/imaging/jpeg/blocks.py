"""One JPEG file whose blocks can be exchanged: which ones to change, what that affects, and the new file."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.errors import SetupError
from p3mdata.imaging.jpeg.coefficients import read_coefficients, rewrite, write_coefficients
from p3mdata.imaging.jpeg.library import Coefs, Opened
from p3mdata.imaging.jpeg.scan import OneScan, pixels_of
from p3mdata.imaging.jpeg.segments import UnsupportedJpeg
from p3mdata.imaging.jpeg.structure import BLOCK, COLOUR, Component, inspect
from p3mdata.imaging.jpeg.transform import quantised
from p3mdata.imaging.jpeg.turn import turn
from p3mdata.native.jpeg import differing

BoolArray = NDArray[np.bool_]


def decoded_pixels(data: bytes) -> NDArray[np.uint8] | None:
    """Pixels of an intact file of grey or YCbCr, as any decoder of libjpeg gives them, uint8 RGB [height, width, 3], or
    [height, width] of a grey file, as stored; None leaves it to such a decoder."""
    try:
        return pixels_of(inspect(data))
    except UnsupportedJpeg:
        return None


@dataclass(frozen=True)
class Reach:
    """What an edit touches, as computed by `JpegBlocks.reach`.

    Attributes:
        blocks: per component a bool array [block rows, block columns]: the blocks to compute anew.
        changed: bool array [height, width]: every pixel whose decoded value may differ from the source.
        luma: bool array [height, width]: the pixels whose brightness comes from the obfuscated image.
    """

    blocks: tuple[BoolArray, ...]
    changed: BoolArray
    luma: BoolArray

    def joined(self, other: Reach) -> Reach:
        """What two edits of one file touch together."""
        blocks = tuple(a | b for a, b in zip(self.blocks, other.blocks, strict=True))
        return Reach(blocks, self.changed | other.changed, self.luma | other.luma)


class JpegBlocks:
    """The quantised coefficients of one JPEG file.

    Attributes:
        width: pixels per row, in the stored orientation unless `turned`.
        height: number of rows, likewise.
    """

    width: int
    height: int

    def __init__(
        self,
        size: tuple[int, int],
        components: list[Component],
        coefs: list[Coefs],
        file: Opened | OneScan | None = None,
    ) -> None:
        self.height, self.width = size
        self._components = components
        self._coefs = coefs
        self._file = file

    @classmethod
    def read(
        cls, data: bytes, to_write: bool = True, with_pixels: bool = False, by_libjpeg: bool = False
    ) -> JpegBlocks:
        """Read the coefficients of a JPEG file.

        Entropy-coded data that is damaged but well framed is read as libjpeg repairs it; a caller who wants
        such files refused must decode them strictly first.

        Args:
            data: the whole file. Bytes after the end-of-image marker are ignored.
            to_write: whether coefficients that nobody could write again are refused.
            with_pixels: whether those of the whole picture will be asked for, which then come in the same pass.
            by_libjpeg: whether it is read as everybody else does it, and not by the code that wrote it.

        Raises:
            UnsupportedJpeg: anything but an intact 8-bit Huffman-coded grey or YCbCr file with luma at full
                resolution and chroma at an integral fraction of it.
        """
        found = inspect(data)
        return cls(
            (found.height, found.width), found.components, *read_coefficients(found, to_write, with_pixels, by_libjpeg)
        )

    @classmethod
    def decoded(cls, data: bytes) -> tuple[JpegBlocks, NDArray[np.uint8]] | None:
        """Coefficients and pixels of an intact file in one pass, as `read` and as any decoder of libjpeg gives them.

        None where that cannot be had: `read` tells whether and why coefficients cannot.

        Args:
            data: the whole file.

        Returns:
            The blocks, and uint8 RGB [height, width, 3], or [height, width] of a grey file, as stored.
        """
        try:
            blocks = cls.read(data, with_pixels=True)
        except (UnsupportedJpeg, SetupError):
            return None
        pixels = blocks.pixels(slice(0, blocks.height), slice(0, blocks.width))
        return None if pixels is None else (blocks, pixels)

    def pixels(self, rows: slice, columns: slice) -> NDArray[np.uint8] | None:
        """A part of the picture, as for `decoded`; None where it cannot be had, and of one that was turned.

        Once some columns were asked for alone, no more can be had.
        """
        return None if self._file is None else self._file.pixels((self.height, self.width), rows, columns)

    def turned(self, orientation: int) -> JpegBlocks:
        """Return the same picture in displayed orientation, without loss.

        Every coefficient is kept, so turning back gives the same file. Decoders round after columns, then after
        rows, and their interpolation of chroma rounds up and down by turns: their result may differ from the turned
        pixels of the source by 1 level in grey, 3 in colour, and 5 where chroma is interpolated. (More in pictures
        with a side of at most 4 pixels, across which libjpeg does not interpolate.)

        Args:
            orientation: EXIF orientation (1-8) of the file; 1 returns this object.

        Raises:
            UnsupportedJpeg: a side to be mirrored is no multiple of the block size (of chroma, that is 16 pixels
                for 4:2:0): the width for 2, 3, 7 and 8, the height for 3, 4, 6 and 7, as stored.
            ValueError: another number.
        """
        if orientation not in range(1, 9):
            raise ValueError("an EXIF orientation is a number from 1 to 8")
        if orientation == 1:
            return self
        return JpegBlocks(*turn((self.height, self.width), self._components, self._coefs, orientation))

    def differing(self, other: JpegBlocks) -> int:
        """Coefficients in which another picture differs; all of them where its size, sampling or tables do."""

        if not self._alike(other):
            return sum(coefs.size for coefs in self._coefs)
        return sum(int(np.count_nonzero(a != b)) for a, b in zip(self._coefs, other._coefs, strict=True))

    def _alike(self, other: JpegBlocks) -> bool:
        """Whether equal coefficients of both are equal pixels: by size, sampling and tables."""

        def shape(blocks: JpegBlocks) -> list[object]:
            parts = [(part.step, part.grid, part.table.tobytes()) for part in blocks._components]
            return [blocks.height, blocks.width, *parts]

        return shape(self) == shape(other)

    def where_differing(self, other: JpegBlocks) -> tuple[slice, slice] | None:
        """A rectangle, rows and columns, that holds every pixel in which another picture differs.

        Beside it all coefficients are equal that have a part in a pixel, so that whoever decodes both in one way gets
        equal pixels. None where that cannot be told: size, sampling or tables are others.
        """
        if not self._alike(other):
            return None
        sides = [[self.height, 0], [self.width, 0]]
        for part, a, b in zip(self._components, self._coefs, other._coefs, strict=True):
            blocks = differing(a, b)
            for axis, (size, footprint, ring) in enumerate(
                zip((self.height, self.width), part.footprint, _ring(part.step), strict=True)
            ):
                if len(held := np.flatnonzero(blocks.any(axis=1 - axis))):
                    first, last = int(held[0]) * footprint - ring, (int(held[-1]) + 1) * footprint + ring
                    sides[axis] = [min(sides[axis][0], max(first, 0)), max(sides[axis][1], min(last, size))]
        rows, columns = (slice(begin, max(begin, end)) if end else slice(0, 0) for begin, end in sides)
        return rows, columns

    def reach(
        self, wanted: BoolArray, forbidden: BoolArray | None = None, within: tuple[slice, slice] | None = None
    ) -> Reach:
        """Select the blocks to change, and say which pixels that affects.

        A block of any component is selected if its footprint holds a wanted pixel and if no pixel its samples
        have a part in is forbidden. With subsampled chroma these are the footprint and one more pixel on
        each side, because decoders interpolate.

        Args:
            wanted: bool array [height, width]: pixels to obfuscate.
            forbidden: bool array [height, width]: pixels that must decode as they do now.
            within: rows and columns in which all wanted pixels lie, where the caller knows.

        Raises:
            ValueError: a mask of another shape or type.
        """
        for mask in (wanted,) if forbidden is None else (wanted, forbidden):
            if mask.shape != (self.height, self.width) or mask.dtype != np.bool_:
                raise ValueError(f"a mask must be bool of shape {(self.height, self.width)}")
        changed, luma = np.zeros(wanted.shape, np.bool_), np.zeros(wanted.shape, np.bool_)
        blocks = [np.zeros(part.grid, np.bool_) for part in self._components]
        window = _window(within or _place(wanted), wanted.shape, [part.footprint for part in self._components])
        (top, left), (height, width) = [side.start for side in window], wanted[window].shape
        for number, part in enumerate(self._components):
            if number and part.step == self._components[number - 1].step:
                blocks[number] = blocks[number - 1]  # Cb and Cr as a rule
                continue
            ring = _ring(part.step)
            chosen = _any_in_blocks(wanted[window], part.footprint)
            if forbidden is not None:
                chosen &= ~_any_in_blocks(_grown(forbidden[window], ring), part.footprint)
            area = _pixels_of(chosen, part.footprint)[:height, :width]
            if number == 0:
                luma[window] = area
            changed[window] |= _grown(area, ring)
            first = top // part.footprint[0], left // part.footprint[1]
            blocks[number][first[0] : first[0] + len(chosen), first[1] : first[1] + chosen.shape[1]] = chosen
        return Reach(tuple(blocks), changed, luma)

    def whole_blocks(self, window: tuple[slice, slice]) -> tuple[slice, slice]:
        """A window of the picture, grown to whole blocks of every component; inside the picture."""
        rows, cols = (
            slice(part.start // block * block, min(side, -(-part.stop // block) * block))
            for part, block, side in zip(window, self._unit(), (self.height, self.width), strict=True)
        )
        return rows, cols

    def _unit(self) -> tuple[int, int]:
        """Height and width in pixels after which blocks of all components begin anew."""
        tall, wide = (math.lcm(*(part.footprint[axis] for part in self._components)) for axis in (0, 1))
        return tall, wide

    def rewrite(self, pixels: NDArray[np.uint8], reach: Reach, window: tuple[slice, slice] | None = None) -> bytes:
        """Write the file with the selected blocks taken from another image.

        The result is sequential, with the standard Huffman tables, and has no metadata but a JFIF header: no EXIF, XMP,
        colour profile, comments, or bytes after the end. Equal arguments give equal bytes on every machine.

        Args:
            pixels: uint8 RGB [height, width, 3], or [height, width] for a grey file: the whole obfuscated
                image in the orientation of `width` and `height`.
            reach: of this file's `reach`.
            window: of `whole_blocks`: the pixels are those of this part alone, which holds all selected blocks.

        Raises:
            ValueError: pixels or blocks of another shape or type than this file's, or blocks beside the window.
        """
        size = self.height, self.width
        window = window or (slice(0, self.height), slice(0, self.width))
        if window != self.whole_blocks(window):
            raise ValueError("the window does not hold whole blocks")
        sides = tuple(part.stop - part.start for part in window)
        shape = (*sides, 3) if len(self._components) == COLOUR else sides
        if pixels.shape != shape or pixels.dtype != np.uint8:
            raise ValueError(f"pixels must be uint8 of shape {shape}")
        if [b.shape for b in reach.blocks] != [c.grid for c in self._components]:
            raise ValueError("the reach belongs to another file")
        chosen = [
            _inside(which, window, part.footprint) for which, part in zip(reach.blocks, self._components, strict=True)
        ]
        if any(np.count_nonzero(a) != np.count_nonzero(b) for a, b in zip(chosen, reach.blocks, strict=True)):
            raise ValueError("blocks beside the window are selected")
        blocks = quantised(pixels, self._components, chosen)
        if self._file is not None:
            written = rewrite(self._file, size, self._components, reach.blocks, blocks)
            if written is not None:
                return written
        coefs = [old.copy() for old in self._coefs]
        for plane, which, new in zip(coefs, reach.blocks, blocks, strict=True):
            plane[which] = new
        return write_coefficients(size, self._components, coefs)


def _inside(blocks: BoolArray, window: tuple[slice, slice], footprint: tuple[int, int]) -> BoolArray:
    """Those blocks of a component that lie in a window of whole blocks."""
    rows, cols = (slice(p.start // side, -(-p.stop // side)) for p, side in zip(window, footprint, strict=True))
    return blocks[rows, cols]


def _place(mask: BoolArray) -> tuple[slice, slice]:
    """The rectangle around a mask."""
    left, top, across, down = cv2.boundingRect(mask.view(np.uint8))
    return slice(top, top + down), slice(left, left + across)


def _window(
    place: tuple[slice, slice], shape: tuple[int, ...], footprints: list[tuple[int, int]]
) -> tuple[slice, slice]:
    """The blocks of every component that reach into a rectangle, and one more on each side, inside the image."""
    rows, cols = (
        slice(max(0, (part.start // block - 1) * block), min(side, (max(part.stop - 1, 0) // block + 2) * block))
        for part, side, block in (
            (part, shape[axis], math.lcm(*(footprint[axis] for footprint in footprints)))
            for axis, part in enumerate(place)
        )
    )
    return rows, cols


def _ring(step: tuple[int, int]) -> tuple[int, int]:
    """How many pixels up and down, left and right, decoders spread samples of that many pixels."""
    # libjpeg-turbo interpolates 2:1 subsampling (h2v1, h1v2, h2v2) from the nearest neighbour, and
    # merely repeats the sample for all other ratios.
    smooth = max(step) == 2
    return int(smooth and step[0] == 2), int(smooth and step[1] == 2)


def _any_in_blocks(mask: BoolArray, footprint: tuple[int, int]) -> BoolArray:
    """Tell for each block of the grid whether any of its pixels is set."""
    rows, cols = (-(-side // size) for side, size in zip(mask.shape, footprint, strict=True))
    padded = np.zeros((rows * footprint[0], cols * footprint[1]), np.bool_)
    padded[: mask.shape[0], : mask.shape[1]] = mask
    strips = np.logical_or.reduce(padded.reshape(rows, footprint[0], -1), axis=1)
    # Eight pixels at a time: blocks are that wide, or a multiple.
    return np.asarray(np.bitwise_or.reduce(strips.view(np.uint64).reshape(rows, cols, -1), axis=2) != 0)


def _pixels_of(blocks: BoolArray, footprint: tuple[int, int]) -> BoolArray:
    """Set all pixels of some blocks of the grid."""
    eights = blocks.astype(np.uint64) * np.uint64(0x0101010101010101)
    return eights.repeat(footprint[1] // BLOCK, axis=1).repeat(footprint[0], axis=0).view(np.bool_)


def _grown(mask: BoolArray, ring: tuple[int, int]) -> BoolArray:
    """Grow a mask by one pixel up and down, left and right, or both with the corners."""
    if ring[0]:
        source, mask = mask, mask.copy()
        mask[1:] |= source[:-1]
        mask[:-1] |= source[1:]
    if ring[1]:
        source, mask = mask, mask.copy()
        mask[:, 1:] |= source[:, :-1]
        mask[:, :-1] |= source[:, 1:]
    return mask
