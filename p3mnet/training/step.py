"""One step of the optimiser: losses and gradients of its batches, and what is told of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from p3mdata.errors import P3MError
from p3mdata.imaging.trimap import UNKNOWN
from p3mnet.copy_paste import Sources, fcp
from p3mnet.loader import Batch
from p3mnet.losses import losses_of
from p3mnet.memory import MEMORY_ERRORS, out_of_memory
from p3mnet.model import MattingNetwork
from p3mnet.training.compiled import Forward, compiled, pays
from p3mnet.training.config import TrainConfig
from p3mnet.training.fitting import Fitting
from p3mnet.training.optimizing import make_optimizer, rate_at
from p3mnet.training.processes import Processes
from p3mnet.training.state import Position
from p3mnet.training.stopping import Stop

# File names in a sentence.
_NAMED = 8


class Diverged(P3MError):
    """The loss or its gradient is no longer a number."""


@dataclass(frozen=True)
class Step:
    """A step whose losses are not known yet.

    Attributes:
        number, epoch, crops: Which, and crops of the run when it is done.
        pictures: Their names, by batch.
        rows: Parts of the loss [batches, parts] of this process, on the device.
        told: Means over batches and processes, then the gradient's norm; float64 on the CPU once `there` says so.
        names: Of `told`.
        rate: Learning rate.
        there: When `told` is on the CPU; None if it is.
    """

    number: int
    epoch: int
    crops: int
    pictures: list[list[str]]
    rows: Tensor
    told: Tensor
    names: list[str]
    rate: float
    there: torch.cuda.Event | None

    def diverged(self, group: Processes, losses: Mapping[str, float]) -> Diverged:
        """What to say when something is not finite, with the pictures of the batches where it is so, if it is known."""
        wrong = [pictures for pictures, row in zip(self.pictures, self.rows, strict=True) if not row.isfinite().all()]
        found = group.gather([name for pictures in wrong for name in pictures])
        if not any(found):
            found = group.gather([name for pictures in self.pictures for name in pictures])
        names = [name for names in found for name in names]
        parts = ", ".join(name for name, value in losses.items() if not math.isfinite(value))
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        return Diverged(
            f"step {self.number}: {parts} not finite with the pictures {', '.join(names[:_NAMED])}{more}. "
            "Look at these, or take a smaller learning_rate; the last checkpoint is from before."
        )


class Stepper:
    """What a step computes; it moves neither the weights nor the position.

    Args:
        config: The run's settings.
        group: The processes that train together.
        model: The network, on its device, in training mode.
        position: Where the run stands; read at each step.
        terms: Parts of the loss that each step must have.
        sources: Faces to paste.
        steps: Those of the whole run.
        stop: Whether the run is asked to stop.
        say: Tells a person.
    """

    def __init__(
        self,
        config: TrainConfig,
        group: Processes,
        model: MattingNetwork,
        position: Position,
        terms: list[str],
        sources: Sources | None,
        steps: int,
        stop: Stop,
        say: Callable[[str], None],
    ) -> None:
        self.config, self.group, self.model, self.position = config, group, model, position
        self.terms, self.sources, self.steps, self.stop, self.say = terms, sources, steps, stop, say
        self.cuda = group.device.type == "cuda"
        self.network = group.wrap(model)
        self.optimizer = make_optimizer(config.optimizer, model.parameters(), config.learning_rate, self.cuda)
        wanted = config.precision
        self.bfloat16 = wanted == "bfloat16" or (wanted == "auto" and self.cuda)
        self.fitting = Fitting(config, group.device, model, self.optimizer, self._tried_loss)
        self.program: Forward | None = None
        self.tried = False

    def resume(self, state: dict[str, Any]) -> None:
        """Go on with an optimiser's state, also one that was written where steps are computed otherwise."""
        # Whether it is fused is part of the state: only a fused one can be told on a GPU to leave a step, and where its
        # counters lie depends on it.
        groups = [{**group, "fused": self.cuda} for group in state["param_groups"]]
        self.optimizer.load_state_dict({**state, "param_groups": groups})

    @property
    def precision(self) -> str:
        """What the forward pass computes in."""
        if self.bfloat16:
            return "bfloat16"
        return "tf32" if self.cuda and self.config.precision == "tf32" else "float32"

    def take(self, batches: list[Batch], crops: int) -> Step:
        """Gradients of the mean loss of some batches, and the learning rate; the optimiser is then to be called.

        Args:
            batches: On the device, as `ahead` gives them.
            crops: Of the run, once this step is done.

        Raises:
            BatchTooLarge: Memory does not suffice.
        """
        config, position, share = self.config, self.position, 1 / len(batches)
        rows: list[Tensor] = []
        parts: dict[str, Tensor] = {}
        failed: Batch | None = None
        # A single batch is all that its pixels are shared among.
        transition = None
        if len(batches) > 1 or self.group.world > 1:
            # Of all batches of the step, per batch; with the 1 that the loss adds to their sum.
            pixels = [_transition_pixels(batch) for batch in batches]
            transition = pixels, self._mean((sum(pixels) + 1 / self.group.world) * share)
        try:
            if self.program is None and self._compiles():
                self.program = compiled(self._forward, self.model, _tensors(batches[0]), self.say)
                self.tried = True
            self.optimizer.zero_grad(set_to_none=True)
            for number, batch in enumerate(batches):
                more = number + 1 < len(batches) and isinstance(self.network, DistributedDataParallel)
                with self.network.no_sync() if more else nullcontext():  # type: ignore[operator]
                    parts = self._losses(
                        batch, self.network, _draw(config.seed, position.step, number, self.group.rank)
                    )
                    if transition is not None:
                        self._share_transition(parts, transition[0][number], transition[1])
                    (parts["total"] * share).backward()  # type: ignore[no-untyped-call]
                rows.append(torch.stack([part.detach() for part in parts.values()]))
            gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
            norm = torch.nn.utils.get_total_norm(gradients)
        except MEMORY_ERRORS as error:
            if not out_of_memory(error):
                raise
            failed = batches[len(rows) if len(rows) < len(batches) else 0]
        if failed is not None:
            # Only here does nothing hold the failed batch's tensors any more, once its losses are given up.
            parts.clear()
            raise self.fitting.too_large(failed)
        own = torch.stack(rows)
        # Who asks to stop is told with the losses: all processes hear of it in one step.
        told = torch.cat([own.double().mean(0), torch.full((1,), float(self.stop.asked), device=own.device).double()])
        told = torch.cat([self.group.total(told) / self.group.world, norm.double()[None]])
        names = [*parts, "asking", "gradient_norm"]
        there = None
        if self.cuda:
            # The optimiser itself skips a step that is no number: who waits for the losses lets the GPU wait.
            self.optimizer.grad_scale = None  # type: ignore[attr-defined]
            self.optimizer.found_inf = 1 - told.isfinite().all().float()  # type: ignore[attr-defined]
            told, there = told.to("cpu", non_blocking=True), torch.cuda.Event()  # type: ignore[no-untyped-call]
            there.record()
        pictures = [batch["name"] for batch in batches]
        return Step(position.step, position.epoch, crops, pictures, own, told, names, self._set_rate(), there)

    def _compiles(self) -> bool:
        """Whether to try to compile the step."""
        config = self.config
        if self.tried:
            return False
        hindrance = None
        if config.copy_paste.mode == "fcp":
            hindrance = "copy_paste.mode fcp changes the network in each step"
        elif config.deterministic:
            hindrance = "deterministic is set, and compiled programs may differ from run to run"
        elif self.group.world > 1:
            hindrance = "several processes train together"
        elif self.model.needs_trimap or self.model.staged:
            hindrance = f"{config.model.name} is trained in stages or sees trimaps"
        if hindrance is not None and config.compile == "on":
            self.say(f"compile: left out, since {hindrance}.")
        self.tried = True
        return pays(config.compile, self.group.device, self.steps - self.position.step, hindrance)

    def _forward(self, moved: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Parts of the loss, as one program."""
        with torch.autocast(self.group.device.type, torch.bfloat16, enabled=self.bfloat16):
            output = self.model(moved["image"])
        return losses_of(self.model, output, moved, self.config.losses)

    def _set_rate(self) -> float:
        """Give the optimiser the learning rate of this step."""
        config, position = self.config, self.position
        rate = rate_at(config.schedule, config.learning_rate, position.step, position.epoch, self.steps, config.epochs)
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = rate
        return rate

    def _tried_loss(self, batch: Batch) -> Tensor:
        """Of a batch of any size, as an ordinary step: a program would be compiled for each."""
        program, self.program = self.program, None
        try:
            return self._losses(batch, self.model, 0)["total"]
        finally:
            self.program = program

    def _losses(self, batch: Batch, network: torch.nn.Module, seed: int) -> dict[str, Tensor]:
        """Parts of the loss of a batch; all that is drawn for it depends on the seed."""
        config, edit = self.config, None
        torch.manual_seed(seed)
        moved = batch["moved"]
        if self.program is not None and network is self.network:
            return self._whole(self.program(_tensors(batch)))
        if config.copy_paste.mode == "fcp" and config.copy_paste.active(self.position.epoch) and self.sources:
            edit = fcp(self.model, moved, self.sources, torch.Generator().manual_seed(seed), config.copy_paste)
        self.model.progress = self.position.step / self.steps
        with torch.autocast(self.group.device.type, torch.bfloat16, enabled=self.bfloat16):
            output = network(moved["image"], edit, *([moved["trimap"]] if self.model.needs_trimap else []))
        return self._whole(losses_of(self.model, output, moved, config.losses))

    def _whole(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """The parts, none of which may have got lost."""
        if lost := sorted(set(self.terms) - set(parts)):
            raise RuntimeError(f"step {self.position.step}: {', '.join(lost)} got lost between loader and loss")
        return parts

    def _share_transition(self, parts: dict[str, Tensor], pixels: int, everywhere: Tensor) -> None:
        """Divide the transition's loss by its pixels in all batches of the step (mean per batch), not in this one.

        A step of several batches, or processes, then has the loss of one large batch. Losses that are means over all
        pixels need no such share.
        """
        if "alpha_t" not in parts:
            return
        before = parts["alpha_t"]
        parts["alpha_t"] = before * ((pixels + 1) / everywhere).to(before.dtype)
        parts["total"] = parts["total"] + self.config.losses.alpha_t * (parts["alpha_t"] - before)

    def _mean(self, value: float) -> Tensor:
        """Mean over the processes, float64."""
        own = torch.full((), value, dtype=torch.float64, device=self.group.device)
        return self.group.total(own) / self.group.world


def _draw(*numbers: int) -> int:
    """A seed that depends on all of some numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _transition_pixels(batch: Batch) -> int:
    """Of a batch on the CPU; numpy counts them in a fiftieth of the time of PyTorch's sum."""
    return int(np.count_nonzero(batch["trimap"].numpy() == UNKNOWN))


def _tensors(batch: Batch) -> dict[str, Tensor]:
    return {kind: value for kind, value in batch["moved"].items() if isinstance(value, Tensor)}
