"""Training samples per second of one core: p3mnet's crop-first loader against one that decodes whole pictures.

The latter reads image, alpha, foreground and background with Pillow, makes the trimap of the whole picture in floating
point, crops and converts to float tensors, as published training code for P3M-10k does. Pictures are generated in a
temporary folder, 1080x1620 unless told otherwise: JPEG with the noise of a camera, PNG for the rest. All rows see the
same files in one thread and take turns; figures are medians of processor time over the rounds, after one to warm up,
in which the caches are filled. A round takes every picture once, by random numbers of its own.

    python -m benchmarks.loader [--pictures N] [--rounds N] [--size WxH]
"""

from __future__ import annotations

import argparse
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from p3mdata.cli.sample import portrait, synthetic_matte
from p3mnet.data import DataConfig, TrainingSet, seeded
from p3mnet.model import IMAGENET_MEAN, IMAGENET_STD

FOLDERS = ("blurred_image", "mask", "facemask", "fg", "bg")
WHOLE = "whole pictures, with fg and bg"
Array = NDArray[Any]


def write_pictures(root: Path, number: int, width: int, height: int) -> None:
    """A training set of crops of the sample portrait, enlarged."""
    photo, matte = portrait(), synthetic_matte(512)
    for i in range(number):
        rng = np.random.default_rng(i)
        # All of the portrait's width, and as much of its height as the shape allows, anywhere.
        side = min(512 * width // height, 512) - 8 * (i % 4)
        tall = min(512, side * height // width)
        top, left = rng.integers(0, 513 - tall), rng.integers(0, 513 - side)
        window = slice(top, top + tall), slice(left, left + side)
        clean, alpha = (
            cv2.resize(np.ascontiguousarray(plane[window]), (width, height), interpolation=cv2.INTER_CUBIC)
            for plane in (photo, matte)
        )
        noisy = np.clip(clean + rng.normal(0, 3, clean.shape), 0, 255).astype(np.uint8)
        face = np.zeros_like(alpha)
        cv2.ellipse(face, (width // 2, height // 3), (width // 8, height // 8), 0, 0, 360, 255, -1)
        planes = (noisy, alpha, face, clean, cv2.GaussianBlur(clean, (0, 0), 15))
        for folder, plane in zip(FOLDERS, planes, strict=True):
            path = root / "train" / folder / f"p_{i}.{'jpg' if folder == FOLDERS[0] else 'png'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            # PNG takes no notice of the quality.
            Image.fromarray(plane).save(path, quality=92)


def whole_sample(root: Path, index: int, draws: random.Random, size: int = 512) -> list[torch.Tensor]:
    """What the loader that is compared with does for a picture."""
    image, alpha, foreground, background = (
        np.array(Image.open(root / "train" / folder / f"p_{index}.{suffix}"))
        for folder, suffix in (("blurred_image", "jpg"), ("mask", "png"), ("fg", "png"), ("bg", "png"))
    )
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (draws.randint(15, 30),) * 2)
    grown = cv2.dilate((alpha != 0).astype(np.float32), kernel)
    shrunk = cv2.erode((alpha == 255).astype(np.float32), kernel)
    trimap = shrunk * 255 + (grown - shrunk) * 128
    height, width = alpha.shape
    side = draws.choice((512, 768, 1024))
    side = side if side < min(height, width) else 512
    places = trimap[: height - side, : width - side]
    rows, columns = np.where(places == 128) if draws.random() < 0.5 else np.where(places > -1)
    at = draws.randrange(len(rows)) if len(rows) else 0
    top, left = (int(rows[at]), int(columns[at])) if len(rows) else (0, 0)
    flipped = draws.random() < 0.5
    tensors = []
    for plane in (image, alpha, foreground, background, trimap):
        cut = plane[top : top + side, left : left + side]
        cut = cv2.resize(cv2.flip(cut, 1) if flipped else cut, (size, size), interpolation=cv2.INTER_LINEAR)
        values = torch.from_numpy(cut.astype(np.float32))
        tensors.append(values.permute(2, 0, 1) if values.dim() == 3 else values[None])
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    tensors[0] = (tensors[0] / 255 - mean) / std
    return tensors


def our_sample(pictures: TrainingSet, index: int, draws: random.Random) -> dict[str, Any]:
    """A sample of ours, by random numbers of its own."""
    return pictures.sample(index, seeded(draws.randrange(2**32)))


def measure(rows: dict[str, Callable[[int, random.Random], object]], number: int, rounds: int) -> dict[str, float]:
    """Milliseconds of processor time per sample."""
    times: dict[str, list[float]] = {name: [] for name in rows}
    for turn in range(rounds + 1):
        for name, make in rows.items():
            draws = random.Random(turn)
            begin = time.process_time()
            for index in range(number):
                make(index, draws)
            if turn:
                times[name].append(1000 * (time.process_time() - begin) / number)
    return {name: statistics.median(values) for name, values in times.items()}


def table(medians: dict[str, float]) -> Iterable[str]:
    """Lines of Markdown."""
    yield "| loader | ms per sample | images/s of a core | ratio |"
    yield "|---|---|---|---|"
    for name, value in medians.items():
        yield f"| {name} | {value:.1f} | {1000 / value:.1f} | {medians[WHOLE] / value:.1f} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pictures", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", default="1080x1620", help="width x height of the pictures")
    args = parser.parse_args(arguments)
    width, height = map(int, args.size.split("x"))
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "set"
        write_pictures(root, args.pictures, width, height)
        rows: dict[str, Callable[[int, random.Random], object]] = {WHOLE: partial(whole_sample, root)}
        settings: dict[str, dict[str, Any]] = {
            "": {"colours": "none", "facemask": False},
            ", with facemasks": {"colours": "none"},
            ", fg and bg estimated": {"colours": "estimate", "facemask": False},
            ", with fg and bg": {"facemask": False},
        }
        for place, cache in (("crop first", None), ("crop first, cached", Path(folder) / "cache")):
            for what, config in settings.items():
                pictures = TrainingSet(root, config=DataConfig(**config, cache=cache))
                rows[place + what] = partial(our_sample, pictures)
        print(f"{args.pictures} pictures of {width}x{height}, {args.rounds} rounds, {platform.machine()}\n")
        medians = measure(rows, args.pictures, args.rounds)
        print("\n".join(table(medians)))
        copies = sum(path.stat().st_size for path in (Path(folder) / "cache").iterdir())
        print(f"\ncache: {copies / args.pictures / 1e6:.1f} MB per picture, everything included")


if __name__ == "__main__":
    main()
