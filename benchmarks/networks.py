"""Speed of P3M-Net's networks on one CPU thread, beside a plain convolution as the measure of this machine.

    python -m benchmarks.networks
    python -m benchmarks.networks --variant p3mnet_vitae_s --size 800 --rounds 3

Times are processor time, so that other programs disturb less; rows take turns and the fastest round counts. GFLOP are
those of torch's counter for the network as it runs (a multiplication and an addition are two); attention, which the
counter does not know on a CPU, is added.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from p3mnet.create import create_model
from p3mnet.model import MattingNetwork, folded

# Of the published networks at 512x512, one CPU thread, from an earlier measurement: plain and channels_last.

REFERENCE_SECONDS = {"p3mnet_resnet34": (1.66, 1.23), "p3mnet_swin_t": (3.10, 2.77), "p3mnet_vitae_s": (2.63, 2.11)}
SCALED_DOT_PRODUCT = F.scaled_dot_product_attention


def full_matrix(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention with the whole matrix of weights in memory, as the published code computes it."""
    scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
    return (scores if mask is None else scores + mask).softmax(-1) @ value


def gflop(model: MattingNetwork, image: Tensor) -> float:
    """Multiplications and additions of a forward pass, in 10^9."""
    attention = 0

    def counted(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        nonlocal attention
        attention += 4 * query.numel() * key.shape[-2]
        return SCALED_DOT_PRODUCT(query, key, value, mask)

    with FlopCounterMode(display=False) as counter, mock.patch.object(F, "scaled_dot_product_attention", counted):
        model(image)
    counts = counter.get_flop_counts()["Global"]
    known = sum(count for operation, count in counts.items() if "attention" not in str(operation))
    return (known + attention) / 1e9


def fastest(rows: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of processor time of each row, the least of all rounds after one to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for turn in range(rounds + 1):
        for name, run in rows.items():
            started = time.process_time()
            run()
            if turn:
                seconds[name].append(time.process_time() - started)
    return {name: min(times) for name, times in seconds.items()}


def convolution(rounds: int) -> float:
    """GFLOP/s of a plain 3x3 convolution, 256 to 256 channels at 128x128."""
    x = torch.randn(1, 256, 128, 128).to(memory_format=torch.channels_last)
    kernel = torch.randn(256, 256, 3, 3)
    seconds = fastest({"conv": lambda: F.conv2d(x, kernel, padding=1)}, rounds)["conv"]
    return 2 * 9 * 256 * 256 * 128 * 128 / seconds / 1e9


def measure(variant: str, size: int, rounds: int) -> dict[str, float]:
    """Seconds of each way to run one variant on a size x size image."""
    model = create_model(variant, encoder_weights="random").eval()
    image = torch.randn(1, 3, size, size)
    inference = folded(model)
    rows: dict[str, Callable[[], object]] = {
        "as trained": lambda: model(image),
        "for inference": lambda: inference(image),
    }
    if variant == "p3mnet_vitae_s":

        def explicit() -> None:
            with mock.patch.object(F, "scaled_dot_product_attention", full_matrix):
                inference(image)

        rows["full matrix"] = explicit
    return {"gflop": gflop(model, image)} | fastest(rows, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", action="append", choices=list(REFERENCE_SECONDS), help="default: all")
    parser.add_argument("--size", type=int, action="append", help="default: 512, and 800 for ViTAE-S")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, dict[str, float]] = {}
    with torch.inference_mode():
        print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, one thread")
        for variant in args.variant or REFERENCE_SECONDS:
            for size in args.size or ((512, 800) if variant == "p3mnet_vitae_s" else (512,)):
                peak = convolution(args.rounds)
                row = measure(variant, size, args.rounds)
                work = row["gflop"]
                print(f"{variant} at {size}x{size}: {work:.0f} GFLOP; 3x3 convolution beside it {peak:.0f} GFLOP/s")
                for name, seconds in row.items():
                    if name != "gflop":
                        speed = work / seconds
                        print(f"  {name:14} {1000 * seconds:6.0f} ms {speed:5.0f} GFLOP/s {speed / peak:4.0%}")
                if size == 512:
                    plain, last = REFERENCE_SECONDS[variant]
                    print(
                        f"  published code {1000 * plain:6.0f} ms, channels_last {1000 * last:.0f} ms (measured apart)"
                    )
                results[f"{variant} {size}"] = row | {"convolution": peak}
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
