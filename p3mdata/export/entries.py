"""Images of a release with their checked files, in splits; of millions, only the one that is asked for is in memory."""

from __future__ import annotations

import itertools
import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from p3mdata.base.disk_backed import DiskList, LazyMap
from p3mdata.base.files import sha256
from p3mdata.base.ids import ID
from p3mdata.errors import RunFolderError
from p3mdata.records import one_ending
from p3mdata.run.public import PublicRow
from p3mdata.typing import Json

KINDS = ("image", "alpha", "trimap", "facemask", "foreground", "background")
# What each column of a release holds; the order is that of tables.
MEANING = {
    "image": "the released photograph",
    "alpha": "alpha matte of the person, as it came with the photograph",
    "trimap": "0 background, 128 unknown, 255 person; made from the matte",
    "facemask": "255 where pixels are replaced, or compressed again in a JPEG block with such; 64 where they are "
    "recomposed with the same matte; 0 where none changed",
    "foreground": "estimated colours of the person",
    "background": "estimated colours behind the person",
    "id": "name of everything that belongs to the image; says nothing about its source",
    "width": "in pixels",
    "height": "in pixels",
    "outcome": "anonymized, no_face_confirmed, masked_by_hand or shown_by_permission",
    "decision": "accept, no_face, mask, redo or show where a person decided, else none",
    "method": "obfuscation and its strength as a share of each face's width",
    "encoding": "how the file was written",
    "faces": "number of faces that were found",
    "masked_share": "share of the pixels inside the facemask",
    "recomposed": "number of faces that are hidden up to the matte's edge",
    "exact": "whether every pixel outside the facemask equals the decoded source",
    "largest_deviation": "largest difference outside the facemask, of 255; 0 where exact",
    "missed": "faces seen outside the facemask; more than 0 only by a person's decision or permission",
    "group": "images of one number are near-duplicates, or of one person or series; none crosses splits",
    "free": "whether the image is published as it was: nothing in it is private, or it is shown by permission",
}

Scalar = str | int | float | bool


@dataclass(frozen=True)
class File:
    """A released file: where it is below the release, and the hash under which it was released."""

    root: Path
    name: str
    sha256: str

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.root / self.name

    @property
    def suffix(self) -> str:
        """The ending of its format with the dot; files that kept their names may spell it otherwise."""
        return one_ending(os.path.splitext(self.name)[1])

    def size(self) -> int:
        """Bytes on disk."""
        try:
            return self.path.stat().st_size
        except OSError as exc:
            raise _unreadable(self.path, exc) from exc

    def read(self) -> bytes:
        """Its content.

        Raises:
            RunFolderError: It cannot be read, or is not the file that was released.
        """
        try:
            data = self.path.read_bytes()
        except OSError as exc:
            raise _unreadable(self.path, exc) from exc
        if sha256(data) != self.sha256:
            raise RunFolderError(f"{self.path}: is not the file that was released. Run 'p3mdata verify' or 'check'.")
        return data


def _unreadable(path: Path, exc: OSError) -> RunFolderError:
    return RunFolderError(f"{path}: cannot be read ({exc.strerror or exc}). Run 'p3mdata verify' or 'check'.")


@dataclass(frozen=True)
class Entry:
    """One image of a release.

    Attributes:
        files: By kind.
        row: What may be told about it.
        told: The same and what a dataset adds, as the manifest has it but for the files.
    """

    files: dict[str, File]
    row: PublicRow
    told: Json

    @property
    def id(self) -> str:
        """Of its row."""
        return self.row.id

    def name(self, kind: str) -> str:
        """`<id>.jpg` for the image, `<id>.alpha.png` and the like for what belongs to it."""
        middle = "" if kind == "image" else f".{kind}"
        return f"{self.id}{middle}{self.files[kind].suffix}"

    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size() for file in self.files.values())

    def scalars(self) -> dict[str, Scalar]:
        """The row as columns of a table; keys are of `MEANING`."""
        row, proofs = self.row, self.row.proofs
        columns: dict[str, Scalar] = {
            "id": self.id,
            "width": row.width,
            "height": row.height,
            "outcome": row.outcome.value,
            "decision": row.decision.action.value if row.decision else "none",
            "method": row.method,
            "encoding": row.encoding,
            "faces": row.faces,
            "masked_share": row.masked_share,
            "recomposed": row.recomposed,
            "exact": proofs.exact,
            "largest_deviation": proofs.largest_deviation,
            "missed": proofs.missed,
        }
        return columns | {key: self.told[key] for key in ("group", "free") if key in self.told}


@dataclass(frozen=True)
class Split:
    """A set of images.

    Attributes:
        name: Its name in the release: a to z, 0 to 9 and _, so that every ecosystem takes it.
        title: Its name in the dataset, such as P3M-500-P.
        training: Whether it is the one to train on.
        free: Whether its images are published as they were.
        kinds: Kinds of files that any of its images has, in the order of `KINDS`.
        entries: Its images, sorted by id; each is made when it is asked for.
    """

    name: str
    title: str
    training: bool
    free: bool
    kinds: tuple[str, ...]
    entries: Sequence[Entry]


def shards(entries: Sequence[Entry], most_images: int, most_bytes: int) -> list[Sequence[Entry]]:
    """Entries cut into runs of at most so many images and bytes; a larger image has a shard of its own."""
    starts: list[int] = []
    room = 0
    for number, entry in enumerate(entries):
        size = entry.size()
        if not starts or number - starts[-1] >= most_images or size > room:
            starts.append(number)
            room = most_bytes
        room -= size
    return [entries[start:stop] for start, stop in itertools.pairwise([*starts, len(entries)])]


class Gathered:
    """Images of a set in the order in which they come, kept on disk: of each, files by kind and the rest of its row."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.rows: DiskList[tuple[dict[str, tuple[str, str]], Json]] = DiskList()
        self._ids: list[str] = []
        self._kinds: set[str] = set()

    def add(self, row: Json) -> None:
        """Add an image by its row of a public manifest.

        Raises:
            KeyError, TypeError, ValueError: It is no such row.
        """
        files = {}
        for kind in KINDS:
            if kind in row:
                path = PurePosixPath(row[kind]["path"])
                if path.is_absolute() or ".." in path.parts:
                    raise ValueError(f"path {path}")
                files[kind] = str(path), row[kind]["sha256"]
        told = {key: value for key, value in row.items() if key not in (*KINDS, "schema")}
        identity = PublicRow.from_json(told).id
        if not ID.fullmatch(identity) or "image" not in files:
            raise ValueError(f"row {identity}")
        self.rows.append((files, told))
        self._ids.append(identity)
        self._kinds |= files.keys()

    def _entry(self, number: int) -> Entry:
        files, told = self.rows[number]
        placed = {kind: File(self._root, *file) for kind, file in files.items()}
        return Entry(placed, PublicRow.from_json(told), told)

    def split(self, name: str, title: str, training: bool, free: bool) -> Split:
        """The set, once all its images are here."""
        order = array("q", sorted(range(len(self._ids)), key=self._ids.__getitem__))
        self._ids.clear()
        kinds = tuple(kind for kind in KINDS if kind in self._kinds)
        return Split(name, title, training, free, kinds, LazyMap(self._entry, order))
