"""The report: tables 4 and 8, costs, rules and the verdict, from the scores that are there. No original is named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p3mdata.config import Method, Settings
from p3mdata.dataset.folder import Dataset
from p3mnet.evaluate import COLUMNS
from p3mnet.traincheck.config import Scale, TrainCheckSettings
from p3mnet.traincheck.experiments import read_scores, training_result
from p3mnet.traincheck.plan import CheckPlan, Schedule
from p3mnet.traincheck.protocols import BLURRED, NORMAL, Design, Test, trainings
from p3mnet.traincheck.results import CostFigures, MethodFigures, ProtocolFigures, Report, Training
from p3mnet.traincheck.statistics import (
    Rule,
    Spread,
    State,
    cost_of,
    judge_cost,
    judge_learning,
    longer,
    overall,
    spread_of,
)

Table = NDArray[np.float64]
# Metrics whose cost is told; the verdict is about the first.
COSTS = ("SAD", "MSE", "SAD_T", "SAD_FACE")


class Results:
    """Scores of all networks on all tests, read once.

    Args:
        out: The train-check's folder.
        design: What is trained and tested.
        names: Of the tested pictures by set.
        seeds: Trainings of each kind.
    """

    def __init__(self, out: Path, design: Design, names: Mapping[str, Sequence[str]], seeds: int) -> None:
        self.names, self.seeds = names, seeds
        self._pairs = design.pairs
        self._scores = {
            (domain, test.key, seed): read_scores(out, domain, seed, test)
            for domain, test in design.pairs
            for seed in range(self.seeds)
        }

    def table(self, domain: str, test: Test, metric: str) -> Table:
        """Pictures x seeds; NaN where there is no value."""
        names = self.names.get(test.set, [])
        found = np.full((len(names), self.seeds), np.nan)
        for seed in range(self.seeds):
            scores = self._scores.get((domain, test.key, seed)) or {}
            for number, name in enumerate(names):
                found[number, seed] = scores.get(name, {}).get(metric, np.nan)
        return found

    def means(self, domain: str, test: Test) -> dict[str, Spread]:
        """Mean and spread by metric; metrics without any value are left out."""
        found = {metric: spread_of(self.table(domain, test, metric)) for metric in COLUMNS}
        return {metric: spread for metric, spread in found.items() if spread is not None}

    def problems(self) -> list[str]:
        """Pictures that a test has no score for."""
        found = set()
        for domain, test in self._pairs:
            for seed in range(self.seeds):
                scores = self._scores[domain, test.key, seed]
                missing = set(self.names.get(test.set, ())) - set(scores or ()) if scores is not None else ()
                found |= {f"{name} could not be tested ({test.key})" for name in missing}
        return sorted(found)


def report_of(
    out: Path,
    dataset: Dataset,
    design: Design,
    settings: TrainCheckSettings,
    plan: CheckPlan,
    stopped: str | None = None,
    notes: Sequence[str] = (),
) -> Report:
    """What a train-check came to so far.

    Args:
        out: The train-check's folder.
        dataset: The dataset.
        design: What is trained and tested.
        settings: What was asked for.
        plan: What was decided; of a dataset whose checks failed it has no schedule.
        stopped: Why it ended early, if it did.
        notes: Sentences to add.
    """
    results = Results(out, design, plan.tested, settings.seeds)
    table_4 = tuple(
        ProtocolFigures(
            row.protocol, row.test.key, row.test.set, row.test.title, len(results.names.get(row.test.set, ())),
            results.means(row.trained, row.test),
        )
        for row in design.rows
    )  # fmt: skip
    groups = {str(row["id"]): int(row["group"]) for row in dataset.rows() if "group" in row}
    costs = tuple(_costs(design, results, groups))
    rules = [*plan.rules]
    if plan.schedule is not None:
        rules += _later_rules(design, settings, plan.scale, plan.schedule, table_4, costs)
        if stopped is not None:
            rules.append(Rule("complete", State.INCONCLUSIVE, stopped))
    return Report(
        scale=plan.scale,
        recipe=plan.recipe,
        device=plan.device,
        domains={domain: _obfuscation(domain, dataset) for domain in design.domains},
        verdict=overall(rules),
        stopped=stopped,
        rules=tuple(rules),
        table_4=table_4,
        table_8=tuple(_table_8(design, results)),
        costs=costs,
        notes=(*design.notes, *notes),
        problems=tuple(results.problems()),
        settings=settings,
        layout=dataset.layout.name,
        schedule=plan.schedule,
        trainings=tuple(
            Training(domain, seed, training_result(out, domain, seed))
            for domain, seed in trainings(design.domains, settings.seeds)
        ),
        figures=plan.figures,
    )


def _obfuscation(domain: str, dataset: Dataset) -> str | None:
    """What a training saw of faces, as `Settings.named` says it; None where the dataset does not tell, 'none' for N."""
    if domain == NORMAL:
        return "none"
    if domain == BLURRED:
        settings = dataset.run_settings()
        return None if settings is None else settings.named()
    return Settings(method=Method(domain)).named()


def _table_8(design: Design, results: Results) -> Iterator[MethodFigures]:
    """Every network that was trained for the comparison of methods, on everything that it was tested on."""
    if not design.methods:
        return
    words = {domain: method for method, domain in design.methods.items()} | {NORMAL: "none"}
    for domain, test in sorted(design.pairs, key=lambda pair: (design.domains.index(pair[0]), pair[1].key)):
        yield MethodFigures(words.get(domain, domain), domain, test.key, test.title, results.means(domain, test))


def _costs(design: Design, results: Results, groups: Mapping[str, int]) -> Iterator[CostFigures]:
    """Costs of each obfuscated training against N:N, on every test of normal pictures."""
    if NORMAL not in design.domains:
        return
    for domain, test in design.pairs:
        if domain == NORMAL or test.domain != NORMAL or (NORMAL, test) not in design.pairs:
            continue
        names = results.names.get(test.set, [])
        # Groups of the manifest are numbers from 0; a picture without one stands for itself.
        mine = [groups.get(name, -1 - number) for number, name in enumerate(names)]
        found = {
            metric: cost_of(results.table(domain, test, metric), results.table(NORMAL, test, metric), mine)
            for metric in COSTS
        }
        told = {metric: cost for metric, cost in found.items() if cost is not None}
        yield CostFigures(domain, test.key, test.title, told)


def _later_rules(
    design: Design,
    settings: TrainCheckSettings,
    scale: Scale,
    schedule: Schedule,
    table_4: Sequence[ProtocolFigures],
    costs: Sequence[CostFigures],
) -> list[Rule]:
    """Rules about what came of the trainings."""
    learning = [
        (f"{row.protocol} on {row.test}", row.metrics["SAD"].value, schedule.constant[row.set])
        for row in table_4
        # What N:B costs is the other kind of picture, not too little learning.
        if "SAD" in row.metrics and row.protocol != "N:B"
    ]
    if not learning:
        return [Rule("learning", State.INCONCLUSIVE, "no network is tested yet")]
    rest = schedule.before_seconds + schedule.testing_seconds
    more = longer(schedule.steps, schedule.training_seconds, rest, settings.epochs is not None)
    rules = [judge_learning(learning, more)]
    if settings.protocols is not None and not {"B:N", "N:N"} <= set(settings.protocols):
        # Whoever chose other protocols did not ask for the cost.
        return rules
    judged = design.judged
    why = "not measured yet"
    if judged is None:
        why = "it takes B:N and N:N, and for both the photographs before anonymization (--originals DIR)"
    found = [row.metrics for row in costs if judged and row.test == judged.key and row.domain == BLURRED]
    cost = found[0].get("SAD") if found else None
    learned = rules[0].state is State.PASS
    seconds = sum(schedule.seconds.values())
    return [*rules, judge_cost(cost, settings.tolerance, scale is Scale.SMOKE, learned, why, seconds)]
