"""P3M-CP: faces that may be shown are pasted over obfuscated ones while a network is trained (paper, section 'P3M-CP').

Source data are portraits with facemasks and without alphas (`p3mdata celeba-facemask`). CA, 'copy with augmentation',
cuts the source's face out, resizes it at random, then turns it at random. AM, 'align and merge', lays the centroid of
the face's mask on that of the target's facemask and pastes where both masks are set; all else, alphas too, stays
untouched. ICP does so with images, FCP with features of one shallow layer of the encoder. Nothing in it is learned.

What the paper leaves open, and what is done here:

- The centre of a mask is its centroid, rounded to a pixel; there is a coin for each image of a batch.
- A picture without facemask is left as it is, and so is one whose overlap is empty.
- Where a batch has foreground colours, ICP pastes into these as well: the face belongs to the person, and the
  composition loss would else pull alpha away from its label there.
- Sources are brought to the samples' size (their longer side, so that their shape stays), facemasks with them.
- FCP merges at E_0 by default: only there the poolings' indices, the skips and sBFI all see the merge.
- FCP draws one source per batch. Its pass runs without gradient and with batch norm (and stochastic depth) as in
  evaluation: neither statistics nor gradients know of it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from p3mdata.celebamask.driver import PAIRS, SETTINGS
from p3mdata.errors import RunFolderError, SettingsError, SetupError
from p3mdata.images import SUFFIXES
from p3mdata.manifest import read_json, read_rows
from p3mdata.sources import list_files
from p3mnet.baselines.gfm import StridedResNet34
from p3mnet.data import Batch, Sample
from p3mnet.encoders.contract import LARGEST_STRIDE, Encoder, TokenEncoder
from p3mnet.encoders.resnet import ResNet34
from p3mnet.model import MattingNetwork, normalise, pad_to_stride
from p3mnet.planes import Array, BadFile, read_colours, read_grey

RECIPES: dict[str, dict[str, Any]] = {
    "none": {},
    "icp": {"rotation": 30.0, "scale": (0.8, 1.2), "start_epoch": 0},
    "fcp": {"rotation": 0.0, "scale": (0.3, 0.7), "start_epoch": 50},
}
_TRIES = 16


class CopyPasteConfig(BaseModel):
    """How faces are pasted. What is not given is the recipe of the mode.

    Attributes:
        mode: "icp" pastes images, "fcp" features, "none" nothing.
        probability: Of a paste, for each image.
        rotation: The angle lies within plus and minus this, in degrees; 30 for ICP, 0 for FCP.
        scale: Range of the resizing; 0.8 to 1.2 for ICP, 0.3 to 0.7 for FCP.
        start_epoch: First epoch, counted from 0, that pastes; 0 for ICP, 50 for FCP.
        layer: FCP's features: E_0, or the output of the encoder's first stage at stride 4. There, pooling indices and
            sBFI still show the target, and the source's pass takes the whole encoder.
        sources: FCP: "one" source per batch, or one for "each" image.
        detached: FCP: no gradient through the source's pass.
        frozen_norm: FCP: the source's pass uses the running statistics of batch norm and leaves them alone. Without
            this it uses the source's own and moves them; not for statistics that processes share.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["none", "icp", "fcp"] = "none"
    probability: float = Field(0.5, ge=0, le=1)
    rotation: float = Field(0.0, ge=0, le=180)
    scale: tuple[float, float] = (1.0, 1.0)
    start_epoch: int = Field(0, ge=0)
    layer: Literal["e0", "stage1"] = "e0"
    sources: Literal["one", "each"] = "one"
    detached: bool = True
    frozen_norm: bool = True

    @model_validator(mode="before")
    @classmethod
    def _recipe(cls, given: Any) -> Any:
        return {**RECIPES.get(str(given.get("mode")), {}), **given} if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _sensible(self) -> CopyPasteConfig:
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale must be above 0, the smaller one first, not {self.scale[0]}, {self.scale[1]}")
        return self

    def active(self, epoch: int) -> bool:
        """Whether an epoch pastes at all; epochs count from 0."""
        return self.mode != "none" and self.probability > 0 and epoch >= self.start_epoch


class Source(NamedTuple):
    """A face that may be shown: `image` uint8 RGB [3, h, w], `mask` bool [h, w] with something in it, `name`."""

    image: Tensor
    mask: Tensor
    name: str


class Sources:
    """Portraits with facemasks to copy from.

    Attributes:
        pairs: Files of image and facemask.
        bad: Sentences about files that were drawn and could not be used.

    Args:
        facemasks: What `p3mdata celeba-facemask` wrote (a folder with pairs.jsonl), or a folder of facemasks, or one
            that has the folders `image` and `facemask`.
        images: The images' folder; None takes the one that pairs.jsonl was made from, or `image`.

    Raises:
        SettingsError: There are no pairs.
        RunFolderError: pairs.jsonl is damaged.
    """

    def __init__(self, facemasks: Path, images: Path | None = None) -> None:
        if (facemasks / PAIRS).is_file():
            self.pairs = list(_listed_pairs(facemasks, images))
        else:
            inside = images is None and (facemasks / "image").is_dir() and (facemasks / "facemask").is_dir()
            folders = (facemasks / "image", facemasks / "facemask") if inside else (images or facemasks, facemasks)
            found, masks = (_by_stem(folder) for folder in folders)
            self.pairs = [(found[stem], masks[stem]) for stem in sorted(found.keys() & masks.keys())]
            if folders[0] == folders[1]:
                self.pairs = []
        if not self.pairs:
            raise SettingsError(
                f"{facemasks}: has no pairs of image and facemask. Give the folder that p3mdata celeba-facemask wrote, "
                "or folders of images and facemasks with the same names."
            )
        self.bad: list[str] = []

    def __len__(self) -> int:
        return len(self.pairs)

    def draw(self, generator: torch.Generator, size: int) -> Source:
        """A random source whose longer side is `size`; one that cannot be used is noted and another one drawn.

        Raises:
            SetupError: Many in a row cannot be used.
        """
        for _ in range(_TRIES):
            pair = self.pairs[int(torch.randint(len(self.pairs), (), generator=generator))]
            try:
                return _read_source(*pair, size)
            except BadFile as exc:
                if str(exc) not in self.bad:
                    self.bad.append(str(exc))
        raise SetupError(f"{_TRIES} sources in a row cannot be used, one of them: {self.bad[-1]}")


def _listed_pairs(folder: Path, images: Path | None) -> Iterator[tuple[Path, Path]]:
    if images is None:
        settings = read_json(folder / SETTINGS).get("settings")
        images = Path(str(settings.get("source", ""))) if isinstance(settings, dict) else folder
    try:
        for row in read_rows(folder / PAIRS):
            yield images / row["image"], folder / row["facemask"]
    except (KeyError, TypeError) as exc:
        raise RunFolderError(f"{folder / PAIRS}: is damaged ({exc!r}). Make the facemasks again.") from exc


def _by_stem(folder: Path) -> dict[str, Path]:
    """Pictures of a folder by name without ending."""
    if not folder.is_dir():
        raise SettingsError(f"{folder}: is not a folder. Check the path.")
    return {
        path.relative_to(folder).with_suffix("").as_posix(): path
        for path in list_files(folder, recursive=True)
        if path.suffix.lower() in SUFFIXES
    }


def _read_source(image_file: Path, mask_file: Path, size: int) -> Source:
    image, mask = read_colours(image_file), read_grey(mask_file)
    (height, width), (mask_height, mask_width) = image.shape[:2], mask.shape
    if abs(height * mask_width - width * mask_height) > max(height * mask_width, width * mask_height) / 100:
        raise BadFile(f"{mask_file}: is {mask_width}x{mask_height}, another shape than its image of {width}x{height}.")
    sides = round(width * size / max(height, width)), round(height * size / max(height, width))
    smooth = cv2.INTER_AREA if max(height, width) > size else cv2.INTER_LINEAR
    face = cv2.resize(mask, sides, interpolation=cv2.INTER_NEAREST_EXACT) > 127
    if not face.any():
        raise BadFile(f"{mask_file}: shows no face.")
    pixels = torch.from_numpy(cv2.resize(image, sides, interpolation=smooth)).permute(2, 0, 1)
    return Source(pixels, torch.from_numpy(face), image_file.name)


class Turn(NamedTuple):
    """CA's random numbers: resizing, then an angle in degrees, counter-clockwise."""

    scale: float
    angle: float


class Overlap(NamedTuple):
    """Where a face goes: rows and columns of the target, those of the face, and the pixels in there, bool."""

    target: tuple[slice, slice]
    face: tuple[slice, slice]
    mask: Tensor


def _draw_turn(config: CopyPasteConfig, generator: torch.Generator) -> tuple[bool, Turn]:
    """Whether to paste, and how; always as many random numbers."""
    coin, where, around = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
    low, high = config.scale
    return coin < config.probability, Turn(low + where * (high - low), (2 * around - 1) * config.rotation)


def cut_and_turn(values: Tensor, mask: Tensor, turn: Turn) -> tuple[Tensor, Tensor]:
    """CA: the rectangle around a mask, resized, then turned on a canvas that holds all of it.

    Args:
        values: [C, h, w], any floating point type, any device.
        mask: bool [h, w] on the CPU, with something in it.
        turn: How.

    Returns:
        float32 [C, h', w'] on the values' device, and bool [h', w'] on the CPU.
    """
    rows, columns = (torch.nonzero(mask.any(axis))[:, 0] for axis in (1, 0))
    window = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    face, shape = values[:, window[0], window[1]].float()[None], mask[window].float()[None, None]
    sides = [max(1, round(side * turn.scale)) for side in shape.shape[-2:]]
    face = F.interpolate(face, sides, mode="bilinear", antialias=True)
    shape = F.interpolate(shape, sides, mode="nearest-exact")
    if turn.angle:
        face, shape = _turned(face, turn.angle, "bilinear"), _turned(shape, turn.angle, "nearest")
    return face[0], shape[0, 0] > 0


def _turned(values: Tensor, angle: float, mode: str) -> Tensor:
    """[1, C, h, w] turned about its middle; from outside come zeros into a mask, and the border into colours."""
    height, width = values.shape[-2:]
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    # A quarter turn needs no pixel more because of rounding.
    new_height = math.ceil(abs(height * cos) + abs(width * sin) - 1e-6)
    new_width = math.ceil(abs(width * cos) + abs(height * sin) - 1e-6)
    # From places of the canvas to places of the source, both in -1..1.
    matrix = torch.tensor(
        [
            [cos * new_width / width, -sin * new_height / width, 0],
            [sin * new_width / height, cos * new_height / height, 0],
        ],
        dtype=torch.float32,
        device=values.device,
    )
    grid = F.affine_grid(matrix[None], [1, values.shape[1], new_height, new_width], align_corners=False)
    outside = "zeros" if mode == "nearest" else "border"
    return F.grid_sample(values, grid, mode=mode, padding_mode=outside, align_corners=False)


def align(face: Tensor, target: Tensor) -> Overlap | None:
    """AM: where masks, bool [h, w] and [H, W] on the CPU, overlap once their centroids coincide; None if nowhere."""
    if not (face.any() and target.any()):
        return None
    inside, window = [], []
    centres = [torch.nonzero(mask).double().mean(0) for mask in (face, target)]
    for shift, length, full in zip(
        torch.round(centres[1] - centres[0]).long().tolist(), face.shape, target.shape, strict=True
    ):
        first, last = max(shift, 0), min(shift + length, full)
        if first >= last:
            return None
        window.append(slice(first, last))
        inside.append(slice(first - shift, last - shift))
    rows, columns = window
    mask = face[inside[0], inside[1]] & target[rows, columns]
    return Overlap((rows, columns), (inside[0], inside[1]), mask) if mask.any() else None


def _paste(target: Tensor, face: Tensor, overlap: Overlap) -> None:
    """Write a face [C, h, w] into [C, H, W] where the overlap is."""
    here, there = (slice(None), *overlap.target), (slice(None), *overlap.face)
    piece = face[there].to(target.dtype)
    target[here] = torch.where(overlap.mask.to(target.device), piece, target[here])


def paste_image(source: Source, images: Sequence[Tensor], facemask: Tensor, turn: Turn) -> list[Tensor]:
    """ICP for one pair.

    Args:
        source: The face.
        images: What it is pasted into, uint8 RGB [3, H, W].
        facemask: bool [H, W].
        turn: Resizing and angle.

    Returns:
        uint8 [3, H, W]: the images themselves if nothing is pasted, else copies.
    """
    face, mask = cut_and_turn(source.image, source.mask, turn)
    overlap = align(mask, facemask)
    if overlap is None:
        return list(images)
    copies = [image.clone() for image in images]
    for copy in copies:
        _paste(copy, face.round().clamp(0, 255), overlap)
    return copies


def icp(batch: Batch, sources: Sources, generator: torch.Generator, config: CopyPasteConfig) -> Batch:
    """Paste faces into a batch of `p3mnet.data`, uint8 on the CPU; each image has a source of its own.

    Returns:
        A batch that differs in `image` and, so that the composition loss sees the same face, in `foreground`, if it is
        there. Tensors are not changed in place.
    """
    kinds = [kind for kind in ("image", "foreground") if kind in batch]
    size = max(batch["image"].shape[-2:])
    rows = []
    for index, facemask in enumerate(batch["facemask"]):
        images, face = [batch[kind][index] for kind in kinds], facemask[0] > 127
        wanted, turn = _draw_turn(config, generator)
        if wanted and face.any():
            images = paste_image(sources.draw(generator, size), images, face, turn)
        # The batch's order of memory is channels last.
        rows.append([image.permute(1, 2, 0) for image in images])
    stacks = (torch.stack(images).permute(0, 3, 1, 2) for images in zip(*rows, strict=True))
    return {**batch, **dict(zip(kinds, stacks, strict=True))}


class ICP:
    """`icp` for single samples, as `edit` of `p3mnet.data.make_loader`: workers paste, each sample by its own numbers.

    Args:
        sources: Where faces come from.
        config: How they are pasted; `start_epoch` is up to the caller.
    """

    def __init__(self, sources: Sources, config: CopyPasteConfig) -> None:
        self.sources, self.config = sources, config

    def __call__(self, sample: Sample, generator: torch.Generator) -> Sample:
        """A sample that differs as in `icp`; broken sources are `noted`."""
        single: Batch = {kind: sample[kind][None] for kind in ("image", "foreground", "facemask") if kind in sample}
        pasted = icp(single, self.sources, generator, self.config)
        images = {kind: values[0] for kind, values in pasted.items()}
        return {**sample, **images, "noted": list(self.sources.bad)}


class FCP:
    """One batch's paste at feature level: an `edit_e0` of `P3MNet.forward`. Made by `fcp`."""

    def __init__(
        self,
        model: MattingNetwork,
        pastes: Mapping[int, tuple[Source, Turn]],
        facemask: Tensor,
        config: CopyPasteConfig,
    ) -> None:
        self.model, self.pastes, self.facemask, self.config = model, pastes, facemask, config

    def __call__(self, e0: Tensor) -> Tensor:
        """E_0 [N, C, H, W] of the batch -> E_0 with features of sources; another layer changes later in the pass."""
        if not self.pastes:
            return e0
        encoder, config = self.model.encoder, self.config
        features = {}
        with torch.set_grad_enabled(torch.is_grad_enabled() and not config.detached):
            for source in {id(source): source for source, _ in self.pastes.values()}.values():
                image = pad_to_stride(normalise(source.image[None].to(e0.device)))
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
        masks = _on_features(self.facemask, target.shape[-2:])
        for index, (source, turn) in self.pastes.items():
            values = features[id(source)]
            mask = _on_features(source.mask[None, None], values.shape[-2:])[0, 0]
            if not mask.any():
                continue
            face, shape = cut_and_turn(values, mask, turn)
            overlap = align(shape, masks[index, 0])
            if overlap is not None:
                _paste(merged[index], face, overlap)
        return merged


def fcp(
    model: MattingNetwork, batch: Batch, sources: Sources, generator: torch.Generator, config: CopyPasteConfig
) -> FCP:
    """Draw a batch's sources and decide which images get them; call the network with the result as `edit_e0`.

        output = model(batch["image"], fcp(model, batch, sources, generator, config))

    Args:
        model: The network itself, not a wrapper around it.
        batch: Of `p3mnet.data.to_device`.
        sources: Where faces come from.
        generator: Random numbers, on the CPU.
        config: How; `start_epoch` is up to the caller.
    """
    facemask = batch["facemask"].cpu()
    size = max(batch["image"].shape[-2:])
    drawn = [_draw_turn(config, generator) for _ in facemask]
    chosen = [i for i, (wanted, _) in enumerate(drawn) if wanted and facemask[i].any()]
    found: list[Source] = []
    for _ in chosen:
        found.append(found[0] if found and config.sources == "one" else sources.draw(generator, size))
    pastes = {i: (source, drawn[i][1]) for i, source in zip(chosen, found, strict=True)}
    return FCP(model, pastes, facemask, config)


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
