"""Matched copy-and-paste: the source is chosen to fit the target by pose and by skin tone and light (the paper's
future work).

A target's pose comes from the dataset's manifest (`p3mdata build-split --poses`: steps of 15 degrees), its tone from
the obfuscated face itself, whose mean colours blur and mosaic keep. Sources have theirs in traits.jsonl
(`p3mdata face-traits`). Coarse groups of both, such as an age group, come from files (`p3mnet.copy_paste.groups`): then
a source agrees in as many of them as any does. Of the sources that fit best one is drawn at random, so that a target
does not always get one face.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p3mdata.celebamask.traits import tone_of
from p3mnet.copy_paste.groups import Group

# Of so many sources, those that fit best, one is drawn; at least this many, or this share of all.
_LEAST, _SHARE = 4, 0.01
# Differences that count alike: degrees of a pose, and units of L*, a*, b* and of the light's slope.
_DEGREES, _TONE = 15.0, 10.0


@dataclass(frozen=True)
class Traits:
    """Of a face: yaw, pitch, roll in degrees, and L*, a*, b* and slope of the light; None where unknown.

    `group` has what is known of its coarse groups.
    """

    pose: tuple[float, float, float] | None = None
    tone: tuple[float, float, float, float] | None = None
    group: Group = ()

    def mirrored(self) -> Traits:
        """Of the mirrored face."""
        pose = None if self.pose is None else (-self.pose[0], self.pose[1], -self.pose[2])
        return Traits(pose, None if self.tone is None else (*self.tone[:3], -self.tone[3]), self.group)


class Matcher:
    """Sources by how well they fit a target.

    Args:
        traits: Of each source.
    """

    def __init__(self, traits: Sequence[Traits]) -> None:
        self.poses = np.array([(np.nan,) * 3 if each.pose is None else each.pose for each in traits])
        self.tones = np.array([(np.nan,) * 4 if each.tone is None else each.tone for each in traits])
        self.groups = [frozenset(each.group) for each in traits]
        self._agreeing: dict[Group, NDArray[np.bool_]] = {}

    def distances(self, wanted: Traits) -> NDArray[np.float64]:
        """To each source; infinite for those that lack what is wanted."""
        total = np.zeros(len(self.poses))
        if wanted.pose is not None:
            total += (((self.poses - wanted.pose) / _DEGREES) ** 2).sum(1)
        if wanted.tone is not None:
            total += (((self.tones - wanted.tone) / _TONE) ** 2).sum(1)
        return np.where(np.isnan(total), np.inf, np.sqrt(total))

    def agreeing(self, wanted: Traits) -> NDArray[np.bool_]:
        """Which sources agree in the most groups; all where nothing is known of the target, or no source agrees."""
        if wanted.group not in self._agreeing:
            agreed = np.array([len(group & frozenset(wanted.group)) for group in self.groups])
            self._agreeing[wanted.group] = np.asarray(agreed == agreed.max())
        return self._agreeing[wanted.group]

    def draw(self, wanted: Traits, generator: torch.Generator) -> int:
        """Number of a source; equal numbers of the generator give equal choices."""
        agreeing = self.agreeing(wanted)
        distances = np.where(agreeing, self.distances(wanted), np.inf)
        usable = int(np.isfinite(distances).sum())
        if not usable or (wanted.pose is None and wanted.tone is None):
            alike = np.flatnonzero(agreeing)
            return int(alike[int(torch.randint(len(alike), (), generator=generator))])
        number = min(usable, max(_LEAST, round(_SHARE * len(distances))))
        best = np.argsort(distances, kind="stable")[:number]
        return int(best[int(torch.randint(number, (), generator=generator))])


def wanted_of(
    match: str, image: Tensor, face: Tensor, pose: Sequence[float] | None, group: Group = ()
) -> Traits | None:
    """What is wanted of a source for a target; None where any will do.

    Args:
        match: none, pose or pose+tone.
        image: uint8 RGB [3, H, W] on the CPU, the face obfuscated.
        face: bool [H, W].
        pose: Of the target, where the dataset knows it.
        group: Of the target, where a file knows it.
    """
    if match == "none":
        return Traits(group=group) if group else None
    known = None if pose is None else (float(pose[0]), float(pose[1]), float(pose[2]))
    tone = tone_of(image.permute(1, 2, 0).numpy(), face.numpy()) if match == "pose+tone" else None
    return None if known is None and tone is None and not group else Traits(known, tone, group)


def pose_at(face: Tensor, labels: Tensor, poses: Sequence[Sequence[float]]) -> Sequence[float] | None:
    """Pose of a target, from the label that its pixels have, see `p3mnet.data.labelled`; None where it is not known.

    Args:
        face: bool [H, W].
        labels: uint8 [H, W], 255 less the number of the face's pose.
        poses: Of the picture's faces.
    """
    number = 255 - int(labels[face].max())
    return poses[number] if number < len(poses) and poses[number] is not None else None
