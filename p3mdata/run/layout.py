"""The file names of a run folder, each owned here and nowhere else; a run in a store has the same names."""

from __future__ import annotations

from pathlib import Path

from p3mdata.errors import OTHER_PLACE, unwritable

# Frozen by the first start: settings, number of files, their hash. The names of sources are private.
# Folders that only their owner can open.
PRIVATE, SHARDS, REVIEW = "private", "shards", "review"
PLAN = "plan.json"
SOURCES = "private/sources.jsonl"
JOB = "private/job.json"
# Folder below the private one where a list of sources is made.
PLANNING = ".planning-"
LOCK = "private/lock"
# Held by each worker process while it lives.
WORKERS_LOCK = "private/workers"
# Signs of who plans a shared run, numbered, and who does which of its tasks.
CLAIM, TASK_LOCK = "private/planning.{}", "private/task-{}-of-{}"
LOG = "private/decisions.jsonl"

# What is released of an image, in the order of publishing.
FACEMASKS, ALPHAS, IMAGES = "facemasks", "alphas", "images"
KINDS = (FACEMASKS, ALPHAS, IMAGES)

# What closing a run makes of its rows: public, of what is released; private, of every source file.
MANIFEST = "manifest.jsonl"
LEDGER = "private/ledger.jsonl"
QUEUE = "review/queue.jsonl"
# Ids of released images drawn at random for a person to look at.
SAMPLE = "review/sample.jsonl"
REPORT = "report.html"
AUDIT, AUDIT_PLOT = "audit.json", "audit.png"
TOMBSTONES = "removed.jsonl"
# Where datasets and exports made of this run lie.
DERIVED = "private/derived.jsonl"

# Of a shard.
DONE, RESULTS, STATS = "DONE", "results.jsonl", "stats.json"
# Traces of faults of the program: of a run, and at images of one shard in a store.
TRACES, ERRORS = "private/errors.jsonl", "errors.jsonl"
ERROR = "internal_error"


def make_private_folder(path: Path) -> None:
    """Make a folder that only its owner can open."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
    except OSError as exc:
        raise unwritable(path.parent, exc, OTHER_PLACE) from exc


def shard_name(index: int, file: str) -> str:
    """Name of a shard's file in a store."""
    return f"{SHARDS}/{index:05d}/{file}"


def shard_folder(out: Path, index: int) -> Path:
    """Folder of one shard; private, since its rows hold sources and landmarks."""
    return out / SHARDS / f"{index:05d}"


def stages_folder(out: Path) -> Path:
    """Where the staged commands keep what is not released yet."""
    return out / PRIVATE / "stages"
