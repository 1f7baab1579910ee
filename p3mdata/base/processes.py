"""Worker processes: how many fit this machine, and how they end when the parent is stopped."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from p3mdata.base import system
from p3mdata.base.memory import free_memory
from p3mdata.base.streams import STOP_SIGNALS

# Share of a worker; beside the models there is room for a picture of 16 megapixels. Of larger ones see `base.memory`.
WORKER_BYTES = 700 * 1024**2
MODEL_BYTES = 330 * 1024**2


def default_workers() -> int:
    """As many workers as cores this process may use and memory allow."""
    memory = free_memory()
    return max(1, system.cores() if memory is None else min(system.cores(), memory // WORKER_BYTES))


class StopOnSignal:
    """Turns the stop signals into a question answered between images; a second signal interrupts at once."""

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
                # What is started with nohup outlives its terminal.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
