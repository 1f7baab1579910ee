"""The network inside libfacedetection (YuNet, Peng & Yu), as a list of layers.

Its weights are global variables of the shared library, described by a table of its layers. They are read as data,
after its hash was checked: no code of the library runs, so a library for Linux serves on every system.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from p3mdata.faces.elf import SharedLibrary
from p3mdata.faces.integers import IMAGE, Layer, Values

# Output of each level, and how many pixels one of its cells spans.
LEVELS = (("cells8", 8), ("cells16", 16), ("cells32", 32))
# What the channels of an output are, in this order.
CHANNELS = {"class": 1, "object": 1, "box": 4, "points": 10}

_TABLE, _LAYERS = "param_pConvInfo", 53
# First layer of each head at the finest level; the coarser levels follow in steps of two layers.
_HEADS = {"class": 29, "object": 41, "box": 35, "points": 47}


# A row of the library's table, a 1x1 convolution or a 3x3 one per channel: channels, filters, depthwise, pointwise,
# relu, then the addresses of weights and biases.
_FORM, _WEIGHTS_AT, _BIASES_AT = struct.Struct("<ii???5xQQ"), 16, 24


@dataclass(frozen=True)
class _Row:
    channels: int
    filters: int
    depthwise: bool
    relu: bool
    weights: int
    biases: int


def _rows(library: SharedLibrary) -> list[_Row]:
    table = library.address(_TABLE)
    found = []
    for start in range(table, table + _LAYERS * _FORM.size, _FORM.size):
        channels, filters, depthwise, _, relu, _, _ = _FORM.unpack(library.read(start, _FORM.size))
        weights, biases = (library.pointers[start + at] for at in (_WEIGHTS_AT, _BIASES_AT))
        found.append(_Row(channels, filters, depthwise, relu, weights, biases))
    return found


class _Network:
    """The layers while they are listed; every method adds some and returns the name of their output."""

    def __init__(self, library: SharedLibrary) -> None:
        self.layers: list[Layer] = []
        self._library = library
        self._table = _rows(library)

    def _floats(self, address: int, count: int) -> Values:
        return np.frombuffer(self._library.read(address, 4 * count), "<f4").astype(np.float64)

    def _parameters(self, number: int) -> tuple[Values, Values]:
        """Weights [filters, channels per group, height, width] and biases [filters] of a layer."""
        row = self._table[number]
        count = row.filters * (9 if row.depthwise else row.channels)
        weights, biases = self._floats(row.weights, count), self._floats(row.biases, row.filters)
        if row.depthwise:
            return weights.reshape(9, row.filters).T.reshape(row.filters, 1, 3, 3), biases
        return weights.reshape(row.filters, row.channels, 1, 1), biases

    def _add(self, layer: Layer) -> str:
        self.layers.append(layer)
        return layer.name

    def stem(self) -> str:
        """Layer 0: a 3x3 convolution of stride 2, stored as 1x1 over the 27 values of a window, padded to 32."""
        weights, biases = self._parameters(0)
        # The library's pictures have blue first.
        windows = weights[:, :27, 0, 0].reshape(-1, 3, 3, 3).transpose(0, 3, 1, 2)[:, ::-1]
        return self._add(Layer("stem", "conv", (IMAGE,), windows, biases, stride=2, relu=True))

    def pair(self, source: str, name: str, first: int) -> str:
        """A 1x1 layer and the 3x3 layer per channel behind it."""
        wide = self._add(Layer(f"{name}.pointwise", "conv", (source,), *self._parameters(first), fine=True))
        narrow, relu = self._parameters(first + 1), self._table[first + 1].relu
        return self._add(Layer(f"{name}.depthwise", "depthwise", (wide,), *narrow, relu=relu))

    def pairs(self, source: str, name: str, first: int) -> str:
        """Two pairs in a row."""
        return self.pair(self.pair(source, f"{name}.a", first), f"{name}.b", first + 2)

    def pool(self, source: str, name: str) -> str:
        """The largest of 2x2."""
        return self._add(Layer(name, "pool", (source,)))

    def sum(self, small: str, large: str, name: str) -> str:
        """The small layer with every cell doubled, plus the large one."""
        return self._add(Layer(name, "doubled", (small, large)))

    def heads(self, source: str, name: str, level: int) -> None:
        """All heads of a level, which read the same features, as one pair."""
        for part, step in (("pointwise", 0), ("depthwise", 1)):
            rows = [self._parameters(_HEADS[head] + 2 * level + step) for head in CHANNELS]
            weights, biases = (np.concatenate(arrays) for arrays in zip(*rows, strict=True))
            if step:
                self._add(Layer(name, "depthwise", (source,), weights, biases, output=True))
            else:
                source = self._add(Layer(f"{name}.{part}", "conv", (source,), weights, biases, fine=True))


def layers(library: bytes) -> list[Layer]:
    """The network's layers.

    Args:
        library: libfacedetection's shared library for Linux x86-64.

    Returns:
        Layers of a picture (h, w, 3) of which both sides are multiples of 32, with an output per level,
        (16, h / cell, w / cell) of `CHANNELS`: logits of class and object, then centre and log size of the box, and
        five points, all in cells relative to the cell's corner.
    """
    net = _Network(SharedLibrary(library))
    features = net.pool(net.pair(net.stem(), "stage0", 1), "pool0")
    features = net.pool(net.pairs(net.pairs(features, "stage1", 3), "stage2", 7), "pool2")
    fine = net.pairs(features, "stage3", 11)
    middle = net.pairs(net.pool(fine, "pool3"), "stage4", 15)
    coarse = net.pairs(net.pool(middle, "pool4"), "stage5", 19)
    coarse = net.pair(coarse, "neck32", 27)
    middle = net.pair(net.sum(coarse, middle, "sum16"), "neck16", 25)
    fine = net.pair(net.sum(middle, fine, "sum8"), "neck8", 23)
    for level, (source, (name, _)) in enumerate(zip((fine, middle, coarse), LEVELS, strict=True)):
        net.heads(source, name, level)
    return net.layers
