"""The verbs on run folders: anonymize a folder, run one stage, close a run, prove it again."""

from __future__ import annotations

import fcntl
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from p3mdata.config import Executor, Job
from p3mdata.decisions import repair_log
from p3mdata.errors import EXIT_BUG, EXIT_HELD_BACK, EXIT_OK, Interrupted, RunFolderError
from p3mdata.executors import Work, local
from p3mdata.files import locked
from p3mdata.manifest import PRIVATE_MODE, public_row, rows_file
from p3mdata.parts import LOCK, my_shards, part_of_run, shared_plan
from p3mdata.plan import PLAN, PLANNING, Plan, check_folders, make_plan, make_private_folder, read_plan
from p3mdata.records import ImageResult, Outcome
from p3mdata.rows import LEDGER, MANIFEST, Rows, finished_rows, open_shards
from p3mdata.shards import KINDS, Stage, stages_folder
from p3mdata.sources import Samples
from p3mdata.spool import Spool
from p3mdata.verify import Finding, check_files, check_images

QUEUE = "review/queue.jsonl"
# Ids of released images drawn at random for a person to look at.
SAMPLE = "review/sample.jsonl"
REPORT = "report.html"
AUDIT, AUDIT_PLOT = "audit.json", "audit.png"
TOMBSTONES = "removed.jsonl"
_LOCKS = ("lock", "workers")
_SHOWN = 5
# In the order of removal. The plan goes last: while it is there, a run that was half removed is not taken for another.
_OURS = (MANIFEST, REPORT, AUDIT, AUDIT_PLOT, TOMBSTONES, *reversed(KINDS), "shards", "review", "private", PLAN)


@dataclass(frozen=True)
class RunSummary:
    """What a run, or one part of it, came to; `outcomes` add up to `samples`.

    Attributes:
        held_back: Source, outcome and why, of each that is not released.
        part: K/N when one part of a run was done.
        shards_left: Shards of other parts that are not done; the run is closed when there are none.
    """

    out: Path
    samples: int
    outcomes: dict[str, int]
    reasons: dict[str, int]
    faces: int
    seconds: float = 0.0
    held_back: Sequence[tuple[str, str, str]] = ()
    part: str | None = None
    shards_left: int = 0

    @property
    def released(self) -> int:
        return sum(n for name, n in self.outcomes.items() if Outcome(name).released)

    @property
    def exit_code(self) -> int:
        """0 all released (or excluded by a rule), 3 something is held back, 1 a bug was met.

        A part is done when its images have an outcome: schedulers start again what ends otherwise.
        """
        if self.reasons.get("internal_error"):
            return EXIT_BUG
        if self.part:
            return EXIT_OK
        held = self.outcomes.get(Outcome.NEEDS_REVIEW.value, 0) + self.outcomes.get(Outcome.BROKEN.value, 0)
        return EXIT_HELD_BACK if held else EXIT_OK

    def to_json(self) -> dict[str, Any]:
        return {
            "out": str(self.out),
            "samples": self.samples,
            "released": self.released,
            "outcomes": self.outcomes,
            "reasons": self.reasons,
            "faces": self.faces,
            "seconds": round(self.seconds, 2),
            "held_back": [{"source": s, "outcome": o, "reason": r} for s, o, r in self.held_back],
            **({"part": self.part, "shards_left": self.shards_left} if self.part else {}),
        }


@contextmanager
def only_run(out: Path) -> Iterator[None]:
    """Hold the run folder's lock, so that two processes never work on one run."""
    make_private_folder(out / "private")
    with ExitStack() as held:
        try:
            held.enter_context(locked(out / LOCK, fcntl.LOCK_EX | fcntl.LOCK_NB))
        except BlockingIOError as exc:
            raise RunFolderError(f"{out}: another p3mdata process is working on it. Wait for it to end.") from exc
        local.wait_for_orphans(out)
        yield


@contextmanager
def finished_run(out: Path) -> Iterator[tuple[Plan, Samples]]:
    """Hold a finished run's lock and give its plan and its samples with the decisions about them.

    Raises:
        RunFolderError: Not a run, not finished, or in use by another process.
    """
    read_plan(out)
    with only_run(out):
        repair_log(out)
        if not (out / LEDGER).exists():
            raise RunFolderError(f"{out}: the run is not finished. Run 'p3mdata anonymize dir' again to finish it.")
        yield read_plan(out)


def _remove_earlier_run(out: Path) -> None:
    if not (out / PLAN).exists():
        return
    for name in _OURS:
        path = out / name
        # The locks in the private folder are held and stay.
        for inner in path.iterdir() if name == "private" else (path,):
            if inner.is_dir() and not inner.is_symlink():
                shutil.rmtree(inner)
            elif inner.name not in _LOCKS:
                inner.unlink(missing_ok=True)


def _remove_torn_files(out: Path) -> None:
    """Temporary files of a process that was killed while writing."""
    for name in _OURS:
        places = (out / name).rglob(".*.tmp") if (out / name).is_dir() else out.glob(f".{name}.*.tmp")
        for path in places:
            path.unlink(missing_ok=True)
    for path in (out / "private").glob(f"{PLANNING}*"):
        shutil.rmtree(path)


def anonymize_job(
    job: Job, stage: Stage = Stage.ALL, on_start: Callable[[int], Callable[[], None]] | None = None
) -> RunSummary:
    """Run or resume a job.

    Args:
        job: Folders, settings, execution.
        stage: Everything, or one step.
        on_start: Gets the number of images; gives a function that is called now and then to show progress.

    Raises:
        SettingsError, RunFolderError: This run cannot be made, or OUT cannot be written (any more).
        Interrupted: Stopped by Ctrl-C or SIGTERM; the same call resumes.
    """
    started = time.monotonic()
    check_folders(job)
    work = _whole_run if job.execution.part is None else _part_of_run
    if job.store is not None:
        from p3mdata.stored import anonymize_stored as work
    try:
        return work(job, stage, on_start or (lambda samples: lambda: None), started)
    except KeyboardInterrupt:
        raise Interrupted("stopped") from None
    except OSError as exc:
        raise RunFolderError(
            f"{job.out}: cannot be written ({exc.strerror or exc}). Make room or change permissions, then run again."
        ) from exc


def _whole_run(job: Job, stage: Stage, on_start: Callable[[int], Callable[[], None]], started: float) -> RunSummary:
    with only_run(job.out):
        if job.execution.overwrite:
            _remove_earlier_run(job.out)
        plan, samples = make_plan(job)
        _remove_torn_files(job.out)
        make_private_folder(job.out / "shards")
        work = Work(plan, samples, stage, range(plan.shards), on_start(plan.samples))
        executor_of(job)(work, job.execution.workers)
        if not stage.publishes:
            return RunSummary(job.out, plan.samples, {}, {}, 0, time.monotonic() - started)
        return close_run(plan, time.monotonic() - started)


def _part_of_run(job: Job, stage: Stage, on_start: Callable[[int], Callable[[], None]], started: float) -> RunSummary:
    part = job.execution.part
    assert part is not None
    with part_of_run(job.out, part):
        plan, samples = shared_plan(job)
        make_private_folder(job.out / "shards")
        mine = my_shards(plan, part)
        progress = on_start(sum(min(plan.shard_size, plan.samples - i * plan.shard_size) for i in mine))
        executor_of(job)(Work(plan, samples, stage, mine, progress), job.execution.workers)
    if not stage.publishes:
        return RunSummary(job.out, plan.samples, {}, {}, 0, time.monotonic() - started)
    summary = summarize(plan, Rows(plan, mine), time.monotonic() - started)
    if not (left := open_shards(plan)):
        _close_if_last(plan)
    return replace(summary, part=job.execution.shard, shards_left=len(left))


def _close_if_last(plan: Plan) -> None:
    """Close a run whose shards are done. Of parts that end together at least the last one gets the lock."""
    with ExitStack() as held:
        try:
            held.enter_context(only_run(plan.job.out))
        except RunFolderError:
            # Whoever has it comes here after this part.
            return
        _remove_torn_files(plan.job.out)
        close_run(plan, 0.0)


def executor_of(job: Job) -> Callable[[Work, int], None]:
    """What runs the shards of a job."""
    if job.execution.executor is Executor.LOCAL:
        return local.run
    from p3mdata.executors import ray

    return ray.run


def merge_parts(out: Path) -> RunSummary:
    """Close a run whose parts are all done: what the last part does by itself where the file system lets it.

    Raises:
        RunFolderError: Not a run, in use, or shards are not done.
    """
    plan, _ = read_plan(out)
    with only_run(out):
        if left := open_shards(plan):
            numbers = ", ".join(str(index + 1) for index in left[:_SHOWN]) + (" ..." if len(left) > _SHOWN else "")
            raise RunFolderError(
                f"{out}: {len(left)} of {plan.shards} shards are not done ({numbers}). Run their parts again (part K "
                "of N has shards K, K + N, K + 2N and so on), or 'p3mdata anonymize dir' without --shard."
            )
        _remove_torn_files(out)
        return close_run(plan, 0.0)


def close_run(plan: Plan, seconds: float) -> RunSummary:
    """Write manifest, ledger, review queue and report from the finished shards.

    Raises:
        RunFolderError: The outcomes do not add up to the number of source files.
    """
    from p3mdata.report import write_report

    out = plan.job.out
    rows = Rows(plan)
    done = sum(1 for _ in rows) if open_shards(plan) else plan.samples
    if done != plan.samples:
        raise RunFolderError(f"{out}: {done} of {plan.samples} source files have an outcome. Run again to finish.")
    make_private_folder(out / "review")
    for kind in KINDS:
        (out / kind).mkdir(exist_ok=True)
    with ExitStack() as files:
        ledger = files.enter_context(rows_file(out / LEDGER, PRIVATE_MODE))
        queue = files.enter_context(rows_file(out / QUEUE, PRIVATE_MODE))
        manifest = files.enter_context(rows_file(out / MANIFEST))

        def written() -> Iterator[ImageResult]:
            for row in rows:
                ledger(row.to_json())
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


def renew_report(out: Path) -> None:
    """Write the report of a finished run again, after an audit or a sample."""
    from p3mdata.report import write_report

    with finished_run(out) as (plan, samples):
        write_report(plan, finished_rows(plan, samples), out / REPORT)


def summarize(plan: Plan, rows: Iterable[ImageResult], seconds: float) -> RunSummary:
    """Counts of a run's rows."""
    outcomes, reasons, faces = Counter({outcome.value: 0 for outcome in Outcome}), Counter[str](), 0
    held_back: Spool[tuple[str, str, str]] = Spool()
    for row in rows:
        outcomes[row.outcome.value] += 1
        reasons.update([row.reason] if row.reason else ())
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


def verify_run(
    out: Path, progress: Callable[[int], Callable[[], None]] | None = None, workers: int = 1
) -> tuple[int, list[Finding]]:
    """Prove every released image of a run again.

    Args:
        out: The run folder.
        progress: Gets the number of released images; gives a function that is called after each.
        workers: Processes; 0 chooses, 1 works in this one.

    Returns:
        Number of released images and what was found wrong, in source order.

    Raises:
        RunFolderError: Not a run, or not finished.
    """
    plan, samples = read_plan(out)
    rows = finished_rows(plan, samples)
    findings = list(check_files(plan, rows))
    number = sum(row.outcome.released for row in rows)
    released = ((sample, row) for sample, row in zip(samples, rows, strict=True) if row.outcome.released)
    step = progress(number) if progress else (lambda: None)
    for found in check_images(plan, released, number, workers or local.default_workers()):
        findings += found
        step()
    return number, findings


def has_staged_images(out: Path) -> bool:
    """Whether the staged commands left something that waits for `verify`."""
    return stages_folder(out).is_dir()


def run_staged(
    out: Path, stage: Stage, on_start: Callable[[int], Callable[[], None]] | None = None, workers: int = 0
) -> RunSummary:
    """Run one later stage on a run folder that `p3mdata detect` began."""
    plan, _ = read_plan(out)
    job = plan.job.model_copy(update={"execution": plan.job.execution.model_copy(update={"workers": workers})})
    return anonymize_job(job, stage, on_start)
