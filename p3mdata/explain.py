"""The six steps of the paper's figure 3 drawn for one photograph, with the functions that anonymize it.

The drawing shows the clear face: it is for whoever holds the photograph, not for the release.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageDraw, ImageFont

from p3mdata.anonymize import Inputs, Loaded, Masked, anonymize, detect, load, mask, render
from p3mdata.config import Settings
from p3mdata.errors import BrokenInput, SettingsError
from p3mdata.faces.ensemble import Detection, FaceFinder
from p3mdata.images import Picture, decode, write_atomic
from p3mdata.masks import kernel_side, transition_area
from p3mdata.records import Face, ImageResult, Mask, Sample

Canvas = NDArray[np.uint8]
Colour = tuple[int, int, int]

_PANEL_WIDTH, _PANEL_HEIGHT = 640, 720
_COLUMNS = 3
_GAP, _TEXT_SIZE, _LABEL_SIZE = 20, 22, 15
_PAGE, _INK, _SOFT = (255, 255, 255), (27, 32, 38), (89, 99, 110)
# Told apart by people with any kind of colour vision (Okabe and Ito), and from skin.
_ORANGE, _BLUE, _GREEN, _YELLOW = (230, 120, 0), (0, 114, 220), (0, 158, 115), (240, 228, 66)
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
_TINT = 0.55
# Positions with a fraction of a pixel, in OpenCV's fixed-point notation.
_SHIFT = 4


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
    shown = picture.rgb8() if shown is None else shown
    rows, cols = picture.size
    factor = min(width / cols, height / rows)
    factor = factor if enlarge else min(1.0, factor)
    size = max(1, round(cols * factor)), max(1, round(rows * factor))
    small = cv2.resize(shown, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST)
    return _in_srgb(np.asarray(small, np.uint8), picture)


def _at_size_of(canvas: Canvas, area: Mask) -> NDArray[np.float32]:
    """Share of each canvas pixel that a full-size mask covers, HxW in [0, 1]."""
    height, width = canvas.shape[:2]
    kind = cv2.INTER_AREA if width < area.shape[1] else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(area.astype(np.float32), (width, height), interpolation=kind), np.float32)


def draw_edge(canvas: Canvas, area: Mask, colour: Colour) -> None:
    """Draw a line around a full-size mask on a small RGB canvas, in place; black on both sides, so that it shows."""
    # A mask smaller than a pixel of the canvas must show, and the line must not hide what it surrounds.
    grown = cv2.dilate((_at_size_of(canvas, area) > 0.1).astype(np.uint8), np.ones((3, 3), np.uint8))
    contours, _ = cv2.findContours(grown, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, contours, -1, _BLACK, 3, cv2.LINE_AA)
    cv2.drawContours(canvas, contours, -1, colour, 1, cv2.LINE_AA)


def thumbnail(picture: Picture, facemask: Mask | None, side: int, quality: int = 82) -> tuple[bytes, int, int]:
    """A small JPEG of a picture with its facemask as a yellow line; its bytes, width and height."""
    canvas = fit(picture, side, side)
    if facemask is not None:
        draw_edge(canvas, facemask, _YELLOW)
    sink = io.BytesIO()
    Image.fromarray(canvas).save(sink, "JPEG", quality=quality, optimize=True)
    return sink.getvalue(), canvas.shape[1], canvas.shape[0]


def _tinted(canvas: Canvas, area: Mask, colour: Colour) -> Canvas:
    """A copy, greyed a little outside an area and coloured inside it."""
    share = _TINT * _at_size_of(canvas, area)[:, :, None]
    return np.asarray(np.rint(canvas * (1 - share) + np.array(colour, np.float32) * share), np.uint8)


def _dot(canvas: Canvas, x: float, y: float, radius: float, colour: Colour) -> None:
    at = round(x * (1 << _SHIFT)), round(y * (1 << _SHIFT))
    cv2.circle(canvas, at, round(radius * (1 << _SHIFT)), colour, -1, cv2.LINE_AA, _SHIFT)


def _with_faces(canvas: Canvas, faces: tuple[Face, ...], factor: float) -> Canvas:
    """A copy with each face's box, mesh and five points, and a remark at faces without a mesh."""
    canvas = canvas.copy()
    for face in faces:
        left, top, right, bottom = (round(v * factor) for v in face.box)
        found = face.landmarks is not None
        cv2.rectangle(canvas, (left, top), (right, bottom), _BLACK, 3)
        cv2.rectangle(canvas, (left, top), (right, bottom), _WHITE if found else _ORANGE, 1)
        size = (right - left) / 100
        for points, radius, colour in (
            (face.mesh(), float(np.clip(0.7 * size, 0.6, 1.6)), _GREEN),
            (face.five(), float(np.clip(2.2 * size, 1.5, 5.0)), _YELLOW),
        ):
            for x, y in () if points is None else points * factor:
                if colour is _YELLOW:
                    _dot(canvas, x, y, radius + 1, _BLACK)
                _dot(canvas, x, y, radius, colour)
    image = Image.fromarray(canvas)
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=_LABEL_SIZE)
    for face in faces:
        if face.landmarks is None:
            words = "no landmarks"
            width = pen.textlength(words, font)
            x = min(max(0.0, face.box[0] * factor), max(0.0, image.width - width - 8))
            y = min(max(0.0, face.box[3] * factor + 2), image.height - _LABEL_SIZE - 6.0)
            pen.rectangle((x, y, x + width + 8, y + _LABEL_SIZE + 6), fill=_BLACK)
            pen.text((x + 4, y + 2), words, _ORANGE, font)
    return np.array(image, np.uint8)


def _union(masked: Masked, size: tuple[int, int]) -> Mask:
    area = np.zeros(size, bool)
    for patch in masked.private:
        patch.paint(area)
    return area


def _full_transition(loaded: Loaded, masked: Masked, settings: Settings) -> tuple[Mask, str]:
    """Transition area of the whole picture and its caption; `mask` computes it near the faces only."""
    if loaded.trimap is not None:
        return masked.transition, "from the trimap"
    if loaded.alpha is None:
        return masked.transition, "no matte given"
    side = kernel_side(loaded.picture.size, settings.transition_width)
    return transition_area(loaded.alpha, side), f"from the matte, kernel of {side} px"


@dataclass(frozen=True)
class _Panel:
    title: str
    note: str
    canvas: Canvas


def _panels(loaded: Loaded, detection: Detection, masked: Masked, output: bytes, settings: Settings) -> list[_Panel]:
    picture = loaded.picture
    clear = fit(picture, _PANEL_WIDTH, _PANEL_HEIGHT, enlarge=True)
    factor = clear.shape[1] / picture.size[1]
    private = _union(masked, picture.size)
    transition, transition_note = _full_transition(loaded, masked, settings)
    adjusted = _tinted(clear, masked.facemask, _GREEN)
    if private.any():
        draw_edge(adjusted, private, _ORANGE)
    faces = detection.faces
    seen = sum(face.landmarks is not None for face in faces)
    blocks = ", whole JPEG blocks" if masked.blocks is not None else ""
    method, strength = settings.obfuscation()
    result = fit(decode(output, settings.max_pixels), _PANEL_WIDTH, _PANEL_HEIGHT, enlarge=True)
    height, width = picture.size
    return [
        _Panel("Original", f"{width} x {height} px", clear),
        _Panel(
            "Facial landmarks",
            f"{len(faces)} {'face' if len(faces) == 1 else 'faces'}, {seen} with landmarks" if faces else "no face found",
            _with_faces(clear, faces, factor),
        ),
        _Panel(
            "Private area",
            f"{'drawn by hand' if loaded.hand is not None else settings.area.value}, {private.mean():.2%} of the picture",
            _tinted(clear, private, _ORANGE),
        ),
        _Panel("Transition area", transition_note, _tinted(clear, transition, _BLUE)),
        _Panel("Adjusted private area", f"{masked.facemask.mean():.2%} of the picture{blocks}", adjusted),
        _Panel("Result", f"{method.value} {strength:g}", result),
    ]


def _wrapped(words: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getbbox(longer)[2] > width and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _page(panels: list[_Panel], remark: str) -> Image.Image:
    """All panels in rows of three, captions under them, and a remark under all."""
    title_font, font = (ImageFont.load_default(size=size) for size in (_TEXT_SIZE, _TEXT_SIZE - 5))
    height, width = panels[0].canvas.shape[:2]
    step = max(width, _PANEL_WIDTH // 2) + _GAP
    lines = _wrapped(remark, font, _COLUMNS * step - _GAP)
    row = height + 2 * _TEXT_SIZE + _GAP + 12
    page_size = _GAP + _COLUMNS * step, _GAP + len(panels) // _COLUMNS * row + len(lines) * (_TEXT_SIZE + 4) + _GAP
    page = Image.new("RGB", page_size, _PAGE)
    pen = ImageDraw.Draw(page)
    for i, panel in enumerate(panels):
        x, y = _GAP + i % _COLUMNS * step, _GAP + i // _COLUMNS * row
        page.paste(Image.fromarray(panel.canvas), (x, y))
        pen.text((x, y + height + 6), f"{i + 1}  {panel.title}", _INK, title_font)
        pen.text((x, y + height + 6 + _TEXT_SIZE + 5), panel.note, _SOFT, font)
    for i, line in enumerate(lines):
        pen.text((_GAP, _GAP + len(panels) // _COLUMNS * row + i * (_TEXT_SIZE + 4)), line, _INK, font)
    return page


def _verdict(result: ImageResult) -> str:
    reason = ": ".join(part for part in (result.reason, result.detail) if part)
    held = "released" if result.outcome.released else "held back"
    return f"Outcome: {result.outcome.value} ({held}){f' - {reason}' if reason else ''}."


def _check_out(out: Path, inputs: list[Path]) -> None:
    if out.suffix.lower() != ".png":
        raise SettingsError(f"{out}: the drawing is a PNG file. Let its name end in .png.")
    if out.is_dir():
        raise SettingsError(f"{out}: is a folder. Give the name of a file.")
    for path in inputs:
        # Two names of one file count as well.
        if out.resolve() == path.resolve() or (out.exists() and path.exists() and out.samefile(path)):
            raise SettingsError(f"{out}: would overwrite an input. Choose another file name.")


def _read(path: Path | None) -> bytes | None:
    try:
        return None if path is None else path.read_bytes()
    except OSError as exc:
        raise SettingsError(f"{path}: cannot be read ({exc.strerror}). Check the path.") from exc


def explain(
    photo: Path,
    out: Path,
    settings: Settings,
    alpha: Path | None = None,
    trimap: Path | None = None,
    mask: Path | None = None,
) -> None:
    """Draw the six steps of the paper's figure 3 for one photograph.

    Args:
        photo: The photograph.
        out: The PNG file to write; it shows the clear photograph.
        settings: What would be done to it.
        alpha, trimap, mask: Companion files of the photograph.

    Raises:
        SettingsError: A file cannot be read, used or written; the sentence names it.
    """
    _check_out(out, [path for path in (photo, alpha, trimap, mask) if path])
    data = _read(photo)
    assert data is not None
    drawn = _drawn(photo, Inputs(data, _read(alpha), _read(trimap), _read(mask)), settings)
    sink = io.BytesIO()
    drawn.save(sink, "PNG", optimize=True)
    try:
        write_atomic(out, sink.getvalue())
    except OSError as exc:
        raise SettingsError(f"{out}: cannot be written ({exc.strerror}). Choose another place.") from exc


def _drawn(photo: Path, inputs: Inputs, settings: Settings) -> Image.Image:
    try:
        loaded = load(inputs, settings)
        with FaceFinder() as finder:
            detection = detect(loaded, finder)
            masked = mask(loaded, detection, settings)
            output, _, how = render(loaded, masked, settings)
            # The gate judges the very bytes that are drawn.
            result = anonymize(Sample(0, "drawing", photo.name, ""), inputs, settings, finder, detection, output).result
    except BrokenInput as exc:
        raise SettingsError(f"{photo}: {exc.sentence}") from exc
    return _page(_panels(loaded, detection, masked, output, settings), f"{_verdict(result)} Encoding: {how}.")
