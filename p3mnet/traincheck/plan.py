"""What a train-check decided before it trains: content of plan.json, frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from p3mdata.base.jsonl import read_json, write_json
from p3mdata.base.parsing import fault
from p3mdata.errors import RunFolderError
from p3mdata.typing import Json
from p3mdata.version import __version__
from p3mnet.traincheck.config import Scale
from p3mnet.traincheck.statistics import Rule, State

PLAN = "plan.json"


@dataclass(frozen=True)
class TestedSet:
    """How many pictures of a set are tested, and of how many."""

    pictures: int
    of: int


@dataclass(frozen=True)
class Schedule:
    """How much is trained and tested.

    Attributes:
        pictures: Pictures of the training set.
        batch, accumulation: Crops of a step, and the parts in which they go through the network.
        workers: Processes that load crops.
        steps, epochs: Of every training.
        tested: Names of the tested pictures by set.
        of: Pictures by set.
        constant: By set, the mean SAD of the better constant matte of each tested picture.
        training_seconds, testing_seconds: What all of it should take.
        before_seconds: What was done before.
    """

    pictures: int
    batch: int
    accumulation: int
    workers: int
    steps: int
    epochs: float
    tested: Mapping[str, list[str]]
    of: Mapping[str, int]
    constant: Mapping[str, float]
    training_seconds: float
    testing_seconds: float
    before_seconds: float = 0.0

    @property
    def seconds(self) -> dict[str, float]:
        return {"before": self.before_seconds, "training": self.training_seconds, "testing": self.testing_seconds}

    def sets(self) -> dict[str, TestedSet]:
        """What is tested, by set."""
        return {name: TestedSet(len(names), self.of[name]) for name, names in self.tested.items()}

    def to_json(self) -> Json:
        row = asdict(self)
        del row["training_seconds"], row["testing_seconds"], row["before_seconds"]
        return row | {"seconds": self.seconds}


@dataclass(frozen=True)
class CheckPlan:
    """What is fixed for all calls on one folder.

    Attributes:
        settings: Those of the call, as JSON.
        fingerprint: Of the dataset.
        scale, recipe, device: How, and on what.
        rules: What the checks before training came to.
        figures: What they measured, by name, for the report.
        schedule: None when a check failed, so that nothing is trained.
    """

    settings: Mapping[str, Any]
    fingerprint: str
    scale: Scale
    recipe: str
    device: str
    rules: tuple[Rule, ...]
    figures: Mapping[str, Any]
    schedule: Schedule | None = None

    @property
    def failed(self) -> bool:
        return any(rule.state is State.FAIL for rule in self.rules)

    @property
    def tested(self) -> Mapping[str, list[str]]:
        """Names of the tested pictures by set."""
        return {} if self.schedule is None else self.schedule.tested

    def write(self, out: Path) -> None:
        """Write plan.json, with the schedule's values beside the others."""
        row = asdict(self) | {"tool": f"p3mdata {__version__}"}
        del row["schedule"]
        write_json(out / PLAN, row | ({} if self.schedule is None else self.schedule.to_json()))


_PLAN = TypeAdapter(CheckPlan)


def read_plan(out: Path) -> CheckPlan | None:
    """The plan of an earlier call; None when there is none.

    Raises:
        RunFolderError: It is damaged.
    """
    if not (out / PLAN).is_file():
        return None
    row = read_json(out / PLAN)
    try:
        seconds = {f"{part}_seconds": value for part, value in row["seconds"].items()}
        return _PLAN.validate_python(row | {"schedule": row | seconds})
    except (AttributeError, KeyError, ValidationError) as exc:
        raise RunFolderError(f"{out / PLAN}: is damaged ({fault(exc)}). Give --overwrite to begin anew.") from exc
