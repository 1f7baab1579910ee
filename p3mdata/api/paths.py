"""Paths as callers of the API may give them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

PathLike: TypeAlias = str | Path


def path_of(value: PathLike | None) -> Path | None:
    """A path that was given, as the code below takes it."""
    return None if value is None else Path(value)


def with_paths(options: dict[str, Any], *names: str) -> dict[str, Any]:
    """Options in which those of these names, which the code below takes as paths, may be texts."""
    return {name: path_of(value) if name in names else value for name, value in options.items()}
