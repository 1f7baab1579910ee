"""ONNX files on the protobuf wire format, so that the `onnx` package is not needed: repair of one, weights of any.

The CenterFace file lists its 194 weights as graph inputs, which keeps onnxruntime from folding constants (half of the
run time), and fixes the image to one size. Both are undone: only the image stays as input, with free sides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

# Field numbers of onnx.proto.
_MODEL_GRAPH = 7
_GRAPH_INITIALIZER = 5
_GRAPH_INPUT = 11
_GRAPH_OUTPUT = 12
_FLOAT = b"\x08\x01"
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_EXTERNAL = 1, 2, 13
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
