"""Drawing on pictures: canvases, outlines, tints and thumbnails in sRGB."""

from __future__ import annotations

import io

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from p3mdata.imaging import Picture
from p3mdata.records import Mask

Canvas = NDArray[np.uint8]
Colour = tuple[int, int, int]
# Told apart by people with any kind of colour vision (Okabe and Ito), and from skin.
_ORANGE, _BLUE, _GREEN, _YELLOW = (230, 120, 0), (0, 114, 220), (0, 158, 115), (240, 228, 66)
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
_TINT, _PALE = 0.65, 0.55


def _in_srgb(pixels: Canvas, picture: Picture) -> Canvas:
    if picture.icc is None or picture.pixels.ndim != 3:
        return pixels
    # `decode` keeps a profile only when it can be read.
    profile = ImageCms.ImageCmsProfile(io.BytesIO(picture.icc))
    turned = ImageCms.profileToProfile(Image.fromarray(pixels), profile, ImageCms.createProfile("sRGB"))
    return np.array(turned, np.uint8)


def fit(picture: Picture, width: int, height: int, enlarge: bool = False) -> Canvas:
    """What a viewer shows of a picture, fitted into width x height: HxWx3 sRGB, transparency over grey."""
    shown = picture.over_grey()
    shown = picture.seen8() if shown is None else shown
    rows, cols = picture.size
    factor = min(width / cols, height / rows)
    factor = factor if enlarge else min(1.0, factor)
    size = max(1, round(cols * factor)), max(1, round(rows * factor))
    small = cv2.resize(shown, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST)
    return _in_srgb(np.asarray(small, np.uint8), picture)


def small_grey(matte: Canvas, side: int) -> bytes:
    """PNG file of a matte, HxW uint8, whose longer side is reduced to `side` px; a smaller one keeps its size."""
    factor = min(1.0, side / max(matte.shape))
    size = max(1, round(matte.shape[1] * factor)), max(1, round(matte.shape[0] * factor))
    return bytes(cv2.imencode(".png", cv2.resize(matte, size, interpolation=cv2.INTER_AREA))[1].tobytes())


def _at_size_of(canvas: Canvas, area: Mask) -> NDArray[np.float32]:
    """Share of each canvas pixel that a full-size mask covers, HxW in [0, 1]."""
    height, width = canvas.shape[:2]
    kind = cv2.INTER_AREA if width < area.shape[1] else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(area.astype(np.float32), (width, height), interpolation=kind), np.float32)


def _draw_edge(canvas: Canvas, area: Mask, colour: Colour, rim: bool) -> None:
    """Draw a line around a full-size mask on a small canvas, in place; its rim shows on every picture."""
    # A mask smaller than a pixel of the canvas must show, and the line must not hide what it surrounds.
    grown = cv2.dilate((_at_size_of(canvas, area) > 0.1).astype(np.uint8), np.ones((3, 3), np.uint8))
    contours, _ = cv2.findContours(grown, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    if rim:
        cv2.drawContours(canvas, contours, -1, _BLACK, 3, cv2.LINE_AA)
    cv2.drawContours(canvas, contours, -1, colour, 1, cv2.LINE_AA)


def thumbnail(picture: Picture, facemask: Mask | None, side: int) -> tuple[bytes, int, int]:
    """A small JPEG of a picture with a yellow line around its facemask; its bytes, width and height."""
    canvas = fit(picture, side, side)
    if facemask is not None:
        _draw_edge(canvas, facemask, _YELLOW, rim=True)
    sink = io.BytesIO()
    Image.fromarray(canvas).save(sink, "JPEG", quality=82, optimize=True)
    return sink.getvalue(), canvas.shape[1], canvas.shape[0]
