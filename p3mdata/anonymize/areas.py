"""Which pixels of a picture are obfuscated, and how: the paper's areas (section 3.2), or recomposed up to the edge.

The paper takes the transition area out of the private area. Where that leaves an eye, the nose or the mouth bare, the
face's layer is obfuscated up to the silhouette instead (`p3mdata.anonymize.recompose`); `Settings.boundary` chooses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from p3mdata.anonymize.doubts import mask_doubts
from p3mdata.anonymize.inputs import Loaded
from p3mdata.anonymize.masked import BLOCK_REACH, HIDES, Faces, Masked, composed, layer_part, may_be_png, share_of
from p3mdata.anonymize.masks import (
    Patch,
    around,
    bare_parts,
    hand_regions,
    inside_matte,
    private_area,
    transition_near,
)
from p3mdata.anonymize.permission import is_shown, permission_doubts
from p3mdata.config import Boundary, Settings
from p3mdata.faces.ensemble import Detection, is_agreed
from p3mdata.imaging import target_format
from p3mdata.imaging.trimap import kernel_side, pure, transition_area
from p3mdata.records import Mask

# Less than this of a face's private area leaves glasses, brows and cheeks to be seen (0.72 and 0.79 of two small faces
# did, 0.85 and more of all others); of a drawn area, it is not what its author meant.
_LEAST_OF_A_FACE, _LEAST_OF_A_DRAWING = 0.8, 0.5
# By so much of a face's width landmarks may be off, and lashes reach beyond the lids: eyes, nose and mouth are taken
# for that much larger when it is decided whether the paper's rule hides them.
_MARGIN = 0.03


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
    return transition_near(loaded.alpha, near, side, 2 * BLOCK_REACH, settings.alpha_tolerance)


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
    masked = composed(loaded, settings, faces, transition, name, asked)
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


def _remedy(loaded: Loaded, detection: Detection, settings: Settings, faces: Faces, masked: Masked) -> str:
    """What would hide the faces of a picture that are bare, tried on this picture."""

    def hides(tried: Masked) -> bool:
        beside = _beside(faces, tried)
        return not any(bare_parts(f, tried.covered, beside.get(i)) for i, f in enumerate(detection.faces))

    name = target_format(loaded.picture, settings.format.value)
    if faces.within and loaded.alpha is not None and masked.recomposed is None:
        every = range(len(faces.private))
        if hides(composed(loaded, settings, faces, masked.transition, name, every)):
            return "--boundary recomposite (k in the review) hides it and keeps the matte"
    if masked.blocks is not None and hides(composed(loaded, settings, faces, masked.transition, "PNG", ())):
        return "--format png hides it"
    narrow = settings.model_copy(update={"transition_width": 0})
    if hides(composed(loaded, settings, faces, transition_of(loaded, narrow, near=faces.private), name, ())):
        return "--transition-width 0 hides it"
    return "the matte is unsure there: draw a mask, or leave the picture out"


def _private_areas(loaded: Loaded, detection: Detection, settings: Settings) -> Faces:
    size, alpha = loaded.picture.size, loaded.alpha
    if loaded.hand is None:
        private = [private_area(face, size, settings.area) for face in detection.faces]
        within = [] if loaded.matte is None else inside_matte(detection.faces, loaded.matte)
        numbers = [[i] for i in range(len(private))]
        return Faces(private, [face.width for face in detection.faces], within, numbers, detection.faces)
    private = hand_regions(loaded.hand)
    # As `Face.width`: an area drawn on a head turned aside is narrow.
    widths = [max(float(patch.mask.shape[1]), 0.75 * patch.mask.shape[0]) for patch in private]
    half = 0 if alpha is None else np.iinfo(alpha.dtype).max // 2
    within = [] if alpha is None else [bool((alpha[p.window][p.mask] > half).mean() >= 0.5) for p in private]
    numbers = [[i for i, face in enumerate(detection.faces) if _holds(patch, face.box)] for patch in private]
    return Faces(private, widths, within, numbers)


def _holds(patch: Patch, box: tuple[float, float, float, float]) -> bool:
    """Whether a patch's rectangle holds the middle of a box."""
    x, y = (box[0] + box[2]) / 2 - patch.left, (box[1] + box[3]) / 2 - patch.top
    return bool(0 <= y < patch.mask.shape[0] and 0 <= x < patch.mask.shape[1])


def _as_needed(loaded: Loaded, detection: Detection, settings: Settings, faces: Faces, masked: Masked) -> Masked:
    """The paper's areas where they hide every face; else without JPEG blocks; else with the bare faces recomposed."""
    needed = _needed(loaded, detection, faces, masked)
    if needed and masked.blocks is not None and may_be_png(loaded, settings):
        finer = composed(loaded, settings, faces, masked.transition, "PNG", ())
        note = "JPEG blocks would leave a part of a face bare"
        needed, masked = _needed(loaded, detection, faces, finer), replace(finer, encoding_note=note)
    if not needed or loaded.alpha is None:
        return masked
    return composed(
        loaded, settings, faces, masked.transition, target_format(loaded.picture, settings.format.value), needed
    )


def _needed(loaded: Loaded, detection: Detection, faces: Faces, masked: Masked) -> list[int]:
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
            meant = int(np.count_nonzero(layer_part(patch, share_of(loaded.alpha, faces.within[i])).mask))
            if np.count_nonzero(region.patch.mask) < least * meant:
                needed.append(i)
    return sorted(needed)


def _beside(faces: Faces, masked: Masked) -> dict[int, Mask]:
    """Of recomposed faces by number: HxW, True where the layer that the face belongs to has little share."""
    beside: dict[int, Mask] = {}
    for numbers, region in zip(faces.parts, masked.regions, strict=True):
        if region.share is not None:
            beside |= dict.fromkeys(numbers, np.asarray(region.share < (1 - HIDES) * np.iinfo(region.share.dtype).max))
    return beside
