"""Weights in and out: our checkpoints, the published P3M-Net files, ImageNet weights of the encoders.

Published files are read by the tables of `published`. Nothing is loaded before everything fits.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from p3mdata.base.files import atomic, sha256
from p3mdata.errors import SettingsError, SetupError
from p3mnet.model import MattingNetwork, ModelConfig
from p3mnet.published import (
    ALIAS,
    ENCODER_PREFIXES,
    FIRST_CONVOLUTIONS,
    IMAGENET_RULES,
    NOT_OF_IMAGENET,
    TELLTALES,
    TORCHVISION_HAS,
    TORCHVISION_MOBILENET,
    imagenet_name,
    joined,
    our_name,
)
from p3mnet.registry import HUB, build

FORMAT = "p3mnet-checkpoint"
VERSION = 1

# May be absent from a file: the performers' projections (published files never have them), batch norm's counters.
OPTIONAL = re.compile(r".+\.(projection|num_batches_tracked)")


class HubFile(NamedTuple):
    """A file on the Hugging Face hub, of one commit and with one content, so that all start from the same weights."""

    repository: str
    revision: str
    sha256: str
    name: str = "model.safetensors"


RESNET34 = HubFile(
    "timm/resnet34.tv_in1k",
    "1b7b21cca82ff974d341713f777bf740c2db38c4",
    "0bb82595a564991a9d424708b33f5d843f5aaed7f6c0886ff10849ff97022235",
)
HUB_FILES = {
    "p3mnet_resnet34": RESNET34,
    "gfm_resnet34": RESNET34,
    "p3mnet_swin_t": HubFile(
        "timm/swin_tiny_patch4_window7_224.ms_in1k",
        "4cc3a7275b50b53a7bec45f32c236ebe64227cff",
        "fb01861f793143135fa0d6cd97b1631e4b33eaa3ee162bbea9e62de1c76ebac1",
    ),
}
# What an ordinary Swin-T has in another shape: it is trained without P3M-Net's poolings.
REPLACED_IN_SWIN = re.compile(r"encoder\.(embed|merges)\..+")


class Official(NamedTuple):
    """What `load_official` did.

    Attributes:
        loaded: Number of our entries that came from the file.
        dropped: Names in the file that the network has no use for: classifier, constants, an uncalled layer norm.
        kept: Our entries that the file lacks and that stay as they are, such as the performers' projections.
    """

    loaded: int
    dropped: tuple[str, ...]
    kept: tuple[str, ...]


class Checkpoint(NamedTuple):
    """What `load_checkpoint` found: a network in eval mode and what else was saved."""

    model: MattingNetwork
    extra: dict[str, Any]


def _some(names: Iterable[str], limit: int = 4) -> str:
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


def _read(path: Path) -> Any:
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


def _state_dict(payload: Any, source: str = "The payload") -> dict[str, Tensor]:
    """The entries in a file, a loaded file or a state dict; `module.` of parallel training is taken off.

    Raises:
        SetupError: There are none; `source` begins the sentence.
    """
    if isinstance(payload, str | Path):
        source = str(payload)
        payload = _read(Path(payload))
    for key in ("state_dict_ema", "state_dict", "model"):
        if isinstance(payload, Mapping) and isinstance(payload.get(key), Mapping):
            payload = payload[key]
            break
    if not isinstance(payload, Mapping) or not payload or not all(isinstance(x, Tensor) for x in payload.values()):
        raise SetupError(f"{source} holds no weights: expected a state dict, or a dict with 'state_dict'.")
    return {name.removeprefix("module."): value for name, value in payload.items()}


def _require(own: Mapping[str, Tensor], file: Mapping[str, Tensor], unknown: Iterable[str], whose: str) -> None:
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
    told = [f"{len(names)} {what}: {_some(names)}" for what, names in differences.items() if names]
    if told:
        raise SetupError(f"{whose}: {'; '.join(told)}.")


def describe(config: ModelConfig) -> str:
    """The variant's name, and the modules it does without."""
    without = [flag for flag in ("tfi", "sbfi", "dbfi") if not getattr(config, flag)]
    return config.name + (f" without {', '.join(without)}" if without else "")


def _fill(model: MattingNetwork, entries: Mapping[str, Tensor]) -> None:
    model.load_state_dict({**model.state_dict(), **entries})


def load_official(model: MattingNetwork, payload: Any) -> Official:
    """Fill a network from a published P3M-Net checkpoint.

    Args:
        model: The variant that the file is for, with all integration modules; changed only if everything fits.
        payload: A file, or what it holds: a state dict, as it is or under 'state_dict'.

    Returns:
        What was loaded, dropped and kept.

    Raises:
        SetupError: The file cannot be read or is not one of this variant; the sentence names the keys that differ.
    """
    variant = model.config.name
    state = joined(variant, _state_dict(payload))
    own = model.state_dict()
    renamed: dict[str, Tensor] = {}
    dropped: list[str] = []
    unknown: list[str] = []
    # Aliases last: they win.
    for official in sorted(state, key=lambda key: re.fullmatch(ALIAS, key) is not None):
        try:
            ours = our_name(variant, official)
        except KeyError:
            unknown.append(official)
            continue
        if ours is None:
            dropped.append(official)
        elif ours in own:
            renamed[ours] = state[official]
        else:
            unknown.append(official)
    likely = [name for name, telltale in TELLTALES.items() if telltale in state and name != variant]
    hint = f" (the file looks like {likely[0]})" if likely else ""
    _require(own, renamed, unknown, f"The weights do not fit {describe(model.config)}{hint}")
    _fill(model, renamed)
    return Official(len(renamed), tuple(dropped), tuple(name for name in own if name not in renamed))


def _from_hub(variant: str) -> Path:
    """Downloads, or finds in the hub's cache, the encoder's ImageNet weights.

    Raises:
        SetupError: The hub has none, its client is not installed, the download failed, or the file is another one.
    """
    if variant not in HUB_FILES:
        raise SetupError(
            f"The hub has no ImageNet weights for {variant}: give their file (see the P3M-Net repository)."
        )
    file = HUB_FILES[variant]
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise SetupError(
            "Weights from the hub need the package huggingface_hub: pip install huggingface_hub."
        ) from error
    try:
        path = Path(hf_hub_download(file.repository, file.name, revision=file.revision))
        found = sha256(path.read_bytes())
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SetupError(
            f"{file.name} of {file.repository} could not be fetched from the hub: {reason.rstrip('.')}. "
            "Or give a file as encoder_weights."
        ) from error
    if found != file.sha256:
        raise SetupError(
            f"{path}: is not the file that {file.repository} had at {file.revision[:12]} (SHA-256 {found[:12]} instead "
            f"of {file.sha256[:12]}). Delete it and try again, or give a file that you trust."
        )
    return path


def load_imagenet(model: MattingNetwork, source: str | Path) -> None:
    """Fill a network's encoder with ImageNet weights.

    ResNet-34 takes any ordinary ResNet-34's, MODNet and IndexNet any ordinary MobileNetV2's (a file), DIM those of
    VGG-16 with batch norm, AlphaGAN and SHM of ResNet-50, FBA of ResNet-50 with group norm and standardised weights, LF
    of DenseNet-201, HATT of ResNeXt-101 (32x8d); what these encoders see besides colours starts at 0. Swin-T takes the
    weights that P3M-Net was trained from, or those of an ordinary Swin-T, whose stem and patch merging have other
    shapes and are left out. ViTAE-S takes P3M-Net's.

    Args:
        model: Its encoder changes only if everything fits.
        source: A file (.pth, .pth.tar, .safetensors), or "hub" for the Hugging Face hub.

    Raises:
        SetupError: There are no such weights, or they are those of another network.

    Warns:
        UserWarning: A part of the encoder keeps its random weights.
    """
    variant = model.config.name
    path = _from_hub(variant) if source == HUB else Path(source)
    if variant in IMAGENET_RULES:
        _fill(model, _of_imagenet(model, path))
        return
    if variant not in ENCODER_PREFIXES:
        raise SetupError(f"{variant}: no ImageNet weights of its encoder are known. Start with 'random'.")
    own = {name: value for name, value in model.state_dict().items() if name.startswith("encoder.")}
    fitting: dict[str, Tensor] = {}
    unknown: list[str] = []
    for name, value in _state_dict(path).items():
        try:
            ours = our_name(variant, ENCODER_PREFIXES[variant] + name)
        except KeyError:
            ours = name
        if ours is None:
            continue
        if ours in own and (value.shape == own[ours].shape or variant != "p3mnet_swin_t"):
            fitting[ours] = value
        else:
            unknown.append(name)
    absent = [name for name in own if name not in fitting and not OPTIONAL.fullmatch(name)]
    whose = f"{path} does not hold ImageNet weights for the encoder of {variant}"
    if variant == "p3mnet_swin_t" and absent and all(REPLACED_IN_SWIN.fullmatch(name) for name in absent):
        warnings.warn(
            f"{path} is an ordinary Swin-T: stem and patch merging of {variant}, which it has in another form, "
            f"start from random weights ({len(absent)} of {len(own)} entries).",
            stacklevel=2,
        )
    else:
        _require(own, fitting, unknown, whose)
    _fill(model, fitting)


def _of_imagenet(model: MattingNetwork, path: Path) -> dict[str, Tensor]:
    """The entries of an ordinary ImageNet file by our names, the first convolution widened.

    Raises:
        SetupError: The file is of another network.
    """
    variant, state = model.config.name, model.state_dict()
    fitting: dict[str, Tensor] = {}
    unknown: list[str] = []
    file = _state_dict(path)
    rules = TORCHVISION_MOBILENET if variant == "indexnet" and TORCHVISION_HAS in file else variant
    for name, value in file.items():
        try:
            ours = imagenet_name(rules, name)
        except KeyError:
            unknown.append(name)
            continue
        if ours is not None and ours in state:
            fitting[ours] = value
        elif ours is not None:
            unknown.append(name)
    first = FIRST_CONVOLUTIONS.get(variant, "")
    if first in fitting and fitting[first].dim() == state[first].dim():
        more = state[first].shape[1] - fitting[first].shape[1]
        if more > 0:
            rest = fitting[first].new_zeros(fitting[first].shape[0], more, *fitting[first].shape[2:])
            fitting[first] = torch.cat([fitting[first], rest], 1)
    place = "trimap.backbone." if variant == "shm" else "encoder."
    without = re.compile(NOT_OF_IMAGENET.get(variant, r"(?!)"))
    own = {name: value for name, value in state.items() if name.startswith(place) and not without.fullmatch(name)}
    _require(own, fitting, unknown, f"{path} does not hold ImageNet weights for the encoder of {variant}")
    return fitting


class Initial(NamedTuple):
    """What `load_initial` did.

    Attributes:
        loaded: Number of entries that came from the file.
        reshaped: Our entries that the file has in another shape, such as a head with other outputs; they stay.
        absent: Our entries that the file lacks; they stay.
        unused: Names in the file that this network has no use for.
    """

    loaded: int
    reshaped: tuple[str, ...]
    absent: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        told = [f"{self.loaded} entries loaded"]
        parts = (("of another shape", self.reshaped), ("not in the file", self.absent), ("not used", self.unused))
        return "; ".join([*told, *(f"{len(names)} {what}: {_some(names)}" for what, names in parts if names)])


def load_initial(model: MattingNetwork, path: str | Path) -> Initial:
    """Start a network from trained weights: a file of `p3mnet train`, also of another variant, or a published one.

    Entries go by name; what does not fit stays as it is and is told.

    Args:
        model: Changed only if the file fits: it must hold the encoder, and most of all other entries.
        path: The file.

    Raises:
        SetupError: It cannot be read, or is of a network with another encoder.
    """
    content = _read(Path(path))
    state = _state_dict(content, str(path))
    own = model.state_dict()
    ours = isinstance(content, dict) and content.get("format") == FORMAT
    renamed, unused = (dict(state), []) if ours else _renamed(model.config.name, state)
    unused += [name for name in renamed if name not in own]
    fitting = {name: value for name, value in renamed.items() if name in own and value.shape == own[name].shape}
    reshaped = [name for name in renamed if name in own and name not in fitting]
    wanted = [name for name in own if not OPTIONAL.fullmatch(name)]
    absent = [name for name in wanted if name not in renamed]
    encoder = [name for name in wanted if name.startswith("encoder.") and name not in fitting]
    if encoder or 2 * sum(name in fitting for name in wanted) < len(wanted):
        whose = describe(ModelConfig(**content["config"])) if ours else "another network"
        lacking = encoder or absent or reshaped
        raise SetupError(
            f"{path}: its weights are no start for {describe(model.config)}, they seem to be those of {whose} "
            f"({len(lacking)} entries do not fit: {_some(lacking)})."
        )
    _fill(model, fitting)
    return Initial(len(fitting), tuple(reshaped), tuple(absent), tuple(unused))


def _renamed(variant: str, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Entries of a published file by our names, and names that no rule knows."""
    renamed: dict[str, Tensor] = {}
    unknown: list[str] = []
    state = joined(variant, state)
    # Aliases last: they win.
    for official in sorted(state, key=lambda key: re.fullmatch(ALIAS, key) is not None):
        try:
            ours = our_name(variant, official)
        except KeyError:
            unknown.append(official)
            continue
        if ours is not None:
            renamed[ours] = state[official]
    return renamed, unknown


def checkpoint_of(model: MattingNetwork, **extra: Any) -> dict[str, Any]:
    """What `write_checkpoint` writes: a network, its configuration, and what else to keep.

    Args:
        model: Any network of `create_model`.
        **extra: Tensors, plain values, and lists and dicts of them, such as an optimizer's state.
    """
    return {
        "format": FORMAT,
        "version": VERSION,
        "config": dataclasses.asdict(model.config),
        "state_dict": model.state_dict(),
        "extra": extra,
    }


def write_checkpoint(path: str | Path, content: dict[str, Any]) -> None:
    """Write what `checkpoint_of` gave; the file appears whole or not at all."""
    with atomic(Path(path)) as sink:
        torch.save(content, sink)


def save_checkpoint(path: str | Path, model: MattingNetwork, **extra: Any) -> None:
    """`checkpoint_of` and `write_checkpoint` in one."""
    write_checkpoint(path, checkpoint_of(model, **extra))


def load_checkpoint(path: str | Path) -> Checkpoint:
    """The network that `save_checkpoint` wrote, on the CPU, in eval mode.

    Raises:
        SetupError: The file cannot be read, is no checkpoint of ours, or is of another version.
    """
    content = _read(Path(path))
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise SetupError(
            f"{path} is not a p3mnet checkpoint. Published P3M-Net files are read with --published NETWORK, or by "
            "load_official."
        )
    if content.get("version") != VERSION:
        raise SetupError(
            f"{path} is a p3mnet checkpoint of version {content.get('version')}; this version reads {VERSION}."
        )
    try:
        config = ModelConfig(**content["config"])
        model = build(config).eval()
    except (KeyError, TypeError, SettingsError) as error:
        raise SetupError(f"{path} has settings that this version does not know: {error}") from error
    state, extra = _state_dict(content, str(path)), content.get("extra")
    _require(model.state_dict(), state, (), f"{path} does not fit {describe(config)}")
    model.load_state_dict(state)
    return Checkpoint(model, extra if isinstance(extra, dict) else {})
