"""Networks that `p3mnet train` trains, as methods."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from p3mdata.base.files import sha256
from p3mdata.errors import SetupError
from p3mdata.imaging.trimap import FOREGROUND
from p3mnet.baselines import Alpha, Image, Method
from p3mnet.create import create_model
from p3mnet.devices import device_name, pick_device
from p3mnet.model import MattingNetwork, ModelConfig, count_parameters, folded
from p3mnet.networks.trimap_based import TrimapNetwork
from p3mnet.predict import MAX_SIDE, Mode, open_network, predict_alpha
from p3mnet.registry import BASELINES, RANDOM, VARIANTS
from p3mnet.weights_files import describe


class Network(Method):
    """A network, with the weights of a checkpoint or random ones.

    Args:
        model: Arguments of `p3mnet.registry.create_model`.
        checkpoint: Of `p3mnet train`, or a published file of P3M-Net, GFM or MODNet; None = untrained.
        mode: How it looks at a picture, see `p3mnet.predict`.
        device: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        SetupError: The checkpoint cannot be read, or is another network's.
    """

    def __init__(self, model: Mapping[str, Any], checkpoint: Path | None, mode: Mode, device: str) -> None:
        self.mode = mode
        fresh = create_model(**model, encoder_weights=RANDOM)
        self.trained = checkpoint is not None
        network = fresh if checkpoint is None else _filled(fresh.config, checkpoint)
        self.parameters = count_parameters(network, as_published=True)
        place = pick_device(device)
        # As `p3mnet infer` runs it.
        self.model = folded(network).to(place)
        self.needs_trimap = network.needs_trimap
        if place.type == "cuda":
            self.device = device_name(place)
        weights = "random" if checkpoint is None else sha256(checkpoint.read_bytes())
        self.identity: Mapping[str, Any] = {
            "model": dict(model), "weights": weights, "mode": mode, "max_side": MAX_SIDE, "device": place.type,
            "torch": torch.__version__,
        }  # fmt: skip

    def predict(self, image: Image, trimap: Image | None) -> Alpha:
        """See `Method.predict`; a trimap is looked at by networks that need one."""
        return predict_alpha(self.model, image, self.mode, trimap=trimap)

    def timed(self, image: Image, trimap: Image | None) -> None:
        """One pass at the picture's own size, to the processor and back."""
        picture = torch.from_numpy(image.copy()).permute(2, 0, 1)
        if trimap is None or not self.needs_trimap:
            self.model.predict(picture).cpu()
        else:
            assert isinstance(self.model, TrimapNetwork)
            classes = torch.from_numpy((trimap > 0).astype("int64") + (trimap == FOREGROUND))
            self.model.predict(picture, classes[None]).cpu()


def _filled(wanted: ModelConfig, checkpoint: Path) -> MattingNetwork:
    try:
        model = open_network(checkpoint)
    except SetupError:
        # Published files: of P3M-Net with all integration modules, of GFM, of MODNet.
        if wanted.name not in (*VARIANTS, *BASELINES) or not (wanted.tfi and wanted.sbfi and wanted.dbfi):
            raise
        return open_network(checkpoint, wanted.name)
    if describe(model.config) != describe(wanted):
        raise SetupError(f"{checkpoint}: holds {describe(model.config)}, not {describe(wanted)}.")
    return model
