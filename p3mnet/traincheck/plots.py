"""Drawings of a train-check's page, as SVG: curves over steps, and costs with their intervals. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from p3mdata.base.html import Html, text
from p3mdata.base.palette import BLUE, GREY, PURPLE, VERMILION

Points = Sequence[tuple[float, float]]
_OTHERS = (PURPLE, "#009E73", "#E69F00", GREY)
_WIDTH, _HEIGHT = 560, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 548, 14, 222
# Points of a line; more would not be seen.
_MOST_POINTS = 120
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


def _ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round numbers between two."""
    raw = max(high - low, 1e-12) / wanted
    unit = 10 ** np.floor(np.log10(raw))
    step = float(unit * next(factor for factor in (1, 2, 5, 10) if unit * factor >= raw))
    first = np.ceil(low / step) * step
    return [float(round(first + number * step, 12)) for number in range(int((high - first) / step + 1e-9) + 1)]


def _label(x: float, y: float, words: str, anchor: str, weight: int = 400) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">{text(words)}</text>'


def _svg(width: float, height: float, label: str, parts: Iterable[str]) -> Html:
    return Html(
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" font-size="12" fill="currentColor" '
        f'style="width:100%;max-width:{width:g}px;height:auto" aria-label="{text(label)}">{"".join(parts)}</svg>'
    )


def curves(lines: Sequence[tuple[str, Points]], unit: str, label: str, marks: bool = False) -> Html:
    """Lines over steps, a line per training.

    Args:
        lines: Domain and points (step, value) of each; those without points are left out.
        unit: Of the values.
        label: For people who hear the page.
        marks: Draw points as well.
    """
    drawn = [(domain, _thinned(points)) for domain, points in lines if points]
    if not drawn:
        return Html("<p>Nothing yet.</p>")
    every = [point for _, points in drawn for point in points]
    last = max(*(x for x, _ in every), 1)
    top = float(np.quantile([y for _, y in every], 0.995)) * 1.08 or 1.0
    shown = colours([domain for domain, _ in drawn])

    def at(x: float, y: float) -> str:
        height = min(y / top, 1.0)
        return f"{_LEFT + (_RIGHT - _LEFT) * x / last:.1f},{_BOTTOM - (_BOTTOM - _TOP) * height:.1f}"

    parts = []
    for value in _ticks(0, top):
        y = float(at(0, value).split(",")[1])
        parts.append(f'<line x1="{_LEFT}" y1="{y}" x2="{_RIGHT}" y2="{y}" stroke="currentColor" stroke-opacity=".15"/>')
        parts.append(_label(_LEFT - 8, y + 4, f"{value:g}", "end"))
    parts += [_label(float(at(step, 0).split(",")[0]), _BOTTOM + 18, f"{step:g}", "middle") for step in _ticks(0, last)]
    parts.append(_label((_LEFT + _RIGHT) / 2, _HEIGHT - 4, f"steps ({unit} upwards)", "middle"))
    for domain, points in drawn:
        line = " ".join(at(*point) for point in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{shown[domain]}" stroke-width="1.6"/>')
        if marks:
            parts += [
                '<circle cx="{}" cy="{}" r="3" fill="{}"/>'.format(*at(*point).split(","), shown[domain])
                for point in points
            ]
    return _svg(_WIDTH, _HEIGHT, label, parts)


def legend(words: Mapping[str, str]) -> Html:
    """Colour and meaning of each domain."""
    shown = colours(list(words))
    items = (
        f'<span class="key"><svg viewBox="0 0 12 12" width="12" height="12" aria-hidden="true">'
        f'<rect width="12" height="12" rx="2" fill="{shown[domain]}"/></svg> {text(meaning)}</span>'
        for domain, meaning in words.items()
    )
    return Html(f'<p class="keys">{" ".join(items)}</p>')


def intervals(rows: Sequence[tuple[str, Mapping[str, Any]]], tolerance: float) -> Html:
    """Costs as shares of N:N with their intervals, and the tolerance as a dashed line.

    Args:
        rows: Words and `Cost` as JSON of each.
        tolerance: A share.
    """
    scaled: list[tuple[str, float, tuple[float, float] | None]] = []
    for words, cost in rows:
        if cost["base"] > 0:
            value, low_end, high_end = (100 * (cost[key] or 0.0) / cost["base"] for key in ("value", "low", "high"))
            scaled.append((words, value, None if cost["low"] is None else (low_end, high_end)))
    if not scaled:
        return Html("")
    values = [0.0, 100 * tolerance, *(edge for _, value, ends in scaled for edge in (value, *(ends or ())))]
    low, high = float(min(values)), float(max(values))
    low, high = low - 0.06 * (high - low), high + 0.06 * (high - low)
    left, right, bottom = 210, 700, 20 + _ROW * len(scaled)

    def x(value: float) -> float:
        return left + (right - left) * (value - low) / (high - low)

    parts = []
    for tick in _ticks(low, high, 6):
        parts.append(
            f'<line x1="{x(tick):.1f}" y1="8" x2="{x(tick):.1f}" y2="{bottom}" stroke="currentColor" '
            f'stroke-opacity="{0.55 if tick == 0 else 0.15}"/>'
        )
        parts.append(_label(x(tick), bottom + 16, f"{tick:g}%", "middle"))
    limit = x(100 * tolerance)
    parts.append(
        f'<line x1="{limit:.1f}" y1="8" x2="{limit:.1f}" y2="{bottom}" stroke="{VERMILION}" stroke-width="1.6" '
        'stroke-dasharray="6 4"/>'
    )
    for number, (words, value, ends) in enumerate(scaled):
        y = 8 + _ROW * (number + 0.5)
        parts.append(_label(left - 12, y + 4, words, "end"))
        if ends is not None:
            parts.append(
                f'<line x1="{x(ends[0]):.1f}" y1="{y}" x2="{x(ends[1]):.1f}" y2="{y}" stroke="{BLUE}" '
                'stroke-width="3"/>'
            )
        parts.append(f'<circle cx="{x(value):.1f}" cy="{y}" r="5" fill="{BLUE}"/>')
    label = "Cost of anonymization as a share of the error of N:N, with 95% intervals; dashed: the tolerance"
    return Html(f'<div class="scroll wide">{_svg(710, bottom + 26, label, parts)}</div>')
