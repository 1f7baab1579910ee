"""Two independent face detectors behind one protocol.

Both are trained apart from each other and fail on different pictures; `ensemble` asks both and records who saw what.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from p3mdata.faces import centerface, yunet
from p3mdata.faces.engine import engine
from p3mdata.faces.exponential import exp


@dataclass(frozen=True)
class Box:
    """One hit of one detector.

    Attributes:
        xyxy: Left, top, right, bottom in pixels of the image that was asked about; may reach over its border.
        score: Confidence in [0, 1].
        points: Right eye, left eye, nose tip, right and left mouth corner as the viewer sees them (5x2), or None.
        detector: Name of the detector.
    """

    xyxy: tuple[float, float, float, float]
    score: float
    points: NDArray[np.float32] | None
    detector: str

    @property
    def extent(self) -> float:
        """The longer side in pixels."""
        left, top, right, bottom = self.xyxy
        return max(right - left, bottom - top)

    def placed(self, across: float, down: float, factor: float) -> Box:
        """The same hit in an image of which a piece at (across, down) was asked about, `factor` times as large."""
        left, top, right, bottom = ((v + at) * factor for v, at in zip(self.xyxy, (across, down) * 2, strict=True))
        points = self.points
        if points is not None:
            points = ((points + np.array([across, down])) * factor).astype(np.float32)
        return replace(self, xyxy=(left, top, right, bottom), points=points)

    def moved(self, scale: float, offset: NDArray[np.float64]) -> Box:
        """The same hit in an image of which an enlargement was asked about: scale * xy + offset (2,)."""
        left, top, right, bottom = (v * scale + o for v, o in zip(self.xyxy, np.tile(offset, 2).tolist(), strict=True))
        points = None if self.points is None else (self.points * scale + offset).astype(np.float32)
        return replace(self, xyxy=(left, top, right, bottom), points=points)


class Detector(Protocol):
    """Finds face boxes in an 8-bit RGB image as it is given."""

    name: str

    def detect(self, rgb: NDArray[np.uint8]) -> list[Box]:
        """Boxes in pixels of `rgb` (HxWx3)."""
        ...


def iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of one box (4,) with many (n, 4)."""
    left_top = np.maximum(a[:2], b[:, :2])
    right_bottom = np.minimum(a[2:], b[:, 2:])
    sides = np.clip(right_bottom - left_top, 0, None)
    inter = sides[:, 0] * sides[:, 1]
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) - inter
    shares: NDArray[np.float64] = inter / np.maximum(area, 1e-9)
    return shares


class CenterFace:
    """CenterFace (Xu et al. 2019): anchor-free, a heat map at a quarter of the input with box size and five points."""

    name = "centerface"
    threshold = 0.2
    _stride = 4
    _nms_iou = 0.3

    def __init__(self) -> None:
        self._network = engine("centerface", centerface.layers)

    def detect(self, rgb: NDArray[np.uint8]) -> list[Box]:
        """As the protocol says: boxes on an HxWx3 picture."""
        (cells,) = self._network(rgb)
        # Logit, log box size, sub-cell offset, five points.
        rows, cols = np.nonzero(cells[0] > math.log(self.threshold / (1 - self.threshold)))
        if not len(rows):
            return []
        found = cells[:, rows, cols]
        scores = np.asarray(1 / (1 + exp(-found[0])), np.float32)
        size = exp(found[1:3].T) * self._stride
        centre = np.stack([rows, cols], 1) + found[3:5].T + 0.5
        top_left = centre * self._stride - size / 2
        boxes = np.concatenate([top_left[:, ::-1], (top_left + size)[:, ::-1]], 1).astype(np.float64)
        # Points are stored as (y, x) pairs relative to the box.
        fives = found[5:].T.reshape(-1, 5, 2) * size[:, None, :] + top_left[:, None, :]
        return [
            Box(_corners(boxes[i]), float(scores[i]), fives[i, :, ::-1], self.name)
            for i in _suppress(boxes, scores, self._nms_iou)
        ]


class LibFaceDetection:
    """libfacedetection (Peng & Yu, YuNet): three levels of cells, each with a box and five points."""

    name = "libfacedetection"
    threshold = 0.3
    # Below this logit of class or object the other cannot make up for it.
    _least_logit = -2.32
    # The same for a score of 0.02.
    _least_told = -7.83
    _nms_iou = 0.45

    def __init__(self) -> None:
        self._network = engine("libfacedetection", yunet.layers)

    def detect(self, rgb: NDArray[np.uint8]) -> list[Box]:
        """As the protocol says: boxes on an HxWx3 picture."""
        return self._boxes(self._network(rgb))

    def look(self, rgb: NDArray[np.uint8]) -> tuple[list[Box], NDArray[np.float32]]:
        """Boxes, and the scores (h / 8, w / 8) of places at which a small face may lie; those below 0.02 may be 0."""
        levels = self._network(rgb)
        height, width = (-(-side // yunet.LEVELS[0][1]) for side in rgb.shape[:2])
        cells = levels[0][:2, :height, :width]
        scores = np.zeros((height, width), np.float32)
        some = np.minimum(cells[0], cells[1]) > self._least_told
        scores[some] = 1 / np.sqrt(_odds(cells[:, some]))
        return self._boxes(levels), scores

    def _boxes(self, levels: list[NDArray[np.float32]]) -> list[Box]:
        hits = [self._hits(cells, stride) for cells, (_, stride) in zip(levels, yunet.LEVELS, strict=True)]
        if not (hits := [found for found in hits if found is not None]):
            return []
        scores, boxes, fives = (np.concatenate(parts) for parts in zip(*hits, strict=True))
        return [
            Box(_corners(boxes[i]), float(scores[i]), fives[i], self.name)
            for i in _suppress(boxes, scores, self._nms_iou)
        ]

    def _hits(
        self, cells: NDArray[np.float32], stride: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float32]] | None:
        """Scores (n,), boxes (n, 4) and points (n, 5, 2) of the cells (16, h, w) of one level; None without any."""
        rows, cols = np.nonzero(np.minimum(cells[0], cells[1]) > self._least_logit)
        if not len(rows):
            return None
        # sqrt(sigmoid(class) * sigmoid(object)) >= threshold
        odds = _odds(cells[:2, rows, cols])
        kept = odds <= 1 / self.threshold**2
        if not kept.any():
            return None
        rows, cols, odds = rows[kept], cols[kept], odds[kept]
        found = cells[2:, rows, cols].T.astype(np.float64)
        corner = np.stack([cols, rows], 1)
        centre, half = found[:, :2] + corner, exp(found[:, 2:4]) / 2
        boxes = np.concatenate([centre - half, centre + half], 1) * stride
        fives = (found[:, 4:].reshape(-1, 5, 2) + corner[:, None]) * stride
        return (1 / np.sqrt(odds)).astype(np.float32), boxes, fives.astype(np.float32)


def _odds(cells: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / score^2 of cells (channels, ...), by the first two channels."""
    both: NDArray[np.float32] = 1 + exp(-cells[:2])
    odds: NDArray[np.float32] = both[0] * both[1]
    return odds


def _corners(xyxy: NDArray[np.float64]) -> tuple[float, float, float, float]:
    left, top, right, bottom = (float(v) for v in xyxy)
    return left, top, right, bottom


def _suppress(boxes: NDArray[np.float64], scores: NDArray[np.float32], limit: float) -> list[int]:
    """Indices that survive non-maximum suppression, best first; equal scores keep the scan order."""
    order = list(np.argsort(-scores, kind="stable"))
    keep: list[int] = []
    while order:
        best = order.pop(0)
        keep.append(int(best))
        if order:
            overlap = iou(boxes[best], boxes[order])
            order = [i for i, value in zip(order, overlap, strict=True) if value < limit]
    return keep


REGISTRY: dict[str, Callable[[], Detector]] = {
    CenterFace.name: CenterFace,
    LibFaceDetection.name: LibFaceDetection,
}
