"""Alpha mattes, trimaps and hand-drawn masks that belong to a photo."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.config import MAX_PIXELS
from p3mdata.errors import BrokenInput
from p3mdata.imaging.decode import decode
from p3mdata.imaging.picture import Picture, Pixels, orient

# Edges are compared at this many pixels of the longer side.
_COMPARED_SIDE = 512
# A matte lies right where the picture's edges are this much stronger beneath the matte's than elsewhere, and this much
# stronger than beneath the matte in the other position. Of 75 (25 mattes, 3 turns) none goes wrong, 7 are asked about.
AGREES, CLEARLY = 1.4, 1.25
# Channels that differ by no more than this (of 255) are one: lossy formats store colour coarsely.
_SAME_GREY = 3


def decode_matte(data: bytes, photo: Picture, what: str, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decode an alpha matte, trimap or hand-drawn mask that belongs to a photo.

    The matte's own EXIF orientation is applied. One without that has the size of the photo as stored, before the
    photo's EXIF orientation, is turned like the photo; where both sizes are the same, the edges of the photo decide.

    Returns:
        HxW, uint8 or uint16, same size as the photo.

    Raises:
        BrokenInput: Unreadable, more than one channel, another size, or it is unclear how it is turned; the sentence
            begins with `what`.
    """
    try:
        matte = decode(data, max_pixels)
    except BrokenInput as exc:
        raise BrokenInput(f"{what}_{exc.code}", f"has {_article(what)} that {exc.sentence}") from exc
    if matte.opacity is not None and int(matte.opacity.min()) < np.iinfo(matte.opacity.dtype).max:
        hint = " Save the transparency of the cut-out" if what == "alpha" and matte.pixels.ndim == 3 else " Save it"
        raise BrokenInput(
            f"{what}_is_transparent", f"has {_article(what)} with a transparency channel.{hint} as one grey channel."
        )
    pixels = matte.pixels
    if pixels.ndim == 3:
        grey = _one_channel(pixels)
        if grey is None:
            raise BrokenInput(f"{what}_has_colours", f"has {_article(what)} in colour. Save it as one grey channel.")
        pixels = grey
    if matte.orientation == 1 and photo.orientation != 1:
        pixels = _turned_like(pixels, photo, what)
    if pixels.shape != photo.size:
        raise BrokenInput(
            f"{what}_other_size",
            f"is {photo.size[1]}x{photo.size[0]} but its {what} is {pixels.shape[1]}x{pixels.shape[0]}. "
            "Export both at one size.",
        )
    return pixels


def _one_channel(pixels: Pixels) -> Pixels | None:
    """Three channels as one; None where they show colours."""
    most = _SAME_GREY * (np.iinfo(pixels.dtype).max // 255)
    first = pixels[..., 0]
    for channel in (1, 2):
        gap = cv2.absdiff(first, pixels[..., channel])
        if int(gap.max()) > most:
            return None
    # The middle channel is the one that lossy formats keep best.
    return np.ascontiguousarray(pixels[..., 1])


def _turned_like(pixels: Pixels, photo: Picture, what: str) -> Pixels:
    """A matte without an orientation of its own, turned as the photo is or left as it lies."""
    turned = orient(pixels, photo.orientation)
    if photo.size not in (pixels.shape, turned.shape) or np.array_equal(pixels, turned):
        return pixels
    if turned.shape != photo.size:
        return pixels
    if pixels.shape != photo.size:
        return turned
    if what == "mask":
        # Strokes follow no edges; faces that they leave bare are looked for later.
        return pixels
    as_it_lies, as_the_photo = (edge_agreement(matte, photo) for matte in (pixels, turned))
    if as_it_lies >= max(AGREES, CLEARLY * as_the_photo):
        return pixels
    if as_the_photo >= max(AGREES, CLEARLY * as_it_lies):
        return turned
    raise BrokenInput(
        f"{what}_turn_unclear",
        f"has an EXIF orientation and {_article(what)} that may be turned as the file is stored or as it is shown. "
        "Save both without EXIF orientation.",
    )


def edge_agreement(matte: NDArray[np.generic], photo: Picture) -> float:
    """How much stronger the photo's edges are beneath the edges of a matte than elsewhere; 1 without relation.

    Args:
        matte: HxW, of the photo's size.
        photo: The picture.
    """
    rows, cols = photo.size
    factor = min(1.0, _COMPARED_SIDE / max(rows, cols))
    size = max(1, round(cols * factor)), max(1, round(rows * factor))
    grey = cv2.resize(cv2.cvtColor(photo.seen8(), cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
    small = cv2.resize(matte.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    edges, weight = (_edges(plane.astype(np.float32)) for plane in (grey, small))
    total, mean = float(weight.sum()), float(edges.mean())
    return float((edges * weight).sum()) / (total * mean) if total and mean else 1.0


def _edges(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Strength of the slope, HxW; strong edges count less than their strength."""
    smooth = cv2.GaussianBlur(plane, (0, 0), 1)
    slope = np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
    return np.asarray(np.sqrt(slope), np.float32)


def _article(what: str) -> str:
    return f"an {what}" if what[0] in "aeiou" else f"a {what}"
