"""Colours of foreground and background, estimated where a network is trained, as `p3mnet.crops` does it in loaders.

On a GPU they cost its loaders nothing then (half of their time for a crop), and six of fourteen bytes of a pixel need
not cross.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# As wide as `p3mnet.crops.estimate_colours` looks, first coarsely, then finely.
_COARSE, _FINE = 91, 7
_LITTLE = 1e-5
# Crops at a time: for 512x512 pixels, what is computed with takes about 400 MB of memory.
_AT_ONCE = 8


@torch.no_grad()
def estimate_colours(image: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Foreground and background of crops, to a level of 8 bits what `p3mnet.crops.estimate_colours` gives.

    Sums of the coarse look are those of integers, so that their order does not matter: the same bits each time.

    Args:
        image: [N, 3, H, W] uint8.
        alpha: [N, 1, H, W] uint8.

    Returns:
        Both [N, 3, H, W] uint8, in channels_last order.
    """
    pairs = [_estimated(*part) for part in zip(torch.split(image, _AT_ONCE), torch.split(alpha, _AT_ONCE), strict=True)]
    foreground, background = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    return foreground, background


def _estimated(image: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    levels, cover = image.contiguous().to(torch.int32), alpha.contiguous().to(torch.int32)
    colours, opacity = levels.float() / 255, cover.float() / 255
    area = float(_COARSE * _COARSE)
    means = []
    for share in (cover, 255 - cover):
        weighted, weight = (_summed(_summed(x, -1), -2).float() for x in (levels * share, share))
        means.append(weighted / (255 * 255 * area) / (weight / (255 * area) + _LITTLE))
    shares = opacity, 1 - opacity
    sides = _nearer(colours, shares, means)
    fine = [_mean(side * share) / (_mean(share) + _LITTLE) for side, share in zip(sides, shares, strict=True)]
    foreground, background = (
        (255 * side).round_().to(torch.uint8).contiguous(memory_format=torch.channels_last)
        for side in _nearer(colours, shares, fine)
    )
    return foreground, background


def _nearer(colours: Tensor, shares: tuple[Tensor, Tensor], means: list[Tensor]) -> list[Tensor]:
    """Both sides' means, moved so that they make up the picture."""
    rest = colours - sum(share * mean for share, mean in zip(shares, means, strict=True))
    return [(mean + share * rest).clamp_(0, 1) for share, mean in zip(shares, means, strict=True)]


def _mirrored(x: Tensor, reach: int, axis: int) -> Tensor:
    """An axis made longer by so many places at both ends, mirrored at the outermost ones as often as it takes."""
    length = x.shape[axis]
    if length == 1:
        return torch.cat([x] * (1 + 2 * reach), axis)
    period = 2 * (length - 1)
    place = torch.arange(-reach, length + reach, device=x.device).remainder(period)
    return x.index_select(axis, torch.where(place < length, place, period - place))


def _summed(x: Tensor, axis: int) -> Tensor:
    """Sums of integers over windows of the coarse look along an axis."""
    ends = _mirrored(x, _COARSE // 2, axis).cumsum(axis, dtype=torch.int64)
    length = x.shape[axis]
    first = ends.narrow(axis, _COARSE - 1, length)
    before = torch.cat([torch.zeros_like(ends.narrow(axis, 0, 1)), ends.narrow(axis, 0, length - 1)], axis)
    return first - before


def _mean(x: Tensor) -> Tensor:
    """Means over windows of the fine look."""
    for axis in (-1, -2):
        x = _mirrored(x, _FINE // 2, axis)
    return F.avg_pool2d(x, _FINE, 1)
