"""Settings of a training run: from a YAML recipe, with changes from the command line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from p3mdata.base.parsing import fault, read_yaml
from p3mdata.errors import SettingsError
from p3mdata.typing import Json
from p3mnet.copy_paste import CopyPasteConfig
from p3mnet.data import DataConfig
from p3mnet.losses import PUBLISHED_WEIGHTS, LossWeights
from p3mnet.predict import Mode
from p3mnet.registry import HUB
from p3mnet.training.compiled import Compile
from p3mnet.training.optimizing import OptimizerSettings, Schedule

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
# Settings that change how fast a run is or how much of it is kept, but not what it comes to.
FREE = frozenset({"device", "workers", "checkpoint_every", "samples", "compile"})


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class ModelSettings(_Strict):
    """Arguments of `p3mnet.registry.create_model`."""

    name: str = Field("p3mnet_resnet34", description="network, see p3mnet.registry.list_models()")
    tfi: bool = Field(True, description="tripartite-feature integration")
    sbfi: bool = Field(True, description="shallow bipartite-feature integration")
    dbfi: bool = Field(True, description="deep bipartite-feature integration")
    pool_kernel: int | None = Field(None, description="side of pooling windows; absent = as published")
    drop_path: float | None = Field(
        None, ge=0, lt=1, description="largest rate of stochastic depth (swin_t, vitae_s); absent = as published"
    )
    encoder_weights: str = Field(HUB, description="ImageNet weights: a file, hub (downloads), or random")


class Selection(_Strict):
    """How the best epoch is found: on pictures that are trained on neither here nor tested on in the end."""

    set: str | None = Field(None, description="set of the dataset; absent = a share held out of the training set")
    share: float = Field(0.05, gt=0, lt=1, description="share of the training set that is held out")
    metric: Literal["SAD", "MSE", "MAD", "SAD_T"] = Field("SAD", description="lowest mean of this wins")
    mode: Mode = Field("resize", description="resize, hybrid or legacy_resize, see p3mnet.predict")
    max_side: int = Field(1024, ge=32, description="longest side that the network sees")
    every: int = Field(1, ge=1, description="epochs from one validation to the next; the last epoch always has one")


class TrainConfig(_Strict):
    """What a training run does. The defaults are the paper's recipe (section 'Implementation details').

    Two runs of equal settings, dataset, number of processes and threads give equal weights on a CPU. On a GPU they do
    with `deterministic`; without, sums in open order make them differ by rounding.
    """

    dataset: Path = Field(description="dataset in a known layout, such as P3M-10k or the output of build-split")
    training_set: str | None = Field(None, description="set to train on; absent = the layout's training set")
    model: ModelSettings = ModelSettings()
    initial_weights: Path | None = Field(
        None, description="start from trained weights instead: a file of p3mnet train or a published one"
    )
    data: DataConfig = DataConfig()
    losses: LossWeights = LossWeights()
    copy_paste: CopyPasteConfig = CopyPasteConfig()
    sources: Path | None = Field(None, description="facemasks of the faces to paste, from p3mdata celeba-facemask")
    source_images: Path | None = Field(None, description="their images; absent = where the facemasks were made from")
    validation: Selection = Selection()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: Schedule = Schedule()
    learning_rate: float = Field(1e-5, gt=0, description="the first one, see schedule")
    batch: int = Field(8, ge=1, description="crops at a time in each process")
    accumulation: int = Field(1, ge=1, description="batches whose gradients make one step")
    epochs: int = Field(150, ge=1)
    steps: int | None = Field(None, ge=1, description="end after this many steps, within an epoch; absent = all epochs")
    seed: int = Field(0, ge=0, description="of weights, order, crops and whatever else is drawn")
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = Field(
        "auto", description="auto = bfloat16 on a GPU, float32 on a CPU; tf32 = float32 with shorter products on a GPU"
    )
    deterministic: bool = Field(False, description="on one GPU, the same bits each time; on a CPU always")
    compile: Compile = Field("auto", description="steps as one program; auto = on a GPU, in runs that are long enough")
    sync_batch_norm: bool = Field(True, description="batch statistics over all processes")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    workers: int | None = Field(
        None, ge=0, description="loader processes of each training process; absent = from the cores; 0 = none"
    )
    checkpoint_every: int = Field(1000, ge=1, description="steps from one checkpoint to the next; each epoch has one")
    samples: int = Field(4, ge=0, description="pictures of the validation shown after each epoch")

    @model_validator(mode="before")
    @classmethod
    def _published_losses(cls, given: Any) -> Any:
        """Weights of the loss that are not given are those that the network is published with."""
        if not isinstance(given, dict):
            return given
        model, losses = given.get("model"), given.get("losses", {})
        name = model.get("name") if isinstance(model, dict) else getattr(model, "name", None)
        if str(name) not in PUBLISHED_WEIGHTS or not isinstance(losses, dict):
            return given
        return {**given, "losses": {**PUBLISHED_WEIGHTS[str(name)], **losses}}

    @model_validator(mode="before")
    @classmethod
    def _third_of_the_epochs(cls, given: Any) -> Any:
        """Features are pasted from a third of the epochs on, as in the recipe, also in runs of other lengths."""
        pasting = given.get("copy_paste") if isinstance(given, dict) else None
        epochs = given.get("epochs") if isinstance(given, dict) else None
        if isinstance(pasting, dict) and pasting.get("mode") == "fcp" and isinstance(epochs, int):
            return {**given, "copy_paste": {"start_epoch": epochs // 3, **pasting}}
        return given

    @model_validator(mode="after")
    def _pastes(self) -> TrainConfig:
        pasting = self.copy_paste
        if pasting.mode == "none":
            return self
        if self.sources is None:
            raise ValueError(f"copy_paste.mode {pasting.mode} needs 'sources', a folder of facemasks")
        if pasting.start_epoch >= self.epochs:
            raise ValueError(
                f"copy_paste.start_epoch {pasting.start_epoch} is not within {self.epochs} epochs: nothing would be "
                "pasted"
            )
        return self


def _assigned(settings: Json, name: str, value: Any) -> None:
    """Set 'a.b' of nested mappings."""
    *sections, last = name.split(".")
    for section in sections:
        inner = settings.setdefault(section, {})
        if not isinstance(inner, dict):
            raise SettingsError(f"'{name}' cannot be set: '{section}' holds no settings.")
        settings = inner
    settings[last] = value


def make_config(settings: Mapping[str, Any], where: str = "settings") -> TrainConfig:
    """Check settings.

    Raises:
        SettingsError: One is unknown, missing or out of range; the sentence names it.
    """
    try:
        return TrainConfig.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "missing":
            raise SettingsError(f"{where}: '{key}' is missing.") from error
        if not key:
            raise SettingsError(f"{where}: {first['msg'].removeprefix('Value error, ')}.") from error
        raise SettingsError(f"{where}: {fault(error)}.") from error


def read_config(recipe: Path, changes: Iterable[str] = (), **given: Any) -> TrainConfig:
    """A recipe with changes.

    Args:
        recipe: A YAML file, or the bare name of a recipe that comes with the package, such as "smoke".
        changes: "batch=4", "model.drop_path=0.1": values as in YAML.
        **given: Settings that win over both unless they are None.

    Raises:
        SettingsError: The recipe cannot be read, or a setting cannot be used.
    """
    own = RECIPES / f"{recipe}.yaml"
    # A folder of that name is no recipe.
    recipe = own if not recipe.is_file() and len(recipe.parts) == 1 and own.is_file() else recipe
    if not recipe.is_file() and len(recipe.parts) == 1 and not recipe.suffix:
        names = ", ".join(sorted(path.stem for path in RECIPES.glob("*.yaml")))
        raise SettingsError(f"There is no file and no recipe '{recipe}'. Recipes are {names}.")
    settings = read_yaml(recipe)
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals or not name:
            raise SettingsError(f"'{change}' must look like batch=4 or model.drop_path=0.1.")
        try:
            _assigned(settings, name.strip(), yaml.safe_load(value))
        except yaml.YAMLError as error:
            raise SettingsError(f"'{change}' has a value that is not YAML.") from error
    settings |= {name: value for name, value in given.items() if value is not None}
    return make_config(settings, str(recipe))


def flattened(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings of nested mappings by 'a.b'."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def changed_keys(config: TrainConfig, earlier: Mapping[str, Any]) -> list[str]:
    """Names of settings, other than those in `FREE`, that differ from an earlier run's `config.yaml`."""
    new = dict(flattened(config.model_dump(mode="json")))
    # A setting that came with a later version was at its default before.
    usual = dict(flattened(TrainConfig(dataset=config.dataset).model_dump(mode="json")))
    old = {key: value for key, value in usual.items() if key in new} | dict(flattened(earlier))
    absent = object()
    return sorted(
        key
        for key in new.keys() | old.keys()
        if key.split(".")[0] not in FREE and new.get(key, absent) != old.get(key, absent)
    )
