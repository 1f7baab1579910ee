"""Everything about training and inference that only a GPU can tell, in one command of at most 8 minutes on an H100.

    python -m benchmarks.gpu --out DIR                     # on the GPU; exit 2 if there is none
    python -m benchmarks.gpu --out DIR --old CHECKOUT      # with the training loop of an earlier state beside it
    python -m benchmarks.gpu --out DIR --part inference    # one part; again for more
    python -m benchmarks.gpu --out DIR --small             # on a CPU with small networks: does the script itself work?

It needs what `pip install '.[dev]'` brings, of which the tests' golden outputs want pytest.

Parts: correctness (against the golden outputs of `tests`, in float32, tf32 and bfloat16), steps (bare ones, batch 8 and
32, compiled), end (`p3mnet train` with its loader), determinism (two runs, the price), inference (512x512, 1080p, 4K,
recorded or not; whole folders with `p3mnet infer`), memory (how soon a batch that is too large is told), traincheck (a
real one). Each is a process of its own with a limit of its own: what fails, dies or takes too long is told, what it had
measured by then stays, and the others go on; all together end with `--total` seconds. It makes its own data.
Results: DIR/PART.json as they come and DIR/PART.log, then DIR/gpu.json and DIR/gpu.md, in the form of the section of
RESULTS, with what was expected beside what was found. Exit code 1 if a part, or a row of one, failed.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.training import VARIANTS, measure, random_batch
from p3mdata.base.files import write_atomic
from p3mdata.errors import EXIT_USAGE
from p3mnet.checkpoint import save_checkpoint
from p3mnet.create import create_model
from p3mnet.devices import arithmetic, device_name, pick_device
from p3mnet.graphs import Replay
from p3mnet.infer import infer
from p3mnet.loader import to_device
from p3mnet.losses import losses_of
from p3mnet.model import folded
from p3mnet.predict import predict_alpha

Row = dict[str, Any]
# Seconds; together 8 minutes, data and all.
TOTAL = 480
LIMITS = {
    "correctness": 40, "steps": 105, "end": 125, "determinism": 45, "inference": 55, "memory": 30, "traincheck": 55,
}  # fmt: skip
# A CPU, which only tells whether the script works, may be shared with anything.
_PATIENCE = 6
# Less is not worth the start of a part.
_LEAST = 5.0
# What an H100 should give, by what tells a row; arithmetic on the profile of version 0.3, see RESULTS.
EXPECTED: dict[tuple[Any, ...], str] = {
    ("p3mnet_resnet34", 8, False): "150-175",
    ("p3mnet_resnet34", 32, False): "205-240",
    ("p3mnet_resnet34", 32, True): "250-290",
    ("p3mnet_swin_t", 32, False): "80-95",
    ("p3mnet_vitae_s", 32, False): "80-95",
    ("batch 32",): "180-225",
    ("batch 8",): "110-150",
    ("swin_t, batch 32",): "75-90",
    ("vitae_s, batch 32",): "75-90",
    ("p3mnet_resnet34", "512x512", True): "3.3-3.8",
    ("p3mnet_swin_t", "512x512", True): "6-7",
    ("p3mnet_vitae_s", "512x512", True): "9-10",
    ("gfm_resnet34", "512x512", True): "2.5-3",
}
SMALL, _RECIPE = "smoke_resnet34", "p3m10k_resnet34"
_SMALL_RUN = {"model.name": SMALL, "data.size": 64, "data.crop_sides": [64, 128], "batch": 2, "epochs": 2}


def _sync(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _tried(about: Row, measured: Callable[[], Row]) -> Row:
    """A row, or why there is none; a GPU that is lost ends the part, for all others would fail too.

    Args:
        about: What tells it from others.
        measured: Its figures.
    """
    expected = EXPECTED.get(tuple(about.values()))
    try:
        found = {**about, **measured()}
    except Exception as error:
        if isinstance(error, torch.AcceleratorError):
            raise
        return {**about, "failed": (str(error).strip().splitlines() or [type(error).__name__])[0][:200]}
    return found if expected is None else {**found, "expected": expected}


def correctness(device: torch.device, small: bool, folder: Path, old: Path | None) -> Iterator[Row]:
    """Largest differences to the golden outputs, and whether a second pass gives the same bits."""
    from tests.test_networks import GOLDEN, SHORT, network, picture

    for variant in VARIANTS[:1] if small else VARIANTS:
        golden = np.load(GOLDEN / f"p3mnet_{SHORT[variant]}.npz")
        step = 256 // golden["global"].shape[-2]
        model, image = network(variant).to(device), picture(256, 320).to(device)
        for precision in ("float32", "tf32", "bfloat16"):
            differences = functools.partial(_differences, model, image, precision, golden, step)
            yield _tried({"network": variant, "precision": precision}, differences)


def _differences(model: torch.nn.Module, image: torch.Tensor, precision: str, golden: Any, step: int) -> Row:
    """Of two passes: to the golden outputs, and to each other."""
    device = image.device
    half = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
    with arithmetic(device, tf32=precision != "float32"), torch.inference_mode(), half:
        first, second = model(image), model(image)
    found = {
        name: float(np.abs(plane.float().cpu().numpy()[..., ::step, ::step] - golden[name]).max())
        for name, plane in zip(("global", "local"), first[:2], strict=True)
    }
    same = all(torch.equal(a, b) for a, b in zip(first, second, strict=True) if a is not None)
    return {**found, "repeatable": same}


def steps(device: torch.device, small: bool, folder: Path, old: Path | None) -> Iterator[Row]:
    """Images/s of bare steps."""
    variants, batches = ((SMALL,), (2,)) if small else (VARIANTS, (8, 32))
    plans = [(variant, batch, False) for variant in variants for batch in batches]
    plans += [] if small else [(VARIANTS[0], 32, True)]
    for variant, batch, compiled in plans:
        bare = functools.partial(_bare, variant, batch, device, small, compiled)
        yield _tried({"network": variant, "batch": batch, "compiled": compiled}, bare)
        torch.cuda.empty_cache()


def _bare(variant: str, batch: int, device: torch.device, small: bool, compiled: bool) -> Row:
    begun = time.monotonic()
    row = measure(variant, batch, device, 2 if small else 12, 1 if small else 4, compiled)
    seconds = round(time.monotonic() - begun, 1)
    return {"images/s": round(row.images_per_second, 1), "GiB": row.peak_gib, "ready after s": seconds}


def write_data(folder: Path, small: bool) -> Path:
    """A dataset of drawn portraits: in each set a few pictures under many names."""
    from tests.factories import synthetic_portrait

    root = folder / "data"
    if (root / "made").exists():
        return root
    height, width, real = (160, 128, 4) if small else (1620, 1080, 24)
    counts = {"train": 12 if small else 384, "validation": 4 if small else 48, "free": 4 if small else 48}
    for name, number in counts.items():
        for index in range(number):
            files = {kind: root / name / kind / f"p{index}.png" for kind in ("images", "alphas", "facemasks")}
            files["images"] = files["images"].with_suffix(".jpg")
            for path in files.values():
                path.parent.mkdir(parents=True, exist_ok=True)
            if index >= real:
                for path in files.values():
                    os.link(path.with_name(path.name.replace(f"p{index}.", f"p{index % real}.")), path)
                continue
            seed = 1000 * list(counts).index(name) + index
            drawn = synthetic_portrait(128, seed)
            rgb, alpha, face = (np.asarray(Image.fromarray(plane).resize((width, height))) for plane in drawn)
            noise = np.random.default_rng(seed).normal(0, 3, rgb.shape)
            noisy, face = np.clip(rgb + noise, 0, 255).astype(np.uint8), np.where(face > 127, 255, 0).astype(np.uint8)
            for path, plane in zip(files.values(), (noisy, alpha, face), strict=True):
                Image.fromarray(plane).save(path, quality=92)
    (root / "made").touch()
    return root


def _trained(folder: Path, name: str, checkout: Path | None, settings: Mapping[str, Any], recipe: str = _RECIPE) -> Row:
    """A run of `p3mnet train` of this or another checkout."""
    out = folder / name
    changes = [part for key, value in settings.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    environment = {**os.environ, "PYTHONPATH": str(checkout or Path(__file__).resolve().parents[1])}
    command = [sys.executable, "-m", "p3mnet", "train", str(out), "-c", recipe, "-q", *changes]
    done = subprocess.run(command, check=False, env=environment, cwd=checkout, capture_output=True, text=True)
    if done.returncode:
        return {"run": name, "failed": done.stderr.strip().splitlines()[-1]}
    found = json.loads((out / "result.json").read_text())
    kept = (
        "images_per_second", "steady_images_per_second", "seconds", "steps", "precision", "compiled", "workers",
        "waited", "bottleneck",
    )  # fmt: skip
    row = {"run": name, **{key: found[key] for key in kept if key in found}}
    wanted = EXPECTED.get((name,)) if settings["device"].startswith("cuda") else None
    return row if wanted is None else {**row, "expected": wanted}


def _settings(folder: Path, device: torch.device, small: bool, **changes: Any) -> dict[str, Any]:
    return {
        "dataset": str(write_data(folder, small)), "model.encoder_weights": "random", "samples": 0,
        "validation.every": 1000, "validation.share": 0.01, "validation.max_side": 256, "device": str(device),
        "checkpoint_every": 100000, "batch": 32, "epochs": 60,
        **(_SMALL_RUN if small else {}),
        **changes,
    }  # fmt: skip


def end(device: torch.device, small: bool, folder: Path, old: Path | None) -> Iterator[Row]:
    """`p3mnet train` with its loader, each network; the earlier state's recipe (batch 8) and the same batch."""
    plans: list[tuple[str, str, Path | None, Row]]
    if small:
        plans = [("batch 32", _RECIPE, None, {"steps": 2})]
    else:
        plans = [
            ("batch 32", _RECIPE, None, {"steps": 110, "compile": "off"}),
            ("batch 8", _RECIPE, None, {"steps": 120, "compile": "off", "batch": 8}),
            ("swin_t, batch 32", "p3m10k_swin_t", None, {"steps": 45, "compile": "off"}),
            ("vitae_s, batch 32", "p3m10k_vitae_s", None, {"steps": 45, "compile": "off"}),
        ]
    if old is not None:
        count, workers = (2, 0) if small else (80, max(1, (os.cpu_count() or 2) - 1))
        plans += [
            ("earlier, its recipe", _RECIPE, old, {"steps": count} | ({} if small else {"batch": 8})),
            ("earlier, all workers", _RECIPE, old, {"steps": count, "workers": workers}),
        ]
    for name, recipe, checkout, changes in plans:
        yield _trained(folder, name, checkout, _settings(folder, device, small, **changes), recipe)


def determinism(device: torch.device, small: bool, folder: Path, old: Path | None) -> Iterator[Row]:
    """The same steps twice, with and without `deterministic`."""
    batch = random_batch(2 if small else 8, 64 if small else 512)
    for variant in (SMALL,) if small else VARIANTS:
        for wanted in (False, True):
            twice = functools.partial(_twice, variant, batch, device, wanted)
            yield _tried({"network": variant, "deterministic": wanted}, twice)
    for name in () if small else ("gfm_resnet34", "modnet"):
        twice = functools.partial(_twice, name, batch, device, True)
        yield _tried({"network": name, "deterministic": True}, twice)


def _twice(variant: str, batch: Any, device: torch.device, deterministic: bool) -> Row:
    """Whether the same steps give the same weights, and how long one takes."""
    states, seconds = [], []
    for _ in range(2):
        torch.manual_seed(0)
        model = create_model(variant, encoder_weights="random").train().to(device)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=device.type == "cuda")
        with arithmetic(device, tf32=True, deterministic=deterministic):
            for number in range(4):
                if number == 1:
                    _sync(device)
                    begun = time.monotonic()
                torch.manual_seed(number)
                optimizer.zero_grad()
                moved = to_device(batch, device)
                with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                    output = model(moved["image"])
                losses_of(model, output, moved)["total"].backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            _sync(device)
        seconds.append((time.monotonic() - begun) / 3)
        states.append([values.cpu() for values in model.state_dict().values()])
    same = all(torch.equal(one, other) for one, other in zip(*states, strict=True))
    found = {"same bits": same, "s per step": min(seconds)}
    return found if same or not deterministic else {**found, "failed": "the bits differ"}


def inference(device: torch.device, small: bool, folder: Path, old: Path | None) -> Iterator[Row]:
    """Milliseconds of a pass at 512x512 (mean of 100, as in the paper's table 11), of usual pictures, of folders."""
    names = (SMALL,) if small else (*VARIANTS, "gfm_resnet34", "modnet")
    trials, side = (2, 64) if small else (100, 512)
    for name in names:
        model = folded(create_model(name, encoder_weights="random")).to(device)
        image = torch.zeros(1, 3, side, side, device=device)
        plain = model.forward
        for recorded in (False, True) if device.type == "cuda" else (False,):
            replay = Replay(plain)
            if recorded:
                model.forward = replay  # type: ignore[method-assign]
            passes = functools.partial(_passes, model, image, trials, replay if recorded else None)
            yield _tried({"network": name, "size": f"{side}x{side}", "recorded": recorded}, passes)
    yield from _sizes_and_folders(device, small, folder, names[0])


def _passes(model: torch.nn.Module, image: torch.Tensor, trials: int, replay: Replay | None) -> Row:
    """Milliseconds of a pass; one that should have been recorded and could not be is no figure."""
    with arithmetic(image.device, tf32=True), torch.inference_mode():
        times = [_timed(functools.partial(model, image), image.device) for _ in range(trials + 3)][3:]
    if replay is not None and replay.off:
        raise RuntimeError("it could not be recorded")
    return {"ms": statistics.fmean(times)}


def _sizes_and_folders(device: torch.device, small: bool, folder: Path, name: str) -> Iterator[Row]:
    model = folded(create_model(name, encoder_weights="random")).to(device)
    if device.type == "cuda":
        model.forward = Replay(model.forward)  # type: ignore[method-assign]
    for height, width in ((96, 64),) if small else ((1920, 1080), (3840, 2160)):
        rgb = np.zeros((height, width, 3), np.uint8)
        times = [_timed(functools.partial(predict_alpha, model, rgb), device) for _ in range(4 if small else 12)][2:]
        yield {"network": name, "size": f"{width}x{height}", "hybrid": True, "ms": statistics.median(times)}
    weights = folder / "inference.pt"
    save_checkpoint(weights, create_model(name, encoder_weights="random"))
    for long, number in ((96, 3),) if small else ((1920, 64), (3840, 24)):
        yield _folder_seen(folder, device, small, weights, long, number)


def _folder_seen(folder: Path, device: torch.device, small: bool, weights: Path, long: int, number: int) -> Row:
    """Images/s of `p3mnet.infer.infer` from files to files, with what the first pictures of a size take longer."""
    pictures, out = folder / f"pictures-{long}", folder / f"mattes-{long}"
    pictures.mkdir(exist_ok=True)
    shutil.rmtree(out, ignore_errors=True)
    sources = sorted((write_data(folder, small) / "train" / "images").glob("*.jpg"))
    for index in range(number):
        with Image.open(sources[index % 4]) as source:
            height, width = long, long * source.width // source.height
            source.resize((width, height)).save(pictures / f"p{index}.jpg", quality=92)
    begun = time.monotonic()
    done = infer(pictures, out, weights, device=str(device), cutouts=False)
    rate = done.made / (time.monotonic() - begun)
    return {"network": "folder", "size": f"{width}x{height}", "hybrid": True, "images/s": round(rate, 2)}


def _timed(call: Callable[[], object], device: torch.device) -> float:
    _sync(device)
    begun = time.perf_counter()
    call()
    _sync(device)
    return 1000 * (time.perf_counter() - begun)


def memory(device: torch.device, small: bool, folder: Path, old: Path | None) -> Iterator[Row]:
    """Seconds until a batch that is far too large is told, the start of Python included."""
    if device.type != "cuda":
        yield {"batch": None, "sentence": "left out: a CPU has no memory of its own to run out of"}
        return
    begun = time.monotonic()
    # The loader needs as many pictures as a batch has.
    row = _trained(folder, "memory", None, _settings(folder, device, small, batch=256, steps=1, epochs=1))
    yield {"batch": 256, "seconds": round(time.monotonic() - begun, 1), "sentence": row.get("failed", "it fits")}


def traincheck(device: torch.device, small: bool, folder: Path, old: Path | None) -> Iterator[Row]:
    """A train-check in a short budget: what it plans, how much of it is training, its verdict."""
    out = folder / "check"
    command = [
        sys.executable, "-m", "p3mdata", "train-check", str(write_data(folder, small)), "--out", str(out), "--device",
        str(device), "--seeds", "2", "--encoder-weights", "random", "--quiet", "--budget", "8s" if small else "25s",
        "--scale", "smoke" if small else "full",
    ]  # fmt: skip
    begun = time.monotonic()
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    report = out / "report.json"
    if not report.is_file():
        yield {"failed": (done.stderr.strip() or "no report").splitlines()[-1]}
        return
    found, plan = json.loads(report.read_text()), json.loads((out / "plan.json").read_text())
    planned = {key: plan[key] for key in ("steps", "batch", "figures") if key in plan} | {"planned": plan["seconds"]}
    planned["speeds"] = planned.pop("figures", {}).get("speeds")
    yield {"verdict": found["verdict"], "seconds": round(time.monotonic() - begun, 1), **planned}


PARTS: dict[str, Callable[[torch.device, bool, Path, Path | None], Iterator[Row]]] = {
    "correctness": correctness, "steps": steps, "end": end, "determinism": determinism, "inference": inference,
    "memory": memory, "traincheck": traincheck,
}  # fmt: skip


def run_apart(part: str, out: Path, limit: float, arguments: Sequence[str]) -> Row:
    """A part in a process of its own: its rows, and why they are not all."""
    begun, path, log = time.monotonic(), out / f"{part}.json", out / f"{part}.log"
    path.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", str(out), "--alone", part, *arguments]
    # To a file: a pipe would stay open as long as anything that the part started.
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, start_new_session=True)
    failed = None
    try:
        if code := process.wait(timeout=limit):
            failed = _reason(code, log.read_text(errors="replace"))
    except subprocess.TimeoutExpired:
        failed = f"took longer than its limit of {limit:g} s"
    finally:
        # Its own processes with it: it leads their group.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    rows = json.loads(path.read_text()) if path.is_file() else []
    if failed is None and (broken := [row["failed"] for row in rows if "failed" in row]):
        failed = f"{len(broken)} of {len(rows)} rows, the first: {broken[0]}"
    return {"part": part, "seconds": round(time.monotonic() - begun, 1), "failed": failed, "rows": rows}


def _reason(code: int, said: str) -> str:
    """Why a process ended."""
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    lines = said.strip().splitlines()
    return lines[-1] if lines else f"ended with {code}"


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def markdown(head: Mapping[str, Any], parts: Sequence[Row]) -> str:
    """The section of RESULTS."""
    told = ", ".join(f"{key} {value}" for key, value in head.items())
    return "\n".join(["## On a GPU", "", f"`python -m benchmarks.gpu --out DIR`: {told}.", "", *tables(parts)])


def tables(parts: Sequence[Row]) -> Iterator[str]:
    """Lines of a table for each part."""
    for part in parts:
        lines: list[str] = []
        lines += [f"### {part['part']} ({part['seconds']:g} s)", ""]
        if part["failed"]:
            lines += [f"Failed: {part['failed']}", ""]
        columns = list(dict.fromkeys(key for row in part["rows"] for key in row))
        if columns:
            lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
            lines += ["| " + " | ".join(_shown(row.get(key, "")) for key in columns) + " |" for row in part["rows"]]
            lines.append("")
        yield from lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts, and write what they found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for results and data")
    parser.add_argument("--part", action="append", choices=list(PARTS), help="default: all")
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:N; cpu with --small")
    parser.add_argument("--old", type=Path, help="checkout of an earlier state, whose training loop is measured too")
    parser.add_argument("--small", action="store_true", help="small networks and pictures, also without a GPU")
    parser.add_argument("--limit", type=float, help="seconds of each part, in place of its own limit")
    parser.add_argument(
        "--total", type=float, help="seconds of all parts and the data together; default: 480, more on a CPU"
    )
    parser.add_argument("--alone", choices=list(PARTS), help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    begun = time.monotonic()
    if importlib.util.find_spec("pytest") is None:
        sys.stderr.write("The tests' golden outputs are read with pytest: run 'pip install pytest' first.\n")
        sys.exit(EXIT_USAGE)
    if not args.small and not torch.cuda.is_available():
        sys.stderr.write(
            "There is no GPU that PyTorch can use here: run this on a machine with one, or with --small.\n"
        )
        sys.exit(EXIT_USAGE)
    # Parts run elsewhere.
    args.out = args.out.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    device = pick_device(args.device)
    patience = 1 if device.type == "cuda" else _PATIENCE
    total = args.total or patience * TOTAL
    if args.alone:
        rows: list[Row] = []
        for row in PARTS[args.alone](device, args.small, args.out, args.old):
            rows.append(row)
            # Whole at any moment: its limit may end this process in the next.
            write_atomic(args.out / f"{args.alone}.json", (json.dumps(rows, indent=2) + "\n").encode())
        return
    shared = ["--device", args.device, *(["--small"] if args.small else [])]
    shared += ["--old", str(args.old.resolve())] if args.old else []
    # Once, before any part is measured.
    write_data(args.out, args.small)
    head = {"device": device_name(device), "torch": torch.__version__, "cores": os.cpu_count()}
    parts = []
    for part in args.part or PARTS:
        left = total - (time.monotonic() - begun)
        limit = min(args.limit or patience * LIMITS[part], left)
        if left < _LEAST:
            parts.append({"part": part, "seconds": 0.0, "failed": f"{total:g} s were over", "rows": []})
        else:
            parts.append(run_apart(part, args.out, round(limit, 1), shared))
        print("\n".join(tables(parts[-1:])), flush=True)
        (args.out / "gpu.json").write_text(json.dumps({**head, "parts": parts}, indent=2) + "\n")
        (args.out / "gpu.md").write_text(markdown(head, parts) + "\n")
    sys.exit(1 if any(part["failed"] for part in parts) else 0)


if __name__ == "__main__":
    main()
