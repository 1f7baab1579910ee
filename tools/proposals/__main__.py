"""Make the proposal network of `p3mdata/faces/proposals.py` anew: python -m tools.proposals --out FILE.

Needs torch and scikit-image (`pip install p3mdata[dev]`), no photographs of people and no network. What it learns from
is drawn here; what it is to foretell is what the look for bystanders finds in the drawing. Ten minutes on one core.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from p3mdata.base.files import sha256
from p3mdata.faces.detectors import LibFaceDetection
from tools.proposals.people import Painter, canonical_mesh
from tools.proposals.scenes import Sample, Stage, free_photographs
from tools.proposals.train import exported, network, train


def samples(people: int, scenes: int, seed: int) -> list[Sample]:
    """Draw people, then scenes with them."""
    rng = np.random.default_rng(seed)
    painter = Painter(canonical_mesh())
    drawn = [painter.person(rng) for _ in range(people)]
    stage = Stage(painter, drawn, LibFaceDetection(), free_photographs())
    return [stage.sample(rng) for _ in range(scenes)]


def main() -> None:
    """Draw, train, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--out", type=Path, required=True, help="file to write")
    add("--people", type=int, default=1200)
    add("--scenes", type=int, default=4000)
    add("--steps", type=int, default=6000)
    add("--seed", type=int, default=1)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    drawn = samples(args.people, args.scenes, args.seed)
    print(f"{len(drawn)} scenes, {sum(int(s.target.sum()) for s in drawn)} faces to foretell", flush=True)
    model = exported(train(drawn, args.steps, args.seed, lambda line: print(line, flush=True)))
    args.out.write_bytes(model)
    count = sum(p.numel() for p in network().parameters())
    print(f"{args.out}: {count} parameters, {len(model)} bytes, SHA-256 {sha256(model)}")


if __name__ == "__main__":
    main()
