"""One run that many processes share, on one machine or many: `anonymize dir --shard K/N`.

The first process freezes the plan, the others wait for it; each does its own shards; whoever finds all shards done
closes the run. Shards are whole files that are renamed into place and depend on their inputs alone, so that work which
happens twice (a task that was requeued, a file system without locks) comes to the same bytes.
"""

from __future__ import annotations

import contextlib
import fcntl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from p3mdata.config import Job
from p3mdata.errors import RunFolderError, SettingsError
from p3mdata.files import locked
from p3mdata.manifest import PRIVATE_MODE, read_json
from p3mdata.plan import (
    JOB,
    PLAN,
    Plan,
    Samples,
    differing_settings,
    job_row,
    make_plan,
    make_private_folder,
    read_plan,
)

LOCK = "private/lock"
_PLANNING = "private/planning.{}"
_POLL_SECONDS = 0.5
_BEAT_SECONDS = 5.0
# Without a sign of life for so long, who makes the plan is taken for dead.
_PATIENCE_SECONDS = 60.0


def my_shards(plan: Plan, part: tuple[int, int]) -> range:
    """Shards of part K of N: every N-th, so that parts are equally long whatever the order of the sources."""
    number, of = part
    return range(number - 1, plan.shards, of)


@contextlib.contextmanager
def part_of_run(out: Path, part: tuple[int, int]) -> Iterator[None]:
    """Share a run folder with the other parts; no process that wants the whole run can have it meanwhile.

    Raises:
        RunFolderError: A process has the whole run, or another one is at the same part.
    """
    make_private_folder(out / "private")
    number, of = part
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(out / LOCK, fcntl.LOCK_SH | fcntl.LOCK_NB))
        except BlockingIOError as exc:
            raise RunFolderError(f"{out}: another p3mdata process works on the whole run. Wait for it to end.") from exc
        try:
            held.enter_context(locked(out / f"private/part-{number}-of-{of}", fcntl.LOCK_EX | fcntl.LOCK_NB))
        except BlockingIOError as exc:
            raise RunFolderError(f"{out}: another process is doing part {number}/{of}. Wait for it to end.") from exc
        yield


def shared_plan(job: Job) -> tuple[Plan, Samples]:
    """The plan that all parts share: the one that is there, else made by the first process that asks.

    Sources are listed and hashed once, by whoever makes the plan; each worker checks the files that it opens.

    Raises:
        RunFolderError: The run was planned with other settings or folders; the sentence names them.
    """
    if job.execution.overwrite:
        raise SettingsError("--overwrite: not together with --shard. Delete OUT before the parts are started.")
    if not (job.out / PLAN).exists():
        _make_or_await(job)
    plan, samples = read_plan(job.out)
    mine = Plan(job, plan.samples, plan.shard_size, plan.digest)
    different = differing_settings(read_json(job.out / PLAN), mine.to_json())
    before, after = read_json(job.out / JOB), job_row(job)
    kept = {**before, **before.get("folders", {}), "out": None}
    given = {**after, **after["folders"], "out": None}
    keys = sorted((kept.keys() | given.keys()) - {"folders"})
    different += [f"{key} ({kept.get(key)} -> {given.get(key)})" for key in keys if kept.get(key) != given.get(key)]
    if different:
        raise RunFolderError(
            f"{job.out}: was planned with other settings or folders: {'; '.join(different)}. "
            "Give the same to all parts."
        )
    return mine, samples


def _make_or_await(job: Job) -> None:
    """Make the plan, unless another process is at it; one that shows no life is replaced."""
    generation, beat, since = 0, -1, time.monotonic()
    while not (job.out / PLAN).exists():
        claim = job.out / _PLANNING.format(generation)
        try:
            claim.touch(mode=PRIVATE_MODE, exist_ok=False)
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):
                now = claim.stat().st_mtime_ns
                # Compared with itself, not with this machine's clock.
                if now != beat:
                    beat, since = now, time.monotonic()
            if time.monotonic() - since > _PATIENCE_SECONDS:
                generation, beat = generation + 1, -1
            time.sleep(_POLL_SECONDS)
            continue
        with _beating(claim):
            make_plan(job)
    for claim in job.out.glob(_PLANNING.format("*")):
        claim.unlink(missing_ok=True)


@contextlib.contextmanager
def _beating(claim: Path) -> Iterator[None]:
    """Show life by touching the claim; it goes when the block fails, so that another process need not wait."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(_BEAT_SECONDS):
            with contextlib.suppress(OSError):
                claim.touch()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        claim.unlink(missing_ok=True)
        raise
    finally:
        stop.set()
        thread.join()
