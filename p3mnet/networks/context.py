"""Context modules that several of the compared networks share, with batch norm: pyramid pooling, atrous pooling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from p3mnet import maps


def conv_unit(before: int, after: int, kernel: int = 3, dilation: int = 1, *, bias: bool = False) -> nn.Sequential:
    """Convolution, batch norm, ReLU; the size stays."""
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(before, after, kernel, padding=padding, dilation=dilation, bias=bias)
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU(inplace=True))


class PyramidPooling(nn.Module):
    """PSPNet's: averages over 1, 2x2, 3x3 and 6x6 cells, each a quarter as wide, beside the map itself.

    Args:
        before: Channels of the input.
        after: Channels of the output, made by a 3x3 convolution.
    """

    cells = (1, 2, 3, 6)

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        quarter = before // len(self.cells)
        self.project = nn.ModuleList([conv_unit(before, quarter, 1) for _ in self.cells])
        self.merge = conv_unit(before + quarter * len(self.cells), after)

    def forward(self, x: Tensor) -> Tensor:
        """[N, before, h, w] -> [N, after, h, w]."""
        context = [
            F.interpolate(unit(average(x, cells)), x.shape[-2:], mode="bilinear", align_corners=False)
            for unit, cells in zip(self.project, self.cells, strict=True)
        ]
        merged: Tensor = self.merge(torch.cat([x, *context], 1))
        return merged


def average(x: Tensor, cells: int) -> Tensor:
    """Means of cells x cells parts of a map, at least a pixel each."""
    return maps.average(x, min(cells, x.shape[-2]), min(cells, x.shape[-1]))


class AtrousPooling(nn.Module):
    """DeepLab's: a 1x1 convolution, 3x3 ones at several dilations, and the mean of the whole map.

    Args:
        before: Channels of the input.
        after: Channels of each branch and of the output.
        dilations: Of the 3x3 convolutions.
    """

    def __init__(self, before: int, after: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.point = conv_unit(before, after, 1)
        self.branches = nn.ModuleList([conv_unit(before, after, 3, rate) for rate in dilations])
        # Batch norm has nothing to normalise over in a batch of one mean.
        self.whole = nn.Sequential(nn.Conv2d(before, after, 1), nn.ReLU(inplace=True))
        self.merge = conv_unit((len(dilations) + 2) * after, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, before, h, w] -> [N, after, h, w]."""
        whole = self.whole(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[-2:])
        merged: Tensor = self.merge(torch.cat([self.point(x), *(branch(x) for branch in self.branches), whole], 1))
        return merged
