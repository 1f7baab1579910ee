"""The plan of a run: which files, which settings, which model files. Frozen before the first image is touched."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from p3mdata import __version__
from p3mdata.config import Job, Settings
from p3mdata.errors import RunFolderError, SettingsError
from p3mdata.faces import weights
from p3mdata.images import SUFFIXES
from p3mdata.manifest import PRIVATE_MODE, dumps, read_json, read_rows, write_json, write_rows
from p3mdata.records import Sample

PLAN = "plan.json"
SOURCES = "private/sources.jsonl"
_ID_DOMAIN = b"p3mdata.id.v1"
_ID_HEX = 20
_MAX_SHARD = 1000
_MIN_SHARD = 4
_SHARDS_WANTED = 64
_HASH_THREADS = 4


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
    """Files below a folder in a stable order; links to folders are not followed, so that loops cannot happen."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as exc:
        raise SettingsError(f"{folder}: cannot be listed ({exc.strerror}). Check the path and its permissions.") from exc
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            if recursive:
                yield from list_files(Path(entry.path), recursive)
        else:
            yield Path(entry.path)


def _companions(folder: Path | None, recursive: bool) -> dict[str, list[str]]:
    """Files of a companion folder by relative path without suffix, and by bare stem."""
    found: dict[str, list[str]] = {}
    if folder is None:
        return found
    for path in list_files(folder, recursive):
        if path.suffix.lower() not in SUFFIXES:
            continue
        relative = path.relative_to(folder)
        found.setdefault(relative.with_suffix("").as_posix(), []).append(relative.as_posix())
        if len(relative.parts) > 1:
            found.setdefault("*/" + relative.stem, []).append(relative.as_posix())
    return found


def _companion_of(relative: Path, found: dict[str, list[str]], what: str) -> tuple[str | None, str | None]:
    """(path, problem) of the companion of a source; the same subfolder wins over a unique stem elsewhere."""
    for key in (relative.with_suffix("").as_posix(), relative.stem, "*/" + relative.stem):
        matches = found.get(key, [])
        if len(matches) == 1:
            return matches[0], None
        if len(matches) > 1:
            return None, f"has {len(matches)} files that could be its {what}: {', '.join(matches[:3])}. Keep one."
    return None, None


def _hash_file(path: Path) -> str:
    """SHA-256, or '' when the file cannot be read; the worker that meets it says why."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as source:
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
        SettingsError: A folder cannot be listed, or holds no picture.
    """
    settings, source = job.settings, job.source
    paths = [p for p in list_files(source, settings.recursive) if p.suffix.lower() in SUFFIXES]
    relatives = sorted(path.relative_to(source).as_posix() for path in paths)
    if not relatives:
        raise SettingsError(
            f"{source}: holds no pictures. Supported endings: {' '.join(sorted(SUFFIXES))}."
        )
    relatives = relatives[: job.execution.limit]
    roots = {"alpha": job.alphas, "trimap": job.trimaps, "mask": job.masks}
    found = {what: _companions(root, settings.recursive) for what, root in roots.items()}
    with ThreadPoolExecutor(_HASH_THREADS) as pool:
        hashes = pool.map(lambda relative: _hash_file(source / relative), relatives)
        samples, seen = [], dict[str, int]()
        for index, (relative, sha) in enumerate(zip(relatives, hashes, strict=True)):
            sample = Sample(index, "", relative, sha)
            for what, root in roots.items():
                companion, problem = _companion_of(Path(relative), found[what], what)
                if problem:
                    sample = replace(sample, problem=problem)
                elif companion and root:
                    sample = replace(sample, **{what: (companion, _hash_file(root / companion))})
            name = sample_id(sha, relative, settings.seed)
            copies = seen[name] = seen.get(name, 0) + 1
            # Copies of one file keep one row each; the path decides which is first.
            samples.append(replace(sample, id=name if copies == 1 else f"{name}-{copies}"))
    return samples


def _digest(samples: list[Sample], with_masks: bool) -> str:
    total = hashlib.sha256()
    for sample in samples:
        row = sample.to_json()
        if not with_masks:
            row.pop("mask", None)
        total.update(dumps(row).encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def _shard_size(samples: int) -> int:
    """Large runs get shards of 1000; small ones enough shards for every core of a workstation."""
    return max(_MIN_SHARD, min(_MAX_SHARD, -(-samples // _SHARDS_WANTED)))


def check_folders(job: Job) -> None:
    """Refuse folders that a run could damage or mix up.

    Raises:
        SettingsError, RunFolderError: With what is wrong and what to do.
    """
    source, out = job.source.resolve(), job.out.resolve()
    if not source.is_dir():
        what = "is a file: use 'p3mdata anonymize image'" if source.is_file() else "does not exist. Check the path"
        raise SettingsError(f"{job.source}: {what}.")
    for name in ("alphas", "trimaps", "masks"):
        folder = getattr(job, name)
        if folder is not None and not folder.is_dir():
            raise SettingsError(f"{folder}: the folder given as --{name} does not exist. Check the path.")
    for inner, outer in ((out, source), (source, out)):
        if inner == outer or outer in inner.parents:
            raise SettingsError(f"{job.out}: OUT and SRC must not lie inside each other. Choose another OUT.")
    if out.exists() and not out.is_dir():
        raise RunFolderError(f"{job.out}: is a file. Choose a folder.")
    if out.is_dir() and not (out / PLAN).exists() and any(path.name != "private" for path in out.iterdir()):
        raise RunFolderError(f"{job.out}: is not empty and not a run folder. Choose an empty or new folder.")


def differing_settings(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What keeps a run from being resumed, in words; empty when it can."""
    out = []
    for key in sorted(Settings.model_fields):
        before, after = old.get("settings", {}).get(key), new["settings"].get(key)
        if before != after:
            out.append(f"{key} ({before} -> {after})")
    for key in ("tool", "weights", "sources_sha256"):
        if old.get(key) != new[key]:
            out.append({"sources_sha256": "the source or matte files"}.get(key, key))
    return out


def make_plan(job: Job, write: bool = True) -> tuple[Plan, list[Sample]]:
    """Freeze the plan of a run, or check that it is the plan of the run that is already in OUT.

    Hand-drawn masks may be added to a finished run: the images they belong to are done again.

    Raises:
        SettingsError, RunFolderError: Sources or settings do not allow this run.
    """
    samples = collect(job)
    plan = Plan(job, len(samples), _shard_size(len(samples)), _digest(samples, with_masks=False))
    row = plan.to_json()
    existing = job.out / PLAN
    if existing.exists():
        old = read_json(existing)
        if different := differing_settings(old, row):
            raise RunFolderError(
                f"{job.out}: holds a run made with other settings: {'; '.join(different)}. "
                "Use another OUT, the same settings, or --overwrite."
            )
    if write:
        make_private_folder(job.out / "private")
        write_rows(job.out / SOURCES, (sample.to_json() for sample in samples), PRIVATE_MODE)
        write_json(job.out / "private" / "job.json", job_paths(job), PRIVATE_MODE)
        write_json(existing, row)
    return plan, samples


def job_paths(job: Job) -> dict[str, str]:
    """Absolute folders of a job, for the private part of a run."""
    names = ("source", "out", "alphas", "trimaps", "masks")
    return {name: str(getattr(job, name).resolve()) for name in names if getattr(job, name)}


def make_private_folder(path: Path) -> None:
    """Make a folder that only its owner can open."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o700)
    except OSError as exc:
        raise RunFolderError(f"{path.parent}: cannot be written ({exc.strerror}). Choose another OUT.") from exc


def read_plan(out: Path) -> tuple[Plan, list[Sample]]:
    """The plan of an existing run.

    Raises:
        RunFolderError: The folder is not a run.
    """
    if not (out / PLAN).is_file():
        raise RunFolderError(f"{out}: is not a run folder (it has no {PLAN}). Run 'p3mdata anonymize dir SRC {out}'.")
    row = read_json(out / PLAN)
    paths = {**read_json(out / "private" / "job.json"), "out": str(out)}
    job = Job(**{k: Path(v) for k, v in paths.items()}, settings=Settings(**row["settings"]))
    samples = [Sample.from_json(line) for line in read_rows(out / SOURCES)]
    return Plan(job, row["samples"], row["shard_size"], row["sources_sha256"]), samples
