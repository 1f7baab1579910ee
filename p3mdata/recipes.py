"""YAML recipes: stages in order, with the settings of the command line.

variables: {source: photos, out: run}     # defaults, changed by `--set source=...`
settings: {method: blur}                  # for all stages
stages:
  - anonymize: {source: "${source}", out: "${out}", preset: p3m}
  - verify: {run: "${out}"}
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p3mdata.config import Job, read_yaml, resolve
from p3mdata.errors import SettingsError
from p3mdata.resources import pipelines_dir
from p3mdata.shards import Stage

_FOLDERS = ("source", "out", "alphas", "trimaps", "masks")
# Stages that begin a run take a job; later ones take the run folder.
_JOB_STAGES = {"anonymize": Stage.ALL, "detect": Stage.DETECT}
_RUN_STAGES = {"mask": Stage.MASK, "obfuscate": Stage.OBFUSCATE, "verify": Stage.VERIFY}


@dataclass(frozen=True)
class Step:
    """One stage of a recipe: a job for stages that begin a run, else a run folder."""

    stage: Stage
    job: Job | None
    run: Path | None


def _fill(value: Any, variables: Mapping[str, str], where: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return string.Template(value).substitute(variables)
    except KeyError as exc:
        raise SettingsError(f"{where}: the variable {exc} has no value. Give it with --set {exc.args[0]}=...") from exc
    except ValueError as exc:
        raise SettingsError(f"{where}: '{value}' has a '$' that begins no variable. Write '$$' for a dollar.") from exc


def _path(value: Any, where: str, key: str) -> Path:
    if not isinstance(value, str) or not value:
        raise SettingsError(f"{where}: '{key}' must be a path, not {value!r}.")
    return Path(value)


def _step(entry: Any, shared: Mapping[str, Any], variables: Mapping[str, str], path: Path) -> Step:
    if not isinstance(entry, dict) or len(entry) != 1 or not isinstance(next(iter(entry.values())), dict):
        raise SettingsError(
            f"{path}: a stage must look like '- anonymize: {{source: photos, out: run}}', not {entry!r}."
        )
    name, options = next(iter(entry.items()))
    where = f"{path}: stage '{name}'"
    options, shared = ({key: _fill(value, variables, where) for key, value in d.items()} for d in (options, shared))
    if name in _JOB_STAGES:
        given = {key: options.pop(key) for key in _FOLDERS if key in options}
        folders = {key: _path(value, where, key) for key, value in given.items() if value is not None}
        if missing := {"source", "out"} - set(folders):
            raise SettingsError(f"{where}: needs '{sorted(missing)[0]}'.")
        settings, execution = resolve({}, {**shared, **options}, where=where)
        return Step(_JOB_STAGES[name], Job(**folders, settings=settings, execution=execution), None)
    if name in _RUN_STAGES:
        if unknown := [key for key in options if key != "run"]:
            raise SettingsError(f"{where}: unknown key '{unknown[0]}', takes 'run' and nothing else.")
        return Step(_RUN_STAGES[name], None, _path(options.get("run"), where, "run"))
    raise SettingsError(f"{where}: is unknown. Stages: {', '.join([*_JOB_STAGES, *_RUN_STAGES])}.")


def _file_of(recipe: Path) -> Path:
    """A recipe file, or the one of that name that comes with the tool."""
    own = pipelines_dir() / f"{recipe}.yaml"
    return own if not recipe.exists() and len(recipe.parts) == 1 and own.is_file() else recipe


def read_recipe(path: Path, given: Mapping[str, str]) -> list[Step]:
    """Steps of a recipe file.

    Args:
        path: The YAML file, or the bare name of a recipe that comes with the tool.
        given: Variables from the command line.

    Raises:
        SettingsError: Anything unknown or missing, with the stage and the key.
    """
    path = _file_of(path)
    recipe = read_yaml(path)
    if unknown := set(recipe) - {"variables", "settings", "stages"}:
        raise SettingsError(f"{path}: unknown key '{min(unknown, key=str)}'. Known: variables, settings, stages.")
    stages = recipe.get("stages")
    if not isinstance(stages, list) or not stages:
        raise SettingsError(f"{path}: has no stages. Add a list 'stages:'.")
    for key in ("variables", "settings"):
        if not isinstance(recipe.get(key, {}), dict):
            raise SettingsError(f"{path}: '{key}' must hold 'name: value' lines.")
    defaults = {str(k): str(v) for k, v in recipe.get("variables", {}).items() if v is not None}
    if unknown := set(given) - set(map(str, recipe.get("variables", {}))):
        raise SettingsError(
            f"{path}: has no variable '{sorted(unknown)[0]}'. Name it under 'variables:' or drop --set."
        )
    variables = {**defaults, **given}
    return [_step(entry, recipe.get("settings", {}), variables, path) for entry in stages]
