"""What a benchmark came to: one `MethodResult` per row of the tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path

from p3mdata.errors import EXIT_HELD_BACK, EXIT_OK
from p3mdata.typing import Json
from p3mnet.baselines import Family
from p3mnet.benchmark.timing import Timing
from p3mnet.evaluate import ImageRow, SetResult


class State(str, Enum):
    """How a method ended."""

    DONE = "done"
    INCOMPLETE = "incomplete"
    UNTRAINED = "untrained"
    CANNOT_RUN = "cannot run"
    FAILED = "failed"
    NOT_REACHED = "not reached"


@dataclass(frozen=True)
class MethodResult:
    """One method.

    Attributes:
        label: As it was asked for.
        title, family: In the tables.
        state: How it ended.
        sentence: Why, unless it is done.
        parameters: Trained values, or None.
        timing: Seconds per 512x512 picture, or None.
        sets: Figures by set.
        rows: Figures by picture.
        seconds: Mean seconds per picture of the dataset, where alphas were made by this call or an earlier one.
        trace: File with the trace of its failure.
    """

    label: str
    title: str
    family: Family
    state: State
    sentence: str = ""
    parameters: int | None = None
    timing: Timing | None = None
    sets: Mapping[str, SetResult] = field(default_factory=dict)
    rows: tuple[ImageRow, ...] = ()
    seconds: float | None = None
    trace: Path | None = None

    def to_json(self) -> Json:
        return {
            "method": self.label,
            "title": self.title,
            "family": self.family.value,
            "state": self.state.value,
            "sentence": self.sentence,
            "parameters": self.parameters,
            "timing": self.timing.to_json() if self.timing else None,
            "seconds_per_picture": self.seconds,
            "sets": {name: found.to_json() for name, found in self.sets.items()},
            "trace": str(self.trace) if self.trace else None,
        }


@dataclass(frozen=True)
class Looked:
    """What figures depend on besides dataset and methods; see `p3mnet.benchmark.run.BenchmarkPlan`."""

    limit: int
    max_side: int
    mode: str
    corrected: bool


@dataclass(frozen=True)
class Benchmark:
    """All of it.

    Attributes:
        dataset: Folder of the dataset.
        version: Of the dataset, where it says one.
        out: Folder of the benchmark.
        sets: Images by set.
        notes: What a reader should know.
        results: Methods in the order in which they were asked for.
        settings: How it was done.
    """

    dataset: Path
    version: str | None
    out: Path
    sets: Mapping[str, int]
    notes: tuple[str, ...]
    results: tuple[MethodResult, ...]
    settings: Looked

    @property
    def exit_code(self) -> int:
        """0, or 3 when a method could not run, failed, or lacks pictures."""
        fine = {State.DONE, State.UNTRAINED}
        return EXIT_OK if all(result.state in fine for result in self.results) else EXIT_HELD_BACK

    def to_json(self) -> Json:
        return {
            "dataset": str(self.dataset),
            "version": self.version,
            "out": str(self.out),
            "sets": dict(self.sets),
            "notes": list(self.notes),
            "settings": asdict(self.settings),
            "methods": [result.to_json() for result in self.results],
        }
