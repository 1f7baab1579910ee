"""Speed of training steps: images/s of each network, and what forward pass, backward pass and optimiser take.

    python -m benchmarks.training                          # one CPU thread, float32, batches of 2
    python -m benchmarks.training --gpu                    # bfloat16, batches of 8 and 32, torch.compile or not
    python -m benchmarks.training --gpu --epoch --json gpu.json

A step is that of `p3mnet train`: the batch crosses to the device as bytes, all parts of the loss, the gradient's norm,
Adam. Crops are of 512x512, made once: the loader is measured apart (`benchmarks.loader`). Figures are medians over the
steps after those to warm up, of processor time on a CPU and of the GPU's own clock there; images/s on a GPU are those
of all steps together. An epoch are the 9,421 crops of P3M-10k: extrapolated, or with --epoch really run. Exit code 2
where --gpu finds none.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from p3mdata.errors import EXIT_USAGE
from p3mnet.create import create_model
from p3mnet.loader import Batch, to_device
from p3mnet.losses import losses_of
from p3mnet.training.compiled import compiled as compiled_step

VARIANTS = ("p3mnet_resnet34", "p3mnet_swin_t", "p3mnet_vitae_s")
EPOCH = 9421
# Seconds of an epoch that an H100 could reach with ResNet-34 in bfloat16, from an earlier measurement, and the paper's.
FLOOR, PAPER = 25, 1152
PHASES = ("forward", "backward", "optimiser")


@dataclass(frozen=True)
class Row:
    """One way to train one network.

    Attributes:
        milliseconds: Of each phase, medians.
        images_per_second: Whole steps.
        peak_gib: Largest memory of tensors on a GPU; None on a CPU.
    """

    variant: str
    batch: int
    compiled: bool
    milliseconds: dict[str, float]
    images_per_second: float
    peak_gib: float | None


def random_batch(size: int, side: int = 512) -> Batch:
    """A batch as the loader makes it, with foreground and background colours so that every loss takes part."""
    draw = torch.Generator().manual_seed(0)

    def plane(channels: int) -> torch.Tensor:
        values = torch.randint(0, 256, (size, side, side, channels), generator=draw, dtype=torch.uint8)
        return values.permute(0, 3, 1, 2)

    # A border of transition around a person in the middle.
    trimap = torch.zeros(size, 1, side, side, dtype=torch.uint8)
    trimap[..., side // 4 :, side // 4 : -side // 4] = 128
    trimap[..., side // 3 :, side // 3 : -side // 3] = 255
    colours = {kind: plane(3) for kind in ("image", "foreground", "background")}
    batch: Batch = {**colours, "alpha": plane(1), "trimap": trimap, "facemask": torch.zeros_like(trimap)}
    if torch.cuda.is_available():
        batch = {kind: values.pin_memory() for kind, values in batch.items()}
    return {**batch, "name": [str(number) for number in range(size)]}


def measure(
    variant: str, batch_size: int, device: torch.device, steps: int, warm_up: int, compiled: bool, side: int = 512
) -> Row:
    """Time some steps.

    Raises:
        torch.OutOfMemoryError: The GPU does not hold the batch.
        RuntimeError: The step cannot be compiled.
    """
    cuda = device.type == "cuda"
    torch.manual_seed(0)
    model = create_model(variant, encoder_weights="random").to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(moved: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        with torch.autocast(device.type, torch.bfloat16, enabled=cuda):
            output = model(moved["image"])
        return losses_of(model, output, moved)

    optimiser = torch.optim.Adam(model.parameters(), 1e-5, fused=cuda)
    batch = random_batch(batch_size, side)
    whole, said = forward, [""]
    if compiled:
        # As in training, which finds the program in the cache then.
        program = compiled_step(forward, model, _tensors(to_device(batch, device)), said.append)
        if program is None:
            raise RuntimeError(said[-1])
        whole = program
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    marks: list[list[Any]] = []
    began = 0.0
    for number in range(warm_up + steps):
        if number == warm_up:
            if cuda:
                torch.cuda.synchronize(device)
            began = time.perf_counter()
        at = [_mark(cuda)]
        optimiser.zero_grad(set_to_none=True)
        total = whole(_tensors(to_device(batch, device)))["total"]
        at.append(_mark(cuda))
        total.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        at.append(_mark(cuda))
        # As in training: a step whose loss is no number must not be taken, so that the host waits here.
        if not (total.isfinite() & norm.isfinite()).item():
            raise ArithmeticError(f"the loss of {variant} is no number")
        optimiser.step()
        at.append(_mark(cuda))
        marks.append(at)
    if cuda:
        torch.cuda.synchronize(device)
    elapsed = time.perf_counter() - began
    timed = marks[warm_up:]
    phases = {
        phase: statistics.median(_between(at[place], at[place + 1]) for at in timed)
        for place, phase in enumerate(PHASES)
    }
    seconds = elapsed / steps if cuda else statistics.median(_between(at[0], at[-1]) for at in timed) / 1000
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if cuda else None
    return Row(variant, batch_size, compiled, phases, batch_size / seconds, peak)


def _tensors(moved: Batch) -> dict[str, torch.Tensor]:
    return {kind: value for kind, value in moved.items() if isinstance(value, torch.Tensor)}


def _mark(cuda: bool) -> Any:
    """A point in time: of the GPU's clock, once it is done with all that came before, or of processor time."""
    if not cuda:
        return time.process_time()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _between(first: Any, last: Any) -> float:
    """Milliseconds from one point to another."""
    return 1000 * (last - first) if isinstance(first, float) else first.elapsed_time(last)


def table(rows: Iterable[Row | str]) -> Iterable[str]:
    """Lines of Markdown; a sentence stands for a row that could not be measured."""
    yield (
        "| network | batch | torch.compile | "
        + " | ".join(f"{phase}, ms" for phase in PHASES)
        + (" | images/s | epoch of 9,421 | peak GiB |")
    )
    yield "|---" * (3 + len(PHASES) + 3) + "|"
    for row in rows:
        if isinstance(row, str):
            yield row
            continue
        times = " | ".join(f"{row.milliseconds[phase]:.0f}" for phase in PHASES)
        peak = "-" if row.peak_gib is None else f"{row.peak_gib:.1f}"
        name = row.variant.removeprefix("p3mnet_")
        epoch = EPOCH / row.images_per_second
        yield (
            f"| {name} | {row.batch} | {'yes' if row.compiled else 'no'} | {times} | {row.images_per_second:.2f} "
            f"| {epoch:.0f} s | {peak} |"
        )


def on_gpu(variants: Sequence[str], batches: Sequence[int], steps: int, epoch: bool) -> Iterable[Row | str]:
    """Each network with each batch, with and without torch.compile."""
    device = torch.device("cuda")
    for variant in variants:
        for batch in batches:
            for compiled in (False, True):
                try:
                    yield measure(variant, batch, device, EPOCH // batch if epoch else steps, 5, compiled)
                except torch.OutOfMemoryError:
                    yield f"| {variant.removeprefix('p3mnet_')} | {batch} | out of memory |"
                torch.compiler.reset()
                torch.cuda.empty_cache()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", action="append", choices=VARIANTS, help="default: all")
    parser.add_argument("--gpu", action="store_true", help="measure on the GPU; exit 2 if there is none")
    parser.add_argument("--batch", type=int, action="append", help="default: 2 on a CPU, 8 and 32 on a GPU")
    parser.add_argument("--steps", type=int, help="default: 3 on a CPU, 30 on a GPU")
    parser.add_argument("--epoch", action="store_true", help="on a GPU: as many steps as an epoch has")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args(arguments)
    if args.gpu and not torch.cuda.is_available():
        sys.stderr.write(
            "There is no GPU that PyTorch can use here: run this on a machine with one, or without --gpu.\n"
        )
        sys.exit(EXIT_USAGE)
    variants = args.variant or VARIANTS
    if args.gpu:
        print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}, bfloat16, channels_last, 512x512\n")
        rows = on_gpu(variants, args.batch or (8, 32), args.steps or 30, args.epoch)
    else:
        torch.set_num_threads(1)
        print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, one thread, float32, 512x512\n")
        cpu = torch.device("cpu")
        rows = (
            measure(variant, batch, cpu, args.steps or 3, 1, False)
            for variant in variants
            for batch in args.batch or (2,)
        )
    kept: list[Row | str] = []
    for row in rows:
        kept.append(row)
        print(f"  {row}", file=sys.stderr)
    print("\n".join(table(kept)))
    if args.gpu:
        print(f"\nFor ResNet-34 on an H100 the floor is about {FLOOR} s an epoch; the paper took {PAPER} s.")
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in kept if isinstance(row, Row)], indent=2) + "\n")


if __name__ == "__main__":
    main()
