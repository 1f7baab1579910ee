"""`p3mdata audit`: can a recogniser tell who is on the released images?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from p3mdata.audit.measures import People, Vectors, calibrate, chance, false_accepts, rank1, true_accepts
from p3mdata.audit.people import audited_manifest, look_at_people
from p3mdata.audit.portraits import Portrait
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
from p3mdata.base.files import write_atomic
from p3mdata.base.jsonl import write_json
from p3mdata.base.progress import Progress
from p3mdata.config import Method
from p3mdata.errors import SettingsError, unwritable
from p3mdata.run.audit import Audit, AuditRow, Threshold
from p3mdata.run.identities import AUTO
from p3mdata.run.layout import AUDIT, AUDIT_PLOT
from p3mdata.run.locks import only_run
from p3mdata.run.plan import read_plan

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
    plan, _ = read_plan(out)
    audited = audited_manifest(out)
    recogniser = recogniser or DlibRecogniser()
    left_out: Counter[str] = Counter()
    used, tried = plan.job.settings.obfuscation(), settings_to_try(blur, mosaic, others)
    collected: dict[View, list[Vectors]] = defaultdict(list)

    def look(portrait: Portrait) -> None:
        for view, chip in views(portrait, used, tried):
            collected[view].append(recogniser.embed(chip))

    kept, people, _ = look_at_people(out, identities, None, left_out, progress, look)
    number = len(np.unique(people))
    if number < 2:
        raise SettingsError(
            f"{out}: fewer than two people have two released photographs with a usable face, so there is nobody to "
            "confuse. Give --identities, or audit a run with more photographs."
        )
    vectors = {view: np.stack([found[index] for index in kept]) for view, found in collected.items()}
    threshold = calibrate(vectors[CLEAR], people, FAR)
    audit = Audit(
        manifest_sha256=audited,
        recogniser=(recogniser.name, recogniser.sha256),
        method=used[0],
        strength=used[1],
        area=plan.job.settings.area.value,
        sources=plan.samples,
        photos=len(kept),
        identities=number,
        left_out=dict(left_out),
        chance=chance(people),
        threshold=replace(threshold, distance=round(threshold.distance, 4)),
        rows=tuple(_table(vectors, people, threshold)),
        sweep=points(vectors, people, tried),
        max_rank1=max_rank1,
    )
    _write(out, audit)
    return audit


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
