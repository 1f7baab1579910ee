"""CelebAMask-HQ on disk: which images there are, and the annotated parts of one.

CelebA-HQ-img/{k}.jpg                                     1024x1024
CelebAMask-HQ-mask-anno/{k // 2000}/{k:05d}_{part}.png    512x512, 0 or 255; a missing file is an absent part
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import cv2
import numpy as np

from p3mdata.celebamask.geometry import BROWS, EYES, MOUTH, FaceRule, Refusal, brow_line, facemask_below
from p3mdata.errors import BrokenInput, SettingsError
from p3mdata.imaging import Pixels, decode
from p3mdata.imaging.trimap import stored_plane
from p3mdata.records import Mask

IMAGES, MASKS = "CelebA-HQ-img", "CelebAMask-HQ-mask-anno"
PARTS = (
    *("skin", "l_brow", "r_brow", "l_eye", "r_eye", "eye_g", "l_ear", "r_ear", "ear_r", "nose", "mouth"),
    *("u_lip", "l_lip", "neck", "neck_l", "cloth", "hair", "hat"),
)
# What a facemask is made of.
NEEDED = ("skin", *BROWS, *EYES, "nose", *MOUTH, "hair", "hat")
# Images whose annotation belongs to something else.
KNOWN_BAD = frozenset({4790, 4995})
_PER_FOLDER = 2000
_MASK_NAME = re.compile(rf"(\d{{5,}})_({'|'.join(PARTS)})\.png")
_IMAGE_NAME = re.compile(r"(0|[1-9]\d*)\.jpg")
_PNG_BEGIN, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
# Grey values that neither mean inside nor outside; more of them than white ones are no mask.
_UNCLEAR = 64, 191


class Annotations:
    """The folder of the data set; makes facemasks at the size of the annotation.

    Args:
        root: The folder that holds CelebAMask-HQ-mask-anno and, if the photographs are there, CelebA-HQ-img.

    Raises:
        SettingsError: It is not such a folder.
    """

    kind = "annotations"
    # Half a minute of work.
    chunk = 500

    def __init__(self, root: Path) -> None:
        self.root = root
        if not (root / MASKS).is_dir():
            raise SettingsError(
                f"{root}: has no folder {MASKS}. Give the folder CelebAMask-HQ, "
                "or --from-landmarks for portraits without annotation."
            )

    def names(self) -> list[str]:
        """Numbers of all images that have a photograph or any part, ascending.

        Raises:
            SettingsError: A folder cannot be listed, or holds nothing of the data set.
        """
        try:
            found = {int(match[1]) for match in map(_MASK_NAME.fullmatch, self._mask_files()) if match}
            if (self.root / IMAGES).is_dir():
                found |= {int(m[1]) for m in map(_IMAGE_NAME.fullmatch, os.listdir(self.root / IMAGES)) if m}
        except OSError as exc:
            raise SettingsError(f"{exc.filename}: cannot be listed ({exc.strerror}). Check the path.") from exc
        if not found:
            raise SettingsError(f"{self.root / MASKS}: holds no file like 0/00000_skin.png. Check the path.")
        return [str(number) for number in sorted(found)]

    def _mask_files(self) -> list[str]:
        folders = [entry.path for entry in os.scandir(self.root / MASKS) if entry.is_dir() and entry.name.isdecimal()]
        return [name for folder in folders for name in os.listdir(folder)]

    def image(self, name: str) -> str:
        """Path of a photograph, relative to the root, whether it is there or not."""
        return f"{IMAGES}/{name}.jpg"

    def parts(self, name: str) -> dict[str, Mask]:
        """The parts of one image that a facemask needs, HxW bool of one shape; absent ones are left out.

        Raises:
            Refusal: known_bad, no_annotation, unreadable_part, not_a_mask, other_size.
        """
        number = int(name)
        if number in KNOWN_BAD:
            raise Refusal("known_bad", "has an annotation that is known to be wrong.")
        parts = {part: mask for part in NEEDED if (mask := self._part(number, part)) is not None}
        if not parts:
            raise Refusal("no_annotation", f"has no annotation {_file_name(number, 'skin')} nor other parts.")
        size = next(iter(parts.values())).shape
        for part, mask in parts.items():
            if mask.shape != size:
                sizes = f"is {mask.shape[1]}x{mask.shape[0]}, but its other parts are {size[1]}x{size[0]}"
                raise Refusal("other_size", f"has a part of another size: {_file_name(number, part)} {sizes}.")
        return parts

    def _part(self, number: int, part: str) -> Mask | None:
        name = _file_name(number, part)
        try:
            data = (self.root / MASKS / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise Refusal("unreadable_part", f"has a part {name} that cannot be read ({exc.strerror}).") from exc
        try:
            grey = _grey(data)
        except BrokenInput as exc:
            raise Refusal("unreadable_part", f"has a part {name} that {exc.sentence}") from exc
        mask = grey > 127
        unclear = int(np.count_nonzero(cv2.inRange(grey, *_UNCLEAR)))
        white = int(np.count_nonzero(mask))
        if unclear > max(white, grey.size // 100) or (not white and grey.any()):
            raise Refusal("not_a_mask", f"has a part {name} that is not black and white (0 and 255).")
        return mask

    def facemask(self, name: str) -> tuple[Mask, FaceRule]:
        """Facemask of one image at the annotation's size, HxW bool, and the rule it was made by.

        Raises:
            Refusal: There is none; code and sentence say why.
        """
        parts = self.parts(name)
        line = brow_line(parts)
        return facemask_below(parts, line), line.rule

    def close(self) -> None:
        """Nothing is held."""


def _file_name(number: int, part: str) -> str:
    return f"{number // _PER_FOLDER}/{number:05d}_{part}.png"


def _grey(data: bytes) -> Pixels:
    """HxW uint8 of a part, whatever number of equal channels it was saved with."""
    if data.startswith(_PNG_BEGIN) and data.endswith(_PNG_END):
        grey = stored_plane(data, cv2.IMREAD_GRAYSCALE)
        if grey is None:
            raise BrokenInput("cannot_decode", "is damaged. Copy the file again.")
        return grey
    # Another format under this name, or a file that was cut: slower, and with a sentence about what is wrong.
    pixels = decode(data).rgb8()
    return np.ascontiguousarray(pixels.max(axis=2))
