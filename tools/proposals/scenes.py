"""Scenes for the proposal network: drawn people at bystanders' sizes before generated and free backgrounds."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.faces.detectors import Detector
from tools.proposals.people import SIDE, Painter, Person

Image = NDArray[np.uint8]

# Pixels of a scene as the look for bystanders sees it; the network sees half of it.
SCENE = 384
CELL = 16
# Photographs that scikit-image ships as CC0 or in the public domain.
_FREE = ("brick", "camera", "cat", "coffee", "grass", "gravel", "hubble_deep_field", "rocket")
# Longer sides of faces, in pixels of a scene: what the look is for, and what must not draw its attention.
_SMALL, _LARGE = (9.0, 56.0), (90.0, 420.0)
_LARGEST, _SURE, _MAYBE = 64, 0.4, 0.3
# Backgrounds that are kept to stand people before.
_KEPT = 150


@dataclass(frozen=True)
class Sample:
    """What the network sees, and where it should see something.

    Attributes:
        rgb: SCENE / 2 x SCENE / 2 x 3, uint8.
        target: SCENE / CELL squared, float32: 1 in cells in which the look finds a face.
        known: The same shape: 0 where it is left open.
    """

    rgb: Image
    target: NDArray[np.float32]
    known: NDArray[np.float32]


def free_photographs() -> list[Image]:
    """Backgrounds without people that anyone may use."""
    from skimage import data

    pictures = [np.asarray(getattr(data, name)()) for name in _FREE]
    return [np.repeat(p[..., None], 3, 2) if p.ndim == 2 else p[..., :3].copy() for p in pictures]


class Stage:
    """Makes samples; `teacher` is the network whose look at a scene is to be foretold."""

    def __init__(self, painter: Painter, people: list[Person], teacher: Detector, photographs: list[Image]) -> None:
        self._painter = painter
        self._people = people
        self._teacher = teacher
        self._photographs = photographs
        self._kept: list[Image] = []

    def sample(self, rng: np.random.Generator) -> Sample:
        """One scene."""
        scene = self._background(rng)
        known = np.ones((SCENE // CELL,) * 2, np.float32)
        if rng.random() < 0.25:
            self._place(scene, rng, rng.uniform(*_LARGE))
        placed = []
        for _ in range(int(rng.choice((0, 1, 4, 8, 12, 16)))):
            extent = float(np.exp(rng.uniform(*np.log(_SMALL))))
            if (box := self._place(scene, rng, extent)) is not None:
                placed.append(box)
        scene = _developed(scene, rng)
        target = np.zeros_like(known)
        hits = [hit for hit in self._teacher.detect(scene) if hit.extent <= _LARGEST and hit.score >= _MAYBE]
        # A face that the teacher does not see is no fault if the network does.
        for box in [*placed, *(hit.xyxy for hit in hits)]:
            known[_cells(box, 0.5)] = 0
        for hit in hits:
            if hit.score >= _SURE:
                left, top, right, bottom = hit.xyxy
                at = tuple(
                    int(np.clip((a + b) / 2 / CELL, 0, len(known) - 1)) for a, b in ((top, bottom), (left, right))
                )
                target[at] = known[at] = 1
        half = cv2.resize(scene, (SCENE // 2, SCENE // 2), interpolation=cv2.INTER_AREA)
        return Sample(np.asarray(half, np.uint8), target, known)

    def _place(self, scene: Image, rng: np.random.Generator, extent: float) -> tuple[float, ...] | None:
        """Paste a person; gives back the face's box."""
        person = self._people[rng.integers(len(self._people))]
        left, top, right, bottom = person.box
        factor = extent / max(right - left, bottom - top)
        side = max(4, round(SIDE * factor))
        way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        rgb, alpha = (
            cv2.resize(a, (side, side), interpolation=way).astype(np.float32) for a in (person.rgb, person.alpha)
        )
        alpha = alpha[..., None] / 255
        if rng.random() < 0.35:
            # With a piece of another place around it, as a person stands before a wall.
            if len(self._kept) < _KEPT:
                self._kept.append(self._background(rng))
            behind = self._kept[rng.integers(len(self._kept))][:side, :side].astype(np.float32)
            if behind.shape[:2] == rgb.shape[:2]:
                rgb, alpha = rgb * alpha + behind * (1 - alpha), np.ones_like(alpha)
        if rng.random() < 0.5:
            rgb, alpha = rgb[:, ::-1], alpha[:, ::-1]
            left, right = SIDE - right, SIDE - left
        if (blur := rng.choice((0, 0.02, 0.03, 0.04, 0.06)) * extent) > 0.3:
            rgb = cv2.GaussianBlur(np.ascontiguousarray(rgb), (0, 0), blur)
        box = tuple(v * factor for v in (left, top, right, bottom))
        reach = int(extent)
        x, y = (int(rng.integers(-int(box[i]) - (reach if extent > SCENE / 4 else 0), SCENE - int(box[i + 2]) + 1 +
                (reach if extent > SCENE / 4 else 0))) if SCENE - int(box[i + 2]) > -int(box[i]) else 0
                for i in (0, 1))  # fmt: skip
        part = scene[max(0, y) : max(0, y + side), max(0, x) : max(0, x + side)]
        rows, cols = slice(max(0, -y), max(0, -y) + part.shape[0]), slice(max(0, -x), max(0, -x) + part.shape[1])
        share = alpha[rows, cols]
        part[:] = np.clip(part * (1 - share) + rgb[rows, cols] * share, 0, 255).astype(np.uint8)
        return box[0] + x, box[1] + y, box[2] + x, box[3] + y

    def _background(self, rng: np.random.Generator) -> Image:
        kind = rng.choice(("photograph", "noise", "shapes", "lines", "text"), p=(0.4, 0.2, 0.2, 0.12, 0.08))
        if kind == "photograph":
            return self._piece(rng)
        if kind == "noise":
            return _noise(rng)
        scene = _noise(rng, rng.uniform(2, 25))
        if kind == "shapes":
            for _ in range(int(rng.integers(10, 160))):
                size = float(np.exp(rng.uniform(np.log(4), np.log(120))))
                at, axes = rng.integers(0, SCENE, 2).tolist(), [int(v) for v in size * rng.uniform(0.3, 1, 2) + 1]
                # Half of them in colours of skin: what has a face's colour is not yet one.
                tone = (
                    np.array((190, 140, 110)) * rng.uniform(0.4, 1.3) if rng.random() < 0.5 else rng.uniform(0, 255, 3)
                )
                colour = np.clip(tone, 0, 255).tolist()
                if rng.random() < 0.6:
                    cv2.ellipse(scene, at, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
                else:
                    corners = cv2.boxPoints((at, [2 * a for a in axes], float(rng.uniform(0, 180))))
                    cv2.fillConvexPoly(scene, corners.astype(np.int32), colour, cv2.LINE_AA)
        elif kind == "lines":
            step, angle = rng.uniform(3, 30), rng.uniform(0, np.pi)
            y, x = np.mgrid[:SCENE, :SCENE]
            wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / step + rng.normal())
            if rng.random() < 0.5:
                wave = wave * np.sin((y * np.cos(angle) - x * np.sin(angle)) * 2 * np.pi / (step * rng.uniform(0.5, 2)))
            scene = np.clip(scene + wave[..., None] * rng.normal(0, 50, 3), 0, 255).astype(np.uint8)
        else:
            for _ in range(int(rng.integers(3, 30))):
                word = "".join(chr(c) for c in rng.integers(33, 123, int(rng.integers(2, 14))))
                cv2.putText(
                    scene, word, rng.integers(-30, SCENE, 2).tolist(), int(rng.integers(0, 8)),
                    float(rng.uniform(0.2, 2.5)), rng.uniform(0, 255, 3).tolist(), int(rng.integers(1, 4)), cv2.LINE_AA,
                )  # fmt: skip
        return scene

    def _piece(self, rng: np.random.Generator) -> Image:
        picture = self._photographs[rng.integers(len(self._photographs))]
        least = min(picture.shape[:2])
        side = int(rng.uniform(0.3, 1) * least)
        y, x = (int(rng.integers(0, length - side + 1)) for length in picture.shape[:2])
        piece = np.rot90(picture[y : y + side, x : x + side], int(rng.integers(4)))
        way = cv2.INTER_AREA if side > SCENE else cv2.INTER_LINEAR
        scene = cv2.resize(np.ascontiguousarray(piece), (SCENE, SCENE), interpolation=way)
        if rng.random() < 0.4:
            scene = scene[..., rng.permutation(3)]
        return np.array(np.clip(scene * rng.uniform(0.3, 1.2) + rng.uniform(-20, 20), 0, 255), np.uint8)


def _noise(rng: np.random.Generator, strength: float | None = None) -> Image:
    """Smooth colours of all scales, as walls, leaves and cloth have."""
    strength = rng.uniform(5, 60) if strength is None else strength
    scene = np.full((SCENE, SCENE, 3), rng.uniform(20, 235, 3))
    slope = rng.uniform(0.3, 1.1)
    for cells in (2, 4, 8, 16, 32, 64, 128):
        grain = rng.normal(size=(cells, cells, 3)) * (1, rng.uniform(0, 1), rng.uniform(0, 1))
        scene += strength * cells**-slope * 2 * cv2.resize(grain, (SCENE, SCENE), interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(scene, 0, 255), np.uint8)


def _developed(scene: Image, rng: np.random.Generator) -> Image:
    """Blur, noise, tone and compression of a camera."""
    if rng.random() < 0.5:
        scene = np.asarray(cv2.GaussianBlur(scene, (0, 0), rng.uniform(0.3, 1.2)), np.uint8)
    if rng.random() < 0.3:
        light = scene * np.exp(rng.uniform(np.log(0.06), np.log(0.5)))
    else:
        light = scene * rng.uniform(0.5, 1.3) + rng.uniform(-20, 20)
    if rng.random() < 0.15:
        light = np.repeat(light.mean(2, keepdims=True), 3, 2)
    light = 255 * np.clip(light / 255, 0, 1) ** rng.uniform(0.8, 1.3) + rng.normal(0, rng.uniform(0, 5), scene.shape)
    scene = np.asarray(np.clip(light, 0, 255), np.uint8)
    if rng.random() < 0.6:
        code = cv2.imencode(".jpg", scene, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(50, 97))])[1]
        scene = np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR), np.uint8)
    return scene


def _cells(box: tuple[float, ...], margin: float) -> tuple[slice, slice]:
    left, top, right, bottom = (v / CELL for v in box)
    return (
        slice(max(0, int(top - margin)), max(0, int(bottom + margin) + 1)),
        slice(max(0, int(left - margin)), max(0, int(right + margin) + 1)),
    )
