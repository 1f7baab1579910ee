"""The file names of a run folder, each owned here and nowhere else; a run in a store has the same names."""

from __future__ import annotations

from pathlib import Path

from p3mdata.errors import RunFolderError

# Frozen by the first start: settings, number of files, their hash. The names of sources are private.
PLAN = "plan.json"
SOURCES = "private/sources.jsonl"
JOB = "private/job.json"
# What ids are made with. Nothing that is passed on holds it.
SECRET = "private/secret"
# Folder below the private one where a list of sources is made.
PLANNING = ".planning-"
LOCK = "private/lock"
LOG = "private/decisions.jsonl"

# What is released of an image, in the order of publishing.
KINDS = ("facemasks", "alphas", "images")

# What closing a run makes of its rows: public, of what is released; private, of every source file.
MANIFEST = "manifest.jsonl"
LEDGER = "private/ledger.jsonl"
QUEUE = "review/queue.jsonl"
# Ids of released images drawn at random for a person to look at.
SAMPLE = "review/sample.jsonl"
REPORT = "report.html"
AUDIT, AUDIT_PLOT = "audit.json", "audit.png"
TOMBSTONES = "removed.jsonl"

# Of a shard.
DONE, RESULTS, STATS = "DONE", "results.jsonl", "stats.json"
# Traces of faults of the program at images of one shard.
ERRORS = "errors.jsonl"
ERROR = "internal_error"


def make_private_folder(path: Path) -> None:
    """Make a folder that only its owner can open."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
    except OSError as exc:
        raise RunFolderError(f"{path.parent}: cannot be written ({exc.strerror}). Choose another OUT.") from exc


def shard_name(index: int, file: str) -> str:
    """Name of a shard's file in a store."""
    return f"shards/{index:05d}/{file}"


def shard_folder(out: Path, index: int) -> Path:
    """Folder of one shard; private, since its rows hold sources and landmarks."""
    return out / "shards" / f"{index:05d}"


def stages_folder(out: Path) -> Path:
    """Where the staged commands keep what is not released yet."""
    return out / "private" / "stages"
