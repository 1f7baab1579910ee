"""result.json of a training run: written when it is done, read by whoever trains several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from p3mdata.base.jsonl import read_json
from p3mdata.base.parsing import fault
from p3mdata.errors import RunFolderError
from p3mdata.typing import Json

RESULT = "result.json"


@dataclass(frozen=True)
class FinishedTraining:
    """What others ask about a finished run; every version has written it.

    Attributes:
        steps: Optimiser steps.
        seconds: Of training and validation.
        images_per_second: Crops per second of training, over all processes.
        device, precision: What it ran on, and how exactly.
        skipped: Sentences about pictures that could not be used.
    """

    steps: int
    seconds: float
    images_per_second: float
    device: str
    precision: str
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class BestEpoch:
    """Checkpoint of the epoch with the lowest mean of a metric."""

    checkpoint: str
    epoch: int
    metric: str
    value: float

    def to_json(self) -> Json:
        return {"checkpoint": self.checkpoint, "epoch": self.epoch, self.metric: self.value}


@dataclass(frozen=True)
class TrainingRecord(FinishedTraining):
    """All of result.json.

    Attributes:
        model, seed, epochs: Of the settings.
        crops_per_step: Over all processes.
        best: The best epoch.
        validation_pictures: Names of the pictures that said which one that is.
        losses: Parts of the loss of the last step.
        terms: Parts that counted; `left_out` says why others did not.
        colours: Where the foreground's colours came from, see `p3mnet.data.TrainingSet`.
        steady_images_per_second: Of this call's steps after the first ten; None where these are not as many again.
        processes: That trained together.
        deterministic, compiled, workers: How it ran.
        waited: Shares of the steps' time by what they waited for.
        bottleneck: The same in a sentence, with what to change.
        torch: Version.
    """

    model: str
    seed: int
    epochs: int
    crops_per_step: int
    best: BestEpoch
    validation_pictures: tuple[str, ...]
    losses: Mapping[str, float]
    terms: tuple[str, ...]
    left_out: Mapping[str, str]
    colours: str
    steady_images_per_second: float | None
    processes: int
    deterministic: bool
    compiled: bool
    workers: int
    waited: Mapping[str, float]
    bottleneck: str
    torch: str

    def to_json(self) -> Json:
        return asdict(self) | {"best": self.best.to_json()}


_FINISHED = TypeAdapter(FinishedTraining)


def read_result(folder: Path) -> FinishedTraining | None:
    """What a training run came to; None before it is done.

    Args:
        folder: Of `p3mnet.training.train`.

    Raises:
        RunFolderError: result.json is damaged.
    """
    path = folder / RESULT
    if not path.is_file():
        return None
    try:
        return _FINISHED.validate_python(read_json(path))
    except ValidationError as exc:
        raise RunFolderError(f"{path}: is damaged ({fault(exc)}). Give --overwrite to begin anew.") from exc
