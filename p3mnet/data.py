"""Training and validation pictures from a dataset folder of the layout that build-split writes, such as P3M-10k.

Crops come first: a picture is decoded (or mapped from a raw cache), cut, and only the cut is resized, flipped and given
a trimap. Every random number of a sample comes from one `torch.Generator` seeded with (seed, epoch, index): neither
workers, ranks nor a resumed epoch change a sample.

A batch of N samples of side S holds uint8 tensors on the CPU; those of colours lie in channels_last order:

    image                       [N, 3, S, S]    RGB
    alpha                       [N, 1, S, S]
    trimap                      [N, 1, S, S]    0 background, 128 transition, 255 foreground
    facemask                    [N, 1, S, S]    255 private area, 0 elsewhere and where a picture has no facemask
    foreground, background      [N, 3, S, S]    RGB; absent unless wanted and there
    name                        list of N strings

`to_device` makes of it what the network and its losses take.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch.utils.data import DataLoader, Dataset

from p3mdata.dataset.folder import BUILDING, open_dataset
from p3mdata.dataset.layout import PICTURES
from p3mdata.dataset.trimap import FOREGROUND, trimap_of
from p3mdata.errors import P3MError, SettingsError, SetupError
from p3mdata.masks import transition_area
from p3mnet.model import normalise
from p3mnet.planes import Array, BadFile, RawCache, read_plane

Sample = dict[str, Any]
Batch = dict[str, Any]
# Changes a sample with random numbers of its own, such as `p3mnet.copy_paste.ICP`; it may leave sentences for
# `Loader.bad` as `noted`.
Edit = Callable[[Sample, torch.Generator], Sample]
# Gives the image of a name, HxWx3 RGB, in place of the set's own file; raises `BadFile`. Loader processes get a copy.
Images = Callable[[str], Array]

COLOURS = ("foreground", "background")
# Random pixels that are asked whether they lie in the transition area, before it is computed as a whole.
_PROBES = 256
# Other pictures that stand in for a bad one, before the run gives up.
_STAND_INS = 16
_NAMED = 5
_MOST_KEPT = 1 << 30


class DataConfig(BaseModel):
    """How samples are made; the defaults are the recipe's.

    Attributes:
        crop_sides: A crop's side is drawn from these. Where it does not fit, the smallest of them is taken, and where
            that does not fit either, the largest square that does: it is enlarged, so that no pixel is made up.
        size: Side of the samples.
        flip: Probability of a horizontal flip.
        transition_centre: Probability that a crop is centred on a transition pixel (as far as it can lie within the
            picture); other crops lie anywhere. Transition pixels are equally likely.
        trimap_kernel: Smallest and largest side of the trimap's elliptic kernel, in pixels of the file.
        facemask: Whether facemasks are read; without them, those of the batch are empty.
        colours: Where foreground and background come from: from the set's files, if it has any; estimated on the
            crop; or nowhere, which leaves out the composition loss.
        cache: Folder for raw copies of the decoded files, which are mapped into memory instead of decoded again:
            5 bytes per pixel of the set, 11 with colours' files. A file that has changed is copied anew.
        longest: Longer side that pictures are reduced to when they are read, facemasks with them; they are then kept in
            memory, up to 1 GB. For checks in which training must be quick rather than good.
        max_bad: Share of bad pictures (rounded up to a whole number of them) that a run puts up with.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    crop_sides: tuple[int, ...] = Field((512, 768, 1024), min_length=1)
    size: int = Field(512, ge=32)
    flip: float = Field(0.5, ge=0, le=1)
    transition_centre: float = Field(0.5, ge=0, le=1)
    trimap_kernel: tuple[int, int] = (15, 30)
    facemask: bool = True
    colours: Literal["files", "estimate", "none"] = "files"
    cache: Path | None = None
    longest: int | None = Field(None, ge=32)
    max_bad: float = Field(0.02, ge=0, le=1)

    @model_validator(mode="after")
    def _sensible(self) -> DataConfig:
        smallest, largest = self.trimap_kernel
        if not 1 <= smallest <= largest:
            raise ValueError(
                f"trimap_kernel must be two sides of at least 1, the smaller one first, not {smallest}, {largest}"
            )
        if min(self.crop_sides) < 1:
            raise ValueError("crop_sides must be at least 1")
        return self


def seeded(*numbers: int) -> torch.Generator:
    """A generator on the CPU whose numbers depend on all of `numbers` and on nothing else."""
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))


class TrainingSet(Dataset[Sample]):
    """The training pictures of a dataset, each a random crop.

    Attributes:
        names: Pictures that have what they need, sorted.
        bad: Sentences about those that do not: an image without alpha, an alpha without image, missing colours.

    Args:
        root: The dataset's folder.
        set_name: Which set; None takes the one to train on.
        config: How samples are made.
        images: What is shown instead of the set's images, such as the photographs they were made of. Nothing of it
            goes to the cache.

    Raises:
        SettingsError: There is no such dataset or set, or no usable picture in it.
        SetupError: Too many pictures are bad.
    """

    def __init__(
        self,
        root: Path,
        set_name: str | None = None,
        config: DataConfig | None = None,
        images: Images | None = None,
    ) -> None:
        self.config = config or DataConfig()
        self.images = images
        self._kept: dict[str, dict[str, Array]] = {}
        self._kept_bytes = 0
        self.names, self.files, self.bad = _listed(root, set_name, "training", self.config)
        self._read = read_plane if self.config.cache is None else RawCache(self.config.cache).read
        if not self.names:
            raise SettingsError(f"{root}: has no training pictures with alphas. Check the set's name and its folders.")
        self.check(self.bad)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        """The sample of seed 0 and epoch 0; tensors as in a batch, without its first dimension.

        Raises:
            BadFile: The picture cannot be used.
        """
        return self.sample(index, seeded(0, 0, index, 0))

    def check(self, bad: Sequence[str], world: int = 1) -> None:
        """Raise SetupError if these are too many, seen by one of `world` processes that share the set."""
        pictures = len(self.names) + len(self.bad)
        if len(bad) > math.ceil(self.config.max_bad * pictures / world):
            more = f" And {len(bad) - _NAMED} more." if len(bad) > _NAMED else ""
            raise SetupError(
                f"Bad files: {len(bad)} in a set of {pictures} pictures, more than max_bad = {self.config.max_bad:g} "
                f"allows; repair or remove them. {' '.join(bad[:_NAMED])}{more}"
            )

    def sample(self, index: int, generator: torch.Generator) -> Sample:
        """A random crop of a picture.

        Raises:
            BadFile: The picture cannot be used.
            SetupError: The cache cannot be written.
        """
        cut = self._crop(self._picture(index), generator)
        if self.config.colours == "estimate":
            cut |= dict(zip(COLOURS, estimate_colours(cut["image"], cut["alpha"]), strict=True))
        cut.setdefault("facemask", np.zeros_like(cut["alpha"]))
        tensors = {kind: torch.from_numpy(plane) for kind, plane in cut.items()}
        maps = {kind: plane.permute(2, 0, 1) if plane.dim() == 3 else plane[None] for kind, plane in tensors.items()}
        return {**maps, "name": self.names[index]}

    def _picture(self, index: int) -> dict[str, Array]:
        """A picture's files by kind, of one size.

        Raises:
            BadFile: They cannot be used.
        """
        name = self.names[index]
        if name in self._kept:
            return self._kept[name]
        files = self.files[index]
        planes = _planes(name, files, self._read, self.images)
        height, width = planes["image"].shape[:2]
        for kind, plane in planes.items():
            if plane.shape[:2] != (height, width):
                raise BadFile(
                    f"{files[kind]}: is {plane.shape[1]}x{plane.shape[0]}, its image is {width}x{height}. "
                    "Export both at one size."
                )
        if self.config.longest is not None:
            planes = {kind: _reduced(plane, self.config.longest, kind == "facemask") for kind, plane in planes.items()}
            size = sum(plane.nbytes for plane in planes.values())
            if (self._kept_bytes + size) <= _MOST_KEPT:
                self._kept[name] = planes
                self._kept_bytes += size
        return planes

    def _crop(self, planes: Mapping[str, Array], generator: torch.Generator) -> dict[str, Array]:
        """All planes cut, resized and flipped alike, and a trimap."""
        config, alpha = self.config, planes["alpha"]
        height, width = alpha.shape
        smallest, largest = config.trimap_kernel
        # Always as many numbers, so that one setting does not change what another one draws.
        draws = torch.rand(6, generator=generator, dtype=torch.float64).tolist()
        kernel = smallest + int(draws[0] * (largest + 1 - smallest))
        wanted = config.crop_sides[int(draws[1] * len(config.crop_sides))]
        side = min(wanted if wanted <= min(height, width) else min(config.crop_sides), height, width)
        top, left = int(draws[4] * (height - side + 1)), int(draws[5] * (width - side + 1))
        if draws[2] < config.transition_centre:
            centre = transition_pixel(alpha, kernel, generator)
            if centre is not None:
                top, left = (
                    min(max(at - side // 2, 0), full - side) for at, full in zip(centre, (height, width), strict=True)
                )
        window = slice(top, top + side), slice(left, left + side)
        cut = {kind: plane[window] for kind, plane in planes.items()}
        cut["trimap"] = trimap_of_window(alpha, kernel, window)
        flipped = draws[3] < config.flip
        return {
            kind: _fitted(plane, config.size, kind in ("trimap", "facemask"), flipped) for kind, plane in cut.items()
        }


def _planes(
    name: str, files: Mapping[str, Path], read: Callable[[str, Path], Array], images: Images | None
) -> dict[str, Array]:
    """A picture's files by kind, decoded."""
    own = {kind: read(kind, path) for kind, path in files.items() if images is None or kind != "image"}
    return own if images is None else {"image": images(name), **own}


def _listed(
    root: Path, set_name: str | None, role: Literal["training", "validation"], config: DataConfig
) -> tuple[list[str], list[dict[str, Path]], list[str]]:
    """Names, files by kind, and sentences about pictures that lack something."""
    dataset = open_dataset(root)
    if (root / BUILDING).exists():
        raise SettingsError(f"{root}: is not whole. Run the command that builds it again.")
    name = set_name or getattr(dataset.layout, role) or ""
    if name not in dataset.layout.sets:
        known = ", ".join(dataset.layout.sets)
        raise SettingsError(f"{root}: has no {role} set{name and f' {name!r}'}. Name one of its sets: {known}.")
    items = dataset.items(name).values()
    needed = ["image", "alpha"]
    if config.colours == "files" and any(all(kind in item.files for kind in COLOURS) for item in items):
        needed += COLOURS
    wanted = [*needed, *(["facemask"] if config.facemask and role == "training" else [])]
    wanted += ["trimap"] if role == "validation" else []
    names, files, bad = [], [], []
    for item in items:
        if not item.files.keys() & {"image", "alpha"}:
            continue
        if lacking := [kind for kind in needed if kind not in item.files]:
            there = root / next(item.files[kind][0] for kind in ("image", "alpha") if kind in item.files)
            bad.append(f"{there}: has no {' and no '.join(lacking)} of its name in set {name}.")
            continue
        names.append(item.stem)
        files.append({kind: root / item.files[kind][0] for kind in wanted if kind in item.files})
    return names, files, bad


def transition_pixel(alpha: Array, kernel: int, generator: torch.Generator) -> tuple[int, int] | None:
    """Row and column of a pixel of the trimap's transition area, all equally likely; None if there is none.

    Random pixels are tried one by one, each by its own neighbourhood: that is much cheaper than the whole trimap, which
    is computed only if none of them hits.

    Args:
        alpha: HxW.
        kernel: Side of the trimap's kernel.
        generator: Random numbers.
    """
    height, width = alpha.shape
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (kernel, kernel)) > 0
    places = torch.rand(_PROBES, 2, generator=generator, dtype=torch.float64) * torch.tensor([height, width])
    for row, column in places.long().tolist():
        top, left = row - kernel // 2, column - kernel // 2
        near = alpha[max(top, 0) : top + kernel, max(left, 0) : left + kernel]
        under = element[max(-top, 0) :, max(-left, 0) :][: near.shape[0], : near.shape[1]]
        values = near[under]
        if values.any() and values.min() < FOREGROUND:
            return row, column
    rows, columns = np.nonzero(transition_area(alpha, kernel))
    if not len(rows):
        return None
    chosen = int(torch.randint(len(rows), (), generator=generator))
    return int(rows[chosen]), int(columns[chosen])


def trimap_of_window(alpha: Array, kernel: int, window: tuple[slice, slice]) -> Array:
    """`trimap_of(alpha, kernel)[window]`, computed only there: the window grows by what the kernel can see."""
    grown = tuple(slice(max(part.start - kernel, 0), part.stop + kernel) for part in window)
    inside = tuple(
        slice(part.start - wide.start, part.stop - wide.start) for part, wide in zip(window, grown, strict=True)
    )
    return trimap_of(np.ascontiguousarray(alpha[grown]), kernel)[inside]


def _reduced(plane: Array, longest: int, labels: bool) -> Array:
    """A plane whose longer side is at most `longest`; never a view of a larger one."""
    factor = min(1.0, longest / max(plane.shape[:2]))
    size = max(1, round(plane.shape[1] * factor)), max(1, round(plane.shape[0] * factor))
    how = cv2.INTER_NEAREST_EXACT if labels else cv2.INTER_AREA
    return np.asarray(cv2.resize(plane, size, interpolation=how), np.uint8)


def _fitted(plane: Array, size: int, labels: bool, flipped: bool) -> Array:
    """A square resized to `size`, labels by their nearest neighbour, then flipped; never a view of its source."""
    side = plane.shape[0]
    # More than halved, bilinear interpolation would skip pixels.
    smooth = cv2.INTER_AREA if side > 2 * size else cv2.INTER_LINEAR
    resized = plane
    if side != size:
        how = cv2.INTER_NEAREST_EXACT if labels else smooth
        resized = np.asarray(cv2.resize(np.ascontiguousarray(plane), (size, size), interpolation=how), np.uint8)
    return np.array(resized[:, ::-1] if flipped else resized, order="C")


def estimate_colours(image: Array, alpha: Array) -> tuple[Array, Array]:
    """Foreground and background of a crop by blurring twice, coarse then fine (Forte, 'Approximate Fast Foreground
    Colour Estimation', ICIP 2021): quick, and less exact than the files that build-split can make.

    Args:
        image: HxWx3 RGB.
        alpha: HxW.

    Returns:
        Both HxWx3 RGB uint8.
    """
    colours = image.astype(np.float32) / 255
    opacity = (alpha.astype(np.float32) / 255)[..., None]
    sides = [colours, colours]
    for window in (91, 7):
        shares = (opacity, 1 - opacity)
        means = [_weighted_mean(side, share, window) for side, share in zip(sides, shares, strict=True)]
        rest = colours - sum(share * mean for share, mean in zip(shares, means, strict=True))
        sides = [np.clip(mean + share * rest, 0, 1) for share, mean in zip(shares, means, strict=True)]
    foreground, background = (np.rint(255 * side).astype(np.uint8) for side in sides)
    return foreground, background


def _weighted_mean(colours: NDArray[Any], weight: NDArray[Any], window: int) -> NDArray[Any]:
    """Mean colour [H, W, 3] around each pixel, weighted by [H, W, 1]."""
    return cv2.blur(colours * weight, (window, window)) / (cv2.blur(weight, (window, window))[..., None] + 1e-5)


class ValidationSet(Dataset[Sample]):
    """Whole pictures for evaluation: a broken one is an error, for figures over different pictures do not compare.

    Items hold uint8 tensors image [3, H, W], alpha [1, H, W], trimap [1, H, W] (0, 128, 255; the set's own, or of the
    usual kernel where it has none) and name.

    Args:
        root: The dataset's folder.
        set_name: Which set; None takes the obfuscated one to validate on.

    Raises:
        SettingsError: There is no such dataset or set, or no usable picture in it.
        BadFile: A picture lacks its alpha, or an alpha its image.
    """

    images: Images | None = None

    def __init__(self, root: Path, set_name: str | None = None) -> None:
        self.names, self.files, bad = _listed(root, set_name, "validation", DataConfig(colours="none"))
        if bad:
            raise BadFile(bad[0])
        if not self.names:
            raise SettingsError(
                f"{root}: has no validation pictures with alphas. Check the set's name and its folders."
            )

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        """A picture.

        Raises:
            BadFile: It cannot be used.
        """
        files = self.files[index]
        planes = _planes(self.names[index], files, read_plane, self.images)
        planes.setdefault("trimap", trimap_of(planes["alpha"]))
        if any(plane.shape[:2] != planes["image"].shape[:2] for plane in planes.values()):
            raise BadFile(f"{files['image']}: its alpha or trimap has another size. Export them at one size.")
        image = torch.from_numpy(planes["image"]).permute(2, 0, 1)
        greys = {kind: torch.from_numpy(planes[kind])[None] for kind in ("alpha", "trimap")}
        return {"image": image, **greys, "name": self.names[index]}


class _Epoch(Dataset["Sample | P3MError"]):
    """Samples of one epoch; a bad one is replaced by another picture's, which depends on (seed, epoch, index) too."""

    def __init__(self, pictures: TrainingSet, seed: int, epoch: int, edit: Edit | None) -> None:
        self.pictures, self.seed, self.epoch, self.edit = pictures, seed, epoch, edit

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Sample | P3MError:
        bad: list[str] = []
        for attempt in range(_STAND_INS + 1):
            generator = seeded(self.seed, self.epoch, index, attempt)
            chosen = int(torch.randint(len(self), (), generator=generator)) if attempt else index
            try:
                sample: Sample = {**self.pictures.sample(chosen, generator), "bad": bad}
                return self.edit(sample, generator) if self.edit else sample
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
    for notes in ("bad", "noted"):
        batch[notes] = [sentence for sample in whole for sentence in sample.get(notes, ())]
    return batch


class Loader:
    """Batches of one epoch; see `make_loader`.

    Attributes:
        bad: Sentences about files that were skipped, each once: pictures that lack one, then those met on the way.
            What an edit noted, such as a broken source, is among them, but does not count for `max_bad`.
    """

    def __init__(
        self, pictures: TrainingSet, batches: list[list[int]], workers: int, epoch: _Epoch, world: int
    ) -> None:
        self.bad = list(pictures.bad)
        self._counted = list(pictures.bad)
        self._pictures, self._batches, self._workers, self._epoch, self._world = (
            pictures,
            batches,
            workers,
            epoch,
            world,
        )

    def __len__(self) -> int:
        """Batches that are left in the epoch."""
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        """Batches in order.

        Raises:
            SetupError: Too many files are bad, or the cache cannot be written.
        """
        loader = DataLoader(
            self._epoch,
            batch_sampler=self._batches,
            num_workers=self._workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            # Else it would take a number from the global one.
            generator=torch.Generator(),
        )
        threads = cv2.getNumThreads()
        try:
            # OpenCV's threads do not survive a fork, and who waits for them there waits forever: they end before it.
            if self._workers:
                cv2.setNumThreads(1)
            batches = iter(loader)
        finally:
            cv2.setNumThreads(threads)
        try:
            for batch in batches:
                if isinstance(batch, P3MError):
                    raise batch
                bad, noted = batch.pop("bad"), batch.pop("noted")
                self._counted = list(dict.fromkeys([*self._counted, *bad]))
                self.bad = list(dict.fromkeys([*self.bad, *bad, *noted]))
                self._pictures.check(self._counted, self._world)
                yield batch
        finally:
            # Ends the workers now; an exception's traceback would keep them until it is collected.
            del batches


def make_loader(
    training_set: TrainingSet,
    batch_size: int,
    workers: int,
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
        workers: Processes that load; 0 loads in this one.
        seed, epoch: What the order and, with the picture's index, a sample's random numbers depend on.
        rank, world: Which process this is, of how many that train together.
        start_batch: Batches to skip, without loading them: those of an interrupted epoch.
        edit: Applied to each sample where it is loaded, with the sample's own random numbers.

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
    batches = [order[start : start + batch_size] for start in starts]
    return Loader(training_set, batches, workers, _Epoch(training_set, seed, epoch, edit), world)


def to_device(batch: Batch, device: torch.device | str) -> Batch:
    """A batch as the network and its losses take it; it crosses to the device as uint8.

    Returns:
        image, foreground, background: ImageNet-normalised. alpha: in 0..1. All of PyTorch's default type (float32).
        trimap: int64 of 0 (background), 1 (transition), 2 (foreground). facemask: bool. Shapes stay; name stays.
    """
    moved = {
        key: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
        for key, value in batch.items()
    }
    for kind in PICTURES:
        if kind in moved:
            moved[kind] = normalise(moved[kind])
    moved["alpha"] = moved["alpha"] / 255
    moved["trimap"] = (moved["trimap"] > 0).long() + (moved["trimap"] == FOREGROUND).long()
    moved["facemask"] = moved["facemask"] > 127
    return moved
