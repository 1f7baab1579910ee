"""What training is given: settings, datasets, pictures, memory, and what it refuses in which words."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from p3mdata.errors import Interrupted, RunFolderError, SettingsError

torch = pytest.importorskip("torch")

from p3mnet.data import TrainingSet  # noqa: E402
from p3mnet.registry import list_models  # noqa: E402
from p3mnet.training import BatchTooLarge, Diverged, Watch, make_config, read_config, train  # noqa: E402
from p3mnet.training import loop as loop_module  # noqa: E402
from p3mnet.training import step as step_module  # noqa: E402
from p3mnet.training.config import RECIPES  # noqa: E402
from p3mnet.training.selection import hold_out  # noqa: E402
from tests.test_train import SIDE, config, narrow_networks, rows, settings, write_set  # noqa: E402


@pytest.fixture(autouse=True, scope="module")
def _narrow() -> Iterator[None]:
    with narrow_networks():
        yield


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine portraits to train on; another set holds the first four of them once more."""
    root = tmp_path_factory.mktemp("dataset")
    write_set(root, "train", 9)
    write_set(root, "validation", 4)
    return root


def test_a_loss_that_is_no_number_stops_with_the_pictures(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = step_module.losses_of

    def poisoned(network: Any, output: Any, batch: Any, given: Any) -> Any:
        parts = losses(network, output, batch, given)
        return parts if "p3" not in batch["name"] else parts | {"total": parts["total"] * float("nan")}

    monkeypatch.setattr(step_module, "losses_of", poisoned)
    with pytest.raises(Diverged, match=r"total, gradient_norm not finite with the pictures .*\bp3\b") as caught:
        train(config(dataset, accumulation=2), tmp_path / "out")
    # Of the four pictures of the step only the two of its batch.
    assert sum(f"p{number}" in str(caught.value) for number in range(9)) == 2


def test_a_gradient_that_is_no_number_stops_too(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Overflow(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:
            return gradient * float("inf")

    losses = step_module.losses_of
    monkeypatch.setattr(
        step_module, "losses_of", lambda *args: (p := losses(*args)) | {"total": Overflow.apply(p["total"])}
    )
    with pytest.raises(Diverged, match="step 0: gradient_norm not finite with the pictures p"):
        train(config(dataset), tmp_path / "out")


def test_out_of_memory_says_what_fits(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = step_module.losses_of

    def small_memory(network: Any, output: Any, batch: Any, given: Any) -> Any:
        if len(batch["name"]) > limit:
            raise torch.OutOfMemoryError("out of memory")
        return losses(network, output, batch, given)

    monkeypatch.setattr(step_module, "losses_of", small_memory)
    limit = 3
    with pytest.raises(BatchTooLarge, match="batch of 8, but one of 2: set batch to 2 and accumulation to 4 for"):
        train(config(dataset, batch=8), tmp_path / "out")
    limit = 0
    with pytest.raises(BatchTooLarge, match="not hold a single crop"):
        train(config(dataset, batch=8), tmp_path / "out")
    # Nothing was trained yet: the same folder takes the advice.
    limit = 2
    train(config(dataset, batch=2, accumulation=4, epochs=1), tmp_path / "out")


def test_a_dataset_that_changed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_set(tmp_path / "data", "train", 5)
    with monkeypatch.context() as patch:
        patch.setattr(loop_module._Run, "_validate", lambda run: setattr(run.stop, "asked", True))
        with pytest.raises(Interrupted):
            train(config(tmp_path / "data"), tmp_path / "out")
    for kind in ("images", "alphas", "facemasks"):
        (tmp_path / f"data/train/{kind}/p0.png").unlink()
    with pytest.raises(RunFolderError, match=r"pictures 4 then, 3 now"):
        train(config(tmp_path / "data"), tmp_path / "out")


def test_the_selection_never_sees_training_or_test_pictures(dataset: Path, tmp_path: Path) -> None:
    whole = TrainingSet(dataset)
    names = list(whole.names)
    held = hold_out(whole, 0.3, 0)
    assert len(held) == 3 and sorted(held.names + whole.names) == names
    assert all(set(files) == {"image", "alpha"} for files in held.files)
    assert [files["image"].stem for files in whole.files] == whole.names
    other = TrainingSet(dataset)
    assert hold_out(other, 0.3, 1).names != held.names
    with pytest.raises(SettingsError, match="trained on"):
        train(config(dataset, validation={"set": "train"}), tmp_path / "out")
    with pytest.raises(SettingsError, match="test set"):
        train(config(dataset, validation={"set": "P3M-500-P"}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bad_datasets(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no folder"):
        train(config(tmp_path / "nowhere"), tmp_path / "out")
    for kind in ("images", "alphas"):
        (tmp_path / "empty/train" / kind).mkdir(parents=True)
    with pytest.raises(SettingsError, match="no training pictures"):
        train(config(tmp_path / "empty"), tmp_path / "out")
    write_set(tmp_path / "one", "train", 1)
    with pytest.raises(SettingsError, match="too few"):
        train(config(tmp_path / "one"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_broken_pictures_are_named_and_left_out(tmp_path: Path) -> None:
    write_set(tmp_path / "data", "train", 8)
    held = hold_out(TrainingSet(tmp_path / "data"), 0.3, 0).names
    bad = {held[0], next(f"p{number}" for number in range(8) if f"p{number}" not in held)}
    for name in bad:
        (tmp_path / f"data/train/images/{name}.png").write_bytes(b"\x89PNG broken")
    chosen = settings(tmp_path / "data", epochs=1, validation={"share": 0.3})
    chosen["data"]["max_bad"] = 0.5
    result = train(make_config(chosen), tmp_path / "out")
    assert {Path(sentence.split(":")[0]).stem for sentence in result.skipped} == bad
    assert rows(tmp_path / "out", "epochs.csv")[0]["pictures"] == 1


def test_other_images_are_seen_and_must_stay_the_same(dataset: Path, tmp_path: Path) -> None:
    seen = []

    class Grey:
        def __init__(self, level: int) -> None:
            self.level = level

        def __str__(self) -> str:
            return f"grey {self.level}"

        def __call__(self, name: str) -> Any:
            seen.append(name)
            return np.full((SIDE, SIDE, 3), self.level, np.uint8)

    class Pressing(Watch):
        def step(self, epoch: int, images: int, parts: Any) -> None:
            if images == 2:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        train(config(dataset, epochs=1), tmp_path / "out", watch=Pressing(), images=Grey(7))
    for other in (Grey(8), None):
        with pytest.raises(RunFolderError, match="images grey 7 then"):
            train(config(dataset, epochs=1), tmp_path / "out", images=other)
    train(config(dataset, epochs=1), tmp_path / "out", images=Grey(7))
    # Those that are held out too.
    assert set(seen) == {f"p{number}" for number in range(9)}


def test_recipes_and_settings(dataset: Path, tmp_path: Path) -> None:
    names = sorted(path.stem for path in RECIPES.glob("*.yaml"))
    published = [f"p3m10k_{name}" for name in ("gfm", "modnet", "resnet34", "swin_t", "vitae_s")]
    assert names == ["one_gpu", *published, "smoke"]
    chosen = {name: read_config(Path(name), dataset=str(dataset)) for name in names}
    others = {"narrow", "narrow_too", "dim", "dim_refined", "indexnet", "gca", "fba", "alphagan", "shm", "lf", "hatt"}
    assert {one.model.name for one in chosen.values()} == set(list_models()) - others
    paper, large = chosen["p3m10k_resnet34"], chosen["one_gpu"]
    # The root of the batch's ratio, for Adam.
    assert large.learning_rate == pytest.approx(paper.learning_rate * (large.batch / paper.batch) ** 0.5)
    assert large.batch == 32 and large.model == paper.model and large.epochs == paper.epochs
    assert (paper.learning_rate, paper.batch, paper.epochs, paper.seed) == (1e-5, 8, 150, 0)
    assert paper == make_config({"dataset": str(dataset), "validation": {"share": 0.02}})
    changed = read_config(Path("smoke"), ["batch=4", "model.drop_path=0.1", "data.crop_sides=[64]"], dataset="x")
    assert (changed.batch, changed.model.drop_path, changed.data.crop_sides) == (4, 0.1, (64,))
    for wrong, sentence in (
        (["batch"], "must look like"),
        (["batch=0"], "'batch' cannot be 0"),
        (["speed=9"], "'speed' cannot be 9"),
        (["losses.beauty=1"], "losses.beauty"),
        (["losses.alpha=-1"], "'losses.alpha' cannot be -1"),
        (["batch.size=9"], "holds no settings"),
    ):
        with pytest.raises(SettingsError, match=sentence):
            read_config(Path("smoke"), wrong, dataset="x")
    with pytest.raises(SettingsError, match="'dataset' is missing"):
        read_config(Path("smoke"))
    with pytest.raises(SettingsError, match="cannot be read"):
        read_config(tmp_path / "absent.yaml")
    with pytest.raises(SettingsError, match="no recipe 'p3m10k'. Recipes are one_gpu, p3m10k_gfm, "):
        read_config(Path("p3m10k"))
    with pytest.raises(SettingsError, match="There is no network 'p3mnet_big'"):
        train(config(dataset, model={"name": "p3mnet_big"}), tmp_path / "out")


def test_the_command(dataset: Path, tmp_path: Path) -> None:
    import typer

    from p3mnet.cli import infer as infer_command
    from p3mnet.cli import train as train_command

    app = typer.Typer()
    app.command()(train_command)
    app.command()(infer_command)
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps(settings(Path("elsewhere"), epochs=1)))
    call = ["train", str(tmp_path / "out"), "--config", str(recipe), "--dataset", str(dataset), "--set", "seed=3"]
    done = CliRunner().invoke(app, [*call, "--json"], catch_exceptions=False)
    row = json.loads(done.stdout)
    assert (row["steps"], row["metric"]) == (4, "SAD")
    call = ["infer", str(dataset / "validation/images"), str(tmp_path / "mattes"), "--checkpoint", row["best"]]
    done = CliRunner().invoke(app, [*call, "--json", "--mode", "resize"], catch_exceptions=False)
    assert json.loads(done.stdout)["made"] == 4
