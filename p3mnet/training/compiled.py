"""A training step as one compiled program, where that pays; if it cannot be made, a sentence and the ordinary step."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from p3mnet.memory import out_of_memory

Compile = Literal["auto", "on", "off"]
Forward = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
BACKEND = "inductor"
# On an H100 compiling takes about 60 s and saves a fifth of a step of 0.16 s.
WORTH_STEPS = 3000
_CACHE = "TORCHINDUCTOR_CACHE_DIR"


def pays(wanted: Compile, device: torch.device, steps: int, hindrance: str | None) -> bool:
    """Whether to compile.

    Args:
        wanted: As the settings say.
        device: Where steps are computed.
        steps: Those that are left.
        hindrance: Why a step is not the same program each time; None if it is.
    """
    if hindrance is not None or wanted == "off":
        return False
    return wanted == "on" or (device.type == "cuda" and steps >= WORTH_STEPS)


def keep_programs() -> None:
    """Compiled programs stay on the disk, so that the next run has them in seconds; an own choice of place counts."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    os.environ.setdefault(_CACHE, str(Path(cache) / "p3mdata" / "compiled"))


def compiled(
    forward: Forward, model: nn.Module, batch: Mapping[str, Tensor], say: Callable[[str], None]
) -> Forward | None:
    """The compiled form of a step's forward pass, tried with its backward pass; None if it cannot be had.

    Args:
        forward: Batch on the device -> parts of the loss, with "total".
        model: Its network. Neither weights nor statistics of batches change.
        batch: What it will be called with.
        say: Told how it went.

    Raises:
        torch.OutOfMemoryError: Memory does not hold the batch.
    """
    keep_programs()
    begun = time.monotonic()
    before = {name: values.clone() for name, values in model.named_buffers()}
    try:
        program: Forward = torch.compile(forward, dynamic=False, backend=BACKEND)
        program(batch)["total"].backward()  # type: ignore[no-untyped-call]
    except Exception as error:
        if isinstance(error, RuntimeError | MemoryError) and out_of_memory(error):
            raise
        lines = str(error).strip().splitlines()
        reason = lines[0] if lines else type(error).__name__
        say(f"compile: does not work here ({reason}); training goes on without it.")
        return None
    finally:
        with torch.no_grad():
            for name, values in model.named_buffers():
                values.copy_(before[name])
        for parameter in model.parameters():
            parameter.grad = None
    say(f"compiled in {time.monotonic() - begun:.0f} s")
    return program
