"""Data that tests build for themselves: no test needs a downloaded file."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from p3mdata.cli.sample import portrait, synthetic_matte
from p3mdata.faces.ensemble import FaceFinder
from p3mdata.imaging.trimap import UNKNOWN, trimap_of
from p3mdata.records import XYXY, Face


def shared() -> Path:
    """Folder with real test photographs, if this machine has it; else the test is skipped."""
    folder = Path(os.environ["P3MDATA_SHARED"])
    if not (folder / "testdata" / "faces.json").is_file():
        pytest.skip(f"no test photographs in {folder} (set P3MDATA_SHARED)")
    return folder / "testdata"


def astronaut(side: int = 512) -> NDArray[np.uint8]:
    """A real portrait with one face, side x side x 3 RGB."""
    return np.asarray(Image.fromarray(portrait()).resize((side, side), Image.Resampling.BICUBIC))


def matte(side: int = 512) -> NDArray[np.uint8]:
    """A soft matte of the person in `astronaut`."""
    return synthetic_matte(side)


def cut_out(side: int = 512) -> NDArray[np.uint8]:
    """The person of `astronaut` before a plain wall, so that the edges of `matte` are those of the picture."""
    share = matte(side)[:, :, None] / 255
    return np.rint(astronaut(side) * share + np.array([150, 190, 160]) * (1 - share)).astype(np.uint8)


# Seeds of textures of about 160 px in which no detector sees a face.
FACELESS = (2, 3, 7, 9, 10, 12, 14, 15, 18, 24, 29, 35)


def texture(height: int, width: int, seed: int = 0, channels: int = 3) -> NDArray[np.uint8]:
    """A smooth, noisy picture without any face."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 216, (max(2, height // 24), max(2, width // 24), channels), np.uint8)
    mode = "RGB" if channels == 3 else "L"
    smooth = Image.fromarray(coarse.squeeze(), mode if channels == 1 else None).resize((width, height), Image.BICUBIC)
    noise = rng.integers(-6, 7, (height, width, channels))
    return np.clip(np.asarray(smooth).reshape(height, width, channels) + noise, 0, 255).astype(np.uint8).squeeze()


def encoded(array: NDArray[Any], name: str = "JPEG", **options: Any) -> bytes:
    """An image file's bytes."""
    sink = io.BytesIO()
    Image.fromarray(array).save(sink, name, **options)
    return sink.getvalue()


@functools.cache
def astronaut_face(side: int = 512) -> Face:
    """What the real models find in `astronaut(side)`: one face with landmarks."""
    with FaceFinder() as finder:
        (face,) = finder.find(astronaut(side)).faces
    assert face.landmarks is not None
    return face


def face_at(box: XYXY, points: Sequence[float] | None = None, landmarks: Sequence[float] | None = None) -> Face:
    """A face that both detectors saw, without asking them."""
    missing = None if landmarks else "landmark model sees no face"
    five, mesh = (None if values is None else tuple(values) for values in (points, landmarks))
    return Face(box, 0.9, ("centerface", "libfacedetection"), five, mesh, missing)


def synthetic_portrait(side: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """A person of shapes with strands of hair, before a texture: what a matting network can learn from.

    Returns:
        RGB [side, side, 3]; alpha [side, side], soft at the strands and 255 inside; facemask of 0 and 255, of a part of
        the head.
    """
    rng = np.random.default_rng(seed)
    large = 4 * side
    x, y = int(large * rng.uniform(0.42, 0.58)), int(large * rng.uniform(0.36, 0.44))
    wide, high = int(large * rng.uniform(0.14, 0.18)), int(large * rng.uniform(0.18, 0.22))
    shapes = np.zeros((large, large), np.uint8)
    cv2.ellipse(shapes, (x, y), (wide, high), 0, 0, 360, 255, -1)
    # The shoulders reach up to the chin.
    cv2.ellipse(shapes, (x, large), (int(large * 0.34), large - y - int(high * 0.9)), 0, 180, 360, 255, -1)
    for angle in rng.uniform(np.pi, 2 * np.pi, 60):
        # A strand leaves the head and bends.
        reach, bend = rng.uniform(1.05, 1.5), rng.uniform(-0.4, 0.4)
        along = np.linspace(0.8, reach, 8)
        turned = angle + bend * (along - 0.8)
        points = np.stack([x + wide * along * np.cos(turned), y + high * along * np.sin(turned)], 1)
        cv2.polylines(shapes, [points.astype(np.int32)], False, 255, max(1, side // 48))
    alpha = cv2.resize(shapes, (side, side), interpolation=cv2.INTER_AREA)
    skin = np.array([205, 150, 120]) + rng.integers(-20, 20, 3)
    person = np.clip(0.3 * texture(side, side, seed + 1) + 0.7 * skin, 0, 255)
    matte = alpha[:, :, None] / 255
    rgb = np.rint(matte * person + (1 - matte) * (texture(side, side, seed + 2) * 0.6 + [0, 20, 90])).astype(np.uint8)
    facemask = np.zeros((side, side), np.uint8)
    cv2.ellipse(facemask, (x // 4, y // 4 + high // 16), (wide // 6, high // 6), 0, 0, 360, 255, -1)
    return rgb, alpha, facemask


# On faces of originals only: no picture that may be passed on has it.
MARK = np.array([255, 0, 255], np.uint8)


def marked_portrait(side: int, number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """`synthetic_portrait` whose face has the colour MARK, and whose facemask keeps out of the transition."""
    rgb, alpha, mask = synthetic_portrait(side, number)
    mask[trimap_of(alpha) == UNKNOWN] = 0
    assert mask.any()
    rgb[mask > 0] = MARK
    return rgb, alpha, mask


def write_png(path: Path, array: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(array, "PNG"))


def obfuscated_dataset(folder: Path, train: int = 6, private: int = 3, free: int = 2, side: int = 96) -> Path:
    """`folder/data`, a zero-masked dataset of the plain layout, and its photographs in `folder/orig`."""
    names = [name for name, count in (("train", train), ("validation", private), ("free", free)) for _ in range(count)]
    for number, name in enumerate(names):
        rgb, alpha, mask = marked_portrait(side, number)
        root, file = folder / "data" / name, f"person{number}.png"
        write_png(root / "alphas" / file, alpha)
        if name != "train":
            write_png(root / "trimaps" / file, trimap_of(alpha))
        if name != "free":
            write_png(folder / "orig" / file, rgb)
            write_png(root / "facemasks" / file, mask)
        rgb[mask > 0] = 90 if name == "free" else 0
        write_png(root / "images" / file, rgb)
    return folder / "data"
