"""Foreground and background colours of training images, for losses on compositions; estimated with pymatting."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.base.files import sha256, write_released
from p3mdata.base.jsonl import append_row, read_rows
from p3mdata.base.pool import CRASH_SENTENCE, Handler, Mark, work_in_pool
from p3mdata.errors import Interrupted, SetupError
from p3mdata.imaging import Picture, decode, encode

# What is finished, so that an interrupted estimation goes on where it was.
COLOURS_DONE = "foregrounds.jsonl"

# image, alpha: files; foreground, background: where to write, relative to the dataset.
Task = tuple[str, str, str, str]


def require_pymatting(wanting: str = "--foregrounds") -> None:
    """Raise SetupError when the library is missing; the sentence says what wants it."""
    try:
        load_pymatting()
    except ImportError as exc:
        raise SetupError(f"{wanting} needs pymatting: run pip install 'p3mdata[release]'.") from exc


def load_pymatting() -> ModuleType:
    """The library, without what it tells of its own compilation, and without a trace in PyTorch's results.

    Its import starts numba's threads, which sets the number of threads of everything that uses the same OpenMP to that
    of the cores: sums of PyTorch come to other last bits then, so that a training would depend on whether it, or the
    call before it, had to estimate colours.
    """
    if (limit := os.environ.get("OMP_NUM_THREADS", "")).isdigit():
        os.environ.setdefault("NUMBA_NUM_THREADS", limit)
    torch = sys.modules.get("torch")
    threads = None if torch is None else torch.get_num_threads()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        library = import_module("pymatting")
    if torch is not None:
        torch.set_num_threads(threads)
    return library


def multi_level_colours(rgb: NDArray[np.uint8], alpha: NDArray[Any]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Foreground and background, HxWx3 uint8 each, by multi-level estimation (Germer et al. 2020).

    Args:
        rgb: HxWx3.
        alpha: HxW, 8 or 16 bits.
    """
    image, opacity = rgb.astype(np.float64) / 255, alpha.astype(np.float64) / np.iinfo(alpha.dtype).max
    foreground, background = load_pymatting().estimate_foreground_ml(image, opacity, return_background=True)
    return _eight_bit(foreground), _eight_bit(background)


def _eight_bit(colours: NDArray[Any]) -> NDArray[np.uint8]:
    rounded: NDArray[np.uint8] = np.rint(np.clip(colours, 0, 1) * 255).astype(np.uint8)
    return rounded


def estimate(root: Path, tasks: Sequence[Task], workers: int) -> Iterator[tuple[str, str]]:
    """Estimate colours for each image; files that are there and belong to the same inputs are kept.

    Args:
        root: The dataset.
        tasks: Files of each image.
        workers: Processes.

    Yields:
        SHA-256 of foreground and background, in the order of the tasks.
    """
    needs = ("inputs", "foreground", "hashes")
    done = {
        (row["inputs"], row["foreground"]): (str(row["hashes"][0]), str(row["hashes"][1]))
        for row in read_rows(root / COLOURS_DONE, torn_tail=True, needs=needs)
        # Another list is none of ours: the colours are estimated again.
        if isinstance(row["hashes"], list) and len(row["hashes"]) == 2
    }
    planned = [_planned(root, task, done) for task in tasks]
    todo = [task for task, (_, known) in zip(tasks, planned, strict=True) if known is None]
    with contextlib.closing(work_in_pool(partial(_working, root), todo, max(1, workers))) as estimated:
        for task, (inputs, known) in zip(tasks, planned, strict=True):
            foreground, background = known or next(estimated)
            if known is None:
                row = {"inputs": inputs, "foreground": task[2], "hashes": [foreground, background]}
                append_row(root / COLOURS_DONE, row, 0o644)
            yield foreground, background


def _planned(
    root: Path, task: Task, done: Mapping[tuple[str, str], tuple[str, str]]
) -> tuple[str, tuple[str, str] | None]:
    """Digest of a task's inputs, and its result if it is there already.

    Args:
        root, task: As for `estimate`.
        done: SHA-256 of foreground and background, by digest of the inputs and name of the foreground.
    """
    inputs = sha256(b"".join(sha256((root / path).read_bytes()).encode() for path in task[:2]))
    hashes = done.get((inputs, task[2]))
    if hashes and all(_is(root / path, digest) for path, digest in zip(task[2:], hashes, strict=True)):
        return inputs, hashes
    return inputs, None


@contextlib.contextmanager
def _working(root: Path, mark: Mark) -> Iterator[Handler[Task, tuple[str, str]]]:
    # The workers supply the parallelism.
    cv2.setNumThreads(1)

    def handle(task: Task, crashing: frozenset[str]) -> tuple[str, str]:
        if task[0] in crashing:
            raise SetupError(f"{root / task[0]}: {CRASH_SENTENCE} Or run with fewer --workers.")
        if not mark(task[0]):
            raise Interrupted("stopped")
        return _estimate_one(root, task)

    yield handle


def _is(path: Path, digest: str) -> bool:
    return path.is_file() and sha256(path.read_bytes()) == digest


def _estimate_one(root: Path, task: Task) -> tuple[str, str]:
    """Both colours of one image as 8-bit RGB PNG."""
    picture = decode((root / task[0]).read_bytes())
    alpha = decode((root / task[1]).read_bytes()).pixels
    hashes = []
    for pixels, path in zip(multi_level_colours(picture.rgb8(), alpha), task[2:], strict=True):
        data, _ = encode(Picture(pixels, None, "PNG", picture.icc, 1), "PNG")
        write_released(root / path, data)
        hashes.append(sha256(data))
    return hashes[0], hashes[1]
