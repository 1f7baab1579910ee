"""How long work will take, told early and rightly. Time is counted here, not measured."""

from __future__ import annotations

import heapq
import random
from pathlib import Path

import numpy as np
import pytest

from p3mdata.base.progress import Pace, weights
from p3mdata.config import Job
from p3mdata.run.layout import RESULTS, shard_folder
from p3mdata.run.plan import make_plan, read_plan
from p3mdata.run.progress import RunProgress


def finished(images: int, workers: int, start: float, seed: int) -> list[float]:
    """When each image of a run is done: workers load their models, then take half to one and a half times as long."""
    rng = np.random.default_rng(seed)
    busy = [start + 0.3 * number for number in range(workers)]
    heapq.heapify(busy)
    done = []
    for took in rng.uniform(0.5, 1.5, images) * workers:
        end = heapq.heappop(busy) + took
        heapq.heappush(busy, end)
        done.append(end)
    return sorted(done)


@pytest.mark.parametrize("start", [0.0, 40.0])
@pytest.mark.parametrize("before", [0, 700])
@pytest.mark.parametrize("poll", [0.2, 5.0])
@pytest.mark.parametrize("workers", [1, 8])
def test_time_left_is_right_within_a_fifth_after_a_tenth(workers: int, poll: float, before: int, start: float) -> None:
    for seed in range(5):
        images = 400
        times = finished(images, workers, start, seed)
        pace, now, told = Pace(before, 0.0), 0.0, []
        assert pace.left(before + images) is None
        while now < times[-1]:
            now += poll
            done = int(np.searchsorted(times, now, side="right"))
            pace.seen(before + done, now)
            if done >= images / 10 and times[-1] - now > 5 * poll:
                told.append((pace.left(before + images), times[-1] - now))
        assert told
        assert all(left is not None and abs(left - true) <= 0.2 * true + workers + poll for left, true in told)
        left, true = told[0]
        assert left is not None and abs(left - true) <= 0.2 * true


def test_the_first_look_may_find_several_done() -> None:
    pace = Pace(0, 100.0)
    pace.seen(5, 105.0)
    # Models were loaded in this time.
    assert (pace.rate, pace.left(105)) == (1.0, None)
    pace.seen(5, 106.0)
    assert pace.rate == pytest.approx(5 / 6)
    pace.seen(25, 115.0)
    assert pace.rate == 2.0 and pace.left(25) == 0.0


def test_what_is_made_again_has_a_pace() -> None:
    pace = Pace(100, 0.0)
    for done, now in ((90, 3.0), (91, 4.0), (95, 6.0)):
        pace.seen(done, now)
    assert pace.rate == 2.0 and pace.left(100) == 2.5
    # Of the next shard.
    pace.seen(80, 7.0)
    assert pace.rate == 0.0 and pace.left(100) is None


# Milliseconds and kilobytes of photographs at 1080p, one worker, as they were recorded.
RECORDED = [
    *((48, 260), (44, 359), (107, 317), (64, 324), (180, 644), (53, 289), (85, 312), (89, 503), (53, 452), (85, 336)),
    *((47, 245), (51, 324), (74, 406), (53, 307), (63, 516), (48, 316), (60, 336), (71, 360), (83, 365), (58, 314)),
    *((53, 167), (49, 140), (53, 162)),
]


def told_of_true(recorded: list[tuple[int, int]], weighed: bool) -> list[float]:
    """Time left after a tenth as it is told, of the true one, for many orders of the same images."""
    found = []
    for seed in range(300):
        order = recorded[:]
        random.Random(seed).shuffle(order)
        work = weights([size for _, size in order]) if weighed else [1.0] * len(order)
        pace, now, done = Pace(0, 0.0), 2.0, 0.0
        for number, ((took, _), part) in enumerate(zip(order, work, strict=True), 1):
            now, done = now + took / 1000, done + part
            pace.seen(done, now)
            if number >= len(order) / 10:
                break
        left = pace.left(len(order))
        assert left is not None
        found.append(left / (sum(took for took, _ in order[number:]) / 1000))
    return found


def wrong(told: list[float]) -> float:
    """Share of orders in which it is more than a fifth off."""
    return sum(abs(one - 1) > 0.2 for one in told) / len(told)


def test_recorded_images_are_told_better_by_their_sizes() -> None:
    by_number, by_size = (told_of_true(RECORDED * 5, weighed) for weighed in (False, True))
    assert wrong(by_size) < 0.06 and wrong(by_size) < 0.6 * wrong(by_number)


def test_thumbnails_among_photographs_are_told_by_their_sizes() -> None:
    mixed = [
        (took, size) if number % 4 else (took // 8, size // 30) for number, (took, size) in enumerate(RECORDED * 20)
    ]
    by_number, by_size = (told_of_true(mixed, weighed) for weighed in (False, True))
    assert wrong(by_size) <= wrong(by_number) / 2 and wrong(by_size) < 0.02


def test_weights_are_one_in_the_mean_and_grow_with_the_file() -> None:
    found = weights([100, 300, 0, 400])
    assert sum(found) == pytest.approx(4) and found[3] > found[1] > found[0] > found[2] > 0.3
    assert weights([0, 0]) == [1.0, 1.0] and weights([]) == []


def planned(folder: Path, sizes: list[int]) -> Path:
    """A run that is planned over files of some sizes, none of which is looked at."""
    source = folder / "src"
    source.mkdir()
    for number, size in enumerate(sizes):
        (source / f"{number}.jpg").write_bytes(bytes([number]) * size)
    make_plan(Job(source=source, out=folder / "run"))
    return folder / "run"


def test_a_run_tells_its_work_by_the_files_of_its_shards(tmp_path: Path) -> None:
    run = planned(tmp_path, [100, 3000, 200, 50, 4000, 10, 700])
    plan, samples = read_plan(run)
    parts = weights([(plan.job.source / sample.source).stat().st_size for sample in samples])
    far = RunProgress(run)
    assert (far(), far.work()) == (0, 0.0)
    done = 0.0
    for index in range(plan.shards):
        folder = shard_folder(run, index)
        folder.mkdir(parents=True)
        start = index * plan.shard_size
        number = len(plan.members(samples, index)) - (index == 0)
        (folder / RESULTS).write_bytes(b"{}\n" * number)
        done += sum(parts[start : start + number])
    assert far() == 6 and far.work() == pytest.approx(done) and done != pytest.approx(6, abs=0.05)
    (tmp_path / "src/3.jpg").unlink()
    without = RunProgress(run)
    assert (without(), without.work()) == (6, 6)
