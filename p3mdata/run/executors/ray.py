"""Shards on a Ray cluster: actors that load the models once, each with one shard at a time.

All nodes see the sources and the run folder under the paths of the driver, or a run in a store under its address. A
shard is given again when its actor died, which is a fault of the cluster until it happened at one image four times (in
a store, where nobody sees which image it was: at one shard, and then the run ends); faults of images are rows like
everywhere else. How far the run is stands in the run, not in the driver: a driver that was killed is started again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any

from p3mdata.base.files import locked
from p3mdata.base.pool import caught
from p3mdata.base.processes import WORKER_BYTES, StopOnSignal
from p3mdata.base.system import LOCK_SH
from p3mdata.config import Job
from p3mdata.errors import Interrupted, P3MError, SetupError
from p3mdata.faces.models import Models
from p3mdata.records import Sample
from p3mdata.run.executors import Work
from p3mdata.run.layout import WORKERS_LOCK, shard_folder
from p3mdata.run.rows import read_results
from p3mdata.run.stages import Stage
from p3mdata.run.upload import bring_shard

_RESUBMITS = 3
_POLL_SECONDS = 0.5
_CONNECT_SECONDS = 10.0


class _Worker:
    """An actor: its models, and the lock that tells a later driver that somebody still writes."""

    def __init__(self, job: Job, stage: Stage) -> None:
        self._job, self._stage, self._models = job, stage, Models()
        self._held = contextlib.ExitStack()
        # A run in a store has no folder that all nodes see.
        if job.store is None:
            self._held.enter_context(locked(job.out / WORKERS_LOCK, LOCK_SH))

    def ready(self) -> Exception | None:
        """Load the models here, so that models that do not fit are not blamed on an image."""
        try:
            if self._stage.looks:
                self._models()
        except P3MError as exc:
            return exc
        return None

    def run(self, shard: int, samples: Sequence[Sample], crashing: frozenset[str]) -> Exception | None:
        """One shard; what it raised is given back, since a raised exception would not keep its class."""

        def bring() -> None:
            bring_shard(self._job, shard, samples, self._models, self._stage, lambda sample: True, crashing)

        return caught(bring)


def run(work: Work, workers: int) -> None:
    """Run shards of a plan on a cluster; errors are those of `local.run`.

    Args:
        work: The shards and what to do with them.
        workers: Actors; 0 takes one for each CPU of the cluster. Each reserves a CPU and the memory of a worker.
    """
    with _cluster(work.plan.job.execution.address) as ray, StopOnSignal() as stop:
        pool = _Pool(ray, work)
        try:
            while pool.open and not stop.seen:
                pool.step(workers)
                work.progress()
        finally:
            pool.close()
        if stop.seen:
            raise Interrupted("stopped")
    work.progress()


@contextlib.contextmanager
def _cluster(address: str | None) -> Iterator[Any]:
    """The library, connected: to a cluster, or to one that this process starts on this machine."""
    # No statistics about users leave the machine.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as exc:
        raise SetupError("--executor ray needs Ray: run pip install 'p3mdata[ray]'.") from exc
    ours = not ray.is_initialized()
    if ours:
        address = address or os.environ.get("RAY_ADDRESS") or "local"
        try:
            _refuse_silence(address)
            if address == "local":
                ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
            else:
                ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, ValueError, RuntimeError) as exc:
            raise SetupError(f"--address {address}: no Ray cluster answers ({exc}). Check the address.") from exc
    try:
        yield ray
    finally:
        if ours:
            ray.shutdown()


def _refuse_silence(address: str) -> None:
    """The library would wait for minutes where nobody listens."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()


class _Pool:
    """The actors and the shard that each was given; a shard leaves when it is done, however often actors die."""

    def __init__(self, ray: Any, work: Work) -> None:
        self._ray, self._work = ray, work
        self._actors = ray.remote(num_cpus=1, memory=WORKER_BYTES, max_restarts=0)(_Worker)
        self._todo = deque(work.shards)
        # By the answer that is awaited; no shard while the models are loaded.
        self._busy: dict[Any, tuple[Any, int | None]] = {}
        self._deaths: Counter[str] = Counter()

    @property
    def open(self) -> bool:
        return bool(self._todo or any(shard is not None for _, shard in self._busy.values()))

    def step(self, workers: int) -> None:
        """Keep the actors busy and take the answers that are there."""
        wanted = workers or max(1, int(self._ray.cluster_resources().get("CPU", 0)))
        # Nodes may come and go meanwhile.
        while len(self._busy) < min(wanted, len(self._busy) + len(self._todo)) and self._idle() < len(self._todo):
            actor = self._actors.remote(self._work.plan.job, self._work.stage)
            self._busy[actor.ready.remote()] = actor, None
        answers, _ = self._ray.wait(list(self._busy), timeout=_POLL_SECONDS)
        for answer in answers:
            actor, shard = self._busy.pop(answer)
            try:
                error = self._ray.get(answer)
            except self._ray.exceptions.RayError as exc:
                self._died(shard, exc)
                continue
            if error is not None:
                raise error
            if self._todo:
                self._give(actor, self._todo.popleft())
            else:
                self._ray.kill(actor)

    def _idle(self) -> int:
        return sum(shard is None for _, shard in self._busy.values())

    def _give(self, actor: Any, shard: int) -> None:
        crashing = frozenset(image for image, count in self._deaths.items() if count > _RESUBMITS)
        self._busy[actor.run.remote(shard, self._work.members(shard), crashing)] = actor, shard

    def _died(self, shard: int | None, exc: Exception) -> None:
        """An actor, its node, or the way to it is gone: its shard is given again, at most three times at one image."""
        image = "" if shard is None else self._image_of(shard)
        self._deaths[image] += 1
        # A last time without opening the image; who dies then died of something else.
        if self._deaths[image] > _RESUBMITS + bool(image):
            raise SetupError(
                f"The workers on the Ray cluster die before they finish an image ({type(exc).__name__}: "
                f"{str(exc).strip().splitlines()[0]}). Check 'p3mdata doctor' on the nodes, and their memory."
            )
        if shard is not None:
            self._todo.appendleft(shard)

    def _image_of(self, shard: int) -> str:
        """The image that a dead actor was at: the first one without a row; of staged rows only their node knows."""
        if not self._work.stage.publishes or self._work.plan.job.store is not None:
            return f"shard {shard}"
        rows = {row.id for row in read_results(shard_folder(self._work.plan.job.out, shard))}
        return next((sample.id for sample in self._work.members(shard) if sample.id not in rows), f"shard {shard}")

    def close(self) -> None:
        """End the actors; an image that one is at is done again by the next run."""
        for actor, _ in self._busy.values():
            self._ray.kill(actor)
