"""Chunks of facemasks: made in this process or in several, each finished when its file of rows is there."""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, Protocol

import cv2

from p3mdata.base.files import sha256, write_atomic
from p3mdata.base.jsonl import PRIVATE_MODE, read_rows, write_rows
from p3mdata.celebamask.geometry import FaceRule, Refusal
from p3mdata.errors import SetupError
from p3mdata.imaging import encode_mask
from p3mdata.records import Mask

FOLDER, CHUNKS = "facemask", "private/chunks"
BUG = "internal_error"
_POLL_SECONDS = 0.5
# Chunks that wait with each worker, so that none is idle while the parent is busy.
_AHEAD = 2

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


def rows_path(out: Path, index: int) -> Path:
    return out / CHUNKS / f"{index:06d}.jsonl"


def is_done(out: Path, chunk: Chunk) -> bool:
    """Whether a chunk has a row for each of its images, and all their facemasks."""
    rows = list(read_rows(rows_path(out, chunk[0]), needs=("id",)))
    return [row["id"] for row in rows] == list(chunk[1]) and all(
        (out / row["facemask"]).is_file() for row in rows if "facemask" in row
    )


def _make(images: Source, out: Path, name: str) -> dict[str, Any]:
    """One image's row; its facemask is written before."""
    try:
        facemask, rule = images.facemask(name)
    except Refusal as exc:
        return {"id": name, "reason": exc.code, "sentence": exc.sentence}
    except SetupError:
        raise
    except Exception as exc:
        return {"id": name, "reason": BUG, "sentence": f"met a bug ({type(exc).__name__}: {exc}). Please report it."}
    data = encode_mask(facemask)
    path = f"{FOLDER}/{name}.png"
    write_atomic(out / path, data)
    height, width = facemask.shape
    return {
        "id": name,
        "facemask": path,
        "sha256": sha256(data),
        "width": width,
        "height": height,
        "share": round(float(facemask.mean()), 4),
        "rule": rule.value,
    }


def _run_chunk(images: Source, out: Path, chunk: Chunk, go_on: Callable[[], bool]) -> None:
    """Make one chunk; its rows appear when all of it is done."""
    rows = []
    for name in chunk[1]:
        if not go_on():
            return
        rows.append(_make(images, out, name))
    write_rows(rows_path(out, chunk[0]), rows, PRIVATE_MODE)


def run_here(images: Source, out: Path, todo: Sequence[Chunk], show: Callable[[], None]) -> None:
    with contextlib.closing(images):
        for chunk in todo:
            _run_chunk(images, out, chunk, lambda: True)
            show()


# What a worker process works with, set when it begins.
_work: tuple[Source, Path, Event]


def _begin(images: Source, out: Path, stop: Event) -> None:
    global _work
    # The workers supply the parallelism.
    cv2.setNumThreads(1)
    _work = images, out, stop
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = mp.parent_process()
    assert parent is not None
    wait_for([parent.sentinel])
    os._exit(1)


def _serve(chunk: Chunk) -> None:
    images, out, stop = _work
    _run_chunk(images, out, chunk, lambda: not stop.is_set())


@contextlib.contextmanager
def _ctrl_c_held() -> Iterator[None]:
    """The parent alone decides about Ctrl-C: processes started here never see it, not even as they begin."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run_pool(images: Source, out: Path, todo: Sequence[Chunk], size: int, show: Callable[[], None]) -> None:
    context = mp.get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(size, context, _begin, (images, out, stop))
    waiting, running = deque(todo), set[Future[None]]()
    try:
        while waiting or running:
            with _ctrl_c_held():
                while waiting and len(running) < _AHEAD * size:
                    running.add(pool.submit(_serve, waiting.popleft()))
            finished, running = wait(running, _POLL_SECONDS, FIRST_COMPLETED)
            for future in finished:
                future.result()
            show()
    except BrokenProcessPool as exc:
        raise SetupError(
            "A worker process died. Check memory and 'p3mdata doctor', and run again with fewer --workers to go on; "
            "in a script of your own, make the call below `if __name__ == '__main__':`."
        ) from exc
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
