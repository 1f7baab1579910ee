"""The public manifest: what a run says about each released image. No source path, source hash or landmark is in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from p3mdata.records import Action, Decision, ImageResult, Outcome, Proofs
from p3mdata.run.layout import SCHEMA_VERSION
from p3mdata.typing import Json


@dataclass(frozen=True)
class PublicDecision:
    """What of a person's decision may be told: not who, when, or how the mask was drawn; see `records.Decision`."""

    action: Action
    keep_transition: bool
    confirmed: bool
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, decision: Decision) -> PublicDecision:
        return cls(decision.action, decision.keep_transition, decision.confirmed, decision.settings)

    def to_json(self) -> Json:
        row = {**vars(self), "action": self.action.value}
        return row if self.settings else {key: value for key, value in row.items() if key != "settings"}

    @classmethod
    def from_json(cls, row: Json) -> PublicDecision:
        return cls(Action(row["action"]), row["keep_transition"], row["confirmed"], row.get("settings", {}))


@dataclass(frozen=True)
class PublicProofs:
    """What of the proofs may be told, see `records.Proofs`; pixel counts are None where nothing promises exactness."""

    exact: bool
    changed_outside: int | None
    changed_in_transition: int | None
    largest_deviation: int
    metadata: tuple[str, ...]
    missed: int
    beside: int = 0
    largest_beside: int = 0

    @classmethod
    def of(cls, proofs: Proofs) -> PublicProofs:
        return cls(
            exact=proofs.exact,
            changed_outside=proofs.changed_outside if proofs.exact else None,
            changed_in_transition=proofs.changed_in_transition if proofs.exact else None,
            largest_deviation=proofs.largest_deviation,
            metadata=proofs.metadata,
            missed=proofs.missed,
            beside=proofs.beside,
            largest_beside=proofs.largest_beside,
        )

    def to_json(self) -> Json:
        return {**vars(self), "metadata": list(self.metadata)}

    @classmethod
    def from_json(cls, row: Json) -> PublicProofs:
        return cls(**{**row, "metadata": tuple(row["metadata"])})


@dataclass(frozen=True)
class PublicRow:
    """One released image as the manifest tells it, without its files; see `records.ImageResult`.

    Attributes:
        faces: How many were found.
        masked_share: Of the pixels, in [0, 1].
        recomposed: Faces hidden up to the matte's edge.
    """

    id: str
    width: int
    height: int
    outcome: Outcome
    decision: PublicDecision | None
    method: str
    encoding: str
    notes: tuple[str, ...]
    faces: int
    masked_share: float
    recomposed: int
    proofs: PublicProofs

    @classmethod
    def of(cls, result: ImageResult) -> PublicRow:
        """What may be told of a released image."""
        proofs, width, height, share = result.proofs, result.width, result.height, result.masked_share
        assert proofs is not None and width is not None and height is not None and share is not None
        assert result.method is not None and result.encoding is not None
        return cls(
            id=result.id,
            width=width,
            height=height,
            outcome=result.outcome,
            decision=None if result.decision is None else PublicDecision.of(result.decision),
            method=result.method,
            encoding=result.encoding,
            notes=result.notes,
            faces=len(result.faces),
            masked_share=share,
            recomposed=result.recomposed or 0,
            proofs=PublicProofs.of(proofs),
        )

    def to_json(self) -> Json:
        return {
            "schema": SCHEMA_VERSION,
            **vars(self),
            "outcome": self.outcome.value,
            "decision": None if self.decision is None else self.decision.to_json(),
            "notes": list(self.notes),
            "proofs": self.proofs.to_json(),
        }

    @classmethod
    def from_json(cls, row: Json) -> PublicRow:
        """Of a row of a run's or a dataset's manifest, which may hold more.

        Raises:
            KeyError, TypeError, ValueError: It is no such row.
        """
        return cls(
            id=str(row["id"]),
            width=int(row["width"]),
            height=int(row["height"]),
            outcome=Outcome(row["outcome"]),
            decision=PublicDecision.from_json(row["decision"]) if row["decision"] else None,
            method=str(row["method"]),
            encoding=str(row["encoding"]),
            notes=tuple(row.get("notes", ())),
            faces=int(row["faces"]),
            masked_share=float(row["masked_share"]),
            recomposed=int(row.get("recomposed", 0)),
            proofs=PublicProofs.from_json(row["proofs"]),
        )


def public_row(result: ImageResult) -> Json:
    """A row of the public manifest: what may be told of a released image, and path and SHA-256 of each of its files."""
    files = {kind[:-1]: {"path": f"{kind}/{name}", "sha256": sha} for kind, (name, sha) in sorted(result.files.items())}
    return PublicRow.of(result).to_json() | files
