"""Everything about training and inference that only a GPU can tell, in one command of at most 8 minutes on an H100.

    python -m benchmarks.gpu --out DIR                     # on the GPU; exit 2 if there is none
    python -m benchmarks.gpu --out DIR --old CHECKOUT      # with the training loop of an earlier state beside it
    python -m benchmarks.gpu --out DIR --part inference    # one part; again for more
    python -m benchmarks.gpu --out DIR --small             # on a CPU with small networks: does the script itself work?

It needs what `pip install ./p3mnet pytest` brings (the golden outputs are the tests'), no network, and no more than a
GPU that PyTorch can use; an earlier CHECKOUT (such as `git worktree add ../old 2433871`) needs what it asks for itself.

Parts: machine (what it is), correctness (against the golden outputs of `tests`, in float32, tf32 and bfloat16), steps
(bare ones, batch 8 and 32), end (`p3mnet train` with its loader), old (the earlier state's recipe and bare steps),
inference (512x512, 1080p, 4K, recorded or not; whole folders with `p3mnet infer`), memory (how soon a batch that is too
large is told), determinism (two runs, the price), traincheck (three protocols in a short budget), compiled (steps as
one program; last, for compiling takes as long as it takes). Each is a process of its own with a limit of its own: what
fails, dies or takes too long is told, what it had measured by then stays, and the others go on; all together end with
`--total` seconds. It makes its own data.
Results: DIR/PART.json, DIR/gpu.json and DIR/gpu.md as they come, also where this is stopped in the middle, and
DIR/PART.log; gpu.md has the form of the section of RESULTS: what was asked for and whether it was found, then the parts
with what was expected beside what was found. Exit code 1 if a part, or a row of one, failed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu_parts import PARTS, failed_rows, no_gpu
from benchmarks.gpu_place import REAL, SMALL, Place, write_data
from benchmarks.gpu_targets import Row, Target, table, targets
from p3mdata.base.files import write_atomic
from p3mdata.errors import EXIT_INTERRUPTED, EXIT_USAGE
from p3mnet.devices import pick_device

# Seconds; together 8 minutes, data and all. The last part has whatever is left.
TOTAL = 480
LIMITS = {
    "machine": 25, "correctness": 40, "steps": 55, "end": 110, "old": 65, "inference": 55, "memory": 25,
    "determinism": 40, "traincheck": 85, "compiled": 240,
}  # fmt: skip
# A CPU, which only tells whether the script works, may be shared with anything.
_PATIENCE = 6
# Less is not worth the start of a part.
_LEAST = 5.0
# Results are written this often while a part runs.
_LOOK = 1.0


def run_apart(
    part: str, out: Path, limit: float, arguments: Sequence[str], seen: Callable[[Row], None] | None = None
) -> Row:
    """A part in a process of its own: its rows, and why they are not all.

    Args:
        part: Which.
        out: Folder for results.
        limit: Seconds.
        arguments: Of the command line.
        seen: Told what it has found so far, each time that it is more.
    """
    begun, path, log = time.monotonic(), out / f"{part}.json", out / f"{part}.log"
    path.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", str(out), "--alone", part, *arguments]

    def found(failed: str | None) -> Row:
        rows = json.loads(path.read_text()) if path.is_file() else []
        seconds = round(time.monotonic() - begun, 1)
        return {"part": part, "seconds": seconds, "failed": failed or failed_rows(rows), "rows": rows}

    # To a file: a pipe would stay open as long as anything that the part started.
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, start_new_session=True)
    failed, told = "stopped", 0
    try:
        while (code := process.poll()) is None and time.monotonic() - begun < limit:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=min(_LOOK, max(0.01, limit - (time.monotonic() - begun))))
            now = found("not at its end")
            if seen is not None and len(now["rows"]) > told:
                told = len(now["rows"])
                seen(now)
        if code is None:
            failed = f"took longer than its limit of {limit:g} s"
        else:
            failed = _reason(code, log.read_text(errors="replace")) if code else ""
    finally:
        # Its own processes with it: it leads their group.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if failed == "stopped" and seen is not None:
            seen(found(failed))
    return found(failed)


def _reason(code: int, said: str) -> str:
    """Why a process ended."""
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    lines = said.strip().splitlines()
    return lines[-1] if lines else f"ended with {code}"


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def markdown(head: Mapping[str, Any], parts: Sequence[Row], held: Sequence[Target] = ()) -> str:
    """The section of RESULTS."""
    # Nothing where the part that tells it was left out.
    told = ": " + ", ".join(f"{key} {value}" for key, value in head.items()) if head else ""
    asked = [*table(held), ""] if held else []
    return "\n".join(["## On a GPU", "", f"`python -m benchmarks.gpu --out DIR`{told}.", "", *asked, *tables(parts)])


def tables(parts: Sequence[Row]) -> Iterator[str]:
    """Lines of a table for each part."""
    for part in parts:
        lines: list[str] = []
        lines += [f"### {part['part']} ({part['seconds']:g} s)", ""]
        if part["failed"]:
            lines += [f"Failed: {part['failed']}", ""]
        columns = list(dict.fromkeys(key for row in part["rows"] for key in row))
        if columns:
            lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
            lines += ["| " + " | ".join(_shown(row.get(key, "")) for key in columns) + " |" for row in part["rows"]]
            lines.append("")
        yield from lines


class _Book:
    """Results as they come, in gpu.json and gpu.md."""

    def __init__(self, out: Path, cuda: bool) -> None:
        self.out, self.cuda = out, cuda
        self.parts: list[Row] = []

    def write(self, current: Row | None = None) -> None:
        """Everything so far; `current` is a part that still runs."""
        parts = [*self.parts, *([current] if current else [])]
        rows = [row for part in parts if part["part"] == "machine" for row in part["rows"]]
        head = {key: value for row in rows for key, value in row.items() if value is not None}
        held = targets(parts, str(head.get("device"))) if self.cuda else []
        asked = [vars(target) for target in held]
        content = json.dumps({**head, "targets": asked, "parts": parts}, indent=2) + "\n"
        write_atomic(self.out / "gpu.json", content.encode())
        write_atomic(self.out / "gpu.md", (markdown(head, parts, held) + "\n").encode())

    def add(self, part: Row) -> None:
        self.parts.append(part)
        self.write()
        print("\n".join(tables([part])), flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for results and data")
    parser.add_argument("--part", action="append", choices=list(PARTS), help="default: all")
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:N; cpu with --small")
    parser.add_argument("--old", type=Path, help="checkout of an earlier state, whose training is measured too")
    parser.add_argument("--small", action="store_true", help="small networks and pictures, also without a GPU")
    parser.add_argument("--limit", type=float, help="seconds of each part, in place of its own limit")
    parser.add_argument(
        "--total", type=float, help="seconds of all parts and the data together; default: 480, more on a CPU"
    )
    parser.add_argument("--alone", choices=list(PARTS), help=argparse.SUPPRESS)
    return parser


def _alone(part: str, at: Place) -> None:
    """A part in this process."""
    rows: list[Row] = []
    for row in PARTS[part](at):
        rows.append(row)
        # Whole at any moment: its limit may end this process in the next.
        write_atomic(at.out / f"{part}.json", (json.dumps(rows, indent=2) + "\n").encode())


def _refuse(sentence: str) -> None:
    sys.stderr.write(sentence + "\n")
    sys.exit(EXIT_USAGE)


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts, and write what they found."""
    begun = time.monotonic()
    args = _parser().parse_args(arguments)
    if importlib.util.find_spec("pytest") is None:
        _refuse("The tests' golden outputs are read with pytest: run 'pip install pytest' first.")
    why = no_gpu()
    if not args.small and (why or args.device == "cpu"):
        _refuse(f"{why or 'A CPU has no figures to tell'}: run this on a machine with a GPU, or with --small.")
    if args.old is not None and not (args.old / "p3mnet").is_dir():
        _refuse(f"--old {args.old}: is no checkout of an earlier state, it has no folder p3mnet.")
    # Parts run elsewhere.
    out, sizes = args.out.resolve(), SMALL if args.small else REAL
    out.mkdir(parents=True, exist_ok=True)
    old = None if args.old is None else args.old.resolve()
    if args.alone:
        _alone(args.alone, Place(pick_device(args.device), sizes, out, old))
        return
    # Not asked of the GPU here: this process would take memory of it, and where one process may have it, all.
    cuda = why is None and args.device != "cpu"
    patience = 1 if cuda else _PATIENCE
    total = args.total or patience * TOTAL
    shared = ["--device", args.device, *(["--small"] if args.small else [])]
    shared += ["--old", str(old)] if old else []
    book = _Book(out, cuda)
    signal.signal(signal.SIGTERM, _stop)
    try:
        # Once, before any part is measured.
        write_data(out, sizes)
        for part in args.part or [part for part in PARTS if part != "old" or old]:
            left = total - (time.monotonic() - begun)
            if left < _LEAST:
                book.add({"part": part, "seconds": 0.0, "failed": f"{total:g} s were over", "rows": []})
                continue
            limit = min(args.limit or patience * LIMITS[part], left)
            book.add(run_apart(part, out, round(limit, 1), shared, book.write))
            if part == "machine" and book.parts[-1]["failed"]:
                break
    except KeyboardInterrupt:
        sys.stderr.write(f"Stopped; what was found is in {out / 'gpu.md'}.\n")
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(1 if any(part["failed"] for part in book.parts) else 0)


if __name__ == "__main__":
    main()
