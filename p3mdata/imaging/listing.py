"""Which files of a folder are pictures, and reading one of them safely."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from p3mdata.base.addresses import as_os_error, entries, is_remote
from p3mdata.errors import SettingsError
from p3mdata.imaging import SUFFIXES


def list_files(folder: Path, recursive: bool) -> Iterator[Path]:
    """Files below a folder, sorted by their path. Names that begin with a dot are left out, as by file browsers.

    Links to folders are not followed, so that loops cannot happen.

    Raises:
        SettingsError: A folder cannot be listed.
    """
    files, folders = _entries(folder)
    # A folder's name counts with the slash behind it, which makes this the order of the whole paths.
    for name in sorted([*files, *(f"{name}/" for name in folders if recursive)]):
        if name.endswith("/"):
            yield from list_files(folder / name[:-1], recursive)
        else:
            yield folder / name


def _entries(folder: Path) -> tuple[list[str], list[str]]:
    """Names of a folder's files and of its folders."""
    files: list[str] = []
    folders: list[str] = []
    try:
        if is_remote(folder):
            files, folders = entries(folder)
        else:
            with os.scandir(folder) as found:
                for entry in found:
                    (folders if entry.is_dir(follow_symlinks=False) else files).append(entry.name)
    except OSError as exc:
        raise SettingsError(f"{folder}: cannot be listed ({exc.strerror or exc}). Check the path.") from exc
    return _shown(files), _shown(folders)


def _shown(names: list[str]) -> list[str]:
    return [name for name in names if not name.startswith(".")]


def pictures(folder: Path, recursive: bool) -> Iterator[Path]:
    """Files below a folder whose ending is that of a picture, sorted by their path."""
    return (path for path in list_files(folder, recursive) if path.suffix.lower() in SUFFIXES)


def regular_file(path: Path) -> Path:
    """The path, if reading it comes to an end: a pipe or a device would keep its reader for ever.

    Raises:
        OSError: It is no regular file, or is not there.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    return path


def read_source(path: Path) -> bytes:
    """Content of a source file, here or in a remote store.

    Raises:
        OSError: It cannot be read.
    """
    if is_remote(path):
        data: bytes = as_os_error(path.read_bytes)
        return data
    return regular_file(path).read_bytes()
