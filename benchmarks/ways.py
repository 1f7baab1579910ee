"""What makes a step of training quick on a GPU, each way beside the plain one, as far as a CPU can tell: its time.

    python -m benchmarks.ways

One thread, processor time, medians of five. Ratios on a CPU are no promise for a GPU: what counts there besides are
passes over memory and kernels that the host has to start, which are told too (operators of a step that compute, not
those that only look at memory otherwise).
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.gpu_place import REAL, write_data
from benchmarks.training import random_batch
from p3mdata.imaging.trimap import UNKNOWN
from p3mnet import maps
from p3mnet.checkpoint import checkpoint_of, write_checkpoint
from p3mnet.create import create_model
from p3mnet.data import DataConfig, TrainingSet, seeded
from p3mnet.loader import to_device
from p3mnet.losses import losses_of
from p3mnet.networks import terms
from p3mnet.training.state import _on_cpu

Pair = tuple[str, str, float, str, float]
_VIEWS = {
    "slice", "detach", "unsqueeze", "view", "permute", "select", "squeeze", "expand", "alias", "_unsafe_view", "unbind",
    "split", "t", "transpose", "empty", "empty_like", "lift_fresh", "_reshape_alias", "as_strided", "split_with_sizes",
}  # fmt: skip


def _median(call: Callable[[], object], times: int = 5) -> float:
    """Milliseconds."""
    taken = []
    for _ in range(times):
        begun = time.process_time()
        call()
        taken.append(1000 * (time.process_time() - begun))
    return statistics.median(taken)


def _both_ways(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> Callable[[], object]:
    """Forward and backward."""
    return lambda: function(x.clone().requires_grad_()).sum().backward()  # type: ignore[no-untyped-call]


def _place(here: bool) -> Any:
    return mock.patch.object(maps, "by_place", lambda x: here)


def _pixels() -> Pair:
    trimap = torch.from_numpy(np.random.default_rng(0).choice(np.uint8([0, UNKNOWN, 255]), (32, 1, 512, 512)))
    plain, ours = _median((trimap == UNKNOWN).sum), _median(lambda: np.count_nonzero(trimap.numpy() == UNKNOWN))
    return "transition pixels of a batch of 32", "PyTorch's sum", plain, "NumPy's count, and none for one batch", ours


def _unpooling() -> Pair:
    x = torch.randn(4, 64, 256, 256).to(memory_format=torch.channels_last)
    _, index = F.max_pool2d(x, 3, 2, padding=1, return_indices=True)
    values = torch.randn(index.shape).to(memory_format=torch.channels_last)
    plain = _median(_both_ways(lambda one: F.max_unpool2d(one, index, [2, 2]), values))
    with _place(True):
        ours = _median(_both_ways(lambda one: maps.unpool(one, index, 3), values))
    return "unpooling to [4, 64, 256, 256], there and back", "racing on a GPU", plain, "place by place", ours


def _upsampling() -> Pair:
    x = torch.randn(4, 64, 128, 128).to(memory_format=torch.channels_last)
    plain = _median(_both_ways(lambda one: F.interpolate(one, scale_factor=2.0, mode="bilinear"), x))
    with _place(True):
        ours = _median(_both_ways(lambda one: maps.upsample(one, 2), x))
    return "upsampling to [4, 64, 256, 256], there and back", "racing on a GPU", plain, "gathered", ours


def _pyramid() -> Pair:
    x = torch.randn(2, 8, 1, 512, 512)

    def plain(given: torch.Tensor) -> torch.Tensor:
        total, window, level = given.new_zeros(()), terms._window(given), given.flatten(0, 1)
        for _ in range(terms.LEVELS):
            smooth = F.conv2d(F.pad(level, (2, 2, 2, 2), mode="replicate"), window)
            total = total + (level - smooth).abs().mean()
            level = F.avg_pool2d(smooth, 2)
        return total

    return (
        "Laplacian pyramids of 16 differences of 512x512, there and back", "PyTorch's gradient of the window",
        _median(_both_ways(plain, x)), "its own", _median(_both_ways(terms.laplacian, x)),
    )  # fmt: skip


def _colours(folder: Path) -> Pair:
    pictures = TrainingSet(write_data(folder, REAL), None, DataConfig(colours="estimate"))
    taken = []
    for late in (False, True):
        pictures.late = late
        numbers = iter(range(24))

        def sample(numbers: Iterator[int] = numbers) -> object:
            number = next(numbers)
            return pictures.sample(number, seeded(0, number))

        taken.append(_median(sample, 24))
    return "a crop of a picture of 1080x1620", "colours estimated by the loader", taken[0], "by the GPU", taken[1]


def _checkpoint(folder: Path) -> Pair:
    model = create_model("p3mnet_resnet34", encoder_weights="random")
    optimizer = torch.optim.Adam(model.parameters(), 1e-5)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()

    def content() -> dict[str, Any]:
        return checkpoint_of(model, optimizer=optimizer.state_dict())

    both = _median(lambda: write_checkpoint(folder / "last.pt", _on_cpu(content())), 3)
    return (
        "a checkpoint of ResNet-34",
        "written by the loop",
        both,
        "copied by it",
        _median(lambda: _on_cpu(content()), 3),
    )


class _Count(TorchDispatchMode):
    """Operators that compute."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.number += func._schema.name.removeprefix("aten::") not in _VIEWS
        return func(*args, **(kwargs or {}))


def operators(on_a_gpu: bool) -> int:
    """Of a step of ResNet-34 in 16 bits, forward, losses and backward."""
    model = create_model("p3mnet_resnet34", encoder_weights="random").train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    batch = random_batch(2, 128)
    with _place(on_a_gpu), mock.patch.object(terms, "_whole", lambda x: on_a_gpu), _Count() as count:
        moved = to_device(batch, "cpu")
        with torch.autocast("cpu", torch.bfloat16):
            output = model(moved["image"])
        losses_of(model, output, moved)["total"].backward()  # type: ignore[no-untyped-call]
    return count.number


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print("| what | plain | ms | here | ms | ratio |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for measured in (
            _pixels,
            _unpooling,
            _upsampling,
            _pyramid,
            lambda: _colours(folder),
            lambda: _checkpoint(folder),
        ):
            what, plain, before, ours, after = measured()
            print(f"| {what} | {plain} | {before:.1f} | {ours} | {after:.1f} | {before / after:.2g} |", flush=True)
    print(f"\nOperators of a step that compute: {operators(False)} with PyTorch's, {operators(True)} as on a GPU.")


if __name__ == "__main__":
    main()
