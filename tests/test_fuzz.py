"""Broken files end in a sentence: never in another exception, a crash, or a released image. `tests.fuzz` runs more."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p3mdata.base.jsonl import read_rows
from p3mdata.base.parsing import read_yaml
from p3mdata.config import Execution, Job, Settings, resolve
from p3mdata.dataset.about import ABOUT
from p3mdata.dataset.folder import open_dataset
from p3mdata.errors import BrokenInput, P3MError, RunFolderError, SettingsError
from p3mdata.imaging import decode
from p3mdata.review import removal
from p3mdata.run import decisions
from p3mdata.run.job import anonymize_job
from p3mdata.run.layout import JOB, LEDGER, MANIFEST, PLAN, SOURCES, TOMBSTONES
from p3mdata.run.plan import read_plan
from p3mdata.run.rows import read_results
from tests import fuzz, fuzzing
from tests.factories import astronaut, encoded
from tests.fuzzing import TARGETS, Target, broken, run_files

NATIVE = [
    name for name, target in TARGETS.items() if not target.text and name not in ("training picture", "checkpoint")
]
NEED_TORCH = ("training config", "checkpoint")


@pytest.mark.slow
def test_no_decoder_crashes(tmp_path: Path) -> None:
    """In processes of their own, by the command that developers use."""
    options = [part for name in [*NATIVE, "training picture"] for part in ("--target", name)]
    command = [sys.executable, "-m", "tests.fuzz", "--cases", "150", "--keep", str(tmp_path / "found"), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert done.stdout.count("150 cases     0 findings") == len(options) // 2


@pytest.mark.parametrize("name", [name for name in TARGETS if TARGETS[name].text])
def test_what_is_broken_was_whole(name: str) -> None:
    """Else its readers would end before they come to what was broken."""
    if name in NEED_TORCH:
        pytest.importorskip("torch")
    refused = [said for said in map(TARGETS[name].check, TARGETS[name].seeds()) if said is not None]
    # One of settings is too much by itself.
    assert len(refused) == (name == "config") and all("aliases" in said for said in refused), refused


def test_checkpoints_are_broken_where_all_but_their_weights_fits() -> None:
    pytest.importorskip("torch")
    said = TARGETS["checkpoint"].check(TARGETS["checkpoint"].seeds()[0])
    assert said is not None and "does not fit smoke_resnet34" in said


@pytest.mark.parametrize("name", [name for name in TARGETS if TARGETS[name].text])
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_readers_end_in_a_sentence(name: str, draw: random.Random) -> None:
    if name in NEED_TORCH:
        pytest.importorskip("torch")
    TARGETS[name].check(broken(draw, TARGETS[name]))


def test_checkpoints_end_in_a_sentence() -> None:
    pytest.importorskip("torch")
    for number in range(40):
        assert fuzz._failure("checkpoint", fuzz.case("checkpoint", 0, number)) is None


def _jpeg_dies(data: bytes) -> None:
    if data[:1] != b"\xff":
        os.kill(os.getpid(), signal.SIGSEGV)
    if data[-1:] != b"\xd9":
        raise KeyError("a promise")


def test_what_breaks_a_promise_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = Target(lambda: [fuzzing.image_seeds()[0]], _jpeg_dies)
    monkeypatch.setitem(TARGETS, "planted", planted)
    expected = {}
    for number in range(60):
        data = fuzz.case("planted", 0, number)
        if data[:1] != b"\xff":
            expected[number] = "the process ended: -11"
        elif data[-1:] != b"\xd9":
            expected[number] = "KeyError: 'a promise'"
    assert len(set(expected.values())) == 2
    assert fuzz.run(["planted"], 60, 0, tmp_path) == len(expected)
    for number, last in expected.items():
        assert (tmp_path / f"planted-0-{number}.txt").read_text().strip().splitlines()[-1] == last
        assert (tmp_path / f"planted-0-{number}.bin").read_bytes() == fuzz.case("planted", 0, number)


@pytest.mark.usefixtures("kept_models")
def test_nothing_is_released_of_a_broken_file(tmp_path: Path) -> None:
    source, draw = tmp_path / "photos", random.Random(5)
    source.mkdir()
    forms = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}
    seeds = {suffix: encoded(astronaut(160), form) for suffix, form in forms.items()}
    for number in range(24):
        suffix = list(forms)[number % 3]
        target = Target(lambda suffix=suffix: [seeds[suffix]], fuzzing.check_decode)  # type: ignore[misc]
        (source / f"{number}.{suffix}").write_bytes(broken(draw, target))
    for suffix, data in seeds.items():
        (source / f"whole.{suffix}").write_bytes(data)
    job = Job(
        source=source, out=tmp_path / "run", settings=Settings(max_pixels=1 << 18), execution=Execution(workers=1)
    )
    anonymize_job(job)
    rows = {row["source"]: row for row in read_rows(job.out / LEDGER)}
    assert rows.keys() == {path.name for path in source.iterdir()}
    unreadable = set()
    for path in source.iterdir():
        try:
            decode(path.read_bytes(), 1 << 18)
        except BrokenInput as error:
            unreadable.add(path.name)
            assert (rows[path.name]["outcome"], rows[path.name]["reason"]) == ("broken", error.code)
            assert not rows[path.name].get("files")
    assert len(unreadable) > 6
    assert {row["outcome"] for name, row in rows.items() if name.startswith("whole")} == {"anonymized"}
    assert "internal_error" not in {row.get("reason") for row in rows.values()}
    released = {row["id"] for row in read_rows(job.out / MANIFEST)}
    assert {path.stem for path in (job.out / "images").iterdir()} == released
    assert released.isdisjoint({rows[name]["id"] for name in unreadable})


DEEP, LONG = b"[" * 100_000, b"9" * 5000
LAUGHS = b"a0: &a0 [x, x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 30)
)


@pytest.mark.parametrize(
    ("name", "data", "read", "error", "sentence"),
    [
        (PLAN, DEEP, read_plan, RunFolderError, "cannot be read"),
        (PLAN, b'{"samples": %s}' % LONG, read_plan, RunFolderError, "cannot be read"),
        (JOB, b'{"folders": {"out": 3}}', read_plan, RunFolderError, "its plan is damaged"),
        (JOB, b'{"folders": {}, "limit": null}', read_plan, RunFolderError, "'source' cannot be .*: Field required"),
        (SOURCES, b"7\n", read_plan, RunFolderError, "line 1 is damaged"),
        (SOURCES, b'{"id": "p"}\n', read_plan, RunFolderError, "sources.jsonl: is damaged"),
        (SOURCES, b"", read_plan, RunFolderError, "2 samples are planned, 0 are listed"),
        (decisions.LOG, DEEP + b"\n", read_plan, RunFolderError, "line 1 is damaged"),
        ("results.jsonl", b"{%s}\n" % DEEP, read_results, RunFolderError, "line 1 is damaged"),
        (TOMBSTONES, b'{"id": "p"}\n', removal.dataset_version, RunFolderError, "line 1 is damaged"),
        (TOMBSTONES, b'{"id": "p", "version": []}\n', removal.dataset_version, RunFolderError, "no number"),
        (ABOUT, b'{"layout": {"name": "x", "sets": {}, "a": 1}}', open_dataset, RunFolderError, "json: is damaged"),
    ],
)  # fmt: skip
def test_damaged_files_of_a_run(
    name: str, data: bytes, read: Callable[[Path], Any], error: type[P3MError], sentence: str, tmp_path: Path
) -> None:
    for other, content in {**run_files(), name: data}.items():
        path = tmp_path / other
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with pytest.raises(error, match=sentence) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500 + len(str(tmp_path))


@pytest.mark.parametrize("data", [LAUGHS, b"a: &a [*a]\n", b"method: %s\n" % (b"[" * 20 + b"]" * 20), b"- 1\n"])
def test_yaml_that_nobody_could_print(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_bytes(data)
    with pytest.raises(SettingsError) as caught:
        resolve({}, read_yaml(tmp_path / "settings.yaml"))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000
