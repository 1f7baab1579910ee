"""ResNet-34 with max pooling in place of strides (He et al., 2016; P3M-Net's encoder 'ResNet-34 MP').

Module names and weight shapes are those of the ordinary ResNet-34, so that its ImageNet weights fit as they are.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from p3mnet.encoders.contract import Encoder, Features

DEPTHS = (3, 4, 6, 3)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm around a shortcut, which is a 1x1 convolution where channels change.

    Args:
        channels_in: Channels of the input.
        channels_out: Channels of the output.
        stride: Of the first convolution and of the shortcut; above 1 only where channels change.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.bn1: nn.Module = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2: nn.Module = nn.BatchNorm2d(channels_out)
        self.downsample = (
            nn.Identity()
            if channels_in == channels_out
            else nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels_in, H, W] -> [N, channels_out, H / stride, W / stride]."""
        inner = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(inner)) + self.downsample(x), inplace=True)


class ResNet34(Encoder):
    """Stem 7x7 with stride 1 (E_0), then five poolings and four stages of 3, 4, 6, 3 blocks.

    The first skip is the pooled E_0: two poolings follow each other before stage 1.

    Args:
        pool_kernel: 3 as published; its windows overlap, so that 17 to 22 % of the values that the 2x2 unpooling
            moves back fall on a place that is taken, and the last one stays. 2 has no such collisions and is for new
            training.
    """

    widths: ClassVar[tuple[int, ...]] = (64, 64, 64, 128, 256, 512)
    unused_in_reference: ClassVar[int] = 512 * 1000 + 1000

    def __init__(self, pool_kernel: int = 3) -> None:
        super().__init__(pool_kernel)
        self.conv1 = nn.Conv2d(3, self.widths[0], 7, padding=3, bias=False)
        self.bn1: nn.Module = nn.BatchNorm2d(self.widths[0])
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            nn.Sequential(*(BasicBlock(before if block == 0 else after, after) for block in range(depth)))
            for depth, before, after in zip(DEPTHS, self.widths[1:-1], self.widths[2:], strict=True)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stem(self, image: Tensor) -> Tensor:
        """Images [N, 3, H, W], ImageNet-normalised -> E_0 [N, 64, H, W]."""
        return F.relu(self.bn1(self.conv1(image)), inplace=True)

    def pyramid(self, e0: Tensor) -> Features:
        """E_0 -> all features, E_0 among them."""
        x, index = self.pool(e0)
        skips, indices = [x], [index]
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x, index = self.pool(x)
            x = layer(x)
            skips.append(x)
            indices.append(index)
        return Features(e0, tuple(skips[:-1]), x, tuple(indices))


class NarrowResNet34(ResNet34):
    """ResNet-34 with an eighth of its channels, for smoke checks on a CPU; there are no weights for it."""

    widths: ClassVar[tuple[int, ...]] = (8, 8, 8, 16, 32, 64)
    unused_in_reference: ClassVar[int] = 0
