"""The verbs on run folders: anonymize a folder, run one stage, close a run, prove it again."""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from p3mdata.base.files import GIT_IGNORE
from p3mdata.base.processes import default_workers
from p3mdata.base.progress import Progress, silent
from p3mdata.config import Job
from p3mdata.errors import Interrupted, RunFolderError, unwritable
from p3mdata.records import ImageResult, Sample
from p3mdata.run.close import RunSummary, close_run, summarize
from p3mdata.run.executors import Work
from p3mdata.run.executors.choice import executor_of
from p3mdata.run.guards import check_folders
from p3mdata.run.layout import (
    AUDITS,
    KINDS,
    MANIFEST,
    PLAN,
    PRIVATE,
    REPORT,
    REVIEW,
    SECRET,
    SHARDS,
    TOMBSTONES,
    make_private_folder,
    stages_folder,
)
from p3mdata.run.locks import only_run, writing
from p3mdata.run.plan import Plan, make_plan, read_plan
from p3mdata.run.receipts import Receipts
from p3mdata.run.rows import Rows, finished_rows, open_shards
from p3mdata.run.stages import Stage
from p3mdata.run.tasks import my_shards, shared_plan, task_of_run
from p3mdata.run.verify import FailedProof, check_files, check_images, is_intact

# The locks are held; the secret keeps the ids of what was built from the earlier run.
_KEPT = ("lock", "workers", Path(SECRET).name, GIT_IGNORE)
_SHOWN = 5
# In the order of removal. The plan goes last: while it is there, a run that was half removed is not taken for another.
_OURS = (MANIFEST, REPORT, *AUDITS, TOMBSTONES, *reversed(KINDS), SHARDS, REVIEW, PRIVATE, PLAN)


def _remove_earlier_run(out: Path) -> None:
    if not (out / PLAN).exists():
        return
    for name in _OURS:
        path = out / name
        for inner in path.iterdir() if name == PRIVATE else (path,):
            if inner.is_dir() and not inner.is_symlink():
                shutil.rmtree(inner)
            elif inner.name not in _KEPT:
                inner.unlink(missing_ok=True)


def anonymize_job(job: Job, stage: Stage = Stage.ALL, on_start: Progress | None = None) -> RunSummary:
    """Run or resume a job.

    Args:
        job: Folders, settings, execution.
        stage: Everything, or one step.
        on_start: Gets the number of images; gives a function that is called now and then to show progress.

    Raises:
        SettingsError, RunFolderError: This run cannot be made, or OUT cannot be written (any more).
        Interrupted: Stopped by Ctrl-C or SIGTERM; the same call resumes.
    """
    started = time.monotonic()
    check_folders(job)
    work = _whole_run if job.execution.task_number is None else _task_of_run
    if job.store is not None:
        from p3mdata.run.remote_job import anonymize_stored as work
    try:
        return work(job, stage, on_start or silent, started)
    except KeyboardInterrupt:
        raise Interrupted("stopped") from None
    except OSError as exc:
        raise unwritable(job.out, exc) from exc


def _whole_run(job: Job, stage: Stage, on_start: Progress, started: float) -> RunSummary:
    with only_run(job.out, begins=True):
        if job.execution.overwrite:
            _remove_earlier_run(job.out)
        plan, samples = make_plan(job)
        make_private_folder(job.out / SHARDS)
        work = Work(plan, samples, stage, range(plan.shards), on_start(plan.samples))
        executor_of(job)(work, job.execution.workers)
        if not stage.publishes:
            return RunSummary(job.out, plan.samples, {}, {}, 0, time.monotonic() - started)
        return close_run(plan, time.monotonic() - started)


def _task_of_run(job: Job, stage: Stage, on_start: Progress, started: float) -> RunSummary:
    task = job.execution.task_number
    assert task is not None
    with task_of_run(job.out, task):
        plan, samples = shared_plan(job)
        make_private_folder(job.out / SHARDS)
        mine = my_shards(plan, task)
        progress = on_start(sum(min(plan.shard_size, plan.samples - i * plan.shard_size) for i in mine))
        executor_of(job)(Work(plan, samples, stage, mine, progress), job.execution.workers)
    if not stage.publishes:
        return RunSummary(job.out, plan.samples, {}, {}, 0, time.monotonic() - started)
    summary = summarize(plan, Rows(plan, mine), time.monotonic() - started)
    if not (left := open_shards(plan)):
        _close_if_last(plan)
    return replace(summary, task=job.execution.task, shards_left=len(left))


def _close_if_last(plan: Plan) -> None:
    """Close a run whose shards are done. Of tasks that end together at least the last one gets the lock."""
    with ExitStack() as held:
        try:
            held.enter_context(only_run(plan.job.out))
        except RunFolderError:
            # Whoever has it comes here after this task.
            return
        close_run(plan, 0.0)


def merge_tasks(out: Path) -> RunSummary:
    """Close a run whose tasks are all done: what the last one does by itself where the file system lets it.

    Raises:
        RunFolderError: Not a run, in use, or shards are not done.
    """
    plan, _ = read_plan(out)
    with writing(out), only_run(out):
        if left := open_shards(plan):
            numbers = ", ".join(str(index + 1) for index in left[:_SHOWN]) + (" ..." if len(left) > _SHOWN else "")
            raise RunFolderError(
                f"{out}: {len(left)} of {plan.shards} shards are not done ({numbers}). Run their tasks again (task K "
                "of N has shards K, K + N, K + 2N and so on), or 'p3mdata anonymize dir' without --task."
            )
        return close_run(plan, 0.0)


def verify_run(
    out: Path, progress: Progress | None = None, workers: int = 1, again: bool = True
) -> tuple[int, list[FailedProof]]:
    """Prove every released image of a run.

    Args:
        out: The run folder; what was proved is noted in its private folder.
        progress: Gets the number of released images; gives a function that is called after each.
        workers: Processes; 0 chooses, 1 works in this one.
        again: Also those that this program proved before, from the files or when it made them, and that are, with their
            inputs, plan and row, as they were.

    Returns:
        Number of released images and what was found wrong, in source order.

    Raises:
        RunFolderError: Not a run, or not finished.
    """
    plan, samples = read_plan(out)
    rows = finished_rows(plan, samples)
    findings = list(check_files(plan, rows))
    number = sum(row.outcome.released for row in rows)
    step = (progress or silent)(number)
    receipts = Receipts(plan)
    given: deque[int | None] = deque()

    def to_prove() -> Iterator[tuple[Sample, ImageResult]]:
        for sample, row in zip(samples, rows, strict=True):
            if not row.outcome.released:
                continue
            receipt = receipts.of(sample, row)
            by_run = receipts.holds_of_run(receipt)
            if not again and (by_run or receipts.holds(receipt)) and is_intact(plan, sample, row, as_made=by_run):
                receipts.add([receipt])
                step()
                continue
            given.append(receipt)
            yield sample, row

    for found in check_images(plan, to_prove(), number, workers or default_workers()):
        receipt = given.popleft()
        receipts.add([] if found else [receipt])
        findings += found
        step()
    receipts.keep()
    return number, findings


def has_staged_images(out: Path) -> bool:
    """Whether the staged commands left something that waits for `verify`."""
    return stages_folder(out).is_dir()


def run_staged(out: Path, stage: Stage, on_start: Progress | None = None, workers: int = 0) -> RunSummary:
    """Run one later stage on a run folder that `p3mdata detect` began."""
    plan, _ = read_plan(out)
    job = plan.job.model_copy(update={"execution": plan.job.execution.model_copy(update={"workers": workers})})
    return anonymize_job(job, stage, on_start)
