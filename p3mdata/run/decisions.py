"""Decisions of people about images of a run: an append-only log that survives a crash, and the masks they drew.

The last row about an image counts. A decision belongs to its sample (`Sample.decision`), so that it enters the digest
by which a run knows what is done: whatever was decided but not yet carried out is done by the next resume.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from p3mdata.base.files import sha256, write_atomic
from p3mdata.base.jsonl import PRIVATE_MODE, append_row, read_rows, write_rows
from p3mdata.base.parsing import fault
from p3mdata.errors import RunFolderError
from p3mdata.records import Action, Decision, Suspect, boxes_of
from p3mdata.run.layout import LOG, PRIVATE
from p3mdata.typing import Json

# Below the private folder, beside the log: the log with its masks can be applied to another run.
_MASKS = "masks"
_WAY_OUT = "Restore it from a copy, or delete that line: its image then waits for a decision again."
# Together somewhat more than the second to which times are told.
_WAIT, _MOST_WAITS = 0.05, 30


def now() -> str:
    """Time of a decision, UTC to the second."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def told_apart(decision: Decision, suspects: Iterable[Suspect]) -> Decision:
    """The decision, of the next second where it equals one that a second look came after and that settles nothing."""
    before = [suspect.decided for suspect in suspects]
    for _ in range(_MOST_WAITS):
        if decision not in before:
            break
        time.sleep(_WAIT)
        decision = replace(decision, time=now())
    return decision


def read_log(out: Path) -> list[tuple[str, Decision]]:
    """All decisions of a run in the order they were made: (id, decision).

    Raises:
        RunFolderError: The log is damaged.
    """
    found = []
    for row in read_rows(out / LOG, torn_tail=True, way_out=_WAY_OUT):
        try:
            mask = (row["mask"], row["mask_sha256"]) if row["mask"] else None
            rest = {key: row[key] for key in ("keep_transition", "confirmed", "time", "reviewer")}
            shown = row.get("shown")
            rest |= {"settings": dict(row.get("settings", {})), "shown": None if shown is None else tuple(shown)}
            rest |= {"dropped": boxes_of(row.get("dropped", ())), "basis": row.get("basis")}
            found.append((row["id"], Decision(Action(row["action"]), mask, **rest)))
        except (KeyError, TypeError, ValueError) as exc:
            raise RunFolderError(f"{out / LOG}: holds a row that is no decision ({fault(exc)}). {_WAY_OUT}") from exc
    return found


def standing(log: Iterable[tuple[str, Decision]]) -> dict[str, Decision]:
    """The decision that counts for each id; images that were reopened have none."""
    last = dict(log)
    return {identity: decision for identity, decision in last.items() if decision.action is not Action.REOPEN}


def append(out: Path, identity: str, decision: Decision) -> None:
    """Write a decision to the log and wait until it is on disk."""
    append_row(out / LOG, _row(identity, decision))


def write_log(out: Path, log: Iterable[tuple[str, Decision]]) -> None:
    """Write a whole log."""
    write_rows(out / LOG, (_row(identity, decision) for identity, decision in log), PRIVATE_MODE)


def _row(identity: str, decision: Decision) -> Json:
    name, digest = decision.mask or (None, None)
    return {
        "id": identity,
        "action": decision.action.value,
        "mask": name,
        "mask_sha256": digest,
        "keep_transition": decision.keep_transition,
        "confirmed": decision.confirmed,
        "time": decision.time,
        "reviewer": decision.reviewer,
        "settings": decision.settings,
        "dropped": decision.dropped,
        "shown": decision.shown,
        **({} if decision.basis is None else {"basis": decision.basis}),
    }


def keep_mask(out: Path, identity: str, png: bytes) -> tuple[str, str]:
    """Store a hand-drawn mask; returns its name below the private folder and its SHA-256."""
    digest = sha256(png)
    name = mask_name(identity, digest)
    write_atomic(out / PRIVATE / name, png, PRIVATE_MODE)
    return name, digest


def mask_name(identity: str, digest: str) -> str:
    """Where a hand-drawn mask lies below the private folder."""
    return f"{_MASKS}/{identity}.{digest[:12]}.png"


def forget_masks(out: Path, identity: str) -> None:
    """Delete every mask that was drawn for an image."""
    for path in (out / PRIVATE / _MASKS).glob(f"{identity}.*.png"):
        path.unlink(missing_ok=True)
