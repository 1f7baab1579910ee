"""Command line: parse, call the API, render, exit code; nothing else."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from p3mdata.base.exits import run_app
from p3mdata.cli.commands import lines, load
from p3mdata.version import __version__


class _Lazy(TyperGroup):
    """Commands as lines of the help, until one is called."""

    def __init__(self, **attrs: Any) -> None:
        super().__init__(**attrs)
        self._panels = {}
        for name, about, panel in lines():
            self._panels[name] = panel
            self.commands[name] = TyperCommand(name, help=about, rich_help_panel=panel)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As usual, with the command itself in place of its line."""
        if args and (panel := self._panels.get(args[0])):
            self.commands[args[0]] = load(panel, args[0])
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="p3mdata",
    cls=_Lazy,
    help="Anonymize portraits for matting datasets: faces unrecognisable, the rest untouched, and proof of both.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from p3mdata.base import console

        console.result(__version__, f"p3mdata {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="print version")] = False,
) -> None:
    pass


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit with the documented code."""
    run_app(app, args, "finished images are kept")
