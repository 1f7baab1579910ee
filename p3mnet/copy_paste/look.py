"""What copy-and-paste does to a dataset, for people: how much of each face is covered, and a sheet of pairs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from p3mnet.copy_paste.config import CopyPasteConfig
from p3mnet.copy_paste.geometry import align, cut_and_turn, draw_turn, faces_of, rectangle
from p3mnet.copy_paste.images import draw_icp, paste_image
from p3mnet.copy_paste.sources import Sources
from p3mnet.data import TrainingSet, seeded
from p3mnet.image_files import Array, BadFile

# The same numbers as a run of seed 0 has, but for the coin, which is not tossed.
_SEED = 0


@dataclass
class Pastes:
    """Pairs of faces and targets.

    Attributes:
        coverage: Share of each target's mask that its face covers.
        without: Pictures in which no face is a target.
        rows: Source, its mask, target and merged picture of the first pairs, see `draw_icp`.
    """

    coverage: list[float] = field(default_factory=list)
    without: int = 0
    rows: list[Array] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain values, without pictures."""
        found = np.array(self.coverage or [np.nan])
        return {
            "pairs": len(self.coverage),
            "pictures_without_a_face": self.without,
            "median_coverage": float(np.median(found)),
            "share_below_a_quarter": float((found < 0.25).mean()),
            "share_not_pasted": float((found == 0).mean()),
        }


def look(pictures: TrainingSet, sources: Sources, config: CopyPasteConfig, pairs: int, shown: int) -> Pastes:
    """Paste faces into crops of a training set, as training would.

    FCP is looked at in pixels, with its own scales; in a network it happens on a grid as coarse as the features.

    Args:
        pictures: The crops.
        sources: The faces.
        config: How, with a mode.
        pairs: How many faces to paste over, at most four epochs of crops.
        shown: How many of them to draw.
    """
    found = Pastes()
    for number in range(4 * len(pictures)):
        if len(found.coverage) >= pairs:
            break
        generator = seeded(_SEED, number // len(pictures), number % len(pictures), 0)
        try:
            sample = pictures.sample(number % len(pictures), generator)
        except BadFile:
            continue
        faces = faces_of(sample["facemask"][0] > 127, sample["alpha"][0])
        found.without += not faces
        for face in faces[: pairs - len(found.coverage)]:
            turn = draw_turn(config, generator)[1]
            source = sources.draw(generator, max(sample["image"].shape[-2:]))
            rows, columns = rectangle(face)
            fill = (rows.stop - rows.start, columns.stop - columns.start) if config.fit == "fill" else None
            overlap = align(cut_and_turn(source.image, source.mask, turn, fill)[1], face)
            found.coverage.append(0.0 if overlap is None else float(overlap.mask.sum()) / float(face.sum()))
            if len(found.rows) < shown:
                (merged,) = paste_image(source, [sample["image"]], face, turn, config.fit)
                found.rows.append(draw_icp(source.image, source.mask, sample["image"], merged))
    return found


def sheet_of(rows: list[Array], width: int = 960) -> Array:
    """Rows of `draw_icp` below each other, each `width` wide, RGB."""
    heights = [max(1, round(row.shape[0] * width / row.shape[1])) for row in rows]
    fitted = [
        np.asarray(cv2.resize(row, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        for row, height in zip(rows, heights, strict=True)
    ]
    return np.concatenate(fitted, 0) if fitted else np.zeros((1, width, 3), np.uint8)
