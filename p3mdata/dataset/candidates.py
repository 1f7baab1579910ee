"""Released images of a run that can enter a dataset, and what a split must know of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from p3mdata.base.disk_backed import DiskList, LazyMap
from p3mdata.base.jsonl import read_rows
from p3mdata.base.progress import Progress, silent
from p3mdata.curation import group_ids
from p3mdata.dataset.attributes import Pose, poses_of, traits_of
from p3mdata.dataset.split import Candidate, join_groups
from p3mdata.errors import RunFolderError, SettingsError, reason_of
from p3mdata.records import ImageResult, Outcome, Sample
from p3mdata.run.identities import from_prefix, identify
from p3mdata.run.job import verify_run
from p3mdata.run.layout import IMAGES, SOURCES
from p3mdata.run.plan import Plan
from p3mdata.run.public import PublicRow
from p3mdata.run.rows import finished_rows

# Folders of a run by the kind of their files.
RUN_KINDS = {"image": "images", "alpha": "alphas", "facemask": "facemasks"}


@dataclass
class Counts:
    """Of all rows of the run."""

    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Entrant:
    """What a dataset needs to know of a released image, without its landmarks."""

    id: str
    source: str
    outcome: Outcome
    files: Mapping[str, tuple[str, str]]
    public: PublicRow
    traits: Mapping[str, str]
    poses: Sequence[Pose] = ()

    @classmethod
    def of(cls, row: ImageResult) -> Entrant:
        return cls(row.id, row.source, row.outcome, row.files, PublicRow.of(row), traits_of(row), poses_of(row))


def usable_of(
    plan: Plan, samples: Iterable[Sample], verify: bool, workers: int, progress: Progress = silent
) -> tuple[Counts, DiskList[Entrant], list[tuple[str, str]]]:
    """Counts of all rows, the released ones that can enter a dataset, and (source, why) of the other released ones.

    Args:
        plan, samples: Of the run.
        verify: Have every released image proved first, where it was not and is not as it was.
        workers: Processes for that.
        progress: Of that.

    Raises:
        SettingsError: No image can enter.
        RunFolderError: The run is not finished, or its manifest or ledger is not what it was.
    """
    if verify:
        _, findings = verify_run(plan.job.out, progress, workers, again=False)
        if general := [finding for finding in findings if not finding.id]:
            raise RunFolderError(f"{plan.job.out}: {general[0].sentence}. Run 'p3mdata verify' and repair the run.")
        failed = {finding.id: finding.sentence for finding in findings}
    else:
        failed = {}
    usable: DiskList[Entrant] = DiskList()
    refused = []
    everything = Counts()
    for row in finished_rows(plan, samples):
        everything.outcomes[row.outcome.value] += 1
        everything.reasons.update([row.reason] if row.reason else ())
        if not row.outcome.released:
            continue
        if row.id in failed:
            refused.append((row.source, f"fails a proof: {failed[row.id]}"))
        elif "alphas" not in row.files:
            refused.append((row.source, "has no alpha matte"))
        else:
            usable.append(Entrant.of(row))
    if not usable:
        what = (
            "no released image has an alpha matte: run 'p3mdata anonymize dir' with --alphas"
            if refused
            else "nothing was released"
        )
        raise SettingsError(f"{plan.job.out}: {what}.")
    return everything, usable, refused


def candidates_of(
    plan: Plan,
    rows: Sequence[Entrant],
    group_by: Sequence[str],
    free_list: Path | None,
    workers: int,
    progress: Progress = silent,
) -> list[Candidate]:
    """What the split knows of each image; see `build.SplitSettings` for `group_by` and `free_list`.

    Raises:
        SettingsError: A file of persons or the list of free images cannot be used.
    """
    declared = [_declared(LazyMap(lambda row: row.source, rows), how, plan) for how in group_by]
    alike = group_ids(LazyMap(lambda row: plan.job.out / IMAGES / row.files["images"][0], rows), workers, progress)
    groups = join_groups(len(rows), alike, *(_named(names, number) for number, names in enumerate(declared)))
    allowed = _free_ids(free_list, rows)
    # One object for all images of a stratum, of which there are few.
    strata: dict[tuple[str, ...], tuple[str, ...]] = {}
    return [
        Candidate(
            id=row.id,
            group=groups[i],
            unit=next((f"{how}:{names[i]}" for how, names in zip(group_by, declared, strict=True) if names[i]), row.id),
            stratum=strata.setdefault(stratum := tuple(row.traits.values()), stratum),
            free=row.id in allowed,
            shown=row.outcome is Outcome.SHOWN_BY_PERMISSION,
        )
        for i, row in enumerate(rows)
    ]


def _declared(sources: Sequence[str], how: str, plan: Plan) -> list[str | None]:
    """Name of the person or series of each source; `auto` takes prefixes where there are some."""
    if how == "auto":
        return [from_prefix(source) for source in sources]
    found = identify(sources, how, (str(row["source"]) for row in read_rows(plan.job.out / SOURCES)))
    return [found.get(source) for source in sources]


def _named(names: Sequence[str | None], number: int) -> list[tuple[int, str] | None]:
    return [None if name is None else (number, name) for name in names]


def _free_ids(path: Path | None, rows: Sequence[Entrant]) -> set[str]:
    """Ids of images that may be published as they are: with nothing to hide, or shown by permission."""
    without = {row.id for row in rows if row.outcome in (Outcome.NO_FACE_CONFIRMED, Outcome.SHOWN_BY_PERMISSION)}
    if path is None:
        return without
    try:
        wanted = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(f"{path}: cannot be read ({reason_of(exc)}). Give one id or source path per line.") from exc
    by_name = {row.source: row.id for row in rows} | {row.id: row.id for row in rows}
    if unknown := [name for name in wanted if name not in by_name]:
        raise SettingsError(f"{path}: '{unknown[0]}' is no released image with a matte of this run. Remove the line.")
    named = {by_name[name]: name for name in wanted}
    if masked := [name for identity, name in named.items() if identity not in without]:
        raise SettingsError(
            f"{path}: '{masked[0]}' was obfuscated in the run, so it cannot be published as it is. If nothing in it is "
            "private, decide no_face for it in 'p3mdata review'."
        )
    return set(named)
