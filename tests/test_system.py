"""Calls that differ between operating systems: the real ones here, and stand-ins for the others'."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from p3mdata.base import system
from tests.runs import contents, portraits

ROOT = Path(__file__).resolve().parent.parent
# A Python that lacks what Windows lacks.
WITHOUT_POSIX = """
import os, signal, sys
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
for module, names in ((os, ("getuid", "geteuid", "sysconf", "sched_getaffinity", "getppid_", "memfd_create", "fork")),
                      (signal, ("pthread_sigmask", "SIGKILL", "SIGHUP", "SIGUSR1"))):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
"""


def test_who_has_a_lock_keeps_others_out(tmp_path: Path) -> None:
    first, second = (os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT) for _ in range(2))
    try:
        system.flock(first, system.LOCK_SH)
        system.flock(second, system.LOCK_SH | system.LOCK_NB)
        with pytest.raises(BlockingIOError):
            system.flock(first, system.LOCK_EX | system.LOCK_NB)
    finally:
        os.close(first)
        os.close(second)


class Kernel:
    """Stands in for kernel32: notes what LockFileEx is given."""

    def __init__(self, taken: int = 0) -> None:
        self.taken, self.calls = taken, []

    def LockFileEx(self, handle: Any, flags: int, zero: int, low: int, high: int, place: Any) -> int:
        self.calls.append((handle.value, flags, zero, low, high, place._obj.offset_high))
        return int(not self.taken)

    def GetLastError(self) -> int:
        return self.taken


@pytest.mark.parametrize(
    ("kind", "flags"),
    [
        (system.LOCK_EX, 2),
        (system.LOCK_SH, 0),
        (system.LOCK_EX | system.LOCK_NB, 3),
        (system.LOCK_SH | system.LOCK_NB, 1),
    ],
)
def test_locks_of_windows_have_the_same_meaning(monkeypatch: pytest.MonkeyPatch, kind: int, flags: int) -> None:
    kernel = Kernel()
    monkeypatch.setattr(system, "fcntl", None)
    monkeypatch.setattr(system, "_windows", lambda descriptor: (descriptor + 1000, kernel))
    system.flock(7, kind)
    assert kernel.calls == [(1007, flags, 0, 1, 0, 0x7FFFFFFF)]
    # As winbase.h lays it out on 64 bits.
    assert ctypes.sizeof(system._Overlapped) == 32


@pytest.mark.parametrize(("code", "kind"), [(33, BlockingIOError), (6, OSError)])
def test_a_lock_of_windows_that_is_refused(monkeypatch: pytest.MonkeyPatch, code: int, kind: type[OSError]) -> None:
    monkeypatch.setattr(system, "fcntl", None)
    monkeypatch.setattr(system, "_windows", lambda descriptor: (descriptor, Kernel(code)))
    with pytest.raises(kind) as caught:
        system.flock(7, system.LOCK_EX | system.LOCK_NB)
    assert type(caught.value) is kind


def test_held_signals_come_afterwards() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    try:
        with system.signals_held(signal.SIGUSR1):
            os.kill(os.getpid(), signal.SIGUSR1)
            assert seen == []
        assert seen == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_held_signals_wait_where_another_thread_hears_them() -> None:
    """Who is not blocked gets a process's signal, and Python answers it in the main thread, held or not."""
    seen: list[int] = []
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    before = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    try:
        with system.signals_held(signal.SIGUSR1):
            assert thread.ident is not None
            signal.pthread_kill(thread.ident, signal.SIGUSR1)
            assert not over.wait(0.1)
            assert seen == []
        assert seen == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)
        over.set()
        thread.join()


def test_nothing_but_this_module_needs_calls_of_posix() -> None:
    code = WITHOUT_POSIX + (
        "import importlib, pkgutil, p3mdata, p3mnet\n"
        "for package in (p3mdata, p3mnet):\n"
        "    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        # The C library is loaded by ctypes, though its file ends as a module's does.
        "        if not module.name.endswith(('__main__', '._p3mdata')):\n"
        "            try:\n"
        "                importlib.import_module(module.name)\n"
        "            except ImportError as exc:\n"
        "                assert exc.name in ('ray', 'torch', 'fastapi', 'uvicorn', 'dlib'), (module.name, exc)\n"
        "from p3mdata.base import system\n"
        "print(system.cores(), system.free_memory(), system.user_mark())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_folder_is_anonymized_without_calls_of_posix(tmp_path: Path) -> None:
    portraits(tmp_path / "photos", "a.png", "b.jpg", side=400)
    code = WITHOUT_POSIX + (
        "from p3mdata.base import system\n"
        "locks = []\n"
        "system._lock_file_ex = lambda descriptor, kind: locks.append(kind)\n"
        "import p3mdata\n"
        "if __name__ == '__main__':\n"
        "    for workers in (1, 2):\n"
        "        summary = p3mdata.anonymize_dir('photos', f'run{workers}', workers=workers)\n"
        "        assert summary.outcomes['anonymized'] == 2, summary\n"
        "        assert p3mdata.verify_run(f'run{workers}') == []\n"
        "    assert locks\n"
    )
    # Workers are new processes, which read the file from its top: they lack what it takes away as well.
    (tmp_path / "call.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "call.py"], cwd=tmp_path,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    kept = [contents(tmp_path / run) for run in ("run1", "run2")]
    assert {name: data for name, data in kept[0].items() if name.startswith("images")} == {
        name: data for name, data in kept[1].items() if name.startswith("images")
    }
