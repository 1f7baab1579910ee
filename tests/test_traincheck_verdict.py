"""train-check without a training: what runs, how a budget is spent, what figures allow to say, drawings. No torch."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p3mdata.config import Method
from p3mdata.errors import SettingsError
from p3mnet.traincheck.budget import between_looks, drawn, looks_of, spend, used_up
from p3mnet.traincheck.config import SHORT, Scale, TrainCheckSettings, recipe, seconds_of
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


def test_what_was_done_before_counts_for_the_budget() -> None:
    found = spend(1000, **SPENDING, before=300)
    assert found.steps == (700 - 20 - 10) // 4
    # But for no more than half, however slow the machine was.
    assert spend(1000, **SPENDING, before=5000).steps == (500 - 20 - 10) // 4
    with pytest.raises(SettingsError, match="at least (1[0-9][0-9])s"):
        spend(2, **SPENDING, before=100)
    # A budget that holds a step of each, and not what is around them, is exceeded.
    around = SPENDING | {"training_seconds": lambda steps: 20 + 4.0 * steps}
    assert spend(6, **around, before=5, besides=20).steps == 1
    with pytest.raises(SettingsError, match="too short for one step"):
        spend(6, **around, before=5, besides=10)


def test_short_trainings_take_the_larger_rate_and_say_so() -> None:
    for weights, rate in (("hub", 1e-5), ("random", 1e-4)):
        full = recipe(TrainCheckSettings(encoder_weights=weights), Scale.FULL)
        short, long = full.of(1000), full.of(SHORT)
        assert (full.learning_rate, short.learning_rate, long.learning_rate) == (rate, 1e-4, rate)
        assert "learning rate 0.0001 for 1,000 steps" in short.words and long.words == full.words
    for settings, scale in ((TrainCheckSettings(variant="modnet"), Scale.FULL), (TrainCheckSettings(), Scale.SMOKE)):
        plain = recipe(settings, scale)
        assert plain.of(10) == plain


@pytest.mark.parametrize(("epochs", "looks"), [(1, 1), (8, 8), (9, 5), (100, 8)])
def test_a_training_looks_at_its_curve_a_few_times(epochs: int, looks: int) -> None:
    assert len(range(0, epochs, between_looks(epochs))) == looks <= looks_of(epochs) <= looks_of(epochs + 1) <= 8


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
