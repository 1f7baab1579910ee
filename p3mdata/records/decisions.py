"""What people decided about a picture, and which doubts that settles."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from p3mdata.records.faces import XYXY, Doubt, Face, boxes_of
from p3mdata.typing import Json

# Doubts about faces that are bare.
_SAID_TWICE = frozenset({"mask_too_small", "hand_mask_leaves_face", "redetected", "others_shown"})
# What a permission is about: that a face can be seen.
_OF_SHOWN_FACES = frozenset({"redetected", "suspected_face"})
# Doubts about what is a face and how much of it must be hidden.
_FOR_A_PERSON = frozenset(
    {
        "detectors_disagree",
        "implausible_size",
        "matte_without_person",
        "face_outside_matte",
        "mask_too_small",
        "hand_mask_leaves_face",
        "hand_mask_covers_most",
        "nearly_black",
        "redetected",
        "others_shown",
        "suspected_face",
    }
)


class Action(str, Enum):
    """What a person decided about one image."""

    ACCEPT = "accept"
    NO_FACE = "no_face"
    MASK = "mask"
    REDO = "redo"
    SHOW = "show"
    EXCLUDE = "exclude"
    REMOVE = "remove"
    REOPEN = "reopen"

    @property
    def withholds(self) -> bool:
        """Whether nothing of the image may be published, whatever it shows."""
        return self in (Action.EXCLUDE, Action.REMOVE)


@dataclass(frozen=True)
class Decision:
    """A person's word about one image; it takes the place of what the detectors were unsure of.

    Attributes:
        action: accept what was detected, nothing to hide, obfuscate inside `mask`, do it again with other `settings`
            (every doubt stands), show it with its faces by permission, leave out, take down, or (in the log only) take
            the last decision back.
        mask: Hand-drawn mask below the run's private folder and its SHA-256, for `mask`.
        keep_transition: Obfuscate the transition area inside the hand-drawn mask as well.
        confirmed: Release although detectors see a face that is left bare.
        time: When, ISO 8601 in UTC.
        reviewer: Who, if they gave a name.
        settings: Settings of this picture that differ from the run's.
        dropped: Boxes that are no faces.
        shown: Sentences of the doubts that were shown with the decision: it settles these and no others. None for
            decisions from a file, which settle what a person may judge.
        basis: On what ground the picture may be shown with its faces, for `show`: private, like who says so.
    """

    action: Action
    mask: tuple[str, str] | None = None
    keep_transition: bool = False
    confirmed: bool = False
    time: str = ""
    reviewer: str | None = None
    settings: Json = field(default_factory=dict)
    dropped: tuple[XYXY, ...] = ()
    shown: tuple[str, ...] | None = None
    basis: str | None = None

    @property
    def permits(self) -> bool:
        """Whether it lets a picture be shown with its faces: with a ground, by somebody, at a time."""
        return self.action is Action.SHOW and all((self.basis, self.reviewer, self.time))

    def overrules(self, doubt: Doubt) -> bool:
        """Whether this settles a doubt: a person judges what is a face, never whether a proof of bytes holds."""
        if self.action is Action.SHOW and doubt.code in _OF_SHOWN_FACES:
            return self.permits
        # Where a face is bare it is said twice, whoever saw it: one wrong key must not publish a face.
        once = self.action in (Action.ACCEPT, Action.NO_FACE) and doubt.code not in _SAID_TWICE
        if self.shown is not None and doubt.sentence not in self.shown:
            return False
        return (once or self.confirmed) and doubt.code in _FOR_A_PERSON

    def to_json(self) -> Json:
        row = {**dataclasses.asdict(self), "action": self.action.value}
        # Decisions that are older than these keep the digests that they had.
        later: Json = {"settings": {}, "dropped": (), "shown": None, "basis": None}
        return {key: value for key, value in row.items() if key not in later or value != later[key]}

    @classmethod
    def from_json(cls, row: Json) -> Decision:
        shown = row.get("shown")
        made = {
            "action": Action(row["action"]),
            "mask": file_of(row.get("mask")),
            "dropped": boxes_of(row.get("dropped", ())),
            "shown": None if shown is None else tuple(shown),
        }
        return cls(**{**row, **made})


def file_of(value: Any) -> tuple[str, str] | None:
    """A file and its SHA-256, as JSON has them; None where there is none."""
    return (value[0], value[1]) if value else None


@dataclass(frozen=True)
class Suspect:
    """A place that a second look took for a face, on a picture that was released with it bare.

    Attributes:
        face: It is hidden like any face, and the picture waits, until a person says what it is.
        decided: The decision about the picture that stood when it was found, which settles nothing of this.
    """

    face: Face
    decided: Decision | None = None

    def settled_by(self, decision: Decision | None) -> bool:
        """Whether a person has had a word about the picture since."""
        return decision is not None and decision != self.decided

    def is_none(self, decision: Decision | None) -> bool:
        """Whether a person said that it is no face."""
        if decision is None:
            return False
        return self.face.box in decision.dropped or (self.settled_by(decision) and decision.action is Action.NO_FACE)

    def doubt(self) -> Doubt:
        """Why the picture is held back."""
        left, top, right, bottom = self.face.box
        where = f"at x={left:.0f} y={top:.0f}, {right - left:.0f}x{bottom - top:.0f} px"
        return Doubt("suspected_face", f"a second look sees a face {where}, which was left bare", (self.face.box,))

    def to_json(self) -> Json:
        decided = None if self.decided is None else self.decided.to_json()
        return {"face": self.face.to_json(), "decided": decided}

    @classmethod
    def from_json(cls, row: Json) -> Suspect:
        decided = row["decided"]
        return cls(Face.from_json(row["face"]), None if decided is None else Decision.from_json(decided))
