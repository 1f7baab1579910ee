"""The secret of a run: made with its plan, kept in its private folder, in nothing that is passed on.

Who knows it can tell from the ids of a release whether a photograph in hand is in it, or was taken down.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from p3mdata.base.files import temporary_name, write_atomic
from p3mdata.base.ids import new_secret, read_secret
from p3mdata.base.jsonl import PRIVATE_MODE
from p3mdata.config import Job
from p3mdata.errors import RunFolderError, SettingsError
from p3mdata.run.layout import SECRET
from p3mdata.run.planned import Planned


def secret_of(out: Path, plan: Planned) -> str | None:
    """Secret of a run that is planned; None for a run that has none.

    Raises:
        RunFolderError: It was lost.
    """
    if not plan.keyed:
        return None
    try:
        return read_secret(out / SECRET)
    except SettingsError as exc:
        raise RunFolderError(
            f"{out / SECRET}: is lost or damaged, and with it the way from photographs to ids. Restore it, or start a "
            "new run in another OUT."
        ) from exc


def planned_secret(job: Job, plan: Planned | None, write: bool) -> str | None:
    """The secret that a plan is made with: that of the plan that is there, the one that was given, or a new one.

    Args:
        job: Whose plan it is.
        plan: The plan that is there, or None.
        write: Keep it in the run folder.

    Raises:
        SettingsError: The file that was given holds none.
        RunFolderError: The run was planned with another one.
    """
    given = None if job.execution.secret_file is None else read_secret(job.execution.secret_file)
    if plan is not None:
        secret = secret_of(job.out, plan)
        if given not in (None, secret):
            raise RunFolderError(
                f"{job.place}: was planned with another secret than {job.execution.secret_file}. Use another OUT, or "
                "leave --secret-file out."
            )
        return secret
    if not write:
        return given or new_secret()
    if given is not None:
        write_atomic(job.out / SECRET, f"{given}\n".encode(), PRIVATE_MODE)
        return given
    return _kept(job.out)


def _kept(out: Path) -> str:
    """The secret that is there already, else a new one; processes that ask at the same time get the same."""
    path = out / SECRET
    with contextlib.suppress(SettingsError):
        return read_secret(path)
    temporary = temporary_name(path)
    write_atomic(temporary, f"{new_secret()}\n".encode(), PRIVATE_MODE)
    try:
        os.link(temporary, path)
    except FileExistsError:
        with contextlib.suppress(SettingsError):
            return read_secret(path)
        # Nothing else writes there: it is damaged, and no plan was made with it.
        os.replace(temporary, path)
    except OSError:
        # A file system without links.
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return read_secret(path)
