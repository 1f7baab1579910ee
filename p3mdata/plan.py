"""The plan of a run: which files, which settings, which model files. Frozen before the first image is touched."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p3mdata import __version__
from p3mdata.config import Execution, Job, Settings, fault
from p3mdata.decisions import LOG, read_log, standing
from p3mdata.errors import RunFolderError, SettingsError
from p3mdata.faces import weights
from p3mdata.images import SUFFIXES
from p3mdata.manifest import PRIVATE_MODE, dumps, read_json, read_rows, write_json, write_rows
from p3mdata.records import Sample
from p3mdata.remote import as_os_error, is_remote, refuse_address
from p3mdata.sources import Copies, IdHeads, Samples, collect, pictures

PLAN = "plan.json"
SOURCES = "private/sources.jsonl"
JOB = "private/job.json"
# Folder below the private one where a list of sources is made.
PLANNING = ".planning-"
_MAX_SHARD = 1000
_MIN_SHARD = 4
_SHARDS_WANTED = 64
_SHOWN = 3


@dataclass(frozen=True)
class Plan:
    """What a run consists of.

    Attributes:
        job: Folders and settings as they are now.
        samples: Number of source files.
        shard_size: Source files per shard; shard K holds rows K * size up to (K + 1) * size.
        digest: SHA-256 of the file list.
    """

    job: Job
    samples: int
    shard_size: int
    digest: str

    @property
    def shards(self) -> int:
        return -(-self.samples // self.shard_size)

    def members(self, samples: Sequence[Sample], shard: int) -> Sequence[Sample]:
        """Those of all samples, in plan order, that are of one shard."""
        return samples[shard * self.shard_size : (shard + 1) * self.shard_size]

    def to_json(self) -> dict[str, Any]:
        """Public part: no path of a source appears in it."""
        return {
            "tool": f"p3mdata {__version__}",
            "settings": self.job.settings.model_dump(mode="json"),
            "companions": sorted(k for k in ("alphas", "trimaps", "masks") if getattr(self.job, k)),
            "weights": weights.hashes(),
            "samples": self.samples,
            "shard_size": self.shard_size,
            "sources_sha256": self.digest,
        }


def _frozen(row: dict[str, Any]) -> bytes:
    """What of a source may not change between two calls; hand-drawn masks and decisions may be added."""
    kept = {key: value for key, value in row.items() if key not in ("mask", "problem", "decision")}
    return dumps(kept).encode("utf-8", "surrogateescape")


def listing_digest(listing: Path) -> str:
    """`Plan.digest` of a list of sources.

    Raises:
        RunFolderError: The file is damaged.
    """
    digest = hashlib.sha256()
    for row in read_rows(listing):
        digest.update(_frozen(row))
    return digest.hexdigest()


def shard_size(samples: int) -> int:
    """Large runs get shards of 1000; small ones enough shards for every core of a workstation."""
    return max(_MIN_SHARD, min(_MAX_SHARD, -(-samples // _SHARDS_WANTED)))


def check_folders(job: Job) -> None:
    """Refuse folders that a run could damage or mix up.

    Raises:
        SettingsError, RunFolderError: With what is wrong and what to do.
    """
    try:
        is_folder = as_os_error(job.source.is_dir)
    except OSError as exc:
        raise SettingsError(f"{job.source}: cannot be looked at ({exc.strerror or exc}). Check the address.") from exc
    if not is_folder:
        what = "is a file: use 'p3mdata anonymize image'" if job.source.is_file() else "does not exist. Check the path"
        raise SettingsError(f"{job.source}: {what}.")
    if _inside(job.place, job.source) or _inside(job.source, job.place):
        raise SettingsError(f"{job.place}: OUT and SRC must not lie inside each other. Choose another OUT.")
    recursive = job.settings.recursive
    for name in ("alphas", "trimaps", "masks"):
        folder: Path | None = getattr(job, name)
        if folder is None:
            continue
        if not folder.is_dir():
            raise SettingsError(f"{folder}: the folder given as --{name} does not exist. Check the path.")
        if _inside(folder, job.source) and (recursive or _inside(job.source, folder)):
            raise SettingsError(f"{folder}: lies inside SRC, so that the {name} would count as photos. Move it out.")
        if job.execution.overwrite and _inside(folder, job.out):
            raise SettingsError(f"{folder}: lies inside OUT, which --overwrite empties. Move the {name} out first.")
    if next(pictures(job.source, recursive), None) is None:
        raise SettingsError(f"{job.source}: holds no pictures. Supported endings: {' '.join(sorted(SUFFIXES))}.")
    _check_out(job.out)
    if job.execution.overwrite and (job.out / LOG).exists():
        raise RunFolderError(
            f"{job.out}: holds decisions of reviewers, which --overwrite would delete. Use another OUT, and carry them "
            f"over with 'p3mdata review NEW --apply {job.out / LOG}'; or delete the folder yourself."
        )


def _inside(inner: Path, outer: Path) -> bool:
    if is_remote(inner) or is_remote(outer):
        return is_remote(inner) and is_remote(outer) and f"{inner}/".startswith(f"{outer}/")
    real_inner, real_outer = Path(os.path.realpath(inner)), Path(os.path.realpath(outer))
    return real_inner == real_outer or real_outer in real_inner.parents


def _check_out(out: Path) -> None:
    if not out.is_dir():
        if os.path.lexists(out):
            raise RunFolderError(f"{out}: is a file. Choose a folder.")
    elif (out / PLAN).exists():
        if not str(read_json(out / PLAN).get("tool", "")).startswith("p3mdata "):
            raise RunFolderError(f"{out}: is not a run folder, its {PLAN} is not of p3mdata. Choose another folder.")
    # A run that was killed before it had a plan leaves these.
    elif any(path.name != "private" and not path.name.startswith(f".{PLAN}.") for path in out.iterdir()):
        raise RunFolderError(f"{out}: is not empty and not a run folder. Choose an empty or new folder.")


def differing_settings(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Keys, with both values, that keep a run from being resumed; empty when it can."""
    before, after = ({"tool": row.get("tool"), **row.get("settings", {})} for row in (old, new))
    different = [
        f"{key} ({_shown(before.get(key))} -> {_shown(after[key])})" for key in after if before.get(key) != after[key]
    ]
    return different + (["the model files"] if old.get("weights") != new["weights"] else [])


def _shown(value: Any) -> str:
    return "not given" if value is None else str(value)


def differing_sources(old: Iterable[Sample], new: Iterable[Sample]) -> str:
    """Which source files or companions are not those of an earlier call, in words. Both are sorted by path."""
    shown: list[str] = []
    more = 0
    for before, after in _paired(iter(old), iter(new)):
        if before is None or after is None:
            what = f"{after.source} is new" if after else f"{before.source} is gone" if before else ""
        else:
            changed = [what for what in ("sha256", "alpha", "trimap") if getattr(before, what) != getattr(after, what)]
            if not changed:
                continue
            what = f"the {changed[0].replace('sha256', 'content')} of {before.source} changed"
        shown += [what] if len(shown) < _SHOWN else []
        more += 1
    return "; ".join(shown) + (f" and {more - _SHOWN} more" if more > _SHOWN else "")


def _paired(old: Iterator[Sample], new: Iterator[Sample]) -> Iterator[tuple[Sample | None, Sample | None]]:
    """Samples of two lists side by side, None where one has no such path."""
    before, after = next(old, None), next(new, None)
    while before or after:
        if after is None or (before is not None and before.source < after.source):
            yield before, None
            before = next(old, None)
        elif before is None or after.source < before.source:
            yield None, after
            after = next(new, None)
        else:
            yield before, after
            before, after = next(old, None), next(new, None)


def make_plan(job: Job, write: bool = True) -> tuple[Plan, Samples]:
    """Freeze the plan of a run, or check that it is the plan of the run that is already in OUT.

    Hand-drawn masks may be added to a finished run: the images they belong to are done again.

    Raises:
        SettingsError, RunFolderError: Sources or settings do not allow this run.
    """
    if write:
        make_private_folder(job.out / "private")
    # Beside the list that it may take the place of.
    place = tempfile.mkdtemp(prefix=PLANNING, dir=job.out / "private" if write else None)
    with ExitStack() as at_end:
        at_end.callback(shutil.rmtree, place)
        listing = Path(place) / "sources.jsonl"
        plan = write_list(job, (sample.to_json() for sample in collect(job)), listing)
        _refuse_other_run(plan, listing)
        if write:
            os.replace(listing, job.out / SOURCES)
            listing = job.out / SOURCES
            write_json(job.out / JOB, job_row(job), PRIVATE_MODE)
            write_json(job.out / PLAN, plan.to_json())
        decisions = {} if job.execution.overwrite else standing(read_log(job.out))
        samples = Samples(listing, plan.samples, decisions)
        if not write:
            weakref.finalize(samples, at_end.pop_all().close)
    return plan, samples


def write_list(job: Job, rows: Iterable[dict[str, Any]], path: Path) -> Plan:
    """Write the list of a run's sources, copies numbered and in order of `rows`; gives the plan that it makes."""
    ids, digest, count = IdHeads(), hashlib.sha256(), 0
    found = path.with_name("found.jsonl")
    write_rows(found, ids.noting(rows), PRIVATE_MODE)
    copies = Copies(ids)

    def numbered() -> Iterator[dict[str, Any]]:
        nonlocal count
        for row in read_rows(found):
            row |= {"id": copies.number(row["id"]), "index": count}
            digest.update(_frozen(row))
            count += 1
            yield row

    write_rows(path, numbered(), PRIVATE_MODE)
    found.unlink()
    return Plan(job, count, shard_size(count), digest.hexdigest())


def _refuse_other_run(plan: Plan, listing: Path) -> None:
    out = plan.job.out
    if not (out / PLAN).exists() or plan.job.execution.overwrite:
        return
    old = read_json(out / PLAN)
    different = differing_settings(old, plan.to_json())
    if old.get("sources_sha256") != plan.digest:
        different.append(differing_sources(_read_samples(out / SOURCES), _read_samples(listing)))
    if different:
        raise RunFolderError(
            f"{out}: holds a run made with other settings or files: {'; '.join(different)}. "
            "Use another OUT, the same settings and files, or --overwrite."
        )


def job_row(job: Job) -> dict[str, Any]:
    """Where a run's files are and which of them it takes, for its private part."""
    files = job.execution.files
    return {
        "limit": job.execution.limit,
        "files": None if files is None else str(files.resolve()),
        "folders": job_paths(job),
    }


def job_paths(job: Job) -> dict[str, str]:
    """Absolute folders of a job, for the private part of a run."""
    names = ("source", "place", "alphas", "trimaps", "masks")
    paths = {name: str(getattr(job, name).resolve()) for name in names if getattr(job, name)}
    return {"out": paths.pop("place"), **paths}


def make_private_folder(path: Path) -> None:
    """Make a folder that only its owner can open."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
    except OSError as exc:
        raise RunFolderError(f"{path.parent}: cannot be written ({exc.strerror}). Choose another OUT.") from exc


def _read_samples(listing: Path) -> Iterator[Sample]:
    try:
        for row in read_rows(listing):
            yield Sample.from_json(row)
    except (KeyError, TypeError, IndexError) as exc:
        raise RunFolderError(f"{listing}: is damaged ({fault(exc)}). Delete the run folder and run again.") from exc


def read_plan(out: Path) -> tuple[Plan, Samples]:
    """The plan of an existing run.

    Raises:
        RunFolderError: The folder is not a run, lies in an object store, or its plan is damaged.
    """
    refuse_address(out)
    if not (out / PLAN).is_file():
        raise RunFolderError(f"{out}: is not a run folder (it has no {PLAN}). Run 'p3mdata anonymize dir SRC {out}'.")
    row, kept = read_json(out / PLAN), read_json(out / JOB)
    try:
        folders = {**kept["folders"], "out": out}
        job = Job(
            **folders,
            settings=Settings(**row["settings"]),
            execution=Execution(limit=kept["limit"], files=kept.get("files")),
        )
        if not isinstance(row["shard_size"], int) or row["shard_size"] < 1:
            raise ValueError(f"shards of {row['shard_size']} images")
        samples = Samples(out / SOURCES, row["samples"], standing(read_log(out)))
        samples[:1]
        return Plan(job, row["samples"], row["shard_size"], row["sources_sha256"]), samples
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise RunFolderError(
            f"{out}: its plan is damaged ({fault(exc)}). Delete the run folder and run again."
        ) from exc
