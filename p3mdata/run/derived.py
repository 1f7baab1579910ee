"""Datasets and releases made of a run, so that a take-down reaches them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from p3mdata.base.jsonl import append_row, read_rows
from p3mdata.errors import RunFolderError
from p3mdata.run.layout import DERIVED, TOMBSTONES
from p3mdata.typing import Json


def register_derived(out: Path, kind: str, path: Path) -> None:
    """Note what was built from a run, so that a take-down reaches it: kind is `dataset` or an export's name."""
    row = {"kind": kind, "path": str(path.resolve())}
    if row not in read_rows(out / DERIVED, torn_tail=True):
        append_row(out / DERIVED, row)


def tombstones(out: Path) -> Iterator[Json]:
    for row in read_rows(out / TOMBSTONES, needs=("id", "version")):
        if not isinstance(row["version"], int):
            raise RunFolderError(f"{out / TOMBSTONES}: holds a version that is no number. Restore the file.")
        yield row


def dataset_version(out: Path) -> int:
    """1, and one more for each take-down."""
    return max((row["version"] for row in tombstones(out)), default=1)
