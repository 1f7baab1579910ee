"""What became of a source file, what was measured on its release, and counts of a shard."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from enum import Enum

from p3mdata.records.decisions import Decision
from p3mdata.records.faces import Doubt, Face
from p3mdata.typing import Json


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
