"""Progress of long work, as every layer below the command line tells it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TypeAlias

# Given the number of steps, gives what is called after each of them, or now and then.
Progress: TypeAlias = Callable[[int], Callable[[], None]]
# A `Progress` that is shown while a block runs.
Counted: TypeAlias = Callable[[], AbstractContextManager[Progress]]


def silent(total: int) -> Callable[[], None]:
    """A `Progress` that shows nothing."""
    return lambda: None


# What a picture takes, whatever its size, as a share of what one of mean size takes for each of its bytes. Of 24
# photographs at 1080p and 223 of 0.1 to 3.7 megapixels the least error lies between 0.5 and 2.
_WHATEVER_ITS_SIZE = 0.7


def weights(sizes: Sequence[int]) -> list[float]:
    """How much of the work each picture is, by the sizes of their files in bytes; 1 in the mean."""
    mean = sum(sizes) / max(len(sizes), 1)
    if not mean:
        return [1.0] * len(sizes)
    return [(size / mean + _WHATEVER_ITS_SIZE) / (1 + _WHATEVER_ITS_SIZE) for size in sizes]


class Pace:
    """How fast work goes, told from when its first step was seen done: what comes before is models and plans.

    Steps need not be whole: of steps that take more than others, what is done is counted in steps of mean size.
    """

    def __init__(self, done: float, now: float) -> None:
        """Begin with some steps done before, at a time in seconds."""
        self._done, self._now = done, now
        self._first: tuple[float, float] | None = None
        self._last = done, now

    def seen(self, done: float, now: float) -> None:
        """Note how much is done at a time."""
        if self._first is None and done < self._done:
            # What is made again does not count any more.
            self._done, self._now = done, now
        if self._first is None and done > self._done:
            self._first = done, now
        self._last = done, now

    @property
    def rate(self) -> float:
        """Steps per second, 0 before there were any."""
        if self._first is None:
            return 0.0
        # Several at the very first look tell no pace of their own; with them the start is counted.
        since = self._first if self._last[0] > self._first[0] else (self._done, self._now)
        return max(0.0, self._last[0] - since[0]) / max(self._last[1] - since[1], 1e-6)

    def left(self, total: int) -> float | None:
        """Seconds until all of the steps are done; None until more than the first is seen done, which tells of the
        start, not of a pace."""
        if self._first is None or self._last[0] <= self._first[0]:
            return None
        return max(0, total - self._last[0]) / self.rate
