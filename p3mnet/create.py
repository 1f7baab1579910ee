"""`create_model`: a network by name, with ImageNet weights in its encoder."""

from __future__ import annotations

import warnings
from pathlib import Path

from p3mnet.model import MattingNetwork, ModelConfig
from p3mnet.registry import PUBLISHED_DROP_PATH, RANDOM, VARIANTS, build, published_config


def create_model(
    name: str,
    *,
    tfi: bool = True,
    sbfi: bool = True,
    dbfi: bool = True,
    pool_kernel: int | None = None,
    drop_path: float | None = None,
    encoder_weights: str | Path | None = None,
) -> MattingNetwork:
    """A network in training mode.

    Args:
        name: One of `list_models()`.
        tfi, sbfi, dbfi: Which integration modules are there; all of them is P3M-Net, none is BASIC of the paper.
        pool_kernel: Side of the pooling windows; None is the published one (3 for ResNet-34, else 2).
        drop_path: Largest rate of stochastic depth in training, for swin_t and vitae_s; None is the published one (0.2
            for Swin-T, else 0).
        encoder_weights: ImageNet weights of the encoder: a file, "hub" for the Hugging Face hub (downloads), or
            "random" when random weights are meant, for instance because a checkpoint is loaded next.

    Raises:
        SettingsError: The variant does not exist or does not come in this form.
        SetupError: The weights cannot be read or are those of another network.

    Warns:
        UserWarning: `encoder_weights` is not given, or leaves a part of the encoder as it is.
    """
    kernel = pool_kernel if pool_kernel is not None or name not in VARIANTS else VARIANTS[name].pool_kernels[0]
    rate = PUBLISHED_DROP_PATH.get(name, 0.0) if drop_path is None else drop_path
    model = build(published_config(ModelConfig(name, tfi, sbfi, dbfi, 2 if kernel is None else kernel, rate)))
    if encoder_weights is None:
        warnings.warn(
            f"The encoder of {name} starts from random weights; the paper starts from ImageNet: give "
            "encoder_weights=FILE or 'hub', or 'random' if a checkpoint is loaded next.",
            stacklevel=2,
        )
    elif encoder_weights != RANDOM:
        from p3mnet.imagenet import load_imagenet

        load_imagenet(model, encoder_weights)
    return model
