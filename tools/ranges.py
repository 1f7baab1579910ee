"""Tell anew in which steps a network counts (`p3mdata/faces/integers.py`): python -m tools.ranges NETWORK --out FILE.

Needs scikit-image (`pip install p3mdata[dev]`), no photographs of people but the demo's portrait (public domain), and
no connection. The network of floats looks at that portrait in several ways, at photographs without people that anyone
may use, and at drawn people; the largest values of its channels are kept, rounded up to quarters of octaves.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.base.files import sha256
from p3mdata.cli.sample import portrait
from p3mdata.faces import centerface, proposals, weights, yunet
from p3mdata.faces.detectors import Box
from p3mdata.faces.inference import session
from p3mdata.faces.integers import IMAGE, Layer, encoded, told
from p3mdata.faces.onnx_graph import Graph, add_node
from tools.proposals.people import Painter, canonical_mesh
from tools.proposals.scenes import Stage, free_photographs

Image = NDArray[np.uint8]
# Networks by name: their layers, and how large pictures are shown to them, as in the look that they are mostly for.
NETWORKS: dict[str, tuple[Callable[[bytes], list[Layer]], int]] = {
    "centerface": (centerface.layers, 384),
    "libfacedetection": (yunet.layers, 640),
    "proposals": (proposals.layers, proposals.SIDE),
}
# How bright the portrait is shown, how much of it, and how often it is repeated on a side.
BRIGHTNESS, HEAD, REPEATED = (1.0, 0.5, 1.6), (slice(0, 300), slice(80, 380)), 4


class _Nobody:
    """Finds no face: what scenes show does not depend on it."""

    name = "nobody"

    def detect(self, _: Image) -> list[Box]:
        return []


def pictures(side: int, people: int, scenes: int, seed: int) -> list[Image]:
    """What a network looks at, `side` pixels on the longer side."""
    person = portrait()
    shown = [*free_photographs(), *(cv2.convertScaleAbs(person, alpha=factor) for factor in BRIGHTNESS)]
    shown += [person[:, ::-1].copy(), person[HEAD].copy(), np.tile(_at(person, side // REPEATED), (4, 4, 1))]
    rng = np.random.default_rng(seed)
    painter = Painter(canonical_mesh())
    drawn = [painter.person(rng) for _ in range(people)]
    stage = Stage(painter, drawn, _Nobody(), free_photographs())
    shown += [stage.sample(rng).rgb for _ in range(scenes)]
    return [_at(np.asarray(picture, np.uint8), side) for picture in shown]


def _at(picture: Image, side: int) -> Image:
    """A picture at `side` pixels of its longer side."""
    factor = side / max(picture.shape[:2])
    size = [max(1, round(length * factor)) for length in picture.shape[1::-1]]
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR))


def ranges(network: Sequence[Layer], shown: list[Image]) -> bytes:
    """The table: the largest absolute value of each channel of each layer that is told."""
    names = [layer.name for layer in told(network)]
    run = session(in_floats(network))
    largest: dict[str, NDArray[np.float64]] = {}
    for picture in shown:
        for name, values in zip(names, run.run(names, {IMAGE: planes(picture)}), strict=True):
            here = np.abs(values).max((0, 2, 3)).astype(np.float64)
            largest[name] = np.maximum(largest.get(name, 0.0), here)
    return b"".join(encoded(largest[name]) for name in names)


def planes(picture: Image) -> NDArray[np.float32]:
    """A picture (HxWx3) as networks of floats take it: (1, 3, h, w) in 0..255, with zeros up to multiples of 32."""
    down, across = (-side % 32 for side in picture.shape[:2])
    filled = np.pad(picture, ((0, down), (0, across), (0, 0)))
    return np.ascontiguousarray(filled.transpose(2, 0, 1)[None], np.float32)


def in_floats(network: Sequence[Layer]) -> bytes:
    """The network as an ONNX model of input `IMAGE` (n, 3, h, w float32), all of whose layers are outputs."""
    graph = Graph()
    graph.input(IMAGE, 3)
    channels = {IMAGE: 3}
    for layer in network:
        source, name = layer.sources[0], layer.name
        if layer.kernel is None or layer.biases is None:
            channels[name] = channels[source]
        if layer.kind == "pool":
            graph.max_pool(source, name)
        elif layer.kind == "doubled":
            graph.add_doubled(source, layer.sources[1], name)
        elif layer.kind == "sum":
            add_node(graph.proto, "Add", layer.sources, name)
        else:
            assert layer.kernel is not None and layer.biases is not None
            channels[name] = len(layer.biases)
            kernel, biases = layer.kernel.astype(np.float32), layer.biases.astype(np.float32)
            if layer.kind == "enlarge":
                made = graph.enlarge(source, f"{name}.linear", kernel, biases)
                add_node(graph.proto, "Relu" if layer.relu else "Identity", [made], name)
            else:
                graph.conv(source, name, kernel, biases, stride=layer.stride, relu=layer.relu)
        graph.output(name, channels[name])
    return graph.serialize()


def main() -> None:
    """Look, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("network", choices=tuple(NETWORKS))
    add("--out", type=Path, required=True, help="file to write")
    add("--people", type=int, default=20)
    add("--scenes", type=int, default=20)
    add("--seed", type=int, default=1)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    layers, side = NETWORKS[args.network]
    table = ranges(layers(weights.load(args.network)), pictures(side, args.people, args.scenes, args.seed))
    args.out.write_bytes(table)
    print(f"{args.out}: {len(table)} channels, SHA-256 {sha256(table)}")


if __name__ == "__main__":
    main()
