"""IndexNet matting (Lu, Dai, Shen, Xu, 'Indices Matter', ICCV 2019) with MobileNetV2.

Pooling and unpooling are guided by learned indices: at five places of the encoder a small network says how much each
pixel of a 2x2 block counts when the block is averaged (softmax), and how much of an upsampled value it gets in the
decoder (sigmoid). This is the variant that the authors recommend and publish weights of: depthwise many-to-one
index networks with non-linearity and context, atrous pooling, 5x5 convolutions in the decoder.

Published: all of it, the trimap as fourth channel of values 0, 128/255, 1; alpha is clipped where it is used, and
losses are taken on the unknown region (alpha and composition). Left as published: feature maps are padded before the
expansion of an inverted residual, so that its batch norm sees the border."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from p3mnet.model import ModelConfig
from p3mnet.networks.trimap_based import (
    AlphaOfPair,
    as_channel,
)

# Expansion, output channels, blocks of MobileNetV2's stages 1 to 7.
_STAGES = ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1))
_STEM = 32
# Stages (0 is the stem) whose maps are halved, in place of MobileNetV2's strides.
_HALVED = (0, 2, 3, 4, 6)
_CONTEXT, _BRANCH = 160, 256
_DILATIONS = (2, 4, 8)
# Output channels of the decoder's levels 6 .. 0; level k sees the encoder's stage k.
_DECODER = (96, 64, 32, 24, 16, 32, 32)
# Trimaps are files of 0, 128 and 255 that are divided by 255.
_UNKNOWN = 128 / 255


def _unit(before: int, after: int, kernel: int, dilation: int = 1, groups: int = 1) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(before, after, kernel, padding=padding, dilation=dilation, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU6(inplace=True))


class PaddedResidual(nn.Module):
    """An inverted residual without stride whose input is padded, where the ordinary one pads inside."""

    def __init__(self, before: int, after: int, expansion: int) -> None:
        super().__init__()
        inner = expansion * before
        self.shortcut = before == after
        depthwise = nn.Conv2d(inner, inner, 3, groups=inner, bias=False)
        self.conv = nn.Sequential(
            *(_unit(before, inner, 1) if expansion > 1 else ()),
            depthwise, nn.BatchNorm2d(inner), nn.ReLU6(inplace=True),
            nn.Conv2d(inner, after, 1, bias=False), nn.BatchNorm2d(after),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """[N, before, H, W] -> [N, after, H, W]."""
        out: Tensor = self.conv(F.pad(x, (1, 1, 1, 1)))
        return x + out if self.shortcut else out


class IndexNetwork(nn.Module):
    """Indices for the 2x2 blocks of a map: four times a 4x4 convolution of stride 2, then 1x1, one for each pixel.

    Args:
        channels: Of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.context = nn.Conv2d(channels, 4 * channels, 4, 2, padding=1, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(4 * channels)
        self.index = nn.Conv2d(4 * channels, 4 * channels, 1, groups=4, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, channels, 2h, 2w] -> weights of that shape: for pooling, whose blocks sum to 1; for upsampling."""
        four = self.index(F.relu6(self.norm(self.context(x)), inplace=True)).unflatten(1, (4, self.channels))
        gate = torch.sigmoid(four)
        # The four of a channel lie beside each other, as `pixel_shuffle` spreads them.
        pool, up = (F.pixel_shuffle(values.transpose(1, 2).flatten(1, 2), 2) for values in (gate.softmax(1), gate))
        return pool, up


class AtrousPooling(nn.Module):
    """Context at several dilations, depthwise separable, and of the whole map."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.point = _unit(before, _BRANCH, 1)
        self.branches = nn.ModuleList(
            [
                nn.Sequential(*_unit(before, before, 3, rate, groups=before), *_unit(before, _BRANCH, 1))
                for rate in _DILATIONS
            ]
        )
        self.whole = _unit(before, _BRANCH, 1)
        self.dropout = nn.Dropout(0.5)
        self.merge = _unit((len(_DILATIONS) + 2) * _BRANCH, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, before, h, w] -> [N, after, h, w]."""
        whole = self.whole(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[-2:])
        parts = [self.point(x), *(branch(x) for branch in self.branches), whole]
        merged: Tensor = self.dropout(self.merge(torch.cat(parts, 1)))
        return merged


class IndexedMobileNetV2(nn.Module):
    """MobileNetV2 with index networks in place of strides; ImageNet weights fit the inverted residuals and the stem."""

    unused_in_reference: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([_unit(4, _STEM, 3)])
        before = _STEM
        for expansion, width, blocks in _STAGES:
            layers = [PaddedResidual(before if block == 0 else width, width, expansion) for block in range(blocks)]
            self.stages.append(nn.Sequential(*layers))
            before = width
        widths = (_STEM, *(width for _, width, _ in _STAGES))
        self.indices = nn.ModuleDict({str(stage): IndexNetwork(widths[stage]) for stage in _HALVED})

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor], dict[int, Tensor]]:
        """[N, 4, H, W] -> the deepest map, the maps of stages 0 to 6, the weights for upsampling by stage."""
        skips: list[Tensor] = []
        upward: dict[int, Tensor] = {}
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number in _HALVED:
                pool, upward[number] = self.indices[str(number)](x)
                x = pool * x
            skips.append(x)
            if number in _HALVED:
                # The weights of a block sum to 1: its sum is the weighted mean.
                x = 4 * F.avg_pool2d(x, 2)
        return x, skips[:-1], upward


class IndexNet(AlphaOfPair):
    """The network.

    Args:
        config: `name` is all that counts.
    """

    unbounded: ClassVar[bool] = True

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder: Any = IndexedMobileNetV2()
        self.context = AtrousPooling(_STAGES[-1][1], _CONTEXT)
        before, levels = _CONTEXT, []
        for width in _DECODER:
            levels.append(_unit(2 * before, width, 5))
            before = width
        self.decoder = nn.ModuleList(levels)
        self.head = _unit(before, 1, 5)
        self.last = nn.Conv2d(1, 1, 5, padding=2, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        # What it sees is not negative: with a negative sum alpha would stay below 0, where no loss of a clip moves it.
        with torch.no_grad():
            self.last.weight.abs_()

    def alpha_of(self, image: Tensor, trimap: Tensor) -> Tensor:
        """See `AlphaOfPair`."""
        x, skips, upward = self.encoder(torch.cat([image, as_channel(trimap, image.dtype, _UNKNOWN)], 1))
        x = self.context(x)
        for unit, stage in zip(self.decoder, range(len(skips) - 1, -1, -1), strict=True):
            if stage in upward:
                x = upward[stage] * F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = unit(torch.cat([x, skips[stage]], 1))
        alpha: Tensor = self.last(self.head(x))
        return alpha
