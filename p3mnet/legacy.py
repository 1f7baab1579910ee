"""How published figures were made: the test rule of P3M-Net's program ('RESIZE'), and MODNet's, to the pixel.

P3M-Net, GFM: sides are halved, floored to multiples of 32 and capped at 1600, each for itself; the fused alpha is
resized to the picture. Both resizings are those of scikit-image 0.14.5, which the program pins: bilinear, without
smoothing, and with black beyond the border, which darkens the outermost pixels. MODNet: the shorter side becomes 512
unless 512 lies between both sides, sides are floored to multiples of 32, and both resizings average areas. 8 bits are
cut off, not rounded.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from p3mnet.model import MattingNetwork, normalise

_MOST, _STRIDE, _MODNET = 1600, 32, 512


def pinned_resize(values: NDArray[np.floating], height: int, width: int) -> NDArray[np.float64]:
    """[H, W] or [H, W, C] -> [height, width] or [height, width, C] as scikit-image 0.14.5 does it by default."""
    rows, columns = (_weights(before, after) for before, after in zip(values.shape, (height, width), strict=False))
    resized: NDArray[np.float64] = np.einsum(
        "ih,hw...,jw->ij...", rows, values.astype(np.float64), columns, optimize=True
    )
    return resized


def _weights(before: int, after: int) -> NDArray[np.float64]:
    """Share of each old place in each new one, [after, before]; what lies beyond the border has none."""
    places = (np.arange(after) + 0.5) * before / after - 0.5
    lower = np.floor(places).astype(int)
    shares = np.zeros((after, before))
    for at, share in ((lower, 1 - (places - lower)), (lower + 1, places - lower)):
        inside = (at >= 0) & (at < before)
        np.add.at(shares, (np.flatnonzero(inside), at[inside]), share[inside])
    return shares


def _seen(side: int) -> int:
    half = side // 2
    return max(_STRIDE, min(_MOST, half - half % _STRIDE))


@torch.inference_mode()
def legacy_alpha(model: MattingNetwork, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Alpha of one picture by the published rule, cut off to 8 bits.

    Args:
        model: In eval mode, on any device.
        rgb: [H, W, 3].

    Returns:
        [H, W] of k / 255.
    """
    device = next(model.parameters()).device
    height, width = rgb.shape[:2]
    if model.short_side is not None:
        image = normalise(torch.tensor(rgb, device=device).permute(2, 0, 1)[None])
        fused = model(F.interpolate(image, _modnet_size(height, width), mode="area")).fusion.float()
        alpha = F.interpolate(fused, (height, width), mode="area")[0, 0].cpu().numpy().astype(np.float64)
    else:
        small = pinned_resize(rgb / 255.0, _seen(height), _seen(width)).astype(np.float32)
        image = normalise(torch.from_numpy(small).to(device).permute(2, 0, 1)[None])
        alpha = pinned_resize(model(image).fusion[0, 0].float().cpu().numpy(), height, width)
    # Sums of shares that make a whole may miss it by the last bit.
    return (np.floor(np.clip(alpha, 0, 1) * 255 + 1e-6) / 255).astype(np.float32)


def _modnet_size(height: int, width: int) -> tuple[int, int]:
    """What MODNet's program shows its network of a picture."""
    if max(height, width) < _MODNET or min(height, width) > _MODNET:
        short = min(height, width)
        height, width = (_MODNET if side == short else int(side / short * _MODNET) for side in (height, width))
    return max(_STRIDE, height - height % _STRIDE), max(_STRIDE, width - width % _STRIDE)
