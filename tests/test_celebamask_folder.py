"""celeba-facemask over a folder: what is written, stopped anywhere, gone on with, refused; faces by landmarks."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from p3mdata.anonymize.masks import bare_parts
from p3mdata.celebamask import (
    Annotations,
    FacemaskRun,
    FaceRule,
    Refusal,
    chunks,
    driver,
    make_facemasks,
)
from p3mdata.celebamask.sheet import contact_sheet
from p3mdata.errors import EXIT_BUG, EXIT_HELD_BACK, EXIT_OK, Interrupted, P3MError, RunFolderError
from p3mdata.faces.ensemble import FaceFinder
from p3mdata.records import Mask
from tests.factories import astronaut, astronaut_face, encoded, texture
from tests.runs import PATIENCE, wait_until
from tests.test_celebamask import BROWS, EYES, SIDE, Parts, annotated, iou

# The folder


def write_part(root: Path, number: int, part: str, grey: NDArray[np.uint8], channels: int = 3) -> Path:
    """One part as the data set has it: three equal channels."""
    path = root / "CelebAMask-HQ-mask-anno" / str(number // 2000) / f"{number:05d}_{part}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.repeat(grey[:, :, None], 3, 2) if channels == 3 else grey)
    return path


def write_face(root: Path, number: int, parts: Parts, photo: bool = True) -> None:
    """One image with its annotation."""
    for part, mask in parts.items():
        write_part(root, number, part, mask.astype(np.uint8) * 255)
    if photo:
        path = root / "CelebA-HQ-img" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(texture(1024, 1024, number)))


@pytest.fixture(scope="module")
def celeba(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 14 images, 10 of which have a facemask; the photograph of one is not there."""
    root = tmp_path_factory.mktemp("celeba") / "CelebAMask-HQ"
    for number in range(8):
        write_face(root, number, annotated(5 * number, raised=number), photo=number != 3)
    write_face(root, 8, annotated(without=("l_brow",)))
    write_face(root, 2001, annotated(without=BROWS))
    write_face(root, 2002, annotated(without=(*BROWS, *EYES)))
    write_face(root, 4790, annotated())
    write_face(root, 4995, annotated())
    write_face(root, 6000, {})
    return root


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def contents(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.fixture(scope="module", autouse=True)
def small_chunks() -> Iterator[None]:
    """Several chunks out of a few images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Annotations, "chunk", 3)
        yield


@pytest.fixture(scope="module")
def finished(celeba: Path, small_chunks: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FacemaskRun]:
    """Facemasks of `celeba`, made by two workers."""
    out = tmp_path_factory.mktemp("facemasks") / "out"
    return out, make_facemasks(celeba, out, workers=2)


def test_parts_as_the_data_set_has_them(tmp_path: Path) -> None:
    parts = annotated(12)
    write_face(tmp_path, 2345, parts)
    read = Annotations(tmp_path).parts("2345")
    assert set(read) == set(parts) - {"neck"}
    for name, mask in read.items():
        assert mask.dtype == np.bool_
        assert np.array_equal(mask, parts[name])


def test_parts_saved_in_other_ways(tmp_path: Path) -> None:
    skin = annotated()["skin"]
    grey = skin.astype(np.uint8) * 255
    write_part(tmp_path, 0, "skin", grey, channels=1)
    write_part(tmp_path, 0, "nose", grey).write_bytes(encoded(np.dstack([grey] * 3), "JPEG", quality=60))
    write_part(tmp_path, 0, "hair", grey).write_bytes(encoded(np.dstack([grey, grey, grey, 255 + 0 * grey]), "PNG"))
    write_part(tmp_path, 0, "hat", np.zeros_like(grey))
    write_part(tmp_path, 0, "mouth", grey).write_bytes(encoded(skin, "PNG"))
    read = Annotations(tmp_path).parts("0")
    for name in ("skin", "hair", "mouth"):
        assert np.array_equal(read[name], skin), name
    # JPEG leaves grey edges.
    assert iou(read["nose"], skin) > 0.99
    assert not read["hat"].any()


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _damaged(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


def _enormous(path: Path) -> None:
    data = path.read_bytes()
    header = b"IHDR" + 2 * (100_000).to_bytes(4, "big") + data[24:29]
    path.write_bytes(data[:12] + header + zlib.crc32(header).to_bytes(4, "big") + data[33:])


def _half_size(path: Path) -> None:
    path.write_bytes(encoded(np.zeros((SIDE // 2, SIDE // 2, 3), np.uint8), "PNG"))


@pytest.mark.parametrize(
    ("code", "spoil"),
    [
        ("unreadable_part", _truncated),
        ("unreadable_part", _damaged),
        ("unreadable_part", _enormous),
        ("unreadable_part", lambda path: path.write_bytes(b"")),
        ("unreadable_part", lambda path: (path.unlink(), path.mkdir())),
        ("other_size", _half_size),
        ("not_a_mask", lambda path: path.write_bytes(encoded(texture(SIDE, SIDE), "PNG"))),
        ("not_a_mask", lambda path: path.write_bytes(encoded(annotated()["skin"].astype(np.uint8), "PNG"))),
    ],
)
def test_files_that_cannot_be_used_are_named(tmp_path: Path, code: str, spoil: Callable[[Path], object]) -> None:
    write_face(tmp_path, 7, annotated())
    spoil(write_part(tmp_path, 7, "l_eye", annotated()["l_eye"].astype(np.uint8) * 255))
    with pytest.raises(Refusal) as caught:
        Annotations(tmp_path).facemask("7")
    assert caught.value.code == code
    assert "0/00007_l_eye.png" in caught.value.sentence


def test_every_image_is_in_one_of_the_lists(celeba: Path, finished: tuple[Path, FacemaskRun]) -> None:
    out, run = finished
    made, refused = rows(out / "facemasks.jsonl"), rows(out / "refused.jsonl")
    assert [row["id"] for row in made] == [*map(str, range(9)), "2001"]
    assert {row["id"]: row["reason"] for row in refused} == {
        "2002": "no_brows_no_eyes", "4790": "known_bad", "4995": "known_bad", "6000": "no_annotation"
    }  # fmt: skip
    assert all(row["sentence"] for row in refused)
    assert run.rules == {"both_brows": 8, "one_brow": 1, "eyes": 1}
    assert run.refused == {"known_bad": 2, "no_annotation": 1, "no_brows_no_eyes": 1}
    assert (run.images, run.facemasks, run.pairs, run.exit_code) == (14, 10, 9, EXIT_OK)
    assert chunks_done(out) == 5
    assert driver.count_done(out) == 14
    for row in made:
        data = (out / row["facemask"]).read_bytes()
        assert row["sha256"] == driver.sha256(data)
        grey = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        assert grey.dtype == np.uint8
        assert grey.shape == (row["height"], row["width"]) == (SIDE, SIDE)
        expected, rule = Annotations(celeba).facemask(row["id"])
        assert np.array_equal(grey, expected * 255)
        assert row["rule"] == rule.value
        assert row["share"] == pytest.approx(expected.mean(), abs=1e-4)


def test_pairs_are_there(celeba: Path, finished: tuple[Path, FacemaskRun]) -> None:
    out, _ = finished
    pairs = rows(out / "pairs.jsonl")
    assert [pair["facemask"] for pair in pairs] == [
        f"facemask/{number}.png" for number in (0, 1, 2, *range(4, 9), 2001)
    ]
    for pair in pairs:
        assert (celeba / pair["image"]).is_file()
        assert (out / pair["facemask"]).is_file()
        assert Path(pair["image"]).stem == Path(pair["facemask"]).stem


def test_contact_sheet(celeba: Path, finished: tuple[Path, FacemaskRun], tmp_path: Path) -> None:
    out, _ = finished
    sheet = cv2.imread(str(out / "contact_sheet.jpg"))
    assert sheet.shape[1] > 1000
    # Photographs are in colour, the facemask without one is grey (the fourth cell), labels and paper too.
    colour = (sheet.max(2).astype(int) - sheet.min(2)).mean(0)
    third, fourth = colour[360:480].mean(), colour[520:640].mean()
    assert third > 20 > fourth
    assert (out / "contact_sheet.jpg").stat().st_mode & 0o077 == 0
    assert cv2.imdecode(np.frombuffer(contact_sheet([]), np.uint8), cv2.IMREAD_COLOR) is not None


def chunks_done(out: Path) -> int:
    return len(list((out / "private" / "chunks").glob("*.jsonl")))


def test_same_bytes_for_any_number_of_workers(celeba: Path, finished: tuple[Path, FacemaskRun], tmp_path: Path) -> None:
    make_facemasks(celeba, tmp_path / "out", workers=1)
    assert contents(tmp_path / "out") == contents(finished[0])


def test_interrupted_and_damaged_chunks_are_done_again(
    celeba: Path, finished: tuple[Path, FacemaskRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, made, make = tmp_path / "out", [], Annotations.facemask

    def until(self: Annotations, name: str) -> tuple[Mask, FaceRule]:
        made.append(name)
        if len(made) == 5:
            raise KeyboardInterrupt
        return make(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(Annotations, "facemask", until)
        with pytest.raises(Interrupted):
            make_facemasks(celeba, out, workers=1)
        assert chunks_done(out) == 1
        # The finished chunk is not made again, the half of the next one is.
        make_facemasks(celeba, out, workers=1)
        assert made[5:7] == ["3", "4"]
    assert contents(out) == contents(finished[0])
    # A facemask that is gone, a chunk that is gone, a torn file.
    (out / "facemask" / "4.png").unlink()
    next((out / "private" / "chunks").glob("*2.jsonl")).unlink()
    (out / "facemask" / ".9.png.1.tmp").write_bytes(b"torn")
    with monkeypatch.context() as patch:
        made.clear()
        made += [""] * 5
        patch.setattr(Annotations, "facemask", until)
        make_facemasks(celeba, out, workers=1)
    assert made[5:] == ["3", "4", "5", "6", "7", "8"]
    assert contents(out) == contents(finished[0])


# The first chunk is made; in all others an image takes until the run is told to stop, or for ever.
HELD = """
import faulthandler, multiprocessing, os, signal, sys, time
from pathlib import Path
from p3mdata.base import pool
from p3mdata.celebamask import Annotations, driver, make_facemasks
from p3mdata.errors import Interrupted

ASKED = Path(sys.argv[2]).parent / "asked"
dismiss = pool._dismiss

def told(workers):
    for worker in workers:
        worker.link.close()
    ASKED.touch()
    dismiss(workers)

class Held(Annotations):
    chunk = 3
    def facemask(self, name):
        # Ctrl-C is the parent's; a bug would be in the rows.
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        parent = multiprocessing.parent_process().pid
        while int(name) > 2 and not ASKED.exists() and os.getppid() == parent:
            time.sleep(0.01)
        return super().facemask(name)

if __name__ == "__main__":
    # Who hangs says where.
    faulthandler.dump_traceback_later(PATIENCE / 2, exit=True)
    driver.Annotations, pool._dismiss = Held, told
    try:
        make_facemasks(Path(sys.argv[1]), Path(sys.argv[2]), workers=2)
    except Interrupted:
        sys.exit(130)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)], ids=["kill", "ctrl-c"])
def test_a_killed_run_goes_on(
    celeba: Path, finished: tuple[Path, FacemaskRun], tmp_path: Path, number: int, code: int
) -> None:
    (tmp_path / "held.py").write_text(HELD.replace("PATIENCE", str(PATIENCE)))
    out = tmp_path / "out"
    command = [sys.executable, str(tmp_path / "held.py"), str(celeba), str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True) as process:
        wait_until(lambda: chunks_done(out) == 1, process)
        # Ctrl-C reaches the workers too, a kill does not.
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        try:
            # The stream ends when the workers, who hold it as well, are gone.
            said = process.communicate(timeout=PATIENCE)[1]
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        assert (process.returncode, b"Traceback" in said) == (code, False), said
    assert chunks_done(out) == 1
    assert not (out / "facemasks.jsonl").exists()
    make_facemasks(celeba, out, workers=1)
    assert contents(out) == contents(finished[0])


def test_a_bug_or_a_full_disk_in_one_image(celeba: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(self: Annotations, name: str) -> tuple[Mask, FaceRule]:
        raise ZeroDivisionError("one over nothing")

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Annotations, "facemask", bug)
        run = make_facemasks(celeba, tmp_path / "bug", workers=1, limit=2)
    assert run.refused == {"internal_error": 2}
    assert run.exit_code == EXIT_BUG
    assert "one over nothing" in rows(tmp_path / "bug" / "refused.jsonl")[0]["sentence"]
    with monkeypatch.context() as patch:
        patch.setattr(chunks, "write_atomic", full)
        with pytest.raises(RunFolderError, match="No space left"):
            make_facemasks(celeba, tmp_path / "full", workers=1)


def test_progress_reaches_the_total(celeba: Path, tmp_path: Path) -> None:
    out, seen, totals = tmp_path / "out", [], []

    def start(total: int) -> Callable[[], None]:
        totals.append(total)
        return lambda: seen.append(driver.count_done(out))

    make_facemasks(celeba, out, workers=1, limit=7, progress=start)
    assert totals == [7]
    assert seen[-1] == 7
    assert seen == sorted(seen)


def test_folders_that_cannot_be_used(celeba: Path, finished: tuple[Path, FacemaskRun], tmp_path: Path) -> None:
    (tmp_path / "empty" / "CelebAMask-HQ-mask-anno" / "0").mkdir(parents=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "settings.json").write_text('{"settings": 3}')
    other = tmp_path / "other"
    write_face(other, 0, annotated())
    out = tmp_path / "out"
    for source, target, options, words in [
        (tmp_path / "missing", out, {}, "missing: is not a folder"),
        (tmp_path / "full", out, {}, "full: has no folder CelebAMask-HQ-mask-anno"),
        (tmp_path / "empty", out, {}, "holds no file like 0/00000_skin.png"),
        (tmp_path / "empty", out, {"from_landmarks": True}, "empty: holds no pictures"),
        (celeba, celeba / "out", {}, "must not lie inside each other"),
        (celeba, tmp_path / "full", {}, "full: is not empty"),
        (celeba, tmp_path / "full" / "mine.txt", {}, "is a file"),
        (celeba, tmp_path / "foreign", {}, "is not of p3mdata"),
        (other, finished[0], {}, "source"),
        (celeba, finished[0], {"limit": 3}, "limit"),
        (celeba, finished[0], {"from_landmarks": True}, "from"),
    ]:
        with pytest.raises(P3MError, match=words) as caught:
            make_facemasks(source, target, workers=1, **options)
        assert "\n" not in str(caught.value)
        assert str(caught.value).endswith(".")
    assert not out.exists()


# Landmarks


@pytest.fixture(scope="module")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("portraits") / "photos"
    (root / "more").mkdir(parents=True)
    (root / "more" / "astronaut.jpg").write_bytes(encoded(astronaut(), quality=95))
    two = np.full((SIDE, 720, 3), 128, np.uint8)
    two[:, :SIDE], two[:200, 520:] = astronaut(), astronaut(200)
    (root / "two.png").write_bytes(encoded(two, "PNG"))
    (root / "cut.png").write_bytes(encoded(astronaut()[:, 225:], "PNG"))
    (root / "text.jpg").write_bytes(b"no picture")
    (root / "wall.png").write_bytes(encoded(np.full((200, 300, 3), 90, np.uint8), "PNG"))
    return root


def test_facemasks_from_landmarks(portraits: Path, tmp_path: Path, kept_models: FaceFinder) -> None:
    out = tmp_path / "out"
    run = make_facemasks(portraits, out, workers=1, from_landmarks=True)
    made = rows(out / "facemasks.jsonl")
    assert [(row["id"], row["rule"], row["width"]) for row in made] == [
        ("more/astronaut", "landmarks", SIDE),
        ("two", "landmarks", 720),
    ]
    face = astronaut_face()
    mesh = face.mesh()
    assert mesh is not None
    (column, row), (left, top, right, bottom) = np.rint(mesh[[10, 151]].mean(0)).astype(int), np.rint(face.box)
    for name in ("more/astronaut", "two"):
        grey = cv2.imread(str(out / "facemask" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert set(np.unique(grey)) == {0, 255}
        # The larger face, and of it not the forehead.
        assert bare_parts(face, grey > 0) == []
        assert not grey[row, column]
        assert (grey > 0).sum() < (right - left) * (bottom - top)
    pairs = [(pair["image"], pair["facemask"]) for pair in rows(out / "pairs.jsonl")]
    assert pairs == [("more/astronaut.jpg", "facemask/more/astronaut.png"), ("two.png", "facemask/two.png")]
    reasons = {row["id"]: row["reason"] for row in rows(out / "refused.jsonl")}
    assert reasons.pop("cut") in ("cut_off", "no_landmarks", "detectors_disagree")
    assert reasons == {"text": "not_an_image", "wall": "no_face"}
    assert (run.images, run.pairs, run.exit_code) == (5, 2, EXIT_OK)
    before = contents(out)
    make_facemasks(portraits, out, workers=1, from_landmarks=True)
    assert contents(out) == before


def test_photographs_of_one_name(tmp_path: Path, kept_models: FaceFinder) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    for name in ("a.jpg", "a.png", "b.png"):
        (root / name).write_bytes(b"no picture")
    run = make_facemasks(root, tmp_path / "out", workers=1, from_landmarks=True)
    assert [row["id"] for row in rows(tmp_path / "out" / "refused.jsonl")] == ["a.jpg", "a.png", "b.png"]
    assert run.exit_code == EXIT_HELD_BACK
