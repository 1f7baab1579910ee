"""`p3mdata audit --attackers`: what those get who train on faces obfuscated alike, on the user's own photographs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from p3mdata.audit import networks
from p3mdata.audit.learned import Mapping, Metric, coarse, joined
from p3mdata.audit.looks import Faces, Looks
from p3mdata.audit.measures import People, Vectors
from p3mdata.audit.portraits import LeftOut, Portrait, read_portrait
from p3mdata.audit.protocol import LEAST_PEOPLE, Attacker, Fold, folds, guessing, score
from p3mdata.audit.recogniser import CHIP, DlibRecogniser, Recogniser
from p3mdata.audit.reidentify import audited_manifest, usable_photos, without_singles
from p3mdata.base.intervals import people_needed
from p3mdata.base.jsonl import write_json
from p3mdata.base.progress import Progress, silent
from p3mdata.errors import SettingsError, unwritable
from p3mdata.run.attackers import WORDS, Attackers, Score
from p3mdata.run.identities import AUTO, identify
from p3mdata.run.layout import ATTACKERS
from p3mdata.run.locks import only_run
from p3mdata.run.plan import read_plan
from p3mdata.run.rows import finished_rows

EMBEDDER_STEPS, RESTORER_STEPS = 250, 150
# What the run itself did to faces.
_OWN = "released"


def attack_run(
    out: Path,
    identities: str | Path = AUTO,
    groups: Path | None = None,
    max_rank1: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    recogniser: Recogniser | None = None,
    steps: tuple[int, int] = (EMBEDDER_STEPS, RESTORER_STEPS),
) -> Attackers:
    """Attack a finished run with everything that learns from other people's faces; writes RUN/attackers.json.

    Args:
        out: The run folder.
        identities: As for `audit_run`.
        groups: CSV file of rows 'source,group'; rank-1 is told for each group.
        max_rank1: The claim to test, a share in (0, 1).
        seed: Deals people out, and starts networks; equal seeds give equal figures on one machine.
        progress: Gets the number of photographs; gives a function that is called after each.
        recogniser: Another one than dlib's.
        steps: Of the two networks.

    Raises:
        RunFolderError: Not a run, not finished, or it cannot be written.
        SettingsError: Identities, groups or the claim cannot be used, or too few people have two photographs.
        SetupError: The extra is not installed.
    """
    if max_rank1 is not None and not 0 < max_rank1 < 1:
        raise SettingsError(f"--max-rank1 cannot be {max_rank1:g}. Give a share between 0 and 1.")
    left_out: Counter[str] = Counter()
    plan, _ = read_plan(out)
    audited = audited_manifest(out)
    method = plan.job.settings.obfuscation()
    looks = Looks(recogniser or DlibRecogniser())
    kept, people, grouped = gather(
        out,
        identities,
        groups,
        left_out,
        progress,
        lambda portrait: looks.add(portrait, {_OWN: (method, portrait.released)}),
    )
    faces = looks.faces(_OWN, kept, people, grouped)
    parts = folds(faces.people, seed)
    not_run: dict[str, str] = {}
    scores = attacked(faces, parts, seed, recogniser, steps, not_run)
    found = Attackers(
        manifest_sha256=audited,
        method=plan.job.settings.named(),
        photos=len(faces.people),
        people=len(np.unique(faces.people)),
        folds=len(parts),
        seed=seed,
        left_out=dict(left_out),
        not_run=not_run,
        chance=guessing(parts, faces.people),
        scores=scores,
        max_rank1=max_rank1,
    )
    try:
        with only_run(out):
            write_json(out / ATTACKERS, found.to_json())
    except OSError as exc:
        raise unwritable(out, exc) from exc
    return found


def gather(
    out: Path,
    identities: str | Path,
    groups: Path | None,
    left_out: Counter[str],
    progress: Progress | None,
    look: Callable[[Portrait], None],
) -> tuple[Sequence[int], People, tuple[str | None, ...] | None]:
    """Look at the portraits of a run, one after the other.

    Args:
        out, identities, groups, progress: As for `attack_run`.
        left_out: Is told how many photographs take no part, by reason.
        look: Called with each portrait.

    Returns:
        Which of those looked at are of people who have two or more, in their order; these people's numbers; and groups.

    Raises:
        RunFolderError, SettingsError: As for `attack_run`.
    """
    plan, samples = read_plan(out)
    audited_manifest(out)
    rows = finished_rows(plan, samples)
    sources = [sample.source for sample in samples]
    known = identify(sources, identities)
    group_of = None if groups is None else identify(sources, groups)
    chosen = without_singles(usable_photos(samples, rows, known, left_out), left_out)
    step = (progress or silent)(len(chosen))
    read: list[tuple[int, str, str]] = []
    for sample, row, identity in chosen:
        try:
            look(read_portrait(plan, sample, row))
        except LeftOut as exc:
            left_out[str(exc)] += 1
        else:
            read.append((len(read), sample.source, identity))
        step()
    kept = without_singles(read, left_out)
    names = sorted({identity for *_, identity in kept})
    if len(names) < LEAST_PEOPLE:
        raise SettingsError(
            f"{out}: attackers learn from some people and are tested on others, and only {len(names)} of the people "
            f"have two released photographs with a usable face; it takes {LEAST_PEOPLE} at least, and "
            f"{people_needed(0.1)} to claim that 10 % are found. Give --identities, or a run with more photographs."
        )
    people = np.array([names.index(identity) for *_, identity in kept])
    grouped = None if group_of is None else tuple(group_of.get(source) for _, source, _ in kept)
    return [index for index, *_ in kept], people, grouped


def attacked(
    faces: Faces,
    parts: Sequence[Fold],
    seed: int,
    recogniser: Recogniser | None,
    steps: tuple[int, int] | None,
    not_run: dict[str, str],
) -> dict[str, Score]:
    """Scores by key; networks only where `steps` are given and torch is there."""
    tests = dict(_closed(faces))
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


def _closed(faces: Faces) -> Iterator[tuple[str, Attacker]]:
    """Attackers without networks."""
    clear = faces.vectors["clear"]

    def plain(probes: str, gallery: str) -> Attacker:
        return lambda fold: (faces.vectors[probes][fold.test], faces.vectors[gallery][fold.test])

    def features(view: str) -> Vectors:
        parts = [faces.vectors[view]] + ([coarse(faces.small[view])] if view in faces.small else [])
        return joined(*parts)

    def mapped(view: str) -> Attacker:
        known = features(view)

        def attack(fold: Fold) -> tuple[Vectors, Vectors]:
            learnt = Mapping(known[fold.train], clear[fold.train], faces.people[fold.train])
            return learnt(known[fold.test]), learnt.centred(clear[fold.test])

        return attack

    guesses = [view for view in faces.vectors if view.startswith("guess ")]

    def guessed(fold: Fold) -> tuple[Vectors, Vectors]:
        # Of the guesses, the one whose faces come closest to the clear ones of people that the attacker has.
        gaps = {guess: float(((faces.vectors[guess] - clear)[fold.train] ** 2).sum()) for guess in guesses}
        return mapped(min(gaps, key=lambda guess: gaps[guess]))(fold)

    def metric(known: Vectors) -> Attacker:
        def attack(fold: Fold) -> tuple[Vectors, Vectors]:
            there = Metric(known[fold.train], faces.people[fold.train])(known[fold.test])
            return there, there

        return attack

    yield "clear", plain("clear", "clear")
    yield "naive", plain("hidden", "clear")
    yield "adapted", plain("hidden", "hidden")
    yield "mapped", mapped("hidden")
    yield "metric", metric(features("hidden"))
    if "wiener" in faces.vectors:
        yield "wiener_naive", plain("wiener", "clear")
        yield "wiener_adapted", plain("wiener", "wiener")
        yield "wiener_mapped", mapped("wiener")
    if guesses:
        yield "guessed_mapped", guessed
    if faces.outline is not None:
        yield "outline", metric(faces.outline)
    yield "floor_adapted", plain("floor", "floor")
    yield "floor_mapped", mapped("floor")
    yield "floor_metric", metric(features("floor"))


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
