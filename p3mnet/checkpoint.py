"""Networks in and out: our checkpoints, the published P3M-Net files, the start from trained weights.

Published files are read by the tables of `published`. Nothing is loaded before everything fits.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from p3mdata.base.files import atomic
from p3mdata.errors import SettingsError, SetupError
from p3mnet.model import MattingNetwork, ModelConfig
from p3mnet.published import ALIAS, TELLTALES, joined, our_name
from p3mnet.registry import build
from p3mnet.weights_files import OPTIONAL, describe, fill, read_weights, require_fit, some, state_dict_of

FORMAT = "p3mnet-checkpoint"
VERSION = 1


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
    state = joined(variant, state_dict_of(payload))
    own = model.state_dict()
    found = _renamed(variant, state)
    renamed = {ours: state[official] for ours, official in found.official.items() if ours in own}
    unknown = [*found.unknown, *(official for ours, official in found.official.items() if ours not in own)]
    likely = [name for name, telltale in TELLTALES.items() if telltale in state and name != variant]
    hint = f" (the file looks like {likely[0]})" if likely else ""
    require_fit(own, renamed, unknown, f"The weights do not fit {describe(model.config)}{hint}")
    fill(model, renamed)
    return Official(len(renamed), tuple(found.dropped), tuple(name for name in own if name not in renamed))


class _Renamed(NamedTuple):
    """Entries of a published file.

    Attributes:
        official: Their names in the file by our names.
        dropped: Names that the network has no use for.
        unknown: Names that no rule knows.
    """

    official: dict[str, str]
    dropped: list[str]
    unknown: list[str]


def _renamed(variant: str, state: Mapping[str, Tensor]) -> _Renamed:
    found = _Renamed({}, [], [])
    # Aliases last: they win.
    for official in sorted(state, key=lambda key: re.fullmatch(ALIAS, key) is not None):
        try:
            ours = our_name(variant, official)
        except KeyError:
            found.unknown.append(official)
            continue
        if ours is None:
            found.dropped.append(official)
        else:
            found.official[ours] = official
    return found


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
        return "; ".join([*told, *(f"{len(names)} {what}: {some(names)}" for what, names in parts if names)])


def load_initial(model: MattingNetwork, path: str | Path) -> Initial:
    """Start a network from trained weights: a file of `p3mnet train`, also of another variant, or a published one.

    Entries go by name; what does not fit stays as it is and is told.

    Args:
        model: Changed only if the file fits: it must hold the encoder, and most of all other entries.
        path: The file.

    Raises:
        SetupError: It cannot be read, or is of a network with another encoder.
    """
    content = read_weights(Path(path))
    state = state_dict_of(content, str(path))
    own = model.state_dict()
    ours = isinstance(content, dict) and content.get("format") == FORMAT
    if ours:
        renamed, unused = state, []
    else:
        state = joined(model.config.name, state)
        found = _renamed(model.config.name, state)
        renamed, unused = {name: state[official] for name, official in found.official.items()}, found.unknown
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
            f"({len(lacking)} entries do not fit: {some(lacking)})."
        )
    fill(model, fitting)
    return Initial(len(fitting), tuple(reshaped), tuple(absent), tuple(unused))


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
    content = read_weights(Path(path))
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
    state, extra = state_dict_of(content, str(path)), content.get("extra")
    require_fit(model.state_dict(), state, (), f"{path} does not fit {describe(config)}")
    model.load_state_dict(state)
    return Checkpoint(model, extra if isinstance(extra, dict) else {})
