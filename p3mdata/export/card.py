"""The dataset card: README.md with a YAML header and the sections of a datasheet, filled from a release's figures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import yaml

from p3mdata.export.card_text import COMPARED, Words, rate
from p3mdata.export.entries import MEANING
from p3mdata.export.figures import Facts
from p3mdata.export.huggingface import Config
from p3mdata.export.release import Release
from p3mdata.records import Outcome
from p3mdata.run.audit import Audit
from p3mdata.typing import Json

NO_LICENCE = (
    "> **The licence of this dataset is not set.** Until its publisher states one (`p3mdata export --license`), nobody "
    "may use it."
)
# Licences that the Hugging Face Hub knows by name and that are meant for data, or often used for it.
_LICENCES = re.compile(
    r"cc0-1\.0|cc-by(-nc)?(-sa|-nd)?-[234]\.0|cdla-(permissive-[12]|sharing-1)\.0|odbl|odc-by|pddl|c-uda|etalab-2\.0"
    r"|gfdl|openrail|unlicense|mit|apache-2\.0|bsd-[23]-clause|gpl-3\.0"
)
_OUTCOMES = {
    Outcome.ANONYMIZED: "faces masked, all proofs hold",
    Outcome.NO_FACE_CONFIRMED: "nothing to hide, by a person's word or a rule",
    Outcome.MASKED_BY_HAND: "obfuscated inside a mask that a person drew",
    Outcome.SHOWN_BY_PERMISSION: "faces shown as they are, by permission",
    Outcome.EXCLUDED: "left out by a rule, by a person, or taken down",
    Outcome.NEEDS_REVIEW: "held back: a person has to look",
    Outcome.BROKEN: "held back: the file cannot be used",
}
_DECISIONS = {
    "accept": "released as detected",
    "no_face": "released with nothing to hide",
    "mask": "masked as drawn",
    "show": "faces shown as they are, by permission",
}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def card(release: Release, words: Words, loading: str, configs: Sequence[Config]) -> str:
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
        "Recall": (*words.second_look, *words.recall),
        "Audit": [*words.audit, audit_table(facts.audit), *words.attackers],
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


def _header(facts: Facts, words: Words, configs: Sequence[Config]) -> Json:
    size = next((name for most, name in _SIZES if facts.images < most), "n>1M")
    return {
        **_licence(words.licence),
        "pretty_name": words.name,
        "task_categories": ["image-segmentation"],
        "tags": list(words.keywords),
        "size_categories": [size],
        **({"configs": [config.to_json() for config in configs]} if configs else {}),
    }


def hub_licence(licence: str) -> str | None:
    """The Hub's name of a licence as people write it; None where the Hub has none.

    Args:
        licence: Such as 'CC BY 4.0', 'CC0', 'Apache License 2.0', or an address at Creative Commons.
    """
    words = licence.strip().lower()
    deed = re.match(r"https?://creativecommons\.org/(licenses|publicdomain)/([a-z-]+)/([\d.]+)", words)
    if deed:
        words = f"cc0-{deed[3]}" if deed[2] == "zero" else f"cc-{deed[2]}-{deed[3]}"
    words = re.sub(r"\b(creative commons)\b", "cc", words)
    words = re.sub(r"\b(attribution)\b", "by", words)
    words = re.sub(r"\b(non-?commercial)\b", "nc", words)
    words = re.sub(r"\b(share-?alike)\b", "sa", words)
    words = re.sub(r"\b(no-?deriv(ative)?s)\b", "nd", words)
    words = re.sub(r"\b(the|licen[cs]e|international|version|universal)\b", " ", words)
    words = re.sub(r"[\s_,()]+", "-", words).strip("-")
    words = re.sub(r"-+", "-", re.sub(r"\bv(?=\d)", "", words))
    words = {"cc0": "cc0-1.0", "cc-0": "cc0-1.0", "cc-zero": "cc0-1.0"}.get(words, words)
    words = re.sub(r"^cc-0-|^cc-zero-|^cc0-(?=1\.0$)", "cc0-", words)
    return words if _LICENCES.fullmatch(words) else None


def _licence(licence: str | None) -> dict[str, str]:
    """Licence of the header; one that the Hub does not know by name is 'other' with a name of its own."""
    if licence is None:
        return {"license": "other", "license_name": "unset"}
    if (known := hub_licence(licence)) is not None:
        return {"license": known}
    if re.match("https?://", licence):
        return {"license": "other", "license_name": "custom", "license_link": licence}
    return {"license": "other", "license_name": re.sub("[^a-z0-9.]+", "-", licence.lower()).strip("-") or "custom"}


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; '' without rows. Columns of numbers stand to the right."""
    body = [list(row) for row in rows]
    if not body:
        return ""
    right = [all(isinstance(row[i], int) for row in body) for i in range(len(heads))]
    lines = [[f"{v:,}" if isinstance(v, int) else str(v).replace("|", "\\|") for v in row] for row in body]
    rule = ["---:" if r else "---" for r in right]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (list(heads), rule, *lines))


def audit_table(audit: Audit | None) -> str:
    """The comparisons of an audit; '' without any."""
    return table(
        ("Compared", "Rank-1 (95% interval)", "TAR (95% interval)"),
        ((COMPARED[row.key], rate(row.rank1), rate(row.tar)) for row in (audit.rows if audit else ())),
    )


def _composition(release: Release, facts: Facts, words: Words) -> Iterator[str]:
    yield words.annotation
    kinds = {split.name: split.kinds for split in release.splits}

    def shows(name: str, images: int, free: bool) -> str:
        permitted = facts.shown.get(name, (0, 0))[0]
        if not free:
            return "obfuscated faces"
        if not permitted:
            return "as photographed, nothing private"
        rest = ", the others have nothing private" if permitted < images else ""
        return f"as photographed: {permitted:,} with faces shown by permission{rest}"

    yield table(
        ("Split", "Set", "Images", "Faces", "Shows", "Files"),
        (
            (name, s.title, s.images, s.faces, shows(name, s.images, s.free), ", ".join(kinds.get(name, ())))
            for name, s in facts.splits.items()
        ),
    )
    columns = (*release.kinds, *release.columns)
    yield table(("Column", "What it holds"), ((f"`{column}`", MEANING[column]) for column in columns))


def _outcomes(facts: Facts, words: Words) -> str:
    counts = facts.outcomes
    if counts is None:
        counts = {value: sum(by_split.values()) for value, by_split in facts.tables["outcome"].items()}
    rows = [(f"`{o.value}`", _OUTCOMES[o], counts.get(o.value, 0)) for o in Outcome if o.released or facts.outcomes]
    return f"{table(('Outcome', 'Meaning', 'Files'), rows)}\n\n{words.held_back}"


def _decisions(facts: Facts) -> str:
    rows = [(f"`{action}`", _DECISIONS.get(action, ""), number) for action, number in facts.decisions.items()]
    return table(("Decision of a person", "Meaning", "Images"), rows)


def _trait_tables(facts: Facts) -> Iterator[str]:
    names = list(facts.splits)
    for trait, values in facts.tables.items():
        yield table(
            (trait.replace("_", " ").capitalize(), *names),
            ((value, *(by_split.get(name, 0) for name in names)) for value, by_split in values.items()),
        )
