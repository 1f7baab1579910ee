"""P3M-CP on real portraits: how much of each target's mask a pasted face covers, and how alike matched sources are.

CelebA-HQ itself may not be redistributed. So that its annotations take part all the same, portraits with landmarks are
cut and turned as CelebA-HQ's authors describe (Karras et al. 2018, appendix C), and their parts drawn from the mesh in
the data set's folders. The same portraits, whole, are the sources of `--from-landmarks`.

    python -m benchmarks.pastes DATASET PORTRAITS [PORTRAITS ...] --out figures

DATASET is one that build-split wrote, with --poses for matched sources. The sheets show the sources' clear faces.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.celebamask import make_facemasks
from p3mdata.celebamask.annotations import IMAGES, MASKS
from p3mdata.celebamask.traits import write_traits
from p3mdata.errors import BrokenInput
from p3mdata.faces.models import Models
from p3mdata.imaging import SUFFIXES, Picture, decode, encode
from p3mnet.copy_paste import CopyPasteConfig, Sources
from p3mnet.copy_paste.look import look, sheet_of
from p3mnet.data import DataConfig, TrainingSet

SIDE, ANNOTATED = 1024, 512
# Closed outlines on MediaPipe's mesh of 478 points.
OUTLINES = {
    "skin": (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176,
             149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
    "l_brow": (276, 283, 282, 295, 285, 336, 296, 334, 293, 300),
    "r_brow": (46, 53, 52, 65, 55, 107, 66, 105, 63, 70),
    "l_eye": (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
    "r_eye": (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    "nose": (168, 129, 98, 97, 2, 326, 327, 358),
    "mouth": (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185),
}  # fmt: skip
# Mesh points: the eyes' corners, and those of the mouth.
EYES, LIPS = ((33, 133), (263, 362)), (61, 291)


def framing(mesh: NDArray[np.float64]) -> NDArray[np.float64]:
    """The 2x3 map from a photograph to the square of 1024 pixels that CelebA-HQ shows of a face."""
    right, left = (mesh[list(corners)].mean(0) for corners in EYES)
    across, down = left - right, mesh[list(LIPS)].mean(0) - (left + right) / 2
    side = max(4 * np.hypot(*across), 3.6 * np.hypot(*down))
    centre = (left + right) / 2 + 0.1 * down
    # Upright where both the line of the eyes and the way to the mouth say so.
    axis = across + np.array([down[1], -down[0]])
    axis *= side / np.hypot(*axis)
    turned = np.array([-axis[1], axis[0]])
    corner = centre - (axis + turned) / 2
    corners = np.array([corner, corner + axis, corner + turned], np.float32)
    return np.asarray(cv2.getAffineTransform(corners, np.array([[0, 0], [SIDE, 0], [0, SIDE]], np.float32)))


def portraits(folders: list[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def write_celeba(folders: list[Path], root: Path) -> int:
    """Portraits in the folders of CelebAMask-HQ; returns how many have landmarks."""
    models, number = Models(), 0
    (root / IMAGES).mkdir(parents=True)
    (root / MASKS / "0").mkdir(parents=True)
    for path in portraits(folders):
        try:
            rgb = decode(path.read_bytes()).rgb8()
        except BrokenInput:
            continue
        meshes = [mesh for face in models().find(rgb).faces if (mesh := face.mesh()) is not None]
        if not meshes:
            continue
        mesh = max(meshes, key=lambda points: float(np.ptp(points[:, 0])))
        matrix = framing(mesh)
        cut = cv2.warpAffine(rgb, matrix, (SIDE, SIDE), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT)
        (root / IMAGES / f"{number}.jpg").write_bytes(encode(Picture(cut, None, "JPEG", None, 1), "JPEG")[0])
        points = (mesh @ matrix[:, :2].T + matrix[:, 2]) * ANNOTATED / SIDE
        for part, outline in OUTLINES.items():
            mask = np.zeros((ANNOTATED, ANNOTATED), np.uint8)
            cv2.fillPoly(mask, [np.round(points[list(outline)]).astype(np.int32)], 255)
            cv2.imwrite(str(root / MASKS / "0" / f"{number:05d}_{part}.png"), cv2.merge([mask] * 3))
        number += 1
    models.close()
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("portraits", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True, help="new folder; it shows clear faces")
    parser.add_argument("--pairs", type=int, default=200)
    args = parser.parse_args()
    args.out.mkdir(parents=True)
    faces = write_celeba(args.portraits, args.out / "CelebAMask-HQ")
    whole = args.out / "portraits"
    whole.mkdir()
    for number, path in enumerate(portraits(args.portraits)):
        shutil.copy(path, whole / f"{number:04d}{path.suffix.lower()}")
    pictures = TrainingSet(args.dataset, None, DataConfig(colours="none"))
    posed = any(row.get("poses") for row in rows_of(args.dataset))
    if posed:
        pictures.know_poses(args.dataset)
    print(f"{len(pictures)} target pictures, {faces} portraits with landmarks")
    print("\n| sources | mode | settings | pairs | median covered | below a quarter | angle, random | tone, random |")
    print("|---|---|---|---|---|---|---|---|")
    for kind, source in (("annotations", args.out / "CelebAMask-HQ"), ("landmarks", whole)):
        made = args.out / kind
        make_facemasks(source, made, from_landmarks=kind == "landmarks", workers=1)
        write_traits(made)
        for mode in ("icp", "fcp"):
            for settings in ({}, {"fit": "fill"}, {"match": "pose"}, {"match": "pose+tone"}):
                if settings.get("match") and not posed:
                    continue
                # Numbered by its own seed alone, so that each row sees the same crops.
                found = look(pictures, Sources(made), CopyPasteConfig(mode=mode, **settings), args.pairs, 12)
                row = found.to_json()
                about = "-".join(settings.values()) or "as published"
                picture = Picture(sheet_of(found.rows), None, "PNG", None, 1)
                (args.out / f"{kind}-{mode}-{about.replace(' ', '-')}.png").write_bytes(encode(picture, "PNG")[0])
                compared = [
                    f"{row[name]:.1f}, {row[f'{name}_of_random']:.1f}" if name in row else ""
                    for name in ("angle_error", "tone_distance")
                ]
                print(
                    f"| {kind} ({len(Sources(made))}) | {mode} | {about} | {row['pairs']} | "
                    f"{row['median_coverage']:.2f} | {row['share_below_a_quarter']:.0%} | {' | '.join(compared)} |",
                    flush=True,
                )


def rows_of(dataset: Path) -> Iterator[dict[str, object]]:
    from p3mdata.dataset.folder import open_dataset

    yield from open_dataset(dataset).rows()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
