"""The release record: what standards, data protection law and datasheets ask, answered or named as open.

Its answers are the sentences of the card and the figures behind them, and what the publisher states; what neither knows
is listed as not stated, with what fills it. No source, person, path or seed enters it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from p3mdata.base.html import count
from p3mdata.base.jsonl import in_canonical_order
from p3mdata.export.card_text import Words
from p3mdata.export.entries import MEANING
from p3mdata.export.figures import Facts
from p3mdata.export.questions import FRAMEWORKS, QUESTIONS, Question
from p3mdata.export.release import Release
from p3mdata.export.stated import Stated
from p3mdata.run.attackers import Attackers
from p3mdata.run.audit import Audit
from p3mdata.run.recall import InReview, SecondLook
from p3mdata.typing import Json
from p3mdata.version import __version__

RECORD, RECORD_JSON = "release-record.md", "release-record.json"
SCHEMA = 1
# What the run can say, and what makes it say so where it does not.
TITLES = {
    "counts": "Counts",
    "splits": "Splits",
    "composition": "Composition",
    "relations": "Relations",
    "spread": "Spread",
    "held_back": "Held back",
    "raw_data": "Sources",
    "personal": "Personal data",
    "method": "Method",
    "privacy_model": "Privacy model",
    "proofs": "Proofs",
    "recall": "Missed faces",
    "second_look": "Second look",
    "audit": "Audit",
    "attackers": "Attackers",
    "decisions": "Decisions of people",
    "shown": "Shown by permission",
    "measures": "Measures of the tool",
    "versions": "Versions and take-downs",
    "biases": "Biases",
    "limits": "Known limits",
    "intended_uses": "Intended uses",
    "impact": "Impact",
    "licence": "Licence",
    "tool": "Tool",
    "models": "Model files",
}
# Of what the run may not know: what it is, and what makes it known.
_OPEN = {
    "held_back": ("how many source files were held back, and why", "p3mdata export DATASET ... --run RUN"),
    "models": ("which model files found the faces", "p3mdata export DATASET ... --run RUN"),
    "recall": (
        "how many faces were missed, by a person's look at a random sample",
        "p3mdata audit RUN --sample 300, then p3mdata review RUN (a dataset: and --run RUN)",
    ),
    "second_look": (
        "faces that the run's detectors did not see",
        "p3mdata audit RUN --recall (a dataset: and --run RUN)",
    ),
    "audit": ("whether a recogniser tells who it is", "p3mdata audit RUN (a dataset: and --run RUN)"),
    "attackers": (
        "what attackers find who learn from faces obfuscated alike",
        "p3mdata audit RUN --attackers (a dataset: and --run RUN)",
    ),
    "licence": ("the licence", "--license"),
}


@dataclass(frozen=True)
class Answered:
    """A question, and who says something to it.

    Attributes:
        question: What is asked.
        publisher: Keys of `stated.Stated` that answer it.
        run: Names of TITLES that do.
        not_stated: Keys and names that would.
    """

    question: Question
    publisher: tuple[str, ...]
    run: tuple[str, ...]
    not_stated: tuple[str, ...]

    def to_json(self) -> Json:
        asked = {name: getattr(self.question, name) for name in ("framework", "part", "ref", "asks")}
        answers = {"publisher": self.publisher, "run": self.run, "not_stated": self.not_stated}
        return asked | {name: list(keys) for name, keys in answers.items()}


@dataclass(frozen=True)
class Gap:
    """What neither the run nor the publisher says.

    Attributes:
        key: Of `stated.Stated`, or name of TITLES.
        by: Whose it is to say: run or publisher.
        asks: What it is.
        fill: What fills it.
        asked_by: Clauses, items and numbers.
    """

    key: str
    by: str
    asks: str
    fill: str
    asked_by: tuple[str, ...]

    def to_json(self) -> Json:
        return {**vars(self), "asked_by": list(self.asked_by)}


@dataclass(frozen=True)
class Record:
    """A release record.

    Attributes:
        name: Of the dataset.
        facts: Figures of the release.
        run: Sentences by name of TITLES; names of which the run does not know are left out.
        publisher: Answers by key of `stated.Stated`.
        questions: All that is asked.
        not_stated: What is open, that of the run first.
    """

    name: str
    facts: Facts
    run: dict[str, tuple[str, ...]]
    publisher: dict[str, str]
    questions: tuple[Answered, ...]
    not_stated: tuple[Gap, ...]

    def to_json(self) -> Json:
        """What release-record.json holds."""
        return {
            "schema": SCHEMA,
            "tool": f"p3mdata {__version__}",
            "name": self.name,
            "version": self.facts.version,
            "frameworks": {key: {"title": title, "source": source} for key, (title, source) in FRAMEWORKS.items()},
            "figures": _figures(self.facts),
            "run": {name: list(sentences) for name, sentences in self.run.items()},
            "publisher": self.publisher,
            "questions": [question.to_json() for question in self.questions],
            "not_stated": [gap.to_json() for gap in self.not_stated],
        }


def record_of(release: Release, words: Words, stated: Stated) -> Record:
    """The record of a release; equal releases and answers give equal records.

    Args:
        release: What is released.
        words: Sentences about it, those of the card.
        stated: What the publisher says.
    """
    facts, publisher = release.facts(), stated.said()
    said = _said(facts, words, "group" in release.columns)
    return Record(
        name=words.name,
        facts=facts,
        run={name: said[name] for name in TITLES if said[name]},
        publisher=publisher,
        questions=tuple(_answered(question, said, publisher) for question in QUESTIONS),
        not_stated=tuple(_gaps(said, publisher)),
    )


def _answered(question: Question, said: Mapping[str, Sequence[str]], publisher: Mapping[str, str]) -> Answered:
    return Answered(
        question,
        publisher=tuple(key for key in question.keys if key in publisher),
        run=tuple(name for name in question.run if said[name]),
        not_stated=(
            *(key for key in question.keys if key not in publisher),
            *(name for name in question.run if not said[name]),
        ),
    )


def _gaps(said: Mapping[str, Sequence[str]], publisher: Mapping[str, str]) -> Iterator[Gap]:
    """What neither the run nor the publisher says: those of the run first."""
    asked: dict[str, list[str]] = {}
    for question in QUESTIONS:
        for name in (*question.keys, *question.run):
            asked.setdefault(name, []).append(_cited(question))
    for name, (about, fill) in _OPEN.items():
        if not said[name]:
            yield Gap(name, "run", about, fill, tuple(asked[name]))
    for key, field in Stated.model_fields.items():
        if key not in publisher:
            fill = f"{key}: ... in the file of --stated"
            yield Gap(key, "publisher", field.description or "", fill, tuple(asked[key]))


def _cited(question: Question) -> str:
    short = {"iso_27559": "ISO/IEC 27559", "gdpr_30": "GDPR", "datasheet": "datasheet"}[question.framework]
    item = f"Art. 30(1){question.ref}" if question.ref.startswith("(") else question.ref
    return f"{short} {item}"


def _said(facts: Facts, words: Words, grouped: bool) -> dict[str, tuple[str, ...]]:
    """Sentences by name of TITLES; empty where the run does not know."""
    looked = facts.sample is not None and facts.sample.looked_at > 0
    return {
        "counts": (words.summary,),
        "splits": tuple(
            f"{name} ({split.title}): {count(split.images, 'image')}, {count(split.faces, 'face')}, "
            f"{'as photographed' if split.free else 'obfuscated'}."
            for name, split in facts.splits.items()
        ),
        "composition": (words.annotation,),
        "relations": (
            f"`group`: {MEANING['group']}." if grouped else "Nothing tells which images belong together.",
        ),
        "spread": words.spread,
        "held_back": (words.held_back,) if facts.outcomes is not None else (),
        "raw_data": (words.raw_data,),
        "personal": words.personal,
        "method": words.method,
        "privacy_model": (_privacy_model(facts),),
        "proofs": words.proofs,
        "recall": words.recall if looked else (),
        "second_look": words.second_look,
        "audit": words.audit if facts.audit else (),
        "attackers": words.attackers,
        "decisions": (_decisions(facts),),
        "shown": (_shown(facts),),
        "measures": (
            "Sources, landmarks, decisions and the secret of ids stay in folders of the run that only its owner's "
            "account may open; none of them is exported.",
            "No service is asked about a photograph: model files on the publisher's machines find the faces.",
        ),
        "versions": (
            words.maintenance,
            "A take-down (`p3mdata remove`) deletes an image and copies of its photograph from the run and from "
            "datasets made of it, and names the exports that have to be made again.",
        ),
        "biases": words.biases,
        "limits": words.limits,
        "intended_uses": words.uses,
        "impact": (words.impact,),
        "licence": (words.licence,) if words.licence else (),
        "tool": (words.tool,),
        "models": tuple(f"{name}: SHA-256 {digest}" for name, digest in (facts.models or {}).items()),
    }  # fmt: skip


def _decisions(facts: Facts) -> str:
    if not facts.decisions:
        return "No released image was decided by a person."
    counts = ", ".join(f"{action} {number:,}" for action, number in facts.decisions.items())
    return f"People decided about {sum(facts.decisions.values()):,} of the released images: {counts}."


def _privacy_model(facts: Facts) -> str:
    noise = facts.settings.privacy()
    if noise is None:
        return "No formal model, such as k-anonymity or differential privacy, is claimed."
    return (
        f"Laplace noise on the cells of a mosaic, for epsilon {noise[0]:g} where photographs may differ in "
        f"{noise[1]:,} pixels of a face (DP-Pix). That bounds what one obfuscated face tells about so many of its "
        "pixels, not about the person."
    )


def _shown(facts: Facts) -> str:
    if not facts.shown_images:
        return "No image shows a face by permission."
    faces, images = count(facts.shown_faces, "face"), count(facts.shown_images, "image")
    return f"By permission {faces} can be recognised, on {images}; ground and person are recorded with the publisher."


def _figures(facts: Facts) -> Json:
    """The figures that the sentences are made of."""
    method, strength = facts.settings.obfuscation()
    epsilon, pixels = facts.settings.privacy() or (None, None)
    sample = facts.sample
    return {
        "made_with": facts.tool,
        "images": facts.images,
        "faces": facts.faces,
        "splits": {
            name: split.to_json() for name, split in facts.splits.items()
        },
        "settings": {
            "method": method.value, "strength": strength, "epsilon": epsilon, "dp_pixels": pixels,
            "area": facts.settings.area.value, "boundary": facts.settings.boundary.value,
            "jpeg": facts.settings.jpeg.value, "trust_no_face": facts.settings.trust_no_face,
        },
        "outcomes": facts.outcomes,
        "held_back_by_reason": facts.reasons,
        "decisions": facts.decisions,
        "shown_by_permission": {"images": facts.shown_images, "faces": facts.shown_faces},
        "proofs": facts.proofs.to_json(),
        "encodings": facts.encodings,
        "traits": facts.tables,
        "second_look": facts.recall and _second_look(*facts.recall),
        "sample": sample and {**vars(sample), "miss_bound_95": sample.bound},
        "audit": facts.audit and _audit(facts.audit),
        "attackers": facts.attackers and _attackers(facts.attackers),
        "models": facts.models,
    }  # fmt: skip


def _second_look(look: SecondLook, review: InReview) -> Json:
    return {"released": look.released, **look.counted.to_json(), "review": review.to_json()}


def _audit(audit: Audit) -> Json:
    told = audit.to_json()
    rows = in_canonical_order(told["rows"])
    return {
        "recogniser": audit.recogniser[0],
        **{key: told[key] for key in ("photos", "identities", "chance")},
        "rows": rows,
    }


def _attackers(found: Attackers) -> Json:
    told = found.to_json()
    kept = {key: told[key] for key in ("method", "photos", "people", "chance", "scores", "worst", "claim")}
    return {key: in_canonical_order(value) for key, value in kept.items()}
