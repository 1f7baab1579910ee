"""Coefficients in the library's own memory: the same bytes as by jpeglib; nothing is lost when the library gives up."""

from __future__ import annotations

import gc
import io
import os
import subprocess
import sys
import textwrap
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from p3mdata.imaging.jpeg import JpegBlocks, coefficients, library
from p3mdata.imaging.jpeg.structure import inspect
from p3mdata.native import VARIABLE
from p3mdata.native.jpeg import usable
from tests.test_jpeg import KINDS, SIZES, decode, encode, masks, picture, replaced_header

OPTIONS = [{}, {"progressive": 1}, {"rst_interval": 3}, {"optimize": 1}]


def every_way(data: bytes, seed: int, monkeypatch: pytest.MonkeyPatch) -> tuple[list[JpegBlocks], list[bytes]]:
    """A file read and rewritten where the library holds it, called from C and from Python, and by jpeglib."""
    read, written = [], []
    for called, native in ((library._usable(), "auto"), (library._usable(), "off"), (None, "off")):
        with monkeypatch.context() as patch:
            patch.setenv(VARIABLE, native)
            patch.setattr(library, "_usable", lambda called=called: called)
            jpeg = JpegBlocks.read(data)
        shape = (jpeg.height, jpeg.width)
        wanted, forbidden = masks(*shape, seed)
        pixels = picture(*shape, seed + 1)
        pixels = pixels if len(jpeg._components) == 3 else pixels[..., 0]
        read.append(jpeg)
        written.append(jpeg.rewrite(pixels, jpeg.reach(wanted, forbidden)))
    return read, written


def test_the_library_can_be_called_here() -> None:
    """Else the tests below compare one way with itself."""
    if sys.platform == "linux":
        assert library._usable() is not None


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_way_comes_to_the_same_bytes(kind: str, options: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    for number, size in enumerate(SIZES):
        (fast, guarded, slow), written = every_way(encode(picture(*size, 3), kind, 83, **options), number, monkeypatch)
        assert (fast._file is None) == (guarded._file is None) == (library._usable() is None) and slow._file is None
        assert all(
            np.array_equal(a, b) and np.array_equal(a, c)
            for a, b, c in zip(fast._coefs, guarded._coefs, slow._coefs, strict=True)
        )
        assert len(set(written)) == 1


def test_coarse_tables_and_own_names_come_to_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    image, sink = Image.fromarray(picture(40, 56, 1)), io.BytesIO()
    image.save(sink, "JPEG", qtables=[[16] * 32 + [300] * 32, [20] * 64, [1] * 64][:2], subsampling=2)
    named = replaced_header(encode(picture(40, 56, 2), "420"), b"", bytes((7, 9, 200)))
    for data in (sink.getvalue(), named):
        (fast, *_), written = every_way(data, 5, monkeypatch)
        assert fast._file is not None or library._usable() is None
        assert len(set(written)) == 1


def test_a_file_that_the_library_would_refuse_to_write_does_not_come_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Colours by name alone, and tables that change between the scans."""
    jfif = encode(picture(24, 24, 1), "420")[2:20]
    for data in (
        replaced_header(encode(picture(40, 56, 2), "420"), jfif, b"RGB"),
        _with_late_table(encode(picture(40, 56, 2), "420", progressive=1)),
    ):
        assert not inspect(data).plain
        (fast, *_), written = every_way(data, 5, monkeypatch)
        assert fast._file is None and len(set(written)) == 1
    assert not library._Guard.closed


def _with_late_table(data: bytes) -> bytes:
    """Another quantisation table between the first two scans, which no decoder heeds any more."""
    at = data.index(b"\xff\xc4", data.index(b"\xff\xda"))
    return data[:at] + b"\xff\xdb\x00\x43\x00" + bytes([7] * 64) + data[at:]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", KINDS)
def test_turned_files_come_to_the_same_bytes_as_by_jpeglib(kind: str, orientation: int) -> None:
    jpeg = JpegBlocks.read(encode(picture(64, 96, orientation), kind, 77)).turned(orientation)
    about = (jpeg.height, jpeg.width), jpeg._components, jpeg._coefs
    filled = coefficients._filled(*about)
    assert filled is not None or library._usable() is None
    assert filled in (None, coefficients._written(*about)) and not library._Guard.closed


def test_coarse_tables_are_written_the_same_every_way() -> None:
    jpeg = JpegBlocks.read(encode(picture(40, 56, 1), "420"))
    for table in (np.full(64, 300, np.uint16), np.full(64, 7, np.uint16)):
        parts = [replace(part, table=table) if number else part for number, part in enumerate(jpeg._components)]
        about = (40, 56), parts, jpeg._coefs
        filled = coefficients._filled(*about)
        assert filled is not None or library._usable() is None
        assert filled in (None, coefficients._written(*about))


def test_rewriting_leaves_the_coefficients_as_they_were() -> None:
    jpeg = JpegBlocks.read(encode(picture(77, 123, 1), "420"))
    before = [plane.copy() for plane in jpeg._coefs]
    wanted, _ = masks(77, 123, 1)
    first = jpeg.rewrite(np.zeros((77, 123, 3), np.uint8), jpeg.reach(wanted))
    assert all(np.array_equal(a, b) for a, b in zip(before, jpeg._coefs, strict=True))
    assert jpeg.rewrite(np.zeros((77, 123, 3), np.uint8), jpeg.reach(wanted)) == first
    with pytest.raises(ValueError, match="read-only"):
        jpeg._coefs[0][0, 0] = 1


def test_memory_lives_as_long_as_its_arrays_and_no_longer() -> None:
    found = inspect(encode(picture(64, 96, 1), "444"))
    file = library.opened(found.stream, [part.grid for part in found.components])
    if file is None:
        pytest.skip("the library cannot be called here")
    inner, plane, expected = weakref.ref(file._file), file.coefs[1], file.coefs[1].copy()
    gc.disable()
    try:
        del file
        assert inner() is not None and np.array_equal(plane, expected)
        del plane
        assert inner() is None, "only the collector would free a picture"
    finally:
        gc.enable()


def test_damage_is_left_to_the_other_way() -> None:
    """What it makes of damage may depend on its version; the other one is pinned."""
    data = encode(picture(64, 96, 1), "420")
    coefs, file = coefficients.read_coefficients(inspect(data[:-200] + data[-2:]))
    assert file is None and len(coefs) == 3 and not library._Guard.closed
    assert coefficients.read_coefficients(inspect(data))[1] is not None or library._usable() is None


@pytest.mark.parametrize("native", ["auto", "off"])
def test_what_the_library_allocates_is_freed_by_the_process(native: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under another allocator (LD_PRELOAD), `free` of what the library is linked with would end the process."""
    called = library._usable()
    if called is None:
        pytest.skip("libjpeg cannot be called here")
    monkeypatch.setenv(VARIABLE, native)
    found = inspect(encode(picture(64, 96, 1), "420"))

    class Linked:
        def __getattr__(self, name: str) -> Any:
            assert name != "free"
            return getattr(called, name)

    # As if the file had become larger than its source and more.
    monkeypatch.setattr("p3mdata.native.jpeg._ROOM", 1 - len(found.stream) * 5 // 4)
    file = library.Opened(Linked(), found.stream, [part.grid for part in found.components])
    assert decode(file.filled(file.coefs)).shape == (64, 96, 3)


@pytest.mark.parametrize("native", ["auto", "off"])
def test_a_fatal_error_ends_neither_the_process_nor_the_work(tmp_path: Path, native: str) -> None:
    """In a process of its own, whose thread in the library must not keep it from ending either."""
    (tmp_path / "photo.jpg").write_bytes(encode(picture(64, 96, 1), "420"))
    code = """
        import sys
        from pathlib import Path
        from p3mdata.imaging.jpeg import JpegBlocks, library
        from p3mdata.native.jpeg import usable
        data = Path(sys.argv[1]).read_bytes()
        assert library.opened(b"no picture at all", [(1, 1)]) is None
        assert library._Guard.closed == (library._usable() is not None and usable() is None)
        jpeg = JpegBlocks.read(data)
        assert (jpeg._file is None) == (library._usable() is None or library._Guard.closed)
        print(len(jpeg._coefs))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "photo.jpg")],
        capture_output=True, text=True, timeout=120, env={**os.environ, VARIABLE: native},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "3\n", "")


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_pixels_come_with_the_coefficients(kind: str, options: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of Pillow, of any rows, whether or not what comes before is left out."""
    if usable() is None:
        assert JpegBlocks.decoded(encode(picture(8, 8, 1), kind)) is None
        pytest.skip("nothing is compiled here")
    rng = np.random.default_rng(5)
    for size in (*SIZES, (50, 400)):
        data = encode(picture(*size, 4), kind, 70, **options)
        found, expected = JpegBlocks.decoded(data), decode(data)
        assert found is not None
        jpeg, pixels = found
        assert np.array_equal(pixels, expected)
        assert all(np.array_equal(a, b) for a, b in zip(jpeg._coefs, JpegBlocks.read(data)._coefs, strict=True))
        for skips in (True, False):
            monkeypatch.setattr(library, "_skips", lambda skips=skips: skips)
            for _ in range(4):
                rows, columns = (_some(rng, side) for side in size)
                assert np.array_equal(jpeg.pixels(rows, slice(0, size[1])), expected[rows])
                other = JpegBlocks.read(data)
                assert np.array_equal(other.pixels(rows, columns), expected[rows, columns])
        with pytest.raises(ValueError, match="no rows"):
            jpeg.pixels(slice(0, size[0] + 1), slice(0, size[1]))


def _some(rng: np.random.Generator, side: int) -> slice:
    first = int(rng.integers(side))
    return slice(first, int(rng.integers(first, side)) + 1)


def test_damaged_files_give_no_pixels() -> None:
    data = encode(picture(64, 96, 1), "420")
    assert JpegBlocks.decoded(data[:-200] + data[-2:]) is None
    assert JpegBlocks.decoded(data[:-2]) is None
    assert JpegBlocks.decoded(b"") is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_rectangle_holds_every_pixel_in_which_two_files_differ(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, size in enumerate(SIZES):
        data = encode(picture(*size, 3), kind, 83)
        jpeg, wanted = JpegBlocks.read(data), masks(*size, number)[0]
        pixels = picture(*size, 8) if kind != "grey" else picture(*size, 8)[..., 0]
        written = jpeg.rewrite(pixels, jpeg.reach(wanted))
        other = JpegBlocks.read(written)
        found = {}
        for native in ("auto", "off"):
            with monkeypatch.context() as patch:
                patch.setenv(VARIABLE, native)
                found[native] = jpeg.where_differing(other)
        window = found["auto"]
        assert window is not None and window == found["off"]
        differ = decode(data) != decode(written)
        assert differ.any() or not wanted.any()
        differ[window] = False
        assert not differ.any()
        assert jpeg.where_differing(jpeg) == (slice(0, 0), slice(0, 0))
        for another in (encode(picture(*size, 3), kind, 60), encode(picture(size[0], size[1] + 9, 3), kind, 83)):
            assert jpeg.where_differing(JpegBlocks.read(another)) is None


def test_a_library_of_another_make_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_tried", lambda found: False)
    assert library._usable.__wrapped__() is None
