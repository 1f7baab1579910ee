"""The page of a train-check: one HTML file without scripts or network, that shows no original.

Pictures are the dataset's own obfuscated ones; of tests on photographs and of the free set it shows mattes only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from p3mdata.base.chart import Drawing
from p3mdata.base.files import write_atomic
from p3mdata.base.html import Badge, Code, Figure, Picture, Table, count, picture, render, table
from p3mdata.dataset.folder import Dataset
from p3mdata.dataset.layout import Content
from p3mdata.errors import BrokenInput
from p3mdata.imaging import decode
from p3mdata.imaging.draw import small_grey, thumbnail
from p3mdata.version import __version__
from p3mnet.evaluate import COLUMNS
from p3mnet.image_files import BadFile, read_grey
from p3mnet.traincheck.experiments import prediction_file, read_curve
from p3mnet.traincheck.layout import PAGE
from p3mnet.traincheck.plan import CheckPlan
from p3mnet.traincheck.plots import colours, curves, intervals
from p3mnet.traincheck.protocols import BLURRED, NORMAL, Design, DesignRow
from p3mnet.traincheck.report import COSTS
from p3mnet.traincheck.results import RULES, Report
from p3mnet.traincheck.statistics import HOW, Cost, State, short, told_interval, told_spread

_SIDE = 200
MOST_PICTURES = 6
_BADGE = {State.PASS: "good", State.INCONCLUSIVE: "wait", State.FAIL: "bad"}
_NAMES = {"SAD_T": "SAD-T", "MSE_T": "MSE-T", "MAD_T": "MAD-T", "SAD_FG": "SAD-FG", "SAD_BG": "SAD-BG",
          "SAD_FACE": "SAD inside facemasks", "GRAD": "Grad", "CONN": "Conn"}  # fmt: skip


def _headline(found: Report) -> str:
    """The verdict in a sentence: which rules do not pass."""
    of = {state: [rule.name for rule in found.rules if rule.state is state] for state in State}
    if found.verdict is State.PASS:
        said = "Every rule passes."
    elif of[State.FAIL]:
        said = f"Failed: {', '.join(of[State.FAIL])}."
    else:
        said = f"{count(len(of[State.PASS]), 'rule')} of {len(found.rules)} passed; not settled: " + (
            f"{', '.join(of[State.INCONCLUSIVE])}."
        )
    return f"{_sentence(found.kind)} {said}" + ("" if found.complete else " Partial.")


def write_page(out: Path, dataset: Dataset, design: Design, plan: CheckPlan, found: Report) -> None:
    """Write `out/report.html`.

    Args:
        out: The train-check's folder, for curves and predictions.
        dataset: For its pictures and mattes.
        design: What is trained and tested.
        plan: What was decided.
        found: What it came to.
    """
    words = {BLURRED: "trained on B, the dataset", NORMAL: "trained on N, the photographs"}
    shown = colours(design.domains)
    costs, drawn = _costs(found)
    page = render(
        "traincheck.html",
        kind=found.kind,
        verdict=_badge(found.verdict),
        headline=_headline(found),
        lead=_lead(found),
        rules=_rules(found),
        how=RULES,
        notes=[*found.notes, *found.problems],
        costs=costs,
        intervals=intervals(drawn, found.settings.tolerance),
        interval=HOW,
        protocols=_table_4(found),
        tests={row.test: row.shown for row in found.table_4},
        methods=_table_8(found),
        own=next((row.trained for row in found.table_8 if row.domain == BLURRED), None),
        legend=[(shown[domain], words.get(domain, f"trained on {domain}, rendered")) for domain in design.domains],
        curves=_curves(out, design, found),
        pictures=_pictures(out, dataset, design, plan),
        settings=_settings(found),
        version=__version__,
    )
    write_atomic(out / PAGE, page.encode("utf-8"))


def _lead(found: Report) -> str:
    schedule = found.schedule
    if schedule is None:
        return _sentence(found.stopped or "nothing was trained")
    sets = ", ".join(f"{one.pictures:,} of {one.of:,} pictures of {name}" for name, one in schedule.sets().items())
    wanted = found.settings.seeds
    open_seeds = {training.seed for training in found.trainings if not training.done}
    seeds = count(wanted, "seed") if not open_seeds else f"{wanted - len(open_seeds)} of {count(wanted, 'seed')}"
    partial = "" if found.stopped is None else f"{_sentence(found.stopped)} "
    return (
        f"{partial}{_sentence(found.recipe)} {schedule.steps:,} steps of {schedule.batch} crops for every "
        f"training, {seeds}, on {found.device}. Tested on {sets}."
    )


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}{'' if words.endswith('.') else '.'}"


def _badge(state: State) -> Badge:
    return Badge(state.value, _BADGE[state])


def _rules(found: Report) -> Table:
    rows = [(rule.name, _badge(rule.state), rule.sentence) for rule in found.rules]
    return table("Rules of the verdict", ("Rule", "Outcome", "Why"), rows)


def _costs(found: Report) -> tuple[Table, list[tuple[str, Cost]]]:
    """The table of costs, and those that are drawn."""
    rows, drawn = [], []
    for row in found.costs:
        for metric in (metric for metric in COSTS if metric in row.metrics):
            cost = row.metrics[metric]
            name = _NAMES.get(metric, metric)
            share = "-" if not cost.base else f"{cost.value / cost.base:+.1%}"
            rows.append(
                (f"{row.domain}:N, {row.shown}", name, Figure(short(cost.value, sign="+")),
                 Figure(told_interval(cost)), Figure(share), cost.pictures, cost.seeds)
            )  # fmt: skip
            if metric == COSTS[0]:
                drawn.append((f"{row.domain}:N on {row.test}, {name}", cost))
    head = ("Tested on", "Metric", "Mean", "95% interval", "Of N:N", "Pictures", "Seeds")
    return table("Cost of anonymization: B:N - N:N", head, rows), drawn


def _table_4(found: Report) -> Table:
    head = ("Metric", *(f"{row.protocol} {row.test}" for row in found.table_4))
    rows = [
        (_NAMES.get(metric, metric), *(Figure(told_spread(row.metrics.get(metric))) for row in found.table_4))
        for metric in COLUMNS
        if any(metric in row.metrics for row in found.table_4)
    ]
    return table("Protocols, trained on : tested on (mean ± deviation over seeds)", head, rows)


def _table_8(found: Report) -> list[Table]:
    cells = found.table_8
    tests = list(dict.fromkeys(row.test for row in cells))
    domains = list(dict.fromkeys((row.trained, row.domain) for row in cells))
    parts = []
    for metric in ("SAD", "SAD_T", "SAD_FACE") if cells else ():
        rows = []
        for trained, domain in domains:
            mine = {row.test: row.metrics.get(metric) for row in cells if row.domain == domain}
            rows.append((trained, *(Figure(told_spread(mine.get(key))) for key in tests)))
        caption = f"Obfuscations, {_NAMES.get(metric, metric)}: trained on (rows), tested on (columns)"
        parts.append(table(caption, ("Trained on", *tests), rows))
    return parts


def _curves(out: Path, design: Design, found: Report) -> list[tuple[str, Drawing | None]]:
    read = [
        (domain, read_curve(out, domain, seed)) for domain in design.domains for seed in range(found.settings.seeds)
    ]
    loss = curves([(domain, curve["loss"]) for domain, curve in read], "loss", "Loss over steps, a line per training")
    held = curves(
        [(domain, curve["held out"]) for domain, curve in read], "SAD",
        "SAD of pictures held out of the training set, over steps", marks=True,
    )  # fmt: skip
    return [("Loss", loss), ("SAD of training pictures that were held out", held)]


def _settings(found: Report) -> list[Table]:
    rows = [
        (Code(name), Code("-" if value is None else value)) for name, value in sorted(found.settings.to_json().items())
    ]
    done = [
        (
            training.domain,
            training.seed,
            result.steps,
            Figure(f"{result.seconds:.0f} s"),
            Figure(f"{result.images_per_second:.1f}"),
            result.device,
        )
        for training in found.trainings
        if (result := training.result) is not None
    ]
    return [
        table("Settings", ("Setting", "Value"), rows),
        table("Trainings", ("Trained on", "Seed", "Steps", "Time", "Crops/s", "Device"), done),
    ]


@dataclass(frozen=True)
class _Strip:
    """A picture of the obfuscated set with what networks made of it, or why it is not shown."""

    name: str
    pictures: Sequence[Picture] = ()
    problem: str = ""


def _pictures(out: Path, dataset: Dataset, design: Design, plan: CheckPlan) -> Iterator[_Strip]:
    """For some pictures of the obfuscated set: image, truth, and prediction and error of each protocol."""
    test = design.test("P") or design.test("P-normal")
    if test is None or dataset.layout.sets[test.set].content is not Content.OBFUSCATED:
        return
    names = plan.tested.get(test.set, [])
    rows = [row for row in design.rows if row.test.set == test.set]
    number = min(MOST_PICTURES, len(names))
    items = dataset.items(test.set)
    for name in (names[i * len(names) // number] for i in range(number)):
        files = [(row, prediction_file(out, row.trained, 0, row.test, name)) for row in rows]
        made = [(row, path) for row, path in files if path.is_file()]
        if not made:
            continue
        try:
            yield _strip(dataset, {k: v[0] for k, v in items[name].files.items()}, name, made)
        except (BadFile, BrokenInput, OSError) as exc:
            yield _Strip(name, problem=str(exc))


def _strip(dataset: Dataset, files: Mapping[str, str], name: str, made: Sequence[tuple[DesignRow, Path]]) -> _Strip:
    truth = read_grey(dataset.root / files["alpha"])
    mask = read_grey(dataset.root / files["facemask"]) > 0 if "facemask" in files else None
    small, *_ = thumbnail(decode((dataset.root / files["image"]).read_bytes()), mask, _SIDE)
    cells = [picture(small, "image/jpeg", "image"), picture(small_grey(truth, _SIDE), "image/png", "truth")]
    for row, path in made:
        predicted = read_grey(path)
        error = np.abs(predicted.astype(np.int16) - truth).astype(np.uint8)
        sad = float(error.sum(dtype=np.float64)) / 255 / 1000
        cells.append(picture(small_grey(predicted, _SIDE), "image/png", f"{row.protocol} prediction"))
        cells.append(picture(small_grey(error, _SIDE), "image/png", f"{row.protocol} error, SAD {sad:.3g}"))
    return _Strip(name, cells)
