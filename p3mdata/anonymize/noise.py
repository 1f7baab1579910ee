"""Laplace noise for differentially private pixelisation (Fan 2018): from a secret and what is hidden, exact everywhere.

A cell's mean over n pixels moves by at most top * m / n when m pixels of a picture change. Noise of the Laplace
distribution with the scale top * m / (n * epsilon) on every cell makes two pictures that differ in m pixels give any
output with probabilities that differ by a factor of at most exp(epsilon), however these m pixels lie. With several
channels each has its share of epsilon.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

# What differs between this and other uses of a run's secret.
_DOMAIN = b"p3mdata.noise.v1"
# Width in pixels of the face on which `m` is counted; on larger ones m grows with the face's area.
REFERENCE_WIDTH = 100
_UNIFORM_BITS, _LOG_BITS = 63, 31
_LN2 = 0.6931471805599453


@dataclass(frozen=True)
class Noise:
    """Parameters and secret of the noise.

    Attributes:
        epsilon: Privacy budget of one region's pixelisation, all channels together.
        pixels: m: how many pixels of a face 100 px wide may change. At least so many on smaller faces.
        secret: Who has it can subtract the noise.
    """

    epsilon: float
    pixels: int
    secret: bytes = field(repr=False)

    def pixels_of(self, face_width: float) -> float:
        """m on a face of this width in pixels."""
        return self.pixels * max(1.0, face_width / REFERENCE_WIDTH) ** 2

    def scales(self, counts: NDArray[np.float64], face_width: float, channels: int, top: int) -> NDArray[np.float64]:
        """Scale of the Laplace noise on the mean of each cell, in levels: C * top * m / (n * epsilon).

        Args:
            counts: Number n of pixels per cell, any shape; where it is 0 the scale is 0.
            face_width: In pixels.
            channels: C, how many channels share epsilon.
            top: Largest level.
        """
        wanted = channels * top * self.pixels_of(face_width) / self.epsilon
        return np.where(counts > 0, wanted / np.maximum(counts, 1e-12), 0.0)

    def draw(self, sums: NDArray[np.int64], counts: NDArray[np.int64], about: tuple[Any, ...]) -> NDArray[np.float64]:
        """Laplace noise of scale 1 in the shape of `sums`, which follows from the secret and everything given.

        Equal contents get equal noise, so that a run that is done again gives equal bytes, and others an independent
        one: the difference of two releases of a picture shows nothing.
        """
        content = hashlib.shake_256()
        for part in (_DOMAIN, self.secret, repr((self.epsilon, self.pixels, *about, sums.shape)).encode()):
            content.update(len(part).to_bytes(8, "big") + part)
        content.update(np.ascontiguousarray(sums, "<i8").tobytes() + np.ascontiguousarray(counts, "<i8").tobytes())
        bits = np.frombuffer(content.digest(8 * sums.size), "<u8").astype(np.uint64)
        sign = np.where(bits & np.uint64(1), 1.0, -1.0)
        return np.asarray((sign * _minus_ln(bits >> np.uint64(1))).reshape(sums.shape))


def _minus_ln(numbers: NDArray[np.uint64]) -> NDArray[np.float64]:
    """-ln((x + 1) / 2^63) of integers below 2^63: exponential variates, equal on every machine.

    Libraries round logarithms differently, and a level of the output must not hang on that: the binary digits of the
    logarithm are found by squaring integers.
    """
    one = np.uint64(1)
    x = numbers + one
    exponent = np.zeros(x.shape, np.int64)
    for step in (32, 16, 8, 4, 2, 1):
        large = (x >> np.uint64(step)) > 0
        exponent += step * large
        x = np.where(large, x >> np.uint64(step), x)
    x = numbers + one
    shift = exponent - _LOG_BITS
    mantissa = np.where(
        shift >= 0, x >> np.maximum(shift, 0).astype(np.uint64), x << np.maximum(-shift, 0).astype(np.uint64)
    )
    fraction = np.zeros(x.shape, np.int64)
    for _ in range(_LOG_BITS):
        mantissa = (mantissa * mantissa) >> np.uint64(_LOG_BITS)
        carry = mantissa >> np.uint64(_LOG_BITS + 1)
        mantissa = mantissa >> carry
        fraction = 2 * fraction + carry.astype(np.int64)
    log2 = exponent.astype(np.float64) + fraction / float(1 << _LOG_BITS)
    return (_UNIFORM_BITS - log2) * _LN2
