"""Plain PNG files in grey: the same pixels as by libpng, and none of a file that is anything else."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from p3mdata.errors import BrokenInput
from p3mdata.imaging import decode
from p3mdata.imaging.plane import plane_of
from p3mdata.imaging.trimap import stored_plane
from p3mdata.native import LEVELS, library
from p3mdata.native.png import unfiltered
from tests.native_levels import use

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEIGHT, WIDTH = 13, 37


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def header(height: int = HEIGHT, width: int = WIDTH, depth: int = 8, colour: int = 0, interlaced: int = 0) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))


def filtered(height: int = HEIGHT, size: int = WIDTH, seed: int = 0) -> NDArray[np.uint8]:
    """Rows of any bytes behind any filter: every such file is a picture."""
    rng = np.random.default_rng(seed)
    rows = rng.choice([0, 1, 2, 127, 128, 255], (height, 1 + size)).astype(np.uint8)
    rows[:, 0] = rng.integers(0, 5, height)
    return rows


def png(*chunks: bytes, rows: NDArray[np.uint8] | None = None, pieces: int = 1, head: bytes | None = None) -> bytes:
    packed = zlib.compress((filtered() if rows is None else rows).tobytes())
    cuts = [packed[i * len(packed) // pieces : (i + 1) * len(packed) // pieces] for i in range(pieces)]
    parts = [header() if head is None else head, *chunks, *(chunk(b"IDAT", cut) for cut in cuts), chunk(b"IEND")]
    return SIGNATURE + b"".join(parts)


def by_opencv(data: bytes) -> NDArray[np.generic]:
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert found is not None
    return np.asarray(found)


@pytest.mark.parametrize("level", LEVELS)
def test_pixels_are_those_of_libpng(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, level)
    rng = np.random.default_rng(1)
    for number in range(40):
        height, width, depth = int(rng.integers(1, 40)), int(rng.integers(1, 90)), int(rng.choice([8, 16]))
        rows = filtered(height, width * depth // 8, number)
        data = png(chunk(b"pHYs", bytes(9)), rows=rows, pieces=1 + number % 3, head=header(height, width, depth))
        wanted, found = by_opencv(data), plane_of(data)
        assert found is not None and found.dtype == wanted.dtype and np.array_equal(found, wanted)
        stored = stored_plane(data)
        assert stored is not None and np.array_equal(decode(data).pixels, wanted) and np.array_equal(stored, wanted)


def damaged(data: bytes) -> dict[str, bytes]:
    short, bad = filtered()[:-1], filtered()
    bad[4, 0] = 5
    return {
        "cut off": data[:-1],
        "behind its end": data + b"\0",
        "a byte of its pixels": data[:60] + bytes([data[60] ^ 1]) + data[61:],
        "a row too few": png(rows=short),
        "an unknown filter": png(rows=bad),
        "two headers": png(header()),
        "no pixels": SIGNATURE + header() + chunk(b"IEND"),
        "an absurd size": png(head=header(1 << 30, 1 << 30)),
    }


OTHERS = {
    "key": png(chunk(b"tRNS", b"\0\1")),
    "turned": png(chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0")),
    "interlaced": png(head=header(interlaced=1)),
    "colour": png(rows=filtered(size=3 * WIDTH), head=header(colour=2)),
    "four bits": png(rows=filtered(size=(WIDTH + 1) // 2), head=header(depth=4)),
    "no picture": b"GIF89a",
    "empty": b"",
}


@pytest.mark.parametrize("name", [*damaged(png()), *OTHERS])
def test_what_is_anything_else_is_left_to_others(name: str) -> None:
    assert plane_of({**damaged(png()), **OTHERS}[name]) is None


def test_a_key_and_a_turn_still_count() -> None:
    turned, keyed = decode(OTHERS["turned"]), decode(OTHERS["key"])
    assert turned.pixels.shape == (WIDTH, HEIGHT) and turned.orientation == 6
    assert keyed.opacity is not None and (keyed.opacity == 0).any()
    with pytest.raises(BrokenInput, match="truncated or damaged"):
        decode(damaged(png())["a byte of its pixels"])


def test_bytes_that_are_no_rows_are_refused() -> None:
    if library() is None:
        pytest.skip("no C library here")
    for size, rows, step in ((10, 3, 1), (10, 0, 1), (10, 10, 1), (12, 3, 2), (0, 1, 1)):
        with pytest.raises(ValueError, match="rows of pixels"):
            unfiltered(np.zeros(size, np.uint8), rows, step)
