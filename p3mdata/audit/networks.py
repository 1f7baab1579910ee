"""Networks that an attacker trains on faces obfuscated alike, from the extra `train`: a recogniser and a restorer.

Both see pairs of clear and obfuscated photographs of people who are not in the test, and are small enough for a CPU.
"""

from __future__ import annotations

import importlib.util
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p3mdata.audit.measures import People, Vectors
from p3mdata.errors import SetupError

Pixels = NDArray[np.uint8]
SIDE = 64
_BATCH = 32
_RATE = 2e-3
# Of the network that learns from pairs: people a step, length of its vectors, noise on pictures of unit spread.
_PAIRS, _VECTOR, _NOISE, _SHARPNESS = 24, 128, 0.3, 10.0


def is_possible() -> bool:
    """Whether the extra is installed."""
    return importlib.util.find_spec("torch") is not None


def _torch() -> Any:
    if not is_possible():
        raise SetupError("Attackers that are networks need the extra: pip install 'p3mdata[train]' (torch is missing).")
    import torch

    return torch


def _planes(faces: Pixels) -> Any:
    return _torch().from_numpy(np.ascontiguousarray(faces.transpose(0, 3, 1, 2))).float() / 127.5 - 1


def _convolution(nn: Any, near: int, far: int, stride: int = 1) -> Any:
    return nn.Sequential(nn.Conv2d(near, far, 3, stride, 1), nn.GroupNorm(8, far), nn.SiLU())


class Embedder:
    """A recogniser of obfuscated faces: learns to say what dlib's network says of the clear photograph.

    Its loss asks that a prediction be nearer to the clear faces of its own person than to those of the others.
    """

    def __init__(self, hidden: Pixels, clear: Vectors, people: People, steps: int, seed: int) -> None:
        torch = _torch()
        torch.manual_seed(seed)
        rng, nn = np.random.default_rng(seed), torch.nn
        self._to = clear.mean(axis=0)
        widths = (3, 24, 48, 96, 128)
        body = [_convolution(nn, a, b, 2) for a, b in pairwise(widths)]
        self._net = nn.Sequential(*body, nn.Flatten(), nn.Linear(128 * (SIDE // 16) ** 2, clear.shape[1]))
        optimizer = torch.optim.AdamW(self._net.parameters(), _RATE, weight_decay=1e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        planes, target = _planes(hidden), torch.from_numpy(clear - self._to)
        target = nn.functional.normalize(target, dim=1)
        names, number = np.unique(people, return_inverse=True)
        centres = nn.functional.normalize(torch.stack([target[number == i].mean(0) for i in range(len(names))]), dim=1)
        number = torch.from_numpy(number)
        for _ in range(steps):
            drawn = torch.from_numpy(rng.choice(len(planes), min(_BATCH, len(planes)), replace=False))
            said = nn.functional.normalize(self._net(_altered(torch, planes[drawn], rng)), dim=1)
            loss = nn.functional.cross_entropy(8 * said @ centres.T, number[drawn])
            loss = loss + 2 * (1 - (said * target[drawn]).sum(1)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        self._net.eval()

    def __call__(self, hidden: Pixels) -> Vectors:
        torch = _torch()
        with torch.no_grad():
            return np.concatenate([self._net(_planes(part)).numpy() for part in _parts(hidden)])

    def centred(self, clear: Vectors) -> Vectors:
        """Clear vectors where predictions lie."""
        return np.asarray(clear - self._to, np.float32)


class PairNetwork:
    """A recogniser of obfuscated faces that learns which photographs show one person, and nothing of clear ones.

    Its pictures are coarse ones in which everything varies alike within persons (`learned.Metric.pictures`): of a few
    hundred blurred faces as they are, a network learns the light alone, and never the little that tells people apart.

    Args:
        pictures: n x side x side x 3.
        people: (n,), two photographs of each at least.
        steps, seed: Of the training.
    """

    def __init__(self, pictures: NDArray[np.float32], people: People, steps: int, seed: int) -> None:
        torch = _torch()
        torch.manual_seed(seed)
        rng, nn = np.random.default_rng(seed), torch.nn
        self._scale = float(pictures.std()) or 1.0
        side = -(-pictures.shape[1] // 4)
        body = [_convolution(nn, 3, 32), _convolution(nn, 32, 64, 2), _convolution(nn, 64, 96, 2)]
        self._net = nn.Sequential(*body, nn.Flatten(), nn.Dropout(0.2), nn.Linear(96 * side * side, _VECTOR))
        optimizer = torch.optim.AdamW(self._net.parameters(), _RATE, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        planes = self._planes(pictures)
        own = [np.flatnonzero(people == person) for person in np.unique(people)]
        for _ in range(steps):
            drawn = [rng.choice(own[i], 2, replace=False) for i in rng.permutation(len(own))[:_PAIRS]]
            batch = planes[torch.from_numpy(np.stack(drawn).T.reshape(-1))]
            batch = torch.roll(batch, tuple(int(v) for v in rng.integers(-1, 2, 2)), (2, 3))
            batch = batch.flip(3) if rng.random() < 0.5 else batch
            batch = batch + _NOISE * torch.from_numpy(rng.standard_normal(batch.shape).astype(np.float32))
            one, other = nn.functional.normalize(self._net(batch), dim=1).chunk(2)
            likeness, right = _SHARPNESS * one @ other.T, torch.arange(len(drawn))
            loss = nn.functional.cross_entropy(likeness, right) + nn.functional.cross_entropy(likeness.T, right)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        self._net.eval()

    def __call__(self, pictures: NDArray[np.float32]) -> Vectors:
        torch = _torch()
        with torch.no_grad():
            return np.asarray(self._net(self._planes(pictures)).numpy(), np.float32)

    def _planes(self, pictures: NDArray[np.float32]) -> Any:
        return _torch().from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)) / np.float32(self._scale))


class Restorer:
    """A U-Net that learns to draw the clear face from the obfuscated one."""

    def __init__(self, hidden: Pixels, clear: Pixels, steps: int, seed: int) -> None:
        torch = _torch()
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        self._net = _unet(torch)
        optimizer = torch.optim.AdamW(self._net.parameters(), _RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        near, far = _planes(hidden), _planes(clear)
        for _ in range(steps):
            drawn = torch.from_numpy(rng.choice(len(near), min(_BATCH // 2, len(near)), replace=False))
            pair = torch.cat([near[drawn], far[drawn]], 1)
            pair = pair.flip(3) if rng.random() < 0.5 else pair
            made = self._net(pair[:, :3])
            loss = (made - pair[:, 3:]).abs().mean()
            for axis in (2, 3):
                loss = loss + (made.diff(dim=axis) - pair[:, 3:].diff(dim=axis)).abs().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        self._net.eval()

    def __call__(self, hidden: Pixels) -> Pixels:
        torch = _torch()
        with torch.no_grad():
            made = np.concatenate([self._net(_planes(part)).numpy() for part in _parts(hidden)])
        return np.asarray(np.clip(np.rint((made.transpose(0, 2, 3, 1) + 1) * 127.5), 0, 255), np.uint8)


def _parts(faces: Pixels) -> list[Pixels]:
    return [faces[start : start + 64] for start in range(0, len(faces), 64)]


def _altered(torch: Any, planes: Any, rng: np.random.Generator) -> Any:
    """Light, mirror and place vary, so that few photographs do not become learnt by heart."""
    planes = planes.flip(3) if rng.random() < 0.5 else planes
    planes = torch.roll(planes, tuple(int(v) for v in rng.integers(-3, 4, 2)), (2, 3))
    light = torch.from_numpy(rng.uniform(0.8, 1.2, (len(planes), 3, 1, 1)).astype(np.float32))
    return planes * light


def _unet(torch: Any) -> Any:
    nn = torch.nn

    class UNet(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            widths = (16, 32, 64, 96)
            self.first = _convolution(nn, 3, widths[0])
            pairs = list(pairwise(widths))
            self.down = nn.ModuleList(_convolution(nn, a, b, 2) for a, b in pairs)
            self.up = nn.ModuleList(_convolution(nn, a + b, a) for a, b in reversed(pairs))
            # It begins with the face as it is.
            self.last = nn.Conv2d(widths[0], 3, 3, 1, 1)
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)

        def forward(self, x: Any) -> Any:
            kept = [self.first(x)]
            for down in self.down:
                kept.append(down(kept[-1]))
            y = kept.pop()
            for up in self.up:
                skip = kept.pop()
                y = nn.functional.interpolate(y, size=skip.shape[2:], mode="nearest")
                y = up(torch.cat([skip, y], 1))
            return x + self.last(y)

    return UNet()
