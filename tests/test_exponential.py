"""e to the power of numbers: the same bytes with the C library, on all its levels, and without it."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from p3mdata.faces.exponential import exp
from p3mdata.native import LEVELS
from p3mdata.native.exponential import exponentials
from tests.native_levels import use


@pytest.mark.parametrize("level", ["off", *LEVELS])
def test_the_same_bytes_everywhere(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, level)
    # Of exact steps, so that they are the same everywhere; as numpy has them with AVX2 and AVX-512.
    steps = np.arange(-87 * 256, 87 * 256 + 1)
    singles, doubles = (exp((steps / 256).astype(kind)) for kind in (np.float32, np.float64))
    assert singles.dtype == np.float32 and doubles.dtype == np.float64
    assert hashlib.sha256(singles.tobytes()).hexdigest()[:16] == "325e9c9f0be5fa91"
    assert hashlib.sha256(doubles.tobytes()).hexdigest()[:16] == "419877f338a4bf1f"
    true = np.exp((steps / 256).astype(np.longdouble))
    assert np.abs(singles / true - 1).max() < 2.0**-22 and np.abs(doubles / true - 1).max() < 2.0**-51
    assert exp(steps[::-512].reshape(-1, 4).T / 256).shape == (4, 22)
    assert exp(np.float64(1)).shape == ()


def test_what_is_beyond_counts_as_the_largest() -> None:
    assert np.array_equal(exp(np.array([-1e30, 1e30])), exp(np.array([-87.0, 87.0])))
    for wrong in (np.array([88.0]), np.array([np.nan]), np.array([1])):
        with pytest.raises(ValueError, match="expected float32 or float64"):
            exponentials(wrong)
