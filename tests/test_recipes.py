"""Recipes: stages in order, variables filled in, errors that name stage and key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from p3mdata.cli.tools import _STAGES
from p3mdata.config import Method, Preset
from p3mdata.errors import SettingsError
from p3mdata.recipes import Step, read_recipe
from p3mdata.resources import pipelines_dir
from p3mdata.shards import Stage
from tests.factories import encoded, matte, texture
from tests.runs import p3mdata

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
    assert len(recipes) >= 4
    for path in recipes:
        assert read_recipe(path, {"source": "photos", "out": "run"}, _STAGES)


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


def test_the_recipe_of_a_whole_dataset_runs_and_runs_again(tmp_path: Path) -> None:
    photos, mattes = tmp_path / "photos", tmp_path / "mattes"
    for seed in range(4):
        for folder, array in ((photos, texture(240, 240, seed=seed)), (mattes, matte(240))):
            folder.mkdir(exist_ok=True)
            (folder / f"{seed}.png").write_bytes(encoded(array, "PNG"))
    recipe = (
        "run",
        "p3m10k",
        "--set",
        f"source={photos}",
        "--set",
        f"alphas={mattes}",
        "--set",
        f"out={tmp_path / 'p3m'}",
    )
    sizes = ("--set", "min_side=200", "--set", "validation=1")
    assert p3mdata(*recipe, *sizes).returncode == 2
    decisions = tmp_path / "d.jsonl"
    decisions.write_text("".join(f'{{"source":"{seed}.png","action":"no_face"}}\n' for seed in range(4)))
    assert p3mdata("review", tmp_path / "p3m" / "run", "--apply", decisions).returncode == 0
    done = p3mdata(*recipe, *sizes)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "p3m" / "release" / "README.md").is_file()
    assert len(list((tmp_path / "p3m" / "data" / "train" / "blurred_image").iterdir())) == 3


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
