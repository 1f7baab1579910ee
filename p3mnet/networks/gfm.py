"""GFM: glance and focus from one encoder (Li et al., 'Bridging Composite and Real', IJCV 2022), ResNet-34, TT.

The glance decoder tells background, transition and foreground apart, the focus decoder predicts alpha, and the result
takes alpha where the glance says transition (representation of semantic and transition area, 'TT'). It has the outputs
of P3M-Net, whose forerunner it is, and its kinds of losses with weights of its own (`p3mnet.losses`). The glance hands
over logits; its loss takes their sigmoid, as published.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from p3mnet.blocks import TRIMAP_CLASSES, ConvUnit, project
from p3mnet.encoders.resnet import DEPTHS, BasicBlock, ResNet34
from p3mnet.maps import average, pool_overlapping, upsample
from p3mnet.model import MATTING_TERMS, Matting, MattingNetwork, ModelConfig, fuse, pad_to_stride

# Channels of E_0 .. E_4, at strides 2, 4, 8, 16, 32.
WIDTHS = ResNet34.widths[1:]
# Cells per side to which the pyramid pooling averages.
_CELLS = (1, 3, 5)


class Glance(Matting):
    """What GFM says; its trimap scores are compared after a sigmoid."""


class StridedResNet34(nn.Module):
    """The ordinary ResNet-34 without its classifier; names and shapes are those of its ImageNet weights."""

    unused_in_reference: ClassVar[int] = ResNet34.unused_in_reference

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 7, 2, padding=3, bias=False)
        self.bn1: nn.Module = nn.BatchNorm2d(WIDTHS[0])
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            nn.Sequential(
                BasicBlock(before, after, stride=1 if before == after else 2),
                *(BasicBlock(after, after) for _ in range(depth - 1)),
            )
            for depth, (before, after) in zip(DEPTHS, itertools.pairwise(WIDTHS), strict=True)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stem(self, image: Tensor) -> Tensor:
        """[N, 3, H, W], ImageNet-normalised -> E_0 [N, 64, H / 2, W / 2]."""
        return F.relu(self.bn1(self.conv1(image)), inplace=True)

    def pyramid(self, e0: Tensor) -> list[Tensor]:
        """E_0 -> E_0 .. E_4."""
        features = [e0, self.layer1(pool_overlapping(e0))]
        for layer in (self.layer2, self.layer3, self.layer4):
            features.append(layer(features[-1]))
        return features

    def forward(self, image: Tensor) -> list[Tensor]:
        """Images of sides that are multiples of 32 -> E_0 .. E_4."""
        return self.pyramid(self.stem(image))


class PyramidPooling(nn.Module):
    """Averages of E_4 over 1, 3x3 and 5x5 cells, spread over the map again and merged with it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project = nn.ModuleList([project(channels, channels) for _ in _CELLS])
        self.merge = nn.Conv2d((len(_CELLS) + 1) * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, h, w] -> the same shape, not negative."""
        context = [
            F.interpolate(layer(average(x, cells, cells)), x.shape[-2:], mode="bilinear", align_corners=True)
            for layer, cells in zip(self.project, _CELLS, strict=True)
        ]
        return F.relu(self.merge(torch.cat([*context, x], 1)))


def _decoder(outputs: int) -> nn.ModuleList:
    """Convolutions of a decoder, index = level; each level takes its features and as many channels beside them."""
    levels = nn.ModuleList()
    for level, wide in enumerate(WIDTHS):
        units = [ConvUnit(2 * wide, wide), ConvUnit(wide, wide)]
        thin = WIDTHS[level - 1] if level else outputs
        last = ConvUnit(wide, thin) if level else nn.Conv2d(wide, thin, 3, padding=1)
        levels.append(nn.Sequential(*units, last))
    return levels


def _decode(levels: nn.ModuleList, x: Tensor, beside: list[Tensor], first: bool = False) -> Tensor:
    """From E_4's stride to that of the image; `beside`, index = level, is seen together with the features.

    In the order of published weights: features first, or below the deepest level those beside them `first`.
    """
    deepest = len(WIDTHS) - 1
    for level in range(deepest, -1, -1):
        pair = [beside[level], x] if first and level < deepest else [x, beside[level]]
        x = upsample(levels[level](torch.cat(pair, 1)), 2)
    return x


class GFM(MattingNetwork):
    """GFM with ResNet-34 in TT mode: 55,286,316 parameters with the classifier that the published one holds.

    Args:
        config: `name` is all that counts.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = StridedResNet34()
        deepest = WIDTHS[-1]
        self.pooling = PyramidPooling(deepest)
        # From the pooled context to levels 3 .. 0 of the glance decoder.
        self.context = nn.ModuleList([ConvUnit(deepest, width) for width in WIDTHS[:-1]])
        self.glance = _decoder(TRIMAP_CLASSES)
        self.bridge = nn.Sequential(*(ConvUnit(deepest, deepest, dilation=2) for _ in range(3)))
        self.focus = _decoder(1)

    @property
    def terms(self) -> tuple[str, ...]:
        """See `MattingNetwork.terms`."""
        return ("ce_global", *MATTING_TERMS)

    def forward(self, image: Tensor, edit_e0: Callable[[Tensor], Tensor] | None = None) -> Glance:
        """See `MattingNetwork.forward`; pictures are padded inside to multiples of 32."""
        height, width = image.shape[-2:]
        e0 = self.encoder.stem(pad_to_stride(image).contiguous(memory_format=torch.channels_last))
        features = self.encoder.pyramid(e0 if edit_e0 is None else edit_e0(e0))
        e4 = features[-1]
        pooled = self.pooling(e4)
        context = [upsample(unit(pooled), 2 ** (4 - level)) for level, unit in enumerate(self.context)]
        logits = _decode(self.glance, pooled, [*context, e4], first=True)
        local = torch.sigmoid(_decode(self.focus, self.bridge(e4), features))
        logits, local = logits[..., :height, :width], local[..., :height, :width]
        return Glance(logits, local, fuse(logits, local), None, None, None)
