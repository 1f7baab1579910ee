"""Runs that stop at a picture until a test lets them go on: signals are sent at a state, not after a time."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.surroundings import first_on_path

# Python reads this file at start, in worker processes too. A picture is held as it is opened, or as its released file
# is about to get its name, while there is a file for it; what is there besides tells the test where the run is.
_SITE = """
import hashlib, io, os, signal, time
from PIL import Image

GATE = os.environ["P3M_TEST_GATE"]
last = [""]

def held(what):
    path = os.path.join(GATE, what)
    if os.path.exists(path):
        with open(path + ".pid", "w") as file:
            file.write(str(os.getpid()))
        os.rename(path + ".pid", path + ".at")
        while os.path.exists(path):
            time.sleep(0.01)

real_open, real_replace, real_signal = Image.open, os.replace, signal.signal

def open_(source, *args, **kwargs):
    if isinstance(source, io.BytesIO):
        digest = hashlib.sha256(source.getvalue()).hexdigest()
        # Results are opened as well, to prove them.
        if os.path.exists(os.path.join(GATE, digest + ".known")):
            last[0] = digest
        held(digest + ".open")
    return real_open(source, *args, **kwargs)

def replace(source, target, **kwargs):
    if os.path.basename(os.path.dirname(target)) == "images":
        held(last[0] + ".write")
    return real_replace(source, target, **kwargs)

def signal_(number, handler):
    if number not in (signal.SIGINT, signal.SIGTERM) or not callable(handler):
        return real_signal(number, handler)
    def told(*args):
        open(os.path.join(GATE, "signal"), "w").close()
        return handler(*args)
    return real_signal(number, told)

Image.open, os.replace, signal.signal = open_, replace, signal_
"""


class Gate:
    """Holds pictures of a folder in the processes that get `env`."""

    def __init__(self, folder: Path, source: Path) -> None:
        self._folder, self._source = folder, source
        (folder / "site").mkdir(parents=True)
        (folder / "site" / "sitecustomize.py").write_text(_SITE)
        for path in source.iterdir():
            self._file(path.name, "known").touch()
        self.env = {**first_on_path(folder / "site"), "P3M_TEST_GATE": str(folder)}

    def _file(self, name: str, step: str) -> Path:
        return self._folder / f"{hashlib.sha256((self._source / name).read_bytes()).hexdigest()}.{step}"

    def hold(self, *names: str, step: str = "open") -> None:
        """Hold pictures as they are opened, or with `step` "write" as their released image gets its name."""
        for name in names:
            self._file(name, step).touch()

    def at(self, name: str, step: str = "open") -> bool:
        """Whether a process waits with this picture."""
        return self._file(name, step).with_suffix(f".{step}.at").exists()

    def waiting(self, name: str) -> int:
        """The process that waits with this picture as it opens it."""
        return int(self._file(name, "open").with_suffix(".open.at").read_text())

    def saw_signal(self) -> bool:
        """Whether a process has noticed SIGINT or SIGTERM."""
        return (self._folder / "signal").exists()

    def release(self, *names: str) -> None:
        """Let pictures go on that are held as they are opened."""
        for name in names:
            self._file(name, "open").unlink()

    def open(self) -> None:
        """Let everything go on, and forget who waited."""
        for path in self._folder.iterdir():
            if path.is_file() and path.suffix != ".known":
                path.unlink()
