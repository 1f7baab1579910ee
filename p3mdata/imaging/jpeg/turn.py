"""Turning a picture by its EXIF orientation without loss, in the coefficients, as jpegtran does."""

from __future__ import annotations

import numpy as np

from p3mdata.imaging.jpeg.library import Coefs
from p3mdata.imaging.jpeg.segments import UnsupportedJpeg
from p3mdata.imaging.jpeg.structure import BLOCK, Component

_SIGNS = np.ones(BLOCK, np.int16), np.resize(np.array((1, -1), np.int16), BLOCK)  # of a mirrored axis: odd ones flip


def turn(
    size: tuple[int, int], components: list[Component], coefs: list[Coefs], orientation: int
) -> tuple[tuple[int, int], list[Component], list[Coefs]]:
    """Bring height and width, components, and coefficients [block rows, block columns, 64] as stored to displayed ones.

    A picture is filled up to whole blocks at its right and bottom edges. Mirroring would bring the filling to the
    left or the top; so the sides to be mirrored must do without, while the others may end in parts of blocks.

    Raises:
        UnsupportedJpeg: a side to be mirrored is no multiple of the block size, of the chroma where that is subsampled.
    """
    transpose = orientation in (5, 6, 7, 8)  # first, then mirror
    mirror = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)  # up and down, left and right
    if transpose:
        size, components = size[::-1], [_transposed(part) for part in components]
    if any(mirror[axis] and size[axis] % part.footprint[axis] for part in components for axis in (0, 1)):
        raise UnsupportedJpeg("turned, and its sides are not multiples of the block size")
    return size, components, [_turned(plane, transpose, mirror) for plane in coefs]


def _transposed(part: Component) -> Component:
    return Component(part.factor[::-1], part.step[::-1], part.grid[::-1], part.table.reshape(BLOCK, BLOCK).T.ravel())


def _turned(coefs: Coefs, transpose: bool, mirror: tuple[bool, bool]) -> Coefs:
    """Move the blocks, and turn each of them: mirroring a cosine of an odd frequency flips its sign."""
    blocks = coefs.reshape(*coefs.shape[:2], BLOCK, BLOCK)
    if transpose:
        blocks = blocks.transpose(1, 0, 3, 2)
    blocks = blocks[:: -1 if mirror[0] else 1, :: -1 if mirror[1] else 1]
    signs = np.outer(_SIGNS[mirror[0]], _SIGNS[mirror[1]])
    return np.multiply(blocks, signs, order="C").reshape(*blocks.shape[:2], -1)
