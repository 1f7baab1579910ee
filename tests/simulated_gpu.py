"""A machine with GPUs, as far as a CPU can play it: PyTorch says that they are there, tensors stay where they are.

Everything that picks, names or sets a device runs as it would; `torch.cuda.set_device` checks what it is given with
PyTorch's own function. What a GPU computes is computed on the CPU.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from p3mnet import maps

NAME = "Simulated GPU"
_autocast = torch.autocast


def _moved(value: Any) -> Any:
    """A device that is a GPU -> the CPU; all else as it is."""
    if isinstance(value, torch.device) and value.type == "cuda":
        assert value.index is not None, "a device without an index"
        return torch.device("cpu")
    if isinstance(value, str) and value.startswith("cuda"):
        return "cpu"
    return value


class _OnCPU(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.pin_memory:
            return args[0]
        if func is torch.device:
            return func(*args, **(kwargs or {}))
        return func(*map(_moved, args), **{key: _moved(value) for key, value in (kwargs or {}).items()})


class _Stream:
    """Work on the CPU is done when it was asked for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *args: object) -> None:
        pass

    def wait_stream(self, other: Any) -> None:
        pass

    wait_event = record_event = wait_stream

    def synchronize(self) -> None:
        pass


class _Event(_Stream):
    def record(self, *args: Any) -> None:
        pass

    def query(self) -> bool:
        return True

    def elapsed_time(self, other: Any) -> float:
        return 1.0


@contextlib.contextmanager
def simulated_gpus(number: int = 2) -> Iterator[list[int]]:
    """Within it there are GPUs; gives the indices that were set as the current one."""
    chosen = [0]

    def set_device(device: Any) -> None:
        index = torch.cuda._utils._get_device_index(device)
        assert 0 <= index < number
        chosen.append(index)

    def autocast(device_type: str, *args: Any, **kwargs: Any) -> Any:
        return _autocast(_moved(device_type), *args, **kwargs)

    answers = {
        "is_available": lambda: number > 0,
        "device_count": lambda: number,
        "current_device": lambda: chosen[-1],
        "set_device": set_device,
        "get_device_name": lambda device=None: NAME,
        "get_device_capability": lambda device=None: (9, 0),
        "empty_cache": lambda: None,
        "synchronize": lambda device=None: None,
        "max_memory_allocated": lambda device=None: 0,
        "reset_peak_memory_stats": lambda device=None: None,
        "mem_get_info": lambda device=None: (1 << 36, 1 << 36),
        "memory_reserved": lambda device=None: 0,
        "memory_allocated": lambda device=None: 0,
        "is_bf16_supported": lambda *args: True,
        "Stream": _Stream,
        "Event": _Event,
        "current_stream": _Stream,
        "stream": lambda stream: stream,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, answer in answers.items():
            patch.setattr(torch.cuda, name, answer)
        patch.setattr(torch, "autocast", autocast)
        patch.setattr(maps, "by_place", lambda x: number > 0)
        patch.setattr(torch.Tensor, "record_stream", lambda self, stream: None)
        with _OnCPU():
            yield chosen
