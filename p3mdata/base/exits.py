"""How a command line ends: every failure becomes a sentence and the documented exit code."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any, NoReturn

import typer

from p3mdata.errors import EXIT_BUG, EXIT_INTERRUPTED, EXIT_USAGE, P3MError

# Some releases of typer use click and some carry a copy of it; this base class is the right one in both.
_UsageError: Any = typer.BadParameter.__mro__[2]


def run_app(app: typer.Typer, args: list[str] | None, kept: str) -> NoReturn:
    """Run a command line and exit.

    Args:
        app: Its commands.
        args: Arguments; None takes those of the process.
        kept: What an interruption leaves, in words.
    """
    # What OpenCV has to say about a damaged file is in our sentence about it. Read when it is imported, which most
    # commands do and a help need not.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    if cv2 := sys.modules.get("cv2"):
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    try:
        code = app(args, standalone_mode=False)
        sys.stdout.flush()
    except P3MError as exc:
        code = exc.exit_code
        if code != EXIT_INTERRUPTED:
            _error(str(exc))
    except _UsageError as exc:
        exc.show()
        code = EXIT_USAGE
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
    except OSError as exc:
        where = f"{exc.filename}: " if exc.filename else "the output "
        _error(f"{where}cannot be read, printed or written ({exc.strerror or exc}).")
        # What is left in the buffer would fail again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = EXIT_USAGE
    except Exception:
        traceback.print_exc()
        _error(f"this is a fault of {app.info.name}. Please report the lines above; {kept}.")
        code = EXIT_BUG
    if code == EXIT_INTERRUPTED:
        _error(f"interrupted; {kept}. Run the same command again to resume.")
    sys.exit(code if isinstance(code, int) else 0)


def _error(sentence: str) -> None:
    from p3mdata.base import console

    console.error(sentence)
