"""The face mesh counted in integers: the same sums in any order, with the C library or without it.

The network is MediaPipe's, a chain of residual blocks. What runs along the chain stays floats, each of which one
multiplication and one addition make; what convolutions see are integers of 12 and 15 bits, each channel in a step of
its own (`tools.mesh_ranges`), and weights have as many bits as leave room for the sum. So points lie where the network
of floats has them, and no sum is rounded: numpy and C (`p3mdata.native.mesh`) give the same bytes on every processor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from p3mdata.faces.integers import STEPS
from p3mdata.faces.tflite import ADD, CONV, DEPTHWISE, PRELU, Network
from p3mdata.native.mesh import LANES, Block, Layer, Mesh, Program

Floats = NDArray[np.float32]
Reals = NDArray[np.float64]
# Largest integer that a convolution sees (of the image: 255), a depthwise one, and the largest weight.
MOST, MOST_OF_SPREAD, _MOST_WEIGHT = 16383, 2047, 32767
# Pictures may exceed what was seen by this, and a channel is told no finer than this, relative to the layer's largest.
_ROOM, _LEAST_RANGE = 2.0, 1 / 64
# What sums stay below: 32 bits; for depthwise convolutions what a float holds exactly. Rounding weights may add some.
_INT_SUM, _FLOAT_SUM = 1 << 31, 1 << 24
_SUM, _SMALL_SUM = 0.99 * _INT_SUM, 0.99 * _FLOAT_SUM
# Which of the outputs is the logit of a face being there, and which are the points: the second and the third.
_PRESENT, _POINTS = 1, 2


@dataclass(frozen=True)
class _Real:
    """A convolution of the file: kernel (filters, channels, h, w), biases, slopes of negative results (filters,)."""

    output: int
    kernel: Reals
    biases: Reals
    slopes: Reals | None = None


@dataclass(frozen=True)
class _Chain:
    """The network of a file; of each block the first, the depthwise and the last convolution."""

    stem: _Real
    blocks: list[tuple[_Real, _Real, _Real]]
    head: _Real
    activated: dict[int, int]

    @property
    def told(self) -> list[_Real]:
        """The convolutions whose results have steps of their own: all but the head."""
        return [self.stem, *(layer for block in self.blocks for layer in block)]


def _chain(data: bytes) -> _Chain:
    file = Network(data)
    convolutions: list[_Real] = []
    makes: dict[int, int] = {}
    slopes: dict[int, Reals] = {}
    activated: dict[int, int] = {}
    for op in file.operations:
        if op.kind in (CONV, DEPTHWISE):
            kernel = file.constant(op.inputs[1]).astype(np.float64)
            kernel = kernel.transpose((3, 0, 1, 2) if op.kind == DEPTHWISE else (0, 3, 1, 2))
            convolutions.append(_Real(op.output, kernel, file.constant(op.inputs[2]).astype(np.float64)))
            makes[op.output] = op.output
        elif op.kind == ADD:
            makes[op.output] = next(makes[tensor] for tensor in reversed(op.inputs) if tensor in makes)
        elif op.kind == PRELU:
            source = makes.get(op.inputs[0], op.inputs[0])
            slopes[source] = file.constant(op.inputs[1]).reshape(-1).astype(np.float64)
            activated[source] = op.output
    found = [_Real(c.output, c.kernel, c.biases, slopes.get(c.output)) for c in convolutions]
    ends = {c.output: c for c in found[-3:]}
    last = [ends[tensor] for tensor in sorted(ends)][_PRESENT:]
    head = _Real(0, np.concatenate([c.kernel for c in last]), np.concatenate([c.biases for c in last]))
    body = found[1:-3]
    if len(body) % 3 or any(c.slopes is None for c in (found[0], *body[::3], *body[2::3])):
        raise ValueError("the landmark model is another network")
    return _Chain(found[0], list(zip(body[::3], body[1::3], body[2::3], strict=True)), head, activated)


def told(data: bytes) -> list[tuple[int, int]]:
    """Tensors of the file whose ranges are in the table, and their numbers of channels: the stem's result, then of each
    block what its first and its depthwise convolution and the block itself give."""
    chain = _chain(data)
    return [(chain.activated.get(layer.output, layer.output), len(layer.biases)) for layer in chain.told]


def in_integers(data: bytes, table: bytes) -> Mesh:
    """The network in integers.

    Args:
        data: MediaPipe's face_landmarks_detector.tflite.
        table: Ranges of the channels of `told` tensors, as `integers.encoded` gives them, one tensor after another.

    Raises:
        ValueError: The file or the table is another one.
    """
    chain = _chain(data)
    counts = [len(layer.biases) for layer in chain.told]
    if sum(counts) != len(table):
        raise ValueError("the table of ranges belongs to another network")
    parts = np.split(STEPS[np.frombuffer(table, np.uint8)], np.cumsum(counts)[:-1])
    mosts = [MOST_OF_SPREAD if number % 3 == 1 else MOST for number in range(len(parts))]
    steps = [
        np.maximum(part, part.max() * _LEAST_RANGE) * _ROOM / most for part, most in zip(parts, mosts, strict=True)
    ]
    stem = _layer(chain.stem, np.full(3, 1 / 255), 255, _SUM)
    blocks, before = [], steps[0]
    for number, (first, spread, last) in enumerate(chain.blocks):
        mid, wide, after = steps[1 + 3 * number : 4 + 3 * number]
        blocks.append(
            Block(
                _layer(first, before, MOST, _SUM, mid),
                _layer(spread, mid, MOST_OF_SPREAD, _SMALL_SUM, wide),
                _layer(last, wide, MOST, _SUM),
                _float(1 / after),
            )
        )
        before = after
    return Mesh(stem, _float(1 / steps[0]), tuple(blocks), _layer(chain.head, before, MOST, _SUM))


def _layer(real: _Real, steps: Reals, most: int, limit: float, after: Reals | None = None) -> Layer:
    """A convolution of integers up to `most` that stand for so many `steps` of each channel.

    Its sums times `positive`, or `negative` where they are negative, are units of `after`, else values.
    """
    filters, depthwise = len(real.biases), real.kernel.shape[1] == 1
    # Inputs by rows, columns and channels; filters last, filled up.
    by_input = steps if depthwise else np.tile(steps, real.kernel.shape[2] * real.kernel.shape[3])[:, None]
    kernel = real.kernel.transpose(2, 3, 1, 0).reshape(-1, filters) * by_input
    sizes = np.abs(kernel)
    largest, total = sizes.max(0), sizes.sum(0) * most + np.abs(real.biases)
    scale = np.maximum(np.maximum(largest / _MOST_WEIGHT, total / limit), 1e-30)
    wide = filters + -filters % LANES
    # Of single pixels all inputs are there, filled up as the filters before them are.
    rows = len(kernel) + (-len(kernel) % LANES if real.kernel.shape[2] == 1 else 0)
    weights = np.zeros((rows, wide), np.int16)
    weights[: len(kernel), :filters] = np.rint(kernel / scale)
    biases = np.zeros(wide, np.int32)
    biases[:filters] = np.rint(real.biases / scale)
    # Rounded up, weights may add to what `limit` leaves free.
    most_sum = np.abs(weights.astype(np.int64)).sum(0) * most + np.abs(biases)
    assert (most_sum < (_FLOAT_SUM if depthwise else _INT_SUM)).all()
    positive, slopes = np.zeros(wide, np.float32), np.zeros(wide, np.float32)
    positive[:filters] = scale if after is None else scale / after
    slopes[:filters] = 1 if real.slopes is None else real.slopes
    return Layer(weights, biases, positive, positive * slopes, slopes, real.kernel.shape[2], filters)


def _float(values: Reals) -> Floats:
    return values.astype(np.float32)


class MeshNetwork:
    """The network with what one worker needs to run it.

    Args:
        data: As `in_integers`.
        table: As `in_integers`.
    """

    def __init__(self, data: bytes, table: bytes) -> None:
        self.mesh = in_integers(data, table)
        self._program = Program(self.mesh)

    def __call__(self, rgb: NDArray[np.uint8]) -> tuple[float, Floats]:
        """Logit of a face being there, and its points in pixels (478, 3), of a picture (256, 256, 3)."""
        out = self._program(rgb)
        if out is None:
            out = by_numpy(self.mesh, rgb)
        return float(out[0]), out[1:].reshape(-1, 3)


def by_numpy(mesh: Mesh, rgb: NDArray[np.uint8]) -> Floats:
    """The network's outputs without the C library."""
    image = np.pad(rgb, ((0, 1), (0, 1), (0, 0)))
    windows = sliding_window_view(image, (3, 3), axis=(0, 1))[::2, ::2].transpose(0, 1, 3, 4, 2)
    side = windows.shape[0]
    value = _activated(_sums(windows.reshape(side, side, -1), mesh.stem), mesh.stem, None)
    seen = _whole(value * mesh.stem_inverse)
    for block in mesh.blocks:
        if block.first.side > 1:
            value, seen = _pooled(value, block.last.outputs), _by_fours(seen)
        sums = _sums(seen, block.first)
        mid = _whole(sums * np.where(sums >= 0, block.first.positive, block.first.negative), MOST_OF_SPREAD)
        mid = _whole(_spread(mid, block.spread) * block.spread.positive)
        value = _activated(_sums(mid, block.last), block.last, value)
        seen = _whole(value * block.inverse)
    sums = _sums(seen.reshape(1, 1, -1), mesh.head) * mesh.head.positive
    return np.asarray(sums.reshape(-1)[: mesh.head.outputs], np.float32)


def _sums(seen: NDArray[np.generic], layer: Layer) -> Floats:
    """Integers, which float64 holds exactly in any order of summing, as floats."""
    rows = seen.reshape(-1, seen.shape[-1]).astype(np.float64)
    sums = rows @ layer.weights[: rows.shape[1]].astype(np.float64)
    sums += layer.biases
    return sums.astype(np.float32).reshape(*seen.shape[:-1], -1)


def _whole(units: Floats, most: int | None = None) -> Floats:
    limit = np.float32(most or MOST)
    np.clip(units, -limit, limit, out=units)
    return np.rint(units, out=units)


def _activated(sums: Floats, layer: Layer, value: Floats | None) -> Floats:
    sums *= layer.positive
    if value is not None:
        sums += value
    return np.where(sums >= 0, sums, sums * layer.slopes)


def _pooled(value: Floats, channels: int) -> Floats:
    height, width, before = value.shape
    pooled = value.reshape(height // 2, 2, width // 2, 2, before).max((1, 3))
    return np.pad(pooled, ((0, 0), (0, 0), (0, channels - before)))


def _by_fours(seen: Floats) -> Floats:
    height, width, channels = seen.shape
    fours = seen.reshape(height // 2, 2, width // 2, 2, channels).transpose(0, 2, 1, 3, 4)
    return fours.reshape(height // 2, width // 2, -1)


def _spread(mid: Floats, layer: Layer) -> Floats:
    """Sums that floats hold exactly."""
    height, width = mid.shape[:2]
    padded = np.pad(mid, ((1, 1), (1, 1), (0, 0)))
    sums = np.broadcast_to(layer.biases.astype(np.float32), mid.shape).copy()
    product = np.empty_like(sums)
    for place, weights in enumerate(layer.weights.astype(np.float32)):
        down, across = divmod(place, 3)
        sums += np.multiply(padded[down : down + height, across : across + width], weights, out=product)
    return sums
