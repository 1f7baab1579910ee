"""Speed and memory of `p3mdata celeba-facemask` on synthetic annotations in the data set's folder structure.

A few drawn faces are written again and again, 9 to 11 parts each as 3-channel PNG files of 512x512 pixels; without
photographs. The files were just written, so that they come from the system's cache and not from a disk.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from p3mdata.celebamask import make_facemasks
from p3mdata.celebamask.annotations import MASKS

TEMPLATES = 12
# The last ones have a brow less, or none.
WITHOUT = {10: ("l_brow",), 11: ("l_brow", "r_brow")}


def write_annotations(root: Path, images: int) -> int:
    """Write the parts of so many images below `root`; returns the bytes of all files."""
    # Here, so that worker processes, which import this module too, do without pytest.
    from tests.factories import encoded
    from tests.test_celebamask import annotated

    templates = []
    for index in range(TEMPLATES):
        parts = annotated(7 * index - 40, 1 + 0.04 * index, raised=index % 5, without=("hat", *WITHOUT.get(index, ())))
        grey = {name: mask.astype(np.uint8) * 255 for name, mask in parts.items()}
        templates.append({name: encoded(np.dstack([mask] * 3), "PNG") for name, mask in grey.items()})
    written = 0
    for number in range(images):
        folder = root / MASKS / str(number // 2000)
        if number % 2000 == 0:
            folder.mkdir(parents=True)
        for part, data in templates[number % TEMPLATES].items():
            (folder / f"{number:05d}_{part}.png").write_bytes(data)
            written += len(data)
    return written


def _cpu() -> float:
    """Seconds of processor time, of this process and of its workers that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _peak(who: int) -> str:
    return f"{resource.getrusage(who).ru_maxrss / 1024:.0f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=30_000)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="celebamask-") as folder:
        root, out = Path(folder) / "CelebAMask-HQ", Path(folder) / "facemasks"
        started = time.perf_counter()
        written = write_annotations(root, args.images)
        print(
            f"{args.images} images, {written / 1e6:.0f} MB of parts, written in {time.perf_counter() - started:.0f} s"
        )
        before = _cpu()
        run = make_facemasks(root, out, workers=args.workers)
        cpu = (_cpu() - before) / run.images
        print(f"{run.facemasks} facemasks {run.rules}, refused {run.refused}")
        print(f"{run.seconds:.1f} s, {run.images / run.seconds:.0f} images/s with {args.workers} workers")
        print(f"{1000 * cpu:.1f} ms of processor time per image: {1 / cpu:.0f} images/s on a core of its own")
        again = make_facemasks(root, out, workers=args.workers).seconds
        print(f"the same call once more, everything finished: {again:.1f} s")
        largest = f", largest worker {_peak(resource.RUSAGE_CHILDREN)}" if args.workers > 1 else ""
        print(f"peak memory: parent {_peak(resource.RUSAGE_SELF)}{largest}")


if __name__ == "__main__":
    main()
