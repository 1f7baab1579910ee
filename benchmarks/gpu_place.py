"""Where and how much `benchmarks.gpu` measures, the data that it makes, and runs of training under a stopwatch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from benchmarks.gpu_targets import EXPECTED, Row
from benchmarks.training import VARIANTS
from p3mnet.registry import SMOKE

RECIPE = "p3m10k_resnet34"
# Steps of a run before its speed counts.
_WARM = 10


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        networks, batches, side: Of bare steps and runs of training.
        steps: Bare ones, after as many as `warm`.
        runs: Steps of the runs of training by their names.
        compared: Networks whose inference is timed; `repeated`, that are trained twice.
        trials: Passes of which the mean is told.
        pictures: Width and height of the pictures, how many are drawn and how many there are, by set.
        folders: Longer side and number of pictures that `infer` is given.
        huge: Batch and side of crops that no memory holds.
        budget: Seconds of the train-check.
        patience: Seconds after which one run of training is given up.
        settings: Of runs of training.
    """

    networks: tuple[str, ...] = VARIANTS
    batches: tuple[int, ...] = (8, 32)
    side: int = 512
    warm: int = 4
    steps: int = 12
    runs: tuple[tuple[str, int], ...] = (("batch 32", 80), ("swin_t, batch 32", 30), ("vitae_s, batch 32", 30))
    compared: tuple[str, ...] = (*VARIANTS, "gfm_resnet34", "modnet")
    repeated: tuple[str, ...] = (*VARIANTS, "gfm_resnet34", "modnet")
    trials: int = 100
    shape: tuple[int, int] = (1080, 1620)
    drawn: int = 24
    pictures: tuple[int, int] = (384, 48)
    folders: tuple[tuple[int, int], ...] = ((1920, 64), (3840, 24))
    huge: tuple[int, int] = (256, 1024)
    budget: int = 25
    patience: float = 45
    settings: tuple[tuple[str, Any], ...] = ()


REAL = Sizes()
# For a CPU: whether the script itself works.
SMALL = Sizes(
    networks=(SMOKE,), batches=(2,), side=64, warm=1, steps=2, runs=(("batch 32", 32),), compared=(SMOKE,),
    repeated=(SMOKE,), trials=2, shape=(128, 160), drawn=4, pictures=(12, 4), folders=((96, 3),), huge=(8, 64),
    budget=8, patience=300,
    settings=(("model.name", SMOKE), ("data.size", 64), ("data.crop_sides", [64, 128]), ("batch", 2)),
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where and how much is measured.

    Attributes:
        device: What computes.
        sizes: How much.
        out: Folder for everything.
        old: Checkout of an earlier state; None leaves it out.
    """

    device: torch.device
    sizes: Sizes
    out: Path
    old: Path | None = None

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def small(self) -> bool:
        return SMOKE in self.sizes.networks

    def sync(self) -> None:
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def timed(self, call: Callable[[], object]) -> float:
        """Milliseconds."""
        self.sync()
        begun = time.perf_counter()
        call()
        self.sync()
        return 1000 * (time.perf_counter() - begun)


def tried(about: Row, measured: Callable[[], Row]) -> Row:
    """A row, or why there is none; a GPU that is lost ends the part, for all others would fail too.

    Args:
        about: What tells it from others.
        measured: Its figures.
    """
    try:
        found = {**about, **measured()}
    except Exception as error:
        if isinstance(error, torch.AcceleratorError):
            raise
        return {**about, "failed": (str(error).strip().splitlines() or [type(error).__name__])[0][:200]}
    expected = EXPECTED.get(tuple(about.values()))
    return found if expected is None else {**found, "expected": expected}


class Stopwatch:
    """Crops a second of any state's run, by the rows that it adds to its log."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.first = self.last = (0.0, 0)

    def look(self) -> None:
        try:
            rows = self.log.read_bytes().count(b"\n") - 1
        except FileNotFoundError:
            return
        if rows > self.last[1]:
            self.last = time.monotonic(), rows
            if self.first[1] < _WARM:
                self.first = self.last

    def rate(self, batch: int) -> float | None:
        """Of what came after the first steps; None where that is little."""
        seconds, count = (after - before for before, after in zip(self.first, self.last, strict=True))
        return round(batch * count / seconds, 1) if count >= _WARM and self.first[1] >= _WARM else None


def trained(
    at: Place,
    name: str,
    changes: Mapping[str, Any],
    recipe: str = RECIPE,
    checkout: Path | None = None,
    patience: float | None = None,
) -> Row:
    """A run of `p3mnet train` of this or another checkout; what it had shown of its speed stays where it fails."""
    settings = {
        "dataset": str(write_data(at.out, at.sizes)), "model.encoder_weights": "random", "samples": 0,
        "validation.every": 1000, "validation.share": 0.01, "validation.max_side": 256, "device": str(at.device),
        "checkpoint_every": 100000, "batch": 32, "epochs": 60,
        **dict(at.sizes.settings), **changes,
    }  # fmt: skip
    folder = at.out / "runs" / name.replace(", ", "-").replace(" ", "-")
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(exist_ok=True)
    given = [part for key, value in settings.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    command = [sys.executable, "-m", "p3mnet", "train", str(folder), "-c", recipe, "-q", *given]
    environment = {**os.environ, "PYTHONPATH": str(checkout or Path(__file__).resolve().parents[1])}
    watch, said = Stopwatch(folder / "log.csv"), folder.with_suffix(".log")
    limit = time.monotonic() + (patience or at.sizes.patience)
    with said.open("wb") as sink:
        process = subprocess.Popen(command, env=environment, cwd=checkout, stdout=sink, stderr=sink)
    try:
        while process.poll() is None and time.monotonic() < limit:
            time.sleep(0.05)
            watch.look()
    finally:
        late = process.poll() is None
        if late:
            process.kill()
        code = process.wait()
    row: Row = {"run": name, "images/s": watch.rate(settings["batch"])}
    if late:
        return {**row, "failed": "took too long"}
    if code:
        lines = said.read_text(errors="replace").strip().splitlines()
        return {**row, "failed": lines[-1] if lines else f"ended with {code}"}
    found = json.loads((folder / "result.json").read_text())
    kept = (
        "steady_images_per_second", "seconds", "steps", "precision", "compiled", "workers", "waited", "bottleneck",
    )  # fmt: skip
    row |= {key: found[key] for key in kept if key in found}
    wanted = EXPECTED.get((name,)) if at.cuda else None
    return row if wanted is None else {**row, "expected": wanted}


def write_data(out: Path, sizes: Sizes) -> Path:
    """A dataset of drawn portraits with blurred faces, and their originals: a few pictures under many names."""
    from tests.factories import synthetic_portrait

    root, made = out / "data", out / "made"
    if made.exists():
        return root
    many, few = sizes.pictures
    for place, (name, number) in enumerate((("train", many), ("validation", few), ("free", few))):
        for index in range(number):
            stems = [root / name / kind / f"{name}{index}" for kind in ("images", "alphas", "facemasks")]
            files = [stem.with_suffix(end) for stem, end in zip(stems, (".jpg", ".png", ".png"), strict=True)]
            files.append(out / "originals" / f"{name}{index}.jpg")
            for path in files:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.unlink(missing_ok=True)
            if index >= sizes.drawn:
                for path in files:
                    os.link(path.with_name(f"{name}{index % sizes.drawn}{path.suffix}"), path)
                continue
            seed = 1000 * place + index
            planes = (cv2.resize(plane, sizes.shape) for plane in synthetic_portrait(128, seed))
            rgb, alpha, face = planes
            noise = np.empty_like(rgb)
            cv2.setRNGSeed(seed)
            cv2.randn(noise, (4, 4, 4), (3, 3, 3))
            photo, face = cv2.add(rgb, noise), np.where((face > 127) & (alpha == 255), 255, 0).astype(np.uint8)
            blurred = np.where(face[:, :, None] > 0, cv2.blur(photo, (61, 61)), photo)
            for path, plane in zip(files, (blurred, alpha, face, photo), strict=True):
                Image.fromarray(plane).save(path, quality=92, compress_level=1)
    made.touch()
    return root
