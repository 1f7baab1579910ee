"""One image through all stages: bytes and settings in, bytes and a result out. No file system.

load -> detect -> mask -> obfuscate -> verify -> gate. The staged commands call the same functions one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p3mdata.anonymize.hand import drawn_area, hand_doubts
from p3mdata.anonymize.masks import (
    Patch,
    coverage_doubts,
    disjoint,
    hand_regions,
    inside_matte,
    matte_doubts,
    private_area,
    spread,
    transition_near,
    without_background,
)
from p3mdata.anonymize.obfuscate import obfuscate
from p3mdata.anonymize.opacity import hide, is_picture
from p3mdata.anonymize.proofs import proof_doubts, prove, uncovered_by_hand
from p3mdata.base.files import sha256
from p3mdata.config import JpegMode, Settings
from p3mdata.errors import BrokenInput
from p3mdata.faces.ensemble import Detection, FaceFinder, doubt_about_all
from p3mdata.imaging import Picture, decode, decode_matte, encode, encode_grey, encode_mask, extension, target_format
from p3mdata.imaging.jpeg import JpegBlocks, Reach, UnsupportedJpeg
from p3mdata.imaging.metadata import with_icc
from p3mdata.imaging.trimap import kernel_side, transition_area
from p3mdata.records import Action, Decision, Doubt, Face, ImageResult, Mask, Outcome, Sample

# A JPEG block of 4:2:0 chroma spans 16 pixels, and decoders interpolate one more.
_BLOCK_REACH = 17
# The encoding that promises equal pixels. A losslessly turned JPEG keeps its coefficients, but decoders round turned
# blocks differently by up to 5 levels.
JPEG_EXACT = "jpeg exact"


@dataclass(frozen=True)
class Inputs:
    """What belongs to one sample: bytes of files (None where there is none), and a person's decision."""

    photo: bytes
    alpha: bytes | None = None
    trimap: bytes | None = None
    mask: bytes | None = None
    decision: Decision | None = None


@dataclass(frozen=True)
class Loaded:
    """Decoded inputs, all of one size and in displayed orientation. Mattes are HxW, uint8 or uint16."""

    photo: bytes
    picture: Picture
    alpha: NDArray[Any] | None
    trimap: NDArray[Any] | None
    hand: Mask | None
    decision: Decision | None = None


@dataclass(frozen=True)
class Masked:
    """What will be obfuscated.

    Attributes:
        private: Private area of each region before anything is subtracted.
        transition: HxW, True where nothing may change.
        regions: Disjoint patches to obfuscate and the face width that strength is relative to.
        covered: HxW, True where the picture's content is replaced.
        facemask: HxW, True where the output may differ from the source: `covered`, plus the pixels into which
            decoders smear subsampled JPEG chroma.
        blocks: The JPEG blocks to rewrite, or None when the picture is encoded as a whole.
        doubts: Reasons not to release without a person.
    """

    private: tuple[Patch, ...]
    transition: Mask
    regions: tuple[tuple[Patch, float], ...]
    covered: Mask
    facemask: Mask
    blocks: tuple[JpegBlocks, Reach] | None
    encoding_note: str | None
    doubts: tuple[Doubt, ...]


@dataclass(frozen=True)
class Anonymized:
    """Result of one image; `files` maps images | facemasks | alphas to (extension, bytes), empty when held back."""

    result: ImageResult
    files: dict[str, tuple[str, bytes]]


def load(inputs: Inputs, settings: Settings) -> Loaded:
    """Decode a photo and its companions.

    Raises:
        BrokenInput: One of them cannot be used.
    """
    picture = decode(inputs.photo, settings.max_pixels)

    def companion(data: bytes | None, what: str) -> NDArray[Any] | None:
        return None if data is None else decode_matte(data, picture, what, settings.max_pixels)

    hand = companion(inputs.mask, "mask")
    return Loaded(
        photo=inputs.photo,
        picture=picture,
        alpha=companion(inputs.alpha, "alpha"),
        trimap=companion(inputs.trimap, "trimap"),
        hand=None if hand is None else drawn_area(hand),
        decision=inputs.decision,
    )


def detect(loaded: Loaded, finder: FaceFinder) -> Detection:
    """Faces of an image; a transparent one is also looked at as a viewer shows it.

    Where a person said that there is no face, nobody is asked.
    """
    if loaded.decision is not None and loaded.decision.action is Action.NO_FACE:
        return Detection((), ())
    detection = finder.find(loaded.picture.seen8())
    picture = loaded.picture
    shown = picture.over_grey()
    if picture.opacity is None or shown is None:
        return detection
    detection = detection.merged_with(finder.find(shown))
    if not is_picture(picture.opacity):
        return detection
    # Infrared or depth: a face that shows in it alone is one as well.
    beyond = finder.find(replace(picture, pixels=picture.opacity, opacity=None).seen8())
    merged = detection.merged_with(beyond)
    return merged if len(merged.faces) > len(detection.faces) else detection


def transition_of(loaded: Loaded, settings: Settings, near: Sequence[Patch] | None = None) -> Mask:
    """Transition area of an image, HxW: of its trimap, else of its matte, else empty.

    Args:
        loaded: The decoded inputs.
        settings: Gives the width of the band.
        near: Compute the band of a matte only around these patches; None computes all of it.
    """
    if loaded.trimap is not None:
        top = np.iinfo(loaded.trimap.dtype).max
        return np.asarray((loaded.trimap > 0) & (loaded.trimap < top))
    if loaded.alpha is None:
        return np.zeros(loaded.picture.size, bool)
    side = kernel_side(loaded.picture.size, settings.transition_width)
    if near is None:
        return transition_area(loaded.alpha, side)
    return transition_near(loaded.alpha, near, side, margin=2 * _BLOCK_REACH)


def _on_person(loaded: Loaded, detection: Detection, patches: list[Patch]) -> list[Patch]:
    """The areas of faces that belong to the matte's person, cut where the matte says background."""
    matte = loaded.alpha if loaded.alpha is not None else loaded.trimap
    if matte is None:
        return patches
    inside = inside_matte(detection.faces, matte)
    return [without_background(p, matte) if within else p for p, within in zip(patches, inside, strict=True)]


def _jpeg_blocks(loaded: Loaded, settings: Settings) -> tuple[JpegBlocks | None, str | None]:
    """The coefficients to edit, or why the picture has to be encoded as a whole."""
    picture = loaded.picture
    if target_format(picture, settings.format.value) != "JPEG" or picture.format != "JPEG":
        return None, None
    if settings.jpeg is JpegMode.REENCODE or settings.quality is not None:
        return None, None
    if picture.notes:
        return None, picture.notes[0]
    try:
        return JpegBlocks.read(loaded.photo).turned(picture.orientation), None
    except UnsupportedJpeg as exc:
        return None, str(exc)


def mask(loaded: Loaded, detection: Detection, settings: Settings) -> Masked:
    """Private area, transition area and adjusted private area (paper, section 3.2), and doubts about them.

    A hand-drawn mask takes the place of the detected areas; certain faces that it leaves bare are a doubt.
    """
    size = loaded.picture.size
    if loaded.hand is not None:
        patches = hand_regions(loaded.hand)
        # As `Face.width`: an area drawn on a head turned aside is narrow.
        widths = [max(float(patch.mask.shape[1]), 0.75 * patch.mask.shape[0]) for patch in patches]
    else:
        patches = [private_area(face, size, settings.area) for face in detection.faces]
        widths = [face.width for face in detection.faces]
    if loaded.decision is not None and loaded.decision.keep_transition:
        transition = np.zeros(size, bool)
    else:
        transition = transition_of(loaded, settings, near=patches)
    regions = patches if loaded.hand is not None else _on_person(loaded, detection, patches)
    adjusted = np.zeros(size, bool)
    for region in regions:
        region.paint(adjusted)
    adjusted &= ~transition
    regions = disjoint(regions, adjusted)
    jpeg, note = _jpeg_blocks(loaded, settings)
    if jpeg is None:
        covered = facemask = adjusted
        blocks = None
    else:
        reach = jpeg.reach(adjusted, transition if transition.any() else None)
        covered, facemask, blocks = reach.luma, reach.changed, (jpeg, reach)
        regions = spread(regions, facemask, _BLOCK_REACH)
    return Masked(
        private=tuple(patches),
        transition=transition,
        regions=tuple(zip(regions, widths, strict=True)),
        covered=covered,
        facemask=facemask,
        blocks=blocks,
        encoding_note=note,
        doubts=tuple(_mask_doubts(loaded, detection, covered)),
    )


def _mask_doubts(loaded: Loaded, detection: Detection, covered: Mask) -> list[Doubt]:
    if loaded.alpha is not None and is_picture(loaded.alpha):
        # It is published as it is.
        return [
            Doubt("matte_is_picture", "its alpha matte shows a picture, not an outline. Check the folder of mattes")
        ]
    if loaded.hand is not None:
        if not covered.any():
            return [Doubt("hand_mask_empty", "nothing of the hand-drawn mask is left to obfuscate")]
        return [*uncovered_by_hand(detection, covered), *hand_doubts(loaded.hand)]
    doubts = list(detection.doubts) or doubt_about_all(detection.faces)
    if loaded.picture.nearly_black and not detection.faces:
        largest, top = int(loaded.picture.pixels.max()), np.iinfo(loaded.picture.pixels.dtype).max
        doubts.append(
            Doubt("nearly_black", f"the picture is nearly black in its range (largest value {largest} of {top})")
        )
    if loaded.alpha is not None:
        doubts += matte_doubts(detection.faces, loaded.alpha)
    return doubts + coverage_doubts(detection.faces, covered)


def render(loaded: Loaded, masked: Masked, settings: Settings) -> tuple[bytes, str, str]:
    """Obfuscate and encode.

    Returns:
        The released file's bytes, its format name, and how it was encoded, in words.

    Raises:
        BrokenInput: The wanted format cannot hold the picture.
    """
    picture = loaded.picture
    method, strength = settings.obfuscation()
    pixels = picture.pixels.copy()
    for region, width in masked.regions:
        obfuscate(pixels, region, method, strength, width)
    opacity, hidden = picture.opacity, False
    if opacity is not None:
        opacity = opacity.copy()
        hidden = hide(opacity, masked.regions, method, strength)
    name = target_format(picture, settings.format.value)
    if masked.blocks is not None:
        jpeg, reach = masked.blocks
        how = JPEG_EXACT if picture.orientation == 1 else "jpeg turned losslessly"
        return with_icc(jpeg.rewrite(pixels, reach), picture.icc), name, how
    data, how = encode(replace(picture, pixels=pixels, opacity=opacity), name, settings.quality)
    how = f"{how}, opacity obfuscated" if hidden else how
    return data, name, f"{how} ({masked.encoding_note})" if masked.encoding_note else how


def _gate(
    loaded: Loaded, faces: tuple[Face, ...], doubts: list[Doubt], settings: Settings
) -> tuple[Outcome, Doubt | None]:
    if doubts:
        return Outcome.NEEDS_REVIEW, doubts[0]
    if loaded.hand is not None:
        return Outcome.MASKED_BY_HAND, None
    if faces:
        return Outcome.ANONYMIZED, None
    if settings.trust_no_face or (loaded.decision is not None and loaded.decision.action is Action.NO_FACE):
        return Outcome.NO_FACE_CONFIRMED, None
    return Outcome.NEEDS_REVIEW, Doubt("no_face_found", "no detector finds a face")


def _alpha_file(loaded: Loaded) -> dict[str, tuple[str, bytes]]:
    return {} if loaded.alpha is None else {"alphas": ("png", encode_grey(loaded.alpha))}


def anonymize(
    sample: Sample,
    inputs: Inputs,
    settings: Settings,
    finder: FaceFinder,
    detection: Detection | None = None,
    encoded: bytes | None = None,
    tick: Callable[[str], None] = lambda stage: None,
) -> Anonymized:
    """Anonymize one image.

    Args:
        sample: Its row in the plan.
        inputs: Its bytes and those of its companions.
        settings: What to do.
        finder: The worker's models.
        detection: Result of an earlier `detect`, for the staged commands.
        encoded: Result of an earlier `render` of the same; compared and proved, not trusted.
        tick: Called with a stage's name when it is done, for timing.
    """
    base = ImageResult(sample.id, sample.source, Outcome.BROKEN, decision=inputs.decision)
    try:
        loaded = load(inputs, settings)
        tick("decode")
        height, width = loaded.picture.size
        base = replace(base, width=width, height=height)
        if min(height, width) < settings.min_side:
            detail = f"is {width}x{height}, the shorter side is under the minimum of {settings.min_side} px"
            return Anonymized(replace(base, outcome=Outcome.EXCLUDED, reason="too_small", detail=detail), {})
        detection = detection or detect(loaded, finder)
        tick("detect")
        masked = mask(loaded, detection, settings)
        tick("mask")
        data, name, how = render(loaded, masked, settings)
        # Proofs look outside the mask; that the inside was replaced is known from making it again.
        other = encoded is not None and encoded != data
        data = data if encoded is None else encoded
        tick("obfuscate+encode")
        proofs = prove(
            loaded.picture,
            data,
            masked.facemask,
            masked.transition,
            masked.regions,
            finder,
            exact=name != "JPEG" or how == JPEG_EXACT,
        )
        tick("verify")
    except BrokenInput as exc:
        return Anonymized(replace(base, reason=exc.code, detail=exc.sentence), {})
    doubts = [*masked.doubts, *proof_doubts(proofs)]
    if other:
        doubts.append(Doubt("other_output", "the obfuscated image is not the one that was asked for"))
    if inputs.decision is not None:
        doubts = [doubt for doubt in doubts if not inputs.decision.overrules(doubt)]
    outcome, doubt = _gate(loaded, detection.faces, doubts, settings)
    method, strength = settings.obfuscation()
    result = replace(
        base,
        outcome=outcome,
        reason=doubt.code if doubt else None,
        detail=doubt.sentence if doubt else None,
        method=f"{method.value} {strength:g}",
        encoding=how,
        masked_share=round(np.count_nonzero(masked.facemask) / masked.facemask.size, 6),
        faces=detection.faces,
        proofs=proofs,
    )
    if not outcome.released:
        return Anonymized(result, {})
    files = {
        "facemasks": ("png", encode_mask(masked.facemask)),
        **_alpha_file(loaded),
        "images": (extension(name), data),
    }
    named = {kind: (f"{sample.id}.{ext}", sha256(content)) for kind, (ext, content) in files.items()}
    return Anonymized(replace(result, files=named), files)
