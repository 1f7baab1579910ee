"""Where networks compute: devices by name, always with an index, and what they are called."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

from p3mdata.errors import SettingsError, SetupError

CPU = torch.device("cpu")
# How much memory cuBLAS may use; with these values its results are the same each time.
_WORKSPACE, _REPEATABLE = "CUBLAS_WORKSPACE_CONFIG", (":4096:8", ":16:8")


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
    number = gpus_seen()
    if not number:
        raise SettingsError(f"device '{wanted}' is not there: PyTorch sees 0 GPUs ({why_no_gpu()}).")
    if device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    if device.index >= number:
        raise SettingsError(f"device '{wanted}' is not there: PyTorch sees {number} GPUs.")
    return device


def gpus_seen() -> int:
    """How many GPUs PyTorch can use."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def why_no_gpu() -> str:
    """Why PyTorch can use no GPU, in words."""
    if torch.version.cuda is None and torch.version.hip is None:
        return f"PyTorch {torch.__version__} is a build without GPUs"
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return str(error).strip().splitlines()[0].removesuffix(".")
    return "it does not say why"


def device_name(device: torch.device) -> str:
    """Model of a GPU, or "cpu"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


class GpuLost(SetupError):
    """A GPU failed in the middle of the work."""


@contextmanager
def gpu_guarded(advice: str) -> Iterator[None]:
    """Turns the loss of a GPU into a sentence, which ends in an advice; nothing in this process can use it any more.

    Raises:
        GpuLost: It is lost.
    """
    try:
        yield
    except RuntimeError as error:
        lost = isinstance(error, torch.AcceleratorError) or "CUDA error" in str(error) or "cuDNN error" in str(error)
        if not lost:
            raise
        raise GpuLost(f"The GPU failed ({str(error).splitlines()[0]}). {advice}") from error


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
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    memory: Any = torch.utils.deterministic
    asked, filled = torch.are_deterministic_algorithms_enabled(), memory.fill_uninitialized_memory
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    workspace = os.environ.get(_WORKSPACE)
    if deterministic and workspace not in _REPEATABLE:
        # PyTorch asks for it at each product, cuBLAS before the first.
        os.environ[_WORKSPACE] = _REPEATABLE[0]
    if deterministic:
        cudnn.deterministic, cudnn.benchmark = True, False
        torch.use_deterministic_algorithms(True)
        # Memory that is written before it is read need not be filled.
        memory.fill_uninitialized_memory = False
    try:
        with _products(tf32):
            yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before
        torch.use_deterministic_algorithms(asked, warn_only=warned)
        memory.fill_uninitialized_memory = filled
        if workspace is None:
            os.environ.pop(_WORKSPACE, None)
        else:
            os.environ[_WORKSPACE] = workspace


@contextmanager
def _products(tf32: bool) -> Iterator[None]:
    """Whether products on a GPU are taken with 10 bits of mantissa.

    PyTorch has two sets of settings for it, and reading the older one, as its compiler does, is an error once somebody
    has set the newer one: so the newer one is emptied in here.
    """
    backends: Any = torch.backends
    newer = (backends, backends.cudnn, backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)
    older = (backends.cuda.matmul, backends.cudnn)
    shares = [place.fp32_precision for place in newer]
    allowed: list[bool | None] = []
    for place in older:
        try:
            allowed.append(place.allow_tf32)
        except RuntimeError:
            allowed.append(None)
    backends.fp32_precision = backends.cudnn.fp32_precision = "none"
    for place in older:
        place.allow_tf32 = tf32
    try:
        yield
    finally:
        for place, before in zip(older, allowed, strict=True):
            if before is not None:
                place.allow_tf32 = before
        for place, share in zip(newer, shares, strict=True):
            place.fp32_precision = share
