"""What a split is balanced over: resolution, number and size of faces, pose, and how a picture was made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from p3mdata.faces.pose import coarse, head_pose
from p3mdata.records import Face, ImageResult
from p3mdata.typing import Json

TRAITS = ("resolution", "faces", "face_size", "pose", "outcome")
# Mesh points: tip of the nose, and where the cheeks end on the right and the left of the picture's person.
_NOSE, _RIGHT_CHEEK, _LEFT_CHEEK = 1, 234, 454
# The nose this far towards one cheek, as a share of the way between both, is a profile.
_PROFILE = 0.2


def pose_of(face: Face | None) -> str:
    """frontal, profile, turned (a face without landmarks) or back (no face)."""
    if face is None:
        return "back"
    mesh = face.mesh()
    if mesh is None:
        return "turned"
    across = mesh[_LEFT_CHEEK] - mesh[_RIGHT_CHEEK]
    length = float(across @ across)
    where = float((mesh[_NOSE] - mesh[_RIGHT_CHEEK]) @ across) / length if length else 0.0
    return "frontal" if _PROFILE < where < 1 - _PROFILE else "profile"


@dataclass(frozen=True)
class Pose:
    """How a face is turned and where it lies.

    Attributes:
        at: Its middle from left and top, in hundredths of the picture.
        yaw, pitch, roll: In steps of 15 degrees, see `faces.pose.head_pose`.
    """

    at: tuple[float, float]
    yaw: int
    pitch: int
    roll: int

    def to_json(self) -> Json:
        return {**vars(self), "at": list(self.at)}


def poses_of(row: ImageResult) -> list[Pose]:
    """The pose of each face with landmarks.

    That is all that matched copy-and-paste wants of an obfuscated face; it says nothing about who it is.
    """
    width, height = row.width or 1, row.height or 1
    told = []
    for face in row.faces:
        mesh = face.mesh()
        if mesh is None:
            continue
        yaw, pitch, roll = map(coarse, head_pose(mesh))
        left, top, right, bottom = face.box
        at = round((left + right) / 2 / width, 2), round((top + bottom) / 2 / height, 2)
        told.append(Pose(at, yaw, pitch, roll))
    return told


def _bucket(value: float, bounds: tuple[float, ...], names: tuple[str, ...]) -> str:
    return names[sum(value >= bound for bound in bounds)]


def resolution_of(width: int, height: int) -> str:
    """Bucket of the shorter side in pixels."""
    return _bucket(min(width, height), (720, 1080, 2160), ("under 720", "720+", "1080+", "2160+"))


def faces_of(number: int) -> str:
    """Bucket of the number of faces."""
    return _bucket(number, (1, 2, 3), ("0", "1", "2", "3+"))


def traits_of(row: ImageResult) -> dict[str, str]:
    """The traits of a released image, by name of the trait; face size is that of the largest face's width."""
    main = max(row.faces, key=lambda face: (face.width, face.box), default=None)
    width, height = row.width or 1, row.height or 1
    share = main.width / max(width, height) if main else 0.0
    return {
        "resolution": resolution_of(width, height),
        "faces": faces_of(len(row.faces)),
        "face_size": _bucket(share, (0.05, 0.1, 0.2, 0.4), ("under 5 %", "5 %+", "10 %+", "20 %+", "40 %+")),
        "pose": pose_of(main),
        "outcome": row.outcome.value,
    }


def balance_of(rows: Iterable[tuple[str, Mapping[str, str]]]) -> dict[str, dict[str, dict[str, int]]]:
    """Images by trait, value and set, from the set and the traits of each image."""
    table: dict[str, dict[str, dict[str, int]]] = {trait: {} for trait in TRAITS}
    for name, traits in rows:
        for trait, value in traits.items():
            by_set = table[trait].setdefault(value, {})
            by_set[name] = by_set.get(name, 0) + 1
    return table
