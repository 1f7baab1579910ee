"""The chart of an audit: rank-1 rate by strength, from the figures of audit.json; its lines are those of audit.png."""

from __future__ import annotations

from typing import Any

from p3mdata.base.chart import BLUE, GREY, PURPLE, VERMILION, Drawing, Scale

_WIDTH, _HEIGHT, _TOP, _BOTTOM, _LEFT = 940, 330, 34, 276, 46
# Left and right end of each panel.
_SPANS = {"blur": (_LEFT, 410), "mosaic": (450, 814), "zero": (854, 930)}
_Y = Scale((0, 100), (_BOTTOM, _TOP))

# What is drawn for each kind of attack: the key, words, colour, marker of a run's own figures.
NAIVE = ("naive", "compared with clear photographs", BLUE, "o")
ADAPTED = ("adapted", "compared with photographs anonymized alike", VERMILION, "s")
PANELS = (
    ("blur", "Blur", "standard deviation, % of face width"),
    ("mosaic", "Mosaic", "side of a cell, % of face width"),
    ("zero", "Zero mask", "inside black"),
)


def series(audit: dict[str, Any], method: str, attack: str) -> list[tuple[float, float, float, float]]:
    """Points of one line in percent: strength, rank-1 rate, ends of its interval; begins with the clear photographs."""
    clear = next(row["rank1"] for row in audit["rows"] if row["key"] == "clear")
    found = [(point["strength"], point[attack]) for point in audit["sweep"] if point["method"] == method]
    start = [] if method == "zero" or not found else [(0.0, clear)]
    return [
        (100 * strength, *(100 * rate[part] for part in ("value", "low", "high"))) for strength, rate in start + found
    ]


def own(audit: dict[str, Any], attack: str) -> dict[str, float] | None:
    """The rank-1 rate of the released files themselves under an attack, in percent; None where there is none."""
    rates = [row["rank1"] for row in audit["rows"] if row["key"] == attack]
    return {part: 100 * rates[0][part] for part in ("value", "low", "high")} if rates else None


def caption(audit: dict[str, Any]) -> str:
    """What the chart shows, in words."""
    undone = "; diamond: the same after undoing the blur, the worse of the two"
    return (
        f"Rank-1 rate by strength. Blue circles: {NAIVE[1]}; orange squares: {ADAPTED[1]}; bands: 95% intervals; "
        "dashed: guessing; dotted: what a zero mask leaves, anonymized alike; large rings: the released files"
        f"{undone if own(audit, 'deconvolved_naive') else ''}."
    )


def drawing(audit: dict[str, Any]) -> Drawing:
    """Three panels: blur, mosaic, zero mask."""
    drawn = Drawing(_WIDTH, _HEIGHT, caption(audit))
    for share in range(0, 101, 20):
        drawn.words(_LEFT - 8, _Y(share) + 4, f"{share}", "end")
    drawn.words(_LEFT - 8, _TOP - 14, "%", "end")
    for method, title, unit in PANELS:
        _panel(drawn, audit, method, title, unit)
    return drawn


def _panel(drawn: Drawing, audit: dict[str, Any], method: str, title: str, unit: str) -> None:
    left, right = _SPANS[method]
    middle = (left + right) / 2
    mine = audit["settings"]["method"] == method
    lines = [(series(audit, method, attack), colour) for attack, _, colour, _ in (NAIVE, ADAPTED)]
    used = 100 * audit["settings"]["strength"] if mine else 0.0
    most = 1.07 * max([used, *(point[0] for point in lines[0][0])], default=1.0) or 1.0
    # Black has no strength.
    x = Scale((0, most), (left, right) if method != "zero" else (middle, middle))
    drawn.words(middle, _TOP - 14, title, weight=600)
    drawn.words(middle, _BOTTOM + 40, unit)
    drawn.grid(Scale((0, 1), (left, right)), _Y, across=range(0, 101, 20))
    drawn.line((left, _Y(100 * audit["chance"])), (right, _Y(100 * audit["chance"])), GREY, dashes="6 4")
    if method == "zero":
        _points(drawn, lines, middle)
    else:
        for strength in range(0, int(most) + 1, 10 if most < 60 else 20):
            drawn.words(x(strength), _BOTTOM + 18, f"{strength}")
        _lines(drawn, audit, lines, x, (left, right))
    if mine:
        _own(drawn, audit, x(used))


_Lines = list[tuple[list[tuple[float, float, float, float]], str]]


def _points(drawn: Drawing, lines: _Lines, middle: float) -> None:
    for shift, (line, colour) in zip((-14, 14), lines, strict=True):
        for _, value, low, high in line:
            drawn.line((middle + shift, _Y(low)), (middle + shift, _Y(high)), colour)
            drawn.mark((middle + shift, _Y(value)), 3, colour, square=colour == VERMILION)


def _lines(drawn: Drawing, audit: dict[str, Any], lines: _Lines, x: Scale, ends: tuple[float, float]) -> None:
    if floor := series(audit, "zero", ADAPTED[0]):
        drawn.line((ends[0], _Y(floor[0][1])), (ends[1], _Y(floor[0][1])), VERMILION, dashes="2 3")
    for line, colour in lines:
        upper = [(x(strength), _Y(high)) for strength, _, _, high in line]
        lower = [(x(strength), _Y(low)) for strength, _, low, _ in reversed(line)]
        drawn.area(upper + lower, colour, 0.14)
    for line, colour in lines:
        at = [(x(strength), _Y(value)) for strength, value, *_ in line]
        drawn.path(at, colour)
        for place in at:
            drawn.mark(place, 3, colour, square=colour == VERMILION)


def _own(drawn: Drawing, audit: dict[str, Any], x: float) -> None:
    """The released files themselves."""
    drawn.line((x, _TOP), (x, _BOTTOM), dashes="1 3")
    for attack, _, colour, _ in (NAIVE, ADAPTED):
        if rate := own(audit, attack):
            drawn.mark((x, _Y(rate["value"])), 7, colour, square=colour == VERMILION, hollow=True)
    undone = [rate["value"] for key in ("deconvolved_naive", "deconvolved_adapted") if (rate := own(audit, key))]
    if undone:
        y = _Y(max(undone))
        drawn.area([(x, y - 7), (x + 7, y), (x, y + 7), (x - 7, y)], PURPLE)
