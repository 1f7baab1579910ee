"""Style and types are part of the suite."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    "command",
    [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]],
    ids=lambda command: " ".join(command),
)
def test_clean(command: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_torch_is_needed_to_anonymize() -> None:
    code = "import sys; sys.modules['torch'] = None; import p3mdata.cli, p3mdata.run, p3mdata.faces.ensemble"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
