"""The report of a run: one HTML file, without scripts or network, that may be passed on with the release.

It draws released files only, after checking that they are the files that were released; of what was held back
it tells the id and the reason. No time and no path of a machine is in it: the same run gives the same bytes.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path, PurePosixPath
from string import Template

from p3mdata import __version__
from p3mdata.audit import audit_section, looked_at, read_audit
from p3mdata.config import Method, Settings
from p3mdata.errors import BrokenInput
from p3mdata.explain import thumbnail
from p3mdata.faces import weights
from p3mdata.files import sha256, write_atomic
from p3mdata.images import decode
from p3mdata.markup import Figure as _Figure
from p3mdata.markup import Html as _Html
from p3mdata.markup import cell as _cell
from p3mdata.markup import code as _code
from p3mdata.markup import count as _count
from p3mdata.markup import frame as _frame
from p3mdata.markup import lines as _lines
from p3mdata.markup import style as _style
from p3mdata.markup import table as _table
from p3mdata.markup import text as _text
from p3mdata.plan import Plan
from p3mdata.records import Action, ImageResult, Outcome

MOST_THUMBNAILS = 48
_THUMBNAIL_SIDE = 320
# Rows of one reason; a queue of thousands is for the review page, not for a report.
_MOST_ROWS = 200
# Sentences of these reasons carry paths.
_REASONS_WITH_PATHS = frozenset({"ambiguous_companion", "internal_error"})
_WITHHELD = "names files, so it is told in private/ledger.jsonl only"
_HELD = (
    (Outcome.NEEDS_REVIEW, "Review queue", "Why a person has to look", "review/queue.jsonl"),
    (Outcome.BROKEN, "Broken files", "The file ...", "private/ledger.jsonl"),
    (Outcome.EXCLUDED, "Excluded files", "The file ...", "private/ledger.jsonl"),
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


def _held_as(outcome: Outcome, title: str, column: str, where: str, plan: Plan, rows: Sequence[ImageResult]) -> str:
    """The held-back files of one outcome, grouped by reason."""
    groups: dict[str, list[ImageResult]] = {}
    for row in rows:
        if row.outcome is outcome:
            groups.setdefault(row.reason or "no reason recorded", []).append(row)
    if not groups:
        return ""
    bodies = []
    for code, number in _most_first(Counter({code: len(mine) for code, mine in groups.items()})):
        shown = groups[code][:_MOST_ROWS]
        files = _count(number, "file")
        said = files if len(shown) == number else f"the first {len(shown):,} of {files}"
        head = f'<tr><th scope="rowgroup" colspan="2">{_code(code)} - {said}</th></tr>'
        lines = _lines((_code(row.id), _reason(row, plan)) for row in shown)
        bodies.append(f"<tbody>\n{head}\n{lines}\n</tbody>")
    heads = "".join(_cell(name, "th", "col") for name in ("Id", column))
    note = f"<p>The names of these source files are in {_code(where)}, which stays with you.</p>"
    return _frame(title, heads, "\n".join(bodies)) + note


def _checked(plan: Plan, row: ImageResult, kind: str) -> tuple[bytes | None, str]:
    """A released file's bytes, or why they are not shown: a changed file could hold a clear face."""
    name, expected = row.files.get(kind, ("", ""))
    what = f"The {kind[:-1]}"
    try:
        data = (plan.job.out / kind / name).read_bytes() if name else b""
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


def _released(plan: Plan, released: Sequence[ImageResult]) -> _Html:
    number = min(MOST_THUMBNAILS, len(released))
    cards = (_card(plan, released[i * len(released) // number]) for i in range(number))
    grid = "\n".join(('<ul class="grid">', *cards, "</ul>")) if released else ""
    return _Html(f"<p>Showing {number:,} of {len(released):,}.</p>\n{grid}")


def _proofs(released: Sequence[ImageResult]) -> dict[str, str]:
    """Values of the template's table of proofs."""
    proofs = [row.proofs for row in released if row.proofs is not None]
    exact = [proof for proof in proofs if proof.exact]
    again = [proof.largest_deviation for proof in proofs if not proof.exact]
    sums = {
        "exact": len(exact),
        "changed_outside": sum(proof.changed_outside for proof in exact),
        "changed_in_transition": sum(proof.changed_in_transition for proof in exact),
        "reencoded": len(again),
        "metadata": sum(len(proof.metadata) for proof in proofs),
        "redetected": sum(proof.redetected for proof in proofs),
        "missed": sum(proof.missed for proof in proofs),
    }
    deviation = f"{max(again)} of 255" if again else "-"
    return {name: f"{number:,}" for name, number in sums.items()} | {"largest_deviation": deviation}


def _detection(looked: Sequence[ImageResult]) -> Iterator[str]:
    images = [
        (name, number, _share(number, len(looked)))
        for low, high, name in _FACE_COUNTS
        for number in [sum(low <= len(row.faces) <= high for row in looked)]
    ]
    yield f"<div>{_table('Faces per image', ('Faces', 'Images', 'Share'), images)}</div>"
    faces = [face for row in looked for face in row.faces]
    alone = Counter(face.seen_by[0] for face in faces if len(face.seen_by) == 1)
    without = Counter(face.no_landmarks or "no reason recorded" for face in faces if face.landmarks is None)
    kinds = (
        ("seen by both detectors", sum(len(face.seen_by) > 1 for face in faces)),
        *((f"seen by {name} only", number) for name, number in _most_first(alone)),
        ("with landmarks", len(faces) - without.total()),
        *((f"without landmarks: {why}", number) for why, number in _most_first(without)),
    )
    found = [(name, number, _share(number, len(faces))) for name, number in kinds]
    yield f"<div>{_table('How the faces were found', ('Faces', 'Number', 'Share'), found)}</div>"


_SAID = {
    Action.ACCEPT: "released as detected",
    Action.NO_FACE: "nothing to hide",
    Action.MASK: "masked as drawn",
    Action.EXCLUDE: "left out",
    Action.REMOVE: "taken down",
}


def _decisions(rows: Sequence[ImageResult]) -> _Html:
    """What people decided, if they decided anything."""
    said = [row.decision for row in rows if row.decision is not None]
    counts = Counter(decision.action for decision in said)
    lines: list[tuple[str, str, int]] = [
        (_code(action.value), words, counts[action]) for action, words in _SAID.items() if counts[action]
    ]
    special = {
        "the transition area inside the drawn mask is obfuscated too": sum(d.keep_transition for d in said),
        "released although detectors see a face outside the mask": sum(d.confirmed for d in said),
    }
    lines += [("of those", words, number) for words, number in special.items() if number]
    return _table("Decisions of people", ("Decision", "Meaning", "Images"), lines)


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
        rows: One result per source file, in source order.
        path: The HTML file to write.

    Raises:
        OSError: The report cannot be written.
    """
    settings = plan.job.settings
    method, strength = settings.obfuscation()
    counts = Counter(row.outcome for row in rows)
    released = [row for row in rows if row.outcome.released]
    looked = [row for row in rows if row.outcome not in (Outcome.BROKEN, Outcome.EXCLUDED)]
    headline, lead = _headline(plan.samples, counts)
    audit = audit_section(read_audit(plan.job.out), looked_at(plan.job.out, rows))
    template = resources.files("p3mdata").joinpath("templates/report.html").read_text(encoding="utf-8")
    page = Template(template).substitute(
        style=_style(),
        headline=_text(headline),
        lead=_text(lead),
        **_outcomes(plan.samples, counts),
        decisions=_decisions(rows),
        held="".join(_held_as(*kind, plan, rows) for kind in _HELD) or "<p>Nothing was held back.</p>",
        released=_released(plan, released),
        **_proofs(released),
        encodings=_table(
            "Images by encoding",
            ("Encoding", "Images"),
            _most_first(Counter(row.encoding or "not recorded" for row in released)),
        ),
        faces=_text(_count(sum(len(row.faces) for row in looked), "face")),
        looked=_text(_count(len(looked), "image")),
        detection="".join(_detection(looked)),
        preset=_text(settings.preset.value),
        strength=_text(_STRENGTH[method].format(100 * strength)),
        companions=_text(", ".join(plan.to_json()["companions"]) or "nothing"),
        settings=_settings(plan),
        audit=audit,
        audit_link='<a href="#audit">Audit</a>' if audit else "",
        version=_text(__version__),
    )
    write_atomic(path, page.encode("utf-8"))
