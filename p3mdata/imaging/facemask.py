"""Facemasks: which pixels of a released picture are not those of its source, and in which of two ways.

REPLACED pixels hold nothing of the photograph: a loader that asks for more than half of the range, or for 255, gets
these. RECOMPOSED ones are a composite of the unchanged matte with an obfuscated layer, so what is learnt about the
matte there is true; a loader that asks for more than 0 gets both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from p3mdata.records import Mask

UNTOUCHED, RECOMPOSED, REPLACED = 0, 64, 255
_HALF = 127


def replaced(facemask: NDArray[Any]) -> Mask:
    """Where a facemask (HxW uint8) says that nothing of the photograph is left."""
    return np.asarray(facemask > _HALF)


def changed(facemask: NDArray[Any]) -> Mask:
    """Where a facemask (HxW uint8) says that the picture may differ from the photograph."""
    return np.asarray(facemask > UNTOUCHED)


def is_facemask(array: NDArray[Any]) -> bool:
    """Whether an array is HxW uint8 of the three values."""
    if array.ndim != 2 or array.dtype != np.uint8:
        return False
    return bool(((array == UNTOUCHED) | (array == REPLACED) | (array == RECOMPOSED)).all())


def facemask_of(changed_pixels: Mask, recomposed: Mask | None) -> NDArray[np.uint8]:
    """HxW uint8 of the three values; `recomposed` is None where no pixel is."""
    facemask = changed_pixels.view(np.uint8) * np.uint8(REPLACED)
    if recomposed is not None:
        facemask[recomposed & changed_pixels] = RECOMPOSED
    return facemask
