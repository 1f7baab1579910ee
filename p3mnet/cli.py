"""Command line of p3mnet: parse, call, render, exit code; nothing else."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from p3mdata import console
from p3mdata import options as opt
from p3mdata.errors import EXIT_BUG, EXIT_HELD_BACK, EXIT_INTERRUPTED, EXIT_USAGE, P3MError
from p3mnet import __version__, commands

if TYPE_CHECKING:
    from p3mnet.evaluate import SetResult

app = typer.Typer(
    name="p3mnet",
    help="Train, run and evaluate P3M-Net on datasets of p3mdata.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


app.command()(commands.train)
app.command()(commands.infer)


@app.command()
def evaluate(
    pred_dir: Annotated[Path, typer.Argument(metavar="PRED_DIR", help="folder of predictions, or of one per set")],
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="folder of a dataset")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="table with a line per image (CSV)")] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="name of a set [default: those that have a prediction]")
    ] = None,
    corrected: Annotated[
        bool, typer.Option("--corrected", help="follow the definitions where the published program does not")
    ] = False,
    workers: opt.WorkersOption = None,
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
    progress: opt.ProgressOption = True,
) -> None:
    """SAD, MSE, MAD, Grad, Conn and their parts, with means and 95 % intervals; exit 3 if some images do not count."""
    from p3mnet.evaluate import evaluate as measure

    console.out = console.Output(json, quiet, progress)
    with console.counted() as start:
        found = measure(pred_dir, dataset, out, sets, workers or 0, start, corrected)
    lines = [line for one in found.sets for line in _described(one)]
    lines += [f"{found.unused} predictions belong to no image"] if found.unused else []
    lines += [f"table: {out}"] if out else []
    console.result(found.to_json(), "\n".join(lines))
    if not found.complete:
        raise typer.Exit(EXIT_HELD_BACK)


def _described(found: SetResult) -> Iterator[str]:
    yield f"{found.name}: {found.evaluated} images" + (
        f", {found.without_transition} of them without a transition pixel" if found.without_transition else ""
    )
    for name, mean in found.means.items():
        yield f"  {name:<9} {mean.value:10.5g}   95 % {mean.low:.5g} - {mean.high:.5g}"
    for stem, problem in found.problems.items():
        yield f"  left out: {stem} {problem}"


def _version(wanted: bool) -> None:
    if wanted:
        console.result(__version__, f"p3mnet {__version__}")
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
        console.error(str(exc))
    except _UsageError as exc:
        exc.show()
        code = EXIT_USAGE
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
        console.error("interrupted.")
    except OSError as exc:
        console.error(f"a file cannot be read or written ({exc.filename or ''} {exc.strerror or exc}).")
        code = EXIT_USAGE
    except Exception:
        traceback.print_exc()
        console.error("this is a fault of p3mnet. Please report the lines above.")
        code = EXIT_BUG
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
