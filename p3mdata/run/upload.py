"""Shards of a run that lies in an object store: done in a folder of this machine, then put there.

Order of writes, so that every crash resumes and no picture is ever there before its facemask: the shard's DONE goes,
then what an earlier attempt released and is not released now (the pictures first); the rows, which name everything that
may follow; facemasks and alphas, then images; DONE last. Rows without DONE count for nothing but this clean-up.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from p3mdata.base.files import sha256, write_atomic
from p3mdata.base.jsonl import PRIVATE_MODE, dumps, read_rows
from p3mdata.base.object_store import Store
from p3mdata.config import Executor, Job
from p3mdata.errors import RunFolderError
from p3mdata.faces.ensemble import FaceFinder
from p3mdata.records import ImageResult, Sample
from p3mdata.run.layout import DONE, ERROR, ERRORS, KINDS, RESULTS, SHARDS, STATS, TRACES, shard_folder, shard_name
from p3mdata.run.names import plain
from p3mdata.run.rows import image_rows, read_results
from p3mdata.run.shards import counts_for, run_shard
from p3mdata.run.stages import Stage


def bring_shard(
    job: Job,
    index: int,
    samples: Sequence[Sample],
    finder: Callable[[], FaceFinder],
    stage: Stage,
    go_on: Callable[[Sample], bool],
    crashing: Collection[str] = (),
) -> None:
    """`run_shard`, and where the run lies in a store, its files put there; parameters and errors are the same.

    A shard in the store counts as a whole: when all its rows do. Else it is done again, from what is staged here.
    """
    if job.store is None:
        run_shard(job, index, samples, finder, stage, go_on, crashing)
    elif job.execution.executor is Executor.RAY:
        # Nothing stays on a node: what lies there could be of another run by the time somebody looks.
        with tempfile.TemporaryDirectory(prefix="p3mdata-") as place:
            there = job.model_copy(update={"out": Path(place)})
            _bring(there, index, samples, finder, stage, go_on, crashing)
    else:
        _bring(job, index, samples, finder, stage, go_on, crashing)


def _bring(
    job: Job,
    index: int,
    samples: Sequence[Sample],
    finder: Callable[[], FaceFinder],
    stage: Stage,
    go_on: Callable[[Sample], bool],
    crashing: Collection[str],
) -> None:
    store, folder = Store(job.store), shard_folder(job.out, index)
    kept = folder / "stored.jsonl"
    earlier = _stored_rows(store, index, kept)
    if store.has(shard_name(index, DONE)):
        rows = {row.id: row for row in earlier}
        if len(rows) == len(samples) and all(s.id in rows and counts_for(rows[s.id], s) for s in samples):
            kept.unlink()
            bring_rows(store, job.out, index)
            return
        store.remove(shard_name(index, DONE))
    kept.unlink(missing_ok=True)
    (folder / DONE).unlink(missing_ok=True)
    run_shard(job, index, samples, finder, stage, go_on, crashing)
    done = read_results(folder)
    _put(store, job.out, index, done, earlier)
    for name in _files(done):
        (job.out / name).unlink(missing_ok=True)


def _stored_rows(store: Store, index: int, file: Path) -> list[ImageResult]:
    """Rows of a shard in the store, brought into a file; none when there are none."""
    name = shard_name(index, RESULTS)
    if not store.get_file(name, file, PRIVATE_MODE):
        return []
    try:
        rows = image_rows(file)
        if any(plain(name) is None for row in rows for name, _ in row.files.values()):
            raise RunFolderError("a file outside the run")
    except RunFolderError as exc:
        raise RunFolderError(f"{store.root}/{name}: is damaged. Delete the run there and run again.") from exc
    return rows


def bring_rows(store: Store, out: Path, index: int) -> list[ImageResult]:
    """Copy the rows and figures of a shard that is done into a run folder; DONE last.

    Raises:
        RunFolderError: They are damaged, or the store fails.
    """
    folder = shard_folder(out, index)
    (folder / DONE).unlink(missing_ok=True)
    rows = _stored_rows(store, index, folder / RESULTS)
    if not store.get_file(shard_name(index, STATS), folder / STATS):
        raise RunFolderError(
            f"{store.root}/{shard_name(index, STATS)}: is missing. Delete {shard_name(index, DONE)} there, then run "
            "'p3mdata anonymize dir' again."
        )
    write_atomic(folder / DONE, b"")
    return rows


def shards_done(store: Store) -> frozenset[int]:
    """Numbers of the shards that are done, by one listing of what is about shards: a few names for 1000 images."""
    found = (name.split("/") for name in store.names(SHARDS))
    return frozenset(int(parts[1]) for parts in found if len(parts) == 3 and parts[2] == DONE and parts[1].isdecimal())


def _files(rows: Sequence[ImageResult]) -> dict[str, str]:
    """Hashes of the released files by their names."""
    return {f"{kind}/{name}": digest for row in rows for kind, (name, digest) in row.files.items()}


def _put(store: Store, out: Path, index: int, rows: Sequence[ImageResult], earlier: Sequence[ImageResult]) -> None:
    """Put a shard that was done in `out` into the store."""
    files = _files(rows)
    stale = sorted(_files(earlier).keys() - files.keys())

    def put(name: str) -> None:
        data = (out / name).read_bytes()
        if sha256(data) != files[name]:
            raise RunFolderError(f"{out / name}: was changed before it was put into the store. Run again.")
        store.put(name, data)

    def of(*kinds: str) -> list[str]:
        return [name for name in files if name.split("/")[0] in kinds]

    for kind in reversed(KINDS):
        store.each(store.remove, [name for name in stale if name.split("/")[0] == kind])
    folder = shard_folder(out, index)
    store.put_file(shard_name(index, RESULTS), folder / RESULTS)
    # All masks are there before the first image is.
    store.each(put, of(*KINDS[:-1]))
    store.each(put, of(KINDS[-1]))
    store.put_file(shard_name(index, STATS), folder / STATS)
    _put_errors(store, out, index, {row.source for row in rows if row.reason == ERROR}, earlier)
    store.put(shard_name(index, DONE), b"")


def _put_errors(store: Store, out: Path, index: int, sources: set[str], earlier: Sequence[ImageResult]) -> None:
    name = shard_name(index, ERRORS)
    if sources:
        rows = [row for row in read_rows(out / TRACES, torn_tail=True) if row.get("source") in sources]
        store.put(name, "".join(dumps(row) + "\n" for row in rows).encode("utf-8", "surrogateescape"))
    elif any(row.reason == ERROR for row in earlier):
        store.remove(name)
