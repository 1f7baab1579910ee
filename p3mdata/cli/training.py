"""Commands about networks that a dataset trains or tests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from p3mdata import console
from p3mdata import options as opt
from p3mdata.errors import SettingsError

app = typer.Typer()


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
        typer.Option("--onnx", help="NAME.option=value: norm, order, trimap, multiple, channels, output of a file"),
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="set to test on; absent = those of validation")
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
        str, typer.Option("--mode", help="hybrid or resize: how networks look, as p3mnet infer")
    ] = "hybrid",
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N")] = "auto",
    corrected: Annotated[bool, typer.Option("--corrected", help="metrics as defined, as p3mnet evaluate")] = False,
    layout: Annotated[str | None, typer.Option("--layout", help="p3m10k, rwp, plain, or a YAML file")] = None,
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
    progress: opt.ProgressOption = True,
) -> None:
    """The paper's benchmark: ten metrics per method and validation set, parameters, time, and a plot of SAD by time.

    Networks without a checkpoint are counted and timed only. The same call goes on where it was interrupted.
    """
    from p3mnet.baselines.opening import parse_requests
    from p3mnet.benchmark import Plan, report, run_benchmark
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
    plan = Plan(tuple(sets) if sets else None, limit, trials, trial_seconds, max_side, mode, device, corrected)
    target = out or dataset.resolve().with_name(f"{dataset.resolve().name}-benchmark")
    with console.counted() as start:
        found = run_benchmark(dataset, target, requests, plan, start, layout)
    written = "\n".join(f"{what}: {path}" for what, path in report.files(found).items())
    console.result(found.to_json(), f"{report.tables(found)}\n\n{written}")
    if found.exit_code:
        raise typer.Exit(found.exit_code)
