"""How a run scales: workers, slow storage, and whether the time that is told to be left is right.

    python -m benchmarks.scaling --workers 1 2 --limit 24 --copies 5 --delay 50

`anonymize dir` over the same JPEG files of 1080p for each number of workers, in turns, unpinned, with no variable of
the environment that names a number of threads: images a second once a tenth is done (models are loaded by then),
processor time per image, what part of a worker's time any thread but its busiest took, and the time left as the
progress bar has it after a tenth, beside what was. Then the same in one worker whose every reading of a file takes so
many milliseconds more, with and without reading ahead. Ratios mean something on a quiet machine alone.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.anonymize import LONG_SIDE, ONE_THREAD, ROOT, portraits, prepare, table
from p3mdata.base.progress import Pace
from p3mdata.config import Execution, Job

# How often threads of workers are looked at, in seconds.
_LOOK = 0.25
# As often as the progress bar counts.
_COUNT = 0.2


def _threads(own: int) -> dict[int, list[float]]:
    """Seconds of processor time of each thread of this process and of those that it started, by process."""
    tick, found = os.sysconf("SC_CLK_TCK"), {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            fields = (process / "stat").read_text().rsplit(")", 1)[1].split()
            if own not in (int(fields[1]), int(process.name)):
                continue
            stats = [task.read_text().rsplit(")", 1)[1].split() for task in process.glob("task/*/stat")]
        except OSError:
            continue
        found[int(process.name)] = sorted(((int(s[11]) + int(s[12])) / tick for s in stats), reverse=True)
    return found


def child(source: Path, out: Path, report: Path, workers: int, delay: float, in_advance: bool) -> None:
    """One run, with what it took written to `report`."""
    from p3mdata.run import ahead
    from p3mdata.run.job import anonymize_job
    from p3mdata.run.progress import RunProgress

    if delay:
        read = ahead.read_inputs

        def late(*args: Any) -> Any:
            time.sleep(delay)
            return read(*args)

        ahead.read_inputs = late
    if not in_advance:
        ahead.ReadAhead.begin = lambda self, sample: None  # type: ignore[method-assign]
    busy: dict[int, list[float]] = {}
    over = threading.Event()

    def look() -> None:
        while not over.wait(_LOOK):
            busy.update(_threads(os.getpid()))

    job = Job(source=source, out=out, execution=Execution(workers=workers))
    done = RunProgress(out)
    # Of images that are done, and when: at a tenth, with what is told then, and at the last.
    seen: dict[str, Any] = {}

    def start(total: int) -> Any:
        pace, last = Pace(0, time.monotonic()), 0.0

        def step() -> None:
            nonlocal last
            now = time.monotonic()
            if now - last < _COUNT and seen.get("done") != total:
                return
            last, number = now, done()
            pace.seen(done.work(), now)
            if number >= total / 10 and "tenth" not in seen:
                seen.update(tenth=number, at=now, left=pace.left(total))
            if number > seen.get("done", 0):
                seen.update(done=number, end=now)

        return step

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    anonymize_job(job, on_start=start)
    over.set()
    watcher.join()
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seen["cpu"] = sum(each.ru_utime + each.ru_stime for each in usage)
    # The process that starts the others and hands out work is no worker.
    seen["threads"] = [threads for threads in busy.values() if sum(threads) > 0.2 * max(map(sum, busy.values()))]
    report.write_text(json.dumps(seen))


def measured(source: Path, work: Path, workers: int, delay: float = 0.0, in_advance: bool = True) -> dict[str, Any]:
    """A run in a process of its own."""
    out = Path(tempfile.mkdtemp(dir=work)) / "run"
    report = out.parent / "report.json"
    options = [str(source), str(out), str(report), str(workers), str(delay), str(int(in_advance))]
    environment = {name: value for name, value in os.environ.items() if name not in ONE_THREAD}
    subprocess.run(
        [sys.executable, "-m", "benchmarks.scaling", "--child", *options],
        check=True,
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    seen: dict[str, Any] = json.loads(report.read_text())
    images = len(list(source.iterdir()))
    truth = seen["end"] - seen["at"]
    return {
        "rate": (seen["done"] - seen["tenth"]) / truth,
        "cpu": seen["cpu"] * 1000 / images,
        "left": seen["left"] / truth if seen["left"] else float("nan"),
        "threads": seen["threads"],
    }


def workers_table(source: Path, work: Path, numbers: list[int], repeat: int) -> str:
    """Rows by number of workers."""
    runs: dict[int, list[dict[str, Any]]] = {number: [] for number in numbers}
    for _ in range(repeat):
        for number in numbers:
            runs[number].append(measured(source, work, number))
    first = statistics.median(run["rate"] for run in runs[numbers[0]])
    rows = []
    for number, made in runs.items():
        rate = statistics.median(run["rate"] for run in made)
        threads = [threads for run in made for threads in run["threads"]]
        second = max((each[1] / sum(each) for each in threads if len(each) > 1), default=0.0)
        left = [f"{run['left']:.2f}" for run in made]
        cpu = statistics.median(run["cpu"] for run in made)
        rows.append([f"{number}", f"{rate:.2f}", f"{rate / first:.2f}", f"{cpu:.0f}", f"{second:.1%}", ", ".join(left)])
    head = [
        "workers",
        "images/s",
        "ratio",
        "CPU ms/image",
        "second busiest thread",
        "time left told / true, after a tenth",
    ]
    return table(head, rows)


def delay_table(source: Path, work: Path, delay: float, repeat: int) -> str:
    """Rows by how files are read, one worker."""
    ways = {
        "as it is": (0.0, True),
        f"{delay * 1000:.0f} ms more per reading, ahead": (delay, True),
        f"{delay * 1000:.0f} ms more per reading, not ahead": (delay, False),
    }
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for _ in range(repeat):
        for name, (late, in_advance) in ways.items():
            runs[name].append(measured(source, work, 1, late, in_advance))
    rows = []
    for name, made in runs.items():
        ms = statistics.median(1000 / run["rate"] for run in made)
        left = ", ".join(f"{run['left']:.2f}" for run in made)
        rows.append([name, f"{ms:.0f}", left])
    return table(["files are read", "ms/image", "time left told / true, after a tenth"], rows)


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["--child"]:
        source, out, report = map(Path, sys.argv[2:5])
        return child(source, out, report, int(sys.argv[5]), float(sys.argv[6]), sys.argv[7] == "1")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--images", type=Path, help="folder with portraits; else the shared test photographs")
    add("--size", choices=LONG_SIDE, default="1080p")
    add("--workers", type=int, nargs="+", default=[1, 2])
    add("--limit", type=int, default=24, help="take N portraits, evenly over the sorted list")
    add("--copies", type=int, default=5, help="of each portrait")
    add("--delay", type=float, default=50, help="ms that a reading takes more; 0 leaves that part out")
    add("--repeat", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="p3mdata-scaling-") as folder:
        work, source = Path(folder), Path(folder, "source")
        source.mkdir()
        print(prepare(portraits(args.images), args.limit, LONG_SIDE[args.size], source))
        for path in sorted(source.iterdir()):
            # Other bytes each time, as readers may know files by them: a comment behind the first marker.
            data = path.read_bytes()
            for number in range(1, args.copies):
                note = f"copy {number}".encode()
                marked = b"\xff\xfe" + (len(note) + 2).to_bytes(2, "big") + note
                (source / f"{path.stem}-{number}.jpg").write_bytes(data[:2] + marked + data[2:])
        print(f"{len(list(source.iterdir()))} files, load average before: {os.getloadavg()[0]:.2f}\n")
        print(workers_table(source, work, args.workers, args.repeat), end="\n\n")
        if args.delay:
            print(delay_table(source, work, args.delay / 1000, args.repeat))
        print(f"\nload average after: {os.getloadavg()[0]:.2f}")


if __name__ == "__main__":
    main()
