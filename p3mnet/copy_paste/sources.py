"""Faces that may be shown: portraits with facemasks, from which one is drawn at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p3mdata.base.jsonl import read_json, read_rows
from p3mdata.celebamask.annotations import Annotations
from p3mdata.celebamask.driver import PAIRS, SETTINGS
from p3mdata.celebamask.traits import TRAITS
from p3mdata.errors import RunFolderError, SettingsError, SetupError
from p3mdata.imaging.listing import pictures
from p3mnet.copy_paste.groups import Group, groups_of
from p3mnet.copy_paste.match import Matcher, Traits
from p3mnet.image_files import BadFile, read_colours, read_grey

_TRIES = 16
# Of the square that CelebA-HQ shows of a face (Karras et al. 2018, appendix C: four times the distance of the eyes, or
# 3.6 times that of eyes and mouth): the share that the private area covers, and how far below the square's centre its
# own lies. Means over 23 portraits with landmarks; the side that follows from an area is right within 5 %.
_SHARE, _BELOW = 0.26, 0.113


class Source(NamedTuple):
    """A face that may be shown.

    Attributes:
        image: uint8 RGB [3, h, w].
        mask: bool [h, w] with something in it.
        name: Of its file.
        number: Of its pair; -1 where there is none.
    """

    image: Tensor
    mask: Tensor
    name: str
    number: int = -1


class Sources:
    """Portraits with facemasks to copy from.

    Attributes:
        pairs: Files of image and facemask.
        bad: Sentences about files that were drawn and could not be used.

    Args:
        facemasks: What `p3mdata celeba-facemask` wrote (a folder with pairs.jsonl), or a folder of facemasks, or one
            that has the folders `image` and `facemask`. Portraits are cut to the face as CelebA-HQ shows it; pictures
            with CelebAMask-HQ's annotations are so already.
        images: The images' folder; None takes the one that pairs.jsonl was made from, or `image`.
        groups: Coarse groups of the faces, see `p3mnet.copy_paste.groups`.

    Raises:
        SettingsError: There are no pairs, or the file of groups cannot be used.
        RunFolderError: pairs.jsonl is damaged.
    """

    def __init__(self, facemasks: Path, images: Path | None = None, groups: Path | None = None) -> None:
        if (facemasks / PAIRS).is_file():
            self.pairs = list(_listed_pairs(facemasks, images))
        else:
            inside = images is None and (facemasks / "image").is_dir() and (facemasks / "facemask").is_dir()
            folders = (facemasks / "image", facemasks / "facemask") if inside else (images or facemasks, facemasks)
            found, masks = (_by_stem(folder) for folder in folders)
            self.pairs = [(found[stem], masks[stem]) for stem in sorted(found.keys() & masks.keys())]
            if folders[0] == folders[1]:
                self.pairs = []
        if not self.pairs:
            raise SettingsError(
                f"{facemasks}: has no pairs of image and facemask. Give the folder that p3mdata celeba-facemask wrote, "
                "or folders of images and facemasks with the same names."
            )
        self.bad: list[str] = []
        self.framed = not _is_celeba(facemasks)
        self.facemasks = facemasks
        names = ((mask.relative_to(facemasks).as_posix(), image.name) for image, mask in self.pairs)
        self.groups: list[Group] = [()] * len(self.pairs) if groups is None else groups_of(groups, names)
        self._matcher: Matcher | None = None
        self._grouped: Matcher | None = None

    def __len__(self) -> int:
        return len(self.pairs)

    def matcher(self, traits: bool = True) -> Matcher:
        """Chooses among these sources.

        Args:
            traits: Whether by pose and tone as well, and not by groups alone.

        Raises:
            SettingsError: Their poses and tones are not known.
        """
        if not traits:
            if self._grouped is None:
                self._grouped = Matcher([Traits(group=group) for group in self.groups])
            return self._grouped
        if self._matcher is None:
            path = self.facemasks / TRAITS
            rows = {row["facemask"]: row for row in read_rows(path, torn_tail=True, needs=("facemask",))}
            found = [rows.get(mask.relative_to(self.facemasks).as_posix(), {}) for _, mask in self.pairs]
            if not any(row.get("pose") for row in found):
                raise SettingsError(
                    f"{path}: is missing or tells no pose. Run 'p3mdata face-traits {self.facemasks}' first, or set "
                    "copy_paste.match to none."
                )
            self._matcher = Matcher(
                [
                    Traits(_numbers(row.get("pose")), _numbers(row.get("tone")), group)
                    for row, group in zip(found, self.groups, strict=True)
                ]
            )
        return self._matcher

    def draw(self, generator: torch.Generator, size: int, wanted: Traits | None = None) -> Source:
        """A random source in a frame of side `size`; one that cannot be used is noted and another one drawn.

        Args:
            generator: Random numbers.
            size: Side of the frame.
            wanted: What it shall be like; None takes any.

        Raises:
            SetupError: Many in a row cannot be used.
        """
        for _ in range(_TRIES):
            if wanted is None:
                number = int(torch.randint(len(self.pairs), (), generator=generator))
            else:
                traits = wanted.pose is not None or wanted.tone is not None
                number = self.matcher(traits).draw(wanted, generator)
            pair = self.pairs[number]
            try:
                return _read_source(*pair, size, self.framed)._replace(number=number)
            except BadFile as exc:
                if str(exc) not in self.bad:
                    self.bad.append(str(exc))
        raise SetupError(f"{_TRIES} sources in a row cannot be used, one of them: {self.bad[-1]}")


def _listed_pairs(folder: Path, images: Path | None) -> Iterator[tuple[Path, Path]]:
    if images is None:
        settings = read_json(folder / SETTINGS).get("settings")
        images = Path(str(settings.get("source", ""))) if isinstance(settings, dict) else folder
    try:
        for row in read_rows(folder / PAIRS):
            yield images / row["image"], folder / row["facemask"]
    except (KeyError, TypeError) as exc:
        raise RunFolderError(f"{folder / PAIRS}: is damaged ({exc!r}). Make the facemasks again.") from exc


def _by_stem(folder: Path) -> dict[str, Path]:
    """Pictures of a folder by name without ending."""
    if not folder.is_dir():
        raise SettingsError(f"{folder}: is not a folder. Check the path.")
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in pictures(folder, recursive=True)}


def _numbers(values: Any) -> Any:
    return None if values is None else tuple(float(value) for value in values)


def _is_celeba(facemasks: Path) -> bool:
    """Whether the facemasks come from CelebAMask-HQ's annotations."""
    if not (facemasks / SETTINGS).is_file():
        return False
    settings = read_json(facemasks / SETTINGS).get("settings")
    return isinstance(settings, dict) and settings.get("from") == Annotations.kind


def _frame(mask: NDArray[np.bool_]) -> tuple[slice, slice, float]:
    """Rows and columns of the square that CelebA-HQ would show of a face, as far as they lie in the picture; its side.

    Args:
        mask: The face, HxW, with something in it.
    """
    side = float(np.sqrt(mask.sum() / _SHARE))
    rows, columns = np.nonzero(mask)
    centre = rows.mean() - _BELOW * side, columns.mean()
    inside = [
        slice(max(0, round(at - side / 2)), min(full, max(1, round(at + side / 2))))
        for at, full in zip(centre, mask.shape, strict=True)
    ]
    # All of the mask, whatever its shape.
    for axis, places in enumerate((rows, columns)):
        part = inside[axis]
        inside[axis] = slice(min(part.start, int(places.min())), max(part.stop, int(places.max()) + 1))
    return inside[0], inside[1], side


def _read_source(image_file: Path, mask_file: Path, size: int, framed: bool) -> Source:
    image, mask = read_colours(image_file), read_grey(mask_file)
    (height, width), (mask_height, mask_width) = image.shape[:2], mask.shape
    if abs(height * mask_width - width * mask_height) > max(height * mask_width, width * mask_height) / 100:
        raise BadFile(f"{mask_file}: is {mask_width}x{mask_height}, another shape than its image of {width}x{height}.")
    shown = float(max(height, width))
    if framed and (mask > 127).any():
        whole = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        rows, columns, shown = _frame(whole > 127)
        image, mask = np.ascontiguousarray(image[rows, columns]), np.ascontiguousarray(whole[rows, columns])
        height, width = mask.shape
    sides = max(1, round(width * size / shown)), max(1, round(height * size / shown))
    smooth = cv2.INTER_AREA if shown > size else cv2.INTER_LINEAR
    face = cv2.resize(mask, sides, interpolation=cv2.INTER_NEAREST_EXACT) > 127
    if not face.any():
        raise BadFile(f"{mask_file}: shows no face.")
    pixels = torch.from_numpy(cv2.resize(image, sides, interpolation=smooth)).permute(2, 0, 1)
    return Source(pixels, torch.from_numpy(face), image_file.name)
