"""Verbs from a run to a dataset, and from there to a release."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from p3mdata.api.paths import PathLike, path_of, with_paths

if TYPE_CHECKING:
    from p3mdata.dataset.build import Built
    from p3mdata.dataset.check import Check
    from p3mdata.export import Exported


def build_split(run: PathLike, out: PathLike, *, layout: str = "p3m10k", workers: int = 0, **settings: Any) -> Built:
    """Build a dataset from a finished run, or finish or renew the one that is there.

    Args:
        run: Folder of the run.
        out: Folder of the dataset.
        layout: p3m10k, plain, or a YAML file like those of manifests/layouts.
        workers: Processes; 0 takes as many as cores and memory allow.
        **settings: Fields of `p3mdata.dataset.build.SplitSettings`: `validation=500` images, or 0.05 as a share.

    Returns:
        Images per set, what was refused and why.

    Raises:
        p3mdata.errors.P3MError: The run is not finished, a proof fails, or the sizes cannot be had.
    """
    from p3mdata.dataset.build import SplitSettings
    from p3mdata.dataset.build import build_split as build
    from p3mdata.dataset.layout import read_layout

    wanted = SplitSettings(read_layout(layout), **with_paths(settings, "free_list", "previous"))
    return build(Path(run), Path(out), wanted, workers)


def check_dataset(dataset: PathLike, *, layout: str | None = None, duplicates: bool = True) -> Check:
    """Check a dataset, ours or one of others.

    Args:
        dataset: Its folder.
        layout: As for `build_split`; None takes the one that fits.
        duplicates: Look for near-duplicates too.

    Returns:
        Images per set, and findings; `errors` is 0 when it can be used.

    Raises:
        p3mdata.errors.P3MError: There is no dataset, or its layout is unknown.
    """
    from p3mdata.dataset.check import check_dataset as check

    return check(Path(dataset), layout, duplicates)


def export_release(source: PathLike, out: PathLike, to: str, *, licence: str | None = None, **options: Any) -> Exported:
    """Write a release of a run or dataset, or finish or renew one that is there.

    Args:
        source: Folder of a finished run, or of a dataset of `build_split`.
        out: Folder of the release.
        to: p3m10k, webdataset, huggingface, huggingface-parquet or croissant.
        licence: Its name or address; yours to state.
        **options: As for `p3mdata.export.export`: `name`, `about`, `run`, `stated`.

    Raises:
        p3mdata.errors.P3MError: The source is not finished or was changed, or OUT is something else.
    """
    from p3mdata.export import export as write

    return write(Path(source), Path(out), to, licence, **with_paths(options, "about", "run", "stated"))


def release_record(
    source: PathLike, out: PathLike, *, stated: PathLike | None = None, **options: Any
) -> dict[str, Any]:
    """Write what ISO/IEC 27559, GDPR Art. 30 and datasheets ask about a release, as Markdown and JSON.

    Args:
        source: Folder of a finished run, or of a dataset of `build_split`.
        out: Folder for release-record.md and release-record.json.
        stated: YAML file with what only you can say; what is missing is named in the record.
        **options: `licence`, `name`, `about`, `run`, as for `export_release`.

    Returns:
        What release-record.json holds; `not_stated` lists what is open and what fills it.

    Raises:
        p3mdata.errors.P3MError: The source is not finished or was changed, or the YAML has an unknown key.
    """
    from p3mdata.export import write_record

    return write_record(
        Path(source), Path(out), stated=path_of(stated), **with_paths(options, "about", "run")
    ).to_json()
