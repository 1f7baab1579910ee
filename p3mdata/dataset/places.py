"""Folders that hold what is released: a lone file that is written into one would be published with it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from p3mdata.dataset.about import ABOUT, BUILDING
from p3mdata.errors import SettingsError
from p3mdata.run.layout import PLAN, PRIVATE

# An export's card, and how its last line begins.
CARD, STAMP = "README.md", "<!-- p3mdata export: {} -->"
# While this file is there an export is not whole.
EXPORTING = "exporting.json"
_STAMPED = re.compile(STAMP.format(r"([a-z0-9-]+)"))


def stamps(card: Path) -> list[str]:
    """Forms of the exports whose card a file says that it is.

    Raises:
        OSError, ValueError: It cannot be read, or is no text.
    """
    return _STAMPED.findall(card.read_text(encoding="utf-8"))


def refuse_in_release(out: Path) -> None:
    """Refuse a lone file, or a folder of such, in a run, a dataset or an export, finished or not, wherever links lead.

    Raises:
        SettingsError: It would lie in one.
    """
    place = Path(os.path.realpath(out))
    for folder in (place, *place.parents):
        if kind := _kind(folder):
            raise SettingsError(
                f"{out}: lies in the {kind} {folder}, which holds what is released and nothing else. "
                "Choose another place."
            )


def _kind(folder: Path) -> str | None:
    if (folder / PLAN).is_file() and (folder / PRIVATE).is_dir():
        return "run"
    if (folder / ABOUT).is_file() or (folder / BUILDING).is_file():
        return "dataset"
    if (folder / EXPORTING).is_file():
        return "export"
    try:
        return "export" if stamps(folder / CARD) else None
    except (OSError, ValueError):
        return None
