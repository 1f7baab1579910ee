"""audit.json: what a recogniser finds on the released files of a run, as a record that reports and cards read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from p3mdata.base.files import sha256
from p3mdata.base.intervals import Rate
from p3mdata.base.jsonl import read_json
from p3mdata.base.parsing import as_declared, fault
from p3mdata.config import Method
from p3mdata.errors import RunFolderError
from p3mdata.run.layout import AUDIT, MANIFEST, SCHEMA_VERSION
from p3mdata.typing import Json
from p3mdata.version import __version__

_Record = TypeVar("_Record")

# Rows that the gate looks at: every attack on the released files. What leaks outside the mask is not theirs.
ATTACKS = ("naive", "adapted", "deconvolved_naive", "deconvolved_adapted")
# What is compared, and what that says.
COMPARISONS = {
    "clear": ("clear faces, among clear photographs", "what the recogniser can do at best"),
    "naive": ("released faces, among clear photographs", "somebody who has clear photographs of these people"),
    "adapted": ("released faces, among released ones", "somebody who anonymizes their photographs in the same way"),
    "deconvolved_naive": ("released faces with the blur undone, among clear photographs", "strength and masks known"),
    "deconvolved_adapted": ("released faces with the blur undone, among others treated alike", "the same, adapted"),
    "zero_naive": ("faces under black masks, among clear photographs", "nothing is left inside the mask"),
    "zero_adapted": ("faces under black masks, among others like that", "what leaks outside the mask"),
}


@dataclass(frozen=True)
class Threshold:
    """The distance up to which two faces count as one person.

    Attributes:
        distance: Largest accepted Euclidean distance.
        far: Share of impostor pairs accepted with it; above the wanted one where there are too few pairs.
        pairs: Number of impostor pairs.
        wanted: The false accept rate that was asked for.
    """

    distance: float
    far: float
    pairs: int
    wanted: float

    @property
    def enough_pairs(self) -> bool:
        """Whether the wanted rate can be told at all."""
        return self.pairs * self.wanted >= 1

    def to_json(self) -> Json:
        return {
            "distance": self.distance,
            "far": self.far,
            "far_wanted": self.wanted,
            "impostor_pairs": self.pairs,
            "enough_pairs": self.enough_pairs,
        }

    @classmethod
    def from_json(cls, row: Json) -> Threshold:
        return cls(row["distance"], row["far"], row["impostor_pairs"], row["far_wanted"])


@dataclass(frozen=True)
class AuditRow:
    """One comparison of probes with a gallery.

    Attributes:
        key: Which, of COMPARISONS.
        rank1: How often the nearest photograph shows the right person.
        tar: Pairs of one person accepted by the threshold of the clear faces.
        false_accepts: Share of pairs of different persons that the same threshold accepts.
        own_tar: As `tar`, for faces altered alike, with a threshold that was calibrated on them; else None.
    """

    key: str
    rank1: Rate
    tar: Rate
    false_accepts: float
    own_tar: Rate | None = None

    def to_json(self) -> Json:
        rates = {"rank1": self.rank1.to_json(), "tar": self.tar.to_json()}
        return {"key": self.key, **rates, "false_accepts": self.false_accepts} | (
            {"own_tar": self.own_tar.to_json()} if self.own_tar else {}
        )

    @classmethod
    def from_json(cls, row: Json) -> AuditRow:
        own = row.get("own_tar")
        rates = Rate.from_json(row["rank1"]), Rate.from_json(row["tar"])
        if row["key"] not in COMPARISONS:
            raise ValueError(f"comparison {row['key']}")
        return cls(row["key"], *rates, row["false_accepts"], None if own is None else Rate.from_json(own))


@dataclass(frozen=True)
class SweepPoint:
    """Rank-1 rates at one strength, rendered by the tool's own masks and methods without encoding.

    Attributes:
        method: What was done to faces.
        strength: As a share of the face's width.
        naive, adapted: Among clear photographs, and among ones treated alike.
    """

    method: Method
    strength: float
    naive: Rate
    adapted: Rate

    def to_json(self) -> Json:
        rates = {"naive": self.naive.to_json(), "adapted": self.adapted.to_json()}
        return {"method": self.method.value, "strength": self.strength, **rates}

    @classmethod
    def from_json(cls, row: Json) -> SweepPoint:
        rates = (Rate.from_json(row[attack]) for attack in ("naive", "adapted"))
        return cls(Method(row["method"]), row["strength"], *rates)


@dataclass(frozen=True)
class Audit:
    """Figures of one audit. No name, source or id is in it, so that it may be published.

    Attributes:
        manifest_sha256: Of the run's public manifest: what was audited.
        recogniser: Name and SHA-256 of the model.
        method, strength, area: The run's settings.
        sources: Source files of the run: `photos` and `left_out` add up to it.
        photos, identities: What took part.
        left_out: Number of source files by reason.
        chance: Rank-1 rate of guessing.
        threshold: For TAR, calibrated on clear faces.
        rows: The table, in the order clear, naive, adapted, deconvolved, zero mask.
        sweep: Rank-1 rates by strength.
        max_rank1: The gate, if one was given.
    """

    manifest_sha256: str
    recogniser: tuple[str, str]
    method: Method
    strength: float
    area: str
    sources: int
    photos: int
    identities: int
    left_out: dict[str, int]
    chance: float
    threshold: Threshold
    rows: tuple[AuditRow, ...]
    sweep: tuple[SweepPoint, ...]
    max_rank1: float | None = None

    @property
    def worst_rank1(self) -> float:
        """Highest rank-1 rate of an attack on the released files."""
        return max(row.rank1.value for row in self.rows if row.key in ATTACKS)

    @property
    def passed(self) -> bool:
        """Whether the worst attack stays within the gate; True without one."""
        return self.max_rank1 is None or self.worst_rank1 <= self.max_rank1

    def to_json(self) -> Json:
        """What audit.json holds."""
        return {
            "schema": SCHEMA_VERSION,
            "tool": f"p3mdata {__version__}",
            "manifest_sha256": self.manifest_sha256,
            "recogniser": dict(zip(("name", "sha256"), self.recogniser, strict=True)),
            "settings": {"method": self.method.value, "strength": self.strength, "area": self.area},
            "sources": self.sources,
            "photos": self.photos,
            "identities": self.identities,
            "left_out": dict(sorted(self.left_out.items())),
            "chance": self.chance,
            "threshold": self.threshold.to_json(),
            "rows": [row.to_json() for row in self.rows],
            "sweep": [point.to_json() for point in self.sweep],
            "gate": {"max_rank1": self.max_rank1, "worst_rank1": self.worst_rank1, "passed": self.passed},
        }

    @classmethod
    def from_json(cls, row: Json) -> Audit:
        settings, model = row["settings"], row["recogniser"]
        audit = cls(
            manifest_sha256=row["manifest_sha256"],
            recogniser=(model["name"], model["sha256"]),
            method=Method(settings["method"]),
            strength=settings["strength"],
            area=settings["area"],
            sources=row["sources"],
            photos=row["photos"],
            identities=row["identities"],
            left_out=dict(row["left_out"]),
            chance=row["chance"],
            threshold=Threshold.from_json(row["threshold"]),
            rows=tuple(map(AuditRow.from_json, row["rows"])),
            sweep=tuple(map(SweepPoint.from_json, row["sweep"])),
            max_rank1=row["gate"]["max_rank1"],
        )
        # Of no row there is no worst one, which is a ValueError.
        audit.to_json()
        return audit


def understood(path: Path, row: Json, parse: Callable[[Json], _Record], command: str) -> _Record:
    """The record of an audit's file.

    Raises:
        RunFolderError: The file is damaged; `command` makes it again.
    """
    try:
        return as_declared(parse(row))
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as exc:
        raise RunFolderError(f"{path}: is damaged ({fault(exc)}). Run '{command}' again.") from exc


def about_release(out: Path, name: str) -> Json | None:
    """What a file of a run says about the files that are released now; None where it is of others, or not there.

    Raises:
        RunFolderError: It cannot be read.
    """
    if not (out / name).is_file() or not (out / MANIFEST).is_file():
        return None
    row = read_json(out / name)
    return row if row.get("manifest_sha256") == sha256((out / MANIFEST).read_bytes()) else None


def read_audit(out: Path) -> Audit | None:
    """The audit of a run; None when there is none, or it was made of other released files.

    Raises:
        RunFolderError: audit.json is damaged.
    """
    row = about_release(out, AUDIT)
    return None if row is None else understood(out / AUDIT, row, Audit.from_json, f"p3mdata audit {out}")
