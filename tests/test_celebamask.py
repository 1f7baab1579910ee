"""Facemasks for P3M-CP, on annotations drawn here: the data set itself may not be redistributed."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from p3mdata.celebamask import (
    PARTS,
    FaceRule,
    Refusal,
    brow_line,
    facemask_from_parts,
)
from p3mdata.records import Mask

Parts = dict[str, Mask]
SIDE = 512
BROW_TOP, FOREHEAD = -49, -60
MOUTH = ("mouth", "u_lip", "l_lip")
EYES, BROWS = ("l_eye", "r_eye"), ("l_brow", "r_brow")


def head_frame(angle: float, scale: float = 1.0, side: int = SIDE) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each pixel's place on a head that is turned by degrees: to its left, and towards its chin."""
    rows, cols = np.mgrid[:side, :side] - (side - 1) / 2
    turn = np.deg2rad(angle)
    factor = SIDE / side / scale
    return (cols * np.cos(turn) + rows * np.sin(turn)) * factor, (rows * np.cos(turn) - cols * np.sin(turn)) * factor


def annotated(
    angle: float = 0, scale: float = 1.0, side: int = SIDE, raised: float = 0, without: Sequence[str] = ()
) -> Parts:
    """A face of ellipses with the data set's parts; `raised` lifts one brow."""
    x, y = head_frame(angle, scale, side)

    def oval(at: tuple[float, float], radii: tuple[float, float]) -> Mask:
        return ((x - at[0]) / radii[0]) ** 2 + ((y - at[1]) / radii[1]) ** 2 <= 1

    parts = {
        "skin": oval((0, 0), (100, 140)),
        "l_brow": oval((45, -43 - raised), (30, 6)),
        "r_brow": oval((-45, -43), (30, 6)),
        "l_eye": oval((45, -10), (18, 8)),
        "r_eye": oval((-45, -10), (18, 8)),
        "nose": oval((0, 25), (16, 32)),
        "u_lip": oval((0, 75), (30, 6)),
        "l_lip": oval((0, 87), (30, 6)),
        "mouth": oval((0, 81), (22, 3)),
        "hair": oval((0, -30), (125, 170)) & ((y < -90) | (x > 88)),
        "hat": oval((0, -30), (125, 170)) & (y < -120),
        "neck": (np.abs(x) < 50) & (y > 125) & (y < 200),
    }
    assert set(parts) < set(PARTS)
    return {name: mask for name, mask in parts.items() if name not in without}


def line_in_head(parts: Parts, angle: float) -> float:
    """Where the head's middle crosses the brow line, in the head's frame (y grows towards the chin)."""
    line = brow_line(parts)
    centre = np.full(2, (SIDE - 1) / 2)
    down = np.array([-np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))])
    return float((line.height - centre @ line.up) / (down @ line.up))


def iou(a: Mask, b: Mask) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("angle", [0, 25, 90, 180, 250])
@pytest.mark.parametrize("scale", [0.5, 1.3])
def test_face_without_forehead_hair_and_hat(angle: float, scale: float) -> None:
    parts = annotated(angle, scale)
    facemask = facemask_from_parts(parts)
    _, y = head_frame(angle, scale)
    assert not (facemask & (parts["hair"] | parts["hat"] | parts["neck"] & ~parts["skin"])).any()
    assert not (facemask & (y < FOREHEAD)).any()
    assert not (facemask & ~parts["skin"]).any()
    for name in (*EYES, "nose", *MOUTH):
        assert (facemask | ~parts[name]).all(), name
    for name in BROWS:
        assert (facemask & parts[name]).sum() > 0.95 * parts[name].sum()
    # And the chin.
    assert (facemask & (y > 120)).any()


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 360), st.floats(-8, 16), st.sampled_from([(), ("l_brow",), ("r_brow",), BROWS, ("mouth", "nose")]))
def test_turning_the_annotation_turns_the_facemask(angle: float, raised: float, without: Sequence[str]) -> None:
    upright, turned = (annotated(degrees, raised=raised, without=without) for degrees in (0.0, angle))
    assert brow_line(upright).rule is brow_line(turned).rule
    x, y = head_frame(angle)
    centre = (SIDE - 1) / 2
    # The turned head's pixels, looked up in the facemask of the upright one.
    columns, rows = (np.clip(np.rint(place + centre), 0, SIDE - 1).astype(int) for place in (x, y))
    assert iou(facemask_from_parts(turned), facemask_from_parts(upright)[rows, columns]) > 0.97


@pytest.mark.parametrize("without", [(), ("l_brow",), ("r_eye",), ("l_brow", "r_eye"), BROWS], ids=str)
def test_left_and_right_may_be_swapped(without: Sequence[str]) -> None:
    parts = annotated(angle=17, raised=12, without=without)
    swapped = {{"l_": "r_", "r_": "l_"}.get(name[:2], name[:2]) + name[2:]: mask for name, mask in parts.items()}
    for name in MOUTH:
        swapped[name] = parts[name]
    assert np.array_equal(facemask_from_parts(parts), facemask_from_parts(swapped))


def test_line_runs_through_both_brow_tops() -> None:
    parts = annotated(raised=16)
    up = brow_line(parts).up
    # One brow is 16 pixels higher than the other, 90 pixels away.
    assert np.degrees(np.arctan2(up[0], -up[1])) == pytest.approx(np.degrees(np.arctan2(-16, 90)), abs=1)
    facemask = facemask_from_parts(parts)
    for name in BROWS:
        assert (facemask & parts[name]).sum() > 0.9 * parts[name].sum()


@pytest.mark.parametrize("angle", [0, -40, 170])
@pytest.mark.parametrize(
    ("without", "rule", "tolerance"),
    [
        ((), FaceRule.BOTH_BROWS, 1),
        (("l_brow",), FaceRule.ONE_BROW, 1),
        (("l_brow", "l_eye"), FaceRule.ONE_BROW, 3),
        (("l_brow", "r_eye"), FaceRule.ONE_BROW, 3),
        (("r_brow", *EYES), None, 0),
        (EYES, FaceRule.BOTH_BROWS, 1),
        (BROWS, FaceRule.EYES, 4),
        ((*BROWS, "mouth", "u_lip", "l_lip"), FaceRule.EYES, 4),
        ((*BROWS, "r_eye"), FaceRule.EYES, 6),
        ((*BROWS, *EYES), None, 0),
    ],
    ids=str,
)
def test_missing_brows_and_eyes(angle: float, without: Sequence[str], rule: FaceRule | None, tolerance: float) -> None:
    parts = annotated(angle, without=without)
    if rule is None:
        with pytest.raises(Refusal) as caught:
            brow_line(parts)
        assert caught.value.code == ("no_slope" if "l_brow" in parts else "no_brows_no_eyes")
        return
    assert brow_line(parts).rule is rule
    assert line_in_head(parts, angle) == pytest.approx(BROW_TOP, abs=tolerance + 1)


def test_stray_strokes_are_no_brow_and_no_face() -> None:
    clean = annotated(angle=10)
    expected = facemask_from_parts(clean)
    for part in ("l_brow", "r_eye", "nose", "mouth"):
        parts = {name: mask.copy() for name, mask in clean.items()}
        parts[part][20:24, 250:254] = True
        parts[part][480:484, 250:254] = True
        assert np.array_equal(facemask_from_parts(parts), expected), part
    # Skin elsewhere (an ear, a second person) is not the face.
    parts = {**clean, "skin": clean["skin"].copy()}
    parts["skin"][300:420, 10:60] = True
    assert np.array_equal(facemask_from_parts(parts), expected)
    # A brow of one pixel says nothing, wherever it is: the other one and the eyes decide.
    for row, column in ((5, 5), (256, 256)):
        speck = np.zeros((SIDE, SIDE), bool)
        speck[row, column] = True
        assert brow_line({**clean, "l_brow": speck}).rule is FaceRule.ONE_BROW


def test_one_label_for_both_brows() -> None:
    parts = annotated(angle=30)
    both = parts["l_brow"] | parts["r_brow"]
    expected = facemask_from_parts(parts)
    for labelled in ({"l_brow": both}, {"l_brow": both, "r_brow": both}):
        line = brow_line({**annotated(angle=30, without=BROWS), **labelled})
        assert line.rule is FaceRule.ONE_BROW
        assert iou(line.below((SIDE, SIDE)) & expected, expected) > 0.99


def test_profile_with_one_eye() -> None:
    parts = annotated(without=(*EYES, "l_brow", "mouth", "u_lip", "l_lip", "nose"))
    x, y = head_frame(0)
    parts["l_eye"] = np.hypot(x + 45, y + 10) < 10
    parts["u_lip"] = np.hypot((x + 62) / 2, y - 80) < 8
    assert brow_line(parts).rule is FaceRule.ONE_BROW
    facemask = facemask_from_parts(parts)
    assert (facemask | ~parts["l_eye"]).all()
    assert not (facemask & (y < FOREHEAD - 40)).any()


def test_hair_across_the_face_leaves_its_largest_piece() -> None:
    parts = annotated()
    _, y = head_frame(0)
    # A strand below the mouth: the chin beyond it is not pasted.
    parts["hair"] = parts["hair"] | (np.abs(y - 110) < 4)
    facemask = facemask_from_parts(parts)
    assert cv2.connectedComponents(facemask.astype(np.uint8))[0] == 2
    assert not (facemask & (y > 106)).any()
    assert (facemask & (y < 100)).any()


def _refused() -> dict[str, Parts]:
    x, y = head_frame(0)
    plain = annotated()
    nothing = np.zeros((SIDE, SIDE), bool)
    return {
        "no_skin": annotated(without=("skin",)),
        "no_brows_no_eyes": annotated(without=(*BROWS, *EYES)),
        "no_up": annotated(without=(*BROWS, "nose", *MOUTH)),
        "no_slope": annotated(without=("l_brow", *EYES)),
        # Mouth beside the eyes.
        "parts_disagree": {**annotated(without=("nose", *MOUTH)), "nose": np.hypot(x - 80, y + 10) < 12},
        # One brow is at the mouth, or far above the head.
        "brows_disagree": {**plain, "l_brow": np.hypot((x - 45) / 4, y - 60) < 7},
        "brows_misplaced": annotated(without=BROWS) | {"l_brow": np.hypot(x / 4, y + 230) < 8},
        # A line of hair cuts nose and mouth off.
        "parts_outside": {**plain, "hair": np.abs(y - 10) < 3},
        "empty": {**plain, "hat": np.ones_like(nothing)},
        "too_small": annotated(scale=0.28),
        # The head is at the top, and skin goes on to the bottom.
        "too_large": {name: np.roll(mask, -180, 0) for name, mask in annotated(without=("skin", "hair", "hat")).items()}
        | {"skin": np.maximum(np.abs(x), np.abs(y)) < 250},
        "cut_off": {name: np.roll(mask, -210, 1) & (np.arange(SIDE) < 350) for name, mask in plain.items()},
    }


@pytest.mark.parametrize("code", sorted(_refused()))
def test_refusals_have_names(code: str) -> None:
    with pytest.raises(Refusal) as caught:
        facemask_from_parts(_refused()[code])
    assert caught.value.code == code
    assert caught.value.sentence.endswith(".")
