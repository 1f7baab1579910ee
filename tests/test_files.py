"""Files that appear whole: what a killed writer left goes with the next one, and nothing of a writer that lives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from p3mdata.base.files import alone, temporary_name, this_machine, tidy_folder

# Writes a part of a file, and dies in the midst.
_KILLED = """
import os, sys
from pathlib import Path
from p3mdata.base.files import alone
with alone(Path(sys.argv[1])) as sink:
    sink.write(b"a part")
    sink.flush()
    os.kill(os.getpid(), 9)
"""


@pytest.fixture
def torn(tmp_path: Path) -> Path:
    """A process was killed here as it wrote `table [1].csv`; another one still writes, and one of another machine."""
    assert (
        subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path / "table [1].csv")], check=False).returncode == -9
    )
    assert len(list(tmp_path.iterdir())) == 1
    other = f".table [1].csv.{this_machine() + 1}0000001.tmp"
    for name in (temporary_name(Path("table [1].csv")).name, other, ".mine.tmp"):
        (tmp_path / name).write_bytes(b"of another one")
    return tmp_path


def test_a_lone_file_is_swept_by_its_next_writer(torn: Path) -> None:
    with alone(torn / "other.csv") as sink:
        sink.write(b"whole")
    assert len(list(torn.iterdir())) == 5
    # The name of this process' own is taken by what it writes now.
    with alone(torn / "table [1].csv") as sink:
        sink.write(b"whole")
    assert (torn / "table [1].csv").read_bytes() == b"whole"
    assert sorted(path.name for path in torn.glob(".*")) == [
        ".mine.tmp", f".table [1].csv.{this_machine() + 1}0000001.tmp"
    ]  # fmt: skip


def test_a_shared_folder_is_swept_of_the_dead_alone(torn: Path) -> None:
    tidy_folder(torn)
    assert {path.name for path in torn.iterdir()} == {
        temporary_name(Path("table [1].csv")).name, f".table [1].csv.{this_machine() + 1}0000001.tmp", ".mine.tmp"
    }  # fmt: skip
