"""What a person sees of a training run: progress, TensorBoard, sheets of sample predictions."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from p3mdata.base import console
from p3mdata.base.files import write_atomic
from p3mdata.imaging import Picture, encode

# Height of the pictures on a sheet.
_THUMB = 256
_PLAIN_LINE_SECONDS = 30.0


class Watch:
    """Told how a run goes; this one tells nobody."""

    def begin(self, images: int, done: int) -> None:
        """A run over `images` crops starts, or goes on after `done` of them."""

    def step(self, epoch: int, images: int, parts: Mapping[str, float]) -> None:
        """`images` crops are done in all; the parts of the loss of the last step, with "total"."""

    def say(self, text: str) -> None:
        """A message for a person."""

    def end(self) -> None:
        """The run is over, or stopped."""


class ConsoleWatch(Watch):
    """A bar with images/s, parts of the loss and time left; plain lines where there is no terminal."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: Any = None
        self._begun = self._last = 0.0
        self._first = self._total = 0

    def begin(self, images: int, done: int) -> None:
        self._begun = self._last = time.monotonic()
        self._first, self._total = done, images
        screen = console.screen(stderr=True)
        if not console.out.quiet and console.out.progress and screen.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(20), TextColumn("{task.percentage:.1f}%"),
                TextColumn("{task.fields[rate]:.1f} images/s"), TimeElapsedColumn(), TextColumn("left"),
                TimeRemainingColumn(), TextColumn("{task.fields[parts]}"), console=screen, transient=True,
            )  # fmt: skip
            self._task = self._bar.add_task("epoch", total=images, completed=done, rate=0.0, parts="")
            self._bar.start()

    def step(self, epoch: int, images: int, parts: Mapping[str, float]) -> None:
        now = time.monotonic()
        rate = (images - self._first) / max(now - self._begun, 1e-6)
        told = " ".join(f"{name} {value:.3g}" for name, value in parts.items())
        if self._bar:
            self._bar.update(self._task, completed=images, description=f"epoch {epoch}", rate=rate, parts=told)
        elif now - self._last >= _PLAIN_LINE_SECONDS:
            self._last = now
            left = (self._total - images) / max(rate, 1e-6)
            console.say(f"epoch {epoch}: {images} of {self._total} images, {rate:.1f}/s, {left:.0f} s left, {told}")

    def say(self, text: str) -> None:
        console.say(text)

    def end(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None


class TensorBoard:
    """Scalars and sheets for TensorBoard, where it is installed."""

    def __init__(self, folder: Path, step: int) -> None:
        self.writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self.writer = SummaryWriter(str(folder), purge_step=step)

    def scalars(self, group: str, values: Mapping[str, float | None], step: int) -> None:
        """One value each; those that are None are left out."""
        for name, value in values.items():
            if self.writer and value is not None:
                self.writer.add_scalar(f"{group}/{name}", value, step)

    def picture(self, name: str, rgb: NDArray[np.uint8], step: int) -> None:
        """[H, W, 3] uint8."""
        if self.writer:
            self.writer.add_image(name, rgb, step, dataformats="HWC")

    def close(self) -> None:
        if self.writer:
            self.writer.close()


def sample_row(rgb: NDArray[np.uint8], truth: NDArray[np.float32], predicted: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Picture, true alpha, predicted alpha and their difference side by side.

    Args:
        rgb: [H, W, 3].
        truth, predicted: [H, W] in 0..1.

    Returns:
        [256, 4 * W', 3] uint8, W' as the aspect ratio wants it.
    """
    width = max(1, round(_THUMB * rgb.shape[1] / rgb.shape[0]))
    mattes = (np.rint(255 * matte).astype(np.uint8) for matte in (truth, predicted, np.abs(truth - predicted)))
    shown = [cv2.resize(picture, (width, _THUMB), interpolation=cv2.INTER_AREA) for picture in (rgb, *mattes)]
    return np.concatenate([x if x.ndim == 3 else np.repeat(x[:, :, None], 3, 2) for x in shown], 1)


def sample_sheet(rows: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Rows of `sample_row` below each other, as wide as the widest."""
    width = max(row.shape[1] for row in rows)
    return np.concatenate([np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows])


def write_picture(path: Path, rgb: NDArray[np.uint8]) -> None:
    """[H, W, 3] uint8 as PNG."""
    write_atomic(path, encode(Picture(rgb, None, "PNG", None, 1), "PNG")[0])
