"""`p3mdata advise`: which method and strength keeps attackers below a rate, at the least cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p3mdata.audit.advice import Advice, Tried
from p3mdata.audit.advice_plot import draw
from p3mdata.audit.attackers import gather
from p3mdata.audit.costs import read_costs
from p3mdata.audit.field import attacked
from p3mdata.audit.looks import Looks
from p3mdata.audit.portraits import Portrait
from p3mdata.audit.protocol import folds, guessing
from p3mdata.audit.recogniser import DlibRecogniser, Recogniser
from p3mdata.base.files import write_atomic
from p3mdata.base.jsonl import write_json
from p3mdata.base.progress import Progress
from p3mdata.config import Method, Settings
from p3mdata.errors import SettingsError, unwritable
from p3mdata.run.attackers import NO_ATTACKS
from p3mdata.run.identities import AUTO
from p3mdata.run.layout import ADVICE, ADVICE_PLOT
from p3mdata.run.locks import only_run

TRIED = (
    *((Method.BLUR, strength, None) for strength in (0.10, 0.25, 0.50)),
    *((Method.MOSAIC, strength, None) for strength in (0.20, 0.33, 0.50)),
    *((Method.PIXELISE_THEN_BLUR, strength, None) for strength in (0.33, 0.50)),
    *((Method.DP_PIX, 0.20, epsilon) for epsilon in (4.0, 1.0)),
    (Method.FLAT, 1.0, None),
    (Method.ZERO, 1.0, None),
)


def advise_run(
    out: Path,
    max_rank1: float,
    identities: str | Path = AUTO,
    seed: int = 0,
    progress: Progress | None = None,
    recogniser: Recogniser | None = None,
    tried: Sequence[tuple[Method, float, float | None]] = TRIED,
    train_checks: Sequence[Path] = (),
) -> Advice:
    """Render a run's faces with every setting in memory, attack them, and propose one; writes advice.json and .png.

    The attackers are those without networks of `attack_run`.

    Args:
        out: A finished run folder; its own method does not matter.
        max_rank1: Rank-1 rate that the worst attacker must not pass, in (0, 1).
        identities, seed, recogniser: As for `attack_run`.
        progress: Gets the number of photographs; gives a function that is called after each.
        tried: Method, strength and epsilon of what to try.
        train_checks: Folders of train-checks: what they measured goes before the proxy.

    Raises:
        RunFolderError, SettingsError, SetupError: As for `attack_run`.
    """
    if not 0 < max_rank1 < 1:
        raise SettingsError(f"--max-rank1 cannot be {max_rank1:g}. Give a share between 0 and 1.")
    settings = [Settings(method=method, strength=strength, epsilon=epsilon) for method, strength, epsilon in tried]
    costs = read_costs(train_checks)
    looks = Looks(recogniser or DlibRecogniser())
    changes: list[list[tuple[float, int]]] = []

    def look(portrait: Portrait) -> None:
        windows = [rendered(portrait, each) for each in settings]
        looks.add(
            portrait, {each.named(): (each.obfuscation(), made) for each, made in zip(settings, windows, strict=True)}
        )
        changes.append([_change(portrait, window) for window in windows])

    kept, people, _ = gather(out, identities, None, Counter(), progress, look)
    parts = folds(people, seed)
    points, floors = [], []
    for number, each in enumerate(settings):
        scores = attacked(looks.faces(each.named(), kept, people), parts, seed, None, None, {})
        worst = max((key for key in scores if key not in NO_ATTACKS), key=lambda key: scores[key].rank1.value)
        floors.append(max((s.rank1 for key, s in scores.items() if key.startswith("floor")), key=lambda r: r.value))
        squares, pixels = (sum(changes[i][number][part] for i in kept) for part in (0, 1))
        distortion = round(float(np.sqrt(squares / max(pixels, 1))), 2)
        points.append(Tried(each, scores[worst].rank1, worst, distortion, costs.get(each.named())))
    found = Advice(max_rank1, len(people), len(np.unique(people)), guessing(parts, people), floors[-1], tuple(points))
    try:
        with only_run(out):
            write_atomic(out / ADVICE_PLOT, draw(found))
            write_json(out / ADVICE, found.to_json())
    except OSError as exc:
        raise unwritable(out, exc) from exc
    return found


def rendered(portrait: Portrait, settings: Settings) -> NDArray[np.uint8]:
    """The portrait's window as these settings obfuscate it, without encoding; the noise is that of no release."""
    noise = settings.privacy()
    return portrait.obfuscated(*settings.obfuscation(), *(noise[:1] if noise else ()))


def _change(portrait: Portrait, window: NDArray[np.uint8]) -> tuple[float, int]:
    """Sum of the squared changes of hidden values, and how many they are."""
    gap = (window.astype(float) - portrait.clear)[portrait.covered]
    return float((gap**2).sum()), gap.size
