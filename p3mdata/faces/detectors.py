"""Two independent face detectors behind one protocol.

Both are trained apart from each other and fail on different pictures; `ensemble` asks both and records who saw what.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from p3mdata.base.quiet import load_onnxruntime
from p3mdata.faces import weights, yunet
from p3mdata.faces.onnx_graph import with_free_image_size


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

    def placed(self, across: int, down: int, factor: float) -> Box:
        """The same hit in an image of which a piece at (across, down) was asked about, `factor` times as large."""
        left, top, right, bottom = ((v + at) * factor for v, at in zip(self.xyxy, (across, down) * 2, strict=True))
        points = self.points
        if points is not None:
            points = ((points + np.array([across, down])) * factor).astype(np.float32)
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


@functools.cache
def _shared_arena() -> None:
    """One memory arena for all networks of a process, which grows by what is asked for.

    Without an arena every layer asks the system for fresh pages, which is a third of the time; with one of its own,
    grown in powers of two, each network keeps more than it needs.
    """
    onnxruntime = load_onnxruntime()
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    as_requested = onnxruntime.OrtArenaCfg({"arena_extend_strategy": 1})
    onnxruntime.create_and_register_allocator(memory, as_requested)


def _session(model: bytes) -> Any:
    """An onnxruntime session of one thread."""
    onnxruntime = load_onnxruntime()
    _shared_arena()
    options = onnxruntime.SessionOptions()
    # One thread per worker process: the pool supplies the parallelism, and sums keep their order.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Plans of memory by shape would pile up, since shapes differ from image to image.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.use_env_allocators", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class _Blob:
    """Images as input of a network, in memory that is kept: fresh pages would cost more than the conversion."""

    def __init__(self) -> None:
        self._memory = np.empty(0, np.float32)

    def __call__(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The image as (1, 3, h, w) float32 in 0..255, filled up with zeros to multiples of 32; until the next call."""
        height, width = rgb.shape[:2]
        shape = 1, 3, height + -height % 32, width + -width % 32
        size = math.prod(shape)
        if self._memory.size < size:
            self._memory = np.empty(size, np.float32)
        blob = self._memory[:size].reshape(shape)
        blob[0, :, :height, :width] = rgb.transpose(2, 0, 1)
        blob[0, :, height:] = 0
        blob[0, :, :, width:] = 0
        return blob


class CenterFace:
    """CenterFace (Xu et al. 2019): anchor-free, a heat map at a quarter of the input with box size and five points."""

    name = "centerface"
    threshold = 0.2
    _stride = 4
    _nms_iou = 0.3
    _image = "input.1"
    # heat map, log box size, sub-cell offset, five points
    _outputs = {"537": 1, "538": 2, "539": 2, "540": 10}  # noqa: RUF012

    def __init__(self) -> None:
        self._session = _session(with_free_image_size(weights.load("centerface"), self._image, self._outputs))
        self._blob = _Blob()

    def detect(self, rgb: NDArray[np.uint8]) -> list[Box]:
        heat, log_size, offset, points = self._session.run(list(self._outputs), {self._image: self._blob(rgb)})
        rows, cols = np.nonzero(heat[0, 0] > self.threshold)
        if not len(rows):
            return []
        scores = heat[0, 0, rows, cols]
        size = np.exp(log_size[0, :, rows, cols]) * self._stride
        centre = np.stack([rows, cols], 1) + offset[0, :, rows, cols] + 0.5
        top_left = centre * self._stride - size / 2
        boxes = np.concatenate([top_left[:, ::-1], (top_left + size)[:, ::-1]], 1).astype(np.float64)
        # Points are stored as (y, x) pairs relative to the box.
        fives = points[0, :, rows, cols].reshape(-1, 5, 2) * size[:, None, :] + top_left[:, None, :]
        return [
            Box(_corners(boxes[i]), float(scores[i]), fives[i, :, ::-1], self.name)
            for i in _suppress(boxes, scores, self._nms_iou)
        ]


class LibFaceDetection:
    """libfacedetection (Peng & Yu, YuNet): three levels of cells, each with a box and five points."""

    name = "libfacedetection"
    threshold = 0.3
    _nms_iou = 0.45

    def __init__(self) -> None:
        self._session = _session(yunet.graph_of(weights.load("libfacedetection")))
        self._blob = _Blob()

    def detect(self, rgb: NDArray[np.uint8]) -> list[Box]:
        levels = self._session.run([name for name, _ in yunet.LEVELS], {yunet.IMAGE: self._blob(rgb[:, :, ::-1])})
        hits = [self._hits(cells[0], stride) for cells, (_, stride) in zip(levels, yunet.LEVELS, strict=True)]
        scores, boxes, fives = (np.concatenate(parts) for parts in zip(*hits, strict=True))
        return [
            Box(_corners(boxes[i]), float(scores[i]), fives[i], self.name)
            for i in _suppress(boxes, scores, self._nms_iou)
        ]

    def _hits(
        self, cells: NDArray[np.float32], stride: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float32]]:
        """Scores (n,), boxes (n, 4) and points (n, 5, 2) of the cells (16, h, w) of one level."""
        # sqrt(sigmoid(class) * sigmoid(object)) >= threshold, without a root and a division for every cell.
        odds = (1 + np.exp(-cells[0])) * (1 + np.exp(-cells[1]))
        rows, cols = np.nonzero(odds <= 1 / self.threshold**2)
        found = cells[2:, rows, cols].T.astype(np.float64)
        corner = np.stack([cols, rows], 1)
        centre, half = found[:, :2] + corner, np.exp(found[:, 2:4]) / 2
        boxes = np.concatenate([centre - half, centre + half], 1) * stride
        fives = (found[:, 4:].reshape(-1, 5, 2) + corner[:, None]) * stride
        return 1 / np.sqrt(odds[rows, cols]), boxes, fives.astype(np.float32)


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
