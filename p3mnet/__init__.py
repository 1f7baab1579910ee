"""P3M-Net, the matting network of 'Rethinking Portrait Matting with Privacy Preserving' (IJCV 2023), and its metrics.

    from p3mnet import create_model, list_models, load_checkpoint, metrics

Importing this needs no torch; making a network does.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from p3mdata.version import __version__

if TYPE_CHECKING:
    from p3mnet import metrics
    from p3mnet.checkpoint import load_checkpoint
    from p3mnet.create import create_model
    from p3mnet.registry import list_models

_HOMES = {"create_model": "create", "list_models": "registry", "load_checkpoint": "checkpoint"}

__all__ = ["__version__", "create_model", "list_models", "load_checkpoint", "metrics"]


def __getattr__(name: str) -> Any:
    if name == "metrics":
        return import_module("p3mnet.metrics")
    if name in _HOMES:
        return getattr(import_module(f"p3mnet.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'p3mnet' has no attribute '{name}'")
