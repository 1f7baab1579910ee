"""What a train-check came to: content of report.json, as its page, the command line and comparisons read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from p3mdata.typing import Json
from p3mdata.version import __version__
from p3mnet.traincheck.config import Scale, TrainCheckSettings
from p3mnet.traincheck.plan import Schedule
from p3mnet.traincheck.statistics import HOW, LEARNED, Cost, Rule, Spread, State

if TYPE_CHECKING:
    # Its package brings torch.
    from p3mnet.training.result import FinishedTraining

RULES = (
    "pass: every rule passes. fail: a check of the dataset fails, or the whole interval of the cost lies above the "
    "tolerance. inconclusive: all else, such as an interval that holds the tolerance, fewer than two seeds, networks "
    f"that have not learned (mean SAD above {LEARNED:.0%} of that of a constant matte), no originals, or a smoke check."
)


@dataclass(frozen=True)
class ProtocolFigures:
    """A line of table 4.

    Attributes:
        protocol: Trained on : tested on, such as 'B:N'.
        test: Key of the test.
        set: Of the dataset.
        shown: Set and what its pictures show, in words.
        pictures: That are tested.
        metrics: By name; those without a value are absent.
    """

    protocol: str
    test: str
    set: str
    shown: str
    pictures: int
    metrics: Mapping[str, Spread]


@dataclass(frozen=True)
class MethodFigures:
    """A cell of table 8: the network of `domain`, which a method `trained` made, on a test."""

    trained: str
    domain: str
    test: str
    shown: str
    metrics: Mapping[str, Spread]


@dataclass(frozen=True)
class CostFigures:
    """What training on a domain costs against N:N on a test of normal pictures, by metric."""

    domain: str
    test: str
    shown: str
    metrics: Mapping[str, Cost]


@dataclass(frozen=True)
class Training:
    """A training that was asked for, and what came of it; `result` is None before it is done."""

    domain: str
    seed: int
    result: FinishedTraining | None

    @property
    def done(self) -> bool:
        return self.result is not None

    def to_json(self) -> Json:
        row: Json = {"domain": self.domain, "seed": self.seed, "done": self.done}
        if self.result is None:
            return row
        told = asdict(self.result)
        return row | {"left_out": len(told.pop("skipped"))} | told


@dataclass(frozen=True)
class Report:
    """All of it.

    Attributes:
        scale, recipe, device: How, and on what.
        domains: What a training saw of faces by domain, as `Settings.named` says it; None where nobody knows.
        verdict: Of all rules.
        stopped: Why it ended early; None when it is complete.
        rules: What was judged.
        table_4, table_8: Figures of protocols and of methods.
        costs: Of anonymization.
        notes, problems: Sentences about the whole, and about pictures that could not be tested.
        settings: Those of the call.
        layout: Of the dataset.
        schedule: How much was trained and tested; None when a check failed.
        trainings: All that were asked for.
        figures: What the checks before training measured, by name.
    """

    scale: Scale
    recipe: str
    device: str
    domains: Mapping[str, str | None]
    verdict: State
    stopped: str | None
    rules: tuple[Rule, ...]
    table_4: tuple[ProtocolFigures, ...]
    table_8: tuple[MethodFigures, ...]
    costs: tuple[CostFigures, ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...]
    settings: TrainCheckSettings
    layout: str
    schedule: Schedule | None
    trainings: tuple[Training, ...]
    figures: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """What it is worth, in words."""
        return self.scale.words

    @property
    def complete(self) -> bool:
        return self.stopped is None

    def to_json(self) -> Json:
        """Content of report.json."""
        schedule = self.schedule
        return {
            "tool": f"p3mdata {__version__}",
            "kind": self.kind,
            "scale": self.scale.value,
            "domains": dict(self.domains),
            "verdict": self.verdict.value,
            "verdict_rules": RULES,
            "complete": self.complete,
            "stopped": self.stopped,
            "rules": [rule.to_json() for rule in self.rules],
            "table_4": [asdict(row) for row in self.table_4],
            "table_8": [asdict(row) for row in self.table_8],
            "costs": [asdict(row) for row in self.costs],
            "interval": HOW,
            "tolerance": self.settings.tolerance,
            "notes": list(self.notes),
            "problems": list(self.problems),
            "settings": self.settings.to_json(),
            "recipe": self.recipe,
            "device": self.device,
            "layout": self.layout,
            "training_pictures": schedule and schedule.pictures,
            "tested": {name: asdict(tested) for name, tested in schedule.sets().items()} if schedule else {},
            "budget": {
                "steps": schedule and schedule.steps,
                "batch": schedule and schedule.batch,
                "epochs": schedule and schedule.epochs,
                "seconds": schedule and schedule.seconds,
            },
            "trainings": [training.to_json() for training in self.trainings],
            "figures": dict(self.figures),
        }
