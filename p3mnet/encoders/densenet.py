"""DenseNet-201 (Huang et al., 2017), the encoder of LF."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from p3mnet.maps import pool_overlapping

_BLOCKS = (6, 12, 48, 32)
_GROWTH, _BOTTLENECK, _STEM = 32, 4, 64


class DenseLayer(nn.Module):
    """Batch norm, ReLU and convolution twice, 1x1 and 3x3; its 32 channels are put behind its input."""

    def __init__(self, before: int) -> None:
        super().__init__()
        inner = _BOTTLENECK * _GROWTH
        self.norm1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, inner, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, _GROWTH, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, before, H, W] -> [N, before + 32, H, W]."""
        inner = self.conv1(F.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(F.relu(self.norm2(inner)))], 1)


class Transition(nn.Module):
    """Between two blocks: half of the channels, half of the size."""

    def __init__(self, before: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(before)
        self.conv = nn.Conv2d(before, before // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, before, H, W] -> [N, before / 2, H / 2, W / 2]."""
        return F.avg_pool2d(self.conv(F.relu(self.norm(x))), 2)


class DenseNet201(nn.Module):
    """The network without its classifier.

    Attributes:
        widths: Channels at the strides 2, 4, 8, 16, 32: of the stem, and of the blocks before their transitions.
    """

    widths: ClassVar[tuple[int, ...]] = (64, 256, 512, 1792, 1920)
    unused_in_reference: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(3, _STEM, 7, 2, padding=3, bias=False)
        self.norm0: nn.Module = nn.BatchNorm2d(_STEM)
        self.blocks, self.transitions = nn.ModuleList(), nn.ModuleList()
        before = _STEM
        for number, layers in enumerate(_BLOCKS):
            self.blocks.append(nn.Sequential(*(DenseLayer(before + k * _GROWTH) for k in range(layers))))
            before += layers * _GROWTH
            if number < len(_BLOCKS) - 1:
                self.transitions.append(Transition(before))
                before //= 2
        self.norm5 = nn.BatchNorm2d(before)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> list[Tensor]:
        """[N, 3, H, W] -> maps at the strides 2, 4, 8, 16, 32."""
        maps = [F.relu(self.norm0(self.conv0(x)), inplace=True)]
        inner = pool_overlapping(maps[0])
        for number, block in enumerate(self.blocks):
            inner = block(inner)
            maps.append(inner if number < len(self.transitions) else F.relu(self.norm5(inner)))
            if number < len(self.transitions):
                inner = self.transitions[number](inner)
        return maps
