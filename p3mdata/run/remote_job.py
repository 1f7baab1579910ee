"""Runs that lie in an object store: planned, shared, closed and looked at from any number of machines.

There are no locks between machines: the first task plans, the others wait for it; what is done twice comes to the same
bytes. On each machine a run (or task) is worked on in a staging folder, which looks like a run folder and goes when the
run ends well; after an interruption the same command finds it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from p3mdata.base.addresses import is_remote, location, staging_folder
from p3mdata.base.files import BusyFolder, empty, owned_folder, write_atomic
from p3mdata.base.jsonl import NOT_JSON, PRIVATE_MODE, dumps, read_json
from p3mdata.base.object_store import Store
from p3mdata.base.progress import Progress
from p3mdata.base.system import is_mine
from p3mdata.config import Job
from p3mdata.errors import RunFolderError, SettingsError, StoreError
from p3mdata.run.close import RunSummary, close_run, summarize
from p3mdata.run.executors import Work
from p3mdata.run.executors.choice import executor_of
from p3mdata.run.executors.local import wait_for_orphans
from p3mdata.run.layout import (
    CLAIM,
    DONE,
    ERROR,
    ERRORS,
    JOB,
    LEDGER,
    MANIFEST,
    NAMES,
    PLAN,
    PRIVATE,
    QUEUE,
    REPORT,
    SECRET,
    SHARDS,
    SOURCES,
    STATS,
    TRACES,
    make_private_folder,
    shard_folder,
    shard_name,
)
from p3mdata.run.plan import Plan, job_row, listing_digest, make_plan, read_plan
from p3mdata.run.planned import read_planned
from p3mdata.run.rows import Rows
from p3mdata.run.samples import Samples
from p3mdata.run.secret import planned_secret
from p3mdata.run.stages import Stage
from p3mdata.run.status import Status, status_of
from p3mdata.run.tasks import make_or_await, my_shards, shared_plan
from p3mdata.run.upload import bring_rows, shards_done

# In the order in which they are put: a run whose manifest is there is closed.
CLOSING = (LEDGER, NAMES, QUEUE, REPORT, MANIFEST)
_SHOWN = 5


class _Claims:
    """Claims to plan a run, as objects; see `tasks.Claims`."""

    poll_seconds = 5.0

    def __init__(self, store: Store) -> None:
        self._store, self._ours = store, uuid.uuid4().hex
        self._beats = 0

    def _content(self) -> bytes:
        self._beats += 1
        return f"{self._ours} {self._beats}".encode()

    def take(self, number: int) -> bool:
        return self._store.create(CLAIM.format(number), self._content())

    def sign(self, number: int) -> object:
        return self._store.get(CLAIM.format(number))

    def beat(self, number: int) -> None:
        # Who plans finds out by itself when the store is gone.
        with contextlib.suppress(StoreError):
            self._store.put(CLAIM.format(number), self._content())

    def drop(self, number: int) -> None:
        self._store.remove(CLAIM.format(number))

    def clear(self) -> None:
        for name in list(self._store.names(PRIVATE)):
            if name.startswith(CLAIM.format("")):
                self._store.remove(name)


def anonymize_stored(job: Job, stage: Stage, on_start: Progress, started: float) -> RunSummary:
    """Run or resume a job, or its task, whose OUT is in a store; parameters and errors as for `anonymize_job`."""
    if not stage.publishes:
        raise SettingsError(f"{job.place}: the stages one by one need a RUN that is a folder of this machine.")
    if job.execution.overwrite:
        raise SettingsError(f"{job.place}: --overwrite is not for an object store. Delete the run there first.")
    store = Store(job.store)
    _refuse_foreign(store)
    with staged(job.out, store):
        plan, samples = _planned(job, store)
        task = job.execution.task_number
        mine = range(plan.shards) if task is None else my_shards(plan, task)
        progress = on_start(sum(min(plan.shard_size, plan.samples - i * plan.shard_size) for i in mine))
        executor_of(job)(Work(plan, samples, stage, mine, progress), job.execution.workers)
        left = _left(plan, store)
        if task is None:
            if left:
                raise RunFolderError(f"{store.root}: {_named(left, plan)} in the store. Run again to finish.")
            return _closed(plan, store, time.monotonic() - started)
        _bring_missing(store, plan, mine)
        summary = summarize(plan, Rows(plan, mine), time.monotonic() - started)
        if not left:
            _closed(plan, store, 0.0)
        return replace(summary, out=job.place, task=job.execution.task, shards_left=len(left))


def close_stored(address: Any) -> RunSummary:
    """Close a run in a store whose tasks are all done, as `merge_tasks` does in a folder.

    Raises:
        RunFolderError: Not a run, or shards are not done.
    """
    store = Store(location(address))
    out = staging_folder(store.root, "merge")
    with staged(out, store):
        plan = read_stored_plan(store, out)
        if left := _left(plan, store):
            raise RunFolderError(
                f"{store.root}: {_named(left, plan)}. Run their tasks again (task K of N has shards K, K + N, "
                "K + 2N and so on), or 'p3mdata anonymize dir' without --task."
            )
        return _closed(plan, store, 0.0)


def status_anywhere(run: Path) -> Status:
    """How far a run is, in a folder or in a store; of the latter only shards that are done are known.

    Raises:
        RunFolderError: Not a run.
    """
    there = location(run)
    if not is_remote(there):
        return status_of(there)
    store = Store(there)
    with tempfile.TemporaryDirectory(prefix="p3mdata-") as place:
        out = Path(place)
        (out / PRIVATE).mkdir()
        if not store.get_file(PLAN, out / PLAN):
            raise RunFolderError(f"{store.root}: is not a run, or has no plan yet (it has no {PLAN}).")
        plan = read_planned(out)

        def bring(index: int) -> None:
            folder = shard_folder(out, index)
            written = store.modified(shard_name(index, DONE))
            store.get_file(shard_name(index, STATS), folder / STATS)
            write_atomic(folder / DONE, b"")
            os.utime(folder / DONE, (written, written))

        store.each(bring, (i for i in shards_done(store) if i * plan.shard_size < plan.samples))
        if store.has(LEDGER):
            written = store.modified(LEDGER)
            write_atomic(out / LEDGER, b"")
            os.utime(out / LEDGER, (written, written))
        bring_errors(store, out, (i for i in shards_done(store) if ERROR in _reasons(out, i)))
        return status_of(out)


def _reasons(out: Path, index: int) -> Iterable[str]:
    file = shard_folder(out, index) / STATS
    return read_json(file)["reasons"] if file.exists() else ()


def bring_errors(store: Store, out: Path, shards: Iterable[int]) -> None:
    """Gather the traces of shards in a run folder."""
    traces = b"".join(store.get(shard_name(index, ERRORS)) or b"" for index in sorted(shards))
    if traces:
        write_atomic(out / TRACES, traces, PRIVATE_MODE)


@contextlib.contextmanager
def staged(out: Path, store: Store) -> Iterator[None]:
    """Hold a staging folder; it is removed when the block ends well, and found again by the next call otherwise.

    Raises:
        RunFolderError: Another process has it, or it is not ours.
    """
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(owned_folder(out, _make_ours))
        except BusyFolder as exc:
            raise RunFolderError(
                f"{store.root}: another p3mdata process of this machine is working on it. Wait for it to end."
            ) from exc
        wait_for_orphans(out)
        if not (out / PLAN).exists():
            # Of a call that was killed while it removed the folder.
            empty(out)
            _make_ours(out)
        # What is done says the store, not what an earlier call left here.
        for done in out.glob(f"{SHARDS}/*/{DONE}"):
            done.unlink()
        yield
        shutil.rmtree(out)


def _make_ours(out: Path) -> None:
    make_private_folder(out, empty=True)
    # Folders for temporary files are shared: somebody else may have made it, to read along.
    if not is_mine(out):
        raise RunFolderError(f"{out}: is not a folder of yours. Remove it, or set TMPDIR to another folder.")
    make_private_folder(out / PRIVATE)


def _refuse_foreign(store: Store) -> None:
    """Refuse a place that holds something else than a run of ours; nothing was written."""
    data = store.get(PLAN)
    # A run that was stopped before it had a plan leaves only this folder; another task may plan between two looks.
    if data is None and any(name != PRIVATE for name in store.top()) and (data := store.get(PLAN)) is None:
        raise RunFolderError(f"{store.root}: is not empty and holds no run. Choose another address.")
    if data is None:
        return
    try:
        tool = json.loads(data).get("tool", "")
    except (AttributeError, UnicodeDecodeError, *NOT_JSON):
        tool = ""
    if not str(tool).startswith("p3mdata "):
        raise RunFolderError(f"{store.root}: is not a run, its {PLAN} is not of p3mdata. Choose another address.")


def _planned(job: Job, store: Store) -> tuple[Plan, Samples]:
    """The plan that all machines share, in the staging folder as well."""

    def make() -> tuple[Plan, Samples]:
        if not there:
            # A store that cannot be written says so before all sources are read.
            store.put(JOB, dumps(job_row(job)).encode("utf-8", "surrogateescape"))
            _agree_on_secret(job, store)
        made = make_plan(job)
        store.put_file(JOB, job.out / JOB)
        store.put_file(SOURCES, job.out / SOURCES)
        store.put_file(PLAN, job.out / PLAN)
        return made

    there = bring_plan(store, job.out)
    if job.execution.task_number is None:
        return make()
    if not there:
        make_or_await(lambda: store.has(PLAN), make, _Claims(store))
        bring_plan(store, job.out)
    return shared_plan(job)


def _agree_on_secret(job: Job, store: Store) -> None:
    """The secret of a run that has no plan yet, in the staging folder: all who plan at once take the same."""
    planned_secret(job, None, write=True)
    ours = (job.out / SECRET).read_bytes()
    if not store.create(SECRET, ours) and (theirs := store.get(SECRET)) is not None:
        if job.execution.secret_file is not None and theirs != ours:
            # Of a call that was stopped before it had a plan.
            store.put(SECRET, ours)
        else:
            write_atomic(job.out / SECRET, theirs, PRIVATE_MODE)


def bring_plan(store: Store, out: Path) -> bool:
    """Copy a run's plan into a staging folder, which is emptied of every other run; False when there is none.

    Raises:
        RunFolderError: The plan and its list do not belong together.
    """
    data = store.get(PLAN)
    if data is None or not (out / PLAN).exists() or (out / PLAN).read_bytes() != data:
        empty(out)
        _make_ours(out)
    if data is None:
        return False
    for name in (SOURCES, JOB):
        if not store.get_file(name, out / name, PRIVATE_MODE):
            raise RunFolderError(f"{store.root}/{name}: is missing. Delete the run there and run again.")
    write_atomic(out / PLAN, data)
    plan = read_planned(out)
    if plan.keyed:
        bring_secret(store, out)
    if plan.digest != listing_digest(out / SOURCES):
        raise RunFolderError(
            f"{store.root}: its {SOURCES} is not the list of its {PLAN}; two processes planned it at once. Delete the "
            "run there and run again."
        )
    return True


def bring_secret(store: Store, out: Path) -> None:
    """Copy a run's secret.

    Raises:
        RunFolderError: There is none.
    """
    if not store.get_file(SECRET, out / SECRET, PRIVATE_MODE):
        raise RunFolderError(
            f"{store.root}/{SECRET}: is missing, and with it the way from photographs to ids. Restore it, or start a "
            "new run at another address."
        )


def read_stored_plan(store: Store, out: Path) -> Plan:
    """The plan of a run in a store, brought into a staging folder.

    Raises:
        RunFolderError: Not a run, or damaged.
    """
    if not bring_plan(store, out):
        raise RunFolderError(f"{store.root}: is not a run (it has no {PLAN}). Check the address.")
    plan, _ = read_plan(out)
    return replace(plan, job=plan.job.model_copy(update={"store": store.root}))


def _left(plan: Plan, store: Store) -> list[int]:
    """Shards that are not done, by what the store says."""
    done = shards_done(store)
    return [index for index in range(plan.shards) if index not in done]


def _named(left: Sequence[int], plan: Plan) -> str:
    numbers = ", ".join(str(index + 1) for index in left[:_SHOWN]) + (" ..." if len(left) > _SHOWN else "")
    return f"{len(left)} of {plan.shards} shards are not done ({numbers})"


def _bring_missing(store: Store, plan: Plan, shards: Iterable[int]) -> None:
    """Rows of shards that other machines did."""
    out = plan.job.out
    missing = [index for index in shards if not (shard_folder(out, index) / DONE).exists()]
    store.each(lambda index: bring_rows(store, out, index), missing)


def _closed(plan: Plan, store: Store, seconds: float) -> RunSummary:
    """Write manifest, ledger, review queue and report here, and put them."""
    _bring_missing(store, plan, range(plan.shards))
    summary = close_run(plan, seconds)
    for name in CLOSING:
        store.put_file(name, plan.job.out / name)
    return replace(summary, out=plan.job.place)
