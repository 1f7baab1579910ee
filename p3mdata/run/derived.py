"""Datasets and releases made of a run, and what was taken down of it, so that a take-down reaches them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from p3mdata.base.jsonl import PRIVATE_MODE, append_row, read_rows, write_rows
from p3mdata.errors import RunFolderError
from p3mdata.run.layout import DERIVED, TOMBSTONES

DATASET = "dataset"


@dataclass(frozen=True)
class Derived:
    """What was made of a run: `kind` is DATASET or an export's name, `path` where it was."""

    kind: str
    path: str


def read_derived(out: Path) -> Iterator[Derived]:
    """What was made of a run, in the order in which it was.

    Raises:
        RunFolderError: The register is damaged.
    """
    for row in read_rows(out / DERIVED, torn_tail=True, needs=("kind", "path")):
        yield Derived(str(row["kind"]), str(row["path"]))


def register_derived(out: Path, kind: str, path: Path) -> None:
    """Note what is made of a run, so that a take-down reaches it."""
    made = Derived(kind, str(path.resolve()))
    if made not in read_derived(out):
        append_row(out / DERIVED, vars(made))


def write_derived(out: Path, made: Iterable[Derived]) -> None:
    """Write the whole register."""
    write_rows(out / DERIVED, map(vars, made), PRIVATE_MODE)


@dataclass(frozen=True)
class Tombstone:
    """An image that was taken down: its id, the version of the dataset since then, and the day, ISO 8601."""

    id: str
    version: int
    date: str


def tombstones(out: Path) -> Iterator[Tombstone]:
    """What was taken down of a run.

    Raises:
        RunFolderError: The list is damaged.
    """
    for row in read_rows(out / TOMBSTONES, needs=("id", "version")):
        if not isinstance(row["version"], int):
            raise RunFolderError(f"{out / TOMBSTONES}: holds a version that is no number. Restore the file.")
        yield Tombstone(str(row["id"]), row["version"], str(row.get("date", "")))


def write_tombstones(out: Path, tombs: Iterable[Tombstone]) -> None:
    """Write the whole list, which is public."""
    write_rows(out / TOMBSTONES, map(vars, tombs))


def dataset_version(out: Path) -> int:
    """1, and one more for each take-down."""
    return max((tomb.version for tomb in tombstones(out)), default=1)
