"""What can be said before any training: the dataset's own check, its facemasks and classes, one step, speeds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from p3mdata.base.files import sha256
from p3mdata.base.processes import default_workers
from p3mdata.config import TOLERANCE
from p3mdata.dataset.check import Check
from p3mdata.dataset.folder import Dataset, DatasetItem
from p3mdata.imaging.facemask import replaced
from p3mdata.imaging.trimap import BACKGROUND, FOREGROUND, UNKNOWN, pure, trimap_of
from p3mdata.typing import Json
from p3mnet.create import create_model
from p3mnet.crops import reduced, trimap_of_window
from p3mnet.data import DataConfig, Images, TrainingSet, seeded
from p3mnet.fingerprints import fingerprints_of
from p3mnet.graphs import replaying
from p3mnet.image_files import Array, BadFile, read_colours, read_grey
from p3mnet.loader import collate, to_device
from p3mnet.losses import losses_of
from p3mnet.metrics import evaluate_pair
from p3mnet.model import folded
from p3mnet.predict import predict_alpha, to_8_bit
from p3mnet.traincheck.config import Recipe
from p3mnet.traincheck.statistics import Rule, State

CLASSES = {"background": BACKGROUND, "transition": UNKNOWN, "foreground": FOREGROUND}
_NAMED = 5
_SAMPLES = 4
_STEPS = 3
_MOST_HELPERS = 8
# Seconds that starting one of many loaders takes.
_FORK = 0.1


def fingerprint(dataset: Dataset, sets: Iterator[str]) -> str:
    """Of names and contents of all files of some sets: what a run began with is what it goes on with."""
    files = [
        path
        for name in sets
        for item in dataset.items(name).values()
        for paths in item.files.values()
        for path in paths
    ]
    marks = fingerprints_of(dataset.root / path for path in files)
    lines = [f"{path} {mark}" for path, mark in zip(files, marks, strict=True)]
    return sha256("\n".join(sorted(lines)).encode("utf-8", "surrogateescape"))[:16]


def dataset_rule(found: Check) -> Rule:
    """`p3mdata check` without errors."""
    errors = [finding for finding in found.findings if finding.error]
    if not errors:
        return Rule("dataset", State.PASS, f"no errors; warnings: {len(found.findings)}")
    named = "; ".join(f"{finding.file} {finding.sentence}" for finding in errors[:_NAMED])
    more = f"; and {len(errors) - _NAMED} more" if len(errors) > _NAMED else ""
    return Rule("dataset", State.FAIL, f"{len(errors)} errors: {named}{more}")


@dataclass(frozen=True)
class Areas:
    """Pixels of one picture.

    Attributes:
        transition: Of the area that is trained and tested as unknown.
        covered: Of those, replaced ones; and soft ones of the matte that are replaced.
        classes: Of each trimap class.
    """

    transition: int
    covered: int
    classes: dict[str, int]


@dataclass(frozen=True)
class _Terms:
    """What holds for all pictures of a dataset: how training makes trimaps, what of a matte is pure.

    Attributes:
        data: Of the recipe.
        tolerance: Levels of 255.
        decided: Stems of pictures whose transition a person let the mask cover; nobody is asked about it.
    """

    data: DataConfig
    tolerance: int
    decided: frozenset[str]


def _terms(dataset: Dataset, recipe: Recipe) -> _Terms:
    settings = dataset.run_settings()
    tolerance = TOLERANCE if settings is None else settings.alpha_tolerance
    decided = frozenset(row["id"] for row in dataset.rows() if (row.get("decision") or {}).get("keep_transition"))
    return _Terms(DataConfig(**recipe.data), tolerance, decided)


def _areas(dataset: Dataset, item: DatasetItem, terms: _Terms) -> Areas | str:
    """Areas of a picture, or why there are none."""
    try:
        alpha = read_grey(dataset.root / item.files["alpha"][0])
        path = item.path("facemask")
        mask = None if path is None else read_grey(dataset.root / path)
        if mask is not None and mask.shape != alpha.shape:
            return f"{path}: is not of its alpha's size."
        file = item.path("trimap")
        tested = trimap_of(alpha, facemask=mask) if file is None else read_grey(dataset.root / file)
    except (BadFile, KeyError) as exc:
        return str(exc) if isinstance(exc, BadFile) else f"{item.stem}: has no alpha."
    if tested.shape != alpha.shape:
        return f"{file}: is not of its alpha's size."
    unknown = tested == UNKNOWN
    covered = 0
    if mask is not None:
        gone = replaced(mask)
        covered = int(np.count_nonzero(unknown & gone))
        if item.stem not in terms.decided:
            none, full = pure(alpha, terms.tolerance)
            covered += int(np.count_nonzero(~none & ~full & gone & ~unknown))
        covered += _trained(alpha, mask, terms.data)
    classes = {name: int(np.count_nonzero(tested == value)) for name, value in CLASSES.items()}
    return Areas(int(np.count_nonzero(unknown)), covered, classes)


def _trained(alpha: Array, mask: Array, data: DataConfig) -> int:
    """Replaced pixels in the unknown area of the largest trimap that training makes of a picture."""
    if data.longest is not None:
        alpha, mask = reduced(alpha, data.longest, False), reduced(mask, data.longest, True)
    height, width = alpha.shape
    trimap = trimap_of_window(alpha, data.trimap_kernel[1], (slice(0, height), slice(0, width)), mask)
    return int(np.count_nonzero((trimap == UNKNOWN) & replaced(mask)))


def area_rules(
    dataset: Dataset, training: str, others: list[str], recipe: Recipe, workers: int, step: Callable[[], None]
) -> tuple[list[Rule], Json]:
    """Rules about facemasks (all obfuscated sets) and trimap classes (the training set), and their figures."""
    items = {name: list(dataset.items(name).values()) for name in (training, *others)}
    terms = _terms(dataset, recipe)

    def look(item: DatasetItem) -> Areas | str:
        found = _areas(dataset, item, terms)
        step()
        return found

    with ThreadPoolExecutor(workers) as pool:
        found = {name: list(pool.map(look, mine)) for name, mine in items.items()}
    bad = [areas for mine in found.values() for areas in mine if isinstance(areas, str)]
    usable = [
        (item.stem, areas)
        for name, mine in found.items()
        for item, areas in zip(items[name], mine, strict=True)
        if isinstance(areas, Areas)
    ]
    if bad or not usable:
        told = " ".join(bad[:_NAMED]) or "there are no pictures"
        return [Rule("pictures", State.FAIL, told)], {}
    transition, covered = (sum(getattr(areas, part) for _, areas in usable) for part in ("transition", "covered"))
    leaks = [stem for stem, areas in usable if areas.covered]
    totals = {name: [areas.classes[name] for areas in found[training] if isinstance(areas, Areas)] for name in CLASSES}
    everything = max(sum(map(sum, totals.values())), 1)
    balance = {name: sum(counts) / everything for name, counts in totals.items()}
    without = {name: sum(not count for count in counts) for name, counts in totals.items()}
    figures = {
        "transition_pixels": transition,
        "transition_inside_facemasks": covered,
        "class_shares": balance,
        "pictures_without_class": without,
    }
    return [_mask_rule(transition, covered, leaks), _class_rule(balance)], figures


def _mask_rule(transition: int, covered: int, leaks: list[str]) -> Rule:
    share = covered / max(transition, 1)
    if not covered:
        return Rule(
            "facemasks",
            State.PASS,
            f"none of {transition:,} unknown pixels is replaced, in trimaps as trained and as tested",
        )
    named = ", ".join(leaks[:_NAMED]) + (f" and {len(leaks) - _NAMED} more" if len(leaks) > _NAMED else "")
    return Rule(
        "facemasks",
        State.FAIL,
        f"{covered:,} of {transition:,} transition pixels ({share:.2%}) are obfuscated: {named}",
    )


def _class_rule(balance: Mapping[str, float]) -> Rule:
    told = ", ".join(f"{name} {share:.1%}" for name, share in balance.items())
    if absent := [name for name, share in balance.items() if not share]:
        return Rule("classes", State.FAIL, f"no trimap of the training set has {' or '.join(absent)} ({told})")
    return Rule("classes", State.PASS, told)


@dataclass(frozen=True)
class Speeds:
    """Seconds, measured.

    Attributes:
        step: Of a training step, by domain.
        first: What reading a picture for the first time adds, by domain, where pictures are kept in memory.
        loader: Of loading a sample in one process, by domain.
        tested: Of a tested picture.
        start: Of a training, before its first step.
        looked: Of a picture that is held out for a training's curve.
    """

    step: dict[str, float]
    first: dict[str, float]
    loader: dict[str, float]
    tested: float
    start: float = 0.0
    looked: float = 0.0

    def to_json(self) -> Json:
        return dict(vars(self))


_UNKNOWN = Speeds({}, {}, {}, 0)


def _loaded(pictures: TrainingSet, number: int) -> tuple[list[Any], float]:
    """Samples, and seconds of each."""
    begun = time.monotonic()
    samples = [{**pictures.sample(index % len(pictures), seeded(0, 0, index)), "bad": []} for index in range(number)]
    return samples, (time.monotonic() - begun) / number


def try_steps(
    root: Path, recipe: Recipe, batch: int, domains: Mapping[str, Images | None], device: torch.device, workers: int
) -> tuple[Rule, Speeds]:
    """One step on real pictures of each domain, with times of it, of loading, and of testing a picture.

    Args:
        root: The dataset.
        recipe: How training and tests are done.
        batch: Crops of a step.
        domains: Images by domain; None takes those of the dataset.
        device: Where.
        workers: Loader processes that will work beside the training.

    Raises:
        SetupError: Weights are missing, or too many pictures cannot be used.
    """
    torch.manual_seed(0)
    begun = time.monotonic()
    cuda = device.type == "cuda"
    model = create_model(**recipe.model).train().to(device)
    # As in training.
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(model.parameters(), recipe.learning_rate, fused=cuda)
    # Of each training: its network, and the loaders that it starts.
    start = time.monotonic() - begun + _FORK * workers
    step, first, loader = {}, {}, {}
    for domain, images in domains.items():
        pictures = TrainingSet(root, None, DataConfig(**recipe.data), images)
        pictures.late = cuda
        try:
            samples, loader[domain] = _loaded(pictures, max(_SAMPLES, batch))
            again = _loaded(pictures, max(_SAMPLES, batch))[1] if recipe.data.get("longest") else loader[domain]
        except BadFile as exc:
            return Rule("step", State.FAIL, str(exc)), _UNKNOWN
        first[domain] = max(0.0, loader[domain] - again)
        taken = collate(samples[:batch])
        assert isinstance(taken, dict)
        times = []
        for _ in range(_STEPS):
            begun = time.monotonic()
            moved = to_device(taken, device)
            optimizer.zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=cuda):
                output = model(moved["image"])
            loss = losses_of(model, output, moved)["total"]
            loss.backward()  # type: ignore[no-untyped-call]
            norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
            if not (math.isfinite(loss.item()) and math.isfinite(norm.item())):
                return Rule("step", State.FAIL, f"loss or gradient of {domain} is not finite"), _UNKNOWN
            optimizer.step()
            times.append(time.monotonic() - begun)
        loading = batch * again
        # The first step has to warm up, once for all trainings of this process.
        computing = min(times[1:])
        step[domain] = max(computing, loading / workers) if workers else computing + loading
    # On a GPU the first passes are recorded.
    tester = replaying(folded(model)) if cuda else model.eval()
    tests = [_time_of_a_test(tester, pictures, recipe) for _ in range(4 if cuda else 2)]
    predicting, files, measuring = (min(parts) for parts in zip(*tests, strict=True))
    tested = predicting + files + measuring
    if cuda:
        # As they are done: files beside the network, metrics in processes.
        tested = max(predicting, files / helpers_of_tests(device)) + measuring / max(1, workers)
    rates = ", ".join(f"{domain} {1 / seconds:.0f}/s" for domain, seconds in loader.items())
    told = f"forward and backward are finite; loader {rates} per process; a step takes " + ", ".join(
        f"{seconds:.2g} s ({domain})" for domain, seconds in step.items()
    )
    return Rule("step", State.PASS, told), Speeds(step, first, loader, tested, start, predicting + files)


def helpers_of_tests(device: torch.device) -> int:
    """Threads that read pictures ahead and write mattes behind a network that is tested; 0 on a CPU, which it needs."""
    return min(_MOST_HELPERS, default_workers()) if device.type == "cuda" else 0


def _time_of_a_test(model: Any, pictures: TrainingSet, recipe: Recipe) -> tuple[float, float, float]:
    """Seconds to predict, to read and encode, and to measure a picture of the training set, all in this process."""
    files = pictures.files[0]
    begun = time.monotonic()
    rgb = read_colours(files["image"]) if pictures.images is None else pictures.images(pictures.names[0])
    read = time.monotonic()
    predicted = to_8_bit(predict_alpha(model, rgb, recipe.mode, recipe.max_side))
    seen = time.monotonic()
    cv2.imencode(".png", predicted)
    encoded = time.monotonic()
    evaluate_pair(predicted, read_grey(files["alpha"]))
    return seen - read, read - begun + encoded - seen, time.monotonic() - encoded
