"""Command line: parse, call the API, render, exit code; nothing else."""

from __future__ import annotations

from typing import Annotated

import typer

from p3mdata.base import console
from p3mdata.base.exits import run_app
from p3mdata.cli import datasets, people, runs, tools, training
from p3mdata.version import __version__

app = typer.Typer(
    name="p3mdata",
    help="Anonymize portraits for matting datasets: faces unrecognisable, the rest untouched, and proof of both.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_PARTS = {
    "From photographs to a run": runs,
    "A finished run and people": people,
    "Datasets": datasets,
    "Networks": training,
    "Tools": tools,
}
for _title, _part in _PARTS.items():
    for _command in (*_part.app.registered_commands, *_part.app.registered_groups):
        _command.rich_help_panel = _title
    app.add_typer(_part.app)


def _version(wanted: bool) -> None:
    if wanted:
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
