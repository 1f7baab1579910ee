"""Runs on a real Ray cluster of two nodes: worker, node or driver vanish, and the bytes are those of one process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from p3mdata.base.jsonl import read_rows
from p3mdata.config import Execution, Executor, Job
from p3mdata.errors import EXIT_HELD_BACK, EXIT_USAGE, SetupError
from p3mdata.faces.ensemble import FaceFinder
from p3mdata.run.executors.local import WORKERS_LOCK
from p3mdata.run.job import anonymize_job
from p3mdata.run.layout import LEDGER
from p3mdata.run.rows import count_done
from tests.gate import Gate
from tests.runs import PATIENCE, contents, p3mdata, portraits, wait_until
from tests.surroundings import first_on_path

ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'p3mdata[ray]')")
cluster_utils = pytest.importorskip("ray.cluster_utils")

# Four to a shard: three shards.
NAMES = tuple(f"{letter}.jpg" for letter in "abcdefghijk")
NODE = {"num_cpus": 1, "object_store_memory": 80 * 1024**2, "memory": 2 * 1024**3, "include_dashboard": False}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = portraits(tmp_path_factory.mktemp("ray") / "src", *NAMES, side=160)
    (folder / "z.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def undisturbed(source: Path, kept_models: FaceFinder) -> dict[str, bytes]:
    out = source.with_name("undisturbed")
    assert anonymize_job(Job(source=source, out=out, execution=Execution(workers=1))).released == len(NAMES)
    return contents(out)


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory, source: Path) -> Gate:
    return Gate(tmp_path_factory.mktemp("ray-gate") / "gate", source)


@pytest.fixture(scope="module")
def cluster(gate: Gate) -> Iterator[Any]:
    """A cluster of a head without CPUs and of nodes that tests add; its actors wait at the gate."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in gate.env.items():
            patch.setenv(name, value)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        made = cluster_utils.Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0})
        try:
            yield made
        finally:
            made.shutdown()


@pytest.fixture
def nodes(cluster: Any) -> Iterator[list[Any]]:
    added = [cluster.add_node(**NODE) for _ in range(2)]
    cluster.wait_for_nodes()
    try:
        yield added
    finally:
        for node in list(cluster.worker_nodes):
            cluster.remove_node(node)


def started(cluster: Any, source: Path, out: Path, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "p3mdata", "anonymize", "dir", str(source), str(out), "-q"]
    command += ["--executor", "ray", "--address", cluster.address]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True, **options)


def actors(out: Path) -> list[int]:
    """Processes on whichever node that have said that they write to the run."""
    lock, found = str((out / WORKERS_LOCK).resolve()), []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(os.readlink(link) == lock for link in (process / "fd").iterdir()):
                found.append(int(process.name))
    return found


def ends_well(run: subprocess.Popen[str], out: Path, expected: dict[str, bytes]) -> None:
    _, stderr = run.communicate(timeout=PATIENCE)
    assert run.returncode == EXIT_HELD_BACK, stderr
    assert contents(out) == expected
    rows = [row["source"] for row in read_rows(out / LEDGER)]
    assert sorted(rows) == sorted({*NAMES, "z.jpg"})


@pytest.mark.slow
def test_a_killed_worker_and_a_removed_node_cost_nothing(
    tmp_path: Path, source: Path, undisturbed: dict[str, bytes], cluster: Any, nodes: list[Any], gate: Gate
) -> None:
    out = tmp_path / "out"
    gate.hold("k.jpg")
    run = started(cluster, source, out)
    wait_until(lambda: gate.at("k.jpg") and count_done(out) > 0 and len(actors(out)) == 2, run)
    killed = gate.waiting("k.jpg")
    os.kill(killed, signal.SIGKILL)
    # Another one comes to the same picture.
    wait_until(lambda: gate.waiting("k.jpg") != killed, run)
    assert count_done(out) < len(list(source.iterdir()))
    cluster.remove_node(nodes[1], allow_graceful=False)
    gate.open()
    ends_well(run, out, undisturbed)


@pytest.mark.slow
def test_a_killed_driver_is_started_again(
    tmp_path: Path, source: Path, undisturbed: dict[str, bytes], cluster: Any, nodes: list[Any], gate: Gate
) -> None:
    out = tmp_path / "out"
    gate.hold("k.jpg")
    run = started(cluster, source, out)
    wait_until(lambda: gate.at("k.jpg") and count_done(out) > 1, run)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    assert count_done(out) < len(list(source.iterdir()))
    gate.open()
    ends_well(started(cluster, source, out), out, undisturbed)


# Python reads this file at start, in actors too.
DIES_OF_A_PICTURE = """
import io, os, signal
from PIL import Image
real = Image.open
def open_or_die(source, *args, **kwargs):
    if isinstance(source, io.BytesIO) and b"this picture kills" in source.getvalue():
        with open(DEATHS, "a") as deaths:
            deaths.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
    return real(source, *args, **kwargs)
Image.open = open_or_die
"""


@pytest.mark.slow
def test_a_picture_that_kills_actors_is_recorded_once(
    tmp_path: Path, source: Path, undisturbed: dict[str, bytes]
) -> None:
    deaths = tmp_path / "deaths"
    (tmp_path / "double").mkdir()
    (tmp_path / "double" / "sitecustomize.py").write_text(f"DEATHS = {str(deaths)!r}\n{DIES_OF_A_PICTURE}")
    (tmp_path / "src").mkdir()
    for name in NAMES[:2]:
        (tmp_path / "src" / name).write_bytes((source / name).read_bytes())
    (tmp_path / "src" / "aa.jpg").write_bytes(b"this picture kills whoever opens it")
    out = tmp_path / "out"
    # Without an address: a cluster that the call starts on this machine.
    mortal = {**first_on_path(tmp_path / "double"), "RAY_USAGE_STATS_ENABLED": "0"}
    done = p3mdata("anonymize", "dir", tmp_path / "src", out, "-q", "--executor", "ray", "--workers", "1", env=mortal)
    assert done.returncode == EXIT_HELD_BACK, done.stderr
    rows = {row["source"]: row for row in read_rows(out / LEDGER)}
    assert {name: row.get("reason") for name, row in rows.items() if row.get("reason")} == {"aa.jpg": "crashed_worker"}
    # Once and three times again.
    assert deaths.read_text() == "xxxx"
    released = contents(out)
    images = {name: data for name, data in released.items() if name.startswith("images/")}
    assert len(images) == 2 and all(undisturbed[name] == data for name, data in images.items())


@pytest.mark.slow
def test_without_a_cluster_there_is_one_sentence(tmp_path: Path, source: Path) -> None:
    done = p3mdata("anonymize", "dir", source, tmp_path / "out", "--executor", "ray", "--address", "127.0.0.1:1")
    assert (done.returncode, done.stdout) == (EXIT_USAGE, "")
    assert done.stderr.startswith("Error: --address 127.0.0.1:1: no Ray cluster answers (")
    assert done.stderr.count("\n") == 1


def test_without_ray_there_is_one_sentence(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    job = Job(source=source, out=tmp_path / "out", execution=Execution(executor=Executor.RAY))
    with pytest.raises(SetupError, match=r"pip install 'p3mdata\[ray\]'"):
        anonymize_job(job)
