"""How far a run is, read from its folder alone while any number of processes work on it."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from p3mdata.errors import RunFolderError
from p3mdata.records import Outcome
from p3mdata.run.layout import DONE, LEDGER, PLAN, RESULTS, TRACES, shard_folder
from p3mdata.run.planned import read_planned
from p3mdata.run.rows import read_results, read_stats
from p3mdata.typing import Json

# Speed is that of the last shards: a run may have stood still for a night.
_RECENT_SHARDS = 64


@dataclass(frozen=True)
class Status:
    """A run as it stands.

    Attributes:
        samples: Source files of the run.
        done: Of those, the ones that have an outcome.
        outcomes, reasons: Counts; reasons are those of images that are held back.
        shards: Number of shards `done`, `begun` and `left`.
        rate: Images per second while shards were worked on, over the last of them; None before the first is done.
        seconds_left: At that rate, with as many workers.
        idle_seconds: Since the last image or shard was done; None before the first.
        closed: Whether manifest, ledger and report were written after the last shard.
        traces: Faults of the program, with their traces in private/errors.jsonl.
    """

    samples: int
    done: int
    outcomes: dict[str, int]
    reasons: dict[str, int]
    shards: dict[str, int]
    rate: float | None
    seconds_left: float | None
    idle_seconds: float | None
    closed: bool
    traces: int

    def to_json(self) -> Json:
        return asdict(self)


def status_of(out: Path) -> Status:
    """Read how far a run is.

    Args:
        out: The run folder.

    Raises:
        RunFolderError: Not a run.
    """
    if not (out / PLAN).is_file():
        raise RunFolderError(f"{out}: is not a run folder, or has no plan yet (it has no {PLAN}).")
    plan = read_planned(out)
    shards = plan.shards
    outcomes, reasons = Counter({outcome.value: 0 for outcome in Outcome}), Counter[str]()
    finished: list[tuple[float, float, int]] = []
    begun, newest = 0, 0.0
    for index in range(shards):
        folder = shard_folder(out, index)
        # A shard that is being finished or reopened may lose a file between two looks.
        with contextlib.suppress(FileNotFoundError):
            if (folder / DONE).exists():
                ended, stats = (folder / DONE).stat().st_mtime, read_stats(folder)
                outcomes.update(stats.outcomes)
                reasons.update(stats.reasons)
                finished.append((ended, sum(stats.seconds.values()), stats.samples))
                newest = max(newest, ended)
                continue
            changed = (folder / RESULTS).stat().st_mtime
            begun, newest = begun + 1, max(newest, changed)
            for row in read_results(folder):
                outcomes[row.outcome.value] += 1
                reasons.update([row.reason] if row.reason else ())
    done, rate = outcomes.total(), _rate(finished)
    closed_at = (out / LEDGER).stat().st_mtime if (out / LEDGER).exists() else 0.0
    errors = out / TRACES
    return Status(
        samples=plan.samples,
        done=done,
        outcomes=dict(outcomes),
        reasons=dict(reasons.most_common()),
        shards={"done": len(finished), "begun": begun, "left": shards - len(finished) - begun},
        rate=rate,
        seconds_left=(plan.samples - done) / rate if rate else None,
        idle_seconds=max(0.0, time.time() - newest) if newest else None,
        closed=len(finished) == shards and closed_at >= newest,
        traces=errors.read_bytes().count(b"\n") if errors.exists() else 0,
    )


def _rate(finished: list[tuple[float, float, int]]) -> float | None:
    """Images per second from (end, seconds of work, images) of shards: their images over the time that they cover."""
    recent = sorted(finished)[-_RECENT_SHARDS:]
    spans = sorted((end - seconds, end) for end, seconds, _ in recent)
    covered, reached = 0.0, float("-inf")
    for begin, end in spans:
        covered += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return sum(images for *_, images in recent) / covered if covered > 0 else None
