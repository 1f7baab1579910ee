"""VGG-16 with batch norm (Simonyan and Zisserman, 2015), the encoder of DIM and of SHM's matting network."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

# Output channels of its convolutions between the poolings.
BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG16(nn.Module):
    """The convolutions and their poolings; names and shapes but the first are those of its ImageNet weights.

    Args:
        channels_in: Of the input.
        poolings: How many of the five poolings there are; the last blocks may do without.
    """

    unused_in_reference: ClassVar[int] = 0

    def __init__(self, channels_in: int, poolings: int = len(BLOCKS)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = channels_in
        for number, block in enumerate(BLOCKS):
            for width in block:
                layers += [nn.Conv2d(before, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
                before = width
            if number < poolings:
                layers.append(nn.MaxPool2d(2, return_indices=True))
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """[N, channels_in, H, W] -> the deepest map of 512 channels, and the poolings' indices, first one first."""
        indices = []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                x, index = layer(x)
                indices.append(index)
            else:
                x = layer(x)
        return x, indices
