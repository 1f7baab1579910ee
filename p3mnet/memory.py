"""Telling the end of memory from a fault: every library has its own words for it."""

from __future__ import annotations

import cv2
import torch

# What can be raised when memory is at its end; `out_of_memory` says whether it was.
MEMORY_ERRORS = (RuntimeError, MemoryError, cv2.error)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error is PyTorch's on a GPU or a CPU, numpy's or OpenCV's about memory that does not suffice."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    if isinstance(error, cv2.error):
        return "Insufficient memory" in text or "OutOfMemory" in text
    return isinstance(error, RuntimeError) and any(
        words in text
        # Libraries of a GPU: no room for their own working memory.
        for words in ("allocate memory", "enough memory", "out of memory", "ALLOC_FAILED", "unable to find an engine")
    )
