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
from p3mnet.checkpoint import load_official  # noqa: E402
from p3mnet.create import create_model  # noqa: E402
from p3mnet.infer import open_network  # noqa: E402
from p3mnet.model import IMAGENET_MEAN, IMAGENET_STD  # noqa: E402

GOLDEN = Path(__file__).parent / "golden"
NAMES = ("fba", "gca", "indexnet")
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


@pytest.mark.parametrize("name", NAMES)
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
