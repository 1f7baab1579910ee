"""Small ONNX files, written without the package `onnx`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from p3mdata.faces.onnx_graph import add_node, add_weights, new_model, set_shape

Shape = Sequence[int | str]
_FLOAT = 1
# Operation, inputs, output, attributes that are lists of numbers.
Node = tuple[str, Sequence[str], str, dict[str, Sequence[int]]]


def node(op: str, inputs: Sequence[str], output: str, **ints: Sequence[int]) -> Node:
    """An operation; attributes are lists of numbers."""
    return op, inputs, output, ints


def model(
    nodes: Sequence[Node],
    inputs: dict[str, Shape],
    outputs: dict[str, Shape],
    weights: dict[str, Any] | None = None,
    kind: int = _FLOAT,
) -> bytes:
    """A file; `kind` is ONNX's number of the inputs' and outputs' type."""
    made = new_model()
    made.graph.name = "graph"
    for op, sources, output, ints in nodes:
        add_node(made.graph, op, sources, output, **ints)
    for name, value in (weights or {}).items():
        add_weights(made.graph, name, np.asarray(value, np.float32))
    for values, shapes in ((made.graph.input, inputs), (made.graph.output, outputs)):
        for name, shape in shapes.items():
            set_shape(values.add(name=name), shape, kind)
    return bytes(made.SerializeToString())


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
