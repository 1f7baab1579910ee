"""Who is told how a train-check goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from p3mdata.base.progress import Counted, Progress


@contextmanager
def _uncounted() -> Iterator[Progress]:
    yield lambda total: lambda: None


@dataclass(frozen=True)
class Reporter:
    """Who is told how it goes; nobody, unless said otherwise.

    Attributes:
        say: Takes a message.
        counted: Progress of work of a known number of steps, see `p3mdata.console.counted`.
        bars: Whether trainings show bars on the console.
    """

    say: Callable[[str], None] = lambda text: None
    counted: Counted = _uncounted
    bars: bool = False
