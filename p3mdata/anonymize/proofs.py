"""Proofs on the encoded output, from the files alone: independent of how the output was made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.anonymize.masks import Region, around, core_coverage
from p3mdata.anonymize.opacity import shows_picture, unsolid
from p3mdata.anonymize.outputs import Window, as_8_bit, opened
from p3mdata.faces.ensemble import LOOKS_AGAIN, Detection, FaceFinder, group_face, is_weak, same_face
from p3mdata.faces.pyramid import Pyramid
from p3mdata.imaging import Picture, decode
from p3mdata.imaging.metadata import leftovers
from p3mdata.native.changes import Changes, changes
from p3mdata.records import Doubt, Mask, Proofs

# A face found on the output counts as masked when this share of its core is inside the facemask.
MISS_BELOW = 0.9
# Obfuscation changes nearly every pixel of a photograph; less than this is a fault, or an area that was flat before.
CHANGED_INSIDE = 0.5
# One colour channel may change less where others do: JPEG chroma at the rim changes it by parts of a level.
CHANGED_IN_CHANNEL = 0.2
# Where a channel does not change, its values spread by no more than this share of the range: it was flat there.
_FLAT = 2 / 255
# As MISS_BELOW, without landmarks, where the box may have shifted on the featureless skin.
MISS_BELOW_UNCONFIRMED = 0.7
# Side of a further square in which landmarks of a bare face are looked for, relative to its box.
_NEARER = (1.25,)
# Levels by which compressing a JPEG block again may move a pixel that is not to change.
MOST_BESIDE = 48
_STRIP = 32


def _difference(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """Largest difference over channels, HxW, in the pixels' dtype."""
    if a.ndim == 2:
        return np.asarray(cv2.absdiff(a, b))
    largest = np.empty(a.shape[:2], a.dtype)
    # Strips stay in the cache, and need no fresh memory.
    for top in range(0, len(a), _STRIP):
        gap, rows = np.asarray(cv2.absdiff(a[top : top + _STRIP], b[top : top + _STRIP])), largest[top : top + _STRIP]
        np.maximum(gap[:, :, 0], gap[:, :, 1], out=rows)
        np.maximum(rows, gap[:, :, 2], out=rows)
    return largest


def _without(facemask: Mask, rim: Mask, place: Window) -> Mask:
    """The facemask without its rim, all of it in a rectangle."""
    hidden = np.zeros(facemask.shape, bool)
    np.greater(facemask[place], rim[place], out=hidden[place])
    return hidden


def _where(gap: NDArray[Any], mask: Mask) -> NDArray[Any]:
    """The differences inside a mask, 0 outside."""
    return np.asarray(cv2.bitwise_and(gap, gap, mask=np.ascontiguousarray(mask).view(np.uint8)))


@dataclass(frozen=True)
class Promise:
    """What an output promises about its pixels.

    Attributes:
        facemask: HxW, True where it may differ from the source.
        transition: HxW, True where it must not, but for what is recomposed.
        exact: Whether the format and mode promise exactness outside the mask.
        recomposed: HxW, True in the facemask where the matte stays true; None without any.
        share: HxW, uint8 or uint16: the part of these pixels that may change.
        regions: The areas of single faces inside the facemask.
        rim: HxW, True in the facemask where JPEG blocks show what they did, compressed again; None without any.
        place: A rectangle that holds the facemask, where that is known.
    """

    facemask: Mask
    transition: Mask
    exact: bool
    recomposed: Mask | None = None
    share: NDArray[Any] | None = None
    regions: tuple[Region, ...] = ()
    rim: Mask | None = None
    place: Window | None = None


def prove(source: Picture, output: bytes, promise: Promise, finder: FaceFinder, seen: Pyramid | None = None) -> Proofs:
    """Re-open an output and measure what it promises.

    Args:
        source: The decoded source.
        output: The released file's bytes.
        promise: What it promises.
        finder: Detectors for re-detection.
        seen: The source as detectors looked at it, where they did; its halves are taken over.
    """
    try:
        metadata = leftovers(output)
    except ValueError:
        # What is no picture at all is named as that.
        decode(output, max_pixels=max(1, source.pixels.size))
        raise
    facemask, place = promise.facemask, promise.place or around(promise.facemask)
    released = opened(source, output, place, promise.exact, bare=not metadata)
    # Whatever differs is in there.
    window, before, after = released.window, released.before, released.after
    transition = promise.transition[window]
    scale = 257 if before.dtype == np.uint16 else 1
    hidden = facemask if promise.rim is None else _without(facemask, promise.rim, place)
    replaced = hidden[window]
    found: dict[str, int] = {}
    if promise.recomposed is not None and promise.share is not None:
        recomposed, share, gap = promise.recomposed[window], promise.share[window], _difference(before, after)
        found = _composite(gap, recomposed, share, np.iinfo(before.dtype).max, scale, released.compressed)
        transition = transition & ~recomposed
        # Of a pixel with a small share little is to change.
        replaced = replaced & ~(recomposed & (share <= np.iinfo(share.dtype).max // 2))
    changed = _changes(before, after, facemask[window], transition, replaced)
    inside = _changed_inside(before, after, replaced, changed)
    if source.opacity is not None:
        inside = min(inside, _changed_opacity(source.opacity, released.opacity, facemask, promise.regions))
    with released.shown() as (picture, put_back):
        redetected, missed = redetect(source, picture, hidden, finder, put_back, _seen(picture, source, seen, window))
    return Proofs(
        changed_outside=changed.outside,
        changed_in_transition=changed.transition,
        changed_inside=inside,
        largest_deviation=-(-changed.largest // scale),
        exact=promise.exact,
        metadata=tuple(metadata),
        redetected=redetected,
        missed=missed,
        **found,
    )


def _seen(picture: Picture, source: Picture, seen: Pyramid | None, window: tuple[slice, slice]) -> Pyramid:
    """An output for detectors, which differs from its source in a window; made of the source's where both are shown
    as they are."""
    shown = picture.seen8()
    if seen is not None and seen.shows(source.pixels) and shown is picture.pixels:
        return seen.exchanged(shown, window)
    return Pyramid(shown)


def _changes(before: NDArray[Any], after: NDArray[Any], inner: Mask, transition: Mask, replaced: Mask) -> Changes:
    """What differs beside the facemask, in the transition area, and where the picture was replaced."""
    if (counted := changes(before, after, (inner, transition, replaced))) is not None:
        return counted
    gap = _difference(before, after)
    outside = _where(gap, ~inner)
    planes = cv2.split(before), cv2.split(after)
    return Changes(
        outside=int(np.count_nonzero(outside)),
        largest=int(outside.max(initial=0)),
        transition=int(np.count_nonzero(_where(gap, transition))),
        replaced=int(np.count_nonzero(_where(gap, replaced))),
        channels=tuple(int(np.count_nonzero((old != new) & replaced)) for old, new in zip(*planes, strict=True)),
    )


def _changed_inside(before: NDArray[Any], after: NDArray[Any], replaced: Mask, changed: Changes) -> float:
    """The share of replaced pixels that changed; less where a channel hardly did though it is not flat there."""
    masked = np.count_nonzero(replaced)
    if not masked:
        return 1.0
    shares = [round(changed.replaced / masked, 4)]
    for channel, number in enumerate(changed.channels if before.ndim == 3 else ()):
        if number / masked < CHANGED_IN_CHANNEL:
            old = before[:, :, channel]
            same = (old == after[:, :, channel]) & replaced
            if float(old[same].std()) > _FLAT * np.iinfo(old.dtype).max:
                shares.append(round(number / masked, 4))
    return min(shares)


def _changed_opacity(
    before: NDArray[Any], after: NDArray[Any] | None, facemask: Mask, regions: Sequence[Region]
) -> float:
    """Least share of a region's opacity that changed, of those in which it shows a picture; 1 without any.

    Raises:
        ValueError: It changed where it must not: outlines stay, and everything outside the mask.
    """
    if after is None or after.shape != before.shape:
        raise ValueError("the output lost the picture's transparency")
    if before.dtype != after.dtype:
        before, after = as_8_bit(before), as_8_bit(after)
    changed = before != after
    least, hidden = 1.0, np.zeros(facemask.shape, bool)
    for region in regions:
        patch = region.patch
        if shows_picture(before, patch, region.width):
            patch.paint(hidden)
            least = min(least, round(float(changed[patch.window][patch.mask].mean()), 4))
    if (changed & ~(hidden & facemask)).any():
        raise ValueError("the output changed the picture's transparency")
    return least


def _composite(
    gap: NDArray[Any], recomposed: Mask, share: NDArray[Any], top: int, scale: int, compressed: bool
) -> dict[str, int]:
    """Counts about recomposed pixels: I' - I = a (F' - F) is at most a times the range, and nothing where a is 0.

    Compressing JPEG blocks again moves all of their pixels: what goes beyond a times the range is beside the matte
    then, where a is small as where it is 0.
    """
    within = share[recomposed].astype(np.float64) / np.iinfo(share.dtype).max
    gaps = gap[recomposed]
    beside = gaps[within == 0]
    over = np.maximum(gaps - np.ceil(within * top) - 1, 0)[within > 0]
    largest = max(int(beside.max(initial=0)), int(over.max(initial=0)) if compressed else 0)
    return {
        "recomposed": int(np.count_nonzero(within)),
        "not_composite": 0 if compressed else int(np.count_nonzero(over)),
        "beside": int(np.count_nonzero(beside)),
        "largest_beside": -(-largest // scale),
    }


def redetect(
    source: Picture,
    released: Picture,
    facemask: Mask,
    finder: FaceFinder,
    put_back: Callable[[], object] = lambda: None,
    image: Pyramid | None = None,
) -> tuple[int, int]:
    """Faces found on the output, and how many of them are outside the facemask.

    The whole picture is looked at by the faster network, and by the other one where that finds something bare. The
    core of the box is held against the mask, not the whole box: the forehead stays by design. A bare hit counts when
    the landmark model confirms it, or when both detectors see it, clearly beside the mask, and it is there on the
    source as well: outside the mask both pictures are the same, so a hit that the source does not show is one on
    obfuscated skin or on the neck below it, where detectors fire often.

    `put_back` is called before the source is looked at: until then the output may lie in its memory. `image` is the
    output for detectors, where the caller has that.
    """
    image = image or Pyramid(released.seen8())
    groups = finder.boxes(image, LOOKS_AGAIN)
    suspects, missed = [], 0
    for seen in groups:
        if core_coverage(group_face(seen), facemask) >= MISS_BELOW:
            continue
        group = finder.with_others(image, seen)
        face = group_face(group)
        covered = core_coverage(face, facemask)
        if covered >= MISS_BELOW:
            continue
        # Landmarks decide about a weak hit too: without them it has one detector, and counts for nothing below. Half of
        # a face is seen best from near.
        landmarks = finder.look_closer(image, group).landmarks
        if landmarks is not None or finder.mesh(image, face.box, _NEARER)[0] is not None:
            missed += 1
        elif len(face.seen_by) > 1 and covered < MISS_BELOW_UNCONFIRMED:
            suspects.append(face)
    if suspects:
        put_back()
        bare = [
            face
            for face in map(group_face, finder.boxes(Pyramid(source.seen8()), LOOKS_AGAIN))
            if core_coverage(face, facemask) < MISS_BELOW
        ]
        missed += sum(any(same_face(face.box, other.box) for other in bare) for face in suspects)
    if released.opacity is not None and source.opacity is not None:
        missed += _shown_by_opacity(source.opacity, released.opacity, finder)
    return len(groups), missed


def _shown_by_opacity(before: NDArray[Any], after: NDArray[Any], finder: FaceFinder) -> int:
    """Faces that the fourth channel of an output shows when it is looked at as a picture."""
    before, after = (as_8_bit(plane) for plane in (before, after))
    # The outline of a head may look like a face; one in which nothing is seen inside is none.
    bare = unsolid(after) & (before == after)
    if not bare.any():
        return 0
    image = Pyramid(np.repeat(after[:, :, None], 3, axis=2))
    shown = 0
    for group in finder.boxes(image, LOOKS_AGAIN):
        face = group_face(group)
        if core_coverage(face, ~bare) < MISS_BELOW:
            face = finder.look_closer(image, finder.with_others(image, group))
            shown += face.landmarks is not None or len(face.seen_by) > 1
    return shown


def proof_doubts(proofs: Proofs, opacity: NDArray[Any] | None = None) -> list[Doubt]:
    """What in the proofs keeps an image from being released.

    Args:
        proofs: Of the image.
        opacity: Its source's, inside the mask, to tell where that is why; None for an opaque image.
    """
    doubts = []
    if proofs.changed_inside < CHANGED_INSIDE:
        share = f"{1 - proofs.changed_inside:.0%} of the pixels inside the mask are still those of the source"
        doubts.append(Doubt("not_obfuscated", _of_one_opacity(opacity) or share))
    if proofs.missed:
        faces = "a face" if proofs.missed == 1 else f"{proofs.missed} faces"
        doubts.append(Doubt("redetected", f"the detectors still find {faces} outside the mask on the output"))
    if proofs.metadata:
        doubts.append(Doubt("metadata_left", f"the output still carries {', '.join(proofs.metadata)}"))
    if proofs.exact and (proofs.changed_outside or proofs.changed_in_transition):
        doubts.append(
            Doubt(
                "changed_outside",
                f"{proofs.changed_outside} pixels outside the mask and {proofs.changed_in_transition} in the "
                "transition area changed",
            )
        )
    if proofs.exact and proofs.not_composite:
        doubts.append(
            Doubt("not_composite", f"{proofs.not_composite} recomposed pixels changed by more than their matte allows")
        )
    if proofs.largest_beside > MOST_BESIDE:
        doubts.append(
            Doubt(
                "changed_beside",
                f"compressing the blocks at the edge again changed the background by {proofs.largest_beside} levels; "
                "--format png keeps it as it is",
            )
        )
    return doubts


def _of_one_opacity(opacity: NDArray[Any] | None) -> str | None:
    """What is wrong with a translucent picture whose opacity is the same all over the mask; None where it is not."""
    if opacity is None or not opacity.size:
        return None
    value, top = int(opacity[0]), np.iinfo(opacity.dtype).max
    if value in (0, top) or (opacity != value).any():
        return None
    return (
        f"its opacity is {value} of {top} all over the mask, and obfuscating one value changes nothing of it. "
        "Save the picture opaque, without transparency"
    )


def uncovered_by_hand(detection: Detection, covered: Mask) -> list[Doubt]:
    """Faces that a hand-drawn mask forgot; a weak hit of one detector alone is none."""
    bare = [face for face in detection.faces if not is_weak(face) and core_coverage(face, covered) < MISS_BELOW]
    if not bare:
        return []
    places = " and ".join(f"x={face.box[0]:.0f} y={face.box[1]:.0f}" for face in bare)
    sentence = f"the hand-drawn mask leaves a face bare at {places}"
    return [Doubt("hand_mask_leaves_face", sentence, tuple(face.box for face in bare))]
