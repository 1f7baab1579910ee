"""The embedded sample: one public-domain portrait in many sizes, orientations and formats, with a synthetic matte.

The portrait is NASA's photograph of Eileen Collins as it ships in scikit-image's wheel.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from p3mdata.base.files import write_alone
from p3mdata.errors import OTHER_PLACE, SettingsError, SetupError, unwritable
from p3mdata.records import Outcome

_PERSON = (
    (150, 60), (172, 18), (222, 2), (270, 14), (296, 56), (300, 120), (290, 170), (330, 196), (400, 240), (430, 330),
    (436, 511), (50, 511), (56, 330), (80, 240), (130, 200), (158, 175), (150, 120),
)  # fmt: skip
_SOFTNESS = 3.0
_TURN = {3: 2, 6: 1, 8: 3}


@dataclass(frozen=True)
class DemoSample:
    """Folders of the sample and the outcomes that a working installation comes to."""

    photos: Path
    mattes: Path
    expected: dict[str, int]


def portrait() -> NDArray[np.uint8]:
    """The 512x512 RGB portrait.

    Raises:
        SetupError: scikit-image is not installed.
    """
    try:
        from skimage import data
    except ImportError as exc:
        raise SetupError("The sample portrait is in scikit-image: run 'pip install scikit-image'.") from exc
    portrait: Callable[[], Any] = data.astronaut
    return np.asarray(portrait(), np.uint8)


def synthetic_matte(side: int) -> NDArray[np.uint8]:
    """A hand-made outline of the person in `portrait` with a soft edge, side x side, 0-255. Not a true matte."""
    scale = 8
    canvas = np.zeros((512, 512), np.uint8)
    cv2.fillPoly(canvas, [np.array(_PERSON, np.int32) * scale], 255, shift=3)
    soft = cv2.GaussianBlur(canvas, (0, 0), _SOFTNESS)
    return np.asarray(cv2.resize(soft, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8)


def _at(side: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(portrait(), (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)


def _encoded(array: NDArray[Any], name: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(array).save(sink, name, **options)
    return sink.getvalue()


def _upright(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The middle of a square picture: of one that is higher than wide, its matte's shape tells how it is turned."""
    margin = array.shape[1] // 10
    return np.ascontiguousarray(array[:, margin:-margin])


def _stored_turned(shown: NDArray[np.uint8], orientation: int, name: str, **options: Any) -> bytes:
    """Stored turned, with the EXIF orientation, a place and a thumbnail note that must not survive."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "a camera that could identify its owner"
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0)})
    return _encoded(np.ascontiguousarray(np.rot90(shown, _TURN[orientation])), name, exif=exif, **options)


def _files() -> dict[str, bytes]:
    rgb = _at(1080)
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    matte = synthetic_matte(1080)
    sixteen = cv2.imencode(".png", rgb[:, :, ::-1].astype(np.uint16) * 257)[1].tobytes()
    return {
        "as-shipped.jpg": _encoded(portrait(), "JPEG", quality=92, subsampling=2),
        "large.jpg": _encoded(_at(1600), "JPEG", quality=88, subsampling=2, progressive=True),
        "turned-6.jpg": _stored_turned(_upright(_at(1088)), 6, "JPEG", quality=90),
        "turned-3.jpg": _stored_turned(_at(900), 3, "JPEG", quality=90),
        "grey.png": _encoded(np.asarray(grey, np.uint8), "PNG"),
        "sixteen-bit.png": sixteen,
        "cut-out.png": _encoded(np.dstack([rgb, matte]), "PNG"),
        "lossless.webp": _encoded(rgb, "WEBP", lossless=True),
        "scan.tif": _encoded(rgb, "TIFF"),
        "no-face.jpg": _encoded(np.ascontiguousarray(rgb[600:, :1000]), "JPEG", quality=90),
        "truncated.jpg": _encoded(_at(700), "JPEG", quality=90)[:20000],
    }


def make_sample(folder: Path) -> DemoSample:
    """Write the sample's photos and mattes below a folder.

    Raises:
        SetupError: scikit-image is missing.
        SettingsError: The folder cannot be written.
    """
    photos, mattes = folder / "photos", folder / "mattes"
    try:
        for name, data in _files().items():
            write_alone(photos / name, data)
            stem = Path(name).stem
            if stem == "turned-3":
                # Turned by half, both have one shape: the matte says for itself how it lies.
                write_alone(mattes / f"{stem}.png", _stored_turned(synthetic_matte(900), 3, "PNG"))
                continue
            if stem == "truncated":
                matte = synthetic_matte(700)
            elif stem == "turned-6":
                matte = _upright(synthetic_matte(1088))
            elif stem == "no-face":
                matte = np.ascontiguousarray(synthetic_matte(1080)[600:, :1000])
            else:
                with Image.open(io.BytesIO(data)) as picture:
                    matte = synthetic_matte(picture.size[0])
            write_alone(mattes / f"{stem}.png", _encoded(matte, "PNG"))
    except OSError as exc:
        raise unwritable(folder, exc, OTHER_PLACE, SettingsError) from exc
    expected = {outcome.value: 0 for outcome in Outcome}
    expected |= {Outcome.ANONYMIZED.value: 9, Outcome.NEEDS_REVIEW.value: 1, Outcome.BROKEN.value: 1}
    return DemoSample(photos, mattes, expected)
