"""One shard of a run: the unit of work, of failure and of statistics. Called by every executor.

A shard folder fills row by row, so that a run stopped at any moment continues after the last finished image;
DONE is written last. A row counts only for the inputs it was made from and while its files still have its hashes.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum
from pathlib import Path

import numpy as np

from p3mdata.anonymize import Anonymized, Inputs, anonymize, detect, load, mask, render
from p3mdata.config import Job
from p3mdata.errors import BrokenInput, Interrupted, RunFolderError
from p3mdata.faces.ensemble import Detection, FaceFinder
from p3mdata.images import encode_grey, sha256, write_atomic
from p3mdata.manifest import PRIVATE_MODE, append_row, dumps, read_json, read_rows, write_json, write_rows
from p3mdata.records import ImageResult, Outcome, Sample, ShardStats

KINDS = ("facemasks", "alphas", "images")
# Faults of the place, not of the picture: such rows are tried again on resume.
TRANSIENT = frozenset({"cannot_write", "cannot_read", "crashed"})


class Stage(str, Enum):
    """What to do with each image: everything in one pass, or one step of it."""

    ALL = "anonymize"
    DETECT = "detect"
    MASK = "mask"
    OBFUSCATE = "obfuscate"
    VERIFY = "verify"

    @property
    def publishes(self) -> bool:
        """Whether images reach their outcome in this stage."""
        return self in (Stage.ALL, Stage.VERIFY)


def shard_folder(out: Path, index: int) -> Path:
    """Folder of one shard; private, since its rows hold sources and landmarks."""
    return out / "shards" / f"{index:05d}"


def inputs_digest(sample: Sample) -> str:
    """Changes when any file of a sample changes."""
    return sha256(dumps(sample.to_json()).encode("utf-8", "surrogateescape"))


def _read(path: Path, expected: str, what: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise BrokenInput("cannot_read", f"has {what} that cannot be read ({exc.strerror}). Check it.") from exc
    if sha256(data) != expected:
        raise BrokenInput("changed", f"has {what} that changed since the run was planned. Use another OUT.")
    return data


def read_inputs(sample: Sample, job: Job) -> Inputs:
    """Bytes of a sample and its companions, checked against the plan.

    Raises:
        BrokenInput: A file is unreadable, changed, ambiguous, or a matte is missing where mattes were given.
    """
    if sample.problem:
        raise BrokenInput("ambiguous_companion", sample.problem)
    photo = _read(job.source / sample.source, sample.sha256, "a file")
    found: dict[str, bytes | None] = {}
    for what, root in (("alpha", job.alphas), ("trimap", job.trimaps), ("mask", job.masks)):
        entry = getattr(sample, what)
        if root is not None and entry is not None:
            found[what] = _read(root / entry[0], entry[1], f"its {what}")
        elif root is not None and what != "mask":
            raise BrokenInput(
                f"{what}_missing", f"has no {what} of its name in the folder given as --{what}s. Add it, or move it out."
            )
    return Inputs(photo, **found)


def _stage_path(out: Path, sample: Sample, suffix: str) -> Path:
    return out / "private" / "stages" / f"{sample.id}.{suffix}"


def _load_detection(out: Path, sample: Sample) -> Detection:
    path = _stage_path(out, sample, "detect.json")
    if not path.exists():
        raise RunFolderError(f"{out}: nothing is detected for {sample.source} yet. Run 'p3mdata detect' first.")
    return Detection.from_json(read_json(path))


def run_stage(sample: Sample, job: Job, finder: FaceFinder, stage: Stage) -> None:
    """One step that does not publish; its product waits under private/stages. Broken inputs are left to `verify`."""
    product = {Stage.DETECT: "detect.json", Stage.MASK: "mask.png", Stage.OBFUSCATE: "image"}[stage]
    path = _stage_path(job.out, sample, product)
    if path.exists():
        return
    try:
        loaded = load(read_inputs(sample, job), job.settings)
        if stage is Stage.DETECT:
            write_json(path, detect(loaded, finder).to_json(), PRIVATE_MODE)
            return
        masked = mask(loaded, _load_detection(job.out, sample), job.settings)
        facemask = encode_grey(masked.facemask.astype(np.uint8) * 255)
        if stage is Stage.MASK:
            write_atomic(path, facemask, PRIVATE_MODE)
            return
        drawn = _stage_path(job.out, sample, "mask.png")
        if not drawn.exists():
            raise RunFolderError(f"{job.out}: {sample.source} has no mask yet. Run 'p3mdata mask' first.")
        if drawn.read_bytes() != facemask:
            raise RunFolderError(f"{drawn}: was edited. Give own masks with --masks; delete it and run 'p3mdata mask'.")
        write_atomic(path, render(loaded, masked, job.settings)[0], PRIVATE_MODE)
    except BrokenInput:
        # The outcome `broken` and its reason are recorded by the stage that publishes.
        return


def _staged(sample: Sample, job: Job) -> tuple[Detection | None, bytes | None]:
    path = _stage_path(job.out, sample, "image")
    if not path.exists():
        # A broken input left no products; the full pass finds out why.
        return None, None
    return _load_detection(job.out, sample), path.read_bytes()


def process(
    sample: Sample, job: Job, finder: FaceFinder, stage: Stage, tick: Callable[[str], None]
) -> ImageResult:
    """One image to its outcome, its files published. No fault of one image stops the run."""
    try:
        inputs = read_inputs(sample, job)
        tick("read")
        detection, encoded = _staged(sample, job) if stage is Stage.VERIFY else (None, None)
        done = anonymize(sample, inputs, job.settings, finder, detection, encoded, tick)
    except BrokenInput as exc:
        done = Anonymized(
            ImageResult(sample.id, sample.source, Outcome.BROKEN, reason=exc.code, detail=exc.sentence), {}
        )
    except (KeyboardInterrupt, Interrupted):
        raise
    except Exception as exc:
        # A bug must not stop the other images, and must not be lost: the trace is kept and the exit code tells.
        append_row(job.out / "private" / "errors.jsonl", {"source": sample.source, "trace": traceback.format_exc()})
        sentence = f"met a fault of the program ({type(exc).__name__}: {exc}). Please report private/errors.jsonl."
        done = Anonymized(
            ImageResult(sample.id, sample.source, Outcome.BROKEN, reason="internal_error", detail=sentence), {}
        )
    try:
        publish(done, job.out)
    except OSError as exc:
        withdraw(sample.id, job.out)
        sentence = f"cannot be written to {job.out} ({exc.strerror}). Make room or change permissions, then run again."
        broken = ImageResult(sample.id, sample.source, Outcome.BROKEN, reason="cannot_write", detail=sentence)
        done = Anonymized(broken, {})
    tick("write")
    return replace(done.result, inputs=inputs_digest(sample))


def publish(done: Anonymized, out: Path) -> None:
    """Write an image's files, the image last, after removing what an earlier outcome released under its id."""
    names = {name for name, _ in done.result.files.values()}
    withdraw(done.result.id, out, keep=names)
    for kind in KINDS:
        if kind in done.files:
            write_atomic(out / kind / done.result.files[kind][0], done.files[kind][1])


def withdraw(identity: str, out: Path, keep: set[str] | frozenset[str] = frozenset()) -> None:
    """Remove released files of an id, the image first."""
    for kind in reversed(KINDS):
        for name in ("jpg", "png", "webp", "tif"):
            if f"{identity}.{name}" not in keep:
                (out / kind / f"{identity}.{name}").unlink(missing_ok=True)


def _still_valid(row: ImageResult, sample: Sample, out: Path) -> bool:
    if row.inputs != inputs_digest(sample) or row.reason in TRANSIENT:
        return False
    for kind, (name, expected) in row.files.items():
        path = out / kind / name
        if not path.is_file() or sha256(path.read_bytes()) != expected:
            return False
    return True


def shard_digest(samples: Sequence[Sample]) -> str:
    """Identity of a shard's work."""
    total = hashlib.sha256()
    for sample in samples:
        total.update(inputs_digest(sample).encode())
    return total.hexdigest()


def run_shard(
    job: Job,
    index: int,
    samples: Sequence[Sample],
    finder: Callable[[], FaceFinder],
    stage: Stage,
    stop: Callable[[], bool],
) -> None:
    """Bring every image of a shard to its outcome (or through one stage), then mark the shard as done.

    Args:
        job: Folders and settings.
        index: Number of the shard.
        samples: Its members.
        finder: Gives the worker's models, loading them on first use.
        stage: What to do.
        stop: Asked between images; True leaves the shard resumable.

    Raises:
        Interrupted: `stop` said so.
    """
    folder = shard_folder(job.out, index)
    if not stage.publishes:
        for sample in samples:
            if stop():
                raise Interrupted("stopped")
            run_stage(sample, job, finder(), stage)
        return
    identity = shard_digest(samples)
    if (folder / "DONE").exists() and (folder / "DONE").read_text() == identity:
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "DONE").unlink(missing_ok=True)
    results = folder / "results.jsonl"
    by_id = {sample.id: sample for sample in samples}
    rows = [ImageResult.from_json(row) for row in read_rows(results, torn_tail=True)]
    done = {row.id: row for row in rows if row.id in by_id and _still_valid(row, by_id[row.id], job.out)}
    # Rewritten without a torn last line, so that appending continues on a line of its own.
    write_rows(results, (row.to_json() for row in done.values()), PRIVATE_MODE)
    seconds: Counter[str] = Counter()
    for sample in samples:
        if sample.id in done:
            continue
        if stop():
            raise Interrupted("stopped")
        (folder / "current").write_text(sample.id)
        done[sample.id] = process(sample, job, finder(), stage, _stopwatch(seconds))
        append_row(results, done[sample.id].to_json())
    ordered = [done[sample.id] for sample in samples]
    write_rows(results, (row.to_json() for row in ordered), PRIVATE_MODE)
    write_json(folder / "stats.json", _stats(ordered, seconds).to_json())
    (folder / "current").unlink(missing_ok=True)
    write_atomic(folder / "DONE", identity.encode())


def record_crash(job: Job, index: int, samples: Sequence[Sample]) -> str | None:
    """After a worker died on one image again and again: hold that image back. Returns its source."""
    folder = shard_folder(job.out, index)
    with contextlib.suppress(FileNotFoundError):
        identity = (folder / "current").read_text()
        for sample in samples:
            if sample.id == identity:
                sentence = "makes the worker process die (out of memory, or a damaged file). Check or remove it."
                row = ImageResult(
                    sample.id, sample.source, Outcome.BROKEN, "crashed_worker", sentence, inputs=inputs_digest(sample)
                )
                withdraw(sample.id, job.out)
                append_row(folder / "results.jsonl", row.to_json())
                return sample.source
    return None


def _stopwatch(seconds: Counter[str]) -> Callable[[str], None]:
    last = time.perf_counter()

    def tick(stage: str) -> None:
        nonlocal last
        now = time.perf_counter()
        seconds[stage] += now - last  # type: ignore[assignment]
        last = now

    return tick


def _stats(rows: Sequence[ImageResult], seconds: Counter[str]) -> ShardStats:
    return ShardStats(
        samples=len(rows),
        outcomes=dict(Counter(row.outcome.value for row in rows)),
        reasons=dict(Counter(row.reason for row in rows if row.reason)),
        faces=sum(len(row.faces) for row in rows),
        seconds={stage: round(value, 3) for stage, value in seconds.items()},
    )

