"""Why a picture may not be released without a person: what is a face, and whether all of it is hidden."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p3mdata.anonymize.hand import hand_doubts
from p3mdata.anonymize.inputs import Loaded
from p3mdata.anonymize.masks import bare_parts, inside_matte, patch_of
from p3mdata.anonymize.opacity import is_picture, shows_face
from p3mdata.anonymize.proofs import uncovered_by_hand
from p3mdata.faces.ensemble import Detection, doubt_about_all, is_agreed
from p3mdata.records import XYXY, Doubt, Face, Mask


def mask_doubts(
    loaded: Loaded,
    detection: Detection,
    covered: Mask,
    beside: Mapping[int, Mask] | None = None,
    remedy: Callable[[], str] | None = None,
) -> list[Doubt]:
    """Doubts about a picture's faces and what of them is covered.

    Args:
        loaded: The decoded inputs.
        detection: Faces, and doubts about them.
        covered: HxW, True where content is hidden.
        beside: Of recomposed faces by number: HxW, True where little belongs to their layer.
        remedy: Tells what would hide a face of this picture that is bare.
    """
    if shown := matte_is_picture(loaded, detection.faces):
        return [shown]
    if loaded.hand is not None:
        if not covered.any():
            return [Doubt("hand_mask_empty", "nothing of the hand-drawn mask is left to obfuscate")]
        return [*uncovered_by_hand(detection, covered), *hand_doubts(loaded.hand)]
    doubts = list(detection.doubts) or doubt_about_all(detection.faces)
    if not detection.faces and loaded.picture.nearly_black:
        largest, top = int(loaded.picture.pixels.max()), np.iinfo(loaded.picture.pixels.dtype).max
        doubts.append(
            Doubt("nearly_black", f"the picture is nearly black in its range (largest value {largest} of {top})")
        )
    if loaded.alpha is not None:
        doubts += matte_doubts(detection.faces, loaded.alpha)
    return doubts + coverage_doubts(detection.faces, covered, beside, remedy)


def matte_is_picture(loaded: Loaded, faces: Sequence[Face]) -> Doubt | None:
    """Why a matte may not be published, which it would be as it is: it shows a picture, or a face; None where it may.

    Args:
        loaded: The decoded inputs.
        faces: Of the picture.
    """
    if loaded.alpha is None:
        return None
    if is_picture(loaded.alpha):
        return Doubt("matte_is_picture", "its alpha matte shows a picture, not an outline. Check the folder of mattes")
    if box := _in_matte(loaded.alpha, faces, loaded.hand):
        return Doubt(
            "matte_is_picture",
            f"its alpha matte shows the face at x={box[0]:.0f} y={box[1]:.0f} in its levels, as a picture does. "
            "Round levels that are nearly full or nearly 0, or export the matte again",
            (box,),
        )
    return None


def _in_matte(alpha: NDArray[Any], faces: Sequence[Face], hand: Mask | None) -> XYXY | None:
    """Box of a face, or of what a person drew, which the matte shows; it is published as it is."""
    boxes = [face.box for face in faces]
    if hand is not None and hand.any():
        drawn = patch_of(hand)
        rows, cols = drawn.window
        boxes.append((cols.start, rows.start, cols.stop, rows.stop))
    return next((box for box in boxes if shows_face(alpha, box)), None)


def coverage_doubts(
    faces: Sequence[Face],
    covered: Mask,
    beside: Mapping[int, Mask] | None = None,
    remedy: Callable[[], str] | None = None,
) -> list[Doubt]:
    """Doubts about faces that the transition area or the block grid left partly bare.

    Beside an agreed face those count alone: a single hit is masked as far as may be.
    """
    doubts = []
    any_agreed = any(map(is_agreed, faces))
    for number, face in enumerate(faces):
        if any_agreed and not is_agreed(face):
            continue
        if bare := bare_parts(face, covered, (beside or {}).get(number)):
            left, top = face.box[:2]
            doubts.append(
                Doubt(
                    "mask_too_small",
                    f"the mask without the transition area leaves {', '.join(bare)} bare on the face at "
                    f"x={left:.0f} y={top:.0f}" + (f"; {remedy()}" if remedy else ""),
                    (face.box,),
                )
            )
    return doubts


def matte_doubts(faces: Sequence[Face], alpha: NDArray[Any]) -> list[Doubt]:
    """Doubts from comparing faces with the matte: a person without a face, or a main face outside the person."""
    if not (alpha > np.iinfo(alpha.dtype).max // 2).any():
        most, full = int(alpha.max(initial=0)), np.iinfo(alpha.dtype).max
        what = f"has no opaque pixel, its largest value is {most} of {full}" if most else "is empty"
        return [Doubt("matte_without_person", f"the alpha matte {what}")]
    # Single hits on foliage or cloth say nothing about the matte; they are masked wherever they are.
    faces = [face for face in faces if is_agreed(face)]
    inside = inside_matte(faces, alpha)
    if faces and not any(inside):
        return [
            Doubt(
                "face_outside_matte",
                "the person in the matte has no face; the faces found are outside it",
                tuple(face.box for face in faces),
            )
        ]
    main = max((face.width for face, within in zip(faces, inside, strict=True) if within), default=0)
    for face, within in zip(faces, inside, strict=True):
        # Bystanders are masked without asking; where the widest face is no part of the matte, it may be the wrong one.
        if not within and face.width > main:
            left, top = face.box[:2]
            return [
                Doubt(
                    "face_outside_matte",
                    f"the widest face, at x={left:.0f} y={top:.0f}, is outside the matte",
                    (face.box,),
                )
            ]
    return []
