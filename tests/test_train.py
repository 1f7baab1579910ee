"""Training: it learns, it can be stopped anywhere, several processes train like one, and bad input is told."""

from __future__ import annotations

import contextlib
import csv
import errno
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from p3mdata.base.files import temporary_name
from p3mdata.errors import EXIT_INTERRUPTED, Interrupted, RunFolderError, SettingsError, SetupError
from tests.factories import encoded, synthetic_portrait
from tests.runs import PATIENCE, wait_until

torch = pytest.importorskip("torch")

from p3mnet import metrics  # noqa: E402
from p3mnet.checkpoint import load_checkpoint  # noqa: E402
from p3mnet.encoders import ResNet34  # noqa: E402
from p3mnet.infer import infer  # noqa: E402
from p3mnet.registry import VARIANTS, Variant  # noqa: E402
from p3mnet.training import TrainConfig, Watch, make_config, read_config, train  # noqa: E402
from p3mnet.training import loop as loop_module  # noqa: E402
from p3mnet.training import state as state_module  # noqa: E402
from p3mnet.training import step as step_module  # noqa: E402

SIDE = 128
Settings = dict[str, Any]


class Narrow(ResNet34):
    """ResNet-34 with a 16th of its channels."""

    widths: ClassVar[tuple[int, ...]] = (8, 8, 8, 16, 16, 32)


@contextlib.contextmanager
def narrow_networks() -> Iterator[None]:
    """Two small networks among those that can be built, and one thread, which is what such small maps want."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("narrow", "narrow_too"):
            patch.setitem(VARIANTS, name, Variant(lambda config: Narrow(config.pool_kernel), "last", (2, 3)))
        yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True, scope="module")
def _narrow() -> Iterator[None]:
    with narrow_networks():
        yield


def write_set(root: Path, name: str, pictures: int) -> None:
    for number in range(pictures):
        for kind, pixels in zip(("images", "alphas", "facemasks"), synthetic_portrait(SIDE, number), strict=True):
            path = root / name / kind / f"p{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(pixels, "PNG"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine portraits to train on; another set holds the first four of them once more."""
    root = tmp_path_factory.mktemp("dataset")
    write_set(root, "train", 9)
    write_set(root, "validation", 4)
    return root


def settings(dataset: Path, **changes: Any) -> Settings:
    return {
        "dataset": str(dataset),
        "model": {"name": "narrow", "encoder_weights": "random", "pool_kernel": 2},
        "data": {"crop_sides": [64, 96, 128], "size": 64, "trimap_kernel": [5, 9], "colours": "estimate"},
        "validation": {"share": 0.1, "max_side": 128},
        "batch": 2,
        "epochs": 2,
        "learning_rate": 1e-3,
        "workers": 0,
        "device": "cpu",
    } | changes


def config(dataset: Path, **changes: Any) -> TrainConfig:
    return make_config(settings(dataset, **changes))


def rows(out: Path, name: str = "log.csv") -> list[dict[str, float]]:
    with (out / name).open(newline="") as source:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(source)]


def weights(out: Path, name: str = "last.pt") -> dict[str, Any]:
    return load_checkpoint(out / "checkpoints" / name).model.state_dict()


def assert_same_weights(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@contextlib.contextmanager
def computing_in(type_name: str) -> Iterator[None]:
    """Networks, batches and losses made here are of this type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, type_name))
    yield
    torch.set_default_dtype(before)


def started(
    chosen: Settings, folder: Path, out: Path, *launcher: str, type_name: str = "float32", held: int = 0
) -> subprocess.Popen[str]:
    """A run in processes of its own; step `held`, counted from 1, takes until the run is asked to stop, or for ever."""
    recipe = folder / f"{out.name}.json"
    recipe.write_text(json.dumps(chosen))
    command = [sys.executable, *launcher, "-m", "tests.test_train", str(recipe), str(out), type_name]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "P3M_TEST_HELD_STEP": str(held)}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, env=environment
    )


@pytest.mark.slow
def test_it_learns_a_handful_of_portraits(tmp_path: Path) -> None:
    write_set(tmp_path / "data", "train", 4)
    write_set(tmp_path / "data", "validation", 4)
    images = tmp_path / "data/train/images"
    chosen = config(
        tmp_path / "data", batch=4, epochs=300, learning_rate=3e-3,
        validation={"set": "validation", "every": 50, "mode": "hybrid", "max_side": 128},
    )  # fmt: skip
    result = train(chosen, tmp_path / "out")
    history = [row["SAD"] for row in rows(tmp_path / "out", "epochs.csv")]
    assert result.value == min(history)
    done = infer(images, tmp_path / "mattes", result.best, "hybrid", 128)
    assert (done.made, done.exit_code) == (4, 0)
    found = []
    for number in range(4):
        alpha = np.asarray(Image.open(tmp_path / f"mattes/alpha/p{number}.png"))
        found.append(metrics.sad(alpha, synthetic_portrait(SIDE, number)[1]))
    # Mean of all pictures; a matte of nothing has 4.9, what 50 steps have learnt about 2.4.
    assert np.mean(found) == pytest.approx(result.value)
    assert result.value < 0.7 < 1 < history[0]
    assert sorted(path.name for path in (tmp_path / "out/samples").glob("*.png"))[0] == "epoch-049.png"


@pytest.fixture(scope="module")
def undisturbed(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run: 2 epochs of 4 steps."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    train(config(dataset), out)
    return out


def test_what_a_run_leaves(undisturbed: Path, dataset: Path) -> None:
    found = json.loads((undisturbed / "result.json").read_text())
    assert (found["seed"], found["steps"], found["epochs"], found["crops_per_step"]) == (0, 8, 2, 2)
    assert found["best"]["SAD"] == min(row["SAD"] for row in rows(undisturbed, "epochs.csv"))
    assert len(found["validation_pictures"]) == 1 and found["skipped"] == []
    log = rows(undisturbed)
    assert [row["step"] for row in log] == list(range(8))
    assert {"total", "alpha_t", "laplacian", "ce_global", "composition", "gradient_norm"} <= log[0].keys()
    assert read_config(undisturbed / "config.yaml") == config(dataset)
    sheet = np.asarray(Image.open(undisturbed / "samples/epoch-001.png"))
    assert sheet.shape == (256, 4 * 256, 3)
    best = load_checkpoint(undisturbed / "checkpoints/best.pt")
    assert best.extra["seed"] == 0 and "optimizer" not in best.extra


def test_files_of_a_run_have_the_names_that_0_5_0_gave_them(undisturbed: Path) -> None:
    """A run of that version goes on in this one, and what reads its results finds them."""
    content = torch.load(undisturbed / "checkpoints/last.pt", weights_only=True)
    assert (content["format"], content["version"]) == ("p3mnet-checkpoint", 1)
    assert content.keys() == {"format", "version", "config", "state_dict", "extra"}
    assert content["config"].keys() == {"name", "tfi", "sbfi", "dbfi", "pool_kernel", "drop_path", "colours"}
    extra = content["extra"]
    assert extra.keys() == {"optimizer", "position", "about"}
    assert extra["position"].keys() == {
        "step", "epoch", "batch", "seconds", "best", "best_epoch", "losses", "skipped",
    }  # fmt: skip
    assert extra["about"].keys() == {"seed", "processes", "pictures", "fingerprint", "images", "colours"}
    assert json.loads((undisturbed / "result.json").read_text()).keys() >= {
        "model", "seed", "epochs", "steps", "crops_per_step", "best", "validation_pictures", "losses", "terms",
        "left_out", "colours", "skipped", "seconds", "images_per_second", "processes", "device", "precision",
        "deterministic", "compiled", "workers", "waited", "bottleneck", "torch",
    }  # fmt: skip


def test_tensorboard_shows_what_the_log_says(
    dataset: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    losses, calls = step_module.losses_of, []

    def power_cut(*args: Any) -> Any:
        calls.append(1)
        return losses(*args) if len(calls) < 4 else pytest.fail("power cut")

    chosen, cut = config(dataset, checkpoint_every=2), tmp_path / "out"
    with monkeypatch.context() as patch, pytest.raises(pytest.fail.Exception):
        patch.setattr(step_module, "losses_of", power_cut)
        train(chosen, cut)
    # The third step is told, and past the checkpoint.
    assert len(rows(cut)) == 3
    train(chosen, cut)
    for out in (undisturbed, cut):
        shown = reader.EventAccumulator(str(out / "tensorboard")).Reload()
        for group, name, number in (("loss", "log.csv", "step"), ("validation", "epochs.csv", "step")):
            told = rows(out, name)
            for part in told[0].keys() - {"step", "epoch", "pictures"}:
                scalars = shown.Scalars(f"{group}/{part}")
                # An interrupted run's steps are there once.
                assert [scalar.step for scalar in scalars] == [row[number] for row in told]
                assert [scalar.value for scalar in scalars] == pytest.approx([row[part] for row in told], rel=1e-6)
        assert [image.step for image in shown.Images("samples")] == [row["step"] for row in rows(out, "epochs.csv")]


def test_equal_runs_are_equal_whatever_loads(dataset: Path, undisturbed: Path, tmp_path: Path) -> None:
    train(config(dataset, workers=2), tmp_path / "out")
    assert (tmp_path / "out/log.csv").read_bytes() == (undisturbed / "log.csv").read_bytes()
    train(config(dataset, seed=1), tmp_path / "other")
    assert rows(tmp_path / "other")[0]["total"] != rows(undisturbed)[0]["total"]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL", "SIGTERM to all"])
def test_an_interrupted_run_comes_to_the_same(how: str, dataset: Path, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    chosen = settings(dataset, checkpoint_every=1 if how == "SIGKILL" else 100, workers=2 if "all" in how else 0)
    run = started(chosen, tmp_path, out, held=4)
    wait_until(lambda: (out / "log.csv").exists() and len((out / "log.csv").read_text().splitlines()) > 3, run)
    if "all" in how:
        # As schedulers do it, and once more.
        os.killpg(run.pid, signal.SIGTERM)
        run.send_signal(signal.SIGTERM)
    else:
        run.send_signal(getattr(signal, how))
    said = run.communicate(timeout=PATIENCE)[1]
    assert run.returncode == (-signal.SIGKILL if how == "SIGKILL" else EXIT_INTERRUPTED), said
    done = len(rows(out))
    assert done == (3 if how == "SIGKILL" else 4)
    if how != "SIGKILL":
        assert f"Stopped after step {done}" in said
        assert load_checkpoint(out / "checkpoints/last.pt").extra["position"]["step"] == done
    train(make_config(chosen), out)
    assert (out / "log.csv").read_bytes() == (undisturbed / "log.csv").read_bytes()
    assert (out / "epochs.csv").read_bytes() == (undisturbed / "epochs.csv").read_bytes()
    for name in ("last.pt", "best.pt"):
        assert_same_weights(weights(out, name), weights(undisturbed, name))


def test_a_run_that_was_killed_as_it_began_begins_anew(
    dataset: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []

    def cut(write: Any) -> Any:
        def writing(path: Path, *rest: Any) -> None:
            if written:
                raise KeyboardInterrupt
            written.append(path.name)
            write(path, *rest)

        return writing

    with monkeypatch.context() as cutting:
        for name in ("write_json", "write_atomic"):
            cutting.setattr(state_module, name, cut(getattr(state_module, name)))
        with pytest.raises(KeyboardInterrupt):
            train(config(dataset), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == written
    train(config(dataset), tmp_path / "out")
    assert (tmp_path / "out/log.csv").read_bytes() == (undisturbed / "log.csv").read_bytes()


def test_a_stop_during_validation_keeps_the_epoch(
    dataset: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = loop_module.measure

    def stopping(*args: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return measure(*args)

    with monkeypatch.context() as stopped:
        stopped.setattr(loop_module, "measure", stopping)
        with pytest.raises(Interrupted, match="after step 4"):
            train(config(dataset), tmp_path / "out")
    train(config(dataset), tmp_path / "out")
    assert (tmp_path / "out/log.csv").read_bytes() == (undisturbed / "log.csv").read_bytes()
    assert (tmp_path / "out/epochs.csv").read_bytes() == (undisturbed / "epochs.csv").read_bytes()


@pytest.mark.slow
def test_two_processes_train_like_one_with_twice_the_batch(dataset: Path, tmp_path: Path) -> None:
    """In double precision, where what is left of rounding is far smaller than anything that is done wrong."""
    changes: Settings = {"learning_rate": 1e-5, "epochs": 3}
    together = started(
        settings(dataset, batch=2, **changes), tmp_path, tmp_path / "two", "-m", "torch.distributed.run",
        "--standalone", "--nproc-per-node", "2", type_name="float64",
    )  # fmt: skip
    try:
        with computing_in("float64"):
            train(config(dataset, batch=4, **changes), tmp_path / "one")
        said = together.communicate(timeout=PATIENCE)[1]
    finally:
        # torchrun passes it on.
        together.terminate()
    assert together.returncode == 0, said
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert len(one) == len(two) == 6
    for single, double in zip(one, two, strict=True):
        for name, value in single.items():
            assert double[name] == pytest.approx(value, rel=1e-9), (name, single["step"], value, double[name])
    errors = [rows(tmp_path / name, "epochs.csv")[-1]["SAD"] for name in ("one", "two")]
    # Mattes are measured with 8 bits: the smallest difference may move a pixel to the next level.
    assert errors[0] == pytest.approx(errors[1], rel=1e-4)
    assert json.loads((tmp_path / "two/result.json").read_text())["processes"] == 2
    with pytest.raises(RunFolderError, match="finished"):
        train(config(dataset, batch=2, **changes), tmp_path / "two")


def test_accumulated_batches_weigh_transition_pixels_like_one(dataset: Path, tmp_path: Path) -> None:
    """Batch norm sees half of the crops at a time, so that only the scale of the losses can be held against it."""
    train(config(dataset, batch=2, accumulation=2, epochs=1), tmp_path / "two")
    train(config(dataset, batch=4, epochs=1), tmp_path / "one")
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert len(one) == len(two) == 2
    assert two[0]["alpha_t"] == pytest.approx(one[0]["alpha_t"], rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["icp", "fcp"])
def test_copy_and_paste_takes_part(mode: str, dataset: Path, undisturbed: Path, tmp_path: Path) -> None:
    for number in range(2):
        rgb, _, facemask = synthetic_portrait(96, 50 + number)
        for kind, pixels in (("image", rgb), ("facemask", facemask)):
            (tmp_path / "sources" / kind).mkdir(parents=True, exist_ok=True)
            (tmp_path / "sources" / kind / f"s{number}.png").write_bytes(encoded(pixels, "PNG"))
    chosen = config(
        dataset, epochs=1, copy_paste={"mode": mode, "start_epoch": 0, "probability": 1.0},
        sources=str(tmp_path / "sources"),
    )  # fmt: skip
    train(chosen, tmp_path / "out")
    assert rows(tmp_path / "out")[0]["total"] != rows(undisturbed)[0]["total"]
    with pytest.raises(SettingsError, match="needs 'sources'"):
        config(dataset, copy_paste={"mode": mode})


def test_bfloat16_keeps_weights_and_losses_in_float32(dataset: Path, undisturbed: Path, tmp_path: Path) -> None:
    train(config(dataset, epochs=1, precision="bfloat16"), tmp_path / "out")
    mixed, exact = rows(tmp_path / "out")[0], rows(undisturbed)[0]
    assert mixed["total"] != exact["total"]
    assert mixed["total"] == pytest.approx(exact["total"], rel=0.05)
    assert {value.dtype for value in weights(tmp_path / "out").values()} <= {torch.float32, torch.int64}


def test_a_folder_belongs_to_one_run(dataset: Path, undisturbed: Path, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="finished run"):
        train(config(dataset), undisturbed)
    with pytest.raises(RunFolderError, match=r"other settings \(data\.flip, learning_rate\)"):
        changed = settings(dataset, learning_rate=1e-2)
        train(make_config(changed | {"data": changed["data"] | {"flip": 0}}), undisturbed)
    (tmp_path / "holiday.txt").write_text("not yours")
    with pytest.raises(RunFolderError, match="holds no training run"):
        train(config(dataset), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.txt"]


@pytest.fixture
def half(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was stopped after its first validation."""
    out = tmp_path / "half"
    with monkeypatch.context() as patch:
        patch.setattr(loop_module._Run, "_validate", lambda run: setattr(run.stop, "asked", True))
        with pytest.raises(Interrupted):
            train(config(dataset), out)
    return out


def test_what_a_resumed_run_refuses(dataset: Path, half: Path) -> None:
    with pytest.raises(RunFolderError, match="unfinished run"):
        train(config(dataset), half, resume=False)
    with pytest.raises(RunFolderError, match=r"\(epochs\)"):
        train(config(dataset, epochs=3), half)
    path = half / "checkpoints/last.pt"
    content = torch.load(path)
    torch.save(content | {"config": content["config"] | {"name": "narrow_too"}}, path)
    with pytest.raises(SetupError, match="holds a narrow_too, but this run trains a narrow"):
        train(config(dataset), half)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SetupError, match=r"last\.pt is not a weights file"):
        train(config(dataset), half)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_leaves_the_last_checkpoint(
    dataset: Path, half: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (half / "checkpoints/last.pt").read_bytes()
    temporary = temporary_name(half / "checkpoints" / "last.pt")
    write = state_module.write_checkpoint

    def full(path: Path, content: Any) -> None:
        # Only now: what lies there when a run starts is swept away.
        if path.name == "last.pt":
            temporary.symlink_to("/dev/full")
        write(path, content)

    with monkeypatch.context() as patch, pytest.raises(RunFolderError, match=os.strerror(errno.ENOSPC)):
        patch.setattr(state_module, "write_checkpoint", full)
        train(config(dataset), half)
    assert (half / "checkpoints/last.pt").read_bytes() == before
    assert not temporary.is_symlink()
    train(config(dataset), half)
    assert (half / "log.csv").read_bytes() == (undisturbed / "log.csv").read_bytes()


def test_steps_end_a_run_within_an_epoch(dataset: Path, tmp_path: Path) -> None:
    # Eight pictures are left to train on: four steps an epoch.
    result = train(config(dataset, steps=6, epochs=50), tmp_path / "out")
    assert result.steps == len(rows(tmp_path / "out")) == 6
    assert [(row["epoch"], row["step"]) for row in rows(tmp_path / "out", "epochs.csv")] == [(0, 4), (1, 6)]


def test_a_run_that_was_stopped_at_its_last_step_is_validated(dataset: Path, tmp_path: Path) -> None:
    class Pressing(Watch):
        def step(self, epoch: int, images: int, parts: Any) -> None:
            if images == 12:
                os.kill(os.getpid(), signal.SIGINT)

    chosen = config(dataset, steps=6, epochs=50)
    with pytest.raises(Interrupted):
        train(chosen, tmp_path / "out", watch=Pressing())
    assert train(chosen, tmp_path / "out").steps == 6
    assert rows(tmp_path / "out", "epochs.csv")[-1]["step"] == 6


def _hold(step: int) -> None:
    """Let a step wait until the run is asked to stop."""
    losses, stopping, stops, steps = step_module.losses_of, loop_module.stopping, [], itertools.count(1)

    @contextlib.contextmanager
    def watched() -> Iterator[Any]:
        with stopping() as stop:
            stops.append(stop)
            yield stop

    def held(*args: Any) -> Any:
        if next(steps) == step:
            while not stops[0].asked:
                time.sleep(0.01)
        return losses(*args)

    loop_module.stopping, step_module.losses_of = watched, held


def _main(recipe: str, out: str, type_name: str) -> None:
    """A run in a process of its own; what it says at the end goes to stderr."""
    if step := int(os.environ.get("P3M_TEST_HELD_STEP", "0")):
        _hold(step)
    with narrow_networks(), computing_in(type_name):
        try:
            train(read_config(Path(recipe)), Path(out))
        except Interrupted as error:
            sys.stderr.write(str(error))
            # Without this, torchrun would tell about it as of a crash.
            sys.exit(error.exit_code)


if __name__ == "__main__":
    _main(*sys.argv[1:])
