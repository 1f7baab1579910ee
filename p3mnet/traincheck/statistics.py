"""Figures of a train-check and what they allow to say: means, spread, cost with its interval, verdict. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

_RESAMPLED = 4000
# So many times the steps are worth a try where too few did not teach.
_LONGER = 10
# Times a check's budget that nobody spends to settle it.
_MOST_TIMES = 100
_INTERVAL = (0.025, 0.975)
HOW = (
    "95 % interval of the mean difference, paired: the same pictures and the same seeds on both sides; 4000 bootstrap "
    "samples of pictures (near-duplicates and series drawn together), and for the few seeds, which cannot be "
    "resampled, Student's t on the spread of their means"
)
# A network whose error is above this share of the best constant matte's has not learned to see people.
LEARNED = 0.5


class State(str, Enum):
    """Outcome of a rule."""

    PASS = "pass"
    INCONCLUSIVE = "inconclusive"
    FAIL = "fail"


@dataclass(frozen=True)
class Rule:
    """A rule of the verdict, what came of it, and why, in a sentence."""

    name: str
    state: State
    sentence: str

    def to_json(self) -> dict[str, str]:
        return {"name": self.name, "state": self.state.value, "sentence": self.sentence}


@dataclass(frozen=True)
class Spread:
    """Mean over seeds of means over pictures, and the standard deviation of the latter; None with one seed."""

    value: float
    sd: float | None
    seeds: int


@dataclass(frozen=True)
class Cost:
    """A mean difference B:N - N:N with its interval; that is absent with fewer than two seeds or pictures.

    Attributes:
        value: Mean over pictures and seeds, in units of the metric; above 0, anonymized training is worse.
        low, high: The interval.
        base: Mean of N:N.
        pictures, seeds: What it is made of.
    """

    value: float
    low: float | None
    high: float | None
    base: float
    pictures: int
    seeds: int


def short(value: float, digits: int = 3, sign: str = "") -> str:
    """A figure in as many digits as tell something, without an exponent where it is large."""
    return f"{value:{sign}.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:{sign}.{digits}g}"


def told_spread(spread: Spread | None, digits: int = 2) -> str:
    """'mean ± deviation over seeds', the latter in so many digits; '-' for none."""
    if spread is None:
        return "-"
    return short(spread.value) + ("" if spread.sd is None else f" ± {short(spread.sd, digits)}")


def told_interval(cost: Cost) -> str:
    """Both ends of a cost's interval; '-' for none."""
    if cost.low is None or cost.high is None:
        return "-"
    return f"{short(cost.low, sign='+')} to {short(cost.high, sign='+')}"


def spread_of(table: NDArray[np.float64]) -> Spread | None:
    """Of a table pictures x seeds; NaN is no value. None without any."""
    there = ~np.isnan(table)
    seeds = there.any(axis=0)
    if not seeds.any():
        return None
    means = np.nanmean(table[:, seeds], axis=0)
    sd = float(means.std(ddof=1)) if len(means) > 1 else None
    return Spread(float(means.mean()), sd, len(means))


def cost_of(
    obfuscated: NDArray[np.float64], normal: NDArray[np.float64], groups: Sequence[int], seed: int = 0
) -> Cost | None:
    """Cost of anonymization.

    Args:
        obfuscated, normal: Errors, pictures x seeds, of networks trained on obfuscated and on normal images; NaN is no
            value, and a picture or a seed that lacks one on either side is left out of both.
        groups: A number per picture; equal ones are not independent of each other.
        seed: Of the samples.

    Returns:
        None where nothing can be paired.
    """
    seeds = min(obfuscated.shape[1], normal.shape[1])
    pair = obfuscated[:, :seeds] - normal[:, :seeds]
    used = ~np.isnan(pair).all(axis=0)
    pair = pair[:, used]
    whole = ~np.isnan(pair).any(axis=1)
    if not used.any() or not whole.any():
        return None
    difference, base = pair[whole], float(normal[:, :seeds][:, used][whole].mean())
    per_picture, per_seed = difference.mean(axis=1), difference.mean(axis=0)
    value, seeds = float(difference.mean()), len(per_seed)
    labels, member = np.unique(np.asarray(groups)[whole], return_inverse=True)
    if seeds < 2 or len(labels) < 2:
        return Cost(value, None, None, base, len(difference), seeds)
    sums, sizes = np.bincount(member, per_picture), np.bincount(member)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(labels), np.full(len(labels), 1 / len(labels)), _RESAMPLED)
    pictures = (drawn @ sums) / (drawn @ sizes)
    runs = rng.standard_t(seeds - 1, _RESAMPLED) * per_seed.std(ddof=1) / seeds**0.5
    low, high = (float(edge) for edge in np.quantile(pictures + runs, _INTERVAL))
    return Cost(value, min(low, value), max(high, value), base, len(difference), seeds)


def judge_cost(
    cost: Cost | None, tolerance: float, smoke: bool, learned: bool, why_not: str, seconds: float | None = None
) -> Rule:
    """The rule about the cost: pass if the interval lies below the tolerance, fail if it lies above.

    A smoke check, and networks that have not learned, are never conclusive. `seconds` are those of the whole check: an
    inconclusive sentence says how many would do.
    """
    name = "cost"
    if cost is None:
        return Rule(name, State.INCONCLUSIVE, why_not)
    limit = tolerance * cost.base
    told = f"B:N - N:N is {short(cost.value, sign='+')} SAD"
    if cost.low is None or cost.high is None:
        few = "one seed tells" if cost.seeds < 2 else "one picture (or group of near-duplicates) tells"
        return Rule(name, State.INCONCLUSIVE, f"{told}; {few} nothing about the spread, so there is no interval")
    told += f", interval {told_interval(cost)}; allowed are {short(limit)} ({tolerance:.0%} of N:N)"
    if smoke:
        return Rule(name, State.INCONCLUSIVE, f"{told}; a smoke check does not settle it")
    if not learned:
        return Rule(name, State.INCONCLUSIVE, f"{told}; the networks have learned too little to tell")
    if cost.high <= limit:
        return Rule(name, State.PASS, told)
    if cost.low > limit:
        return Rule(name, State.FAIL, told)
    return Rule(
        name, State.INCONCLUSIVE, f"{told}: the limit lies within the interval; {_settling(cost, limit, seconds)}"
    )


def _settling(cost: Cost, limit: float, seconds: float | None) -> str:
    """What would make an interval so narrow that the limit lies beside it: it shrinks with the root of the seeds."""
    assert cost.low is not None and cost.high is not None
    # From the value to the edge that the limit has to come out of.
    reach = cost.high - cost.value if limit > cost.value else cost.value - cost.low
    distance = abs(limit - cost.value)
    more = (reach / distance) ** 2 if distance else math.inf
    if more > _MOST_TIMES:
        return "the cost is so close to the limit that no budget within reach settles it"
    seeds = math.ceil(cost.seeds * more)
    budget = "" if seconds is None else f" --budget {math.ceil(seconds * seeds / cost.seeds / 60)}m"
    return f"if the figures stay as they are, --seeds {seeds}{budget} settles it"


def longer(steps: int, training_seconds: float, other_seconds: float, by_epochs: bool) -> str:
    """What training longer would take, at the speed that was measured.

    Args:
        steps: Of each training.
        training_seconds, other_seconds: Of all trainings, and of what is done before and after them.
        by_epochs: Whether epochs were asked for, not a budget.
    """
    minutes = math.ceil((_LONGER * training_seconds + other_seconds) / 60)
    how = f"{_LONGER} times the --epochs" if by_epochs else f"--budget {minutes}m"
    return f": {steps:,} steps were trained; at the speed measured here {how}, about {minutes} minutes, gives " + (
        f"{_LONGER * steps:,}"
    )


def judge_learning(errors: Sequence[tuple[str, float, float]], more: str = "") -> Rule:
    """Whether every kind of network beats the best constant matte by far.

    Args:
        errors: What was trained and tested, its mean SAD, and the mean SAD of each picture's better one of nothing and
            everything.
        more: What training longer takes, see `longer`.
    """
    what, error, constant = max(errors, key=lambda one: one[1] / max(one[2], 1e-9))
    share = error / max(constant, 1e-9)
    told = f"the worst mean SAD, {short(error)} of {what}, is {share:.0%} of that of a constant matte"
    if share <= LEARNED:
        return Rule("learning", State.PASS, told)
    return Rule("learning", State.INCONCLUSIVE, f"{told}, more than {LEARNED:.0%}: train longer{more}")


def overall(rules: Sequence[Rule]) -> State:
    """Fail if any rule fails, else inconclusive if any is, or if there are none, else pass."""
    states = {rule.state for rule in rules}
    if State.FAIL in states:
        return State.FAIL
    return State.PASS if states == {State.PASS} else State.INCONCLUSIVE
