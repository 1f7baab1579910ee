"""The training loop: `train(config, out)`."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from p3mdata.base.files import owned_folder
from p3mdata.errors import Interrupted, P3MError, SettingsError
from p3mdata.imaging.trimap import UNKNOWN
from p3mnet.checkpoint import load_initial
from p3mnet.copy_paste import ICP, Sources, fcp
from p3mnet.create import create_model
from p3mnet.data import Images, seeded
from p3mnet.devices import arithmetic, device_name
from p3mnet.fingerprints import fingerprints_of
from p3mnet.image_files import BadFile
from p3mnet.loader import Batch, Loader, Workers, collate, make_loader, to_device
from p3mnet.losses import losses_of, terms_of
from p3mnet.memory import MEMORY_ERRORS, out_of_memory
from p3mnet.model import MattingNetwork, folded
from p3mnet.registry import RANDOM
from p3mnet.training.compiled import Forward, compiled, pays
from p3mnet.training.config import TrainConfig
from p3mnet.training.feeding import Clock, ahead, loader_processes
from p3mnet.training.fitting import estimated, largest_that_fits
from p3mnet.training.logs import TensorBoard, Watch, sample_sheet, write_picture
from p3mnet.training.optimizing import make_optimizer, rate_at
from p3mnet.training.processes import Processes, processes
from p3mnet.training.selection import measure, open_pictures
from p3mnet.training.state import BEST, EPOCHS, SAMPLES, STEPS, TENSORBOARD, Position, RunFolder, Table, digest_of
from p3mnet.training.stopping import Stop, shielded, stopping

_COLOURS = {
    "files": "the dataset's files",
    "estimate": "estimated on each crop",
    "whole": "estimated once on whole pictures, kept in data.cache",
}
# File names in a sentence.
_NAMED = 8
# Pictures that are tried for one that can be read, to see what a crop takes; how much larger than the batch the
# estimate must be to be believed without a try.
_PROBED, _SURE = 8, 1.3


class Diverged(P3MError):
    """The loss or its gradient is no longer a number."""


class BatchTooLarge(P3MError):
    """Memory does not hold a batch."""


@dataclass(frozen=True)
class TrainResult:
    """A finished run.

    Attributes:
        best: Checkpoint of the best epoch, for `p3mnet.infer`.
        epoch: Number of that epoch, from 0.
        value: Its mean of the metric of the selection.
        steps: Optimiser steps.
        losses: Parts of the loss of the last step.
        terms: Parts that counted in every step.
        skipped: Pictures of the training set that could not be used.
        images_per_second: Crops per second of training, over all processes, without validation.
        bottleneck: What this call's steps waited for, and what to change.
    """

    best: Path
    epoch: int
    value: float
    steps: int
    losses: dict[str, float]
    terms: list[str]
    skipped: list[str]
    images_per_second: float
    bottleneck: str


@dataclass(frozen=True)
class _Step:
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


def train(
    config: TrainConfig,
    out: Path,
    resume: bool = True,
    watch: Watch | None = None,
    images: Images | None = None,
) -> TrainResult:
    """Train a network, or go on where an interrupted call ended.

    After SIGTERM or Ctrl-C the step is finished and a checkpoint written. What is drawn at random depends on the seed
    and the step alone: a run that was interrupted comes to the losses, and on a CPU the bits, of one that was not.
    Several processes that torchrun started train together; the batch is that of each.

    Args:
        config: What to do.
        out: A new folder, or that of an interrupted run; see `p3mnet.training.state.RunFolder` for what is in it.
        resume: False refuses an interrupted run.
        watch: Told how it goes.
        images: See `p3mnet.data.TrainingSet`; its name, as `str` gives it, must be the same when a run goes on.

    Returns:
        What came out, as in result.json.

    Raises:
        SettingsError: A setting cannot be used, or the dataset has too few pictures.
        SetupError: Weights are missing or of another network.
        RunFolderError: The folder holds something else or a finished run, or cannot be written.
        Diverged: Loss or gradient is not finite; the sentence names the pictures.
        BatchTooLarge: Memory does not suffice; the sentence says which batch fits.
        Interrupted: The run was asked to stop. The same call goes on.
    """
    folder = RunFolder(out)
    with ExitStack() as stack:
        group, stop = stack.enter_context(processes(config.device)), stack.enter_context(stopping())
        stack.enter_context(arithmetic(group.device, config.precision != "float32", config.deterministic))
        going_on = folder.check(config, resume)
        group.wait()
        if group.first:
            stack.enter_context(owned_folder(out))
        run = _Run(config, folder, group, stop, (watch or Watch()) if group.first else Watch(), going_on, images)
        try:
            return run.go()
        except RuntimeError as error:
            if "deterministic implementation" not in str(error):
                raise
            raise SettingsError(
                f"deterministic: {config.model.name} has an operator that a GPU cannot repeat "
                f"({str(error).split(' ', 1)[0]}). Train another network, or without it."
            ) from error


def _draw(*numbers: int) -> int:
    """A seed that depends on all of some numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _transition_pixels(batch: Batch) -> int:
    """Of a batch on the CPU; numpy counts them in a fiftieth of the time of PyTorch's sum."""
    return int(np.count_nonzero(batch["trimap"].numpy() == UNKNOWN))


class _Run:
    """One call of `train`."""

    def __init__(
        self,
        config: TrainConfig,
        folder: RunFolder,
        group: Processes,
        stop: Stop,
        watch: Watch,
        going_on: bool,
        images: Images | None = None,
    ) -> None:
        self.config, self.folder, self.group, self.stop, self.watch = config, folder, group, stop, watch
        self.training, self.validation = open_pictures(config, images)
        pasting = config.copy_paste
        groups = pasting.source_groups if pasting.mode != "none" else None
        self.sources = None if config.sources is None else Sources(config.sources, config.source_images, groups)
        if self.sources is not None and pasting.mode != "none" and pasting.match != "none":
            # What is missing is told before the first epoch that pastes.
            self.sources.matcher()
        self.cuda = group.device.type == "cuda"
        self.number = loader_processes(config.workers, group.device)
        self.edit = ICP(self.sources, config.copy_paste) if config.copy_paste.mode == "icp" and self.sources else None
        self.workers = Workers(self.training, self.number, config.seed, self.edit, pinned=self.cuda)
        self.batches = len(self._loader(0, 0))
        self.about = {
            "seed": config.seed,
            "processes": group.world,
            "pictures": len(self.training),
            "fingerprint": digest_of([*self.training.names, "", *self.validation.names]),
            "images": None if images is None else str(images),
            "colours": self.training.colours,
        }
        self.position = Position()
        state: dict[str, Any] | None = None
        files = self._files()
        if going_on:
            self.model, state, self.position = folder.load(config, self.about)
            folder.compare(files)
        else:
            torch.manual_seed(config.seed)
            self.model = self._fresh()
            if group.first:
                folder.begin(config, files)
        if config.copy_paste.mode == "fcp" and not self.model.pastes_features:
            raise SettingsError(f"copy_paste.mode: {config.model.name} takes no pasted features; choose icp or none.")
        self.terms, self.idle = terms_of(self.model, config.losses, self.training.colours)
        self.model.train().to(group.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.sync_batch_norm:
            group.share_batch_norms(self.model)
        self.network = group.wrap(self.model)
        self.optimizer = make_optimizer(config.optimizer, self.model.parameters(), config.learning_rate, self.cuda)
        if state is not None:
            self.optimizer.load_state_dict(state)
        wanted = config.precision
        self.bfloat16 = wanted == "bfloat16" or (wanted == "auto" and self.cuda)
        self.stopped = False
        self.clock = Clock()
        # On a GPU the step before this one, which is logged while this one runs.
        self.pending: _Step | None = None
        self.program: Forward | None = None
        self.tried = False
        # Seconds of this call's steps.
        self.spent = 0.0

    def _fresh(self) -> MattingNetwork:
        """The network as training begins."""
        given = self.config.model.model_dump()
        if self.config.initial_weights is None:
            return create_model(**given)
        model = create_model(**given | {"encoder_weights": RANDOM})
        self.watch.say(f"initial weights: {load_initial(model, self.config.initial_weights)}")
        return model

    def _files(self) -> dict[str, str]:
        """Fingerprints of all files of the pictures by path below the dataset; each process reads its part."""
        root = self.config.dataset
        pictures = [*self.training.files, *self.validation.files]
        # Images that stand in for the dataset's are their giver's to answer for.
        skipped = set() if self.training.images is None else {"image"}
        paths = sorted({path for files in pictures for kind, path in files.items() if kind not in skipped})
        mine = paths[self.group.rank :: self.group.world]
        own = {path.relative_to(root).as_posix(): mark for path, mark in zip(mine, fingerprints_of(mine), strict=True)}
        return {path: mark for part in self.group.gather(own) for path, mark in part.items()}

    def go(self) -> TrainResult:
        """All epochs that are left."""
        config, position = self.config, self.position
        crops = config.batch * self.group.world
        per_epoch = self.batches * crops
        if self.group.first:
            with self.folder.writing():
                self.steps = Table(self.folder / STEPS, position.step, "step")
                self.epochs = Table(self.folder / EPOCHS, position.epoch, "epoch")
                self.board = TensorBoard(self.folder / TENSORBOARD, position.step)
            if self.board.writer is None:
                self.watch.say(f"TensorBoard is not installed: losses are in {self.folder / STEPS} only.")
        for sentence in self._about_losses():
            self.watch.say(sentence)
        self.watch.begin(self._crops(), position.epoch * per_epoch + position.batch * crops)
        try:
            if self.cuda and config.batch > 1:
                self._probe()
            while position.epoch < config.epochs and not (self._enough() and position.batch == 0):
                self._epoch()
            self.folder.written()
        except Interrupted:
            self._save()
            self.folder.written()
            raise
        finally:
            self.workers.close()
            self.watch.end()
            if self.group.first:
                self.board.close()
        return self._finish()

    def _about_losses(self) -> Iterator[str]:
        """What counts in the loss, and what does not."""
        yield f"terms of the loss: {', '.join(self.terms)}"
        if "composition" in self.terms:
            yield f"colours of the composition: {_COLOURS[self.training.colours]}"
        for name, why in self.idle.items():
            yield f"left out of the loss: {name} ({why})"

    def _enough(self) -> bool:
        """Whether all steps that were asked for are done."""
        return self.config.steps is not None and self.position.step >= self.config.steps

    def _crops(self) -> int:
        """Crops of the whole run, over all processes."""
        config, crops = self.config, self.config.batch * self.group.world
        whole = config.epochs * self.batches * crops
        return whole if config.steps is None else min(whole, config.steps * config.accumulation * crops)

    def _epoch(self) -> None:
        """The rest of an epoch, and its validation."""
        config, position = self.config, self.position
        loader = self._loader(position.epoch, position.batch)
        batches = ahead(shielded(loader), self.group.device, self._moved)
        while position.batch < self.batches and not self._enough():
            begun = time.monotonic()
            number = min(config.accumulation, self.batches - position.batch)
            with self.clock.waiting("data"):
                taken = [next(batches) for _ in range(number)]
            self._step(taken)
            position.seconds += time.monotonic() - begun
            self.spent += time.monotonic() - begun
            position.skipped = sorted({*position.skipped, *loader.bad})
            if self.stopped:
                self._settle()
                raise self._interrupted()
            if position.step % config.checkpoint_every == 0:
                self._save()
        del batches
        self._settle()
        last = position.epoch + 1 == config.epochs or self._enough()
        if last or (position.epoch + 1) % config.validation.every == 0:
            self._validate()
        position.epoch, position.batch = position.epoch + 1, 0
        if last or position.epoch % config.validation.every == 0:
            self._save()

    def _loader(self, epoch: int, start: int) -> Loader:
        config, group = self.config, self.group
        edit = self.edit if config.copy_paste.active(epoch) else None
        return make_loader(
            self.training, config.batch, self.workers, config.seed, epoch, group.rank, group.world, start, edit
        )

    def _moved(self, batch: Batch) -> Batch:
        return to_device(batch, self.group.device)

    def _step(self, batches: list[Batch]) -> None:
        """One step of the optimiser, on the mean loss of its batches."""
        config, position, share = self.config, self.position, 1 / len(batches)
        rows: list[Tensor] = []
        failed: Batch | None = None
        # A single batch is all that its pixels are shared among.
        transition = None
        if len(batches) > 1 or self.group.world > 1:
            # Of all batches of the step, per batch; with the 1 that the loss adds to their sum.
            pixels = [_transition_pixels(batch) for batch in batches]
            transition = pixels, self._mean((sum(pixels) + 1 / self.group.world) * share)
        try:
            if self.program is None and self._compiles():
                self.program = compiled(self._forward, self.model, self._tensors(batches[0]), self.watch.say)
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
            # Only here does nothing hold the failed batch's tensors any more.
            raise self._too_large(failed)
        own = torch.stack(rows)
        # Who asks to stop is told with the losses: all processes hear of it in one step.
        told = torch.cat([own.double().mean(0), torch.full((1,), float(self.stop.asked), device=own.device).double()])
        told = torch.cat([self.group.total(told) / self.group.world, norm.double()[None]])
        names = [*parts, "asking", "gradient_norm"]
        crops = config.batch * self.group.world
        there = None
        if self.cuda:
            # The optimiser itself skips a step that is no number: who waits for the losses lets the GPU wait.
            self.optimizer.grad_scale = None  # type: ignore[attr-defined]
            self.optimizer.found_inf = 1 - told.isfinite().all().float()  # type: ignore[attr-defined]
            told, there = told.to("cpu", non_blocking=True), torch.cuda.Event()  # type: ignore[no-untyped-call]
            there.record()
        done = (position.epoch * self.batches + position.batch + len(batches)) * crops
        pictures = [batch["name"] for batch in batches]
        step = _Step(position.step, position.epoch, done, pictures, own, told, names, self._set_rate(), there)
        if not self.cuda:
            self._log(step)
        self.optimizer.step()
        position.step += 1
        position.batch += len(batches)
        if self.cuda:
            before, self.pending = self.pending, step
            if before is not None:
                self._log(before)
            # A signal is answered after this step, as without a GPU.
            self.stopped = self.stopped or (self.group.world == 1 and self.stop.asked)

    def _settle(self) -> None:
        """Log the step that is still to be logged."""
        step, self.pending = self.pending, None
        if step is not None:
            self._log(step)

    def _log(self, step: _Step) -> None:
        """Wait for a step's losses, and write them down.

        Raises:
            Diverged: One is no number.
        """
        if step.there is not None:
            with self.clock.waiting("device"):
                step.there.synchronize()
        losses = dict(zip(step.names, step.told.tolist(), strict=True))
        asking = losses.pop("asking")
        self.stopped = self.stopped or asking > 0
        if not all(map(math.isfinite, losses.values())):
            raise self._diverged(step, losses)
        losses["learning_rate"] = step.rate
        if self.group.first:
            with self.folder.writing():
                self.steps.add({"step": step.number, "epoch": step.epoch, **losses})
            self.board.scalars("loss", losses, step.number)
        self.position.losses = losses
        self.watch.step(step.epoch, step.crops, losses)

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
            self.watch.say(f"compile: left out, since {hindrance}.")
        self.tried = True
        return pays(config.compile, self.group.device, self._steps() - self.position.step, hindrance)

    @staticmethod
    def _tensors(batch: Batch) -> dict[str, Tensor]:
        return {kind: value for kind, value in batch["moved"].items() if isinstance(value, Tensor)}

    def _forward(self, moved: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Parts of the loss, as one program."""
        with torch.autocast(self.group.device.type, torch.bfloat16, enabled=self.bfloat16):
            output = self.model(moved["image"])
        return losses_of(self.model, output, moved, self.config.losses)

    def _set_rate(self) -> float:
        """Give the optimiser the learning rate of this step."""
        config, position = self.config, self.position
        rate = rate_at(
            config.schedule, config.learning_rate, position.step, position.epoch, self._steps(), config.epochs
        )
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = rate
        return rate

    def _steps(self) -> int:
        """Steps of the whole run."""
        return max(1, self._crops() // (self.config.batch * self.config.accumulation * self.group.world))

    def _losses(self, batch: Batch, network: torch.nn.Module, seed: int) -> dict[str, Tensor]:
        """Parts of the loss of a batch; all that is drawn for it depends on the seed."""
        config, edit = self.config, None
        torch.manual_seed(seed)
        moved = batch["moved"]
        if self.program is not None and network is self.network:
            return self._whole(self.program(self._tensors(batch)))
        if config.copy_paste.mode == "fcp" and config.copy_paste.active(self.position.epoch) and self.sources:
            edit = fcp(self.model, moved, self.sources, torch.Generator().manual_seed(seed), config.copy_paste)
        self.model.progress = self.position.step / self._steps()
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

    def _diverged(self, step: _Step, losses: Mapping[str, float]) -> Diverged:
        """What to say when something is not finite, with the pictures of the batches where it is so, if it is known."""
        wrong = [pictures for pictures, row in zip(step.pictures, step.rows, strict=True) if not row.isfinite().all()]
        found = self.group.gather([name for pictures in wrong for name in pictures])
        if not any(found):
            found = self.group.gather([name for pictures in step.pictures for name in pictures])
        names = [name for names in found for name in names]
        parts = ", ".join(name for name, value in losses.items() if not math.isfinite(value))
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        return Diverged(
            f"step {step.number}: {parts} not finite with the pictures {', '.join(names[:_NAMED])}{more}. "
            "Look at these, or take a smaller learning_rate; the last checkpoint is from before."
        )

    def _probe(self) -> None:
        """Say at once, before a batch is loaded, that memory does not hold one, seen from copies of one crop.

        Raises:
            BatchTooLarge: It does not.
        """
        for number in range(min(len(self.training), _PROBED)):
            try:
                sample = {**self.training.sample(number, seeded(self.config.seed, number)), "bad": []}
                break
            except BadFile:
                # Told when its turn comes.
                continue
        else:
            return
        crop = collate([sample])
        assert isinstance(crop, dict)
        self.model.eval()
        if (guess := estimated(self.group.device, lambda size: self._fits(crop, size))) is not None:
            wanted = self.config.batch
            if guess < _SURE * wanted and not self._fits(crop, wanted):
                raise self._too_large(crop, guess)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)

    def _too_large(self, batch: Batch, estimate: int | None = None) -> BatchTooLarge:
        """What to say when memory does not suffice: the largest half, quarter, ... of the batch that it holds."""
        # Batch statistics would have to be shared with processes that do not take part.
        self.model.eval()
        whole = self.config.batch
        size = largest_that_fits(whole, lambda size: self._fits(batch, size), estimate)
        if size is None:
            return BatchTooLarge(
                "Memory does not hold a single crop: make data.size smaller, or take a smaller network."
            )
        steps = math.ceil(whole / size) * self.config.accumulation
        return BatchTooLarge(
            f"Memory does not hold a batch of {whole}, but one of {size}: set batch to {size} and accumulation to "
            f"{steps} for steps of the same size."
        )

    def _fits(self, batch: Batch, size: int) -> bool:
        """Whether a step on so many copies of a batch's first crop is possible, with what the optimiser will keep."""
        self.optimizer.zero_grad(set_to_none=True)
        if self.cuda:
            torch.cuda.empty_cache()
        try:
            kept = [] if self.optimizer.state else [torch.empty_like(p) for p in self.model.parameters() for _ in "mv"]
            copies = {
                kind: value[:1].expand(size, *value.shape[1:]) if isinstance(value, Tensor) else value[:1] * size
                for kind, value in batch.items()
                if kind != "moved"
            }
            copies["moved"] = self._moved(copies)
            self._losses(copies, self.model, 0)["total"].backward()  # type: ignore[no-untyped-call]
            del kept, copies
        except MEMORY_ERRORS as error:
            if not out_of_memory(error):
                raise
            return False
        return True

    def _validate(self) -> None:
        """Mean errors on the validation pictures; keeps the network if it is the best so far."""
        config, position, folder = self.config, self.position, self.folder
        mine = range(self.group.rank, len(self.validation), self.group.world)
        samples = config.samples if self.group.first else 0
        network = folded(self.model)
        own = measure(network, self.validation, mine, config.validation, samples, lambda: self.stop.asked)
        del network
        told = self.group.gather((own.errors, [*position.skipped, *own.skipped], self.stop.asked))
        position.skipped = sorted({sentence for _, skipped, _ in told for sentence in skipped})
        if any(asked for *_, asked in told):
            # Validation begins anew with the next call.
            raise self._interrupted()
        values = dict(sorted(item for by_index, *_ in told for item in by_index.items()))
        if not values:
            raise SettingsError(f"No validation picture can be used: {position.skipped[0]}")
        means = {name: float(np.mean([row[name] for row in values.values()])) for name in next(iter(values.values()))}
        value = means[config.validation.metric]
        better = position.best is None or value < position.best
        if better:
            position.best, position.best_epoch = value, position.epoch
        if not self.group.first:
            return
        with folder.writing():
            if better:
                folder.save_best(
                    self.model, epoch=position.epoch, step=position.step, validation=means, seed=config.seed
                )
            if own.rows:
                sheet = sample_sheet(own.rows)
                write_picture(folder / SAMPLES / f"epoch-{position.epoch:03d}.png", sheet)
                self.board.picture("samples", sheet, position.step)
            self.epochs.add({"epoch": position.epoch, "step": position.step, "pictures": len(values), **means})
        self.board.scalars("validation", means, position.step)
        measured = ", ".join(f"{name} {mean:.4g}" for name, mean in means.items())
        self.watch.say(f"epoch {position.epoch}: {measured}" + (" (best so far)" if better else ""))

    def _interrupted(self) -> Interrupted:
        return Interrupted(f"Stopped after step {self.position.step}; the same command goes on from there.")

    def _save(self) -> None:
        self._settle()
        if self.group.first:
            self.folder.save(self.model, self.optimizer, self.position, self.about)

    def _finish(self) -> TrainResult:
        config, position, group = self.config, self.position, self.group
        assert position.best is not None and position.best_epoch is not None
        result = TrainResult(
            self.folder / BEST, position.best_epoch, position.best, position.step, position.losses, self.terms,
            position.skipped,
            self._crops() / max(position.seconds, 1e-9), self._bottleneck(),
        )  # fmt: skip
        if group.first:
            self.folder.finish(
                {
                    "model": config.model.name,
                    "seed": config.seed,
                    "epochs": config.epochs,
                    "steps": position.step,
                    "crops_per_step": config.batch * config.accumulation * group.world,
                    "best": {"checkpoint": BEST, "epoch": result.epoch, config.validation.metric: result.value},
                    "validation_pictures": self.validation.names,
                    "losses": result.losses,
                    "terms": self.terms,
                    "left_out": self.idle,
                    "colours": self.training.colours,
                    "skipped": result.skipped,
                    "seconds": round(position.seconds, 3),
                    "images_per_second": round(result.images_per_second, 3),
                    "processes": group.world,
                    "device": device_name(group.device),
                    "precision": self._precision(),
                    "deterministic": config.deterministic,
                    "compiled": self.program is not None,
                    "workers": self.number,
                    "waited": self.clock.shares(),
                    "bottleneck": result.bottleneck,
                    "torch": torch.__version__,
                }
            )
        return result

    def _precision(self) -> str:
        if self.bfloat16:
            return "bfloat16"
        return "tf32" if self.cuda and self.config.precision == "tf32" else "float32"

    def _bottleneck(self) -> str:
        self.clock.rest(self.spent)
        data = self.config.data
        about = {"cache": data.cache, "colours": self.training.colours, "compiled": self.program is not None}
        return self.clock.sentence(self.cuda, self.number, about)
