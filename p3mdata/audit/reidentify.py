"""`p3mdata audit`: can a recogniser tell who is on the released images?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from p3mdata.audit.measures import People, Vectors, calibrate, chance, false_accepts, rank1, true_accepts
from p3mdata.audit.portraits import LeftOut, read_portrait
from p3mdata.audit.recogniser import DlibRecogniser, Recogniser
from p3mdata.audit.sweep import (
    BLUR_STRENGTHS,
    CLEAR,
    DECONVOLVED,
    MOSAIC_STRENGTHS,
    OTHERS,
    RELEASED,
    ZERO,
    View,
    points,
    settings_to_try,
    views,
)
from p3mdata.base.files import sha256, write_atomic
from p3mdata.base.jsonl import write_json
from p3mdata.base.progress import Progress
from p3mdata.config import Method
from p3mdata.errors import SettingsError, not_finished, unwritable
from p3mdata.records import ImageResult, Outcome, Sample
from p3mdata.run.audit import Audit, AuditRow, Threshold
from p3mdata.run.identities import AUTO, identify
from p3mdata.run.layout import AUDIT, AUDIT_PLOT, MANIFEST
from p3mdata.run.locks import only_run
from p3mdata.run.plan import read_plan
from p3mdata.run.rows import finished_rows

FAR = 1e-3
_COMPARED: tuple[tuple[str, View, View], ...] = (
    ("clear", CLEAR, CLEAR),
    ("naive", RELEASED, CLEAR),
    ("adapted", RELEASED, RELEASED),
    ("deconvolved_naive", DECONVOLVED, CLEAR),
    ("deconvolved_adapted", DECONVOLVED, DECONVOLVED),
    ("zero_naive", ZERO, CLEAR),
    ("zero_adapted", ZERO, ZERO),
)
# A tuple that ends with the person on the photograph.
_Photo = TypeVar("_Photo", bound=tuple[Any, ...])
_RELEASED_WITH_FACES = (Outcome.ANONYMIZED, Outcome.MASKED_BY_HAND)


def audit_run(
    out: Path,
    identities: str | Path = AUTO,
    blur: Sequence[float] = BLUR_STRENGTHS,
    mosaic: Sequence[float] = MOSAIC_STRENGTHS,
    others: Sequence[tuple[Method, float]] = OTHERS,
    max_rank1: float | None = None,
    progress: Progress | None = None,
    recogniser: Recogniser | None = None,
) -> Audit:
    """Try to re-identify the people of a finished run; writes RUN/audit.json and RUN/audit.png.

    Faces are aligned by the landmarks of the clear source, before and after: an attacker who has to find them on the
    anonymized face does worse.

    Args:
        out: The run folder.
        identities: 'auto', 'folder', 'prefix' or the path of a CSV file; see `identities.identify`.
        blur, mosaic: Strengths of the sweep, as shares of each face's width.
        others: Methods and strengths to try beside them.
        max_rank1: Gate in [0, 1] for the worst rank-1 rate of naive, adapted and deconvolved.
        progress: Gets the number of photographs; gives a function that is called after each.
        recogniser: Another one than dlib's.

    Raises:
        RunFolderError: Not a run, not finished, or it cannot be written.
        SettingsError: The identities or the gate cannot be used, or too few people have two photographs.
        SetupError: The extra is not installed.
    """
    if max_rank1 is not None and not 0 <= max_rank1 <= 1:
        raise SettingsError(f"--max-rank1 cannot be {max_rank1:g}. Give a share from 0 to 1.")
    plan, samples = read_plan(out)
    audited = audited_manifest(out)
    rows = finished_rows(plan, samples)
    known = identify([sample.source for sample in samples], identities)
    recogniser = recogniser or DlibRecogniser()
    left_out: Counter[str] = Counter()
    chosen = without_singles(usable_photos(samples, rows, known, left_out), left_out)
    used, tried = plan.job.settings.obfuscation(), settings_to_try(blur, mosaic, others)
    step = progress(len(chosen)) if progress else (lambda: None)
    collected: dict[View, list[np.ndarray]] = defaultdict(list)
    seen: list[tuple[int, str]] = []
    for sample, row, identity in chosen:
        try:
            portrait = read_portrait(plan, sample, row)
        except LeftOut as exc:
            left_out[str(exc)] += 1
        else:
            seen.append((len(seen), identity))
            for view, chip in views(portrait, used, tried):
                collected[view].append(recogniser.embed(chip))
        step()
    kept = without_singles(seen, left_out)
    names = sorted({identity for _, identity in kept})
    if len(names) < 2:
        raise SettingsError(
            f"{out}: fewer than two people have two released photographs with a usable face, so there is nobody to "
            "confuse. Give --identities, or audit a run with more photographs."
        )
    people = np.array([names.index(identity) for _, identity in kept])
    vectors = {view: np.stack([found[index] for index, _ in kept]) for view, found in collected.items()}
    threshold = calibrate(vectors[CLEAR], people, FAR)
    audit = Audit(
        manifest_sha256=audited,
        recogniser=(recogniser.name, recogniser.sha256),
        method=used[0],
        strength=used[1],
        area=plan.job.settings.area.value,
        sources=plan.samples,
        photos=len(kept),
        identities=len(names),
        left_out=dict(left_out),
        chance=chance(people),
        threshold=replace(threshold, distance=round(threshold.distance, 4)),
        rows=tuple(_table(vectors, people, threshold)),
        sweep=points(vectors, people, tried),
        max_rank1=max_rank1,
    )
    _write(out, audit)
    return audit


def usable_photos(
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


def without_singles(photos: Iterable[_Photo], left_out: Counter[str]) -> list[_Photo]:
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


def _table(vectors: Mapping[View, Vectors], people: People, threshold: Threshold) -> Iterator[AuditRow]:
    for key, probes, gallery in _COMPARED:
        if probes in vectors:
            pair = vectors[probes], vectors[gallery], people
            own = calibrate(pair[0], people, FAR) if probes == gallery != CLEAR else None
            own_tar = true_accepts(*pair, own) if own else None
            yield AuditRow(key, rank1(*pair), true_accepts(*pair, threshold), false_accepts(*pair, threshold), own_tar)


def _write(out: Path, audit: Audit) -> None:
    from p3mdata.audit.plot import draw

    try:
        with only_run(out):
            write_atomic(out / AUDIT_PLOT, draw(audit))
            write_json(out / AUDIT, audit.to_json())
    except OSError as exc:
        raise unwritable(out, exc) from exc
