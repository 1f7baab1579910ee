"""Command line of p3mnet: parse, call, render, exit code; nothing else."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p3mdata import options as opt
from p3mdata.base import console
from p3mdata.base.commands import App
from p3mdata.base.exits import run_app
from p3mdata.errors import EXIT_HELD_BACK, SettingsError
from p3mdata.version import __version__

if TYPE_CHECKING:
    from p3mnet.evaluate import SetResult

app = App(
    name="p3mnet",
    help="Train, run and evaluate P3M-Net on datasets of p3mdata.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def train(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="new folder, or that of an interrupted run")],
    config: Annotated[
        Path,
        typer.Option("--config", "-c", help="YAML recipe, or the name of one that comes with it: p3m10k_resnet34, ..."),
    ],
    dataset: Annotated[Path | None, typer.Option("--dataset", help="dataset to train on")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="setting=value, such as model.drop_path=0.1")] = None,
    resume: Annotated[bool, typer.Option("--resume/--no-resume", help="go on with an interrupted run")] = True,
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
    progress: opt.ProgressOption = True,
) -> None:
    """Train a network; the same command goes on after an interruption. Under torchrun several processes train it."""
    from p3mnet.training import ConsoleWatch, read_config
    from p3mnet.training import train as run

    first = os.environ.get("RANK", "0") == "0"
    console.out = console.Output(json, quiet or not first, progress)
    settings = read_config(config, set_ or (), dataset=None if dataset is None else str(dataset))
    done = run(settings, out, resume, ConsoleWatch())
    if not first:
        return
    for sentence in done.skipped:
        console.say(f"skipped: {sentence}")
    metric = settings.validation.metric
    row = {**vars(done), "best": str(done.best), "metric": metric}
    console.result(
        row,
        f"{done.steps} steps, {done.images_per_second:.1f} images/s; {done.bottleneck}\n"
        f"best: {done.best} (epoch {done.epoch}, {metric} {done.value:.4g})",
    )


@app.command()
def pastes(
    out: Annotated[Path, typer.Argument(metavar="SHEET.png", help="picture of pairs; shows the sources' clear faces")],
    config: Annotated[Path, typer.Option("--config", "-c", help="recipe whose copy_paste and sources are looked at")],
    dataset: Annotated[Path | None, typer.Option("--dataset", help="dataset to train on")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="setting=value, such as copy_paste.mode=icp")] = None,
    pairs: Annotated[int, typer.Option("--pairs", min=1, help="faces to paste over")] = 100,
    shown: Annotated[int, typer.Option("--shown", min=1, help="pairs on the picture")] = 12,
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
) -> None:
    """Show what copy-and-paste (P3M-CP) would do: how much of the faces it covers, and a picture of pairs."""
    from p3mdata.base.files import write_alone
    from p3mdata.base.jsonl import PRIVATE_MODE
    from p3mdata.dataset.places import refuse_in_release
    from p3mdata.imaging import Picture, encode
    from p3mnet.copy_paste import Sources
    from p3mnet.copy_paste.look import look, sheet_of
    from p3mnet.data import TrainingSet
    from p3mnet.training import read_config
    from p3mnet.training.selection import know_people

    console.out = console.Output(json, quiet)
    refuse_in_release(out)
    settings = read_config(config, set_ or (), dataset=None if dataset is None else str(dataset))
    if settings.sources is None or settings.copy_paste.mode == "none":
        raise SettingsError("There is nothing to look at: set copy_paste.mode to icp or fcp, and sources.")
    data = settings.data.model_copy(update={"colours": "none"})
    pictures = TrainingSet(settings.dataset, settings.training_set, data)
    know_people(pictures, settings)
    sources = Sources(settings.sources, settings.source_images, settings.copy_paste.source_groups)
    found = look(pictures, sources, settings.copy_paste, pairs, shown)
    write_alone(out, encode(Picture(sheet_of(found.rows), None, "PNG", None, 1), "PNG")[0], PRIVATE_MODE)
    row = found.to_json()
    for name, unit in (("angle_error", " degrees"), ("tone_distance", "")):
        if name in row:
            console.say(
                f"{name.replace('_', ' ')} {row[name]:.1f}{unit}, of random sources {row[f'{name}_of_random']:.1f}"
            )
    if "group_agreement" in row:
        console.say(
            f"groups agree for {row['group_agreement']:.0%}, of random sources {row['group_agreement_of_random']:.0%}"
        )
    console.result(
        row,
        f"{row['pairs']} faces: half of them are covered by {row['median_coverage']:.0%} and more, "
        f"{row['share_below_a_quarter']:.0%} by less than a quarter; {row['pictures_without_a_face']} without a face\n"
        f"pairs: {out}",
    )


@app.command()
def infer(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="folder of pictures")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="new folder, or that of an interrupted call")],
    checkpoint: Annotated[Path, typer.Option("--checkpoint", help="weights, such as OUT/checkpoints/best.pt of train")],
    mode: Annotated[
        str,
        typer.Option(
            "--mode",
            help="hybrid (trimap from half the size, strands from the full one), resize, legacy_resize (published)",
        ),
    ] = "hybrid",
    max_side: Annotated[int, typer.Option("--max-side", help="longest side that the network sees; caps memory")] = 1600,
    cutouts: Annotated[
        bool,
        typer.Option(
            "--cutouts/--no-cutouts", help="also write RGBA cut-outs; under alpha 0 they keep the photograph's colours"
        ),
    ] = True,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N")] = "auto",
    precision: Annotated[
        str, typer.Option("--precision", help="on a GPU: float32, or tf32 (faster, equal in 8 bits); auto = tf32")
    ] = "auto",
    published: Annotated[
        str | None, typer.Option("--published", help="the weights are a published file of this network")
    ] = None,
    trimaps: Annotated[
        Path | None, typer.Option("--trimaps", help="for networks that need them: folder of trimaps of equal names")
    ] = None,
    trimap_network: Annotated[
        Path | None, typer.Option("--trimap-network", help="or weights of a network that finds them: P3M-Net, GFM")
    ] = None,
    batch: Annotated[
        int,
        typer.Option(
            "--batch", help="pictures at a time, for small ones on a GPU; alphas then depend on neighbours by rounding"
        ),
    ] = 1,
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
    progress: opt.ProgressOption = True,
) -> None:
    """Write alpha mattes, and cut-outs, of the pictures of a folder; exit 3 if some of them are broken."""
    from p3mnet.infer import infer as run
    from p3mnet.infer import summary_row

    console.out = console.Output(json, quiet, progress)
    with console.counted() as start:
        done = run(
            images, out, checkpoint, mode, max_side, cutouts, device, published, start, precision,  # type: ignore[arg-type]
            trimaps, trimap_network, batch,
        )  # fmt: skip
    if done.batch < batch:
        console.say(f"memory did not hold {batch} pictures at a time: went on as with --batch {done.batch}")
    for name, sentence in done.broken:
        console.say(f"broken: {name} {sentence}")
    if done.with_opacity:
        console.say(
            f"pictures with an opacity of their own: {done.with_opacity}; it is not looked at, alphas are the network's"
        )
    kept = f", {done.kept} were there already" if done.kept else ""
    console.result(
        summary_row(done), f"{done.made} of {done.pictures} pictures done{kept}\nalphas: {done.out / 'alpha'}"
    )
    if done.exit_code:
        raise typer.Exit(done.exit_code)


@app.command()
def export_onnx(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="weights, such as OUT/checkpoints/best.pt")],
    out: Annotated[Path, typer.Argument(metavar="FILE", help="the ONNX file to write")],
    size: Annotated[str, typer.Option("--size", help="WIDTHxHEIGHT of the images that it is for")] = "512x512",
    batch: Annotated[int, typer.Option("--batch", help="images at a time")] = 1,
    half: Annotated[bool, typer.Option("--half", help="weights of 16 bits, for runtimes on GPUs")] = False,
    published: Annotated[
        str | None, typer.Option("--published", help="the weights are a published file of this network")
    ] = None,
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
) -> None:
    """Write a network as an ONNX file, for inference without PyTorch."""
    from p3mnet.export_onnx import INPUT, inputs_of
    from p3mnet.export_onnx import export_onnx as run
    from p3mnet.predict import open_network

    console.out = console.Output(json, quiet)
    if not (sides := re.fullmatch(r"(\d+)x(\d+)", size)):
        raise SettingsError(f"--size must look like 1024x768, not '{size}'.")
    width, height = map(int, sides.groups())
    model = open_network(checkpoint, published)
    outputs = run(model, out, height, width, batch, half)
    inputs = {name: list(value.shape) for name, value in inputs_of(model, height, width, batch).items()}
    row = {"file": str(out), "input": INPUT, "shape": inputs[INPUT], "inputs": inputs, "outputs": list(outputs)}
    told = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in inputs.items())
    console.result(row, f"{out}: {told} -> {', '.join(outputs)}")


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
