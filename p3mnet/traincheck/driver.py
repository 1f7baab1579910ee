"""A train-check from its checks to its report: what is decided goes to plan.json, what is found to the report."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from p3mdata.base.jsonl import read_json, write_json
from p3mdata.base.processes import default_workers
from p3mdata.config import Method, Settings
from p3mdata.dataset.check import check_dataset
from p3mdata.dataset.folder import BUILDING, Dataset, open_dataset
from p3mdata.dataset.layout import OBFUSCATED
from p3mdata.errors import P3MError, RunFolderError, SettingsError
from p3mdata.version import __version__
from p3mnet.devices import device_name, pick_device
from p3mnet.image_files import BadFile, read_grey
from p3mnet.traincheck.budget import drawn, spend
from p3mnet.traincheck.checks import area_rules, dataset_rule, fingerprint, try_steps
from p3mnet.traincheck.config import Recipe, Scale, TrainCheckSettings, recipe
from p3mnet.traincheck.experiments import PREDICTIONS, RUNS, SCORES, Work, batches_of, run_all
from p3mnet.traincheck.layout import PAGE, REPORT
from p3mnet.traincheck.originals import Images, find_originals, images_of
from p3mnet.traincheck.page import write_page
from p3mnet.traincheck.protocols import BLURRED, NORMAL, Design, design
from p3mnet.traincheck.report import report_of
from p3mnet.traincheck.reporter import Reporter
from p3mnet.traincheck.statistics import Rule, State
from p3mnet.training import ConsoleWatch, Watch
from p3mnet.training.stopping import stopping

PLAN = "plan.json"
# A step's crops go through the network at once, or in so many parts where memory is short.
_PARTS = (1, 2, 4, 8)
_LOADERS = 16


class _Bar(ConsoleWatch):
    """A training's bar, without its remarks."""

    def say(self, text: str) -> None:
        pass


def run(root: Path, out: Path, settings: TrainCheckSettings, reporter: Reporter) -> dict[str, Any]:
    """See `p3mnet.traincheck.train_check`; gives the content of report.json."""
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
    scale = Scale(plan["scale"]) if plan else _scale(settings, device)
    how = recipe(settings, scale)
    if scale is Scale.SMOKE:
        reporter.say(f"{scale.words}: {how.words}")
    with _threads(scale):
        return _go(out, dataset, chosen, settings, scale, how, device, plan, reporter)


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


def _go(
    out: Path,
    dataset: Dataset,
    chosen: Design,
    settings: TrainCheckSettings,
    scale: Scale,
    how: Recipe,
    device: torch.device,
    plan: dict[str, Any],
    reporter: Reporter,
) -> dict[str, Any]:
    """Checks, plan, trainings, report."""
    try:
        rules, figures = ([], {}) if plan else _without_training(dataset, chosen, settings, how, reporter)
        if any(rule.state is State.FAIL for rule in rules):
            return _failed(out, dataset, chosen, settings, scale, how, rules, figures)
        originals = _originals(dataset, chosen, settings, reporter)
        shown = _shown(dataset, chosen, originals)
        if not plan:
            plan = _plan(dataset, chosen, settings, scale, how, shown, device, rules, figures)
            if any(rule["state"] == State.FAIL.value for rule in plan["rules"]):
                return _report(out, dataset, chosen, plan, stopped="a check failed, so nothing was trained")
            write_json(out / PLAN, plan)
        return _run(out, dataset, chosen, settings, how, shown, plan, reporter)
    except OSError as exc:
        raise RunFolderError(
            f"{exc.filename or out}: cannot be read or written ({exc.strerror or exc}). Make room and run the same "
            "command again."
        ) from exc


def _run(
    out: Path,
    dataset: Dataset,
    chosen: Design,
    settings: TrainCheckSettings,
    how: Recipe,
    shown: Mapping[str, Images | None],
    plan: dict[str, Any],
    reporter: Reporter,
) -> dict[str, Any]:
    """Train and test whatever is left, and report, also when it ends early."""
    files = {name: dataset.items(name) for name in plan["tested"]}
    work = Work(
        out, dataset, chosen, how, settings.with_workers(plan["workers"]), plan["pictures"], plan["steps"],
        plan["batch"], plan["accumulation"],
        {name: {stem: dataset.root / files[name][stem].files["image"][0] for stem in stems}
         for name, stems in plan["tested"].items()},
        shown, _Bar if reporter.bars else Watch, reporter.say, reporter.counted,
    )  # fmt: skip
    left = plan["seconds"]["training"] + plan["seconds"]["testing"]
    reporter.say(f"{plan['steps']} steps for each training; all in about {left / 60:.0f} min")
    with stopping() as stop:
        try:
            seeds = run_all(work, stop, None if settings.epochs else settings.budget or how.budget, plan["seconds"])
        except P3MError as error:
            _report(out, dataset, chosen, plan, stopped=str(error))
            reporter.say(f"report of what is finished: {out / PAGE}")
            raise
    notes = []
    if seeds < settings.seeds:
        notes.append(
            f"{seeds} of {settings.seeds} seeds were trained: the machine was slower than when the budget was planned."
        )
    return _report(out, dataset, chosen, plan, notes=notes)


def _report(
    out: Path,
    dataset: Dataset,
    chosen: Design,
    plan: dict[str, Any],
    stopped: str | None = None,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Write the report of what is there."""
    found = report_of(out, dataset, chosen, plan, stopped, notes)
    write_json(out / REPORT, found)
    write_page(out, dataset, chosen, plan, found)
    return found


def _check_out(out: Path, root: Path, originals: Path | None) -> None:
    if out.exists() and not out.is_dir():
        raise RunFolderError(f"{out}: is a file. Choose a folder.")
    for what, folder in (("the dataset", root), ("the originals", originals)):
        if folder is not None and (_inside(out, folder) or _inside(folder, out)):
            raise SettingsError(f"{out}: OUT and {what} ({folder}) must not lie inside each other. Choose another OUT.")
    ours = any((out / name).is_file() for name in (PLAN, REPORT))
    if out.is_dir() and not ours and any(out.iterdir()):
        raise RunFolderError(f"{out}: is not empty and holds no train-check. Choose an empty or new folder.")


def _inside(inner: Path, outer: Path) -> bool:
    real_inner, real_outer = Path(os.path.realpath(inner)), Path(os.path.realpath(outer))
    return real_inner == real_outer or real_outer in real_inner.parents


def _method_of(dataset: Dataset) -> Method | None:
    """How the dataset was obfuscated, as its settings or the names of its folders say."""
    if "settings" in dataset.about:
        return Settings(**dataset.about["settings"]).obfuscation()[0]
    if dataset.folder(dataset.layout.training, "image").name.startswith(dataset.obfuscated):
        return next((method for method, word in OBFUSCATED.items() if word == dataset.obfuscated), None)
    return None


def _scale(settings: TrainCheckSettings, device: torch.device) -> Scale:
    if settings.scale is not Scale.AUTO:
        return settings.scale
    return Scale.FULL if device.type == "cuda" else Scale.SMOKE


def _earlier(out: Path, dataset: Dataset, settings: TrainCheckSettings, sizes: Mapping[str, int]) -> dict[str, Any]:
    """The plan of an earlier call; empty if there is none.

    Raises:
        RunFolderError: It is of other settings, or the dataset has changed.
    """
    if not (out / PLAN).is_file():
        return {}
    plan = read_json(out / PLAN)
    now = settings.to_json()
    changed = sorted(key for key in now if plan.get("settings", {}).get(key) != now[key])
    same = plan.get("fingerprint") == fingerprint(dataset, iter(sizes))
    if same and not changed:
        return plan
    if settings.overwrite:
        for name in (PLAN, REPORT, PAGE):
            (out / name).unlink(missing_ok=True)
        for name in (RUNS, PREDICTIONS, SCORES):
            shutil.rmtree(out / name, ignore_errors=True)
        return {}
    what = f"with other settings ({', '.join(changed)})" if changed else "of another dataset, or of an earlier state"
    raise RunFolderError(f"{out}: holds a train-check {what}. Give another --out, or --overwrite to begin anew.")


def _sets_of(dataset: Dataset, chosen: Design) -> list[str]:
    """The training set and the obfuscated sets that are tested."""
    return list(dict.fromkeys([dataset.layout.training, *(t.set for t in chosen.tests if t.rendered or t.key == "P")]))


def _without_training(
    dataset: Dataset, chosen: Design, settings: TrainCheckSettings, how: Recipe, reporter: Reporter
) -> tuple[list[Rule], dict[str, Any]]:
    """Everything of `p3mdata check`, then facemasks and classes, unless files are broken."""
    workers = settings.workers or default_workers()
    reporter.say("checking the dataset")
    with reporter.counted() as start:
        found = check_dataset(dataset.root, workers=workers, progress=start)
    rules = [dataset_rule(found)]
    if found.errors:
        return rules, {"check": found.to_json()}
    private = [name for name in _sets_of(dataset, chosen) if name != dataset.layout.training]
    reporter.say("checking facemasks and trimaps")
    with reporter.counted() as start:
        step = start(sum(len(dataset.items(name)) for name in (dataset.layout.training, *private)))
        areas, figures = area_rules(dataset, dataset.layout.training, private, how, workers, step)
    return [*rules, *areas], {"check": found.to_json(), **figures}


def _originals(dataset: Dataset, chosen: Design, settings: TrainCheckSettings, reporter: Reporter) -> dict[str, Path]:
    if settings.originals is None:
        return {}
    sets = _sets_of(dataset, chosen)
    reporter.say("comparing the originals with the dataset")
    with reporter.counted() as start:
        step = start(sum(len(dataset.items(name)) for name in sets))
        return find_originals(settings.originals, dataset, sets, settings.workers or default_workers(), step)


def _shown(dataset: Dataset, chosen: Design, originals: Mapping[str, Path]) -> dict[str, Images | None]:
    """Images by domain (training set) and by key of the test; None is the dataset's own."""

    def images(name: str, domain: str) -> Images:
        return images_of(dataset, name, originals, None if domain == NORMAL else Method(domain))

    shown: dict[str, Images | None] = {
        domain: None if domain == BLURRED else images(dataset.layout.training, domain) for domain in chosen.domains
    }
    return shown | {test.key: images(test.set, test.domain) if test.rendered else None for test in chosen.tests}


def _plan(
    dataset: Dataset,
    chosen: Design,
    settings: TrainCheckSettings,
    scale: Scale,
    how: Recipe,
    shown: Mapping[str, Images | None],
    device: torch.device,
    rules: list[Rule],
    figures: dict[str, Any],
) -> dict[str, Any]:
    """Measure speeds, and decide how many steps and tested pictures there are."""
    training = dataset.items(dataset.layout.training)
    batch, per_epoch = batches_of(len(training), how.batch)
    workers = settings.workers or min(default_workers(), _LOADERS)
    if scale is Scale.SMOKE:
        # The pictures are kept in this process's memory.
        workers = 0
    domains = {domain: shown[domain] for domain in chosen.domains}
    for parts in _PARTS:
        micro = max(1, batch // parts)
        with suppress(torch.OutOfMemoryError):
            rule, speeds = try_steps(dataset.root, how, micro, domains, device, workers)
            break
    else:
        raise SettingsError("The GPU's memory does not hold a single crop. Use another one, or --scale smoke.")
    accumulation = max(1, batch // micro)
    names = {test.set: sorted(dataset.items(test.set)) for test in chosen.tests}
    row: dict[str, Any] = {
        "tool": f"p3mdata {__version__}",
        "settings": settings.to_json(),
        "fingerprint": fingerprint(dataset, dataset.sets()),
        "scale": scale.value,
        "recipe": how.words,
        "device": device_name(device),
        "rules": [one.to_json() for one in (*rules, rule)],
        "figures": figures | {"speeds": speeds.to_json()},
        "pictures": len(training),
        "batch": micro * accumulation,
        "accumulation": accumulation,
        "workers": workers,
    }  # fmt: skip
    if rule.state is State.FAIL:
        return row

    def training_seconds(steps: int) -> float:
        read = min(steps * micro * accumulation, len(training))
        return settings.seeds * sum(
            steps * accumulation * speeds.step[domain] + read * speeds.first[domain] for domain in chosen.domains
        )

    tests = Counter(test.set for _, test in chosen.pairs for _ in range(settings.seeds))
    spending = spend(
        None if settings.epochs else settings.budget or how.budget, settings.epochs and settings.epochs * per_epoch,
        settings.seeds * len(chosen.domains), training_seconds, speeds.tested, tests,
        {name: len(mine) for name, mine in names.items()}, settings.most_tested,
    )  # fmt: skip
    tested = {name: drawn(mine, spending.tested[name]) for name, mine in names.items()}
    return row | {
        "steps": spending.steps,
        "epochs": spending.steps / per_epoch,
        "tested": tested,
        "of": {name: len(mine) for name, mine in names.items()},
        "constant": {name: _constant(dataset, name, stems) for name, stems in tested.items()},
        "seconds": {"training": spending.training_seconds, "testing": spending.test_seconds},
    }


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


def _failed(
    out: Path,
    dataset: Dataset,
    chosen: Design,
    settings: TrainCheckSettings,
    scale: Scale,
    how: Recipe,
    rules: list[Rule],
    figures: dict[str, Any],
) -> dict[str, Any]:
    """The report of a dataset that is not worth training on; there is no plan, so that the next call checks again."""
    row = {
        "settings": settings.to_json(),
        "scale": scale.value,
        "recipe": how.words,
        "device": "none",
        "rules": [rule.to_json() for rule in rules],
        "figures": figures,
    }
    return _report(out, dataset, chosen, row, stopped="a check failed, so nothing was trained")
