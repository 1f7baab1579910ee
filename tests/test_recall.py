"""The second look: places come back from every view, what was left bare is held, figures have known answers."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import second_look
from p3mdata.audit import recall
from p3mdata.audit.recall import Recall, recall_run
from p3mdata.base.intervals import miss_bound, wilson
from p3mdata.base.jsonl import read_rows
from p3mdata.base.resources import manifests_dir
from p3mdata.config import Execution, Job
from p3mdata.errors import RunFolderError, SettingsError
from p3mdata.export import write_record
from p3mdata.export.figures import behind_of
from p3mdata.faces.detectors import Box
from p3mdata.faces.ensemble import FaceFinder
from p3mdata.faces.slow import SIDES, VIEWS, Seen, look_slowly
from p3mdata.imaging import decode
from p3mdata.records import XYXY, Action, Decision, Suspect
from p3mdata.review import batch
from p3mdata.review.batch import apply_file
from p3mdata.review.removal import still_in
from p3mdata.review.session import reviewing
from p3mdata.run import plan as planning
from p3mdata.run.derived import register_derived
from p3mdata.run.job import anonymize_job, verify_run
from p3mdata.run.layout import LEDGER, LOOKS, MANIFEST, RECALL, REPORT, SUSPECTS
from p3mdata.run.merge import merge_runs
from p3mdata.run.plan import read_plan
from p3mdata.run.recall import Counted, InReview, Looked, counted, neither, recall_of
from p3mdata.run.report_audit import recall_sentences
from p3mdata.run.rows import Rows
from tests.factories import face_at
from tests.reviews import HeldRun
from tests.runs import contents, p3mdata_here

# In every picture of the run: beside the face, in the upper left corner.
BARE: XYXY = (8.0, 10.0, 40.0, 50.0)


class Red:
    """Sees the red square of a picture, with one corner as a point."""

    def __init__(self, name: str = "centerface") -> None:
        self.name = name

    def detect(self, rgb: NDArray[np.uint8]) -> list[Box]:
        rows, cols = np.nonzero((rgb[:, :, 0] > 200) & (rgb[:, :, 1] < 60))
        if not len(rows):
            return []
        box = float(cols.min()), float(rows.min()), float(cols.max() + 1), float(rows.max() + 1)
        return [Box(box, 0.9, None, self.name)]


class NoLandmarks:
    def locate(self, crop: NDArray[np.uint8]) -> None:
        return None

    def close(self) -> None:
        pass


def finder_of(*detectors: Red) -> FaceFinder:
    return FaceFinder({detector.name: detector for detector in detectors}, NoLandmarks())


# The look itself


@pytest.mark.parametrize("shape", [(300, 500), (500, 300)])
def test_a_place_comes_back_from_every_view(shape: tuple[int, int]) -> None:
    picture = np.zeros((*shape, 3), np.uint8)
    picture[20:80, 200:240] = (255, 0, 0)
    (seen,) = look_slowly(picture, finder_of(Red()))
    assert np.abs(np.array(seen.face.box) - (200, 20, 240, 80)).max() <= 3
    assert seen.looks == {"centerface": len(VIEWS) * len(SIDES["centerface"])}


def test_tiles_see_a_small_face_whole_wherever_it_lies() -> None:
    for left in range(0, 1490, 149):
        picture = np.zeros((64, 1536, 3), np.uint8)
        picture[20:50, left : left + 30] = (255, 0, 0)
        found = look_slowly(picture, finder_of(Red()))
        assert len(found) == 1, left
        assert np.abs(np.array(found[0].face.box) - (left, 20, left + 30, 50)).max() <= 8


class Sometimes(Red):
    """Sees the red square in pictures of some sides alone."""

    def __init__(self, name: str, *sides: int) -> None:
        super().__init__(name)
        self.sides = sides

    def detect(self, rgb: NDArray[np.uint8]) -> list[Box]:
        return super().detect(rgb) if max(rgb.shape) in self.sides else []


class NotMirrored(Red):
    """Sees the red square only where it lies left of the blue one, which stands above it."""

    def detect(self, rgb: NDArray[np.uint8]) -> list[Box]:
        blue = np.nonzero((rgb[:, :, 2] > 200) & (rgb[:, :, 0] < 60))
        return [hit for hit in super().detect(rgb) if len(blue[0]) and hit.xyxy[0] < blue[1].min()]


def test_a_place_counts_that_every_detector_sees_again_and_again() -> None:
    picture = np.zeros((300, 500, 3), np.uint8)
    picture[20:80, 200:240] = (255, 0, 0)
    (seen,) = look_slowly(picture, finder_of(Red(), Red("libfacedetection")))
    assert (seen.views, seen.score, seen.credible) == (6, 0.9, True)
    assert seen.face.seen_by == ("centerface", "libfacedetection")
    # One that sees the whole picture alone, and nothing when it is shown the place.
    (seen,) = look_slowly(picture, finder_of(Red(), Sometimes("libfacedetection", 640)))
    assert set(seen.looks) == {"centerface", "libfacedetection"} and (seen.views, seen.credible) == (0, False)
    assert seen.face.seen_by == ("centerface", "libfacedetection")
    # One that has not seen it in the picture, and does when it is shown the place.
    (seen,) = look_slowly(picture, finder_of(Red(), Sometimes("libfacedetection", 320)))
    assert set(seen.looks) == {"centerface"} and seen.credible
    # Seen in half of the views: no face has a side on which it is none.
    picture[20:30, 240:244] = (0, 0, 255)
    (seen,) = look_slowly(picture, finder_of(Red(), NotMirrored("libfacedetection")))
    assert (seen.views, seen.score, seen.credible) == (3, 0.45, False)


def test_a_turned_face_is_found_by_both_detectors(models: FaceFinder) -> None:
    from tests.factories import astronaut

    upright = cv2.resize(astronaut(), (160, 160), interpolation=cv2.INTER_AREA)
    found = [seen for seen in look_slowly(np.ascontiguousarray(np.rot90(upright)), models) if seen.credible]
    assert len(found) == 1
    assert found[0].face.seen_by == ("centerface", "libfacedetection")
    # Landmarks of turned faces are not used for masks.
    assert found[0].mesh and found[0].face.landmarks is None


def test_thresholds_are_chosen_on_one_half_and_told_of_the_other() -> None:
    def row(name: str, faces: list[tuple[int, float]], none: list[tuple[int, float]]) -> dict[str, Any]:
        return {"picture": name, "faces": faces, "fast": [True] * len(faces), "none": none}

    halves = [
        [
            row("photograph 0", [(6, 0.8)] * 50, [(4, 0.9), (5, 0.35)]),
            row("16 px, scene 0", [(6, 0.45)] * 3, [(6, 0.9)]),
        ],
        [row("photograph 1", [(6, 0.9)] * 9 + [(5, 0.9)], [(6, 0.55)]), row("16 px, scene 1", [(4, 0.3)], [])],
    ]
    # The next stricter score would lose three of 53; what is seen beside planted faces is not counted.
    assert second_look.choose(halves[0]) == (5, 0.4)
    assert second_look.counted(halves[1], 5, 0.4) == {"found": 10, "faces": 11, "none": 1, "pictures": 1}
    told = second_look.report([*halves[0], *halves[1]][::2] + [*halves[0], *halves[1]][1::2])
    assert "half 1" in told and "a run's own look" in told
    assert second_look.lies_on((0, 0, 10, 10), [(4, 0, 40, 40)]) and not second_look.lies_on(
        (0, 0, 10, 10), [(6, 0, 40, 40)]
    )


# Figures


def test_figures_have_the_known_answers() -> None:
    looks = [Looked("a", "", 3), Looked("b", "", 4, (BARE,), lists={"both": 5}), Looked("c", "", 1, unseen=2)]
    found = counted(looks, {})
    assert found.pictures.rate == wilson(1, 3)
    assert found.pictures.at_most == pytest.approx(miss_bound(3, 1), abs=1e-6)
    assert found.faces.to_json() == {
        "seen": 9, "missed": 1, "rate": wilson(1, 9).to_json(), "not_seen_by_second_look": 2
    }  # fmt: skip
    assert Counted.from_json(json.loads(json.dumps(found.to_json()))) == found
    # What a person called no face is none.
    assert counted(looks, {"b": {BARE}}).faces.seen == 8
    assert counted(looks, {"b": {BARE}}).pictures.with_missed == 0


def test_what_neither_saw_is_petersens_number() -> None:
    # One sees 90 of 100, the other 80, apart from each other: 72 both, 18 and 8 alone, 2 neither.
    found = neither(Counter({"both": 72, "centerface": 18, "libfacedetection": 8}))
    assert found.estimate == 2.0 and found.low < 2 < found.high
    # None seen by one alone does not mean that there is none.
    assert neither(Counter({"both": 20})).high > 0
    assert neither(Counter()).estimate == 0


# A run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, kept_models: FaceFinder) -> HeldRun:
    return HeldRun.make(tmp_path_factory.mktemp("recall") / "run")


@pytest.fixture
def run(finished: HeldRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HeldRun:
    bare_on(monkeypatch, "fine.png")
    return finished.copy(tmp_path / "copy")


def place(box: XYXY = BARE) -> Seen:
    face = replace(face_at(box), seen_by=("centerface", "libfacedetection"))
    names = dict.fromkeys(face.seen_by, 5)
    return Seen(face, False, names, 6, 0.9)


def bare_on(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """A slow look that sees the main face on all pictures, and another place on some, told by their sizes."""
    sides = {"fine.png": 192, "also.jpg": 193}
    wanted = {sides[name] for name in names}

    def look(rgb: NDArray[np.uint8], finder: FaceFinder) -> list[Seen]:
        main = [place(face.box) for face in finder.find(rgb).faces]
        return main + ([place()] if len(rgb) in wanted else [])

    monkeypatch.setattr(recall, "look_slowly", look)


def look(run: HeldRun, **options: Any) -> Recall:
    return recall_run(run.out, workers=1, **options)


def decide(run: HeldRun, action: str, **more: Any) -> None:
    path = run.folder / "decisions.jsonl"
    path.write_text(json.dumps({"source": "fine.png", "action": action, **more}) + "\n")
    apply_file(run.out, path, workers=1)


def shown(run: HeldRun, source: str) -> NDArray[Any]:
    """Pixels of the released file at the place, less those of its source."""
    left, top, right, bottom = map(int, BARE)
    released, before = (decode(path.read_bytes()).pixels for path in (run.path(source), run.source / source))
    return np.abs(released.astype(int) - before)[top + 8 : bottom - 8, left + 8 : right - 8]


def test_a_bare_face_is_held_back_marked_and_named(run: HeldRun) -> None:
    found = look(run)
    assert found.held == found.waiting == (run.id("fine.png"),) and not found.complete
    row = run.rows["fine.png"]
    assert (row["outcome"], row["reason"]) == ("needs_review", "suspected_face")
    assert "a second look sees a face at x=8 y=10" in row["detail"]
    assert run.released() == {"also.jpg"}
    assert [r["id"] for r in read_rows(run.out / MANIFEST)] == [run.id("also.jpg")]
    with reviewing(run.out, "anna") as session:
        view = session.view(run.id("fine.png"))
        doubt = view.doubt(session.row(run.id("fine.png")).doubts[0])
        assert [view.faces()[number]["box"] for number in doubt["faces"]] == [list(BARE)]
    figures = json.loads((run.out / RECALL).read_text())
    assert figures["pictures"]["with_missed"] == 1 and figures["faces"]["missed"] == 1
    assert figures["pictures"]["looked_at"] == figures["released"] == 2
    text = (run.out / RECALL).read_text()
    assert run.id("fine.png") not in text and "fine" not in text


def test_a_person_accepts_and_the_face_is_hidden(run: HeldRun) -> None:
    look(run)
    decide(run, "accept")
    assert run.rows["fine.png"]["outcome"] == "anonymized"
    assert (shown(run, "fine.png") > 0).mean() > 0.9
    assert verify_run(run.out)[1] == []
    # It stays one that the run missed, and is not asked about again.
    again = look(run)
    assert again.held == () and again.complete and again.figures.counted.faces.missed == 1
    assert recall_of(run.out)[1] == InReview(waiting=0, faces=1, no_faces=0, pictures=0)


def test_a_person_draws_a_mask_over_it(run: HeldRun) -> None:
    look(run)
    left, top, right, bottom = (round(v) for v in run.rows["fine.png"]["faces"][-1]["box"])
    with reviewing(run.out, "anna") as session:
        drawn = np.zeros((192, 192), bool)
        drawn[max(0, top - 8) : bottom + 8, left - 8 : right + 8] = True
        row = session.decide(run.id("fine.png"), Action.MASK, mask=drawn, keep_transition=True)
        assert [doubt.code for doubt in row.doubts] == ["hand_mask_leaves_face"]
        assert "at x=8 y=10" in row.doubts[0].sentence
        drawn[:60, :50] = True
        row = session.decide(run.id("fine.png"), Action.MASK, mask=drawn, keep_transition=True)
    assert row.outcome.value == "masked_by_hand"
    assert (shown(run, "fine.png") > 0).mean() > 0.9


@pytest.mark.parametrize("how", ["dropped", "no_face"])
def test_a_false_one_is_released_as_it_was(run: HeldRun, how: str) -> None:
    before = run.path("fine.png").read_bytes()
    look(run)
    # No face at all is said of the main one too, which needs a second word.
    decide(run, **({"action": "accept", "dropped": [BARE]} if how == "dropped" else {"action": how, "confirmed": True}))
    assert shown(run, "fine.png").max() == 0
    if how == "dropped":
        assert run.path("fine.png").read_bytes() == before
    again = look(run)
    if how == "dropped":
        assert again.complete and again.figures.counted.faces.missed == again.figures.counted.pictures.with_missed == 0
    else:
        # Of the main face, which is bare now, nobody has been asked after a second look.
        assert again.review.waiting == again.figures.counted.faces.missed == 1
    assert again.review.no_faces == 1


@pytest.mark.parametrize(
    "action", [{"action": "accept"}, {"action": "no_face"}, {"action": "redo", "settings": {"strength": 0.2}}]
)
def test_a_word_said_before_settles_nothing_that_is_found_later(run: HeldRun, action: dict[str, Any]) -> None:
    decide(run, **action, confirmed=True)
    assert "fine.png" in run.released()
    look(run)
    assert run.rows["fine.png"]["reason"] == "suspected_face" and "fine.png" not in run.released()
    # The same word again is one about what was found.
    if action["action"] != "redo":
        decide(run, **action, confirmed=True, reviewer="berta")
        assert "fine.png" in run.released()


def test_the_same_word_in_the_same_second_is_another_one(run: HeldRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "now", lambda: "2026-01-01T00:00:00Z")
    for _ in range(2):
        decide(run, "accept", confirmed=True)
        assert "fine.png" in run.released()
        # The second time it is one about what was found.
        look(run)


def test_nothing_that_goes_on_with_the_run_releases_it(run: HeldRun) -> None:
    look(run)
    held = contents(run.out)
    run.anonymize()
    assert contents(run.out) == held and "fine.png" not in run.released()
    with pytest.raises(RunFolderError, match="second look found"):
        run.anonymize(overwrite=True)
    assert contents(run.out) == held


def test_a_call_that_was_killed_goes_on(run: HeldRun, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run.folder.with_name("whole")
    look(run.copy(whole))

    def killed(*args: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as killing:
        killing.setattr(recall, "process", killed)
        killing.setattr(recall, "close_run", killed)
        killing.setattr(recall, "run_shard", killed)
        with pytest.raises(KeyboardInterrupt):
            look(run)
    # The finding is on disk and the picture is not: whatever comes next holds it back.
    assert (run.out / SUSPECTS).exists()
    with (run.out / LOOKS).open("a") as rows:
        rows.write('{"id": "torn')
    found = look(run)
    assert found.waiting == (run.id("fine.png"),) and "fine.png" not in run.released()
    other = HeldRun(whole)
    assert (run.out / RECALL).read_bytes() == (other.out / RECALL).read_bytes()
    assert run.rows == other.rows and run.released() == other.released()


@pytest.mark.parametrize("goes_on", ["recall", "review"])
def test_a_run_that_was_not_closed_is_closed_by_what_comes_next(
    run: HeldRun, goes_on: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*args: Any) -> Any:
        raise KeyboardInterrupt

    # The clock has gone back since the run was closed.
    later = time.time() + 3600
    for name in (LEDGER, REPORT):
        os.utime(run.out / name, (later, later))
    with monkeypatch.context() as killing:
        killing.setattr(recall, "close_run", killed)
        with pytest.raises(KeyboardInterrupt):
            look(run)
    # Every shard is finished, and the manifest still has what was withdrawn.
    assert [row["id"] for row in read_rows(run.out / MANIFEST)] != [run.id("also.jpg")]
    if goes_on == "recall":
        assert look(run).waiting == (run.id("fine.png"),)
    else:
        with reviewing(run.out, "anna"):
            pass
    assert [row["id"] for row in read_rows(run.out / MANIFEST)] == [run.id("also.jpg")]
    assert run.rows["fine.png"]["reason"] == "suspected_face"
    assert verify_run(run.out)[1] == []


def test_pictures_are_looked_at_once(run: HeldRun, monkeypatch: pytest.MonkeyPatch) -> None:
    first = look(run)

    def no_more(*args: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(recall, "look_slowly", no_more)
    second = look(run)
    assert second.figures == first.figures and second.held == ()


def test_a_sample_is_drawn_by_its_seed_and_grows(run: HeldRun) -> None:
    plan, samples = read_plan(run.out)
    draws = {seed: list(recall._draw(samples, Rows(plan), 1, seed)[1]) for seed in range(20)}
    assert len({tuple(draw) for draw in draws.values()}) == 2
    assert all(set(draw) <= set(recall._draw(samples, Rows(plan), 2, seed)[1]) for seed, draw in draws.items())
    found = look(run, sample=1, seed=3)
    assert found.figures.counted.pictures.looked_at == 1 and not found.figures.all_looked_at
    said = " ".join(recall_sentences(found.figures, found.review))
    assert "1 of 2 pictures whose faces the run hides, drawn at random." in said and "seed" not in said
    assert "Of the 1 that were not looked at" in said
    waiting = found.review.waiting
    assert ("Still to be looked at by a person" in said) == (waiting > 0)
    none = " ".join(recall_sentences(found.figures, replace(found.review, waiting=0)))
    assert "Still to be looked at" not in none
    some = " ".join(recall_sentences(found.figures, replace(found.review, waiting=2)))
    assert "person: 2 places. Until then" in some
    with pytest.raises(SettingsError, match="--sample cannot be 0"):
        look(run, sample=0)


def test_sources_that_are_gone_or_others_are_told(run: HeldRun) -> None:
    (run.source / "also.jpg").write_bytes((run.source / "fine.png").read_bytes())
    found = look(run)
    assert found.left_out[0][0] == "also.jpg" and "has changed" in found.left_out[0][1] and not found.complete
    assert found.figures.counted.pictures.looked_at == 1 and not found.figures.all_looked_at
    shutil.rmtree(run.source)
    with pytest.raises(SettingsError, match="not there any more"):
        look(run)


def test_another_version_is_refused(run: HeldRun, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(run.out)
    monkeypatch.setattr(planning, "__version__", "9.9")
    with pytest.raises(RunFolderError, match="was made otherwise"):
        look(run)
    assert contents(run.out) == before


def test_a_merged_run_holds_it_too(run: HeldRun, finished: HeldRun, tmp_path: Path) -> None:
    look(run)
    other = tmp_path / "others"
    (other / "src").mkdir(parents=True)
    (other / "alphas").mkdir()
    for folder in ("src", "alphas"):
        name = "none.png"
        data = (run.folder / folder / name).read_bytes()
        (other / folder / "more.png").write_bytes(data)
    job = Job(source=other / "src", out=other / "out", alphas=other / "alphas", execution=Execution(workers=1))
    anonymize_job(job)
    merge_runs([run.out, other / "out"], tmp_path / "merged")
    plan, samples = read_plan(tmp_path / "merged")
    (waits,) = [sample for sample in samples if sample.suspected]
    row = next(row for row in Rows(plan) if row.id == waits.id)
    assert row.source.endswith("fine.png") and row.reason == "suspected_face"
    assert verify_run(tmp_path / "merged")[1] == []


def test_the_command_tells_what_waits_and_where_it_lies(run: HeldRun, tmp_path: Path) -> None:
    identity = run.id("fine.png")
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    (dataset / MANIFEST).write_text(json.dumps({"id": identity, "set": "train"}) + "\n")
    register_derived(run.out, "dataset", dataset)
    done = p3mdata_here("audit", run.out, "--recall", "--workers", "1")
    assert done.returncode == 3, done.stderr
    assert "1 picture waits for a person" in done.stdout and f"{dataset} holds 1 of them" in done.stdout
    assert f"p3mdata remove {run.out} {identity}" in done.stdout
    assert "slower look" in (run.out / "report.html").read_text()
    plan, _ = read_plan(run.out)
    assert behind_of(run.out, Rows(plan)).recall[0].counted.faces.missed == 1
    made = write_record(run.out, tmp_path / "record").to_json()
    jsonschema.validate(made, json.loads((manifests_dir() / "release-record.schema.json").read_text()))
    assert made["figures"]["second_look"]["faces"]["missed"] == 1 and "slower look" in made["run"]["second_look"][0]
    decide(run, "accept")
    row = json.loads(p3mdata_here("audit", run.out, "--recall", "--workers", "1", "--json").stdout)
    assert row["held_back"] == [] and row["waiting"] == [] and row["faces"]["missed"] == 1
    # What lies in the dataset still is named of pictures that wait alone.
    assert row["still_in"] == [] and still_in(run.out, [identity]) == [(str(dataset), 1)]


def test_suspects_outlive_every_way_of_writing() -> None:
    decision = Decision(Action.MASK, ("masks/a.png", "00"), True, True, "t", "anna", {"strength": 0.1}, (BARE,), ("x",))
    suspect = Suspect(face_at(BARE), decision)
    read = Suspect.from_json(json.loads(json.dumps(suspect.to_json())))
    assert read == suspect
    assert (
        not read.settled_by(decision) and read.settled_by(replace(decision, time="later")) and not read.settled_by(None)
    )
