"""Broken files by the thousand for every reader; what breaks a promise is printed and kept.

    python -m tests.fuzz --cases 100000                    # all targets in turn; exit 1 if there are findings
    python -m tests.fuzz --target jpeg --seed 7 --only 1234    # one case again, in this process

Cases run in child processes whose memory is limited; one that dies or stands still is a finding too. A case follows
from target, seed and number alone. Findings are written to --keep: the file, and what was raised.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import multiprocessing
import random
import resource
import signal
import sys
import time
import traceback
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

BATCH = 250
# Address space of a child; a file of a few kilobytes must not need it.
MEMORY = 6 << 30
# Seconds of processor time for a case, and of waiting for it to come to an end on a crowded machine.
PATIENCE, WAITING = 30.0, 900.0


def case(target: str, seed: int, number: int) -> bytes:
    """The file of a case."""
    from tests.fuzzing import TARGETS, broken

    return broken(random.Random(f"{target}/{seed}/{number}"), TARGETS[target])


def _failure(target: str, data: bytes) -> str | None:
    """What a reader raised that it must not; None if it kept its promise."""
    from tests.fuzzing import TARGETS

    try:
        TARGETS[target].check(data)
    except Exception:
        return traceback.format_exc()
    return None


def _batch(target: str, seed: int, first: int, last: int, at: Synchronized[int], keep: Path) -> None:
    """Cases of one child process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A crash is told by the parent.
    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for number in range(first, last):
        at.value = number
        # Its signal ends the process.
        signal.setitimer(signal.ITIMER_PROF, PATIENCE)
        data = case(target, seed, number)
        if (trace := _failure(target, data)) is not None:
            _keep(keep, target, seed, number, data, trace)
    at.value = last


def _keep(keep: Path, target: str, seed: int, number: int, data: bytes, trace: str) -> None:
    keep.mkdir(parents=True, exist_ok=True)
    stem = f"{target.replace(' ', '_')}-{seed}-{number}"
    (keep / f"{stem}.bin").write_bytes(data)
    (keep / f"{stem}.txt").write_text(trace)


def run(targets: list[str], cases: int, seed: int, keep: Path) -> int:
    """Run cases of each target; returns how many are findings."""
    context = multiprocessing.get_context("fork")
    for target in targets:
        begun = time.monotonic()
        first = 0
        while first < cases:
            last = min(first + BATCH, cases)
            at = context.Value("q", first)
            child = context.Process(target=_batch, args=(target, seed, first, last, at, keep))
            child.start()
            seen, since = first, time.monotonic()
            while child.is_alive():
                child.join(0.5)
                if at.value != seen:
                    seen, since = at.value, time.monotonic()
                elif time.monotonic() - since > WAITING:
                    child.kill()
                    child.join()
            if at.value < last:
                number = at.value
                _keep(keep, target, seed, number, case(target, seed, number), f"the process ended: {child.exitcode}\n")
                first = number + 1
            else:
                first = last
        found = len(list(keep.glob(f"{target.replace(' ', '_')}-{seed}-*.bin")))
        print(f"{target:18} {cases:8} cases {found:5} findings {time.monotonic() - begun:7.0f} s", flush=True)
    return len(list(keep.glob("*.bin")))


def _summary(keep: Path) -> None:
    """The last line of each kind of finding, with one file of it."""
    kinds: dict[str, list[str]] = collections.defaultdict(list)
    for path in sorted(keep.glob("*.txt")):
        kinds[f"{path.stem.rsplit('-', 2)[0]}: {path.read_text().strip().splitlines()[-1][:160]}"].append(path.stem)
    for kind, stems in sorted(kinds.items(), key=lambda item: -len(item[1])):
        print(f"{len(stems):5} {kind}   {stems[0]}")


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", action="append", help="default: all")
    parser.add_argument("--cases", type=int, default=1000, help="of each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="run this case alone")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="folder for findings")
    args = parser.parse_args()
    from tests.fuzzing import TARGETS

    targets = args.target or list(TARGETS)
    if args.only is not None:
        print(_failure(targets[0], case(targets[0], args.seed, args.only)) or "as promised")
        return
    found = run(targets, args.cases, args.seed, args.keep)
    _summary(args.keep)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
