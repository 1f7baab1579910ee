"""A person's decisions: what they release and withhold, that none is lost, and what is refused."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import numpy as np
import pytest

from p3mdata.base.jsonl import read_rows
from p3mdata.base.resources import manifests_dir
from p3mdata.errors import RunFolderError, SettingsError
from p3mdata.faces.ensemble import FaceFinder
from p3mdata.imaging import decode, encode_mask
from p3mdata.records import Action, Decision, Doubt
from p3mdata.review.batch import apply_file, redo_held
from p3mdata.review.session import Conflict, Refused, Session, SourceGone, reviewing
from p3mdata.run import decisions
from p3mdata.run.decisions import append, keep_mask, read_log
from p3mdata.run.job import verify_run
from p3mdata.run.layout import LOG, MANIFEST, QUEUE
from tests.factories import encoded, matte
from tests.reviews import HELD, SIDE, HeldRun
from tests.runs import contents, p3mdata_here

HELD_SIDE = SIDE + 2


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, kept_models: FaceFinder) -> HeldRun:
    return HeldRun.make(tmp_path_factory.mktemp("review") / "run")


@pytest.fixture
def run(finished: HeldRun, tmp_path: Path) -> HeldRun:
    return finished.copy(tmp_path / "copy")


@pytest.fixture
def session(run: HeldRun) -> Iterator[Session]:
    with reviewing(run.out, "anna") as session:
        yield session


def pixels(path: Path) -> np.ndarray:
    return decode(path.read_bytes()).pixels


def area(side: int, top: int, left: int, bottom: int, right: int) -> np.ndarray:
    drawn = np.zeros((side, side), bool)
    drawn[top:bottom, left:right] = True
    return drawn


def face_area(run: HeldRun, source: str, side: int) -> np.ndarray:
    left, top, right, bottom = (round(v) for v in run.rows[source]["faces"][0]["box"])
    return area(side, max(0, top - 8), max(0, left - 8), bottom + 8, right + 8)


def holds(run: HeldRun) -> None:
    """All proofs hold, the manifest keeps to its schema, and queue and files agree with the ledger."""
    assert verify_run(run.out)[1] == []
    schema = json.loads((manifests_dir() / "record.schema.json").read_text())
    rows = list(read_rows(run.out / MANIFEST))
    for row in rows:
        jsonschema.validate(row, schema)
    released = {r["source"] for r in run.rows.values() if r["outcome"] in schema["properties"]["outcome"]["enum"]}
    assert run.released() == released and len(rows) == len(released)
    held = {row["source"] for row in run.rows.values() if row["outcome"] == "needs_review"}
    assert {row["source"] for row in read_rows(run.out / QUEUE)} == held


def test_the_run_begins_with_two_held_images(finished: HeldRun) -> None:
    assert {row["source"]: row["reason"] for row in read_rows(finished.out / QUEUE)} == HELD
    assert finished.released() == {"fine.png", "also.jpg"}


def test_accept_releases_what_was_detected(run: HeldRun) -> None:
    with reviewing(run.out, "anna") as session:
        row = session.decide(run.id("held.png"), Action.ACCEPT)
        assert row.outcome.value == "anonymized"
        assert session.items("open") == [session.item(run.id("none.png"))]
    changed = (pixels(run.path("held.png")) != pixels(run.source / "held.png")).any(axis=2)
    assert changed.any()
    assert not changed[~pixels(run.path("held.png", "facemasks")).astype(bool)].any()
    said = run.rows["held.png"]["decision"]
    assert (said["action"], said["reviewer"]) == ("accept", "anna") and said["time"].endswith("Z")
    holds(run)


def test_nobody_is_named_in_public(run: HeldRun) -> None:
    with reviewing(run.out, "anna") as session:
        session.decide(run.id("held.png"), Action.ACCEPT)
    (row,) = (row for row in read_rows(run.out / MANIFEST) if row["decision"])
    assert row["decision"] == {"action": "accept", "confirmed": False, "keep_transition": False}
    assert not [p for p in (run.out / MANIFEST, run.out / "report.html") if "anna" in p.read_text()]
    for path in (run.out / LOG, run.out / "private" / "ledger.jsonl"):
        assert path.stat().st_mode & 0o77 == 0


def test_no_face_releases_the_picture_unchanged(run: HeldRun) -> None:
    with reviewing(run.out) as session:
        session.decide(run.id("none.png"), Action.NO_FACE)
        # One wrong key must not publish a face that the detectors are sure of.
        row = session.decide(run.id("held.png"), Action.NO_FACE)
        assert (row.outcome.value, row.reason) == ("needs_review", "redetected")
        assert run.released() == {"fine.png", "also.jpg", "none.png"}
        session.decide(run.id("held.png"), Action.NO_FACE, confirmed=True)
    for source in HELD:
        assert np.array_equal(pixels(run.path(source)), pixels(run.source / source))
        assert not pixels(run.path(source, "facemasks")).any()
        assert run.rows[source]["outcome"] == "no_face_confirmed"
    holds(run)


def test_exclude_withdraws_a_released_image(run: HeldRun) -> None:
    with reviewing(run.out) as session:
        assert session.decide(run.id("fine.png"), Action.EXCLUDE).reason == "excluded_by_person"
        assert not list(run.out.glob(f"*/{run.id('fine.png')}.*"))
    assert "fine.png" not in run.released()
    holds(run)


def test_who_left_a_picture_out_accepts_it_with_one_word(run: HeldRun) -> None:
    with reviewing(run.out) as session:
        session.decide(run.id("held.png"), Action.EXCLUDE)
        assert session.decide(run.id("held.png"), Action.ACCEPT).outcome.released
        # What nobody was shown is still a doubt, and a bare face is said twice.
        session.decide(run.id("none.png"), Action.NO_FACE)
        session.decide(run.id("none.png"), Action.EXCLUDE)
    assert "held.png" in run.released() and "none.png" not in run.released()
    holds(run)


@pytest.mark.parametrize("keep", [False, True])
def test_a_drawn_mask_spares_the_transition_area_unless_asked(run: HeldRun, keep: bool) -> None:
    drawn = np.ones((SIDE, SIDE), bool)
    drawn[: SIDE // 8] = False
    with reviewing(run.out) as session:
        row = session.decide(run.id("fine.png"), Action.MASK, mask=drawn, keep_transition=keep)
        # It covers most of the picture, as one does that was inverted.
        assert (row.outcome.value, row.reason) == ("needs_review", "hand_mask_covers_most")
        row = session.decide(run.id("fine.png"), Action.MASK, mask=drawn, keep_transition=keep, confirmed=True)
        assert row.outcome.value == "masked_by_hand"
    facemask = pixels(run.path("fine.png", "facemasks")).astype(bool)
    alpha = matte(SIDE)
    band = (alpha > 0) & (alpha < 255)
    assert band[drawn].any()
    assert np.array_equal(facemask[band & drawn].any(), np.bool_(keep))
    assert not facemask[~drawn].any()
    assert run.rows["fine.png"]["decision"]["keep_transition"] is keep
    holds(run)


def test_a_mask_that_leaves_a_face_bare_needs_a_second_word(run: HeldRun) -> None:
    corner = area(HELD_SIDE, 150, 10, 180, 60)
    with reviewing(run.out) as session:
        row = session.decide(run.id("held.png"), Action.MASK, mask=corner)
        assert (row.outcome.value, row.reason) == ("needs_review", "hand_mask_leaves_face")
        assert run.id("held.png") in [item.id for item in session.items("open")]
        row = session.decide(run.id("held.png"), Action.MASK, mask=corner, confirmed=True)
        assert row.outcome.value == "masked_by_hand"
    assert np.array_equal(pixels(run.path("held.png", "facemasks")).astype(bool), corner)
    holds(run)


@pytest.mark.parametrize("code", ["metadata_left", "changed_outside", "not_obfuscated", "hand_mask_empty"])
def test_no_person_overrules_a_proof_about_bytes(code: str) -> None:
    for action in Action:
        assert not Decision(action, confirmed=True).overrules(Doubt(code, ""))


@pytest.mark.parametrize("action", [Action.ACCEPT, Action.NO_FACE, Action.MASK])
def test_a_face_that_is_seen_on_the_output_needs_a_second_word(action: Action) -> None:
    seen, unsure = Doubt("redetected", ""), Doubt("detectors_disagree", "")
    assert not Decision(action).overrules(seen)
    assert Decision(action, confirmed=True).overrules(seen)
    assert Decision(action).overrules(unsure) is (action is not Action.MASK)


def test_taking_a_decision_back_leaves_the_run_as_it_was(run: HeldRun) -> None:
    before = contents(run.out)
    with reviewing(run.out) as session:
        for source, action in (("held.png", Action.ACCEPT), ("none.png", Action.NO_FACE), ("fine.png", Action.EXCLUDE)):
            session.decide(run.id(source), action)
            assert session.decide(run.id(source), Action.REOPEN).decision is None
            assert session.version(run.id(source)) == 2
    assert contents(run.out) == before


def test_the_last_word_counts_and_all_are_kept(run: HeldRun) -> None:
    with reviewing(run.out) as session:
        # Of what was left out no doubt is shown, so that the first word about it settles none.
        for action in (Action.NO_FACE, Action.EXCLUDE, Action.ACCEPT, Action.ACCEPT):
            session.decide(run.id("held.png"), action)
    assert [decision.action.value for _, decision in read_log(run.out)] == ["no_face", "exclude", "accept", "accept"]
    assert run.rows["held.png"]["outcome"] == "anonymized"
    holds(run)


def test_an_interrupted_decision_is_carried_out_by_the_next_run(run: HeldRun) -> None:
    """Killed after the log was written: nothing counts as finished until it is carried out."""
    identity = run.id("held.png")
    mask = keep_mask(run.out, identity, encode_mask(face_area(run, "held.png", HELD_SIDE)))
    for done in run.out.glob("shards/*/DONE"):
        done.unlink()
    append(run.out, identity, Decision(Action.MASK, mask, time="2026-01-01T00:00:00Z"))
    with (run.out / LOG).open("a") as log:
        log.write('{"id":"torn')
    with pytest.raises(RunFolderError, match="not finished"):
        verify_run(run.out)
    run.anonymize()
    assert run.rows["held.png"]["outcome"] == "masked_by_hand"
    holds(run)
    with reviewing(run.out) as session:
        session.decide(identity, Action.EXCLUDE)
    assert [decision.action for _, decision in read_log(run.out)] == [Action.MASK, Action.EXCLUDE]


def test_a_review_takes_up_what_another_left(run: HeldRun) -> None:
    for done in run.out.glob("shards/*/DONE"):
        done.unlink()
    append(run.out, run.id("none.png"), Decision(Action.NO_FACE, time="2026-01-01T00:00:00Z"))
    with reviewing(run.out) as session:
        assert [item.source for item in session.items("open")] == ["held.png"]
        assert [item.source for item in session.items("decided")] == ["none.png"]
    holds(run)


def test_two_reviews_of_one_run_exclude_each_other(run: HeldRun, session: Session) -> None:
    with pytest.raises(RunFolderError, match="another p3mdata process"), reviewing(run.out):
        pass
    with pytest.raises(RunFolderError, match="another p3mdata process"):
        run.anonymize()


def test_a_decision_about_what_somebody_else_decided_is_refused(run: HeldRun, session: Session) -> None:
    session.decide(run.id("held.png"), Action.EXCLUDE, version=0)
    with pytest.raises(Conflict, match="held.png"):
        session.decide(run.id("held.png"), Action.ACCEPT, version=0)
    assert [decision.action for _, decision in read_log(run.out)] == [Action.EXCLUDE]


@pytest.mark.parametrize("how", ["changed", "gone"])
def test_a_source_that_is_not_what_it_was_is_refused(run: HeldRun, session: Session, how: str) -> None:
    path = run.source / "held.png"
    if how == "changed":
        path.write_bytes((run.source / "fine.png").read_bytes())
    else:
        path.unlink()
    with pytest.raises(SourceGone, match=r"held\.png .*(changed|cannot be read)"):
        session.decide(run.id("held.png"), Action.ACCEPT)
    assert not (run.out / LOG).exists()


def test_decisions_that_say_nothing_are_refused(run: HeldRun, session: Session) -> None:
    with pytest.raises(Refused, match="no face was found"):
        session.decide(run.id("none.png"), Action.ACCEPT)
    with pytest.raises(Refused, match="empty"):
        session.decide(run.id("held.png"), Action.MASK, mask=np.zeros((HELD_SIDE, HELD_SIDE), bool))
    with pytest.raises(Refused, match="no image"):
        session.decide("../../etc", Action.NO_FACE)
    assert not (run.out / LOG).exists()


def test_overwrite_does_not_delete_the_work_of_people(run: HeldRun) -> None:
    with reviewing(run.out) as session:
        session.decide(run.id("none.png"), Action.NO_FACE)
    with pytest.raises(RunFolderError, match="decisions of reviewers"):
        run.anonymize(overwrite=True)
    assert read_log(run.out)


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_decisions_from_a_file(run: HeldRun, tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "held.png").write_bytes(encode_mask(face_area(run, "held.png", HELD_SIDE)))
    listed = write(
        tmp_path / "d.jsonl",
        {"source": "none.png", "action": "no_face", "reviewer": "bob"},
        {"id": run.id("held.png"), "action": "mask"},
        {"source": "fine.png", "action": "exclude"},
    )
    done = p3mdata_here(
        "review", run.out, "--apply", listed, "--masks", tmp_path / "masks", "--reviewer", "anna", "--json"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["outcomes"]["masked_by_hand"] == 1
    assert {s: r["decision"]["reviewer"] for s, r in run.rows.items() if "decision" in r} == {
        "none.png": "bob",
        "held.png": "anna",
        "fine.png": "anna",
    }
    holds(run)
    before = contents(run.out)
    assert apply_file(run.out, listed, tmp_path / "masks", "anna", workers=1).exit_code == 0
    assert contents(run.out) == before


def test_the_page_and_the_file_come_to_the_same_bytes(
    finished: HeldRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p3mdata.review.batch.now", lambda: "2026-01-01T00:00:00Z")
    monkeypatch.setattr("p3mdata.review.session.now", lambda: "2026-01-01T00:00:00Z")
    mask = face_area(finished, "held.png", HELD_SIDE)
    one, two, three = (finished.copy(tmp_path / name) for name in "abc")
    with reviewing(one.out, "anna") as session:
        session.decide(one.id("held.png"), Action.MASK, mask=mask)
        session.decide(one.id("none.png"), Action.NO_FACE)
    (tmp_path / "m.png").write_bytes(encode_mask(mask))
    rows = [{"source": "none.png", "action": "no_face"}, {"source": "held.png", "action": "mask", "mask": "m.png"}]
    apply_file(two.out, write(tmp_path / "d.jsonl", *rows), None, "anna", workers=1)
    # The log of a run, with the masks beside it, can be applied to another one.
    apply_file(three.out, one.out / LOG, workers=2)
    assert contents(one.out) == contents(three.out)
    # A line of a file says nothing of what was shown; what is released is the same.
    private = "private/ledger.jsonl"
    public = [{k: v for k, v in contents(run.out).items() if k != private} for run in (one, two)]
    assert public[0] == public[1]


BAD_ROWS = {
    "unknown key": ({"source": "held.png", "action": "accept", "colour": 1}, "colour"),
    "unknown action": ({"source": "held.png", "action": "like"}, "'like' is unknown"),
    "removal": ({"source": "held.png", "action": "remove"}, "unknown"),
    "unknown image": ({"source": "other.png", "action": "accept"}, r"no image of the run is called 'other\.png'"),
    "no action": ({"source": "held.png"}, "must look like"),
    "flag": ({"source": "held.png", "action": "mask", "confirmed": "yes"}, "must be true or false"),
    "no mask": ({"source": "held.png", "action": "mask"}, "no mask of its name"),
    "missing mask": ({"source": "held.png", "action": "mask", "mask": "x.png"}, r"cannot be read.*x\.png"),
    "mask of another size": ({"source": "held.png", "action": "mask", "mask": "small.png"}, r"mask.*(size|32x32)"),
    "mask in colour": ({"source": "held.png", "action": "mask", "mask": "colour.png"}, "has a mask in colour"),
    "mask that is text": (
        {"source": "held.png", "action": "mask", "mask": "text.png"},
        "mask that is not a picture",
    ),
    "mask beside the folder": (
        {"source": "held.png", "action": "mask", "mask": "../private/m.png"},
        "must be the name of a file in",
    ),
    "mask by a whole path": (
        {"source": "held.png", "action": "mask", "mask": "/m.png"},
        "must be the name of a file in",
    ),
    "mask of no name": ({"source": "held.png", "action": "mask", "mask": 3}, "must be the name of a file in"),
    "empty mask": ({"source": "held.png", "action": "mask", "mask": "empty.png"}, "is empty"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_line_that_cannot_be_carried_out_is_named_and_nothing_is_done(
    run: HeldRun, tmp_path: Path, case: str
) -> None:
    (tmp_path / "small.png").write_bytes(encode_mask(np.ones((32, 32), bool)))
    (tmp_path / "empty.png").write_bytes(encode_mask(np.zeros((HELD_SIDE, HELD_SIDE), bool)))
    (tmp_path / "colour.png").write_bytes(
        encoded(np.random.default_rng(0).integers(0, 255, (HELD_SIDE,) * 2 + (3,), np.uint8), "PNG")
    )
    (tmp_path / "text.png").write_text("no picture")
    row, words = BAD_ROWS[case]
    listed = write(tmp_path / "d.jsonl", {"source": "none.png", "action": "no_face"}, row)
    before = contents(run.out)
    with pytest.raises(SettingsError, match=f"nothing was applied. line 2: .*{words}"):
        apply_file(run.out, listed, tmp_path, workers=1)
    assert contents(run.out) == before and not (run.out / LOG).exists()


@pytest.mark.parametrize("text", ["{", "[1]\n", "null\n", "\x00"])
def test_a_file_that_is_no_list_of_decisions(run: HeldRun, tmp_path: Path, text: str) -> None:
    (tmp_path / "d.jsonl").write_text(text)
    done = p3mdata_here("review", run.out, "--apply", tmp_path / "d.jsonl")
    assert done.returncode == 2 and "d.jsonl" in done.stderr and "Traceback" not in done.stderr


def test_only_a_finished_run_can_be_reviewed(run: HeldRun, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="not a run folder"), reviewing(tmp_path):
        pass
    (run.out / "private" / "ledger.jsonl").unlink()
    with pytest.raises(RunFolderError, match="not finished"), reviewing(run.out):
        pass


@pytest.mark.parametrize("damage", ['{"id":"a"}\n', "null\n", '{"id":"a","action":"guess"}\n'])
def test_a_damaged_log_stops_everything(run: HeldRun, damage: str) -> None:
    (run.out / LOG).write_text(damage)
    with pytest.raises(RunFolderError, match=r"decisions\.jsonl"), reviewing(run.out):
        pass


def test_killed_in_the_middle_of_many_decisions(run: HeldRun, tmp_path: Path) -> None:
    """A review that is killed with SIGKILL loses no decision that it answered."""
    script = (
        "import sys; from pathlib import Path\n"
        "from p3mdata.review.session import reviewing; from p3mdata.records import Action\n"
        "with reviewing(Path(sys.argv[1])) as session:\n"
        "    for identity in sys.argv[2:]:\n"
        "        session.decide(identity, Action.EXCLUDE); print(identity, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    ids = [run.id(source) for source in run.rows]
    with subprocess.Popen(
        [sys.executable, "-c", script, str(run.out), *ids],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        answered = [process.stdout.readline().strip() for _ in ids]
        process.send_signal(signal.SIGKILL)
    assert answered == ids
    with reviewing(run.out):
        pass
    assert run.released() == set()
    holds(run)


def test_the_time_of_a_decision_is_utc() -> None:
    assert decisions.now()[10] == "T" and decisions.now().endswith("Z") and len(decisions.now()) == 20


def test_a_mask_is_accepted_at_the_size_of_the_view_and_in_colour(run: HeldRun, session: Session) -> None:
    view = session.view(run.id("held.png"))
    wanted = area(HELD_SIDE, 20, 30, 60, 90)
    opaque = np.dstack([np.full((HELD_SIDE, HELD_SIDE, 3), 40, np.uint8), wanted.astype(np.uint8) * 255])
    white = np.dstack(
        [np.repeat(wanted[:, :, None].astype(np.uint8) * 255, 3, 2), np.full((HELD_SIDE,) * 2, 255, np.uint8)]
    )
    for array in (wanted.astype(np.uint8) * 255, opaque, white):
        drawn = view.drawn(cv2.imencode(".png", array)[1].tobytes())
        assert drawn is not None and np.array_equal(drawn, wanted)
    for bad in (b"", b"text", encode_mask(wanted[:-1])):
        assert view.drawn(bad) is None


def test_the_report_counts_decisions(run: HeldRun) -> None:
    with reviewing(run.out, "anna") as session:
        session.decide(run.id("none.png"), Action.NO_FACE)
        session.decide(run.id("held.png"), Action.MASK, mask=area(HELD_SIDE, 150, 10, 180, 60), confirmed=True)
    page = (run.out / "report.html").read_text()
    assert "Decisions of people" in page and "nothing to hide" in page and "masked as drawn" in page
    assert "released although detectors see a face" in page and "held.png" not in page


def test_held_pictures_are_done_again_with_other_settings(run: HeldRun) -> None:
    """Recorded with each picture; what is still in doubt stays held, and a wrong setting does nothing."""
    for name, value, words in (("seed", "3", "'seed' cannot be set"), ("boundary", "none", "cannot be 'none'")):
        with pytest.raises(SettingsError, match=words):
            redo_held(run.out, {name: value}, workers=1)
    assert read_log(run.out) == []
    before = {name: row["outcome"] for name, row in run.rows.items()}
    redo_held(run.out, {"transition_width": "0.01"}, "anna", workers=1)
    held = {name for name, outcome in before.items() if outcome == "needs_review"}
    assert {identity for identity, _ in read_log(run.out)} == {run.id(name) for name in held} and held
    assert all(decision.settings == {"transition_width": 0.01} for _, decision in read_log(run.out))
    assert {name: row["outcome"] for name, row in run.rows.items()} == before
    holds(run)


def test_a_dropped_box_counts_no_more_and_no_other_doubt_is_settled(run: HeldRun) -> None:
    identity = run.id("held.png")
    with reviewing(run.out) as session:
        (box,) = (face.box for face in session.row(identity).faces)
        row = session.decide(identity, Action.ACCEPT, dropped=[box])
        # The detectors were right: nothing of the picture is published by one word.
        assert row.outcome.value == "needs_review" and row.faces == ()
        with pytest.raises(Refused, match="'seed' cannot be set"):
            session.decide(identity, Action.REDO, settings={"seed": 1})
    assert "held.png" not in run.released()


def test_a_run_that_is_deleted_under_a_review_is_not_made_again(run: HeldRun) -> None:
    identity = run.id("none.png")
    with pytest.raises(RunFolderError, match="sources.jsonl: is damaged"), reviewing(run.out) as session:
        shutil.rmtree(run.out)
        with pytest.raises(FileNotFoundError):
            session.decide(identity, Action.EXCLUDE)
    assert not run.out.exists()
