"""Facial landmarks: the named parts of MediaPipe's 478-point mesh, and MediaPipe itself as what it is compared with.

Runs use the same two networks by `face_mesh`.
"""

from __future__ import annotations

import contextlib
import os
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from p3mdata.base.quiet import close_way_out
from p3mdata.errors import SetupError
from p3mdata.faces import weights

Points = NDArray[np.float32]

# Indices of the canonical MediaPipe face mesh. Sides are the person's own.
PARTS: dict[str, tuple[int, ...]] = {
    "right eye": (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    "left eye": (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
    "nose": (168, 6, 197, 195, 5, 4, 1, 19, 94, 2, 98, 97, 326, 327, 48, 64, 278, 294, 129, 358),
    "mouth": (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185),
}
# Mesh points above the upper brow line in the canonical face model: the forehead, which the paper leaves as it is.
FOREHEAD = (
    10, 21, 54, 67, 68, 69, 71, 103, 104, 108, 109, 151, 251, 284, 297, 298, 299, 301, 332, 333, 337, 338,
)  # fmt: skip
MESH_POINTS = 478
# MediaPipe's allocator counts processors with it, and ends the process where it is not there
# (findings/mediapipe-wants-sys.sh).
_PROCESSORS = Path("/sys/devices/system/cpu/possible")


class LandmarkModel(Protocol):
    """Finds the mesh of the one face in a crop."""

    def locate(self, crop: NDArray[np.uint8]) -> Points | None:
        """478x2 points in pixels of `crop` (HxWx3, 8-bit RGB), or None when no face is certain enough."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...


@contextlib.contextmanager
def _quiet_native_stderr() -> Iterator[None]:
    """Silence the C++ banner lines that TensorFlow Lite writes when a graph starts; Python errors still raise."""
    sys.stderr.flush()
    saved = os.dup(2)
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(sink)


@contextlib.contextmanager
def _without_matplotlib() -> Iterator[None]:
    """Import mediapipe without matplotlib, which only its drawing helpers use: half of a worker's start and 50 MB."""
    if "matplotlib" in sys.modules:
        yield
        return
    package, pyplot = (types.ModuleType(name) for name in ("matplotlib", "matplotlib.pyplot"))
    package.pyplot = pyplot  # type: ignore[attr-defined]
    stubs = {module.__name__: module for module in (package, pyplot)}
    sys.modules.update(stubs)
    try:
        yield
    finally:
        for name in stubs:
            del sys.modules[name]


class MediaPipeLandmarks:
    """MediaPipe FaceLandmarker (tasks API) in image mode: what `doctor` and tests hold the mesh of runs against."""

    confidence = 0.5

    def __init__(self) -> None:
        if sys.platform == "linux" and not _PROCESSORS.exists():
            raise SetupError(f"{_PROCESSORS} is not there, and MediaPipe needs it: run 'mount -t sysfs sysfs /sys'.")
        with _quiet_native_stderr():
            with _without_matplotlib():
                import mediapipe as mp
                from mediapipe.tasks.python import BaseOptions, vision

            class Unheard(BaseOptions):  # type: ignore[misc]
                """Certificates of nobody: where there is a way out, no server is trusted with what it would send."""

                def to_ctypes(self) -> Any:
                    given = super().to_ctypes()
                    given.ca_bundle_path = os.devnull.encode()
                    return given

            close_way_out()
            options = vision.FaceLandmarkerOptions(
                base_options=Unheard(model_asset_buffer=weights.load("face_landmarker")),
                num_faces=1,
                min_face_detection_confidence=self.confidence,
                min_face_presence_confidence=self.confidence,
            )
            self._model = vision.FaceLandmarker.create_from_options(options)
            self._image: Callable[[NDArray[np.uint8]], Any] = lambda crop: mp.Image(
                image_format=mp.ImageFormat.SRGB, data=crop
            )
            # The inference threads start, and print, on the first picture.
            self.locate(np.zeros((64, 64, 3), np.uint8))

    def locate(self, crop: NDArray[np.uint8]) -> Points | None:
        """As the protocol says."""
        height, width = crop.shape[:2]
        # mp.Image takes the memory behind an array without heeding its strides.
        faces = self._model.detect(self._image(np.ascontiguousarray(crop))).face_landmarks
        if not faces:
            return None
        return np.array([(p.x * width, p.y * height) for p in faces[0]], np.float32)

    def close(self) -> None:
        """Free the model."""
        self._model.close()

    def __enter__(self) -> MediaPipeLandmarks:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
