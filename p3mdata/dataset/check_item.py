"""What is wrong or odd with one item of a dataset: its files, their sizes, matte, trimap and facemask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.anonymize.opacity import shows_face
from p3mdata.base.files import sha256
from p3mdata.dataset.folder import Dataset, DatasetItem
from p3mdata.dataset.layout import PICTURES, Content
from p3mdata.errors import BrokenInput
from p3mdata.imaging import Picture, decode
from p3mdata.imaging.facemask import RECOMPOSED, changed, is_facemask, replaced
from p3mdata.imaging.listing import regular_file
from p3mdata.imaging.mattes import AGREES, CLEARLY, edge_agreement
from p3mdata.imaging.metadata import leftovers
from p3mdata.imaging.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from p3mdata.records import Mask
from p3mdata.typing import Json

# An alpha of fewer values than this is a mask, not a matte.
_MATTE_VALUES = 8
# Less of a picture is no salient person, more leaves no background.
_PERSON_SHARE = (0.005, 0.995)
# Less of the middle of a picture belongs to the person: then opaque upper corners are the background's.
_MIDDLE_OF_INVERTED = 0.2
# Less of a facemask on the person is another's, or turned; bystanders have their part of it.
_FACE_ON_PERSON = 0.2
# Beside a face, narrower parts of a facemask, in pixels, are splinters that hair cut off, or hits on cloth.
_NARROWEST_FACE = 48
# Facemasks are larger than the boxes of faces, and reach to edges of the matte.
_MARGIN = 1 / 8


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong (error) or odd (warning) with a file of a dataset, or with a set."""

    file: str
    code: str
    sentence: str
    error: bool = True

    def to_json(self) -> Json:
        level = "error" if self.error else "warning"
        return {"file": self.file, "code": self.code, "sentence": self.sentence, "level": level}


def about_item(dataset: Dataset, name: str, item: DatasetItem, expected: Mapping[str, str]) -> Iterator[Finding]:
    """Findings about an item.

    Args:
        dataset: Its dataset.
        name: Its set.
        item: Its files.
        expected: Hashes by path of those that the manifest names.
    """
    layout = dataset.layout.sets[name]
    some = next(iter(item.files.values()))[0]
    for kind in layout.folders:
        if not item.files.get(kind) and dataset.folder(name, kind).is_dir():
            yield Finding(some, f"no_{kind}", f"has no {kind} of its name")
    arrays: dict[str, NDArray[Any]] = {}
    for kind, paths in sorted(item.files.items()):
        array, findings = _read_plane(dataset, kind, paths[0], expected)
        yield from findings
        if array is not None:
            arrays[kind] = array
    size = next((arrays[kind].shape[:2] for kind in ("image", "alpha") if kind in arrays), None)
    for kind, array in arrays.items():
        if array.shape[:2] != size and size is not None:
            shape = f"{array.shape[1]}x{array.shape[0]}"
            yield Finding(item.files[kind][0], "size", f"is {shape}, the picture is {size[1]}x{size[0]}")
    sized = {kind: array for kind, array in arrays.items() if array.shape[:2] == size}
    at = {kind: files[0] for kind, files in item.files.items()}
    if "alpha" in sized:
        yield from _about_alpha(at["alpha"], sized["alpha"])
        yield from _about_place(at, sized)
    if "trimap" in sized:
        yield from _about_trimap(at["trimap"], sized["trimap"], sized.get("alpha"), sized.get("facemask"))
    if "facemask" in sized:
        yield from _about_facemask(at["facemask"], sized["facemask"], layout.content)


def _read_plane(
    dataset: Dataset, kind: str, path: str, expected: Mapping[str, str]
) -> tuple[NDArray[Any] | None, list[Finding]]:
    """A file's pixels, None when it has none that can be compared, and what is odd about the file itself."""
    found: list[Finding] = []
    try:
        data = regular_file(dataset.root / path).read_bytes()
        if (digest := sha256(data)) != expected.get(path, digest):
            found.append(Finding(path, "changed_file", "is not the file that was built"))
        if kind in PICTURES:
            picture = decode(data, by_libjpeg=True)
            array: NDArray[Any] | None = picture.pixels
            if picture.orientation != 1:
                words = f"has EXIF orientation {picture.orientation}, which other programs may not apply"
                found.append(Finding(path, "orientation", words, error=False))
            if dataset.about and (left := leftovers(data)):
                found.append(Finding(path, "metadata_left", f"carries {', '.join(left)}"))
            return array, found
        array, odd = _grey(data)
    except BrokenInput as exc:
        return None, [*found, Finding(path, "unreadable", exc.sentence)]
    except OSError as exc:
        return None, [*found, Finding(path, "unreadable", f"cannot be read ({exc.strerror})")]
    return array, [*found, Finding(path, "channels", odd, error=array is None)] if odd else found


def _about_alpha(path: str, alpha: NDArray[Any]) -> Iterator[Finding]:
    top = np.iinfo(alpha.dtype).max
    counts = np.bincount(alpha.ravel() if top == 255 else (alpha >> 8).ravel(), minlength=256)
    share = float((alpha > top // 2).mean())
    if not alpha.any():
        yield Finding(path, "alpha_empty", "is black everywhere")
        return
    if int(alpha.max()) < top:
        sentence = f"has no opaque pixel, its largest value is {int(alpha.max())} of {top}"
        if int(alpha.max()) <= 1:
            yield Finding(path, "alpha_range", f"{sentence}: it seems to be stored as 0 to 1")
        elif int(alpha.max()) <= top // 255:
            yield Finding(path, "alpha_range", f"{sentence}: it seems to be stored as 0 to 255")
        else:
            yield Finding(path, "alpha_range", sentence, error=False)
    elif not _PERSON_SHARE[0] < share < _PERSON_SHARE[1]:
        yield Finding(path, "alpha_share", f"has {share:.1%} of a person in it", error=False)
    if np.count_nonzero(counts) < _MATTE_VALUES:
        yield Finding(path, "alpha_binary", f"has {np.count_nonzero(counts)} values: a mask, not a matte", error=False)


def _about_place(at: Mapping[str, str], sized: Mapping[str, NDArray[Any]]) -> Iterator[Finding]:
    """A matte that is the wrong way round or up, and a facemask that lies elsewhere than on its person."""
    alpha = sized["alpha"]
    person = alpha > np.iinfo(alpha.dtype).max // 2
    height, width = person.shape
    middle = person[height // 3 : -(height // 3) or None, width // 3 : -(width // 3) or None]
    if person[0, 0] and person[0, -1] and middle.size and middle.mean() < _MIDDLE_OF_INVERTED:
        yield Finding(at["alpha"], "alpha_inverted", "is opaque in the upper corners and not in the middle: inverted?")
    if (image := sized.get("image")) is not None and person.any():
        picture = Picture(image, None, "PNG", None, 1)
        if edge_agreement(alpha[::-1], picture) >= max(AGREES, CLEARLY * edge_agreement(alpha, picture)):
            yield Finding(at["alpha"], "alpha_upside_down", "fits the edges of its picture when it is turned over")
    if (facemask := sized.get("facemask")) is not None and person.any() and (facemask > 0).any():
        on_person = float(person[facemask > 0].mean())
        if on_person < _FACE_ON_PERSON:
            sentence = f"lies on the person of the matte with {on_person:.0%} of its pixels"
            yield Finding(at["facemask"], "facemask_beside", sentence)
    if facemask is not None:
        yield from _about_levels(at["alpha"], alpha, changed(facemask))


def _about_levels(path: str, alpha: NDArray[Any], hidden: Mask) -> Iterator[Finding]:
    """A matte that shows, in levels that nobody sees, what the facemask hides in the picture."""
    parts = cv2.connectedComponentsWithStats(hidden.view(np.uint8), connectivity=8)[2][1:].tolist()
    largest = max((area for *_, area in parts), default=0)
    for left, top, width, height, area in parts:
        x, y = _MARGIN * width, _MARGIN * height
        box = (left + x, top + y, left + width - x, top + height - y)
        if (width >= _NARROWEST_FACE or area == largest) and shows_face(alpha, box):
            sentence = f"shows the face at x={left} y={top} in its levels, which its facemask hides. Leave the item out"
            yield Finding(path, "alpha_shows_face", sentence)
            return


def _about_trimap(
    path: str, trimap: NDArray[Any], alpha: NDArray[Any] | None, facemask: NDArray[Any] | None = None
) -> Iterator[Finding]:
    known = np.isin(trimap, (BACKGROUND, UNKNOWN, FOREGROUND))
    if trimap.dtype != np.uint8 or not known.all():
        wrong = trimap[~known][:1]
        value = f"the value {int(wrong[0])}" if wrong.size else "16 bit"
        yield Finding(path, "trimap_values", f"has {value}; a trimap has 0, 128 and 255 only")
        return
    if not (trimap == UNKNOWN).any():
        yield Finding(path, "trimap_no_unknown", "has no unknown pixel")
    if alpha is not None:
        top = np.iinfo(alpha.dtype).max
        wrong_pixels = ((trimap == FOREGROUND) & (alpha < top)) | ((trimap == BACKGROUND) & (alpha > 0))
        if facemask is not None:
            # Replaced pixels are cut out of the unknown area.
            wrong_pixels &= ~replaced(facemask)
        if wrong_pixels.any():
            count = int(np.count_nonzero(wrong_pixels))
            yield Finding(path, "trimap_alpha", f"calls {count} pixels known that the matte does not", error=False)


def _about_facemask(path: str, facemask: NDArray[Any], content: Content) -> Iterator[Finding]:
    if not is_facemask(facemask):
        yield Finding(path, "facemask_values", f"has values other than 0, {RECOMPOSED} and 255", error=False)
    if not facemask.any() and content is Content.OBFUSCATED:
        yield Finding(path, "facemask_empty", "covers nothing", error=False)
    if facemask.all():
        yield Finding(path, "facemask_full", "covers the whole picture")


def _grey(data: bytes) -> tuple[NDArray[Any] | None, str | None]:
    """One channel of a picture, and what is odd about it."""
    picture = decode(data)
    array = picture.pixels
    if picture.opacity is not None and int(picture.opacity.min()) < np.iinfo(picture.opacity.dtype).max:
        return None, "has a transparency channel, as a cut-out has: save that channel alone"
    if array.ndim == 2:
        return array, None
    if (array[:, :, 0] == array[:, :, 1]).all() and (array[:, :, 0] == array[:, :, 2]).all():
        return array[:, :, 0], "has three equal channels where one would do"
    return None, "is a colour picture"
