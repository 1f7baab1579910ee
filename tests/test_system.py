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
from p3mdata.base.disk_backed import DiskList
from p3mdata.base.files import RELEASED_AT, this_machine
from tests.runs import contents, portraits

ROOT = Path(__file__).resolve().parent.parent
# A Python that lacks what Windows lacks, or has it otherwise; in the place of its kernel stands what notes the calls.
WITHOUT_POSIX = """
import os, signal, sys
from pathlib import Path
from types import SimpleNamespace
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
for name in ("getuid", "geteuid", "sysconf", "sched_getaffinity", "memfd_create", "fork", "pread", "pwrite",
             "getloadavg", "statvfs", "killpg", "getpgid", "setsid", "mkfifo", "chown", "fchmod"):
    vars(os).pop(name, None)
for name in ("pthread_sigmask", "SIGKILL", "SIGHUP", "SIGUSR1"):
    vars(signal).pop(name, None)
from multiprocessing import resource_tracker

def kill(process, number, real=os.kill):
    assert number, "a Ctrl-C for the process"
    real(process, number)

def utime(path, *times, real=os.utime):
    assert not isinstance(path, int), "no path"
    real(path, *times)

def unknown(*_):
    raise ImportError("_posixsubprocess")

os.kill, os.utime, resource_tracker.ensure_running = kill, utime, unknown
from p3mdata.base import system
calls = []
system._handle = lambda descriptor: descriptor
system._kernel = lambda: SimpleNamespace(
    LockFileEx=lambda *_: calls.append("lock") or 1,
    SetFileTime=lambda *_: calls.append("time") or 1,
    OpenProcess=lambda right, inherited, process: calls.append("process") or 0,
    GetLastError=lambda: 87,
)
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
    """Stands in for kernel32: notes what its functions are given."""

    def __init__(self, taken: int = 0) -> None:
        self.taken: int = taken
        self.calls: list[Any] = []

    def LockFileEx(self, handle: Any, flags: int, zero: int, low: int, high: int, place: Any) -> int:
        self.calls.append((handle.value, flags, zero, low, high, place._obj.offset_high))
        return int(not self.taken)

    def SetFileTime(self, handle: Any, made: None, read: Any, changed: Any) -> int:
        self.calls.append((handle.value, made, read._obj.value, changed._obj.value))
        return int(not self.taken)

    def GetLastError(self) -> int:
        return self.taken


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """That of a Windows on which the test runs."""
    kernel = Kernel()
    monkeypatch.setattr(system, "fcntl", None)
    monkeypatch.setattr(system, "_handle", lambda descriptor: descriptor + 1000)
    monkeypatch.setattr(system, "_kernel", lambda: kernel)
    return kernel


@pytest.mark.parametrize(
    ("kind", "flags"),
    [
        (system.LOCK_EX, 2),
        (system.LOCK_SH, 0),
        (system.LOCK_EX | system.LOCK_NB, 3),
        (system.LOCK_SH | system.LOCK_NB, 1),
    ],
)
def test_locks_of_windows_have_the_same_meaning(kernel: Kernel, kind: int, flags: int) -> None:
    system.flock(7, kind)
    assert kernel.calls == [(1007, flags, 0, 1, 0, 0x7FFFFFFF)]
    # As winbase.h lays it out on 64 bits.
    assert ctypes.sizeof(system._Overlapped) == 32


@pytest.mark.parametrize(("code", "kind"), [(33, BlockingIOError), (6, OSError)])
def test_a_lock_of_windows_that_is_refused(kernel: Kernel, code: int, kind: type[OSError]) -> None:
    kernel.taken = code
    with pytest.raises(kind) as caught:
        system.flock(7, system.LOCK_EX | system.LOCK_NB)
    assert type(caught.value) is kind


def test_times_of_windows_are_the_same(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "supports_fd", set())
    system.set_time(7, RELEASED_AT)
    # The first moment of 2000 in tenths of microseconds since 1601.
    assert kernel.calls == [(1007, None, 125_911_584_000_000_000, 125_911_584_000_000_000)]
    kernel.taken = 5
    with pytest.raises(OSError, match="SetFileTime failed with 5"):
        system.set_time(7, RELEASED_AT)


@pytest.mark.parametrize(
    ("handle", "waited", "code", "alive"), [(9, 0x102, 0, True), (9, 0, 0, False), (0, 0, 87, False), (0, 0, 5, True)]
)
def test_processes_of_windows_are_alive_or_not(
    kernel: Kernel, handle: int, waited: int, code: int, alive: bool
) -> None:
    kernel.taken, closed = code, []
    vars(kernel).update(
        OpenProcess=lambda right, inherited, process: handle,
        WaitForSingleObject=lambda opened, time: waited,
        CloseHandle=lambda opened: closed.append(opened.value),
    )
    assert system.is_alive(4711) is alive
    assert closed == [handle] * bool(handle)


def test_places_of_a_file_without_calls_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pread")
    monkeypatch.delattr(os, "pwrite")
    items = DiskList(["one", b"two"])
    items.append("three")
    items[0] = "first"
    assert list(items) == ["first", b"two", "three"]


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


def test_nothing_but_this_module_needs_calls_of_posix(tmp_path: Path) -> None:
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
        "print(system.cores(), system.free_memory(), system.user_mark())\n"
        "from p3mdata.base.disk_backed import DiskList\n"
        "from p3mdata.base.files import tidy, write_released, write_released_together\n"
        "write_released(Path('one'), b'1')\n"
        "write_released_together([(Path('two'), b'2'), (Path('three'), b'3')])\n"
        "assert list(DiskList([4, 5])) == [4, 5] and calls == ['time'] * 3\n"
        f"Path('.one.{this_machine()}0000007.tmp').touch()\n"
        "tidy(Path('one'))\n"
        "assert sorted(os.listdir()) == ['one', 'three', 'two'] and calls[3:] == ['process']\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_folder_is_anonymized_without_calls_of_posix(tmp_path: Path) -> None:
    portraits(tmp_path / "photos", "a.png", "b.jpg", side=400)
    code = WITHOUT_POSIX + (
        "import p3mdata\n"
        "if __name__ == '__main__':\n"
        "    for workers in (1, 2):\n"
        "        summary = p3mdata.anonymize_dir('photos', f'run{workers}', workers=workers)\n"
        "        assert summary.outcomes['anonymized'] == 2, summary\n"
        "        assert p3mdata.verify_run(f'run{workers}') == []\n"
        "    assert {'lock', 'time'} <= set(calls)\n"
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
