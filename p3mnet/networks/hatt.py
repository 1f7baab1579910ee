"""HATT: hierarchical attention matting (Qiao et al., 'Attention-Guided Hierarchical Structure Aggregation', CVPR 2020).

ResNeXt-101 and atrous pooling find what is where. Channel attention weighs the pooled features by their mean
(distillation); the result says, by spatial attention, which of the low features of stages 1 and 2 are let through
(filtration). Losses: mean squared error, structural similarity, and a patch discriminator that sees the picture with
its alpha.

Published: backbone, atrous pooling, which features meet which attention, the three losses. Not published, decided here:
widths (256 for the pooled features and for the merged ones), dilations 6, 12, 18 at stride 16, a squeeze by 16, one 3x3
convolution before each addition, bilinear upsampling, weights 1, 0.1 and 0.05 of the losses.

Number of parameters: 108,542,484, of which 2,766,657 are the discriminator's; the paper on P3M-Net gives 106.96 M and
does not say whether one is among them. Without it ours has 105,775,827: what lacks is as much as two more 3x3
convolutions of 256 channels with batch norm (1,180,672, together 106.96 M); where they would lie is not published.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from p3mnet.encoders.bottleneck import RESNEXT101, BottleneckNet
from p3mnet.model import MattingNetwork, ModelConfig, pad_to_stride
from p3mnet.networks.context import AtrousPooling, conv_unit
from p3mnet.networks.critic import PatchCritic, adversarial_losses

_DILATIONS = (6, 12, 18)
_WIDE, _LOW, _SQUEEZE = 256, 64, 16
_WEIGHTS = {"squared": 1.0, "structure": 0.1, "adversarial": 0.05, "critic": 1.0}
# Of the structural similarity: side of the window, and what keeps its ratios finite.
_WINDOW, _C1, _C2 = 11, 0.01**2, 0.03**2


class Hierarchical(NamedTuple):
    """What HATT says about images [N, 3, H, W].

    Attributes:
        fusion: Alpha [N, 1, H, W] in 0..1.
    """

    fusion: Tensor


class ChannelAttention(nn.Module):
    """Weighs channels by their means, a sixteenth as wide inside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // _SQUEEZE)
        self.excite = nn.Linear(channels // _SQUEEZE, channels)

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, h, w] -> the same shape."""
        weight = torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3))))))
        return x * weight[:, :, None, None]


class SpatialAttention(nn.Module):
    """Says for each place how much of the low features passes: a horizontal and a vertical 7-pixel convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.along = nn.Conv2d(channels, _SQUEEZE, (1, 7), padding=(0, 3))
        self.down = nn.Conv2d(_SQUEEZE, 1, (7, 1), padding=(3, 0))

    def forward(self, low: Tensor, deep: Tensor) -> Tensor:
        """Low features [N, c, H, W], deep ones [N, channels, H, W] -> [N, c, H, W]."""
        return low * torch.sigmoid(self.down(F.relu(self.along(deep))))


class HATT(MattingNetwork):
    """Network and discriminator.

    Args:
        config: `name` is all that counts.
    """

    one_alpha: ClassVar[bool] = True
    pastes_features: ClassVar[bool] = False

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder: Any = BottleneckNet(RESNEXT101, 3, (1, 2))
        _, low1, low2, _, deepest = BottleneckNet.widths
        self.context = AtrousPooling(deepest, _WIDE, _DILATIONS)
        self.distil = ChannelAttention(_WIDE)
        self.low2, self.low1 = conv_unit(low2, _WIDE), conv_unit(low1, _LOW)
        self.filter2, self.filter1 = SpatialAttention(_WIDE), SpatialAttention(_WIDE)
        self.merge2 = conv_unit(2 * _WIDE, _WIDE)
        self.merge1 = nn.Sequential(conv_unit(_WIDE + _LOW, _WIDE), conv_unit(_WIDE, _LOW))
        self.head = nn.Sequential(conv_unit(_LOW + 3, _LOW), nn.Conv2d(_LOW, 1, 3, padding=1))
        self.critic = PatchCritic(4)

    @property
    def terms(self) -> tuple[str, ...]:
        """See `MattingNetwork.terms`."""
        return ("squared", "structure", "adversarial", "critic")

    def own_losses(self, output: Hierarchical, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Squared error, structural similarity, and both players of the adversarial game (section 3.4)."""
        exact = torch.get_default_dtype()
        alpha, label = output.fusion.to(exact), batch["alpha"].to(exact)
        image = batch["image"].to(exact)
        players = adversarial_losses(self.critic, *(torch.cat([image, a], 1) for a in (label, alpha)))
        parts = {
            "squared": F.mse_loss(alpha, label),
            "structure": 1 - structural_similarity(alpha, label).mean(),
            "adversarial": players[0],
            "critic": players[1],
        }
        parts["total"] = torch.stack([_WEIGHTS[name] * part for name, part in parts.items()]).sum()
        return parts

    def forward(self, image: Tensor, edit_e0: Callable[[Tensor], Tensor] | None = None) -> Hierarchical:
        """See `MattingNetwork.forward`; pictures are padded inside to multiples of 32."""
        height, width = image.shape[-2:]
        padded = pad_to_stride(image)
        (_, at4, at8, _, deepest), _ = self.encoder(padded)
        deep = _resized(self.distil(self.context(deepest)), at8)
        deep = self.merge2(torch.cat([deep, self.filter2(self.low2(at8), deep)], 1))
        deep = _resized(deep, at4)
        deep = self.merge1(torch.cat([deep, self.filter1(self.low1(at4), deep)], 1))
        alpha = torch.sigmoid(self.head(torch.cat([_resized(deep, padded), padded], 1)))
        return Hierarchical(alpha[..., :height, :width])


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)


def structural_similarity(x: Tensor, y: Tensor) -> Tensor:
    """SSIM (Wang et al., 2004) of mattes [N, 1, H, W] in 0..1 in windows of 11x11 pixels of equal weight."""
    side = min(_WINDOW, *x.shape[-2:])
    mean_x, mean_y = (F.avg_pool2d(values, side, 1) for values in (x, y))
    square_x, square_y, both = (F.avg_pool2d(values, side, 1) for values in (x * x, y * y, x * y))
    variances = square_x - mean_x**2 + square_y - mean_y**2
    covariance = both - mean_x * mean_y
    similar = (2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)
    return similar / ((mean_x**2 + mean_y**2 + _C1) * (variances + _C2))
