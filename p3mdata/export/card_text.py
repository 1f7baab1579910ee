"""What a release says about itself, in sentences filled from its figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from p3mdata.base.html import count
from p3mdata.base.intervals import Rate
from p3mdata.config import OBFUSCATIONS, Area, JpegMode
from p3mdata.errors import SettingsError
from p3mdata.export.entries import MEANING
from p3mdata.export.figures import Facts
from p3mdata.export.release import Release
from p3mdata.records import Outcome
from p3mdata.run.audit import COMPARISONS
from p3mdata.run.report_audit import recall_sentences

NAME = "Anonymized portraits with alpha mattes"
_NO_COLLECTION = (
    "Not stated. Where the photographs come from, who took them and when, and what the people on them agreed to is the "
    "publisher's to tell (`p3mdata export --about FILE`)."
)
_PAPER = "Rethinking Portrait Matting with Privacy Preserving (IJCV 2023, section 3.2)"
_KEYWORDS = ("image-matting", "portrait", "privacy", "anonymization", "p3mdata")
_AREA = {
    Area.P3M: "from the jaw to the upper brow line; the forehead stays visible",
    Area.OVAL: "the face with the forehead",
    Area.HEAD: "the whole head",
}
_HELD = {Outcome.NEEDS_REVIEW: "for a person to look at", Outcome.BROKEN: "broken", Outcome.EXCLUDED: "excluded"}
COMPARED = {key: what for key, (what, _) in COMPARISONS.items()}
COMPARED["clear"] += " (the most it can do)"


@dataclass(frozen=True)
class Words:
    """What a release says about itself, in sentences; the card and croissant.json say the same.

    Attributes:
        name: Name of the dataset.
        licence: As it was given, or None.
        summary: What it is.
        collection, raw_data: Where the photographs come from, and what is known of the sources.
        held_back: What became of sources that are not in it.
        method, proofs, recall, audit, attackers: How it was anonymized, what was proved, what may have been missed,
            what a recogniser finds, and what attackers find who learn; the last is empty where none was let at it.
        second_look: What a slower look says about missed faces; empty where there was none.
        annotation, tool: What is annotated, and by which software.
        personal, biases, spread, limits, uses, impact, maintenance: The rest of a datasheet; spread is that of traits.
    """

    name: str
    licence: str | None
    summary: str
    collection: str
    raw_data: str
    held_back: str
    method: tuple[str, ...]
    proofs: tuple[str, ...]
    recall: tuple[str, ...]
    second_look: tuple[str, ...]
    audit: tuple[str, ...]
    attackers: tuple[str, ...]
    annotation: str
    tool: str
    personal: tuple[str, ...]
    biases: tuple[str, ...]
    spread: tuple[str, ...]
    limits: tuple[str, ...]
    uses: tuple[str, ...]
    impact: str
    maintenance: str
    keywords: tuple[str, ...] = _KEYWORDS


def describe(
    release: Release, licence: str | None, name: str | None, about: str | None, contact: str | None = None
) -> Words:
    """Sentences about a release.

    Args:
        release: What is exported.
        licence: A name such as cc-by-4.0, or an address; None where it is not decided.
        name: Name of the dataset; None takes a plain one.
        about: The publisher's words about the collection.
        contact: Where people who find themselves in an image turn to.

    Raises:
        SettingsError: A name or licence without any letter.
    """
    facts = release.facts()
    return Words(
        name=_line("--name", name) or NAME,
        licence=_line("--license", licence),
        summary=_summary(facts, release),
        collection=(about or "").strip() or _NO_COLLECTION,
        raw_data="Photographs of people and the alpha mattes that came with them. Neither the photographs as they were "
        "taken nor their names or hashes are part of the dataset.",
        held_back=_held_back(facts),
        method=tuple(_method(facts)),
        proofs=tuple(_proofs(facts)),
        recall=tuple(_recall(facts)),
        second_look=tuple(recall_sentences(*facts.recall)) if facts.recall else (),
        audit=tuple(_audit(facts)),
        attackers=tuple(_attackers(facts)),
        annotation=_annotation(release),
        tool=f"{facts.tool}: two face detectors and a landmark model; where they disagree, a person has to look",
        personal=tuple(_personal(facts)),
        biases=tuple(_biases()),
        spread=tuple(_spread(facts)),
        limits=tuple(_limits(facts)),
        uses=(
            "Training and evaluating portrait matting without clear faces.",
            "Not for recognising people, and not for undoing the obfuscation.",
        ),
        impact="People on the photographs cannot be recognised by their faces as easily as before. They were not made "
        "anonymous in the sense of data protection law: whether the release is lawful is the publisher's to judge.",
        maintenance=f"This is version {facts.version}; each take-down of images raises it by one. Use the newest "
        "version and delete older copies. People who find themselves in an image turn to the publisher"
        f"{f': {_inline(contact)}' if contact else ''}.",
    )


def _line(option: str, text: str | None) -> str | None:
    """A text on one line."""
    if text is None:
        return None
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if not line:
        raise SettingsError(f"{option} is empty. Leave it out, or say something.")
    return line


def _inline(text: str) -> str:
    return " ".join(text.split()).rstrip(".")


def _listed(parts: Sequence[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else "".join(parts)


def percent(share: float) -> str:
    """A share in percent, with as many digits as tell it from zero."""
    return f"{100 * share:.{1 if share >= 0.001 or share == 0 else 4}f}%"


def _summary(facts: Facts, release: Release) -> str:
    free = _free(facts)
    kinds = _listed([f"{kind}s" for kind in release.kinds[1:]])
    own = f" {count(free, 'image')} without private content stand as they were." if free else ""
    if facts.shown_images:
        own += (
            f" {count(facts.shown_images, 'image')} show {count(facts.shown_faces, 'face')} as they are, by permission."
        )
    return (
        f"{count(facts.images, 'portrait')} with {kinds or 'nothing else'}. {count(facts.faces, 'face')} were made "
        f"unrecognisable after {_PAPER}.{own}"
    )


def _free(facts: Facts) -> int:
    """Images that are published as they were since nothing in them is private."""
    return sum(split.images for split in facts.splits.values() if split.free) - facts.shown_images


def _annotation(release: Release) -> str:
    kinds = [f"{kind} ({MEANING[kind]})" for kind in release.kinds[1:]]
    if not kinds:
        return "The images have no annotation."
    mixed = any(set(entry.files) != set(release.kinds) for split in release.splits for entry in split.entries)
    return f"With the images come {_listed(kinds)}{'; not every image has all of them' if mixed else ''}."


def _held_back(facts: Facts) -> str:
    if facts.outcomes is None:
        return "How many source files were held back is not stated (`p3mdata export --run RUN` states it)."
    total = sum(facts.outcomes.values())
    held = {outcome: facts.outcomes.get(outcome.value, 0) for outcome in Outcome if not outcome.released}
    said = [f"{what} {held[outcome]:,}" for outcome, what in _HELD.items() if held[outcome]]
    reasons = [f"{name} {number:,}" for name, number in sorted((facts.reasons or {}).items())]
    tail = f" ({', '.join(said)}; by reason: {', '.join(reasons)})" if said and reasons else ""
    return f"The run had {count(total, 'source file')}; not released: {sum(held.values()):,}{tail}."


def _method(facts: Facts) -> Iterator[str]:
    settings = facts.settings
    yield (
        "Every face was found by agreement of detectors and obfuscated with "
        f"{settings.in_words('card')}"
        f" ({_AREA[settings.area]})."
    )
    yield (
        "The transition area of the matte, where hair and cheek boundaries are soft, was left out of the mask and is "
        "exact for matting."
    )
    if facts.proofs.recomposed:
        yield (
            f"{count(facts.proofs.recomposed, 'face')} at the edge of the matte were hidden up to the silhouette: "
            "there the layer of the face alone was obfuscated and composed again with the same matte, so that the "
            "matte stays true. Facemasks have 64 at these pixels and 255 where pixels are replaced."
        )
    if facts.shown_images:
        sets = _listed([split.title for name, split in facts.splits.items() if name in facts.shown])
        yield (
            f"{count(facts.shown_images, 'image')} of {sets} show {count(facts.shown_faces, 'face')} that can be "
            "recognised. Each is shown because a named person decided that it may be, on a legal ground; both are "
            "recorded with the publisher and are not part of the dataset. Do not train on them."
        )
    yield "Images about which the detectors were not sure were held back, unless a person decided about them."
    yield f"Made with {facts.tool}; all settings and hashes of model files are in the run's report."


def _proofs(facts: Facts) -> Iterator[str]:
    exact, again = facts.proofs.exact, facts.proofs.reencoded
    yield (
        "Each encoded image was opened again and compared with its decoded source before it was released, and "
        "detectors looked at it once more. It carries no metadata but what is needed to show it."
    )
    yield (
        f"{count(exact, 'image')}: every pixel outside the facemask and in the transition area equals the source "
        "(0 differ), recomposed pixels apart."
        if facts.proofs.recomposed
        else f"{count(exact, 'image')}: every pixel outside the facemask and in the transition area equals the source "
        "(0 differ)."
    )
    if facts.proofs.largest_beside:
        yield (
            "In JPEG blocks that hold recomposed pixels the background was compressed again: it differs by up to "
            f"{facts.proofs.largest_beside} of 255."
        )
    if again:
        yield (
            f"{count(again, 'image')} had to be encoded as a whole: outside the facemask pixels differ by up to "
            f"{facts.proofs.largest_deviation} of 255."
        )
    missed = facts.proofs.missed
    yield (
        f"{count(missed, 'face')} outside facemasks: detectors see one there, and a person decided that it may stay."
        if missed
        else "Detectors found no bare face on any released image"
        + (" but those that are shown by permission." if facts.shown_images else ".")
    )
    if facts.shown_images:
        yield (
            f"{count(facts.shown_images, 'image')} shown by permission: the released file was compared with its source "
            "and differs in nothing but metadata (all coefficients of a JPEG are equal, all pixels of other files)."
        )


def _recall(facts: Facts) -> Iterator[str]:
    sample = facts.sample
    if sample is None or sample.bound is None:
        yield (
            "How many faces were missed was not measured: nobody has looked at a random sample of the released images."
            if facts.recall is None
            else "Nobody has looked at a random sample of the released images."
        )
        return
    drawn, looked = sample.images, sample.looked_at
    rest = "" if looked == drawn else f" The other {drawn - looked:,} wait; until then this is no random sample."
    yield (
        f"A person looked at {looked:,} of {count(drawn, 'released image')}, drawn at random within classes of face "
        f"number and size, and found {sample.misses:,} with a missed face. With 95% certainty at most "
        f"{percent(sample.bound)} of the released images had one.{rest}"
    )


def _audit(facts: Facts) -> Iterator[str]:
    audit = facts.audit
    if audit is None:
        yield "Whether software can tell who is on these images was not measured for this version."
        return
    yield (
        f"A face recogniser ({audit.recogniser[0]}) was given {count(audit.photos, 'released photograph')} "
        f"of {audit.identities:,} people, aligned by the landmarks of the clear faces. Rank-1 is how often the most "
        f"similar other photograph shows the same person (guessing: {percent(audit.chance)}); TAR is the share of "
        "pairs of one person that pass as one."
    )
    yield from (
        f"{COMPARED[row.key]}: rank-1 {rate(row.rank1)}, TAR {rate(row.tar)}.".capitalize()
        for row in audit.rows
        if row.key in ("clear", "naive", "adapted")
    )
    yield (
        "A ready-made recogniser flatters the result: one that is trained on faces obfuscated like these finds more."
    )


def _attackers(facts: Facts) -> Iterator[str]:
    found = facts.attackers
    if found is None:
        return
    yield (
        f"{count(len(found.scores), 'comparison')} with attackers that learned from other people's faces, "
        f"obfuscated alike, on {count(found.photos, 'photograph')} of {found.people:,} people: "
        f"{found.claim()}."
    )
    if found.not_run:
        yield f"Not run: {'; '.join(f'{key} ({why})' for key, why in found.not_run.items())}."


def rate(found: Rate) -> str:
    """A share with its interval."""
    return f"{percent(found.value)} ({100 * found.low:.0f} to {100 * found.high:.0f})"


def _personal(facts: Facts) -> Iterator[str]:
    faces = "Faces are obfuscated, but for those shown by permission" if facts.shown_images else "Faces are obfuscated"
    yield f"The images show people. {faces}; hair, clothes, body and place are as they were."
    yield "No names, source files, hashes of source files or landmarks of faces are part of the dataset."
    if free := _free(facts):
        yield f"{count(free, 'image')} are published unchanged, since nothing in them was found to be private."


def _biases() -> Iterator[str]:
    yield (
        "Images on which faces could not be masked with certainty were held back, so that small, turned and covered "
        "faces are rarer than among the sources."
    )
    yield "Age, gender, skin colour and origin of the people were not recorded and not balanced."


def _spread(facts: Facts) -> Iterator[str]:
    for trait, table in facts.tables.items():
        total = sum(sum(by_split.values()) for by_split in table.values()) or 1
        shares = [f"{value} {percent(sum(by_split.values()) / total)}" for value, by_split in table.items()]
        yield f"Images by {trait.replace('_', ' ')}: {', '.join(shares)}."


def _limits(facts: Facts) -> Iterator[str]:
    settings = facts.settings
    method, _ = settings.obfuscation()
    yield (
        "A facemask hides a face. Hair, clothes, body and place can still identify a person, and a photograph that is "
        "public elsewhere is found by the pixels that stay."
    )
    if traced := OBFUSCATIONS[method].traced:
        yield (
            f"{traced} faces keep traces of who they were: somebody who "
            "trains on faces like these recovers more than a person sees."
        )
    yield "No detector is perfect: a face that all of them miss, in a picture where another is found, is bare."
    if settings.area is Area.P3M:
        yield "The forehead is visible, as in the paper."
    if settings.trust_no_face:
        yield "Images in which no detector saw any face were released without a person's look."
    if facts.proofs.missed:
        yield f"{count(facts.proofs.missed, 'face')} outside facemasks stayed by a person's decision (see Proofs)."
    if facts.proofs.transition_hidden:
        yield (
            f"On {count(facts.proofs.transition_hidden, 'image')} a person let the mask cover the transition area: "
            "there the boundary is not exact."
        )
    if settings.jpeg is JpegMode.EXACT and any("jpeg" in name for name in facts.encodings):
        yield (
            "In JPEG files coarse colour may stay beside the transition area, in a strip of up to 16 pixels whose "
            "detail is gone."
        )
    if facts.proofs.reencoded:
        yield f"{count(facts.proofs.reencoded, 'image')} are not exact outside the facemask (see Proofs)."
    yield "Weak hits of one detector are masked without asking: now and then a patch of background is obfuscated."
