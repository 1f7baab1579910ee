"""Which batch memory holds: estimated on one sample and then bisected, with copies of that sample."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from p3mdata.errors import P3MError
from p3mnet.data import TrainingSet, seeded
from p3mnet.image_files import BadFile
from p3mnet.loader import Batch, collate, to_device
from p3mnet.memory import MEMORY_ERRORS, out_of_memory
from p3mnet.model import MattingNetwork
from p3mnet.training.config import TrainConfig

# Of a GPU's memory, what other users and scattered pieces of it take.
_SPARE = 0.05
# Pictures that are tried for one that can be read, to see what a crop takes; how much larger than the batch the
# estimate must be to be believed without a try.
_PROBED, _SURE = 8, 1.3


class BatchTooLarge(P3MError):
    """Memory does not hold a batch."""


class Fitting:
    """Tries on what a step takes of memory.

    Args:
        config: The run's settings.
        device: What it computes on.
        model, optimizer: As they train.
        loss: Of a batch of this process alone; nothing else may be computed with it.
    """

    def __init__(
        self,
        config: TrainConfig,
        device: torch.device,
        model: MattingNetwork,
        optimizer: torch.optim.Optimizer,
        loss: Callable[[Batch], Tensor],
    ) -> None:
        self.config, self.device, self.model, self.optimizer, self.loss = config, device, model, optimizer, loss

    def probe(self, pictures: TrainingSet) -> None:
        """Say at once, before a batch is loaded, that memory does not hold one, seen from copies of one crop.

        Raises:
            BatchTooLarge: It does not.
        """
        for number in range(min(len(pictures), _PROBED)):
            try:
                sample = {**pictures.sample(number, seeded(self.config.seed, number)), "bad": []}
                break
            except BadFile:
                # Told when its turn comes.
                continue
        else:
            return
        crop = collate([sample])
        assert isinstance(crop, dict)
        self.model.eval()
        if (guess := estimated(self.device, lambda size: self._fits(crop, size))) is not None:
            wanted = self.config.batch
            if guess < _SURE * wanted and not self._fits(crop, wanted):
                raise self.too_large(crop, guess)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)

    def too_large(self, batch: Batch, estimate: int | None = None) -> BatchTooLarge:
        """What to say when memory does not suffice: the largest half, quarter, ... of the batch that it holds."""
        # Batch statistics would have to be shared with processes that do not take part.
        self.model.eval()
        whole = self.config.batch
        size = largest_that_fits(whole, lambda size: self._fits(batch, size), estimate)
        if size is None:
            return BatchTooLarge(
                "Memory does not hold a single crop: make data.size smaller, or take a smaller network."
            )
        steps = math.ceil(whole / size) * self.config.accumulation
        return BatchTooLarge(
            f"Memory does not hold a batch of {whole}, but one of {size}: set batch to {size} and accumulation to "
            f"{steps} for steps of the same size."
        )

    def _fits(self, batch: Batch, size: int) -> bool:
        """Whether a step on so many copies of a batch's first crop is possible, with what the optimiser will keep."""
        self.optimizer.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            kept = [] if self.optimizer.state else [torch.empty_like(p) for p in self.model.parameters() for _ in "mv"]
            copies = {
                kind: value[:1].expand(size, *value.shape[1:]) if isinstance(value, Tensor) else value[:1] * size
                for kind, value in batch.items()
                if kind != "moved"
            }
            copies["moved"] = to_device(copies, self.device)
            self.loss(copies).backward()  # type: ignore[no-untyped-call]
            del kept, copies
        except MEMORY_ERRORS as error:
            if not out_of_memory(error):
                raise
            return False
        return True


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
