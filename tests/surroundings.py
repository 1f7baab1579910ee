"""One set of surroundings for every test, wherever the suite is started: by make, in CI, with nohup, by a scheduler.

What programs read besides their arguments (variables, home, umask, time zone, working folder, signals that are ignored)
is the same for all tests and for the processes that they start. A test that is about one of these sets it itself.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import signal
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# What else is set is taken away: options for this package, make's flags, widths and colours of a terminal, a job's
# number in its array, ranks of processes, regions and keys of stores, proxies, indexes of pip, repositories of git.
_KEPT = re.compile(
    r"PATH|LD_LIBRARY_PATH|VIRTUAL_ENV|TMPDIR|CI|P3MDATA_SHARED|P3MDATA_CHROMIUM|P3MDATA_NATIVE|P3M_TEST_\w+"
    r"|(PYTEST|COV|COVERAGE|HYPOTHESIS)\w*|PYTHON(PATH|HASHSEED|DONTWRITEBYTECODE|PYCACHEPREFIX)"
    r"|\w+_NUM_THREADS|OPENCV_FOR_THREADS_NUM|(CUDA|NVIDIA)_\w+"
)
_HOME = "P3M_TEST_HOME"


def settle() -> None:
    """Give this process, and so those that it starts, the surroundings of a test."""
    for name in [name for name in os.environ if not _KEPT.fullmatch(name)]:
        del os.environ[name]
    if _HOME not in os.environ:
        home = tempfile.mkdtemp(prefix="p3mdata-tests-home-")
        atexit.register(_remove, home, os.getpid())
        os.environ[_HOME] = home
    os.environ["HOME"] = os.environ[_HOME]
    # Neither UTC nor whole hours, so that local times are not taken for UTC anywhere.
    os.environ["TZ"] = "TST-05:45"
    time.tzset()
    os.environ["LANG"] = "C.UTF-8"
    # This tree is what is tested, whatever is installed.
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *(path for path in given if path not in ("", str(ROOT)))])
    shared = Path(os.environ.get("P3MDATA_SHARED", ROOT.parent / "shared"))
    os.environ["P3MDATA_SHARED"] = str(shared.absolute())
    os.umask(0o022)
    hear_signals()


def hear_signals() -> None:
    """Let signals do what they do in a terminal; a suite started in the background or with nohup has some ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def first_on_path(folder: Path) -> dict[str, str]:
    """Variables of a process whose modules, `sitecustomize` among them, are looked for in a folder first."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ["PYTHONPATH"]])}


def _remove(folder: str, owner: int) -> None:
    # Processes that are forked come by here too.
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
