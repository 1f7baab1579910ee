"""Looks at every file of a folder in worker processes: fingerprint, share of the person, blur and light."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.base.disk_backed import DiskList
from p3mdata.base.pool import CRASH_SENTENCE, CRASHED, Handler, Mark, work_in_pool
from p3mdata.base.processes import default_workers
from p3mdata.base.progress import Progress, silent
from p3mdata.curation.fingerprints import Fingerprint, Grey, fingerprint, grey_of, read_luma
from p3mdata.errors import BrokenInput, Interrupted
from p3mdata.imaging import decode
from p3mdata.imaging.listing import regular_file

# Pictures are looked at for blur as if their shorter side had this many pixels, and not enlarged.
_SIDE = 1080
_REBLUR = 1.5
# The strongest edges of a picture, and the sharpest of those, as shares.
_EDGES, _SHARPEST = 0.01, 0.1
_CHUNK = 8


@dataclass(frozen=True)
class Task:
    """A picture to look at, and its alpha matte; `quality` asks for blur and light too, which doubles the time."""

    path: Path
    alpha: Path | None = None
    quality: bool = False


@dataclass(frozen=True)
class Look:
    """What was seen; a file that cannot be used has a problem (code, sentence) and nothing else.

    Attributes:
        fingerprint: Of the picture.
        person: Mean of the alpha matte, 0 to 1; None without one.
        blur: Standard deviation in pixels of the blur that would make the picture's sharpest edges as soft as they
            are, at 1080 pixels of the shorter side; None when not asked for.
        light: Levels (0 to 255) that 5 % and 95 % of the person's pixels (without a matte: all) do not exceed.
        problem: Why the file or its matte cannot be used.
    """

    fingerprint: Fingerprint | None = None
    person: float | None = None
    blur: float | None = None
    light: tuple[int, int] | None = None
    problem: tuple[str, str] | None = None


def blur_of(grey: Grey) -> float:
    """Standard deviation in pixels of the blur at the sharpest of a picture's strong edges.

    A strong edge is blurred again, and how much it loses tells how blurred it was. On photographs: 0.5 to 1.1 as
    they are, 1.8 to 2.2 after a Gaussian blur of 2 pixels, 2.5 to 3.2 after one of 3.

    Args:
        grey: HxW uint8.
    """
    factor = _SIDE / min(grey.shape)
    if factor < 1:
        height, width = (max(1, round(side * factor)) for side in grey.shape)
        grey = np.asarray(cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    image = grey.astype(np.float32)
    before, after = _slope(image), _slope(np.asarray(cv2.GaussianBlur(image, (0, 0), _REBLUR), np.float32))
    strong = np.quantile(after[::2, ::2], 1 - _EDGES)
    edges = after >= max(float(strong), 1.0)
    if not edges.any():
        return 0.0
    loss = float(np.quantile(before[edges] / after[edges], 1 - _SHARPEST))
    return float(round(_REBLUR / max(loss**2 - 1, 1e-2) ** 0.5, 2))


def _slope(image: NDArray[np.float32]) -> NDArray[np.float32]:
    across, down = (cv2.Sobel(image, cv2.CV_32F, dx, 1 - dx, ksize=3) for dx in (1, 0))
    return np.asarray(cv2.magnitude(across, down), np.float32)


def look(task: Task) -> Look:
    """Look at one file; whatever is wrong with it ends as its problem."""
    try:
        data = _read(task.path)
        grey = read_luma(data)
        mark = fingerprint(data, grey)
        matte = None if task.alpha is None else _matte(task.alpha, grey)
        seen = Look(mark, None if matte is None else round(float(matte.mean()) / 255, 4))
        if not task.quality:
            return seen
        lit = grey if matte is None or matte.shape != grey.shape else grey[matte > 127]
        low, high = np.quantile(lit if lit.size else grey, (0.05, 0.95), method="lower")
        return Look(mark, seen.person, blur_of(grey), (int(low), int(high)))
    except BrokenInput as exc:
        return Look(problem=(exc.code, exc.sentence))
    except MemoryError:
        return Look(problem=("out_of_memory", "needs more memory than there is. Use fewer --workers, or remove it."))
    except Exception as exc:
        sentence = f"met a fault of the program ({type(exc).__name__}: {exc}). Please report it."
        return Look(problem=("internal_error", sentence))


def _read(path: Path, what: str = "") -> bytes:
    try:
        return regular_file(path).read_bytes()
    except OSError as exc:
        raise BrokenInput("cannot_read", f"{what}cannot be read ({exc.strerror}). Check it.") from exc


def _matte(path: Path, grey: Grey) -> Grey:
    try:
        matte = grey_of(decode(_read(path)))
    except BrokenInput as exc:
        raise BrokenInput(f"alpha_{exc.code}", f"has an alpha that {exc.sentence}") from exc
    if matte.shape not in (grey.shape, grey.shape[::-1]):
        raise BrokenInput(
            "alpha_other_size",
            f"is {grey.shape[1]}x{grey.shape[0]} but its alpha is {matte.shape[1]}x{matte.shape[0]}. "
            "Export both at one size.",
        )
    return matte


def look_at_all(tasks: Sequence[Task], workers: int = 0, progress: Progress | None = None) -> Sequence[Look]:
    """Look at all files; neither the number of workers nor the order of their work changes what is returned.

    The looks lie in a temporary file of 2.3 KB per picture.

    Args:
        tasks: What to look at.
        workers: Processes; 0 chooses, 1 works in this process, which a picture that crashes a library takes with it.
        progress: Told the number of files, gives what is called after each of them.

    Raises:
        Interrupted: Stopped by Ctrl-C.
        SetupError: The worker processes die before they look at anything.
        SettingsError: There is no room for the temporary file.
    """
    step = (progress or silent)(len(tasks))
    size = min(workers or default_workers(), -(-len(tasks) // _CHUNK))
    try:
        if size <= 1:
            return DiskList(_stepped(look(task), step) for task in tasks)
        return DiskList(_look_in_pool(tasks, size, step))
    except KeyboardInterrupt:
        raise Interrupted("stopped") from None


def _stepped(seen: Look, step: Callable[[], None]) -> Look:
    step()
    return seen


def _look_in_pool(tasks: Sequence[Task], size: int, step: Callable[[], None]) -> Iterator[Look]:
    chunks = (
        (start, [tasks[i] for i in range(start, min(start + _CHUNK, len(tasks)))])
        for start in range(0, len(tasks), _CHUNK)
    )
    with contextlib.closing(work_in_pool(partial(_working, look), chunks, size)) as found:
        for looks in found:
            for seen in looks:
                yield _stepped(seen, step)


@contextlib.contextmanager
def _working(see: Callable[[Task], Look], mark: Mark) -> Iterator[Handler[tuple[int, Sequence[Task]], list[Look]]]:
    # The processes are the parallelism.
    cv2.setNumThreads(1)

    def handle(chunk: tuple[int, Sequence[Task]], crashing: frozenset[str]) -> list[Look]:
        looks = []
        for number, task in enumerate(chunk[1], chunk[0]):
            if str(number) in crashing:
                looks.append(Look(problem=(CRASHED, CRASH_SENTENCE)))
                continue
            if not mark(str(number)):
                raise Interrupted("stopped")
            looks.append(see(task))
        return looks

    yield handle
