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

Faces come from a stand-in for the detectors, so that a case takes a second; all else is the product. Times of
decisions are fixed. Left out of the comparison: seconds in stats.json, and lock files. Exit 1 when a case fails.
"""

from __future__ import annotations

import argparse
import fcntl
import importlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from p3mdata.anonymize.one_image import anonymize_file
from p3mdata.base.files import is_torn
from p3mdata.base.jsonl import dumps
from p3mdata.base.object_store import Store
from p3mdata.config import Execution, Job, Settings
from p3mdata.curation.folder import curate_folder, write_curation
from p3mdata.dataset.build import SplitSettings, build_split
from p3mdata.dataset.check import check_dataset
from p3mdata.dataset.folder import ABOUT, BUILDING
from p3mdata.dataset.layout import read_layout
from p3mdata.export import export
from p3mdata.faces import ensemble, models
from p3mdata.faces.ensemble import Detection
from p3mdata.records import Doubt, Face
from p3mdata.review import batch, session
from p3mdata.review.removal import remove_images
from p3mdata.run import decisions, secret, verify
from p3mdata.run.fetch import fetch_run
from p3mdata.run.job import anonymize_job, merge_tasks, run_staged
from p3mdata.run.layout import PLAN, strays
from p3mdata.run.merge import merge_runs
from p3mdata.run.sampling import sample_run
from p3mdata.run.stages import Stage
from tests.factories import encoded, texture

_SIDE = 64
_SECRET = 32 * "5e"
_LOCKS = re.compile(r"(lock|workers|(alone|lent|memory)-[0-9]+|task-[0-9]+-of-[0-9]+)")
_BUCKET = "crashes"


class _Finder:
    """A face in the middle of every picture; of pictures whose width is odd nobody is sure."""

    def find(self, rgb: Any) -> Detection:
        height, width = rgb.shape[:2]
        if width % 2:
            return Detection((), (Doubt("no_face_found", "shows no face."),))
        box = (0.3 * width, 0.2 * height, 0.7 * width, 0.7 * height)
        seen = ("centerface", "libfacedetection")
        return Detection((Face(box, 0.9, seen, None, None, "landmark model sees no face"),), ())

    def boxes(self, image: Any, looks: Any = ()) -> list[Any]:
        return []

    def close(self) -> None:
        pass

    def __enter__(self) -> _Finder:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


def stand_in() -> None:
    """Put the stand-ins in their places; processes that are forked have them too."""
    # Loaded here, since it looks for a compiler by way of temporary files.
    importlib.import_module("mediapipe")
    for module in (ensemble, models, verify):
        module.FaceFinder = _Finder  # type: ignore[attr-defined]
    secret.new_secret = lambda: _SECRET  # type: ignore[attr-defined]
    for module in (decisions, session, batch):
        if hasattr(module, "now"):
            module.now = lambda: "2026-01-01T00:00:00Z"


@dataclass(frozen=True)
class Case:
    """A verb: what is there before, and the call, both below one folder."""

    name: str
    prepare: Callable[[Path], object]
    call: Callable[[Path], object]
    store: bool = False


def person(height: int, width: int) -> Any:
    """A matte with a soft edge around the middle."""
    y, x = np.mgrid[:height, :width]
    distance = np.hypot((x / width - 0.5) / 0.45, (y / height - 0.5) / 0.48)
    return np.clip(255 * (1 - distance) * 8, 0, 255).astype(np.uint8)


def photographs(at: Path) -> None:
    """Six photographs with mattes; of one nobody is sure, one is a copy, one is damaged."""
    (at / "src/sub").mkdir(parents=True)
    (at / "alphas/sub").mkdir(parents=True)
    for number, name in enumerate(("a.jpg", "b.png", "sub/c.jpg", "odd.png")):
        width = _SIDE + 2 * number + (name == "odd.png")
        data = encoded(texture(_SIDE + 2 * number, width, seed=number), "JPEG" if name.endswith("jpg") else "PNG")
        (at / "src" / name).write_bytes(data)
        alpha = person(_SIDE + 2 * number, width)
        (at / "alphas" / name).with_suffix(".png").write_bytes(encoded(alpha, "PNG"))
    shutil.copy(at / "src/a.jpg", at / "src/sub/copy.jpg")
    shutil.copy(at / "alphas/a.png", at / "alphas/sub/copy.png")
    (at / "src/broken.jpg").write_bytes(b"no picture")
    (at / "alphas/broken.png").write_bytes(encoded(person(_SIDE, _SIDE), "PNG"))


def job(at: Path, out: Any = None, **execution: Any) -> Job:
    return Job(
        source=at / "src",
        alphas=at / "alphas",
        out=out or at / "run",
        settings=Settings(),
        execution=Execution(**{"workers": 1} | execution),
    )


def finished(at: Path) -> None:
    photographs(at)
    anonymize_job(job(at))


def staged(*stages: Stage) -> Callable[[Path], None]:
    """The stages before the one that is killed."""

    def prepare(at: Path) -> None:
        photographs(at)
        for stage in stages:
            a_stage(stage)(at)

    return prepare


def a_stage(stage: Stage) -> Callable[[Path], object]:
    if stage is Stage.DETECT:
        return lambda at: anonymize_job(job(at), Stage.DETECT)
    return lambda at: run_staged(at / "run", stage, workers=1)


def apart(at: Path) -> None:
    photographs(at)
    for name, files in {"one": "a.jpg\nb.png\nsub/copy.jpg", "two": "sub/c.jpg\nodd.png"}.items():
        (at / f"{name}.txt").write_text(files)
        anonymize_job(job(at, at / name, files=at / f"{name}.txt"))


def tasks(at: Path) -> None:
    for number in (1, 2):
        anonymize_job(job(at, task=f"{number}/2"))
    merge_tasks(at / "run")


def decided(at: Path) -> None:
    finished(at)
    said = [{"source": "odd.png", "action": "no_face"}, {"source": "b.png", "action": "exclude"}]
    (at / "decisions.jsonl").write_text("".join(dumps(row) + "\n" for row in said))


def built(at: Path) -> None:
    finished(at)
    split(at)


def split(at: Path) -> object:
    settings = SplitSettings(read_layout("p3m10k"), validation=1, verify=False)
    return build_split(at / "run", at / "data", settings, workers=1)


def exported(to: str) -> Callable[[Path], object]:
    return lambda at: export(at / "run", at / "release", to, "cc-by-4.0")


def curated(at: Path) -> object:
    return write_curation(curate_folder(at / "src", workers=1), at / "kept")


def one_image(at: Path) -> object:
    alpha, facemask = at / "alphas/a.png", at / "mask.png"
    done = anonymize_file(at / "src/a.jpg", at / "out.jpg", Settings(), alpha, facemask=facemask, overwrite=True)
    assert done.outcome.released
    return done


def stored(at: Path) -> object:
    return anonymize_job(job(at, f"s3://{_BUCKET}/run"))


def fetched(at: Path) -> object:
    return fetch_run(f"s3://{_BUCKET}/run", at / "fetched")


CASES = (
    Case("anonymize", photographs, lambda at: anonymize_job(job(at))),
    Case("anonymize again, overwriting", finished, lambda at: anonymize_job(job(at, overwrite=True))),
    Case("detect", photographs, a_stage(Stage.DETECT)),
    Case("mask", staged(Stage.DETECT), a_stage(Stage.MASK)),
    Case("obfuscate", staged(Stage.DETECT, Stage.MASK), a_stage(Stage.OBFUSCATE)),
    Case("verify", staged(Stage.DETECT, Stage.MASK, Stage.OBFUSCATE), a_stage(Stage.VERIFY)),
    Case("anonymize --task", photographs, tasks),
    Case("merge", apart, lambda at: merge_runs([at / "one", at / "two"], at / "merged")),
    Case("review --apply", decided, lambda at: batch.apply_file(at / "run", at / "decisions.jsonl", workers=1)),
    Case("audit --sample", finished, lambda at: sample_run(at / "run", 2)),
    Case("remove", built, lambda at: remove_images(at / "run", ["a.jpg"])),
    Case("build-split", finished, split),
    Case("export webdataset", finished, exported("webdataset")),
    Case("export huggingface", finished, exported("huggingface")),
    Case("curate", photographs, curated),
    Case("anonymize image", photographs, one_image),
    Case("anonymize to a store", photographs, stored, store=True),
    Case("fetch", lambda at: (photographs(at), stored(at)), fetched, store=True),
)


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

        os.open = opened
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
        if path.is_file() and not _LOCKS.fullmatch(path.name):
            data = path.read_bytes()
            if path.name == "stats.json":
                data = dumps({**json.loads(data), "seconds": {}}).encode()
            found[path.relative_to(root).as_posix()] = (path.stat().st_mode & 0o777, data)
    return found


def objects() -> dict[str, bytes]:
    """Everything in the store, without seconds."""
    import boto3

    client = boto3.client("s3")
    found = {}
    for entry in client.list_objects_v2(Bucket=_BUCKET).get("Contents", []):
        data = client.get_object(Bucket=_BUCKET, Key=entry["Key"])["Body"].read()
        if entry["Key"].endswith("stats.json"):
            data = dumps({**json.loads(data), "seconds": {}}).encode()
        found[entry["Key"]] = data
    return found


def restore(kept: dict[str, bytes]) -> None:
    """Put the store back to what it was."""
    import boto3

    client = boto3.client("s3")
    for name in objects().keys() - kept.keys():
        client.delete_object(Bucket=_BUCKET, Key=name)
    for name, data in kept.items():
        client.put_object(Bucket=_BUCKET, Key=name, Body=data)


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
        different = sorted(name for name in wanted.keys() | now.keys() if wanted.get(name) != now.get(name))
        names = wanted_objects.keys() | now_objects.keys()
        different += sorted(name for name in names if wanted_objects.get(name) != now_objects.get(name))
        if different:
            faults.append(f"{moment}: differs from the undisturbed one in {different[:5]}")
    return kills, faults


def below(root: Path) -> dict[str, tuple[int, bytes]]:
    """`state` of the case, without what it began with."""
    return {name: entry for name, entry in state(root).items() if not name.startswith("before/")}


def finds_it_done(root: Path, wanted: dict[str, tuple[int, bytes]]) -> bool:
    """Whether the kill came after the last change; some verbs refuse to do a thing twice."""
    return below(root) == wanted


def serve_store() -> subprocess.Popen[bytes]:
    """moto's server, and the variables with which the libraries find it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    import boto3

    deadline = time.monotonic() + 60
    while True:
        try:
            boto3.client("s3").create_bucket(Bucket=_BUCKET)
            return server
        except Exception:
            if time.monotonic() > deadline:
                server.terminate()
                raise
            time.sleep(0.5)


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
    try:
        for case in chosen:
            with tempfile.TemporaryDirectory(prefix="p3mdata-crashes-") as place:
                begun = time.monotonic()
                kills, faults = run_case(case, Path(place).resolve(), args.most)
            total, failed = total + kills, failed + len(faults)
            print(f"{case.name}: {kills} kills, {len(faults)} faults, {time.monotonic() - begun:.0f} s", flush=True)
            for fault in faults[:10]:
                print(f"  {fault}", flush=True)
    finally:
        if server is not None:
            server.terminate()
            server.wait()
    print(f"{total} kills over {len(chosen)} verbs, {failed} faults")
    sys.exit(1 if failed or not total else 0)


if __name__ == "__main__":
    main()
