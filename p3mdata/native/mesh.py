"""The face mesh in integers, computed by the C library."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p3mdata.native.library import library

Floats = NDArray[np.float32]
# Channels are filled up to multiples of this.
LANES = 16
# In the middle of a block to this where that suffices, so that two pixels lie in a vector.
_NARROW = 8
# Sides of the picture.
SIDE = 256
# Values of a row that the library has memory for, and of a pixel in the middle of a block.
_ROW, _MARGIN = 2048, 64


@dataclass(frozen=True)
class Layer:
    """A convolution of integers.

    Attributes:
        weights: (inputs, filters) int16; inputs by rows, columns and channels.
        biases: (filters,) int32
        positive: (filters,) what a sum is multiplied with, where it is not negative.
        negative: (filters,) where it is.
        slopes: (filters,) what a value, made of the sum and what is added, is multiplied with where it is negative.
        side: Of the kernel.
        outputs: Filters that are not there to fill up.
    """

    weights: NDArray[np.int16]
    biases: NDArray[np.int32]
    positive: Floats
    negative: Floats
    slopes: Floats
    side: int
    outputs: int


@dataclass(frozen=True)
class Block:
    """A residual block: a convolution of single pixels, or of 2x2 in steps of two, a depthwise one of 3x3, and one of
    single pixels, whose result is added; `inverse` is how many integers the next layer sees per unit of the sum."""

    first: Layer
    spread: Layer
    last: Layer
    inverse: Floats


@dataclass(frozen=True)
class Mesh:
    """The network: a convolution of 3x3 in steps of two, blocks, and a convolution of all that is left."""

    stem: Layer
    stem_inverse: Floats
    blocks: tuple[Block, ...]
    head: Layer


class Program:
    """A network as the C library takes it, with memory of its own for what layers give: for one thread.

    Raises:
        ValueError: A layer does not fit those before it.
    """

    def __init__(self, mesh: Mesh) -> None:
        _check(mesh)
        self._weights: list[NDArray[Any]] = []
        self._biases: list[NDArray[Any]] = []
        self._floats: list[NDArray[Any]] = []
        # The first layer's arrays lie first.
        self._add(mesh.stem)
        for floats in (mesh.stem.positive, mesh.stem.slopes):
            _put(self._floats, floats)
        inverses = [_put(self._floats, floats) for floats in (mesh.stem_inverse, *(b.inverse for b in mesh.blocks))]
        plan = [[*self._block(block), seen] for block, seen in zip(mesh.blocks, inverses, strict=False)]
        head, filters = self._add(mesh.head), mesh.head.weights.shape[1]
        scales = _put(self._floats, mesh.head.positive)
        self._head = np.array([len(mesh.head.weights), head[0], filters, head[1], scales, inverses[-1]], np.int32)
        self._outputs = mesh.head.outputs
        kinds = ((self._weights, np.int16), (self._biases, np.int32), (self._floats, np.float32))
        self._arrays = [np.concatenate(arrays, dtype=kind) for arrays, kind in kinds]
        del self._weights, self._biases, self._floats
        self._plan = np.array(plan, np.int32)
        self._half = (SIDE // 2) ** 2 * mesh.stem.weights.shape[1]
        self._values = np.zeros(2 * self._half, np.float32)

    def _add(self, layer: Layer, inputs: int | None = None, lanes: int = LANES) -> tuple[int, int]:
        """Where the weights and biases of a layer of products begin, of its first `inputs` alone."""
        weights, biases = layer.weights[:inputs], layer.biases
        if lanes < LANES:
            weights, biases = weights[:, :lanes], biases[:lanes]
        if len(weights) % 2:
            weights = np.concatenate([weights, np.zeros_like(weights[:1])])
        chunks = weights.reshape(len(weights) // 2, 2, -1, lanes).transpose(2, 0, 3, 1)
        return _put(self._weights, chunks.reshape(-1)), _put(self._biases, biases)

    def _block(self, block: Block) -> list[int]:
        """Its numbers in the plan."""
        first, spread, last = block.first, block.spread, block.last
        inputs = len(first.weights) // first.side**2
        middle = _NARROW if _is_narrow(block) else first.weights.shape[1]
        first_weights, first_biases = self._add(first, lanes=min(middle, LANES))
        last_weights, last_biases = self._add(last, middle)
        # Of fewer than LANES channels, those of pixels side by side fill a vector.
        times = max(1, LANES // middle)
        parts = (first.positive, first.negative, spread.weights, spread.biases, spread.positive)
        floats = [np.tile(values[..., :middle], times).reshape(-1) for values in parts]
        places = [_put(self._floats, values) for values in (*floats, last.positive, last.slopes)]
        sizes = [int(first.side > 1), inputs, middle, last.weights.shape[1]]
        return [*sizes, first_weights, last_weights, first_biases, last_biases, *places]

    def __call__(self, rgb: NDArray[np.uint8]) -> Floats | None:
        """Outputs for a picture, (outputs,) float32; None if there is no library.

        Args:
            rgb: SIDE x SIDE x 3; pixels of a row must lie side by side.

        Raises:
            ValueError: It has another shape, type or layout.
        """
        if rgb.dtype != np.uint8 or rgb.shape != (SIDE, SIDE, 3) or rgb.strides[1:] != (3, 1):
            raise ValueError(
                f"expected uint8 ({SIDE}, {SIDE}, 3) with whole rows, got {rgb.dtype} {rgb.shape} {rgb.strides}"
            )
        if (native := library()) is None:
            return None
        out = np.empty(self._outputs, np.float32)
        native.functions.p3m_mesh(
            *(native.level, _at(rgb), ctypes.c_ssize_t(rgb.strides[0]), _at(self._plan), len(self._plan)),
            *(*map(_at, self._arrays), _at(self._head), _at(self._values)),
            *(ctypes.c_ssize_t(self._half), self._outputs, _at(out)),
        )
        return out


def _is_narrow(block: Block) -> bool:
    return max(block.first.outputs, block.spread.outputs) <= _NARROW


def _at(array: NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _size(arrays: Sequence[NDArray[Any]]) -> int:
    return sum(map(len, arrays))


def _put(arrays: list[Any], values: NDArray[Any]) -> int:
    """Where values begin that are put behind others."""
    arrays.append(values)
    return _size(arrays) - len(values)


def _check(mesh: Mesh) -> None:
    """Whether the library has memory for it."""
    side, channels = SIDE // 2, mesh.stem.weights.shape[1]
    fits = mesh.stem.weights.shape == (27, LANES) and len(mesh.stem_inverse) == LANES
    for block in mesh.blocks:
        first, spread, last = block.first, block.spread, block.last
        side //= first.side
        middle, after = first.weights.shape[1], last.weights.shape[1]
        fits &= first.side in (1, 2) and len(first.weights) == first.side**2 * channels and len(last.weights) == middle
        fits &= spread.weights.shape == (9, middle) and after >= channels and (first.side == 2 or after == channels)
        fits &= not _is_narrow(block) or side % _NARROW == 0
        fits &= side > 0 and side * max(middle, after) <= _ROW and middle <= _MARGIN
        fits &= all(len(part) == middle for part in (first.positive, first.negative, spread.biases, spread.positive))
        fits &= all(len(part) == after for part in (last.positive, last.slopes, block.inverse))
        channels = after
    fits &= len(mesh.head.weights) == side**2 * channels <= 2 * _ROW and mesh.head.weights.shape[1] <= _ROW
    fits &= mesh.head.outputs <= mesh.head.weights.shape[1] == len(mesh.head.positive)
    layers = [mesh.stem, mesh.head]
    layers += [layer for block in mesh.blocks for layer in (block.first, block.spread, block.last)]
    fits &= all(not layer.weights.shape[1] % LANES and len(layer.biases) == layer.weights.shape[1] for layer in layers)
    fits &= all(layer.weights.dtype == np.int16 and layer.biases.dtype == np.int32 for layer in layers)
    if not fits:
        raise ValueError("the library is made for another network")
