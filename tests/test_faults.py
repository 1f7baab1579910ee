"""Faults of the place: killed, interrupted, out of room, read-only, two at once. All of it can be resumed."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from p3mdata.base.files import sha256
from p3mdata.base.ids import sample_id
from p3mdata.base.jsonl import read_rows
from p3mdata.config import Execution, Job
from p3mdata.errors import EXIT_HELD_BACK, EXIT_INTERRUPTED, EXIT_USAGE, RunFolderError
from p3mdata.faces.ensemble import FaceFinder
from p3mdata.imaging import decode
from p3mdata.run.job import anonymize_job, run_staged
from p3mdata.run.rows import count_done
from p3mdata.run.stages import Stage
from tests.conftest import SECRET
from tests.gate import Gate
from tests.runs import PATIENCE, contents, p3mdata, portraits, wait_until
from tests.surroundings import first_on_path

pytestmark = pytest.mark.slow

# Four to a shard: two shards.
NAMES = tuple(f"{letter}.jpg" for letter in "abcdef")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs whose names have the order of their ids, in which they are done."""
    folder = portraits(tmp_path_factory.mktemp("faults") / "src", *NAMES)
    pictures = sorted(((folder / name).read_bytes() for name in NAMES), key=identity)
    for name, data in zip(NAMES, pictures, strict=True):
        (folder / name).write_bytes(data)
    return folder


def identity(data: bytes) -> str:
    """Id of a file of these bytes."""
    return sample_id(sha256(data), "", 0, SECRET)


@pytest.fixture(scope="module")
def undisturbed(source: Path, kept_models: FaceFinder) -> dict[str, bytes]:
    """What the run comes to when nothing happens, in this process."""
    out = source.with_name("undisturbed")
    assert anonymize_job(a_job(source, out)).released == len(NAMES)
    return contents(out)


def a_job(source: Path, out: Path) -> Job:
    return Job(source=source, out=out, execution=Execution(workers=1))


def started(source: Path, out: Path, *args: str, **options: Any) -> subprocess.Popen[str]:
    """A run as a process group of its own."""
    command = [sys.executable, "-m", "p3mdata", "anonymize", "dir", str(source), str(out), *args]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    return subprocess.Popen(command, start_new_session=True, **options)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def nothing_is_half_written(out: Path) -> None:
    for kind in ("images", "facemasks"):
        for path in (out / kind).glob("[!.]*"):
            decode(path.read_bytes())
    for image in (out / "images").glob("[!.]*"):
        assert (out / "facemasks" / f"{image.stem}.png").exists()


def resumes_to(expected: dict[str, bytes], source: Path, out: Path, workers: str = "1") -> None:
    if workers == "1":
        anonymize_job(a_job(source, out))
    else:
        done = p3mdata("anonymize", "dir", source, out, "--workers", workers, "-q")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert contents(out) == expected
    assert not list(out.rglob("*.tmp"))


@pytest.fixture
def gate(tmp_path: Path, source: Path) -> Gate:
    return Gate(tmp_path / "gate", source)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_killed_again_and_again_it_comes_to_the_same_bytes(
    tmp_path: Path, source: Path, undisturbed: dict[str, bytes], workers: str, gate: Gate
) -> None:
    out = tmp_path / "out"
    # Before the plan, before the first image, in the midst of images, and before they get their names.
    moments = [None, ("a.jpg", "open"), ("a.jpg", "write"), ("c.jpg", "open"), ("d.jpg", "write"), ("f.jpg", "open")]
    for moment in moments:
        gate.open()
        # The other worker does not get to the end meanwhile.
        gate.hold("f.jpg")
        if moment:
            gate.hold(moment[0], step=moment[1])
        run = started(source, out, "--workers", workers, env=gate.env)
        wait_until(lambda moment=moment: gate.at(*moment) if moment else (out / "private").exists(), run)
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
        nothing_is_half_written(out)
    assert 3 <= count_done(out) < len(NAMES)
    resumes_to(undisturbed, source, out, workers)


def test_orphaned_workers_stop_and_do_no_harm(
    tmp_path: Path, source: Path, undisturbed: dict[str, bytes], gate: Gate
) -> None:
    out = tmp_path / "out"
    gate.hold("b.jpg", "f.jpg")
    run = started(source, out, "--workers", "2", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=gate.env)
    wait_until(lambda: gate.at("b.jpg") and gate.at("f.jpg"), run)
    orphans = children(run.pid)
    assert len(orphans) >= 2
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert any(alive(pid) for pid in orphans)
    # The orphans are at their last images, which they finish.
    gate.open()
    resumes_to(undisturbed, source, out, workers="2")
    wait_until(lambda: not any(alive(pid) for pid in orphans))


def test_idle_workers_end_with_a_killed_parent(tmp_path: Path, source: Path, gate: Gate) -> None:
    out = tmp_path / "out"
    gate.hold("a.jpg", "e.jpg")
    run = started(source, out, "--workers", "2", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=gate.env)
    wait_until(lambda: len(children(run.pid)) > 2, run)
    orphans = children(run.pid)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    gate.open()
    wait_until(lambda: not any(alive(pid) for pid in orphans))
    # None, or the one image each that they had begun.
    assert count_done(out) <= 2


@pytest.mark.parametrize(
    ("number", "workers", "images"),
    [(signal.SIGINT, "1", 1), (signal.SIGINT, "2", 2), (signal.SIGTERM, "1", 1), (signal.SIGTERM, "2", 0)],
)
def test_interrupted_it_says_so_and_resumes(
    tmp_path: Path, source: Path, undisturbed: dict[str, bytes], number: int, workers: str, images: int, gate: Gate
) -> None:
    out = tmp_path / "out"
    # One worker is in the first shard, two are in both.
    done, at = {0: ("", "ae"), 1: ("a", "b"), 2: ("ae", "bf")}[images]
    at = [f"{letter}.jpg" for letter in at]
    rest = [name for name in NAMES if name[0] not in done and name not in at]
    gate.hold(*at, *rest)
    run = started(source, out, "--workers", workers, env=gate.env)
    wait_until(lambda: all(map(gate.at, at)), run)
    assert count_done(out) == images
    # As a terminal does it: to the workers as well.
    os.killpg(run.pid, number)
    wait_until(gate.saw_signal)
    # What was begun is finished. A worker may begin one more image before its parent lets go of it.
    gate.release(*at)
    wait_until(lambda: run.poll() is not None or any(map(gate.at, rest)))
    gate.open()
    stdout, stderr = run.communicate(timeout=PATIENCE)
    assert (run.returncode, stdout) == (EXIT_INTERRUPTED, "")
    assert "Run the same command again to resume" in stderr
    assert "Traceback" not in stderr
    assert images + len(at) <= count_done(out) < len(NAMES)
    nothing_is_half_written(out)
    resumes_to(undisturbed, source, out)


# Python reads this file at start, in worker processes too: the way to a worker that dies without code for it.
DIES_OF_A_PICTURE = """
import io, os, signal
from PIL import Image
real = Image.open
def open_or_die(source, *args, **kwargs):
    if isinstance(source, io.BytesIO) and b"this picture kills" in source.getvalue():
        with open(os.environ["DEATHS"], "a") as deaths:
            deaths.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
    return real(source, *args, **kwargs)
Image.open = open_or_die
"""


def test_a_picture_that_kills_its_worker_costs_only_itself(
    tmp_path: Path, source: Path, undisturbed: dict[str, bytes]
) -> None:
    (tmp_path / "double").mkdir()
    (tmp_path / "double" / "sitecustomize.py").write_text(DIES_OF_A_PICTURE)
    mortal = {**first_on_path(tmp_path / "double"), "DEATHS": str(tmp_path / "deaths")}
    first = identity((source / NAMES[0]).read_bytes())
    killers = (b"this picture kills whoever opens it %d" % number for number in itertools.count())
    # First of its shard, so that the worker beside it is at the same innocent image each time.
    killer = next(data for data in killers if identity(data) < first)
    for name in NAMES:
        (tmp_path / "src").mkdir(exist_ok=True)
        (tmp_path / "src" / name).write_bytes((source / name).read_bytes())
    (tmp_path / "src" / "A killer.jpg").write_bytes(killer)
    out = tmp_path / "out"
    args = ("anonymize", "dir", tmp_path / "src", out, "--workers", "2", "-q")
    done = p3mdata(*args, env=mortal)
    assert done.returncode == EXIT_HELD_BACK, done.stderr
    rows = {row["source"]: row for row in read_rows(out / "private" / "ledger.jsonl")}
    assert (rows["A killer.jpg"]["outcome"], rows["A killer.jpg"]["reason"]) == ("broken", "crashed_worker")
    assert {rows[name]["outcome"] for name in NAMES} == {"anonymized"}
    assert len(rows) == len(NAMES) + 1
    assert (tmp_path / "deaths").read_text() == "xxx"
    released = contents(out)
    assert all(released[name] == undisturbed[name] for name in undisturbed if name.startswith("images/"))
    # Where it kills no more it is looked at again, and nothing else is.
    done = p3mdata(*args)
    assert done.returncode == EXIT_HELD_BACK
    rows = {row["source"]: row for row in read_rows(out / "private" / "ledger.jsonl")}
    assert rows["A killer.jpg"]["reason"] == "not_an_image"


def test_staged_commands_survive_a_picture_that_kills(tmp_path: Path, kept_models: FaceFinder) -> None:
    (tmp_path / "double").mkdir()
    (tmp_path / "double" / "sitecustomize.py").write_text(DIES_OF_A_PICTURE)
    mortal = {**first_on_path(tmp_path / "double"), "DEATHS": str(tmp_path / "deaths")}
    portraits(tmp_path / "src", "a.jpg")
    (tmp_path / "src" / "killer.jpg").write_bytes(b"this picture kills whoever opens it")
    out = tmp_path / "out"
    assert p3mdata("detect", tmp_path / "src", out, env=mortal).returncode == 0
    for stage in (Stage.MASK, Stage.OBFUSCATE):
        run_staged(out, stage, workers=1)
    assert p3mdata("verify", out, env=mortal).returncode == EXIT_HELD_BACK
    reasons = {row["source"]: row.get("reason") for row in read_rows(out / "private" / "ledger.jsonl")}
    assert reasons == {"a.jpg": None, "killer.jpg": "crashed_worker"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a small file system; called again, with another size or read-only."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options: str) -> Path:
        again = ["-o", f"remount,{options}"] if os.path.ismount(place) else ["-o", options]
        done = subprocess.run(
            ["mount", "-t", "tmpfs", *again, "tmpfs", str(place)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
        return place

    try:
        yield mount
    finally:
        if os.path.ismount(place):
            subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_is_one_sentence_and_resumes(
    source: Path, undisturbed: dict[str, bytes], small_disk: Callable[[str], Path]
) -> None:
    failures, size = 0, 12
    # Room is made bit by bit, so that it runs out in the plan, in images, in rows, in the manifest and in the report.
    while True:
        out = small_disk(f"size={size}k") / "out"
        try:
            anonymize_job(a_job(source, out))
            break
        except RunFolderError as exc:
            assert str(exc).startswith(str(out))
            assert "No space left on device" in str(exc)
            failures += 1
        nothing_is_half_written(out)
        size += 12
    assert failures > 5
    assert contents(out) == undisturbed
    assert not list(out.rglob("*.tmp"))


def test_a_full_disk_stops_the_command_line(source: Path, small_disk: Callable[[str], Path]) -> None:
    out = small_disk("size=100k") / "out"
    done = p3mdata("anonymize", "dir", source, out, "--workers", "2")
    assert (done.returncode, done.stdout) == (EXIT_USAGE, "")
    assert done.stderr.startswith(f"Error: {out}: cannot be written (No space left on device). Make room")
    assert done.stderr.count("\n") == 1
    nothing_is_half_written(out)


def test_a_read_only_place_is_one_sentence(
    source: Path, undisturbed: dict[str, bytes], small_disk: Callable[[str], Path]
) -> None:
    place = small_disk("size=9m")
    out = place / "out"
    small_disk("ro")
    with pytest.raises(RunFolderError, match="Read-only file system"):
        anonymize_job(a_job(source, out))
    done = p3mdata("anonymize", "image", source / "a.jpg", place / "a.jpg")
    assert done.returncode == EXIT_USAGE
    assert "Read-only file system" in done.stderr
    assert "Traceback" not in done.stderr
    small_disk("rw")
    anonymize_job(a_job(source, out))
    small_disk("ro")
    with pytest.raises(RunFolderError, match="Read-only file system"):
        anonymize_job(a_job(source, out))
    assert contents(out) == undisturbed


def test_the_second_process_on_one_run_is_refused(
    tmp_path: Path, source: Path, undisturbed: dict[str, bytes], gate: Gate
) -> None:
    out = tmp_path / "out"
    gate.hold("c.jpg")
    run = started(source, out, "--workers", "2", "-q", env=gate.env)
    wait_until(lambda: gate.at("c.jpg"), run)
    for overwrite in (False, True):
        job = Job(source=source, out=out, execution=Execution(workers=1, overwrite=overwrite))
        with pytest.raises(RunFolderError, match="another p3mdata process is working on it"):
            anonymize_job(job)
    gate.open()
    run.communicate(timeout=PATIENCE)
    assert run.returncode == 0
    assert contents(out) == undisturbed
