"""One review of one run: what is open, what was decided, and the image done again after each decision."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from p3mdata.base.jsonl import PRIVATE_MODE, append_row, read_rows
from p3mdata.errors import BrokenInput, P3MError, RunFolderError, SettingsError
from p3mdata.faces.models import Models
from p3mdata.imaging import encode_mask
from p3mdata.records import XYXY, Action, Decision, ImageResult, Mask, Outcome, Sample
from p3mdata.review.views import View
from p3mdata.run.close import RunSummary, close_run, is_closed
from p3mdata.run.decisions import append, keep_mask, now, read_log, told_apart
from p3mdata.run.inputs import read_inputs
from p3mdata.run.layout import QUEUE, RESULTS, SAMPLE, open_shard, shard_folder
from p3mdata.run.locks import finished_run, writing
from p3mdata.run.plan import Plan, of_this_version, refuse_other_version
from p3mdata.run.rows import open_shards, read_results
from p3mdata.run.samples import Samples
from p3mdata.run.shards import process, run_shard
from p3mdata.run.stages import Stage
from p3mdata.typing import Json

# Decoded photographs that are kept, so that the pictures of one item are made from one decoding.
_KEPT_VIEWS = 3


class Refused(P3MError):
    """A decision that cannot be carried out as it is."""


class Conflict(Refused):
    """Somebody else decided about the image since it was shown."""


class SourceGone(Refused):
    """The source file is not what it was when the run was planned."""


@dataclass(frozen=True)
class QueueItem:
    """One image that a person may look at, without what is large."""

    index: int
    id: str
    source: str
    outcome: Outcome
    reason: str | None
    decision: Decision | None
    sampled: bool

    @property
    def open(self) -> bool:
        """Whether a person has yet to decide."""
        return self.outcome is Outcome.NEEDS_REVIEW or (self.sampled and self.decision is None)


class Session:
    """Items, pictures and decisions of a finished run whose lock is held. Safe to call from several threads.

    Args:
        plan, samples: Of the run.
        models: Gives the models on first use.
        reviewer: Recorded with every decision.
        takes_down: Only to take images down, which no version refuses: decisions that an earlier review left to be
            carried out, and this version must not, wait, and their images are held back.
    """

    def __init__(
        self,
        plan: Plan,
        samples: Samples,
        models: Models,
        reviewer: str | None = None,
        takes_down: bool = False,
    ) -> None:
        self.plan, self.reviewer, self._takes_down = plan, reviewer, takes_down
        self._out = plan.job.out
        self._samples, self._models = samples, models
        self._index = {sample.id: sample.index for sample in samples}
        self._lock = threading.RLock()
        self._views: OrderedDict[tuple[str, int], View] = OrderedDict()
        self._shard: tuple[int, dict[str, ImageResult]] | None = None
        self._versions = Counter(identity for identity, _ in read_log(self._out))
        self._changed = not is_closed(plan)
        self.summary: RunSummary | None = None
        self._settle()
        self._sampled = frozenset(row["id"] for row in read_rows(self._out / SAMPLE, needs=("id",)))
        self._items = self._listed()

    def _listed(self) -> dict[str, QueueItem]:
        """Items of the queue, of the random sample, and those decided about, in the order of the sources."""
        queued = {row["id"] for row in read_rows(self._out / QUEUE, needs=("id",))}
        wanted = (queued | self._sampled | set(self._versions)) & set(self._index)
        # Shard by shard, each of which is read once.
        inner = sorted(wanted, key=self._index.__getitem__)
        return _by_source({identity: self._listing(identity) for identity in inner})

    def _listing(self, identity: str) -> QueueItem:
        index, row = self._index[identity], self.row(identity)
        decision = self._samples[index].decision
        return QueueItem(index, identity, row.source, row.outcome, row.reason, decision, identity in self._sampled)

    def items(self, view: str) -> list[QueueItem]:
        """Items of a view: open, decided, sample or all."""
        with self._lock:
            return [item for item in self._items.values() if _in_view(item, view)]

    def item(self, identity: str) -> QueueItem:
        """One item.

        Raises:
            Refused: No image of the run has this id.
        """
        with self._lock:
            if identity not in self._index:
                raise Refused(f"{identity}: no image of this run has this id.")
            return self._items.get(identity) or self._listing(identity)

    def row(self, identity: str) -> ImageResult:
        """The image's row, as it stands now."""
        with self._lock:
            number = self._index[identity] // self.plan.shard_size
            if self._shard is None or self._shard[0] != number:
                rows = {row.id: row for row in read_results(shard_folder(self._out, number))}
                self._shard = (number, rows)
            return self._shard[1][identity]

    def version(self, identity: str) -> int:
        """Number of decisions about an image so far."""
        with self._lock:
            return self._versions[identity]

    def view(self, identity: str) -> View:
        """The decoded photograph with its areas.

        Raises:
            SourceGone: The source vanished, changed, or cannot be used.
        """
        with self._lock:
            sample = self._samples[self._index[identity]]
            key = identity, self._versions[identity]
            if key not in self._views:
                try:
                    self._views[key] = View.of(read_inputs(sample, self.plan.job), self.row(identity), self.plan.job)
                except BrokenInput as exc:
                    raise SourceGone(f"{sample.source} {exc.sentence}") from exc
                while len(self._views) > _KEPT_VIEWS:
                    self._views.popitem(last=False)
            self._views.move_to_end(key)
            return self._views[key]

    def decide(
        self,
        identity: str,
        action: Action,
        *,
        mask: Mask | None = None,
        keep_transition: bool = False,
        confirmed: bool = False,
        settings: Json | None = None,
        dropped: Sequence[XYXY] = (),
        basis: str | None = None,
        version: int | None = None,
    ) -> ImageResult:
        """Record a decision, then obfuscate and prove the image again and publish or withdraw it.

        Args:
            identity: The image.
            action: What the person said.
            mask: HxW at the size of the photograph, for `Action.MASK`.
            keep_transition: Obfuscate the transition area inside the mask too.
            confirmed: Release although detectors see a face outside the mask.
            settings: Of this picture, where they differ from the run's.
            dropped: Boxes that are no faces; those dropped before stay so.
            basis: For `Action.SHOW`: the legal ground on which the picture may be shown with its faces.
            version: Number of decisions that the person knew of; None skips the comparison.

        Raises:
            Refused, Conflict, SourceGone: Nothing was recorded.
            OSError: The run folder cannot be written; the decision may stand and be carried out by the next resume.
        """
        with self._lock:
            self._refuse(identity, action, mask, version)
            basis = self._ground(identity, action, basis)
            drawn = keep_mask(self._out, identity, encode_mask(mask)) if mask is not None else None
            before = self.item(identity).decision
            if before is not None and not action.withholds and action is not Action.REOPEN:
                dropped = tuple(dict.fromkeys((*before.dropped, *dropped)))
            # What the person saw is what the word is about.
            shown = tuple(doubt.sentence for doubt in self.row(identity).doubts)
            # A picture that was left out has no doubts of its own: the person saw them when leaving it out.
            if before is not None and before.action in (action, Action.EXCLUDE):
                shown = tuple(dict.fromkeys((*(before.shown or ()), *shown)))
            decision = Decision(
                action,
                drawn,
                keep_transition,
                confirmed,
                now(),
                self.reviewer,
                settings or {},
                tuple(dropped),
                shown,
                basis,
            )
            try:
                self.plan.job.settings.decided(decision)
            except SettingsError as exc:
                raise Refused(str(exc)) from exc
            return self._carry_out(identity, decision)

    def _refuse(self, identity: str, action: Action, mask: Mask | None, version: int | None) -> None:
        item = self.item(identity)
        if version is not None and version != self._versions[identity]:
            raise Conflict(f"{item.source}: somebody decided about it meanwhile. Look at it again.")
        if item.decision is not None and item.decision.action is Action.REMOVE:
            raise Refused(f"{item.source}: was taken down and stays so.")
        if action.withholds:
            return
        try:
            refuse_other_version(self.plan)
        except RunFolderError as exc:
            raise Refused(str(exc)) from exc
        sample = self._samples[item.index]
        try:
            read_inputs(replace(sample, decision=None), self.plan.job)
        except BrokenInput as exc:
            raise SourceGone(f"{item.source} {exc.sentence}") from exc
        if action is Action.ACCEPT and item.decision is None and not self.row(identity).faces and sample.mask is None:
            raise Refused(
                f"{item.source}: no face was found, so there is nothing to accept. Draw a mask or say no face."
            )
        if action is Action.MASK and (mask is None or not mask.any()):
            raise Refused(f"{item.source}: the mask is empty. Draw one, or say that there is no face.")

    def _ground(self, identity: str, action: Action, basis: str | None) -> str | None:
        """The ground of a permission; one that was given before stands while the picture is still to be shown.

        Raises:
            Refused: None is given, or nobody is named who decides.
        """
        if action is not Action.SHOW:
            return None
        item = self.item(identity)
        before = item.decision.basis if item.decision is not None and item.decision.permits else None
        basis = (basis or "").strip() or before
        if basis is None:
            raise Refused(f"{item.source}: say on what legal ground it may be shown with its faces.")
        if not self.reviewer:
            raise Refused(
                f"{item.source}: who decides that it may be shown must be named. Start the review with --reviewer NAME."
            )
        return basis

    def _carry_out(self, identity: str, decision: Decision) -> ImageResult:
        index = self._index[identity]
        number = index // self.plan.shard_size
        rows = {**(self._shard[1] if self._shard and self._shard[0] == number else {})}
        # The order makes a crash harmless: a shard that is not done is looked through again, and the log says what for.
        open_shard(shard_folder(self._out, number))
        self._changed = True
        decision = told_apart(decision, self._samples[index].suspects)
        append(self._out, identity, decision)
        self._versions[identity] += 1
        standing = None if decision.action is Action.REOPEN else decision
        self._samples.decide(identity, standing)
        row = process(self._samples[index], self.plan.job, self._models, Stage.ALL, lambda stage: None)
        append_row(shard_folder(self._out, number) / RESULTS, row.to_json(), PRIVATE_MODE)
        if rows:
            self._shard = (number, {**rows, identity: row})
        self._items[identity] = self._listing(identity)
        self._items = _by_source(self._items)
        return row

    def _settle(self) -> None:
        """Finish the shards that decisions, or an interruption, left open."""
        makes = not self._takes_down or of_this_version(self.plan)
        for number in open_shards(self.plan):
            shard = self.plan.members(self._samples, number)
            run_shard(self.plan.job, number, shard, self._models, Stage.ALL, self._may_make, makes=makes)
            self._changed = True
        self._shard = None

    def _may_make(self, sample: Sample) -> bool:
        if not self._takes_down and (sample.decision is None or not sample.decision.action.withholds):
            refuse_other_version(self.plan)
        return True

    def close(self, always: bool = False) -> RunSummary | None:
        """Carry out what is left and write manifest, ledger, queue and report.

        Args:
            always: Write them even if nothing was decided.

        Returns:
            What the run comes to; None when nothing was written in this review. Kept in `summary`.
        """
        with self._lock:
            if self._changed or always:
                self._settle()
                self.summary = close_run(self.plan, 0.0)
                self._changed = False
                self._items = self._listed()
            return self.summary


def _by_source(items: dict[str, QueueItem]) -> dict[str, QueueItem]:
    """People look at pictures in the order of their folder, where neighbours are alike."""
    return dict(sorted(items.items(), key=lambda pair: pair[1].source))


def _in_view(item: QueueItem, view: str) -> bool:
    return {"open": item.open, "decided": item.decision is not None, "sample": item.sampled, "all": True}[view]


@contextlib.contextmanager
def reviewing(out: Path, reviewer: str | None = None, takes_down: bool = False) -> Iterator[Session]:
    """Hold a finished run for a review; when the block ends, manifest and report are written.

    Raises:
        RunFolderError: Not a run, not finished, or in use by another process.
    """
    with writing(out), finished_run(out) as (plan, samples), contextlib.closing(Models()) as models:
        session = Session(plan, samples, models, reviewer, takes_down)
        try:
            yield session
        finally:
            session.close()
