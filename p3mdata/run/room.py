"""Memory for large pictures: planned when workers are started, taken by each before it decodes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from p3mdata.base.memory import SharedMemory, all_memory, free_memory
from p3mdata.base.processes import MODEL_BYTES, WORKER_BYTES
from p3mdata.config import Job
from p3mdata.errors import BrokenInput
from p3mdata.imaging.memory import BYTES_PER_PIXEL, memory_for
from p3mdata.run.layout import PRIVATE

_GIB = 1024**3


def plan_memory(out: Path, workers: int) -> None:
    """Say what there is for large pictures beside the shares of so many workers."""
    # A run that can only be read is only read.
    with contextlib.suppress(OSError):
        SharedMemory(out / PRIVATE).plan((free_memory() or 0) - workers * WORKER_BYTES)


@contextlib.contextmanager
def room_for(photo: bytes, job: Job) -> Iterator[None]:
    """Hold what a picture needs beyond a worker's share, as soon as it is there.

    Raises:
        BrokenInput: The picture needs more than all of this machine's, or this process' group's, memory.
    """
    needed = memory_for(photo, job.settings.max_pixels)
    if (most := all_memory()) is not None and MODEL_BYTES + needed > most:
        raise BrokenInput(
            "out_of_memory",
            f"needs about {needed / _GIB:.1f} GiB of memory where there are {most / _GIB:.1f}. Use a larger "
            "machine, or remove it.",
        )
    with _holding(needed, job):
        yield


def room_for_pixels(number: int, job: Job) -> contextlib.AbstractContextManager[None]:
    """The same for a picture that was worked on before, of so many pixels."""
    return _holding(number * BYTES_PER_PIXEL, job)


def _holding(needed: int, job: Job) -> contextlib.AbstractContextManager[None]:
    return SharedMemory(job.out / PRIVATE).holding(MODEL_BYTES + needed - WORKER_BYTES)
