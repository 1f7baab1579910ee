"""Shards on this machine: in this process for one worker, in a spawn pool for more."""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.synchronize import Event
from types import FrameType
from typing import Any

import cv2

from p3mdata.config import Job
from p3mdata.errors import Interrupted, RunFolderError
from p3mdata.faces.ensemble import FaceFinder
from p3mdata.plan import Plan
from p3mdata.records import Sample
from p3mdata.shards import Stage, record_crash, run_shard, shard_folder

# Working memory of one worker on large photographs; the models take most of it.
WORKER_BYTES = 700 * 1024**2
_CRASHES_ALLOWED = 3
_POLL_SECONDS = 0.2


def default_workers() -> int:
    """As many workers as cores this process may use and memory allow."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return cores
    return max(1, min(cores, free // WORKER_BYTES))


class _Models:
    """The models of one worker, loaded when the first image needs them."""

    def __init__(self) -> None:
        self._finder: FaceFinder | None = None

    def __call__(self) -> FaceFinder:
        if self._finder is None:
            # The pool supplies the parallelism; libraries must not start threads of their own beside it.
            cv2.setNumThreads(1)
            self._finder = FaceFinder()
        return self._finder

    def close(self) -> None:
        if self._finder is not None:
            self._finder.close()
            self._finder = None


# State of a worker process, set once by `_start_worker`.
_worker: dict[str, Any] = {}


def _start_worker(stop: Event, parent: int) -> None:
    # Ctrl-C reaches the whole process group; the parent alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker.update(stop=stop, parent=parent, models=_Models())
    mp.util.Finalize(None, _worker["models"].close, exitpriority=10)  # type: ignore[attr-defined]


def _stopped() -> bool:
    # A killed parent cannot say stop; its workers notice that they have another one.
    return bool(_worker["stop"].is_set()) or os.getppid() != _worker["parent"]


def _run_in_worker(job: Job, index: int, samples: Sequence[Sample], stage: Stage) -> None:
    run_shard(job, index, samples, _worker["models"], stage, _stopped)


class _StopOnSignal:
    """Turns SIGINT and SIGTERM into a question answered between images; a second signal interrupts at once."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop, self._seen = stop, False
        self._previous: dict[int, Any] = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._seen:
            raise KeyboardInterrupt
        self._seen = True
        self._stop()

    def __enter__(self) -> _StopOnSignal:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)


def members(plan: Plan, samples: Sequence[Sample], index: int) -> Sequence[Sample]:
    """Samples of one shard."""
    return samples[index * plan.shard_size : (index + 1) * plan.shard_size]


def run(
    plan: Plan,
    samples: Sequence[Sample],
    stage: Stage,
    workers: int,
    progress: Callable[[], None] = lambda: None,
) -> None:
    """Run all shards of a plan.

    Args:
        plan: The frozen plan.
        samples: All samples in plan order.
        stage: What to do.
        workers: Processes; 1 works in this process.
        progress: Called now and then, to show what the run folder says.

    Raises:
        Interrupted: Stopped by Ctrl-C or SIGTERM; the run can be resumed.
        RunFolderError: Workers keep dying, or the run folder cannot be written.
    """
    workers = min(workers or default_workers(), plan.shards)
    try:
        if workers == 1:
            _run_here(plan, samples, stage, progress)
        else:
            _run_pool(plan, samples, stage, workers, progress)
    except OSError as exc:
        raise RunFolderError(
            f"{plan.job.out}: cannot be written ({exc.strerror or exc}). Make room or change permissions, then run again."
        ) from exc


def _run_here(plan: Plan, samples: Sequence[Sample], stage: Stage, progress: Callable[[], None]) -> None:
    stopping = threading.Event()
    models = _Models()

    def stop() -> bool:
        progress()
        return stopping.is_set()

    try:
        with _StopOnSignal(stopping.set):
            for index in range(plan.shards):
                run_shard(plan.job, index, members(plan, samples, index), models, stage, stop)
    finally:
        models.close()
        progress()


def _run_pool(
    plan: Plan, samples: Sequence[Sample], stage: Stage, workers: int, progress: Callable[[], None]
) -> None:
    todo = list(range(plan.shards))
    crashes: Counter[str] = Counter()
    while todo:
        todo = _run_pool_once(plan, samples, stage, workers, progress, todo)
        if not todo:
            return
        for index in todo:
            current = shard_folder(plan.job.out, index) / "current"
            if not current.exists():
                continue
            identity = current.read_text()
            crashes[identity] += 1
            if crashes[identity] >= _CRASHES_ALLOWED:
                record_crash(plan.job, index, members(plan, samples, index))
        crashes[""] += 1
        if crashes[""] > plan.samples * _CRASHES_ALLOWED:
            raise RunFolderError(
                "The worker processes keep dying before they finish an image. Try --workers 1 and check 'p3mdata doctor'."
            )


def _run_pool_once(
    plan: Plan,
    samples: Sequence[Sample],
    stage: Stage,
    workers: int,
    progress: Callable[[], None],
    todo: Sequence[int],
) -> list[int]:
    """One pool's life. Returns the shards that are left because a worker process died."""
    context = mp.get_context("spawn")
    stop = context.Event()
    unfinished: list[int] = []
    with (
        _StopOnSignal(stop.set),
        ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(stop, os.getpid())) as pool,
    ):
        futures: dict[Future[None], int] = {}
        try:
            for index in todo:
                job = pool.submit(_run_in_worker, plan.job, index, members(plan, samples, index), stage)
                futures[job] = index
            pending = set(futures)
            while pending:
                finished, pending = wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
                progress()
                for future in finished:
                    try:
                        future.result()
                    except BrokenProcessPool:
                        unfinished.append(futures[future])
        except BrokenProcessPool:
            return [index for index in todo if not (shard_folder(plan.job.out, index) / "DONE").exists()]
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    if stop.is_set():
        raise Interrupted("stopped")
    return sorted(unfinished)
