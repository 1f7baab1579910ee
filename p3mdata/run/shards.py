"""One shard of a run: the unit of work, of failure and of statistics. Called by every executor.

A shard folder fills row by row, so that a run stopped at any moment continues after the last finished image;
DONE is written last. A row counts only for the inputs it was made from and while its files still have its hashes:
a shard that is done is looked through again, and what does not count any more is done again.
"""

from __future__ import annotations

import contextlib
import os
import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from pathlib import Path

from p3mdata.anonymize.inputs import Inputs
from p3mdata.anonymize.pipeline import Anonymized, anonymize
from p3mdata.base.files import sha256, write_atomic, write_released_together
from p3mdata.base.jsonl import PRIVATE_MODE, append_row, write_json, write_rows
from p3mdata.config import Job
from p3mdata.errors import BrokenInput, Interrupted, P3MError, deleted_meanwhile
from p3mdata.faces.ensemble import FaceFinder
from p3mdata.records import Action, Decision, ImageResult, Outcome, Sample, ShardStats
from p3mdata.run.ahead import ReadAhead
from p3mdata.run.inputs import inputs_digest, read_inputs
from p3mdata.run.layout import DONE, KINDS, PLAN, RESULTS, STATS, TRACES, open_shard, shard_folder
from p3mdata.run.receipts import keep_of_run
from p3mdata.run.room import room_for
from p3mdata.run.rows import read_results
from p3mdata.run.stages import Stage, anonymize_staged, run_stage

# Faults of the place or the program, not of the picture: such rows are tried again on resume.
TRANSIENT = frozenset(
    {"cannot_read", "changed", "out_of_memory", "crashed_worker", "internal_error", "no_secret", "other_version"}
)
_CRASHED = "makes the worker process die (out of memory, or a damaged file). Check or remove it."
_OTHER_VERSION = "waits for the version that made the run: the next call with it carries the decision out."
_EXTENSIONS = ("jpg", "png", "webp", "tif")


def process(
    sample: Sample,
    job: Job,
    finder: Callable[[], FaceFinder],
    stage: Stage,
    tick: Callable[[str], None],
    crashing: bool = False,
    read: Callable[[Sample], Inputs] | None = None,
    makes: bool = True,
    may_write: Callable[[], object] = bool,
) -> ImageResult:
    """One image to its outcome, its files published. No fault of one image stops the run.

    Args:
        sample, job, finder, stage, crashing, makes: As for `run_shard`, of one image.
        tick: Called with the name of each step when it is done.
        read: Gives its inputs; None reads them.
        may_write: Called before its files are written; raises where they must not be.

    Raises:
        OSError: The run folder cannot be written; nothing of the image is left in it.
        P3MError: A product of an earlier stage was edited.
    """
    if sample.decision is not None and _is_withheld(sample):
        done = _withheld(sample, sample.decision)
    elif not makes:
        done = _broken(sample, "other_version", _OTHER_VERSION)
    else:
        done = _worked_on(sample, job, finder, stage, tick, crashing, read or (lambda one: read_inputs(one, job)))
    may_write()
    publish(done, sample, job.out)
    tick("write")
    return replace(done.result, inputs=inputs_digest(sample))


def _worked_on(
    sample: Sample,
    job: Job,
    finder: Callable[[], FaceFinder],
    stage: Stage,
    tick: Callable[[str], None],
    crashing: bool,
    read: Callable[[Sample], Inputs],
) -> Anonymized:
    try:
        if crashing:
            raise BrokenInput("crashed_worker", _CRASHED)
        inputs = read(sample)
        tick("read")
        with room_for(inputs.photo, job):
            if stage is Stage.VERIFY:
                return anonymize_staged(sample, job, inputs, finder(), tick)
            return anonymize(sample, inputs, job.settings, finder(), tick=tick)
    except P3MError:
        raise
    except BrokenInput as exc:
        return _broken(sample, exc.code, exc.sentence)
    except MemoryError:
        return _broken(sample, "out_of_memory", "needs more memory than there is. Use fewer --workers, or remove it.")
    except Exception as exc:
        # A bug must not stop the other images, and must not be lost: the trace is kept and the exit code tells.
        append_row(job.out / TRACES, {"source": sample.source, "trace": traceback.format_exc()})
        sentence = f"met a fault of the program ({type(exc).__name__}: {exc}). Please report {TRACES}."
        return _broken(sample, "internal_error", sentence)


def _withheld(sample: Sample, decision: Decision) -> Anonymized:
    """The result of an image that a person left out or took down; its file is not even opened."""
    taken_down = decision.action is Action.REMOVE
    code, sentence = ("taken_down", "was taken down") if taken_down else ("excluded_by_person", "a person left it out")
    return Anonymized(ImageResult(sample.id, sample.source, Outcome.EXCLUDED, code, sentence, decision=decision), {})


def _broken(sample: Sample, code: str, sentence: str) -> Anonymized:
    row = ImageResult(sample.id, sample.source, Outcome.BROKEN, code, sentence, decision=sample.decision)
    return Anonymized(row, {})


def publish(done: Anonymized, sample: Sample, out: Path) -> None:
    """Write an image's files, the image last, after removing what an earlier outcome released of it."""
    withdraw(sample, out, keep={kind: name for kind, (name, _) in done.result.files.items()})
    try:
        write_released_together(
            [(out / kind / done.result.files[kind][0], done.files[kind][1]) for kind in KINDS if kind in done.files]
        )
    except OSError:
        with contextlib.suppress(OSError):
            withdraw(sample, out)
        raise


def withdraw(sample: Sample, out: Path, keep: Mapping[str, str] | None = None) -> None:
    """Remove released files of a sample, the image first; `keep` names one file of a kind that stays."""
    for kind in reversed(KINDS):
        folder = os.path.join(out, kind)
        for name in (sample.released_as(kind, extension) for extension in _EXTENSIONS):
            if name != (keep or {}).get(kind):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(folder, name))


def counts_for(row: ImageResult, sample: Sample) -> bool:
    """Whether a row was made from a sample's present inputs, and need not be tried again."""
    return row.inputs == inputs_digest(sample) and row.reason not in TRANSIENT


def _still_valid(row: ImageResult, sample: Sample, out: Path) -> bool:
    if not counts_for(row, sample):
        return False
    for kind, (name, expected) in row.files.items():
        path = out / kind / name
        if not path.is_file() or sha256(path.read_bytes()) != expected:
            return False
    return True


def refuse_lost(job: Job) -> None:
    """Refuse to make a run folder again that was deleted under its run: without a plan nobody could go on in it.

    Raises:
        RunFolderError: It was.
    """
    if job.store is None and not (job.out / PLAN).exists():
        raise deleted_meanwhile(job.out)


def run_shard(
    job: Job,
    index: int,
    samples: Sequence[Sample],
    finder: Callable[[], FaceFinder],
    stage: Stage,
    go_on: Callable[[Sample], bool],
    crashing: Collection[str] = (),
    makes: bool = True,
) -> None:
    """Bring every image of a shard to its outcome (or through one stage), then mark the shard as done.

    Args:
        job: Folders and settings.
        index: Number of the shard.
        samples: Its members.
        finder: Gives the worker's models, loading them on first use.
        stage: What to do.
        go_on: Told of each image before it is begun; False leaves the shard resumable.
        crashing: Ids of images that made their worker die again and again; they are held back unopened.
        makes: Whether pictures are made; else those that are not done are held back until another call.

    Raises:
        Interrupted: `go_on` said no.
        OSError: The run folder cannot be written.
    """
    if not stage.publishes:
        for sample in samples:
            if not go_on(sample):
                raise Interrupted("stopped")
            refuse_lost(job)
            run_stage(sample, job, finder, stage, sample.id in crashing)
        return
    folder = shard_folder(job.out, index)
    by_id = {sample.id: sample for sample in samples}
    rows = read_results(folder)
    done = {row.id: row for row in rows if row.id in by_id and _still_valid(row, by_id[row.id], job.out)}
    if len(done) == len(samples) and (folder / DONE).exists():
        return
    refuse_lost(job)
    open_shard(folder)
    results = folder / RESULTS
    # Rewritten without a torn last line, so that appending continues on a line of its own.
    write_rows(results, (row.to_json() for row in done.values()), PRIVATE_MODE)
    seconds: dict[str, float] = {}
    todo = [sample for sample in samples if sample.id not in done]
    with ReadAhead(job) as read:
        for sample, following in zip_longest(todo, todo[1:]):
            if not go_on(sample):
                raise Interrupted("stopped")
            refuse_lost(job)
            inputs = _reader(read, following, crashing)
            # The folder may be deleted at any time: nothing that is written makes it again.
            there = partial(refuse_lost, job)
            tick = _stopwatch(seconds)
            done[sample.id] = process(sample, job, finder, stage, tick, sample.id in crashing, inputs, makes, there)
            there()
            append_row(results, done[sample.id].to_json())
    refuse_lost(job)
    if stage is Stage.ALL and job.store is None:
        # What was made is proved on the bytes that were written.
        keep_of_run(folder, job, [(sample, done[sample.id]) for sample in todo])
    finish_shard(folder, [done[sample.id] for sample in samples], seconds)


def _reader(read: ReadAhead, following: Sample | None, crashing: Collection[str]) -> Callable[[Sample], Inputs]:
    """Gives the inputs of an image and begins to read those of the next, unless that is not to be opened."""

    def inputs(sample: Sample) -> Inputs:
        try:
            return read(sample)
        finally:
            if following is not None and following.id not in crashing and not _is_withheld(following):
                read.begin(following)

    return inputs


def _is_withheld(sample: Sample) -> bool:
    return sample.decision is not None and sample.decision.action.withholds


def finish_shard(folder: Path, rows: Sequence[ImageResult], seconds: Mapping[str, float]) -> None:
    """Write the rows of all members of a shard, in their order, and mark it as done."""
    write_rows(folder / RESULTS, (row.to_json() for row in rows), PRIVATE_MODE)
    write_json(folder / STATS, _stats(rows, seconds).to_json())
    write_atomic(folder / DONE, b"")


def _stopwatch(seconds: dict[str, float]) -> Callable[[str], None]:
    last = time.perf_counter()

    def tick(stage: str) -> None:
        nonlocal last
        now = time.perf_counter()
        seconds[stage] = seconds.get(stage, 0.0) + now - last
        last = now

    return tick


def _stats(rows: Sequence[ImageResult], seconds: Mapping[str, float]) -> ShardStats:
    return ShardStats(
        samples=len(rows),
        outcomes=dict(Counter(row.outcome.value for row in rows)),
        reasons=dict(Counter(row.reason for row in rows if row.reason)),
        faces=sum(len(row.faces) for row in rows),
        seconds={stage: round(value, 3) for stage, value in seconds.items()},
    )
