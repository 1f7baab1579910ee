"""Pictures and a network: `predict_alpha` of one, `predict_alphas`, and `predict_trimap` of networks that find one.

Two ways to look at a picture (paper, section 'Experiments', after GFM):

- RESIZE: the whole network sees the picture at half its size.
- HYBRID: background, transition and foreground come from half the size, where a person fits into the receptive field;
  the alpha of the transition comes from the full size, where strands are as sharp as they are.

A third one, `legacy_resize`, is the rule by which published figures were made (`p3mnet.legacy`). Where that program
cuts corners the other two do not: the aspect ratio is kept (there, 1600 px caps each side for
itself, and sides are floored to multiples of 32; here the network pads); class probabilities are upsampled and then
compared (there, a map of 0, 128 and 255); 8 bits are rounded (there truncated, which costs 0.14 to 0.18 SAD).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from p3mdata.errors import SettingsError
from p3mdata.imaging.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from p3mnet.checkpoint import load_checkpoint, load_official
from p3mnet.create import create_model
from p3mnet.legacy import legacy_alpha
from p3mnet.model import MattingNetwork, fuse, normalise
from p3mnet.registry import RANDOM

Mode = Literal["hybrid", "resize", "legacy_resize"]
MODES: tuple[Mode, ...] = ("hybrid", "resize", "legacy_resize")
# Longest side that the network sees. Memory grows with its square: see `p3mnet.infer.infer`.
MAX_SIDE = 1600


def open_network(checkpoint: Path, published: str | None = None) -> MattingNetwork:
    """A trained network on the CPU, in eval mode.

    Args:
        checkpoint: A file of `p3mnet train`, or a published P3M-Net file.
        published: Name of the network whose published file this is; None for files of `p3mnet train`.

    Raises:
        SetupError: The file cannot be read, or holds another network.
    """
    if published is None:
        return load_checkpoint(checkpoint).model
    model = create_model(published, encoder_weights=RANDOM)
    load_official(model, checkpoint)
    return model.eval()


def _resized(x: Tensor, height: int, width: int) -> Tensor:
    """[1, C, H, W] -> [1, C, height, width], bilinear, without aliasing where it shrinks."""
    if x.shape[-2:] == (height, width):
        return x
    shrinks = height < x.shape[-2] or width < x.shape[-1]
    return F.interpolate(x, (height, width), mode="bilinear", align_corners=False, antialias=shrinks)


def seen_sizes(
    model: MattingNetwork, height: int, width: int, mode: Mode = "hybrid", max_side: int = MAX_SIDE
) -> tuple[tuple[int, int], ...]:
    """Heights and widths in which a network sees a picture of a size, pass by pass; not for "legacy_resize".

    Args:
        model: The network.
        height, width: Of the picture.
        mode, max_side: See `predict_alpha`.
    """
    scale = min(1.0, max_side / max(height, width))
    if model.short_side is not None:
        scale = min(scale, model.short_side / min(height, width))
    if model.one_alpha:
        shares: tuple[float, ...] = (scale,)
    else:
        shares = (scale / 2, scale) if mode == "hybrid" else (scale / 2,)
    return tuple((max(1, round(height * share)), max(1, round(width * share))) for share in shares)


def predict_alpha(
    model: MattingNetwork,
    rgb: NDArray[np.uint8],
    mode: Mode = "hybrid",
    max_side: int = MAX_SIDE,
    trimap: NDArray[np.uint8] | None = None,
) -> NDArray[np.float32]:
    """Alpha of one picture, of its size.

    Args:
        model: In eval mode, on any device.
        rgb: [H, W, 3] uint8.
        mode: "hybrid", "resize" or "legacy_resize", see the module; networks with one alpha for the whole picture look
            in one way at "hybrid" and "resize".
        max_side: A picture with a longer side is seen smaller, both sides by the same factor; its alpha is upsampled.
        trimap: [H, W] uint8 of 0, 128, 255, for networks that need one; what it knows is kept at full size.

    Returns:
        [H, W] float32 in 0..1.

    Raises:
        SettingsError: The network needs a trimap and there is none.
    """
    return predict_alphas(model, [rgb], mode, max_side, [trimap])[0]


@torch.inference_mode()
def predict_alphas(
    model: MattingNetwork,
    pictures: Sequence[NDArray[np.uint8]],
    mode: Mode = "hybrid",
    max_side: int = MAX_SIDE,
    trimaps: Sequence[NDArray[np.uint8] | None] = (),
) -> list[NDArray[np.float32]]:
    """Alphas of pictures whose `seen_sizes` are equal, in one pass of the network; they differ by rounding from those
    that `predict_alpha` gives for each alone. Under "legacy_resize" each is seen alone.

    Args:
        model: In eval mode, on any device.
        pictures: Each [H, W, 3] uint8, with a height and a width of its own.
        mode, max_side: See `predict_alpha`.
        trimaps: Of each picture, for networks that need them.

    Returns:
        [H, W] float32 in 0..1 of each.

    Raises:
        SettingsError: The network needs trimaps and one is not there.
    """
    if model.needs_trimap:
        return _by_trimaps(model, pictures, trimaps, max_side)
    if mode == "legacy_resize":
        return [legacy_alpha(model, rgb) for rgb in pictures]
    device = next(model.parameters()).device
    images = [normalise(torch.tensor(rgb, device=device).permute(2, 0, 1)[None]) for rgb in pictures]
    height, width = pictures[0].shape[:2]
    sizes = seen_sizes(model, height, width, mode, max_side)
    seen = model(_together([_resized(image, *sizes[0]) for image in images]))
    if model.one_alpha:
        return [
            _resized(alpha.float(), *image.shape[-2:])[0, 0].clamp(0, 1).cpu().numpy()
            for alpha, image in zip(seen.fusion.split(1), images, strict=True)
        ]
    local = model(_together([_resized(image, *sizes[1]) for image in images])).local if mode == "hybrid" else seen.local
    alphas = []
    for image, logits, strands in zip(images, seen.global_logits.split(1), local.split(1), strict=True):
        size = image.shape[-2:]
        alpha = fuse(_resized(logits.float().softmax(1), *size), _resized(strands.float(), *size))
        alphas.append(alpha[0, 0].clamp(0, 1).cpu().numpy())
    return alphas


def _together(images: list[Tensor]) -> Tensor:
    """Images [1, C, H, W] -> [N, C, H, W]; one alone is not copied."""
    return images[0] if len(images) == 1 else torch.cat(images)


def _by_trimaps(
    model: MattingNetwork,
    pictures: Sequence[NDArray[np.uint8]],
    trimaps: Sequence[NDArray[np.uint8] | None],
    max_side: int,
) -> list[NDArray[np.float32]]:
    known = [trimap for trimap in trimaps if trimap is not None]
    if len(known) != len(pictures):
        raise SettingsError(f"{model.config.name} needs a trimap of each picture.")
    height, width = pictures[0].shape[:2]
    (size,) = seen_sizes(model, height, width, max_side=max_side)
    device = next(model.parameters()).device
    images = [_resized(normalise(torch.tensor(rgb, device=device).permute(2, 0, 1)[None]), *size) for rgb in pictures]
    # 0, 128 and 255 -> the classes 0, 1 and 2.
    values = [(trimap > 0).astype(np.float32) + (trimap == FOREGROUND) for trimap in known]
    classes = [F.interpolate(torch.tensor(plane, device=device)[None, None], size, mode="nearest-exact")
               for plane in values]  # fmt: skip
    seen = model(_together(images), None, _together(classes).to(torch.int64))
    alphas = []
    for part, trimap in zip(seen.fusion.split(1), known, strict=True):
        alpha = _resized(part.float(), *trimap.shape)[0, 0].clamp(0, 1).cpu().numpy()
        alphas.append(np.where(trimap == UNKNOWN, alpha, (trimap == FOREGROUND).astype(np.float32)).astype(np.float32))
    return alphas


@torch.inference_mode()
def predict_trimap(model: MattingNetwork, rgb: NDArray[np.uint8], max_side: int = MAX_SIDE) -> NDArray[np.uint8]:
    """What a trimap-free network takes for background, transition and foreground.

    Args:
        model: With a trimap of its own (P3M-Net, GFM), in eval mode.
        rgb: [H, W, 3] uint8.
        max_side: See `predict_alpha`.

    Returns:
        [H, W] uint8 of 0, 128, 255.
    """
    height, width = rgb.shape[:2]
    image = normalise(torch.tensor(rgb, device=next(model.parameters()).device).permute(2, 0, 1)[None])
    scale = min(1.0, max_side / max(height, width)) / 2
    seen = model(_resized(image, max(1, round(height * scale)), max(1, round(width * scale))))
    classes = _resized(seen.global_logits.float().softmax(1), height, width)[0].argmax(0).cpu().numpy()
    values: NDArray[np.uint8] = np.array([BACKGROUND, UNKNOWN, FOREGROUND], np.uint8)[classes]
    return values


def to_8_bit(alpha: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Alpha in 0..1 -> the nearest of 0..255."""
    return np.rint(alpha * 255).astype(np.uint8)
