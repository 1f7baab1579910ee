"""The rows of a run: those of its finished shards while it goes on; manifest and ledger once it is closed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import overload

from p3mdata.base.disk_backed import DiskDict
from p3mdata.base.files import atomic
from p3mdata.base.jsonl import NOT_JSON, PRIVATE_MODE, read_json, read_rows
from p3mdata.base.parsing import fault
from p3mdata.base.tables import csv_line
from p3mdata.errors import RunFolderError, not_finished
from p3mdata.records import ImageResult, Sample, ShardStats
from p3mdata.run.inputs import inputs_digest
from p3mdata.run.layout import DONE, IMAGES, LEDGER, RESULTS, SHARDS, STATS, shard_folder
from p3mdata.run.plan import Plan

# What a spreadsheet takes for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Rows(Sequence[ImageResult]):
    """Rows of a run's finished shards, in source order, read from the run folder when they are asked for.

    Args:
        plan: Of the run.
        shards: Which; None reads all.
    """

    def __init__(self, plan: Plan, shards: Sequence[int] | None = None) -> None:
        self._plan = plan
        self._shards = range(plan.shards) if shards is None else shards
        # Lines of the shard that was asked last: a row of it is parsed when it is asked for.
        self._last: tuple[int, list[bytes]] = -1, []

    def __len__(self) -> int:
        size, samples = self._plan.shard_size, self._plan.samples
        return sum(min(size, samples - index * size) for index in self._shards)

    def __iter__(self) -> Iterator[ImageResult]:
        for index in self._shards:
            folder = shard_folder(self._plan.job.out, index)
            if (folder / DONE).exists():
                yield from read_results(folder)

    @overload
    def __getitem__(self, index: int) -> ImageResult: ...
    @overload
    def __getitem__(self, index: slice) -> list[ImageResult]: ...
    def __getitem__(self, index: int | slice) -> ImageResult | list[ImageResult]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place, inner = divmod(range(len(self))[index], self._plan.shard_size)
        folder = shard_folder(self._plan.job.out, self._shards[place])
        if self._last[0] != place:
            self._last = place, (folder / RESULTS).read_bytes().split(b"\n")[:-1]
        lines = self._last[1]
        size, samples = self._plan.shard_size, self._plan.samples
        if len(lines) == min(size, samples - self._shards[place] * size):
            # What is damaged is told below.
            with suppress(KeyError, TypeError, *NOT_JSON):
                return ImageResult.from_json(json.loads(lines[inner].decode("utf-8", "surrogateescape")))
        return read_results(folder)[inner]


def finished_rows(plan: Plan, samples: Iterable[Sample]) -> Rows:
    """The results of a finished run, one per source file, in source order.

    Raises:
        RunFolderError: Some are missing, or were made from other inputs than the plan's.
    """
    out, rows, number = plan.job.out, Rows(plan), 0
    finished = (out / LEDGER).exists()
    for sample, row in zip(samples, rows, strict=False):
        number += 1
        finished = finished and row.inputs == inputs_digest(sample)
    if not finished or number != plan.samples:
        raise not_finished(out)
    return rows


def open_shards(plan: Plan) -> list[int]:
    """Shards that are not done: not finished yet, or touched by a decision since."""
    return [i for i in range(plan.shards) if not (shard_folder(plan.job.out, i) / DONE).exists()]


def count_done(out: Path) -> int:
    """Images that have an outcome so far, read from the run folder."""
    return sum(shard_counter(out)().values())


def shard_counter(out: Path, task: tuple[int, int] | None = None) -> Callable[[], dict[int, int]]:
    """What tells, again and again, how many images of each begun shard have an outcome.

    Shards that were done are not opened twice. Of a task, its shards.
    """
    known: dict[int, int] = {}
    number, of = task or (1, 1)

    def count() -> dict[int, int]:
        found = {}
        for folder in (out / SHARDS).glob("[0-9]*"):
            index = int(folder.name)
            if index % of != number - 1:
                continue
            with suppress(FileNotFoundError):
                if index not in known and (folder / DONE).exists():
                    known[index] = read_stats(folder).samples
                found[index] = known.get(index) or (folder / RESULTS).read_bytes().count(b"\n")
        return found

    return count


def read_results(folder: Path) -> list[ImageResult]:
    """Rows of a shard that were written whole, one per image: the last one counts.

    Raises:
        RunFolderError: The file is damaged.
    """
    return image_rows(folder / RESULTS, torn_tail=True)


def read_stats(folder: Path) -> ShardStats:
    """Counts of a shard that is done.

    Raises:
        RunFolderError: The file is damaged, or not there.
    """
    path = folder / STATS
    row = read_json(path)
    try:
        return ShardStats(**row)
    except TypeError as exc:
        raise RunFolderError(f"{path}: is damaged ({fault(exc)}). Run the command again that wrote it.") from exc


@contextmanager
def names_file(path: Path) -> Iterator[Callable[[ImageResult], None]]:
    """A table `source,id,outcome,image`, by source, that appears when the block ends; yields what adds a row."""
    by_source: DiskDict[tuple[str, ...]] = DiskDict()
    with atomic(path, PRIVATE_MODE) as sink:

        def tell(*cells: str) -> None:
            sink.write(csv_line(cells).encode("utf-8", "surrogateescape"))

        tell("source", "id", "outcome", "image")

        def add(row: ImageResult) -> None:
            image = f"{IMAGES}/{row.files[IMAGES][0]}" if IMAGES in row.files else ""
            by_source[row.source] = row.id, row.outcome.value, image

        yield add
        for source, told in by_source.items():
            tell(_as_text(source), *told)


def _as_text(cell: str) -> str:
    """A cell that spreadsheets show and do not calculate, whoever named the file."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def image_rows(path: Path, torn_tail: bool = False) -> list[ImageResult]:
    """Rows of images, one each: the last one counts.

    Raises:
        RunFolderError: The file is damaged.
    """
    try:
        rows = {row["id"]: row for row in read_rows(path, torn_tail, needs=("id",))}
        return [ImageResult.from_json(row) for row in rows.values()]
    except (KeyError, TypeError, ValueError) as exc:
        raise RunFolderError(f"{path}: is damaged ({fault(exc)}). Run the command again that wrote it.") from exc
