"""Bytes on disk: hashes, locks, and writing so that a name never shows a part of its content."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from p3mdata.base.system import flock

# File systems of clusters may have no locks; what is done there twice comes to the same bytes.
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP})


@contextlib.contextmanager
def locked(path: Path, kind: int, mode: int = 0o600) -> Iterator[None]:
    """Hold a lock (`LOCK_EX` or `LOCK_SH` of `base.system`, with `LOCK_NB` to fail at once) while the block runs.

    Raises:
        BlockingIOError: Another process has it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, mode)
    try:
        try:
            flock(descriptor, kind)
        except OSError as exc:
            if exc.errno not in _NO_LOCKS:
                raise
        yield
    finally:
        os.close(descriptor)


def temporary_name(path: Path) -> Path:
    """Where this process writes what will be `path`; process numbers alone repeat on machines that share a folder."""
    return path.with_name(f".{path.name}.{zlib.crc32(platform.node().encode())}{os.getpid():07d}.tmp")


def sha256(data: bytes) -> str:
    """Hex SHA-256."""
    return hashlib.sha256(data).hexdigest()


@contextlib.contextmanager
def atomic(path: Path, mode: int = 0o644) -> Iterator[BinaryIO]:
    """A file to write that appears under its name when the block ends: temporary name, fsync, rename.

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
            os.fsync(sink.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomic(path: Path, data: bytes, mode: int = 0o644) -> None:
    """`atomic` for content that is there as a whole."""
    with atomic(path, mode) as sink:
        sink.write(data)
