"""Which pixels of a picture are obfuscated, and how: the paper's areas (section 3.2), or recomposed up to the edge.

The paper takes the transition area out of the private area. Where that leaves an eye, the nose or the mouth bare, the
face's layer is obfuscated up to the silhouette instead (`p3mdata.anonymize.recompose`); `Settings.boundary` chooses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p3mdata.anonymize.doubts import mask_doubts
from p3mdata.anonymize.inputs import Loaded
from p3mdata.anonymize.masks import (
    Patch,
    Region,
    around,
    bare_parts,
    disjoint,
    hand_regions,
    hull,
    inside_matte,
    private_area,
    spread,
    transition_near,
    without_background,
    without_person,
)
from p3mdata.anonymize.permission import is_shown, permission_doubts
from p3mdata.config import Boundary, Format, JpegMode, Settings
from p3mdata.faces.ensemble import Detection, is_agreed
from p3mdata.imaging import target_format
from p3mdata.imaging.containers import with_end
from p3mdata.imaging.encode import encode_facemask
from p3mdata.imaging.facemask import facemask_of
from p3mdata.imaging.jpeg import JpegBlocks, Reach, UnsupportedJpeg
from p3mdata.imaging.trimap import kernel_side, pure, transition_area
from p3mdata.records import Doubt, Face, Mask

# A JPEG block of 4:2:0 chroma spans 16 pixels, and decoders interpolate one more.
_BLOCK_REACH = 17
# No block of any component reaches further beyond a pixel in it, decoders' interpolation included.
_MOST_OF_A_BLOCK = 40
# Less than this of a face's private area leaves glasses, brows and cheeks to be seen (0.72 and 0.79 of two small faces
# did, 0.85 and more of all others); of a drawn area, it is not what its author meant.
_LEAST_OF_A_FACE, _LEAST_OF_A_DRAWING = 0.8, 0.5
# By so much of a face's width landmarks may be off, and lashes reach beyond the lids: eyes, nose and mouth are taken
# for that much larger when it is decided whether the paper's rule hides them.
_MARGIN = 0.03
# A recomposed pixel hides its face where this share of it is the face's layer: four fifths of the detail are gone then.
# With less than the rest it shows the other layer; between them a face may still be seen.
_HIDES = 2 / 3


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
class _Faces:
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


def transition_of(loaded: Loaded, settings: Settings, near: Sequence[Patch] | None = None) -> Mask:
    """Transition area of an image, HxW: of its trimap, else of its matte, else empty.

    Args:
        loaded: The decoded inputs.
        settings: Gives the width of the band, and what of a matte is pure.
        near: Compute the band of a matte only around these patches; None computes all of it.
    """
    if loaded.trimap is not None:
        none, full = pure(loaded.trimap)
        return np.asarray(~none & ~full)
    if loaded.alpha is None:
        return np.zeros(loaded.picture.size, bool)
    side = kernel_side(loaded.picture.size, settings.transition_width)
    if near is None:
        return transition_area(loaded.alpha, side, settings.alpha_tolerance)
    return transition_near(loaded.alpha, near, side, 2 * _BLOCK_REACH, settings.alpha_tolerance)


def mask(loaded: Loaded, detection: Detection, settings: Settings, doubted: bool = True) -> Masked:
    """Private area, transition area and adjusted private area (paper, section 3.2), and doubts about them.

    A hand-drawn mask takes the place of the detected areas; certain faces that it leaves bare are a doubt. Of a picture
    that is shown by permission nothing is masked. Who asks what a picture that is released already was to become wants
    no doubts about it.
    """
    settings = settings.decided(loaded.decision)
    if is_shown(loaded.decision):
        return _nothing(loaded, settings, detection)
    faces = _private_areas(loaded, detection, settings)
    if loaded.decision is not None and loaded.decision.keep_transition:
        transition = np.zeros(loaded.picture.size, bool)
    else:
        transition = transition_of(loaded, settings, near=faces.private)
    name = target_format(loaded.picture, settings.format.value)
    asked = range(len(faces.private)) if settings.boundary is Boundary.RECOMPOSITE and faces.within else ()
    masked = _areas(loaded, settings, faces, transition, name, asked)
    if settings.boundary is Boundary.AUTO:
        masked = _as_needed(loaded, detection, settings, faces, masked)
    if not doubted:
        return masked

    def remedy() -> str:
        return _remedy(loaded, detection, settings, faces, masked)

    doubts = mask_doubts(loaded, detection, masked.covered, _beside(faces, masked), remedy)
    return replace(masked, doubts=tuple(doubts))


def _nothing(loaded: Loaded, settings: Settings, detection: Detection) -> Masked:
    """No area of a picture that is shown with its faces."""
    none = np.zeros(loaded.picture.size, bool)
    return Masked(
        private=(), transition=none, regions=(), covered=none, facemask=none, recomposed=None, blocks=None,
        format=target_format(loaded.picture, settings.format.value), encoding_note=None, place=around(none),
        doubts=tuple(permission_doubts(loaded, detection)),
    )  # fmt: skip


def _remedy(loaded: Loaded, detection: Detection, settings: Settings, faces: _Faces, masked: Masked) -> str:
    """What would hide the faces of a picture that are bare, tried on this picture."""

    def hides(tried: Masked) -> bool:
        beside = _beside(faces, tried)
        return not any(bare_parts(f, tried.covered, beside.get(i)) for i, f in enumerate(detection.faces))

    name = target_format(loaded.picture, settings.format.value)
    if faces.within and loaded.alpha is not None and masked.recomposed is None:
        every = range(len(faces.private))
        if hides(_areas(loaded, settings, faces, masked.transition, name, every)):
            return "--boundary recomposite (k in the review) hides it and keeps the matte"
    if masked.blocks is not None and hides(_areas(loaded, settings, faces, masked.transition, "PNG", ())):
        return "--format png hides it"
    narrow = settings.model_copy(update={"transition_width": 0})
    if hides(_areas(loaded, settings, faces, transition_of(loaded, narrow, near=faces.private), name, ())):
        return "--transition-width 0 hides it"
    return "the matte is unsure there: draw a mask, or leave the picture out"


def _private_areas(loaded: Loaded, detection: Detection, settings: Settings) -> _Faces:
    size, alpha = loaded.picture.size, loaded.alpha
    if loaded.hand is None:
        private = [private_area(face, size, settings.area) for face in detection.faces]
        within = [] if loaded.matte is None else inside_matte(detection.faces, loaded.matte)
        numbers = [[i] for i in range(len(private))]
        return _Faces(private, [face.width for face in detection.faces], within, numbers, detection.faces)
    private = hand_regions(loaded.hand)
    # As `Face.width`: an area drawn on a head turned aside is narrow.
    widths = [max(float(patch.mask.shape[1]), 0.75 * patch.mask.shape[0]) for patch in private]
    half = 0 if alpha is None else np.iinfo(alpha.dtype).max // 2
    within = [] if alpha is None else [bool((alpha[p.window][p.mask] > half).mean() >= 0.5) for p in private]
    numbers = [[i for i, face in enumerate(detection.faces) if _holds(patch, face.box)] for patch in private]
    return _Faces(private, widths, within, numbers)


def _holds(patch: Patch, box: tuple[float, float, float, float]) -> bool:
    """Whether a patch's rectangle holds the middle of a box."""
    x, y = (box[0] + box[2]) / 2 - patch.left, (box[1] + box[3]) / 2 - patch.top
    return bool(0 <= y < patch.mask.shape[0] and 0 <= x < patch.mask.shape[1])


def _share(alpha: NDArray[Any], within: bool) -> NDArray[Any]:
    """The part of each pixel that belongs to the layer of a face: the matte's person, or what is behind."""
    return alpha if within else np.iinfo(alpha.dtype).max - alpha


def _areas(
    loaded: Loaded, settings: Settings, faces: _Faces, transition: Mask, name: str, recomposed: Sequence[int]
) -> Masked:
    """Areas with the faces of some numbers recomposed and all others after the paper, in a format of a name."""
    alpha, size = loaded.alpha, loaded.picture.size
    note = None
    if recomposed and name == "JPEG" and _may_be_png(loaded, settings):
        name, note = "PNG", "a face is recomposed, and JPEG blocks would change the background beside it"
    shares = {i: _share(alpha, faces.within[i]) for i in recomposed} if alpha is not None else {}
    wanted = [
        _layer_part(patch, shares[i]) if i in shares else _paper_part(loaded, settings, faces, i, transition)
        for i, patch in enumerate(faces.private)
    ]
    every = np.zeros(size, bool)
    for patch in wanted:
        patch.paint(every)
    patches = disjoint(wanted, every) if len(wanted) > 1 else wanted
    # Without a recomposed face every pixel is plain, and nothing below looks at the other three.
    plain = mixed = hidden = keeps = every
    if shares:
        plain, mixed, hidden, keeps = (np.zeros(size, bool) for _ in range(4))
        for i, patch in enumerate(patches):
            patch.paint(mixed if i in shares else plain)
    for i, share in shares.items():
        window, inside = patches[i].window, patches[i].mask
        hidden[window] |= inside & (share[window] >= _HIDES * np.iinfo(share.dtype).max)
        # Of recomposed faces, pixels that are all of their layer and far from the edge are simply replaced.
        _, full = pure(share[window], settings.alpha_tolerance)
        keeps[window] |= inside & (transition[window] | ~full)
    blocks, rim = None, None
    if name == "JPEG":
        jpeg, note = _jpeg_blocks(loaded, settings)
        if jpeg is not None:
            forbidden = transition if loaded.matte is not None and transition.any() else None
            blocks = (jpeg, jpeg.reach(plain, forbidden, hull(wanted)))
    if blocks is None:
        covered, facemask = (plain | hidden, plain | mixed) if shares else (plain, plain)
        near = hull(wanted)
    else:
        jpeg, reach = blocks
        # Of the plain pixels, those in blocks that must not change stay as they are. A block at the edge keeps what
        # lies beside the face: it is compressed again with the face hidden.
        # Nothing is beyond the blocks around the faces, and fresh memory would cost more than what is computed.
        near = hull(wanted, _MOST_OF_A_BLOCK)
        covered, replaced = reach.luma, reach.changed
        if not loaded.whole_blocks:
            covered = np.zeros(size, bool)
            np.logical_and(plain[near], reach.luma[near], out=covered[near])
        target = reach.changed & ~mixed if shares else reach.changed
        if loaded.whole_blocks:
            grown = spread([p for i, p in enumerate(patches) if i not in shares], target, _BLOCK_REACH)
            patches = [patches[i] if i in shares else grown.pop(0) for i in range(len(patches))]
        else:
            rim = np.zeros(size, bool)
            np.greater(target[near], covered[near], out=rim[near])
            patches = [p if i in shares else _within(p, reach.luma) for i, p in enumerate(patches)]
        if shares:
            covered, replaced = covered | hidden, replaced | (mixed & ~keeps)
            reach = reach.joined(jpeg.reach(mixed))
        facemask, blocks = reach.changed, (jpeg, reach)
        keeps = facemask & ~replaced if shares else keeps
    return Masked(
        private=tuple(faces.private),
        transition=transition,
        regions=tuple(
            Region(patch, width, shares.get(i))
            for i, (patch, width) in enumerate(zip(patches, faces.widths, strict=True))
        ),
        covered=covered,
        facemask=facemask,
        recomposed=keeps if shares else None,
        blocks=blocks,
        format=name,
        encoding_note=note,
        place=around(facemask, near),
        rim=rim,
    )


def _within(patch: Patch, area: Mask) -> Patch:
    return Patch(patch.top, patch.left, patch.mask & area[patch.window])


def _layer_part(patch: Patch, share: NDArray[Any]) -> Patch:
    return Patch(patch.top, patch.left, patch.mask & (share[patch.window] > 0))


def _paper_part(loaded: Loaded, settings: Settings, faces: _Faces, number: int, transition: Mask) -> Patch:
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


def _as_needed(loaded: Loaded, detection: Detection, settings: Settings, faces: _Faces, masked: Masked) -> Masked:
    """The paper's areas where they hide every face; else without JPEG blocks; else with the bare faces recomposed."""
    needed = _needed(loaded, detection, faces, masked)
    if needed and masked.blocks is not None and _may_be_png(loaded, settings):
        finer = _areas(loaded, settings, faces, masked.transition, "PNG", ())
        note = "JPEG blocks would leave a part of a face bare"
        needed, masked = _needed(loaded, detection, faces, finer), replace(finer, encoding_note=note)
    if not needed or loaded.alpha is None:
        return masked
    return _areas(
        loaded, settings, faces, masked.transition, target_format(loaded.picture, settings.format.value), needed
    )


def _needed(loaded: Loaded, detection: Detection, faces: _Faces, masked: Masked) -> list[int]:
    """Numbers of the areas that leave an eye, the nose or the mouth of a face bare, or much of it."""
    bare = {i for i, face in enumerate(detection.faces) if bare_parts(face, masked.covered)}
    if loaded.areas >= 1 and loaded.matte is not None and masked.transition.any():
        # What lies beyond the private area is nobody's to hide.
        hidden = np.ones(masked.covered.shape, bool)
        for patch in faces.private:
            hidden[patch.window] &= ~patch.mask
        hidden |= masked.covered
        agreed = [(i, face) for i, face in enumerate(detection.faces) if is_agreed(face)]
        bare |= {i for i, face in agreed if bare_parts(face, hidden, margin=_MARGIN)}
    needed = [i for i, numbers in enumerate(faces.parts) if bare & set(numbers)]
    if loaded.alpha is None:
        return needed
    least = _LEAST_OF_A_FACE if loaded.hand is None else _LEAST_OF_A_DRAWING
    for i, (patch, region) in enumerate(zip(faces.private, masked.regions, strict=True)):
        if i not in needed:
            meant = int(np.count_nonzero(_layer_part(patch, _share(loaded.alpha, faces.within[i])).mask))
            if np.count_nonzero(region.patch.mask) < least * meant:
                needed.append(i)
    return sorted(needed)


def _beside(faces: _Faces, masked: Masked) -> dict[int, Mask]:
    """Of recomposed faces by number: HxW, True where the layer that the face belongs to has little share."""
    beside: dict[int, Mask] = {}
    for numbers, region in zip(faces.parts, masked.regions, strict=True):
        if region.share is not None:
            beside |= dict.fromkeys(numbers, np.asarray(region.share < (1 - _HIDES) * np.iinfo(region.share.dtype).max))
    return beside


def _may_be_png(loaded: Loaded, settings: Settings) -> bool:
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
