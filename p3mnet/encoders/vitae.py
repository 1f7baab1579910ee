"""ViTAE-S with max pooling in place of reduction cells (Xu et al., 2021; P3M-Net's encoder 'ViTAE-S').

A normal cell adds attention and a branch of convolutions, so that it has both a global view and a sense of locality.
At stride 4 attention is linear in the number of tokens (performer); the other stages attend to everything.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from p3mnet.encoders.contract import MLP, DropPath, TokenEncoder, drop_rates

DEPTHS = (2, 2, 12, 2)
HEAD_WIDTH = 64
# Of the convolutions inside the normal cells, by stage.
GROUPS = (1, 32, 64, 128)
RANDOM_FEATURES = 32
# The published 1e-8, for features that are not divided by the square root of their number.
EPSILON = 1e-8 * RANDOM_FEATURES


class Attention(nn.Module):
    """Multi-head attention of all tokens to all tokens."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.heads = dim // HEAD_WIDTH
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """[N, T, dim] -> [N, T, dim]."""
        n, tokens, dim = x.shape
        query, key, value = self.qkv(x).reshape(n, tokens, 3, self.heads, HEAD_WIDTH).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(query, key, value)
        y: Tensor = self.proj(out.transpose(1, 2).reshape(n, tokens, dim))
        return y


def random_projection(seed: int) -> Tensor:
    """Rows for the performer's random features: orthogonal, of length sqrt(32); float32 [1, 32, 64].

    A pure function of the seed: drawn and made orthogonal in float64, so that all processes round to the same values.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(HEAD_WIDTH, RANDOM_FEATURES, generator=generator, dtype=torch.float64)
    basis, triangle = torch.linalg.qr(rows)
    signed: Tensor = basis * triangle.diagonal().sign() * math.sqrt(RANDOM_FEATURES)
    return signed.T[None].float().contiguous()


class PerformerAttention(nn.Module):
    """Attention in linear time by positive random features (Choromanski et al., 2021), one head of 64 channels.

        phi(x) = exp(W x - |x|^2 / 2)        y = phi(q) (phi(k)^T v) / (phi(q) sum phi(k) + epsilon)

    The usual factor 1 / sqrt(m) of phi cancels; epsilon is 1e-8 for phi with that factor, hence 1e-8 * m here.
    W is a buffer that is saved with the weights. The published code draws it anew in every process and does not save
    it, although outputs depend on it. Features are computed in float32 whatever the model's precision: exp needs it.

    Args:
        dim: Channels, 64.
        seed: Of the projection W.
    """

    projection: Tensor

    def __init__(self, dim: int, seed: int) -> None:
        super().__init__()
        # In the order of the published weights.
        self.kqv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.register_buffer("projection", random_projection(seed))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PerformerAttention:
        """Moves with the module, but stays float32 when the module changes its precision."""
        exact = self.projection
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.projection.dtype != torch.float32 and not exact.is_meta:
            self.projection = exact.to(self.projection.device)
        return self

    def features(self, x: Tensor) -> Tensor:
        """phi: [N, T, 64] -> [N, T, 32], positive."""
        exponent = x @ self.projection[0].T - x.square().sum(-1, keepdim=True) / 2
        return exponent.exp()

    def linear_attention(self, kqv: Tensor) -> Tensor:
        """Keys, queries, values in float32, [N, T, 192] -> [N, T, 64]."""
        key, query, value = kqv.chunk(3, -1)
        key, query = self.features(key), self.features(query)
        weight = query @ key.sum(1)[:, :, None]
        return query @ (key.transpose(1, 2) @ value) / (weight + EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """[N, T, dim] -> [N, T, dim]."""
        kqv = self.kqv(x).float()
        if torch.is_autocast_enabled(x.device.type):
            with torch.autocast(x.device.type, enabled=False):
                out = self.linear_attention(kqv)
        else:
            out = self.linear_attention(kqv)
        y: Tensor = self.proj(out.to(x.dtype))
        return y


class NormalCell(nn.Module):
    """x + attention(norm(x)) + convolutions(x), then x + MLP(norm(x))."""

    def __init__(self, attention: nn.Module, dim: int, groups: int, drop: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attention = attention
        self.local = nn.Sequential(
            nn.Conv2d(dim, 4 * dim, 3, padding=1, groups=groups),
            nn.BatchNorm2d(4 * dim),
            nn.SiLU(inplace=True),
            nn.Conv2d(4 * dim, dim, 3, padding=1, groups=groups),
            nn.BatchNorm2d(dim),
            nn.SiLU(inplace=True),
            nn.Conv2d(dim, dim, 3, padding=1, groups=groups),
            nn.SiLU(inplace=True),
        )
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = MLP(dim)
        self.drop_path = DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        """[N, H, W, dim] -> [N, H, W, dim]."""
        local = self.local(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        attended = self.attention(self.norm1(x).flatten(1, 2)).reshape(x.shape)
        x = x + self.drop_path(attended) + self.drop_path(local)
        y: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return y


class ViTAES(TokenEncoder):
    """Stages of 2, 2, 12, 2 normal cells with 64 to 512 channels; E_0 has 32.

    Args:
        drop_path: Largest rate of stochastic depth in training.
        seed: Of the performer's random projections, which do not depend on torch's global generator.
    """

    embed_ends_in_relu: ClassVar[bool] = False
    widths: ClassVar[tuple[int, ...]] = (32, 64, 64, 128, 256, 512)
    # The classifier, and a layer norm in each of the two performers.
    unused_in_reference: ClassVar[int] = 512 * 1000 + 1000 + 2 * 2 * 64

    def __init__(self, drop_path: float = 0.0, seed: int = 0) -> None:
        rates = drop_rates(DEPTHS, drop_path)
        stages = []
        for stage, (dim, groups, drops) in enumerate(zip(self.widths[2:], GROUPS, rates, strict=True)):
            attentions = [
                Attention(dim) if stage else PerformerAttention(dim, seed + cell) for cell in range(len(drops))
            ]
            cells = zip(attentions, drops, strict=True)
            stages.append(nn.Sequential(*(NormalCell(attention, dim, groups, drop) for attention, drop in cells)))
        super().__init__(stages, final_norm=False)
