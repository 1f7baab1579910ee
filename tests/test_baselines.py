"""The methods that P3M-Net is compared with: networks as published in size, trimap-based ones right on known mattes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from p3mdata.errors import SettingsError, SetupError  # noqa: E402
from p3mnet.baselines.modnet import MODNet, Objectives, objective_losses  # noqa: E402
from p3mnet.checkpoint import load_checkpoint, load_imagenet, save_checkpoint  # noqa: E402
from p3mnet.copy_paste import CopyPasteConfig, Sources, fcp  # noqa: E402
from p3mnet.data import seeded  # noqa: E402
from p3mnet.infer import predict_alpha  # noqa: E402
from p3mnet.losses import matting_losses  # noqa: E402
from p3mnet.model import FOREGROUND, TRANSITION, MattingNetwork, ModelConfig, count_parameters  # noqa: E402
from p3mnet.registry import BASELINES, create_model  # noqa: E402
from p3mnet.training import make_config, train  # noqa: E402
from tests.factories import encoded, synthetic_portrait  # noqa: E402

SIDE = 96


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=list(BASELINES))
def network(request: pytest.FixtureRequest) -> MattingNetwork:
    torch.manual_seed(0)
    return create_model(request.param, encoder_weights="random")


def write_dataset(root: Path, pictures: int = 4, sets: tuple[str, ...] = ("train",), side: int = SIDE) -> Path:
    """A dataset of layout plain with synthetic portraits; each set has other ones."""
    for first, name in enumerate(sets):
        for number in range(pictures):
            drawn = synthetic_portrait(side, 100 * first + number)
            for kind, pixels in zip(("images", "alphas", "facemasks"), drawn, strict=True):
                path = root / name / kind / f"p{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encoded(pixels, "PNG"))
    return root


def batch_of(side: int = 64, pictures: int = 2) -> dict[str, Any]:
    """What the losses want, of synthetic portraits."""
    rgb, alpha, facemask = zip(*(synthetic_portrait(side, number) for number in range(pictures)), strict=True)
    stacked = [torch.stack([torch.from_numpy(plane) for plane in planes]) for planes in (rgb, alpha, facemask)]
    matte = stacked[1][:, None].float() / 255
    trimap = torch.where((matte > 0) & (matte < 1), TRANSITION, (matte == 1).long() * FOREGROUND)
    return {
        "image": (stacked[0].permute(0, 3, 1, 2).float() / 255 - 0.45) / 0.225,
        "alpha": matte,
        "trimap": trimap,
        "facemask": stacked[2][:, None] > 0,
        "name": [f"p{number}" for number in range(pictures)],
    }


def test_sizes_are_the_published_ones() -> None:
    for name, count in (("gfm_resnet34", 55_286_316), ("modnet", 6_487_075)):
        assert count_parameters(create_model(name, encoder_weights="random"), as_published=True) == count
    with pytest.raises(SettingsError, match="modnet has no settings"):
        create_model("modnet", tfi=False)


@pytest.mark.parametrize("size", [(33, 95), (64, 64), (1, 40)])
def test_any_size_gives_an_alpha_of_that_size(network: MattingNetwork, size: tuple[int, int]) -> None:
    with torch.inference_mode():
        network.eval()
        alpha = network(torch.randn(2, 3, *size)).fusion
    assert alpha.shape == (2, 1, *size) and 0 <= alpha.min() <= alpha.max() <= 1


def test_steps_lower_the_loss(network: MattingNetwork) -> None:
    batch = batch_of()
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)
    found = []
    for _ in range(5):
        optimizer.zero_grad()
        parts = matting_losses(network(batch["image"]), batch)
        parts["total"].backward()
        optimizer.step()
        found.append(parts["total"].item())
    assert found[-1] < 0.8 * found[0]
    # Everything that is there has a part in it, but for what the fusion's argmax stops.
    idle = [name for name, value in network.named_parameters() if value.grad is None]
    assert not idle


def test_objective_losses_by_hand() -> None:
    alpha = torch.zeros(1, 1, 32, 32)
    alpha[..., 8:] = 1
    trimap = (alpha > 0).long() * FOREGROUND
    trimap[..., 7:9] = TRANSITION
    batch = {"alpha": alpha, "trimap": trimap, "image": torch.full((1, 3, 32, 32), 0.5)}
    perfect = objective_losses(Objectives(torch.zeros(1, 1, 2, 2), alpha, alpha), batch)
    assert perfect["detail"] == perfect["fusion"] == 0
    wrong = objective_losses(Objectives(torch.ones(1, 1, 2, 2), 1 - alpha, 1 - alpha), batch)
    # All pixels are wrong by 1: two columns of 32 count five times; the image adds its half of it.
    assert wrong["detail"] == pytest.approx(2 / 32)
    assert wrong["fusion"] == pytest.approx((30 / 32 + 5 * 2 / 32) * 1.5)
    assert wrong["total"] == pytest.approx(10 * wrong["semantic"] + 10 * wrong["detail"] + wrong["fusion"])


def test_checkpoints_come_back(network: MattingNetwork, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.pt", network, seed=3)
    back = load_checkpoint(tmp_path / "a.pt")
    assert type(back.model) is type(network) and back.extra == {"seed": 3}
    rgb = synthetic_portrait(40)[0]
    assert (predict_alpha(back.model, rgb) == predict_alpha(network.eval(), rgb)).all()


def test_imagenet_weights_fit_as_they_are(network: MattingNetwork, tmp_path: Path) -> None:
    ordinary = {name: value + 1 for name, value in network.encoder.state_dict().items()}
    classifier = {"fc.weight": torch.zeros(3)} if "layer1.0.conv1.weight" in ordinary else {}
    torch.save(ordinary | classifier, tmp_path / "imagenet.pth")
    fresh = create_model(network.config.name, encoder_weights=tmp_path / "imagenet.pth")
    assert all(torch.equal(value, ordinary[name]) for name, value in fresh.encoder.state_dict().items())
    torch.save({"strange": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(SetupError, match="strange"):
        load_imagenet(fresh, tmp_path / "other.pth")


def test_modnet_looks_at_its_own_size(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    model = MODNet(ModelConfig("modnet")).eval()
    forward = MODNet.forward
    monkeypatch.setattr(MODNet, "forward", lambda net, x: seen.append(tuple(x.shape[2:])) or forward(net, x))
    monkeypatch.setattr(MODNet, "short_side", 64)
    for height, width in ((128, 256), (32, 40)):
        alpha = predict_alpha(model, synthetic_portrait(256)[0][:height, :width], "hybrid", 1600)
        assert alpha.shape == (height, width)
    assert seen == [(64, 128), (32, 40)]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    for number in range(2):
        rgb, _, facemask = synthetic_portrait(96, 50 + number)
        for kind, pixels in (("image", rgb), ("facemask", facemask)):
            (folder / kind).mkdir(exist_ok=True)
            (folder / kind / f"s{number}.png").write_bytes(encoded(pixels, "PNG"))
    return folder


def test_faces_are_pasted_into_features(network: MattingNetwork, sources: Path) -> None:
    batch = batch_of()
    network.eval()
    kept: list[Any] = []
    config = CopyPasteConfig(mode="fcp", probability=1.0)
    edit = fcp(network, batch, Sources(sources), seeded(0), config)
    with torch.inference_mode():
        plain = network.encoder.stem(batch["image"])
        network(batch["image"], lambda e0: kept.append(edit(e0)) or kept[0])
    changed = (kept[0] != plain).any(1)
    # At half the size: only where the facemask is.
    masks = torch.nn.functional.max_pool2d(batch["facemask"].float(), 2)[:, 0] > 0
    assert changed.any() and not (changed & ~masks).any()
    deeper = fcp(
        network, batch, Sources(sources), seeded(0), CopyPasteConfig(mode="fcp", probability=1.0, layer="stage1")
    )
    if isinstance(network, MODNet):
        with pytest.raises(SettingsError, match="stage1 is not for MobileNetV2"):
            network(batch["image"], deeper)
    else:
        with torch.inference_mode():
            assert not torch.equal(network(batch["image"], deeper).local, network(batch["image"]).local)


@pytest.mark.parametrize("paste", ["icp", "fcp"])
@pytest.mark.parametrize("name", list(BASELINES))
def test_our_trainer_trains_it(name: str, paste: str, sources: Path, tmp_path: Path) -> None:
    settings = {
        "dataset": str(write_dataset(tmp_path / "data")),
        "model": {"name": name, "encoder_weights": "random"},
        "data": {"crop_sides": [64], "size": 64, "trimap_kernel": [5, 9], "colours": "none"},
        "validation": {"share": 0.25, "max_side": 96},
        "copy_paste": {"mode": paste, "start_epoch": 0},
        "sources": str(sources), "batch": 2, "accumulation": 2, "epochs": 1, "workers": 0, "device": "cpu",
    }  # fmt: skip
    result = train(make_config(settings), tmp_path / "out")
    assert result.losses["total"] > 0
    assert load_checkpoint(result.best).model.config.name == name
