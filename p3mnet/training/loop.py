"""The training loop: `train(config, out)`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from p3mdata.base.files import owned_folder
from p3mdata.errors import Interrupted, SettingsError
from p3mnet.copy_paste import ICP
from p3mnet.data import Images
from p3mnet.devices import arithmetic, device_name, gpu_guarded
from p3mnet.loader import Batch, Loader, Workers, make_loader, to_device
from p3mnet.losses import terms_of
from p3mnet.model import folded
from p3mnet.training.config import TrainConfig
from p3mnet.training.feeding import Clock, ahead, loader_processes, loaders_that_fit
from p3mnet.training.journal import Journal
from p3mnet.training.logs import Watch
from p3mnet.training.outset import how_it_computes, open_sources, refuse_idle_pasting, stand, told_at_first
from p3mnet.training.processes import Processes, processes
from p3mnet.training.result import BestEpoch, TrainingRecord
from p3mnet.training.selection import fingerprints_of_files, measure, open_pictures
from p3mnet.training.state import BEST, RunFolder, RunIdentity, digest_of
from p3mnet.training.step import Step, Stepper
from p3mnet.training.stopping import Stop, shielded, stopping


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
            with gpu_guarded("When it is back, run the same command again to go on from the last checkpoint."):
                return run.go()
        except RuntimeError as error:
            if "deterministic implementation" not in str(error):
                raise
            raise SettingsError(
                f"deterministic: {config.model.name} has an operator that a GPU cannot repeat "
                f"({str(error).split(' ', 1)[0]}). Train another network, or without it."
            ) from error


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
        self.sources = open_sources(config)
        self.cuda = group.device.type == "cuda"
        pasting = config.copy_paste.mode == "icp"
        # Pasted faces are pasted into the foreground too, which then has to be there.
        self.training.late = self.cuda and not pasting
        few = self.training.colours == "none" or (self.training.late and self.training.colours == "estimate")
        planes = 6 if few else 12
        wanted = loader_processes(config.workers, group.device)
        self.number, fewer = loaders_that_fit(wanted, planes * config.batch * config.data.size**2)
        if fewer is not None:
            watch.say(fewer)
        self.crossing = torch.cuda.Stream(group.device) if self.cuda else None  # type: ignore[no-untyped-call]
        self.edit = ICP(self.sources, config.copy_paste) if pasting and self.sources else None
        self.workers = Workers(self.training, self.number, config.seed, self.edit, pinned=self.cuda)
        self.batches = len(self._loader(0, 0))
        refuse_idle_pasting(config, self.batches)
        self.identity = RunIdentity(
            seed=config.seed,
            processes=group.world,
            pictures=len(self.training),
            fingerprint=digest_of([*self.training.names, "", *self.validation.names]),
            images=None if images is None else str(images),
            colours=self.training.colours,
        )
        files = fingerprints_of_files(config.dataset, self.training, self.validation, group)
        self.model, optimizer, self.position = stand(
            config, folder, self.identity, files, going_on, group.first, watch.say
        )
        self.terms, self.idle = terms_of(self.model, config.losses, self.training.colours)
        self.model.train().to(group.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.sync_batch_norm:
            group.share_batch_norms(self.model)
        self.stepper = Stepper(
            config, group, self.model, self.position, self.terms, self.sources, self._steps(), stop, self.watch.say
        )
        if optimizer is not None:
            self.stepper.resume(optimizer)
        self.stopped = False
        self.clock = Clock()
        # On a GPU the step before this one, which is logged while this one runs.
        self.pending: Step | None = None
        self.journal: Journal | None = None

    def go(self) -> TrainResult:
        """All epochs that are left."""
        config, position = self.config, self.position
        crops = config.batch * self.group.world
        per_epoch = self.batches * crops
        if self.group.first:
            self.journal = Journal(self.folder, position, self.watch)
        if position.step:
            self.watch.say(f"going on after step {position.step}, in epoch {position.epoch}")
        precision = self.stepper.precision
        self.watch.say(how_it_computes(config, self.group.device, precision, self.number, self.group.world))
        for sentence in told_at_first(config, self.terms, self.idle, self.training.colours, self.sources):
            self.watch.say(sentence)
        self.watch.begin(self._crops(), position.epoch * per_epoch + position.batch * crops)
        try:
            if self.cuda and config.batch > 1:
                self.stepper.fitting.probe(self.training)
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
            if self.journal is not None:
                self.journal.close()
        return self._finish()

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
        batches = ahead(shielded(loader), self.crossing, self._moved)
        while position.batch < self.batches and not self._enough():
            number = min(config.accumulation, self.batches - position.batch)
            with self._counted(number * config.batch * self.group.world):
                with self.clock.waiting("data"):
                    taken = [next(batches) for _ in range(number)]
                self._step(taken)
            position.skipped = sorted({*position.skipped, *loader.bad})
            if self.stopped:
                self._settle()
                raise self._interrupted()
            if position.step % config.checkpoint_every == 0:
                self._save()
        del batches
        # On a GPU the last step is still to be waited for.
        with self._counted(0):
            self._settle()
        last = position.epoch + 1 == config.epochs or self._enough()
        if last or (position.epoch + 1) % config.validation.every == 0:
            self._validate()
        position.epoch, position.batch = position.epoch + 1, 0
        if last or position.epoch % config.validation.every == 0:
            self._save()

    @contextmanager
    def _counted(self, crops: int) -> Iterator[None]:
        """Time inside is this run's, and this call's: that of a step of so many crops, or of none."""
        before = self.clock.spent
        try:
            with self.clock.counting(crops):
                yield
        finally:
            self.position.seconds += self.clock.spent - before

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
        position = self.position
        done = position.epoch * self.batches + position.batch + len(batches)
        step = self.stepper.take(batches, done * self.config.batch * self.group.world)
        if not self.cuda:
            self._log(step)
        self.stepper.optimizer.step()
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

    def _log(self, step: Step) -> None:
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
            raise step.diverged(self.group, losses)
        losses["learning_rate"] = step.rate
        if self.journal is not None:
            self.journal.step(step, losses)
        self.position.losses = losses
        self.watch.step(step.epoch, step.crops, losses)

    def _steps(self) -> int:
        """Steps of the whole run."""
        return max(1, self._crops() // (self.config.batch * self.config.accumulation * self.group.world))

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
        if self.journal is None:
            return
        if better:
            with folder.writing():
                folder.save_best(
                    self.model, epoch=position.epoch, step=position.step, validation=means, seed=config.seed
                )
        self.journal.epoch(position, len(values), means, own)
        measured = ", ".join(f"{name} {mean:.4g}" for name, mean in means.items())
        self.watch.say(f"epoch {position.epoch}: {measured}" + (" (best so far)" if better else ""))

    def _interrupted(self) -> Interrupted:
        return Interrupted(f"Stopped after step {self.position.step}; the same command goes on from there.")

    def _save(self) -> None:
        self._settle()
        if self.group.first:
            self.folder.save(self.model, self.stepper.optimizer, self.position, self.identity)

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
                TrainingRecord(
                    model=config.model.name,
                    seed=config.seed,
                    epochs=config.epochs,
                    steps=position.step,
                    crops_per_step=config.batch * config.accumulation * group.world,
                    best=BestEpoch(BEST, result.epoch, config.validation.metric, result.value),
                    validation_pictures=tuple(self.validation.names),
                    losses=result.losses,
                    terms=tuple(self.terms),
                    left_out=self.idle,
                    colours=self.training.colours,
                    skipped=tuple(result.skipped),
                    seconds=round(position.seconds, 3),
                    images_per_second=round(result.images_per_second, 3),
                    steady_images_per_second=self.clock.steady(),
                    processes=group.world,
                    device=device_name(group.device),
                    precision=self.stepper.precision,
                    deterministic=config.deterministic,
                    compiled=self.stepper.program is not None,
                    workers=self.number,
                    waited=self.clock.shares(),
                    bottleneck=result.bottleneck,
                    torch=torch.__version__,
                )
            )
        return result

    def _bottleneck(self) -> str:
        self.clock.rest()
        cached, compiled = self.config.data.cache is not None, self.stepper.program is not None
        # Colours that are estimated on the GPU cost loaders nothing.
        colours = "late" if self.training.late else self.training.colours
        return self.clock.sentence(self.cuda, self.number, cached, colours, compiled)
