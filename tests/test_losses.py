"""Losses of P3M-Net against a transcription in numpy, their zeros and their gradients."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from numpy.typing import NDArray  # noqa: E402
from pydantic import ValidationError  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from p3mnet.create import create_model  # noqa: E402
from p3mnet.losses import LossWeights, matting_losses  # noqa: E402
from p3mnet.model import Matting, fuse  # noqa: E402
from p3mnet.networks import terms  # noqa: E402

SIDE = 64
SIDES = ("ce_side2", "ce_side1", "ce_side0")


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def make_batch(number: int = 3, seed: int = 0, colours: bool = True) -> dict[str, Tensor]:
    """Random labels of two patches each of background and foreground, and what the composition loss needs."""
    rng = np.random.default_rng(seed)
    trimap = np.repeat(np.repeat(rng.integers(0, 3, (number, 1, 4, 4)), SIDE // 4, 2), SIDE // 4, 3)
    alpha = np.where(trimap == 1, rng.random(trimap.shape), trimap / 2).astype(np.float32)
    batch = {"alpha": torch.from_numpy(alpha), "trimap": torch.from_numpy(trimap).long()}
    foreground, background = (torch.from_numpy(rng.standard_normal((number, 3, SIDE, SIDE), np.float32)) for _ in "fb")
    batch["image"] = batch["alpha"] * foreground + (1 - batch["alpha"]) * background
    return batch | ({"foreground": foreground, "background": background} if colours else {})


def make_output(number: int = 3, seed: int = 1) -> Matting:
    rng = np.random.default_rng(seed)
    scores = [torch.from_numpy(rng.standard_normal((number, 3, SIDE, SIDE), np.float32)) for _ in range(4)]
    local = torch.from_numpy(rng.random((number, 1, SIDE, SIDE), np.float32))
    return Matting(scores[0], local, fuse(scores[0], local), *scores[1:])


def perfect(batch: dict[str, Tensor]) -> Matting:
    logits = 100.0 * torch.nn.functional.one_hot(batch["trimap"][:, 0], 3).permute(0, 3, 1, 2)
    return Matting(logits, batch["alpha"], fuse(logits, batch["alpha"]), logits, logits, logits)


def entropy(logits: NDArray[np.float64], label: NDArray[np.int64]) -> float:
    logits = logits - logits.max(1, keepdims=True)
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return float(-np.log(np.take_along_axis(chances, label, 1)).mean())


def pyramid(matte: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Five differences from the smoothed matte, and the rest; pixel by pixel."""
    weights = np.array([[np.exp(-((x - 2) ** 2)) + np.exp(-((y - 2) ** 2)) for x in range(5)] for y in range(5)])
    weights /= weights.sum()
    levels = []
    for _ in range(5):
        height, width = matte.shape
        padded = np.pad(matte, 2, mode="edge")
        smooth = sum(weights[y, x] * padded[y : y + height, x : x + width] for y in range(5) for x in range(5))
        levels.append(matte - smooth)
        matte = smooth.reshape(height // 2, 2, width // 2, 2).mean((1, 3))
    return [*levels, matte]


def laplacian(predicted: NDArray[np.float64], label: NDArray[np.float64]) -> float:
    pairs = [zip(pyramid(p[0]), pyramid(g[0]), strict=True) for p, g in zip(predicted, label, strict=True)]
    return float(np.mean([sum(np.abs(a - b).mean() for a, b in pair) for pair in pairs]))


def transcribed(output: Matting, batch: dict[str, Tensor]) -> dict[str, float]:
    """The recipe, line by line, in float64."""
    out = {name: value.double().numpy() for name, value in output._asdict().items()}
    want = {name: value.double().numpy() for name, value in batch.items()}
    label, inside = batch["trimap"].numpy(), batch["trimap"].numpy() == 1
    parts = {
        "ce_global": entropy(out["global_logits"], label),
        **{f"ce_{side}": entropy(out[side], label) for side in ("side2", "side1", "side0")},
        "alpha_t": np.sqrt((out["local"] - want["alpha"])[inside] ** 2 + 1e-12).sum() / (inside.sum() + 1),
        "laplacian_t": laplacian(out["local"] * inside, want["alpha"] * inside),
        "alpha": np.sqrt((out["fusion"] - want["alpha"]) ** 2 + 1e-12).mean(),
        "laplacian": laplacian(out["fusion"], want["alpha"]),
    }
    composed = out["fusion"] * want["foreground"] + (1 - out["fusion"]) * want["background"]
    parts["composition"] = np.sqrt((composed - want["image"]) ** 2 + 1e-12).sum() / out["fusion"].size
    trimaps = 3 * parts["ce_global"] + parts["ce_side2"] + parts["ce_side1"] + parts["ce_side0"]
    local, fused = parts["alpha_t"] + parts["laplacian_t"], parts["alpha"] + parts["laplacian"]
    return parts | {"total": trimaps / 6 + 2 * local + 3 * fused + parts["composition"]}


def test_equals_the_transcription() -> None:
    batch, output = make_batch(), make_output()
    found = {name: float(value) for name, value in matting_losses(output, batch).items()}
    assert found == pytest.approx(transcribed(output, batch), rel=1e-5)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("size", [(32, 64), (40, 48)])
def test_the_pyramid_and_its_gradient(size: tuple[int, int], whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by PyTorch's convolution: the window in x and y apart, as on a CPU, and at once, as on a GPU."""
    monkeypatch.setattr(terms, "_whole", lambda x: whole)
    draw = torch.Generator().manual_seed(0)
    given = torch.randn(2, 3, 1, *size, generator=draw, dtype=torch.float64, requires_grad=True)
    bell = torch.exp(-(torch.arange(-2.0, 3.0, dtype=torch.float64).square()))
    window = (bell[:, None] + bell) / (bell[:, None] + bell).sum()
    want, x = torch.zeros(2, dtype=torch.float64), given
    for _ in range(terms.LEVELS):
        smooth = F.conv2d(F.pad(x.flatten(0, 1), (2, 2, 2, 2), mode="replicate"), window[None, None]).reshape(x.shape)
        want = want + (x - smooth).abs().flatten(1).mean(1)
        halved = F.avg_pool2d(smooth.flatten(0, 1), 2)
        x = halved.reshape(2, 3, 1, *halved.shape[-2:])
    want = want + x.abs().flatten(1).mean(1)
    (gradient,) = torch.autograd.grad(want @ torch.tensor([1.0, 2.0], dtype=torch.float64), given)
    found = terms.laplacian(given)
    (ours,) = torch.autograd.grad(found @ torch.tensor([1.0, 2.0], dtype=torch.float64), given)
    # Coefficients of the window on a GPU have 24 bits.
    torch.testing.assert_close(found, want, rtol=1e-6, atol=0)
    torch.testing.assert_close(ours, gradient, rtol=1e-5, atol=1e-8)


def test_a_perfect_prediction_costs_nothing() -> None:
    batch = make_batch()
    found = matting_losses(perfect(batch), batch)
    for name, value in found.items():
        assert float(value) == pytest.approx(0, abs=3e-5), name


def test_no_transition_area_is_no_loss_there() -> None:
    batch = make_batch()
    batch["trimap"] = batch["trimap"].clamp(min=2)
    found = matting_losses(make_output(), batch)
    assert float(found["alpha_t"]) == float(found["laplacian_t"]) == 0
    assert torch.isfinite(found["total"])


def test_composition_needs_both_colours() -> None:
    batch, output = make_batch(), make_output()
    whole = matting_losses(output, batch)
    del batch["background"]
    found = matting_losses(output, batch)
    assert "composition" not in found
    torch.testing.assert_close(found["total"], whole["total"] - whole["composition"])


def test_without_dbfi_the_segmentation_keeps_its_share() -> None:
    batch = make_batch()
    output = make_output()._replace(side2=None, side1=None, side0=None)
    found = matting_losses(output, batch)
    assert not set(SIDES) & set(found)
    rest = 2 * (found["alpha_t"] + found["laplacian_t"]) + 3 * (found["alpha"] + found["laplacian"])
    torch.testing.assert_close(found["total"], found["ce_global"] + rest + found["composition"])


def test_weights_can_be_set() -> None:
    batch, output = make_batch(), make_output()
    nothing = dict.fromkeys(LossWeights.model_fields, 0.0)
    found = matting_losses(output, batch, LossWeights(**(nothing | {"laplacian": 2.0})))
    torch.testing.assert_close(found["total"], 2 * found["laplacian"])
    for wrong in ({"alpha": -1}, {"alfa": 1}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            LossWeights(**wrong)


def test_order_of_the_batch_does_not_matter() -> None:
    batch, output = make_batch(), make_output()
    order = torch.tensor([2, 0, 1])
    other = matting_losses(Matting(*(value[order] for value in output)), {k: v[order] for k, v in batch.items()})
    for name, value in matting_losses(output, batch).items():
        torch.testing.assert_close(other[name], value, msg=name)


def test_float32_under_autocast() -> None:
    batch, output = make_batch(), make_output()
    want = matting_losses(output, batch)
    half = Matting(*(value.bfloat16() for value in output))
    expected = matting_losses(Matting(*(value.float() for value in half)), batch)
    with torch.autocast("cpu", torch.bfloat16):
        same, rounded = matting_losses(output, batch), matting_losses(half, batch)
    for name in want:
        assert same[name].dtype == rounded[name].dtype == torch.float32
        assert torch.equal(same[name], want[name]) and torch.equal(rounded[name], expected[name])


@pytest.mark.parametrize("part", ["alpha_t", "laplacian_t", "alpha", "laplacian", "composition"])
def test_only_trimap_losses_reach_the_global_logits(part: str) -> None:
    batch, output = make_batch(), make_output()
    logits, local = output.global_logits.requires_grad_(), output.local.requires_grad_()
    found = matting_losses(output._replace(fusion=fuse(logits, local)), batch)
    (gradient, nothing) = torch.autograd.grad(found[part], (local, logits), allow_unused=True, retain_graph=True)
    assert nothing is None
    assert gradient.isfinite().all() and gradient.any()
    (gradient,) = torch.autograd.grad(found["ce_global"], logits)
    assert gradient.any()


def test_gradients_stop_where_they_should() -> None:
    """In the network: trimap losses train the segmentation decoder's end; alpha losses train the matting decoder."""
    torch.manual_seed(0)
    model = create_model("p3mnet_resnet34", encoder_weights="random")
    batch = make_batch(2)
    found = matting_losses(model(batch["image"]), batch)
    end = [*model.segmentation.stages[0].parameters()]
    matting = [*model.matting.head.parameters()]
    for part, trained, untouched in (("alpha_t", matting, end), ("ce_global", end, matting)):
        gradients = torch.autograd.grad(found[part], [*trained, *untouched], allow_unused=True, retain_graph=True)
        assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients[: len(trained)])
        assert all(gradient is None for gradient in gradients[len(trained) :])
    found["total"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
