"""The benchmark: figures are those of `evaluate`, nothing is done twice, what goes wrong is told and left behind."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmarks.methods import photographs
from p3mdata import cli
from p3mdata.base.files import sha256
from p3mdata.errors import EXIT_HELD_BACK, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, RunFolderError, SettingsError
from p3mnet.baselines import classic  # noqa: E402
from p3mnet.baselines.classic import Classic
from p3mnet.baselines.opening import parse_requests
from p3mnet.benchmark import (
    Benchmark,
    BenchmarkPlan,
    alphas,  # noqa: E402
    run,
    run_benchmark,
)
from p3mnet.benchmark.report import tables
from p3mnet.benchmark.results import State
from p3mnet.evaluate import evaluate
from p3mnet.metrics import NAMES
from tests import onnx_models
from tests.factories import encoded, synthetic_portrait

SIDE = 80
PICTURES = 3


@pytest.fixture(autouse=True)
def _small_pictures_to_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "SIDE", 64)


def write_dataset(root: Path, sets: Sequence[str] = ("train", "validation", "free")) -> Path:
    for first, name in enumerate(sets):
        for number in range(PICTURES):
            drawn = synthetic_portrait(SIDE, 100 * first + number)
            for kind, pixels in zip(("images", "alphas", "facemasks"), drawn, strict=True):
                path = root / name / kind / f"p{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encoded(pixels, "PNG"))
    return root


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("benchmark") / "data")


@pytest.fixture
def own(dataset: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    shutil.copytree(dataset, tmp_path / "own")
    return tmp_path / "own"


def bench(dataset: Path, out: Path, *methods: str, checkpoints: Sequence[str] = (), **plan: Any) -> Benchmark:
    chosen = BenchmarkPlan(**{"trials": 0, "max_side": 64, "device": "cpu", **plan})
    return run_benchmark(dataset, out, parse_requests(methods, checkpoints), chosen)


def states(found: Benchmark) -> dict[str, State]:
    return {result.label: result.state for result in found.results}


@pytest.fixture
def predicted(monkeypatch: pytest.MonkeyPatch) -> list[NDArray[np.uint8]]:
    """Pictures that classic methods made alphas of, without those of the timing."""
    seen: list[NDArray[np.uint8]] = []
    predict = Classic.predict

    def watched(method: Classic, image: NDArray[np.uint8], trimap: Any) -> Any:
        if image.shape[0] == SIDE:
            seen.append(image)
        return predict(method, image, trimap)

    monkeypatch.setattr(Classic, "predict", watched)
    return seen


def test_figures_are_those_of_evaluate(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    truth = tmp_path / "truth"
    for name in ("validation", "free"):
        shutil.copytree(dataset / name / "alphas", truth / name)
    (tmp_path / "a.onnx").write_bytes(onnx_models.channel(3, 4))
    found = bench(dataset, out, "global", f"pngs:truth={truth}", f"onnx:half={tmp_path / 'a.onnx'}", trials=2)
    assert found.exit_code == EXIT_OK and set(states(found).values()) == {State.DONE}
    assert found.sets == {"validation": PICTURES, "free": PICTURES}
    mine, perfect, half = found.results
    again = {one.name: one for one in evaluate(out / "predictions/global", dataset, workers=1).sets}
    assert {name: one.means for name, one in mine.sets.items()} == {name: one.means for name, one in again.items()}
    assert set(NAMES) <= set(mine.sets["validation"].means)
    assert perfect.sets["free"].means["SAD"].value == 0 and perfect.timing is None
    assert 0 < mine.sets["free"].means["SAD"].value < half.sets["free"].means["SAD"].value
    assert mine.timing is not None and mine.timing.trials == 2
    assert mine.timing.fastest <= mine.timing.median <= mine.timing.slowest
    with (out / "images.csv").open(newline="") as source:
        rows = list(csv.DictReader(source))
    assert len(rows) == 3 * 2 * PICTURES
    sads = [float(row["SAD"]) for row in rows if row["method"] == "global" and row["set"] == "free"]
    assert np.mean(sads) == pytest.approx(mine.sets["free"].means["SAD"].value, rel=1e-6)
    row = json.loads((out / "benchmark.json").read_text())
    assert row == json.loads(json.dumps(found.to_json()))
    assert row["methods"][2]["family"] == "trimap-based, deep"
    text = (out / "benchmark.md").read_text()
    assert text == tables(found) + "\n" and "## free: trimap-based, classic" in text
    assert f"{mine.sets['free'].means['SAD'].value:.2f} (" in text
    with Image.open(out / "benchmark.png") as plot:
        assert plot.size[0] > 2 * plot.size[1]


def test_nothing_is_done_twice(own: Path, tmp_path: Path, predicted: list[Any]) -> None:
    out = tmp_path / "out"
    first = bench(own, out, "global")
    assert len(predicted) == 2 * PICTURES
    second = bench(own, out, "global", f"pngs:truth={own / 'validation/alphas'}")
    assert len(predicted) == 2 * PICTURES
    assert second.results[0] == first.results[0]
    # Another picture, another truth (and with it trimap), a lost and a changed alpha: only these are made again.
    rgb = synthetic_portrait(SIDE, 55)[0]
    (own / "validation/images/p0.png").write_bytes(encoded(rgb, "PNG"))
    (own / "validation/alphas/p1.png").write_bytes(encoded(synthetic_portrait(SIDE, 55)[1], "PNG"))
    (out / "predictions/global/free/p0.png").unlink()
    (out / "predictions/global/free/p1.png").write_bytes(encoded(np.zeros((SIDE, SIDE), np.uint8), "PNG"))
    before = len(predicted)
    third = bench(own, out, "global")
    assert len(predicted) - before == 4
    assert third.results[0].sets["free"] == first.results[0].sets["free"]
    # Figures are taken again where only they can change.
    (own / "validation/facemasks/p2.png").write_bytes(encoded(np.full((SIDE, SIDE), 255, np.uint8), "PNG"))
    before = len(predicted)
    fourth = {row.stem: row.values for row in bench(own, out, "global").results[0].rows if row.set == "validation"}
    assert len(predicted) == before and fourth["p2"]["SAD_FACE"] == pytest.approx(fourth["p2"]["SAD"])
    before = len(predicted)
    bench(own, out, "global", max_side=48)
    assert len(predicted) - before == 2 * PICTURES
    before = len(predicted)
    bench(own, out, "global", max_side=48, corrected=True, limit=1)
    assert len(predicted) == before


def test_a_torn_cache_costs_time_only(dataset: Path, tmp_path: Path, predicted: list[Any]) -> None:
    out = tmp_path / "out"
    first = bench(dataset, out, "global")
    cache = out / "cache/global.jsonl"
    cache.write_bytes(cache.read_bytes()[:-40])
    bench(dataset, out, "global")
    assert len(predicted) == 2 * PICTURES + 1
    cache.write_bytes(b"{broken\n" + cache.read_bytes())
    assert bench(dataset, out, "global").results[0].sets == first.results[0].sets
    assert len(predicted) == 4 * PICTURES + 1
    # A row of another form says nothing.
    cache.write_bytes(cache.read_bytes() + b'{"strange":1}\n{"set":"free","image":"p0","made":3}\n{"timing":{}}\n')
    assert bench(dataset, out, "global").results[0].sets == first.results[0].sets
    assert len(predicted) == 4 * PICTURES + 1


def test_an_interrupted_call_leaves_tables_and_goes_on(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, predicted: list[Any]
) -> None:
    out = tmp_path / "out"
    predict = Classic.predict
    asked = 0

    def impatient(method: Classic, image: Any, trimap: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 5:
            raise KeyboardInterrupt
        return predict(method, image, trimap)

    monkeypatch.setattr(Classic, "predict", impatient)
    truth = f"pngs:truth={dataset / 'validation/alphas'}"
    with pytest.raises(KeyboardInterrupt):
        bench(dataset, out, truth, "global", sets=("validation", "free"))
    row = json.loads((out / "benchmark.json").read_text())
    assert [method["state"] for method in row["methods"]] == ["done", "not reached"]
    assert len(predicted) == 4
    found = bench(dataset, out, truth, "global")
    assert len(predicted) == 2 * PICTURES
    whole = bench(dataset, tmp_path / "whole", "global")
    assert found.results[1].sets == whole.results[0].sets


def test_a_method_that_fails_does_not_stop_the_others(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def solve(image: Any, trimap: Any) -> Any:
        raise ZeroDivisionError("of all things")

    monkeypatch.setitem(classic._OWN, "global", (solve, "1"))  # type: ignore[arg-type]
    (tmp_path / "a.onnx").write_bytes(onnx_models.brightness())
    (tmp_path / "bad.onnx").write_bytes(b"no")
    found = bench(
        dataset, tmp_path / "out", "global", f"onnx:gca={tmp_path / 'bad.onnx'}", f"pngs:lf={tmp_path / 'no'}",
        f"onnx:shm={tmp_path / 'a.onnx'}",
    )  # fmt: skip
    assert list(states(found).values()) == [State.FAILED, *[State.CANNOT_RUN] * 2, State.DONE]
    assert found.exit_code == EXIT_HELD_BACK
    failed = found.results[0]
    assert failed.sentence == "ZeroDivisionError: of all things" and failed.trace is not None
    assert "in solve" in failed.trace.read_text()
    text = tables(found)
    assert "- global: ZeroDivisionError: of all things (trace: errors/global.txt)" in text
    assert "bad.onnx: is no ONNX file" in text and "/no: is no folder of alphas" in text


def test_an_alpha_of_another_size_is_the_methods_fault(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Classic, "predict", lambda method, image, trimap: np.zeros((3, 3), np.float32))
    found = bench(dataset, tmp_path / "out", "global")
    assert found.results[0].state is State.FAILED and "(3, 3)" in found.results[0].sentence


def test_a_missing_package_is_named(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in ("pymatting", "torch") else find(name)
    )
    found = bench(dataset, tmp_path / "out", "closed-form", "modnet", "global")
    assert list(states(found).values()) == [State.CANNOT_RUN, State.CANNOT_RUN, State.DONE]
    assert found.results[0].sentence == "needs pymatting: run pip install 'p3mdata[release]'"
    assert found.results[1].sentence == "needs torch: run pip install 'p3mdata[train]'"


def test_pictures_that_do_not_count_are_named(own: Path, tmp_path: Path) -> None:
    folder = tmp_path / "alphas"
    shutil.copytree(own / "validation/alphas", folder / "validation")
    shutil.copytree(own / "free/alphas", folder / "free")
    (folder / "free/p0.png").unlink()
    (folder / "free/p1.png").write_bytes(encoded(np.zeros((9, 9), np.uint8), "PNG"))
    (folder / "free/p2.jpg").write_bytes(b"")
    (own / "validation/images/p0.png").write_bytes(b"\x89PNG broken")
    (own / "validation/alphas/p1.png").unlink()
    found = bench(own, tmp_path / "out", f"pngs:lf={folder}", "global")
    given, made = found.results
    assert given.state is made.state is State.INCOMPLETE and found.exit_code == EXIT_HELD_BACK
    assert "has no prediction" in given.sets["free"].problems["p0"]
    assert "9x9" in given.sets["free"].problems["p1"]
    assert "several predictions" in given.sets["free"].problems["p2"]
    assert "has no alpha" in made.sets["validation"].problems["p1"]
    assert "p0" in made.sets["validation"].problems and made.sets["validation"].evaluated == 1
    assert made.sentence.startswith("2 of 6 images do not count: p0 ")
    assert made.sets["free"].evaluated == 3
    # What counts of one may not count of the other: the tables mark it.
    assert "Global sampling (He et al. 2011) *" in tables(found)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[Any]:
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(threads)


def test_networks_without_weights_are_counted_and_timed(dataset: Path, tmp_path: Path, one_thread: Any) -> None:
    from p3mnet.checkpoint import save_checkpoint
    from p3mnet.create import create_model

    one_thread.manual_seed(0)
    save_checkpoint(tmp_path / "m.pt", create_model("modnet", encoder_weights="random"))
    weights = [f"modnet+icp={tmp_path / 'm.pt'}"]
    found = bench(dataset, tmp_path / "out", "modnet,modnet+icp,basic", checkpoints=weights, trials=1)
    plain, trained, basic = found.results
    assert (plain.state, basic.state, found.exit_code) == (State.UNTRAINED, State.UNTRAINED, EXIT_OK)
    assert (plain.parameters, basic.parameters) == (6_487_075, 37_666_860)
    assert plain.timing is not None and not plain.sets and not (tmp_path / "out/predictions/modnet").exists()
    assert trained.state is State.DONE and trained.sets["free"].means["SAD"].value > 0
    text = tables(found)
    assert text.count("untrained: no checkpoint") == 6 and "MODNet (Ke et al. 2022) + icp" in text
    again = bench(dataset, tmp_path / "out", "basic", checkpoints=[f"basic={tmp_path / 'm.pt'}"])
    assert again.results[0].state is State.CANNOT_RUN
    assert "holds modnet, not p3mnet_resnet34 without tfi, sbfi, dbfi" in again.results[0].sentence
    (tmp_path / "m.pt").write_bytes(b"no")
    again = bench(dataset, tmp_path / "out", "modnet", checkpoints=[f"modnet={tmp_path / 'm.pt'}"])
    assert "is not a weights file" in again.results[0].sentence


def test_times_end_when_they_take_too_long(dataset: Path, tmp_path: Path) -> None:
    found = bench(dataset, tmp_path / "out", "global", trials=50, trial_seconds=0)
    assert found.results[0].timing is not None and found.results[0].timing.trials == 3
    found = bench(dataset, tmp_path / "out", "global")
    assert found.results[0].timing is None


def test_where_it_cannot_begin(dataset: Path, tmp_path: Path) -> None:
    for out in (dataset, dataset / "benchmark"):
        with pytest.raises(SettingsError, match="lies in the dataset"):
            bench(dataset, out, "global")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="not of a benchmark"):
        bench(dataset, tmp_path / "full", "global")
    assert os.listdir(tmp_path / "full") == ["notes.txt"]
    with pytest.raises(SettingsError, match="has no set 'P'. Sets: train, validation, free"):
        bench(dataset, tmp_path / "out", "global", sets=("P",))
    with pytest.raises(SettingsError, match="mode must be"):
        bench(dataset, tmp_path / "out", "global", mode="both")
    lonely = write_dataset(tmp_path / "lonely", ("train",))
    with pytest.raises(SettingsError, match="has no validation set"):
        bench(lonely, tmp_path / "out", "global")
    found = bench(write_dataset(tmp_path / "no-free", ("train", "validation")), tmp_path / "out", "global")
    assert any("no set free of private content" in note for note in found.notes)
    assert any("validation has 3 images" in note for note in found.notes) and found.exit_code == EXIT_OK


def test_a_folder_that_cannot_be_written_ends_the_call(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    bench(dataset, out, f"pngs:lf={dataset / 'validation/alphas'}")
    (out / "predictions").write_bytes(b"in the way")
    with pytest.raises(RunFolderError, match="out: cannot be written .* run the same command again"):
        bench(dataset, out, "global")
    (out / "predictions").unlink()
    assert bench(dataset, out, "global").exit_code == EXIT_OK


def test_on_the_command_line(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def called(*args: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["benchmark", *args])
        assert isinstance(ended.value.code, int)
        return ended.value.code, *capsys.readouterr()

    code, said, _ = called("--methods", "list")
    assert code == EXIT_OK and "information-flow" in said and "not yet there" not in said
    code, said, _ = called("--methods", "list", "--json")
    assert {row["name"] for row in json.loads(said)} >= {"closed-form", "gfm", "fba"}
    assert called(str(dataset))[0] == EXIT_USAGE
    code, _, told = called(str(dataset), "-m", "colsed-form")
    assert code == EXIT_USAGE and "Did you mean closed-form?" in told
    assert called("-m", "global")[0] == EXIT_USAGE
    before = {path: sha256(path.read_bytes()) for path in dataset.rglob("*") if path.is_file()}
    out = str(tmp_path / "out")
    code, said, _ = called(
        str(dataset), out, "-m", f"global,pngs:fba={tmp_path / 'no'}", "--trials", "1", "--limit", "2"
    )
    assert code == EXIT_HELD_BACK and "/no: is no folder of alphas" in said and f"tables: {out}/benchmark.md" in said
    code, said, _ = called(str(dataset), out, "-m", "global", "--trials", "0", "--json")
    assert code == EXIT_OK and json.loads(said)["methods"][0]["sets"]["free"]["evaluated"] == PICTURES

    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "open_method", interrupt)
    assert called(str(dataset), out, "-m", "global")[0] == EXIT_INTERRUPTED
    assert before == {path: sha256(path.read_bytes()) for path in dataset.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_several_processes_make_the_same_alphas_and_go_on_by_picture(dataset: Path, tmp_path: Path) -> None:
    methods = "global"
    alone = bench(dataset, tmp_path / "alone", methods)
    found = bench(dataset, tmp_path / "many", methods, workers=2)
    assert any("worked on 2 pictures at a time" in note and "GB" in note for note in found.notes)
    assert not any("at a time" in note for note in alone.notes)
    made = [path.relative_to(tmp_path / "alone") for path in (tmp_path / "alone" / "predictions").rglob("*.png")]
    assert made
    for name in made:
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "many" / name).read_bytes()
    means = [
        {name: vars(mean) for name, mean in each.results[0].sets["validation"].means.items()} for each in (alone, found)
    ]
    assert means[0] == means[1]
    assert [row.stem for row in alone.results[0].rows] == [row.stem for row in found.results[0].rows]
    # What is there is kept picture by picture.
    cache = tmp_path / "many" / "cache" / "global.jsonl"
    lines = cache.read_text().splitlines()
    cache.write_text("\n".join(lines[:-1]) + "\n")
    bench(dataset, tmp_path / "many", methods, workers=2)
    assert len(cache.read_text().splitlines()) == len(lines)


def _maker(name: str, out: Path, max_side: int = 1024) -> alphas.Maker:
    return alphas.Maker(out, parse_requests([name])[0], max_side, "hybrid", "cpu", 25, False)


def test_processes_follow_pictures_memory_and_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alphas, "default_workers", lambda: 8)
    tasks: list[Any] = [None] * 100
    knn = _maker("knn", tmp_path)
    assert 4e9 < knn.memory() < 5e9
    for free, workers in ((100e9, 8), (15e9, 3), (1e9, 1)):
        monkeypatch.setattr(alphas, "free_memory", lambda free=free: int(free))
        assert knn.processes(tasks, 0) == workers
    monkeypatch.setattr(alphas, "free_memory", lambda: None)
    assert knn.processes(tasks, 2) == 2 and knn.processes(tasks[:7], 0) == 2 and knn.processes(tasks[:3], 0) == 1
    assert _maker("modnet", tmp_path).processes(tasks, 8) == 1


def test_a_fault_in_another_process_is_told_as_in_this_one(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def predict(self: Classic, image: Any, trimap: Any) -> Any:
        raise ZeroDivisionError("nothing to divide by")

    monkeypatch.setattr(Classic, "predict", predict)
    found = bench(dataset, tmp_path / "out", "global")
    maker = _maker("global", tmp_path)
    picture = run.pictures_of(run.open_dataset(dataset), ["validation"], 1)[0]
    task = alphas.Task(0, picture, tmp_path / "p.png", None)
    with alphas._working(maker, lambda name: True) as handle:
        made = handle(task, frozenset())
        crashed = handle(task, frozenset({f"{picture.set}/{picture.stem}"}))
    assert made.fault is not None and made.fault[0] == found.results[0].sentence
    assert "Traceback" in made.fault[1] and "worker process" in crashed.row.problem
    monkeypatch.setattr(alphas, "work_in_pool", lambda *args, **options: (each for each in [made]))
    with pytest.raises(alphas.MethodFault, match="nothing to divide by"):
        list(maker.all(maker.open(), [task], 2))


def test_composites_of_the_ranking_are_of_two_photographs() -> None:
    assert all(front != behind for front, behind in map(photographs, range(48)))
