"""The release record: every question has an answer or a named gap, figures are the card's, and nobody is named."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from p3mdata.base.files import sha256
from p3mdata.base.jsonl import read_json, read_rows, write_json, write_rows
from p3mdata.base.resources import manifests_dir
from p3mdata.config import Execution, Job, Method, Settings
from p3mdata.errors import RunFolderError, SettingsError
from p3mdata.export import export, write_record
from p3mdata.export.questions import FRAMEWORKS, QUESTIONS
from p3mdata.export.record import TITLES
from p3mdata.export.stated import Stated, read_stated
from p3mdata.records import Action
from p3mdata.review.session import reviewing
from p3mdata.run.job import anonymize_job
from p3mdata.run.layout import ATTACKERS, AUDIT, MANIFEST, SAMPLE
from tests.audits import some_attackers, some_audit
from tests.factories import astronaut, encoded, texture
from tests.runs import p3mdata_here

SECRETS = ("zoe_private__1", "meadow-private")
ANSWERS = {
    "controller": "Institute of Examples",
    "contact": "privacy@example.org",
    "people": ["actors", "students"],
    "children": False,
    "collection_period": "2026-03-01",
    "retention": "Sources: a year.\nRelease: stays.",
    "consent": "All signed <b>a form</b> | twice.\n# not a heading",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one portrait, one picture without a face, and a broken file."""
    source = tmp_path_factory.mktemp("hidden-sources") / "src"
    source.mkdir()
    (source / f"{SECRETS[0]}.png").write_bytes(encoded(astronaut(160), "PNG"))
    (source / f"{SECRETS[1]}.png").write_bytes(encoded(texture(120, 120), "PNG"))
    (source / "broken-private.png").write_bytes(b"no picture")
    settings = Settings(trust_no_face=True, method=Method.DP_PIX)
    job = Job(source=source, out=source.parent / "run", settings=settings, execution=Execution(workers=1))
    assert anonymize_job(job).released == 2
    return source.parent / "run"


@pytest.fixture
def own_run(run: Path, tmp_path: Path) -> Path:
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def stated(tmp_path: Path) -> Path:
    path = tmp_path / "stated.yaml"
    path.write_text(yaml.safe_dump(ANSWERS), encoding="utf-8")
    return path


def schema() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((manifests_dir() / "release-record.schema.json").read_text())
    return found


def gaps(made: dict[str, Any], by: str) -> set[str]:
    return {gap["key"] for gap in made["not_stated"] if gap["by"] == by}


def test_every_key_and_figure_is_asked_for_and_none_has_two_meanings() -> None:
    assert not set(Stated.model_fields) & set(TITLES)
    assert {key for q in QUESTIONS for key in q.keys} == set(Stated.model_fields)
    assert {name for q in QUESTIONS for name in q.run} == set(TITLES)
    assert all(q.keys or q.run for q in QUESTIONS) and {q.framework for q in QUESTIONS} == set(FRAMEWORKS)
    for q in QUESTIONS:
        assert len(set(q.keys)) == len(q.keys) and len(set(q.run)) == len(q.run)
    told = schema()["properties"]
    assert {key: field["description"] for key, field in told["publisher"]["properties"].items()} == {
        key: field.description for key, field in Stated.model_fields.items()
    }
    assert list(told["run"]["properties"]) == list(TITLES)


def test_without_answers_everything_open_is_named(run: Path, tmp_path: Path) -> None:
    made = write_record(run, tmp_path / "out").to_json()
    jsonschema.validate(made, schema())
    assert gaps(made, "publisher") == set(Stated.model_fields)
    assert gaps(made, "run") == {"recall", "second_look", "audit", "attackers", "licence"}
    assert all(gap["fill"] and gap["asked_by"] and gap["asks"] for gap in made["not_stated"])
    # What a question leaves open is in the list, and what is in the list a question leaves open.
    assert {key for q in made["questions"] for key in q["not_stated"]} == {gap["key"] for gap in made["not_stated"]}
    assert made["figures"]["outcomes"] == {"anonymized": 1, "no_face_confirmed": 1, "broken": 1}
    assert (
        made["run"]["privacy_model"][0].startswith("Laplace noise") and "epsilon 1" in made["run"]["privacy_model"][0]
    )
    # Filled in by hand, the list of keys is a file that is taken.
    text = (tmp_path / "out" / "release-record.md").read_text()
    block = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert block is not None
    (tmp_path / "copied.yaml").write_text(block[1].replace("purpose:", "purpose: Matting."))
    assert write_record(run, tmp_path / "again", stated=tmp_path / "copied.yaml").publisher == {"purpose": "Matting."}


def test_answers_are_quoted_and_their_gaps_are_gone(run: Path, stated: Path, tmp_path: Path) -> None:
    made = write_record(run, tmp_path / "out", licence="cc-by-4.0", stated=stated).to_json()
    jsonschema.validate(made, schema())
    assert made["publisher"]["people"] == "actors; students" and made["publisher"]["children"] == "no"
    assert gaps(made, "publisher") == set(Stated.model_fields) - set(ANSWERS)
    assert "licence" not in gaps(made, "run") and made["run"]["licence"] == ["cc-by-4.0"]
    text = (tmp_path / "out" / "release-record.md").read_text()
    assert "> *retention:* Sources: a year.\n> Release: stays.\n" in text
    # Neither markup nor headings of an answer become the record's own.
    assert "<b>" not in text and "&lt;b&gt;a form" in text and "\n> # not a heading" in text
    assert "privacy@example.org" in made["run"]["versions"][0]
    by_ref = {(q["framework"], q["ref"]): q for q in made["questions"]}
    assert by_ref["gdpr_30", "(f)"] == {
        "framework": "gdpr_30", "part": "Art. 30(1)", "ref": "(f)", "asks": "Time limits for erasure",
        "publisher": ["retention"], "run": ["versions"], "not_stated": [],
    }  # fmt: skip
    assert json.loads((tmp_path / "out" / "release-record.json").read_text()) == made


def test_exports_hold_the_same_record(run: Path, stated: Path, tmp_path: Path) -> None:
    alone = write_record(run, tmp_path / "alone", name="Studio", stated=stated).to_json()
    out = export(run, tmp_path / "out", "webdataset", name="Studio", stated=stated).out
    for name in ("release-record.md", "release-record.json"):
        assert (out / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    card = (out / "README.md").read_text()
    for name in ("recall", "second_look", "audit", "attackers"):
        assert name in gaps(alone, "run")
    for name in ("method", "proofs", "limits", "versions"):
        assert alone["run"][name][0] in card, f"{name}: the card and the record say the same"
    assert "privacy@example.org" in card
    # Exported again without answers, nothing of the old ones is left.
    export(run, tmp_path / "out", "webdataset", name="Studio")
    assert "privacy@example.org" not in (out / "release-record.md").read_text() + (out / "README.md").read_text()


def test_an_export_that_was_not_finished_again_has_no_record(run: Path, tmp_path: Path, monkeypatch: Any) -> None:
    out = export(run, tmp_path / "out", "webdataset").out

    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("p3mdata.export.record_of", full)
    with pytest.raises(RunFolderError, match="No space left"):
        export(run, out, "webdataset", name="Other")
    # The record of the earlier one would speak of files that are not there any more.
    left = {path.name for path in out.iterdir()}
    assert "exporting.json" in left and not left & {"README.md", "release-record.md", "release-record.json"}


def test_collection_stands_in_the_card_and_about_goes_before_it(run: Path, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("collection: In our studio.\n")
    (tmp_path / "about.md").write_text("In the open.\n")
    out = export(run, tmp_path / "out", "webdataset", stated=tmp_path / "s.yaml").out
    assert "## Collection\n\nIn our studio." in (out / "README.md").read_text()
    made = write_record(run, tmp_path / "rec", about=tmp_path / "about.md", stated=tmp_path / "s.yaml").to_json()
    assert made["publisher"]["collection"] == "In the open."


def test_audits_samples_and_decisions_are_taken_in_as_counts(own_run: Path, tmp_path: Path) -> None:
    rows = list(read_rows(own_run / MANIFEST))
    write_rows(own_run / SAMPLE, ({"id": row["id"]} for row in rows))
    with reviewing(own_run, "zoe-the-reviewer") as session:
        for row in rows:
            session.decide(row["id"], Action.ACCEPT if row["faces"] else Action.NO_FACE)
    digest = sha256((own_run / MANIFEST).read_bytes())
    write_json(own_run / AUDIT, some_audit(digest).to_json())
    write_json(own_run / ATTACKERS, some_attackers(digest).to_json())
    made = write_record(own_run, tmp_path / "out").to_json()
    jsonschema.validate(made, schema())
    assert gaps(made, "run") == {"second_look", "licence"}
    bound = pytest.approx(0.7764, abs=1e-4)
    assert made["figures"]["sample"] == {"images": 2, "looked_at": 2, "misses": 0, "miss_bound_95": bound}
    assert made["figures"]["decisions"] == {"accept": 1, "no_face": 1}
    assert made["run"]["decisions"] == ["People decided about 2 of the released images: accept 1, no_face 1."]
    text = (tmp_path / "out" / "release-record.md").read_text()
    assert "the worst attacker (network trained on obfuscated faces, among clear photographs) finds 25.0 %" in text
    assert "| network trained on obfuscated faces, among clear photographs | 25.0% (10 to 40) | 50.0% |" in text
    assert "some recogniser" in text and "at most 77.6%" in text
    for secret in ("zoe-the-reviewer", "77123"):
        assert secret not in text + json.dumps(made)
    # Of other files: neither is told any more.
    (own_run / MANIFEST).write_bytes((own_run / MANIFEST).read_bytes() + b"\n")
    assert {"audit", "attackers"} <= gaps(write_record(own_run, tmp_path / "out").to_json(), "run")


def test_nothing_private_is_in_it(run: Path, stated: Path, tmp_path: Path) -> None:
    write_record(run, tmp_path / "out", stated=stated)
    text = "".join((tmp_path / "out" / f"release-record.{kind}").read_text() for kind in ("md", "json"))
    private = [row["sha256"] for row in read_rows(run / "private" / "sources.jsonl")]
    secret = (run / "private" / "secret").read_text().strip()
    ids = [row["id"] for row in read_rows(run / MANIFEST)]
    for word in (
        *SECRETS,
        "broken-private",
        "hidden-sources",
        str(run),
        str(tmp_path),
        secret,
        *private,
        *ids,
        '"seed"',
    ):
        assert word not in text, word
    assert read_json(run / "plan.json")["sources_sha256"] not in text


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("purpos: x\n", "'purpos' is no key of a release record. Did you mean purpose?"),
        ("qqqq: x\n", "'qqqq' is no key of a release record. Keys: controller, contact"),
        ("purpose: {a: b}\n", "'purpose' cannot be"),
        ("purpose: ' '\n", "says nothing"),
        ("people: [[a], b]\n", "give text, or a list of texts"),
        ("- purpose\n", "must hold 'setting: value' lines"),
        ("purpose: [\n", "is not valid YAML"),
    ],
)
def test_what_is_no_answer_is_refused_by_one_sentence(content: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "stated.yaml"
    path.write_text(content)
    with pytest.raises(SettingsError) as refused:
        read_stated(path)
    said = str(refused.value)
    assert said.startswith(f"{path}: ") and sentence in said and "\n" not in said


def test_the_example_of_the_docs_is_taken(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "dataset.md").read_text()
    block = re.search(r"```yaml\n(controller:.*?)```", page, re.DOTALL)
    assert block is not None
    (tmp_path / "stated.yaml").write_text(block[1])
    assert set(read_stated(tmp_path / "stated.yaml").said()) >= {"controller", "people", "take_down"}


def test_empty_keys_are_not_stated(tmp_path: Path) -> None:
    (tmp_path / "stated.yaml").write_text("purpose:\nconsent: []\npublished: 2026-11-28\nfunding: 12\n")
    assert read_stated(tmp_path / "stated.yaml").said() == {"published": "2026-11-28", "funding": "12"}


def test_the_command_says_what_is_open(run: Path, stated: Path, tmp_path: Path) -> None:
    done = p3mdata_here("release-record", str(run), str(tmp_path / "out"), "--stated", str(stated), "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert set(told["not_stated"]["publisher"]) == set(Stated.model_fields) - set(ANSWERS)
    plain = p3mdata_here("release-record", str(run), "-o", str(tmp_path / "out"))
    assert plain.returncode == 0 and "not known to the run: recall, second_look, audit" in plain.stdout
    inside = p3mdata_here("release-record", str(run), str(run / "record"))
    assert inside.returncode == 2 and not (run / "record").exists()
    missing = p3mdata_here("release-record", str(run), str(tmp_path / "x"), "--stated", str(tmp_path / "no.yaml"))
    assert missing.returncode == 2 and not (tmp_path / "x").exists()
