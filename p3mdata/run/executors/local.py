"""Shards on this machine: in this process for one worker, else in processes that are replaced when they die."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from p3mdata.base.files import locked
from p3mdata.base.pool import Handler, Mark, work_in_pool
from p3mdata.base.processes import StopOnSignal, default_workers
from p3mdata.base.system import LOCK_EX, LOCK_SH
from p3mdata.config import Job
from p3mdata.errors import Interrupted
from p3mdata.faces.models import Models
from p3mdata.records import Sample
from p3mdata.run.executors import Work
from p3mdata.run.layout import WORKERS_LOCK
from p3mdata.run.room import plan_memory
from p3mdata.run.stages import Stage
from p3mdata.run.upload import bring_shard

# Number and members of a shard.
Task = tuple[int, Sequence[Sample]]


def run(work: Work, workers: int) -> None:
    """Run shards of a plan.

    Args:
        work: The shards and what to do with them.
        workers: Processes; 0 chooses, 1 works in this process, which a picture that crashes a library takes with it.

    Raises:
        Interrupted: Stopped by Ctrl-C or SIGTERM; the run can be resumed.
        SetupError: Workers die before they begin an image.
        OSError: The run folder cannot be written.
    """
    with StopOnSignal() as stop:
        if workers == 1:
            _run_here(work, stop)
        else:
            size = min(workers or default_workers(), len(work.shards))
            plan_memory(work.plan.job.out, size)
            _run_pool(work, size, stop)
    work.progress()


def _run_here(work: Work, stop: StopOnSignal) -> None:
    def go_on(sample: Sample) -> bool:
        work.progress()
        return not stop.seen

    models = Models()
    try:
        for index in work.shards:
            bring_shard(work.plan.job, index, work.members(index), models, work.stage, go_on)
    finally:
        models.close()


def wait_for_orphans(out: Path) -> None:
    """Wait until no worker writes to a run any more: those of a parent that was killed finish their image first."""
    with locked(out / WORKERS_LOCK, LOCK_EX):
        pass


@contextlib.contextmanager
def _working(job: Job, stage: Stage, mark: Mark) -> Iterator[Handler[Task, None]]:
    """A worker's life, during which a later call waits for it."""
    models = Models()

    def go_on(sample: Sample) -> bool:
        # Loaded before the image is named, so that models that do not fit are not blamed on it.
        if stage.looks:
            models()
        return mark(sample.id)

    def handle(task: Task, crashing: frozenset[str]) -> None:
        bring_shard(job, *task, models, stage, go_on, crashing)

    with locked(job.out / WORKERS_LOCK, LOCK_SH), contextlib.closing(models):
        yield handle


def _run_pool(work: Work, size: int, stop: StopOnSignal) -> None:
    tasks = ((index, work.members(index)) for index in work.shards)
    working = partial(_working, work.plan.job, work.stage)
    for _ in work_in_pool(working, tasks, size, stopped=lambda: stop.seen, poll=work.progress, ordered=False):
        pass
    if stop.seen:
        raise Interrupted("stopped")
