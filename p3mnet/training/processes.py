"""One training process, or several that torchrun started: who is who, sums over all, shared batch statistics."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from p3mdata.errors import SettingsError
from p3mnet.devices import pick_device


@dataclass(frozen=True)
class Processes:
    """The processes that train together.

    Attributes:
        rank: Number of this one.
        world: How many there are.
        device: What this one computes on.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files and speaks."""
        return self.rank == 0

    def total(self, values: Tensor) -> Tensor:
        """Sum over all processes, the same in each."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def gather(self, value: Any) -> list[Any]:
        """What each process gave, by rank."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Go on when all are here."""
        if self.world > 1:
            dist.barrier()

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model, with gradients averaged over all processes."""
        return model if self.world == 1 else DistributedDataParallel(model, forward_sync_buffers=False)

    def share_batch_norms(self, model: nn.Module) -> nn.Module:
        """Batch norm over the batches of all processes, so that n of them with b crops train like one with n * b."""
        if self.world == 1:
            return model
        if self.device.type == "cuda":
            converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
            return converted
        for parent in model.modules():
            for child in parent.children():
                if type(child) is nn.BatchNorm2d:
                    child.__class__ = SharedBatchNorm
        return model


class _Total(torch.autograd.Function):
    """Sum over all processes; what it changes in the loss of each comes back to all."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _Total.forward(ctx, gradients[0])


def _total(values: Tensor) -> Tensor:
    total: Tensor = _Total.apply(values)  # type: ignore[no-untyped-call]
    return total


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm over the equally large batches of all processes, also without a GPU."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the same shape."""
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None and self.running_var is not None
        count = x.numel() // x.shape[1] * dist.get_world_size()
        mean = _total(x.sum((0, 2, 3))) / count
        centred = x - mean[:, None, None]
        variance = _total((centred * centred).sum((0, 2, 3))) / count
        with torch.no_grad():
            momentum = 0.1 if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * count / max(1, count - 1), momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        scale = torch.rsqrt(variance + self.eps) * self.weight
        return centred * scale[:, None, None] + self.bias[:, None, None]


@contextmanager
def processes(device: str) -> Iterator[Processes]:
    """The processes that torchrun started, or this one alone.

    Raises:
        SettingsError: There is no such device, or fewer GPUs than processes.
    """
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    chosen = pick_device(device)
    if chosen.type == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if world > 1:
            chosen = pick_device(f"cuda:{local}")
        torch.cuda.set_device(chosen)
    if world == 1:
        yield Processes(0, 1, chosen)
        return
    if "MASTER_ADDR" not in os.environ:
        raise SettingsError("WORLD_SIZE is set but MASTER_ADDR is not: start several processes with torchrun.")
    # Ours to end only where it is ours.
    begun = not dist.is_initialized()
    if begun:
        cuda = chosen.type == "cuda"
        # Without the device, collective calls would guess it from the rank.
        dist.init_process_group(
            "nccl" if cuda else "gloo", rank=rank, world_size=world, device_id=chosen if cuda else None
        )
    try:
        group = Processes(rank, world, chosen)
        yield group
        # Nobody leaves while another one still talks.
        group.wait()
    finally:
        if begun:
            dist.destroy_process_group()
