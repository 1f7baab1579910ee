"""Inference on a GPU without its host: a pass over pictures of a size that comes again is recorded and replayed.

A network is hundreds of small kernels, which the host starts more slowly than the GPU runs them. Recorded as a CUDA
graph they start at once, with the same result.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from p3mnet.memory import out_of_memory
from p3mnet.model import MattingNetwork

# Sizes whose recordings are kept; each holds the memory of its maps' outputs, all share that of the maps.
_KEPT = 4


class Replay:
    """Forward pass of a network that records itself for sizes that it sees a second time; made by `replaying`."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        self.forward = forward
        self.off = False
        self._seen: set[Any] = set()
        self._recorded: OrderedDict[Any, tuple[Any, Tensor, Any]] = OrderedDict()
        self._pool: Any = None

    def __call__(self, image: Tensor, edit_e0: Any = None) -> Any:
        """See `p3mnet.model.MattingNetwork.forward`."""
        if self.off or edit_e0 is not None or torch.is_grad_enabled():
            return self.forward(image, edit_e0)
        key = tuple(image.shape), image.stride(), image.dtype
        if key not in self._recorded:
            if key not in self._seen:
                # Libraries choose and prepare their kernels.
                self._seen.add(key)
                return self.forward(image)
            try:
                self._record(key, image)
            except RuntimeError as error:
                self.off = True
                self._recorded.clear()
                if not out_of_memory(error):
                    torch.cuda.synchronize()
                return self.forward(image)
        graph, given, found = self._recorded[key]
        self._recorded.move_to_end(key)
        given.copy_(image)
        graph.replay()
        return type(found)(*(None if plane is None else plane.clone() for plane in found))

    def _record(self, key: Any, image: Tensor) -> None:
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        while len(self._recorded) >= _KEPT:
            self._recorded.popitem(last=False)
        given = image.clone(memory_format=torch.preserve_format)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            found = self.forward(given)
        self._recorded[key] = graph, given, found


def replaying(model: MattingNetwork) -> MattingNetwork:
    """The network itself; on a GPU, with a forward pass that is replayed. For inference alone."""
    if next(model.parameters()).is_cuda:
        model.forward = Replay(model.forward)  # type: ignore[method-assign]
    return model
