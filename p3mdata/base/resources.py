"""Where the files that travel with the package are: beside it in a checkout, inside it in an installed wheel."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def _folder(name: str) -> Path:
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def manifests_dir() -> Path:
    """Folder with record schemas, weights.json and dataset layouts."""
    return _folder("manifests")


def pipelines_dir() -> Path:
    """Folder with the YAML recipes that come with the tool."""
    return _folder("pipelines")
