"""ICC profiles made of what a file says about its colours without one (ICC.1:2022, annex F; ITU-T H.273)."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from p3mdata.imaging.metadata.profile import rebuilt

XY = tuple[float, float]
# Bradford, as the ICC asks for.
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_D50 = np.array([0.9642, 1.0, 0.8249])
D65: XY = (0.3127, 0.3290)
SRGB: tuple[XY, XY, XY] = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
# Exponent, then a, b, c and d of ICC's third kind of parametric curve.
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def made_profile(curve: tuple[float, ...], primaries: tuple[XY, XY, XY] = SRGB, white: XY = D65) -> bytes:
    """An RGB profile.

    Args:
        curve: The exponent alone, or five parameters as of `SRGB_CURVE`.
        primaries: x, y of red, green and blue.
        white: x, y of what equal values show.

    Raises:
        ValueError: The primaries span no colours.
    """
    columns = np.array([_xyz(xy) for xy in primaries]).T
    try:
        matrix = columns * np.linalg.solve(columns, _xyz(white))
    except np.linalg.LinAlgError:
        raise ValueError("The primaries lie on one line.") from None
    adapt = _adaptation(_xyz(white))
    tags = dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), (_xyz_tag(c) for c in (adapt @ matrix).T), strict=True))
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve_tag(curve))
    tags |= {b"wtpt": _xyz_tag(_D50), b"chad": b"sf32\0\0\0\0" + _fixed(*adapt.ravel())}
    return _profile(b"RGB ", tags)


def made_grey_profile(curve: tuple[float, ...]) -> bytes:
    """A profile of grey values."""
    return _profile(b"GRAY", {b"kTRC": _curve_tag(curve), b"wtpt": _xyz_tag(_D50)})


def rgb_of_grey(icc: bytes) -> bytes:
    """An RGB profile that shows three equal values as a profile of grey shows one.

    Raises:
        ValueError: The profile of grey has no curve.
    """
    count = int.from_bytes(icc[128:132], "big")
    entries = [struct.unpack_from(">4sII", icc, 132 + 12 * i) for i in range(count)]
    curve = next((icc[at : at + size] for name, at, size in entries if name == b"kTRC"), None)
    if curve is None:
        raise ValueError("The profile of grey has no curve.")
    columns = np.array([_xyz(xy) for xy in SRGB]).T
    matrix = _adaptation(_xyz(D65)) @ (columns * np.linalg.solve(columns, _xyz(D65)))
    tags = dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), (_xyz_tag(c) for c in matrix.T), strict=True))
    return _profile(b"RGB ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve) | {b"wtpt": _xyz_tag(_D50)})


def _xyz(xy: XY) -> NDArray[np.float64]:
    x, y = xy
    if y <= 0:
        raise ValueError("A colour has no light.")
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _adaptation(white: NDArray[np.float64]) -> NDArray[np.float64]:
    """From a white to the one of the connection space, 3x3."""
    cones = (_BRADFORD @ _D50) / (_BRADFORD @ white)
    return np.asarray(np.linalg.inv(_BRADFORD) @ (cones[:, None] * _BRADFORD))


def _fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(float(value) * 65536) for value in values))


def _xyz_tag(xyz: NDArray[np.float64]) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(*xyz)


def _curve_tag(curve: tuple[float, ...]) -> bytes:
    return b"para\0\0\0\0" + struct.pack(">HH", 0 if len(curve) == 1 else 3, 0) + _fixed(*curve)


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    start, table, body = 132 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"", 0x04400000, b"mntr", space, b"XYZ ").ljust(36, b"\0")
    return rebuilt((head + b"acsp").ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body)
