"""How often a run misses a face, by a second look: what was seen on each picture, and the figures that follow from it.

Private rows tell what was seen where; figures hold no id and no name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from p3mdata.base.disk_backed import DiskDict
from p3mdata.base.files import sha256
from p3mdata.base.intervals import miss_bound, wilson
from p3mdata.base.jsonl import read_json, read_rows
from p3mdata.base.parsing import fault
from p3mdata.errors import RunFolderError
from p3mdata.records import XYXY, boxes_of
from p3mdata.run.decisions import read_log, standing
from p3mdata.run.layout import LOOKS, PLAN, RECALL
from p3mdata.run.suspects import read_suspects
from p3mdata.typing import Json


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
            yield Looked.from_json(row)
        except (KeyError, TypeError, ValueError) as exc:
            way_out = "Delete it: the pictures are then looked at again."
            raise RunFolderError(f"{out / LOOKS}: holds a row that is no look ({fault(exc)}). {way_out}") from exc


def counted(looks: Iterable[Looked], none: dict[str, set[XYXY]]) -> Json:
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
    return {
        "pictures": {
            "looked_at": pictures,
            "with_missed": with_missed,
            "rate": wilson(with_missed, pictures).to_json(),
            "at_most": round(miss_bound(pictures, with_missed), 6) if pictures else 1.0,
        },
        "faces": {
            "seen": hidden + missed,
            "missed": missed,
            "rate": wilson(missed, hidden + missed).to_json(),
            "not_seen_by_second_look": unseen,
        },
        "neither": neither(lists),
    }


def neither(lists: Counter[str]) -> Json:
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

    return {
        "seen_by": {name: lists[name] for name in sorted(lists)},
        "estimate": unseen(*(rate.value for rate in misses)),
        "low": unseen(*(rate.low for rate in misses)),
        "high": unseen(*(rate.high for rate in misses)),
    }


def called_none(out: Path) -> dict[str, set[XYXY]]:
    """Places by id that a second look took for faces and a person did not."""
    said = standing(read_log(out))
    return {
        identity: {suspect.face.box for suspect in suspects if suspect.is_none(said.get(identity))}
        for identity, suspects in read_suspects(out).items()
    }


def in_review(out: Path) -> dict[str, int]:
    """What became of all places that second looks found: `waiting`, `faces`, `no_faces`; and `pictures` that wait."""
    said = standing(read_log(out))
    found = {"waiting": 0, "faces": 0, "no_faces": 0, "pictures": 0}
    for identity, suspects in read_suspects(out).items():
        decision = said.get(identity)
        open_ = 0
        for suspect in suspects:
            none, settled = suspect.is_none(decision), suspect.settled_by(decision)
            found["no_faces" if none else "faces" if settled else "waiting"] += 1
            open_ += not none and not settled
        found["pictures"] += bool(open_)
    return found


def recall_of(out: Path) -> Json | None:
    """The figures of a run's last second look as people's decisions leave them; None when there was none.

    Returns:
        What recall.json holds, its counts without what people called no face since, and `review`, see `in_review`.
    """
    if not (out / RECALL).is_file():
        return None
    row = read_json(out / RECALL)
    if row.get("plan_sha256") != sha256((out / PLAN).read_bytes()):
        return None
    looks = DiskDict((look.id, look) for look in read_looks(out))
    now = counted((look for look in looks.values() if look.drawn), called_none(out))
    # While another second look is under way, or was stopped, its figures are not there yet.
    if now["pictures"]["looked_at"] == row["pictures"]["looked_at"]:
        row |= now
    return {**row, "review": in_review(out)}
