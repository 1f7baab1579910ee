"""What networks that need a trimap have in common: one more input, and an alpha that keeps what the trimap knows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from p3mdata.errors import SettingsError
from p3mnet.model import BACKGROUND, FOREGROUND, TRANSITION, MattingNetwork, normalise
from p3mnet.networks.terms import absolute, colour_error, has_colours, inside, unknown


class TrimapMatting(NamedTuple):
    """What a trimap-based network says about images [N, 3, H, W].

    Attributes:
        alpha: What the network computes [N, 1, H, W], in 0..1.
        fusion: The same in the trimap's transition, 0 and 1 where the trimap knows better.
        foreground, background: Colours [N, 3, H, W], RGB in 0..1; None of networks that give none.
        coarse: Alpha [N, 1, H, W] before its refinement; None of networks without one.
    """

    alpha: Tensor
    fusion: Tensor
    foreground: Tensor | None = None
    background: Tensor | None = None
    coarse: Tensor | None = None


class TrimapNetwork(MattingNetwork):
    """A network that sees a picture and its trimap, built by `p3mnet.create_model` like the others."""

    needs_trimap: ClassVar[bool] = True
    one_alpha: ClassVar[bool] = True
    pastes_features: ClassVar[bool] = False

    @abstractmethod
    def forward(
        self, image: Tensor, edit_e0: Callable[[Tensor], Tensor] | None = None, trimap: Tensor | None = None
    ) -> TrimapMatting:
        """Outputs for images of any size.

        Args:
            image: [N, 3, H, W], ImageNet-normalised.
            edit_e0: Not for these networks, which P3M-CP is not made for; None.
            trimap: int64 [N, 1, H, W] of 0 (background), 1 (transition), 2 (foreground). It has a default only because
                networks are called alike.
        """

    @torch.inference_mode()
    def predict(self, image: Tensor, trimap: Tensor | None = None) -> Tensor:
        """Alpha of pictures at their own size.

        Args:
            image: RGB, [3, H, W] or [N, 3, H, W], uint8 or floating point in 0..1, on any device.
            trimap: Of the same leading shape with one channel, int64 of 0, 1, 2 as for `forward`.

        Returns:
            Alpha [1, H, W] or [N, 1, H, W] in 0..1.

        Raises:
            SettingsError: There is no trimap, or the network is in training mode.
        """
        if self.training:
            raise SettingsError("The network is in training mode: call eval() on it before it predicts.")
        if trimap is None:
            raise SettingsError(f"{self.config.name} needs a trimap of each picture.")
        weight = next(self.parameters())
        batch = normalise(image.to(weight.device)).to(weight.dtype)
        known = trimap.to(weight.device)
        one = image.dim() == 3
        alpha: Tensor = self(batch[None] if one else batch, None, known[None] if one else known).fusion
        return alpha[0] if one else alpha


class AlphaOfPair(TrimapNetwork):
    """A network that gives alpha alone, of a picture and a trimap whose sides are multiples of `stride`.

    Its losses are those of DIM, where a subclass has no others.
    """

    stride: ClassVar[int] = 32
    # Whether alpha is clipped only where it is used: its loss sees what lies outside 0..1.
    unbounded: ClassVar[bool] = False

    @abstractmethod
    def alpha_of(self, image: Tensor, trimap: Tensor) -> Tensor:
        """Alpha [N, 1, H, W] of pictures [N, 3, H, W] and trimaps [N, 1, H, W]."""

    @property
    def terms(self) -> tuple[str, ...]:
        """See `MattingNetwork.terms`."""
        return ("unknown_alpha", "unknown_composition")

    def own_losses(self, output: TrimapMatting, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Alpha and composite in the unknown region, in equal parts (Xu et al. 2017, equations 1 and 2)."""
        return unknown_losses(output, batch, {"unknown_alpha": 0.5, "unknown_composition": 0.5})

    def forward(
        self, image: Tensor, edit_e0: Callable[[Tensor], Tensor] | None = None, trimap: Tensor | None = None
    ) -> TrimapMatting:
        """See `TrimapNetwork.forward`; pictures are padded inside to multiples of the stride."""
        height, width = image.shape[-2:]
        known = require(trimap)
        alpha = self.alpha_of(*pad_pair(image, known, self.stride))[..., :height, :width]
        return TrimapMatting(alpha, keep_known(alpha.clamp(0, 1) if self.unbounded else alpha, known))


def require(trimap: Tensor | None) -> Tensor:
    """The trimap of a call, which must be there."""
    if trimap is None:
        raise SettingsError("This network needs a trimap.")
    return trimap


def keep_known(alpha: Tensor, trimap: Tensor) -> Tensor:
    """Alpha [N, 1, H, W] in the transition, 0 and 1 where the trimap says background and foreground."""
    return torch.where(trimap == TRANSITION, alpha, (trimap == FOREGROUND).to(alpha.dtype))


def one_hot(trimap: Tensor, dtype: torch.dtype) -> Tensor:
    """[N, 1, H, W] of 0, 1, 2 -> [N, 3, H, W] of 0 and 1: background, transition, foreground."""
    return torch.cat([trimap == kind for kind in (BACKGROUND, TRANSITION, FOREGROUND)], 1).to(dtype)


def as_channel(trimap: Tensor, dtype: torch.dtype, unknown: float = 0.5) -> Tensor:
    """[N, 1, H, W] of 0, 1, 2 -> 0, `unknown`, 1: the trimap as a fourth channel of the picture."""
    known = trimap.to(dtype) / FOREGROUND
    return known if unknown == 0.5 else torch.where(trimap == TRANSITION, unknown, known)


def pad_pair(image: Tensor, trimap: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Repeats the last row and column of both until their sides are multiples of `stride`."""
    down, right = (-size % stride for size in image.shape[-2:])
    if not (down or right):
        return image, trimap
    edges = (0, right, 0, down)
    # Replication is for floating point; the three values are exact in it.
    return F.pad(image, edges, mode="replicate"), F.pad(trimap.to(image.dtype), edges, mode="replicate").to(
        trimap.dtype
    )


def unknown_losses(
    output: TrimapMatting, batch: Mapping[str, Tensor], weights: Mapping[str, float]
) -> dict[str, Tensor]:
    """Losses in the unknown region, where alone these networks are asked.

    Args:
        output: What the network says.
        batch: See `p3mnet.losses.matting_losses`.
        weights: Of "unknown_alpha" (mean |alpha - label|) and "unknown_composition" (mean |composite - picture| over
            pixels and channels of RGB in 0..1); the latter is left out where a batch has no colours.

    Returns:
        Scalars of these names and "total".
    """
    area, alpha = unknown(batch), output.alpha.to(torch.get_default_dtype())
    parts = {"unknown_alpha": inside(absolute(alpha - batch["alpha"].to(alpha.dtype)), area)}
    if "unknown_composition" in weights and has_colours(batch):
        parts["unknown_composition"] = inside(colour_error(alpha, batch), area)
    parts["total"] = torch.stack([weights[name] * part for name, part in parts.items()]).sum()
    return parts
