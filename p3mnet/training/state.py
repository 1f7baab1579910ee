"""The folder of a training run: what is where, where the run stands, and what may go on in it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

from p3mdata.base.files import holds_nothing, sha256, write_atomic
from p3mdata.base.jsonl import read_json, write_json
from p3mdata.base.parsing import read_yaml
from p3mdata.errors import MAKE_ROOM, RunFolderError, SetupError, unwritable
from p3mnet.checkpoint import checkpoint_of, load_checkpoint, write_checkpoint
from p3mnet.model import MattingNetwork
from p3mnet.training.config import TrainConfig, changed_keys
from p3mnet.training.result import RESULT, TrainingRecord

CONFIG, FILES = "config.yaml", "files.json"
# File names in a sentence.
_NAMED = 5
STEPS, EPOCHS = "log.csv", "epochs.csv"
LAST, BEST = "checkpoints/last.pt", "checkpoints/best.pt"
SAMPLES, TENSORBOARD = "samples", "tensorboard"


@dataclass
class Position:
    """Where a run stands. All randomness follows from it and the seed, so that no generator's state is kept.

    Attributes:
        step: Optimiser steps that are done.
        epoch: Number of the epoch, from 0.
        batch: Batches of each process that are done in this epoch.
        seconds: Time spent in training and validation so far.
        best: Lowest mean of the selection's metric so far.
        best_epoch: The epoch it is of.
        losses: Parts of the loss of the last step.
        skipped: Sentences about pictures that could not be used.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_epoch: int | None = None
    losses: dict[str, float] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


class Standing(NamedTuple):
    """A run between two calls: its network, the optimiser's state (None before the first step), and how far it is."""

    model: MattingNetwork
    optimizer: dict[str, Any] | None
    position: Position


@dataclass(frozen=True)
class RunIdentity:
    """What a run must find as it was to go on; part of last.pt.

    Attributes:
        seed: Of the settings.
        processes: That train together.
        pictures: In the training set.
        fingerprint: Of the names of all pictures, see `digest_of`.
        images: What stands in for the training set's images, as `str` gives it.
        colours: Where the foreground's colours come from, see `p3mnet.data.TrainingSet`.
    """

    seed: int
    processes: int
    pictures: int
    fingerprint: str
    images: str | None
    colours: str


class Table:
    """A CSV file that grows by a row at a time; after an interruption, rows past the checkpoint are taken back."""

    def __init__(self, path: Path, keep: int, key: str) -> None:
        self.path = path
        rows = []
        with suppress(FileNotFoundError), path.open(newline="") as source:
            # A line that a crash cut off lacks columns, or is past the checkpoint anyway.
            rows = [row for row in csv.DictReader(source) if (row[key] or "").isdigit() and int(row[key]) < keep]
        self.columns = list(rows[0]) if rows else None
        if path.exists():
            write_atomic(path, self._lines(rows, header=bool(rows)).encode())

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row; the first one says which columns there are."""
        header = self.columns is None
        self.columns = self.columns or list(row)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", newline="") as sink:
            sink.write(self._lines([row], header))

    def _lines(self, rows: list[Any], header: bool) -> str:
        sink = io.StringIO()
        writer = csv.DictWriter(sink, self.columns or [], extrasaction="ignore", lineterminator="\n")
        if header:
            writer.writeheader()
        writer.writerows(rows)
        return sink.getvalue()


class RunFolder:
    """The output folder of `train`.

    config.yaml, files.json (fingerprints of what it reads), log.csv (a row a step), epochs.csv (a row a validation),
    checkpoints/last.pt and best.pt, samples/epoch-NNN.png, tensorboard/ where it is installed, and at the end
    result.json.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[None] | None = None

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def check(self, config: TrainConfig, resume: bool) -> bool:
        """Whether there is a run to go on with.

        Raises:
            RunFolderError: The folder is of something else, of a finished run, or of one with other settings.
        """
        if not (self / CONFIG).is_file():
            if self.path.exists() and (not self.path.is_dir() or not holds_nothing(self.path)):
                raise RunFolderError(f"{self.path}: is not empty and holds no training run. Give a new folder.")
            return False
        begun = (self / LAST).is_file()
        # Before the first checkpoint there is nothing that other settings could spoil.
        if begun and (changed := changed_keys(config, read_yaml(self / CONFIG))):
            raise RunFolderError(
                f"{self.path}: holds a run with other settings ({', '.join(changed)}). Give a new folder, or the "
                "settings of its config.yaml."
            )
        if (self / RESULT).is_file():
            raise RunFolderError(f"{self.path}: holds a finished run. Give a new folder.")
        if not resume:
            raise RunFolderError(f"{self.path}: holds an unfinished run. Resume it, or give a new folder.")
        return begun

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turns a full disk into a sentence.

        Raises:
            RunFolderError: What was to be written could not; what was there before is whole.
        """
        try:
            yield
        except (OSError, RuntimeError) as error:
            # The writer of PyTorch hides the system's reason behind its own error.
            reason: BaseException | None = error
            while reason is not None and not isinstance(reason, OSError):
                reason = reason.__context__
            told = reason.strerror or str(reason) if isinstance(reason, OSError) else str(error).splitlines()[0]
            raise unwritable(self.path, told, f"What was written before is whole. {MAKE_ROOM}") from error

    def begin(self, config: TrainConfig, files: Mapping[str, str]) -> None:
        """Write the settings of a new run, and the fingerprints by path of the files that it reads."""
        text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
        with self.writing():
            # First what makes the folder one of a run: with anything else alone in it, it would be taken for no run.
            write_atomic(self / CONFIG, text.encode())
            write_json(self / FILES, dict(files))

    def compare(self, files: Mapping[str, str]) -> None:
        """Whether the files are those that the run began with.

        Raises:
            RunFolderError: Some have another content, were not read then, or are gone; they are named.
        """
        if not (self / FILES).is_file():
            return
        earlier = read_json(self / FILES)
        # Sets of other pictures are told by their number and names, see `load`.
        changed = sorted(path for path in files.keys() | earlier.keys() if earlier.get(path) != files.get(path))
        if changed:
            more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
            raise RunFolderError(
                f"{self.path}: files have changed since the run began: {', '.join(changed[:_NAMED])}{more}. A run must "
                "not learn from two states of a dataset: bring them back, or give a new folder."
            )

    def save(
        self, model: MattingNetwork, optimizer: torch.optim.Optimizer, position: Position, identity: RunIdentity
    ) -> None:
        """Write last.pt, all that it takes to go on, beside the next steps; see `written`."""
        self._begin(
            LAST,
            checkpoint_of(model, optimizer=optimizer.state_dict(), position=asdict(position), about=asdict(identity)),
        )

    def save_best(self, model: MattingNetwork, **extra: Any) -> None:
        """Write best.pt beside the next steps; see `written`."""
        self._begin(BEST, checkpoint_of(model, **extra))

    def _begin(self, name: str, content: dict[str, Any]) -> None:
        """Copy what is to be written, for the next step changes it, and write it in a thread when the last one is."""
        self.written()
        self._writing = self._writer.submit(write_checkpoint, self / name, _on_cpu(content))

    def written(self) -> None:
        """Wait until the checkpoints are written.

        Raises:
            RunFolderError: One could not be.
        """
        with self.writing():
            writing, self._writing = self._writing, None
            if writing is not None:
                writing.result()

    def load(self, config: TrainConfig, identity: RunIdentity) -> Standing:
        """Network, optimiser's state and position of last.pt.

        Raises:
            SetupError: The file is damaged, of another network, or of another run.
        """
        path = self / LAST
        checkpoint = load_checkpoint(path)
        found = checkpoint.model.config.name
        if found != config.model.name:
            raise SetupError(f"{path} holds a {found}, but this run trains a {config.model.name}.")
        try:
            extra = checkpoint.extra
            earlier, position, optimizer = extra["about"], Position(**extra["position"]), extra["optimizer"]
        except (KeyError, TypeError) as error:
            raise SetupError(f"{path} was not written by a training run that can go on.") from error
        about = asdict(identity)
        if changed := sorted(key for key in about.keys() | earlier.keys() if about.get(key) != earlier.get(key)):
            told = ", ".join(
                f"{key.replace('_', ' ')} {earlier.get(key)} then, {about.get(key)} now" for key in changed
            )
            raise RunFolderError(f"{self.path}: the run cannot go on as it began ({told}).")
        return Standing(checkpoint.model, optimizer, position)

    def finish(self, record: TrainingRecord) -> None:
        """Write result.json."""
        with self.writing():
            write_json(self / RESULT, record.to_json())


def _on_cpu(content: Any) -> Any:
    """Nested dicts and lists with copies of their tensors on the CPU."""
    if isinstance(content, torch.Tensor):
        return content.detach().to("cpu", copy=True)
    if isinstance(content, dict):
        return {name: _on_cpu(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return type(content)(_on_cpu(value) for value in content)
    return content


def digest_of(names: list[str]) -> str:
    """Short fingerprint of the pictures that a run trains on."""
    return sha256("\n".join(names).encode("utf-8", "surrogateescape"))[:16]
