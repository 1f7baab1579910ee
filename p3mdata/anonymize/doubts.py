"""Why a picture may not be released without a person: what is a face, and whether all of it is hidden."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p3mdata.anonymize.hand import hand_doubts
from p3mdata.anonymize.inputs import Loaded
from p3mdata.anonymize.masks import bare_parts, inside_matte
from p3mdata.anonymize.opacity import is_picture
from p3mdata.anonymize.proofs import uncovered_by_hand
from p3mdata.faces.ensemble import Detection, doubt_about_all
from p3mdata.records import Doubt, Face, Mask

# A face outside the matte this wide, relative to the widest one inside, may be the person the matte is of.
_BYSTANDER = 0.5


def mask_doubts(
    loaded: Loaded, detection: Detection, covered: Mask, beside: Mapping[int, Mask] | None = None
) -> list[Doubt]:
    """Doubts about a picture's faces and what of them is covered.

    Args:
        loaded: The decoded inputs.
        detection: Faces, and doubts about them.
        covered: HxW, True where content is hidden.
        beside: Of recomposed faces by number: HxW, True where nothing belongs to their layer.
    """
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
    return doubts + coverage_doubts(detection.faces, covered, beside)


def coverage_doubts(faces: Sequence[Face], covered: Mask, beside: Mapping[int, Mask] | None = None) -> list[Doubt]:
    """Doubts about faces that the transition area or the block grid left partly bare."""
    doubts = []
    for number, face in enumerate(faces):
        if bare := bare_parts(face, covered, (beside or {}).get(number)):
            left, top = face.box[:2]
            doubts.append(
                Doubt(
                    "mask_too_small",
                    f"the mask without the transition area leaves {', '.join(bare)} bare on the face at "
                    f"x={left:.0f} y={top:.0f}; a smaller --transition-width or --format png gets closer to the edge",
                )
            )
    return doubts


def matte_doubts(faces: Sequence[Face], alpha: NDArray[Any]) -> list[Doubt]:
    """Doubts from comparing faces with the matte: a person without a face, or a main face outside the person."""
    if not (alpha > np.iinfo(alpha.dtype).max // 2).any():
        return [Doubt("matte_without_person", "the alpha matte is empty")]
    inside = inside_matte(faces, alpha)
    if faces and not any(inside):
        return [Doubt("face_outside_matte", "the person in the matte has no face; the faces found are outside it")]
    main = max((face.width for face, within in zip(faces, inside, strict=True) if within), default=0)
    for face, within in zip(faces, inside, strict=True):
        # Bystanders in the background are smaller than the person who was cut out; they are masked without asking.
        if not within and face.width > 0.5 * main:
            left, top = face.box[:2]
            return [Doubt("face_outside_matte", f"a large face at x={left:.0f} y={top:.0f} is outside the matte")]
    return []
