"""Networks from files: published ones, our checkpoints, ImageNet weights, and what each refuses."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402

from p3mdata.errors import SetupError  # noqa: E402
from p3mnet import checkpoint, imagenet  # noqa: E402
from p3mnet.checkpoint import load_checkpoint, load_official, save_checkpoint  # noqa: E402
from p3mnet.create import create_model  # noqa: E402
from p3mnet.imagenet import load_imagenet  # noqa: E402
from p3mnet.published import our_name  # noqa: E402
from tests.test_networks import entries, network, published, variants, weight  # noqa: E402
from tests.threads import one_thread  # noqa: E402, F401

# --- published checkpoints


@variants
def test_published_names_map_to_ours_one_to_one(variant: str) -> None:
    own = network(variant).state_dict()
    aliases = [key for key, _, _, alias in entries(variant) if alias]
    assert len(aliases) == {"p3mnet_resnet34": 216}.get(variant, 0)
    names = [our_name(variant, key) for key, *_ in entries(variant)]
    assert len(names) == {"p3mnet_resnet34": 713, "p3mnet_swin_t": 480, "p3mnet_vitae_s": 808}[variant]
    firsts = [our_name(variant, key) for key, _, _, alias in entries(variant) if not alias]
    ours = [name for name in firsts if name is not None]
    assert len(set(ours)) == len(ours)
    assert set(own) - set(ours) == {name for name in own if name.endswith("projection")}
    for key, _, _, alias in entries(variant):
        if alias:
            assert our_name(variant, key) == checkpoint.our_name(variant, alias)


def test_published_file_with_prefix_and_without_projection(tmp_path: Path) -> None:
    variant = "p3mnet_vitae_s"
    state = {f"module.{key}": value.half() for key, value in published(variant).items()}
    torch.save({"state_dict": state, "epoch": 149, "args": argparse.Namespace(lr=1e-5)}, tmp_path / "official.pth")
    model = create_model(variant, encoder_weights="random").eval()
    before = model.encoder.stages[0][1].attention.projection.clone()
    done = load_official(model, tmp_path / "official.pth")
    assert [name.rsplit(".", 1)[-1] for name in done.kept] == ["projection"] * 2
    assert torch.equal(model.encoder.stages[0][1].attention.projection, before)
    assert set(done.dropped) >= {"encoder.head.weight", "encoder.layers.0.NC.0.attn.norm1.weight"}
    assert done.loaded == 808 - 6
    key = "encoder.layers.2.NC.11.PCM.3.weight"
    ours = model.state_dict()[our_name(variant, key)]
    torch.testing.assert_close(ours, state[f"module.{key}"].float(), rtol=0, atol=0)


@pytest.mark.parametrize("reverse", [False, True])
def test_aliases_win(reverse: bool) -> None:
    state = published("p3mnet_resnet34")
    model = create_model("p3mnet_resnet34", encoder_weights="random")
    load_official(model, dict(reversed(state.items())) if reverse else state)
    assert torch.equal(model.encoder.conv1.weight, state["encoder0.0.weight"])
    assert torch.equal(model.encoder.layer3[5].bn2.bias, state["encoder3.5.bn2.bias"])


def empty(variant: str) -> dict[str, Tensor]:
    """A state dict in the published form without values worth keeping."""
    return {key: torch.zeros(shape, dtype=getattr(torch, dtype)) for key, shape, dtype, _ in entries(variant)}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda state: empty("p3mnet_swin_t"),
            r"do not fit p3mnet_resnet34 \(the file looks like p3mnet_swin_t\): \d+ missing in the file: encoder\.bn1",
        ),
        (
            lambda state: {key: value for key, value in state.items() if "tfi_2.transform" not in key},
            r"1 missing in the file: matting\.tfi\.2\.project\.weight\.$",
        ),
        (lambda state: state | {"extra.weight": torch.zeros(1)}, r"1 unknown: extra\.weight\.$"),
        (
            lambda state: state | {"tfi_0.conv1.weight": torch.zeros(64, 96, 1, 1)},
            r"1 of another shape: matting\.tfi\.0\.merge\.conv\.weight \(64x96x1x1 instead of 64x96x3x3\)\.$",
        ),
        (lambda state: {}, "holds no weights"),
        (lambda state: {"epoch": 3}, "holds no weights"),
    ],
)
def test_wrong_weights_are_refused_whole(change: Callable[[dict[str, Tensor]], dict[str, Any]], sentence: str) -> None:
    model = network("p3mnet_resnet34")
    before = model.matting.head.weight.clone()
    with pytest.raises(SetupError, match=sentence):
        load_official(model, {"state_dict": change(empty("p3mnet_resnet34"))})
    assert torch.equal(model.matting.head.weight, before) and before.any()


def test_ablated_network_names_the_surplus() -> None:
    with torch.device("meta"):
        model = create_model("p3mnet_resnet34", tfi=False, encoder_weights="random")
    with pytest.raises(SetupError, match=r"do not fit p3mnet_resnet34 without tfi: 28 unknown: tfi_0\.bn1\.bias"):
        load_official(model, empty("p3mnet_resnet34"))


def test_unreadable_files_are_told(tmp_path: Path) -> None:
    model = network("p3mnet_resnet34")
    damaged, foreign, table = (tmp_path / name for name in ("damaged.pth", "foreign.pth", "log.csv"))
    table.write_text("step,epoch,total\n0,0,3.7\n")
    damaged.write_bytes(b"\x80\x02not a pickle")
    torch.save({"state_dict": {}, "config": Path("x")}, foreign)
    for path, sentence in (
        (damaged, "not a weights file that can be read safely"),
        (table, "not a weights file that can be read safely"),
        (foreign, "save its state dict alone"),
        (tmp_path / "absent.pth", "cannot be read: No such file"),
    ):
        with pytest.raises(SetupError, match=sentence):
            load_official(model, path)


# --- our checkpoints


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    model = create_model("p3mnet_vitae_s", sbfi=False, drop_path=0.05, encoder_weights="random")
    model.encoder.stages[0][0].attention.projection.mul_(0.5)
    path = tmp_path / "a" / "model.pt"
    save_checkpoint(path, model, epoch=7, optimizer={"lr": 1e-5, "moments": torch.ones(2)})
    again, extra = load_checkpoint(path)
    assert again.config == model.config and not again.training
    assert extra["epoch"] == 7 and torch.equal(extra["optimizer"]["moments"], torch.ones(2))
    for (name, one), other in zip(model.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    assert [entry.name for entry in path.parent.iterdir()] == ["model.pt"]


def test_checkpoint_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"the one before")

    def full_disk(content: Any, sink: Any) -> None:
        sink.write(b"part")
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint.torch, "save", full_disk)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(path, network("p3mnet_vitae_s"))
    assert path.read_bytes() == b"the one before" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"state_dict": {}}, "not a p3mnet checkpoint. Published P3M-Net files are read with --published NETWORK"),
        ({"format": "p3mnet-checkpoint", "version": 99}, "version 99; this version reads 1"),
        (
            {"format": "p3mnet-checkpoint", "version": 1, "config": {"name": "p3mnet_vitae_s", "colour": 1}},
            "settings that this version does not know",
        ),
        (
            {"format": "p3mnet-checkpoint", "version": 1, "config": {"name": "p3mnet_resnet34", "pool_kernel": 3}}
            | {"state_dict": {"encoder.conv1.weight": torch.zeros(64, 3, 7, 7)}},
            r"does not fit p3mnet_resnet34: \d+ missing in the file",
        ),
        ({"format": "p3mnet-checkpoint", "version": 1, "config": {"name": "unet"}}, "There is no network 'unet'"),
        ({"format": "p3mnet-checkpoint", "version": 1}, "settings that this version does not know: 'config'"),
        ({"format": "p3mnet-checkpoint", "version": 1, "config": {"name": "p3mnet_vitae_s"}}, "holds no weights"),
    ],
)
def test_foreign_checkpoints_are_told(tmp_path: Path, content: dict[str, Any], sentence: str) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(SetupError, match=sentence):
        load_checkpoint(tmp_path / "x.pt")


# --- ImageNet weights


def ordinary_resnet34() -> dict[str, Tensor]:
    """Names and shapes of the usual ResNet-34 file, from before batch norm counted its batches."""
    prefix = "resnet."
    state = {key.removeprefix(prefix): shape for key, shape, *_ in entries("p3mnet_resnet34") if key.startswith(prefix)}
    return {key: weight(key, shape) for key, shape in state.items() if not key.endswith("num_batches_tracked")}


def write_safetensors(path: Path, state: dict[str, Tensor]) -> None:
    header, body = {}, b""
    for name, value in state.items():
        data = value.numpy().tobytes()
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header | {"__metadata__": {"format": "pt"}}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


def test_imagenet_weights_from_file_and_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = ordinary_resnet34()
    path = tmp_path / "resnet34.pth"
    torch.save(state, path)
    model = create_model("p3mnet_resnet34", pool_kernel=2, encoder_weights=path)
    assert torch.equal(model.encoder.layer4[2].conv2.weight, state["layer4.2.conv2.weight"])

    fetched = tmp_path / "model.safetensors"
    write_safetensors(fetched, {key: 2 * value for key, value in state.items()})
    asked: list[Any] = []
    hub = types.ModuleType("huggingface_hub")
    hub.hf_hub_download = lambda *what, **which: asked.append((*what, which)) or str(fetched)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    with pytest.raises(SetupError, match=r"is not the file that timm/resnet34\.tv_in1k had at 1b7b21cca82f"):
        load_imagenet(model, "hub")
    assert torch.equal(model.encoder.bn1.running_var, state["bn1.running_var"])
    pinned = imagenet.HUB_FILES["p3mnet_resnet34"]
    assert asked == [("timm/resnet34.tv_in1k", "model.safetensors", {"revision": pinned.revision})]
    digest = hashlib.sha256(fetched.read_bytes()).hexdigest()
    monkeypatch.setitem(imagenet.HUB_FILES, "p3mnet_resnet34", pinned._replace(sha256=digest))
    load_imagenet(model, "hub")
    assert torch.equal(model.encoder.bn1.running_var, 2 * state["bn1.running_var"])

    def offline(*what: str, **which: str) -> str:
        raise OSError("Cannot reach the hub\nand more")

    hub.hf_hub_download = offline  # type: ignore[attr-defined]
    with pytest.raises(SetupError, match=r"could not be fetched from the hub: Cannot reach the hub. Or give a file"):
        load_imagenet(model, "hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(SetupError, match="pip install huggingface_hub"):
        load_imagenet(model, "hub")
    with pytest.raises(SetupError, match="hub has no ImageNet weights for p3mnet_vitae_s"):
        load_imagenet(network("p3mnet_vitae_s"), "hub")
    with pytest.raises(SetupError, match=r"ImageNet weights for the encoder of p3mnet_swin_t: .*missing in the file"):
        load_imagenet(network("p3mnet_swin_t"), path)
    del state["layer2.0.conv1.weight"]
    torch.save(state, path)
    with pytest.raises(SetupError, match=r"1 missing in the file: encoder\.layer2\.0\.conv1\.weight\."):
        load_imagenet(model, path)


def test_ordinary_swin_fills_the_blocks_and_says_what_stays(tmp_path: Path) -> None:
    own = {
        key.removeprefix("encoder."): torch.full(shape, 0.25)
        for key, shape, dtype, _ in entries("p3mnet_swin_t")
        if key.startswith("encoder.") and dtype == "float32"
    }
    torch.save({"model": own}, tmp_path / "own.pth")
    ordinary = {key: value for key, value in own.items() if "patch_embed.proj" not in key and "downsample" not in key}
    ordinary |= {"patch_embed.proj.weight": torch.zeros(96, 3, 4, 4), "head.weight": torch.zeros(1000, 768)}
    ordinary |= {
        "layers.1.downsample.norm.weight": torch.zeros(384),
        "layers.1.downsample.reduction.weight": torch.zeros(192, 384),
    }
    torch.save({"model": ordinary}, tmp_path / "ordinary.pth")

    model = create_model("p3mnet_swin_t", encoder_weights="random")
    before = model.encoder.merges[1].linear.weight.clone()
    with pytest.warns(UserWarning, match="ordinary Swin-T: stem and patch merging of p3mnet_swin_t"):
        load_imagenet(model, tmp_path / "ordinary.pth")
    assert (model.encoder.stages[2].blocks[5].attention.bias_table == 0.25).all()
    assert torch.equal(model.encoder.merges[1].linear.weight, before)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_imagenet(model, tmp_path / "own.pth")
    assert (model.encoder.merges[1].linear.weight == 0.25).all()
