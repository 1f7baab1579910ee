"""What an import costs: no torch to anonymize or to evaluate, no OpenCV to ask for the version."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from p3mdata.cli.commands import PANELS, lines


def test_packages_import_without_what_they_do_not_need() -> None:
    code = "\n".join(
        [
            "import sys",
            "sys.modules['torch'] = None  # an import of it fails",
            "import p3mdata, p3mnet",
            "assert 'cv2' not in sys.modules, 'importing p3mdata brings OpenCV'",
            "import p3mdata.api, p3mdata.cli, p3mdata.run.job, p3mdata.faces.ensemble",
            "import p3mnet.cli, p3mnet.evaluate, p3mnet.metrics",
            "assert sys.modules['torch'] is None",
        ]
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


HEAVY = ("cv2", "numpy", "pydantic", "torch", "PIL", "yaml")


@pytest.mark.parametrize(
    ("call", "light"),
    [
        ("import p3mdata", (*HEAVY, "rich", "typer")),
        ("import p3mnet", (*HEAVY, "rich", "typer")),
        ("from p3mdata.cli import main; main(['--help'])", HEAVY),
    ],
)
def test_what_is_called_for_little_brings_little(call: str, light: tuple[str, ...]) -> None:
    code = f"import atexit, sys; atexit.register(lambda: print('brought', *(set({light}) & set(sys.modules)))); {call}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].split() == ["brought"]


def test_the_help_tells_of_every_command_what_the_command_says() -> None:
    there = {}
    for panel, module in PANELS.items():
        for name, found in typer.main.get_group(importlib.import_module(f"p3mdata.cli.{module}").app).commands.items():
            about = " ".join((found.help or "").split("\n\n", maxsplit=1)[0].split())
            there[name] = (name, about, panel)
    assert {line.name: line for line in lines()} == there
    assert len(there) > 20
