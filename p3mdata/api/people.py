"""Verbs about a finished run and people: decisions, take-down, audits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from p3mdata.api.paths import PathLike, path_of

if TYPE_CHECKING:
    from p3mdata.audit.advice import Advice
    from p3mdata.audit.recall import Recall
    from p3mdata.review.removal import Removal
    from p3mdata.run.attackers import Attackers
    from p3mdata.run.audit import Audit
    from p3mdata.run.close import RunSummary


def apply_decisions(
    run: PathLike, decisions: PathLike, *, masks: PathLike | None = None, reviewer: str | None = None, workers: int = 0
) -> RunSummary:
    """Carry out a person's decisions about images of a finished run, as `p3mdata review RUN --apply` does.

    Args:
        run: Its folder.
        decisions: JSON lines (docs/review.md); all are checked before the first is carried out.
        masks: Folder with the masks that they name: white = obfuscate.
        reviewer: Who decided; kept with each decision.
        workers: Processes; 0 takes as many as cores and memory allow.

    Returns:
        Counts of the run now.

    Raises:
        p3mdata.errors.P3MError: A line cannot be carried out; nothing was changed.
    """
    from p3mdata.review.batch import apply_file

    return apply_file(Path(run), Path(decisions), path_of(masks), reviewer, workers)


def remove_images(run: PathLike, names: Sequence[str]) -> Removal:
    """Withdraw images from a finished run, leaving tombstones without personal data.

    Args:
        run: Its folder.
        names: Ids, or paths of sources below SRC; copies of the same photograph go too.

    Raises:
        p3mdata.errors.P3MError: A name is unknown; nothing was changed.
    """
    from p3mdata.review.removal import remove_images as remove

    return remove(Path(run), names)


def audit_run(run: PathLike, identities: str = "auto", *, max_rank1: float | None = None) -> Audit:
    """Try to re-identify the people of a finished run; writes audit.json, audit.png and a part of the report.

    Args:
        run: Its folder; needs the extra `audit`.
        identities: Who is on which photograph: "auto", "prefix", "folder", or a CSV file of source and identity.
        max_rank1: Largest share in [0, 1] of faces that the worst attack may name; more fails the audit.

    Raises:
        p3mdata.errors.P3MError: Too few persons are known, or a library is missing.
    """
    from p3mdata.audit.reidentify import audit_run as audit
    from p3mdata.run.close import renew_report

    found = audit(Path(run), identities, max_rank1=max_rank1)
    renew_report(Path(run))
    return found


def audit_attackers(
    run: PathLike,
    identities: str = "auto",
    *,
    groups: PathLike | None = None,
    max_rank1: float | None = None,
    seed: int = 0,
) -> Attackers:
    """Let attackers who learn from faces obfuscated alike at a finished run; writes attackers.json.

    Args:
        run: Its folder; needs the extra `audit`, and `train` for attackers with networks.
        identities: As for `audit_run`.
        groups: CSV file of source and group, told apart.
        max_rank1: The claim to test, a share in (0, 1).
        seed: Deals people out.

    Raises:
        p3mdata.errors.P3MError: Too few persons are known, or a library is missing.
    """
    from p3mdata.audit.attackers import attack_run
    from p3mdata.run.close import renew_report

    found = attack_run(Path(run), identities, path_of(groups), max_rank1, seed)
    renew_report(Path(run))
    return found


def audit_recall(run: PathLike, *, sample: int | None = None, seed: int = 0, workers: int = 0) -> Recall:
    """Look a second time, slowly, for faces that a finished run left bare, and hold their pictures back again.

    Args:
        run: Its folder; the photographs must still be where they were.
        sample: How many released pictures, drawn at random; None looks at all.
        seed: Another seed, another sample.
        workers: Processes; 0 takes as many as cores and memory allow.

    Returns:
        Figures as in recall.json, what was held back, and what waits for a person.

    Raises:
        p3mdata.errors.P3MError: The run is not finished, was made by another version, or has no source to look at.
    """
    from p3mdata.audit.recall import recall_run
    from p3mdata.run.close import renew_report

    found = recall_run(Path(run), sample, seed, workers)
    renew_report(Path(run))
    return found


def advise_run(run: PathLike, max_rank1: float = 0.1, identities: str = "auto", *, seed: int = 0) -> Advice:
    """Propose method and strength from a finished run's faces, rendered with each and attacked; writes advice.json.

    Args:
        run: Its folder; needs the extra `audit`.
        max_rank1: Share of faces in (0, 1) that no attacker may pass.
        identities: As for `audit_run`.
        seed: Deals people out.

    Raises:
        p3mdata.errors.P3MError: Too few persons are known, or a library is missing.
    """
    from p3mdata.audit.advise import advise_run as advise

    return advise(Path(run), max_rank1, identities, seed)
