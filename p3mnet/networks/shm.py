"""SHM: semantic human matting (Chen, Ge, Xu, Zhang, Yang, Gai, ACM Multimedia 2018).

T-Net, a PSPNet-50, tells background, transition and foreground apart. M-Net, DIM's network without its widest layers
and with batch norm, sees the picture and T-Net's three probabilities. Their fusion (section 4.3) is a mean by
probability: alpha = F + U M, where F and U are T-Net's probabilities of foreground and transition.

Published: both networks, fusion, training in three stages: T-Net on the trimap, M-Net on alpha, then both on
gamma |alpha| + (1 - gamma) |composite| + 0.01 CE with gamma 0.5. Decided here: T-Net's output stride of 8 (dilations 2
and 4), 5x5 convolutions of M-Net's decoder as in DIM, four poolings (text) and so no unpooling before the first of its
six convolutions, which keeps 512 channels, probabilities in the order background, transition, foreground.

Number of parameters: 72,269,700 (T-Net 46,583,363, M-Net 25,686,337). The paper on P3M-Net gives 79.27 M for its own
build, whose layers are not published: 9.7 % more, about one more convolution of M-Net's widest kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from p3mnet.blocks import TRIMAP_CLASSES
from p3mnet.encoders.bottleneck import RESNET50, BottleneckNet
from p3mnet.encoders.vgg import BLOCKS, VGG16
from p3mnet.maps import unpool
from p3mnet.model import FOREGROUND, TRANSITION, Matting, MattingNetwork, ModelConfig, pad_to_stride
from p3mnet.networks.context import PyramidPooling, conv_unit
from p3mnet.networks.terms import absolute, colour_error, cross_entropy, has_colours, inside, staged_total, unknown

_POOLINGS = 4
_CONTEXT = 512
# Weights of the losses in the three stages.
_STAGES = (
    {"ce_global": 1.0, "detail": 0.0, "alpha": 0.0, "composition": 0.0},
    {"ce_global": 0.0, "detail": 1.0, "alpha": 0.0, "composition": 0.0},
    {"ce_global": 0.01, "detail": 0.0, "alpha": 0.5, "composition": 0.5},
)
# Channels behind the decoder's convolutions; the last four follow an unpooling, before which the map has the
# channels of the encoder's block.
_DECODER = (512, 256, 128, 64, 64)


class TNet(nn.Module):
    """PSPNet-50 for three classes."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = BottleneckNet(RESNET50, 3, (2, 4))
        self.context = PyramidPooling(BottleneckNet.widths[-1], _CONTEXT)
        self.dropout = nn.Dropout(0.1)
        self.classify = nn.Conv2d(_CONTEXT, TRIMAP_CLASSES, 1)

    def forward(self, image: Tensor) -> Tensor:
        """[N, 3, H, W] -> logits [N, 3, H, W]."""
        *_, deepest = self.backbone(image)[0]
        logits = self.classify(self.dropout(self.context(deepest)))
        return F.interpolate(logits, image.shape[-2:], mode="bilinear", align_corners=False)


class MNet(nn.Module):
    """VGG-16 with four poolings and a decoder of six 5x5 convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = VGG16(3 + TRIMAP_CLASSES, _POOLINGS)
        before, units = BLOCKS[-1][-1], []
        for width in _DECODER:
            units.append(conv_unit(before, width, 5, bias=True))
            before = width
        self.units = nn.ModuleList(units)
        self.head = nn.Conv2d(before, 1, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        """Picture and probabilities [N, 6, H, W], sides multiples of 16 -> alpha [N, 1, H, W] in 0..1."""
        x, indices = self.encoder(x)
        x = self.units[0](x)
        for unit, index in zip(self.units[1:], reversed(indices), strict=True):
            x = unit(unpool(x, index, 2))
        return torch.sigmoid(self.head(x))


class SHM(MattingNetwork):
    """The network.

    Args:
        config: `name` is all that counts.
    """

    one_alpha: ClassVar[bool] = True
    pastes_features: ClassVar[bool] = False
    staged: ClassVar[bool] = True

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.trimap = TNet()
        self.matting = MNet()

    @property
    def encoder(self) -> Any:
        """Of T-Net, whose ImageNet weights are loaded."""
        return self.trimap.backbone

    @property
    def terms(self) -> tuple[str, ...]:
        """See `MattingNetwork.terms`."""
        return ("ce_global", "detail", "alpha", "composition")

    def own_losses(self, output: Matting, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Trimap, M-Net alone, then alpha and composite with a hundredth of the trimap (section 4.4), a third each."""
        exact = torch.get_default_dtype()
        alpha = batch["alpha"].to(exact)
        parts = {
            "ce_global": cross_entropy(output.global_logits.to(exact), batch["trimap"]),
            "detail": inside(absolute(output.local.to(exact) - alpha), unknown(batch)),
            "alpha": absolute(output.fusion.to(exact) - alpha).mean(),
        }
        if has_colours(batch):
            parts["composition"] = colour_error(output.fusion.to(exact), batch).mean()
        return parts | {"total": staged_total(parts, _STAGES, self.progress)}

    def forward(self, image: Tensor, edit_e0: Callable[[Tensor], Tensor] | None = None) -> Matting:
        """See `MattingNetwork.forward`; `local` is M-Net's alpha."""
        height, width = image.shape[-2:]
        padded = pad_to_stride(image)
        logits = self.trimap(padded)
        probability = logits.softmax(1)
        local = self.matting(torch.cat([padded, probability], 1))
        # Slices: a list of one index would be copied to a GPU, for which the host waits.
        fusion = probability[:, FOREGROUND:] + probability[:, TRANSITION:FOREGROUND] * local
        logits, local, fusion = (x[..., :height, :width] for x in (logits, local, fusion))
        return Matting(logits, local, fusion, None, None, None)
