"""Ids: a secret per run, in nothing that is passed on; who lacks it cannot tell a photograph from any public name."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from p3mdata.base.files import RELEASED_AT, sha256
from p3mdata.base.ids import new_secret, sample_id
from p3mdata.base.jsonl import read_json, read_rows
from p3mdata.config import Execution, Job, Settings
from p3mdata.errors import RunFolderError, SettingsError
from p3mdata.faces.ensemble import FaceFinder
from p3mdata.records import Action
from p3mdata.review.batch import apply_file
from p3mdata.review.removal import remove_images
from p3mdata.review.session import reviewing
from p3mdata.run import secret as secrets_of_runs
from p3mdata.run import shards
from p3mdata.run.job import anonymize_job, verify_run
from p3mdata.run.layout import KINDS, LEDGER, LOG, MANIFEST, PLAN, SECRET, SOURCES, TOMBSTONES
from p3mdata.run.merge import merge_runs
from p3mdata.run.plan import make_plan, read_plan
from tests.runs import contents, portraits

NAMES = tuple(f"{letter}.jpg" for letter in "abcde")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return portraits(tmp_path_factory.mktemp("ids") / "src", *NAMES, side=160)


@pytest.fixture(autouse=True)
def own_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """As users have it: each run makes its own."""
    monkeypatch.setattr(secrets_of_runs, "new_secret", new_secret)


def a_run(source: Path, out: Path, **execution: Any) -> Path:
    settings = execution.pop("settings", Settings())
    job = Job(source=source, out=out, settings=settings, execution=Execution(**{"workers": 1} | execution))
    assert anonymize_job(job).exit_code == 0
    return out


def public(run: Path) -> dict[str, bytes]:
    """Everything of a run that may be passed on."""
    private = ("private", "shards", "review")
    files = (path for path in run.rglob("*") if path.is_file() and path.relative_to(run).parts[0] not in private)
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in files}


def members_confirmed(source: Path, published: dict[str, bytes]) -> set[str]:
    """Photographs that somebody who has them finds in a release by making ids of them, with every seed that is told."""
    text = "\n".join([*published, *(data.decode("utf-8", "replace") for data in published.values())])
    found = set()
    for path in source.iterdir():
        digest = sha256(path.read_bytes())
        for seed in range(20):
            if sample_id(digest, path.name, seed, None) in text or digest in text:
                found.add(path.name)
    return found


def test_who_has_the_photographs_cannot_tell_members_by_their_ids(
    tmp_path: Path, source: Path, kept_models: FaceFinder
) -> None:
    run = a_run(source, tmp_path / "run")
    remove_images(run, ["c.jpg"])
    published = public(run)
    assert {"plan.json", "report.html", "manifest.jsonl", "removed.jsonl"} <= published.keys()
    assert members_confirmed(source, published) == set()
    secret = (run / SECRET).read_text().strip()
    assert not [name for name, data in published.items() if secret.encode() in data]
    assert (run / SECRET).stat().st_mode & 0o777 == 0o600
    # Who has the secret can tell: the test looks in the right place.
    ids = {sample_id(sha256((source / name).read_bytes()), name, 0, secret) for name in NAMES}
    assert {row["id"] for row in read_rows(run / MANIFEST)} | {row["id"] for row in read_rows(run / TOMBSTONES)} == ids


def test_nothing_that_is_released_follows_the_order_of_the_sources(
    tmp_path: Path, source: Path, kept_models: FaceFinder
) -> None:
    run = a_run(source, tmp_path / "run")
    ids = [row["id"] for row in read_rows(run / MANIFEST)]
    assert ids == sorted(ids) and len(ids) == len(NAMES)
    assert [row["id"] for row in read_rows(run / LEDGER)] == ids
    times = {path.stat().st_mtime for kind in KINDS for path in (run / kind).iterdir()}
    assert times == {RELEASED_AT}


def test_equal_secrets_give_equal_bytes_and_others_other_ids(
    tmp_path: Path, source: Path, kept_models: FaceFinder
) -> None:
    one = a_run(source, tmp_path / "one")
    same = a_run(source, tmp_path / "same", secret_file=one / SECRET)
    assert contents(same) == contents(one)
    other = {row["id"] for row in read_rows(a_run(source, tmp_path / "other") / MANIFEST)}
    assert not other & {row["id"] for row in read_rows(one / MANIFEST)}
    # Going on keeps it, whether it is given again or not.
    before = contents(one)
    a_run(source, one)
    a_run(source, one, secret_file=one / SECRET)
    a_run(source, one, overwrite=True)
    assert contents(one) == before
    with pytest.raises(RunFolderError, match="another secret"):
        a_run(source, one, secret_file=tmp_path / "other" / SECRET)


def test_the_seed_gives_other_ids_under_one_secret(tmp_path: Path, source: Path) -> None:
    jobs = [Job(source=source, out=tmp_path / str(seed), settings=Settings(seed=seed)) for seed in (0, 1)]
    make_plan(jobs[0])
    with_secret = jobs[1].model_copy(update={"execution": Execution(secret_file=tmp_path / "0" / SECRET)})
    first, second = ({sample.id for sample in make_plan(job)[1]} for job in (jobs[0], with_secret))
    assert not first & second


@pytest.mark.parametrize("content", ["", "secret", "5e" * 31, "5E" * 32, "5e" * 64])
def test_a_file_that_holds_no_secret_is_refused(tmp_path: Path, source: Path, content: str) -> None:
    (tmp_path / "file").write_text(content)
    with pytest.raises(SettingsError, match="holds no secret"):
        make_plan(Job(source=source, out=tmp_path / "out", execution=Execution(secret_file=tmp_path / "file")))
    with pytest.raises(SettingsError, match="cannot be read"):
        make_plan(Job(source=source, out=tmp_path / "out", execution=Execution(secret_file=tmp_path / "none")))


def test_a_lost_secret_is_told_and_no_new_one_is_made(tmp_path: Path, source: Path) -> None:
    job = Job(source=source, out=tmp_path / "out")
    make_plan(job)
    for damage in ((job.out / SECRET).unlink, lambda: (job.out / SECRET).write_text("torn")):
        damage()
        with pytest.raises(RunFolderError, match="is lost or damaged"):
            make_plan(job)


def test_processes_that_plan_at_once_take_one_secret(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    first = secrets_of_runs._kept(tmp_path)
    assert secrets_of_runs._kept(tmp_path) == first
    # Between looking and making, another one made it.
    path = tmp_path / SECRET
    path.unlink()
    real = os.link

    def late(temporary: Path, target: Path) -> None:
        target.write_text(first)
        real(temporary, target)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "link", late)
        assert secrets_of_runs._kept(tmp_path) == first
    assert [entry.name for entry in path.parent.iterdir()] == ["secret"]


def as_before_secrets(run: Path) -> None:
    """A run as versions without secrets planned it, before its first image."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("p3mdata.run.plan.planned_secret", lambda job, plan, write: None)
        plan, samples = make_plan(Job(source=run.with_name("src"), out=run))
        assert not plan.keyed and [sample.source for sample in samples] == sorted(NAMES)
    (run / SECRET).unlink(missing_ok=True)


def test_runs_that_are_older_than_secrets_go_on_as_they_were(
    tmp_path: Path, source: Path, kept_models: FaceFinder
) -> None:
    shutil.copytree(source, tmp_path / "src")
    run = tmp_path / "old"
    as_before_secrets(run)
    assert "ids" not in read_json(run / PLAN)
    a_run(tmp_path / "src", run)
    assert not (run / SECRET).exists()
    expected = [sample_id(sha256((source / name).read_bytes()), name, 0, None) for name in sorted(NAMES)]
    assert [row["id"] for row in read_rows(run / MANIFEST)] == expected
    # That is why there are secrets.
    assert members_confirmed(tmp_path / "src", public(run)) == set(NAMES)
    remove_images(run, ["a.jpg"])
    assert verify_run(run)[1] == []
    with pytest.raises(RunFolderError, match="another secret"):
        (tmp_path / "file").write_text("5e" * 32)
        a_run(tmp_path / "src", run, secret_file=tmp_path / "file")
    assert len(read_plan(run)[1]) == len(NAMES)


def test_runs_of_different_secrets_merge_under_the_first(tmp_path: Path, source: Path, kept_models: FaceFinder) -> None:
    listings = {"one": NAMES[:3], "two": NAMES[3:]}
    for name, files in listings.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(files))
        a_run(source, tmp_path / name, files=tmp_path / f"{name}.txt")
    remove_images(tmp_path / "two", ["e.jpg"])
    assert merge_runs([tmp_path / "one", tmp_path / "two"], tmp_path / "merged").released == 4
    assert verify_run(tmp_path / "merged")[1] == []
    assert (tmp_path / "merged" / SECRET).read_text() == (tmp_path / "one" / SECRET).read_text()
    whole = a_run(source, tmp_path / "whole", secret_file=tmp_path / "one" / SECRET)
    remove_images(whole, ["e.jpg"])
    merged = contents(tmp_path / "merged")
    of_images = [name for name in merged if name.split("/")[0] in KINDS]
    assert len(of_images) == 8 and all(merged[name] == contents(whole)[name] for name in of_images)
    assert list(read_rows(tmp_path / "merged" / TOMBSTONES)) == list(read_rows(whole / TOMBSTONES))
    # And it goes on as one run.
    assert anonymize_job(Job(source=source, out=tmp_path / "merged", execution=Execution(workers=1))).released == 4


def test_a_file_that_could_not_be_read_for_a_while_costs_itself_alone(
    tmp_path: Path, source: Path, kept_models: FaceFinder
) -> None:
    shutil.copytree(source, tmp_path / "src")
    hidden = tmp_path / "hidden.jpg"
    (tmp_path / "src/b.jpg").rename(hidden)
    (tmp_path / "src/b.jpg").symlink_to(hidden.with_name("nowhere"))
    job = Job(source=tmp_path / "src", out=tmp_path / "run", execution=Execution(workers=1))
    assert anonymize_job(job).reasons == {"cannot_read": 1}
    before = {row["source"]: row["id"] for row in read_rows(job.out / LEDGER)}
    times = {path: path.stat().st_ino for path in (job.out / "images").iterdir()}
    (tmp_path / "src/b.jpg").unlink()
    hidden.rename(tmp_path / "src/b.jpg")
    assert anonymize_job(job).released == len(NAMES)
    assert {row["source"]: row["id"] for row in read_rows(job.out / LEDGER)} == before
    # Nothing else was made anew.
    assert times.items() <= {path: path.stat().st_ino for path in (job.out / "images").iterdir()}.items()
    assert verify_run(job.out)[1] == []
    # A third call has nothing to do, and a copy of it is found in spite of its id.
    assert anonymize_job(job).released == len(NAMES)
    # Gone for a moment, it is not taken for another file.
    (tmp_path / "src/a.jpg").rename(hidden)
    (tmp_path / "src/a.jpg").symlink_to(hidden.with_name("nowhere"))
    assert anonymize_job(job).released == len(NAMES)
    (tmp_path / "src/a.jpg").unlink()
    (tmp_path / "src/a.jpg").write_bytes(b"another")
    with pytest.raises(RunFolderError, match=r"the content of a\.jpg changed"):
        anonymize_job(job)


def test_a_source_that_differed_for_a_moment_is_tried_again(
    tmp_path: Path, source: Path, kept_models: FaceFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(source, tmp_path / "src")
    job = Job(source=tmp_path / "src", out=tmp_path / "run", execution=Execution(workers=1))
    make_plan(job)
    data = (tmp_path / "src/d.jpg").read_bytes()
    with monkeypatch.context() as patched:
        # Between the plan and its image.
        patched.setattr(
            "p3mdata.run.inputs.read_source", lambda path: b"other" if path.name == "d.jpg" else path.read_bytes()
        )
        assert anonymize_job(job).reasons == {"changed": 1}
    assert (tmp_path / "src/d.jpg").read_bytes() == data
    assert anonymize_job(job).released == len(NAMES)


def test_a_folder_that_is_deleted_under_an_image_is_not_made_again(
    tmp_path: Path, source: Path, kept_models: FaceFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a plan it would be a folder with faces' landmarks that nobody could go on in."""
    job = Job(source=source, out=tmp_path / "run", execution=Execution(workers=1))
    really = shards.anonymize

    def anonymize(*args: Any, **options: Any) -> Any:
        shutil.rmtree(job.out)
        return really(*args, **options)

    monkeypatch.setattr(shards, "anonymize", anonymize)
    with pytest.raises(RunFolderError, match="was deleted while this command was at work"):
        anonymize_job(job)
    assert not job.out.exists()


def test_the_list_of_sources_has_the_ids_in_order(tmp_path: Path, source: Path) -> None:
    shutil.copytree(source, tmp_path / "src")
    for copy in ("0.jpg", "z.jpg"):
        shutil.copy(source / "c.jpg", tmp_path / "src" / copy)
    job = Job(source=tmp_path / "src", out=tmp_path / "run")
    make_plan(job)
    rows = list(read_rows(job.out / SOURCES))
    assert [row["index"] for row in rows] == list(range(len(NAMES) + 2))
    heads = [row["id"].split("-")[0] for row in rows]
    assert heads == sorted(heads)
    alike = {row["source"]: row["id"] for row in rows if row["source"] in ("0.jpg", "c.jpg", "z.jpg")}
    first = alike["0.jpg"]
    assert alike == {"0.jpg": first, "c.jpg": f"{first}-2", "z.jpg": f"{first}-3"}
    assert json.loads((job.out / PLAN).read_text())["ids"] == "secret"


def test_decisions_carry_over_to_a_run_of_another_secret(tmp_path: Path, source: Path, kept_models: FaceFinder) -> None:
    old, new = a_run(source, tmp_path / "old"), a_run(source, tmp_path / "new")
    with reviewing(old) as session:
        session.decide(next(row["id"] for row in read_rows(old / LEDGER) if row["source"] == "b.jpg"), Action.EXCLUDE)
    assert apply_file(new, old / LOG, workers=1).released == len(NAMES) - 1
    assert {row["source"] for row in read_rows(new / LEDGER) if row["outcome"] == "excluded"} == {"b.jpg"}
    # By itself the log says nothing that another run knows.
    shutil.copy(old / LOG, tmp_path / "decisions.jsonl")
    with pytest.raises(SettingsError, match="no image of the run is called"):
        apply_file(new, tmp_path / "decisions.jsonl", workers=1)
