"""How long work will take, told early and rightly. Time is counted here, not measured."""

from __future__ import annotations

import heapq

import numpy as np
import pytest

from p3mdata.base.progress import Pace


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
    assert (pace.rate, pace.left(105)) == (1.0, 100.0)
    pace.seen(5, 106.0)
    assert pace.rate == pytest.approx(5 / 6)
    pace.seen(25, 115.0)
    assert pace.rate == 2.0 and pace.left(25) == 0.0
