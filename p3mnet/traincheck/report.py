"""report.json: tables 4 and 8, costs, rules and the verdict, from the scores that are there. No original is named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p3mdata.config import Method, Settings
from p3mdata.dataset.folder import Dataset
from p3mdata.typing import Json
from p3mdata.version import __version__
from p3mnet.evaluate import COLUMNS
from p3mnet.traincheck.config import Scale
from p3mnet.traincheck.experiments import read_scores, training_result
from p3mnet.traincheck.plan import CheckPlan, Schedule
from p3mnet.traincheck.protocols import BLURRED, NORMAL, Design, Test, trainings
from p3mnet.traincheck.statistics import (
    HOW,
    LEARNED,
    Cost,
    Rule,
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
RULES = (
    "pass: every rule passes. fail: a check of the dataset fails, or the whole interval of the cost lies above the "
    "tolerance. inconclusive: all else, such as an interval that holds the tolerance, fewer than two seeds, networks "
    f"that have not learned (mean SAD above {LEARNED:.0%} of that of a constant matte), no originals, or a smoke check."
)


class Results:
    """Scores of all networks on all tests, read once.

    Args:
        out: The train-check's folder.
        design: What is trained and tested.
        plan: What was decided.
    """

    def __init__(self, out: Path, design: Design, plan: CheckPlan) -> None:
        self.names = plan.tested
        self.seeds = int(plan.settings["seeds"])
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

    def means(self, domain: str, test: Test) -> Json:
        """Mean and spread by metric; metrics without any value are left out."""
        found = {metric: spread_of(self.table(domain, test, metric)) for metric in COLUMNS}
        return {metric: spread.to_json() for metric, spread in found.items() if spread is not None}

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
    plan: CheckPlan,
    stopped: str | None = None,
    notes: Sequence[str] = (),
) -> Json:
    """Content of report.json.

    Args:
        out: The train-check's folder.
        dataset: The dataset.
        design: What is trained and tested.
        plan: What was decided; of a dataset whose checks failed it has no schedule.
        stopped: Why it ended early, if it did.
        notes: Sentences to add.
    """
    results = Results(out, design, plan)
    groups = {str(row["id"]): int(row["group"]) for row in dataset.rows() if "group" in row}
    table_4 = [
        {"protocol": row.protocol, "test": row.test.key, "set": row.test.set, "shown": row.test.title,
         "pictures": len(results.names.get(row.test.set, [])), "metrics": results.means(row.trained, row.test)}
        for row in design.rows
    ]  # fmt: skip
    rules = [*plan.rules]
    schedule = plan.schedule
    costs = list(_costs(design, results, groups))
    if schedule is not None:
        rules += _later_rules(design, plan, schedule, table_4, costs)
    if stopped is not None and schedule is not None:
        rules.append(Rule("complete", State.INCONCLUSIVE, stopped))
    told = {} if schedule is None else schedule.to_json()
    return {
        "tool": f"p3mdata {__version__}",
        "kind": plan.scale.words,
        "scale": plan.scale.value,
        "domains": {domain: _obfuscation(domain, dataset) for domain in design.domains},
        "verdict": overall(rules).value,
        "verdict_rules": RULES,
        "complete": stopped is None,
        "stopped": stopped,
        "rules": [rule.to_json() for rule in rules],
        "table_4": table_4,
        "table_8": _table_8(design, results),
        "costs": costs,
        "interval": HOW,
        "tolerance": plan.settings["tolerance"],
        "notes": [*design.notes, *notes],
        "problems": results.problems(),
        "settings": plan.settings,
        "recipe": plan.recipe,
        "device": plan.device,
        "layout": dataset.layout.name,
        "training_pictures": told.get("pictures"),
        "tested": {name: {"pictures": len(names), "of": told["of"][name]} for name, names in results.names.items()},
        "budget": {key: told.get(key) for key in ("steps", "batch", "epochs", "seconds")},
        "trainings": list(_trainings(out, design, results.seeds)),
        "figures": plan.figures,
    }


def _obfuscation(domain: str, dataset: Dataset) -> str | None:
    """What a training saw of faces, as `Settings.named` says it; None where the dataset does not tell, 'none' for N."""
    if domain == NORMAL:
        return "none"
    if domain == BLURRED:
        return Settings(**dataset.about["settings"]).named() if "settings" in dataset.about else None
    return Settings(method=Method(domain)).named()


def _trainings(out: Path, design: Design, seeds: int) -> Iterable[Json]:
    for domain, seed in trainings(design.domains, seeds):
        done = training_result(out, domain, seed)
        row: Json = {"domain": domain, "seed": seed, "done": done is not None}
        if done is not None:
            row |= {key: done[key] for key in ("steps", "seconds", "images_per_second", "device", "precision")}
            row["left_out"] = len(done["skipped"])
        yield row


def _table_8(design: Design, results: Results) -> list[Json]:
    """Every network that was trained for the comparison of methods, on everything that it was tested on."""
    if not design.methods:
        return []
    words = {domain: method for method, domain in design.methods.items()} | {NORMAL: "none"}
    return [
        {"trained": words.get(domain, domain), "domain": domain, "test": test.key, "shown": test.title,
         "metrics": results.means(domain, test)}
        for domain, test in sorted(design.pairs, key=lambda pair: (design.domains.index(pair[0]), pair[1].key))
    ]  # fmt: skip


def _costs(design: Design, results: Results, groups: Mapping[str, int]) -> Iterable[Json]:
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
        told = {metric: cost.to_json() for metric, cost in found.items() if cost is not None}
        yield {"domain": domain, "test": test.key, "shown": test.title, "metrics": told}


def _later_rules(
    design: Design,
    plan: CheckPlan,
    schedule: Schedule,
    table_4: Sequence[Mapping[str, Any]],
    costs: Sequence[Mapping[str, Any]],
) -> list[Rule]:
    """Rules about what came of the trainings."""
    learning = [
        (f"{row['protocol']} on {row['test']}", row["metrics"]["SAD"]["value"], schedule.constant[row["set"]])
        for row in table_4
        # What N:B costs is the other kind of picture, not too little learning.
        if "SAD" in row["metrics"] and row["protocol"] != "N:B"
    ]
    if not learning:
        return [Rule("learning", State.INCONCLUSIVE, "no network is tested yet")]
    more = longer(
        schedule.steps, schedule.training_seconds, schedule.testing_seconds, plan.settings["epochs"] is not None
    )
    rules = [judge_learning(learning, more)]
    wanted = plan.settings["protocols"]
    if wanted is not None and not {"B:N", "N:N"} <= set(wanted):
        # Whoever chose other protocols did not ask for the cost.
        return rules
    judged = design.judged
    why = "not measured yet"
    if judged is None:
        why = "it takes B:N and N:N, and for both the photographs before anonymization (--originals DIR)"
    found = [row["metrics"] for row in costs if judged and row["test"] == judged.key and row["domain"] == BLURRED]
    cost = Cost(**found[0]["SAD"]) if found and "SAD" in found[0] else None
    smoke = plan.scale is Scale.SMOKE
    learned = rules[0].state is State.PASS
    seconds = plan.schedule.training_seconds + plan.schedule.testing_seconds if plan.schedule else None
    return [*rules, judge_cost(cost, plan.settings["tolerance"], smoke, learned, why, seconds)]
