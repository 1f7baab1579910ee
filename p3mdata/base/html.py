"""The pages that p3mdata writes: self-contained HTML files, rendered from templates in which all text is escaped."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment


class Rendered(str):
    """Text that is part of a page already: it goes into another template as it is."""

    def __html__(self) -> str:
        return self


class Figure(str):
    """A number with its unit, set like a number."""


@dataclass(frozen=True)
class Code:
    """A name, value or hash as written."""

    text: object
    kind: str = "name"


@dataclass(frozen=True)
class Badge:
    """A word on a coloured ground; `kind` is a class of the style sheet."""

    text: object
    kind: str


@dataclass(frozen=True)
class Table:
    """A table, whose columns are headed in the alignment of the first row's cells; nothing when there is no row.

    Attributes:
        rows: Cells that are text, whole numbers, `Figure`, `Code` or `Badge`; the first of a row is its head.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[object]]


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table of rows that may come one by one."""
    return Table(caption, head, list(rows))


@dataclass(frozen=True)
class Picture:
    """A picture that is in the page itself."""

    source: str
    words: str = ""
    width: int = 0
    height: int = 0
    kind: str = ""


def picture(data: bytes, mime: str, words: str = "", width: int = 0, height: int = 0, kind: str = "") -> Picture:
    """A picture of an encoded file; `words` are for who does not see it, `kind` is its class in the style sheet."""
    return Picture(f"data:{mime};base64,{base64.b64encode(data).decode()}", words, width, height, kind)


def count(number: int, noun: str, nouns: str = "") -> str:
    """A number with what is counted; `nouns` where more of it are not the noun with an s."""
    return f"{number:,} {noun if number == 1 else nouns or f'{noun}s'}"


def _printable(value: Any) -> Any:
    """Characters that HTML may not hold or that change the reading direction become a sign."""
    # Most texts are, and data of pictures are long.
    if not isinstance(value, str) or hasattr(value, "__html__") or value.isprintable():
        return value
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in value)


# Options as they are typed.
_OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z0-9-]*(?:[= ][A-Z]+\b)?")


def _whole_names(value: Any) -> Any:
    """Text in which names of options are not broken at their hyphens; for the body of a page, not for attributes."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    escaped = html.escape(_printable(value))
    return Rendered(_OPTION.sub(lambda name: f'<span class="option">{name[0]}</span>', escaped))


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=PackageLoader("p3mdata"), autoescape=True, undefined=StrictUndefined, finalize=_printable,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    for name, kind in (("figure", (int, Figure)), ("code", Code), ("badge", Badge), ("whole", int)):
        pages.tests[name] = lambda value, kind=kind: isinstance(value, kind)
    pages.filters["count"] = count
    pages.filters["whole_names"] = _whole_names
    pages.filters["thousands"] = lambda number: f"{number:,}"
    return pages


def render(template: str, **values: Any) -> str:
    """A page, or a part of one, from a file of p3mdata/templates."""
    style = resources.files("p3mdata").joinpath("templates/style.css").read_text(encoding="utf-8").rstrip()
    return _environment().get_template(template).render(style=Rendered(style), **values)
