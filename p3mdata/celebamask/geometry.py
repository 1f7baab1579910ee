"""From the parts of an annotated face to its facemask: skin below a line right above both brows. Pure functions.

All lengths are relative to the face, so that the size of the annotation does not matter. Left and right are never
told apart: swapped labels change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.errors import BrokenInput
from p3mdata.records import Mask

Vector = NDArray[np.float64]

BROWS, EYES, MOUTH = ("l_brow", "r_brow"), ("l_eye", "r_eye"), ("mouth", "u_lip", "l_lip")
# Pieces of a part below this share of its largest piece are stray strokes.
_PIECE = 0.2
# A part below this share of the skin says nothing: a brow of a few pixels has no top.
_LEAST_PART = 5e-4
# Two labels nearer to each other than this share of the face's size lie on one brow, or one eye.
_APART = 0.1
# The top of a brow is the mean of its highest pixels; the line leaves out a few that stick out of it.
_TOP, _LINE = 0.95, 0.98
# An eye this much longer than it is high shows by itself how the head is tilted.
_LONG_EYE = 1.5
# From the eyes' centres to the line, by the distance between them, to the mouth, and to the nose. Between the median
# and the 90th percentile of 26 faces with landmarks (0.40 to 0.47, 0.36 to 0.42, 0.85 to 1.06).
_RISE_BY_EYES, _RISE_BY_MOUTH, _RISE_BY_NOSE = 0.45, 0.40, 0.95
# No brow is higher above the eyes than the larger of the first two distances; 0.6 was the most.
_MOST_RISE = 1.0
# How far the line of the eyes may turn from the way to the mouth, and the brows' tops from the line of the eyes.
_MOST_TURN, _MOST_SLANT = np.cos(np.deg2rad(60)), np.cos(np.deg2rad(30))
# Of eyes, nose and mouth this share must be inside, as far as no hair or hat hides them.
_INSIDE = 0.5
# What P3M-CP can paste: after resizing to 512 pixels it is 50 pixels wide or more, and it leaves room for a picture.
_LEAST_SHARE, _MOST_SHARE = 0.01, 0.7
# A face that the picture's border cuts has this share of its own width on the border.
_CUT = 0.25


class Refusal(BrokenInput):
    """There is no facemask for this image; `code` and `sentence` say why."""


class FaceRule(str, Enum):
    """What a facemask's upper line was taken from."""

    BOTH_BROWS = "both_brows"
    ONE_BROW = "one_brow"
    EYES = "eyes"
    LANDMARKS = "landmarks"


@dataclass(frozen=True)
class BrowLine:
    """The line right above the brows; face is what lies below it, whichever way up the picture is.

    Attributes:
        rule: What it was taken from.
        up: Unit vector (x, y) to the top of the head, perpendicular to the line.
        height: Position of the line along `up`, in pixels from the picture's first pixel.
    """

    rule: FaceRule
    up: Vector
    height: float

    def below(self, shape: tuple[int, int]) -> Mask:
        """The half plane below the line; HxW bool."""
        rows, cols = np.ogrid[: shape[0], : shape[1]]
        return np.asarray(cols * self.up[0] + rows * self.up[1] <= self.height)


def _pixels(mask: Mask | None, least: float) -> Vector | None:
    """A part's pixels (n, 2) as x, y without stray strokes; None when too few are left."""
    if mask is None:
        return None
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    window = mask[top : top + height, left : left + width].view(np.uint8)
    if window.size == 0:
        return None
    _, labels, stats, _ = cv2.connectedComponentsWithStats(window, connectivity=8)
    sizes = stats[1:, cv2.CC_STAT_AREA]
    kept = np.concatenate([[False], sizes >= _PIECE * sizes.max()])
    rows, cols = np.nonzero(kept[labels])
    return None if len(rows) < least else np.stack([cols + left, rows + top], 1).astype(np.float64)


def _each(parts: Mapping[str, Mask], names: Sequence[str], least: float, apart: float) -> list[Vector]:
    """Pixels of up to two parts that are `apart`; two labels of one thing become one."""
    found = [pixels for name in names if (pixels := _pixels(parts.get(name), least)) is not None]
    if len(found) == 2 and np.hypot(*(found[0].mean(0) - found[1].mean(0))) < apart:
        found = [np.concatenate(found)]
    return found


def _union(parts: Mapping[str, Mask], names: Sequence[str]) -> Mask | None:
    masks = [parts[name] for name in names if name in parts]
    return np.logical_or.reduce(masks) if masks else None


def _middle(things: Sequence[Vector]) -> Vector | None:
    """Mean of the centres."""
    return np.mean([thing.mean(0) for thing in things], axis=0) if things else None


def _unit(vector: Vector) -> Vector:
    return vector / max(float(np.hypot(*vector)), 1e-9)


def _upright(across: Vector, towards: Vector) -> Vector:
    """Unit vector perpendicular to `across`, on the side of `towards`."""
    up = _unit(np.array([across[1], -across[0]]))
    return up if up @ towards >= 0 else -up


def _long_axis(thing: Vector) -> Vector | None:
    """Direction in which a thing is longest; None when it is about as high as it is long."""
    spread, axes = np.linalg.eigh(np.cov(thing.T))
    return axes[:, 1] if spread[1] >= _LONG_EYE**2 * max(spread[0], 1e-9) else None


def _up(eyes: Sequence[Vector], brows: Sequence[Vector], below: Vector | None) -> Vector:
    """Where the top of the head is: perpendicular to the line of the eyes (brows), away from mouth (nose, eyes)."""
    middle = _middle(eyes or brows)
    if below is None and brows:
        middle, below = _middle(brows), _middle(eyes)
    if middle is None or below is None:
        raise Refusal("no_up", "does not show which way up the head is: its annotation has too few parts of a face.")
    towards = _unit(middle - below)
    pair = eyes if len(eyes) == 2 else brows
    if len(pair) == 2:
        across: Vector | None = pair[1].mean(0) - pair[0].mean(0)
    else:
        across = _long_axis(eyes[0]) if eyes else None
        if across is None and eyes:
            # A single eye as high as it is long is one in profile, which has the mouth below it.
            return towards
    if across is None:
        raise Refusal("no_slope", "has one brow and no eye, which does not show how the head is tilted.")
    up = _upright(across, towards)
    if up @ towards < _MOST_TURN:
        raise Refusal("parts_disagree", "has eyes, nose and mouth in places that make no face.")
    return up


def brow_line(parts: Mapping[str, Mask]) -> BrowLine:
    """The line right above both brows.

    The head's up direction is perpendicular to the line through the eyes' centres (the brows', where there is no
    pair of eyes; the long axis of a single eye), on the side away from the mouth or nose. A brow's top is the mean
    of the 5 % of its pixels that are highest along it. With both brows the line runs in the direction from top to
    top; with one, in that of the eyes. It stands where 98 % of each brow's pixels are below it. Without brows it
    stands above the eyes by a share of the distances between eyes, nose and mouth.

    Args:
        parts: HxW bool each, all of one shape, by CelebAMask-HQ's names; an absent part may be missing.

    Raises:
        Refusal: no_skin, no_brows_no_eyes, no_up, no_slope, parts_disagree, brows_disagree, brows_misplaced.
    """
    skin = parts.get("skin")
    area = 0 if skin is None else int(np.count_nonzero(skin))
    if skin is None or area < _LEAST_SHARE * skin.size:
        raise Refusal("no_skin", "has no skin in its annotation, or only specks of it.")
    least, size = _LEAST_PART * area, area**0.5
    brows, eyes = (_each(parts, names, least, _APART * size) for names in (BROWS, EYES))
    if not brows and not eyes:
        raise Refusal("no_brows_no_eyes", "has neither brows nor eyes in its annotation.")
    mouth, nose = _pixels(_union(parts, MOUTH), least), _pixels(parts.get("nose"), least)
    below = next((thing.mean(0) for thing in (mouth, nose) if thing is not None), None)
    up = _up(eyes, brows, below)

    rule = (FaceRule.EYES, FaceRule.ONE_BROW, FaceRule.BOTH_BROWS)[len(brows)]
    if rule is FaceRule.BOTH_BROWS:
        tops = [brow[brow @ up >= np.quantile(brow @ up, _TOP)].mean(0) for brow in brows]
        straight, up = up, _upright(tops[1] - tops[0], up)
        if up @ straight < _MOST_SLANT:
            raise Refusal("brows_disagree", "has brows whose tops are not in line with its eyes.")
    level = max((float(eye.mean(0) @ up) for eye in eyes), default=None)
    between = float(np.hypot(*(eyes[1].mean(0) - eyes[0].mean(0)))) if len(eyes) == 2 else 0.0
    middle = _middle(eyes)
    down = 0.0 if middle is None or below is None else float(np.hypot(*(middle - below)))
    if rule is FaceRule.EYES:
        assert level is not None
        share = _RISE_BY_MOUTH if mouth is not None else _RISE_BY_NOSE
        return BrowLine(rule, up, level + max(_RISE_BY_EYES * between, share * down))
    height = max(float(np.quantile(brow @ up, _LINE)) for brow in brows)
    if level is not None and not 0 < height - level <= _MOST_RISE * max(between, down, _APART * size):
        raise Refusal("brows_misplaced", "has brows that are not right above its eyes.")
    return BrowLine(rule, up, height)


def facemask_below(parts: Mapping[str, Mask], line: BrowLine) -> Mask:
    """Largest piece of the skin below a line, without hair and hat; HxW bool.

    Raises:
        Refusal: parts_outside, or what `check_facemask` finds.
    """
    skin = parts["skin"]
    hidden = _union(parts, ("hair", "hat"))
    seen = np.ones_like(skin) if hidden is None else ~hidden
    facemask = largest_piece(skin & line.below((skin.shape[0], skin.shape[1])) & seen)
    outside = []
    for what, names in (("eyes", EYES), ("nose", ("nose",)), ("mouth", MOUTH)):
        part = _union(parts, names)
        total = 0 if part is None else np.count_nonzero(part & seen)
        if part is not None and total and np.count_nonzero(part & facemask) < _INSIDE * total:
            outside.append(what)
    if outside:
        raise Refusal("parts_outside", f"has a facemask that leaves {' and '.join(outside)} outside.")
    check_facemask(facemask)
    return facemask


def facemask_from_parts(parts: Mapping[str, Mask]) -> Mask:
    """Facemask of one annotated face: skin below `brow_line`, without hair and hat, the largest piece.

    Args:
        parts: HxW bool each, all of one shape, by CelebAMask-HQ's names; `skin` contains eyes, nose and lips. Needed
            are skin, brows, eyes, nose, mouth, lips, hair and hat; an absent part may be missing, others are ignored.

    Returns:
        HxW bool, never empty.

    Raises:
        Refusal: There is no facemask that P3M-CP could use; code and sentence say why.
    """
    return facemask_below(parts, brow_line(parts))


def largest_piece(mask: Mask) -> Mask:
    """The largest piece of a mask (pixels that touch by a side), same shape; the first of equal ones."""
    out = np.zeros_like(mask)
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    window = np.s_[top : top + height, left : left + width]
    if width and height:
        _, labels, stats, _ = cv2.connectedComponentsWithStats(mask[window].view(np.uint8), connectivity=4)
        out[window] = labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    return out


def check_facemask(facemask: Mask) -> None:
    """Whether P3M-CP can copy this face: large enough, not the whole picture, not cut by its border.

    Raises:
        Refusal: empty, too_small, too_large, cut_off.
    """
    pixels = int(np.count_nonzero(facemask))
    share = pixels / facemask.size
    if not pixels:
        raise Refusal("empty", "has no skin below the line above its brows.")
    if share < _LEAST_SHARE:
        raise Refusal("too_small", f"has a facemask of only {share:.2%} of the picture.")
    if share > _MOST_SHARE:
        raise Refusal("too_large", f"has a facemask of {share:.0%} of the picture, more than a face can be.")
    on_border = max(np.count_nonzero(edge) for edge in (facemask[0], facemask[-1], facemask[:, 0], facemask[:, -1]))
    if on_border > _CUT * pixels**0.5:
        raise Refusal("cut_off", "has a face that the border of the picture cuts off.")
