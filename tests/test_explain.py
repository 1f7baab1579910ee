"""The drawing of the six steps: real steps on a public-domain portrait, and errors that name the file."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from p3mdata.anonymize.explain import explain
from p3mdata.config import Settings
from p3mdata.errors import SettingsError

skimage_data = pytest.importorskip("skimage.data")

pytestmark = pytest.mark.usefixtures("kept_models")

_GAP, _PANEL = 20, 640


@pytest.fixture(scope="module")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("portrait") / "astronaut.jpg"
    Image.fromarray(skimage_data.astronaut()).save(path, quality=92)
    return path


@pytest.fixture(scope="module")
def alpha(portrait: Path) -> Path:
    """An ellipse whose edge cuts through the astronaut's cheek (the face is about x 180-270, y 70-180)."""
    rows, cols = np.mgrid[:512, :512]
    person = ((cols - 320) / 110) ** 2 + ((rows - 330) / 320) ** 2 < 1
    path = portrait.with_name("alpha.png")
    Image.fromarray((person * 255).astype(np.uint8)).save(path)
    return path


def _panels(path: Path) -> list[np.ndarray]:
    """The six pictures of a drawing of a square photograph."""
    with Image.open(path) as image:
        page = np.array(image.convert("RGB")).astype(int)
    starts = [_GAP + i * (_PANEL + _GAP) for i in range(3)]
    # Rows of panels begin where the white page ends.
    inked = (page[:, starts[0] : starts[0] + _PANEL] < 250).any(axis=2).mean(axis=1) > 0.5
    begins = np.flatnonzero(np.diff(inked.astype(int)) == 1) + 1
    tops = [int(top) for top in begins if inked[top : top + _PANEL].mean() > 0.9]
    assert len(tops) == 2
    return [page[top : top + _PANEL, left : left + _PANEL] for top in tops for left in starts]


def _share(panel: np.ndarray, channel: int) -> float:
    """Share of clearly coloured pixels in which a channel is the strongest."""
    vivid = panel.max(axis=2) - panel.min(axis=2) > 60
    return float((vivid & (panel.argmax(axis=2) == channel)).mean())


@pytest.fixture(scope="module")
def drawn(portrait: Path, kept_models: None) -> Path:
    """The six steps of the portrait, without a matte."""
    out = portrait.with_name("steps.png")
    explain(portrait, out, Settings())
    return out


def test_six_steps_without_a_matte(drawn: Path) -> None:
    out = drawn
    # It shows the clear face: for its owner alone.
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    with Image.open(out) as image:
        assert image.format == "PNG" and not image.info.get("exif")
        assert image.width == 3 * (_PANEL + _GAP) + _GAP
    original, landmarks, private, transition, adjusted, result = _panels(out)
    changed = (np.abs(original - result).max(axis=2) > 12).mean()
    assert 0.01 < changed < 0.1
    assert 0.005 < (np.abs(original - landmarks).max(axis=2) > 12).mean() < 0.1
    assert 0.01 < _share(private, 0) < 0.1
    assert (transition.max(axis=2) - transition.min(axis=2)).max() == 0
    # Whole JPEG blocks: at least the private area.
    assert _share(private, 0) * 0.9 < _share(adjusted, 1) < 2 * _share(private, 0)


def test_the_transition_area_is_spared(portrait: Path, alpha: Path, tmp_path: Path) -> None:
    out = tmp_path / "steps.png"
    explain(portrait, out, Settings(transition_width=0.04, boundary="paper"), alpha=alpha)
    original, _, private, transition, adjusted, result = _panels(out)
    band = (transition.argmax(axis=2) == 2) & (transition.max(axis=2) - transition.min(axis=2) > 60)
    assert 0.03 < band.mean() < 0.3
    assert _share(adjusted, 1) < _share(private, 0)
    # A pixel of the panel is smaller than one of the photograph, so the band's own edge is left out.
    inner = band & np.roll(band, 4, 0) & np.roll(band, -4, 0) & np.roll(band, 4, 1) & np.roll(band, -4, 1)
    assert np.abs(original - result)[inner].max() == 0


def test_same_photo_same_bytes(portrait: Path, drawn: Path, tmp_path: Path) -> None:
    explain(portrait, tmp_path / "again.png", Settings())
    assert (tmp_path / "again.png").read_bytes() == drawn.read_bytes()


@pytest.mark.parametrize("shape", [(24, 40), (600, 90), (90, 900)])
def test_pictures_without_a_face_and_of_odd_shapes(tmp_path: Path, shape: tuple[int, int]) -> None:
    photo = tmp_path / "flat.png"
    Image.fromarray(np.full((*shape, 3), 120, np.uint8)).save(photo)
    explain(photo, tmp_path / "steps.png", Settings())
    with Image.open(tmp_path / "steps.png") as image:
        assert image.width >= 3 * (_PANEL // 2) and image.width <= 3 * (_PANEL + _GAP) + _GAP


def test_unreadable_photos_are_named(tmp_path: Path) -> None:
    torn, out = tmp_path / "torn.jpg", tmp_path / "steps.png"
    torn.write_bytes(b"no picture")
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    for photo in (torn, tmp_path / "absent.jpg", tmp_path, pipe):
        with pytest.raises(SettingsError, match=re.escape(f"{photo}: ")) as caught:
            explain(photo, out, Settings())
        assert "\n" not in str(caught.value)
    assert not out.exists()


def test_a_matte_of_another_size_is_named(portrait: Path, tmp_path: Path) -> None:
    matte = tmp_path / "small.png"
    Image.fromarray(np.zeros((10, 10), np.uint8)).save(matte)
    with pytest.raises(SettingsError, match="its alpha is 10x10"):
        explain(portrait, tmp_path / "steps.png", Settings(), alpha=matte)


def test_inputs_are_never_overwritten(alpha: Path, tmp_path: Path) -> None:
    photo, link, twin = tmp_path / "photo.png", tmp_path / "link.png", tmp_path / "twin.png"
    Image.fromarray(np.full((32, 32, 3), 120, np.uint8)).save(photo)
    before = photo.read_bytes()
    link.symlink_to(photo)
    twin.hardlink_to(photo)
    for out in (photo, link, twin, tmp_path / "." / "photo.png"):
        with pytest.raises(SettingsError, match="overwrite"):
            explain(photo, out, Settings())
    with pytest.raises(SettingsError, match="overwrite"):
        explain(photo, alpha, Settings(), alpha=alpha)
    assert photo.read_bytes() == before


def test_the_drawing_is_a_png_file(portrait: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"\.png"):
        explain(portrait, tmp_path / "steps.jpg", Settings())
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(SettingsError, match="is a folder"):
        explain(portrait, tmp_path / "folder.png", Settings())
