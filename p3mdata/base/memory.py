"""Memory that processes may have here, and how the workers of a machine share it while they hold large pictures."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from p3mdata.base import system
from p3mdata.base.files import NO_LOCKS, lock, this_machine, write_atomic

_CGROUPS = Path("/sys/fs/cgroup")
# Limit, use, and what of the use is file cache that makes room when it is asked to.
_FILES = (
    ("", "memory.max", "memory.current", "inactive_file"),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
# Memory is lent in units, each a byte of a lock file.
_UNIT = 1 << 24
_POLL_SECONDS = 0.05


def free_memory() -> int | None:
    """Bytes that new processes can have: of the machine, and of the control groups (containers, batch jobs) around this
    process. What the system keeps as file cache counts as free; None where nothing tells."""
    here = system.free_memory()
    return None if here is None else max(0, min(here, *(limit - used for limit, used in _groups())))


def all_memory() -> int | None:
    """Bytes that all processes here can have together; None where nothing tells."""
    here = system.all_memory()
    return None if here is None else min(here, *(limit for limit, _ in _groups(used=False)))


def _groups(used: bool = True) -> list[tuple[int, int]]:
    """Limit, and use or 0, of each control group that limits this process; one without a limit has a huge one."""
    found = [(1 << 62, 0)]
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for controller, *names in _FILES:
                if controller in controllers.split(","):
                    # Inside a container the group may be mounted as the root.
                    for folder in _folders(_CGROUPS, controller, path.strip("/")):
                        found += _group(folder, *names) if used else _limit(os.path.join(folder, names[0]))
    return found


@cache
def _folders(root: Path, controller: str, path: str) -> tuple[Path, ...]:
    """Of a group and those above it."""
    inner = (root / controller / path, root / controller)
    return tuple({*inner, *(above for above in inner[0].parents if root in above.parents)})


def _limit(path: str) -> list[tuple[int, int]]:
    # Asked for each picture.
    try:
        with open(path, "rb") as file:
            return [(int(file.read()), 0)]
    except (OSError, ValueError):
        return []


def _group(folder: Path, limit: str, used: str, cache: str) -> list[tuple[int, int]]:
    with contextlib.suppress(OSError, ValueError):
        most, now = (int((folder / name).read_text()) for name in (limit, used))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return [(most, now - int(stat.get(cache, 0)))]
    return []


class SharedMemory:
    """Who may hold a large picture now, among the workers of this machine.

    Every worker has its share for pictures of usual sizes. A larger one takes what it needs beyond that from what is
    spare, and waits until it is there; where it is never there the picture is held alone, while the others wait. What a
    worker took is given back by the system when it dies.

    Args:
        folder: Where its lock files are: a folder that the workers share and other machines may share too.
    """

    def __init__(self, folder: Path) -> None:
        self._spare = folder / f"memory-{this_machine()}"
        # Another file: locks on bytes go when their process closes the file, however it came to open it.
        self._lent = folder / f"lent-{this_machine()}"
        self._alone = folder / f"alone-{this_machine()}"

    def plan(self, spare: int) -> None:
        """Say what there is beyond the workers' shares, before they begin."""
        write_atomic(self._spare, f"{max(0, spare)}\n".encode(), 0o600)

    @contextlib.contextmanager
    def holding(self, extra: int) -> Iterator[None]:
        """Hold so many bytes beyond a worker's share while the block runs; none or fewer for a usual picture."""
        units, there = -(-extra // _UNIT), self._units()
        with contextlib.ExitStack() as held:
            try:
                alone = os.open(self._alone, os.O_RDWR | os.O_CREAT, 0o600)
            except OSError:
                # A folder that can only be read: nobody can agree on anything in it.
                yield
                return
            held.callback(os.close, alone)
            # A file system without locks: workers count on their shares alone.
            lock(alone, system.LOCK_SH if units <= there else system.LOCK_EX)
            if 0 < units <= there:
                lent = os.open(self._lent, os.O_RDWR | os.O_CREAT, 0o600)
                held.callback(os.close, lent)
                while not any(_take(lent, start, units) for start in range(0, there - units + 1)):
                    time.sleep(_POLL_SECONDS)
            yield

    def _units(self) -> int:
        with contextlib.suppress(OSError, ValueError):
            return int(self._spare.read_text()) // _UNIT
        return 0


def _take(descriptor: int, start: int, units: int) -> bool:
    try:
        return system.lock_bytes(descriptor, start, units)
    except OSError as exc:
        if exc.errno not in NO_LOCKS:
            raise
    return True
