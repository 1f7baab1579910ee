"""Where networks compute: devices by name, always with an index, and what they are called."""

from __future__ import annotations

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
