"""How calls end: streams that nobody reads, signals at any time, and one object with --json."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from p3mdata.base import console, memory, streams
from p3mdata.base.memory import SharedMemory
from p3mdata.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_PROOF_FAILED, EXIT_USAGE
from p3mdata.faces.ensemble import FaceFinder
from tests.reviews import HeldRun
from tests.runs import PATIENCE, p3mdata, p3mdata_here, wait_until
from tests.surroundings import first_on_path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, kept_models: FaceFinder) -> HeldRun:
    return HeldRun.make(tmp_path_factory.mktemp("ends") / "run")


def piped_into_nothing(number: int) -> int:
    """The writing end of a pipe whose reader has gone away."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.slow
@pytest.mark.parametrize("dead", [("stdout",), ("stderr",), ("stdout", "stderr")])
def test_a_reader_that_goes_away_changes_neither_work_nor_code(run: HeldRun, dead: tuple[str, ...]) -> None:
    ends = {name: piped_into_nothing(1) for name in dead}
    whole = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | ends
    done = p3mdata("verify", run.out, capture_output=False, **whole)
    assert done.returncode == EXIT_OK
    stray = run.out / "notes.txt"
    stray.touch()
    done = p3mdata("verify", run.out, capture_output=False, **whole)
    stray.unlink()
    for end in ends.values():
        os.close(end)
    assert done.returncode == EXIT_PROOF_FAILED
    assert "Traceback" not in (done.stderr or "")


@pytest.mark.slow
def test_closed_streams_are_no_fault(run: HeldRun, tmp_path: Path) -> None:
    command = shlex.join([sys.executable, "-m", "p3mdata", "verify", str(run.out)]) + " <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], timeout=PATIENCE, check=False).returncode == EXIT_OK


# Python reads this file at start: the import of one module takes until it may go on.
_SLOW_IMPORT = """
import os, sys, time

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["SLOW"]:
            open(os.environ["GATE"] + ".at", "w").close()
            while not os.path.exists(os.environ["GATE"]):
                time.sleep(0.01)

sys.meta_path.insert(0, Slow())
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("module", ["typer", "numpy", "p3mdata.run.job"])
def test_signals_while_it_starts_end_it_as_later_ones(tmp_path: Path, number: int, module: str) -> None:
    """The first library of the command line, one of the arrays, and what the verb imports for itself."""
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow/sitecustomize.py").write_text(_SLOW_IMPORT)
    gate = tmp_path / "gate"
    command = [sys.executable, "-m", "p3mdata", "anonymize", "dir", str(tmp_path / "none"), str(tmp_path / "o")]
    environment = {**first_on_path(tmp_path / "slow"), "SLOW": module, "GATE": str(gate)}
    pipe = subprocess.PIPE
    started = subprocess.Popen([*command, "--json"], stdout=pipe, stderr=pipe, text=True, env=environment)
    wait_until(gate.with_name("gate.at").exists, started)
    started.send_signal(number)
    gate.touch()
    out, err = started.communicate(timeout=PATIENCE)
    assert started.returncode == EXIT_INTERRUPTED, err
    assert json.loads(out)["error"]["code"] == EXIT_INTERRUPTED
    assert err.startswith("Error: ") and err.count("\n") == 1


def test_signals_while_it_is_loaded_are_kept_until_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(streams, "_open_streams", lambda: None)
    before = {number: signal.getsignal(number) for number in streams.STOP_SIGNALS}
    # Whoever started the tests may have it ignored, as nohup does.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

    def load() -> Any:
        os.kill(os.getpid(), signal.SIGHUP)
        return lambda: pytest.fail("was begun")

    try:
        with pytest.raises(SystemExit) as ended:
            streams.start(load)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert ended.value.code == EXIT_INTERRUPTED
    assert capsys.readouterr().err == "Error: interrupted before it began. Run the same command again to resume.\n"


@pytest.mark.slow
@pytest.mark.parametrize("args", [("verify", "nowhere"), ("verify", "--nonsense"), ("no-such-verb",)])
def test_with_json_every_end_writes_one_object(args: tuple[str, ...]) -> None:
    done = p3mdata(*args, "--json")
    assert done.returncode == EXIT_USAGE
    error = json.loads(done.stdout)["error"]
    assert error["code"] == EXIT_USAGE and error["sentence"]


def test_a_result_is_told_before_the_command_ends(
    run: HeldRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who started `review --json` waits for the address, in a pipe."""
    reader, writer = os.pipe()
    with os.fdopen(reader) as answers, os.fdopen(writer, "w") as end:
        monkeypatch.setattr(console, "out", console.Output(json=True))
        monkeypatch.setattr(sys, "stdout", end)
        console.result({"address": "here"})
        os.set_blocking(reader, False)
        assert json.loads(answers.readline()) == {"address": "here"}


def test_a_sample_and_an_audit_are_one_object(run: HeldRun, monkeypatch: pytest.MonkeyPatch) -> None:
    def attack(*args: Any, **options: Any) -> SimpleNamespace:
        return SimpleNamespace(passed=True, to_json=lambda: {"photos": 8})

    monkeypatch.setattr("p3mdata.audit.attackers.attack_run", attack)
    monkeypatch.setattr("p3mdata.audit.reidentify.audit_run", attack)
    for more in ([], ["--attackers"]):
        done = p3mdata_here("audit", run.out, "--sample", "1", "--identities", "prefix", "--json", *more)
        assert (done.returncode, json.loads(done.stdout)) == (0, {"photos": 8, "sample": 1})
    assert json.loads(p3mdata_here("audit", run.out, "--sample", "1", "--json").stdout) == {"sample": 1}


# Memory


def test_large_pictures_share_what_is_spare(tmp_path: Path) -> None:
    unit = memory._UNIT
    shared = SharedMemory(tmp_path)
    shared.plan(3 * unit)
    with shared.holding(2 * unit):
        # Locks are a process' own: another process finds out what is left.
        assert left_for_another(tmp_path, unit) and not left_for_another(tmp_path, 2 * unit)
        # More than there ever is waits until nobody holds a picture at all.
        assert not left_for_another(tmp_path, 4 * unit)
    assert left_for_another(tmp_path, 3 * unit) and left_for_another(tmp_path, 4 * unit)


def left_for_another(folder: Path, extra: int) -> bool:
    """Whether another process gets so much without waiting."""
    child = os.fork()
    if child == 0:
        try:
            flock = memory.system.flock
            memory.system.flock = lambda descriptor, kind: flock(descriptor, kind | memory.system.LOCK_NB)
            memory.time.sleep = lambda seconds: os._exit(1)
            with SharedMemory(folder).holding(extra):
                os._exit(0)
        except BlockingIOError:
            os._exit(1)
        finally:
            os._exit(2)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 1)
    return code == 0


def test_groups_limit_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    monkeypatch.setattr(memory.system, "free_memory", lambda: 10**10)
    monkeypatch.setattr(memory.system, "all_memory", lambda: 2 * 10**10)
    mine = tmp_path / "job"
    mine.mkdir()
    real = Path.read_text
    monkeypatch.setattr(
        Path,
        "read_text",
        lambda self, *a, **k: "0::/job\n" if str(self) == "/proc/self/cgroup" else real(self, *a, **k),
    )
    for name, text in {"memory.max": "max", "memory.current": "10", "memory.stat": "inactive_file 4\n"}.items():
        (mine / name).write_text(text)
    assert (memory.free_memory(), memory.all_memory()) == (10**10, 2 * 10**10)
    (mine / "memory.max").write_text("1000")
    assert (memory.free_memory(), memory.all_memory()) == (1000 - 6, 1000)
    # A limit of a group above counts too.
    for name, text in {"memory.max": "500", "memory.current": "10", "memory.stat": ""}.items():
        (tmp_path / name).write_text(text)
    assert (memory.free_memory(), memory.all_memory()) == (490, 500)


def test_a_picture_that_never_fits_is_held_back(run: HeldRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    copied = run.copy(tmp_path / "copy")
    copied.out = tmp_path / "small"
    with monkeypatch.context() as small:
        small.setattr("p3mdata.run.room.all_memory", lambda: 10**6)
        assert copied.anonymize().reasons == {"out_of_memory": 4}
    # A larger machine goes on.
    assert copied.anonymize().released >= 2
