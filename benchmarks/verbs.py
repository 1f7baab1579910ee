"""Processor time of single verbs, of one or several checkouts side by side.

    python -m benchmarks.verbs --limit 12 --base ../earlier

Each checkout makes a run of its own of the same photographs, with a drawn matte each, and then every verb is called in
turns (A B A B), as a process of its own with one worker. Verbs over a folder are called for all photographs and for a
few of them, so that what starting costs can be told from what a photograph costs. A dataset is built of a run that was
not proved before, and of one that was.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.anonymize import LONG_SIDE, ONE_THREAD, ROOT, portraits, prepare, table

FEW = 3


def call(checkout: Path, *arguments: str | Path) -> float:
    """Run a verb of a checkout; returns seconds of processor time of the process and its children."""
    environment = {**os.environ, **dict.fromkeys(ONE_THREAD, "1"), "PYTHONPATH": str(checkout)}
    # As where the package is installed: its modules are compiled once.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment["PYTHONPYCACHEPREFIX"] = str(Path(tempfile.gettempdir()) / f"verbs-{os.getpid()}")
    before = os.times()
    command = [sys.executable, "-m", "p3mdata", *map(str, arguments)]
    done = subprocess.run(command, check=False, env=environment, cwd=checkout, capture_output=True, text=True)
    if done.returncode not in (0, 3):
        sys.exit(f"{checkout}: {' '.join(command)}\n{done.stderr[-2000:]}")
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def draw_mattes(photographs: Path, into: Path) -> None:
    """A matte for each photograph: all of it belongs to the person, but for soft edges left and right."""
    import numpy as np
    from PIL import Image

    for path in photographs.iterdir():
        width, height = Image.open(path).size
        row = np.minimum(np.minimum(np.arange(width), np.arange(width)[::-1]) * 4080 // width, 255)
        Image.fromarray(np.tile(row.astype(np.uint8), (height, 1))).save(into / f"{path.stem}.png")


def verbs(checkout: Path, photographs: Path, mattes: Path, folder: Path) -> Iterator[tuple[str, float]]:
    """What each verb takes, with a run that is made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    run, one = folder / "run", sorted(photographs.iterdir())[0]
    yield (
        "anonymize dir",
        call(
            checkout,
            "anonymize",
            "dir",
            photographs,
            run,
            "--alphas",
            mattes,
            "--workers",
            "1",
            "--trust-no-face",
            "-q",
        ),
    )
    built = "build-split", run
    yield "build-split", call(checkout, *built, folder / "data", "--workers", "1", "-q")
    yield "verify", call(checkout, "verify", run, "--workers", "1", "-q")
    yield "build-split after verify", call(checkout, *built, folder / "again", "--workers", "1", "-q")
    yield "anonymize image", call(checkout, "anonymize", "image", one, folder / "out.jpg", "-q")
    yield "--help", call(checkout, "--help")


def measure(checkouts: Sequence[Path], args: argparse.Namespace, folder: Path) -> str:
    """A table of all verbs and checkouts."""
    from collections import defaultdict

    sizes = {"all": args.limit, "few": FEW}
    seconds: dict[tuple[str, str, Path], list[float]] = defaultdict(list)
    for kind, count in sizes.items():
        photographs, mattes = folder / kind, folder / f"{kind}-mattes"
        photographs.mkdir()
        mattes.mkdir()
        print(prepare(portraits(args.images), count, LONG_SIDE[args.size], photographs), file=sys.stderr)
        draw_mattes(photographs, mattes)
        for number in range(args.repeat + 1):
            for checkout in checkouts:
                for verb, taken in verbs(checkout, photographs, mattes, folder / "work"):
                    if number:
                        seconds[verb, kind, checkout].append(taken)
    body = []
    for verb in dict.fromkeys(verb for verb, _, _ in seconds):
        whole = [statistics.median(seconds[verb, "all", c]) for c in checkouts]
        few = [statistics.median(seconds[verb, "few", c]) for c in checkouts]
        over_folder = verb not in ("anonymize image", "--help")
        each = [(a - b) / (args.limit - FEW) for a, b in zip(whole, few, strict=True)]
        for name, figures in ((f"{verb}, whole", whole), (f"{verb}, each photograph more", each)):
            if name == f"{verb}, whole" or over_folder:
                ratios = [f"{figures[0] / other:.2f}" for other in figures[1:]]
                body.append([name, *[f"{1000 * value:.0f}" for value in figures], *ratios])
    names = [str(c.name) for c in checkouts]
    return table(["ms of processor time", *names, *[f"{names[0]} / {n}" for n in names[1:]]], body)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=Path, help="folder with portraits")
    parser.add_argument("--size", choices=LONG_SIDE, default="1080p", help="what portraits are scaled to")
    parser.add_argument("--limit", type=int, default=12, help="photographs")
    parser.add_argument("--repeat", type=int, default=2, help="rounds that count; one more is run first")
    parser.add_argument("--base", type=Path, action="append", default=[], help="another checkout; may be repeated")
    args = parser.parse_args()
    if args.limit <= FEW:
        parser.error(f"--limit is more than {FEW}")
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        print(measure([ROOT, *(base.resolve() for base in args.base)], args, Path(folder)))


if __name__ == "__main__":
    main()
