"""What a training step waits for: batches that are on the device before they are needed, and where the time goes."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from p3mnet.loader import Batch

# About twelve loaders feed an H100 with ResNet-34.
_MOST_ON_A_GPU, _MOST_ON_A_CPU = 16, 4
# Where processes share memory, and how many batches each loader has ready in it.
_SHARED, _READY = Path("/dev/shm"), 2
# Less than this share of the time is not worth a change.
_WORTH = 0.15
# Steps in which loaders start and libraries choose their kernels.
_WARM_UP = 10
Part = Literal["data", "host", "device"]


def loader_processes(wanted: int | None, device: torch.device) -> int:
    """Loaders of this training process.

    Args:
        wanted: As the settings say; None takes the cores that this machine has for each training process, but for the
            one that it computes with.
        device: What it computes on.
    """
    if wanted is not None:
        return wanted
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    own = cores // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    return max(1, min(_MOST_ON_A_GPU if device.type == "cuda" else _MOST_ON_A_CPU, own - 1))


def loaders_that_fit(number: int, batch: int) -> tuple[int, str | None]:
    """Loaders whose batches fit into the memory that processes share, and a sentence where these are fewer.

    Containers have little of it unless they are told; a loader that finds none is killed.

    Args:
        number: Loaders of each training process.
        batch: Bytes of a batch.
    """
    try:
        free = shutil.disk_usage(_SHARED).free / max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    except OSError:
        return number, None
    # One more is on its way.
    fitting = max(0, min(number, int(free / batch - 1) // _READY))
    if fitting == number:
        return number, None
    return fitting, (
        f"workers: {fitting} in place of {number}, since {_SHARED} has {free / 2**20:.0f} MiB for them and a batch "
        f"takes {batch / 2**20:.0f}; give the container more (docker run --shm-size)."
    )


def ahead(
    batches: Iterator[Batch], stream: torch.cuda.Stream | None, moved: Callable[[Batch], Batch]
) -> Iterator[Batch]:
    """Batches as the loader gives them, with what the network takes of them as "moved".

    On a GPU the next batch crosses to it, in a stream of its own, while this one is computed with.

    Args:
        batches: Of the loader, in pinned memory.
        stream: Of the GPU where they are needed, the same for all epochs, since each keeps memory of its own; None on
            a CPU.
        moved: Gives a batch as it is needed there.
    """
    if stream is None:
        for batch in batches:
            yield {**batch, "moved": moved(batch)}
        return

    def crossing(batch: Batch) -> tuple[Batch, torch.cuda.Event]:
        with torch.cuda.stream(stream):
            found = moved(batch)
            there = torch.cuda.Event()  # type: ignore[no-untyped-call]
            there.record(stream)
        return {**batch, "moved": found}, there

    def arrived(batch: Batch, there: torch.cuda.Event) -> Batch:
        now = torch.cuda.current_stream(stream.device)
        now.wait_event(there)
        for value in batch["moved"].values():
            if isinstance(value, Tensor):
                # Else its memory would go to another batch while this stream still reads it.
                value.record_stream(now)
        return batch

    waiting = None
    for batch in batches:
        following = crossing(batch)
        if waiting is not None:
            yield arrived(*waiting)
        waiting = following
    if waiting is not None:
        yield arrived(*waiting)


class Clock:
    """Seconds of a run's steps by what they were spent on: waiting for data, for the GPU, and the rest, the host."""

    def __init__(self) -> None:
        self.seconds: dict[Part, float] = {"data": 0.0, "host": 0.0, "device": 0.0}
        # All of the steps, those of the first ones, how many they are, and crops of those after the first.
        self.spent = self.warm_up = 0.0
        self.steps = self.crops = 0

    @contextmanager
    def counting(self, crops: int) -> Iterator[None]:
        """Time inside is the steps'; of how many crops it is one, 0 for none."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self.spent += time.monotonic() - begun
            if crops:
                self.steps += 1
                if self.steps == _WARM_UP:
                    self.warm_up = self.spent
                elif self.steps > _WARM_UP:
                    self.crops += crops

    def steady(self) -> float | None:
        """Crops a second once loaders and libraries are warm; None for runs that hardly are."""
        if self.steps < 2 * _WARM_UP:
            return None
        return self.crops / max(1e-9, self.spent - self.warm_up)

    @contextmanager
    def waiting(self, part: Part) -> Iterator[None]:
        """Time inside is spent waiting for this."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self.seconds[part] += time.monotonic() - begun

    def rest(self) -> None:
        """What else the steps took is the host's."""
        self.seconds["host"] = max(0.0, self.spent - self.seconds["data"] - self.seconds["device"])

    def shares(self) -> dict[str, float]:
        """Of the whole time."""
        whole = sum(self.seconds.values()) or 1.0
        return {part: round(seconds / whole, 3) for part, seconds in self.seconds.items()}

    def sentence(self, cuda: bool, workers: int, cached: bool, colours: str, compiled: bool) -> str:
        """What the run waited for, and what to change.

        Args:
            cuda: Whether it computed on a GPU.
            workers: Loaders.
            cached: Whether `p3mnet.data.DataConfig` names a cache.
            colours: As it says; "late" where the GPU estimates them.
            compiled: Whether the step was.
        """
        shares = self.shares()
        told = f"{shares['data']:.0%} of the time waiting for pictures"
        if cuda:
            told += f", {shares['device']:.0%} for the GPU, {shares['host']:.0%} for the host"
        if shares["data"] >= _WORTH:
            means = [f"more workers ({workers} now)", *([] if cached else ["a folder as data.cache"])]
            if colours == "estimate":
                means.append("colours from files")
            return f"{told}: the loader is the bottleneck; give {' or '.join(means)}."
        if not cuda:
            return f"{told}: the processor is the bottleneck; a GPU is far faster."
        if shares["host"] >= max(_WORTH, shares["device"]):
            means = ["a larger batch", *([] if compiled else ["compile=on"])]
            return f"{told}: the host, which starts the GPU's work, is the bottleneck; give {' or '.join(means)}."
        means = [] if compiled else ["; compile=on makes its work less"]
        return f"{told}: the GPU is the bottleneck, as it should be{''.join(means)}."
