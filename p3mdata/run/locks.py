"""One process at a time on a run folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from p3mdata.base.files import lies_in, locked
from p3mdata.base.system import LOCK_EX, LOCK_NB
from p3mdata.errors import RunFolderError, deleted_meanwhile, not_finished, unwritable
from p3mdata.run.executors import local
from p3mdata.run.layout import LEDGER, LOCK, PLAN, PRIVATE, make_private_folder, sweep_run
from p3mdata.run.plan import Plan, read_plan
from p3mdata.run.samples import Samples


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Tell that a run folder cannot be written, of whatever the block does in it; the same call may go on later.

    What the system says of files that lie elsewhere, such as photographs, stays as it is.

    Raises:
        RunFolderError: It cannot.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as exc:
        if isinstance(exc.filename, str | os.PathLike) and not lies_in(Path(exc.filename), out):
            raise
        raise unwritable(out, exc) from exc


@contextmanager
def only_run(out: Path, begins: bool = False) -> Iterator[None]:
    """Hold the run folder's lock, so that two processes never work on one run; it is swept.

    Args:
        out: The run folder.
        begins: The run may be one that begins here: the folder is made where it is not there.

    Raises:
        RunFolderError: In use by another process; or it was deleted since it was looked at, and is not made again.
    """
    if not begins and not (out / PLAN).exists():
        raise deleted_meanwhile(out)
    make_private_folder(out / PRIVATE)
    with ExitStack() as held:
        try:
            held.enter_context(locked(out / LOCK, LOCK_EX | LOCK_NB))
        except BlockingIOError as exc:
            raise RunFolderError(f"{out}: another p3mdata process is working on it. Wait for it to end.") from exc
        local.wait_for_orphans(out)
        sweep_run(out)
        yield


@contextmanager
def finished_run(out: Path) -> Iterator[tuple[Plan, Samples]]:
    """Hold a finished run's lock and give its plan and its samples with the decisions about them.

    Raises:
        RunFolderError: Not a run, not finished, or in use by another process.
    """
    read_plan(out)
    with only_run(out):
        if not (out / LEDGER).exists():
            raise not_finished(out)
        yield read_plan(out)
