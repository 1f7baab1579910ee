"""The release record for people to read: Markdown of its JSON document, and nothing beside it."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator

from p3mdata.export.card import audit_table, table
from p3mdata.export.card_text import percent, rate
from p3mdata.export.figures import Facts
from p3mdata.export.questions import FRAMEWORKS
from p3mdata.export.record import RECORD, RECORD_JSON, TITLES, Record

# Characters of an answer that stands where it is asked for; longer ones stand once, below.
_SHORT = 240


def files(record: Record) -> dict[str, bytes]:
    """Content of release-record.json and release-record.md, by name; equal records give equal bytes."""
    told = json.dumps(record.to_json(), indent=1, ensure_ascii=False) + "\n"
    return {RECORD_JSON: told.encode(), RECORD: markdown(record).encode()}


def markdown(record: Record) -> str:
    """release-record.md."""
    lines = [f"# Release record: {_safe(record.name)}", _lead(record)]
    for framework, (title, _) in FRAMEWORKS.items():
        lines += [f"## {title}", *_answers(record, framework)]
    lines += ["## What the run says", "Sentences and figures of the run; the questions above point here."]
    for name, sentences in record.run.items():
        lines += [f"### {TITLES[name]}", *map(_safe, sentences)]
        lines += [tabled] if (tabled := _table_of(name, record.facts)) else []
    lines += ["## Not stated", *_open(record), "## Where the questions are from"]
    lines += ["\n".join(f"- {title}: <{source}>" for title, source in FRAMEWORKS.values())]
    return "\n\n".join(lines) + "\n"


def _lead(record: Record) -> str:
    asked = record.questions
    whole = sum(not question.not_stated for question in asked)
    blank = sum(not question.publisher and not question.run for question in asked)
    return (
        f"Version {record.facts.version} of the dataset, made with {_safe(record.facts.tool)}. Of "
        f"{len(asked)} questions {whole} are answered, {len(asked) - whole - blank} in part, {blank} not: see "
        "[Not stated](#not-stated). Quoted text is the publisher's; everything else was counted or measured by the "
        "tool. The record helps who has to judge a release; it is no certificate, and no statement that the release is "
        "lawful."
    )


def _open(record: Record) -> Iterator[str]:
    if not record.not_stated:
        yield "Nothing: every question has an answer."
        return
    rows = [
        (f"`{gap.key}`", gap.asks, f"`{gap.fill}`", ", ".join(gap.asked_by))
        for gap in record.not_stated
        if gap.by == "run"
    ]
    if rows:
        yield "What the run does not know yet:"
        yield table(("Figure", "What", "What fills it", "Asked by"), rows)
    keys = [gap for gap in record.not_stated if gap.by == "publisher"]
    if keys:
        yield "What the publisher has not said. Copied into a YAML file and filled in, it is given as `--stated`:"
        lines = [f"# {gap.asks} ({', '.join(gap.asked_by)})\n{gap.key}:" for gap in keys]
        yield "```yaml\n" + "\n".join(lines) + "\n```"


def _answers(record: Record, framework: str) -> Iterator[str]:
    part, quoted = "", set()
    for answered in (one for one in record.questions if one.question.framework == framework):
        question = answered.question
        if question.part != part:
            yield f"### {(part := question.part)}"
        yield f"**{question.ref} {_safe(question.asks)}**"
        for key in answered.publisher:
            yield _quoted(key, record.publisher[key], key in quoted)
            quoted.add(key)
        links = []
        for name in answered.run:
            sentences = record.run[name]
            if len(sentences) == 1 and len(sentences[0]) <= _SHORT:
                yield f"The run: {_safe(sentences[0])}"
            else:
                links.append(f"[{TITLES[name]}](#{TITLES[name].lower().replace(' ', '-')})")
        if links:
            yield f"The run, below: {', '.join(links)}."
        if answered.not_stated:
            yield f"*Not stated: {', '.join(f'`{key}`' for key in answered.not_stated)}.*"


def _table_of(name: str, facts: Facts) -> str:
    if name == "held_back" and facts.outcomes is not None:
        return table(("Outcome", "Files"), facts.outcomes.items())
    if name == "attackers" and facts.attackers is not None:
        words = facts.attackers.words
        scores = sorted(facts.attackers.scores.items(), key=lambda pair: (-pair[1].rank1.value, pair[0]))
        return table(
            ("Attacker", "Rank-1 (95% interval)", "Person found most often"),
            ((words[key], rate(score.rank1), percent(score.worst_person)) for key, score in scores),
        )
    return audit_table(facts.audit) if name == "audit" else ""


def _safe(text: str) -> str:
    return html.escape(text, quote=False)


def _quoted(key: str, text: str, known: bool) -> str:
    """The publisher's answer; where it was quoted before, its first line stands for it if there are more."""
    first, *more = [_safe(line) for line in text.splitlines()]
    if known and more:
        return f"> *{key}:* {first} ... (above)"
    return "\n".join([f"> *{key}:* {first}", *(f"> {line}".rstrip() for line in more)])
