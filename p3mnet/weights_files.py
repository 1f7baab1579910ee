"""Files of weights: read without running what they hold, and fitted to a network only when everything fits."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from p3mdata.errors import SetupError
from p3mnet.model import MattingNetwork, ModelConfig

# May be absent from a file: the performers' projections (published files never have them), batch norm's counters.
OPTIONAL = re.compile(r".+\.(projection|num_batches_tracked)")


def some(names: Iterable[str], limit: int = 4) -> str:
    names = sorted(names)
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a .safetensors file: header length (8 bytes), JSON header, raw values."""
    types = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    types |= {"I64": torch.int64, "I32": torch.int32}
    data = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        # `frombuffer` takes no empty buffer.
        flat = torch.frombuffer(data[start + first : start + last] or bytearray(8), dtype=types[entry["dtype"]])
        tensors[name] = flat[: (last - first) // flat.element_size()].reshape(entry["shape"])
    return tensors


def read_weights(path: Path) -> Any:
    """Content of a weights file, without running code that it may hold.

    Raises:
        SetupError: It cannot be read, or holds more than weights and plain values.
    """
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        # Training scripts like to save their arguments beside the weights.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise SetupError(f"The weights file {path} cannot be read: {error.strerror or error}.") from error
    except MemoryError:
        raise
    except Exception as error:
        # The unpickler does not expect other files: it raises whatever comes of them.
        raise SetupError(
            f"{path} is not a weights file that can be read safely (damaged, or with objects other than tensors); "
            "if you trust it, save its state dict alone with torch.save."
        ) from error


def state_dict_of(payload: Any, source: str = "The payload") -> dict[str, Tensor]:
    """The entries in a file, a loaded file or a state dict; `module.` of parallel training is taken off.

    Raises:
        SetupError: There are none; `source` begins the sentence.
    """
    if isinstance(payload, str | Path):
        source = str(payload)
        payload = read_weights(Path(payload))
    for key in ("state_dict_ema", "state_dict", "model"):
        if isinstance(payload, Mapping) and isinstance(payload.get(key), Mapping):
            payload = payload[key]
            break
    if not isinstance(payload, Mapping) or not payload or not all(isinstance(x, Tensor) for x in payload.values()):
        raise SetupError(f"{source} holds no weights: expected a state dict, or a dict with 'state_dict'.")
    return {name.removeprefix("module."): value for name, value in payload.items()}


def require_fit(own: Mapping[str, Tensor], file: Mapping[str, Tensor], unknown: Iterable[str], whose: str) -> None:
    """Raises SetupError with the names that differ unless `file` has all of `own`, in its shapes, and nothing else."""
    differences = {
        "missing in the file": [name for name in own if name not in file and not OPTIONAL.fullmatch(name)],
        "unknown": [*unknown, *(name for name in file if name not in own)],
        "of another shape": [
            f"{name} ({'x'.join(map(str, value.shape))} instead of {'x'.join(map(str, own[name].shape))})"
            for name, value in file.items()
            if name in own and value.shape != own[name].shape
        ],
    }
    told = [f"{len(names)} {what}: {some(names)}" for what, names in differences.items() if names]
    if told:
        raise SetupError(f"{whose}: {'; '.join(told)}.")


def describe(config: ModelConfig) -> str:
    """The variant's name, and the modules it does without."""
    without = [flag for flag in ("tfi", "sbfi", "dbfi") if not getattr(config, flag)]
    return config.name + (f" without {', '.join(without)}" if without else "")


def fill(model: MattingNetwork, entries: Mapping[str, Tensor]) -> None:
    model.load_state_dict({**model.state_dict(), **entries})
