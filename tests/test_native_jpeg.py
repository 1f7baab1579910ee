"""Compiled loops of JPEG files and of its proofs: the bytes and counts that numpy comes to."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from p3mdata.anonymize.proofs import _changes
from p3mdata.imaging.jpeg.library import _usable, encoded
from p3mdata.native import LEVELS
from p3mdata.native.changes import changes
from p3mdata.native.jpeg import FUNCTIONS, CannotRead, JpegFile, differing, exchange, usable
from p3mdata.native.levels import levels
from tests.native_levels import use


@pytest.mark.parametrize("level", [LEVELS[0], "off"])
def test_blocks_change_places(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, level)
    rng = np.random.default_rng(4)
    plane, chosen = rng.integers(-9, 9, (3, 7, 64)).astype(np.int16)[:, :6], rng.random((3, 6)) < 0.5
    others = rng.integers(-9, 9, (np.count_nonzero(chosen), 64)).astype(np.int16)
    before, wanted = plane.copy(), others.copy()
    assert exchange(plane, chosen, others) == (level != "off")
    if level != "off":
        assert np.array_equal(plane[chosen], wanted) and np.array_equal(others, before[chosen])
        assert np.array_equal(plane[~chosen], before[~chosen])
        for wrong in ((plane, chosen, others[1:]), (plane, chosen[:2], others)):
            with pytest.raises(ValueError, match="expected"):
                exchange(*wrong)


@pytest.mark.parametrize("level", LEVELS)
def test_changes_are_counted_as_by_numpy(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    for shape in ((40, 67, 3), (40, 300, 3), (40, 67), (1, 1, 3), (5, 300)):
        before = rng.integers(0, 256, shape).astype(np.uint8)
        after = before.copy()
        after[rng.random(shape) < 0.2] ^= 0x41
        after[shape[0] // 2 :] = before[shape[0] // 2 :]
        masks = [rng.random(shape[:2]) < share for share in (0.5, 0.3, 0.6)]
        for mask in masks:
            mask[: shape[0] // 4] = False
            # Groups of pixels beside all masks lie among others.
            mask[:, 100:230] = False
        window = slice(0, shape[0]), slice(shape[1] // 3, shape[1])
        for place in (window, (slice(0, 0), slice(0, 0))):
            given = before[place], after[place], *(mask[place] for mask in masks)
            use(monkeypatch, level)
            found = changes(*given[:2], given[2:])
            use(monkeypatch, "off")
            assert changes(*given[:2], given[2:]) is None
            if before[place].size:
                assert found == _changes(*given)
                assert found.outside + found.replaced > 0 or shape[:2] == (1, 1)
            else:
                assert found is not None and not any((*found[:4], *found.channels))


def test_masks_of_another_size_are_refused() -> None:
    pixels, mask = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), bool)
    if changes(pixels, pixels, [mask] * 3) is None:
        pytest.skip("nothing is compiled here")
    for wrong in ((pixels, pixels[:3], [mask] * 3), (pixels, pixels, [mask, mask, mask[:3]])):
        with pytest.raises(ValueError, match="expected"):
            changes(*wrong)
    # One that C cannot walk along is enough.
    for number in range(3):
        masks = [mask] * 3
        masks[number] = np.zeros((4, 8), bool)[:, ::2]
        assert changes(pixels, pixels, masks) is None


@pytest.mark.parametrize("level", [LEVELS[0], "off"])
def test_differing_blocks_are_found_whichever_coefficient_it_is(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, level)
    one = np.random.default_rng(4).integers(-9, 9, (3, 7, 64)).astype(np.int16)
    for place in ((0, 0, 0), (1, 3, 31), (2, 6, 63)):
        other = one.copy()
        other[place] += 1
        expected = np.zeros((3, 7), bool)
        expected[place[:2]] = True
        assert np.array_equal(differing(one, other), expected)
        assert np.array_equal(differing(one[:, :6], other[:, :6]), expected[:, :6])
        assert np.array_equal(differing(one[:, ::2], other[:, ::2]), expected[:, ::2])
    with pytest.raises(ValueError, match="expected"):
        differing(one, one[:2])


@pytest.mark.parametrize("level", [LEVELS[0], "off"])
def test_pixels_become_the_file_that_pillow_makes(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, level)
    if level != "off" and (usable() is None or _usable() is None):
        pytest.skip("libjpeg cannot be called here")
    rng = np.random.default_rng(6)
    for number in range(24):
        height, width = (int(side) for side in rng.integers(1, 70, 2))
        pixels = rng.integers(0, 256, (height, width) if number % 3 == 0 else (height, width, 3)).astype(np.uint8)
        tables = [rng.integers(1, 256, 64).tolist() for _ in range(1 + number % 4)]
        options = {"quality": 4 * number + 4, "subsampling": 0}
        if number % 2:
            options = {"qtables": tables, "subsampling": number % 3}
        sink = io.BytesIO()
        Image.fromarray(pixels).save(sink, "JPEG", **options)
        assert encoded(pixels, **options) == (None if level == "off" else sink.getvalue())


def test_pixels_of_another_kind_are_refused() -> None:
    if usable() is None or (library := _usable()) is None:
        pytest.skip("libjpeg cannot be called here")
    sink = io.BytesIO()
    Image.new("RGB", (8, 8)).save(sink, "JPEG", subsampling=0)
    file = JpegFile(library, sink.getvalue(), [(1, 1)] * 3)
    fine = np.zeros((20, 30, 3), np.uint8)
    # Rows may lie apart, and upside down.
    apart = np.arange(20 * 40 * 3, dtype=np.uint8).reshape(20, 40, 3)[::-2, 5:35]
    assert file.of_pixels(apart) == file.of_pixels(apart.copy()) != file.of_pixels(apart[::-1])
    for wrong in (fine[:, :, 0], fine[:, ::2], fine[..., :2], fine.astype(np.uint16), fine[:0]):
        with pytest.raises(ValueError, match="expected|cannot hold"):
            file.of_pixels(wrong)


def _opened(columns: int = 2) -> JpegFile:
    if usable() is None or (library := _usable()) is None:
        pytest.skip("libjpeg cannot be called here")
    sink = io.BytesIO()
    Image.new("L", (16, 24), 99).save(sink, "JPEG")
    return JpegFile(library, sink.getvalue(), [(3, columns)])


@pytest.mark.parametrize("function", ["jpeg_CreateCompress", "jpeg_copy_critical_parameters", "jpeg_finish_compress"])
def test_a_file_is_there_still_when_writing_it_was_given_up(function: str) -> None:
    file = _opened()
    expected, place = file.encoded(), FUNCTIONS.index(function)
    kept = file._functions[place]
    # A fatal error, since this is nothing for what is being written.
    file._functions[place] = file._functions[FUNCTIONS.index("jpeg_finish_output")]
    for write in (file.encoded, lambda: file.of_pixels(np.zeros((9, 9), np.uint8))):
        with pytest.raises(CannotRead):
            write()
    file._functions[place] = kept
    assert file.encoded() == expected and file.of_pixels(np.zeros((9, 9), np.uint8))


def test_a_file_of_other_columns_than_told_is_not_read() -> None:
    assert _opened().plane(0).shape == (3, 2, 64)
    with pytest.raises(CannotRead):
        _opened(columns=300)
    with pytest.raises(ValueError, match="expected one to three components"):
        _opened(columns=0)


@pytest.mark.parametrize("level", LEVELS)
def test_levels_are_counted_as_by_numpy(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, level)
    pixels = np.random.default_rng(5).integers(0, 256, (37, 51, 3)).astype(np.uint8)
    for seen in (pixels, pixels[::4, ::3], pixels[:, :, 1], pixels[:0], pixels[:, ::-1]):
        assert np.array_equal(levels(seen), np.bincount(seen.ravel(), minlength=256))
    assert levels(pixels.transpose(2, 0, 1)) is None
    with pytest.raises(ValueError, match="expected"):
        levels(pixels.astype(np.uint16))
