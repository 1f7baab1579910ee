"""The picture of an advice: privacy against cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from p3mdata.audit.advice import Advice, Tried
from p3mdata.audit.costs import Measured
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

_TICKS = (1, 2, 3, 5, 10, 15, 20, 30, 40, 50, 70, 100, 150, 200)
_MARKS = {
    Method.BLUR: ("o", BLUE), Method.MOSAIC: ("s", VERMILION), Method.PIXELISE_THEN_BLUR: ("D", PURPLE),
    Method.DP_PIX: ("^", GREEN), Method.FLAT: ("P", ORANGE), Method.ZERO: ("X", "black"),
}  # fmt: skip


def draw(advice: Advice) -> bytes:
    """PNG: the worst attacker's rank-1 against the cost's proxy, a mark per setting; equal figures give equal bytes.

    What train-checks measured stands in a second panel, where it can be compared with nothing but its like.
    """
    everything = [_Place(tried, tried.distortion) for tried in advice.tried]
    measured = [_Place.by_train_check(tried, tried.cost) for tried in advice.tried if tried.cost]
    figure, (first, *more) = panels(1, 2 if measured else 1, (11.4 if measured else 8.2, 5.2), sharey=True)
    _marks(first, advice, everything)
    if min(place.cost for place in everything) > 0:
        from matplotlib.ticker import FixedLocator

        # Black changes several times as much as the others, which lie close.
        first.set_xscale("log")
        first.xaxis.set_major_locator(FixedLocator(_TICKS))
        first.xaxis.set_major_formatter("{x:g}")
        first.xaxis.set_minor_formatter("")
    first.set_xlabel("change of hidden pixels, levels of 255 (proxy: no network was trained)", fontsize=9)
    first.set_ylabel("rank-1 rate of the worst attacker, %", fontsize=9)
    for axes in more:
        _marks(axes, advice, measured)
        smoke = not all(tried.cost.benchmark for tried in advice.tried if tried.cost)
        axes.set_xlabel(
            "cost by train-check, SAD of B:N - N:N" + (" (smoke check: no evidence)" if smoke else ""), fontsize=9
        )
    title = f"Privacy against cost: {advice.photos} photographs of {advice.people} people"
    figure.suptitle(title, fontsize=11)
    legend_below(figure, [first], 5, 8.5)
    label_points(figure, first, [place.label() for place in everything])
    for axes in more:
        label_points(figure, axes, [place.label() for place in measured])
    return png(figure)


@dataclass(frozen=True)
class _Place:
    """Where a setting stands: its cost, and how far the interval of the cost reaches below and above it."""

    tried: Tried
    cost: float
    below: float = 0.0
    above: float = 0.0

    @classmethod
    def by_train_check(cls, tried: Tried, cost: Measured) -> _Place:
        """By what a train-check measured; its interval may be unknown."""
        low, high = (cost.value if end is None else end for end in (cost.low, cost.high))
        return cls(tried, cost.value, cost.value - low, high - cost.value)

    @property
    def method(self) -> Method:
        return self.tried.settings.obfuscation()[0]

    def label(self) -> Label:
        """The strength beside the mark, or epsilon; nothing where there is none to choose."""
        rank1 = self.tried.rank1
        _, strength, *noise = self.tried.settings.named().split()
        words = f"ε {noise[1]}" if noise else strength
        words = "" if self.method in (Method.ZERO, Method.FLAT) else words
        span = (100 * rank1.low, 100 * rank1.high)
        return Label((self.cost, 100 * rank1.value), span, words, _MARKS[self.method][1])


def _marks(axes: Any, advice: Advice, places: Sequence[_Place]) -> None:
    """A mark with its intervals for each setting, and the levels to compare with."""
    bare(axes, "both")
    named = set()
    for place in places:
        (marker, colour), rank1 = _MARKS[place.method], place.tried.rank1
        value = 100 * rank1.value
        axes.errorbar(
            [place.cost], [value], [[value - 100 * rank1.low], [100 * rank1.high - value]],
            [[place.below], [place.above]] if place.below or place.above else None, color=colour, marker=marker,
            markersize=7, capsize=3, linestyle="none", label=None if place.method in named else place.method.value,
        )  # fmt: skip
        named.add(place.method)
    levels = {"wanted": ("-", advice.max_rank1), "guessing": ("--", advice.chance)}
    levels["worst under black masks"] = (":", advice.floor.value)
    for words, (style, level) in levels.items():
        axes.axhline(100 * level, color=GREY, linewidth=1.2, linestyle=style, label=words)
    most = max(*(place.tried.rank1.high for place in places), *(level for _, level in levels.values()), 0.2)
    axes.set_ylim(-3, 108 * min(most, 1.0))
