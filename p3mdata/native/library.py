"""The compiled library of this process, or why there is none."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from p3mdata.errors import SettingsError
from p3mdata.native import compiling

# Environment variable: 'auto', 'off', or the name of the instruction set to use.
VARIABLE = "P3MDATA_NATIVE"
# Instruction sets of this kind of processor by the library's numbers; all give the same bytes.
LEVELS = (
    ("generic", "neon", "dotprod")
    if platform.machine().lower() in ("aarch64", "arm64")
    else ("generic", "avx2", "avxvnni", "vnni")
)
_AUTO, _OFF = "auto", "off"
_COMMAND = "python -m p3mdata.native"
_NOT_HERE = "not for this processor"
# On Windows no other is taken by itself.
_OR_ONE = "" if sys.platform == "win32" else ", or one"
_COST = "takes more than twice the time for the same bytes"


@dataclass(frozen=True)
class Library:
    """The loaded library.

    Attributes:
        functions: Its functions. Each takes `level` first; addresses are given as `numpy.ndarray.ctypes.data`.
        level: The instruction set in use, a place in `LEVELS`.
    """

    functions: ctypes.CDLL
    level: int


def library() -> Library | None:
    """The library, if there is one made from the sources beside it and the environment lets it be used.

    Raises:
        SettingsError: The environment asks for an instruction set that is unknown or that the processor lacks.
    """
    return _chosen(os.environ.get(VARIABLE, _AUTO))


def finding() -> tuple[bool, str]:
    """Whether the library is in use, and one line about it.

    Raises:
        SettingsError: As `library` does.
    """
    used = library()
    if used is not None:
        if used.level == 0:
            return True, "compiled, but not for this processor's vectors: networks are computed by onnxruntime"
        return True, f"compiled, with instructions for {LEVELS[used.level]}"
    if os.environ.get(VARIABLE) == _OFF:
        return False, f"switched off by {VARIABLE}, which {_COST}"
    why = load(compiling.HERE)[1]
    return False, f"{why}, which {_COST}" + (
        ""
        if why == _NOT_HERE
        else f": install a C compiler{_OR_ONE} by 'pip install {compiling.ZIGLANG}', then run '{_COMMAND}'"
    )


@functools.cache
def _chosen(asked: str) -> Library | None:
    if asked not in (_AUTO, _OFF, *LEVELS):
        raise SettingsError(f"{VARIABLE} is '{asked}'. Use {_AUTO}, {_OFF}, {', '.join(LEVELS[:-1])} or {LEVELS[-1]}.")
    if asked == _OFF or (functions := load(compiling.HERE)[0]) is None:
        return None
    best = int(functions.p3m_best_level())
    if asked == _AUTO:
        return Library(functions, best)
    if LEVELS.index(asked) > best:
        raise SettingsError(f"{VARIABLE} is '{asked}', which this processor lacks. Use {_AUTO} or {LEVELS[best]}.")
    return Library(functions, LEVELS.index(asked))


@functools.cache
def load(folder: Path) -> tuple[ctypes.CDLL | None, str]:
    """The library that lies beside its sources in a folder, or None and why it is not used."""
    # Arithmetic of 32-bit processors rounds floats at other places.
    if sys.byteorder != "little" or sys.maxsize < 1 << 32:
        return None, _NOT_HERE
    path = compiling.library_path(folder)
    if not path.exists():
        return None, "not compiled"
    try:
        functions = ctypes.CDLL(str(path))
        functions.p3m_sources.restype = ctypes.c_char_p
        stale = functions.p3m_sources() != compiling.digest(folder).encode()
        if stale:
            return None, "not used, since it was compiled from other sources"
        functions.p3m_level_names.restype = ctypes.c_char_p
        names = tuple(functions.p3m_level_names().decode().split())
    except (OSError, AttributeError) as exc:
        return None, f"not used, since it cannot be loaded ({exc})"
    # Weights are packed by these names: those of another kind of processor would give other numbers.
    return (functions, "") if names == LEVELS[: len(names)] else (None, _NOT_HERE)
