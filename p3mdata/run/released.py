"""Read a released file of a run or dataset, if it is still the one that was released."""

from __future__ import annotations

from p3mdata.base.object_store import Store
from p3mdata.config import Job


def read_released(job: Job, name: str) -> bytes:
    """Content of a released file, from the run folder or from the store that the run lies in.

    Raises:
        OSError: It cannot be read.
        StoreError: The store fails.
    """
    if job.store is None:
        return (job.out / name).read_bytes()
    data = Store(job.store).get(name)
    if data is None:
        raise FileNotFoundError(2, "No such file", name)
    return data
