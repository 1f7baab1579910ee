"""How a time is spent: as many steps as fit for all trainings alike, and enough pictures to test on. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from p3mdata.base.files import sha256
from p3mdata.errors import SettingsError

# Share of the budget that tests may take, and the pictures of a set that are tested whatever they take.
_TESTS = 0.35
_LEAST_TESTED = 4
# Speeds are measured anew by each call.
_MARGIN = 1.25
# Of the budget, what the checks before all trainings may count for: the rest is spent whatever they took.
_BEFORE = 0.5
# Looks at the curve of a training, at most.
_LOOKS = 8
# A machine that became so much slower ends after whole seeds.
_OVER = 1.5


@dataclass(frozen=True)
class Spending:
    """Steps of every training, pictures tested of each set, and the seconds that both should take."""

    steps: int
    tested: dict[str, int]
    training_seconds: float
    test_seconds: float


def spend(
    budget: float | None,
    fixed_steps: int | None,
    trainings: int,
    training_seconds: Callable[[int], float],
    test_seconds: float,
    tests: Mapping[str, int],
    sizes: Mapping[str, int],
    most_tested: int | None,
    before: float = 0.0,
    besides: float = 0.0,
) -> Spending:
    """Decide.

    Args:
        budget: Seconds for everything; None with `fixed_steps`.
        fixed_steps: Steps of each training, when epochs were asked for.
        trainings: Their number.
        training_seconds: Seconds of all of them, by steps of each; it grows with these.
        test_seconds: Of one tested picture.
        tests: How often each set is tested.
        sizes: Pictures by set.
        most_tested: Largest number of pictures of each set.
        before: Seconds that are gone already.
        besides: Of those of the trainings, what their steps do not take. A budget that holds a step of each, but not
            all that is around them, is exceeded rather than refused.

    Raises:
        SettingsError: Not a single step of each fits; the sentence says the least budget.
    """
    wanted = {name: min(size, most_tested or size) for name, size in sizes.items()}

    def cost(tested: Mapping[str, int]) -> float:
        return test_seconds * sum(times * tested[name] for name, times in tests.items())

    if fixed_steps is not None:
        return Spending(fixed_steps, wanted, training_seconds(fixed_steps), cost(wanted))
    assert budget is not None
    left = budget - min(before, _BEFORE * budget)
    least = {name: min(number, _LEAST_TESTED) for name, number in wanted.items()}
    share = min(1.0, _TESTS * left / max(cost(wanted), 1e-9))
    tested = {name: max(least[name], math.floor(share * number)) for name, number in wanted.items()}
    if left - cost(tested) < training_seconds(1):
        tested = least
    steps = _most_steps(left - cost(tested), training_seconds)
    if steps < 1 and budget - cost(least) >= training_seconds(1) - besides:
        steps, tested = 1, least
    if steps < 1:
        needed = math.ceil(_MARGIN * (before + cost(least) + training_seconds(1)))
        raise SettingsError(
            f"--budget {budget:g}s is too short for one step of each of the {trainings} trainings and their tests. "
            f"Give at least {needed}s, or fewer --seeds, --protocols or --methods."
        )
    return Spending(steps, tested, training_seconds(steps), cost(tested))


def _most_steps(seconds: float, training_seconds: Callable[[int], float]) -> int:
    """Largest number of steps that takes no more time; 0 if none does."""
    above = 1
    while training_seconds(above) <= seconds:
        above *= 2
    steps = above // 2
    for bit in reversed(range(steps.bit_length())):
        if training_seconds(steps + (1 << bit)) <= seconds:
            steps += 1 << bit
    return steps


def between_looks(epochs: int) -> int:
    """Epochs after which the pictures that are held out are looked at, in a training of so many."""
    return math.ceil(epochs / _LOOKS)


def looks_of(epochs: int) -> int:
    """How often that is at most; more epochs are never fewer looks."""
    return min(_LOOKS, epochs)


def used_up(budget: float, planned: float, done: Sequence[float], planned_done: float) -> bool:
    """Whether more trainings would take far more time than was asked for.

    Args:
        budget: Seconds for everything.
        planned: Seconds that everything was to take.
        done: Seconds of each finished training.
        planned_done: Seconds that these were to take.
    """
    return sum(done) / max(planned_done, 1e-9) * planned > _OVER * budget


def drawn(names: Sequence[str], number: int) -> list[str]:
    """Some of the names, sorted; which ones depends on the names alone, and more contain fewer."""
    by_hash = sorted(names, key=lambda name: sha256(f"tested/{name}".encode("utf-8", "surrogateescape")))
    return sorted(by_hash[:number])
