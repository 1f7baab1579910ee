"""The folder that an export is written to: whose it is, what is in it, and that a half-written one is known as such."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p3mdata.base.disk_backed import DiskDict
from p3mdata.base.files import RELEASED_AT, atomic, is_torn, overlap, owned_folder, sha256, write_released
from p3mdata.base.ids import ID
from p3mdata.base.jsonl import write_json
from p3mdata.dataset.places import CARD, EXPORTING, STAMP, stamps
from p3mdata.errors import RunFolderError, SettingsError
from p3mdata.version import __version__

# Written last, and gone first when an export is made again: they say that everything they name is there.
_CLOSING = (CARD, "index.json", "croissant.json", "release-record.md", "release-record.json")
# Paths of files that exports write; everything else in the folder is its owner's.
_OURS = re.compile(
    rf"(.+/)?{ID.pattern}\.(jpg|png|webp|tif)|[a-z0-9_]+-[0-9]{{5}}\.tar"
    r"|data/[a-z0-9_]+-[0-9]{5}-of-[0-9]{5}\.parquet|data/[a-z0-9_]+/metadata(_all)?\.jsonl"
)


class Measured(io.RawIOBase):
    """A sink that hashes and counts what is written through it."""

    def __init__(self, sink: Any) -> None:
        super().__init__()
        self._sink = sink
        self._digest = hashlib.sha256()
        self.bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self._sink.write(view)
        self._digest.update(view)
        self.bytes += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        return self.bytes

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


@dataclass
class Target:
    """An export being written.

    Attributes:
        root: Its folder.
        to: Name of its form.
        files: SHA-256 and size of what was written, by path and in the order of the paths.
    """

    root: Path
    to: str
    files: DiskDict[tuple[str, int]] = field(default_factory=DiskDict)

    @classmethod
    @contextlib.contextmanager
    def begin(cls, root: Path, to: str, source: Path) -> Iterator[Target]:
        """Take a new or empty folder, or an earlier export of the same form, and mark it as half written.

        Raises:
            SettingsError: It lies inside the source, or the source in it.
            RunFolderError: It is a file, holds something else, or is in use.
            OSError: It cannot be written.
        """
        if overlap(root, source):
            raise SettingsError(f"{root}: OUT and the source must not lie inside each other. Choose another OUT.")
        if root.is_dir():
            held = _held(root)
            if held is not None and held != to:
                what = f"holds a {held} export" if held else "is not empty and no export of p3mdata"
                raise RunFolderError(f"{root}: {what}. Choose an empty or new folder.")
        elif os.path.lexists(root):
            raise RunFolderError(f"{root}: is a file. Choose a folder.")
        with owned_folder(root):
            write_json(root / EXPORTING, {"tool": f"p3mdata {__version__}", "to": to})
            for name in _CLOSING:
                (root / name).unlink(missing_ok=True)
            yield cls(root, to)

    def has(self, path: str, digest: str) -> bool:
        """Whether a file of this content is there already; it then counts as written."""
        there = self.root / path
        if not there.is_file() or sha256(data := there.read_bytes()) != digest:
            return False
        self.files[path] = digest, len(data)
        return True

    def write(self, path: str, data: bytes) -> None:
        """Write a file whose content is there as a whole."""
        if not self.has(path, digest := sha256(data)):
            write_released(self.root / path, data)
            self.files[path] = digest, len(data)

    def write_json(self, path: str, row: Any) -> None:
        """Write one indented JSON document; keys keep their order."""
        self.write(path, (json.dumps(row, indent=1, ensure_ascii=False) + "\n").encode())

    @contextlib.contextmanager
    def stream(self, path: str) -> Iterator[Measured]:
        """A file to write piece by piece; it appears when the block ends."""
        with atomic(self.root / path, time=RELEASED_AT) as sink:
            yield (measured := Measured(sink))
        self.files[path] = measured.sha256, measured.bytes

    def finish(self, card: str) -> None:
        """Delete what earlier exports left here, write the card, and take the mark away."""
        stamped = f"{card.rstrip()}\n\n{STAMP.format(self.to)}\n"
        folders = set()
        for at, below, names in os.walk(self.root):
            # Folders that begin with a dot, such as that of a version control system, are the owner's.
            below[:] = (name for name in below if not name.startswith("."))
            for path in (Path(at) / name for name in names):
                inside = path.relative_to(self.root).as_posix()
                if _OURS.fullmatch(inside) and inside not in self.files and path.is_file():
                    path.unlink()
                    folders.add(path.parent)
        for folder in sorted(folders - {self.root}, reverse=True):
            for empty in (folder, *folder.parents):
                if empty == self.root:
                    break
                # Gone with its last file.
                with contextlib.suppress(OSError):
                    empty.rmdir()
        self.write(CARD, stamped.encode())
        (self.root / EXPORTING).unlink()


def _held(root: Path) -> str | None:
    """Form of the export that a folder holds; '' for something else, None when it is empty."""
    names = {path.name for path in root.iterdir() if not is_torn(path.name)}
    if not names:
        return None
    try:
        if EXPORTING in names:
            marker = json.loads((root / EXPORTING).read_text(encoding="utf-8"))
            return str(marker["to"]) if str(marker["tool"]).startswith("p3mdata ") else ""
        if CARD in names and (found := stamps(root / CARD)):
            return found[-1]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return ""
