"""Figures about a release, for its card; nothing in them names a source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from p3mdata.base.disk_backed import DiskDict
from p3mdata.config import Settings
from p3mdata.dataset.attributes import faces_of, resolution_of, traits_of
from p3mdata.export.entries import Split
from p3mdata.records import ImageResult, Outcome
from p3mdata.run.attackers import Attackers, read_attackers
from p3mdata.run.audit import Audit, read_audit
from p3mdata.run.planned import read_planned
from p3mdata.run.public import PublicRow
from p3mdata.run.recall import InReview, SecondLook, recall_of
from p3mdata.run.sampling import LookedAt, looked_at
from p3mdata.typing import Json

_TABLES = ("resolution", "faces", "face_size", "pose", "outcome")
# Trait -> value -> split -> images.
Tables = dict[str, dict[str, dict[str, int]]]


@dataclass(frozen=True)
class SplitFigures:
    """A split: its title, images and faces, and whether it is published as it was."""

    title: str
    images: int
    faces: int
    free: bool

    def to_json(self) -> Json:
        return dict(vars(self))


@dataclass
class ProofCounts:
    """What the proofs come to.

    Attributes:
        exact: Images that are exact outside their facemasks.
        reencoded: Images that were encoded as a whole.
        largest_deviation: Of these, in levels of 255.
        missed: Faces outside facemasks, by a person's decision; those shown by permission are not counted.
        transition_hidden: Images whose transition area is hidden, by a person's decision.
        recomposed: Faces that are hidden up to the matte's edge.
        largest_beside: Change by compressing blocks again beside them, in levels of 255.
    """

    exact: int = 0
    reencoded: int = 0
    largest_deviation: int = 0
    missed: int = 0
    transition_hidden: int = 0
    recomposed: int = 0
    largest_beside: int = 0

    def add(self, row: PublicRow) -> None:
        """Count one image."""
        proofs = row.proofs
        if proofs.exact:
            self.exact += 1
        else:
            self.reencoded += 1
            self.largest_deviation = max(self.largest_deviation, proofs.largest_deviation)
        if row.outcome is not Outcome.SHOWN_BY_PERMISSION:
            self.missed += proofs.missed
        self.transition_hidden += row.decision is not None and row.decision.keep_transition
        self.recomposed += row.recomposed
        self.largest_beside = max(self.largest_beside, proofs.largest_beside)

    def to_json(self) -> Json:
        return dict(vars(self))


@dataclass(frozen=True)
class Facts:
    """Figures about a release, for its card; nothing in it names a source.

    Attributes:
        tool: Tool and version that anonymized the images.
        version: 1, and one more for each take-down.
        settings: Of the run.
        splits: By name; sets that became empty have 0 images.
        outcomes: All source files of the run by outcome, if the run is at hand.
        reasons: Why source files were held back, by reason, if the run is at hand.
        decisions: Released images by what a person decided about them.
        shown: Images and faces that are shown by permission, by name of the split; splits without any are left out.
        proofs: What they come to.
        encodings: Images by how they were written.
        tables: Images by trait, value and split.
        audit: What a recogniser finds, if the released files were audited.
        sample: What a person found in a random sample, if one was drawn.
        recall: A second look for missed faces, if there was one, see `p3mdata.run.recall.recall_of`.
        attackers: What attackers find who learn, if they were let at the released files.
        models: SHA-256 of the model files by name, if the run is at hand.
    """

    tool: str
    version: int
    settings: Settings
    splits: dict[str, SplitFigures]
    outcomes: dict[str, int] | None
    reasons: dict[str, int] | None
    decisions: dict[str, int]
    shown: dict[str, tuple[int, int]]
    proofs: ProofCounts
    encodings: dict[str, int]
    tables: Tables
    audit: Audit | None
    sample: LookedAt | None
    recall: tuple[SecondLook, InReview] | None = None
    attackers: Attackers | None = None
    models: dict[str, str] | None = None

    @property
    def images(self) -> int:
        """How many are released."""
        return sum(split.images for split in self.splits.values())

    @property
    def faces(self) -> int:
        """Faces that are obfuscated."""
        return sum(split.faces for split in self.splits.values()) - self.shown_faces

    @property
    def shown_images(self) -> int:
        """How many show faces by permission."""
        return sum(images for images, _ in self.shown.values())

    @property
    def shown_faces(self) -> int:
        """Faces on those."""
        return sum(faces for _, faces in self.shown.values())


@dataclass(frozen=True)
class Behind:
    """What only the run knows; `traits` by id."""

    outcomes: dict[str, int] | None = None
    reasons: dict[str, int] | None = None
    audit: Audit | None = None
    sample: LookedAt | None = None
    recall: tuple[SecondLook, InReview] | None = None
    attackers: Attackers | None = None
    models: dict[str, str] | None = None
    traits: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def behind_of(out: Path, rows: Iterable[ImageResult]) -> Behind:
    """What a finished run knows of a release, from its folder and its rows."""
    outcomes, reasons = Counter[str](), Counter[str]()
    traits: DiskDict[Mapping[str, str]] = DiskDict()
    for row in rows:
        outcomes[row.outcome.value] += 1
        if row.outcome.released:
            traits[row.id] = traits_of(row)
        else:
            reasons[row.reason or row.outcome.value] += 1
    return Behind(
        outcomes=dict(outcomes),
        reasons=dict(reasons),
        audit=read_audit(out),
        sample=looked_at(out, rows),
        recall=recall_of(out),
        attackers=read_attackers(out),
        models=dict(read_planned(out).maker.weights or {}),
        traits=traits,
    )


def figures(
    splits: Sequence[Split],
    empty: Sequence[Split],
    tool: str,
    version: int,
    settings: Settings,
    behind: Behind,
    balance: Tables,
) -> Facts:
    """Figures of a release.

    Args:
        splits, empty: Its sets, and those that became empty.
        tool, version, settings: Of `Facts`.
        behind: What the run knows.
        balance: Images by trait, value and title of the set, as dataset.json has them.
    """
    faces, decisions, encodings = Counter[str](), Counter[str](), Counter[str]()
    shown: dict[str, tuple[int, int]] = {}
    proofs = ProofCounts()
    tables: Tables = {trait: {} for trait in _TABLES}
    for split in splits:
        for entry in split.entries:
            row = entry.row
            faces[split.name] += row.faces
            encodings[row.encoding] += 1
            if row.decision:
                decisions[row.decision.action.value] += 1
            if row.outcome is Outcome.SHOWN_BY_PERMISSION:
                images, seen = shown.get(split.name, (0, 0))
                shown[split.name] = images + 1, seen + row.faces
            proofs.add(row)
            _count(tables, split.name, {**behind.traits.get(entry.id, {}), **_plain_traits(row)})
    return Facts(
        tool=tool,
        version=version,
        settings=settings,
        splits={
            split.name: SplitFigures(split.title, len(split.entries), faces[split.name], split.free)
            for split in (*splits, *empty)
        },
        outcomes=behind.outcomes,
        reasons=behind.reasons,
        decisions=dict(sorted(decisions.items())),
        shown=shown,
        proofs=proofs,
        encodings=dict(sorted(encodings.items())),
        tables=_completed(tables, splits, balance),
        audit=behind.audit,
        sample=behind.sample,
        recall=behind.recall,
        attackers=behind.attackers,
        models=behind.models,
    )


def _plain_traits(row: PublicRow) -> dict[str, str]:
    """Traits that the public row of an image tells."""
    return {
        "resolution": resolution_of(row.width, row.height),
        "faces": faces_of(row.faces),
        "outcome": row.outcome.value,
    }


def _count(tables: Tables, split: str, traits: Mapping[str, str]) -> None:
    for trait, value in traits.items():
        by_split = tables[trait].setdefault(value, {})
        by_split[split] = by_split.get(split, 0) + 1


def _completed(tables: Tables, splits: Sequence[Split], balance: Tables) -> Tables:
    """Images by trait. What only faces tell comes from the run, or from the dataset's figures while they add up."""
    names = {split.title: split.name for split in splits}
    total = sum(len(split.entries) for split in splits)
    for trait in ("face_size", "pose"):
        known = {
            value: {names[title]: number for title, number in by_set.items() if title in names}
            for value, by_set in balance.get(trait, {}).items()
        }
        if not tables[trait] and sum(sum(by_split.values()) for by_split in known.values()) == total:
            tables[trait] = known
    return {trait: dict(sorted(table.items())) for trait, table in tables.items() if table}
