"""Real runs for tests: sources to run on, the command line as a process, and what equal runs must have in common."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p3mdata import cli
from tests.factories import astronaut, encoded

# Seconds until a test gives up waiting for what must come; no test depends on how soon it comes.
PATIENCE = 300


def portraits(folder: Path, *names: str, side: int = 192) -> Path:
    """Photographs of one face; each file has bytes of its own. Returns the folder."""
    for index, name in enumerate(names):
        suffix = Path(name).suffix.lower()
        array = astronaut(side + index)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(array, {".png": "PNG", ".webp": "WEBP"}.get(suffix, "JPEG")))
    return folder


def p3mdata(*args: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command line as a process of its own; one that hangs fails the test."""
    command = [sys.executable, "-m", "p3mdata", *map(str, args)]
    options = {
        "timeout": PATIENCE,
        "capture_output": True,
        "text": True,
        "errors": "surrogateescape",
    } | options
    return subprocess.run(command, check=False, **options)


def p3mdata_here(*args: str | Path) -> subprocess.CompletedProcess[str]:
    """The command line in this process, where a start of Python is not the subject; what it prints is not a stream."""
    stdout, stderr = io.StringIO(), io.StringIO()
    command = [str(arg) for arg in args]
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr), pytest.raises(SystemExit) as caught:
        cli.main(command)
    assert isinstance(caught.value.code, int)
    return subprocess.CompletedProcess(command, caught.value.code, stdout.getvalue(), stderr.getvalue())


def contents(run: Path) -> dict[str, bytes]:
    """Everything of a run folder that equal plans make equal."""
    parts = [run / name for name in ("plan.json", "manifest.jsonl", "private/ledger.jsonl", "report.html")]
    for kind in ("images", "facemasks", "alphas"):
        parts += sorted((run / kind).rglob("*"))
    return {str(path.relative_to(run)): path.read_bytes() for path in parts if path.is_file()}


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[Any] | None = None) -> None:
    """Wait for a state; fails when `process` ends before it comes."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process is None or process.poll() is None or condition(), f"ended: {process.communicate()}"
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


class Clock:
    """Takes the place of a module's `time`: waiting takes no time, and `at_wait` happens instead; counts the waits."""

    def __init__(self, at_wait: Callable[[int], None]) -> None:
        self.waits, self._now, self._at_wait = 0, 0.0, at_wait

    def monotonic(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds
        self.waits += 1
        self._at_wait(self.waits)
