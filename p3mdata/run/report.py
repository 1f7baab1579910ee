"""The report of a run: one HTML file, without scripts or network, that may be passed on with the release.

It draws released files only, after checking that they are the files that were released; of what was held back
it tells the id and the reason. No time and no path of a machine is in it: the same run gives the same bytes.
"""

from __future__ import annotations

import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from p3mdata.base.files import sha256, write_atomic
from p3mdata.base.html import Code, Figure, Picture, Rendered, Table, count, picture, render, table
from p3mdata.base.jsonl import read_json
from p3mdata.config import Names, Settings
from p3mdata.errors import BrokenInput, RunFolderError
from p3mdata.faces import weights
from p3mdata.imaging import decode
from p3mdata.imaging.draw import thumbnail
from p3mdata.imaging.listing import PassedOver
from p3mdata.records import Action, Face, ImageResult, Outcome
from p3mdata.run.attackers import read_attackers
from p3mdata.run.audit import read_audit
from p3mdata.run.layout import ATTACKERS, AUDIT, FACEMASKS, IMAGES, LEDGER, PASSED_OVER, QUEUE, RECALL
from p3mdata.run.plan import Plan
from p3mdata.run.recall import recall_of
from p3mdata.run.released import read_released
from p3mdata.run.report_audit import audit_section
from p3mdata.run.sampling import LookedAt, looked_at
from p3mdata.version import __version__

_Read = TypeVar("_Read")

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
_OUTCOMES = (
    (Outcome.ANONYMIZED, "every face found is masked and all proofs hold: released", "good"),
    (Outcome.NO_FACE_CONFIRMED, "a person, or --trust-no-face, says that no face is in it: released", "good"),
    (Outcome.MASKED_BY_HAND, "a person drew the mask and all proofs hold: released", "good"),
    (Outcome.SHOWN_BY_PERMISSION, "a person permits that the faces are shown; only metadata is gone: released", "good"),
    (Outcome.NEEDS_REVIEW, "something is in doubt and a person has to decide: held back", "wait"),
    (Outcome.EXCLUDED, "left out by a rule or by a person: held back", "idle"),
    (Outcome.BROKEN, "the file, or one that belongs to it, cannot be used: held back", "bad"),
)
_PROOFS = (
    ("exact", "Images that must be exact outside the mask"),
    ("changed_outside", "Pixels changed outside the masks of all these"),
    ("changed_in_transition", "Pixels changed in the transition areas of all these"),
    ("reencoded", "Images compressed again as a whole"),
    ("largest_deviation", "Largest deviation outside a mask in these"),
    ("metadata", "Metadata parts left that are not on the allow-list"),
    ("redetected", "Faces the detectors find again on released images"),
    ("missed", "Of those, faces outside a mask"),
)
_FACE_COUNTS = ((0, 0, "none"), (1, 1, "1"), (2, 2, "2"), (3, 5, "3 to 5"), (6, 10**9, "6 or more"))


def _share(part: int, total: int) -> Figure:
    return Figure(f"{100 * part / max(total, 1):.1f}%")


def _most_first(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def _headline(samples: int, counts: Counter[Outcome]) -> tuple[str, str]:
    held = {"for a person to look at": counts[Outcome.NEEDS_REVIEW], "broken": counts[Outcome.BROKEN]}
    held["excluded"] = counts[Outcome.EXCLUDED]
    number, files = sum(held.values()), count(samples, "source file")
    parts = ", ".join(f"{n:,} {what}" for what, n in held.items() if n)
    lead = f"Held back: {parts}." if parts else "Every source file was released."
    return f"{files}: {counts.total() - number:,} released, {number:,} held back.", lead


def _reason(row: ImageResult, plan: Plan) -> str:
    """The sentence about one image, unless it could give away a file name or a path."""
    sentence = row.detail or ""
    private = {row.source, PurePosixPath(row.source).name, str(plan.job.source), str(plan.job.out)}
    named = any(name in sentence for name in private - {"", "."})
    return _WITHHELD if named or row.reason in _REASONS_WITH_PATHS else sentence


def _held_as(
    outcome: Outcome, title: str, column: str, where: str, figures: _Figures
) -> tuple[str, str, str, list[tuple[str, str, list[tuple[Code, str]]]]] | None:
    """The held-back files of one outcome, grouped by reason."""
    counts = Counter({code: number for (kind, code), number in figures.held.items() if kind is outcome})
    groups = []
    for code, number in _most_first(counts):
        shown = figures.shown[outcome, code]
        files = count(number, "file")
        said = files if len(shown) == number else f"the first {len(shown):,} of {files}"
        groups.append((code, said, [(Code(identity), sentence) for identity, sentence in shown]))
    return (title, column, where, groups) if groups else None


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


@dataclass(frozen=True)
class _Card:
    """A released image on the page: its thumbnail, or why there is none."""

    id: str
    facts: str
    picture: Picture | None
    problem: str = ""


def _drawn(plan: Plan, row: ImageResult) -> tuple[Picture | None, str]:
    """The thumbnail of a released image and a remark; a sentence alone when it cannot be shown."""
    data, problem = _checked(plan, row, IMAGES)
    if data is None:
        return None, problem
    mask_data, remark = _checked(plan, row, FACEMASKS)
    try:
        most = plan.job.settings.max_pixels
        mask = None if mask_data is None else decode(mask_data, most).pixels > 0
        small, width, height = thumbnail(decode(data, most), mask, _THUMBNAIL_SIDE)
    except BrokenInput as exc:
        return None, f"The image or its facemask {exc.sentence}"
    return picture(small, "image/jpeg", f"Released image {row.id}", width, height), remark


def _card(plan: Plan, row: ImageResult) -> _Card:
    drawn, remark = _drawn(plan, row)
    facts = [f"{row.width} x {row.height} px", count(len(row.faces), "face"), row.method, row.encoding]
    if row.masked_share is not None:
        facts.append(f"{100 * row.masked_share:.2f}% masked")
    if row.recomposed:
        facts.append(f"{count(row.recomposed, 'face')} recomposed")
    if row.outcome is not Outcome.ANONYMIZED:
        facts.append(row.outcome.value.replace("_", " "))
    line = ", ".join(fact for fact in (*facts, remark if drawn else "") if fact)
    return _Card(row.id, line, drawn, remark)


def _cards(plan: Plan, rows: Sequence[ImageResult], places: Sequence[int]) -> list[_Card]:
    """Released images, spread evenly over `places`, their positions in `rows`."""
    number = min(MOST_THUMBNAILS, len(places))
    return [_card(plan, rows[places[i * len(places) // number]]) for i in range(number)]


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
        self.notes: Counter[str] = Counter()
        self.looked = self.faces = self.together = self.recomposed = 0
        self.per_image: Counter[str] = Counter()
        self.alone: Counter[str] = Counter()
        self.without: Counter[str] = Counter()
        self.said: Counter[Action] = Counter()
        self.kept_transition = self.confirmed = self.permitted = 0

    def add(self, place: int, row: ImageResult) -> None:
        """Count one row; `place` is its position."""
        self.outcomes[row.outcome] += 1
        if row.outcome.released:
            self.places.append(place)
            self.encodings[row.encoding or "not recorded"] += 1
            self.notes.update(row.notes)
            self._add_proofs(row)
            self.recomposed += row.recomposed or 0
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

    def _add_proofs(self, row: ImageResult) -> None:
        proofs = row.proofs
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
        if row.outcome is Outcome.SHOWN_BY_PERMISSION:
            self.permitted += len(row.faces)
            return
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

    def proof_rows(self) -> list[tuple[str, Figure]]:
        """Rows of the table of proofs."""
        deviation = f"{self.again[0]} of 255" if self.again else "-"
        values = {name: f"{self.proofs[name]:,}" for name, _ in _PROOFS} | {"largest_deviation": deviation}
        rows = [(words, Figure(values[name])) for name, words in _PROOFS]
        shown = self.outcomes[Outcome.SHOWN_BY_PERMISSION]
        words = f"Faces on the {count(shown, 'image')} shown by permission, which these two lines leave out"
        return [*rows, (words, Figure(f"{self.permitted:,}"))] if shown else rows

    def detection(self) -> list[Table]:
        """Tables of faces per image and of how they were found."""
        images = [(name, self.per_image[name], _share(self.per_image[name], self.looked)) for *_, name in _FACE_COUNTS]
        kinds = (
            ("seen by both detectors", self.together),
            *((f"seen by {name} only", number) for name, number in _most_first(self.alone)),
            *([("hidden up to the matte's edge (recomposed)", self.recomposed)] if self.recomposed else []),
            ("with landmarks", self.faces - self.without.total()),
            *((f"without landmarks: {why}", number) for why, number in _most_first(self.without)),
        )
        found = [(name, number, _share(number, self.faces)) for name, number in kinds]
        return [
            table("Faces per image", ("Faces", "Images", "Share"), images),
            table("How the faces were found", ("Faces", "Number", "Share"), found),
        ]

    def decisions(self) -> Table:
        """What people decided, if they decided anything."""
        lines: list[tuple[object, str, int]] = [
            (Code(action.value), words, self.said[action]) for action, words in _SAID.items() if self.said[action]
        ]
        special = {
            "the transition area inside the drawn mask is obfuscated too": self.kept_transition,
            "released although detectors see a face outside the mask": self.confirmed,
        }
        lines += [("of those", words, number) for words, number in special.items() if number]
        return table("Decisions of people", ("Decision", "Meaning", "Images"), lines)


_SAID = {
    Action.ACCEPT: "released as detected",
    Action.NO_FACE: "nothing to hide",
    Action.MASK: "masked as drawn",
    Action.REDO: "done again with other settings",
    Action.SHOW: "shown with its faces by permission",
    Action.EXCLUDE: "left out",
    Action.REMOVE: "taken down",
}


def _settings(plan: Plan) -> list[Table]:
    values = plan.job.settings.model_dump(mode="json")
    chosen = [
        (Code(name), Code("-" if values[name] is None else values[name]), field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    files = [file for _, file in sorted(weights.registry().items())]
    models = [(file.file, file.role, file.licence, Code(file.sha256, "hash"), file.origin) for file in files]
    return [
        table("Settings", ("Setting", "Value", "Meaning"), chosen),
        table("Model files", ("File", "Role", "Licence", "SHA-256", "Origin"), models),
    ]


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
    figures = _Figures(plan)

    def counted() -> Iterator[ImageResult]:
        for place, row in enumerate(rows):
            figures.add(place, row)
            yield row

    # The sample's part goes through all rows, and everything is counted on the way.
    sample = looked_at(plan.job.out, counted())
    headline, lead = _headline(plan.samples, figures.outcomes)
    total = figures.outcomes.total()
    page = render(
        "report.html",
        headline=headline,
        lead=lead,
        outcomes=[
            (outcome.value, meaning, colour, figures.outcomes[outcome], _share(figures.outcomes[outcome], plan.samples))
            for outcome, meaning, colour in _OUTCOMES
        ],
        total=total,
        fits="add up" if total == plan.samples else f"do not add up to the {plan.samples:,} of the plan",
        decisions=figures.decisions(),
        held=[held for kind in _HELD if (held := _held_as(*kind, figures))],
        cards=_cards(plan, rows, figures.places),
        released=len(figures.places),
        proofs=figures.proof_rows(),
        encodings=table("Images by encoding", ("Encoding", "Images"), _most_first(figures.encodings)),
        notes=[
            *(
                [table("Converted or left out", ("What", "Images"), _most_first(figures.notes))]
                if figures.notes
                else []
            ),
            *_passed_over(plan),
        ],
        faces=count(figures.faces, "face"),
        looked=count(figures.looked, "image"),
        detection=figures.detection(),
        preset=settings.preset.value,
        names_kept=settings.names is Names.KEEP,
        strength=settings.in_words("report"),
        companions=", ".join(plan.public().companions) or "nothing",
        settings=_settings(plan),
        audit=Rendered(_audit(plan.job.out, sample)),
        version=__version__,
    )
    write_atomic(path, page.encode("utf-8"))


def _audit(out: Path, sample: LookedAt | None) -> str:
    """What audits found. A damaged file of theirs is named: it stops no take-down, which writes the report last."""
    damaged: list[str] = []

    def read(reader: Callable[[Path], _Read | None], name: str) -> _Read | None:
        try:
            return reader(out)
        except RunFolderError:
            damaged.append(name)
            return None

    audit, recall, attackers = read(read_audit, AUDIT), read(recall_of, RECALL), read(read_attackers, ATTACKERS)
    return audit_section(audit, sample, recall, attackers, damaged)


def _passed_over(plan: Plan) -> list[Table]:
    """A table of the files that were no pictures by their ending, without their names."""
    path = plan.job.out / PASSED_OVER
    if not path.is_file():
        return []
    try:
        counts = PassedOver.from_json(read_json(path)).public()
    except (RunFolderError, ArithmeticError, LookupError, TypeError, ValueError):
        # It stops no take-down, which writes the report last.
        counts = Counter({"not known, since their list is damaged": 1})
    return [table("Files passed over", ("Ending", "Files"), _most_first(counts))]
