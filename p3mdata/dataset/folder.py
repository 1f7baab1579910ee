"""A dataset folder as it lies on disk: its layout, and for each set its items and their files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p3mdata.base.disk_backed import DiskDict
from p3mdata.base.files import owned_folder
from p3mdata.base.jsonl import read_rows
from p3mdata.config import Settings
from p3mdata.dataset.about import ABOUT, About, read_about, read_begun
from p3mdata.dataset.layout import KINDS, OBFUSCATED, Layout, layouts, read_layout
from p3mdata.errors import RunFolderError, SettingsError
from p3mdata.imaging.listing import pictures
from p3mdata.run.layout import PLAN
from p3mdata.typing import Json

LISTING = "manifest.jsonl"


@dataclass
class DatasetItem:
    """One picture of a set and what belongs to it; paths are relative to the dataset."""

    stem: str
    files: dict[str, list[str]] = field(default_factory=dict)

    def path(self, kind: str) -> str | None:
        """The file of a kind, or None; the first where there are several."""
        return self.files[kind][0] if self.files.get(kind) else None


@dataclass(frozen=True)
class Dataset:
    """A dataset on disk.

    Attributes:
        root: Its folder.
        layout: Which sets and folders it has.
        obfuscated: What stands for {obfuscated} in names of folders.
        about: What dataset.json says; None for datasets of others.
    """

    root: Path
    layout: Layout
    obfuscated: str
    about: About | None = None

    def run_settings(self) -> Settings | None:
        """Settings of the run that it was built from; None where they are not told.

        Raises:
            ValidationError: They are those of another version.
        """
        settings = None if self.about is None else self.about.settings
        return None if settings is None else Settings(**settings)

    def folder(self, name: str, kind: str) -> Path:
        """Folder of a kind of file of a set."""
        return self.root / self.layout.folder(name, kind, self.obfuscated)

    def items(self, name: str) -> dict[str, DatasetItem]:
        """Items of a set by file name without ending, in the order of these; any kind of file makes one."""
        return dict(self.shelf(name).items())

    def shelf(self, name: str) -> DiskDict[DatasetItem]:
        """The same for those who look at millions, in a temporary file."""
        found: DiskDict[DatasetItem] = DiskDict()
        for kind in self.layout.sets[name].folders:
            folder = self.folder(name, kind)
            if not folder.is_dir():
                continue
            for path in pictures(folder, recursive=True):
                stem = path.relative_to(folder).with_suffix("").as_posix()
                item = found.get(stem) or DatasetItem(stem)
                item.files.setdefault(kind, []).append(path.relative_to(self.root).as_posix())
                found[stem] = item
        return found

    def sets(self) -> Iterator[str]:
        """Names of the sets that are there."""
        for name in self.layout.sets:
            if self.folder(name, "image").is_dir() or self.folder(name, "alpha").is_dir():
                yield name

    def rows(self) -> Iterator[Json]:
        """Rows of its manifest; none for datasets of others."""
        return read_rows(self.root / LISTING)


@contextlib.contextmanager
def owned_dataset(root: Path) -> Iterator[None]:
    """Hold a dataset that is written; what killed processes left in it is swept away.

    Raises:
        RunFolderError: Another process is writing it, or it cannot be written.
    """
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(owned_folder(root))
        except OSError as exc:
            raise RunFolderError(f"{root}: cannot be written ({exc.strerror}). Choose another folder.") from exc
        yield


def open_dataset(root: Path, layout: str | None = None) -> Dataset:
    """A dataset made by build-split, or any folder of a known layout, such as the original P3M-10k.

    Args:
        root: The folder.
        layout: Name or file of a layout; None takes the one that fits.

    Raises:
        SettingsError: No layout fits, or there is no such folder.
        RunFolderError: Its dataset.json is damaged.
    """
    if not root.is_dir():
        raise SettingsError(f"{root}: is no folder. Give a dataset.")
    if (root / ABOUT).is_file() and layout is None:
        about = read_about(root)
        return Dataset(root, about.layout, about.obfuscated, about)
    candidates = list(layouts()) if layout is None else [read_layout(layout)]
    best = max((Dataset(root, chosen, name) for chosen in candidates for name in OBFUSCATED.values()), key=_fitting)
    if not _fitting(best):
        if (root / PLAN).is_file():
            raise SettingsError(f"{root}: is a run. Make a dataset of it first: 'p3mdata build-split {root} DATASET'.")
        names = ", ".join(chosen.name for chosen in candidates)
        raise SettingsError(f"{root}: is no dataset of layout {names}. Give --layout with its folders' names.")
    return best


def begun_dataset(root: Path) -> Dataset:
    """The dataset that is being built, or was when a process ended.

    Raises:
        RunFolderError: Its building.json is damaged.
    """
    begun = read_begun(root)
    return Dataset(root, begun.layout, begun.obfuscated)


def _fitting(dataset: Dataset) -> int:
    """How many folders of the layout are there."""
    return sum(
        dataset.folder(name, kind).is_dir()
        for name in dataset.layout.sets
        for kind in KINDS
        if kind in dataset.layout.sets[name].folders
    )


def listed_files(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Path and SHA-256 of every file that rows of a dataset's manifest name."""
    for row in rows:
        for kind in KINDS:
            if kind in row:
                yield row[kind]["path"], row[kind]["sha256"]
