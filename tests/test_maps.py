"""Maps: what is computed place by place, as on a GPU, is what PyTorch's operators give on a CPU, gradients too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from p3mnet import maps  # noqa: E402
from p3mnet.create import create_model  # noqa: E402
from p3mnet.loader import to_device  # noqa: E402
from p3mnet.losses import matting_losses  # noqa: E402
from p3mnet.maps import pool, pool_apart, unpool, unpool_by_plane, upsample  # noqa: E402
from tests.test_networks import GOLDEN, SHORT, network, picture, variants  # noqa: E402
from tests.test_train import computing_in  # noqa: E402

FORMATS = (torch.contiguous_format, torch.channels_last)
# Without a repeatable form on a GPU, or slow in it, forward or backward (PyTorch's documentation of
# `use_deterministic_algorithms`, and its sources for pooling). Sums of `index_put` are sorted there.
UNREPEATABLE = (
    "max_unpool2d", "nll_loss", "upsample_bilinear2d_backward", "replication_pad2d_backward",
    "reflection_pad2d_backward", "max_pool2d_with_indices_backward", "scatter", "index_add", "cumsum", "adaptive",
    "put_",
)  # fmt: skip


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maps, "by_place", lambda x: True)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def drawn(*shape: int, dtype: Any = None) -> Tensor:
    return torch.from_numpy(np.random.default_rng(sum(shape)).standard_normal(shape)).to(dtype or torch.float32)


def pooled(x: Tensor, kernel: int) -> tuple[Tensor, Tensor]:
    found: tuple[Tensor, Tensor] = F.max_pool2d(x, kernel, 2, padding=(kernel - 1) // 2, return_indices=True)
    return found


@pytest.mark.parametrize("kernel", [2, 3])
def test_unpooling_keeps_the_last_of_colliding_values(kernel: int, monkeypatch: pytest.MonkeyPatch) -> None:
    maxima, index = pooled(drawn(2, 48, 64, 96), kernel)
    values = torch.randn_like(maxima)
    want = torch.zeros(2, 48, 64 * 96)
    for place in range(index[0, 0].numel()):
        want.scatter_(2, index.flatten(2)[..., place : place + 1], values.flatten(2)[..., place : place + 1])
    want = want.reshape(2, 48, 64, 96)
    if kernel == 3:
        claimed = torch.zeros(2, 48, 64 * 96).scatter_add_(2, index.flatten(2), torch.ones(2, 48, 32 * 48))
        assert (claimed > 1).any(), "the test is about collisions"
    for memory_format in FORMATS:
        moved = [x.to(memory_format=memory_format) for x in (values, index)]
        assert torch.equal(unpool_by_plane(*moved, kernel), want)
        assert torch.equal(unpool(*moved, kernel), want)
        with monkeypatch.context() as patch:
            patch.setattr(maps, "by_place", lambda x: True)
            found = unpool(*moved, kernel)
        assert torch.equal(found, want)
        assert found.is_contiguous(memory_format=torch.channels_last)


def test_threads_do_not_race_for_places() -> None:
    _, index = pooled(drawn(1, 64, 256, 320), 3)
    values = drawn(*index.shape)
    want = unpool_by_plane(values, index, 3)
    moved = [x.to(memory_format=torch.channels_last) for x in (values, index)]
    for threads in (1, 2, 2, 2):
        torch.set_num_threads(threads)
        assert torch.equal(unpool(*moved, 3), want)


@pytest.mark.parametrize("size", [(2, 2), (2, 8), (6, 4), (32, 64)])
@pytest.mark.parametrize("kernel", [2, 3])
def test_gradients_of_pooling_and_unpooling(kernel: int, size: tuple[int, int], as_on_a_gpu: None) -> None:
    # Few different values, so that windows have several maxima.
    x = drawn(2, 5, *size, dtype=torch.float64).round()
    given, ours = (x.clone().requires_grad_() for _ in range(2))
    want, index = pooled(given, kernel)
    found, our_index = pool(ours, kernel)
    assert torch.equal(found, want) and torch.equal(our_index, index)
    # An upper level feeds the unpooling; its own gradient comes back through the pooling.
    # Without collisions: which of them stays on a CPU is tested above.
    weights = drawn(2, 5, *size, dtype=torch.float64)
    (F.max_unpool2d(want * 2, index, [2, 2]) * weights).sum().backward()
    (unpool(found * 2, our_index, kernel) * weights).sum().backward()
    torch.testing.assert_close(ours.grad, given.grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_windows_apart(stride: int, as_on_a_gpu: None) -> None:
    x = drawn(2, 5, 16, 24, dtype=torch.float64).round()
    given, ours = (x.clone().requires_grad_() for _ in range(2))
    want, found = F.max_pool2d(given, 2, stride), pool_apart(ours, stride)
    assert torch.equal(found, want)
    weights = drawn(*want.shape, dtype=torch.float64)
    (want * weights).sum().backward()
    (found * weights).sum().backward()
    assert torch.equal(ours.grad, given.grad)


@pytest.mark.parametrize("ratio", [2, 4, 16, 32])
@pytest.mark.parametrize("size", [(1, 1), (1, 3), (5, 2), (8, 8)])
def test_upsampling_is_bilinear(ratio: int, size: tuple[int, int], as_on_a_gpu: None) -> None:
    x = drawn(2, 3, *size, dtype=torch.float64)
    given, ours = (x.clone().requires_grad_() for _ in range(2))
    want = F.interpolate(given, scale_factor=float(ratio), mode="bilinear", align_corners=False)
    found = upsample(ours, ratio)
    torch.testing.assert_close(found, want, rtol=0, atol=1e-12)
    weights = drawn(*want.shape, dtype=torch.float64)
    (want * weights).sum().backward()
    (found * weights).sum().backward()
    torch.testing.assert_close(ours.grad, given.grad, rtol=0, atol=1e-10)
    assert upsample(x.bfloat16(), ratio).dtype == torch.bfloat16


@pytest.mark.slow
@pytest.mark.parametrize("on_a_gpu", [False, True])
@variants
def test_published_outputs_and_fusion_with_transition_pixels(
    variant: str, on_a_gpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The golden outputs have none: scores are shifted so that all classes appear, by the bias that they end in."""
    golden = np.load(GOLDEN / f"p3mnet_{SHORT[variant]}.npz")
    step = 256 // golden["global"].shape[-2]
    shift = -np.median(golden["global"], (0, 2, 3))
    scores = golden["global"] + shift[:, None, None]
    label, sorted_scores = scores.argmax(1, keepdims=True), np.sort(scores, 1)
    want = np.where(label == 1, golden["local"], label == 2)
    # Where two classes are as good as equal, either may win.
    clear = (sorted_scores[:, 2:] - sorted_scores[:, 1:2]) > 3e-5
    assert all((label == number).mean() > 0.1 for number in range(3)) and clear.mean() > 0.95
    monkeypatch.setattr(maps, "by_place", lambda x: on_a_gpu)
    head = [part for part in network(variant).segmentation.modules() if getattr(part, "out_channels", 0) == 3]
    bias = next(part.bias for part in head if part.bias is not None)
    before = bias.detach().clone()
    try:
        with torch.inference_mode():
            bias += torch.from_numpy(shift)
            out = network(variant)(picture(256, 320))
    finally:
        with torch.inference_mode():
            bias.copy_(before)
    logits, local, fusion = (plane.numpy()[..., ::step, ::step] for plane in out[:3])
    np.testing.assert_allclose(logits, scores, rtol=0, atol=1e-5)
    np.testing.assert_allclose(local, golden["local"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(fusion[clear], want[clear], rtol=0, atol=1e-5)


class _Operators(TorchDispatchMode):
    """Names of all operators that run within it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.__name__.partition(".")[0])
        return func(*args, **(kwargs or {}))


def trained_step(variant: str, side: int = 64) -> tuple[dict[str, Tensor], dict[str, Tensor], set[str]]:
    """Losses and gradients of a step, and the operators of it."""
    torch.manual_seed(0)
    draw = np.random.default_rng(0)
    pixels = {
        kind: draw.integers(0, 256, (2, 3, side, side), np.uint8) for kind in ("image", "foreground", "background")
    }
    pixels["alpha"] = draw.integers(0, 256, (2, 1, side, side), np.uint8)
    trimap = np.repeat(np.repeat(draw.choice([0, 128, 255], (2, 1, 4, 4)), side // 4, 2), side // 4, 3)
    batch: dict[str, Any] = {kind: torch.from_numpy(values) for kind, values in pixels.items()}
    batch |= {"trimap": torch.from_numpy(trimap.astype(np.uint8)), "facemask": torch.zeros(2, 1, side, side).byte()}
    model = create_model(variant, encoder_weights="random").train()
    moved = to_device(batch, "cpu")
    with _Operators() as seen:
        parts = matting_losses(model(moved["image"]), moved)
        parts["total"].backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {name: part.detach() for name, part in parts.items()}, gradients, seen.names


@pytest.mark.slow
@variants
def test_a_step_as_on_a_gpu_is_that_on_a_cpu_and_repeatable(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    with computing_in("float64"):
        want, gradients, plain = trained_step(variant)
    assert plain & {"max_pool2d_with_indices_backward"}
    monkeypatch.setattr(maps, "by_place", lambda x: True)
    with computing_in("float64"):
        found, ours, operators = trained_step(variant)
    assert not [name for name in operators if name.lstrip("_").startswith(UNREPEATABLE)], sorted(operators)
    # ViTAE's performers compute in float32 whatever the rest does.
    bound = 1e-2 if variant == "p3mnet_vitae_s" else 1e-9
    for name, part in want.items():
        torch.testing.assert_close(found[name], part, rtol=bound, atol=bound, msg=name)
    assert ours.keys() == gradients.keys()
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    for name, gradient in gradients.items():
        # Those of a bias before a batch norm are nothing but rounding.
        scale = max(float(gradient.abs().max()), 1e-3 * largest)
        assert float((ours[name] - gradient).abs().max()) < bound * scale, name
