"""LF: a late fusion network for matting (Zhang et al., CVPR 2019).

DenseNet-201 feeds two decoders, one for the probability of foreground, one for that of background. Where they agree,
the answer is plain; where not, a small fusion network that sees the picture and both decoders' last features gives the
weight b of a blend (equation 2):

    alpha = b F + (1 - b) (1 - B)

Published: backbone, shortcuts, equation, three steps of training (decoders; fusion; all together), absolute errors with
a tenth of the weight where the matte is 0 or 1 in the fusion's step. Not published, decided here: one 3x3 convolution
with batch norm for each level of the decoders, of 256, 128, 64, 64 and 64 channels, a fusion of four 3x3 convolutions.

Number of parameters: 37,769,123; the paper on P3M-Net gives 37.91 M for its own build, whose layers are not published:
0.14 M more, which is less than one 3x3 convolution of 128 channels; the backbone alone has 18,092,928.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from p3mnet.encoders.densenet import DenseNet201
from p3mnet.model import MattingNetwork, ModelConfig, pad_to_stride
from p3mnet.networks.context import conv_unit
from p3mnet.networks.terms import absolute, staged_total

# Channels of the decoders' levels at strides 16, 8, 4, 2, 1.
_DECODER = (256, 128, 64, 64, 64)
_FUSION = (64, 64, 32)
# Weights of the losses in the three stages.
_STAGES = (
    {"foreground": 1.0, "background": 1.0, "blend": 0.0},
    {"foreground": 0.0, "background": 0.0, "blend": 1.0},
    {"foreground": 0.5, "background": 0.5, "blend": 1.0},
)


class LateFusion(NamedTuple):
    """What LF says about images [N, 3, H, W]; each [N, 1, H, W] in 0..1.

    Attributes:
        foreground, background: Probabilities of the two decoders.
        blend: b of the equation.
        fusion: Alpha.
    """

    foreground: Tensor
    background: Tensor
    blend: Tensor
    fusion: Tensor


class Decoder(nn.Module):
    """From DenseNet's deepest map to the picture's size."""

    def __init__(self) -> None:
        super().__init__()
        skips = (*reversed(DenseNet201.widths[:-1]), 3)
        before, units = DenseNet201.widths[-1], []
        for width, skip in zip(_DECODER, skips, strict=True):
            units.append(conv_unit(before + skip, width))
            before = width
        self.units = nn.ModuleList(units)
        self.head = nn.Conv2d(before, 1, 3, padding=1)

    def forward(self, maps: list[Tensor], image: Tensor) -> tuple[Tensor, Tensor]:
        """Maps at strides 2 .. 32, the picture -> probability [N, 1, H, W], features [N, 64, H, W]."""
        x = maps[-1]
        for unit, skip in zip(self.units, [*reversed(maps[:-1]), image], strict=True):
            x = F.interpolate(x, skip.shape[-2:], mode="bilinear", align_corners=False)
            x = unit(torch.cat([x, skip], 1))
        return torch.sigmoid(self.head(x)), x


class LF(MattingNetwork):
    """The network.

    Args:
        config: `name` is all that counts.
    """

    one_alpha: ClassVar[bool] = True
    pastes_features: ClassVar[bool] = False
    staged: ClassVar[bool] = True

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder: Any = DenseNet201()
        self.foreground, self.background = Decoder(), Decoder()
        before, units = 3 + 2 * _DECODER[-1], []
        for width in _FUSION:
            units.append(conv_unit(before, width))
            before = width
        self.blend = nn.Sequential(*units, nn.Conv2d(before, 1, 3, padding=1))

    @property
    def terms(self) -> tuple[str, ...]:
        """See `MattingNetwork.terms`."""
        return ("foreground", "background", "blend")

    def own_losses(self, output: LateFusion, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Both decoders, then the fusion, then all together on alpha (section 3.3), a third each."""
        exact = torch.get_default_dtype()
        alpha = batch["alpha"].to(exact)
        # In the fusion's step the soft part counts ten times what 0 and 1 do.
        weight = torch.where((alpha > 0) & (alpha < 1), 1.0, 0.1)
        parts = {
            "foreground": absolute(output.foreground.to(exact) - alpha).mean(),
            "background": absolute(output.background.to(exact) - (1 - alpha)).mean(),
            "blend": (weight * absolute(output.fusion.to(exact) - alpha)).mean() / weight.mean(),
        }
        return parts | {"total": staged_total(parts, _STAGES, self.progress)}

    def forward(self, image: Tensor, edit_e0: Callable[[Tensor], Tensor] | None = None) -> LateFusion:
        """See `MattingNetwork.forward`; pictures are padded inside to multiples of 32."""
        height, width = image.shape[-2:]
        padded = pad_to_stride(image)
        maps = self.encoder(padded)
        front, front_features = self.foreground(maps, padded)
        back, back_features = self.background(maps, padded)
        blend = torch.sigmoid(self.blend(torch.cat([padded, front_features, back_features], 1)))
        alpha = blend * front + (1 - blend) * (1 - back)
        return LateFusion(*(x[..., :height, :width] for x in (front, back, blend, alpha)))
