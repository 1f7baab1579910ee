"""What a look at a folder found: copies of each other, and what the rules say about each picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from p3mdata.curation.rules import Entry, Rules
from p3mdata.typing import Json


@dataclass(frozen=True)
class Member:
    """A file of a cluster.

    Attributes:
        path: Relative to the folder.
        kind: 'best' (the most pixels, then the largest file), 'exact' (the same bytes as the best) or 'near'.
        distance: To the best, see `distances`; more than what was asked for when others lie between.
        width, height: Pixels.
        sha256: Of the file.
    """

    path: str
    kind: str
    distance: float
    width: int
    height: int
    sha256: str

    def to_json(self) -> Json:
        names = ("path", "kind", "distance", "width", "height")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Duplicates:
    """Copies in a folder.

    Attributes:
        folder: Where the pictures are: of a run, its released images.
        run: The run folder, if they are a run's.
        files: Number of pictures looked at.
        clusters: Copies of one photograph, the best first, then by path; sorted by their first path.
        unreadable: Path and sentence of each file that could not be looked at.
    """

    folder: Path
    run: Path | None
    files: int
    clusters: tuple[tuple[Member, ...], ...]
    unreadable: tuple[tuple[str, str], ...]

    def to_json(self) -> Json:
        return {
            "files": self.files,
            "clusters": [[member.to_json() for member in members] for members in self.clusters],
            "unreadable": [{"path": path, "sentence": sentence} for path, sentence in self.unreadable],
        }


@dataclass(frozen=True)
class Curation:
    """What the rules say about each picture of a folder, by path, and the copies that were found on the way."""

    rules: Rules
    entries: tuple[Entry, ...]
    duplicates: Duplicates

    @property
    def kept(self) -> list[str]:
        """Paths of the files that are kept."""
        return [entry.source for entry in self.entries if entry.rejected is None]

    @property
    def reasons(self) -> dict[str, int]:
        """Number of rejected files by reason."""
        codes = [entry.rejected.code for entry in self.entries if entry.rejected is not None]
        return {code: codes.count(code) for code in sorted(set(codes))}

    def to_json(self) -> Json:
        warned = sum(bool(entry.warnings) for entry in self.entries if entry.rejected is None)
        return {"files": len(self.entries), "kept": len(self.kept), "rejected": self.reasons, "warned": warned}
