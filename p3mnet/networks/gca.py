"""GCA: natural image matting via guided contextual attention (Li and Lu, AAAI 2020).

A ResNet-34 variant of 3, 4, 4, 2 blocks with spectral norm, a decoder with residual blocks and shortcuts, and twice an
attention that carries opacity from patch to patch where the colours are alike: similarity is measured on low-level
features of the picture alone (guidance), values are patches of the alpha features.

Published: all of it, the trimap as three channels beside the picture, alpha = (tanh + 1) / 2, and absolute error in the
unknown region as the only loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from p3mnet.maps import mirrored
from p3mnet.model import TRANSITION, ModelConfig
from p3mnet.networks.trimap_based import (
    AlphaOfPair,
    TrimapMatting,
    one_hot,
    unknown_losses,
)

_ENCODER, _DECODER = (3, 4, 4, 2), (2, 3, 3, 2)
_GUIDANCE = 128
_SLOPE = 0.2
# How far the weights of known and unknown patches may move apart.
_LEAST, _MOST = 0.1, 10.0
# Takes a patch out of a softmax.
_NEVER = -1e4
_TINY = 1e-4


def _conv(before: int, after: int, kernel: int, stride: int = 1, padding: int | None = None) -> nn.Module:
    padding = kernel // 2 if padding is None else padding
    return spectral_norm(nn.Conv2d(before, after, kernel, stride, padding=padding, bias=False))


def _double(before: int, after: int) -> nn.Module:
    # The published norm takes the first axis of weights, which are input channels here.
    return spectral_norm(nn.ConvTranspose2d(before, after, 4, 2, padding=1, bias=False), dim=0)


class DownBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut, which is averaged and projected where the size changes."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(before, after, 3, stride)
        self.bn1: nn.Module = nn.BatchNorm2d(after)
        self.conv2 = _conv(after, after, 3)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or before != after:
            smaller = [nn.AvgPool2d(2, stride)] if stride > 1 else []
            self.shortcut = nn.Sequential(*smaller, _conv(before, after, 1), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        """[N, before, H, W] -> [N, after, H / stride, W / stride]."""
        inner = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(inner)) + self.shortcut(x), inplace=True)


class UpBlock(nn.Module):
    """As `DownBlock`, but the first of a stage doubles the size."""

    def __init__(self, before: int, after: int, doubles: bool) -> None:
        super().__init__()
        self.conv1 = _double(before, before) if doubles else _conv(before, before, 3)
        self.bn1: nn.Module = nn.BatchNorm2d(before)
        self.conv2 = _conv(before, after, 3)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut: nn.Module = nn.Identity()
        if doubles or before != after:
            larger = [nn.UpsamplingNearest2d(scale_factor=2)] if doubles else []
            self.shortcut = nn.Sequential(*larger, _conv(before, after, 1), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        """[N, before, H, W] -> [N, after, H, W], or of twice the sides."""
        inner = F.leaky_relu(self.bn1(self.conv1(x)), _SLOPE, inplace=True)
        return F.leaky_relu(self.bn2(self.conv2(inner)) + self.shortcut(x), _SLOPE, inplace=True)


def _down(before: int, after: int, blocks: int, stride: int) -> nn.Sequential:
    rest = (DownBlock(after, after, 1) for _ in range(blocks - 1))
    return nn.Sequential(DownBlock(before, after, stride), *rest)


def _up(before: int, after: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(UpBlock(before, after, True), *(UpBlock(after, after, False) for _ in range(blocks - 1)))


class Mirror(nn.Module):
    """Mirrors a map at its border, by a place."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H + 2, W + 2]."""
        return mirrored(x)


def _activated(before: int, after: int, stride: int = 1, mirroring: bool = False) -> list[nn.Module]:
    """Convolution, ReLU, then batch norm: in this order as published."""
    edge = [Mirror()] if mirroring else []
    conv = _conv(before, after, 3, stride, padding=0 if mirroring else 1)
    return [*edge, conv, nn.ReLU(inplace=True), nn.BatchNorm2d(after)]


class GuidedAttention(nn.Module):
    """Alpha features of stride 8, each patch mixed with those whose guidance looks alike (paper, section 3.2).

    Args:
        channels: Of the alpha features.
        guidance: Of the guidance features.
    """

    def __init__(self, channels: int, guidance: int) -> None:
        super().__init__()
        self.guidance = nn.Conv2d(guidance, guidance // 2, 1)
        self.out = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, guidance: Tensor, features: Tensor, unknown: Tensor) -> Tensor:
        """Mix.

        Args:
            guidance: [N, guidance, 2h, 2w].
            features: [N, channels, 2h, 2w].
            unknown: [N, 1, 2h, 2w] of 0 and 1.

        Returns:
            [N, channels, 2h, 2w].
        """
        size = features.shape[-2:]
        # 3x3 patches of the guidance at half the size, one for each 2x2 block of the features.
        small = self.guidance(guidance)[..., ::2, ::2]
        patches = F.unfold(mirrored(small), 3)
        keys = patches / patches.norm(dim=1, keepdim=True).clamp(min=_TINY)
        likeness = keys.transpose(1, 2) @ patches
        marks = unknown[..., ::2, ::2]
        around = F.unfold(mirrored(marks), 3).mean(1)
        doubtful = (around > 0).to(likeness.dtype)[:, :, None]
        share = marks.mean((1, 2, 3))[:, None, None]
        ratio = torch.sqrt(share / (1 - share).clamp(min=_TINY))
        of_unknown = ratio.clamp(_LEAST, _MOST)
        of_known = (1 / ratio.clamp(min=_TINY)).clamp(_LEAST, _MOST)
        likeness = likeness * torch.where(doubtful > 0, of_unknown, of_known)
        # An unknown patch must not vouch for itself.
        itself = torch.eye(likeness.shape[-1], device=likeness.device, dtype=likeness.dtype)
        attention = (likeness + _NEVER * itself * doubtful).softmax(1)
        values = F.unfold(mirrored(features), 4, stride=2)
        # Each pixel lies in four of the 4x4 patches.
        mixed = F.fold(values @ attention, size, 4, stride=2, padding=1) / 4
        out: Tensor = self.norm(self.out(mixed)) + features
        return out


class GuidedEncoder(nn.Module):
    """Five maps for the decoder, the deepest one, and what the attention needs again."""

    unused_in_reference: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            _conv(6, 32, 3, 2), nn.BatchNorm2d(32), nn.ReLU(inplace=True),
            _conv(32, 32, 3), nn.BatchNorm2d(32), nn.ReLU(inplace=True),
        )  # fmt: skip
        self.entry = nn.Sequential(_conv(32, 64, 3, 2), nn.BatchNorm2d(64), nn.ReLU(inplace=True))
        first, second, third, last = _ENCODER
        self.layer1 = _down(64, 64, first, 1)
        self.layer2 = _down(64, 128, second, 2)
        self.layer3 = _down(128, 256, third, 2)
        self.layer4 = _down(256, 512, last, 2)
        self.guidance = nn.Sequential(
            *_activated(3, 16, 2, True), *_activated(16, 32, 2, True), *_activated(32, _GUIDANCE, 2, True)
        )
        self.attention = GuidedAttention(128, _GUIDANCE)
        pairs = ((6, 32), (32, 32), (64, 64), (128, 128), (256, 256))
        self.shortcuts = nn.ModuleList(
            [nn.Sequential(*_activated(before, after), *_activated(after, after)) for before, after in pairs]
        )

    def forward(self, x: Tensor, unknown: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """Picture and trimap [N, 6, H, W], the unknown region at stride 8 -> deepest map, shortcuts, guidance."""
        at2 = self.stem(x)
        guidance = self.guidance(x[:, :3])
        at4 = self.layer1(self.entry(at2))
        at8 = self.attention(guidance, self.layer2(at4), unknown)
        at16 = self.layer3(at8)
        maps = (x, at2, at4, at8, at16)
        skips = [shortcut(found) for shortcut, found in zip(self.shortcuts, maps, strict=True)]
        return self.layer4(at16), skips, guidance


class GCA(AlphaOfPair):
    """The network.

    Args:
        config: `name` is all that counts.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder: Any = GuidedEncoder()
        first, second, third, last = _DECODER
        self.layer1 = _up(512, 256, first)
        self.layer2 = _up(256, 128, second)
        self.layer3 = _up(128, 64, third)
        self.layer4 = _up(64, 32, last)
        self.attention = GuidedAttention(128, _GUIDANCE)
        self.exit = nn.Sequential(_double(32, 32), nn.BatchNorm2d(32), nn.LeakyReLU(_SLOPE))
        self.head = nn.Conv2d(32, 1, 3, padding=1)
        for module in self.modules():
            if isinstance(module, DownBlock | UpBlock):
                # A residual branch begins as nothing.
                nn.init.zeros_(module.bn2.weight)
            elif isinstance(module, GuidedAttention):
                nn.init.constant_(module.norm.weight, 1e-3)

    @property
    def terms(self) -> tuple[str, ...]:
        """See `MattingNetwork.terms`."""
        return ("unknown_alpha",)

    def own_losses(self, output: TrimapMatting, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Absolute error of alpha in the unknown region (equation 8)."""
        return unknown_losses(output, batch, {"unknown_alpha": 1.0})

    def alpha_of(self, image: Tensor, trimap: Tensor) -> Tensor:
        """See `AlphaOfPair`."""
        unknown = (trimap[..., ::8, ::8] == TRANSITION).to(image.dtype)
        x, skips, guidance = self.encoder(torch.cat([image, one_hot(trimap, image.dtype)], 1), unknown)
        at1, at2, at4, at8, at16 = skips
        x = self.layer2(self.layer1(x) + at16) + at8
        x = self.layer3(self.attention(guidance, x, unknown)) + at4
        x = self.exit(self.layer4(x) + at2) + at1
        alpha: Tensor = (torch.tanh(self.head(x)) + 1) / 2
        return alpha
