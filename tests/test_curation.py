"""Collection rules: copies are found whatever was done to them, others are not, and every reason is told."""

from __future__ import annotations

import base64
import io
import itertools
import json
import os
import re
import stat
import tempfile
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from p3mdata.base.files import sha256
from p3mdata.base.jsonl import read_rows
from p3mdata.curation import (
    NEAR,
    Fingerprint,
    Rules,
    cluster,
    clusters,
    curate_folder,
    distances,
    find_duplicates,
    fingerprint,
    group_ids,
    page,
    scan,
    write_curation,
)
from p3mdata.curation.fingerprints import SIDE, read_luma
from p3mdata.curation.page import write_page
from p3mdata.curation.rules import curate
from p3mdata.curation.scan import Look, Task, blur_of, look_at_all
from p3mdata.errors import SettingsError
from p3mdata.imaging import decode, orient
from p3mdata.records import ImageResult, Outcome
from tests import factories
from tests.factories import astronaut, encoded, face_at, matte, texture

Array = NDArray[np.uint8]


def resized(array: Array, factor: float) -> Array:
    height, width = array.shape[:2]
    return np.asarray(Image.fromarray(array).resize((round(width * factor), round(height * factor)), Image.LANCZOS))


def cropped(array: Array, left: float, top: float, right: float, bottom: float) -> Array:
    height, width = array.shape[:2]
    return array[
        round(top * height) : height - round(bottom * height), round(left * width) : width - round(right * width)
    ]


def copies(array: Array) -> dict[str, bytes]:
    """Files of one photograph after everything that must not hide it."""
    side, all_sides = 0.02, (0.02, 0.02, 0.02, 0.02)
    turned = Image.Exif()
    turned[0x0112] = 6
    sixteen = cv2.imencode(".png", array[:, :, ::-1].astype(np.uint16) * 257)[1].tobytes()
    small = resized(np.ascontiguousarray(cropped(array, *all_sides)[:, ::-1]), 0.3)
    lighter = np.rint(255 * (array / 255) ** 0.9).astype(np.uint8)
    return {
        "original.jpg": encoded(array, quality=92),
        "half.jpg": encoded(resized(array, 0.5), quality=90),
        "third.jpg": encoded(resized(array, 0.3), quality=90),
        "worse.jpg": encoded(array, quality=50),
        "mirrored.jpg": encoded(np.ascontiguousarray(array[:, ::-1]), quality=90),
        "left.jpg": encoded(cropped(array, side, 0, 0, 0), quality=90),
        "top.jpg": encoded(cropped(array, 0, side, 0, 0), quality=90),
        "right.jpg": encoded(cropped(array, 0, 0, side, 0), quality=90),
        "bottom.jpg": encoded(cropped(array, 0, 0, 0, side), quality=90),
        "all-sides.jpg": encoded(cropped(array, *all_sides), quality=90),
        "everything.jpg": encoded(small, quality=50),
        "grey.png": encoded(np.asarray(cv2.cvtColor(array, cv2.COLOR_RGB2GRAY), np.uint8), "PNG"),
        "sixteen.png": sixteen,
        "lossless.webp": encoded(array, "WEBP", lossless=True),
        "turned.jpg": encoded(orient(array, 8), quality=90, exif=turned),
        "lighter.jpg": encoded(lighter, quality=90),
    }


def others(count: int) -> list[Array]:
    return [texture(240 + 8 * seed, 320, seed) for seed in range(count)]


def names_of(folder: Path) -> list[set[str]]:
    return [{member.path for member in members} for members in find_duplicates(folder, workers=1).clusters]


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def made_of(thumbs: NDArray[np.floating], contrast: float = 50.0) -> list[Fingerprint]:
    return [Fingerprint(str(i), 1, 1, 1, contrast, thumb.astype(np.float16)) for i, thumb in enumerate(thumbs)]


def scenes(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Thumbnails with the spectrum of photographs, drawn at random."""
    from benchmarks.duplicates import scenes as drawn

    return np.asarray(drawn(count, seed), np.float32)


# Copies


def test_every_kind_of_copy_is_found_and_nothing_else(tmp_path: Path) -> None:
    planted = copies(astronaut(480))
    write(tmp_path, planted | {f"other{i}.png": encoded(array, "PNG") for i, array in enumerate(others(6))})
    assert names_of(tmp_path) == [set(planted)]


def test_copies_of_several_pictures_stay_apart(tmp_path: Path) -> None:
    groups = [{f"{i}/{name}": data for name, data in copies(array).items()} for i, array in enumerate(others(4))]
    for files in groups:
        write(tmp_path, files)
    assert names_of(tmp_path) == [set(files) for files in groups]


@pytest.mark.slow
def test_real_photographs_all_copies_found_and_no_two_photographs_joined() -> None:
    folder = factories.shared()
    photos = [
        p for d in ("identity", "portraits", "groups", "mattes/image") for p in sorted((folder / d).glob("*.jpg"))
    ]
    # Larger crops of one photograph: neither planted nor different.
    photos = [p for p in photos if "obama_partial" not in p.name]
    assert len(photos) > 50
    marks: list[Fingerprint] = []
    owners: list[int] = []
    for i, path in enumerate(photos):
        files = [path.read_bytes()]
        if i % 6 == 0:
            files += copies(resized(decode(files[0]).pixels, 0.5)).values()
        marks += [fingerprint(data) for data in files]
        owners += [i] * len(files)
    expected = [[k for k, owner in enumerate(owners) if owner == i] for i in range(len(photos))]
    assert cluster(marks) == [members for members in expected if len(members) > 1]


def test_distance_leaves_room_on_both_sides() -> None:
    marks = [fingerprint(data) for data in copies(astronaut(480)).values()]
    thumbs = np.stack([mark.thumb for mark in marks])
    pairs = np.array(list(itertools.combinations(range(len(marks)), 2))).T
    assert distances(thumbs[pairs[0]], thumbs[pairs[1]]).max() < 0.9 * NEAR
    strangers = np.stack([fingerprint(encoded(array, "PNG")).thumb for array in others(8)])
    assert distances(np.repeat(thumbs[:1], 8, 0), strangers).min() > 4 * NEAR


def test_distance_is_symmetric_and_zero_for_a_mirror_image() -> None:
    one, other = scenes(1), scenes(1, 1)
    assert distances(one, other) == pytest.approx(distances(other, one), abs=1e-5)
    assert distances(one, one[:, :, ::-1])[0] == pytest.approx(0, abs=1e-5)


def test_a_changed_part_is_another_picture() -> None:
    array = astronaut(480)
    changed = array.copy()
    changed[40:200, 150:300] = texture(160, 150, 3)
    assert cluster([fingerprint(encoded(a, "PNG")) for a in (array, changed)]) == []


@pytest.mark.parametrize("orientation", range(1, 9))
def test_fast_reading_of_jpeg_agrees_with_decoding(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(astronaut(128)[:96], quality=95, exif=exif)
    slow = cv2.cvtColor(decode(data).pixels, cv2.COLOR_RGB2GRAY)
    fast = read_luma(data)
    assert fast.shape == slow.shape and np.abs(fast.astype(int) - slow).mean() < 1


# Searching


def test_order_changes_nothing() -> None:
    thumbs = scenes(1500)
    thumbs[700:760] = thumbs[100:160, :, ::-1]
    marks = made_of(thumbs)
    mixed = np.random.default_rng(1).permutation(len(marks))
    found = {frozenset(members) for members in cluster(marks)}
    again = {frozenset(int(mixed[i]) for i in members) for members in cluster([marks[i] for i in mixed])}
    assert found == again == {frozenset((100 + i, 700 + i)) for i in range(60)}


def test_search_finds_what_comparing_all_pairs_finds() -> None:
    thumbs = scenes(540)
    rng = np.random.default_rng(2)
    for i in range(180):
        thumbs[360 + i] = thumbs[i] + rng.uniform(0, 0.12) * scenes(1, 1000 + i)[0]
    marks = made_of(thumbs)
    stored = np.stack([mark.thumb for mark in marks]).astype(np.float32)
    first, second = np.triu_indices(len(marks), 1)
    alike = np.abs(np.einsum("nij,mij->nm", stored, stored))[first, second] / SIDE**2 > 0.5
    first, second = first[alike], second[alike]
    near = distances(stored[first], stored[second]) <= NEAR
    joined = {(a, b) for members in cluster(marks) for a, b in itertools.combinations(members, 2)}
    assert 30 < near.sum() < 174
    assert joined == set(zip(first[near].tolist(), second[near].tolist(), strict=True))


def test_many_copies_of_one_picture_take_no_quadratic_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in pairs that are looked at; 8000 pictures have 32 million."""
    looked = {"coarsely": 0, "closely": 0}
    alike, near = clusters._Points._alike, clusters.distances

    def coarsely(points: clusters._Points, some: clusters.Indices, others: clusters.Indices) -> NDArray[np.bool_]:
        looked["coarsely"] += len(some) * len(others)
        return alike(points, some, others)

    def closely(one: NDArray[np.floating], other: NDArray[np.floating]) -> NDArray[np.floating]:
        looked["closely"] += len(one)
        return near(one, other)

    monkeypatch.setattr(clusters._Points, "_alike", coarsely)
    monkeypatch.setattr(clusters, "distances", closely)
    copy = scenes(1) + np.random.default_rng(0).normal(0, 0.01, (8000, SIDE, SIDE))
    for thumbs in (copy, np.repeat(scenes(1), 8000, 0)):
        looked.update(coarsely=0, closely=0)
        assert cluster(made_of(thumbs)) == [list(range(8000))]
        assert max(looked.values()) <= 2 * 8000
    # Of equal pictures one is looked at.
    assert looked["closely"] == 0


def test_flat_pictures_swallow_nothing() -> None:
    files = [encoded(np.full((90, 120 + i, 3), level, np.uint8), "PNG") for i, level in enumerate((0, 0, 128, 255))]
    marks = [fingerprint(data) for data in [*files, files[0], encoded(astronaut(128))]]
    assert all(mark.flat for mark in marks[:5])
    assert cluster(marks) == [[0, 4]]
    assert cluster(made_of(np.zeros((5000, SIDE, SIDE)), contrast=0)) == []


def test_exact_only() -> None:
    data = encoded(astronaut(96))
    marks = [fingerprint(data), fingerprint(encoded(astronaut(96), quality=60)), fingerprint(data)]
    assert cluster(marks, None) == [[0, 2]]
    assert cluster(marks) == [[0, 1, 2]]
    assert cluster([]) == []


# Folders


def test_workers_change_nothing_and_broken_files_are_named(tmp_path: Path) -> None:
    array = astronaut(160)
    write(tmp_path, {f"d/{i}.jpg": encoded(array, quality=60 + i) for i in range(10)})
    write(tmp_path, {"a.jpg": encoded(array)[:2000], "b.png": b"", "c.png": encoded(texture(90, 90), "PNG")})
    (tmp_path / "pipe.jpg").symlink_to("nowhere")
    alone, together = (find_duplicates(tmp_path, workers) for workers in (1, 2))
    assert alone == together
    assert [path for path, _ in alone.unreadable] == ["a.jpg", "b.png", "pipe.jpg"]
    assert "truncated" in alone.unreadable[0][1] and "empty" in alone.unreadable[1][1]
    assert [{m.path for m in members} for members in alone.clusters] == [{f"d/{i}.jpg" for i in range(10)}]
    assert alone.files == 14


seen = scan.look


def _die(task: Task) -> Look:
    if task.path.name == "bad.jpg":
        os._exit(9)
    return seen(task)


def test_a_file_that_kills_its_worker_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {f"{i:02}.jpg": encoded(astronaut(64 + i)) for i in range(12)} | {"bad.jpg": b"x"})
    # Sent to the workers by its name, which is another one there.
    monkeypatch.setattr(scan, "look", _die)
    steps: list[int] = []
    found = find_duplicates(tmp_path, 2, lambda total: lambda: steps.append(total))
    assert [path for path, _ in found.unreadable] == ["bad.jpg"] and "die" in found.unreadable[0][1]
    assert steps == [13] * 13 and len(found.clusters) == 1


def test_group_numbers(tmp_path: Path) -> None:
    array = astronaut(160)
    files = {
        "a.png": encoded(texture(90, 90), "PNG"),
        "b.jpg": encoded(array),
        "c.jpg": b"",
        "d.jpg": encoded(array, quality=50),
    }
    write(tmp_path, files)
    assert group_ids([tmp_path / name for name in files], 1) == [0, 1, 2, 1]


@pytest.mark.parametrize("workers", [1, 2])
def test_looks_do_not_lie_in_memory_nor_stay_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    write(tmp_path, {"a.png": encoded(texture(64, 64), "PNG")})
    tasks = [Task(tmp_path / "a.png")] * 400
    look_at_all(tasks[:20], workers)  # what is loaded once is not counted
    tracemalloc.start()
    looks = look_at_all(tasks, workers)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # A thumbnail alone has 2 bytes per pixel.
    assert len(looks) == 400 and held < 400 * SIDE * SIDE
    assert {seen.fingerprint.sha256 for seen in looks if seen.fingerprint} == {
        sha256((tmp_path / "a.png").read_bytes())
    }
    assert os.listdir(tmp_path) == ["a.png"]


def test_no_room_for_temporary_files_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"a.png": encoded(texture(64, 64), "PNG")})
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match="temporary files.*TMPDIR"):
        find_duplicates(tmp_path, 1)


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for name, words in (("none", "does not exist"), ("file", "is a file"), ("empty", "no pictures")):
        with pytest.raises(SettingsError, match=words):
            find_duplicates(tmp_path / name)


# Rules


def look_of(width: int = 1200, height: int = 1200, **seen: object) -> Look:
    mark = Fingerprint(str(seen.pop("sha", "x")), 1, width, height, 50.0, np.zeros((SIDE, SIDE), np.float16))
    return Look(mark, **{"blur": 1.0, "light": (20, 200)} | seen)  # type: ignore[arg-type]


def row_of(*boxes: tuple[float, float, float, float]) -> ImageResult:
    return ImageResult("id", "x.jpg", Outcome.ANONYMIZED, width=1200, height=1200, faces=tuple(map(face_at, boxes)))


@pytest.mark.parametrize(
    ("look", "row", "code", "words"),
    [
        (look_of(1200, 1079), None, "too_small", "1200x1079"),
        (look_of(1080, 1080), None, None, ""),
        (look_of(person=0.01), None, "person_too_small", "1.0%"),
        (look_of(person=0.99), None, "person_too_large", "99.0%"),
        (look_of(person=0.4), row_of(), None, ""),
        (look_of(), row_of(), "no_person", "no face"),
        (look_of(), row_of((-100, 0, 20, 20)), "face_too_small", "0.03%"),
        (look_of(), row_of((100, 100, 400, 400)), None, ""),
        (Look(problem=("empty_file", "is empty.")), None, "empty_file", "is empty."),
    ],
)
def test_each_rule_has_its_reason(look: Look, row: ImageResult | None, code: str | None, words: str) -> None:
    (entry,) = curate(["x.jpg"], [look], [], Rules(), [row])
    assert (entry.rejected.code if entry.rejected else None) == code
    assert words in (entry.rejected.sentence if entry.rejected else "")


def test_warnings_reject_nothing() -> None:
    looks = [look_of(blur=4.0), look_of(light=(0, 40)), look_of(light=(200, 255)), look_of()]
    entries = curate(list("abcd"), looks, [], Rules())
    assert [[one.code for one in entry.warnings] for entry in entries] == [["blurred"], ["dark"], ["bright"], []]
    assert all(entry.rejected is None for entry in entries)


def test_best_copy_is_kept_and_named_by_the_others() -> None:
    looks = [
        look_of(1100, 1100, sha="s"),
        look_of(blur=2.0, sha="m"),
        look_of(sha="b"),
        look_of(sha="b"),
        look_of(4000, 900),
    ]
    names = ["small", "soft", "z", "sharp", "flat"]
    entries = curate(names, looks, [[0, 1, 2, 3, 4]], Rules())
    assert [entry.rejected.code if entry.rejected else "" for entry in entries] == [
        "near_duplicate", "near_duplicate", "exact_duplicate", "", "too_small",
    ]  # fmt: skip
    assert all("sharp" in entry.rejected.sentence for entry in entries[:3] if entry.rejected)


def test_strong_compression_is_not_taken_for_sharpness(tmp_path: Path) -> None:
    array = astronaut(480)
    write(tmp_path, {"a.jpg": encoded(array, quality=30), "b.jpg": encoded(array, quality=95)})
    assert curate_folder(tmp_path, Rules(min_side=0), workers=1).kept == ["b.jpg"]
    assert find_duplicates(tmp_path, 1).clusters[0][0].path == "b.jpg"


def test_a_copy_of_a_rejected_picture_is_kept() -> None:
    looks = [look_of(2000, 2000, person=0.0, sha="1"), look_of(person=0.5, sha="2")]
    entries = curate(["big", "good"], looks, [[0, 1]], Rules())
    assert [entry.rejected.code if entry.rejected else None for entry in entries] == ["person_too_small", None]


def test_blur_is_measured_in_pixels() -> None:
    grey = cv2.cvtColor(astronaut(512), cv2.COLOR_RGB2GRAY)
    soft = [blur_of(np.asarray(cv2.GaussianBlur(grey, (0, 0), sigma), np.uint8)) for sigma in (2, 3)]
    assert blur_of(np.asarray(grey)) < 1.5 and soft == pytest.approx([2.1, 3.0], abs=0.4)
    assert blur_of(np.zeros((50, 50), np.uint8)) == 0


def test_curation_of_a_folder(tmp_path: Path) -> None:
    array, photos = astronaut(400), tmp_path / "photos"
    write(
        photos,
        {
            "best.jpg": encoded(array, quality=95),
            "sub/again.jpg": encoded(cropped(array, 0.02, 0, 0, 0), quality=60),
            "copy.jpg": encoded(array, quality=95),
            "small.jpg": encoded(astronaut(200)),
            "line\nbreak.jpg": encoded(texture(400, 400, 1)),
            "nobody.png": encoded(texture(400, 400, 2), "PNG"),
            "odd.png": encoded(texture(400, 410, 3), "PNG"),
            "dark.png": encoded(texture(400, 400, 4) // 8, "PNG"),
            "torn.jpg": encoded(array)[:3000],
        },
    )
    mattes = {"best": matte(400), "nobody": np.zeros((400, 400), np.uint8), "odd": matte(200), "dark": matte(400)}
    write(tmp_path / "mattes", {f"{name}.png": encoded(array, "PNG") for name, array in mattes.items()})
    rules = Rules(min_side=300, max_blur=50)
    curations = [curate_folder(photos, rules, tmp_path / "mattes", workers=workers) for workers in (1, 2)]
    assert curations[0] == curations[1]
    out = tmp_path / "out"
    write_curation(curations[0], out)
    assert (out / "kept.txt").read_text() == "best.jpg\ndark.png\n"
    # They name photographs.
    assert {stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()} == {0o600} and len(list(out.iterdir())) == 4
    rejected = {row["source"]: row["reason"] for row in read_rows(out / "rejected.jsonl")}
    assert rejected == {
        "copy.jpg": "exact_duplicate",
        "line\nbreak.jpg": "line_break_in_name",
        "nobody.png": "person_too_small",
        "odd.png": "alpha_other_size",
        "small.jpg": "too_small",
        "sub/again.jpg": "near_duplicate",
        "torn.jpg": "cannot_decode",
    }
    assert [row["source"] for row in read_rows(out / "warnings.jsonl")] == ["dark.png"]
    assert "near_duplicate" in (out / "duplicates.html").read_text()
    exact = curate_folder(photos, Rules(min_side=300, near_duplicates=False), workers=1)
    assert "sub/again.jpg" in exact.kept and "copy.jpg" not in exact.kept


def test_faces_of_a_run_tell_the_person(tmp_path: Path) -> None:
    write(tmp_path / "photos", {"a.jpg": encoded(astronaut(300)), "b.jpg": encoded(texture(300, 300, 1))})
    rows = [row_of((50, 50, 150, 150)), row_of()]
    lines = [json.dumps({**row.to_json(), "source": name}) for row, name in zip(rows, ("a.jpg", "b.jpg"), strict=True)]
    write(tmp_path / "run", {"private/ledger.jsonl": "\n".join(lines).encode() + b"\n"})
    found = curate_folder(tmp_path / "photos", Rules(min_side=0), run=tmp_path / "run", workers=1)
    assert found.kept == ["a.jpg"] and found.reasons == {"no_person": 1}
    with pytest.raises(SettingsError, match="not a finished run"):
        curate_folder(tmp_path / "photos", run=tmp_path)


def test_rules_refuse_what_they_do_not_know() -> None:
    for wrong in ({"min_sides": 3}, {"distance": 0.5}, {"min_person": 2}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Rules(**wrong)


# The page


def images_of(html: str) -> list[Image.Image]:
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in re.findall(r"base64,([^\"]+)\"", html)]


def test_page_shows_no_clear_face_and_escapes_names(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    write(
        folder,
        {"<script>&.jpg": encoded(astronaut(512)), "b\u202e.png": encoded(astronaut(400), "PNG"), "x<i>.png": b"?"},
    )
    write_page(find_duplicates(folder, 1), tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    assert "<script" not in html and "&lt;script&gt;&amp;.jpg" in html and "x&lt;i&gt;.png" in html
    assert "\u202e" not in html and "http" not in html.replace("http-equiv", "")
    shown = images_of(html)
    assert [image.size for image in shown] == [(page.CELLS, page.CELLS)] * 2
    # The face, a fifth of the picture wide, has no more than these cells.
    assert page.CELLS * 0.2 < 5


def test_page_shows_released_files_as_they_are_until_they_are_changed(tmp_path: Path) -> None:
    images = {f"{i}.jpg": encoded(astronaut(256), quality=80 + i) for i in range(2)}
    write(tmp_path, {f"images/{name}": data for name, data in images.items()} | {"plan.json": b"{}"})
    marks = {name: fingerprint(data).sha256 for name, data in images.items()}
    rows = [json.dumps({"image": {"path": f"images/{name}", "sha256": mark}}) for name, mark in marks.items()]
    (tmp_path / "manifest.jsonl").write_text("\n".join(rows) + "\n")
    for changed in (False, True):
        if changed:
            (tmp_path / "images" / "1.jpg").write_bytes(encoded(astronaut(256), quality=70))
        found = find_duplicates(tmp_path, 1)
        assert found == find_duplicates(tmp_path / "images", 1)
        write_page(found, tmp_path / "page.html")
        assert [max(i.size) > page.CELLS for i in images_of((tmp_path / "page.html").read_text())] == [
            True,
            not changed,
        ]


def test_page_of_thousands_of_clusters_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "MOST_CLUSTERS", 2)
    monkeypatch.setattr(page, "MOST_MEMBERS", 2)
    for i in range(4):
        data = encoded(texture(80, 90, i), "PNG")
        write(tmp_path, {f"{i}-{k}.png": data for k in range(3)})
    write_page(find_duplicates(tmp_path, 1), tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    assert "first 2 of 4" in html and html.count("1 more copy") == 2 and len(images_of(html)) == 4
