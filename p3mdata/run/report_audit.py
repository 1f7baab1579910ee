"""The audit's part of report.html: table, chart, and what is known of missed faces; drawn from its figures."""

from __future__ import annotations

from typing import Any

from p3mdata.base.html import Figure, count, render, table
from p3mdata.base.intervals import miss_bound
from p3mdata.run.audit_chart import Charted, drawing
from p3mdata.typing import Json

MEANING = {
    "clear": ("clear faces, among clear photographs", "what the recogniser can do at best"),
    "naive": ("released faces, among clear photographs", "somebody who has clear photographs of these people"),
    "adapted": ("released faces, among released ones", "somebody who anonymizes their photographs in the same way"),
    "deconvolved_naive": ("released faces with the blur undone, among clear photographs", "strength and masks known"),
    "deconvolved_adapted": ("released faces with the blur undone, among others treated alike", "the same, adapted"),
    "zero_naive": ("faces under black masks, among clear photographs", "nothing is left inside the mask"),
    "zero_adapted": ("faces under black masks, among others like that", "what leaks outside the mask"),
}


def audit_section(
    audit: Json | None,
    sample: dict[str, int] | None = None,
    recall: Json | None = None,
    attackers: Json | None = None,
) -> str:
    """A `<section id="audit">` for the report; no script, no name, nothing that is not escaped.

    Args:
        audit: What audit.json holds, or None when only a sample was drawn.
        sample: The random sample: `images` drawn, `looked_at` by a person, and `misses` (images with a face that
            was missed); None when none was drawn.
        recall: The figures of a second look, see `p3mdata.run.recall.recall_of`; None without one.
        attackers: What attackers.json holds; None where no attackers were let at the released files.

    Returns:
        HTML; empty when there is none of them.
    """
    if not audit and not sample and not recall and not attackers:
        return ""
    charted = Charted.from_json(audit) if audit and len(audit["sweep"]) > 1 else None
    return render(
        "audit.html",
        audit=audit,
        lines=[_line(row) for row in audit["rows"]] if audit else [],
        drawing=drawing(charted) if charted else None,
        caption=charted.caption() if charted else "",
        left_out=_left_out(audit) if audit else None,
        sample=sample,
        attackers=attackers,
        attacked=_attacked(attackers) if attackers else None,
        recall=recall_sentences(recall) if recall else [],
        bound=_percent(miss_bound(sample["looked_at"], sample["misses"])) if sample and sample["looked_at"] else "",
        percent=_percent,
    )


def _attacked(attackers: Json) -> Any:
    lines = [
        (score["words"], _interval(score["rank1"]), Figure(_percent(score["worst_person"])))
        for score in attackers["scores"].values()
    ]
    return table("Attackers who learn, with 95% intervals", ("Attacker", "Rank-1", "Person found most often"), lines)


def recall_sentences(recall: Json) -> list[str]:
    """What a second look says about missed faces, and about those that nothing saw.

    Args:
        recall: What `p3mdata.run.recall.recall_of` gives.
    """
    pictures, faces, neither = recall["pictures"], recall["faces"], recall["neither"]
    looked, released = pictures["looked_at"], recall["released"]
    rest = released - looked
    # The seed is in recall.json: with it and the ids of a release anybody could tell which pictures were looked at.
    drawn = ", drawn at random" if rest else ""
    said = [
        f"A second, slower look (larger sizes, turned by quarters, mirrored, in tiles) went over {looked:,} of "
        f"{count(released, 'picture')} whose faces the run hides{drawn}. It sees what may be a face, left bare by the "
        f"run, on {pictures['with_missed']:,} of them: {_range(pictures['rate'])} of pictures, and {faces['missed']:,} "
        f"of {count(faces['seen'], 'face')} that it sees: {_range(faces['rate'])} of faces.",
        "This counts faces that the second look finds and the run had not masked, less those that a person called "
        "none. Intervals hold with 95% and take pictures, and faces, as independent of each other; they are about "
        f"pictures like these. With 95% certainty at most {_percent(pictures['at_most'])} have such a face.",
    ]
    if waiting := recall["review"]["waiting"]:
        said.append(
            f"Still to be looked at by a person: {count(waiting, 'place')}. Until then what is no face, such as a "
            "stone or an ear, counts as one, and these figures may be too high."
        )
    if rest:
        low, likely, high = (
            rest * share for share in (pictures["rate"]["low"], pictures["rate"]["value"], pictures["rate"]["high"])
        )
        said.append(
            f"Of the {rest:,} that were not looked at, {likely:.0f} are to be expected to have one ({low:.0f} to "
            f"{high:.0f})."
        )
    seen_by = ", ".join(
        f"{'both' if name == 'both' else f'{name} only'} {n:,}" for name, n in neither["seen_by"].items()
    )
    if seen_by:
        said.append(
            f"Faces that no detector saw: about {neither['estimate']:.1f} ({neither['low']:.1f} to "
            f"{neither['high']:.1f}) on these pictures, from how far the two detectors of the second look agree "
            f"({seen_by}). It takes them to miss independently of each other and all faces to be as hard; a face that "
            "is hard for one is hard for the other, so this is rather too low."
        )
    if not rest and recall["left_out"]:
        said.append(f"{count(sum(recall['left_out'].values()), 'picture')} could not be looked at.")
    review = recall["review"]
    if sum(review[key] for key in ("waiting", "faces", "no_faces")):
        said.append(
            f"Of all places that second looks found, {review['waiting']:,} wait for a person, {review['faces']:,} were "
            f"settled as faces, and {review['no_faces']:,} were called none."
        )
    return said


def _range(rate: dict[str, float]) -> str:
    return f"{_percent(rate['value'])} ({_percent(rate['low'])} to {_percent(rate['high'])})"


def _percent(share: float) -> str:
    """A share in percent, with as many digits as tell it from zero."""
    digits = 1 if share >= 0.001 or share == 0 else 4
    return f"{100 * share:.{digits}f}%"


def _interval(rate: dict[str, float] | None) -> Figure:
    if rate is None:
        return Figure("-")
    return Figure(f"{_percent(rate['value'])} ({100 * rate['low']:.0f} to {100 * rate['high']:.0f})")


def _line(row: Json) -> tuple[str, str, list[Figure]]:
    figures = _interval(row["rank1"]), _interval(row["tar"]), Figure(_percent(row["false_accepts"]))
    return *MEANING[row["key"]], [*figures, _interval(row.get("own_tar"))]


def _left_out(audit: Json) -> Any:
    reasons = sorted(audit["left_out"].items(), key=lambda pair: (-pair[1], pair[0]))
    title = f"Left out: {audit['sources'] - audit['photos']:,} of {audit['sources']:,} source files"
    return table(title, ("Reason", "Files"), reasons)
