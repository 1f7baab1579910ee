"""Memory of a worker over many images of all sizes: is it flat?

    python -m benchmarks.memory --images 10000 [--side 1920]

Cuts of the test photographs, of random place and size up to 1920 pixels, are written first (with `--side` all of that
size); one worker then takes them through `shards.process` again and again, with files, proofs and rows, until the
number is reached.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.anonymize import portraits
from p3mdata.config import Job
from p3mdata.faces.models import Models
from p3mdata.imaging import decode
from p3mdata.run.plan import make_plan
from p3mdata.run.shards import process
from p3mdata.run.stages import Stage

_FILES = 1000
_SHORTEST, _LONGEST = 480, 1920
_ROWS = 20


def write_cuts(photographs: list[Path], count: int, into: Path, side: int | None = None) -> None:
    """JPEG files of random parts of the photographs, in random sizes, or with `side` pixels on the longer side."""
    rng = np.random.default_rng(0)
    read = functools.lru_cache(2)(lambda path: Image.fromarray(decode(path.read_bytes()).rgb8()))
    for number in range(count):
        photo = read(photographs[number * len(photographs) // count])
        width, height = (round(side * rng.uniform(0.5, 1)) for side in photo.size)
        left, top = (
            int(rng.integers(0, side - cut + 1)) for side, cut in zip(photo.size, (width, height), strict=True)
        )
        longest = (side or rng.integers(_SHORTEST, _LONGEST + 1)) / max(width, height)
        cut = photo.crop((left, top, left + width, top + height))
        size = max(256, round(width * longest)), max(256, round(height * longest))
        cut.resize(size).save(into / f"{number:05d}.jpg", quality=90)


def resident() -> tuple[int, int]:
    """Memory of this process now, and at most since the last call, in MB."""
    rows = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    Path("/proc/self/clear_refs").write_text("5")
    now, peak = (int(rows[name].split()[0]) // 1024 for name in ("VmRSS", "VmHWM"))
    return now, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--side", type=int, help="pixels of the longer side of all cuts; else of random size")
    parser.add_argument("--photographs", type=Path, help="a folder; else the shared test photographs")
    options = parser.parse_args()
    photographs = portraits(options.photographs)
    if not photographs:
        parser.error("there are no photographs: give a folder with --photographs")
    with tempfile.TemporaryDirectory(prefix="p3mdata-memory-") as work, contextlib.closing(Models()) as models:
        source = Path(work, "src")
        source.mkdir()
        write_cuts(photographs, min(_FILES, options.images), source, options.side)
        job = Job(source=source, out=Path(work, "run"))
        samples = list(make_plan(job)[1])
        order = np.random.default_rng(1)
        print("| images | MB | peak MB since the row before |\n|---|---|---|")
        for number in range(1, options.images + 1):
            process(samples[order.integers(len(samples))], job, models, Stage.ALL, lambda stage: None)
            if number == 1 or number % max(1, options.images // _ROWS) == 0:
                now, peak = resident()
                print(f"| {number:,} | {now} | {peak} |", flush=True)


if __name__ == "__main__":
    main()
