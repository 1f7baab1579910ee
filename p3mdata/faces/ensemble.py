"""Agreement of independent detectors, then landmarks per face; the detection stage as a whole."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from p3mdata.faces.detectors import REGISTRY, Box, Detector, LibFaceDetection, iou
from p3mdata.faces.face_mesh import FaceMesh
from p3mdata.faces.landmarks import LandmarkModel, Points
from p3mdata.faces.pieces import halves, parts
from p3mdata.faces.proposals import Proposals
from p3mdata.faces.pyramid import Pyramid
from p3mdata.faces.turned import look_turned, seen_again
from p3mdata.records import XYXY, Doubt, Face
from p3mdata.typing import Json


@dataclass(frozen=True)
class Look:
    """One detector at one scale.

    Attributes:
        detector: Its name.
        side: Pixels of the image's longer side.
        least: Hits of a lower score do not count.
        largest: Nor do hits wider or higher than this many pixels at that scale.
    """

    detector: str
    side: int
    least: float = 0.0
    largest: float = float("inf")


# High resolution loses close-ups and low resolution loses small faces: a small scale for all, a large one for
# bystanders only, by the faster network.
LOOKS = (
    Look("centerface", 384, least=0.228),
    Look("libfacedetection", 640),
    Look("libfacedetection", 1536, least=0.4, largest=64),
)
# On an output: other looks would repeat their answers about pixels that are proved to be those of the source.
LOOKS_AGAIN = (Look("libfacedetection", 640),)
# A larger scale is asked only where it shows more than the one before, and enlarges a small image only a little.
_LARGER_SCALE_HELPS = 1.3
_MOST_ENLARGED = 1.25
TURNED = "turned in the picture"
_LOOKS_TURNED, _JUDGES_TURNED = "libfacedetection", "centerface"
_SAME_FACE_IOU = 0.35
_SAME_FACE_INSIDE = 0.75
_CROPS = (2.0, 1.5)
# Enlargements, relative to the box, in which a face that only one detector saw is looked for again.
_SECOND_LOOKS = (1.6, 2.2, 3.0)
_SECOND_LOOK_SIDE = 224
# The one in which a face that was found on an output is looked for by whoever did not see it.
_AGAIN, _AGAIN_SIDE = 3.0, 192
# A mesh that lies elsewhere than the box belongs to another face.
_MESH_BOX_IOU = 0.3
# Below this share of the longer side, or this many pixels, a face is 'small': masked without asking.
_SMALL_SHARE = 0.03
_SMALL_PIXELS = 24
# One detector alone, no landmarks: below this a hit is masked without asking, and a second look confirms nothing.
_LONE_SCORE = 0.4
_IMPLAUSIBLE_ASPECT = 2.5
# A box this near to the border, relative to its longer side, is cut by it.
_AT_BORDER = 0.05


@dataclass(frozen=True)
class Detection:
    """All faces of one image, and what a person should decide before it is released."""

    faces: tuple[Face, ...]
    doubts: tuple[Doubt, ...]

    def merged_with(self, other: Detection) -> Detection:
        """Union of two looks at one image; a face seen in both is kept as the first look has it."""
        new = [face for face in other.faces if not any(same_face(face.box, known.box) for known in self.faces)]
        doubts = self.doubts + tuple(doubt for doubt in other.doubts if doubt not in self.doubts)
        return Detection(tuple(sorted((*self.faces, *new), key=_reading_order)), doubts)

    def with_faces(self, faces: Collection[Face]) -> Detection:
        """The same with further faces."""
        return Detection(tuple(sorted((*self.faces, *faces), key=_reading_order)), self.doubts)

    def without(self, boxes: Collection[XYXY]) -> Detection:
        """What is left when some boxes are no faces."""
        faces = tuple(face for face in self.faces if face.box not in boxes)
        return Detection(faces, tuple(d for d in self.doubts if not d.boxes or not set(d.boxes) <= set(boxes)))

    def to_json(self) -> Json:
        return {
            "faces": [face.to_json() for face in self.faces],
            "doubts": [doubt.to_json() for doubt in self.doubts],
        }

    @classmethod
    def from_json(cls, row: Json) -> Detection:
        return cls(tuple(Face.from_json(face) for face in row["faces"]), tuple(map(Doubt.from_json, row["doubts"])))


class FaceFinder:
    """Holds the models of one worker. Use as a context manager, or call `close`."""

    def __init__(
        self, detectors: dict[str, Detector] | None = None, landmark_model: LandmarkModel | None = None
    ) -> None:
        self._detectors = detectors or {name: make() for name, make in REGISTRY.items()}
        self._proposals = Proposals() if detectors is None else None
        self._landmarks = landmark_model or FaceMesh()

    @property
    def detectors(self) -> Mapping[str, Detector]:
        """The detectors by name."""
        return self._detectors

    def close(self) -> None:
        """Free the models."""
        self._landmarks.close()

    def __enter__(self) -> FaceFinder:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def boxes(self, image: Pyramid, looks: Sequence[Look] = LOOKS) -> list[list[Box]]:
        """Hits of the detectors at their scales, grouped by face, from the strongest group to the weakest."""
        long_side = max(image.size)
        hits: list[Box] = []
        asked: dict[str, int] = {}
        scores: NDArray[np.float32] | None = None
        for look in looks:
            detector, side = self._detectors[look.detector], look.side
            if look.detector in asked:
                if long_side < asked[look.detector] * _LARGER_SCALE_HELPS:
                    continue
                side = min(side, round(long_side * _MOST_ENLARGED))
            asked[look.detector] = side
            factor = side / long_side
            if isinstance(detector, LibFaceDetection) and look.largest == float("inf"):
                found, scores = detector.look(image.at(side)[0])
                hits += [hit.placed(0, 0, 1 / factor) for hit in found if hit.score >= look.least]
                continue
            windows = None
            if self._proposals is not None and scores is not None and look.largest < float("inf"):
                windows = self._proposals.windows(image, scores, image.size_at(side))
            pieces = halves(image.at(side)[0], look.largest) if windows is None else parts(image, side, windows)
            for piece in pieces:
                hits += [
                    hit.placed(piece.across, piece.down, 1 / factor)
                    for hit in detector.detect(piece.rgb)
                    if hit.score >= look.least and hit.extent <= look.largest and piece.owns(hit)
                ]
        return _group(hits)

    def with_others(self, image: Pyramid, group: list[Box]) -> list[Box]:
        """A group of hits, and those of the detectors that it lacks, each asked about an enlargement of the place."""
        seen_by = {hit.detector for hit in group}
        crop, to_image = image.crop(_common_box(group), _AGAIN, _AGAIN_SIDE)
        scale, offset = float(to_image[0, 0]), to_image[:, 2]
        hits = [
            hit.moved(scale, offset)
            for name, detector in self._detectors.items()
            if name not in seen_by
            for hit in detector.detect(crop)
        ]
        return [*group, *(hit for hit in hits if any(same_face(hit.xyxy, known.xyxy) for known in group))]

    def find(self, rgb: NDArray[np.uint8] | Pyramid) -> Detection:
        """Detect every face and its landmarks.

        Args:
            rgb: HxWx3, 8-bit, displayed orientation, or a pyramid of that.

        Returns:
            Faces in reading order, and doubts about them.
        """
        image = rgb if isinstance(rgb, Pyramid) else Pyramid(rgb)
        faces = self._turned(image, [self.look_closer(image, group) for group in self.boxes(image)])
        return Detection(tuple(sorted(faces, key=_reading_order)), tuple(_doubts(faces, image.size)))

    def _turned(self, image: Pyramid, known: Sequence[Face]) -> list[Face]:
        """The faces, and those that lie on their side or upside down, which both see when the picture is turned.

        One that was taken for an upright face, with landmarks the wrong way round, is better seen turned.
        """
        faces = list(known)
        looker, judge = self._detectors.get(_LOOKS_TURNED), self._detectors.get(_JUDGES_TURNED)
        if looker is None or judge is None:
            return faces
        for hit in sorted(look_turned(image, looker), key=lambda hit: (-hit.box.score, hit.box.xyxy)):
            same = [i for i, face in enumerate(faces) if same_face(hit.box.xyxy, face.box)]
            if any(hit.box.score <= faces[i].score for i in same):
                continue
            if (again := seen_again(image, hit, judge)) is not None:
                face = replace(group_face([hit.box, again]), no_landmarks=TURNED)
                for i in reversed(same):
                    face = replace(face, box=_around(face.box, faces.pop(i).box))
                faces.append(face)
        return faces

    def look_closer(self, image: Pyramid, group: list[Box]) -> Face:
        """The face that a group of hits stands for, with landmarks, or with a second opinion where there are none."""
        face = group_face(group)
        mesh, missing = self._placed(image, group), None
        if mesh is None or _overlap(face.box, mesh) < _MESH_BOX_IOU:
            mesh, missing = self.mesh(image, face.box)
        face = replace(face, landmarks=None if mesh is None else _flat(mesh), no_landmarks=missing)
        if mesh is None and len(face.seen_by) == 1 and not is_weak(face):
            face = replace(face, seen_by=self._second_opinion(image, face.box, face.seen_by[0]))
        return face

    def _second_opinion(self, image: Pyramid, box: XYXY, known: str) -> tuple[str, ...]:
        """Names of the detectors that see a face where only `known` saw it, or in enlargements of the place."""
        for enlarge in _SECOND_LOOKS:
            crop, to_image = image.crop(box, enlarge, _SECOND_LOOK_SIDE)
            scale, offset = to_image[0, 0], np.tile(to_image[:, 2], 2)
            for name, detector in self._detectors.items():
                if name == known:
                    continue
                hits = [hit for hit in detector.detect(crop) if hit.score >= _LONE_SCORE]
                placed = np.array([hit.xyxy for hit in hits]).reshape(-1, 4) * scale + offset
                if (iou(np.array(box), placed) >= _SAME_FACE_IOU).any():
                    return tuple(sorted((known, name)))
        return (known,)

    def _placed(self, image: Pyramid, group: list[Box]) -> Points | None:
        """The landmarks of a face that every detector sees, by their points alone: nobody's opinion is needed."""
        best = _strongest(group)
        if not isinstance(self._landmarks, FaceMesh) or len(best) < len(REGISTRY):
            return None
        if any(hit.points is None for hit in best.values()):
            return None
        return self._landmarks.place(image, list(best.values()))

    def mesh(self, image: Pyramid, box: XYXY, crops: Sequence[float] = _CROPS) -> tuple[Points | None, str | None]:
        """The landmarks (478x2, in pixels of the image) of the face in a box, or None and why there are none.

        Args:
            image: The image.
            box: Of the face.
            crops: Sides of the squares in which it is looked for, relative to the box, one after another.
        """
        found_elsewhere = False
        for enlarge in crops:
            crop, to_image = image.crop(box, enlarge)
            mesh = self._landmarks.locate(crop)
            if mesh is None:
                continue
            mesh = (mesh @ to_image[:, :2].T + to_image[:, 2]).astype(np.float32)
            if _overlap(box, mesh) >= _MESH_BOX_IOU:
                return mesh, None
            found_elsewhere = True
        return None, "landmarks lie elsewhere than the box" if found_elsewhere else "landmark model sees no face"


def _reading_order(face: Face) -> tuple[float, ...]:
    return face.box[1], face.box[0], *face.box


def group_face(group: list[Box]) -> Face:
    """The face that a group of hits stands for, before landmarks."""
    five = next((hit.points for hit in group if hit.points is not None), None)
    return Face(
        box=_common_box(group),
        score=round(max(hit.score for hit in group), 3),
        seen_by=tuple(sorted({hit.detector for hit in group})),
        points=None if five is None else _flat(five),
        landmarks=None,
        no_landmarks="not looked for",
    )


def is_weak(face: Face) -> bool:
    """One detector alone, hardly certain, no landmarks: masked, but not a reason to hold an image back."""
    return face.landmarks is None and len(face.seen_by) == 1 and face.score < _LONE_SCORE


def is_agreed(face: Face) -> bool:
    """Whether two detectors see a face, or landmarks confirm one."""
    return face.landmarks is not None or len(face.seen_by) > 1


def doubt_about_all(faces: Sequence[Face]) -> list[Doubt]:
    """A doubt where no face of a picture is agreed upon: a masked weak hit must not stand in for the one it shows."""
    if not faces or any(map(is_agreed, faces)):
        return []
    names = " or ".join(sorted({name for face in faces for name in face.seen_by}))
    return [
        Doubt(
            "detectors_disagree",
            f"only {names} sees a face, which is hardly certain, and no other is found",
            tuple(face.box for face in faces),
        )
    ]


def _around(a: XYXY, b: XYXY) -> XYXY:
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def _flat(points: NDArray[np.float32]) -> tuple[float, ...]:
    return tuple(np.round(points.reshape(-1).astype(np.float64), 2).tolist())


def _group(hits: list[Box]) -> list[list[Box]]:
    """Hits of one face together: strong overlap, or one box mostly inside another of similar size."""
    hits = sorted(hits, key=lambda hit: (-hit.score, hit.xyxy, hit.detector))
    groups: list[list[Box]] = []
    for hit in hits:
        for group in groups:
            if any(same_face(hit.xyxy, other.xyxy) for other in group):
                group.append(hit)
                break
        else:
            groups.append([hit])
    return groups


def same_face(a: XYXY, b: XYXY) -> bool:
    """Whether two boxes stand for one face: strong overlap, or one mostly inside the other of similar size."""
    box_a, box_b = np.array(a), np.array(b)
    overlap = float(iou(box_a, box_b[None])[0])
    if overlap >= _SAME_FACE_IOU:
        return True
    area_a, area_b = ((box[2] - box[0]) * (box[3] - box[1]) for box in (box_a, box_b))
    inside = overlap * (area_a + area_b) / (1 + overlap) / max(min(area_a, area_b), 1e-9)
    return inside >= _SAME_FACE_INSIDE and overlap >= _SAME_FACE_IOU / 2


def _common_box(group: list[Box]) -> XYXY:
    """Mean over detectors of each one's strongest box."""
    best = _strongest(group).values()
    left, top, right, bottom = (round(float(v), 1) for v in np.mean([hit.xyxy for hit in best], axis=0))
    return left, top, right, bottom


def _strongest(group: list[Box]) -> dict[str, Box]:
    """Each detector's strongest hit, by its name, in the order of names."""
    best: dict[str, Box] = {}
    for hit in group:
        best.setdefault(hit.detector, hit)
    return dict(sorted(best.items()))


def _overlap(box: XYXY, mesh: Points) -> float:
    """Intersection over union of a box and the one around a mesh."""
    around = np.concatenate([mesh.min(0), mesh.max(0)]).astype(np.float64)
    return float(iou(np.array(box), around[None])[0])


def _doubts(faces: Sequence[Face], size: tuple[int, int]) -> list[Doubt]:
    """What a person should decide about faces, from the strongest to the weakest.

    A hit of one detector is masked without asking beside an agreed face that is as wide: only where it is the widest
    may it be the picture's main face, hidden by less than a face needs.
    """
    agreed = max((face.width for face in faces if is_agreed(face)), default=0.0)
    return [doubt for face in faces if (doubt := _doubt(face, size, agreed)) is not None]


def _doubt(face: Face, size: tuple[int, int], agreed: float) -> Doubt | None:
    left, top, right, bottom = face.box
    width, height = right - left, bottom - top
    small = max(width, height) < max(_SMALL_SHARE * max(size), _SMALL_PIXELS)
    where = f"at x={left:.0f} y={top:.0f}, {width:.0f}x{height:.0f} px"
    if face.landmarks is None and not small:
        if len(face.seen_by) == 1 and not is_weak(face) and face.width > agreed:
            return Doubt(
                "detectors_disagree",
                f"only {face.seen_by[0]} sees a face {where}, and it has no landmarks",
                (face.box,),
            )
        # A face that the border cuts may have any shape.
        cut = min(left, top, size[1] - right, size[0] - bottom) <= _AT_BORDER * max(width, height)
        if max(width / max(height, 1e-6), height / max(width, 1e-6)) > _IMPLAUSIBLE_ASPECT and not cut:
            return Doubt("implausible_size", f"the face {where} has an implausible shape", (face.box,))
    return None
