"""Landmarks of one face: MediaPipe's 478-point mesh.

The steps are those of MediaPipe's FaceLandmarker for a single picture: a small network finds the face and its eyes, a
square around it is turned upright, and in that the second network, counted in integers (`mesh_integers`), places the
mesh. MediaPipe itself takes several times as long, a tenth of a second and 90 MB to start, and tells its maker that it
was used. `p3mdata doctor` compares both.

Where both detectors see a face, their boxes and points tell the square as well (`place`); the first network is asked
about all others, and where the mesh does not lie as they say.
"""

from __future__ import annotations

import functools
import io
import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.faces import weights
from p3mdata.faces.detectors import Box, iou
from p3mdata.faces.inference import session
from p3mdata.faces.landmarks import Points
from p3mdata.faces.mesh_integers import MeshNetwork
from p3mdata.faces.pyramid import Pyramid
from p3mdata.faces.tflite import IMAGE, as_onnx

# Sides of what the two networks see.
_FINDER_SIDE, _MESH_SIDE = 128, 256
# Cells of the finder's levels on a side, and how many boxes each cell has.
_LEVELS = ((16, 2), (8, 6))
# Of a box: centre, size, then right eye, left eye, nose tip, mouth and ears, as (x, y).
_VALUES, _RIGHT_EYE, _LEFT_EYE = 16, 2, 3
# Boxes that overlap by more than this are one face, placed by the mean that their scores weigh.
_SAME_IOU = 0.3
# The square in which the mesh is placed, relative to the box.
_AROUND = 1.5
# Logit of a face, and of the mesh being on one, from which on it counts: a chance of a half.
_LEAST = 0.0
# The same square by a detector's hit, on average over 139 faces: how far it lies below the middle of the box, along
# the face, and its side; relative to the side of a square as large as the box.
_BY_BOX = {"centerface": (0.087, 1.425), "libfacedetection": (0.097, 1.443)}
# A mesh that was placed so counts where it is as certain as on faces seen well, its eyes are level, and no point lies
# further from where the detectors see it than this share of the square.
_SURE, _LEVEL, _NEAR = 7.0, math.radians(12), 0.1
# Mesh points between which a detector's five lie: eyes, nose, corners of the mouth.
_FIVE = ((33, 133), (263, 362), (1, 1), (61, 61), (291, 291))


@dataclass(frozen=True)
class _Square:
    """A square in an image: centre and side in pixels, and by how many radians it is turned clockwise."""

    centre: NDArray[np.float64]
    side: float
    turned: float = 0.0

    def axes(self) -> NDArray[np.float64]:
        """2x2: what maps offsets from its centre, in sides, to offsets in the image."""
        cos, sin = math.cos(self.turned), math.sin(self.turned)
        return self.side * np.array([[cos, -sin], [sin, cos]])

    def cut(self, rgb: NDArray[np.uint8], size: int, border: int) -> NDArray[np.uint8]:
        """The image in the square, (size, size, 3)."""
        axes = self.axes()
        corner = self.centre - axes @ (0.5, 0.5)
        matrix = np.concatenate([axes / size, corner[:, None]], 1)
        cut = cv2.warpAffine(
            rgb, matrix, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=border
        )
        return np.asarray(cut, np.uint8)

    def in_half(self, smaller: int) -> _Square:
        """The same in a half of the image, as `Pyramid.at_least` gives it."""
        return _Square((self.centre - (smaller - 1) / 2) / smaller, self.side / smaller, self.turned)


class FaceMesh:
    """The landmark model of one worker."""

    def __init__(self) -> None:
        with zipfile.ZipFile(io.BytesIO(weights.load("face_landmarker"))) as task:
            self._finder_file = task.read("face_detector.tflite")
            mesh = task.read("face_landmarks_detector.tflite")
        self._mesh = MeshNetwork(mesh, weights.load("mesh_ranges"))
        cells = [(np.indices((side, side)).reshape(2, -1)[::-1].T + 0.5, side, boxes) for side, boxes in _LEVELS]
        self._anchors = np.concatenate([np.repeat(centres / side, boxes, axis=0) for centres, side, boxes in cells])

    @functools.cached_property
    def _finder(self) -> tuple[Any, list[str]]:
        """The first network, which not every picture needs, and the names of its outputs."""
        model, outputs = as_onnx(self._finder_file)
        return session(model), outputs

    def locate(self, crop: NDArray[np.uint8]) -> Points | None:
        """478x2 points in pixels of `crop` (HxWx3, 8-bit RGB), or None when no face is certain enough."""
        square = self._face(crop)
        return None if square is None else self._in(crop, square, _LEAST)

    def place(self, image: Pyramid, hits: Sequence[Box]) -> Points | None:
        """478x2 points in pixels of `image` of a face that these detectors see; None where the mesh contradicts them.

        Args:
            image: The picture.
            hits: One of each of several detectors, all with points.
        """
        five = np.mean([hit.points for hit in hits if hit.points is not None], axis=0)
        square = _around(hits)
        if not 0 < square.side < math.inf:
            return None
        level, smaller = image.at_least(_MESH_SIDE / square.side)
        mesh = self._in(level, square.in_half(smaller), _SURE)
        if mesh is None:
            return None
        mesh = (mesh * smaller + (smaller - 1) / 2).astype(np.float32)
        seen = np.array([(mesh[a] + mesh[b]) / 2 for a, b in _FIVE])
        across, down = (seen[1] - seen[0]) @ square.axes() / square.side**2
        # Asked so that what is no number is none either.
        level_eyes = abs(math.atan2(down, across)) <= _LEVEL
        return mesh if level_eyes and np.hypot(*(seen - five).T).max() <= _NEAR * square.side else None

    def _in(self, rgb: NDArray[np.uint8], square: _Square, least: float) -> Points | None:
        """The mesh in a square of a picture, in its pixels; None where its logit is below `least`."""
        present, points = self._mesh(square.cut(rgb, _MESH_SIDE, cv2.BORDER_REPLICATE))
        if not (present >= least and np.isfinite(points).all()):
            return None
        offsets = points[:, :2].astype(np.float64) / _MESH_SIDE - 0.5
        mesh: Points = (offsets @ square.axes().T + square.centre).astype(np.float32)
        return mesh

    def close(self) -> None:
        """Nothing is held but memory."""

    def _face(self, crop: NDArray[np.uint8]) -> _Square | None:
        """The square around the most certain face, its eyes level."""
        height, width = crop.shape[:2]
        whole = _Square(np.array([width, height]) / 2, float(max(height, width)))
        cut = whole.cut(crop, _FINDER_SIDE, cv2.BORDER_CONSTANT).transpose(2, 0, 1)[None]
        image = np.multiply(cut, np.float32(2 / 255), order="C", dtype=np.float32) - np.float32(1)
        finder, names = self._finder
        outputs = finder.run(names, {IMAGE: image})
        fine, coarse = outputs[:2], outputs[2:]
        logits, rows = (
            np.concatenate([level[kind][0].transpose(1, 2, 0).reshape(-1, values) for level in (fine, coarse)])
            for kind, values in ((0, 1), (1, _VALUES))
        )
        found = np.flatnonzero(logits[:, 0] >= _LEAST)
        if not len(found):
            return None
        scores = 1 / (1 + np.exp(-logits[found, 0].astype(np.float64)))
        places = rows[found].astype(np.float64).reshape(len(found), -1, 2) / _FINDER_SIDE
        # All but the size are relative to the anchor.
        places[:, 0] += self._anchors[found]
        places[:, 2:] += self._anchors[found][:, None]
        boxes = np.concatenate([places[:, 0] - places[:, 1] / 2, places[:, 0] + places[:, 1] / 2], 1)
        best = int(np.argmax(scores))
        same = iou(boxes[best], boxes) > _SAME_IOU
        same[best] = True
        mean = np.tensordot(scores[same], places[same], 1) / scores[same].sum()
        eyes = mean[_LEFT_EYE] - mean[_RIGHT_EYE]
        corner = whole.centre - whole.side / 2
        return _Square(
            mean[0] * whole.side + corner,
            _AROUND * float(mean[1].max()) * whole.side,
            math.atan2(eyes[1], eyes[0]),
        )


def _around(hits: Sequence[Box]) -> _Square:
    """The mean of the squares that the hits tell."""
    squares = []
    for hit in hits:
        assert hit.points is not None
        eyes = (hit.points[1] - hit.points[0]).astype(np.float64)
        along = eyes / max(float(np.hypot(*eyes)), 1e-9)
        left, top, right, bottom = hit.xyxy
        size = math.sqrt((right - left) * (bottom - top))
        below, side = _BY_BOX[hit.detector]
        centre = np.array([left + right, top + bottom]) / 2 + below * size * np.array([-along[1], along[0]])
        squares.append((*centre, side * size, *along))
    x, y, side, cos, sin = np.mean(squares, axis=0)
    return _Square(np.array([x, y]), float(side), math.atan2(sin, cos))
