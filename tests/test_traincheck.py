"""train-check: what runs, what it costs, what is judged, that no original leaves its folder, and every way to stop."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import p3mdata
from p3mdata.audit.costs import read_costs
from p3mdata.base.files import sha256
from p3mdata.base.ids import sample_id
from p3mdata.cli import main
from p3mdata.config import Method
from p3mdata.dataset.folder import open_dataset
from p3mdata.errors import EXIT_PROOF_FAILED, EXIT_USAGE, Interrupted, RunFolderError, SettingsError
from p3mnet.traincheck.budget import Spending, drawn, spend, used_up
from p3mnet.traincheck.config import Scale, TrainCheckSettings, recipe, seconds_of
from p3mnet.traincheck.plots import colours, curves, intervals
from p3mnet.traincheck.protocols import Design, design, trainings
from p3mnet.traincheck.statistics import (
    Cost,
    Rule,
    State,
    cost_of,
    judge_cost,
    judge_learning,
    longer,
    overall,
    spread_of,
)
from tests.factories import MARK, encoded, marked_portrait, obfuscated_dataset, synthetic_portrait, texture, write_png
from tests.runs import p3mdata as command

torch = pytest.importorskip("torch")

from p3mnet.devices import GpuLost, gpu_guarded  # noqa: E402
from p3mnet.image_files import BadFile  # noqa: E402
from p3mnet.metrics import NAMES  # noqa: E402
from p3mnet.originals import Images, find_originals, rendered  # noqa: E402
from p3mnet.traincheck import driver  # noqa: E402
from p3mnet.traincheck import experiments as running  # noqa: E402
from p3mnet.traincheck.checks import try_steps  # noqa: E402
from p3mnet.training import Watch, train  # noqa: E402

SIDE = 96
ORIGINALS = Path("orig")
# Small and the same everywhere; two seeds, so that there are intervals.
SETTINGS: dict[str, Any] = {"epochs": 2, "seeds": 2, "device": "cpu", "workers": 1}


def loaded(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with `data` and `orig`; not to be changed."""
    folder = tmp_path_factory.mktemp("world")
    obfuscated_dataset(folder)
    return folder


@pytest.fixture(scope="module")
def whole(world: Path) -> Path:
    """A finished train-check under all protocols."""
    found = p3mdata.train_check(world / "data", world / "whole", originals=world / ORIGINALS, **SETTINGS)
    assert found.out == world / "whole"
    return world / "whole"


@pytest.fixture
def copy(world: Path, tmp_path: Path) -> Path:
    """The same folder, to change."""
    for name in ("data", "orig"):
        shutil.copytree(world / name, tmp_path / name)
    return tmp_path


def report(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "report.json").read_text())
    return found


def rules(out: Path) -> dict[str, tuple[str, str]]:
    return {row["name"]: (row["state"], row["sentence"]) for row in report(out)["rules"]}


def scores(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted((out / "scores").rglob("*.csv"))}


# Statistics


@pytest.mark.slow
def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = trials = 300
    for trial in range(trials):
        truth = 0.5
        pictures, seeds = rng.normal(0, 1, (30, 1)), rng.normal(0, 0.4, (1, 3))
        normal = 10 + rng.normal(0, 3, (30, 3))
        cost = cost_of(normal + truth + pictures + seeds + rng.normal(0, 0.5, (30, 3)), normal, range(30), trial)
        assert cost is not None and cost.low is not None and cost.high is not None
        held -= not cost.low <= truth <= cost.high
    assert 0.92 * trials <= held <= trials


def test_pictures_and_seeds_are_paired() -> None:
    rng = np.random.default_rng(1)
    # Pictures and seeds differ by far more than the protocols do.
    normal = rng.uniform(5, 50, (20, 1)) + rng.uniform(0, 5, (1, 3))
    cost = cost_of(normal + 1 + rng.normal(0, 0.01, (20, 3)), normal, range(20))
    assert cost is not None and cost.low is not None and cost.high is not None
    assert cost.value == pytest.approx(1, abs=0.02) and 0.9 < cost.low < cost.high < 1.1
    assert cost.base == pytest.approx(normal.mean())


def test_near_duplicates_widen_the_interval() -> None:
    rng = np.random.default_rng(2)
    per_group = np.repeat(rng.normal(0, 1, 8), 10)[:, None] * np.ones((1, 2))
    normal = np.full((80, 2), 10.0)
    noisy = normal + per_group + rng.normal(0, 0.01, (80, 2))
    alone, together = cost_of(noisy, normal, range(80)), cost_of(noisy, normal, [i // 10 for i in range(80)])
    assert alone is not None and together is not None
    assert alone.low is not None and together.low is not None and alone.high is not None and together.high is not None
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_what_lacks_a_value_leaves_both_sides() -> None:
    normal = np.full((4, 3), 10.0)
    other = normal + 1
    other[0] = 1000
    normal[0, 1] = np.nan
    normal[:, 2] = np.nan
    cost = cost_of(other, normal, range(4))
    assert cost is not None and (cost.value, cost.pictures, cost.seeds) == (1, 3, 2)
    assert cost_of(other, np.full((4, 3), np.nan), range(4)) is None
    one = cost_of(other[:, :1], normal[:, :1], range(4))
    assert one is not None and one.low is None and one.high is None
    single = cost_of(other[1:2, :2], normal[1:2, :2], [0])
    assert single is not None and single.low is None


def test_spread_is_that_of_the_means_of_seeds() -> None:
    table = np.array([[1.0, 3.0, np.nan], [2.0, np.nan, np.nan]])
    spread = spread_of(table)
    assert spread is not None
    assert (spread.value, spread.seeds) == (2.25, 2) and spread.sd == pytest.approx(np.std([1.5, 3], ddof=1))
    assert spread_of(table[:, 2:]) is None
    assert spread_of(table[:, :1]).sd is None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("low", "high", "smoke", "learned", "state"),
    [
        (-0.5, 0.9, False, True, State.PASS),
        (1.1, 2.0, False, True, State.FAIL),
        (0.5, 1.5, False, True, State.INCONCLUSIVE),
        (None, None, False, True, State.INCONCLUSIVE),
        # Whoever has not learned, or is a smoke check, is never conclusive, whatever the figures.
        (-0.5, 0.9, True, True, State.INCONCLUSIVE),
        (1.1, 2.0, True, True, State.INCONCLUSIVE),
        (-0.5, 0.9, False, False, State.INCONCLUSIVE),
        (1.1, 2.0, False, False, State.INCONCLUSIVE),
    ],
)
def test_the_verdict_on_the_cost(
    low: float | None, high: float | None, smoke: bool, learned: bool, state: State
) -> None:
    cost = Cost(0.7, low, high, 10.0, 20, 3)
    assert judge_cost(cost, 0.1, smoke, learned, "").state is state
    assert judge_cost(None, 0.1, smoke, learned, "why").sentence == "why"


def test_a_constant_matte_has_not_learned() -> None:
    assert judge_learning([("B:B on P", 4.0, 10.0), ("N:N on NP", 2.0, 10.0)]).state is State.PASS
    bad = judge_learning([("B:B on P", 4.0, 10.0), ("N:N on NP", 2.0, 3.0)])
    assert bad.state is State.INCONCLUSIVE and "N:N on NP" in bad.sentence
    told = judge_learning([("B:B on P", 9.0, 10.0)], longer(120, 300.0, 90.0, by_epochs=False)).sentence
    assert told.endswith(
        "train longer: 120 steps were trained; at the speed measured here --budget 52m, about 52 minutes, gives 1,200"
    )
    assert "10 times the --epochs" in longer(120, 300.0, 90.0, by_epochs=True)


def test_the_worst_rule_decides() -> None:
    passed, failed, open_ = (Rule("r", state, "") for state in (State.PASS, State.FAIL, State.INCONCLUSIVE))
    assert overall([passed, open_, failed]) is State.FAIL
    assert overall([passed, open_]) is State.INCONCLUSIVE
    assert overall([passed]) is State.PASS
    assert overall([]) is State.INCONCLUSIVE


# What is trained and tested


def protocols(found: Design) -> list[tuple[str, str]]:
    return [(row.protocol, row.test.key) for row in found.rows]


def test_what_can_run_follows_from_what_is_there() -> None:
    here = TrainCheckSettings(originals=Path("x"))
    everything = design(here, "P", "NP", Method.BLUR)
    assert protocols(everything) == [
        ("B:B", "P"), ("B:N", "P-normal"), ("B:N", "NP"), ("N:N", "P-normal"), ("N:N", "NP"), ("N:B", "P")
    ]  # fmt: skip
    assert everything.domains == ("B", "N") and not everything.notes
    no_originals = design(TrainCheckSettings(), "P", "NP", None)
    assert protocols(no_originals) == [("B:B", "P"), ("B:N", "NP")] and no_originals.domains == ("B",)
    assert "--originals" in " ".join(no_originals.notes)
    alone = design(TrainCheckSettings(), "P", None, None)
    assert protocols(alone) == [("B:B", "P")] and len(alone.notes) == 2
    assert "nothing is tested on NP" in design(here, "P", None, None).notes[0]
    with pytest.raises(SettingsError, match="no obfuscated validation set"):
        design(TrainCheckSettings(), None, "NP", None)
    with pytest.raises(SettingsError, match="B:N needs"):
        design(TrainCheckSettings(protocols=("B:N",)), "P", None, None)


def test_table_8_tests_one_network_on_all_obfuscations() -> None:
    settings = TrainCheckSettings(originals=Path("x"), methods=tuple(Method))
    found = design(settings, "P", "NP", Method.BLUR)
    assert found.domains == ("B", "N")
    tested = {test.key for domain, test in found.pairs if domain == "B"}
    assert tested == {"P", "P-normal", "NP", *(f"P-{name}" for name in (
        "mosaic", "zero", "flat", "pixelise-then-blur", "dp-pix"))}  # fmt: skip
    assert len(set(colours(["B", "N", *found.methods]).values())) == 8, "every network has a colour of its own"
    # Also where no protocol trains on B.
    alone = design(replace(settings, protocols=("N:N",)), "P", None, Method.BLUR)
    assert alone.domains == ("B", "N") and ("B", "P-zero") in {(domain, test.key) for domain, test in alone.pairs}


def test_the_datasets_own_method_is_not_trained_twice() -> None:
    methods = (Method.BLUR, Method.MOSAIC, Method.ZERO)
    settings = TrainCheckSettings(originals=Path("x"), methods=methods, each_method=True)
    found = design(settings, "P", "NP", Method.BLUR)
    assert found.domains == ("B", "N", "mosaic", "zero")
    assert found.methods == {"blur": "B", "mosaic": "mosaic", "zero": "zero"}
    tested = {(domain, test.key) for domain, test in found.pairs}
    assert {("B", "P-mosaic"), ("B", "P-zero"), ("zero", "P-zero"), ("zero", "P-normal"), ("zero", "NP")} <= tested
    assert design(settings, "P", "NP", None).domains == ("B", "N", "blur", "mosaic", "zero")


def test_seeds_come_in_whole_comparisons() -> None:
    assert list(trainings(("B", "N"), 2)) == [("B", 0), ("N", 0), ("B", 1), ("N", 1)]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"variant": "vgg"}, "--variant vgg"),
        ({"protocols": ("B:C",)}, "--protocols B:C"),
        ({"budget": 9.0, "epochs": 2}, "Give one of them"),
        ({"copy_paste": "icp"}, "--cp and --faces"),
        ({"copy_paste": "paste", "faces": Path("x")}, "--cp paste"),
        ({"methods": (Method.ZERO,)}, "--originals"),
        ({"protocols": ("N:N",)}, "N:N trains on the photographs themselves: give --originals"),
        ({"protocols": ("N:B",)}, "N:B trains on the photographs themselves: give --originals"),
        ({"each_method": True}, "--each-method goes with --methods"),
        ({"seeds": 0}, "--seeds"),
    ],
)
def test_settings_that_cannot_be(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        TrainCheckSettings(**wrong).check()


def test_times() -> None:
    assert [seconds_of(text) for text in ("90", "90s", "15m", "1.5h")] == [90, 90, 900, 5400]
    for wrong in ("", "0", "15 minutes", "-3m", "m"):
        with pytest.raises(SettingsError, match="--budget"):
            seconds_of(wrong)


# Budget

SPENDING: dict[str, Any] = {
    "fixed_steps": None, "trainings": 4, "training_seconds": lambda steps: 4.0 * steps + min(steps, 10),
    "test_seconds": 0.1, "tests": {"P": 4}, "sizes": {"P": 50}, "most_tested": None,
}  # fmt: skip


def test_a_budget_is_kept_and_used() -> None:
    found = spend(1000, **SPENDING)
    assert found.tested == {"P": 50} and found.steps == (1000 - 20 - 10) // 4
    tight = spend(40, **SPENDING)
    assert 4 <= tight.tested["P"] < 50 and 35 < tight.training_seconds + tight.test_seconds <= 40
    assert spend(None, **SPENDING | {"fixed_steps": 7}).steps == 7
    assert spend(1000, **SPENDING | {"most_tested": 9}).tested == {"P": 9}
    for budget in range(20, 300, 7):
        some = spend(budget, **SPENDING)
        more = SPENDING["training_seconds"](some.steps + 1)
        assert some.training_seconds + some.test_seconds <= budget < more + some.test_seconds


def test_too_short_a_budget_says_the_least_one() -> None:
    with pytest.raises(SettingsError, match="too short for one step of each of the 4 trainings") as caught:
        spend(2, **SPENDING)
    least = int(re.findall(r"at least (\d+)s", str(caught.value))[0])
    assert spend(least, **SPENDING).steps >= 1


def test_a_machine_that_became_slow_is_noticed() -> None:
    assert not used_up(100, 100, [10, 12], 20)
    assert used_up(100, 100, [20, 30], 20)


def test_more_tested_pictures_contain_fewer() -> None:
    names = [f"p{number}" for number in range(30)]
    assert set(drawn(names, 5)) < set(drawn(names, 9)) < set(drawn(names[::-1], 30)) == set(names)
    assert drawn(names, 5) == drawn(names[::-1], 5)


# Originals


def test_originals_are_found_by_name_path_or_content(copy: Path) -> None:
    dataset = open_dataset(copy / "data")
    originals = copy / "orig"
    found = find_originals(originals, dataset, ["train", "validation"], 2)
    assert found["person0"] == originals / "person0.png" and len(found) == 9
    # Published under ids, as by 'anonymize': the photograph's own content says which.
    data = (originals / "person0.png").read_bytes()
    identity = sample_id(sha256(data), "", 0, None)
    for kind in ("images", "alphas", "facemasks"):
        (copy / f"data/train/{kind}/person0.png").rename(copy / f"data/train/{kind}/{identity}.png")
    assert find_originals(originals, open_dataset(copy / "data"), ["train"], 1)[identity] == originals / "person0.png"
    # Where a secret made the ids only who has it can tell.
    keyed = open_dataset(copy / "data")
    keyed = dataclasses.replace(keyed, about={**keyed.about, "ids": "secret"})
    with pytest.raises(SettingsError, match="--secret-file RUN/private/secret"):
        find_originals(originals, keyed, ["train"], 1)
    secret = 32 * "5e"
    for kind in ("images", "alphas", "facemasks"):
        name = f"{sample_id(sha256(data), '', 0, secret)}.png"
        (copy / f"data/train/{kind}/{identity}.png").rename(copy / f"data/train/{kind}/{name}")
    found = find_originals(originals, keyed, ["train"], 1, secret=secret)
    assert found[Path(name).stem] == originals / "person0.png"


def test_originals_that_do_not_fit_are_named(copy: Path) -> None:
    dataset, originals = open_dataset(copy / "data"), copy / "orig"
    (originals / "person1.png").unlink()
    (originals / "person2.png").unlink()
    with pytest.raises(SettingsError, match=r"no photograph of 2 of 6 pictures: person1, person2\."):
        find_originals(originals, dataset, ["train"], 1)
    write_png(originals / "person1.png", texture(SIDE, SIDE + 1))
    write_png(originals / "person2.png", texture(SIDE, SIDE, seed=5))
    with pytest.raises(SettingsError, match=r"person1 \(97x96 instead of 96x96\), person2 \(another picture\)"):
        find_originals(originals, dataset, ["train"], 1)
    (originals / "person1.png").write_bytes(b"no picture")
    with pytest.raises(SettingsError, match=r"person1 \(it cannot be read\)"):
        find_originals(originals, dataset, ["train"], 1)
    with pytest.raises(SettingsError, match="is no folder"):
        find_originals(copy / "nowhere", dataset, ["train"], 1)


def test_rendering_changes_the_facemask_and_nothing_else() -> None:
    rgb, _, mask = marked_portrait(SIDE, 3)
    for method in Method:
        made = rendered(rgb, mask, method)
        assert (made[mask == 0] == rgb[mask == 0]).all()
    assert not rendered(rgb, mask, Method.ZERO)[mask > 0].any()
    noise = np.random.default_rng(0).integers(0, 256, rgb.shape, np.uint8)
    noisy = np.where((mask > 0)[:, :, None], noise, rgb)
    assert rendered(noisy, mask, Method.BLUR)[mask > 0].std() < 0.5 * noisy[mask > 0].std()


def test_an_original_that_vanishes_is_not_named() -> None:
    with pytest.raises(BadFile) as caught:
        Images({"id1": Path("/nowhere/obama.jpg")}, {})("id1")
    assert "id1" in str(caught.value) and "obama" not in str(caught.value)


# The whole


def test_a_whole_train_check(whole: Path) -> None:
    found = report(whole)
    assert [(row["protocol"], row["test"]) for row in found["table_4"]] == [
        ("B:B", "P"), ("B:N", "P-normal"), ("B:N", "NP"), ("N:N", "P-normal"), ("N:N", "NP"), ("N:B", "P")
    ]  # fmt: skip
    for row in found["table_4"]:
        assert set(NAMES) <= set(row["metrics"])
        assert ("SAD_FACE" in row["metrics"]) == (row["test"] != "NP")
        assert row["metrics"]["SAD"]["seeds"] == 2 and row["metrics"]["SAD"]["sd"] is not None
    steps = {row["steps"] for row in found["trainings"]}
    assert len(found["trainings"]) == 4 and len(steps) == 1 and all(row["done"] for row in found["trainings"])
    cost = {row["test"]: row["metrics"]["SAD"] for row in found["costs"]}
    assert set(cost) == {"P-normal", "NP"} and cost["P-normal"]["pictures"] == 3
    by_cell = {(row["protocol"], row["test"]): row["metrics"]["SAD"]["value"] for row in found["table_4"]}
    difference = by_cell["B:N", "P-normal"] - by_cell["N:N", "P-normal"]
    assert cost["P-normal"]["value"] == pytest.approx(difference)
    assert {name: state for name, (state, _) in rules(whole).items() if name not in ("learning", "cost")} == {
        "dataset": "pass", "facemasks": "pass", "classes": "pass", "step": "pass"
    }  # fmt: skip


def test_a_smoke_check_says_so_everywhere_and_never_passes(whole: Path) -> None:
    found = report(whole)
    assert found["kind"] == "smoke check, not a benchmark" and found["verdict"] == "inconclusive"
    page = (whole / "report.html").read_text()
    assert page.count("smoke check, not a benchmark") >= 2 and "Smoke check, not a benchmark." in page
    assert recipe(TrainCheckSettings(), Scale.SMOKE).model["name"] == "smoke_resnet34"


def shown(page: Path) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/\w+;base64,([^"]+)"', page.read_text())
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")) for data in found]


def test_no_original_leaves_its_folder(whole: Path, world: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in (world / ORIGINALS).iterdir()}
    assert len(before) == 9
    pictures = shown(whole / "report.html")
    # Three pictures with truth, and prediction and error of three protocols.
    assert len(pictures) == 3 * 10
    marked = [np.abs(image.astype(int) - MARK).max(axis=2) < 60 for image in pictures]
    assert not any(where.any() for where in marked)
    for path in whole.rglob("*"):
        if path.suffix in (".png", ".jpg"):
            with Image.open(path) as image:
                assert image.mode == "L", path
        elif path.suffix in (".json", ".html", ".yaml", ".csv"):
            assert str(world / ORIGINALS) not in path.read_text()
    assert not list(whole.rglob("samples"))


def test_the_page_shows_what_would_have_been_seen(world: Path, tmp_path: Path) -> None:
    # The check above can fail: the photographs themselves have the mark.
    photo = loaded(world / ORIGINALS / "person7.png")
    assert (np.abs(photo.astype(int) - MARK).max(axis=2) < 60).any()


def test_the_page_is_self_contained(whole: Path) -> None:
    page = (whole / "report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page) and "<script" not in page
    assert page.count("<svg") >= 3 and "$" not in re.sub(r"base64,[^\"]*", "", page)


def test_a_finished_train_check_is_told_again_without_work(whole: Path, world: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*.p[tn]*")}
    again = p3mdata.train_check(world / "data", whole, originals=world / ORIGINALS, **SETTINGS)
    assert again.report["table_4"] == report(whole)["table_4"]
    assert before == {path: path.stat().st_mtime_ns for path in whole.rglob("*.p[tn]*")}


def test_other_settings_or_another_dataset_are_refused(whole: Path, world: Path, copy: Path) -> None:
    with pytest.raises(RunFolderError, match=r"other settings \(epochs, tolerance\)"):
        p3mdata.train_check(
            world / "data", whole, originals=world / ORIGINALS, **SETTINGS | {"epochs": 3, "tolerance": 0.2}
        )
    shutil.copytree(whole, copy / "whole")
    (copy / "data/train/images/person0.png").write_bytes(encoded(texture(SIDE, SIDE), "PNG"))
    with pytest.raises(RunFolderError, match="another dataset"):
        p3mdata.train_check(copy / "data", copy / "whole", originals=copy / "orig", **SETTINGS)


class Stopper(Watch):
    """Presses Ctrl-C in the second training's second step."""

    begun = 0

    def begin(self, images: int, done: int) -> None:
        Stopper.begun += 1

    def step(self, epoch: int, images: int, parts: Mapping[str, float]) -> None:
        if Stopper.begun == 2:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.slow
def test_ctrl_c_leaves_a_report_and_the_same_call_comes_to_the_same_figures(
    whole: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr(Stopper, "begun", 0)
    with monkeypatch.context() as patch:
        patch.setattr(driver, "Watch", Stopper)
        with pytest.raises(Interrupted):
            p3mdata.train_check(world / "data", out, originals=world / ORIGINALS, **SETTINGS)
    partial = report(out)
    assert not partial["complete"] and partial["verdict"] == "inconclusive"
    assert [row["done"] for row in partial["trainings"]] == [True, False, False, False]
    assert {row["protocol"] for row in partial["table_4"] if row["metrics"]} == {"B:B", "B:N"}
    page = (out / "report.html").read_text()
    assert "Partial." in page and "the same command goes on" in page and len(shown(out / "report.html"))
    assert (out / "runs/N-0/log.csv").read_text().count("\n") == 2
    found = p3mdata.train_check(world / "data", out, originals=world / ORIGINALS, **SETTINGS)
    assert found.report["complete"] and found.report["table_4"] == report(whole)["table_4"]
    assert scores(out) == scores(whole) and len(scores(out)) == 12


@pytest.mark.slow
def test_a_gpu_that_disappears(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def failing(*args: Any, **options: Any) -> Any:
        calls.append(args)
        if len(calls) == 2:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nmore lines")
        return train(*args, **options)

    small = SETTINGS | {"epochs": 1, "protocols": ("B:B",)}
    with monkeypatch.context() as patch:
        patch.setattr(running, "train", failing)
        with pytest.raises(GpuLost, match="The GPU failed .*illegal memory access.*same command again"):
            p3mdata.train_check(world / "data", tmp_path / "out", **small)
    assert [row["done"] for row in report(tmp_path / "out")["trainings"]] == [True, False]
    assert rules(tmp_path / "out")["complete"][0] == "inconclusive"
    assert p3mdata.train_check(world / "data", tmp_path / "out", **small).report["complete"]


@pytest.mark.slow
def test_a_slow_machine_ends_after_two_seeds(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A plan of a fiftieth of what a step and a test take.
    monkeypatch.setattr(driver, "spend", lambda *rest: Spending(1, {"validation": 1}, 0.01, 0.01))
    settings = SETTINGS | {"budget": 0.02, "epochs": None, "seeds": 3, "protocols": ("B:B",)}
    first = p3mdata.train_check(world / "data", tmp_path / "out", **settings)
    assert [row["done"] for row in first.report["trainings"]] == [True, True, False]
    assert "2 of 3 seeds" in " ".join(first.report["notes"]) and first.report["complete"]
    assert first.report["table_4"][0]["metrics"]["SAD"]["seeds"] == 2
    assert p3mdata.train_check(world / "data", tmp_path / "out", **settings).report == first.report


@pytest.mark.slow
def test_memory_that_is_short_takes_steps_in_parts(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(root: Path, how: Any, batch: int, *rest: Any) -> Any:
        if batch > 2:
            raise torch.OutOfMemoryError("out of memory")
        return try_steps(root, how, batch, *rest)

    small = SETTINGS | {"epochs": 1, "protocols": ("B:B",), "seeds": 1}
    monkeypatch.setattr(driver, "try_steps", short)
    found = p3mdata.train_check(world / "data", tmp_path / "out", **small)
    assert (found.report["budget"]["batch"], found.report["trainings"][0]["steps"]) == (4, 1)
    settings = (tmp_path / "out/runs/B-0/config.yaml").read_text()
    assert "\nbatch: 2\n" in settings and "\naccumulation: 2\n" in settings
    monkeypatch.setattr(driver, "try_steps", lambda root, how, batch, *rest: short(root, how, 9))
    with pytest.raises(SettingsError, match="single crop"):
        p3mdata.train_check(world / "data", tmp_path / "other", **small)


def test_a_bug_is_not_taken_for_a_lost_gpu() -> None:
    with pytest.raises(RuntimeError, match="shapes"), gpu_guarded("."):
        raise RuntimeError("shapes do not fit")


# Checks that end it before anything is trained


def failed(copy: Path, name: str, *words: str) -> None:
    found = p3mdata.train_check(copy / "data", copy / "out", **SETTINGS)
    assert found.exit_code == EXIT_PROOF_FAILED and found.report["verdict"] == "fail"
    state, sentence = rules(copy / "out")[name]
    assert state == "fail" and all(word in sentence for word in words), sentence
    assert not (copy / "out/runs").exists() and (copy / "out/report.html").is_file()
    assert "nothing was trained" in (copy / "out/report.html").read_text()


def test_a_facemask_over_the_transition_fails(copy: Path) -> None:
    path = copy / "data/train/facemasks/person2.png"
    mask, alpha = (loaded(copy / f"data/train/{kind}/person2.png") for kind in ("facemasks", "alphas"))
    row, column = np.argwhere((alpha > 0) & (alpha < 255))[0]
    mask[row, column] = 255
    write_png(path, mask)
    failed(copy, "facemasks", "1 of ", "transition pixels", "person2")


def test_a_class_that_no_trimap_has_fails(copy: Path) -> None:
    for path in (copy / "data/train/alphas").iterdir():
        alpha = loaded(path)
        # Soft everywhere: no pixel is surely foreground.
        write_png(path, np.where(alpha > 0, 200, 0).astype(np.uint8))
    for path in (copy / "data/train/facemasks").iterdir():
        write_png(path, np.zeros((SIDE, SIDE), np.uint8))
    failed(copy, "classes", "foreground")


def test_a_corrupt_image_fails_and_is_named(copy: Path) -> None:
    (copy / "data/train/images/person4.png").write_bytes(b"\x89PNG broken")
    failed(copy, "dataset", "train/images/person4.png")
    # Repaired, the same call goes on.
    write_png(copy / "data/train/images/person4.png", marked_portrait(SIDE, 4)[0])
    assert p3mdata.train_check(
        copy / "data", copy / "out", **SETTINGS | {"epochs": 1, "protocols": ("B:B",), "seeds": 1}
    ).report["complete"]


def test_few_pictures(tmp_path: Path) -> None:
    obfuscated_dataset(tmp_path, train=2, private=1, free=0)
    found = p3mdata.train_check(tmp_path / "data", tmp_path / "out", epochs=1, seeds=1, device="cpu", workers=1)
    assert found.report["complete"] and found.report["budget"]["batch"] == 1
    assert "--originals, or a validation set" in " ".join(found.report["notes"])
    for path in (tmp_path / "data/train").rglob("person1.png"):
        path.unlink()
    with pytest.raises(SettingsError, match="The training set has 1 picture: too few"):
        p3mdata.train_check(tmp_path / "data", tmp_path / "other", epochs=1, seeds=1, device="cpu", workers=1)


def test_folders_that_cannot_be(world: Path, tmp_path: Path) -> None:
    data = world / "data"
    for out, originals in ((data / "check", None), (world, None), (world / "orig/x", world / "orig"), (world, world)):
        with pytest.raises(SettingsError, match="must not lie inside each other"):
            p3mdata.train_check(data, out, originals=originals, **SETTINGS)
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(RunFolderError, match="holds no train-check"):
        p3mdata.train_check(data, tmp_path, **SETTINGS)
    with pytest.raises(RunFolderError, match="is a file"):
        p3mdata.train_check(data, tmp_path / "mine.txt", **SETTINGS)


@pytest.mark.slow
def test_methods_are_compared_and_pasting_is_for_obfuscated_training(world: Path, tmp_path: Path) -> None:
    faces = tmp_path / "faces"
    for number in range(2):
        rgb, _, mask = synthetic_portrait(64, number)
        write_png(faces / f"image/{number}.png", rgb)
        write_png(faces / f"facemask/{number}.png", mask)
    settings = SETTINGS | {"epochs": 1, "seeds": 1, "most_tested": 1, "methods": (Method.BLUR, Method.ZERO)}
    settings["each_method"] = True
    found = p3mdata.train_check(
        world / "data", tmp_path / "out", originals=world / ORIGINALS, faces=faces, copy_paste="icp", **settings
    )
    cells = {(row["trained"], row["test"]): row["metrics"] for row in found.report["table_8"]}
    assert {("blur", "P-blur"), ("zero", "P-zero"), ("blur", "P-normal"), ("none", "P-normal")} <= set(cells)
    assert all("SAD" in metrics for metrics in cells.values())
    # What advice takes of it: a cost for each obfuscation, by what was done to faces.
    assert found.report["scale"] == "smoke" and found.report["domains"]["N"] == "none"
    known = {
        row["domain"]: row["metrics"]["SAD"]["value"] for row in found.report["costs"] if row["test"] == "P-normal"
    }
    costs = read_costs([tmp_path / "out"])
    assert costs["zero 1"].value == known["zero"] and not costs["zero 1"].benchmark and costs["zero 1"].low is None
    modes = {
        path.parent.name: re.findall(r"mode: (\w+)", path.read_text())[0]
        for path in (tmp_path / "out/runs").glob("*/config.yaml")
    }
    assert modes["B-0"] == "icp" and modes["N-0"] == "none"
    assert "Obfuscations compared" in found.page.read_text()


# Command line and drawings


@pytest.mark.slow
def test_the_command(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(world / "data", tmp_path / "data")
    settings = ("--epochs", "1", "--seeds", "1", "--protocols", "B:B", "--device", "cpu", "--workers", "1")
    done = command("train-check", "data", *settings, cwd=tmp_path, timeout=300)
    assert done.returncode == 3, done.stderr
    assert "smoke check, not a benchmark" in done.stdout and "SAD_FACE" in done.stdout
    assert (tmp_path / "data-train-check/report.html").is_file()
    for wrong, words in (
        (("--budget", "0.01s"), "too short for one step"), (("--methods", "paint"), "must be of blur,mosaic,zero")
    ):  # fmt: skip
        with pytest.raises(SystemExit) as caught:
            main(["train-check", str(world / "data"), "--out", str(tmp_path / "out"), *wrong])
        assert caught.value.code == EXIT_USAGE and words in capsys.readouterr().err


def test_without_torch_one_sentence() -> None:
    code = "import sys; sys.modules['torch'] = None; from p3mdata.cli import main; main(['train-check', 'nowhere'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_USAGE
    assert done.stderr.strip() == "Error: train-check needs torch: run pip install 'p3mdata[train]'."


def test_drawings() -> None:
    drawn_curves = str(curves([("B", [(0, 3.0), (1, 2.0)]), ("N", [])], "loss", "label"))
    assert drawn_curves.count("<polyline") == 1
    assert curves([("B", [])], "loss", "label") is None
    # One point is a mark, few points are marks on a line; whole steps; the axis ends at a round number.
    alone = str(curves([("B", [(1, 700.0)])], "SAD", "label"))
    assert "<circle" in alone and "polyline" not in alone
    assert ">800</text>" in alone and ">0.5</text>" not in alone
    few = str(curves([("B", [(1, 3.0), (2, 2.0)])], "loss", "label"))
    assert few.count("<circle") == 2 and "polyline" in few
    many = str(curves([("B", [(step, 1.0) for step in range(10_000)])], "loss", "label"))
    assert len(many) < 10_000
    cost = Cost(0.5, None, None, 10.0, 5, 1)
    assert str(intervals([("B:N", cost)], 0.1)).count("<circle") == 1
    assert intervals([("B:N", replace(cost, base=0.0))], 0.1) is None
