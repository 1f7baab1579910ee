"""Seconds per picture, and what they were measured on."""

from __future__ import annotations

import os
import platform
import re
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from p3mdata.base import system
from p3mdata.typing import Json
from p3mnet.baselines import Image, Method

# As in the paper.
SIDE = 512
_WARM_UPS = 2
_LEAST = 3


@dataclass(frozen=True)
class Timing:
    """Seconds per 512x512 picture: median, mean, fastest and slowest of `trials`, after a warm-up.

    `load` is the machine's load average at the end, with that of the method itself; None where there is none.
    """

    median: float
    mean: float
    fastest: float
    slowest: float
    trials: int
    device: str
    load: float | None = None

    def to_json(self) -> Json:
        return asdict(self)


def measure(method: Method, image: Image, trimap: Image, trials: int, seconds: float) -> Timing:
    """Time a method on one picture.

    Args:
        method: Opened.
        image: RGB, 512x512x3.
        trimap: 512x512.
        trials: Runs that count, after two that do not; after one, where it is slow.
        seconds: No further run begins after this long, once there are three.
    """
    given = trimap if method.needs_trimap else None
    begun = time.monotonic()
    for number in range(_WARM_UPS):
        if number == 0 or time.monotonic() - begun < seconds / 4:
            method.timed(image, given)
    taken: list[float] = []
    begun = time.monotonic()
    while len(taken) < trials and (len(taken) < _LEAST or time.monotonic() - begun < seconds):
        start = time.perf_counter()
        method.timed(image, given)
        taken.append(time.perf_counter() - start)
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    return Timing(
        statistics.median(taken), statistics.fmean(taken), min(taken), max(taken), len(taken), device_of(method), load
    )


def device_of(method: Method) -> str:
    """What a method runs on, in words."""
    return method.device or processor()


def processor() -> str:
    """This machine's processor and the cores that this process may use."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    cores = system.cores()
    return f"{names[0].strip() if names else platform.processor() or platform.machine()}, {cores} cores"
