"""The records that flow through a run: Sample (with a Decision) -> Face, Doubt, Proofs -> ImageResult -> ShardStats.

Frozen dataclasses; everything that is written to JSON has `to_json` / `from_json`, and numbers are rounded when the
record is made, so that a record read back equals the one that was written.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from enum import Enum
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p3mdata.typing import Json

Mask = NDArray[np.bool_]
XYXY = tuple[float, float, float, float]


class Outcome(str, Enum):
    """What became of one source file; every file has exactly one."""

    ANONYMIZED = "anonymized"
    NO_FACE_CONFIRMED = "no_face_confirmed"
    MASKED_BY_HAND = "masked_by_hand"
    SHOWN_BY_PERMISSION = "shown_by_permission"
    EXCLUDED = "excluded"
    NEEDS_REVIEW = "needs_review"
    BROKEN = "broken"

    @property
    def released(self) -> bool:
        """Whether images of this outcome are published."""
        return self in RELEASED


RELEASED = frozenset(
    {Outcome.ANONYMIZED, Outcome.NO_FACE_CONFIRMED, Outcome.MASKED_BY_HAND, Outcome.SHOWN_BY_PERMISSION}
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
            "mask": _pair(row.get("mask")),
            "dropped": boxes_of(row.get("dropped", ())),
            "shown": None if shown is None else tuple(shown),
        }
        return cls(**{**row, **made})


def _pair(value: Any) -> tuple[str, str] | None:
    """A path and its SHA-256, as JSON has them."""
    return (value[0], value[1]) if value else None


def boxes_of(rows: Any) -> tuple[XYXY, ...]:
    """Boxes that were read from JSON.

    Raises:
        TypeError, ValueError: They are none.
    """
    return tuple((float(left), float(top), float(right), float(bottom)) for left, top, right, bottom in rows)


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


@dataclass(frozen=True)
class Sample:
    """One source file as frozen in the plan; all paths are POSIX and relative to their own folder.

    Attributes:
        index: Position in the sorted list of sources.
        id: Name of everything released for it; derived from the content, not from the file name.
        name: Path without ending of what is released for it, where files keep their names; None names them by the id.
        source: Path relative to the source folder.
        sha256: Of the source's bytes.
        alpha, trimap, mask: Companion file and its SHA-256, or None.
        problem: Why its companions cannot be told, or None.
        decision: What a person decided about it, or None.
        suspects: What a second look found on it that had been left bare.
    """

    index: int
    id: str
    source: str
    sha256: str
    alpha: tuple[str, str] | None = None
    trimap: tuple[str, str] | None = None
    mask: tuple[str, str] | None = None
    problem: str | None = None
    decision: Decision | None = None
    name: str | None = None
    suspects: tuple[Suspect, ...] = ()

    @property
    def suspected(self) -> bool:
        """Whether something that a second look found waits for a person's word."""
        return any(not suspect.settled_by(self.decision) for suspect in self.suspects)

    def released_as(self, kind: str, extension: str) -> str:
        """Path of a released file below the folder of its kind, which is images, facemasks or alphas.

        An image that keeps its format keeps its ending as well, as it is spelt.
        """
        if self.name is None:
            return f"{self.id}.{extension}"
        if kind == "images" and one_ending(PurePosixPath(self.source).suffix) == f".{extension}":
            return self.source
        return f"{self.name}.{extension}"

    def to_json(self) -> Json:
        row = {k: v for k, v in vars(self).items() if v is not None and k != "suspects"}
        if self.suspects:
            row["suspects"] = [suspect.to_json() for suspect in self.suspects]
        return row if self.decision is None else {**row, "decision": self.decision.to_json()}

    @classmethod
    def from_json(cls, row: Json) -> Sample:
        """Of a row without a decision: decisions and suspects are read from their own logs."""
        alpha, trimap, mask = (_pair(row.get(what)) for what in ("alpha", "trimap", "mask"))
        return cls(
            row["index"],
            row["id"],
            row["source"],
            row["sha256"],
            alpha,
            trimap,
            mask,
            problem=row.get("problem"),
            name=row.get("name"),
        )


_ENDINGS = {".jpeg": ".jpg", ".jpe": ".jpg", ".jfif": ".jpg", ".tiff": ".tif"}


def one_ending(suffix: str) -> str:
    """The one ending of a format, such as .jpg, which names of photographs spell in many ways."""
    return _ENDINGS.get(suffix.lower(), suffix.lower())


@dataclass(frozen=True)
class Face:
    """One face in an image, in pixels of the displayed orientation.

    Attributes:
        box: Left, top, right, bottom; may reach over the border.
        score: Highest detector confidence in [0, 1].
        seen_by: Names of the detectors that found it, sorted.
        points: Five points (right eye, left eye, nose, mouth corners as seen), flat x, y pairs, or None.
        landmarks: 478 mesh points, flat x, y pairs, or None.
        no_landmarks: Why there are none, else None.
    """

    box: XYXY
    score: float
    seen_by: tuple[str, ...]
    points: tuple[float, ...] | None
    landmarks: tuple[float, ...] | None
    no_landmarks: str | None

    @property
    def width(self) -> float:
        """Width that strength is relative to: a head turned aside has a narrow box, so height counts as well."""
        left, top, right, bottom = self.box
        return max(right - left, 0.75 * (bottom - top))

    def mesh(self) -> NDArray[np.float64] | None:
        """Landmarks as (478, 2), or None."""
        return None if self.landmarks is None else np.array(self.landmarks).reshape(-1, 2)

    def five(self) -> NDArray[np.float64] | None:
        """Five points as (5, 2), or None."""
        return None if self.points is None else np.array(self.points).reshape(-1, 2)

    def to_json(self) -> Json:
        # Not `asdict`, which copies each of a thousand numbers.
        return dict(vars(self))

    @classmethod
    def from_json(cls, row: Json) -> Face:
        left, top, right, bottom = row["box"]
        return cls(
            (left, top, right, bottom),
            row["score"],
            tuple(row["seen_by"]),
            tuple(row["points"]) if row["points"] else None,
            tuple(row["landmarks"]) if row["landmarks"] else None,
            row["no_landmarks"],
        )


@dataclass(frozen=True)
class Doubt:
    """Why an image may not be released without a person's decision; `boxes` are of the faces that it is about."""

    code: str
    sentence: str
    boxes: tuple[XYXY, ...] = ()

    def to_json(self) -> list[Any]:
        return [self.code, self.sentence, self.boxes]

    @classmethod
    def from_json(cls, row: Any) -> Doubt:
        return cls(row[0], row[1], boxes_of(row[2] if len(row) > 2 else ()))


@dataclass(frozen=True)
class Proofs:
    """What was measured on the encoded output; None where a proof does not apply.

    Attributes:
        changed_outside: Pixels outside the facemask that differ from the decoded source.
        changed_in_transition: Pixels inside the transition area that differ.
        changed_inside: Share of the facemask's pixels that differ from the source; 1 for an empty facemask.
        largest_deviation: Largest 8-bit difference outside the mask (0 when exact).
        exact: Whether the file format and mode promise exactness outside the mask.
        metadata: Names of metadata parts left that are not on the allow-list.
        redetected: Faces found on the output.
        missed: Of those, the ones whose core is not covered by the facemask.
        recomposed: Pixels that are a composite of the unchanged matte with an obfuscated layer.
        not_composite: Of those, pixels that changed by more than their layer's share of them allows.
        beside: Pixels in rewritten JPEG blocks that are not to change and did, by compressing them again.
        largest_beside: By how many 8-bit levels at most; in JPEG also those of a small share, beyond it.
    """

    changed_outside: int
    changed_in_transition: int
    changed_inside: float
    largest_deviation: int
    exact: bool
    metadata: tuple[str, ...]
    redetected: int
    missed: int
    recomposed: int = 0
    not_composite: int = 0
    beside: int = 0
    largest_beside: int = 0


@dataclass(frozen=True)
class ImageResult:
    """The one row a source file ends as.

    `files` maps images | facemasks | alphas to (file name, SHA-256); `recomposed` counts the faces hidden up to
    the silhouette, `areas` is `p3mdata.anonymize.inputs.AREAS` where there was a matte; `notes` say what of
    the file was converted or left out on the way; `doubts` are all that stood in the way of a release, of which
    `reason` and `detail` are the first.
    """

    id: str
    source: str
    outcome: Outcome
    reason: str | None = None
    detail: str | None = None
    width: int | None = None
    height: int | None = None
    method: str | None = None
    encoding: str | None = None
    areas: int | None = None
    masked_share: float | None = None
    recomposed: int | None = None
    faces: tuple[Face, ...] = ()
    proofs: Proofs | None = None
    files: dict[str, tuple[str, str]] = field(default_factory=dict)
    inputs: str = ""
    decision: Decision | None = None
    doubts: tuple[Doubt, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> Json:
        """Private ledger row: everything, landmarks included."""
        row = {k: v for k, v in vars(self).items() if v is not None and (v or k != "notes")}
        row |= {"outcome": self.outcome.value, "faces": tuple(face.to_json() for face in self.faces)}
        row["doubts"] = [doubt.to_json() for doubt in self.doubts]
        if self.proofs is not None:
            row["proofs"] = dict(vars(self.proofs))
        return row if self.decision is None else {**row, "decision": self.decision.to_json()}

    @classmethod
    def from_json(cls, row: Json) -> ImageResult:
        row = dict(row)
        row["outcome"] = Outcome(row["outcome"])
        row["faces"] = tuple(Face.from_json(face) for face in row.get("faces", ()))
        if row.get("proofs"):
            row["proofs"] = Proofs(**{**row["proofs"], "metadata": tuple(row["proofs"]["metadata"])})
        row["files"] = {kind: (name, sha) for kind, (name, sha) in row.get("files", {}).items()}
        row["decision"] = Decision.from_json(row["decision"]) if row.get("decision") else None
        row["doubts"] = tuple(Doubt.from_json(doubt) for doubt in row.get("doubts", ()))
        row["notes"] = tuple(row.get("notes", ()))
        return cls(**row)


@dataclass(frozen=True)
class ShardStats:
    """Counts of one shard; outcomes add up to `samples`."""

    samples: int
    outcomes: dict[str, int]
    reasons: dict[str, int]
    faces: int
    seconds: dict[str, float]

    def to_json(self) -> Json:
        return dataclasses.asdict(self)
