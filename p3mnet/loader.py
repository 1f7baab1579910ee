"""Batches of an epoch: samples in random order, loaded by workers, with stand-ins for bad pictures.

A batch of N samples of side S holds uint8 tensors on the CPU; those of colours lie in channels_last order:

    image                       [N, 3, S, S]    RGB
    alpha                       [N, 1, S, S]
    trimap                      [N, 1, S, S]    0 background, 128 transition, 255 foreground
    facemask                    [N, 1, S, S]    255 private area, 0 elsewhere and where a picture has no facemask
    foreground, background      [N, 3, S, S]    RGB; absent unless wanted and there
    name                        list of N strings
    late                        list of N times true where foreground and background are still to be estimated

`to_device` makes of it what the network and its losses take.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from p3mdata.dataset.layout import PICTURES
from p3mdata.errors import P3MError, SettingsError, SetupError
from p3mdata.imaging.trimap import FOREGROUND
from p3mnet.colours import estimate_colours
from p3mnet.data import Sample, TrainingSet, seeded
from p3mnet.image_files import BadFile
from p3mnet.model import normalise

Batch = dict[str, Any]
# Changes a sample with random numbers of its own, such as `p3mnet.copy_paste.ICP`; it may leave sentences for
# `Loader.bad` as `noted`.
Edit = Callable[[Sample, torch.Generator], Sample]

# Other pictures that stand in for a bad one, before the run gives up.
_STAND_INS = 16


class _Key(NamedTuple):
    """Which sample: of which epoch, of which picture, and whether the edit is applied to it."""

    epoch: int
    picture: int
    edited: bool


class _Samples(Dataset["Sample | P3MError"]):
    """Samples of any epoch; a bad one is replaced by another picture's, which depends on (seed, epoch, index) too."""

    def __init__(self, pictures: TrainingSet, seed: int, edit: Edit | None) -> None:
        self.pictures, self.seed, self.edit = pictures, seed, edit

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, key: _Key) -> Sample | P3MError:
        bad: list[str] = []
        for attempt in range(_STAND_INS + 1):
            generator = seeded(self.seed, key.epoch, key.picture, attempt)
            chosen = int(torch.randint(len(self), (), generator=generator)) if attempt else key.picture
            try:
                sample: Sample = {**self.pictures.sample(chosen, generator), "bad": bad}
                return self.edit(sample, generator) if self.edit and key.edited else sample
            except BadFile as exc:
                bad.append(str(exc))
            except P3MError as exc:
                # Returned, for an exception that crosses processes loses its plain sentence.
                return exc
        return SetupError(f"{len(bad)} pictures in a row cannot be used, the first: {bad[0]}")


def collate(samples: Sequence[Sample | P3MError]) -> Batch | P3MError:
    """Samples to a batch; colours end in channels_last order without being copied twice."""
    for sample in samples:
        if isinstance(sample, P3MError):
            return sample
    whole = [sample for sample in samples if not isinstance(sample, P3MError)]
    batch: Batch = {}
    for kind, first in whole[0].items():
        if not isinstance(first, torch.Tensor):
            continue
        batch[kind] = torch.stack([sample[kind].permute(1, 2, 0) for sample in whole]).permute(0, 3, 1, 2)
    batch["name"] = [sample["name"] for sample in whole]
    if "late" in whole[0]:
        batch["late"] = [True] * len(whole)
    if any("poses" in sample for sample in whole):
        batch["poses"] = [sample.get("poses", []) for sample in whole]
    if any("people" in sample for sample in whole):
        batch["people"] = [sample.get("people", ()) for sample in whole]
    for notes in ("bad", "noted"):
        batch[notes] = [sentence for sample in whole for sentence in sample.get(notes, ())]
    return batch


class Workers:
    """Processes that load batches. They stay from one epoch to the next, with what they keep in memory.

    Args:
        training_set: The pictures.
        number: How many; 0 loads in this process.
        seed: See `make_loader`.
        edit: Applied to samples where they are loaded, with the sample's own random numbers; see `make_loader`.
        pinned: Whether batches lie in memory from which a GPU reads while it computes.
    """

    def __init__(
        self, training_set: TrainingSet, number: int, seed: int, edit: Edit | None = None, pinned: bool = False
    ) -> None:
        self.pictures, self.seed = training_set, seed
        self._wanted: list[list[_Key]] = []
        self._loader: DataLoader[Any] = DataLoader(
            _Samples(training_set, seed, edit),
            batch_sampler=_Wanted(self._wanted),
            num_workers=number,
            collate_fn=collate,
            pin_memory=pinned,
            persistent_workers=number > 0,
            # Else it would take a number from the global one.
            generator=torch.Generator(),
        )

    def load(self, batches: list[list[_Key]]) -> Iterator[Batch | P3MError]:
        """These batches, in order; what an earlier call had left is given up."""
        self._wanted[:] = batches
        threads = cv2.getNumThreads()
        try:
            # OpenCV's threads do not survive a fork, and who waits for them there waits forever: they end before it.
            if self._loader.num_workers:
                cv2.setNumThreads(1)
            return iter(self._loader)
        finally:
            cv2.setNumThreads(threads)

    def close(self) -> None:
        """End the processes now; an exception's traceback would keep them until it is collected."""
        iterator, self._loader._iterator = self._loader._iterator, None
        if iterator is not None and hasattr(iterator, "_shutdown_workers"):
            iterator._shutdown_workers()


class _Wanted(Sampler["list[_Key]"]):
    """Batches that are asked for; the list changes from epoch to epoch."""

    def __init__(self, batches: list[list[_Key]]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[list[_Key]]:
        return iter(list(self.batches))

    def __len__(self) -> int:
        return len(self.batches)


class Loader:
    """Batches of one epoch; see `make_loader`.

    Attributes:
        bad: Sentences about files that were skipped, each once: pictures that lack one, then those met on the way.
            What an edit noted, such as a broken source, is among them, but does not count for `max_bad`.
    """

    def __init__(self, workers: Workers, batches: list[list[_Key]], world: int, closing: bool) -> None:
        self._pictures = workers.pictures
        self.bad = list(self._pictures.bad)
        self._counted = list(self._pictures.bad)
        self._workers, self._batches, self._world, self._closing = workers, batches, world, closing

    def __len__(self) -> int:
        """Batches that are left in the epoch."""
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        """Batches in order.

        Raises:
            SetupError: Too many files are bad, or the cache cannot be written.
        """
        try:
            for batch in self._workers.load(self._batches):
                if isinstance(batch, P3MError):
                    raise batch
                bad, noted = batch.pop("bad"), batch.pop("noted")
                self._counted = list(dict.fromkeys([*self._counted, *bad]))
                self.bad = list(dict.fromkeys([*self.bad, *bad, *noted]))
                self._pictures.check(self._counted, self._world)
                yield batch
        finally:
            if self._closing:
                self._workers.close()


def make_loader(
    training_set: TrainingSet,
    batch_size: int,
    workers: int | Workers,
    seed: int,
    epoch: int,
    rank: int = 0,
    world: int = 1,
    start_batch: int = 0,
    edit: Edit | None = None,
) -> Loader:
    """One epoch of a training set in random order, each picture once; what does not fill a batch is left out.

    All ranks together take the batches that one process would take with `world` times the batch size.

    Args:
        training_set: The pictures.
        batch_size: Samples per batch of this rank.
        workers: Processes that load, or their number: they end with this epoch then; 0 loads in this process.
        seed, epoch: What the order and, with the picture's index, a sample's random numbers depend on.
        rank, world: Which process this is, of how many that train together.
        start_batch: Batches to skip, without loading them: those of an interrupted epoch.
        edit: Applied to each sample where it is loaded, with the sample's own random numbers; None applies that of
            `workers` to no sample.

    Raises:
        SettingsError: The set has fewer pictures than the ranks' batches take.
    """
    together = batch_size * world
    steps = len(training_set) // together
    if not steps:
        raise SettingsError(
            f"A batch of {together} pictures is more than the {len(training_set)} of the training set. "
            "Choose a smaller batch."
        )
    order = torch.randperm(len(training_set), generator=seeded(seed, epoch)).tolist()
    starts = range(rank * batch_size + start_batch * together, steps * together, together)
    batches = [
        [_Key(epoch, index, edit is not None) for index in order[start : start + batch_size]] for start in starts
    ]
    if isinstance(workers, Workers):
        return Loader(workers, batches, world, closing=False)
    return Loader(Workers(training_set, workers, seed, edit), batches, world, closing=True)


def to_device(batch: Batch, device: torch.device | str) -> Batch:
    """A batch as the network and its losses take it; it crosses to the device as uint8.

    Returns:
        image, foreground, background: ImageNet-normalised. alpha: in 0..1. All of PyTorch's default type (float32).
        trimap: int64 of 0 (background), 1 (transition), 2 (foreground). facemask: bool. Shapes stay; name stays.
        Colours that are still to be estimated are there, and "late" is not.
    """
    moved = {
        key: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
        for key, value in batch.items()
    }
    if moved.pop("late", None):
        moved["foreground"], moved["background"] = estimate_colours(moved["image"], moved["alpha"])
    for kind in PICTURES:
        if kind in moved:
            moved[kind] = normalise(moved[kind])
    moved["alpha"] = moved["alpha"] / 255
    moved["trimap"] = (moved["trimap"] > 0).long() + (moved["trimap"] == FOREGROUND)
    if "poses" in moved:
        moved["labels"] = moved["facemask"]
    moved["facemask"] = moved["facemask"] > 127
    return moved
