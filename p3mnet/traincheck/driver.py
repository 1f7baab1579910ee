"""A train-check from its checks to its report: what is decided goes to plan.json, what is found to the report."""

from __future__ import annotations

import math
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from p3mdata.base.files import holds_nothing, overlap, owned_folder
from p3mdata.base.ids import read_secret
from p3mdata.base.jsonl import write_json
from p3mdata.base.processes import default_workers
from p3mdata.config import Method
from p3mdata.dataset.about import BUILDING
from p3mdata.dataset.check import check_dataset
from p3mdata.dataset.folder import Dataset, open_dataset
from p3mdata.dataset.layout import OBFUSCATED
from p3mdata.errors import MAKE_ROOM, P3MError, RunFolderError, SettingsError
from p3mdata.typing import Json
from p3mnet.devices import device_name, pick_device
from p3mnet.image_files import BadFile, read_grey
from p3mnet.originals import Images, find_originals, images_of
from p3mnet.traincheck.budget import drawn, looks_of, spend
from p3mnet.traincheck.checks import area_rules, dataset_rule, fingerprint, try_steps
from p3mnet.traincheck.config import Recipe, Scale, TrainCheckSettings, recipe
from p3mnet.traincheck.experiments import (
    PREDICTIONS,
    RUNS,
    SCORES,
    Work,
    batches_of,
    held_out,
    run_all,
)
from p3mnet.traincheck.layout import PAGE, REPORT
from p3mnet.traincheck.page import write_page
from p3mnet.traincheck.plan import PLAN, CheckPlan, Schedule, read_plan
from p3mnet.traincheck.protocols import BLURRED, NORMAL, Design, design
from p3mnet.traincheck.report import report_of
from p3mnet.traincheck.reporter import Reporter
from p3mnet.traincheck.results import Report
from p3mnet.traincheck.statistics import Rule, State
from p3mnet.training import ConsoleWatch, Watch
from p3mnet.training.stopping import stopping

# A step's crops go through the network at once, or in so many parts where memory is short.
_PARTS = (1, 2, 4, 8)
_LOADERS = 16
_FAILED = "a check failed, so nothing was trained"


class _Bar(ConsoleWatch):
    """A training's bar, without its remarks."""

    def say(self, text: str) -> None:
        pass


def run(root: Path, out: Path, settings: TrainCheckSettings, reporter: Reporter) -> Report:
    """See `p3mnet.traincheck.train_check`; gives what it came to."""
    begun = time.monotonic()
    dataset = open_dataset(root)
    if (root / BUILDING).exists():
        raise SettingsError(f"{root}: is not whole. Run the command that builds it again.")
    _check_out(out, dataset.root, settings.originals)
    sizes = {name: len(dataset.items(name)) for name in dataset.sets()}
    layout = dataset.layout
    private, free = (name if name and sizes.get(name) else None for name in (layout.validation, layout.free))
    plan = _earlier(out, dataset, settings, sizes)
    chosen = design(settings, private, free, _method_of(dataset))
    for note in chosen.notes:
        reporter.say(note)
    device = pick_device(settings.device)
    scale = plan.scale if plan else _scale(settings, device)
    check = _Check(out, dataset, chosen, settings, scale, recipe(settings, scale), device, reporter, begun)
    if scale is Scale.SMOKE:
        reporter.say(f"{scale.words}: {check.how.words}")
    with _threads(scale), owned_folder(out):
        return _go(check, plan)


@dataclass(frozen=True)
class _Check:
    """What every step of a call works with."""

    out: Path
    dataset: Dataset
    design: Design
    settings: TrainCheckSettings
    scale: Scale
    how: Recipe
    device: torch.device
    reporter: Reporter
    begun: float

    @property
    def training(self) -> str:
        """Name of the training set."""
        return self.dataset.layout.training

    @property
    def workers(self) -> int:
        """Processes for checks."""
        return self.settings.workers or default_workers()

    @property
    def budget(self) -> float | None:
        """Seconds for everything; None when epochs were asked for."""
        return None if self.settings.epochs else self.settings.budget or self.how.budget

    def plan(
        self, rules: Iterable[Rule], figures: Mapping[str, Any], device: str, schedule: Schedule | None = None
    ) -> CheckPlan:
        how = self.how if schedule is None else self.how.of(schedule.steps)
        return CheckPlan(
            self.settings.to_json(), fingerprint(self.dataset, self.dataset.sets()), self.scale, how.words,
            device, tuple(rules), figures, schedule,
        )  # fmt: skip


@contextmanager
def _threads(scale: Scale) -> Iterator[None]:
    """One thread for a smoke check: small maps want no more, and its figures are those of any number of cores."""
    before = torch.get_num_threads()
    if scale is Scale.SMOKE:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _go(check: _Check, plan: CheckPlan | None) -> Report:
    """Checks, plan, trainings, report."""
    try:
        rules, figures = ([], {}) if plan else _without_training(check)
        if any(rule.state is State.FAIL for rule in rules):
            # There is no plan, so that the next call checks again.
            return _report(check, check.plan(rules, figures, "none"), stopped=_FAILED)
        shown = _shown(check, _originals(check))
        if plan is None:
            plan = _planned(check, shown, rules, figures)
            if plan.failed:
                return _report(check, plan, stopped=_FAILED)
            plan.write(check.out)
        return _run(check, shown, plan)
    except OSError as exc:
        raise RunFolderError(
            f"{exc.filename or check.out}: cannot be read or written ({exc.strerror or exc}). {MAKE_ROOM}"
        ) from exc


def _run(check: _Check, shown: Mapping[str, Images | None], plan: CheckPlan) -> Report:
    """Train and test whatever is left, and report, also when it ends early."""
    schedule, reporter = plan.schedule, check.reporter
    assert schedule is not None
    # A plan of an earlier version goes on as it began.
    how = check.how if plan.recipe == check.how.words else check.how.of(schedule.steps)
    files = {name: check.dataset.items(name) for name in schedule.tested}
    work = Work(
        check.out, check.dataset, check.design, how, check.settings.with_workers(schedule.workers),
        schedule.pictures, schedule.steps, schedule.batch, schedule.accumulation,
        {name: {stem: check.dataset.root / files[name][stem].files["image"][0] for stem in stems}
         for name, stems in schedule.tested.items()},
        shown, _Bar if reporter.bars else Watch, reporter.say, reporter.counted,
    )  # fmt: skip
    left = schedule.training_seconds + schedule.testing_seconds
    reporter.say(f"{schedule.steps} steps for each training; all in about {left / 60:.0f} min")
    with stopping() as stop:
        try:
            seeds = run_all(work, stop, check.budget, schedule.seconds)
        except P3MError as error:
            _report(check, plan, stopped=str(error))
            reporter.say(f"report of what is finished: {check.out / PAGE}")
            raise
    notes = []
    if seeds < check.settings.seeds:
        notes.append(
            f"{seeds} of {check.settings.seeds} seeds were trained: the machine was slower than when the budget was "
            "planned."
        )
    return _report(check, plan, notes=notes)


def _report(check: _Check, plan: CheckPlan, stopped: str | None = None, notes: Sequence[str] = ()) -> Report:
    """Write the report of what is there."""
    found = report_of(check.out, check.dataset, check.design, check.settings, plan, stopped, notes)
    write_json(check.out / REPORT, found.to_json())
    write_page(check.out, check.dataset, check.design, plan, found)
    return found


def _check_out(out: Path, root: Path, originals: Path | None) -> None:
    if out.exists() and not out.is_dir():
        raise RunFolderError(f"{out}: is a file. Choose a folder.")
    for what, folder in (("the dataset", root), ("the originals", originals)):
        if folder is not None and overlap(out, folder):
            raise SettingsError(f"{out}: OUT and {what} ({folder}) must not lie inside each other. Choose another OUT.")
    ours = any((out / name).is_file() for name in (PLAN, REPORT))
    if out.is_dir() and not ours and not holds_nothing(out):
        raise RunFolderError(f"{out}: is not empty and holds no train-check. Choose an empty or new folder.")


def _method_of(dataset: Dataset) -> Method | None:
    """How the dataset was obfuscated, as its settings or the names of its folders say."""
    if (settings := dataset.run_settings()) is not None:
        return settings.obfuscation()[0]
    if dataset.folder(dataset.layout.training, "image").name.startswith(dataset.obfuscated):
        return next((method for method, word in OBFUSCATED.items() if word == dataset.obfuscated), None)
    return None


def _scale(settings: TrainCheckSettings, device: torch.device) -> Scale:
    if settings.scale is not Scale.AUTO:
        return settings.scale
    return Scale.FULL if device.type == "cuda" else Scale.SMOKE


def _earlier(out: Path, dataset: Dataset, settings: TrainCheckSettings, sizes: Mapping[str, int]) -> CheckPlan | None:
    """The plan of an earlier call; None if there is none.

    Raises:
        RunFolderError: It is of other settings, or the dataset has changed.
    """
    if not (out / PLAN).is_file():
        return None
    now = settings.to_json()
    try:
        plan = read_plan(out)
    except RunFolderError:
        if not settings.overwrite:
            raise
        plan = None
    if plan is not None:
        changed = sorted(key for key in now if plan.settings.get(key) != now[key])
        same = plan.fingerprint == fingerprint(dataset, iter(sizes))
        if same and not changed:
            return plan
        if not settings.overwrite:
            what = f"with other settings ({', '.join(changed)})"
            if not changed:
                what = "of another dataset, or of an earlier state"
            raise RunFolderError(
                f"{out}: holds a train-check {what}. Give another --out, or --overwrite to begin anew."
            )
    for name in (PLAN, REPORT, PAGE):
        (out / name).unlink(missing_ok=True)
    for name in (RUNS, PREDICTIONS, SCORES):
        shutil.rmtree(out / name, ignore_errors=True)
    return None


def _sets_of(check: _Check) -> list[str]:
    """The training set and the obfuscated sets that are tested."""
    return list(dict.fromkeys([check.training, *(t.set for t in check.design.tests if t.rendered or t.key == "P")]))


def _without_training(check: _Check) -> tuple[list[Rule], Json]:
    """Everything of `p3mdata check`, then facemasks and classes, unless files are broken."""
    dataset, reporter = check.dataset, check.reporter
    reporter.say("checking the dataset")
    with reporter.counted() as start:
        found = check_dataset(dataset.root, workers=check.workers, progress=start)
    rules = [dataset_rule(found)]
    if found.errors:
        return rules, {"check": found.to_json()}
    private = [name for name in _sets_of(check) if name != check.training]
    reporter.say("checking facemasks and trimaps")
    with reporter.counted() as start:
        step = start(sum(len(dataset.items(name)) for name in (check.training, *private)))
        areas, figures = area_rules(dataset, check.training, private, check.how, check.workers, step)
    return [*rules, *areas], {"check": found.to_json(), **figures}


def _originals(check: _Check) -> dict[str, Path]:
    if check.settings.originals is None:
        return {}
    sets = _sets_of(check)
    secret = None if check.settings.secret_file is None else read_secret(check.settings.secret_file)
    check.reporter.say("comparing the originals with the dataset")
    with check.reporter.counted() as start:
        step = start(sum(len(check.dataset.items(name)) for name in sets))
        return find_originals(check.settings.originals, check.dataset, sets, check.workers, step, secret)


def _shown(check: _Check, originals: Mapping[str, Path]) -> dict[str, Images | None]:
    """Images by domain (training set) and by key of the test; None is the dataset's own."""

    def images(name: str, domain: str) -> Images:
        return images_of(check.dataset, name, originals, None if domain == NORMAL else Method(domain))

    shown: dict[str, Images | None] = {
        domain: None if domain == BLURRED else images(check.training, domain) for domain in check.design.domains
    }
    tests = check.design.tests
    return shown | {test.key: images(test.set, test.domain) if test.rendered else None for test in tests}


def _planned(check: _Check, shown: Mapping[str, Images | None], rules: list[Rule], figures: Json) -> CheckPlan:
    """Measure speeds, and decide how many steps and tested pictures there are."""
    dataset, settings = check.dataset, check.settings
    pictures = len(dataset.items(check.training))
    groups = Counter(row["group"] for row in dataset.rows() if row.get("set") == check.training)
    batch, per_epoch = batches_of(pictures, check.how.batch, min(groups.values(), default=1))
    # A smoke check keeps the pictures in this process's memory.
    workers = 0 if check.scale is Scale.SMOKE else settings.workers or min(default_workers(), _LOADERS)
    domains = {domain: shown[domain] for domain in check.design.domains}
    for parts in _PARTS:
        micro = max(1, batch // parts)
        with suppress(torch.OutOfMemoryError):
            rule, speeds = try_steps(dataset.root, check.how, micro, domains, check.device, workers)
            break
    else:
        raise SettingsError("The GPU's memory does not hold a single crop. Use another one, or --scale smoke.")
    accumulation = max(1, batch // micro)
    held = max(1, round(held_out(pictures) * pictures))
    rules, figures, device = [*rules, rule], figures | {"speeds": speeds.to_json()}, device_name(check.device)
    if rule.state is State.FAIL:
        return check.plan(rules, figures, device)

    def training_seconds(steps: int) -> float:
        read = min(steps * micro * accumulation, pictures)
        besides = speeds.start + looks_of(math.ceil(steps / per_epoch)) * held * speeds.looked
        return settings.seeds * sum(
            besides + steps * accumulation * speeds.step[domain] + read * speeds.first[domain]
            for domain in check.design.domains
        )

    names = {test.set: sorted(dataset.items(test.set)) for test in check.design.tests}
    sizes = {name: len(mine) for name, mine in names.items()}
    tests = Counter(test.set for _, test in check.design.pairs for _ in range(settings.seeds))
    before = time.monotonic() - check.begun
    spending = spend(
        check.budget, settings.epochs and settings.epochs * per_epoch, settings.seeds * len(check.design.domains),
        training_seconds, speeds.tested, tests, sizes, settings.most_tested, before,
        settings.seeds * len(check.design.domains) * (speeds.start + held * speeds.looked),
    )  # fmt: skip
    tested = {name: drawn(mine, spending.tested[name]) for name, mine in names.items()}
    schedule = Schedule(
        pictures=pictures,
        batch=micro * accumulation,
        accumulation=accumulation,
        workers=workers,
        steps=spending.steps,
        epochs=spending.steps / per_epoch,
        tested=tested,
        of=sizes,
        constant={name: _constant(dataset, name, stems) for name, stems in tested.items()},
        training_seconds=spending.training_seconds,
        testing_seconds=spending.test_seconds,
        before_seconds=before,
    )
    return check.plan(rules, figures, device, schedule)


def _constant(dataset: Dataset, name: str, stems: list[str]) -> float:
    """Mean SAD of the better constant matte, nothing or everything, of each picture."""
    items = dataset.items(name)
    errors = []
    for stem in stems:
        try:
            alpha = read_grey(dataset.root / items[stem].files["alpha"][0])
        except BadFile as error:
            raise SettingsError(str(error)) from error
        share = float(alpha.mean(dtype=np.float64)) / 255
        errors.append(min(share, 1 - share) * alpha.size / 1000)
    return float(np.mean(errors))
