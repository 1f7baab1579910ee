"""Private and transition areas: what must be inside, what must stay outside, and what a person is asked about."""

from __future__ import annotations

import itertools
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from p3mdata.anonymize.doubts import coverage_doubts, matte_doubts
from p3mdata.anonymize.masks import (
    Patch,
    _hulls,
    _hulls_share,
    _share,
    bare_parts,
    core_coverage,
    disjoint,
    hand_regions,
    patch_of,
    private_area,
    spread,
    transition_near,
)
from p3mdata.config import Area
from p3mdata.faces.landmarks import FOREHEAD, MESH_POINTS, PARTS
from p3mdata.imaging.trimap import kernel_side, transition_area
from p3mdata.records import Face, Mask
from tests.factories import astronaut_face, face_at

SHAPE = (512, 512)
BELOW_BROWS = sorted(set(range(MESH_POINTS)) - set(FOREHEAD))

# Mesh points of the upper brow line, from temple to temple.
BROW_UPPER = (70, 63, 105, 66, 107, 336, 296, 334, 293, 300)


def full(patch: Patch, shape: tuple[int, int] = SHAPE) -> Mask:
    canvas = np.zeros(shape, bool)
    patch.paint(canvas)
    return canvas


def inside(mask: Mask, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each point lies in the mask or less than a pixel beside it."""
    x, y = np.floor(points).astype(int).T
    return mask[y, x] | mask[y, x + 1] | mask[y + 1, x] | mask[y + 1, x + 1]


def turned(degrees: float) -> Face:
    """The astronaut's head turned aside: her mesh on a ball, rotated about its upright axis."""
    face = astronaut_face()
    mesh = face.mesh()
    assert mesh is not None
    middle, radius = (mesh.max(0) + mesh.min(0)) / 2, (mesh.max(0) - mesh.min(0)) / 2
    x, y = ((mesh - middle) / radius).T
    depth = np.sqrt(np.clip(1 - x**2 - 0.5 * y**2, 0, None))
    angle = np.deg2rad(degrees)
    mesh[:, 0] = middle[0] + radius[0] * (x * np.cos(angle) + depth * np.sin(angle))
    box = (*mesh.min(0), *mesh.max(0))
    return replace(face, box=tuple(map(float, box)), landmarks=tuple(mesh.ravel()))


@pytest.mark.parametrize("degrees", [0, 30, 60, 80, 90, 110, -60, -90])
def test_every_point_from_the_brows_down_is_private_in_profile_too(degrees: float) -> None:
    face = turned(degrees)
    mask = full(private_area(face, SHAPE))
    assert inside(mask, face.mesh()[BELOW_BROWS]).all()
    assert inside(mask, face.mesh()[list(BROW_UPPER)]).all()
    assert bare_parts(face, mask) == []


@pytest.mark.parametrize("degrees", [0, 30])
def test_the_forehead_stays(degrees: float) -> None:
    face = turned(degrees)
    mesh = face.mesh()
    brow = mesh[list(BROW_UPPER), 1].min()
    high = [i for i in FOREHEAD if mesh[i, 1] < brow - 0.06 * face.width]
    assert len(high) >= 8
    assert not inside(full(private_area(face, SHAPE)), mesh[high]).any()


def test_oval_and_head_are_ever_larger() -> None:
    face = astronaut_face()
    p3m, oval, head = (full(private_area(face, SHAPE, area)) for area in Area)
    assert not (p3m & ~oval).any() and not (oval & ~head).any()
    assert p3m.sum() < oval.sum() < 0.6 * head.sum()
    assert inside(oval, face.mesh()[:468]).all()


@pytest.mark.parametrize("move", [(-225, 0), (245, 0), (0, -120), (0, 400), (-225, -120), (245, 400)])
def test_a_face_cut_by_the_border_is_the_part_of_the_whole_one(move: tuple[int, int]) -> None:
    face = astronaut_face()
    mesh = face.mesh() + move
    left, top, right, bottom = face.box
    moved = replace(
        face, box=(left + move[0], top + move[1], right + move[0], bottom + move[1]), landmarks=tuple(mesh.ravel())
    )
    big = full(private_area(face, SHAPE), (1200, 1200))
    big = np.roll(big, (move[1] + 300, move[0] + 300), (0, 1))[300:812, 300:812]
    cut = full(private_area(moved, SHAPE))
    assert cut.any() and cut.sum() < full(private_area(face, SHAPE)).sum()
    assert np.array_equal(cut, big)


@pytest.mark.parametrize("box", [(600, 700, 700, 850), (-300, 100, -200, 220), (100, -900, 200, -800)])
def test_a_face_outside_the_image_has_no_area(box: tuple[float, ...]) -> None:
    assert not full(private_area(face_at(box), SHAPE)).any()


def test_a_face_much_larger_than_the_image_covers_it() -> None:
    assert full(private_area(face_at((-3000, -3000, 3500, 3500)), SHAPE)).all()


def test_no_part_is_bare_however_narrow_it_is() -> None:
    bare = {}
    for degrees, scale, shift in itertools.product(range(-95, 96, 5), (0.3, 0.6, 1), (0, 0.25, 0.5, 0.75)):
        face = turned(degrees)
        mesh = (face.mesh() - 256) * scale + 256 + shift
        small = replace(face, box=(*mesh.min(0), *mesh.max(0)), landmarks=tuple(mesh.ravel()))
        if found := bare_parts(small, full(private_area(small, SHAPE))):
            bare[degrees, scale, shift] = found
    assert bare == {}


@pytest.mark.parametrize("area", Area)
@pytest.mark.parametrize("box", [(100, 120, 180, 230), (20, 30, 24, 36), (300, 200, 500, 260)])
def test_a_box_without_landmarks_is_covered_nearly_whole(box: tuple[float, ...], area: Area) -> None:
    left, top, right, bottom = box
    mask = full(private_area(face_at(box), SHAPE, area))
    assert mask[int(top) : int(bottom), int(left) : int(right)].mean() >= 0.9


def test_five_points_outside_the_box_are_covered() -> None:
    points = (110, 150, 170, 150, 215, 175, 120, 200, 200, 200)
    mask = full(private_area(face_at((100, 120, 180, 230), points), SHAPE))
    around = [(x + dx, y + dy) for x, y in np.reshape(points, (5, 2)) for dx in (-8, 8) for dy in (-6, 6)]
    assert inside(mask, np.array(around)).all()


def brute_transition(alpha: NDArray[np.generic], side: int) -> Mask:
    """Unknown where the kernel around a pixel sees something, but not only the full value; the border has no say."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)) > 0
    reach, top = side // 2, np.iinfo(alpha.dtype).max
    out = np.zeros(alpha.shape, bool)
    for y, x in np.ndindex(alpha.shape):
        seen = [
            alpha[y + dy, x + dx]
            for dy in range(-reach, reach + 1)
            for dx in range(-reach, reach + 1)
            if kernel[dy + reach, dx + reach] and 0 <= y + dy < alpha.shape[0] and 0 <= x + dx < alpha.shape[1]
        ]
        out[y, x] = any(v > 0 for v in seen) and not all(v == top for v in seen)
    return out


def mattes(dtype: type) -> st.SearchStrategy[NDArray[np.generic]]:
    top = np.iinfo(dtype).max
    values = st.sampled_from([0, 0, 0, top, top, top, 1, top - 1])

    def matte(shape: tuple[int, int], blocks: list[int]) -> NDArray[np.generic]:
        coarse = np.resize(np.array(blocks, dtype), (-(-shape[0] // 4), -(-shape[1] // 4)))
        return np.kron(coarse, np.ones((4, 4), dtype))[: shape[0], : shape[1]]

    return st.builds(
        matte, st.tuples(st.integers(1, 22), st.integers(1, 22)), st.lists(values, min_size=1, max_size=36)
    )


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([np.uint8, np.uint16]).flatmap(mattes), st.sampled_from([3, 5, 9]))
def test_transition_is_its_definition(alpha: NDArray[np.generic], side: int) -> None:
    assert np.array_equal(transition_area(alpha, side), brute_transition(alpha, side))


def test_transition_of_flat_mattes_is_empty() -> None:
    for value in (0, 255):
        assert not transition_area(np.full((20, 20), value, np.uint8), 9).any()
    assert transition_area(np.full((20, 20), 254, np.uint8), 9).all()


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([np.uint8, np.uint16]).flatmap(mattes),
    st.sampled_from([3, 5, 9, 15]),
    st.integers(0, 6),
    st.tuples(*[st.integers(0, 21)] * 4),
)
def test_transition_near_a_patch_is_the_transition_there(
    alpha: NDArray[np.generic], side: int, margin: int, corners: tuple[int, int, int, int]
) -> None:
    height, width = alpha.shape
    (top, bottom), (left, right) = (sorted(pair) for pair in (corners[:2], corners[2:]))
    top, left = min(top, height - 1), min(left, width - 1)
    bottom, right = min(bottom, height - 1), min(right, width - 1)
    patch = Patch(top, left, np.ones((bottom - top + 1, right - left + 1), bool))
    near = transition_near(alpha, [patch], side, margin)
    expected = np.zeros(alpha.shape, bool)
    there = (slice(max(0, top - margin), bottom + 1 + margin), slice(max(0, left - margin), right + 1 + margin))
    expected[there] = transition_area(alpha, side)[there]
    assert np.array_equal(near, expected)


def test_transition_near_joins_all_patches() -> None:
    alpha = np.zeros((60, 90), np.uint8)
    alpha[:, 30:60] = 255
    patches = [Patch(5, 25, np.ones((8, 8), bool)), Patch(40, 55, np.ones((8, 8), bool))]
    near = transition_near(alpha, patches, 5, 2)
    both = [transition_near(alpha, [patch], 5, 2) for patch in patches]
    assert all(one.any() for one in both) and np.array_equal(near, both[0] | both[1])


@pytest.mark.parametrize("shape", [(1, 1), (100, 3000), (1080, 1920), (4000, 3000)])
def test_kernel_side_is_odd_and_follows_the_shorter_side(shape: tuple[int, int]) -> None:
    side = kernel_side(shape, 0.02)
    assert side % 2 == 1 and side >= 3
    assert abs(side - 0.02 * min(shape)) <= max(1.5, 3 - 0.02 * min(shape))


masks = st.builds(
    lambda seed, share: np.random.default_rng(seed).random((17, 23)) < share,
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.05, 0.3, 0.9, 1.0]),
)


@given(st.lists(masks, max_size=4), masks)
def test_disjoint_shares_out_every_kept_pixel_once(areas: list[Mask], keep: Mask) -> None:
    patches = [patch_of(area) for area in areas]
    shared_out = disjoint(patches, keep)
    total = sum((full(patch, keep.shape).astype(int) for patch in shared_out), np.zeros(keep.shape, int))
    wanted = keep & (np.any(areas, axis=0) if areas else np.zeros_like(keep))
    assert np.array_equal(total, wanted.astype(int))
    assert all(not (full(new, keep.shape) & ~area).any() for new, area in zip(shared_out, areas, strict=True))


def test_disjoint_leaves_the_smaller_face_whole() -> None:
    small, large = Patch(4, 4, np.ones((3, 3), bool)), Patch(0, 0, np.ones((12, 12), bool))
    assert disjoint([large, small], np.ones((12, 12), bool))[1].mask.all()


@given(st.lists(masks, min_size=1, max_size=3), masks, st.integers(1, 4))
def test_spread_covers_what_is_near_and_nothing_twice(areas: list[Mask], target: Mask, reach: int) -> None:
    own = disjoint([patch_of(area) for area in areas], target)
    spread_out = spread(own, target, reach)
    total = sum((full(patch, target.shape).astype(int) for patch in spread_out), np.zeros(target.shape, int))
    given_out = np.any([full(patch, target.shape) for patch in own], axis=0)
    square = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    near = cv2.dilate(given_out.astype(np.uint8), square) > 0
    assert np.array_equal(total, (target & near).astype(int))
    for before, after in zip(own, spread_out, strict=True):
        assert not (full(before, target.shape) & ~full(after, target.shape)).any()


def test_spread_gives_a_pixel_near_two_faces_to_one_of_them() -> None:
    patches = [Patch(4, 3, np.ones((2, 2), bool)), Patch(4, 7, np.ones((2, 2), bool))]
    first, second = (full(patch, (10, 12)) for patch in spread(patches, np.ones((10, 12), bool), 3))
    assert (first | second)[4].all() and not (first & second).any()


def test_spread_drops_pixels_outside_the_target() -> None:
    target = np.zeros((10, 10), bool)
    target[2:6, 2:6] = True
    (patch,) = spread([Patch(0, 0, np.ones((10, 10), bool))], target, 3)
    assert np.array_equal(full(patch, (10, 10)), target)


@given(masks)
def test_patch_of_holds_the_mask_and_is_tight(mask: Mask) -> None:
    patch = patch_of(mask)
    assert np.array_equal(full(patch, mask.shape), mask)
    if mask.any():
        assert patch.mask[0].any() and patch.mask[-1].any() and patch.mask[:, 0].any() and patch.mask[:, -1].any()


@given(masks)
def test_hand_regions_are_the_connected_parts_of_the_mask(mask: Mask) -> None:
    regions = [full(patch, mask.shape) for patch in hand_regions(mask)]
    total = sum((region.astype(int) for region in regions), np.zeros(mask.shape, int))
    assert np.array_equal(total, mask.astype(int))
    for region in regions:
        grown = cv2.dilate(region.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        assert not (grown & mask & ~region).any()


@pytest.mark.parametrize("name", PARTS)
def test_bare_parts_names_what_is_bare(name: str) -> None:
    face = astronaut_face()
    covered = full(private_area(face, SHAPE))
    part = face.mesh()[list(PARTS[name])]
    left, top = np.floor(part.min(0)).astype(int)
    right, bottom = np.ceil(part.max(0)).astype(int)
    covered[top : bottom + 1, left : right + 1] = False
    assert name in bare_parts(face, covered)
    (doubt,) = coverage_doubts([face], covered)
    assert doubt.code == "mask_too_small" and name in doubt.sentence


def test_a_mask_beside_the_face_leaves_all_bare() -> None:
    covered = np.roll(full(private_area(astronaut_face(), SHAPE)), 200, axis=1)
    assert bare_parts(astronaut_face(), covered) == list(PARTS)


def test_a_box_without_landmarks_is_checked_by_its_core() -> None:
    face = face_at((100, 120, 180, 230))
    covered = full(private_area(face, SHAPE))
    assert coverage_doubts([face], covered) == []
    covered[:, 140:] = False
    assert core_coverage(face, covered) < 0.6
    assert bare_parts(face, covered) == ["eyes, nose or mouth"]


def test_the_five_points_are_checked_where_there_are_no_landmarks() -> None:
    points = (110, 150, 170, 150, 215, 175, 120, 200, 160, 200)
    face = face_at((100, 120, 180, 230), points)
    covered = full(private_area(face, SHAPE))
    assert bare_parts(face, covered) == []
    covered[165:185, 205:225] = False
    (name,) = bare_parts(face, covered)
    assert "nose" in name


def matte_with(*areas: tuple[slice, slice]) -> NDArray[np.uint8]:
    alpha = np.zeros(SHAPE, np.uint8)
    for area in areas:
        alpha[area] = 255
    return alpha


PERSON = (slice(100, 512), slice(150, 350))
MAIN = face_at((200, 120, 300, 250))


@pytest.mark.parametrize(
    ("faces", "alpha", "code"),
    [
        ([MAIN], matte_with(PERSON), None),
        ([], matte_with(PERSON), None),
        ([MAIN], matte_with(), "matte_without_person"),
        ([MAIN], np.full(SHAPE, 60, np.uint8), "matte_without_person"),
        ([face_at((10, 120, 110, 250))], matte_with(PERSON), "face_outside_matte"),
        ([MAIN, face_at((400, 20, 440, 70))], matte_with(PERSON), None),
        ([MAIN, face_at((380, 20, 500, 190))], matte_with(PERSON), "face_outside_matte"),
    ],
    ids=["fits", "no face", "no person", "faint", "all outside", "small bystander", "large bystander"],
)
@pytest.mark.parametrize("sixteen_bit", [False, True])
def test_matte_doubts(faces: list[Face], alpha: NDArray[np.uint8], code: str | None, sixteen_bit: bool) -> None:
    matte = alpha.astype(np.uint16) * 257 if sixteen_bit else alpha
    assert [doubt.code for doubt in matte_doubts(faces, matte)] == ([code] if code else [])


def test_strokes_of_one_drawing_are_one_area_and_far_ones_are_not() -> None:
    drawn = np.zeros((600, 800), bool)
    drawn[100:200:8, 100:180] = True
    drawn[400:420, 600:640] = True
    hatched, dot = sorted(hand_regions(drawn), key=lambda patch: patch.top)
    assert hatched.mask.shape == (97, 80) and dot.mask.shape == (20, 40)
    union = np.zeros_like(drawn)
    for patch in (hatched, dot):
        patch.paint(union)
    assert np.array_equal(union, drawn)


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), at=st.tuples(st.integers(-40, 120), st.integers(-40, 120)))
def test_hull_in_a_covered_rectangle_needs_no_drawing(seed: int, at: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 1, (9, 2)) * rng.uniform(1, 50, 2) + at
    covered = np.ones((90, 100), bool)
    if seed % 3:
        covered[tuple(rng.integers(0, (90, 100), (seed % 30, 2)).T)] = False
    beside = rng.random(covered.shape) < 0.3
    for other in (None, beside):
        assert _hulls_share(points, covered, other) == _share(_hulls([points], (90, 100)), covered, other)
