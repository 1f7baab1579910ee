"""CenterFace's network in 8-bit integers, which processors multiply several times as fast as floats.

Every channel of every layer has a step of its own, told by the largest value it takes on pictures (`tools.ranges`), so
that all channels fill their bits. Steps are folded into the weights: a layer takes integers and gives integers. They
are made so that two products of values within their ranges fit into 16 bits: older processors cut off larger sums. The
first layers, the neck and the heads, which are small, stay floats; so does what is read from the file, in which no
weight is changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p3mdata.faces.onnx_graph import (
    BYTE,
    FLOAT,
    add_constant,
    add_node,
    add_weights,
    floats_of,
    new_model,
    read_model,
    set_shape,
)

Values = NDArray[np.float64]
# Name of the input (1, h, w, 3) uint8, and of the output (1, 15, h / 4, w / 4): logit, log size, offset, five points.
IMAGE, CELLS = "image", "cells"
# Input of the file's own network, in floats.
FLOATS, _MICROSOFT = "input.1", "com.microsoft"
# Convolutions whose outputs are those of the network, in this order.
_HEADS = ("536", "538", "539", "540")
# Up to here from the image layers stay floats: what they see of dark places needs more than eight bits.
_LAST_OF_STEM = "377"
# Largest integer of a layer, where one counts from that has negative values, and the largest weight and bias.
_TOP, _MIDDLE, _MOST_WEIGHT, _MOST_BIAS = 255, 99, 100, 1 << 30
# A channel is told no finer than this, relative to the layer's largest; and pictures may exceed what was seen by this,
# which also bounds products: 2 * 100 * 255 / 1.56 is less than 2^15, and so is 2 * 100 * (99 + 99 / 1.56).
_LEAST_RANGE, _ROOM = 1 / 32, 1.56
# Ranges are kept as quarters of octaves above the lowest, one byte each.
_OCTAVE, _LOWEST, _HIGHEST = (1.0, 1.1892, 1.4142, 1.6818), -16, 16
STEPS = np.array([part * 2.0**octave for octave in range(_LOWEST, _HIGHEST) for part in _OCTAVE])


@dataclass(frozen=True)
class Layer:
    """A convolution or a sum, with the activation behind it.

    Attributes:
        name: Its output.
        sources: Its inputs.
        kind: 'Conv', 'ConvTranspose' or 'Add'.
        kernel: Of a convolution: (filters, channels per group, h, w), of a transposed one (channels, filters, h, w).
        biases: (filters,)
        stride: Of a convolution, in both directions.
        group: Of a convolution.
        relu: Whether negative values become 0.
    """

    name: str
    sources: tuple[str, ...]
    kind: str
    kernel: Values
    biases: Values
    stride: int = 1
    group: int = 1
    relu: bool = False

    def attributes(self) -> dict[str, Any]:
        """Of a convolution in ONNX."""
        side = self.kernel.shape[2]
        pad = side // 2 if self.kind == "Conv" else 0
        return {
            "kernel_shape": (side, side),
            "pads": (pad,) * 4,
            "strides": (self.stride,) * 2,
            "group": self.group,
        }


def layers(data: bytes) -> list[Layer]:
    """The layers of CenterFace's file; normalisations are part of the convolution before them.

    Raises:
        ValueError: It is another network.
    """
    graph = read_model(data).graph
    weights = {name: values.astype(np.float64) for name, values in floats_of(graph).items()}
    found: dict[str, Layer] = {}
    # What is made of a layer's output alone has its place.
    names: dict[str, str] = {}
    for node in graph.node:
        source, made = names.get(node.input[0], node.input[0]), node.output[0]
        if node.op_type in ("Relu", "BatchNormalization"):
            layer = found.pop(source)
            if node.op_type == "Relu":
                layer = replace(layer, relu=True)
            else:
                layer = _normalised(layer, *(weights[name] for name in node.input[1:]))
            found[made] = replace(layer, name=made)
            names |= {name: made for name, last in names.items() if last == source} | {source: made}
        elif node.op_type == "Add":
            sources = tuple(names.get(name, name) for name in node.input)
            found[made] = Layer(made, sources, "Add", np.zeros(0), np.zeros(0))
        elif node.op_type in ("Conv", "ConvTranspose"):
            kernel = weights[node.input[1]]
            filters = kernel.shape[0 if node.op_type == "Conv" else 1]
            biases = weights[node.input[2]] if len(node.input) > 2 else np.zeros(filters)
            ints = {attribute.name: attribute for attribute in node.attribute}
            stride, group = ints["strides"].ints[0], ints["group"].i
            found[made] = Layer(made, (source,), node.op_type, kernel, biases, stride, group)
        elif node.op_type != "Sigmoid":
            raise ValueError(f"operation {node.op_type} is not known")
    return list(found.values())


def _normalised(layer: Layer, scale: Values, shift: Values, mean: Values, variance: Values) -> Layer:
    factor = scale / np.sqrt(variance + 1e-3)
    shape = (1, -1, 1, 1) if layer.kind == "ConvTranspose" else (-1, 1, 1, 1)
    return replace(layer, kernel=layer.kernel * factor.reshape(shape), biases=(layer.biases - mean) * factor + shift)


def told(network: Sequence[Layer]) -> list[Layer]:
    """The layers whose ranges are in the table: what is computed in integers, and what is made integers again."""
    floats = _floats(network)
    into = {source for layer in network if layer.name not in floats for source in layer.sources}
    return [layer for layer in network if layer.name not in floats or layer.name in into]


def encoded(ranges: Values) -> bytes:
    """Ranges as one byte each, rounded up."""
    return np.minimum(np.searchsorted(STEPS, ranges), len(STEPS) - 1).astype(np.uint8).tobytes()


def in_integers(data: bytes, table: bytes) -> bytes:
    """The network as an ONNX model of input `IMAGE` and output `CELLS`.

    Args:
        data: CenterFace's file.
        table: Ranges of the channels of `told` layers, as `encoded` gives them, one layer after another.

    Raises:
        ValueError: The file or the table is another one.
    """
    network = layers(data)
    writer = _Writer(_steps(network, table))
    floats = _floats(network)
    for layer in network:
        if layer.name in _HEADS:
            continue
        if layer.name not in floats:
            (writer.sum if layer.kind == "Add" else writer.conv)(layer)
        else:
            writer.float_layer(layer)
    writer.heads([layer for name in _HEADS for layer in network if layer.name == name])
    return bytes(writer.model.SerializeToString(deterministic=True))


def _floats(network: Sequence[Layer]) -> set[str]:
    """Names of the layers that stay floats: what enlarges, what is added to that, and the heads."""
    first = [layer.name for layer in network].index(_LAST_OF_STEM) + 1
    floats = {*_HEADS, *(layer.name for layer in network[:first])}
    for layer in network[first:]:
        if layer.kind == "ConvTranspose" or (layer.kind == "Add" and floats & set(layer.sources)):
            floats.add(layer.name)
    return floats


def _steps(network: Sequence[Layer], table: bytes) -> dict[str, tuple[Values, int]]:
    """Of each layer that is told: the value of one step of each channel, and the integer that stands for zero."""
    ranges: dict[str, Values] = {}
    place = 0
    for layer in told(network):
        count = len(layer.biases) or len(ranges[layer.sources[-1]])
        kept = STEPS[np.frombuffer(table[place : place + count], np.uint8)]
        ranges[layer.name] = np.maximum(kept, kept.max() * _LEAST_RANGE) * _ROOM
        place += count
    if place != len(table):
        raise ValueError("the table of ranges belongs to another network")
    floats = _floats(network)
    # What is added has the steps of the sum, and sums are added again.
    sums = [layer for layer in network if layer.kind == "Add" and layer.name not in floats]
    for layer in (*reversed(sums), *sums):
        together = (layer.name, *layer.sources)
        largest: Values = np.maximum.reduce([ranges[name] for name in together])
        for name in together:
            ranges[name] = largest
    # A sum of what has no negative values has none.
    signed: set[str] = set()
    for layer in network:
        if (layer.kind == "Add" and signed & set(layer.sources)) or (layer.kind == "Conv" and not layer.relu):
            signed.add(layer.name)
    return {
        name: (values / _MIDDLE, _MIDDLE) if name in signed else (values / _TOP, 0) for name, values in ranges.items()
    }


class _Writer:
    """The model while it is written."""

    def __init__(self, steps: Mapping[str, tuple[Values, int]]) -> None:
        self.model = new_model()
        self.model.opset_import.add(domain=_MICROSOFT, version=1)
        self._graph = self.model.graph
        self._graph.name = "graph"
        set_shape(self._graph.input.add(name=IMAGE), (1, "h", "w", 3), BYTE)
        add_node(self._graph, "Transpose", [IMAGE], "planes", perm=(0, 3, 1, 2))
        add_node(self._graph, "Cast", ["planes"], FLOATS, to=FLOAT)
        self._steps = dict(steps)
        self._floats = {FLOATS}
        self._made: set[str] = set()
        self._one = self._constant("one", np.float32(1))
        self._zeros = {value: self._constant(f"zero{value}", np.uint8(value)) for value in (0, _MIDDLE)}

    def _constant(self, name: str, values: Any) -> str:
        return add_constant(self._graph, name, np.asarray(values))

    def _zero(self, name: str) -> str:
        return self._zeros[self._steps[name][1]]

    def _integer(self, name: str) -> str:
        """A layer in integers."""
        if name in self._floats:
            made = f"{name}.integers"
            if made in self._made:
                return made
            self._made.add(made)
            steps = self._constant(f"{made}.steps", self._steps[name][0].astype(np.float32))
            zeros = self._constant(f"{made}.zeros", np.full(len(self._steps[name][0]), self._steps[name][1], np.uint8))
            add_node(self._graph, "QuantizeLinear", [name, steps, zeros], made, axis=1)
            return made
        return name

    def _float(self, name: str) -> str:
        """A layer in floats."""
        if name in self._floats:
            return name
        made = f"{name}.floats"
        step, zero = self._steps[name]
        steps = self._constant(f"{made}.steps", step.astype(np.float32))
        zeros = self._constant(f"{made}.zeros", np.full(len(step), zero, np.uint8))
        return add_node(self._graph, "DequantizeLinear", [name, steps, zeros], made, axis=1)

    def conv(self, layer: Layer) -> None:
        """A convolution of integers."""
        (source,) = layer.sources
        before, after = self._steps[source][0], self._steps[layer.name][0]
        kernel = layer.kernel / after[:, None, None, None]
        kernel = kernel * (before[:, None, None, None] if layer.group > 1 else before[None, :, None, None])
        scale = np.maximum(np.abs(kernel).max((1, 2, 3)), 1e-9).astype(np.float32).astype(np.float64) / _MOST_WEIGHT
        whole = np.clip(np.rint(kernel / scale[:, None, None, None]), -_MOST_WEIGHT, _MOST_WEIGHT)
        biases = np.clip(np.rint(layer.biases / after / scale), -_MOST_BIAS, _MOST_BIAS)
        name = layer.name
        inputs = [
            *(self._integer(source), self._one, self._zero(source)),
            self._constant(f"{name}.weights", whole.astype(np.int8)),
            self._constant(f"{name}.scales", scale.astype(np.float32)),
            self._constant(f"{name}.zeros", np.zeros(len(scale), np.int8)),
            *(self._one, self._zero(name)),
            self._constant(f"{name}.biases", biases.astype(np.int32)),
        ]
        add_node(self._graph, "QLinearConv", inputs, name, **layer.attributes())

    def sum(self, layer: Layer) -> None:
        """A sum of integers of the same steps."""
        inputs = [part for name in layer.sources for part in (self._integer(name), self._one, self._zero(name))]
        inputs += [self._one, self._zero(layer.name)]
        add_node(self._graph, "QLinearAdd", inputs, layer.name)
        self._graph.node[-1].domain = _MICROSOFT

    def float_layer(self, layer: Layer) -> None:
        """A layer of floats."""
        sources = [self._float(name) for name in layer.sources]
        made = f"{layer.name}.linear" if layer.relu else layer.name
        if layer.kind == "Add":
            add_node(self._graph, "Add", sources, made)
        else:
            self._real(layer, sources[0], made)
        if layer.relu:
            add_node(self._graph, "Relu", [made], layer.name)
        self._floats.add(layer.name)

    def _real(self, layer: Layer, source: str, name: str) -> None:
        add_weights(self._graph, f"{name}.weights", layer.kernel.astype(np.float32))
        add_weights(self._graph, f"{name}.biases", layer.biases.astype(np.float32))
        inputs = [source, f"{name}.weights", f"{name}.biases"]
        add_node(self._graph, layer.kind, inputs, name, **layer.attributes())

    def heads(self, layers: Sequence[Layer]) -> None:
        """All heads as one layer, which is the model's output."""
        kernel, biases = (np.concatenate(parts) for parts in zip(*((h.kernel, h.biases) for h in layers), strict=True))
        self._real(replace(layers[0], kernel=kernel, biases=biases), self._float(layers[0].sources[0]), CELLS)
        set_shape(self._graph.output.add(name=CELLS), (1, len(biases), "oh", "ow"))
