"""Inference on folders: any size, both modes, resumable, the same bytes in any order, and bad input is told."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from p3mdata.base.files import temporary_name
from p3mdata.base.jsonl import read_rows
from p3mdata.errors import EXIT_HELD_BACK, RunFolderError, SettingsError, SetupError
from tests.factories import encoded, synthetic_portrait, texture
from tests.runs import p3mdata, portraits

torch = pytest.importorskip("torch")

from p3mnet import infer as infer_module  # noqa: E402
from p3mnet.checkpoint import save_checkpoint  # noqa: E402
from p3mnet.cli import app  # noqa: E402
from p3mnet.create import create_model  # noqa: E402
from p3mnet.infer import infer  # noqa: E402
from p3mnet.model import Matting, P3MNet  # noqa: E402
from p3mnet.predict import predict_alpha, to_8_bit  # noqa: E402
from tests.test_train import narrow_networks  # noqa: E402


@pytest.fixture(autouse=True, scope="module")
def _narrow() -> Iterator[None]:
    with narrow_networks():
        yield


@pytest.fixture(scope="module")
def model() -> P3MNet:
    """Random weights whose statistics have seen a few pictures, with all three classes as likely."""
    torch.manual_seed(1)
    network = create_model("narrow", encoder_weights="random").train()
    with torch.no_grad():
        for number in range(8):
            rgb = torch.from_numpy(synthetic_portrait(96, number)[0]).permute(2, 0, 1)[None]
            network(rgb.float() / 128 - 1)
        network.eval()
        last = network.segmentation.stages[0][-1]  # type: ignore[index]
        last.bias -= network(rgb.float() / 128 - 1).global_logits.mean((0, 2, 3))
    return network


@pytest.fixture(scope="module")
def checkpoint(model: P3MNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "best.pt"
    save_checkpoint(path, model)
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Odd sizes, a subfolder, two names that differ in their ending, grey, 16 bits."""
    folder = tmp_path / "images"
    (folder / "deep").mkdir(parents=True)
    rgb = synthetic_portrait(70, 3)[0]
    (folder / "a.png").write_bytes(encoded(rgb[:67, :45], "PNG"))
    (folder / "a.jpg").write_bytes(encoded(rgb[:33], "JPEG"))
    (folder / "deep/b.png").write_bytes(encoded(texture(40, 97), "PNG"))
    (folder / "grey.png").write_bytes(encoded(texture(31, 64, channels=1), "PNG"))
    Image.fromarray(texture(20, 20, channels=1).astype(np.uint16) * 257).save(folder / "sixteen.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


SIZES = {"a.png": (67, 45), "a.jpg": (33, 70), "deep/b": (40, 97), "grey": (31, 64), "sixteen": (20, 20)}


def contents(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("mode", ["hybrid", "resize"])
def test_every_picture_gets_a_matte_and_a_cutout_of_its_size(
    mode: Any, images: Path, checkpoint: Path, tmp_path: Path
) -> None:
    done = infer(images, tmp_path / "out", checkpoint, mode, device="cpu")
    assert (done.pictures, done.made, done.kept, done.broken, done.exit_code) == (5, 5, 0, [], 0)
    for name, size in SIZES.items():
        alpha = np.asarray(Image.open(tmp_path / f"out/alpha/{name}.png"))
        cutout = np.asarray(Image.open(tmp_path / f"out/cutout/{name}.png"))
        assert (alpha.shape, alpha.dtype, cutout.shape) == (size, np.uint8, (*size, 4))
        assert np.array_equal(cutout[..., 3], alpha)
    source = np.asarray(Image.open(images / "a.png"))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out/cutout/a.png.png"))[..., :3], source)


def test_alpha_is_within_range_and_soft(model: P3MNet) -> None:
    rgb = synthetic_portrait(96, 2)[0]
    for mode in ("hybrid", "resize"):
        alpha = predict_alpha(model, rgb, mode)  # type: ignore[arg-type]
        assert (alpha.shape, alpha.dtype) == ((96, 96), np.float32)
        assert 0 <= alpha.min() <= alpha.max() <= 1
        assert {0, 1} < set(alpha.ravel().tolist()) and len(np.unique(alpha)) > 100


def test_the_modes_look_at_what_they_say(model: P3MNet, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    forward = P3MNet.forward
    monkeypatch.setattr(P3MNet, "forward", lambda net, x: seen.append(tuple(x.shape[2:])) or forward(net, x))
    rgb = texture(100, 60)
    predict_alpha(model, rgb, "hybrid")
    predict_alpha(model, rgb, "resize")
    predict_alpha(model, rgb, "hybrid", max_side=50)
    # The cap keeps the aspect ratio.
    assert seen == [(50, 30), (100, 60), (50, 30), (25, 15), (50, 30)]


def test_probabilities_are_upsampled_before_they_are_compared(model: P3MNet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sure and a doubtful pixel: the border between them lies nearer to the doubtful one."""

    def forward(net: P3MNet, x: Any) -> Any:
        shape = (1, 3, *x.shape[2:])
        logits = torch.full(shape, -20.0)
        logits[:, 0, :, : shape[3] // 2] = 20
        logits[:, 2, :, shape[3] // 2 :] = 0
        logits[:, 0, :, shape[3] // 2 :] = -0.2
        nothing = torch.zeros(1, 1, *x.shape[2:])
        return Matting(logits, nothing, nothing, None, None, None)

    monkeypatch.setattr(P3MNet, "forward", forward)
    alpha = predict_alpha(model, texture(8, 64), "resize")
    # 32 columns upsampled to 64: comparing first would put the border at 32.
    assert int((alpha[4] == 0).sum()) == 33


def test_eight_bits_are_rounded() -> None:
    values = np.float32([0, 0.49, 0.51, 127.4, 127.6, 254.49, 254.51, 255]) / 255
    assert to_8_bit(values).tolist() == [0, 0, 1, 127, 128, 254, 255, 255]


def test_resumed_work_is_kept_and_comes_to_the_same(
    images: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    infer(images, tmp_path / "whole", checkpoint, device="cpu")
    predict, calls = infer_module.predict_alphas, []

    def interrupted(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return predict(*args)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(infer_module, "predict_alphas", interrupted)
        with pytest.raises(KeyboardInterrupt):
            infer(images, out, checkpoint, device="cpu")
    done = infer(images, out, checkpoint, device="cpu")
    assert (done.made, done.kept) == (3, 2)
    assert contents(out) == contents(tmp_path / "whole")
    again = infer(images, out, checkpoint, device="cpu")
    assert (again.made, again.kept) == (0, 5)


def test_a_picture_comes_out_the_same_without_the_others(images: Path, checkpoint: Path, tmp_path: Path) -> None:
    infer(images, tmp_path / "all", checkpoint, device="cpu")
    (tmp_path / "one").mkdir()
    (tmp_path / "one/grey.png").write_bytes((images / "grey.png").read_bytes())
    infer(tmp_path / "one", tmp_path / "alone", checkpoint, device="cpu")
    for kind in ("alpha", "cutout"):
        name = f"{kind}/grey.png"
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "all" / name).read_bytes()


def test_broken_pictures_are_named_and_skipped(images: Path, checkpoint: Path, tmp_path: Path) -> None:
    (images / "torn.jpg").write_bytes((images / "a.jpg").read_bytes()[:300])
    (images / "empty.png").write_bytes(b"")
    done = infer(images, tmp_path / "out", checkpoint, device="cpu", cutouts=False)
    assert [name for name, _ in done.broken] == ["empty.png", "torn.jpg"]
    assert (done.made, done.exit_code) == (5, EXIT_HELD_BACK)
    assert not (tmp_path / "out/cutout").exists()
    assert json.loads(json.dumps(infer_module.summary_row(done)))["made"] == 5


def test_a_folder_belongs_to_one_call(images: Path, checkpoint: Path, tmp_path: Path) -> None:
    infer(images, tmp_path / "out", checkpoint, device="cpu")
    with pytest.raises(RunFolderError, match="another max_side, mode"):
        infer(images, tmp_path / "out", checkpoint, "resize", max_side=64, device="cpu")
    torch.manual_seed(5)
    save_checkpoint(tmp_path / "other.pt", create_model("narrow", encoder_weights="random"))
    with pytest.raises(RunFolderError, match="another checkpoint"):
        infer(images, tmp_path / "out", tmp_path / "other.pt", device="cpu")
    with pytest.raises(RunFolderError, match="not empty"):
        infer(images, images, checkpoint, device="cpu")


def test_bad_settings_and_checkpoints(images: Path, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "nothing").mkdir()
    for error, sentence, call in (
        (SettingsError, "holds no pictures", {"images": tmp_path / "nothing"}),
        (SettingsError, "is no folder", {"images": tmp_path / "absent"}),
        (SettingsError, "mode must be", {"mode": "tiled"}),
        (SettingsError, "max_side must be", {"max_side": 8}),
        (SettingsError, "batch must be at least 1", {"batch": 0}),
        (SettingsError, "leave --batch out", {"batch": 2, "mode": "legacy_resize"}),
        (SettingsError, "does not exist", {"device": "abacus"}),
        (SetupError, "cannot be read", {"checkpoint": tmp_path / "absent.pt"}),
        (SettingsError, "There is no network", {"published": "p3mnet_big"}),
    ):
        with pytest.raises(error, match=sentence):
            infer(**{"images": images, "out": out, "checkpoint": checkpoint, "device": "cpu"} | call)  # type: ignore[arg-type]
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(SetupError, match="not a weights file"):
        infer(images, out, tmp_path / "text.pt", device="cpu")
    torch.save({"state_dict": {"conv.weight": torch.zeros(1)}}, tmp_path / "foreign.pt")
    with pytest.raises(SetupError, match="not a p3mnet checkpoint"):
        infer(images, out, tmp_path / "foreign.pt", device="cpu")
    with pytest.raises(SetupError, match="do not fit p3mnet_swin_t"):
        infer(images, out, tmp_path / "foreign.pt", device="cpu", published="p3mnet_swin_t")
    assert not out.exists()


def test_memory_and_disk_at_their_end(
    images: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def small_memory(*args: Any) -> Any:
        raise torch.OutOfMemoryError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(infer_module, "predict_alphas", small_memory)
        with pytest.raises(SettingsError, match=r"a\.jpg: needs more memory .* max_side of 1600"):
            infer(images, tmp_path / "out", checkpoint, device="cpu")
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    temporary = temporary_name(tmp_path / "out/alpha/deep" / "b.png")
    write = infer_module.write_atomic

    def full(path: Path, content: bytes) -> None:
        # Only now: what lies there when a call starts is swept away.
        if path.name == "b.png" and path.parent == temporary.parent:
            temporary.parent.mkdir(parents=True, exist_ok=True)
            temporary.symlink_to("/dev/full")
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(infer_module, "write_atomic", full)
        with pytest.raises(RunFolderError, match=rf"{os.strerror(errno.ENOSPC)}.*2 of 5 pictures"):
            infer(images, tmp_path / "out", checkpoint, device="cpu")
    done = infer(images, tmp_path / "out", checkpoint, device="cpu")
    # Those after the failed one may have been under way.
    assert done.kept >= 2 and done.kept + done.made == 5


# Side by side, A and A' are seen in one size: A A A' A B B A, and what is no picture between the first two.
A, A_LARGE, B = (48, 64), (72, 96), (40, 40)
IN_A_ROW = {f"p{number}": size for number, size in enumerate((A, A, A_LARGE, A, B, B, A))}


@pytest.fixture
def row(tmp_path: Path) -> Path:
    """Pictures in which one is followed by others of its size."""
    folder = tmp_path / "row"
    folder.mkdir()
    for number, (name, (height, width)) in enumerate(IN_A_ROW.items()):
        (folder / f"{name}.png").write_bytes(encoded(synthetic_portrait(96, number)[0][:height, :width], "PNG"))
    return folder


def test_pictures_in_batches_have_the_mattes_that_they_have_alone(
    row: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []
    written: list[str] = []
    predict, write = infer_module.predict_alphas, infer_module.write_atomic

    def watched(model: Any, pictures: Any, *given: Any) -> Any:
        seen.append(tuple(len(rgb) for rgb in pictures))
        return predict(model, pictures, *given)

    def told(path: Path, content: bytes) -> None:
        written.append(path.stem)
        write(path, content)

    (row / "p0_torn.png").write_bytes((row / "p0.png").read_bytes()[:200])
    call = partial(infer, row, checkpoint=checkpoint, max_side=64, cutouts=False, device="cpu")
    alone = call(out=tmp_path / "alone")
    monkeypatch.setattr(infer_module, "predict_alphas", watched)
    monkeypatch.setattr(infer_module, "write_atomic", told)
    shown: list[int] = []
    together = call(out=tmp_path / "together", batch=3, progress=lambda count: lambda: shown.append(count))
    assert seen == [(48, 48, 72), (48,), (40, 40), (48,)] and shown == [8] * 8
    assert (together.made, together.broken) == (7, alone.broken) and together.batch == 3
    assert [name for name, _ in together.broken] == ["p0_torn.png"]
    # On a CPU there is one writer; several on a GPU may overtake each other.
    assert written == list(IN_A_ROW)
    for name, size in IN_A_ROW.items():
        one, other = (np.asarray(Image.open(tmp_path / out / f"alpha/{name}.png")) for out in ("alone", "together"))
        assert one.shape == other.shape == size and len(np.unique(one)) > 8
        assert np.abs(one.astype(int) - other).max() <= 1, name


def test_a_batch_that_memory_does_not_hold_is_halved(
    row: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    predict = infer_module.predict_alphas

    def small_memory(model: Any, pictures: Any, *given: Any) -> Any:
        seen.append(len(pictures))
        if len(pictures) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return predict(model, pictures, *given)

    infer(row, tmp_path / "alone", checkpoint, max_side=64, device="cpu")
    monkeypatch.setattr(infer_module, "predict_alphas", small_memory)
    command = ("infer", str(row), str(tmp_path / "out"), "--checkpoint", str(checkpoint), "--max-side", "64")
    told = CliRunner().invoke(app, [*command, "--device", "cpu", "--batch", "4"])
    assert told.exit_code == 0 and "7 of 7 pictures" in told.output, told.output
    assert told.output.count("memory did not hold 4 pictures at a time: went on as with --batch 2") == 1
    assert seen == [4, 2, 2, 2, 1]
    assert contents(tmp_path / "out").keys() == contents(tmp_path / "alone").keys()


@pytest.mark.slow
def test_photographs_without_mattes_get_predicted_ones(tmp_path: Path) -> None:
    photos = portraits(tmp_path / "photos", "a.png", "deep/b.jpg")
    save_checkpoint(tmp_path / "w.pt", create_model("p3mnet_resnet34", encoder_weights="random"))
    command = ("anonymize", "dir", photos, tmp_path / "run", "--alphas", "predict")
    done = p3mdata(*command, "--checkpoint", tmp_path / "w.pt", "--json", timeout=300)
    # Nobody can tell what random weights see; every photograph has a matte and an outcome all the same.
    assert done.returncode in (0, 3), done.stderr
    assert json.loads(done.stdout)["reasons"].get("alpha_missing") is None
    assert sorted(p.name for p in (tmp_path / "run-alphas" / "alpha").rglob("*.png")) == ["a.png", "b.png"]
    assert [bool(row["alpha"]) for row in read_rows(tmp_path / "run" / "private" / "sources.jsonl")] == [True, True]
    for options, words in (
        (command, "needs --checkpoint"),
        ((*command[:4], "--checkpoint", "x"), "goes with --alphas"),
    ):
        done = p3mdata(*options)
        assert done.returncode == 2 and words in done.stderr
