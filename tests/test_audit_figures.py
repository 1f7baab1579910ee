"""Figures of the audit with known answers, and attacks that work."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from p3mdata.anonymize.masks import Patch, Region, private_area
from p3mdata.anonymize.obfuscate import obfuscate
from p3mdata.anonymize.recompose import hide
from p3mdata.audit import measures
from p3mdata.audit.attacks import deconvolve
from p3mdata.audit.measures import calibrate, chance, false_accepts, rank1, true_accepts
from p3mdata.audit.portraits import cut_out, main_face
from p3mdata.audit.recogniser import CHIP, aligned, chip_to_image
from p3mdata.audit.reidentify import FAR, _table
from p3mdata.audit.sweep import ZERO, View
from p3mdata.base.intervals import miss_bound, wilson
from p3mdata.config import Method
from tests.factories import astronaut, astronaut_face, encoded, face_at

PEOPLE = np.array([0, 0, 1, 1])


def vectors(*values: tuple[float, ...]) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def test_rank1_counts_the_nearest_other_photograph() -> None:
    gallery = vectors((0, 0), (1, 0), (10, 0), (11, 0))
    assert rank1(gallery, gallery, PEOPLE).value == 1.0
    # The third probe has moved to the first person, the others stay.
    assert rank1(vectors((0, 0), (1, 0), (0.4, 0), (11, 0)), gallery, PEOPLE).value == 0.75


def test_a_photograph_is_never_found_by_itself() -> None:
    # Each one's nearest is itself, then one of the other person.
    crossed = vectors((0, 0), (10, 0), (0.1, 0), (10.1, 0))
    assert rank1(crossed, crossed, PEOPLE).value == 0.0


def test_faces_that_all_look_alike_are_found_by_chance() -> None:
    people = np.array([0, 0, 0, 1, 1, 2, 2])
    same = np.ones((7, 128), np.float32)
    assert rank1(same, same, people).value == pytest.approx(chance(people), abs=1e-4)
    assert chance(people) == pytest.approx((3 * 2 + 2 + 2) / (7 * 6), abs=1e-4)


def test_wilson_has_the_known_intervals() -> None:
    assert dataclasses.astuple(wilson(0, 10)) == (0.0, 0.0, 0.2775, 10)
    assert dataclasses.astuple(wilson(5, 10)) == (0.5, 0.2366, 0.7634, 10)
    assert dataclasses.astuple(wilson(81, 263)) == (0.308, 0.2553, 0.3662, 263)


@pytest.mark.parametrize("n", [1, 60, 300, 10_000])
def test_no_miss_gives_the_exact_bound_below_three_over_n(n: int) -> None:
    assert miss_bound(n, 0) == pytest.approx(1 - 0.05 ** (1 / n), rel=1e-9)
    assert miss_bound(n, 0) <= 3 / n


def test_misses_give_clopper_and_pearsons_bound() -> None:
    assert miss_bound(10, 1) == pytest.approx(0.39416, abs=1e-5)
    assert miss_bound(100, 2) == pytest.approx(0.06162, abs=1e-5)
    assert miss_bound(5, 5) == 1.0
    bound = miss_bound(40, 3)
    assert sum(math.comb(40, k) * bound**k * (1 - bound) ** (40 - k) for k in range(4)) == pytest.approx(0.05)
    with pytest.raises(ValueError, match="4 misses in 3 images"):
        miss_bound(3, 4)


def test_the_threshold_accepts_the_wanted_share_of_impostors() -> None:
    rng = np.random.default_rng(1)
    people = np.repeat(np.arange(10), 10)
    faces = rng.normal(size=(100, 8)).astype(np.float32)
    found = calibrate(faces, people, 0.01)
    assert (found.pairs, found.far, found.enough_pairs) == (4500, 0.01, True)
    assert false_accepts(faces, faces, people, found) == pytest.approx(0.01, abs=1e-4)


def test_too_few_impostors_are_said() -> None:
    found = calibrate(vectors((0, 0), (1, 0), (10, 0), (11, 0)), PEOPLE, 1e-3)
    assert (found.distance, found.far, found.pairs, found.enough_pairs) == (9.0, 0.25, 4, False)


def test_tar_counts_pairs_and_draws_people_not_pairs() -> None:
    gallery = vectors((0, 0), (1, 0), (10, 0), (30, 0))
    threshold = calibrate(gallery, PEOPLE, 0.25)
    rate = true_accepts(gallery, gallery, PEOPLE, threshold)
    # One person's pairs all pass and the other's do not: with two people everything is possible.
    assert dataclasses.astuple(rate) == (0.5, 0.0, 1.0, 4)
    assert true_accepts(gallery, gallery, PEOPLE, threshold) == rate


def test_figures_do_not_depend_on_how_many_rows_are_compared_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    people = np.repeat(np.arange(6), 5)
    probes, gallery = rng.normal(size=(2, 30, 16)).astype(np.float32) + people[:, None]

    def all_figures() -> tuple[Any, ...]:
        threshold = calibrate(gallery, people, 0.05)
        pair = probes, gallery, people
        return threshold, rank1(*pair), true_accepts(*pair, threshold), false_accepts(*pair, threshold)

    whole = all_figures()
    monkeypatch.setattr(measures, "_ROWS", 7)
    assert all_figures() == whole


def test_each_row_compares_what_it_says() -> None:
    found: dict[View, NDArray[np.float32]] = {
        "clear": vectors((0,), (1,), (10,), (11,)),
        "released": vectors((0,), (10,), (0.1,), (10.1,)),
        "deconvolved": vectors((0,), (0.2,), (0.5,), (0.6,)),
        ZERO: vectors((11,), (11,), (0,), (0,)),
    }
    rows = {row.key: row for row in _table(found, PEOPLE, calibrate(found["clear"], PEOPLE, FAR))}
    assert {key: row.rank1.value for key, row in rows.items()} == {
        "clear": 1.0, "naive": 0.5, "adapted": 0.0, "deconvolved_naive": 0.5, "deconvolved_adapted": 1.0,
        "zero_naive": 0.0, "zero_adapted": 1.0,
    }  # fmt: skip
    assert [key for key, row in rows.items() if row.own_tar] == ["adapted", "deconvolved_adapted", "zero_adapted"]


# Faces and attacks


def test_the_aligned_face_does_not_turn_or_grow_with_the_picture() -> None:
    mesh = astronaut_face().mesh()
    upright = aligned(astronaut(), chip_to_image(mesh)).astype(int)
    turned = aligned(
        np.ascontiguousarray(np.rot90(astronaut())), chip_to_image(np.stack([mesh[:, 1], 511 - mesh[:, 0]], 1))
    )
    large = aligned(cv2.resize(astronaut(), (1536, 1536)), chip_to_image(mesh * 3 + 1))
    assert np.abs(upright - turned).mean() < 1 and np.abs(upright - large).mean() < 4
    eyes = aligned(astronaut(), chip_to_image(mesh + 20))
    assert np.abs(upright - eyes).mean() > 10


def test_a_large_face_shrinks_without_false_patterns() -> None:
    checks = np.indices((1536, 1536)).sum(0) % 2 * np.uint8(255)
    chip = aligned(np.repeat(checks.astype(np.uint8)[:, :, None], 3, 2), chip_to_image(astronaut_face().mesh() * 3))
    assert np.abs(chip.astype(int) - 127).max() < 40


def test_the_main_face_is_the_widest_with_landmarks_on_the_person() -> None:
    mesh = list(np.zeros(956))
    small, large = face_at((10, 10, 30, 40), landmarks=mesh), face_at((50, 10, 90, 60), landmarks=mesh)
    larger_without = face_at((0, 0, 99, 99))
    faces = (small, larger_without, large)
    assert main_face(faces, None) is large
    person = np.zeros((100, 100), np.uint8)
    person[:, :45] = 255
    assert main_face(faces, person) is small
    assert main_face((larger_without,), None) is None


def _blurred_face(strength: float) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Patch, float]:
    clear, face = astronaut(), astronaut_face()
    region = private_area(face, (512, 512))
    blurred = clear.copy()
    obfuscate(blurred, region, Method.BLUR, strength, face.width)
    return clear, blurred, region, strength * face.width


def _error(a: NDArray[np.uint8], b: NDArray[np.uint8], region: Patch) -> float:
    gap = (a[region.window].astype(float) - b[region.window])[region.mask]
    return float(np.sqrt((gap**2).mean()))


@pytest.mark.parametrize(("strength", "left"), [(0.05, 0.75), (0.10, 0.8), (0.25, 0.9)])
def test_deconvolution_with_known_sigma_recovers_a_face(strength: float, left: float) -> None:
    clear, blurred, region, sigma = _blurred_face(strength)
    before = blurred.copy()
    undone = deconvolve(blurred, region, np.ones((512, 512), bool), sigma)
    assert _error(undone, clear, region) < left * _error(blurred, clear, region)
    outside = np.ones((512, 512), bool)
    outside[region.window] &= ~region.mask
    assert np.array_equal(undone[outside], blurred[outside]) and np.array_equal(blurred, before)


def test_deconvolution_needs_the_right_sigma() -> None:
    clear, blurred, region, sigma = _blurred_face(0.10)
    everywhere = np.ones((512, 512), bool)
    right, wrong = (deconvolve(blurred, region, everywhere, sigma * factor) for factor in (1, 2))
    assert _error(right, clear, region) < 0.8 * _error(wrong, clear, region)


def test_deconvolution_does_not_drown_in_compression_noise() -> None:
    clear, blurred, region, sigma = _blurred_face(0.10)
    data = np.frombuffer(encoded(blurred, quality=60), np.uint8)
    noisy = np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1])
    undone = deconvolve(noisy, region, np.ones((512, 512), bool), sigma)
    assert _error(undone, clear, region) < 0.95 * _error(noisy, clear, region)


def test_deconvolution_is_not_misled_by_the_ring_that_jpeg_blocks_leave() -> None:
    clear, blurred, region, sigma = _blurred_face(0.15)
    covered = np.zeros((512, 512), bool)
    region.paint(covered)
    covered = cv2.erode(covered.astype(np.uint8), np.ones((17, 17), np.uint8)) > 0
    released = np.where(covered[:, :, None], blurred, clear)
    knowing, naive = (deconvolve(released, region, known, sigma) for known in (covered, np.ones_like(covered)))
    inner = Patch(0, 0, covered)
    assert _error(knowing, clear, inner) < 0.9 * _error(released, clear, inner)
    assert _error(knowing, clear, inner) < 0.8 * _error(naive, clear, inner)


def test_a_region_that_shows_no_blur_is_left_alone() -> None:
    _, blurred, region, sigma = _blurred_face(0.10)
    assert np.array_equal(deconvolve(blurred, region, np.zeros((512, 512), bool), sigma), blurred)


def test_the_window_holds_what_the_whole_picture_would_give() -> None:
    clear, blurred, region, _ = _blurred_face(0.20)
    face = astronaut_face()
    covered = np.zeros((512, 512), bool)
    region.paint(covered)
    far = Patch(490, 490, np.ones((10, 10), bool))
    portrait = cut_out(clear, blurred, (Region(region, face.width), Region(far, 10.0)), covered, face.mesh())
    assert portrait.clear.shape[0] < 300 and len(portrait.regions) == 1
    whole = aligned(blurred, chip_to_image(face.mesh()))
    for window in (portrait.released, portrait.obfuscated(Method.BLUR, 0.20)):
        assert np.abs(portrait.aligned(window).astype(int) - whole).max() <= 1
    assert whole.shape == (CHIP, CHIP, 3)


def test_of_a_recomposed_face_every_pixel_of_its_layer_is_obfuscated() -> None:
    clear, _, region, _ = _blurred_face(0.20)
    share = np.full(clear.shape[:2], 255, np.uint8)
    share[:, :220] = 100
    regions = (Region(region, astronaut_face().width, share),)
    covered = np.zeros(clear.shape[:2], bool)
    region.paint(covered)
    # Pixels that are mostly something else count for nothing hidden, and are changed all the same.
    portrait = cut_out(clear, clear, regions, covered & (share == 255), astronaut_face().mesh())
    black = portrait.obfuscated(Method.ZERO, 1.0)
    assert np.array_equal(black, hide(portrait.clear, portrait.regions, Method.ZERO, 1.0))
    assert (black != portrait.clear).any(2)[portrait.regions[0].share == 100].sum() > 500
