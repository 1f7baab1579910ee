"""Speed of `p3mnet.metrics` against its definitions written down line by line, on the same inputs in one run.

The transcription below uses numpy and scipy. It includes the distance transform of each threshold that P3M-Net's
evaluation computes and does not use; the last row leaves it out. Both begin with 8-bit arrays and run in one thread,
in turns; what is compared are medians of processor time, for other programs disturb it less than time on the clock.
Rows of several metrics call ours once for each; the rows of all ten call `evaluate_pair`.

    python -m benchmarks.metrics [--rounds N] [--json FILE]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import scipy
from numpy.typing import NDArray
from scipy import ndimage

from p3mdata.cli.sample import synthetic_matte
from p3mdata.imaging.trimap import trimap_of
from p3mnet import metrics

SIZES = {"1080x1440": (1080, 1440), "4K (2160x3840)": (2160, 3840)}
Array = NDArray[Any]
# Prediction, truth, trimap.
Inputs = tuple[Array, Array, Array]
# What computes which metrics.
Definitions = dict[tuple[str, ...], Callable[[Array, Array, Array], tuple[float, ...]]]


def whole(p: Array, g: Array, t: Array) -> tuple[float, ...]:
    d = np.abs(p - g)
    return np.sum(d) / 1000, np.mean(d**2), np.mean(d)


def transition(p: Array, g: Array, t: Array) -> tuple[float, ...]:
    p = p.copy()
    p[t == 255] = 1
    p[t == 0] = 0
    pixels = np.sum(t == 128)
    d = np.abs(p - g)
    return np.sum(d) / 1000, np.sum(d**2) / pixels, np.sum(d) / pixels


def known(p: Array, g: Array, t: Array) -> tuple[float, ...]:
    d = np.abs(p - g)
    return np.sum(d * (t == 255)) / 1000, np.sum(d * (t == 0)) / 1000


def gradient(p: Array, g: Array, t: Array) -> tuple[float, ...]:
    lengths = []
    for matte in (p, g):
        down, across = (ndimage.gaussian_filter(matte, 1.4, order=o, output=np.float32) for o in ((1, 0), (0, 1)))
        lengths.append(np.sqrt(down**2 + across**2))
    return (np.sum((lengths[0] - lengths[1]) ** 2) / 10,)


def connectivity(p: Array, g: Array, t: Array, distances: bool = True) -> tuple[float, ...]:
    thresholds = np.arange(0, 1.1, 0.1)
    level = np.full(p.shape, -1, np.float32)
    for before, threshold in itertools.pairwise(thresholds):
        labels, count = ndimage.label((p >= threshold) & (g >= threshold))
        if not count:
            continue
        core = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
        level[(level == -1) & ~core] = before
        if distances:
            ndimage.distance_transform_edt(~core)
    level[level == -1] = 1
    phis = [1 - (matte - level) * (matte - level >= 0.15) for matte in (p, g)]
    return (np.sum(np.abs(phis[0] - phis[1])) / 1000,)


DEFINITIONS: Definitions = {
    ("SAD", "MSE", "MAD"): whole,
    ("SAD_T", "MSE_T", "MAD_T"): transition,
    ("SAD_FG", "SAD_BG"): known,
    ("GRAD",): gradient,
    ("CONN",): connectivity,
}


def by_definition(inputs: Inputs, definitions: Definitions) -> dict[str, float]:
    """Metrics of 8-bit mattes as the transcription computes them."""
    p, g = (matte.astype(np.float32) / 255 for matte in inputs[:2])
    found: dict[str, float] = {}
    for names, function in definitions.items():
        found |= dict(zip(names, map(float, function(p, g, inputs[2])), strict=True))
    return found


def ours(inputs: Inputs, definitions: Definitions) -> dict[str, Any]:
    """The same with ours: all at once, or one function after the other."""
    if len(definitions) > 1:
        return metrics.evaluate_pair(*inputs)
    (names,) = definitions
    wanted = len(inputs) if "_" in names[0] else 2
    return {name: getattr(metrics, name.lower())(*inputs[:wanted]) for name in names}


def inputs_of(shape: tuple[int, int], everywhere: bool) -> Inputs:
    """A portrait's matte and a prediction of it: a shifted, noisy edge, a hole and a blob; or wrong everywhere."""
    rng = np.random.default_rng(0)
    g = cv2.resize(synthetic_matte(max(shape)), shape[::-1], interpolation=cv2.INTER_AREA)
    band = cv2.GaussianBlur(g, (0, 0), max(shape) / 300)
    soft = np.ones(shape, bool) if everywhere else (band > 0) & (band < 255)
    p = np.where(soft, np.roll(band, (2, -3), (0, 1)) + rng.normal(0, 8, shape), g)
    for centre, value in (((0.5, 0.8), 40), ((0.1, 0.1), 210)):
        at = (int(centre[0] * shape[1]), int(centre[1] * shape[0]))
        cv2.circle(p, at, max(shape) // 60, value, -1)
    return np.clip(p, 0, 255).astype(np.uint8), np.asarray(g), trimap_of(g)


def milliseconds(works: Sequence[Callable[[], Any]], rounds: int) -> list[float]:
    """Median processor times of some works that take turns; the first round is dropped."""
    times: list[list[float]] = [[] for _ in works]
    for number in range(rounds + 1):
        for work, into in zip(works, times, strict=True):
            begin = time.thread_time()
            work()
            if number:
                into.append(1000 * (time.thread_time() - begin))
    return [statistics.median(part) for part in times]


def measure(inputs: Inputs, rounds: int) -> list[dict[str, Any]]:
    """A row for each group of metrics, one for all, and one for all without the distance transforms."""
    plain: Definitions = {("CONN",): partial(connectivity, distances=False)}
    choices = {", ".join(names): {names: function} for names, function in DEFINITIONS.items()}
    choices |= {"all ten": DEFINITIONS, "all ten, no distance transforms": DEFINITIONS | plain}
    rows = []
    for title, definitions in choices.items():
        works = [partial(work, inputs, definitions) for work in (by_definition, ours)]
        expected, found = (work() for work in works)
        theirs, mine = milliseconds(works, rounds)
        worst = max(abs(found[name] - value) / abs(value) for name, value in expected.items())
        rows.append({"metrics": title, "definition": theirs, "ours": mine, "ratio": theirs / mine, "difference": worst})
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count; one more is run first")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    print(f"{platform.machine()}, {os.cpu_count()} cores, one used; load {os.getloadavg()[0]:.2f}")
    versions = ", ".join(f"{module.__name__} {module.__version__}" for module in (np, scipy, cv2))
    print(f"Python {platform.python_version()}, {versions}")
    tables = {}
    for size, shape in SIZES.items():
        for where, everywhere in (("wrong in the soft edge", False), ("wrong everywhere", True)):
            rows = tables[f"{size}, {where}"] = measure(inputs_of(shape, everywhere), args.rounds)
            print(f"\n{size}, {where}\n\n| metrics | definition ms | ours ms | ratio | largest relative difference |")
            print("|---|---|---|---|---|")
            for row in rows:
                times = f"{row['definition']:.1f} | {row['ours']:.1f} | {row['ratio']:.1f}"
                print(f"| {row['metrics']} | {times} | {row['difference']:.1e} |", flush=True)
    if args.json:
        args.json.write_text(json.dumps(tables, indent=1))


if __name__ == "__main__":
    main()
