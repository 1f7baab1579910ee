"""Command line: parse, call the API, render, exit code; nothing else."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated, Any

import typer

from p3mdata import __version__, console
from p3mdata.cli import datasets, people, runs, tools
from p3mdata.errors import EXIT_BUG, EXIT_INTERRUPTED, EXIT_USAGE, P3MError

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


# Some releases of typer use click and some carry a copy of it; this base class is the right one in both.
_UsageError: Any = typer.BadParameter.__mro__[2]


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit with the documented code."""
    try:
        code = app(args, standalone_mode=False)
        sys.stdout.flush()
    except P3MError as exc:
        code = exc.exit_code
        if code != EXIT_INTERRUPTED:
            console.error(str(exc))
    except _UsageError as exc:
        exc.show()
        code = EXIT_USAGE
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
    except OSError as exc:
        console.error(f"the output cannot be printed or written ({exc.strerror or exc}).")
        # What is left in the buffer would fail again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = EXIT_USAGE
    except Exception:
        traceback.print_exc()
        console.error("this is a fault of p3mdata. Please report the lines above; finished images are kept.")
        code = EXIT_BUG
    if code == EXIT_INTERRUPTED:
        console.error("interrupted; finished images are kept. Run the same command again to resume.")
    sys.exit(code if isinstance(code, int) else 0)
