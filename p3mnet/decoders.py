"""The two decoders of P3M-Net. Both are built by `conv_stages` from an encoder's widths, five levels from 4 to 0.

Level k takes features of stride 2^(k+1) and hands over features of stride 2^k. The segmentation decoder upsamples
bilinearly and predicts the trimap; the matting decoder unpools with the encoder's indices and predicts alpha.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from p3mnet.blocks import DBFI, SBFI, TFI, TRIMAP_CLASSES, ConvUnit
from p3mnet.encoders.contract import Features
from p3mnet.maps import unpool, upsample

Narrowing = Literal["first", "last"]
TFI_LEVELS = (3, 2, 1, 0)
BFI_LEVELS = (2, 1, 0)


def conv_stages(widths: Sequence[int], narrowing: Narrowing) -> nn.ModuleList:
    """Convolutions of a decoder: three units at levels 1 to 4, two at level 0; index = level.

    Args:
        widths: Channels of the encoder at strides 1, 2, 4, 8, 16, 32; level k goes from `widths[k + 1]` to `widths[k]`.
        narrowing: Which of the three convolutions of a level changes the number of channels.
    """
    stages = nn.ModuleList()
    for level, (thin, wide) in enumerate(itertools.pairwise(widths)):
        channels = (wide, thin, thin, thin) if narrowing == "first" else (wide, wide, wide, thin)
        units = [ConvUnit(before, after) for before, after in itertools.pairwise(channels)]
        stages.append(nn.Sequential(*(units if level else units[:2])))
    return stages


class Segmentation(NamedTuple):
    """What the segmentation decoder hands over.

    Attributes:
        logits: Trimap scores [N, 3, H, W]: background, transition, foreground.
        guidance: F_s for the TFI, index = level: the output of level k + 1, of stride 2^(k+1).
        sides: Trimap scores [N, 3, H, W] of the dBFI at levels 2, 1, 0; empty without dBFI.
    """

    logits: Tensor
    guidance: tuple[Tensor, ...]
    sides: tuple[Tensor, ...]


class SegmentationDecoder(nn.Module):
    """Predicts background, transition and foreground; dBFI feeds levels 2, 1 and 0.

    Args:
        widths: As in `conv_stages`.
        narrowing: As in `conv_stages`. With "last" the last convolution of level 0 narrows to the three classes before
            the last upsampling; with "first" one more convolution does so at full resolution.
        dbfi: Whether the deep bipartite-feature integration is there.
    """

    def __init__(self, widths: Sequence[int], narrowing: Narrowing, *, dbfi: bool = True) -> None:
        super().__init__()
        self.stages = conv_stages(widths, narrowing)
        if narrowing == "first":
            last = nn.Conv2d(widths[0], widths[0], 3, padding=1)
            self.head: nn.Module = nn.Conv2d(widths[0], TRIMAP_CLASSES, 3, padding=1)
        else:
            last = nn.Conv2d(widths[1], TRIMAP_CLASSES, 3, padding=1)
            self.head = nn.Identity()
        self.stages[0] = nn.Sequential(*self.stages[0].children(), last)
        self.dbfi = nn.ModuleList(
            [DBFI(widths[level + 1], widths[-1], 2 ** (4 - level)) for level in range(len(BFI_LEVELS))] if dbfi else []
        )

    def forward(self, features: Features) -> Segmentation:
        """Encoder features of an image whose sides are multiples of 32 -> logits, guidance, side logits."""
        x = features.e4
        guidance: list[Tensor] = []
        sides: list[Tensor] = []
        for level in range(4, -1, -1):
            if self.dbfi and level in BFI_LEVELS:
                x, side = self.dbfi[level](x, features.e4)
                sides.append(side)
            x = upsample(self.stages[level](x), 2)
            guidance.insert(0, x)
        return Segmentation(self.head(x), tuple(guidance[1:]), tuple(sides))


class MattingDecoder(nn.Module):
    """Predicts alpha in the transition area; TFI feeds levels 3 to 0, sBFI then levels 2, 1 and 0.

    Without TFI a level goes on with the unpooled features alone (BASIC of the paper's ablation).

    Args:
        widths: As in `conv_stages`.
        narrowing: As in `conv_stages`.
        pool_kernel: Side of the encoder's pooling windows.
        tfi: Whether the tripartite-feature integration is there.
        sbfi: Whether the shallow bipartite-feature integration is there.
    """

    def __init__(
        self, widths: Sequence[int], narrowing: Narrowing, pool_kernel: int, *, tfi: bool = True, sbfi: bool = True
    ) -> None:
        super().__init__()
        self.pool_kernel = pool_kernel
        self.stages = conv_stages(widths, narrowing)
        self.tfi = nn.ModuleList([TFI(widths[level + 1]) for level in range(len(TFI_LEVELS))] if tfi else [])
        self.sbfi = nn.ModuleList(
            [SBFI(widths[level + 1], widths[0], 2 ** (level + 1)) for level in range(len(BFI_LEVELS))] if sbfi else []
        )
        self.head = nn.Conv2d(widths[0], 1, 3, padding=1)

    def forward(self, features: Features, guidance: Sequence[Tensor]) -> Tensor:
        """Encoder features and the segmentation decoder's guidance -> alpha [N, 1, H, W] in 0..1."""
        x = features.e4
        for level in range(4, -1, -1):
            if self.tfi and level in TFI_LEVELS:
                x = self.tfi[level](guidance[level], x, features.skips[level])
            if self.sbfi and level in BFI_LEVELS:
                x = self.sbfi[level](x, features.e0)
            x = unpool(self.stages[level](x), features.indices[level], self.pool_kernel)
        return torch.sigmoid(self.head(x))
