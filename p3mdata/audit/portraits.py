"""One photograph's main face before and after: read from the run, held in memory without the rest of the picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p3mdata.anonymize.areas import mask
from p3mdata.anonymize.inputs import load
from p3mdata.anonymize.masks import Patch, Region, inside_matte
from p3mdata.anonymize.noise import Noise
from p3mdata.anonymize.pipeline import as_made
from p3mdata.anonymize.recompose import hide
from p3mdata.audit.attacks import deconvolve
from p3mdata.audit.recogniser import aligned, chip_to_image, corners
from p3mdata.base.files import sha256
from p3mdata.config import DP_EPSILON, DP_PIXELS, Method
from p3mdata.errors import BrokenInput
from p3mdata.faces.ensemble import Detection
from p3mdata.imaging import decode
from p3mdata.records import Face, ImageResult, Mask, Sample
from p3mdata.run.inputs import read_inputs
from p3mdata.run.layout import IMAGES
from p3mdata.run.plan import Plan

Pixels = NDArray[np.uint8]


class LeftOut(Exception):
    """A photograph that cannot take part; the message is the reason, for counting."""


@dataclass(frozen=True)
class Portrait:
    """The surroundings of a photograph's main face.

    Attributes:
        clear, released: HxWx3, 8-bit RGB: the same window of the decoded source and of the released file.
        regions: What is obfuscated in the window.
        covered: HxW of the window, True where the released file shows nothing but obfuscated pixels: the ring into
            which JPEG decoders smear colour is in a region and not in here.
        to_window: 2x3, from the aligned face's pixels to the window's; by the clear face's landmarks.
    """

    clear: Pixels
    released: Pixels
    regions: tuple[Region, ...]
    covered: Mask
    to_window: NDArray[np.float64]

    def aligned(self, window: Pixels) -> Pixels:
        """The aligned face of some rendering of the window."""
        return aligned(window, self.to_window)

    def obfuscated(self, method: Method, strength: float, epsilon: float = DP_EPSILON) -> Pixels:
        """The window as the tool obfuscates it, without encoding: what JPEG blocks keep is kept.

        The noise of dp-pix is not that of any release.
        """
        noise = Noise(epsilon, DP_PIXELS, b"audit") if method is Method.DP_PIX else None
        window = hide(self.clear, self.regions, method, strength, noise)
        changed = self.covered.copy()
        for region in self.regions:
            # Of a recomposed face all pixels change, by their share.
            if region.share is not None:
                region.patch.paint(changed)
        return np.where(changed[:, :, None], window, self.clear)

    def deconvolved(self, window: Pixels, strength: float) -> Pixels:
        """A rendering of the window after undoing a blur of this strength, as far as it can be undone."""
        for region in self.regions:
            window = deconvolve(window, region.patch, self.covered, max(1.0, strength * region.width))
        return window


def main_face(faces: tuple[Face, ...], matte: NDArray[np.unsignedinteger] | None) -> Face | None:
    """The widest face with landmarks; where there is a matte (or trimap, HxW), of those of its person."""
    within = [True] * len(faces) if matte is None else inside_matte(faces, matte)
    known = [face for face, belongs in zip(faces, within, strict=True) if belongs and face.landmarks is not None]
    return max(known, key=lambda face: face.width, default=None)


def read_portrait(plan: Plan, sample: Sample, row: ImageResult) -> Portrait:
    """The main face of one released image, from its source and its released file; both are checked by hash.

    Raises:
        LeftOut: There is no face with landmarks, or a file is gone or not the one of the run.
    """
    if all(face.landmarks is None for face in row.faces):
        raise LeftOut("no face with landmarks")
    try:
        loaded = as_made(load(read_inputs(sample, plan.job), plan.job.settings), row)
        name, expected = row.files["images"]
        data = (plan.job.out / IMAGES / name).read_bytes()
        if sha256(data) != expected:
            raise LeftOut("released file changed")
        released = decode(data, plan.job.settings.max_pixels, by_libjpeg=True).seen8()
    except (BrokenInput, KeyError, OSError) as exc:
        raise LeftOut("source or released file cannot be read or changed") from exc
    face = main_face(row.faces, loaded.alpha if loaded.alpha is not None else loaded.trimap)
    mesh = None if face is None else face.mesh()
    clear = loaded.picture.seen8()
    if mesh is None or clear.shape != released.shape:
        raise LeftOut("no face with landmarks" if mesh is None else "released file changed")
    masked = mask(loaded, Detection(row.faces, ()), plan.job.settings)
    return cut_out(clear, released, masked.regions, masked.covered, mesh)


def cut_out(
    clear: Pixels,
    released: Pixels,
    regions: tuple[Region, ...],
    covered: Mask,
    mesh: NDArray[np.float64],
) -> Portrait:
    """Keep the window that the aligned face shows, and of each region that touches it all pixels."""
    to_image = chip_to_image(mesh)
    shown = _box(corners(to_image), clear.shape)
    near = [region for region in regions if region.patch.mask.any() and _meet(shown, region.patch)]
    ends = [shown, *(_box_of(region.patch) for region in near)]
    top, left = (min(end[i] for end in ends) for i in (0, 1))
    bottom, right = (max(end[i] for end in ends) for i in (2, 3))
    window = np.s_[top:bottom, left:right]
    moved = tuple(
        Region(
            Patch(region.patch.top - top, region.patch.left - left, region.patch.mask),
            region.width,
            None if region.share is None else region.share[window].copy(),
        )
        for region in near
    )
    shift = np.array([[0, 0, left], [0, 0, top]])
    return Portrait(clear[window].copy(), released[window].copy(), moved, covered[window].copy(), to_image - shift)


def _box(points: NDArray[np.float64], shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """top, left, bottom, right of the pixels around points, clipped to the image; never empty."""
    (left, top), (right, bottom) = np.floor(points.min(0)).astype(int) - 1, np.ceil(points.max(0)).astype(int) + 2
    top, left = (int(np.clip(v, 0, side - 1)) for v, side in ((top, shape[0]), (left, shape[1])))
    return top, left, int(np.clip(bottom, top + 1, shape[0])), int(np.clip(right, left + 1, shape[1]))


def _box_of(patch: Patch) -> tuple[int, int, int, int]:
    return patch.top, patch.left, patch.top + patch.mask.shape[0], patch.left + patch.mask.shape[1]


def _meet(box: tuple[int, int, int, int], patch: Patch) -> bool:
    top, left, bottom, right = _box_of(patch)
    return top < box[2] and box[0] < bottom and left < box[3] and box[1] < right
