"""CenterFace's network as a list of layers, read from its ONNX file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from p3mdata.faces.integers import IMAGE, Kind, Layer, Values
from p3mdata.faces.onnx_graph import floats_of, read_model

# Name of the output: logit, log size, offset, five points.
CELLS = "cells"
# Convolutions whose outputs are those of the network, in this order.
_HEADS = ("536", "538", "539", "540")
# Up to here from the image layers are fine: what they see of dark places needs more than eight bits.
_LAST_OF_STEM = "377"


def layers(data: bytes) -> list[Layer]:
    """The layers of CenterFace's file; normalisations are part of the convolution before them.

    Args:
        data: The file.

    Returns:
        Layers of a picture (h, w, 3) of which both sides are multiples of 32, with one output `CELLS`, (15, h / 4,
        w / 4): logit, log size, offset, five points.

    Raises:
        ValueError: It is another network.
    """
    graph = read_model(data).graph
    weights = {name: values.astype(np.float64) for name, values in floats_of(graph).items()}
    found: dict[str, Layer] = {}
    # What is made of a layer's output alone has its place.
    names: dict[str, str] = {graph.input[0].name: IMAGE}
    for node in graph.node:
        source, made = names.get(node.input[0], node.input[0]), node.output[0]
        if node.op_type in ("Relu", "BatchNormalization"):
            layer = found.pop(source)
            if node.op_type == "Relu":
                layer = replace(layer, relu=True)
            else:
                layer = _normalised(layer, *(weights[name] for name in node.input[1:]))
            found[made] = replace(layer, name=made)
            names |= {name: made for name, last in names.items() if last == source} | {source: made}
        elif node.op_type == "Add":
            found[made] = Layer(made, "sum", tuple(names.get(name, name) for name in node.input))
        elif node.op_type in ("Conv", "ConvTranspose"):
            kernel = weights[node.input[1]]
            if enlarge := node.op_type == "ConvTranspose":
                kernel = kernel.transpose(1, 0, 2, 3)
            ints = {attribute.name: attribute for attribute in node.attribute}
            biases = weights[node.input[2]] if len(node.input) > 2 else np.zeros(len(kernel))
            kind: Kind = "enlarge" if enlarge else "depthwise" if ints["group"].i > 1 else "conv"
            stride = 1 if enlarge else ints["strides"].ints[0]
            found[made] = Layer(made, kind, (source,), kernel, biases, stride)
        elif node.op_type != "Sigmoid":
            raise ValueError(f"operation {node.op_type} is not known")
    heads = [found.pop(name) for name in _HEADS]
    kernel, biases = (np.concatenate([getattr(head, part) for head in heads]) for part in ("kernel", "biases"))
    found[CELLS] = replace(heads[0], name=CELLS, kernel=kernel, biases=biases, output=True)
    return _with_fine(list(found.values()))


def _normalised(layer: Layer, scale: Values, shift: Values, mean: Values, variance: Values) -> Layer:
    assert layer.kernel is not None and layer.biases is not None
    factor = scale / np.sqrt(variance + 1e-3)
    return replace(
        layer, kernel=layer.kernel * factor.reshape(-1, 1, 1, 1), biases=(layer.biases - mean) * factor + shift
    )


def _with_fine(network: list[Layer]) -> list[Layer]:
    """The layers, those marked that are told finely: the first ones, what a 3x3 layer per channel reads, and sums."""
    first = [layer.name for layer in network].index(_LAST_OF_STEM) + 1
    fine = {layer.name for layer in network[:first]}
    fine |= {name for layer in network if layer.kind == "depthwise" for name in layer.sources}
    changed = True
    while changed:
        before = len(fine)
        for layer in network:
            if layer.kind == "sum" and fine & {layer.name, *layer.sources}:
                fine |= {layer.name, *layer.sources}
        changed = len(fine) > before
    return [replace(layer, fine=layer.name in fine) for layer in network]
