"""The file names of a run folder, each owned here and nowhere else; a run in a store has the same names."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from p3mdata.base.files import is_torn, keep_out_of_git, sweep
from p3mdata.errors import OTHER_PLACE, unwritable

# Of files that are published: manifest, audits.
SCHEMA_VERSION = 1

# Folders that only their owner can open.
PRIVATE, SHARDS, REVIEW = "private", "shards", "review"
# Frozen by the first start: settings, number of files, their hash. The names of sources are private.
PLAN = "plan.json"
SOURCES = "private/sources.jsonl"
JOB = "private/job.json"
# What of the source folder is no picture by its ending; absent where there is nothing.
PASSED_OVER = "private/passed_over.json"
# What ids are made with. Nothing that is passed on holds it.
SECRET = "private/secret"
# Folder below the private one where a list of sources is made.
PLANNING = ".planning-"
LOCK = "private/lock"
# Held by each worker process while it lives.
WORKERS_LOCK = "private/workers"
# Signs of who plans a shared run, numbered, and who does which of its tasks.
CLAIM, TASK_LOCK = "private/planning.{}", "private/task-{}-of-{}"
LOG = "private/decisions.jsonl"
# What second looks found that had been left bare, and what they saw on each image.
SUSPECTS, LOOKS = "private/suspects.jsonl", "private/looks.jsonl"

# What is released of an image, in the order of publishing.
FACEMASKS, ALPHAS, IMAGES = "facemasks", "alphas", "images"
KINDS = (FACEMASKS, ALPHAS, IMAGES)

# What closing a run makes of its rows: public, of what is released; private, of every source file.
MANIFEST = "manifest.jsonl"
LEDGER = "private/ledger.jsonl"
# Which file every source file became, for people and their spreadsheets.
NAMES = "private/ids.csv"
QUEUE = "review/queue.jsonl"
# Ids of released images drawn at random for a person to look at.
SAMPLE = "review/sample.jsonl"
REPORT = "report.html"
AUDIT, AUDIT_PLOT = "audit.json", "audit.png"
ATTACKERS, ADVICE, ADVICE_PLOT, RECALL = "attackers.json", "advice.json", "advice.png", "recall.json"
AUDITS = (AUDIT, AUDIT_PLOT, ATTACKERS, ADVICE, ADVICE_PLOT, RECALL)
TOMBSTONES = "removed.jsonl"
# Where datasets and exports made of this run lie.
DERIVED = "private/derived.jsonl"

# Keyed hashes of what was proved, see `receipts`.
PROVED = "private/proved"

# Of a shard.
DONE, RESULTS, STATS = "DONE", "results.jsonl", "stats.json"
# Of what the run itself proved, as `PROVED`.
PROVED_HERE = "proved"
# Traces of faults of the program: of a run, and at images of one shard in a store.
TRACES, ERRORS = "private/errors.jsonl", "errors.jsonl"
ERROR = "internal_error"


_BELONGS = re.compile(
    r"plan\.json|manifest\.jsonl|report\.html|(audit|advice)\.(json|png)|(attackers|recall)\.json|removed\.jsonl"
    r"|review/(queue|sample)\.jsonl|shards/[0-9]{5,}/(DONE|proved|(results|errors|stored)\.jsonl|stats\.json)"
    r"|((private|shards|review)/)?\.gitignore"
    r"|private/(lock|workers|(part|task)-[0-9]+-of-[0-9]+|(memory|alone|lent)-[0-9]+|planning\.[0-9]+|secret|proved|job\.json|ids\.csv|passed_over\.json"
    r"|(sources|decisions|suspects|looks|ledger|derived|errors)\.jsonl|masks/[^/]+\.png|stages/.+)"
)


def strays(out: Path) -> Iterator[str]:
    """Names of files in a run folder that are not of the run; of released files the manifest tells."""
    for place, _, names in os.walk(out):
        inside = Path(place).relative_to(out).as_posix()
        for name in sorted(names):
            path = name if inside == "." else f"{inside}/{name}"
            if is_torn(name) or not (inside.split("/")[0] in KINDS or _BELONGS.fullmatch(path)):
                yield path


def files_below(folder: Path) -> set[str]:
    """Paths of all files below a folder, relative to it; links to folders count as files."""
    found = set()
    for place, folders, names in os.walk(folder):
        inside = Path(place).relative_to(folder)
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        found |= {(inside / name).as_posix() for name in (*names, *links)}
    return found


def drop_empty_folders(folder: Path) -> None:
    """Remove folders below a folder that hold nothing: their names are those of people, maybe."""
    for place, _, _ in os.walk(folder, topdown=False):
        if Path(place) != folder:
            with contextlib.suppress(OSError):
                Path(place).rmdir()


def sweep_run(out: Path) -> None:
    """Remove what killed processes left in a run folder; for who holds its lock and waited for orphans."""
    for name in (*KINDS, SHARDS, REVIEW, PRIVATE):
        sweep(out / name)
    for path in out.iterdir():
        if is_torn(path.name):
            path.unlink(missing_ok=True)
    for path in (out / PRIVATE).glob(f"{PLANNING}*"):
        shutil.rmtree(path)
    # Who planned shared the lock: nobody does now.
    for path in (out / CLAIM.format("*")).parent.glob(Path(CLAIM.format("*")).name):
        path.unlink(missing_ok=True)


def make_private_folder(path: Path, empty: bool = False) -> None:
    """Make a folder that only its owner can open, and that git passes over unless it has to stay empty."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
        if not empty:
            keep_out_of_git(path)
    except OSError as exc:
        raise unwritable(path.parent, exc, OTHER_PLACE) from exc


def keep_private_out_of_git(out: Path) -> None:
    """Have git pass over what of a run folder is private; uploads to hubs ask the topmost folder alone."""
    keep_out_of_git(out, *(f"{name}/" for name in (PRIVATE, SHARDS, REVIEW)))


def shard_name(index: int, file: str) -> str:
    """Name of a shard's file in a store."""
    return f"{SHARDS}/{index:05d}/{file}"


def shard_folder(out: Path, index: int) -> Path:
    """Folder of one shard; private, since its rows hold sources and landmarks."""
    return out / SHARDS / f"{index:05d}"


def open_shard(folder: Path) -> None:
    """Take back that a shard is done, and with it that its run is closed, whatever clocks say afterwards."""
    (folder / DONE).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        os.utime(folder.parent.parent / REPORT, (0, 0))


def stages_folder(out: Path) -> Path:
    """Where the staged commands keep what is not released yet."""
    return out / PRIVATE / "stages"
