"""The picture of an advice: privacy against cost, from the figures of advice.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from p3mdata.base.chart import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    VERMILION,
    Label,
    bare,
    label_points,
    legend_below,
    panels,
    png,
)
from p3mdata.config import Method
from p3mdata.typing import Json

_TICKS = (1, 2, 3, 5, 10, 15, 20, 30, 40, 50, 70, 100, 150, 200)
_MARKS = {
    Method.BLUR: ("o", BLUE), Method.MOSAIC: ("s", VERMILION), Method.PIXELISE_THEN_BLUR: ("D", PURPLE),
    Method.DP_PIX: ("^", GREEN), Method.FLAT: ("P", ORANGE), Method.ZERO: ("X", "black"),
}  # fmt: skip


def draw(advice: Json) -> bytes:
    """PNG: the worst attacker's rank-1 against the cost's proxy, a mark per setting; equal figures give equal bytes.

    What train-checks measured stands in a second panel, where it can be compared with nothing but its like.
    """
    measured = [tried for tried in advice["tried"] if tried["train_check"]]
    figure, (first, *more) = panels(1, 2 if measured else 1, (11.4 if measured else 8.2, 5.2), sharey=True)
    _points(first, advice, advice["tried"], [(t["distortion"], 0.0, 0.0) for t in advice["tried"]])
    if min(t["distortion"] for t in advice["tried"]) > 0:
        from matplotlib.ticker import FixedLocator

        # Black changes several times as much as the others, which lie close.
        first.set_xscale("log")
        first.xaxis.set_major_locator(FixedLocator(_TICKS))
        first.xaxis.set_major_formatter("{x:g}")
        first.xaxis.set_minor_formatter("")
    first.set_xlabel("change of hidden pixels, levels of 255 (proxy: no network was trained)", fontsize=9)
    first.set_ylabel("rank-1 rate of the worst attacker, %", fontsize=9)
    for axes in more:
        _points(axes, advice, measured, [_cost(t["train_check"]) for t in measured])
        smoke = not all(t["train_check"]["benchmark"] for t in measured)
        axes.set_xlabel(
            "cost by train-check, SAD of B:N - N:N" + (" (smoke check: no evidence)" if smoke else ""), fontsize=9
        )
    title = f"Privacy against cost: {advice['photos']} photographs of {advice['people']} people"
    figure.suptitle(title, fontsize=11)
    legend_below(figure, [first], 5, 8.5)
    label_points(figure, first, _labels(advice["tried"], [t["distortion"] for t in advice["tried"]]))
    for axes in more:
        label_points(figure, axes, _labels(measured, [t["train_check"]["value"] for t in measured]))
    return png(figure)


def _cost(measured: Json) -> tuple[float, float, float]:
    """A cost, and how far its interval reaches below and above; 0 where it has none."""
    value = measured["value"]
    ends = [value if measured[end] is None else measured[end] for end in ("low", "high")]
    return value, value - ends[0], ends[1] - value


def _points(axes: Any, advice: Json, tried: Sequence[Json], costs: Sequence[tuple[float, float, float]]) -> None:
    """A mark with its intervals for each setting, and the levels to compare with."""
    bare(axes, "both")
    named = set()
    for one, (cost, below, above) in zip(tried, costs, strict=True):
        method = Method(one["method"].split()[0])
        (marker, colour), rank1 = _MARKS[method], one["rank1"]
        value = 100 * rank1["value"]
        axes.errorbar(
            [cost], [value], [[value - 100 * rank1["low"]], [100 * rank1["high"] - value]],
            [[below], [above]] if below or above else None, color=colour, marker=marker, markersize=7, capsize=3,
            linestyle="none", label=None if method in named else method.value,
        )  # fmt: skip
        named.add(method)
    levels = {"wanted": ("-", advice["max_rank1"]), "guessing": ("--", advice["chance"])}
    levels["worst under black masks"] = (":", advice["floor"]["value"])
    for words, (style, level) in levels.items():
        axes.axhline(100 * level, color=GREY, linewidth=1.2, linestyle=style, label=words)
    most = max(*(t["rank1"]["high"] for t in advice["tried"]), *(level for _, level in levels.values()), 0.2)
    axes.set_ylim(-3, 108 * min(most, 1.0))


def _labels(tried: Sequence[Json], costs: Sequence[float]) -> list[Label]:
    """The strength beside each mark, or epsilon; nothing where there is none to choose."""
    found = []
    for one, cost in zip(tried, costs, strict=True):
        name, strength, *noise = one["method"].split()
        method, rank1 = Method(name), one["rank1"]
        words = f"ε {noise[1]}" if noise else strength
        words = "" if method in (Method.ZERO, Method.FLAT) else words
        span = (100 * rank1["low"], 100 * rank1["high"])
        found.append(Label((cost, 100 * rank1["value"]), span, words, _MARKS[method][1]))
    return found
