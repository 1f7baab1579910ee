"""Every verb that writes, killed at each moment a file, a name or a lock appears or goes, and started again.

    python -m benchmarks.crashes                        # all verbs, at most 40 kills each
    python -m benchmarks.crashes --verb remove --most 0 # every moment of one verb
    python -m benchmarks.crashes --store                # with the verbs on a store: moto's S3 server on this machine

A verb runs in a forked process that counts the calls with which it changes a folder (open to create, fsync, rename,
link, unlink, mkdir, rmdir, flock) and the requests with which it changes a store, and sends itself SIGKILL right after
the one whose turn it is. Then:

- no image may lie in the release without its facemask;
- what the killed process left must be named by the check that 'verify' and 'check' make;
- the same verb is started again and must come to the files of the undisturbed one, byte for byte, with their modes;
  nothing else may be left anywhere below the folder of the case.

Faces come from a stand-in for the detectors and networks are narrow, so that a case takes seconds; all else is the
product. Times of decisions are fixed, clocks of trainings stand still. Left out of the comparison: seconds in
stats.json, lock files, receipts that the killed process would have kept, times of files in copies of pictures, the
files of TensorBoard, of which each call adds one.
Exit 1 when a case fails.
"""

from __future__ import annotations

import argparse
import builtins
import contextlib
import fcntl
import io
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.crash_cases import RUN_CASES, Case, stand_in
from benchmarks.crash_training import TRAINING_CASES, content_of_checkpoint, stand_ins
from benchmarks.local_store import BUCKET, serve_store
from p3mdata.base.files import is_torn
from p3mdata.base.jsonl import dumps
from p3mdata.base.object_store import Store
from p3mdata.dataset.about import ABOUT, BUILDING
from p3mdata.dataset.check import check_dataset
from p3mdata.run.layout import PLAN, PROVED_HERE, strays

CASES = (*RUN_CASES, *TRAINING_CASES)
_LOCKS = re.compile(r"(lock|workers|(alone|lent|memory)-[0-9]+|task-[0-9]+-of-[0-9]+)")


class _Moments:
    """Counts the calls that change something, and kills this process after one of them."""

    def __init__(self, root: Path, kill_at: int) -> None:
        self._root, self._kill_at = str(root), kill_at
        self.seen: list[str] = []

    def watch(self) -> None:
        for name in ("replace", "rename", "link", "unlink", "mkdir", "rmdir"):
            setattr(os, name, self._counted(name, getattr(os, name)))
        really_open = os.open

        def opened(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
            descriptor = really_open(path, flags, *args, **kwargs)
            if flags & os.O_CREAT:
                self._count("open", path)
            return descriptor

        really_open_stream = io.open

        def opened_stream(path: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            stream = really_open_stream(path, mode, *args, **kwargs)
            if not set(mode).isdisjoint("wax+") and not isinstance(path, int):
                self._count("open", path)
            return stream

        os.open = opened
        io.open = builtins.open = opened_stream  # type: ignore[assignment]
        os.fsync = self._counted("fsync", os.fsync, always=True)
        fcntl.flock = self._counted("flock", fcntl.flock, always=True)
        for name in ("put", "put_file", "create", "remove"):
            setattr(Store, name, self._counted(f"store {name}", getattr(Store, name), always=True))

    def _counted(self, name: str, call: Callable[..., Any], always: bool = False) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            result = call(*args, **kwargs)
            self._count(name, self._root if always or "dir_fd" in kwargs else args[0])
            return result

        return counted

    def _count(self, name: str, path: Any) -> None:
        if str(path).startswith(self._root):
            self.seen.append(f"{name} {Path(str(path)).name}")
            if len(self.seen) == self._kill_at:
                os.kill(os.getpid(), signal.SIGKILL)


def in_process(root: Path, call: Callable[[], Any], kill_at: int = 0) -> tuple[int, Any]:
    """Call something in a process of its own; gives its status, and what it returned, as JSON.

    The status is 0, -9 after a kill, or 1 for an exception, whose trace is given.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        code, answer = 0, b"null"
        try:
            tempfile.tempdir = str(root / "tmp")
            moments = _Moments(root, kill_at)
            if kill_at >= 0:
                moments.watch()
            result = call()
            answer = json.dumps(moments.seen if kill_at == 0 else result, default=str).encode()
        except BaseException:
            code, answer = 1, json.dumps(traceback.format_exc()).encode()
        with os.fdopen(writer, "wb") as sink:
            sink.write(answer)
        os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as source:
        answer = source.read()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), json.loads(answer) if answer else None


def state(root: Path) -> dict[str, tuple[int, bytes]]:
    """Modes and contents of everything below a folder, without what may differ."""
    found = {}
    for path in sorted(root.rglob("*")):
        # Each call adds a file to those of TensorBoard, with its time in the name.
        if path.is_file() and not _LOCKS.fullmatch(path.name) and path.parent.name != "tensorboard":
            data = path.read_bytes()
            if path.name == "stats.json":
                data = dumps({**json.loads(data), "seconds": {}}).encode()
            if path.suffix == ".raw":
                # Copies of pictures for trainings: their heads hold the times of the files that they are of.
                data = data[:8] + data[24:]
            if path.suffix == ".pt":
                data = content_of_checkpoint(path)
            found[path.relative_to(root).as_posix()] = (path.stat().st_mode & 0o777, data)
    return found


def objects() -> dict[str, bytes]:
    """Everything in the store, without seconds."""
    import boto3

    client = boto3.client("s3")
    found = {}
    for entry in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        data = client.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read()
        if entry["Key"].endswith("stats.json"):
            data = dumps({**json.loads(data), "seconds": {}}).encode()
        found[entry["Key"]] = data
    return found


def restore(kept: dict[str, bytes]) -> None:
    """Put the store back to what it was."""
    import boto3

    client = boto3.client("s3")
    for name in objects().keys() - kept.keys():
        client.delete_object(Bucket=BUCKET, Key=name)
    for name, data in kept.items():
        client.put_object(Bucket=BUCKET, Key=name, Body=data)


def bare(root: Path, inside_store: dict[str, bytes]) -> Iterator[str]:
    """Released images without a facemask."""
    names = {path.relative_to(root).as_posix() for path in root.rglob("images/*") if not is_torn(path.name)}
    masks = {path.relative_to(root).as_posix() for path in root.rglob("facemasks/*")} | inside_store.keys()
    for name in (*names, *(name for name in inside_store if "/images/" in name)):
        folder, _, file = name.rpartition("images/")
        if "data/" not in name and f"{folder}facemasks/{Path(file).stem}.png" not in masks:
            yield f"{name} has no facemask"


def unnamed(root: Path) -> Iterator[str]:
    """What killed processes left in runs and datasets and the checks do not name."""
    for plan in root.rglob(PLAN):
        run = plan.parent
        named = set(strays(run))
        left = {path.relative_to(run).as_posix() for path in run.rglob(".*.tmp")}
        yield from (f"{run.name}/{name} is not named by verify" for name in left - named)
    for folder in {path.parent for name in (ABOUT, BUILDING) for path in root.rglob(name)}:
        if left := {path.relative_to(folder).as_posix() for path in folder.rglob(".*.tmp")}:
            named = {finding.file for finding in check_dataset(folder, duplicates=False, workers=1).findings}
            yield from (f"{folder.name}/{name} is not named by check" for name in left - named)


def run_case(case: Case, root: Path, most: int) -> tuple[int, list[str]]:
    """Number of kills, and what went wrong."""
    before, at = root / "before", root / "case"
    kept: dict[str, bytes] = {}

    def fresh() -> None:
        for folder in (at, root / "tmp"):
            shutil.rmtree(folder, ignore_errors=True)
        (root / "tmp").mkdir()
        shutil.copytree(before, at, symlinks=True)
        if case.store:
            restore(kept)

    shutil.rmtree(before, ignore_errors=True)
    shutil.rmtree(at, ignore_errors=True)
    (root / "tmp").mkdir(exist_ok=True)
    at.mkdir()
    if case.store:
        restore({})
    # Made under the name that it has later, since runs know where they are.
    status, trace = in_process(root, lambda: case.prepare(at), kill_at=-1)
    if status:
        return 0, [f"could not be prepared: {trace}"]
    if case.store:
        kept.update(objects())
    at.rename(before)
    fresh()
    status, moments = in_process(root, lambda: case.call(at))
    if status:
        return 0, [f"undisturbed it fails: {moments}"]
    wanted, wanted_objects = below(root), objects() if case.store else {}
    faults, number = [], len(moments)
    places = range(1, number + 1) if not most or number <= most else np.linspace(1, number, most).round().astype(int)
    kills = 0
    for place in map(int, places):
        fresh()
        status, trace = in_process(root, lambda: case.call(at), kill_at=place)
        moment = f"{case.name}, moment {place} of {number} ({moments[place - 1]})"
        if status != -signal.SIGKILL:
            faults.append(f"{moment}: ended with {status} in the place of a kill: {trace}")
            continue
        kills += 1
        inside = objects() if case.store else {}
        faults += [f"{moment}: {what}" for what in (*bare(at, inside), *unnamed(at))]
        if not case.store and finds_it_done(root, wanted):
            continue
        status, trace = in_process(root, lambda: case.call(at), kill_at=-1)
        if status:
            faults.append(f"{moment}: cannot go on: {trace}")
            continue
        now = below(root)
        now_objects = objects() if case.store else {}
        different = sorted(
            name
            for name in wanted.keys() | now.keys()
            if wanted.get(name) != now.get(name) and not lacks_receipts(name, now, wanted)
        )
        names = wanted_objects.keys() | now_objects.keys()
        different += sorted(name for name in names if wanted_objects.get(name) != now_objects.get(name))
        if different:
            faults.append(f"{moment}: differs from the undisturbed one in {different[:5]}")
    return kills, faults


def lacks_receipts(name: str, now: dict[str, tuple[int, bytes]], wanted: dict[str, tuple[int, bytes]]) -> bool:
    """Whether a file holds a run's own receipts, and none but those that the undisturbed one has.

    What a killed process made has none: the next one has not proved it on the bytes that were written.
    """
    if not name.endswith(f"/{PROVED_HERE}"):
        return False
    have, others = (files.get(name, (0, b""))[1] for files in (now, wanted))
    return {have[at : at + 8] for at in range(0, len(have), 8)} <= {
        others[at : at + 8] for at in range(0, len(others), 8)
    }


def below(root: Path) -> dict[str, tuple[int, bytes]]:
    """`state` of the case, without what it began with."""
    return {name: entry for name, entry in state(root).items() if not name.startswith("before/")}


def finds_it_done(root: Path, wanted: dict[str, tuple[int, bytes]]) -> bool:
    """Whether the kill came after the last change; some verbs refuse to do a thing twice."""
    return below(root) == wanted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verb", action="append", help="only these; absent = all")
    parser.add_argument(
        "--most", type=int, default=40, help="kills per verb, spread over its moments; 0 = every moment"
    )
    parser.add_argument("--store", action="store_true", help="also the verbs on a store (needs moto)")
    args = parser.parse_args()
    stand_in()
    chosen = [
        case for case in CASES if (case.name in args.verb if args.verb else True) and (args.store or not case.store)
    ]
    server = serve_store() if any(case.store for case in chosen) else None
    total, failed = 0, 0
    with contextlib.ExitStack() as held:
        held.enter_context(stand_ins())
        if server is not None:
            held.callback(server.wait)
            held.callback(server.terminate)
        for case in chosen:
            with tempfile.TemporaryDirectory(prefix="p3mdata-crashes-") as place:
                begun = time.monotonic()
                kills, faults = run_case(case, Path(place).resolve(), args.most)
            total, failed = total + kills, failed + len(faults)
            print(f"{case.name}: {kills} kills, {len(faults)} faults, {time.monotonic() - begun:.0f} s", flush=True)
            for fault in faults[:10]:
                print(f"  {fault}", flush=True)
    print(f"{total} kills over {len(chosen)} verbs, {failed} faults")
    sys.exit(1 if failed or not total else 0)


if __name__ == "__main__":
    main()
