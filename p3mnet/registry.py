"""Networks by name: `create_model("p3mnet_resnet34")`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from p3mdata.errors import SettingsError
from p3mnet.decoders import Narrowing
from p3mnet.encoders import Encoder, NarrowResNet34, ResNet34, SwinT, ViTAES
from p3mnet.model import MattingNetwork, ModelConfig, P3MNet
from p3mnet.networks.alphagan import AlphaGAN
from p3mnet.networks.dim import DIM, RefinedDIM
from p3mnet.networks.fba import FBA
from p3mnet.networks.gca import GCA
from p3mnet.networks.gfm import GFM
from p3mnet.networks.hatt import HATT
from p3mnet.networks.indexnet import IndexNet
from p3mnet.networks.lf import LF
from p3mnet.networks.modnet import MODNet
from p3mnet.networks.shm import SHM

HUB = "hub"
RANDOM = "random"
# Learns something on a CPU in minutes; it is no network of the paper, and not listed.
SMOKE = "smoke_resnet34"


# Largest rate of stochastic depth that networks are published with; 0 for those that are not here.
PUBLISHED_DROP_PATH = {"p3mnet_swin_t": 0.2}


class Variant(NamedTuple):
    """How a name becomes a network: its encoder, which convolution of a decoder level narrows, its poolings."""

    encoder: Callable[[ModelConfig], Encoder]
    narrowing: Narrowing
    # The published one first.
    pool_kernels: tuple[int, ...]


VARIANTS = {
    "p3mnet_resnet34": Variant(lambda config: ResNet34(config.pool_kernel), "last", (3, 2)),
    "p3mnet_swin_t": Variant(lambda config: SwinT(config.drop_path), "first", (2,)),
    "p3mnet_vitae_s": Variant(lambda config: ViTAES(config.drop_path), "first", (2,)),
    SMOKE: Variant(lambda config: NarrowResNet34(config.pool_kernel), "last", (2, 3)),
}


# Networks whose losses compare no composition with colours of foreground and background.
WITHOUT_COLOURS = frozenset({"modnet", "gca", "lf", "hatt"})
# Networks that P3M-Net is compared with.
BASELINES: dict[str, Callable[[ModelConfig], MattingNetwork]] = {
    "gfm_resnet34": GFM,
    "modnet": MODNet,
    "dim": DIM,
    "dim_refined": RefinedDIM,
    "indexnet": IndexNet,
    "gca": GCA,
    "fba": FBA,
    "alphagan": AlphaGAN,
    "shm": SHM,
    "lf": LF,
    "hatt": HATT,
}


def list_models() -> list[str]:
    """Names that `create_model` knows, P3M-Net's variants first, without that of smoke checks."""
    return [*(name for name in VARIANTS if name != SMOKE), *BASELINES]


def published_config(config: ModelConfig) -> ModelConfig:
    """The configuration of a new network: MODNet sees colours in -1..1, as published."""
    return replace(config, colours="unit") if config.name == "modnet" else config


def build(config: ModelConfig) -> MattingNetwork:
    """A network with random weights.

    Raises:
        SettingsError: The variant does not exist or does not come in this form.
    """
    if config.name in BASELINES:
        if replace(config, colours="imagenet") != ModelConfig(config.name):
            raise SettingsError(f"{config.name} has no settings: leave out tfi, sbfi, dbfi, pool_kernel and drop_path.")
        return BASELINES[config.name](config)
    if config.name not in VARIANTS:
        raise SettingsError(f"There is no network '{config.name}'; choose one of {', '.join(list_models())}.")
    variant = VARIANTS[config.name]
    if config.pool_kernel not in variant.pool_kernels:
        allowed = " or ".join(map(str, variant.pool_kernels))
        raise SettingsError(f"pool_kernel of {config.name} must be {allowed}, not {config.pool_kernel}.")
    if not 0 <= config.drop_path < 1:
        raise SettingsError(f"drop_path must be at least 0 and below 1, not {config.drop_path}.")
    encoder = variant.encoder(config)
    if config.drop_path and isinstance(encoder, ResNet34):
        raise SettingsError(f"{config.name} has no stochastic depth: leave drop_path at 0.")
    return P3MNet(config, encoder, variant.narrowing)
