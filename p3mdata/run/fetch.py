"""`p3mdata fetch`: a finished run from an object store into a folder, where every verb works on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p3mdata.base.addresses import is_remote, location
from p3mdata.base.files import GIT_IGNORE, is_torn, sha256, write_atomic, write_released
from p3mdata.base.jsonl import PRIVATE_MODE
from p3mdata.base.object_store import Store
from p3mdata.base.progress import Progress, silent
from p3mdata.errors import RunFolderError, SettingsError, unwritable
from p3mdata.records import ImageResult
from p3mdata.run.layout import (
    AUDITS,
    DONE,
    ERROR,
    JOB,
    KINDS,
    LEDGER,
    LOG,
    MANIFEST,
    NAMES,
    PLAN,
    PRIVATE,
    QUEUE,
    REVIEW,
    SAMPLE,
    SHARDS,
    SOURCES,
    SUSPECTS,
    TOMBSTONES,
    TRACES,
    keep_private_out_of_git,
    make_private_folder,
    shard_folder,
    shard_name,
)
from p3mdata.run.locks import only_run
from p3mdata.run.plan import Plan, listing_digest, read_plan
from p3mdata.run.remote_job import CLOSING, bring_errors, bring_secret
from p3mdata.run.rows import finished_rows
from p3mdata.run.upload import bring_rows, shards_done
from p3mdata.run.verify import check_files
from p3mdata.typing import Json

_PRIVATE = frozenset({LEDGER, NAMES, QUEUE, SOURCES, JOB})


@dataclass(frozen=True)
class Fetched:
    """A run that was brought: where from and to, source files and released images."""

    address: str
    out: Path
    samples: int
    released: int

    def to_json(self) -> Json:
        return {"from": self.address, "out": str(self.out), "samples": self.samples, "released": self.released}


def fetch_run(address: Any, out: Path, on_start: Progress | None = None) -> Fetched:
    """Bring a finished run, each file checked against the hash in its row; the same call goes on where it was.

    Args:
        address: Of the run.
        out: A new folder, or one that an earlier call began.
        on_start: Gets the number of source files; gives a function that is called after each.

    Raises:
        SettingsError: The address is none.
        RunFolderError: No finished run is there, a file is not the one that was released, or OUT is foreign.
    """
    there = location(address)
    if not is_remote(there):
        raise SettingsError(f"{there}: is no address such as s3://bucket/run. Use the folder as it is.")
    store = Store(there)
    data = store.get(PLAN)
    if data is None:
        raise RunFolderError(f"{store.root}: is not a run (it has no {PLAN}). Check the address.")
    _check_out(out, store, data)
    try:
        with only_run(out, begins=True):
            plan = _bring_plan(store, out, data)
            released = _bring_shards(store, plan, on_start or silent)
            for name in CLOSING:
                # Runs that were closed before there was one have none.
                if name != NAMES or store.has(NAMES):
                    _bring(store, name, out)
            _check(plan, store)
    except OSError as exc:
        raise unwritable(out, exc) from exc
    return Fetched(str(store.root), out, plan.samples, released)


def _check_out(out: Path, store: Store, plan: bytes) -> None:
    """Refuse a folder that holds anything else than this run, or this run with something that was done to it since."""
    if not out.is_dir():
        if out.exists() or out.is_symlink():
            raise RunFolderError(f"{out}: is a file. Choose a folder.")
        return
    if (out / PLAN).exists():
        if (out / PLAN).read_bytes() != plan:
            raise RunFolderError(f"{out}: holds another run than {store.root}. Choose a new folder.")
        if any((out / name).exists() for name in (LOG, SUSPECTS, TOMBSTONES, *AUDITS, SAMPLE)):
            raise RunFolderError(f"{out}: holds decisions, take-downs or an audit. Fetch into a new folder.")
    elif any(path.name not in (PRIVATE, GIT_IGNORE) and not is_torn(path.name) for path in out.iterdir()):
        raise RunFolderError(f"{out}: is not empty and not a run folder. Choose an empty or new folder.")


def _bring(store: Store, name: str, out: Path) -> None:
    if not store.get_file(name, out / name, PRIVATE_MODE if name in _PRIVATE else 0o644):
        raise _unfinished(store)


def _unfinished(store: Store) -> RunFolderError:
    return RunFolderError(
        f"{store.root}: the run is not finished: 'p3mdata status {store.root}' tells how far it is. Run "
        "'p3mdata anonymize dir' again to finish it."
    )


def _bring_plan(store: Store, out: Path, data: bytes) -> Plan:
    # Until it is here again, the run in OUT counts as not finished.
    (out / LEDGER).unlink(missing_ok=True)
    (out / TRACES).unlink(missing_ok=True)
    for name in (JOB, SOURCES):
        _bring(store, name, out)
    write_atomic(out / PLAN, data)
    keep_private_out_of_git(out)
    # Not before: a folder with a plan is known as one that an earlier call began.
    for folder in (SHARDS, REVIEW):
        make_private_folder(out / folder)
    plan, _ = read_plan(out)
    if plan.keyed:
        bring_secret(store, out)
    if plan.digest != listing_digest(out / SOURCES):
        raise RunFolderError(f"{store.root}/{SOURCES}: is not the list of the run's plan. Run it again there.")
    if len(shards_done(store) & set(range(plan.shards))) < plan.shards or not store.has(MANIFEST):
        raise _unfinished(store)
    return plan


def _bring_shards(store: Store, plan: Plan, on_start: Progress) -> int:
    """Everything of all shards, one after another; gives the number of released images."""
    out, released, step = plan.job.out, 0, on_start(plan.samples)
    faulty: list[int] = []
    for index in range(plan.shards):
        rows = bring_rows(store, out, index)
        # Its files are here before it is done here as well.
        mark = shard_folder(out, index) / DONE
        mark.unlink()

        def bring(row: ImageResult, index: int = index) -> None:
            for kind in (kind for kind in KINDS if kind in row.files):
                _bring_released(store, out, f"{kind}/{row.files[kind][0]}", row.files[kind][1], index)

        store.each(bring, rows)
        for row in rows:
            released += row.outcome.released
            step()
        write_atomic(mark, b"")
        if any(row.reason == ERROR for row in rows):
            faulty.append(index)
    bring_errors(store, out, faulty)
    return released


def _bring_released(store: Store, out: Path, name: str, digest: str, index: int) -> None:
    if (out / name).is_file() and sha256((out / name).read_bytes()) == digest:
        return
    data = store.get(name)
    if data is None or sha256(data) != digest:
        what = "is missing" if data is None else "is not the file that was released"
        raise RunFolderError(
            f"{store.root}/{name}: {what}. Delete {shard_name(index, DONE)} there, run 'p3mdata anonymize dir' again, "
            "then fetch."
        )
    write_released(out / name, data)


def _check(plan: Plan, store: Store) -> None:
    """What came is a finished run: rows, ledger, manifest and files belong together."""
    out = plan.job.out
    try:
        found = next(check_files(plan, finished_rows(plan, read_plan(out)[1])), None)
    except RunFolderError:
        raise _unfinished(store) from None
    if found is not None:
        (out / LEDGER).unlink(missing_ok=True)
        raise RunFolderError(
            f"{out}: {found.sentence}. Run 'p3mdata anonymize dir' again for {store.root}, then fetch."
        )
