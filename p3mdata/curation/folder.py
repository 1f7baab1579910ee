"""Look at a folder, or at a run: which pictures are copies, which of them a data set keeps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from p3mdata.base.disk_backed import LazyMap
from p3mdata.base.files import owned_folder, write_atomic
from p3mdata.base.jsonl import PRIVATE_MODE, write_rows
from p3mdata.base.progress import Progress
from p3mdata.curation.clusters import cluster
from p3mdata.curation.fingerprints import NEAR, distances
from p3mdata.curation.results import Curation, Duplicates, Member
from p3mdata.curation.rules import Rules, curate, rank
from p3mdata.curation.scan import Look, Task, look_at_all
from p3mdata.errors import OTHER_PLACE, SettingsError, unwritable
from p3mdata.imaging import SUFFIXES
from p3mdata.imaging.listing import list_files
from p3mdata.records import ImageResult
from p3mdata.run.layout import ALPHAS, IMAGES, LEDGER, PLAN
from p3mdata.run.rows import image_rows

KEPT = "kept.txt"
REJECTED = "rejected.jsonl"
WARNINGS = "warnings.jsonl"
PAGE = "duplicates.html"


def _resolve(folder: Path) -> tuple[Path, Path | None]:
    """Folder of the pictures, and the run it belongs to."""
    if not folder.is_dir():
        what = "is a file. Give the folder it is in" if folder.is_file() else "does not exist. Check the path"
        raise SettingsError(f"{folder}: {what}.")
    if (folder / PLAN).is_file():
        return folder / IMAGES, folder
    return folder, folder.parent if folder.name == "images" and (folder.parent / PLAN).is_file() else None


def _pictures(folder: Path) -> list[str]:
    """Relative paths of all pictures, sorted."""
    found = (path for path in list_files(folder, recursive=True) if path.suffix.lower() in SUFFIXES)
    names = sorted(path.relative_to(folder).as_posix() for path in found)
    if not names:
        raise SettingsError(f"{folder}: holds no pictures. Supported endings: {' '.join(sorted(SUFFIXES))}.")
    return names


def _clusters(looks: Sequence[Look], distance: float | None) -> list[list[int]]:
    return cluster(LazyMap(lambda seen: seen.fingerprint, looks), distance)


def _members(names: Sequence[str], looks: Sequence[Look], indices: Sequence[int]) -> tuple[Member, ...]:
    best = min(indices, key=lambda i: rank(names[i], looks[i]))
    ordered = [best, *sorted(set(indices) - {best})]
    marks = [mark for i in ordered if (mark := looks[i].fingerprint) is not None]
    first = marks[0]
    apart = distances(np.stack([first.thumb] * len(marks)), np.stack([mark.thumb for mark in marks]))
    kinds = ["best", *("exact" if mark.sha256 == first.sha256 else "near" for mark in marks[1:])]
    return tuple(
        Member(names[i], kind, round(float(d), 4) if kind == "near" else 0.0, mark.width, mark.height, mark.sha256)
        for i, kind, d, mark in zip(ordered, kinds, apart, marks, strict=True)
    )


def _duplicates(
    folder: Path, run: Path | None, names: Sequence[str], looks: Sequence[Look], clusters: Sequence[Sequence[int]]
) -> Duplicates:
    unreadable = tuple((name, seen.problem[1]) for name, seen in zip(names, looks, strict=True) if seen.problem)
    found = tuple(_members(names, looks, indices) for indices in clusters)
    return Duplicates(folder, run, len(names), found, unreadable)


def find_duplicates(folder: Path, workers: int = 0, progress: Progress | None = None) -> Duplicates:
    """Find the copies among all pictures below a folder, or among the released images of a run.

    Args:
        folder: A folder, or a run folder.
        workers: Processes; 0 chooses.
        progress: Told the number of files, gives what is called after each of them.

    Raises:
        SettingsError: The folder cannot be used.
        Interrupted: Stopped by Ctrl-C.
    """
    pictures, run = _resolve(folder)
    names = _pictures(pictures)
    looks = look_at_all(LazyMap(lambda name: Task(pictures / name), names), workers, progress)
    return _duplicates(pictures, run, names, looks, _clusters(looks, NEAR))


def group_ids(paths: Sequence[Path], workers: int = 0, progress: Progress | None = None) -> list[int]:
    """A number per file that copies of one photograph have in common, from 0 in the order of first appearance.

    A file that cannot be read has a number of its own.

    Raises:
        Interrupted: Stopped by Ctrl-C.
    """
    first = np.arange(len(paths))
    for members in _clusters(look_at_all(LazyMap(Task, paths), workers, progress), NEAR):
        first[members] = members[0]
    return list(np.unique(first, return_inverse=True)[1].tolist())


def _alphas(folder: Path | None, names: Sequence[str]) -> dict[str, Path]:
    """Matte of each picture: of the same path without its ending, else the only one of its bare name."""
    if folder is None:
        return {}
    if not folder.is_dir():
        raise SettingsError(f"{folder}: the folder given as --alphas does not exist. Check the path.")
    by_stem: dict[str, list[Path]] = defaultdict(list)
    by_name: dict[str, list[Path]] = defaultdict(list)
    for path in list_files(folder, recursive=True):
        if path.suffix.lower() in SUFFIXES:
            stem = PurePosixPath(path.relative_to(folder).as_posix()).with_suffix("")
            by_stem[str(stem)].append(path)
            by_name[stem.name].append(path)
    found: dict[str, Path] = {}
    for name in names:
        stem = PurePosixPath(name).with_suffix("")
        mattes = by_stem.get(str(stem)) or by_name.get(stem.name, [])
        if len(mattes) > 1:
            raise SettingsError(f"{folder}: holds {len(mattes)} files that could be the alpha of {name}. Keep one.")
        found |= {name: mattes[0]} if mattes else {}
    return found


def _faces(run: Path | None, released: bool) -> Mapping[str, ImageResult]:
    """Rows of a run by the name of the released image, or by that of the source."""
    if run is None:
        return {}
    if not (run / LEDGER).is_file():
        raise SettingsError(f"{run}: is not a finished run (it has no {LEDGER}). Finish it, or leave the run out.")
    rows = image_rows(run / LEDGER)
    if released:
        return {row.files["images"][0]: row for row in rows if "images" in row.files}
    # What was not looked at has no faces to count.
    return {row.source: row for row in rows if row.width is not None}


def curate_folder(
    source: Path,
    rules: Rules | None = None,
    alphas: Path | None = None,
    run: Path | None = None,
    workers: int = 0,
    progress: Progress | None = None,
) -> Curation:
    """Apply the collection rules to all pictures below a folder, or to the released images of a run.

    How much of a picture is a person is told by its matte, else by the faces that a run found in it; else nobody asks.

    Args:
        source: A folder, or a run folder; of a run, its released mattes and its ledger are used.
        rules: What is asked; None asks what `Rules()` does.
        alphas: Mattes, found by the name of the picture.
        run: A finished run over `source`, for the faces.
        workers: Processes; 0 chooses.
        progress: Told the number of files, gives what is called after each of them.

    Raises:
        SettingsError: A folder cannot be used.
        Interrupted: Stopped by Ctrl-C.
    """
    rules = Rules() if rules is None else rules
    pictures, own = _resolve(source)
    names = _pictures(pictures)
    if own is not None and alphas is None and (own / ALPHAS).is_dir():
        alphas = own / ALPHAS
    mattes = _alphas(alphas, names)
    rows = _faces(own or run, released=own is not None)
    tasks = LazyMap(lambda name: Task(pictures / name, mattes.get(name), True), names)
    looks = look_at_all(tasks, workers, progress)
    clusters = _clusters(looks, rules.distance if rules.near_duplicates else None)
    entries = curate(names, looks, clusters, rules, [rows.get(name) for name in names])
    return Curation(rules, tuple(entries), _duplicates(pictures, own, names, looks, clusters))


def write_curation(curation: Curation, out_dir: Path) -> Path:
    """Write kept.txt, rejected.jsonl, warnings.jsonl (of kept files) and duplicates.html; returns the page's path.

    Raises:
        SettingsError: The folder cannot be written.
    """
    from p3mdata.curation.page import write_page

    rejected: list[dict[str, str]] = []
    warned: list[dict[str, str]] = []
    for entry in curation.entries:
        remarks, rows = ((entry.rejected,), rejected) if entry.rejected else (entry.warnings, warned)
        rows += [{"source": entry.source, "reason": one.code, "sentence": one.sentence} for one in remarks]
    names = "".join(f"{name}\n" for name in curation.kept)
    try:
        with owned_folder(out_dir, deep=False):
            write_atomic(out_dir / KEPT, names.encode("utf-8", "surrogateescape"), PRIVATE_MODE)
            write_rows(out_dir / REJECTED, rejected, PRIVATE_MODE)
            write_rows(out_dir / WARNINGS, warned, PRIVATE_MODE)
            write_page(curation.duplicates, out_dir / PAGE, curation.entries)
    except OSError as exc:
        raise unwritable(out_dir, exc, OTHER_PLACE, SettingsError) from exc
    return out_dir / PAGE
