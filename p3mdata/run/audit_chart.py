"""The chart of an audit: rank-1 rate by strength; its lines are those of audit.png."""

from __future__ import annotations

from dataclasses import dataclass

from p3mdata.base.chart import BLUE, GREY, PURPLE, VERMILION, Drawing, Place, Scale
from p3mdata.base.intervals import Rate
from p3mdata.config import DP_EPSILON
from p3mdata.run.audit import Audit, SweepPoint

_WIDTH, _HEIGHT, _TOP, _BOTTOM, _LEFT, _RIGHT, _GAP = 940, 330, 34, 276, 46, 926, 36
_Y = Scale((0, 100), (_BOTTOM, _TOP))

# What is drawn for each kind of attack: the key, words, colour, marker of a run's own figures.
NAIVE = ("naive", "compared with clear photographs", BLUE, "o")
ADAPTED = ("adapted", "compared with photographs anonymized alike", VERMILION, "s")


@dataclass(frozen=True)
class Panel:
    """One method: its titles, its width among the others, and whether strength 0 shows the clear face."""

    method: str
    title: str
    unit: str
    width: int
    from_clear: bool = True
    # One point, of a method without strengths.
    fixed: bool = False


_ALWAYS = ("blur", "mosaic", "zero")
_PANELS = (
    Panel("blur", "Blur", "sigma, % of face width", 4),
    Panel("mosaic", "Mosaic", "cell, % of face width", 4),
    Panel("pixelise-then-blur", "Pixelise, then blur", "cell, % of face width", 3),
    Panel("dp-pix", "DP-Pix", f"cell, % of face, ε {DP_EPSILON:g}", 2, from_clear=False),
    Panel("flat", "Flat", "one colour", 1, from_clear=False, fixed=True),
    Panel("zero", "Zero", "black", 1, from_clear=False, fixed=True),
)


@dataclass(frozen=True)
class Interval:
    """A rate and the ends of its interval, in percent."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, rate: Rate) -> Interval:
        return cls(100 * rate.value, 100 * rate.low, 100 * rate.high)


@dataclass(frozen=True)
class Charted:
    """What a chart shows of an audit; all rates in percent.

    Attributes:
        method, strength: Of the run; a share of the face's width.
        chance: Rank-1 rate of guessing.
        rates: Rank-1 rate of each comparison, by its key.
        points: Of all methods that were tried.
    """

    method: str
    strength: float
    chance: float
    rates: dict[str, Interval]
    points: tuple[SweepPoint, ...]

    @classmethod
    def of(cls, audit: Audit) -> Charted:
        rates = {row.key: Interval.of(row.rank1) for row in audit.rows}
        return cls(audit.method.value, audit.strength, 100 * audit.chance, rates, audit.sweep)

    def panels(self) -> list[Panel]:
        """The methods that were tried, and the run's own."""
        tried = {*_ALWAYS, self.method, *(point.method.value for point in self.points)}
        return [panel for panel in _PANELS if panel.method in tried]

    def series(self, panel: Panel, attack: str) -> list[tuple[float, Interval]]:
        """Points of one line: strength in percent and rank-1 rate; begins with the clear photographs."""
        found = [
            (point.strength, Interval.of(point.naive if attack == NAIVE[0] else point.adapted))
            for point in self.points
            if point.method == panel.method
        ]
        start = [(0.0, self.rates["clear"])] if panel.from_clear and found else []
        return [(100 * strength, rate) for strength, rate in start + sorted(found, key=lambda pair: pair[0])]

    def floor(self) -> float | None:
        """What a zero mask leaves to who anonymizes alike, in percent."""
        line = self.series(_PANELS[-1], ADAPTED[0])
        return line[0][1].value if line else None

    def undone(self) -> list[float]:
        """Rank-1 rates of the released files after undoing the blur."""
        return [self.rates[key].value for key in ("deconvolved_naive", "deconvolved_adapted") if key in self.rates]

    def caption(self) -> str:
        """What the chart shows, in words."""
        undone = "; diamond: the same after undoing the blur, the worse of the two"
        return (
            f"Rank-1 rate by strength. Blue circles: {NAIVE[1]}; orange squares: {ADAPTED[1]}; bands: 95% intervals; "
            "dashed: guessing; dotted: what a zero mask leaves, anonymized alike; large rings: the released files"
            f"{undone if 'deconvolved_naive' in self.rates else ''}."
        )


def drawing(audit: Charted) -> Drawing:
    """A panel for each method, of one height."""
    drawn = Drawing(_WIDTH, _HEIGHT, audit.caption())
    for share in range(0, 101, 20):
        drawn.words(_LEFT - 8, _Y(share) + 4, f"{share}", "end")
    drawn.words(_LEFT - 8, _TOP - 14, "%", "end")
    shown = audit.panels()
    each = (_RIGHT - _LEFT - _GAP * (len(shown) - 1)) / sum(panel.width for panel in shown)
    left = float(_LEFT)
    for panel in shown:
        _panel(drawn, audit, panel, (left, left + each * panel.width))
        left += each * panel.width + _GAP
    return drawn


def _panel(drawn: Drawing, audit: Charted, panel: Panel, ends: Place) -> None:
    (left, right), middle = ends, sum(ends) / 2
    mine = audit.method == panel.method
    lines = [(audit.series(panel, attack), colour) for attack, _, colour, _ in (NAIVE, ADAPTED)]
    used = 100 * audit.strength if mine else 0.0
    most = 1.07 * max([used, *(point[0] for point in lines[0][0])], default=1.0) or 1.0
    # One colour has no strength.
    x = Scale((0, most), ends if not panel.fixed else (middle, middle))
    drawn.words(middle, _TOP - 14, panel.title, weight=600)
    drawn.words(middle, _BOTTOM + 40, panel.unit)
    drawn.grid(Scale((0, 1), ends), _Y, across=range(0, 101, 20))
    drawn.line((left, _Y(audit.chance)), (right, _Y(audit.chance)), GREY, dashes="6 4")
    if panel.fixed:
        _points(drawn, lines, middle)
    else:
        for strength in range(0, int(most) + 1, 10 if most < 60 else 20):
            drawn.words(x(strength), _BOTTOM + 18, f"{strength}")
        _lines(drawn, audit, lines, x, ends)
    if mine:
        _own(drawn, audit, x(used))


_Lines = list[tuple[list[tuple[float, Interval]], str]]


def _points(drawn: Drawing, lines: _Lines, middle: float) -> None:
    for shift, (line, colour) in zip((-9, 9), lines, strict=True):
        for _, rate in line:
            drawn.line((middle + shift, _Y(rate.low)), (middle + shift, _Y(rate.high)), colour)
            drawn.mark((middle + shift, _Y(rate.value)), 3, colour, square=colour == VERMILION)


def _lines(drawn: Drawing, audit: Charted, lines: _Lines, x: Scale, ends: tuple[float, float]) -> None:
    if (level := audit.floor()) is not None:
        drawn.line((ends[0], _Y(level)), (ends[1], _Y(level)), VERMILION, dashes="2 3")
    lines = [(line, colour) for line, colour in lines if line]
    for line, colour in lines:
        upper = [(x(strength), _Y(rate.high)) for strength, rate in line]
        lower = [(x(strength), _Y(rate.low)) for strength, rate in reversed(line)]
        drawn.area(upper + lower, colour, 0.14)
    for line, colour in lines:
        at = [(x(strength), _Y(rate.value)) for strength, rate in line]
        drawn.path(at, colour)
        for place in at:
            drawn.mark(place, 3, colour, square=colour == VERMILION)


def _own(drawn: Drawing, audit: Charted, x: float) -> None:
    """The released files themselves."""
    drawn.line((x, _TOP), (x, _BOTTOM), dashes="1 3")
    for attack, _, colour, _ in (NAIVE, ADAPTED):
        if rate := audit.rates.get(attack):
            drawn.mark((x, _Y(rate.value)), 7, colour, square=colour == VERMILION, hollow=True)
    if undone := audit.undone():
        y = _Y(max(undone))
        drawn.area([(x, y - 7), (x + 7, y), (x, y + 7), (x - 7, y)], PURPLE)
