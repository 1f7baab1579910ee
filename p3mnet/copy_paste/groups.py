"""Coarse groups of people, such as an age group, for matched copy-and-paste: from files that stay with who trains.

Neither a run nor a dataset says such things of anybody. A file has a line for each picture it knows, a header first:

    picture,age,gender
    000123,adult,f

`picture` is the name of a dataset's picture, or of a source's facemask or image, with or without folder and ending. A
cell may be empty.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from p3mdata.errors import SettingsError, reason_of

# More values of one column are no coarse groups: ages in years would tell people apart.
MOST_VALUES = 12

Group = tuple[tuple[str, str], ...]


def read_groups(path: Path) -> dict[str, Group]:
    """Groups by name of the picture, as it stands in the file: pairs of column and value, without empty cells.

    Raises:
        SettingsError: The file cannot be read, is no such table, or its groups are not coarse.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            rows = [(number, row) for number, row in enumerate(csv.reader(lines, strict=True), 1) if any(row)]
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise SettingsError(
            f"{path}: cannot be read ({reason_of(exc)}). Give rows 'picture,age,gender' with a header."
        ) from exc
    head = [cell.strip() for cell in rows[0][1]] if rows else []
    if len(head) < 2 or head[0] != "picture" or not all(head) or len(set(head)) < len(head):
        raise SettingsError(f"{path}: its first line must be 'picture' and names of groups, such as 'picture,age'.")
    found: dict[str, Group] = {}
    values: dict[str, set[str]] = {name: set() for name in head[1:]}
    for number, row in rows[1:]:
        cells = [cell.strip() for cell in row]
        if len(cells) != len(head) or not cells[0]:
            raise SettingsError(f"{path}: line {number} has not the columns {', '.join(head)}. Correct it.")
        own = tuple((name, value) for name, value in zip(head[1:], cells[1:], strict=True) if value)
        if found.setdefault(cells[0], own) != own:
            raise SettingsError(f"{path}: line {number} says otherwise of {cells[0]} than a line before. Keep one.")
        for name, value in own:
            values[name].add(value)
    if fine := next((name for name, seen in values.items() if len(seen) > MOST_VALUES), None):
        raise SettingsError(
            f"{path}: '{fine}' has {len(values[fine])} values, at most {MOST_VALUES} are coarse. Write groups such as "
            "child, adult, old."
        )
    return found


def groups_of(path: Path, pictures: Iterable[tuple[str, ...]]) -> list[Group]:
    """Group of each picture, empty where the file does not know it.

    Args:
        path: See `read_groups`.
        pictures: The names that each picture goes by.

    Raises:
        SettingsError: It names none of them, or see `read_groups`.
    """
    listed = {_plain(name): group for name, group in read_groups(path).items()}
    groups: list[Group] = []
    for names in pictures:
        keys = [key for name in names for key in (_plain(name), PurePosixPath(_plain(name)).name)]
        groups.append(next((listed[key] for key in keys if key in listed), ()))
    if not any(groups):
        raise SettingsError(f"{path}: knows no picture here. Write names of pictures, with or without ending.")
    return groups


def _plain(name: str) -> str:
    """A path without its ending; a dot of a name is none."""
    path = PurePosixPath(name)
    return str(path.with_suffix("")) if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp", ".tif") else name
