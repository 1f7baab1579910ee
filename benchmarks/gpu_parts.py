"""The parts of `benchmarks.gpu`: each yields its rows as it finds them."""

from __future__ import annotations

import functools
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.gpu_place import RECIPE, Place, trained, tried, write_data
from benchmarks.gpu_targets import Row
from benchmarks.training import VARIANTS, measure, random_batch
from p3mnet import maps
from p3mnet.checkpoint import save_checkpoint
from p3mnet.create import create_model
from p3mnet.devices import arithmetic, device_name, gpus_seen, why_no_gpu
from p3mnet.graphs import Replay
from p3mnet.infer import infer
from p3mnet.loader import to_device
from p3mnet.losses import losses_of
from p3mnet.model import count_parameters, folded
from p3mnet.predict import predict_alpha


def machine(at: Place) -> Iterator[Row]:
    """What it is measured on; on a machine where nothing can be, this ends with the reason."""
    row: Row = {"device": device_name(at.device)}
    if at.cuda:
        # Also a driver that is there and cannot compute shows here.
        torch.ones(8, device=at.device).sum().item()
        free, whole = (round(amount / 2**30, 1) for amount in torch.cuda.mem_get_info(at.device))
        row |= {"GiB": whole, "free GiB": free, "GPUs": torch.cuda.device_count(), "driver": _driver()}
    shared = Path("/dev/shm")
    row |= {
        "torch": torch.__version__, "python": platform.python_version(), "cores": len(os.sched_getaffinity(0)),
        "shared GiB": round(shutil.disk_usage(shared).free / 2**30, 1) if shared.is_dir() else None,
        "compiler": next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None),
    }  # fmt: skip
    yield row


def _driver() -> str | None:
    """Its version, where the system tells."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(done.stdout.split()), None)


def correctness(at: Place) -> Iterator[Row]:
    """Largest differences to the golden outputs, and whether a second pass gives the same bits; time of unpooling."""
    from tests.test_networks import GOLDEN, SHORT, network, picture

    for variant in VARIANTS[:1] if at.small else VARIANTS:
        golden = np.load(GOLDEN / f"p3mnet_{SHORT[variant]}.npz")
        model, image = network(variant).to(at.device), picture(256, 320).to(at.device)
        for precision in ("float32", "tf32", "bfloat16"):
            differences = functools.partial(_differences, model, image, precision, golden)
            yield tried({"network": variant, "precision": precision}, differences)
    yield tried({"network": "unpooling"}, functools.partial(_unpooling, at))


def _differences(model: torch.nn.Module, image: torch.Tensor, precision: str, golden: Any) -> Row:
    """Of two passes: to the golden outputs, and to each other."""
    device, step = image.device, 256 // golden["global"].shape[-2]
    half = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
    with arithmetic(device, tf32=precision != "float32"), torch.inference_mode(), half:
        first, second = model(image), model(image)
    found = {
        name: float(np.abs(plane.float().cpu().numpy()[..., ::step, ::step] - golden[name]).max())
        for name, plane in zip(("global", "local"), first[:2], strict=True)
    }
    same = all(torch.equal(a, b) for a, b in zip(first, second, strict=True) if a is not None)
    return {**found, "repeatable": same}


def _unpooling(at: Place) -> Row:
    """Forward and backward at [4, 64, 128, 128], beside PyTorch's own, whose values race for their places."""
    side = at.sizes.side // 4
    draw = torch.Generator().manual_seed(0)
    maxima = torch.randn(4, 64, 2 * side, 2 * side, generator=draw).to(at.device, memory_format=torch.channels_last)
    pooled, index = maps.pool(maxima, 3)
    values = pooled.detach().requires_grad_()

    def one(unpooled: Callable[[], torch.Tensor]) -> float:
        return statistics.median(at.timed(lambda: unpooled().sum().backward()) for _ in range(20 if at.cuda else 2))  # type: ignore[no-untyped-call]

    ours = one(lambda: maps.unpool(values, index, 3))
    return {"ms": ours, "PyTorch's, ms": one(lambda: torch.nn.functional.max_unpool2d(values, index, [2, 2]))}


def steps(at: Place) -> Iterator[Row]:
    """Images/s of bare steps."""
    for variant, batch in itertools.product(at.sizes.networks, at.sizes.batches):
        yield _bare(at, variant, batch, compiled=False)


def _bare(at: Place, variant: str, batch: int, compiled: bool) -> Row:
    def measured() -> Row:
        begun = time.monotonic()
        row = measure(variant, batch, at.device, at.sizes.steps, at.sizes.warm, compiled, at.sizes.side)
        seconds = round(time.monotonic() - begun, 1)
        return {"images/s": round(row.images_per_second, 1), "GiB": row.peak_gib, "ready after s": seconds}

    found = tried({"network": variant, "batch": batch, "compiled": compiled}, measured)
    if at.cuda:
        torch.cuda.empty_cache()
    return found


def end(at: Place) -> Iterator[Row]:
    """`p3mnet train` with its loader, each network."""
    recipes = {"swin_t, batch 32": "p3m10k_swin_t", "vitae_s, batch 32": "p3m10k_vitae_s"}
    for name, count in at.sizes.runs:
        yield trained(at, name, {"steps": count, "compile": "off"}, recipes.get(name, RECIPE))


def old(at: Place) -> Iterator[Row]:
    """An earlier state: its recipe (batch 8), and its bare steps."""
    if at.old is None:
        return
    count = max(steps for _, steps in at.sizes.runs)
    recipe = {} if at.small else {"batch": 8}
    yield trained(at, "earlier, its recipe", {"steps": count, **recipe}, checkout=at.old)
    if not at.small:
        yield tried({"run": "earlier, bare steps of batch 32"}, functools.partial(_bare_of, at, at.old))


def _bare_of(at: Place, checkout: Path) -> Row:
    given = f"{VARIANTS[0]!r}, 32, torch.device({str(at.device)!r}), {at.sizes.steps}, {at.sizes.warm}, False"
    program = f"import torch; from benchmarks.training import measure; print(measure({given}).images_per_second)"
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)}, timeout=at.sizes.patience,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or f"ended with {done.returncode}").splitlines()[-1])
    return {"images/s": round(float(done.stdout.split()[-1]), 1)}


def compiled(at: Place) -> Iterator[Row]:
    """Steps as one program: bare ones, then `p3mnet train`. Compiling takes a minute and more: it is measured last."""
    if not at.cuda:
        yield {"compiled": None, "sentence": "left out: for a CPU it takes minutes and tells nothing of a GPU"}
        return
    yield _bare(at, at.sizes.networks[0], max(at.sizes.batches), compiled=True)
    changes = {"steps": max(steps for _, steps in at.sizes.runs), "compile": "on"}
    yield trained(at, "batch 32, compiled", changes, patience=10 * at.sizes.patience)


def determinism(at: Place) -> Iterator[Row]:
    """The same steps twice, with and without `deterministic`."""
    batch = random_batch(min(at.sizes.batches), at.sizes.side)
    for variant in at.sizes.repeated:
        for wanted in (False, True) if variant in at.sizes.networks else (True,):
            twice = functools.partial(_twice, at, variant, batch, wanted)
            yield tried({"network": variant, "deterministic": wanted}, twice)


def _twice(at: Place, variant: str, batch: Any, deterministic: bool) -> Row:
    """Whether the same steps give the same weights, and how long one takes."""
    device, states, seconds = at.device, [], []
    for _ in range(2):
        torch.manual_seed(0)
        model = create_model(variant, encoder_weights="random").train().to(device)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=at.cuda)
        with arithmetic(device, tf32=True, deterministic=deterministic):
            for number in range(4):
                if number == 1:
                    at.sync()
                    begun = time.monotonic()
                torch.manual_seed(number)
                optimizer.zero_grad()
                moved = to_device(batch, device)
                with torch.autocast(device.type, torch.bfloat16, enabled=at.cuda):
                    output = model(moved["image"])
                losses_of(model, output, moved)["total"].backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            at.sync()
        seconds.append((time.monotonic() - begun) / 3)
        states.append([values.cpu() for values in model.state_dict().values()])
    same = all(torch.equal(one, other) for one, other in zip(*states, strict=True))
    found = {"same bits": same, "s per step": min(seconds)}
    return found if same or not deterministic else {**found, "failed": "the bits differ"}


def inference(at: Place) -> Iterator[Row]:
    """Milliseconds of a pass at 512x512 (mean of 100, as in the paper's table 11), of usual pictures, of folders."""
    side = at.sizes.side
    for name in at.sizes.compared:
        model = folded(create_model(name, encoder_weights="random")).to(at.device)
        image = torch.zeros(1, 3, side, side, device=at.device)
        plain, parameters = model.forward, round(count_parameters(model, as_published=True) / 1e6, 2)
        for recorded in (False, True) if at.cuda else (False,):
            replay = Replay(plain)
            if recorded:
                model.forward = replay  # type: ignore[method-assign]
            passes = functools.partial(_passes, at, model, image, replay if recorded else None)
            row = tried({"network": name, "size": f"{side}x{side}", "recorded": recorded}, passes)
            yield {**row, "million parameters": parameters}
    yield from _sizes_and_folders(at, at.sizes.compared[0])


def _passes(at: Place, model: torch.nn.Module, image: torch.Tensor, replay: Replay | None) -> Row:
    """Milliseconds of a pass; one that should have been recorded and could not be is no figure."""
    with arithmetic(at.device, tf32=True), torch.inference_mode():
        times = [at.timed(functools.partial(model, image)) for _ in range(at.sizes.trials + 3)][3:]
    if replay is not None and replay.off:
        raise RuntimeError("it could not be recorded")
    return {"ms": statistics.fmean(times)}


def _sizes_and_folders(at: Place, name: str) -> Iterator[Row]:
    model = folded(create_model(name, encoder_weights="random")).to(at.device)
    if at.cuda:
        model.forward = Replay(model.forward)  # type: ignore[method-assign]
    for long in dict.fromkeys(long for long, _, together in at.sizes.folders if together == 1):
        rgb = np.zeros((long, long * 9 // 16, 3), np.uint8)

        def seen(rgb: Any = rgb) -> Row:
            with arithmetic(at.device, tf32=True):
                times = [at.timed(functools.partial(predict_alpha, model, rgb)) for _ in range(4 if at.small else 12)]
            return {"ms": statistics.median(times[2:])}

        yield tried({"network": name, "size": f"{rgb.shape[1]}x{long}", "hybrid": True}, seen)
    weights = at.out / "inference.pt"
    save_checkpoint(weights, create_model(name, encoder_weights="random"))
    for long, number, together in at.sizes.folders:
        about = {"network": "folder", "size": f"{number} of {long}", "hybrid": True, "batch": together}
        yield tried(about, functools.partial(_folder_seen, at, weights, long, number, together))


def _folder_seen(at: Place, weights: Path, long: int, number: int, together: int) -> Row:
    """Images/s of `p3mnet.infer.infer` from files to files, with what the first pictures of a size take longer."""
    pictures, out = at.out / f"pictures-{long}", at.out / f"mattes-{long}"
    pictures.mkdir(exist_ok=True)
    shutil.rmtree(out, ignore_errors=True)
    sources = sorted((write_data(at.out, at.sizes) / "train" / "images").glob("*.jpg"))
    for index in range(number):
        first = pictures / f"p{index % 4}.jpg"
        if index < 4:
            with Image.open(sources[index % len(sources)]) as source:
                source.resize((long * source.width // source.height, long)).save(first, quality=92)
        elif not (pictures / f"p{index}.jpg").exists():
            os.link(first, pictures / f"p{index}.jpg")
    begun = time.monotonic()
    done = infer(pictures, out, weights, device=str(at.device), cutouts=False, batch=together)
    return {"images/s": round(done.made / (time.monotonic() - begun), 2)}


def memory(at: Place) -> Iterator[Row]:
    """Seconds until a batch that is far too large is told, the start of Python included."""
    if not at.cuda:
        yield {"batch": None, "sentence": "left out: a CPU has no memory of its own to run out of"}
        return
    batch, side = at.sizes.huge
    begun = time.monotonic()
    row = trained(at, "memory", {"batch": batch, "data.size": side, "steps": 1, "epochs": 1})
    told = {"batch": batch, "side": side, "seconds": round(time.monotonic() - begun, 1)}
    sentence = row.get("failed", "it fits")
    wrong = {} if "does not hold a batch" in sentence else {"failed": "it was not told"}
    yield {**told, "sentence": sentence, **wrong}


def traincheck(at: Place) -> Iterator[Row]:
    """A train-check of three protocols in a short budget: what it plans, its verdict, what ten minutes would give."""
    out = at.out / "check"
    shutil.rmtree(out, ignore_errors=True)
    data, originals = write_data(at.out, at.sizes), at.out / "originals"
    command = [
        sys.executable, "-m", "p3mdata", "train-check", str(data), "--out", str(out), "--device", str(at.device),
        "--originals", str(originals), "--protocols", "B:B,B:N,N:N", "--seeds", "2", "--encoder-weights", "random",
        "--scale", "smoke" if at.small else "full", "--budget", f"{at.sizes.budget}s", "--quiet",
    ]  # fmt: skip
    begun = time.monotonic()
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    seconds, report = round(time.monotonic() - begun, 1), out / "report.json"
    if not report.is_file():
        yield {"failed": (done.stderr.strip() or "no report").splitlines()[-1]}
        return
    found, plan = json.loads(report.read_text()), json.loads((out / "plan.json").read_text())
    row = {"verdict": found["verdict"], "seconds": seconds, "budget": at.sizes.budget}
    if "steps" in plan:
        speeds = plan["figures"]["speeds"]
        # Two thirds of the time for three seeds of two trainings.
        each = 600 * 2 / 3 / 6 / (plan["accumulation"] * max(speeds["step"].values()))
        row |= {"steps": plan["steps"], "batch": plan["batch"], "planned": plan["seconds"], "speeds": speeds}
        row |= {"steps in 10 minutes": int(each)}
    yield {**row, "why": "; ".join(rule["sentence"] for rule in found["rules"] if rule["state"] != "pass")[:300]}


PARTS: dict[str, Callable[[Place], Iterator[Row]]] = {
    "machine": machine, "correctness": correctness, "steps": steps, "end": end, "old": old, "inference": inference,
    "memory": memory, "determinism": determinism, "traincheck": traincheck, "compiled": compiled,
}  # fmt: skip


def no_gpu() -> str | None:
    """Why nothing can be measured; None if there is a GPU."""
    return None if gpus_seen() else f"There is no GPU that PyTorch can use here ({why_no_gpu()})"


def failed_rows(rows: Sequence[Row]) -> str | None:
    """How many rows of a part have no figures, and why the first has none."""
    broken = [row["failed"] for row in rows if "failed" in row]
    return f"{len(broken)} of {len(rows)} rows, the first: {broken[0]}" if broken else None
