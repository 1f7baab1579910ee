"""Attackers that learn: nobody is in training and test, they find what leaks, and nothing where nothing is left."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import attackers as table
from p3mdata.anonymize.masks import Patch, Region
from p3mdata.audit import networks
from p3mdata.audit.advice import Advice, Tried
from p3mdata.audit.advice_plot import draw
from p3mdata.audit.advise import advise_run
from p3mdata.audit.attackers import attack_run
from p3mdata.audit.costs import Measured, read_costs
from p3mdata.audit.field import attacked, of_pairs
from p3mdata.audit.learned import Mapping, Metric
from p3mdata.audit.looks import GUESSES, Faces, Looks
from p3mdata.audit.portraits import Portrait
from p3mdata.audit.protocol import Fold, difference, folds, guessing, score
from p3mdata.audit.reidentify import audit_run
from p3mdata.base.chart import Label, label_points, panels
from p3mdata.base.files import sha256
from p3mdata.base.intervals import people_needed, wilson
from p3mdata.config import Execution, Job, Method, Settings
from p3mdata.errors import RunFolderError, SettingsError
from p3mdata.review.removal import remove_images
from p3mdata.run.attackers import NO_ATTACKS, WORDS, Score
from p3mdata.run.job import anonymize_job
from p3mdata.run.layout import ADVICE, ADVICE_PLOT, ATTACKERS, MANIFEST
from tests.factories import astronaut, encoded
from tests.runs import p3mdata_here

PEOPLE, PHOTOS = 18, 3
MOSAIC = Settings(method=Method.MOSAIC)
SIDE = 60


class Small:
    """A recogniser of fine detail: it knows little of faces whose detail is gone."""

    name, sha256 = "small", "0" * 64

    def embed(self, chip: NDArray[np.uint8]) -> NDArray[np.float32]:
        grey = cv2.resize(chip, (16, 16), interpolation=cv2.INTER_AREA).astype(np.float32).mean(axis=2) / 255
        return np.asarray((grey - cv2.blur(grey, (5, 5))).ravel(), np.float32)


@pytest.fixture(scope="module")
def faces() -> tuple[list[Portrait], NDArray[np.int64]]:
    """Portraits of people who differ inside the mask alone; each photograph has a light and noise of its own."""
    rng = np.random.default_rng(0)
    mask = np.zeros((SIDE, SIDE), bool)
    mask[10:50, 10:50] = True
    region = Region(Patch(10, 10, mask[10:50, 10:50]), 40.0)
    # The aligned face is the whole window.
    to_window = np.array([[SIDE / 150, 0, 0], [0, SIDE / 150, 0]])
    around = cv2.resize(rng.integers(60, 200, (9, 9, 3)).astype(np.uint8), (SIDE, SIDE))
    smooth = [cv2.resize(rng.uniform(-1, 1, (4, 4, 3)), (40, 40), interpolation=cv2.INTER_CUBIC) for _ in range(3)]
    portraits = []
    for _ in range(PEOPLE):
        look = cv2.resize(rng.uniform(-70, 70, (10, 10, 3)), (40, 40), interpolation=cv2.INTER_CUBIC)
        for _ in range(PHOTOS):
            clear = around.astype(float)
            # What varies from one photograph to the next is coarse, and of a few kinds.
            clear[10:50, 10:50] = 128 + look + sum(rng.normal(0, 40) * kind for kind in smooth)
            clear = np.clip(clear * rng.uniform(0.9, 1.1) + rng.normal(0, 8, clear.shape), 0, 255).astype(np.uint8)
            portraits.append(Portrait(clear, clear, (region,), mask, to_window))
    return portraits, np.repeat(np.arange(PEOPLE), PHOTOS)


def seen(
    portraits: list[Portrait],
    people: NDArray[np.int64],
    how: tuple[Method, float],
    guesses: Sequence[float] = GUESSES,
) -> Faces:
    looks = Looks(Small(), guesses)
    for portrait in portraits:
        looks.add(portrait, {"so": (how, portrait.obfuscated(*how))})
    return looks.faces("so", range(len(portraits)), people)


def against(
    faces: tuple[list[Portrait], NDArray[np.int64]],
    how: tuple[Method, float],
    steps: tuple[int, int] | None = None,
) -> dict[str, Score]:
    portraits, people = faces
    found = seen(portraits, people, how, guesses=())
    return attacked(found, folds(people, 0), 0, Small(), steps, {})


def test_nobody_is_in_training_and_test() -> None:
    for number in (4, 5, 7, 40):
        people = np.repeat(np.arange(number), 2)
        parts = folds(people, 3)
        assert sorted(np.concatenate([fold.test for fold in parts])) == list(range(2 * number))
        for fold in parts:
            assert not set(people[fold.train]) & set(people[fold.test])
            assert len(set(people[fold.test])) >= 2 and len(set(people[fold.train])) >= 2
        assert all((a.test == b.test).all() for a, b in zip(parts, folds(people, 3), strict=True))
    with pytest.raises(ValueError, match="3 people"):
        folds(np.array([0, 0, 1, 1, 2, 2]), 0)


@pytest.mark.parametrize(("claim", "seen_rate"), [(0.1, 0.0), (0.1, 0.05), (0.3, 0.1), (0.02, 0.0)])
def test_as_many_people_as_are_said_allow_the_claim_and_fewer_do_not(claim: float, seen_rate: float) -> None:
    needed = people_needed(claim, seen_rate)
    assert needed is not None
    assert wilson(seen_rate * needed, needed).high <= claim + 1e-4
    assert wilson(seen_rate * (needed - 2), needed - 2).high > claim
    assert people_needed(0.1) == 35 and people_needed(0.1, 0.1) is None


def plain(vectors: NDArray[np.float32]) -> Callable[[Fold], Any]:
    return lambda fold: (vectors[fold.test], vectors[fold.test])


def test_scores_count_people_and_tell_groups_and_the_worst_case() -> None:
    people = np.repeat(np.arange(6), 2)
    parts = [Fold(np.arange(0), np.arange(12))]
    # Four persons are found, of the last two each is taken for the other.
    angles = np.radians([0, 1, 30, 31, 60, 61, 90, 91, 120, 150, 121, 151])
    found = score(plain(np.stack([np.cos(angles), np.sin(angles)], 1)), parts, people, ["a"] * 4 + ["b"] * 8)
    assert found.rank1 == wilson(4, 6) and (found.worst_person, found.often) == (1.0, round(4 / 6, 4))
    assert found.groups == {"a": wilson(2, 2), "b": wilson(2, 4)}
    assert (found.tar, found.far) == (None, None), "60 pairs show no false accept rate"
    assert guessing(parts, people) == round(1 / 11, 4)
    many = np.repeat(np.arange(40), 3)
    alike = score(plain(np.eye(40, dtype=np.float32)[many]), [Fold(np.arange(0), np.arange(120))], many)
    assert alike.far == 0.01 and alike.tar is not None and alike.tar.value == 1.0
    # Faces that all look alike are found by chance, and none is accepted.
    same = score(plain(np.ones((120, 4), np.float32)), [Fold(np.arange(0), np.arange(120))], many)
    assert same.rank1.value == pytest.approx(2 / 119, abs=1e-4) and same.tar is not None and same.tar.value == 0


def test_learnt_attackers_find_more_than_adapted_ones_where_a_mosaic_leaks(faces: Any) -> None:
    found = against(faces, (Method.MOSAIC, 0.2))
    chance = guessing(folds(faces[1], 0), faces[1])
    assert found["clear"].rank1.value > 0.9
    for learnt in ("metric", "determined"):
        assert found[learnt].rank1.value > found["adapted"].rank1.value + 0.1, learnt
    assert {"floor_metric", "floor_determined"} <= found.keys()
    for key, one in found.items():
        if key.startswith("floor"):
            assert one.rank1.low <= chance + 0.05, f"{key}: nothing outside the masks tells anybody"


def test_learnt_attackers_find_more_than_adapted_ones_where_a_blur_leaks(faces: Any) -> None:
    found = against(faces, (Method.BLUR, 0.25))
    assert found["wiener_metric"].rank1.value > found["wiener_adapted"].rank1.value + 0.1
    assert found["determined"].rank1.value > found["adapted"].rank1.value + 0.1
    assert found["determined"].rank1.value > found["floor_determined"].rank1.high


@pytest.mark.slow
def test_nothing_is_found_where_nothing_is_left(faces: Any) -> None:
    chance = guessing(folds(faces[1], 0), faces[1])
    found = against(faces, (Method.ZERO, 1.0), steps=(4, 2))
    for key in found.keys() - NO_ATTACKS:
        assert found[key].rank1.low <= chance + 0.05, key
    assert {"network", "restored_naive", "floor_network"} <= found.keys()


def test_a_blur_is_undone_with_known_and_guessed_strength(faces: Any) -> None:
    (portraits, people), how = (faces[0][:12], faces[1][:12]), (Method.BLUR, 0.2)
    # What the run itself released is another matter.
    known = seen([replace(portrait, released=np.zeros_like(portrait.clear)) for portrait in portraits], people, how)
    clear, *others = (known.vectors[view] for view in ("clear", "hidden", "wiener", "guess 0.2", "guess 0.4"))
    hidden, undone, right, wrong = (float(((other - clear) ** 2).sum()) for other in others)
    assert undone == right < min(hidden, wrong)
    found = attacked(known, folds(people, 0), 0, None, None, {})
    assert {"wiener_naive", "wiener_adapted", "wiener_mapped", "guessed_mapped"} <= found.keys()
    assert found["guessed_mapped"] == found["wiener_mapped"], "the right guess is told by people that the attacker has"


@pytest.mark.slow
def test_networks_learn_and_are_equal_for_equal_seeds(faces: Any) -> None:
    few, people = faces[0][:24], faces[1][:24]
    how = (Method.MOSAIC, 0.2)
    known = seen(few, people, how)
    hidden, clear, vectors = known.small["hidden"], known.small["clear"], known.vectors["clear"]
    dark = clear // 2
    made = [networks.Restorer(dark, clear, 15, seed=1)(dark) for _ in range(2)]
    assert np.array_equal(*made)
    before, after = (np.abs(tried.astype(float) - clear).mean() for tried in (dark, made[0]))
    assert after < 0.8 * before
    nets = [networks.Embedder(hidden, vectors, people, 25, seed=1) for _ in range(2)]
    assert np.array_equal(nets[0](hidden), nets[1](hidden))
    own = score(lambda _: (nets[0](hidden), nets[0].centred(vectors)), [Fold(people, np.arange(24))], people)
    assert own.rank1.value > 0.5, "at least the people that it was trained on"


@pytest.mark.slow
def test_a_network_of_pairs_finds_strangers_where_its_pictures_are_even(faces: Any) -> None:
    portraits, people = faces
    found = seen(portraits, people, (Method.BLUR, 0.2), guesses=())
    parts = folds(people, 0)
    before = score(lambda fold: (found.vectors["hidden"][fold.test],) * 2, parts, people)
    attack = of_pairs(found, "wiener", 60, seed=1)
    learnt = score(attack, parts, people)
    assert learnt.rank1.value > before.rank1.value + 0.1
    assert np.array_equal(*(attack(parts[0])[0] for _ in range(2))), "equal seeds, equal vectors"


def test_a_metric_does_not_look_at_what_varies_within_persons() -> None:
    rng = np.random.default_rng(1)
    people = np.repeat(np.arange(20), 4)
    who, light = rng.normal(size=(20, 5))[people], 10 * rng.normal(size=(80, 1))
    faces = np.hstack([who + 0.1 * rng.normal(size=(80, 5)), light]).astype(np.float32)
    train = people < 10
    parts = [Fold(np.flatnonzero(train), np.arange(40))]
    metric = Metric(faces[train], people[train])
    bare, learnt = (score(lambda fold, f=f: (f, f), parts, people[:40]) for f in (faces[~train], metric(faces[~train])))
    assert learnt.rank1.value > max(0.7, bare.rank1.value + 0.2)


def test_a_map_leads_from_hidden_faces_to_clear_ones() -> None:
    rng = np.random.default_rng(2)
    people, clear = np.repeat(np.arange(30), 2), rng.normal(size=(60, 8)).astype(np.float32)
    hidden = np.hstack([clear @ rng.normal(size=(8, 20)), rng.normal(size=(60, 5))]).astype(np.float32) + 3
    learnt = Mapping(hidden[:40], clear[:40], people[:40])
    gap = learnt(hidden[40:]) - learnt.centred(clear[40:])
    assert np.abs(gap).mean() < 0.1 < np.abs(clear[40:]).mean()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, kept_models: Any) -> Path:
    """A finished run of four people with two photographs: one face in different tints."""
    folder = tmp_path_factory.mktemp("attackers")
    (folder / "src").mkdir()
    for number in range(8):
        tint = np.array([(30, 0, -30), (-30, 0, 30), (0, 30, -30), (25, 25, 25)][number // 2])
        pixels = np.clip(astronaut(190 + number).astype(int) + tint, 0, 255).astype(np.uint8)
        (folder / "src" / f"person{number // 2}__{number}.jpg").write_bytes(encoded(pixels, quality=95))
    anonymize_job(Job(source=folder / "src", out=folder / "out", settings=MOSAIC, execution=Execution(workers=1)))
    return folder / "out"


@pytest.fixture
def fresh(run: Path, tmp_path: Path) -> Path:
    shutil.copytree(run, tmp_path / "out")
    return tmp_path / "out"


def attack(out: Path, **options: Any) -> Any:
    return attack_run(out, **({"identities": "prefix", "recogniser": Small(), "steps": (2, 1)} | options))


def at_last(what: Callable[[], object]) -> Callable[[int], Callable[[], None]]:
    """A progress: something happens when the last photograph was looked at."""

    def start(total: int) -> Callable[[], None]:
        left = iter(range(total - 1, -1, -1))
        return lambda: None if next(left) else what() and None

    return start


def quick_advice(out: Path, **options: Any) -> Any:
    return advise_run(out, 0.1, "prefix", recogniser=Small(), tried=((Method.FLAT, 1.0, None),), **options)


def plain_audit(out: Path, **options: Any) -> Any:
    return audit_run(out, "prefix", blur=(), mosaic=(), recogniser=Small(), **options)


@pytest.mark.parametrize("verb", [attack, quick_advice, plain_audit])
def test_a_run_that_is_deleted_meanwhile_is_not_made_again(
    fresh: Path, verb: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "is_possible", lambda: False)
    with pytest.raises(RunFolderError, match=r"out: was deleted while this command was at work"):
        verb(fresh, progress=at_last(lambda: shutil.rmtree(fresh)))
    assert not fresh.exists()


@pytest.mark.parametrize("verb", [attack, plain_audit])
def test_what_was_looked_at_is_the_manifest_of_before(
    fresh: Path, verb: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A take-down while attackers learn: what they come to is of the release with the picture."""
    monkeypatch.setattr(networks, "is_possible", lambda: False)
    before = sha256((fresh / MANIFEST).read_bytes())
    found = verb(fresh, progress=at_last(lambda: remove_images(fresh, ["person0__0.jpg"])))
    assert found.manifest_sha256 == before != sha256((fresh / MANIFEST).read_bytes())


@pytest.mark.slow
def test_attackers_of_a_run(fresh: Path, tmp_path: Path) -> None:
    groups = tmp_path / "groups.csv"
    rows = [f"person{n // 2}__{n}.jpg,{'dark' if n < 4 else 'light'}" for n in range(8)]
    groups.write_text("source,group\n" + "\n".join(rows), encoding="utf-8")
    found = attack(fresh, groups=groups, max_rank1=0.1)
    assert (found.photos, found.people, found.folds, found.method) == (8, 4, 2, "mosaic 0.2")
    undone = {key for key in WORDS if key.startswith(("wiener", "guessed"))}
    assert set(found.scores) == WORDS.keys() - {"outline"} - undone and set(found.not_run) == {"outline", "wiener"}
    assert found.scores["adapted"].groups.keys() == {"dark", "light"}
    # Four people allow no claim, whatever is found.
    assert not found.passed and "A claim of at most 10 % is refused" in found.claim()
    written = (fresh / ATTACKERS).read_text(encoding="utf-8")
    assert json.loads(written) == found.to_json() and "person" not in json.dumps(json.loads(written)["left_out"])
    assert not any(f"person{n}" in written for n in range(4))
    assert attack(fresh, groups=groups, max_rank1=0.1).to_json() == found.to_json()


def test_without_torch_networks_are_named_as_not_run(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "is_possible", lambda: False)
    found = attack(fresh)
    assert "pip install 'p3mdata[train]'" in found.not_run["network"] and "network" not in found.scores
    assert "adapted" in found.scores


def test_what_cannot_be_attacked_is_one_sentence(fresh: Path, tmp_path: Path) -> None:
    table = tmp_path / "who.csv"
    table.write_text("".join(f"person{n // 2}__{n}.jpg,P{n // 3}\n" for n in range(8)), encoding="utf-8")
    with pytest.raises(SettingsError, match=r"only 3 of the people .* it takes 4 at least, and 35 to claim"):
        attack(fresh, identities=table)
    table.write_text("".join(f"person{n // 2}__{n}.jpg,P{n}\n" for n in range(8)), encoding="utf-8")
    with pytest.raises(SettingsError, match="only 0 of the people"):
        attack(fresh, identities=table)
    table.write_text("elsewhere.jpg,P\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="names no photo of this run"):
        attack(fresh, identities=table)
    with pytest.raises(SettingsError, match="--max-rank1 cannot be 1.5"):
        attack(fresh, max_rank1=1.5)
    with pytest.raises(SettingsError, match="--max-rank1 cannot be 0"):
        advise_run(fresh, 0, recogniser=Small())
    assert not (fresh / ATTACKERS).exists()
    assert "goes with --attackers" in p3mdata_here("audit", fresh, "--groups", table).stderr


def test_advice_is_the_least_change_that_keeps_attackers_out(fresh: Path, faces: Any, monkeypatch: Any) -> None:
    tried = ((Method.DP_PIX, 0.2, 1.0), (Method.FLAT, 1.0, None), (Method.ZERO, 1.0, None))
    found = advise_run(fresh, 0.1, "prefix", recogniser=Small(), tried=tried)
    # Tinted skin around the mask tells these people apart.
    assert found.chosen is None and "No setting keeps attackers below 10 %" in found.sentence()
    assert json.loads((fresh / ADVICE).read_text(encoding="utf-8")) == found.to_json()
    assert (fresh / ADVICE_PLOT).read_bytes()[:4] == b"\x89PNG"

    def gather(*given: Any) -> Any:
        for portrait in faces[0]:
            given[-1](portrait)
        return range(len(faces[0])), faces[1], None

    monkeypatch.setattr("p3mdata.audit.advise.gather", gather)
    there = advise_run(fresh, 0.35, recogniser=Small(), tried=(*tried, (Method.MOSAIC, 0.2, None)))
    changes = {t.settings.obfuscation()[0]: t.distortion for t in there.tried}
    assert changes[Method.ZERO] > changes[Method.FLAT] > changes[Method.MOSAIC] > 0
    # The mosaic changes least and leaks, black changes most.
    assert there.chosen is not None and there.chosen.flags() == "--method flat" and not there.sure
    assert "it takes" in there.sentence() and "18 took part" in there.sentence()
    leaky = next(t for t in there.tried if t.settings.method is Method.MOSAIC)
    assert leaky.rank1.value > 0.35 and leaky.attacker == "metric"


def test_the_outline_is_attacked_where_faces_are_recomposed(faces: Any) -> None:
    portraits, people = faces
    made = []
    for portrait, person in zip(portraits, people, strict=True):
        share = np.zeros((SIDE, SIDE), np.uint8)
        share[:, : 20 + 2 * person] = 255
        region = Region(portrait.regions[0].patch, 40.0, share)
        made.append(Portrait(portrait.clear, portrait.released, (region,), portrait.covered, portrait.to_window))
    known = seen(made, people, (Method.FLAT, 1.0))
    assert known.outline is not None
    found = attacked(known, folds(people, 0), 0, None, None, {})
    assert found["outline"].rank1.value > 0.6


def test_a_difference_between_attackers_is_paired_by_person() -> None:
    people = np.repeat(np.arange(40), 2)
    parts = [Fold(np.arange(0), np.arange(80))]
    always = score(plain(np.eye(40, dtype=np.float32)[people]), parts, people)
    assert set(always.by_person) == {1.0} and "by_person" not in always.to_json()
    # The same people are found but for four of them, whose photographs look like another's.
    mixed = np.eye(40, dtype=np.float32)[np.where((people < 4) & (np.arange(80) % 2 == 1), people + 4, people)]
    fewer = score(plain(mixed), parts, people)
    value, low, high = difference(always, fewer)
    assert value == pytest.approx(1 - fewer.rank1.value, abs=1e-4) and 0 < low < value < high < 0.35
    assert difference(always, always) == (0.0, 0.0, 0.0)


def train_check(folder: Path, costs: dict[str, tuple[str | None, float]], scale: str = "full") -> Path:
    """A folder with what a train-check says: obfuscation and cost by domain."""
    sad = {"low": -1.0, "high": 1.0, "base": 9.0, "pictures": 20, "seeds": 3}
    rows = [
        {"domain": domain, "test": test, "metrics": {"SAD": {"value": value, **sad}}}
        for domain, (_, value) in costs.items()
        for test in ("NP", "P-normal")
    ]
    domains = {"N": "none", **{domain: named for domain, (named, _) in costs.items()}}
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps({"domains": domains, "scale": scale, "costs": rows}))
    return folder


def advice(costs: dict[str, Measured], rates: dict[str, float]) -> Advice:
    changes = {"blur 0.25": 10.0, "mosaic 0.2": 20.0, "flat 1": 30.0, "zero 1": 90.0}
    tried = tuple(
        Tried(Settings(method=Method(word)), wilson(200 * rates[name], 200), "metric", change, costs.get(name))
        for name, change in changes.items()
        for word in name.split()[:1]
    )
    return Advice(0.1, 400, 200, 0.01, wilson(2, 200), tried)


def test_what_train_checks_measured_goes_before_the_proxy(tmp_path: Path) -> None:
    rates = {"blur 0.25": 0.4, "mosaic 0.2": 0.01, "flat 1": 0.01, "zero 1": 0.01}
    costs = {"B": ("blur 0.25", 0.1), "mosaic": ("mosaic 0.2", 0.9), "zero": ("zero 1", 0.3)}
    full = read_costs([train_check(tmp_path / "f", costs)])
    smoke = read_costs([train_check(tmp_path / "s", costs, "smoke")])
    assert {name: cost.value for name, cost in full.items()} == {"blur 0.25": 0.1, "mosaic 0.2": 0.9, "zero 1": 0.3}
    chosen = [advice(known, rates).chosen for known in ({}, full, smoke)]
    # The blur leaks; black changes more than the mosaic and costs less; a smoke check decides nothing.
    assert [found and found.flags() for found in chosen] == [
        "--method mosaic --strength 0.2", "--method zero", "--method mosaic --strength 0.2"
    ]  # fmt: skip
    assert "training on it costs +0.30 SAD (-1.00 to +1.00) on 9.00;" in advice(full, rates).sentence()
    assert "no evidence" in advice(smoke, rates).sentence() and "costs" not in advice({}, rates).sentence()
    found = advice(full, rates)
    told = [one["train_check"] and one["train_check"]["value"] for one in found.to_json()["tried"]]
    assert told == [0.1, 0.9, None, 0.3]
    assert draw(found)[:4] == b"\x89PNG" and draw(found) == draw(found)
    # A later folder goes before an earlier one.
    later = train_check(tmp_path / "later", {"B": ("mosaic 0.2", 0.2)})
    assert read_costs([tmp_path / "f", later])["mosaic 0.2"].value == 0.2


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "holds no train-check"),
        ({"costs": []}, "does not say which obfuscations"),
        ({"costs": [], "scale": "full", "domains": {"B": "blur 0.25"}}, "measured no cost"),
        ({"costs": [{"domain": "B"}], "scale": "full", "domains": {"B": "blur 0.25"}}, "does not say which"),
    ],
)
def test_what_is_no_train_check_is_refused_before_work(
    content: Any, sentence: str, fresh: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "check"
    folder.mkdir()
    if content is not None:
        (folder / "report.json").write_text(json.dumps(content))

    class Idle(Small):
        def embed(self, chip: NDArray[np.uint8]) -> NDArray[np.float32]:
            raise AssertionError("work was begun")

    with pytest.raises(SettingsError, match=sentence) as refused:
        advise_run(fresh, 0.1, "prefix", recogniser=Idle(), train_checks=[folder])
    assert "\n" not in str(refused.value) and not (fresh / ADVICE).exists()


def test_labels_of_points_that_lie_close_do_not_overlap() -> None:
    figure, (axes,) = panels(1, 1, (8, 5))
    at = [(10 + 0.1 * i, 98 + (i % 2)) for i in range(8)]
    axes.plot(*zip(*at, strict=True), "o")
    axes.set_xlim(0, 40)
    axes.set_ylim(0, 108)
    label_points(figure, axes, [Label(place, (50.0, 100.0), f"0.{i}5", "black") for i, place in enumerate(at)])
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
    assert len(boxes) == 8
    frame = axes.get_window_extent()
    for number, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:number])
        assert frame.x0 < box.x0 and box.x1 < frame.x1 and frame.y0 < box.y0 and box.y1 < frame.y1
        for place in at:
            assert not box.contains(*axes.transData.transform(place))


def test_the_benchmarks_table_compares_every_attacker_with_the_adapted_one(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [table.setting(text) for text in ("mosaic:0.2", "dp-pix:0.3:4", "zero")]
    assert [each.named() for each in settings] == ["mosaic 0.2", "dp-pix 0.3 epsilon 4 m 16", "zero 1"]
    keep = fresh.with_name("seen.npz")
    found = table.measure(fresh, [*settings[:2], None], None, (), identities="prefix", recogniser=Small(), keep=keep)
    assert "released, mosaic 0.2" in found["settings"]
    # What was seen is not looked at again.
    drawn: set[str] = set()
    render = table.rendered
    monkeypatch.setattr(table, "rendered", lambda one, each: drawn.add(each.named()) or render(one, each))
    found = table.measure(fresh, settings, None, (), identities="prefix", recogniser=Small(), keep=keep)
    assert drawn == {"zero 1"} and set(found["settings"]) == {each.named() for each in settings}
    for scores in found["settings"].values():
        assert {"clear", "naive", "adapted", "metric", "floor_metric"} <= set(scores)
        assert scores["adapted"]["more_than_adapted"] == (0.0, 0.0, 0.0)
        for one in scores.values():
            value, low, high = one["more_than_adapted"]
            assert low <= value <= high
            assert value == pytest.approx(one["rank1"]["value"] - scores["adapted"]["rank1"]["value"], abs=2e-4)
    told = table.lines(found)
    assert told.count("\n| mosaic 0.2") == len(found["settings"]["mosaic 0.2"]) and "guessing" in told
    with pytest.raises(ValueError, match="swirl"):
        table.setting("swirl")
