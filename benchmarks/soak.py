"""A run that is disturbed again and again beside one that is left alone: both must come to the same bytes.

    python -m benchmarks.soak --images 5000 --workers 2 --disturbances 40

Small pictures are made in a temporary folder: portraits, pictures without a face (released by --trust-no-face),
pictures that --min-side leaves out, copies, and files that are cut off, empty or no picture at all. Then one run, a
file of decisions and an export go undisturbed. The same commands on a small file system (tmpfs; mounting needs root)
meet SIGKILL of a worker, SIGKILL of all processes, SIGTERM, SIGINT and a full disk in turn; each time the command is
started again. Decisions and export are disturbed too.

Checked after each disturbance: no released image without its mask. At the end: every source file in exactly one row,
counts that add up, all proofs, and bytes equal to the undisturbed run, export included. Exit 1 when one fails.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from p3mdata.base.jsonl import dumps, read_rows
from p3mdata.errors import EXIT_HELD_BACK, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE
from p3mdata.run.layout import LEDGER, MANIFEST
from p3mdata.run.rows import count_done
from tests.factories import astronaut, encoded, texture

_SIDE = 96
# Of a hundred files: portraits, pictures without a face, copies, too small, and the rest is damaged.
_PORTRAITS, _FACELESS, _COPIES, _SMALL = 3, 12, 2, 48
_EVENTS = ("kill_worker", "kill_all", "sigterm", "sigint", "full_disk")
_COMMON = ("--trust-no-face", "--min-side", "64", "-q")


def make_sources(folder: Path, images: int) -> None:
    """The pictures, spread over folders of a thousand."""
    first = b""
    for number in range(images):
        kind = number * 37 % 100
        if kind < _PORTRAITS:
            data = encoded(astronaut(_SIDE + number % 32), quality=90 - number % 7)
        elif kind < _PORTRAITS + _FACELESS:
            data = encoded(texture(_SIDE, _SIDE, seed=number))
        elif kind < _PORTRAITS + _FACELESS + _COPIES:
            data = first or encoded(astronaut(_SIDE))
        elif kind < _PORTRAITS + _FACELESS + _COPIES + _SMALL:
            data = encoded(texture(40, 48, seed=number))
        else:
            whole = encoded(texture(72, 72, seed=number))
            data = (b"", whole[: len(whole) // 2], b"no picture %d" % number, whole[::-1])[number % 4]
        first = first or data
        path = folder / f"{number // 1000:03d}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "p3mdata", *map(str, arguments)]


def contents(out: Path) -> dict[str, bytes]:
    """What equal runs have in common: everything that is published, and the ledger but for the times of decisions."""
    paths = [out / name for name in ("plan.json", MANIFEST, "report.html")]
    for kind in ("images", "facemasks", "alphas"):
        paths += sorted((out / kind).glob("*"))
    rows = list(read_rows(out / LEDGER))
    for row in rows:
        if row.get("decision"):
            # The digest of an image's inputs has the time in it.
            row["decision"]["time"] = row["inputs"] = ""
    return {str(path.relative_to(out)): path.read_bytes() for path in paths} | {LEDGER: dumps(rows).encode()}


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def workers_of(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


class Disturber:
    """Starts a command and does something bad to it after a while."""

    def __init__(self, seed: int, place: Path, room: int) -> None:
        self.chance, self.place, self.room = random.Random(seed), place, room
        self.met: Counter[str] = Counter()
        self.stopped: Counter[str] = Counter()

    def run(self, line: list[str], event: str | None, ready: Callable[[], bool]) -> int:
        """Exit code of the command; an event of None leaves it alone."""
        process = subprocess.Popen(line, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert process.stderr is not None
        if event:
            while process.poll() is None and not ready():
                time.sleep(0.02)
            time.sleep(self.chance.uniform(0, 1.5))
            self.met[event] += process.poll() is None
            getattr(self, event)(process)
        said = process.stderr.read().decode(errors="replace")
        process.stderr.close()
        code = process.wait()
        self.stopped[event or "nothing"] += code not in (EXIT_OK, EXIT_HELD_BACK)
        (self.place / "filler").unlink(missing_ok=True)
        expected = {EXIT_OK, EXIT_HELD_BACK} | (
            {EXIT_INTERRUPTED, EXIT_USAGE, -signal.SIGKILL, -signal.SIGTERM} if event else set()
        )
        # Python itself tells of a Ctrl-C that comes before its first line of ours, or of a worker's.
        too_early = event == "sigint" and "KeyboardInterrupt" in said
        if code not in expected | ({-signal.SIGINT} if too_early else set()) or ("Traceback" in said and not too_early):
            raise SystemExit(f"{' '.join(line[3:5])} after {event}: exit {code}\n{said}")
        return code

    def kill_worker(self, process: subprocess.Popen[bytes]) -> None:
        if children := workers_of(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.chance.choice(children), signal.SIGKILL)

    def kill_all(self, process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    def sigterm(self, process: subprocess.Popen[bytes]) -> None:
        process.terminate()

    def sigint(self, process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)

    def full_disk(self, process: subprocess.Popen[bytes]) -> None:
        """Leave no room, and wait until the run notices."""
        if not os.path.ismount(self.place):
            return self.sigterm(process)
        with contextlib.suppress(OSError), (self.place / "filler").open("wb") as filler:
            while True:
                filler.write(bytes(1 << 16))
                filler.flush()
        return None


def no_image_without_mask(out: Path) -> None:
    for image in (out / "images").glob("[!.]*"):
        # An image that is withdrawn between the two looks is not there any more.
        if not (out / "facemasks" / f"{image.stem}.png").exists() and image.exists():
            raise SystemExit(f"{image}: is released without its mask")


def decisions(out: Path, path: Path) -> None:
    """A word about every picture that waits for one: leave it out."""
    rows = read_rows(out / LEDGER)
    waiting = [row for row in rows if row["outcome"] == "needs_review"]
    # Of the released ones some are taken out as well, so that a review has work to do.
    released = [row for row in read_rows(out / LEDGER) if row["outcome"] == "anonymized"][::5]
    lines = [{"id": row["id"], "action": "exclude"} for row in (*waiting, *released)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def is_under_way(name: str, out: Path, export: Path, goal: float) -> bool:
    """Whether a command has come so far that it can be disturbed."""
    if name == "anonymize":
        return (out / "private").exists() and count_done(out) >= goal
    return (export if name == "export" else out / "private/decisions.jsonl").exists()


def mount(place: Path, size: int) -> bool:
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True, check=False
    )
    return done.returncode == 0


def soak(images: int, workers: int, disturbances: int, seed: int, work: Path) -> dict[str, object]:
    """Everything in one folder; gives what happened.

    Raises:
        SystemExit: Something that must hold does not.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell's background jobs ignore it, and so would what they start.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    src, calm, place, wishes = work / "src", work / "calm", work / "disk", work / "decisions.jsonl"
    place.mkdir()
    make_sources(src, images)
    times, begun = {}, time.monotonic()

    def verbs(run: Path, export: Path) -> dict[str, list[str]]:
        return {
            "anonymize": command("anonymize", "dir", src, run, *_COMMON, "--workers", str(workers)),
            "review": command("review", run, "--apply", wishes, "-q"),
            "export": command("export", run, export, "--to", "webdataset", "-q"),
        }

    quiet = Disturber(seed, work, 0)
    for name, line in verbs(calm, work / "calm-export").items():
        started = time.monotonic()
        quiet.run(line, None, lambda: True)
        times[name] = round(time.monotonic() - started, 1)
        if name == "anonymize":
            decisions(calm, wishes)
    size = 3 * sum(len(data) for data in (*contents(calm).values(), *tree(calm).values())) + (8 << 20)
    mounted = mount(place, size)
    try:
        out, export = place / "run", place / "export"
        rough, starts = Disturber(seed, place, size), Counter[str]()
        for name, line in verbs(out, export).items():
            share = disturbances if name == "anonymize" else max(1, disturbances // 10)
            goal = images / (share + 1)
            for number in range(share):
                event = _EVENTS[number % 5] if number >= 5 else rough.chance.choice(_EVENTS)
                ready = functools.partial(is_under_way, name, out, export, number * goal)
                starts[name] += 1
                code = rough.run(line, event, ready)
                no_image_without_mask(out)
                if code in (EXIT_OK, EXIT_HELD_BACK) and name == "anonymize":
                    break
            starts[name] += 1
            rough.run(line, None, lambda: True)
        rows = [row["source"] for row in read_rows(out / LEDGER)]
        wanted = sorted(path.relative_to(src).as_posix() for path in src.rglob("*.jpg"))
        if sorted(rows) != wanted:
            raise SystemExit(f"{len(rows)} rows for {len(wanted)} source files")
        for what, one, two in (
            ("run", contents(calm), contents(out)),
            ("export", tree(work / "calm-export"), tree(export)),
        ):
            if one != two:
                names = sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))
                lines = zip(one.get(names[0], b"").split(b"\n"), two.get(names[0], b"").split(b"\n"), strict=False)
                first = next((pair for pair in lines if pair[0] != pair[1]), None)
                raise SystemExit(f"the disturbed {what} differs: {names[:5]}, first in {first}")
        if left := [str(path) for path in place.rglob("*.tmp")]:
            raise SystemExit(f"left behind: {left[:3]}")
        no_image_without_mask(out)
        verified = subprocess.run(command("verify", out, "--json"), capture_output=True, text=True, check=False)
        if verified.returncode:
            raise SystemExit(f"a proof fails: {verified.stdout[-500:]}{verified.stderr[-500:]}")
        outcomes = Counter(row["outcome"] for row in read_rows(out / LEDGER))
        return {
            "images": images,
            "outcomes": dict(outcomes),
            "disturbances": dict(rough.met),
            "of_them_stopped": dict(rough.stopped),
            "starts": dict(starts),
            "small_disk": mounted,
            "undisturbed_seconds": times,
            "seconds": round(time.monotonic() - begun, 1),
        }
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(place)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--disturbances", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="p3mdata-soak-"))
    try:
        done = soak(options.images, options.workers, options.disturbances, options.seed, work)
        print(json.dumps(done, indent=1))
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
