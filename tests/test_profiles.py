"""Colour profiles: put into files, rebuilt so that they name nobody, left out where nobody needs them."""

from __future__ import annotations

import io
import struct
from contextlib import suppress
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from p3mdata.errors import BrokenInput
from p3mdata.imaging.metadata import leftovers, needed_icc, walk, with_icc
from p3mdata.imaging.metadata.profile import private_parts, rebuilt
from tests.byte_files import (
    chunk,
    display_p3,
    encode,
    gamma_curve,
    grey_profile,
    names,
    srgb,
    srgb_curve,
)

# --- profiles -------------------------------------------------------------------------------------------

CARRIERS: list[tuple[str, str, dict[str, Any]]] = [
    ("JPEG", "RGB", {}), ("JPEG", "L", {"progressive": True}), ("JPEG", "CMYK", {}), ("PNG", "RGB", {}),
    ("PNG", "P", {}), ("PNG", "LA", {}), ("WEBP", "RGB", {}), ("WEBP", "RGBA", {}),
    ("WEBP", "RGB", {"lossless": True}), ("WEBP", "RGBA", {"lossless": True}),
]  # fmt: skip


@pytest.mark.parametrize(("form", "mode", "options"), CARRIERS)
@pytest.mark.parametrize("size", [3, 3144, 65519, 65520, 200_001])
def test_with_icc(form: str, mode: str, options: dict[str, Any], size: int) -> None:
    icc = (display_p3() * (size // len(display_p3()) + 1))[:size]
    data = encode(form, mode, **options)
    done = with_icc(data, icc)
    before, after = Image.open(io.BytesIO(data)), Image.open(io.BytesIO(done))
    assert after.info["icc_profile"] == icc
    assert (after.mode, after.size) == (before.mode, before.size)
    assert after.tobytes() == before.tobytes()
    assert [name for name in leftovers(done) if not name.startswith("ICC profile: ")] == []
    assert with_icc(data, icc) == done
    assert with_icc(done, icc) == done
    clean = rebuilt(srgb())
    replaced = with_icc(done, clean)
    assert Image.open(io.BytesIO(replaced)).info["icc_profile"] == clean
    assert leftovers(replaced) == []
    tagged = cv2.imdecode(np.frombuffer(done, np.uint8), cv2.IMREAD_UNCHANGED)
    plain = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert tagged is not None and plain is not None
    assert np.array_equal(tagged, plain)


def test_with_icc_places_and_refusals() -> None:
    icc = display_p3()
    for data in (encode("JPEG"), encode("PNG"), encode("WEBP"), encode("TIFF"), b"anything"):
        assert with_icc(data, None) is data
        assert with_icc(data, b"") is data
    jpeg, png = walk(with_icc(encode("JPEG"), bytes(65520))), walk(with_icc(encode("PNG", "P"), icc))
    assert [p.name for p in jpeg][:5] == ["SOI", "APP0 JFIF", "APP2 ICC", "APP2 ICC", "DQT"]
    assert [p.name for p in png][:4] == ["PNG signature", "IHDR", "iCCP", "PLTE"]
    tagged = encode("PNG")
    tagged = tagged[:33] + chunk(b"sRGB", b"\0") + tagged[33:]
    assert "sRGB" not in [p.name for p in walk(with_icc(tagged, icc))]
    with pytest.raises(ValueError, match="JPEG, PNG or WebP"):
        with_icc(encode("TIFF"), icc)
    with pytest.raises(ValueError, match="too large"):
        with_icc(encode("JPEG"), bytes(65519 * 255 + 1))
    # It does not clean anything up on the way.
    assert names(with_icc(encode("WEBP") + b"tail", icc)) == ["trailing bytes"]


def test_needed_icc_for_colour() -> None:
    p3 = display_p3()
    assert needed_icc(None) is None
    assert needed_icc(b"") is None
    assert needed_icc(srgb()) is None
    assert needed_icc(p3) == rebuilt(p3)
    assert needed_icc(p3 + b"hidden behind the profile") == rebuilt(p3)
    assert needed_icc(p3, 1) is None
    assert needed_icc(p3, 4) is None
    assert needed_icc(p3, 2) is None


def test_needed_icc_for_grey() -> None:
    other = grey_profile(gamma_curve(1.8))
    assert needed_icc(other, 1) == rebuilt(other)
    assert needed_icc(other, 3) is None
    assert needed_icc(grey_profile(srgb_curve()), 1) is None
    assert needed_icc(srgb(), 1) is None


def test_needed_icc_survives_garbage() -> None:
    p3 = display_p3()
    for garbage in (b"x", b"x" * 500, p3[:200], p3[:128], p3[:40] + bytes(300), bytes(128) + b"acsp"):
        for channels in (1, 3, 4):
            assert needed_icc(garbage, channels) is None
    link = p3[:12] + b"link" + p3[16:]
    assert needed_icc(link) is None


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 600), st.binary(min_size=1, max_size=4)), min_size=1, max_size=3),
       st.sampled_from([1, 3, 4]))  # fmt: skip
def test_needed_icc_gives_a_clean_profile_or_refuses(edits: list[tuple[int, bytes]], channels: int) -> None:
    data = bytearray(display_p3())
    for at, value in edits:
        data[at : at + len(value)] = value
    with suppress(BrokenInput):
        found = needed_icc(bytes(data), channels)
        assert found is None or private_parts(found) == []


def with_tags(profile: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A profile with other tags added or in the place of its own."""
    count = int.from_bytes(profile[128:132], "big")
    entries = [struct.unpack_from(">4sII", profile, 132 + 12 * i) for i in range(count)]
    every = {name: profile[at : at + size] for name, at, size in entries} | tags
    table, body = b"", b""
    for name, data in every.items():
        table += struct.pack(">4sII", name, 132 + 12 * len(every) + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    out = profile[:128] + struct.pack(">I", len(every)) + table + body
    return struct.pack(">I", len(out)) + out[4:]


def mluc(text: str) -> bytes:
    raw = text.encode("utf-16-be")
    return b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(raw), 28) + raw


def calibrated() -> bytes:
    """A profile as calibration programs write them: it names a person, a display and a day."""
    profile = with_tags(
        display_p3(),
        {
            b"desc": mluc("Display of Jane Example, serial C02XX0000"),
            b"cprt": mluc("jane@example.org 2024-05-06"),
            b"mmod": b"mmod\0\0\0\0" + b"EXAMPLE-SERIAL-0000" + b"\0",
            b"rTRC": dict(tags_of(display_p3()))[b"rTRC"] + b"hidden behind a curve",
        },
    )
    return profile[:24] + struct.pack(">6H", 2024, 5, 6, 7, 8, 9) + profile[36:80] + b"JANE" + b"ID" * 8 + profile[100:]


def shown_by(icc: bytes) -> bytes:
    ramp = Image.frombytes("RGB", (4096, 1), np.random.default_rng(0).bytes(3 * 4096))
    made = ImageCms.profileToProfile(ramp, ImageCms.ImageCmsProfile(io.BytesIO(icc)), ImageCms.createProfile("sRGB"))
    assert made is not None
    return made.tobytes()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_profile_that_names_a_person_is_rebuilt(form: str) -> None:
    source = calibrated()
    found = {"header date", "header creator, id and reserved bytes", "text 'desc'", "text 'cprt'", "tag 'mmod'"}
    assert found | {"tag 'rTRC'"} <= set(private_parts(source))
    clean = needed_icc(source)
    assert clean is not None and private_parts(clean) == [] and shown_by(clean) == shown_by(source)
    for secret in ("Jane", "jane", "C02XX", "SERIAL", "hidden", "JANE"):
        assert secret.encode() not in clean and secret.encode("utf-16-be") not in clean
    # The proof looks inside the profile of every format, and of one cut into several segments.
    image = Image.fromarray(np.zeros((20, 30, 3), np.uint8))
    for profile in (source, with_tags(source, {b"mmod": b"mmod" + b"secret" * 20_000})):
        sink = io.BytesIO()
        image.save(sink, form, icc_profile=profile)
        assert "ICC profile: text 'desc'" in leftovers(sink.getvalue())
    sink = io.BytesIO()
    image.save(sink, form, icc_profile=clean)
    assert leftovers(sink.getvalue()) == []


def test_bytes_between_the_tags_of_a_profile_are_named() -> None:
    clean = rebuilt(display_p3())
    longer = clean + b"secret"
    assert private_parts(struct.pack(">I", len(longer)) + longer[4:]) == ["bytes of no tag"]
    assert private_parts(clean[:140]) == ["damaged profile"]


def test_tables_and_versions_of_a_profile_are_kept() -> None:
    for name in ("grey", "v2 text"):
        source = grey_profile(gamma_curve(1.8)) if name == "grey" else display_p3()
        clean = rebuilt(source[:8] + bytes((4 if name == "grey" else 2,)) + source[9:])
        assert private_parts(clean) == [] and ImageCms.ImageCmsProfile(io.BytesIO(clean)).profile is not None
    # An 8-bit and a 16-bit table: identity curves around a grid of two points a side.
    grid = np.indices((2, 2, 2)).reshape(3, -1).T.ravel()
    identity = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    small = b"mft1\0\0\0\0" + bytes((3, 3, 2, 0)) + identity + bytes(range(256)) * 3
    small += (grid * 255).astype(np.uint8).tobytes() + bytes(range(256)) * 3
    wide = (
        b"mft2\0\0\0\0"
        + bytes((3, 3, 2, 0))
        + identity
        + struct.pack(">2H", 2, 2)
        + struct.pack(">6H", *(0, 65535) * 3)
    )
    wide += (grid * 65535).astype(">u2").tobytes() + struct.pack(">6H", *(0, 65535) * 3)
    # mBA: curves of the connection space, then a grid.
    curve, cells = b"curv" + bytes(8), (grid * 255).astype(np.uint8).tobytes()
    modern = b"mAB \0\0\0\0" + bytes((3, 3, 0, 0)) + struct.pack(">5I", 32, 0, 0, 68, 112) + curve * 3
    modern += bytes((2, 2, 2)) + bytes(13) + b"\1\0\0\0" + cells + curve * 3
    for data in (small, wide, modern):
        source = with_tags(display_p3(), {b"A2B0": data})
        assert private_parts(rebuilt(source)) == []
        assert dict(tags_of(rebuilt(source)))[b"A2B0"] == data
        # Nothing can be hung on.
        assert dict(tags_of(rebuilt(with_tags(display_p3(), {b"A2B0": data + b"secret"}))))[b"A2B0"] == data
    gap = modern[:24] + struct.pack(">2I", 88, 132) + modern[32:68] + b"twenty secret bytes." + modern[68:]
    assert b"A2B0" not in dict(tags_of(rebuilt(with_tags(display_p3(), {b"A2B0": gap}))))


def tags_of(profile: bytes) -> list[tuple[bytes, bytes]]:
    count = int.from_bytes(profile[128:132], "big")
    entries = (struct.unpack_from(">4sII", profile, 132 + 12 * i) for i in range(count))
    return [(name, profile[at : at + size]) for name, at, size in entries]


@pytest.mark.parametrize("at", [26, 28])
def test_webp_without_width_or_height(at: int) -> None:
    data = bytearray(encode("WEBP"))
    data[at : at + 2] = b"\0\0"
    with pytest.raises(ValueError, match="image data cannot be read"):
        walk(bytes(data))
    with pytest.raises(ValueError, match="image data cannot be read"):
        with_icc(bytes(data), srgb())
