"""P3M-Net: one encoder, a segmentation and a matting decoder, and their fusion (paper, section 'P3M-Net').

`MattingNetwork` is what the trainer, inference and checkpoints know of it and of the networks it is compared with.
"""

from __future__ import annotations

import copy
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_eval

from p3mdata.errors import SettingsError
from p3mnet.decoders import MattingDecoder, Narrowing, SegmentationDecoder
from p3mnet.encoders.contract import LARGEST_STRIDE, Encoder
from p3mnet.maps import vector

# Of RGB in 0..1; what the encoders' ImageNet weights expect.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
BACKGROUND, TRANSITION, FOREGROUND = range(3)
# Parts of the loss of networks that tell a trimap and an alpha apart, see `p3mnet.losses`.
SEGMENTATION_TERMS = ("ce_global", "ce_side2", "ce_side1", "ce_side0")
MATTING_TERMS = ("alpha_t", "laplacian_t", "alpha", "laplacian", "composition")


@dataclass(frozen=True)
class ModelConfig:
    """All that it takes to build a network again; part of every checkpoint.

    Attributes:
        name: Variant, one of `p3mnet.registry.list_models()`.
        tfi, sbfi, dbfi: Which integration modules are there (paper, ablation study).
        pool_kernel: Side of the encoder's pooling windows, 2 or 3.
        drop_path: Largest rate of stochastic depth in training, for the transformer encoders.
        colours: What MODNet turns the ImageNet-normalised picture into before it looks: "unit" (-1..1), as published,
            or "imagenet", nothing, as in checkpoints of p3mnet up to 0.3.
    """

    name: str
    tfi: bool = True
    sbfi: bool = True
    dbfi: bool = True
    pool_kernel: int = 2
    drop_path: float = 0.0
    colours: str = "imagenet"


class Matting(NamedTuple):
    """What the network says about images [N, 3, H, W].

    Attributes:
        global_logits: Trimap scores [N, 3, H, W]: background, transition, foreground.
        local: Alpha [N, 1, H, W] in 0..1, meant for the transition area.
        fusion: Alpha [N, 1, H, W] in 0..1 for the whole image.
        side2, side1, side0: Trimap scores [N, 3, H, W] of the dBFI at strides 8, 4, 2; None without dBFI.
    """

    global_logits: Tensor
    local: Tensor
    fusion: Tensor
    side2: Tensor | None
    side1: Tensor | None
    side0: Tensor | None


def normalise(image: Tensor) -> Tensor:
    """RGB [..., 3, H, W], uint8 or floating point in 0..1 -> ImageNet-normalised, the networks' input."""
    if image.dtype == torch.uint8:
        image = image.to(torch.get_default_dtype()) / 255
    mean, std = (vector(values, image)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (image - mean) / std


def in_unit_range(image: Tensor) -> Tensor:
    """ImageNet-normalised [..., 3, H, W] -> (x - 0.5) / 0.5 of RGB x in 0..1, so that black is -1 and white 1."""
    mean, std = (vector(values, image)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (image * std + mean - 0.5) / 0.5


def pad_to_stride(image: Tensor) -> Tensor:
    """Repeats the last row and column until both sides are multiples of 32: [N, C, H, W] -> [N, C, H', W']."""
    down, right = (-size % LARGEST_STRIDE for size in image.shape[-2:])
    return F.pad(image, (0, right, 0, down), mode="replicate") if down or right else image


def fuse(global_logits: Tensor, local: Tensor) -> Tensor:
    """Alpha of the whole image: 0 where background scores highest, 1 for foreground, `local` in the transition.

    Args:
        global_logits: [N, 3, H, W].
        local: [N, 1, H, W] in 0..1.

    Returns:
        [N, 1, H, W] in 0..1. No gradient reaches `global_logits`.
    """
    label = global_logits.argmax(1, keepdim=True)
    return torch.where(label == TRANSITION, local, (label == FOREGROUND).to(local.dtype))


class MattingNetwork(nn.Module, ABC):
    """A network that `p3mnet.create_model` builds.

    Attributes:
        config: What it takes to build it again.
        encoder: Has `stem`, which makes E_0, and names its parts like an ordinary ImageNet network.
        one_alpha: Whether it gives one alpha for the whole picture, where others tell a trimap and an alpha apart.
        short_side: They see a picture with its shorter side at this, as their publication tests them; None = its own.
        pastes_features: Whether `forward` takes `edit_e0`, for P3M-CP at feature level.
        staged: Whether its losses change in the course of training, by `progress`.
        needs_trimap: Whether `forward` and `predict` take a trimap, see `p3mnet.networks.trimap_based`.
        needs_distances: Whether its ONNX form has the distances of `p3mnet.distances` as an input.
    """

    config: ModelConfig
    encoder: Any
    one_alpha: ClassVar[bool] = False
    short_side: ClassVar[int | None] = None
    needs_trimap: ClassVar[bool] = False
    needs_distances: ClassVar[bool] = False
    pastes_features: ClassVar[bool] = True
    staged: ClassVar[bool] = False
    # Share of the training that is done, set by the trainer: networks that are trained in stages look at it.
    progress: float = 1.0

    @property
    @abstractmethod
    def terms(self) -> tuple[str, ...]:
        """Parts of its training loss, see `p3mnet.losses`; "composition" takes colours of foreground and background."""

    def as_seen(self, image: Tensor) -> Tensor:
        """ImageNet-normalised pictures as the encoder is given them: as they are, but for MODNet."""
        return image

    def own_losses(self, output: Any, batch: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Parts of a loss that is this network's alone, with "total"; None if its loss is `matting_losses`.

        Args:
            output: What `forward` said.
            batch: See `p3mnet.losses.matting_losses`.
        """
        return None

    @abstractmethod
    def forward(self, image: Tensor, edit_e0: Callable[[Tensor], Tensor] | None = None) -> Any:
        """Outputs for images [N, 3, H, W] of any size, ImageNet-normalised.

        Args:
            image: The images.
            edit_e0: Applied to E_0 before the rest of the network sees it, see `p3mnet.copy_paste.fcp`.

        Returns:
            A named tuple whose `fusion` [N, 1, H, W] is alpha in 0..1.
        """

    @torch.inference_mode()
    def predict(self, image: Tensor) -> Tensor:
        """Alpha of pictures at their own size.

        Args:
            image: RGB, [3, H, W] or [N, 3, H, W], uint8 or floating point in 0..1, on any device.

        Returns:
            Alpha [1, H, W] or [N, 1, H, W] in 0..1, of the network's precision, on its device.

        Raises:
            SettingsError: The network is in training mode, in which batch norm depends on the batch.
        """
        if self.training:
            raise SettingsError("The network is in training mode: call eval() on it before it predicts.")
        weight = next(self.parameters())
        batch = normalise(image.to(weight.device)).to(weight.dtype)
        alpha: Tensor = self(batch if image.dim() == 4 else batch[None]).fusion
        return alpha if image.dim() == 4 else alpha[0]


class P3MNet(MattingNetwork):
    """The network. Build it with `p3mnet.registry.create_model`.

    Args:
        config: What to build; `encoder` and `narrowing` must be those of its variant.
        encoder: See `p3mnet.encoders.contract.Encoder`.
        narrowing: See `p3mnet.decoders.conv_stages`.
    """

    def __init__(self, config: ModelConfig, encoder: Encoder, narrowing: Narrowing) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.segmentation = SegmentationDecoder(encoder.widths, narrowing, dbfi=config.dbfi)
        self.matting = MattingDecoder(encoder.widths, narrowing, encoder.pool_kernel, tfi=config.tfi, sbfi=config.sbfi)

    @property
    def terms(self) -> tuple[str, ...]:
        """See `MattingNetwork.terms`; the sides are those of dBFI."""
        return (*(SEGMENTATION_TERMS if self.config.dbfi else SEGMENTATION_TERMS[:1]), *MATTING_TERMS)

    def forward(self, image: Tensor, edit_e0: Callable[[Tensor], Tensor] | None = None) -> Matting:
        """All outputs.

        Args:
            image: [N, 3, H, W] of any size, ImageNet-normalised (`normalise`). It is padded inside to multiples of 32
                at the bottom and at the right.
            edit_e0: Applied to E_0 [N, C, H', W'] before the rest of the network sees it: the place where P3M-CP
                pastes features (paper, section 'P3M-CP').

        Returns:
            Outputs of the size of `image`.
        """
        height, width = image.shape[-2:]
        # All maps follow this order of memory, in which convolutions are faster, on a CPU as on a GPU.
        padded = pad_to_stride(image).contiguous(memory_format=torch.channels_last)
        e0 = self.encoder.stem(padded)
        if edit_e0 is not None:
            e0 = edit_e0(e0)
        features = self.encoder.pyramid(e0)
        segmentation = self.segmentation(features)
        local = self.matting(features, segmentation.guidance)
        logits, local, *sides = (x[..., :height, :width] for x in (segmentation.logits, local, *segmentation.sides))
        side2, side1, side0 = sides or (None, None, None)
        return Matting(logits, local, fuse(logits, local), side2, side1, side0)


def count_parameters(model: MattingNetwork, *, as_published: bool = False) -> int:
    """Number of trained values.

    Args:
        model: Any variant.
        as_published: Also count the classifier (and two layer norms of ViTAE) that the published network holds and
            never uses, as the paper's figures do.
    """
    count = sum(parameter.numel() for parameter in model.parameters())
    return count + (model.encoder.unused_in_reference if as_published else 0)


def folded(model: MattingNetwork) -> MattingNetwork:
    """A copy for inference alone: each batch norm becomes part of the convolution before it, so that no map is read and
    written once more for it. Outputs differ by rounding; checkpoints are made of the network itself.

    Args:
        model: In either mode; it stays as it is.

    Returns:
        In eval mode, on the same device.
    """
    copied = copy.deepcopy(model).eval()
    for module in copied.modules():
        # A weight that is computed at each use (spectral norm) is computed once.
        if parametrize.is_parametrized(module, "weight"):
            # The weight is a property of the module's class, which a copy shares with what it was copied from.
            own = type(module)
            kept = {name: value for name, value in vars(own).items() if name not in ("__dict__", "__weakref__")}
            module.__class__ = type(own.__name__, own.__bases__, kept)
            parametrize.remove_parametrizations(module, "weight")
    for parent in copied.modules():
        # In all our modules a batch norm is named right after the one convolution that feeds it.
        for (name, conv), (norm_name, norm) in itertools.pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.modules.batchnorm._BatchNorm):
                setattr(parent, name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, norm_name, nn.Identity())
    return copied
