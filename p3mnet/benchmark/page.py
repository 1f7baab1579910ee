"""The page of methods side by side: for some pictures of each set the truth and every method's alpha.

It shows pictures of the dataset alone: never a photograph before anonymization.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from p3mdata.base.html import Picture as Shown
from p3mdata.base.html import picture, render
from p3mdata.errors import BrokenInput
from p3mdata.imaging import decode
from p3mdata.imaging.draw import small_grey, thumbnail
from p3mnet.benchmark.pictures import NORMAL_SUFFIX, Picture
from p3mnet.benchmark.results import Benchmark
from p3mnet.image_files import BadFile, read_grey

# Pictures of each set, and the longer side of what is shown.
_MOST, _SIDE = 4, 220
# Where the alpha of a method for a picture of a set is: label, set, stem.
Alphas = Mapping[tuple[str, str, str], Path]


@dataclass(frozen=True)
class _Strip:
    name: str
    pictures: Sequence[Shown]


@dataclass(frozen=True)
class _Set:
    name: str
    strips: Sequence[_Strip]


def page(found: Benchmark, pictures: Sequence[Picture], alphas: Alphas) -> str:
    """The page; "" where no method has an alpha.

    Args:
        found: What the benchmark came to.
        pictures: Those that were tested.
        alphas: Files of alphas.
    """
    own = {(each.set, each.stem): each.files["image"] for each in pictures if each.own and "image" in each.files}
    sets = []
    for name in found.sets:
        there = [each for each in pictures if each.set == name and not each.problem]
        number = min(_MOST, len(there))
        chosen = [there[i * len(there) // number] for i in range(number)]
        strips = [strip for each in chosen for strip in _strip(found, each, own, alphas)]
        if strips:
            sets.append(_Set(name, strips))
    return render("benchmark.html", title=found.dataset.resolve().name, notes=found.notes, sets=sets) if sets else ""


def _strip(found: Benchmark, each: Picture, own: Mapping[tuple[str, str], Path], alphas: Alphas) -> Iterator[_Strip]:
    made = [(result, alphas[key]) for result in found.results if (key := (result.label, each.set, each.stem)) in alphas]
    if not made:
        return
    image = own.get((each.set.removesuffix(NORMAL_SUFFIX) if not each.own else each.set, each.stem))
    try:
        truth = read_grey(each.files["alpha"])
        cells = []
        if image is not None:
            cells.append(picture(thumbnail(decode(image.read_bytes()), None, _SIDE)[0], "image/jpeg", each.stem))
        cells.append(picture(small_grey(truth, _SIDE), "image/png", "truth"))
        for result, path in made:
            row = next((row for row in result.rows if (row.set, row.stem) == (each.set, each.stem)), None)
            error = f", SAD {row.values['SAD']:.2f}" if row is not None and "SAD" in row.values else ""
            cells.append(
                picture(small_grey(read_grey(path), _SIDE), "image/png", result.title.partition(" (")[0] + error)
            )
    except (BadFile, BrokenInput, OSError):
        return
    yield _Strip(each.stem, cells)
