"""Charts of a train-check's page: curves over steps, and costs with their intervals. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from p3mdata.base.chart import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, SKY, VERMILION, Drawing, Scale, ticks
from p3mnet.traincheck.statistics import Cost

Points = Sequence[tuple[float, float]]
_OTHERS = (PURPLE, GREEN, ORANGE, SKY, GREY, INK)
_WIDTH, _HEIGHT = 560, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 548, 14, 222
# Points of a line; more would not be seen.
_MOST_POINTS = 120
# Lines of so few points are drawn with their points; from so many values on the highest may be cut.
_FEW, _MANY = 12, 200
_ROW = 34


def colours(domains: Sequence[str]) -> dict[str, str]:
    """Colour by domain."""
    others = [domain for domain in domains if domain not in ("B", "N")]
    return {"B": BLUE, "N": VERMILION} | {
        domain: _OTHERS[number % len(_OTHERS)] for number, domain in enumerate(others)
    }


def _thinned(points: Points) -> list[tuple[float, float]]:
    """Means of neighbours, so that a line has not too many points."""
    size = -(-len(points) // _MOST_POINTS)
    return [
        (sum(p[0] for p in part) / len(part), sum(p[1] for p in part) / len(part))
        for part in (points[start : start + size] for start in range(0, len(points), max(size, 1)))
    ]


def curves(lines: Sequence[tuple[str, Points]], unit: str, label: str, marks: bool = False) -> Drawing | None:
    """Lines over steps, a line per training; None when there is no point.

    Args:
        lines: Domain and points (step, value) of each; those without points are left out.
        unit: Of the values.
        label: For people who hear the page.
        marks: Draw points as well.
    """
    drawn = [(domain, _thinned(points)) for domain, points in lines if points]
    if not drawn:
        return None
    every = [point for _, points in drawn for point in points]
    last = max(*(x for x, _ in every), 1)
    values = [y for _, y in every]
    # A first value that towers over all others must not press them to the floor; of few values none is left out.
    top = float(np.quantile(values, 0.995) if len(values) >= _MANY else max(values)) * 1.08 or 1.0
    # The axis ends at a round number above, and has a line there.
    marked = ticks(0, top)
    top = max(top, marked[-1] + (marked[1] - marked[0] if marked[-1] < top and len(marked) > 1 else 0))
    marks = marks or max(len(points) for _, points in drawn) <= _FEW
    shown = colours([domain for domain, _ in drawn])
    x, y = Scale((0, last), (_LEFT, _RIGHT)), Scale((0, top), (_BOTTOM, _TOP))
    chart = Drawing(_WIDTH, _HEIGHT, label)
    chart.grid(x, y, across=ticks(0, top))
    chart.line((_LEFT, _TOP), (_LEFT, _BOTTOM), width=1, opacity=0.5)
    chart.line((_LEFT, _BOTTOM), (_RIGHT, _BOTTOM), width=1, opacity=0.5)
    for value in ticks(0, top):
        chart.words(_LEFT - 8, y(value) + 4, f"{value:,.6g}", "end")
    # There are no half steps.
    for step in (step for step in ticks(0, last) if step == int(step)):
        chart.line((x(step), _BOTTOM), (x(step), _BOTTOM + 4), width=1, opacity=0.5)
        chart.words(x(step), _BOTTOM + 18, f"{step:,.0f}", "end" if x(step) > _RIGHT - 12 else "middle")
    chart.words((_LEFT + _RIGHT) / 2, _HEIGHT - 4, f"steps ({unit} upwards)")
    for domain, points in drawn:
        places = [(x(step), y(min(value, top))) for step, value in points]
        if len(places) > 1:
            chart.path(places, shown[domain], 1.6)
        for place in places if marks else ():
            chart.mark(place, 3, shown[domain])
    return chart


def intervals(rows: Sequence[tuple[str, Cost]], tolerance: float) -> Drawing | None:
    """Costs as shares of N:N with their intervals, and the tolerance as a dashed line; None when there is no share.

    Args:
        rows: Words and cost of each.
        tolerance: A share.
    """
    scaled: list[tuple[str, float, tuple[float, float] | None]] = []
    for words, cost in rows:
        if cost.base > 0:
            value, low_end, high_end = (100 * (edge or 0.0) / cost.base for edge in (cost.value, cost.low, cost.high))
            scaled.append((words, value, None if cost.low is None else (low_end, high_end)))
    if not scaled:
        return None
    values = [0.0, 100 * tolerance, *(edge for _, value, ends in scaled for edge in (value, *(ends or ())))]
    low, high = float(min(values)), float(max(values))
    low, high = low - 0.06 * (high - low), high + 0.06 * (high - low)
    left, right, bottom = 210, 700, 20 + _ROW * len(scaled)
    x, y = Scale((low, high), (left, right)), Scale((0, 1), (8, bottom))
    label = "Cost of anonymization as a share of the error of N:N, with 95% intervals; dashed: the tolerance"
    chart = Drawing(710, bottom + 26, label)
    chart.grid(x, y, down=ticks(low, high, 6))
    chart.line((x(0), 8), (x(0), bottom), width=1, opacity=0.5)
    for tick in ticks(low, high, 6):
        chart.words(x(tick), bottom + 16, f"{tick:g}%")
    chart.line((x(100 * tolerance), 8), (x(100 * tolerance), bottom), VERMILION, 1.6, "6 4")
    for number, (words, value, ends) in enumerate(scaled):
        middle = 8 + _ROW * (number + 0.5)
        chart.words(left - 12, middle + 4, words, "end")
        if ends is not None:
            chart.line((x(ends[0]), middle), (x(ends[1]), middle), BLUE, 3)
        chart.mark((x(value), middle), 5, BLUE)
    return chart
