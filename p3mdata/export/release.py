"""One view of what may be released: a finished run or a built dataset, as splits of entries with checked files."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from p3mdata.base.addresses import refuse_address
from p3mdata.base.disk_backed import DiskDict
from p3mdata.base.jsonl import read_json
from p3mdata.base.parsing import fault
from p3mdata.config import Settings
from p3mdata.dataset.about import ABOUT, BUILDING, read_about
from p3mdata.dataset.folder import Dataset, open_dataset
from p3mdata.dataset.layout import Content
from p3mdata.errors import RunFolderError, SettingsError
from p3mdata.export.entries import KINDS, Entry, Gathered, Split
from p3mdata.export.figures import Behind, Facts, behind_of, figures
from p3mdata.records import Outcome
from p3mdata.run.derived import dataset_version
from p3mdata.run.layout import PLAN
from p3mdata.run.plan import read_plan
from p3mdata.run.public import public_row
from p3mdata.run.rows import finished_rows

# Names that `datasets` or our croissant.json keep for themselves.
_TAKEN = ("", "all", "splits")
_SHOWN = Outcome.SHOWN_BY_PERMISSION.value


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
        refuse_address(source)
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
        gathered, shown = Gathered(out), Gathered(out)
        for row in rows:
            if row.outcome.released:
                (shown if row.outcome is Outcome.SHOWN_BY_PERMISSION else gathered).add(public_row(row))
        splits = [gathered.split("train", "train", training=True, free=False)]
        # Nobody trains on faces that are shown.
        splits.append(shown.split(_SHOWN, _SHOWN, training=False, free=True))
        splits = [split for split in splits if split.entries]
        if not splits:
            raise SettingsError(f"{out}: nothing was released, so there is nothing to export.")
        tool = str(read_json(out / PLAN).get("tool", ""))
        facts = figures(splits, [], tool, dataset_version(out), plan.job.settings, behind_of(out, rows), {})
        return cls(out, out, None, tuple(splits), facts)

    @classmethod
    def _of_dataset(cls, root: Path, run: Path | None) -> Release:
        dataset, about = open_dataset(root), read_about(root)
        try:
            settings = dataset.run_settings()
            if settings is None:
                raise KeyError("settings")
            by_set = {name: Gathered(root) for name in dataset.layout.sets}
            for row in dataset.rows():
                if row["outcome"] == _SHOWN and dataset.layout.sets[row["set"]].content is not Content.FREE:
                    raise RunFolderError(
                        f"{root}: {row['id']} is shown by permission and lies in {row['set']}, where faces are "
                        "obfuscated. Build the dataset again."
                    )
                by_set[row["set"]].add(row)
            splits, empty = [], []
            for (title, layout), name in zip(
                dataset.layout.sets.items(), split_names(list(dataset.layout.sets)), strict=True
            ):
                free = layout.content is Content.FREE
                split = by_set[title].split(name, title, title == dataset.layout.training, free)
                if split.entries:
                    splits.append(split)
                elif title in about.sets:
                    empty.append(split)
            splits.sort(key=lambda split: (not split.training, split.free))
            if run is not None:
                behind = _checked_run(run, root, splits, settings)
            else:
                behind = Behind(about.outcomes, about.reasons)
            facts = figures(splits, empty, about.tool, about.version, settings, behind, about.balance)
        except (KeyError, TypeError, ValueError, ValidationError) as exc:
            raise RunFolderError(f"{root}: its {ABOUT} or manifest is damaged ({fault(exc)}). Build it again.") from exc
        if not splits:
            raise SettingsError(f"{root}: all sets are empty, so there is nothing to export.")
        return cls(root, run, dataset, tuple(splits), facts)

    @property
    def images(self) -> int:
        """How many are released."""
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


def _checked_run(run: Path, root: Path, splits: Sequence[Split], settings: Settings) -> Behind:
    """What the run behind a dataset knows; refused when images of the dataset are not of the run."""
    plan, samples = read_plan(run)
    rows = finished_rows(plan, samples)
    released = DiskDict((row.id, row.files["images"][1]) for row in rows if row.outcome.released)
    for split in splits:
        for entry in split.entries:
            if released.get(entry.id) != entry.files["image"].sha256:
                raise SettingsError(
                    f"{run}: did not release image {entry.id} of {root} as it is there. Give the run that the dataset "
                    "was built from, or build the dataset again."
                )
    if plan.job.settings != settings:
        raise SettingsError(f"{run}: has other settings than {root}. Give the run that the dataset was built from.")
    return behind_of(run, rows)
