"""Compiles p3mdata/native when a wheel or an editable installation is built.

Without a compiler, or where it fails, both go without the library.
"""

from __future__ import annotations

import contextlib
import importlib.util
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class NativeBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """The hook that pyproject.toml names."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the library in the source tree, and have a wheel hold it."""
        compiling = _compiling(Path(self.root))
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


def _compiling(root: Path) -> Any:
    """The module that compiles, without the package, whose dependencies are not installed yet."""
    path = root / "p3mdata" / "native" / "compiling.py"
    spec = importlib.util.spec_from_file_location("compiling", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
