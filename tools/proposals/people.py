"""People that no camera saw: heads drawn from MediaPipe's canonical face mesh, lit, coloured and dressed at random.

They need to look like faces at 10 to 60 px, no larger. Nothing of a photograph is in them.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.faces import weights
from p3mdata.faces.landmarks import PARTS

Colour = NDArray[np.float64]
Points = NDArray[np.float64]

SIDE = 192
_EXTENT = 76.0  # pixels of the mesh's height in a drawn person, before its identity and pose
_BROWS = ((70, 63, 105, 66, 107, 55, 65, 52, 53, 46), (300, 293, 334, 296, 336, 285, 295, 282, 283, 276))
_LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
_INNER_LIPS = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
_HAIR = ((18, 16, 20), (40, 28, 22), (72, 50, 34), (112, 78, 46), (176, 142, 92), (206, 184, 140), (150, 148, 146),
         (222, 220, 216), (126, 52, 30))  # fmt: skip


class Mesh(NamedTuple):
    """Vertices (468, 3) in cm, x to the right, y down, z away from the viewer; triangles (898, 3)."""

    vertices: Points
    triangles: NDArray[np.int64]


def canonical_mesh() -> Mesh:
    """The mesh inside the landmark model's file, Apache-2.0."""
    bundle = zipfile.ZipFile(io.BytesIO(weights.load("face_landmarker")))
    data = bundle.read("geometry_pipeline_metadata_landmarks.binarypb")
    # Field 1 of the message is the mesh: kinds, then vertices as single floats (x, y, z, u, v), then indices.
    at = 1
    while data[at] & 0x80:
        at += 1
    at += 1
    floats, indices = [], []
    while True:
        tag = data[at]
        at += 1
        if tag == 0x1D:
            floats.append(np.frombuffer(data, "<f4", 1, at)[0])
            at += 4
        elif tag in (0x08, 0x10, 0x20):
            value = shift = 0
            while True:
                byte = data[at]
                at += 1
                value |= (byte & 0x7F) << shift
                shift += 7
                if not byte & 0x80:
                    break
            if tag == 0x20:
                indices.append(value)
        else:
            break
    vertices = np.array(floats, np.float64).reshape(-1, 5)[:, :3] * (1, -1, -1)
    return Mesh(vertices, np.array(indices).reshape(-1, 3))


@dataclass(frozen=True)
class Person:
    """A drawn head with shoulders.

    Attributes:
        rgb: SIDE x SIDE x 3, uint8.
        alpha: SIDE x SIDE, uint8: 0 where there is no person.
        box: Left, top, right, bottom of the face from hairline to chin.
    """

    rgb: NDArray[np.uint8]
    alpha: NDArray[np.uint8]
    box: tuple[float, float, float, float]


def _rotation(yaw: float, pitch: float, roll: float) -> Points:
    turn = np.eye(3)
    for axis, angle in (((0, 1, 0), yaw), ((1, 0, 0), pitch), ((0, 0, 1), roll)):
        turn = cv2.Rodrigues(np.array(axis, np.float64) * np.radians(angle))[0] @ turn
    return turn


def _smooth_noise(rng: np.random.Generator, side: int, cells: int) -> Points:
    return np.asarray(cv2.resize(rng.normal(size=(cells, cells)), (side, side), interpolation=cv2.INTER_CUBIC))


class Painter:
    """Draws people with a generator of random numbers."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh

    def person(self, rng: np.random.Generator) -> Person:
        """A head of random identity, pose, light, hair and dress."""
        vertices = self._identity(rng)
        yaw, pitch, roll = rng.normal(0, 28), rng.normal(0, 10), rng.normal(0, 9)
        turn = _rotation(float(np.clip(yaw, -70, 70)), float(np.clip(pitch, -30, 30)), float(np.clip(roll, -30, 30)))
        scale = _EXTENT / np.ptp(vertices[:, 1])
        space = vertices @ turn.T * scale
        depth = space[:, 2]
        flat = space[:, :2] * (1 + -depth / (SIDE * 6))[:, None] + SIDE / 2
        light = rng.normal(size=3) * (1, 0.6, 0.5) + (0, -0.9, -1.0)
        shade = self._shading(space, light / np.linalg.norm(light), rng)
        skin = _skin(rng)
        hair = np.array(_HAIR[rng.integers(len(_HAIR))], np.float64) * rng.uniform(0.7, 1.3)
        canvas, cover = np.zeros((SIDE, SIDE, 3)), np.zeros((SIDE, SIDE), np.uint8)
        self._body(canvas, cover, flat, skin, rng)
        style = rng.choice(("short", "long", "bald", "hat", "scarf"), p=(0.42, 0.3, 0.08, 0.1, 0.1))
        cloth = rng.uniform(20, 235, 3)
        self._back_of_head(canvas, cover, turn * scale, vertices, str(style), (hair, cloth, skin), rng)
        self._face(canvas, cover, flat, depth, skin[None] * shade[:, None], hair, rng)
        self._front_of_hair(canvas, cover, turn * scale, vertices, str(style), (hair, cloth), rng)
        tint = 1 + rng.normal(0, 0.06, 3)
        grain = 1 + 0.05 * _smooth_noise(rng, SIDE, 24)[:, :, None]
        rgb = np.clip(canvas * tint * grain * rng.uniform(0.55, 1.25), 0, 255).astype(np.uint8)
        (left, top), (right, bottom) = flat.min(0), flat.max(0)
        return Person(rgb, cover, (float(left), float(top), float(right), float(bottom)))

    def _identity(self, rng: np.random.Generator) -> Points:
        """The mesh with other proportions, and a mouth that may be open."""
        vertices = self._mesh.vertices.copy()
        middle = vertices.mean(0)
        vertices = (vertices - middle) * (1 + rng.normal(0, (0.07, 0.06, 0.1)))
        # Smooth displacements: a few bumps of random place and direction.
        for _ in range(8):
            centre, width = vertices[rng.integers(len(vertices))], rng.uniform(1.5, 4)
            near = np.exp(-((vertices - centre) ** 2).sum(1) / (2 * width**2))
            vertices += near[:, None] * rng.normal(0, 0.35, 3)
        if rng.random() < 0.4:
            gap = rng.uniform(0.2, 1.6)
            below = vertices[:, 1] > vertices[13, 1] + 0.05
            width = np.exp(-(vertices[:, 0] ** 2) / 12)
            vertices[:, 1] += below * gap * width
        return np.asarray(vertices)

    def _shading(self, space: Points, light: Points, rng: np.random.Generator) -> Points:
        """Brightness of each triangle."""
        a, b, c = (space[self._mesh.triangles[:, i]] for i in range(3))
        normal = np.cross(b - a, c - a)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
        normal *= np.where(normal[:, 2:] > 0, -1, 1)
        direct = np.clip(normal @ light, 0, None)
        ambient = rng.uniform(0.25, 0.8)
        sky = 0.5 - 0.5 * normal[:, 1]
        return np.asarray(ambient * (0.6 + 0.4 * sky) + (1.15 - ambient) * direct)

    def _body(
        self, canvas: Points, cover: NDArray[np.uint8], flat: Points, skin: Colour, rng: np.random.Generator
    ) -> None:
        chin, left, right = flat[152], flat[132], flat[361]
        width = max(14.0, abs(right[0] - left[0])) * rng.uniform(0.33, 0.5)
        x, y = (left[0] + right[0]) / 2, chin[1]
        dress = rng.uniform(10, 240, 3)
        shoulder = y + rng.uniform(8, 26)
        span = width * rng.uniform(2.6, 4.2)
        low, wide = shoulder + 16, span * 1.1
        torso = [(x - width, shoulder - 8), (x + width, shoulder - 8), (x + span, low), (x + wide, SIDE),
                 (x - wide, SIDE), (x - span, low)]  # fmt: skip
        _fill(canvas, cover, torso, dress)
        neck = [(x - width, y - 24), (x + width, y - 24), (x + width, shoulder), (x, shoulder + rng.uniform(0, 22)),
                (x - width, shoulder)]  # fmt: skip
        _fill(canvas, cover, neck, skin * rng.uniform(0.45, 0.85))

    def _back_of_head(
        self, canvas: Points, cover: NDArray[np.uint8], turn: Points, vertices: Points, style: str,
        colours: tuple[Colour, Colour, Colour], rng: np.random.Generator,
    ) -> None:  # fmt: skip
        """An ellipsoid behind the face, with hair that may fall beside it, and ears."""
        hair, cloth, skin = colours
        height, width = np.ptp(vertices[:, 1]), np.ptp(vertices[:, 0])
        bulk = rng.uniform(0.96, 1.25) if style != "bald" else 0.98
        radii = np.array([width * 0.53 * bulk, height * 0.6 * bulk, height * 0.6])
        centre = np.array([0, vertices[:, 1].min() + height * 0.36, vertices[:, 2].max() + width * 0.1])
        top = {"bald": skin * rng.uniform(0.7, 0.95), "scarf": cloth}.get(style, hair)
        if style in ("long", "scarf"):
            length = rng.uniform(0.4, 1.4)
            for side in (-1, 1):
                rim = [(side * width * 0.35, centre[1], centre[2]), (side * radii[0] * 1.05, centre[1], centre[2]),
                       (side * radii[0] * rng.uniform(0.9, 1.3), centre[1] + height * length, centre[2]),
                       (side * width * 0.2, centre[1] + height * length, centre[2])]  # fmt: skip
                _fill(canvas, cover, _placed(rim, turn), top * rng.uniform(0.7, 1))
        ball = _ball(centre, radii)
        _fill(canvas, cover, cv2.convexHull(_placed(ball, turn).astype(np.float32))[:, 0], top, streaks=rng)
        if style in ("short", "bald") and rng.random() < 0.8:
            for vertex, side in ((234, -1), (454, 1)):
                ear = _ball(vertices[vertex] + (side * 0.3, 0.3, 1.5), np.array([0.8, 1.7, 1.2]))
                hull = cv2.convexHull(_placed(ear, turn).astype(np.float32))[:, 0]
                _fill(canvas, cover, hull, skin * rng.uniform(0.6, 0.95))

    def _face(
        self, canvas: Points, cover: NDArray[np.uint8], flat: Points, depth: Points, colours: Points, hair: Colour,
        rng: np.random.Generator,
    ) -> None:  # fmt: skip
        triangles = self._mesh.triangles
        colours = colours.copy()
        low = flat[triangles].mean(1)
        if rng.random() < 0.3:
            # A beard: what lies below the nose, but for the lips.
            axis = (flat[152] - flat[168]) / np.linalg.norm(flat[152] - flat[168])
            along = (low - flat[168]) @ axis / np.linalg.norm(flat[152] - flat[168])
            share = np.clip((along - rng.uniform(0.5, 0.62)) * 8, 0, rng.uniform(0.3, 0.95))[:, None]
            colours = colours * (1 - share) + hair * share * colours.mean(1, keepdims=True) / 180
        fine = np.round(flat[triangles] * 16).astype(np.int32)
        for number in np.argsort(-depth[triangles].mean(1), kind="stable"):
            cv2.fillConvexPoly(canvas, fine[number], colours[number].tolist(), cv2.LINE_8, 4)
            cv2.fillConvexPoly(cover, fine[number], 255, cv2.LINE_8, 4)
        face = colours.mean(0)
        self._features(canvas, flat, depth, face, hair, rng)

    def _features(
        self, canvas: Points, flat: Points, depth: Points, face: Colour, hair: Colour, rng: np.random.Generator
    ) -> None:
        nose, bridge = depth[4], depth[168]
        height = np.linalg.norm(flat[152] - flat[10])

        def shown(indices: tuple[int, ...]) -> bool:
            # The far side of a head that is turned away lies behind its nose.
            return bool(depth[list(indices)].mean() < nose + 0.62 * _EXTENT)

        dim = face.mean() / 150
        lid = face * rng.uniform(0.25, 0.6)
        for eye, brow in zip((PARTS["right eye"], PARTS["left eye"]), _BROWS, strict=True):
            if not shown(eye):
                continue
            around = flat[list(eye)]
            middle = around.mean(0)
            socket = np.round((middle + (around - middle) * (1.35, 2.0)) * 16).astype(np.int32)
            cv2.fillConvexPoly(canvas, cv2.convexHull(socket)[:, 0], (face * rng.uniform(0.55, 0.95)).tolist(), 8, 4)
            hull = cv2.convexHull(np.round(around * 16).astype(np.int32))[:, 0]
            open_eye = rng.random() < 0.85
            cv2.fillConvexPoly(canvas, hull, ((lid * 0.7 + 70 * dim) if open_eye else lid).tolist(), 8, 4)
            wide = np.ptp(around[:, 0])
            if open_eye:
                iris = np.array(rng.choice(((40, 26, 18), (60, 80, 90), (50, 60, 40)))) * dim
                at = np.round((middle + np.array((rng.normal(0, 0.08) * wide, 0))) * 16).astype(int)
                cv2.circle(canvas, at.tolist(), int(wide * 0.24 * 16), iris.tolist(), -1, 8, 4)
            cv2.polylines(canvas, [hull], True, lid.tolist(), 1, 8, 4)
            if rng.random() < 0.92:
                hull = cv2.convexHull(np.round(flat[list(brow)] * 16).astype(np.int32))[:, 0]
                mix = rng.uniform(0.4, 0.9)
                cv2.fillConvexPoly(canvas, hull, (face * (1 - mix) + hair * dim * mix).tolist(), 8, 4)
        if shown(_LIPS):
            red = face * (rng.uniform(0.75, 1.05), rng.uniform(0.5, 0.8), rng.uniform(0.5, 0.85))
            lips = [np.round(flat[list(part)] * 16).astype(np.int32) for part in (_LIPS, _INNER_LIPS)]
            cv2.fillPoly(canvas, [lips[0]], red.tolist(), 8, 4)
            inner = (225, 220, 210) if rng.random() < 0.3 else (60, 26, 26)
            cv2.fillPoly(canvas, [lips[1]], (np.array(inner) * dim).tolist(), 8, 4)
            cv2.polylines(canvas, [lips[1]], True, (red * 0.45).tolist(), 1, 8, 4)
        for nostril in (98, 327):
            if depth[nostril] < bridge + 0.35 * _EXTENT:
                at = np.round((flat[nostril] * 0.8 + flat[2] * 0.2) * 16).astype(int)
                cv2.circle(canvas, at.tolist(), int(height * 0.018 * 16), (face * 0.45).tolist(), -1, 8, 4)
        if rng.random() < 0.2:
            dark = rng.random() < 0.35
            colour = (rng.uniform(5, 60, 3) * dim).tolist()
            for eye in (PARTS["right eye"], PARTS["left eye"]):
                around = flat[list(eye)]
                middle = around.mean(0)
                frame = cv2.convexHull(np.round((middle + (around - middle) * (1.5, 3.4)) * 16).astype(np.int32))[:, 0]
                if dark:
                    cv2.fillConvexPoly(canvas, frame, colour, 8, 4)
                else:
                    cv2.polylines(canvas, [frame], True, colour, int(rng.integers(1, 3)), 8, 4)
            ends = np.round(flat[[133, 362]] * 16).astype(int).tolist()
            cv2.line(canvas, ends[0], ends[1], colour, 1, 8, 4)

    def _front_of_hair(
        self, canvas: Points, cover: NDArray[np.uint8], turn: Points, vertices: Points, style: str,
        colours: tuple[Colour, Colour], rng: np.random.Generator,
    ) -> None:  # fmt: skip
        """Hair, cloth or a brim over the upper part of the forehead."""
        hair, cloth = colours
        if style == "bald" or (style in ("short", "long") and rng.random() < 0.35):
            return
        oval = vertices[list(_OVAL)]
        height = np.ptp(vertices[:, 1])
        down = vertices[:, 1].min() + height * {"hat": rng.uniform(0.08, 0.22)}.get(style, rng.uniform(0.0, 0.16))
        rim = oval[oval[:, 1] < down + height * 0.1]
        if len(rim) < 4:
            return
        above = rim - (0, height * rng.uniform(0.12, 0.3), 0)
        front = np.concatenate([rim, above]) + np.array((0, 0, -0.3))
        edge = _placed(front, turn)
        hull = cv2.convexHull(edge.astype(np.float32))[:, 0]
        _fill(canvas, cover, hull, hair if style in ("short", "long") else cloth, streaks=rng)


def _skin(rng: np.random.Generator) -> Colour:
    """A colour between dark and light skin, with some spread of hue."""
    dark, middle, light = (np.array(c, np.float64) for c in ((70, 44, 32), (168, 118, 88), (240, 200, 178)))
    tone = rng.uniform(0, 2)
    colour = dark + (middle - dark) * tone if tone < 1 else middle + (light - middle) * (tone - 1)
    return np.asarray(colour * (1 + rng.normal(0, 0.05, 3)))


def _ball(centre: Points, radii: Points) -> Points:
    around, along = np.meshgrid(np.linspace(0, 2 * np.pi, 16, endpoint=False), np.linspace(-1.4, 1.4, 7))
    unit = np.stack([np.cos(around) * np.cos(along), np.sin(along), np.sin(around) * np.cos(along)], -1).reshape(-1, 3)
    return np.asarray(unit * radii + centre)


def _placed(points: object, turn: Points) -> Points:
    return np.asarray((np.asarray(points) @ turn.T)[:, :2] + SIDE / 2)


def _fill(
    canvas: Points,
    cover: NDArray[np.uint8],
    polygon: object,
    colour: Colour,
    streaks: np.random.Generator | None = None,
) -> None:
    fine = np.round(np.asarray(polygon) * 16).astype(np.int32)
    cv2.fillPoly(cover, [fine], 255, cv2.LINE_8, 4)
    if streaks is None:
        cv2.fillPoly(canvas, [fine], colour.tolist(), cv2.LINE_8, 4)
        return
    mask = np.zeros(cover.shape, np.uint8)
    cv2.fillPoly(mask, [fine], 255, cv2.LINE_8, 4)
    bright = 1 + 0.25 * cv2.resize(streaks.normal(size=(6, 40)), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    canvas[mask > 0] = (bright[:, :, None] * colour)[mask > 0]
