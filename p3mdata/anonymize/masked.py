"""Private areas as pixels to obfuscate: without the transition, or recomposed up to the edge, and in JPEG blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p3mdata.anonymize.inputs import Loaded
from p3mdata.anonymize.masks import (
    Patch,
    Region,
    around,
    disjoint,
    hull,
    spread,
    without_background,
    without_person,
)
from p3mdata.config import Format, JpegMode, Settings
from p3mdata.imaging.containers import with_end
from p3mdata.imaging.encode import encode_facemask
from p3mdata.imaging.facemask import facemask_of
from p3mdata.imaging.jpeg import JpegBlocks, Reach, UnsupportedJpeg
from p3mdata.imaging.trimap import pure
from p3mdata.records import Doubt, Face, Mask

# A JPEG block of 4:2:0 chroma spans 16 pixels, and decoders interpolate one more.
BLOCK_REACH = 17
# No block of any component reaches further beyond a pixel in it, decoders' interpolation included.
_MOST_OF_A_BLOCK = 40
# A recomposed pixel hides its face where this share of it is the face's layer: four fifths of the detail are gone then.
# With less than the rest it shows the other layer; between them a face may still be seen.
HIDES = 2 / 3


@dataclass(frozen=True)
class Masked:
    """What will be obfuscated.

    Attributes:
        private: Private area of each region before anything is subtracted.
        transition: HxW, True where the matte is uncertain: nothing may change there but what is recomposed.
        regions: Disjoint pixels to obfuscate, face by face.
        covered: HxW, True where the picture's content is hidden.
        facemask: HxW, True where the output may differ from the source: `covered`, plus the pixels into which
            decoders smear subsampled JPEG chroma, plus the rest of JPEG blocks that hold recomposed pixels.
        recomposed: HxW, True at pixels of the facemask that keep their matte; None where there are none.
        rim: HxW, True at pixels of the facemask that keep what they show, compressed again with their JPEG blocks; None
            where there are none.
        place: A rectangle that holds the facemask.
        blocks: The JPEG blocks to rewrite, or None when the picture is encoded as a whole.
        format: Name of the output's file format.
        encoding_note: Why it is not encoded as asked for, in words.
        doubts: Reasons not to release without a person.
    """

    private: tuple[Patch, ...]
    transition: Mask
    regions: tuple[Region, ...]
    covered: Mask
    facemask: Mask
    recomposed: Mask | None
    blocks: tuple[JpegBlocks, Reach] | None
    format: str
    encoding_note: str | None
    place: tuple[slice, slice]
    doubts: tuple[Doubt, ...] = ()
    rim: Mask | None = None

    def facemask_file(self) -> bytes:
        """The facemask as a PNG file."""
        recomposed = None if self.recomposed is None else self.recomposed[self.place]
        corner = self.place[0].start, self.place[1].start
        size = self.facemask.shape[0], self.facemask.shape[1]
        return encode_facemask(facemask_of(self.facemask[self.place], recomposed), corner, size)

    @property
    def share(self) -> NDArray[Any] | None:
        """HxW: how much of a recomposed pixel belongs to the obfuscated layer; 0 elsewhere. None without any."""
        shares = [(region.patch, region.share) for region in self.regions if region.share is not None]
        if not shares:
            return None
        out = np.zeros(self.facemask.shape, shares[0][1].dtype)
        for patch, share in shares:
            np.copyto(out[patch.window], share[patch.window], where=patch.mask)
        return out


@dataclass(frozen=True)
class Faces:
    """Private areas of a picture, one for each face or hand-drawn part.

    Attributes:
        private: Areas before anything is subtracted.
        widths: Of the faces, in pixels.
        within: Whether they belong to the matte's person; empty without a matte.
        parts: For each area, the numbers of the detected faces in it.
        found: The faces, where they are what the areas are made of.
    """

    private: list[Patch]
    widths: list[float]
    within: list[bool]
    parts: list[list[int]]
    found: tuple[Face, ...] = ()


@dataclass(frozen=True)
class _Pixels:
    """Areas as pixels.

    Attributes:
        patches: What is to be obfuscated of each area, disjoint.
        shares: Of recomposed areas by number, HxW: how much of each pixel belongs to the face's layer.
        plain, mixed: HxW, True where pixels are replaced, and where they are recomposed.
        hidden, keeps: HxW, True at recomposed pixels that hide their face, and that keep their matte.
    """

    patches: list[Patch]
    shares: dict[int, NDArray[Any]]
    plain: Mask
    mixed: Mask
    hidden: Mask
    keeps: Mask


def composed(
    loaded: Loaded, settings: Settings, faces: Faces, transition: Mask, name: str, recomposed: Sequence[int]
) -> Masked:
    """Areas with the faces of some numbers recomposed and all others after the paper (section 3.2).

    Args:
        loaded: The decoded inputs.
        settings: Give what of a matte is pure, and how JPEG may be written.
        faces: The private areas.
        transition: HxW, where only what is recomposed may change.
        name: Of the format to write. PNG takes the place of JPEG where it may and a face is recomposed.
        recomposed: Numbers of areas; none without a matte.
    """
    note = None
    if recomposed and name == "JPEG" and may_be_png(loaded, settings):
        name, note = "PNG", "a face is recomposed, and JPEG blocks would change the background beside it"
    pixels = _pixels(loaded, settings, faces, transition, recomposed)
    jpeg = None
    if name == "JPEG":
        jpeg, note = _jpeg_blocks(loaded, settings)
    if jpeg is not None:
        found = _in_blocks(loaded, faces, transition, pixels, jpeg)
    elif pixels.shares:
        covered, facemask = pixels.plain | pixels.hidden, pixels.plain | pixels.mixed
        found = _masked(faces, transition, pixels, covered, facemask, pixels.keeps, hull(pixels.patches))
    else:
        found = _masked(faces, transition, pixels, pixels.plain, pixels.plain, None, hull(pixels.patches))
    return replace(found, format=name, encoding_note=note)


def _pixels(loaded: Loaded, settings: Settings, faces: Faces, transition: Mask, recomposed: Sequence[int]) -> _Pixels:
    size = loaded.picture.size
    shares = {i: share_of(loaded.alpha, faces.within[i]) for i in recomposed} if loaded.alpha is not None else {}
    patches = [
        layer_part(patch, shares[i]) if i in shares else _paper_part(loaded, settings, faces, i, transition)
        for i, patch in enumerate(faces.private)
    ]
    every = np.zeros(size, bool)
    for patch in patches:
        patch.paint(every)
    if len(patches) > 1:
        patches = disjoint(patches, every)
    if not shares:
        # Every pixel is plain, and nobody looks at the other three.
        return _Pixels(patches, shares, every, every, every, every)
    plain, mixed, hidden, keeps = (np.zeros(size, bool) for _ in range(4))
    for i, patch in enumerate(patches):
        patch.paint(mixed if i in shares else plain)
    for i, share in shares.items():
        window, inside = patches[i].window, patches[i].mask
        hidden[window] |= inside & (share[window] >= HIDES * np.iinfo(share.dtype).max)
        # Those that are all of their layer and far from the edge are simply replaced.
        _, full = pure(share[window], settings.alpha_tolerance)
        keeps[window] |= inside & (transition[window] | ~full)
    return _Pixels(patches, shares, plain, mixed, hidden, keeps)


def _in_blocks(loaded: Loaded, faces: Faces, transition: Mask, pixels: _Pixels, jpeg: JpegBlocks) -> Masked:
    """What is obfuscated where JPEG blocks are rewritten.

    Of the plain pixels, those in blocks that must not change stay as they are. A block at the edge keeps what lies
    beside the face: it is compressed again with the face hidden.
    """
    forbidden = transition if loaded.matte is not None and transition.any() else None
    reach = jpeg.reach(pixels.plain, forbidden, hull(pixels.patches))
    # Nothing is beyond the blocks around the faces, and fresh memory would cost more than what is computed.
    near = hull(pixels.patches, _MOST_OF_A_BLOCK)
    patches, shares, size = pixels.patches, pixels.shares, loaded.picture.size
    covered, replaced, rim = reach.luma, reach.changed, None
    target = reach.changed & ~pixels.mixed if shares else reach.changed
    if loaded.whole_blocks:
        grown = spread([p for i, p in enumerate(patches) if i not in shares], target, BLOCK_REACH)
        patches = [patch if i in shares else grown.pop(0) for i, patch in enumerate(patches)]
    else:
        covered, rim = np.zeros(size, bool), np.zeros(size, bool)
        np.logical_and(pixels.plain[near], reach.luma[near], out=covered[near])
        np.greater(target[near], covered[near], out=rim[near])
        patches = [
            p if i in shares else Patch(p.top, p.left, p.mask & reach.luma[p.window]) for i, p in enumerate(patches)
        ]
    keeps = None
    if shares:
        covered, replaced = covered | pixels.hidden, replaced | (pixels.mixed & ~pixels.keeps)
        reach = reach.joined(jpeg.reach(pixels.mixed))
        keeps = reach.changed & ~replaced
    pixels = replace(pixels, patches=patches)
    found = _masked(faces, transition, pixels, covered, reach.changed, keeps, near)
    return replace(found, blocks=(jpeg, reach), rim=rim)


def _masked(
    faces: Faces,
    transition: Mask,
    pixels: _Pixels,
    covered: Mask,
    facemask: Mask,
    keeps: Mask | None,
    near: tuple[slice, slice],
) -> Masked:
    """Of a picture that is encoded as a whole, in a format to be named."""
    return Masked(
        private=tuple(faces.private),
        transition=transition,
        regions=tuple(
            Region(patch, width, pixels.shares.get(i))
            for i, (patch, width) in enumerate(zip(pixels.patches, faces.widths, strict=True))
        ),
        covered=covered,
        facemask=facemask,
        recomposed=keeps,
        blocks=None,
        format="",
        encoding_note=None,
        place=around(facemask, near),
    )


def share_of(alpha: NDArray[Any], within: bool) -> NDArray[Any]:
    """The part of each pixel that belongs to the layer of a face: the matte's person, or what is behind."""
    return alpha if within else np.iinfo(alpha.dtype).max - alpha


def layer_part(patch: Patch, share: NDArray[Any]) -> Patch:
    """An area without the pixels that have no share (HxW) in its layer."""
    return Patch(patch.top, patch.left, patch.mask & (share[patch.window] > 0))


def _paper_part(loaded: Loaded, settings: Settings, faces: Faces, number: int, transition: Mask) -> Patch:
    """A private area without the transition; without what the matte says is of the other layer."""
    patch = faces.private[number]
    if loaded.matte is None:
        return patch
    if loaded.hand is None:
        tolerance = settings.alpha_tolerance if loaded.alpha is not None else 0
        if faces.within[number]:
            patch = without_background(patch, loaded.matte, tolerance)
        elif loaded.areas >= 1:
            patch = without_person(patch, loaded.matte, faces.found[number], tolerance)
    return Patch(patch.top, patch.left, patch.mask & ~transition[patch.window])


def may_be_png(loaded: Loaded, settings: Settings) -> bool:
    """Whether a JPEG picture may be released as PNG: unless JPEG, or a loss, is asked for."""
    lossless = settings.jpeg is JpegMode.EXACT and settings.quality is None
    return settings.format is Format.KEEP and loaded.picture.format == "JPEG" and lossless


def _jpeg_blocks(loaded: Loaded, settings: Settings) -> tuple[JpegBlocks | None, str | None]:
    """The coefficients to edit, or why the picture has to be encoded as a whole."""
    picture = loaded.picture
    if picture.format != "JPEG" or settings.jpeg is JpegMode.REENCODE or settings.quality is not None:
        return None, None
    if picture.tables is None:
        return None, picture.notes[0]
    try:
        if picture.blocks is not None:
            return picture.blocks.turned(picture.orientation), None
        return JpegBlocks.read(with_end(loaded.photo)[0]).turned(picture.orientation), None
    except UnsupportedJpeg as exc:
        return None, str(exc)
