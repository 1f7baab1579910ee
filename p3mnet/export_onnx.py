"""A network as an ONNX file, for inference without torch."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from p3mdata.base.files import alone
from p3mdata.errors import OTHER_PLACE, SettingsError, SetupError, unwritable
from p3mnet.distances import PLANES
from p3mnet.model import MattingNetwork, folded

INPUT = "image"
# Of networks that need one: int64 of 0, 1, 2.
TRIMAP = "trimap"
# Of FBA: float32 of `p3mnet.distances`, which no graph computes.
DISTANCES = "distances"
# Networks without a separate segmentation have the first alone.
OUTPUTS = ("alpha", "global_logits", "local")


class _Inference(nn.Module):
    """The outputs that inference needs, without those for deep supervision, in float32 whatever is computed in."""

    def __init__(self, model: MattingNetwork) -> None:
        super().__init__()
        self.model = model
        self.dtype = next(model.parameters()).dtype

    def forward(self, image: Tensor, *more: Tensor) -> tuple[Tensor, ...]:
        """`more`: trimap and distances, of networks that need them."""
        out = self.model(image.to(self.dtype), None, *more)
        found = (out.fusion,) if self.model.one_alpha else (out.fusion, out.global_logits, out.local)
        return tuple(plane.float() for plane in found)


def inputs_of(model: MattingNetwork, height: int, width: int, batch: int = 1) -> dict[str, Tensor]:
    """Example inputs of a network's file, by name: a picture, and what else it needs."""
    inputs = {INPUT: torch.zeros(batch, 3, height, width)}
    if model.needs_trimap:
        inputs[TRIMAP] = torch.ones(batch, 1, height, width, dtype=torch.int64)
    if model.needs_distances:
        inputs[DISTANCES] = torch.zeros(batch, PLANES, height, width)
    return inputs


def export_onnx(
    model: MattingNetwork, path: str | Path, height: int, width: int, batch: int = 1, half: bool = False
) -> tuple[str, ...]:
    """Write a network for images of one size; the file appears whole or not at all.

    The graph is made simple before it is written: batch norms are part of the convolutions, constants are computed.

    The graph has the input `image` [N, 3, H, W], float32, ImageNet-normalised, and the outputs `alpha` [N, 1, H, W],
    `global_logits` [N, 3, H, W] and `local` [N, 1, H, W] of `p3mnet.model.Matting`, where the network has them. Max
    unpooling becomes comparisons (`p3mnet.maps.unpool_by_plane`), since ONNX leaves open which of two values stays at
    one place. Networks that need a trimap have it as second input `trimap`, int64 [N, 1, H, W] of 0, 1, 2;
    FBA has a third one, `distances`, float32 [N, 6, H, W] of `p3mnet.distances.nearness`.

    Args:
        model: Any variant, in eval mode.
        path: The file.
        height, width: Of the images; multiples of 32 need no padding.
        batch: N.
        half: Whether weights and maps have 16 bits, for runtimes on GPUs; inputs and outputs stay float32.

    Returns:
        Names of the outputs.

    Raises:
        SettingsError: The network is in training mode or the size is not positive.
        SetupError: The packages that write ONNX files are not installed, or the file cannot be written.
    """
    if model.training:
        raise SettingsError("The network is in training mode: call eval() on it before it is exported.")
    if min(height, width, batch) < 1:
        raise SettingsError(f"An ONNX file is for images of one size, which must be positive, not {height}x{width}.")
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise SetupError(
            f"Writing ONNX files needs more packages: pip install {' '.join(missing)}, or the extra 'onnx'."
        )
    outputs = OUTPUTS[:1] if model.one_alpha else OUTPUTS
    # Maps on a GPU are computed by functions of our own, which graphs are not made of.
    network = folded(model).cpu()
    if half:
        network = network.half()
    inputs = inputs_of(model, height, width, batch)
    # The exporter tells of packages that it does without, and of its own deprecated calls.
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        # Other kernels of attention give results in an order of memory that the exported graph does not keep.
        with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                _Inference(network),
                tuple(inputs.values()),
                dynamo=True,
                verbose=False,
                optimize=True,
                input_names=list(inputs),
                output_names=outputs,
            )
    finally:
        quiet.setLevel(level)
    assert program is not None
    try:
        with alone(Path(path)) as sink:
            sink.write(program.model_proto.SerializeToString())
    except OSError as error:
        raise unwritable(path, error, OTHER_PLACE, SetupError) from error
    return outputs
