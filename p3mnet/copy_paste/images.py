"""ICP: faces are pasted into images, where samples are loaded."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from p3mnet.copy_paste.config import CopyPasteConfig
from p3mnet.copy_paste.geometry import Turn, align, cut_and_turn, draw_turn, faces_of, paste, rectangle
from p3mnet.copy_paste.match import pose_at, wanted_of
from p3mnet.copy_paste.sources import Source, Sources
from p3mnet.data import Sample
from p3mnet.image_files import Array
from p3mnet.loader import Batch


def paste_image(
    source: Source, images: Sequence[Tensor], facemask: Tensor, turn: Turn, fit: str = "framed"
) -> list[Tensor]:
    """ICP for one face.

    Args:
        source: The face.
        images: What it is pasted into, uint8 RGB [3, H, W].
        facemask: The face to paste over, bool [H, W], with something in it.
        turn: Resizing and angle.
        fit: See `CopyPasteConfig`.

    Returns:
        uint8 [3, H, W]: the images themselves if nothing is pasted, else copies.
    """
    fill = tuple(int(part.stop - part.start) for part in rectangle(facemask)) if fit == "fill" else None
    face, mask = cut_and_turn(source.image, source.mask, turn, fill)  # type: ignore[arg-type]
    overlap = align(mask, facemask)
    if overlap is None:
        return list(images)
    copies = [image.clone() for image in images]
    for copy in copies:
        paste(copy, face.round().clamp(0, 255), overlap)
    return copies


def icp(batch: Batch, sources: Sources, generator: torch.Generator, config: CopyPasteConfig) -> Batch:
    """Paste faces into a batch of `p3mnet.loader`, uint8 on the CPU; each face of each image has a source of its own.

    Returns:
        A batch that differs in `image` and, so that the composition loss sees the same face, in `foreground`, if it is
        there. Tensors are not changed in place.
    """
    kinds = [kind for kind in ("image", "foreground") if kind in batch]
    size = max(batch["image"].shape[-2:])
    rows = []
    for index, facemask in enumerate(batch["facemask"]):
        images = [batch[kind][index] for kind in kinds]
        wanted, turn = draw_turn(config, generator)
        matte = batch["alpha"][index, 0] if "alpha" in batch else None
        for number, face in enumerate(faces_of(facemask[0] > 127, matte) if wanted else ()):
            own = draw_turn(config, generator)[1] if number else turn
            pose = pose_at(face, facemask[0], batch["poses"][index]) if "poses" in batch else None
            group = batch["people"][index] if "people" in batch else ()
            like = wanted_of(config.match, images[0], face, pose, group)
            like = like.mirrored() if like is not None and own.flip else like
            images = paste_image(sources.draw(generator, size, like), images, face, own, config.fit)
        # The batch's order of memory is channels last.
        rows.append([image.permute(1, 2, 0) for image in images])
    stacks = (torch.stack(images).permute(0, 3, 1, 2) for images in zip(*rows, strict=True))
    return {**batch, **dict(zip(kinds, stacks, strict=True))}


class ICP:
    """`icp` for single samples, as `edit` of `make_loader`: workers paste, each sample by its own numbers.

    Args:
        sources: Where faces come from.
        config: How they are pasted; `start_epoch` is up to the caller.
    """

    def __init__(self, sources: Sources, config: CopyPasteConfig) -> None:
        self.sources, self.config = sources, config

    def __call__(self, sample: Sample, generator: torch.Generator) -> Sample:
        """A sample that differs as in `icp`; broken sources are `noted`."""
        single: Batch = {
            kind: sample[kind][None] for kind in ("image", "foreground", "facemask", "alpha") if kind in sample
        }
        if "poses" in sample:
            single["poses"] = [sample["poses"]]
        if "people" in sample:
            single["people"] = [sample["people"]]
        pasted = icp(single, self.sources, generator, self.config)
        images: Sample = {kind: pasted[kind][0] for kind in ("image", "foreground") if kind in pasted}
        return {**sample, **images, "noted": list(self.sources.bad)}


def draw_icp(source: Tensor | Array, mask: Tensor | Array, target: Tensor | Array, merged: Tensor | Array) -> Array:
    """What ICP did to a pair, for people to look at: source, its mask, target, merged image, side by side.

    It shows the source's clear face: treat it as private where that is.

    Args:
        source, target, merged: uint8 RGB, HxWx3 or [3, H, W]; sources may have another size.
        mask: The source's facemask, bool or uint8, HxW or [1, H, W].

    Returns:
        uint8 RGB of the target's height; what the mask leaves out is grey and pale.
    """
    pictures = [_picture(each) for each in (source, target, merged)]
    shape = _picture(mask) > 0
    grey = pictures[0].mean(2, keepdims=True)
    masked: Array = np.where(shape, pictures[0], 160 + grey / 4).astype(np.uint8)
    height = pictures[1].shape[0]
    gap = np.full((height, 8, 3), 255, np.uint8)
    row: list[Array] = []
    for picture in (pictures[0], masked, pictures[1], pictures[2]):
        width = max(1, round(picture.shape[1] * height / picture.shape[0]))
        row += [np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8), gap]
    return np.concatenate(row[:-1], 1)


def _picture(values: Tensor | Array) -> Array:
    """HxWxC, whatever it was."""
    array = np.asarray(values.cpu() if isinstance(values, Tensor) else values)
    if array.ndim == 2:
        return array[..., None]
    return np.ascontiguousarray(array.transpose(1, 2, 0) if array.shape[0] in (1, 3) else array)
