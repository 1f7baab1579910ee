"""One shard of a run: the unit of work, of failure and of statistics. Called by every executor.

A shard folder fills row by row, so that a run stopped at any moment continues after the last finished image;
DONE is written last. A row counts only for the inputs it was made from and while its files still have its hashes:
a shard that is done is looked through again, and what does not count any more is done again.
"""

from __future__ import annotations

import contextlib
import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from pathlib import Path

from p3mdata.anonymize import Anonymized, Inputs, anonymize, detect, load, mask, render
from p3mdata.config import Job
from p3mdata.errors import BrokenInput, Interrupted, P3MError, RunFolderError
from p3mdata.faces.ensemble import Detection, FaceFinder
from p3mdata.files import sha256, write_atomic
from p3mdata.images import encode_mask
from p3mdata.manifest import PRIVATE_MODE, append_row, dumps, image_rows, read_json, write_json, write_rows
from p3mdata.records import Action, Decision, ImageResult, Outcome, Sample, ShardStats
from p3mdata.sources import read_source

KINDS = ("facemasks", "alphas", "images")
# Faults of the place or the program, not of the picture: such rows are tried again on resume.
TRANSIENT = frozenset({"cannot_read", "out_of_memory", "crashed_worker", "internal_error"})
_CRASHED = "makes the worker process die (out of memory, or a damaged file). Check or remove it."
_EXTENSIONS = ("jpg", "png", "webp", "tif")


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

    @property
    def looks(self) -> bool:
        """Whether it needs the models."""
        return self not in (Stage.MASK, Stage.OBFUSCATE)


_PRODUCTS = {Stage.DETECT: "detect.json", Stage.MASK: "mask.png", Stage.OBFUSCATE: "image"}


def shard_folder(out: Path, index: int) -> Path:
    """Folder of one shard; private, since its rows hold sources and landmarks."""
    return out / "shards" / f"{index:05d}"


def inputs_digest(sample: Sample) -> str:
    """Changes when any file of a sample changes."""
    return sha256(dumps(sample.to_json()).encode("utf-8", "surrogateescape"))


def _read(path: Path, expected: str, what: str = "") -> bytes:
    subject = f"has {'an' if what[0] in 'aeiou' else 'a'} {what} that " if what else ""
    try:
        data = read_source(path)
    except OSError as exc:
        raise BrokenInput("cannot_read", f"{subject}cannot be read ({exc.strerror or exc}). Check it.") from exc
    if sha256(data) != expected:
        raise BrokenInput("changed", f"{subject}has changed since the run was planned. Use another OUT.")
    return data


def read_inputs(sample: Sample, job: Job) -> Inputs:
    """Bytes of a sample and its companions, checked against the plan.

    Raises:
        BrokenInput: A file is unreadable, changed, ambiguous, or a matte is missing where mattes were given.
    """
    if sample.problem:
        raise BrokenInput("ambiguous_companion", sample.problem)
    photo = _read(job.source / sample.source, sample.sha256)
    found: dict[str, bytes | None] = {}
    decided = sample.decision
    if decided is not None and decided.action in (Action.NO_FACE, Action.MASK):
        sample = replace(sample, mask=decided.mask)
    drawn = job.out / "private" if decided is not None and decided.action is Action.MASK else job.masks
    for what, root in (("alpha", job.alphas), ("trimap", job.trimaps), ("mask", drawn)):
        entry = getattr(sample, what)
        if root is not None and entry is not None:
            found[what] = _read(root / entry[0], entry[1], what)
        elif root is not None and what != "mask":
            raise BrokenInput(
                f"{what}_missing", f"has no {what} of its name in the folder given as --{what}s. Add it or move it out."
            )
    return Inputs(photo, **found, decision=decided)


def stages_folder(out: Path) -> Path:
    """Where the staged commands keep what is not released yet."""
    return out / "private" / "stages"


def _stage_path(out: Path, sample: Sample, suffix: str) -> Path:
    # Other inputs, other names: a hand-drawn mask that is added makes earlier products count no more.
    return stages_folder(out) / f"{sample.id}.{inputs_digest(sample)[:12]}.{suffix}"


def run_stage(sample: Sample, job: Job, finder: Callable[[], FaceFinder], stage: Stage, crashing: bool = False) -> None:
    """One step that does not publish; its product waits under private/stages.

    A fault of one image stops nothing: it leaves a mark, and the stage that publishes finds out and records why.
    """
    path, failed = (_stage_path(job.out, sample, suffix) for suffix in (_PRODUCTS[stage], "failed"))
    if stage is Stage.DETECT and not crashing:
        failed.unlink(missing_ok=True)
    if path.exists() or failed.exists():
        return
    try:
        data = None if crashing else _product(sample, job, finder, stage)
    except P3MError:
        raise
    except Exception:
        data = None
    write_atomic(failed if data is None else path, data or b"", PRIVATE_MODE)


def _product(sample: Sample, job: Job, finder: Callable[[], FaceFinder], stage: Stage) -> bytes:
    loaded = load(read_inputs(sample, job), job.settings)
    if stage is Stage.DETECT:
        return dumps(detect(loaded, finder()).to_json()).encode()
    masked = mask(loaded, _load_detection(job.out, sample), job.settings)
    facemask = encode_mask(masked.facemask)
    if stage is Stage.MASK:
        return facemask
    drawn = _stage_path(job.out, sample, _PRODUCTS[Stage.MASK])
    if not drawn.exists():
        raise RunFolderError(f"{job.out}: {sample.source} has no mask yet. Run 'p3mdata mask' first.")
    _refuse_edited(drawn, facemask, "Give own masks with --masks; delete it and run 'p3mdata mask'.")
    return render(loaded, masked, job.settings)[0]


def _load_detection(out: Path, sample: Sample) -> Detection:
    path = _stage_path(out, sample, _PRODUCTS[Stage.DETECT])
    if not path.exists():
        raise RunFolderError(f"{out}: nothing is detected for {sample.source} yet. Run 'p3mdata detect' first.")
    return Detection.from_json(read_json(path))


def _refuse_edited(path: Path, expected: bytes, way_out: str) -> None:
    if path.read_bytes() != expected:
        raise RunFolderError(f"{path}: was edited. {way_out}")


def _anonymize_staged(
    sample: Sample, job: Job, inputs: Inputs, finder: FaceFinder, tick: Callable[[str], None]
) -> Anonymized:
    """Prove and release what the earlier stages made; what they could not make gets the full pass."""
    path = _stage_path(job.out, sample, _PRODUCTS[Stage.OBFUSCATE])
    detection = _load_detection(job.out, sample) if path.exists() else None
    done = anonymize(sample, inputs, job.settings, finder, detection, tick=tick)
    if detection and "images" in done.files:
        _refuse_edited(path, done.files["images"][1], "Delete it and run 'p3mdata obfuscate'.")
    return done


def process(
    sample: Sample,
    job: Job,
    finder: Callable[[], FaceFinder],
    stage: Stage,
    tick: Callable[[str], None],
    crashing: bool = False,
) -> ImageResult:
    """One image to its outcome, its files published. No fault of one image stops the run.

    Raises:
        OSError: The run folder cannot be written; nothing of the image is left in it.
        P3MError: A product of an earlier stage was edited.
    """
    if sample.decision is not None and sample.decision.action.withholds:
        done = _withheld(sample, sample.decision)
    else:
        done = _worked_on(sample, job, finder, stage, tick, crashing)
    publish(done, job.out)
    tick("write")
    return replace(done.result, inputs=inputs_digest(sample))


def _worked_on(
    sample: Sample,
    job: Job,
    finder: Callable[[], FaceFinder],
    stage: Stage,
    tick: Callable[[str], None],
    crashing: bool,
) -> Anonymized:
    try:
        if crashing:
            raise BrokenInput("crashed_worker", _CRASHED)
        inputs = read_inputs(sample, job)
        tick("read")
        if stage is Stage.VERIFY:
            return _anonymize_staged(sample, job, inputs, finder(), tick)
        return anonymize(sample, inputs, job.settings, finder(), tick=tick)
    except P3MError:
        raise
    except BrokenInput as exc:
        return _broken(sample, exc.code, exc.sentence)
    except MemoryError:
        return _broken(sample, "out_of_memory", "needs more memory than there is. Use fewer --workers, or remove it.")
    except Exception as exc:
        # A bug must not stop the other images, and must not be lost: the trace is kept and the exit code tells.
        append_row(job.out / "private" / "errors.jsonl", {"source": sample.source, "trace": traceback.format_exc()})
        sentence = f"met a fault of the program ({type(exc).__name__}: {exc}). Please report private/errors.jsonl."
        return _broken(sample, "internal_error", sentence)


def _withheld(sample: Sample, decision: Decision) -> Anonymized:
    """The result of an image that a person left out or took down; its file is not even opened."""
    taken_down = decision.action is Action.REMOVE
    code, sentence = ("taken_down", "was taken down") if taken_down else ("excluded_by_person", "a person left it out")
    return Anonymized(ImageResult(sample.id, sample.source, Outcome.EXCLUDED, code, sentence, decision=decision), {})


def _broken(sample: Sample, code: str, sentence: str) -> Anonymized:
    row = ImageResult(sample.id, sample.source, Outcome.BROKEN, code, sentence, decision=sample.decision)
    return Anonymized(row, {})


def publish(done: Anonymized, out: Path) -> None:
    """Write an image's files, the image last, after removing what an earlier outcome released under its id."""
    withdraw(done.result.id, out, keep={kind: name for kind, (name, _) in done.result.files.items()})
    try:
        for kind in KINDS:
            if kind in done.files:
                write_atomic(out / kind / done.result.files[kind][0], done.files[kind][1])
    except OSError:
        with contextlib.suppress(OSError):
            withdraw(done.result.id, out)
        raise


def withdraw(identity: str, out: Path, keep: Mapping[str, str] | None = None) -> None:
    """Remove released files of an id, the image first; `keep` names one file of a kind that stays."""
    for kind in reversed(KINDS):
        for name in (f"{identity}.{extension}" for extension in _EXTENSIONS):
            if name != (keep or {}).get(kind):
                (out / kind / name).unlink(missing_ok=True)


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


def read_results(folder: Path) -> list[ImageResult]:
    """Rows of a shard that were written whole, one per image: the last one counts.

    Raises:
        RunFolderError: The file is damaged.
    """
    return image_rows(folder / "results.jsonl", torn_tail=True)


def run_shard(
    job: Job,
    index: int,
    samples: Sequence[Sample],
    finder: Callable[[], FaceFinder],
    stage: Stage,
    go_on: Callable[[Sample], bool],
    crashing: Collection[str] = (),
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

    Raises:
        Interrupted: `go_on` said no.
        OSError: The run folder cannot be written.
    """
    if not stage.publishes:
        for sample in samples:
            if not go_on(sample):
                raise Interrupted("stopped")
            run_stage(sample, job, finder, stage, sample.id in crashing)
        return
    folder = shard_folder(job.out, index)
    by_id = {sample.id: sample for sample in samples}
    rows = read_results(folder)
    done = {row.id: row for row in rows if row.id in by_id and _still_valid(row, by_id[row.id], job.out)}
    if len(done) == len(samples) and (folder / "DONE").exists():
        return
    (folder / "DONE").unlink(missing_ok=True)
    results = folder / "results.jsonl"
    # Rewritten without a torn last line, so that appending continues on a line of its own.
    write_rows(results, (row.to_json() for row in done.values()), PRIVATE_MODE)
    seconds: Counter[str] = Counter()
    for sample in samples:
        if sample.id in done:
            continue
        if not go_on(sample):
            raise Interrupted("stopped")
        done[sample.id] = process(sample, job, finder, stage, _stopwatch(seconds), sample.id in crashing)
        append_row(results, done[sample.id].to_json())
    finish_shard(folder, [done[sample.id] for sample in samples], seconds)


def finish_shard(folder: Path, rows: Sequence[ImageResult], seconds: Counter[str]) -> None:
    """Write the rows of all members of a shard, in their order, and mark it as done."""
    write_rows(folder / "results.jsonl", (row.to_json() for row in rows), PRIVATE_MODE)
    write_json(folder / "stats.json", _stats(rows, seconds).to_json())
    write_atomic(folder / "DONE", b"")


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
