"""Time and memory of the search for copies: fingerprints per core, then clusters with planted copies.

The other pictures are of two kinds: `scenes`, drawn at random with the spectrum of photographs, and `crowded`, mixtures
of three of 74 such scenes, which lie as close together as portraits do. The planted ones are real copies of the sample
portrait and of generated pictures.
"""

from __future__ import annotations

import argparse
import io
import resource
import statistics
import time
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from p3mdata.cli.sample import portrait
from p3mdata.curation import Fingerprint, cluster, fingerprint
from p3mdata.curation.fingerprints import SIDE

_WAVES = 12
_PER_PICTURE = 8
_PLANTED = 60
_BASES = 74


def scenes(count: int, seed: int = 0) -> NDArray[np.float16]:
    """`count` thumbnails, SIDE x SIDE, mean 0, deviation 1, whose waves have amplitudes like those of photographs."""
    rng = np.random.default_rng(seed)
    waves, at = np.arange(_WAVES)[:, None], np.arange(SIDE)[None]
    basis = np.cos(np.pi * waves * (2 * at + 1) / (2 * SIDE)).astype(np.float32)
    amplitude = 1 / np.maximum(waves**2 + waves.T**2, 1) ** 0.6
    amplitude[0, 0] = 0
    drawn = np.empty((count, SIDE, SIDE), np.float16)
    for start in range(0, count, 4096):
        size = (min(4096, count - start), _WAVES, _WAVES)
        block = basis.T @ (rng.standard_normal(size, np.float32) * amplitude.astype(np.float32)) @ basis
        block -= block.mean(axis=(1, 2), keepdims=True)
        drawn[start : start + 4096] = block / block.std(axis=(1, 2), keepdims=True)
    return drawn


def crowded(count: int, seed: int = 0) -> NDArray[np.float16]:
    """Like `scenes`, but each a mixture of three of 74 scenes, mirrored or not, with a quarter of its own."""
    rng = np.random.default_rng(seed)
    bases = scenes(_BASES, seed + 1).astype(np.float32)
    drawn = scenes(count, seed + 2)
    for start in range(0, count, 4096):
        own = drawn[start : start + 4096].astype(np.float32)
        parts = bases[rng.integers(0, _BASES, (len(own), 3))]
        turned = rng.random((len(own), 3)) < 0.5
        parts[turned] = parts[turned][:, :, ::-1]
        block = np.einsum("nk,nkij->nij", rng.dirichlet((1, 1, 1), len(own)).astype(np.float32), parts) + own / 4
        block -= block.mean(axis=(1, 2), keepdims=True)
        drawn[start : start + 4096] = block / block.std(axis=(1, 2), keepdims=True)
    return drawn


def _file(array: NDArray[Any], quality: int) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(sink, "JPEG", quality=quality)
    return sink.getvalue()


def _scene(seed: int) -> NDArray[np.uint8]:
    """A picture: the portrait, or smooth random shapes in colour."""
    if seed == 0:
        return portrait()
    coarse = np.random.default_rng(seed).integers(0, 256, (14, 11, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (440, 560), interpolation=cv2.INTER_CUBIC), np.uint8)


def planted(seed: int) -> list[Fingerprint]:
    """Copies of one picture: smaller, worse, mirrored, cropped by 2 % of either side or all, and all at once."""
    array = _scene(seed)
    height, width = array.shape[:2]
    down, across = round(0.02 * height), round(0.02 * width)
    inside = array[down : height - down, across : width - across]
    small = cv2.resize(np.ascontiguousarray(inside[:, ::-1]), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    third = cv2.resize(array, None, fx=0.3, fy=0.3, interpolation=cv2.INTER_AREA)
    made = (array, third, array[:, ::-1], array[down:], array[:, across:], inside, small)
    files = [_file(copy, 90) for copy in made] + [_file(array, 50)]
    return [fingerprint(data) for data in files]


def measure_fingerprints(rounds: int) -> str:
    """Median images per second of one core, files in memory."""
    cv2.setNumThreads(1)
    large = cv2.resize(portrait(), (1920, 1920), interpolation=cv2.INTER_CUBIC)[420:1500]
    data = _file(large, 92)
    seconds = []
    for _ in range(rounds + 1):
        begin = time.perf_counter()
        fingerprint(data)
        seconds.append(time.perf_counter() - begin)
    median = statistics.median(seconds[1:])
    return (
        f"fingerprint of a 1920x1080 JPEG ({len(data) / 1e6:.2f} MB): {1000 * median:.1f} ms, {1 / median:.0f} images/s"
    )


def measure_clusters(name: str, thumbs: NDArray[np.float16]) -> str:
    """Time of clustering, the process's peak memory, and how many of the planted groups were found whole."""
    count = len(thumbs)
    marks = [Fingerprint(str(i), 1, 1, 1, 50.0, thumb) for i, thumb in enumerate(thumbs)]
    places = iter(np.random.default_rng(1).permutation(count).tolist())
    groups: list[list[int]] = []
    for seed in range(_PLANTED):
        copies = planted(seed)
        groups.append(sorted(next(places) for _ in copies))
        for place, mark in zip(groups[-1], copies, strict=True):
            marks[place] = mark
    begin = time.perf_counter()
    found = cluster(marks)
    seconds = time.perf_counter() - begin
    whole = sum(group in found for group in groups)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    return (
        f"{count:,} {name}: {seconds:.1f} s, peak {peak:.2f} GB; planted groups of {_PER_PICTURE} found whole: "
        f"{whole} of {len(groups)}; other clusters: {len(found) - whole}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=50, help="fingerprints that are timed")
    parser.add_argument("--count", type=int, action="append", help="fingerprints to cluster; may be repeated")
    args = parser.parse_args(arguments)
    print(measure_fingerprints(args.rounds))
    for count in args.count or [10_000, 100_000]:
        for name, draw in (("scenes", scenes), ("crowded", crowded)):
            print(measure_clusters(name, draw(count)), flush=True)


if __name__ == "__main__":
    main()
