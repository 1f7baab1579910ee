"""Two independent face detectors behind one protocol.

Both are trained apart from each other and fail on different pictures; `ensemble` asks both and records who saw what.
"""

from __future__ import annotations

import ctypes
import math
import os
from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.faces import weights
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

    def scaled(self, factor: float) -> Box:
        """The same hit in an image that is `factor` times as large."""
        left, top, right, bottom = (value * factor for value in self.xyxy)
        points = None if self.points is None else (self.points * factor).astype(np.float32)
        return replace(self, xyxy=(left, top, right, bottom), points=points)


class Detector(Protocol):
    """Finds face boxes in an 8-bit RGB image as it is given."""

    name: str

    def detect(self, rgb: NDArray[np.uint8]) -> list[Box]:
        """Boxes in pixels of `rgb` (HxWx3)."""
        ...


def shrink(rgb: NDArray[np.uint8], long_side: int) -> tuple[NDArray[np.uint8], float]:
    """The image at `long_side` pixels of its longer side, and the factor that was applied."""
    height, width = rgb.shape[:2]
    factor = long_side / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(rgb, size, interpolation=method)
    return np.asarray(resized, dtype=np.uint8), factor


def iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of one box (4,) with many (n, 4)."""
    left_top = np.maximum(a[:2], b[:, :2])
    right_bottom = np.minimum(a[2:], b[:, 2:])
    sides = np.clip(right_bottom - left_top, 0, None)
    inter = sides[:, 0] * sides[:, 1]
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) - inter
    return inter / np.maximum(area, 1e-9)


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
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # One thread per worker process: the pool supplies the parallelism, and sums keep their order.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Plans of memory by shape would pile up, since shapes differ from image to image. The arena itself stays:
        # without it every layer asks the system for fresh pages, which is a third of the time.
        options.enable_mem_pattern = False
        model = with_free_image_size(weights.load("centerface"), self._image, self._outputs)
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def detect(self, rgb: NDArray[np.uint8]) -> list[Box]:
        height, width = rgb.shape[:2]
        blob = np.zeros((1, 3, math.ceil(height / 32) * 32, math.ceil(width / 32) * 32), np.float32)
        blob[0, :, :height, :width] = rgb.transpose(2, 0, 1)
        heat, log_size, offset, points = self._session.run(list(self._outputs), {self._image: blob})
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
    """libfacedetection (Peng & Yu, YuNet family): weights compiled into the library.

    The library's one C++ function is called directly: the Python layer of its carrier leaks a copy of every image.
    """

    name = "libfacedetection"
    threshold = 0.3
    _top_score = 100
    # int* facedetect_cnn(unsigned char* results, unsigned char* bgr, int width, int height, int step)
    _function = "_Z14facedetect_cnnPhS_iii"
    # The results: their number as int32, then per face 16 int16: score, x, y, width, height, five points, unused.
    _result_bytes, _face_shorts = 0x20000, 16

    def __init__(self) -> None:
        # The library starts an OpenMP team per call; one thread per worker keeps pools from fighting for cores.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        weights.load("libfacedetection")
        self._detect = ctypes.CDLL(str(weights.locate("libfacedetection")))[self._function]
        self._detect.restype = ctypes.POINTER(ctypes.c_int32)
        self._detect.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_int]
        self._results = np.zeros(self._result_bytes, np.uint8)

    def detect(self, rgb: NDArray[np.uint8]) -> list[Box]:
        height, width = rgb.shape[:2]
        bgr = np.ascontiguousarray(rgb[:, :, ::-1])
        found = self._detect(self._results.ctypes.data, bgr.ctypes.data, width, height, 3 * width)
        if not found:
            raise MemoryError("libfacedetection could not take the image")
        rows = self._results.view(np.int16)[2 : 2 + self._face_shorts * found[0]].reshape(-1, self._face_shorts)
        return [
            Box((x, y, x + w, y + h), score / self._top_score, None, self.name)
            for score, x, y, w, h in rows[:, :5].tolist()
            if score >= self.threshold * self._top_score
        ]


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


REGISTRY: dict[str, type[CenterFace] | type[LibFaceDetection]] = {
    CenterFace.name: CenterFace,
    LibFaceDetection.name: LibFaceDetection,
}
