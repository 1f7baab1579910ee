"""What a run begins with: the faces that it pastes, its network, and what is said before the first step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch

from p3mdata.errors import SettingsError
from p3mnet.checkpoint import load_initial
from p3mnet.copy_paste import Sources
from p3mnet.create import create_model
from p3mnet.devices import device_name, why_no_gpu
from p3mnet.model import MattingNetwork
from p3mnet.registry import RANDOM
from p3mnet.training.config import TrainConfig
from p3mnet.training.state import Position, RunFolder, RunIdentity, Standing

_COLOURS = {
    "files": "the dataset's files",
    "estimate": "estimated on each crop",
    "whole": "estimated once on whole pictures, kept in data.cache",
}


def open_sources(config: TrainConfig) -> Sources | None:
    """Faces to paste; None where there are none.

    Raises:
        SettingsError: Some are to be matched with targets, and nobody knows what they look like.
    """
    if config.sources is None:
        return None
    pasting = config.copy_paste
    sources = Sources(config.sources, config.source_images, pasting.source_groups if pasting.mode != "none" else None)
    if pasting.mode != "none" and pasting.match != "none":
        # What is missing is told before the first epoch that pastes.
        sources.matcher()
    return sources


def refuse_idle_pasting(config: TrainConfig, batches: int) -> None:
    """A run that ends before it pastes for the first time is not what was asked for.

    Args:
        config: Settings.
        batches: Of each process in an epoch.

    Raises:
        SettingsError: It is such a run.
    """
    pasting = config.copy_paste
    if pasting.mode == "none" or config.steps is None:
        return
    epochs = math.ceil(config.steps / math.ceil(batches / config.accumulation))
    if pasting.start_epoch >= epochs:
        raise SettingsError(
            f"copy_paste.start_epoch: {config.steps} steps are {epochs} epochs, and {pasting.mode} begins after "
            f"{pasting.start_epoch}: nothing would be pasted. Make it smaller, or take more steps."
        )


def stand(
    config: TrainConfig,
    folder: RunFolder,
    identity: RunIdentity,
    files: Mapping[str, str],
    going_on: bool,
    first: bool,
    say: Callable[[str], None],
) -> Standing:
    """Where a run stands as a call begins: at its start, or at its last checkpoint.

    Args:
        config: Settings.
        folder: Of the run.
        identity: What the run must find as it was.
        files: Fingerprints by path of what it reads.
        going_on: Whether there is a checkpoint.
        first: Whether this is the process that writes.
        say: Takes a message.

    Raises:
        SetupError: Weights are missing or of another network.
        RunFolderError: The run cannot go on as it began.
        SettingsError: The network takes no pasted features, and they are to be pasted.
    """
    if going_on:
        standing = folder.load(config, identity)
        folder.compare(files)
    else:
        torch.manual_seed(config.seed)
        standing = Standing(_fresh(config, say), None, Position())
        if first:
            folder.begin(config, files)
    if config.copy_paste.mode == "fcp" and not standing.model.pastes_features:
        name = standing.model.config.name
        raise SettingsError(f"copy_paste.mode: {name} takes no pasted features; choose icp or none.")
    return standing


def _fresh(config: TrainConfig, say: Callable[[str], None]) -> MattingNetwork:
    """The network as training begins."""
    given = config.model.model_dump()
    if config.initial_weights is None:
        return create_model(**given)
    model = create_model(**given | {"encoder_weights": RANDOM})
    say(f"initial weights: {load_initial(model, config.initial_weights)}")
    return model


def how_it_computes(config: TrainConfig, device: torch.device, precision: str, loaders: int, world: int) -> str:
    """On what a run is about to compute, and how; on a CPU that nobody asked for, why it is one.

    Args:
        config: Settings.
        device: Of this process.
        precision: Of its steps.
        loaders: Processes that load.
        world: Processes that train together.
    """
    name = device_name(device)
    if device.type == "cpu" and config.device == "auto":
        name += f" ({why_no_gpu()})"
    told = f"device: {name}, {precision}; steps of {config.batch * config.accumulation * world} crops"
    if config.accumulation > 1:
        told += f" in {config.accumulation} parts"
    return told + (f", loaded by {loaders} processes" if loaders else ", loaded in this process")


def told_at_first(
    config: TrainConfig, terms: Sequence[str], idle: Mapping[str, str], colours: str, sources: Sources | None
) -> Iterator[str]:
    """What counts in the loss, and what does not; what is pasted.

    Args:
        config: Settings.
        terms: Parts that count.
        idle: Why other parts do not.
        colours: Where the foreground's colours come from, see `p3mnet.data.TrainingSet`.
        sources: Faces to paste.
    """
    yield f"terms of the loss: {', '.join(terms)}"
    if "composition" in terms:
        yield f"colours of the composition: {_COLOURS[colours]}"
    for name, why in idle.items():
        yield f"left out of the loss: {name} ({why})"
    pasting = config.copy_paste
    if pasting.mode != "none" and sources is not None:
        match = "" if pasting.match == "none" else f", matched by {pasting.match}"
        yield (
            f"pasted faces: {pasting.mode} from epoch {pasting.start_epoch} on, with a probability of "
            f"{pasting.probability:g}, of {len(sources)} sources{match}"
        )
