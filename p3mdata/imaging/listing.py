"""Which files of a folder are pictures, and reading one of them safely."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from p3mdata.base.addresses import as_os_error, entries, is_remote
from p3mdata.errors import SettingsError
from p3mdata.imaging import SUFFIXES

_MOST_KINDS = 8


def list_files(folder: Path, recursive: bool) -> Iterator[Path]:
    """Files below a folder, sorted by their path. Names that begin with a dot are left out, as by file browsers.

    Links to folders are not followed, so that loops cannot happen.

    Raises:
        SettingsError: A folder cannot be listed.
    """
    files, folders = folder_entries(folder)
    # A folder's name counts with the slash behind it, which makes this the order of the whole paths.
    for name in sorted([*files, *(f"{name}/" for name in folders if recursive)]):
        if name.endswith("/"):
            yield from list_files(folder / name[:-1], recursive)
        else:
            yield folder / name


def folder_entries(folder: Path) -> tuple[list[str], list[str]]:
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


# Files of cameras that hold no picture yet, but what the sensor saw.
_RAW = frozenset(
    (
        *(".3fr", ".arw", ".cr2", ".cr3", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".mrw", ".nef"),
        *(".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".srw", ".x3f"),
    )
)
_LINK, _NO_ENDING = "linked folder", "no ending"
_KNOWN = frozenset(
    (
        *(_LINK, _NO_ENDING, ".jxl", ".tga", ".psd", ".psb", ".exr", ".hdr", ".svg", ".eps", ".pdf", ".ico", ".npy"),
        *(".npz", ".txt", ".json", ".csv", ".xml", ".xmp", ".mov", ".mp4", ".avi", ".zip", ".db", ".ini", ".jpg_large"),
    )
)


@dataclass(frozen=True)
class PassedOver:
    """Files of a folder that are no pictures by their ending: by ending, how many there are and the name of one."""

    endings: dict[str, tuple[int, str]]

    def to_json(self) -> dict[str, list[object]]:
        return {ending: list(found) for ending, found in sorted(self.endings.items())}

    @classmethod
    def from_json(cls, row: dict[str, list[object]]) -> PassedOver:
        return cls({ending: (int(str(found[0])), str(found[1])) for ending, found in row.items()})

    def public(self) -> Counter[str]:
        """Counts by ending; what follows a dot in a name may be a person's, so only known endings are told."""
        counts: Counter[str] = Counter()
        for ending, (number, _) in self.endings.items():
            counts[ending if ending in _RAW | _KNOWN else "other endings"] += number
        return counts

    def sentence(self) -> str:
        """What was passed over, with an example of each kind, and what to do about it; empty without any."""
        if not self.endings:
            return ""
        kinds = [
            f"{number} {ending} (such as {name})"
            for ending, (number, name) in sorted(self.endings.items(), key=lambda kind: (-kind[1][0], kind[0]))
        ]
        more = f" and {len(kinds) - _MOST_KINDS} kinds more" if len(kinds) > _MOST_KINDS else ""
        advice = " Save RAW files as TIFF, PNG or JPEG first." if _RAW & self.endings.keys() else ""
        return f"Passed over, no pictures by their ending: {', '.join(kinds[:_MOST_KINDS])}{more}.{advice}"


def passed_over(folder: Path, recursive: bool) -> PassedOver:
    """What of a folder `pictures` leaves out, but for names that begin with a dot.

    Raises:
        SettingsError: A folder cannot be listed.
    """
    found: dict[str, tuple[int, str]] = {}
    prefix = len(folder.as_posix().rstrip("/")) + 1
    for path in list_files(folder, recursive):
        ending = path.suffix.lower()
        if ending in SUFFIXES:
            continue
        link = not is_remote(path) and path.is_symlink() and path.is_dir()
        kind = _LINK if link else ending or _NO_ENDING
        number, name = found.get(kind, (0, path.as_posix()[prefix:]))
        found[kind] = number + 1, name
    return PassedOver(found)


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
