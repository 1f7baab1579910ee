"""One shard: what counts as done, what is tried again, and what a failure in the middle leaves behind."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from p3mdata.base.files import lock
from p3mdata.base.jsonl import append_row, dumps, read_json, read_rows, write_rows
from p3mdata.base.system import LOCK_EX
from p3mdata.config import Job
from p3mdata.errors import Interrupted, RunFolderError
from p3mdata.faces.ensemble import FaceFinder
from p3mdata.records import Action, Decision, ImageResult, Sample
from p3mdata.run import ahead, shards, stages
from p3mdata.run.layout import shard_folder
from p3mdata.run.plan import make_plan
from p3mdata.run.rows import read_results
from p3mdata.run.shards import process, run_shard, withdraw
from p3mdata.run.stages import Stage, run_stage
from tests.runs import portraits

SIDE = 160


@pytest.fixture
def job(tmp_path: Path) -> Job:
    folder = portraits(tmp_path / "src", "a.jpg", "b.jpg", side=SIDE)
    (folder / "c.jpg").write_bytes(b"no picture")
    return Job(source=folder, out=tmp_path / "out")


@pytest.fixture
def samples(job: Job) -> list[Sample]:
    return sorted(make_plan(job)[1], key=lambda sample: sample.source)


def run(
    job: Job,
    samples: list[Sample],
    models: FaceFinder,
    stage: Stage = Stage.ALL,
    go_on: Callable[[Sample], bool] = lambda sample: True,
    crashing: tuple[str, ...] = (),
) -> dict[str, ImageResult]:
    run_shard(job, 0, samples, lambda: models, stage, go_on, crashing)
    return {row.source: row for row in read_results(shard_folder(job.out, 0))}


def no_models() -> FaceFinder:
    raise AssertionError("the models are not needed here")


def test_a_shard_is_done_once(job: Job, samples: list[Sample], models: FaceFinder) -> None:
    rows = run(job, samples, models)
    assert [row.outcome.value for row in rows.values()] == ["anonymized", "anonymized", "broken"]
    folder = shard_folder(job.out, 0)
    assert (folder / "DONE").exists()
    stats = read_json(folder / "stats.json")
    assert sum(stats["outcomes"].values()) == stats["samples"] == 3
    run_shard(job, 0, samples, no_models, Stage.ALL, lambda sample: pytest.fail("nothing is left to do"))


def test_stopped_between_images_it_keeps_what_is_finished(job: Job, samples: list[Sample], models: FaceFinder) -> None:
    begun: list[str] = []

    def one_only(sample: Sample) -> bool:
        begun.append(sample.source)
        return len(begun) < 2

    with pytest.raises(Interrupted):
        run(job, samples, models, go_on=one_only)
    folder = shard_folder(job.out, 0)
    assert [row.source for row in read_results(folder)] == ["a.jpg"]
    assert not (folder / "DONE").exists()
    begun.clear()
    rows = run(job, samples, models, go_on=lambda sample: begun.append(sample.source) or True)
    assert begun == ["b.jpg", "c.jpg"]
    assert list(rows) == ["a.jpg", "b.jpg", "c.jpg"]


@pytest.mark.parametrize(
    ("fault", "reason", "retried"),
    [
        (MemoryError(), "out_of_memory", True),
        (ZeroDivisionError("oops"), "internal_error", True),
        (OSError(errno.EIO, "from a library"), "internal_error", True),
    ],
)
def test_a_fault_of_one_image_stays_with_it(
    job: Job,
    samples: list[Sample],
    models: FaceFinder,
    monkeypatch: pytest.MonkeyPatch,
    fault: Exception,
    reason: str,
    retried: bool,
) -> None:
    def faulty(sample: Sample, *args: Any, **kwargs: Any) -> Any:
        if sample.source == "a.jpg":
            raise fault
        return real(sample, *args, **kwargs)

    real = shards.anonymize
    with monkeypatch.context() as context:
        context.setattr(shards, "anonymize", faulty)
        rows = run(job, samples, models)
    assert (rows["a.jpg"].reason, rows["b.jpg"].reason) == (reason, None)
    assert (run(job, samples, models)["a.jpg"].reason is None) == retried


def test_a_picture_that_crashes_is_not_opened_in_this_run_but_in_the_next(
    job: Job, samples: list[Sample], models: FaceFinder
) -> None:
    first = run(job, samples, models)["a.jpg"]
    (job.out / "images" / first.files["images"][0]).unlink()
    rows = run(job, samples, models, crashing=(first.id,))
    assert rows["a.jpg"].reason == "crashed_worker"
    assert not list((job.out / "facemasks").glob(f"{first.id}*"))
    assert run(job, samples, models)["a.jpg"] == first


def test_a_place_that_takes_no_more_stops_the_shard_and_leaves_no_part_of_the_image(
    job: Job, samples: list[Sample], models: FaceFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(temporary: Path, path: Path) -> None:
        if path.parent.name == "images":
            raise OSError(errno.ENOSPC, "No space left on device")
        real(temporary, path)

    real = os.replace
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            run(job, samples, models)
    assert not [path for kind in shards.KINDS for path in (job.out / kind).glob("*")]
    assert not read_results(shard_folder(job.out, 0))


def test_withdrawing_keeps_only_what_is_named(tmp_path: Path) -> None:
    for kind in shards.KINDS:
        for name in ("one.jpg", "one.png", "one-2.jpg", "two.jpg"):
            (tmp_path / kind).mkdir(exist_ok=True)
            (tmp_path / kind / name).touch()
    withdraw(Sample(0, "one", "one.jpg", ""), tmp_path, keep={"images": "one.jpg", "facemasks": "one.png"})
    left = {kind: sorted(path.name for path in (tmp_path / kind).iterdir()) for kind in shards.KINDS}
    assert left == {
        "images": ["one-2.jpg", "one.jpg", "two.jpg"],
        "facemasks": ["one-2.jpg", "one.png", "two.jpg"],
        "alphas": ["one-2.jpg", "two.jpg"],
    }


def test_rows_that_were_damaged_are_one_sentence(job: Job, samples: list[Sample], models: FaceFinder) -> None:
    run(job, samples, models)
    results = shard_folder(job.out, 0) / "results.jsonl"
    whole = results.read_bytes()
    for damage in (b"{}\n" + whole, b'{"outcome": "wish"}\n', b"[1]\n", b"torn {\n" + whole):
        results.write_bytes(damage)
        with pytest.raises(RunFolderError, match="damaged"):
            run(job, samples, models)


def test_stages_leave_faults_to_the_stage_that_publishes(
    job: Job, samples: list[Sample], models: FaceFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(loaded: Any, finder: FaceFinder) -> Any:
        raise ZeroDivisionError

    with monkeypatch.context() as context:
        context.setattr(stages, "detect", faulty)
        run_stage(samples[0], job, lambda: models, Stage.DETECT)
    run_stage(samples[1], job, lambda: models, Stage.DETECT, crashing=True)
    run_stage(samples[2], job, no_models, Stage.DETECT)
    for stage in (Stage.MASK, Stage.OBFUSCATE):
        for sample in samples:
            run_stage(sample, job, no_models, stage)
    outcomes = [process(sample, job, lambda: models, Stage.VERIFY, lambda stage: None) for sample in samples]
    assert [row.outcome.value for row in outcomes] == ["anonymized", "anonymized", "broken"]
    # A second `detect` tries them again.
    run_stage(samples[0], job, lambda: models, Stage.DETECT)
    assert len(list((job.out / "private" / "stages").glob(f"{samples[0].id}.*.detect.json"))) == 1


def test_products_of_stages_are_private(job: Job, samples: list[Sample], models: FaceFinder) -> None:
    for stage in (Stage.DETECT, Stage.MASK, Stage.OBFUSCATE):
        run(job, samples, models, stage)
    products = list((job.out / "private" / "stages").iterdir())
    assert len(products) == 7
    assert {path.stat().st_mode & 0o777 for path in products} == {0o600}


def test_a_row_is_appended_whole_or_not_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"n": n, "text": "ü\n\udcff" * n} for n in range(3)]
    for row in rows:
        append_row(path, row)
    assert list(read_rows(path)) == rows
    path.write_bytes(path.read_bytes()[:-2])
    assert list(read_rows(path, torn_tail=True)) == rows[:-1]
    with pytest.raises(RunFolderError, match="line 3 is damaged"):
        list(read_rows(path))


def test_a_row_is_appended_behind_what_a_crash_left(tmp_path: Path) -> None:
    path, rows = tmp_path / "rows.jsonl", [{"text": "x" * 70_000}, {"n": 1}]
    write_rows(path, rows)
    whole = path.read_bytes()
    # Torn anywhere, as zeros where a file grew before its content came, and whole but for its end.
    for left in (b"{", b'{"text":"' + b"y" * 150_000, b"\0" * 9, b'{"n":"\xff'):
        path.write_bytes(whole + left)
        append_row(path, {"n": 2})
        assert list(read_rows(path)) == [*rows, {"n": 2}]
    path.write_bytes(whole[:-1])
    append_row(path, {"n": 2})
    assert list(read_rows(path)) == [*rows, {"n": 2}]
    path.write_bytes(b'{"n"')
    append_row(path, {"n": 2})
    assert path.read_bytes() == b'{"n":2}\n'


def test_a_row_that_another_process_is_writing_is_waited_for(tmp_path: Path) -> None:
    path, row = tmp_path / "rows.jsonl", {"trace": "x" * 20_000}
    written = (dumps(row) + "\n").encode()
    with path.open("ab", buffering=0) as other:
        lock(other.fileno(), LOCK_EX)
        other.write(written[:8192])
        beside = threading.Thread(target=append_row, args=(path, {"n": 1}))
        beside.start()
        # It waits as long as the other one takes.
        beside.join(0.1)
        other.write(written[8192:])
    beside.join()
    assert list(read_rows(path)) == [row, {"n": 1}]


def test_the_next_image_is_read_while_one_is_worked_on(
    job: Job, samples: list[Sample], models: FaceFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = {sample.source: threading.Event() for sample in samples}
    read, work = ahead.read_inputs, shards.anonymize
    together = []

    def noted(sample: Sample, job: Job) -> Any:
        begun[sample.source].set()
        return read(sample, job)

    def at_work(sample: Sample, *rest: Any, **more: Any) -> Any:
        following = samples[samples.index(sample) + 1 :][:1]
        together.extend(begun[other.source].wait(60) for other in following)
        return work(sample, *rest, **more)

    monkeypatch.setattr(ahead, "read_inputs", noted)
    monkeypatch.setattr(shards, "anonymize", at_work)
    rows = run(job, samples, models)
    assert together == [True, True]
    assert [row.outcome.value for row in rows.values()] == ["anonymized", "anonymized", "broken"]


def test_what_is_not_to_be_opened_is_not_read_ahead(
    job: Job, samples: list[Sample], models: FaceFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that made workers die, one that a person left out, and one too large to lie in memory unplanned."""
    opened: list[str] = []
    read = ahead.read_inputs
    monkeypatch.setattr(ahead, "read_inputs", lambda sample, job: opened.append(sample.source) or read(sample, job))
    left_out = replace(samples[1], decision=Decision(Action.EXCLUDE))
    rows = run(job, [samples[0], left_out, samples[2]], models, crashing=(samples[2].id,))
    assert opened == ["a.jpg"]
    assert [row.reason for row in rows.values()] == [None, "excluded_by_person", "crashed_worker"]
    monkeypatch.setattr(ahead, "_MOST_BYTES", 100)
    with ahead.ReadAhead(job) as reader:
        opened.clear()
        reader.begin(samples[0])
        reader._pool.submit(lambda: None).result()
        assert opened == []
        assert reader(samples[0]).photo == (job.source / "a.jpg").read_bytes() and opened == ["a.jpg"]
