"""Outputs of edited JPEG files, of which a part becomes pixels, are proved as those that are decoded as a whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from p3mdata.anonymize import proofs
from p3mdata.anonymize.masks import around
from p3mdata.anonymize.outputs import _beside_which_equal, _Edited, opened
from p3mdata.dataset.check_item import _read_plane
from p3mdata.errors import SetupError
from p3mdata.faces.pyramid import Pyramid
from p3mdata.imaging import Picture
from p3mdata.imaging import decode as decode_file
from p3mdata.imaging.encode import encode as encode_file
from p3mdata.imaging.jpeg import JpegBlocks, coefficients, scan
from p3mdata.native.jpeg import usable
from p3mdata.records import Mask, Proofs
from tests.test_jpeg import encode, picture

SIZE = 96, 128
BEFORE = encode(picture(*SIZE, 1), "420", 80)
OTHER = picture(*SIZE, 2)
# Two faces far apart.
WANTED = np.zeros(SIZE, bool)
WANTED[20:40, 30:60] = WANTED[60:70, 90:100] = True
BESIDE = np.zeros(SIZE, bool)
BESIDE[82:90, 4:12] = True


def blocks() -> tuple[JpegBlocks, Mask]:
    jpeg = JpegBlocks.read(BEFORE)
    return jpeg, jpeg.reach(WANTED).changed


def rewritten(which: Mask) -> bytes:
    jpeg, _ = blocks()
    return jpeg.rewrite(OTHER, jpeg.reach(which))


def with_orientation(data: bytes) -> bytes:
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x03\0\0\0\0\0\0\0"
    return data[:20] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[20:]


OUTPUTS: dict[str, tuple[Callable[[], bytes], bool]] = {
    "right": (lambda: rewritten(WANTED), True),
    "nothing hidden": (lambda: rewritten(np.zeros(SIZE, bool)), True),
    "one face hidden": (lambda: rewritten(WANTED & (np.arange(SIZE[0]) < 50)[:, None]), True),
    "changed beside the mask": (lambda: rewritten(WANTED | BESIDE), True),
    "changed beside the mask alone": (lambda: rewritten(BESIDE), True),
    "other tables": (lambda: encode(picture(*SIZE, 1), "420", 60), False),
    "other sampling": (lambda: encode(picture(*SIZE, 1), "444", 80), False),
    "turned": (lambda: with_orientation(rewritten(WANTED)), False),
    "damaged": (lambda: rewritten(WANTED)[:-300] + b"\xff\xd9", False),
}


def proved(source: Picture, data: bytes, monkeypatch: pytest.MonkeyPatch) -> tuple[Proofs, list[Any]]:
    """Proofs, and what was shown to the detectors: the output, and the source when it is asked about."""
    shown: list[Any] = []

    def redetect(
        before: Picture, after: Picture, facemask: Mask, finder: object, put_back: Any, image: Pyramid
    ) -> tuple[int, int]:
        for side in (37, 10):
            assert np.array_equal(image.at(side)[0], Pyramid(after.seen8()).at(side)[0])
        shown.append(after.rgb8().copy())
        put_back()
        shown.append(before.rgb8().copy())
        return 0, 0

    monkeypatch.setattr(proofs, "redetect", redetect)
    promise = proofs.Promise(blocks()[1], BESIDE, exact=True)
    # As detection left it: halves of the source are there.
    seen = Pyramid(source.seen8())
    seen.at(10)
    return proofs.prove(source, data, promise, None, seen), shown  # type: ignore[arg-type]


@pytest.mark.parametrize("name", OUTPUTS)
def test_both_ways_prove_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, in_part = OUTPUTS[name]
    data, source = make(), decode_file(BEFORE, coefficients=True)
    before = source.pixels.copy()
    assert (source.blocks is None) == (usable() is None)
    found = _Edited.of(source, data, around(WANTED))
    assert (found is not None) == (in_part or name == "turned") or usable() is None
    fast, seen = proved(source, data, monkeypatch)
    assert np.array_equal(source.pixels, before)
    with monkeypatch.context() as patch:
        patch.setattr(_Edited, "of", lambda *_: None)
        slow, expected = proved(source, data, monkeypatch)
    assert fast == slow
    assert all(np.array_equal(a, b) for a, b in zip(seen, expected, strict=True))
    assert bool(fast.changed_outside) == (name not in ("right", "nothing hidden", "one face hidden"))
    assert bool(fast.changed_in_transition) == (bool(fast.changed_outside) and name != "damaged")
    assert (fast.changed_inside > 0.5) == (name not in ("nothing hidden", "changed beside the mask alone"))


def test_the_source_is_itself_again_whatever_happens_meanwhile() -> None:
    source = decode_file(BEFORE, coefficients=True)
    if source.blocks is None:
        pytest.skip("nothing is compiled here")
    before, data = source.pixels.copy(), rewritten(WANTED)
    with pytest.raises(KeyError), opened(source, data, around(WANTED), True, bare=True).shown() as (shown, _):
        assert np.array_equal(shown.pixels, decode_file(data).pixels)
        raise KeyError
    assert np.array_equal(source.pixels, before)


def test_without_jpeglib_damaged_files_are_no_other_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the library remarks on damage, jpeglib is asked: one broken file must not end a run."""
    monkeypatch.setattr(coefficients, "_library", Mock(side_effect=SetupError("not installed")))
    source, damaged = decode_file(BEFORE, coefficients=True), OUTPUTS["damaged"][0]()
    assert _Edited.of(source, damaged, around(WANTED)) is None
    assert np.array_equal(decode_file(damaged, coefficients=True).pixels, decode_file(damaged).pixels)


def test_of_a_turned_source_blocks_tell_nothing() -> None:
    """They lie otherwise than in the output, though a half turn leaves the size as it is."""
    source, turned = (decode_file(with_orientation(BEFORE), coefficients=with_blocks) for with_blocks in (True, False))
    jpeg = JpegBlocks.read(BEFORE).turned(3)
    data = jpeg.rewrite(OTHER, jpeg.reach(WANTED))
    found = opened(source, data, around(blocks()[1]), True, bare=True)
    assert source.orientation == 3 and not isinstance(found, _Edited)
    assert np.array_equal(found.before, turned.pixels[found.window])
    assert np.array_equal(found.after, decode_file(data).pixels[found.window])


PLACE = slice(20, 40), slice(30, 60)
AROUND = [
    (0, 0),
    (0, 127),
    (95, 0),
    (95, 127),
    (19, 40),
    (40, 40),
    (30, 0),
    (30, 29),
    (30, 60),
    (30, 127),
    (19, 0),
    (40, 127),
]


@pytest.mark.parametrize("shape", [SIZE, (*SIZE, 3)])
def test_whatever_differs_beside_a_place_is_in_the_window(shape: tuple[int, ...]) -> None:
    before = np.zeros(shape, np.uint8)
    for pixel in ((20, 30), (39, 59)):
        after = before.copy()
        after[pixel] = 1
        assert _beside_which_equal(before, after, PLACE) == PLACE
    for pixel in AROUND:
        after = before.copy()
        after[(*pixel, 2)[: before.ndim]] = 1
        assert _beside_which_equal(before, after, PLACE) == (slice(0, 96), slice(0, 128)), pixel


def test_what_a_file_cannot_hold_is_compared_as_it_holds_it() -> None:
    grey = Picture(picture(*SIZE, 1)[:, :, 0], None, "WEBP", None, 1)
    found = opened(grey, encode_file(grey, "WEBP")[0], PLACE, exact=True, bare=True)
    assert found.window == PLACE and found.after.shape == (20, 30, 3) and np.array_equal(found.before, found.after)
    deep = Picture(picture(*SIZE, 1).astype(np.uint16) * 257, None, "PNG", None, 1)
    found = opened(deep, encode_file(deep, "WEBP")[0], PLACE, exact=True, bare=True)
    assert found.window == PLACE and found.after.dtype == np.uint8 and np.array_equal(found.before, found.after)
    for other in (picture(96, 127, 1), picture(96, 127, 1)[:, :, 0], picture(95, 128, 1)):
        with pytest.raises(ValueError, match="the output is"):
            opened(grey, encode_file(Picture(other, None, "PNG", None, 1), "PNG")[0], PLACE, exact=True, bare=True)


@pytest.mark.parametrize("exact", [True, False])
def test_outputs_are_read_by_libjpeg_and_not_by_the_code_that_wrote_them(
    exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = decode_file(BEFORE, coefficients=True), rewritten(WANTED)
    place = around(blocks()[1].astype(np.uint8))
    wanted = decode_file(output).pixels
    own = Mock(return_value=None)
    monkeypatch.setattr(scan, "decoded", own)
    released = opened(source, output, place, exact, bare=exact)
    assert np.array_equal(released.after, wanted[released.window])
    assert not own.called
    # Which is asked for others.
    assert np.array_equal(decode_file(output).pixels, wanted) and own.called


def test_pictures_of_datasets_are_checked_as_everybody_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jpg").write_bytes(rewritten(WANTED))
    wanted = decode_file(rewritten(WANTED)).pixels
    own = Mock(return_value=None)
    monkeypatch.setattr(scan, "decoded", own)
    pixels, found = _read_plane(Mock(root=tmp_path, about=None), "image", "a.jpg", {})
    assert np.array_equal(pixels, wanted) and not found
    assert not own.called
