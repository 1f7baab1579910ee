"""Look at pictures of a finished run, one after another or in worker processes that hold models."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import cv2

from p3mdata.base.pool import Handler, Mark, work_in_pool
from p3mdata.errors import Interrupted
from p3mdata.faces.ensemble import FaceFinder
from p3mdata.faces.models import Models
from p3mdata.records import ImageResult, Sample
from p3mdata.run.plan import Plan
from p3mdata.run.room import plan_memory, room_for_pixels

R = TypeVar("R")
Picture = tuple[Sample, ImageResult]


@dataclass(frozen=True)
class Looking(Generic[R]):
    """What is done with each picture; functions of modules, since workers are sent it.

    Attributes:
        look: Looks at one.
        crashed: The answer for one that makes its worker die again and again.
        worth: Pictures that a worker must have, to be worth the second that loading its models takes.
        ordered: Whether answers come in the order of the pictures.
    """

    look: Callable[[Plan, Sample, ImageResult, FaceFinder], R]
    crashed: Callable[[Sample, ImageResult], R]
    worth: int
    ordered: bool = True


def look_over(plan: Plan, pictures: Iterable[Picture], number: int, workers: int, looking: Looking[R]) -> Iterator[R]:
    """Answers about pictures of a run.

    Args:
        plan: Of the run.
        pictures: Taken as they are needed.
        number: How many they are at most.
        workers: Processes; of fewer pictures fewer, and none where one is enough.
        looking: What is done.
    """
    size = min(workers, -(-number // looking.worth))
    if size <= 1:
        with contextlib.closing(Models()) as finder:
            for sample, row in pictures:
                yield looking.look(plan, sample, row, finder())
        return
    plan_memory(plan.job.out, size)
    pool = work_in_pool(partial(_working, plan, looking), pictures, size, ordered=looking.ordered)
    with contextlib.closing(pool) as found:
        yield from found


@contextlib.contextmanager
def _working(plan: Plan, looking: Looking[R], mark: Mark) -> Iterator[Handler[Picture, R]]:
    """The life of a worker."""
    # The processes are the parallelism.
    cv2.setNumThreads(1)
    with FaceFinder() as finder:

        def handle(picture: Picture, crashing: frozenset[str]) -> R:
            sample, row = picture
            if sample.id in crashing:
                return looking.crashed(sample, row)
            if not mark(sample.id):
                raise Interrupted("stopped")
            with room_for_pixels((row.width or 0) * (row.height or 0), plan.job):
                return looking.look(plan, sample, row, finder)

        yield handle
