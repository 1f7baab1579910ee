"""The audit's part of report.html: table, chart, and the bound on missed faces; drawn from its figures."""

from __future__ import annotations

from typing import Any

from p3mdata.base.html import Figure, render, table
from p3mdata.base.intervals import miss_bound
from p3mdata.run.audit_chart import caption, drawing

MEANING = {
    "clear": ("clear faces, among clear photographs", "what the recogniser can do at best"),
    "naive": ("released faces, among clear photographs", "somebody who has clear photographs of these people"),
    "adapted": ("released faces, among released ones", "somebody who anonymizes their photographs in the same way"),
    "deconvolved_naive": ("released faces with the blur undone, among clear photographs", "strength and masks known"),
    "deconvolved_adapted": ("released faces with the blur undone, among others treated alike", "the same, adapted"),
    "zero_naive": ("faces under black masks, among clear photographs", "nothing is left inside the mask"),
    "zero_adapted": ("faces under black masks, among others like that", "what leaks outside the mask"),
}


def audit_section(audit: dict[str, Any] | None, sample: dict[str, int] | None = None) -> str:
    """A `<section id="audit">` for the report; no script, no name, nothing that is not escaped.

    Args:
        audit: What audit.json holds, or None when only a sample was drawn.
        sample: The random sample: `images` drawn, `looked_at` by a person, and `misses` (images with a face that
            was missed); None when none was drawn.

    Returns:
        HTML; empty when there is neither.
    """
    if not audit and not sample:
        return ""
    drawn = drawing(audit) if audit and len(audit["sweep"]) > 1 else None
    return render(
        "audit.html",
        audit=audit,
        lines=[_line(row) for row in audit["rows"]] if audit else [],
        drawing=drawn,
        caption=caption(audit) if audit and drawn else "",
        left_out=_left_out(audit) if audit else None,
        sample=sample,
        bound=_percent(miss_bound(sample["looked_at"], sample["misses"])) if sample and sample["looked_at"] else "",
        percent=_percent,
    )


def _percent(share: float) -> str:
    """A share in percent, with as many digits as tell it from zero."""
    digits = 1 if share >= 0.001 or share == 0 else 4
    return f"{100 * share:.{digits}f}%"


def _interval(rate: dict[str, float] | None) -> Figure:
    if rate is None:
        return Figure("-")
    return Figure(f"{_percent(rate['value'])} ({100 * rate['low']:.0f} to {100 * rate['high']:.0f})")


def _line(row: dict[str, Any]) -> tuple[str, str, list[Figure]]:
    figures = _interval(row["rank1"]), _interval(row["tar"]), Figure(_percent(row["false_accepts"]))
    return *MEANING[row["key"]], [*figures, _interval(row.get("own_tar"))]


def _left_out(audit: dict[str, Any]) -> Any:
    reasons = sorted(audit["left_out"].items(), key=lambda pair: (-pair[1], pair[0]))
    title = f"Left out: {audit['sources'] - audit['photos']:,} of {audit['sources']:,} source files"
    return table(title, ("Reason", "Files"), reasons)
