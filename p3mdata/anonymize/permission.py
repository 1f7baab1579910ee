"""Pictures that may be shown with their faces: a public person's, or with the consent of who is on them.

P3M-500-NP consists of such pictures. Nothing in them is obfuscated, so that the released file is proved to differ from
its source in nothing but metadata: all quantised coefficients of a JPEG are equal, all pixels of everything else.
"""

from __future__ import annotations

import numpy as np

from p3mdata.anonymize.doubts import matte_doubts
from p3mdata.anonymize.inputs import Loaded
from p3mdata.anonymize.opacity import is_picture
from p3mdata.config import Settings, exact_jpeg_is_possible
from p3mdata.faces.ensemble import Detection
from p3mdata.imaging import decode, encode, target_format
from p3mdata.imaging.containers import with_end
from p3mdata.imaging.jpeg import JpegBlocks, UnsupportedJpeg
from p3mdata.imaging.metadata import with_icc
from p3mdata.records import Action, Decision, Doubt

# The encoding that promises equal pixels. A losslessly turned JPEG keeps its coefficients, but decoders round turned
# blocks differently by up to 5 levels.
JPEG_EXACT, JPEG_TURNED = "jpeg exact", "jpeg turned losslessly"
# What follows either where blocks at the edge of a mask keep what lies beside it.
FINE_EDGES = ", fine edges"


def is_shown(decision: Decision | None) -> bool:
    """Whether a person said that a picture be shown with its faces; `Decision.permits` tells whether they may."""
    return decision is not None and decision.action is Action.SHOW


def untouched(loaded: Loaded, settings: Settings) -> tuple[bytes, str, str]:
    """A picture's file without its metadata, and nothing else changed.

    A JPEG keeps its coefficients where these can be read; whatever else there is becomes a lossless file of the format
    that was asked for, or of the source's own where that one would change pixels.

    Returns:
        The file's bytes, the name of its format, and how it was encoded, in words.

    Raises:
        BrokenInput: No format can hold the picture.
    """
    picture = loaded.picture
    wanted = target_format(picture, settings.format.value)
    if picture.format == "JPEG" and wanted == "JPEG":
        blocks = _blocks(loaded)
        if blocks is not None:
            nothing = blocks.reach(np.zeros((blocks.height, blocks.width), bool))
            how = JPEG_EXACT if picture.orientation == 1 else JPEG_TURNED
            return with_icc(blocks.rewrite(picture.pixels, nothing), picture.icc), "JPEG", how
    lossy = wanted == "JPEG" or (wanted == "WEBP" and picture.pixels.dtype != np.uint8)
    own = "PNG" if picture.format in ("JPEG", "WEBP") else picture.format
    name = own if lossy else wanted
    data, how = encode(picture, name)
    return data, name, f"{how} (nothing of the picture is to change)" if lossy else how


def _blocks(loaded: Loaded) -> JpegBlocks | None:
    """The coefficients of a JPEG photograph as it is shown, or None where they cannot be read or turned."""
    if loaded.picture.tables is None or not exact_jpeg_is_possible():
        return None
    try:
        stored = loaded.picture.blocks or JpegBlocks.read(with_end(loaded.photo)[0])
        return stored.turned(loaded.picture.orientation)
    except UnsupportedJpeg:
        return None


def permission_doubts(loaded: Loaded, detection: Detection) -> list[Doubt]:
    """What stands in the way of showing a picture with its faces."""
    doubts = []
    if loaded.decision is None or not loaded.decision.permits:
        doubts.append(Doubt("no_permission", "nobody is named who permits it to be shown, or on what ground"))
    if loaded.hand is not None:
        doubts.append(Doubt("mask_and_permission", "it has a hand-drawn mask and a permission to be shown. Keep one"))
    if loaded.alpha is not None and is_picture(loaded.alpha):
        doubts.append(
            Doubt("matte_is_picture", "its alpha matte shows a picture, not an outline. Check the folder of mattes")
        )
    elif loaded.alpha is not None:
        doubts += matte_doubts(detection.faces, loaded.alpha)
    if (number := len(detection.faces)) > 1:
        sentence = f"{number} faces are on it: confirm that everybody whom it shows may be shown"
        doubts.append(Doubt("others_shown", sentence, tuple(face.box for face in detection.faces)))
    return doubts


def difference(loaded: Loaded, output: bytes) -> list[Doubt]:
    """What of a shown picture differs from its source beside metadata; from the two files alone.

    Args:
        loaded: The decoded source.
        output: The released file's bytes.
    """
    released = decode(output, max_pixels=max(1, loaded.picture.pixels.size), by_libjpeg=True)
    if released.format == "JPEG":
        blocks = _blocks(loaded)
        if blocks is None:
            return [Doubt("not_the_same", "the coefficients of its source cannot be read, so nothing can be compared")]
        try:
            found = blocks.differing(JpegBlocks.read(output, by_libjpeg=True))
        except UnsupportedJpeg as exc:
            return [Doubt("not_the_same", f"the coefficients of the output cannot be read ({exc})")]
        return [Doubt("not_the_same", f"{found} coefficients differ from those of the source")] if found else []
    pairs = [(loaded.picture.pixels, released.pixels), (loaded.picture.opacity, released.opacity)]
    for before, after in pairs:
        if (before is None) != (after is None):
            return [Doubt("not_the_same", "its transparency is not that of the source")]
        if before is None or after is None:
            continue
        # A grey picture in a colour container has three equal channels.
        source = np.dstack([before] * 3) if before.ndim < after.ndim else before
        if source.dtype != after.dtype or not np.array_equal(source, after):
            return [Doubt("not_the_same", "its pixels are not those of the source")]
    return []
