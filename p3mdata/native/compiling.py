"""Compiles the C library beside this file.

The build hook of the package does it without the package, so that this module needs nothing but Python.
"""

from __future__ import annotations

import hashlib
import importlib.util
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
# A C compiler as a Python package. It makes libraries for all systems on each.
ZIGLANG = "ziglang==0.17.1"
# Oldest macOS that a wheel is for, and oldest glibc of a library by ziglang.
_MACOS, _GLIBC = "11.0", "2.17"
_SUFFIXES = {"win32": ".dll", "darwin": ".dylib"}
# Platforms that wheels are released for, as pip and as ziglang name them.
WHEELS = {
    "manylinux_2_17_x86_64": f"x86_64-linux-gnu.{_GLIBC}",
    "manylinux_2_17_aarch64": f"aarch64-linux-gnu.{_GLIBC}",
    "musllinux_1_2_x86_64": "x86_64-linux-musl",
    "macosx_11_0_x86_64": f"x86_64-macos.{_MACOS}",
    "macosx_11_0_arm64": f"aarch64-macos.{_MACOS}",
    "win_amd64": "x86_64-windows-gnu",
}
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
# Of ziglang, which else takes the processor that it runs on, and keeps symbols.
_ZIG_FLAGS = ("-mcpu=baseline", "-fno-sanitize=all", "-g0", "-s")
# Where the assembler does not know what its compiler does.
_WITHOUT_AVXVNNI = "-DP3M_WITHOUT_AVXVNNI"
_FAILS = "fails"
# The first time ziglang compiles the system's startup code too.
_SECONDS = 900


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


def library_path(folder: Path = HERE, target: str | None = None) -> Path:
    """Where the library lies when it was made, for this machine or for a target of ziglang's."""
    return folder / f"_p3mdata{_SUFFIXES.get(_system(target), '.so')}"


def compilers() -> list[list[str]]:
    """Commands of the machine's C compilers, the one to try first before: that of CC alone, or cc, gcc, clang, ziglang.

    On Windows that of CC alone, or ziglang.

    Raises:
        CannotCompile: There is none.
    """
    asked = os.environ.get("CC", "")
    try:
        if command := shlex.split(asked):
            return [command]
    except ValueError as exc:
        raise CannotCompile(f"CC is '{asked}', which is no command ({exc})") from exc
    # For Windows GCC makes no vectors (native.h), nor clang as it comes there, which follows Microsoft's compiler.
    names = () if sys.platform == "win32" else ("cc", "gcc", "clang")
    commands = [[path] for name in names if (path := shutil.which(name))]
    if importlib.util.find_spec("ziglang"):
        commands.append(_zig(_target()))
    if not commands:
        raise CannotCompile(f"no C compiler ({', '.join((*names, 'that of CC'))} or the package ziglang) was found")
    return commands


def compile_library(
    made: Path | None = None, extra: tuple[str, ...] = (), folder: Path = HERE, target: str | None = None
) -> Path:
    """Make the library, in one step for those who look at it meanwhile, by the first compiler that can.

    Args:
        made: File to write; by default the one that is loaded.
        extra: More flags of the compiler.
        folder: Where the sources are.
        target: Of ziglang, for another machine.

    Raises:
        CannotCompile: There is no compiler, or all fail.
    """
    commands = [_zig(target)] if target else compilers()
    made = made or library_path(folder, target)
    flags = [*_FLAGS, *_flags_for(_system(target)), *extra, f'-DP3M_SOURCES="{digest(folder)}"']
    files = [str(path) for path in sources(folder) if path.suffix == ".c"]
    try:
        # Some compilers write more than they are asked for.
        scratch = tempfile.TemporaryDirectory(dir=made.parent, prefix=".made-", ignore_cleanup_errors=True)
    except OSError as exc:
        raise CannotCompile(f"{made.parent} cannot be written ({exc.strerror})") from exc
    failures: list[str] = []
    attempts = list(commands)
    with scratch:
        part = Path(scratch.name, made.name)
        for command in attempts:
            if failure := _failure([*command, *flags, "-o", str(part), *files], Path(scratch.name, "cache")):
                failures.append(f"{shlex.join(command)} {failure}")
                # All instructions by any compiler, before fewer by the first that does not hang.
                if failure.startswith(_FAILS) and command[-1] != _WITHOUT_AVXVNNI:
                    attempts.append([*command, _WITHOUT_AVXVNNI])
                continue
            try:
                os.chmod(part, 0o755)
                os.replace(part, made)
            except OSError as exc:
                raise CannotCompile(f"{made} cannot be replaced ({exc.strerror})") from exc
            return made
    raise CannotCompile("; ".join(dict.fromkeys((failures[0], failures[len(commands) - 1]))))


def _failure(command: list[str], cache: Path) -> str:
    """Why a compiler fails, or nothing."""
    # What ziglang keeps for the next time is removed, unless the environment says where to keep it.
    caches = {name: str(cache) for name in ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR")}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
            env={**caches, **os.environ},
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return f"cannot be run: {exc}"
    if not done.returncode:
        return ""
    # A compiler speaks the terminal's language, in whatever encoding.
    told = (done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}").splitlines()
    return f"{_FAILS}: {next((line for line in told if 'error' in line), told[0])}"


def _zig(target: str) -> list[str]:
    return [sys.executable, "-m", "ziglang", "cc", *_ZIG_FLAGS, "-target", target]


def _target() -> str:
    """This machine, as ziglang names it."""
    machine = platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    if sys.platform == "darwin":
        return f"{machine}-macos.{_MACOS}"
    if sys.platform == "win32":
        return f"{machine}-windows-gnu"
    return f"{machine}-linux-" + (f"gnu.{_GLIBC}" if platform.libc_ver()[0] == "glibc" else "musl")


def _system(target: str | None) -> str:
    """What `sys.platform` is on this machine, or on that of a target."""
    if target is None:
        return sys.platform
    return "win32" if "-windows" in target else "darwin" if "-macos" in target else "linux"


def _flags_for(system: str) -> list[str]:
    if system == "darwin":
        # Without a name the library tells the path where it was made.
        return [f"-mmacosx-version-min={_MACOS}", "-Wl,-install_name,@rpath/_p3mdata.dylib"]
    return [] if system == "win32" else ["-fPIC"]


def platform_tag() -> str:
    """Platform of a wheel that holds the library."""
    if sys.platform == "darwin":
        return f"macosx_{_MACOS.replace('.', '_')}_{platform.machine()}"
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")
