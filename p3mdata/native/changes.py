"""How two pictures differ."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from p3mdata.native.library import library


class Changes(NamedTuple):
    """Numbers of pixels that differ in any channel.

    Attributes:
        outside: Beside a mask.
        largest: By how much at most there.
        transition, replaced: In two other masks.
        channels: In the last one, values of each channel that differ.
    """

    outside: int
    largest: int
    transition: int
    replaced: int
    channels: tuple[int, ...]


def changes(before: NDArray[Any], after: NDArray[Any], masks: Sequence[NDArray[np.bool_]]) -> Changes | None:
    """Count what differs between two pictures.

    Args:
        before, after: HxW or HxWx3, of one shape.
        masks: Three, bool HxW: the one beside which is counted, the transition, and what was replaced.

    Returns:
        None if there is no library, pixels are no bytes, or those of a row do not lie side by side.

    Raises:
        ValueError: Shapes do not fit.
    """
    if (native := library()) is None or before.dtype != np.uint8 or after.dtype != np.uint8:
        return None
    if before.shape != after.shape or before.ndim not in (2, 3) or (before.ndim == 3 and before.shape[2] != 3):
        raise ValueError(f"expected two pictures of one size, got {before.shape} and {after.shape}")
    if len(masks) != 3 or any(mask.dtype != np.bool_ or mask.shape != before.shape[:2] for mask in masks):
        raise ValueError(f"expected three masks bool of {before.shape[:2]}")
    rows = (3, 1) if before.ndim == 3 else (1,)
    if 0 in before.shape:
        return Changes(0, 0, 0, 0, (0,) * rows[0])
    if any(a.strides[1:] != rows for a in (before, after)) or any(mask.strides[1] != 1 for mask in masks):
        return None
    found = np.zeros(7, np.int64)
    native.functions.p3m_changes(
        native.level,
        *(ctypes.c_void_p(before.ctypes.data), ctypes.c_ssize_t(before.strides[0])),
        *(ctypes.c_void_p(after.ctypes.data), ctypes.c_ssize_t(after.strides[0])),
        *(*before.shape[:2], rows[0]),
        (ctypes.c_void_p * 3)(*[mask.ctypes.data for mask in masks]),
        (ctypes.c_ssize_t * 3)(*[mask.strides[0] for mask in masks]),
        ctypes.c_void_p(found.ctypes.data),
    )
    outside, largest, transition, replaced, *channels = found.tolist()
    return Changes(outside, largest, transition, replaced, tuple(channels[: rows[0]]))
