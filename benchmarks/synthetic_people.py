"""Synthetic people: faces morphed from given photographs and put on other heads.

A person is a mixture of two faces' textures; each of their photographs shows it between brows and chin of another head,
in that head's shape, with a light of its own. So everything outside says nothing about who it is, and what an attacker
gets under a black mask is chance. What it cannot show: how one real face changes with age, pose and expression, which
makes attacks harder than here, and what hair, clothes and place of a real shooting give away, which makes them easier.
People share the faces that they are mixed of, so that who is tested is not wholly unknown to who was learnt from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import LinearNDInterpolator

from p3mdata.anonymize.masks import inside_matte, private_area
from p3mdata.config import Area
from p3mdata.faces.ensemble import FaceFinder
from p3mdata.imaging import decode
from p3mdata.records import Face

Pixels = NDArray[np.uint8]
_LEAST_WIDTH, _SIDE, _TEXTURE = 70, 320, 192


@dataclass(frozen=True)
class Head:
    """A face with its surroundings, _SIDE x _SIDE x 3, its landmarks in it, and where its private area lies.

    The matte is _SIDE x _SIDE, or None.
    """

    pixels: Pixels
    mesh: NDArray[np.float64]
    area: NDArray[np.bool_]
    matte: Pixels | None = None


def heads(folder: Path, mattes: Path | None = None) -> list[Head]:
    """Faces of photographs with landmarks; of a person whose files are named `name__`, one.

    With a folder of mattes, of photographs that have one, the faces that belong to it.
    """
    found, seen = [], set()
    with FaceFinder() as finder:
        for path in sorted(folder.rglob("*.jpg")):
            person = path.name.partition("__")[0] if "__" in path.name else path.name
            if person in seen:
                continue
            matte = None if mattes is None else cv2.imread(str(mattes / f"{path.stem}.png"), cv2.IMREAD_GRAYSCALE)
            if mattes is not None and matte is None:
                continue
            seen.add(person)
            rgb = decode(path.read_bytes(), 200_000_000).seen8()
            faces = finder.find(rgb).faces
            within = [True] * len(faces) if matte is None else inside_matte(faces, matte)
            for face, belongs in zip(faces, within, strict=True):
                if not belongs:
                    continue
                if face.landmarks is not None and face.width >= _LEAST_WIDTH and face.box[0] > 2 and face.box[1] > 2:
                    head = _head(rgb, face, None if matte is None else np.asarray(matte, np.uint8))
                    if head is not None:
                        found.append(head)
    return found


def _head(rgb: Pixels, face: Face, matte: Pixels | None) -> Head | None:
    mesh = face.mesh()
    assert mesh is not None
    left, top, right, bottom = face.box
    side = 2.1 * max(right - left, bottom - top)
    scale = _SIDE / side
    shift = np.array([(left + right) / 2, (top + bottom) / 2]) - side / 2
    matrix = np.array([[scale, 0, -scale * shift[0]], [0, scale, -scale * shift[1]]])

    def cut(plane: Pixels) -> Pixels:
        there = cv2.warpAffine(plane, matrix, (_SIDE, _SIDE), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT)
        return np.asarray(cv2.GaussianBlur(there, (0, 0), 0.6), np.uint8)

    moved = (mesh - shift) * scale
    if abs(moved[33] - moved[263])[0] < 0.25 * face.width * scale:
        return None  # turned aside
    box = tuple(
        float(v) for v in (*(np.array(face.box[:2]) - shift) * scale, *(np.array(face.box[2:]) - shift) * scale)
    )
    there = Face(**{**face.__dict__, "box": box, "landmarks": tuple(moved.ravel())})
    area = np.zeros((_SIDE, _SIDE), bool)
    private_area(there, (_SIDE, _SIDE), Area.P3M).paint(area)
    return Head(cut(rgb), moved, area, None if matte is None else cut(matte))


def _warped(pixels: Pixels, mesh: NDArray[np.float64], onto: NDArray[np.float64], side: int) -> NDArray[np.float32]:
    """Piecewise affine: what lies at `mesh` comes to lie at `onto`; side x side x 3, NaN outside the mesh."""
    y, x = np.mgrid[:side, :side]
    there = LinearNDInterpolator(onto, mesh)(np.stack([x.ravel(), y.ravel()], 1)).reshape(side, side, 2)
    outside = np.isnan(there[..., 0])
    out = cv2.remap(
        pixels.astype(np.float32), np.nan_to_num(there[..., 0]).astype(np.float32),
        np.nan_to_num(there[..., 1]).astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT,
    )  # fmt: skip
    out[outside] = np.nan
    return np.asarray(out)


def make(folder: Path, out: Path, people: int, photos: int, seed: int = 0, mattes: Path | None = None) -> None:
    """Write `photos` photographs of each of `people` synthetic people, and their mattes where `mattes` are given."""
    rng, known = np.random.default_rng(seed), heads(folder, mattes)
    beside = out.with_name(f"{out.name}-mattes")
    print(f"{len(known)} faces to mix")
    shape = np.mean([(h.mesh - h.mesh.mean(0)) / h.mesh.std() for h in known], axis=0)
    shape = (shape - shape.min(0)) / (shape.max(0) - shape.min(0)).max() * (_TEXTURE - 8) + 4
    textures = [_warped(h.pixels, h.mesh, shape, _TEXTURE) for h in known]
    pairs = [(a, b) for a in range(len(known)) for b in range(a)]
    out.mkdir(parents=True, exist_ok=True)
    if mattes is not None:
        beside.mkdir(exist_ok=True)
    for number, pair in enumerate(rng.permutation(len(pairs))[:people]):
        a, b = pairs[pair]
        share = rng.uniform(0.35, 0.65)
        texture = np.nan_to_num(share * textures[a] + (1 - share) * textures[b])
        others = rng.permutation([i for i in range(len(known)) if i not in (a, b)])
        for photo, host in enumerate(others[:photos]):
            path = out / f"p{number:03d}__{photo}.jpg"
            cv2.imwrite(str(path), _photo(texture, shape, known[host], rng)[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
            if (matte := known[host].matte) is not None:
                cv2.imwrite(str(beside / f"{path.stem}.png"), matte)


def _photo(texture: Any, shape: NDArray[np.float64], host: Head, rng: np.random.Generator) -> Pixels:
    face = _warped(texture, shape, host.mesh, _SIDE)
    face, inner = np.nan_to_num(face), host.area & ~np.isnan(face[..., 0])
    before = host.pixels.astype(np.float32)
    # The head's own tone: means of the face's colours are those of the host.
    face += before[inner].mean(0) - face[inner].mean(0)
    # Whatever is private, and nothing beyond it, is the person's; a soft edge lies inside.
    soft = cv2.GaussianBlur(cv2.erode(inner.astype(np.uint8), np.ones((7, 7))).astype(np.float32), (0, 0), 2.0)
    soft = soft * inner
    if host.matte is not None:
        soft *= host.matte / np.float32(255)
    soft = soft[:, :, None]
    mixed = soft * face + (1 - soft) * before
    y, x = np.mgrid[-1 : 1 : _SIDE * 1j, -1 : 1 : _SIDE * 1j]
    light = 1 + rng.uniform(-0.15, 0.15) * x + rng.uniform(-0.15, 0.15) * y + rng.uniform(-0.12, 0.12)
    cast = rng.uniform(0.95, 1.05, 3)
    noise = rng.normal(0, 2, mixed.shape)
    return np.asarray(np.clip(mixed * light[:, :, None] * cast + noise, 0, 255), np.uint8)
