"""The methods that P3M-Net is compared with: networks as published in size, trimap-based ones right on known mattes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")

from p3mdata.errors import BrokenInput, SettingsError, SetupError  # noqa: E402
from p3mdata.imaging import trimap as labels  # noqa: E402
from p3mdata.imaging.trimap import BACKGROUND, UNKNOWN, trimap_of  # noqa: E402
from p3mnet.baselines import CATALOGUE, Family  # noqa: E402
from p3mnet.baselines.classic import Classic, solve_small  # noqa: E402
from p3mnet.baselines.onnx_file import OnnxFile, OnnxOptions  # noqa: E402
from p3mnet.baselines.opening import parse_requests  # noqa: E402
from p3mnet.baselines.sampling import _Search, expanded, global_matting  # noqa: E402
from p3mnet.checkpoint import load_checkpoint, load_official, save_checkpoint  # noqa: E402
from p3mnet.copy_paste import CopyPasteConfig, Sources, fcp  # noqa: E402
from p3mnet.create import create_model  # noqa: E402
from p3mnet.data import seeded  # noqa: E402
from p3mnet.imagenet import load_imagenet  # noqa: E402
from p3mnet.losses import matting_losses  # noqa: E402
from p3mnet.model import FOREGROUND, TRANSITION, MattingNetwork, ModelConfig, count_parameters, folded  # noqa: E402
from p3mnet.networks.modnet import MODNet, Objectives, objective_losses  # noqa: E402
from p3mnet.predict import predict_alpha  # noqa: E402
from p3mnet.training import make_config, train  # noqa: E402
from tests import onnx_models  # noqa: E402
from tests.factories import encoded, synthetic_portrait, texture  # noqa: E402
from tests.threads import one_thread  # noqa: E402, F401

SIDE = 96
KNOWN = labels.FOREGROUND


@pytest.fixture(scope="module", params=["gfm_resnet34", "modnet"])
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
    batch = batch_of(32)
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)
    found = []
    # So many that four seeds pass: batch norm over two pictures of 32 px makes of rounding another way down.
    for _ in range(8):
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
    batch, image = {"alpha": alpha, "trimap": trimap}, torch.full((1, 3, 32, 32), 0.5)
    perfect = objective_losses(Objectives(torch.zeros(1, 1, 2, 2), alpha, alpha, image), batch)
    assert perfect["detail"] == perfect["fusion"] == 0
    wrong = objective_losses(Objectives(torch.ones(1, 1, 2, 2), 1 - alpha, 1 - alpha, image), batch)
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


def test_folding_batch_norm_changes_nothing(network: MattingNetwork) -> None:
    moved = copy.deepcopy(network).train()
    with torch.inference_mode():
        for seed in range(3):
            moved(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(seed)) + 0.5)
        image = torch.randn(1, 3, 64, 64)
        apart, inside = moved.eval()(image), folded(moved)(image)
    for one, other in zip(apart, inside, strict=True):
        # The fusion of GFM is an argmax, which rounding may move.
        if one is not None and not (hasattr(apart, "local") and one is apart.fusion):
            assert torch.allclose(one, other, rtol=1e-3, atol=1e-3)


def test_published_names_of_gfm_are_known(tmp_path: Path) -> None:
    """A file with the published names, as its network's construction gives them, fills every weight once."""
    torch.manual_seed(1)
    model = create_model("gfm_resnet34", encoder_weights="random")
    places = {"conv": (0, 3, 6), "norm": (1, 4, 7)}
    renamed = {"pooling.merge": "psp_module.bottleneck", "encoder.": "resnet."}
    renamed |= {f"pooling.project.{number}": f"psp_module.stages.{number}.1" for number in range(3)}
    for level in range(5):
        for branch, letter in (("glance", "g"), ("focus", "f")):
            for unit in range(3):
                for part, positions in places.items():
                    renamed[f"{branch}.{level}.{unit}.{part}"] = f"decoder{level}_{letter}.{positions[unit]}"
            renamed[f"{branch}.0.2"] = f"decoder0_{letter}.6"
        renamed |= {f"context.{level}.conv": f"psp{level + 1}.0", f"context.{level}.norm": f"psp{level + 1}.1"}
    for unit in range(3):
        renamed |= {f"bridge.{unit}.{part}": f"bridge_block.{positions[unit]}" for part, positions in places.items()}
    published = {}
    for name, value in model.state_dict().items():
        ours = next(ours for ours in renamed if name.startswith(ours))
        published[renamed[ours] + name[len(ours) :]] = value
    published |= {
        "resnet.fc.weight": torch.zeros(1),
        "encoder1.1.0.conv1.weight": published["resnet.layer1.0.conv1.weight"],
    }
    torch.save({"state_dict": published}, tmp_path / "gfm.pth")
    fresh = create_model("gfm_resnet34", encoder_weights="random")
    done = load_official(fresh, tmp_path / "gfm.pth")
    assert done.dropped == ("resnet.fc.weight",) and not done.kept
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in fresh.state_dict().items())
    with pytest.raises(SetupError, match="looks like gfm_resnet34"):
        load_official(create_model("p3mnet_swin_t", encoder_weights="random"), tmp_path / "gfm.pth")


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
        plain = network.encoder.stem(network.as_seen(batch["image"]))
        network(batch["image"], lambda e0: kept.append(edit(e0)) or kept[0])
    changed = (kept[0] != plain).any(1)
    # At half the size: only where the facemask is.
    masks = torch.nn.functional.max_pool2d(batch["facemask"].float(), 2)[:, 0] > 0
    assert changed.any() and not (changed & ~masks).any()
    deeper = fcp(
        network, batch, Sources(sources), seeded(0), CopyPasteConfig(mode="fcp", probability=1.0, layer="stage1")
    )
    with torch.inference_mode():
        assert not torch.equal(network(batch["image"], deeper)[1], network(batch["image"])[1])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "paste"), [("gfm_resnet34", "fcp"), ("modnet", "fcp"), ("modnet", "icp")])
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


# --- trimap-based, classic


def composite(side: int = 96) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """A soft disc of skin before a scene of other colours: image, alpha, trimap."""
    y, x = np.mgrid[:side, :side] - side / 2
    alpha = np.clip((side / 3 - np.hypot(x, y)) / 6 + 0.5, 0, 1)
    person, scene = np.array([220.0, 150, 110]), texture(side, side, 1) * 0.35 + [0, 40, 120]
    image = np.rint(alpha[:, :, None] * person + (1 - alpha[:, :, None]) * scene).astype(np.uint8)
    matte = np.rint(alpha * 255).astype(np.uint8)
    return image, matte, trimap_of(matte, 9)


@pytest.mark.slow
@pytest.mark.parametrize("name", [e.name for e in CATALOGUE.values() if e.family is Family.CLASSIC])
def test_classic_methods_find_a_known_matte(name: str) -> None:
    if CATALOGUE[name].package:
        pytest.importorskip("pymatting")
    image, matte, trimap = composite()
    alpha = Classic(name, 1024).predict(image, trimap)
    assert alpha.dtype == np.float32 and alpha.shape == matte.shape
    assert (alpha[trimap == KNOWN] == 1).all() and (alpha[trimap == BACKGROUND] == 0).all()
    wrong = np.abs(alpha - matte / 255)[trimap == UNKNOWN].mean()
    # Half everywhere is wrong by about 0.4; without a colour model random walks stay far behind the others.
    assert wrong < (0.2 if name == "random-walk" else 0.06)


def test_global_sampling_finds_colours_that_are_far_away() -> None:
    """The background below is seen nowhere near: only a search among all samples finds it."""
    image, matte, trimap = composite()
    image[:24, :, 0] = np.rint(image[:24, :, 0] * 0.2).astype(np.uint8)
    alpha = global_matting(image, trimap)
    assert np.array_equal(alpha, global_matting(image, trimap))
    assert np.abs(alpha - matte / 255)[trimap == UNKNOWN].mean() < 0.06
    assert not np.array_equal(alpha, global_matting(image, trimap, seed=1))


def test_both_steps_of_the_search_find_better_pairs() -> None:
    image, _, trimap = composite()
    search = _Search(image, trimap, np.random.default_rng(0))
    first = search.first()
    asked, jumped = search.ask_neighbours(first, 1), search.jump(first)
    assert (asked.cost <= first.cost).all() and asked.cost.mean() < 0.8 * first.cost.mean()
    assert (jumped.cost <= first.cost).all() and jumped.cost.mean() < 0.7 * first.cost.mean()


def test_what_looks_like_the_known_next_to_it_becomes_known() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, 30:] = 200
    trimap = np.full((40, 60), UNKNOWN, np.uint8)
    trimap[:, :20], trimap[:, 50:] = BACKGROUND, KNOWN
    found = expanded(image, trimap)
    # Less than 9 px, and never across the edge at 30.
    assert (found[:, :30] != KNOWN).all() and (found[:, 30:] != BACKGROUND).all()
    assert (found[:, 27] == BACKGROUND).all() and (found[:, 28] == UNKNOWN).all()
    assert (found[:, 41] == UNKNOWN).all() and (found[:, 42] == KNOWN).all()


def test_large_pictures_are_solved_small() -> None:
    image, matte, trimap = composite(200)
    seen: list[tuple[int, ...]] = []

    def solve(small: NDArray[np.uint8], areas: NDArray[np.uint8]) -> NDArray[Any]:
        seen.append(small.shape[:2])
        assert set(np.unique(areas)) == {BACKGROUND, UNKNOWN, KNOWN}
        return np.full(areas.shape, 0.25)

    alpha = solve_small(solve, image[:100], trimap[:100], 64)
    assert seen == [(32, 64)] and alpha.shape == (100, 200)
    assert (alpha[trimap[:100] == UNKNOWN] == 0.25).all() and (alpha[trimap[:100] == KNOWN] == 1).all()
    sure = np.where(matte > 127, KNOWN, BACKGROUND).astype(np.uint8)
    assert np.array_equal(solve_small(solve, image, sure, 64), sure / np.float32(255)) and len(seen) == 1
    with pytest.raises(BrokenInput, match="without known foreground"):
        solve_small(solve, image, np.where(trimap == KNOWN, UNKNOWN, trimap), 64)


# --- networks of others


def onnx_file(folder: Path, data: bytes, side: int = 1024, **options: Any) -> OnnxFile:
    (folder / "a.onnx").write_bytes(data)
    return OnnxFile(folder / "a.onnx", OnnxOptions(**options), side)


@pytest.mark.slow
def test_onnx_files_see_picture_and_trimap_as_documented(tmp_path: Path) -> None:
    image, _, trimap = composite(50)
    mean = image.astype(np.float32).mean(2) / 255
    free = onnx_file(tmp_path, onnx_models.brightness(), norm="unit")
    assert not free.needs_trimap
    assert np.allclose(free.predict(image, None), mean, atol=1e-6)
    half = onnx_file(tmp_path, onnx_models.brightness(), norm="half").predict(image, None)
    assert np.allclose(half, np.clip(2 * mean - 1, 0, 1), atol=1e-6)
    # A fixed size is met by resizing, a small cap too.
    for method in (
        onnx_file(tmp_path, onnx_models.brightness(64, 32), norm="unit"),
        onnx_file(tmp_path, onnx_models.brightness(), 32, norm="unit"),
    ):
        assert method.predict(image, None).shape == mean.shape
        assert np.abs(method.predict(image, None) - mean).mean() < 0.03
    blue = onnx_file(tmp_path, onnx_models.channel(0, 3), norm="unit", order="bgr")
    assert np.allclose(blue.predict(image, None), image[:, :, 2] / 255, atol=1e-6)
    unknown = trimap == UNKNOWN
    four = onnx_file(tmp_path, onnx_models.channel(3, 4))
    assert four.parameters == 4 and free.parameters == 0
    assert four.needs_trimap and np.allclose(four.predict(image, trimap), trimap_values(trimap, 0.5))
    classes = onnx_file(tmp_path, onnx_models.channel(3, 4), trimap="classes")
    assert (classes.predict(image, trimap)[unknown] == 1).all()
    for plane, value in ((3, 0), (4, 1), (5, 0)):
        six = onnx_file(tmp_path, onnx_models.channel(plane, 6))
        assert (six.predict(image, trimap)[unknown] == value).all()
    both = onnx_file(tmp_path, onnx_models.two_inputs(), norm="unit").predict(image, trimap)
    assert np.allclose(both[unknown], 0.5 * mean[unknown], atol=1e-6)


def trimap_values(trimap: NDArray[np.uint8], unknown: float) -> NDArray[np.float32]:
    return np.where(trimap == UNKNOWN, unknown, trimap == KNOWN).astype(np.float32)


def test_onnx_files_that_cannot_take_part_say_why(tmp_path: Path) -> None:
    image = composite(48)[0]
    absolute = [onnx_models.node("Abs", ["x"], "y")]
    shapes: Any = ({"x": [1, 3, "h", "w"]}, {"y": [1, 3, "h", "w"]})
    for data, sentence in (
        (b"no model", "is no ONNX file"),
        (onnx_models.channel(0, 5), r"its inputs \(x \[1, 5, 'h', 'w'\] tensor\(float\)\) are none that can be fed"),
        (onnx_models.model(absolute, *shapes, kind=11), "must be float32 or float16"),
    ):
        with pytest.raises(SetupError, match=sentence):
            onnx_file(tmp_path, data)
    with pytest.raises(SetupError, match="has no output 'matte'. Outputs: alpha"):
        onnx_file(tmp_path, onnx_models.brightness(), output="matte")
    with pytest.raises(SetupError, match="cannot be read"):
        OnnxFile(tmp_path / "absent.onnx", OnnxOptions(), 1024)
    with pytest.raises(SetupError, match=r"output 'y' has the shape \[1, 3, 64, 64\]"):
        onnx_file(tmp_path, onnx_models.model(absolute, *shapes)).predict(image, None)
    mean = [onnx_models.node("ReduceMean", ["x"], "y", axes=[1])]
    unsaid = onnx_models.model(mean, {"x": [1, "c", "h", "w"]}, {"y": [1, 1, "h", "w"]})
    with pytest.raises(SetupError, match="none that can be fed"):
        onnx_file(tmp_path, unsaid)
    assert onnx_file(tmp_path, unsaid, channels=3).predict(image, None).shape == image.shape[:2]


# --- what a user writes


def test_requests() -> None:
    found = parse_requests(
        ["classic", "gfm, gfm+fcp", "onnx:dim=a/dim.onnx", "pngs:shm=b", "onnx:mine.onnx", "global"],
        ["gfm+fcp=c.pt"], ["dim.norm=half", "dim.multiple=8"],
    )  # fmt: skip
    labels = [request.label for request in found]
    assert labels == ["closed-form", "knn", "learning-based", "large-kernel", "random-walk", "shared", "global",
                      "robust", "comprehensive", "information-flow", "gfm", "gfm+fcp", "dim", "shm",
                      "mine"]  # fmt: skip
    by = dict(zip(labels, found, strict=True))
    assert by["gfm+fcp"].path == Path("c.pt") and by["gfm"].path is None
    assert by["gfm+fcp"].title == "GFM (Li et al. 2022) + fcp"
    assert (by["dim"].options.norm, by["dim"].options.multiple, by["dim"].entry.family) == ("half", 8, Family.DEEP)


@pytest.mark.parametrize(
    ("methods", "checkpoints", "options", "sentence"),
    [
        (["closed-from"], [], [], "no such method. Did you mean closed-form"),
        (["xyzzy"], [], [], "no such method. See --methods list"),
        ([""], [], [], "--methods nothing"),
        (["knn+icp"], [], [], "only networks carry"),
        (["gfm+"], [], [], "only networks carry|must look"),
        (["pngs:folder"], [], [], "must look like"),
        (["onnx:../x=a.onnx"], [], [], "must look like"),
        (["dim", "onnx:dim=a.onnx"], [], [], "two are called dim"),
        (["knn"], ["knn=a.pt"], [], "has no weights to load"),
        (["gfm"], ["modnet=a.pt"], [], r"is not among --methods \(gfm\)"),
        (["gfm"], ["gfm"], [], "must look like NAME=FILE"),
        (["gfm"], [], ["gfm.norm=half"], "is no ONNX file"),
        (["onnx:dim=a.onnx"], [], ["dim.norm=odd"], "dim.norm: Input should be"),
        (["onnx:dim=a.onnx"], [], ["dim.nrm=half"], "dim.nrm: .*Options: norm, order"),
    ],
)
def test_requests_that_cannot_be_met(
    methods: list[str], checkpoints: list[str], options: list[str], sentence: str
) -> None:
    with pytest.raises(SettingsError, match=sentence):
        parse_requests(methods, checkpoints, options)


def test_a_file_of_vitmattes_interface_gets_what_its_processor_makes(tmp_path: Path) -> None:
    """pixel_values [N, 4, H, W]: the picture in -1..1, the trimap in 0..1, padded to multiples of 32."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (50, 70, 3), np.uint8)
    trimap = np.full((50, 70), 128, np.uint8)
    trimap[:10], trimap[-10:] = 0, 255
    weight = np.zeros((1, 4, 1, 1))
    seen: dict[int, np.ndarray] = {}
    for number in range(4):
        weight[:], weight[0, number] = 0, 1
        data = onnx_models.model(
            [onnx_models.node("Conv", ["pixel_values", "weight"], "alphas")],
            {"pixel_values": ["n", 4, "height", "width"]},
            {"alphas": ["n", 1, "height", "width"]},
            {"weight": weight},
        )
        method = onnx_file(tmp_path, data, norm="half", trimap="unit")
        assert method.needs_trimap
        seen[number] = method.predict(image, trimap)
    unknown = trimap == 128
    for number in range(3):
        wanted = np.clip((image[..., number] / 255 - 0.5) / 0.5, 0, 1)
        assert np.abs(seen[number] - wanted)[unknown].max() < 1e-6
    assert np.array_equal(np.unique(seen[3]), [0, 0.5, 1])


def test_a_file_of_birefnets_interface_gives_logits(tmp_path: Path) -> None:
    """input_image [1, 3, S, S], ImageNet-normalised and resized whatever its shape; output_image in logits."""
    side = 64
    data = onnx_models.model(
        [onnx_models.node("ReduceMean", ["input_image"], "output_image", axes=[1])],
        {"input_image": [1, 3, side, side]},
        {"output_image": [1, 1, side, side]},
    )
    image = np.full((40, 90, 3), (200, 30, 90), np.uint8)
    mean = ((image[0, 0] / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)).mean()
    found = onnx_file(tmp_path, data, activation="sigmoid").predict(image, None)
    assert found.shape == (40, 90) and found == pytest.approx(np.full((40, 90), 1 / (1 + np.exp(-mean))), abs=1e-6)
    raw = onnx_file(tmp_path, data).predict(image, None)
    assert raw == pytest.approx(np.full((40, 90), np.clip(mean, 0, 1)), abs=1e-6)
