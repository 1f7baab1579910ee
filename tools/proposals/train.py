"""The proposal network: twelve thousand parameters that foretell where the look for bystanders finds a face."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from p3mdata.faces.integers import IMAGE
from p3mdata.faces.onnx_graph import Graph
from p3mdata.faces.proposals import LOGITS
from tools.proposals.scenes import Sample

BATCH = 16
# Division of pixels, which the file's first layer does itself.
_SCALE = 64.0
# A face that is missed costs as much as this many places looked at for nothing.
_WEIGHT = 8.0


class Layer(nn.Sequential):
    """A 3x3 convolution per channel, a 1x1 one, and a ReLU."""

    def __init__(self, channels: int, filters: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, 3, stride, 1, groups=channels), nn.Conv2d(channels, filters, 1), nn.ReLU()
        )


def network() -> nn.Sequential:
    """The network: (n, 3, h, w) pixels / 64 to (n, 1, h / 8, w / 8) logits."""
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, 2, 1), nn.ReLU(), Layer(12, 24, 2), Layer(24, 24), Layer(24, 48, 2),
        Layer(48, 48), Layer(48, 48), Layer(48, 48), nn.Conv2d(48, 1, 1),
    )  # fmt: skip


def train(samples: Sequence[Sample], steps: int, seed: int, tell: Callable[[str], None]) -> nn.Sequential:
    """Train on samples in random order, mirrored and at random brightness."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    net = network()
    optimiser = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 8e-3, steps)
    order: list[int] = []
    losses: list[float] = []
    for step in range(1, steps + 1):
        if len(order) < BATCH:
            order = rng.permutation(len(samples)).tolist()
        batch = [samples[order.pop()] for _ in range(BATCH)]
        rgb, target, known = (
            torch.from_numpy(np.stack([getattr(sample, name) for sample in batch]))
            for name in ("rgb", "target", "known")
        )
        pixels = rgb.permute(0, 3, 1, 2).float()
        tone = torch.from_numpy(rng.uniform((0.6, -6), (1.4, 6), (BATCH, 2)).astype(np.float32))
        pixels = (pixels * tone[:, 0, None, None, None] + tone[:, 1, None, None, None]).clamp(0, 255) / _SCALE
        if step % 2:
            pixels, target, known = (array.flip(-1) for array in (pixels, target, known))
        logits = net(pixels)[:, 0]
        chance = torch.sigmoid(logits.detach())
        each = F.binary_cross_entropy_with_logits(logits, target, reduction="none", pos_weight=torch.tensor(_WEIGHT))
        # What is told rightly and with certainty teaches nothing.
        loss = (each * torch.where(target > 0, 1 - chance, chance) * known).sum() / target.sum().clamp(min=1)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
        if step % 100 == 0:
            tell(f"step {step} of {steps}: loss {np.mean(losses[-100:]):.3f}")
    return net.eval()


def exported(net: nn.Sequential) -> bytes:
    """The network as an ONNX model of pixels in 0..255."""
    graph = Graph()
    graph.input(IMAGE, 3)
    convolutions = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    source = IMAGE
    for number, conv in enumerate(convolutions):
        assert conv.bias is not None
        last = number == len(convolutions) - 1
        weights, biases = (p.detach().numpy().astype(np.float32) for p in (conv.weight, conv.bias))
        source = graph.conv(
            source,
            LOGITS if last else f"layer{number}",
            weights / np.float32(_SCALE) if number == 0 else weights,
            biases,
            stride=conv.stride[0],
            relu=not last and conv.groups == 1,
        )
    graph.output(LOGITS, 1)
    return graph.serialize()
