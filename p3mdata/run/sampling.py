"""A stratified random sample of released images, for a person to look for missed faces."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from p3mdata.base.intervals import miss_bound
from p3mdata.base.jsonl import PRIVATE_MODE, read_rows, write_rows
from p3mdata.errors import SettingsError
from p3mdata.records import Action, ImageResult, Outcome
from p3mdata.run.layout import REVIEW, SAMPLE, make_private_folder
from p3mdata.run.locks import finished_run, writing
from p3mdata.run.rows import finished_rows

# Upper ends of the size classes of an image's smallest face, as shares of the long side: detectors miss small faces
# more often.
_SIZES = (0.04, 0.08, 0.16, 0.32)
_MANY = 3


def stratum(row: ImageResult) -> tuple[int, int, bool]:
    """Class of an image: number of faces (3 = or more), size class of its smallest face, all faces with landmarks."""
    long_side = max(row.width or 1, row.height or 1)
    smallest = min((face.width / long_side for face in row.faces), default=0.0)
    size = sum(smallest > end for end in _SIZES)
    return min(len(row.faces), _MANY), size, all(face.landmarks is not None for face in row.faces)


def draw_sample(rows: Iterable[ImageResult], n: int, seed: int = 0) -> list[str]:
    """Ids of `n` released images drawn at random within classes of faces, sorted.

    Every class gets its proportional number, and at least one while there is room (the largest classes first), so
    that rare kinds of pictures are looked at as well. Neither the order of the rows nor other rows of an image's
    class that are not released change the draw.

    Args:
        rows: Results of a run; those that are not released are passed over.
        n: Size of the sample; all released images when there are fewer.
        seed: Another seed, another sample.
    """
    strata: dict[tuple[int, int, bool], list[str]] = defaultdict(list)
    for row in rows:
        # Where faces are shown none can be missed.
        if row.outcome.released and row.outcome is not Outcome.SHOWN_BY_PERMISSION:
            strata[stratum(row)].append(row.id)
    keys = sorted(strata, key=lambda key: (-len(strata[key]), key))
    shares = _allocate([len(strata[key]) for key in keys], n)
    drawn: list[str] = []
    for key, number in zip(keys, shares, strict=True):
        drawn += sorted(strata[key], key=lambda name: _lot(name, seed))[:number]
    return sorted(drawn)


def _lot(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"p3mdata.sample.v1/{seed}/{name}".encode()).digest()


def _allocate(sizes: Sequence[int], n: int) -> list[int]:
    """How many of each class, the largest class first; one each, then always where most are missing."""
    total = sum(sizes)
    n = min(n, total)
    given = [1 if i < n else 0 for i in range(len(sizes))]
    for _ in range(n - sum(given)):
        open_ = [i for i, size in enumerate(sizes) if given[i] < size]
        given[max(open_, key=lambda i: (sizes[i] * n / total - given[i], -i))] += 1
    return given


@dataclass(frozen=True)
class LookedAt:
    """What a person found in a random sample.

    Attributes:
        images: How many were drawn.
        looked_at: Of those, how many a person decided about.
        misses: Of those, how many had a face that was missed: any word but 'fine as it is' counts as one.
    """

    images: int
    looked_at: int
    misses: int

    @property
    def bound(self) -> float | None:
        """Largest share of released images with a missed face that fits this, with 95 % certainty; None if unseen."""
        return miss_bound(self.looked_at, self.misses) if self.looked_at else None


def looked_at(out: Path, rows: Iterable[ImageResult]) -> LookedAt | None:
    """What a person found in a run's random sample; None without one."""
    drawn = {row["id"] for row in read_rows(out / SAMPLE, needs=("id",))}
    said = [row.decision.action for row in rows if row.id in drawn and row.decision is not None]
    said = [action for action in said if action is not Action.SHOW]
    misses = sum(action not in (Action.ACCEPT, Action.NO_FACE) for action in said)
    return LookedAt(len(drawn), len(said), misses) if drawn else None


def sample_run(out: Path, n: int) -> list[str]:
    """Draw a sample of a finished run and write its ids to RUN/review/sample.jsonl, for its owner only.

    Args:
        out: The run folder; an earlier sample is replaced.
        n: Size of the sample; see `draw_sample`. It is drawn by the run's own seed.

    Raises:
        SettingsError: `n` is no number of images, or nothing was released.
        RunFolderError: Not a run, or not finished.
    """
    if n < 1:
        raise SettingsError(f"--sample cannot be {n}. Give the number of images to look at.")
    with writing(out), finished_run(out) as (plan, samples):
        drawn = draw_sample(finished_rows(plan, samples), n, plan.job.settings.seed)
        if not drawn:
            raise SettingsError(f"{out}: nothing was released, so there is nothing to draw a sample from.")
        make_private_folder(out / REVIEW)
        write_rows(out / SAMPLE, ({"id": name} for name in drawn), PRIVATE_MODE)
    return drawn
