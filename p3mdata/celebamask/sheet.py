"""A picture of many facemasks, to look them over."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from p3mdata.errors import BrokenInput
from p3mdata.imaging import Pixels, decode
from p3mdata.imaging.draw import fit
from p3mdata.records import Mask

CELLS = 60
_COLUMNS, _SIDE, _TEXT_HEIGHT, _GAP = 10, 160, 18, 6
_TEXT_SIZE = 12
_INK, _PAPER, _OUTSIDE, _FACE = (27, 32, 38), (255, 255, 255), (40, 46, 52), (214, 219, 224)
_EDGE = (240, 228, 66)
# Surroundings of a facemask that are shown, to each side of its middle, by its longer side.
_REACH = 1.1
# What is left of the brightness outside the facemask.
_DIM = 0.4


@dataclass(frozen=True)
class Cell:
    """One facemask of a sheet: its file, the photograph below it, if there is one, and what to write."""

    photo: Path | None
    facemask: Path
    name: str
    rule: str


def _fitted(facemask: Mask) -> NDArray[np.uint8]:
    """A facemask alone, light on dark: HxWx3."""
    factor = _SIDE / max(facemask.shape)
    size = max(1, round(facemask.shape[1] * factor)), max(1, round(facemask.shape[0] * factor))
    share = cv2.resize(facemask.astype(np.float32), size, interpolation=cv2.INTER_AREA)[:, :, None]
    return np.asarray(np.rint(np.array(_OUTSIDE) * (1 - share) + np.array(_FACE) * share), np.uint8)


def _over(photo: NDArray[np.uint8], facemask: Mask) -> NDArray[np.uint8]:
    """A photograph (HxWx3), dark outside its facemask of any size, with a line around it."""
    size = photo.shape[1], photo.shape[0]
    share = cv2.resize(facemask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    shown = np.rint(photo * (_DIM + (1 - _DIM) * share[:, :, None])).astype(np.uint8)
    edges, _ = cv2.findContours((share > 0.5).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(shown, edges, -1, _EDGE, 1), np.uint8)


def _around(facemask: Mask) -> NDArray[np.float64]:
    """top, left, bottom, right of a facemask's surroundings, as shares of the height and width."""
    left, top, width, height = cv2.boundingRect(facemask.view(np.uint8))
    middle, reach = np.array([top + height / 2, left + width / 2]), _REACH * max(width, height)
    return np.clip(np.concatenate([middle - reach, middle + reach]) / (facemask.shape * 2), 0, 1)


def _cropped(array: Pixels, part: NDArray[np.float64]) -> Pixels:
    top, left, bottom, right = np.rint(part * (array.shape[:2] * 2)).astype(int)
    return np.ascontiguousarray(array[top : max(bottom, top + 1), left : max(right, left + 1)])


def _drawn(cell: Cell) -> NDArray[np.uint8]:
    grey = cv2.imread(str(cell.facemask), cv2.IMREAD_GRAYSCALE)
    if grey is None or not grey.any():
        return np.full((_SIDE, _SIDE, 3), _OUTSIDE, np.uint8)
    part = _around(grey > 127)
    facemask = _cropped(grey > 127, part)
    try:
        if cell.photo is not None:
            picture = decode(cell.photo.read_bytes())
            opacity = None if picture.opacity is None else _cropped(picture.opacity, part)
            near = replace(picture, pixels=_cropped(picture.pixels, part), opacity=opacity)
            return _over(fit(near, _SIDE, _SIDE), facemask)
    except (BrokenInput, OSError):
        # The sheet is about facemasks: without its photograph one is shown alone.
        pass
    return _fitted(facemask)


def contact_sheet(cells: Sequence[Cell]) -> bytes:
    """JPEG of a grid of facemasks; over the photographs, so that clear faces show: keep it private.

    Args:
        cells: In reading order; none give an empty sheet.
    """
    rows = max(1, -(-len(cells) // _COLUMNS))
    width, height = _SIDE + _GAP, _SIDE + _TEXT_HEIGHT + _GAP
    sheet = Image.new("RGB", (_COLUMNS * width + _GAP, rows * height + _GAP), _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(_TEXT_SIZE)
    for place, cell in enumerate(cells):
        left, top = _GAP + place % _COLUMNS * width, _GAP + place // _COLUMNS * height
        drawn = _drawn(cell)
        inset = (_SIDE - drawn.shape[1]) // 2, (_SIDE - drawn.shape[0]) // 2
        sheet.paste(Image.fromarray(drawn), (left + inset[0], top + inset[1]))
        label = f"{cell.name} {cell.rule}"
        while pen.textlength(label, font) > _SIDE:
            label = f"…{label[2:]}"
        pen.text((left, top + _SIDE + 2), label, _INK, font)
    sink = io.BytesIO()
    sheet.save(sink, "JPEG", quality=88, optimize=True)
    return sink.getvalue()
