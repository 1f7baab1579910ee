"""ResNets of bottlenecks with batch norm: ResNet-50 (He et al., 2016) and ResNeXt-101 32x8d (Xie et al., 2017).

Names and shapes are those of the ordinary networks, so that their ImageNet weights fit as they are, but for the first
convolution where the input has more than three channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from p3mnet.maps import pool

_EXPANSION = 4
_STEM = 64


class Shape(NamedTuple):
    """Blocks of the four stages; groups of the 3x3 convolutions, and channels of each group in the first stage."""

    depths: tuple[int, int, int, int]
    groups: int = 1
    group_width: int = 64


RESNET50 = Shape((3, 4, 6, 3))
RESNEXT101 = Shape((3, 4, 23, 3), 32, 8)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution with batch norm around a shortcut."""

    def __init__(self, before: int, inner: int, after: int, stride: int, dilation: int, groups: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, inner, 1, bias=False)
        self.bn1: nn.Module = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=dilation, dilation=dilation, groups=groups, bias=False)
        self.bn2: nn.Module = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, after, 1, bias=False)
        self.bn3: nn.Module = nn.BatchNorm2d(after)
        self.downsample: nn.Module = nn.Identity()
        if before != after or stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        """[N, before, H, W] -> [N, after, H / stride, W / stride]."""
        inner = F.relu(self.bn1(self.conv1(x)), inplace=True)
        inner = F.relu(self.bn2(self.conv2(inner)), inplace=True)
        return F.relu(self.bn3(self.conv3(inner)) + self.downsample(x), inplace=True)


class BottleneckNet(nn.Module):
    """The network without its classifier.

    Attributes:
        widths: Channels of the maps that `forward` gives.

    Args:
        shape: Which network.
        channels_in: Of the input.
        dilations: Of the stages 3 and 4; above 1 it takes the place of that stage's stride.
    """

    widths: ClassVar[tuple[int, ...]] = (64, 256, 512, 1024, 2048)
    unused_in_reference: ClassVar[int] = 0

    def __init__(self, shape: Shape, channels_in: int = 3, dilations: Sequence[int] = (1, 1)) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, _STEM, 7, 2, padding=3, bias=False)
        self.bn1: nn.Module = nn.BatchNorm2d(_STEM)
        stages = []
        before, spread = _STEM, 1
        for number, (blocks, dilation) in enumerate(zip(shape.depths, (1, 1, *dilations), strict=True)):
            after = self.widths[number + 1]
            inner = shape.groups * shape.group_width * 2**number
            stride = 2 if number and dilation == 1 else 1
            # As in torchvision: the first block of a dilated stage keeps the dilation that there was before.
            first = Bottleneck(before, inner, after, stride, spread, shape.groups)
            spread = dilation
            rest = (Bottleneck(after, inner, after, 1, dilation, shape.groups) for _ in range(blocks - 1))
            stages.append(nn.Sequential(first, *rest))
            before = after
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """[N, channels_in, H, W] -> maps of the stem (stride 2) and of the four stages, and the indices of the pooling.

        The windows of the pooling are 3x3 and overlap; its indices are positions in the plane of stride 2.
        """
        maps = [F.relu(self.bn1(self.conv1(x)), inplace=True)]
        pooled, index = pool(maps[0], 3)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            pooled = layer(pooled)
            maps.append(pooled)
        return maps, index
