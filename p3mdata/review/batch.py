"""Decisions from a file, for a review without a browser: all of them are checked before the first one is carried out.

One JSON object per line: `id` or `source` names the image, `action` is accept, no_face, mask, exclude or reopen;
`keep_transition`, `confirmed`, `reviewer` and `mask` (a file name in the folder of masks) may be given. The log of
another run has this form too.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from p3mdata.anonymize.hand import drawn_area
from p3mdata.base.jsonl import NOT_JSON, read_rows
from p3mdata.base.progress import Progress, silent
from p3mdata.errors import BrokenInput, RunFolderError, SettingsError, reason_of
from p3mdata.faces.models import Models
from p3mdata.imaging import SUFFIXES, decode, decode_matte, encode_mask
from p3mdata.imaging.listing import regular_file
from p3mdata.records import Action, Decision, Sample, boxes_of
from p3mdata.run.close import RunSummary, close_run
from p3mdata.run.decisions import append, keep_mask, now, read_log, standing, told_apart
from p3mdata.run.executors import Work, local
from p3mdata.run.inputs import read_inputs
from p3mdata.run.layout import LOG, QUEUE, SOURCES, open_shard, shard_folder
from p3mdata.run.locks import finished_run, writing
from p3mdata.run.plan import Plan, of_this_version, refuse_other_version
from p3mdata.run.rows import open_shards
from p3mdata.run.samples import Samples
from p3mdata.run.shards import run_shard
from p3mdata.run.stages import Stage

_ACTIONS = {action.value: action for action in Action if action is not Action.REMOVE}
_FLAGS = ("keep_transition", "confirmed")
_LISTS = ("dropped", "shown")
_KNOWN = {"id", "source", "action", "mask", "mask_sha256", "time", "reviewer", "settings", "basis", *_LISTS, *_FLAGS}
_SHOWN = 10


@dataclass(frozen=True)
class _Wish:
    """One line of the file, checked; `mask` is the PNG to keep."""

    sample: Sample
    decision: Decision
    mask: bytes | None


def apply_file(
    out: Path,
    decisions: Path,
    masks: Path | None = None,
    reviewer: str | None = None,
    workers: int = 0,
    on_start: Progress | None = None,
) -> RunSummary:
    """Carry out the decisions of a file on a finished run; the last line about an image counts.

    Args:
        out: The run folder.
        decisions: JSON lines.
        masks: Folder of hand-drawn masks; the folder of the file when not given.
        reviewer: Recorded where a line names none.
        workers: Processes; 0 chooses.
        on_start: As for `run.anonymize_job`.

    Raises:
        SettingsError: Lines that cannot be carried out, each named; nothing was done.
        RunFolderError: Not a run, not finished, or in use.
    """
    with writing(out), finished_run(out) as (plan, samples):
        wishes = _checked(plan, samples, decisions, masks or decisions.parent, reviewer)
        if any(not wish.decision.action.withholds for wish in wishes):
            refuse_other_version(plan)
        return _carry_out(plan, samples, wishes, workers, on_start)


def redo_held(
    out: Path,
    settings: Mapping[str, Any],
    reviewer: str | None = None,
    workers: int = 0,
    on_start: Progress | None = None,
) -> RunSummary:
    """Do what a finished run holds back again with other settings, recorded with each picture; every doubt stands.

    Args:
        out: The run folder.
        settings: By name; those of `p3mdata.config.OF_A_PICTURE`.
        reviewer, workers, on_start: As for `apply_file`.

    Raises:
        SettingsError: They are no settings of a picture, or out of range; nothing was done.
        RunFolderError: Not a run, not finished, or in use.
    """
    with writing(out), finished_run(out) as (plan, samples):
        refuse_other_version(plan)
        asked = Decision(Action.REDO, time=now(), reviewer=reviewer, settings=dict(settings))
        checked = plan.job.settings.decided(asked).model_dump(mode="json")
        asked = replace(asked, settings={key: checked[key] for key in settings})
        held = {row["id"] for row in read_rows(out / QUEUE, needs=("id",))}
        wishes = [_Wish(sample, _again(sample.decision, asked), None) for sample in samples if sample.id in held]
        return _carry_out(plan, samples, wishes, workers, on_start)


def _again(before: Decision | None, asked: Decision) -> Decision:
    """The asked decision; of one before it a drawn mask and dropped boxes stay."""
    if before is None:
        return asked
    if before.mask is not None:
        return replace(asked, action=before.action, mask=before.mask, keep_transition=before.keep_transition)
    return replace(asked, dropped=before.dropped)


def _carry_out(
    plan: Plan, samples: Samples, wishes: Sequence[_Wish], workers: int, on_start: Progress | None
) -> RunSummary:
    for wish in wishes:
        _log(plan, wish)
    decided = samples.with_decisions(standing(read_log(plan.job.out)))
    progress = (on_start or silent)(plan.samples)
    if of_this_version(plan):
        local.run(Work(plan, decided, Stage.ALL, open_shards(plan), progress), workers)
    else:
        _leave_out(plan, decided, progress)
    return close_run(plan, 0.0)


def _leave_out(plan: Plan, samples: Samples, progress: Callable[[], object]) -> None:
    """What every version may do: images are left out, and none is made, also none that an earlier call left open."""

    def begun(sample: Sample) -> bool:
        progress()
        return True

    with contextlib.closing(Models()) as models:
        for number in open_shards(plan):
            members = plan.members(samples, number)
            run_shard(plan.job, number, members, models, Stage.ALL, begun, makes=False)


def _log(plan: Plan, wish: _Wish) -> None:
    out, decision = plan.job.out, wish.decision
    if wish.mask is not None:
        decision = replace(decision, mask=keep_mask(out, wish.sample.id, wish.mask))
    if _same(wish.sample.decision, decision) and not wish.sample.suspected:
        return
    # A shard that is not done is looked through again: a crash after this line loses nothing.
    open_shard(shard_folder(out, wish.sample.index // plan.shard_size))
    append(out, wish.sample.id, told_apart(decision, wish.sample.suspects))


def _same(old: Decision | None, new: Decision) -> bool:
    """Whether a decision says what stands already, so that applying a file twice changes nothing."""
    if old is None:
        return new.action is Action.REOPEN
    what = ("action", "mask", "keep_transition", "confirmed", "settings", "dropped", "shown", "basis")
    return all(getattr(old, name) == getattr(new, name) for name in what)


def _checked(plan: Plan, samples: Samples, path: Path, masks: Path, reviewer: str | None) -> list[_Wish]:
    by_id = _of_another_run(path, samples) | {sample.id: sample for sample in samples}
    by_source = {sample.source: sample for sample in samples}
    wishes: dict[str, _Wish] = {}
    problems = []
    for number, row in _rows(path):
        try:
            wish = _wish(plan, row, by_id, by_source, masks, reviewer)
            wishes[wish.sample.id] = wish
        except (BrokenInput, SettingsError) as exc:
            problems.append(f"line {number}: {exc}")
    if problems:
        more = f" ... and {len(problems) - _SHOWN} more." if len(problems) > _SHOWN else ""
        raise SettingsError(f"{path}: nothing was applied. {' '.join(problems[:_SHOWN])}{more}")
    return list(wishes.values())


def _of_another_run(log: Path, samples: Samples) -> dict[str, Sample]:
    """Samples by the ids that another run gave to their photographs, where the file is the log of that run."""
    listing = log.resolve().with_name(Path(SOURCES).name)
    if log.name != Path(LOG).name or not listing.is_file():
        return {}
    by_content: dict[str, Sample] = {}
    for sample in samples:
        by_content[f"{sample.sha256} {sample.source}"] = by_content[sample.sha256] = sample
    found = {}
    # A list that is damaged in its midst still tells what comes before.
    with contextlib.suppress(RunFolderError):
        for row in read_rows(listing, torn_tail=True, needs=("id", "source", "sha256")):
            same = f"{row['sha256']} {row['source']}"
            if (alike := by_content.get(same) or by_content.get(row["sha256"])) is not None:
                found[row["id"]] = alike
    return found


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        lines = regular_file(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(f"{path}: cannot be read ({reason_of(exc)}). Check the path.") from exc
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except NOT_JSON as exc:
            raise SettingsError(f"{path}: line {number} is not JSON ({exc}). Write one object per line.") from exc


def _wish(
    plan: Plan,
    row: Any,
    by_id: Mapping[str, Sample],
    by_source: Mapping[str, Sample],
    masks: Path,
    reviewer: str | None,
) -> _Wish:
    if not isinstance(row, dict) or not isinstance(row.get("action"), str):
        raise SettingsError('must look like {"source": "a.jpg", "action": "no_face"}.')
    if unknown := sorted(set(row) - _KNOWN):
        raise SettingsError(f"the key '{unknown[0]}' is unknown. Known keys: {', '.join(sorted(_KNOWN))}.")
    name = row.get("id", row.get("source"))
    sample = by_id.get(str(row.get("id"))) or by_source.get(str(row.get("source")))
    if sample is None:
        raise SettingsError(f"no image of the run is called {name!r}. Give its id or its path below the source folder.")
    action = _ACTIONS.get(row["action"])
    if action is None:
        raise SettingsError(f"{sample.source}: the action '{row['action']}' is unknown. Use {', '.join(_ACTIONS)}.")
    if wrong := next((flag for flag in _FLAGS if not isinstance(row.get(flag, False), bool)), None):
        raise SettingsError(f"{sample.source}: '{wrong}' must be true or false.")
    if sample.decision is not None and sample.decision.action is Action.REMOVE:
        raise SettingsError(f"{sample.source}: was taken down and stays so.")
    said_by = row.get("reviewer") or reviewer
    drawn = action is Action.MASK
    keep = drawn and row.get("keep_transition", False)
    settings = row.get("settings") or {}
    if not isinstance(settings, dict) or (action is Action.REDO and not settings):
        raise SettingsError(f'{sample.source}: \'settings\' must be an object such as {{"boundary": "recomposite"}}.')
    try:
        dropped, shown = boxes_of(row.get("dropped") or ()), row.get("shown")
        shown = None if shown is None else tuple(map(str, shown))
    except (TypeError, ValueError) as exc:
        raise SettingsError(f"{sample.source}: 'dropped' must be a list of boxes of four numbers.") from exc
    name_of = str(said_by) if said_by else None
    confirmed = row.get("confirmed", False)
    basis = _basis(sample, row, action, name_of)
    # Who permitted it said so when the line says, if it is of a log.
    time = str(row["time"]) if basis is not None and row.get("time") else now()
    decision = Decision(action, None, keep, confirmed, time, name_of, settings, dropped, shown, basis)
    plan.job.settings.decided(decision)
    mask = None
    if not action.withholds:
        mask = _mask_of(plan, sample, row.get("mask"), masks, drawn)
    return _Wish(sample, decision, mask)


def _basis(sample: Sample, row: Mapping[str, Any], action: Action, reviewer: str | None) -> str | None:
    """On what ground a picture may be shown with its faces.

    Raises:
        SettingsError: None is given for `show`, or by nobody; or one is given for something else.
    """
    basis = row.get("basis")
    if action is not Action.SHOW:
        if basis is not None:
            raise SettingsError(f"{sample.source}: 'basis' goes with the action 'show' alone.")
        return None
    if not isinstance(basis, str) or not basis.strip():
        raise SettingsError(
            f"{sample.source}: 'show' needs a 'basis': the legal ground on which the picture may be shown with its "
            'faces, such as "consent of 2026-01-31" or "public person, press photograph".'
        )
    if reviewer is None:
        raise SettingsError(f"{sample.source}: 'show' needs the name of who decides: 'reviewer', or --reviewer NAME.")
    return basis.strip()


def _mask_of(plan: Plan, sample: Sample, name: Any, folder: Path, drawn: bool) -> bytes | None:
    """The mask of a line as it will be kept, after checking that the source is still that of the plan."""
    try:
        photo = read_inputs(replace(sample, decision=None), plan.job).photo
        if not drawn:
            return None
        path = _find(folder, sample, name)
        picture = decode(photo, plan.job.settings.max_pixels)
        array = decode_matte(regular_file(path).read_bytes(), picture, "mask", plan.job.settings.max_pixels)
    except BrokenInput as exc:
        raise SettingsError(f"{sample.source}: {exc.sentence}") from exc
    except OSError as exc:
        raise SettingsError(f"{sample.source}: its mask cannot be read ({exc.strerror}): {path}.") from exc
    mask = drawn_area(array)
    if not mask.any():
        raise SettingsError(f"{sample.source}: its mask {path} is empty. Draw one, or say no_face.")
    return encode_mask(mask)


def _find(folder: Path, sample: Sample, name: Any) -> Path:
    if name is not None:
        # A file of decisions may come from somebody else: nothing beside the masks is opened for it.
        if not isinstance(name, str) or Path(name).is_absolute() or ".." in Path(name).parts:
            raise SettingsError(f"{sample.source}: 'mask' must be the name of a file in {folder}.")
        return folder / name
    stem = Path(sample.source)
    candidates = [
        folder / f"{base}{ending}" for base in (sample.id, stem.with_suffix("")) for ending in sorted(SUFFIXES)
    ]
    found = [path for path in candidates if path.is_file()]
    if len(found) != 1:
        what = f"{len(found)} masks" if found else "no mask"
        raise SettingsError(f"{sample.source}: has {what} of its name or id in {folder}. Keep one, or name it.")
    return found[0]
