"""Pieces of the pages that p3mdata writes: escaped text, tables, the style; pages are self-contained HTML files."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from importlib import resources


class Html(str):
    """Text that is HTML already; all other text is escaped when it enters the page."""


class Figure(str):
    """A number with its unit, set like a number."""


def text(value: object) -> Html:
    """Escaped text; characters that HTML may not hold or that change the reading direction become a sign."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))
    return Html(html.escape(shown))


def code(value: object, kind: str = "name") -> Html:
    return Html(f'<code class="{kind}">{text(value)}</code>')


def cell(value: object, tag: str = "td", scope: str = "") -> str:
    kind = ' class="number"' if isinstance(value, int | Figure) else ""
    scope = f' scope="{scope}"' if scope else ""
    shown = f"{value:,}" if isinstance(value, int) else value
    return f"<{tag}{scope}{kind}>{shown if isinstance(shown, Html) else text(shown)}</{tag}>"


def lines(rows: Iterable[Sequence[object]]) -> str:
    """Table rows; the first cell is the row's head."""
    return "\n".join(f"<tr>{cell(row[0], 'th', 'row')}{''.join(cell(value) for value in row[1:])}</tr>" for row in rows)


def frame(caption: str, heads: str, bodies: str) -> Html:
    """A table that scrolls sideways where the page is narrower than the table."""
    return Html(
        f'<div class="scroll" role="region" tabindex="0" aria-label="{text(caption)}"><table>'
        f"<caption>{text(caption)}</caption>\n<thead><tr>{heads}</tr></thead>\n{bodies}\n</table></div>"
    )


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> Html:
    """A table; its columns are headed in the alignment of their cells."""
    body = list(rows)
    if not body:
        return Html("")
    right = [isinstance(value, int | Figure) for value in body[0]]
    heads = "".join(cell(Figure(h) if r else h, "th", "col") for h, r in zip(head, right, strict=True))
    return frame(caption, heads, f"<tbody>\n{lines(body)}\n</tbody>")


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def style() -> str:
    """The style sheet of all pages."""
    return resources.files("p3mdata").joinpath("templates/style.css").read_text(encoding="utf-8").rstrip()
