"""Calls that not every operating system has, each behind one function: locks, times, processes, signals, memory.

Linux is what the tool is developed and tested on. For Windows the calls below are the documented counterparts; they
have been tried with stand-ins only, never on a Windows machine (docs/install.md).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import signal
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:
    fcntl = None

# The numbers are fcntl's.
LOCK_SH, LOCK_EX, LOCK_NB = 1, 2, 4
# Of LockFileEx: flags, the error for "another has it", and a byte that no file reaches: locked bytes are unreadable.
_AT_ONCE, _EXCLUSIVE, _TAKEN, _FAR_BYTE = 1, 2, 33, 0x7FFFFFFF
# Of SetFileTime: seconds from 1601 to 1970, and its units of a second.
_FROM_1601, _TICKS = 11_644_473_600, 10_000_000
# Of OpenProcess and WaitForSingleObject: the right to wait for its end, the error for "there is none", still running.
_MAY_WAIT, _NO_PROCESS, _RUNNING = 0x0010_0000, 87, 0x102
# Who reads and writes at a place of a file that others use as well.
_PLACED = threading.Lock()


def flock(descriptor: int, kind: int) -> None:
    """Lock an open file until it is closed: `LOCK_EX` or `LOCK_SH`, with `LOCK_NB` to fail at once.

    Raises:
        BlockingIOError: With `LOCK_NB`, when another process has it.
        OSError: As the system says, also where the file system has no locks.
    """
    if fcntl is None:
        _lock_file_ex(descriptor, kind)
    else:
        fcntl.flock(descriptor, kind)


def lock_bytes(descriptor: int, start: int, length: int) -> bool:
    """Lock a part of an open file at once, until it is closed; False when another process has some of it."""
    if fcntl is None:
        return True
    try:
        fcntl.lockf(descriptor, LOCK_EX | LOCK_NB, length, start)
    except (BlockingIOError, PermissionError):
        return False
    return True


class _Overlapped(ctypes.Structure):
    _fields_ = (
        ("internal", ctypes.c_void_p),
        ("internal_high", ctypes.c_void_p),
        ("offset", ctypes.c_uint32),
        ("offset_high", ctypes.c_uint32),
        ("event", ctypes.c_void_p),
    )


def _lock_file_ex(descriptor: int, kind: int) -> None:
    handle, kernel = _handle(descriptor), _kernel()
    flags = (_EXCLUSIVE if kind & LOCK_EX else 0) | (_AT_ONCE if kind & LOCK_NB else 0)
    place = _Overlapped(offset_high=_FAR_BYTE)
    if not kernel.LockFileEx(ctypes.c_void_p(handle), flags, 0, 1, 0, ctypes.byref(place)):
        code = kernel.GetLastError()
        if code == _TAKEN:
            raise BlockingIOError(errno.EWOULDBLOCK, "another process has it")
        raise OSError(errno.EIO, f"LockFileEx failed with {code}")


def _handle(descriptor: int) -> int:
    """What Windows calls an open file."""
    import msvcrt

    handle: int = msvcrt.get_osfhandle(descriptor)  # type: ignore[attr-defined]
    return handle


def _kernel() -> Any:
    """Functions of Windows."""
    return ctypes.windll.kernel32  # type: ignore[attr-defined]


def set_time(descriptor: int, seconds: float) -> None:
    """Have an open file say that it was last changed then, in seconds since 1970.

    Raises:
        OSError: As the system says.
    """
    if os.utime in os.supports_fd:
        os.utime(descriptor, (seconds, seconds))
        return
    # By its handle: what is set by its name is set again when a file that was written to is closed.
    kernel, time = _kernel(), ctypes.c_uint64(round((seconds + _FROM_1601) * _TICKS))
    if not kernel.SetFileTime(ctypes.c_void_p(_handle(descriptor)), None, ctypes.byref(time), ctypes.byref(time)):
        raise OSError(errno.EIO, f"SetFileTime failed with {kernel.GetLastError()}")


def is_alive(process: int) -> bool:
    """Whether there is a process of that number; who cannot tell takes it for alive."""
    if fcntl is None:
        # There `os.kill` with a 0 is Ctrl-C.
        kernel = _kernel()
        handle = kernel.OpenProcess(_MAY_WAIT, 0, process)
        if not handle:
            return bool(kernel.GetLastError() != _NO_PROCESS)
        running = kernel.WaitForSingleObject(ctypes.c_void_p(handle), 0) == _RUNNING
        kernel.CloseHandle(ctypes.c_void_p(handle))
        return bool(running)
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def read_at(descriptor: int, size: int, place: int) -> bytes:
    """So many bytes of an open file from a place on, less at its end."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, size, place)
    with _PLACED:
        os.lseek(descriptor, place, os.SEEK_SET)
        return os.read(descriptor, size)


def write_at(descriptor: int, data: memoryview, place: int) -> int:
    """Write into an open file from a place on; how many bytes were written."""
    if hasattr(os, "pwrite"):
        return os.pwrite(descriptor, data, place)
    with _PLACED:
        os.lseek(descriptor, place, os.SEEK_SET)
        return os.write(descriptor, data)


def start_tracker() -> None:
    """Start the process that new ones need beside their parent, where they need one: it lets signals through that are
    held, so that it is to be there before."""
    if hasattr(signal, "pthread_sigmask"):
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()


@contextlib.contextmanager
def signals_held(*numbers: signal.Signals) -> Iterator[None]:
    """These signals wait while the block runs, and are not for processes started in it; Windows has nothing like it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    came: list[int] = []
    held = True
    # A signal that this thread blocks goes to another, a library's, and Python answers it in the main thread at once.
    here = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in numbers} if here else {}
    heard = {number: handler for number, handler in handlers.items() if callable(handler)}

    def hear(number: int, frame: FrameType | None) -> None:
        if held:
            came.append(number)
        else:
            heard[signal.Signals(number)](number, frame)

    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        for number in heard:
            signal.signal(number, hear)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        held = False
        for number, handler in heard.items():
            signal.signal(number, handler)
        for late in came:
            signal.raise_signal(late)


def user_mark() -> str:
    """What tells this user from others of the machine in the name of a folder that they could share."""
    return str(os.getuid()) if hasattr(os, "getuid") else "user"


def is_mine(path: Path) -> bool:
    """Whether a folder, not a link to one, belongs to this user; temporary folders of Windows are private already."""
    found = path.lstat()
    return stat.S_ISDIR(found.st_mode) and (not hasattr(os, "getuid") or found.st_uid == os.getuid())


def cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


# Parameters of glibc's `mallopt`: how much freed memory at the end of the heap is kept, and from which size on, of at
# most 32 MiB, a block is mapped by itself.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT, _MAPPED = 1 << 28, 1 << 25


def keep_freed_memory() -> None:
    """Have this process keep memory that it frees for what it allocates next, where glibc is its C library.

    The pixels of one picture are freed before the next one's are needed. Given back and asked for again, each page of
    them is a call of the system, and is cleared: a sixth of the time of a 4K picture. An environment that sets the
    allocator up itself is left alone.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    libc = ctypes.CDLL(None)
    for parameter, value in ((_MMAP_THRESHOLD, _MAPPED), (_TRIM_THRESHOLD, _KEPT)):
        libc.mallopt(parameter, value)


def free_memory() -> int | None:
    """Bytes that new processes can have, file cache counted as free, or all memory; None where nothing tells."""
    return _meminfo("MemAvailable")


def all_memory() -> int | None:
    """Bytes of this machine; None where nothing tells."""
    return _meminfo("MemTotal")


def _meminfo(what: str) -> int | None:
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:")) * 1024
    with contextlib.suppress(AttributeError, OSError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None
