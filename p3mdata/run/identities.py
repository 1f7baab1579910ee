"""Who is on which source file: by folder names, `name__` prefixes or a CSV file. Private, nothing is published."""

from __future__ import annotations

import csv
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from p3mdata.errors import SettingsError

AUTO, FOLDER, PREFIX = "auto", "folder", "prefix"
_SEPARATOR = "__"
_HEADER = ["source", "identity"]


def from_folder(source: str) -> str | None:
    """Name of the folder a photograph lies in; None directly in the source folder."""
    return PurePosixPath(source).parent.name or None


def from_prefix(source: str) -> str | None:
    """What stands before the first `__` of the file name; None without one."""
    name, separator, _ = PurePosixPath(source).name.partition(_SEPARATOR)
    return name if separator and name else None


# By how people are told apart, the readings that `auto` tries; of equals the first.
_READ = {PREFIX: from_prefix, FOLDER: from_folder}


def read_csv(path: Path) -> dict[str, str]:
    """Identities by source from rows `source,identity`; the header may be there or not.

    Raises:
        SettingsError: The file cannot be read, or a row is not a pair, or gives a source to two persons.
    """
    found: dict[str, str] = {}
    for number, row in _csv_rows(path):
        if number == 1 and [cell.strip().lower() for cell in row] == _HEADER:
            continue
        if len(row) != 2 or not all(cell.strip() for cell in row):
            raise SettingsError(f"{path}: line {number} is not 'source,identity'. Correct it.")
        source, identity = row[0].strip(), row[1].strip()
        if found.setdefault(source, identity) != identity:
            raise SettingsError(f"{path}: line {number} gives a photo that had a person already to another. Keep one.")
    return found


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not empty, with the number of their line."""
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
            reader = csv.reader(lines, strict=True)
            yield from ((reader.line_num, row) for row in reader if row)
    except OSError as exc:
        raise SettingsError(f"{path}: cannot be read ({exc.strerror}). Check the path given as --identities.") from exc
    except csv.Error as exc:
        raise SettingsError(f"{path}: is not a CSV file ({exc}). Write rows 'source,identity'.") from exc


def _key(source: str, listed: Mapping[str, str]) -> str | None:
    """How a list names a source: as it is, with './' before it, or with other accents; None when it does not."""
    other = () if source.isascii() else (unicodedata.normalize("NFC", source), unicodedata.normalize("NFD", source))
    spelt = (f"{lead}{name}" for name in (source, *other) for lead in ("", "./"))
    return next((name for name in spelt if name in listed), None)


def _guess(sources: Sequence[str]) -> str:
    """Prefix or folder: the one by which more persons have two photos or more; prefix where both tell alike.

    Raises:
        SettingsError: Neither tells anything.
    """
    told = {how: Counter(filter(None, map(read, sources))) for how, read in _READ.items()}
    persons = {how: sum(number > 1 for number in people.values()) for how, people in told.items()}
    if not any(map(bool, told.values())):
        raise SettingsError(
            f"--identities auto: tried names like person{_SEPARATOR}photo.jpg and folders of persons; of "
            f"{len(sources)} photos none has either. Give --identities FILE.csv with 'source,identity'."
        )
    if sources and all(map(from_prefix, sources)):
        return PREFIX
    return max(_READ, key=lambda how: (persons[how], len(told[how]) > 0))


def identify(sources: Sequence[str], how: str | Path = AUTO, known: Iterable[str] | None = None) -> dict[str, str]:
    """The person on each source file, as far as known.

    Args:
        sources: POSIX paths relative to the source folder.
        how: 'folder' (name of the photo's folder), 'prefix' (`name__` before the file name), 'auto' (prefix if every
            file name has one, else whichever tells more persons of two photos and more), or the path of a CSV file.
        known: All sources of the run: a row of the CSV file that names none of them is an error.

    Returns:
        Identity by source; sources of unknown persons are not in it.

    Raises:
        SettingsError: The CSV file cannot be used, or no source has a person.
    """
    if how == AUTO:
        how = _guess(sources)
    if how in (FOLDER, PREFIX):
        read = _READ[how]
        found = {source: identity for source in sources if (identity := read(source))}
        if not found:
            what = "lies in a folder of a person" if how == FOLDER else f"has a name like person{_SEPARATOR}photo.jpg"
            raise SettingsError(
                f"--identities {how}: no photo {what}. Give --identities FILE.csv with 'source,identity'."
            )
        return found
    listed = read_csv(Path(how))
    keys = {source: key for source in sources if (key := _key(source, listed)) is not None}
    found = {source: listed[key] for source, key in keys.items()}
    if known is not None:
        lost = listed.keys() - keys.values()
        for source in known:
            lost.discard(_key(source, listed) or "")
            if not lost:
                break
        if lost:
            more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
            raise SettingsError(
                f"{how}: '{min(lost)}'{more} is no photo of this run, so one person could end up in several sets. "
                "Write paths as they are below the source folder, or remove the rows."
            )
    if not found:
        raise SettingsError(f"{how}: names no photo of this run. Write paths as they are below the source folder.")
    return found
