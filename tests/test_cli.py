"""The command line as its users meet it: processes, streams and exit codes."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p3mdata import cli
from p3mdata.base.jsonl import read_json, read_rows
from p3mdata.base.parsing import read_yaml
from p3mdata.cli import render
from p3mdata.errors import (
    EXIT_BUG,
    EXIT_HELD_BACK,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_PROOF_FAILED,
    EXIT_USAGE,
    P3MError,
)
from p3mdata.export import _read
from p3mdata.faces.ensemble import FaceFinder
from p3mdata.records import Outcome
from p3mdata.review.batch import _rows
from p3mdata.run import shards
from p3mdata.run.close import RunSummary
from p3mnet.copy_paste.groups import read_groups
from tests.factories import encoded, texture
from tests.reviews import HeldRun
from tests.runs import contents, p3mdata, p3mdata_here, portraits

SIDE = 192


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two portraits and a broken file."""
    folder = portraits(tmp_path_factory.mktemp("cli") / "photos", "a.jpg", "b.png", side=SIDE)
    (folder / "text.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture
def cheap(tmp_path: Path) -> Path:
    """A folder whose only file is refused before any model is loaded."""
    (tmp_path / "cheap").mkdir()
    (tmp_path / "cheap" / "text.jpg").write_bytes(b"no picture")
    return tmp_path / "cheap"


def in_process(*args: str | Path) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main([str(arg) for arg in args])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_the_whole_way(tmp_path: Path, source: Path) -> None:
    work = tmp_path / "work"
    shutil.copytree(source, work / "photos")
    # Without OUT the run lies beside SRC, and `anonymize SRC` means `anonymize dir SRC`.
    done = p3mdata("anonymize", "photos", "--json", cwd=work)
    assert done.returncode == EXIT_HELD_BACK
    # On a machine that takes its time there are lines of progress.
    assert all(" of 3 images" in line for line in done.stderr.splitlines())
    summary = json.loads(done.stdout)
    assert (summary["samples"], summary["released"]) == (3, 2)
    assert sum(summary["outcomes"].values()) == 3
    assert [row["source"] for row in summary["held_back"]] == ["text.jpg"]
    run = work / "photos-anonymized"
    assert sorted(path.name for path in work.iterdir()) == ["photos", "photos-anonymized"]
    assert (work / summary["report"]).is_file()
    # For people: the outcomes on stdout, what is held back on stderr.
    done = p3mdata("anonymize", "dir", work / "photos", run)
    assert done.returncode == EXIT_HELD_BACK
    assert "3 source files" in done.stdout
    assert "text.jpg is not a picture" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    done = p3mdata("anonymize", "dir", work / "photos", run, "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (EXIT_HELD_BACK, "", "")
    done = p3mdata("verify", run, "--json")
    assert (done.returncode, json.loads(done.stdout)) == (EXIT_OK, {"findings": [], "released": 2})
    next((run / "images").glob("*.png")).write_bytes(b"other")
    done = p3mdata("verify", run)
    assert done.returncode == EXIT_PROOF_FAILED
    assert "changed_file" in done.stdout


def test_staged_commands_come_to_the_same_bytes(
    tmp_path: Path, source: Path, kept_models: FaceFinder, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = ("--workers", "1", "--json")
    assert in_process("anonymize", source, tmp_path / "fused", "--method", "mosaic", *alone) == EXIT_HELD_BACK
    fused, staged = json.loads(capsys.readouterr().out), tmp_path / "staged"
    stages = {"detect": (source, staged, "--method", "mosaic"), "mask": (staged,), "obfuscate": (staged,)}
    for stage, args in stages.items():
        assert in_process(stage, *args, *alone) == EXIT_OK
        assert json.loads(capsys.readouterr().out)["stage"] == stage
    assert in_process("verify", staged, *alone) == EXIT_HELD_BACK
    assert json.loads(capsys.readouterr().out)["outcomes"] == fused["outcomes"]
    assert contents(staged) == contents(tmp_path / "fused")


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.lstat().st_mtime_ns, p.lstat().st_ino) for p in [folder, *folder.rglob("*")]}


def test_a_dry_run_writes_nothing(tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(source, tmp_path / "photos")
    before = snapshot(tmp_path)
    assert in_process("anonymize", tmp_path / "photos", "--dry-run", "--json") == EXIT_OK
    rows = json.loads(capsys.readouterr().out)
    assert [row["source"] for row in rows["files"]] == ["a.jpg", "b.png", "text.jpg"]
    out = tmp_path / "deep" / "out"
    assert in_process("anonymize", tmp_path / "photos", out, "--dry-run", "--limit", "2") == EXIT_OK
    assert "text.jpg" not in capsys.readouterr().out
    assert snapshot(tmp_path) == before


def test_names_of_several_lines_take_one_in_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("a\nb.png", "c\nd.png"):
        (photos / name).write_bytes(encoded(texture(64, 64), "PNG"))
    (photos / "e\nf.txt").write_bytes(b"notes")
    (photos / "g\nh.png").write_bytes(b"no picture")
    assert in_process("anonymize", photos, "--dry-run") == EXIT_OK
    told = capsys.readouterr()
    assert told.out.splitlines()[1:] == ["a\\nb.png", "c\\nd.png", "g\\nh.png"]
    assert len(told.err.splitlines()) == 1 and "e\\nf.txt" in told.err
    assert in_process("duplicates", photos, tmp_path / "page.html", "--workers", "1") == EXIT_HELD_BACK
    copied, unreadable, _ = capsys.readouterr().out.splitlines()
    assert "a\\nb.png" in copied and "c\\nd.png" in copied and unreadable.startswith("unreadable: g\\nh.png ")


def test_a_dry_run_sees_what_the_run_would_refuse(
    tmp_path: Path, cheap: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert in_process("anonymize", cheap, out, "-q", "--workers", "1") == EXIT_HELD_BACK
    before = snapshot(out)
    assert in_process("anonymize", cheap, out, "--dry-run", "--method", "zero") == EXIT_USAGE
    assert "method (not given -> zero)" in capsys.readouterr().err
    assert in_process("anonymize", cheap, out, "--dry-run", "--method", "zero", "--overwrite") == EXIT_OK
    assert snapshot(out) == before


def test_a_limit_takes_the_first(tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    args = ("anonymize", source, out, "--workers", "1", "--json")
    assert in_process(*args, "--limit", "1") == EXIT_OK
    assert json.loads(capsys.readouterr().out)["samples"] == 1
    assert in_process(*args) == EXIT_USAGE
    shown = capsys.readouterr()
    assert json.loads(shown.out)["error"]["code"] == EXIT_USAGE
    assert "b.png is new" in shown.err
    assert in_process(*args, "--limit", "1", "--no-resume") == EXIT_USAGE
    assert in_process(*args, "--limit", "0") == EXIT_USAGE


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("anonymize", "nowhere"), "nowhere: does not exist"),
        (("anonymize", "cheap/text.jpg"), "is a file: use 'p3mdata anonymize image'"),
        (("anonymize", "cheap", "cheap/out"), "must not lie inside each other"),
        (("anonymize", "cheap", "cheap"), "must not lie inside each other"),
        (("anonymize", "cheap", "file"), "is a file"),
        (("anonymize", "cheap", "foreign"), "not empty"),
        (("anonymize", "cheap", "--method", "wish"), "wish"),
        (("anonymize", "cheap", "--strength", "7"), "'strength' cannot be 7.0"),
        (("anonymize", "cheap", "--strength", "nan"), "strength"),
        (("anonymize", "cheap", "--seed", "-1"), "'seed' cannot be -1"),
        (("anonymize", "cheap", "--config", "unknown.yaml"), "unknown setting 'metod'"),
        (("anonymize", "cheap", "--config", "list.yaml"), "must hold 'setting: value' lines"),
        (("anonymize", "cheap", "--config", "broken.yaml"), "is not valid YAML"),
        (("anonymize", "cheap", "--config", "nowhere.yaml"), "cannot be read"),
        (("anonymize", "cheap", "--alphas", "nowhere"), "given as --alphas does not exist"),
        (("anonymize", "image", "cheap/text.jpg", "cheap/text.jpg"), "would overwrite an input"),
        (("anonymize", "image", "cheap/text.jpg", "there.jpg"), "there.jpg: exists"),
        (("anonymize", "image", "cheap/text.jpg", "out.xyz"), "unknown ending"),
        (("anonymize", "image", "nowhere.jpg", "out.jpg"), "nowhere.jpg: cannot be read"),
        (("mask", "nowhere"), "is not a run folder"),
        (("verify", "foreign"), "is not a run folder"),
        (("run", "nowhere.yaml"), "cannot be read"),
        (("frobnicate",), "frobnicate"),
    ],
)
def test_what_cannot_be_used_is_one_sentence_and_exit_code_2(
    tmp_path: Path,
    cheap: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    args: tuple[str, ...],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "file": "", "there.jpg": "precious", "foreign/mine.txt": "", "unknown.yaml": "metod: blur", "list.yaml": "[1]",
        "broken.yaml": "a: [",
    }.items():  # fmt: skip
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text)
    before = snapshot(tmp_path)
    assert in_process(*args) == EXIT_USAGE
    shown = capsys.readouterr()
    assert shown.out == ""
    assert sentence in " ".join(shown.err.split())
    assert "Traceback" not in shown.err
    assert snapshot(tmp_path) == before


def test_settings_come_from_flag_then_environment_then_file(
    tmp_path: Path, cheap: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text("method: zero\narea: head\nseed: 1\nworkers: 1\n")
    monkeypatch.setenv("P3MDATA_AREA", "oval")
    monkeypatch.setenv("P3MDATA_SEED", "2")
    args = ("anonymize", cheap, tmp_path / "out", "--dry-run", "--json", "--config", config, "--seed", "3")
    assert in_process(*args) == EXIT_OK
    settings = json.loads(capsys.readouterr().out)["settings"]
    assert (settings["method"], settings["area"], settings["seed"]) == ("zero", "oval", 3)
    monkeypatch.setenv("P3MDATA_AREA", "wish")
    assert in_process(*args) == EXIT_USAGE
    assert "'area' cannot be 'wish'" in capsys.readouterr().err


def test_one_picture(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out.png"
    done = p3mdata("anonymize", "image", source / "a.jpg", out, "--facemask", tmp_path / "mask.png", "--json")
    assert (done.returncode, done.stderr) == (EXIT_OK, "")
    told = json.loads(done.stdout)
    # Landmarks tell who somebody is, and what is printed ends in logs.
    assert told["outcome"] == "anonymized" and [set(face) & {"landmarks", "points"} for face in told["faces"]] == [
        set()
    ]
    assert len(done.stdout) < 2000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mask.png", "out.png"]
    (tmp_path / "sky.jpg").write_bytes(encoded(texture(SIDE, SIDE)))
    done = p3mdata("anonymize", "image", tmp_path / "sky.jpg", tmp_path / "sky.png")
    assert (done.returncode, done.stdout) == (EXIT_HELD_BACK, "")
    assert (
        done.stderr == f"Error: {tmp_path / 'sky.jpg'}: no detector finds a face. Nothing was written (needs_review).\n"
    )
    assert not (tmp_path / "sky.png").exists()


@pytest.mark.parametrize("reader", [read_yaml, read_json, read_groups, _rows, _read])
def test_why_a_file_cannot_be_read_is_told_in_words(reader: Callable[[Path], Any], tmp_path: Path) -> None:
    """Not as Python prints its errors, with the system's number and the path once more."""
    text = tmp_path / "text"
    text.write_bytes(b"\xff\xfe\x00")
    cases = {tmp_path: "a (directory|regular file)", tmp_path / "none": "No such file or directory"}
    for path, words in cases.items() if reader is read_json else {**cases, text: "no text in UTF-8"}.items():
        with pytest.raises(P3MError) as caught:
            list(reader(path))
        assert re.search(words, str(caught.value))
        assert "Errno" not in str(caught.value) and str(caught.value).count(str(path)) == 1


def test_a_folder_in_the_place_of_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert in_process("anonymize", "image", tmp_path, tmp_path / "out.jpg") == EXIT_USAGE
    assert f"is a folder. Anonymize it with 'p3mdata anonymize dir {tmp_path}'" in capsys.readouterr().err


def test_what_is_held_back_is_told_by_outcome_and_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever the ids, and so the order of the rows, are."""
    held = [("b.jpg", "needs_review", "doubt"), ("a.jpg", "broken", "is empty"), ("z.jpg", "excluded", "small")]
    held += [(f"{letter}.jpg", "needs_review", "doubt") for letter in "hgfedca"]
    outcomes = {outcome.value: sum(state == outcome.value for _, state, _ in held) for outcome in Outcome}
    for rows in (held, held[::-1]):
        render.summary(RunSummary(tmp_path, len(held), outcomes, {}, 0, 0.0, rows), tmp_path / "report.html")
        told = [line.split()[:2] for line in capsys.readouterr().err.splitlines()]
        assert told == [
            *(["needs_review:", f"{letter}.jpg"] for letter in "abcdefgh"), ["broken:", "a.jpg"], ["excluded:", "z.jpg"]
        ]  # fmt: skip


def test_one_is_not_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, words in (
        (1, ("1 source file\n", "1 face masked")),
        (1200, ("1,200 source files\n", "1,200 faces masked")),
    ):
        outcomes = {outcome.value: number if outcome is Outcome.ANONYMIZED else 0 for outcome in Outcome}
        render.summary(RunSummary(tmp_path, number, outcomes, {}, number, 0.0), tmp_path / "report.html")
        told = capsys.readouterr().out
        assert all(word in told for word in words), told


def test_a_fault_of_the_program_is_exit_code_1_and_the_run_goes_on(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def faulty(sample: object, *args: object, **kwargs: object) -> object:
        if getattr(sample, "source", "") == "a.jpg":
            raise ZeroDivisionError
        return real(sample, *args, **kwargs)  # type: ignore[arg-type]

    real = shards.anonymize
    monkeypatch.setattr(shards, "anonymize", faulty)
    out = tmp_path / "out"
    assert in_process("anonymize", source, out, "--workers", "1", "--json") == EXIT_BUG
    summary = json.loads(capsys.readouterr().out)
    assert (summary["released"], summary["reasons"]) == (1, {"internal_error": 1, "not_an_image": 1})
    assert "ZeroDivisionError" in (out / "private" / "errors.jsonl").read_text()


def test_a_fault_outside_of_images_is_exit_code_1_with_its_trace(
    tmp_path: Path, cheap: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def faulty(*args: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("p3mdata.run.report.write_report", faulty)
    assert in_process("anonymize", cheap, tmp_path / "out", "--workers", "1") == EXIT_BUG
    shown = capsys.readouterr().err
    assert "ZeroDivisionError" in shown
    assert "fault of p3mdata" in shown


def test_ctrl_c_anywhere_is_exit_code_130(
    tmp_path: Path, cheap: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    for place in ("sources._hash_file", "executors.local.run", "report.write_report"):
        with monkeypatch.context() as context:
            context.setattr(f"p3mdata.run.{place}", interrupted)
            assert in_process("anonymize", cheap, tmp_path / "out", "--workers", "1") == EXIT_INTERRUPTED
        assert "Run the same command again to resume" in capsys.readouterr().err
    assert in_process("anonymize", cheap, tmp_path / "out", "--workers", "1") == EXIT_HELD_BACK


@pytest.mark.parametrize("strict", [False, True])
def test_names_that_are_no_text_are_printed_anyway(tmp_path: Path, cheap: Path, strict: bool) -> None:
    (cheap / os.fsdecode(b"\xff[bold]\n.jpg")).write_bytes(b"no picture either")
    options = {"env": {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}} if strict else {}
    for args in (("--dry-run",), ("--dry-run", "--json"), ("--json",), ()):
        done = p3mdata("anonymize", cheap, tmp_path / "out", "--workers", "1", *args, **options)
        assert done.returncode == (EXIT_OK if "--dry-run" in args else EXIT_HELD_BACK), done.stderr
        if "--json" in args:
            json.loads(done.stdout)


def test_no_colour_where_it_is_not_wanted(cheap: Path) -> None:
    env = {**os.environ, "NO_COLOR": "1", "FORCE_COLOR": "1"}
    done = p3mdata("anonymize", cheap / "nowhere", env=env)
    assert "does not exist" in done.stderr and not re.search(r"\x1b\[[0-9;]*3[0-7]m", done.stderr)


def test_plain_progress_lines_are_not_results(tmp_path: Path, cheap: Path) -> None:
    done = p3mdata("anonymize", cheap, tmp_path / "out", "--workers", "1", "--no-progress", "--json")
    assert json.loads(done.stdout)["samples"] == 1


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert in_process("--version") == EXIT_OK
    assert capsys.readouterr().out.startswith("p3mdata ")
    for command in ((), ("anonymize",), ("anonymize", "dir"), ("verify",), ("run",)):
        assert in_process(*command, "--help") == EXIT_OK
        assert "Usage" in capsys.readouterr().out


def test_a_recipe_runs_its_stages(tmp_path: Path, cheap: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "variables: {source: nowhere, out: run}\n"
        "settings: {workers: 1}\n"
        "stages:\n"
        '  - anonymize: {source: "${source}", out: "${out}"}\n'
        '  - verify: {run: "${out}"}\n'
    )
    assert in_process("run", recipe, "--set", f"out={tmp_path / 'out'}") == EXIT_USAGE
    assert "nowhere: does not exist" in capsys.readouterr().err
    assert in_process("run", recipe, "--set", f"source={cheap}", "--set", f"out={tmp_path / 'out'}") == EXIT_HELD_BACK
    assert "all proofs hold" in capsys.readouterr().out


def test_a_sample_is_drawn_looked_at_and_bounded_in_the_report(tmp_path: Path, kept_models: FaceFinder) -> None:
    run = HeldRun.make(tmp_path / "run")
    done = p3mdata_here("audit", run.out, "--sample", "2", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"sample": 2}), done.stderr
    page = (run.out / "report.html").read_text()
    assert 'id="audit"' in page
    decisions = tmp_path / "d.jsonl"
    rows = [{"source": "fine.png", "action": "accept"}, {"source": "also.jpg", "action": "exclude"}]
    decisions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert p3mdata_here("review", run.out, "--apply", decisions).returncode == 3
    after = (run.out / "report.html").read_text()
    assert after != page and "fine.png" not in after
    assert p3mdata_here("audit", run.out, "--sample", "0").returncode == 2
    assert p3mdata_here("verify", run.out).returncode == 0


def test_only_the_files_of_a_list(
    source: Path, tmp_path: Path, kept_models: FaceFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P3MDATA_WORKERS", "1")
    listed = tmp_path / "kept.txt"
    listed.write_text("b.png\n")
    done = p3mdata_here("anonymize", "dir", source, tmp_path / "run", "--files", listed, "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["samples"] == 1
    again = p3mdata_here("anonymize", "dir", source, tmp_path / "run", "--files", listed)
    assert again.returncode == 0
    other = p3mdata_here("anonymize", "dir", source, tmp_path / "run")
    assert other.returncode == 2 and "a.jpg is new" in other.stderr
    assert p3mdata_here("verify", tmp_path / "run").returncode == 0
    for text, words in (("c.png\n", "'c.png' is no picture"), ("\n", "names no file")):
        listed.write_text(text)
        done = p3mdata_here("anonymize", "dir", source, tmp_path / "x", "--files", listed)
        assert done.returncode == 2 and words in done.stderr
    done = p3mdata_here("anonymize", "dir", source, tmp_path / "x", "--files", tmp_path / "none.txt")
    assert done.returncode == 2 and "cannot be read" in done.stderr
    # The stages ask for the same files.
    listed.write_text("b.png\r\n")
    for step in (
        ("detect", source, tmp_path / "s", "--files", listed),
        ("mask", tmp_path / "s"),
        ("obfuscate", tmp_path / "s"),
    ):
        assert p3mdata_here(*step).returncode == 0
    assert p3mdata_here("verify", tmp_path / "s").returncode == 0
    assert contents(tmp_path / "s") == contents(tmp_path / "run")


def test_collection_rules_and_copies_from_the_command_line(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for seed in range(3):
        (photos / f"{seed}.png").write_bytes(encoded(texture(300, 300, seed=seed), "PNG"))
    (photos / "copy.jpg").write_bytes(encoded(texture(300, 300, seed=0), "JPEG", quality=60))
    (photos / "small.png").write_bytes(encoded(texture(90, 300, seed=5), "PNG"))
    done = p3mdata_here("curate", photos, tmp_path / "out", "--min-side", "200")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "kept.txt").read_text().split() == ["0.png", "1.png", "2.png"]
    reasons = {row["source"]: row["reason"] for row in read_rows(tmp_path / "out" / "rejected.jsonl")}
    assert set(reasons) == {"copy.jpg", "small.png"} and reasons["small.png"] == "too_small"
    done = p3mdata_here("duplicates", photos, "-o", tmp_path / "d.html", "--json")
    assert done.returncode == 0 and (tmp_path / "d.html").is_file()
    assert [[m["path"] for m in c] for c in json.loads(done.stdout)["clusters"]] == [["0.png", "copy.jpg"]]
    assert p3mdata_here("duplicates", photos, "-o", tmp_path / "d.txt").returncode == 2
    assert p3mdata_here("duplicates", tmp_path / "none").returncode == 2


def test_long_lists_stop_at_ten_and_say_where_the_rest_is(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(12):
        (tmp_path / "photos" / f"{number:02}.png").write_bytes(encoded(texture(20, 30, seed=number), "PNG"))
    done = p3mdata_here("curate", tmp_path / "photos", tmp_path / "out")
    lines = done.stdout.splitlines()
    assert len([line for line in lines if line[:2].isdigit() and ".png" in line]) == 10
    assert f"... and 2 more in {tmp_path / 'out' / 'rejected.jsonl'}, or with --all" in lines
    done = p3mdata_here("curate", tmp_path / "photos", tmp_path / "out", "--all")
    assert sum(line[:2].isdigit() and ".png" in line for line in done.stdout.splitlines()) == 12


def test_codes_of_emoji_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    from p3mdata.base import console

    console.say("a :b: c :smile: [bold]d")
    assert capsys.readouterr().err == "a :b: c :smile: [bold]d\n"


@pytest.mark.parametrize("verb", ["verify", "check"])
def test_no_verb_takes_fewer_workers_than_none(verb: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert in_process(verb, tmp_path, "--workers", "-1") == EXIT_USAGE
    assert "--workers" in capfd.readouterr().err
