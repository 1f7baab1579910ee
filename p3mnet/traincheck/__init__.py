"""`p3mdata train-check`: does the anonymized dataset still teach matting, and what does anonymization cost?

Torch is imported when a train-check begins, so that everything else works without it.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from p3mdata.errors import EXIT_HELD_BACK, EXIT_OK, EXIT_PROOF_FAILED, SetupError
from p3mdata.typing import Json
from p3mnet.traincheck.config import Scale, TrainCheckSettings, seconds_of
from p3mnet.traincheck.layout import PAGE
from p3mnet.traincheck.reporter import Reporter
from p3mnet.traincheck.statistics import State

if TYPE_CHECKING:
    from p3mnet.traincheck.results import Report

__all__ = ["Reporter", "Scale", "TrainCheck", "TrainCheckSettings", "seconds_of", "train_check"]

_EXITS = {State.PASS: EXIT_OK, State.INCONCLUSIVE: EXIT_HELD_BACK, State.FAIL: EXIT_PROOF_FAILED}


@dataclass(frozen=True)
class TrainCheck:
    """What a train-check found.

    Attributes:
        out: Its folder.
        found: What it came to.
    """

    out: Path
    found: Report

    @property
    def report(self) -> Json:
        """Content of report.json."""
        return self.found.to_json()

    @property
    def verdict(self) -> State:
        return self.found.verdict

    @property
    def exit_code(self) -> int:
        """0 pass, 3 inconclusive, 4 fail."""
        return _EXITS[self.verdict]

    @property
    def page(self) -> Path:
        return self.out / PAGE


def train_check(dataset: Path, out: Path, settings: TrainCheckSettings, reporter: Reporter | None = None) -> TrainCheck:
    """Check a dataset, train under the paper's protocols with equal steps, test, and judge.

    Writes `out/report.json` and `out/report.html`, which show no original, and everything that it takes to go on after
    an interruption. When it ends early, whatever the reason, the report of what is finished is written first.

    Args:
        dataset: Of a layout that p3mdata knows.
        out: A new folder, or that of an earlier call with the same settings, which goes on.
        settings: Settings.
        reporter: Told how it goes.

    Raises:
        SetupError: Torch, or weights, are missing, or the GPU failed.
        SettingsError: Settings do not fit the data, or each other.
        RunFolderError: `out` is foreign, of other settings, or cannot be written.
        Interrupted: It was asked to stop; the same call goes on.
    """
    settings.check()
    if importlib.util.find_spec("torch") is None:
        raise SetupError("train-check needs torch: run pip install 'p3mdata[train]'.")
    from p3mnet.traincheck.driver import run

    return TrainCheck(out, run(dataset, out, settings, reporter or Reporter()))
