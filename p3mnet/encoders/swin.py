"""Swin-T with max pooling in place of strides (Liu et al., 2021; P3M-Net's encoder 'Swin-T').

Attention runs inside windows of 7x7 tokens; every second block shifts the windows by 3. Inside a block, maps are padded
to multiples of 7, and no token attends to the padding.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from p3mnet.encoders.contract import MLP, DropPath, TokenEncoder, drop_rates

DEPTHS = (2, 2, 6, 2)
HEAD_WIDTH = 32
WINDOW = 7
# Of even and odd blocks.
SHIFTS = (0, WINDOW // 2)
# Added to the attention of pairs in one window that must not see each other.
APART = -100.0


def windows_of(x: Tensor) -> Tensor:
    """Map [N, H, W, C] -> its windows [N, H / 7 * W / 7, 49, C], row by row."""
    n, height, width, channels = x.shape
    grid = x.reshape(n, height // WINDOW, WINDOW, width // WINDOW, WINDOW, channels)
    return grid.transpose(2, 3).reshape(n, -1, WINDOW * WINDOW, channels)


def map_of(windows: Tensor, height: int, width: int) -> Tensor:
    """Windows [N, H / 7 * W / 7, 49, C] -> map [N, H, W, C]; inverse of `windows_of`."""
    grid = windows.reshape(windows.shape[0], height // WINDOW, width // WINDOW, WINDOW, WINDOW, windows.shape[-1])
    return grid.transpose(2, 3).reshape(windows.shape[0], height, width, windows.shape[-1])


def regions(size: int, shift: int, device: torch.device) -> Tensor:
    """Label of each place on one axis, padded to a multiple of 7 and rolled by `shift`; int64 [padded size].

    Places see each other only with the same label: image and padding are apart, and so are the opposite borders that
    rolling brings together.
    """
    padded = size + -size % WINDOW
    place = torch.arange(padded, device=device)
    label = ((place + shift) % padded >= size).long()
    if shift:
        label = label + 2 * (place >= padded - WINDOW).long() + 2 * (place >= padded - shift).long()
    return label


def window_mask(height: int, width: int, shift: int, device: torch.device) -> Tensor | None:
    """What is added to attention inside windows: 0 or `APART`, [windows, 49, 49]; None where all see each other."""
    if not shift and height % WINDOW == 0 and width % WINDOW == 0:
        return None
    rows, columns = regions(height, shift, device), regions(width, shift, device)
    labels = windows_of((6 * rows[:, None] + columns)[None, :, :, None])[0, :, :, 0]
    return torch.where(labels[:, :, None] == labels[:, None, :], 0.0, APART)


def relative_positions() -> Tensor:
    """Row of the bias table for each pair of tokens in a window, [49, 49] in 0..168."""
    steps = torch.arange(WINDOW)
    row, column = (grid.flatten() for grid in torch.meshgrid(steps, steps, indexing="ij"))
    down, right = (axis[:, None] - axis[None, :] + WINDOW - 1 for axis in (row, column))
    return down * (2 * WINDOW - 1) + right


class WindowAttention(nn.Module):
    """Multi-head attention inside windows, with a learned bias for each relative position."""

    positions: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.heads = dim // HEAD_WIDTH
        self.bias_table = nn.Parameter(torch.empty((2 * WINDOW - 1) ** 2, self.heads))
        nn.init.trunc_normal_(self.bias_table, std=0.02)
        self.register_buffer("positions", relative_positions(), persistent=False)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, windows: Tensor, mask: Tensor | None) -> Tensor:
        """Windows [N, K, 49, dim] and mask [K, 49, 49] -> windows of the same shape."""
        n, count, tokens, dim = windows.shape
        qkv = self.qkv(windows).reshape(n * count, tokens, 3, self.heads, HEAD_WIDTH)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        bias = self.bias_table[self.positions].permute(2, 0, 1)[None]
        if mask is not None:
            bias = (bias + mask[:, None]).repeat(n, 1, 1, 1)
        out = F.scaled_dot_product_attention(query, key, value, bias.to(query.dtype))
        y: Tensor = self.proj(out.transpose(1, 2).reshape(n, count, tokens, dim))
        return y


class SwinBlock(nn.Module):
    """Window attention and MLP, each after a layer norm and around a shortcut."""

    def __init__(self, dim: int, shift: int, drop: float) -> None:
        super().__init__()
        self.shift = shift
        self.norm1 = nn.LayerNorm(dim)
        self.attention = WindowAttention(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLP(dim)
        self.drop_path = DropPath(drop)

    def attend(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Attention on a map [N, H, W, dim]; `mask` is `window_mask` of that size and of this block's shift."""
        height, width = x.shape[1:3]
        x = F.pad(x, (0, 0, 0, -width % WINDOW, 0, -height % WINDOW))
        padded = x.shape[1:3]
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        x = map_of(self.attention(windows_of(x), mask), *padded)
        if self.shift:
            x = torch.roll(x, (self.shift, self.shift), (1, 2))
        return x[:, :height, :width]

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """[N, H, W, dim] and its `window_mask` -> [N, H, W, dim]."""
        x = x + self.drop_path(self.attend(self.norm1(x), mask))
        y: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return y


class SwinStage(nn.Module):
    """Blocks of one resolution, with and without shift in turn."""

    def __init__(self, dim: int, drops: list[float]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([SwinBlock(dim, SHIFTS[number % 2], drop) for number, drop in enumerate(drops)])

    def forward(self, x: Tensor) -> Tensor:
        """[N, H, W, dim] -> [N, H, W, dim]."""
        height, width = x.shape[1:3]
        masks = [window_mask(height, width, shift, x.device) for shift in SHIFTS]
        for number, block in enumerate(self.blocks):
            x = block(x, masks[number % 2])
        return x


class SwinT(TokenEncoder):
    """Stages of 2, 2, 6, 2 blocks with 96 to 768 channels; E_0 has 48.

    Args:
        drop_path: Largest rate of stochastic depth in training.
    """

    embed_ends_in_relu: ClassVar[bool] = True
    widths: ClassVar[tuple[int, ...]] = (48, 96, 96, 192, 384, 768)

    def __init__(self, drop_path: float = 0.0) -> None:
        rates = drop_rates(DEPTHS, drop_path)
        super().__init__([SwinStage(*pair) for pair in zip(self.widths[2:], rates, strict=True)], final_norm=True)
