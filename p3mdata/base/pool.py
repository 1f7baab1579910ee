"""Work in processes of this machine: bounded feed, crashes blamed on what was at hand, Ctrl-C answered by the parent.

Each worker has one task at a time. It marks what it is about to touch; when it dies, its task is given again, and what
it was at three times is named to the next worker, which leaves it untouched. The parent alone hears SIGINT and SIGTERM:
workers end at their next mark, also when the parent has died.
"""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import signal
import traceback
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext
from typing import Any, Generic, TypeAlias, TypeVar

from p3mdata.base.streams import STOP_SIGNALS
from p3mdata.base.system import signals_held, start_tracker
from p3mdata.errors import P3MError, SetupError

CRASHES_ALLOWED = 3
# What a picture that a worker cannot survive is told to be.
CRASHED = "crashed_worker"
CRASH_SENTENCE = "makes the worker process die (out of memory, or a damaged file). Check or remove it."
_POLL_SECONDS = 0.2
# Tasks per worker that may be finished before the one whose turn it is.
_AHEAD = 16

T = TypeVar("T")
R = TypeVar("R")
# Told the name of what is begun next; False asks to end, unfinished.
Mark: TypeAlias = Callable[[str], bool]
# Does a task; gets the names that workers died at again and again.
Handler: TypeAlias = Callable[[T, frozenset[str]], R]
# A worker's life: loads what it needs, gives its handler, frees it. Sent to the process, so of module level.
Working: TypeAlias = Callable[[Mark], AbstractContextManager[Handler[T, R]]]


@dataclass(frozen=True)
class _Begun:
    name: str


@dataclass(frozen=True)
class _Done:
    result: Any


def caught(work: Callable[[], R]) -> R | Exception:
    """A result, or what was raised in a form that crosses processes with its class or its trace."""
    try:
        return work()
    except (P3MError, OSError) as exc:
        return exc
    except Exception:
        return RuntimeError(traceback.format_exc())


def work_in_pool(
    working: Working[T, R],
    tasks: Iterable[T],
    size: int,
    *,
    stopped: Callable[[], bool] = lambda: False,
    poll: Callable[[], None] = lambda: None,
    ordered: bool = True,
) -> Generator[R, None, None]:
    """Results of tasks that worker processes do.

    Args:
        working: What a worker does; may be a `functools.partial`, and all it holds is sent to each process.
        tasks: Taken when there is a worker for them, never many ahead.
        size: Most workers; one is started when there is a task for it.
        stopped: Asked several times a second; True ends the results early.
        poll: Called several times a second, to show progress.
        ordered: Results in the order of the tasks, else as they come.

    Raises:
        SetupError: Workers die before they begin anything.
        P3MError, OSError: What a worker raised.
        RuntimeError: Another exception of a worker, with its trace.
    """
    pool = _Pool(working, tasks, size, ordered)
    try:
        while pool.open and not stopped():
            pool.step(poll)
            yield from pool.ready()
    finally:
        pool.close()


class _Worker(Generic[T]):
    """A process as its parent sees it: the task that it was given and what it is at."""

    def __init__(self, context: SpawnContext, working: Working[T, Any]) -> None:
        self.number, self.at = -1, ""
        self.link, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, working), daemon=True)
        self.process.start()
        theirs.close()

    def give(self, number: int, task: T, crashing: frozenset[str]) -> None:
        self.number, self.at = number, ""
        # A worker that is dead already is noticed when it is read from.
        with contextlib.suppress(ConnectionError):
            self.link.send((task, crashing))


class _Pool(Generic[T, R]):
    def __init__(self, working: Working[T, R], tasks: Iterable[T], size: int, ordered: bool) -> None:
        self._context, self._working, self._ordered = mp.get_context("spawn"), working, ordered
        # Whoever divides no tasks by cores comes to none: the tasks say whether there is work.
        self._size = max(1, size)
        self._left = enumerate(tasks)
        # Those to be given again, and those that a worker has.
        self._again: deque[tuple[int, T]] = deque()
        self._given: dict[int, T] = {}
        self._results: dict[int, R] = {}
        self._shown, self._more = 0, True
        self._crashes: Counter[str] = Counter()
        self._workers: list[_Worker[T]] = []

    @property
    def open(self) -> bool:
        return bool(self._more or self._given or self._again or self._results)

    def _next(self) -> tuple[int, T] | None:
        """The next task; None when there is none, or when it would be too far ahead of the results."""
        if self._again:
            return self._again.popleft()
        if not self._more or (self._ordered and len(self._results) >= _AHEAD * self._size):
            return None
        found = next(self._left, None)
        self._more = found is not None
        return found

    def _feed(self, worker: _Worker[T], numbered: tuple[int, T]) -> None:
        number, task = numbered
        self._given[number] = task
        crashing = frozenset(name for name, count in self._crashes.items() if count >= CRASHES_ALLOWED)
        worker.give(number, task, crashing)

    def step(self, poll: Callable[[], None]) -> None:
        """Give tasks out and take what came back."""
        idle = [worker for worker in self._workers if worker.number < 0]
        while (idle or len(self._workers) < self._size) and (numbered := self._next()):
            if idle:
                worker = idle.pop()
            else:
                start_tracker()
                # A worker that Ctrl-C kept off the list would be told by nobody to end. And signals reach the whole
                # process group, but the parent alone decides: the process inherits this.
                with signals_held(*STOP_SIGNALS):
                    worker = _Worker(self._context, self._working)
                    self._workers.append(worker)
            self._feed(worker, numbered)
        if not self._more and not self._again:
            for worker in idle:
                self._workers.remove(worker)
                _dismiss([worker])
        links = [worker.link for worker in self._workers if worker.number >= 0]
        answers = wait(links, timeout=_POLL_SECONDS) if links else []
        poll()
        for worker in [worker for worker in self._workers if worker.link in answers]:
            self._hear(worker)

    def _hear(self, worker: _Worker[T]) -> None:
        try:
            message = worker.link.recv()
        except (EOFError, ConnectionError):
            self._bury(worker)
            return
        if isinstance(message, _Begun):
            worker.at = message.name
            return
        if isinstance(message, Exception):
            raise message
        self._results[worker.number] = message.result
        del self._given[worker.number]
        worker.number = -1
        # At once: who takes the results may be slow.
        if numbered := self._next():
            self._feed(worker, numbered)

    def _bury(self, worker: _Worker[T]) -> None:
        worker.link.close()
        worker.process.join()
        self._workers.remove(worker)
        self._crashes[worker.at] += 1
        # Who dies again at what it was told to leave alone died of something else.
        if self._crashes[worker.at] >= (2 * CRASHES_ALLOWED if worker.at else CRASHES_ALLOWED):
            raise SetupError(
                "The worker processes die before they begin an image. Check 'p3mdata doctor', try fewer --workers; "
                "in a script of your own, make the call below `if __name__ == '__main__':`."
            )
        self._again.appendleft((worker.number, self._given.pop(worker.number)))

    def ready(self) -> Iterator[R]:
        """Results whose turn it is."""
        if self._ordered:
            while self._shown in self._results:
                self._shown += 1
                yield self._results.pop(self._shown - 1)
            return
        for number in list(self._results):
            yield self._results.pop(number)

    def close(self) -> None:
        _dismiss(self._workers)


def _dismiss(workers: Sequence[_Worker[Any]]) -> None:
    """Let workers finish what they are at and end; a signal meanwhile ends them at once."""
    for worker in workers:
        worker.link.close()
    try:
        for worker in workers:
            # A signal that another thread got ends no wait without an end.
            while worker.process.is_alive():
                worker.process.join(_POLL_SECONDS)
    except KeyboardInterrupt:
        for worker in workers:
            worker.process.kill()
            worker.process.join()
        raise


def _serve(link: Connection, working: Working[Any, Any]) -> None:
    """A worker's life: do the tasks that come over the link, until it is closed or the parent has died."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)

    def mark(name: str) -> bool:
        try:
            link.send(_Begun(name))
        except ConnectionError:
            return False
        return True

    def live() -> None:
        with working(mark) as handle:
            while (given := _received(link)) is not None:
                link.send(caught(partial(_do, handle, *given)))

    # Nobody hears it when the parent is gone.
    with contextlib.suppress(ConnectionError):
        if (failed := caught(live)) is not None:
            link.send(failed)


def _do(handle: Handler[Any, Any], task: Any, crashing: frozenset[str]) -> _Done:
    return _Done(handle(task, crashing))


def _received(link: Connection) -> tuple[Any, frozenset[str]] | None:
    """A task; None when there will be none, also when the parent was killed after it sent one."""
    with contextlib.suppress(EOFError, ConnectionError):
        given: tuple[Any, frozenset[str]] = link.recv()
        return None if link.poll() else given
    return None
