"""Devices: every path that picks or sets one, on a simulated machine with GPUs; see `tests.simulated_gpu`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import p3mdata
from p3mdata.cli import main
from p3mdata.errors import Interrupted, SettingsError
from p3mnet.traincheck.config import Scale
from p3mnet.traincheck.statistics import Cost, judge_cost
from tests.factories import encoded, obfuscated_dataset, synthetic_portrait

torch = pytest.importorskip("torch")

from p3mnet import maps  # noqa: E402
from p3mnet.baselines.network import Network  # noqa: E402
from p3mnet.devices import arithmetic, device_name, pick_device, why_no_gpu  # noqa: E402
from p3mnet.infer import infer  # noqa: E402
from p3mnet.traincheck import experiments  # noqa: E402
from p3mnet.training import (  # noqa: E402
    Watch,
    feeding,  # noqa: E402
    train,
)
from p3mnet.training import compiled as compiled_module  # noqa: E402
from p3mnet.training import fitting as fitting_module  # noqa: E402
from p3mnet.training import loop as loop_module  # noqa: E402
from p3mnet.training import step as step_module  # noqa: E402
from p3mnet.training.compiled import pays  # noqa: E402
from p3mnet.training.config import changed_keys  # noqa: E402
from p3mnet.training.feeding import Clock, ahead, loader_processes, loaders_that_fit  # noqa: E402
from p3mnet.training.fitting import largest_that_fits  # noqa: E402
from p3mnet.training.processes import processes  # noqa: E402
from tests.simulated_gpu import NAME, machine, simulated_gpus  # noqa: E402
from tests.test_train import config, narrow_networks, rows, write_set  # noqa: E402

# Where it matters that steps are taken, and not what they learn.
SMALL_DATA = {"crop_sides": [32, 64], "size": 32, "trimap_kernel": [5, 9], "colours": "estimate"}


class Listening(Watch):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


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
        # Why, as PyTorch says it or as its build does.
        assert re.fullmatch(".* is a build without GPUs|Found no NVIDIA driver.*|it does not say why", why_no_gpu())
        assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")
        for wanted in ("cuda", "cuda:0"):
            with pytest.raises(SettingsError, match=f"'{wanted}' is not there: PyTorch sees 0 GPUs [(].+[)][.]$"):
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


@pytest.mark.parametrize(
    ("before", "after", "optimizer"),
    [
        ("cpu", "cuda", "adam"),
        pytest.param("cuda", "cuda:1", "adam", marks=pytest.mark.slow),
        pytest.param("cpu", "cuda", "sgd", marks=pytest.mark.slow),
    ],
)
def test_a_run_goes_on_on_a_gpu(
    before: str, after: str, optimizer: str, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    given = {"epochs": 1, "optimizer": {"name": optimizer}, "data": SMALL_DATA}
    watch = Listening()
    step = loop_module._Run._step

    def asked(run: Any, *args: Any) -> None:
        run.stop.asked = True
        step(run, *args)

    with simulated_gpus():
        with monkeypatch.context() as patch, pytest.raises(Interrupted):
            patch.setattr(loop_module._Run, "_step", asked)
            train(config(dataset, device=before, **given), out)
        train(config(dataset, device=after, **given), out, watch=watch)
    assert "going on after step 1, in epoch 0" in watch.said
    assert [row["step"] for row in rows(out)] == [0, 1]


@pytest.mark.parametrize("mode", [pytest.param("icp", marks=pytest.mark.slow), "fcp"])
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


@pytest.mark.parametrize(("device", "batch"), [("auto", 1), ("cuda:1", 2)])
def test_infer_on_a_gpu(device: str, batch: int, dataset: Path, checkpoint: Path, tmp_path: Path) -> None:
    with simulated_gpus():
        done = infer(dataset / "train/images", tmp_path / "out", checkpoint, device=device, batch=batch)
    assert (done.made, done.exit_code, done.batch) == (5, 0, batch)
    infer(dataset / "train/images", tmp_path / "cpu", checkpoint, device="cpu")
    for name in (f"alpha/p{number}.png" for number in range(5)):
        np.testing.assert_array_equal(Image.open(tmp_path / "out" / name), Image.open(tmp_path / "cpu" / name))


def test_a_step_on_a_gpu_is_one_on_a_cpu(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is late on a GPU, such as the log and the answer of the optimiser, comes to the same."""
    waits: list[list[str]] = []

    class Looking(Watch):
        def step(self, epoch: int, images: int, parts: Any) -> None:
            waits.append(list(machine().waits))
            machine().waits.clear()

        def say(self, text: str) -> None:
            said.append(text)

    said: list[str] = []
    # As batches of 2, in parts where memory holds no more.
    given = {"epochs": 1, "batch": 1, "accumulation": 2}
    train(config(dataset, device="cpu", **given), tmp_path / "cpu")
    # Loaders leave them to the GPU.
    monkeypatch.setattr(
        "p3mnet.data.estimate_colours", lambda *given: pytest.fail("colours were estimated by a loader")
    )
    with simulated_gpus():
        settings = config(dataset, device="cuda", precision="float32", deterministic=True, workers=1, **given)
        train(settings, tmp_path / "gpu", watch=Looking())
    assert f"device: {NAME}, float32; steps of 2 crops in 2 parts, loaded by 1 processes" in said
    # The first holds what was tried on. A batch crosses by itself, from pinned memory; losses are read by an event.
    assert len(waits) == 2 and not waits[1], waits
    cpu, gpu = rows(tmp_path / "cpu"), rows(tmp_path / "gpu")
    assert [row.keys() for row in gpu] == [row.keys() for row in cpu]
    # Rounding grows from step to step.
    assert cpu[0] == pytest.approx(gpu[0], rel=1e-3) and cpu[-1]["total"] == pytest.approx(gpu[-1]["total"], rel=0.05)
    found = json.loads((tmp_path / "gpu/result.json").read_text())
    assert (found["precision"], found["deterministic"], found["compiled"]) == ("float32", True, False)
    assert sum(found["waited"].values()) == pytest.approx(1, abs=0.01) and "the bottleneck" in found["bottleneck"]


def test_the_optimiser_leaves_a_step_that_is_no_number(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses, states = step_module.losses_of, []

    def poisoned(network: Any, output: Any, batch: Any, given: Any) -> Any:
        parts = losses(network, output, batch, given)
        states.append(1)
        # The first two batches are copies of a crop, to see what memory holds.
        return parts | ({"total": parts["total"] * float("nan")} if len(states) == 4 else {})

    step = torch.optim.Adam.step
    weights: list[list[Any]] = []

    def watched(optimizer: Any, *args: Any) -> Any:
        before = [p.detach().clone() for p in optimizer.param_groups[0]["params"]]
        done = step(optimizer, *args)
        changed = [not torch.equal(p, old) for p, old in zip(optimizer.param_groups[0]["params"], before, strict=True)]
        weights.append(changed)
        return done

    monkeypatch.setattr(step_module, "losses_of", poisoned)
    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    with simulated_gpus(), pytest.raises(step_module.Diverged, match=r"step 1: total, gradient_norm not finite with"):
        train(config(dataset, device="cuda"), tmp_path / "out")
    assert any(weights[0]) and not any(weights[1])
    assert [row["step"] for row in rows(tmp_path / "out")] == [0]


def test_settings_of_arithmetic_are_set_and_come_back() -> None:
    def now() -> tuple[bool, ...]:
        backends = torch.backends
        return (
            backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32, backends.cudnn.deterministic,
            torch.are_deterministic_algorithms_enabled(),
        )  # fmt: skip

    before, device = now(), torch.device("cuda", 0)
    with arithmetic(device, tf32=True):
        assert now() == (True, True, False, False)
    with arithmetic(device, tf32=False, deterministic=True):
        assert now() == (False, False, True, True)
    assert now() == before


@pytest.mark.parametrize(("limit", "want"), [(1, 1), (7, 4), (40, 32), (63, 32)])
@pytest.mark.parametrize("guess", [None, 1, 5, 33, 500])
def test_the_batch_that_fits_is_found_in_few_tries(limit: int, want: int, guess: int | None) -> None:
    tries: list[int] = []
    assert largest_that_fits(64, lambda size: tries.append(size) or size <= limit, guess) == want  # type: ignore[func-returns-value]
    assert len(tries) == len(set(tries)) <= 4
    assert largest_that_fits(64, lambda size: False, guess) is None


def test_a_batch_that_is_too_large_is_told_before_it_is_loaded(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses, sizes = step_module.losses_of, []

    def small_memory(network: Any, output: Any, batch: Any, given: Any) -> Any:
        sizes.append(len(batch["name"]))
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError("out of memory")
        return losses(network, output, batch, given)

    monkeypatch.setattr(step_module, "losses_of", small_memory)
    monkeypatch.setattr(loop_module._Run, "_epoch", lambda run: pytest.fail("batches were loaded"))
    with simulated_gpus():
        # A crop takes a gibibyte, beside one that the network takes.
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device=None: (1 + sizes[-1]) << 30)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (4 << 30, 80 << 30))
        with pytest.raises(fitting_module.BatchTooLarge, match="batch of 4, but one of 2: set batch to 2 and accumul"):
            train(config(dataset, device="cuda", batch=4), tmp_path / "out")
    assert sizes == [1, 2, 4, 2]


def test_batches_cross_to_a_gpu_one_ahead() -> None:
    crossed: list[int] = []

    def moved(batch: dict[str, Any]) -> dict[str, Any]:
        crossed.append(batch["number"])
        return {"image": torch.zeros(1, device="cuda:0")}

    batches = ({"number": number} for number in range(4))
    with simulated_gpus():
        seen = [(batch["number"], crossed[-1]) for batch in ahead(batches, torch.cuda.Stream(0), moved)]
    assert seen == [(0, 1), (1, 2), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("seconds", "cuda", "about", "want"),
    [
        ({"data": 5, "host": 4, "device": 1}, True, {}, "50% of the time waiting for .* more workers .3 now. or a f"),
        ({"data": 0, "host": 8, "device": 2}, True, {}, "the host, which .* give a larger batch or compile=on"),
        ({"data": 1, "host": 1, "device": 8}, True, {"compiled": True}, "the GPU is the bottleneck, as it should be.$"),
        ({"data": 1, "host": 9, "device": 0}, False, {}, "the processor is the bottleneck"),
        ({"data": 9, "host": 1, "device": 0}, True, {"cached": True, "colours": "estimate"}, "or colours from files"),
    ],
)  # fmt: skip
def test_the_bottleneck_is_named(seconds: Any, cuda: bool, about: dict[str, Any], want: str) -> None:
    clock = Clock()
    clock.seconds = seconds
    told = clock.sentence(cuda, 3, **{"cached": False, "colours": "files", "compiled": False} | about)
    assert re.search(want, told), told


def test_loaders_come_from_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(16)))
    gpu, cpu = torch.device("cuda", 0), torch.device("cpu")
    assert loader_processes(None, gpu) == 15 and loader_processes(None, cpu) == 4
    assert loader_processes(0, gpu) == 0 and loader_processes(20, cpu) == 20
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert loader_processes(None, gpu) == 3
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0})
    assert loader_processes(None, gpu) == 1


def test_loaders_fit_into_the_memory_that_processes_share(monkeypatch: pytest.MonkeyPatch) -> None:
    def free(mebibytes: int) -> None:
        monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=mebibytes << 20))

    batch = 100 << 20
    free(4000)
    assert loaders_that_fit(15, batch) == (15, None)
    # As Docker gives it.
    free(64)
    assert loaders_that_fit(15, batch)[0] == 0
    free(800)
    fitting, told = loaders_that_fit(15, batch)
    assert fitting == 3 and told is not None and told.startswith("workers: 3 in place of 15, since /dev/shm has 800")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert loaders_that_fit(15, batch)[0] == 1
    assert loaders_that_fit(0, batch) == (0, None)


def test_the_steady_speed_is_of_what_the_later_steps_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, now = Clock(), [0.0]
    monkeypatch.setattr(feeding, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def pass_by(seconds: float, crops: int) -> None:
        with clock.counting(crops):
            now[0] += seconds

    for _ in range(10):
        pass_by(7.0, 8)
    for number in range(10):
        assert clock.steady() is None
        # The last step of an epoch has fewer batches; waiting for a GPU at its end is no step.
        pass_by(1.0, 2 if number % 5 == 4 else 8)
        if number % 5 == 4:
            pass_by(0.5, 0)
    assert clock.steady() == pytest.approx((8 * 8 + 2 * 2) / 11)


def test_when_a_step_is_compiled() -> None:
    gpu, cpu = torch.device("cuda", 0), torch.device("cpu")
    assert pays("auto", gpu, 3000, None) and not pays("auto", gpu, 2999, None) and not pays("auto", cpu, 3000, None)
    assert pays("on", cpu, 1, None) and not pays("on", gpu, 9999, "why") and not pays("off", gpu, 9999, None)


@pytest.mark.slow
def test_a_compiled_run_is_the_same_run(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The whole step as one graph, without the compiler for C++, which takes its time.
    monkeypatch.setattr(compiled_module, "BACKEND", "aot_eager")
    watch = Listening()
    train(config(dataset, epochs=1), tmp_path / "plain")
    monkeypatch.setattr(maps, "by_place", lambda x: True)
    train(config(dataset, epochs=1, compile="on"), tmp_path / "out", watch=watch)
    assert json.loads((tmp_path / "out/result.json").read_text())["compiled"], watch.said
    assert any(sentence.startswith("compiled in") for sentence in watch.said), watch.said
    plain, program = rows(tmp_path / "plain"), rows(tmp_path / "out")
    assert len(plain) == len(program) and plain[0] == pytest.approx(program[0], rel=1e-3)


@pytest.mark.slow
def test_without_a_compiler_training_goes_on(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: Any) -> Any:
        raise RuntimeError("no compiler found\nand more")

    monkeypatch.setattr(compiled_module, "BACKEND", broken)
    watch = Listening()
    train(config(dataset, epochs=1), tmp_path / "plain")
    train(config(dataset, epochs=1, compile="on"), tmp_path / "out", watch=watch)
    assert [line for line in watch.said if "does not work here" in line and "goes on without it" in line], watch.said
    assert (tmp_path / "plain/log.csv").read_bytes() == (tmp_path / "out/log.csv").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("helpers", [0, 2])
def test_train_check_on_a_gpu(helpers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    obfuscated_dataset(tmp_path)
    monkeypatch.setattr(experiments, "helpers_of_tests", lambda device: helpers)
    with simulated_gpus():
        found = p3mdata.train_check(
            tmp_path / "data", tmp_path / "out", device="cuda", scale=Scale.SMOKE, epochs=1, seeds=1, workers=1,
            protocols=("B:B",),
        )  # fmt: skip
    assert found.report["complete"]
    assert json.loads((tmp_path / "out/plan.json").read_text())["device"] == NAME
    predicted = sorted(path.name for path in (tmp_path / "out/predictions").rglob("*.png"))
    assert len(predicted) == sum(
        len(names) for names in json.loads((tmp_path / "out/plan.json").read_text())["tested"].values()
    )


@pytest.mark.slow
def test_methods_and_predicted_mattes_on_a_gpu(dataset: Path, checkpoint: Path, tmp_path: Path) -> None:
    with simulated_gpus():
        method = Network({"name": "narrow", "pool_kernel": 2}, checkpoint, "hybrid", "cuda:1")
        rgb = synthetic_portrait(64, 0)[0]
        assert method.device == NAME and method.predict(rgb, None).shape == (64, 64)
        method.timed(rgb, None)
        with pytest.raises(SystemExit) as ended:
            main(
                ["anonymize", "dir", str(dataset / "train/images"), str(tmp_path / "run"), "--alphas", "predict",
                 "--checkpoint", str(checkpoint), "--workers", "1", "--quiet"]
            )  # fmt: skip
    assert ended.value.code in (0, 3)
    assert len(list((tmp_path / "run-alphas/alpha").glob("*.png"))) == 5


@pytest.mark.parametrize(
    ("low", "high", "want"),
    [
        (0.5, 1.6, "--seeds 27 --budget 90m settles it"),
        (0.1, 1.01, "--seeds 3 --budget 15m settles it"),
        (0.7, 90, "no budget"),
    ],
)
def test_an_open_verdict_says_what_settles_it(low: float, high: float, want: str) -> None:
    # The limit is 1; the value lies 0.3 below it.
    rule = judge_cost(Cost(0.7, low, high, 10.0, 50, 2 if high < 1.5 else 3), 0.1, False, True, "", 600)
    assert rule.state.value == "inconclusive" and want in rule.sentence, rule.sentence


def test_a_run_of_an_earlier_version_goes_on(dataset: Path) -> None:
    earlier = config(dataset).model_dump(mode="json")
    for name in ("deterministic", "compile"):
        del earlier[name]
    assert changed_keys(config(dataset), earlier) == []
    assert changed_keys(config(dataset, deterministic=True), earlier) == ["deterministic"]


def test_an_operator_that_cannot_be_repeated_is_named(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*given: Any) -> Any:
        raise RuntimeError("adaptive_pool_cuda does not have a deterministic implementation, but you set ...")

    monkeypatch.setattr(step_module, "losses_of", refused)
    with pytest.raises(SettingsError, match=r"narrow has an operator that a GPU cannot repeat .adaptive_pool_cuda."):
        train(config(dataset, deterministic=True), tmp_path / "out")
