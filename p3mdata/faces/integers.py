"""Networks in integers: several times as fast as floats, and equal on every processor.

Every channel of every layer has a step of its own, told by the largest value it takes on pictures (`tools.ranges`), so
that all channels fill their bits. Steps are folded into the weights: a layer takes integers and gives integers.
A sum of products stays below 2^24, up to which 32-bit floats count exactly: whether integers or floats add it up, and
in which order, it is the same. What is then rounded is one product of two floats. `engine` computes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
# 'conv' of any kernel, 'depthwise' per channel, 'enlarge' (2x2 transposed, stride 2), 'pool' (largest of 2x2), 'sum',
# and 'doubled' (the first source with every cell doubled, plus the second).
Kind = Literal["conv", "depthwise", "enlarge", "pool", "sum", "doubled"]
# Source of the first layer.
IMAGE = "image"
# Largest integer of a byte without and with a sign, and of a layer that is finer.
_BYTE, _SIGNED, _FINE = 255, 127, 4095
# Largest weight beside bytes, and beside anything finer.
_MOST_BYTE, _MOST = 127, 32767
# No sum of products and bias reaches it; rounding weights may add some to what is asked for.
_MOST_SUM, _MOST_ASKED = 1 << 24, (1 << 24) - (1 << 20)
# A bias takes no more of it than this, where a channel is hardly ever used.
_MOST_BIAS = 1 << 22
# A channel is told no finer than this, relative to the layer's largest; and pictures may exceed what was seen by this.
_LEAST_RANGE, _ROOM = 1 / 8, 2.0
# Ranges are kept as quarters of octaves above the lowest, one byte each.
_OCTAVE, _LOWEST, _HIGHEST = (1.0, 1.1892, 1.4142, 1.6818), -16, 16
STEPS = np.array([part * 2.0**octave for octave in range(_LOWEST, _HIGHEST) for part in _OCTAVE])


@dataclass(frozen=True)
class Layer:
    """A layer in real numbers, with the activation behind it.

    Attributes:
        name: Its output.
        kind: What it computes.
        sources: Its inputs.
        kernel: Of a convolution: (filters, channels per group, h, w).
        biases: (filters,)
        stride: Of a convolution, in both directions.
        relu: Whether negative values become 0.
        fine: Whether it is told in thirteen bits instead of eight.
        output: Whether it is an output, which is given in floats.
    """

    name: str
    kind: Kind
    sources: tuple[str, ...]
    kernel: Values | None = None
    biases: Values | None = None
    stride: int = 1
    relu: bool = False
    fine: bool = False
    output: bool = False


@dataclass(frozen=True)
class Counted:
    """A layer in integers.

    A convolution's sum of products of `weights` and its source, plus bias, is multiplied by its filter's scale in
    floats (one product, rounded once), rounded to the nearest integer (halves to the even one), and kept between
    `low` and `high`. An output is the product alone, in floats. Sums are kept between `low` and `high`. Beyond the
    border sources are 0.

    Attributes:
        name: Its output.
        kind: What it computes.
        sources: Its inputs; `IMAGE` is an RGB picture of bytes.
        weights: (filters, channels per group, h, w) int16, of which none exceeds 127 where the source is bytes but no
            picture.
        biases: (filters,) int32
        scales: (filters,) float32
        stride: Of a convolution, in both directions.
        low: Least value.
        high: Largest value; with `low` one of (0, 255), (-127, 127), (0, 4095) and (-4095, 4095).
        channels: Of the output.
        output: Whether it is an output.
    """

    name: str
    kind: Kind
    sources: tuple[str, ...]
    weights: NDArray[np.int16] | None
    biases: NDArray[np.int32] | None
    scales: NDArray[np.float32] | None
    stride: int
    low: int
    high: int
    channels: int
    output: bool


def told(network: Sequence[Layer]) -> list[Layer]:
    """The layers whose ranges are in the table."""
    return [layer for layer in network if layer.kind != "pool" and not layer.output]


def encoded(ranges: Values) -> bytes:
    """Ranges as one byte each, rounded up."""
    return np.minimum(np.searchsorted(STEPS, ranges), len(STEPS) - 1).astype(np.uint8).tobytes()


def in_integers(network: Sequence[Layer], table: bytes) -> list[Counted]:
    """A network in integers.

    Args:
        network: Its layers, each behind its sources.
        table: Ranges of the channels of `told` layers, as `encoded` gives them, one layer after another.

    Raises:
        ValueError: The table is another network's.
    """
    limits = _limits(network)
    steps = _steps(network, table, limits)
    channels = {IMAGE: 3}
    counted = []
    for layer in network:
        low, high = limits[layer.name]
        weights = biases = scales = None
        if layer.kernel is not None:
            weights, biases, scales = _counted(layer, steps, limits)
        channels[layer.name] = channels[layer.sources[0]] if biases is None else len(biases)
        counted.append(
            Counted(
                *(layer.name, layer.kind, layer.sources, weights, biases, scales),
                *(layer.stride, low, high, channels[layer.name], layer.output),
            )
        )
    return counted


def _limits(network: Sequence[Layer]) -> dict[str, tuple[int, int]]:
    """Least and largest integer of each layer."""
    limits = {IMAGE: (0, _BYTE)}
    for layer in network:
        if layer.kernel is None:
            low, high = (pick(limits[name][i] for name in layer.sources) for i, pick in ((0, min), (1, max)))
        else:
            high = _FINE if layer.fine else _BYTE if layer.relu else _SIGNED
            low = 0 if layer.relu else -high
        limits[layer.name] = low, high
    return limits


def _steps(network: Sequence[Layer], table: bytes, limits: Mapping[str, tuple[int, int]]) -> dict[str, Values]:
    """The value of one step of each channel of each layer."""
    ranges: dict[str, Values] = {}
    place = 0
    for layer in network:
        if layer.output:
            continue
        if layer.kind == "pool":
            ranges[layer.name] = ranges[layer.sources[0]]
            continue
        count = len(ranges[layer.sources[0]]) if layer.biases is None else len(layer.biases)
        kept = STEPS[np.frombuffer(table[place : place + count], np.uint8)]
        if len(kept) != count:
            break
        ranges[layer.name] = np.maximum(kept, kept.max() * _LEAST_RANGE) * _ROOM
        place += count
    if place != len(table) or len(ranges) != sum(not layer.output for layer in network):
        raise ValueError("the table of ranges belongs to another network")
    # What is added has the steps of the sum, and sums are added again, or the largest of them are.
    joined = [layer for layer in network if layer.kernel is None]
    for layer in (*reversed(joined), *joined):
        together = (layer.name, *layer.sources)
        largest: Values = np.maximum.reduce([ranges[name] for name in together])
        for name in together:
            ranges[name] = largest
    steps = {name: values / limits[name][1] for name, values in ranges.items()}
    return {**steps, IMAGE: np.ones(3)}


def _counted(
    layer: Layer, steps: Mapping[str, Values], limits: Mapping[str, tuple[int, int]]
) -> tuple[NDArray[np.int16], NDArray[np.int32], NDArray[np.float32]]:
    """Weights, biases and scales of a convolution."""
    assert layer.kernel is not None and layer.biases is not None
    (source,) = layer.sources
    before, most = steps[source], limits[source][1]
    after = np.ones(len(layer.biases)) if layer.output else steps[layer.name]
    kernel = layer.kernel / after[:, None, None, None]
    kernel = kernel * (before[:, None, None, None] if layer.kind == "depthwise" else before[None, :, None, None])
    biases = layer.biases / after
    most_weight = _MOST_BYTE if layer.kind != "depthwise" and most <= _BYTE and source != IMAGE else _MOST
    # The finest scale by which everything fits.
    needed = (
        np.abs(kernel).max((1, 2, 3)) / most_weight,
        (most * np.abs(kernel).sum((1, 2, 3)) + np.abs(biases)) / _MOST_ASKED,
        np.abs(biases) / _MOST_BIAS,
    )
    scales = np.maximum(np.maximum.reduce(needed), 1e-12).astype(np.float32)
    exact = scales.astype(np.float64)
    weights = np.clip(np.rint(kernel / exact[:, None, None, None]), -most_weight, most_weight)
    biases = np.rint(biases / exact)
    assert (np.abs(weights).sum((1, 2, 3)) * most + np.abs(biases) < _MOST_SUM).all()
    return weights.astype(np.int16), biases.astype(np.int32), scales
