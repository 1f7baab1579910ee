"""Files of a dataset as arrays: decoded, or mapped from raw copies that were decoded once."""

from __future__ import annotations

import hashlib
import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p3mdata.base.files import atomic, holds_nothing, keep_out_of_git, tidy_folder
from p3mdata.dataset.foregrounds import multi_level_colours, require_pymatting
from p3mdata.dataset.layout import PICTURES
from p3mdata.errors import BrokenInput, P3MError, SetupError
from p3mdata.imaging import Picture, decode

Array = NDArray[np.uint8]
_RAW_MAGIC = b"P3MRAW01"
# Magic, size and time of the file it was made from, height, width, channels.
_RAW_HEADER = struct.Struct("<8sQqIII")


class BadFile(P3MError):
    """A file, or a pair of files, that cannot be used; the sentence begins with its path."""


def read_colours(path: Path) -> Array:
    """A picture's colours, HxWx3 RGB uint8, as displayed; opacity is left out, never multiplied in.

    Raises:
        BadFile: It cannot be read or is damaged.
    """
    return np.array(_decoded(path).rgb8())


def read_grey(path: Path) -> Array:
    """A matte or mask, HxW uint8; 16 bits are rounded to 8. Three channels that are equal are taken for one.

    Raises:
        BadFile: It cannot be read, is damaged, in colour or transparent.
    """
    picture = _decoded(path)
    pixels, opacity = picture.pixels, picture.opacity
    if pixels.ndim == 3 or opacity is not None:
        opaque = opacity is None or (opacity == np.iinfo(opacity.dtype).max).all()
        grey = pixels[..., 0] if pixels.ndim == 3 else pixels
        if not opaque or (pixels.ndim == 3 and any((pixels[..., channel] != grey).any() for channel in (1, 2))):
            raise BadFile(f"{path}: has three channels or transparency. Save it as one grey channel.")
        pixels = np.ascontiguousarray(grey)
    if pixels.dtype == np.uint8:
        return np.array(pixels)
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _decoded(path: Path) -> Picture:
    """By p3mdata's decoder, so that training, inference and anonymization see the same pixels."""
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise BadFile(f"{path}: cannot be read ({exc.strerror or exc}).") from exc
    try:
        return decode(data)
    except BrokenInput as exc:
        raise BadFile(f"{path}: {exc.sentence}") from exc


def read_plane(kind: str, path: Path) -> Array:
    """What a file of a dataset holds: colours of pictures, else grey.

    Args:
        kind: "image", "foreground", "background", "alpha", "trimap" or "facemask".
        path: The file.

    Raises:
        BadFile: It cannot be used, or is an alpha that shows nobody.
    """
    if kind in PICTURES:
        return read_colours(path)
    pixels = read_grey(path)
    if kind == "alpha" and not pixels.any():
        raise BadFile(f"{path}: is empty, it shows nobody. Remove the picture from the set.")
    return pixels


class RawCache:
    """Decoded files as raw bytes, one beside the other in a folder, read by mapping them into memory.

    A copy is written once, under a temporary name and then renamed, so that any number of processes can share the
    folder. It is made again when the file's size or the time at which it came here is another one; released files all
    say that they were changed at one time.

    Args:
        folder: Where the copies are; made if need be.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        tidy_folder(folder)

    def read(self, kind: str, path: Path) -> Array:
        """A file's pixels, read-only: HxWx3 for colours, else HxW.

        Raises:
            BadFile: It cannot be used; there is no copy then.
            SetupError: The copy cannot be written.
        """
        try:
            stat = path.stat()
        except OSError as exc:
            raise BadFile(f"{path}: cannot be read ({exc.strerror or exc}).") from exc
        key = _RAW_MAGIC, stat.st_size, stat.st_ctime_ns
        # Greys are checked and made one channel, so that a file has as many copies as kinds it is used for.
        copy = self._copy(f"{kind} {path.resolve()}")
        if (known := _map_raw(copy, key)) is not None:
            return known
        pixels = read_plane(kind, path)
        self._write(copy, key, pixels, stat.st_mode)
        return pixels

    def colours(self, image_file: Path, alpha_file: Path, image: Array, alpha: Array) -> dict[str, Array]:
        """Foreground and background of a whole picture, HxWx3 each: estimated once, then mapped.

        Args:
            image_file, alpha_file: What they are of; when one of them has changed, they are estimated anew.
            image, alpha: The files' pixels.

        Raises:
            BadFile: A file is not there any more.
            SetupError: pymatting is not installed, or the copies cannot be written.
        """
        try:
            stats = [path.stat() for path in (image_file, alpha_file)]
        except OSError as exc:
            raise BadFile(f"{image_file}: cannot be read ({exc.strerror or exc}).") from exc
        # Sums stand for both files; equal ones of other files would take a time stamp forged to the nanosecond.
        key = _RAW_MAGIC, sum(stat.st_size for stat in stats), sum(stat.st_mtime_ns for stat in stats)
        copies = {kind: self._copy(f"{kind} of {image_file.resolve()}") for kind in ("foreground", "background")}
        known = {kind: _map_raw(copy, key) for kind, copy in copies.items()}
        if all(pixels is not None for pixels in known.values()):
            return {kind: pixels for kind, pixels in known.items() if pixels is not None}
        require_pymatting("data.colours whole")
        made = dict(zip(copies, multi_level_colours(image, alpha), strict=True))
        for kind, copy in copies.items():
            self._write(copy, key, made[kind], stats[0].st_mode)
        return made

    def _copy(self, what: str) -> Path:
        return self.folder / f"{hashlib.sha256(what.encode(errors='surrogateescape')).hexdigest()}.raw"

    def _write(self, copy: Path, key: tuple[bytes, int, int], pixels: Array, mode: int) -> None:
        """A copy, for nobody who may not read the file of that mode; raises SetupError when it cannot be written."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Also one whose maker was killed; what lies in other folders is not for us to hide.
            if holds_nothing(self.folder):
                keep_out_of_git(self.folder)
            with atomic(copy, 0o600 | mode & 0o066) as sink:
                sink.write(_RAW_HEADER.pack(*key, *pixels.shape[:2], pixels.size // math.prod(pixels.shape[:2])))
                sink.write(np.ascontiguousarray(pixels).data)
        except OSError as exc:
            raise SetupError(
                f"{self.folder}: the cache cannot be written ({exc.strerror or exc}). Make room, or go on without it."
            ) from exc


def _map_raw(copy: Path, key: tuple[bytes, int, int]) -> Array | None:
    """The copy's pixels, or None if it is not there, not whole, or of another state of the file."""
    try:
        with copy.open("rb") as source:
            *found, height, width, channels = _RAW_HEADER.unpack(source.read(_RAW_HEADER.size))
            if tuple(found) != key:
                return None
            shape = (height, width) if channels == 1 else (height, width, channels)
            return np.asarray(np.memmap(source, np.uint8, "r", _RAW_HEADER.size, shape))
    except (OSError, ValueError, struct.error):
        return None
