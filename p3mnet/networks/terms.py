"""Terms that training losses are made of, for P3M-Net and the networks it is compared with.

In PyTorch's default type (float32); mattes are [N, 1, H, W] in 0..1, pictures [N, 3, H, W], ImageNet-normalised.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from p3mnet.maps import vector
from p3mnet.model import IMAGENET_MEAN, IMAGENET_STD, TRANSITION

# Levels of the Laplacian pyramid; what is left after them counts as one more.
LEVELS = 5
# Keeps the gradient of |d| finite at 0; a perfect alpha has a loss of its root, 1e-6.
_EPSILON = 1e-12


def absolute(difference: Tensor) -> Tensor:
    """|difference|, smooth at 0."""
    return torch.sqrt(difference.square() + _EPSILON)


def inside(values: Tensor, area: Tensor) -> Tensor:
    """Mean of values [N, C, H, W] over an area [N, 1, H, W] of 0 and 1; 0 where there is none."""
    return (values * area).sum() / (area.sum() * values.shape[1]).clamp(min=1)


def unknown(batch: Mapping[str, Tensor]) -> Tensor:
    """1 where the trimap says transition, [N, 1, H, W]."""
    return (batch["trimap"] == TRANSITION).to(torch.get_default_dtype())


def in_rgb(image: Tensor) -> Tensor:
    """ImageNet-normalised [N, 3, H, W] -> RGB in 0..1."""
    mean, deviation = (vector(values, image)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return image * deviation + mean


def has_colours(batch: Mapping[str, Tensor]) -> bool:
    """Whether a batch has colours of foreground and background."""
    return "foreground" in batch and "background" in batch


def composite(alpha: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """The batch's foreground over its background by an alpha, ImageNet-normalised [N, 3, H, W]."""
    front, back = (batch[kind].to(alpha.dtype) for kind in ("foreground", "background"))
    return alpha * front + (1 - alpha) * back


def colour_error(alpha: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """|composite - picture| in RGB of 0..1, [N, 3, H, W]."""
    difference = composite(alpha, batch) - batch["image"].to(alpha.dtype)
    return absolute(difference * vector(IMAGENET_STD, difference)[:, None, None])


def cross_entropy(logits: Tensor, trimap: Tensor) -> Tensor:
    """Mean over pixels; scores [N, 3, H, W], trimap int64 [N, 1, H, W] of 0, 1, 2.

    PyTorch's own for images sums on a GPU in an order that is not the same each time.
    """
    classes = trimap == torch.arange(3, device=trimap.device)[:, None, None]
    return -torch.where(classes, logits.log_softmax(1), 0).sum(1).mean()


# A Gaussian of variance 1/2, at 0, 1 and 2 pixels from the centre.
_BELL = tuple(math.exp(-(distance**2)) for distance in range(3))
# Sum of the recipe's 5x5 window, which adds a bell in x and one in y where a Gaussian would multiply them.
_WINDOW_SUM = 2 * 5 * (_BELL[0] + 2 * _BELL[1] + 2 * _BELL[2])


def _sums(padded: Tensor, axis: int, length: int) -> tuple[Tensor, Tensor]:
    """Sums of five neighbours along an axis, all equal and weighted by the bell."""
    at = [padded.narrow(axis, place, length) for place in range(5)]
    near, far = at[1] + at[3], at[0] + at[4]
    return at[2] + near + far, torch.add(_BELL[0] * at[2] + _BELL[1] * near, far, alpha=_BELL[2])


def _taps(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Both sums at each place; the border repeats its values."""
    length = x.shape[axis]
    first, last = x.narrow(axis, 0, 1), x.narrow(axis, length - 1, 1)
    return _sums(torch.cat([first, first, x, last, last], axis), axis, length)


def _taps_back(gradient: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """What a gradient of both sums is for the values: each sum of it, where the border has what it was repeated for."""
    length = gradient.shape[axis]
    none = torch.zeros_like(gradient.narrow(axis, 0, 1)).repeat_interleave(4, axis)
    flat, bell = _sums(torch.cat([none, gradient, none], axis), axis, length + 4)
    return _folded(flat, axis), _folded(bell, axis)


def _folded(wide: Tensor, axis: int) -> Tensor:
    """The two places beyond each border given to it."""
    length = wide.shape[axis] - 4
    for border, beyond in ((2, 0), (length + 1, length + 2)):
        wide.narrow(axis, border, 1).add_(wide.narrow(axis, beyond, 2).sum(axis, keepdim=True))
    return wide.narrow(axis, 2, length)


def _window(x: Tensor) -> Tensor:
    """The recipe's window [1, 1, 5, 5]."""
    bell = torch.arange(-2.0, 3.0, device=x.device).square_().neg_().exp_()
    return ((bell[:, None] + bell) / _WINDOW_SUM)[None, None].to(x.dtype)


def _whole(x: Tensor) -> bool:
    """Whether the window is taken at once: two kernels in place of thirty, which a compiler would make one."""
    return x.is_cuda and not torch.compiler.is_compiling()


class _Smooth(torch.autograd.Function):
    """The recipe's window, in x and y apart: the bell in one direction of the sum in the other, both ways.

    Its gradient is as cheap; that of each sum alone would fill a map with zeros for every neighbour, and PyTorch's of
    the window is slow on a GPU.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        if _whole(x):
            flat = F.pad(x.flatten(0, -4), (2, 2, 2, 2), mode="replicate")
            return F.conv2d(flat, _window(x)).reshape(x.shape)
        flat, bell = _taps(x, -1)
        return (_taps(flat, -2)[1] + _taps(bell, -2)[0]) / _WINDOW_SUM

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        shape = gradients[0].shape
        if _whole(gradients[0]):
            wide = F.conv2d(F.pad(gradients[0].flatten(0, -4), (4, 4, 4, 4)), _window(gradients[0]))
            return _folded(_folded(wide, -1), -2).reshape(shape)
        flat, bell = _taps_back(gradients[0], -2)
        return (_taps_back(flat, -1)[1] + _taps_back(bell, -1)[0]) / _WINDOW_SUM


def laplacian(differences: Tensor) -> Tensor:
    """Sum over the levels of a Laplacian pyramid of the mean absolute value.

    The pyramid is linear: that of the difference of two mattes is the difference of their pyramids.

    Args:
        differences: [K, N, 1, H, W].

    Returns:
        [K].
    """
    loss = differences.new_zeros(differences.shape[0])
    x = differences
    for _ in range(LEVELS):
        smooth: Tensor = _Smooth.apply(x)  # type: ignore[no-untyped-call]
        loss = loss + (x - smooth).abs().flatten(1).mean(1)
        halved = F.avg_pool2d(smooth.flatten(0, 1), 2)
        x = halved.reshape(*x.shape[:2], *halved.shape[1:])
    return loss + x.abs().flatten(1).mean(1)


def staged_total(parts: Mapping[str, Tensor], stages: Sequence[Mapping[str, float]], progress: float) -> Tensor:
    """Sum of a loss's parts by the weights of the stage that a training is in.

    Args:
        parts: By name.
        stages: Weights by name; each takes an equal share of the training.
        progress: Share of the training that is done.
    """
    share = stages[min(int(progress * len(stages)), len(stages) - 1)]
    return torch.stack([share[name] * part for name, part in parts.items()]).sum()
