"""`p3mdata stats`: what is in a run or a dataset, in tables and one picture."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p3mdata.base.addresses import refuse_address
from p3mdata.base.chart import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, bare, panels, png
from p3mdata.dataset.attributes import TRAITS, resolution_of, traits_of
from p3mdata.dataset.folder import Dataset, open_dataset
from p3mdata.errors import not_finished
from p3mdata.imaging import decode
from p3mdata.records import Outcome
from p3mdata.run.layout import PLAN
from p3mdata.run.plan import read_plan
from p3mdata.run.rows import Rows
from p3mdata.typing import Json

# Values in the order in which they are read; others come after them as they are.
_ORDER = (
    *("under 720", "720+", "1080+", "2160+"),
    *("under 5 %", "5 %+", "10 %+", "20 %+", "40 %+"),
    *("frontal", "turned", "profile", "back"),
    *(outcome.value for outcome in Outcome),
)
_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION)
_DPI = 130
_SOURCES = "sources"


def _place(value: str) -> tuple[int, str]:
    return _ORDER.index(value) if value in _ORDER else len(_ORDER), value


@dataclass(frozen=True)
class Stats:
    """Images by trait, value and set; a run has one set of the name `released`, and outcomes of all its sources.

    Attributes:
        name: Layout of the dataset, or "run".
        sets: Images of each set.
        tables: By trait and value, values in the order in which people read them, the images of each set.
    """

    name: str
    sets: dict[str, int]
    tables: dict[str, dict[str, dict[str, int]]]

    def __post_init__(self) -> None:
        tables = {
            trait: {value: table[value] for value in sorted(table, key=_place)} for trait, table in self.tables.items()
        }
        object.__setattr__(self, "tables", tables)

    def to_json(self) -> Json:
        return {"name": self.name, "sets": self.sets, "tables": self.tables}


def stats_of(path: Path) -> Stats:
    """Statistics of a run folder or of a dataset.

    For datasets of others only sizes are known; their pictures are opened for that.

    Raises:
        SettingsError, RunFolderError: Neither a run nor a dataset.
    """
    refuse_address(path)
    if (path / PLAN).is_file():
        return _of_run(path)
    dataset = open_dataset(path)
    if dataset.about:
        return Stats(dataset.layout.name, dataset.about.sets, dataset.about.balance)
    return _of_foreign(dataset)


def _of_run(out: Path) -> Stats:
    plan, _ = read_plan(out)
    counts: dict[str, Counter[str]] = {trait: Counter() for trait in TRAITS}
    outcomes: Counter[str] = Counter()
    methods: Counter[str] = Counter()
    for row in Rows(plan):
        outcomes[row.outcome.value] += 1
        if row.outcome.released:
            methods[row.method or "none"] += 1
            for trait, value in traits_of(row).items():
                counts[trait][value] += 1
    if outcomes.total() != plan.samples:
        raise not_finished(out)
    tables = {**counts, "method": methods}
    of_sets = {trait: {value: {"released": n} for value, n in c.items()} for trait, c in tables.items()}
    of_sets["outcome"] = {value: {_SOURCES: number} for value, number in outcomes.items()}
    return Stats("run", {"released": methods.total(), _SOURCES: plan.samples}, of_sets)


def _of_foreign(dataset: Dataset) -> Stats:
    sets: dict[str, int] = {}
    sizes: dict[str, dict[str, int]] = {}
    for name in dataset.sets():
        items = list(dataset.items(name).values())
        sets[name] = len(items)
        for item in items:
            path = item.path("image")
            if path is not None:
                height, width = decode((dataset.root / path).read_bytes()).size
                by_set = sizes.setdefault(resolution_of(width, height), {})
                by_set[name] = by_set.get(name, 0) + 1
    return Stats(dataset.layout.name, sets, {"resolution": sizes})


def draw(stats: Stats) -> bytes:
    """PNG: one panel of bars per trait, sets side by side as shares of each set; equal figures give equal bytes."""
    traits = [(trait, table) for trait, table in stats.tables.items() if table]
    columns = min(3, len(traits))
    lines = -(-len(traits) // columns)
    figure, grid = panels(lines, columns, (4.2 * columns, 3.2 * lines))
    for axes, (trait, table) in zip(grid, traits, strict=False):
        _panel(axes, trait, table)
    for axes in grid[len(traits) :]:
        axes.set_axis_off()
    return png(figure, _DPI)


# Panels of few values have bars as wide as others.
_LEAST_ROWS = 3


def _panel(axes: Any, trait: str, table: dict[str, dict[str, int]]) -> None:
    names = sorted({name for row in table.values() for name in row})
    values = list(table)
    height = 0.8 / len(names)
    for number, name in enumerate(names):
        total = sum(row.get(name, 0) for row in table.values()) or 1
        counts = [table[value].get(name, 0) for value in values]
        places = [i + (number - (len(names) - 1) / 2) * height for i in range(len(values))]
        bars = axes.barh(
            places, [100 * found / total for found in counts], height, label=f"{name} ({total:,})",
            color=_COLOURS[number % len(_COLOURS)],
        )  # fmt: skip
        axes.bar_label(bars, [f"{found:,}" for found in counts], padding=3, fontsize=7)
    axes.set_yticks(range(len(values)), [value.replace("_", " ") for value in values], fontsize=8)
    axes.set_ylim(max(len(values), _LEAST_ROWS) - 0.5, -0.5)
    # The figure at the end of a full bar has room as well.
    axes.set_xlim(0, 115)
    axes.set_xticks(range(0, 101, 25))
    axes.set_xlabel("% of all sources" if names == [_SOURCES] else "% of the set", fontsize=8)
    axes.set_title(trait.replace("_", " "), fontsize=10, fontweight="bold", pad=6 + 11 * -(-len(names) // 2))
    # Above the bars, where it covers none.
    axes.legend(
        fontsize=7, frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0, borderpad=0.2
    )
    bare(axes, size=8)
