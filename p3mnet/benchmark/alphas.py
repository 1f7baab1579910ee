"""Alphas of one method for many pictures, with their figures: in one process, or in several for what has one thread."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from p3mdata.base.files import sha256, write_atomic
from p3mdata.base.memory import free_memory
from p3mdata.base.pool import CRASH_SENTENCE, Handler, Mark, work_in_pool
from p3mdata.base.processes import default_workers
from p3mdata.errors import BrokenInput, Interrupted, P3MError, unwritable
from p3mdata.imaging import encode_grey
from p3mnet.baselines import Alpha, Family, Image, Method
from p3mnet.baselines.opening import Request, open_method
from p3mnet.benchmark.pictures import Picture, load
from p3mnet.benchmark.store import KeptAlpha, key_of
from p3mnet.evaluate import ImageRow, evaluate_one, fact_of

# Of what is kept: another one makes all of it again.
VERSION = 1
# A process takes seconds to begin: each must have so many pictures.
_LEAST_EACH = 3
# Bytes of a process with its libraries, and for each pixel that a method sees, with half of them unknown. Measured.
_PROCESS = 350 * 1024**2
_PER_PIXEL = {"knn": 4000, "information-flow": 4000, "learning-based": 2700}
_OTHERS = 1600


class MethodFault(Exception):
    """What a method did wrong, with the trace of where."""

    def __init__(self, sentence: str, trace: str) -> None:
        super().__init__(sentence)
        self.trace = trace


@dataclass(frozen=True)
class Task:
    """A picture, where its alpha goes, and what is kept of an earlier call, if anything."""

    number: int
    picture: Picture
    target: Path
    kept: KeptAlpha | None


@dataclass(frozen=True)
class Made:
    """What came of a task.

    Attributes:
        number: Of the task.
        row: Figures, or why there are none.
        seconds: How long its alpha took; None where there is none.
        keep: What to keep of it, None where it is kept already or nothing came of it.
        fault: What the method did wrong, and the trace.
    """

    number: int
    row: ImageRow
    seconds: float | None = None
    keep: KeptAlpha | None = None
    fault: tuple[str, str] | None = None


@dataclass(frozen=True)
class Maker:
    """How alphas are made and judged; `out` is the folder that they are written to."""

    out: Path
    request: Request
    max_side: int
    mode: str
    device: str
    kernel: int
    corrected: bool

    def open(self) -> Method:
        """The method, ready to predict."""
        return open_method(self.request, self.max_side, self.mode, self.device)

    def processes(self, tasks: Sequence[Task], workers: int) -> int:
        """How many to work in: more than one for classic methods, as far as pictures and memory go.

        Args:
            tasks: Those whose alphas are not there.
            workers: At most so many; 0 takes all cores.
        """
        if self.request.kind != "catalogue" or self.request.entry.family is not Family.CLASSIC:
            return 1
        free = free_memory()
        most = len(tasks) if free is None else free // self.memory()
        return max(1, min(workers or default_workers(), len(tasks) // _LEAST_EACH, most))

    def memory(self) -> int:
        """Bytes that a process may come to."""
        return _PROCESS + _PER_PIXEL.get(self.request.entry.name, _OTHERS) * self.max_side**2

    def all(self, method: Method, tasks: Sequence[Task], workers: int) -> Iterator[Made]:
        """What comes of tasks, as it comes.

        Args:
            method: Opened here; other processes open their own.
            tasks: In any order.
            workers: Processes; 1 works in this one.

        Raises:
            MethodFault: The method failed otherwise than at a picture.
            P3MError: It cannot go on, or cannot write.
        """
        if workers <= 1:
            yield from (self.make(method, task) for task in tasks)
            return
        with contextlib.closing(work_in_pool(partial(_working, self), tasks, workers, ordered=False)) as found:
            for made in found:
                if made.fault is not None:
                    raise MethodFault(*made.fault)
                yield made

    def make(self, method: Method, task: Task) -> Made:
        """Figures of one picture; kept ones where they still hold.

        Raises:
            RunFolderError: The alpha cannot be written.
        """
        picture, kept = task.picture, task.kept
        if picture.problem:
            return self._without(task, picture.problem)
        hashes = picture.hashes
        trimap_from = hashes.get("trimap") or [hashes["alpha"], self.kernel]
        seen = [hashes["image"], trimap_from if method.needs_trimap else None]
        made = key_of(VERSION, dict(method.identity), seen)
        measured = key_of(made, dict(hashes), self.corrected)
        if kept is not None and not (kept.made == made and _is_there(task.target, kept.prediction)):
            kept = None
        if kept is not None and kept.measured == measured:
            return Made(task.number, ImageRow(picture.set, picture.stem, kept.values), kept.seconds)
        if kept is not None:
            taken = kept.seconds
        else:
            try:
                rgb, trimap = load(picture, self.kernel)
                begun = time.perf_counter()
                alpha = method.predict(rgb, trimap if method.needs_trimap else None)
                taken = time.perf_counter() - begun
            except BrokenInput as exc:
                return self._without(task, fact_of(exc.sentence))
            png = encode_grey(_eight_bit(alpha, rgb))
            try:
                write_atomic(task.target, png)
            except OSError as exc:
                raise unwritable(self.out, exc) from exc
        found = evaluate_one(picture.task(task.target), self.corrected)
        if found.problem:
            return Made(task.number, found, taken)
        prediction = sha256(task.target.read_bytes())
        keep = KeptAlpha(picture.set, picture.stem, made, measured, prediction, taken, found.values)
        return Made(task.number, found, taken, keep)

    def _without(self, task: Task, why: str) -> Made:
        return Made(task.number, ImageRow(task.picture.set, task.picture.stem, {}, why))


@contextlib.contextmanager
def _working(maker: Maker, mark: Mark) -> Iterator[Handler[Task, Made]]:
    """The life of a process of `Maker.all`."""
    cv2.setNumThreads(1)
    method = maker.open()

    def handle(task: Task, crashing: frozenset[str]) -> Made:
        name = f"{task.picture.set}/{task.picture.stem}"
        if name in crashing:
            return maker._without(task, CRASH_SENTENCE)
        if not mark(name):
            raise Interrupted("stopped")
        try:
            return maker.make(method, task)
        except P3MError:
            raise
        except Exception as exc:
            # As a value, so that the other process knows what it was.
            empty = ImageRow(task.picture.set, task.picture.stem, {}, "")
            return Made(task.number, empty, fault=(described(exc), traceback.format_exc()))

    yield handle


def _is_there(file: Path, digest: str) -> bool:
    return file.is_file() and sha256(file.read_bytes()) == digest


def described(exc: Exception) -> str:
    """What a method did wrong, in a line."""
    first = (str(exc).strip().splitlines() or ["no message"])[0]
    return f"{type(exc).__name__}: {first}"


def _eight_bit(alpha: Alpha, rgb: Image) -> Image:
    """What is written of an alpha; a method that gives anything else is at fault."""
    if alpha.shape != rgb.shape[:2] or not np.isfinite(alpha).all():
        raise ValueError(f"it gave {alpha.shape} {alpha.dtype}, finite numbers of shape {rgb.shape[:2]} were wanted")
    return np.rint(np.clip(alpha, 0, 1) * 255).astype(np.uint8)
