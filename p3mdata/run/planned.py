"""plan.json: what a run consists of and what it is made by, without the path of a source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p3mdata.base.ids import IDS, KEYED
from p3mdata.base.jsonl import read_json
from p3mdata.base.parsing import fault
from p3mdata.errors import RunFolderError, start_anew
from p3mdata.run.layout import PLAN
from p3mdata.typing import Json


@dataclass(frozen=True)
class Maker:
    """What something is made by.

    Attributes:
        tool: Name and version of the program; None where that is not said.
        settings: By key, as JSON has them.
        weights: SHA-256 of the model files by name; None where that is not said.
    """

    tool: str | None
    settings: Mapping[str, Any]
    weights: Mapping[str, str] | None

    def to_json(self) -> Json:
        return dict(vars(self))

    @classmethod
    def from_json(cls, row: Json) -> Maker:
        """Of a row that may hold more."""
        return cls(row.get("tool"), dict(row.get("settings", {})), row.get("weights"))


@dataclass(frozen=True)
class Planned:
    """Content of plan.json.

    Attributes:
        maker: Program, settings and model files.
        samples: Number of source files.
        shard_size: Source files per shard.
        digest: SHA-256 of the file list.
        keyed: Whether the ids were made with a secret.
        companions: Which of alphas, trimaps and masks there are, sorted.
    """

    maker: Maker
    samples: int
    shard_size: int
    digest: str
    keyed: bool
    companions: tuple[str, ...] = ()

    @property
    def shards(self) -> int:
        """How many there are; the last one may be smaller."""
        return -(-self.samples // self.shard_size)

    def to_json(self) -> Json:
        return {
            "tool": self.maker.tool,
            "settings": self.maker.settings,
            "companions": self.companions,
            "weights": self.maker.weights,
            "samples": self.samples,
            "shard_size": self.shard_size,
            "sources_sha256": self.digest,
            **({IDS: KEYED} if self.keyed else {}),
        }

    @classmethod
    def from_json(cls, row: Json) -> Planned:
        """Raises KeyError, TypeError or ValueError where a part is missing or no plan's."""
        samples, size = row["samples"], row["shard_size"]
        if not isinstance(samples, int) or samples < 0:
            raise ValueError(f"{samples} images")
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"shards of {size} images")
        companions = tuple(row.get("companions", ()))
        return cls(Maker.from_json(row), samples, size, row["sources_sha256"], row.get(IDS) == KEYED, companions)


def read_planned(out: Path) -> Planned:
    """The plan.json of a run.

    Raises:
        RunFolderError: It is damaged.
    """
    row = read_json(out / PLAN, start_anew(out))
    try:
        return Planned.from_json(row)
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise RunFolderError(f"{out}: its plan is damaged ({fault(exc)}). {start_anew(out)}") from exc
