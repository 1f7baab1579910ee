"""`p3mdata build-split`: a finished run becomes a dataset of a layout; files are the released ones, byte for byte."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from p3mdata.base.disk_backed import DiskDict, DiskList
from p3mdata.base.files import holds_nothing, overlap, sha256
from p3mdata.base.jsonl import read_rows, write_json, write_rows
from p3mdata.base.parsing import fault
from p3mdata.base.processes import default_workers
from p3mdata.base.progress import Progress, silent
from p3mdata.dataset.about import ABOUT, BUILDING, About, Begun, read_about, read_begun
from p3mdata.dataset.attributes import balance_of
from p3mdata.dataset.candidates import Counts, Entrant, candidates_of, usable_of
from p3mdata.dataset.files import ImageWriter, ListedImage, add_colours, remove_others
from p3mdata.dataset.folder import LISTING, Dataset, begun_dataset, open_dataset, owned_dataset
from p3mdata.dataset.foregrounds import require_pymatting
from p3mdata.dataset.layout import OBFUSCATED, Layout
from p3mdata.dataset.split import Candidate, Sets, Size, assign
from p3mdata.errors import RunFolderError, SettingsError, unwritable
from p3mdata.imaging.trimap import KERNEL
from p3mdata.run.derived import DATASET, dataset_version, register_derived
from p3mdata.run.locks import only_run, writing
from p3mdata.run.plan import Plan, read_plan
from p3mdata.typing import Json
from p3mdata.version import __version__

_BATCH = 256
# A share that comes out further from what was asked for is told.
_OFF, _OFF_SHARE = 0.02, 0.25


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
        progress: Gets the number of images; gives a function to call after each. Asked for proofs, for the look for
            copies, and for writing.

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
    with writing(run), only_run(run):
        pass
    everything, usable, refused = usable_of(plan, samples, settings.verify, workers, progress or silent)
    candidates = candidates_of(plan, usable, settings.group_by, settings.free_list, workers, progress or silent)
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
    with writing(run), only_run(run):
        register_derived(run, DATASET, out)
    try:
        with owned_dataset(out):
            about = _write(
                plan, out, settings, obfuscated, everything, usable, candidates, chosen, workers, progress or silent
            )
    except OSError as exc:
        raise unwritable(out, exc) from exc
    sizes = {name: about.sets.get(name, 0) for name in settings.layout.sets}
    return Built(out, sizes, tuple(refused), tuple(_notes(settings, sizes)), about.balance, about.version)


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
    progress: Progress,
) -> About:
    """Write all files of a dataset, its manifest, and dataset.json last, whose content it gives."""
    earlier, before = _earlier(out), _before(out)
    layout = settings.layout
    write_json(out / BUILDING, Begun(layout, obfuscated, before).to_json())
    (out / ABOUT).unlink(missing_ok=True)
    step = progress(len(usable))
    rows: DiskList[ListedImage] = DiskList()
    with ThreadPoolExecutor(workers) as pool:
        writer = ImageWriter(plan.job.out, out, layout, obfuscated, settings.kernel, settings.poses)

        def write(i: int) -> ListedImage:
            return writer.write(usable[i], chosen[candidates[i].id], candidates[i].group)

        # In batches, so that a fault or Ctrl-C does not wait for everything that is queued.
        for start in range(0, len(usable), _BATCH):
            for row in pool.map(write, range(len(usable))[start : start + _BATCH]):
                rows.append(row)
                step()
    if settings.foregrounds:
        add_colours(out, layout, obfuscated, rows, workers)
    remove_others(earlier, rows)
    write_rows(out / LISTING, (rows[i].to_json() for i in sorted(range(len(rows)), key=lambda i: candidates[i].id)))
    counts, balance = Counter(chosen.values()), balance_of((row.set, row.traits) for row in rows)
    version = dataset_version(plan.job.out)
    if before is not None:
        version = max(version, before[0] + (before[1] != _listed_as(out)))
    about = About(
        layout=layout,
        obfuscated=obfuscated,
        tool=f"p3mdata {__version__}",
        version=version,
        sets={name: counts[name] for name in layout.sets if counts[name]},
        outcomes=dict(everything.outcomes),
        reasons=dict(everything.reasons),
        balance=balance,
        settings=plan.job.settings.model_dump(mode="json"),
        seed=settings.seed,
        trimap_kernel=settings.kernel,
        keyed=plan.keyed,
    )
    write_json(out / ABOUT, about.to_json())
    (out / BUILDING).unlink()
    return about


def _before(out: Path) -> tuple[int, str] | None:
    """Version and listing of the dataset that is renewed, also where an earlier renewal did not come to its end."""
    if (out / ABOUT).is_file():
        return read_about(out).version, _listed_as(out)
    return read_begun(out).before if (out / BUILDING).is_file() else None


def _listed_as(out: Path) -> str:
    return sha256((out / LISTING).read_bytes()) if (out / LISTING).is_file() else ""


def _notes(settings: SplitSettings, counts: Mapping[str, int]) -> Iterator[str]:
    total = sum(counts.values())
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


def _earlier(out: Path) -> list[Dataset]:
    """What was built, or begun, in a folder before."""
    built = [open_dataset(out)] if (out / ABOUT).is_file() else []
    return built + ([begun_dataset(out)] if (out / BUILDING).is_file() else [])
