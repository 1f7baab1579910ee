"""The samples of a plan: a sequence that lies in a file, not in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

from p3mdata.base.jsonl import NOT_JSON, read_rows
from p3mdata.base.parsing import fault
from p3mdata.errors import RunFolderError, start_anew
from p3mdata.records import Decision, Sample, Suspect
from p3mdata.typing import Json


class Samples(Sequence[Sample]):
    """Samples of a plan, read from its file when they are asked for, with what people decided about them.

    Args:
        path: JSON lines, one per sample, in order.
        count: Number of samples.
        decisions: By id.
        suspects: What a second look found, by id.
    """

    def __init__(
        self,
        path: Path,
        count: int,
        decisions: Mapping[str, Decision] | None = None,
        suspects: Mapping[str, tuple[Suspect, ...]] | None = None,
    ) -> None:
        self._path, self._count = path, count
        self._decisions, self._suspects = dict(decisions or {}), dict(suspects or {})

    def with_decisions(self, decisions: Mapping[str, Decision]) -> Samples:
        """The same samples with other decisions."""
        return Samples(self._path, self._count, decisions, self._suspects)

    def decide(self, identity: str, decision: Decision | None) -> None:
        """Put a decision in the place of what was decided about an image."""
        self._decisions.pop(identity, None)
        if decision is not None:
            self._decisions[identity] = decision

    def suspect(self, identity: str, found: tuple[Suspect, ...]) -> None:
        """Note what a second look found on an image."""
        self._suspects[identity] = found

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Sample]:
        found = 0
        for row in read_rows(self._path, way_out=start_anew(self._path.parent.parent)):
            yield self._sample(row)
            found += 1
        if found != self._count:
            raise self._damaged(f"{found} rows in the place of {self._count}")

    def _damaged(self, why: object) -> RunFolderError:
        return RunFolderError(f"{self._path}: is damaged ({why}). {start_anew(self._path.parent.parent)}")

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            start, stop, step = index.indices(self._count)
            return self._read(start, max(start, stop))[::step]
        if not -self._count <= index < self._count:
            raise IndexError(index)
        return self._read(index % self._count, index % self._count + 1)[0]

    def _sample(self, row: Json) -> Sample:
        try:
            sample = Sample.from_json(row)
        except (AttributeError, IndexError, KeyError, TypeError) as exc:
            raise self._damaged(fault(exc)) from exc
        decision, suspects = self._decisions.get(sample.id), self._suspects.get(sample.id, ())
        if decision is None and not suspects:
            return sample
        return replace(sample, decision=decision, suspects=suspects)

    def _row(self, line: bytes, number: int) -> Json:
        if not line:
            raise self._damaged(f"{self._count} samples are planned, {number} are listed")
        try:
            row = _parsed(line)
        except NOT_JSON:
            row = None
        if not isinstance(row, dict):
            raise self._damaged(f"line {number + 1} is damaged")
        return row

    def _read(self, start: int, stop: int) -> list[Sample]:
        if start == stop:
            return []
        try:
            with self._path.open("rb") as lines:
                lines.seek(_offset(lines, start, self._path.stat().st_size) if start else 0)
                samples = [self._sample(self._row(lines.readline(), number)) for number in range(start, stop)]
        except (OSError, LookupError, TypeError, *NOT_JSON) as exc:
            raise self._damaged(fault(exc)) from exc
        if samples[0].index != start:
            raise self._damaged(f"row {start} is not there")
        return samples


def _parsed(line: bytes) -> Any:
    return json.loads(line.decode("utf-8", "surrogateescape"))


def _offset(lines: Any, index: int, size: int) -> int:
    """Where the row of an index begins, by bisection: rows carry their index."""
    low, high = 0, size
    # The row begins in [low, high]; both are beginnings of rows, or the end.
    while low < high:
        middle = (low + high) // 2
        lines.seek(middle)
        if middle > low:
            lines.readline()
        begin = lines.tell()
        if begin >= high:
            # No row begins between the middle and `high`: walk from `low`.
            lines.seek(low)
            while _parsed(lines.readline())["index"] < index:
                low = lines.tell()
            return low
        found = _parsed(lines.readline())["index"]
        if found == index:
            return int(begin)
        if found < index:
            low = lines.tell()
        else:
            high = begin
    return low
