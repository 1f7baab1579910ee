"""What attackers get from synthetic people, by method and strength: a table with intervals.

    python -m benchmarks.attackers make PHOTOS FOLDER --people 104 --photos 6
    p3mdata anonymize dir FOLDER RUN
    python -m benchmarks.attackers table RUN --settings blur:0.1,mosaic:0.2,zero

`make` morphs people from the faces of PHOTOS (`benchmarks.synthetic_people` says what they can show). `table` takes
any finished run with identities, renders its faces with each setting in memory (the run's own method does not
matter), and lets every attacker of `p3mdata audit --attackers` at them; the setting `released` stands for the run's
own files. Beside each stands by how much it finds more people than the adapted recogniser in the same folds, paired
by person, with a 95 % interval that is not corrected for the number of attackers.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.anonymize import table as markdown
from benchmarks.synthetic_people import make
from p3mdata.audit.advise import rendered
from p3mdata.audit.attackers import gather
from p3mdata.audit.field import EMBEDDER_STEPS, RESTORER_STEPS, attacked, of_pairs
from p3mdata.audit.looks import GUESSES, Faces, Looks
from p3mdata.audit.portraits import Portrait
from p3mdata.audit.protocol import difference, folds, guessing, score
from p3mdata.audit.recogniser import DlibRecogniser, Recogniser
from p3mdata.config import Method, Settings
from p3mdata.run.attackers import Score
from p3mdata.run.identities import AUTO
from p3mdata.run.plan import read_plan

_HEADS = ("Setting", "Attacker", "Rank-1 %", "95 %", "more than adapted", "95 %", "TAR %", "at FAR")


def setting(text: str) -> Settings:
    """`method`, `method:strength` or `dp-pix:strength:epsilon`."""
    method, *numbers = text.split(":")
    return Settings(method=Method(method), **dict(zip(("strength", "epsilon"), map(float, numbers), strict=False)))


def measure(
    run: Path,
    settings: Sequence[Settings | None],
    steps: tuple[int, int] | None,
    guesses: Sequence[float],
    seed: int = 0,
    identities: str = AUTO,
    recogniser: Recogniser | None = None,
    keep: Path | None = None,
    pairs: bool = False,
) -> dict[str, Any]:
    """Attack a run's faces under each setting.

    Args:
        run: A finished run whose sources tell who is on them.
        settings: What to render; None stands for what the run itself released, with what encoding did to it.
        steps: Of the two networks, or None for attackers without.
        guesses: Strengths for the attacker who does not know a blur's.
        seed: Deals people out.
        identities, recogniser: As for `audit_run`.
        pairs: Where `steps` is None, still the network that learns from pairs.
        keep: File for what was seen of faces; settings that are in it are not rendered again.

    Returns:
        photos, people, chance, and by setting the attackers' scores with the difference to `adapted`.
    """
    own = read_plan(run)[0].job.settings
    wanted = {f"released, {own.named()}" if each is None else each.named(): each for each in settings}
    seen = _kept(keep) if keep is not None and keep.exists() else {}
    new = {name: each for name, each in wanted.items() if name not in seen}
    if new:
        looks = Looks(recogniser or DlibRecogniser(), guesses)

        def treated(portrait: Portrait, each: Settings | None) -> tuple[tuple[Method, float], Any]:
            if each is None:
                return own.obfuscation(), portrait.released
            return each.obfuscation(), rendered(portrait, each)

        def look(portrait: Portrait) -> None:
            looks.add(portrait, {name: treated(portrait, each) for name, each in new.items()})

        kept, people, _ = gather(run, identities, None, Counter(), None, look)
        seen |= {name: looks.faces(name, kept, people) for name in new}
        if keep is not None:
            _keep(keep, seen)
    people = seen[next(iter(wanted))].people
    parts = folds(people, seed)
    found: dict[str, Any] = {}
    for name in wanted:
        scores = attacked(seen[name], parts, seed, recogniser, steps, {})
        if pairs and steps is None:
            view = "wiener" if "wiener" in seen[name].small else "hidden"
            for key, what in (("network_adapted", view), ("floor_network", "floor")):
                scores[key] = score(of_pairs(seen[name], what, EMBEDDER_STEPS, seed), parts, people)
        found[name] = {key: _told(one, scores["adapted"]) for key, one in scores.items()}
    return {
        "photos": len(people),
        "people": len(np.unique(people)),
        "chance": guessing(parts, people),
        "settings": found,
    }


def _keep(path: Path, seen: dict[str, Faces]) -> None:
    arrays = {}
    for name, faces in seen.items():
        arrays[f"{name}/people/"] = faces.people
        for kind, views in (("vectors", faces.vectors), ("small", faces.small)):
            arrays |= {f"{name}/{kind}/{view}": array for view, array in views.items()}
        if faces.outline is not None:
            arrays[f"{name}/outline/"] = faces.outline
    with path.open("wb") as file:
        np.savez(file, **arrays)


def _kept(path: Path) -> dict[str, Faces]:
    seen: dict[str, Any] = {}
    with np.load(path) as arrays:
        for key in arrays.files:
            name, kind, view = key.split("/")
            seen.setdefault(name, {}).setdefault(kind, {})[view] = arrays[key]
    return {
        name: Faces(found["people"][""], None, found["vectors"], found["small"], found.get("outline", {}).get(""))
        for name, found in seen.items()
    }


def _told(one: Score, adapted: Score) -> dict[str, Any]:
    return {**one.to_json(), "more_than_adapted": difference(one, adapted)}


def lines(found: dict[str, Any]) -> str:
    """The table in Markdown."""

    def percent(value: float) -> str:
        return f"{100 * value:.1f}"

    rows = []
    for name, scores in found["settings"].items():
        for key, one in scores.items():
            rate, more, tar = one["rank1"], one["more_than_adapted"], one["tar"]
            compared = key not in ("clear", "adapted")
            rows.append((
                name, key, percent(rate["value"]), f"{percent(rate['low'])} to {percent(rate['high'])}",
                f"{100 * more[0]:+.1f}" if compared else "",
                f"{100 * more[1]:+.1f} to {100 * more[2]:+.1f}" if compared else "",
                percent(tar["value"]) if tar else "", f"{one['far']:g}" if tar else "",
            ))  # fmt: skip
    head = f"{found['photos']} photographs of {found['people']} people; guessing {percent(found['chance'])} %"
    return f"{head}\n\n{markdown(_HEADS, rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    maker = verbs.add_parser("make", help="photographs of synthetic people")
    maker.add_argument("photographs", type=Path)
    maker.add_argument("folder", type=Path)
    maker.add_argument("--people", type=int, default=120)
    maker.add_argument("--photos", type=int, default=4, help="of each")
    maker.add_argument("--mattes", type=Path, help="DIR/STEM.png for each photograph: makes FOLDER-mattes too")
    tabled = verbs.add_parser("table", help="attack a run's faces under each setting")
    tabled.add_argument("run", type=Path)
    tabled.add_argument("--settings", default="blur:0.1,blur:0.25,mosaic:0.1,mosaic:0.2,zero")
    tabled.add_argument("--identities", default=AUTO, help="as for p3mdata audit; files not in a CSV take no part")
    tabled.add_argument("--no-guesses", action="store_true", help="without the attacker who does not know the strength")
    tabled.add_argument("--networks", choices=("all", "pairs", "none"), default="all")
    tabled.add_argument("--keep", type=Path, help="file for what was seen, so that a setting is rendered once")
    tabled.add_argument("--json", type=Path, help="write the figures")
    for verb in (maker, tabled):
        verb.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    if given.verb == "make":
        make(given.photographs, given.folder, given.people, given.photos, given.seed, given.mattes)
        return
    begun = time.process_time()
    found = measure(
        given.run, [None if text == "released" else setting(text) for text in given.settings.split(",")],
        (EMBEDDER_STEPS, RESTORER_STEPS) if given.networks == "all" else None, () if given.no_guesses else GUESSES,
        given.seed, given.identities, keep=given.keep, pairs=given.networks == "pairs",
    )  # fmt: skip
    found["processor_seconds"] = round(time.process_time() - begun)
    print(lines(found))
    print(f"\n{found['processor_seconds']} s of processor time")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
