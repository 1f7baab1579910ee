"""Files of a dataset's images: copied from the run, trimaps made, colours estimated, older ones deleted."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from p3mdata.base.disk_backed import DiskDict, DiskList
from p3mdata.base.files import sha256, write_released
from p3mdata.base.ids import ID
from p3mdata.dataset.attributes import Pose
from p3mdata.dataset.candidates import RUN_KINDS, Entrant
from p3mdata.dataset.folder import Dataset
from p3mdata.dataset.foregrounds import estimate
from p3mdata.dataset.layout import Content, Layout
from p3mdata.errors import RunFolderError
from p3mdata.imaging import encode_grey
from p3mdata.imaging.trimap import stored_plane, trimap_of
from p3mdata.records import one_ending
from p3mdata.run.public import PublicRow
from p3mdata.typing import Json

COLOURS = ("foreground", "background")


@dataclass(frozen=True)
class ListedImage:
    """An image of a dataset, as its manifest lists it.

    Attributes:
        public: What the run tells of it.
        files: Path below the dataset and SHA-256, by kind.
        set, group, free, traits: Where it is, which others it is of one group with, and what it is like.
        poses: Of its faces, where they are told.
    """

    public: PublicRow
    files: Mapping[str, tuple[str, str]]
    set: str
    group: int
    free: bool
    traits: Mapping[str, str]
    poses: Sequence[Pose] | None

    def to_json(self) -> Json:
        files = {kind: {"path": path, "sha256": digest} for kind, (path, digest) in self.files.items()}
        told = {} if self.poses is None else {"poses": [pose.to_json() for pose in self.poses]}
        place = {"set": self.set, "group": self.group, "free": self.free}
        return {**self.public.to_json(), **files, **place, "traits": self.traits, **told}


@dataclass(frozen=True)
class ImageWriter:
    """Writes the files of images into their sets.

    Attributes:
        run, out: Folders of the run and of the dataset.
        layout, obfuscated: Its sets and folders, and what stands for {obfuscated} in their names.
        kernel: Side of the trimaps' kernel in pixels.
        poses: Whether the manifest tells how faces are turned.
    """

    run: Path
    out: Path
    layout: Layout
    obfuscated: str
    kernel: int
    poses: bool

    def write(self, row: Entrant, name: str, group: int) -> ListedImage:
        """Copy an image's released files, make its trimap; returns its row of the manifest.

        Raises:
            RunFolderError: A released file is not the one that was proved.
        """
        chosen = self.layout.sets[name]
        files: dict[str, tuple[str, str]] = {}
        alpha = self._released(row, "alpha")
        for kind in chosen.folders:
            if kind in COLOURS:
                continue
            if kind == "trimap":
                matte = stored_plane(alpha)
                assert matte is not None
                facemask = stored_plane(self._released(row, "facemask"))
                data, file = encode_grey(trimap_of(matte, self.kernel, facemask)), f"{row.id}.png"
            else:
                data = alpha if kind == "alpha" else self._released(row, kind)
                file = f"{row.id}{one_ending(Path(row.files[RUN_KINDS[kind]][0]).suffix)}"
            path = f"{self.layout.folder(name, kind, self.obfuscated)}/{file}"
            digest = sha256(data)
            target = self.out / path
            if not (target.is_file() and sha256(target.read_bytes()) == digest):
                write_released(target, data)
            files[kind] = path, digest
        free = chosen.content is Content.FREE
        poses = row.poses if self.poses else None
        return ListedImage(row.public, files, name, group, free, row.traits, poses)

    def _released(self, row: Entrant, kind: str) -> bytes:
        name, expected = row.files[RUN_KINDS[kind]]
        path = self.run / RUN_KINDS[kind] / name
        try:
            data = path.read_bytes()
        except OSError as exc:
            raise RunFolderError(f"{path}: cannot be read ({exc.strerror}). Run 'p3mdata verify'.") from exc
        if sha256(data) != expected:
            raise RunFolderError(f"{path}: is not the file that was released. Run 'p3mdata verify'.")
        return data


def add_colours(out: Path, layout: Layout, obfuscated: str, rows: DiskList[ListedImage], workers: int) -> None:
    """Estimate fg and bg of the sets whose layout has folders for them."""
    folders = {
        name: [layout.folder(name, kind, obfuscated) for kind in COLOURS]
        for name, chosen in layout.sets.items()
        if set(COLOURS) <= set(chosen.folders)
    }
    mine = [i for i, row in enumerate(rows) if row.set in folders]
    tasks = []
    for row in map(rows.__getitem__, mine):
        front, back = (f"{folder}/{row.public.id}.png" for folder in folders[row.set])
        tasks.append((row.files["image"][0], row.files["alpha"][0], front, back))
    for i, task, hashes in zip(mine, tasks, estimate(out, tasks, workers), strict=True):
        colours = dict(zip(COLOURS, zip(task[2:], hashes, strict=True), strict=True))
        rows[i] = replace(rows[i], files={**rows[i].files, **colours})


def remove_others(earlier: Sequence[Dataset], rows: Sequence[ListedImage]) -> None:
    """Delete files of earlier builds that are in no set any more; only what has the name of an id."""
    if not earlier:
        return
    now = DiskDict((path, None) for row in rows for path, _ in row.files.values())
    for dataset in earlier:
        for name in dataset.layout.sets:
            for item in dataset.shelf(name).values():
                for path in itertools.chain.from_iterable(item.files.values()):
                    if path not in now and ID.fullmatch(item.stem):
                        (dataset.root / path).unlink(missing_ok=True)
                        _remove_empty((dataset.root / path).parent, dataset.root)


def _remove_empty(folder: Path, root: Path) -> None:
    """Remove a folder that lost its last file, and those above it that hold nothing else."""
    # One that holds something stays.
    with contextlib.suppress(OSError):
        while folder != root:
            folder.rmdir()
            folder = folder.parent
