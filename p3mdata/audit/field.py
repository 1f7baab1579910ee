"""Every attacker there is for given faces, and what each gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

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
    tests = dict(_closed(faces, seed))
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


def _closed(faces: Faces, seed: int) -> Iterator[tuple[str, Attacker]]:
    """Attackers without networks."""
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
    yield "determined", best(*everything, most=_TOGETHER)
    yield "floor_adapted", plain("floor", "floor")
    yield "floor_mapped", mapped("floor")
    floor = metrics(*features("floor"))
    yield "floor_metric", best(floor)
    yield "floor_determined", best(alone(plain("floor", "floor"), mapped("floor")), floor, most=_TOGETHER)


def _trained(
    faces: Faces, seed: int, recogniser: Recogniser | None, steps: tuple[int, int]
) -> Iterator[tuple[str, Attacker]]:
    """Attackers that are networks; each is trained once per fold."""
    clear = faces.vectors["clear"]
    known: dict[tuple[str, int], Any] = {}

    def kept(kind: str, fold: Fold, make: Callable[[], Any]) -> Any:
        key = (kind, int(fold.test[0]))
        if key not in known:
            known[key] = make()
        return known[key]

    def predicted(view: str, fold: Fold) -> tuple[Vectors, Vectors]:
        def make() -> tuple[Vectors, Vectors]:
            people = faces.people[fold.train]
            net = networks.Embedder(faces.small[view][fold.train], clear[fold.train], people, steps[0], seed)
            return net(faces.small[view][fold.test]), net.centred(clear[fold.test])

        found: tuple[Vectors, Vectors] = kept(f"embedder {view}", fold, make)
        return found

    def restored(fold: Fold) -> Vectors:
        def make() -> Vectors:
            hidden, before = faces.small["hidden"], faces.small["clear"]
            net = networks.Restorer(hidden[fold.train], before[fold.train], steps[1], seed)
            embed = (recogniser or DlibRecogniser()).embed
            made = net(hidden[fold.test])
            return np.stack([embed(cv2.resize(face, (CHIP, CHIP), interpolation=cv2.INTER_CUBIC)) for face in made])

        found: Vectors = kept("restorer", fold, make)
        return found

    yield "network", lambda fold: predicted("hidden", fold)
    yield "network_adapted", lambda fold: (predicted("hidden", fold)[0],) * 2
    yield "restored_naive", lambda fold: (restored(fold), clear[fold.test])
    yield "restored_adapted", lambda fold: (restored(fold),) * 2
    yield "floor_network", lambda fold: predicted("floor", fold)
