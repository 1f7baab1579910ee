"""YAML recipes: stages in order, with the settings of the command line.

variables: {source: photos, out: run}     # defaults, changed by `--set source=...`
settings: {method: blur}                  # for the stages that begin a run
stages:
  - anonymize: {source: "${source}", out: "${out}", preset: p3m}
  - verify: {run: "${out}"}
  - build-split: {run: "${out}", out: "${out}-data", validation: 500}

Every other command is a stage too; its keys are its arguments and its options with `_` for `-`. A key whose variables
are empty counts as not given, and a stage with `when: "${decisions}"` is left out where that is empty.
"""

from __future__ import annotations

import inspect
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from p3mdata.base.parsing import read_yaml
from p3mdata.base.resources import pipelines_dir
from p3mdata.config import Job, resolve
from p3mdata.errors import SettingsError
from p3mdata.run.stages import Stage

_FOLDERS = ("source", "out", "alphas", "trimaps", "masks")
# Stages that begin a run take a job; later ones take the run folder.
_JOB_STAGES = {"anonymize": Stage.ALL, "detect": Stage.DETECT}
_RUN_STAGES = {"mask": Stage.MASK, "obfuscate": Stage.OBFUSCATE, "verify": Stage.VERIFY}


_WHEN = "when"
# How a command prints is said once, for the whole recipe.
_OUTPUT = ("json", "quiet", "progress")
_NUMBERS_ARE_TEXT = ConfigDict(coerce_numbers_to_str=True)


@dataclass(frozen=True)
class Step:
    """One stage of a recipe: a job for stages that begin a run, a run folder, or a command with its arguments."""

    stage: Stage | None
    job: Job | None
    run: Path | None
    command: Callable[..., None] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)


def _fill(value: Any, variables: Mapping[str, str], where: str) -> Any:
    if isinstance(value, list):
        return [_fill(each, variables, where) for each in value]
    if not isinstance(value, str):
        return value
    try:
        return string.Template(value).substitute(variables)
    except KeyError as exc:
        raise SettingsError(f"{where}: the variable {exc} has no value. Give it with --set {exc.args[0]}=...") from exc
    except ValueError as exc:
        raise SettingsError(f"{where}: '{value}' has a '$' that begins no variable. Write '$$' for a dollar.") from exc


def _filled(options: Mapping[str, Any], variables: Mapping[str, str], where: str) -> dict[str, Any]:
    """Options with their variables; those that come to nothing by them are left out."""
    filled = {key: _fill(value, variables, where) for key, value in options.items()}
    return {key: value for key, value in filled.items() if value != "" or options[key] == ""}


def _wanted(entry: Any, variables: Mapping[str, str], path: Path) -> bool:
    """Whether the condition of a stage holds; one without a condition is wanted."""
    options = next(iter(entry.values()), None) if isinstance(entry, dict) else None
    if not isinstance(options, dict) or _WHEN not in options:
        return True
    return bool(_fill(options[_WHEN], variables, f"{path}: stage '{next(iter(entry))}'"))


def _path(value: Any, where: str, key: str) -> Path:
    if not isinstance(value, str) or not value:
        raise SettingsError(f"{where}: '{key}' must be a path, not {value!r}.")
    return Path(value)


def _arguments(command: Callable[..., None], options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Options of a stage as arguments of a command, in the types of its parameters."""
    hints = get_type_hints(command)
    known = {name: p for name, p in inspect.signature(command).parameters.items() if name not in _OUTPUT}
    if unknown := sorted(set(options) - set(known)):
        raise SettingsError(f"{where}: unknown key '{unknown[0]}'. Known keys: {', '.join(known)}.")
    if missing := [name for name, p in known.items() if p.default is p.empty and options.get(name) is None]:
        raise SettingsError(f"{where}: needs '{missing[0]}'.")
    found = {}
    for name, value in options.items():
        try:
            found[name] = TypeAdapter(hints[name], config=_NUMBERS_ARE_TEXT).validate_python(value)
        except ValidationError as exc:
            raise SettingsError(f"{where}: '{name}' cannot be {value!r}: {exc.errors()[0]['msg']}.") from exc
    return found


def _step(
    entry: Any,
    shared: Mapping[str, Any],
    variables: Mapping[str, str],
    path: Path,
    commands: Mapping[str, Callable[..., None]],
) -> Step:
    if not isinstance(entry, dict) or len(entry) != 1 or not isinstance(next(iter(entry.values())), dict):
        raise SettingsError(
            f"{path}: a stage must look like '- anonymize: {{source: photos, out: run}}', not {entry!r}."
        )
    name, options = next(iter(entry.items()))
    where = f"{path}: stage '{name}'"
    options, shared = (_filled(d, variables, where) for d in (options, shared))
    options.pop(_WHEN, None)
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
    if name in commands:
        command = commands[name]
        return Step(None, None, None, command, _arguments(command, options, where))
    raise SettingsError(f"{where}: is unknown. Stages: {', '.join([*_JOB_STAGES, *_RUN_STAGES, *commands])}.")


def _file_of(recipe: Path) -> Path:
    """A recipe file, or the one of that name that comes with the tool."""
    own = pipelines_dir() / f"{recipe}.yaml"
    return own if not recipe.is_file() and len(recipe.parts) == 1 and own.is_file() else recipe


def read_recipe(
    path: Path, given: Mapping[str, str], commands: Mapping[str, Callable[..., None]] | None = None
) -> list[Step]:
    """Steps of a recipe file.

    Args:
        path: The YAML file, or the bare name of a recipe that comes with the tool.
        given: Variables from the command line.
        commands: Functions of the commands that may be stages, by name.

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
    wanted = [entry for entry in stages if _wanted(entry, variables, path)]
    return [_step(entry, recipe.get("settings", {}), variables, path, commands or {}) for entry in wanted]
