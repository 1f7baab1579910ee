"""Whose photographs of a run take part in an audit, and a look at each of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from p3mdata.audit.measures import People
from p3mdata.audit.portraits import LeftOut, Portrait, read_portrait
from p3mdata.base.files import sha256
from p3mdata.base.progress import Progress, silent
from p3mdata.errors import not_finished
from p3mdata.records import ImageResult, Outcome, Sample
from p3mdata.run.identities import identify
from p3mdata.run.layout import MANIFEST
from p3mdata.run.plan import read_plan
from p3mdata.run.rows import finished_rows

# A tuple that ends with the person on the photograph.
_Photo = TypeVar("_Photo", bound=tuple[Any, ...])
_RELEASED_WITH_FACES = (Outcome.ANONYMIZED, Outcome.MASKED_BY_HAND)


def look_at_people(
    out: Path,
    identities: str | Path,
    groups: Path | None,
    left_out: Counter[str],
    progress: Progress | None,
    look: Callable[[Portrait], None],
) -> tuple[Sequence[int], People, tuple[str | None, ...] | None]:
    """Look at the portraits of a run, one after the other.

    Args:
        out: The run folder.
        identities: 'auto', 'folder', 'prefix' or the path of a CSV file; see `identities.identify`.
        groups: CSV file of rows 'source,group', or None.
        left_out: Is told how many photographs take no part, by reason.
        progress: Gets the number of photographs; gives a function that is called after each.
        look: Called with each portrait.

    Returns:
        Which of those looked at are of people who have two or more, in their order; these people's numbers, from 0;
        and their groups, None where the file does not tell, or there is none.

    Raises:
        RunFolderError: Not a run, or not finished.
        SettingsError: Identities or groups cannot be used.
    """
    plan, samples = read_plan(out)
    audited_manifest(out)
    rows = finished_rows(plan, samples)
    sources = [sample.source for sample in samples]
    known = identify(sources, identities)
    group_of = None if groups is None else identify(sources, groups)
    chosen = _without_singles(_usable(samples, rows, known, left_out), left_out)
    step = (progress or silent)(len(chosen))
    read: list[tuple[int, str, str]] = []
    for sample, row, identity in chosen:
        try:
            look(read_portrait(plan, sample, row))
        except LeftOut as exc:
            left_out[str(exc)] += 1
        else:
            read.append((len(read), sample.source, identity))
        step()
    kept = _without_singles(read, left_out)
    names = sorted({identity for *_, identity in kept})
    people = np.array([names.index(identity) for *_, identity in kept], np.int64)
    grouped = None if group_of is None else tuple(group_of.get(source) for _, source, _ in kept)
    return [index for index, *_ in kept], people, grouped


def _usable(
    samples: Sequence[Sample], rows: Sequence[ImageResult], known: Mapping[str, str], left_out: Counter[str]
) -> Iterator[tuple[Sample, ImageResult, str]]:
    """Photographs that may take part; the others are counted."""
    contents = set()
    for sample, row in zip(samples, rows, strict=True):
        identity = known.get(sample.source)
        if row.outcome is Outcome.SHOWN_BY_PERMISSION:
            left_out["shown by permission"] += 1
        elif row.outcome not in _RELEASED_WITH_FACES:
            left_out["not released" if not row.outcome.released else "no face"] += 1
        elif identity is None:
            left_out["unknown person"] += 1
        elif sample.sha256 in contents:
            # Otherwise a photograph would be found by its own copy.
            left_out["copy of another photo"] += 1
        else:
            contents.add(sample.sha256)
            yield sample, row, identity


def _without_singles(photos: Iterable[_Photo], left_out: Counter[str]) -> list[_Photo]:
    """Photographs of people who have at least two."""
    listed = list(photos)
    counts = Counter(photo[-1] for photo in listed)
    kept = [photo for photo in listed if counts[photo[-1]] > 1]
    if len(kept) < len(listed):
        left_out["only photo of its person"] += len(listed) - len(kept)
    return kept


def audited_manifest(out: Path) -> str:
    """Hex SHA-256 of a run's manifest; taken before anything is looked at, since a review may change it meanwhile.

    Raises:
        RunFolderError: The run is not finished.
    """
    if not (out / MANIFEST).is_file():
        raise not_finished(out)
    return sha256((out / MANIFEST).read_bytes())
