"""What results look like in a terminal: tables and sentences, no more."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from p3mdata.base import console
from p3mdata.base.console import duration, one_line, plain_text, result, say
from p3mdata.base.html import count
from p3mdata.records import RELEASED, Outcome
from p3mdata.run.layout import ADVICE, ADVICE_PLOT, ATTACKERS, AUDIT, AUDIT_PLOT, LEDGER, RECALL, REPORT, TRACES

if TYPE_CHECKING:
    from p3mdata.audit.advice import Advice
    from p3mdata.audit.recall import Recall
    from p3mdata.run.attackers import Attackers
    from p3mdata.run.audit import Audit
    from p3mdata.run.close import RunSummary
    from p3mdata.run.status import Status
    from p3mnet.traincheck import TrainCheck
    from p3mnet.traincheck.results import MethodFigures, ProtocolFigures

_MEANING = {
    Outcome.ANONYMIZED: "faces masked, proofs hold",
    Outcome.NO_FACE_CONFIRMED: "no face, confirmed",
    Outcome.MASKED_BY_HAND: "masked as drawn by a person",
    Outcome.SHOWN_BY_PERMISSION: "faces shown by permission",
    Outcome.EXCLUDED: "left out by a rule or a person",
    Outcome.NEEDS_REVIEW: "held back: a person must decide",
    Outcome.BROKEN: "held back: the file cannot be used",
}
_SHOWN, _NAMED = 10, 5
_HELD_BACK = [outcome.value for outcome in (Outcome.NEEDS_REVIEW, Outcome.BROKEN, Outcome.EXCLUDED)]


def summary(run: RunSummary, report: Path) -> None:
    """Table of outcomes, what is held back and why, and where to look."""
    if console.out.json:
        result({**run.to_json(), "report": str(report)})
        return
    of_task = f", task {run.task}" if run.task else ""
    table = Table(title=f"{count(run.samples, 'source file')}{of_task}", title_justify="left")
    for heading in ("outcome", "files", "released", "meaning"):
        table.add_column(heading, justify="right" if heading == "files" else "left")
    for outcome in Outcome:
        number = run.outcomes[outcome.value]
        if outcome is Outcome.SHOWN_BY_PERMISSION and not number:
            continue
        table.add_row(outcome.value, f"{number:,}", "yes" if outcome in RELEASED else "no", _MEANING[outcome])
    table.add_section()
    table.add_row("total", f"{sum(run.outcomes.values()):,}", f"{run.released:,}", f"{count(run.faces, 'face')} masked")
    result(None, table)
    for source, state, reason in heapq.nsmallest(_SHOWN, run.held_back, key=_in_order):
        say(f"{state}: {one_line(source)} {_joined(reason)}")
    if len(run.held_back) > _SHOWN:
        say(f"... and {len(run.held_back) - _SHOWN} more in {run.out}/{LEDGER}")
    if run.seconds:
        say(f"{run.seconds:.1f} s, {run.samples / run.seconds:.2f} images/s")
    if run.shards_left:
        are = "is" if run.shards_left == 1 else "are"
        of_others = f"{count(run.shards_left, 'shard')} of other tasks"
        result(None, f"{of_others} {are} not done: p3mdata status {run.out}")
        return
    result(None, f"report: {report}\nimages: {run.out / 'images'}")


def _in_order(held: tuple[str, str, str]) -> tuple[int, str]:
    """What waits for a person, then what is broken, each by name: rows are in the order of ids, which says nothing."""
    source, state, _ = held
    return _HELD_BACK.index(state), source


def first_of(lines: list[str], where: Path | None, everything: bool) -> list[str]:
    """The first entries of a kind, a line each, and where the others are; all of them when that was asked for."""
    lines = list(map(one_line, lines))
    if everything or len(lines) <= _SHOWN:
        return lines
    elsewhere = ":" if where is None else f" in {where}, or with"
    return [*lines[:_SHOWN], f"... and {len(lines) - _SHOWN:,} more{elsewhere} --all"]


def status(found: Status, run: Path) -> None:
    """How far a run is: outcomes, shards, speed, faults, and what to do next."""
    if console.out.json:
        result({"out": str(run), **found.to_json()})
        return
    table = Table(title=f"{found.done:,} of {found.samples:,} source files", title_justify="left")
    table.add_column("outcome")
    table.add_column("files", justify="right")
    for name, number in found.outcomes.items():
        table.add_row(name, f"{number:,}")
    table.add_section()
    for name, number in found.reasons.items():
        table.add_row(f"because of {name}", f"{number:,}")
    result(None, table)
    shards = found.shards
    lines = [f"shards: {shards['done']:,} done, {shards['begun']:,} begun, {shards['left']:,} left"]
    if found.rate:
        left = f", {duration(found.seconds_left)} left at this rate" if found.seconds_left else ""
        lines.append(f"speed: {found.rate:.2f} images/s over the last shards{left}")
    if found.idle_seconds is not None and not found.closed:
        lines.append(f"last image or shard: {duration(found.idle_seconds)} ago")
    if found.traces:
        lines.append(f"faults of the program: {found.traces} in {run}/{TRACES}")
    if found.closed:
        lines.append(f"closed: {run / REPORT}")
    elif not shards["begun"] and not shards["left"]:
        lines.append(f"all shards are done, manifest and report are to be written: p3mdata merge {run}")
    result(None, "\n".join(lines))


def counts(sets: dict[str, int], tables: dict[str, dict[str, dict[str, int]]], row: Any) -> None:
    """Tables of images by value and set."""
    if console.out.json:
        result(row)
        return
    result(None, ", ".join(f"{name}: {number:,}" for name, number in sets.items()))
    for title, values in tables.items():
        names = sorted({name for by_set in values.values() for name in by_set})
        table = Table(title=title.replace("_", " "), title_justify="left")
        table.add_column("")
        for name in names:
            table.add_column(plain_text(name), justify="right")
        for value, by_set in values.items():
            table.add_row(plain_text(value), *(f"{by_set.get(name, 0):,}" for name in names))
        result(None, table)


def audit(found: Audit, run: Path, beside: Mapping[str, int]) -> None:
    """Table of an audit: how often software finds the right person, with 95 % intervals."""
    if console.out.json:
        result({**found.to_json(), **beside})
        return
    from p3mdata.run.audit import COMPARISONS

    table = Table(title=f"{found.photos} photographs of {found.identities} people", title_justify="left")
    for heading in ("compared", "rank-1 %", "95 %", f"TAR % at FAR {found.threshold.far:.2g}"):
        table.add_column(heading, justify="left" if heading == "compared" else "right")
    for row in found.rows:
        rank1, tar = row.rank1, row.tar
        interval = f"{100 * rank1.low:.0f}-{100 * rank1.high:.0f}"
        table.add_row(COMPARISONS[row.key][0], f"{100 * rank1.value:.1f}", interval, f"{100 * tar.value:.1f}")
    result(None, table)
    left = ", ".join(f"{number} {why}" for why, number in sorted(found.left_out.items()))
    say(f"guessing: {100 * found.chance:.1f} %" + (f"; left out: {left}" if left else ""))
    if found.max_rank1 is not None:
        verdict = "passed" if found.passed else "NOT passed"
        say(f"gate {100 * found.max_rank1:g} %: worst rank-1 is {100 * found.worst_rank1:.1f} %: {verdict}")
    result(None, f"figures: {run / AUDIT}\nplot: {run / AUDIT_PLOT}\nreport: {run / REPORT}")


def attackers(found: Attackers, run: Path, beside: Mapping[str, int]) -> None:
    """Table of all attackers, and what may be claimed."""
    if console.out.json:
        result({**found.to_json(), **beside})
        return
    title = f"{found.method}: {found.photos} photographs of {found.people} people, {found.folds} folds"
    table = Table(title=title, title_justify="left")
    for heading in ("attacker", "rank-1 %", "95 %", "TAR %", "worst person %"):
        table.add_column(heading, justify="left" if heading == "attacker" else "right")
    for key, score in found.scores.items():
        interval = f"{100 * score.rank1.low:.0f}-{100 * score.rank1.high:.0f}"
        tar = "-" if score.tar is None else f"{100 * score.tar.value:.1f} at {score.far:g}"
        table.add_row(
            found.words[key], f"{100 * score.rank1.value:.1f}", interval, tar, f"{100 * score.worst_person:.0f}"
        )
    result(None, table)
    for name, rate in sorted(found.scores[found.worst].groups.items()):
        say(f"group {name}: {100 * rate.value:.1f} % ({100 * rate.low:.0f}-{100 * rate.high:.0f}), {rate.n} people")
    for key, why in sorted(found.not_run.items()):
        say(f"not run: {key} ({why})")
    result(None, f"{found.claim()}.\nfigures: {run / ATTACKERS}")


def recall(found: Recall, still_in: Sequence[tuple[str, int | None]]) -> None:
    """What a second look came to, what waits for a person, and where else those pictures lie."""
    if console.out.json:
        result({**found.to_json(), "still_in": [{"path": path, "pictures": number} for path, number in still_in]})
        return
    from p3mdata.run.report_audit import recall_sentences

    result(None, "\n".join(recall_sentences(found.figures, found.review)))
    for source, why in found.left_out:
        say(f"not looked at: {source} {_joined(why)}")
    if found.waiting:
        of = f"{len(found.waiting)} pictures wait" if len(found.waiting) > 1 else "1 picture waits"
        result(None, f"{of} for a person, held back again: p3mdata review {found.out}")
    for path, number in still_in:
        holds = "may hold some of them" if number is None else f"holds {number} of them"
        result(
            None, f"{path} {holds} with the face bare. When they are decided, build it again, or take them down now:"
        )
    if still_in:
        names = " ".join(found.waiting[:_NAMED]) + (" ..." if len(found.waiting) > _NAMED else "")
        result(None, f"  p3mdata remove {found.out} {names}")
    result(None, f"figures: {found.out / RECALL}\nreport: {found.out / REPORT}")


def advice(found: Advice, run: Path) -> None:
    """Table of what was tried, and what to take."""
    if console.out.json:
        result(found.to_json())
        return
    table = Table(title=f"{found.photos} photographs of {found.people} people", title_justify="left")
    # Flags are there to be copied: never cut.
    table.add_column("setting", min_width=max(len(word) for t in found.tried for word in t.flags().split()))
    measured = any(t.cost for t in found.tried)
    for heading in (
        "worst rank-1 %",
        "95 %",
        "attacker",
        "change (proxy)",
        *(["SAD (train-check)"] if measured else []),
    ):
        table.add_column(heading, justify="left" if heading == "attacker" else "right", overflow="fold")
    for tried in found.tried:
        rate = tried.rank1
        interval = f"{100 * rate.low:.0f}-{100 * rate.high:.0f}"
        cells = [tried.flags(), f"{100 * rate.value:.1f}", interval, tried.attacker, f"{tried.distortion:.1f}"]
        table.add_row(*cells, *([f"{tried.cost.value:+.2f}" if tried.cost else "-"] if measured else []))
    result(None, table)
    result(None, f"{found.sentence()}\nfigures: {run / ADVICE}\nplot: {run / ADVICE_PLOT}")


def train_check(found: TrainCheck) -> None:
    """Tables 4 and 8 of a train-check, its costs, rules and verdict."""
    from p3mnet.traincheck.statistics import short, told_interval

    if console.out.json:
        result({**found.report, "page": str(found.page)})
        return
    report = found.found
    if any(row.metrics for row in report.table_4):
        _spreads(f"{report.kind}: trained on : tested on", report.table_4)
    for metric in ("SAD", "SAD_T", "SAD_FACE"):
        _compared(report.table_8, metric)
    for row in report.costs:
        told = [f"{name} {short(cost.value, sign='+')} ({told_interval(cost)})" for name, cost in row.metrics.items()]
        result(None, f"cost on {row.test}, {row.domain}:N - N:N: " + "; ".join(told))
    for rule in report.rules:
        result(None, f"{rule.state.value}: {rule.name}: {rule.sentence}")
    for problem in report.problems:
        say(problem)
    result(None, f"{report.verdict.value} ({report.kind})\npage: {found.page}\nfigures: {found.out / 'report.json'}")


def _spreads(title: str, cells: Sequence[ProtocolFigures]) -> None:
    """A line per metric, a column per protocol and test."""
    from p3mnet.traincheck.statistics import told_spread

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for row in cells:
        table.add_column(f"{row.protocol}\n{row.test}", justify="right", no_wrap=True)
    for metric in dict.fromkeys(name for row in cells for name in row.metrics):
        table.add_row(metric, *(told_spread(row.metrics.get(metric), 1).replace(" ", "") for row in cells))
    result(None, table)


def _compared(cells: Sequence[MethodFigures], metric: str) -> None:
    """A line per obfuscation that was trained on, a column per one that was tested on."""
    from p3mnet.traincheck.statistics import told_spread

    if not any(metric in row.metrics for row in cells):
        return
    tests = list(dict.fromkeys(row.test for row in cells))
    title = f"{metric}: trained on (lines), tested on (columns)"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("", *tests):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for trained in dict.fromkeys(row.trained for row in cells):
        mine = {row.test: row.metrics.get(metric) for row in cells if row.trained == trained}
        table.add_row(trained, *(told_spread(mine.get(test), 1).replace(" ", "") for test in tests))
    result(None, table)


def _joined(reason: str) -> str:
    return reason if reason.startswith(("is ", "has ", "cannot ", "makes ", "met ")) else f"({reason})"
