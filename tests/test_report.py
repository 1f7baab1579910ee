"""Properties of the report: right counts, released pictures only, nothing private, no network."""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from p3mdata.base.files import sha256
from p3mdata.config import Job, Settings
from p3mdata.curation import find_duplicates
from p3mdata.curation.page import write_page
from p3mdata.imaging import encode_grey
from p3mdata.records import Face, ImageResult, Outcome, Proofs
from p3mdata.run import report
from p3mdata.run.layout import ATTACKERS, AUDIT, MANIFEST, PLAN, RECALL
from p3mdata.run.plan import Plan
from p3mdata.run.recall import Looked, SecondLook, counted
from p3mdata.run.report import MOST_THUMBNAILS, write_report
from tests.audits import some_attackers, some_audit

_VOID = {"meta", "img", "br", "link", "hr"}
_SECRET_POINT = 1234.56


class _Page(HTMLParser):
    """Checks that tags are balanced and remembers what was seen."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack and self.stack[-1] == tag, f"</{tag}> closes {self.stack[-3:]}"
        self.stack.pop()

    def handle_data(self, data: str) -> None:
        if self.stack and self.stack[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def images(self) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.tags if tag == "img"]


def _parse(data: bytes) -> _Page:
    page = _Page()
    page.feed(data.decode("utf-8"))
    page.close()
    assert page.stack == []
    return page


def _face(landmarks: bool = True) -> Face:
    points = (_SECRET_POINT, 20.0) * 5
    mesh = (_SECRET_POINT, 20.0) * 478 if landmarks else None
    why = None if landmarks else "landmark model sees no face"
    return Face((5.0, 5.0, 40.0, 50.0), 0.9, ("a", "b") if landmarks else ("a",), points, mesh, why)


def _released(out: Path, number: int, colour: int = 90, exact: bool = True) -> ImageResult:
    """A released image on disk, and its row."""
    identity = f"{number:020x}"
    sink = io.BytesIO()
    Image.fromarray(np.full((60, 90, 3), colour, np.uint8)).save(sink, "PNG")
    mask = np.zeros((60, 90), np.uint8)
    mask[10:40, 20:60] = 255
    contents = {"images": sink.getvalue(), "facemasks": encode_grey(mask)}
    for kind, data in contents.items():
        (out / kind).mkdir(parents=True, exist_ok=True)
        (out / kind / f"{identity}.png").write_bytes(data)
    return ImageResult(
        id=identity,
        source=f"holiday/secret_name_{number}.png",
        outcome=Outcome.ANONYMIZED,
        width=90,
        height=60,
        method="blur 0.25",
        encoding="png 8 bit" if exact else "jpeg reencoded, quality 95",
        masked_share=0.2222,
        faces=(_face(), _face(landmarks=False)),
        proofs=Proofs(0, 0, 1.0, 0 if exact else 7, exact, (), 1, 0),
        files={kind: (f"{identity}.png", sha256(data)) for kind, data in contents.items()},
        inputs="feedfacefeedface",
    )


def _held(number: int, outcome: Outcome, reason: str, detail: str | None) -> ImageResult:
    faces = (_face(),) if outcome is Outcome.NEEDS_REVIEW else ()
    source = f"holiday/secret_name_{number}.png"
    identity = f"held{number:016x}"
    return ImageResult(identity, source, outcome, reason, detail, faces=faces, inputs="feedfacefeedface")


def _plan(tmp_path: Path, samples: int, settings: Settings | None = None) -> Plan:
    job = Job(source=tmp_path / "private_source", out=tmp_path / "run", settings=settings or Settings())
    return Plan(job, samples, 4, "d1ce" * 16)


def _report(tmp_path: Path, rows: list[ImageResult], samples: int | None = None) -> bytes:
    path = tmp_path / "run" / "report.html"
    write_report(_plan(tmp_path, len(rows) if samples is None else samples), rows, path)
    return path.read_bytes()


@pytest.fixture
def rows(tmp_path: Path) -> list[ImageResult]:
    out = tmp_path / "run"
    return [
        _released(out, 1),
        replace(_released(out, 2), outcome=Outcome.MASKED_BY_HAND),
        _released(out, 3, exact=False),
        _held(4, Outcome.NEEDS_REVIEW, "detectors_disagree", "only one sees a face"),
        _held(5, Outcome.NEEDS_REVIEW, "no_face_found", "no detector finds a face"),
        _held(6, Outcome.BROKEN, "empty_file", "is empty (0 bytes). Copy the file again."),
        _held(7, Outcome.EXCLUDED, "too_small", "is 20x20"),
    ]


def test_counts_every_source_file_once(tmp_path: Path, rows: list[ImageResult]) -> None:
    text = _parse(_report(tmp_path, rows)).text
    assert "7 source files: 3 released, 4 held back." in text
    assert "Held back: 2 for a person to look at, 1 broken, 1 excluded." in text
    assert "the outcomes add up 7" in text
    for outcome in Outcome:
        number = sum(row.outcome is outcome for row in rows)
        assert re.search(rf"\b{outcome.value} [^%]*? {number} {100 * number / 7:.1f}%", text), outcome
    assert "add up to the 9 of the plan" in _parse(_report(tmp_path, rows, samples=9)).text


def test_figures_of_proofs_and_detection(tmp_path: Path, rows: list[ImageResult]) -> None:
    text = _parse(_report(tmp_path, rows)).text
    assert "Images that must be exact outside the mask 2 " in text
    assert "Images compressed again as a whole 1 " in text
    assert "7 of 255" in text
    assert "find again on released images 3 Of those, faces outside a mask 0" in text
    assert "8 faces in 5 images" in text
    # Two of the five images have one face (the queue), three have two, and none has none.
    assert "none 0 0.0% 1 2 40.0% 2 3 60.0%" in text
    assert "seen by both detectors 5 62.5% seen by a only 3 37.5%" in text
    assert "with landmarks 5 62.5% without landmarks: landmark model sees no face 3 37.5%" in text


def test_shows_released_images_small_and_without_metadata(tmp_path: Path, rows: list[ImageResult]) -> None:
    images = _parse(_report(tmp_path, rows)).images()
    assert [image["alt"] for image in images] == [f"Released image {row.id}" for row in rows[:3]]
    for image in images:
        source = image["src"] or ""
        assert source.startswith("data:image/jpeg;base64,")
        picture = Image.open(io.BytesIO(base64.b64decode(source.split(",", 1)[1])))
        assert max(picture.size) <= 320 and not picture.getexif() and "icc_profile" not in picture.info
        assert str(picture.width) == image["width"] and str(picture.height) == image["height"]
        # The outline of the mask is drawn.
        assert len(picture.convert("L").getcolors(256) or []) > 2


def test_draws_nothing_of_held_back_images_even_when_their_files_lie_there(tmp_path: Path) -> None:
    released = _released(tmp_path / "run", 1)
    unreleased = [outcome for outcome in Outcome if not outcome.released]
    held = [replace(_released(tmp_path / "run", 2 + i), outcome=o) for i, o in enumerate(unreleased)]
    data = _report(tmp_path, [released, *held])
    assert [image["alt"] for image in _parse(data).images()] == [f"Released image {released.id}"]


def test_tells_nothing_private(tmp_path: Path, rows: list[ImageResult]) -> None:
    two = "has 2 files that could be its alpha: holiday/x_alpha.png, holiday/x_alpha.tif. Keep one."
    leaky = [
        _held(8, Outcome.BROKEN, "ambiguous_companion", two),
        _held(9, Outcome.BROKEN, "internal_error", f"cannot be written to {tmp_path} (disk full)."),
        _held(10, Outcome.BROKEN, "cannot_read", "secret_name_10.png is on fire"),
    ]
    data = _report(tmp_path, rows + leaky).decode()
    paths = ["secret_name", "holiday", "x_alpha", "private_source", str(tmp_path)]
    for secret in [*paths, "feedface", "d1ced1ce", str(_SECRET_POINT)]:
        assert secret not in data
    assert data.count("told in private/ledger.jsonl only") == 3
    assert "review/queue.jsonl" in data
    for row in rows[3:]:
        assert row.id in data and row.detail is not None and row.detail in data


def test_loads_nothing_and_runs_nothing(tmp_path: Path, rows: list[ImageResult]) -> None:
    data = _report(tmp_path, rows).decode()
    assert "http://" not in data and "https://" not in data
    assert all(source.startswith("data:") for source in re.findall(r'src\s*=\s*"?([^"\s>]*)', data))
    page = _parse(data.encode())
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "form", "base"}
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert all((attrs.get("href") or "#").startswith("#") for _, attrs in page.tags)
    assert "@import" not in data and "url(" not in data


def test_escapes_odd_characters(tmp_path: Path) -> None:
    odd = "a <script>alert('1')</script> & \"x\" $headline \u202e\udcff\x00 end"
    row = _held(1, Outcome.BROKEN, "<b>code", odd)
    data = _report(tmp_path, [replace(row, id="<i>id")])
    page = _parse(data)
    assert not {"script", "b", "i"} & {tag for tag, _ in page.tags}
    assert "<script>alert('1')</script> & \"x\" $headline" in page.text
    assert "\u202e" not in page.text and "\x00" not in page.text


def test_same_run_gives_same_bytes(tmp_path: Path, rows: list[ImageResult]) -> None:
    assert _report(tmp_path, rows) == _report(tmp_path, rows)


def test_tables_have_captions_and_heads(tmp_path: Path, rows: list[ImageResult]) -> None:
    page = _parse(_report(tmp_path, rows))
    names = [tag for tag, _ in page.tags]
    assert names.count("table") == names.count("caption") == names.count("thead") > 6
    assert all(attrs.get("scope") in ("row", "col", "rowgroup") for tag, attrs in page.tags if tag == "th")
    anchors = {attrs["href"] for tag, attrs in page.tags if tag == "a"}
    assert anchors == {f"#{attrs['id']}" for tag, attrs in page.tags if tag == "section"}


@pytest.mark.parametrize("kind", ["images", "facemasks"])
def test_a_vanished_file_is_told_in_its_place(tmp_path: Path, rows: list[ImageResult], kind: str) -> None:
    (tmp_path / "run" / kind / rows[0].files[kind][0]).unlink()
    page = _parse(_report(tmp_path, rows))
    assert f"The {kind[:-1]} cannot be read (No such file or directory)." in page.text
    assert len(page.images()) == (2 if kind == "images" else 3)
    assert rows[0].id in page.text


def test_a_file_that_is_not_the_released_one_is_not_drawn(tmp_path: Path, rows: list[ImageResult]) -> None:
    clear = tmp_path / "run" / "images" / rows[0].files["images"][0]
    Image.fromarray(np.full((60, 90, 3), 200, np.uint8)).save(clear)
    page = _parse(_report(tmp_path, rows))
    assert "The image is not the file that was released." in page.text
    assert rows[0].id not in {(image["alt"] or "").split()[-1] for image in page.images()}


def test_released_file_that_no_decoder_reads(tmp_path: Path, rows: list[ImageResult]) -> None:
    name = rows[0].files["images"][0]
    (tmp_path / "run" / "images" / name).write_bytes(b"not a picture")
    rows[0] = replace(rows[0], files={**rows[0].files, "images": (name, sha256(b"not a picture"))})
    assert "The image or its facemask is not a picture" in _parse(_report(tmp_path, rows)).text


def test_many_released_images_are_sampled_evenly(tmp_path: Path) -> None:
    rows = [_released(tmp_path / "run", number) for number in range(100)]
    page = _parse(_report(tmp_path, rows))
    assert f"Showing {MOST_THUMBNAILS} of 100." in page.text
    shown = [int((image["alt"] or "").split()[-1], 16) for image in page.images()]
    assert len(shown) == MOST_THUMBNAILS and shown[0] == 0
    assert set(np.diff(shown).tolist()) <= {2, 3}


def test_a_long_queue_is_cut_and_says_so(tmp_path: Path) -> None:
    one = _held(0, Outcome.NEEDS_REVIEW, "no_face_found", "no detector finds a face")
    rows = [replace(one, id=f"held{number:016x}") for number in range(1500)]
    page = _parse(_report(tmp_path, rows))
    assert "the first 200 of 1,500 files" in page.text
    assert page.text.count("no detector finds a face") == 200


def test_an_empty_run(tmp_path: Path) -> None:
    text = _parse(_report(tmp_path, [])).text
    assert "0 source files: 0 released, 0 held back." in text and "Nothing was held back." in text


def test_names_settings_strength_and_models(tmp_path: Path, rows: list[ImageResult]) -> None:
    from p3mdata.faces import weights
    from p3mdata.version import __version__

    path = tmp_path / "report.html"
    write_report(_plan(tmp_path, len(rows), Settings(method="mosaic", min_side=77)), rows, path)
    text = _parse(path.read_bytes()).text
    assert "mosaic with cells as wide as 20% of each face's width" in text
    assert "min_side 77" in text and f"p3mdata {__version__}" in text
    assert all(name in text for name in Settings.model_fields)
    for model in weights.registry().values():
        assert model.sha256 in text and model.licence in text
    assert "can still tell who somebody is" in text


@pytest.mark.slow
def test_pages_fit_a_telephone(tmp_path: Path, rows: list[ImageResult]) -> None:
    browser = pytest.importorskip("tests.browser")
    long = "holds --boundary recomposite and a-name-that-is-rather-long-and-breaks-nowhere" * 2
    held = [_held(90, Outcome.BROKEN, "cannot_read", long), _held(91, Outcome.NEEDS_REVIEW, "redetected", long)]
    page = tmp_path / "page.html"
    page.write_bytes(_report(tmp_path, [*rows, *held], len(rows) + 2))
    duplicates = tmp_path / "duplicates.html"
    write_page(find_duplicates(tmp_path / "run" / "images"), duplicates)
    with browser.headless() as opened:
        for width in (400, 320):
            for shown in (page, duplicates):
                tab = opened.new_page(viewport={"width": width, "height": 800})
                tab.goto(shown.as_uri())
                assert tab.evaluate("document.documentElement.scrollWidth") <= width, (shown.name, width)
                # Names of options stand on one line.
                heights = tab.evaluate("[...document.querySelectorAll('.option')].map(e => e.getClientRects().length)")
                assert set(heights) <= {1} and (shown is duplicates or len(heights) > 1)
                tab.close()


def some_look() -> SecondLook:
    look = Looked("0" * 20, "key", 3, ((1.0, 2.0, 30.0, 40.0),), 1, {"both": 3, "centerface": 1, "yunet": 2}, True)
    return SecondLook("", 1, {"centerface": [640]}, 7, 3, False, {"broken": 1}, counted([look], {}))


def spoilt(value: Any) -> Iterator[Any]:
    """A JSON value with one part after another left out, or something else in its place."""
    parts: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        parts = list(value.items())
    elif isinstance(value, list):
        parts = list(enumerate(value))
    for key, part in parts:
        for other in (None, "x", -1, 1e999, 10**400, *spoilt(part)):
            yield {**value, key: other} if isinstance(value, dict) else [*value[:key], other, *value[key + 1 :]]
        left = {k: v for k, v in value.items() if k != key} if isinstance(value, dict) else None
        yield value[:key] + value[key + 1 :] if left is None else left


@pytest.mark.parametrize("name", [AUDIT, ATTACKERS, RECALL])
def test_a_damaged_file_of_an_audit_is_named_and_stops_nothing(name: str, tmp_path: Path) -> None:
    """A take-down writes the report last: whatever such a file holds, it is told, or named as damaged."""
    for file in (PLAN, MANIFEST):
        (tmp_path / file).write_bytes(b"")
    record = {AUDIT: some_audit(sha256(b"")), ATTACKERS: some_attackers(sha256(b"")), RECALL: some_look()}[name]
    row = {**json.loads(json.dumps(record.to_json())), "plan_sha256": sha256(b"")}

    def told(text: str) -> str:
        (tmp_path / name).write_text(text)
        return report._audit(tmp_path, None)

    assert "damaged" not in told(json.dumps(row))
    for text in ("", "[]", '{"', "[" * 10_000):
        assert f"{name} is damaged" in told(text)
    named = [f"{name} is damaged" in told(json.dumps(other)) for other in itertools.islice(spoilt(row), 0, None, 3)]
    assert sum(named) > len(named) / 2
