"""The plot of error against time: one panel per set, a point per method with the 95 % interval of its SAD."""

from __future__ import annotations

from typing import Any, NamedTuple

from p3mdata.base.chart import BLUE, GREY, PURPLE, VERMILION, bare, legend_below, panels, png
from p3mnet.baselines import Family
from p3mnet.benchmark.results import Benchmark
from p3mnet.evaluate import Mean

_STYLES = {Family.CLASSIC: (BLUE, "o"), Family.DEEP: (PURPLE, "D"), Family.FREE: (VERMILION, "s")}
# Errors beyond this ratio are drawn on a logarithmic axis.
_FAR_APART = 20
# Height of a line of text and width of a name, as shares of a panel.
_LINE, _WORD = 0.045, 0.28


class Point(NamedTuple):
    """A method on a set."""

    set: str
    title: str
    family: Family
    seconds: float
    sad: Mean


def points(found: Benchmark) -> list[Point]:
    """What can be drawn: methods with a time and an error."""
    return [
        Point(name, result.title, result.family, result.timing.median, result.sets[name].means["SAD"])
        for name in found.sets
        for result in found.results
        if result.timing and name in result.sets and "SAD" in result.sets[name].means
    ]


def draw(found: Benchmark) -> bytes:
    """PNG file; equal figures give equal bytes, and nothing but pixels is in the file.

    Raises:
        ValueError: There is no point.
    """
    drawn = points(found)
    if not drawn:
        raise ValueError("no method has both a time and an error")
    names = [name for name in found.sets if any(point.set == name for point in drawn)]
    figure, grid = panels(1, len(names), (6.4 * len(names), 5.0))
    for axes, name in zip(grid, names, strict=True):
        _panel(axes, [point for point in drawn if point.set == name])
        axes.set_title(f"{name}, {found.sets[name]} images", fontsize=11, fontweight="bold")
    grid[0].set_ylabel("SAD, mean and 95 % interval (lower is better)", fontsize=9)
    legend_below(figure, grid, 3, 9)
    return png(figure)


def _panel(axes: Any, drawn: list[Point]) -> None:
    axes.set_xscale("log")
    bare(axes, "both")
    axes.set_xlabel("seconds per 512x512 picture, logarithmic", fontsize=9)
    for point in drawn:
        colour, marker = _STYLES[point.family]
        sad = point.sad
        axes.errorbar(
            [point.seconds], [sad.value], [[sad.value - sad.low], [sad.high - sad.value]], color=colour, marker=marker,
            markersize=6, capsize=3, linewidth=1.2, linestyle="none", label=point.family.value,
        )  # fmt: skip
    lowest, highest = min(point.sad.low for point in drawn), max(point.sad.high for point in drawn)
    if lowest > 0 and highest > _FAR_APART * lowest:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    else:
        axes.set_ylim(bottom=0)
    times = [point.seconds for point in drawn]
    axes.set_xlim(min(times) / 3, max(times) * 6)
    axes.xaxis.set_major_formatter("{x:g}")
    _label(axes, drawn)


def _label(axes: Any, drawn: list[Point]) -> None:
    """Names right of the points, moved up along a line where they would lie on one another."""
    to_share = axes.transData + axes.transAxes.inverted()
    taken: list[tuple[float, float]] = []
    for point in sorted(drawn, key=lambda each: each.sad.value):
        x, y = to_share.transform((point.seconds, point.sad.value))
        while any(abs(y - other_y) < _LINE and abs(x - other_x) < _WORD for other_x, other_y in taken):
            y += _LINE / 4
        taken.append((x, y))
        axes.annotate(
            point.title.partition(" (")[0], (point.seconds, point.sad.value), (x + 0.02, y),
            textcoords="axes fraction", fontsize=8, va="center", color=GREY,
            arrowprops={"arrowstyle": "-", "color": "#BBBBBB", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 4},
        )  # fmt: skip
