"""Compiles the C library beside this file.

The build hook of the package does it without the package, so that this module needs nothing but Python.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Oldest macOS that a wheel is for.
_MACOS = "11.0"
_NAMES = {"win32": "_p3mdata.dll", "darwin": "_p3mdata.dylib"}
# Results must not depend on the compiler's licence to reorder or to contract floats.
_FLAGS = (
    "-std=c11",
    "-O3",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-shared",
)
_SECONDS = 300


class CannotCompile(Exception):
    """The library could not be made; the text says why."""


def sources(folder: Path = HERE) -> list[Path]:
    """The C files, and those that they include, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix in (".c", ".h"))


def digest(folder: Path = HERE) -> str:
    """SHA-256 of sources and flags; a library holds that of what it was made from."""
    told = hashlib.sha256(" ".join(_FLAGS).encode())
    for path in sources(folder):
        # A checkout may have line ends of its own.
        content = path.read_bytes().replace(b"\r\n", b"\n")
        told.update(f"{path.name} {len(content)}\n".encode() + content)
    return told.hexdigest()


def library_path(folder: Path = HERE) -> Path:
    """Where the library lies when it was made."""
    return folder / _NAMES.get(sys.platform, "_p3mdata.so")


def compiler() -> list[str]:
    """The command of the machine's C compiler: that of CC, or the first of cc, gcc, clang.

    Raises:
        CannotCompile: There is none.
    """
    asked = os.environ.get("CC", "")
    try:
        if command := shlex.split(asked):
            return command
    except ValueError as exc:
        raise CannotCompile(f"CC is '{asked}', which is no command ({exc})") from exc
    for name in ("cc", "gcc", "clang"):
        if found := shutil.which(name):
            return [found]
    raise CannotCompile("no C compiler (cc, gcc, clang or that of CC) was found")


def compile_library(target: Path | None = None, extra: tuple[str, ...] = (), folder: Path = HERE) -> Path:
    """Make the library, in one step for those who look at it meanwhile.

    Args:
        target: File to write; by default the one that is loaded.
        extra: More flags of the compiler.
        folder: Where the sources are.

    Raises:
        CannotCompile: There is no compiler, or it fails.
    """
    target = target or library_path(folder)
    flags = [*_FLAGS, *extra, f'-DP3M_SOURCES="{digest(folder)}"']
    if sys.platform == "darwin":
        flags.append(f"-mmacosx-version-min={_MACOS}")
    elif sys.platform != "win32":
        flags.append("-fPIC")
    command = compiler()
    try:
        handle, made = tempfile.mkstemp(dir=target.parent, prefix=".made-", suffix=target.suffix)
    except OSError as exc:
        raise CannotCompile(f"{target.parent} cannot be written ({exc.strerror})") from exc
    os.close(handle)
    try:
        files = [str(path) for path in sources(folder) if path.suffix == ".c"]
        done = subprocess.run(
            [*command, *flags, "-o", made, *files], capture_output=True, timeout=_SECONDS, check=False
        )
        if done.returncode:
            # A compiler speaks the terminal's language, in whatever encoding.
            told = (done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}").splitlines()
            error = next((line for line in told if "error" in line), told[0])
            raise CannotCompile(f"{shlex.join(command)} fails: {error}")
        # Temporary files are their owner's alone.
        os.chmod(made, 0o755)
        os.replace(made, target)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise CannotCompile(f"{shlex.join(command)} cannot be run: {exc}") from exc
    finally:
        Path(made).unlink(missing_ok=True)
    return target


def platform_tag() -> str:
    """Platform of a wheel that holds the library."""
    if sys.platform == "darwin":
        return f"macosx_{_MACOS.replace('.', '_')}_{platform.machine()}"
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")
