"""What copy-and-paste does to a dataset, for people: how much of each face is covered, and a sheet of pairs."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import cv2
import numpy as np

from p3mdata.celebamask.traits import TRAITS
from p3mdata.typing import Json
from p3mnet.copy_paste.config import CopyPasteConfig
from p3mnet.copy_paste.geometry import align, cut_and_turn, draw_turn, faces_of, rectangle
from p3mnet.copy_paste.images import draw_icp, paste_image
from p3mnet.copy_paste.match import Matcher, Traits, pose_at, wanted_of
from p3mnet.copy_paste.sources import Sources
from p3mnet.data import TrainingSet, seeded
from p3mnet.image_files import Array, BadFile

# The same numbers as a run of seed 0 has, but for the coin, which is not tossed.
_SEED = 0
# Pixels.
_SHEET = 960


@dataclass
class Pastes:
    """Pairs of faces and targets.

    Attributes:
        coverage: Share of each target's mask that its face covers.
        without: Pictures in which no face is a target.
        angles, tones: Of pairs whose poses, or tones, are known: the root of the mean squared difference of yaw, pitch
            and roll in degrees, and the distance of mean L*, a*, b*; each beside the mean over all sources, which is
            what a random one comes to.
        groups: Of pairs whose target has a group: whether the source agrees with it, beside the share of all that do.
        rows: Source, its mask, target and merged picture of the first pairs, see `draw_icp`.
    """

    coverage: list[float] = field(default_factory=list)
    without: int = 0
    angles: list[tuple[float, float]] = field(default_factory=list)
    tones: list[tuple[float, float]] = field(default_factory=list)
    groups: list[tuple[float, float]] = field(default_factory=list)
    rows: list[Array] = field(default_factory=list)

    def to_json(self) -> Json:
        """Plain values, without pictures."""
        found = np.array(self.coverage or [np.nan])
        known: dict[str, float] = {}
        figures = ("angle_error", self.angles), ("tone_distance", self.tones), ("group_agreement", self.groups)
        for name, pairs in figures:
            if pairs:
                chosen, random = np.mean(pairs, 0)
                known |= {name: float(chosen), f"{name}_of_random": float(random)}
        return {
            **known,
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
        pairs: How many faces to paste over; fewer only where an epoch of crops shows none.
        shown: How many of them to draw.
    """
    found = Pastes()
    known = (sources.facemasks / TRAITS).is_file()
    before = 0
    for number in itertools.count():
        new_epoch = number > 0 and number % len(pictures) == 0
        if len(found.coverage) >= pairs or (new_epoch and len(found.coverage) == before):
            break
        before = len(found.coverage) if new_epoch else before
        generator = seeded(_SEED, number // len(pictures), number % len(pictures), 0)
        try:
            sample = pictures.sample(number % len(pictures), generator)
        except BadFile:
            continue
        faces = faces_of(sample["facemask"][0] > 127, sample["alpha"][0])
        found.without += not faces
        for face in faces[: pairs - len(found.coverage)]:
            turn = draw_turn(config, generator)[1]
            pose = pose_at(face, sample["facemask"][0], sample["poses"]) if "poses" in sample else None
            like = wanted_of(config.match, sample["image"], face, pose, sample.get("people", ()))
            like = like.mirrored() if like is not None and turn.flip else like
            source = sources.draw(generator, max(sample["image"].shape[-2:]), like)
            if sample.get("people"):
                agrees = sources.matcher(traits=False).agreeing(Traits(group=sample["people"]))
                found.groups.append((float(agrees[source.number]), float(agrees.mean())))
            if known:
                target = wanted_of("pose+tone", sample["image"], face, pose)
                assert target is not None
                _compare(found, sources.matcher(), target.mirrored() if turn.flip else target, source.number)
            rows, columns = rectangle(face)
            fill = (rows.stop - rows.start, columns.stop - columns.start) if config.fit == "fill" else None
            overlap = align(cut_and_turn(source.image, source.mask, turn, fill)[1], face)
            found.coverage.append(0.0 if overlap is None else float(overlap.mask.sum()) / float(face.sum()))
            if len(found.rows) < shown:
                (merged,) = paste_image(source, [sample["image"]], face, turn, config.fit)
                found.rows.append(draw_icp(source.image, source.mask, sample["image"], merged))
    return found


def _compare(found: Pastes, matcher: Matcher, target: Traits, number: int) -> None:
    """Add how far a source is from its target, and how far sources are in the mean."""
    if target.pose is not None:
        away = np.sqrt(((matcher.poses - target.pose) ** 2).mean(1))
        if np.isfinite(away[number]):
            found.angles.append((float(away[number]), float(np.nanmean(away))))
    if target.tone is not None:
        away = np.sqrt(((matcher.tones - target.tone)[:, :3] ** 2).sum(1))
        if np.isfinite(away[number]):
            found.tones.append((float(away[number]), float(np.nanmean(away))))


def sheet_of(rows: list[Array]) -> Array:
    """Rows of `draw_icp` below each other, each 960 px wide, RGB: Hx960x3."""
    heights = [max(1, round(row.shape[0] * _SHEET / row.shape[1])) for row in rows]
    fitted = [
        np.asarray(cv2.resize(row, (_SHEET, height), interpolation=cv2.INTER_AREA), np.uint8)
        for row, height in zip(rows, heights, strict=True)
    ]
    return np.concatenate(fitted, 0) if fitted else np.zeros((1, _SHEET, 3), np.uint8)
