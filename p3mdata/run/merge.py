"""Runs that were made apart become one: the bytes are those of one run over all of their source files.

The merged run has the secret of the first; runs that were planned with another one get ids anew.

The runs may lie over one source folder (with --files) or over folders of their own; then the sources of the merged run
are those below the folder that all of them lie in. Nothing of the runs is changed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from p3mdata.base.addresses import is_address, is_remote
from p3mdata.base.disk_backed import DiskDict, DiskList
from p3mdata.base.files import RELEASED_AT, empty, owned_folder, sha256, write_atomic
from p3mdata.base.ids import sample_id
from p3mdata.base.jsonl import PRIVATE_MODE, write_json
from p3mdata.base.progress import Progress, silent
from p3mdata.config import Job
from p3mdata.errors import RunFolderError, SettingsError, not_finished, unwritable
from p3mdata.records import Action, Decision, ImageResult, Sample, one_ending
from p3mdata.run.close import RunSummary, close_run
from p3mdata.run.compare import differing_settings
from p3mdata.run.decisions import mask_name, read_log, write_log
from p3mdata.run.derived import read_derived, tombstones, write_derived, write_tombstones
from p3mdata.run.inputs import inputs_digest
from p3mdata.run.layout import (
    JOB,
    KINDS,
    PLAN,
    PRIVATE,
    REVIEW,
    SECRET,
    SHARDS,
    SOURCES,
    make_private_folder,
    shard_folder,
)
from p3mdata.run.locks import finished_run
from p3mdata.run.names import plain
from p3mdata.run.plan import Plan, job_row, write_list
from p3mdata.run.planned import read_planned
from p3mdata.run.rows import Rows, open_shards
from p3mdata.run.samples import Samples
from p3mdata.run.secret import secret_of
from p3mdata.run.shards import finish_shard
from p3mdata.run.suspects import append_suspects

_COMPANIONS = {"alpha": "alphas", "trimap": "trimaps", "mask": "masks"}


@dataclass(frozen=True)
class _Part:
    """One of the runs; `prefixes` lead from the merged folders to its own, `secret` is that of the merged run,
    and `renamed` tells whether the run had another one."""

    plan: Plan
    samples: Samples
    prefixes: Mapping[str, str]
    secret: str | None
    renamed: bool

    @property
    def out(self) -> Path:
        return self.plan.job.out

    def moved(self, sample: Sample) -> Sample:
        """A sample as the merged run names it, before copies are numbered."""
        source = self.prefixes["source"] + sample.source
        identity = sample_id(sample.sha256, source, self.plan.job.settings.seed, self.secret)
        return replace(
            sample,
            id=identity,
            source=source,
            name=None if sample.name is None else plain(self.prefixes["source"] + sample.name),
            alpha=self._moved("alpha", sample.alpha),
            trimap=self._moved("trimap", sample.trimap),
            mask=self._moved("mask", sample.mask),
        )

    def _moved(self, what: str, entry: tuple[str, str] | None) -> tuple[str, str] | None:
        """A companion as the merged run names it."""
        return None if entry is None else (self.prefixes[_COMPANIONS[what]] + entry[0], entry[1])


def merge_runs(runs: Sequence[Path], out: Path, on_start: Progress | None = None) -> RunSummary:
    """Make one run of finished runs with equal settings over different source files.

    Decisions, drawn masks and tombstones come along; audits and random samples do not, since they are of one run.

    Args:
        runs: Two or more run folders.
        out: A new folder.
        on_start: Gets the number of images; gives a function that is called after each.

    Raises:
        SettingsError, RunFolderError: They cannot be merged; nothing was written.
    """
    if len({path.resolve() for path in runs}) < max(2, len(runs)):
        raise SettingsError("merge: name two or more different runs, or one run to close it.")
    if is_address(out):
        raise SettingsError(f"{out}: --out must be a folder of this machine, not an address.")
    if os.path.lexists(out) and not (out.is_dir() and not any(out.iterdir())):
        raise RunFolderError(f"{out}: exists. Choose a new folder for the merged run.")
    with ExitStack() as held:
        plans = [held.enter_context(finished_run(path)) for path in runs]
        job, prefixes = _merged_job([plan for plan, _ in plans], out)
        secrets = [secret_of(path, read_planned(path)) for path in runs]
        # Runs that were planned apart have secrets of their own; the first one names everything anew.
        secret = next((own for own in secrets if own is not None), None)
        parts = [
            _Part(*pair, own, secret, before != secret)
            for pair, own, before in zip(plans, prefixes, secrets, strict=True)
        ]
        building = out.with_name(f".{out.name}.merging")
        try:
            held.enter_context(owned_folder(building))
            held.callback(shutil.rmtree, building, ignore_errors=True)
            # Of a merge that was killed.
            empty(building)
            summary = _build(job, parts, building, on_start or silent)
            os.replace(building, out)
        except OSError as exc:
            raise unwritable(out, exc) from exc
    return replace(summary, out=out)


def _merged_job(plans: Sequence[Plan], out: Path) -> tuple[Job, list[dict[str, str]]]:
    """The job that the merged run is one of, and for each run the prefixes of its folders.

    Raises:
        RunFolderError: Settings differ; their keys are named.
    """
    first = plans[0]
    for plan in plans[1:]:
        different = differing_settings(read_planned(first.job.out).maker, read_planned(plan.job.out).maker)
        for name in ("alphas", "trimaps"):
            if (getattr(first.job, name) is None) != (getattr(plan.job, name) is None):
                different.append(f"{name} (given for one of them only)")
        if different:
            raise RunFolderError(
                f"{plan.job.out}: was made otherwise than {first.job.out}: {'; '.join(different)}. Nothing was merged."
            )
    roots: dict[str, Path] = {}
    prefixes: list[dict[str, str]] = [{} for _ in plans]
    for name in ("source", *_COMPANIONS.values()):
        given = [folder for plan in plans if (folder := getattr(plan.job, name)) is not None]
        if not given:
            continue
        if any(is_remote(folder) for folder in given):
            if len({str(folder) for folder in given}) > 1:
                raise RunFolderError(f"{out}: runs over different addresses cannot be merged: {given[0]}, {given[1]}.")
            roots[name] = given[0]
            for own in prefixes:
                own[name] = ""
            continue
        roots[name] = Path(os.path.commonpath(given))
        for plan, own in zip(plans, prefixes, strict=True):
            inner = Path(os.path.relpath(getattr(plan.job, name) or roots[name], roots[name])).as_posix()
            own[name] = "" if inner == "." else f"{inner}/"
    return Job(out=out, settings=first.job.settings, **roots), prefixes


class _Origins:
    """Where the samples of the merged run come from, by their paths: a run and a position in it.

    Raises:
        RunFolderError: A source file is in two of the runs, or a run is not finished.
    """

    def __init__(self, parts: Sequence[_Part]) -> None:
        self.parts = parts
        self._places: DiskDict[tuple[int, int]] = DiskDict()
        self._rows: list[Sequence[ImageResult]] = []
        for number, part in enumerate(parts):
            rows: Sequence[ImageResult] = Rows(part.plan)
            if open_shards(part.plan):
                raise not_finished(part.out)
            for place, (sample, row) in enumerate(zip(part.samples, rows, strict=True)):
                if row.inputs != inputs_digest(sample):
                    raise not_finished(part.out)
                source = part.moved(sample).source
                if (before := self._places.get(source)) is not None:
                    raise RunFolderError(
                        f"{part.out}: {sample.source} is in {parts[before[0]].out} as well. Merge runs over different "
                        "source files."
                    )
                self._places[source] = number, place
            # Under their own names the rows of a run come in its order; under new ones they are asked for anyhow.
            self._rows.append(DiskList(rows) if part.renamed else rows)

    def of(self, source: str) -> tuple[int, Sample, ImageResult]:
        """Number of the run, sample and row of a source file."""
        number, place = self._places[source]
        return number, self.parts[number].samples[place], self._rows[number][place]

    def moved(self) -> Iterator[Sample]:
        """Samples as the merged run names them, by path, before copies are numbered."""
        for number, place in self._places.values():
            yield self.parts[number].moved(self.parts[number].samples[place])


def _build(job: Job, parts: Sequence[_Part], building: Path, on_start: Progress) -> RunSummary:
    for folder in (PRIVATE, SHARDS, REVIEW):
        make_private_folder(building / folder)
    origins, secret = _Origins(parts), parts[0].secret
    frozen = (replace(moved, decision=None, suspects=()) for moved in origins.moved())
    plan = write_list(job.model_copy(update={"out": building}), frozen, building / SOURCES, secret is not None)
    if secret is not None:
        write_atomic(building / SECRET, f"{secret}\n".encode(), PRIVATE_MODE)
    write_json(building / JOB, job_row(job), PRIVATE_MODE)
    write_json(building / PLAN, plan.public().to_json())
    step = on_start(plan.samples)
    buried = {
        sample.sha256: part
        for part in parts
        for sample in part.samples
        if sample.sha256 and sample.decision is not None and sample.decision.action is Action.REMOVE
    }
    ids: list[dict[str, str]] = [{} for _ in parts]
    logs = [read_log(part.out) for part in parts]
    decided = [{identity for identity, _ in log} for log in logs]
    shard: list[ImageResult] = []
    for new in Samples(building / SOURCES, plan.samples):
        number, old, row = origins.of(new.source)
        part = parts[number]
        _refuse_copy_of_removed(part, old, buried)
        if old.id in decided[number]:
            ids[number][old.id] = new.id
        suspects = tuple(replace(found, decided=_renamed(found.decided, new.id)) for found in old.suspects)
        if suspects:
            append_suspects(building, new.id, suspects)
        as_decided = replace(new, decision=_renamed(old.decision, new.id), suspects=suspects)
        shard.append(_take(part, row, as_decided, building))
        step()
        if len(shard) == plan.shard_size or new.index == plan.samples - 1:
            finish_shard(shard_folder(building, new.index // plan.shard_size), shard, {})
            shard = []
    _carry_over(parts, logs, ids, building)
    return close_run(plan, 0.0)


def _refuse_copy_of_removed(part: _Part, sample: Sample, buried: Mapping[str, _Part]) -> None:
    """Who had a photograph taken down from one of the runs meant its copies in the others too."""
    if sample.decision is not None and sample.decision.action is Action.REMOVE:
        return
    if (other := buried.get(sample.sha256)) is not None:
        raise RunFolderError(
            f"{part.out}: {sample.id} is a copy of a photograph that was taken down in {other.out}. "
            f"Run 'p3mdata remove {part.out} {sample.id}' first."
        )


def _renamed(decision: Decision | None, identity: str) -> Decision | None:
    if decision is None or decision.mask is None:
        return decision
    return replace(decision, mask=(mask_name(identity, decision.mask[1]), decision.mask[1]))


def _take(part: _Part, row: ImageResult, sample: Sample, building: Path) -> ImageResult:
    """Bring an image's files over and give its row in the merged run."""
    files = {
        kind: (sample.released_as(kind, one_ending(Path(name).suffix)[1:]), digest)
        for kind, (name, digest) in row.files.items()
    }
    for kind in KINDS:
        if kind in files:
            if (building / kind / files[kind][0]).exists():
                raise RunFolderError(
                    f"{part.out}: {sample.source} would be released as {kind}/{files[kind][0]}, like another "
                    "photograph. Merge runs whose sources lie in folders of their own, or runs with --names id."
                )
            _bring(part.out / kind / row.files[kind][0], building / kind / files[kind][0], files[kind][1])
    return replace(
        row, id=sample.id, source=sample.source, files=files, decision=sample.decision, inputs=inputs_digest(sample)
    )


def _bring(source: Path, target: Path, digest: str, mode: int = 0o644) -> None:
    """One file under its new name; it shares the disk space of the old one where it can."""
    try:
        data = source.read_bytes()
    except OSError as exc:
        raise RunFolderError(f"{source}: cannot be read ({exc.strerror}). Nothing was merged.") from exc
    if sha256(data) != digest:
        raise RunFolderError(f"{source}: is not the file that was released. Run its part again; nothing was merged.")
    target.parent.mkdir(mode=0o755 if mode & 0o077 else 0o700, parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        # Another disk, or one without links.
        write_atomic(target, data, mode, RELEASED_AT)


def _carry_over(
    parts: Sequence[_Part],
    logs: Sequence[Sequence[tuple[str, Decision]]],
    ids: Sequence[Mapping[str, str]],
    building: Path,
) -> None:
    """Decisions with their masks, tombstones, and the register of what was built from the runs."""
    merged: list[tuple[str, Decision]] = []
    for part, log, new in zip(parts, logs, ids, strict=True):
        for identity, decision in log:
            moved = _renamed(decision, new[identity])
            assert moved is not None
            merged.append((new[identity], moved))
            # Masks of images that were taken down are gone.
            if decision.mask and moved.mask and (part.out / PRIVATE / decision.mask[0]).exists():
                place = building / PRIVATE
                if not (place / moved.mask[0]).exists():
                    _bring(part.out / PRIVATE / decision.mask[0], place / moved.mask[0], moved.mask[1], PRIVATE_MODE)
    if merged:
        write_log(building, merged)
    tombs = [
        replace(tomb, id=new[tomb.id]) for part, new in zip(parts, ids, strict=True) for tomb in tombstones(part.out)
    ]
    if tombs:
        write_tombstones(building, sorted(tombs, key=lambda tomb: (tomb.version, tomb.id)))
    # Take-downs do not find their images in what was built under other ids: it is named as what must be built again.
    derived = [
        replace(made, kind=f"{made.kind} of {part.out.name}") if part.renamed else made
        for part in parts
        for made in read_derived(part.out)
    ]
    if derived:
        write_derived(building, derived)
