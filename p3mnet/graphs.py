"""Inference on a GPU without its host: a pass over pictures of a size that comes again is recorded and replayed.

A network is hundreds of small kernels, which the host starts more slowly than the GPU runs them. Recorded as a CUDA
graph they start at once, with the same result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from p3mnet.memory import out_of_memory
from p3mnet.model import MattingNetwork

# Sizes whose recordings are kept; each holds the memory of its maps' outputs, all share that of the maps.
_KEPT = 4


class _Recording(NamedTuple):
    """A pass: what starts it, where its input is copied to, where its outputs are."""

    graph: torch.cuda.CUDAGraph
    given: Tensor
    found: Any


class Replay:
    """Forward pass of a network that records itself for sizes that it sees again; made by `replaying`.

    Where more sizes come than are kept, a recording gives way only to a size that has come more than twice as often:
    to record takes longer than a pass, and sizes in turns would be recorded each time.
    """

    def __init__(self, forward: Callable[..., Any]) -> None:
        self.forward = forward
        self.off = False
        self._seen: Counter[Any] = Counter()
        self._recorded: dict[Any, _Recording] = {}
        self._pool: Any = None
        self._stream: torch.cuda.Stream | None = None

    def __call__(self, image: Tensor, edit_e0: Any = None) -> Any:
        """See `p3mnet.model.MattingNetwork.forward`."""
        # Under autocast a recording would rest on weights that another one has made shorter.
        plain = self.off or edit_e0 is not None or torch.is_grad_enabled() or torch.is_autocast_enabled("cuda")
        if plain:
            return self.forward(image, edit_e0)
        # What another GPU does is not recorded, whatever it is: it would be done once and never again.
        with torch.cuda.device(image.device):
            return self._answer(image)

    def _answer(self, image: Tensor) -> Any:
        key = tuple(image.shape), image.stride(), image.dtype
        self._seen[key] += 1
        if key not in self._recorded:
            # In the first pass, libraries choose and prepare their kernels.
            if self._seen[key] == 1 or not self._room(key):
                return self.forward(image)
            try:
                # An error in the middle leaves the recording's stream the current one.
                with torch.cuda.stream(torch.cuda.current_stream()):
                    self._recorded[key] = self._record(image)
            except RuntimeError as error:
                self.off = True
                self._recorded.clear()
                if not out_of_memory(error):
                    torch.cuda.synchronize()
                return self.forward(image)
        graph, given, found = self._recorded[key]
        given.copy_(image)
        graph.replay()
        return type(found)(*(None if plane is None else plane.clone() for plane in found))

    def _room(self, key: Any) -> bool:
        """Whether a size may be recorded; the recording of the rarest one goes for it."""
        if len(self._recorded) < _KEPT:
            return True
        rarest = min(self._recorded, key=self._seen.__getitem__)
        if self._seen[key] <= 2 * self._seen[rarest]:
            return False
        del self._recorded[rarest]
        return True

    def _record(self, image: Tensor) -> _Recording:
        if self._stream is None:
            # PyTorch's own stream for recordings belongs to the GPU that was the current one at the process's first.
            self._stream, self._pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()  # type: ignore[no-untyped-call]
        given = image.clone(memory_format=torch.preserve_format)
        graph = torch.cuda.CUDAGraph()
        # Other threads of the program may go on using the GPU.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            found = self.forward(given)
        return _Recording(graph, given, found)


def replaying(model: MattingNetwork) -> MattingNetwork:
    """The network itself; on a GPU, with a forward pass that is replayed. For inference alone."""
    if next(model.parameters()).is_cuda:
        model.forward = Replay(model.forward)  # type: ignore[method-assign]
    return model
