"""The first lines of a command line: streams that may have nobody at their other end, and signals while it is loaded.

Nothing but the standard library is imported, here and in `quiet`, so that it is in force within the first hundredths
of a second.
"""

from __future__ import annotations

import gc
import io
import json
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import IO, Any, NoReturn

from p3mdata.base.quiet import own_process
from p3mdata.errors import EXIT_INTERRUPTED

# What asks a process to end: Ctrl-C, schedulers, a terminal that is closed.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))
_KEPT = "Run the same command again to resume."


class _Open(io.RawIOBase):
    """A stream of this process; when its reader has gone away, what is written goes nowhere and nothing fails."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: Any) -> int:
        try:
            return os.write(self._descriptor, data)
        except BrokenPipeError:
            # Processes that are started from now on, and libraries, find somewhere to write as well.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._descriptor)
            os.close(nowhere)
            return len(data)


def _tolerant(stream: IO[str] | None, descriptor: int) -> IO[str]:
    encoding, errors = (getattr(stream, name, None) for name in ("encoding", "errors"))
    raw = _Open(descriptor)
    line_buffering = descriptor == 2 or raw.isatty()
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding or "utf-8", errors or "surrogateescape", line_buffering=line_buffering
    )


def _open_streams() -> None:
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # Else the next file that is opened gets this number, and what is printed.
            os.open(os.devnull, os.O_RDWR)
    sys.stdout, sys.stderr = _tolerant(sys.stdout, 1), _tolerant(sys.stderr, 2)


def interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """What the stop signals do where nobody waits for them: as Ctrl-C."""
    raise KeyboardInterrupt


def start(load: Callable[[], Callable[[], None]]) -> None:
    """Run the command line of this process.

    Args:
        load: Imports what it needs and gives what runs it.
    """
    own_process()
    _open_streams()
    asked: list[int] = []
    # What is started with nohup outlives its terminal.
    numbers = [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    for number in numbers:
        # Imports that are interrupted in their midst end as anything; they take a second.
        signal.signal(number, lambda number, frame: asked.append(number))
    # What is imported stays: looking through it for garbage, again and again, takes a twentieth of the start.
    gc.disable()
    run = load()
    gc.freeze()
    gc.enable()
    for number in numbers:
        signal.signal(number, interrupt)
    if asked:
        end_interrupted(f"interrupted before it began. {_KEPT}")
    try:
        run()
    finally:
        # The process ends: what is left goes with it, and need not be looked through object by object, which takes a
        # tenth of a second with all libraries loaded. What is to be done at the end is registered to be done.
        gc.disable()
        gc.freeze()


def end_interrupted(sentence: str) -> NoReturn:
    """End as after Ctrl-C: one sentence, and with --json one object."""
    sys.stderr.write(f"Error: {sentence}\n")
    if "--json" in sys.argv:
        sys.stdout.write(json.dumps({"error": {"code": EXIT_INTERRUPTED, "sentence": sentence}}) + "\n")
    sys.stdout.flush()
    sys.exit(EXIT_INTERRUPTED)
