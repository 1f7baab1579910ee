"""The promise itself, on real photographs with faces checked by eye. Skipped where they are absent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

import p3mdata
from p3mdata.base.jsonl import read_rows
from p3mdata.config import TOLERANCE
from p3mdata.imaging.facemask import RECOMPOSED, REPLACED
from p3mdata.imaging.trimap import kernel_side, transition_area
from tests.factories import shared

pytestmark = pytest.mark.slow

MAX_SHARE_OF_PORTRAITS_IN_REVIEW = 0.1


@dataclass(frozen=True)
class Release:
    """One run over real photographs; rows by source path."""

    source: Path
    run: Path
    rows: dict[str, dict[str, Any]]
    truth: dict[str, dict[str, Any]]

    def file(self, row: dict[str, Any], kind: str) -> Path:
        return self.run / kind / row["files"][kind][0]

    def released(self) -> list[tuple[str, dict[str, Any]]]:
        return [(name, row) for name, row in self.rows.items() if row["files"]]


def _release(source: Path, run: Path, prefixes: list[str], alphas: Path | None) -> Release:
    p3mdata.anonymize_dir(source, run, alphas=alphas)
    rows = {row["source"]: row for row in read_rows(run / "private" / "ledger.jsonl")}
    faces = json.loads((shared() / "faces.json").read_text())
    truth = {}
    for prefix in prefixes:
        strip = prefix if prefix == "mattes/image/" else ""
        truth |= {name.removeprefix(strip): entry for name, entry in faces.items() if name.startswith(prefix)}
    assert set(truth) == set(rows)
    return Release(source, run, rows, truth)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """Portraits, groups and identities without mattes."""
    folder = tmp_path_factory.mktemp("photos")
    for kind in ("portraits", "groups", "identity"):
        for path in sorted((shared() / kind).iterdir()):
            (folder / "src" / kind).mkdir(parents=True, exist_ok=True)
            (folder / "src" / kind / path.name).symlink_to(path.resolve())
    return _release(folder / "src", folder / "run", ["portraits/", "groups/", "identity/"], None)


def _with_mattes(tmp_path_factory: pytest.TempPathFactory, alphas: str) -> Release:
    run = tmp_path_factory.mktemp("mattes") / "run"
    folder = shared() / "mattes"
    return _release(folder / "image", run, ["mattes/image/"], folder / alphas)


@pytest.fixture(scope="module")
def mattes(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """Photographs with predicted mattes; some faces are blurred already, some photographs show none."""
    return _with_mattes(tmp_path_factory, "alpha_r34")


@pytest.fixture(scope="module")
def other_mattes(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """The same with another network's mattes."""
    return _with_mattes(tmp_path_factory, "alpha_vitae")


def _displayed(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB")).astype(np.int16)


def _inner_ellipse(box: list[int], shape: tuple[int, int]) -> np.ndarray:
    """Eyes, nose and mouth of a face box that a person drew."""
    x0, y0, x1, y1 = box
    width, height = x1 - x0, y1 - y0
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    across = (cols - (x0 + x1) / 2) / (0.24 * width)
    down = (rows - (y0 + y1) / 2 - 0.08 * height) / (0.24 * height)
    return across**2 + down**2 <= 1


@pytest.mark.parametrize("name", ["photos", "mattes", "other_mattes"])
def test_no_face_of_a_released_image_is_bare(name: str, request: pytest.FixtureRequest) -> None:
    release: Release = request.getfixturevalue(name)
    bare, faces = [], 0
    for source, row in release.released():
        mask = np.asarray(Image.open(release.file(row, "facemasks"))) > 127
        for box in release.truth[source]["faces"]:
            faces += 1
            if mask[_inner_ellipse(box, mask.shape)].mean() < 0.95:
                bare.append((source, box))
    assert bare == []
    assert faces > (60 if name == "photos" else 0)


def test_most_portraits_are_released_without_review(photos: Release) -> None:
    with_face = [s for s, entry in photos.truth.items() if s.startswith("portraits/") and entry["faces"]]
    held = [source for source in with_face if not photos.rows[source]["files"]]
    assert len(held) <= MAX_SHARE_OF_PORTRAITS_IN_REVIEW * len(with_face), held


@pytest.mark.parametrize("name", ["photos", "mattes", "other_mattes"])
def test_photographs_without_a_face_are_never_released(name: str, request: pytest.FixtureRequest) -> None:
    release: Release = request.getfixturevalue(name)
    empty = [source for source, entry in release.truth.items() if entry["kind"] == "none"]
    assert empty
    assert [source for source in empty if release.rows[source]["files"]] == []


@pytest.mark.parametrize("name", ["photos", "mattes", "other_mattes"])
def test_nothing_outside_the_masks_changed(name: str, request: pytest.FixtureRequest) -> None:
    release: Release = request.getfixturevalue(name)
    for source, row in release.released():
        mask = np.asarray(Image.open(release.file(row, "facemasks"))) > 0
        gap = np.abs(_displayed(release.source / source) - _displayed(release.file(row, "images"))).max(2)
        assert not gap[~mask].any(), source
        assert gap[mask].any(), source


def test_inside_the_transition_areas_only_the_recomposed_changed(mattes: Release, other_mattes: Release) -> None:
    """Nothing there is replaced, and a face in front changes nothing where alpha is 0."""
    checked = 0
    for release in (mattes, other_mattes):
        for source, row in release.released():
            alpha = np.asarray(Image.open(release.file(row, "alphas")))
            band = transition_area(alpha, kernel_side(alpha.shape, 0.02), TOLERANCE)
            mask = np.asarray(Image.open(release.file(row, "facemasks")))
            gap = np.abs(_displayed(release.source / source) - _displayed(release.file(row, "images"))).max(2)
            assert band.any()
            assert not (band & (mask == REPLACED)).any(), source
            assert not gap[band & (mask != RECOMPOSED)].any(), source
            assert not gap[(mask == RECOMPOSED) & (alpha == 0)].any(), source
            checked += 1
    assert checked >= 5


def test_a_photograph_is_never_released_for_a_weak_hit_alone(
    photos: Release, mattes: Release, other_mattes: Release
) -> None:
    for release in (photos, mattes, other_mattes):
        for source, row in release.released():
            assert any(face["landmarks"] or len(face["seen_by"]) > 1 for face in row["faces"]), source


def test_released_alphas_are_the_given_ones(mattes: Release) -> None:
    for source, row in mattes.released():
        original = shared() / "mattes" / "alpha_r34" / f"{Path(source).stem}.png"
        assert np.array_equal(np.asarray(Image.open(original)), np.asarray(Image.open(mattes.file(row, "alphas"))))


def test_held_back_images_left_no_file(photos: Release) -> None:
    names = {path.name for kind in ("images", "facemasks") for path in (photos.run / kind).iterdir()}
    held = {row["id"] for row in photos.rows.values() if not row["files"]}
    assert held
    assert not {name for name in names if name.split(".")[0] in held}
