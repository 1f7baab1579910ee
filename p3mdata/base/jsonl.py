"""JSON and JSON lines of a run: written whole and atomically, or appended row by row and read back safely."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from p3mdata.base.files import atomic, lock, write_atomic
from p3mdata.base.system import LOCK_EX
from p3mdata.errors import RunFolderError, reason_of
from p3mdata.typing import Json

T = TypeVar("T")

PRIVATE_MODE = 0o600
RESTORE = "Restore it from a copy, or make it again with the command that wrote it."
# Numbers of thousands of digits are a ValueError to the library, deep nesting a RecursionError.
NOT_JSON = (ValueError, RecursionError)
# Bytes, when looking for the begin of a last line.
_STEP = 1 << 16


def dumps(row: Any) -> str:
    """Canonical JSON: sorted keys, no spaces, UTF-8 kept readable; equal rows give equal bytes."""
    return json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def in_canonical_order(value: T) -> T:
    """A JSON value whose objects have their keys in the order that files have them."""
    ordered: T = json.loads(dumps(value))
    return ordered


def write_json(path: Path, row: Any, mode: int = 0o644) -> None:
    """Write one indented JSON document atomically."""
    text = json.dumps(row, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    write_atomic(path, text.encode("utf-8", "surrogateescape"), mode)


def write_rows(path: Path, rows: Iterable[Any], mode: int = 0o644) -> None:
    """Write JSON lines atomically without holding them in memory."""
    with rows_file(path, mode) as write:
        for row in rows:
            write(row)


@contextmanager
def rows_file(path: Path, mode: int = 0o644) -> Iterator[Callable[[Any], object]]:
    """Yields what writes one row of JSON lines; the file appears when the block ends."""
    with atomic(path, mode) as sink:
        yield lambda row: sink.write((dumps(row) + "\n").encode("utf-8", "surrogateescape"))


def append_row(path: Path, row: Any, mode: int = PRIVATE_MODE) -> None:
    """Append one line and wait until it is on disk; what a crash or a full disk left of a last line is cut off.

    Raises:
        OSError: No room, or no right to write; a part of the line may be left, at the end of the file. The folder that
            the file's folder is in is not there: one that was deleted is not made again.
    """
    path.parent.mkdir(exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, mode)
    with os.fdopen(descriptor, "r+b") as file:
        # A line that another process is about to write is no rest of a crash.
        lock(file.fileno(), LOCK_EX)
        # Behind what is left of a line it would be no line, and the file damaged in its middle.
        start = _whole_lines(file)
        file.write(start + (dumps(row) + "\n").encode("utf-8", "surrogateescape"))
        file.flush()
        os.fsync(file.fileno())


def _whole_lines(file: BinaryIO) -> bytes:
    """Cut a file behind its last row; gives what has to be written before the next one."""
    start = file.seek(0, os.SEEK_END)
    tail = b""
    while start and b"\n" not in tail:
        step = min(start, _STEP if tail else 1)
        start = file.seek(start - step)
        tail = file.read(step) + tail
    rest = tail[tail.rfind(b"\n") + 1 :]
    if not rest:
        return b""
    try:
        json.loads(rest.decode("utf-8", "surrogateescape"))
    except NOT_JSON:
        file.truncate(start + len(tail) - len(rest))
        return b""
    # A row that lacks nothing but its end.
    return b"\n"


def read_rows(path: Path, torn_tail: bool = False, needs: Iterable[str] = (), way_out: str = RESTORE) -> Iterator[Json]:
    """Rows of a JSON-lines file.

    Args:
        path: The file; a missing one has no rows.
        torn_tail: Allow a last line that a crash cut off; it is skipped.
        needs: Keys that every row must have.
        way_out: What to do about a damaged file.

    Raises:
        RunFolderError: A line is not a JSON object with these keys.
    """
    needed = frozenset(needs)
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="surrogateescape") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
            except NOT_JSON as exc:
                if torn_tail and not line.endswith("\n"):
                    return
                raise RunFolderError(f"{path}: line {number} is damaged. {way_out}") from exc
            if not isinstance(row, dict) or not needed <= row.keys():
                raise RunFolderError(f"{path}: line {number} is damaged. {way_out}")
            yield row


def read_json(path: Path, way_out: str = RESTORE) -> Json:
    """One JSON document.

    Raises:
        RunFolderError: Unreadable or not a JSON object.
    """
    try:
        row = json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
    except (OSError, *NOT_JSON) as exc:
        raise RunFolderError(f"{path}: cannot be read ({reason_of(exc)}). {way_out}") from exc
    if not isinstance(row, dict):
        raise RunFolderError(f"{path}: is not a JSON object. {way_out}")
    return row
