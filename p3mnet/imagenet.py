"""ImageNet weights of the encoders: a file, or one of the Hugging Face hub with a known content."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from p3mdata.base.files import sha256
from p3mdata.errors import SetupError
from p3mnet.model import MattingNetwork
from p3mnet.published import (
    ENCODER_PREFIXES,
    FIRST_CONVOLUTIONS,
    IMAGENET_RULES,
    NOT_OF_IMAGENET,
    TORCHVISION_HAS,
    TORCHVISION_MOBILENET,
    imagenet_name,
    our_name,
)
from p3mnet.registry import HUB
from p3mnet.weights_files import OPTIONAL, fill, require_fit, state_dict_of


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
        fill(model, _of_imagenet(model, path))
        return
    if variant not in ENCODER_PREFIXES:
        raise SetupError(f"{variant}: no ImageNet weights of its encoder are known. Start with 'random'.")
    own = {name: value for name, value in model.state_dict().items() if name.startswith("encoder.")}
    fitting: dict[str, Tensor] = {}
    unknown: list[str] = []
    for name, value in state_dict_of(path).items():
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
        require_fit(own, fitting, unknown, whose)
    fill(model, fitting)


def _of_imagenet(model: MattingNetwork, path: Path) -> dict[str, Tensor]:
    """The entries of an ordinary ImageNet file by our names, the first convolution widened.

    Raises:
        SetupError: The file is of another network.
    """
    variant, state = model.config.name, model.state_dict()
    fitting: dict[str, Tensor] = {}
    unknown: list[str] = []
    file = state_dict_of(path)
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
    require_fit(own, fitting, unknown, f"{path} does not hold ImageNet weights for the encoder of {variant}")
    return fitting
