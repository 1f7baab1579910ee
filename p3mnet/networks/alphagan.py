"""AlphaGAN (Lutz, Amplianitis, Smolic, BMVC 2018): a matting network that also has to fool a discriminator.

Generator: ResNet-50 whose last two stages are dilated by 2 and 4, atrous pooling at 6, 12 and 18, and a decoder with
three shortcuts, one of which unpools with the indices of the encoder's pooling. Discriminator: a 70x70 PatchGAN that
sees a composite with its trimap. Losses: absolute error of alpha and of the composite in the unknown region, and the
adversarial one.

Published: encoder, atrous pooling, 48 channels in the first shortcut, the discriminator, the three losses. Not
published, decided here: widths of the decoder (256, 64, 32), 3x3 convolutions of batch norm and ReLU throughout, a
sigmoid for alpha, a tenth of the weight for the adversarial loss, one optimiser for both players. No number of
parameters was published. The composite is made over the picture's own foreground and background, or over the batch's
pictures where a dataset has no colours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from p3mnet.encoders.bottleneck import RESNET50, BottleneckNet
from p3mnet.maps import unpool
from p3mnet.model import ModelConfig
from p3mnet.networks.context import AtrousPooling, conv_unit
from p3mnet.networks.critic import PatchCritic, adversarial_losses
from p3mnet.networks.terms import composite, has_colours
from p3mnet.networks.trimap_based import (
    AlphaOfPair,
    TrimapMatting,
    as_channel,
    keep_known,
    unknown_losses,
)

_DILATIONS = (6, 12, 18)
_DEEP, _MIDDLE, _FINE = 256, 64, 32
_SHORTCUT = 48
# Of the generator's adversarial loss beside the others.
_ADVERSARIAL = 0.1


class AlphaGAN(AlphaOfPair):
    """Generator and discriminator.

    Args:
        config: `name` is all that counts.
    """

    stride: ClassVar[int] = 8

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder: Any = BottleneckNet(RESNET50, 4, (2, 4))
        self.context = AtrousPooling(BottleneckNet.widths[-1], _DEEP, _DILATIONS)
        self.shortcut4 = conv_unit(BottleneckNet.widths[1], _SHORTCUT, 1)
        self.at4 = nn.Sequential(conv_unit(_DEEP + _SHORTCUT, _DEEP), conv_unit(_DEEP, _MIDDLE))
        self.shortcut2 = conv_unit(BottleneckNet.widths[0], _FINE, 1)
        self.at2 = nn.Sequential(conv_unit(_MIDDLE + _FINE, _MIDDLE), conv_unit(_MIDDLE, _FINE))
        self.at1 = nn.Sequential(conv_unit(_FINE + 4, _FINE), nn.Conv2d(_FINE, 1, 3, padding=1))
        self.critic = PatchCritic(4)

    @property
    def terms(self) -> tuple[str, ...]:
        """See `MattingNetwork.terms`."""
        return ("unknown_alpha", "unknown_composition", "adversarial", "critic")

    def own_losses(self, output: TrimapMatting, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Alpha and composite in the unknown region, and both players of the adversarial game (section 3.3)."""
        parts = unknown_losses(output, batch, {"unknown_alpha": 1.0, "unknown_composition": 1.0})
        image = batch["image"].to(torch.get_default_dtype())
        marks = as_channel(batch["trimap"], image.dtype)
        # Over another picture's background, as far as the batch has colours: a wrong alpha shows there.
        alpha = keep_known(output.alpha.to(image.dtype), batch["trimap"])
        if has_colours(batch):
            other = {**batch, "background": batch["background"].roll(1, 0)}
            real, fake = composite(batch["alpha"].to(image.dtype), other), composite(alpha, other)
        else:
            other_image = image.roll(1, 0)
            real, fake = (a * image + (1 - a) * other_image for a in (batch["alpha"].to(image.dtype), alpha))
        players = adversarial_losses(self.critic, *(torch.cat([x, marks], 1) for x in (real, fake)))
        parts["adversarial"], parts["critic"] = players
        parts["total"] = parts["total"] + _ADVERSARIAL * players[0] + players[1]
        return parts

    def alpha_of(self, image: Tensor, trimap: Tensor) -> Tensor:
        """See `AlphaOfPair`."""
        pair = torch.cat([image, as_channel(trimap, image.dtype)], 1)
        (at2, at4, *_, deepest), index = self.encoder(pair)
        x = F.interpolate(self.context(deepest), at4.shape[-2:], mode="bilinear", align_corners=False)
        x = self.at4(torch.cat([x, self.shortcut4(at4)], 1))
        # 64 channels meet the 64 of the pooling; where windows share a maximum, one of their values stays.
        x = unpool(x, index, 3)
        x = self.at2(torch.cat([x, self.shortcut2(at2)], 1))
        x = F.interpolate(x, image.shape[-2:], mode="bilinear", align_corners=False)
        return torch.sigmoid(self.at1(torch.cat([x, pair], 1)))
