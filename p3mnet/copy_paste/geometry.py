"""CA and AM for anything with channels, images or features: a face is cut out, turned, laid over a mask, written."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from p3mnet.copy_paste.config import CopyPasteConfig

# Of a facemask's parts, those are faces of the portrait that are at least this large against the largest, and that
# the matte calls foreground in at least this share of their pixels.
_LEAST_AREA, _LEAST_MATTE = 1 / 16, 0.5


class Turn(NamedTuple):
    """CA's random numbers.

    Attributes:
        scale: Resizing of the height, and of the width unless `scale_x` is given.
        angle: Turned after that, in degrees, counter-clockwise.
        scale_x: Resizing of the width.
        flip: Whether the face is mirrored first.
    """

    scale: float
    angle: float
    scale_x: float | None = None
    flip: bool = False


class Overlap(NamedTuple):
    """Where a face goes: rows and columns of the target, those of the face, and the pixels in there, bool."""

    target: tuple[slice, slice]
    face: tuple[slice, slice]
    mask: Tensor


def draw_turn(config: CopyPasteConfig, generator: torch.Generator) -> tuple[bool, Turn]:
    """Whether to paste, and how; always as many random numbers."""
    coin, where, around, across, mirror = torch.rand(5, generator=generator, dtype=torch.float64).tolist()
    low, high = config.scale
    turn = Turn(
        low + where * (high - low),
        (2 * around - 1) * config.rotation,
        low + across * (high - low) if config.axes == "apart" else None,
        mirror < config.flip,
    )
    return coin < config.probability, turn


def faces_of(facemask: Tensor, alpha: Tensor | None) -> list[Tensor]:
    """Faces to paste over: the connected parts of a facemask, each for itself, from the left to the right.

    Left out are parts that are small against the largest (specks, people far behind), and those that the matte does not
    call foreground (bystanders, false masks).

    Args:
        facemask: bool [H, W] on the CPU.
        alpha: uint8 [H, W] on the CPU; None takes all parts for the portrait's.

    Returns:
        bool [H, W] for each.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(facemask.numpy().astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    if not len(areas):
        return []
    parts = []
    for label in sorted(
        range(1, count), key=lambda label: (stats[label, cv2.CC_STAT_LEFT], stats[label, cv2.CC_STAT_TOP])
    ):
        part = torch.from_numpy(labels == label)
        own = alpha is None or float((alpha[part] > 127).float().mean()) >= _LEAST_MATTE
        if own and areas[label - 1] >= _LEAST_AREA * areas.max():
            parts.append(part)
    return parts


def rectangle(mask: Tensor) -> tuple[slice, slice]:
    """Rows and columns around a mask, bool [h, w] on the CPU with something in it."""
    rows, columns = (torch.nonzero(mask.any(axis))[:, 0] for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def cut_and_turn(
    values: Tensor, mask: Tensor, turn: Turn, fill: tuple[int, int] | None = None
) -> tuple[Tensor, Tensor]:
    """CA: the rectangle around a mask, mirrored or not, resized, then turned on a canvas that holds all of it.

    Args:
        values: [C, h, w], any floating point type, any device.
        mask: bool [h, w] on the CPU, with something in it.
        turn: How.
        fill: Height and width that the rectangle is brought to before it is resized; None leaves it as it is.

    Returns:
        float32 [C, h', w'] on the values' device, and bool [h', w'] on the CPU.
    """
    window = rectangle(mask)
    face, shape = values[:, window[0], window[1]].float()[None], mask[window].float()[None, None]
    if turn.flip:
        face, shape = face.flip(-1), shape.flip(-1)
    scales = turn.scale, turn.scale if turn.scale_x is None else turn.scale_x
    sides = [max(1, round(side * scale)) for side, scale in zip(fill or shape.shape[-2:], scales, strict=True)]
    face = F.interpolate(face, sides, mode="bilinear", antialias=True)
    shape = F.interpolate(shape, sides, mode="nearest-exact")
    if turn.angle:
        face, shape = _turned(face, turn.angle, "bilinear"), _turned(shape, turn.angle, "nearest")
    return face[0], shape[0, 0] > 0


def _turned(values: Tensor, angle: float, mode: str) -> Tensor:
    """[1, C, h, w] turned about its middle; from outside come zeros into a mask, and the border into colours."""
    height, width = values.shape[-2:]
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    # A quarter turn needs no pixel more because of rounding.
    new_height = math.ceil(abs(height * cos) + abs(width * sin) - 1e-6)
    new_width = math.ceil(abs(width * cos) + abs(height * sin) - 1e-6)
    # From places of the canvas to places of the source, both in -1..1.
    matrix = torch.tensor(
        [
            [cos * new_width / width, -sin * new_height / width, 0],
            [sin * new_width / height, cos * new_height / height, 0],
        ],
        dtype=torch.float32,
        device=values.device,
    )
    grid = F.affine_grid(matrix[None], [1, values.shape[1], new_height, new_width], align_corners=False)
    outside = "zeros" if mode == "nearest" else "border"
    return F.grid_sample(values, grid, mode=mode, padding_mode=outside, align_corners=False)


def align(face: Tensor, target: Tensor) -> Overlap | None:
    """AM: where masks, bool [h, w] and [H, W] on the CPU, overlap once their centroids coincide; None if nowhere."""
    if not (face.any() and target.any()):
        return None
    inside, window = [], []
    centres = [torch.nonzero(mask).double().mean(0) for mask in (face, target)]
    for shift, length, full in zip(
        torch.round(centres[1] - centres[0]).long().tolist(), face.shape, target.shape, strict=True
    ):
        first, last = max(shift, 0), min(shift + length, full)
        if first >= last:
            return None
        window.append(slice(first, last))
        inside.append(slice(first - shift, last - shift))
    rows, columns = window
    mask = face[inside[0], inside[1]] & target[rows, columns]
    return Overlap((rows, columns), (inside[0], inside[1]), mask) if mask.any() else None


def paste(target: Tensor, face: Tensor, overlap: Overlap) -> None:
    """Write a face [C, h, w] into [C, H, W] where the overlap is."""
    here, there = (slice(None), *overlap.target), (slice(None), *overlap.face)
    piece = face[there].to(target.dtype)
    target[here] = torch.where(overlap.mask.to(target.device), piece, target[here])
