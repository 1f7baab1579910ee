"""Which batch memory holds: estimated on one sample and then bisected, with copies of that sample."""

from __future__ import annotations

from collections.abc import Callable

import torch

# Of a GPU's memory, what other users and scattered pieces of it take.
_SPARE = 0.05


def halves(batch: int) -> list[int]:
    """Half, quarter, ... of a batch, largest first, down to one crop."""
    sizes = []
    while batch > 1:
        batch //= 2
        sizes.append(batch)
    return sizes


def largest_that_fits(batch: int, fits: Callable[[int], bool], estimate: int | None = None) -> int | None:
    """The largest half, quarter, ... of a batch that fits; None if not even one crop does.

    Args:
        batch: One that does not fit.
        fits: Whether a batch of so many crops does; larger ones take more.
        estimate: About as many may fit: where to look first.
    """
    sizes = halves(batch)
    fitting, low = None, 0
    high = len(sizes) - 1
    guess = next((place for place, size in enumerate(sizes) if estimate is not None and size <= estimate), None)
    while low <= high:
        place = (low + high) // 2 if guess is None else guess
        guess = None
        if fits(sizes[place]):
            fitting, high = sizes[place], place - 1
        else:
            low = place + 1
    return fitting


def estimated(device: torch.device, fits: Callable[[int], bool]) -> int | None:
    """About as many crops as a GPU's memory holds, from the memory that one and two of them take.

    None where that cannot be measured: on a CPU, or where two crops do not fit.
    """
    if device.type != "cuda":
        return None
    peaks = []
    for crops in (1, 2):
        torch.cuda.reset_peak_memory_stats(device)
        if not fits(crops):
            return None
        peaks.append(torch.cuda.max_memory_allocated(device))
    each = peaks[1] - peaks[0]
    if each <= 0:
        return None
    free, _ = torch.cuda.mem_get_info(device)
    have = (1 - _SPARE) * (free + torch.cuda.memory_reserved(device))
    return max(1, int((have - (peaks[0] - each)) / each))
