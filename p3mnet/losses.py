"""Losses that P3M-Net is trained with (paper, section 'P3M-Net', training; the published recipe's weights).

    total = (3 CE_global + CE_side2 + CE_side1 + CE_side0) / 6
            + 2 (alpha_T + laplacian_T) + 3 (alpha + laplacian) + composition

CE compares trimaps; alpha_T and laplacian_T compare the local alpha with the label in the transition area; alpha,
laplacian and composition compare the fused alpha with it everywhere. The fusion is an argmax of the trimap: its losses
train the matting decoder where the trimap says transition, and never the segmentation decoder through `global_logits`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from p3mnet.model import SEGMENTATION_TERMS, TRANSITION, Matting, MattingNetwork
from p3mnet.networks.gfm import Glance
from p3mnet.networks.modnet import Objectives, objective_losses
from p3mnet.networks.terms import absolute, composite, cross_entropy, has_colours, laplacian


class LossWeights(BaseModel):
    """Weights of the parts; the defaults are the recipe's.

    Attributes:
        ce_global, ce_side2, ce_side1, ce_side0: Of the trimap losses against each other. The weighted mean of those
            that are there goes into the total, so that the segmentation keeps its share in a network without dBFI.
        alpha_t, laplacian_t: Of the local alpha in the transition area.
        alpha, laplacian, composition: Of the fused alpha.
        segmentation: Of the mean of the trimap losses in the total.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ce_global: float = Field(3.0, ge=0)
    ce_side2: float = Field(1.0, ge=0)
    ce_side1: float = Field(1.0, ge=0)
    ce_side0: float = Field(1.0, ge=0)
    alpha_t: float = Field(2.0, ge=0)
    laplacian_t: float = Field(2.0, ge=0)
    alpha: float = Field(3.0, ge=0)
    laplacian: float = Field(3.0, ge=0)
    composition: float = Field(1.0, ge=0)
    segmentation: float = Field(1.0, ge=0)


# What networks are published with instead of the defaults; GFM's four terms weigh a quarter each (its trainer, 'TT').
PUBLISHED_WEIGHTS: dict[str, dict[str, float]] = {
    "gfm_resnet34": dict.fromkeys(("segmentation", "alpha_t", "laplacian_t", "alpha", "laplacian", "composition"), 0.25)
}


def terms_of(network: MattingNetwork, weights: LossWeights, colours: str) -> tuple[list[str], dict[str, str]]:
    """Which parts of the loss train a network, and why the others do not.

    Args:
        network: The network itself.
        weights: What its parts weigh.
        colours: Where foreground and background come from, see `p3mnet.data.TrainingSet.colours`.

    Returns:
        Names of the parts that count, and sentences by name of those that do not.
    """
    share, idle = weights.model_dump(), {}
    for name in network.terms:
        if name.endswith("composition") and colours == "none":
            idle[name] = "data.colours is none"
        elif share.get(name) == 0 or (name in SEGMENTATION_TERMS and not share["segmentation"]):
            idle[name] = f"losses.{name} is 0"
    return [name for name in network.terms if name not in idle], idle


def losses_of(
    network: MattingNetwork, output: Any, batch: Mapping[str, Tensor], weights: LossWeights | None = None
) -> dict[str, Tensor]:
    """The parts of the loss that a network is trained with, and their weighted sum "total".

    Args:
        network: Which gave the output. Some have losses of their own (`MattingNetwork.own_losses`), for which `weights`
            are not; the others have `matting_losses`.
        output, batch, weights: See `matting_losses`.
    """
    with torch.autocast(output.fusion.device.type, enabled=False):
        own = network.own_losses(output, batch)
    return matting_losses(output, batch, weights) if own is None else own


def matting_losses(
    output: Matting | Objectives, batch: Mapping[str, Tensor], weights: LossWeights | None = None
) -> dict[str, Tensor]:
    """All parts of the loss and their weighted sum, in PyTorch's default type (float32) even under autocast.

    Args:
        output: What the network says about images [N, 3, H, W], H and W at least 32. MODNet's has losses of its own,
            see `p3mnet.networks.modnet.objective_losses`; `weights` are not for it.
        batch: Of `p3mnet.loader.to_device`: `alpha` [N, 1, H, W] in 0..1, `trimap` int64 [N, 1, H, W] of
            0 (background), 1 (transition), 2 (foreground), and for the composition loss `image`, `foreground`,
            `background` [N, 3, H, W], ImageNet-normalised.
        weights: None takes what the network is published with.

    Returns:
        Scalars by name: "ce_global"; "ce_side2", "ce_side1", "ce_side0" if the network has dBFI; "alpha_t",
        "laplacian_t", "alpha", "laplacian"; "composition" if the batch has foreground and background; "total".
    """
    exact = torch.get_default_dtype()
    if weights is None:
        weights = LossWeights(**PUBLISHED_WEIGHTS["gfm_resnet34"] if isinstance(output, Glance) else {})
    if isinstance(output, Objectives):
        with torch.autocast(output.fusion.device.type, enabled=False):
            return objective_losses(output, batch)
    with torch.autocast(output.local.device.type, enabled=False):
        alpha, trimap = batch["alpha"].to(exact), batch["trimap"]
        squashed = isinstance(output, Glance)
        scores = dict(
            zip(SEGMENTATION_TERMS, (output.global_logits, output.side2, output.side1, output.side0), strict=True)
        )
        parts = {
            # GFM is published with the cross-entropy of its sigmoid.
            name: cross_entropy(logits.to(exact).sigmoid() if squashed else logits.to(exact), trimap)
            for name, logits in scores.items()
            if logits is not None
        }
        segmentation = list(parts)
        transition = (trimap == TRANSITION).to(exact)
        local = (output.local.to(exact) - alpha) * transition
        fusion = output.fusion.to(exact)
        fused = fusion - alpha
        parts["alpha_t"] = (absolute(local) * transition).sum() / (transition.sum() + 1)
        parts["laplacian_t"], whole = laplacian(torch.stack([local, fused]))
        parts["alpha"] = absolute(fused).mean()
        parts["laplacian"] = whole
        if has_colours(batch):
            parts["composition"] = _composition(fusion, batch)
        share = weights.model_dump()
        total = sum(share[name] * part for name, part in parts.items() if name not in segmentation)
        if scale := sum(share[name] for name in segmentation):
            mean = sum(share[name] * parts[name] for name in segmentation) / scale
            total = total + share["segmentation"] * mean
        parts["total"] = torch.as_tensor(total)
        return parts


def _composition(fusion: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """Distance of the image to its composition with the predicted alpha: summed over channels, mean over pixels.

    The colours are ImageNet-normalised, as in the recipe, which makes it 13.28 times the mean over plain RGB in 0..1.
    """
    return absolute(composite(fusion, batch) - batch["image"].to(fusion.dtype)).sum(1).mean()
