"""The dataset card: README.md with a YAML header and the sections of a datasheet, filled from a release's figures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from p3mdata.audit.measures import miss_bound
from p3mdata.config import Area, JpegMode, Method
from p3mdata.errors import SettingsError
from p3mdata.export.entries import MEANING
from p3mdata.export.facts import Facts
from p3mdata.export.release import Release
from p3mdata.records import Outcome

NAME = "Anonymized portraits with alpha mattes"
NO_LICENCE = (
    "> **The licence of this dataset is not set.** Until its publisher states one (`p3mdata export --license`), nobody "
    "may use it."
)
_NO_COLLECTION = (
    "Not stated. Where the photographs come from, who took them and when, and what the people on them agreed to is the "
    "publisher's to tell (`p3mdata export --about FILE`)."
)
_PAPER = "Rethinking Portrait Matting with Privacy Preserving (IJCV 2023, section 3.2)"
_KEYWORDS = ("image-matting", "portrait", "privacy", "anonymization", "p3mdata")
# Licences that the Hugging Face Hub knows by name and that are meant for data, or often used for it.
_LICENCES = re.compile(
    r"cc0-1\.0|cc-by(-nc)?(-sa|-nd)?-[234]\.0|cdla-(permissive-[12]|sharing-1)\.0|odbl|odc-by|pddl|c-uda|etalab-2\.0"
    r"|gfdl|openrail|unlicense|mit|apache-2\.0|bsd-[23]-clause|gpl-3\.0"
)
_STRENGTH = {
    Method.BLUR: "Gaussian blur with a standard deviation of {:g}% of each face's width",
    Method.MOSAIC: "a mosaic with cells as wide as {:g}% of each face's width",
    Method.ZERO: "black",
}
_AREA = {
    Area.P3M: "from the jaw to the upper brow line; the forehead stays visible",
    Area.OVAL: "the face with the forehead",
    Area.HEAD: "the whole head",
}
_OUTCOMES = {
    Outcome.ANONYMIZED: "faces masked, all proofs hold",
    Outcome.NO_FACE_CONFIRMED: "nothing to hide, by a person's word or a rule",
    Outcome.MASKED_BY_HAND: "obfuscated inside a mask that a person drew",
    Outcome.EXCLUDED: "left out by a rule, by a person, or taken down",
    Outcome.NEEDS_REVIEW: "held back: a person has to look",
    Outcome.BROKEN: "held back: the file cannot be used",
}
_HELD = {Outcome.NEEDS_REVIEW: "for a person to look at", Outcome.BROKEN: "broken", Outcome.EXCLUDED: "excluded"}
_DECISIONS = {
    "accept": "released as detected",
    "no_face": "released with nothing to hide",
    "mask": "masked as drawn",
}
_COMPARED = {
    "clear": "clear faces, among clear photographs (the most it can do)",
    "naive": "released faces, among clear photographs",
    "adapted": "released faces, among released ones",
    "deconvolved_naive": "released faces with the blur undone, among clear photographs",
    "deconvolved_adapted": "released faces with the blur undone, among others treated alike",
    "zero_naive": "faces under black masks, among clear photographs",
    "zero_adapted": "faces under black masks, among others like that",
}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


@dataclass(frozen=True)
class Words:
    """What a release says about itself, in sentences; the card and croissant.json say the same.

    Attributes:
        name: Name of the dataset.
        licence: As it was given, or None.
        summary: What it is.
        collection, raw_data: Where the photographs come from, and what is known of the sources.
        held_back: What became of sources that are not in it.
        method, proofs, recall, audit: How it was anonymized, what was proved, what may have been missed, and what a
            recogniser finds.
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
    audit: tuple[str, ...]
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


def describe(release: Release, licence: str | None, name: str | None, about: str | None) -> Words:
    """Sentences about a release.

    Args:
        release: What is exported.
        licence: A name such as cc-by-4.0, or an address; None where it is not decided.
        name: Name of the dataset; None takes a plain one.
        about: The publisher's words about the collection.

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
        audit=tuple(_audit(facts)),
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
        "version and delete older copies. People who find themselves in an image turn to the publisher.",
    )


def card(release: Release, words: Words, loading: str, configs: Sequence[Mapping[str, Any]]) -> str:
    """README.md.

    Args:
        release: What is exported.
        words: Sentences about it.
        loading: Markdown that says how to open it.
        configs: `configs` of the YAML header.

    Returns:
        Markdown with a YAML header; equal releases give equal text.
    """
    facts = release.facts()
    header = yaml.safe_dump(_header(facts, words, configs), sort_keys=False, allow_unicode=True, width=120)
    sections: dict[str, Iterable[str]] = {
        "Loading": [loading.replace("{split}", release.splits[0].name)],
        "Composition": _composition(release, facts, words),
        "Collection": [words.collection, words.raw_data],
        "Anonymization": [*words.method, _outcomes(facts, words), _decisions(facts)],
        "Proofs": words.proofs,
        "Recall": words.recall,
        "Audit": [*words.audit, _audit_table(facts)],
        "Uses": words.uses,
        "Known limits": ["\n".join(f"- {limit}" for limit in words.limits)],
        "Biases": [*words.biases, *_trait_tables(facts)],
        "Licence": [words.licence or "Not set. The publisher must choose one before the dataset may be used."],
        "Maintenance": [words.maintenance],
    }
    warning = [] if words.licence else [NO_LICENCE]
    body = [*warning, f"# {words.name}", words.summary]
    for title, paragraphs in sections.items():
        body += [f"## {title}", *(text for text in paragraphs if text)]
    return f"---\n{header}---\n\n" + "\n\n".join(body) + "\n"


def _header(facts: Facts, words: Words, configs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    size = next((name for most, name in _SIZES if facts.images < most), "n>1M")
    return {
        **_licence(words.licence),
        "pretty_name": words.name,
        "task_categories": ["image-segmentation"],
        "tags": list(words.keywords),
        "size_categories": [size],
        **({"configs": [dict(config) for config in configs]} if configs else {}),
    }


def _licence(licence: str | None) -> dict[str, str]:
    """Licence of the header; one that the Hub does not know by name is 'other' with a name of its own."""
    if licence is None:
        return {"license": "other", "license_name": "unset"}
    if _LICENCES.fullmatch(licence.lower()):
        return {"license": licence.lower()}
    if re.match("https?://", licence):
        return {"license": "other", "license_name": "custom", "license_link": licence}
    return {"license": "other", "license_name": re.sub("[^a-z0-9.]+", "-", licence.lower()).strip("-") or "custom"}


def _line(option: str, text: str | None) -> str | None:
    """A text on one line."""
    if text is None:
        return None
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if not line:
        raise SettingsError(f"{option} is empty. Leave it out, or say something.")
    return line


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _listed(parts: Sequence[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else "".join(parts)


def _percent(share: float) -> str:
    """A share in percent, with as many digits as tell it from zero."""
    return f"{100 * share:.{1 if share >= 0.001 or share == 0 else 4}f}%"


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; '' without rows. Columns of numbers stand to the right."""
    body = [list(row) for row in rows]
    if not body:
        return ""
    right = [all(isinstance(row[i], int) for row in body) for i in range(len(heads))]
    lines = [[f"{v:,}" if isinstance(v, int) else str(v).replace("|", "\\|") for v in row] for row in body]
    rule = ["---:" if r else "---" for r in right]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (list(heads), rule, *lines))


def _summary(facts: Facts, release: Release) -> str:
    free = sum(images for _, images, _, is_free in facts.splits.values() if is_free)
    kinds = _listed([f"{kind}s" for kind in release.kinds[1:]])
    own = f" {_count(free, 'image')} without private content stand as they were." if free else ""
    return (
        f"{_count(facts.images, 'portrait')} with {kinds or 'nothing else'}. {_count(facts.faces, 'face')} were made "
        f"unrecognisable after {_PAPER}.{own}"
    )


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
    return f"The run had {_count(total, 'source file')}; not released: {sum(held.values()):,}{tail}."


def _method(facts: Facts) -> Iterator[str]:
    settings = facts.settings
    method, strength = settings.obfuscation()
    yield (
        f"Every face was found by agreement of detectors and obfuscated with {_STRENGTH[method].format(100 * strength)}"
        f" ({_AREA[settings.area]})."
    )
    yield (
        "The transition area of the matte, where hair and cheek boundaries are soft, was left out of the mask and is "
        "exact for matting."
    )
    yield "Images about which the detectors were not sure were held back, unless a person decided about them."
    yield f"Made with {facts.tool}; all settings and hashes of model files are in the run's report."


def _proofs(facts: Facts) -> Iterator[str]:
    exact, again = facts.proofs["exact"], facts.proofs["reencoded"]
    yield (
        "Each encoded image was opened again and compared with its decoded source before it was released, and "
        "detectors looked at it once more. It carries no metadata but what is needed to show it."
    )
    yield (
        f"{_count(exact, 'image')}: every pixel outside the facemask and in the transition area equals the source "
        "(0 differ)."
    )
    if again:
        yield (
            f"{_count(again, 'image')} had to be encoded as a whole: outside the facemask pixels differ by up to "
            f"{facts.proofs['largest_deviation']} of 255."
        )
    missed = facts.proofs["missed"]
    yield (
        f"{_count(missed, 'face')} outside facemasks: detectors see one there, and a person decided that it may stay."
        if missed
        else "Detectors found no bare face on any released image."
    )


def _recall(facts: Facts) -> Iterator[str]:
    sample = facts.sample
    if sample is None or not sample["looked_at"]:
        yield (
            "How many faces were missed was not measured: nobody has looked at a random sample of the released images."
        )
        return
    drawn, looked, misses = sample["images"], sample["looked_at"], sample["misses"]
    rest = "" if looked == drawn else f" The other {drawn - looked:,} wait; until then this is no random sample."
    yield (
        f"A person looked at {looked:,} of {_count(drawn, 'released image')}, drawn at random within classes of face "
        f"number and size, and found {misses:,} with a missed face. With 95% certainty at most "
        f"{_percent(miss_bound(looked, misses))} of the released images had one.{rest}"
    )


def _audit(facts: Facts) -> Iterator[str]:
    audit = facts.audit
    if audit is None:
        yield "Whether software can tell who is on these images was not measured for this version."
        return
    yield (
        f"A face recogniser ({audit['recogniser']['name']}) was given {_count(audit['photos'], 'released photograph')} "
        f"of {audit['identities']:,} people, aligned by the landmarks of the clear faces. Rank-1 is how often the most "
        f"similar other photograph shows the same person (guessing: {_percent(audit['chance'])}); TAR is the share of "
        "pairs of one person that pass as one."
    )
    yield from (
        f"{_COMPARED.get(row['key'], row['key'])}: rank-1 {_rate(row['rank1'])}, TAR {_rate(row['tar'])}.".capitalize()
        for row in audit["rows"]
        if row["key"] in ("clear", "naive", "adapted")
    )
    yield (
        "A ready-made recogniser flatters the result: one that is trained on faces obfuscated like these finds more."
    )


def _rate(rate: Mapping[str, float]) -> str:
    return f"{_percent(rate['value'])} ({100 * rate['low']:.0f} to {100 * rate['high']:.0f})"


def _audit_table(facts: Facts) -> str:
    rows = facts.audit["rows"] if facts.audit else ()
    return _table(
        ("Compared", "Rank-1 (95% interval)", "TAR (95% interval)"),
        ((_COMPARED.get(row["key"], row["key"]), _rate(row["rank1"]), _rate(row["tar"])) for row in rows),
    )


def _personal(facts: Facts) -> Iterator[str]:
    yield "The images show people. Faces are obfuscated; hair, clothes, body and place are as they were."
    yield "No names, source files, hashes of source files or landmarks of faces are part of the dataset."
    free = sum(images for _, images, _, is_free in facts.splits.values() if is_free)
    if free:
        yield f"{_count(free, 'image')} are published unchanged, since nothing in them was found to be private."


def _biases() -> Iterator[str]:
    yield (
        "Images on which faces could not be masked with certainty were held back, so that small, turned and covered "
        "faces are rarer than among the sources."
    )
    yield "Age, gender, skin colour and origin of the people were not recorded and not balanced."


def _spread(facts: Facts) -> Iterator[str]:
    for trait, table in facts.tables.items():
        total = sum(sum(by_split.values()) for by_split in table.values()) or 1
        shares = [f"{value} {_percent(sum(by_split.values()) / total)}" for value, by_split in table.items()]
        yield f"Images by {trait.replace('_', ' ')}: {', '.join(shares)}."


def _limits(facts: Facts) -> Iterator[str]:
    settings = facts.settings
    method, _ = settings.obfuscation()
    yield "A facemask hides a face. Hair, clothes, body and place can still identify a person."
    if method is not Method.ZERO:
        yield (
            f"{'Blurred' if method is Method.BLUR else 'Mosaicked'} faces keep traces of who they were: somebody who "
            "trains on faces like these recovers more than a person sees."
        )
    yield "No detector is perfect: a face that all of them miss, in a picture where another is found, is bare."
    if settings.area is Area.P3M:
        yield "The forehead is visible, as in the paper."
    if settings.trust_no_face:
        yield "Images in which no detector saw any face were released without a person's look."
    if facts.proofs["missed"]:
        yield f"{_count(facts.proofs['missed'], 'face')} outside facemasks stayed by a person's decision (see Proofs)."
    if facts.proofs["transition_hidden"]:
        yield (
            f"On {_count(facts.proofs['transition_hidden'], 'image')} a person let the mask cover the transition area: "
            "there the boundary is not exact."
        )
    if settings.jpeg is JpegMode.EXACT and any("jpeg" in name for name in facts.encodings):
        yield (
            "In JPEG files coarse colour may stay beside the transition area, in a strip of up to 16 pixels whose "
            "detail is gone."
        )
    if facts.proofs["reencoded"]:
        yield f"{_count(facts.proofs['reencoded'], 'image')} are not exact outside the facemask (see Proofs)."
    yield "Weak hits of one detector are masked without asking: now and then a patch of background is obfuscated."


def _composition(release: Release, facts: Facts, words: Words) -> Iterator[str]:
    yield words.annotation
    kinds = {split.name: split.kinds for split in release.splits}
    shows = {True: "as photographed, nothing private", False: "obfuscated faces"}
    yield _table(
        ("Split", "Set", "Images", "Faces", "Shows", "Files"),
        (
            (name, title, images, faces, shows[free], ", ".join(kinds.get(name, ())))
            for name, (title, images, faces, free) in facts.splits.items()
        ),
    )
    columns = (*release.kinds, *release.columns)
    yield _table(("Column", "What it holds"), ((f"`{column}`", MEANING[column]) for column in columns))


def _outcomes(facts: Facts, words: Words) -> str:
    counts = facts.outcomes
    if counts is None:
        counts = {value: sum(by_split.values()) for value, by_split in facts.tables["outcome"].items()}
    rows = [(f"`{o.value}`", _OUTCOMES[o], counts.get(o.value, 0)) for o in Outcome if o.released or facts.outcomes]
    return f"{_table(('Outcome', 'Meaning', 'Files'), rows)}\n\n{words.held_back}"


def _decisions(facts: Facts) -> str:
    rows = [(f"`{action}`", _DECISIONS.get(action, ""), number) for action, number in facts.decisions.items()]
    return _table(("Decision of a person", "Meaning", "Images"), rows)


def _trait_tables(facts: Facts) -> Iterator[str]:
    names = list(facts.splits)
    for trait, table in facts.tables.items():
        yield _table(
            (trait.replace("_", " ").capitalize(), *names),
            ((value, *(by_split.get(name, 0) for name in names)) for value, by_split in table.items()),
        )
