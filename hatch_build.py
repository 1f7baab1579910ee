"""Compiles p3mdata/native when a wheel or an editable installation is built.

Where no compiler works, ziglang is asked for, a C compiler as a package, which is there while it builds; where that
cannot be had either, both go without the library. `tools/wheels.py` has wheels made for other systems.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# Environment variable: the platform of the wheel, one of `compiling.WHEELS`.
PLATFORM = "P3MDATA_WHEEL"
_SECONDS = 60


class NativeBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """The hook that pyproject.toml names."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """What must be installed before: a compiler where there is none."""
        compiling = _compiling(Path(self.root))
        if os.environ.get(PLATFORM):
            return [compiling.ZIGLANG]
        if os.environ.get("P3MDATA_NATIVE") == "off" or os.environ.get("CC", "").strip():
            return []
        with tempfile.TemporaryDirectory() as folder:
            try:
                # As quickly as it can be done: this is about whether.
                compiling.compile_library(Path(folder) / "library", ("-O0",))
                return []
            except compiling.CannotCompile:
                return [compiling.ZIGLANG] if _can_be_had(compiling.ZIGLANG) else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the library in the source tree, and have a wheel hold it."""
        compiling = _compiling(Path(self.root))
        if platform := os.environ.get(PLATFORM):
            self._for_another(compiling, platform, build_data)
            return
        made = compiling.library_path()
        try:
            compiling.compile_library()
        except compiling.CannotCompile as exc:
            if version != "editable":
                # One that was left from elsewhere must not get into a wheel for every machine. Where it cannot be
                # removed it is left out still, since git ignores it.
                with contextlib.suppress(OSError):
                    made.unlink()
            self.app.display_warning(f"p3mdata goes without its C library, which makes it slower: {exc}")
            return
        if version != "editable":
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{compiling.platform_tag()}"
            build_data["artifacts"].append(f"p3mdata/native/{made.name}")

    def _for_another(self, compiling: Any, platform: str, build_data: dict[str, Any]) -> None:
        """Have a wheel hold the library of another platform; that of the source tree stays out of it."""
        target = compiling.WHEELS[platform]
        self._folder = tempfile.TemporaryDirectory()
        made = compiling.library_path(Path(self._folder.name), target)
        compiling.compile_library(made, target=target)
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
        build_data["force_include"][str(made)] = f"p3mdata/native/{made.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was made for a wheel alone."""
        if os.environ.get(PLATFORM):
            self._folder.cleanup()


def _can_be_had(requirement: str) -> bool:
    """Whether the installer finds a package; what is not there must not keep p3mdata from being installed."""
    # The environment of a build holds no installer.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    pythons = dict.fromkeys((sys.executable, getattr(sys, "_base_executable", sys.executable)))
    tools = [[python, "-m", "pip"] for python in pythons]
    if uv := os.environ.get("UV") or shutil.which("uv"):
        tools.append([uv, "pip"])
    with tempfile.TemporaryDirectory() as folder:
        asked = ["install", "--dry-run", "--no-deps", "--target", folder, requirement]
        for tool in tools:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                done = subprocess.run(
                    [*tool, *asked], env=environment, capture_output=True, timeout=_SECONDS, check=False
                )
                if not done.returncode:
                    return True
    return False


def _compiling(root: Path) -> Any:
    """The module that compiles, without the package, whose dependencies are not installed yet."""
    path = root / "p3mdata" / "native" / "compiling.py"
    spec = importlib.util.spec_from_file_location("compiling", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
