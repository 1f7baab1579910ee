"""Private area, transition area and adjusted private area of the paper (section 3.2, figure 3); pure functions.

A mask of one face is a `Patch`: its bounding rectangle and the pixels in it, so that work stays near the face.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.config import Area
from p3mdata.faces.landmarks import FOREHEAD, MESH_POINTS, PARTS
from p3mdata.imaging.trimap import kernel_side, pure, transition_area
from p3mdata.records import Face, Mask

# Eyes, nose and mouth lie in this ellipse of a face box: centre lowered by a share of the height, radii as shares.
_CORE_DROP = 0.08
_CORE_RADIUS = 0.24
# What is masked is a little more than what is checked.
_CORE_MARGIN = 1.25
# Box-only faces: a rounded box, a little larger than the detectors' one, so that no corner of the face stays.
_BOX_RADIUS = 0.55
_BOX_ROUNDNESS = 4
# The whole head against the face box: wider, much higher, a little lower.
_HEAD_RADIUS_X, _HEAD_UP, _HEAD_DOWN = 0.85, 0.65, 0.2
# Each of eyes, nose and mouth must be covered to this share, or a person decides.
COVERED = 0.95
# What is masked around each of a detector's five points, and what of it is checked, as shares of the face's width.
_POINT_MASKED, _POINT_RADIUS = 0.12, 0.06
# A part of a face that lies beside its matte by more than the rest of this is bare, or the matte is wrong.
_OWN_LEAST = 0.75
FIVE_POINTS = ("right eye", "left eye", "nose", "right mouth corner", "left mouth corner")
# Strokes of a hand-drawn mask within this share of the shorter side belong together.
_STROKES_APART = 0.02
_OVAL = list(range(468))
_PRIVATE = [i for i in range(MESH_POINTS) if i not in FOREHEAD]
_PARTS = {name: list(ids) for name, ids in PARTS.items()}
_SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class Patch:
    """A mask inside a rectangle of an image: `mask` (hxw bool) begins at row `top`, column `left`."""

    top: int
    left: int
    mask: Mask

    @property
    def window(self) -> tuple[slice, slice]:
        """The rectangle as slices of the image."""
        height, width = self.mask.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)

    def paint(self, canvas: Mask) -> None:
        """Set the patch's pixels in a full-size mask."""
        canvas[self.window] |= self.mask


@dataclass(frozen=True)
class Region:
    """One face's pixels to obfuscate.

    Attributes:
        patch: Which.
        width: Of the face in pixels; strength is relative to it.
        share: HxW of the whole image, uint8 or uint16: how much of each pixel belongs to the face's layer, which alone
            is obfuscated. None where the pixels are replaced.
    """

    patch: Patch
    width: float
    share: NDArray[Any] | None = None


def patch_of(mask: Mask) -> Patch:
    """The smallest patch that holds all set pixels of a full-size mask; an empty one for none."""
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return Patch(0, 0, np.zeros((0, 0), bool))
    top, left = int(rows[0]), int(cols[0])
    return Patch(top, left, mask[top : rows[-1] + 1, left : cols[-1] + 1].copy())


def hull(patches: Sequence[Patch], by: int = 0) -> tuple[slice, slice]:
    """The smallest rectangle around patches, grown by some pixels, which may reach over the end of the image."""
    rows, cols = zip(*(patch.window for patch in patches), strict=True) if patches else ((slice(0, 0),),) * 2
    tall, wide = (slice(min(p.start for p in part), max(p.stop for p in part)) for part in (rows, cols))
    return grown(tall, by), grown(wide, by)


def around(mask: Mask, within: tuple[slice, slice] | None = None) -> tuple[slice, slice]:
    """The rectangle around a full-size mask; the first pixel of an empty one.

    Args:
        mask: HxW.
        within: Rows and columns that hold all of it, where the caller knows; they may reach over the end of the image.
    """
    part, top, left = mask, 0, 0
    if within is not None:
        part, top, left = (
            mask[within],
            *(min(ends.start, side - 1) for ends, side in zip(within, mask.shape, strict=True)),
        )
    x, y, across, down = cv2.boundingRect(part.view(np.uint8))
    return slice(top + y, top + max(y + down, 1)), slice(left + x, left + max(x + across, 1))


def _window(points: NDArray[np.float64], shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """top, left, bottom, right of the pixels around points, also those up to an image's size beyond the image."""
    (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
    height, width = shape
    return _first(top, height), _first(left, width), _last(bottom, height), _last(right, width)


def _first(place: float, side: int) -> int:
    return max(-side, math.floor(min(max(-side, place), 2 * side)) - 1)


def _last(place: float, side: int) -> int:
    return min(2 * side, math.ceil(min(max(-side, place), 2 * side)) + 2)


def _hulls(polygons: Sequence[NDArray[np.float64]], shape: tuple[int, int]) -> Patch:
    """Union of the filled convex hulls of point sets (n, 2) in x, y.

    They are drawn beyond the image's end too and cut afterwards: where OpenCV cuts a line, the rest of it moves.
    """
    top, left, bottom, right = _window(np.concatenate(polygons), shape)
    canvas = np.zeros((bottom - top, right - left), np.uint8)
    for points in polygons:
        if canvas.size:
            hull = cv2.convexHull(points.astype(np.float32)).reshape(-1, 2)
            fixed = np.round((hull - (left, top)) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
            cv2.fillConvexPoly(canvas, fixed, 255, lineType=cv2.LINE_8, shift=_SUBPIXEL_BITS)
    (first, last), (begin, end) = (
        [min(max(0, place), side) for place in ends]
        for ends, side in zip(((top, bottom), (left, right)), shape, strict=True)
    )
    return Patch(first, begin, canvas[first - top : last - top, begin - left : end - left] > 0)


def _outline(centre: tuple[float, float], radii: tuple[float, float], roundness: float = 2) -> NDArray[np.float64]:
    """72 points of a superellipse |x/a|^n + |y/b|^n = 1."""
    points: NDArray[np.float64] = np.array(centre) + _unit_outline(roundness) * np.array(radii)
    return points


@cache
def _unit_outline(roundness: float) -> NDArray[np.float64]:
    angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    unit = np.stack([np.cos(angle), np.sin(angle)], 1)
    points: NDArray[np.float64] = np.sign(unit) * np.abs(unit) ** (2 / roundness)
    return points


def _core_outline(face: Face, margin: float = 1.0) -> NDArray[np.float64]:
    left, top, right, bottom = face.box
    width, height = right - left, bottom - top
    centre = (left + right) / 2, (top + bottom) / 2 + _CORE_DROP * height
    return _outline(centre, (_CORE_RADIUS * margin * width, _CORE_RADIUS * margin * height))


def _box_outline(face: Face) -> NDArray[np.float64]:
    left, top, right, bottom = face.box
    radii = _BOX_RADIUS * (right - left), _BOX_RADIUS * (bottom - top)
    return _outline(((left + right) / 2, (top + bottom) / 2), radii, _BOX_ROUNDNESS)


def _head_outline(face: Face) -> NDArray[np.float64]:
    left, top, right, bottom = face.box
    height = bottom - top
    upper, lower = top - _HEAD_UP * height, bottom + _HEAD_DOWN * height
    return _outline(
        ((left + right) / 2, (upper + lower) / 2), (_HEAD_RADIUS_X * face.width, (lower - upper) / 2), roundness=2.5
    )


def private_area(face: Face, shape: tuple[int, int], area: Area = Area.P3M) -> Patch:
    """The private area of one face: convex hull of its landmarks from jaw and cheeks to the upper brow line.

    A hull, not the face-oval polygon: in profile the polygon folds and leaves eyes, nose and mouth bare. The core of
    the detectors' box is always inside. Without landmarks it is the rounded box and the five points.

    Args:
        face: Box, five points and landmarks in image pixels.
        shape: Height and width of the image.
        area: How much of the head is private.
    """
    mesh, five = face.mesh(), face.five()
    if mesh is None:
        polygons = [_box_outline(face)]
        if five is not None:
            reach = _POINT_MASKED * face.width
            polygons.append(np.concatenate([_outline((x, y), (reach, reach)) for x, y in five]))
    else:
        indices = _PRIVATE if area is Area.P3M else _OVAL
        # The parts lie inside the hull, but not each pixel of their outlines, as they are drawn.
        parts = [mesh[ids] for ids in _PARTS.values()]
        polygons = [mesh[indices], _core_outline(face, _CORE_MARGIN), *parts]
    if area is Area.HEAD:
        polygons.append(_head_outline(face))
    return _hulls(polygons, shape)


def transition_near(alpha: NDArray[Any], patches: Sequence[Patch], side: int, margin: int, tolerance: int = 0) -> Mask:
    """`transition_area`, computed only within `margin` pixels of the patches; False elsewhere. Full size."""
    out = np.zeros(alpha.shape[:2], bool)
    for patch in patches:
        rows, cols = (grown(part, margin) for part in patch.window)
        wide_rows, wide_cols = grown(rows, side), grown(cols, side)
        band = transition_area(np.ascontiguousarray(alpha[wide_rows, wide_cols]), side, tolerance)
        inner = band[rows.start - wide_rows.start :, cols.start - wide_cols.start :]
        target = out[rows, cols]
        target |= inner[: target.shape[0], : target.shape[1]]
    return out


def grown(part: slice, by: int) -> slice:
    """A slice of rows or columns, longer at both ends."""
    return slice(max(0, part.start - by), part.stop + by)


def hand_regions(mask: Mask) -> list[Patch]:
    """Parts of a hand-drawn mask, each obfuscated like a face of its own; strokes close to each other are one part.

    A face that was hatched or dotted is as wide as the whole drawing, not as one stroke.
    """
    side = kernel_side((mask.shape[0], mask.shape[1]), _STROKES_APART)
    joined = cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    patches = []
    for label in range(1, count):
        left, top, width, height = (int(v) for v in stats[label, :4])
        window = slice(top, top + height), slice(left, left + width)
        inner = patch_of((labels[window] == label) & mask[window])
        patches.append(Patch(top + inner.top, left + inner.left, inner.mask))
    return patches


def disjoint(patches: Sequence[Patch], keep: Mask) -> list[Patch]:
    """Give every pixel of `keep` to at most one patch, smaller patches first, so that faces do not mix.

    Args:
        patches: Overlapping areas.
        keep: HxW; pixels outside are taken from all patches.

    Returns:
        One patch per input, same order and windows.
    """
    if len(patches) == 1:
        return [replace(patches[0], mask=patches[0].mask & keep[patches[0].window])]
    out = list(patches)
    rows, cols = hull(patches)
    free = keep[rows, cols].copy()
    for i in sorted(range(len(patches)), key=lambda i: (np.count_nonzero(patches[i].mask), i)):
        window = replace(patches[i], top=patches[i].top - rows.start, left=patches[i].left - cols.start).window
        own = patches[i].mask & free[window]
        free[window] &= ~own
        out[i] = Patch(patches[i].top, patches[i].left, own)
    return out


def spread(patches: Sequence[Patch], target: Mask, reach: int) -> list[Patch]:
    """Give the pixels of `target` that no patch has to the patch within `reach` pixels of them.

    The JPEG block grid makes the masked area a little larger than the areas of the faces; each added pixel joins
    the first face near it. Pixels of patches outside `target` are dropped.
    """
    free = target.copy()
    for patch in patches:
        free[patch.window] &= ~patch.mask
    out = []
    for patch in patches:
        rows, cols = (grown(part, reach) for part in patch.window)
        own = np.zeros(target[rows, cols].shape, np.uint8)
        inside = own[patch.top - rows.start :, patch.left - cols.start :]
        inside[: patch.mask.shape[0], : patch.mask.shape[1]] = patch.mask
        near = cv2.dilate(own, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) > 0
        added = near & free[rows, cols]
        free[rows, cols] &= ~added
        out.append(Patch(rows.start, cols.start, (own > 0) & target[rows, cols] | added))
    return out


def core_coverage(face: Face, covered: Mask) -> float:
    """Share of the face's core (eyes, nose and mouth by its box) that is covered; 1 where it is outside the image."""
    return _hulls_share(_core_outline(face), covered)


def _hulls_share(points: NDArray[np.float64], covered: Mask, beside: Mask | None = None) -> float:
    """`_share` of a convex hull, which is only drawn where something around it is not covered."""
    shape = covered.shape[0], covered.shape[1]
    top, left, bottom, right = _window(points, shape)
    if covered[max(0, top) : max(0, bottom), max(0, left) : max(0, right)].all():
        return 1.0
    return _share(_hulls([points], shape), covered, beside)


def _share(patch: Patch, covered: Mask, beside: Mask | None = None) -> float:
    """Share of a patch that is covered, of what does not lie beside the face; of all where most of it does."""
    total = np.count_nonzero(patch.mask)
    hidden = patch.mask & covered[patch.window]
    if beside is not None:
        own = patch.mask & ~beside[patch.window]
        if (owned := np.count_nonzero(own)) >= _OWN_LEAST * total:
            total, hidden = owned, hidden & own
    return 1.0 if total == 0 else np.count_nonzero(hidden) / total


def bare_parts(face: Face, covered: Mask, beside: Mask | None = None, margin: float = 0.0) -> list[str]:
    """Names of eyes, nose and mouth that are covered to less than `COVERED`, by landmarks and by the box's core.

    Without landmarks the surroundings of the detector's five points are looked at.

    Args:
        face: The face.
        covered: HxW, True where content is hidden.
        beside: HxW, True where the matte says that nothing belongs to the face's layer: a part may reach a little
            over the silhouette.
        margin: By how much each part is larger than its landmarks, as a share of the face's width.
    """
    mesh, five = face.mesh(), face.five()
    parts: dict[str, NDArray[np.float64]] = {}
    if mesh is not None:
        parts = {name: mesh[ids] for name, ids in _PARTS.items()}
    elif five is not None:
        reach = _POINT_RADIUS * face.width
        parts = {name: _outline((x, y), (reach, reach)) for name, (x, y) in zip(FIVE_POINTS, five, strict=True)}
    if margin:
        rim = _outline((0.0, 0.0), (margin * face.width, margin * face.width))[::6]
        parts = {name: (points[:, None] + rim).reshape(-1, 2) for name, points in parts.items()}
    bare = [name for name, points in parts.items() if _hulls_share(points, covered, beside) < COVERED]
    if not bare and _hulls_share(_core_outline(face), covered, beside) < COVERED:
        bare = ["eyes, nose or mouth"]
    return bare


def inside_matte(faces: Sequence[Face], alpha: NDArray[Any]) -> list[bool]:
    """Whether half of each face's core belongs to the person of a matte (or trimap), HxW uint8 or uint16."""
    person = np.asarray(alpha > np.iinfo(alpha.dtype).max // 2)
    return [core_coverage(face, person) >= 0.5 for face in faces]


def without_background(patch: Patch, alpha: NDArray[Any], tolerance: int = 0) -> Patch:
    """A face's area without the pixels that its matte calls pure background: hulls and boxes reach over the cheek."""
    return Patch(patch.top, patch.left, patch.mask & ~pure(alpha[patch.window], tolerance)[0])


def without_person(patch: Patch, alpha: NDArray[Any], face: Face, tolerance: int = 0) -> Patch:
    """The area of a face behind a matte's person without what is all person: boxes reach over hair and shoulders.

    All of it where an eye, the nose or the mouth would lose by it.
    """
    kept = patch.mask & ~pure(alpha[patch.window], tolerance)[1]
    if np.array_equal(kept, patch.mask):
        return patch
    spared = Patch(patch.top, patch.left, kept)
    covered = np.zeros(alpha.shape[:2], bool)
    spared.paint(covered)
    return patch if bare_parts(face, covered) else spared
