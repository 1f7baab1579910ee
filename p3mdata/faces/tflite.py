"""Networks of TensorFlow Lite as ONNX graphs, which onnxruntime computes in half the time of MediaPipe's own engine.

Only what MediaPipe's face networks are made of is known: convolutions, PReLU, sums and pools. The reshaping at their
ends is left to whoever reads the outputs. A file is a flatbuffer: tables whose fields are found by number.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p3mdata.faces.onnx_graph import add_node, add_weights, new_model, set_shape

Weights = NDArray[np.float32]
# Name of the input.
IMAGE = "image"

# Kinds of an operation that are understood, and those that only shape outputs.
ADD, CONV, DEPTHWISE, _DEQUANTIZE, MAX_POOL, _RELU, _PAD, PRELU = 0, 3, 4, 6, 17, 19, 34, 54
_SHAPING = frozenset((2, 14, 22))  # concatenation, logistic, reshape
# Sides of a tensor that is an image.
_OF_IMAGES = 4
_SAME, _NO_ACTIVATION = 0, 0
_TYPES: dict[int, np.dtype[Any]] = {0: np.dtype("<f4"), 1: np.dtype("<f2"), 2: np.dtype("<i4")}


class _Table:
    """A table of a flatbuffer; fields that are absent have their default."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        self._fields = at - struct.unpack_from("<i", data, at)[0]
        self._count = (struct.unpack_from("<H", data, self._fields)[0] - 4) // 2

    def _place(self, field: int) -> int | None:
        offset = struct.unpack_from("<H", self._data, self._fields + 4 + 2 * field)[0] if field < self._count else 0
        return self._at + offset if offset else None

    def number(self, field: int, kind: str = "i") -> int:
        """A number, of a kind as in `struct`; 0 where it is left out."""
        place = self._place(field)
        return 0 if place is None else int(struct.unpack_from(f"<{kind}", self._data, place)[0])

    def table(self, field: int) -> _Table:
        """A table; an empty one has no fields."""
        place = self._place(field)
        if place is None:
            raise ValueError("a table of the network is missing")
        return _Table(self._data, place + struct.unpack_from("<I", self._data, place)[0])

    def _vector(self, field: int) -> tuple[int, int]:
        """Where the values of a list begin, and how many there are."""
        place = self._place(field)
        if place is None:
            return 0, 0
        start = place + struct.unpack_from("<I", self._data, place)[0]
        return start + 4, struct.unpack_from("<I", self._data, start)[0]

    def numbers(self, field: int) -> list[int]:
        """A list of int32."""
        start, count = self._vector(field)
        return list(struct.unpack_from(f"<{count}i", self._data, start))

    def content(self, field: int) -> bytes:
        """A list of bytes."""
        start, count = self._vector(field)
        return self._data[start : start + count]

    def tables(self, field: int) -> list[_Table]:
        """A list of tables."""
        start, count = self._vector(field)
        places = range(start, start + 4 * count, 4)
        return [_Table(self._data, at + struct.unpack_from("<I", self._data, at)[0]) for at in places]


@dataclass(frozen=True)
class Operation:
    kind: int
    inputs: list[int]
    output: int
    given: _Table

    def options(self) -> _Table:
        """What belongs to its kind."""
        return self.given.table(4)


class Network:
    """What a file holds, and the graph that is made of it."""

    def __init__(self, data: bytes) -> None:
        model = _Table(data, struct.unpack_from("<I", data)[0])
        codes = [max(code.number(0, "b"), code.number(3)) for code in model.tables(1)]
        graph = model.tables(2)[0]
        self._tensors = graph.tables(0)
        self._buffers = model.tables(4)
        self.input = graph.numbers(1)[0]
        self.outputs = graph.numbers(2)
        self.operations = [
            Operation(codes[op.number(0, "I")], op.numbers(1), op.numbers(2)[0], op) for op in graph.tables(3)
        ]
        self._same = {op.output: op.inputs[0] for op in self.operations if op.kind == _DEQUANTIZE}
        self.model = new_model()
        self._graph = self.model.graph
        self._graph.name = "graph"

    def shape(self, tensor: int) -> list[int]:
        """Of a tensor; images are (n, h, w, channels)."""
        return self._tensors[tensor].numbers(0)

    def constant(self, tensor: int) -> NDArray[Any]:
        """Values that a file holds, halves as floats."""
        row = self._tensors[self._same.get(tensor, tensor)]
        kind = _TYPES[row.number(1, "b")]
        values = np.frombuffer(self._buffers[row.number(2, "I")].content(0), kind).reshape(row.numbers(0))
        return values.astype(np.float32) if kind.kind == "f" else values

    def node(self, op: str, inputs: list[str], name: str, **attributes: int | str | list[int]) -> str:
        """An operation, whose output has its name."""
        return add_node(self._graph, op, inputs, name, **attributes)

    def conv(self, source: str, name: str, weights: Weights, biases: Weights | None = None, **more: Any) -> str:
        """A convolution of weights (filters, channels, h, w)."""
        add_weights(self._graph, f"{name}.weights", weights)
        inputs = [source, f"{name}.weights"]
        if biases is not None:
            add_weights(self._graph, f"{name}.biases", biases)
            inputs.append(f"{name}.biases")
        return self.node("Conv", inputs, name, kernel_shape=list(weights.shape[2:]), **more)

    def scaled(self, source: str, name: str, factors: Weights) -> str:
        """Channels times a factor each, as the kind of convolution that keeps onnxruntime's layout in memory."""
        return self.conv(source, name, factors.reshape(-1, 1, 1, 1), group=len(factors))

    def finish(self, outputs: list[int]) -> bytes:
        """The serialized model."""
        _, height, width, channels = self.shape(self.input)
        set_shape(self._graph.input.add(name=IMAGE), (1, channels, height, width))
        for tensor in outputs:
            _, rows, cols, channels = self.shape(tensor)
            set_shape(self._graph.output.add(name=str(tensor)), (1, channels, rows, cols))
        return bytes(self.model.SerializeToString(deterministic=True))


def _name(net: Network, tensor: int) -> str:
    return IMAGE if tensor == net.input else str(tensor)


def _convolution(net: Network, op: Operation) -> None:
    options, depthwise = op.options(), op.kind == DEPTHWISE
    if options.number(4 if depthwise else 3, "b") != _NO_ACTIVATION:
        raise ValueError("a convolution with an activation of its own is not known")
    weights = net.constant(op.inputs[1]).transpose((3, 0, 1, 2) if depthwise else (0, 3, 1, 2))
    strides = [options.number(2), options.number(1)]
    pads = [0, 0]
    if options.number(0, "b") == _SAME:
        sides = zip(net.shape(op.inputs[0])[1:3], net.shape(op.output)[1:3], strides, weights.shape[2:], strict=True)
        pads = [max(0, (after - 1) * stride + kernel - before) for before, after, stride, kernel in sides]
    first = [pad // 2 for pad in pads]
    net.conv(
        _name(net, op.inputs[0]),
        str(op.output),
        weights,
        net.constant(op.inputs[2]),
        strides=strides,
        pads=[*first, *(pad - one for pad, one in zip(pads, first, strict=True))],
        group=weights.shape[0] if depthwise else 1,
    )


def _prelu(net: Network, op: Operation) -> None:
    """x where it is positive, else a x: as a x + (1 - a) relu(x), since PReLU itself takes four times as long."""
    source, name = _name(net, op.inputs[0]), str(op.output)
    slopes = net.constant(op.inputs[1]).reshape(-1)
    rest = 1 - slopes
    if (rest >= 0).all():
        positive = net.node("Relu", [net.scaled(source, f"{name}.rest", rest)], f"{name}.positive")
    else:
        positive = net.scaled(net.node("Relu", [source], f"{name}.relu"), f"{name}.positive", rest)
    net.node("Add", [net.scaled(source, f"{name}.all", slopes), positive], name)


def _max_pool(net: Network, op: Operation) -> None:
    options = op.options()
    sides, steps = ([options.number(2), options.number(1)], [options.number(4), options.number(3)])
    net.node("MaxPool", [_name(net, op.inputs[0])], str(op.output), kernel_shape=steps, strides=sides)


def _more_channels(net: Network, op: Operation) -> None:
    """Channels of zeros at the end, as a convolution: it keeps the layout as well, and is as exact."""
    before, after = net.shape(op.inputs[0]), net.shape(op.output)
    if before[:3] != after[:3] or np.any(net.constant(op.inputs[1])[:, 0]):
        raise ValueError("only channels at the end can be added")
    net.conv(_name(net, op.inputs[0]), str(op.output), np.eye(after[3], before[3], dtype=np.float32)[:, :, None, None])


def _sum(net: Network, op: Operation) -> None:
    net.node("Add", [_name(net, tensor) for tensor in op.inputs], str(op.output))


def _relu(net: Network, op: Operation) -> None:
    net.node("Relu", [_name(net, op.inputs[0])], str(op.output))


_KNOWN: dict[int, Callable[[Network, Operation], None]] = {
    ADD: _sum,
    CONV: _convolution,
    DEPTHWISE: _convolution,
    MAX_POOL: _max_pool,
    _RELU: _relu,
    _PAD: _more_channels,
    PRELU: _prelu,
    _DEQUANTIZE: lambda net, op: None,
}


def as_onnx(data: bytes) -> tuple[bytes, list[str]]:
    """A network as a serialized ONNX model.

    Args:
        data: A .tflite file whose only input is an image.

    Returns:
        A model of input `IMAGE` (1, channels, h, w float32), and names of its outputs (1, channels, h, w): what the
        network's own outputs are made of by reshaping, from the one of most places and fewest channels on.

    Raises:
        ValueError: There is an operation in it that is not known.
    """
    net = Network(data)
    shaped: set[int] = set()
    ends = set(net.outputs)
    for op in net.operations:
        if op.kind in _SHAPING:
            ends.update(tensor for tensor in op.inputs if len(net.shape(tensor)) == _OF_IMAGES)
            shaped.add(op.output)
        elif op.kind in _KNOWN:
            _KNOWN[op.kind](net, op)
        else:
            raise ValueError(f"operation {op.kind} is not known")
    wanted = sorted(ends - shaped, key=lambda tensor: (-net.shape(tensor)[1], net.shape(tensor)[3], tensor))
    return net.finish(wanted), [str(tensor) for tensor in wanted]
