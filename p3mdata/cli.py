"""Command line: parse, call the API, render, exit code; nothing else."""

from __future__ import annotations

import os
import sys
import traceback
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from p3mdata import __version__, console
from p3mdata import options as opt
from p3mdata.config import Execution, Job, Settings, read_yaml, resolve
from p3mdata.dataset.layout import read_layout
from p3mdata.dataset.trimap import KERNEL
from p3mdata.errors import (
    EXIT_BUG,
    EXIT_HELD_BACK,
    EXIT_INTERRUPTED,
    EXIT_PROOF_FAILED,
    EXIT_USAGE,
    P3MError,
    SettingsError,
    SetupError,
)
from p3mdata.files import write_atomic
from p3mdata.run import (
    REPORT,
    anonymize_file,
    anonymize_job,
    count_done,
    has_staged_images,
    renew_report,
    run_staged,
    verify_run,
)
from p3mdata.shards import Stage


class _DirByDefault(TyperGroup):
    """`anonymize SRC` means `anonymize dir SRC`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = ["dir", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="p3mdata",
    help="Anonymize portraits for matting datasets: faces unrecognisable, the rest untouched, and proof of both.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
anonymize_app = typer.Typer(cls=_DirByDefault, no_args_is_help=True, help="Anonymize a folder or one picture.")
app.add_typer(anonymize_app, name="anonymize")


def _settings(config: Path | None, flags: dict[str, Any]) -> tuple[Settings, Execution]:
    file = read_yaml(config) if config else None
    return resolve(flags, file, where=str(config) if config else "settings")


def _pick(values: dict[str, Any]) -> dict[str, Any]:
    """Settings among a command's parameters."""
    known = Settings.model_fields | Execution.model_fields
    return {name: value for name, value in values.items() if name in known}


def _default_out(source: Path) -> Path:
    resolved = source.resolve()
    if not resolved.name:
        raise SettingsError(f"{source}: give OUT as well; this folder has no name to derive it from.")
    return resolved.with_name(resolved.name + "-anonymized")


def _run_job(job: Job, stage: Stage) -> None:
    with console.progress(lambda: count_done(job.out)) as start:
        summary = anonymize_job(job, stage, start)
    _finish(summary, job.out, stage)


def _finish(summary: Any, out: Path, stage: Stage) -> None:
    if not stage.publishes:
        row = {"out": str(out), "samples": summary.samples, "stage": stage.value}
        console.result(row, f"{stage.value}: {summary.samples} pictures done in {out}")
        return
    console.summary(summary, out / REPORT)
    if summary.exit_code:
        raise typer.Exit(summary.exit_code)


@anonymize_app.command("dir")
def anonymize_dir(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="folder with photographs")],
    out: Annotated[Path | None, typer.Argument(metavar="[OUT]", help="run folder [default: SRC-anonymized]")] = None,
    method: opt.MethodOption = None,
    preset: opt.PresetOption = None,
    strength: opt.StrengthOption = None,
    area: opt.AreaOption = None,
    alphas: opt.AlphasOption = None,
    trimaps: opt.TrimapsOption = None,
    masks: opt.MasksOption = None,
    transition_width: opt.WidthOption = None,
    format: opt.FormatOption = None,
    quality: opt.QualityOption = None,
    jpeg: opt.JpegOption = None,
    min_side: opt.MinSideOption = None,
    max_pixels: opt.MaxPixelsOption = None,
    trust_no_face: opt.TrustOption = None,
    recursive: opt.RecursiveOption = None,
    seed: opt.SeedOption = None,
    workers: opt.WorkersOption = None,
    limit: opt.LimitOption = None,
    overwrite: opt.OverwriteOption = None,
    resume: Annotated[bool, typer.Option("--resume/--no-resume", help="continue an earlier run in OUT")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="list what would be done, write nothing")] = False,
    config: opt.ConfigOption = None,
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
    progress: opt.ProgressOption = True,
) -> None:
    """Anonymize every picture below SRC into the run folder OUT; an interrupted run is resumed."""
    flags = _pick(locals())
    console.out = console.Output(json, quiet, progress)
    settings, execution = _settings(config, flags)
    job = Job(
        source=source, out=out or _default_out(source), alphas=alphas, trimaps=trimaps, masks=masks,
        settings=settings, execution=execution,
    )  # fmt: skip
    if not resume and (job.out / "plan.json").exists() and not execution.overwrite:
        raise SettingsError(f"{job.out}: holds a run. Give --resume to continue it or --overwrite to replace it.")
    if dry_run:
        _dry_run(job)
        return
    _run_job(job, Stage.ALL)


def _dry_run(job: Job) -> None:
    from p3mdata.plan import check_folders, make_plan

    check_folders(job)
    plan, samples = make_plan(job, write=False)
    rows = [sample.to_json() for sample in samples]
    method, strength = job.settings.obfuscation()
    text = "\n".join(
        f"{s.source}" + "".join(f"  {k}: {v[0]}" for k in ("alpha", "trimap", "mask") if (v := getattr(s, k)))
        + (f"  PROBLEM: {s.problem}" if s.problem else "") for s in samples
    )  # fmt: skip
    head = f"{plan.samples} pictures, {plan.shards} shards, {method.value} {strength:g} -> {job.out}\n"
    console.result({**plan.to_json(), "files": rows}, head + text)


@anonymize_app.command("image")
def anonymize_image(
    source: Annotated[Path, typer.Argument(metavar="IN", help="photograph")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="released image; the ending chooses the format")],
    method: opt.MethodOption = None,
    preset: opt.PresetOption = None,
    strength: opt.StrengthOption = None,
    area: opt.AreaOption = None,
    alpha: Annotated[Path | None, typer.Option("--alpha", help="alpha matte")] = None,
    trimap: Annotated[Path | None, typer.Option("--trimap", help="trimap; its unknown band is kept")] = None,
    mask: Annotated[Path | None, typer.Option("--mask", help="hand-drawn mask (white = obfuscate)")] = None,
    facemask: Annotated[Path | None, typer.Option("--facemask", help="write the facemask here (PNG)")] = None,
    transition_width: opt.WidthOption = None,
    quality: opt.QualityOption = None,
    jpeg: opt.JpegOption = None,
    max_pixels: opt.MaxPixelsOption = None,
    trust_no_face: opt.TrustOption = None,
    overwrite: opt.OverwriteOption = None,
    config: opt.ConfigOption = None,
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
) -> None:
    """Anonymize one picture; OUT is written only when all proofs hold."""
    flags = _pick(locals())
    console.out = console.Output(json, quiet)
    settings, execution = _settings(config, flags)
    result = anonymize_file(source, out, settings, alpha, trimap, mask, facemask, execution.overwrite)
    if result.outcome.released:
        faces = "1 face" if len(result.faces) == 1 else f"{len(result.faces)} faces"
        console.result(result.to_json(), f"{result.outcome.value}: {out} ({faces}, {result.encoding})")
        return
    console.result(result.to_json())
    console.error(f"{source} {result.detail} Nothing was written ({result.outcome.value}).")
    raise typer.Exit(EXIT_HELD_BACK)


@app.command()
def detect(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="folder with photographs")],
    out: Annotated[Path, typer.Argument(metavar="RUN", help="run folder")],
    method: opt.MethodOption = None,
    preset: opt.PresetOption = None,
    strength: opt.StrengthOption = None,
    area: opt.AreaOption = None,
    alphas: opt.AlphasOption = None,
    trimaps: opt.TrimapsOption = None,
    masks: opt.MasksOption = None,
    transition_width: opt.WidthOption = None,
    format: opt.FormatOption = None,
    quality: opt.QualityOption = None,
    jpeg: opt.JpegOption = None,
    min_side: opt.MinSideOption = None,
    max_pixels: opt.MaxPixelsOption = None,
    trust_no_face: opt.TrustOption = None,
    recursive: opt.RecursiveOption = None,
    seed: opt.SeedOption = None,
    workers: opt.WorkersOption = None,
    limit: opt.LimitOption = None,
    config: opt.ConfigOption = None,
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
    progress: opt.ProgressOption = True,
) -> None:
    """Stage 1 of 4: find faces and landmarks; freezes the plan of RUN for the stages after it."""
    flags = _pick(locals())
    console.out = console.Output(json, quiet, progress)
    settings, execution = _settings(config, flags)
    job = Job(
        source=source, out=out, alphas=alphas, trimaps=trimaps, masks=masks, settings=settings, execution=execution
    )
    _run_job(job, Stage.DETECT)


RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="run folder")]


def _later_stage(run: Path, stage: Stage, workers: int | None, output: console.Output) -> None:
    console.out = output
    with console.progress(lambda: count_done(run)) as start:
        summary = run_staged(run, stage, start, workers or 0)
    _finish(summary, run, stage)


@app.command()
def mask(
    run: RunArgument, workers: opt.WorkersOption = None, json: opt.JsonOption = False, quiet: opt.QuietOption = False,
    progress: opt.ProgressOption = True,
) -> None:  # fmt: skip
    """Stage 2 of 4: private area minus transition area, for every detected image of RUN."""
    _later_stage(run, Stage.MASK, workers, console.Output(json, quiet, progress))


@app.command()
def obfuscate(
    run: RunArgument, workers: opt.WorkersOption = None, json: opt.JsonOption = False, quiet: opt.QuietOption = False,
    progress: opt.ProgressOption = True,
) -> None:  # fmt: skip
    """Stage 3 of 4: obfuscate and encode; nothing is released before `verify`."""
    _later_stage(run, Stage.OBFUSCATE, workers, console.Output(json, quiet, progress))


@app.command()
def verify(
    run: RunArgument, workers: opt.WorkersOption = None, json: opt.JsonOption = False, quiet: opt.QuietOption = False,
    progress: opt.ProgressOption = True,
) -> None:  # fmt: skip
    """Stage 4 of 4: prove and release what `obfuscate` made; on a finished run, prove every released image again."""
    if has_staged_images(run):
        _later_stage(run, Stage.VERIFY, workers, console.Output(json, quiet, progress))
        return
    console.out = console.Output(json, quiet, progress)
    with _counted() as start:
        released, findings = verify_run(run, start, workers or 0)
    rows = [{"id": f.id, "code": f.code, "sentence": f.sentence} for f in findings]
    lines = "\n".join(f"{f.id or run}: {f.sentence} [{f.code}]" for f in findings)
    ids = len({f.id for f in findings})
    text = f"{released} released images: " + (f"{ids} fail a proof\n{lines}" if findings else "all proofs hold")
    console.result({"released": released, "findings": rows}, text)
    if findings:
        raise typer.Exit(EXIT_PROOF_FAILED)


@app.command()
def review(
    run: RunArgument,
    apply: Annotated[
        Path | None, typer.Option("--apply", help="decisions from a file (JSON lines), no browser")
    ] = None,
    masks: Annotated[Path | None, typer.Option("--masks", help="with --apply: folder of hand-drawn masks")] = None,
    reviewer: Annotated[str | None, typer.Option("--reviewer", help="recorded with every decision")] = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one")] = 0,
    browser: Annotated[bool, typer.Option("--browser", help="open the page in the browser of this machine")] = False,
    workers: opt.WorkersOption = None,
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
    progress: opt.ProgressOption = True,
) -> None:
    """Decide about what RUN held back, on a page that only this machine can open; Ctrl-C ends it."""
    console.out = console.Output(json, quiet, progress)
    if apply is not None:
        from p3mdata.review.batch import apply_file

        with console.progress(lambda: count_done(run)) as start:
            _finish(apply_file(run, apply, masks, reviewer, workers or 0, start), run, Stage.ALL)
        return
    if masks is not None:
        raise SettingsError("--masks: goes with --apply; on the page masks are drawn.")
    try:
        from p3mdata.review.server import serve
    except ImportError as exc:
        raise SetupError(f"The review page needs {exc.name}: run pip install 'p3mdata[review]'.") from exc

    def ready(address: str) -> None:
        console.result({"address": address}, f"review page: {address}")
        console.say(
            "It can be opened on this machine only. Ctrl-C, or Finish on the page, ends it; decisions are kept."
        )
        if browser:
            webbrowser.open(address)

    summary = serve(run, reviewer, port, ready)
    if summary is None:
        console.say("Nothing was decided.")
        return
    _finish(summary, run, Stage.ALL)


@app.command()
def audit(
    run: RunArgument,
    identities: Annotated[
        str | None, typer.Option("--identities", help="who is on which photo: auto, prefix, folder, or a CSV file")
    ] = None,
    max_rank1: Annotated[float | None, typer.Option("--max-rank1", help="fail (exit 4) above this share")] = None,
    sweep: Annotated[bool, typer.Option("--sweep/--no-sweep", help="try other strengths and methods as well")] = True,
    sample: Annotated[
        int | None, typer.Option("--sample", help="draw N released images at random into the review page")
    ] = None,
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
    progress: opt.ProgressOption = True,
) -> None:
    """Can software tell who is on the released images? Writes audit.json, audit.png and a part of the report.

    With --sample alone only the sample is drawn: look at it with 'p3mdata review', the report then bounds the misses.
    """
    from p3mdata.audit import audit_run, sample_run

    console.out = console.Output(json, quiet, progress)
    if sample is not None:
        drawn = sample_run(run, sample)
        renew_report(run)
        text = f"{len(drawn)} images wait in 'p3mdata review {run}' (view: sample)"
        console.result({"sample": len(drawn)}, text)
        if identities is None:
            return
    only_own: dict[str, Any] = {} if sweep else {"blur": (), "mosaic": ()}
    with _counted() as start:
        found = audit_run(run, identities or "auto", max_rank1=max_rank1, progress=start, **only_own)
    renew_report(run)
    console.audit(found, run)
    if not found.passed:
        raise typer.Exit(EXIT_PROOF_FAILED)


@app.command()
def remove(
    run: RunArgument,
    names: Annotated[list[str], typer.Argument(metavar="ID...", help="ids, or paths below the source folder")],
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
) -> None:
    """Take images down: withdraw everything released for them and leave a tombstone in removed.jsonl."""
    from p3mdata.removal import remove_images

    console.out = console.Output(json, quiet)
    done = remove_images(run, names)
    row = {"removed": list(done.ids), "version": done.version, "released": done.summary.released}
    row |= {"cleaned": list(done.cleaned), "rebuild": list(done.rebuild)}
    lines = [f"taken down: {', '.join(done.ids)}", f"dataset version: {done.version}"]
    lines += [f"taken out of: {path}" for path in done.cleaned]
    lines += [f"still in this export, build it again or delete it: {path}" for path in done.rebuild]
    console.result(row, "\n".join(lines))


@app.command("build-split")
def build_split(
    run: RunArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="folder of the dataset")],
    layout: Annotated[str, typer.Option("--layout", help="p3m10k, plain, or a YAML file")] = "p3m10k",
    validation: Annotated[str, typer.Option("--validation", help="obfuscated validation set: a count or 5%")] = "5%",
    free: Annotated[str, typer.Option("--free", help="validation set of pictures free of private content")] = "0",
    free_list: Annotated[
        Path | None, typer.Option("--free-list", help="ids or source paths that may enter it, one per line")
    ] = None,
    group_by: Annotated[
        list[str] | None, typer.Option("--group-by", help="who stays together: prefix, folder, or a CSV file")
    ] = None,
    rename: Annotated[list[str] | None, typer.Option("--rename", help="SET=NAME, such as P3M-500-P=LAB-40-P")] = None,
    obfuscated: Annotated[
        str | None, typer.Option("--obfuscated-name", help="instead of blurred, mosaic, zero in blurred_image")
    ] = None,
    trimap_kernel: Annotated[int, typer.Option("--trimap-kernel", min=3, help="pixels")] = KERNEL,
    foregrounds: Annotated[
        bool, typer.Option("--foregrounds", help="estimate foreground and background colours (fg, bg) for training")
    ] = False,
    previous: Annotated[Path | None, typer.Option("--previous", help="earlier dataset whose split is kept")] = None,
    seed: Annotated[int, typer.Option("--seed", help="another one draws another split")] = 0,
    verify: Annotated[bool, typer.Option("--verify/--no-verify", help="prove every released image again first")] = True,
    workers: opt.WorkersOption = None,
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
    progress: opt.ProgressOption = True,
) -> None:
    """Build a dataset in the layout of P3M-10k (or another) from the released images of RUN."""
    from p3mdata.dataset.build import Wishes
    from p3mdata.dataset.build import build_split as build

    console.out = console.Output(json, quiet, progress)
    if wrong := [pair for pair in rename or [] if "=" not in pair]:
        raise SettingsError(f"--rename {wrong[0]}: must look like SET=NAME.")
    names = dict(pair.split("=", 1) for pair in rename or [])
    wishes = Wishes(
        layout=read_layout(layout).renamed(names), validation=_size("--validation", validation),
        free=_size("--free", free), group_by=tuple(group_by or ("auto",)), free_list=free_list, seed=seed,
        kernel=trimap_kernel, obfuscated=obfuscated, previous=previous, verify=verify, foregrounds=foregrounds,
    )  # fmt: skip
    with _counted() as start:
        built = build(run, out, wishes, workers or 0, start)
    lines = [f"{name}: {count}" for name, count in built.sets.items()]
    lines += [f"refused: {source} ({why})" for source, why in built.refused]
    console.result(built.to_json(), "\n".join([*lines, f"dataset: {out}, version {built.version}"]))
    if built.refused:
        raise typer.Exit(EXIT_HELD_BACK)


def _size(option: str, value: str) -> int | float:
    """A count, or a share written as 5% or 0.05."""
    try:
        if value.endswith("%"):
            return float(value[:-1]) / 100
        return float(value) if "." in value else int(value)
    except ValueError:
        raise SettingsError(f"{option} {value}: must be a count such as 500, or a share such as 5%.") from None


@contextmanager
def _counted() -> Iterator[Any]:
    """Progress of work that tells each step itself."""
    done = 0

    def start_counting(total: int) -> Any:
        show = start(total)

        def step() -> None:
            nonlocal done
            done += 1
            show()

        return step

    with console.progress(lambda: done) as start:
        yield start_counting


@app.command()
def check(
    dataset: Annotated[
        Path, typer.Argument(metavar="DATASET", help="folder of a dataset, ours or the original P3M-10k")
    ],
    layout: Annotated[str | None, typer.Option("--layout", help="p3m10k, rwp, plain, or a YAML file")] = None,
    duplicates: Annotated[bool, typer.Option("--duplicates/--no-duplicates", help="look for near-duplicates")] = True,
    workers: opt.WorkersOption = None,
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
    progress: opt.ProgressOption = True,
) -> None:
    """Check pairing, sizes, mattes, trimaps, facemasks, metadata and duplicates of a dataset."""
    from p3mdata.dataset.check import check_dataset

    console.out = console.Output(json, quiet, progress)
    with _counted() as start:
        done = check_dataset(dataset, layout, duplicates, workers or 0, start)
    lines = [f"{'error' if f.error else 'warning'}: {f.file} {f.sentence} [{f.code}]" for f in done.findings]
    sets = ", ".join(f"{name} {count}" for name, count in done.sets.items())
    verdict = (
        f"{done.errors} errors, {len(done.findings) - done.errors} warnings" if done.findings else "nothing is wrong"
    )
    console.result(done.to_json(), "\n".join([f"{done.layout}: {sets}", *lines, verdict]))
    if done.errors:
        raise typer.Exit(EXIT_PROOF_FAILED)


@app.command()
def stats(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="run folder or dataset")],
    plot: Annotated[Path | None, typer.Option("--plot", help="draw the tables (PNG)")] = None,
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
) -> None:
    """Resolutions, faces, face sizes, poses, methods and outcomes of a run or a dataset."""
    from p3mdata.dataset.stats import draw, stats_of

    console.out = console.Output(json, quiet)
    found = stats_of(path)
    if plot is not None:
        if plot.suffix.lower() != ".png":
            raise SettingsError(f"{plot}: the plot is a PNG file. Let its name end in .png.")
        write_atomic(plot, draw(found))
    console.counts(found.sets, found.tables, found.to_json())


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
    from p3mdata.recipes import read_recipe

    if wrong := [pair for pair in set_ or [] if "=" not in pair]:
        raise SettingsError(f"--set {wrong[0]}: must look like variable=value.")
    given = {name: value for name, _, value in (pair.partition("=") for pair in set_ or [])}
    worst = 0
    for step in read_recipe(recipe, given):
        try:
            if step.job is not None:
                console.out = console.Output(json, quiet, progress)
                _run_job(step.job, step.stage)
            elif step.run is not None and step.stage is Stage.VERIFY:
                verify(step.run, None, json, quiet, progress)
            elif step.run is not None:
                _later_stage(step.run, step.stage, None, console.Output(json, quiet, progress))
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
    area: opt.AreaOption = None,
    alpha: Annotated[Path | None, typer.Option("--alpha", help="alpha matte")] = None,
    trimap: Annotated[Path | None, typer.Option("--trimap", help="trimap")] = None,
    mask: Annotated[Path | None, typer.Option("--mask", help="hand-drawn mask")] = None,
    transition_width: opt.WidthOption = None,
    jpeg: opt.JpegOption = None,
    config: opt.ConfigOption = None,
) -> None:
    """Draw the six steps for one picture. The drawing shows the clear face: keep it private."""
    from p3mdata.explain import explain as draw

    settings, _ = _settings(config, _pick(locals()))
    draw(photo, out, settings, alpha, trimap, mask)
    console.say("The drawing shows the clear face: keep it private.")
    console.result({"out": str(out)}, str(out))


@app.command()
def doctor(json: opt.JsonOption = False) -> None:
    """Check libraries, model files, cores and memory, and say what to install."""
    from p3mdata.doctor import examine

    console.out = console.Output(json)
    checks = examine()
    lines = "\n".join(f"{'ok  ' if c.ok else 'FAIL' if c.needed else 'note'} {c.name}: {c.finding}" for c in checks)
    console.result([{"name": c.name, "ok": c.ok, "needed": c.needed, "finding": c.finding} for c in checks], lines)
    if any(c.needed and not c.ok for c in checks):
        raise typer.Exit(EXIT_USAGE)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="where to put the sample and the run")] = Path("demo"),
    workers: opt.WorkersOption = None,
) -> None:
    """Anonymize the embedded sample: one public-domain portrait in several sizes, orientations and formats."""
    from p3mdata.demo import make_sample

    sample = make_sample(folder)
    settings, execution = resolve({"workers": workers})
    job = Job(
        source=sample.photos, alphas=sample.mattes, out=folder / "run", settings=settings,
        execution=execution.model_copy(update={"overwrite": True}),
    )  # fmt: skip
    with console.progress(lambda: count_done(job.out)) as start:
        summary = anonymize_job(job, Stage.ALL, start)
    console.summary(summary, job.out / REPORT)
    if summary.outcomes != sample.expected:
        console.error(f"The sample should have come to {sample.expected}. Run 'p3mdata doctor'.")
        raise typer.Exit(EXIT_BUG)


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
