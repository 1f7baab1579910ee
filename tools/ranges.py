"""Tell anew in which steps CenterFace counts (`p3mdata/faces/integers.py`): python -m tools.ranges --out FILE.

Needs scikit-image (`pip install p3mdata[dev]`), no photographs of people but the demo's portrait (public domain), and
no connection. The network of floats looks at that portrait in several ways, at photographs without people that anyone
may use, and at drawn people; the largest values of its channels are kept, rounded up to quarters of octaves.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.base.files import sha256
from p3mdata.cli.sample import portrait
from p3mdata.faces import weights
from p3mdata.faces.detectors import LibFaceDetection
from p3mdata.faces.inference import Blob, session
from p3mdata.faces.integers import FLOATS, encoded, layers, told
from p3mdata.faces.onnx_graph import read_model, set_shape
from p3mdata.faces.pyramid import Pyramid
from tools.proposals.people import Painter, canonical_mesh
from tools.proposals.scenes import Stage, free_photographs

Image = NDArray[np.uint8]
SIDE = 384
# How bright the portrait is shown, how much of it, and how often it is repeated on a side.
BRIGHTNESS, HEAD, REPEATED = (1.0, 0.5, 1.6), (slice(0, 300), slice(80, 380)), 4


def pictures(people: int, scenes: int, seed: int) -> list[Image]:
    """What the network looks at, `SIDE` pixels on the longer side."""
    person = portrait()
    shown = [*free_photographs(), *(cv2.convertScaleAbs(person, alpha=factor) for factor in BRIGHTNESS)]
    shown += [person[:, ::-1].copy(), person[HEAD].copy(), np.tile(Pyramid(person).at(SIDE // REPEATED)[0], (4, 4, 1))]
    rng = np.random.default_rng(seed)
    painter = Painter(canonical_mesh())
    drawn = [painter.person(rng) for _ in range(people)]
    stage = Stage(painter, drawn, LibFaceDetection(), free_photographs())
    shown += [stage.sample(rng).rgb for _ in range(scenes)]
    return [Pyramid(np.asarray(picture, np.uint8)).at(SIDE)[0] for picture in shown]


def ranges(shown: list[Image]) -> bytes:
    """The table: the largest absolute value of each channel of each layer that is told."""
    data = weights.load("centerface")
    names = [layer.name for layer in told(layers(data))]
    model = read_model(data)
    del model.graph.input[:], model.graph.output[:]
    set_shape(model.graph.input.add(name=FLOATS), ("n", 3, "h", "w"))
    for name in names:
        set_shape(model.graph.output.add(name=name), ("n", f"{name}.c", f"{name}.h", f"{name}.w"))
    network, blob = session(model.SerializeToString()), Blob()
    largest: dict[str, NDArray[np.float64]] = {}
    for picture in shown:
        for name, values in zip(names, network.run(names, {FLOATS: blob(picture)}), strict=True):
            here = np.abs(values).max((0, 2, 3)).astype(np.float64)
            largest[name] = np.maximum(largest.get(name, 0.0), here)
    return b"".join(encoded(largest[name]) for name in names)


def main() -> None:
    """Look, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--out", type=Path, required=True, help="file to write")
    add("--people", type=int, default=20)
    add("--scenes", type=int, default=20)
    add("--seed", type=int, default=1)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    table = ranges(pictures(args.people, args.scenes, args.seed))
    args.out.write_bytes(table)
    print(f"{args.out}: {len(table)} channels, SHA-256 {sha256(table)}")


if __name__ == "__main__":
    main()
