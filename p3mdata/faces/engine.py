"""What computes networks in integers: the compiled library, or onnxruntime by floats that hold them exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.faces import weights
from p3mdata.faces.inference import session
from p3mdata.faces.integers import IMAGE, Counted, Layer, in_integers
from p3mdata.faces.onnx_graph import BYTE, FLOAT, Graph, add_constant, add_node, set_shape
from p3mdata.native import LEVELS, library
from p3mdata.native.network import network as native_network

# What the sides of networks' pictures are multiples of.
_MULTIPLE = 32


def engine(name: str, layers: Callable[[bytes], list[Layer]]) -> Engine:
    """The network of a model file, in the steps of the table beside it (`weights`)."""
    return Engine(in_integers(layers(weights.load(name)), weights.load(f"{name}_ranges")))


class Engine:
    """Computes one network, by the compiled library where it has fast instructions, or by onnxruntime.

    Args:
        network: Its layers.
    """

    def __init__(self, network: Sequence[Counted]) -> None:
        native = library()
        # Without instructions for it the library takes ten times as long as onnxruntime.
        fast = native is not None and native.level > LEVELS.index("generic")
        self._native = native_network(network) if fast else None
        self._outputs = [layer.name for layer in network if layer.output]
        if self._native is None:
            # Scales folded into weights would leave no integers.
            self._session = session(as_onnx(network), without=("ConvMulFusion",))

    def __call__(self, rgb: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """The outputs (channels, h, w) for a picture (HxWx3), filled up with zeros to multiples of 32."""
        if self._native is not None:
            return self._native(rgb, _MULTIPLE)
        down, across = (-side % _MULTIPLE for side in rgb.shape[:2])
        if down or across:
            rgb = np.asarray(cv2.copyMakeBorder(rgb, 0, down, 0, across, cv2.BORDER_CONSTANT), np.uint8)
        return [values[0] for values in self._session.run(self._outputs, {IMAGE: rgb[None]})]


def as_onnx(network: Sequence[Counted]) -> bytes:
    """The network as an ONNX model of input `IMAGE` (1, h, w, 3) uint8, all of whose sums are exact in floats."""
    graph = Graph()
    inner = graph.proto
    set_shape(inner.input.add(name=IMAGE), (1, "h", "w", 3), BYTE)
    add_node(inner, "Transpose", [IMAGE], "planes", perm=(0, 3, 1, 2))
    add_node(inner, "Cast", ["planes"], "pixels", to=FLOAT)
    limits: dict[int, str] = {}

    def limit(value: int) -> str:
        if value not in limits:
            limits[value] = add_constant(inner, f"limit{value}", np.asarray(value, np.float32))
        return limits[value]

    for layer in network:
        sources = ["pixels" if name == IMAGE else name for name in layer.sources]
        if layer.kind == "pool":
            graph.max_pool(sources[0], layer.name)
            continue
        if layer.kind == "doubled":
            whole = graph.add_doubled(sources[0], sources[1], f"{layer.name}.sum")
        elif layer.kind == "sum":
            whole = add_node(inner, "Add", sources, f"{layer.name}.sum")
        else:
            assert layer.weights is not None and layer.biases is not None and layer.scales is not None
            summed = _convolution(graph, layer, sources[0])
            scales = add_constant(inner, f"{layer.name}.scales", layer.scales[:, None, None])
            product = add_node(inner, "Mul", [summed, scales], layer.name if layer.output else f"{layer.name}.product")
            if layer.output:
                graph.output(layer.name, layer.channels)
                continue
            whole = add_node(inner, "Round", [product], f"{layer.name}.rounded")
        add_node(inner, "Clip", [whole, limit(layer.low), limit(layer.high)], layer.name)
    return graph.serialize()


def _convolution(graph: Graph, layer: Counted, source: str) -> str:
    weights: Any = layer.weights
    biases: Any = layer.biases
    weights, biases, name = weights.astype(np.float32), biases.astype(np.float32), f"{layer.name}.sum"
    if layer.kind == "enlarge":
        return graph.enlarge(source, name, weights, biases)
    return graph.conv(source, name, weights, biases, stride=layer.stride)
