"""Tables of a benchmark in the layouts of the paper's tables 2 to 5 and 11, as text, JSON and CSV."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from p3mdata.base.tables import csv_line
from p3mnet.baselines import Family
from p3mnet.benchmark import plot
from p3mnet.benchmark.results import Benchmark, MethodResult, State
from p3mnet.benchmark.store import FIGURES, IMAGES, PAGE, PLOT, TABLES, Store
from p3mnet.evaluate import COLUMNS, FACE, Mean
from p3mnet.metrics import NAMES

# In the paper's order; digits after the point.
_METRICS = {
    "SAD": 2, "MSE": 4, "MAD": 4, "GRAD": 2, "CONN": 2, "SAD_T": 2, "MSE_T": 4, "MAD_T": 4, "SAD_FG": 2, "SAD_BG": 2,
}  # fmt: skip
assert set(_METRICS) == set(NAMES)


def write(found: Benchmark, store: Store) -> None:
    """Write tables, figures, plot and the figures of each picture."""
    store.write(store.out / TABLES, (tables(found) + "\n").encode("utf-8", "surrogateescape"))
    row = json.dumps(found.to_json(), sort_keys=True, indent=1) + "\n"
    store.write(store.out / FIGURES, row.encode("ascii"))
    store.write(store.out / IMAGES, _images(found).encode("utf-8", "surrogateescape"))
    if plot.points(found):
        store.write(store.out / PLOT, plot.draw(found))


def files(found: Benchmark) -> dict[str, Path]:
    """What was written, by what it is."""
    every = {"tables": TABLES, "figures": FIGURES, "images": IMAGES} | ({"plot": PLOT} if plot.points(found) else {})
    every |= {"page": PAGE} if (found.out / PAGE).is_file() else {}
    return {what: found.out / name for what, name in every.items()}


def tables(found: Benchmark) -> str:
    """All tables in Markdown: figures by set and family, parameters and time, what has no figures and why."""
    version = f", version {found.version}" if found.version else ""
    sets = ", ".join(f"{name} {count} images" for name, count in found.sets.items())
    lines = [f"# Benchmark on {found.dataset.resolve().name}{version}: {sets}", ""]
    lines += [f"Note: {note}" for note in found.notes] + ([""] if found.notes else [])
    for name in found.sets:
        for family in Family:
            lines += _set_table(found, name, family)
    lines += _cost_table(found)
    lines += _remarks(found)
    return "\n".join(lines).rstrip()


def _set_table(found: Benchmark, name: str, family: Family) -> Iterator[str]:
    results = [result for result in found.results if result.family is family]
    if not any(name in result.sets for result in results):
        return
    yield from (f"## {name}: {family.value}", "")
    head = ["method", "SAD (95 %)", *(_heading(metric) for metric in list(_METRICS)[1:])]
    facemasks = any(FACE in result.sets[name].means for result in results if name in result.sets)
    body = []
    for result in results:
        means = result.sets[name].means if name in result.sets else {}
        cells = [_value(means.get(metric), digits) for metric, digits in _METRICS.items()]
        sad = means.get("SAD")
        if sad is not None:
            cells[0] += f" ({sad.low:.2f}-{sad.high:.2f})"
        more = [_value(means.get(FACE), 2)] if facemasks else []
        mark = " *" if result.state is State.INCOMPLETE else ""
        body.append([result.title + mark, *cells, *more] if means else [result.title, result.state.value])
    yield from _grid([*head, *(["SAD-FACE"] if facemasks else [])], body)
    yield ""


def _cost_table(found: Benchmark) -> Iterator[str]:
    """The paper's table 11: what a method costs and what it comes to."""
    yield from ("## Parameters and time", "")
    devices = dict.fromkeys(result.timing.device for result in found.results if result.timing)
    head = ["method", "parameters", "s per 512x512", "trials", *(f"SAD, {name}" for name in found.sets)]
    head += ["device"] if len(devices) > 1 else []
    body = []
    for result in found.results:
        timing = result.timing
        cells = [result.title, "-" if result.parameters is None else f"{result.parameters:,}"]
        cells += [f"{timing.median:.4f}" if timing else "-", str(timing.trials) if timing else "-"]
        for name in found.sets:
            mean = result.sets[name].means.get("SAD") if name in result.sets else None
            cells.append(_value(mean, 2) if mean else result.sentence if _untrained(result) else result.state.value)
        body.append(cells + ([timing.device if timing else "-"] if len(devices) > 1 else []))
    yield from _grid(head, body)
    yield ""
    if devices:
        loads = [result.timing.load for result in found.results if result.timing and result.timing.load is not None]
        beside = f"; load average of the machine {min(loads):.1f}-{max(loads):.1f}" if loads else ""
        yield f"Seconds: median of the trials after a warm-up, on {'; '.join(devices)}{beside}."
    yield (
        f"Classic methods and ONNX files of open size see pictures with no side above {found.settings.max_side} px; "
        f"networks look in mode {found.settings.mode}. Intervals: bootstrap over images."
    )
    yield ""


def _untrained(result: MethodResult) -> bool:
    return result.state is State.UNTRAINED


def _remarks(found: Benchmark) -> Iterator[str]:
    told = [result for result in found.results if result.state is not State.DONE]
    if not told:
        return
    yield from ("## What has no figures, or not all", "")
    for result in told:
        trace = f" (trace: {result.trace.relative_to(found.out)})" if result.trace else ""
        yield f"- {result.label}: {result.sentence}{trace}"


def _heading(metric: str) -> str:
    return {"GRAD": "Grad", "CONN": "Conn"}.get(metric, metric.replace("_", "-"))


def _value(mean: Mean | None, digits: int) -> str:
    return "-" if mean is None else f"{mean.value:.{digits}f}"


def _grid(head: Sequence[str], body: Sequence[Sequence[str]]) -> Iterator[str]:
    """A Markdown table with aligned columns."""
    filled = [[*row, *[""] * (len(head) - len(row))] for row in body]
    widths = [max(len(row[i]) for row in (head, *filled)) for i in range(len(head))]
    for number, row in enumerate((head, *filled)):
        cells = [cell.rjust(widths[i]) if i else cell.ljust(widths[i]) for i, cell in enumerate(row)]
        yield f"| {' | '.join(cells)} |"
        if number == 0:
            yield "|" + "|".join("-" * (width + 1) + (":" if i else "-") for i, width in enumerate(widths)) + "|"


def _images(found: Benchmark) -> str:
    lines = [csv_line(["method", "set", "image", *COLUMNS, "problem"])]
    for result in found.results:
        for row in result.rows:
            values = [f"{row.values[name]:.9g}" if name in row.values else "" for name in COLUMNS]
            lines.append(csv_line([result.label, row.set, row.stem, *values, row.problem]))
    return "".join(lines)
