"""How a command line ends: every failure becomes a sentence and the documented exit code."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from typing import Any, NoReturn

import typer

from p3mdata.base.streams import STOP_SIGNALS
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
    given = sys.argv[1:] if args is None else args
    sentence: str | None = None
    try:
        code = app(args, standalone_mode=False)
        sys.stdout.flush()
    except P3MError as exc:
        code, sentence = exc.exit_code, str(exc)
        if code != EXIT_INTERRUPTED:
            _error(sentence)
    except _UsageError as exc:
        exc.show()
        code, sentence = EXIT_USAGE, exc.format_message()
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
    except OSError as exc:
        where = f"{exc.filename}: " if exc.filename else "the output "
        sentence = f"{where}cannot be read, printed or written ({exc.strerror or exc})."
        _error(sentence)
        code = EXIT_USAGE
    except Exception:
        traceback.print_exc()
        sentence = f"this is a fault of {app.info.name}. Please report the lines above; {kept}."
        _error(sentence)
        code = EXIT_BUG
    if code == EXIT_INTERRUPTED:
        for number in STOP_SIGNALS:
            # It ends already.
            signal.signal(number, signal.SIG_IGN)
        sentence = f"interrupted; {kept}. Run the same command again to resume."
        _error(sentence)
    code = code if isinstance(code, int) else 0
    if sentence is not None and "--json" in given:
        _tell(code, sentence)
    _flush()
    sys.exit(code)


def _flush() -> None:
    try:
        sys.stdout.flush()
    except OSError:
        # What is left in the buffer would fail again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _error(sentence: str) -> None:
    from p3mdata.base import console

    console.error(sentence)


def _tell(code: int, sentence: str) -> None:
    from p3mdata.base import console

    console.failure(code, sentence)
