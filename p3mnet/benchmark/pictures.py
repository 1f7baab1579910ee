"""Pictures of a dataset's validation sets, with their trimaps, as a benchmark shows them to methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from p3mdata.base.files import sha256
from p3mdata.dataset.folder import Dataset, DatasetItem
from p3mdata.dataset.layout import Content
from p3mdata.errors import BrokenInput, SettingsError
from p3mdata.imaging import decode, decode_matte
from p3mdata.imaging.listing import regular_file
from p3mdata.imaging.trimap import BACKGROUND, FOREGROUND, KERNEL, UNKNOWN, trimap_of
from p3mnet.baselines import Image
from p3mnet.evaluate import Task, has_trimaps, sets_among
from p3mnet.originals import find_originals

_KINDS = ("image", "alpha", "trimap", "facemask")
_FEW = 30
# Ends the name of a set that shows pictures as they were photographed.
NORMAL_SUFFIX = "-normal"


@dataclass(frozen=True)
class Picture:
    """One picture and its files.

    Attributes:
        set, stem: Where it belongs.
        files: By kind: image, alpha, and trimap and facemask where the set has them.
        hashes: SHA-256 by kind.
        problem: Why it cannot take part; "" if it can.
        own: Whether the image is the dataset's, and no photograph before anonymization.
    """

    set: str
    stem: str
    files: Mapping[str, Path]
    hashes: Mapping[str, str]
    problem: str = ""
    own: bool = True

    def task(self, prediction: Path) -> Task:
        """What `p3mnet.evaluate` wants of it."""
        return Task(
            self.set, self.stem, prediction, self.files["alpha"], self.files.get("trimap"), self.files.get("facemask")
        )


def choose_sets(dataset: Dataset, wanted: Sequence[str] | None) -> list[str]:
    """Sets to test on: the wanted ones, or those of validation, the obfuscated one first.

    Raises:
        SettingsError: There is no such set, or none to validate on.
    """
    there = sets_among(dataset, wanted)
    layout = dataset.layout
    chosen = list(wanted or ()) or [name for name in (layout.validation, layout.free) if name in there]
    if not chosen:
        raise SettingsError(
            f"{dataset.root}: has no validation set (sets: {', '.join(there)}). Build it with `p3mdata build-split "
            "--validation`, or name sets to test on with --set."
        )
    return chosen


def notes_on(dataset: Dataset, counts: Mapping[str, int]) -> list[str]:
    """What a reader should know about these sets."""
    notes = []
    free = dataset.layout.free
    if free is not None and free not in counts:
        notes.append(f"The dataset has no set free of private content ({free}), or it was not asked for.")
    notes += [
        f"{name} has {count} images: with so few, the intervals say more than the means."
        for name, count in counts.items()
        if count < _FEW
    ]
    return notes


def kernel_of(dataset: Dataset) -> int:
    """Side of the kernel that a dataset's trimaps are made with, where it has none of its own."""
    return KERNEL if dataset.about is None else dataset.about.trimap_kernel or KERNEL


def pictures_of(dataset: Dataset, sets: Sequence[str], limit: int = 0) -> list[Picture]:
    """Pictures of some sets in order.

    Args:
        dataset: A dataset.
        sets: Names.
        limit: Of each set the first so many; 0 = all.

    Raises:
        SettingsError: A set has no pictures.
    """
    found: list[Picture] = []
    for name in sets:
        items = list(dataset.items(name).values())
        if not items:
            raise SettingsError(f"{dataset.root}: the set {name} holds no pictures.")
        trimaps = has_trimaps(dataset, name)
        found += [_picture(dataset, name, item, trimaps) for item in (items[:limit] if limit else items)]
    return found


def as_photographed(
    dataset: Dataset, pictures: Sequence[Picture], originals: Path, workers: int, secret: str | None = None
) -> list[Picture]:
    """The obfuscated pictures among these once more, as a set of its own (NAME-normal): as they were photographed.

    Names and contents of the photographs go nowhere but to the methods.

    Raises:
        SettingsError: There is no obfuscated picture, or a photograph is missing or of another picture.
    """
    private = {name for name, chosen in dataset.layout.sets.items() if chosen.content is Content.OBFUSCATED}
    wanted = [picture for picture in pictures if picture.set in private]
    if not wanted:
        raise SettingsError(
            "--originals: none of the sets tested on is obfuscated, so there is nothing to compare with."
        )
    found = find_originals(originals, dataset, dict.fromkeys(picture.set for picture in wanted), workers, secret=secret)
    shown = []
    for picture in wanted:
        files = {**picture.files, "image": found[picture.stem]}
        hashes = {**picture.hashes}
        if not picture.problem:
            hashes["image"] = sha256(found[picture.stem].read_bytes())
        shown.append(Picture(f"{picture.set}{NORMAL_SUFFIX}", picture.stem, files, hashes, picture.problem, False))
    return shown


def _picture(dataset: Dataset, name: str, item: DatasetItem, trimaps: bool) -> Picture:
    needed = ("image", "alpha", "trimap") if trimaps else ("image", "alpha")
    files = {kind: dataset.root / path for kind in _KINDS if (path := item.path(kind)) is not None}
    if absent := [kind for kind in needed if kind not in files]:
        return Picture(name, item.stem, files, {}, f"has no {absent[0]} in the dataset")
    try:
        hashes = {kind: sha256(regular_file(path).read_bytes()) for kind, path in files.items()}
    except OSError as exc:
        return Picture(name, item.stem, files, {}, f"has a file that cannot be read ({exc.strerror or exc})")
    except BrokenInput as exc:
        return Picture(name, item.stem, files, {}, f"has a file that {exc.sentence}")
    return Picture(name, item.stem, files, hashes)


def load(picture: Picture, kernel: int) -> tuple[Image, Image]:
    """RGB HxWx3, and trimap HxW of 0, 128, 255: the set's, or made of the alpha with this kernel.

    Raises:
        BrokenInput: A file cannot be used.
        OSError: A file cannot be read.
    """
    photo = decode(picture.files["image"].read_bytes())
    if "trimap" not in picture.files:
        alpha = decode_matte(picture.files["alpha"].read_bytes(), photo, "alpha")
        facemask = picture.files.get("facemask")
        mask = None if facemask is None else decode_matte(facemask.read_bytes(), photo, "facemask")
        return photo.rgb8(), trimap_of(alpha, kernel, mask)
    trimap = decode_matte(picture.files["trimap"].read_bytes(), photo, "trimap")
    if set(np.unique(trimap)) - {BACKGROUND, UNKNOWN, FOREGROUND}:
        raise BrokenInput("trimap_values", "has a trimap with other values than 0, 128 and 255.")
    return photo.rgb8(), np.asarray(trimap, np.uint8)


def timing_picture(pictures: Sequence[Picture], side: int) -> tuple[Image, Image, str]:
    """The first usable picture, side x side, with its trimap and the hash of its image: what times are measured on.

    Raises:
        SettingsError: No picture can be used.
    """
    for rgb, alpha, name in _readable(pictures):
        square, matte = (
            np.asarray(cv2.resize(plane, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
            for plane in (rgb, alpha)
        )
        return square, trimap_of(matte), name
    raise SettingsError("No picture of the chosen sets can be read: run `p3mdata check` on the dataset.")


def _readable(pictures: Sequence[Picture]) -> Iterator[tuple[Image, Image, str]]:
    for picture in pictures:
        if picture.problem:
            continue
        try:
            photo = decode(picture.files["image"].read_bytes())
            alpha = decode_matte(picture.files["alpha"].read_bytes(), photo, "alpha")
        except (BrokenInput, OSError):
            # The methods' rows say so.
            continue
        eight = alpha if alpha.dtype == np.uint8 else (alpha >> 8).astype(np.uint8)
        yield photo.rgb8(), eight, picture.hashes["image"]
