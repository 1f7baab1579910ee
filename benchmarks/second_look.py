"""What the second look of `p3mdata audit --recall` takes for faces: thresholds of one half, reported on the other.

    python -m benchmarks.second_look KEPT.jsonl

Every place that a detector sees is shown to all detectors again, and counts as a face by how many views and what
scores come of it (`p3mdata.faces.slow`). This looks at the test photographs (`$P3MDATA_SHARED/testdata`, default
`../shared`) and at bystanders of 16, 20 and 24 pixels planted into a scene, keeps what it saw of each picture in
KEPT.jsonl and goes on there; a photograph takes about 10 s, all some 15 minutes of one core. Then for both halves of
the photographs and of the bystanders: the thresholds that lose no more than a fiftieth of the faces of one half and
let the fewest places through that are no face, and what these come to on the other half.

A place is no face where it lies neither on a labelled face nor on one that need not be found.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.anonymize import table
from benchmarks.recall import found, is_found, photographs, scenes
from p3mdata.base.jsonl import append_row, read_rows
from p3mdata.faces.ensemble import LOOKS, FaceFinder
from p3mdata.faces.slow import LEAST_SCORE, LEAST_VIEWS, look_slowly
from p3mdata.records import XYXY

WIDTHS = (16, 20, 24)
VIEWS, SCORES = (3, 4, 5, 6), (0.2, 0.3, 0.4, 0.5, 0.6)
# Of the faces that the loosest thresholds find, so many may be lost.
_MOST_LOST = 0.02
_ON = 0.5
_PHOTOGRAPH = "photograph"

Row = dict[str, Any]


def lies_on(box: XYXY, others: Sequence[XYXY]) -> bool:
    """Whether the smaller of two boxes lies mostly in the other, for one of the others."""
    for other in others:
        width = min(box[2], other[2]) - max(box[0], other[0])
        height = min(box[3], other[3]) - max(box[1], other[1])
        smaller = min((b[2] - b[0]) * (b[3] - b[1]) for b in (box, other))
        if width > 0 and height > 0 and width * height >= _ON * smaller:
            return True
    return False


def looked(finder: FaceFinder, name: str, picture: NDArray[np.uint8], faces: list[XYXY], others: list[XYXY]) -> Row:
    """What both looks see of a picture: of each face the best place, and the places that are on none."""
    seen = look_slowly(picture, finder)
    fast = found(finder, picture, LOOKS)[0]

    def best(face: XYXY) -> list[float]:
        own = [(one.views, one.score) for one in seen if is_found(face, np.array([one.face.box]))]
        return list(max(own, default=(0, 0.0)))

    none = [(one.views, one.score) for one in seen if not lies_on(one.face.box, [*faces, *others])]
    return {
        "picture": name,
        "faces": [best(face) for face in faces],
        "fast": [is_found(face, fast) for face in faces],
        "none": none,
    }


def pictures(shared: Path) -> Iterator[tuple[str, NDArray[np.uint8], list[XYXY], list[XYXY]]]:
    """Name, picture, faces, faces that need not be found: the smallest bystanders come first."""
    for number, (scene, faces) in enumerate(scenes(shared, WIDTHS[0])):
        yield f"{WIDTHS[0]} px, scene {number}", scene, faces, []
    for number, (picture, faces, others, _) in enumerate(photographs(shared)):
        yield f"{_PHOTOGRAPH} {number}", picture, faces, others
    for width in WIDTHS[1:]:
        for number, (scene, faces) in enumerate(scenes(shared, width)):
            yield f"{width} px, scene {number}", scene, faces, []


def is_photograph(row: Row) -> bool:
    return row["picture"].startswith(_PHOTOGRAPH)


def passes(place: Sequence[float], views: int, score: float) -> bool:
    return place[0] >= views and place[1] >= score


def counted(rows: Sequence[Row], views: int, score: float) -> dict[str, int]:
    """Faces found and all, places that are none, and photographs with such a place.

    What lies beside the planted bystanders comes with them from photographs, faces among it, and is not counted.
    """
    wrong = [sum(passes(place, views, score) for place in row["none"]) for row in rows if is_photograph(row)]
    places = [place for row in rows for place in row["faces"]]
    return {
        "found": sum(passes(place, views, score) for place in places),
        "faces": len(places),
        "none": sum(wrong),
        "pictures": sum(number > 0 for number in wrong),
    }


def choose(rows: Sequence[Row]) -> tuple[int, float]:
    """Thresholds that lose next to nothing and let the fewest places through; the loosest of those."""
    most = counted(rows, VIEWS[0], SCORES[0])["found"]
    kept = [
        (counted(rows, *both)["none"], both)
        for both in product(VIEWS, SCORES)
        if counted(rows, *both)["found"] >= (1 - _MOST_LOST) * most
    ]
    return min(kept)[1]


def report(rows: Sequence[Row]) -> str:
    """Tables in Markdown."""
    photos = [row for row in rows if is_photograph(row)]
    widths = [width for width in WIDTHS if any(row["picture"].startswith(f"{width} px") for row in rows)]
    halves = [[row for number, row in enumerate(rows) if number % 2 == odd] for odd in (0, 1)]
    lines: list[Sequence[str]] = []
    for one, (mine, other) in enumerate((halves, halves[::-1]), 1):
        both = choose(mine)
        got = counted(other, *both)
        wrong = f"{got['none']} on {got['pictures']} of {sum(map(is_photograph, other))}"
        lines.append((f"half {one}", _words(both), f"{got['found']} of {got['faces']}", wrong))
    held_out = table(["chosen on", "thresholds", "faces of the other half", "places on none, photographs"], lines)
    lines = []
    for both in ((LEAST_VIEWS, LEAST_SCORE), *product((3, 4, 6), (0.2, 0.3, 0.5))):
        own = counted(photos, *both)
        small = (counted([row for row in rows if row["picture"].startswith(f"{w} px")], *both) for w in widths)
        wrong = f"{own['none']} on {own['pictures']} of {len(photos)}"
        lines.append((_words(both), f"{own['found']} of {own['faces']}", *(f"{got['found']}" for got in small), wrong))
    kinds = (_PHOTOGRAPH, *(f"{width} px" for width in widths))
    fast = ([seen for row in rows if row["picture"].startswith(kind) for seen in row["fast"]] for kind in kinds)
    lines.append(("a run's own look", *(f"{sum(seen)} of {len(seen)}" for seen in fast), ""))
    head = ["thresholds", "labelled faces", *kinds[1:], "places on none, photographs"]
    return f"{held_out}\n\n{table(head, lines)}"


def _words(thresholds: tuple[int, float]) -> str:
    return f"{thresholds[0]} of 6, {thresholds[1]:g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kept", type=Path, help="what was seen, a row for each picture")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    shared = Path(os.environ.get("P3MDATA_SHARED", "../shared")) / "testdata"
    done = {row["picture"] for row in read_rows(given.kept, torn_tail=True)} if given.kept.exists() else set()
    with FaceFinder() as finder:
        for name, picture, faces, others in pictures(shared):
            if name not in done:
                append_row(given.kept, looked(finder, name, picture, faces, others))
    print(report(list(read_rows(given.kept))))


if __name__ == "__main__":
    main()
