"""Shards on this machine: in this process for one worker, else in processes that are replaced when they die."""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing as mp
import signal
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext
from multiprocessing.resource_tracker import ensure_running
from pathlib import Path

from p3mdata.base.files import locked
from p3mdata.base.processes import _STOP_SIGNALS, StopOnSignal, default_workers
from p3mdata.config import Job
from p3mdata.errors import Interrupted, P3MError, SetupError
from p3mdata.faces.models import Models
from p3mdata.records import Sample
from p3mdata.run.executors import Work
from p3mdata.run.layout import WORKERS_LOCK
from p3mdata.run.stages import Stage
from p3mdata.run.upload import bring_shard

_CRASHES_ALLOWED = 3
_POLL_SECONDS = 0.2


def run(work: Work, workers: int) -> None:
    """Run shards of a plan.

    Args:
        work: The shards and what to do with them.
        workers: Processes; 0 chooses, 1 works in this process, which a picture that crashes a library takes with it.

    Raises:
        Interrupted: Stopped by Ctrl-C or SIGTERM; the run can be resumed.
        SetupError: Workers die before they begin an image.
        OSError: The run folder cannot be written.
    """
    with StopOnSignal() as stop:
        if workers == 1:
            _run_here(work, stop)
        else:
            _run_pool(work, min(workers or default_workers(), len(work.shards)), stop)
    work.progress()


def _run_here(work: Work, stop: StopOnSignal) -> None:
    def go_on(sample: Sample) -> bool:
        work.progress()
        return not stop.seen

    models = Models()
    try:
        for index in work.shards:
            bring_shard(work.plan.job, index, work.members(index), models, work.stage, go_on)
    finally:
        models.close()


def wait_for_orphans(out: Path) -> None:
    """Wait until no worker writes to a run any more: those of a parent that was killed finish their image first."""
    with locked(out / WORKERS_LOCK, fcntl.LOCK_EX):
        pass


def attempt(
    job: Job,
    index: int,
    samples: Sequence[Sample],
    models: Models,
    stage: Stage,
    go_on: Callable[[Sample], bool],
    crashing: frozenset[str],
) -> Exception | None:
    """`bring_shard` in a worker; what it raised is given back, in a form that crosses processes."""
    try:
        bring_shard(job, index, samples, models, stage, go_on, crashing)
    except (P3MError, OSError) as exc:
        return exc
    except Exception:
        return RuntimeError(traceback.format_exc())
    return None


def _serve(link: Connection, job: Job, stage: Stage) -> None:
    """A worker's life: run the shards that come over the link, until it is closed or the parent has died."""
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    models = Models()

    def go_on(sample: Sample) -> bool:
        # Loaded before the image is named, so that models that do not fit are not blamed on it.
        if stage.looks:
            models()
        try:
            link.send(sample.id)
        except ConnectionError:
            return False
        return True

    with (
        locked(job.out / WORKERS_LOCK, fcntl.LOCK_SH),
        contextlib.closing(models),
        contextlib.suppress(EOFError, ConnectionError),
    ):
        while True:
            task = link.recv()
            # The parent may have been killed after it sent this.
            if link.poll():
                return
            index, samples, crashing = task
            link.send(attempt(job, index, samples, models, stage, go_on, crashing))


class _Worker:
    """A worker process as its parent sees it: the shard it was given and the image it is on."""

    def __init__(self, context: SpawnContext, job: Job, stage: Stage) -> None:
        self.shard = -1
        self.image = ""
        self.link, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, job, stage), daemon=True)
        with _signals_held():
            self.process.start()
        theirs.close()

    def give(self, shard: int, samples: Sequence[Sample], crashing: frozenset[str]) -> None:
        self.shard, self.image = shard, ""
        # A worker that is dead already is noticed when it is read from.
        with contextlib.suppress(ConnectionError):
            self.link.send((shard, samples, crashing))


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Signals reach the whole process group, but the parent alone decides: a process started here inherits this."""
    ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run_pool(work: Work, size: int, stop: StopOnSignal) -> None:
    context = mp.get_context("spawn")
    todo = deque(work.shards)
    crashes: Counter[str] = Counter()
    workers: list[_Worker] = []
    try:
        while (todo or workers) and not stop.seen:
            while todo and len(workers) < size:
                workers.append(_Worker(context, work.plan.job, work.stage))
                _give_next(workers[-1], todo, work, crashes)
            ready = wait([worker.link for worker in workers], timeout=_POLL_SECONDS)
            work.progress()
            for worker in [worker for worker in workers if worker.link in ready]:
                try:
                    message = worker.link.recv()
                except (EOFError, ConnectionError):
                    _count_crash(worker, crashes)
                    workers.remove(worker)
                    todo.appendleft(worker.shard)
                    continue
                if isinstance(message, str):
                    worker.image = message
                elif message is not None:
                    raise message
                elif todo:
                    _give_next(worker, todo, work, crashes)
                else:
                    workers.remove(worker)
                    _dismiss([worker])
    finally:
        _dismiss(workers)
    if stop.seen:
        raise Interrupted("stopped")


def _give_next(worker: _Worker, todo: deque[int], work: Work, crashes: Counter[str]) -> None:
    shard = todo.popleft()
    crashing = frozenset(image for image, count in crashes.items() if count >= _CRASHES_ALLOWED)
    worker.give(shard, work.members(shard), crashing)


def _count_crash(worker: _Worker, crashes: Counter[str]) -> None:
    worker.link.close()
    worker.process.join()
    crashes[worker.image] += 1
    if crashes[""] >= _CRASHES_ALLOWED:
        raise SetupError(
            "The worker processes die before they begin an image. Check 'p3mdata doctor', try fewer --workers; "
            "in a script of your own, make the call below `if __name__ == '__main__':`."
        )


def _dismiss(workers: Sequence[_Worker]) -> None:
    """Let workers finish their image and end; a signal meanwhile ends them at once."""
    for worker in workers:
        worker.link.close()
    try:
        for worker in workers:
            worker.process.join()
    except KeyboardInterrupt:
        for worker in workers:
            worker.process.kill()
            worker.process.join()
        raise
