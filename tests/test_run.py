"""Runs from end to end, in this process: equal bytes, one outcome per file, resuming, replacing, what stays private."""

from __future__ import annotations

import io
import json
import os
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from p3mdata.anonymize.one_image import anonymize_file
from p3mdata.base.jsonl import read_rows
from p3mdata.config import Execution, Job, Settings
from p3mdata.errors import EXIT_BUG, EXIT_HELD_BACK, EXIT_OK, Interrupted, RunFolderError, SettingsError
from p3mdata.records import ImageResult, Outcome
from p3mdata.run.job import anonymize_job, run_staged, verify_run
from p3mdata.run.layout import LEDGER, MANIFEST, PLAN
from p3mdata.run.rows import count_done
from p3mdata.run.stages import Stage
from tests.factories import astronaut, encoded, matte, texture
from tests.runs import contents, p3mdata, portraits

SIDE = 192
pytestmark = pytest.mark.usefixtures("kept_models")


def a_job(source: Path, out: Path, **changes: Any) -> Job:
    execution = {"workers": 1} | {key: changes.pop(key) for key in ("workers", "limit", "overwrite") if key in changes}
    folders = {key: changes.pop(key) for key in ("alphas", "trimaps", "masks") if key in changes}
    return Job(source=source, out=out, **folders, settings=Settings(**changes), execution=Execution(**execution))


def ledger(out: Path) -> dict[str, dict[str, Any]]:
    """Rows by source; every source has one."""
    rows = list(read_rows(out / LEDGER))
    by_source = {row["source"]: row for row in rows}
    assert len(by_source) == len(rows)
    return by_source


def outcomes(out: Path) -> dict[str, str]:
    return {source: row["outcome"] for source, row in ledger(out).items()}


def files_of(out: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of every released file: what shows that it was written again."""
    found = [path for kind in ("images", "facemasks", "alphas") for path in (out / kind).iterdir()]
    return {str(path.relative_to(out)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def rewritten(before: dict[str, tuple[int, int]], out: Path) -> set[str]:
    after = files_of(out)
    return {Path(name).stem for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two portraits, a picture without a face and a broken one."""
    folder = portraits(tmp_path / "src", "one.jpg", "two.png", side=SIDE)
    (folder / "sky.jpg").write_bytes(encoded(texture(SIDE, SIDE)))
    (folder / "text.jpg").write_bytes(b"no picture")
    return folder


def mattes(folder: Path, *names: str, side: int = SIDE) -> Path:
    folder.mkdir()
    for index, name in enumerate(names):
        (folder / name).write_bytes(encoded(matte(side + index), "PNG"))
    return folder


def hand_mask(folder: Path, name: str, side: int, box: tuple[int, int, int, int]) -> Path:
    folder.mkdir(exist_ok=True)
    array = np.zeros((side, side), np.uint8)
    left, top, right, bottom = box
    array[top:bottom, left:right] = 255
    (folder / name).write_bytes(encoded(array, "PNG"))
    return folder


def test_equal_bytes_for_any_workers_fused_or_staged(tmp_path: Path) -> None:
    names = ("a.jpg", "b.png", "c.webp", "sub/a.jpg", "d.jpg")
    folder = portraits(tmp_path / "src", *names, side=SIDE)
    (folder / "e.jpg").write_bytes(b"no picture")
    (tmp_path / "alphas" / "sub").mkdir(parents=True)
    for index, name in enumerate(names[:-1]):
        target = (tmp_path / "alphas" / name).with_suffix(".png")
        target.write_bytes(encoded(matte(SIDE + index), "PNG"))
    alphas = tmp_path / "alphas"
    job = a_job(folder, tmp_path / "one", alphas=alphas)
    summary = anonymize_job(job)
    assert summary.outcomes["anonymized"] == 4
    assert summary.reasons == {"alpha_missing": 2}
    anonymize_job(a_job(folder, tmp_path / "two", alphas=alphas, workers=2))
    staged = tmp_path / "staged"
    anonymize_job(a_job(folder, staged, alphas=alphas), Stage.DETECT)
    for stage in (Stage.MASK, Stage.OBFUSCATE):
        run_staged(staged, stage, workers=1)
        assert not (staged / "images").exists()
    assert run_staged(staged, Stage.VERIFY, workers=1).outcomes == summary.outcomes
    expected = contents(tmp_path / "one")
    assert sum(name.startswith("images/") for name in expected) == 4
    assert contents(tmp_path / "two") == contents(staged) == expected
    assert not (staged / "private" / "stages").exists()


def test_every_file_has_one_outcome_whatever_its_name(tmp_path: Path) -> None:
    portrait = encoded(astronaut(SIDE))
    broken = ["text.jpg", "new\nline.jpg", "-dash.png", "b" * 246 + ".jpg", os.fsdecode(b"\xff.jpg"), "e\x1b[2J.TIF"]
    folder = tmp_path / "src"
    (folder / "sub").mkdir(parents=True)
    for number, name in enumerate(broken):
        (folder / name).write_bytes(b"no picture %d" % number)
    for name in ("same.jpg", "copy of same.JPG", "sub/same.jpg", "人物 ü.jpeg"):
        (folder / name).write_bytes(portrait)
    (folder / "same.png").write_bytes(encoded(astronaut(SIDE), "PNG"))
    (folder / "empty.jpg").touch()
    (folder / "sky.jpg").write_bytes(encoded(texture(SIDE, SIDE)))
    (folder / "small.jpg").write_bytes(encoded(astronaut(96)))
    (folder / "link.jpg").symlink_to(folder / "same.jpg")
    (folder / "dangling.jpg").symlink_to("nowhere")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "to a folder.jpg").symlink_to(folder / "sub")
    os.mkfifo(folder / "pipe.jpg")
    out = tmp_path / "out"
    summary = anonymize_job(a_job(folder, out, min_side=100))
    found = outcomes(out)
    anonymized = {"same.jpg", "copy of same.JPG", "sub/same.jpg", "人物 ü.jpeg", "same.png", "link.jpg"}
    unreadable = {"dangling.jpg", "loop.jpg", "to a folder.jpg", "pipe.jpg"}
    assert {name for name, outcome in found.items() if outcome == "anonymized"} == anonymized
    assert {name for name, outcome in found.items() if outcome == "broken"} == {*broken, "empty.jpg", *unreadable}
    assert (found["sky.jpg"], found["small.jpg"]) == ("needs_review", "excluded")
    assert {ledger(out)[name]["reason"] for name in unreadable} == {"cannot_read"}
    assert sum(summary.outcomes.values()) == summary.samples == len(found) == len(anonymized) + 11 + 2
    assert summary.outcomes == {outcome.value: Counter(found.values())[outcome.value] for outcome in Outcome}
    assert count_done(out) == summary.samples
    # Copies are released once each, under names of their own.
    assert len(list((out / "images").iterdir())) == len(anonymized) == summary.released
    assert verify_run(out) == (len(anonymized), [])


def test_mattes_that_are_missing_ambiguous_or_of_another_size(tmp_path: Path) -> None:
    folder = portraits(tmp_path / "src", "a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg", side=SIDE)
    alphas = mattes(tmp_path / "alphas", "a.png", "b.png")
    (alphas / "b.tif").write_bytes(b"another")
    (alphas / "c.png").write_bytes(encoded(matte(SIDE), "PNG"))
    (alphas / "d.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    anonymize_job(a_job(folder, out, alphas=alphas))
    reasons = {source: row.get("reason") for source, row in ledger(out).items()}
    assert reasons == {
        "a.jpg": None,
        "b.jpg": "ambiguous_companion",
        "c.jpg": "alpha_other_size",
        "d.jpg": "alpha_not_an_image",
        "e.jpg": "alpha_missing",
    }
    assert [path.stem for path in (out / "images").iterdir()] == [ledger(out)["a.jpg"]["id"]]


def test_files_that_change_after_the_plan_are_held_back(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from p3mdata.run.executors import local

    def change_then_run(*args: Any) -> None:
        (source / "one.jpg").write_bytes(encoded(astronaut(SIDE), quality=50))
        (source / "two.png").unlink()
        real(*args)

    real = local.run
    monkeypatch.setattr(local, "run", change_then_run)
    out = tmp_path / "out"
    summary = anonymize_job(a_job(source, out))
    assert (ledger(out)["one.jpg"]["reason"], ledger(out)["two.png"]["reason"]) == ("changed", "cannot_read")
    assert (summary.released, summary.exit_code) == (0, EXIT_HELD_BACK)


def test_resuming_a_finished_run_writes_no_released_file(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out"
    first = anonymize_job(a_job(source, out))
    before, files = contents(out), files_of(out)
    second = anonymize_job(a_job(source, out))
    assert (first.outcomes, list(first.held_back)) == (second.outcomes, list(second.held_back))
    assert contents(out) == before
    assert not rewritten(files, out)


def test_what_was_tampered_with_is_done_again_and_nothing_else(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out"
    anonymize_job(a_job(source, out))
    before, files = contents(out), files_of(out)
    one, two = ledger(out)["one.jpg"]["id"], ledger(out)["two.png"]["id"]
    (out / "images" / f"{one}.jpg").write_bytes((source / "one.jpg").read_bytes())
    anonymize_job(a_job(source, out))
    assert contents(out) == before
    assert rewritten(files, out) == {one}
    (out / "facemasks" / f"{two}.png").unlink()
    (out / MANIFEST).unlink()
    (out / LEDGER).write_text("")
    anonymize_job(a_job(source, out))
    assert contents(out) == before


def test_a_torn_last_row_is_done_again(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out"
    anonymize_job(a_job(source, out))
    before, files = contents(out), files_of(out)
    results = out / "shards" / "00000" / "results.jsonl"
    whole = results.read_bytes()
    for cut in (1, 40, len(whole.splitlines(keepends=True)[-1]) - 1):
        results.write_bytes(whole[:-cut])
        (results.parent / "DONE").unlink()
        anonymize_job(a_job(source, out))
        assert contents(out) == before
    assert rewritten(files, out) <= {ledger(out)["two.png"]["id"]}


def test_another_setting_is_refused_and_overwriting_replaces(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out"
    anonymize_job(a_job(source, out))
    before = contents(out)
    with pytest.raises(RunFolderError, match=r"method \(not given -> mosaic\)"):
        anonymize_job(a_job(source, out, method="mosaic"))
    assert contents(out) == before
    plan = (out / PLAN).read_text()
    (out / PLAN).write_text(json.dumps(json.loads(plan) | {"tool": "p3mdata 0.0.1"}))
    with pytest.raises(RunFolderError, match=r"OUT, p3mdata 0\.0\.1, which made it, to go on, or --overwrite"):
        anonymize_job(a_job(source, out))
    (out / PLAN).write_text(plan)
    (out / "notes of mine.txt").write_text("foreign")
    (source / "two.png").unlink()
    anonymize_job(a_job(source, out, method="mosaic", overwrite=True))
    assert (out / "notes of mine.txt").read_text() == "foreign"
    assert len(list((out / "images").iterdir())) == 1
    fresh = tmp_path / "fresh"
    anonymize_job(a_job(source, fresh, method="mosaic"))
    assert contents(out) == contents(fresh) != before


def test_overwriting_that_was_cut_short_leaves_no_images_of_other_settings(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    out = tmp_path / "out"
    anonymize_job(a_job(source, out))
    real = shutil.rmtree

    def die(path: Path, **options: Any) -> None:
        real(path, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as context, pytest.raises(Interrupted):
        context.setattr(shutil, "rmtree", die)
        anonymize_job(a_job(source, out, method="mosaic", overwrite=True))
    with pytest.raises(RunFolderError, match="other settings"):
        anonymize_job(a_job(source, out, method="mosaic"))
    anonymize_job(a_job(source, out, method="mosaic", overwrite=True))
    assert {row["method"] for row in read_rows(out / MANIFEST)} == {"mosaic 0.2"}


def test_a_hand_drawn_mask_redoes_its_image_alone(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out"
    anonymize_job(a_job(source, out))
    files = files_of(out)
    masks = hand_mask(tmp_path / "masks", "sky.png", SIDE, (40, 40, 90, 90))
    summary = anonymize_job(a_job(source, out, masks=masks))
    rows = ledger(out)
    assert rows["sky.jpg"]["outcome"] == "masked_by_hand"
    assert rewritten(files, out) == {rows["sky.jpg"]["id"]}
    assert summary.released == len(list(read_rows(out / MANIFEST))) == 3
    assert not list(read_rows(out / "review" / "queue.jsonl"))
    assert verify_run(out) == (3, [])


def test_what_is_held_back_now_is_withdrawn(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out"
    anonymize_job(a_job(source, out))
    identity = ledger(out)["one.jpg"]["id"]
    # Drawn far from the face, which it leaves bare.
    masks = hand_mask(tmp_path / "masks", "one.png", SIDE, (0, SIDE - 20, 20, SIDE))
    anonymize_job(a_job(source, out, masks=masks))
    assert (outcomes(out)["one.jpg"], ledger(out)["one.jpg"]["reason"]) == ("needs_review", "hand_mask_leaves_face")
    assert identity not in {row["id"] for row in read_rows(out / MANIFEST)}
    assert not [path for kind in ("images", "facemasks", "alphas") for path in (out / kind).glob(f"{identity}*")]
    assert verify_run(out) == (1, [])
    # Without the mask it is released as it was at first.
    anonymize_job(a_job(source, out))
    assert outcomes(out)["one.jpg"] == "anonymized"


def test_a_fault_of_the_program_stops_nothing_and_is_kept(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from p3mdata.run import shards

    def faulty(sample: Any, *args: Any, **kwargs: Any) -> Any:
        if sample.source == "one.jpg":
            raise ZeroDivisionError("a fault")
        return real(sample, *args, **kwargs)

    real = shards.anonymize
    out = tmp_path / "out"
    with monkeypatch.context() as context:
        context.setattr(shards, "anonymize", faulty)
        summary = anonymize_job(a_job(source, out))
    assert (summary.exit_code, summary.released) == (EXIT_BUG, 1)
    assert (outcomes(out)["one.jpg"], outcomes(out)["two.png"]) == ("broken", "anonymized")
    (trace,) = read_rows(out / "private" / "errors.jsonl")
    assert trace["source"] == "one.jpg"
    assert "ZeroDivisionError: a fault" in trace["trace"]
    assert (out / "private" / "errors.jsonl").stat().st_mode & 0o777 == 0o600
    # Once the fault is mended, the image is tried again.
    assert anonymize_job(a_job(source, out)).exit_code == EXIT_HELD_BACK
    assert outcomes(out)["one.jpg"] == "anonymized"


def test_exit_codes(tmp_path: Path) -> None:
    folder = portraits(tmp_path / "src", "a.jpg", side=SIDE)
    assert anonymize_job(a_job(folder, tmp_path / "good")).exit_code == EXIT_OK
    (folder / "tiny.jpg").write_bytes(encoded(texture(20, 20)))
    assert anonymize_job(a_job(folder, tmp_path / "excluded", min_side=30)).exit_code == EXIT_OK
    assert anonymize_job(a_job(folder, tmp_path / "held")).exit_code == EXIT_HELD_BACK


def test_a_run_that_fails_early_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    with pytest.raises(SettingsError, match="holds no pictures"):
        anonymize_job(a_job(tmp_path / "src", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_stages_out_of_order_say_which_comes_first(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(RunFolderError, match="is not a run folder"):
        run_staged(out, Stage.MASK)
    anonymize_job(a_job(source, out, limit=2), Stage.DETECT)
    with pytest.raises(RunFolderError, match="Run 'p3mdata mask' first"):
        run_staged(out, Stage.OBFUSCATE, workers=1)
    run_staged(out, Stage.MASK, workers=1)
    run_staged(out, Stage.OBFUSCATE, workers=1)
    identity = next(row["id"] for row in read_rows(out / "private" / "sources.jsonl") if row["source"] == "one.jpg")
    (image,) = (out / "private" / "stages").glob(f"{identity}.*.image")
    made = image.read_bytes()
    with pytest.raises(RunFolderError, match="not finished"):
        verify_run(out)
    # The clear picture in the place of the obfuscated one.
    image.write_bytes((source / "one.jpg").read_bytes())
    with pytest.raises(RunFolderError, match="was edited"):
        run_staged(out, Stage.VERIFY, workers=1)
    assert not list((out / "images").glob("*"))
    image.write_bytes(made)
    assert run_staged(out, Stage.VERIFY, workers=1).samples == 2
    assert outcomes(out) == {"one.jpg": "anonymized", "sky.jpg": "needs_review"}


def test_a_mask_that_is_added_between_stages_counts(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out"
    anonymize_job(a_job(source, out), Stage.DETECT)
    run_staged(out, Stage.MASK, workers=1)
    masks = hand_mask(tmp_path / "masks", "sky.png", SIDE, (40, 40, 90, 90))
    anonymize_job(a_job(source, out, masks=masks), Stage.DETECT)
    for stage in (Stage.MASK, Stage.OBFUSCATE, Stage.VERIFY):
        run_staged(out, stage, workers=1)
    assert outcomes(out)["sky.jpg"] == "masked_by_hand"


def test_the_public_part_tells_nothing_of_the_sources(tmp_path: Path) -> None:
    name = "distinctive-name-of-a-person"
    folder = portraits(tmp_path / "distinctive-folder", f"{name}.jpg", f"{name}/{name}.png", side=SIDE)
    (folder / f"{name}-broken.jpg").write_bytes(b"no picture")
    (folder / f"{name}-sky.jpg").write_bytes(encoded(texture(SIDE, SIDE)))
    (tmp_path / "alphas" / name).mkdir(parents=True)
    for index, matte_name in enumerate((f"{name}.png", f"{name}/{name}.png")):
        (tmp_path / "alphas" / matte_name).write_bytes(encoded(matte(SIDE + index), "PNG"))
    # Ambiguous on purpose: its sentence names files.
    for ending in ("png", "tif"):
        (tmp_path / "alphas" / f"{name}-sky.{ending}").write_bytes(b"one of two")
    out = tmp_path / "out"
    summary = anonymize_job(a_job(folder, out, alphas=tmp_path / "alphas"))
    assert summary.released == 2
    private = ("private", "shards", "review")
    rows = ledger(out)
    samples = list(read_rows(out / "private" / "sources.jsonl"))
    faces = [face for row in rows.values() for face in row.get("faces", ())]
    landmarks = [repr(value) for face in faces for value in face["landmarks"][:20]]
    secrets = [name, "distinctive", str(tmp_path), *(sample["sha256"] for sample in samples)]
    secrets += [sample["alpha"][1] for sample in samples if "alpha" in sample]
    assert len(landmarks) == 40
    public = [path for path in out.rglob("*") if path.is_file() and path.relative_to(out).parts[0] not in private]
    assert {path.name for path in public} >= {MANIFEST, "plan.json", "report.html"}
    for path in public:
        data = path.read_bytes()
        shown = str(path.relative_to(out)).encode() + data
        assert not [secret for secret in secrets if secret.encode() in shown], path
        if path.suffix in (".json", ".jsonl", ".html"):
            assert sum(value.encode() in data for value in landmarks) < 3, path
    for folder_name in private:
        assert (out / folder_name).stat().st_mode & 0o777 == 0o700
        for path in (out / folder_name).rglob("*"):
            if path.is_file() and folder_name in ("private", "review"):
                assert path.stat().st_mode & 0o777 == 0o600, path
    # Whoever commits the folder publishes the same.
    assert tracked(out, tmp_path / "git") == {path.relative_to(out).as_posix() for path in public}
    (out / ".gitignore").unlink()
    assert tracked(out, tmp_path / "without") == {path.relative_to(out).as_posix() for path in public} - {".gitignore"}


def tracked(folder: Path, repository: Path) -> set[str]:
    """What git takes of a folder."""
    git = ["git", f"--git-dir={repository}", f"--work-tree={folder}", "-c", "core.quotePath=false"]
    for command in (["init", "-q"], ["add", "-A"]):
        subprocess.run([*git, *command], check=True, cwd=folder)
    listed = subprocess.run([*git, "ls-files"], check=True, cwd=folder, capture_output=True, text=True)
    return set(listed.stdout.splitlines())


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    folder = portraits(tmp_path / "src", "a.jpg", "b.jpg", side=SIDE)
    done = p3mdata("anonymize", folder, tmp_path / "out", "--workers", "2", "-q", preexec_fn=lambda: os.umask(0))
    assert done.returncode == 0
    for name in ("private", "shards", "review"):
        assert (tmp_path / "out" / name).stat().st_mode & 0o777 == 0o700
    private = list((tmp_path / "out" / "private").iterdir())
    assert {"ledger.jsonl", "secret"} < {path.name for path in private}
    assert [path.name for path in private if path.stat().st_mode & 0o777 != 0o600] == []


def anonymized_file(tmp_path: Path, out: str, **options: Any) -> ImageResult:
    return anonymize_file(portraits(tmp_path, "in.jpg", side=SIDE) / "in.jpg", tmp_path / out, Settings(), **options)


def test_one_picture_is_released_with_its_facemask(tmp_path: Path) -> None:
    result = anonymized_file(tmp_path, "out.png", facemask=tmp_path / "mask.png")
    assert result.outcome is Outcome.ANONYMIZED
    before, after = astronaut(SIDE), np.asarray(Image.open(tmp_path / "out.png"))
    facemask = cv2.imread(str(tmp_path / "mask.png"), cv2.IMREAD_UNCHANGED)
    assert facemask.shape == after.shape[:2] == before.shape[:2]
    decoded = np.asarray(Image.open(io.BytesIO((tmp_path / "in.jpg").read_bytes())))
    assert np.array_equal(decoded[facemask == 0], after[facemask == 0])
    assert not np.array_equal(decoded[facemask == 255], after[facemask == 255])


def test_one_picture_never_damages_another(tmp_path: Path) -> None:
    (tmp_path / "there.jpg").write_bytes(b"precious")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "in.jpg")
    refusals = {
        "in.jpg": "would overwrite an input",
        "link.jpg": "would overwrite an input",
        "there.jpg": "exists",
        "out.bmp": "unknown ending",
        "out.TIF": "and TIFF by 'p3mdata anonymize dir' alone. Use .jpg, .jpeg, .png, .webp",
        "out": "unknown ending",
    }
    for name, sentence in refusals.items():
        with pytest.raises(SettingsError, match=sentence):
            anonymized_file(tmp_path, name)
    with pytest.raises(SettingsError, match="would overwrite an input"):
        anonymized_file(tmp_path, "in.jpg", overwrite=True)
    with pytest.raises(SettingsError, match="would overwrite an input"):
        matte_file = tmp_path / "matte.png"
        anonymized_file(tmp_path, "out.jpg", facemask=matte_file, alpha=matte_file, overwrite=True)
    with pytest.raises(SettingsError, match="one file for two"):
        anonymized_file(tmp_path, "out.png", facemask=tmp_path / "out.png")
    with pytest.raises(SettingsError, match=r"Use \.png"):
        anonymized_file(tmp_path, "out.png", facemask=tmp_path / "mask.jpg")
    assert (tmp_path / "there.jpg").read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jpg", "link.jpg", "there.jpg"]
    assert anonymized_file(tmp_path, "there.jpg", overwrite=True).outcome is Outcome.ANONYMIZED


def test_one_picture_that_is_held_back_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "sky.jpg").write_bytes(encoded(texture(SIDE, SIDE)))
    result = anonymize_file(tmp_path / "sky.jpg", tmp_path / "out.jpg", Settings(), facemask=tmp_path / "mask.png")
    assert result.outcome is Outcome.NEEDS_REVIEW
    assert [path.name for path in tmp_path.iterdir()] == ["sky.jpg"]
