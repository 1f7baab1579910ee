"""Tell anew in which steps the face mesh counts: python -m tools.mesh_ranges --out FILE.

As `tools.ranges`, for `p3mdata/faces/mesh_integers.py`, of squares with the demo's portrait and drawn people in them.
"""

from __future__ import annotations

import argparse
import io
import math
import zipfile
from pathlib import Path

import cv2
import numpy as np

from p3mdata.base.files import sha256
from p3mdata.cli.sample import portrait
from p3mdata.faces import weights
from p3mdata.faces.inference import session
from p3mdata.faces.integers import encoded
from p3mdata.faces.mesh_integers import told
from p3mdata.faces.onnx_graph import read_model, set_shape
from p3mdata.faces.tflite import IMAGE, as_onnx
from p3mdata.native.mesh import SIDE
from tools.proposals.people import Painter, canonical_mesh
from tools.proposals.scenes import free_photographs
from tools.ranges import BRIGHTNESS, Image

# Where the demo's portrait has its face: middle and side of a square around it.
FACE = ((224.0, 134.0), 150.0)


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
        scale = SIDE / (side * math.exp(rng.normal(0, 0.2)))
        matrix = cv2.getRotationMatrix2D((x, y), rng.normal(0, 15), scale)
        matrix[:, 2] += SIDE / 2 - np.array([x, y]) + rng.normal(0, 0.06, 2) * SIDE
        square = cv2.warpAffine(picture, matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
        square = cv2.convertScaleAbs(square, alpha=rng.choice(BRIGHTNESS), beta=rng.normal(0, 10))
        shown.append(square[:, ::-1].copy() if rng.random() < 0.5 else square)
    return [*shown, *(cv2.resize(ground, (SIDE, SIDE)) for ground in free_photographs())]


def ranges(shown: list[Image]) -> bytes:
    """The table of `mesh_integers.in_integers`: the largest absolute value of each channel."""
    with zipfile.ZipFile(io.BytesIO(weights.load("face_landmarker"))) as task:
        data = task.read("face_landmarks_detector.tflite")
    model = read_model(as_onnx(data)[0])
    tensors = told(data)
    names = [str(tensor) for tensor, _ in tensors]
    del model.graph.output[:]
    for name in names:
        set_shape(model.graph.output.add(name=name), (1, f"{name}.c", f"{name}.h", f"{name}.w"))
    network = session(model.SerializeToString())
    largest = [np.zeros(channels) for _, channels in tensors]
    for picture in shown:
        image = np.ascontiguousarray(picture.transpose(2, 0, 1)[None], np.float32) / 255
        for place, values in enumerate(network.run(names, {IMAGE: image})):
            largest[place] = np.maximum(largest[place], np.abs(values).max((0, 2, 3)))
    return b"".join(map(encoded, largest))


def main() -> None:
    """Look, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--out", type=Path, required=True, help="file to write")
    add("--pictures", type=int, default=160)
    add("--seed", type=int, default=1)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    table = ranges(squares(args.pictures, args.seed))
    args.out.write_bytes(table)
    print(f"{args.out}: {len(table)} channels, SHA-256 {sha256(table)}")


if __name__ == "__main__":
    main()
