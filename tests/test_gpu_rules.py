"""What a GPU refuses or silently does wrong, seen without one: see `tests.simulated_gpu`."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from p3mnet import graphs  # noqa: E402
from p3mnet.create import create_model  # noqa: E402
from p3mnet.devices import GpuLost, arithmetic, gpu_guarded  # noqa: E402
from p3mnet.encoders.contract import DropPath  # noqa: E402
from p3mnet.graphs import Replay, replaying  # noqa: E402
from p3mnet.loader import collate, to_device  # noqa: E402
from p3mnet.losses import losses_of  # noqa: E402
from p3mnet.memory import out_of_memory  # noqa: E402
from p3mnet.model import Matting, MattingNetwork, folded  # noqa: E402
from p3mnet.predict import predict_alpha, predict_trimap  # noqa: E402
from p3mnet.registry import list_models  # noqa: E402
from p3mnet.training import fitting as fitting_module  # noqa: E402
from p3mnet.training import step as step_module  # noqa: E402
from p3mnet.training import train  # noqa: E402
from p3mnet.training.feeding import ahead  # noqa: E402
from p3mnet.training.processes import Processes  # noqa: E402
from p3mnet.training.state import Position  # noqa: E402
from p3mnet.training.step import Stepper  # noqa: E402
from p3mnet.training.stopping import Stop  # noqa: E402
from tests.simulated_gpu import Race, machine, simulated_gpus  # noqa: E402
from tests.test_train import config, narrow_networks, write_set  # noqa: E402

GPU, OTHER = "cuda:1", "cuda:0"
# Quick enough to be looked at with each change; of the others each takes seconds.
QUICK = ("narrow", "modnet")
NETWORKS = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in ("narrow", *list_models())
]
SIDE = 64


@pytest.fixture(autouse=True, scope="module")
def _narrow() -> Iterator[None]:
    with narrow_networks():
        yield


def network(name: str, pool_kernel: int | None = None) -> MattingNetwork:
    torch.manual_seed(0)
    return create_model(name, encoder_weights="random", pool_kernel=pool_kernel)


def batch(size: int = 2, side: int = SIDE) -> dict[str, Any]:
    """As the loader makes it, on the CPU."""
    draw = np.random.default_rng(0)
    samples = []
    for number in range(size):
        planes = {
            kind: draw.integers(0, 256, (3, side, side), np.uint8) for kind in ("image", "foreground", "background")
        }
        trimap = np.full((1, side, side), 128, np.uint8)
        trimap[:, : side // 4], trimap[:, -side // 4 :] = 0, 255
        planes |= {"alpha": draw.integers(0, 256, (1, side, side), np.uint8), "trimap": trimap}
        planes |= {"facemask": np.zeros((1, side, side), np.uint8)}
        samples.append(
            {kind: torch.from_numpy(plane) for kind, plane in planes.items()} | {"name": str(number), "bad": []}
        )
    found = collate(samples)
    assert isinstance(found, dict)
    return found


def losses(model: MattingNetwork, moved: dict[str, Any], half: bool) -> dict[str, Any]:
    with torch.autocast(moved["image"].device.type, torch.bfloat16, enabled=half):
        output = model(moved["image"], None, *([moved["trimap"]] if model.needs_trimap else []))
    return losses_of(model, output, moved)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_of_each_network(name: str) -> None:
    """All that a step computes is on the GPU, repeatable where that is asked for, and what a CPU computes."""
    model, device = network(name).train(), torch.device(GPU)
    # Random numbers of a GPU are others.
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
        elif isinstance(part, DropPath):
            part.rate = 0.0
    want = losses(model, to_device(batch(), "cpu"), False)
    with simulated_gpus():
        model.to(device).to(memory_format=torch.channels_last)
        parameters = list(model.parameters())
        assert all(parameter.device == device for parameter in parameters)
        optimizer = torch.optim.Adam(parameters, 1e-3, fused=True)
        with arithmetic(device, True, deterministic=True):
            moved = to_device(batch(), device)
            # Inputs of a step arrive; after that the host waits for nothing.
            machine().waits.clear()
            found = losses(model, moved, False)
            found["total"].backward()
            optimizer.step()
        waited = [what for what in machine().waits if name != "fba"]
        assert not waited, waited
        assert {name: part.item() for name, part in found.items()} == pytest.approx(
            {name: part.item() for name, part in want.items()}, rel=2e-3, abs=1e-5
        )
        losses(model, moved, True)["total"].backward()


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "fba"])
def test_a_pass_of_each_network_can_be_recorded(name: str) -> None:
    model = folded(network(name))
    if model.needs_trimap:
        pytest.skip("not recorded: what is known differs from picture to picture")
    pictures = [np.random.default_rng(number).integers(0, 256, (70, 64, 3), np.uint8) for number in range(4)]
    modes: Any = ("hybrid", "legacy_resize") if name == "narrow" else ("resize",)
    for mode in modes:
        want = [predict_alpha(model, picture, mode) for picture in pictures]
        with simulated_gpus():
            there = folded(model).to(GPU)
            replayed = replaying(there)
            found = [predict_alpha(replayed, picture, mode) for picture in pictures]
            replay = there.forward
            assert isinstance(replay, Replay) and replay._recorded and not replay.off
            if not model.one_alpha:
                predict_trimap(replayed, pictures[0])
        for one, other in zip(found, want, strict=True):
            # Pooling and upsampling are computed otherwise there; a class may flip.
            assert np.mean(np.abs(one - other) > 1e-3) < 0.02


def passing(calls: list[Any], refused: bool = False) -> Any:
    def forward(image: Any, edit: Any = None) -> Any:
        calls.append(tuple(image.shape))
        if refused and len(calls) > 1:
            image + image.new_tensor([1.0])
        return Matting(*(image * number for number in (1.0, 2.0, 3.0)), None, None, None)

    return forward


def test_passes_are_recorded_and_replayed_on_their_own_gpu() -> None:
    calls: list[Any] = []
    replay = Replay(passing(calls))
    with simulated_gpus(), torch.inference_mode():
        images = [torch.full((1, 3, 4, 4), float(number)).to(GPU) for number in range(4)]
        answers = [replay(image) for image in images]
        # The first is an ordinary pass, the second is recorded, the others start nothing.
        assert len(calls) == 2 and machine().index == 0
        for image, out in zip(images, answers, strict=True):
            # Also after the recording's memory holds the answer to another picture.
            assert torch.equal(out.fusion.cpu(), 3 * image.cpu()) and out.side0 is None
        with torch.autocast("cuda", torch.bfloat16):
            replay(images[0])
        assert len(calls) == 3
    with simulated_gpus():
        replay(torch.ones(1, 3, 4, 4).to(GPU).requires_grad_())
    assert len(calls) == 4


def test_sizes_in_turns_are_not_recorded_each_time() -> None:
    calls: list[Any] = []
    replay = Replay(passing(calls))
    with simulated_gpus(), torch.inference_mode():
        for _ in range(20):
            for side in range(1, 7):
                replay(torch.ones(1, 3, side, 4).to(GPU))
        assert len(replay._recorded) == graphs._KEPT
        # Four sizes of two calls each, two of twenty.
        assert len(calls) == 4 * 2 + 2 * 20
        for _ in range(30):
            replay(torch.ones(1, 3, 6, 4).to(GPU))
    assert len(replay._recorded) == graphs._KEPT and any(key[0][2] == 6 for key in replay._recorded)


def test_what_cannot_be_recorded_is_computed() -> None:
    calls: list[Any] = []
    replay = Replay(passing(calls, refused=True))
    with simulated_gpus(), torch.inference_mode():
        for number in range(4):
            image = torch.full((1, 3, 4, 4), float(number)).to(GPU)
            assert torch.equal(replay(image).local.cpu(), 2 * image.cpu())
        # As before the error.
        assert machine().current == machine().defaults and machine().index == 0
    assert replay.off


def test_batches_cross_in_a_stream_of_their_own() -> None:
    device = torch.device(GPU)
    with simulated_gpus():
        torch.cuda.set_device(device)
        totals = []
        stream = torch.cuda.Stream(device)
        for one in ahead(iter([batch(), batch(), batch()]), stream, lambda given: to_device(given, device)):
            assert one["moved"]["image"].device == device
            totals.append(one["moved"]["alpha"].sum())
        assert len({total.item() for total in totals}) == 1
        assert machine().current[1] is machine().defaults[1]


def stepper(root: Path, device: str, precision: str = "auto") -> tuple[Stepper, dict[str, Any]]:
    write_set(root, "train", 4)
    place = torch.device(device)
    model = network("narrow").train().to(place)
    settings = config(root, device=device, precision=precision)
    made = Stepper(settings, Processes(0, 1, place), model, Position(), [], None, 1, Stop(), lambda text: None)
    given = batch()
    return made, {**given, "moved": to_device(given, place)}


def test_a_failed_step_holds_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried on afterwards has all of the memory: neither the losses nor their graph are held."""
    held: list[weakref.ref[Any]] = []
    alive: list[bool] = []
    compute = step_module.losses_of

    class _Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    def failing(*given: Any) -> Any:
        parts = compute(*given)
        held.append(weakref.ref(parts["alpha"]))
        return {**parts, "total": _Fails.apply(parts["total"])}

    def fits(self: Any, *given: Any) -> bool:
        gc.collect()
        alive.append(held[0]() is not None)
        return True

    monkeypatch.setattr(step_module, "losses_of", failing)
    monkeypatch.setattr(fitting_module.Fitting, "_fits", fits)
    with simulated_gpus():
        made, given = stepper(tmp_path / "data", "cuda:0")
        with pytest.raises(fitting_module.BatchTooLarge):
            made.take([given], 2)
    assert alive and not any(alive)


def test_sizes_are_tried_without_compiling_a_program_for_each(tmp_path: Path) -> None:
    called: list[Any] = []

    def program(tensors: Any) -> Any:
        called.append(tensors["image"].shape)
        raise torch.OutOfMemoryError("CUDA out of memory.")

    made, given = stepper(tmp_path / "data", "cpu")
    made.program, made.tried = program, True
    with pytest.raises(fitting_module.BatchTooLarge, match="but one of 1"):
        made.take([given], 2)
    assert called == [(2, 3, SIDE, SIDE)] and made.program is program


def test_a_step_in_parts_is_one_step(tmp_path: Path) -> None:
    """Where memory holds no more; of the same batch twice, so that batch norm sees the same."""
    with simulated_gpus():
        made, given = stepper(tmp_path / "data", "cuda:0", "float32")
        norms, losses = [], []
        for batches in ([given], [given, given]):
            machine().waits.clear()
            step = made.take(batches, 2)
            assert not machine().waits and step.there is not None
            step.there.synchronize()
            told = dict(zip(step.names, step.told.tolist(), strict=True))
            norms.append(told["gradient_norm"])
            losses.append(told["total"])
    # The mean of a step's transition pixels counts one pixel more, see the loss.
    assert norms[1] == pytest.approx(norms[0], rel=1e-4) and losses[1] == pytest.approx(losses[0], rel=1e-4), norms


@pytest.mark.parametrize(
    ("sentence", "memory"),
    [
        ("CUDA out of memory. Tried to allocate 2 GiB", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", True),
        ("GET was unable to find an engine to execute this computation", True),
        ("CUDA error: an illegal memory access was encountered", False),
        ("CUDA error: device-side assert triggered", False),
    ],
)
def test_what_is_an_end_of_memory(sentence: str, memory: bool) -> None:
    assert out_of_memory(RuntimeError(sentence)) is memory


def test_a_lost_gpu_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*given: Any) -> Any:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered\nCompile with TORCH_USE_CUDA_DSA")

    write_set(tmp_path / "data", "train", 4)
    monkeypatch.setattr(step_module, "losses_of", lost)
    with simulated_gpus(), pytest.raises(GpuLost, match=r"GPU failed .CUDA error: device-side assert trig"):
        train(config(tmp_path / "data", device="cuda", epochs=1), tmp_path / "out")
    with pytest.raises(RuntimeError, match="something else"), gpu_guarded("."):
        raise RuntimeError("something else")


@pytest.mark.parametrize("before", ["none", "legacy", "generic", "matmul", "conv"])
def test_products_are_as_asked_whatever_set_them_before(before: str) -> None:
    """The two sets of settings of PyTorch: to read the older one is an error once the newer one is used."""
    backends = torch.backends
    newer = (backends, backends.cudnn, backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)

    def now() -> list[Any]:
        return [place.fp32_precision for place in newer]

    first, older = now(), (backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32)
    try:
        if before == "legacy":
            backends.cuda.matmul.allow_tf32 = True
        elif before != "none":
            place = {"generic": backends, "matmul": backends.cuda.matmul, "conv": backends.cudnn.conv}[before]
            place.fp32_precision = "ieee" if before == "conv" else "tf32"
        state = now()
        for wanted in (True, False):
            with arithmetic(torch.device("cuda", 0), tf32=wanted):
                # As PyTorch's compiler reads them.
                assert backends.cuda.matmul.allow_tf32 is backends.cudnn.allow_tf32 is wanted
                for place in newer[2:]:
                    assert (place.fp32_precision == "tf32") is wanted
            assert now() == state
    finally:
        backends.fp32_precision = backends.cudnn.fp32_precision = "none"
        backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32 = older
        for place, value in zip(newer, first, strict=True):
            place.fp32_precision = value


def test_a_workspace_that_cannot_repeat_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    name, gpu = "CUBLAS_WORKSPACE_CONFIG", torch.device("cuda", 0)
    monkeypatch.setenv(name, ":0:0")
    with arithmetic(gpu, True, deterministic=True):
        assert os.environ[name] == ":4096:8"
    assert os.environ[name] == ":0:0"
    monkeypatch.setenv(name, ":16:8")
    with arithmetic(gpu, True, deterministic=True):
        assert os.environ[name] == ":16:8"


def test_the_simulation_refuses_what_a_gpu_refuses() -> None:
    with simulated_gpus():
        x = torch.ones(2, 3).to(GPU)
        for other in (torch.ones(2, 3), torch.ones(2, 3).to(OTHER)):
            with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
                x + other
        assert (x + torch.tensor(1.0)).device == torch.device(GPU)
        with pytest.raises(TypeError, match="can't convert cuda:1 device type tensor to numpy"):
            np.asarray(x)
        with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator"):
            torch.rand(3, generator=torch.Generator(), device=GPU)
        with (
            arithmetic(torch.device(GPU), True, deterministic=True),
            pytest.raises(RuntimeError, match="deterministic"),
        ):
            x.cumsum(0)


def test_the_simulation_tells_races() -> None:
    with simulated_gpus():
        side = torch.cuda.Stream(0)
        with torch.cuda.stream(side):
            x = torch.ones(3, device=OTHER) + 1
        with pytest.raises(Race, match="another stream has not written"):
            x * 2
        torch.cuda.current_stream(0).wait_stream(side)
        early = (x * 2).to("cpu", non_blocking=True)
        with pytest.raises(Race, match="a copy that has not arrived"):
            early.tolist()
        torch.cuda.synchronize()
        assert early.tolist() == [4.0, 4.0, 4.0]
        x.record_stream(torch.cuda.current_stream(0))
    with pytest.raises(Race, match="memory goes to other tensors"), simulated_gpus():
        with torch.cuda.stream(torch.cuda.Stream(0)) as _, torch.inference_mode():
            given = torch.ones(3, device=OTHER)
            done = torch.cuda.Event()
            done.record()
        torch.cuda.current_stream(0).wait_event(done)
        given * 2
        del given
