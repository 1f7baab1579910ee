"""DIM: deep image matting (Xu, Price, Cohen, Huang, 'Deep Image Matting', CVPR 2017), and its second stage.

VGG-16 with batch norm sees the picture with the trimap as fourth channel; a thin decoder of 5x5 convolutions unpools
with the encoder's indices. Published: the layers (section 4.1), alpha and composition loss in equal parts on the
unknown region. The published figure of 130.55 M parameters is that of the first stage alone, `DIM`. `RefinedDIM` has
the second one too: four convolutions that see the picture and the first stage's alpha, and add to it (section 4.2).

Decided here, since the text does not say: the 13 convolutions of the encoder have batch norm and those of the decoder
but the last too, conv6 has none, which gives exactly 130,548,417 values; alpha comes out of a sigmoid, as the text says
of the encoder-decoder's prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from p3mnet.encoders.vgg import BLOCKS, VGG16
from p3mnet.maps import unpool
from p3mnet.model import ModelConfig
from p3mnet.networks.terms import absolute, inside, unknown
from p3mnet.networks.trimap_based import (
    AlphaOfPair,
    TrimapMatting,
    as_channel,
    keep_known,
    require,
)

_CONV6 = 4096
# Channels behind the decoder's convolutions, deepest first.
_DECODER = (512, 256, 128, 64, 64)


def _unit(channels_in: int, channels_out: int, kernel: int) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2)
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True))


# Of the refinement's three hidden layers.
_REFINED = 64
# What counts in each part of a refined training: both stages' terms.
_PARTS = (0.5, 0.75)


class DIM(AlphaOfPair):
    """The encoder-decoder: 130,548,417 parameters.

    Args:
        config: `name` is all that counts.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder: Any = VGG16(4)
        deepest = BLOCKS[-1][-1]
        self.conv6 = nn.Conv2d(deepest, _CONV6, 7, padding=3)
        self.deconv6 = _unit(_CONV6, deepest, 1)
        self.decoder = nn.ModuleList()
        before = deepest
        for width in _DECODER:
            self.decoder.append(_unit(before, width, 5))
            before = width
        self.head = nn.Conv2d(before, 1, 5, padding=2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # The decoder's start in the paper (Xavier).
                nn.init.xavier_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def alpha_of(self, image: Tensor, trimap: Tensor) -> Tensor:
        """See `AlphaOfPair`."""
        x, indices = self.encoder(torch.cat([image, as_channel(trimap, image.dtype)], 1))
        x = self.deconv6(F.relu(self.conv6(x), inplace=True))
        for unit, index in zip(self.decoder, reversed(indices), strict=True):
            x = unit(unpool(x, index, 2))
        return torch.sigmoid(self.head(x))


class RefinedDIM(DIM):
    """Both stages: 76,801 parameters more.

    Published: the layers, the alpha loss as the only one of the refinement, and the order: the first stage, then the
    refinement with the first stage fixed, then both. Decided here: half of the training, a quarter, and the last
    quarter; colours are normalised as the first stage sees them; what comes out is clipped to 0..1. While the first
    stage is fixed the statistics of its batch norms go on.

    Args:
        config: `name` is all that counts.
    """

    staged: ClassVar[bool] = True

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        layers: list[nn.Module] = []
        for before in (4, _REFINED, _REFINED):
            layers += [nn.Conv2d(before, _REFINED, 3, padding=1), nn.ReLU(inplace=True)]
        last = nn.Conv2d(_REFINED, 1, 3, padding=1)
        self.refine = nn.Sequential(*layers, last)
        for module in self.refine:
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        # It begins as next to nothing that is added.
        nn.init.normal_(last.weight, std=1e-4)

    @property
    def terms(self) -> tuple[str, ...]:
        """See `MattingNetwork.terms`."""
        return (*super().terms, "refined_alpha")

    def own_losses(self, output: TrimapMatting, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Those of the first stage, then that of the refinement alone (section 4.2)."""
        assert output.coarse is not None
        parts = super().own_losses(output._replace(alpha=output.coarse), batch)
        first = parts.pop("total")
        alpha = output.alpha.to(first.dtype)
        parts["refined_alpha"] = inside(absolute(alpha - batch["alpha"].to(alpha.dtype)), unknown(batch))
        # The other stage is told, and moves nothing.
        share = 1.0 if self.progress < _PARTS[0] else 0.0
        return {**parts, "total": share * first + (1 - share) * parts["refined_alpha"]}

    def forward(
        self, image: Tensor, edit_e0: Callable[[Tensor], Tensor] | None = None, trimap: Tensor | None = None
    ) -> TrimapMatting:
        """See `TrimapNetwork.forward`; `coarse` is the first stage's alpha."""
        coarse = super().forward(image, edit_e0, trimap).alpha
        fixed = self.training and _PARTS[0] <= self.progress < _PARTS[1]
        seen = coarse.detach() if fixed else coarse
        alpha = (seen + self.refine(torch.cat([image, seen], 1))).clamp(0, 1)
        return TrimapMatting(alpha, keep_known(alpha, require(trimap)), coarse=coarse)
