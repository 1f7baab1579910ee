"""The network inside libfacedetection (YuNet, Peng & Yu), as an ONNX graph.

The library computes it in plain C; onnxruntime does the same sums six times as fast. Its weights are global variables
of the shared library, described by a table of its layers. They are read as data, after its hash was checked: no code of
the library runs, so a library for Linux serves on every system.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p3mdata.faces.elf import SharedLibrary
from p3mdata.faces.onnx_graph import Graph

Weights = NDArray[np.float32]

IMAGE = "image"
# Output of each level, and how many pixels one of its cells spans.
LEVELS = (("cells8", 8), ("cells16", 16), ("cells32", 32))
# What the channels of an output are, in this order.
CHANNELS = {"class": 1, "object": 1, "box": 4, "points": 10}

_TABLE, _LAYERS = "param_pConvInfo", 53
# First layer of each head at the finest level; the coarser levels follow in steps of two layers.
_HEADS = {"class": 29, "object": 41, "box": 35, "points": 47}


# A row of the library's table, a 1x1 convolution or a 3x3 one per channel: channels, filters, depthwise, pointwise,
# relu, then the addresses of weights and biases.
_ROW, _WEIGHTS_AT, _BIASES_AT = struct.Struct("<ii???5xQQ"), 16, 24


@dataclass(frozen=True)
class _Layer:
    channels: int
    filters: int
    depthwise: bool
    relu: bool
    weights: int
    biases: int


def _layers(library: SharedLibrary) -> list[_Layer]:
    table = library.address(_TABLE)
    found = []
    for start in range(table, table + _LAYERS * _ROW.size, _ROW.size):
        channels, filters, depthwise, _, relu, _, _ = _ROW.unpack(library.read(start, _ROW.size))
        weights, biases = (library.pointers[start + at] for at in (_WEIGHTS_AT, _BIASES_AT))
        found.append(_Layer(channels, filters, depthwise, relu, weights, biases))
    return found


class _Network:
    """The graph while it is built; every method adds layers and returns the name of their output."""

    def __init__(self, library: SharedLibrary) -> None:
        self.graph = Graph()
        self._library = library
        self._table = _layers(library)

    def _floats(self, address: int, count: int) -> Weights:
        return np.frombuffer(self._library.read(address, 4 * count), "<f4").astype(np.float32)

    def _parameters(self, number: int) -> tuple[Weights, Weights]:
        """Weights [filters, channels per group, height, width] and biases [filters] of a layer."""
        layer = self._table[number]
        count = layer.filters * (9 if layer.depthwise else layer.channels)
        weights, biases = self._floats(layer.weights, count), self._floats(layer.biases, layer.filters)
        if layer.depthwise:
            return weights.reshape(9, layer.filters).T.reshape(layer.filters, 1, 3, 3), biases
        return weights.reshape(layer.filters, layer.channels, 1, 1), biases

    def stem(self, source: str) -> str:
        """Layer 0: a 3x3 convolution of stride 2, stored as 1x1 over the 27 values of a window, padded to 32."""
        weights, biases = self._parameters(0)
        windows = weights[:, :27, 0, 0].reshape(-1, 3, 3, 3).transpose(0, 3, 1, 2)
        return self.graph.conv(source, "stem", windows, biases, stride=2, relu=True)

    def pair(self, source: str, name: str, first: int) -> str:
        """A 1x1 layer and the 3x3 layer per channel behind it."""
        for number, part in ((first, "pointwise"), (first + 1, "depthwise")):
            source = self.graph.conv(source, f"{name}.{part}", *self._parameters(number), relu=self._table[number].relu)
        return source

    def pairs(self, source: str, name: str, first: int) -> str:
        """Two pairs in a row."""
        return self.pair(self.pair(source, f"{name}.a", first), f"{name}.b", first + 2)

    def heads(self, source: str, name: str, level: int) -> None:
        """All heads of a level, which read the same features, as one pair."""
        for part, step in (("pointwise", 0), ("depthwise", 1)):
            layers = [self._parameters(_HEADS[head] + 2 * level + step) for head in CHANNELS]
            weights, biases = (np.concatenate(arrays) for arrays in zip(*layers, strict=True))
            source = self.graph.conv(source, name if step else f"{name}.{part}", weights, biases)
        self.graph.output(name, sum(CHANNELS.values()))


def graph_of(library: bytes) -> bytes:
    """The network as a serialized ONNX model.

    Args:
        library: libfacedetection's shared library for Linux x86-64.

    Returns:
        A model of input `IMAGE` (n, 3, h, w float32: B, G, R in 0..255, sides multiples of 32), and per level an output
        (n, 16, h / cell, w / cell) of `CHANNELS`: logits of class and object, then centre and log size of the box, and
        five points, all in cells relative to the cell's corner.
    """
    net = _Network(SharedLibrary(library))
    graph = net.graph
    graph.input(IMAGE, 3)
    features = graph.max_pool(net.pair(net.stem(IMAGE), "stage0", 1), "pool0")
    features = graph.max_pool(net.pairs(net.pairs(features, "stage1", 3), "stage2", 7), "pool2")
    fine = net.pairs(features, "stage3", 11)
    middle = net.pairs(graph.max_pool(fine, "pool3"), "stage4", 15)
    coarse = net.pairs(graph.max_pool(middle, "pool4"), "stage5", 19)
    coarse = net.pair(coarse, "neck32", 27)
    middle = net.pair(graph.add_doubled(coarse, middle, "sum16"), "neck16", 25)
    fine = net.pair(graph.add_doubled(middle, fine, "sum8"), "neck8", 23)
    for level, (source, (name, _)) in enumerate(zip((fine, middle, coarse), LEVELS, strict=True)):
        net.heads(source, name, level)
    return graph.serialize()
