"""`p3mnet evaluate`: metrics of a folder of predictions against the mattes of a dataset, with intervals.

An image counts when its truth, its prediction and, in sets that have trimaps, its trimap can be used. Every other one
is named with its reason and enters no mean. Images without a transition pixel count, except in the means of SAD_T,
MSE_T and MAD_T; their number is given.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.base.files import alone
from p3mdata.base.pool import CRASH_SENTENCE, Handler, Mark, work_in_pool
from p3mdata.base.processes import default_workers
from p3mdata.base.progress import Progress, silent
from p3mdata.base.tables import csv_line
from p3mdata.dataset.folder import Dataset, DatasetItem, open_dataset
from p3mdata.errors import OTHER_PLACE, BrokenInput, Interrupted, SettingsError, unwritable
from p3mdata.imaging import SUFFIXES, decode, decode_matte
from p3mdata.imaging.listing import list_files, regular_file
from p3mdata.imaging.trimap import trimap_of
from p3mdata.typing import Json
from p3mnet import metrics

# SAD inside the facemask, in sets that have facemasks.
FACE = "SAD_FACE"
COLUMNS = (*metrics.NAMES, FACE)
TRANSITION = ("SAD_T", "MSE_T", "MAD_T")
_RESAMPLED = 2000
_INTERVAL = (0.025, 0.975)


class Task(NamedTuple):
    """One image to evaluate and its files; None where the set has no such files."""

    set: str
    stem: str
    pred: Path
    alpha: Path
    trimap: Path | None
    facemask: Path | None


@dataclass(frozen=True)
class ImageRow:
    """One line of the table: values by column without those that an image has not, or why there are none."""

    set: str
    stem: str
    values: dict[str, float]
    problem: str = ""


@dataclass(frozen=True)
class Mean:
    """Mean over `n` images with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class SetResult:
    """Figures of one set.

    Attributes:
        name: The set.
        evaluated: Images that count.
        without_transition: Of these, images without a transition pixel; they are left out of the means of `TRANSITION`.
        means: By column; one that no image has a value for is left out.
        problems: Images that could not be evaluated, and why.
    """

    name: str
    evaluated: int
    without_transition: int
    means: dict[str, Mean]
    problems: dict[str, str]

    def to_json(self) -> Json:
        row = asdict(self)
        del row["name"]
        return row


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found, set by set; `unused` counts predictions that belong to no image of these sets."""

    sets: tuple[SetResult, ...]
    unused: int

    @property
    def complete(self) -> bool:
        """Whether every image was evaluated."""
        return not any(found.problems for found in self.sets)

    def to_json(self) -> Json:
        return {"sets": {found.name: found.to_json() for found in self.sets}, "unused": self.unused}


def evaluate(
    pred_dir: Path,
    dataset: Path,
    out: Path | None = None,
    sets: Sequence[str] | None = None,
    workers: int = 0,
    progress: Progress | None = None,
    corrected: bool = False,
) -> Evaluation:
    """Evaluate predictions; they belong to images of the same name without ending.

    Args:
        pred_dir: Folder of predictions. Those of a set are in a folder of its name in there, else in it directly.
        dataset: A dataset of a layout that p3mdata knows.
        out: Table to write (CSV), a line per image in the order of sets and names; the same for any number of workers.
        sets: Names of the sets; None takes those that have a prediction.
        workers: Processes; 0 takes one per core.
        progress: Gets the number of images; gives a function to call after each.
        corrected: Follow the definitions where the reference does not (see `p3mnet.metrics`).

    Raises:
        SettingsError: A folder, set or file cannot be used, or no prediction belongs to an image.
        SetupError: A worker died.
    """
    if not pred_dir.is_dir():
        raise SettingsError(f"{pred_dir}: is no folder. Give the folder of the predictions.")
    if out is not None and out.is_dir():
        raise SettingsError(f"{out}: is a folder. Give the name of a CSV file.")
    opened = open_dataset(dataset)
    chosen, unused = _choose(pred_dir, opened, sets)
    tasks = [task for name, predictions in chosen.items() for task in _tasks(opened, name, predictions)]
    step = (progress or silent)(len(tasks))
    rows: dict[str, list[ImageRow]] = {name: [] for name in chosen}
    try:
        with alone(out) if out else nullcontext() as sink:
            _write(sink, ["set", "image", *COLUMNS, "problem"])
            for row in _rows(tasks, workers or default_workers(), corrected):
                values = [f"{row.values[name]:.9g}" if name in row.values else "" for name in COLUMNS]
                _write(sink, [row.set, row.stem, *values, row.problem])
                rows[row.set].append(row)
                step()
    except OSError as exc:
        if out is None:
            raise
        raise unwritable(out, exc, OTHER_PLACE, SettingsError) from exc
    return Evaluation(tuple(summary_of(name, found) for name, found in rows.items()), unused)


def _choose(
    pred_dir: Path, dataset: Dataset, wanted: Sequence[str] | None
) -> tuple[dict[str, dict[str, list[Path]]], int]:
    """Predictions by set and name, and how many belong to none of these sets."""
    there = sets_among(dataset, wanted)
    shared = predictions_of(pred_dir)
    chosen: dict[str, dict[str, list[Path]]] = {}
    used: set[Path] = set()
    for name in (name for name in there if name in wanted) if wanted else there:
        own = pred_dir / name
        predictions = predictions_of(own) if own.is_dir() else shared
        mine = {path for stem in dataset.items(name) for path in predictions.get(stem, ())}
        if twice := sorted(used & mine):
            raise SettingsError(f"{twice[0]}: belongs to images of two sets. Put predictions in folders named by set.")
        used |= mine
        if mine or wanted:
            chosen[name] = predictions
    if not used:
        raise SettingsError(f"{pred_dir}: has no prediction with the name of an image of {dataset.root}.")
    every = {path for found in (shared, *chosen.values()) for paths in found.values() for path in paths}
    return chosen, len(every - used)


def sets_among(dataset: Dataset, wanted: Sequence[str] | None) -> list[str]:
    """Names of a dataset's sets.

    Raises:
        SettingsError: A wanted one is not among them.
    """
    there = list(dataset.sets())
    if unknown := sorted(set(wanted or ()) - set(there)):
        raise SettingsError(f"{dataset.root}: has no set '{unknown[0]}'. Sets: {', '.join(there)}.")
    return there


def has_trimaps(dataset: Dataset, name: str) -> bool:
    """Whether a set has trimaps of its own, so that a picture without one is incomplete."""
    return "trimap" in dataset.layout.sets[name].folders and dataset.folder(name, "trimap").is_dir()


def predictions_of(folder: Path) -> dict[str, list[Path]]:
    """Pictures below a folder by their names without ending."""
    found: dict[str, list[Path]] = {}
    for path in sorted(list_files(folder, recursive=True)):
        if path.suffix.lower() in SUFFIXES:
            found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), []).append(path)
    return found


def _tasks(dataset: Dataset, name: str, predictions: dict[str, list[Path]]) -> Iterator[Task | ImageRow]:
    """What is to be done for each image of a set, in order; a row where nothing can be done."""
    trimaps = has_trimaps(dataset, name)
    for stem, item in dataset.items(name).items():
        found = predictions.get(stem, [])
        alpha, trimap, facemask = (_file(dataset, item, kind) for kind in ("alpha", "trimap", "facemask"))
        if len(found) != 1:
            names = ", ".join(path.name for path in found)
            yield ImageRow(name, stem, {}, f"has several predictions ({names})" if found else "has no prediction")
        elif alpha is None or (trimaps and trimap is None):
            yield ImageRow(name, stem, {}, f"has no {'alpha' if alpha is None else 'trimap'} in the dataset")
        else:
            yield Task(name, stem, found[0], alpha, trimap if trimaps else None, facemask)


def _file(dataset: Dataset, item: DatasetItem, kind: str) -> Path | None:
    path = item.path(kind)
    return None if path is None else dataset.root / path


def _rows(tasks: Sequence[Task | ImageRow], workers: int, corrected: bool) -> Iterator[ImageRow]:
    """A row for each task, in their order; no more images are read ahead than workers need."""
    todo = sum(isinstance(task, Task) for task in tasks)
    if min(workers, todo) <= 1:
        yield from (task if isinstance(task, ImageRow) else evaluate_one(task, corrected) for task in tasks)
        return
    work_left = (task for task in tasks if isinstance(task, Task))
    with contextlib.closing(work_in_pool(partial(_working, corrected), work_left, min(workers, todo))) as found:
        for task in tasks:
            yield task if isinstance(task, ImageRow) else next(found)


@contextlib.contextmanager
def _working(corrected: bool, mark: Mark) -> Iterator[Handler[Task, ImageRow]]:
    # The workers supply the parallelism.
    cv2.setNumThreads(1)

    def handle(task: Task, crashing: frozenset[str]) -> ImageRow:
        name = f"{task.set}/{task.stem}"
        if name in crashing:
            return ImageRow(task.set, task.stem, {}, fact_of(CRASH_SENTENCE))
        if not mark(name):
            raise Interrupted("stopped")
        return evaluate_one(task, corrected)

    yield handle


def evaluate_one(task: Task, corrected: bool) -> ImageRow:
    """All figures of one image, or why there are none."""
    try:
        values = _measure(task, corrected)
    except BrokenInput as exc:
        return ImageRow(task.set, task.stem, {}, fact_of(exc.sentence))
    except OSError as exc:
        return ImageRow(task.set, task.stem, {}, f"has a file that cannot be read ({exc.strerror or exc})")
    except (TypeError, ValueError) as exc:
        return ImageRow(task.set, task.stem, {}, f"cannot be evaluated: {fact_of(str(exc))}")
    return ImageRow(task.set, task.stem, {name: value for name, value in values.items() if value is not None})


def fact_of(sentence: str) -> str:
    """What is wrong, without the advice that follows: it is for other commands."""
    return sentence.split(". ", maxsplit=1)[0].rstrip(".")


def _measure(task: Task, corrected: bool) -> dict[str, float | None]:
    data = _read(task.alpha)
    try:
        picture = decode(data)
    except BrokenInput as exc:
        raise BrokenInput(exc.code, f"has an alpha that {exc.sentence}") from exc
    plain = picture.pixels.ndim == 2 and picture.opacity is None
    alpha = picture.pixels if plain else decode_matte(data, picture, "alpha")
    pred = decode_matte(_read(task.pred), picture, "prediction")
    largest, top = int(pred.max(initial=0)), int(np.iinfo(pred.dtype).max)
    if 0 < largest <= top // 255 and int(alpha.max(initial=0)) > np.iinfo(alpha.dtype).max // 255:
        # 0 to 1 in 8 bits, or 0 to 255 in 16: its figures would be those of an empty one.
        raise BrokenInput("prediction_range", f"has a prediction whose largest value is {largest} of {top}.")
    trimap = None if task.trimap is None else decode_matte(_read(task.trimap), picture, "trimap")
    facemask = None if task.facemask is None else decode_matte(_read(task.facemask), picture, "facemask")
    if trimap is None and facemask is not None:
        trimap = trimap_of(alpha, facemask=facemask)
    found = metrics.evaluate_pair(pred, alpha, trimap, corrected)
    if facemask is not None:
        found[FACE] = metrics.sad_inside(pred, alpha, facemask)
    return found


def _read(path: Path) -> bytes:
    return regular_file(path).read_bytes()


def _write(sink: BinaryIO | None, cells: Sequence[str]) -> None:
    if sink is not None:
        sink.write(csv_line(cells).encode("utf-8", "surrogateescape"))


def summary_of(name: str, rows: Sequence[ImageRow]) -> SetResult:
    """Figures of a set from the rows of its images."""
    counted = [row for row in rows if not row.problem]
    means = means_of(np.array([_for_means(row) for row in counted])) if counted else []
    return SetResult(
        name,
        len(counted),
        sum("MAD_T" not in row.values for row in counted),
        {column: mean for column, mean in zip(COLUMNS, means, strict=False) if mean is not None},
        {row.stem: row.problem for row in rows if row.problem},
    )


def _for_means(row: ImageRow) -> list[float]:
    skipped = () if "MAD_T" in row.values else TRANSITION
    return [math.nan if column in skipped else row.values.get(column, math.nan) for column in COLUMNS]


def means_of(table: NDArray[np.float64], seed: int = 0) -> list[Mean | None]:
    """Mean of each column with the percentile interval of 2000 bootstrap samples of the rows; NaN is no value.

    Args:
        table: Images x columns.
        seed: Of the samples.

    Returns:
        None for a column without any value.
    """
    there = ~np.isnan(table)
    values, counts = np.where(there, table, 0), there.sum(axis=0)
    rng = np.random.default_rng(seed)
    samples = np.full((_RESAMPLED, table.shape[1]), math.nan)
    for sample in samples:
        drawn = np.bincount(rng.integers(0, len(table), len(table)), minlength=len(table))
        # A sample can miss every image that has a value.
        np.divide(drawn @ values, drawn @ there, out=sample, where=(drawn @ there) > 0)
    found: list[Mean | None] = []
    for column, n in enumerate(counts.tolist()):
        if not n:
            found.append(None)
            continue
        mean = float(values[:, column].sum() / n)
        low, high = map(float, np.nanquantile(samples[:, column], _INTERVAL))
        found.append(Mean(mean, min(low, mean), max(high, mean), n))
    return found
