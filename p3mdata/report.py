"""The report of a run: one HTML file without scripts or network that may be passed on together with the release.

It draws released files only, after checking that they are the files that were released; of everything held back it
tells the id and the reason. No time and no path of this machine appears in it: the same run gives the same bytes.
"""

from __future__ import annotations

import base64
import html
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path, PurePosixPath
from string import Template
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from p3mdata import __version__
from p3mdata.config import Method, Settings
from p3mdata.errors import BrokenInput
from p3mdata.faces import weights
from p3mdata.images import Picture, decode, sha256, write_atomic
from p3mdata.plan import Plan
from p3mdata.records import ImageResult, Outcome, Proofs

THUMBNAIL_SIDE = 320
MOST_THUMBNAILS = 48
# Rows of one reason; a queue of thousands is for the review page, not for a report.
_MOST_ROWS = 200
_THUMBNAIL_QUALITY = 82
# Outline of the facemask on thumbnails, RGB: yellow within black shows on every picture.
_OUTLINE, _OUTLINE_RIM = (255, 214, 10), (0, 0, 0)
# Sentences of these reasons carry paths.
_REASONS_WITH_PATHS = frozenset({"ambiguous_companion", "cannot_write", "internal_error"})
_WITHHELD = "names files, so it is told in private/ledger.jsonl only"
_MEANING = {
    Outcome.ANONYMIZED: ("good", "every face found is masked and all proofs hold: released"),
    Outcome.NO_FACE_CONFIRMED: ("good", "a person, or --trust-no-face, says that nobody's face is in it: released"),
    Outcome.MASKED_BY_HAND: ("good", "a person drew the mask and all proofs hold: released"),
    Outcome.NEEDS_REVIEW: ("wait", "something is in doubt, a person has to decide: held back"),
    Outcome.EXCLUDED: ("idle", "left out by a rule or by a person: held back"),
    Outcome.BROKEN: ("bad", "the file, or one that belongs to it, cannot be used: held back"),
}
_FACES_PER_IMAGE = ((0, 0, "no face"), (1, 1, "1 face"), (2, 2, "2 faces"), (3, 5, "3 to 5"), (6, 10**9, "6 or more"))
_STRENGTH = {
    Method.BLUR: "Gaussian blur with a standard deviation of {:g} % of each face's width",
    Method.MOSAIC: "mosaic with cells as wide as {:g} % of each face's width",
    Method.ZERO: "everything inside the masks is black",
}


class _Html(str):
    """Text that is HTML already; all other text is escaped when it enters the page."""


class _Figure(str):
    """A number with its unit, set like a number."""


def _text(value: object) -> _Html:
    """Escaped text; characters that no HTML file may hold, or that change the direction of reading, become a box."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))
    return _Html(html.escape(shown))


def _code(value: object, kind: str = "") -> _Html:
    return _Html(f'<code class="{kind}">{_text(value)}</code>' if kind else f"<code>{_text(value)}</code>")


def _cell(value: object, tag: str = "td", scope: str = "") -> str:
    kind = ' class="number"' if isinstance(value, int | _Figure) else ""
    scope = f' scope="{scope}"' if scope else ""
    shown = f"{value:,}" if isinstance(value, int) else value
    return f"<{tag}{scope}{kind}>{shown if isinstance(shown, _Html) else _text(shown)}</{tag}>"


def _lines(rows: Iterable[Sequence[object]]) -> str:
    """Table rows; the first cell is the row's head."""
    return "\n".join(
        f"<tr>{_cell(row[0], 'th', 'row')}{''.join(_cell(value) for value in row[1:])}</tr>" for row in rows
    )


def _frame(caption: str, heads: str, bodies: str, kind: str = "") -> _Html:
    """A table that can be scrolled sideways where the page is narrower than the table."""
    return _Html(
        f'<div class="scroll {kind}" role="region" tabindex="0" aria-label="{_text(caption)}"><table>'
        f"<caption>{_text(caption)}</caption>\n<thead><tr>{heads}</tr></thead>\n{bodies}\n</table></div>"
    )


def _table(caption: str, head: Sequence[str], rows: Iterable[Sequence[object]], kind: str = "") -> _Html:
    """A table; its columns are headed in the alignment of their cells."""
    body = list(rows)
    if not body:
        return _Html("")
    right = [isinstance(value, int | _Figure) for value in body[0]]
    heads = "".join(_cell(_Figure(h) if r else h, "th", "col") for h, r in zip(head, right, strict=True))
    return _frame(caption, heads, f"<tbody>\n{_lines(body)}\n</tbody>", kind)


def _files(count: int, noun: str = "source file") -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _share(part: int, total: int) -> _Figure:
    return _Figure(f"{100 * part / max(total, 1):.1f}%")


def _headline(samples: int, counts: Counter[Outcome]) -> tuple[str, str]:
    released = sum(count for outcome, count in counts.items() if outcome.released)
    held = sum(counts.values()) - released
    headline = f"{_files(samples)}: {released:,} released, {held:,} held back."
    waiting, broken, excluded = (counts[o] for o in (Outcome.NEEDS_REVIEW, Outcome.BROKEN, Outcome.EXCLUDED))
    if not held:
        return headline, "Every source file was released."
    parts = ((waiting, "for a person to look at"), (broken, "broken"), (excluded, "excluded"))
    return headline, "Held back: " + ", ".join(f"{count:,} {what}" for count, what in parts if count) + "."


def _outcomes(samples: int, counts: Counter[Outcome]) -> _Html:
    def row(outcome: Outcome) -> tuple[object, ...]:
        kind, meaning = _MEANING[outcome]
        width = 100 * counts[outcome] / max(samples, 1)
        bar = f'<span class="track {kind}"><span class="fill" style="width:{width:.2f}%"></span></span>'
        name = f'{_code(outcome.value)}<br><span class="soft">{_text(meaning)}</span>'
        return _Html(name), counts[outcome], _share(counts[outcome], samples), _Html(bar)

    total = sum(counts.values())
    fits = "the outcomes add up" if total == samples else f"the outcomes do not add up to the {samples:,} of the plan"
    last = (f"All source files: {fits}", total, _share(total, samples), "")
    return _table("What became of the source files", ("Outcome", "Files", "Share", ""), [*map(row, _MEANING), last])


def _reason(row: ImageResult, plan: Plan) -> str:
    """The sentence about one image, unless it could give away a file name or a path."""
    sentence = row.detail or row.reason or ""
    private = {row.source, PurePosixPath(row.source).name, str(plan.job.source), str(plan.job.out)} - {"", "."}
    if row.reason in _REASONS_WITH_PATHS or any(name in sentence for name in private):
        return _WITHHELD
    return sentence


def _held_rows(title: str, column: str, where: str, plan: Plan, rows: Sequence[ImageResult]) -> Iterable[str]:
    """Tables of the held-back files of one outcome: how many for each reason, then each file, in groups."""
    groups: dict[str, list[ImageResult]] = {}
    for row in rows:
        groups.setdefault(row.reason or "no reason recorded", []).append(row)
    ordered = sorted(groups.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    yield _table(title, ("Reason", "Files"), [(_code(code), len(mine)) for code, mine in ordered], "small")
    yield f"<p>The names of these source files are in {_code(where)}, which stays with you.</p>"
    bodies = []
    for code, mine in ordered:
        shown = mine[:_MOST_ROWS]
        count = f"{len(mine):,}" if len(shown) == len(mine) else f"the first {len(shown):,} of {len(mine):,}"
        head = f'<tr><th scope="rowgroup" colspan="2">{_code(code)}, {count}</th></tr>'
        bodies.append(f"<tbody>\n{head}\n{_lines((_code(row.id), _reason(row, plan)) for row in shown)}\n</tbody>")
    yield _frame(f"{title}, each", "".join(_cell(name, "th", "col") for name in ("Id", column)), "\n".join(bodies))


def _held(plan: Plan, rows: Sequence[ImageResult]) -> _Html:
    kinds = (
        (Outcome.NEEDS_REVIEW, "Review queue", "Why a person has to look", "review/queue.jsonl"),
        (Outcome.BROKEN, "Broken files", "The file ...", "private/ledger.jsonl"),
        (Outcome.EXCLUDED, "Excluded files", "The file ...", "private/ledger.jsonl"),
    )
    parts: list[str] = []
    for outcome, title, column, where in kinds:
        if mine := [row for row in rows if row.outcome is outcome]:
            parts += _held_rows(title, column, where, plan, mine)
    return _Html("\n".join(parts) or "<p>Nothing was held back.</p>")


def thumbnail(picture: Picture, width: int, height: int, enlarge: bool = False) -> NDArray[np.uint8]:
    """What a viewer shows of a picture, fitted into width x height: RGB in sRGB, transparency over grey."""
    shown = picture.over_grey()
    shown = picture.rgb8() if shown is None else shown
    rows, cols = picture.size
    factor = min(width / cols, height / rows)
    factor = factor if enlarge else min(1.0, factor)
    size = max(1, round(cols * factor)), max(1, round(rows * factor))
    small = cv2.resize(shown, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST)
    if picture.icc and picture.pixels.ndim == 3:
        # `decode` keeps a profile only when it could be read.
        profile = ImageCms.ImageCmsProfile(io.BytesIO(picture.icc))
        turned = ImageCms.profileToProfile(Image.fromarray(small), profile, ImageCms.createProfile("sRGB"))
        small = np.array(turned)
    return np.asarray(small, np.uint8)


def outline(canvas: NDArray[np.uint8], mask: NDArray[Any], colour: tuple[int, int, int], rim: tuple[int, int, int]) -> None:
    """Draw the edge of a mask (any size, nonzero = inside) on an RGB canvas, in place."""
    scaled = cv2.resize((mask > 0).astype(np.float32), canvas.shape[1::-1], interpolation=cv2.INTER_AREA)
    # A mask smaller than a pixel of the canvas must still show, and the line must not hide what it surrounds.
    grown = cv2.dilate((scaled > 0.1).astype(np.uint8), np.ones((3, 3), np.uint8))
    contours, _ = cv2.findContours(grown, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, contours, -1, rim, 3, cv2.LINE_AA)
    cv2.drawContours(canvas, contours, -1, colour, 1, cv2.LINE_AA)


def _checked(plan: Plan, row: ImageResult, kind: str) -> tuple[bytes | None, str | None]:
    """A released file's bytes, or why they are not shown. A changed file could hold anything, a clear face as well."""
    name, expected = row.files.get(kind, ("", ""))
    what = kind[:-1]
    try:
        data = (plan.job.out / kind / name).read_bytes() if name else None
    except OSError:
        data = None
    if data is None:
        return None, f"The {what} is missing."
    return (data, None) if sha256(data) == expected else (None, f"The {what} is not the file that was released.")


def _drawn(plan: Plan, row: ImageResult) -> tuple[_Html, str | None]:
    """The thumbnail of a released image and a remark; a sentence in its place when it cannot be shown."""
    data, missing = _checked(plan, row, "images")
    try:
        canvas = None if data is None else thumbnail(
            decode(data, plan.job.settings.max_pixels), THUMBNAIL_SIDE, THUMBNAIL_SIDE
        )
    except BrokenInput as exc:
        canvas, missing = None, f"The image {exc.sentence}"
    if canvas is None:
        return _Html(f"<p>{_text(missing)}</p>"), None
    mask_data, remark = _checked(plan, row, "facemasks")
    if mask_data is not None:
        mask = cv2.imdecode(np.frombuffer(mask_data, np.uint8), cv2.IMREAD_GRAYSCALE)
        remark = None if mask is not None else "The facemask cannot be read."
        if mask is not None:
            outline(canvas, np.asarray(mask), _OUTLINE, _OUTLINE_RIM)
    sink = io.BytesIO()
    Image.fromarray(canvas).save(sink, "JPEG", quality=_THUMBNAIL_QUALITY, optimize=True)
    height, width = canvas.shape[:2]
    content = base64.b64encode(sink.getvalue()).decode()
    tag = f'<img width="{width}" height="{height}" alt="Released image {_text(row.id)}" src="data:image/jpeg;base64,{content}">'
    return _Html(tag), remark


def _card(plan: Plan, row: ImageResult) -> str:
    drawn, remark = _drawn(plan, row)
    facts = [f"{row.width} x {row.height} px", _files(len(row.faces), "face"), row.method, row.encoding]
    if row.masked_share is not None:
        facts.append(f"{100 * row.masked_share:.2f}% masked")
    if row.outcome is not Outcome.ANONYMIZED:
        facts.append(row.outcome.value.replace("_", " "))
    facts.append(remark)
    line = ", ".join(str(_text(fact)) for fact in facts if fact)
    return f'<li><figure><div class="frame">{drawn}</div><figcaption>{_code(row.id)}<br>{line}</figcaption></figure></li>'


def evenly(rows: Sequence[ImageResult], most: int) -> list[ImageResult]:
    """At most `most` rows, spread evenly over all of them."""
    return [rows[i * len(rows) // most] for i in range(most)] if len(rows) > most else list(rows)


def _released(plan: Plan, released: Sequence[ImageResult]) -> _Html:
    if not released:
        return _Html("<p>No image was released.</p>")
    shown = evenly(released, MOST_THUMBNAILS)
    intro = (
        f"<p>Showing {len(shown):,} of {len(released):,}, as small copies of the released files. The yellow line runs "
        "around the facemask, inside which the picture was obfuscated.</p>"
    )
    return _Html("\n".join((intro, '<ul class="grid">', *(_card(plan, row) for row in shown), "</ul>")))


def _proofs(released: Sequence[ImageResult]) -> _Html:
    proofs = [row.proofs for row in released if row.proofs is not None]
    exact: list[Proofs] = [proof for proof in proofs if proof.exact]
    again = [proof for proof in proofs if not proof.exact]
    deviation = f"{max(proof.largest_deviation for proof in again)} of 255" if again else "none compressed"
    measured = (
        ("Images that must be exact outside the mask", len(exact)),
        ("Pixels changed outside the masks, all exact images together", sum(p.changed_outside for p in exact)),
        ("Pixels changed in transition areas, all exact images together", sum(p.changed_in_transition for p in exact)),
        ("Images compressed again as a whole", len(again)),
        ("Largest deviation of a pixel outside the mask in these", _Figure(deviation)),
        ("Metadata parts left that are not on the allow-list", sum(len(p.metadata) for p in proofs)),
        ("Faces the detectors find again on the released images", sum(p.redetected for p in proofs)),
        ("Of those, faces outside a mask", sum(p.missed for p in proofs)),
    )
    encodings = sorted(Counter(row.encoding or "" for row in released).items(), key=lambda pair: (-pair[1], pair[0]))
    return _Html(
        "<p>Measured by opening each released file again and comparing it with its source. Detectors may fire on a "
        "masked face, for hair and outline are still there; an image with one outside its mask is held back.</p>"
        f'<div class="columns">{_table("Measured on released files", ("Proof", "Result"), measured)}'
        f'{_table("Images by encoding", ("Encoding", "Images"), encodings)}</div>'
    )


def _detection(rows: Sequence[ImageResult]) -> _Html:
    looked = [row for row in rows if row.outcome not in (Outcome.BROKEN, Outcome.EXCLUDED)]
    faces = [face for row in looked for face in row.faces]
    per_image = [
        (name, number, _share(number, len(looked)))
        for low, high, name in _FACES_PER_IMAGE
        for number in [sum(low <= len(row.faces) <= high for row in looked)]
    ]
    both = sum(len(face.seen_by) > 1 for face in faces)
    alone = Counter(face.seen_by[0] for face in faces if len(face.seen_by) == 1)
    without = Counter(face.no_landmarks or "no reason recorded" for face in faces if face.landmarks is None)
    kinds: list[tuple[str, int]] = [("Seen by both detectors", both)]
    kinds += [(f"Seen by {name} only", n) for name, n in sorted(alone.items())]
    kinds += [("With landmarks", len(faces) - sum(without.values()))]
    kinds += [(f"Without landmarks: {why}", n) for why, n in sorted(without.items())]
    found = [(name, n, _share(n, len(faces))) for name, n in kinds]
    return _Html(
        f"<p>{_files(len(faces), 'face')} in {_files(len(looked), 'image')}, the ones in the review queue included.</p>"
        f'<div class="columns">{_table("Faces per image", ("Faces", "Images", "Share"), per_image)}'
        f'{_table("How the faces were found", ("Faces", "Number", "Share"), found)}</div>'
    )


def _settings(plan: Plan) -> _Html:
    settings = plan.job.settings
    method, strength = settings.obfuscation()
    sentence = f"Preset {settings.preset.value}: {_STRENGTH[method].format(100 * strength)}."
    companions = ", ".join(k for k in ("alphas", "trimaps", "masks") if getattr(plan.job, k)) or "none"
    values = settings.model_dump(mode="json")
    chosen = [
        (_code(name), _code("-" if values[name] is None else values[name]), field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    models = [
        (w.file, w.role, w.licence, _code(w.sha256, "hash"), w.origin)
        for _, w in sorted(weights.registry().items())
    ]
    return _Html(
        f"<p>{_text(sentence)} Given with the photographs: {_text(companions)}.</p>"
        + _table("Settings", ("Setting", "Value", "Meaning"), chosen)
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
    counts = Counter(row.outcome for row in rows)
    released = [row for row in rows if row.outcome.released]
    headline, lead = _headline(plan.samples, counts)
    template = resources.files("p3mdata").joinpath("templates/report.html").read_text(encoding="utf-8")
    page = Template(template).substitute(
        title=_text(f"p3mdata: {headline.rstrip('.')}"),
        headline=_text(headline),
        lead=_text(lead),
        outcomes=_outcomes(plan.samples, counts),
        held=_held(plan, rows),
        released=_released(plan, released),
        proofs=_proofs(released),
        detection=_detection(rows),
        settings=_settings(plan),
        tool=_text(f"p3mdata {__version__}"),
    )
    write_atomic(path, page.encode("utf-8"))
