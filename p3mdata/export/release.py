"""One view of what may be released: a finished run or a built dataset, as splits of entries with checked files."""

from __future__ import annotations

import itertools
import os
import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from p3mdata.audit import looked_at, read_audit
from p3mdata.config import Settings, fault
from p3mdata.dataset.folder import ABOUT, BUILDING, Dataset, open_dataset
from p3mdata.dataset.layout import Content
from p3mdata.dataset.traits import resolution_of, traits_of
from p3mdata.errors import RunFolderError, SettingsError
from p3mdata.files import sha256
from p3mdata.manifest import public_row, read_json
from p3mdata.plan import PLAN, read_plan
from p3mdata.records import ImageResult
from p3mdata.removal import dataset_version
from p3mdata.rows import finished_rows
from p3mdata.spool import Each, Shelf, Spool

KINDS = ("image", "alpha", "trimap", "facemask", "foreground", "background")
# What each column of a release holds; the order is that of tables.
MEANING = {
    "image": "the released photograph",
    "alpha": "alpha matte of the person, as it came with the photograph",
    "trimap": "0 background, 128 unknown, 255 person; made from the matte",
    "facemask": "255 where the photograph may differ from its source, 0 where it does not",
    "foreground": "estimated colours of the person",
    "background": "estimated colours behind the person",
    "id": "name of everything that belongs to the image; says nothing about its source",
    "width": "in pixels",
    "height": "in pixels",
    "outcome": "anonymized, no_face_confirmed or masked_by_hand",
    "decision": "accept, no_face or mask where a person decided, else none",
    "method": "obfuscation and its strength as a share of each face's width",
    "encoding": "how the file was written",
    "faces": "number of faces that were found",
    "masked_share": "share of the pixels inside the facemask",
    "exact": "whether every pixel outside the facemask equals the decoded source",
    "largest_deviation": "largest difference outside the facemask, of 255; 0 where exact",
    "missed": "faces seen outside the facemask; more than 0 only by a person's decision",
    "group": "images of one number are near-duplicates, or of one person or series; none crosses splits",
    "free": "whether the image is published as it was, since nothing in it is private",
}
_RUN_KINDS = {"image": "images", "alpha": "alphas", "facemask": "facemasks"}
_ID = re.compile("[0-9a-f]{20}(-[0-9]+)?")
_TABLES = ("resolution", "faces", "face_size", "pose", "outcome")
# Names that `datasets` or our croissant.json keep for themselves.
_TAKEN = ("", "all", "splits")

Scalar = str | int | float | bool
# Trait -> value -> split -> images.
Tables = dict[str, dict[str, dict[str, int]]]


@dataclass(frozen=True)
class File:
    """A released file: where it is below the release, and the hash under which it was released."""

    root: Path
    name: str
    sha256: str

    @property
    def path(self) -> Path:
        return self.root / self.name

    @property
    def suffix(self) -> str:
        """Its ending with the dot."""
        return os.path.splitext(self.name)[1]

    def size(self) -> int:
        """Bytes on disk."""
        try:
            return self.path.stat().st_size
        except OSError as exc:
            raise _unreadable(self.path, exc) from exc

    def read(self) -> bytes:
        """Its content.

        Raises:
            RunFolderError: It cannot be read, or is not the file that was released.
        """
        try:
            data = self.path.read_bytes()
        except OSError as exc:
            raise _unreadable(self.path, exc) from exc
        if sha256(data) != self.sha256:
            raise RunFolderError(f"{self.path}: is not the file that was released. Run 'p3mdata verify' or 'check'.")
        return data


def _unreadable(path: Path, exc: OSError) -> RunFolderError:
    return RunFolderError(f"{path}: cannot be read ({exc.strerror or exc}). Run 'p3mdata verify' or 'check'.")


@dataclass(frozen=True)
class Entry:
    """One image: its files by kind, and what may be told about it (a row of the public manifest without files)."""

    id: str
    files: dict[str, File]
    row: dict[str, Any]

    def name(self, kind: str) -> str:
        """`<id>.jpg` for the image, `<id>.alpha.png` and the like for what belongs to it."""
        middle = "" if kind == "image" else f".{kind}"
        return f"{self.id}{middle}{self.files[kind].suffix}"

    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size() for file in self.files.values())

    def scalars(self) -> dict[str, Scalar]:
        """The row as columns of a table; keys are of `MEANING`."""
        row, proofs = self.row, self.row["proofs"]
        columns: dict[str, Scalar] = {
            "id": self.id,
            "width": int(row["width"]),
            "height": int(row["height"]),
            "outcome": str(row["outcome"]),
            "decision": str(row["decision"]["action"]) if row["decision"] else "none",
            "method": str(row["method"]),
            "encoding": str(row["encoding"]),
            "faces": int(row["faces"]),
            "masked_share": float(row["masked_share"]),
            "exact": bool(proofs["exact"]),
            "largest_deviation": int(proofs["largest_deviation"]),
            "missed": int(proofs["missed"]),
        }
        return columns | {key: row[key] for key in ("group", "free") if key in row}


@dataclass(frozen=True)
class Split:
    """A set of images.

    Attributes:
        name: Its name in the release: a to z, 0 to 9 and _, so that every ecosystem takes it.
        title: Its name in the dataset, such as P3M-500-P.
        training: Whether it is the one to train on.
        free: Whether its images are published as they were.
        kinds: Kinds of files that any of its images has, in the order of `KINDS`.
        entries: Its images, sorted by id; each is made when it is asked for.
    """

    name: str
    title: str
    training: bool
    free: bool
    kinds: tuple[str, ...]
    entries: Sequence[Entry]


@dataclass(frozen=True)
class Facts:
    """Figures about a release, for its card; nothing in it names a source.

    Attributes:
        tool: Tool and version that anonymized the images.
        version: 1, and one more for each take-down.
        settings: Of the run.
        splits: Title, images, faces and whether it is free, by name of the split; sets that became empty have 0 images.
        outcomes: All source files of the run by outcome, if the run is at hand.
        reasons: Why source files were held back, by reason, if the run is at hand.
        decisions: Released images by what a person decided about them.
        proofs: Images that are exact, and that were encoded as a whole; the largest deviation of these; faces missed
            and images whose transition area is hidden, both by a person's decision.
        encodings: Images by how they were written.
        tables: Images by trait, value and split.
        audit: What audit.json holds, if the released files were audited.
        sample: images drawn at random, looked_at by a person, misses found; if a sample was drawn.
    """

    tool: str
    version: int
    settings: Settings
    splits: dict[str, tuple[str, int, int, bool]]
    outcomes: dict[str, int] | None
    reasons: dict[str, int] | None
    decisions: dict[str, int]
    proofs: dict[str, int]
    encodings: dict[str, int]
    tables: Tables
    audit: dict[str, Any] | None
    sample: dict[str, int] | None

    @property
    def images(self) -> int:
        return sum(images for _, images, _, _ in self.splits.values())

    @property
    def faces(self) -> int:
        return sum(faces for _, _, faces, _ in self.splits.values())


@dataclass(frozen=True)
class Release:
    """What is exported.

    Attributes:
        source: The run or dataset.
        run: The run behind it, if it is at hand.
        dataset: The dataset, or None for a run.
        splits: Its sets; none of them is empty.
    """

    source: Path
    run: Path | None
    dataset: Dataset | None
    splits: tuple[Split, ...]
    _facts: Facts = field(repr=False)

    @classmethod
    def open(cls, source: Path, run: Path | None = None) -> Release:
        """A finished run, or a dataset of `p3mdata build-split`.

        Args:
            source: Its folder.
            run: For a dataset, the run that it was built from: its figures enter the card.

        Raises:
            SettingsError: Nothing is released, `source` is neither, or `run` is another one.
            RunFolderError: The run is not finished, or the dataset is half built or damaged.
        """
        if (source / PLAN).is_file():
            if run is not None and run.resolve() != source.resolve():
                raise SettingsError(f"{run}: --run is for datasets; {source} is a run itself. Leave it out.")
            return cls._of_run(source)
        if (source / BUILDING).is_file():
            raise RunFolderError(f"{source}: the dataset is half built. Run 'p3mdata build-split' again to finish it.")
        if not (source / ABOUT).is_file():
            raise SettingsError(
                f"{source}: is neither a run nor a dataset of p3mdata. Give a folder that 'p3mdata anonymize dir' or "
                "'p3mdata build-split' made."
            )
        return cls._of_dataset(source, run)

    @classmethod
    def _of_run(cls, out: Path) -> Release:
        plan, samples = read_plan(out)
        rows = finished_rows(plan, samples)
        gathered = _Gathered(out)
        for row in rows:
            if row.outcome.released:
                gathered.add(public_row(row))
        split = gathered.split("train", "train", training=True, free=False)
        if not split.entries:
            raise SettingsError(f"{out}: nothing was released, so there is nothing to export.")
        tool = str(read_json(out / PLAN).get("tool", ""))
        facts = _figures([split], [], tool, dataset_version(out), plan.job.settings, _behind(out, rows), {})
        return cls(out, out, None, (split,), facts)

    @classmethod
    def _of_dataset(cls, root: Path, run: Path | None) -> Release:
        dataset = open_dataset(root)
        try:
            settings = Settings(**dataset.about["settings"])
            tool, version = str(dataset.about["tool"]), int(dataset.about["version"])
            by_set = {name: _Gathered(root) for name in dataset.layout.sets}
            for row in dataset.rows():
                by_set[row["set"]].add(row)
            training = _training(dataset, {name: len(gathered.rows) for name, gathered in by_set.items()})
            splits, empty = [], []
            for (title, layout), name in zip(
                dataset.layout.sets.items(), split_names(list(dataset.layout.sets)), strict=True
            ):
                free = layout.content is Content.FREE
                split = by_set[title].split(name, title, title == training, free)
                if split.entries:
                    splits.append(split)
                elif title in dataset.about["sets"]:
                    empty.append(split)
            splits.sort(key=lambda split: (not split.training, split.free))
            if run is not None:
                behind = _checked_run(run, root, splits, settings)
            else:
                behind = _Behind(dataset.about.get("outcomes"), dataset.about.get("reasons"))
            balance = dict(dataset.about.get("balance", {}))
            facts = _figures(splits, empty, tool, version, settings, behind, balance)
        except (KeyError, TypeError, ValueError, ValidationError) as exc:
            raise RunFolderError(f"{root}: its {ABOUT} or manifest is damaged ({fault(exc)}). Build it again.") from exc
        if not splits:
            raise SettingsError(f"{root}: all sets are empty, so there is nothing to export.")
        return cls(root, run, dataset, tuple(splits), facts)

    @property
    def images(self) -> int:
        return sum(len(split.entries) for split in self.splits)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of files that any image has."""
        return tuple(kind for kind in KINDS if any(kind in split.kinds for split in self.splits))

    @property
    def columns(self) -> dict[str, type]:
        """Scalar columns and their types."""
        return {name: type(value) for name, value in self.splits[0].entries[0].scalars().items()}

    def entries(self, split: str) -> Iterator[Entry]:
        """Images of a split, sorted by id."""
        for found in self.splits:
            if found.name == split:
                yield from found.entries

    def facts(self) -> Facts:
        """Figures for the card."""
        return self._facts


def split_names(titles: Sequence[str]) -> list[str]:
    """Names of sets that every ecosystem takes: P3M-500-P becomes p3m_500_p; no two become one."""
    names: list[str] = []
    for number, title in enumerate(titles, 1):
        plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
        base = re.sub("[^a-z0-9]+", "_", plain).strip("_")
        name = base = f"split_{number}" if base in _TAKEN else base
        while name in names:
            name = f"{base}_{number}" if name == base else f"{name}_"
        names.append(name)
    return names


def shards(entries: Sequence[Entry], most_images: int, most_bytes: int) -> list[Sequence[Entry]]:
    """Entries cut into runs of at most so many images and bytes; a larger image has a shard of its own."""
    starts: list[int] = []
    room = 0
    for number, entry in enumerate(entries):
        size = entry.size()
        if not starts or number - starts[-1] >= most_images or size > room:
            starts.append(number)
            room = most_bytes
        room -= size
    return [entries[start:stop] for start, stop in itertools.pairwise([*starts, len(entries)])]


class _Gathered:
    """Images of a set in the order in which they come, kept on disk: of each, files by kind and the rest of its row."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.rows: Spool[tuple[dict[str, tuple[str, str]], dict[str, Any]]] = Spool()
        self._ids: list[str] = []
        self._kinds: set[str] = set()

    def add(self, row: Mapping[str, Any]) -> None:
        """Add an image by its row of a public manifest.

        Raises:
            KeyError, TypeError, ValueError: It is no such row.
        """
        files = {}
        for kind in KINDS:
            if kind in row:
                path = PurePosixPath(row[kind]["path"])
                if path.is_absolute() or ".." in path.parts:
                    raise ValueError(f"path {path}")
                files[kind] = str(path), row[kind]["sha256"]
        if not _ID.fullmatch(row["id"]) or "image" not in files:
            raise ValueError(f"row {row['id']}")
        self.rows.append((files, {key: value for key, value in row.items() if key not in (*KINDS, "schema")}))
        self._ids.append(row["id"])
        self._kinds |= files.keys()

    def _entry(self, number: int) -> Entry:
        files, row = self.rows[number]
        return Entry(row["id"], {kind: File(self._root, *file) for kind, file in files.items()}, row)

    def split(self, name: str, title: str, training: bool, free: bool) -> Split:
        """The set, once all its images are here."""
        order = array("q", sorted(range(len(self._ids)), key=self._ids.__getitem__))
        self._ids.clear()
        kinds = tuple(kind for kind in KINDS if kind in self._kinds)
        return Split(name, title, training, free, kinds, Each(self._entry, order))


def _training(dataset: Dataset, sizes: Mapping[str, int]) -> str:
    """Title of the set to train on; where dataset.json does not name it, the largest obfuscated one."""
    named = dataset.about.get("training")
    obfuscated = [name for name, layout in dataset.layout.sets.items() if layout.content is not Content.FREE]
    return str(named) if named in sizes else max(obfuscated, key=lambda name: sizes[name], default="")


@dataclass(frozen=True)
class _Behind:
    """What only the run knows; `traits` by id."""

    outcomes: dict[str, int] | None = None
    reasons: dict[str, int] | None = None
    audit: dict[str, Any] | None = None
    sample: dict[str, int] | None = None
    traits: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def _behind(out: Path, rows: Iterable[ImageResult]) -> _Behind:
    outcomes, reasons = Counter[str](), Counter[str]()
    traits: Shelf[Mapping[str, str]] = Shelf()
    for row in rows:
        outcomes[row.outcome.value] += 1
        if row.outcome.released:
            traits[row.id] = traits_of(row)
        else:
            reasons[row.reason or row.outcome.value] += 1
    return _Behind(dict(outcomes), dict(reasons), read_audit(out), looked_at(out, rows), traits)


def _checked_run(run: Path, root: Path, splits: Sequence[Split], settings: Settings) -> _Behind:
    """What the run behind a dataset knows; refused when images of the dataset are not of the run."""
    plan, samples = read_plan(run)
    rows = finished_rows(plan, samples)
    released = Shelf((row.id, row.files["images"][1]) for row in rows if row.outcome.released)
    for split in splits:
        for entry in split.entries:
            if released.get(entry.id) != entry.files["image"].sha256:
                raise SettingsError(
                    f"{run}: did not release image {entry.id} of {root} as it is there. Give the run that the dataset "
                    "was built from, or build the dataset again."
                )
    if plan.job.settings != settings:
        raise SettingsError(f"{run}: has other settings than {root}. Give the run that the dataset was built from.")
    return _behind(run, rows)


def _figures(
    splits: Sequence[Split],
    empty: Sequence[Split],
    tool: str,
    version: int,
    settings: Settings,
    behind: _Behind,
    balance: Tables,
) -> Facts:
    faces, decisions, encodings = Counter[str](), Counter[str](), Counter[str]()
    proofs = dict.fromkeys(("exact", "reencoded", "largest_deviation", "missed", "transition_hidden"), 0)
    tables: Tables = {trait: {} for trait in _TABLES}
    for split in splits:
        for entry in split.entries:
            row, proof = entry.row, entry.row["proofs"]
            faces[split.name] += row["faces"]
            encodings[str(row["encoding"])] += 1
            if row["decision"]:
                decisions[row["decision"]["action"]] += 1
                proofs["transition_hidden"] += bool(row["decision"]["keep_transition"])
            proofs["exact" if proof["exact"] else "reencoded"] += 1
            if not proof["exact"]:
                proofs["largest_deviation"] = max(proofs["largest_deviation"], proof["largest_deviation"])
            proofs["missed"] += proof["missed"]
            _count(tables, split.name, {**behind.traits.get(entry.id, {}), **_plain_traits(row)})
    return Facts(
        tool=tool,
        version=version,
        settings=settings,
        splits={
            split.name: (split.title, len(split.entries), faces[split.name], split.free) for split in (*splits, *empty)
        },
        outcomes=behind.outcomes,
        reasons=behind.reasons,
        decisions=dict(sorted(decisions.items())),
        proofs=proofs,
        encodings=dict(sorted(encodings.items())),
        tables=_completed(tables, splits, balance),
        audit=behind.audit,
        sample=behind.sample,
    )


def _plain_traits(row: Mapping[str, Any]) -> dict[str, str]:
    """Traits that the public row of an image tells."""
    return {
        "resolution": resolution_of(row["width"], row["height"]),
        "faces": str(row["faces"]) if row["faces"] < 3 else "3+",
        "outcome": row["outcome"],
    }


def _count(tables: Tables, split: str, traits: Mapping[str, str]) -> None:
    for trait, value in traits.items():
        by_split = tables[trait].setdefault(value, {})
        by_split[split] = by_split.get(split, 0) + 1


def _completed(tables: Tables, splits: Sequence[Split], balance: Tables) -> Tables:
    """Images by trait. What only faces tell comes from the run, or from the dataset's figures while they add up."""
    names = {split.title: split.name for split in splits}
    total = sum(len(split.entries) for split in splits)
    for trait in ("face_size", "pose"):
        known = {
            value: {names[title]: number for title, number in by_set.items() if title in names}
            for value, by_set in balance.get(trait, {}).items()
        }
        if not tables[trait] and sum(sum(by_split.values()) for by_split in known.values()) == total:
            tables[trait] = known
    return {trait: dict(sorted(table.items())) for trait, table in tables.items() if table}
