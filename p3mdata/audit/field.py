"""Every attacker there is for given faces, and what each gets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from p3mdata.audit import networks
from p3mdata.audit.determined import Determined, Try
from p3mdata.audit.learned import GRIDS, SHRINKAGES, Mapping, Metric, coarse, joined
from p3mdata.audit.looks import Faces
from p3mdata.audit.measures import Vectors
from p3mdata.audit.protocol import Attacker, Fold, score
from p3mdata.audit.recogniser import CHIP, DlibRecogniser, Recogniser
from p3mdata.run.attackers import WORDS, Score

EMBEDDER_STEPS, RESTORER_STEPS = 250, 150
# Beside the recogniser's vector.
_BESIDE = 8
# What the network that learns from pairs sees: cells of a blur undone (else the finest grid), and how even they are.
_PICTURE, _EVEN = 16, 1e-3
# The most attackers that one puts together.
_TOGETHER = 4


def attacked(
    faces: Faces,
    parts: Sequence[Fold],
    seed: int,
    recogniser: Recogniser | None,
    steps: tuple[int, int] | None,
    not_run: dict[str, str],
) -> dict[str, Score]:
    """Scores by key; networks only where `steps` are given and torch is there."""
    tests = dict(_closed(faces, seed, steps[0] if steps is not None and networks.is_possible() else None))
    if steps is not None:
        if networks.is_possible():
            tests |= _trained(faces, seed, recogniser, steps)
        else:
            why = "torch is missing: pip install 'p3mdata[train]'"
            not_run |= dict.fromkeys(("network", "network_adapted", "restored_naive", "restored_adapted"), why)
    if "wiener" not in faces.vectors:
        not_run["wiener"] = "undoes blurs alone"
    if faces.outline is None:
        not_run["outline"] = "no run of recomposed faces alone"
    return {key: score(tests[key], parts, faces.people, faces.groups) for key in WORDS if key in tests}


def _closed(faces: Faces, seed: int, steps: int | None) -> Iterator[tuple[str, Attacker]]:
    """Attackers without networks; where `steps` are given, a determined one tries that of pairs too."""
    clear = faces.vectors["clear"]
    guesses = [view for view in faces.vectors if view.startswith("guess ")]

    def plain(probes: str, gallery: str) -> Attacker:
        return lambda fold: (faces.vectors[probes][fold.test], faces.vectors[gallery][fold.test])

    def mapped(view: str) -> Attacker:
        as_released = view in ("hidden", "floor")
        known = joined(faces.vectors[view], *([coarse(faces.small[view])] if as_released else []))

        def attack(fold: Fold) -> tuple[Vectors, Vectors]:
            learnt = Mapping(known[fold.train], clear[fold.train], faces.people[fold.train])
            return learnt(known[fold.test]), learnt.centred(clear[fold.test])

        return attack

    def nearest_guess(fold: Fold) -> str:
        # Of the guesses, the one whose faces come closest to the clear ones of people that the attacker has.
        gaps = {guess: float(((faces.vectors[guess] - clear)[fold.train] ** 2).sum()) for guess in guesses}
        return min(gaps, key=lambda guess: gaps[guess])

    def metrics(*known: Vectors) -> Try:
        """Of each kind of features, the metric learnt from people who are not in the test, with every shrinkage."""

        def tried(fold: Fold) -> Iterator[tuple[Vectors, Vectors]]:
            for features in known:
                metric = Metric(features[fold.train], faces.people[fold.train])
                for shrinkage in SHRINKAGES:
                    there = metric(features[fold.test], shrinkage)
                    yield there, there

        return tried

    def features(view: str) -> list[Vectors]:
        vectors, small = faces.vectors[view], faces.small[view]
        grids = [coarse(small, grid) for grid in GRIDS]
        return [joined(vectors, coarse(small, _BESIDE)), vectors, *grids]

    def best(*tries: Try, most: int = 1) -> Attacker:
        return Determined(tries, faces.people, seed, most)

    def alone(*attackers: Attacker) -> Try:
        return lambda fold: (attack(fold) for attack in attackers)

    yield "clear", plain("clear", "clear")
    yield "naive", plain("hidden", "clear")
    yield "adapted", plain("hidden", "hidden")
    yield "mapped", mapped("hidden")
    hidden = metrics(*features("hidden"))
    everything = [alone(plain("hidden", "hidden"), mapped("hidden")), hidden]
    yield "metric", best(hidden)
    if "wiener" in faces.vectors:
        yield "wiener_naive", plain("wiener", "clear")
        yield "wiener_adapted", plain("wiener", "wiener")
        yield "wiener_mapped", mapped("wiener")
        undone = metrics(*features("wiener"))
        yield "wiener_metric", best(undone)
        everything += [alone(plain("wiener", "wiener"), mapped("wiener")), undone]
    if guesses:
        yield "guessed_mapped", lambda fold: mapped(nearest_guess(fold))(fold)
    if faces.outline is not None:
        outline = metrics(faces.outline)
        yield "outline", best(outline)
        everything.append(outline)
    views = [view for view in ("hidden", "wiener") if view in faces.small]
    if steps is not None:
        everything.append(alone(*(of_pairs(faces, view, steps, seed) for view in views)))
    yield "determined", best(*everything, most=_TOGETHER)
    yield "floor_adapted", plain("floor", "floor")
    yield "floor_mapped", mapped("floor")
    floor = metrics(*features("floor"))
    yield "floor_metric", best(floor)
    below = [alone(plain("floor", "floor"), mapped("floor")), floor]
    if steps is not None:
        below.append(alone(of_pairs(faces, "floor", steps, seed)))
    yield "floor_determined", best(*below, most=_TOGETHER)


def of_pairs(faces: Faces, view: str, steps: int, seed: int) -> Attacker:
    """A network that learns from pairs of photographs of one person."""
    grid = _PICTURE if view == "wiener" else GRIDS[-1]
    known = coarse(faces.small[view], grid)

    def attack(fold: Fold) -> tuple[Vectors, Vectors]:
        people = faces.people[fold.train]
        even = Metric(known[fold.train], people)
        net = networks.PairNetwork(even.pictures(known[fold.train], _EVEN), people, steps, seed)
        there = net(even.pictures(known[fold.test], _EVEN))
        return there, there

    return attack


def _as_chip(face: networks.Pixels) -> networks.Pixels:
    return np.asarray(cv2.resize(face, (CHIP, CHIP), interpolation=cv2.INTER_CUBIC), np.uint8)


def _trained(
    faces: Faces, seed: int, recogniser: Recogniser | None, steps: tuple[int, int]
) -> Iterator[tuple[str, Attacker]]:
    """Attackers that are networks; each is trained once per fold."""
    clear = faces.vectors["clear"]
    known: dict[int, Vectors] = {}

    def predicted(fold: Fold) -> tuple[Vectors, Vectors]:
        hidden, people = faces.small["hidden"], faces.people[fold.train]
        net = networks.Embedder(hidden[fold.train], clear[fold.train], people, steps[0], seed)
        return net(hidden[fold.test]), net.centred(clear[fold.test])

    def restored(fold: Fold) -> Vectors:
        # Trained once per fold.
        key = int(fold.test[0])
        if key not in known:
            hidden, before = faces.small["hidden"], faces.small["clear"]
            net = networks.Restorer(hidden[fold.train], before[fold.train], steps[1], seed)
            embed = (recogniser or DlibRecogniser()).embed
            made = net(hidden[fold.test])
            known[key] = np.stack([embed(_as_chip(face)) for face in made])
        return known[key]

    yield "network", predicted
    yield "network_adapted", of_pairs(faces, "wiener" if "wiener" in faces.small else "hidden", steps[0], seed)
    yield "restored_naive", lambda fold: (restored(fold), clear[fold.test])
    yield "restored_adapted", lambda fold: (restored(fold),) * 2
    yield "floor_network", of_pairs(faces, "floor", steps[0], seed)
