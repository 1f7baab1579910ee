"""A second, slower look at one picture: every detector at three sizes, turned by quarters, mirrored, in tiles.

It takes some fifty times as long as the look of a run (`ensemble`), and is for audits: what it finds and the run
did not hide tells how often the run misses a face.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from p3mdata.faces.detectors import Box, Detector
from p3mdata.faces.ensemble import TURNED, FaceFinder, group_face, same_face
from p3mdata.faces.landmarks import Points
from p3mdata.faces.pyramid import Pyramid
from p3mdata.faces.turned import turned_back
from p3mdata.records import XYXY, Face

# Goes into what is kept of a look: another number, and pictures are looked at again.
VERSION = 2
# Pixels of the longer side that each detector is shown; the last one shows faces of a hundredth of the picture.
SIDES: dict[str, tuple[int, ...]] = {"centerface": (384, 768, 1536), "libfacedetection": (640, 1280, 2560)}
# A picture is enlarged up to this: detectors miss faces of a few pixels that they see enlarged.
MOST_ENLARGED = 2.0
# Pictures larger than a tile are shown in tiles, which bounds memory; faces up to the overlap are whole in one of them.
TILE, OVERLAP = 1024, 256
# By quarter turns to the left, and mirrored.
VIEWS = tuple((quarters, mirrored) for quarters in range(4) for mirrored in (False, True))
# Enlargements of a place, relative to its box, that every detector is shown, as they are and mirrored; their pixels.
_ENLARGED, _ENLARGED_SIDE = (1.6, 2.2, 3.0), 320
# What makes a place count as a face: every detector sees it in so many of these six views, with such a mean score; a
# view in which it is not seen counts 0. `benchmarks.second_look` measures them.
LEAST_VIEWS, LEAST_SCORE = 5, 0.3
_AT_CUT = 2.0
# Around a hit, for the landmark model: relative to the box, and in pixels.
_AROUND, _AROUND_SIDE = 4.0, 512


@dataclass(frozen=True)
class Seen:
    """One place at which the slow look sees something.

    Attributes:
        face: The place as a face, with landmarks where the picture shows it upright.
        mesh: Whether the landmark model sees a face there, in the view in which it is seen best.
        looks: By detector, how many of its looks at the picture (sizes and views) see it.
        views: In how many of six enlargements of one orientation the detector sees it that sees it least.
        score: Least mean score of a detector in these six.
    """

    face: Face
    mesh: bool
    looks: dict[str, int]
    views: int
    score: float

    @property
    def credible(self) -> bool:
        """Whether it counts as a face: every detector, asked about the place alone, says so again and again."""
        return self.views >= LEAST_VIEWS and self.score >= LEAST_SCORE


@dataclass(frozen=True)
class _Hit:
    """A hit in pixels of the picture as it lies, and the look that it is of."""

    box: Box
    side: int
    quarters: int
    mirrored: bool


def look_slowly(rgb: NDArray[np.uint8], finder: FaceFinder) -> list[Seen]:
    """Every place of a picture (HxWx3, 8-bit, displayed orientation) at which a detector sees a face in some look."""
    image = Pyramid(rgb)
    hits = [hit for name, detector in finder.detectors.items() for hit in _hits(image, detector, SIDES.get(name, ()))]
    return [_seen(image, group, finder) for group in _grouped(hits)]


def _hits(image: Pyramid, detector: Detector, sides: tuple[int, ...]) -> Iterator[_Hit]:
    long_side = max(image.size)
    # Of a small picture several sizes would be the same one.
    for side in sorted({min(side, round(long_side * MOST_ENLARGED)) for side in sides}):
        small, factor = image.at(side)
        height, width = small.shape[:2]
        for quarters, mirrored in VIEWS:
            view = np.rot90(small, quarters)
            view = np.ascontiguousarray(view[:, ::-1] if mirrored else view)
            for hit in _in_tiles(view, detector):
                box = _unmirrored(hit, view.shape[1]) if mirrored else hit
                yield _Hit(
                    turned_back(box, quarters, (height, width)).placed(0, 0, 1 / factor), side, quarters, mirrored
                )


def _in_tiles(view: NDArray[np.uint8], detector: Detector) -> Iterator[Box]:
    """Hits in a picture, of tiles where it is larger than one; what an inner cut of a tile goes through is left out."""
    height, width = view.shape[:2]
    for top, bottom in _cuts(height):
        for left, right in _cuts(width):
            for hit in detector.detect(np.ascontiguousarray(view[top:bottom, left:right])):
                box = hit.placed(left, top, 1.0)
                x0, y0, x1, y1 = box.xyxy
                cut = (
                    (left > 0 and x0 < left + _AT_CUT)
                    or (top > 0 and y0 < top + _AT_CUT)
                    or (right < width and x1 > right - _AT_CUT)
                    or (bottom < height and y1 > bottom - _AT_CUT)
                )
                if not cut:
                    yield box


def _cuts(side: int) -> list[tuple[int, int]]:
    """Beginnings and ends of the tiles along a side, evenly spread."""
    if side <= TILE:
        return [(0, side)]
    number = -(-(side - OVERLAP) // (TILE - OVERLAP))
    return [(start, start + TILE) for start in (round(i * (side - TILE) / (number - 1)) for i in range(number))]


def _unmirrored(box: Box, width: int) -> Box:
    left, top, right, bottom = box.xyxy
    points = box.points
    if points is not None:
        # The right eye of a mirrored face is the left one.
        points = np.stack([width - points[:, 0], points[:, 1]], 1)[[1, 0, 2, 4, 3]].astype(np.float32)
    return replace(box, xyxy=(width - right, top, width - left, bottom), points=points)


def _grouped(hits: list[_Hit]) -> list[list[_Hit]]:
    """Hits of one face together, from the strongest; each joins the first whose strongest hit is of the same face."""
    groups: list[list[_Hit]] = []
    for hit in sorted(hits, key=lambda hit: (-hit.box.score, hit.box.xyxy, hit.box.detector, hit.side)):
        for group in groups:
            if _near(hit.box, group[0].box) and same_face(hit.box.xyxy, group[0].box.xyxy):
                group.append(hit)
                break
        else:
            groups.append([hit])
    return groups


def _near(a: Box, b: Box) -> bool:
    """Whether two boxes overlap at all, which is quickly told."""
    return a.xyxy[0] < b.xyxy[2] and b.xyxy[0] < a.xyxy[2] and a.xyxy[1] < b.xyxy[3] and b.xyxy[1] < a.xyxy[3]


def _seen(image: Pyramid, group: list[_Hit], finder: FaceFinder) -> Seen:
    names = sorted({hit.box.detector for hit in group})
    looks = {name: len({(h.side, h.quarters, h.mirrored) for h in group if h.box.detector == name}) for name in names}
    views, score, asked = _asked(image, group, finder)
    face, best = group_face([hit.box for hit in group] + asked), group[0]
    mesh, missing = _mesh(image, face, best, finder)
    upright = mesh is not None and best.quarters == 0
    found = tuple(round(float(v), 2) for v in mesh.reshape(-1)) if mesh is not None and upright else None
    face = replace(face, landmarks=found, no_landmarks=None if upright else missing or TURNED)
    return Seen(face, mesh is not None, looks, views, score)


def _asked(image: Pyramid, group: list[_Hit], finder: FaceFinder) -> tuple[int, float, list[Box]]:
    """Every detector's word about a place, in the orientation (of those of its hits) in which they agree best.

    Returns:
        Least number of views in which a detector sees it, least mean score, and the hits where it counts as a face.
    """
    box, turns = group[0].box.xyxy, Counter(hit.quarters for hit in group)
    best: tuple[int, float, list[Box]] = (0, 0.0, [])
    for quarters in sorted(turns, key=lambda turn: (-turns[turn], turn)):
        hits = _hits_of_enlargements(image, box, quarters, finder)
        views = min(len(own) for own in hits.values())
        score = round(min(sum(hit.score for hit in own) for own in hits.values()) / (2 * len(_ENLARGED)), 3)
        if (views, score) > best[:2]:
            best = (views, score, sorted((hit for own in hits.values() for hit in own), key=lambda hit: -hit.score))
        if views >= LEAST_VIEWS and score >= LEAST_SCORE:
            return best
    return best[0], best[1], []


def _hits_of_enlargements(image: Pyramid, box: XYXY, quarters: int, finder: FaceFinder) -> dict[str, list[Box]]:
    """By detector, its strongest hit at the place in each view that has one; none after a size that one never sees."""
    hits: dict[str, list[Box]] = {name: [] for name in finder.detectors}
    for enlarge in _ENLARGED:
        crop, to_image = image.crop(box, enlarge, _ENLARGED_SIDE)
        turned = np.rot90(crop, quarters)
        for name, detector in finder.detectors.items():
            for mirrored in (False, True):
                view = np.ascontiguousarray(turned[:, ::-1] if mirrored else turned)
                placed = (
                    turned_back(
                        _unmirrored(hit, _ENLARGED_SIDE) if mirrored else hit,
                        quarters,
                        (_ENLARGED_SIDE, _ENLARGED_SIDE),
                    ).moved(float(to_image[0, 0]), to_image[:, 2])
                    for hit in detector.detect(view)
                )
                here = [hit for hit in placed if same_face(hit.xyxy, box)]
                if here:
                    hits[name].append(max(here, key=lambda hit: hit.score))
            if not hits[name]:
                return hits
    return hits


def _mesh(image: Pyramid, face: Face, best: _Hit, finder: FaceFinder) -> tuple[Points | None, str | None]:
    """Landmarks of a face (478x2, in pixels of the picture), looked for as its strongest hit was seen."""
    crop, to_image = image.crop(face.box, _AROUND, _AROUND_SIDE)
    near, far = (_AROUND_SIDE / 2 * (1 + sign / _AROUND) for sign in (-1, 1))
    left, top, right, bottom = face.box
    shape = (right - left, bottom - top) if best.quarters % 2 == 0 else (bottom - top, right - left)
    across, down = ((far - near) / 2 * side / max(shape) for side in shape)
    middle = _AROUND_SIDE / 2
    box = (middle - across, middle - down, middle + across, middle + down)
    turned = Pyramid(np.ascontiguousarray(np.rot90(crop, best.quarters)))
    mesh, missing = finder.mesh(turned, box)
    if mesh is None:
        return None, missing
    points = turned_back(Box(box, 0.0, mesh, ""), best.quarters, (_AROUND_SIDE, _AROUND_SIDE)).points
    assert points is not None
    return np.asarray(points * to_image[0, 0] + to_image[:, 2], np.float32), None
