"""`p3mdata build-split`: a finished run becomes a dataset of a layout; files are the released ones, byte for byte."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from p3mdata.base.disk_backed import DiskDict, DiskList
from p3mdata.base.files import holds_nothing, overlap, sha256, write_released
from p3mdata.base.ids import IDS, KEYED
from p3mdata.base.jsonl import read_json, read_rows, write_json, write_rows
from p3mdata.base.parsing import fault
from p3mdata.base.processes import default_workers
from p3mdata.base.progress import Progress
from p3mdata.dataset.attributes import balance_of
from p3mdata.dataset.candidates import RUN_KINDS, Counts, Entrant, candidates_of, usable_of
from p3mdata.dataset.folder import ABOUT, BUILDING, LISTING, Dataset, described, owned_dataset
from p3mdata.dataset.foregrounds import estimate, require_pymatting
from p3mdata.dataset.layout import OBFUSCATED, Content, Layout
from p3mdata.dataset.split import Candidate, Sets, Size, assign
from p3mdata.errors import RunFolderError, SettingsError, unwritable
from p3mdata.imaging import encode_grey
from p3mdata.imaging.trimap import KERNEL, stored_plane, trimap_of
from p3mdata.records import one_ending
from p3mdata.run.derived import dataset_version, register_derived
from p3mdata.run.locks import only_run
from p3mdata.run.plan import Plan, read_plan
from p3mdata.typing import Json
from p3mdata.version import __version__

# In the description of a dataset that is being renewed: what it was.
_BEFORE = "before"
_BATCH = 256
# A share that comes out further from what was asked for is told.
_OFF, _OFF_SHARE = 0.02, 0.25
_ID = re.compile("[0-9a-f]{20}(-[0-9]+)?")
_COLOURS = ("foreground", "background")


@dataclass(frozen=True)
class SplitSettings:
    """What a dataset shall be like.

    Attributes:
        layout: Its sets and folders.
        validation, free: Sizes of the obfuscated and the free validation set: a count, or a share as a float.
        group_by: Where declared persons or series come from: prefix, folder, a CSV file; each adds to the others.
        free_list: File with ids or source paths; only these may enter the free set. None allows all without faces.
        seed: Draws another split.
        kernel: Side of the trimaps' kernel in pixels.
        obfuscated: Stands for {obfuscated} in names of folders; None follows the run's method.
        previous: An earlier dataset whose split is kept.
        verify: Prove every released image of the run again first.
        foregrounds: Estimate foreground and background colours of the training set (needs pymatting).
        poses: Tell of each face how it is turned, in steps of 15 degrees, for matched copy-and-paste.
    """

    layout: Layout
    validation: Size = 0.05
    free: Size = 0
    group_by: tuple[str, ...] = ("auto",)
    free_list: Path | None = None
    seed: int = 0
    kernel: int = KERNEL
    obfuscated: str | None = None
    previous: Path | None = None
    verify: bool = True
    foregrounds: bool = False
    poses: bool = False


@dataclass(frozen=True)
class Built:
    """What was built: images per set, what was refused and why, and how traits are spread over the sets.

    `notes` are sentences about sets that came out otherwise than a user may expect.
    """

    out: Path
    sets: dict[str, int]
    refused: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    balance: dict[str, dict[str, dict[str, int]]]
    version: int

    def to_json(self) -> Json:
        return {
            "out": str(self.out),
            "sets": self.sets,
            "refused": [{"source": source, "why": why} for source, why in self.refused],
            "notes": list(self.notes),
            "balance": self.balance,
            "version": self.version,
        }


def build_split(
    run: Path,
    out: Path,
    settings: SplitSettings,
    workers: int = 0,
    progress: Progress | None = None,
) -> Built:
    """Build a dataset from a finished run, or finish or renew one that is there.

    Args:
        run: The run folder; not changed, but for a note in its private folder of what was built from it.
        out: The dataset's folder: new, empty, or an earlier dataset of this run (whose split is kept).
        settings: What it shall be like.
        workers: Threads; 0 chooses.
        progress: Gets the number of images; gives a function to call after each.

    Raises:
        SettingsError: The settings do not fit the data; nothing was written.
        RunFolderError: Not a finished run, or OUT is foreign.
    """
    plan, samples = read_plan(run)
    _check_out(run, out)
    if settings.foregrounds:
        require_pymatting()
    workers = workers or default_workers()
    # Swept, before it is proved.
    with only_run(run):
        pass
    everything, usable, refused = usable_of(plan, samples, settings.verify, workers)
    candidates = candidates_of(plan, usable, settings.group_by, settings.free_list, workers)
    sets = Sets(settings.layout.training, settings.layout.validation, settings.layout.free)
    chosen = assign(
        candidates, sets, settings.validation, settings.free, settings.seed, _previous(settings.previous or out)
    )
    if left := [i for i, candidate in enumerate(candidates) if candidate.id not in chosen]:
        refused += [(usable[i].source, _only_free(settings.layout)) for i in left]
        usable = DiskList(usable[i] for i, candidate in enumerate(candidates) if candidate.id in chosen)
        candidates = [candidate for candidate in candidates if candidate.id in chosen]
    method, _ = plan.job.settings.obfuscation()
    obfuscated = settings.obfuscated or OBFUSCATED[method]
    with only_run(run):
        register_derived(run, "dataset", out)
    try:
        with owned_dataset(out):
            counts, balance, version = _write(
                plan, out, settings, obfuscated, everything, usable, candidates, chosen, workers, progress
            )
    except OSError as exc:
        raise unwritable(out, exc) from exc
    return Built(
        out,
        {name: counts[name] for name in settings.layout.sets},
        tuple(refused),
        tuple(_notes(settings, counts)),
        balance,
        version,
    )


def _write(
    plan: Plan,
    out: Path,
    settings: SplitSettings,
    obfuscated: str,
    everything: Counts,
    usable: Sequence[Entrant],
    candidates: Sequence[Candidate],
    chosen: Mapping[str, str],
    workers: int,
    progress: Progress | None,
) -> tuple[Counter[str], dict[str, dict[str, dict[str, int]]], int]:
    """Write all files of a dataset, its manifest, and dataset.json last; gives images per set, balance and version."""
    earlier, before = _earlier(out), _before(out)
    begun = {
        "layout": settings.layout.model_dump(mode="json"),
        "training": settings.layout.training,
        "obfuscated": obfuscated,
    }
    write_json(out / BUILDING, {**begun, _BEFORE: before})
    (out / ABOUT).unlink(missing_ok=True)
    step = progress(len(usable)) if progress else (lambda: None)
    rows: DiskList[_Listed] = DiskList()
    with ThreadPoolExecutor(workers) as pool:
        writer = _Writer(plan.job.out, out, settings, obfuscated)

        def write(i: int) -> _Listed:
            return writer.write(usable[i], chosen[candidates[i].id], candidates[i].group)

        # In batches, so that a fault or Ctrl-C does not wait for everything that is queued.
        for start in range(0, len(usable), _BATCH):
            for row in pool.map(write, range(len(usable))[start : start + _BATCH]):
                rows.append(row)
                step()
    if settings.foregrounds:
        _add_colours(out, settings, obfuscated, rows, workers)
    _remove_others(earlier, rows)
    write_rows(out / LISTING, (rows[i].to_json() for i in sorted(range(len(rows)), key=lambda i: candidates[i].id)))
    counts, balance = Counter(chosen.values()), balance_of((row.set, row.traits) for row in rows)
    version = dataset_version(plan.job.out)
    if before is not None:
        version = max(version, before[0] + (before[1] != _listed_as(out)))
    write_json(
        out / ABOUT,
        {
            "tool": f"p3mdata {__version__}",
            "version": version,
            **begun,
            "outcomes": dict(everything.outcomes),
            "reasons": dict(everything.reasons),
            "sets": {name: counts[name] for name in settings.layout.sets if counts[name]},
            "seed": settings.seed,
            "trimap_kernel": settings.kernel,
            "settings": plan.job.settings.model_dump(mode="json"),
            **({IDS: KEYED} if plan.keyed else {}),
            "balance": balance,
        },
    )
    (out / BUILDING).unlink()
    return counts, balance, version


def _before(out: Path) -> tuple[int, str] | None:
    """Version and listing of the dataset that is renewed, also where an earlier renewal did not come to its end."""
    try:
        if (out / ABOUT).is_file():
            return int(read_json(out / ABOUT)["version"]), _listed_as(out)
        if (out / BUILDING).is_file() and (kept := read_json(out / BUILDING).get(_BEFORE)):
            return int(kept[0]), str(kept[1])
    except (KeyError, TypeError, ValueError) as exc:
        raise RunFolderError(f"{out}: is damaged ({fault(exc)}). Delete the dataset and build it again.") from exc
    return None


def _listed_as(out: Path) -> str:
    return sha256((out / LISTING).read_bytes()) if (out / LISTING).is_file() else ""


def _notes(settings: SplitSettings, counts: Counter[str]) -> Iterator[str]:
    total = counts.total()
    for name, wanted in ((settings.layout.validation, settings.validation), (settings.layout.free, settings.free)):
        if name and isinstance(wanted, float) and abs(counts[name] / total - wanted) > max(_OFF, wanted * _OFF_SHARE):
            yield (
                f"{name} has {counts[name]} of {total} images, {wanted:.0%} were asked for: a share is drawn group by "
                "group, so that images added later move nobody. Give a count for an exact size."
            )


def _only_free(layout: Layout) -> str:
    """Why an image that is shown by permission enters no set."""
    if layout.free is None:
        return f"is shown by permission, and layout {layout.name} has no set of pictures as they were"
    return (
        f"is shown by permission, so {layout.free} alone may hold it: it was not drawn (--free N), was left out of "
        "--free-list, was trained on before, or is of one group with obfuscated pictures"
    )


def _check_out(run: Path, out: Path) -> None:
    if overlap(out, run):
        raise SettingsError(f"{out}: the dataset and the run must not lie inside each other. Choose another OUT.")
    if out.is_dir():
        ours = any((out / name).is_file() for name in (ABOUT, BUILDING))
        if not ours and not holds_nothing(out):
            raise RunFolderError(f"{out}: is not empty and no dataset of p3mdata. Choose an empty or new folder.")
    elif out.exists():
        raise RunFolderError(f"{out}: is a file. Choose a folder.")


def _previous(dataset: Path) -> Mapping[str, str]:
    """Set by id of an earlier dataset; empty when there is none."""
    rows = read_rows(dataset / LISTING, needs=("id", "set")) if dataset.is_dir() else ()
    try:
        return DiskDict((row["id"], row["set"]) for row in rows)
    except TypeError as exc:
        raise RunFolderError(
            f"{dataset / LISTING}: is damaged ({fault(exc)}). Delete the dataset and build it again."
        ) from exc


@dataclass(frozen=True)
class _Listed:
    """An image of a dataset, as its manifest lists it.

    Attributes:
        public: Row of the run's public manifest.
        files: Path below the dataset and SHA-256, by kind.
        set, group, free, traits: Where it is, which others it is of one group with, and what it is like.
        poses: Of its faces, where they are told.
    """

    public: Mapping[str, Any]
    files: Mapping[str, tuple[str, str]]
    set: str
    group: int
    free: bool
    traits: Mapping[str, str]
    poses: Sequence[Mapping[str, Any]] | None

    def to_json(self) -> Json:
        files = {kind: {"path": path, "sha256": digest} for kind, (path, digest) in self.files.items()}
        told = {} if self.poses is None else {"poses": list(self.poses)}
        place = {"set": self.set, "group": self.group, "free": self.free}
        return {**self.public, **files, **place, "traits": self.traits, **told}


@dataclass(frozen=True)
class _Writer:
    """Writes the files of one image into its set."""

    run: Path
    out: Path
    settings: SplitSettings
    obfuscated: str

    def write(self, row: Entrant, name: str, group: int) -> _Listed:
        """Copy an image's released files, make its trimap; returns its row of the manifest.

        Raises:
            RunFolderError: A released file is not the one that was proved.
        """
        layout = self.settings.layout.sets[name]
        files: dict[str, tuple[str, str]] = {}
        alpha = self._released(row, "alpha")
        for kind in layout.folders:
            if kind in _COLOURS:
                continue
            if kind == "trimap":
                matte = stored_plane(alpha)
                assert matte is not None
                facemask = stored_plane(self._released(row, "facemask"))
                data, file = encode_grey(trimap_of(matte, self.settings.kernel, facemask)), f"{row.id}.png"
            else:
                data = alpha if kind == "alpha" else self._released(row, kind)
                file = f"{row.id}{one_ending(Path(row.files[RUN_KINDS[kind]][0]).suffix)}"
            path = f"{self.settings.layout.folder(name, kind, self.obfuscated)}/{file}"
            digest = sha256(data)
            target = self.out / path
            if not (target.is_file() and sha256(target.read_bytes()) == digest):
                write_released(target, data)
            files[kind] = path, digest
        free = layout.content is Content.FREE
        poses = row.poses if self.settings.poses else None
        return _Listed(row.public, files, name, group, free, row.traits, poses)

    def _released(self, row: Entrant, kind: str) -> bytes:
        name, expected = row.files[RUN_KINDS[kind]]
        path = self.run / RUN_KINDS[kind] / name
        try:
            data = path.read_bytes()
        except OSError as exc:
            raise RunFolderError(f"{path}: cannot be read ({exc.strerror}). Run 'p3mdata verify'.") from exc
        if sha256(data) != expected:
            raise RunFolderError(f"{path}: is not the file that was released. Run 'p3mdata verify'.")
        return data


def _add_colours(out: Path, settings: SplitSettings, obfuscated: str, rows: DiskList[_Listed], workers: int) -> None:
    """Estimate fg and bg of the sets whose layout has folders for them."""
    folders = {
        name: [settings.layout.folder(name, kind, obfuscated) for kind in _COLOURS]
        for name, layout in settings.layout.sets.items()
        if set(_COLOURS) <= set(layout.folders)
    }
    mine = [i for i, row in enumerate(rows) if row.set in folders]
    tasks = []
    for row in map(rows.__getitem__, mine):
        front, back = (f"{folder}/{row.public['id']}.png" for folder in folders[row.set])
        tasks.append((row.files["image"][0], row.files["alpha"][0], front, back))
    for i, task, hashes in zip(mine, tasks, estimate(out, tasks, workers), strict=True):
        colours = dict(zip(_COLOURS, zip(task[2:], hashes, strict=True), strict=True))
        rows[i] = replace(rows[i], files={**rows[i].files, **colours})


def _earlier(out: Path) -> list[Dataset]:
    """What was built, or begun, in a folder before."""
    return [described(out, name) for name in (ABOUT, BUILDING) if (out / name).is_file()]


def _remove_others(earlier: Sequence[Dataset], rows: Sequence[_Listed]) -> None:
    """Delete files of earlier builds that are in no set any more; only what has the name of an id."""
    if not earlier:
        return
    now = DiskDict((path, None) for row in rows for path, _ in row.files.values())
    for dataset in earlier:
        for name in dataset.layout.sets:
            for item in dataset.shelf(name).values():
                for path in itertools.chain.from_iterable(item.files.values()):
                    if path not in now and _ID.fullmatch(item.stem):
                        (dataset.root / path).unlink(missing_ok=True)
                        _remove_empty((dataset.root / path).parent, dataset.root)


def _remove_empty(folder: Path, root: Path) -> None:
    """Remove a folder that lost its last file, and those above it that hold nothing else."""
    # One that holds something stays.
    with contextlib.suppress(OSError):
        while folder != root:
            folder.rmdir()
            folder = folder.parent
