"""Commands that train on a dataset, or test networks on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from p3mdata import options as opt
from p3mdata.base import console
from p3mdata.base.commands import App
from p3mdata.cli import render
from p3mdata.config import Method
from p3mdata.errors import EXIT_OK, SettingsError
from p3mnet.traincheck import Reporter, Scale, TrainCheckSettings, seconds_of
from p3mnet.traincheck import train_check as check

app = App()


@app.command("train-check")
def train_check(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="folder of a dataset, ours or P3M-10k")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="folder of the result; absent = DATASET-train-check")
    ] = None,
    originals: Annotated[
        Path | None,
        typer.Option("--originals", help="photographs before anonymization, for N:N and the cost; only read"),
    ] = None,
    secret_file: Annotated[
        Path | None,
        typer.Option(
            "--secret-file", help="with --originals: private/secret of the run, to find photographs by id, not by name"
        ),
    ] = None,
    budget: Annotated[
        str | None, typer.Option("--budget", help="time for all trainings and tests: 15m, 1.5h; absent = 5m, full 60m")
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="instead of --budget: of each training")] = None,
    protocols: Annotated[
        str | None, typer.Option("--protocols", help="trained:tested, of B:B,B:N,N:N,N:B; absent = all that can run")
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            "--methods", help="test the network of B on obfuscations too, such as blur,mosaic,zero (needs --originals)"
        ),
    ] = None,
    each_method: Annotated[
        bool, typer.Option("--each-method", help="with --methods: also train a network on each obfuscation")
    ] = False,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="trainings of each kind; 2 and more give intervals")] = 3,
    variant: Annotated[
        str, typer.Option("--variant", help="resnet34, swin_t, vitae_s, basic, tfi, tfi-sbfi, tfi-dbfi, gfm, modnet")
    ] = "resnet34",
    scale: Annotated[
        Scale, typer.Option("--scale", help="smoke (CPU, minutes, no benchmark) or full; auto = full on a GPU")
    ] = Scale.AUTO,
    tolerance: Annotated[float, typer.Option("--tolerance", min=0, help="cost that passes, as a share of N:N")] = 0.1,
    cp: Annotated[str, typer.Option("--cp", help="copy-and-paste (P3M-CP) where B is trained: icp or fcp")] = "none",
    faces: Annotated[Path | None, typer.Option("--faces", help="with --cp: folder of celeba-facemask")] = None,
    encoder_weights: Annotated[
        str, typer.Option("--encoder-weights", help="scale full: hub (downloads), a file, or random")
    ] = "hub",
    most_tested: Annotated[
        int | None, typer.Option("--most-tested", min=1, help="pictures tested of each set, at most")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N")] = "auto",
    workers: opt.WorkersOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="begin anew where OUT is of other settings or an earlier dataset")
    ] = False,
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
    progress: opt.ProgressOption = True,
) -> None:
    """Does the dataset still teach matting? Trains under B:B, B:N, N:N, N:B; exit 4 if not, 3 if that stays open.

    The same command goes on after an interruption. Without a GPU it is a smoke check, not a benchmark.
    """
    console.out = console.Output(json, quiet, progress)
    settings = TrainCheckSettings(
        variant=variant, scale=scale, budget=None if budget is None else seconds_of(budget), epochs=epochs,
        protocols=None if protocols is None else _listed(protocols), methods=_methods(methods), originals=originals,
        secret_file=secret_file,
        each_method=each_method,
        seeds=seeds, tolerance=tolerance, copy_paste=cp, faces=faces, encoder_weights=encoder_weights,
        most_tested=most_tested, device=device, workers=workers or 0, overwrite=overwrite,
    )  # fmt: skip
    target = out or dataset.resolve().with_name(f"{dataset.resolve().name}-train-check")
    found = check(dataset, target, settings, Reporter(console.say, console.counted, bars=True))
    render.train_check(found)
    if found.exit_code != EXIT_OK:
        raise typer.Exit(found.exit_code)


@app.command()
def compare_checks(
    checks: Annotated[list[Path], typer.Argument(metavar="CHECK...", help="folders of train-checks")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="OUT", help="Markdown file to write; may be the last name instead, as x.md"
        ),
    ] = None,
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
) -> None:
    """One table of several train-checks: networks, integration modules or kinds of pasting beside each other."""
    from p3mdata.base.files import write_alone
    from p3mnet.traincheck.compare import comparison

    console.out = console.Output(json, quiet)
    if out is None and len(checks) > 1 and checks[-1].suffix.lower() == ".md" and not checks[-1].is_dir():
        *checks, out = checks
    rows, text = comparison(checks)
    if out is not None:
        write_alone(out, text.encode("utf-8"))
    console.result({"rows": rows, "out": None if out is None else str(out)}, text)


def _listed(names: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in names.split(",") if name.strip())


def _methods(names: str | None) -> tuple[Method, ...]:
    try:
        return tuple(dict.fromkeys(Method(name) for name in _listed(names or "")))
    except ValueError as exc:
        raise SettingsError(f"--methods {names}: must be of {','.join(Method)}.") from exc


@app.command()
def benchmark(
    dataset: Annotated[Path | None, typer.Argument(metavar="DATASET", help="dataset with validation sets")] = None,
    out: Annotated[
        Path | None, typer.Argument(metavar="OUT", help="folder for tables and alphas; DATASET-benchmark if absent")
    ] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--methods", "-m", help="list, all, classic, trimap-free, names, onnx:NAME=FILE, pngs:NAME=FOLDER"
        ),
    ] = None,
    checkpoint: Annotated[
        list[str] | None, typer.Option("--checkpoint", help="NAME=FILE: weights of a network among --methods")
    ] = None,
    onnx: Annotated[
        list[str] | None,
        typer.Option("--onnx", help="NAME.option=value: norm, order, trimap, multiple, channels, output, activation"),
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="set to test on; absent = those of validation")
    ] = None,
    originals: Annotated[
        Path | None,
        typer.Option("--originals", help="photographs before anonymization: obfuscated sets are tested as such too"),
    ] = None,
    secret_file: Annotated[
        Path | None,
        typer.Option(
            "--secret-file", help="with --originals: private/secret of the run, to find photographs by id, not by name"
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="the first so many images of each set; 0 = all")] = 0,
    trials: Annotated[int, typer.Option("--trials", min=0, help="runs on one 512x512 picture; 0 = no times")] = 100,
    trial_seconds: Annotated[
        float, typer.Option("--trial-seconds", min=0, help="no run begins after this, once there are three")
    ] = 60.0,
    max_side: Annotated[
        int, typer.Option("--max-side", min=32, help="longest side that classic methods and ONNX files see, pixels")
    ] = 1024,
    mode: Annotated[
        str, typer.Option("--mode", help="hybrid, resize, legacy_resize (published figures' rule): how networks look")
    ] = "hybrid",
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N")] = "auto",
    corrected: Annotated[bool, typer.Option("--corrected", help="metrics as defined, as p3mnet evaluate")] = False,
    layout: Annotated[str | None, typer.Option("--layout", help="p3m10k, rwp, plain, or a YAML file")] = None,
    workers: opt.WorkersOption = None,
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
    progress: opt.ProgressOption = True,
) -> None:
    """The paper's benchmark: ten metrics per method and validation set, parameters, time, and a plot of SAD by time.

    Networks without a checkpoint are counted and timed only. The same call goes on where it was interrupted.
    """
    from p3mnet.baselines.opening import parse_requests
    from p3mnet.benchmark import BenchmarkPlan, report, run_benchmark
    from p3mnet.benchmark.catalogue import listing, listing_rows

    console.out = console.Output(json, quiet, progress)
    if not methods or methods == ["list"]:
        console.result(listing_rows(), listing())
        if not methods:
            raise SettingsError("--methods: name what to compare, such as --methods classic or --methods all.")
        return
    if dataset is None:
        raise SettingsError("DATASET: is missing. Give the folder of a dataset.")
    requests = parse_requests(methods, checkpoint or (), onnx or ())
    plan = BenchmarkPlan(
        tuple(sets) if sets else None, limit, trials, trial_seconds, max_side, mode, device, corrected, originals,
        workers or 0, secret_file,
    )  # fmt: skip

    target = out or dataset.resolve().with_name(f"{dataset.resolve().name}-benchmark")
    with console.counted() as start:
        found = run_benchmark(dataset, target, requests, plan, start, layout)
    written = "\n".join(f"{what}: {path}" for what, path in report.files(found).items())
    console.result(found.to_json(), f"{report.tables(found)}\n\n{written}")
    if found.exit_code:
        raise typer.Exit(found.exit_code)
