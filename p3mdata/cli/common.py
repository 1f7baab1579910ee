"""What commands share: settings from flags, running a job with progress, showing how it ended."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from p3mdata.base import console
from p3mdata.config import OLD_NAMES, Execution, Job, Names, Settings, resolve

if TYPE_CHECKING:
    from p3mdata.base.progress import Progress
    from p3mdata.run.close import RunSummary
    from p3mdata.run.stages import Stage

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="run folder")]


def read_settings(config: Path | None, flags: dict[str, Any]) -> tuple[Settings, Execution]:
    """Settings from flags, environment and a YAML file."""
    from p3mdata.base.parsing import read_yaml

    file = read_yaml(config) if config else None
    return resolve(flags, file, where=str(config) if config else "settings")


def pick(values: dict[str, Any]) -> dict[str, Any]:
    """Settings among a command's parameters."""
    known = {*Settings.model_fields, *Execution.model_fields, *OLD_NAMES}
    return {name: value for name, value in values.items() if name in known}


def progress_of(run: Path, task: tuple[int, int] | None = None) -> AbstractContextManager[Progress]:
    """Shows how far a run is while a block lasts, or one task of it."""
    from p3mdata.run.progress import RunProgress

    far = RunProgress(run, task)
    return console.progress(far, far.work)


def run_job(job: Job, stage: Stage) -> None:
    """Run a job with progress, and show how it ended."""
    from p3mdata.base.jsonl import read_json
    from p3mdata.imaging.listing import PassedOver
    from p3mdata.run.job import anonymize_job
    from p3mdata.run.layout import PASSED_OVER

    if job.settings.names is Names.KEEP:
        console.say(
            "Released files keep the names and folders of their sources (--names keep): names may identify people. "
            "Look at them before you pass anything on."
        )
    with progress_of(job.out, job.execution.task_number) as start:
        summary = anonymize_job(job, stage, start)
    if (job.out / PASSED_OVER).is_file():
        console.say(console.one_line(PassedOver.from_json(read_json(job.out / PASSED_OVER)).sentence()))
    finish(summary, job.place, stage)


def finish(summary: RunSummary, out: Path, stage: Stage) -> None:
    """Show what a run came to; its exit code is that of the call."""
    from p3mdata.cli import render
    from p3mdata.run.layout import REPORT

    if not stage.publishes:
        row = {"out": str(out), "samples": summary.samples, "stage": stage.value}
        console.result(row, f"{stage.value}: {summary.samples} pictures done in {out}")
        return
    render.summary(summary, out / REPORT)
    if summary.exit_code:
        raise typer.Exit(summary.exit_code)


def later_stage(run: Path, stage: Stage, workers: int | None, output: console.Output) -> None:
    """Run one stage of a run that `detect` began, and show how it ended."""
    from p3mdata.run.job import run_staged

    console.out = output
    with progress_of(run) as start:
        summary = run_staged(run, stage, start, workers or 0)
    finish(summary, run, stage)
