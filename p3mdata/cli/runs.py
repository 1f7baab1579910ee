"""Commands that make a run: anonymize, and its four stages one by one.

What only some of them need is imported where it is used: a single picture takes less time than all of it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from p3mdata import options as opt
from p3mdata.base import console
from p3mdata.base.addresses import as_os_error, is_remote, location
from p3mdata.base.commands import App
from p3mdata.base.html import count
from p3mdata.cli.common import RunArgument, finish, later_stage, pick, read_settings, run_job
from p3mdata.config import Job
from p3mdata.errors import EXIT_HELD_BACK, EXIT_PROOF_FAILED, SettingsError, SetupError


class _DirByDefault(TyperGroup):
    """`anonymize SRC` means `anonymize dir SRC`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = ["dir", *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Its commands, and what may follow `dir`."""
        named = super().shell_complete(ctx, incomplete)
        command = self.commands["dir"]
        return named + [found for found in command.shell_complete(ctx, incomplete) if incomplete.startswith("-")]


app = App()
anonymize_app = App(cls=_DirByDefault, no_args_is_help=True, help="Anonymize a folder or one picture.")
app.add_typer(anonymize_app, name="anonymize")


def _default_out(source: Path) -> Path:
    if is_remote(location(source)):
        raise SettingsError(f"{location(source)}: give OUT as well, a folder or another address.")
    resolved = source.resolve()
    if not resolved.name:
        raise SettingsError(f"{source}: give OUT as well; this folder has no name to derive it from.")
    return resolved.with_name(resolved.name + "-anonymized")


def _predicted(source: Path, out: Path, checkpoint: Path | None, dry_run: bool) -> Path | None:
    """Folder of the mattes that a network predicts for photographs that have none; it lies beside the run."""
    if checkpoint is None:
        raise SettingsError("--alphas predict: needs --checkpoint FILE, weights of p3mnet.")
    try:
        from p3mnet.infer import ALPHAS, infer
    except ImportError as exc:
        raise SetupError(f"--alphas predict needs {exc.name}: run pip install 'p3mdata[train]'.") from exc
    if is_remote(location(out)):
        raise SettingsError("--alphas predict: OUT is an address. Run 'p3mnet infer' first and give its folder.")
    folder = out.with_name(f"{out.name}-alphas")
    if dry_run:
        return folder / ALPHAS if (folder / ALPHAS).is_dir() else None
    if not source.is_dir():
        raise SettingsError(f"{source}: is no folder. Check the path.")
    with console.counted() as start:
        done = infer(source, folder, checkpoint, cutouts=False, progress=start)
    for name, sentence in done.broken:
        console.say(console.one_line(f"no matte: {name} {sentence}"))
    console.say(f"predicted mattes: {folder / ALPHAS}")
    return folder / ALPHAS


@anonymize_app.command("dir")
def anonymize_dir(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SRC... [OUT]",
            help="folder with photographs, or single ones ('*.jpg' too); then OUT: run folder, or an address "
            "[default: SRC-anonymized]",
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="OUT", help="OUT; all else is SRC then")] = None,
    method: opt.MethodOption = None,
    preset: opt.PresetOption = None,
    strength: opt.StrengthOption = None,
    epsilon: opt.EpsilonOption = None,
    dp_pixels: opt.DpPixelsOption = None,
    area: opt.AreaOption = None,
    alphas: opt.AlphasOrPredict = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="with --alphas predict: weights of p3mnet")
    ] = None,
    trimaps: opt.TrimapsOption = None,
    masks: opt.MasksOption = None,
    boundary: opt.BoundaryOption = None,
    transition_width: opt.WidthOption = None,
    alpha_tolerance: opt.ToleranceOption = None,
    format: opt.FormatOption = None,
    quality: opt.QualityOption = None,
    jpeg: opt.JpegOption = None,
    min_side: opt.MinSideOption = None,
    max_pixels: opt.MaxPixelsOption = None,
    trust_no_face: opt.TrustOption = None,
    recursive: opt.RecursiveOption = None,
    names: opt.NamesOption = None,
    seed: opt.SeedOption = None,
    secret_file: opt.SecretOption = None,
    workers: opt.WorkersOption = None,
    limit: opt.LimitOption = None,
    files: opt.FilesOption = None,
    task: opt.TaskOption = None,
    shard: opt.OldTaskOption = None,
    executor: opt.ExecutorOption = None,
    address: opt.AddressOption = None,
    overwrite: opt.OverwriteOption = None,
    resume: Annotated[bool, typer.Option("--resume/--no-resume", help="continue an earlier run in OUT")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="list what would be done, write nothing")] = False,
    config: opt.ConfigOption = None,
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
    progress: opt.ProgressOption = True,
) -> None:
    """Anonymize every picture below SRC into the run folder OUT; an interrupted run is resumed."""
    from p3mdata.cli.chosen import chosen_sources
    from p3mdata.run.layout import PLAN
    from p3mdata.run.stages import Stage

    flags = pick(locals())
    console.out = console.Output(json, quiet, progress)
    settings, execution = read_settings(config, flags)
    source, chosen, out = chosen_sources(sources, out)
    out = out or _default_out(source)
    if alphas == Path("predict"):
        if execution.task_number is not None:
            raise SettingsError("--alphas predict: not with --task. Run 'p3mnet infer' first and give its folder.")
        alphas = _predicted(source, out, checkpoint, dry_run)
    elif checkpoint is not None:
        raise SettingsError("--checkpoint: goes with --alphas predict.")
    job = Job(
        source=source, chosen=chosen, out=out, alphas=alphas, trimaps=trimaps, masks=masks,
        settings=settings, execution=execution,
    )  # fmt: skip
    if not resume and as_os_error((job.place / PLAN).exists) and not execution.overwrite:
        raise SettingsError(f"{job.place}: holds a run. Give --resume to continue it or --overwrite to replace it.")
    if dry_run:
        _dry_run(job)
        return
    run_job(job, Stage.ALL)


def _dry_run(job: Job) -> None:
    from p3mdata.imaging.listing import PassedOver, passed_over
    from p3mdata.run.guards import check_folders
    from p3mdata.run.plan import make_plan

    check_folders(job)
    plan, samples = make_plan(job, write=False)
    listed = sorted(samples, key=lambda sample: sample.source)
    # Their ids are those of no run yet.
    rows = [{key: value for key, value in sample.to_json().items() if key not in ("id", "index")} for sample in listed]
    text = "\n".join(
        console.one_line(
            f"{s.source}" + "".join(f"  {k}: {v[0]}" for k in ("alpha", "trimap", "mask") if (v := getattr(s, k)))
            + (f"  PROBLEM: {s.problem}" if s.problem else "")
        )
        for s in listed
    )  # fmt: skip
    others = PassedOver({}) if job.chosen else passed_over(job.source, job.settings.recursive)
    console.say(console.one_line(others.sentence()))
    head = f"{count(plan.samples, 'picture')}, {count(plan.shards, 'shard')}, {job.settings.named()} -> {job.place}\n"
    console.result({**plan.public().to_json(), "files": rows, "passed_over": others.to_json()}, head + text)


@anonymize_app.command("image")
def anonymize_image(
    source: Annotated[Path, typer.Argument(metavar="IN", help="photograph")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="released image; the ending chooses the format")],
    method: opt.MethodOption = None,
    preset: opt.PresetOption = None,
    strength: opt.StrengthOption = None,
    epsilon: opt.EpsilonOption = None,
    dp_pixels: opt.DpPixelsOption = None,
    area: opt.AreaOption = None,
    alpha: Annotated[Path | None, typer.Option("--alpha", help="alpha matte")] = None,
    trimap: Annotated[Path | None, typer.Option("--trimap", help="trimap; its unknown band is kept")] = None,
    mask: Annotated[Path | None, typer.Option("--mask", help="hand-drawn mask (white = obfuscate)")] = None,
    facemask: Annotated[Path | None, typer.Option("--facemask", help="write the facemask here (PNG)")] = None,
    boundary: opt.BoundaryOption = None,
    transition_width: opt.WidthOption = None,
    alpha_tolerance: opt.ToleranceOption = None,
    quality: opt.QualityOption = None,
    jpeg: opt.JpegOption = None,
    max_pixels: opt.MaxPixelsOption = None,
    trust_no_face: opt.TrustOption = None,
    overwrite: Annotated[
        bool | None, typer.Option("--overwrite", help="replace OUT, and what --facemask names, where they exist")
    ] = None,
    config: opt.ConfigOption = None,
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
) -> None:
    """Anonymize one picture; OUT is written only when all proofs hold."""
    from p3mdata.anonymize.one_image import anonymize_file
    from p3mdata.dataset.places import refuse_in_release

    flags = pick(locals())
    for path in filter(None, (out, facemask)):
        refuse_in_release(path)
    console.out = console.Output(json, quiet)
    settings, execution = read_settings(config, flags)
    result = anonymize_file(source, out, settings, alpha, trimap, mask, facemask, execution.overwrite)
    row = result.to_json()
    for face in row["faces"]:
        # What is printed ends in logs, and landmarks of the clear face tell who it is; the Python API gives them.
        face.pop("landmarks", None)
        face.pop("points", None)
    if result.outcome.released:
        console.result(row, f"{result.outcome.value}: {out} ({count(len(result.faces), 'face')}, {result.encoding})")
        return
    console.result(row)
    reason = (result.detail or result.reason or "").rstrip(".")
    console.error(f"{source}: {reason}. Nothing was written ({result.outcome.value}).")
    raise typer.Exit(EXIT_HELD_BACK)


@app.command()
def detect(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="folder with photographs")],
    out: Annotated[Path, typer.Argument(metavar="RUN", help="run folder")],
    method: opt.MethodOption = None,
    preset: opt.PresetOption = None,
    strength: opt.StrengthOption = None,
    epsilon: opt.EpsilonOption = None,
    dp_pixels: opt.DpPixelsOption = None,
    area: opt.AreaOption = None,
    alphas: opt.AlphasOption = None,
    trimaps: opt.TrimapsOption = None,
    masks: opt.MasksOption = None,
    boundary: opt.BoundaryOption = None,
    transition_width: opt.WidthOption = None,
    alpha_tolerance: opt.ToleranceOption = None,
    format: opt.FormatOption = None,
    quality: opt.QualityOption = None,
    jpeg: opt.JpegOption = None,
    min_side: opt.MinSideOption = None,
    max_pixels: opt.MaxPixelsOption = None,
    trust_no_face: opt.TrustOption = None,
    recursive: opt.RecursiveOption = None,
    names: opt.NamesOption = None,
    seed: opt.SeedOption = None,
    secret_file: opt.SecretOption = None,
    workers: opt.WorkersOption = None,
    limit: opt.LimitOption = None,
    files: opt.FilesOption = None,
    config: opt.ConfigOption = None,
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
    progress: opt.ProgressOption = True,
) -> None:
    """Stage 1 of 4: find faces and landmarks; freezes the plan of RUN for the stages after it."""
    from p3mdata.run.stages import Stage

    flags = pick(locals())
    console.out = console.Output(json, quiet, progress)
    settings, execution = read_settings(config, flags)
    job = Job(
        source=source, out=out, alphas=alphas, trimaps=trimaps, masks=masks, settings=settings, execution=execution
    )
    run_job(job, Stage.DETECT)


@app.command()
def mask(
    run: RunArgument, workers: opt.WorkersOption = None, json: opt.JsonOption = False, quiet: opt.QuietOption = False,
    progress: opt.ProgressOption = True,
) -> None:  # fmt: skip
    """Stage 2 of 4: private area minus transition area, for every detected image of RUN."""
    from p3mdata.run.stages import Stage

    later_stage(run, Stage.MASK, workers, console.Output(json, quiet, progress))


@app.command()
def obfuscate(
    run: RunArgument, workers: opt.WorkersOption = None, json: opt.JsonOption = False, quiet: opt.QuietOption = False,
    progress: opt.ProgressOption = True,
) -> None:  # fmt: skip
    """Stage 3 of 4: obfuscate and encode; nothing is released before `verify`."""
    from p3mdata.run.stages import Stage

    later_stage(run, Stage.OBFUSCATE, workers, console.Output(json, quiet, progress))


@app.command()
def verify(
    run: RunArgument, workers: opt.WorkersOption = None, json: opt.JsonOption = False, quiet: opt.QuietOption = False,
    progress: opt.ProgressOption = True,
) -> None:  # fmt: skip
    """Stage 4 of 4: prove and release what `obfuscate` made; on a finished run, prove every released image again.

    On a dataset it is the same as `check`.
    """
    from p3mdata.dataset.about import ABOUT
    from p3mdata.run.job import has_staged_images, verify_run
    from p3mdata.run.stages import Stage

    if (run / ABOUT).is_file():
        from p3mdata.cli.datasets import check

        check(run, None, True, workers, json, quiet, progress)
        return
    if has_staged_images(run):
        later_stage(run, Stage.VERIFY, workers, console.Output(json, quiet, progress))
        return
    console.out = console.Output(json, quiet, progress)
    with console.counted() as start:
        released, findings = verify_run(run, start, workers or 0)
    rows = [{"id": f.id, "code": f.code, "sentence": f.sentence} for f in findings]
    lines = "\n".join(console.one_line(f"{f.id or run}: {f.sentence} [{f.code}]") for f in findings)
    ids = len({f.id for f in findings})
    text = f"{count(released, 'released image')}: " + (
        f"{ids} {'fails' if ids == 1 else 'fail'} a proof\n{lines}" if findings else "all proofs hold"
    )
    console.result({"released": released, "findings": rows}, text)
    if findings:
        raise typer.Exit(EXIT_PROOF_FAILED)


@app.command()
def status(run: RunArgument, json: opt.JsonOption = False, quiet: opt.QuietOption = False) -> None:
    """How far RUN is, while any number of processes work on it: outcomes, shards, speed, faults."""
    from p3mdata.cli import render
    from p3mdata.run.remote_job import status_anywhere

    console.out = console.Output(json, quiet)
    render.status(status_anywhere(run), location(run))


@app.command()
def fetch(
    address: Annotated[Path, typer.Argument(metavar="ADDRESS", help="finished run, such as s3://bucket/run")],
    out: Annotated[Path, typer.Argument(metavar="DIR", help="new folder, or one that an earlier call began")],
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
    progress: opt.ProgressOption = True,
) -> None:
    """Bring a run from an object store into a folder, where every command works on it; each file is checked by hash."""
    from p3mdata.run.fetch import fetch_run

    console.out = console.Output(json, quiet, progress)
    with console.counted() as start:
        found = fetch_run(address, out, start)
    text = f"{count(found.released, 'released image')} of {count(found.samples, 'source file')}: {found.out}"
    console.result(found.to_json(), text)


@app.command()
def merge(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="run folders")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="OUT", help="new folder for the merged run; may be the last of three names instead"
        ),
    ] = None,
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
    progress: opt.ProgressOption = True,
) -> None:
    """Make one run of several over different source files; of one RUN whose tasks are all done, close it."""
    from p3mdata.run.job import merge_tasks
    from p3mdata.run.merge import merge_runs
    from p3mdata.run.remote_job import close_stored
    from p3mdata.run.stages import Stage

    console.out = console.Output(json, quiet, progress)
    if out is None and len(runs) > 2 and not os.path.lexists(runs[-1]):
        *runs, out = runs
    if out is None:
        if len(runs) > 1:
            raise SettingsError("merge: give --out, a new folder for the merged run.")
        there = location(runs[0])
        finish(close_stored(there) if is_remote(there) else merge_tasks(there), there, Stage.ALL)
        return
    with console.counted() as start:
        summary = merge_runs(runs, out, start)
    finish(summary, out, Stage.ALL)
