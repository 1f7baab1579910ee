"""FBA: foreground, background and alpha at once (Forte and Pitie, 'F, B, Alpha Matting', 2020).

ResNet-50 with group norm and standardised weights, dilated so that its deepest maps have stride 8, pyramid pooling, and
a decoder that gives seven maps: alpha, F, B. A last step without weights makes the three fit the picture (equations of
section 'Fusion'). The input has eleven channels: the picture; the trimap's known background and foreground; and how far
each pixel is from either, as three Gaussians of the distance.

Published: layers, inputs, fusion, activations (clipping for alpha, sigmoid for colours). It has 34,693,031 parameters
with the names and shapes of the published weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from p3mnet.distances import PLANES, nearness
from p3mnet.maps import average, pool_overlapping
from p3mnet.model import BACKGROUND, FOREGROUND, ModelConfig
from p3mnet.networks.terms import absolute, has_colours, in_rgb, inside, laplacian, unknown
from p3mnet.networks.trimap_based import TrimapMatting, TrimapNetwork, keep_known, pad_pair, require, unknown_losses

_STRIDE = 8
_DEPTHS = (3, 4, 6, 3)
_EXPANSION = 4
_NORM_GROUPS = 32
_SLOPE = 0.01
_CELLS = (1, 2, 3, 6)
_CONTEXT = 256
# Keeps alpha's equation solvable where foreground and background have one colour.
_DAMPING = 0.1
# Weight of the colours' loss beside alpha's.
_COLOURS = 0.25


class StandardisedConv2d(nn.Conv2d):
    """A convolution whose weights have mean 0 and deviation 1 for each output channel (weight standardisation)."""

    def forward(self, x: Tensor) -> Tensor:
        """As `torch.nn.Conv2d`."""
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        deviation = weight.flatten(1).std(1)[:, None, None, None] + 1e-5
        return F.conv2d(x, weight / deviation, self.bias, self.stride, self.padding, self.dilation, self.groups)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(_NORM_GROUPS, channels)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution around a shortcut."""

    def __init__(self, before: int, inner: int, stride: int, dilation: int) -> None:
        super().__init__()
        after = _EXPANSION * inner
        self.conv1 = StandardisedConv2d(before, inner, 1, bias=False)
        self.bn1 = _norm(inner)
        self.conv2 = StandardisedConv2d(inner, inner, 3, stride, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = _norm(inner)
        self.conv3 = StandardisedConv2d(inner, after, 1, bias=False)
        self.bn3 = _norm(after)
        self.downsample: nn.Module = nn.Identity()
        if before != after or stride > 1:
            self.downsample = nn.Sequential(StandardisedConv2d(before, after, 1, stride, bias=False), _norm(after))

    def forward(self, x: Tensor) -> Tensor:
        """[N, before, H, W] -> [N, 4 inner, H / stride, W / stride]."""
        inner = F.relu(self.bn1(self.conv1(x)), inplace=True)
        inner = F.relu(self.bn2(self.conv2(inner)), inplace=True)
        return F.relu(self.bn3(self.conv3(inner)) + self.downsample(x), inplace=True)


def _layer(before: int, inner: int, blocks: int, stride: int, dilations: Sequence[int]) -> nn.Sequential:
    """Blocks of one resolution; `dilations` of the first block and of the others."""
    first, others = dilations
    rest = (Bottleneck(_EXPANSION * inner, inner, 1, others) for _ in range(blocks - 1))
    return nn.Sequential(Bottleneck(before, inner, stride, first), *rest)


class DilatedResNet50(nn.Module):
    """ResNet-50 with group norm; stages 3 and 4 are dilated by 2 and 4 in place of their strides."""

    unused_in_reference: ClassVar[int] = 0

    def __init__(self, channels_in: int) -> None:
        super().__init__()
        self.conv1 = StandardisedConv2d(channels_in, 64, 7, 2, padding=3, bias=False)
        self.bn1 = _norm(64)
        self.layer1 = _layer(64, 64, _DEPTHS[0], 1, (1, 1))
        self.layer2 = _layer(256, 128, _DEPTHS[1], 2, (1, 1))
        # Where a stride is taken out, the first block keeps half of the dilation.
        self.layer3 = _layer(512, 256, _DEPTHS[2], 1, (1, 2))
        self.layer4 = _layer(1024, 512, _DEPTHS[3], 1, (2, 4))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[N, channels_in, H, W] -> maps of 64, 256 and 2048 channels at strides 2, 4 and 8."""
        at2 = F.relu(self.bn1(self.conv1(x)), inplace=True)
        at4 = self.layer1(pool_overlapping(at2))
        return at2, at4, self.layer4(self.layer3(self.layer2(at4)))


def _unit(channels_in: int, channels_out: int, kernel: int = 3) -> nn.Sequential:
    conv = StandardisedConv2d(channels_in, channels_out, kernel, padding=kernel // 2)
    return nn.Sequential(conv, _norm(channels_out), nn.LeakyReLU(_SLOPE))


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)


class FBA(TrimapNetwork):
    """The network: 34,693,031 parameters.

    Args:
        config: `name` is all that counts.
    """

    needs_distances: ClassVar[bool] = True

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder: Any = DilatedResNet50(3 + 2 + PLANES)
        self.pooling = nn.ModuleList([_unit(2048, _CONTEXT, 1) for _ in _CELLS])
        self.up1 = nn.Sequential(_unit(2048 + len(_CELLS) * _CONTEXT, 256), _unit(256, 256))
        self.up2 = _unit(256 + 256, 256)
        self.up3 = _unit(256 + 64, 64)
        self.up4 = nn.Sequential(
            nn.Conv2d(64 + 3 + 3 + 2, 32, 3, padding=1), nn.LeakyReLU(_SLOPE),
            nn.Conv2d(32, 16, 3, padding=1), nn.LeakyReLU(_SLOPE),
            nn.Conv2d(16, 7, 1),
        )  # fmt: skip
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=_SLOPE, nonlinearity="leaky_relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @property
    def terms(self) -> tuple[str, ...]:
        """See `MattingNetwork.terms`."""
        return ("unknown_alpha", "unknown_composition", "laplacian", "colours_composition")

    def own_losses(self, output: TrimapMatting, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Alpha and a quarter of colours (section 'Losses').

        unknown_alpha, unknown_composition, laplacian: of alpha; colours_composition: absolute errors of the two colours
        where they count, and of what they compose to with the true alpha. The published loss also compares gradients of
        alpha and pyramids of the colours.
        """
        parts = unknown_losses(output, batch, {"unknown_alpha": 1.0, "unknown_composition": 1.0})
        area, alpha = unknown(batch), batch["alpha"].to(torch.get_default_dtype())
        parts["laplacian"] = laplacian(((output.alpha.float() - alpha) * area)[None])[0]
        parts["total"] = parts["total"] + parts["laplacian"]
        if has_colours(batch):
            assert output.foreground is not None
            assert output.background is not None
            front, back = output.foreground.to(alpha.dtype), output.background.to(alpha.dtype)
            wanted = [in_rgb(batch[kind].to(alpha.dtype)) for kind in ("foreground", "background")]
            rgb = in_rgb(batch["image"].to(alpha.dtype))
            error = inside(absolute(front - wanted[0]), area * (alpha > 0)) + inside(
                absolute(back - wanted[1]), area * (alpha < 1)
            )
            error = error + inside(absolute(alpha * front + (1 - alpha) * back - rgb), area)
            parts["colours_composition"] = error
            parts["total"] = parts["total"] + _COLOURS * error
        return parts

    def forward(
        self,
        image: Tensor,
        edit_e0: Callable[[Tensor], Tensor] | None = None,
        trimap: Tensor | None = None,
        distances: Tensor | None = None,
    ) -> TrimapMatting:
        """See `TrimapNetwork.forward`; pictures are padded inside to multiples of 8.

        Args:
            image, edit_e0, trimap: As there.
            distances: [N, 6, H, W] of `distance_maps`, which a graph cannot compute; None computes them here.
        """
        height, width = image.shape[-2:]
        known = require(trimap)
        maps = (distance_maps(known) if distances is None else distances).to(image)
        padded, marks = pad_pair(image, known, _STRIDE)
        maps, _ = pad_pair(maps, known, _STRIDE)
        two = torch.cat([marks == BACKGROUND, marks == FOREGROUND], 1).to(padded.dtype)
        at2, at4, at8 = self.encoder(torch.cat([padded, maps, two], 1))
        context = [
            _resize(unit(average(at8, cells, cells)), at8) for unit, cells in zip(self.pooling, _CELLS, strict=True)
        ]
        x = self.up1(torch.cat([at8, *context], 1))
        x = self.up2(torch.cat([_resize(x, at4), at4], 1))
        x = self.up3(torch.cat([_resize(x, at2), at2], 1))
        rgb = in_rgb(padded)
        out = self.up4(torch.cat([_resize(x, padded), padded, rgb, two], 1))[..., :height, :width]
        rgb = rgb[..., :height, :width]
        alpha, front, back = fuse_colours(
            out[:, :1].clamp(0, 1), rgb, torch.sigmoid(out[:, 1:4]), torch.sigmoid(out[:, 4:7])
        )
        return TrimapMatting(alpha, keep_known(alpha, known), front, back)


def distance_maps(trimap: Tensor) -> Tensor:
    """How near each pixel is to known background and to known foreground, see `p3mnet.distances`.

    Args:
        trimap: int64 [N, 1, H, W] of 0, 1, 2, on any device.

    Returns:
        float32 [N, 6, H, W] in 0..1, on the CPU.
    """
    marks = trimap[:, 0].cpu().numpy()
    return torch.from_numpy(np.stack([nearness([each == kind for kind in (BACKGROUND, FOREGROUND)]) for each in marks]))


def fuse_colours(alpha: Tensor, image: Tensor, front: Tensor, back: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One step towards I = alpha F + (1 - alpha) B: colours given alpha, then alpha given the colours.

    Args:
        alpha: [N, 1, H, W] in 0..1.
        image, front, back: RGB [N, 3, H, W] in 0..1.

    Returns:
        Alpha, foreground and background, in 0..1.
    """
    both = alpha * (1 - alpha)
    new_front = alpha * image + (1 - alpha**2) * front - both * back
    # The colour of the background is found after the new one of the foreground; both are clipped then, as published.
    new_back = ((1 - alpha) * image + (2 * alpha - alpha**2) * back - both * new_front).clamp(0, 1)
    new_front = new_front.clamp(0, 1)
    span = new_front - new_back
    above = ((image - new_back) * span).sum(1, keepdim=True)
    new_alpha = (alpha * _DAMPING + above) / (span.square().sum(1, keepdim=True) + _DAMPING)
    return new_alpha.clamp(0, 1), new_front, new_back
