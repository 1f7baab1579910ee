"""What a train-check shall do: settings, and the two sizes it comes in. Pure, and without torch."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Literal

from p3mdata.config import Method
from p3mdata.errors import SettingsError
from p3mdata.typing import Json

# N:B is not in the paper's tables, but in its authors' figures.
PROTOCOLS = ("B:B", "B:N", "N:N", "N:B")
# Networks by the name of --variant: arguments of `p3mnet.registry.create_model`. Those between basic and resnet34 are
# the rows of table 7.
VARIANTS: dict[str, Json] = {
    "resnet34": {"name": "p3mnet_resnet34"},
    "swin_t": {"name": "p3mnet_swin_t"},
    "vitae_s": {"name": "p3mnet_vitae_s"},
    "basic": {"name": "p3mnet_resnet34", "tfi": False, "sbfi": False, "dbfi": False},
    "tfi": {"name": "p3mnet_resnet34", "sbfi": False, "dbfi": False},
    "tfi-sbfi": {"name": "p3mnet_resnet34", "dbfi": False},
    "tfi-dbfi": {"name": "p3mnet_resnet34", "sbfi": False},
    "gfm": {"name": "gfm_resnet34"},
    "modnet": {"name": "modnet"},
}
# Steps from which a training is long enough for the paper's learning rate, which took 176,000: Adam moves a weight by
# about the rate in a step, and a decoder's first weights lie at a few hundredths.
SHORT = 20_000
_UNITS = {"s": 1, "m": 60, "h": 3600}


class Scale(str, Enum):
    """How much a train-check is worth: see `recipe`."""

    AUTO = "auto"
    SMOKE = "smoke"
    FULL = "full"

    @property
    def words(self) -> str:
        return "smoke check, not a benchmark" if self is Scale.SMOKE else "benchmark"


@dataclass(frozen=True)
class TrainCheckSettings:
    """Settings of a train-check.

    Attributes:
        variant: Network, one of `VARIANTS`.
        scale: smoke or full; auto is full where there is a GPU.
        budget: Seconds for all trainings and tests together; None takes the scale's.
        epochs: Instead of a budget: epochs of each training.
        protocols: Of `PROTOCOLS`, trained on : tested on, B as in the dataset, N as photographed; None takes all that
            the data allow.
        methods: Obfuscations to compare, rendered from the originals: what the network of B is tested on.
        each_method: Also train a network on each of them.
        originals: Folder of the photographs the dataset was made of; only read.
        secret_file: `private/secret` of the run: finds photographs that have another name than the picture.
        seeds: Trainings of each kind; they differ in weights, order and crops.
        tolerance: Cost of anonymization that passes, as a share of the error of N:N.
        copy_paste: none, icp or fcp, for the trainings on obfuscated images.
        faces: Facemasks of faces that may be pasted, from celeba-facemask.
        encoder_weights: ImageNet weights for scale full: hub, a file, or random.
        most_tested: Largest number of pictures of each validation set that are tested; None takes all that fit.
        device: auto, cpu, cuda or cuda:N.
        workers: Processes; 0 chooses.
        overwrite: Begin anew in a folder that holds a train-check of other settings or of another state of the dataset.
    """

    variant: str = "resnet34"
    scale: Scale = Scale.AUTO
    budget: float | None = None
    epochs: int | None = None
    protocols: tuple[str, ...] | None = None
    methods: tuple[Method, ...] = ()
    each_method: bool = False
    originals: Path | None = None
    secret_file: Path | None = None
    seeds: int = 3
    tolerance: float = 0.1
    copy_paste: str = "none"
    faces: Path | None = None
    encoder_weights: str = "hub"
    most_tested: int | None = None
    device: str = "auto"
    workers: int = 0
    overwrite: bool = False

    def check(self) -> None:
        """Raise SettingsError where settings cannot be."""
        if self.variant not in VARIANTS:
            raise SettingsError(f"--variant {self.variant}: must be one of {', '.join(VARIANTS)}.")
        if self.each_method and not self.methods:
            raise SettingsError("--each-method goes with --methods, which names the obfuscations.")
        if unknown := [name for name in self.protocols or () if name not in PROTOCOLS]:
            raise SettingsError(
                f"--protocols {unknown[0]}: must be of {','.join(PROTOCOLS)}, trained on : tested on, B as in the "
                "dataset, N as photographed."
            )
        if self.budget is not None and self.epochs is not None:
            raise SettingsError("--budget and --epochs both say how long to train. Give one of them.")
        if (self.copy_paste != "none") != (self.faces is not None):
            raise SettingsError("--cp and --faces go together: icp or fcp, and a folder of celeba-facemask.")
        if self.copy_paste not in ("none", "icp", "fcp"):
            raise SettingsError(f"--cp {self.copy_paste}: must be icp or fcp.")
        if self.seeds < 1 or (self.epochs is not None and self.epochs < 1):
            raise SettingsError("--seeds and --epochs must be at least 1.")
        normal = [name for name in self.protocols or () if name.startswith("N")]
        if self.originals is None and (self.methods or normal):
            what = f"{normal[0]} trains on" if not self.methods else "--methods renders obfuscations from"
            raise SettingsError(f"{what} the photographs themselves: give --originals DIR.")

    def with_workers(self, number: int) -> TrainCheckSettings:
        """The same with a number of worker processes."""
        return replace(self, workers=number)

    def to_json(self) -> Json:
        """What of it a run is made with: without what changes nothing but speed, and without paths of photographs."""
        row = asdict(self) | {"originals": self.originals is not None, "scale": self.scale.value}
        row |= {"methods": [method.value for method in self.methods], "faces": self.faces is not None}
        if row["encoder_weights"] not in ("hub", "random"):
            row["encoder_weights"] = "file"
        row["protocols"] = None if self.protocols is None else list(self.protocols)
        return {
            key: value for key, value in row.items() if key not in ("device", "workers", "overwrite", "secret_file")
        }


def seconds_of(budget: str) -> float:
    """'90', '90s', '15m' or '1.5h' in seconds.

    Raises:
        SettingsError: It is written otherwise, or is nothing.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", budget.strip())
    if found is None or not float(found[1]):
        raise SettingsError(f"--budget {budget}: must be a time such as 90s, 15m or 1.5h.")
    return float(found[1]) * _UNITS[found[2] or "s"]


@dataclass(frozen=True)
class Recipe:
    """How a scale trains and tests.

    Attributes:
        model: Arguments of `p3mnet.registry.create_model`.
        data: `p3mnet.data.DataConfig`.
        batch, learning_rate: Of each step.
        training: Other settings of `p3mnet.training.TrainConfig`: optimiser and schedule.
        budget: Seconds, where none is given.
        mode, max_side: See `p3mnet.predict.predict_alpha`.
        words: What the page says of it.
        short_rate: Learning rate of trainings of fewer than `SHORT` steps; None for that of all.
    """

    model: Json
    data: Json
    batch: int
    learning_rate: float
    budget: float
    mode: Literal["hybrid", "resize"]
    max_side: int
    words: str
    training: Json = field(default_factory=dict)
    short_rate: float | None = None

    def of(self, steps: int) -> Recipe:
        """The recipe for trainings of so many steps: short ones take larger steps, and their words say so."""
        if self.short_rate is None or steps >= SHORT:
            return self
        words = f"{self.words}, learning rate {self.short_rate:g} for {steps:,} steps"
        return replace(self, learning_rate=self.short_rate, words=words)


def _title(variant: str) -> str:
    """A network in words."""
    titles = {"basic": "BASIC", "gfm": "GFM", "modnet": "MODNet"}
    return titles.get(variant, f"P3M-Net ({variant})")


def recipe(settings: TrainCheckSettings, scale: Scale) -> Recipe:
    """The recipe of a scale.

    full is the paper's, with foreground colours estimated on the crop for all protocols alike, for files of a dataset
    show obfuscated faces. smoke learns something in minutes on a CPU: narrow encoder (resnet34) or few steps (others).
    """
    modnet = settings.variant == "modnet"
    if scale is Scale.FULL:
        return Recipe(
            model={**VARIANTS[settings.variant], "encoder_weights": settings.encoder_weights},
            data={"colours": "estimate"},
            batch=16 if modnet else 8,
            learning_rate=1e-2 if modnet else 1e-5 if settings.encoder_weights != "random" else 1e-4,
            training={"optimizer": {"name": "sgd"}, "schedule": {"name": "step"}} if modnet else {},
            short_rate=None if modnet else 1e-4,
            budget=3600,
            mode="hybrid",
            max_side=1600,
            words=f"{_title(settings.variant)}, 512 px crops, encoder weights: {settings.to_json()['encoder_weights']}",
        )
    narrow = VARIANTS[settings.variant]["name"] == "p3mnet_resnet34"
    name = "smoke_resnet34" if narrow else VARIANTS[settings.variant]["name"]
    width = "an eighth of ResNet-34's channels" if narrow else f"{_title(settings.variant)} with few steps"
    return Recipe(
        model={
            **VARIANTS[settings.variant],
            "name": name,
            "encoder_weights": "random",
            **({"pool_kernel": 2} if narrow else {}),
        },
        # The largest square of each picture, reduced once and kept in memory.
        data={"longest": 400, "crop_sides": (400,), "size": 128, "colours": "estimate", "trimap_kernel": (5, 10)},
        batch=4,
        learning_rate=1e-3 if narrow or modnet else 2e-4,
        budget=300,
        mode="resize",
        max_side=256,
        words=f"{width}, random weights, crops of 128 px, tested at 128 px",
    )
