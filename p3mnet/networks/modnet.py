"""MODNet (Ke et al., 'MODNet: Real-Time Trimap-Free Portrait Matting via Objective Decomposition', AAAI 2022).

Three branches share a MobileNetV2: semantics at a 16th of the size, detail around the boundary, and their fusion, which
is the alpha. It has losses of its own, one per sub-objective (`objective_losses`), with the published weights. The
self-supervised adaptation to videos is not here. Pictures come ImageNet-normalised, as to all networks here; MODNet
turns them into -1..1, as published, and its losses see those too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from p3mnet.encoders.mobilenet import MobileNetV2
from p3mnet.maps import upsample, vector
from p3mnet.model import TRANSITION, MattingNetwork, ModelConfig, in_unit_range, pad_to_stride

# Channels of the branches at high resolution.
_HIGH = 32
_SEMANTIC_STRIDE = 16
# The published program's: of the semantic and the detail loss, and of the boundary against the whole in the fusion's.
_SEMANTIC, _DETAIL, _BOUNDARY = 10.0, 10.0, 4.0
# Of the Gaussian that smooths the semantic label, and its radius: the published window is what such a filter makes of a
# single 1 in a 3x3 field that is mirrored at its sides.
_SIGMA, _RADIUS = 0.8, 3


class Objectives(NamedTuple):
    """What MODNet says about images [N, 3, H, W].

    Attributes:
        semantic: A coarse matte [N, 1, ceil(H / 32) * 2, ceil(W / 32) * 2] in 0..1.
        detail: Alpha [N, 1, H, W] in 0..1, meant for the boundary.
        fusion: Alpha [N, 1, H, W] in 0..1 for the whole image.
        image: The picture [N, 3, H, W] as the network sees it.
    """

    semantic: Tensor
    detail: Tensor
    fusion: Tensor
    image: Tensor


class IBNorm(nn.Module):
    """Batch norm for the first half of the channels, instance norm without weights for the others."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.batched = channels // 2
        self.batch: nn.Module = nn.BatchNorm2d(self.batched)
        self.instance = nn.InstanceNorm2d(channels - self.batched)

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, H, W] -> the same shape."""
        return torch.cat([self.batch(x[:, : self.batched]), self.instance(x[:, self.batched :])], 1)


def _unit(channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2)
    return nn.Sequential(conv, IBNorm(channels_out), nn.ReLU(inplace=True))


class Attention(nn.Module):
    """Weighs channels by what is in the whole picture (squeeze and excitation), a quarter as wide inside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // 4, bias=False)
        self.excite = nn.Linear(channels // 4, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, H, W] -> the same shape."""
        weight = torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3))))))
        return x * weight[:, :, None, None]


class SemanticBranch(nn.Module):
    """Where the person is."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        *_, width8, width16, width32 = widths
        self.attention = Attention(width32)
        self.to16 = _unit(width32, width16, 5)
        self.to8 = _unit(width16, width8, 5)
        self.head = nn.Conv2d(width8, 1, 3, 2, padding=1)

    def forward(self, deepest: Tensor) -> tuple[Tensor, Tensor]:
        """Map of stride 32 -> semantic [N, 1, H / 16, W / 16] in 0..1, features of stride 8."""
        at16 = self.to16(upsample(self.attention(deepest), 2))
        at8 = self.to8(upsample(at16, 2))
        return torch.sigmoid(self.head(at8)), at8


class DetailBranch(nn.Module):
    """Alpha around the boundary, from shallow features and the picture itself."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        width2, width4, width8, *_ = widths
        twice = 2 * _HIGH
        self.from2 = _unit(width2, _HIGH, 1)
        self.down = _unit(_HIGH + 3, _HIGH, stride=2)
        self.from4 = _unit(width4, _HIGH, 1)
        self.merge4 = _unit(twice, twice)
        self.at4 = nn.Sequential(_unit(twice + width8 + 3, twice), _unit(twice, twice), _unit(twice, _HIGH))
        self.at2 = nn.Sequential(_unit(twice, twice), _unit(twice, _HIGH), _unit(_HIGH, _HIGH), _unit(_HIGH, _HIGH))
        self.at1 = nn.Sequential(_unit(_HIGH + 3, _HIGH), nn.Conv2d(_HIGH, 1, 1))

    def forward(self, image: Tensor, shallow2: Tensor, shallow4: Tensor, semantic8: Tensor) -> tuple[Tensor, Tensor]:
        """Image, maps of strides 2 and 4, the semantic branch's -> detail in 0..1, features of stride 2."""
        image2, image4 = (F.interpolate(image, scale_factor=scale, mode="bilinear") for scale in (0.5, 0.25))
        shallow2 = self.from2(shallow2)
        x = self.down(torch.cat([image2, shallow2], 1))
        x = self.merge4(torch.cat([x, self.from4(shallow4)], 1))
        x = self.at4(torch.cat([x, upsample(semantic8, 2), image4], 1))
        at2 = self.at2(torch.cat([upsample(x, 2), shallow2], 1))
        return torch.sigmoid(self.at1(torch.cat([upsample(at2, 2), image], 1))), at2


class FusionBranch(nn.Module):
    """The alpha."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.at4 = _unit(widths[2], _HIGH, 5)
        self.at2 = _unit(2 * _HIGH, _HIGH)
        self.at1 = nn.Sequential(_unit(_HIGH + 3, _HIGH // 2), nn.Conv2d(_HIGH // 2, 1, 1))

    def forward(self, image: Tensor, semantic8: Tensor, detail2: Tensor) -> Tensor:
        """Image, features of the semantic (stride 8) and detail (stride 2) branches -> alpha [N, 1, H, W]."""
        semantic2 = upsample(self.at4(upsample(semantic8, 2)), 2)
        at2 = self.at2(torch.cat([semantic2, detail2], 1))
        return torch.sigmoid(self.at1(torch.cat([upsample(at2, 2), image], 1)))


class MODNet(MattingNetwork):
    """MODNet with MobileNetV2: 6,487,075 parameters.

    Args:
        config: `name` is all that counts.
    """

    one_alpha: ClassVar[bool] = True
    short_side: ClassVar[int | None] = 512

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = MobileNetV2()
        widths = MobileNetV2.widths
        self.semantic, self.detail, self.fusion = SemanticBranch(widths), DetailBranch(widths), FusionBranch(widths)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @property
    def terms(self) -> tuple[str, ...]:
        """See `MattingNetwork.terms`."""
        return ("semantic", "detail", "fusion")

    def own_losses(self, output: Objectives, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `objective_losses`."""
        return objective_losses(output, batch)

    def as_seen(self, image: Tensor) -> Tensor:
        """See `MattingNetwork.as_seen`."""
        return in_unit_range(image) if self.config.colours == "unit" else image

    def forward(self, image: Tensor, edit_e0: Callable[[Tensor], Tensor] | None = None) -> Objectives:
        """See `MattingNetwork.forward`; pictures are padded inside to multiples of 32."""
        height, width = image.shape[-2:]
        image = self.as_seen(image)
        padded = pad_to_stride(image).contiguous(memory_format=torch.channels_last)
        e0 = self.encoder.stem(padded)
        shallow2, shallow4, _, _, deepest = self.encoder.pyramid(e0 if edit_e0 is None else edit_e0(e0))
        semantic, semantic8 = self.semantic(deepest)
        detail, detail2 = self.detail(padded, shallow2, shallow4, semantic8)
        alpha = self.fusion(padded, semantic8, detail2)
        return Objectives(semantic, detail[..., :height, :width], alpha[..., :height, :width], image)


def objective_losses(output: Objectives, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published losses, in PyTorch's default type (float32).

        total = 10 semantic + 10 detail + fusion

    semantic: mean squared distance to the smoothed matte at a 16th of the size; detail: mean of abs(detail - alpha)
    where the trimap says transition; fusion: mean of abs(d) (1 + 4 transition), plus the same of d times the image,
    d = fusion - alpha; the image as the network sees it.

    Args:
        output: What MODNet says about images [N, 3, H, W].
        batch: See `p3mnet.losses.matting_losses`.

    Returns:
        Scalars "semantic", "detail", "fusion", "total".
    """
    exact = torch.get_default_dtype()
    alpha, image = batch["alpha"].to(exact), output.image.to(exact)
    transition = (batch["trimap"] == TRANSITION).to(exact)
    difference = output.fusion.to(exact) - alpha
    weight = 1 + _BOUNDARY * transition
    parts = {
        "semantic": F.mse_loss(output.semantic.to(exact), _coarse(alpha)),
        "detail": ((output.detail.to(exact) - alpha).abs() * transition).mean(),
        "fusion": (difference.abs() * weight).mean() + ((image * difference).abs() * weight).mean(),
    }
    parts["total"] = _SEMANTIC * parts["semantic"] + _DETAIL * parts["detail"] + parts["fusion"]
    return parts


def _coarse(alpha: Tensor) -> Tensor:
    """[N, 1, H, W] -> smoothed, at a 16th of the padded size."""
    small = F.interpolate(pad_to_stride(alpha), scale_factor=1 / _SEMANTIC_STRIDE, mode="bilinear")
    axis = vector(_window(), small)
    # A map of one row or column cannot be mirrored; those of training have several.
    mirrored = "reflect" if min(small.shape[-2:]) > 1 else "replicate"
    return F.conv2d(F.pad(small, (1, 1, 1, 1), mode=mirrored), (axis[:, None] * axis)[None, None])


def _window() -> list[float]:
    """One axis of the published 3x3 window: 0.2502, 0.4996, 0.2502."""
    places = range(-_RADIUS, _RADIUS + 1)
    bell = [math.exp(-(place**2) / (2 * _SIGMA**2)) for place in places]
    return [
        sum(value for place, value in zip(places, bell, strict=True) if _mirrored(at + place) == 1) / sum(bell)
        for at in range(3)
    ]


def _mirrored(place: int) -> int:
    """Where a place lands in a field of 3 that is mirrored at its sides: c b a | a b c | c b a."""
    around = place % 6
    return min(around, 5 - around)
