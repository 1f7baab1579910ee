"""What is seen on a picture: faces, and doubts about them; in pixels of the displayed orientation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p3mdata.typing import Json

Mask = NDArray[np.bool_]
XYXY = tuple[float, float, float, float]


def boxes_of(rows: Any) -> tuple[XYXY, ...]:
    """Boxes that were read from JSON.

    Raises:
        TypeError, ValueError: They are none.
    """
    return tuple((float(left), float(top), float(right), float(bottom)) for left, top, right, bottom in rows)


@dataclass(frozen=True)
class Face:
    """One face in an image, in pixels of the displayed orientation.

    Attributes:
        box: Left, top, right, bottom; may reach over the border.
        score: Highest detector confidence in [0, 1].
        seen_by: Names of the detectors that found it, sorted.
        points: Five points (right eye, left eye, nose, mouth corners as seen), flat x, y pairs, or None.
        landmarks: 478 mesh points, flat x, y pairs, or None.
        no_landmarks: Why there are none, else None.
    """

    box: XYXY
    score: float
    seen_by: tuple[str, ...]
    points: tuple[float, ...] | None
    landmarks: tuple[float, ...] | None
    no_landmarks: str | None

    @property
    def width(self) -> float:
        """Width that strength is relative to: a head turned aside has a narrow box, so height counts as well."""
        left, top, right, bottom = self.box
        return max(right - left, 0.75 * (bottom - top))

    def mesh(self) -> NDArray[np.float64] | None:
        """Landmarks as (478, 2), or None."""
        return None if self.landmarks is None else np.array(self.landmarks).reshape(-1, 2)

    def five(self) -> NDArray[np.float64] | None:
        """Five points as (5, 2), or None."""
        return None if self.points is None else np.array(self.points).reshape(-1, 2)

    def to_json(self) -> Json:
        # Not `asdict`, which copies each of a thousand numbers.
        return dict(vars(self))

    @classmethod
    def from_json(cls, row: Json) -> Face:
        left, top, right, bottom = row["box"]
        return cls(
            (left, top, right, bottom),
            row["score"],
            tuple(row["seen_by"]),
            tuple(row["points"]) if row["points"] else None,
            tuple(row["landmarks"]) if row["landmarks"] else None,
            row["no_landmarks"],
        )


@dataclass(frozen=True)
class Doubt:
    """Why an image may not be released without a person's decision; `boxes` are of the faces that it is about."""

    code: str
    sentence: str
    boxes: tuple[XYXY, ...] = ()

    def to_json(self) -> list[Any]:
        return [self.code, self.sentence, self.boxes]

    @classmethod
    def from_json(cls, row: Any) -> Doubt:
        return cls(row[0], row[1], boxes_of(row[2] if len(row) > 2 else ()))
