"""What report and plot say of an audit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from p3mdata.audit.plot import draw
from p3mdata.audit.sweep import OTHERS
from p3mdata.base.files import sha256
from p3mdata.base.jsonl import write_json
from p3mdata.config import Method
from p3mdata.run.attackers import read_attackers
from p3mdata.run.audit import Audit
from p3mdata.run.layout import ATTACKERS, MANIFEST
from p3mdata.run.report_audit import audit_section
from p3mdata.run.sampling import LookedAt
from tests.audits import some_attackers


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: Counter[str] = Counter()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen[tag] += 1
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.seen[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def _read(section: str) -> _Tags:
    tags = _Tags()
    tags.feed(section)
    tags.close()
    assert not tags.open
    tags.text = " ".join(tags.text.split())
    return tags


def _figures(change: Callable[[dict[str, Any]], Any] = lambda row: None) -> Audit:
    rate = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 19}
    rows = [{"key": key, "rank1": rate, "tar": rate, "false_accepts": 0.1} for key in ("clear", "naive", "adapted")]
    points = [("blur", 0.1), ("blur", 0.2), ("mosaic", 0.2), ("zero", 1.0)]
    row = {
        "manifest_sha256": "0",
        "recogniser": {"name": "<script>alert(1)</script>", "sha256": "0"},
        "settings": {"method": "blur", "strength": 0.25, "area": "p3m"},
        "sources": 21, "photos": 19, "identities": 3, "left_out": {"not released": 2}, "chance": 0.345,
        "threshold": {
            "distance": 0.5, "far": 0.0089, "far_wanted": 1e-3, "impostor_pairs": 112, "enough_pairs": False,
        },
        "rows": rows,
        "sweep": [{"method": m, "strength": s, "naive": rate, "adapted": rate} for m, s in points],
        "gate": {"max_rank1": 0.3, "worst_rank1": 0.5, "passed": False},
    }  # fmt: skip
    change(row)
    return Audit.from_json(row)


def test_the_section_says_what_was_found() -> None:
    section = _read(audit_section(_figures()))
    assert section.seen["section"] == section.seen["svg"] == 1 and section.seen["script"] == 0
    for words in (
        "<script>alert(1)</script>", "19 photographs of 3 people", "guessing comes to 34.5%", "50.0% (25 to 75)",
        "The limit of 30.0% for the worst rank-1 rate of the released faces does not hold: it is 50.0%",
        "112 such pairs are too few for 0.1%", "flatters the result", "hair", "Left out: 2 of 21 source files",
    ):  # fmt: skip
        assert words in section.text, words


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        ((300, 300, 0), "300 of 300 released images, drawn at random .* at most 1.0% .* 3/n says 1.0%"),
        ((100, 100, 2), "found 2 with a missed face. With 95% certainty at most 6.2%"),
        ((100, 40, 0), "The other 60 wait; until then this is no random sample"),
        ((1, 0, 0), "A random sample of 1 released image waits for a person"),
    ],
)
def test_the_section_states_the_bound_on_misses(sample: tuple[int, int, int], words: str) -> None:
    section = _read(audit_section(sample=LookedAt(*sample)))
    assert re.search(words, section.text), section.text
    assert audit_section() == ""


def test_the_section_tells_of_attackers() -> None:
    section = _read(audit_section(attackers=some_attackers("0")))
    for words in (
        "40 photographs of 20 people",
        "The worst attacker (network trained on obfuscated faces, among clear photographs) finds 25.0 %",
        "hidden by dp-pix 0.2 epsilon 1 m 16, in 3 folds",
        "25.0% (10 to 40)",
        "50.0%",
    ):
        assert words in section.text, words


def test_attackers_of_another_version_are_told_in_its_words(tmp_path: Path) -> None:
    """In 0.5.0 the metric had both kinds of features at once, and a network of pairs was another one."""
    (tmp_path / MANIFEST).write_bytes(b"")
    row = some_attackers(sha256(b"")).to_json()
    row["scores"]["network"]["words"] = "what it was before"
    write_json(tmp_path / ATTACKERS, row)
    found = read_attackers(tmp_path)
    assert found is not None and found == some_attackers(sha256(b""))
    assert "the worst attacker (what it was before) finds" in found.claim()
    assert "what it was before" in _read(audit_section(attackers=found)).text
    assert found.to_json() == row | {"claim": row["claim"] | {"sentence": found.claim()}}


@pytest.mark.parametrize("others", [(), OTHERS])
@pytest.mark.parametrize("method", [method.value for method in Method])
def test_every_method_can_be_drawn(method: str, others: tuple[tuple[Method, float], ...]) -> None:
    def change(row: dict[str, Any]) -> None:
        row["settings"] |= {"method": method, "strength": 0.6 if method not in ("zero", "flat") else 1.0}
        row["sweep"] = row["sweep"][-1:] if method == "zero" and not others else row["sweep"]
        row["sweep"] += [row["sweep"][0] | {"method": one.value, "strength": s} for one, s in others]

    audit = _figures(change)
    image = cv2.imdecode(np.frombuffer(draw(audit), np.uint8), cv2.IMREAD_COLOR)
    assert image.shape[1] > 800 and image.std() > 10
    drawing = audit_section(audit)
    numbers = [float(part) for name in ("cx", "x1", "x2") for part in _values(drawing, name)]
    # The report has no chart of a single point.
    assert bool(numbers) == (len(audit.sweep) > 1) and all(0 <= number <= 940 for number in numbers)


def _values(text: str, name: str) -> list[str]:
    return [part.split('"')[0] for part in text.split(f' {name}="')[1:]]
