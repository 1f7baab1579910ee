"""A machine with GPUs, as far as a CPU can play it: a tensor that is moved to one is there; the CPU computes.

What a real GPU refuses is refused: tensors of two places in one operator, numpy's view of a tensor that is elsewhere,
random numbers of a generator that is elsewhere, work while a graph is recorded that waits for the host, operators that
have no repeatable form while such a form is asked for. What it lets happen is told as an error: memory that is read in
one stream before another one has written it, or given back while another one reads it, a copy read by the host before
it has arrived. Recorded graphs replay the operators that were called on the device which was the current one, into the
memory of their recording.

`torch.cuda.set_device` checks what it is given with PyTorch's own function.
"""

from __future__ import annotations

import contextlib
import itertools
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

NAME = "Simulated GPU"
CPU = torch.device("cpu")
_autocast, _autocast_enabled = torch.autocast, torch.is_autocast_enabled
# The host has to wait for what they give.
WAITS = {"_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2", "unique_dim"}
# Have no repeatable form on a GPU (documentation of `torch.use_deterministic_algorithms`); cumsum of floats too.
NOT_REPEATABLE = {
    "_adaptive_avg_pool2d_backward", "adaptive_max_pool2d_backward", "fractional_max_pool2d_backward", "max_unpool2d",
    "upsample_linear1d_backward", "upsample_bilinear2d_backward", "upsample_bicubic2d_backward",
    "_upsample_bilinear2d_aa_backward", "_upsample_bicubic2d_aa_backward", "reflection_pad1d_backward",
    "reflection_pad2d_backward", "replication_pad1d_backward", "replication_pad2d_backward", "nll_loss2d_forward",
    "nll_loss2d_backward", "grid_sampler_2d_backward", "put_", "histc", "median",
}  # fmt: skip
# Take an index or a value that lies on the CPU.
_BOTH = {"copy_", "_to_copy", "index", "index_put", "index_put_", "_index_put_impl_"}
_Ticks = dict["_Stream", int]


class Race(AssertionError):
    """What a GPU would do silently, with wrong values."""


class _Machine:
    """What the GPUs share: streams, the host's knowledge of them, the graph that is being recorded."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.chosen = [0]
        self.count = itertools.count(1)
        self.defaults = [_Stream(index, machine=self) for index in range(number)]
        self.current = list(self.defaults)
        # What the host has waited for.
        self.host: _Ticks = {}
        self.recording: FakeGraph | None = None
        self.faults: list[str] = []
        self.waits: list[str] = []
        # Copies on their way to the host.
        self.coming: weakref.WeakKeyDictionary[_Key, tuple[_Stream, int]] = weakref.WeakKeyDictionary()

    @property
    def index(self) -> int:
        """Of the current GPU."""
        return self.chosen[-1]

    def wait(self, what: str, index: int) -> None:
        """The host waits for a GPU's current stream."""
        self.waits.append(what)
        if self.recording is not None:
            raise RuntimeError(f"CUDA error: operation not permitted when stream is capturing ({what})")
        self.heard(self.current[index])

    def heard(self, stream: _Stream) -> None:
        """The host knows that a stream is done."""
        _learn(self.host, {**stream.known, stream: stream.last})


def _each(value: Any) -> list[Any]:
    """What nested lists, tuples and dicts hold; PyTorch's own function takes twice the time of all the rest here."""
    if isinstance(value, list | tuple):
        return [leaf for part in value for leaf in _each(part)]
    if isinstance(value, dict):
        return [leaf for part in value.values() for leaf in _each(part)]
    return [value]


def _mapped(change: Callable[[Any], Any], value: Any) -> Any:
    """The same nest of changed values."""
    if isinstance(value, list | tuple):
        return type(value)(_mapped(change, part) for part in value)
    if isinstance(value, dict):
        return {key: _mapped(change, part) for key, part in value.items()}
    return change(value)


_machine: _Machine | None = None


def machine() -> _Machine:
    """The one that is simulated now."""
    assert _machine is not None, "there is no GPU"
    return _machine


def _learn(known: _Ticks, more: _Ticks) -> None:
    for stream, tick in more.items():
        known[stream] = max(known.get(stream, 0), tick)


class _Key:
    """Something that a dictionary can hold weakly, for as long as its tensor lives."""


class _Memory:
    """That of a tensor and its views.

    Attributes:
        index: GPU.
        born: Stream that it was allocated in, which takes it back.
        written: Stream and time of the last write.
        used: Time of the last use by stream.
        recorded: Streams that it waits for before it is used again.
    """

    def __init__(self, index: int) -> None:
        at = machine()
        self.index, self.born = index, at.current[index]
        self.written = (self.born, self.born.last)
        self.used: _Ticks = {}
        self.recorded: set[_Stream] = set()
        self.at = at

    def __del__(self) -> None:
        for stream, tick in self.used.items():
            known = max(self.born.known.get(stream, 0), self.at.host.get(stream, 0))
            if stream is not self.born and stream not in self.recorded and known < tick:
                self.at.faults.append("memory goes to other tensors while another stream still reads it")


class OnGPU(torch.Tensor):
    """A tensor that says that it is on a GPU; `elem` holds its values."""

    elem: torch.Tensor
    memory: _Memory

    @staticmethod
    def __new__(cls, elem: torch.Tensor, memory: _Memory) -> OnGPU:
        made: OnGPU = torch.Tensor._make_wrapper_subclass(
            cls, elem.shape, strides=elem.stride(), storage_offset=elem.storage_offset(), dtype=elem.dtype
        )
        made.elem, made.memory = elem, memory
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda", self.memory.index)

    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]

    def get_device(self) -> int:
        return self.memory.index

    def to(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return _to(self, args, kwargs)

    def cpu(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return _to(self, (CPU,), {})

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() first.")

    __array__ = numpy

    def record_stream(self, stream: Any) -> None:
        self.memory.recorded.add(stream)

    def pin_memory(self, *args: Any) -> torch.Tensor:
        raise RuntimeError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")

    def __deepcopy__(self, memo: dict[int, Any]) -> OnGPU:
        if id(self) not in memo:
            copied = self.detach().clone().requires_grad_(self.requires_grad)
            copied.__dict__ |= {key: value for key, value in self.__dict__.items() if key not in ("elem", "memory")}
            memo[id(self)] = copied
        found: OnGPU = memo[id(self)]
        return found

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Files of tensors on a GPU are read where there is none.
        return self.elem.detach().__reduce_ex__(protocol)

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"OnGPU({self.memory.index}, {tuple(self.shape)})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


def _computed(func: Any, args: Any, kwargs: Any) -> Any:
    """An operator's answer, with what a GPU checks and what it does not."""
    at, name = machine(), func._schema.name.removeprefix("aten::")
    flat = _each((args, kwargs))
    there = [value for value in flat if isinstance(value, OnGPU)]
    here = [value for value in flat if isinstance(value, torch.Tensor) and not isinstance(value, OnGPU)]
    places = {value.device for value in there} | {value.device for value in here if value.dim() and name not in _BOTH}
    if len(places) > 1 and name not in ("copy_", "_to_copy"):
        found = " and ".join(sorted(map(str, places)))
        raise RuntimeError(f"Expected all tensors to be on the same device, but found at least two devices, {found}!")
    index = there[0].memory.index
    bools = name.startswith(("index", "_index")) and any(
        value.dtype in (torch.bool, torch.uint8) for value in there[1:] if value.dim()
    )
    if name in WAITS or bools or (here and any(value.dim() for value in here) and name in _BOTH):
        at.wait(name, index)
    racing = name == "cumsum" and there[0].is_floating_point()
    # Of overlapping windows; without an error on a GPU.
    racing |= name == "max_pool2d_with_indices_backward" and args[2][0] > args[3][0]
    if torch.are_deterministic_algorithms_enabled() and (name in NOT_REPEATABLE or racing):
        raise RuntimeError(f"{name}_cuda does not have a deterministic implementation, but you set ...")
    stream = at.current[index]
    tick = stream.last = next(at.count)
    for value in there:
        writer, written = value.memory.written
        if writer is not stream and max(stream.known.get(writer, 0), at.host.get(writer, 0)) < written:
            raise Race(f"{name} reads what another stream has not written yet")
        value.memory.used[stream] = tick
    own_args, own_kwargs = _mapped(
        lambda value: value.elem if isinstance(value, OnGPU) else _moved(value), (args, kwargs)
    )
    made = func(*own_args, **own_kwargs)
    by_elem = {id(value.elem): value for value in there}
    by_storage = {value.elem.untyped_storage()._cdata: value for value in there}

    def wrapped(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        if id(value) in by_elem:
            return by_elem[id(value)]
        if any(value is given for given in here):
            return value
        source = by_storage.get(value.untyped_storage()._cdata)
        if source is None:
            return OnGPU(value, _Memory(index))
        # A view of an ordinary tensor is one, also in inference mode.
        with torch.inference_mode(source.is_inference()):
            return OnGPU(value, source.memory)

    found = _mapped(wrapped, made)
    changed = [
        value
        for given, value in zip(func._schema.arguments, (*args, *kwargs.values()), strict=False)
        if given.alias_info is not None and given.alias_info.is_write
    ]
    for value in _each((found, changed)):
        if isinstance(value, OnGPU):
            value.memory.written = (stream, tick)
    if at.recording is not None and at.recording.index == index:
        at.recording.calls.append((func, own_args, own_kwargs, made))
    return found


class _Arrival(torch.autograd.Function):
    """To a GPU, or to the CPU."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, device: torch.device) -> torch.Tensor:
        ctx.before = value.device
        return _carried(value, device)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        return _carried(gradients[0], ctx.before), None


def _carried(value: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A copy elsewhere, without a gradient."""
    elem = (value.elem if isinstance(value, OnGPU) else value).detach().clone()
    if device.type == "cpu":
        return elem
    assert device.index is not None, "a device without an index"
    assert device.index < machine().number, f"there is no {device}"
    made = OnGPU(elem, _Memory(device.index))
    stream = machine().current[device.index]
    stream.last = next(machine().count)
    made.memory.written = (stream, stream.last)
    return made


def _to(value: torch.Tensor, args: Any, kwargs: Any) -> torch.Tensor:
    """`torch.Tensor.to`."""
    copy = kwargs.pop("copy", False)
    if args and isinstance(args[0], torch.Tensor):
        args = (args[0].device, args[0].dtype, *args[1:])
    device, dtype, non_blocking, memory_format = None, None, kwargs.pop("non_blocking", False), None
    for given in (*args, *kwargs.values()):
        if isinstance(given, torch.dtype):
            dtype = given
        elif isinstance(given, torch.memory_format):
            memory_format = given
        elif isinstance(given, bool):
            non_blocking = given
        elif given is not None:
            device = torch.device("cuda", given) if isinstance(given, int) else torch.device(given)
    found = value
    if device is not None and device.type == "cuda" and device.index is None:
        device = torch.device("cuda", machine().index)
    if device is not None and device != value.device:
        at = machine()
        if isinstance(value, OnGPU):
            if non_blocking and device.type == "cpu":
                stream = at.current[value.memory.index]
                stream.last = next(at.count)
            else:
                at.wait("copy to the host", value.memory.index)
        elif not (non_blocking and at.recording is None):
            at.wait("copy from the host", device.index)
        found = _Arrival.apply(value, device)  # type: ignore[no-untyped-call]
        if isinstance(value, OnGPU) and non_blocking and device.type == "cpu":
            found.key = _Key()
            at.coming[found.key] = stream, stream.last
    elif copy:
        found = value.clone()
    options = {key: given for key, given in (("dtype", dtype), ("memory_format", memory_format)) if given is not None}
    if not options:
        return found
    if isinstance(found, OnGPU):
        with torch._C.DisableTorchFunctionSubclass():
            return torch.Tensor.to(found, **options)
    return _plain_to(found, **options)


_plain_to = torch.Tensor.to


def _moved(value: Any) -> Any:
    """A device that is a GPU -> the CPU; all else as it is."""
    if isinstance(value, torch.device) and value.type == "cuda":
        assert value.index is not None, "a device without an index"
        return CPU
    if isinstance(value, str) and value.startswith("cuda"):
        return "cpu"
    return value


class _Placing(TorchFunctionMode):
    """What is made on a GPU, or moved there, is there."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        at = machine()
        for value in args:
            key = getattr(value, "key", None) if type(value) is torch.Tensor else None
            if key is not None and key in at.coming:
                stream, tick = at.coming[key]
                if at.host.get(stream, 0) < tick:
                    raise Race(f"{getattr(func, '__name__', func)} reads a copy that has not arrived")
        if func is torch.Tensor.to:
            return _to(args[0], args[1:], kwargs)
        if func is torch.Tensor.cuda:
            return _to(args[0], (torch.device("cuda", at.index),), {})
        if func is torch.Tensor.pin_memory:
            return args[0]
        data = func in (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor)
        device = torch.device(kwargs.get("device") or CPU) if data else CPU
        if func is torch.Tensor.new_tensor and isinstance(args[0], OnGPU):
            device, args = args[0].device, (torch.empty(0, dtype=args[0].dtype), *args[1:])
        if device.type == "cpu":
            return func(*args, **kwargs)
        kwargs.pop("device", None)
        made = func(*args, **kwargs)
        return made if isinstance(made, OnGPU) else _to(made, (device,), {})


class _Making(TorchDispatchMode):
    """Operators, those that make tensors on a GPU among them."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        flat = _each((args, kwargs))
        if any(isinstance(value, OnGPU) for value in flat):
            return _computed(func, args, kwargs)
        device = kwargs.get("device")
        if device is None or torch.device(device).type == "cpu":
            return func(*args, **kwargs)
        if kwargs.get("generator") is not None and kwargs["generator"].device.type == "cpu":
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        if func._schema.name == "aten::_to_copy":
            machine().wait("copy from the host", torch.device(device).index)
        return _carried(func(*args, **kwargs | {"device": CPU, "pin_memory": None}), torch.device(device))


def _index(device: Any, at: _Machine) -> int:
    """Number of a GPU; None is the current one."""
    if device is None:
        return at.index
    number: int = device if isinstance(device, int) else torch.device(device).index
    return number


class _Stream:
    """Work in an order of its own."""

    def __init__(self, device: Any = None, machine: _Machine | None = None, **kwargs: Any) -> None:
        at = machine or _machine
        assert at is not None
        self.index = _index(device, at)
        # The last call, and what was done before it in other streams.
        self.last = 0
        self.known: _Ticks = dict(at.host) if machine is None else {}

    @property
    def device(self) -> torch.device:
        return torch.device("cuda", self.index)

    def wait_event(self, event: _Event) -> None:
        _learn(self.known, event.seen)

    def wait_stream(self, other: _Stream) -> None:
        _learn(self.known, {**other.known, other: other.last})

    def record_event(self) -> _Event:
        event = _Event()
        event.record(self)
        return event

    def synchronize(self) -> None:
        machine().heard(self)

    def query(self) -> bool:
        return True


class _Event:
    """A place in a stream."""

    def __init__(self, **kwargs: Any) -> None:
        self.seen: _Ticks = {}

    def record(self, stream: _Stream | None = None) -> None:
        at = machine()
        stream = stream or at.current[at.index]
        self.seen = {**stream.known, stream: stream.last}

    def wait(self, stream: _Stream | None = None) -> None:
        at = machine()
        (stream or at.current[at.index]).wait_event(self)

    def synchronize(self) -> None:
        _learn(machine().host, self.seen)

    def query(self) -> bool:
        return True

    def elapsed_time(self, other: Any) -> float:
        return 1.0


class FakeGraph:
    """What was called while it was recorded; a replay calls it again, with what the recording's memory holds."""

    def __init__(self) -> None:
        self.index = -1
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.replays = 0

    def replay(self) -> None:
        at = machine()
        stream = at.current[self.index] if self.index >= 0 else at.defaults[0]
        stream.last = next(at.count)
        self.replays += 1
        with torch.inference_mode(), torch._C.DisableTorchFunction():
            for func, args, kwargs, made in self.calls:
                given = {value.untyped_storage()._cdata for value in _each((args, kwargs))
                         if isinstance(value, torch.Tensor)}  # fmt: skip
                again = func(*args, **kwargs)
                for before, now in zip(_each(made), _each(again), strict=True):
                    if isinstance(before, torch.Tensor) and before.untyped_storage()._cdata not in given:
                        before.copy_(now)


@contextlib.contextmanager
def _recorded(
    graph: FakeGraph, pool: Any = None, stream: _Stream | None = None, capture_error_mode: str = "global"
) -> Iterator[None]:
    """`torch.cuda.graph`; like it, an error in the middle leaves the recording's stream the current one."""
    at = machine()
    stream = stream or _recorded_in()
    at.heard(at.current[at.index])
    before = at.index, at.current[stream.index]
    at.chosen.append(stream.index)
    at.current[stream.index] = stream
    _learn(stream.known, at.host)
    at.recording, graph.index = graph, stream.index
    try:
        yield
    finally:
        at.recording = None
    at.chosen.append(before[0])
    at.current[stream.index] = before[1]
    before[1].wait_stream(stream)
    if not graph.calls:
        graph.index = -1


_capturing: list[_Stream] = []


def _recorded_in() -> _Stream:
    """PyTorch's own stream for recordings, which belongs to the GPU that was the current one at the first."""
    if not _capturing:
        _capturing.append(_Stream())
    return _capturing[0]


@contextlib.contextmanager
def _in_stream(stream: _Stream | None) -> Iterator[None]:
    """`torch.cuda.stream`; its GPU is the current one inside."""
    if stream is None:
        yield
        return
    at = machine()
    index, before = at.index, at.current[stream.index]
    at.chosen.append(stream.index)
    at.current[stream.index] = stream
    try:
        yield
    finally:
        at.current[stream.index] = before
        at.chosen.append(index)


class _OnDevice:
    """`torch.cuda.device`."""

    def __init__(self, device: Any) -> None:
        self.idx = _index(device, machine())

    def __enter__(self) -> None:
        self.before = machine().index
        machine().chosen.append(self.idx)

    def __exit__(self, *args: object) -> None:
        machine().chosen.append(self.before)


@contextlib.contextmanager
def simulated_gpus(number: int = 2) -> Iterator[list[int]]:
    """Within it there are GPUs; gives the indices that were set as the current one."""
    global _machine
    at = _Machine.__new__(_Machine)
    before, _machine = _machine, at
    at.chosen = [0]
    at.__init__(number)  # type: ignore[misc]
    _capturing.clear()

    def set_device(device: Any) -> None:
        index = torch.cuda._utils._get_device_index(device)
        assert 0 <= index < number
        at.chosen.append(index)

    def autocast(device_type: str, *args: Any, **kwargs: Any) -> Any:
        return _autocast(_moved(device_type), *args, **kwargs)

    def synchronize(device: Any = None) -> None:
        for stream in {*at.current, *at.defaults, *_capturing}:
            at.heard(stream)

    answers: dict[str, Callable[..., Any]] = {
        "is_available": lambda: number > 0,
        "device_count": lambda: number,
        "current_device": lambda: at.index,
        "set_device": set_device,
        "get_device_name": lambda device=None: NAME,
        "get_device_capability": lambda device=None: (9, 0),
        "empty_cache": lambda: None,
        "synchronize": synchronize,
        "max_memory_allocated": lambda device=None: 0,
        "reset_peak_memory_stats": lambda device=None: None,
        "mem_get_info": lambda device=None: (1 << 36, 1 << 36),
        "memory_reserved": lambda device=None: 0,
        "memory_allocated": lambda device=None: 0,
        "is_bf16_supported": lambda *args: True,
        "Stream": _Stream,
        "Event": _Event,
        "current_stream": lambda device=None: at.current[_index(device, at)],
        "default_stream": lambda device=None: at.defaults[_index(device, at)],
        "stream": _in_stream,
        "device": _OnDevice,
        "CUDAGraph": FakeGraph,
        "graph": _recorded,
        "graph_pool_handle": lambda: (0, 1),
        "is_current_stream_capturing": lambda: at.recording is not None,
    }
    overwriting = torch.__future__.get_overwrite_module_params_on_conversion()
    with pytest.MonkeyPatch.context() as patch:
        for name, answer in answers.items():
            patch.setattr(torch.cuda, name, answer)
        patch.setattr(torch.cuda, "_lazy_init", lambda: None)
        # Also with a PyTorch that was built for GPUs, no memory is pinned.
        patch.setattr(torch.accelerator, "is_available", lambda: False)
        patch.setattr(torch, "autocast", autocast)
        patch.setattr(torch, "is_autocast_enabled", lambda kind="cuda": _autocast_enabled(_moved(kind)))
        # Parameters are replaced when they move, since a tensor here cannot become one that is there.
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        try:
            with _Placing(), _Making():
                yield at.chosen
        finally:
            torch.__future__.set_overwrite_module_params_on_conversion(overwriting)
            _machine = before
    if at.faults:
        raise Race(at.faults[0])
