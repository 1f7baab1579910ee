"""The plan of a run: which files, which settings, which model files. Frozen before the first image is touched."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from p3mdata.base.addresses import refuse_address
from p3mdata.base.disk_backed import DiskDict
from p3mdata.base.jsonl import PRIVATE_MODE, dumps, read_json, read_rows, write_json, write_rows
from p3mdata.base.parsing import fault
from p3mdata.config import Execution, Job, Names, Settings
from p3mdata.errors import RunFolderError, start_anew
from p3mdata.faces import weights
from p3mdata.imaging.listing import passed_over
from p3mdata.records import Sample
from p3mdata.run.compare import differing_settings, differing_sources, readable_now, to_go_on
from p3mdata.run.decisions import read_log, standing
from p3mdata.run.layout import (
    JOB,
    PASSED_OVER,
    PLAN,
    PLANNING,
    PRIVATE,
    SOURCES,
    keep_private_out_of_git,
    make_private_folder,
)
from p3mdata.run.planned import Maker, Planned, read_planned
from p3mdata.run.samples import Samples
from p3mdata.run.secret import planned_secret
from p3mdata.run.sources import by_id, by_path, collect
from p3mdata.run.suspects import read_suspects
from p3mdata.typing import Json
from p3mdata.version import __version__

_MAX_SHARD = 1000
_MIN_SHARD = 4
_SHARDS_WANTED = 64
# Runs that were planned before files could keep their names go on.
_OLDER_THAN_NAMES = ("names", Names.ID.value)


@dataclass(frozen=True)
class Plan:
    """What a run consists of.

    Attributes:
        job: Folders and settings as they are now.
        samples: Number of source files.
        shard_size: Source files per shard; shard K holds rows K * size up to (K + 1) * size.
        digest: SHA-256 of the file list.
        keyed: Whether ids were made with a secret and samples are in their order; else the order is that of paths.
    """

    job: Job
    samples: int
    shard_size: int
    digest: str
    keyed: bool = True

    @property
    def shards(self) -> int:
        """How many there are; the last one may be smaller."""
        return -(-self.samples // self.shard_size)

    def members(self, samples: Sequence[Sample], shard: int) -> Sequence[Sample]:
        """Those of all samples, in plan order, that are of one shard."""
        return samples[shard * self.shard_size : (shard + 1) * self.shard_size]

    @property
    def maker(self) -> Maker:
        """This version, these settings and the model files that are here."""
        settings = self.job.settings.model_dump(mode="json")
        return Maker(
            f"p3mdata {__version__}",
            {key: value for key, value in settings.items() if (key, value) != _OLDER_THAN_NAMES},
            weights.hashes(),
        )

    def public(self) -> Planned:
        """Content of plan.json: no path of a source appears in it."""
        companions = tuple(sorted(k for k in ("alphas", "trimaps", "masks") if getattr(self.job, k)))
        return Planned(self.maker, self.samples, self.shard_size, self.digest, self.keyed, companions)


def _frozen(row: Json) -> bytes:
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


def make_plan(job: Job, write: bool = True) -> tuple[Plan, Samples]:
    """Freeze the plan of a run, or check that it is the plan of the run that is already in OUT.

    Hand-drawn masks may be added to a finished run: the images they belong to are done again.

    Raises:
        SettingsError, RunFolderError: Sources or settings do not allow this run.
    """
    if write:
        make_private_folder(job.out / PRIVATE)
    before = read_planned(job.out) if (job.out / PLAN).exists() and not job.execution.overwrite else None
    secret = planned_secret(job, before, write)
    # Beside the list that it may take the place of.
    place = tempfile.mkdtemp(prefix=PLANNING, dir=job.out / PRIVATE if write else None)
    with ExitStack() as at_end:
        at_end.callback(shutil.rmtree, place)
        listing = Path(place) / "sources.jsonl"
        plan = write_list(job, collect(job, secret), listing, secret is not None)
        if before is not None:
            plan = _of_the_run(plan, before, listing)
        if write:
            os.replace(listing, job.out / SOURCES)
            listing = job.out / SOURCES
            write_json(job.out / JOB, job_row(job), PRIVATE_MODE)
            if not job.chosen and (others := passed_over(job.source, job.settings.recursive)).endings:
                write_json(job.out / PASSED_OVER, others.to_json(), PRIVATE_MODE)
            else:
                (job.out / PASSED_OVER).unlink(missing_ok=True)
            write_json(job.out / PLAN, plan.public().to_json())
            keep_private_out_of_git(job.out)
        said = ({}, {}) if job.execution.overwrite else (standing(read_log(job.out)), read_suspects(job.out))
        samples = Samples(listing, plan.samples, *said)
        # Of the list that is on disk now; workers need not carry it.
        plan = replace(plan, job=plan.job.model_copy(update={"chosen": ()}))
        if not write:
            weakref.finalize(samples, at_end.pop_all().close)
    return plan, samples


def write_list(job: Job, samples: Iterable[Sample], path: Path, keyed: bool) -> Plan:
    """Write the list of a run's sources, with copies numbered in the order of their paths; gives the plan it makes.

    Args:
        job: Whose plan it is.
        samples: Copies of one file have one id. In the order of the paths, unless `keyed`.
        path: The list.
        keyed: Put them into the order of their ids, so that nothing that is released follows the order of the paths.
    """
    digest, count = hashlib.sha256(), 0

    def counted() -> Iterator[Json]:
        nonlocal count
        for sample in by_id(samples) if keyed else by_path(samples):
            row = sample.to_json() | {"index": count}
            digest.update(_frozen(row))
            count += 1
            yield row

    write_rows(path, counted(), PRIVATE_MODE)
    return Plan(job, count, shard_size(count), digest.hexdigest(), keyed)


def _of_the_run(plan: Plan, before: Planned, listing: Path) -> Plan:
    """The plan of a run that goes on; the list becomes that of the run, with what has become readable since.

    Raises:
        RunFolderError: It is another run: settings or files differ, and are named.
    """
    out = plan.job.out
    different = differing_settings(before.maker, plan.maker)
    if before.digest != plan.digest:
        old, new = (DiskDict((sample.source, sample) for sample in _read_samples(p)) for p in (out / SOURCES, listing))
        if changes := differing_sources(old.values(), new.values()):
            different.append(changes)
        else:
            plan = _write_again(
                plan, (readable_now(sample, new[sample.source]) for sample in _read_samples(out / SOURCES)), listing
            )
    if different:
        raise RunFolderError(
            f"{out}: holds a run made with other settings or files: {'; '.join(different)}. "
            f"Use another OUT, {to_go_on(before.maker, plan.maker)}, or --overwrite."
        )
    return plan


def of_this_version(plan: Plan) -> bool:
    """Whether this version, with its models, may make a picture of a run anew."""
    return not differing_settings(read_planned(plan.job.out).maker, plan.maker)


def refuse_other_version(plan: Plan) -> None:
    """Refuse to make a picture anew in a run that another version, or other models, made: its plan would name these.

    Raises:
        RunFolderError: With what differs. Images can still be left out and taken down.
    """
    out = plan.job.out
    if different := differing_settings(read_planned(out).maker, plan.maker):
        raise RunFolderError(
            f"{out}: was made otherwise than this version would: {'; '.join(different)}. Nothing was made anew. Decide "
            "with the version that made the run, or make a new run; 'exclude' and 'p3mdata remove' work all the same."
        )


def _write_again(plan: Plan, samples: Iterable[Sample], listing: Path) -> Plan:
    """Write the list of a run in the order that it has."""
    digest = hashlib.sha256()

    def noted() -> Iterator[Json]:
        for sample in samples:
            row = sample.to_json()
            digest.update(_frozen(row))
            yield row

    write_rows(listing, noted(), PRIVATE_MODE)
    return replace(plan, digest=digest.hexdigest())


def job_row(job: Job) -> Json:
    """Where a run's files are and which of them it takes, for its private part."""
    files = job.execution.files
    return {
        "limit": job.execution.limit,
        "files": None if files is None else str(files.resolve()),
        "folders": job_paths(job),
        **(
            {"chosen": hashlib.sha256("\0".join(job.chosen).encode("utf-8", "surrogateescape")).hexdigest()}
            if job.chosen
            else {}
        ),
    }


def job_paths(job: Job) -> dict[str, str]:
    """Absolute folders of a job, for the private part of a run."""
    names = ("source", "place", "alphas", "trimaps", "masks")
    paths = {name: str(getattr(job, name).resolve()) for name in names if getattr(job, name)}
    return {"out": paths.pop("place"), **paths}


def _read_samples(listing: Path) -> Iterator[Sample]:
    try:
        for row in read_rows(listing):
            yield Sample.from_json(row)
    except (KeyError, TypeError, IndexError) as exc:
        raise RunFolderError(f"{listing}: is damaged ({fault(exc)}). {start_anew(listing.parent.parent)}") from exc


def read_plan(out: Path) -> tuple[Plan, Samples]:
    """The plan of an existing run.

    Raises:
        RunFolderError: The folder is not a run, lies in an object store, or its plan is damaged.
    """
    refuse_address(out)
    if not (out / PLAN).is_file():
        raise RunFolderError(f"{out}: is not a run folder (it has no {PLAN}). Run 'p3mdata anonymize dir SRC {out}'.")
    planned, kept = read_planned(out), read_json(out / JOB, start_anew(out))
    try:
        folders = {**kept["folders"], "out": out}
        job = Job(
            **folders,
            settings=Settings(**planned.maker.settings),
            execution=Execution(limit=kept["limit"], files=kept.get("files")),
        )
        samples = Samples(out / SOURCES, planned.samples, standing(read_log(out)), read_suspects(out))
        samples[:1]
        return Plan(job, planned.samples, planned.shard_size, planned.digest, planned.keyed), samples
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise RunFolderError(f"{out}: its plan is damaged ({fault(exc)}). {start_anew(out)}") from exc
