"""What every encoder of P3M-Net promises, and what the two transformer encoders share.

An encoder turns an image into six maps: E_0 at full resolution, four skips and E_4 at a 32nd of it. Max pooling
replaces every strided convolution, and the indices of the five poolings are part of the result: the matting decoder
unpools with them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from p3mnet.maps import pool

STRIDES = (1, 2, 4, 8, 16, 32)
LARGEST_STRIDE = STRIDES[-1]


class Features(NamedTuple):
    """What an encoder finds in images [N, 3, H, W] whose sides are multiples of 32.

    Attributes:
        e0: E_0 [N, widths[0], H, W].
        skips: Maps of strides 2, 4, 8, 16, of `widths[1:5]` channels, for the TFI of levels 0 to 3.
        e4: E_4 [N, widths[5], H / 32, W / 32].
        indices: Of the poolings from stride 2^k to 2^(k+1), k = 0..4: int64 positions in the flattened plane before
            pooling, [N, widths[k], H / 2^(k+1), W / 2^(k+1)].
    """

    e0: Tensor
    skips: tuple[Tensor, ...]
    e4: Tensor
    indices: tuple[Tensor, ...]


class Encoder(nn.Module, ABC):
    """An encoder in two steps, so that features can be mixed at E_0 (paper, P3M-CP at feature level).

    Attributes:
        widths: Channels at the strides 1, 2, 4, 8, 16, 32.
        pool_kernel: Side of the pooling window, 2 or 3; the stride is 2.
        unused_in_reference: Parameters that the published network holds and never uses (classifier); they are not
            here, but the paper's counts have them.
    """

    widths: ClassVar[tuple[int, ...]]
    unused_in_reference: ClassVar[int] = 0

    def __init__(self, pool_kernel: int) -> None:
        super().__init__()
        self.pool_kernel = pool_kernel

    @abstractmethod
    def stem(self, image: Tensor) -> Tensor:
        """Images [N, 3, H, W], ImageNet-normalised -> E_0 [N, widths[0], H, W]."""

    @abstractmethod
    def pyramid(self, e0: Tensor) -> Features:
        """E_0 -> all features, E_0 among them."""

    def forward(self, image: Tensor) -> Features:
        """Images [N, 3, H, W], ImageNet-normalised, sides multiples of 32 -> features."""
        return self.pyramid(self.stem(image))

    def pool(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, C, H, W] -> maxima and their positions, both [N, C, H / 2, W / 2]."""
        return pool(x, self.pool_kernel)


class DropPath(nn.Module):
    """Stochastic depth: in training, a residual branch is left out for a sample with probability `rate`."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """[N, ...] -> the same shape and expectation."""
        if not self.training or self.rate == 0:
            return x
        kept = torch.rand((x.shape[0],) + (1,) * (x.dim() - 1), device=x.device) >= self.rate
        return x * kept / (1 - self.rate)


class MLP(nn.Module):
    """Two linear layers with GELU between them, four times as wide inside; channels last."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim] -> [..., dim]."""
        y: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return y


class PatchMerging(nn.Module):
    """Between two stages: layer norm, 2x2 max pooling, linear layer to twice the channels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.linear = nn.Linear(dim, 2 * dim, bias=False)

    def forward(self, tokens: Tensor, pool: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
        """[N, H, W, dim] -> tokens [N, H / 2, W / 2, 2 * dim], the skip [N, dim, H, W], and where its maxima are."""
        skip = self.norm(tokens).permute(0, 3, 1, 2)
        maxima, index = pool(skip)
        return self.linear(maxima.permute(0, 2, 3, 1)), skip, index


class PatchEmbedding(nn.Module):
    """Three 3x3 convolutions, the second and third after a pooling, then layer norm. The first makes E_0."""

    def __init__(self, e0_width: int, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, e0_width, 3, padding=1)
        self.conv2 = nn.Conv2d(e0_width, dim, 3, padding=1)
        self.conv3 = nn.Conv2d(dim, dim, 3, padding=1)
        self.norm = nn.LayerNorm(dim)


class TokenEncoder(Encoder):
    """The frame of the transformer encoders: embedding, four stages, patch merging between them.

    Tokens are kept as maps [N, H, W, C]; seen as [N, C, H, W] they are in channels_last order, so that going to and
    fro copies nothing. Skips are the layer-normed maps before pooling.

    Attributes:
        embed_ends_in_relu: Whether ReLU follows the third convolution of the embedding.

    Args:
        stages: Four modules from [N, H, W, C] to [N, H, W, C]; C is 1, 2, 4, 8 times `widths[2]`.
        final_norm: Layer norm of E_4.
    """

    embed_ends_in_relu: ClassVar[bool]

    def __init__(self, stages: Sequence[nn.Module], *, final_norm: bool) -> None:
        super().__init__(pool_kernel=2)
        dims = self.widths[2:]
        self.embed = PatchEmbedding(self.widths[0], dims[0])
        self.stages = nn.ModuleList(stages)
        self.merges = nn.ModuleList([PatchMerging(dim) for dim in dims[:-1]])
        self.norm = nn.LayerNorm(dims[-1]) if final_norm else nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def stem(self, image: Tensor) -> Tensor:
        """Images [N, 3, H, W], ImageNet-normalised -> E_0 [N, widths[0], H, W]."""
        return F.relu(self.embed.conv1(image))

    def pyramid(self, e0: Tensor) -> Features:
        """E_0 -> all features, E_0 among them."""
        x, index = self.pool(e0)
        skips, indices = [F.relu(self.embed.conv2(x))], [index]
        x, index = self.pool(skips[0])
        indices.append(index)
        x = self.embed.conv3(x)
        tokens = self.embed.norm((F.relu(x) if self.embed_ends_in_relu else x).permute(0, 2, 3, 1))
        for stage, merge in zip(self.stages[:-1], self.merges, strict=True):
            tokens, skip, index = merge(stage(tokens), self.pool)
            skips.append(skip)
            indices.append(index)
        e4 = self.norm(self.stages[-1](tokens)).permute(0, 3, 1, 2)
        return Features(e0, tuple(skips), e4, tuple(indices))


def drop_rates(depths: Sequence[int], largest: float) -> list[list[float]]:
    """Rates of `DropPath` for each block of each stage, rising evenly from 0 to `largest`."""
    rates = torch.linspace(0, largest, sum(depths)).tolist()
    return [rates[sum(depths[:stage]) : sum(depths[: stage + 1])] for stage in range(len(depths))]
