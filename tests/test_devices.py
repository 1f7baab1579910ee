"""Devices: every path that picks or sets one, on a simulated machine with GPUs; see `tests.simulated_gpu`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from p3mdata.errors import Interrupted, SettingsError
from tests.factories import encoded, synthetic_portrait

torch = pytest.importorskip("torch")

from p3mnet.devices import device_name, pick_device  # noqa: E402
from p3mnet.infer import infer  # noqa: E402
from p3mnet.training import loop as loop_module  # noqa: E402
from p3mnet.training import train  # noqa: E402
from p3mnet.training.processes import processes  # noqa: E402
from tests.simulated_gpu import NAME, simulated_gpus  # noqa: E402
from tests.test_train import config, narrow_networks, rows, write_set  # noqa: E402


@pytest.fixture(autouse=True, scope="module")
def _narrow() -> Iterator[None]:
    with narrow_networks():
        yield


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dataset")
    write_set(root, "train", 5)
    write_set(root, "validation", 2)
    return root


@pytest.fixture(scope="module")
def checkpoint(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run on the simulated GPU."""
    out = tmp_path_factory.mktemp("trained") / "out"
    with simulated_gpus() as chosen:
        train(config(dataset, device="auto", epochs=1, steps=2), out)
    assert chosen[-1] == 0 and len(chosen) > 1
    assert json.loads((out / "result.json").read_text())["device"] == NAME
    return out / "checkpoints/best.pt"


@pytest.mark.parametrize(("wanted", "found"), [("auto", 0), ("cuda", 0), ("cuda:0", 0), ("cuda:1", 1)])
def test_a_gpu_has_an_index(wanted: str, found: int) -> None:
    with simulated_gpus():
        device = pick_device(wanted)
        assert (device.type, device.index) == ("cuda", found)
        # Ends with a ValueError where there is no index.
        torch.cuda.set_device(device)
        assert device_name(device) == NAME


def test_cuda_is_the_current_gpu() -> None:
    with simulated_gpus():
        torch.cuda.set_device(1)
        assert pick_device("cuda").index == pick_device("auto").index == 1


def test_devices_that_are_not_there() -> None:
    with simulated_gpus(), pytest.raises(SettingsError, match="'cuda:2' is not there: PyTorch sees 2 GPUs"):
        pick_device("cuda:2")
    with simulated_gpus(0):
        assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")
        for wanted in ("cuda", "cuda:0"):
            with pytest.raises(SettingsError, match=f"'{wanted}' is not there: PyTorch sees 0 GPUs"):
                pick_device(wanted)
    with pytest.raises(SettingsError, match="'mps' is not supported: give auto, cpu, cuda or cuda:N"):
        pick_device("mps")
    with pytest.raises(SettingsError, match="'abacus' does not exist"):
        pick_device("abacus")


def test_torchrun_gives_each_process_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, value)
    begun: list[Any] = []
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: bool(begun))
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *args, **kwargs: begun.append((args, kwargs)))
    monkeypatch.setattr(torch.distributed, "barrier", lambda: None)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    for wanted in ("auto", "cuda"):
        begun.clear()
        with simulated_gpus() as chosen, processes(wanted) as group:
            assert (group.device.index, chosen[-1], begun[0][0]) == (1, 1, ("nccl",))
    with simulated_gpus(1), pytest.raises(SettingsError, match="'cuda:1' is not there"), processes("auto"):
        pass


def test_a_run_goes_on_on_a_gpu(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, out = config(dataset, device="cuda", epochs=1), tmp_path / "out"
    step = loop_module._Run._step

    def asked(run: Any, *args: Any) -> None:
        run.stop.asked = True
        step(run, *args)

    with simulated_gpus():
        with monkeypatch.context() as patch, pytest.raises(Interrupted):
            patch.setattr(loop_module._Run, "_step", asked)
            train(chosen, out)
        train(chosen, out)
    assert [row["step"] for row in rows(out)] == [0, 1]


@pytest.mark.parametrize("mode", ["icp", "fcp"])
def test_copy_and_paste_on_a_gpu(mode: str, dataset: Path, tmp_path: Path) -> None:
    for number in range(2):
        rgb, _, facemask = synthetic_portrait(96, 50 + number)
        for kind, pixels in (("image", rgb), ("facemask", facemask)):
            (tmp_path / "sources" / kind).mkdir(parents=True, exist_ok=True)
            (tmp_path / "sources" / kind / f"s{number}.png").write_bytes(encoded(pixels, "PNG"))
    chosen = config(
        dataset, device="cuda:1", epochs=1, copy_paste={"mode": mode, "start_epoch": 0, "probability": 1.0},
        sources=str(tmp_path / "sources"),
    )  # fmt: skip
    with simulated_gpus():
        assert train(chosen, tmp_path / "out").steps == 2


@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:1"])
def test_infer_on_a_gpu(device: str, dataset: Path, checkpoint: Path, tmp_path: Path) -> None:
    with simulated_gpus():
        done = infer(dataset / "train/images", tmp_path / "out", checkpoint, device=device)
    assert (done.made, done.exit_code) == (5, 0)
    infer(dataset / "train/images", tmp_path / "cpu", checkpoint, device="cpu")
    for name in (f"alpha/p{number}.png" for number in range(5)):
        np.testing.assert_array_equal(Image.open(tmp_path / "out" / name), Image.open(tmp_path / "cpu" / name))
