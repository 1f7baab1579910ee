"""P3M-Net's networks: the published ones in numbers, and what a user does with ours."""

from __future__ import annotations

import functools
import hashlib
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from p3mdata.errors import SettingsError, SetupError  # noqa: E402
from p3mnet.blocks import DBFI, SBFI, TFI  # noqa: E402
from p3mnet.checkpoint import load_official  # noqa: E402
from p3mnet.create import create_model  # noqa: E402
from p3mnet.encoders import STRIDES  # noqa: E402
from p3mnet.encoders.vitae import random_projection  # noqa: E402
from p3mnet.export_onnx import export_onnx  # noqa: E402
from p3mnet.model import BACKGROUND, FOREGROUND, TRANSITION, P3MNet, count_parameters, folded, fuse, normalise  # noqa: E402
from p3mnet.registry import BASELINES, list_models  # noqa: E402
from tests.threads import one_thread  # noqa: E402, F401

GOLDEN = Path(__file__).parent / "golden"
SHORT = {"p3mnet_resnet34": "r34", "p3mnet_swin_t": "swin", "p3mnet_vitae_s": "vitae"}
variants = pytest.mark.parametrize("variant", list(SHORT))


def seeded(key: str) -> np.random.Generator:
    """The generator of one entry's values, as it was for the golden outputs."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little"))


def weight(key: str, shape: tuple[int, ...]) -> Tensor:
    """Values of one published entry, a function of its key and shape."""
    rng, leaf = seeded(key), key.rsplit(".", 1)[-1]
    if leaf == "running_mean":
        values = 0.1 * rng.standard_normal(shape)
    elif leaf == "running_var":
        values = rng.uniform(0.5, 1.5, shape)
    elif len(shape) >= 2:
        values = rng.standard_normal(shape) * np.sqrt(0.5 / np.prod(shape[1:]))
    elif leaf == "weight":
        values = rng.uniform(0.5, 1.5, shape)
    else:
        values = 0.1 * rng.standard_normal(shape)
    return torch.from_numpy(np.asarray(values, np.float32))


def entries(variant: str) -> Iterator[tuple[str, tuple[int, ...], str, str]]:
    """Key, shape, type and alias of each entry of the published network's state dict."""
    for line in (GOLDEN / f"p3mnet_keys_{SHORT[variant]}.tsv").read_text().splitlines()[1:]:
        key, shape, dtype, _, *alias = line.split("\t")
        yield key, () if shape == "scalar" else tuple(map(int, shape.split("x"))), dtype, alias[0] if alias else ""


def published(variant: str) -> dict[str, Tensor]:
    """A state dict in the published form, with the golden weights; ViTAE's without its projections."""
    return {
        key: weight(key, shape)
        if dtype == "float32" and not key.endswith("attn_mask")
        else torch.zeros(shape, dtype=getattr(torch, dtype))
        for key, shape, dtype, _ in entries(variant)
    }


@functools.cache
def network(variant: str) -> P3MNet:
    """The network with the golden weights, in eval mode; tests leave it as it is."""
    model = create_model(variant, encoder_weights="random").eval()
    state = published(variant)
    if variant == "p3mnet_vitae_s":
        for cell in (0, 1):
            key = f"encoder.layers.0.NC.{cell}.attn.w"
            state[key] = torch.from_numpy((0.7 * seeded(key).standard_normal((1, 32, 64))).astype(np.float32))
    load_official(model, {"state_dict": state})
    return model.requires_grad_(False)


def picture(height: int, width: int, count: int = 1, seed: int = 20230417) -> Tensor:
    """A normalised input [count, 3, height, width]."""
    values = np.random.default_rng(seed).standard_normal((count, 3, height, width))
    return torch.from_numpy(values.astype(np.float32))


def difference(one: Any, other: Any) -> float:
    """Largest difference over all outputs."""
    return max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True))


# --- the published networks


@pytest.mark.parametrize("inference", [False, True])
@variants
def test_outputs_equal_the_published_network(variant: str, inference: bool) -> None:
    model = folded(network(variant)) if inference else network(variant)
    assert any(isinstance(part, nn.BatchNorm2d) for part in model.modules()) is not inference
    golden = np.load(GOLDEN / f"p3mnet_{SHORT[variant]}.npz")
    step = 256 // golden["global"].shape[-2]
    with torch.inference_mode():
        out = model(picture(256, 320))
    assert out._fields == ("global_logits", "local", "fusion", "side2", "side1", "side0")
    for name, ours in zip(("global", "local", "fusion", "side2", "side1", "side0"), out, strict=True):
        np.testing.assert_allclose(ours.numpy()[..., ::step, ::step], golden[name], rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("variant", "count"),
    [("p3mnet_resnet34", 39_478_060), ("p3mnet_swin_t", 45_128_206), ("p3mnet_vitae_s", 27_463_052)],
)
def test_parameters(variant: str, count: int) -> None:
    model = network(variant)
    assert count_parameters(model, as_published=True) == count
    unused = {"p3mnet_resnet34": 513_000, "p3mnet_swin_t": 0, "p3mnet_vitae_s": 513_256}[variant]
    assert count_parameters(model) == count - unused == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("flags", "count"),
    [
        ("", 37_666_860),
        ("tfi", 38_929_452),
        ("tfi sbfi", 39_171_628),
        ("tfi dbfi", 39_235_884),
        ("tfi sbfi dbfi", 39_478_060),
    ],
)
def test_parameters_of_the_ablation(flags: str, count: int) -> None:
    with torch.device("meta"):
        model = create_model(
            "p3mnet_resnet34",
            **{flag: flag in flags.split() for flag in ("tfi", "sbfi", "dbfi")},
            encoder_weights="random",
        )
    assert count_parameters(model, as_published=True) == count


@variants
def test_encoder_keeps_its_contract(variant: str) -> None:
    encoder = network(variant).encoder
    with torch.inference_mode():
        features = encoder(picture(64, 96))
    maps = (features.e0, *features.skips, features.e4)
    assert [tuple(x.shape) for x in maps] == [
        (1, width, 64 // stride, 96 // stride) for width, stride in zip(encoder.widths, STRIDES, strict=True)
    ]
    for level, index in enumerate(features.indices):
        assert index.shape == (1, encoder.widths[level], 32 // 2**level, 48 // 2**level)
        assert index.min() >= 0 and index.max() < (64 // 2**level) * (96 // 2**level)


def test_integration_modules_compute_the_equations() -> None:
    """Equations 1 to 3, written with plain operations; in eval mode a new batch norm changes almost nothing."""

    def conv(unit: nn.Module, x: Tensor) -> Tensor:
        return F.relu(F.conv2d(x, unit.conv.weight, padding=1) / (1 + 1e-5) ** 0.5)

    f_s, f_m, e_i, e0, e4 = (
        torch.randn(2, width, side, side) for width, side in ((8, 16), (8, 16), (8, 16), (6, 64), (10, 4))
    )
    tfi, sbfi, dbfi = TFI(8).eval(), SBFI(8, 6, 4).eval(), DBFI(8, 10, 4).eval()
    with torch.no_grad():
        equation1 = conv(tfi.merge, torch.cat([F.conv2d(x, tfi.project.weight) for x in (f_s, f_m, e_i)], 1))
        assert difference([tfi(f_s, f_m, e_i)], [equation1]) < 1e-5
        pooled = e0[:, :, :, :].unfold(2, 2, 4).unfold(3, 2, 4).amax((-1, -2))
        parts = [F.conv2d(f_m, sbfi.project_matting.weight), F.conv2d(pooled, sbfi.project_e0.weight)]
        equation2 = conv(sbfi.merge, torch.cat(parts, 1)) + f_m
        assert difference([sbfi(f_m, e0)], [equation2]) < 1e-5
        larger = F.interpolate(e4, (16, 16), mode="bilinear", align_corners=False)
        parts = [F.conv2d(f_s, dbfi.project_segmentation.weight), F.conv2d(larger, dbfi.project_e4.weight)]
        equation3 = conv(dbfi.merge, torch.cat(parts, 1)) + f_s
        merged, side = dbfi(f_s, e4)
        assert difference([merged], [equation3]) < 1e-5
        assert side.shape == (2, 3, 128, 128)


def test_fusion_takes_local_alpha_in_the_transition_only() -> None:
    logits = F.one_hot(torch.tensor([[[BACKGROUND, TRANSITION, FOREGROUND]]]), 3).permute(0, 3, 1, 2).float()
    local = torch.tensor([[[[0.3, 0.4, 0.5]]]])
    torch.testing.assert_close(fuse(logits, local), torch.tensor([[[[0.0, 0.4, 1.0]]]]))


# --- any input


@variants
@pytest.mark.parametrize("size", [(61, 97), (131, 33), (31, 131), (65, 64), (1, 1)])
def test_any_size(variant: str, size: tuple[int, int]) -> None:
    height, width = size
    image = picture(height, width)
    padded = image[:, :, [min(y, height - 1) for y in range(height + -height % 32)]]
    padded = padded[..., [min(x, width - 1) for x in range(width + -width % 32)]]
    with torch.inference_mode():
        out, larger = network(variant)(image), network(variant)(padded)
    assert out.global_logits.shape == out.side2.shape == out.side1.shape == out.side0.shape == (1, 3, height, width)
    assert out.fusion.shape == out.local.shape == (1, 1, height, width)
    assert all(x.isfinite().all() for x in out)
    assert out.fusion.min() >= 0 and out.fusion.max() <= 1
    assert difference(out, [x[..., :height, :width] for x in larger]) < 1e-5


@pytest.mark.parametrize("name", ["gfm_resnet34", "modnet"])
def test_baselines_are_folded_too(name: str) -> None:
    model = create_model(name, encoder_weights="random").eval()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            for values, low, high in ((part.running_mean, -0.2, 0.2), (part.running_var, 0.5, 1.5)):
                nn.init.uniform_(values, low, high)
            nn.init.uniform_(part.weight, 0.5, 1.5)
    with torch.inference_mode():
        ours, plain = folded(model)(picture(64, 96)), model(picture(64, 96))
    assert abs(ours.fusion - plain.fusion).max() < 1e-3


@variants
def test_batch_equals_single(variant: str) -> None:
    batch = picture(96, 64, count=3)
    with torch.inference_mode():
        together = network(variant)(batch)
        apart = [network(variant)(batch[i : i + 1]) for i in range(3)]
    for number, name in enumerate(together._fields):
        assert difference([together[number]], [torch.cat([out[number] for out in apart])]) < 1e-5, name


@variants
def test_order_of_memory_does_not_matter(variant: str) -> None:
    image = picture(96, 128)
    moved = image.to(memory_format=torch.channels_last)
    model = network(variant)
    with torch.inference_mode():
        want = model(image)
        assert difference(model(moved), want) < 1e-5
        try:
            model.to(memory_format=torch.channels_last)
            assert difference(model(image), want) < 1e-5
        finally:
            model.to(memory_format=torch.contiguous_format)


def test_predict_takes_pictures() -> None:
    model = network("p3mnet_resnet34")
    pixels = torch.from_numpy(np.random.default_rng(3).integers(0, 256, (3, 70, 50), dtype=np.uint8))
    alpha = model.predict(pixels)
    assert alpha.shape == (1, 70, 50) and alpha.dtype == torch.float32
    assert alpha.min() >= 0 and alpha.max() <= 1
    with torch.inference_mode():
        want = model(normalise(pixels.float() / 255)[None]).fusion
    assert difference([model.predict(pixels[None].float() / 255)], [want]) < 1e-6
    assert difference([alpha[None]], [want]) < 1e-6
    model.train()
    try:
        with pytest.raises(SettingsError, match="eval"):
            model.predict(pixels)
    finally:
        model.eval()


def test_features_can_be_edited_at_e0() -> None:
    model, seen = network("p3mnet_swin_t"), []

    def keep(e0: Tensor) -> Tensor:
        seen.append(tuple(e0.shape))
        return e0

    with torch.inference_mode():
        want = model(picture(50, 64))
        assert difference(model(picture(50, 64), keep), want) == 0
        assert difference(model(picture(50, 64), torch.zeros_like), want) > 1e-3
    assert seen == [(1, 48, 64, 64)]


# --- training


def all_outputs(model: P3MNet, side: int = 64) -> Tensor:
    """A loss that hangs on every output."""
    out = model(picture(side, side, count=2))
    return sum(x.square().mean() for x in out if x is not None)


@pytest.mark.parametrize(
    ("variant", "options"),
    [
        ("p3mnet_resnet34", {"pool_kernel": 2}),
        ("p3mnet_resnet34", {"tfi": False, "sbfi": False, "dbfi": False}),
        ("p3mnet_swin_t", {"drop_path": 0.1}),
        ("p3mnet_vitae_s", {}),
    ],
)
def test_gradients_reach_every_parameter(variant: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = create_model(variant, encoder_weights="random", **options)
    assert model.training
    out = model(picture(33, 64, count=2))
    assert (out.side2 is None) == (options.get("dbfi") is False)
    all_outputs(model).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # A bias before a batch norm, or of attention's keys, has no effect.
        assert name.endswith("bias") or parameter.grad.any(), name


def test_projection_is_the_same_in_every_process() -> None:
    code = (
        "import torch, hashlib; torch.manual_seed(5); from p3mnet.encoders.vitae import random_projection as p;"
        "print(hashlib.sha256(p(0).numpy().tobytes() + p(1).numpy().tobytes()).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=GOLDEN.parents[1]
    )
    one, two = random_projection(0), random_projection(1)
    assert done.stdout.strip() == hashlib.sha256(one.numpy().tobytes() + two.numpy().tobytes()).hexdigest()
    assert one.shape == (1, 32, 64) and one.dtype == torch.float32 and difference([one], [two]) > 0.1
    torch.testing.assert_close(one[0] @ one[0].T, 32 * torch.eye(32), rtol=0, atol=1e-4)


def test_projection_stays_float32() -> None:
    model = create_model("p3mnet_vitae_s", encoder_weights="random").eval()
    before = model.encoder.stages[0][0].attention.projection.clone()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert model(picture(64, 64)).fusion.isfinite().all()
    model.to(torch.bfloat16)
    after = model.encoder.stages[0][0].attention.projection
    assert after.dtype == torch.float32 and torch.equal(before, after)
    with torch.inference_mode():
        assert model(picture(64, 64).bfloat16()).local.dtype == torch.bfloat16


# --- names, flags, warnings


def test_names_and_flags() -> None:
    assert list_models() == [*SHORT, *BASELINES]
    for name, options, sentence in (
        ("p3mnet_resnet50", {}, "no network 'p3mnet_resnet50'; choose one of p3mnet_resnet34"),
        ("p3mnet_swin_t", {"pool_kernel": 3}, "pool_kernel of p3mnet_swin_t must be 2, not 3"),
        ("p3mnet_resnet34", {"pool_kernel": 4}, "must be 3 or 2, not 4"),
        ("p3mnet_swin_t", {"drop_path": 1.0}, "drop_path must be"),
        ("p3mnet_resnet34", {"drop_path": 0.1}, "no stochastic depth"),
    ):
        with pytest.raises(SettingsError, match=sentence):
            create_model(name, encoder_weights="random", **options)


def test_random_weights_are_told() -> None:
    with torch.device("meta"):
        with pytest.warns(UserWarning, match="starts from random weights; the paper starts from ImageNet"):
            create_model("p3mnet_resnet34")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            create_model("p3mnet_resnet34", encoder_weights="random")


# --- export


@pytest.mark.slow
@variants
def test_exported_program_gives_the_same(variant: str) -> None:
    image = picture(64, 96)
    with torch.no_grad():
        program = torch.export.export(network(variant), (torch.zeros_like(image),))
        assert difference(program.module()(image), network(variant)(image)) < 1e-5


@pytest.mark.slow
@variants
def test_onnx_file_gives_the_same(variant: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    model, image = network(variant), picture(50, 64)
    export_onnx(model, tmp_path / "model.onnx", 50, 64)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    alpha, logits, local = map(
        torch.from_numpy, session.run(["alpha", "global_logits", "local"], {"image": image.numpy()})
    )
    with torch.inference_mode():
        want = model(image)
    assert difference([logits, local], [want.global_logits, want.local]) < 1e-4
    assert (alpha - want.fusion).abs().mean() < 1e-4


@pytest.mark.parametrize("half", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_onnx_files_are_simple_and_run(half: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    model, image = create_model("smoke_resnet34", encoder_weights="random", pool_kernel=3).eval(), picture(64, 96)
    export_onnx(model, tmp_path / "model.onnx", 64, 96, half=half)
    kinds = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    # 3,006 before constants are computed; ResNet-34 has 100 convolutions.
    assert len(kinds) < 500 and kinds.count("Conv") == 100
    assert not {"BatchNormalization", "CastLike", "Identity", "ScatterElements", "ScatterND"} & set(kinds)
    capfd.readouterr()
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert capfd.readouterr().err == ""
    logits, local = map(torch.from_numpy, session.run(["global_logits", "local"], {"image": image.numpy()}))
    with torch.inference_mode():
        want = model(image)
    assert difference([logits, local], [want.global_logits, want.local]) < (2e-2 if half else 1e-4)


def test_onnx_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network("p3mnet_resnet34")
    with pytest.raises(SettingsError, match="positive, not 0x64"):
        export_onnx(model, tmp_path / "x.onnx", 0, 64)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SetupError, match="pip install onnx onnxscript"):
        export_onnx(model, tmp_path / "x.onnx", 64, 64)
    assert not list(tmp_path.iterdir())
