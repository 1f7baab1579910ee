"""The plan of a run: which files, which settings, which model files. Frozen before the first image is touched."""

from __future__ import annotations

import errno
import hashlib
import hmac
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from p3mdata import __version__
from p3mdata.config import Execution, Job, Settings, fault
from p3mdata.decisions import LOG, read_log, standing, with_decisions
from p3mdata.errors import RunFolderError, SettingsError
from p3mdata.faces import weights
from p3mdata.images import SUFFIXES
from p3mdata.manifest import PRIVATE_MODE, dumps, read_json, read_rows, write_json, write_rows
from p3mdata.records import Sample

PLAN = "plan.json"
SOURCES = "private/sources.jsonl"
JOB = "private/job.json"
_ID_DOMAIN = b"p3mdata.id.v1"
_ID_HEX = 20
_MAX_SHARD = 1000
_MIN_SHARD = 4
_SHARDS_WANTED = 64
_HASH_THREADS = 4
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


def list_files(folder: Path, recursive: bool) -> Iterator[Path]:
    """Files below a folder, in no order. Names that begin with a dot are left out, as file browsers leave them out.

    Links to folders are not followed, so that loops cannot happen.
    """
    folders = [folder]
    while folders:
        current = folders.pop()
        try:
            entries = list(os.scandir(current))
        except OSError as exc:
            raise SettingsError(f"{current}: cannot be listed ({exc.strerror}). Check the path.") from exc
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders += [Path(entry.path)] if recursive else []
            else:
                yield Path(entry.path)


def _pictures(folder: Path, recursive: bool) -> Iterator[Path]:
    return (path for path in list_files(folder, recursive) if path.suffix.lower() in SUFFIXES)


def _stem(relative: str) -> str:
    """A path without its ending: what a photo and its companions have in common."""
    return str(PurePosixPath(relative).with_suffix(""))


class _Companions:
    """Files of a companion folder, found by the path of a photo without its ending, else by the bare name.

    Args:
        what: alpha, trimap or mask.
        root: Their folder; None has no files.
        photos: Relative paths of all photos.
        recursive: Whether to look into subfolders.
    """

    def __init__(self, what: str, root: Path | None, photos: Sequence[str], recursive: bool) -> None:
        self._what = what
        self._exact: dict[str, list[str]] = {}
        self._by_name: dict[str, list[str]] = {}
        stems = {_stem(photo) for photo in photos}
        self._bearers = Counter(PurePosixPath(stem).name for stem in stems)
        for path in _pictures(root, recursive) if root else ():
            relative = path.relative_to(root).as_posix() if root else ""
            stem = _stem(relative)
            if stem in stems:
                self._exact.setdefault(stem, []).append(relative)
            else:
                self._by_name.setdefault(PurePosixPath(stem).name, []).append(relative)

    def of(self, photo: str) -> tuple[str | None, str | None]:
        """Path of a photo's companion, or None; and what is wrong, or None."""
        stem = _stem(photo)
        name = PurePosixPath(stem).name
        found = sorted(self._exact.get(stem) or self._by_name.get(name) or [])
        if len(found) > 1:
            return None, f"has {len(found)} files that could be its {self._what}: {', '.join(found[:3])}. Keep one."
        if found and stem not in self._exact and self._bearers[name] > 1:
            return None, (
                f"has its name in common with photos of other folders: it is unclear whose {self._what} {found[0]} is. "
                "Put it into a folder of the same name as the photo's."
            )
        return (found[0] if found else None), None


def regular_file(path: Path) -> Path:
    """The path, if reading it comes to an end: a pipe or a device would keep its reader for ever.

    Raises:
        OSError: It is no regular file, or is not there.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    return path


def _hash_file(path: Path) -> str:
    """SHA-256, or '' when the file cannot be read; the worker that meets it says why."""
    digest = hashlib.sha256()
    try:
        with regular_file(path).open("rb") as source:
            while block := source.read(1 << 20):
                digest.update(block)
    except OSError:
        return ""
    return digest.hexdigest()


def sample_id(sha256: str, source: str, seed: int) -> str:
    """Id of a source: a keyed hash of its content, so that no public name equals a hash of the source file.

    A file without readable content is named by its path.
    """
    content = sha256 or f"unreadable:{source}"
    key = _ID_DOMAIN + str(seed).encode()
    return hmac.new(key, content.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()[:_ID_HEX]


def collect(job: Job) -> list[Sample]:
    """All source files with companions, hashes and ids, sorted by path.

    Raises:
        SettingsError: A folder cannot be listed.
    """
    settings, source = job.settings, job.source
    relatives = sorted(path.relative_to(source).as_posix() for path in _pictures(source, settings.recursive))
    roots = {"alpha": job.alphas, "trimap": job.trimaps, "mask": job.masks}
    companions = {what: _Companions(what, root, relatives, settings.recursive) for what, root in roots.items()}
    relatives = _listed(relatives, job.execution.files)[: job.execution.limit]
    samples, seen = [], Counter[str]()
    for index, (relative, sha) in enumerate(zip(relatives, _hash_files(source, relatives), strict=True)):
        name = sample_id(sha, relative, settings.seed)
        seen[name] += 1
        # Copies of one file keep one row each; the path decides which is first.
        sample = Sample(index, name if seen[name] == 1 else f"{name}-{seen[name]}", relative, sha)
        for what, root in roots.items():
            companion, problem = companions[what].of(relative)
            if problem:
                sample = replace(sample, problem=problem)
            elif companion and root:
                named: dict[str, Any] = {what: (companion, _hash_file(root / companion))}
                sample = replace(sample, **named)
        samples.append(sample)
    return samples


def _listed(relatives: list[str], listing: Path | None) -> list[str]:
    """Those of the paths that a list names; all without a list."""
    if listing is None:
        return relatives
    try:
        lines = listing.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    except OSError as exc:
        raise SettingsError(f"{listing}: cannot be read ({exc.strerror}). Check the path given as --files.") from exc
    wanted = {line.rstrip("\r") for line in lines} - {""}
    if unknown := sorted(wanted - set(relatives)):
        raise SettingsError(
            f"{listing}: '{unknown[0]}' is no picture below SRC. Write paths relative to SRC, one per line."
        )
    if not wanted:
        raise SettingsError(f"{listing}: names no file. Write paths relative to SRC, one per line.")
    return [relative for relative in relatives if relative in wanted]


def _hash_files(folder: Path, relatives: Sequence[str]) -> list[str]:
    with ThreadPoolExecutor(_HASH_THREADS) as pool:
        try:
            return list(pool.map(lambda relative: _hash_file(folder / relative), relatives))
        except BaseException:
            # Ctrl-C need not wait for the files that are left.
            pool.shutdown(cancel_futures=True)
            raise


def _frozen(sample: Sample) -> dict[str, Any]:
    """What of a sample may not change between two calls; hand-drawn masks and decisions may be added."""
    return {key: value for key, value in sample.to_json().items() if key not in ("mask", "problem", "decision")}


def _digest(samples: Sequence[Sample]) -> str:
    total = hashlib.sha256()
    for sample in samples:
        total.update(dumps(_frozen(sample)).encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def _shard_size(samples: int) -> int:
    """Large runs get shards of 1000; small ones enough shards for every core of a workstation."""
    return max(_MIN_SHARD, min(_MAX_SHARD, -(-samples // _SHARDS_WANTED)))


def check_folders(job: Job) -> None:
    """Refuse folders that a run could damage or mix up.

    Raises:
        SettingsError, RunFolderError: With what is wrong and what to do.
    """
    if not job.source.is_dir():
        what = "is a file: use 'p3mdata anonymize image'" if job.source.is_file() else "does not exist. Check the path"
        raise SettingsError(f"{job.source}: {what}.")
    if _inside(job.out, job.source) or _inside(job.source, job.out):
        raise SettingsError(f"{job.out}: OUT and SRC must not lie inside each other. Choose another OUT.")
    recursive = job.settings.recursive
    for name in ("alphas", "trimaps", "masks"):
        folder: Path | None = getattr(job, name)
        if folder is None:
            continue
        if not folder.is_dir():
            raise SettingsError(f"{folder}: the folder given as --{name} does not exist. Check the path.")
        if _inside(folder, job.source) and (recursive or os.path.samefile(folder, job.source)):
            raise SettingsError(f"{folder}: lies inside SRC, so that the {name} would count as photos. Move it out.")
        if job.execution.overwrite and _inside(folder, job.out):
            raise SettingsError(f"{folder}: lies inside OUT, which --overwrite empties. Move the {name} out first.")
    if next(_pictures(job.source, recursive), None) is None:
        raise SettingsError(f"{job.source}: holds no pictures. Supported endings: {' '.join(sorted(SUFFIXES))}.")
    _check_out(job.out)
    if job.execution.overwrite and (job.out / LOG).exists():
        raise RunFolderError(
            f"{job.out}: holds decisions of reviewers, which --overwrite would delete. Use another OUT, and carry them "
            f"over with 'p3mdata review NEW --apply {job.out / LOG}'; or delete the folder yourself."
        )


def _inside(inner: Path, outer: Path) -> bool:
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


def differing_sources(old: Sequence[Sample], new: Sequence[Sample]) -> str:
    """Which source files or companions are not those of an earlier call, in words."""
    before, after = ({sample.source: sample for sample in samples} for samples in (old, new))
    found = []
    for source in sorted(before.keys() | after.keys()):
        if source not in before:
            found.append(f"{source} is new")
        elif source not in after:
            found.append(f"{source} is gone")
        else:
            one, two = before[source], after[source]
            changed = [what for what in ("sha256", "alpha", "trimap") if getattr(one, what) != getattr(two, what)]
            if changed:
                found.append(f"the {changed[0].replace('sha256', 'content')} of {source} changed")
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return "; ".join(found[:_SHOWN]) + more


def make_plan(job: Job, write: bool = True) -> tuple[Plan, list[Sample]]:
    """Freeze the plan of a run, or check that it is the plan of the run that is already in OUT.

    Hand-drawn masks may be added to a finished run: the images they belong to are done again.

    Raises:
        SettingsError, RunFolderError: Sources or settings do not allow this run.
    """
    samples = collect(job)
    plan = Plan(job, len(samples), _shard_size(len(samples)), _digest(samples))
    row = plan.to_json()
    existing = job.out / PLAN
    if existing.exists() and not job.execution.overwrite:
        old = read_json(existing)
        different = differing_settings(old, row)
        if old.get("sources_sha256") != plan.digest:
            different.append(differing_sources(_read_samples(job.out), samples))
        if different:
            raise RunFolderError(
                f"{job.out}: holds a run made with other settings or files: {'; '.join(different)}. "
                "Use another OUT, the same settings and files, or --overwrite."
            )
    if write:
        make_private_folder(job.out / "private")
        write_rows(job.out / SOURCES, (sample.to_json() for sample in samples), PRIVATE_MODE)
        write_json(
            job.out / JOB,
            {"limit": job.execution.limit, "files": _absolute(job.execution.files), "folders": job_paths(job)},
            PRIVATE_MODE,
        )
        write_json(existing, row)
    if not job.execution.overwrite:
        samples = with_decisions(samples, standing(read_log(job.out)))
    return plan, samples


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.resolve())


def job_paths(job: Job) -> dict[str, str]:
    """Absolute folders of a job, for the private part of a run."""
    names = ("source", "out", "alphas", "trimaps", "masks")
    return {name: str(getattr(job, name).resolve()) for name in names if getattr(job, name)}


def make_private_folder(path: Path) -> None:
    """Make a folder that only its owner can open."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
    except OSError as exc:
        raise RunFolderError(f"{path.parent}: cannot be written ({exc.strerror}). Choose another OUT.") from exc


def _read_samples(out: Path) -> list[Sample]:
    try:
        return [Sample.from_json(row) for row in read_rows(out / SOURCES)]
    except (KeyError, TypeError, IndexError) as exc:
        raise RunFolderError(
            f"{out / SOURCES}: is damaged ({fault(exc)}). Delete the run folder and run again."
        ) from exc


def read_plan(out: Path) -> tuple[Plan, list[Sample]]:
    """The plan of an existing run.

    Raises:
        RunFolderError: The folder is not a run, or its plan is damaged.
    """
    if not (out / PLAN).is_file():
        raise RunFolderError(f"{out}: is not a run folder (it has no {PLAN}). Run 'p3mdata anonymize dir SRC {out}'.")
    row, kept = read_json(out / PLAN), read_json(out / JOB)
    try:
        folders = {name: Path(path) for name, path in kept["folders"].items()} | {"out": out}
        job = Job(
            **folders,
            settings=Settings(**row["settings"]),
            execution=Execution(limit=kept["limit"], files=kept.get("files")),
        )
        samples = with_decisions(_read_samples(out), standing(read_log(out)))
        if row["samples"] != len(samples) or not isinstance(row["shard_size"], int) or row["shard_size"] < 1:
            raise ValueError(f"{row['samples']} samples are planned, {len(samples)} are listed")
        return Plan(job, row["samples"], row["shard_size"], row["sources_sha256"]), samples
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise RunFolderError(
            f"{out}: its plan is damaged ({fault(exc)}). Delete the run folder and run again."
        ) from exc
