"""Classic methods on composites whose alpha is known, how long each takes, and whether every network can learn.

    python -m benchmarks.methods rank --out DIR [--composites 12] [--side 320] [--images DIR --alphas DIR]
        [--methods closed-form,dim] [--checkpoints DIR]
    python -m benchmarks.methods speed [--height 1080 --width 1440] [--methods closed-form,knn]
    python -m benchmarks.methods memorise [--methods dim,hatt] [--pictures 4] [--side 64] [--steps 150] [--rate 1e-3]
        [--out DIR]

`rank` builds a dataset in DIR: drawn silhouettes with strands, filled with photographs of scikit-image before others of
them, and given pictures with given alphas as a second set. It runs `p3mdata benchmark` over both and goes on where it
was; with checkpoints, such as those of `memorise`, networks take part. `speed` lays each method beside pymatting's own
calls on one picture, in one run. `memorise` trains networks of full size from random weights, with their own losses and
stages, on a handful of drawn portraits, and tells their error in the unknown area before and after, beside that of the
best constant: what is wired wrongly does not come below it. With DIR it keeps each network's row and checkpoint there
and goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.anonymize import table
from p3mdata.base.files import write_atomic
from p3mdata.base.processes import default_workers
from p3mdata.dataset.foregrounds import load_pymatting
from p3mdata.imaging import decode, encode_grey
from p3mdata.imaging.trimap import UNKNOWN, trimap_of
from p3mnet.baselines import CATALOGUE, Family
from p3mnet.baselines.classic import Classic
from p3mnet.baselines.opening import parse_requests
from p3mnet.benchmark import BenchmarkPlan, run_benchmark
from tests.factories import synthetic_portrait

Array = NDArray[np.uint8]

# Photographs that scikit-image's wheel carries: what fills silhouettes, and what is behind them.
_BEFORE = ("astronaut.png", "chelsea.png", "coffee.png", "ihc.png")
_BEHIND = ("rocket.jpg", "coffee.png", "motorcycle_left.png", "retina.jpg", "hubble_deep_field.jpg", "astronaut.png")
# Networks whose method has another name.
_METHOD_OF = {"gfm_resnet34": "gfm"}
_CLASSIC = [name for name, entry in CATALOGUE.items() if entry.family is Family.CLASSIC]


def _photo(name: str, side: int, number: int) -> Array:
    """A square of a photograph, another one for each number."""
    import skimage

    image = decode((Path(skimage.__file__).parent / "data" / name).read_bytes()).rgb8()
    small = min(image.shape[:2])
    cut = max(side // 2, round(small * (0.9 - 0.1 * (number % 3))))
    top, left = ((full - cut) * (number % 4) // 4 for full in image.shape[:2])
    square = np.ascontiguousarray(image[top : top + cut, left : left + cut])
    return np.asarray(cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def photographs(number: int) -> tuple[str, str]:
    """What picture number `number` is made of: two photographs, never one before itself."""
    front, behind = _BEFORE[number % len(_BEFORE)], number + number // len(_BEFORE)
    if front == _BEHIND[behind % len(_BEHIND)]:
        behind += 1
    return front, _BEHIND[behind % len(_BEHIND)]


def composite(side: int, number: int) -> tuple[Array, Array]:
    """Picture number `number`, RGB, and its alpha."""
    alpha = synthetic_portrait(side, number)[1]
    front, behind = photographs(number)
    share = alpha[..., None] / 255
    layers = _photo(front, side, number) * share + _photo(behind, side, number + 1) * (1 - share)
    return np.rint(layers).astype(np.uint8), alpha


def _given(images: Path, alphas: Path, side: int) -> Iterator[tuple[str, Array, Array]]:
    """Given pictures no larger than `side`, with their alphas."""
    for path in sorted(alphas.glob("*.png")):
        (photo,) = list(images.glob(f"{path.stem}.*"))[:1]
        rgb, alpha = decode(photo.read_bytes()).rgb8(), decode(path.read_bytes()).pixels
        scale = min(1.0, side / max(rgb.shape[:2]))
        size = round(rgb.shape[1] * scale), round(rgb.shape[0] * scale)
        small = (np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA)) for plane in (rgb, alpha))
        yield path.stem, *(np.asarray(plane, np.uint8) for plane in small)  # type: ignore[misc]


def dataset(root: Path, composites: int, side: int, images: Path | None, alphas: Path | None) -> Path:
    """A dataset of the plain layout: composites are `validation`, given pictures `free`."""
    pictures: list[tuple[str, str, Array, Array]] = [
        ("validation", f"composite{number:02d}", *composite(side, number)) for number in range(composites)
    ]
    if images is not None and alphas is not None:
        pictures += [("free", *found) for found in _given(images, alphas, side)]
    for name, stem, rgb, alpha in pictures:
        # Of the test sets a kernel of 25 at 1080 px; wider here, where it would be a pixel or two.
        trimap = trimap_of(alpha, max(7, side // 32))
        files = {"images": cv2.imencode(".png", rgb[:, :, ::-1])[1].tobytes()}
        files |= {"alphas": encode_grey(alpha), "trimaps": encode_grey(trimap)}
        for kind, data in files.items():
            write_atomic(root / name / kind / f"{stem}.png", data)
    return root


def rank(args: argparse.Namespace) -> None:
    """Run methods over the dataset and print a table by set."""
    data = dataset(args.out / "data", args.composites, args.side, args.images, args.alphas)
    plan = BenchmarkPlan(trials=0, max_side=args.side, device="cpu", workers=args.workers)
    checkpoints = args.checkpoints and sorted(args.checkpoints.glob("*.pt"))
    weights = {_METHOD_OF.get(path.stem, path.stem): path for path in checkpoints or ()}
    methods = args.methods or [*_CLASSIC, *weights]
    given = [f"{name}={path}" for name, path in weights.items() if name in methods]
    found = run_benchmark(data, args.out / "benchmark", parse_requests(methods, given), plan)
    for name in found.sets:
        rows: list[list[str]] = []
        for result in found.results:
            if (figures := result.sets.get(name)) is None:
                rows.append([result.title, result.sentence, "", "", "", ""])
                continue
            means = figures.means
            taken = _seconds(args.out / "benchmark", result.label, name)
            cells = [f"{means[metric].value:.4g}" for metric in ("SAD_T", "MAD_T", "GRAD")]
            size = f"{result.parameters:,}" if result.parameters else "-"
            rows.append([result.title, size, *cells, f"{taken:.2f}"])
        rows.sort(key=lambda row: float(row[2]) if row[-1] else np.inf)
        print(f"\n{name}: {found.sets[name]} pictures of up to {args.side} px")
        print(table(("method", "parameters", "SAD-T", "MAD-T", "GRAD", "s per picture"), rows))


def _seconds(out: Path, label: str, name: str) -> float:
    rows = [json.loads(line) for line in (out / "cache" / f"{label}.jsonl").read_text().splitlines()]
    return float(np.mean([row["seconds"] for row in rows if row["set"] == name]))


def speed(args: argparse.Namespace) -> None:
    """Each method beside pymatting's own calls on one picture: processor and wall time, the best of a few."""
    side = max(args.height, args.width)
    rgb, alpha = (plane[: args.height, : args.width] for plane in composite(side, 1))
    rgb, trimap = np.ascontiguousarray(rgb), trimap_of(np.ascontiguousarray(alpha))
    areas = np.where(trimap == UNKNOWN, 0.5, (trimap == 255).astype(np.float64))
    library = load_pymatting()
    own: dict[str, Callable[[], Any]] = {
        f"pymatting's {name}": lambda name=name: getattr(library, f"estimate_alpha_{name}")(rgb / 255, areas)
        for name in ("cf", "knn")
    }
    ours = {name: partial(Classic(name, side).predict, rgb, trimap) for name in args.methods}
    print(f"{args.width}x{args.height}, {(trimap == UNKNOWN).mean():.0%} unknown, {default_workers()} cores")
    rows = []
    small, areas_small = composite(64, 1)
    for name in args.methods:
        Classic(name, side).predict(small, trimap_of(areas_small, 7))
    for name, call in {**own, **ours}.items():
        taken = [_timed(call) for _ in range(args.repeat)]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rows.append([name, f"{min(t[0] for t in taken):.2f}", f"{min(t[1] for t in taken):.2f}", f"{peak:.0f}"])
        print("  ".join(rows[-1]), flush=True)
    print(table(("call", "processor s", "wall s", "largest memory so far, MB"), rows))


def memorise(args: argparse.Namespace) -> None:
    """Each network learns a few pictures by heart."""
    from p3mnet.registry import list_models
    from tests.test_compared_networks import batch_of

    batch = batch_of(args.side, args.pictures)
    unknown = batch["trimap"] == 1
    truth = batch["alpha"][unknown]
    constant = float((truth - truth.median()).abs().mean())
    about = f"{args.pictures} portraits of {args.side} px, {int(unknown.sum())} unknown pixels"
    print(f"{about}; best constant: {constant:.3f}")
    rows = []
    for name in args.methods or list_models():
        row = _remembered(name, batch, args)
        sad = row["after"] * int(unknown.sum()) / args.pictures / 1000
        rows.append([name, f"{row['before']:.3f}", f"{row['after']:.4f}", f"{sad:.4f}", f"{row['seconds']:.0f}"])
        print("  ".join(rows[-1]), flush=True)
    print(table(("network", "MAD-T before", "MAD-T after", "SAD-T (thousands)", "processor s"), rows))


def _remembered(name: str, batch: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """The row of one network: from `--out`, where it was learnt with the same settings, or by learning now."""
    from p3mnet.checkpoint import save_checkpoint

    settings = {"pictures": args.pictures, "side": args.side, "steps": args.steps, "rate": args.rate}
    kept = args.out and args.out / f"{name}.json"
    if kept and kept.is_file() and (row := json.loads(kept.read_text()))["settings"] == settings:
        return dict(row)
    model, row = _memorised(name, batch, args.steps, args.rate)
    row["settings"] = settings
    if kept:
        args.out.mkdir(parents=True, exist_ok=True)
        save_checkpoint(args.out / f"{name}.pt", model)
        write_atomic(kept, json.dumps(row).encode())
    return row


def _memorised(name: str, batch: dict[str, Any], steps: int, rate: float) -> tuple[Any, dict[str, Any]]:
    """The network; its mean absolute error in the unknown area, in eval mode, before and after; processor seconds."""
    import torch

    from p3mnet.create import create_model
    from p3mnet.losses import losses_of

    torch.manual_seed(0)
    model = create_model(name, encoder_weights="random").to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    extra = [None, batch["trimap"]] if model.needs_trimap else []

    def error() -> float:
        with torch.no_grad():
            found = model.eval()(batch["image"], *extra).fusion
        model.train()
        return float((found - batch["alpha"]).abs()[batch["trimap"] == 1].mean())

    before, begun = error(), time.process_time()
    optimizer = torch.optim.Adam(model.parameters(), rate, fused=True)
    for step in range(steps):
        model.progress = step / steps
        # The last tenth in small steps, so that statistics of batches catch up with the weights.
        optimizer.param_groups[0]["lr"] = rate * min(1.0, 10 * (1 - step / steps) ** 2 + 0.02)
        optimizer.zero_grad()
        losses_of(model, model(batch["image"], *extra), batch)["total"].backward()
        optimizer.step()
    row = {"before": before, "after": error(), "seconds": time.process_time() - begun}
    return model.eval(), row


def _timed(call: Callable[[], Any]) -> tuple[float, float]:
    processor, wall = time.process_time(), time.perf_counter()
    call()
    return time.process_time() - processor, time.perf_counter() - wall


def main(argv: Sequence[str] | None = None) -> None:
    """See the module's words."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    ranking = verbs.add_parser("rank")
    ranking.add_argument("--out", type=Path, required=True)
    ranking.add_argument("--composites", type=int, default=12)
    ranking.add_argument("--side", type=int, default=320)
    ranking.add_argument("--images", type=Path)
    ranking.add_argument("--alphas", type=Path)
    ranking.add_argument("--workers", type=int, default=1)
    ranking.add_argument("--methods", type=lambda text: text.split(","))
    ranking.add_argument("--checkpoints", type=Path)
    timing = verbs.add_parser("speed")
    timing.add_argument("--height", type=int, default=1080)
    timing.add_argument("--width", type=int, default=1440)
    timing.add_argument("--repeat", type=int, default=1)
    timing.add_argument("--methods", type=lambda text: text.split(","), default=_CLASSIC)
    learning = verbs.add_parser("memorise")
    learning.add_argument("--pictures", type=int, default=4)
    learning.add_argument("--side", type=int, default=64)
    learning.add_argument("--steps", type=int, default=150)
    learning.add_argument("--rate", type=float, default=1e-3)
    learning.add_argument("--methods", type=lambda text: text.split(","))
    learning.add_argument("--out", type=Path)
    args = parser.parse_args(argv)
    {"rank": rank, "speed": speed, "memorise": memorise}[args.verb](args)


if __name__ == "__main__":
    main()
