"""Facemasks of any folder of portraits, from landmarks: the private area of the paper."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from p3mdata.anonymize.masks import private_area
from p3mdata.celebamask.geometry import FaceRule, Refusal, check_facemask
from p3mdata.config import Area
from p3mdata.errors import BrokenInput, SettingsError
from p3mdata.faces.models import Models
from p3mdata.imaging import SUFFIXES, decode
from p3mdata.imaging.listing import list_files, regular_file
from p3mdata.records import Mask


class Portraits:
    """A folder of portraits, subfolders included; makes facemasks at each photograph's displayed size.

    Portraits are named by their paths without the ending; all by their whole paths where two would share a name.

    Raises:
        SettingsError: The folder is not there.
    """

    kind = "landmarks"
    # Half a minute of work.
    chunk = 50

    def __init__(self, root: Path) -> None:
        self.root = root
        self._paths: dict[str, str] = {}
        self._models = Models()
        if not root.is_dir():
            raise SettingsError(f"{root}: is not a folder. Check the path.")

    def names(self) -> list[str]:
        """Names of all portraits, sorted.

        Raises:
            SettingsError: A folder cannot be listed, or holds no pictures.
        """
        files = (path for path in list_files(self.root, recursive=True) if path.suffix.lower() in SUFFIXES)
        photos = [PurePosixPath(path.relative_to(self.root).as_posix()) for path in files]
        if not photos:
            raise SettingsError(f"{self.root}: holds no pictures. Supported endings: {' '.join(sorted(SUFFIXES))}.")
        short = [str(photo.with_suffix("")) for photo in photos]
        names = short if len(set(short)) == len(short) else map(str, photos)
        self._paths = dict(zip(names, map(str, photos), strict=True))
        return sorted(self._paths)

    def image(self, name: str) -> str:
        """Path of a portrait, relative to the root."""
        return self._paths[name]

    def facemask(self, name: str) -> tuple[Mask, FaceRule]:
        """Private area of the largest face, HxW bool at the size of the photograph as displayed.

        Raises:
            Refusal: cannot_read, no_face, no_landmarks, a doubt of the detectors, or what `check_facemask` finds.
        """
        try:
            data = regular_file(self.root / self._paths[name]).read_bytes()
        except OSError as exc:
            raise Refusal("cannot_read", f"cannot be read ({exc.strerror}).") from exc
        try:
            picture = decode(data)
        except BrokenInput as exc:
            raise Refusal(exc.code, exc.sentence) from exc
        found = self._models().find(picture.seen8())
        if not found.faces:
            raise Refusal("no_face", "has no face that a detector sees.")
        if found.doubts:
            raise Refusal(found.doubts[0].code, f"leaves a doubt: {found.doubts[0].sentence}.")
        face = max(found.faces, key=lambda face: face.width)
        if face.landmarks is None:
            raise Refusal("no_landmarks", f"has no landmarks on its largest face ({face.no_landmarks}).")
        facemask = np.zeros(picture.size, bool)
        private_area(face, picture.size, Area.P3M).paint(facemask)
        check_facemask(facemask)
        return facemask, FaceRule.LANDMARKS

    def close(self) -> None:
        """Free the models."""
        self._models.close()
