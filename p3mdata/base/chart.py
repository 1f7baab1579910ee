"""Charts: as SVG inside pages, and as PNG files drawn with matplotlib. Pure: equal figures give equal bytes."""

from __future__ import annotations

import html
import io
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

# Told apart by people with any kind of colour vision (Okabe and Ito).
BLUE, VERMILION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#6B6B6B"
GREEN, ORANGE, SKY = "#009E73", "#E69F00", "#56B4E9"
INK = "currentColor"
_GRID = "#E3E3E3"

Place = tuple[float, float]
# Where a label may stand from its point, in points of type; beyond _FAR a line leads to it.
_FAR = 18
_AROUND = [
    (distance * math.cos(math.radians(angle)), 0.8 * distance * math.sin(math.radians(angle)))
    for distance in (14, 18, 26, 36, 48, 62, 78)
    for angle in range(35, 395, 15)
]


class Scale:
    """Values to places along an axis, linear."""

    def __init__(self, values: Place, places: Place) -> None:
        self.values, self.places = values, places

    def __call__(self, value: float) -> float:
        (low, high), (start, end) = self.values, self.places
        return start + (end - start) * (value - low) / (high - low)


def ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round numbers between two, about as many as wanted."""
    raw = max(high - low, 1e-12) / wanted
    unit = 10.0 ** math.floor(math.log10(raw))
    step = unit * next(factor for factor in (1, 2, 5, 10) if unit * factor >= raw)
    first = math.ceil(low / step) * step
    return [round(first + number * step, 12) for number in range(int((high - first) / step + 1e-9) + 1)]


class Drawing:
    """An SVG drawing that takes the colour of the page's text and its width; goes into templates as it is."""

    def __init__(self, width: float, height: float, label: str) -> None:
        self._open = (
            f'<svg viewBox="0 0 {width:g} {height:g}" role="img" font-size="12" fill="{INK}" '
            f'style="width:100%;max-width:{width:g}px;height:auto" aria-label="{html.escape(label)}">'
        )
        self._parts: list[str] = []

    def words(self, x: float, y: float, said: str, anchor: str = "middle", weight: int = 400) -> None:
        """Text, of a weight as in CSS, at a point: its start, middle or end."""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">{html.escape(said)}</text>'
        )

    def line(
        self, start: Place, end: Place, colour: str = INK, width: float = 1.4, dashes: str = "", opacity: float = 1
    ) -> None:
        """A line; `dashes` as in SVG."""
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        self._parts.append(
            f'<line x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}" stroke="{colour}" '
            f'stroke-width="{width:g}" stroke-opacity="{opacity:g}"{dashed}/>'
        )

    def grid(self, x: Scale, y: Scale, across: Iterable[float] = (), down: Iterable[float] = ()) -> None:
        """Faint lines over the area of both scales: at values of `y` and at values of `x`."""
        for value in across:
            self.line((x.places[0], y(value)), (x.places[1], y(value)), width=1, opacity=0.15)
        for value in down:
            self.line((x(value), y.places[0]), (x(value), y.places[1]), width=1, opacity=0.15)

    def path(self, places: Sequence[Place], colour: str, width: float = 2) -> None:
        """A line through points."""
        self._parts.append(
            f'<polyline points="{_points(places)}" fill="none" stroke="{colour}" stroke-width="{width:g}"/>'
        )

    def area(self, places: Sequence[Place], colour: str, opacity: float = 1) -> None:
        """A filled polygon."""
        self._parts.append(f'<polygon points="{_points(places)}" fill="{colour}" fill-opacity="{opacity:g}"/>')

    def mark(self, at: Place, size: float, colour: str, square: bool = False, hollow: bool = False) -> None:
        """A circle or a square with this radius."""
        (x, y), paint = at, f'fill="none" stroke="{colour}" stroke-width="2"' if hollow else f'fill="{colour}"'
        if square:
            side = f'width="{2 * size:g}" height="{2 * size:g}"'
            self._parts.append(f'<rect x="{x - size:.1f}" y="{y - size:.1f}" {side} {paint}/>')
        else:
            self._parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:g}" {paint}/>')

    def __html__(self) -> str:
        return "".join((self._open, *self._parts, "</svg>"))

    def __str__(self) -> str:
        return self.__html__()


def _points(places: Iterable[Place]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def panels(lines: int, columns: int, size: Place, **grid: Any) -> tuple[Any, list[Any]]:
    """A figure of matplotlib and its axes, row by row; `grid` goes to its `subplots`."""
    # Its remarks about font caches are not for the user.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(lines, columns, squeeze=False, **grid).ravel())


def bare(axes: Any, grid: str | None = None, size: float = 8.5) -> None:
    """Axes without a box; `grid` draws faint lines behind the data, along one axis or `both`."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=size)
    if grid:
        axes.grid(axis=grid, color=_GRID, linewidth=0.8)
        axes.set_axisbelow(True)


@dataclass(frozen=True)
class Label:
    """Words beside a point of a chart.

    Attributes:
        at: The point, in the values of the axes.
        span: Lower and upper end of its error bar.
        words, colour: Of the label.
    """

    at: Place
    span: Place
    words: str
    colour: str


def label_points(figure: Any, axes: Any, labels: Sequence[Label]) -> None:
    """Write words beside points so that no two lie on each other and none on a mark; far ones get a line.

    To be called when everything else is drawn and the limits of the axes are set.
    """
    figure.draw_without_rendering()
    renderer, unit = figure.canvas.get_renderer(), figure.dpi / 72
    marks = [axes.transData.transform(label.at) for label in labels]
    bars = [axes.transData.transform([(label.at[0], end) for end in label.span]) for label in labels]
    frame = axes.get_window_extent(renderer)
    taken: list[tuple[float, float, float, float]] = []
    for label, (x, y) in zip(labels, marks, strict=True):
        text = axes.annotate(
            label.words, label.at, (0, 0), textcoords="offset points", fontsize=8, color=label.colour,
            va="center", ha="center",
        )  # fmt: skip
        box = text.get_window_extent(renderer)
        wide, high = box.width / 2 + unit, box.height / 2 + unit

        def cost(place: Place, x: float = x, y: float = y, wide: float = wide, high: float = high) -> float:
            cx, cy = x + place[0] * unit, y + place[1] * unit
            inside = frame.x0 < cx - wide and cx + wide < frame.x1 and frame.y0 < cy - high and cy + high < frame.y1
            on_marks = sum(abs(cx - mx) < wide + 4 * unit and abs(cy - my) < high + 4 * unit for mx, my in marks)
            on_labels = sum(abs(cx - ox) < wide + ow and abs(cy - oy) < high + oh for ox, oy, ow, oh in taken)
            on_bars = sum(abs(cx - low[0]) < wide + 2 * unit and low[1] - high < cy < up[1] + high for low, up in bars)
            return float(1000 * (not inside) + 100 * (on_marks + on_labels) + 5 * on_bars + 0.1 * math.hypot(*place))

        place = min(_AROUND, key=cost)
        taken.append((x + place[0] * unit, y + place[1] * unit, wide, high))
        text.set_position(place)
        if math.hypot(*place) > _FAR:
            line = {"arrowstyle": "-", "color": label.colour, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 3}
            axes.annotate("", label.at, place, textcoords="offset points", arrowprops=line)


def legend_below(figure: Any, axes: Sequence[Any], columns: int, size: float) -> None:
    """One legend for all panels, each label once."""
    handles = {label: handle for one in axes for handle, label in zip(*one.get_legend_handles_labels(), strict=True)}
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=columns, fontsize=size, frameon=False
    )


def png(figure: Any, dpi: int | None = None) -> bytes:
    """A PNG file with nothing but pixels in it."""
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=dpi or "figure", metadata={"Software": None})
    return sink.getvalue()
