"""`p3mdata audit`: can a recogniser tell who is on the released images?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from p3mdata.audit.measures import People, Threshold, Vectors, calibrate, chance, false_accepts, rank1, true_accepts
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
    Point,
    View,
    points,
    settings_to_try,
    views,
)
from p3mdata.base.files import sha256, write_atomic
from p3mdata.base.intervals import Rate
from p3mdata.base.jsonl import write_json
from p3mdata.base.progress import Progress
from p3mdata.config import Method
from p3mdata.errors import SettingsError, not_finished, unwritable
from p3mdata.records import ImageResult, Outcome, Sample
from p3mdata.run.identities import AUTO, identify
from p3mdata.run.layout import AUDIT, AUDIT_PLOT, MANIFEST
from p3mdata.run.locks import only_run
from p3mdata.run.plan import read_plan
from p3mdata.run.rows import SCHEMA_VERSION, finished_rows
from p3mdata.typing import Json
from p3mdata.version import __version__

FAR = 1e-3
# Rows that the gate looks at: every attack on the released files. What leaks outside the mask is not theirs.
ATTACKS = ("naive", "adapted", "deconvolved_naive", "deconvolved_adapted")
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


@dataclass(frozen=True)
class AuditRow:
    """One comparison of probes with a gallery.

    Attributes:
        key: Which.
        rank1: How often the nearest photograph shows the right person.
        tar: Pairs of one person accepted by the threshold of the clear faces.
        false_accepts: Share of pairs of different persons that the same threshold accepts.
        own_tar: As `tar`, for faces altered alike, with a threshold that was calibrated on them; else None.
    """

    key: str
    rank1: Rate
    tar: Rate
    false_accepts: float
    own_tar: Rate | None = None

    def to_json(self) -> Json:
        rates = {"rank1": self.rank1.to_json(), "tar": self.tar.to_json()}
        return {"key": self.key, **rates, "false_accepts": self.false_accepts} | (
            {"own_tar": self.own_tar.to_json()} if self.own_tar else {}
        )


@dataclass(frozen=True)
class Audit:
    """Figures of one audit. No name, source or id is in it, so that it may be published.

    Attributes:
        manifest_sha256: Of the run's public manifest: what was audited.
        recogniser: Name and SHA-256 of the model.
        method, strength, area: The run's settings.
        sources: Source files of the run: `photos` and `left_out` add up to it.
        photos, identities: What took part.
        left_out: Number of source files by reason.
        chance: Rank-1 rate of guessing.
        threshold: For TAR, calibrated on clear faces.
        rows: The table, in the order clear, naive, adapted, deconvolved, zero mask.
        sweep: Rank-1 rates by strength.
        max_rank1: The gate, if one was given.
    """

    manifest_sha256: str
    recogniser: tuple[str, str]
    method: Method
    strength: float
    area: str
    sources: int
    photos: int
    identities: int
    left_out: dict[str, int]
    chance: float
    threshold: Threshold
    rows: tuple[AuditRow, ...]
    sweep: tuple[Point, ...]
    max_rank1: float | None = None

    @property
    def worst_rank1(self) -> float:
        """Highest rank-1 rate of an attack on the released files."""
        return max(row.rank1.value for row in self.rows if row.key in ATTACKS)

    @property
    def passed(self) -> bool:
        """Whether the worst attack stays within the gate; True without one."""
        return self.max_rank1 is None or self.worst_rank1 <= self.max_rank1

    def to_json(self) -> Json:
        """What audit.json holds."""
        threshold = {
            "distance": round(self.threshold.distance, 4),
            "far": self.threshold.far,
            "far_wanted": self.threshold.wanted,
            "impostor_pairs": self.threshold.pairs,
            "enough_pairs": self.threshold.enough_pairs,
        }
        return {
            "schema": SCHEMA_VERSION,
            "tool": f"p3mdata {__version__}",
            "manifest_sha256": self.manifest_sha256,
            "recogniser": dict(zip(("name", "sha256"), self.recogniser, strict=True)),
            "settings": {"method": self.method.value, "strength": self.strength, "area": self.area},
            "sources": self.sources,
            "photos": self.photos,
            "identities": self.identities,
            "left_out": dict(sorted(self.left_out.items())),
            "chance": self.chance,
            "threshold": threshold,
            "rows": [row.to_json() for row in self.rows],
            "sweep": [point.to_json() for point in self.sweep],
            "gate": {"max_rank1": self.max_rank1, "worst_rank1": self.worst_rank1, "passed": self.passed},
        }


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
        threshold=threshold,
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
            write_atomic(out / AUDIT_PLOT, draw(audit.to_json()))
            write_json(out / AUDIT, audit.to_json())
    except OSError as exc:
        raise unwritable(out, exc) from exc
