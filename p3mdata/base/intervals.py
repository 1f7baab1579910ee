"""Intervals of rates: Wilson score, how many trials a claim takes, and the bound that no miss in n images gives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

# Two-sided, in standard deviations of a normal distribution.
_Z95 = 1.959963984540054
DIGITS = 4


@dataclass(frozen=True)
class Rate:
    """A share in [0, 1] of `n` trials with its 95 % interval, rounded."""

    value: float
    low: float
    high: float
    n: int

    def to_json(self) -> dict[str, float | int]:
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}

    @classmethod
    def from_json(cls, row: Mapping[str, float]) -> Rate:
        shares = row["value"], row["low"], row["high"]
        if not all(0 <= share <= 1 for share in shares):
            raise ValueError(f"shares {shares}")
        return cls(*shares, int(row["n"]))


def rate_of(value: float, low: float, high: float, n: int) -> Rate:
    """A rate and its interval, rounded to `DIGITS` digits."""
    value, low, high = (round(float(part), DIGITS) for part in (value, low, high))
    return Rate(value, low, high, n)


def wilson(hits: float, n: int) -> Rate:
    """Share of hits with Wilson's 95 % score interval. It takes the trials as independent of each other."""
    if n == 0:
        return Rate(0.0, 0.0, 1.0, 0)
    share, z2 = hits / n, _Z95**2 / n
    centre = (share + z2 / 2) / (1 + z2)
    reach = _Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n)) / (1 + z2)
    return rate_of(share, max(0.0, centre - reach), min(1.0, centre + reach), n)


def people_needed(rate: float, seen: float = 0.0) -> int | None:
    """How many people it takes to claim that at most a share `rate` is found, where a share `seen` of them is.

    The upper end of Wilson's interval must not lie above the claim; None where no number is enough.
    """
    if not 0 < rate < 1 or seen >= rate:
        return None
    # Wilson's end reaches the claim where (rate - seen)^2 = z^2 rate (1 - rate) / n.
    return math.ceil(_Z95**2 * rate * (1 - rate) / (rate - seen) ** 2 - 1e-9)


def miss_bound(n: int, misses: int) -> float:
    """Largest miss rate that fits what was seen, one-sided 95 % (Clopper and Pearson), exact.

    Zero misses in n images give 1 - 0.05^(1/n), which is below the rule of thumb 3/n.

    Args:
        n: Images looked at.
        misses: Of those, images with a face that was missed.

    Raises:
        ValueError: There cannot be so many misses.
    """
    if not 0 <= misses <= n:
        raise ValueError(f"{misses} misses in {n} images")
    if misses == n:
        return 1.0
    logs = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(misses + 1)]
    low, high = 0.0, 1.0
    # The chance to see so few misses falls as the rate grows: halve until floats are used up.
    while low < (middle := (low + high) / 2) < high:
        seen = math.fsum(math.exp(c + k * math.log(middle) + (n - k) * math.log1p(-middle)) for k, c in enumerate(logs))
        low, high = (middle, high) if seen > 0.05 else (low, middle)
    return high
