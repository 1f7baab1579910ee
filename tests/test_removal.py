"""Take-down: nothing of a removed image is left in the release, and nothing else changes."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from p3mdata.base.jsonl import dumps, read_rows
from p3mdata.dataset.build import SplitSettings, build_split
from p3mdata.dataset.layout import read_layout
from p3mdata.errors import RunFolderError, SettingsError
from p3mdata.faces.ensemble import FaceFinder
from p3mdata.records import Action, Decision
from p3mdata.review.batch import apply_file
from p3mdata.review.removal import remove_images
from p3mdata.review.session import Refused, reviewing
from p3mdata.run.close import renew_report
from p3mdata.run.decisions import append, now
from p3mdata.run.derived import dataset_version
from p3mdata.run.job import verify_run
from p3mdata.run.layout import MANIFEST, PASSED_OVER, REPORT, TOMBSTONES
from p3mdata.run.locks import writing
from p3mdata.run.sampling import sample_run
from tests.reviews import HeldRun
from tests.runs import contents, p3mdata_here


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, kept_models: FaceFinder) -> HeldRun:
    run = HeldRun.make(tmp_path_factory.mktemp("removal") / "run")
    with reviewing(run.out) as session:
        side = session.row(run.id("held.png")).width
        session.decide(run.id("held.png"), Action.MASK, mask=np.ones((side, side), bool), confirmed=True)
    return run


@pytest.fixture
def run(finished: HeldRun, tmp_path: Path) -> HeldRun:
    return finished.copy(tmp_path / "copy")


def traces(run: HeldRun, identity: str) -> list[str]:
    """Files of the run folder whose name is of an image, or that hold a landmark row of it."""
    named = [str(path.relative_to(run.out)) for path in run.out.rglob(f"{identity}.*")]
    rows = [
        str(path.relative_to(run.out))
        for path in run.out.rglob("*.jsonl")
        for row in read_rows(path)
        if row.get("id") == identity and (row.get("faces") or row.get("files"))
    ]
    return sorted(named + rows)


@pytest.mark.parametrize("source", ["fine.png", "also.jpg", "held.png", "none.png"])
@pytest.mark.parametrize("by", ["id", "source"])
def test_nothing_of_the_image_is_left(run: HeldRun, source: str, by: str) -> None:
    identity, others = run.id(source), contents(run.out)
    # Of a picture without a face there is nothing but its row.
    assert bool(traces(run, identity)) == (source != "none.png")
    done = p3mdata_here("remove", run.out, identity if by == "id" else source, "--json")
    assert done.returncode == 0, done.stderr
    released = len(run.released())
    wanted = {"removed": [identity], "version": 2, "released": released, "cleaned": [], "rebuild": [], "gone": []}
    assert json.loads(done.stdout) == wanted
    assert traces(run, identity) == []
    assert identity not in (run.out / MANIFEST).read_text()
    assert run.rows[source]["outcome"] == "excluded" and run.rows[source]["reason"] == "taken_down"
    assert verify_run(run.out)[1] == []
    kept = {
        name: data for name, data in contents(run.out).items() if name.startswith(("images", "facemasks", "alphas"))
    }
    assert kept == {name: data for name, data in others.items() if name in kept}
    assert len(kept) == len(
        [n for n in others if n.startswith(("images", "facemasks", "alphas")) and identity not in n]
    )


def test_the_tombstone_says_nothing_about_a_person(run: HeldRun) -> None:
    remove_images(run.out, ["held.png"])
    (row,) = read_rows(run.out / TOMBSTONES)
    assert set(row) == {"id", "version", "date"} and row["id"] == run.id("held.png")


def test_each_take_down_is_a_version_and_a_repeated_one_is_not(run: HeldRun) -> None:
    assert dataset_version(run.out) == 1
    assert remove_images(run.out, ["held.png", "none.png"]).version == 2
    assert remove_images(run.out, ["fine.png"]).version == 3
    assert remove_images(run.out, ["fine.png"]).version == 3
    assert [row["version"] for row in read_rows(run.out / TOMBSTONES)] == [2, 2, 3]


def test_a_take_down_works_without_the_source_and_outlives_a_resume(run: HeldRun) -> None:
    copy = run.source / "fine.png"
    shutil.move(copy, run.folder / "elsewhere.png")
    remove_images(run.out, ["fine.png"])
    assert verify_run(run.out)[1] == []
    shutil.move(run.folder / "elsewhere.png", copy)
    run.anonymize()
    assert "fine.png" not in run.released()


def test_a_removed_image_stays_removed(run: HeldRun) -> None:
    remove_images(run.out, ["fine.png"])
    with reviewing(run.out) as session:
        for action in (Action.REOPEN, Action.ACCEPT, Action.EXCLUDE):
            with pytest.raises(Refused, match="taken down"):
                session.decide(run.id("fine.png"), action)


def test_an_interrupted_take_down_is_finished_by_the_same_call(run: HeldRun) -> None:
    with reviewing(run.out) as session:
        session.decide(run.id("held.png"), Action.REMOVE)
    assert remove_images(run.out, ["held.png"]).version == 2
    assert traces(run, run.id("held.png")) == []
    assert [row["id"] for row in read_rows(run.out / TOMBSTONES)] == [run.id("held.png")]


def test_copies_of_the_photograph_go_with_it(run: HeldRun, kept_models: FaceFinder) -> None:
    again = HeldRun(run.folder / "again")
    shutil.copytree(run.source, again.source)
    shutil.copytree(run.alphas, again.alphas)
    for folder in (again.source, again.alphas):
        shutil.copy(folder / "fine.png", folder / "twin.png")
    again.anonymize()
    assert {"fine.png", "twin.png"} <= again.released()
    assert len(remove_images(again.out, ["twin.png"]).ids) == 2
    assert again.released() == {"also.jpg"}


def test_an_unknown_name_removes_nothing(run: HeldRun) -> None:
    before = contents(run.out)
    with pytest.raises(SettingsError, match=r"'other\.png'.*nothing was removed"):
        remove_images(run.out, ["fine.png", "other.png"])
    assert contents(run.out) == before


def test_no_picture_is_made_anew_in_a_run_of_another_version(run: HeldRun, tmp_path: Path) -> None:
    plan = json.loads((run.out / "plan.json").read_text())
    (run.out / "plan.json").write_text(json.dumps(plan | {"tool": "p3mdata 0.0.1"}))
    before = contents(run.out)
    with reviewing(run.out) as session, pytest.raises(Refused, match=r"tool \(p3mdata 0.0.1 -> p3mdata "):
        session.decide(run.id("none.png"), Action.NO_FACE)
    decisions = tmp_path / "decisions.jsonl"
    decisions.write_text(json.dumps({"source": "none.png", "action": "no_face"}))
    with pytest.raises(RunFolderError, match="was made otherwise"):
        apply_file(run.out, decisions, workers=1)
    assert contents(run.out) == before
    # What takes away is always possible.
    remove_images(run.out, ["fine.png"])
    assert "fine.png" not in run.released()
    assert verify_run(run.out)[1] == []


def test_a_take_down_never_waits_for_another_version(run: HeldRun, tmp_path: Path) -> None:
    """A review was killed between a word and its picture, then another version came."""
    append(run.out, run.id("none.png"), Decision(Action.NO_FACE, time=now()))
    for done in run.out.glob("shards/*/DONE"):
        done.unlink()
    plan = (run.out / "plan.json").read_text()
    (run.out / "plan.json").write_text(json.dumps(json.loads(plan) | {"tool": "p3mdata 0.0.1"}))
    with pytest.raises(RunFolderError, match="was made otherwise"), reviewing(run.out):
        pass
    released = set(run.released())
    remove_images(run.out, ["fine.png"])
    assert set(run.released()) == released - {"fine.png"}
    assert run.rows["none.png"]["reason"] == "other_version" and verify_run(run.out)[1] == []
    # So it is with leaving out, which makes no picture on the way either.
    for done in run.out.glob("shards/*/DONE"):
        done.unlink()
    decisions = tmp_path / "decisions.jsonl"
    decisions.write_text(json.dumps({"source": "also.jpg", "action": "exclude"}))
    apply_file(run.out, decisions, workers=1)
    assert set(run.released()) == released - {"fine.png", "also.jpg"} and verify_run(run.out)[1] == []
    # The version that made the run carries the word out.
    (run.out / "plan.json").write_text(plan)
    run.anonymize()
    assert set(run.released()) == released - {"fine.png", "also.jpg"} | {"none.png"}


def test_a_damaged_dataset_keeps_the_images_in_no_other(run: HeldRun) -> None:
    damaged, whole = (run.folder / name for name in ("damaged", "whole"))
    for folder in (damaged, whole):
        build_split(run.out, folder, SplitSettings(read_layout("p3m10k"), validation=0, verify=False))
    identity = run.id("fine.png")
    about = (damaged / "dataset.json").read_bytes()
    (damaged / "dataset.json").write_bytes(b"{")
    # Of the run's own files one that only the report reads.
    (run.out / PASSED_OVER).write_bytes(b'{".gif": []}')
    with pytest.raises(RunFolderError, match=r"damaged/dataset.json: .* not yet from 1 dataset made of it"):
        remove_images(run.out, [identity])
    assert not [*whole.rglob(f"{identity}.*"), *damaged.rglob(f"{identity}.*")]
    assert [identity in (folder / MANIFEST).read_text() for folder in (damaged, whole)] == [True, False]
    assert traces(run, identity) == [] and verify_run(run.out)[1] == []
    assert "their list is damaged" in (run.out / REPORT).read_text()
    (damaged / "dataset.json").write_bytes(about)
    assert set(remove_images(run.out, [identity]).cleaned) == {str(damaged), str(whole)}
    assert identity not in (damaged / MANIFEST).read_text()
    # Of one that was moved it is said: the images are still in it.
    whole.rename(run.folder / "moved")
    done = remove_images(run.out, ["fine.png"])
    assert (done.cleaned, done.gone) == ((str(damaged),), (str(whole),))


def test_only_the_run_folder_is_said_not_to_be_writable(tmp_path: Path) -> None:
    def denied(file: Path) -> None:
        with writing(tmp_path / "run"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(file))

    with pytest.raises(RunFolderError, match="run: cannot be written"):
        denied(tmp_path / "run/private/log.jsonl")
    with pytest.raises(PermissionError, match="photo.jpg"):
        denied(tmp_path / "photos/photo.jpg")


@pytest.mark.parametrize("verb", ["apply", "sample", "report", "remove", "build-split"])
def test_a_full_disk_under_a_run_is_told_with_the_way_out(
    run: HeldRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    said = tmp_path / "said.jsonl"
    said.write_text(dumps({"source": "none.png", "action": "exclude"}) + "\n")
    call: dict[str, Callable[[], object]] = {
        "apply": lambda: apply_file(run.out, said, workers=1),
        "sample": lambda: sample_run(run.out, 1),
        "report": lambda: renew_report(run.out),
        "remove": lambda: remove_images(run.out, ["fine.png"]),
        "build-split": lambda: build_split(
            run.out, tmp_path / "data", SplitSettings(read_layout("p3m10k"), validation=0, verify=False), workers=1
        ),
    }

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RunFolderError, match=r"out: cannot be written \(No space .* run the same command again"):
            call[verb]()
    call[verb]()
