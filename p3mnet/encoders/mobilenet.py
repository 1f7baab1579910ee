"""MobileNetV2 (Sandler et al., 2018), the encoder of MODNet.

Names and shapes are those of the ordinary MobileNetV2, so that its ImageNet weights fit as they are.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

# Expansion, channels, blocks, stride of the first block.
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
_STEM, _LAST = 32, 1280


def _unit(channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out), nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise 3x3, 1x1 projection without activation; a shortcut where the shape stays."""

    def __init__(self, channels_in: int, channels_out: int, expansion: int, stride: int) -> None:
        super().__init__()
        inner = expansion * channels_in
        self.shortcut = stride == 1 and channels_in == channels_out
        self.conv = nn.Sequential(
            *([_unit(channels_in, inner, 1)] if expansion > 1 else []),
            _unit(inner, inner, 3, stride, groups=inner),
            nn.Conv2d(inner, channels_out, 1, bias=False),
            nn.BatchNorm2d(channels_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels_in, H, W] -> [N, channels_out, H / stride, W / stride]."""
        y: Tensor = self.conv(x)
        return x + y if self.shortcut else y


class MobileNetV2(nn.Module):
    """The network without its classifier.

    Attributes:
        widths: Channels at the strides 2, 4, 8, 16, 32.
    """

    widths: ClassVar[tuple[int, ...]] = (16, 24, 32, 96, _LAST)
    unused_in_reference: ClassVar[int] = 0
    # Number of the layer whose output is complete at stride 4.
    FIRST_STAGE: ClassVar[int] = 3
    # Where in `features` the maps of these strides are complete.
    _ENDS: ClassVar[tuple[int, ...]] = (2, 4, 7, 14, 19)

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_unit(3, _STEM, 3, stride=2)]
        before = _STEM
        for expansion, channels, blocks, stride in _STAGES:
            for block in range(blocks):
                layers.append(InvertedResidual(before, channels, expansion, stride if block == 0 else 1))
                before = channels
        layers.append(_unit(before, _LAST, 1))
        self.features = nn.Sequential(*layers)

    def stem(self, image: Tensor) -> Tensor:
        """[N, 3, H, W], ImageNet-normalised -> E_0 [N, 32, H / 2, W / 2]."""
        e0: Tensor = self.features[0](image)
        return e0

    def pyramid(self, e0: Tensor) -> list[Tensor]:
        """E_0 -> maps of the strides 2, 4, 8, 16, 32, `widths` channels each."""
        found, x = [], e0
        for number, layer in enumerate(self.features):
            x = layer(x) if number else x
            if number + 1 in self._ENDS:
                found.append(x)
        return found

    def forward(self, image: Tensor) -> list[Tensor]:
        """Images of sides that are multiples of 32 -> maps of the strides 2, 4, 8, 16, 32."""
        return self.pyramid(self.stem(image))
