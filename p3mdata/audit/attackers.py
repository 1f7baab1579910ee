"""`p3mdata audit --attackers`: what those get who train on faces obfuscated alike, on the user's own photographs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from p3mdata.audit.field import EMBEDDER_STEPS, RESTORER_STEPS, attacked
from p3mdata.audit.looks import Looks
from p3mdata.audit.measures import People
from p3mdata.audit.people import audited_manifest, look_at_people
from p3mdata.audit.portraits import Portrait
from p3mdata.audit.protocol import LEAST_PEOPLE, folds, guessing
from p3mdata.audit.recogniser import DlibRecogniser, Recogniser
from p3mdata.base.intervals import people_needed
from p3mdata.base.jsonl import write_json
from p3mdata.base.progress import Progress
from p3mdata.errors import SettingsError, unwritable
from p3mdata.run.attackers import Attackers
from p3mdata.run.identities import AUTO
from p3mdata.run.layout import ATTACKERS
from p3mdata.run.locks import only_run
from p3mdata.run.plan import read_plan

# What the run itself did to faces.
_OWN = "released"


def attack_run(
    out: Path,
    identities: str | Path = AUTO,
    groups: Path | None = None,
    max_rank1: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    recogniser: Recogniser | None = None,
    steps: tuple[int, int] = (EMBEDDER_STEPS, RESTORER_STEPS),
) -> Attackers:
    """Attack a finished run with everything that learns from other people's faces; writes RUN/attackers.json.

    Args:
        out: The run folder.
        identities: As for `audit_run`.
        groups: CSV file of rows 'source,group'; rank-1 is told for each group.
        max_rank1: The claim to test, a share in (0, 1).
        seed: Deals people out, and starts networks; equal seeds give equal figures on one machine.
        progress: Gets the number of photographs; gives a function that is called after each.
        recogniser: Another one than dlib's.
        steps: Of the two networks.

    Raises:
        RunFolderError: Not a run, not finished, or it cannot be written.
        SettingsError: Identities, groups or the claim cannot be used, or too few people have two photographs.
        SetupError: The extra is not installed.
    """
    if max_rank1 is not None and not 0 < max_rank1 < 1:
        raise SettingsError(f"--max-rank1 cannot be {max_rank1:g}. Give a share between 0 and 1.")
    left_out: Counter[str] = Counter()
    plan, _ = read_plan(out)
    audited = audited_manifest(out)
    method = plan.job.settings.obfuscation()
    looks = Looks(recogniser or DlibRecogniser())
    kept, people, grouped = gather(
        out,
        identities,
        groups,
        left_out,
        progress,
        lambda portrait: looks.add(portrait, {_OWN: (method, portrait.released)}),
    )
    faces = looks.faces(_OWN, kept, people, grouped)
    parts = folds(faces.people, seed)
    not_run: dict[str, str] = {}
    scores = attacked(faces, parts, seed, recogniser, steps, not_run)
    found = Attackers(
        manifest_sha256=audited,
        method=plan.job.settings.named(),
        photos=len(faces.people),
        people=len(np.unique(faces.people)),
        folds=len(parts),
        seed=seed,
        left_out=dict(left_out),
        not_run=not_run,
        chance=guessing(parts, faces.people),
        scores=scores,
        max_rank1=max_rank1,
    )
    try:
        with only_run(out):
            write_json(out / ATTACKERS, found.to_json())
    except OSError as exc:
        raise unwritable(out, exc) from exc
    return found


def gather(
    out: Path,
    identities: str | Path,
    groups: Path | None,
    left_out: Counter[str],
    progress: Progress | None,
    look: Callable[[Portrait], None],
) -> tuple[Sequence[int], People, tuple[str | None, ...] | None]:
    """`look_at_people` where there are enough for attackers to learn from some and to be tested on others.

    Raises:
        RunFolderError, SettingsError: As for `attack_run`.
    """
    kept, people, grouped = look_at_people(out, identities, groups, left_out, progress, look)
    number = len(np.unique(people))
    if number < LEAST_PEOPLE:
        raise SettingsError(
            f"{out}: attackers learn from some people and are tested on others, and only {number} of the people "
            f"have two released photographs with a usable face; it takes {LEAST_PEOPLE} at least, and "
            f"{people_needed(0.1)} to claim that 10 % are found. Give --identities, or a run with more photographs."
        )
    return kept, people, grouped
