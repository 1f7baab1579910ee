"""Commands from a run to a dataset, and about any dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from p3mdata import options as opt
from p3mdata.base import console
from p3mdata.base.commands import App
from p3mdata.base.files import write_alone
from p3mdata.base.html import count
from p3mdata.cli import render
from p3mdata.cli.common import RunArgument
from p3mdata.dataset.layout import read_layout
from p3mdata.dataset.places import refuse_in_release
from p3mdata.errors import EXIT_HELD_BACK, EXIT_PROOF_FAILED, SettingsError
from p3mdata.export import Form
from p3mdata.imaging.trimap import KERNEL

app = App()
LicenceOption = Annotated[str | None, typer.Option("--license", help="SPDX name; yours to choose")]
NameOption = Annotated[str | None, typer.Option("--name", help="name of the dataset on its card")]
AboutOption = Annotated[Path | None, typer.Option("--about", help="Markdown: how the photographs were collected")]
StatedOption = Annotated[
    Path | None,
    typer.Option("--stated", help="YAML: purpose, contact, legal basis, retention ... for the release record"),
]


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
    poses: Annotated[
        bool, typer.Option("--poses", help="tell how faces are turned, in steps of 15 degrees, for matched P3M-CP")
    ] = False,
    previous: Annotated[Path | None, typer.Option("--previous", help="earlier dataset whose split is kept")] = None,
    seed: Annotated[int, typer.Option("--seed", help="another one draws another split")] = 0,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="first prove each released image that was not")
    ] = True,
    workers: opt.WorkersOption = None,
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
    progress: opt.ProgressOption = True,
) -> None:
    """Build a dataset in the layout of P3M-10k (or another) from the released images of RUN."""
    from p3mdata.dataset.build import SplitSettings
    from p3mdata.dataset.build import build_split as build

    console.out = console.Output(json, quiet, progress)
    if wrong := [pair for pair in rename or [] if "=" not in pair]:
        raise SettingsError(f"--rename {wrong[0]}: must look like SET=NAME.")
    names = dict(pair.split("=", 1) for pair in rename or [])
    settings = SplitSettings(
        layout=read_layout(layout).renamed(names), validation=_size("--validation", validation),
        free=_size("--free", free), group_by=tuple(group_by or ("auto",)), free_list=free_list, seed=seed,
        kernel=trimap_kernel, obfuscated=obfuscated, previous=previous, verify=verify, foregrounds=foregrounds,
        poses=poses,
    )  # fmt: skip
    with console.counted() as start:
        built = build(run, out, settings, workers or 0, start)
    # A set that nobody asked for is empty, and nothing need be said about it.
    lines = [f"{name}: {count}" for name, count in built.sets.items() if count]
    lines += [f"note: {note}" for note in built.notes]
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
    all_: opt.AllOption = False,
) -> None:
    """Check pairing, sizes, mattes, trimaps, facemasks, metadata and duplicates of a dataset."""
    from p3mdata.dataset.check import check_dataset

    console.out = console.Output(json, quiet, progress)
    with console.counted() as start:
        done = check_dataset(dataset, layout, duplicates, workers or 0, start)
    kinds: dict[tuple[bool, str], list[str]] = {}
    for f in done.findings:
        line = f"{'error' if f.error else 'warning'}: {f.file} {f.sentence} [{f.code}]"
        kinds.setdefault((f.error, f.code), []).append(line)
    lines = [line for kind in kinds.values() for line in render.first_of(kind, None, all_)]
    sets = ", ".join(f"{name} {count}" for name, count in done.sets.items())
    verdict = (
        f"{count(done.errors, 'error')}, {count(len(done.findings) - done.errors, 'warning')}"
        if done.findings
        else "nothing is wrong"
    )
    console.result(done.to_json(), "\n".join([f"{done.layout}: {sets}", *lines, verdict]))
    if done.errors:
        raise typer.Exit(EXIT_PROOF_FAILED)


@app.command()
def stats(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="run folder or dataset")],
    plot: Annotated[Path | None, typer.Option("--plot", "--out", "-o", help="draw the tables (PNG)")] = None,
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
        refuse_in_release(plot)
        write_alone(plot, draw(found))
    render.counts(found.sets, found.tables, found.to_json())


@app.command("celeba-facemask")
def celeba_facemask(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="CelebAMask-HQ folder, or portraits")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="folder for facemasks, pairs and lists")],
    from_landmarks: Annotated[
        bool, typer.Option("--from-landmarks", help="any portraits: facemasks from our own landmarks")
    ] = False,
    workers: opt.WorkersOption = None,
    limit: opt.LimitOption = None,
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
    progress: opt.ProgressOption = True,
) -> None:
    """Facemasks for copy-and-paste training (P3M-CP). The contact sheet shows clear faces: keep it private."""
    from p3mdata.celebamask import make_facemasks
    from p3mdata.celebamask.driver import count_done

    console.out = console.Output(json, quiet, progress)
    with console.progress(lambda: count_done(out)) as start:
        made = make_facemasks(source, out, workers or 0, limit, from_landmarks, start)
    refused = "".join(f"\n  {number} {why}" for why, number in sorted(made.refused.items()))
    text = f"{made.images} images: {made.facemasks} facemasks, {made.images - made.facemasks} refused{refused}\n{out}"
    console.result(made.to_json(), text)
    if made.exit_code:
        raise typer.Exit(made.exit_code)


@app.command()
def face_traits(
    faces: Annotated[Path, typer.Argument(metavar="FACES", help="folder that celeba-facemask wrote")],
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
    progress: opt.ProgressOption = True,
) -> None:
    """Pose and tone of the faces to paste, for matched copy-and-paste; the same command goes on."""
    from p3mdata.celebamask.traits import TRAITS, write_traits

    console.out = console.Output(json, quiet, progress)
    with console.counted() as start:
        found = write_traits(faces, start)
    text = f"{found['pairs']} faces, {found['with_pose']} with a pose, {found['unreadable']} unreadable"
    console.result({**found, "out": str(faces / TRAITS)}, f"{text}\n{faces / TRAITS}")


@app.command()
def duplicates(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="pictures, or a run folder (its released images)")],
    out: Annotated[Path, typer.Option("--out", "-o", help="page to write (HTML)")] = Path("duplicates.html"),
    all_: opt.AllOption = False,
    workers: opt.WorkersOption = None,
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
    progress: opt.ProgressOption = True,
) -> None:
    """Find copies: equal, resized, re-encoded, cropped a little, mirrored. The page shows no clear face."""
    from p3mdata.curation import find_duplicates
    from p3mdata.curation.page import write_page

    console.out = console.Output(json, quiet, progress)
    if out.suffix.lower() not in (".html", ".htm"):
        raise SettingsError(f"{out}: the page is an HTML file. Let its name end in .html.")
    refuse_in_release(out)
    with console.counted() as start:
        found = find_duplicates(folder, workers or 0, start)
    write_page(found, out)
    copied = [
        f"{members[0].path}: " + ", ".join(f"{m.path} ({m.kind})" for m in members[1:]) for members in found.clusters
    ]
    lines = [*render.first_of(copied, out, all_)]
    lines += [console.one_line(f"unreadable: {path} {sentence}") for path, sentence in found.unreadable]
    copies = sum(len(members) - 1 for members in found.clusters)
    console.result(
        {**found.to_json(), "page": str(out)},
        "\n".join([*lines, f"{count(found.files, 'picture')}, {count(copies, 'copy', 'copies')}: {out}"]),
    )
    if found.unreadable:
        raise typer.Exit(EXIT_HELD_BACK)


@app.command()
def curate(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="pictures, or a run folder (its released images)")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="folder for kept.txt, rejected.jsonl and the page")],
    alphas: opt.AlphasOption = None,
    run: Annotated[Path | None, typer.Option("--run", help="finished run over DIR, for the faces it found")] = None,
    min_side: Annotated[int, typer.Option("--min-side", min=0, help="pixels of the shorter side")] = 1080,
    all_: opt.AllOption = False,
    near_duplicates: Annotated[
        bool, typer.Option("--near-duplicates/--equal-files-only", help="which copies are rejected")
    ] = True,
    workers: opt.WorkersOption = None,
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
    progress: opt.ProgressOption = True,
) -> None:
    """Apply the paper's collection rules: size, no copies, a salient person. Nothing is moved or deleted.

    Give OUT/kept.txt to 'p3mdata anonymize dir --files'.
    """
    from p3mdata.curation import Rules, curate_folder, write_curation
    from p3mdata.curation.folder import REJECTED, WARNINGS
    from p3mdata.imaging.listing import passed_over

    refuse_in_release(out)
    console.out = console.Output(json, quiet, progress)
    with console.counted() as start:
        rules = Rules(min_side=min_side, near_duplicates=near_duplicates)
        found = curate_folder(source, rules, alphas, run, workers or 0, start)
    page = write_curation(found, out)
    rejected = [f"{entry.source} {entry.rejected.sentence}" for entry in found.entries if entry.rejected]
    warned = [
        f"warning: {entry.source} {one.sentence}"
        for entry in found.entries
        if not entry.rejected
        for one in entry.warnings
    ]
    lines = [*render.first_of(rejected, out / REJECTED, all_), *render.first_of(warned, out / WARNINGS, all_)]
    text = "\n".join([*lines, f"{len(found.kept)} of {len(found.entries)} kept: {out / 'kept.txt'}\npage: {page}"])
    others = passed_over(source, recursive=True)
    console.say(console.one_line(others.sentence()))
    console.result({**found.to_json(), "out": str(out), "passed_over": others.to_json()}, text)


@app.command()
def export(
    source: Annotated[Path, typer.Argument(metavar="PATH", help="run folder or dataset")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="folder of the export")],
    to: Annotated[Form, typer.Option("--to", help="form of the export")],
    licence: LicenceOption = None,
    name: NameOption = None,
    about: AboutOption = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", help="the run behind a dataset: adds its figures, and take-downs name the export"),
    ] = None,
    stated: StatedOption = None,
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
    progress: opt.ProgressOption = True,
) -> None:
    """Write a release: P3M-10k folders, WebDataset, Hugging Face, Parquet or Croissant, with card and record."""
    from p3mdata.export import export as write

    console.out = console.Output(json, quiet, progress)
    with console.counted() as start:
        done = write(source, out, to.value, licence, name, about, run, stated, progress=start)
    splits = ", ".join(f"{split} {count}" for split, count in done.splits.items())
    console.result(
        done.to_json(), f"{to.value}: {splits}; {count(done.files, 'file')}, {done.bytes / 1e6:.1f} MB\n{out}"
    )
    if not done.licensed:
        console.say("The card has no licence: give --license, or fill it in before you publish.")


@app.command("release-record")
def release_record(
    source: Annotated[Path, typer.Argument(metavar="PATH", help="run folder or dataset")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="folder for release-record.md and .json")],
    stated: StatedOption = None,
    licence: LicenceOption = None,
    name: NameOption = None,
    about: AboutOption = None,
    run: Annotated[Path | None, typer.Option("--run", help="the run behind a dataset: adds its figures")] = None,
    json: opt.JsonOption = False,
    quiet: opt.QuietOption = False,
) -> None:
    """Answer what ISO/IEC 27559, GDPR Art. 30 and datasheets ask about a release, and name what is open."""
    from p3mdata.export import write_record

    console.out = console.Output(json, quiet)
    record = write_record(source, out, licence, name, about, run, stated)
    gaps = {by: [gap.key for gap in record.not_stated if gap.by == by] for by in ("run", "publisher")}
    lines = [f"not known to the run: {', '.join(gaps['run'])}"] if gaps["run"] else []
    # The record has them all, in a form to be filled in.
    lines += (
        [f"not stated: {len(gaps['publisher'])} keys of --stated, listed in the record"] if gaps["publisher"] else []
    )
    answered = sum(not question.not_stated for question in record.questions)
    lines += [f"{answered} of {len(record.questions)} questions answered in full", str(out)]
    console.result({"out": str(out), "not_stated": gaps}, "\n".join(lines))
