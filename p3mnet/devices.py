"""Where networks compute: devices by name, always with an index, and what they are called."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

from p3mdata.errors import SettingsError

CPU = torch.device("cpu")


def pick_device(wanted: str) -> torch.device:
    """A device by name: "auto" (the GPU where there is one), "cpu", "cuda" or "cuda:N".

    A GPU has its index, without which `torch.cuda.set_device` does not take it; that of "cuda" is PyTorch's current
    one, 0 unless the program chose another.

    Raises:
        SettingsError: There is no such device.
    """
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise SettingsError(f"device '{wanted}' does not exist: give auto, cpu, cuda or cuda:N.") from error
    if device.type == "cpu":
        return CPU
    if device.type != "cuda":
        raise SettingsError(f"device '{wanted}' is not supported: give auto, cpu, cuda or cuda:N.")
    number = torch.cuda.device_count()
    if not number:
        raise SettingsError(f"device '{wanted}' is not there: PyTorch sees 0 GPUs.")
    if device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    if device.index >= number:
        raise SettingsError(f"device '{wanted}' is not there: PyTorch sees {number} GPUs.")
    return device


def device_name(device: torch.device) -> str:
    """Model of a GPU, or "cpu"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


# auto is the fastest that the task at hand puts up with.
Precision = Literal["auto", "float32", "tf32", "bfloat16"]


@contextmanager
def arithmetic(device: torch.device, tf32: bool, deterministic: bool = False) -> Iterator[None]:
    """How a GPU computes, for as long as this lasts; a CPU computes in float32, in an order that is always the same.

    Args:
        device: Where.
        tf32: Whether products of float32 are taken with 10 bits of mantissa, as fast as with 16 bits; else with all 23.
        deterministic: Whether operators give the same bits each time; one that cannot is an error.
    """
    if device.type != "cuda":
        yield
        return
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark
    memory: Any = torch.utils.deterministic
    asked, filled = torch.are_deterministic_algorithms_enabled(), memory.fill_uninitialized_memory
    matmul.allow_tf32 = cudnn.allow_tf32 = tf32
    if deterministic:
        # What cuBLAS wants to hear before it begins.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        cudnn.deterministic, cudnn.benchmark = True, False
        torch.use_deterministic_algorithms(True)
        # Memory that is written before it is read need not be filled.
        memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = before
        torch.use_deterministic_algorithms(asked)
        memory.fill_uninitialized_memory = filled
