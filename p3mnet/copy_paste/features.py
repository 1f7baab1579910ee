"""FCP: features of faces are pasted into those of a shallow layer of the encoder, while it looks at a batch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from p3mdata.errors import SettingsError
from p3mnet.copy_paste.config import CopyPasteConfig
from p3mnet.copy_paste.geometry import Turn, align, cut_and_turn, draw_turn, faces_of, paste, rectangle
from p3mnet.copy_paste.match import pose_at, wanted_of
from p3mnet.copy_paste.sources import Source, Sources
from p3mnet.encoders.contract import LARGEST_STRIDE, Encoder, TokenEncoder
from p3mnet.encoders.mobilenet import MobileNetV2
from p3mnet.encoders.resnet import ResNet34
from p3mnet.loader import Batch
from p3mnet.model import IMAGENET_MEAN, IMAGENET_STD, MattingNetwork, normalise, pad_to_stride
from p3mnet.networks.gfm import StridedResNet34


class Paste(NamedTuple):
    """A face that goes into image `number` of a batch, over `face`, bool [H, W]."""

    number: int
    source: Source
    turn: Turn
    face: Tensor


class FCP:
    """One batch's paste at feature level: an `edit_e0` of `P3MNet.forward`. Made by `fcp`."""

    def __init__(
        self,
        model: MattingNetwork,
        pastes: Sequence[Paste],
        config: CopyPasteConfig,
    ) -> None:
        self.model, self.pastes, self.config = model, pastes, config

    def __call__(self, e0: Tensor) -> Tensor:
        """E_0 [N, C, H, W] of the batch -> E_0 with features of sources; another layer changes later in the pass."""
        if not self.pastes:
            return e0
        encoder, config = self.model.encoder, self.config
        features = {}
        with torch.set_grad_enabled(torch.is_grad_enabled() and not config.detached):
            for source in {id(each.source): each.source for each in self.pastes}.values():
                image = pad_to_stride(self.model.as_seen(normalise(source.image[None].to(e0.device))))
                with _evaluating(encoder) if config.frozen_norm else contextlib.nullcontext():
                    features[id(source)] = _source_features(encoder, image, config.layer)[0]
        if config.layer == "e0":
            return self._merge(e0, features)
        stage, order = _first_stage(encoder)

        def merge(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            hook.remove()
            return order.back(self._merge(order.to(output), features))

        hook = stage.register_forward_hook(merge)
        return e0

    def _merge(self, target: Tensor, features: Mapping[int, Tensor]) -> Tensor:
        """[N, C, h, w] with faces in it, a new tensor; masks follow its stride."""
        merged = target.clone()
        for each in self.pastes:
            values = features[id(each.source)]
            mask = _on_features(each.source.mask[None, None], values.shape[-2:])[0, 0]
            target_mask = _on_features(each.face[None, None], target.shape[-2:])[0, 0]
            if not (mask.any() and target_mask.any()):
                continue
            fill = None
            if self.config.fit == "fill":
                rows, columns = rectangle(target_mask)
                fill = rows.stop - rows.start, columns.stop - columns.start
            face, shape = cut_and_turn(values, mask, each.turn, fill)
            overlap = align(shape, target_mask)
            if overlap is not None:
                paste(merged[each.number], face, overlap)
        return merged


def fcp(
    model: MattingNetwork, batch: Batch, sources: Sources, generator: torch.Generator, config: CopyPasteConfig
) -> FCP:
    """Draw a batch's sources and decide which images get them; call the network with the result as `edit_e0`.

        output = model(batch["image"], fcp(model, batch, sources, generator, config))

    Args:
        model: The network itself, not a wrapper around it.
        batch: Of `p3mnet.loader.to_device`.
        sources: Where faces come from.
        generator: Random numbers, on the CPU.
        config: How; `start_epoch` is up to the caller.
    """
    facemask, matte = batch["facemask"].cpu(), (batch["alpha"] * 255).to(torch.uint8).cpu()
    labels = batch["labels"].cpu() if "labels" in batch else facemask.to(torch.uint8) * 255
    size = max(batch["image"].shape[-2:])
    drawn = [draw_turn(config, generator) for _ in facemask]
    pastes: list[Paste] = []
    for index, (wanted, turn) in enumerate(drawn):
        for number, face in enumerate(faces_of(facemask[index, 0], matte[index, 0]) if wanted else ()):
            first = pastes[0].source if pastes else None
            own = draw_turn(config, generator)[1] if number else turn
            if first and config.sources == "one":
                source = first
            else:
                pose = pose_at(face, labels[index, 0], batch["poses"][index]) if "poses" in batch else None
                group = batch["people"][index] if "people" in batch else ()
                like = wanted_of(config.match, _seen(batch, index), face, pose, group) if config.chooses else None
                source = sources.draw(generator, size, like.mirrored() if like and own.flip else like)
            pastes.append(Paste(index, source, own, face))
    return FCP(model, pastes, config)


def _seen(batch: Batch, index: int) -> Tensor:
    """An image of a batch on the device as it was loaded: uint8 RGB [3, H, W] on the CPU."""
    image = batch["image"][index].float().cpu()
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    rgb: Tensor = ((image * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
    return rgb


@contextlib.contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, and afterwards each part's own mode again."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


class _Order(NamedTuple):
    """To [N, C, H, W] and back from it."""

    to: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]


def _first_stage(encoder: Encoder) -> tuple[nn.Module, _Order]:
    """The encoder's first stage, and the order of its output."""
    if isinstance(encoder, TokenEncoder):
        return encoder.stages[0], _Order(lambda x: x.permute(0, 3, 1, 2), lambda x: x.permute(0, 2, 3, 1))
    if isinstance(encoder, MobileNetV2):
        return encoder.features[MobileNetV2.FIRST_STAGE], _Order(lambda x: x, lambda x: x)
    if not isinstance(encoder, ResNet34 | StridedResNet34):
        raise SettingsError(f"copy_paste.layer stage1 is not for {type(encoder).__name__}: choose e0.")
    return encoder.layer1, _Order(lambda x: x, lambda x: x)


def _source_features(encoder: Encoder, image: Tensor, layer: str) -> Tensor:
    """Features [1, C, h, w] of an image [1, 3, H, W] whose sides are multiples of 32."""
    image = image.contiguous(memory_format=torch.channels_last)
    if layer == "e0":
        return encoder.stem(image)
    stage, order = _first_stage(encoder)
    kept: list[Tensor] = []
    hook = stage.register_forward_hook(lambda module, inputs, output: kept.append(order.to(output)))
    try:
        encoder(image)
    finally:
        hook.remove()
    return kept[0]


def _on_features(mask: Tensor, size: torch.Size) -> Tensor:
    """Masks bool [N, 1, H, W] of images -> [N, 1, h, w] of features of the padded images."""
    down, right = (-side % LARGEST_STRIDE for side in mask.shape[-2:])
    padded = F.pad(mask.float(), (0, right, 0, down))
    return F.interpolate(padded, tuple(size), mode="nearest-exact") > 0
