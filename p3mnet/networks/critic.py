"""The discriminator of AlphaGAN and HATT: for each patch of a picture, is it a photograph or a composite? (PatchGAN)"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

_WIDTHS = (64, 128, 256, 512)


class PatchCritic(nn.Module):
    """Convolutions 4x4 that see 70x70 pixels (Isola et al., 2017).

    Args:
        channels_in: Of the input.
    """

    def __init__(self, channels_in: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = channels_in
        for number, width in enumerate(_WIDTHS):
            stride = 2 if number < len(_WIDTHS) - 1 else 1
            layers.append(nn.Conv2d(before, width, 4, stride, padding=1, bias=number == 0))
            if number:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.LeakyReLU(0.2))
            before = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(before, 1, 4, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels_in, H, W] -> scores [N, 1, h, w], high for what looks real."""
        scores: Tensor = self.layers(x)
        return scores


def adversarial_losses(critic: PatchCritic, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """One step of both players, so that one loop and one optimiser train them.

    Args:
        critic: The discriminator.
        real, fake: [N, channels, H, W]; gradients reach what made `fake`.

    Returns:
        The generator's loss, which leaves the critic's weights alone, and the critic's, which leaves the generator's.
    """
    frozen = {name: value.detach() for name, value in critic.named_parameters()}
    fooled = functional_call(critic, frozen, (fake,))
    generator = F.binary_cross_entropy_with_logits(fooled, torch.ones_like(fooled))
    on_real, on_fake = critic(real), critic(fake.detach())
    found = F.binary_cross_entropy_with_logits(on_real, torch.ones_like(on_real))
    found = found + F.binary_cross_entropy_with_logits(on_fake, torch.zeros_like(on_fake))
    return generator, found / 2
