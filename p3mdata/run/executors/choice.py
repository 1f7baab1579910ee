"""Which executor a job is given to."""

from __future__ import annotations

from collections.abc import Callable

from p3mdata.config import Executor, Job
from p3mdata.run.executors import Work, local


def executor_of(job: Job) -> Callable[[Work, int], None]:
    """What runs the shards of a job."""
    if job.execution.executor is Executor.LOCAL:
        return local.run
    from p3mdata.run.executors import ray

    return ray.run
