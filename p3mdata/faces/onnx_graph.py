"""ONNX files by protobuf, which onnxruntime brings, without the package `onnx` (33 MB): read, and written.

`Graph` writes the few kinds of layers that YuNet is made of.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The part of onnx.proto that is used: name, number and kind of each field; `*` may be repeated. What a file holds
# besides is kept as it is.
_MESSAGES = {
    "Model": "ir_version:1:int graph:7:Graph opset_import:8:*Opset",
    "Opset": "domain:1:text version:2:int",
    "Graph": "node:1:*Node name:2:text initializer:5:*Tensor input:11:*Value output:12:*Value",
    "Node": "input:1:*text output:2:*text op_type:4:text attribute:5:*Attribute domain:7:text",
    "Attribute": "name:1:text i:3:int s:4:bytes ints:8:*int type:20:int",
    "Tensor": "dims:1:*int data_type:2:int float_data:4:*float name:8:text raw_data:9:bytes external_data:13:*Entry",
    "Entry": "key:1:text value:2:text",
    "Value": "name:1:text type:2:Type",
    "Type": "tensor_type:1:TensorType",
    "TensorType": "elem_type:1:int shape:2:Shape",
    "Shape": "dim:1:*Dim",
    "Dim": "dim_value:1:int dim_param:2:text",
}
_IR_VERSION, _OPSET = 8, 13
# Numbers of types of values.
FLOAT, BYTE = 1, 2
_TYPES = {np.dtype(name): number for name, number in (("f4", FLOAT), ("u1", BYTE), ("i1", 3), ("i4", 6))}
# Kinds of an attribute.
_INT, _STRING, _INTS = 2, 3, 7
# float, float16, double, bfloat16
_REAL_TYPES = (1, 10, 11, 16)


@lru_cache(maxsize=1)
def _model_class() -> Any:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    scalars = {"int": kinds.TYPE_INT64, "float": kinds.TYPE_FLOAT, "text": kinds.TYPE_STRING, "bytes": kinds.TYPE_BYTES}
    file = descriptor_pb2.FileDescriptorProto(name="onnx_part.proto", package="part", syntax="proto2")
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, number, kind in (field.split(":") for field in fields.split()):
            label = kinds.LABEL_REPEATED if kind.startswith("*") else kinds.LABEL_OPTIONAL
            added = described.field.add(name=name, number=int(number), label=label)
            if (plain := kind.lstrip("*")) in scalars:
                added.type = scalars[plain]
            else:
                added.type, added.type_name = kinds.TYPE_MESSAGE, f".part.{plain}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("part.Model"))


def new_model() -> Any:
    """An empty ModelProto."""
    return _model_class()(ir_version=_IR_VERSION, opset_import=[{"domain": "", "version": _OPSET}])


def read_model(data: bytes) -> Any:
    """A ModelProto.

    Raises:
        ValueError: It is none.
    """
    from google.protobuf.message import DecodeError

    try:
        return _model_class().FromString(data)
    except DecodeError as exc:
        raise ValueError(str(exc)) from exc


def set_shape(value: Any, dims: Sequence[str | int], kind: int = FLOAT) -> None:
    """Make a ValueInfoProto one of a tensor; a string names a free dimension."""
    tensor = value.type.tensor_type
    tensor.Clear()
    tensor.elem_type = kind
    for dim in dims:
        tensor.shape.dim.add(**({"dim_param": dim} if isinstance(dim, str) else {"dim_value": dim}))


def add_constant(graph: Any, name: str, values: NDArray[Any]) -> str:
    """Add a TensorProto, whose name is given back."""
    raw = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
    graph.initializer.add(dims=values.shape, data_type=_TYPES[values.dtype], name=name, raw_data=raw)
    return name


def add_weights(graph: Any, name: str, values: NDArray[np.float32]) -> None:
    """Add a TensorProto of floats."""
    add_constant(graph, name, np.asarray(values, np.float32))


def add_node(graph: Any, op: str, inputs: Sequence[str], name: str, **attributes: int | str | Sequence[int]) -> str:
    """Add an operation with one output, whose name is given back."""
    node = graph.node.add(input=inputs, output=[name], op_type=op)
    for key, value in attributes.items():
        if isinstance(value, int):
            node.attribute.add(name=key, i=value, type=_INT)
        elif isinstance(value, str):
            node.attribute.add(name=key, s=value.encode(), type=_STRING)
        else:
            node.attribute.add(name=key, ints=value, type=_INTS)
    return name


class Graph:
    """A network of convolutions that is written as an ONNX model; sides of images stay free.

    Methods that add a layer return its name, which is that of its output.
    """

    def __init__(self) -> None:
        self._model = new_model()
        self._graph = self._model.graph
        self._graph.name = "graph"

    @property
    def proto(self) -> Any:
        """The GraphProto, for layers of other kinds."""
        return self._graph

    def input(self, name: str, channels: int) -> None:
        """Declare an input (n, channels, h, w)."""
        set_shape(self._graph.input.add(name=name), ("n", channels, "h", "w"))

    def output(self, name: str, channels: int) -> None:
        """Declare a layer's output (n, channels, height, width) as one of the model."""
        set_shape(self._graph.output.add(name=name), ("n", channels, f"{name}.h", f"{name}.w"))

    def conv(
        self,
        source: str,
        name: str,
        weights: NDArray[np.float32],
        biases: NDArray[np.float32],
        *,
        stride: int = 1,
        relu: bool = False,
    ) -> str:
        """A convolution with zero padding; weights (filters, channels, k, k), one channel for one filter each."""
        filters, channels, side, _ = weights.shape
        add_weights(self._graph, f"{name}.weights", weights)
        add_weights(self._graph, f"{name}.biases", biases)
        linear = add_node(
            self._graph,
            "Conv",
            [source, f"{name}.weights", f"{name}.biases"],
            f"{name}.linear" if relu else name,
            kernel_shape=(side, side),
            pads=(side // 2,) * 4,
            strides=(stride, stride),
            group=filters if channels == 1 and side > 1 else 1,
        )
        return add_node(self._graph, "Relu", [linear], name) if relu else name

    def enlarge(self, source: str, name: str, weights: NDArray[np.float32], biases: NDArray[np.float32]) -> str:
        """A transposed convolution that doubles both sides; weights (filters, channels, 2, 2)."""
        add_weights(self._graph, f"{name}.weights", np.ascontiguousarray(weights.transpose(1, 0, 2, 3)))
        add_weights(self._graph, f"{name}.biases", biases)
        inputs = [source, f"{name}.weights", f"{name}.biases"]
        return add_node(self._graph, "ConvTranspose", inputs, name, kernel_shape=(2, 2), strides=(2, 2))

    def max_pool(self, source: str, name: str) -> str:
        """The largest of 2x2."""
        return add_node(self._graph, "MaxPool", [source], name, kernel_shape=(2, 2), strides=(2, 2))

    def add_doubled(self, small: str, large: str, name: str) -> str:
        """The small layer with every cell doubled, plus the large one."""
        add_weights(self._graph, f"{name}.scales", np.array([1, 1, 2, 2], np.float32))
        doubled = add_node(
            self._graph,
            "Resize",
            [small, "", f"{name}.scales"],
            f"{name}.doubled",
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
        return add_node(self._graph, "Add", [doubled, large], name)

    def serialize(self) -> bytes:
        """The ModelProto."""
        return bytes(self._model.SerializeToString(deterministic=True))


def floats_of(graph: Any) -> dict[str, NDArray[np.float32]]:
    """The real values that a GraphProto holds, by name."""
    found = {}
    for tensor in graph.initializer:
        if tensor.data_type == FLOAT:
            values = np.frombuffer(tensor.raw_data, "<f4") if tensor.raw_data else np.array(tensor.float_data, "f4")
            found[tensor.name] = values.reshape(tuple(tensor.dims))
    return found


def weights_of(data: bytes) -> tuple[int, set[str]]:
    """Real values that a file holds as weights, and the names of files beside it that hold some of them.

    Args:
        data: Serialized ONNX ModelProto.

    Raises:
        ValueError: It is none.
    """
    tensors = read_model(data).graph.initializer
    count = sum(math.prod(tensor.dims) for tensor in tensors if tensor.data_type in _REAL_TYPES)
    return count, {entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"}
