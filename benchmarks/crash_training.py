"""What `benchmarks.crashes` kills of p3mnet and of celeba-facemask: narrow networks, tiny pictures, still clocks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import torch

from benchmarks.celebamask import write_annotations
from benchmarks.crash_cases import Case
from p3mdata.api import train_check
from p3mdata.base.files import write_alone
from p3mdata.celebamask import make_facemasks
from p3mdata.celebamask.annotations import Annotations
from p3mdata.celebamask.traits import write_traits
from p3mnet.baselines.opening import parse_requests
from p3mnet.benchmark import alphas
from p3mnet.benchmark.run import BenchmarkPlan, run_benchmark
from p3mnet.checkpoint import save_checkpoint
from p3mnet.create import create_model
from p3mnet.evaluate import evaluate
from p3mnet.infer import infer
from p3mnet.traincheck import checks
from p3mnet.traincheck.compare import comparison
from p3mnet.training import feeding, loop, make_config, train
from tests.factories import encoded, obfuscated_dataset, synthetic_portrait
from tests.test_train import narrow_networks
from tests.test_train import settings as settings_of

_PORTRAITS = 3
# Loaded here: processes that are forked would each load it again, and it looks for a compiler by way of files.
torch.set_num_threads(1)


def content_of_checkpoint(path: Path) -> bytes:
    """All that a checkpoint holds; equal content may be pickled to other bytes where objects were shared."""

    def told(value: object) -> object:
        if isinstance(value, torch.Tensor):
            return str(value.dtype), tuple(value.shape), value.contiguous().numpy().tobytes()
        if isinstance(value, dict):
            return [(told(name), told(one)) for name, one in value.items()]
        if isinstance(value, (list, tuple)):
            return [told(one) for one in value]
        return value

    return repr(told(torch.load(path, weights_only=True))).encode()


@contextmanager
def stand_ins() -> Iterator[None]:
    """Narrow networks, facemasks in chunks of two, and clocks that make equal calls tell equal times."""
    ticks = itertools.count()
    still = SimpleNamespace(monotonic=lambda: 0.0, perf_counter=lambda: 0.0)
    for module in (feeding, loop, alphas):
        module.time = still  # type: ignore[attr-defined]
    # What a step and a test take is divided by.
    checks.time = SimpleNamespace(monotonic=lambda: next(ticks) / 1024)  # type: ignore[attr-defined]
    Annotations.chunk = 2
    with narrow_networks():
        yield


def annotations(at: Path) -> None:
    write_annotations(at / "celeba", 5)


def facemasks(at: Path) -> object:
    return make_facemasks(at / "celeba", at / "out", workers=1).facemasks


def with_facemasks(at: Path) -> None:
    annotations(at)
    for number in range(4):
        path = at / f"celeba/CelebA-HQ-img/{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no picture" if number == 3 else encoded(synthetic_portrait(64, number)[0], "JPEG"))
    facemasks(at)


def traits(at: Path) -> object:
    return write_traits(at / "out")["pairs"]


def dataset(at: Path) -> None:
    obfuscated_dataset(at, train=6, private=2, free=1)


def training(at: Path) -> object:
    chosen = settings_of(at / "data", checkpoint_every=2, epochs=2)
    data = {**chosen["data"], "colours": "whole", "cache": str(at / "cache"), "crop_sides": [48, 64]}
    return train(make_config({**chosen, "data": data}), at / "out").steps


def checking(at: Path) -> object:
    chosen = {"epochs": 1, "seeds": 1, "device": "cpu", "workers": 1, "protocols": ("B:B",)}
    return train_check(at / "data", at / "out", originals=at / "orig", **chosen).report["complete"]


def checked(at: Path) -> None:
    dataset(at)
    checking(at)


def comparing(at: Path) -> object:
    """What the command does."""
    rows, text = comparison([at / "out"])
    write_alone(at / "table.md", text.encode())
    return len(rows)


def pictures(at: Path) -> None:
    for number in range(_PORTRAITS):
        path = at / f"photos/sub{number % 2}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(synthetic_portrait(64, number)[0], "PNG"))
    torch.manual_seed(0)
    save_checkpoint(at / "weights.pt", create_model("narrow", encoder_weights="random", pool_kernel=2).eval())


def inferring(at: Path) -> object:
    return infer(at / "photos", at / "out", at / "weights.pt").pictures


def contest(at: Path) -> None:
    dataset(at)
    pictures(at)


def benchmark(at: Path) -> object:
    requests = parse_requests(["closed-form"])
    return len(run_benchmark(at / "data", at / "out", requests, BenchmarkPlan(trials=0, limit=2)).results)


def predicted(at: Path) -> None:
    dataset(at)
    (at / "data/validation/alphas").rename(at / "mattes")
    (at / "data/validation/alphas").mkdir()
    for path in (at / "mattes").iterdir():
        (at / "data/validation/alphas" / path.name).write_bytes(path.read_bytes())


def measuring(at: Path) -> object:
    return evaluate(at / "mattes", at / "data", at / "table.csv", ["validation"], workers=1).unused


TRAINING_CASES = (
    Case("celeba-facemask", annotations, facemasks),
    Case("face-traits", with_facemasks, traits),
    Case("train", dataset, training),
    Case("train-check", dataset, checking),
    Case("compare-checks", checked, comparing),
    Case("infer", pictures, inferring),
    Case("benchmark", contest, benchmark),
    Case("evaluate", predicted, measuring),
)
