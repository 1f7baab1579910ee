"""SRC of a command as people write it: one folder, several photographs, or a pattern that no shell has filled in."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from p3mdata.base.addresses import as_os_error, is_address
from p3mdata.errors import SettingsError
from p3mdata.imaging import SUFFIXES
from p3mdata.imaging.listing import list_files


def chosen_sources(names: Sequence[Path], out: Path | None) -> tuple[Path, tuple[str, ...], Path | None]:
    """Folder of the sources, the paths below it that are meant (none for all of it), and OUT.

    Args:
        names: As given; without `out` the last of several is OUT, unless it is a photograph that is there.
        out: OUT that was given as an option.

    Raises:
        SettingsError: A pattern fits nothing, or a name is no photograph and no folder.
    """
    given = list(names)
    if out is None and len(given) > 1 and not _is_photograph(given[-1]):
        out = given.pop()
    if len(given) == 1 and (is_address(given[0]) or given[0].is_dir()):
        return given[0], (), out
    if len(given) == 1 and not _is_pattern(given[0]) and (out is None or not given[0].is_file()):
        # One file alone is what `anonymize image` is for; the run says so.
        return given[0], (), out
    paths = sorted({os.path.abspath(path) for name in given for path in _meant(name)})
    folder = os.path.commonpath([os.path.dirname(path) for path in paths])
    return Path(folder), tuple(Path(os.path.relpath(path, folder)).as_posix() for path in paths), out


def _is_pattern(name: Path) -> bool:
    return not is_address(name) and glob.has_magic(str(name)) and not os.path.lexists(name)


def _is_photograph(name: Path) -> bool:
    if is_address(name):
        return False
    if _is_pattern(name):
        return name.suffix.lower() in SUFFIXES
    return name.suffix.lower() in SUFFIXES and bool(as_os_error(name.is_file))


def _meant(name: Path) -> list[str]:
    """Paths of the photographs that a name means.

    Raises:
        SettingsError: There are none.
    """
    if is_address(name):
        raise SettingsError(f"{name}: is an address. Give it alone, and --files LIST to take some of it.")
    if _is_pattern(name):
        found = [path for path in glob.glob(str(name), recursive=True) if Path(path).suffix.lower() in SUFFIXES]
        if not found:
            raise SettingsError(f"{name}: fits no picture. Check the pattern.")
        return found
    if name.is_dir():
        found = [str(path) for path in list_files(name, recursive=True) if path.suffix.lower() in SUFFIXES]
        if not found:
            raise SettingsError(f"{name}: holds no pictures. Supported endings: {' '.join(sorted(SUFFIXES))}.")
        return found
    if not name.is_file():
        raise SettingsError(f"{name}: does not exist. Check the path.")
    if name.suffix.lower() not in SUFFIXES:
        raise SettingsError(f"{name}: is no picture by its ending. Supported endings: {' '.join(sorted(SUFFIXES))}.")
    return [str(name)]
