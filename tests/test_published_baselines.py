"""Baselines as published: MODNet by published names, losses of one step recomputed, the published test rule."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from p3mnet.checkpoint import load_checkpoint, load_official, save_checkpoint  # noqa: E402
from p3mnet.create import create_model  # noqa: E402
from p3mnet.legacy import _modnet_size, pinned_resize  # noqa: E402
from p3mnet.losses import LossWeights, matting_losses  # noqa: E402
from p3mnet.model import ModelConfig, normalise  # noqa: E402
from p3mnet.networks.gfm import Glance  # noqa: E402
from p3mnet.networks.modnet import Objectives, objective_losses  # noqa: E402
from p3mnet.predict import predict_alpha  # noqa: E402
from p3mnet.registry import build  # noqa: E402
from p3mnet.training import make_config, train  # noqa: E402
from p3mnet.training import step as step_module  # noqa: E402
from p3mnet.training.optimizing import OptimizerSettings, Schedule, make_optimizer, rate_at  # noqa: E402
from tests.factories import texture  # noqa: E402
from tests.test_losses import entropy, make_batch, make_output, transcribed  # noqa: E402
from tests.test_train import narrow_networks, settings, write_set  # noqa: E402


@pytest.fixture(autouse=True, scope="module")
def _narrow() -> Iterator[None]:
    with narrow_networks():
        yield


class File:
    """A published MODNet file that is written while it is read for the first time: an entry per name asked for."""

    def __init__(self) -> None:
        self.entries: dict[str, Tensor] = {}
        self.generator = torch.Generator().manual_seed(1)

    def __call__(self, name: str, *shape: int, around: float = 0.0, spread: float = 0.1) -> Tensor:
        if name not in self.entries:
            self.entries[name] = around + spread * torch.randn(shape, generator=self.generator)
        return self.entries[name]

    def conv(
        self, name: str, x: Tensor, out: int, side: int, stride: int = 1, bias: bool = True, groups: int = 1
    ) -> Tensor:
        weight = self(
            f"{name}.weight", out, x.shape[1] // groups, side, side, spread=1 / (side * (x.shape[1] / groups) ** 0.5)
        )
        return F.conv2d(x, weight, self(f"{name}.bias", out) if bias else None, stride, side // 2, groups=groups)

    def norm(self, name: str, x: Tensor) -> Tensor:
        channels = x.shape[1]
        values = [self(f"{name}.{part}", channels, around=around) for part, around in
                  (("running_mean", 0.0), ("running_var", 1.0), ("weight", 1.0), ("bias", 0.0))]  # fmt: skip
        self.entries[f"{name}.num_batches_tracked"] = torch.tensor(0)
        self.entries[f"{name}.running_var"] = values[1] = values[1].abs() + 0.1
        return F.batch_norm(x, values[0], values[1], values[2], values[3])

    def unit(self, name: str, x: Tensor, out: int, side: int = 3, stride: int = 1) -> Tensor:
        """Convolution, batch norm of the first half, instance norm of the second, ReLU."""
        x = self.conv(f"{name}.layers.0", x, out, side, stride)
        half = out // 2
        return F.relu(torch.cat([self.norm(f"{name}.layers.1.bnorm", x[:, :half]), F.instance_norm(x[:, half:])], 1))


def larger(x: Tensor, factor: float = 2) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def modnet(file: File, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """MODNet on images in -1..1, from the names of its published file; written apart from `p3mnet.networks.modnet`."""
    x = F.relu6(
        file.norm("backbone.model.features.0.1", file.conv("backbone.model.features.0.0", image, 32, 3, 2, False))
    )
    kept, number = [], 1
    for expansion, out, blocks, stride in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
                                           (6, 160, 3, 2), (6, 320, 1, 1)):  # fmt: skip
        for block in range(blocks):
            name, before, y, at = f"backbone.model.features.{number}.conv", x, x, 0
            if expansion > 1:
                y = F.relu6(file.norm(f"{name}.1", file.conv(f"{name}.0", y, x.shape[1] * expansion, 1, 1, False)))
                at = 3
            step = stride if block == 0 else 1
            y = F.relu6(
                file.norm(f"{name}.{at + 1}", file.conv(f"{name}.{at}", y, y.shape[1], 3, step, False, y.shape[1]))
            )
            y = file.norm(f"{name}.{at + 4}", file.conv(f"{name}.{at + 3}", y, out, 1, 1, False))
            x = before + y if step == 1 and before.shape == y.shape else y
            number += 1
        kept.append(x)
    last = F.relu6(
        file.norm("backbone.model.features.18.1", file.conv("backbone.model.features.18.0", x, 1280, 1, 1, False))
    )
    at2, at4 = kept[0], kept[1]
    pooled = last.mean((2, 3))
    gate = F.linear(F.relu(F.linear(pooled, file("lr_branch.se_block.fc.0.weight", 320, 1280))),
                    file("lr_branch.se_block.fc.2.weight", 1280, 320)).sigmoid()  # fmt: skip
    lr16 = file.unit("lr_branch.conv_lr16x", larger(last * gate[:, :, None, None]), 96, 5)
    lr8 = file.unit("lr_branch.conv_lr8x", larger(lr16), 32, 5)
    semantic = file.conv("lr_branch.conv_lr.layers.0", lr8, 1, 3, 2).sigmoid()
    enc2 = file.unit("hr_branch.tohr_enc2x", at2, 32, 1)
    hr4 = file.unit("hr_branch.conv_enc2x", torch.cat([larger(image, 0.5), enc2], 1), 32, 3, 2)
    hr4 = file.unit("hr_branch.conv_enc4x", torch.cat([hr4, file.unit("hr_branch.tohr_enc4x", at4, 32, 1)], 1), 64)
    hr4 = torch.cat([hr4, larger(lr8), larger(image, 0.25)], 1)
    for number, out in enumerate((64, 64, 32)):
        hr4 = file.unit(f"hr_branch.conv_hr4x.{number}", hr4, out)
    hr2 = torch.cat([larger(hr4), enc2], 1)
    for number, out in enumerate((64, 32, 32, 32)):
        hr2 = file.unit(f"hr_branch.conv_hr2x.{number}", hr2, out)
    hr = file.unit("hr_branch.conv_hr.0", torch.cat([larger(hr2), image], 1), 32)
    detail = file.conv("hr_branch.conv_hr.1.layers.0", hr, 1, 1).sigmoid()
    lr2 = larger(file.unit("f_branch.conv_lr4x", larger(lr8), 32, 5))
    fused = file.unit("f_branch.conv_f2x", torch.cat([lr2, hr2], 1), 32)
    fused = file.unit("f_branch.conv_f.0", torch.cat([larger(fused), image], 1), 16)
    return semantic, detail, file.conv("f_branch.conv_f.1.layers.0", fused, 1, 1).sigmoid()


def test_modnets_official_checkpoint_is_the_published_network(tmp_path: Path) -> None:
    file = File()
    image = torch.rand(2, 3, 96, 128, generator=torch.Generator().manual_seed(2))
    expected = modnet(file, (image - 0.5) / 0.5)
    assert len(file.entries) == 439
    # Published files name the encoder twice, and everything after the parallel wrapper.
    state = file.entries | {
        f"lr_branch.{name}": value for name, value in file.entries.items() if name.startswith("backbone")
    }
    torch.save({f"module.{name}": value for name, value in state.items()}, tmp_path / "modnet.ckpt")
    model = create_model("modnet", encoder_weights="random")
    done = load_official(model, tmp_path / "modnet.ckpt")
    assert (done.loaded, done.dropped, done.kept) == (439, (), ())
    with torch.no_grad():
        found = model.eval()(normalise(image))
    for ours, theirs in zip(found, expected, strict=False):
        assert theirs.std() > 1e-3 and (ours - theirs).abs().max() < 1e-5


def test_modnet_of_earlier_checkpoints_sees_what_it_was_trained_on(tmp_path: Path) -> None:
    torch.manual_seed(0)
    new = create_model("modnet", encoder_weights="random").eval()
    old = build(ModelConfig("modnet")).eval()
    old.load_state_dict(new.state_dict())
    content = {"format": "p3mnet-checkpoint", "version": 1, "state_dict": old.state_dict(), "extra": {}}
    config = {"name": "modnet", "tfi": True, "sbfi": True, "dbfi": True, "pool_kernel": 2, "drop_path": 0.0}
    torch.save(content | {"config": config}, tmp_path / "old.pt")
    save_checkpoint(tmp_path / "new.pt", new)
    image = normalise(torch.rand(1, 3, 64, 64))
    with torch.no_grad():
        seen = [load_checkpoint(tmp_path / name).model(image).fusion for name in ("old.pt", "new.pt")]
        assert torch.equal(seen[0], old(image).fusion) and torch.equal(seen[1], new(image).fusion)
        assert not torch.equal(seen[0], seen[1])


# Losses


def modnet_losses(out: dict[str, Any], batch: dict[str, Any]) -> dict[str, float]:
    """MODNet's training losses in numpy, from its paper and its trainer; written apart."""
    ndimage = pytest.importorskip("scipy.ndimage")
    alpha, image = batch["alpha"], out["image"]
    inside = batch["trimap"] == 1
    # Bilinear to a 16th: the mean of the four middle pixels.
    coarse = (
        alpha[..., 7::16, 7::16] + alpha[..., 7::16, 8::16] + alpha[..., 8::16, 7::16] + alpha[..., 8::16, 8::16]
    ) / 4
    point = np.zeros((3, 3))
    point[1, 1] = 1
    window = ndimage.gaussian_filter(point, 0.8)
    smooth = np.stack([ndimage.convolve(one[0], window, mode="mirror")[None] for one in coarse])
    difference = out["fusion"] - alpha
    parts = {
        "semantic": ((out["semantic"] - smooth) ** 2).mean(),
        "detail": np.where(inside, np.abs(out["detail"] - alpha), 0).mean(),
        "fusion": np.abs(difference).mean() + 4 * np.where(inside, np.abs(difference), 0).mean()
        + np.abs(image * difference).mean() + 4 * np.where(inside, np.abs(image * difference), 0).mean(),
    }  # fmt: skip
    return parts | {"total": 10 * parts["semantic"] + 10 * parts["detail"] + parts["fusion"]}


def gfm_losses(output: Any, batch: dict[str, Tensor]) -> dict[str, float]:
    """GFM's: a quarter of cross-entropy of the sigmoid, of the local part, of the fused one and of the composition."""
    sides = {side: output.global_logits for side in ("side2", "side1", "side0")}
    parts = transcribed(output._replace(**sides), batch)
    squashed = 1 / (1 + np.exp(-output.global_logits.double().numpy()))
    parts["ce_global"] = entropy(squashed, batch["trimap"].numpy())
    four = (parts["ce_global"], parts["alpha_t"] + parts["laplacian_t"], parts["alpha"] + parts["laplacian"],
            parts["composition"])  # fmt: skip
    kept = ("ce_global", "alpha_t", "laplacian_t", "alpha", "laplacian", "composition")
    return {name: parts[name] for name in kept} | {"total": sum(four) / 4}


def test_gfm_weighs_four_terms_alike() -> None:
    batch, output = make_batch(), Glance(*make_output()[:3], None, None, None)
    found = {name: float(value) for name, value in matting_losses(output, batch).items()}
    assert found == pytest.approx(gfm_losses(output, batch), rel=1e-5)
    chosen = make_config({"dataset": "x", "model": {"name": "gfm_resnet34"}, "losses": {"alpha": 7}})
    assert (chosen.losses.alpha, chosen.losses.laplacian, chosen.losses.segmentation) == (7, 0.25, 0.25)
    assert make_config({"dataset": "x"}).losses == LossWeights()


def test_modnets_label_is_blurred_as_published() -> None:
    rng = np.random.default_rng(0)
    alpha = torch.from_numpy(rng.random((2, 1, 64, 64), np.float32))
    trimap = torch.from_numpy(rng.integers(0, 3, (2, 1, 64, 64)))
    out = Objectives(*(torch.from_numpy(rng.random(shape, np.float32)) for shape in
                       ((2, 1, 4, 4), (2, 1, 64, 64), (2, 1, 64, 64), (2, 3, 64, 64))))  # fmt: skip
    found = {name: float(value) for name, value in objective_losses(out, {"alpha": alpha, "trimap": trimap}).items()}
    arrays = {name: value.double().numpy() for name, value in out._asdict().items()}
    wanted = modnet_losses(arrays, {"alpha": alpha.double().numpy(), "trimap": trimap.numpy()})
    assert found == pytest.approx(wanted, rel=2e-5)


@pytest.mark.parametrize("name", ["narrow", "gfm_resnet34", "modnet"])
def test_losses_of_a_step_recomputed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the trainer logs of a batch is what code written apart from it makes of network and batch."""
    write_set(tmp_path / "data", "train", 5)
    seen: list[tuple[Any, dict[str, Tensor]]] = []
    real = step_module.losses_of

    def watched(network: Any, output: Any, batch: Any, weights: Any) -> Any:
        seen.append((type(output)(*(None if x is None else x.detach().clone() for x in output)), batch))
        return real(network, output, batch, weights)

    monkeypatch.setattr(step_module, "losses_of", watched)
    model = {"name": name, "encoder_weights": "random", **({"pool_kernel": 2} if name == "narrow" else {})}
    done = train(make_config(settings(tmp_path / "data", model=model, epochs=1, steps=1)), tmp_path / "out")
    with (tmp_path / "out/log.csv").open(newline="") as source:
        logged = {key: float(value) for key, value in next(csv.DictReader(source)).items()}
    output, batch = seen[0]
    if name == "modnet":
        arrays = {key: value.double().numpy() for key, value in output._asdict().items()}
        wanted = modnet_losses(arrays, {kind: batch[kind].double().numpy() for kind in ("alpha", "trimap")})
    else:
        tensors = {kind: batch[kind] for kind in ("image", "foreground", "background", "alpha", "trimap")}
        wanted = (gfm_losses if name.startswith("gfm") else transcribed)(output, tensors)
    assert {key: logged[key] for key in wanted} == pytest.approx(wanted, rel=3e-5)
    assert set(done.terms) == set(wanted) - {"total"}


# Optimiser, schedule, stochastic depth


def test_swin_is_trained_with_stochastic_depth() -> None:
    chosen = [create_model("p3mnet_swin_t", encoder_weights="random", drop_path=given).config for given in (None, 0.0)]
    assert [config.drop_path for config in chosen] == [0.2, 0.0]
    assert create_model("p3mnet_resnet34", encoder_weights="random").config.drop_path == 0.0
    assert make_config({"dataset": "x", "model": {"name": "p3mnet_swin_t"}}).model.drop_path is None


def test_learning_rates() -> None:
    def rates(schedule: Schedule) -> list[float]:
        return [rate_at(schedule, 0.01, step, step // 10, 400, 40) for step in (0, 99, 100, 200, 399)]

    assert rates(Schedule()) == [0.01] * 5
    assert rates(Schedule(name="step")) == pytest.approx([1e-2, 1e-2, 1e-3, 1e-4, 1e-5])
    assert rates(Schedule(name="step", every=20, factor=0.5)) == pytest.approx([0.01, 0.01, 0.01, 0.005, 0.005])
    cosine = rates(Schedule(name="cosine", warm_up=100))
    assert cosine[:3] == pytest.approx([1e-4, 0.01, 0.01]) and cosine[3] > cosine[4] > 0
    weight = torch.nn.Parameter(torch.ones(1))
    kinds = [
        type(make_optimizer(OptimizerSettings(name=name), [weight], 0.1, False)).__name__
        for name in ("adam", "adamw", "sgd")
    ]
    assert kinds == ["Adam", "AdamW", "SGD"]


def test_the_log_tells_the_learning_rate(tmp_path: Path) -> None:
    write_set(tmp_path / "data", "train", 5)
    chosen = settings(tmp_path / "data", epochs=2, optimizer={"name": "sgd"}, schedule={"name": "step", "every": 1})
    train(make_config(chosen), tmp_path / "out")
    with (tmp_path / "out/log.csv").open(newline="") as source:
        found = [float(row["learning_rate"]) for row in csv.DictReader(source)]
    assert found == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])


# The published test rule


@pytest.mark.parametrize(("before", "after"), [((50, 70), (32, 32)), ((33, 40), (70, 90))])
def test_resizing_is_that_of_the_pinned_library(before: tuple[int, int], after: tuple[int, int]) -> None:
    transform = pytest.importorskip("skimage.transform")
    values = np.random.default_rng(0).random((*before, 3))
    wanted = transform.resize(values, after, order=1, mode="constant", anti_aliasing=False)
    assert np.abs(pinned_resize(values, *after) - wanted).max() < 1e-9
    # A border of ones is darkened, which `p3mnet.infer`'s own rules do not do.
    assert pinned_resize(np.ones((32, 32)), 64, 64)[0, 0] == pytest.approx(0.75**2)


def test_the_published_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    transform = pytest.importorskip("skimage.transform")
    torch.manual_seed(0)
    model = create_model("narrow", encoder_weights="random", pool_kernel=2).eval()
    rgb = texture(150, 201, 4)
    small = transform.resize(rgb, (64, 96), order=1, mode="constant", anti_aliasing=False).astype(np.float32)
    with torch.no_grad():
        fused = model(normalise(torch.from_numpy(small).permute(2, 0, 1)[None])).fusion[0, 0].numpy()
    wanted = transform.resize(fused.astype(np.float64), (150, 201), order=1, mode="constant", anti_aliasing=False)
    found = np.rint(predict_alpha(model, rgb, "legacy_resize") * 255)
    different = found != (wanted * 255).astype(np.uint8)
    # Only where a value lies on the edge between two levels.
    edge = np.abs(wanted * 255 - np.rint(wanted * 255)) < 1e-4
    assert not (different & ~edge).any() and different.mean() < 0.5 and found.max() > 0
    other = np.rint(predict_alpha(model, rgb, "resize") * 255)
    assert (other != found).mean() > 0.01


def test_modnets_own_size() -> None:
    assert _modnet_size(1080, 1620) == (512, 768) and _modnet_size(1620, 1080) == (768, 512)
    assert _modnet_size(400, 700) == (384, 672) and _modnet_size(300, 400) == (512, 672)
