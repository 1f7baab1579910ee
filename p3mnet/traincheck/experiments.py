"""Trainings, predictions and scores of a train-check: each is done once, and what is there is not done again.

    plan.json                                what is done, decided once
    runs/DOMAIN-SEED/                        folder of a training, see `p3mnet.training`
    predictions/DOMAIN-SEED/TEST/SET/*.png   alphas
    scores/DOMAIN-SEED/TEST.csv              table of `p3mnet evaluate`

No image is written, of whatever kind.
"""

from __future__ import annotations

import csv
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from p3mdata.base.files import write_atomic
from p3mdata.base.progress import Counted
from p3mdata.dataset.folder import Dataset
from p3mdata.errors import Interrupted, SettingsError
from p3mdata.imaging import encode_grey
from p3mnet.checkpoint import load_checkpoint
from p3mnet.devices import gpu_guarded, pick_device
from p3mnet.evaluate import COLUMNS, evaluate
from p3mnet.graphs import replaying
from p3mnet.image_files import BadFile, read_colours
from p3mnet.memory import MEMORY_ERRORS, out_of_memory
from p3mnet.model import MattingNetwork, folded
from p3mnet.originals import Images
from p3mnet.predict import predict_alpha, to_8_bit
from p3mnet.traincheck.budget import between_looks, used_up
from p3mnet.traincheck.checks import helpers_of_tests
from p3mnet.traincheck.config import Recipe, TrainCheckSettings
from p3mnet.traincheck.protocols import NORMAL, Design, Test, trainings
from p3mnet.training import TrainConfig, Watch, make_config, train
from p3mnet.training.result import RESULT, FinishedTraining, read_result
from p3mnet.training.state import EPOCHS, LAST, STEPS
from p3mnet.training.stopping import Stop

RUNS, PREDICTIONS, SCORES = "runs", "predictions", "scores"
# Held out of the training set for the curve, at most.
HELD_OUT, _HELD_SHARE = 12, 0.05
_CHECKPOINTS = 10
# Fewer predictions than this are not worth the start of other processes.
_WORTH_WORKERS, _WORTH_ON_A_GPU = 64, 8
# What to do when the GPU has failed.
_LOST = (
    "What is finished is kept and in the report: when the GPU is back, run the same command again to go on from the "
    "last checkpoint, or with --device cpu."
)
# Fewer give no interval.
_LEAST_SEEDS = 2
Scores = dict[str, dict[str, float]]


def held_out(pictures: int) -> float:
    """Share of the training set that is held out."""
    return min(_HELD_SHARE, HELD_OUT / max(pictures, 1))


def batches_of(pictures: int, batch: int, smallest_group: int = 1) -> tuple[int, int]:
    """Crops of a step, and steps of an epoch, over a training set of some pictures.

    Groups of near-duplicates are held out whole, one at least: the smallest where none fits into the share.

    Raises:
        SettingsError: There are too few.
    """
    left = pictures - max(1, round(held_out(pictures) * pictures), smallest_group)
    if left < 1:
        raise SettingsError(
            f"The training set has {pictures} picture: too few, since one is held out for the curve. Add pictures."
        )
    size = min(batch, left)
    return size, left // size


@dataclass(frozen=True)
class Work:
    """Everything that trainings and tests need to know.

    Attributes:
        out: The train-check's folder.
        dataset: What is checked.
        design: What is trained and tested.
        recipe, settings: How.
        pictures: Pictures of the training set.
        steps: Of every training.
        batch, accumulation: Crops of a step, and the parts in which they go through the network.
        tested: Tested pictures by set: the dataset's own image by name.
        shown: Images by domain, for the training set, and by key of the test; None is the dataset's own.
        watch: Told how a training goes.
        say: Takes a message.
        counted: See `p3mdata.console.counted`.
    """

    out: Path
    dataset: Dataset
    design: Design
    recipe: Recipe
    settings: TrainCheckSettings
    pictures: int
    steps: int
    batch: int
    accumulation: int
    tested: Mapping[str, Mapping[str, Path]]
    shown: Mapping[str, Images | None]
    watch: Callable[[], Watch]
    say: Callable[[str], None]
    counted: Counted

    def config(self, domain: str, seed: int) -> TrainConfig:
        """Settings of a training; equal for all domains but for what is pasted, which is nothing on photographs."""
        per_epoch = batches_of(self.pictures, self.batch)[1]
        epochs = math.ceil(self.steps / per_epoch)
        settings = self.settings
        paste = settings.copy_paste if domain != NORMAL else "none"
        # The authors paste features from epoch 50 of 150.
        pasted = {"mode": paste} | ({"start_epoch": epochs // 3} if paste == "fcp" else {})
        return make_config(
            {
                "dataset": str(self.dataset.root.resolve()),
                "model": self.recipe.model,
                "data": self.recipe.data,
                "copy_paste": pasted,
                "sources": str(settings.faces.resolve()) if settings.faces is not None and paste != "none" else None,
                "validation": {
                    "share": held_out(self.pictures), "every": between_looks(epochs), "mode": self.recipe.mode,
                    "max_side": self.recipe.max_side,
                },
                **self.recipe.training,
                "learning_rate": self.recipe.learning_rate,
                "batch": self.batch // self.accumulation,
                "accumulation": self.accumulation,
                "epochs": epochs,
                "steps": self.steps,
                "seed": seed,
                "device": settings.device,
                "workers": settings.workers,
                "checkpoint_every": max(1, self.steps // _CHECKPOINTS),
                # A sheet of samples would be a copy of photographs.
                "samples": 0,
            },
            "train-check",
        )  # fmt: skip


def run_all(work: Work, stop: Stop, budget: float | None, planned: Mapping[str, float]) -> int:
    """Whatever is not done yet, seed by seed.

    Args:
        work: What to do.
        stop: Whether to stop.
        budget: Seconds for everything; where the machine has become so slow that this is far exceeded, seeds after the
            second are left out. None does all.
        planned: Seconds that trainings and tests were to take.

    Returns:
        Seeds that are done.

    Raises:
        Interrupted: It was asked to stop.
        GpuLost: The GPU failed.
        P3MError: As training and evaluation say.
    """
    todo = list(trainings(work.design.domains, work.settings.seeds))
    for number, (domain, seed) in enumerate(todo, 1):
        name = f"{domain}-{seed}"
        if budget is not None and seed >= _LEAST_SEEDS and domain == todo[0][0]:
            done = [training_result(work.out, *one) for one in todo[: number - 1]]
            seconds = [one.seconds for one in done if one is not None]
            share = planned["training"] * len(seconds) / len(todo)
            if used_up(budget, planned["training"] + planned["testing"], seconds, share):
                return seed
        with gpu_guarded(_LOST):
            if not (work.out / RUNS / name / RESULT).is_file():
                work.say(f"training {number} of {len(todo)}: {domain}, seed {seed}, {work.steps} steps")
                train(
                    work.config(domain, seed), work.out / RUNS / name, watch=work.watch(), images=work.shown[domain]
                )  # fmt: skip
            _test(work, name, [test for trained, test in work.design.pairs if trained == domain], stop)
    return work.settings.seeds


def _test(work: Work, name: str, tests: list[Test], stop: Stop) -> None:
    """Predictions and scores of one network."""
    left = [test for test in tests if not _scores_file(work.out, name, test).is_file()]
    if not left:
        return
    device = pick_device(work.settings.device)
    model, helpers = load_checkpoint(work.out / RUNS / name / LAST).model.to(device), helpers_of_tests(device)
    if helpers:
        model = replaying(folded(model))
    for test in left:
        names = work.tested[test.set]
        folder = work.out / PREDICTIONS / name / test.key
        work.say(f"testing {name} on {test.title}: {len(names)} pictures")
        with work.counted() as start:
            step = start(len(names))
            _predict_all(work, model, test, folder / test.set, stop, helpers, step)
        workers = work.settings.workers if len(names) >= (_WORTH_ON_A_GPU if helpers else _WORTH_WORKERS) else 1
        evaluate(folder, work.dataset.root, _scores_file(work.out, name, test), [test.set], workers)
        if stop.asked:
            raise Interrupted("Stopped while testing; the same command goes on from there.")


def _predict_all(
    work: Work, model: MattingNetwork, test: Test, folder: Path, stop: Stop, helpers: int, step: Callable[[], None]
) -> None:
    """Alphas of a test's pictures that are not there yet; helpers read ahead of the network and write behind it."""
    names, images = work.tested[test.set], work.shown[test.key]

    def read(stem: str) -> NDArray[np.uint8] | BadFile | None:
        if (folder / f"{stem}.png").is_file():
            return None
        try:
            return read_colours(names[stem]) if images is None else images(stem)
        except BadFile as error:
            return error

    def write(stem: str, alpha: NDArray[np.float32]) -> None:
        write_atomic(folder / f"{stem}.png", encode_grey(to_8_bit(alpha)))

    def look(stem: str, found: NDArray[np.uint8] | BadFile | None) -> NDArray[np.float32] | None:
        if stop.asked:
            raise Interrupted("Stopped while testing; the same command goes on from there.")
        step()
        if isinstance(found, BadFile):
            # It has no alpha, and is named by its score.
            work.say(f"left out: {found}")
            return None
        return None if found is None else _predict(work, model, stem, found)

    if not helpers:
        for stem in names:
            if (alpha := look(stem, read(stem))) is not None:
                write(stem, alpha)
        return
    _beside_each_other(names, read, look, write, helpers)


Found = TypeVar("Found")
Made = TypeVar("Made")


def _beside_each_other(
    names: Iterable[str],
    read: Callable[[str], Found],
    look: Callable[[str, Found], Made | None],
    write: Callable[[str, Made], None],
    helpers: int,
) -> None:
    """Read each name, look at it in this thread in their order, and write what is not None; helpers do the rest."""
    with ThreadPoolExecutor(helpers) as pool:
        left = iter(names)
        reading = deque((stem, pool.submit(read, stem)) for stem in itertools.islice(left, 2 * helpers))
        writing: deque[Future[None]] = deque()
        while reading:
            stem, coming = reading.popleft()
            reading.extend((following, pool.submit(read, following)) for following in itertools.islice(left, 1))
            if (made := look(stem, coming.result())) is not None:
                writing.append(pool.submit(write, stem, made))
            while len(writing) > 2 * helpers:
                writing.popleft().result()
        for written in writing:
            written.result()


def _predict(work: Work, model: MattingNetwork, stem: str, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Alpha of a picture."""
    try:
        return predict_alpha(model, rgb, work.recipe.mode, work.recipe.max_side)
    except MEMORY_ERRORS as error:
        if not out_of_memory(error):
            raise
        raise SettingsError(f"{stem}: memory does not suffice to test it. Use a machine with more.") from error


def _scores_file(out: Path, name: str, test: Test) -> Path:
    return out / SCORES / name / f"{test.key}.csv"


def read_scores(out: Path, domain: str, seed: int, test: Test) -> Scores | None:
    """Values by picture and metric of a network on a test; None if it was not tested."""
    path = _scores_file(out, f"{domain}-{seed}", test)
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as source:
        return {
            row["image"]: {column: float(row[column]) for column in COLUMNS if row[column]}
            for row in csv.DictReader(source)
            if not row["problem"]
        }


def read_curve(out: Path, domain: str, seed: int) -> dict[str, list[tuple[float, float]]]:
    """Loss by step, and SAD of the pictures held out, of a training; empty lists before it began."""
    folder = out / RUNS / f"{domain}-{seed}"
    found: dict[str, list[tuple[float, float]]] = {}
    for name, file, column in (("loss", STEPS, "total"), ("held out", EPOCHS, "SAD")):
        found[name] = []
        if (folder / file).is_file():
            with (folder / file).open(newline="") as source:
                # A line that a crash cut off lacks the column.
                found[name] = [
                    (float(row["step"]), float(row[column])) for row in csv.DictReader(source) if row.get(column)
                ]
    return found


def prediction_file(out: Path, domain: str, seed: int, test: Test, stem: str) -> Path:
    """Alpha of a picture."""
    return out / PREDICTIONS / f"{domain}-{seed}" / test.key / test.set / f"{stem}.png"


def training_result(out: Path, domain: str, seed: int) -> FinishedTraining | None:
    """What a training came to; None before it is done."""
    return read_result(out / RUNS / f"{domain}-{seed}")
