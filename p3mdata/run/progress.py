"""How much of a run is done: in images, and in work, which large files take more of."""

from __future__ import annotations

import os
from itertools import accumulate
from pathlib import Path

from p3mdata.base.progress import weights
from p3mdata.errors import P3MError
from p3mdata.run.plan import read_plan
from p3mdata.run.rows import shard_counter

# Of more images the first tenth is like the rest, and to ask for the size of each would take seconds.
_MOST_WEIGHED = 20_000


class RunProgress:
    """Reads from a run folder how far a run is, or one task of it. Called, it gives the number of finished images."""

    def __init__(self, out: Path, task: tuple[int, int] | None = None) -> None:
        """Of a folder, which need not be there yet."""
        self._out, self._task = out, task
        self._count = shard_counter(out, task)
        self._counts: dict[int, int] = {}
        self._sums: dict[int, list[float]] | None = None

    def __call__(self) -> int:
        self._counts = self._count()
        return sum(self._counts.values())

    def work(self) -> float:
        """What the images that the last call counted amount to, in images of mean size; their number where sizes are
        not known. The plan has to be there."""
        if self._sums is None:
            self._sums = self._weighed()
        done = 0.0
        for index, number in self._counts.items():
            sums = self._sums.get(index)
            # Images of a shard are done in its order.
            done += sums[min(number, len(sums) - 1)] if sums else number
        return done

    def _weighed(self) -> dict[int, list[float]]:
        """Of each shard, what its first images amount to together, from none to all; nothing where it is not known."""
        try:
            plan, samples = read_plan(self._out)
            if plan.samples > _MOST_WEIGHED or plan.job.store is not None:
                return {}
            number, of = self._task or (1, 1)
            mine = range(number - 1, plan.shards, of)
            sizes = [
                [os.stat(plan.job.source / sample.source).st_size for sample in plan.members(samples, index)]
                for index in mine
            ]
        except (P3MError, OSError):
            return {}
        each = iter(weights([size for shard in sizes for size in shard]))
        return {
            index: list(accumulate((next(each) for _ in shard), initial=0.0))
            for index, shard in zip(mine, sizes, strict=True)
        }
