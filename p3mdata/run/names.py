"""Names of released files after those of their sources (`--names keep`): no two alike on any file system.

A name follows from what lies beside the source in its folder, not from the list of the run, so that `--limit`,
`--files` and runs that are merged come to the same names.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import lru_cache
from pathlib import Path, PurePosixPath

from p3mdata.imaging import SUFFIXES
from p3mdata.imaging.listing import folder_entries

_LISTINGS_KEPT = 16
# File systems take 255 bytes; endings and the marks of files that are being written come on top.
_MOST_BYTES, _MOST_OF_PATH = 180, 800


class KeptNames:
    """Released files' paths without endings, by the paths of their sources.

    Args:
        root: The source folder.
    """

    def __init__(self, root: Path) -> None:
        self._taken = lru_cache(_LISTINGS_KEPT)(lambda folder: _taken(root / folder))

    def of(self, source: str) -> str | None:
        """`sub/photo` for `sub/photo.jpg`, `sub/photo.jpg` where a `sub/photo.png` lies beside it; None for a name
        that some file system could not hold, or that two files could come to: such a file is named by its id.
        """
        folder, _, file = source.rpartition("/")
        stems, files = self._taken(folder)
        stem = PurePosixPath(file).stem
        if stems[_alike(stem)] == 1:
            return plain(f"{folder}/{stem}" if folder else stem)
        if files[_alike(file)] == 1 and _alike(file) not in stems:
            return plain(source)
        return None


def plain(path: str) -> str | None:
    """A relative path that can be a released one everywhere, else None."""
    parts = path.split("/")
    try:
        fits = len(path.encode()) <= _MOST_OF_PATH and all(len(part.encode()) <= _MOST_BYTES for part in parts)
    except UnicodeEncodeError:
        return None
    fits = fits and path.isprintable() and "\\" not in path
    return path if fits and all(part and not part.startswith(".") for part in parts) else None


def _taken(folder: Path) -> tuple[Counter[str], Counter[str]]:
    """How many pictures and folders have a name without its ending, and how many pictures a whole name."""
    files, folders = folder_entries(folder)
    pictures = [name for name in files if PurePosixPath(name).suffix.lower() in SUFFIXES]
    stems = Counter(_alike(PurePosixPath(name).stem) for name in (*pictures, *folders))
    return stems, Counter(map(_alike, pictures))


def _alike(name: str) -> str:
    """What names have in common that are one name to some file system."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
