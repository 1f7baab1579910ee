"""Sequences and mappings that lie in temporary files: what was put comes back, in order, and memory does not grow."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from p3mdata.base.disk_backed import DiskDict, DiskList

# Values of 30 MB; a shelf holds two of them in memory.
_MANY = """
import os, resource, sys
from p3mdata.errors import SettingsError
from p3mdata.base.disk_backed import DiskDict

def peak():
    # Megabytes. What getrusage tells has those of the parent in it.
    with open("/proc/self/status") as about:
        return next(int(line.split()[1]) for line in about if line.startswith("VmHWM")) // 1024

DiskDict([("a", 1)])
before = peak()
if len(sys.argv) > 1:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
try:
    shelf = DiskDict((f"{i:08d}", os.urandom(300)) for i in reversed(range(100_000)))
except SettingsError as exc:
    sys.exit(str(exc))
assert shelf["00099999"] and sum(1 for _ in shelf) == 100_000
assert os.listdir(os.environ["TMPDIR"]) == [], "the file has a name"
print(peak() - before)
"""


def test_items_come_back_as_they_were_put() -> None:
    spool: DiskList[object] = DiskList(["a", None])
    spool.append({"b": 1})
    spool[1] = ("changed", "and longer than before")
    assert list(spool) == ["a", ("changed", "and longer than before"), {"b": 1}]
    assert list(spool[1:]) == list(spool)[1:] and spool[-1] == {"b": 1} and len(spool[::2]) == 2


def test_a_shelf_is_a_mapping_in_the_order_of_its_names() -> None:
    draw = random.Random(1)
    shelf: DiskDict[object] = DiskDict()
    plain: dict[str, object] = {}
    for step in range(2000):
        name = f"{draw.randrange(300)}"
        if draw.random() < 0.3 and name in plain:
            del shelf[name], plain[name]
        else:
            shelf[name] = plain[name] = (step, [name])
    assert list(shelf.items()) == sorted(plain.items())
    assert len(shelf) == len(plain) and ("x" in shelf) is False and shelf.get("x", 1) == 1
    assert shelf.setdefault("x", "first") == shelf.setdefault("x", "second") == "first"
    for missing in (shelf.__getitem__, shelf.__delitem__):
        with pytest.raises(KeyError, match="missing"):
            missing("missing")


def test_a_shelf_takes_every_name_that_a_file_can_have() -> None:
    names = ["", "a", "A", "\n", "é", "e\u0301", "\udcff", "\ud800", "\uffff", "\U0001f600", "a\0b", "?' OR 1"]
    shelf = DiskDict((name, number) for number, name in enumerate(names))
    assert list(shelf) == sorted(names)
    assert [shelf[name] for name in names] == list(range(len(names)))
    with pytest.raises(TypeError, match="int is no name"):
        shelf[1] = 1  # type: ignore[index]


def test_a_shelf_may_be_changed_while_it_is_read() -> None:
    shelf = DiskDict((f"{i:03d}", i) for i in range(500))
    for name in shelf:
        shelf[name] += 1
    assert list(shelf.values()) == list(range(1, 501))


def _many(tmp_path: Path, *limit: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _MANY, *limit],
        capture_output=True,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )


def test_a_shelf_does_not_lie_in_memory_nor_stay_on_disk(tmp_path: Path) -> None:
    done = _many(tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 10
    assert list(tmp_path.iterdir()) == []


def test_no_room_for_a_shelf_is_told(tmp_path: Path) -> None:
    done = _many(tmp_path, str(1 << 20))
    assert done.returncode == 1 and "temporary files cannot be written" in done.stderr and "TMPDIR" in done.stderr
