"""Command line of p3mnet: parse, call, render, exit code; nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p3mdata import console
from p3mdata import options as opt
from p3mdata.entry import run_app
from p3mdata.errors import EXIT_HELD_BACK
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
app.command()(commands.export_onnx)


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


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit with the documented code."""
    run_app(app, args, "what was written is kept")


if __name__ == "__main__":
    main()
