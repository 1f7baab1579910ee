"""The report of a run: one HTML file, without scripts or network, that may be passed on with the release.

It draws released files only, after checking that they are the files that were released; of what was held back
it tells the id and the reason. No time and no path of a machine is in it: the same run gives the same bytes.
"""

from __future__ import annotations

import array
import base64
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path, PurePosixPath
from string import Template
from typing import Any

from p3mdata.base.files import sha256, write_atomic
from p3mdata.base.html import Figure as _Figure
from p3mdata.base.html import Html as _Html
from p3mdata.base.html import cell as _cell
from p3mdata.base.html import code as _code
from p3mdata.base.html import count as _count
from p3mdata.base.html import frame as _frame
from p3mdata.base.html import lines as _lines
from p3mdata.base.html import style as _style
from p3mdata.base.html import table as _table
from p3mdata.base.html import text as _text
from p3mdata.base.jsonl import read_json
from p3mdata.config import Method, Settings
from p3mdata.errors import BrokenInput
from p3mdata.faces import weights
from p3mdata.imaging import decode
from p3mdata.imaging.draw import thumbnail
from p3mdata.records import Action, Face, ImageResult, Outcome, Proofs
from p3mdata.run.layout import AUDIT, LEDGER, MANIFEST, QUEUE
from p3mdata.run.plan import Plan
from p3mdata.run.released import read_released
from p3mdata.run.report_audit import audit_section
from p3mdata.run.sampling import looked_at
from p3mdata.version import __version__

MOST_THUMBNAILS = 48
_THUMBNAIL_SIDE = 320
# Rows of one reason; a queue of thousands is for the review page, not for a report.
_MOST_ROWS = 200
# Sentences of these reasons carry paths.
_REASONS_WITH_PATHS = frozenset({"ambiguous_companion", "internal_error"})
_WITHHELD = "names files, so it is told in private/ledger.jsonl only"
_HELD = (
    (Outcome.NEEDS_REVIEW, "Review queue", "Why a person has to look", QUEUE),
    (Outcome.BROKEN, "Broken files", "The file ...", LEDGER),
    (Outcome.EXCLUDED, "Excluded files", "The file ...", LEDGER),
)
_FACE_COUNTS = ((0, 0, "none"), (1, 1, "1"), (2, 2, "2"), (3, 5, "3 to 5"), (6, 10**9, "6 or more"))
_STRENGTH = {
    Method.BLUR: "Gaussian blur with a standard deviation of {:g}% of each face's width",
    Method.MOSAIC: "mosaic with cells as wide as {:g}% of each face's width",
    Method.ZERO: "everything inside the masks is black",
}


def _share(part: int, total: int) -> _Figure:
    return _Figure(f"{100 * part / max(total, 1):.1f}%")


def _most_first(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def _headline(samples: int, counts: Counter[Outcome]) -> tuple[str, str]:
    held = {"for a person to look at": counts[Outcome.NEEDS_REVIEW], "broken": counts[Outcome.BROKEN]}
    held["excluded"] = counts[Outcome.EXCLUDED]
    number, files = sum(held.values()), _count(samples, "source file")
    parts = ", ".join(f"{n:,} {what}" for what, n in held.items() if n)
    lead = f"Held back: {parts}." if parts else "Every source file was released."
    return f"{files}: {counts.total() - number:,} released, {number:,} held back.", lead


def _outcomes(samples: int, counts: Counter[Outcome]) -> dict[str, str]:
    """Values of the template's table of outcomes."""
    total = counts.total()
    values = {f"n_{outcome.value}": f"{counts[outcome]:,}" for outcome in Outcome}
    values |= {f"share_{outcome.value}": _share(counts[outcome], samples) for outcome in Outcome}
    fits = "add up" if total == samples else f"do not add up to the {samples:,} of the plan"
    return {**values, "total": f"{total:,}", "fits": fits}


def _reason(row: ImageResult, plan: Plan) -> str:
    """The sentence about one image, unless it could give away a file name or a path."""
    sentence = row.detail or ""
    private = {row.source, PurePosixPath(row.source).name, str(plan.job.source), str(plan.job.out)}
    named = any(name in sentence for name in private - {"", "."})
    return _WITHHELD if named or row.reason in _REASONS_WITH_PATHS else sentence


def _held_as(outcome: Outcome, title: str, column: str, where: str, figures: _Figures) -> str:
    """The held-back files of one outcome, grouped by reason."""
    counts = Counter({code: number for (kind, code), number in figures.held.items() if kind is outcome})
    if not counts:
        return ""
    bodies = []
    for code, number in _most_first(counts):
        shown = figures.shown[outcome, code]
        files = _count(number, "file")
        said = files if len(shown) == number else f"the first {len(shown):,} of {files}"
        head = f'<tr><th scope="rowgroup" colspan="2">{_code(code)} - {said}</th></tr>'
        lines = _lines((_code(identity), sentence) for identity, sentence in shown)
        bodies.append(f"<tbody>\n{head}\n{lines}\n</tbody>")
    heads = "".join(_cell(name, "th", "col") for name in ("Id", column))
    note = f"<p>The names of these source files are in {_code(where)}, which stays with you.</p>"
    return _frame(title, heads, "\n".join(bodies)) + note


def _checked(plan: Plan, row: ImageResult, kind: str) -> tuple[bytes | None, str]:
    """A released file's bytes, or why they are not shown: a changed file could hold a clear face."""
    name, expected = row.files.get(kind, ("", ""))
    what = f"The {kind[:-1]}"
    try:
        data = read_released(plan.job, f"{kind}/{name}") if name else b""
    except OSError as exc:
        return None, f"{what} cannot be read ({exc.strerror})."
    if not data:
        return None, f"{what} is missing."
    if sha256(data) != expected:
        return None, f"{what} is not the file that was released."
    return data, ""


def _drawn(plan: Plan, row: ImageResult) -> tuple[_Html, str]:
    """The thumbnail of a released image and a remark; a sentence in its place when it cannot be shown."""
    data, problem = _checked(plan, row, "images")
    if data is None:
        return _Html(f"<p>{_text(problem)}</p>"), ""
    mask_data, remark = _checked(plan, row, "facemasks")
    try:
        most = plan.job.settings.max_pixels
        mask = None if mask_data is None else decode(mask_data, most).pixels > 0
        small, width, height = thumbnail(decode(data, most), mask, _THUMBNAIL_SIDE)
    except BrokenInput as exc:
        return _Html(f"<p>The image or its facemask {_text(exc.sentence)}</p>"), ""
    source = f"data:image/jpeg;base64,{base64.b64encode(small).decode()}"
    alt = f"Released image {_text(row.id)}"
    return _Html(f'<img width="{width}" height="{height}" alt="{alt}" src="{source}">'), remark


def _card(plan: Plan, row: ImageResult) -> str:
    drawn, remark = _drawn(plan, row)
    facts = [f"{row.width} x {row.height} px", _count(len(row.faces), "face"), row.method, row.encoding]
    if row.masked_share is not None:
        facts.append(f"{100 * row.masked_share:.2f}% masked")
    if row.outcome is not Outcome.ANONYMIZED:
        facts.append(row.outcome.value.replace("_", " "))
    line = _text(", ".join(fact for fact in (*facts, remark) if fact))
    caption = f"<figcaption>{_code(row.id)}<br>{line}</figcaption>"
    return f'<li><figure><div class="frame">{drawn}</div>{caption}</figure></li>'


def _released(plan: Plan, rows: Sequence[ImageResult], places: Sequence[int]) -> _Html:
    """Thumbnails of released images, spread evenly over `places`, their positions in `rows`."""
    number = min(MOST_THUMBNAILS, len(places))
    cards = (_card(plan, rows[places[i * len(places) // number]]) for i in range(number))
    grid = "\n".join(('<ul class="grid">', *cards, "</ul>")) if places else ""
    return _Html(f"<p>Showing {number:,} of {len(places):,}.</p>\n{grid}")


class _Figures:
    """What the report says about all rows, counted in one pass: a run may have millions."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.outcomes: Counter[Outcome] = Counter()
        self.held: Counter[tuple[Outcome, str]] = Counter()
        self.shown: dict[tuple[Outcome, str], list[tuple[str, str]]] = {}
        self.places = array.array("Q")
        self.proofs: Counter[str] = Counter()
        self.again: list[int] = []
        self.encodings: Counter[str] = Counter()
        self.looked = self.faces = self.together = 0
        self.per_image: Counter[str] = Counter()
        self.alone: Counter[str] = Counter()
        self.without: Counter[str] = Counter()
        self.said: Counter[Action] = Counter()
        self.kept_transition = self.confirmed = 0

    def add(self, place: int, row: ImageResult) -> None:
        """Count one row; `place` is its position."""
        self.outcomes[row.outcome] += 1
        if row.outcome.released:
            self.places.append(place)
            self.encodings[row.encoding or "not recorded"] += 1
            self._add_proofs(row.proofs)
        else:
            key = row.outcome, row.reason or "no reason recorded"
            self.held[key] += 1
            shown = self.shown.setdefault(key, [])
            if len(shown) < _MOST_ROWS:
                shown.append((row.id, _reason(row, self._plan)))
        if row.outcome not in (Outcome.BROKEN, Outcome.EXCLUDED):
            self._add_faces(row.faces)
        if row.decision is not None:
            self.said[row.decision.action] += 1
            self.kept_transition += row.decision.keep_transition
            self.confirmed += row.decision.confirmed

    def _add_proofs(self, proofs: Proofs | None) -> None:
        if proofs is None:
            return
        if proofs.exact:
            self.proofs["exact"] += 1
            self.proofs["changed_outside"] += proofs.changed_outside
            self.proofs["changed_in_transition"] += proofs.changed_in_transition
        else:
            self.proofs["reencoded"] += 1
            self.again = [max(proofs.largest_deviation, *self.again)] if self.again else [proofs.largest_deviation]
        self.proofs["metadata"] += len(proofs.metadata)
        self.proofs["redetected"] += proofs.redetected
        self.proofs["missed"] += proofs.missed

    def _add_faces(self, faces: Sequence[Face]) -> None:
        self.looked += 1
        self.faces += len(faces)
        self.per_image[next(name for low, high, name in _FACE_COUNTS if low <= len(faces) <= high)] += 1
        for face in faces:
            if len(face.seen_by) == 1:
                self.alone[face.seen_by[0]] += 1
            self.together += len(face.seen_by) > 1
            if face.landmarks is None:
                self.without[face.no_landmarks or "no reason recorded"] += 1

    def proof_values(self) -> dict[str, str]:
        """Values of the template's table of proofs."""
        names = ("exact", "changed_outside", "changed_in_transition", "reencoded", "metadata", "redetected", "missed")
        deviation = f"{self.again[0]} of 255" if self.again else "-"
        return {name: f"{self.proofs[name]:,}" for name in names} | {"largest_deviation": deviation}

    def detection(self) -> Iterator[str]:
        """Tables of faces per image and of how they were found."""
        images = [(name, self.per_image[name], _share(self.per_image[name], self.looked)) for *_, name in _FACE_COUNTS]
        yield f"<div>{_table('Faces per image', ('Faces', 'Images', 'Share'), images)}</div>"
        kinds = (
            ("seen by both detectors", self.together),
            *((f"seen by {name} only", number) for name, number in _most_first(self.alone)),
            ("with landmarks", self.faces - self.without.total()),
            *((f"without landmarks: {why}", number) for why, number in _most_first(self.without)),
        )
        found = [(name, number, _share(number, self.faces)) for name, number in kinds]
        yield f"<div>{_table('How the faces were found', ('Faces', 'Number', 'Share'), found)}</div>"

    def decisions(self) -> _Html:
        """What people decided, if they decided anything."""
        lines: list[tuple[str, str, int]] = [
            (_code(action.value), words, self.said[action]) for action, words in _SAID.items() if self.said[action]
        ]
        special = {
            "the transition area inside the drawn mask is obfuscated too": self.kept_transition,
            "released although detectors see a face outside the mask": self.confirmed,
        }
        lines += [("of those", words, number) for words, number in special.items() if number]
        return _table("Decisions of people", ("Decision", "Meaning", "Images"), lines)


_SAID = {
    Action.ACCEPT: "released as detected",
    Action.NO_FACE: "nothing to hide",
    Action.MASK: "masked as drawn",
    Action.EXCLUDE: "left out",
    Action.REMOVE: "taken down",
}


def _settings(plan: Plan) -> _Html:
    values = plan.job.settings.model_dump(mode="json")
    chosen = [
        (_code(name), _code("-" if values[name] is None else values[name]), field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    files = [file for _, file in sorted(weights.registry().items())]
    models = [(file.file, file.role, file.licence, _code(file.sha256, "hash"), file.origin) for file in files]
    return _Html(
        _table("Settings", ("Setting", "Value", "Meaning"), chosen)
        + _table("Model files", ("File", "Role", "Licence", "SHA-256", "Origin"), models)
    )


def write_report(plan: Plan, rows: Sequence[ImageResult], path: Path) -> None:
    """Write the report of a finished run.

    Args:
        plan: The run's plan; released files are read from its run folder, one at a time.
        rows: One result per source file, in source order; gone through once, and asked for those that are drawn.
        path: The HTML file to write.

    Raises:
        OSError: The report cannot be written.
    """
    settings = plan.job.settings
    method, strength = settings.obfuscation()
    figures = _Figures(plan)

    def counted() -> Iterator[ImageResult]:
        for place, row in enumerate(rows):
            figures.add(place, row)
            yield row

    # The sample's part goes through all rows, and everything is counted on the way.
    sample = looked_at(plan.job.out, counted())
    audit = audit_section(read_audit(plan.job.out), sample)
    headline, lead = _headline(plan.samples, figures.outcomes)
    template = resources.files("p3mdata").joinpath("templates/report.html").read_text(encoding="utf-8")
    page = Template(template).substitute(
        style=_style(),
        headline=_text(headline),
        lead=_text(lead),
        **_outcomes(plan.samples, figures.outcomes),
        decisions=figures.decisions(),
        held="".join(_held_as(*kind, figures) for kind in _HELD) or "<p>Nothing was held back.</p>",
        released=_released(plan, rows, figures.places),
        **figures.proof_values(),
        encodings=_table(
            "Images by encoding",
            ("Encoding", "Images"),
            _most_first(figures.encodings),
        ),
        faces=_text(_count(figures.faces, "face")),
        looked=_text(_count(figures.looked, "image")),
        detection="".join(figures.detection()),
        preset=_text(settings.preset.value),
        strength=_text(_STRENGTH[method].format(100 * strength)),
        companions=_text(", ".join(plan.to_json()["companions"]) or "nothing"),
        settings=_settings(plan),
        audit=audit,
        audit_link='<a href="#audit">Audit</a>' if audit else "",
        version=_text(__version__),
    )
    write_atomic(path, page.encode("utf-8"))


def read_audit(out: Path) -> dict[str, Any] | None:
    """What audit.json of a run holds, or None when there is none, or it was made of other released files."""
    if not (out / AUDIT).is_file() or not (out / MANIFEST).is_file():
        return None
    row = read_json(out / AUDIT)
    return row if row.get("manifest_sha256") == sha256((out / MANIFEST).read_bytes()) else None
