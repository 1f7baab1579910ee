"""Commands about a finished run and people: review, audit, take-down."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer

from p3mdata import options as opt
from p3mdata.base import console
from p3mdata.base.commands import App
from p3mdata.cli import render
from p3mdata.cli.common import RunArgument, finish, progress_of
from p3mdata.errors import EXIT_HELD_BACK, EXIT_PROOF_FAILED, SettingsError, SetupError
from p3mdata.run.close import renew_report
from p3mdata.run.stages import Stage

app = App()


@app.command()
def review(
    run: RunArgument,
    apply: Annotated[
        Path | None, typer.Option("--apply", help="decisions from a file (JSON lines), no browser")
    ] = None,
    masks: Annotated[Path | None, typer.Option("--masks", help="with --apply: folder of hand-drawn masks")] = None,
    redo: Annotated[
        list[str] | None,
        typer.Option("--redo", metavar="KEY=VALUE", help="do what is held back again with other settings, no browser"),
    ] = None,
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

        with progress_of(run) as start:
            done = apply_file(run, apply, masks, reviewer, workers or 0, start)
        finish(done, run, Stage.ALL)
        return
    if redo:
        from p3mdata.review.batch import redo_held

        pairs = [pair.partition("=") for pair in redo]
        if wrong := next((pair for pair in pairs if not pair[1]), None):
            raise SettingsError(f"--redo {wrong[0]}: write KEY=VALUE, such as boundary=recomposite.")
        settings = {key.replace("-", "_"): value for key, _, value in pairs}
        with progress_of(run) as start:
            done = redo_held(run, settings, reviewer, workers or 0, start)
        finish(done, run, Stage.ALL)
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
    finish(summary, run, Stage.ALL)


@app.command()
def audit(
    run: RunArgument,
    identities: Annotated[
        str | None, typer.Option("--identities", help="who is on which photo: auto, prefix, folder, or a CSV file")
    ] = None,
    max_rank1: Annotated[float | None, typer.Option("--max-rank1", help="fail (exit 4) above this share")] = None,
    sweep: Annotated[bool, typer.Option("--sweep/--no-sweep", help="try other strengths and methods as well")] = True,
    sample: Annotated[
        int | None,
        typer.Option("--sample", help="draw N released images at random: into the review page, or for --recall"),
    ] = None,
    recall: Annotated[
        bool, typer.Option("--recall", help="look again, slowly, for faces that were missed; seconds per image")
    ] = False,
    attackers: Annotated[
        bool, typer.Option("--attackers", help="attackers that train on faces obfuscated alike; minutes to hours")
    ] = False,
    groups: Annotated[
        Path | None, typer.Option("--groups", help="with --attackers: CSV file of source and group, told apart")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="--recall draws with it, --attackers deals people")] = 0,
    workers: opt.WorkersOption = None,
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
    progress: opt.ProgressOption = True,
) -> None:
    """Can software tell who is on the released images? Writes audit.json, audit.png and a part of the report.

    With --sample alone only the sample is drawn: look at it with 'p3mdata review', the report then bounds the misses.
    With --recall the sources of all released images, or of a sample, are looked at in every size, turned and mirrored;
    an image with a face that was left bare is held back again, and recall.json tells how often that was.
    With --attackers the stronger attackers are run instead, and attackers.json is written.
    """
    from p3mdata.audit.reidentify import audit_run
    from p3mdata.run.sampling import sample_run

    console.out = console.Output(json, quiet, progress)
    if recall:
        if attackers or groups is not None or identities is not None or max_rank1 is not None:
            raise SettingsError("--recall: looks for missed faces alone. Give it --sample, --seed or --workers.")
        _recall(run, sample, seed, workers or 0)
        return
    if groups is not None and not attackers:
        raise SettingsError("--groups: goes with --attackers.")
    beside: dict[str, int] = {}
    if sample is not None:
        beside = {"sample": len(sample_run(run, sample))}
        renew_report(run)
        text = f"{beside['sample']} images wait in 'p3mdata review {run}' (view: sample)"
        if identities is None:
            console.result(beside, text)
            return
        # With --json there is one object, that of the audit.
        if not json:
            console.result(None, text)
    if attackers:
        from p3mdata.audit.attackers import attack_run

        with console.counted() as start:
            attacked = attack_run(run, identities or "auto", groups, max_rank1, seed, start)
        renew_report(run)
        render.attackers(attacked, run, beside)
        if not attacked.passed:
            raise typer.Exit(EXIT_PROOF_FAILED)
        return
    only_own: dict[str, Any] = {} if sweep else {"blur": (), "mosaic": (), "others": ()}
    with console.counted() as start:
        found = audit_run(run, identities or "auto", max_rank1=max_rank1, progress=start, **only_own)
    renew_report(run)
    render.audit(found, run, beside)
    if not found.passed:
        raise typer.Exit(EXIT_PROOF_FAILED)


def _recall(run: Path, sample: int | None, seed: int, workers: int) -> None:
    from p3mdata.audit.recall import recall_run
    from p3mdata.review.removal import still_in

    with console.counted() as start:
        found = recall_run(run, sample, seed, workers, start)
    renew_report(run)
    render.recall(found, still_in(run, found.waiting))
    if not found.complete:
        raise typer.Exit(EXIT_HELD_BACK)


@app.command()
def advise(
    run: RunArgument,
    max_rank1: Annotated[float, typer.Option("--max-rank1", help="share of faces that no attacker may pass")] = 0.1,
    identities: Annotated[
        str | None, typer.Option("--identities", help="who is on which photo: auto, prefix, folder, or a CSV file")
    ] = None,
    train_checks: Annotated[
        list[Path] | None,
        typer.Option("--train-check", help="folder of a train-check: its costs go before the proxy; repeatable"),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="deals people out")] = 0,
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
    progress: opt.ProgressOption = True,
) -> None:
    """Propose method and strength: RUN's faces are rendered with each in memory, and attacked.

    Writes advice.json and advice.png.
    """
    from p3mdata.audit.advise import advise_run

    console.out = console.Output(json, quiet, progress)
    with console.counted() as start:
        found = advise_run(run, max_rank1, identities or "auto", seed, start, train_checks=train_checks or ())
    render.advice(found, run)


@app.command()
def remove(
    run: RunArgument,
    names: Annotated[list[str], typer.Argument(metavar="ID...", help="ids, or paths below the source folder")],
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
) -> None:
    """Take images down: withdraw everything released for them and leave a tombstone in removed.jsonl."""
    from p3mdata.review.removal import remove_images

    console.out = console.Output(json, quiet)
    done = remove_images(run, names)
    row = {"removed": list(done.ids), "version": done.version, "released": done.summary.released}
    row |= {"cleaned": list(done.cleaned), "rebuild": list(done.rebuild), "gone": list(done.gone)}
    lines = [f"taken down: {', '.join(done.ids)}", f"dataset version: {done.version}"]
    lines += [f"taken out of: {path} (exports made of it must be built again)" for path in done.cleaned]
    lines += [f"still in this export, build it again or delete it: {path}" for path in done.rebuild]
    lines += [f"not where it was made; a copy elsewhere still has the images: {path}" for path in done.gone]
    console.result(row, "\n".join(lines))
