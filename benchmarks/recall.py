"""What the detectors find, and at what price: looks at photographs with faces checked by eye, and at bystanders.

Then what the second look says about outputs that are wrong on purpose.

Needs the test photographs (`$P3MDATA_SHARED/testdata`, default `../shared`): `faces.json` holds their faces' boxes.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.anonymize import table
from p3mdata.anonymize.masks import Patch, private_area
from p3mdata.anonymize.obfuscate import obfuscate
from p3mdata.anonymize.proofs import redetect
from p3mdata.config import Method, Settings
from p3mdata.faces.detectors import iou
from p3mdata.faces.ensemble import LOOKS, LOOKS_AGAIN, FaceFinder, Look
from p3mdata.faces.pyramid import Pyramid
from p3mdata.imaging import Picture, decode
from p3mdata.records import XYXY, Face

Image = NDArray[np.uint8]
EARLIER = (Look("centerface", 640), Look("centerface", 1280), Look("libfacedetection", 640))
SETS = {
    "all looks": LOOKS,
    **{f"{look.detector} {look.side}": (look,) for look in LOOKS},
    "on outputs": LOOKS_AGAIN,
    "version 0.1": EARLIER,
    "centerface 1280": EARLIER[1:2],
}
WIDTHS = (16, 20, 24, 30, 40, 56)
# A scene of bystanders: its size, how many stand in it, and how far apart.
SCENE, COLUMNS, ROWS, APART = (1280, 1920), 6, 4, 310
FOUND_IOU = 0.3
# What may be wrong with an output: the blur as a share of the face's width, where the mask lies aside, and what is left
# of it. A face that is blurred too little counts as caught when it is seen at all.
SHIFT = 0.6
FAULTS = ("none", "missing mask", "shifted", "half", *(f"blur of {percent} %" for percent in (3, 5, 8, 12, 17)))


def photographs(shared: Path) -> Iterator[tuple[Image, list[XYXY], list[XYXY], str]]:
    """Picture, faces, faces that need not be found, and what kind of picture it is."""
    for name, entry in json.loads((shared / "faces.json").read_text()).items():
        picture = decode((shared / name).read_bytes()).seen8()
        yield picture, [tuple(box) for box in entry["faces"]], [tuple(box) for box in entry["ignore"]], entry["kind"]


def found(finder: FaceFinder, picture: Image, looks: Sequence[Look]) -> tuple[NDArray[np.float64], float]:
    """Boxes (n, 4) of all groups of hits, and the processor time in ms."""
    begin = time.process_time()
    groups = finder.boxes(Pyramid(picture), looks)
    spent = (time.process_time() - begin) * 1000
    return np.array([hit.xyxy for group in groups for hit in group]).reshape(-1, 4), spent


def is_found(face: Sequence[float], boxes: NDArray[np.float64]) -> bool:
    """Whether one of the boxes stands for the face."""
    return bool((iou(np.array(face, np.float64), boxes) > FOUND_IOU).any())


def on_photographs(finder: FaceFinder, shared: Path) -> str:
    """Found faces, hits on no face, and time, for each set of looks."""
    counts = {name: np.zeros(4) for name in SETS}
    for picture, faces, others, _ in photographs(shared):
        for name, looks in SETS.items():
            boxes, spent = found(finder, picture, looks)
            wrong = [box for box in boxes if not is_found(tuple(box), np.array([*faces, *others]).reshape(-1, 4))]
            counts[name] += (sum(is_found(face, boxes) for face in faces), len(faces), len(wrong), spent)
    total = len(json.loads((shared / "faces.json").read_text()))
    rows = [[n, f"{c[0]:.0f} of {c[1]:.0f}", f"{c[2]:.0f}", f"{c[3] / total:.0f}"] for n, c in counts.items()]
    return table([f"looks, {total} photographs", "faces found", "hits on no face", "CPU ms/image"], rows)


def chips(shared: Path) -> list[tuple[Image, float, XYXY]]:
    """Faces cut out with their surroundings: picture, longer side of the face, its box in the picture."""
    cut = []
    for picture, faces, _, _ in photographs(shared):
        for left, top, right, bottom in faces:
            extent = max(right - left, bottom - top)
            if extent < WIDTHS[-1]:
                continue
            x, y = (left + right) / 2, (top + bottom) / 2
            x0, y0 = int(max(0, x - 1.3 * extent)), int(max(0, y - 1.3 * extent))
            part = picture[y0 : int(y + 1.3 * extent), x0 : int(x + 1.3 * extent)]
            cut.append((part, extent, (left - x0, top - y0, right - x0, bottom - y0)))
    return cut


def scenes(shared: Path, width: int) -> Iterator[tuple[Image, list[XYXY]]]:
    """Scenes of 1920 x 1280 with bystanders of a width, a little out of focus, and these faces' boxes."""
    empty = next(picture for picture, _, _, kind in photographs(shared) if kind == "none")
    ground = cv2.resize(empty, SCENE[::-1], interpolation=cv2.INTER_AREA)
    people = chips(shared)
    for start in range(0, len(people), COLUMNS * ROWS):
        scene, faces = ground.copy(), []
        for number, (part, extent, box) in enumerate(people[start : start + COLUMNS * ROWS]):
            scale = width / extent
            small = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            small = cv2.GaussianBlur(small, (0, 0), 0.03 * width)
            x, y = 40 + number % COLUMNS * APART, 40 + number // COLUMNS * APART
            scene[y : y + small.shape[0], x : x + small.shape[1]] = small
            left, top, right, bottom = (place * scale + shift for place, shift in zip(box, (x, y, x, y), strict=True))
            faces.append((left, top, right, bottom))
        yield np.asarray(scene, np.uint8), faces


def bystanders(finder: FaceFinder, shared: Path) -> str:
    """How many faces of each size are found in scenes of bystanders, for each set of looks."""
    rows = {name: [name] for name in SETS}
    number = 0
    for width in WIDTHS:
        seen, number = dict.fromkeys(SETS, 0), 0
        for scene, faces in scenes(shared, width):
            number += len(faces)
            for name, looks in SETS.items():
                boxes = found(finder, scene, looks)[0]
                seen[name] += sum(is_found(face, boxes) for face in faces)
        for name, count in seen.items():
            rows[name].append(f"{count}")
    head = [f"looks, {number} bystanders each", *(f"{width} px" for width in WIDTHS)]
    return table(head, list(rows.values()))


def faulty(picture: Picture, faces: Sequence[Face], fault: str) -> tuple[Picture, NDArray[np.bool_]]:
    """An output whose first face is hidden with a fault, and its facemask (HxW) without a face that is blurred too
    little; all other faces are hidden."""
    out, hidden = picture.pixels.copy(), np.zeros(picture.size, bool)
    method, strength = Settings().obfuscation()
    for other in faces[1:]:
        patch = private_area(other, picture.size)
        obfuscate(out, patch, method, strength, other.width)
        patch.paint(hidden)
    face = faces[0]
    patch = private_area(face, picture.size)
    if fault == "shifted":
        left = min(patch.left + round(SHIFT * face.width), picture.size[1])
        patch = Patch(patch.top, left, patch.mask[:, : picture.size[1] - left])
    if fault == "half":
        patch.mask[:, : patch.mask.shape[1] // 2] = False
    percent = fault.removeprefix("blur of ").removesuffix(" %")
    if fault != "missing mask":
        obfuscate(out, patch, Method.BLUR, int(percent) / 100 if percent.isdigit() else strength, face.width)
        if not percent.isdigit():
            patch.paint(hidden)
    return replace(picture, pixels=out), hidden


def on_outputs(finder: FaceFinder, shared: Path) -> str:
    """How many faulty outputs of photographs of one person the second look catches."""
    counts = {fault: [0, 0] for fault in FAULTS}
    for name, entry in json.loads((shared / "faces.json").read_text()).items():
        if entry["kind"] != "single":
            continue
        source = decode((shared / name).read_bytes())
        faces = sorted(finder.find(source.seen8()).faces, key=lambda face: (face.landmarks is None, -face.width))
        if not faces or faces[0].landmarks is None:
            continue
        for fault in FAULTS:
            output, hidden = faulty(source, faces, fault)
            counts[fault][0] += redetect(source, output, hidden, finder)[1] > 0
            counts[fault][1] += 1
    rows = [[fault, f"{caught} of {all_}"] for fault, (caught, all_) in counts.items()]
    return table(["fault of an output", "caught"], rows)


def main() -> None:
    """Measure and print."""
    argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0]).parse_args()
    shared = Path(os.environ.get("P3MDATA_SHARED", "../shared")) / "testdata"
    with FaceFinder() as finder:
        print(on_photographs(finder, shared), end="\n\n")
        print(bystanders(finder, shared), end="\n\n")
        print(on_outputs(finder, shared))


if __name__ == "__main__":
    main()
