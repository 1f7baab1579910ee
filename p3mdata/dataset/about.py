"""dataset.json: what a dataset of build-split is, and what it was made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from p3mdata.base.ids import IDS, KEYED
from p3mdata.base.jsonl import read_json
from p3mdata.base.parsing import fault
from p3mdata.dataset.layout import Layout
from p3mdata.errors import RunFolderError
from p3mdata.typing import Json

ABOUT = "dataset.json"
# While this file is there the dataset is not whole.
BUILDING = "building.json"
T = TypeVar("T")


@dataclass(frozen=True)
class Begun:
    """What is settled when a dataset is begun, in building.json.

    Attributes:
        layout: Its sets and folders; the first obfuscated set is the one to train on.
        obfuscated: Stands for {obfuscated} in names of folders.
        before: Version and SHA-256 of the listing of the dataset that is being renewed; None for a new one.
    """

    layout: Layout
    obfuscated: str
    before: tuple[int, str] | None = None

    def to_json(self) -> Json:
        return {**_settled(self.layout, self.obfuscated), "before": self.before}

    @classmethod
    def from_json(cls, row: Json) -> Begun:
        kept = row.get("before")
        return cls(_layout(row), row["obfuscated"], (int(kept[0]), str(kept[1])) if kept else None)


@dataclass(frozen=True)
class About:
    """Content of dataset.json.

    Attributes:
        layout, obfuscated: See `Begun`.
        tool: Name and version of the program.
        version: 1, and one more for each take-down.
        sets: Images by set; sets that nobody asked for are left out.
        outcomes, reasons: Source files of the run by outcome and by reason, None where they are not told.
        balance: Images by trait, value and set.
        settings: Of the run, by key, as JSON has them; None where they are not told.
        seed: Of the split.
        trimap_kernel: Side of the trimaps' kernel in pixels; None where it is not told.
        keyed: Whether ids were made with the run's secret.
    """

    layout: Layout
    obfuscated: str
    tool: str
    version: int
    sets: dict[str, int]
    outcomes: dict[str, int] | None = None
    reasons: dict[str, int] | None = None
    balance: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    settings: Mapping[str, Any] | None = None
    seed: int = 0
    trimap_kernel: int | None = None
    keyed: bool = False

    def to_json(self) -> Json:
        told = {name: value for name, value in vars(self).items() if name not in ("layout", "obfuscated", "keyed")}
        return _settled(self.layout, self.obfuscated) | told | ({IDS: KEYED} if self.keyed else {})

    @classmethod
    def from_json(cls, row: Json) -> About:
        return cls(
            layout=_layout(row),
            obfuscated=row["obfuscated"],
            tool=str(row["tool"]),
            version=int(row["version"]),
            sets=dict(row["sets"]),
            outcomes=row.get("outcomes"),
            reasons=row.get("reasons"),
            balance=dict(row.get("balance", {})),
            settings=row.get("settings"),
            seed=row.get("seed", 0),
            trimap_kernel=row.get("trimap_kernel"),
            keyed=row.get(IDS) is not None,
        )


def _settled(layout: Layout, obfuscated: str) -> Json:
    return {"layout": layout.model_dump(mode="json"), "training": layout.training, "obfuscated": obfuscated}


def _layout(row: Json) -> Layout:
    layout = Layout(**row["layout"])
    # JSON keeps no order, and the first obfuscated set is the one to train on.
    names = sorted(layout.sets, key=lambda name: name != row["training"])
    return layout.model_copy(update={"sets": {name: layout.sets[name] for name in names}})


def read_about(root: Path) -> About:
    """The dataset.json of a dataset.

    Raises:
        RunFolderError: It is damaged.
    """
    return _read(root / ABOUT, About.from_json)


def read_begun(root: Path) -> Begun:
    """The building.json of a dataset that is not whole.

    Raises:
        RunFolderError: It is damaged.
    """
    return _read(root / BUILDING, Begun.from_json)


def _read(path: Path, of: Callable[[Json], T]) -> T:
    row = read_json(path)
    try:
        return of(row)
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise RunFolderError(f"{path}: is damaged ({fault(exc)}). Delete the dataset and build it again.") from exc
