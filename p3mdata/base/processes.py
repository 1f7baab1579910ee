"""Worker processes: how many fit this machine, and how they end when the parent is stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

# Working memory of one worker on large photographs; the models take most of it.
WORKER_BYTES = 700 * 1024**2
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def default_workers() -> int:
    """As many workers as cores this process may use and memory allow."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(cores, _free_memory() // WORKER_BYTES))


def _free_memory() -> int:
    """Bytes that new processes can have; what the system keeps as file cache counts as free."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


class StopOnSignal:
    """Turns SIGINT and SIGTERM into a question answered between images; a second signal interrupts at once."""

    def __init__(self) -> None:
        self.seen = False
        self._previous: dict[int, Any] = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.seen:
            raise KeyboardInterrupt
        self.seen = True

    def __enter__(self) -> StopOnSignal:
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
