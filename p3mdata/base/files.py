"""Bytes on disk: hashes, locks, and writing so that a name never shows a part of its content."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import platform
import re
import shutil
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from p3mdata.base import system
from p3mdata.errors import RunFolderError

# Time of every file that is released: when each was written tells the order of the work. 2000-01-01, UTC.
RELEASED_AT = 946684800

# What lies there names people or shows them.
GIT_IGNORE = ".gitignore"
_WHY_IGNORED = "# By p3mdata: names of photographs, keys, landmarks or clear faces, none of which is to be published."

# File systems of clusters may have no locks; what is done there twice comes to the same bytes.
NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP})


class BusyFolder(RunFolderError):
    """Another process works on a folder."""


_TORN = re.compile(r"\..+\.[0-9]+\.tmp")


@contextlib.contextmanager
def locked(path: Path, kind: int) -> Iterator[None]:
    """Hold a lock (`LOCK_EX` or `LOCK_SH` of `base.system`, with `LOCK_NB` to fail at once) while the block runs.

    Raises:
        BlockingIOError: Another process has it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        lock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)


def lock(descriptor: int, kind: int) -> None:
    """Lock an open file as `locked` does, until it is closed; nothing where the file system has no locks.

    Raises:
        BlockingIOError: Another process has it.
    """
    try:
        system.flock(descriptor, kind)
    except OSError as exc:
        if exc.errno not in NO_LOCKS:
            raise


@contextlib.contextmanager
def owned_folder(folder: Path, make: Callable[[Path], object] | None = None, deep: bool = True) -> Iterator[None]:
    """Hold a folder and sweep it while the block runs: made if need be, for one process at a time.

    The lock is the folder itself, so that none is left in it. A folder that was made here and in which nothing came to
    lie goes again when the block fails.

    Args:
        folder: The folder.
        make: Makes it, in the place of `mkdir`.
        deep: Sweep what is below its folders too: they are ours alone.

    Raises:
        BusyFolder: Another process has it.
        OSError: It cannot be made or read.
    """
    with contextlib.ExitStack() as held:
        if not folder.exists():
            held.push(lambda kind, *rest: _remove_if_empty(folder) if kind is not None else None)
        while True:
            if make is not None:
                make(folder)
            folder.mkdir(parents=True, exist_ok=True)
            try:
                descriptor = os.open(folder, os.O_RDONLY)
            except PermissionError:
                if os.name == "nt":
                    # There folders cannot be opened.
                    break
                raise
            held.callback(os.close, descriptor)
            try:
                system.flock(descriptor, system.LOCK_EX | system.LOCK_NB)
            except BlockingIOError as exc:
                raise BusyFolder(f"{folder}: another p3mdata process is at it. Wait for it to end.") from exc
            except OSError as exc:
                # Locks over a network want a descriptor for writing, which folders have none of.
                if exc.errno not in {*NO_LOCKS, errno.EBADF}:
                    raise
            # Who had it before may have removed it.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(folder)):
                    break
            held.close()
        for path in torn_files(folder) if deep else [path for path in folder.iterdir() if is_torn(path.name)]:
            path.unlink(missing_ok=True)
        yield


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def is_torn(name: str) -> bool:
    """Whether a file name is that of a file whose writer was killed, or is still at it."""
    return _TORN.fullmatch(name) is not None


def torn_files(folder: Path) -> Iterator[Path]:
    """What killed processes left below a folder."""
    for place, _, names in os.walk(folder):
        yield from (Path(place) / name for name in names if is_torn(name))


def sweep(folder: Path) -> None:
    """Remove what killed processes left below a folder; for who holds its lock."""
    for path in torn_files(folder):
        path.unlink(missing_ok=True)


def tidy(path: Path) -> None:
    """Remove what processes of this machine that are dead left of a file that is no part of a folder of ours."""
    _tidy(path.parent, path.name)


def tidy_folder(folder: Path) -> None:
    """The same for all files of a folder in which several processes may write at a time."""
    _tidy(folder, "*")


def _tidy(folder: Path, name: str) -> None:
    ours = re.compile(rf"\..+\.{this_machine()}([0-9]+)\.tmp")
    for left in folder.glob(f".{name if name == '*' else glob.escape(name)}.*.tmp"):
        writer = ours.fullmatch(left.name)
        if writer and not system.is_alive(int(writer[1])):
            left.unlink(missing_ok=True)


def this_machine() -> int:
    """Process numbers alone repeat on machines that share a folder."""
    return zlib.crc32(platform.node().encode())


def empty(folder: Path) -> None:
    """Remove everything in a folder, which stays, and with it the lock that is held on it."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def holds_nothing(folder: Path) -> bool:
    """Whether a folder holds nothing but what killed processes left."""
    with os.scandir(folder) as entries:
        # A cache of many files is asked this for each: the first one tells.
        return all(is_torn(entry.name) for entry in entries)


def lies_in(inner: Path, outer: Path) -> bool:
    """Whether a path is another one, or below it, wherever links lead; neither has to be there."""
    # A circle of links is an error to `resolve`.
    real_inner, real_outer = Path(os.path.realpath(inner)), Path(os.path.realpath(outer))
    return real_inner == real_outer or real_outer in real_inner.parents


def overlap(one: Path, other: Path) -> bool:
    """Whether one of two folders holds the other, or both are one."""
    return lies_in(one, other) or lies_in(other, one)


def temporary_name(path: Path) -> Path:
    """Where this process writes what will be `path`."""
    return path.with_name(f".{path.name}.{this_machine()}{os.getpid():07d}.tmp")


def sha256(data: bytes) -> str:
    """Hex SHA-256."""
    return hashlib.sha256(data).hexdigest()


@contextlib.contextmanager
def atomic(path: Path, mode: int = 0o644, time: float | None = None) -> Iterator[BinaryIO]:
    """A file to write that appears under its name when the block ends: temporary name, fsync, rename.

    Args:
        path: Its name.
        mode: Its permissions.
        time: When it says it was changed, in seconds since 1970; None leaves the present.

    Raises:
        OSError: As the system says; the temporary file is removed, as after any other exception.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as sink:
            yield sink
            sink.flush()
            if time is not None:
                system.set_time(sink.fileno(), time)
            os.fsync(sink.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomic(path: Path, data: bytes, mode: int = 0o644, time: float | None = None) -> None:
    """`atomic` for content that is there as a whole."""
    with atomic(path, mode, time) as sink:
        sink.write(data)


@contextlib.contextmanager
def alone(path: Path, mode: int = 0o644) -> Iterator[BinaryIO]:
    """`atomic` for a file that is no part of a folder of ours: nobody else sweeps what killed processes left of it."""
    tidy(path)
    with atomic(path, mode) as sink:
        yield sink


def write_alone(path: Path, data: bytes, mode: int = 0o644) -> None:
    """`alone` for content that is there as a whole."""
    with alone(path, mode) as sink:
        sink.write(data)


def keep_out_of_git(folder: Path, *names: str) -> None:
    """Have git, and uploads that ask the same file, pass over a folder, or over some of what is in it.

    One that is there already stays, whoever wrote it.

    Args:
        folder: It is there.
        names: Of files and folders in it, folders with a slash at the end; none mean everything.
    """
    path = folder / GIT_IGNORE
    if not os.path.lexists(path):
        lines = [f"/{name}" for name in names] or ["*"]
        text = "".join(f"{line}\n" for line in (_WHY_IGNORED, *lines))
        write_atomic(path, text.encode(), 0o644 if names else 0o600)


def write_released(path: Path, data: bytes) -> None:
    """`write_atomic` for a file that belongs to one image of a release."""
    write_atomic(path, data, time=RELEASED_AT)


def write_released_together(files: Sequence[tuple[Path, bytes]]) -> None:
    """`write_released` for files of one image: they appear in their order, and none before all are on the disk.

    The system is asked for all of them at once, and is as soon done with them as with the slowest.

    Raises:
        OSError: As the system says; no temporary file is left, and none that was there before is harmed.
    """
    temporaries = [temporary_name(path) for path, _ in files]
    try:
        for (path, data), temporary in zip(files, temporaries, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            with os.fdopen(descriptor, "wb") as sink:
                sink.write(data)
                sink.flush()
                system.set_time(sink.fileno(), RELEASED_AT)
        _synced(temporaries)
        for (path, _), temporary in zip(files, temporaries, strict=True):
            os.replace(temporary, path)
    except BaseException:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)
        raise


def _synced(paths: Sequence[Path]) -> None:
    """Have files on the disk, all at once.

    Raises:
        OSError: One of them cannot be.
    """
    failed: list[OSError] = []

    def sync(path: Path) -> None:
        try:
            # Windows wants to be allowed to write.
            descriptor = os.open(path, os.O_RDWR)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as exc:
            failed.append(exc)

    others = [threading.Thread(target=sync, args=(path,)) for path in paths[:-1]]
    for thread in others:
        thread.start()
    for path in paths[-1:]:
        sync(path)
    for thread in others:
        thread.join()
    if failed:
        raise failed[0]
