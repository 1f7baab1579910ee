"""Pooling, unpooling and upsampling of feature maps, with the same result each time.

On a CPU these are PyTorch's operators. Its operators on a GPU let values race for a place (unpooling) or for their turn
in a sum (gradients of pooling and upsampling), and unpooling and its index copies change the order of memory. There,
and in exported graphs, maps are computed place by place instead: every place asks the windows it lies in. Nothing is
scattered, maps stay in channels_last order, and `torch.compile` makes one kernel of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def by_place(x: Tensor) -> bool:
    """Whether maps are computed place by place."""
    return x.is_cuda


def vector(values: Sequence[float], like: Tensor) -> Tensor:
    """[len(values)] of the type of another tensor, made where that is.

    `Tensor.new_tensor` copies from the host's memory: the host waits until a GPU has come so far, and no graph can be
    recorded of it.
    """
    return torch.cat([like.new_full((1,), value) for value in values])


def pool(x: Tensor, kernel: int) -> tuple[Tensor, Tensor]:
    """Max pooling by 2.

    Args:
        x: [N, C, H, W], even sides.
        kernel: Side of the windows, 2 or 3.

    Returns:
        Maxima and their positions in the flattened plane, int64, both [N, C, H / 2, W / 2].
    """
    if by_place(x) and torch.is_grad_enabled() and x.requires_grad:
        values, index = _Pool.apply(x, kernel)  # type: ignore[no-untyped-call]
        return values, index
    return _native_pool(x, kernel)


def pool_overlapping(x: Tensor) -> Tensor:
    """Max pooling by 2 with windows of 3x3, [N, C, H, W] of even sides -> [N, C, H / 2, W / 2]."""
    # PyTorch's own lets the gradients of a place that several windows chose race on a GPU, and says nothing of it.
    return pool(x, 3)[0] if by_place(x) else F.max_pool2d(x, 3, 2, padding=1)


def pool_apart(x: Tensor, stride: int) -> Tensor:
    """Max pooling with windows of 2x2, one out of each `stride` x `stride`: [N, C, H, W] -> [N, C, H / r, W / r]."""
    if not by_place(x) or torch.compiler.is_exporting():
        return F.max_pool2d(x, 2, stride)
    n, channels, height, width = x.shape
    high, wide = height // stride, width // stride
    grid = x.permute(0, 2, 3, 1).reshape(n, high, stride, wide, stride, channels)
    blocks = grid[:, :, :2, :, :2].reshape(n, 2 * high, 2 * wide, channels).permute(0, 3, 1, 2)
    return pool(blocks, 2)[0]


def unpool(x: Tensor, index: Tensor, kernel: int) -> Tensor:
    """Max unpooling 2x2: values go back to where the encoder's maxima were, the rest is 0.

    Overlapping 3x3 windows may share a maximum; then the last value in row order stays. The gradient of a place goes to
    all values that were meant for it, as PyTorch has it and the published networks were trained.

    Args:
        x: Values [N, C, H, W].
        index: Positions in the flattened plane [2 * H, 2 * W], int64 [N, C, H, W].
        kernel: Side of the windows that made `index`, 2 or 3.

    Returns:
        [N, C, 2 * H, 2 * W].
    """
    if torch.compiler.is_exporting():
        return unpool_by_plane(x, index, kernel)
    if by_place(x):
        unpooled: Tensor = _Unpool.apply(x, index, kernel)  # type: ignore[no-untyped-call]
        return unpooled
    if kernel == 2 or torch.get_num_threads() == 1:
        return F.max_unpool2d(x, index, [2, 2])
    # In channels_last order, threads share a plane and race for its places; so each thread gets planes of its own.
    planes = F.max_unpool2d(x.contiguous(), index.contiguous(), [2, 2])
    return planes.contiguous(memory_format=torch.channels_last)


def upsample(x: Tensor, ratio: int) -> Tensor:
    """[N, C, H, W] -> [N, C, ratio * H, ratio * W], bilinear, corners not aligned, in the type of `x`; even ratio."""
    if not by_place(x) or torch.compiler.is_exporting():
        return _bilinear(x, ratio)
    if not torch.compiler.is_compiling():
        found: Tensor = _Upsample.apply(x, ratio)  # type: ignore[no-untyped-call]
        return found
    # One kernel of a compiled program.
    grid = x.permute(0, 2, 3, 1)
    return _stretched(_stretched(grid, ratio, 1), ratio, 2).permute(0, 3, 1, 2)


def _bilinear(x: Tensor, ratio: int) -> Tensor:
    return F.interpolate(x, scale_factor=float(ratio), mode="bilinear", align_corners=False)


class _Upsample(torch.autograd.Function):
    """`upsample` by PyTorch's operator, with a gradient that is gathered place by place, in few kernels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ratio: int) -> Tensor:
        ctx.ratio = ratio
        # Autocast would have it in 32 bits.
        with torch.autocast(x.device.type, enabled=False):
            return _bilinear(x, ratio)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        grid = gradients[0].permute(0, 2, 3, 1)
        return _gathered(_gathered(grid, ctx.ratio, 1), ctx.ratio, 2).permute(0, 3, 1, 2), None


def _gathered(x: Tensor, ratio: int, axis: int) -> Tensor:
    """Gradient [N, H, W, C] of `_stretched` along an axis: what each old place has given to its new ones."""
    half, length = ratio // 2, x.shape[axis] // ratio
    parts = x.reshape(*x.shape[:axis], length, 2, half, *x.shape[axis + 1 :])
    first, second = parts.select(axis + 1, 0), parts.select(axis + 1, 1)
    if half == 1:
        # The most frequent by far: a sum of one is none.
        before, after, share = first.squeeze(axis + 1), second.squeeze(axis + 1), 0.25
        found = (before + after).mul_(1 - share)
    else:
        # How far the first half of the new places lies towards the place before; the second half mirrors it.
        towards = torch.arange(0.5 - half, 0.0, 1.0, device=x.device).div_(-ratio).to(x.dtype)
        towards = towards.reshape(half, *(1,) * (x.dim() - axis - 1))
        before, after, share = (first * towards).sum(axis + 1), (second * towards.flip(0)).sum(axis + 1), 1.0
        found = (first + second).sum(axis + 1).sub_(before).sub_(after)
    inner = length - 1
    # Beyond the border lies what is at it.
    for given, here in ((before, 0), (after, inner)):
        found.narrow(axis, here, 1).add_(given.narrow(axis, here, 1), alpha=share)
    if inner:
        found.narrow(axis, 0, inner).add_(before.narrow(axis, 1, inner), alpha=share)
        found.narrow(axis, 1, inner).add_(after.narrow(axis, 0, inner), alpha=share)
    return found


def _stretched(x: Tensor, ratio: int, axis: int) -> Tensor:
    """Linear interpolation along an axis of [N, H, W, C]."""
    length, half = x.shape[axis], ratio // 2
    before = torch.cat([x.narrow(axis, 0, 1), x.narrow(axis, 0, length - 1)], axis)
    after = torch.cat([x.narrow(axis, 1, length - 1), x.narrow(axis, length - 1, 1)], axis)
    # How far the first half of the new places lies towards the place before; the second half mirrors it.
    share = 0.5 - (torch.arange(half, device=x.device, dtype=torch.float32) + 0.5) / ratio
    share = share.to(x.dtype).reshape(half, *(1,) * (x.dim() - axis - 1))
    own, towards = x.unsqueeze(axis + 1), axis + 1
    places = [
        torch.lerp(own, before.unsqueeze(towards), share),
        torch.lerp(own, after.unsqueeze(towards), share.flip(0)),
    ]
    return torch.cat(places, towards).flatten(axis, towards)


def average(x: Tensor, rows: int, columns: int) -> Tensor:
    """Means of rows x columns parts of a map [N, C, H, W], which may overlap by a place: [N, C, rows, columns]."""
    if not _repeated(x):
        return F.adaptive_avg_pool2d(x, (rows, columns))
    for axis, cells in ((2, rows), (3, columns)):
        length = x.shape[axis]
        places = [(cell * length // cells, -(-(cell + 1) * length // cells)) for cell in range(cells)]
        x = torch.stack([x.narrow(axis, first, last - first).mean(axis) for first, last in places], axis)
    return x


def mirrored(x: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, C, H + 2, W + 2], mirrored at the outermost places."""
    if not _repeated(x):
        return F.pad(x, (1, 1, 1, 1), mode="reflect")
    for axis in (2, 3):
        x = torch.cat([x.narrow(axis, 1, 1), x, x.narrow(axis, x.shape[axis] - 2, 1)], axis)
    return x


def _repeated(x: Tensor) -> bool:
    """Whether PyTorch's operator would be an error, since its gradient on a GPU is not the same each time."""
    return by_place(x) and torch.are_deterministic_algorithms_enabled()


def _native_pool(x: Tensor, kernel: int) -> tuple[Tensor, Tensor]:
    return F.max_pool2d(x, kernel, 2, padding=(kernel - 1) // 2, return_indices=True)


class _Pool(torch.autograd.Function):
    """`pool`, whose gradient is summed place by place."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: int) -> tuple[Tensor, Tensor]:
        values, index = _native_pool(x, kernel)
        ctx.save_for_backward(index)
        ctx.kernel = kernel
        ctx.mark_non_differentiable(index)
        return values, index

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        return _placed(gradients[0], index, ctx.kernel, adding=True), None


class _Unpool(torch.autograd.Function):
    """`unpool`, place by place."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, kernel: int) -> Tensor:
        ctx.save_for_backward(index)
        return _placed(x, index, kernel, adding=False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (index,) = ctx.saved_tensors
        n, channels, height, width = index.shape
        grid = gradients[0].permute(0, 2, 3, 1).reshape(n, 4 * height * width, channels)
        chosen = grid.gather(1, index.permute(0, 2, 3, 1).reshape(n, height * width, channels))
        return chosen.reshape(n, height, width, channels).permute(0, 3, 1, 2), None, None


def _placed(x: Tensor, index: Tensor, kernel: int, adding: bool) -> Tensor:
    """Values [N, C, H, W] at their positions [2 * H, 2 * W]: the last of a place in row order, or the sum."""
    values, index = x.permute(0, 2, 3, 1), index.permute(0, 2, 3, 1)
    n, height, width, channels = values.shape
    # Of each place: number in the flattened plane; [H, 2, W, 2, 1], as the places of a 2x2 block lie.
    places = torch.arange(4 * height * width, device=x.device).reshape(height, 2, width, 2, 1)
    none = values.new_zeros(())
    # The window of each block holds all of its four places.
    blocks = torch.where(index[:, :, None, :, None] == places, values[:, :, None, :, None], none)
    if kernel == 3:
        # Its last column and row lie in the windows to the right, below, and across too.
        for down, right in ((0, 1), (1, 0), (1, 1)):
            mine = (slice(None), slice(height - down), slice(down, None), slice(width - right), slice(right, None))
            theirs = (slice(None), slice(down, None), None, slice(right, None), None)
            meant, given, found = blocks[mine], values[theirs], index[theirs] == places[mine[1:]]
            if adding:
                meant += torch.where(found, given, none)
            else:
                meant.copy_(torch.where(found, given, meant))
    return blocks.reshape(n, 2 * height, 2 * width, channels).permute(0, 3, 1, 2)


def unpool_by_plane(x: Tensor, index: Tensor, kernel: int) -> Tensor:
    """`unpool` in few operators, without writes to computed places: for exported graphs."""
    height, width = x.shape[-2:]
    corner = 2 * (torch.arange(height, device=x.device)[:, None] * (2 * width) + torch.arange(width, device=x.device))
    # Where the maximum lies, seen from the top left of its 2x2 block.
    offset = index - corner
    reach = kernel - 2
    if reach:
        # Beyond the border are windows whose maximum is nowhere.
        x = F.pad(x, (0, 1, 0, 1))
        offset = F.pad(offset, (0, 1, 0, 1), value=4 * width)
    planes = []
    for row in (0, 1):
        for column in (0, 1):
            plane = x.new_zeros(())
            for below in range(1 + row * reach):
                for beside in range(1 + column * reach):
                    window = (..., slice(below, below + height), slice(beside, beside + width))
                    wanted = (row - 2 * below) * 2 * width + column - 2 * beside
                    plane = torch.where(offset[window] == wanted, x[window], plane)
            planes.append(plane)
    return F.pixel_shuffle(torch.stack(planes, 2).flatten(1, 2), 2)
