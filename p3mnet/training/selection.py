"""Pictures to train on, pictures to choose the best epoch by, and the errors on the latter."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p3mdata.base.files import sha256
from p3mdata.errors import SettingsError
from p3mnet import metrics
from p3mnet.copy_paste.groups import groups_of
from p3mnet.data import Images, TrainingSet, ValidationSet
from p3mnet.fingerprints import fingerprints_of
from p3mnet.image_files import BadFile
from p3mnet.memory import MEMORY_ERRORS, out_of_memory
from p3mnet.model import MattingNetwork
from p3mnet.predict import predict_alpha, to_8_bit
from p3mnet.registry import WITHOUT_COLOURS
from p3mnet.training.config import Selection, TrainConfig
from p3mnet.training.logs import sample_row
from p3mnet.training.processes import Processes

# Published test sets: a network that was chosen by them has no figures that compare.
TEST_SETS = frozenset({"P3M-500-P", "P3M-500-NP", "RWP-636"})
_SEEN = ("image", "alpha")


class HeldOut(ValidationSet):
    """Whole pictures that were taken out of a training set."""

    def __init__(self, names: list[str], files: list[dict[str, Path]], images: Images | None) -> None:
        self.names, self.images = names, images
        self.files = [{kind: paths[kind] for kind in _SEEN} for paths in files]


def hold_out(training: TrainingSet, share: float, seed: int) -> HeldOut:
    """Take a share of a training set, at least one picture, out of it; which ones depends on names and seed only.

    Near-duplicates, series and persons, as far as the dataset's manifest knows them, are held out whole: a network must
    not be chosen by pictures whose twins it was trained on.

    Raises:
        SettingsError: No picture would be left to train on.
    """
    number = max(1, round(share * len(training.names)))
    members: dict[int | str, list[str]] = {}
    for name in training.names:
        members.setdefault(training.groups.get(name, name), []).append(name)
    if number >= len(training.names) or len(members) == 1:
        alike = ", which are one group of near-duplicates or of one person," if len(members) == 1 else ""
        raise SettingsError(
            f"{len(training.names)} pictures{alike} are too few to train on some and validate on others: add pictures, "
            "or name a set of the dataset with validation.set."
        )
    digests = {name: sha256(f"{seed}/{name}".encode("utf-8", "surrogateescape")) for name in training.names}
    held: set[str] = set()
    by_hash = sorted(members.values(), key=lambda names: min(digests[name] for name in names))
    for group in by_hash:
        if len(held) + len(group) <= number:
            held.update(group)
    if not held:
        smallest = min(by_hash, key=len)
        held.update(smallest)
    pairs = list(zip(training.names, training.files, strict=True))
    training.names = [name for name, _ in pairs if name not in held]
    training.files = [files for name, files in pairs if name not in held]
    out = [(name, files) for name, files in pairs if name in held]
    return HeldOut([name for name, _ in out], [files for _, files in out], training.images)


def know_people(training: TrainingSet, config: TrainConfig) -> None:
    """Have a set tell what matched copy-and-paste wants of its pictures: poses, and groups of people.

    Raises:
        SettingsError: They are not known.
    """
    pasting = config.copy_paste
    if pasting.mode == "none":
        return
    if pasting.match != "none":
        training.know_poses(config.dataset)
    if pasting.target_groups is not None:
        groups = groups_of(pasting.target_groups, [(name,) for name in training.names])
        training.people = dict(zip(training.names, groups, strict=True))


def open_pictures(config: TrainConfig, images: Images | None = None) -> tuple[TrainingSet, ValidationSet]:
    """What a run trains on, and what its best epoch is chosen by; they share no picture.

    `images` stand in for those of the training set, also where they are held out of it.

    Raises:
        SettingsError: There are no such sets, no pictures in them, or the choice would be made on a test set.
    """
    # A loss without composition wants no colours. Facemasks are read by all, for they are cut out of trimaps: labels
    # must not depend on whether faces are pasted.
    wanted = {"colours": "none"} if config.model.name in WITHOUT_COLOURS else {}
    training = TrainingSet(config.dataset, config.training_set, config.data.model_copy(update=wanted), images)
    mode = config.copy_paste.mode
    if mode != "none" and not any("facemask" in files for files in training.files):
        raise SettingsError(
            f"{config.dataset}: its training set has no facemasks"
            + ("" if config.data.facemask else " that are read (data.facemask is false)")
            + f", so that copy_paste.mode {mode} would paste nothing. Add them, or choose none."
        )
    know_people(training, config)
    name = config.validation.set
    if name is None:
        return training, hold_out(training, config.validation.share, config.seed)
    if name in TEST_SETS:
        raise SettingsError(
            f"validation.set: {name} is a test set, the best epoch must not be chosen by it. Leave it out, so that a "
            "share of the training set is held out."
        )
    validation = ValidationSet(config.dataset, name)
    if {files["image"] for files in validation.files} & {files["image"] for files in training.files}:
        raise SettingsError(f"validation.set: {name} is trained on. Leave it out, or name another set.")
    return training, validation


def fingerprints_of_files(
    root: Path, training: TrainingSet, validation: ValidationSet, group: Processes
) -> dict[str, str]:
    """Fingerprints of all files of the pictures by path below the dataset; each process reads its part."""
    pictures = [*training.files, *validation.files]
    # Images that stand in for the dataset's are their giver's to answer for.
    skipped = set() if training.images is None else {"image"}
    paths = sorted({path for files in pictures for kind, path in files.items() if kind not in skipped})
    mine = paths[group.rank :: group.world]
    own = {path.relative_to(root).as_posix(): mark for path, mark in zip(mine, fingerprints_of(mine), strict=True)}
    return {path: mark for part in group.gather(own) for path, mark in part.items()}


@dataclass
class Measured:
    """Errors of a network on validation pictures.

    Attributes:
        errors: By index of the picture, then by name of the metric.
        skipped: Sentences about pictures that could not be used.
        rows: The first pictures with their mattes, see `sample_row`.
    """

    errors: dict[int, dict[str, float]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    rows: list[NDArray[np.uint8]] = field(default_factory=list)


def measure(
    model: MattingNetwork,
    pictures: ValidationSet,
    indices: Iterable[int],
    how: Selection,
    samples: int,
    stopped: Callable[[], bool],
) -> Measured:
    """Errors of 8-bit predictions on some of the pictures.

    Args:
        model: In eval mode.
        pictures: All of them.
        indices: Which to look at.
        how: Mode and size of the prediction.
        samples: How many rows to make for a person to look at.
        stopped: Asked before each picture; the rest is left when it says so.

    Raises:
        SettingsError: Memory does not hold a picture.
    """
    found = Measured()
    for index in indices:
        if stopped():
            break
        try:
            item = pictures[index]
            rgb = item["image"].permute(1, 2, 0).numpy()
            truth, trimap = item["alpha"][0].numpy(), item["trimap"][0].numpy()
            alpha = predict_alpha(model, rgb, how.mode, how.max_side, trimap)
        except BadFile as error:
            found.skipped.append(str(error))
            continue
        except MEMORY_ERRORS as error:
            if not out_of_memory(error):
                raise
            raise SettingsError(
                f"{pictures.names[index]}: memory does not suffice to validate it. Make validation.max_side smaller."
            ) from error
        predicted = to_8_bit(alpha)
        found.errors[index] = {
            "SAD": metrics.sad(predicted, truth),
            "MSE": metrics.mse(predicted, truth),
            "MAD": metrics.mad(predicted, truth),
            "SAD_T": metrics.sad_t(predicted, truth, trimap),
        }
        if len(found.rows) < samples:
            found.rows.append(sample_row(rgb, truth.astype(np.float32) / 255, alpha))
    return found
