"""FBA, GCA and IndexNet from files of their published form: every entry finds its place, and the outputs are the same.

tests/golden/published_NAME.tsv lists the entries of the authors' network, published_NAME.npz what it gives for the
picture below under the weights below. Run once in double precision, from the authors' code: fba-matting 1.0.1 with the
repository's weight standardisation, Yaoyi-Li/GCA-Matting, poppinace/indexnet_matting. The weights follow from the
names, so that no file of them is needed.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from p3mdata.errors import SetupError  # noqa: E402
from p3mnet.baselines.onnx_file import OnnxFile, OnnxOptions  # noqa: E402
from p3mnet.checkpoint import load_official  # noqa: E402
from p3mnet.create import create_model  # noqa: E402
from p3mnet.export_onnx import export_onnx  # noqa: E402
from p3mnet.infer import open_network  # noqa: E402
from p3mnet.model import IMAGENET_MEAN, IMAGENET_STD, folded  # noqa: E402
from p3mnet.published import FIRST_CONVOLUTIONS  # noqa: E402

GOLDEN = Path(__file__).parent / "golden"
SIDE = 64


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Weights that follow from an entry's name."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if not shape:
        return np.zeros((), np.int64)
    if name.endswith("running_var"):
        return (0.5 + rng.random(shape)).astype(np.float32)
    if name.endswith(("weight_u", "weight_v")):
        values = rng.standard_normal(shape)
        return (values / np.linalg.norm(values)).astype(np.float32)
    if len(shape) > 1:
        return (rng.standard_normal(shape) / math.sqrt(math.prod(shape[1:]))).astype(np.float32)
    around = 1.0 if name.endswith("weight") else 0.0
    return (around + 0.2 * rng.standard_normal(shape)).astype(np.float32)


def published(name: str) -> dict[str, Any]:
    """A published file's entries."""
    rows = [line.split("\t") for line in (GOLDEN / f"published_{name}.tsv").read_text().splitlines()]
    entries = {key: drawn(key, tuple(int(side) for side in sides.split(",") if side)) for key, sides in rows}
    for key in [key for key in entries if key.endswith("weight_bar")]:
        # Spectral norm divides by u W v, which is to be no small number: one step of its power iteration.
        matrix = entries[key].reshape(len(entries[key]), -1).astype(np.float64)
        right = matrix.T @ entries[f"{key[:-3]}u"].astype(np.float64)
        right /= np.linalg.norm(right)
        left = matrix @ right
        entries[f"{key[:-3]}u"] = (left / np.linalg.norm(left)).astype(np.float32)
        entries[f"{key[:-3]}v"] = right.astype(np.float32)
    return {key: torch.from_numpy(value) for key, value in entries.items()}


def picture() -> tuple[Any, Any]:
    y, x = np.mgrid[:SIDE, :SIDE]
    channels = (x * 3 + y) % 256, (y * 5 + x * x // 7) % 256, (x * y // 3 + 40) % 256
    trimap = np.full((SIDE, SIDE), 1, np.int64)
    trimap[:, : SIDE // 4] = 0
    trimap[SIDE // 8 : SIDE // 2, SIDE // 2 + 6 :] = 2
    return torch.from_numpy(np.stack(channels).astype(np.uint8))[None], torch.from_numpy(trimap)[None, None]


@pytest.mark.parametrize("name", [pytest.param("fba", marks=pytest.mark.slow), "gca", "indexnet"])
def test_a_published_file_gives_what_the_authors_network_gives(name: str) -> None:
    model, state = create_model(name, encoder_weights="random").eval(), published(name)
    done = load_official(model, {"state_dict": {f"module.{key}": value for key, value in state.items()}})
    assert not done.dropped and not done.kept
    rgb, trimap = picture()
    # In double precision, so that nothing but the arithmetic itself can differ.
    mean, deviation = (torch.tensor(each).double()[:, None, None] for each in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.inference_mode():
        output = model.double()((rgb.double() / 255 - mean) / deviation, None, trimap)
    # FBA's distances are OpenCV's, in single precision.
    most = 2e-5 if name == "fba" else 1e-6
    wanted = torch.from_numpy(np.load(GOLDEN / f"published_{name}.npz")["output"])
    assert float(wanted[0].std()) > 0.05
    assert float((output.alpha[0, 0] - wanted[0]).abs().max()) < most
    if name == "fba":
        assert float((output.foreground[0] - wanted[1:4]).abs().max()) < most
        assert float((output.background[0] - wanted[4:7]).abs().max()) < most


def test_a_folded_copy_leaves_the_network_as_it_is() -> None:
    model = create_model("gca", encoder_weights="random").eval()
    load_official(model, published("gca"))
    rgb, trimap = picture()
    before = model.predict(rgb[0], trimap[0])
    copied = folded(model)
    assert float((copied.predict(rgb[0], trimap[0]) - before).abs().max()) < 1e-4
    assert torch.equal(model.predict(rgb[0], trimap[0]), before)
    assert not any("parametrizations" in name for name in copied.state_dict())


def test_published_files_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "indexnet.pth.tar"
    torch.save({"state_dict": published("indexnet")}, path)
    assert open_network(path, "indexnet").config.name == "indexnet"
    with pytest.raises(SetupError, match="looks like indexnet"):
        open_network(path, "fba")
    state = published("indexnet")
    del state["index3.indexnet2.0.weight"]
    with pytest.raises(SetupError, match=r"encoder\.indices\.3\.context\.weight"):
        load_official(create_model("indexnet", encoder_weights="random"), state)


def _resnet(blocks: tuple[int, ...], width: int, groups: int, statistics: bool) -> dict[str, tuple[int, ...]]:
    """Entries of a ResNet of bottlenecks, as model zoos name them, with its classifier."""
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7), "fc.weight": (9, 2048), "fc.bias": (9,)}

    def norm(name: str, channels: int) -> None:
        for part in ("weight", "bias", *(("running_mean", "running_var") if statistics else ())):
            shapes[f"{name}.{part}"] = (channels,)

    norm("bn1", 64)
    before = 64
    for stage, number in enumerate(blocks):
        inner, after = width << stage, 256 << stage
        for block in range(number):
            name = f"layer{stage + 1}.{block}"
            shapes |= {
                f"{name}.conv1.weight": (inner, before, 1, 1), f"{name}.conv2.weight": (inner, inner // groups, 3, 3),
                f"{name}.conv3.weight": (after, inner, 1, 1),
            }  # fmt: skip
            for part, channels in (("bn1", inner), ("bn2", inner), ("bn3", after)):
                norm(f"{name}.{part}", channels)
            if block == 0:
                shapes[f"{name}.downsample.0.weight"] = (after, before, 1, 1)
                norm(f"{name}.downsample.1", after)
            before = after
    return shapes


def _vgg() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"classifier.0.weight": (4096, 8), "classifier.0.bias": (4096,)}
    before, at = 3, 0
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        if not width:
            at += 1
            continue
        shapes |= {f"features.{at}.weight": (width, before, 3, 3), f"features.{at}.bias": (width,)}
        shapes |= {f"features.{at + 1}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")}
        before, at = width, at + 3
    return shapes


def _mobilenet(torchvision: bool) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "classifier.1.weight": (1000, 1280),
        "features.18.0.weight": (1280, 320, 1, 1),
    }

    def unit(conv: str, norm: str, shape: tuple[int, ...]) -> None:
        shapes[f"{conv}.weight"] = shape
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{norm}.{part}"] = (shape[0],)

    unit("features.0.0", "features.0.1", (32, 3, 3, 3))
    before, number = 32, 1
    for expansion, after, blocks in (
        (1, 16, 1),
        (6, 24, 2),
        (6, 32, 3),
        (6, 64, 4),
        (6, 96, 3),
        (6, 160, 3),
        (6, 320, 1),
    ):
        for _ in range(blocks):
            inner, name = expansion * before, f"features.{number}.conv"
            parts = [(inner, before, 1, 1)] * (expansion > 1) + [(inner, 1, 3, 3), (after, inner, 1, 1)]
            for place, shape in enumerate(parts):
                last = place == len(parts) - 1
                plain = (f"{3 * place}", f"{3 * place + 1}")
                theirs = (f"{place}", f"{place + 1}") if last else (f"{place}.0", f"{place}.1")
                conv, norm = theirs if torchvision else plain
                unit(f"{name}.{conv}", f"{name}.{norm}", shape)
            before, number = after, number + 1
    return shapes


def _densenet() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"classifier.weight": (9, 1920), "classifier.bias": (9,)}

    def norm(name: str, channels: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"features.{name}.{part}"] = (channels,)

    shapes["features.conv0.weight"] = (64, 3, 7, 7)
    norm("norm0", 64)
    before = 64
    for block, layers in enumerate((6, 12, 48, 32), 1):
        for layer in range(1, layers + 1):
            name = f"denseblock{block}.denselayer{layer}"
            # The zoo's own files have a dot before the number.
            norm(f"{name}.norm.1", before)
            shapes[f"features.{name}.conv.1.weight"] = (128, before, 1, 1)
            norm(f"{name}.norm.2", 128)
            shapes[f"features.{name}.conv.2.weight"] = (32, 128, 3, 3)
            before += 32
        if block < 4:
            norm(f"transition{block}.norm", before)
            shapes[f"features.transition{block}.conv.weight"] = (before // 2, before, 1, 1)
            before //= 2
    norm("norm5", before)
    return shapes


FILES = {
    "dim": _vgg,
    "fba": lambda: _resnet((3, 4, 6, 3), 64, 1, False),
    "alphagan": lambda: _resnet((3, 4, 6, 3), 64, 1, True),
    "shm": lambda: _resnet((3, 4, 6, 3), 64, 1, True),
    "hatt": lambda: _resnet((3, 4, 23, 3), 256, 32, True),
    "lf": _densenet,
    "indexnet": lambda: _mobilenet(False),
    "indexnet of torchvision": lambda: _mobilenet(True),
}


# IndexNet's are few; the others have tens of millions of weights.
QUICK = ("indexnet", "indexnet of torchvision")


@pytest.mark.parametrize("kind", [pytest.param(k, marks=() if k in QUICK else pytest.mark.slow) for k in FILES])
def test_encoders_take_ordinary_imagenet_files(kind: str, tmp_path: Path) -> None:
    """Every entry but the classifier finds a place of its shape; what a network sees besides colours starts at 0."""
    name, path = kind.split(maxsplit=1)[0], tmp_path / "imagenet.pth"
    state = {key: torch.from_numpy(drawn(key, shape)) for key, shape in FILES[kind]().items()}
    torch.save(state, path)
    with torch.device("meta"):
        shapes = create_model(name, encoder_weights="random").state_dict()
    model = create_model(name, encoder_weights=path)
    place = "trimap.backbone." if name == "shm" else "encoder."
    left = ("fc.", "classifier.", *(("features.18.",) if name == "indexnet" else ()))
    taken = [key for key in state if not key.startswith(left)]
    wanted = [
        key for key in shapes
        if key.startswith(place) and not key.endswith("num_batches_tracked") and ".indices." not in key
    ]  # fmt: skip
    assert len(taken) == len(wanted)
    found = model.state_dict()
    sums = sorted(float(state[key].double().sum()) for key in taken)
    assert sums == pytest.approx(sorted(float(found[key].double().sum()) for key in wanted), abs=1e-9)
    if (first := FIRST_CONVOLUTIONS.get(name)) is not None:
        assert found[first].shape[1] > 3 and not found[first][:, 3:].any() and found[first][:, :3].any()
    if name != "indexnet":
        return
    last = list(state)[-1]
    torch.save({key: value for key, value in state.items() if key != last}, path)
    with pytest.raises(SetupError, match="does not hold ImageNet weights"):
        create_model(name, encoder_weights=path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["indexnet", "gca", "fba"])
def test_an_exported_trimap_network_gives_the_same_in_the_benchmark(name: str, tmp_path: Path) -> None:
    for library in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(library)
    model = create_model(name, encoder_weights="random").eval()
    load_official(model, published(name))
    export_onnx(model, tmp_path / "model.onnx", SIDE, SIDE)
    method = OnnxFile(tmp_path / "model.onnx", OnnxOptions(), SIDE, "cpu")
    rgb, trimap = picture()
    image, marks = rgb[0].permute(1, 2, 0).numpy(), np.array([0, 128, 255], np.uint8)[trimap[0, 0].numpy()]
    assert method.needs_trimap
    wanted = model.predict(rgb[0], trimap[0])[0].numpy()
    # FBA's last step divides by what such weights leave small: in single precision both are 1e-4 from the exact result.
    most = 1e-3 if name == "fba" else 1e-4
    assert np.abs(method.predict(np.ascontiguousarray(image), marks) - wanted).max() < most
