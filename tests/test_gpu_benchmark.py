"""The script that measures on a GPU, in its small form on a CPU: parts end apart, and what they found is kept."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from benchmarks import gpu  # noqa: E402


def run(out: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", str(out), "--small", "--device", "cpu", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    return done.returncode, json.loads((out / "gpu.json").read_text()), done.stderr


@pytest.mark.slow
def test_parts_in_their_small_form(tmp_path: Path) -> None:
    code, found, said = run(tmp_path, "--part", "end", "--part", "determinism", "--limit", "240")
    assert code == 0, (found, said)
    parts = {part["part"]: part["rows"] for part in found["parts"]}
    assert parts["end"][0]["steps"] == 2 and "bottleneck" in parts["end"][0]
    assert [row["same bits"] for row in parts["determinism"]] == [True, True]
    tables = (tmp_path / "gpu.md").read_text()
    assert tables.startswith("## On a GPU\n\n`python -m benchmarks.gpu --out DIR`: device cpu, torch ")
    assert "\n### end (" in tables and "| smoke_resnet34 | True | True |" in tables


@pytest.mark.slow
def test_a_part_that_takes_too_long_does_not_eat_the_others(tmp_path: Path) -> None:
    code, found, _ = run(tmp_path, "--part", "determinism", "--part", "memory", "--limit", "0.5")
    assert code == 1
    assert [part["failed"] for part in found["parts"]] == ["took longer than its limit of 0.5 s"] * 2


def test_what_a_part_measured_before_its_limit_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def steps(*_: object) -> Iterator[gpu.Row]:
        yield {"network": "first", "images/s": 1}
        raise RuntimeError("the device is gone")

    monkeypatch.setitem(gpu.PARTS, "steps", steps)
    with pytest.raises(RuntimeError):
        gpu.main(["--out", str(tmp_path), "--small", "--device", "cpu", "--alone", "steps"])
    assert json.loads((tmp_path / "steps.json").read_text()) == [{"network": "first", "images/s": 1}]


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended by SIGSEGV"),
        ("raise RuntimeError('CUDA error: device-side assert')", "RuntimeError: CUDA error: device-side assert"),
        # Holds on to what its child holds on to, and leaves it behind.
        ("import subprocess; subprocess.Popen(['sleep', '600'])", None),
    ],
)  # fmt: skip
def test_a_part_that_dies_takes_nothing_with_it(
    how: str, reason: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    kept = '[{"network": "first", "ms": 1}]'
    program = f"import sys; open({str(tmp_path / 'steps.json')!r}, 'w').write({kept!r}); {how}"
    python.write_text(f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(program)}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    found = gpu.run_apart("steps", tmp_path, 300, [])
    assert found["rows"] == json.loads(kept)
    assert found["failed"] is None if reason is None else found["failed"].startswith(reason), found


def test_a_row_that_cannot_be_measured_is_told() -> None:
    def broken() -> gpu.Row:
        raise RuntimeError("no compiler\nmore")

    assert gpu._tried({"a": 1}, broken) == {"a": 1, "failed": "no compiler"}
    about = {"network": "p3mnet_resnet34", "batch": 8, "compiled": False}
    assert gpu._tried(about, lambda: {"images/s": 160})["expected"] == "150-175"

    def lost() -> gpu.Row:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    with pytest.raises(torch.AcceleratorError):
        gpu._tried({"a": 1}, lost)


def test_parts_end_with_the_time_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []

    def apart(part: str, out: Path, limit: float, arguments: Any) -> gpu.Row:
        limits.append(limit)
        return {"part": part, "seconds": limit, "failed": None, "rows": []}

    monkeypatch.setattr(gpu, "run_apart", apart)
    monkeypatch.setattr(gpu, "write_data", lambda *given: None)
    now = iter([0.0, 0.0, 60.0, 97.0])
    monkeypatch.setattr(gpu, "time", SimpleNamespace(monotonic=lambda: next(now)))
    given = ["--part", "correctness", "--part", "steps", "--part", "memory", "--total", "100"]
    with pytest.raises(SystemExit) as ended:
        gpu.main(["--out", str(tmp_path), "--small", "--device", "cpu", *given])
    assert ended.value.code == 1 and limits == [100, 40]
    parts = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert [part["failed"] for part in parts] == [None, None, "100 s were over"]


def test_tables_hold_rows_of_different_columns() -> None:
    parts = [
        {"part": "steps", "seconds": 2.0, "failed": None, "rows": [{"a": 1.23456, "b": None}, {"c": [1]}]},
        {"part": "end", "seconds": 3.0, "failed": "ended with 1", "rows": []},
    ]
    told = gpu.markdown({"device": "X"}, parts)
    assert "| a | b | c |" in told and "| 1.23 | None |  |" in told and "|  |  | [1] |" in told
    assert "Failed: ended with 1" in told


def test_all_parts_together_stay_within_eight_minutes() -> None:
    assert gpu.LIMITS.keys() == gpu.PARTS.keys() and sum(gpu.LIMITS.values()) < gpu.TOTAL == 480
