"""The page of copies and of what the rules rejected: one HTML file without scripts or network that shows no clear face.

A plain folder holds clear photographs: each is drawn as a mosaic of few cells. Released images of a run are drawn as
they are, if they are still the files that were released.
"""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from p3mdata.base.files import sha256, write_alone
from p3mdata.base.html import Code, Picture, count, picture, render
from p3mdata.base.jsonl import PRIVATE_MODE, read_rows
from p3mdata.config import MAX_PIXELS
from p3mdata.curation.rules import Entry, Remark
from p3mdata.errors import BrokenInput
from p3mdata.imaging import decode, exif_orientation, orient
from p3mdata.imaging.draw import fit, thumbnail
from p3mdata.imaging.listing import regular_file
from p3mdata.run.layout import MANIFEST
from p3mdata.version import __version__

if TYPE_CHECKING:
    from p3mdata.curation.results import Duplicates, Member

# Cells on the long side: composition and colours can be compared, while a face that fills half of the picture has
# eight cells, hardly more than the tool's own mosaic gives a face.
CELLS = 16
MOST_CLUSTERS = 200
MOST_MEMBERS = 8
_MOST_ROWS = 200
_RELEASED_SIDE = 240


def _small(data: bytes) -> NDArray[np.uint8]:
    """HxWx3 sRGB in displayed orientation, at most some hundred pixels wide; of a JPEG decoded at that size."""
    with contextlib.suppress(Exception), Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        if image.mode in ("L", "RGB") and image.width * image.height <= MAX_PIXELS:
            image.draft("RGB", (8 * CELLS, 8 * CELLS))
            return orient(np.asarray(image.convert("RGB")), exif_orientation(image))
    return fit(decode(data), 8 * CELLS, 8 * CELLS)


def mosaic(data: bytes) -> bytes:
    """PNG of a picture with CELLS pixels on its long side: the viewer enlarges them, so nothing else is in the page.

    Raises:
        BrokenInput: The bytes are not a usable picture.
    """
    small = _small(data)
    factor = CELLS / max(small.shape[:2])
    height, width = (max(1, round(side * factor)) for side in small.shape[:2])
    cells = cv2.resize(small, (width, height), interpolation=cv2.INTER_AREA)
    sink = io.BytesIO()
    Image.fromarray(np.asarray(cells, np.uint8)).save(sink, "PNG", optimize=True)
    return sink.getvalue()


@dataclass(frozen=True)
class _Card:
    """A file on the page: how it is drawn, or why it is not."""

    path: str
    kind: str
    facts: str
    picture: Picture | None
    problem: str = ""


@dataclass(frozen=True)
class _Cluster:
    files: int
    cards: Sequence[_Card]
    more: int


@dataclass(frozen=True)
class _Listed:
    """Files by reason: (reason, how many, rows), the most frequent first."""

    title: str
    about: str
    groups: Sequence[tuple[str, str, Sequence[tuple[Code, str]]]]


def _drawn(folder: Path, member: Member, released: frozenset[str]) -> tuple[Picture | None, str]:
    try:
        data = regular_file(folder / member.path).read_bytes()
        size = member.width, member.height
        if sha256(data) in released:
            return picture(thumbnail(decode(data), None, _RELEASED_SIDE)[0], "image/jpeg", "", *size), ""
        return picture(mosaic(data), "image/png", "", *size, "cells"), ""
    except OSError as exc:
        return None, f"The file cannot be read ({exc.strerror})."
    except BrokenInput as exc:
        return None, f"The file {exc.sentence}"


_KINDS = {"best": "largest", "exact": "same file", "near": "near copy"}


def _card(folder: Path, member: Member, released: frozenset[str]) -> _Card:
    facts = f"{member.width} x {member.height} px"
    if member.kind == "near":
        facts += f", distance {member.distance:.3f}"
    return _Card(str(member.path), member.kind, facts, *_drawn(folder, member, released))


def _cluster(folder: Path, members: Sequence[Member], released: frozenset[str]) -> _Cluster:
    shown = members[:MOST_MEMBERS]
    return _Cluster(len(members), [_card(folder, one, released) for one in shown], len(members) - len(shown))


def _released_hashes(run: Path | None) -> frozenset[str]:
    rows = read_rows(run / MANIFEST, needs=("image",)) if run else ()
    return frozenset(row["image"]["sha256"] for row in rows)


def _listed(title: str, about: str, remarks: Iterable[tuple[str, Remark]]) -> _Listed:
    groups: dict[str, list[tuple[str, str]]] = {}
    for name, remark in remarks:
        groups.setdefault(remark.code, []).append((name, remark.sentence))
    found = []
    for code, number in Counter({code: len(rows) for code, rows in groups.items()}).most_common():
        shown, said = groups[code][:_MOST_ROWS], count(number, "file")
        said = said if len(shown) == number else f"the first {len(shown):,} of {said}"
        found.append((code, said, [(Code(name), sentence) for name, sentence in shown]))
    return _Listed(title, about, found)


def _tables(found: Duplicates, entries: Sequence[Entry] | None) -> list[_Listed]:
    if entries is None:
        unreadable = ((name, Remark("unreadable", sentence)) for name, sentence in found.unreadable)
        return [_listed("Files that could not be looked at", "They are in no cluster.", unreadable)]
    rejected = ((entry.source, entry.rejected) for entry in entries if entry.rejected is not None)
    warned = ((entry.source, one) for entry in entries if entry.rejected is None for one in entry.warnings)
    return [
        _listed("Rejected", "Each file has one reason, the first that applies.", rejected),
        _listed("Kept with a warning", "Blur and light are measured, not judged: look at these.", warned),
    ]


def _headline(found: Duplicates, entries: Sequence[Entry] | None) -> str:
    files = count(found.files, "file")
    if entries is not None:
        kept = sum(entry.rejected is None for entry in entries)
        return f"{files}: {kept:,} kept, {len(entries) - kept:,} rejected."
    number = len(found.clusters)
    more = sum(len(members) - 1 for members in found.clusters)
    if not number:
        return f"{files}: no copies found."
    what = "1 photograph is" if number == 1 else f"{number:,} photographs are"
    return f"{files}: {what} there more than once; {count(more, 'file')} could go."


def write_page(found: Duplicates, path: Path, entries: Sequence[Entry] | None = None) -> None:
    """Write the page.

    Args:
        found: The clusters; their pictures are read again, one at a time.
        path: The HTML file to write.
        entries: What the rules decided, if they were asked.

    Raises:
        OSError: The page cannot be written.
    """
    released = _released_hashes(found.run)
    shown = found.clusters[:MOST_CLUSTERS]
    total = len(found.clusters)
    note = "No copies were found."
    if total:
        note = f"Showing all {total:,}." if len(shown) == total else f"Showing the first {len(shown):,} of {total:,}."
        note += " The largest file of each comes first."
    privacy = (
        "The pictures are the run's released files."
        if found.run
        else f"Every picture is shown as a mosaic of {CELLS} cells on its long side, since it may hold a clear face."
    )
    page = render(
        "duplicates.html",
        title="p3mdata duplicates" if entries is None else "p3mdata curate",
        headline=_headline(found, entries),
        privacy=privacy,
        tables=_tables(found, entries),
        first=entries is not None,
        note=note,
        clusters=(_cluster(found.folder, members, released) for members in shown),
        kinds=_KINDS,
        version=__version__,
    )
    # Names of photographs are on it, but for those of a run.
    write_alone(path, page.encode("utf-8"), 0o644 if found.run else PRIVATE_MODE)
