"""The photographs a dataset was made of: found, compared, read, and obfuscated anew in memory. Nothing is written.

Sentences that go into files name pictures of the dataset, never an original: its name may be that of a person.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p3mdata.anonymize.masks import hand_regions
from p3mdata.anonymize.noise import Noise
from p3mdata.anonymize.obfuscate import obfuscate
from p3mdata.base.files import sha256
from p3mdata.base.ids import sample_id
from p3mdata.config import Method, Settings
from p3mdata.dataset.folder import Dataset
from p3mdata.errors import SettingsError
from p3mdata.imaging import SUFFIXES
from p3mdata.imaging.listing import list_files
from p3mnet.image_files import BadFile, read_colours, read_grey

Array = NDArray[np.uint8]
# Mean difference outside the facemask, in levels of 255, above which a file is not the picture's original; a JPEG that
# was encoded again stays below.
_OTHER = 12.0
_NAMED = 5
_COPY = re.compile(r"-\d+$")


@dataclass(frozen=True)
class Images:
    """Images of a set as they were photographed, or obfuscated anew: in place of the set's own, see `p3mnet.data`.

    Attributes:
        originals: Original by name of the picture.
        facemasks: Facemask by name; a picture without one is not obfuscated.
        method: None shows the photograph.
    """

    originals: Mapping[str, Path] = field(repr=False)
    facemasks: Mapping[str, Path] = field(repr=False)
    method: Method | None = None

    def __str__(self) -> str:
        return "originals" if self.method is None else f"originals, {self.method.value}"

    def __call__(self, name: str) -> Array:
        """HxWx3 RGB.

        Raises:
            BadFile: The original or the facemask cannot be read any more.
        """
        try:
            rgb = read_colours(self.originals[name])
        except BadFile as exc:
            raise BadFile(f"{name}: its original cannot be read.") from exc
        if self.method is None or name not in self.facemasks:
            return rgb
        return rendered(rgb, read_grey(self.facemasks[name]), self.method)


def rendered(rgb: Array, facemask: Array, method: Method) -> Array:
    """A photograph with the area of its facemask obfuscated, at the method's usual strength.

    Args:
        rgb: HxWx3.
        facemask: HxW, above 127 where the picture is obfuscated. Each connected part is taken for a face, as a
            hand-drawn mask is; its width stands for the face's.
        method: How.
    """
    settings = Settings(method=method)
    (_, strength), wanted = settings.obfuscation(), settings.privacy()
    # Nothing is released: the noise need not be secret, but equal for equal pictures.
    noise = None if wanted is None else Noise(*wanted, b"train-check")
    pixels = rgb.copy()
    for patch in hand_regions(facemask > 127):
        width = max(float(patch.mask.shape[1]), 0.75 * patch.mask.shape[0])
        obfuscate(pixels, patch, method, strength, width, noise)
    return pixels


def images_of(dataset: Dataset, set_name: str, originals: Mapping[str, Path], method: Method | None) -> Images:
    """Images of a set, from its originals."""
    masks = {
        stem: dataset.root / path
        for stem, item in dataset.items(set_name).items()
        if (path := item.path("facemask")) is not None
    }
    return Images({name: originals[name] for name in dataset.items(set_name)}, masks, method)


def find_originals(
    folder: Path,
    dataset: Dataset,
    sets: Iterable[str],
    workers: int,
    step: Callable[[], None] | None = None,
    secret: str | None = None,
) -> dict[str, Path]:
    """Original of each picture of some sets, compared with it: same size, and the same outside the facemask.

    A picture and its original have the same path without ending, or the same name; or the picture has the id that
    'anonymize' gives to the original's content, which only who has the run's secret can tell.

    Args:
        folder: The photographs.
        dataset: Its pictures.
        sets: Names of sets.
        workers: Threads.
        step: Called after each picture.
        secret: Of the run that the dataset was built from.

    Raises:
        SettingsError: Pictures have no original, or one of another size or content; they are named.
    """
    if not folder.is_dir():
        raise SettingsError(f"--originals {folder}: is no folder. Give the folder of the photographs.")
    items = {stem: item for name in sets for stem, item in dataset.items(name).items()}
    # The ids of runs that are older than secrets can be made by anybody.
    known = secret is not None or dataset.about is None or not dataset.about.keyed
    settings = (None if dataset.about is None else dataset.about.settings) or {}
    identify = functools.partial(sample_id, seed=int(settings.get("seed", 0)), secret=secret)
    found = _matched(folder, list(items), identify if known else None)
    if missing := sorted(items.keys() - found.keys()):
        raise SettingsError(
            f"--originals {folder}: has no photograph of {_listed(missing, len(items))}. A photograph belongs to a "
            "picture of its name, or, in a dataset of build-split, to the one made of exactly this file: for that give "
            "the run's secret, --secret-file RUN/private/secret."
        )

    def compare(stem: str) -> str | None:
        item = items[stem]
        files = {kind: dataset.root / path for kind in ("image", "facemask") if (path := item.path(kind)) is not None}
        why = _difference(found[stem], files)
        if step is not None:
            step()
        return None if why is None else f"{stem} ({why})"

    with ThreadPoolExecutor(workers) as pool:
        wrong = [sentence for sentence in pool.map(compare, sorted(items)) if sentence is not None]
    if wrong:
        raise SettingsError(
            f"--originals {folder}: do not fit {_listed(wrong, len(items))}. Give the photographs that the dataset was "
            "made of."
        )
    return found


def _listed(names: list[str], total: int) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{len(names)} of {total} pictures: {', '.join(names[:_NAMED])}{more}"


def _matched(folder: Path, stems: list[str], identify: Callable[[str, str], str] | None) -> dict[str, Path]:
    """Files by the stem of the picture they belong to; what is unclear is left out.

    `identify` gives the id for a hash and a path; None where nobody can tell.
    """
    files = sorted(path for path in list_files(folder, recursive=True) if path.suffix.lower() in SUFFIXES)
    by_path: dict[str, list[Path]] = {}
    by_name: dict[str, list[Path]] = {}
    for path in files:
        by_path.setdefault(path.relative_to(folder).with_suffix("").as_posix(), []).append(path)
        by_name.setdefault(path.stem, []).append(path)
    found = {}
    for stem in stems:
        candidates = by_path.get(stem) or by_name.get(Path(stem).name) or []
        if len(candidates) == 1:
            found[stem] = candidates[0]
    if identify is not None and (missing := [stem for stem in stems if stem not in found]):
        # Copies of one file have one content, so that any of them will do.
        by_id = {identify(sha256(path.read_bytes()), path.relative_to(folder).as_posix()): path for path in files}
        found |= {stem: by_id[plain] for stem in missing if (plain := _COPY.sub("", stem)) in by_id}
    return found


def _difference(original: Path, files: Mapping[str, Path]) -> str | None:
    """Why a photograph is not the original of a picture; None if it is."""
    try:
        photo = read_colours(original)
    except BadFile:
        return "it cannot be read"
    try:
        picture: Any = read_colours(files["image"])
        mask = read_grey(files["facemask"]) if "facemask" in files else np.zeros(picture.shape[:2], np.uint8)
    except BadFile as exc:
        return str(exc)
    if photo.shape != picture.shape:
        return f"{photo.shape[1]}x{photo.shape[0]} instead of {picture.shape[1]}x{picture.shape[0]}"
    outside = mask == 0
    if outside.any() and np.abs(photo[outside].astype(np.int16) - picture[outside]).mean() > _OTHER:
        return "another picture"
    return None
