"""Close a run: manifest, ledger, review queue and report from the rows of its shards."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from p3mdata.base.disk_backed import DiskList
from p3mdata.base.jsonl import PRIVATE_MODE, rows_file
from p3mdata.errors import EXIT_BUG, EXIT_HELD_BACK, EXIT_OK, RunFolderError
from p3mdata.records import ImageResult, Outcome
from p3mdata.run.layout import (
    DONE,
    KINDS,
    LEDGER,
    MANIFEST,
    NAMES,
    PLAN,
    PRIVATE,
    QUEUE,
    REPORT,
    REVIEW,
    SHARDS,
    drop_empty_folders,
    keep_private_out_of_git,
    make_private_folder,
    shard_folder,
    stages_folder,
)
from p3mdata.run.locks import finished_run, writing
from p3mdata.run.plan import Plan
from p3mdata.run.public import public_row
from p3mdata.run.rows import Rows, finished_rows, names_file, open_shards
from p3mdata.typing import Json


@dataclass(frozen=True)
class RunSummary:
    """What a run, or one task of it, came to; `outcomes` add up to `samples`.

    Attributes:
        held_back: Source, outcome and why, of each that is not released.
        task: K/N when one task of a run was done.
        shards_left: Shards of other tasks that are not done; the run is closed when there are none.
    """

    out: Path
    samples: int
    outcomes: dict[str, int]
    reasons: dict[str, int]
    faces: int
    seconds: float = 0.0
    held_back: Sequence[tuple[str, str, str]] = ()
    task: str | None = None
    shards_left: int = 0

    @property
    def released(self) -> int:
        """Images that are published."""
        return sum(n for name, n in self.outcomes.items() if Outcome(name).released)

    @property
    def exit_code(self) -> int:
        """0 all released (or excluded by a rule), 3 something is held back, 1 a bug was met.

        A task is done when its images have an outcome: schedulers start again what ends otherwise.
        """
        if self.reasons.get("internal_error"):
            return EXIT_BUG
        if self.task:
            return EXIT_OK
        held = self.outcomes.get(Outcome.NEEDS_REVIEW.value, 0) + self.outcomes.get(Outcome.BROKEN.value, 0)
        return EXIT_HELD_BACK if held else EXIT_OK

    def to_json(self) -> Json:
        return {
            "out": str(self.out),
            "samples": self.samples,
            "released": self.released,
            "outcomes": self.outcomes,
            "reasons": self.reasons,
            "faces": self.faces,
            "seconds": round(self.seconds, 2),
            "held_back": [{"source": s, "outcome": o, "reason": r} for s, o, r in self.held_back],
            **({"task": self.task, "shards_left": self.shards_left} if self.task else {}),
        }


def close_run(plan: Plan, seconds: float) -> RunSummary:
    """Write manifest, ledger, review queue and report from the finished shards.

    Raises:
        RunFolderError: The outcomes do not add up to the number of source files.
    """
    from p3mdata.run.report import write_report

    out = plan.job.out
    if not (out / PLAN).exists():
        raise RunFolderError(f"{out}: was deleted while the run was at work. Run again to begin anew.")
    rows = Rows(plan)
    done = sum(1 for _ in rows) if open_shards(plan) else plan.samples
    if done != plan.samples:
        raise RunFolderError(f"{out}: {done} of {plan.samples} source files have an outcome. Run again to finish.")
    make_private_folder(out / REVIEW)
    # Runs of earlier versions have none.
    for name in (PRIVATE, SHARDS):
        make_private_folder(out / name)
    keep_private_out_of_git(out)
    for kind in KINDS:
        (out / kind).mkdir(exist_ok=True)
        drop_empty_folders(out / kind)
    with ExitStack() as files:
        ledger = files.enter_context(rows_file(out / LEDGER, PRIVATE_MODE))
        queue = files.enter_context(rows_file(out / QUEUE, PRIVATE_MODE))
        manifest = files.enter_context(rows_file(out / MANIFEST))
        named = files.enter_context(names_file(out / NAMES))

        def written() -> Iterator[ImageResult]:
            for row in rows:
                ledger(row.to_json())
                named(row)
                if row.outcome is Outcome.NEEDS_REVIEW:
                    queue({"id": row.id, "source": row.source, "reason": row.reason, "detail": row.detail})
                if row.outcome.released:
                    manifest(public_row(row))
                yield row

        summary = summarize(plan, written(), seconds)
        if summary.samples != plan.samples:
            raise RunFolderError(f"{out}: its results are damaged. Run 'p3mdata anonymize dir' again.")
    write_report(plan, rows, out / REPORT)
    shutil.rmtree(stages_folder(out), ignore_errors=True)
    return summary


def is_closed(plan: Plan) -> bool:
    """Whether a finished run was closed since its last shard was finished; a process killed between leaves it open.

    By the files' times, and who opens a shard makes the report older than all; where times do not tell, it counts as
    open, and closing it again changes nothing.
    """
    out = plan.job.out
    # The report is written last, and by itself after audits.
    ends = (out / LEDGER, out / REPORT)
    done = [shard_folder(out, number) / DONE for number in range(plan.shards)]
    if not all(path.exists() for path in (*ends, *done)):
        return False
    closed = min(path.stat().st_mtime_ns for path in ends)
    return all(path.stat().st_mtime_ns < closed for path in done)


def renew_report(out: Path) -> None:
    """Write the report of a finished run again, after an audit or a sample."""
    from p3mdata.run.report import write_report

    with writing(out), finished_run(out) as (plan, samples):
        write_report(plan, finished_rows(plan, samples), out / REPORT)


def summarize(plan: Plan, rows: Iterable[ImageResult], seconds: float) -> RunSummary:
    """Counts of a run's rows."""
    outcomes, reasons, faces = Counter({outcome.value: 0 for outcome in Outcome}), Counter[str](), 0
    held_back: DiskList[tuple[str, str, str]] = DiskList()
    for row in rows:
        outcomes[row.outcome.value] += 1
        reasons.update([row.reason] if row.reason else ())
        if row.outcome is Outcome.SHOWN_BY_PERMISSION:
            continue
        if row.outcome.released:
            faces += len(row.faces)
        else:
            held_back.append((row.source, row.outcome.value, row.detail or row.reason or ""))
    return RunSummary(
        out=plan.job.out,
        samples=outcomes.total(),
        outcomes=dict(outcomes),
        reasons=dict(sorted(reasons.items())),
        faces=faces,
        seconds=seconds,
        held_back=held_back,
    )
