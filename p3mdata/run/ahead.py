"""The next image's files are read while the present one is worked on: a store of files may answer late."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from p3mdata.anonymize.inputs import Inputs
from p3mdata.config import Job
from p3mdata.records import Sample
from p3mdata.run.inputs import read_inputs

# Of a photograph; larger ones would take memory that nobody planned for.
_MOST_BYTES = 1 << 26


class ReadAhead:
    """Inputs of images, one read ahead."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._pool = ThreadPoolExecutor(1, "read")
        self._next: tuple[Sample, Future[Inputs | None]] | None = None

    def begin(self, sample: Sample) -> None:
        """Begin to read what will be asked for next."""
        self._next = sample, self._pool.submit(self._small, sample)

    def _small(self, sample: Sample) -> Inputs | None:
        try:
            if (self._job.source / sample.source).stat().st_size > _MOST_BYTES:
                return None
        except OSError:
            return None
        return read_inputs(sample, self._job)

    def __call__(self, sample: Sample) -> Inputs:
        """Inputs of an image, begun or not.

        Raises:
            BrokenInput: As `read_inputs`.
        """
        begun, self._next = self._next, None
        found = begun[1].result() if begun is not None and begun[0] is sample else None
        return read_inputs(sample, self._job) if found is None else found

    def __enter__(self) -> ReadAhead:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
