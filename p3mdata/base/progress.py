"""Progress of long work, as every layer below the command line tells it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeAlias

# Given the number of steps, gives what is called after each of them, or now and then.
Progress: TypeAlias = Callable[[int], Callable[[], None]]
# A `Progress` that is shown while a block runs.
Counted: TypeAlias = Callable[[], AbstractContextManager[Progress]]


def silent(total: int) -> Callable[[], None]:
    """A `Progress` that shows nothing."""
    return lambda: None
