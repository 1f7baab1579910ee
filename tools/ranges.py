"""Tell anew in which steps networks count: python -m tools.ranges centerface|mesh --out FILE.

CenterFace is that of `p3mdata/faces/integers.py`, the mesh that of `mesh_integers.py`. Needs scikit-image (`pip install
p3mdata[dev]`), no photographs of people but the demo's portrait (public domain), and no connection. The network of
floats looks at that portrait in several ways, at photographs without people that anyone may use, and at drawn people;
the largest values of its channels are kept, rounded up to quarters of octaves.
"""

from __future__ import annotations

import argparse
import io
import math
import zipfile
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.base.files import sha256
from p3mdata.cli.sample import portrait
from p3mdata.faces import mesh_integers, weights
from p3mdata.faces.detectors import LibFaceDetection
from p3mdata.faces.inference import Blob, session
from p3mdata.faces.integers import FLOATS, encoded, layers, told
from p3mdata.faces.onnx_graph import read_model, set_shape
from p3mdata.faces.pyramid import Pyramid
from p3mdata.faces.tflite import as_onnx
from tools.proposals.people import Painter, canonical_mesh
from tools.proposals.scenes import Stage, free_photographs

Image = NDArray[np.uint8]
SIDE = 384
# Of the square that the mesh sees, and where the demo's portrait has its face: middle and side.
MESH_SIDE, FACE = 256, ((224.0, 134.0), 150.0)
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


def squares(people: int, seed: int) -> list[Image]:
    """What the mesh looks at: the portrait and drawn people, moved, turned, lit; some of them next to no face."""
    rng = np.random.default_rng(seed)
    painter, shown = Painter(canonical_mesh()), []
    for number in range(people):
        picture, ((x, y), side) = portrait(), FACE
        if number % 2:
            person = painter.person(rng)
            left, top, right, bottom = person.box
            picture, x, y, side = person.rgb, (left + right) / 2, (top + bottom) / 2, 1.4 * (bottom - top)
        scale = MESH_SIDE / (side * math.exp(rng.normal(0, 0.2)))
        matrix = cv2.getRotationMatrix2D((x, y), rng.normal(0, 15), scale)
        matrix[:, 2] += MESH_SIDE / 2 - np.array([x, y]) + rng.normal(0, 0.06, 2) * MESH_SIDE
        square = cv2.warpAffine(picture, matrix, (MESH_SIDE, MESH_SIDE), borderMode=cv2.BORDER_REPLICATE)
        square = cv2.convertScaleAbs(square, alpha=rng.choice(BRIGHTNESS), beta=rng.normal(0, 10))
        shown.append(square[:, ::-1].copy() if rng.random() < 0.5 else square)
    return [*shown, *(cv2.resize(ground, (MESH_SIDE, MESH_SIDE)) for ground in free_photographs())]


def ranges_of_mesh(shown: list[Image]) -> bytes:
    """The table of `mesh_integers.in_integers`: the largest absolute value of each channel."""
    with zipfile.ZipFile(io.BytesIO(weights.load("face_landmarker"))) as task:
        data = task.read("face_landmarks_detector.tflite")
    model = read_model(as_onnx(data)[0])
    tensors = mesh_integers.told(data)
    names = [str(tensor) for tensor, _ in tensors]
    del model.graph.output[:]
    for name in names:
        set_shape(model.graph.output.add(name=name), (1, f"{name}.c", f"{name}.h", f"{name}.w"))
    network = session(model.SerializeToString())
    largest = [np.zeros(channels) for _, channels in tensors]
    for picture in shown:
        image = np.ascontiguousarray(picture.transpose(2, 0, 1)[None], np.float32) / 255
        for place, values in enumerate(network.run(names, {"image": image})):
            largest[place] = np.maximum(largest[place], np.abs(values).max((0, 2, 3)))
    return b"".join(map(encoded, largest))


def main() -> None:
    """Look, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("network", choices=("centerface", "mesh"))
    add("--out", type=Path, required=True, help="file to write")
    add("--people", type=int, default=20)
    add("--scenes", type=int, default=20)
    add("--seed", type=int, default=1)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    if args.network == "mesh":
        table = ranges_of_mesh(squares(8 * args.people, args.seed))
    else:
        table = ranges(pictures(args.people, args.scenes, args.seed))
    args.out.write_bytes(table)
    print(f"{args.out}: {len(table)} channels, SHA-256 {sha256(table)}")


if __name__ == "__main__":
    main()
