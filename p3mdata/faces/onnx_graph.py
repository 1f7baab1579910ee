"""ONNX on the protobuf wire format, without the `onnx` package: one file repaired, one written, weights of any.

The CenterFace file lists its 194 weights as graph inputs, which keeps onnxruntime from folding constants (half of the
run time), and fixes the image to one size. Both are undone: only the image stays as input, with free sides.
`Graph` writes the few kinds of layers that YuNet is made of.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

# Field numbers of onnx.proto.
_MODEL_IR_VERSION, _MODEL_GRAPH, _MODEL_OPSET = 1, 7, 8
_GRAPH_NODE, _GRAPH_NAME, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 1, 2, 5, 11, 12
_NODE_INPUT, _NODE_OUTPUT, _NODE_OP, _NODE_ATTRIBUTE = 1, 2, 4, 5
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_RAW, _TENSOR_EXTERNAL = 1, 2, 8, 9, 13
_ATTRIBUTE_NAME, _ATTRIBUTE_INT, _ATTRIBUTE_STRING, _ATTRIBUTE_INTS, _ATTRIBUTE_TYPE = 1, 3, 4, 8, 20
_TYPE_INT, _TYPE_STRING, _TYPE_INTS, _TYPE_FLOAT_TENSOR = 2, 3, 7, 1
_IR_VERSION, _OPSET = 8, 13
_FLOAT = b"\x08\x01"
# float, float16, double, bfloat16
_REAL_TYPES = (1, 10, 11, 16)
_WIRE_VARINT, _WIRE_64, _WIRE_BYTES, _WIRE_32 = 0, 1, 2, 5


def _read_varint(data: bytes, pos: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, pos


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _fields(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """(field number, payload, whole field) in file order."""
    pos = 0
    while pos < len(data):
        start = pos
        key, pos = _read_varint(data, pos)
        wire = key & 7
        if wire == _WIRE_BYTES:
            length, pos = _read_varint(data, pos)
            begin, pos = pos, pos + length
        elif wire == _WIRE_VARINT:
            begin = pos
            _, pos = _read_varint(data, pos)
        elif wire in (_WIRE_32, _WIRE_64):
            begin, pos = pos, pos + (4 if wire == _WIRE_32 else 8)
        else:
            raise ValueError(f"protobuf wire type {wire} is not used by ONNX files")
        yield key >> 3, data[begin:pos], data[start:pos]


def _message(field: int, payload: bytes) -> bytes:
    return _varint(field << 3 | _WIRE_BYTES) + _varint(len(payload)) + payload


def _tensor(name: str, dims: tuple[str | int, ...]) -> bytes:
    """ValueInfoProto of a float tensor; a string names a free dimension."""
    shape = b"".join(
        _message(1, _message(2, dim.encode()) if isinstance(dim, str) else b"\x08" + _varint(dim)) for dim in dims
    )
    return _message(1, name.encode()) + _message(2, _message(1, _FLOAT + _message(2, shape)))


def _integer(field: int, value: int) -> bytes:
    return _varint(field << 3 | _WIRE_VARINT) + _varint(value)


def _initializer(name: str, values: NDArray[np.float32]) -> bytes:
    """TensorProto of floats."""
    raw = np.ascontiguousarray(values, "<f4").tobytes()
    dims = b"".join(_integer(_TENSOR_DIMS, side) for side in values.shape)
    kind = _integer(_TENSOR_TYPE, _TYPE_FLOAT_TENSOR)
    return dims + kind + _message(_TENSOR_NAME, name.encode()) + _message(_TENSOR_RAW, raw)


def _attribute(name: str, value: int | str | tuple[int, ...]) -> bytes:
    if isinstance(value, int):
        kind, content = _TYPE_INT, _integer(_ATTRIBUTE_INT, value)
    elif isinstance(value, str):
        kind, content = _TYPE_STRING, _message(_ATTRIBUTE_STRING, value.encode())
    else:
        kind, content = _TYPE_INTS, b"".join(_integer(_ATTRIBUTE_INTS, item) for item in value)
    return _message(_ATTRIBUTE_NAME, name.encode()) + content + _integer(_ATTRIBUTE_TYPE, kind)


class Graph:
    """A network of convolutions that is written as an ONNX model; sides of images stay free.

    Methods that add a layer return its name, which is that of its output.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def _add(self, field: int, payload: bytes) -> None:
        self._parts.append(_message(field, payload))

    def _node(self, op: str, inputs: list[str], name: str, **attributes: int | str | tuple[int, ...]) -> str:
        content = b"".join(_message(_NODE_INPUT, item.encode()) for item in inputs)
        content += _message(_NODE_OUTPUT, name.encode()) + _message(_NODE_OP, op.encode())
        content += b"".join(_message(_NODE_ATTRIBUTE, _attribute(*pair)) for pair in attributes.items())
        self._add(_GRAPH_NODE, content)
        return name

    def input(self, name: str, channels: int) -> None:
        """Declare an input (n, channels, h, w)."""
        self._add(_GRAPH_INPUT, _tensor(name, ("n", channels, "h", "w")))

    def output(self, name: str, channels: int) -> None:
        """Declare a layer's output (n, channels, height, width) as one of the model."""
        self._add(_GRAPH_OUTPUT, _tensor(name, ("n", channels, f"{name}.h", f"{name}.w")))

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
        self._add(_GRAPH_INITIALIZER, _initializer(f"{name}.weights", weights))
        self._add(_GRAPH_INITIALIZER, _initializer(f"{name}.biases", biases))
        self._node(
            "Conv",
            [source, f"{name}.weights", f"{name}.biases"],
            f"{name}.linear" if relu else name,
            kernel_shape=(side, side),
            pads=(side // 2,) * 4,
            strides=(stride, stride),
            group=filters if channels == 1 and side > 1 else 1,
        )
        return self._node("Relu", [f"{name}.linear"], name) if relu else name

    def max_pool(self, source: str, name: str) -> str:
        """The largest of 2x2."""
        return self._node("MaxPool", [source], name, kernel_shape=(2, 2), strides=(2, 2))

    def add_doubled(self, small: str, large: str, name: str) -> str:
        """The small layer with every cell doubled, plus the large one."""
        self._add(_GRAPH_INITIALIZER, _initializer(f"{name}.scales", np.array([1, 1, 2, 2], np.float32)))
        doubled = self._node(
            "Resize",
            [small, "", f"{name}.scales"],
            f"{name}.doubled",
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
        return self._node("Add", [doubled, large], name)

    def serialize(self) -> bytes:
        """The ModelProto."""
        graph = b"".join(self._parts) + _message(_GRAPH_NAME, b"graph")
        opset = _message(1, b"") + _integer(2, _OPSET)
        return _integer(_MODEL_IR_VERSION, _IR_VERSION) + _message(_MODEL_OPSET, opset) + _message(_MODEL_GRAPH, graph)


def _name(value_info: bytes) -> str:
    return next(payload for field, payload, _ in _fields(value_info) if field == 1).decode()


def with_free_image_size(model: bytes, image: str, outputs: dict[str, int]) -> bytes:
    """Drop all graph inputs but `image` and free the spatial sizes.

    Args:
        model: Serialized ONNX ModelProto.
        image: Name of the image input, shape [n, 3, h, w].
        outputs: Channels by name of each output, shape [n, channels, oh, ow].

    Returns:
        The serialized model; its weights are untouched.
    """

    def graph(payload: bytes) -> bytes:
        out = bytearray()
        for field, value, whole in _fields(payload):
            if field == _GRAPH_INPUT:
                if _name(value) == image:
                    out += _message(field, _tensor(image, ("n", 3, "h", "w")))
            elif field == _GRAPH_OUTPUT:
                name = _name(value)
                out += _message(field, _tensor(name, ("n", outputs[name], "oh", "ow")))
            else:
                out += whole
        return bytes(out)

    return b"".join(
        _message(field, graph(value)) if field == _MODEL_GRAPH else whole for field, value, whole in _fields(model)
    )


def _numbers(payload: bytes) -> Iterator[int]:
    """The varint, or the packed varints, of a field."""
    pos = 0
    while pos < len(payload):
        value, pos = _read_varint(payload, pos)
        yield value


def weights_of(model: bytes) -> tuple[int, set[str]]:
    """Real values that a file holds as weights, and the names of files beside it that hold some of them.

    Args:
        model: Serialized ONNX ModelProto.

    Raises:
        ValueError, IndexError: It is none.
    """
    count, files = 0, set()
    graphs = (value for field, value, _ in _fields(model) if field == _MODEL_GRAPH)
    tensors = (value for graph in graphs for field, value, _ in _fields(graph) if field == _GRAPH_INITIALIZER)
    for tensor in tensors:
        parts = list(_fields(tensor))
        kinds = [kind for field, value, _ in parts if field == _TENSOR_TYPE for kind in _numbers(value)]
        if kinds and kinds[0] in _REAL_TYPES:
            count += math.prod(side for field, value, _ in parts if field == _TENSOR_DIMS for side in _numbers(value))
        for entry in (dict(_texts(value)) for field, value, _ in parts if field == _TENSOR_EXTERNAL):
            if entry.get(1) == "location":
                files.add(entry[2])
    return count, files


def _texts(message: bytes) -> Iterator[tuple[int, str]]:
    return ((field, value.decode()) for field, value, _ in _fields(message))
