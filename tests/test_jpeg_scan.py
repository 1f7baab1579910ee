"""Files of one scan, decoded and written by compiled code: what libjpeg makes of them, or nothing."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from p3mdata.imaging.jpeg import JpegBlocks, decoded_pixels, library
from p3mdata.imaging.jpeg.scan import scan_of
from p3mdata.imaging.jpeg.segments import UnsupportedJpeg
from p3mdata.imaging.jpeg.structure import inspect
from p3mdata.native import LEVELS
from p3mdata.native.decoder import Scan, decoded, decodes, shown
from p3mdata.native.encoder import encoded
from tests.native_levels import use
from tests.test_jpeg import decode, encode, masks, picture

KINDS = ("444", "422", "420", "grey")
SIZES = ((8, 8), (1, 9), (17, 33), (77, 123), (64, 96), (50, 261))
OPTIONS = ({}, {"rst_interval": 3}, {"optimize": 1})
COMPILED = pytest.mark.parametrize("level", LEVELS[1:])


def scan(data: bytes) -> Scan:
    found = scan_of(inspect(data))
    assert found is not None
    return found


def by_libjpeg(data: bytes) -> list[NDArray[np.int16]]:
    """Coefficients of a file by whatever is not compiled here."""
    structure = inspect(data)
    file = library.opened(structure.stream, [part.grid for part in structure.components])
    if file is None:
        pytest.skip("libjpeg cannot be called here")
    return file.coefs


@COMPILED
@pytest.mark.parametrize("kind", KINDS)
def test_coefficients_and_pixels_are_those_of_libjpeg(kind: str, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, level)
    rng = np.random.default_rng(1)
    for number, (height, width) in enumerate(SIZES):
        for turn, options in enumerate(OPTIONS):
            quality = (97, 75, 4)[(number + turn) % 3]
            noise = (0, 12, 90)[number % 3]
            data = encode(picture(height, width, number, noise), kind, quality, **options)
            both = decoded(scan(data), True, slice(0, height), slice(0, width))
            assert both is not None
            wanted = decode(data)
            assert np.array_equal(both[1], wanted)
            assert all(np.array_equal(*pair) for pair in zip(both[0], by_libjpeg(data), strict=True))
            alone = decoded(scan(data), False, slice(0, height), slice(0, width))
            assert alone is not None and np.array_equal(alone[1], wanted)
            for _ in range(3):
                rows, columns = (
                    slice(first, int(rng.integers(first, side)) + 1)
                    for side in (height, width)
                    for first in (int(rng.integers(side)),)
                )
                part = shown(scan(data), both[0], rows, columns)
                assert part is not None and np.array_equal(part, wanted[rows, columns])
                part = decoded(scan(data), False, rows, columns)
                assert part is not None and np.array_equal(part[1], wanted[rows, columns])


@COMPILED
def test_what_is_damaged_is_left_to_libjpeg_or_decoded_as_it_does(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what libjpeg remarks on nothing is taken; a changed value that makes another whole file is as good as any."""
    use(monkeypatch, level)
    simplejpeg = pytest.importorskip("simplejpeg")
    rng = np.random.default_rng(2)
    taken = refused = 0
    for kind, options in (("420", {}), ("444", {"rst_interval": 2}), ("grey", {})):
        data = encode(picture(48, 80, 1), kind, 88, **options)
        begin = data.index(b"\xff\xda") + 14
        for number in range(100):
            broken = bytearray(data)
            at = int(rng.integers(begin, len(data) - 2))
            if number % 3 == 0:
                del broken[at : at + int(rng.integers(1, 9))]
            elif number % 3 == 1:
                broken[at:at] = rng.bytes(int(rng.integers(1, 4)))
            else:
                broken[at] ^= 1 << int(rng.integers(8))
            try:
                found = scan_of(inspect(bytes(broken)))
            except UnsupportedJpeg:
                continue
            both = None if found is None else decoded(found, False, slice(0, 48), slice(0, 80))
            if both is None:
                refused += 1
                continue
            wanted = simplejpeg.decode_jpeg(bytes(broken), "GRAY" if kind == "grey" else "RGB", strict=True)
            assert np.array_equal(both[1], wanted.reshape(both[1].shape if both[1] is not None else ()))
            taken += 1
    assert taken > 5 and refused > 60


@COMPILED
def test_tables_that_libjpeg_refuses_are_left_to_it(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nothing in the file is told by what is wrong in them."""
    use(monkeypatch, level)
    data = encode(picture(16, 24, 1), "grey", 60)
    at = data.index(b"\xff\xc4\x00\x1f\x00") + 5
    counts, symbols, rest = bytearray(data[at : at + 16]), data[at + 16 : at + 28], data[at + 28 :]
    assert decoded(scan(data), True) is not None and symbols == bytes(range(12)) and counts[8] == 1
    # A DC value of so many bits; then one more code of nine bits, which are all ones.
    no_size = data[: at + 27] + b"\x10" + rest
    counts[8] += 1
    all_ones = data[: at - 2] + b"\x20\x00" + counts + symbols + b"\x0c" + rest
    for wrong in (no_size, all_ones):
        assert decoded(scan(wrong), True) is None
        structure = inspect(wrong)
        assert library.opened(structure.stream, [part.grid for part in structure.components]) is None


@COMPILED
def test_a_short_code_that_no_encoder_writes_is_not_taken_for_a_longer_one(
    level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, level)
    counts = {(0, 0): {1: 1}, (1, 0): {2: 2, 12: 1}}
    codes = {key: bytes(of.get(length, 0) for length in range(1, 17)) for key, of in counts.items()}
    # AC: 00 ends a block, 01 is followed by eleven bits, more than encoders write.
    codes = {(0, 0): codes[0, 0] + b"\0", (1, 0): codes[1, 0] + b"\0\x0b\x01"}
    found = Scan((8, 8), ((1, 1),), (np.ones(64, np.uint16),), codes, ((0, 0),), 0, b"")
    ended, odd = (int(bits, 2).to_bytes(len(bits) // 8, "big") for bits in ("00011111", "0011111111110111"))
    assert decoded(replace(found, data=ended), True) is not None
    assert decoded(replace(found, data=odd), True) is None


@COMPILED
def test_values_that_no_picture_has_are_left_to_libjpeg(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, level)
    found = replace(scan(encode(picture(16, 32, 1), "grey")), tables=(np.full(64, 255, np.uint16),))
    blank = np.zeros((2, 4, 64), np.int16)
    whole = slice(0, 16), slice(0, 32)
    assert np.array_equal(shown(found, [blank], *whole), np.full((16, 32), 128))
    # So many that sums of sixteen bits would not hold them, one too large, and one whose product with its step is.
    for places, value in (((1, 2, slice(0, 64, 8)), 2), ((1, 3, 0), 12), ((0, 1, 63), -258)):
        wrong = blank.copy()
        wrong[places] = value
        assert shown(found, [wrong], *whole) is None
        wrong[places] = np.sign(value)
        assert shown(found, [wrong], *whole) is not None


@COMPILED
@pytest.mark.parametrize("kind", KINDS)
def test_coefficients_are_written_as_by_libjpeg(kind: str, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, level)
    for number, (height, width) in enumerate(SIZES):
        for quality in (99, 60, 3):
            data = encode(picture(height, width, number, (0, 12, 90)[number % 3]), kind, quality)
            planes = decoded(scan(data), True)
            assert planes is not None
            # OpenCV has the standard tables, as what is written has.
            assert encoded(scan(data), planes[0]) == scan(data).data
    found = scan(data)
    too_large = [plane.copy() for plane in planes[0]]
    too_large[0][0, 0, 5] = 1024
    assert encoded(found, too_large) is None
    without = {number: bytes(16) for number in found.codes}
    assert encoded(replace(found, codes=without), planes[0]) is None
    with pytest.raises(ValueError, match="expected"):
        encoded(found, [plane[:, :-1] for plane in planes[0]])


@COMPILED
@pytest.mark.parametrize("kind", KINDS)
def test_files_are_rewritten_the_same_with_and_without(kind: str, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for options in OPTIONS:
        data, written = encode(picture(77, 123, 1), kind, 90, **options), []
        wanted, forbidden = masks(77, 123, 3)
        pixels = picture(77, 123, 2)
        for each in (level, "off"):
            use(monkeypatch, each)
            jpeg = JpegBlocks.read(data)
            before = [plane.copy() for plane in jpeg._coefs]
            reach = jpeg.reach(wanted, forbidden)
            written.append(jpeg.rewrite(pixels if kind != "grey" else pixels[..., 0], reach))
            assert all(np.array_equal(a, b) for a, b in zip(before, jpeg._coefs, strict=True))
            with pytest.raises(ValueError, match="read-only"):
                jpeg._coefs[0][0, 0] = 1
        assert written[0] == written[1]


def test_what_is_not_of_one_scan_is_left_to_others() -> None:
    image = picture(40, 48, 1)
    assert decoded_pixels(encode(image, "420", progressive=1)) is None
    assert decoded_pixels(b"no picture") is None
    sink = io.BytesIO()
    Image.fromarray(image).convert("CMYK").save(sink, "JPEG")
    assert decoded_pixels(sink.getvalue()) is None
    data = encode(image, "420")
    at = data.index(b"\xff\xda")
    # Components in another order, and a part of the spectrum alone.
    swapped = data[: at + 5] + data[at + 7 : at + 9] + data[at + 5 : at + 7] + data[at + 9 :]
    part = data[: at + 12] + b"\x20" + data[at + 13 :]
    assert scan_of(inspect(data)) is not None and decodes() is None or decoded_pixels(data) is not None
    assert [scan_of(inspect(changed)) for changed in (swapped, part)] == [None, None]


def test_another_size_or_place_is_refused() -> None:
    found = scan(encode(picture(24, 40, 1), "444"))
    if decodes() is None:
        pytest.skip("nothing is compiled here")
    planes = [np.zeros((3, 5, 64), np.int16)] * 3
    for wrong in (planes[:2], [planes[0][:, ::2]] * 3, [planes[0].astype(np.int32)] * 3):
        with pytest.raises(ValueError, match="expected"):
            shown(found, wrong, slice(0, 24), slice(0, 40))
    for rows, columns in ((slice(0, 25), slice(0, 40)), (slice(3, 3), slice(0, 40)), (slice(0, 24), slice(-1, 40))):
        with pytest.raises(ValueError, match="no rows"):
            shown(found, planes, rows, columns)
    for changed in (
        {"tables": (np.full(64, 256, np.uint16),) * 3},
        {"factors": ((2, 1), (1, 1), (1, 1))},
        {"codes": {}},
    ):
        assert decoded(replace(found, **changed), True) is None


@COMPILED
def test_tables_that_no_encoder_writes_are_read_as_libjpeg_reads_them(
    level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Symbols without a meaning at short codes too, and DC symbols that libjpeg refuses though nothing uses them."""
    use(monkeypatch, level)
    data, at = encode(picture(44, 52, 3, 12), "420", 85), 0
    while (at := data.find(b"\xff\xc4", at + 2)) >= 0:
        for place in range(at + 21, at + 21 + (60 if data[at + 4] >> 4 else 12), 2):
            odd = data[:place] + (b"\x80" if data[at + 4] >> 4 else b"\x10") + data[place + 1 :]
            both = decoded(scan(odd), False, slice(0, 44), slice(0, 52))
            assert both is None or np.array_equal(both[1], decode(odd))
