"""Where shards run. Executors call `staging.bring_shard` and nothing else; progress is read from the run folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from p3mdata.records import Sample
from p3mdata.run.plan import Plan
from p3mdata.run.stages import Stage


@dataclass(frozen=True)
class Work:
    """What an executor is given.

    Attributes:
        plan: The frozen plan.
        samples: All samples in plan order.
        stage: What to do.
        shards: Which of the plan's shards.
        progress: Called now and then, to show what the run folder says.
    """

    plan: Plan
    samples: Sequence[Sample]
    stage: Stage
    shards: Sequence[int]
    progress: Callable[[], None] = lambda: None

    def members(self, shard: int) -> Sequence[Sample]:
        """Samples of one shard."""
        return self.plan.members(self.samples, shard)
