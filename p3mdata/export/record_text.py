"""The release record for people to read: Markdown of its JSON document, and nothing beside it."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping
from typing import Any

from p3mdata.export.card import audit_table, table
from p3mdata.export.card_text import percent, rate
from p3mdata.export.record import RECORD, RECORD_JSON, TITLES

# Characters of an answer that stands where it is asked for; longer ones stand once, below.
_SHORT = 240


def files(made: Mapping[str, Any]) -> dict[str, bytes]:
    """Content of release-record.json and release-record.md, by name; equal records give equal bytes."""
    told = json.dumps(made, indent=1, ensure_ascii=False) + "\n"
    return {RECORD_JSON: told.encode(), RECORD: markdown(made).encode()}


def markdown(made: Mapping[str, Any]) -> str:
    """release-record.md of what `record.record_of` made."""
    lines = [f"# Release record: {_safe(made['name'])}", _lead(made)]
    for framework, about in made["frameworks"].items():
        lines += [f"## {about['title']}", *_answers(made, framework)]
    lines += ["## What the run says", "Sentences and figures of the run; the questions above point here."]
    for name, sentences in made["run"].items():
        lines += [f"### {TITLES[name]}", *map(_safe, sentences)]
        lines += [tabled] if (tabled := _table_of(name, made["figures"])) else []
    lines += ["## Not stated", *_open(made), "## Where the questions are from"]
    lines += ["\n".join(f"- {about['title']}: <{about['source']}>" for about in made["frameworks"].values())]
    return "\n\n".join(lines) + "\n"


def _lead(made: Mapping[str, Any]) -> str:
    questions = made["questions"]
    whole = sum(not q["not_stated"] for q in questions)
    blank = sum(not q["publisher"] and not q["run"] for q in questions)
    return (
        f"Version {made['version']} of the dataset, made with {_safe(made['figures']['made_with'])}. Of "
        f"{len(questions)} questions {whole} are answered, {len(questions) - whole - blank} in part, {blank} not: see "
        "[Not stated](#not-stated). Quoted text is the publisher's; everything else was counted or measured by the "
        "tool. The record helps who has to judge a release; it is no certificate, and no statement that the release is "
        "lawful."
    )


def _open(made: Mapping[str, Any]) -> Iterator[str]:
    gaps = made["not_stated"]
    if not gaps:
        yield "Nothing: every question has an answer."
        return
    rows = [(f"`{g['key']}`", g["asks"], f"`{g['fill']}`", ", ".join(g["asked_by"])) for g in gaps if g["by"] == "run"]
    if rows:
        yield "What the run does not know yet:"
        yield table(("Figure", "What", "What fills it", "Asked by"), rows)
    keys = [g for g in gaps if g["by"] == "publisher"]
    if keys:
        yield "What the publisher has not said. Copied into a YAML file and filled in, it is given as `--stated`:"
        lines = [f"# {g['asks']} ({', '.join(g['asked_by'])})\n{g['key']}:" for g in keys]
        yield "```yaml\n" + "\n".join(lines) + "\n```"


def _answers(made: Mapping[str, Any], framework: str) -> Iterator[str]:
    part, quoted = "", set()
    for question in (q for q in made["questions"] if q["framework"] == framework):
        if question["part"] != part:
            yield f"### {(part := question['part'])}"
        yield f"**{question['ref']} {_safe(question['asks'])}**"
        for key in question["publisher"]:
            yield _quoted(key, made["publisher"][key], key in quoted)
            quoted.add(key)
        links = []
        for name in question["run"]:
            sentences = made["run"][name]
            if len(sentences) == 1 and len(sentences[0]) <= _SHORT:
                yield f"The run: {_safe(sentences[0])}"
            else:
                links.append(f"[{TITLES[name]}](#{TITLES[name].lower().replace(' ', '-')})")
        if links:
            yield f"The run, below: {', '.join(links)}."
        if question["not_stated"]:
            yield f"*Not stated: {', '.join(f'`{key}`' for key in question['not_stated'])}.*"


def _table_of(name: str, figures: Mapping[str, Any]) -> str:
    if name == "held_back":
        return table(("Outcome", "Files"), figures["outcomes"].items())
    if name == "attackers":
        return table(
            ("Attacker", "Rank-1 (95% interval)", "Person found most often"),
            (
                (one["words"], rate(one["rank1"]), percent(one["worst_person"]))
                for one in sorted(figures["attackers"]["scores"].values(), key=lambda one: -one["rank1"]["value"])
            ),
        )
    if name == "audit":
        return audit_table(figures["audit"]["rows"])
    return ""


def _safe(text: str) -> str:
    return html.escape(text, quote=False)


def _quoted(key: str, text: str, known: bool) -> str:
    """The publisher's answer; where it was quoted before, its first line stands for it if there are more."""
    first, *more = [_safe(line) for line in text.splitlines()]
    if known and more:
        return f"> *{key}:* {first} ... (above)"
    return "\n".join([f"> *{key}:* {first}", *(f"> {line}".rstrip() for line in more)])
