"""Networks in onnxruntime: one thread, one arena of memory for all of a process, and images as their input."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.base.quiet import load_onnxruntime
from p3mdata.native import images


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


def session(model: bytes, without: Sequence[str] = ()) -> Any:
    """An onnxruntime session of one thread, without some of its ways to rewrite a graph."""
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
    return onnxruntime.InferenceSession(
        model, options, providers=["CPUExecutionProvider"], disabled_optimizers=list(without)
    )


class Blob:
    """Images as input of a network, in memory that is kept: fresh pages would cost more than the conversion.

    Args:
        reverse: Whether the network takes blue first.
    """

    def __init__(self, *, reverse: bool = False) -> None:
        self._reverse = reverse
        self._memory, self._planes = np.empty(0, np.float32), np.empty(0, np.uint8)

    def __call__(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The image as (1, 3, h, w) float32 in 0..255, filled up with zeros to multiples of 32; until the next call."""
        height, width = rgb.shape[:2]
        shape = 1, 3, height + -height % 32, width + -width % 32
        size = math.prod(shape)
        if self._memory.size < size:
            self._memory = np.empty(size, np.float32)
        blob = self._memory[:size].reshape(shape)
        if images.planes(rgb, blob[0], reverse=self._reverse):
            return blob
        if self._planes.size < size:
            self._planes = np.empty(size, np.uint8)
        # Channels apart, then whole planes converted: a third of the time of both at once.
        planes = list(self._planes[: 3 * height * width].reshape(3, height, width))
        cv2.split(rgb, planes[::-1] if self._reverse else planes)
        for channel, plane in enumerate(planes):
            blob[0, channel, :height, :width] = plane
        blob[0, :, height:] = 0
        blob[0, :, :, width:] = 0
        return blob
