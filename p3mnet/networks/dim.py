"""DIM: deep image matting (Xu, Price, Cohen, Huang, 'Deep Image Matting', CVPR 2017), stage 1.

VGG-16 with batch norm sees the picture with the trimap as fourth channel; a thin decoder of 5x5 convolutions unpools
with the encoder's indices. Published: the layers (section 4.1), alpha and composition loss in equal parts on the
unknown region. The second stage, a refinement of four convolutions, is not here; the published figure of 130.55 M
parameters is that of the first alone.

Decided here, since the text does not say: the 13 convolutions of the encoder have batch norm and those of the decoder
but the last too, conv6 has none, which gives exactly 130,548,417 values; alpha comes out of a sigmoid, as the text says
of the encoder-decoder's prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from p3mnet.encoders.vgg import BLOCKS, VGG16
from p3mnet.maps import unpool
from p3mnet.model import ModelConfig
from p3mnet.networks.trimap_based import (
    TrimapMatting,
    TrimapNetwork,
    as_channel,
    keep_known,
    pad_pair,
    require,
    unknown_losses,
)

_CONV6 = 4096
# Channels behind the decoder's convolutions, deepest first.
_DECODER = (512, 256, 128, 64, 64)
_STRIDE = 32


def _unit(channels_in: int, channels_out: int, kernel: int) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2)
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True))


class DIM(TrimapNetwork):
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

    @property
    def terms(self) -> tuple[str, ...]:
        """See `MattingNetwork.terms`."""
        return ("unknown_alpha", "unknown_composition")

    def own_losses(self, output: TrimapMatting, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Alpha and composite in the unknown region, in equal parts (Xu et al. 2017, equations 1 and 2)."""
        return unknown_losses(output, batch, {"unknown_alpha": 0.5, "unknown_composition": 0.5})

    def forward(
        self, image: Tensor, edit_e0: Callable[[Tensor], Tensor] | None = None, trimap: Tensor | None = None
    ) -> TrimapMatting:
        """See `TrimapNetwork.forward`; pictures are padded inside to multiples of 32."""
        height, width = image.shape[-2:]
        padded, known = pad_pair(image, require(trimap), _STRIDE)
        x, indices = self.encoder(torch.cat([padded, as_channel(known, padded.dtype)], 1))
        x = self.deconv6(F.relu(self.conv6(x), inplace=True))
        for unit, index in zip(self.decoder, reversed(indices), strict=True):
            x = unit(unpool(x, index, 2))
        alpha = torch.sigmoid(self.head(x))[..., :height, :width]
        return TrimapMatting(alpha, keep_known(alpha, require(trimap)))
