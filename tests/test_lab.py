"""What a lab trips over: selection on twins, replaced files, clashing names, memory, initial weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from p3mdata.errors import Interrupted, RunFolderError, SettingsError, SetupError  # noqa: E402
from p3mnet import infer as infer_module  # noqa: E402
from p3mnet.checkpoint import load_checkpoint, load_initial, save_checkpoint  # noqa: E402
from p3mnet.create import create_model  # noqa: E402
from p3mnet.data import TrainingSet  # noqa: E402
from p3mnet.fingerprints import fingerprint_of  # noqa: E402
from p3mnet.infer import infer  # noqa: E402
from p3mnet.training import Watch, read_config, train  # noqa: E402
from p3mnet.training import loop as loop_module  # noqa: E402
from p3mnet.training import selection as selection_module  # noqa: E402
from p3mnet.training.selection import hold_out  # noqa: E402
from tests.factories import encoded, synthetic_portrait, texture  # noqa: E402
from tests.test_train import config, narrow_networks, weights, write_set  # noqa: E402


@pytest.fixture(autouse=True, scope="module")
def _narrow() -> Iterator[None]:
    with narrow_networks():
        yield


class Groups:
    """A training set of names alone."""

    def __init__(self, groups: dict[str, int]) -> None:
        self.names, self.groups, self.images = sorted(groups), groups, None
        self.files = [{"image": Path(name), "alpha": Path(name)} for name in self.names]


@pytest.mark.parametrize("seed", range(4))
def test_groups_are_held_out_whole(seed: int) -> None:
    groups = {f"p{number:02d}": number // 4 for number in range(40)}
    training = Groups(groups)
    held = hold_out(training, 0.2, seed)  # type: ignore[arg-type]
    assert len(held) == 8 and len(training.names) == 32
    assert not {groups[name] for name in held.names} & {groups[name] for name in training.names}


def test_a_share_smaller_than_every_group_holds_out_the_smallest() -> None:
    training = Groups({f"p{number:02d}": min(number // 4, 8) for number in range(39)})
    held = hold_out(training, 0.02, 0)  # type: ignore[arg-type]
    assert {training.groups[name] for name in held.names}.isdisjoint(training.groups[name] for name in training.names)
    assert len(held) == 4
    with pytest.raises(SettingsError, match="one group of near-duplicates"):
        hold_out(Groups(dict.fromkeys("abcd", 7)), 0.3, 0)  # type: ignore[arg-type]


def test_groups_come_from_the_manifest(tmp_path: Path) -> None:
    write_set(tmp_path, "train", 4)
    layout = {"name": "plain", "sets": {"train": {"path": "train", "folders": {"image": "images", "alpha": "alphas"}}}}
    about = {
        "layout": layout,
        "training": "train",
        "obfuscated": "blurred",
        "tool": "p3mdata",
        "version": 1,
        "sets": {},
    }
    (tmp_path / "dataset.json").write_text(json.dumps(about))
    rows = [{"id": f"p{number}", "group": number // 2} for number in range(4)]
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert TrainingSet(tmp_path).groups == {"p0": 0, "p1": 0, "p2": 1, "p3": 1}


@pytest.mark.parametrize("kind", ["alphas", "images"])
def test_replaced_files_are_refused_by_name(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_set(tmp_path / "data", "train", 5)
    with monkeypatch.context() as patch:
        patch.setattr(loop_module._Run, "_validate", lambda run: setattr(run.stop, "asked", True))
        with pytest.raises(Interrupted):
            train(config(tmp_path / "data"), tmp_path / "out")
    shutil.copytree(tmp_path / "data", tmp_path / "copy", copy_function=shutil.copy)
    path = tmp_path / f"data/train/{kind}/p3.png"
    before = path.read_bytes()
    rgb, alpha, _ = synthetic_portrait(128, 77)
    path.write_bytes(encoded(alpha if kind == "alphas" else rgb, "PNG"))
    with pytest.raises(RunFolderError, match=rf"files have changed since the run began: train/{kind}/p3\.png\."):
        train(config(tmp_path / "data"), tmp_path / "out")
    path.write_bytes(before)
    mask = tmp_path / "data/train/facemasks/p3.png"
    mask.unlink()
    with pytest.raises(RunFolderError, match=r"since the run began: train/facemasks/p3\.png\."):
        train(config(tmp_path / "data"), tmp_path / "out")
    # Other files of another time are not another content.
    shutil.rmtree(tmp_path / "data")
    (tmp_path / "copy").rename(tmp_path / "data")
    train(config(tmp_path / "data"), tmp_path / "out")


def test_fingerprints_see_changes_of_large_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, 3 << 20, np.uint8)
    path = tmp_path / "file"
    path.write_bytes(data.tobytes())
    first = fingerprint_of(path)
    data[-1] ^= 1
    path.write_bytes(data.tobytes())
    assert fingerprint_of(path) != first
    path.write_bytes(data[:-1].tobytes())
    assert fingerprint_of(path) != first and fingerprint_of(tmp_path / "none") == "absent"


def test_three_photographs_have_three_mattes(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number, name in enumerate(("a.jpg", "a.png", "a.jpg.webp", "b.png", "B.jpg")):
        form = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[name.rpartition(".")[2]]
        (tmp_path / "in" / name).write_bytes(encoded(texture(40, 40 + number, number), form))
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "net.pt", create_model("narrow", encoder_weights="random"))
    done = infer(tmp_path / "in", tmp_path / "out", tmp_path / "net.pt", device="cpu")
    mattes = sorted(path.name for path in (tmp_path / "out/alpha").iterdir())
    assert (done.made, done.kept, len(mattes)) == (5, 0, 5)
    assert {name.casefold() for name in mattes} == {f"{name.casefold()}.png" for name in
                                                     ("a.jpg", "a.png", "a.jpg.webp", "b.png", "b.jpg")}  # fmt: skip


def test_a_recipe_beside_a_folder_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from p3mdata.cli.recipes import _file_of

    monkeypatch.chdir(tmp_path)
    (tmp_path / "smoke").mkdir()
    (tmp_path / "quickstart").mkdir()
    assert read_config(Path("smoke"), dataset="x").batch == 2
    assert _file_of(Path("quickstart")).is_file()


@pytest.mark.parametrize("error", [
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried"),
    MemoryError("Unable to allocate 3.1 GiB"),
], ids=["torch", "numpy"])  # fmt: skip
def test_the_end_of_memory_on_a_cpu_is_one_sentence(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*given: Any) -> Any:
        raise error

    write_set(tmp_path / "data", "train", 5)
    monkeypatch.setattr(selection_module, "predict_alpha", short)
    with pytest.raises(SettingsError, match="memory does not suffice to validate it"):
        train(config(tmp_path / "data", epochs=1), tmp_path / "out")
    monkeypatch.setattr(infer_module, "predict_alphas", short)
    save_checkpoint(tmp_path / "net.pt", create_model("narrow", encoder_weights="random"))
    with pytest.raises(SettingsError, match="needs more memory than there is with a max_side of 1600"):
        infer(tmp_path / "data/train/images", tmp_path / "mattes", tmp_path / "net.pt", device="cpu")
    # Other faults stay faults.
    monkeypatch.setattr(infer_module, "predict_alphas", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        infer(tmp_path / "data/train/images", tmp_path / "more", tmp_path / "net.pt", device="cpu")


def test_training_starts_from_trained_weights(tmp_path: Path) -> None:
    write_set(tmp_path / "data", "train", 5)
    torch.manual_seed(5)
    save_checkpoint(tmp_path / "first.pt", create_model("narrow", encoder_weights="random", pool_kernel=2))
    said: list[str] = []

    class Listening(Watch):
        def say(self, text: str) -> None:
            said.append(text)

    chosen = config(tmp_path / "data", epochs=1, learning_rate=1e-12, initial_weights=str(tmp_path / "first.pt"))
    train(chosen, tmp_path / "out", watch=Listening())
    first = load_checkpoint(tmp_path / "first.pt").model.state_dict()
    found = weights(tmp_path / "out")
    assert torch.allclose(first["encoder.conv1.weight"], found["encoder.conv1.weight"], atol=1e-9)
    assert any(text.startswith("initial weights: ") and text.endswith("entries loaded") for text in said)


def test_initial_weights_of_other_shapes_are_named(tmp_path: Path) -> None:
    source = create_model("narrow", encoder_weights="random")
    state = source.state_dict()
    head = "segmentation.stages.0.2.weight"
    content = {"format": "p3mnet-checkpoint", "version": 1, "config": vars(source.config), "extra": {}}
    content["state_dict"] = {**state, head: state[head][:2].clone(), "odd": torch.zeros(1)}
    torch.save(content, tmp_path / "two.pt")
    model = create_model("narrow", tfi=False, encoder_weights="random")
    kept = model.state_dict()[head].clone()
    done = load_initial(model, tmp_path / "two.pt")
    assert done.reshaped[0] == head and "odd" in done.unused and torch.equal(model.state_dict()[head], kept)
    assert f"of another shape: {head}" in str(done)
    assert torch.equal(model.state_dict()["encoder.conv1.weight"], state["encoder.conv1.weight"])
    with pytest.raises(SetupError, match="no start for modnet, they seem to be those of narrow"):
        load_initial(create_model("modnet", encoder_weights="random"), tmp_path / "two.pt")
