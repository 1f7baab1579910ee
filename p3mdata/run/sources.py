"""Source files of a run, in the order of their paths: found, matched with companions, hashed, and kept in a file.

Nothing here holds the whole list: folders are read one at a time, and a finished list stays on disk.
"""

from __future__ import annotations

import array
import hashlib
import itertools
import os
import unicodedata
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np

from p3mdata.base.addresses import as_os_error, is_remote
from p3mdata.base.disk_backed import DiskList
from p3mdata.base.files import sha256
from p3mdata.base.ids import sample_id
from p3mdata.config import Job, Names
from p3mdata.errors import SettingsError
from p3mdata.imaging import SUFFIXES
from p3mdata.imaging.listing import folder_entries, pictures, read_source, regular_file
from p3mdata.records import Sample
from p3mdata.run.names import KeptNames

_HASH_THREADS = 4
# Files that are hashed ahead of the one that is asked for.
_AHEAD = 256
_LISTINGS_KEPT = 16
_T = TypeVar("_T")
_R = TypeVar("_R")


def _nfc(name: str) -> str:
    """A name in one spelling: some systems store accents as letters of their own."""
    return unicodedata.normalize("NFC", name)


def _by_stem(folder: Path) -> dict[str, list[str]]:
    """Pictures of one folder by their name without its ending."""
    found: dict[str, list[str]] = {}
    for name in sorted(folder_entries(folder)[0]):
        path = PurePosixPath(name)
        if path.suffix.lower() in SUFFIXES:
            found.setdefault(_nfc(path.stem), []).append(name)
    return found


def _folders(root: Path, recursive: bool) -> Iterator[str]:
    """Relative paths of a folder and of those below it."""
    waiting = [""]
    while waiting:
        current = waiting.pop()
        yield current
        if recursive:
            waiting += [_joined(current, name) for name in folder_entries(root / current)[1]]


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


class _Companions:
    """Files of a companion folder, found by the path of a photo without its ending, else by the bare name.

    `photo.jpg.png` belongs to `photo.jpg`, unless there is a `photo.jpg.jpg`. Only files that do not lie where a photo
    of their name lies are remembered.

    Args:
        what: alpha, trimap or mask.
        root: Their folder; None has no files.
        photos: Folder of the photos.
        recursive: Whether to look into subfolders.

    Raises:
        SettingsError: Some belong to no photo: what they mark would be published.
    """

    def __init__(self, what: str, root: Path | None, photos: Path, recursive: bool) -> None:
        self._what = what
        self._strays: dict[str, list[str]] = {}
        self._bearers: Counter[str] = Counter()
        self._here: set[str] = set()
        if root is None:
            return
        self._listing = lru_cache(_LISTINGS_KEPT)(lambda folder: _by_stem(root / folder))
        self._photos = lru_cache(_LISTINGS_KEPT)(lambda folder: _by_stem(photos / folder))
        there = set(_folders(photos, recursive))
        for folder in _folders(root, recursive):
            self._here.add(folder)
            beside = self._photos(folder) if folder in there else {}
            whole = {_nfc(name) for names in beside.values() for name in names}
            for stem, names in self._listing(folder).items():
                if stem not in beside and stem not in whole:
                    self._strays.setdefault(stem, []).extend(_joined(folder, name) for name in names)
            self._refuse_other_files(root / folder, self._listing(folder), beside)
        if self._strays:
            self._refuse_strays(root, there)

    def _refuse_other_files(self, folder: Path, here: dict[str, list[str]], beside: dict[str, list[str]]) -> None:
        """Refuse a file that has a photo's name, where no picture has, and cannot be read as one, such as an array."""
        for name in sorted(folder_entries(folder)[0]):
            stem = _nfc(PurePosixPath(name).stem)
            if stem in beside and stem not in here and PurePosixPath(name).suffix.lower() not in SUFFIXES:
                raise SettingsError(f"{folder / name}: is no picture and cannot be the {self._what}. Save it as a PNG.")

    def _refuse_strays(self, root: Path, there: set[str]) -> None:
        """Count whose the strays could be."""
        wanted: set[str] = set()
        for folder in there:
            exact = self._listing(folder) if folder in self._here else {}
            for stem, names in self._photos(folder).items():
                keys = {stem, *(_nfc(name) for name in names)} & self._strays.keys()
                self._bearers.update(keys)
                if stem not in exact:
                    wanted |= keys
        if lost := sorted(name for stem, names in self._strays.items() if stem not in wanted for name in names):
            more = f" (and {len(lost) - 1} more, such as {', '.join(lost[1:3])})" if len(lost) > 1 else ""
            raise SettingsError(
                f"{root / lost[0]}{more}: is the {self._what} of no photograph in SRC. "
                "Give it the name of its photograph, or move it out."
            )

    def of(self, photo: str) -> tuple[str | None, str | None]:
        """Path of a photo's companion, or None; and what is wrong, or None."""
        folder, _, name = photo.rpartition("/")
        key = stem = _nfc(PurePosixPath(name).stem)
        exact: list[str] = []
        if folder in self._here:
            exact = self._own(folder, name, self._listing(folder).get(stem, []))
            # photo.jpg.png, unless it is the one of photo.jpg.jpg.
            if not exact and _nfc(name) not in self._photos(folder):
                exact = self._listing(folder).get(_nfc(name), [])
        if not exact and _nfc(name) in self._strays:
            key = _nfc(name)
        found = [_joined(folder, file) for file in exact] or sorted(self._strays.get(key, []))
        if len(found) > 1:
            return None, f"has {len(found)} files that could be its {self._what}: {', '.join(found[:3])}. Keep one."
        if found and not exact and self._bearers[key] > 1:
            return None, (
                f"has its name in common with photos of other folders: it is unclear whose {self._what} {found[0]} is. "
                "Put it into a folder of the same name as the photo's."
            )
        return (found[0] if found else None), None

    def _own(self, folder: str, photo: str, files: list[str]) -> list[str]:
        """Those of a photo among files whose names differ from its name at most in how accents are stored."""
        stem = PurePosixPath(photo).stem
        if same := [file for file in files if PurePosixPath(file).stem == stem]:
            return same
        twins = {PurePosixPath(name).stem for name in self._photos(folder).get(_nfc(stem), [])}
        return [file for file in files if PurePosixPath(file).stem not in twins]


def _hash_file(path: Path) -> str:
    """SHA-256, or '' when the file cannot be read; the worker that meets it says why."""
    digest = hashlib.sha256()
    try:
        if is_remote(path):
            return sha256(read_source(path))
        with regular_file(path).open("rb") as source:
            while block := source.read(1 << 20):
                digest.update(block)
    except OSError:
        return ""
    return digest.hexdigest()


def collect(job: Job, secret: str | None) -> Iterator[Sample]:
    """All source files with companions, hashes and ids, sorted by path. Copies of one file still share their id.

    Args:
        job: Its folders and settings.
        secret: What ids are made with, see `base.ids.sample_id`.

    Raises:
        SettingsError: A folder cannot be listed.
    """
    settings, source = job.settings, job.source
    roots = {"alpha": job.alphas, "trimap": job.trimaps, "mask": job.masks}
    names = KeptNames(source) if settings.names is Names.KEEP else None
    companions = {what: _Companions(what, root, source, settings.recursive) for what, root in roots.items()}

    def named() -> Iterator[tuple[int, str, dict[str, tuple[str | None, str | None]]]]:
        prefix = len(source.as_posix().rstrip("/")) + 1 if source != Path(".") else 0
        everything: Iterable[str] = (path.as_posix()[prefix:] for path in pictures(source, settings.recursive))
        relatives = sorted(job.chosen) or everything
        for index, relative in enumerate(_listed(relatives, job.execution.files, source)):
            if index == job.execution.limit:
                return
            yield index, relative, {what: among.of(relative) for what, among in companions.items()}

    def examined(entry: tuple[int, str, dict[str, tuple[str | None, str | None]]]) -> Sample:
        index, relative, found = entry
        sha = _hash_file(source / relative)
        name = None if names is None else names.of(relative)
        entries: dict[str, tuple[str, str]] = {}
        wrong = None
        for what, (companion, problem) in found.items():
            root = roots[what]
            if problem:
                wrong = problem
            elif companion and root:
                entries[what] = companion, _hash_file(root / companion)
        identity = sample_id(sha, relative, settings.seed, secret)
        alpha, trimap, mask = (entries.get(what) for what in ("alpha", "trimap", "mask"))
        return Sample(index, identity, relative, sha, alpha, trimap, mask, problem=wrong, name=name)

    return _map_ahead(examined, named())


def _listed(relatives: Iterable[str], listing: Path | None, source: Path) -> Iterator[str]:
    """Those of the paths that a list names; all without a list."""
    if listing is None:
        yield from relatives
        return
    try:
        lines = listing.read_text(encoding="utf-8-sig", errors="surrogateescape").split("\n")
    except OSError as exc:
        raise SettingsError(f"{listing}: cannot be read ({exc.strerror}). Check the path given as --files.") from exc
    wanted = {_below(line.rstrip("\r"), source) for line in lines} - {""}
    if not wanted:
        raise SettingsError(f"{listing}: names no file. Write paths relative to SRC, one per line.")
    # Names that are stored with other accents than they are listed with; twins of both kinds are told apart.
    spelt = {_nfc(name): name for name in wanted if not name.isascii() and not _is_there(source / name)}
    unknown = set(wanted)
    for relative in relatives:
        name = relative if relative in wanted else spelt.get(_nfc(relative))
        if name is not None:
            unknown.discard(name)
            yield relative
    if unknown:
        raise SettingsError(
            f"{listing}: '{min(unknown)}' is no picture below SRC. Write paths relative to SRC, one per line."
        )


def _below(line: str, source: Path) -> str:
    """A path of a list relative to the source folder; `./` and SRC itself before it are left out."""
    path = os.path.normpath(line) if line.startswith(("./", "/")) else line
    for root in (os.path.abspath(source), os.path.realpath(source)) if path.startswith("/") else ():
        if path.startswith(f"{root}/"):
            return path[len(root) + 1 :]
    return path


def _is_there(path: Path) -> bool:
    try:
        return bool(as_os_error(path.is_file))
    except OSError:
        return False


def _map_ahead(work: Callable[[_T], _R], items: Iterable[_T]) -> Iterator[_R]:
    """`map` in threads, in order, with a bounded number of items under way."""
    with ThreadPoolExecutor(_HASH_THREADS) as pool:
        under_way: deque[Future[_R]] = deque()
        try:
            for item in items:
                under_way.append(pool.submit(work, item))
                if len(under_way) >= _AHEAD:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        except BaseException:
            # Ctrl-C need not wait for the files that are left.
            pool.shutdown(cancel_futures=True)
            raise


def by_id(samples: Iterable[Sample]) -> Iterator[Sample]:
    """Samples in the order of their ids; of one content the first path keeps the id, the others get -2, -3."""
    found: DiskList[Sample] = DiskList()
    # The first 64 bits of ids: millions need megabytes.
    heads = array.array("Q")
    for sample in samples:
        found.append(sample)
        heads.append(int(sample.id[:16], 16))
    order = np.argsort(np.frombuffer(heads, np.uint64), kind="stable")
    for _, places in itertools.groupby(map(int, order), heads.__getitem__):
        alike = sorted((found[place] for place in places), key=lambda sample: (sample.id, sample.source))
        yield from by_path(alike)


def by_path(samples: Iterable[Sample]) -> Iterator[Sample]:
    """The same samples for runs that are older than secrets: in the order in which they come, copies numbered."""
    seen: Counter[str] = Counter()
    for sample in samples:
        seen[sample.id] += 1
        number = seen[sample.id]
        yield sample if number == 1 else replace(sample, id=f"{sample.id}-{number}")
