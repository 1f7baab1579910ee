"""How time and memory grow with the number of images: every part of the tool that sees all of them.

    python -m benchmarks.growth --samples 10000 30000 100000

Real code: planning (listing, matching alphas, hashing), shards with their rows and published files, status, closing
(manifest, ledger, queue, report), build-split with its duplicates, once more over the first, checking the dataset,
finding duplicates, an export to shards, and one to folders with the figures of the run.
Not real: the pictures, 32 x 32 pixels and distinct; `anonymize` of one image, whose place a function takes that gives
the rows and files of a portrait with one face and 478 landmarks without opening the picture; and fsync, which would
measure the disk. Each stage is a process of its own; memory is its peak resident size, imports included.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from p3mdata.config import Execution, Job

_SIDE = 32
_PER_FOLDER = 1000


def _job(work: Path) -> Job:
    return Job(source=work / "src", out=work / "run", alphas=work / "alphas", execution=Execution(workers=1))


def make_sources(work: Path, samples: int) -> None:
    """Distinct pictures and mattes, a thousand to a folder."""
    import cv2

    _, matte = cv2.imencode(".png", np.repeat(np.linspace(0, 255, _SIDE).astype(np.uint8)[None], _SIDE, 0))
    for number in range(samples):
        folder = f"{number // _PER_FOLDER:04d}"
        if number % _PER_FOLDER == 0:
            (work / "src" / folder).mkdir(parents=True)
            (work / "alphas" / folder).mkdir(parents=True)
        coarse = np.random.default_rng(number).integers(0, 256, (4, 4, 3), np.uint8)
        _, data = cv2.imencode(".png", cv2.resize(coarse, (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC))
        name = f"{number:08d}.png"
        (work / "src" / folder / name).write_bytes(data.tobytes())
        (work / "alphas" / folder / name).write_bytes(matte.tobytes())


def plan(work: Path) -> None:
    from p3mdata.run.layout import make_private_folder
    from p3mdata.run.plan import make_plan

    make_plan(_job(work))
    make_private_folder(work / "run/shards")


def shards(work: Path) -> None:
    import cv2

    import p3mdata.run.shards
    from p3mdata.anonymize.inputs import Inputs
    from p3mdata.anonymize.pipeline import Anonymized
    from p3mdata.base.files import sha256
    from p3mdata.records import Face, ImageResult, Outcome, Proofs, Sample
    from p3mdata.run.executors import Work, local
    from p3mdata.run.plan import read_plan
    from p3mdata.run.stages import Stage

    # A quarter of the picture, so that checking finds nothing wrong.
    quarter = np.zeros((_SIDE, _SIDE), np.uint8)
    quarter[_SIDE // 4 : -_SIDE // 4, _SIDE // 4 : -_SIDE // 4] = 255
    facemask = cv2.imencode(".png", quarter)[1].tobytes()
    landmarks = tuple(round(float(x), 1) for x in np.random.default_rng(0).uniform(0, _SIDE, 956))
    face = Face((8.0, 8.0, 24.0, 24.0), 0.9, ("centerface", "libfacedetection"), landmarks[:10], landmarks, None)
    proofs = Proofs(0, 0, 1.0, 0, True, (), 0, 0)

    def recorded(sample: Sample, inputs: Inputs, *_: Any, **__: Any) -> Anonymized:
        assert inputs.alpha is not None
        data = {"images": inputs.photo, "facemasks": facemask, "alphas": inputs.alpha}
        files = {kind: (f"{sample.id}.png", sha256(content)) for kind, content in data.items()}
        row = ImageResult(
            sample.id, sample.source, Outcome.ANONYMIZED, width=_SIDE, height=_SIDE, method="blur", encoding="png",
            masked_share=0.25, faces=(face,), proofs=proofs, files=files,
        )  # fmt: skip
        return Anonymized(row, {kind: ("png", content) for kind, content in data.items()})

    p3mdata.run.shards.anonymize = recorded  # type: ignore[assignment]
    made, samples = read_plan(work / "run")
    local.Models.__call__ = lambda self: None  # type: ignore[method-assign, assignment]
    local.run(Work(made, samples, Stage.ALL, range(made.shards)), 1)


def status(work: Path) -> None:
    from p3mdata.run.status import status_of

    assert status_of(work / "run").shards["left"] == 0


def close(work: Path) -> None:
    from p3mdata.run.close import close_run
    from p3mdata.run.plan import read_plan

    close_run(read_plan(work / "run")[0], 0.0)


def split(work: Path) -> None:
    from p3mdata.dataset.build import SplitSettings, build_split
    from p3mdata.dataset.layout import read_layout

    build_split(work / "run", work / "data", SplitSettings(read_layout("p3m10k"), validation=0.05, verify=False), 1)


def rebuild(work: Path) -> None:
    split(work)


def check(work: Path) -> None:
    from p3mdata.dataset.check import check_dataset

    check_dataset(work / "data", workers=1)


def duplicates(work: Path) -> None:
    from p3mdata.curation import find_duplicates

    find_duplicates(work / "run", 1)


def export(work: Path) -> None:
    from p3mdata.export import export as write

    write(work / "data", work / "release", "webdataset")


def folders(work: Path) -> None:
    from p3mdata.export import export as write

    write(work / "data", work / "folders", "p3m10k", run=work / "run")


STAGES: tuple[Callable[[Path], None], ...] = (
    plan, shards, status, close, split, rebuild, check, duplicates, export, folders,
)  # fmt: skip


def _measured(stage: Callable[[Path], None], work: Path) -> dict[str, float]:
    os.fsync = lambda fd: None
    started = time.perf_counter()
    stage(work)
    seconds = time.perf_counter() - started
    usage = resource.getrusage(resource.RUSAGE_SELF)
    peak = usage.ru_maxrss + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {"seconds": seconds, "cpu": usage.ru_utime + usage.ru_stime, "mb": peak / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()), help="where the folders are made")
    parser.add_argument("--stages", nargs="+", default=[stage.__name__ for stage in STAGES], help="in this order")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    by_name = {stage.__name__: stage for stage in STAGES}
    if options.one:
        print(json.dumps(_measured(by_name[options.one], options.work)))
        return
    print("| samples | stage | seconds | CPU s | CPU ms per sample | peak MB |\n|---|---|---|---|---|---|")
    for samples in options.samples:
        work = Path(tempfile.mkdtemp(prefix="p3mdata-growth-", dir=options.work))
        try:
            make_sources(work, samples)
            for name in options.stages:
                command = [sys.executable, "-m", "benchmarks.growth", "--one", name, "--work", str(work)]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                row = json.loads(done.stdout.splitlines()[-1])
                each = 1000 * row["cpu"] / samples
                print(
                    f"| {samples:,} | {name} | {row['seconds']:.1f} | {row['cpu']:.1f} | {each:.3f} | {row['mb']:.0f} |"
                )
                sys.stdout.flush()
        finally:
            shutil.rmtree(work)


if __name__ == "__main__":
    main()
