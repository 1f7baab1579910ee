"""One run that many processes share, on one machine or many: `anonymize dir --task K/N`.

The first process freezes the plan, the others wait for it; each does its own shards; whoever finds all shards done
closes the run. Shards are whole files that are renamed into place and depend on their inputs alone, so that work which
happens twice (a task that was requeued, a file system without locks) comes to the same bytes.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from p3mdata.base.files import locked
from p3mdata.base.jsonl import PRIVATE_MODE, read_json
from p3mdata.base.system import LOCK_EX, LOCK_NB, LOCK_SH
from p3mdata.config import Job
from p3mdata.errors import RunFolderError, SettingsError
from p3mdata.run.compare import differing_settings
from p3mdata.run.layout import CLAIM, JOB, LOCK, PLAN, PRIVATE, TASK_LOCK, make_private_folder
from p3mdata.run.plan import Plan, job_row, make_plan, read_plan
from p3mdata.run.planned import read_planned
from p3mdata.run.samples import Samples
from p3mdata.run.secret import planned_secret

_POLL_SECONDS = 0.5
_BEAT_SECONDS = 5.0
# Without a sign of life for so long, who makes the plan is taken for dead.
_PATIENCE_SECONDS = 60.0


def my_shards(plan: Plan, task: tuple[int, int]) -> range:
    """Shards of task K of N: every N-th, so that tasks are equally long whatever the order of the sources."""
    number, of = task
    return range(number - 1, plan.shards, of)


@contextlib.contextmanager
def task_of_run(out: Path, task: tuple[int, int]) -> Iterator[None]:
    """Share a run folder with the other tasks; no process that wants the whole run can have it meanwhile.

    Raises:
        RunFolderError: A process has the whole run, or another one is at the same task.
    """
    make_private_folder(out / PRIVATE)
    number, of = task
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(out / LOCK, LOCK_SH | LOCK_NB))
        except BlockingIOError as exc:
            raise RunFolderError(f"{out}: another p3mdata process works on the whole run. Wait for it to end.") from exc
        try:
            held.enter_context(locked(out / TASK_LOCK.format(number, of), LOCK_EX | LOCK_NB))
        except BlockingIOError as exc:
            raise RunFolderError(f"{out}: another process is doing task {number}/{of}. Wait for it to end.") from exc
        yield


def shared_plan(job: Job) -> tuple[Plan, Samples]:
    """The plan that all tasks share: the one that is there, else made by the first process that asks.

    Sources are listed and hashed once, by whoever makes the plan; each worker checks the files that it opens.

    Raises:
        RunFolderError: The run was planned with other settings or folders; the sentence names them.
    """
    if job.execution.overwrite:
        raise SettingsError("--overwrite: not together with --task. Delete OUT before the tasks are started.")
    if not (job.out / PLAN).exists():
        make_or_await((job.out / PLAN).exists, lambda: make_plan(job), _Files(job.out))
    plan, samples = read_plan(job.out)
    mine, planned = replace(plan, job=job), read_planned(job.out)
    if job.execution.secret_file is not None:
        planned_secret(job, planned, write=False)
    different = differing_settings(planned.maker, mine.maker)
    before, after = read_json(job.out / JOB), job_row(job)
    kept = {**before, **before.get("folders", {}), "out": None}
    given = {**after, **after["folders"], "out": None}
    keys = sorted((kept.keys() | given.keys()) - {"folders"})
    different += [f"{key} ({kept.get(key)} -> {given.get(key)})" for key in keys if kept.get(key) != given.get(key)]
    if different:
        tool = planned.maker.tool
        way_out = "Give the same to all tasks."
        if tool != mine.maker.tool:
            way_out = f"Use another OUT, or {tool} for all its tasks."
        raise RunFolderError(
            f"{job.place}: was planned with other settings or folders: {'; '.join(different)}. {way_out}"
        )
    return mine, samples


class Claims(Protocol):
    """Signs that a process is making the plan, numbered: the next number is for who replaces a dead one."""

    poll_seconds: float

    def take(self, number: int) -> bool:
        """Make the claim; False when it is there."""
        ...

    def sign(self, number: int) -> object:
        """What changes while its maker lives; None when the claim is gone."""
        ...

    def beat(self, number: int) -> None:
        """Show life."""
        ...

    def drop(self, number: int) -> None:
        """Take the claim back."""
        ...

    def clear(self) -> None:
        """Remove all claims."""
        ...


class _Files:
    """Claims in a run folder that all processes see."""

    def __init__(self, out: Path) -> None:
        self._out, self.poll_seconds = out, _POLL_SECONDS

    def _path(self, number: int) -> Path:
        return self._out / CLAIM.format(number)

    def take(self, number: int) -> bool:
        with contextlib.suppress(FileExistsError):
            self._path(number).touch(mode=PRIVATE_MODE, exist_ok=False)
            return True
        return False

    def sign(self, number: int) -> object:
        with contextlib.suppress(FileNotFoundError):
            return self._path(number).stat().st_mtime_ns
        return None

    def beat(self, number: int) -> None:
        with contextlib.suppress(OSError):
            self._path(number).touch()

    def drop(self, number: int) -> None:
        self._path(number).unlink(missing_ok=True)

    def clear(self) -> None:
        for claim in self._out.glob(CLAIM.format("*")):
            claim.unlink(missing_ok=True)


def make_or_await(there: Callable[[], bool], make: Callable[[], object], claims: Claims) -> None:
    """Make the plan, unless another process is at it; one that shows no life is replaced.

    Args:
        there: Whether there is a plan.
        make: Makes it.
        claims: Where processes tell each other.
    """
    number, beat, since = 0, None, time.monotonic()
    while not there():
        if claims.take(number):
            with _beating(claims, number):
                make()
            continue
        # Compared with itself, not with this machine's clock.
        if (now := claims.sign(number)) is not None and now != beat:
            beat, since = now, time.monotonic()
        if time.monotonic() - since > _PATIENCE_SECONDS:
            number, beat = number + 1, None
        time.sleep(claims.poll_seconds)
    claims.clear()


@contextlib.contextmanager
def _beating(claims: Claims, number: int) -> Iterator[None]:
    """Show life; the claim goes when the block fails, so that another process need not wait."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(_BEAT_SECONDS):
            claims.beat(number)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        claims.drop(number)
        raise
    finally:
        stop.set()
        thread.join()
