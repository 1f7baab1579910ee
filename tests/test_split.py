"""Splits: groups stay together, sizes and strata are kept, and adding images moves nobody out of validation."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p3mdata.dataset.split import Candidate, Sets, assign, join_groups, place
from p3mdata.errors import SettingsError

SETS = Sets("train", "val", "free")


def images(count: int, group_size: int = 1, strata: int = 1, free: int = 0, prefix: str = "i") -> list[Candidate]:
    number = sum(prefix.encode()) * 10_000
    return [
        Candidate(f"{prefix}{i}", number + i // group_size, f"{prefix}{i}", (f"s{i % strata}",), i < free)
        for i in range(count)
    ]


def straddling(candidates: list[Candidate], chosen: dict[str, str]) -> list[int]:
    sets: dict[int, set[str]] = {}
    for candidate in candidates:
        sets.setdefault(candidate.group, set()).add(chosen[candidate.id])
    return [group for group, names in sets.items() if len(names) > 1]


@settings(max_examples=60, deadline=None)
@given(
    first=st.integers(2, 60), more=st.integers(0, 60), size=st.integers(1, 4), share=st.floats(0.02, 0.6),
    seed=st.integers(0, 1000),
)  # fmt: skip
def test_added_images_move_nobody_out_of_validation(first: int, more: int, size: int, share: float, seed: int) -> None:
    everything = images(first + more, size)
    try:
        before = assign(everything[:first], SETS, share, seed=seed)
        # A set is never empty, so that a tiny one may hold a group above the share; the record of the split keeps it.
        after = assign(everything, SETS, share, seed=seed, previous=before)
    except SettingsError as exc:
        assert "nothing is left for train" in str(exc)
        return
    was, now = ({i for i, name in chosen.items() if name == "val"} for chosen in (before, after))
    assert was <= now
    if all(place(i, seed) < share for i in was):
        again = assign(everything, SETS, share, seed=seed)
        assert was <= {i for i, name in again.items() if name == "val"}


@settings(max_examples=40, deadline=None)
@given(count=st.integers(6, 80), size=st.integers(1, 3), wanted=st.integers(1, 3), seed=st.integers(0, 99))
def test_groups_never_straddle_and_order_does_not_matter(count: int, size: int, wanted: int, seed: int) -> None:
    everything = images(count, size, strata=2)
    shuffled = random.Random(seed).sample(everything, count)
    for validation in (0.2, wanted * size):
        try:
            chosen = assign(everything, SETS, validation, seed=seed)
        except SettingsError:
            continue
        assert straddling(everything, chosen) == []
        assert assign(shuffled, SETS, validation, seed=seed) == chosen
        assert set(chosen) == {candidate.id for candidate in everything}


def test_a_count_is_exact_and_in_proportion_to_the_strata() -> None:
    everything = images(1000, strata=4) + images(100, prefix="rare")
    chosen = assign(everything, SETS, 110)
    strata = Counter(candidate.stratum for candidate in everything if chosen[candidate.id] == "val")
    assert strata.total() == 110
    rare = [c for c in everything if c.id.startswith("rare") and chosen[c.id] == "val"]
    assert all(abs(strata[(f"s{i}",)] - 25 - 10 * (i == 0)) <= 1 for i in range(4))
    assert rare


def test_a_share_comes_close_to_itself() -> None:
    chosen = assign(images(4000), SETS, 0.05)
    assert 140 <= list(chosen.values()).count("val") <= 260


def test_another_seed_is_another_split() -> None:
    one, two = (assign(images(200), SETS, 40, seed=seed) for seed in (1, 2))
    assert one != two


def test_an_earlier_split_is_kept_by_a_count() -> None:
    before = assign(images(100), SETS, 20, seed=3)
    after, anew = (assign(images(300), SETS, 40, seed=3, previous=previous) for previous in (before, None))
    was, now, other = ({i for i, name in chosen.items() if name == "val"} for chosen in (before, after, anew))
    assert was <= now and len(now) == 40
    assert not was <= other, "these would have stayed anyway"


def test_the_free_set_takes_only_what_was_declared_free() -> None:
    everything = images(40, free=10)
    chosen = assign(everything, SETS, 5, free=8)
    mine = [candidate for candidate in everything if chosen[candidate.id] == "free"]
    assert len(mine) == 8 and all(candidate.free for candidate in mine)
    assert "free" not in assign(everything, SETS, 5).values()


def test_a_group_with_one_image_that_is_not_free_stays_out_of_the_free_set() -> None:
    everything = images(20, group_size=2, free=5)
    chosen = assign(everything, SETS, 2, free=4)
    assert sum(name == "free" for name in chosen.values()) == 4
    assert straddling(everything, chosen) == []
    with pytest.raises(SettingsError, match="5 are wanted and there are 4"):
        assign(everything, SETS, 2, free=5)


def test_an_image_that_was_trained_on_does_not_become_a_free_test_image() -> None:
    everything = images(20, free=20)
    before = assign(everything, SETS, 2)
    trained = {i for i, name in before.items() if name == "train"}
    new = images(6, free=6, prefix="new")
    after = assign(everything + new, SETS, 2, free=6, previous=before)
    free = {i for i, name in after.items() if name == "free"}
    assert not trained & free and free == {candidate.id for candidate in new}


@pytest.mark.parametrize(
    ("validation", "words"),
    [(11, "11 are wanted and there are 10"), (10, "nothing is left for train"), (1.5, "not between 0 and 1")],
)
def test_sizes_that_do_not_fit_are_told(validation: float, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        assign(images(10), SETS, validation)


def test_groups_that_do_not_add_up_are_told() -> None:
    with pytest.raises(SettingsError, match="do not add up to 5; 3 would do"):
        assign(images(30, group_size=3), SETS, 5)


def test_groupings_are_joined_through_each_other() -> None:
    labels = ["a", "a", None, "b", "b", None]
    others = [1, 2, 2, 3, 4, 5]
    assert join_groups(6, labels, others) == [0, 0, 0, 3, 3, 5]
    assert join_groups(3) == [0, 1, 2]
