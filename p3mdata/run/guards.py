"""Folders that a run must not use: inside each other, foreign, or not empty."""

from __future__ import annotations

import os
from pathlib import Path

from p3mdata.base.addresses import as_os_error, is_remote
from p3mdata.base.files import GIT_IGNORE, is_torn, lies_in
from p3mdata.base.jsonl import read_json
from p3mdata.config import Job
from p3mdata.errors import RunFolderError, SettingsError, start_anew
from p3mdata.imaging import SUFFIXES
from p3mdata.imaging.listing import pictures
from p3mdata.run.layout import LOG, PLAN, PRIVATE, SUSPECTS


def check_folders(job: Job) -> None:
    """Refuse folders that a run could damage or mix up.

    Raises:
        SettingsError, RunFolderError: With what is wrong and what to do.
    """
    _check_source(job.source)
    mixed = _inside(job.source, job.place) or (not job.chosen and _inside(job.place, job.source))
    if mixed or any(_inside(job.source / name, job.place) for name in job.chosen):
        raise SettingsError(f"{job.place}: OUT and SRC must not lie inside each other. Choose another OUT.")
    for name, folder in (("alphas", job.alphas), ("trimaps", job.trimaps), ("masks", job.masks)):
        if folder is not None:
            _check_companions(job, name, folder)
    if not job.chosen and next(pictures(job.source, job.settings.recursive), None) is None:
        raise SettingsError(f"{job.source}: holds no pictures. Supported endings: {' '.join(sorted(SUFFIXES))}.")
    # Of a run in a store OUT is a staging folder, which is ours.
    if job.store is None:
        _check_out(job.out)
    if job.execution.overwrite and (job.out / LOG).exists():
        raise RunFolderError(
            f"{job.out}: holds decisions of reviewers, which --overwrite would delete. Use another OUT, and carry them "
            f"over with 'p3mdata review NEW --apply {job.out / LOG}'; or delete the folder yourself."
        )
    if job.execution.overwrite and (job.out / SUSPECTS).exists():
        raise RunFolderError(
            f"{job.out}: holds what a second look found to be left bare, which --overwrite would forget and "
            "release. Use another OUT and run 'p3mdata audit NEW --recall' on it; or delete the folder yourself."
        )


def _check_source(source: Path) -> None:
    try:
        is_folder = as_os_error(source.is_dir)
    except OSError as exc:
        raise SettingsError(f"{source}: cannot be looked at ({exc.strerror or exc}). Check the address.") from exc
    if not is_folder:
        what = "is a file: use 'p3mdata anonymize image'" if source.is_file() else "does not exist. Check the path"
        raise SettingsError(f"{source}: {what}.")


def _check_companions(job: Job, name: str, folder: Path) -> None:
    if not folder.is_dir():
        raise SettingsError(f"{folder}: the folder given as --{name} does not exist. Check the path.")
    inside = _inside(folder, job.source) and (job.settings.recursive or _inside(job.source, folder))
    if inside and not job.chosen:
        raise SettingsError(f"{folder}: lies inside SRC, so that the {name} would count as photos. Move it out.")
    if job.execution.overwrite and _inside(folder, job.out):
        raise SettingsError(f"{folder}: lies inside OUT, which --overwrite empties. Move the {name} out first.")


def _inside(inner: Path, outer: Path) -> bool:
    if is_remote(inner) or is_remote(outer):
        return is_remote(inner) and is_remote(outer) and f"{inner}/".startswith(f"{outer}/")
    return lies_in(inner, outer)


def _check_out(out: Path) -> None:
    if not out.is_dir():
        if os.path.lexists(out):
            raise RunFolderError(f"{out}: is a file. Choose a folder.")
    elif (out / PLAN).exists():
        if not str(read_json(out / PLAN, start_anew(out)).get("tool", "")).startswith("p3mdata "):
            raise RunFolderError(f"{out}: is not a run folder, its {PLAN} is not of p3mdata. Choose another folder.")
    # A run that was killed before it had a plan leaves these.
    elif any(path.name not in (PRIVATE, GIT_IGNORE) and not is_torn(path.name) for path in out.iterdir()):
        raise RunFolderError(f"{out}: is not empty and not a run folder. Choose an empty or new folder.")
