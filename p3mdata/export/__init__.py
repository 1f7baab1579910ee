"""Exports: a run or dataset as P3M-10k folders, WebDataset, Hugging Face or Croissant, with card and release record.

No source path, source hash or landmark enters any of them, and equal releases give equal bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from p3mdata.base.files import lies_in, write_atomic
from p3mdata.base.progress import Progress, silent
from p3mdata.errors import RunFolderError, SettingsError, reason_of, unwritable
from p3mdata.export import card, croissant, huggingface, webdataset
from p3mdata.export.card_text import Words, describe
from p3mdata.export.record import Record, record_of
from p3mdata.export.record_text import files
from p3mdata.export.release import Release
from p3mdata.export.stated import Stated, read_stated
from p3mdata.export.target import Target
from p3mdata.run.derived import register_derived
from p3mdata.run.locks import only_run
from p3mdata.typing import Json

__all__ = ["Exported", "Form", "Release", "export", "write_record"]

MOST_IMAGES, MOST_BYTES = 1000, 1 << 30
_P3M10K = "p3m10k"
_FOLDERS = "The folders are those of P3M-10k, so that code written for it finds every file."


class Form(str, Enum):
    """What a release is exported to."""

    P3M10K = _P3M10K
    WEBDATASET = "webdataset"
    HUGGINGFACE = "huggingface"
    HUGGINGFACE_PARQUET = "huggingface-parquet"
    CROISSANT = "croissant"


@dataclass(frozen=True)
class Exported:
    """What an export came to.

    Attributes:
        out: Its folder.
        to: Name of its form.
        files, bytes: Number and size of its files.
        splits: Images by split, under the names that the export uses.
        version: Version of the dataset.
        licensed: Whether a licence was given.
    """

    out: Path
    to: str
    files: int
    bytes: int
    splits: dict[str, int]
    version: int
    licensed: bool

    def to_json(self) -> Json:
        return {
            "out": str(self.out),
            "to": self.to,
            "files": self.files,
            "bytes": self.bytes,
            "splits": self.splits,
            "version": self.version,
            "licensed": self.licensed,
        }


_Writer = Callable[[Release, Target, int, int, Callable[[], None]], Sequence[huggingface.Config]]


def _copy(
    release: Release, target: Target, most_images: int, most_bytes: int, step: Callable[[], None]
) -> Sequence[huggingface.Config]:
    """The dataset in its own folders."""
    for split in release.splits:
        for entry in split.entries:
            for file in entry.files.values():
                path = file.path.relative_to(release.source).as_posix()
                if not target.has(path, file.sha256):
                    target.write(path, file.read())
            step()
    return ()


_WRITERS: dict[Form, tuple[_Writer, str]] = {
    Form.P3M10K: (_copy, _FOLDERS),
    Form.WEBDATASET: (webdataset.write, webdataset.LOADING),
    Form.HUGGINGFACE: (huggingface.write_folder, huggingface.LOADING),
    Form.HUGGINGFACE_PARQUET: (huggingface.write_parquet, huggingface.LOADING),
    Form.CROISSANT: (croissant.write, croissant.LOADING),
}


def export(
    source: Path,
    out: Path,
    to: str,
    licence: str | None = None,
    name: str | None = None,
    about: Path | None = None,
    run: Path | None = None,
    stated: Path | None = None,
    most_images: int = MOST_IMAGES,
    most_bytes: int = MOST_BYTES,
    progress: Progress | None = None,
) -> Exported:
    """Export a finished run or a dataset, or finish or renew an export that is there.

    Args:
        source: A run folder, or a dataset of `p3mdata build-split`; files are checked by hash as they are read.
        out: Folder of the export: new, empty, or an earlier export of the same form, whose files are replaced.
        to: Name of a `Form`.
        licence: Name or address of the licence; without it the card says that it must be set.
        name: Name of the dataset.
        about: Text file (Markdown) for the card: how the photographs were collected, and with whose consent.
        run: For a dataset, the run that it was built from: its figures enter the card, and a take-down from it names
            this export.
        stated: YAML file of `stated.Stated`: what only the publisher can say, for the release record; its `collection`
            enters the card where there is no `about`, its `contact` too.
        most_images, most_bytes: Largest shard of WebDataset and Parquet files.
        progress: Gets the number of images; gives a function to call after each.

    Raises:
        SettingsError: The wishes do not fit the source; nothing was written.
        RunFolderError: The source is not finished or was changed, or OUT is foreign or cannot be written (any more);
            the same call then goes on.
        SetupError: A library is missing.
    """
    form = _form(to)
    if most_images < 1 or most_bytes < 1:
        raise SettingsError("a shard must have room for one image. Give larger numbers.")
    release = Release.open(source, run)
    if form is Form.P3M10K:
        _check_layout(release)
    if form in (Form.HUGGINGFACE_PARQUET, Form.CROISSANT):
        huggingface.require_pyarrow()
    words, said = _words(release, licence, name, about, stated)
    write, loading = _WRITERS[form]
    try:
        with Target.begin(out, form.value, source) as target:
            if release.run is not None:
                # Before the first file: a take-down must know of an export that was never finished as well.
                _register(release.run, form, out)
            step = (progress or silent)(release.images)
            configs = write(release, target, most_images, most_bytes, step)
            if form is Form.CROISSANT:
                croissant.describe(release, target, words)
            for file, content in files(record_of(release, words, said)).items():
                target.write(file, content)
            target.finish(card.card(release, words, loading, configs))
    except OSError as exc:
        raise unwritable(out, exc) from exc
    splits = {split.name: len(split.entries) for split in release.splits}
    size = sum(size for _, size in target.files.values())
    version = release.facts().version
    return Exported(out, form.value, len(target.files), size, splits, version, words.licence is not None)


def write_record(
    source: Path,
    out: Path,
    licence: str | None = None,
    name: str | None = None,
    about: Path | None = None,
    run: Path | None = None,
    stated: Path | None = None,
) -> Record:
    """Write the release record of a finished run or a dataset alone: release-record.md and .json in a folder.

    Args:
        source, licence, name, about, run, stated: As for `export`; files of pictures are not read.
        out: The folder; one that is there keeps what else is in it.

    Raises:
        SettingsError, RunFolderError: As for `export`.
    """
    if lies_in(out, source):
        raise SettingsError(f"{out}: lies inside {source}, which holds nothing but its own files. Choose another OUT.")
    release = Release.open(source, run)
    record = record_of(release, *_words(release, licence, name, about, stated))
    try:
        out.mkdir(parents=True, exist_ok=True)
        for file, content in files(record).items():
            write_atomic(out / file, content)
    except OSError as exc:
        raise unwritable(out, exc) from exc
    return record


def _words(
    release: Release, licence: str | None, name: str | None, about: Path | None, stated: Path | None
) -> tuple[Words, Stated]:
    """Sentences about a release, and what its publisher states."""
    said = read_stated(stated)
    collection = (_read(about) or "").strip() or said.collection
    words = describe(release, licence, name, collection, said.contact)
    return words, said.model_copy(update={"collection": collection})


def _register(run: Path, form: Form, out: Path) -> None:
    try:
        with only_run(run):
            register_derived(run, form.value, out)
    except OSError as exc:
        raise RunFolderError(
            f"{run}: cannot be written ({exc.strerror or exc}), so that a take-down would not know of {out}. Make the "
            "run writable for you, then run again."
        ) from exc


def _form(to: str) -> Form:
    try:
        return Form(to)
    except ValueError:
        raise SettingsError(f"--to {to}: is unknown. Use one of {', '.join(form.value for form in Form)}.") from None


def _check_layout(release: Release) -> None:
    if release.dataset is None:
        raise SettingsError(
            f"{release.source}: is a run, which has no sets yet. Run 'p3mdata build-split {release.source} DATASET' "
            "first, then export DATASET."
        )
    if release.dataset.layout.name != _P3M10K:
        raise SettingsError(
            f"{release.source}: has the layout {release.dataset.layout.name}. Run 'p3mdata build-split' with --layout "
            f"{_P3M10K}, then export that."
        )


def _read(about: Path | None) -> str | None:
    try:
        return None if about is None else about.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(f"{about}: cannot be read ({reason_of(exc)}). Give a text file in UTF-8.") from exc
