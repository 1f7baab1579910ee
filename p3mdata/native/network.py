"""Networks in integers, computed row by row in C."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from p3mdata.native.images import size_of
from p3mdata.native.library import LEVELS, Library, library

# As network.h has them.
_KINDS = {"picture": 0, "conv": 1, "depthwise": 2, "enlarge": 3, "pool": 4, "sum": 5, "doubled": 6}
_BYTES, _SHORTS, _FLOATS = range(3)
_MOST_LAYERS, _CHANNELS_STEP = 128, 16
_BYTE, _SIGNED_BYTE, _SHORT = 255, 127, 32767
# A sum of products and bias stays below; so do sides of pictures and channels.
_MOST_SUM, _MOST_SIDE, _MOST_CHANNELS = 1 << 24, 1 << 14, 1 << 12
# What a sum and its scale come to stays below, so that it is an integer before it is kept within limits.
_MOST_PRODUCT = 1 << 31
# Sizes of pictures whose plans are kept.
_MOST_PLANS = 64


@dataclass(frozen=True)
class _Form:
    """How an instruction set takes weights and values.

    Attributes:
        lanes: Integers of a vector.
        most: Vectors of filters that are computed together.
        bytes: Whether it multiplies bytes.
        apart: Whether shorts that are multiplied in pairs lie apart, all first ones of a vector before all second ones.
        signed: Whether bytes have a sign.
    """

    lanes: int
    most: int
    bytes: bool = False
    apart: bool = False
    signed: bool = False


_FORMS = {
    "generic": _Form(8, 2),
    "avx2": _Form(8, 2),
    "avxvnni": _Form(8, 2, bytes=True),
    "vnni": _Form(16, 4, bytes=True),
    "neon": _Form(8, 2, apart=True),
    "dotprod": _Form(8, 2, bytes=True, apart=True, signed=True),
}


class Layer(Protocol):
    """A layer: see `p3mdata.faces.integers.Counted`."""

    @property
    def name(self) -> str:
        """Of its output."""

    @property
    def kind(self) -> str:
        """'conv', 'depthwise', 'enlarge', 'pool', 'sum' or 'doubled'."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of layers before it; another name is that of the picture."""

    @property
    def weights(self) -> NDArray[np.int16] | None:
        """(filters, channels per group, h, w)"""

    @property
    def biases(self) -> NDArray[np.int32] | None:
        """(filters,)"""

    @property
    def scales(self) -> NDArray[np.float32] | None:
        """(filters,)"""

    @property
    def stride(self) -> int:
        """Of a convolution."""

    @property
    def low(self) -> int:
        """Least value."""

    @property
    def high(self) -> int:
        """Largest value."""

    @property
    def output(self) -> bool:
        """Whether it is an output, in floats."""


# Bytes of memory, rows that each layer keeps, and shapes of the outputs.
_Plan = tuple[int, "ctypes.Array[ctypes.c_int32]", list[tuple[int, int, int]]]


class _Layer(ctypes.Structure):
    _fields_ = [
        ("kind", ctypes.c_int32),
        ("sources", ctypes.c_int32 * 2),
        *((name, ctypes.c_int32) for name in ("side", "stride", "channels", "low", "high", "store", "zero")),
        *((name, ctypes.c_void_p) for name in ("weights", "biases", "scales")),
    ]


class Network:
    """A network that the library computes; may be called by many threads.

    Args:
        layers: Each behind its sources.
        native: The library.

    Raises:
        ValueError: The library cannot compute a layer, or a sum could become too large.
    """

    def __init__(self, layers: Sequence[Layer], native: Library) -> None:
        if len(layers) >= _MOST_LAYERS:
            raise ValueError(f"{len(layers)} layers are more than {_MOST_LAYERS - 1}")
        self._native = native
        self._form = _FORMS[LEVELS[native.level]]
        self._layers = (_Layer * (len(layers) + 1))()
        # What C has addresses of.
        self._kept: list[NDArray[Any]] = []
        self._plans: dict[tuple[int, int], _Plan] = {}
        self._memory: list[NDArray[np.uint8]] = []
        self._outputs: list[tuple[int, int]] = []
        self._places = {layer.name: number for number, layer in enumerate(layers, 1)}
        self._layers[0] = _Layer(_KINDS["picture"], (-1, -1), 1, 1, 3, 0, _BYTE, _SHORTS, 0)
        stores = _stores(layers, self._form)
        for number, layer in enumerate(layers, 1):
            self._add(number, layer, stores[layer.name])

    def __call__(self, rgb: NDArray[np.uint8], multiple: int) -> list[NDArray[np.float32]]:
        """The outputs (channels, h, w) for a picture, in the order of their layers.

        Args:
            rgb: HxWx3; pixels of a row must lie side by side.
            multiple: Height and width are filled up with zeros to multiples of it.

        Raises:
            ValueError: Shape, type or layout of the picture is another one, or no map's sides are whole.
            MemoryError: There is not enough memory.
        """
        height, width = size_of(rgb)
        if not (0 < height <= _MOST_SIDE and 0 < width <= _MOST_SIDE):
            raise ValueError(f"sides of a picture are 1 to {_MOST_SIDE} pixels, got {width}x{height}")
        filled = height + -height % multiple, width + -width % multiple
        size, rings, shapes = self._plan(*filled)
        outputs = [np.empty(shape, np.float32) for shape in shapes]
        addresses = (ctypes.c_void_p * len(outputs))(*(values.ctypes.data for values in outputs))
        # Memory that a call before this one is done with: fresh pages would cost more than some layers.
        try:
            memory = self._memory.pop()
        except IndexError:
            memory = np.empty(0, np.uint8)
        if memory.size < size:
            memory = np.empty(size, np.uint8)
        failed = self._native.functions.p3m_network_run(
            *(self._native.level, self._layers, len(self._layers), rings),
            *(ctypes.c_void_p(rgb.ctypes.data), ctypes.c_ssize_t(rgb.strides[0]), height, width, *filled),
            *(ctypes.c_void_p(memory.ctypes.data), ctypes.c_int64(memory.size), addresses),
        )
        self._memory.append(memory)
        if failed:
            raise ValueError(f"the network was not computed for a picture of {width}x{height}")
        return outputs

    def _plan(self, height: int, width: int) -> _Plan:
        """For pictures of a size."""
        # Other threads put plans here and take them away meanwhile.
        known = self._plans.get((height, width))
        if known is None:
            rings = (ctypes.c_int32 * len(self._layers))()
            sides = (ctypes.c_int32 * (2 * len(self._layers)))()
            plan = self._native.functions.p3m_network_plan
            plan.restype = ctypes.c_int64
            size = plan(self._layers, len(self._layers), height, width, rings, sides)
            if not size:
                raise ValueError(f"layers do not fit together in a picture of {width}x{height}")
            shapes = [(channels, sides[2 * number], sides[2 * number + 1]) for number, channels in self._outputs]
            for oldest in list(self._plans)[: 1 - _MOST_PLANS]:
                self._plans.pop(oldest, None)
            known = self._plans[height, width] = size, rings, shapes
        return known

    def _add(self, number: int, layer: Layer, store: int) -> None:
        sources = [self._places.get(name, 0) for name in layer.sources]
        if not sources or max(sources) >= number or len(sources) != (2 if layer.kind in ("sum", "doubled") else 1):
            raise ValueError(f"layer '{layer.name}' has other sources than a '{layer.kind}' before them")
        if any(self._layers[place].store == _FLOATS for place in sources):
            raise ValueError(f"layer '{layer.name}' is made of an output")
        if store == _FLOATS and layer.kind not in ("conv", "depthwise"):
            raise ValueError(f"layer '{layer.name}' cannot be an output")
        if not -_SHORT <= layer.low <= layer.high <= _SHORT:
            raise ValueError(f"values of layer '{layer.name}' do not fit 16 bits")
        source = self._layers[sources[0]]
        zero = _zero(layer, self._form) if store == _BYTES else 0
        made = _Layer(_KINDS[layer.kind], (*sources, *[-1] * (2 - len(sources))), 1, layer.stride)
        made.channels, made.low, made.high, made.store, made.zero = source.channels, layer.low, layer.high, store, zero
        if layer.kind in ("conv", "depthwise", "enlarge"):
            made.channels, made.side = self._pack(layer, made, source)
        elif any(self._layers[place].channels != source.channels or not place for place in sources):
            raise ValueError(f"sources of layer '{layer.name}' have other numbers of channels")
        if store == _FLOATS:
            self._outputs.append((number, made.channels))
        self._layers[number] = made

    def _pack(self, layer: Layer, made: _Layer, source: _Layer) -> tuple[int, int]:
        """Have C find weights, biases and scales of a convolution; its filters, and the side of its kernel."""
        if layer.weights is None or layer.biases is None or layer.scales is None:
            raise ValueError(f"layer '{layer.name}' has no weights")
        weights, biases = layer.weights.astype(np.int64), layer.biases.astype(np.int64)
        filters, channels, side, across = weights.shape
        sides, strides = ((2,), (layer.stride,)) if layer.kind == "enlarge" else ((1, 3), (1, 2))
        expected = 1 if layer.kind == "depthwise" else source.channels
        fits = (
            *(channels == expected, side == across, side in sides, layer.stride in strides),
            *(layer.kind != "depthwise" or (side == 3 and filters == source.channels),),
            *(layer.kind == "conv" or source.kind != _KINDS["picture"],),
            *(filters <= _MOST_CHANNELS, np.abs(weights).max() <= _SHORT),
            biases.shape == layer.scales.shape == (filters,),
        )
        if not all(fits):
            raise ValueError(f"layer '{layer.name}' {weights.shape} cannot be computed here")
        sums = np.abs(weights).sum((1, 2, 3)) * max(-source.low, source.high) + np.abs(biases)
        if sums.max() >= _MOST_SUM:
            raise ValueError(f"sums of layer '{layer.name}' may not be exact")
        if made.store != _FLOATS and not (sums * np.abs(layer.scales) < _MOST_PRODUCT).all():
            raise ValueError(f"values of layer '{layer.name}' may not fit 32 bits")
        depth = filters + -filters % _CHANNELS_STEP
        biases = biases[:, None]
        if layer.kind == "depthwise":
            packed = _packed_depthwise(weights, depth, self._form)
            if source.store == _BYTES:
                biases = biases - source.zero * weights.sum((1, 2, 3))[:, None]
        else:
            if layer.kind == "enlarge":
                # Four convolutions of 1x1, one after another.
                parts = [weights[:, :, down : down + 1, over : over + 1] for down in (0, 1) for over in (0, 1)]
            elif source.kind == _KINDS["picture"]:
                # Taps side by side are as one with more channels.
                parts = [weights.transpose(0, 3, 1, 2).reshape(filters, side * channels, side, 1)]
            else:
                parts = [weights]
            packed = np.concatenate([_packed(part, depth, source.store == _BYTES, self._form) for part in parts])
            if source.store == _BYTES:
                # Values are stored as those above their zero.
                biases = np.stack([biases[:, 0] - source.zero * part.sum((1, 2, 3)) for part in parts], 1)
        made.weights = self._keep(packed)
        # Of an enlarging one for each of the four.
        biases = np.broadcast_to(biases, (filters, 4 if layer.kind == "enlarge" else 1))
        made.biases = self._keep(_widened(biases, depth).T.astype(np.int32))
        made.scales = self._keep(_widened(layer.scales, depth).astype(np.float32))
        return filters, side

    def _keep(self, values: NDArray[Any]) -> int:
        self._kept.append(np.ascontiguousarray(values))
        return self._kept[-1].ctypes.data


def _zero(layer: Layer, form: _Form) -> int:
    """What stands for 0 in a byte."""
    zero = 0 if layer.low >= 0 else _SIGNED_BYTE + 1
    return zero - (_SIGNED_BYTE + 1) if form.signed else zero


def _stores(layers: Sequence[Layer], form: _Form) -> dict[str, int]:
    """How each layer's values lie in memory: bytes where all that is made of them takes bytes."""
    known = {layer.name: layer for layer in layers}
    small = {
        layer.name
        for layer in layers
        if form.bytes and (layer.low, layer.high) in ((0, _BYTE), (-_SIGNED_BYTE, _SIGNED_BYTE))
    }
    for layer in layers:
        takes_bytes = layer.kind in ("depthwise", "pool", "sum", "doubled") or (
            layer.kind in ("conv", "enlarge")
            and layer.weights is not None
            and np.abs(layer.weights).max() <= _SIGNED_BYTE
        )
        if not takes_bytes:
            small -= set(layer.sources)
    return {name: _FLOATS if layer.output else _BYTES if name in small else _SHORTS for name, layer in known.items()}


def _widened(values: NDArray[Any], size: int) -> NDArray[Any]:
    """Values along the first axis, filled up with zeros."""
    return np.concatenate([values, np.zeros((size - len(values), *values.shape[1:]), values.dtype)])


def _packed(weights: NDArray[Any], depth: int, as_bytes: bool, form: _Form) -> NDArray[Any]:
    """Weights (filters, channels, h, w) in the order in which C takes them.

    That is by blocks of vectors of filters, taps, and groups of channels that fill 32 bits.
    """
    group = 4 if as_bytes else 2
    wide = _widened(weights, depth)
    wide = np.pad(wide, ((0, 0), (0, -wide.shape[1] % group), (0, 0), (0, 0)))
    vectors = depth // form.lanes
    blocks = -(-vectors // form.most)
    parts, place = [], 0
    for block in range(blocks):
        size = (vectors // blocks + (block < vectors % blocks)) * form.lanes
        part = wide[place : place + size]
        # (vectors, lanes, groups, of a group, h, w) -> (h, w, groups, vectors, lanes, of a group)
        part = part.reshape(-1, form.lanes, part.shape[1] // group, group, *part.shape[2:]).transpose(4, 5, 2, 0, 1, 3)
        if form.apart and not as_bytes:
            part = part.swapaxes(-1, -2)
        parts.append(part.reshape(-1))
        place += size
    return np.concatenate(parts).astype(np.int8 if as_bytes else np.int16)


def _packed_depthwise(weights: NDArray[Any], depth: int, form: _Form) -> NDArray[Any]:
    """Weights (filters, 1, 3, 3) by vectors of filters and columns: the upper two rows in pairs, then the third."""
    wide = _widened(weights[:, 0], depth)
    wide = np.concatenate([wide, np.zeros((depth, 1, 3), wide.dtype)], 1)
    # (vectors, lanes, pair, of a pair, columns) -> (vectors, columns, pair, lanes, of a pair)
    packed = wide.reshape(-1, form.lanes, 2, 2, 3).transpose(0, 4, 2, 1, 3)
    return (packed.swapaxes(-1, -2) if form.apart else packed).reshape(-1).astype(np.int16)


def network(layers: Sequence[Layer]) -> Network | None:
    """A network, or None without the library."""
    native = library()
    return None if native is None else Network(layers, native)
