"""Turning JPEG files in the coefficients: same pixels as turning the decoded ones, and no loss."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from p3mdata.imaging import orient
from p3mdata.imaging.jpeg import JpegBlocks, UnsupportedJpeg

from .test_jpeg import dct, decode, encode, masks, picture, tables

MIRRORED = {2: "w", 3: "hw", 4: "h", 5: "", 6: "h", 7: "hw", 8: "w"}  # stored sides, height and width
INVERSE = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}
STEPS = {"grey": (1, 1), "444": (1, 1), "420": (2, 2), "422": (1, 2), "440": (2, 1), "411": (1, 4)}
SIZES = [(64, 96), (16, 32), (77, 123), (48, 70), (45, 64), (40, 56), (9, 17)]

# Levels by which RGB may differ from the turned pixels of the source. All three were reached, on waves and noise at
# qualities 30 to 95, and more is not to be expected. A sample may differ by 1: transposed, because the inverse DCT
# rounds after columns, then after rows; mirrored, only where it rounds a half. Interpolation of chroma rounds up and
# down by turns, which can make that 2. Blue weights chroma with 1.772 and so gets 1 + 1.772 or 1 + 3.544, rounded up.
# Reached by mirroring alone: 1 for grey, 2 without interpolation, 3 with it; by transposing 4:2:0: 4.
# Sides of at most 4 pixels are another matter: libjpeg does not interpolate across them.
LIMITS = {"grey": 1, "444": 3, "411": 3, "420": 5, "422": 5, "440": 5}


def allowed(kind: str, size: tuple[int, int], orientation: int) -> bool:
    sides = zip("hw", size, STEPS[kind], strict=True)
    return not any(name in MIRRORED[orientation] and side % (8 * step) for name, side, step in sides)


def files(kind: str, size: tuple[int, int]) -> list[bytes]:
    return [
        encode(picture(*size, seed, noise), kind, quality)
        for seed, noise in enumerate((0, 12, 60))
        for quality in (30, 75, 95)
    ]


def colours(data: bytes) -> tuple[int, ...]:
    return () if decode(data).ndim == 2 else (3,)


def unchanged(blocks: JpegBlocks, channels: tuple[int, ...]) -> bytes:
    """Write a file without edits."""
    size = blocks.height, blocks.width
    return blocks.rewrite(np.zeros((*size, *channels), np.uint8), blocks.reach(np.zeros(size, bool)))


def coefficients(data: bytes) -> list[NDArray[Any]]:
    found = dct(data)
    return [a for a in (found.Y, found.Cb, found.Cr, found.samp_factor) if a is not None]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize("orientation", MIRRORED)
def test_it_shows_the_turned_pixels_or_refuses(orientation: int, kind: str, size: tuple[int, int]) -> None:
    for data in files(kind, size):
        blocks = JpegBlocks.read(data)
        if not allowed(kind, size, orientation):
            with pytest.raises(UnsupportedJpeg, match="turned, and its sides are not multiples of the block size"):
                blocks.turned(orientation)
            continue
        turned = blocks.turned(orientation)
        after = decode(unchanged(turned, colours(data)))
        expected = orient(decode(data), orientation)
        assert after.shape == expected.shape
        assert (turned.height, turned.width) == after.shape[:2]
        differs = after.astype(int) - expected
        assert np.abs(differs).max() <= LIMITS[kind]
        assert np.abs(differs.mean(axis=(0, 1))).max() < (0.05 if min(size) >= 40 else 0.2)


@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize("orientation", MIRRORED)
def test_there_and_back_gives_the_same_coefficients(orientation: int, kind: str) -> None:
    for size in filter(lambda size: allowed(kind, size, orientation), SIZES):
        data = files(kind, size)[4]
        there = unchanged(JpegBlocks.read(data).turned(orientation), colours(data))
        back = unchanged(JpegBlocks.read(there).turned(INVERSE[orientation]), colours(data))
        assert back == unchanged(JpegBlocks.read(data), colours(data))
        assert all(np.array_equal(a, b) for a, b in zip(coefficients(back), coefficients(data), strict=True))
        assert tables(back) == tables(data)
        if orientation > 4:
            assert tables(there) == [np.reshape(t, (8, 8)).T.ravel().tolist() for t in tables(data)]


@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize("orientation", MIRRORED)
def test_masks_work_after_turning(orientation: int, kind: str) -> None:
    changes = 0
    for seed, size in enumerate(s for s in SIZES * 2 if allowed(kind, s, orientation)):
        data = encode(picture(*size, seed), kind, 80)
        blocks = JpegBlocks.read(data).turned(orientation)
        height, width = blocks.height, blocks.width
        wanted, forbidden = masks(height, width, seed)
        target = picture(height, width, seed + 1)
        target = target if colours(data) else target[..., 0]
        plain = unchanged(blocks, colours(data))
        reach = blocks.reach(wanted, forbidden)
        edited = blocks.rewrite(target, reach)
        assert np.array_equal(decode(edited)[~reach.changed], decode(plain)[~reach.changed])
        assert not (reach.changed & forbidden).any()
        again = JpegBlocks.read(data).turned(orientation)
        assert again.rewrite(target, again.reach(wanted, forbidden)) == edited
        stored = JpegBlocks.read(plain)
        assert stored.rewrite(target, stored.reach(wanted, forbidden)) == edited
        changes += not np.array_equal(decode(edited), decode(plain))
    assert changes


@pytest.mark.parametrize("orientation", MIRRORED)
def test_it_means_what_exif_means(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    Image.fromarray(picture(64, 96, 1)).save(stream, "JPEG", quality=95, exif=exif)
    with Image.open(stream) as image:
        shown = np.asarray(ImageOps.exif_transpose(image)).astype(int)
    blocks = JpegBlocks.read(stream.getvalue())
    assert np.abs(decode(unchanged(blocks.turned(orientation), (3,))) - shown).max() <= LIMITS["420"]
    assert np.array_equal(decode(unchanged(blocks, (3,))), decode(stream.getvalue()))  # the source is left alone


def test_orientation_1_is_the_file_itself_and_other_numbers_are_refused() -> None:
    blocks = JpegBlocks.read(encode(picture(77, 123, 1), "420"))
    assert blocks.turned(1) is blocks
    for number in (0, 9):
        with pytest.raises(ValueError, match="from 1 to 8"):
            blocks.turned(number)
