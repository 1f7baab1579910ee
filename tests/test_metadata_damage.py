"""The metadata walker on damaged and hostile files: one sentence, little work, little memory."""

from __future__ import annotations

import struct
import sys
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p3mdata.imaging.metadata import leftovers, parts, walk, with_icc
from tests.byte_files import (
    PAGE_END,
    PIXELS,
    chunk,
    cv2_encode,
    encode,
    page,
    riff,
    riff_chunk,
    short,
    tiff,
)
from tests.test_metadata import loaded_jpeg, loaded_png, loaded_tiff, loaded_webp

# --- damage ---------------------------------------------------------------------------------------------


def test_damaged_files_are_refused() -> None:
    jpeg, png, webp, tif = encode("JPEG"), encode("PNG"), encode("WEBP"), encode("TIFF")
    broken = [b"", b"GIF89a", b"II+\0" + bytes(20), b"\xff\xd8\xff"]
    broken += [jpeg[:-2], jpeg[:2] + b"\xff\xd9", jpeg[:30], jpeg[:2] + b"\xff\xd8" + jpeg[2:]]
    broken += [png[:-12], png[:33] + png[-12:], png[:8] + png[33:], png[:50] + b"\0\xff" + png[52:]]
    broken += [webp[:-1], webp[:12], riff(), riff(riff_chunk(b"VP8 ", b"no picture")), tif[:9], tif[:-1]]
    broken += [tiff([page(1 << 31)]), tiff([[(256, 3, 1, short(4))]]), tiff([page(PAGE_END)])]
    for data in broken:
        with pytest.raises(ValueError, match=r"^[A-Z][^\n]+\.$"):
            walk(data)


def hostile(size: int) -> list[bytes]:
    """Files of about four times `size` bytes that are cut into as many pieces as they can be."""
    tables = struct.pack("<H", size // 2) + struct.pack("<HHII", 65000, 1, 4 * size, 0) * (size // 2) + bytes(4)
    # An image of one byte, so that the directories it points to are looked at.
    entries = [(273, 4, 1, 8), (279, 4, 1, 1), (330, 4, size, 50)]
    pointers = struct.pack("<H", 3) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    shared = range(50 + 4 * size, 50 + 4 * size + 3000)
    ihdr = struct.pack(">IIBBBBB", 1 << 30, 1 << 30, 16, 6, 0, 0, 0)
    bomb = chunk(b"IDAT", zlib.compress(bytes(400 * size))) + chunk(b"IEND", b"")
    return [
        b"\xff\xd8" + b"\xff\xe1\0\x02" * size,
        b"\xff\xd8" + b"\xff" * (9 * size),
        b"\xff\xd8\xff\xda\0\x02" + b"\xff\x00" * (5 * size),
        encode("PNG")[:33] + chunk(b"prVt", b"") * size,
        b"RIFF" + struct.pack("<I", 4 + 8 * size) + b"WEBP" + b"priv\0\0\0\0" * size,
        b"II*\0\x08\0\0\0" + tables,
        b"II*\0\x08\0\0\0" + pointers + struct.pack(f"<{size}I", *range(50, 50 + size)) + bytes(5 * size),
        # Three thousand directories of 257 entries each that lie over each other; none has a next one.
        b"II*\0\x08\0\0\0"
        + pointers
        + struct.pack(f"<{size}I", *[0] * (size - len(shared)), *shared)
        + b"\1" * 3086
        + bytes(5 * size),
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + bomb,
    ]


@pytest.mark.slow
def test_hostile_files_cost_little_memory() -> None:
    for data in hostile(115_000):
        tracemalloc.start()
        try:
            leftovers(data)
        except ValueError:
            pass
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 40_000_000 + 4 * len(data)


def test_hostile_files_cost_little_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls, copied bytes and what is handed to zlib grow no faster than the file."""
    engine = zlib.decompressobj
    monkeypatch.setattr(parts.zlib, "decompressobj", lambda: SmallBites(engine()))
    for data in hostile(6_000):
        with suppress(ValueError), counted_calls(most=10 * len(data) + 20_000):
            leftovers(Cut(data, most=2 * len(data) + 2_000))
    # Its stream is 48 kB long and comes to 50 MB.
    with counted_calls(most=20_000), suppress(ValueError):
        leftovers(hostile(125_000)[-1])


class TooMuchWork(Exception):
    """Raised at the step that is one too many, so that a slow reader fails at once."""


class Cut(bytes):
    """A file that counts the bytes that are copied out of it."""

    def __new__(cls, data: bytes, most: int) -> Cut:
        made = super().__new__(cls, data)
        made.left = most
        return made

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        self.left -= len(found) if isinstance(found, bytes) else 1
        if self.left < 0:
            raise TooMuchWork("bytes are copied again and again")
        return found


class SmallBites:
    """zlib copies what it has not read of its input at every call: no call may be handed much."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def decompress(self, data: bytes, most: int) -> bytes:
        if len(data) > 1 << 15 or not 0 < most <= 1 << 20:
            raise TooMuchWork("much is handed to zlib at once")
        return self._engine.decompress(data, most)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


@contextmanager
def counted_calls(most: int) -> Iterator[None]:
    """Counts the calls of functions, built-in ones too."""
    left = [most]

    def watch(frame: Any, event: str, arg: Any) -> None:
        left[0] -= event in ("call", "c_call")
        if left[0] < 0:
            sys.setprofile(None)
            raise TooMuchWork(f"more than {most} calls")

    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(None)


SEEDS = [encode("JPEG"), encode("JPEG", progressive=True), encode("PNG", "P"), encode("WEBP", "RGBA"),
         encode("WEBP", lossless=True), encode("TIFF"), cv2_encode(".tiff", PIXELS), loaded_jpeg()[0],
         loaded_png()[0], loaded_webp()[0], loaded_tiff()[0], loaded_tiff(">")[0]]  # fmt: skip
MAGIC = [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x40\0\0\0WEBP"]
MAGIC += [b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]


def only_value_error(data: bytes) -> None:
    for call in (leftovers, lambda d: with_icc(d, b"profile")):
        try:
            call(data)
        except ValueError as error:
            assert str(error).endswith(".")


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(MAGIC), st.binary(max_size=300))
def test_arbitrary_bytes_raise_only_value_error(magic: bytes, rest: bytes) -> None:
    only_value_error(magic + rest)


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4)), max_size=4),
    st.one_of(st.none(), st.floats(0, 1)),
    st.integers(1, 400),
)
def test_mutations_raise_only_value_error(
    seed: bytes, edits: list[tuple[float, bytes]], cut: float | None, near: int
) -> None:
    data = bytearray(seed)
    for index, (place, value) in enumerate(edits):
        # Every other edit goes to the front, where the structures are.
        at = int(place * (len(data) if index % 2 else min(near, len(data))))
        data[at : at + len(value)] = value
    only_value_error(bytes(data if cut is None else data[: int(cut * len(data))]))


def test_every_truncation_of_small_files() -> None:
    for seed in SEEDS[3:5] + SEEDS[-2:]:
        for end in range(0, len(seed), 1 + len(seed) // 700):
            only_value_error(seed[:end])
