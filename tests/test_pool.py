"""One pool for all work in processes: order, bounds, crashes, faults, ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from p3mdata.base.pool import Handler, Mark, work_in_pool
from p3mdata.errors import Interrupted, SettingsError, SetupError


@contextmanager
def squaring(folder: Path, mark: Mark) -> Iterator[Handler[int, str]]:
    """Squares; dies at 3, fails at 7 with a sentence, at 8 with a fault; leaves a file when it ends in order."""

    def handle(task: int, crashing: frozenset[str]) -> str:
        if str(task) in crashing:
            return f"{task} left alone"
        if not mark(str(task)):
            raise Interrupted("stopped")
        (folder / f"begun-{task}-{os.getpid()}").touch()
        if task == 3:
            os._exit(9)
        if task == 7:
            raise SettingsError("seven")
        if task == 8:
            raise ZeroDivisionError
        return str(task * task)

    yield handle
    (folder / f"ended-{os.getpid()}").touch()


@contextmanager
def dying(mark: Mark) -> Iterator[Handler[int, str]]:
    os._exit(9)
    yield lambda task, crashing: ""


@contextmanager
def without_models(mark: Mark) -> Iterator[Handler[int, str]]:
    raise SetupError("no models")
    yield lambda task, crashing: ""


def test_order_crashes_and_ends(tmp_path: Path) -> None:
    taken: list[int] = []

    def tasks() -> Iterator[int]:
        for task in range(7):
            taken.append(task)
            yield task

    polled: list[None] = []
    results = work_in_pool(partial(squaring, tmp_path), tasks(), 2, poll=lambda: polled.append(None))
    assert next(results) == "0"
    # Not all is taken at once: lists of millions would not fit.
    assert len(taken) < 7
    assert list(results) == ["1", "4", "3 left alone", "16", "25", "36"]
    assert polled
    begun = [path.name.split("-") for path in tmp_path.glob("begun-*")]
    # Three workers died at one task; everything else was done once.
    assert sorted(task for _, task, _ in begun) == sorted("012333456")
    survivors = {path.name.split("-")[1] for path in tmp_path.glob("ended-*")}
    assert survivors and not survivors & {process for _, task, process in begun if task == "3"}


@pytest.mark.parametrize(("task", "kind", "said"), [(7, SettingsError, "^seven$"), (8, RuntimeError, "ZeroDivision")])
def test_what_a_worker_raises_ends_the_work(tmp_path: Path, task: int, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        list(work_in_pool(partial(squaring, tmp_path), [task], 1))
    assert len(list(tmp_path.glob("ended-*"))) == 1


def test_workers_that_cannot_begin() -> None:
    with pytest.raises(SetupError, match="die before they begin"):
        list(work_in_pool(dying, range(4), 1))
    with pytest.raises(SetupError, match="no models"):
        list(work_in_pool(without_models, range(4), 1))


def test_a_stop_between_tasks(tmp_path: Path) -> None:
    seen: list[str] = []
    for result in work_in_pool(partial(squaring, tmp_path), iter([1, 2, 4, 5]), 1, stopped=lambda: len(seen) == 2):
        seen.append(result)
    assert seen == ["1", "4"]
    # The worker was let go in order.
    assert len(list(tmp_path.glob("ended-*"))) == 1


def test_no_task_is_no_work(tmp_path: Path) -> None:
    """As many processes as there are tasks may be none."""
    assert list(work_in_pool(partial(squaring, tmp_path), [], 0)) == []
    assert list(work_in_pool(partial(squaring, tmp_path), [2], 0)) == ["4"]
