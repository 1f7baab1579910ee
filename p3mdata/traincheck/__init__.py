"""`p3mdata train-check`: does the anonymized dataset still teach matting, and what does anonymization cost?

Torch is imported when a train-check begins, so that everything else works without it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p3mdata.errors import EXIT_HELD_BACK, EXIT_OK, EXIT_PROOF_FAILED, SetupError
from p3mdata.traincheck.statistics import State
from p3mdata.traincheck.wishes import Scale, Wishes, seconds_of

__all__ = ["Audience", "Scale", "TrainCheck", "Wishes", "seconds_of", "train_check"]

REPORT, PAGE = "report.json", "report.html"
_EXITS = {State.PASS: EXIT_OK, State.INCONCLUSIVE: EXIT_HELD_BACK, State.FAIL: EXIT_PROOF_FAILED}


@contextmanager
def _uncounted() -> Iterator[Callable[[int], Callable[[], None]]]:
    yield lambda total: lambda: None


@dataclass(frozen=True)
class Audience:
    """Who is told how it goes; nobody, unless said otherwise.

    Attributes:
        say: Takes a message.
        counted: Progress of work of a known number of steps, see `p3mdata.console.counted`.
        bars: Whether trainings show bars on the console.
    """

    say: Callable[[str], None] = lambda text: None
    counted: Callable[[], AbstractContextManager[Callable[[int], Callable[[], None]]]] = _uncounted
    bars: bool = False


@dataclass(frozen=True)
class TrainCheck:
    """What a train-check found.

    Attributes:
        out: Its folder.
        report: Content of report.json.
    """

    out: Path
    report: dict[str, Any]

    @property
    def verdict(self) -> State:
        return State(self.report["verdict"])

    @property
    def exit_code(self) -> int:
        """0 pass, 3 inconclusive, 4 fail."""
        return _EXITS[self.verdict]

    @property
    def page(self) -> Path:
        return self.out / PAGE


def train_check(dataset: Path, out: Path, wishes: Wishes, audience: Audience | None = None) -> TrainCheck:
    """Check a dataset, train under the paper's protocols with equal steps, test, and judge.

    Writes `out/report.json` and `out/report.html`, which show no original, and everything that it takes to go on after
    an interruption. When it ends early, whatever the reason, the report of what is finished is written first.

    Args:
        dataset: Of a layout that p3mdata knows.
        out: A new folder, or that of an earlier call with the same settings, which goes on.
        wishes: Settings.
        audience: Told how it goes.

    Raises:
        SetupError: Torch, or weights, are missing, or the GPU failed.
        SettingsError: Settings do not fit the data, or each other.
        RunFolderError: `out` is foreign, of other settings, or cannot be written.
        Interrupted: It was asked to stop; the same call goes on.
    """
    wishes.check()
    if importlib.util.find_spec("torch") is None:
        raise SetupError("train-check needs torch: run pip install 'p3mdata[train]'.")
    from p3mdata.traincheck.driver import run

    return TrainCheck(out, run(dataset, out, wishes, audience or Audience()))
