"""Facemasks of a whole folder: chunks over processes, resumable; then the lists, the pairs and the contact sheet.

OUT/facemask/{id}.png       8-bit, 255 = face
OUT/facemasks.jsonl         id, facemask, sha256, width, height, share of the picture, rule
OUT/refused.jsonl           id, reason, sentence
OUT/pairs.jsonl             image (relative to SRC) and facemask (relative to OUT), where the image is there
OUT/contact_sheet.jpg       shows clear faces: keep it private
OUT/.gitignore              has git pass over that and over private/
OUT/settings.json           what these facemasks were made from
OUT/private/chunks/*.jsonl  rows of finished chunks
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from p3mdata.base.files import GIT_IGNORE, is_torn, keep_out_of_git, overlap, sha256, sweep, write_atomic
from p3mdata.base.jsonl import PRIVATE_MODE, read_json, write_json, write_rows
from p3mdata.base.processes import default_workers
from p3mdata.base.progress import Progress, silent
from p3mdata.celebamask.annotations import Annotations
from p3mdata.celebamask.chunks import (
    BUG,
    CHUNKS,
    FacemaskRow,
    RefusedRow,
    Source,
    is_done,
    read_chunk,
    run_here,
    run_pool,
)
from p3mdata.celebamask.geometry import FaceRule
from p3mdata.celebamask.portraits import Portraits
from p3mdata.celebamask.sheet import CELLS, Cell, contact_sheet
from p3mdata.errors import EXIT_BUG, EXIT_HELD_BACK, EXIT_OK, Interrupted, RunFolderError, SettingsError, unwritable
from p3mdata.faces import weights
from p3mdata.run.compare import differing_settings, to_go_on
from p3mdata.run.locks import only_run
from p3mdata.run.planned import Maker
from p3mdata.typing import Json
from p3mdata.version import __version__

FACEMASKS, REFUSED, PAIRS = "facemasks.jsonl", "refused.jsonl", "pairs.jsonl"
SHEET, SETTINGS = "contact_sheet.jpg", "settings.json"
_Row = TypeVar("_Row", FacemaskRow, RefusedRow)


@dataclass(frozen=True)
class FacemaskRun:
    """What a call came to; facemasks and refusals add up to `images`.

    Attributes:
        out: The folder of the facemasks.
        images: How many were looked at.
        pairs: How many facemasks have their image in SRC.
        rules: Facemasks by rule.
        refused: Refusals by reason.
        seconds: Of this call.
    """

    out: Path
    images: int
    pairs: int
    rules: dict[str, int]
    refused: dict[str, int]
    seconds: float

    @property
    def facemasks(self) -> int:
        """How many were made."""
        return sum(self.rules.values())

    @property
    def exit_code(self) -> int:
        """0; 3 when there is no facemask at all; 1 when a bug was met. Refused images are in the list, not here."""
        if self.refused.get(BUG):
            return EXIT_BUG
        return EXIT_OK if self.facemasks else EXIT_HELD_BACK

    def to_json(self) -> Json:
        return {
            "out": str(self.out),
            "images": self.images,
            "facemasks": self.facemasks,
            "pairs": self.pairs,
            "rules": self.rules,
            "refused": self.refused,
            "seconds": round(self.seconds, 2),
        }


def make_facemasks(
    source: Path,
    out: Path,
    workers: int = 0,
    limit: int | None = None,
    from_landmarks: bool = False,
    progress: Progress | None = None,
) -> FacemaskRun:
    """Make the facemasks of a folder, or go on with them: images and facemasks are P3M-CP's source data.

    The bytes in `out` are the same for any number of workers and after any interruption.

    Args:
        source: CelebAMask-HQ's folder, or with `from_landmarks` any folder of portraits.
        out: Where to; new, empty, or of an earlier call with the same source and settings.
        workers: Processes; 0 = as many as cores and memory allow, 1 = this process alone.
        limit: Only the first images.
        from_landmarks: Private areas from landmarks, at the size of each photograph as displayed; else from
            annotations, at their size (512x512; P3M-CP resizes them to its images).
        progress: Gets the number of images; gives a function that is called now and then. `count_done` tells how far.

    Raises:
        SettingsError, RunFolderError: The folders cannot be used, or `out` is of another source or other settings.
        SetupError: Workers die, or models cannot be loaded.
        Interrupted: Stopped by Ctrl-C; the same call goes on.
    """
    started = time.monotonic()
    _check_folders(source, out)
    images: Source = Portraits(source) if from_landmarks else Annotations(source)
    names = images.names()[:limit]
    try:
        with only_run(out, begins=True):
            _freeze_settings(images, names, limit, out)
            sweep(out)
            size = images.chunk
            chunks = [(i, names[i * size : (i + 1) * size]) for i in range(-(-len(names) // size))]
            todo = [chunk for chunk in chunks if not is_done(out, chunk)]
            show = (progress or silent)(len(names))
            if workers == 1:
                run_here(images, out, todo, show)
            elif todo:
                run_pool(images, out, todo, min(workers or default_workers(), len(todo)), show)
            show()
            return _close(images, out, len(chunks), started)
    except KeyboardInterrupt:
        raise Interrupted("stopped") from None
    except OSError as exc:
        raise unwritable(out, exc) from exc


def count_done(out: Path) -> int:
    """Images of finished chunks, read from the folder."""
    return sum(path.read_bytes().count(b"\n") for path in (out / CHUNKS).glob("*.jsonl"))


def _check_folders(source: Path, out: Path) -> None:
    if not source.is_dir():
        raise SettingsError(f"{source}: is not a folder. Check the path.")
    if overlap(source, out):
        raise SettingsError(f"{out}: OUT and SRC must not lie inside each other. Choose another OUT.")
    if out.is_dir():
        # A call that was killed before it wrote its settings leaves these.
        ours = ("private", GIT_IGNORE)
        others = (path for path in out.iterdir() if path.name not in ours and not is_torn(path.name))
        if not (out / SETTINGS).is_file() and any(others):
            raise RunFolderError(f"{out}: is not empty and not a folder of facemasks. Choose an empty or new folder.")
    elif os.path.lexists(out):
        raise RunFolderError(f"{out}: is a file. Choose a folder.")


def _freeze_settings(images: Source, names: Sequence[str], limit: int | None, out: Path) -> None:
    maker = Maker(
        f"p3mdata {__version__}",
        {"source": str(images.root.resolve()), "from": images.kind, "limit": limit, "images": len(names)},
        weights.hashes() if isinstance(images, Portraits) else {},
    )
    digest = sha256("\n".join(names).encode("utf-8", "surrogateescape"))
    path = out / SETTINGS
    if not path.exists():
        write_json(path, {**maker.to_json(), "names_sha256": digest})
        return
    old = read_json(path)
    if not str(old.get("tool", "")).startswith("p3mdata ") or not isinstance(old.get("settings"), dict):
        raise RunFolderError(f"{out}: its {SETTINGS} is not of p3mdata. Choose an empty or new folder.")
    before = Maker.from_json(old)
    different = differing_settings(before, maker)
    if not different and old.get("names_sha256") != digest:
        different = ["the names of the files"]
    if different:
        raise RunFolderError(
            f"{out}: holds facemasks made with other settings or files: {'; '.join(different)}. "
            f"Use another OUT, or {to_go_on(before, maker)}."
        )


def _close(images: Source, out: Path, chunks: int, started: float) -> FacemaskRun:
    """Write lists, pairs and contact sheet from the chunks' rows."""

    def rows(wanted: type[_Row]) -> Iterator[_Row]:
        return (row for index in range(chunks) for row in read_chunk(out, index) if isinstance(row, wanted))

    def has_image(row: FacemaskRow) -> bool:
        return (images.root / images.image(row.id)).is_file()

    pairs = 0

    def pair(row: FacemaskRow) -> dict[str, str]:
        nonlocal pairs
        pairs += 1
        return {"image": images.image(row.id), "facemask": row.facemask}

    write_rows(out / FACEMASKS, map(vars, rows(FacemaskRow)))
    write_rows(out / REFUSED, map(vars, rows(RefusedRow)))
    write_rows(out / PAIRS, (pair(row) for row in rows(FacemaskRow) if has_image(row)))
    rules = Counter(row.rule for row in rows(FacemaskRow))
    refused = Counter(row.reason for row in rows(RefusedRow))
    # Of each rule as many as of the others, spread over the folder: the rare rules are the ones to look at.
    each = CELLS // max(len(rules), 1)
    cells: dict[str, list[Cell]] = {rule.value: [] for rule in FaceRule}
    seen: Counter[str] = Counter()
    for row in rows(FacemaskRow):
        rule, place = row.rule, seen[row.rule]
        seen[rule] += 1
        if place * each // rules[rule] != (place - 1) * each // rules[rule]:
            photo = images.root / images.image(row.id) if has_image(row) else None
            cells[rule].append(Cell(photo, out / row.facemask, row.id, rule))
    keep_out_of_git(out, SHEET, "private/")
    write_atomic(out / SHEET, contact_sheet([cell for group in cells.values() for cell in group]), PRIVATE_MODE)
    seconds = time.monotonic() - started
    total = sum(rules.values()) + sum(refused.values())
    return FacemaskRun(out, total, pairs, dict(sorted(rules.items())), dict(sorted(refused.items())), seconds)
