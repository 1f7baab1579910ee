"""What cases of `robustness` are told in: the commands of a checkout, strikes at a moment, what a command came to."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.factories import encoded, matte, texture
from tests.runs import portraits

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 300
NOT_TRIED = "not tried: "
HELD = "none.png"
_NAMES = ("a.jpg", "b.jpg", "c.png", "d.jpg", "e.webp")
_SIDE = 160
# Python reads this at start: a signal to the process, or a kill of all of its processes, at the N-th file that gets its
# name below a folder; or at the import of a module.
_AT = """
import os, signal, sys

def hook(event, args, left=[int(os.environ.get("AT_NAME", 0))], module=os.environ.get("AT_IMPORT")):
    if event == "os.rename" and left[0] and os.fspath(args[1]).startswith(os.environ["BELOW"]):
        left[0] -= 1
        if not left[0]:
            strike()
    elif event == "import" and args[0] == module:
        strike()

def strike(number=int(os.environ.get("STRIKE", 9))):
    if number == signal.SIGKILL:
        os.killpg(0, number)
    os.kill(os.getpid(), number)

sys.addaudithook(hook)
"""


@dataclass(frozen=True)
class Tool:
    """The command line of one checkout, with a folder of its own for what its cases share."""

    checkout: Path
    place: Path
    environment: dict[str, str] = field(default_factory=dict)

    def _started(self, args: Sequence[object], at: dict[str, str], options: dict[str, Any]) -> subprocess.Popen[str]:
        hook = self.place / "hook"
        if not hook.is_dir():
            hook.mkdir()
            (hook / "sitecustomize.py").write_text(_AT)
        path = os.pathsep.join([str(self.checkout), *([str(hook)] if at else [])])
        environment = os.environ | self.environment | at | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        environment |= {"PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "10000"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        command = [sys.executable, "-m", "p3mdata", *map(str, args)]
        return subprocess.Popen(
            command, env=environment, cwd=self.place, text=True, errors="replace", start_new_session=True, **pipes
        )

    def start(self, *args: object, **options: Any) -> subprocess.Popen[str]:
        """A command that runs beside this process."""
        return self._started(args, {}, options)

    def __call__(self, *args: object, at: dict[str, str] | None = None, **options: Any) -> Ended:
        """Run a command to its end."""
        process = self._started(args, at or {}, options)
        try:
            out, err = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            err += "\nhangs"
        return Ended(process.returncode, out or "", err or "")

    def well(self, *args: object) -> Ended:
        """Run a command that is only the way to a case.

        Raises:
            RuntimeError: It did not end well.
        """
        ended = self(*args)
        if ended.code not in (0, 3):
            raise RuntimeError(f"{' '.join(map(str, args))}: exit {ended.code}: {ended.err[-800:]}")
        return ended

    def anonymize(self, source: Path, out: object, *more: object) -> Ended:
        return self.well("anonymize", "dir", source, out, "--workers", "1", "--quiet", *more)

    @cached_property
    def source(self) -> Path:
        """Five photographs of one face, and a picture without one, which is held back."""
        folder = portraits(self.place / "src", *_NAMES, side=_SIDE)
        (folder / HELD).write_bytes(encoded(texture(_SIDE, _SIDE), "PNG"))
        return folder

    @cached_property
    def _finished(self) -> Path:
        alphas = self._alphas
        alphas.mkdir()
        for number, path in enumerate(sorted(self.source.iterdir())):
            (alphas / f"{path.stem}.png").write_bytes(encoded(matte(_SIDE + number % len(_NAMES)), "PNG"))
        self.anonymize(self.source, self.place / "finished", "--alphas", alphas)
        return self.place / "finished"

    @property
    def _alphas(self) -> Path:
        return self.place / "alphas"

    def again(self, run: Path) -> Ended:
        """The command that made a finished run, on what became of it."""
        return self("anonymize", "dir", self.source, run, "--alphas", self._alphas, "--workers", "1")

    def finished(self, at: Path) -> Path:
        """A finished run of the source, to do anything to."""
        shutil.copytree(self._finished, at / "run")
        return at / "run"

    @cached_property
    def _task(self) -> str:
        return "--task" if "--task" in self("anonymize", "dir", "--help").out else "--shard"

    def task(self, source: Path, out: Path, number: int, of: int) -> Ended:
        """One of the calls that share a run, by the name that the option had."""
        return self.well(
            "anonymize", "dir", source, out, self._task, f"{number}/{of}", "--workers", "1", "--quiet"
        )  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """Exit status and text of a command."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err

    def said(self) -> str:
        """The exit code, and whether it was an accident."""
        if self.code < 0:
            return f"killed ({self.code})"
        return f"exit {self.code}" + (" with a traceback" if "Traceback" in self.text else "")


@dataclass(frozen=True)
class Case:
    """Something that goes wrong.

    Attributes:
        point: Of what kind it is: the row's first words.
        words: What happens.
        see: Makes it happen below a new folder and tells what came of it.
        right: What that should be.
    """

    point: str
    words: str
    see: Callable[[Tool, Path], str]
    right: str


def at_name(below: Path, number: int, strike: int = signal.SIGKILL) -> dict[str, str]:
    """Strike as the N-th file below a folder gets its name."""
    return {"AT_NAME": str(number), "BELOW": str(below), "STRIKE": str(int(strike))}


def at_import(module: str, strike: int) -> dict[str, str]:
    """Strike at the first import of a module."""
    return {"AT_IMPORT": module, "STRIKE": str(int(strike))}


def waited(condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Whether something came to be within so long."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def torn(below: Path) -> list[Path]:
    return sorted(below.rglob(".*.tmp"))
