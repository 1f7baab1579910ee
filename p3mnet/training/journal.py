"""What a run writes down as it goes: tables, TensorBoard, sheets of predictions; each as its watch is told."""

from __future__ import annotations

from collections.abc import Mapping

from p3mdata.base.files import keep_out_of_git
from p3mnet.training.logs import TensorBoard, Watch, sample_sheet, write_picture
from p3mnet.training.selection import Measured
from p3mnet.training.state import EPOCHS, SAMPLES, STEPS, TENSORBOARD, Position, RunFolder, Table
from p3mnet.training.step import Step


class Journal:
    """log.csv, epochs.csv, tensorboard/ and samples/ of a run; rows past the position are taken back.

    Raises:
        RunFolderError: The folder cannot be written (also by the methods).
    """

    def __init__(self, folder: RunFolder, position: Position, watch: Watch) -> None:
        self.folder, self.watch = folder, watch
        with folder.writing():
            self.steps = Table(folder / STEPS, position.step, "step")
            self.epochs = Table(folder / EPOCHS, position.epoch, "epoch")
            self.board = TensorBoard(folder / TENSORBOARD, position.step)
            if self.board.writer is not None:
                keep_out_of_git(folder / TENSORBOARD)
        if self.board.writer is None:
            watch.say(f"TensorBoard is not installed: losses are in {folder / STEPS} only.")

    def step(self, step: Step, losses: Mapping[str, float]) -> None:
        """A step is done."""
        with self.folder.writing():
            self.steps.add({"step": step.number, "epoch": step.epoch, **losses})
        self.board.scalars("loss", losses, step.number)

    def epoch(self, position: Position, pictures: int, means: Mapping[str, float], found: Measured) -> None:
        """An epoch was validated on so many pictures; `found` is what this process saw of them."""
        with self.folder.writing():
            if found.rows:
                sheet = sample_sheet(found.rows)
                (self.folder / SAMPLES).mkdir(exist_ok=True)
                # What the network is validated on may show clear faces.
                keep_out_of_git(self.folder / SAMPLES)
                write_picture(self.folder / SAMPLES / f"epoch-{position.epoch:03d}.png", sheet)
                self.board.picture("samples", sheet, position.step)
            self.epochs.add({"epoch": position.epoch, "step": position.step, "pictures": pictures, **means})
        self.board.scalars("validation", means, position.step)

    def close(self) -> None:
        """Nothing follows."""
        self.board.close()
