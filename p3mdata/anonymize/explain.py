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
from PIL import Image, ImageDraw, ImageFont

from p3mdata.anonymize.areas import mask, transition_of
from p3mdata.anonymize.inputs import Inputs, Loaded, load
from p3mdata.anonymize.masked import Masked
from p3mdata.anonymize.pipeline import anonymize, detect, render
from p3mdata.base.files import write_alone
from p3mdata.base.html import count
from p3mdata.base.ids import new_secret
from p3mdata.base.jsonl import PRIVATE_MODE
from p3mdata.config import Settings
from p3mdata.errors import OTHER_PLACE, BrokenInput, SettingsError, unwritable
from p3mdata.faces.ensemble import Detection, FaceFinder
from p3mdata.imaging import decode
from p3mdata.imaging.draw import (
    _BLACK,
    _BLUE,
    _GREEN,
    _ORANGE,
    _PALE,
    _TINT,
    _WHITE,
    _YELLOW,
    Canvas,
    Colour,
    _at_size_of,
    _draw_edge,
    fit,
)
from p3mdata.imaging.listing import regular_file
from p3mdata.imaging.trimap import kernel_side
from p3mdata.records import Face, ImageResult, Mask, Sample

_PANEL_WIDTH, _PANEL_HEIGHT = 640, 720
_COLUMNS = 3
_GAP, _TEXT_SIZE, _LABEL_SIZE = 20, 22, 15
_INK, _SOFT = (27, 32, 38), (89, 99, 110)
# Pixels of a panel under which the marks of a face are thinned out.
_SMALL_FACE = 45
# Positions with a fraction of a pixel, in OpenCV's fixed-point notation.
_SHIFT = 4


def _tinted(canvas: Canvas, area: Mask, colour: Colour) -> Canvas:
    """A copy: pale grey outside an area, coloured inside it."""
    grey = np.repeat(cv2.cvtColor(canvas, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2).astype(np.float32)
    share = _at_size_of(canvas, area)[:, :, None]
    pale = 255 - (255 - grey) * _PALE
    tinted = grey * (1 - _TINT) + np.array(colour, np.float32) * _TINT
    return np.asarray(np.rint(pale * (1 - share) + tinted * share), np.uint8)


def _draw_points(canvas: Canvas, points: NDArray[np.float64] | None, radius: float, colour: Colour) -> None:
    for x, y in np.empty((0, 2)) if points is None else points:
        at = round(x * (1 << _SHIFT)), round(y * (1 << _SHIFT))
        cv2.circle(canvas, at, round(radius * (1 << _SHIFT)), colour, -1, cv2.LINE_AA, _SHIFT)


def _draw_face(canvas: Canvas, face: Face, factor: float) -> None:
    """Box, mesh and five points of one face, in place; small faces get fewer and smaller marks."""
    left, top, right, bottom = (round(v * factor) for v in face.box)
    width = right - left
    small = width < _SMALL_FACE
    if not small:
        cv2.rectangle(canvas, (left, top), (right, bottom), _BLACK, 4)
    colour = _ORANGE if face.landmarks is None else _WHITE
    cv2.rectangle(canvas, (left, top), (right, bottom), colour, 1 if small and colour == _WHITE else 2)
    mesh, five = face.mesh(), face.five()
    if mesh is not None:
        _draw_points(canvas, mesh[:: 4 if small else 1] * factor, min(max(width / 150, 0.6), 1.6), _GREEN)
    if five is not None:
        radius = min(max(width / 45, 1.0), 5.0)
        _draw_points(canvas, five * factor, radius + (0.3 if small else 1), _BLACK)
        _draw_points(canvas, five * factor, radius, _YELLOW)


def _with_faces(canvas: Canvas, faces: tuple[Face, ...], factor: float) -> Canvas:
    """A copy with all faces drawn; orange boxes have no landmarks, and a single one is named so."""
    canvas = canvas.copy()
    for face in faces:
        _draw_face(canvas, face, factor)
    bare = [face for face in faces if face.landmarks is None]
    if len(bare) != 1:
        return canvas
    image = Image.fromarray(canvas)
    pen, font, words = ImageDraw.Draw(image), ImageFont.load_default(size=_LABEL_SIZE), "no landmarks"
    width, height = round(pen.textlength(words, font)) + 8, _LABEL_SIZE + 6
    x = min(max(0, round(bare[0].box[0] * factor)), max(0, image.width - width))
    y = min(max(0, round(bare[0].box[3] * factor) + 3), max(0, image.height - height))
    pen.rectangle((x, y, x + width, y + height), fill=_BLACK)
    pen.text((x + 4, y + 2), words, _ORANGE, font)
    return np.array(image, np.uint8)


def _faces_note(faces: tuple[Face, ...]) -> str:
    bare = sum(face.landmarks is None for face in faces)
    if not faces:
        return "no face found"
    counted = count(len(faces), "face")
    return f"{counted}; without landmarks (orange): {bare}" if bare else f"{counted} with landmarks"


def _union(masked: Masked, size: tuple[int, int]) -> Mask:
    area = np.zeros(size, bool)
    for patch in masked.private:
        patch.paint(area)
    return area


def _transition_note(loaded: Loaded, settings: Settings) -> str:
    if loaded.trimap is not None:
        return "from the trimap"
    if loaded.alpha is None:
        return "no matte given"
    return f"from the matte, kernel of {kernel_side(loaded.picture.size, settings.transition_width)} px"


@dataclass(frozen=True)
class _Panel:
    title: str
    note: str
    canvas: Canvas


def _panels(loaded: Loaded, detection: Detection, masked: Masked, output: bytes, settings: Settings) -> list[_Panel]:
    """The steps in the order of the figure."""
    picture = loaded.picture
    clear = fit(picture, _PANEL_WIDTH, _PANEL_HEIGHT, enlarge=True)
    factor = clear.shape[1] / picture.size[1]
    private = _union(masked, picture.size)
    transition = transition_of(loaded, settings)
    adjusted = _tinted(clear, masked.facemask, _GREEN)
    if masked.recomposed is not None:
        hidden = cv2.resize(masked.recomposed.view(np.uint8), clear.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0
        adjusted[hidden] = _tinted(clear, masked.recomposed, _BLUE)[hidden]
    _draw_edge(adjusted, private, _ORANGE, rim=False)
    faces = detection.faces
    origin = "drawn by hand" if loaded.hand is not None else f"area {settings.area.value}"
    area = f"{origin}, {private.mean():.2%} of the picture"
    blocks = " in whole JPEG blocks" if masked.blocks is not None else ""
    share = f"{masked.facemask.mean():.2%} of the picture{blocks}; orange: private area"
    share += "; blue: recomposed" if masked.recomposed is not None else ""
    result = fit(decode(output, settings.max_pixels), _PANEL_WIDTH, _PANEL_HEIGHT, enlarge=True)
    return [
        _Panel("Original", f"{picture.size[1]} x {picture.size[0]} px", clear),
        _Panel("Facial landmarks", _faces_note(faces), _with_faces(clear, faces, factor)),
        _Panel("Private area", area, _tinted(clear, private, _ORANGE)),
        _Panel("Transition area", _transition_note(loaded, settings), _tinted(clear, transition, _BLUE)),
        _Panel("Adjusted private area", share, adjusted),
        _Panel("Result", settings.named(), result),
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
    below = _GAP + len(panels) // _COLUMNS * row
    page = Image.new("RGB", (_GAP + _COLUMNS * step, below + len(lines) * (_TEXT_SIZE + 4) + _GAP), _WHITE)
    pen = ImageDraw.Draw(page)
    for i, panel in enumerate(panels):
        x, y = _GAP + i % _COLUMNS * step, _GAP + i // _COLUMNS * row
        page.paste(Image.fromarray(panel.canvas), (x, y))
        pen.text((x, y + height + 6), f"{i + 1}  {panel.title}", _INK, title_font)
        pen.text((x, y + height + 6 + _TEXT_SIZE + 5), panel.note, _SOFT, font)
    for i, line in enumerate(lines):
        pen.text((_GAP, below + i * (_TEXT_SIZE + 4)), line, _INK, font)
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
        return None if path is None else regular_file(path).read_bytes()
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
    drawn = _drawn(
        photo, Inputs(data, _read(alpha), _read(trimap), _read(mask), secret=new_secret().encode()), settings
    )
    sink = io.BytesIO()
    drawn.save(sink, "PNG")
    try:
        write_alone(out, sink.getvalue(), PRIVATE_MODE)
    except OSError as exc:
        raise unwritable(out, exc, OTHER_PLACE, SettingsError) from exc


def _drawn(photo: Path, inputs: Inputs, settings: Settings) -> Image.Image:
    try:
        loaded = load(inputs, settings)
        with FaceFinder() as finder:
            detection = detect(loaded, finder)
            masked = mask(loaded, detection, settings)
            output, _, how = render(loaded, masked, settings)
            # Equal inputs give equal bytes: the gate judges what is drawn.
            sample = Sample(0, "drawing", photo.name, "")
            result = anonymize(sample, inputs, settings, finder, detection).result
    except BrokenInput as exc:
        raise SettingsError(f"{photo}: {exc.sentence}") from exc
    return _page(_panels(loaded, detection, masked, output, settings), f"{_verdict(result)} Encoding: {how}.")
