"""Training and validation pictures from a dataset folder of the layout that build-split writes, such as P3M-10k.

Crops come first: a picture is decoded (or mapped from a raw cache), cut, and only the cut is resized, flipped and given
a trimap. Every random number of a sample comes from one `torch.Generator` seeded with (seed, epoch, index): neither
workers, ranks nor a resumed epoch change a sample.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch.utils.data import Dataset

from p3mdata.dataset.about import BUILDING
from p3mdata.dataset.folder import open_dataset
from p3mdata.errors import SettingsError, SetupError
from p3mdata.imaging.trimap import trimap_of
from p3mdata.typing import Json
from p3mnet.crops import estimate_colours, fitted, reduced, transition_pixel, trimap_of_window
from p3mnet.image_files import Array, BadFile, RawCache, read_plane

Sample = dict[str, Any]
# Gives the image of a name, HxWx3 RGB, in place of the set's own file; raises `BadFile`. Loader processes get a copy.
Images = Callable[[str], Array]

COLOURS = ("foreground", "background")
_NAMED = 5
# Numbers of faces that a facemask can hold.
_MOST_FACES = 127
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
        facemask: Whether facemasks are read; without them, those of the batch are empty, and trimaps call replaced
            pixels near the silhouette unknown.
        colours: Where foreground and background of the composition loss come from: "files" of the set; "estimate" on
            the crop, quick; "whole" pictures, estimated once as exactly as build-split does and kept in `cache`;
            "auto", the set's files or, where it has none, the estimate; or "none", which leaves out that loss.
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
    colours: Literal["auto", "files", "estimate", "whole", "none"] = "auto"
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
        if self.colours == "whole" and self.cache is None:
            raise ValueError("colours: whole keeps its estimates in data.cache; name a folder there")
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
        colours: Where colours come from, once that is decided: files, estimate, whole or none.
        late: Whether colours that are estimated are left to who moves the samples to a device, see
            `p3mnet.loader.to_device`; samples say so as "late".
        groups: Number of the group of near-duplicates, of a series or a person, by name; empty for datasets that know
            of none.

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
        self.late = False
        self._kept: dict[str, dict[str, Array]] = {}
        self._kept_bytes = 0
        # Colours in files are those of the set's own images.
        chosen = "estimate" if images is not None and self.config.colours in ("auto", "whole") else self.config.colours
        self.names, self.files, self.bad, self.colours = _listed(root, set_name, "training", self.config, chosen)
        self._cache = None if self.config.cache is None else RawCache(self.config.cache)
        self._read = read_plane if self._cache is None else self._cache.read
        self.groups = _groups(root)
        # Poses of faces by name of the picture, once matched copy-and-paste wants them, see `labelled`.
        self.poses: dict[str, list[Json]] = {}
        # Coarse groups of the people on pictures, by name, once they are wanted.
        self.people: dict[str, tuple[tuple[str, str], ...]] = {}
        if not self.names:
            if self.bad:
                raise SettingsError(
                    f"{root}: none of its {len(self.bad)} training pictures has what it needs. {self.bad[0]}"
                )
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
        planes, poses = self._picture(index), self.poses.get(self.names[index])
        told: list[list[float] | None] = []
        if poses is not None and "facemask" in planes:
            planes = dict(planes)
            planes["facemask"], told = labelled(planes["facemask"], poses)
        cut, flipped = self._crop(planes, generator)
        if flipped:
            told = [None if pose is None else [-pose[0], pose[1], -pose[2]] for pose in told]
        late = self.late and self.colours == "estimate"
        if self.colours == "estimate" and not late:
            cut |= dict(zip(COLOURS, estimate_colours(cut["image"], cut["alpha"]), strict=True))
        cut.setdefault("facemask", np.zeros_like(cut["alpha"]))
        tensors = {kind: torch.from_numpy(plane) for kind, plane in cut.items()}
        maps = {kind: plane.permute(2, 0, 1) if plane.dim() == 3 else plane[None] for kind, plane in tensors.items()}
        sample: Sample = {**maps, "name": self.names[index], **({} if poses is None else {"poses": told})}
        sample |= {"late": True} if late else {}
        return {**sample, "people": self.people.get(self.names[index], ())} if self.people else sample

    def know_poses(self, root: Path) -> None:
        """Samples tell the poses of their faces from here on, as far as the dataset's manifest knows them.

        Raises:
            SettingsError: It knows of none.
        """
        rows = {str(row["id"]): row["poses"] for row in open_dataset(root).rows() if row.get("poses")}
        if not rows:
            raise SettingsError(
                f"{root}: its manifest tells no poses, which copy_paste.match wants. Build it with 'p3mdata "
                "build-split --poses', or set copy_paste.match to none."
            )
        self.poses = {name: rows.get(name, []) for name in self.names}

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
        if self.colours == "whole":
            assert self._cache is not None
            planes |= self._cache.colours(files["image"], files["alpha"], planes["image"], planes["alpha"])
        if self.config.longest is not None:
            planes = {kind: reduced(plane, self.config.longest, kind == "facemask") for kind, plane in planes.items()}
            size = sum(plane.nbytes for plane in planes.values())
            if (self._kept_bytes + size) <= _MOST_KEPT:
                self._kept[name] = planes
                self._kept_bytes += size
        return planes

    def _crop(self, planes: Mapping[str, Array], generator: torch.Generator) -> tuple[dict[str, Array], bool]:
        """All planes cut, resized and flipped alike, and a trimap; whether they are flipped."""
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
            centre = transition_pixel(alpha, kernel, generator, planes.get("facemask"))
            if centre is not None:
                top, left = (
                    min(max(at - side // 2, 0), full - side) for at, full in zip(centre, (height, width), strict=True)
                )
        window = slice(top, top + side), slice(left, left + side)
        cut = {kind: plane[window] for kind, plane in planes.items()}
        cut["trimap"] = trimap_of_window(alpha, kernel, window, planes.get("facemask"))
        flipped = draws[3] < config.flip
        return {
            kind: fitted(plane, config.size, kind in ("trimap", "facemask"), flipped) for kind, plane in cut.items()
        }, flipped


def labelled(facemask: Array, poses: Sequence[Mapping[str, Any]]) -> tuple[Array, list[list[float] | None]]:
    """A facemask whose faces can be told apart: 255 less the number of a face, at least 128 anyway; their poses.

    Args:
        facemask: HxW, above 127 in faces.
        poses: Rows of the manifest: `at` as shares of the picture, yaw, pitch and roll in degrees.

    Returns:
        HxW uint8, and yaw, pitch, roll by number, None for a face that the manifest does not know.
    """
    height, width = facemask.shape
    _, labels = cv2.connectedComponents((facemask > 127).astype(np.uint8), connectivity=8)
    out = facemask.copy()
    # Faces past the last number have none.
    out[labels > _MOST_FACES] = 128
    told: list[list[float] | None] = []
    for number in range(1, min(int(labels.max()), _MOST_FACES) + 1):
        part = labels == number
        rows, columns = np.nonzero(part)
        # The nearest face whose middle lies within the part's own size.
        size = max(np.ptp(rows) + 1, np.ptp(columns) + 1)
        near = [
            (float(np.hypot(pose["at"][0] * width - columns.mean(), pose["at"][1] * height - rows.mean())), place)
            for place, pose in enumerate(poses)
        ]
        away, place = min(near, default=(np.inf, 0))
        told.append([float(poses[place][turn]) for turn in ("yaw", "pitch", "roll")] if away < size else None)
        out[part] = 255 - (number - 1)
    return out, told


def _planes(
    name: str, files: Mapping[str, Path], read: Callable[[str, Path], Array], images: Images | None
) -> dict[str, Array]:
    """A picture's files by kind, decoded."""
    own = {kind: read(kind, path) for kind, path in files.items() if images is None or kind != "image"}
    return own if images is None else {"image": images(name), **own}


def _listed(
    root: Path, set_name: str | None, role: Literal["training", "validation"], config: DataConfig, colours: str = "none"
) -> tuple[list[str], list[dict[str, Path]], list[str], str]:
    """Names, files by kind, sentences about pictures that lack something, and where colours come from."""
    dataset = open_dataset(root)
    if (root / BUILDING).exists():
        raise SettingsError(f"{root}: is not whole. Run the command that builds it again.")
    name = set_name or getattr(dataset.layout, role) or ""
    if name not in dataset.layout.sets:
        known = ", ".join(dataset.layout.sets)
        raise SettingsError(f"{root}: has no {role} set{name and f' {name!r}'}. Name one of its sets: {known}.")
    items = dataset.items(name).values()
    needed = ["image", "alpha"]
    coloured = any(kind in item.files for item in items for kind in COLOURS)
    if colours == "files" and not coloured:
        own = dataset.layout.sets[name].folders
        folders = " and ".join(f"'{dataset.folder(name, kind).name}'" for kind in COLOURS if kind in own)
        raise SettingsError(
            f"{root}: set {name} has no foreground and background colours"
            + (f" (folders {folders} of layout {dataset.layout.name})" if folders else "")
            + ", and data.colours wants files. Set data.colours to auto, or to none to train without the composition "
            "loss."
        )
    if colours == "auto":
        colours = "files" if coloured else "estimate"
    if colours == "files":
        needed += COLOURS
    wanted = [*needed, *(["facemask"] if config.facemask and role == "training" else [])]
    wanted += ["trimap", "facemask"] if role == "validation" else []
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
    return names, files, bad, colours


def _groups(root: Path) -> dict[str, int]:
    """Groups of the dataset's manifest by name of the picture; their numbers hold for all sets together."""
    return {str(row["id"]): int(row["group"]) for row in open_dataset(root).rows() if "group" in row and "id" in row}


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
        self.names, self.files, bad, _ = _listed(root, set_name, "validation", DataConfig())
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
        planes.setdefault("trimap", trimap_of(planes["alpha"], facemask=planes.get("facemask")))
        if any(plane.shape[:2] != planes["image"].shape[:2] for plane in planes.values()):
            raise BadFile(f"{files['image']}: its alpha or trimap has another size. Export them at one size.")
        image = torch.from_numpy(planes["image"]).permute(2, 0, 1)
        greys = {kind: torch.from_numpy(planes[kind])[None] for kind in ("alpha", "trimap")}
        return {"image": image, **greys, "name": self.names[index]}
