"""The plan: every file once, whatever its name; companions that cannot be mixed up; folders that cannot be damaged."""

from __future__ import annotations

import json
import os
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from p3mdata.config import Execution, Job, Settings
from p3mdata.errors import P3MError, RunFolderError, SettingsError
from p3mdata.records import Sample
from p3mdata.run.guards import check_folders
from p3mdata.run.layout import PLAN, SOURCES
from p3mdata.run.plan import make_plan, read_plan
from p3mdata.run.sources import collect
from p3mdata.run.tasks import shared_plan
from tests.runs import PATIENCE

NFC, NFD = "Jos\u00e9", "Jose\u0301"


def touch(folder: Path, *names: str) -> Path:
    """Files with contents of their own; the plan does not look inside."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(name))
    return folder


def a_job(tmp_path: Path, **changes: Any) -> Job:
    names = {"source": tmp_path / "src", "out": tmp_path / "out"}
    return Job(**{**names, **changes})


def by_source(job: Job) -> dict[str, Sample]:
    return {sample.source: sample for sample in make_plan(job, write=False)[1]}


HOSTILE = (
    "plain.jpg", "UPPER.JPG", "Mixed.PnG", "two words.jpg", "new\nline.jpg", "tab\tand 'quote\".jpg", "-dash.jpg",
    "ümläut 人物.jpg", "u\u0308.jpg", "a.b.c.jpg", "$(id).jpg", "%s{0}.jpg", "b" * 246 + ".jpg", "sub/plain.jpg",
    "sub/-/plain.jpg", os.fsdecode(b"\xff\xfe.jpg"), "line\u2028and\u0085.jpg", "esc\x1b[2J.jpg",
)  # fmt: skip


def test_every_picture_is_planned_once_whatever_its_name(tmp_path: Path) -> None:
    source = touch(tmp_path / "src", *HOSTILE)
    touch(source, "notes.txt", "noending", ".hidden.jpg", ".cache/inside.jpg", "folder.jpg/inside.jpg")
    (source / "link.jpg").symlink_to(source / "plain.jpg")
    (source / "dangling.jpg").symlink_to(source / "nowhere")
    (source / "loop.jpg").symlink_to(source / "loop.jpg")
    (source / "linked folder").symlink_to(source / "sub")
    (source / "round").symlink_to(source)
    job = a_job(tmp_path)
    planned = by_source(job)
    expected = {*HOSTILE, "folder.jpg/inside.jpg", "link.jpg", "dangling.jpg", "loop.jpg"}
    assert set(planned) == expected
    assert len({sample.id for sample in planned.values()}) == len(expected)
    assert planned["dangling.jpg"].sha256 == planned["loop.jpg"].sha256 == ""
    make_plan(job)
    assert list(read_plan(job.out)[1]) == list(planned.values())


def test_pipes_and_devices_do_not_hold_the_plan_up(tmp_path: Path) -> None:
    source = touch(tmp_path / "src", "a.jpg")
    os.mkfifo(source / "pipe.jpg")
    (source / "endless.jpg").symlink_to("/dev/zero")
    found: dict[str, Sample] = {}
    # In a thread, so that a plan that waits for ever fails here and not at the end of time.
    thread = threading.Thread(target=lambda: found.update(by_source(a_job(tmp_path))), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert found["pipe.jpg"].sha256 == found["endless.jpg"].sha256 == ""
    assert found["a.jpg"].sha256


def test_no_recursion_stays_in_the_folder(tmp_path: Path) -> None:
    touch(tmp_path / "src", "a.jpg", "sub/b.jpg")
    assert set(by_source(a_job(tmp_path, settings=Settings(recursive=False)))) == {"a.jpg"}


def test_ids_come_from_the_content_and_the_seed(tmp_path: Path) -> None:
    source = touch(tmp_path / "src", "a.jpg", "z.jpg")
    for copy in ("b.jpg", "sub/a.jpg"):
        (source / copy).parent.mkdir(exist_ok=True)
        (source / copy).write_bytes((source / "a.jpg").read_bytes())
    planned = by_source(a_job(tmp_path))
    first = planned["a.jpg"].id
    assert [planned[name].id for name in ("b.jpg", "sub/a.jpg")] == [f"{first}-2", f"{first}-3"]
    assert not any(sample.sha256.startswith(sample.id) for sample in planned.values())
    (source / "z.jpg").rename(source / "renamed.jpg")
    assert by_source(a_job(tmp_path))["renamed.jpg"].id == planned["z.jpg"].id
    assert by_source(a_job(tmp_path, settings=Settings(seed=1)))["a.jpg"].id != first


def companions(tmp_path: Path, photos: list[str], mattes: list[str]) -> dict[str, str | None]:
    touch(tmp_path / "src", *photos)
    touch(tmp_path / "alphas", *mattes)
    planned = by_source(a_job(tmp_path, alphas=tmp_path / "alphas"))
    return {name: "?" if s.problem else s.alpha and s.alpha[0] for name, s in planned.items()}


@pytest.mark.parametrize(
    ("photos", "mattes", "expected"),
    [
        (["a.jpg"], ["a.png"], {"a.jpg": "a.png"}),
        (["A.JPG"], ["A.PNG"], {"A.JPG": "A.PNG"}),
        (["a.jpg", "b.jpg"], ["b.png"], {"a.jpg": None, "b.jpg": "b.png"}),
        (["a.jpg"], ["a.jpg.png"], {"a.jpg": "a.jpg.png"}),
        (["a.jpg", "a.png"], ["a.jpg.png", "a.png.png"], {"a.jpg": "a.jpg.png", "a.png": "a.png.png"}),
        (["a.jpg", "a.jpg.jpg"], ["a.jpg.png"], {"a.jpg": None, "a.jpg.jpg": "a.jpg.png"}),
        (["x/a.jpg"], ["a.jpg.png"], {"x/a.jpg": "a.jpg.png"}),
        ([f"{NFC}.jpg"], [f"{NFD}.png"], {f"{NFC}.jpg": f"{NFD}.png"}),
        ([f"{NFD}.jpg"], [f"m/{NFC}.png"], {f"{NFD}.jpg": f"m/{NFC}.png"}),
        ([f"{NFC}.jpg", f"{NFD}.jpg"], [f"{NFD}.png"], {f"{NFC}.jpg": None, f"{NFD}.jpg": f"{NFD}.png"}),
        (["a.jpg", "a.png"], ["a.png"], {"a.jpg": "a.png", "a.png": "a.png"}),
        (["a.jpg"], ["a.png", "a.tif"], {"a.jpg": "?"}),
        (["x/a.jpg"], ["a.png"], {"x/a.jpg": "a.png"}),
        (["a.jpg"], ["m/a.png"], {"a.jpg": "m/a.png"}),
        (["a.jpg"], ["m/a.png", "n/a.png"], {"a.jpg": "?"}),
        (["x/a.jpg", "y/a.jpg"], ["x/a.png", "y/a.png"], {"x/a.jpg": "x/a.png", "y/a.jpg": "y/a.png"}),
        # Another photo's matte is never borrowed, and one matte for two photos is asked about.
        (["x/a.jpg", "y/a.jpg"], ["x/a.png"], {"x/a.jpg": "x/a.png", "y/a.jpg": None}),
        (["x/a.jpg", "y/a.jpg"], ["a.png"], {"x/a.jpg": "?", "y/a.jpg": "?"}),
        (["x/a.jpg", "y/a.jpg"], ["x/a.png", "a.png"], {"x/a.jpg": "x/a.png", "y/a.jpg": "?"}),
        (["a.jpg", "x/a.jpg"], ["a.png"], {"a.jpg": "a.png", "x/a.jpg": None}),
    ],
)
def test_a_matte_goes_to_its_own_photo(
    tmp_path: Path, photos: list[str], mattes: list[str], expected: dict[str, str | None]
) -> None:
    assert companions(tmp_path, photos, mattes) == expected


@pytest.mark.parametrize(
    ("photos", "stray"),
    [
        (["a.jpg"], "b.png"),
        (["a.jpg"], "a_mask.png"),
        (["IMG_1.JPG"], "img_1.png"),
        (["a.jpg"], "a.jpeg.png"),
        (["x/a.jpg", "y/b.jpg"], "y/c.png"),
        (["x/a.jpg"], "y/a (1).png"),
    ],
)
@pytest.mark.parametrize("what", ["alphas", "trimaps", "masks"])
def test_a_companion_of_no_photo_stops_the_run(tmp_path: Path, photos: list[str], stray: str, what: str) -> None:
    touch(tmp_path / "src", *photos)
    folder = touch(tmp_path / what, *(str(Path(name).with_suffix(".png")) for name in photos), stray)
    job = a_job(tmp_path, **{what: folder})
    sentence = refused(job)
    assert f"{folder / stray}: is the {what[:-1]} of no photograph" in sentence
    assert not (tmp_path / "out" / PLAN).exists()
    # A list of photos does not make the others' companions strays.
    (folder / stray).unlink()
    make_plan(a_job(tmp_path, **{what: folder}, execution=Execution(limit=1)))


def test_a_companion_that_is_no_picture_stops_the_run(tmp_path: Path) -> None:
    touch(tmp_path / "src", "x/a.jpg")
    masks = touch(tmp_path / "masks", "x/a.npy", "x/readme.txt")
    assert f"{masks / 'x/a.npy'}: is no picture" in refused(a_job(tmp_path, masks=masks))
    touch(masks, "x/a.png")
    make_plan(a_job(tmp_path, masks=masks))


def test_a_second_companion_elsewhere_stops_the_run(tmp_path: Path) -> None:
    touch(tmp_path / "src", "x/a.jpg")
    masks = touch(tmp_path / "masks", "x/a.png", "y/a.png", "z/1.png", "z/2.png")
    assert f"{masks / 'y/a.png'} (and 2 more, such as z/1.png, z/2.png): is the mask" in refused(
        a_job(tmp_path, masks=masks)
    )


def test_a_limit_does_not_change_whose_matte_it_is(tmp_path: Path) -> None:
    touch(tmp_path / "src", "x/a.jpg", "y/a.jpg")
    touch(tmp_path / "alphas", "a.png")
    job = a_job(tmp_path, alphas=tmp_path / "alphas", execution=Execution(limit=1))
    assert next(collect(job, None)).problem


def refused(job: Job) -> str:
    with pytest.raises(P3MError) as caught:
        check_folders(job)
        make_plan(job)
    assert caught.value.exit_code == 2
    assert str(caught.value).count("\n") == 0
    return str(caught.value)


def test_folders_that_a_run_could_damage_are_refused(tmp_path: Path) -> None:
    source = touch(tmp_path / "src", "a.jpg", "sub/b.jpg")
    touch(tmp_path / "foreign", "mine.txt")
    touch(tmp_path / "other tool", PLAN, "images/mine.jpg")
    (tmp_path / "other tool" / PLAN).write_text('{"format_version": "1.2"}')
    touch(tmp_path / "text", "a.txt")
    touch(tmp_path, "file")
    (tmp_path / "empty").mkdir()
    (tmp_path / "to src").symlink_to(source)
    (tmp_path / "round").symlink_to(tmp_path / "round")
    inside = "must not lie inside each other"
    assert inside in refused(a_job(tmp_path, out=source))
    assert inside in refused(a_job(tmp_path, out=source / "out"))
    assert inside in refused(a_job(tmp_path, out=tmp_path))
    assert inside in refused(a_job(tmp_path, out=tmp_path / "to src" / "out"))
    assert inside in refused(a_job(tmp_path, out=source / ".." / "src" / "out"))
    assert "is a file" in refused(a_job(tmp_path, out=tmp_path / "file"))
    assert "is a file" in refused(a_job(tmp_path, source=source / "a.jpg"))
    assert "does not exist" in refused(a_job(tmp_path, source=tmp_path / "typo"))
    assert "does not exist" in refused(a_job(tmp_path, source=tmp_path / "round"))
    assert "does not exist" in refused(a_job(tmp_path, alphas=tmp_path / "typo"))
    assert "holds no pictures" in refused(a_job(tmp_path, source=tmp_path / "empty"))
    assert "holds no pictures" in refused(a_job(tmp_path, source=tmp_path / "text"))
    assert "not empty" in refused(a_job(tmp_path, out=tmp_path / "foreign"))
    overwriting = Execution(overwrite=True)
    assert "not of p3mdata" in refused(a_job(tmp_path, out=tmp_path / "other tool", execution=overwriting))
    assert "count as photos" in refused(a_job(tmp_path, alphas=source))
    assert "count as photos" in refused(a_job(tmp_path, masks=source / "sub"))
    # A folder with the beginning of another's name is another folder.
    check_folders(a_job(tmp_path, out=tmp_path / "src-anonymized"))
    check_folders(a_job(tmp_path, masks=source / "sub", settings=Settings(recursive=False)))
    assert not (tmp_path / "out").exists()


def test_overwriting_does_not_delete_the_companions_it_needs(tmp_path: Path) -> None:
    touch(tmp_path / "src", "a.jpg")
    job = a_job(tmp_path)
    make_plan(job)
    masks = touch(job.out / "review" / "masks", "a.png")
    with_masks = a_job(tmp_path, masks=masks)
    check_folders(with_masks)
    overwriting = a_job(tmp_path, masks=masks, execution=Execution(overwrite=True))
    assert "--overwrite empties" in refused(overwriting)


def test_what_keeps_a_run_from_being_resumed_is_named(tmp_path: Path) -> None:
    source = touch(tmp_path / "src", "a.jpg", "b.jpg")
    alphas = touch(tmp_path / "alphas", "a.png", "b.png")
    job = a_job(tmp_path, alphas=alphas)
    make_plan(job)
    make_plan(job)
    changed = Settings(strength=0.5, preset="yang")
    sentence = refused(a_job(tmp_path, alphas=alphas, settings=changed))
    assert "strength (not given -> 0.5)" in sentence
    assert "preset (p3m -> yang)" in sentence
    assert "--overwrite" in sentence
    assert "b.jpg is gone" in refused(a_job(tmp_path, alphas=alphas, execution=Execution(limit=1)))
    assert "the alpha of a.jpg changed" in refused(a_job(tmp_path))
    (alphas / "b.png").write_bytes(b"other")
    assert "the alpha of b.jpg changed" in refused(job)
    touch(alphas, "b.png")
    (source / "a.jpg").write_bytes(b"other")
    assert "the content of a.jpg changed" in refused(job)
    touch(source, "a.jpg")
    make_plan(job)
    for number in range(9):
        touch(source, f"new{number}.jpg")
    assert "new0.jpg is new; new1.jpg is new; new2.jpg is new and 6 more" in refused(job)


def test_what_another_version_began_that_version_goes_on_with(tmp_path: Path) -> None:
    touch(tmp_path / "src", "a.jpg")
    job = a_job(tmp_path)
    make_plan(job)
    plan = json.loads((job.out / PLAN).read_text())
    (job.out / PLAN).write_text(json.dumps(plan | {"tool": "p3mdata 0.0.1"}))
    assert "Use another OUT, p3mdata 0.0.1, which made it, to go on, or --overwrite." in refused(job)
    with pytest.raises(RunFolderError, match=r"Use another OUT, or p3mdata 0\.0\.1 for all its tasks"):
        shared_plan(a_job(tmp_path, execution=Execution(task="1/2")))
    with pytest.raises(RunFolderError, match="Give the same to all tasks"):
        (job.out / PLAN).write_text(json.dumps(plan))
        shared_plan(a_job(tmp_path, settings=Settings(strength=0.5), execution=Execution(task="1/2")))


def test_hand_drawn_masks_may_come_later(tmp_path: Path) -> None:
    touch(tmp_path / "src", "a.jpg")
    make_plan(a_job(tmp_path))
    masks = touch(tmp_path / "masks", "a.png")
    make_plan(a_job(tmp_path, masks=masks))
    assert read_plan(tmp_path / "out")[1][0].mask
    touch(masks, "a.tif")
    assert "2 files that could be its mask" in str(make_plan(a_job(tmp_path, masks=masks))[1][0].problem)


def test_the_public_plan_names_no_source(tmp_path: Path) -> None:
    touch(tmp_path / "src", "distinctive.jpg")
    make_plan(a_job(tmp_path, alphas=touch(tmp_path / "alphas", "distinctive.png")))
    text = (tmp_path / "out" / PLAN).read_text()
    assert "distinctive" not in text
    assert str(tmp_path) not in text
    assert next(iter(read_plan(tmp_path / "out")[1])).sha256 not in text
    for name in (SOURCES, "private/job.json"):
        assert (tmp_path / "out" / name).stat().st_mode & 0o077 == 0
    assert (tmp_path / "out" / "private").stat().st_mode & 0o077 == 0


def test_a_plan_that_was_cut_short_is_no_foreign_folder(tmp_path: Path) -> None:
    touch(tmp_path / "src", "a.jpg")
    touch(tmp_path / "out", "private/sources.jsonl", f".{PLAN}.123.tmp")
    check_folders(a_job(tmp_path))


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"settings": {"method": "wish"}}', '{"settings": 3}'])
def test_a_damaged_plan_is_one_sentence(tmp_path: Path, damage: str) -> None:
    touch(tmp_path / "src", "a.jpg")
    make_plan(a_job(tmp_path))
    (tmp_path / "out" / PLAN).write_text(damage)
    with pytest.raises(
        RunFolderError,
        match="Restore it from a copy, or start again in another OUT; what reviewers decided carries over",
    ):
        read_plan(tmp_path / "out")


def test_a_limit_is_kept_for_the_stages_that_follow(tmp_path: Path) -> None:
    touch(tmp_path / "src", "a.jpg", "b.jpg")
    make_plan(a_job(tmp_path, execution=Execution(limit=1)))
    plan, samples = read_plan(tmp_path / "out")
    assert plan.job.execution.limit == 1
    assert list(make_plan(plan.job)[1]) == list(samples)
    assert json.loads((tmp_path / "out" / PLAN).read_text())["samples"] == 1


def test_a_folder_that_cannot_be_listed_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = touch(tmp_path / "src", "a.jpg", "closed/b.jpg")
    real = os.scandir

    def scandir(path: Path) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(SettingsError, match=re.escape(f"{source}/closed: cannot be listed")):
        list(collect(a_job(tmp_path), None))


def test_a_list_may_be_written_as_other_programs_write_it(tmp_path: Path) -> None:
    source = touch(tmp_path / "src", "a.jpg", "sub/b.jpg", "c.jpg", f"{NFC}.jpg", f"{NFD}.jpg", "sub/\u00fc.jpg")
    listing = tmp_path / "list.txt"
    lines = ["./a.jpg", str(source / "sub" / "b.jpg"), f"{NFD}.jpg", "sub/u\u0308.jpg"]
    listing.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    found = by_source(a_job(tmp_path, execution=Execution(files=listing)))
    assert set(found) == {"a.jpg", "sub/b.jpg", f"{NFD}.jpg", "sub/\u00fc.jpg"}
    listing.write_text(f"a.jpg\n{tmp_path}/elsewhere.jpg\n")
    assert "elsewhere.jpg' is no picture below SRC" in refused(a_job(tmp_path, execution=Execution(files=listing)))
