"""Small ONNX files, written field by field so that the package `onnx` is not needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from p3mdata.faces.onnx_graph import _message, _varint

Shape = Sequence[int | str]
_FLOAT, _INTS = 1, 7


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes | str) -> bytes:
    return _message(field, value.encode() if isinstance(value, str) else value)


def _value(name: str, shape: Shape, kind: int) -> bytes:
    dims = b"".join(_bytes(1, _number(1, dim) if isinstance(dim, int) else _bytes(2, dim)) for dim in shape)
    return _bytes(1, name) + _bytes(2, _bytes(1, _number(1, kind) + _bytes(2, dims)))


def node(op: str, inputs: Sequence[str], output: str, **ints: Sequence[int]) -> bytes:
    """An operation; attributes are lists of numbers."""
    attributes = b"".join(
        _bytes(5, _bytes(1, name) + b"".join(_number(8, value) for value in values) + _number(20, _INTS))
        for name, values in ints.items()
    )
    return b"".join(_bytes(1, name) for name in inputs) + _bytes(2, output) + _bytes(4, op) + attributes


def model(
    nodes: Sequence[bytes],
    inputs: dict[str, Shape],
    outputs: dict[str, Shape],
    weights: dict[str, Any] | None = None,
    kind: int = _FLOAT,
) -> bytes:
    """A file; `kind` is ONNX's number of the inputs' and outputs' type."""
    tensors = [
        b"".join(_number(1, side) for side in value.shape)
        + _number(2, _FLOAT)
        + _bytes(8, name)
        + _bytes(9, np.ascontiguousarray(value, np.float32).tobytes())
        for name, value in (weights or {}).items()
    ]
    graph = b"".join(_bytes(1, each) for each in nodes) + _bytes(2, "graph") + b"".join(_bytes(5, t) for t in tensors)
    graph += b"".join(_bytes(11, _value(name, shape, kind)) for name, shape in inputs.items())
    graph += b"".join(_bytes(12, _value(name, shape, kind)) for name, shape in outputs.items())
    return _number(1, 8) + _bytes(7, graph) + _bytes(8, _number(2, 13))


def brightness(height: int | str = "h", width: int | str = "w") -> bytes:
    """Alpha is the mean of the picture's channels."""
    nodes = [node("ReduceMean", ["image"], "alpha", axes=[1])]
    return model(nodes, {"image": [1, 3, height, width]}, {"alpha": [1, 1, height, width]})


def channel(number: int, channels: int) -> bytes:
    """Alpha is one channel of the one input."""
    weight = np.zeros((1, channels, 1, 1))
    weight[0, number] = 1
    nodes = [node("Conv", ["x", "weight"], "y")]
    return model(nodes, {"x": [1, channels, "h", "w"]}, {"y": [1, 1, "h", "w"]}, {"weight": weight})


def two_inputs() -> bytes:
    """Alpha is the mean of the picture's channels times the trimap."""
    nodes = [node("ReduceMean", ["picture"], "mean", axes=[1]), node("Mul", ["mean", "trimap"], "alpha")]
    inputs: dict[str, Shape] = {"picture": [1, 3, "h", "w"], "trimap": [1, 1, "h", "w"]}
    return model(nodes, inputs, {"alpha": [1, 1, "h", "w"]})
