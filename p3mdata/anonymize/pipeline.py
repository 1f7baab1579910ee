"""One image through all stages: bytes and settings in, bytes and a result out. No file system.

load -> detect -> mask -> obfuscate -> verify -> gate. The staged commands call the same functions one at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from p3mdata.anonymize.areas import mask
from p3mdata.anonymize.inputs import Inputs, Loaded, load
from p3mdata.anonymize.masked import Masked
from p3mdata.anonymize.masks import hull
from p3mdata.anonymize.noise import Noise
from p3mdata.anonymize.opacity import hide as hide_opacity
from p3mdata.anonymize.opacity import is_picture
from p3mdata.anonymize.permission import FINE_EDGES, JPEG_EXACT, JPEG_TURNED, difference, is_shown, untouched
from p3mdata.anonymize.proofs import Promise, proof_doubts, prove
from p3mdata.anonymize.recompose import hide
from p3mdata.anonymize.suspects import suspect_doubts, suspected
from p3mdata.base.files import sha256
from p3mdata.config import Settings
from p3mdata.errors import BrokenInput
from p3mdata.faces.ensemble import Detection, FaceFinder
from p3mdata.imaging import encode, encode_grey, extension
from p3mdata.imaging.jpeg import JpegBlocks, Reach
from p3mdata.imaging.metadata import with_icc
from p3mdata.records import Action, Doubt, Face, ImageResult, Outcome, Sample


@dataclass(frozen=True)
class Anonymized:
    """Result of one image; `files` maps images | facemasks | alphas to (extension, bytes), empty when held back."""

    result: ImageResult
    files: dict[str, tuple[str, bytes]]


def detect(loaded: Loaded, finder: FaceFinder) -> Detection:
    """Faces of an image, with those of a second look; a transparent one is also looked at as a viewer shows it.

    Where a person said that there is no face, nobody is asked.
    """
    return _detected(loaded, finder).with_faces(suspected(loaded))


def _detected(loaded: Loaded, finder: FaceFinder) -> Detection:
    if loaded.decision is not None and loaded.decision.action is Action.NO_FACE:
        return Detection((), ())
    detection = finder.find(loaded.seen)
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


def render(loaded: Loaded, masked: Masked, settings: Settings) -> tuple[bytes, str, str]:
    """Obfuscate and encode.

    Returns:
        The released file's bytes, its format name, and how it was encoded, in words.

    Raises:
        BrokenInput: The wanted format cannot hold the picture.
    """
    settings = settings.decided(loaded.decision)
    if is_shown(loaded.decision):
        return untouched(loaded, settings)
    picture, name = loaded.picture, masked.format
    noise = _noise(loaded, settings)
    if masked.blocks is not None and all(region.share is None for region in masked.regions):
        return _with_blocks(loaded, masked, masked.blocks, settings, noise)
    pixels = hide(picture.pixels, masked.regions, *settings.obfuscation(), noise)
    opacity, hidden = picture.opacity, False
    if opacity is not None:
        opacity = opacity.copy()
        hidden = hide_opacity(opacity, masked.regions, *settings.obfuscation(), noise)
    if masked.blocks is not None:
        jpeg, reach = masked.blocks
        return with_icc(jpeg.rewrite(pixels, reach), picture.icc), name, _exactly(loaded)
    data, how = encode(replace(picture, pixels=pixels, opacity=opacity), name, settings.quality)
    how = f"{how}, opacity obfuscated" if hidden else how
    return data, name, f"{how} ({masked.encoding_note})" if masked.encoding_note else how


def _exactly(loaded: Loaded) -> str:
    """How a JPEG file is encoded of which only blocks are changed."""
    how = JPEG_EXACT if loaded.picture.orientation == 1 else JPEG_TURNED
    return how if loaded.whole_blocks else how + FINE_EDGES


def _with_blocks(
    loaded: Loaded, masked: Masked, blocks: tuple[JpegBlocks, Reach], settings: Settings, noise: Noise | None
) -> tuple[bytes, str, str]:
    """`render` of a JPEG file whose regions are replaced: only what is around them is copied and changed."""
    picture, (jpeg, reach) = loaded.picture, blocks
    rows, cols = jpeg.whole_blocks(hull([region.patch for region in masked.regions]))
    regions = [
        replace(
            region, patch=replace(region.patch, top=region.patch.top - rows.start, left=region.patch.left - cols.start)
        )
        for region in masked.regions
    ]
    pixels = hide(picture.pixels[rows, cols], regions, *settings.obfuscation(), noise)
    data = jpeg.rewrite(pixels, reach, (rows, cols))
    return with_icc(data, picture.icc), masked.format, _exactly(loaded)


def _noise(loaded: Loaded, settings: Settings) -> Noise | None:
    """The noise that a picture's method needs.

    Raises:
        BrokenInput: There is no secret to draw it from, and who knows how it is drawn could subtract it.
    """
    wanted = settings.privacy()
    if wanted is None:
        return None
    if loaded.secret is None:
        raise BrokenInput(
            "no_secret",
            "needs noise, but its run was planned without a secret. Start the run anew, or use --method flat.",
        )
    return Noise(*wanted, loaded.secret)


def promised(masked: Masked, name: str, how: str) -> Promise:
    """What the output of `render` promises: its format's name, and how it was encoded."""
    exact = name != "JPEG" or how.startswith(JPEG_EXACT)
    return Promise(
        masked.facemask,
        masked.transition,
        exact,
        masked.recomposed,
        masked.share,
        masked.regions,
        masked.rim,
        masked.place,
    )


def as_made(loaded: Loaded, row: ImageResult) -> Loaded:
    """Inputs of a released picture, masked in the way that its row tells: runs of earlier versions are proved too."""
    return replace(loaded, whole_blocks=row.encoding in (JPEG_EXACT, JPEG_TURNED), areas=row.areas or 0)


def _gate(
    loaded: Loaded, faces: tuple[Face, ...], doubts: list[Doubt], settings: Settings
) -> tuple[Outcome, Doubt | None]:
    if doubts:
        return Outcome.NEEDS_REVIEW, doubts[0]
    if is_shown(loaded.decision):
        return Outcome.SHOWN_BY_PERMISSION, None
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
    tick: Callable[[str], None] = lambda stage: None,
) -> Anonymized:
    """Anonymize one image.

    Args:
        sample: Its row in the plan.
        inputs: Its bytes and those of its companions.
        settings: What to do.
        finder: The worker's models.
        detection: Result of an earlier `detect`, for the staged commands.
        tick: Called with a stage's name when it is done, for timing.
    """
    base = ImageResult(sample.id, sample.source, Outcome.BROKEN, decision=inputs.decision)
    try:
        loaded = load(inputs, settings)
        tick("decode")
        height, width = loaded.picture.size
        base = replace(base, width=width, height=height, notes=loaded.picture.notes)
        if min(height, width) < settings.min_side:
            detail = f"is {width}x{height}, the shorter side is under the minimum of {settings.min_side} px"
            return Anonymized(replace(base, outcome=Outcome.EXCLUDED, reason="too_small", detail=detail), {})
        detection = detection or detect(loaded, finder)
        if inputs.decision is not None and inputs.decision.dropped:
            detection = detection.without(inputs.decision.dropped)
        tick("detect")
        masked = mask(loaded, detection, settings)
        tick("mask")
        data, name, how = render(loaded, masked, settings)
        tick("obfuscate+encode")
        if loaded.picture.pixels.dtype == np.uint16 and name in ("JPEG", "WEBP"):
            base = replace(base, notes=(*base.notes, "16 bits reduced to 8"))
        proofs = prove(loaded.picture, data, promised(masked, name, how), finder, loaded.seen)
        changed = difference(loaded, data) if is_shown(loaded.decision) else []
        tick("verify")
    except BrokenInput as exc:
        return Anonymized(replace(base, reason=exc.code, detail=exc.sentence), {})
    opacity = loaded.picture.opacity
    of_mask = None if opacity is None else opacity[masked.facemask]
    doubts = [*masked.doubts, *proof_doubts(proofs, of_mask), *changed]
    if inputs.decision is not None:
        doubts = [doubt for doubt in doubts if not inputs.decision.overrules(doubt)]
    doubts = [*suspect_doubts(loaded), *doubts]
    outcome, doubt = _gate(loaded, detection.faces, doubts, settings)
    result = replace(
        base,
        outcome=outcome,
        reason=doubt.code if doubt else None,
        detail=doubt.sentence if doubt else None,
        doubts=tuple(doubts) or ((doubt,) if doubt else ()),
        method=settings.decided(inputs.decision).named(),
        encoding=how,
        areas=loaded.areas if loaded.matte is not None else None,
        masked_share=round(np.count_nonzero(masked.facemask[masked.place]) / masked.facemask.size, 6),
        recomposed=sum(region.share is not None and bool(region.patch.mask.any()) for region in masked.regions),
        faces=detection.faces,
        proofs=proofs,
    )
    if not outcome.released:
        return Anonymized(result, {})
    files = {
        "facemasks": ("png", masked.facemask_file()),
        **_alpha_file(loaded),
        "images": (extension(name), data),
    }
    named = {kind: (sample.released_as(kind, ext), sha256(content)) for kind, (ext, content) in files.items()}
    return Anonymized(replace(result, files=named), files)
