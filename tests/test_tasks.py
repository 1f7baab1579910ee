"""A run in tasks: shared by processes, or made apart and merged; both come to the bytes of one run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from p3mdata.base.jsonl import read_rows
from p3mdata.base.resources import pipelines_dir
from p3mdata.config import Execution, Job, Settings
from p3mdata.errors import EXIT_HELD_BACK, EXIT_USAGE, RunFolderError, SettingsError
from p3mdata.faces.ensemble import FaceFinder
from p3mdata.records import Action
from p3mdata.review.removal import remove_images
from p3mdata.review.session import reviewing
from p3mdata.run import tasks
from p3mdata.run.job import anonymize_job, merge_tasks, verify_run
from p3mdata.run.layout import LEDGER
from p3mdata.run.locks import only_run
from p3mdata.run.merge import merge_runs
from p3mdata.run.status import status_of
from tests.factories import encoded, matte, texture
from tests.runs import PATIENCE, Clock, contents, p3mdata_here, portraits, wait_until

SIDE = 160
CLUSTER = pipelines_dir() / "cluster"
# Four to a shard: three shards.
NAMES = ("a.jpg", "b.png", "x/c.jpg", "x/d.jpg", "x/e.jpg", "y/f.jpg", "y/g.jpg")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Portraits in two folders and above, copies across folders, a picture without a face, broken and empty files."""
    folder = portraits(tmp_path_factory.mktemp("parts") / "src", *NAMES, side=SIDE)
    shutil.copy(folder / "x/c.jpg", folder / "y/copy.jpg")
    (folder / "x/sky.jpg").write_bytes(encoded(texture(SIDE, SIDE)))
    (folder / "y/broken.jpg").write_bytes(b"no picture")
    (folder / "y/link.jpg").symlink_to("nowhere")
    alphas = folder.with_name("alphas")
    for path in sorted(folder.rglob("*.jpg")) + sorted(folder.rglob("*.png")):
        target = (alphas / path.relative_to(folder)).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        side = SIDE + NAMES.index("x/c.jpg") if path.name == "copy.jpg" else SIDE
        name = str(path.relative_to(folder))
        side = SIDE + NAMES.index(name) if name in NAMES else side
        target.write_bytes(encoded(matte(side), "PNG"))
    return folder


def a_job(source: Path, out: Path, **execution: Any) -> Job:
    settings = execution.pop("settings", Settings())
    alphas = execution.pop("alphas", source.with_name("alphas"))
    return Job(source=source, out=out, alphas=alphas, settings=settings, execution=Execution(workers=1, **execution))


@pytest.fixture(scope="module")
def whole(source: Path, kept_models: FaceFinder) -> dict[str, bytes]:
    """What one run over everything comes to."""
    out = source.with_name("whole")
    summary = anonymize_job(a_job(source, out))
    assert (summary.samples, summary.released) == (11, 8)
    return contents(out)


def test_parts_come_to_the_bytes_of_one_run(tmp_path: Path, source: Path, whole: dict[str, bytes]) -> None:
    out = tmp_path / "out"
    first = anonymize_job(a_job(source, out, task="2/2"))
    assert (first.samples, first.shards_left, first.exit_code) == (4, 2, 0)
    assert not (out / LEDGER).exists()
    before = status_of(out)
    assert (before.done, before.shards, before.closed) == (4, {"done": 1, "begun": 0, "left": 2}, False)
    with pytest.raises(RunFolderError, match=r"2 of 3 shards are not done \(1, 3\)"):
        merge_tasks(out)
    last = anonymize_job(a_job(source, out, task="1/2"))
    # A task is done although images are held back; merging tells of them.
    assert (last.samples, last.shards_left, last.exit_code) == (7, 0, 0)
    assert contents(out) == whole
    after = status_of(out)
    assert (after.done, after.closed, after.outcomes["broken"]) == (11, True, 2)
    assert after.rate and after.rate > 0
    (out / LEDGER).unlink()
    assert not status_of(out).closed
    assert merge_tasks(out).exit_code == EXIT_HELD_BACK
    assert contents(out) == whole
    # More tasks than shards: some have nothing to do.
    assert anonymize_job(a_job(source, out, task="5/5")).samples == 0
    assert contents(out) == whole


@pytest.mark.slow
def test_tasks_of_an_array_that_start_together_make_one_plan(
    tmp_path: Path, source: Path, whole: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    (tmp_path / "p3mdata").write_text(f'#!/bin/sh\nexec {sys.executable} -m p3mdata "$@"\n')
    (tmp_path / "p3mdata").chmod(0o755)
    paths = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["bash", str(CLUSTER / "slurm.sh"), str(source), str(out), "--json"]
    command += ["--alphas", str(source.with_name("alphas"))]
    running = []
    for k in ("1", "2", "3"):
        array = {"SLURM_ARRAY_TASK_ID": k, "SLURM_ARRAY_TASK_MAX": "3", "SLURM_CPUS_PER_TASK": "1"}
        running.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **paths, **array})
        )
    said = [process.communicate(timeout=PATIENCE)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], said
    assert contents(out) == whole
    assert not list(out.rglob("*.tmp")) and not list((out / "private").glob("*planning*"))


def test_the_indexed_job_covers_all_parts() -> None:
    job = yaml.safe_load((CLUSTER / "kubernetes.yaml").read_text())["spec"]
    (container,) = job["template"]["spec"]["containers"]
    (command,) = container["args"]
    tasks_of = command.split("--task ")[1]
    assert job["completionMode"] == "Indexed"
    number = subprocess.run(
        ["sh", "-c", f"JOB_COMPLETION_INDEX={job['completions'] - 1}; echo {tasks_of}"], capture_output=True, text=True
    ).stdout.strip()
    assert Execution(task=number).task_number == (job["completions"], job["completions"])


def test_a_plan_that_nobody_finishes_is_made_by_another(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out/private").mkdir(parents=True)
    claim = tmp_path / "out/private/planning.0"
    claim.touch()
    patience = round(tasks._PATIENCE_SECONDS / tasks._POLL_SECONDS)

    def show_life(waits: int) -> None:
        assert not (tmp_path / "out/private/planning.1").exists()
        # Far longer than anybody has patience, and seldom: just often enough.
        if waits % (patience - 2) == 0 and waits < 5 * patience:
            os.utime(claim, ns=(waits, waits))
            beats.append(waits)

    beats: list[int] = []
    clock = Clock(show_life)
    monkeypatch.setattr(tasks, "time", clock)
    assert tasks.shared_plan(a_job(source, tmp_path / "out", task="1/2"))[0].samples == 11
    assert len(beats) >= 5 and beats[-1] + patience <= clock.waits <= beats[-1] + patience + 3


def test_parts_must_agree_and_exclude_whole_runs(tmp_path: Path, source: Path, kept_models: FaceFinder) -> None:
    out = tmp_path / "out"
    anonymize_job(a_job(source, out, task="1/9"))
    with pytest.raises(RunFolderError, match=r"min_side \(0 -> 9\)"):
        anonymize_job(a_job(source, out, task="2/9", settings=Settings(min_side=9)))
    with pytest.raises(RunFolderError, match=r"alphas \(.* -> None\)"):
        anonymize_job(a_job(source, out, task="2/9", alphas=None))
    with pytest.raises(RunFolderError, match=r"limit \(None -> 3\)"):
        anonymize_job(a_job(source, out, task="2/9", limit=3))
    with pytest.raises(SettingsError, match="--overwrite: not together with --task"):
        anonymize_job(a_job(source, out, task="2/9", overwrite=True))
    with only_run(out), pytest.raises(RunFolderError, match="works on the whole run"):
        anonymize_job(a_job(source, out, task="2/9"))
    with tasks.task_of_run(out, (2, 9)):
        with pytest.raises(RunFolderError, match="doing task 2/9"):
            anonymize_job(a_job(source, out, task="2/9"))
        with pytest.raises(RunFolderError, match="another p3mdata process"):
            merge_tasks(out)
    done = p3mdata_here("anonymize", "dir", source, out, "--task", "3/2")
    assert done.returncode == EXIT_USAGE
    assert "'task' cannot be '3/2'" in done.stderr
    # Its name until 0.3.
    done = p3mdata_here("anonymize", "dir", source, out, "--shard", "3/2")
    assert "'task' cannot be '3/2'" in done.stderr


def test_a_part_that_was_killed_is_started_again(tmp_path: Path, source: Path, whole: dict[str, bytes]) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "p3mdata", "anonymize", "dir", str(source), str(out), "--workers", "2"]
    command += ["--alphas", str(source.with_name("alphas")), "--task", "1/2"]
    part = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_until(lambda: any(out.glob("shards/*/results.jsonl")), part)
    os.killpg(part.pid, signal.SIGKILL)
    part.wait()
    (out / "images").mkdir(exist_ok=True)
    (out / "images" / ".torn.jpg.1.tmp").write_bytes(b"torn")
    for k in (2, 1):
        anonymize_job(a_job(source, out, task=f"{k}/2"))
    assert contents(out) == whole
    assert not list(out.rglob("*.tmp"))


def apart(tmp_path: Path, source: Path) -> list[Path]:
    """Runs over the two folders."""
    alphas = source.with_name("alphas")
    runs = []
    for name in ("x", "y"):
        runs.append(tmp_path / f"run-{name}")
        anonymize_job(a_job(source / name, runs[-1], alphas=alphas / name))
    return runs


def test_runs_made_apart_merge_to_one(tmp_path: Path, source: Path, kept_models: FaceFinder) -> None:
    runs = apart(tmp_path, source)
    listing = tmp_path / "list.txt"
    listing.write_text("\n".join(p.relative_to(source).as_posix() for p in sorted(source.glob("?/*.jpg"))))
    anonymize_job(a_job(source, tmp_path / "one", files=listing))
    before = {run: contents(run) for run in runs}
    summary = merge_runs(runs[::-1], tmp_path / "merged")
    assert (summary.samples, summary.released) == (9, 6)
    assert contents(tmp_path / "merged") == contents(tmp_path / "one")
    assert {run: contents(run) for run in runs} == before
    assert verify_run(tmp_path / "merged")[1] == []
    # Files over one folder, by lists.
    for number, names in enumerate((("a.jpg", "y/copy.jpg"), ("b.png", "x/c.jpg"))):
        (tmp_path / f"list{number}").write_text("\n".join(names))
        anonymize_job(a_job(source, tmp_path / f"by-list{number}", files=tmp_path / f"list{number}"))
    merge_runs([tmp_path / "by-list0", tmp_path / "by-list1"], tmp_path / "lists")
    ids = {row["source"]: row["id"] for row in read_rows(tmp_path / "lists" / LEDGER)}
    assert ids["y/copy.jpg"] == ids["x/c.jpg"] + "-2"


def test_decisions_and_take_downs_come_along(tmp_path: Path, source: Path, kept_models: FaceFinder) -> None:
    runs = apart(tmp_path, source)
    held = {row["source"]: row["id"] for run in runs for row in read_rows(run / LEDGER)}
    with reviewing(runs[0]) as session:
        drawn = matte(SIDE) > 128
        session.decide(held["sky.jpg"], Action.MASK, mask=drawn)
    remove_images(runs[0], ["c.jpg"])
    with pytest.raises(RunFolderError, match=r"is a copy of a photograph that was taken down in .*run-x"):
        merge_runs(runs, tmp_path / "merged")
    assert not (tmp_path / "merged").exists() and not list(tmp_path.glob(".merged*"))
    remove_images(runs[1], ["copy.jpg"])
    merge_runs(runs, tmp_path / "merged")
    rows = {row["source"]: row for row in read_rows(tmp_path / "merged" / LEDGER)}
    assert rows["x/sky.jpg"]["outcome"] == "masked_by_hand"
    assert rows["x/c.jpg"]["reason"] == rows["y/copy.jpg"]["reason"] == "taken_down"
    assert len(list(read_rows(tmp_path / "merged/removed.jsonl"))) == 2
    assert verify_run(tmp_path / "merged")[1] == []
    # The merged run is a run: nothing is left to do in it.
    again = contents(tmp_path / "merged")
    with reviewing(tmp_path / "merged") as session:
        assert session.item(rows["x/sky.jpg"]["id"]).decision is not None
        session.close(always=True)
    assert contents(tmp_path / "merged") == again


def test_what_cannot_be_merged_is_refused_by_name(tmp_path: Path, source: Path, kept_models: FaceFinder) -> None:
    runs = apart(tmp_path, source)
    out = tmp_path / "merged"
    other = tmp_path / "other"
    anonymize_job(a_job(source / "y", other, alphas=source.with_name("alphas") / "y", settings=Settings(min_side=9)))
    with pytest.raises(RunFolderError, match=r"min_side \(0 -> 9\)"):
        merge_runs([runs[0], other], out)
    anonymize_job(a_job(source / "y", tmp_path / "bare", alphas=None))
    with pytest.raises(RunFolderError, match="alphas"):
        merge_runs([runs[0], tmp_path / "bare"], out)
    with pytest.raises(SettingsError, match="two or more different runs"):
        merge_runs([runs[0], runs[0]], out)
    listing = tmp_path / "list"
    listing.write_text("y/f.jpg")
    anonymize_job(a_job(source, tmp_path / "twice", files=listing))
    with pytest.raises(RunFolderError, match=r"f\.jpg is in .* as well"):
        merge_runs([tmp_path / "twice", runs[1]], out)
    with pytest.raises(RunFolderError, match="exists"):
        merge_runs(runs, runs[0])
    image = next((runs[1] / "images").iterdir())
    image.write_bytes(image.read_bytes() + b"0")
    with pytest.raises(RunFolderError, match=f"{image.name}: is not the file that was released"):
        merge_runs(runs, out)
    assert not out.exists() and not list(tmp_path.glob(".merged*"))
    assert p3mdata_here("merge", *runs).returncode == EXIT_USAGE
