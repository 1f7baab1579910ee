"""Chunks of facemasks: made in this process or in several, each finished when its file of rows is there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import cv2

from p3mdata.base.files import sha256, write_atomic
from p3mdata.base.jsonl import PRIVATE_MODE, RESTORE, read_rows, write_rows
from p3mdata.base.parsing import fault
from p3mdata.base.pool import CRASH_SENTENCE, Handler, Mark, work_in_pool
from p3mdata.celebamask.geometry import FaceRule, Refusal
from p3mdata.errors import Interrupted, RunFolderError, SetupError
from p3mdata.imaging import encode_mask
from p3mdata.records import Mask

FOLDER, CHUNKS = "facemask", "private/chunks"
BUG = "internal_error"

Chunk = tuple[int, Sequence[str]]


class Source(Protocol):
    """Where facemasks come from. It is sent to the workers as it is before its first facemask."""

    kind: str
    chunk: int
    root: Path

    def names(self) -> list[str]:
        """Names of all images, in the order of the lists; called before anything else."""
        ...

    def image(self, name: str) -> str:
        """Path of an image, relative to `root`."""
        ...

    def facemask(self, name: str) -> tuple[Mask, FaceRule]:
        """HxW bool and how it was made, or a `Refusal`."""
        ...

    def close(self) -> None:
        """Free what was loaded."""
        ...


@dataclass(frozen=True)
class FacemaskRow:
    """A facemask: its image, its file below the folder, and how it came about; `share` is that of the picture."""

    id: str
    facemask: str
    sha256: str
    width: int
    height: int
    share: float
    rule: str


@dataclass(frozen=True)
class RefusedRow:
    """An image without a facemask, and why."""

    id: str
    reason: str
    sentence: str


Row = FacemaskRow | RefusedRow


def read_chunk(out: Path, index: int) -> Iterator[Row]:
    """Rows of a chunk, none of one that is not done.

    Raises:
        RunFolderError: A row is damaged.
    """
    path = rows_path(out, index)
    for row in read_rows(path, needs=("id",)):
        try:
            yield FacemaskRow(**row) if "facemask" in row else RefusedRow(**row)
        except TypeError as exc:
            raise RunFolderError(f"{path}: is damaged ({fault(exc)}). {RESTORE}") from exc


def rows_path(out: Path, index: int) -> Path:
    """Where the rows of a chunk are, once it is done."""
    return out / CHUNKS / f"{index:06d}.jsonl"


def is_done(out: Path, chunk: Chunk) -> bool:
    """Whether a chunk has a row for each of its images, and all their facemasks."""
    rows = list(read_chunk(out, chunk[0]))
    return [row.id for row in rows] == list(chunk[1]) and all(
        (out / row.facemask).is_file() for row in rows if isinstance(row, FacemaskRow)
    )


def _make(images: Source, out: Path, name: str) -> Row:
    """One image's row; its facemask is written before."""
    try:
        facemask, rule = images.facemask(name)
    except Refusal as exc:
        return RefusedRow(name, exc.code, exc.sentence)
    except SetupError:
        raise
    except Exception as exc:
        return RefusedRow(name, BUG, f"met a bug ({type(exc).__name__}: {exc}). Please report it.")
    data = encode_mask(facemask)
    path = f"{FOLDER}/{name}.png"
    write_atomic(out / path, data)
    height, width = facemask.shape
    return FacemaskRow(name, path, sha256(data), width, height, round(float(facemask.mean()), 4), rule.value)


def _run_chunk(
    images: Source, out: Path, chunk: Chunk, go_on: Callable[[str], bool], crashing: Collection[str] = ()
) -> None:
    """Make one chunk; its rows appear when all of it is done."""
    rows = []
    for name in chunk[1]:
        if name in crashing:
            raise SetupError(
                f"{images.root / images.image(name)}: {CRASH_SENTENCE} Or run with fewer --workers to go on."
            )
        if not go_on(name):
            raise Interrupted("stopped")
        rows.append(vars(_make(images, out, name)))
    write_rows(rows_path(out, chunk[0]), rows, PRIVATE_MODE)


def run_here(images: Source, out: Path, todo: Sequence[Chunk], show: Callable[[], None]) -> None:
    """Make chunks in this process; `show` is called after each."""
    with contextlib.closing(images):
        for chunk in todo:
            _run_chunk(images, out, chunk, lambda name: True)
            show()


@contextlib.contextmanager
def _working(images: Source, out: Path, mark: Mark) -> Iterator[Handler[Chunk, None]]:
    # The workers supply the parallelism.
    cv2.setNumThreads(1)
    with contextlib.closing(images):
        yield lambda chunk, crashing: _run_chunk(images, out, chunk, mark, crashing)


def run_pool(images: Source, out: Path, todo: Sequence[Chunk], size: int, show: Callable[[], None]) -> None:
    """Make chunks in `size` processes; `show` is called now and then."""
    pool = work_in_pool(partial(_working, images, out), todo, size, poll=show, ordered=False)
    with contextlib.closing(pool) as done:
        for _ in done:
            show()
