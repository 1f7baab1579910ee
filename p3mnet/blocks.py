"""Building blocks of P3M-Net: the convolution unit and the paper's three integration modules.

Notation of the equations, after section 'Methods' of 'Rethinking Portrait Matting with Privacy Preserving' (IJCV 2023):

    F_s, F_m    features of the segmentation and of the matting decoder at one level
    E_0, E_i, E_4    features of the encoder: at full resolution, at that level, at the deepest level
    P    1x1 convolution to half of the channels        C    3x3 convolution, batch norm, ReLU
    MP_r, UP_r    max pooling and bilinear upsampling by r        [a; b]    concatenation of channels
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from p3mnet.maps import pool_apart, upsample

TRIMAP_CLASSES = 3


class ConvUnit(nn.Module):
    """C of the equations: 3x3 convolution, batch norm, ReLU; the size stays.

    Args:
        channels_in: Channels of the input.
        channels_out: Channels of the output.
        bias: Whether the convolution has a bias; the decoders' units do, those inside the integration modules do not.
        dilation: Of the convolution.
    """

    def __init__(self, channels_in: int, channels_out: int, *, bias: bool = True, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, padding=dilation, dilation=dilation, bias=bias)
        self.norm: nn.Module = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels_in, H, W] -> [N, channels_out, H, W], not negative."""
        return F.relu(self.norm(self.conv(x)), inplace=True)


def project(channels_in: int, channels_out: int) -> nn.Conv2d:
    """P of the equations: a 1x1 convolution without bias."""
    return nn.Conv2d(channels_in, channels_out, 1, bias=False)


class TFI(nn.Module):
    """Tripartite-feature integration, Equation 1: segmentation, matting and encoder features of one level.

        F_m' = C([P(F_s); P(F_m); P(E_i)])        one P for all three

    Args:
        channels: Channels of each input and of the output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.project = project(channels, half)
        self.merge = ConvUnit(3 * half, channels, bias=False)

    def forward(self, segmentation: Tensor, matting: Tensor, encoder: Tensor) -> Tensor:
        """F_s, F_m and E_i, each [N, channels, H, W] -> F_m' of that shape."""
        merged: Tensor = self.merge(torch.cat([self.project(x) for x in (segmentation, matting, encoder)], 1))
        return merged


class SBFI(nn.Module):
    """Shallow bipartite-feature integration, Equation 2: the texture of E_0 for the matting decoder.

        F_m' = C([P_1(F_m); P_2(MP_r(E_0))]) + F_m

    MP_r has a window of 2x2 and a stride of r, as published: for r > 2 it sees one 2x2 block out of each r x r.

    Args:
        channels: Channels of F_m.
        e0_channels: Channels of E_0.
        ratio: r, how much smaller F_m is than E_0.
    """

    def __init__(self, channels: int, e0_channels: int, ratio: int) -> None:
        super().__init__()
        self.ratio = ratio
        self.project_matting = project(channels, channels // 2)
        self.project_e0 = project(e0_channels, channels // 2)
        self.merge = ConvUnit(channels, channels, bias=False)

    def forward(self, matting: Tensor, e0: Tensor) -> Tensor:
        """F_m [N, channels, H, W], E_0 [N, e0_channels, r * H, r * W] -> F_m' of F_m's shape."""
        pooled = pool_apart(e0, self.ratio)
        merged: Tensor = self.merge(torch.cat([self.project_matting(matting), self.project_e0(pooled)], 1))
        return merged + matting


class DBFI(nn.Module):
    """Deep bipartite-feature integration, Equation 3: the semantics of E_4 for the segmentation decoder.

        F_s' = C([P_1(F_s); UP_r(P_2(E_4))]) + F_s

    A 3x3 convolution on F_s' predicts the trimap once more, for deep supervision.

    Args:
        channels: Channels of F_s.
        e4_channels: Channels of E_4.
        ratio: r, how much larger F_s is than E_4.
        e4_stride: Stride of E_4, so that the side output gets the size of the image.
    """

    def __init__(self, channels: int, e4_channels: int, ratio: int, e4_stride: int = 32) -> None:
        super().__init__()
        self.ratio = ratio
        self.stride = e4_stride // ratio
        self.project_segmentation = project(channels, channels // 2)
        self.project_e4 = project(e4_channels, channels // 2)
        self.merge = ConvUnit(channels, channels, bias=False)
        self.side_head = nn.Conv2d(channels, TRIMAP_CLASSES, 3, padding=1, bias=False)

    def forward(self, segmentation: Tensor, e4: Tensor) -> tuple[Tensor, Tensor]:
        """F_s [N, channels, r * h, r * w], E_4 [N, e4_channels, h, w] -> F_s', side logits [N, 3, 32 * h, 32 * w]."""
        deep = upsample(self.project_e4(e4), self.ratio)
        merged = self.merge(torch.cat([self.project_segmentation(segmentation), deep], 1)) + segmentation
        return merged, upsample(self.side_head(merged), self.stride)
