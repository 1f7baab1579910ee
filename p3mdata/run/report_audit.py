"""The audit's part of report.html: table, chart, and what is known of missed faces; drawn from its figures."""

from __future__ import annotations

from collections.abc import Sequence

from p3mdata.base.html import Figure, Table, count, render, table
from p3mdata.base.intervals import Rate
from p3mdata.run.attackers import Attackers
from p3mdata.run.audit import COMPARISONS, Audit, AuditRow
from p3mdata.run.audit_chart import Charted, drawing
from p3mdata.run.recall import InReview, Neither, SecondLook
from p3mdata.run.sampling import LookedAt


def audit_section(
    audit: Audit | None = None,
    sample: LookedAt | None = None,
    recall: tuple[SecondLook, InReview] | None = None,
    attackers: Attackers | None = None,
    damaged: Sequence[str] = (),
) -> str:
    """A `<section id="audit">` for the report; no script, no name, nothing that is not escaped.

    Args:
        audit: What a recogniser finds; None when the run was not audited.
        sample: What a person found in a random sample; None when none was drawn.
        recall: A second look for missed faces, see `p3mdata.run.recall.recall_of`; None without one.
        attackers: None where no attackers were let at the released files.
        damaged: Names of files that cannot be read, of an audit that is told by a sentence instead.

    Returns:
        HTML; empty when there is none of them.
    """
    if not audit and not sample and not recall and not attackers and not damaged:
        return ""
    charted = Charted.of(audit) if audit and len(audit.sweep) > 1 else None
    return render(
        "audit.html",
        damaged=damaged,
        audit=audit,
        lines=[_line(row) for row in audit.rows] if audit else [],
        drawing=drawing(charted) if charted else None,
        caption=charted.caption() if charted else "",
        left_out=_left_out(audit) if audit else None,
        sample=sample,
        attackers=attackers,
        attacked=_attacked(attackers) if attackers else None,
        recall=recall_sentences(*recall) if recall else [],
        bound=_percent(sample.bound) if sample and sample.bound is not None else "",
        percent=_percent,
    )


def _attacked(attackers: Attackers) -> Table:
    lines = [
        (attackers.words[key], _interval(score.rank1), Figure(_percent(score.worst_person)))
        for key, score in sorted(attackers.scores.items(), key=lambda pair: (-pair[1].rank1.value, pair[0]))
    ]
    return table("Attackers who learn, with 95% intervals", ("Attacker", "Rank-1", "Person found most often"), lines)


def recall_sentences(look: SecondLook, review: InReview) -> list[str]:
    """What a second look says about missed faces, and about those that nothing saw.

    Args:
        look: Its figures.
        review: What became of the places that it found.
    """
    pictures, faces = look.counted.pictures, look.counted.faces
    rest = look.released - pictures.looked_at
    # The seed is in recall.json: with it and the ids of a release anybody could tell which pictures were looked at.
    drawn = ", drawn at random" if rest else ""
    said = [
        "A second, slower look (larger sizes, turned by quarters, mirrored, in tiles) went over "
        f"{pictures.looked_at:,} of {count(look.released, 'picture')} whose faces the run hides{drawn}. It sees what "
        f"may be a face, left bare by the run, on {pictures.with_missed:,} of them: {_range(pictures.rate)} of "
        f"pictures, and {faces.missed:,} of {count(faces.seen, 'face')} that it sees: {_range(faces.rate)} of faces.",
        "This counts faces that the second look finds and the run had not masked, less those that a person called "
        "none. Intervals hold with 95% and take pictures, and faces, as independent of each other; they are about "
        f"pictures like these. With 95% certainty at most {_percent(pictures.at_most)} have such a face.",
    ]
    if review.waiting:
        said.append(
            f"Still to be looked at by a person: {count(review.waiting, 'place')}. Until then what is no face, such as "
            "a stone or an ear, counts as one, and these figures may be too high."
        )
    if rest:
        low, likely, high = (rest * share for share in (pictures.rate.low, pictures.rate.value, pictures.rate.high))
        said.append(
            f"Of the {rest:,} that were not looked at, {likely:.0f} are to be expected to have one ({low:.0f} to "
            f"{high:.0f})."
        )
    said += _unseen(look.counted.neither)
    if not rest and look.left_out:
        said.append(f"{count(sum(look.left_out.values()), 'picture')} could not be looked at.")
    if review.found:
        said.append(
            f"Of all places that second looks found, {review.waiting:,} wait for a person, {review.faces:,} were "
            f"settled as faces, and {review.no_faces:,} were called none."
        )
    return said


def _unseen(neither: Neither) -> list[str]:
    seen_by = ", ".join(
        f"{'both' if name == 'both' else f'{name} only'} {number:,}" for name, number in neither.seen_by.items()
    )
    if not seen_by:
        return []
    return [
        f"Faces that no detector saw: about {neither.estimate:.1f} ({neither.low:.1f} to {neither.high:.1f}) on these "
        f"pictures, from how far the two detectors of the second look agree ({seen_by}). It takes them to miss "
        "independently of each other and all faces to be as hard; a face that is hard for one is hard for the other, "
        "so this is rather too low."
    ]


def _range(rate: Rate) -> str:
    return f"{_percent(rate.value)} ({_percent(rate.low)} to {_percent(rate.high)})"


def _percent(share: float) -> str:
    """A share in percent, with as many digits as tell it from zero."""
    digits = 1 if share >= 0.001 or share == 0 else 4
    return f"{100 * share:.{digits}f}%"


def _interval(rate: Rate | None) -> Figure:
    if rate is None:
        return Figure("-")
    return Figure(f"{_percent(rate.value)} ({100 * rate.low:.0f} to {100 * rate.high:.0f})")


def _line(row: AuditRow) -> tuple[str, str, list[Figure]]:
    figures = _interval(row.rank1), _interval(row.tar), Figure(_percent(row.false_accepts)), _interval(row.own_tar)
    return *COMPARISONS[row.key], list(figures)


def _left_out(audit: Audit) -> Table:
    reasons = sorted(audit.left_out.items(), key=lambda pair: (-pair[1], pair[0]))
    title = f"Left out: {audit.sources - audit.photos:,} of {audit.sources:,} source files"
    return table(title, ("Reason", "Files"), reasons)
