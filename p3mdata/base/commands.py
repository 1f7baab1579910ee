"""What all commands have in common: OUT as an argument and as an option, and a help in which nothing is cut off.

An `App` takes the place of `typer.Typer`. A command that has a parameter `out` is given the other spelling of it: who
writes `-o OUT` and who writes OUT last are both understood, and no command says so itself.
"""

from __future__ import annotations

import functools
import inspect
import re
import shutil
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand
from typer.models import ArgumentInfo, OptionInfo

from p3mdata.errors import SettingsError

_F = TypeVar("_F", bound=Callable[..., Any])
_OUT, _OTHER = "out", "out_otherwise"
_FLAGS = ("--out", "-o")
# Columns of the help: names up to this width stand beside their meaning, longer ones above it.
_NAMES, _WIDEST, _INDENT = 30, 110, 2
_NAME = re.compile(r"(?<![\w-])--?[a-zA-Z][\w-]*")


class App(typer.Typer):
    """A `typer.Typer` whose commands are `Command`s and take OUT in both spellings."""

    def command(self, name: str | None = None, **options: Any) -> Callable[[_F], _F]:
        """As in `typer.Typer`; the function itself stays as it is."""

        def register(function: _F) -> _F:
            super(App, self).command(name, **{"cls": Command, **options})(_out_both_ways(function))
            return function

        return register


def _out_both_ways(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function with a second spelling of its parameter `out`; another function is given back as it is."""
    hints = get_type_hints(function, include_extras=True)
    declared = _declaration(hints.get(_OUT))
    if declared is None:
        return function
    parameters = dict(inspect.signature(function).parameters)
    out = parameters[_OUT]
    if isinstance(declared, OptionInfo):
        if any(get_origin(get_args(hint)[0]) is list for hint in hints.values() if _is_argument(hint)):
            # Arguments of any number: the command says itself which of them is OUT.
            return function
        other: Any = Annotated[Path | None, typer.Argument(metavar="OUT", help="the same as --out")]
        arguments = [name for name, hint in hints.items() if _is_argument(hint)]
        place = list(parameters).index(arguments[-1]) + 1 if arguments else 0
    else:
        required = out.default is inspect.Parameter.empty
        about = "the same as OUT"
        other = Annotated[Path | None, typer.Option(*_FLAGS, metavar=declared.metavar or "OUT", help=about)]
        place = len(parameters)
        shown = typer.Argument(
            metavar=declared.metavar, help=f"{declared.help}{', here or as --out [required]' if required else ''}"
        )
        hints[_OUT] = Annotated[Path | None, shown]
        parameters[_OUT] = out.replace(default=None)
    signature = list(parameters.values())
    signature.insert(place, inspect.Parameter(_OTHER, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None))
    hints = {parameter.name: hints.get(parameter.name) for parameter in signature} | {_OTHER: other}
    kept = [parameter.replace(annotation=hints[parameter.name]) for parameter in signature]
    name = declared.metavar or "OUT"

    @functools.wraps(function)
    def both(**given: Any) -> Any:
        found = given.pop(_OTHER)
        if found is not None:
            if given[_OUT] is not None and given[_OUT] != out.default:
                raise SettingsError(f"{name} is given twice, as {given[_OUT]} and as {found}. Give it once.")
            given[_OUT] = found
        if given[_OUT] is None and out.default is not None:
            if out.default is inspect.Parameter.empty:
                raise typer.BadParameter(f"is missing. Write it last, or as --out {name}.", param_hint=name)
            given[_OUT] = out.default
        return function(**given)

    # Parameters without defaults come first, as Python wants them.
    kept = [p for p in kept if p.default is p.empty] + [p for p in kept if p.default is not p.empty]
    both.__signature__ = inspect.Signature(kept)  # type: ignore[attr-defined]
    both.__annotations__ = {parameter.name: parameter.annotation for parameter in kept}
    del both.__wrapped__
    return both


def _declaration(hint: Any) -> ArgumentInfo | OptionInfo | None:
    return next(
        (part for part in getattr(hint, "__metadata__", ()) if isinstance(part, ArgumentInfo | OptionInfo)), None
    )


def _is_argument(hint: Any) -> bool:
    return isinstance(_declaration(hint), ArgumentInfo)


class Command(TyperCommand):
    """A command whose help shows every name whole, at any width."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What is required as it is, the rest in brackets."""
        pieces = ["[OPTIONS]"]
        for param in self.get_params(ctx):
            if param.param_type_name == "argument":
                name = param.metavar or param.name.upper()
                name += "..." if param.nargs != 1 and "..." not in name else ""
                needed = param.required or "[required]" in (getattr(param, "help", None) or "")
                pieces.append(name if needed else f"[{name}]")
        return pieces

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Usage, purpose, arguments and options; defaults are marked."""
        from rich.text import Text

        from p3mdata.base import console

        width = min(_WIDEST, shutil.get_terminal_size().columns)
        usage = " ".join([ctx.command_path, *self.collect_usage_pieces(ctx)])
        lines = [*_wrapped(f"Usage: {usage}", width, "       "), ""]
        for paragraph in inspect.cleandoc(self.help or "").split("\n\n"):
            lines += [*_wrapped(" ".join(paragraph.split()), width), ""]
        params = [param for param in self.get_params(ctx) if not getattr(param, "hidden", False)]
        for title, kind in (("Arguments", "argument"), ("Options", "option")):
            records = [param.get_help_record(ctx) for param in params if param.param_type_name == kind]
            if rows := [(_names(record[0], kind), _once(record[1])) for record in records if record is not None]:
                lines += [f"{title}:", *_columns(rows, width), ""]
        text = Text("\n".join(lines[:-1]))
        text.highlight_regex(_NAME, "bold cyan")
        text.highlight_regex(r"(?m)^(Usage|Arguments|Options):", "bold")
        console.page(text)


def _names(text: str, kind: str) -> str:
    """Names of a parameter; neither a flag nor an argument has a kind of value that says more than its meaning."""
    return re.sub(r" <bool>$" if kind == "option" else r" <.*>$", "", text).replace(" / ", "/")


def _once(text: str | None) -> str:
    """A meaning that says `required` and the default once."""
    text = " ".join((text or "").split())
    return re.sub(r"\[required\](?=.*\[required\])", "", text)


def _columns(rows: Iterable[tuple[str, str]], width: int) -> Iterator[str]:
    rows = list(rows)
    fitting = [len(name) for name, _ in rows if len(name) <= _NAMES]
    left = _INDENT + max(fitting, default=0) + 2
    for name, meaning in rows:
        first, *others = _wrapped(meaning, width - left) or [""]
        if len(name) <= _NAMES:
            yield f"{' ' * _INDENT}{name}".ljust(left) + first
        else:
            yield from _wrapped(f"{' ' * _INDENT}{name}", width, " " * (_INDENT + 4))
            yield " " * left + first
        yield from (" " * left + line for line in others)


def _wrapped(text: str, width: int, later: str = "") -> list[str]:
    """Lines of a text, broken at blanks alone, so that every name stands whole."""
    return textwrap.wrap(text, width, subsequent_indent=later, break_on_hyphens=False, break_long_words=False)
