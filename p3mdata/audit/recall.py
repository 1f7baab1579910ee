"""`p3mdata audit --recall`: a slower look at the sources of what was released, for faces that the run left bare.

It estimates how often the run misses a face, and puts what it finds into review: the picture is held back again.
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from p3mdata.anonymize.areas import mask
from p3mdata.anonymize.inputs import Loaded, load
from p3mdata.anonymize.masked import Masked
from p3mdata.anonymize.masks import core_coverage
from p3mdata.anonymize.pipeline import as_made
from p3mdata.anonymize.proofs import MISS_BELOW, MISS_BELOW_UNCONFIRMED
from p3mdata.base.disk_backed import DiskDict
from p3mdata.base.files import sha256
from p3mdata.base.jsonl import PRIVATE_MODE, append_row, write_json, write_rows
from p3mdata.base.pool import CRASHED
from p3mdata.base.processes import default_workers
from p3mdata.base.progress import Progress, silent
from p3mdata.errors import BrokenInput, SettingsError, unwritable
from p3mdata.faces import slow
from p3mdata.faces.ensemble import Detection, FaceFinder, is_agreed, same_face
from p3mdata.faces.models import Models
from p3mdata.faces.slow import Seen, look_slowly
from p3mdata.records import XYXY, Action, Face, ImageResult, Outcome, Sample, Suspect
from p3mdata.run.close import close_run, is_closed
from p3mdata.run.inputs import read_inputs
from p3mdata.run.layout import IMAGES, LOOKS, PLAN, RECALL, RESULTS, open_shard, shard_folder
from p3mdata.run.locks import finished_run
from p3mdata.run.look import Looking, look_over
from p3mdata.run.plan import Plan, refuse_other_version
from p3mdata.run.recall import InReview, Looked, SecondLook, called_none, counted, in_review, read_looks
from p3mdata.run.rows import Rows, finished_rows, open_shards
from p3mdata.run.samples import Samples
from p3mdata.run.shards import process, run_shard
from p3mdata.run.stages import Stage
from p3mdata.run.suspects import append_suspects
from p3mdata.typing import Json

_WORTH_A_WORKER = 2
# Of two places of the second look, the smaller one lies so far in the other: they are one face.
_INSIDE = 0.6

_Task = tuple[Sample, ImageResult]


@dataclass(frozen=True)
class Recall:
    """What a second look came to.

    Attributes:
        out: The run.
        figures: What recall.json holds.
        held: Ids of the pictures that this call holds back again.
        waiting: Ids of all pictures that a second look holds back now.
        review: What became of all that second looks found, and how much of it waits.
        left_out: Pictures that could not be looked at: source, and why.
    """

    out: Path
    figures: SecondLook
    held: tuple[str, ...]
    waiting: tuple[str, ...]
    review: InReview
    left_out: tuple[tuple[str, str], ...]

    @property
    def complete(self) -> bool:
        """Whether all pictures were looked at and nothing waits for a person."""
        return not self.left_out and not self.waiting

    def to_json(self) -> Json:
        return {
            **self.figures.to_json(),
            "held_back": list(self.held),
            "waiting": list(self.waiting),
            "review": self.review.to_json(),
            "not_looked_at": [{"source": source, "reason": why} for source, why in self.left_out],
        }


@dataclass(frozen=True)
class _Look:
    """A worker's answer: what it saw, new faces among it, or why it could not look."""

    looked: Looked
    new: tuple[Face, ...] = ()
    problem: str | None = None


def recall_run(
    out: Path,
    sample: int | None = None,
    seed: int = 0,
    workers: int = 0,
    progress: Progress | None = None,
) -> Recall:
    """Look a second time, slowly, at the sources of released pictures; what it finds bare is held back again.

    Writes RUN/recall.json. What was seen is kept, so that the same call goes on where it was stopped, and a larger
    sample of the same seed has the smaller one in it.

    Args:
        out: The run folder.
        sample: How many pictures, drawn at random; None looks at all.
        seed: Another seed, another sample.
        workers: Processes; 0 takes as many as cores and memory allow, 1 works in this one.
        progress: Gets the number of pictures; gives a function that is called after each.

    Raises:
        SettingsError: `sample` is no number of pictures, nothing was released, or no source can be looked at.
        RunFolderError: Not a run, not finished, in use, or made by another version or with other models.
    """
    if sample is not None and sample < 1:
        raise SettingsError(f"--sample cannot be {sample}. Give the number of pictures to look at, or leave it out.")
    try:
        with finished_run(out) as (plan, samples), contextlib.closing(Models()) as models:
            refuse_other_version(plan)
            if not plan.job.source.is_dir():
                raise SettingsError(
                    f"{plan.job.source}: the photographs of the run are not there any more, and a second look needs "
                    "them. Put them back."
                )
            with _Holding(plan, samples, models) as holding:
                return _look(plan, samples, holding, sample, seed, workers or default_workers(), progress or silent)
    except OSError as exc:
        raise unwritable(out, exc) from exc


class _Holding:
    """Holds pictures back again, in an order of writes that every crash resumes; when it ends, the run is closed."""

    def __init__(self, plan: Plan, samples: Samples, models: Models) -> None:
        self._plan, self._samples, self._models = plan, samples, models
        # Whoever was killed before a run was closed left it open.
        self._changed = not is_closed(plan)

    def __enter__(self) -> _Holding:
        self._settle()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._changed:
            self._settle()
            close_run(self._plan, 0.0)

    def _settle(self) -> None:
        """Finish the shards that a decision, a finding or an interruption left open."""
        for number in open_shards(self._plan):
            shard = self._plan.members(self._samples, number)
            run_shard(self._plan.job, number, shard, self._models, Stage.ALL, lambda sample: True)
            self._changed = True

    def hold(self, sample: Sample, faces: Iterable[Face]) -> ImageResult:
        """Hold a picture back with new faces under suspicion; gives its row."""
        out = self._plan.job.out
        folder = shard_folder(out, sample.index // self._plan.shard_size)
        suspects = (*sample.suspects, *(Suspect(face, sample.decision) for face in faces))
        open_shard(folder)
        self._changed = True
        append_suspects(out, sample.id, suspects)
        self._samples.suspect(sample.id, suspects)
        row = process(self._samples[sample.index], self._plan.job, self._models, Stage.ALL, lambda stage: None)
        append_row(folder / RESULTS, row.to_json(), PRIVATE_MODE)
        return row


def _look(
    plan: Plan, samples: Samples, holding: _Holding, wanted: int | None, seed: int, workers: int, progress: Progress
) -> Recall:
    out = plan.job.out
    population, chosen = _draw(samples, finished_rows(plan, samples), wanted, seed)
    if not chosen:
        raise SettingsError(f"{out}: nothing was released with its faces hidden, so there is nothing to look at again.")
    known: DiskDict[Looked] = DiskDict((look.id, replace(look, drawn=False)) for look in read_looks(out))
    write_rows(out / LOOKS, (look.to_json() for look in known.values()), PRIVATE_MODE)
    rows = Rows(plan)
    step = progress(len(chosen))
    held: list[str] = []
    left_out: list[tuple[str, str]] = []

    def to_look() -> Iterator[_Task]:
        for index in chosen:
            sample, row = samples[index], rows[index]
            look = known.get(sample.id)
            # Of a picture that was left out since nothing can be looked at: what was seen counts.
            if look is not None and (look.key == _key(row) or row.outcome is Outcome.EXCLUDED):
                known[sample.id] = replace(look, drawn=True)
                step()
            else:
                yield sample, row

    looking = Looking(_placed, _crashed, _WORTH_A_WORKER, ordered=False)
    for index, found in look_over(plan, to_look(), len(chosen), workers, looking):
        sample = samples[index]
        if found.problem is not None:
            left_out.append((sample.source, found.problem))
        else:
            looked = found.looked
            if found.new:
                looked = replace(looked, key=_key(holding.hold(sample, found.new)))
                held.append(sample.id)
            append_row(out / LOOKS, looked.to_json(), PRIVATE_MODE)
            known[sample.id] = replace(looked, drawn=True)
        step()
    if len(left_out) == len(chosen):
        raise SettingsError(f"{out}: no picture could be looked at: {left_out[0][0]} {left_out[0][1]}")
    write_rows(out / LOOKS, (look.to_json() for look in known.values()), PRIVATE_MODE)
    figures = SecondLook(
        plan_sha256=sha256((out / PLAN).read_bytes()),
        version=slow.VERSION,
        sides={name: list(sides) for name, sides in slow.SIDES.items()},
        seed=seed,
        released=population,
        all_looked_at=len(chosen) - len(left_out) == population,
        left_out=dict(Counter(why.split(" (")[0] for _, why in left_out)),
        counted=counted((look for look in known.values() if look.drawn), called_none(out)),
    )
    write_json(out / RECALL, figures.to_json())
    waiting = tuple(sample.id for sample in samples if sample.suspected and not _taken_down(sample))
    return Recall(out, figures, tuple(held), waiting, in_review(out), tuple(left_out))


def _draw(samples: Samples, rows: Sequence[ImageResult], wanted: int | None, seed: int) -> tuple[int, Sequence[int]]:
    """How many pictures there are, and the positions of those that are drawn, each as likely as any other."""
    places, lots = array("q"), 0

    def all_of_them() -> Iterator[tuple[bytes, int]]:
        nonlocal lots
        for sample, row in zip(samples, rows, strict=True):
            if _takes_part(sample, row):
                lots += 1
                yield hashlib.sha256(f"p3mdata.recall.v1/{seed}/{sample.id}".encode()).digest(), sample.index

    if wanted is None:
        places.extend(index for _, index in all_of_them())
    else:
        places.extend(sorted(index for _, index in heapq.nsmallest(wanted, all_of_them())))
    return lots, places


def _takes_part(sample: Sample, row: ImageResult) -> bool:
    """Whether a picture was released by what the run saw, or would be but for an earlier second look.

    Where faces are shown by permission none can be missed.
    """
    if row.outcome is Outcome.SHOWN_BY_PERMISSION:
        return False
    return row.outcome.released or (bool(sample.suspects) and not _taken_down(sample))


def _taken_down(sample: Sample) -> bool:
    return sample.decision is not None and sample.decision.action is Action.REMOVE


def _key(row: ImageResult) -> str:
    digest = row.files[IMAGES][1] if IMAGES in row.files else ""
    return hashlib.sha256(f"{slow.VERSION}/{row.inputs}/{digest}".encode()).hexdigest()


def _placed(plan: Plan, sample: Sample, row: ImageResult, finder: FaceFinder) -> tuple[int, _Look]:
    """Position of a picture, and what is seen on it."""
    return sample.index, look_at(plan, sample, row, finder)


def _crashed(sample: Sample, row: ImageResult) -> tuple[int, _Look]:
    return sample.index, _Look(Looked(sample.id, ""), problem=f"makes the worker process die ({CRASHED})")


def look_at(plan: Plan, sample: Sample, row: ImageResult, finder: FaceFinder) -> _Look:
    """One picture: the slow look at its source, held against what of it is hidden in the release."""
    nothing = Looked(sample.id, _key(row))
    if row.outcome is Outcome.EXCLUDED:
        boxes = tuple(suspect.face.box for suspect in sample.suspects)
        return _Look(replace(nothing, missed=boxes))
    try:
        loaded = as_made(load(read_inputs(sample, plan.job), plan.job.settings), row)
    except BrokenInput as exc:
        return _Look(nothing, problem=exc.sentence)
    if IMAGES in row.files and (why := _other_file(plan, row)):
        return _Look(nothing, problem=why)
    masked = mask(loaded, Detection(row.faces, ()), plan.job.settings)
    return _compared(nothing, _seen(loaded, finder), sample, row, masked)


def _other_file(plan: Plan, row: ImageResult) -> str | None:
    """Why the released file cannot be judged, or None."""
    name, digest = row.files[IMAGES]
    try:
        data = (plan.job.out / IMAGES / name).read_bytes()
    except OSError as exc:
        return f"was released, and its file cannot be read ({exc.strerror}). Run 'p3mdata anonymize dir' again."
    return None if sha256(data) == digest else "was released, and its file was changed. Run 'p3mdata verify'."


def _seen(loaded: Loaded, finder: FaceFinder) -> list[Seen]:
    """What is seen on a picture, and, where it is transparent, as a viewer shows it."""
    found = look_slowly(loaded.picture.seen8(), finder)
    shown = loaded.picture.over_grey()
    if loaded.picture.opacity is None or shown is None:
        return found
    return found + [
        seen
        for seen in look_slowly(shown, finder)
        if seen.credible and not any(same_face(seen.face.box, known.face.box) for known in found if known.credible)
    ]


def _compared(nothing: Looked, seen: Sequence[Seen], sample: Sample, row: ImageResult, masked: Masked) -> _Look:
    dropped = () if sample.decision is None else sample.decision.dropped
    hidden = 0
    missed: list[XYXY] = []
    new: list[Face] = []
    lists: Counter[str] = Counter()
    suspected = {suspect.face.box for suspect in sample.suspects}
    agreed = [face for face in row.faces if is_agreed(face) and face.box not in suspected]
    again: set[XYXY] = set()
    for one in sorted(seen, key=lambda one: (-sum(one.looks.values()), one.face.box)):
        box = one.face.box
        own = [face for face in agreed if same_face(face.box, box)]
        again |= {face.box for face in own}
        if not one.credible and not own:
            continue
        before = [suspect for suspect in sample.suspects if _one_place(box, suspect.face.box)]
        if any(_one_place(box, other) for other in (*missed, *dropped)) or any(
            s.is_none(sample.decision) for s in before
        ):
            continue
        if before:
            missed.append(before[0].face.box)
        elif own or _is_hidden(one, masked):
            hidden += 1
        else:
            missed.append(box)
            new.append(one.face)
        names = sorted(one.looks)
        lists["both" if len(names) > 1 else names[0]] += 1
    # An earlier second look saw them, whatever this one sees.
    missed += [s.face.box for s in sample.suspects if s.face.box not in missed and not s.is_none(sample.decision)]
    unseen = sum(face.box not in again for face in agreed)
    looked = replace(nothing, hidden=hidden, missed=tuple(missed), unseen=unseen, lists=dict(lists))
    return _Look(looked, tuple(new))


def _is_hidden(seen: Seen, masked: Masked) -> bool:
    """Whether the core of a face is hidden in the release; without landmarks its box may lie a little beside."""
    return core_coverage(seen.face, masked.covered) >= (MISS_BELOW if seen.mesh else MISS_BELOW_UNCONFIRMED)


def _one_place(a: XYXY, b: XYXY) -> bool:
    """Whether two boxes are of one face, or the smaller one lies mostly in the other."""
    if same_face(a, b):
        return True
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return width > 0 and height > 0 and width * height >= _INSIDE * smaller
