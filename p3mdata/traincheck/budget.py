"""How a time is spent: as many steps as fit for all trainings alike, and enough pictures to test on. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from p3mdata.errors import SettingsError
from p3mdata.files import sha256

# Share of the budget that tests may take, and the pictures of a set that are tested whatever they take.
_TESTS = 0.35
_LEAST_TESTED = 4
# Speeds are measured anew by each call.
_MARGIN = 1.25


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
    domains: Sequence[str],
    seeds: int,
    step_seconds: Mapping[str, float],
    test_seconds: float,
    pairs: Sequence[tuple[str, str]],
    sizes: Mapping[str, int],
    most_tested: int | None,
) -> Spending:
    """Decide.

    Args:
        budget: Seconds for everything; None with `fixed_steps`.
        fixed_steps: Steps of each training, when epochs were asked for.
        domains, seeds: Each domain is trained once per seed.
        step_seconds: Of one step, by domain.
        test_seconds: Of one tested picture.
        pairs: Domain and set of each test; all of them for each seed.
        sizes: Pictures by set.
        most_tested: Largest number of pictures of each set.

    Raises:
        SettingsError: Not a single step fits; the sentence says the least budget.
    """
    of_a_step = seeds * sum(step_seconds[domain] for domain in domains)
    wanted = {name: min(size, most_tested or size) for name, size in sizes.items()}

    def cost(tested: Mapping[str, int]) -> float:
        return seeds * test_seconds * sum(tested[name] for _, name in pairs)

    if fixed_steps is not None:
        return Spending(fixed_steps, wanted, fixed_steps * of_a_step, cost(wanted))
    assert budget is not None
    least = {name: min(number, _LEAST_TESTED) for name, number in wanted.items()}
    share = min(1.0, _TESTS * budget / max(cost(wanted), 1e-9))
    tested = {name: max(least[name], math.floor(share * number)) for name, number in wanted.items()}
    if budget - cost(tested) < of_a_step:
        tested = least
    steps = math.floor((budget - cost(tested)) / of_a_step)
    if steps < 1:
        needed = math.ceil(_MARGIN * (cost(least) + of_a_step))
        raise SettingsError(
            f"--budget {budget:g}s is too short for one step of each of the {len(domains) * seeds} trainings and their "
            f"tests. Give at least {needed}s, or fewer --seeds, --protocols or --methods."
        )
    return Spending(steps, tested, steps * of_a_step, cost(tested))


def drawn(names: Sequence[str], number: int) -> list[str]:
    """Some of the names, sorted; which ones depends on the names alone, and more contain fewer."""
    by_hash = sorted(names, key=lambda name: sha256(f"tested/{name}".encode("utf-8", "surrogateescape")))
    return sorted(by_hash[:number])
