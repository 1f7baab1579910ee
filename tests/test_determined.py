"""The determined attacker: chooses by people who are not in the test, sees what varies little, is fooled by no tie."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from p3mdata.audit.determined import Determined, Try
from p3mdata.audit.learned import SHRINKAGES, Metric
from p3mdata.audit.measures import People, Vectors
from p3mdata.audit.protocol import Fold, folds, guessing, score

PEOPLE = np.repeat(np.arange(30), 3)


def noise(seed: int, width: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(len(PEOPLE), width))


def told(seed: int, sure: float) -> Vectors:
    """Features that tell people apart, the better the surer."""
    who = np.random.default_rng(seed).normal(size=(30, 6))[PEOPLE]
    return np.asarray(sure * who + noise(seed + 1, 6), np.float32)


def plain(*features: Vectors) -> Try:
    def tried(fold: Fold) -> Iterator[tuple[Vectors, Vectors]]:
        for one in features:
            yield one[fold.test], one[fold.test]

    return tried


def rank1(tries: list[Try], most: int = 1, people: People = PEOPLE) -> float:
    return score(Determined(tries, people, 0, most), folds(people, 0), people).rank1.value


def test_it_takes_what_finds_most_and_puts_together_what_adds() -> None:
    nothing, little, more, other = told(1, 0.0), told(2, 0.5), told(3, 1.2), told(5, 1.1)
    alone = [rank1([plain(one)]) for one in (nothing, little, more, other)]
    assert rank1([plain(nothing), plain(little, more)]) == alone[2] > alone[1] > alone[0]
    together = rank1([plain(nothing, little, more, other)], most=4)
    assert together > max(alone) + 0.1


def test_people_of_the_test_have_no_part_in_the_choice() -> None:
    (fold, *_) = folds(PEOPLE, 0)
    strangers = set(PEOPLE[fold.test])
    asked: list[Fold] = []

    def watched(of: Fold) -> Iterator[tuple[Vectors, Vectors]]:
        asked.append(of)
        yield from plain(told(2, 0.5), told(3, 1.5))(of)

    Determined([watched], PEOPLE, 0, 2)(fold)
    *inner, last = asked
    assert last is fold and len(inner) == 3
    for part in inner:
        mine, others = set(PEOPLE[part.train]), set(PEOPLE[part.test])
        assert mine and others and not mine & others and not (mine | others) & strangers


def test_features_that_tell_nothing_are_not_taken_for_their_ties() -> None:
    constant = np.ones((len(PEOPLE), 3), np.float32)
    assert rank1([plain(constant, told(3, 1.5))]) == rank1([plain(told(3, 1.5))])
    chance = guessing(folds(PEOPLE, 0), PEOPLE)
    assert rank1([plain(constant)], most=4) == pytest.approx(chance, abs=1e-3)


def test_too_few_people_to_choose_by_take_the_first() -> None:
    few = np.repeat(np.arange(4), 2)
    first, second = (np.random.default_rng(n).normal(size=(8, 3)).astype(np.float32) for n in (0, 1))
    (fold, *_) = folds(few, 0)
    probes, _ = Determined([plain(first, second)], few, 0, 4)(fold)
    kept = first[fold.test]
    assert np.allclose(probes, kept / np.linalg.norm(kept, axis=1, keepdims=True))


def test_of_very_many_photographs_some_people_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p3mdata.audit.determined._ENOUGH", 30)
    (fold, *_) = folds(PEOPLE, 0)
    sizes = []

    def counting(of: Fold) -> Iterator[tuple[Vectors, Vectors]]:
        sizes.append(len(of.train) + len(of.test))
        yield from plain(told(3, 1.2))(of)

    Determined([counting], PEOPLE, 0, 1)(fold)
    assert sizes == [30, 30, 30, len(PEOPLE)]


def test_what_hardly_varies_is_seen_where_the_shrinkage_is_small() -> None:
    # As under a blur: coarse light varies hundreds of times as much as what tells people apart.
    turn, _ = np.linalg.qr(noise(8, 12)[:12])
    faces = np.asarray(np.hstack([10 * noise(7, 6), 0.03 * told(3, 1.5)]) @ turn, np.float32)

    def found(shrinkage: float) -> float:
        def attack(fold: Fold) -> tuple[Vectors, Vectors]:
            there = Metric(faces[fold.train], PEOPLE[fold.train])(faces[fold.test], shrinkage)
            return there, there

        return score(attack, folds(PEOPLE, 0), PEOPLE).rank1.value

    assert min(SHRINKAGES) < 1e-4
    assert found(min(SHRINKAGES)) > found(0.1) + 0.2
