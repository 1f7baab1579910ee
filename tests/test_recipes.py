"""Recipes: stages in order, variables filled in, errors that name stage and key."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from p3mdata.base.resources import pipelines_dir
from p3mdata.cli import main
from p3mdata.cli.recipes import Step, read_recipe
from p3mdata.cli.tools import _STAGES
from p3mdata.config import Method, Preset
from p3mdata.errors import EXIT_HELD_BACK, EXIT_OK, SettingsError
from p3mdata.run.stages import Stage
from tests.factories import encoded, matte, obfuscated_dataset, texture
from tests.runs import p3mdata, portraits
from tests.test_celebamask import annotated
from tests.test_celebamask_folder import write_face

Read = Callable[..., list[Step]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Steps of a recipe's text, with variables by keyword."""

    def steps(text: str, **variables: str) -> list[Step]:
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return read_recipe(path, variables)

    return steps


FULL = """
variables: {source: photos, out: run, q: 80}
settings: {method: mosaic, quality: "${q}"}
stages:
  - detect: {source: "${source}", out: "${out}", alphas: "${source}/mattes"}
  - mask: {run: "${out}"}
  - obfuscate: {run: "${out}"}
  - verify: {run: "${out}"}
  - anonymize: {source: "${source}", out: other, method: blur, preset: yang, workers: 2}
"""


def test_stages_come_in_order_with_their_own_and_the_shared_settings(read: Read) -> None:
    steps = read(FULL)
    assert [step.stage for step in steps] == [Stage.DETECT, Stage.MASK, Stage.OBFUSCATE, Stage.VERIFY, Stage.ALL]
    first, last = steps[0].job, steps[-1].job
    assert first is not None and last is not None
    assert (first.settings.method, first.settings.quality) == (Method.MOSAIC, 80)
    assert (last.settings.method, last.settings.preset) == (Method.BLUR, Preset.YANG)
    assert last.execution.workers == 2
    assert [step.run for step in steps[1:4]] == [Path("run")] * 3


def test_paths_stay_relative_to_where_the_user_is(read: Read) -> None:
    job = read(FULL)[0].job
    assert job is not None
    assert (job.source, job.out, job.alphas, job.masks) == (Path("photos"), Path("run"), Path("photos/mattes"), None)


def test_variables_from_the_command_line_win(read: Read) -> None:
    job = read(FULL, source="/data/in", q="33")[0].job
    assert job is not None
    assert job.source == Path("/data/in") and job.settings.quality == 33


def test_the_environment_wins_over_the_recipe(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P3MDATA_METHOD", "zero")
    job = read(FULL)[0].job
    assert job is not None and job.settings.method is Method.ZERO


def test_an_absent_companion_may_be_written_as_nothing(read: Read) -> None:
    job = read("stages: [{anonymize: {source: a, out: b, alphas: }}]")[0].job
    assert job is not None and job.alphas is None


def test_a_dollar_can_be_written(read: Read) -> None:
    assert read("stages: [{verify: {run: 'cash$$'}}]")[0].run == Path("cash$")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no stages"),
        ("stages: []", "no stages"),
        ("stages: {verify: {run: a}}", "no stages"),
        ("stage: []", "unknown key 'stage'"),
        ("{1: a, b: c}", "unknown key '1'"),
        ("settings: [a]\nstages: [{verify: {run: a}}]", "'settings' must"),
        ("variables: a\nstages: [{verify: {run: a}}]", "'variables' must"),
        ("stages: [verify]", "must look like"),
        ("stages: [{verify: a}]", "must look like"),
        ("stages: [{verify: {run: a}, mask: {run: a}}]", "must look like"),
        ("stages: [{publish: {run: a}}]", "stage 'publish': is unknown"),
        ("stages: [{anonymize: {source: a}}]", "stage 'anonymize': needs 'out'"),
        ("stages: [{detect: {out: a}}]", "stage 'detect': needs 'source'"),
        ("stages: [{anonymize: {source: , out: b}}]", "stage 'anonymize': needs 'source'"),
        ("stages: [{anonymize: {source: 5, out: b}}]", "stage 'anonymize': 'source' must be a path"),
        ("stages: [{anonymize: {source: [a], out: b}}]", "stage 'anonymize': 'source' must be a path"),
        ("stages: [{anonymize: {source: '', out: b}}]", "stage 'anonymize': 'source' must be a path"),
        ("stages: [{anonymize: {source: a, out: b, colour: red}}]", "stage 'anonymize': unknown setting 'colour'"),
        ("stages: [{anonymize: {source: a, out: b, 3: red}}]", "stage 'anonymize': unknown setting '3'"),
        ("stages: [{anonymize: {source: a, out: b, quality: 900}}]", "stage 'anonymize': 'quality' cannot be 900"),
        ("settings: {qualty: 9}\nstages: [{detect: {source: a, out: b}}]", "stage 'detect': unknown setting 'qualty'"),
        ("stages: [{verify: {}}]", "stage 'verify': 'run' must be a path"),
        ("stages: [{verify: {run: }}]", "stage 'verify': 'run' must be a path"),
        ("stages: [{verify: {run: 5}}]", "stage 'verify': 'run' must be a path"),
        ("stages: [{verify: {run: a, strict: 1}}]", "stage 'verify': unknown key 'strict'"),
        ("stages: [{verify: {run: '${out}'}}]", "stage 'verify': the variable 'out' has no value.*--set out="),
        ("variables: {out: }\nstages: [{verify: {run: '${out}'}}]", "the variable 'out' has no value"),
        ("stages: [{verify: {run: 'a$'}}]", r"stage 'verify': 'a\$' has a"),
    ],
)
def test_errors_name_file_stage_and_key(read: Read, text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=rf"recipe\.yaml: .*{words}"):
        read(text)


def test_the_recipes_that_come_with_the_tool_can_be_read() -> None:
    recipes = sorted(pipelines_dir().glob("*.yaml"))
    assert len(recipes) >= 6
    for path in recipes:
        assert read_recipe(path, {"out": "run"}, _STAGES)


def test_other_commands_are_stages_with_their_own_keys(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"

    def step(text: str) -> Step:
        recipe.write_text(f"stages: [{text}]")
        return read_recipe(recipe, {}, _STAGES)[0]

    built = step("{build-split: {run: a, out: b, validation: 500, group_by: [prefix]}}")
    assert built.arguments == {"run": Path("a"), "out": Path("b"), "validation": "500", "group_by": ["prefix"]}
    for text, words in (
        ("{build-split: {run: a}}", "stage 'build-split': needs 'out'"),
        ("{build-split: {run: a, out: b, size: 1}}", "unknown key 'size'"),
        ("{check: {dataset: a, json: true}}", "unknown key 'json'"),
        ("{build-split: {run: a, out: b, seed: many}}", "'seed' cannot be 'many'"),
        ("{export: {source: a, out: b, to: zip}}", "'to' cannot be 'zip'"),
    ):
        with pytest.raises(SettingsError, match=words):
            step(text)


def test_what_variables_leave_empty_is_not_given(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "variables: {d: '', a: ''}\n"
        "stages: [{review: {when: '${d}', run: r, apply: '${d}'}}, {anonymize: {source: s, out: o, alphas: '${a}'}}]"
    )
    (only,) = read_recipe(recipe, {}, _STAGES)
    assert only.job is not None and only.job.alphas is None
    review, job = read_recipe(recipe, {"d": "d.jsonl", "a": "mattes"}, _STAGES)
    assert review.arguments == {"run": Path("r"), "apply": Path("d.jsonl")}
    assert job.job is not None and job.job.alphas == Path("mattes")
    with pytest.raises(SettingsError, match="stage 'review': the variable 'x' has no value"):
        recipe.write_text("stages: [{review: {when: '${x}', run: r}}]")
        read_recipe(recipe, {}, _STAGES)


def recipe_args(name: str, variables: dict[str, object]) -> list[str]:
    return ["run", name, *(part for key, value in variables.items() for part in ("--set", f"{key}={value}"))]


def run_recipe(name: str, **variables: object) -> int:
    """Exit code of a recipe that comes with the tool, run in this process."""
    with pytest.raises(SystemExit) as caught:
        main(recipe_args(name, variables))
    assert isinstance(caught.value.code, int)
    return caught.value.code


# A train-check of one step for each training: it is a smoke check, which leaves the verdict open.
TINY = {"epochs": 1, "seeds": 1}


@pytest.mark.slow
def test_the_recipe_of_a_whole_dataset_runs_and_runs_again(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    photos, mattes, out = tmp_path / "photos", tmp_path / "mattes", tmp_path / "p3m"
    for seed in range(4):
        for folder, array in ((photos, texture(240, 240, seed=seed)), (mattes, matte(240))):
            folder.mkdir(exist_ok=True)
            (folder / f"{seed}.png").write_bytes(encoded(array, "PNG"))
    variables: dict[str, object] = {"source": photos, "alphas": mattes, "out": out, "min_side": 200, "validation": 1}
    decisions = tmp_path / "d.jsonl"
    decisions.write_text("".join(f'{{"source":"{seed}.png","action":"no_face"}}\n' for seed in range(4)))
    variables |= {"decisions": decisions, **TINY}
    done = p3mdata(*recipe_args("p3m10k", variables), timeout=300)
    assert done.returncode == EXIT_HELD_BACK, done.stderr
    assert (out / "release" / "README.md").is_file()
    assert len(list((out / "data" / "train" / "blurred_image").iterdir())) == 3
    found = json.loads((out / "train-check" / "report.json").read_text())
    assert found["complete"] and {row["protocol"] for row in found["table_4"]} == {"B:B", "B:N", "N:N", "N:B"}
    # Again, after another decision.
    decisions.write_text('{"source":"3.png","action":"exclude"}\n')
    done = p3mdata(*recipe_args("p3m10k", variables), timeout=300)
    assert done.returncode == EXIT_HELD_BACK, done.stderr
    assert json.loads((out / "train-check" / "report.json").read_text())["training_pictures"] == 2


@pytest.mark.slow
def test_the_recipes_of_a_run_run(tmp_path: Path) -> None:
    photos = portraits(tmp_path / "photos", "a.png", "b.jpg")
    assert run_recipe("quickstart", source=photos, out=tmp_path / "quick") == EXIT_OK
    assert run_recipe("staged", source=photos, alphas="", out=tmp_path / "staged") == EXIT_OK
    assert len(list((tmp_path / "staged" / "images").iterdir())) == 2


@pytest.mark.slow
def test_the_recipes_of_the_tables_run(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    data = obfuscated_dataset(tmp_path, train=3, private=1, free=1)
    common: dict[str, object] = {"dataset": data, "originals": tmp_path / "orig", **TINY}
    assert run_recipe("protocols", out=tmp_path / "p", **common) == EXIT_HELD_BACK
    found = json.loads((tmp_path / "p" / "report.json").read_text())
    assert [row["protocol"] for row in found["table_4"]] == ["B:B", "B:N", "B:N", "N:N", "N:N", "N:B"]
    assert run_recipe("obfuscations", out=tmp_path / "o", **common) == EXIT_HELD_BACK
    found = json.loads((tmp_path / "o" / "report.json").read_text())
    # One network is tested on all; the other question is asked for.
    assert {row["trained"] for row in found["table_8"]} == {"B", "none"}
    assert {"P-blur", "P-mosaic", "P-zero"} < {row["test"] for row in found["table_8"] if row["trained"] == "B"}
    assert run_recipe("obfuscations", out=tmp_path / "e", each_method="true", **common) == EXIT_HELD_BACK
    found = json.loads((tmp_path / "e" / "report.json").read_text())
    assert {row["trained"] for row in found["table_8"]} == {"B", "none", "blur", "mosaic", "zero"}


@pytest.mark.slow
def test_the_recipe_of_facemasks_runs_and_pastes(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    source = tmp_path / "CelebAMask-HQ"
    write_face(source, 0, annotated())
    variables: dict[str, object] = {"source": source, "out": tmp_path / "faces"}
    assert run_recipe("celebamask_hq", **variables) == EXIT_OK
    data = obfuscated_dataset(tmp_path, train=3, private=1, free=0)
    assert run_recipe("celebamask_hq", dataset=data, **variables, **TINY) == EXIT_HELD_BACK
    found = json.loads((tmp_path / "data-train-check-icp" / "report.json").read_text())
    assert found["complete"] and found["settings"]["copy_paste"] == "icp"


def test_a_built_in_recipe_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_recipe(Path("quickstart"), {}) == read_recipe(pipelines_dir() / "quickstart.yaml", {})
    with pytest.raises(SettingsError, match=r"nowhere: cannot be read"):
        read_recipe(Path("nowhere"), {})


def test_a_misspelt_variable_is_named(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("variables: {source: a}\nstages: [{anonymize: {source: '${source}', out: b}}]")
    with pytest.raises(SettingsError, match="has no variable 'sorce'"):
        read_recipe(recipe, {"sorce": "x"})
