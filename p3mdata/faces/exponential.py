"""e to the power of numbers with the same bytes on every machine.

numpy takes a routine of its own where a processor has AVX2 or AVX-512 and that of the system's library elsewhere, which
differ in the last bit: enough to move a crop by so little that a few of its pixels change. Here each step is one
operation that IEEE 754 defines. Floats are as numpy has them with AVX2 and AVX-512.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from p3mdata.native.exponential import MOST, exponentials

# A quotient of polynomials for floats, the highest power first; see exponential.c.
_UPPER = np.array(
    [
        *(5.082762527590693718096e-04, 6.757896990527504603057e-03, 5.114512081637298353406e-02),
        *(2.473615434895520810817e-01, 7.257664613233124478488e-01, 9.999999999980870924916e-01),
    ],
    np.float32,
)
_LOWER = np.array([2.159509375685829852307e-02, -2.742335390411667452936e-01, 1.0], np.float32)
# The series for doubles.
_SERIES = 1 / np.cumprod([1.0, *range(1, 14)])[::-1]
_SHIFT, _DOUBLE_SHIFT = np.float32(12582912.0), 6755399441055744.0


def exp(values: NDArray[Any]) -> NDArray[Any]:
    """Of float32 or float64 of any shape, in the same type; what is beyond -87 to 87 counts as that."""
    values = np.clip(values, -MOST, MOST)
    made = exponentials(values)
    if made is not None:
        return made
    return _of_floats(values) if values.dtype == np.float32 else _of_doubles(values)


def _fused(a: Any, b: Any, c: Any) -> NDArray[np.float32]:
    """a * b + c, rounded once: a double holds the product."""
    return np.asarray(np.multiply(a, b, dtype=np.float64) + c).astype(np.float32)


def _of_floats(values: NDArray[np.float32]) -> NDArray[np.float32]:
    whole = (values * np.float32(1.442695040) + _SHIFT) - _SHIFT
    rest = _fused(whole, np.float32(-1.42860677e-6), _fused(whole, np.float32(-6.93145752e-1), values))
    sums = []
    for factors in (_UPPER, _LOWER):
        total = np.full_like(rest, factors[0])
        for factor in factors[1:]:
            total = _fused(total, rest, np.float64(factor))
        sums.append(total)
    return np.asarray(np.ldexp(sums[0] / sums[1], whole.astype(np.int32)), np.float32)


def _of_doubles(values: NDArray[np.float64]) -> NDArray[np.float64]:
    whole = (values * 1.4426950408889634 + _DOUBLE_SHIFT) - _DOUBLE_SHIFT
    rest = (values - whole * 0.6931471803691238) - whole * 1.9082149292705877e-10
    total = np.full_like(rest, _SERIES[0])
    for factor in _SERIES[1:]:
        total = total * rest + factor
    return np.ldexp(total, whole.astype(np.int32))
