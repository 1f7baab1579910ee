"""Runs whose OUT is an object store: the bytes of a run in a folder, however often it was stopped and by whom."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from p3mdata.base.jsonl import read_rows
from p3mdata.base.object_store import Store
from p3mdata.config import Execution, Job, Settings
from p3mdata.dataset.stats import stats_of
from p3mdata.errors import EXIT_HELD_BACK, EXIT_STORE, EXIT_USAGE, RunFolderError, SettingsError
from p3mdata.export.release import Release
from p3mdata.faces.ensemble import FaceFinder
from p3mdata.records import Action
from p3mdata.review.session import reviewing
from p3mdata.run import remote_job as stored
from p3mdata.run import tasks
from p3mdata.run.fetch import fetch_run
from p3mdata.run.job import anonymize_job, verify_run
from p3mdata.run.layout import AUDITS, LEDGER, MANIFEST, PLAN
from p3mdata.run.merge import merge_runs
from p3mdata.run.remote_job import close_stored, status_anywhere
from p3mdata.run.stages import Stage
from tests.factories import encoded, matte, texture
from tests.runs import PATIENCE, Clock, contents, p3mdata, p3mdata_here, portraits, wait_until

upath = pytest.importorskip("upath", reason="universal-pathlib is not installed (pip install 'p3mdata[remote]')")
SIDE = 160
# Four to a shard: two shards.
NAMES = ("a.jpg", "b.png", "sub/c.jpg", "sub/d.jpg", "sub/e.jpg")
OUT = "memory://bucket/run"
STARTS = ("plan.json", "manifest.jsonl", "private/ledger.jsonl", "report.html", "images/", "facemasks/", "alphas/")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Portraits with mattes, a picture without a face, a broken file."""
    folder = portraits(tmp_path_factory.mktemp("stored") / "src", *NAMES, side=SIDE)
    (folder / "sky.jpg").write_bytes(encoded(texture(SIDE, SIDE)))
    (folder / "sub/broken.jpg").write_bytes(b"no picture")
    sides = {name: SIDE + index for index, name in enumerate(NAMES)} | {"sky.jpg": SIDE, "sub/broken.jpg": SIDE}
    for name, side in sides.items():
        path = (folder.with_name("alphas") / name).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(matte(side), "PNG"))
    return folder


@pytest.fixture(scope="module")
def whole(source: Path, kept_models: FaceFinder) -> dict[str, bytes]:
    """What a run in a folder comes to."""
    out = source.with_name("whole")
    assert anonymize_job(a_job(source, out)).released == 5
    return contents(out)


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """fsspec's store in memory, empty; staging folders below tmp_path."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    fs = upath.UPath("memory://bucket").fs
    yield fs
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]


def a_job(source: Path, out: Any, **execution: Any) -> Job:
    settings, alphas = execution.pop("settings", Settings()), execution.pop("alphas", source.with_name("alphas"))
    masks = execution.pop("masks", None)
    execution = {"workers": 1, **execution}
    # As a command line gives it: an address in a Path.
    return Job(
        source=source, out=Path(out), alphas=alphas, masks=masks, settings=settings, execution=Execution(**execution)
    )


def objects(fs: Any, root: str = "/bucket/run") -> dict[str, bytes]:
    """All objects of a run."""
    fs.invalidate_cache()
    return {path.removeprefix(root).lstrip("/"): fs.cat_file(path) for path in fs.find(root)}


def released(found: dict[str, bytes]) -> dict[str, bytes]:
    """Of a run's objects those that equal plans make equal."""
    return {name: data for name, data in found.items() if name.startswith(STARTS)}


def kinds(found: Any) -> dict[str, set[str]]:
    """Ids by kind of released file."""
    return {
        kind: {Path(name).stem for name in found if name.startswith(f"{kind}/")}
        for kind in ("images", "facemasks", "alphas")
    }


def nothing_half_visible(found: dict[str, bytes]) -> None:
    ids = kinds(found)
    assert ids["images"] <= ids["facemasks"] and ids["images"] <= ids["alphas"]


def staging(tmp_path: Path) -> list[Path]:
    return [path for path in tmp_path.glob("p3mdata-*") if path.is_dir()]


def failing(monkeypatch: pytest.MonkeyPatch, fs: Any, method: str, when: Callable[[str], bool]) -> None:
    """The store refuses a call whose path is one of those."""
    call = getattr(type(fs), method)

    def refuse(self: Any, path: str, *args: Any, **kwargs: Any) -> Any:
        if when(str(path)):
            raise OSError(errno.EIO, "the store is on fire")
        return call(self, path, *args, **kwargs)

    monkeypatch.setattr(type(fs), method, refuse)


def test_a_run_in_a_store_is_the_run_in_a_folder(
    tmp_path: Path, source: Path, whole: dict[str, bytes], memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = anonymize_job(a_job(source, OUT))
    assert (str(summary.out), summary.samples, summary.released) == (OUT, 7, 5)
    found = objects(memory)
    assert released(found) == whole
    assert staging(tmp_path) == []
    assert json.loads(found["private/job.json"])["folders"]["out"] == OUT
    status = status_anywhere(Path(OUT))
    assert (status.done, status.closed, status.outcomes["broken"]) == (7, True, 1)
    assert status.shards == {"done": 2, "begun": 0, "left": 0}
    # Nothing is left to do: no picture is put again.
    failing(monkeypatch, memory, "pipe_file", lambda path: "/images/" in path or "/shards/" in path)
    assert anonymize_job(a_job(source, OUT)).released == 5
    assert released(objects(memory)) == whole
    fetched = fetch_run(OUT, tmp_path / "here")
    assert (fetched.samples, fetched.released) == (7, 5)
    assert contents(tmp_path / "here") == whole
    assert verify_run(tmp_path / "here") == (5, [])
    assert not (tmp_path / "here/private/ledger.jsonl").stat().st_mode & 0o077


@pytest.mark.parametrize("machine", ["same", "other"])
def test_a_store_that_fails_shows_nothing_half_and_the_run_goes_on(
    tmp_path: Path, source: Path, whole: dict[str, bytes], memory: Any, machine: str, kept_models: FaceFinder
) -> None:
    rows = [json.loads(line) for line in whole["private/ledger.jsonl"].splitlines()]
    first, second = ([row["id"] for row in shard if "images" in row["files"]] for shard in (rows[:4], rows[4:]))
    for kind, identity in (("facemasks", first[1]), ("images", first[1]), ("images", second[1])):
        with pytest.MonkeyPatch.context() as patch:
            failing(patch, memory, "pipe_file", lambda path, kind=kind, name=identity: f"/{kind}/{name}" in path)
            with pytest.raises(RunFolderError, match=rf"/{kind}/{identity}\S+: cannot be written \(the store"):
                anonymize_job(a_job(source, OUT))
        found = objects(memory)
        nothing_half_visible(found)
        assert identity not in kinds(found)["images"] and MANIFEST not in found
        if kind == "images":
            # The shard got as far as its images.
            assert identity in kinds(found)["facemasks"]
        with pytest.raises(RunFolderError, match="is not finished"):
            fetch_run(OUT, tmp_path / "early")
        assert len(staging(tmp_path)) == 1
        if machine == "other":
            shutil.rmtree(staging(tmp_path)[0])
    anonymize_job(a_job(source, OUT))
    assert released(objects(memory)) == whole
    assert staging(tmp_path) == []


def test_what_is_staged_is_not_done_twice(
    source: Path, whole: dict[str, bytes], memory: Any, kept_models: FaceFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        failing(patch, memory, "pipe_file", lambda path: path.endswith("shards/00001/DONE"))
        with pytest.raises(RunFolderError, match="shards/00001/DONE: cannot be written"):
            anonymize_job(a_job(source, OUT))

    def look_again(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("was done already")

    monkeypatch.setattr("p3mdata.run.shards.process", look_again)
    anonymize_job(a_job(source, OUT))
    assert released(objects(memory)) == whole


def test_what_is_not_released_any_more_goes_image_first(
    tmp_path: Path, source: Path, memory: Any, kept_models: FaceFinder
) -> None:
    photos = tmp_path / "photos"
    for path in source.rglob("*"):
        if path.is_file():
            (photos / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            (photos / path.relative_to(source)).write_bytes(path.read_bytes())
    job = a_job(photos, OUT, task="1/1", alphas=source.with_name("alphas"))
    anonymize_job(job)
    before = objects(memory)
    ids = {row["source"]: row["id"] for row in read_rows(fetch_run(OUT, tmp_path / "one").out / LEDGER)}
    # A part takes the plan that is there: the file is missed by the worker.
    (photos / "a.jpg").unlink()
    for index in (0, 1):
        memory.rm_file(f"/bucket/run/shards/0000{index}/DONE")
    with pytest.MonkeyPatch.context() as patch:
        failing(patch, memory, "rm_file", lambda path: "/facemasks/" in path)
        with pytest.raises(RunFolderError, match="cannot be removed"):
            anonymize_job(job)
    found = kinds(objects(memory))
    assert ids["a.jpg"] not in found["images"] and ids["a.jpg"] in found["facemasks"]
    # Even when the attempt that withdraws was not the one that knew of it.
    summary = anonymize_job(job)
    assert (summary.released, summary.reasons["cannot_read"]) == (4, 1)
    after = objects(memory)
    gone = {name for name in before if name.startswith(STARTS)} - after.keys()
    assert gone == {name for name in before if ids["a.jpg"] in name}
    fetch_run(OUT, tmp_path / "two")
    assert verify_run(tmp_path / "two") == (4, [])


def test_masks_may_be_added(tmp_path: Path, source: Path, memory: Any, kept_models: FaceFinder) -> None:
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks/sky.png").write_bytes(encoded(matte(SIDE), "PNG"))
    anonymize_job(a_job(source, OUT))
    with pytest.MonkeyPatch.context() as patch:
        failing(patch, memory, "pipe_file", lambda path: "/facemasks/" in path)
        with pytest.raises(RunFolderError, match="cannot be written"):
            anonymize_job(a_job(source, OUT, masks=tmp_path / "masks"))
    # A shard that is done again is not done meanwhile.
    assert "shards/00000/DONE" not in objects(memory)
    summary = anonymize_job(a_job(source, OUT, masks=tmp_path / "masks"))
    anonymize_job(a_job(source, tmp_path / "out", masks=tmp_path / "masks"))
    assert summary.outcomes["masked_by_hand"] == 1
    assert released(objects(memory)) == contents(tmp_path / "out")


def test_parts_share_a_store(
    tmp_path: Path, source: Path, whole: dict[str, bytes], memory: Any, kept_models: FaceFinder
) -> None:
    first = anonymize_job(a_job(source, OUT, task="2/2"))
    assert (first.samples, first.shards_left, first.exit_code) == (3, 1, 0)
    before = status_anywhere(Path(OUT))
    assert (before.done, before.shards, before.closed) == (3, {"done": 1, "begun": 0, "left": 1}, False)
    with pytest.raises(RunFolderError, match=r"1 of 2 shards are not done \(1\)"):
        close_stored(OUT)
    with pytest.raises(RunFolderError, match=r"memory://bucket/run: was planned with .*min_side \(0 -> 9\)"):
        anonymize_job(a_job(source, OUT, task="1/2", settings=Settings(min_side=9)))
    last = anonymize_job(a_job(source, OUT, task="1/2"))
    assert (last.samples, last.shards_left, last.exit_code) == (4, 0, 0)
    assert released(objects(memory)) == whole
    memory.rm_file("/bucket/run/manifest.jsonl")
    memory.rm_file("/bucket/run/private/ledger.jsonl")
    assert not status_anywhere(Path(OUT)).closed
    assert close_stored(OUT).exit_code == EXIT_HELD_BACK
    assert released(objects(memory)) == whole
    # More parts than shards: some have nothing to do.
    assert anonymize_job(a_job(source, OUT, task="5/5")).samples == 0
    assert released(objects(memory)) == whole


def test_a_plan_that_nobody_finishes_is_made_by_another(
    source: Path, memory: Any, monkeypatch: pytest.MonkeyPatch, kept_models: FaceFinder
) -> None:
    claim = "/bucket/run/private/planning.0"
    memory.pipe_file(claim, b"0")
    patience = round(tasks._PATIENCE_SECONDS / stored._Claims.poll_seconds)

    def show_life(waits: int) -> None:
        assert PLAN not in objects(memory)
        # Far longer than anybody has patience, and seldom: just often enough.
        if waits % (patience - 2) == 0 and waits < 5 * patience:
            memory.pipe_file(claim, str(waits).encode())
            beats.append(waits)

    beats: list[int] = []
    clock = Clock(show_life)
    monkeypatch.setattr(tasks, "time", clock)
    assert anonymize_job(a_job(source, OUT, task="1/1")).released == 5
    assert len(beats) >= 5 and beats[-1] + patience <= clock.waits <= beats[-1] + patience + 3
    assert not [name for name in objects(memory) if "planning" in name]


def test_a_place_that_is_not_ours_is_left_alone(source: Path, memory: Any, kept_models: FaceFinder) -> None:
    memory.pipe_file("/bucket/run/holiday.jpg", b"theirs")
    with pytest.raises(RunFolderError, match=f"{OUT}: is not empty and holds no run"):
        anonymize_job(a_job(source, OUT))
    memory.pipe_file("/bucket/run/plan.json", b'{"tool": "terraform"}')
    with pytest.raises(RunFolderError, match=f"{OUT}: is not a run, its plan.json is not of p3mdata"):
        anonymize_job(a_job(source, OUT))
    assert objects(memory).keys() == {"holiday.jpg", "plan.json"}
    memory.rm("/bucket/run", recursive=True)
    anonymize_job(a_job(source, OUT, limit=1))
    before = objects(memory)
    with pytest.raises(SettingsError, match="--overwrite is not for an object store"):
        anonymize_job(a_job(source, OUT, limit=1, overwrite=True))
    with pytest.raises(RunFolderError, match=r"sub/broken.jpg|is new"):
        anonymize_job(a_job(source, OUT))
    with pytest.raises(RunFolderError, match=r"min_side \(0 -> 9\)"):
        anonymize_job(a_job(source, OUT, limit=1, settings=Settings(min_side=9)))
    with pytest.raises(SettingsError, match="stages one by one need a RUN that is a folder"):
        anonymize_job(a_job(source, OUT, limit=1), Stage.DETECT)
    with pytest.raises(SettingsError, match="OUT and SRC must not lie inside each other"):
        anonymize_job(Job(source="memory://bucket/run/images", out=OUT))
    assert objects(memory) == before
    memory.pipe_file("/bucket/run/private/sources.jsonl", before["private/sources.jsonl"] * 2)
    with pytest.raises(RunFolderError, match="is not the list of its plan.json"):
        anonymize_job(a_job(source, OUT, limit=1))


def test_a_plan_that_appears_between_two_looks_is_no_foreign_place(
    source: Path, memory: Any, kept_models: FaceFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    anonymize_job(a_job(source, OUT, task="1/2"))
    get, unseen = Store.get, [PLAN]
    monkeypatch.setattr(Store, "get", lambda self, name: unseen.remove(name) if name in unseen else get(self, name))
    assert anonymize_job(a_job(source, OUT, task="2/2")).shards_left == 0
    assert not unseen


def test_a_staging_folder_that_somebody_else_made_is_refused(
    tmp_path: Path, source: Path, memory: Any, kept_models: FaceFinder
) -> None:
    job = a_job(source, OUT)
    (tmp_path / "elsewhere").mkdir()
    job.out.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunFolderError, match="is not a folder of yours"):
        anonymize_job(job)
    assert list((tmp_path / "elsewhere").iterdir()) == [] and PLAN not in objects(memory)


def test_fetching_checks_resumes_and_spoils_nothing(
    tmp_path: Path, source: Path, whole: dict[str, bytes], memory: Any, kept_models: FaceFinder
) -> None:
    with pytest.raises(RunFolderError, match=f"{OUT}: is not a run"):
        fetch_run(OUT, tmp_path / "here")
    with pytest.raises(SettingsError, match="is no address"):
        fetch_run(tmp_path, tmp_path / "here")
    anonymize_job(a_job(source, OUT))
    here = tmp_path / "here"
    last = max(name for name in whole if name.startswith("images/"))
    with pytest.MonkeyPatch.context() as patch:
        failing(patch, memory, "cat_file", lambda path: path.endswith(last))
        with pytest.raises(RunFolderError, match=f"{last}: cannot be read"):
            fetch_run(OUT, here)
    with pytest.raises(RunFolderError, match="is not finished"):
        verify_run(here)
    there = [name for name in whole if (here / name).exists() and name != last and name.startswith(STARTS[4:])]
    assert there
    with pytest.MonkeyPatch.context() as patch:
        # What came already is not asked for again.
        failing(patch, memory, "cat_file", lambda path: any(path.endswith(name) for name in there))
        fetch_run(OUT, here)
    assert contents(here) == whole
    # What is private is its owner's alone, as in a run that was made here.
    for folder in ("private", "shards", "review"):
        assert (here / folder).stat().st_mode & 0o777 == 0o700
    for name in ("private/secret", "private/ledger.jsonl", "private/sources.jsonl", "review/queue.jsonl"):
        assert (here / name).stat().st_mode & 0o777 == 0o600
    # Staging folders are their own locks: nothing of them is left.
    assert not list(tmp_path.glob("p3mdata-*"))
    memory.pipe_file(f"/bucket/run/{last}", b"another picture")
    with pytest.raises(RunFolderError, match=f"{last}: is not the file that was released"):
        fetch_run(OUT, tmp_path / "spoilt")
    memory.rm_file(f"/bucket/run/{last}")
    with pytest.raises(RunFolderError, match=f"{last}: is missing. Delete shards/0000./DONE there"):
        fetch_run(OUT, tmp_path / "spoilt")
    for index in (0, 1):
        memory.rm_file(f"/bucket/run/shards/0000{index}/DONE")
    anonymize_job(a_job(source, OUT))
    fetch_run(OUT, tmp_path / "spoilt")
    assert contents(tmp_path / "spoilt") == whole
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/file").touch()
    with pytest.raises(RunFolderError, match="is not empty and not a run folder"):
        fetch_run(OUT, tmp_path / "foreign")
    anonymize_job(a_job(source, tmp_path / "other", limit=2))
    with pytest.raises(RunFolderError, match="holds another run than memory://bucket/run"):
        fetch_run(OUT, tmp_path / "other")
    for name in AUDITS:
        (here / name).touch()
        with pytest.raises(RunFolderError, match="holds decisions, take-downs or an audit"):
            fetch_run(OUT, here)
        (here / name).unlink()
    with reviewing(here) as session:
        session.decide(
            next(row["id"] for row in read_rows(here / LEDGER) if row["source"] == "sky.jpg"), Action.NO_FACE
        )
    with pytest.raises(RunFolderError, match="holds decisions"):
        fetch_run(OUT, here)


def test_names_in_rows_stay_inside_the_run(tmp_path: Path, source: Path, memory: Any, kept_models: FaceFinder) -> None:
    anonymize_job(a_job(source, OUT))
    name = "/bucket/run/shards/00000/results.jsonl"
    identity = sorted(kinds(objects(memory))["images"])[0]
    rows = [memory.cat_file(f"/bucket/run/shards/0000{index}/results.jsonl") for index in (0, 1)]
    holder = 0 if identity.encode() in rows[0] else 1
    name = name.replace("00000", f"0000{holder}")
    memory.pipe_file(name, rows[holder].replace(f'"{identity}.'.encode(), f'"../../{identity}.'.encode()))
    with pytest.raises(RunFolderError, match="results.jsonl: is damaged"):
        fetch_run(OUT, tmp_path / "deep/er/here")
    assert not list((tmp_path / "deep").glob("*.*")) and not list((tmp_path / "deep/er").glob("*.*"))


def test_commands_that_need_a_folder_say_what_to_do(tmp_path: Path) -> None:
    sentence = r"s3://bucket/run: lies in an object store\. Run 'p3mdata fetch s3://bucket/run DIR' first"
    address = Path("s3://bucket/run")
    calls: list[Callable[[], Any]] = [
        lambda: verify_run(address),
        lambda: stats_of(address),
        lambda: Release.open(address),
        lambda: merge_runs([address, tmp_path], tmp_path / "out"),
        lambda: reviewing(address).__enter__(),
    ]
    for call in calls:
        with pytest.raises(RunFolderError, match=sentence):
            call()
    with pytest.raises(SettingsError, match="--out must be a folder of this machine"):
        merge_runs([tmp_path, tmp_path / "x"], address)
    for command in (("verify", address), ("mask", address), ("audit", address), ("remove", address, "x")):
        done = p3mdata_here(*command)
        assert done.returncode == EXIT_USAGE
        assert done.stderr.startswith("Error: s3://bucket/run: lies in an object store. Run 'p3mdata fetch")
    done = p3mdata_here(
        "anonymize", "dir", tmp_path, "memory://b/run", "--alphas", "predict", "--checkpoint", tmp_path / "x"
    )
    assert done.stderr.startswith("Error: --alphas predict: OUT is an address.")


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """A server that speaks S3, and the store that it has; other processes see the same."""
    pytest.importorskip("s3fs", reason="s3fs is not installed (pip install 'p3mdata[s3]')")
    server_of = pytest.importorskip("moto.server", reason="moto's server is not installed").ThreadedMotoServer
    server = server_of("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
        ):
            patch.setenv(name, value)
        fs = upath.UPath("s3://bucket").fs
        fs.mkdir("bucket")
        yield fs
        # Kept connections know this server's port alone; the next test of this process may have another one.
        type(fs).clear_instance_cache()
    server.stop()


def start(source: Path, out: str, *args: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "p3mdata", "anonymize", "dir", str(source), out]
    command += ["--alphas", str(source.with_name("alphas")), "--json", *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


@pytest.mark.slow
def test_processes_and_machines_share_a_store(tmp_path: Path, source: Path, whole: dict[str, bytes], s3: Any) -> None:
    """Two parts with workers, each as on a machine of its own, started together; then every command on the result."""
    begun, running = time.time(), []
    for part in ("1/2", "2/2"):
        (tmp_path / part[0]).mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TMPDIR", str(tmp_path / part[0]))
            running.append(start(source, "s3://bucket/parts", "--task", part, "--workers", "2"))
    said = [process.communicate(timeout=PATIENCE)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    assert released(objects(s3, "bucket/parts")) == whole
    assert not [path for path in tmp_path.glob("?/*") if path.is_dir()]
    row = json.loads(p3mdata("status", "s3://bucket/parts", "--json").stdout)
    assert (row["out"], row["done"], row["closed"]) == ("s3://bucket/parts", 7, True)
    # Not longer than this test takes; stores tell whole seconds.
    assert 0 <= row["idle_seconds"] <= time.time() - begun + 2
    assert p3mdata("merge", "s3://bucket/parts").returncode == EXIT_HELD_BACK
    done = p3mdata("fetch", "s3://bucket/parts", tmp_path / "here")
    assert done.stdout.startswith("5 released images of 7 source files"), done.stderr
    assert contents(tmp_path / "here") == whole
    assert "5 released images: all proofs hold" in p3mdata("verify", tmp_path / "here").stdout


@pytest.mark.slow
def test_a_killed_process_shows_nothing_half(tmp_path: Path, source: Path, whole: dict[str, bytes], s3: Any) -> None:
    process = start(source, "s3://bucket/killed", "--workers", "2")
    wait_until(lambda: s3.find("bucket/killed/facemasks", refresh=True), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    nothing_half_visible(objects(s3, "bucket/killed"))
    again = start(source, "s3://bucket/killed", "--workers", "2")
    while again.poll() is None:
        # Images first: masks that come between the two looks do no harm.
        images = {Path(name).stem for name in s3.find("bucket/killed/images", refresh=True)}
        assert images <= {Path(name).stem for name in s3.find("bucket/killed/facemasks", refresh=True)}
        time.sleep(0.05)
    again.communicate()
    assert again.returncode == EXIT_HELD_BACK
    assert released(objects(s3, "bucket/killed")) == whole


@pytest.mark.slow
def test_what_is_wrong_with_a_store_is_one_sentence(source: Path, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(out: str) -> str:
        done = p3mdata("anonymize", "dir", source, out)
        assert done.returncode == EXIT_STORE
        (line,) = done.stderr.splitlines()
        return line

    assert "s3://nowhere/run/private/job.json: cannot be written (The specified bucket does not exist)" in said(
        "s3://nowhere/run"
    )
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert "cannot be read (NoCredentialsError: Unable to locate credentials)" in said("s3://bucket/x")


@pytest.mark.slow
def test_actors_put_their_shards(source: Path, whole: dict[str, bytes], s3: Any) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (pip install 'p3mdata[ray]')")
    process = start(source, "s3://bucket/ray", "--executor", "ray", "--workers", "2")
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == EXIT_HELD_BACK, said
    assert released(objects(s3, "bucket/ray")) == whole
