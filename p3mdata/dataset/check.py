"""`p3mdata check`: is any folder of a known layout a usable dataset? Every finding names its file.

Nothing of how a dataset was made is assumed, so that the original P3M-10k and datasets of others can be checked.
"""

from __future__ import annotations

import functools
import itertools
from array import array
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from p3mdata.base.disk_backed import DiskDict, DiskList, LazyMap
from p3mdata.base.files import torn_files
from p3mdata.base.processes import default_workers
from p3mdata.base.progress import Progress, silent
from p3mdata.curation import group_ids
from p3mdata.dataset.about import ABOUT, BUILDING
from p3mdata.dataset.check_item import Finding, about_item
from p3mdata.dataset.folder import LISTING, Dataset, DatasetItem, listed_files, open_dataset
from p3mdata.dataset.foregrounds import COLOURS_DONE
from p3mdata.dataset.layout import Content
from p3mdata.errors import RunFolderError
from p3mdata.imaging import SUFFIXES
from p3mdata.imaging.listing import list_files, pictures
from p3mdata.records import Action, Outcome
from p3mdata.typing import Json

# Items that wait for a thread at a time.
_BATCH = 256


@dataclass(frozen=True)
class Check:
    """What a dataset holds and what was found in it."""

    layout: str
    sets: dict[str, int]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> int:
        """How many findings are errors; the others are warnings."""
        return sum(finding.error for finding in self.findings)

    def to_json(self) -> Json:
        found = [finding.to_json() for finding in self.findings]
        return {"layout": self.layout, "sets": self.sets, "errors": self.errors, "findings": found}


_Sets = Mapping[str, DiskDict[DatasetItem]]


def check_dataset(
    root: Path,
    layout: str | None = None,
    duplicates: bool = True,
    workers: int = 0,
    progress: Progress | None = None,
) -> Check:
    """Check a dataset: pairing, sizes, mattes, trimaps, facemasks, metadata, hashes, duplicates.

    Args:
        root: Its folder.
        layout: Name or file of a layout; None takes the one that fits.
        duplicates: Look for near-duplicates within and across sets.
        workers: Threads, and processes for the duplicates; 0 chooses.
        progress: Gets the number of items; gives a function to call after each.

    Raises:
        SettingsError: No layout fits.
    """
    dataset = open_dataset(root, layout)
    workers = workers or default_workers()
    sets = {name: dataset.shelf(name) for name in dataset.sets()}
    step = (progress or silent)(sum(map(len, sets.values())))
    listed, problem = _listed(dataset)
    findings = [
        *_about_sets(dataset, sets), *_unknown(dataset), *_names(sets), *problem, *_against(listed, dataset, sets),
        *_strangers(dataset), *_shown(dataset, not problem),
    ]  # fmt: skip
    with ThreadPoolExecutor(workers) as pool:
        for name, items in sets.items():
            waiting = iter(items.values())
            while batch := list(itertools.islice(waiting, _BATCH)):
                expected = [_expected(item, listed) for item in batch]
                for found in pool.map(functools.partial(_check_item, dataset, name), batch, expected):
                    findings += found
                    step()
    if duplicates:
        findings += _duplicates(dataset, sets, workers)
    ordered = sorted(findings, key=lambda finding: (not finding.error, finding.file, finding.code))
    return Check(dataset.layout.name, {name: len(items) for name, items in sets.items()}, tuple(ordered))


def _about_sets(dataset: Dataset, sets: _Sets) -> Iterator[Finding]:
    for name in dataset.layout.sets:
        folder = dataset.folder(name, "image").relative_to(dataset.root).as_posix()
        if name not in sets and dataset.about and not dataset.about.sets.get(name):
            # Built without it.
            continue
        if name not in sets:
            yield Finding(folder, "missing_set", f"the set {name} is not there", error=False)
        elif not sets[name]:
            yield Finding(folder, "empty_set", f"the set {name} is empty")


def _unknown(dataset: Dataset) -> Iterator[Finding]:
    """Folders with pictures that the layout has no word for, files that are no pictures, kinds that only part has."""
    layout = dataset.layout
    known = {dataset.folder(name, kind) for name, chosen in layout.sets.items() for kind in chosen.folders}
    above = {parent for folder in known for parent in folder.parents}
    told: set[Path] = set()
    for base in sorted({dataset.root, *above} & {dataset.root, *_below(dataset.root, above)}):
        for folder in sorted(path for path in base.iterdir() if path.is_dir() and not path.name.startswith(".")):
            if folder in known or folder in above or folder in told or not any(pictures(folder, recursive=True)):
                continue
            told.add(folder)
            words = f"is a folder that layout {layout.name} does not know: nothing reads its pictures"
            yield Finding(folder.relative_to(dataset.root).as_posix(), "unknown_folder", words, error=False)
    for folder in sorted(folder for folder in known if folder.is_dir()):
        others = [path for path in list_files(folder, recursive=True) if path.suffix.lower() not in SUFFIXES]
        if others:
            more = f", like {len(others) - 1} more here" if len(others) > 1 else ""
            path = others[0].relative_to(dataset.root).as_posix()
            yield Finding(path, "unknown_file", f"is no picture of a known kind{more}: nothing reads it", error=False)
    for name, chosen in layout.sets.items():
        pair = [kind for kind in ("foreground", "background") if kind in chosen.folders]
        there = [kind for kind in pair if dataset.folder(name, kind).is_dir()]
        if len(there) == 1 < len(pair):
            absent = next(kind for kind in pair if kind not in there)
            at = dataset.folder(name, absent).relative_to(dataset.root).as_posix()
            yield Finding(
                at,
                "missing_part",
                f"is not there, without it the {there[0]} colours of {name} are of no use",
                error=False,
            )


def _below(root: Path, folders: set[Path]) -> set[Path]:
    """Those that are the root, or folders in it that are there."""
    return {folder for folder in folders if folder.is_dir() and (folder == root or root in folder.parents)}


def _names(sets: _Sets) -> Iterator[Finding]:
    """Files that are one file where names are compared without case, and two files for one item."""
    for items in sets.values():
        seen: DiskDict[str] = DiskDict()
        for item in items.values():
            first = seen.setdefault(item.stem.casefold(), item.stem)
            path = next(iter(item.files.values()))[0]
            if first != item.stem:
                yield Finding(path, "name_clash", f"has the name of {first} where upper and lower case are one")
            for paths in item.files.values():
                for extra in paths[1:]:
                    yield Finding(extra, "two_files", f"is a second file beside {paths[0]}")


def _expected(item: DatasetItem, listed: Mapping[str, str]) -> dict[str, str]:
    """Hashes by path of an item's files, of those that the manifest names."""
    return {paths[0]: digest for paths in item.files.values() if (digest := listed.get(paths[0])) is not None}


def _check_item(dataset: Dataset, name: str, item: DatasetItem, expected: Mapping[str, str]) -> list[Finding]:
    return list(about_item(dataset, name, item, expected))


def _listed(dataset: Dataset) -> tuple[Mapping[str, str], list[Finding]]:
    """Hashes by path of the manifest, for datasets that have one, and what is wrong with it."""
    if not dataset.about:
        half = (dataset.root / BUILDING).is_file()
        sentence = "is missing: the dataset was not finished. Run build-split again"
        return {}, [Finding(ABOUT, "half_built", sentence)] if half else []
    try:
        return DiskDict(listed_files(dataset.rows())), []
    except (RunFolderError, TypeError, KeyError) as exc:
        return {}, [Finding(LISTING, "manifest", f"is damaged ({exc})")]


def _against(listed: Mapping[str, str], dataset: Dataset, sets: _Sets) -> Iterator[Finding]:
    """Files that are in the manifest or on disk, but not in both."""
    if not listed:
        return
    for path in listed:
        if not (dataset.root / path).is_file():
            yield Finding(path, "missing_file", "is in the manifest and not on disk")
    for items in sets.values():
        for item in items.values():
            for path in itertools.chain.from_iterable(item.files.values()):
                if path not in listed:
                    yield Finding(path, "stray_file", "is in a set but not in the manifest")


def _shown(dataset: Dataset, readable: bool) -> Iterator[Finding]:
    """Images with faces that are shown by permission: with a person's decision, and in no set of obfuscated ones."""
    for row in dataset.rows() if dataset.about and readable else ():
        if row.get("outcome") != Outcome.SHOWN_BY_PERMISSION.value:
            continue
        chosen = dataset.layout.sets.get(str(row.get("set")))
        if chosen is None or chosen.content is not Content.FREE:
            words = f"is shown by permission and lies in {row.get('set')}, where faces are obfuscated"
            yield Finding(row["image"]["path"], "shown_in_training", words)
        if (row.get("decision") or {}).get("action") != Action.SHOW.value:
            yield Finding(row["image"]["path"], "no_permission", "is shown by permission that nobody gave")


def _strangers(dataset: Dataset) -> Iterator[Finding]:
    """What killed processes left, and in a dataset of ours the files beside its folders that are not of it."""
    for path in sorted(torn_files(dataset.root)):
        sentence = "was left by a process that was killed. Run build-split again, or delete it"
        yield Finding(path.relative_to(dataset.root).as_posix(), "torn_file", sentence)
    ours = {ABOUT, LISTING, BUILDING, COLOURS_DONE}
    for path in sorted(dataset.root.iterdir()) if dataset.about else ():
        if path.is_file() and path.name not in ours and not path.name.startswith("."):
            yield Finding(path.name, "no_part", "is no part of the dataset", error=False)


def _duplicates(dataset: Dataset, sets: _Sets, workers: int) -> Iterator[Finding]:
    """Near-duplicates: an error across sets, a warning within one."""
    entries = DiskList(
        (name, path) for name, items in sets.items() for item in items.values() if (path := item.path("image"))
    )
    groups = group_ids(LazyMap(lambda entry: dataset.root / entry[1], entries), workers) if entries else []
    # Where each group appears first, and with it the next number.
    first = array("q")
    for i, group in enumerate(groups):
        if group == len(first):
            first.append(i)
        (other_set, other), (name, path) = entries[first[group]], entries[i]
        if other != path:
            across = other_set != name
            where = f"in {other_set}" if across else "in the same set"
            code = "duplicate_across_sets" if across else "duplicate"
            yield Finding(path, code, f"is a near-duplicate of {other} {where}", error=across)
