"""A source file as the plan of a run has it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from p3mdata.records.decisions import Decision, Suspect, file_of
from p3mdata.typing import Json


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
        alpha, trimap, mask = (file_of(row.get(what)) for what in ("alpha", "trimap", "mask"))
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
