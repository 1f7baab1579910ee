"""The plot of rank-1 rate against strength as a PNG file."""

from __future__ import annotations

from typing import Any

from p3mdata.base.chart import GREY, PURPLE, VERMILION, bare, legend_below, panels, png
from p3mdata.run.audit import Audit
from p3mdata.run.audit_chart import ADAPTED, NAIVE, Charted, Panel


def draw(audit: Audit) -> bytes:
    """PNG file: one panel per method, a line per attack with its 95 % interval, chance, and the run's own figures.

    Equal figures give equal bytes; nothing but pixels is in the file.
    """
    charted = Charted.of(audit)
    shown = charted.panels()
    widths = [panel.width for panel in shown]
    figure, grid = panels(1, len(shown), (4.2 + 0.6 * sum(widths), 4.6), sharey=True, width_ratios=widths)
    for axes, panel in zip(grid, shown, strict=True):
        _panel(axes, charted, panel)
        axes.set_title(panel.title, fontsize=10, fontweight="bold")
        axes.set_xlabel(panel.unit, fontsize=9)
    grid[0].set_ylabel("rank-1 rate, %", fontsize=9)
    legend_below(figure, grid, 2, 8.5)
    figure.suptitle(
        f"How often the right person is found: {audit.photos} photographs of {audit.identities} people",
        fontsize=12,
    )
    return png(figure)


def _panel(axes: Any, charted: Charted, panel: Panel) -> None:
    axes.set_ylim(-3, 103)
    bare(axes, "y")
    axes.axhline(charted.chance, color=GREY, linewidth=1.2, linestyle=(0, (5, 3)), label="guessing")
    level = charted.floor()
    if not panel.fixed and level is not None:
        axes.axhline(
            level, color=VERMILION, linewidth=1.2, linestyle=":", label="what a zero mask leaves, for comparison"
        )
    mine = charted.method == panel.method
    for offset, (attack, words, colour, marker) in zip((-0.12, 0.12), (NAIVE, ADAPTED), strict=True):
        line = charted.series(panel, attack)
        if line and panel.fixed:
            rate = line[0][1]
            apart = [[rate.value - rate.low], [rate.high - rate.value]]
            axes.errorbar([offset], [rate.value], apart, color=colour, marker=marker, markersize=6, capsize=4)
        elif line:
            strengths, rates = zip(*line, strict=True)
            axes.fill_between(
                strengths,
                [rate.low for rate in rates],
                [rate.high for rate in rates],
                color=colour,
                alpha=0.14,
                linewidth=0,
            )
            values = [rate.value for rate in rates]
            axes.plot(strengths, values, color=colour, marker=marker, markersize=4, linewidth=1.8, label=words)
    if panel.fixed:
        axes.set_xlim(-0.5, 0.5)
        axes.set_xticks([])
    if mine:
        _mark_own(axes, charted, 100 * charted.strength if not panel.fixed else 0.0)


def _mark_own(axes: Any, charted: Charted, x: float) -> None:
    """The released files themselves: rings at the run's strength, and what undoing the blur comes to."""
    axes.axvline(x, color="black", linewidth=0.9, linestyle=":", zorder=1)
    attacks = [(*NAIVE[::3], NAIVE[2]), (*ADAPTED[::3], ADAPTED[2])]
    for attack, marker, colour in attacks:
        rate = charted.rates.get(attack)
        if rate:
            axes.plot(
                [x], [rate.value], marker, markersize=10, markerfacecolor="none", markeredgecolor=colour,
                markeredgewidth=1.8, linestyle="none", zorder=5,
            )  # fmt: skip
    if worst := charted.undone():
        axes.plot(
            [x], [max(worst)], "D", color=PURPLE, markersize=7, linestyle="none", zorder=6,
            label="the released files after undoing the blur (worse of the two)",
        )  # fmt: skip
    axes.plot(
        [], [], "o", markersize=9, markerfacecolor="none", markeredgecolor="black", linestyle="none",
        label="the released files of this run",
    )  # fmt: skip
