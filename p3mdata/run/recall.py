"""How often a run misses a face, by a second look: what was seen on each picture, and the figures that follow from it.

Private rows tell what was seen where; figures hold no id and no name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from p3mdata.base.disk_backed import DiskDict
from p3mdata.base.files import sha256
from p3mdata.base.intervals import Rate, miss_bound, wilson
from p3mdata.base.jsonl import read_json, read_rows
from p3mdata.base.parsing import as_declared, fault
from p3mdata.errors import RunFolderError
from p3mdata.records import XYXY, boxes_of
from p3mdata.run.audit import understood
from p3mdata.run.decisions import read_log, standing
from p3mdata.run.layout import LOOKS, PLAN, RECALL, SCHEMA_VERSION
from p3mdata.run.suspects import read_suspects
from p3mdata.typing import Json
from p3mdata.version import __version__


@dataclass(frozen=True)
class Looked:
    """What a second look saw on one picture.

    Attributes:
        id: The picture.
        key: Changes with the picture's inputs, its released file, and the way of looking.
        hidden: Faces that the run had found and hidden.
        missed: Places of faces that it had not.
        unseen: Faces that the run hides and the second look does not see.
        lists: Faces seen by one detector without being shown the place (its name), or by two of them (`both`).
        drawn: Whether the picture is of the sample that the figures are about.
    """

    id: str
    key: str
    hidden: int = 0
    missed: tuple[XYXY, ...] = ()
    unseen: int = 0
    lists: dict[str, int] = field(default_factory=dict)
    drawn: bool = False

    def to_json(self) -> Json:
        return asdict(self)

    @classmethod
    def from_json(cls, row: Json) -> Looked:
        return cls(**{**row, "missed": boxes_of(row["missed"])})


def read_looks(out: Path) -> Iterator[Looked]:
    """What second looks saw, picture by picture; the last row of a picture counts.

    Raises:
        RunFolderError: The file is damaged.
    """
    for row in read_rows(out / LOOKS, torn_tail=True):
        try:
            yield as_declared(Looked.from_json(row))
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as exc:
            way_out = "Delete it: the pictures are then looked at again."
            raise RunFolderError(f"{out / LOOKS}: holds a row that is no look ({fault(exc)}). {way_out}") from exc


@dataclass(frozen=True)
class Pictures:
    """Pictures that a second look went over.

    Attributes:
        looked_at: How many.
        with_missed: Of those, how many have a face that the run left bare.
        rate: The share of those.
        at_most: The largest share that fits, one-sided with 95 % certainty.
    """

    looked_at: int
    with_missed: int
    rate: Rate
    at_most: float

    def to_json(self) -> Json:
        return {**vars(self), "rate": self.rate.to_json()}

    @classmethod
    def from_json(cls, row: Json) -> Pictures:
        return cls(**{**row, "rate": Rate.from_json(row["rate"])})


@dataclass(frozen=True)
class Faces:
    """Faces that a second look sees, those of them that the run left bare, and their share.

    Attributes:
        not_seen_by_second_look: Faces that the run hides and the second look does not see.
    """

    seen: int
    missed: int
    rate: Rate
    not_seen_by_second_look: int

    def to_json(self) -> Json:
        return {**vars(self), "rate": self.rate.to_json()}

    @classmethod
    def from_json(cls, row: Json) -> Faces:
        return cls(**{**row, "rate": Rate.from_json(row["rate"])})


@dataclass(frozen=True)
class Neither:
    """How many faces no detector of the second look saw: an estimate, and its interval.

    Attributes:
        seen_by: Faces by the detector that alone saw them unasked, and those of two detectors as `both`.
    """

    seen_by: dict[str, int]
    estimate: float
    low: float
    high: float

    def to_json(self) -> Json:
        return dict(vars(self))

    @classmethod
    def from_json(cls, row: Json) -> Neither:
        return cls(**row)


@dataclass(frozen=True)
class Counted:
    """Figures of pictures that were looked at."""

    pictures: Pictures
    faces: Faces
    neither: Neither

    def to_json(self) -> Json:
        return {name: part.to_json() for name, part in vars(self).items()}

    @classmethod
    def from_json(cls, row: Json) -> Counted:
        """Of a row that may hold more."""
        return cls(
            Pictures.from_json(row["pictures"]), Faces.from_json(row["faces"]), Neither.from_json(row["neither"])
        )


def counted(looks: Iterable[Looked], none: dict[str, set[XYXY]]) -> Counted:
    """Figures of pictures that were looked at.

    Args:
        looks: One for each picture.
        none: Places by id that a person called no face.
    """
    pictures = with_missed = hidden = missed = unseen = 0
    lists: Counter[str] = Counter()
    for look in looks:
        bare = [box for box in look.missed if box not in none.get(look.id, ())]
        pictures += 1
        with_missed += bool(bare)
        hidden += look.hidden
        missed += len(bare)
        unseen += look.unseen
        lists.update(look.lists)
    at_most = round(miss_bound(pictures, with_missed), 6) if pictures else 1.0
    return Counted(
        Pictures(pictures, with_missed, wilson(with_missed, pictures), at_most),
        Faces(hidden + missed, missed, wilson(missed, hidden + missed), unseen),
        neither(lists),
    )


def neither(lists: Counter[str]) -> Neither:
    """Faces that no detector of the second look saw, from how many of one's faces the other misses (Petersen's way).

    It takes the two to miss faces independently of each other, every face to be as hard as any other, and every place
    that counts as a face to be one. Faces that are hard for one are hard for the other, so there are rather more.

    Args:
        lists: Faces by the detector that alone saw them unasked, and those of two detectors as `both`.
    """
    both = lists["both"]
    alone = sorted((number for name, number in lists.items() if name != "both"), reverse=True)
    first, second = (*alone, 0, 0)[:2]
    # Of the faces of each, the share that the other misses.
    misses = wilson(first, both + first), wilson(second, both + second)
    seen = both + first + second

    def unseen(one: float, other: float) -> float:
        share = min(one * other, 1 - 1e-9)
        return round(seen * share / (1 - share), 2)

    return Neither(
        seen_by={name: lists[name] for name in sorted(lists)},
        estimate=unseen(*(rate.value for rate in misses)),
        low=unseen(*(rate.low for rate in misses)),
        high=unseen(*(rate.high for rate in misses)),
    )


def called_none(out: Path) -> dict[str, set[XYXY]]:
    """Places by id that a second look took for faces and a person did not."""
    said = standing(read_log(out))
    return {
        identity: {suspect.face.box for suspect in suspects if suspect.is_none(said.get(identity))}
        for identity, suspects in read_suspects(out).items()
    }


@dataclass(frozen=True)
class InReview:
    """What became of all places that second looks found.

    Attributes:
        waiting: For a person.
        faces, no_faces: What people called them.
        pictures: How many pictures wait.
    """

    waiting: int
    faces: int
    no_faces: int
    pictures: int

    @property
    def found(self) -> int:
        """All places."""
        return self.waiting + self.faces + self.no_faces

    def to_json(self) -> Json:
        return dict(vars(self))


def in_review(out: Path) -> InReview:
    """What became of all places that second looks found in a run."""
    said = standing(read_log(out))
    found: Counter[str] = Counter()
    for identity, suspects in read_suspects(out).items():
        decision = said.get(identity)
        waiting = 0
        for suspect in suspects:
            none, settled = suspect.is_none(decision), suspect.settled_by(decision)
            found["no_faces" if none else "faces" if settled else "waiting"] += 1
            waiting += not none and not settled
        found["pictures"] += bool(waiting)
    return InReview(found["waiting"], found["faces"], found["no_faces"], found["pictures"])


@dataclass(frozen=True)
class SecondLook:
    """Figures of a second look: what recall.json holds.

    Attributes:
        plan_sha256: Of the run's plan.json.
        version: Of the way of looking.
        sides: Longest sides in pixels at which each detector looks.
        seed: Of the draw.
        released: Pictures whose faces the run hides.
        all_looked_at: Whether all of these were looked at.
        left_out: Pictures that could not be looked at, by why.
        counted: What was seen.
    """

    plan_sha256: str
    version: int
    sides: dict[str, list[int]]
    seed: int
    released: int
    all_looked_at: bool
    left_out: dict[str, int]
    counted: Counted

    def to_json(self) -> Json:
        return {
            "schema": SCHEMA_VERSION,
            "tool": f"p3mdata {__version__}",
            "plan_sha256": self.plan_sha256,
            "look": {"version": self.version, "sides": self.sides},
            "seed": self.seed,
            "released": self.released,
            "all_looked_at": self.all_looked_at,
            "left_out": self.left_out,
            **self.counted.to_json(),
        }

    @classmethod
    def from_json(cls, row: Json) -> SecondLook:
        return cls(
            plan_sha256=row["plan_sha256"],
            version=row["look"]["version"],
            sides=row["look"]["sides"],
            seed=row["seed"],
            released=row["released"],
            all_looked_at=row["all_looked_at"],
            left_out=row["left_out"],
            counted=Counted.from_json(row),
        )


def recall_of(out: Path) -> tuple[SecondLook, InReview] | None:
    """The figures of a run's last second look as people's decisions leave them; None when there was none.

    Returns:
        The figures, without what people called no face since, and what became of the places that were found.

    Raises:
        RunFolderError: recall.json is damaged.
    """
    if not (out / RECALL).is_file():
        return None
    row = read_json(out / RECALL)
    if row.get("plan_sha256") != sha256((out / PLAN).read_bytes()):
        return None
    look = understood(out / RECALL, row, SecondLook.from_json, f"p3mdata audit {out} --recall")
    looks = DiskDict((look.id, look) for look in read_looks(out))
    now = counted((look for look in looks.values() if look.drawn), called_none(out))
    # While another second look is under way, or was stopped, its figures are not there yet.
    if now.pictures.looked_at == look.counted.pictures.looked_at:
        look = replace(look, counted=now)
    return look, in_review(out)
