"""Take-down: withdraw images from a finished run and leave a tombstone that says nothing about a person."""

from __future__ import annotations

import datetime
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from p3mdata.base.html import count
from p3mdata.base.jsonl import read_rows, write_json, write_rows
from p3mdata.dataset.about import ABOUT, BUILDING, read_about
from p3mdata.dataset.attributes import balance_of
from p3mdata.dataset.folder import LISTING, begun_dataset, listed_files, owned_dataset
from p3mdata.errors import RunFolderError, SettingsError, unwritable
from p3mdata.records import Action, Sample
from p3mdata.review.session import reviewing
from p3mdata.run.close import RunSummary
from p3mdata.run.decisions import forget_masks, read_log, standing
from p3mdata.run.derived import DATASET, Tombstone, dataset_version, read_derived, tombstones, write_tombstones
from p3mdata.run.plan import read_plan


@dataclass(frozen=True)
class Removal:
    """What a take-down came to.

    Attributes:
        ids: Images withdrawn by this call.
        version: Version of the dataset now; each take-down raises it by one.
        cleaned: Datasets from which the images were taken out too.
        rebuild: Exports that still hold them and must be built again, or are to be deleted where they are.
        gone: Datasets and exports that are not where they were made, and hold them still where they were moved to.
        summary: Counts of the run now.
    """

    ids: tuple[str, ...]
    version: int
    cleaned: tuple[str, ...]
    rebuild: tuple[str, ...]
    gone: tuple[str, ...]
    summary: RunSummary


def remove_images(out: Path, names: Sequence[str]) -> Removal:
    """Withdraw images from a run: images, facemasks, alphas, manifest, ledger details and masks drawn for them.

    Args:
        out: The run folder.
        names: Ids, or paths of sources below the source folder. Copies of the same photograph go with it.

    Raises:
        SettingsError: A name is not of this run; nothing was done.
        RunFolderError: Not a run, not finished, or in use; or a dataset made of it, from which all is taken out that
            can be.
    """
    _, samples = read_plan(out)
    ids = _named(out, samples, names)
    with reviewing(out, takes_down=True) as session:
        for identity in ids:
            decision = session.item(identity).decision
            # A call that was interrupted is finished by the same call.
            if decision is None or decision.action is not Action.REMOVE:
                session.decide(identity, Action.REMOVE)
            forget_masks(out, identity)
        version = _bury(out)
        try:
            summary = session.close(always=True)
            assert summary is not None
        finally:
            # Whatever keeps the run from being closed again, keeps the images in no dataset.
            cleaned, rebuild, gone, faults = _clean_derived(out, version)
    if faults:
        raise RunFolderError(
            f"{faults[0]} The images are taken down from {out}, but not yet from {count(len(faults), 'dataset')} made "
            "of it. Run the same command again then."
        )
    return Removal(tuple(ids), version, tuple(cleaned), tuple(rebuild), tuple(gone), summary)


def _named(out: Path, samples: Iterable[Sample], names: Sequence[str]) -> list[str]:
    of_run = list(samples)
    by_name = {sample.source: sample.id for sample in of_run} | {sample.id: sample.id for sample in of_run}
    if unknown := [name for name in names if name not in by_name]:
        raise SettingsError(
            f"{out}: no image of this run is called '{unknown[0]}'. Give ids as in manifest.jsonl, or source paths; "
            "nothing was removed."
        )
    ids = {by_name[name] for name in names}
    photographs = {sample.sha256 for sample in of_run if sample.id in ids} - {""}
    return [sample.id for sample in of_run if sample.id in ids or sample.sha256 in photographs]


def _bury(out: Path) -> int:
    """Write a tombstone for every image that was taken down and has none; returns the version."""
    tombs = list(tombstones(out))
    buried = {tomb.id for tomb in tombs}
    removed = {i for i, decision in standing(read_log(out)).items() if decision.action is Action.REMOVE}
    version = dataset_version(out) + bool(removed - buried)
    date = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    write_tombstones(out, [*tombs, *(Tombstone(identity, version, date) for identity in sorted(removed - buried))])
    return version


def still_in(out: Path, ids: Sequence[str]) -> list[tuple[str, int | None]]:
    """Datasets and exports made of a run that hold some of its images, and how many; None where that cannot be told."""
    wanted = set(ids)
    found: list[tuple[str, int | None]] = []
    for made in read_derived(out) if wanted else ():
        path = Path(made.path)
        if made.kind != DATASET or not (path / LISTING).is_file():
            found += [(str(path), None)] if path.exists() else []
        elif number := sum(entry["id"] in wanted for entry in read_rows(path / LISTING, needs=("id",))):
            found.append((str(path), number))
    return found


def _clean_derived(out: Path, version: int) -> tuple[list[str], list[str], list[str], list[str]]:
    """Take everything that was ever removed out of datasets built from a run.

    Returns:
        Datasets that were cleaned, other exports, what is not there any more, and why a dataset could not be cleaned,
        a sentence each.
    """
    removed = {tomb.id for tomb in tombstones(out)}
    cleaned: list[str] = []
    rebuild: list[str] = []
    gone: list[str] = []
    faults: list[str] = []
    for made in read_derived(out):
        path = Path(made.path)
        if made.kind != DATASET or not path.is_dir():
            (rebuild if path.exists() else gone).append(str(path))
            continue
        # One that is in use or damaged keeps the images in no other.
        try:
            with owned_dataset(path):
                if (path / ABOUT).is_file():
                    _clean_dataset(path, removed, version)
                    cleaned.append(str(path))
                elif (path / BUILDING).is_file():
                    _clean_begun(path, removed)
                    rebuild.append(str(path))
        except RunFolderError as exc:
            faults.append(str(exc))
        except OSError as exc:
            faults.append(str(unwritable(path, exc)))
    return cleaned, rebuild, gone, faults


def _clean_begun(path: Path, removed: set[str]) -> None:
    """Take images out of a dataset that was not finished, whose files no list names yet."""
    dataset = begun_dataset(path)
    for name in dataset.layout.sets:
        for item in dataset.shelf(name).values():
            if item.stem in removed:
                for file in itertools.chain.from_iterable(item.files.values()):
                    (path / file).unlink(missing_ok=True)


def _clean_dataset(path: Path, removed: set[str], version: int) -> None:
    rows = list(read_rows(path / LISTING, needs=("id", "set")))
    for row in rows:
        if row["id"] in removed:
            for file, _ in listed_files([row]):
                (path / file).unlink(missing_ok=True)
    kept = [row for row in rows if row["id"] not in removed]
    about = read_about(path)
    counts = Counter(row["set"] for row in kept)
    version = max(version, about.version + (len(kept) != len(rows)))
    write_rows(path / LISTING, kept)
    about = replace(
        about,
        version=version,
        sets={name: counts[name] for name in about.sets},
        balance=balance_of((row["set"], row["traits"]) for row in kept),
    )
    write_json(path / ABOUT, about.to_json())
