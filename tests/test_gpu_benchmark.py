"""The script that measures on a GPU, in its small form on a CPU: parts end apart, and what they found is kept."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from benchmarks import gpu, gpu_parts, gpu_place  # noqa: E402
from benchmarks.gpu_place import REAL, SMALL, Place  # noqa: E402
from benchmarks.gpu_targets import table, targets  # noqa: E402
from tests.simulated_gpu import NAME, simulated_gpus  # noqa: E402
from tests.test_train import narrow_networks  # noqa: E402


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
    assert parts["end"][0]["steps"] == 32 and "bottleneck" in parts["end"][0]
    # By the rows of its log, and by its own clock.
    assert parts["end"][0]["images/s"] > 0 and parts["end"][0]["steady_images_per_second"] > 0
    assert [row["same bits"] for row in parts["determinism"]] == [True, True]
    tables = (tmp_path / "gpu.md").read_text()
    # What the machine is, is a part too.
    assert tables.startswith("## On a GPU\n\n`python -m benchmarks.gpu --out DIR`.\n\n### end (")
    assert "| smoke_resnet34 | True | True |" in tables


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


def test_a_part_that_is_stopped_has_told_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python, kept = tmp_path / "python", [{"network": "first", "ms": 1}]
    (tmp_path / "now").write_text(json.dumps(kept))
    python.write_text(f"#!/bin/sh\nmv {tmp_path}/now {tmp_path}/steps.json\nexec sleep 600\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(gpu, "_LOOK", 0.02)
    seen: list[gpu.Row] = []

    def told(row: gpu.Row) -> None:
        seen.append(row)
        if len(seen) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gpu.run_apart("steps", tmp_path, 300, [], told)
    assert [(row["failed"], row["rows"]) for row in seen] == [("not at its end", kept), ("stopped", kept)]


def test_a_row_that_cannot_be_measured_is_told() -> None:
    def broken() -> gpu.Row:
        raise RuntimeError("no compiler\nmore")

    assert gpu_place.tried({"a": 1}, broken) == {"a": 1, "failed": "no compiler"}
    about = {"network": "p3mnet_resnet34", "batch": 8, "compiled": False}
    assert gpu_place.tried(about, lambda: {"images/s": 130})["expected"] == "110-145"

    def lost() -> gpu.Row:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    with pytest.raises(torch.AcceleratorError):
        gpu_place.tried({"a": 1}, lost)


def test_parts_end_with_the_time_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []

    def apart(part: str, out: Path, limit: float, arguments: Any, seen: Any) -> gpu.Row:
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
    assert gpu.LIMITS.keys() == gpu.PARTS.keys() and gpu.TOTAL == 480
    # The last has what is left, and an earlier state is measured where there is one.
    *parts, last = gpu.PARTS
    assert last == "compiled" and sum(gpu.LIMITS[part] for part in parts if part != "old") < gpu.TOTAL


# Seconds of what an H100 was measured with (version 0.3, RESULTS): images/s of bare steps and of the loop, milliseconds
# of a pass; the start of a program with its first kernels, and of a run with its loaders and its end.
_BARE = {("p3mnet_resnet34", 8): 142, ("p3mnet_resnet34", 32): 195, ("p3mnet_swin_t", 8): 60,
         ("p3mnet_swin_t", 32): 82, ("p3mnet_vitae_s", 8): 60, ("p3mnet_vitae_s", 32): 79}  # fmt: skip
_LOOP = {"batch 32": (32, 146), "swin_t, batch 32": (32, 70), "vitae_s, batch 32": (32, 68)}
_PASS = {"p3mnet_resnet34": 8.4, "p3mnet_swin_t": 12.6, "p3mnet_vitae_s": 18.6, "gfm_resnet34": 5.8, "modnet": 8}
_START, _RUN = 10, 14


def test_real_sizes_fit_into_their_limits_at_the_speed_of_version_0_3() -> None:
    """The eight minutes on a GPU, counted beforehand: no part may need its limit at speeds that were measured."""
    trained = {name: _RUN + steps * _LOOP[name][0] / _LOOP[name][1] for name, steps in REAL.runs}
    count = max(steps for _, steps in REAL.runs)
    seconds = {
        "machine": _START,
        "correctness": _START + 3 * 4,
        "steps": _START + sum(2 + (REAL.warm + REAL.steps) * size / rate for (_, size), rate in _BARE.items()),
        "end": sum(trained.values()),
        "old": 2 * _RUN + count * 8 / 64 + (REAL.warm + REAL.steps) * 32 / 195,
        "inference": _START
        + sum(2 + 1.5 * REAL.trials * _PASS[name] / 1000 for name in REAL.compared)
        + sum(number * long * long * 9 / 16 / 4e7 for long, number in REAL.folders),
        "memory": 20,
        "determinism": _START + sum(2 * 4 * (0.2 if name in REAL.networks else 0.15) + 2 for name in REAL.repeated),
        # What it does before and after its budget: data, speeds, starts of trainings.
        "traincheck": 1.2 * REAL.budget + 35,
    }
    assert all(needed < 0.95 * gpu.LIMITS[part] for part, needed in seconds.items()), seconds
    # Two programs are compiled, a minute and a half each at most.
    assert gpu.TOTAL - sum(seconds.values()) - 10 > 100, seconds
    assert all(seconds < REAL.patience for seconds in trained.values()), trained


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A simulated GPU, and the real course of things with the smallest of sizes."""
    sizes = replace(
        SMALL, networks=("narrow",), batches=(2,), side=32, warm=0, steps=1, trials=1, compared=("narrow",),
        folders=(),
    )  # fmt: skip
    with narrow_networks(), simulated_gpus():
        yield Place(torch.device("cuda", 0), sizes, tmp_path)


def test_parts_on_a_simulated_gpu(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_parts, "VARIANTS", ())
    # The same steps twice: tests/test_gpu_rules.py.
    found = {part: list(gpu.PARTS[part](place)) for part in ("machine", "correctness", "steps", "inference")}
    assert not [row for rows in found.values() for row in rows if "failed" in row], found
    assert found["machine"][0]["device"] == NAME and found["machine"][0]["GPUs"] == 2
    assert found["correctness"][0]["ms"] > 0 < found["correctness"][0]["PyTorch's, ms"]
    assert [(row["batch"], row["GiB"]) for row in found["steps"]] == [(2, 0.0)]
    assert [row["recorded"] for row in found["inference"]] == [False, True]


def test_runs_of_training_are_timed_by_their_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, now = tmp_path / "log.csv", iter([5.0, 6.0, 8.0, 20.0])
    monkeypatch.setattr(gpu_place, "time", SimpleNamespace(monotonic=lambda: next(now)))
    watch = gpu_place.Stopwatch(log)
    watch.look()
    for rows in (3, 12, 15, 15, 40):
        log.write_text("step\n" + "1\n" * rows)
        watch.look()
        # The first steps warm up, and few tell nothing.
        assert watch.rate(8) == (None if rows < 40 else 8 * 28 / 14)


def test_runs_of_training_that_do_not_come_to_their_end(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    monkeypatch.setattr(sys, "executable", str(python))
    python.write_text("#!/bin/sh\nexec sleep 600\n")
    python.chmod(0o755)
    assert gpu_place.trained(place, "late", {}, patience=0.1) == {
        "run": "late", "images/s": None, "failed": "took too long",
    }  # fmt: skip
    python.write_text("#!/bin/sh\necho 'Memory does not hold a batch of 8, but one of 4' >&2\nexit 2\n")
    assert gpu_place.trained(place, "fails", {})["failed"].startswith("Memory does not hold a batch of 8")
    # What fails in this part is what is looked for.
    (row,) = gpu.PARTS["memory"](place)
    assert "failed" not in row and row["sentence"].startswith("Memory does not hold a batch")
    python.write_text("#!/bin/sh\nexit 2\n")
    (row,) = gpu.PARTS["memory"](place)
    assert row["failed"] == "it was not told"


def rows_of(**figures: float) -> list[dict[str, Any]]:
    """Parts as a GPU might fill them."""

    def loop(name: str, rate: float) -> dict[str, Any]:
        return {"run": name, "images/s": rate}

    names = ("p3mnet_resnet34", "p3mnet_swin_t", "p3mnet_vitae_s")
    parts = {
        "correctness": [
            {"precision": "float32", "global": 3e-7, "local": figures["local"], "repeatable": True},
            {"precision": "tf32", "global": 1e-2, "local": 1e-2, "repeatable": False},
            {"network": "unpooling", "ms": 0.8, "PyTorch's, ms": 0.4},
        ],
        "steps": [
            {"network": name, "batch": 32, "compiled": False, "images/s": 110 * share}
            for name, share in zip(names, (2, 1, 1), strict=True)
        ],
        "end": [loop("batch 32", figures["loop"]), loop("swin_t, batch 32", 105), loop("vitae_s, batch 32", 90)],
        "old": [loop("earlier, its recipe", 60), loop("earlier, bare steps of batch 32", 190)],
        "compiled": [{"network": names[0], "batch": 32, "compiled": True, "images/s": 260}],
        "inference": [
            {"network": name, "size": "512x512", "recorded": recorded, "ms": 4 if recorded else 9}
            for name in names
            for recorded in (False, True)
        ],
        "memory": [{"seconds": 12.0}],
        "determinism": [
            {"network": names[0], "deterministic": wanted, "same bits": wanted, "s per step": 0.2 + 0.1 * wanted}
            for wanted in (False, True)
        ],
        "traincheck": [{"seconds": 60, "budget": 25, "steps in 10 minutes": 700}],
    }  # fmt: skip
    return [{"part": part, "seconds": 1.0, "failed": None, "rows": rows} for part, rows in parts.items()]


def test_what_was_asked_for_is_held_against_what_was_found() -> None:
    parts = rows_of(loop=210, local=1e-6)
    found = {target.what: (target.found, target.met) for target in targets(parts, "NVIDIA H100 80GB HBM3")}
    assert found["ResNet-34, batch 32, against 0.3's loop and recipe"] == (3.5, True)
    assert found["ResNet-34, batch 32, images/s"] == (210, True)
    assert found["an epoch of 9,421, s"] == (pytest.approx(44.86, abs=0.01), True)
    assert found["p3mnet_resnet34: its loop takes, of bare steps"] == (pytest.approx(220 / 210), True)
    assert found["p3mnet_vitae_s: its loop takes, of bare steps"] == (pytest.approx(110 / 90), False)
    assert found["bare steps against 0.3's eager ones"] == (pytest.approx(260 / 190), True)
    assert found["float32 against the golden outputs, largest difference"] == (1e-6, True)
    assert found["networks whose pass gives the same bits twice"] == (1, True)
    assert found["unpooling in order, of PyTorch's time"] == (2, True)
    assert found["price of deterministic, of a step"] == (pytest.approx(1.5), None)
    assert found["p3mnet_swin_t: inference at batch 1, recorded against plain"] == (2.25, True)
    assert found["a batch that is too large is told, s"] == (12, True)
    assert found["train-check, start and end included, beyond its budget, s"] == (35, False)
    # Seconds are asked of an H100; figures that were not found are neither met nor missed.
    other = {target.what: target for target in targets(parts[:3], "NVIDIA L4")}
    assert other["ResNet-34, batch 32, images/s"].met is None and other["an epoch of 9,421, s"].found is not None
    assert other["ResNet-34, batch 32, against 0.3's loop and recipe"].found is None
    h100 = {target.what: target for target in targets(parts[:3], "NVIDIA H100 80GB HBM3")}
    assert h100["ResNet-34, batch 32, against 0.3's loop and recipe"].found == pytest.approx(210 / 64)
    slow = {target.what: target.met for target in targets(rows_of(loop=150, local=1e-3), "NVIDIA H100 PCIe")}
    for what in ("ResNet-34, batch 32, images/s", "float32 against the golden outputs, largest difference"):
        assert slow[what] is False
    assert "| ResNet-34, batch 32, images/s | >= 205 (H100) | 210 | yes |  |" in list(
        table(targets(parts, "NVIDIA H100 80GB HBM3"))
    )


def test_what_is_stopped_in_the_middle_has_written_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def apart(part: str, out: Path, limit: float, arguments: Any, seen: Callable[[Any], None]) -> gpu.Row:
        rows = [{"network": part, "images/s": 7}]
        if part == "end":
            seen({"part": part, "seconds": 3.0, "failed": "stopped", "rows": rows})
            gpu._stop()
        return {"part": part, "seconds": 2.0, "failed": None, "rows": rows}

    monkeypatch.setattr(gpu, "run_apart", apart)
    monkeypatch.setattr(gpu, "write_data", lambda *given: None)
    monkeypatch.setattr("signal.signal", lambda *given: None)
    with pytest.raises(SystemExit) as ended:
        gpu.main(["--out", str(tmp_path), "--small", "--device", "cpu"])
    assert ended.value.code == 130 and "what was found is in" in capsys.readouterr().err
    parts = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert [part["part"] for part in parts] == ["machine", "correctness", "steps", "end"]
    assert parts[-1]["rows"] == [{"network": "end", "images/s": 7}]
    tables = (tmp_path / "gpu.md").read_text()
    assert tables.startswith("## On a GPU\n\n`python -m benchmarks.gpu --out DIR`: network machine, images/s 7.\n")
    assert "| end | 7 |" in tables


def test_without_a_gpu_it_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with simulated_gpus(0), pytest.raises(SystemExit) as ended:
        gpu.main(["--out", str(tmp_path)])
    assert ended.value.code == 2
    assert "There is no GPU that PyTorch can use here (" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        gpu.main(["--out", str(tmp_path), "--small", "--device", "cpu", "--old", str(tmp_path / "nothing")])
    assert ended.value.code == 2 and "is no checkout" in capsys.readouterr().err
