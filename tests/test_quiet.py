"""Nothing leaves the machine: libraries that would tell of their use find no way, and keep no notes to send later."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runs import PATIENCE, p3mdata, portraits

# What a library would have to ask in a container; here the test's own.
_WAYS = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "http_proxy", "HTTP_PROXY")


@pytest.fixture
def asked() -> Iterator[tuple[str, list[bytes]]]:
    """Address of a proxy that notes what it is asked for, and hangs up."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            while True:
                try:
                    link, _ = server.accept()
                except OSError:
                    return
                with link:
                    heard.append(link.recv(200))

        threading.Thread(target=listen, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", heard
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_run_asks_for_no_address(tmp_path: Path, asked: tuple[str, list[bytes]], workers: str) -> None:
    portraits(tmp_path / "src", "a.jpg", "b.jpg")
    address, heard = asked
    run = p3mdata("anonymize", tmp_path / "src", tmp_path / "out", "--workers", workers, env=_asking(address, tmp_path))
    assert run.returncode == 0, run.stderr
    assert heard == []
    # Neither notes of events nor the mark of a session.
    assert not list(tmp_path.glob("home/**/onnxruntime*")) and not (tmp_path / ".ses").exists()


def test_the_check_with_mediapipe_asks_for_no_address(tmp_path: Path, asked: tuple[str, list[bytes]]) -> None:
    """Runs do without MediaPipe; `doctor` holds its landmarks against theirs."""
    address, heard = asked
    done = p3mdata("doctor", "--json", env=_asking(address, tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    findings = {check["name"]: check["finding"] for check in json.loads(done.stdout)}
    assert "px apart" in findings["landmarks as MediaPipe's"]
    assert heard == []


def _asking(address: str, folder: Path) -> dict[str, str]:
    """Surroundings in which all ways lead to an address, and whose home and temporary files lie in a folder."""
    return os.environ | dict.fromkeys(_WAYS, address) | {"HOME": str(folder / "home"), "TMPDIR": str(folder)}


_OWN = """
import os, subprocess, sys
from p3mdata.base import quiet
if sys.argv[1] == "own":
    quiet.own_process()
quiet.close_way_out()
show = "import os; print(os.environ.get('https_proxy'))"
print(os.environ.get("https_proxy"))
subprocess.run([sys.executable, "-c", show])
subprocess.run([sys.executable, "-c", "import p3mdata.base.streams;" + show])
"""


@pytest.mark.parametrize(("whose", "seen"), [("own", "nowhere://http://kept:1"), ("a caller's", "http://kept:1")])
def test_ways_of_python_and_of_callers_stay(whose: str, seen: str) -> None:
    """Only C code of our own processes finds no way; code of ours that is started by these finds its way again."""
    done = subprocess.run(
        [sys.executable, "-c", _OWN, whose], capture_output=True, text=True, timeout=PATIENCE,
        env=os.environ | {"https_proxy": "http://kept:1", "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert done.stdout.splitlines() == ["http://kept:1", seen, "http://kept:1"]
