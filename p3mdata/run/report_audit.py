"""The audit's part of report.html: table, plot as inline SVG, and the bound on missed faces; drawn from its figures."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

from p3mdata.base.intervals import miss_bound
from p3mdata.base.palette import BLUE, GREY, PURPLE, VERMILION

MEANING = {
    "clear": ("clear faces, among clear photographs", "what the recogniser can do at best"),
    "naive": ("released faces, among clear photographs", "somebody who has clear photographs of these people"),
    "adapted": ("released faces, among released ones", "somebody who anonymizes their photographs in the same way"),
    "deconvolved_naive": ("released faces with the blur undone, among clear photographs", "strength and masks known"),
    "deconvolved_adapted": ("released faces with the blur undone, among others treated alike", "the same, adapted"),
    "zero_naive": ("faces under black masks, among clear photographs", "nothing is left inside the mask"),
    "zero_adapted": ("faces under black masks, among others like that", "what leaks outside the mask"),
}
_WIDTH, _HEIGHT, _TOP, _BOTTOM, _LEFT = 940, 330, 34, 276, 46
# Left and right end of each panel.
_SPANS = {"blur": (_LEFT, 410), "mosaic": (450, 814), "zero": (854, 930)}


_NUMBER = ' class="number"'


def audit_section(audit: dict[str, Any] | None, sample: dict[str, int] | None = None) -> str:
    """A `<section id="audit">` for the report; no script, no name, nothing that is not escaped.

    Args:
        audit: What audit.json holds, or None when only a sample was drawn.
        sample: The random sample: `images` drawn, `looked_at` by a person, and `misses` (images with a face that
            was missed); None when none was drawn.

    Returns:
        HTML; empty when there is neither.
    """
    parts = [*(_reidentification(audit) if audit else ()), *(_missed(sample) if sample else ())]
    if not parts:
        return ""
    return "\n".join(('<section id="audit">', "<h2>Audit</h2>", *parts, "</section>")) + "\n"


def _percent(share: float) -> str:
    """A share in percent, with as many digits as tell it from zero."""
    digits = 1 if share >= 0.001 or share == 0 else 4
    return f"{100 * share:.{digits}f}%"


def _interval(rate: dict[str, float] | None) -> str:
    if rate is None:
        return "-"
    return f"{_percent(rate['value'])} ({100 * rate['low']:.0f} to {100 * rate['high']:.0f})"


def _paragraph(text: str, kind: str = "") -> str:
    attribute = f' class="{kind}"' if kind else ""
    return f"<p{attribute}>{html.escape(text)}</p>"


def _table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table like the report's; the first cell of a row is HTML, the others are figures."""
    head = "".join(f'<th scope="col"{_NUMBER if i else ""}>{html.escape(name)}</th>' for i, name in enumerate(heads))
    body = "\n".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td{_NUMBER}>{html.escape(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{html.escape(caption)}"><table>'
        f"<caption>{html.escape(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def _reidentification(audit: dict[str, Any]) -> Iterable[str]:
    yield "<h3>Can software tell who it is?</h3>"
    yield _paragraph(
        f"A recogniser ({audit['recogniser']['name']}) was given the released faces, aligned by the landmarks of the "
        f"clear ones: {audit['photos']:,} photographs of {audit['identities']:,} people. Rank-1 is how often the most "
        f"similar other photograph shows the same person; guessing comes to {_percent(audit['chance'])}. TAR is the "
        "share of pairs of one person that pass as one person."
    )
    yield _table(
        "Re-identification, with 95% intervals",
        ("Compared", "Rank-1", "TAR", "Pairs of different people that pass", "TAR, threshold of its own"),
        (_line(row) for row in audit["rows"]),
    )
    yield from _remarks(audit)
    if len(audit["sweep"]) > 1:
        yield f"<figure>{_drawing(audit)}<figcaption>{html.escape(_caption(audit))}</figcaption></figure>"
    if audit["left_out"]:
        reasons = sorted(audit["left_out"].items(), key=lambda pair: (-pair[1], pair[0]))
        yield _table(
            f"Left out: {audit['sources'] - audit['photos']:,} of {audit['sources']:,} source files",
            ("Reason", "Files"),
            ((html.escape(reason), f"{number:,}") for reason, number in reasons),
        )


def _line(row: dict[str, Any]) -> tuple[str, ...]:
    what, who = MEANING[row["key"]]
    first = f'{html.escape(what)} <span class="soft">{html.escape(who)}</span>'
    figures = _interval(row["rank1"]), _interval(row["tar"]), _percent(row["false_accepts"])
    return first, *figures, _interval(row.get("own_tar"))


def _remarks(audit: dict[str, Any]) -> Iterable[str]:
    gate, threshold = audit["gate"], audit["threshold"]
    if gate["max_rank1"] is not None:
        verdict = "holds" if gate["passed"] else "does not hold"
        yield _paragraph(
            f"The limit of {_percent(gate['max_rank1'])} for the worst rank-1 rate of the released faces {verdict}: "
            f"it is {_percent(gate['worst_rank1'])}."
        )
    few = (
        f"{threshold['impostor_pairs']:,} such pairs are too few for {_percent(threshold['far_wanted'])}: this is the "
        "smallest rate they can show. "
        if not threshold["enough_pairs"]
        else ""
    )
    yield _paragraph(
        f"The threshold of TAR accepts {_percent(threshold['far'])} of the pairs of different people among the clear "
        f"photographs. {few}Anonymized faces look alike: where most pairs of different people pass as well, TAR tells "
        "nothing, and the last column takes a threshold that was set on such faces."
    )
    yield _paragraph(
        "The black masks are the baseline: what is found there comes from hair, forehead, clothes and background, and "
        "no strength takes that away. Photographs of one sitting are found by those alone. Rank-1 intervals take "
        "photographs as independent; with few people the truth is less certain than they say."
    )
    yield _paragraph(
        "A ready-made recogniser flatters the result: it never saw blurred faces in training. Somebody who trains one "
        "on faces anonymized like these will find more.",
        "note",
    )


def _caption(audit: dict[str, Any]) -> str:
    words = [
        f"Rank-1 rate by strength. Blue circles: {NAIVE[1]}; orange squares: {ADAPTED[1]}; bands: 95% intervals; "
        "dashed: guessing; dotted: what a zero mask leaves, anonymized alike; large rings: the released files"
    ]
    if own(audit, "deconvolved_naive"):
        words.append("; diamond: the same after undoing the blur, the worse of the two")
    return "".join(words) + "."


def _missed(sample: dict[str, int]) -> Iterable[str]:
    drawn, looked, misses = sample["images"], sample["looked_at"], sample["misses"]
    yield "<h3>How many faces may have been missed?</h3>"
    images = f"{drawn:,} released image{'' if drawn == 1 else 's'}"
    if looked == 0:
        yield _paragraph(f"A random sample of {images} waits for a person to look for missed faces.")
        return
    rest = "" if looked == drawn else f" The other {drawn - looked:,} wait; until then this is no random sample."
    rule = f" (the rule of thumb 3/n says {_percent(min(1.0, 3 / looked))})" if misses == 0 else ""
    yield _paragraph(
        f"A person looked at {looked:,} of {images}, drawn at random within classes of face number and size, and found "
        f"{misses:,} with a missed face. With 95% certainty at most {_percent(miss_bound(looked, misses))} of the "
        f"released images have one{rule}.{rest}"
    )


def _drawing(audit: dict[str, Any]) -> str:
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" font-size="12" fill="currentColor" '
        f'style="width:100%;max-width:{_WIDTH}px;height:auto" aria-label="{html.escape(_caption(audit))}">'
    ]
    parts += [_text(_LEFT - 8, _y(share) + 4, f"{share}", "end") for share in range(0, 101, 20)]
    parts.append(_text(_LEFT - 8, _TOP - 14, "%", "end"))
    for method, title, unit in PANELS:
        parts += _panel(audit, method, title, unit)
    return "".join((*parts, "</svg>"))


def _panel(audit: dict[str, Any], method: str, title: str, unit: str) -> Iterable[str]:
    left, right = _SPANS[method]
    middle = (left + right) / 2
    mine = audit["settings"]["method"] == method
    lines = [(series(audit, method, attack), colour) for attack, _, colour, _ in (NAIVE, ADAPTED)]
    used = 100 * audit["settings"]["strength"] if mine else 0.0
    most = 1.07 * max([used, *(point[0] for point in lines[0][0])], default=1.0) or 1.0

    def x(strength: float) -> float:
        return left + (right - left) * strength / most if method != "zero" else middle

    yield _text(middle, _TOP - 14, title, "middle", "600")
    yield _text(middle, _BOTTOM + 40, unit, "middle")
    for share in range(0, 101, 20):
        yield _stroke(left, _y(share), right, _y(share), "currentColor", "", 0.15)
    for strength in range(0, int(most) + 1, 10 if most < 60 else 20) if method != "zero" else ():
        yield _text(x(strength), _BOTTOM + 18, f"{strength}", "middle")
    yield _stroke(left, _y(100 * audit["chance"]), right, _y(100 * audit["chance"]), GREY, "6 4")
    floor = series(audit, "zero", ADAPTED[0])
    if method != "zero" and floor:
        yield _stroke(left, _y(floor[0][1]), right, _y(floor[0][1]), VERMILION, "2 3")
    for line, colour in lines if method != "zero" else ():
        ends = [(x(p[0]), _y(p[3])) for p in line] + [(x(p[0]), _y(p[2])) for p in reversed(line)]
        yield f'<polygon points="{_points(ends)}" fill="{colour}" fill-opacity=".14"/>'
    for shift, (line, colour) in zip((-14, 14), lines, strict=True):
        at = [(x(p[0]) + (shift if method == "zero" else 0), _y(p[1])) for p in line]
        if method == "zero":
            yield from (_stroke(at[0][0], _y(p[2]), at[0][0], _y(p[3]), colour) for p in line)
        else:
            yield f'<polyline points="{_points(at)}" fill="none" stroke="{colour}" stroke-width="2"/>'
        yield from (_mark(*place, 3, colour, colour == VERMILION) for place in at)
    if mine:
        yield from _own(audit, x(used))


def _own(audit: dict[str, Any], x: float) -> Iterable[str]:
    """The released files themselves."""
    yield _stroke(x, _TOP, x, _BOTTOM, "currentColor", "1 3")
    for attack, _, colour, _ in (NAIVE, ADAPTED):
        if rate := own(audit, attack):
            yield _mark(x, _y(rate["value"]), 7, colour, colour == VERMILION, hollow=True)
    undone = [rate["value"] for key in ("deconvolved_naive", "deconvolved_adapted") if (rate := own(audit, key))]
    if undone:
        y = _y(max(undone))
        yield f'<polygon points="{_points([(x, y - 7), (x + 7, y), (x, y + 7), (x - 7, y)])}" fill="{PURPLE}"/>'


def _y(percent: float) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * percent / 100


def _points(places: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _text(x: float, y: float, words: str, anchor: str, weight: str = "400") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">{html.escape(words)}</text>'


def _stroke(x1: float, y1: float, x2: float, y2: float, colour: str, dashes: str = "", opacity: float = 1) -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="1.4" '
        f'stroke-opacity="{opacity:g}"{dashed}/>'
    )


def _mark(x: float, y: float, size: float, colour: str, square: bool, hollow: bool = False) -> str:
    paint = f'fill="none" stroke="{colour}" stroke-width="2"' if hollow else f'fill="{colour}"'
    if square:
        return f'<rect x="{x - size:.1f}" y="{y - size:.1f}" width="{2 * size:g}" height="{2 * size:g}" {paint}/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:g}" {paint}/>'


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
